package keystoretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// events reads changes until one of the key "end".
func (b *backend) events(after keystore.Revision) ([]keystore.Event, error) {
	var events []keystore.Event
	for event, err := range b.Watch(ctx, after) {
		if err != nil {
			return events, err
		}
		if event.Key == "end" {
			return events, nil
		}
		events = append(events, event)
	}
	return events, errors.New("the watch ended without an error")
}

func watchOrder(tb testing.TB, b *backend) {
	start := b.commit(keystore.Tx{})
	var seen []keystore.Event
	var seenErr error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		seen, seenErr = b.events(start)
	}()
	var mu sync.Mutex
	want := map[keystore.Event]bool{}
	var group sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		group.Go(func() {
			for i := range 25 {
				key := fmt.Sprint(w, "/", i%5)
				tx := keystore.Tx{Puts: []keystore.Put{{Key: key}, {Key: key + "+"}}}
				if i%5 == 4 {
					tx = keystore.Tx{Puts: []keystore.Put{{Key: key}}, Deletes: []string{fmt.Sprint(w, "/", i%5-1), "never"}}
				}
				revision, err := b.Commit(ctx, tx)
				if errs[w] = err; err != nil {
					return
				}
				mu.Lock()
				for _, put := range tx.Puts {
					want[keystore.Event{Key: put.Key, Revision: revision}] = true
				}
				if len(tx.Deletes) > 0 {
					want[keystore.Event{Key: tx.Deletes[0], Revision: revision, Deleted: true}] = true
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	b.put("end", "")
	<-watched
	require.NoError(tb, errors.Join(errs...))
	require.NoError(tb, seenErr)
	var last keystore.Revision
	for _, event := range seen {
		require.GreaterOrEqual(tb, event.Revision, last, "out of order")
		last = event.Revision
		require.True(tb, want[event], "%+v never happened, or came twice", event)
		delete(want, event)
	}
	require.Empty(tb, want, "missed")
}

func watchResume(tb testing.TB, b *backend) {
	b.put("a", "1")
	from := b.put("b", "1")
	third := b.commit(keystore.Tx{Puts: []keystore.Put{{Key: "c"}}, Deletes: []string{"a"}})
	b.put("end", "")
	for range 2 { // a watch takes nothing away from the next
		events, err := b.events(from)
		require.NoError(tb, err)
		require.ElementsMatch(tb, []keystore.Event{{Key: "c", Revision: third}, {Key: "a", Revision: third, Deleted: true}}, events)
	}
	for event, err := range b.Watch(ctx, from) {
		require.NoError(tb, err)
		require.Equal(tb, third, event.Revision)
		break // leaving early must do no harm
	}
	_, err := b.Commit(ctx, keystore.Tx{Expect: []keystore.Expectation{{Key: "c"}}, Puts: []keystore.Put{{Key: "c"}}})
	require.ErrorIs(tb, err, keystore.ErrConflict)
	last := b.put("d", "1")
	b.put("end", "")
	events, err := b.events(last - 1)
	require.NoError(tb, err)
	require.Equal(tb, []keystore.Event{{Key: "d", Revision: last}}, events)
}

func watchCancel(tb testing.TB, b *backend) {
	revision := b.put("a", "1")
	stoppable, stop := context.WithCancel(ctx)
	defer stop()
	n := 0
	for event, err := range b.Watch(stoppable, revision-1) {
		if n++; n == 1 {
			require.NoError(tb, err)
			require.Equal(tb, "a", event.Key)
			stop() // otherwise the next iteration would wait forever
			continue
		}
		require.ErrorIs(tb, err, context.Canceled)
	}
	require.Equal(tb, 2, n, "the error comes once, and is the last")
}
