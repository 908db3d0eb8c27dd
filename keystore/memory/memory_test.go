package memory_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackend(t *testing.T) {
	keystoretest.Run(t, func(testing.TB) keystore.Backend { return memory.New() })
}

// Enough records, in an order of no use, that chunks are split and emptied.
func TestManyRecordsStaySorted(t *testing.T) {
	ctx := context.Background()
	b := memory.New()
	const n = 5000
	var want []string
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		key := fmt.Sprintf("%05d", i)
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(key)}}})
		require.NoError(t, err)
		want = append(want, key)
	}
	slices.Sort(want)
	for i := 0; i < n; i++ {
		if i/1500 == 1 { // a run of whole chunks
			_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{fmt.Sprintf("%05d", i)}})
			require.NoError(t, err)
		}
	}
	want = append(want[:1500:1500], want[3000:]...)
	records, err := b.Scan(ctx, "", "", n+1)
	require.NoError(t, err)
	var got []string
	for _, r := range records {
		got = append(got, r.Key)
		require.Equal(t, r.Key, string(r.Value))
		one, err := b.Get(ctx, r.Key)
		require.NoError(t, err)
		require.Equal(t, r, one)
	}
	require.Equal(t, want, got)
}

func TestOldChangesAreCompacted(t *testing.T) {
	ctx := context.Background()
	b := memory.New()
	var last keystore.Revision
	for range 3 * 4096 {
		revision, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a"}}})
		require.NoError(t, err)
		last = revision
	}
	for _, err := range b.Watch(ctx, 0) {
		require.ErrorIs(t, err, keystore.ErrCompacted)
	}
	next := last - 4096
	for event, err := range b.Watch(ctx, last-4096) {
		require.NoError(t, err)
		next++
		require.Equal(t, next, event.Revision)
		if event.Revision == last {
			break
		}
	}
}

// A fork of an empty Backend is as good as a new one.
func TestForkIsABackend(t *testing.T) {
	keystoretest.Run(t, func(testing.TB) keystore.Backend { return memory.New().Fork() })
}

func put(t testing.TB, b *memory.Backend, key, value string) keystore.Revision {
	t.Helper()
	revision, err := b.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(value)}}})
	require.NoError(t, err)
	return revision
}

func contents(t testing.TB, b *memory.Backend) map[string]string {
	t.Helper()
	records, err := b.Scan(t.Context(), "", "", 1<<20)
	require.NoError(t, err)
	found := map[string]string{}
	for _, r := range records {
		found[r.Key] = string(r.Value)
	}
	require.Len(t, found, len(records))
	return found
}

// A parent, forks and forks of forks change at random, each beside a map that says what it must
// hold.
func TestForksDoNotSeeOneAnother(t *testing.T) {
	ctx, random := t.Context(), rand.New(rand.NewPCG(3, 4))
	type one struct {
		backend *memory.Backend
		want    map[string]string
	}
	parent := one{memory.New(), map[string]string{}}
	for i := range 2000 { // some chunks
		key := fmt.Sprintf("%04d", i)
		put(t, parent.backend, key, "first")
		parent.want[key] = "first"
	}
	all := []one{parent}
	for step := range 4000 {
		if step%400 == 0 {
			from := all[random.IntN(len(all))]
			all = append(all, one{from.backend.Fork(), maps.Clone(from.want)})
		}
		b := all[random.IntN(len(all))]
		key := fmt.Sprintf("%04d", random.IntN(2500))
		if random.IntN(3) == 0 {
			_, err := b.backend.Commit(ctx, keystore.Tx{Deletes: []string{key}})
			require.NoError(t, err)
			delete(b.want, key)
		} else {
			value := fmt.Sprint(step)
			put(t, b.backend, key, value)
			b.want[key] = value
		}
	}
	for len(all) > 0 { // in whatever order they are closed
		for _, b := range all {
			require.Equal(t, b.want, contents(t, b.backend))
		}
		i := random.IntN(len(all))
		require.NoError(t, all[i].backend.Close())
		all = slices.Delete(all, i, i+1)
	}
}

func TestAForkContinuesItsParentsRevisions(t *testing.T) {
	parent := memory.New()
	put(t, parent, "a", "1")
	last := put(t, parent, "b", "2")
	fork := parent.Fork()

	r, err := fork.Get(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, last, r.Revision)
	_, err = fork.Commit(t.Context(), keystore.Tx{Expect: []keystore.Expectation{{Key: "b", Revision: last}}, Deletes: []string{"b"}})
	require.NoError(t, err)
	for event, err := range fork.Watch(t.Context(), last) {
		require.NoError(t, err)
		require.Equal(t, keystore.Event{Key: "b", Revision: last + 1, Deleted: true}, event)
		break
	}
	for _, err := range fork.Watch(t.Context(), last-1) {
		require.ErrorIs(t, err, keystore.ErrCompacted)
	}
	require.Equal(t, last+1, put(t, parent, "c", "3"))
	require.Equal(t, map[string]string{"a": "1", "b": "2", "c": "3"}, contents(t, parent))
	require.Equal(t, map[string]string{"a": "1"}, contents(t, fork))
}

func TestForkOfAClosedBackendIsClosed(t *testing.T) {
	parent := memory.New()
	require.NoError(t, parent.Close())
	fork := parent.Fork()
	_, err := fork.Get(t.Context(), "a")
	require.ErrorIs(t, err, keystore.ErrClosed)
	require.ErrorIs(t, fork.Close(), keystore.ErrClosed)
	for _, err := range fork.Watch(t.Context(), 0) {
		require.ErrorIs(t, err, keystore.ErrClosed)
	}
}

// Forks are made and changed while their parent is.
func TestForksMayBeMadeConcurrently(t *testing.T) {
	parent := memory.New()
	for i := range 1000 {
		put(t, parent, fmt.Sprintf("%04d", i), "parent")
	}
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 50 {
				fork := parent.Fork()
				key, value := fmt.Sprintf("%04d", i*17), fmt.Sprint("fork ", g)
				for range 2 {
					if _, err := fork.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(value)}}}); err != nil {
						t.Error(err)
					}
				}
				if r, err := fork.Get(t.Context(), key); err != nil || string(r.Value) != value {
					t.Errorf("%q, %v", r.Value, err)
				}
				if err := fork.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for i := range 1000 {
			if _, err := parent.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: fmt.Sprintf("%04d", i), Value: []byte("parent")}}}); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	for _, value := range contents(t, parent) {
		require.Equal(t, "parent", value)
	}
}

func BenchmarkFork(b *testing.B) {
	for _, n := range []int{10, 10_000, 1_000_000} {
		parent := memory.New()
		for i := range n {
			put(b, parent, fmt.Sprintf("%07d", i), "a value of no great length")
		}
		b.Run(fmt.Sprintf("of %d records", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parent.Fork().Close()
			}
		})
		b.Run(fmt.Sprintf("of %d records, then one put", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fork := parent.Fork()
				put(b, fork, "0000005", "another")
				fork.Close()
			}
		})
	}
}
