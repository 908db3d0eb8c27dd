package audit

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
)

// Sink is where events go.
//
// Record takes one event. It returns once the event is where the sink takes it, or an error if it
// is not. It is called by many goroutines at once. The event and all that it refers to do not
// change after the call: the sink may keep them for as long as it likes, unless it is a [Borrower].
// It must not change them, since [Tee] gives the same event to others.
//
// ctx has the values of the call's context, and never ends: what has been done is recorded even if
// the caller has left. A sink that may have to wait sets bounds of its own: calls wait for it, and
// so does Close, which a sink must not call.
//
// The events of calls come once. Those of the service itself come at least once: after a failure,
// or a crash, one may come again with the same EventID.
type Sink interface {
	Record(ctx context.Context, e *Event) error
}

// Syncer is an optional interface of a [Sink]: Sync makes durable what Record has taken. An event
// of the service itself is kept in the key store until Record and Sync have succeeded, so that not
// even a power failure loses it. After the events of calls, of which there are many, Sync is not
// called: a power failure may lose the last ones.
type Syncer interface {
	Sync(ctx context.Context) error
}

// Borrower is an optional interface of a [Sink]. BorrowsEvents reports whether the sink only
// borrows events: after Record has returned, neither it nor anybody that it passed an event to uses
// the event, or an [Object] or a [Value] of it. Strings may be kept. The service then uses the
// memory of events again, which makes calls faster. It asks once, before the first event.
type Borrower interface {
	BorrowsEvents() bool
}

// Discard is a Sink that drops events. It is a [Borrower].
var Discard Sink = discard{}

type discard struct{}

var _ Borrower = discard{}

func (discard) Record(context.Context, *Event) error { return nil }
func (discard) BorrowsEvents() bool                  { return true }

// SinkFunc is a function as a [Sink].
type SinkFunc func(ctx context.Context, e *Event) error

// Record calls f.
func (f SinkFunc) Record(ctx context.Context, e *Event) error { return f(ctx, e) }

// JSONLines returns a Sink that writes each event to w as one line of JSON, in one call of Write,
// one call at a time. A failed or short Write is an error; if it wrote a part of a line, that line
// is ended before the next event, so that a reader loses only one event. w has to be at the
// beginning of a line. JSONLines neither buffers nor syncs nor closes w. For a file, [OpenFile]
// does more.
func JSONLines(w io.Writer) Sink { return &jsonLines{w: w} }

type jsonLines struct {
	mu   sync.Mutex
	w    io.Writer
	torn bool // the last line written has no end
}

var (
	_ Sink     = (*jsonLines)(nil)
	_ Borrower = (*jsonLines)(nil)
)

func (s *jsonLines) BorrowsEvents() bool { return true }

func (s *jsonLines) Record(_ context.Context, e *Event) error {
	line := append(e.appendJSON(make([]byte, 0, 1024)), '\n')

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := s.w.Write(line)
	if n = min(n, len(line)); n > 0 {
		s.torn = line[n-1] != '\n'
	}
	if n < len(line) && err == nil {
		err = io.ErrShortWrite
	}
	return err
}

// Tee returns a Sink that records each event in every one of sinks, in their order, whether or not
// those before it failed. Its error joins theirs. It is a [Syncer] that syncs those of them that
// are, and a [Borrower] if all of them are.
func Tee(sinks ...Sink) Sink { return tee(slices.Clone(sinks)) }

type tee []Sink

var (
	_ Syncer   = (tee)(nil)
	_ Borrower = (tee)(nil)
)

func (t tee) BorrowsEvents() bool {
	return !slices.ContainsFunc(t, func(s Sink) bool { return !borrows(s) })
}

func borrows(s Sink) bool {
	b, ok := s.(Borrower)
	return ok && b.BorrowsEvents()
}

func (t tee) Record(ctx context.Context, e *Event) error {
	var errs []error
	for _, s := range t {
		errs = append(errs, s.Record(ctx, e))
	}
	return errors.Join(errs...)
}

func (t tee) Sync(ctx context.Context) error {
	var errs []error
	for _, s := range t {
		if s, ok := s.(Syncer); ok {
			errs = append(errs, s.Sync(ctx))
		}
	}
	return errors.Join(errs...)
}
