package kms

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

func TestTheSystemClockIsTimeNow(t *testing.T) {
	clock := systemClock()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; { // some readings of the wall's clock
				before := time.Now()
				now := clock()
				after := time.Now()
				if now.Before(before) || now.After(after) {
					t.Errorf("%v is not between %v and %v", now, before, after)
				}
			}
		})
	}
	group.Wait()
}

func TestTheWallsClockIsReadOnceAMillisecond(t *testing.T) {
	wall, passed := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Duration(0)
	clock := sparingClock(func() time.Time { passed = 0; return wall }, func(time.Time) time.Duration { return passed })
	start := wall
	wall = wall.Add(time.Hour) // it is set
	for _, passed = range []time.Duration{0, time.Microsecond, time.Millisecond - 1} {
		require.Equal(t, start.Add(passed), clock())
	}
	passed = time.Millisecond
	require.Equal(t, wall, clock())
	passed = time.Microsecond
	require.Equal(t, wall.Add(time.Microsecond), clock())
}

// The floor is time.Now, of which it has to take less than all.
func BenchmarkSystemClock(b *testing.B) {
	clock := systemClock()
	var now time.Time
	benchtest.Compare(b, func() { now = time.Now() }, func() { now = clock() })
	require.False(b, now.IsZero())
}
