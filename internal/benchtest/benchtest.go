// Package benchtest measures operations beside the least that could do the same.
package benchtest

import (
	"testing"
	"time"
)

// Compare times b.N rounds of operation, and as many of floor in turns with it,
// so that both see the same machine. It reports the floor's time as
// "floor-ns/op", and how many times that the operation takes as "x-floor".
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
