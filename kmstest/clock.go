package kmstest

import (
	"context"
	"sync"
	"time"

	"github.com/pocketkms/kms"
)

// A clock stands still until it is moved.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting int
	changed chan struct{} // closed, and replaced, when now or waiting changes
	closed  chan struct{} // closed with the Service
}

func newClock(at time.Time) *clock {
	return &clock{now: at, changed: make(chan struct{}), closed: make(chan struct{})}
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) { c.change(func() { c.now = c.now.Add(d) }) }

// close ends all waiting.
func (c *clock) close() { close(c.closed) }

func (c *clock) change(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait returns once d has passed.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	until := c.read().Add(d)
	c.change(func() { c.waiting++ })
	defer c.change(func() { c.waiting-- })
	return c.until(ctx, func() bool { return !c.now.Before(until) })
}

// waitRealTime is wait on the computer's clock.
func (c *clock) waitRealTime(ctx context.Context, d time.Duration) error {
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

// until returns once holds does, which is asked with the clock locked.
func (c *clock) until(ctx context.Context, holds func() bool) error {
	for {
		c.mu.Lock()
		done, changed := holds(), c.changed
		c.mu.Unlock()
		if done {
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

// BlockUntil returns once n calls, or more, wait for the clock, as faults with a Latency make them: only then does
// [Service.Advance] move them on for sure.
func (s *Service) BlockUntil(n int) {
	s.t.Helper()
	if err := s.clock.until(context.Background(), func() bool { return s.clock.waiting >= n }); err != nil {
		s.t.Errorf("kmstest: the service was closed before %d calls waited", n)
	}
}
