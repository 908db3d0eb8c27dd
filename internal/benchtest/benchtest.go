// Package benchtest compares the time of operations with that of the primitives they are built on.
package benchtest

import (
	"math"
	"testing"
	"time"
)

// Compare times b.N calls of operation and as many calls of floor. The two alternate, so that both
// run under the same conditions. It reports the time of floor as "floor-ns/op" and the ratio of the
// two times as "x-floor".
//
// "cpu-ns/op" and "cpu-x-floor" are the same of the processor time that the program itself has used,
// in the turn in which each was fastest. Other programs disturb them least. A turn must be long,
// since the clock of that time is coarse: they are for operations of microseconds, with GOMAXPROCS=1.
func Compare(b *testing.B, floor, operation func()) {
	b.Helper()
	b.ReportAllocs()
	const turns = 50
	var all, least [2]time.Duration // of floor and operation
	least = [2]time.Duration{math.MaxInt64, math.MaxInt64}
	turn := func(which, n int, f func()) {
		start, cpu := time.Now(), cpuTime()
		for range n {
			f()
		}
		used := cpuTime() - cpu
		all[which] += time.Since(start)
		if n == b.N/turns+1 || b.N%turns == 0 { // all those that count have as many calls
			least[which] = min(least[which], used)
		}
	}
	floor()
	operation()
	b.ResetTimer()
	for i := range turns {
		n := b.N*(i+1)/turns - b.N*i/turns
		b.StopTimer()
		turn(0, n, floor)
		b.StartTimer()
		turn(1, n, operation)
	}
	b.ReportMetric(float64(all[1])/float64(max(all[0], 1)), "x-floor")
	b.ReportMetric(float64(all[0].Nanoseconds())/float64(b.N), "floor-ns/op")
	if least[0] > time.Millisecond && least[1] > time.Millisecond {
		perTurn := (b.N + turns - 1) / turns
		b.ReportMetric(float64(least[1])/float64(least[0]), "cpu-x-floor")
		b.ReportMetric(float64(least[1].Nanoseconds())/float64(perTurn), "cpu-ns/op")
	}
}
