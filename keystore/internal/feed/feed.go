// Package feed keeps the latest changes of a backend for its watchers in this process.
package feed

import (
	"context"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/pocketkms/kms/keystore"
)

// keep is the least number of events that are kept; at most twice as many are. It must exceed
// keystore.MaxTxOps.
const keep = 4096

// A Feed is a bounded history of events. All methods may be called concurrently.
type Feed struct {
	mu     sync.Mutex
	events []keystore.Event  // in ascending order of revision
	floor  keystore.Revision // no event up to this revision is kept
	more   chan struct{}     // closed when events are added or the feed is closed
	closed bool
}

// New returns an empty feed for the changes after a revision.
func New(after keystore.Revision) *Feed {
	return &Feed{floor: after, more: make(chan struct{})}
}

// Publish adds events, whose revisions must exceed all earlier ones.
func (f *Feed) Publish(events []keystore.Event) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.events = append(f.events, events...)
	if over := len(f.events) - keep; over >= keep { // rarely, so that the copy costs little per event
		f.floor = f.events[over-1].Revision
		f.events = slices.Clone(f.events[over:])
	}
	close(f.more)
	f.more = make(chan struct{})
}

// Close ends all watches with keystore.ErrClosed.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.more)
	}
}

// Watch implements that of keystore.Backend.
func (f *Feed) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return func(yield func(keystore.Event, error) bool) {
		after := after
		for {
			events, more, err := f.since(after)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(keystore.Event{}, err)
				return
			}
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
				after = event.Revision
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
			}
		}
	}
}

// since returns a view of the events after a revision. Published events never change, so no copy is
// needed.
func (f *Feed) since(after keystore.Revision) ([]keystore.Event, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, nil, keystore.ErrClosed
	case after < f.floor:
		return nil, nil, keystore.ErrCompacted
	}
	i := sort.Search(len(f.events), func(i int) bool { return f.events[i].Revision > after })
	return f.events[i:len(f.events):len(f.events)], f.more, nil
}
