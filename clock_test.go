package kms

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
	require.WithinDuration(t, time.Now().Round(0), clock().Round(0), time.Minute, "the wall's clock, too")
}
