package kmstest

import (
	"context"
	"sync"
	"time"

	"github.com/pocketkms/kms"
)

// A clock shows the same time until it is moved.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting int
	changed chan struct{} // closed, and replaced, when now or waiting changes
	closed  chan struct{} // closed at the end of the test
}

func newClock(at time.Time) *clock {
	return &clock{now: at, changed: make(chan struct{}), closed: make(chan struct{})}
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) { c.update(func() { c.now = c.now.Add(d) }) }

// close makes all calls that wait fail with kms.ErrClosed.
func (c *clock) close() { close(c.closed) }

// update calls f with the clock locked, and wakes all calls that wait.
func (c *clock) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait returns once d has passed.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	until := c.read().Add(d)
	c.update(func() { c.waiting++ })
	defer c.update(func() { c.waiting-- })
	return c.until(ctx, func() bool { return !c.now.Before(until) })
}

// waitWallClock is wait on the wall clock.
func (c *clock) waitWallClock(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.closed:
		return kms.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until returns once done returns true. done is called with the clock locked.
func (c *clock) until(ctx context.Context, done func() bool) error {
	for {
		c.mu.Lock()
		ok, changed := done(), c.changed
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-c.closed:
			return kms.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilWaiting returns once at least n calls wait.
func (c *clock) untilWaiting(ctx context.Context, n int) error {
	return c.until(ctx, func() bool { return c.waiting >= n })
}

// BlockUntil returns once at least n calls wait for the clock because of a fault's Latency. Call it
// before [Service.Advance], which does not shorten the wait of a call that begins to wait later.
func (s *Service) BlockUntil(n int) {
	s.t.Helper()
	if err := s.sim.clock.untilWaiting(context.Background(), n); err != nil {
		s.t.Errorf("kmstest: the service was closed before %d calls waited", n)
	}
}
