package kms

import (
	"sync/atomic"
	"time"
)

// systemClock returns time.Now at two thirds of its price, which is a good part
// of an Encrypt: of the two clocks that time.Now reads, the monotonic one is
// read every time, and the wall's once a millisecond.
func systemClock() func() time.Time {
	var latest atomic.Pointer[time.Time] // when both were read
	latest.Store(new(time.Now()))
	return func() time.Time {
		then := *latest.Load()
		if since := time.Since(then); since < time.Millisecond {
			return then.Add(since)
		}
		now := time.Now()
		latest.Store(&now)
		return now
	}
}
