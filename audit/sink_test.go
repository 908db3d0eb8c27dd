package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
)

// calls is a Writer that keeps what each call of Write was given.
type calls []string

func (c *calls) Write(p []byte) (int, error) {
	*c = append(*c, string(p))
	return len(p), nil
}

func TestJSONLinesWritesALineInOneCall(t *testing.T) {
	var w calls
	sink := audit.JSONLines(&w)

	for _, tt := range events {
		require.NoError(t, sink.Record(t.Context(), tt.event()))
	}

	require.Len(t, w, len(events))
	for i, line := range w {
		require.Equal(t, 1, strings.Count(line, "\n"))
		require.True(t, strings.HasSuffix(line, "}\n"))
		var got audit.Event
		require.NoError(t, json.Unmarshal([]byte(line), &got))
		require.Equal(t, events[i].event(), &got)
	}
}

// Nothing that a caller chooses may break a line in two.
func TestJSONLinesKeepsLineBreaksOfTheCallerInsideTheLine(t *testing.T) {
	var w calls
	e := allowed()
	e.UserAgent = "one\r\ntwo\u2028three"

	require.NoError(t, audit.JSONLines(&w).Record(t.Context(), e))

	require.Equal(t, 1, strings.Count(w[0], "\n"))
	require.NotContains(t, w[0], "\r")
	require.NotContains(t, w[0], "\u2028")
}

func TestJSONLinesRecordsAfterTheCallIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var w calls

	require.NoError(t, audit.JSONLines(&w).Record(ctx, allowed()))

	require.Len(t, w, 1)
}

func TestJSONLinesFromManyGoroutinesAreWholeLines(t *testing.T) {
	const writers, each = 8, 50
	var buf bytes.Buffer // not safe by itself: the race detector sees two Writes at once
	sink := audit.JSONLines(&buf)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := allowed()
				e.EventName = fmt.Sprintf("%d/%d", w, i)
				if err := sink.Record(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	seen := map[string]bool{}
	for lines := bufio.NewScanner(&buf); lines.Scan(); {
		var e audit.Event
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		seen[e.EventName] = true
	}
	require.Len(t, seen, writers*each)
}

// limited takes only so many bytes of each Write, as a full disk does.
type limited struct {
	bytes.Buffer
	limit int
	err   error
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) <= l.limit {
		return l.Buffer.Write(p)
	}
	n, _ := l.Buffer.Write(p[:l.limit])
	return n, l.err
}

func TestJSONLinesReturnsTheWritersError(t *testing.T) {
	full := errors.New("disk full")
	for _, tt := range []struct {
		name    string
		err     error
		want    error
		written int
	}{
		{"a failed write", full, full, 0},
		{"a write that failed half-way", full, full, 10},
		{"a short write without an error", nil, io.ErrShortWrite, 10},
		{"no write and no error", nil, io.ErrShortWrite, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &limited{limit: tt.written, err: tt.err}
			sink := audit.JSONLines(w)

			require.ErrorIs(t, sink.Record(t.Context(), allowed()), tt.want)
			torn := w.String()
			require.Len(t, torn, tt.written)

			// The next events stand on lines of their own.
			w.limit = 1 << 20
			require.NoError(t, sink.Record(t.Context(), refused()))
			require.NoError(t, sink.Record(t.Context(), rotated()))
			lines := strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
			if torn != "" {
				require.Equal(t, torn, lines[0])
				lines = lines[1:]
			}
			require.Len(t, lines, 2)
			for _, line := range lines {
				require.True(t, json.Valid([]byte(line)), line)
			}
		})
	}
}

func TestJSONLinesEndsATornLineOnceWhateverFailsNext(t *testing.T) {
	for next, limit := range map[string]int{"nothing": 0, "only the end of the torn line": 1, "another part": 10} {
		t.Run(next+" is written", func(t *testing.T) {
			w := &limited{limit: 5}
			sink := audit.JSONLines(w)
			require.Error(t, sink.Record(t.Context(), allowed()))
			w.limit = limit
			require.Error(t, sink.Record(t.Context(), allowed()))
			w.limit = 1 << 20

			require.NoError(t, sink.Record(t.Context(), allowed()))

			lines := strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
			require.NotContains(t, lines, "")
			require.Len(t, lines[0], 5)
			require.True(t, json.Valid([]byte(lines[len(lines)-1])))
		})
	}
}

func TestTeeGivesAllTheEventAndJoinsTheirErrors(t *testing.T) {
	first, third := errors.New("first"), errors.New("third")
	var got []*audit.Event
	sink := func(err error) audit.Sink {
		return audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
			got = append(got, e)
			return err
		})
	}
	sinks := []audit.Sink{sink(first), sink(nil), sink(third)}
	tee := audit.Tee(sinks...)
	clear(sinks) // the list was copied
	e := allowed()

	err := tee.Record(t.Context(), e)

	require.ErrorIs(t, err, first)
	require.ErrorIs(t, err, third)
	require.Len(t, got, 3)
	for _, g := range got {
		require.Same(t, e, g)
	}
}

func TestTeeOfSinksThatSucceedSucceeds(t *testing.T) {
	ok := audit.SinkFunc(func(context.Context, *audit.Event) error { return nil })

	require.NoError(t, audit.Tee(ok, ok).Record(t.Context(), allowed()))
	require.NoError(t, audit.Tee().Record(t.Context(), allowed()))
}

func TestTeeBorrowsEventsIfAllItsSinksDo(t *testing.T) {
	keeps := audit.SinkFunc(func(context.Context, *audit.Event) error { return nil })
	for _, test := range []struct {
		sink audit.Sink
		want bool
	}{
		{audit.Tee(), true},
		{audit.Tee(audit.Discard, audit.JSONLines(io.Discard)), true},
		{audit.Tee(audit.Discard, audit.Tee(keeps)), false},
		{audit.Tee(keeps, audit.Discard), false},
	} {
		require.Equal(t, test.want, test.sink.(audit.Borrower).BorrowsEvents())
	}
}
