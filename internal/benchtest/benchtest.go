// Package benchtest compares the time of operations with that of the primitives they are built on.
package benchtest

import (
	"testing"
	"time"
)

// Compare times b.N calls of operation and as many calls of floor. The two alternate, so that both
// run under the same conditions. It reports the time of floor as "floor-ns/op" and the ratio of the
// two times as "x-floor".
func Compare(b *testing.B, floor, operation func()) {
	b.Helper()
	b.ReportAllocs()
	const turns = 20
	var floorTime, operationTime time.Duration
	floor()
	operation()
	b.ResetTimer()
	for i := range turns {
		n := b.N*(i+1)/turns - b.N*i/turns
		b.StopTimer()
		start := time.Now()
		for range n {
			floor()
		}
		floorTime += time.Since(start)
		b.StartTimer()
		start = time.Now()
		for range n {
			operation()
		}
		operationTime += time.Since(start)
	}
	b.ReportMetric(float64(operationTime)/float64(max(floorTime, 1)), "x-floor")
	b.ReportMetric(float64(floorTime.Nanoseconds())/float64(b.N), "floor-ns/op")
}
