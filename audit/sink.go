package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
)

// Sink is where events go.
//
// Record takes one event and returns once the event is where the sink is to bring it, or an error if it is not. It is
// called by many goroutines at once. The event and all that it refers to are the sink's to keep, for as long as it likes;
// the caller changes none of it afterwards. Nor may the sink: [Tee] gives the same event to others.
//
// ctx has the values of the call's which is recorded, and never ends: what was done is told though its caller has left. A sink
// that may have to wait sets bounds of its own: calls wait for it, and so does Close, which a sink must not call.
//
// The events of calls come once. Those of the service itself come at least once: after a failure, or a crash, one may be repeated
// under the same EventID.
type Sink interface {
	Record(ctx context.Context, e *Event) error
}

// SinkFunc is a function as a [Sink].
type SinkFunc func(ctx context.Context, e *Event) error

// Record calls f.
func (f SinkFunc) Record(ctx context.Context, e *Event) error { return f(ctx, e) }

// JSONLines returns a Sink that writes each event to w as one line of JSON, in one call of Write, one call at a time.
// A failed or short Write is an error; if it left a part of a line behind, that line is ended before the next event, so
// that a reader loses one event and no more. w has to be at the beginning of a line: of what others left behind in it,
// JSONLines knows nothing. It neither buffers nor syncs nor closes w.
func JSONLines(w io.Writer) Sink { return &jsonLines{w: w} }

type jsonLines struct {
	mu   sync.Mutex
	w    io.Writer
	torn bool // the last line written has no end
}

var _ Sink = (*jsonLines)(nil)

func (s *jsonLines) Record(_ context.Context, e *Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')

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

// Tee returns a Sink that records each event in every one of sinks, in their order, whether or not those before it
// failed. Its error joins theirs.
func Tee(sinks ...Sink) Sink {
	sinks = slices.Clone(sinks)
	return SinkFunc(func(ctx context.Context, e *Event) error {
		var errs []error
		for _, s := range sinks {
			errs = append(errs, s.Record(ctx, e))
		}
		return errors.Join(errs...)
	})
}
