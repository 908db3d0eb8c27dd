package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

const (
	headerKey         = "\x00header"
	sealOverheadBytes = 45 // how much longer a sealed value is than its plaintext
)

var ctx = context.Background()

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept outlives the stores that are opened in it, as a file outlives a process.
type kept struct{ keystore.Backend }

func (kept) Close() error { return nil }

func open(tb testing.TB, b keystore.Backend, root keystore.RootKey) *keystore.Store {
	tb.Helper()
	s, err := keystore.Open(ctx, b, root)
	require.NoError(tb, err)
	return s
}

func put(tb testing.TB, b keystore.Backend, key, value string) keystore.Revision {
	tb.Helper()
	revision, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(value)}}})
	require.NoError(tb, err)
	return revision
}

func get(tb testing.TB, b keystore.Backend, key string) string {
	tb.Helper()
	record, err := b.Get(ctx, key)
	require.NoError(tb, err)
	return string(record.Value)
}

// A Store is a Backend, except for the space that its seal and its header take.
var _ keystore.Backend = (*keystore.Store)(nil)

func TestValuesAreSealed(t *testing.T) {
	b := memory.New()
	s := open(t, b, keystoretest.RootKey())
	revision := put(t, s, "key", "plain text")
	raw := get(t, b, "key")
	require.NotContains(t, raw, "plain")
	require.Len(t, raw, len("plain text")+sealOverheadBytes)
	record, err := s.Get(ctx, "key")
	require.NoError(t, err)
	require.Equal(t, keystore.Record{Key: "key", Value: []byte("plain text"), Revision: revision}, record)
	put(t, s, "twin", "plain text")
	require.NotEqual(t, raw, get(t, b, "twin"))
	put(t, s, "empty", "")
	require.Empty(t, get(t, s, "empty"))
}

func TestTamperedRecordsAreRefused(t *testing.T) {
	b, other := memory.New(), memory.New()
	root := keystoretest.RootKey()
	s, s2 := open(t, b, root), open(t, other, root)
	for i := range 3 {
		put(t, s, fmt.Sprint("key", i), "value")
		put(t, s2, fmt.Sprint("key", i), "value")
	}
	sealed := get(t, b, "key1")
	refused := func(t *testing.T, raw string) {
		t.Helper()
		put(t, b, "key1", raw)
		_, err := s.Get(ctx, "key1")
		require.ErrorIs(t, err, keystore.ErrCorrupt)
		var record *keystore.RecordError
		require.ErrorAs(t, err, &record)
		require.Equal(t, "key1", record.Key)
		require.NotContains(t, err.Error(), "value")
		before, err := s.Scan(ctx, "", "", 10)
		require.ErrorIs(t, err, keystore.ErrCorrupt)
		require.Len(t, before, 1)
		behind, err := s.Scan(ctx, "", "key1", 10)
		require.NoError(t, err)
		require.Len(t, behind, 1)
		put(t, b, "key1", sealed)
		require.Equal(t, "value", get(t, s, "key1"))
	}
	t.Run("a byte flipped", func(t *testing.T) {
		for i := range sealed {
			raw := []byte(sealed)
			raw[i] ^= 0x80
			refused(t, string(raw))
		}
	})
	t.Run("shortened", func(t *testing.T) {
		for i := range sealed {
			refused(t, sealed[:i])
		}
	})
	t.Run("lengthened", func(t *testing.T) { refused(t, sealed+"\x00") })
	t.Run("plain", func(t *testing.T) { refused(t, "value") })
	t.Run("swapped", func(t *testing.T) { refused(t, get(t, b, "key2")) })
	t.Run("from another store", func(t *testing.T) { refused(t, get(t, other, "key1")) })
}

func TestAStoreOfAnotherIDIsRefused(t *testing.T) {
	// Same seal keys, other ID: what a header edited by one who has the root key would give. The ID
	// is at 5 to 21.
	b := memory.New()
	s := open(t, b, keystore.External("test", blind{}))
	put(t, s, "key", "value")
	header := []byte(get(t, b, headerKey))
	header[10] ^= 1
	put(t, b, headerKey, resum(header))
	s = open(t, b, keystore.External("test", blind{}))
	_, err := s.Get(ctx, "key")
	require.ErrorIs(t, err, keystore.ErrCorrupt)
}

func TestReservedKeysAreOutOfReach(t *testing.T) {
	s := open(t, memory.New(), keystoretest.RootKey())
	put(t, s, "\x01", "first")
	_, err := s.Get(ctx, headerKey)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	_, err = s.Scan(ctx, "\x00", "", 1)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, tx := range []keystore.Tx{
		{Expect: []keystore.Expectation{{Key: headerKey}}},
		{Puts: []keystore.Put{{Key: headerKey}}},
		{Deletes: []string{headerKey}},
		{Puts: []keystore.Put{{Key: "long", Value: make([]byte, keystore.MaxValueBytes-sealOverheadBytes+1)}}},
	} {
		_, err := s.Commit(ctx, tx)
		require.ErrorIs(t, err, keystore.ErrInvalid)
	}
	put(t, s, "long", string(make([]byte, keystore.MaxValueBytes-sealOverheadBytes)))
	for _, after := range []string{"", "\x00", headerKey, "\x00\xff"} {
		records, err := s.Scan(ctx, "", after, 1)
		require.NoError(t, err)
		require.Equal(t, "\x01", records[0].Key)
	}
	for event, err := range s.Watch(ctx, 0) {
		require.NoError(t, err)
		require.Equal(t, "\x01", event.Key, "the header is not announced")
		break
	}
}

func TestErrorsStateTheRightLimitOfExpectations(t *testing.T) {
	b := memory.New()
	s := open(t, b, keystoretest.RootKey())
	var tx keystore.Tx
	for i := range 101 {
		tx.Expect = append(tx.Expect, keystore.Expectation{Key: fmt.Sprint(i)})
	}
	_, err := b.Commit(ctx, tx)
	require.NoError(t, err)
	_, err = s.Commit(ctx, tx)
	require.ErrorContains(t, err, "at most 100 expectations")
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: "101"})
	_, err = b.Commit(ctx, tx)
	require.ErrorContains(t, err, "at most 101 expectations and 100 writes")
}

func TestOpenersRaceToOneStore(t *testing.T) {
	b := kept{memory.New()}
	root := keystoretest.RootKey()
	var group sync.WaitGroup
	stores := make([]*keystore.Store, 8)
	errs := make([]error, len(stores))
	for i := range stores {
		group.Go(func() { stores[i], errs[i] = keystore.Open(ctx, b, root) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	for i, s := range stores {
		put(t, s, fmt.Sprint(i), "value")
		for _, reader := range stores {
			require.Equal(t, "value", get(t, reader, fmt.Sprint(i)))
		}
	}
}

func TestALateOpenerUsesTheStoreThatAnotherCreated(t *testing.T) {
	b := &meddling{Backend: kept{memory.New()}}
	root := keystoretest.RootKey()
	b.meddle = func() { put(t, open(t, b, root), "a", "value") }
	require.Equal(t, "value", get(t, open(t, b, root), "a"))
}

func TestOpenRefusesRecordsWithoutHeader(t *testing.T) {
	b := memory.New()
	put(t, b, "a", "plain")
	_, err := keystore.Open(ctx, b, keystoretest.RootKey())
	require.ErrorIs(t, err, keystore.ErrCorrupt)
}

func TestOpenTouchesNoRecord(t *testing.T) {
	b := &counting{Backend: memory.New()}
	root := keystoretest.RootKey()
	put(t, open(t, b, root), "a", "value")
	b.gets, b.scans = 0, 0
	open(t, b, root)
	require.Equal(t, []int{1, 0}, []int{b.gets, b.scans})
}

type counting struct {
	keystore.Backend
	gets, scans int
}

func (b *counting) Get(ctx context.Context, key string) (keystore.Record, error) {
	b.gets++
	return b.Backend.Get(ctx, key)
}

func (b *counting) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	b.scans++
	return b.Backend.Scan(ctx, prefix, after, limit)
}

func TestChangeRootKey(t *testing.T) {
	b := kept{memory.New()}
	first, second := keystoretest.RootKey(), keystoretest.RootKey()
	s, elsewhere := open(t, b, first), open(t, b, first)
	put(t, s, "a", "value")
	before := get(t, b, "a")
	require.NoError(t, s.ChangeRootKey(ctx, second))
	require.Equal(t, before, get(t, b, "a"), "only the header is rewritten")

	_, err := keystore.Open(ctx, b, first)
	require.ErrorIs(t, err, keystore.ErrRootKey)
	require.Equal(t, "value", get(t, open(t, b, second), "a"))
	require.Equal(t, "value", get(t, s, "a"))
	put(t, s, "b", "value")
	require.Equal(t, "value", get(t, elsewhere, "b"), "a reader elsewhere goes on")
	_, err = elsewhere.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "c"}}})
	require.ErrorIs(t, err, keystore.ErrRootKey, "a writer elsewhere must open the store again")

	require.NoError(t, s.ChangeRootKey(ctx, keystore.External("elsewhere", blind{})))
	require.NoError(t, s.RotateSeal(ctx, nil))
	require.Equal(t, "value", get(t, open(t, b, keystore.External("elsewhere", blind{})), "a"))
}

func TestRotateSeal(t *testing.T) {
	b := kept{memory.New()}
	root := keystoretest.RootKey()
	s, elsewhere := open(t, b, root), open(t, b, root)
	const n = 250
	raw := map[string]string{}
	for i := range n {
		key := fmt.Sprint("key", i)
		put(t, s, key, key)
		raw[key] = get(t, b, key)
	}
	put(t, s, "large", string(bytes.Repeat([]byte("x"), 1<<20-100)))
	put(t, s, "large2", string(bytes.Repeat([]byte("y"), 1<<20-100)))
	var steps []int
	require.NoError(t, s.RotateSeal(ctx, func(done int) { steps = append(steps, done) }))
	require.IsIncreasing(t, steps)
	require.Equal(t, n+2, steps[len(steps)-1])
	for key, old := range raw {
		require.Equal(t, key, get(t, s, key))
		require.Equal(t, key, get(t, elsewhere, key), "a process with the old keyset in memory")
		now := get(t, b, key)
		require.NotEqual(t, old[:5], now[:5], "the ID of the seal key")
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(old)}}})
		require.NoError(t, err)
		_, err = s.Get(ctx, key)
		require.ErrorIs(t, err, keystore.ErrCorrupt, "the old seal key is forgotten")
		_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(now)}}})
		require.NoError(t, err)
	}
	again := open(t, b, root)
	require.NoError(t, again.RotateSeal(ctx, nil))
	put(t, elsewhere, "new", "written under an old seal")
	require.Equal(t, "written under an old seal", get(t, s, "new"))
	records, err := s.Scan(ctx, "key", "", 1000)
	require.NoError(t, err)
	require.Len(t, records, n)
}

// unscrubbed fails to scrub.
type unscrubbed struct {
	keystore.Backend
	from int // how many scrubs succeed
}

func (b *unscrubbed) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	revision, err := b.Backend.Commit(ctx, tx)
	if err == nil && tx.Scrub {
		if b.from--; b.from < 0 {
			return revision, keystore.ErrNotScrubbed
		}
	}
	return revision, err
}

func TestAChangeOfRootKeyStandsIfItsScrubFails(t *testing.T) {
	b := kept{memory.New()}
	first, second := keystoretest.RootKey(), keystoretest.RootKey()
	s := open(t, &unscrubbed{Backend: b}, first)
	require.ErrorIs(t, s.ChangeRootKey(ctx, second), keystore.ErrNotScrubbed)
	put(t, s, "a", "value")
	_, err := keystore.Open(ctx, b, first)
	require.ErrorIs(t, err, keystore.ErrRootKey)
	again := open(t, b, second)
	require.Equal(t, "value", get(t, again, "a"))
	require.NoError(t, again.ChangeRootKey(ctx, second), "the scrub is tried again")
	require.Equal(t, "value", get(t, s, "a"))
}

func TestARotationOfTheSealStandsIfItsScrubFails(t *testing.T) {
	for from, complete := range []bool{false, true} { // each of the two changes of the header scrubs
		b := kept{memory.New()}
		root := keystoretest.RootKey()
		s := open(t, &unscrubbed{b, from}, root)
		put(t, s, "a", "value")
		old := get(t, b, "a")
		require.ErrorIs(t, s.RotateSeal(ctx, nil), keystore.ErrNotScrubbed)
		put(t, s, "b", "value")
		require.NotEqual(t, old[:5], get(t, b, "b")[:5], "the new key is in use")
		require.Equal(t, complete, old[:5] != get(t, b, "a")[:5])
		forgotten := func() bool {
			now := get(t, b, "a")
			put(t, b, "a", old)
			_, err := open(t, b, root).Get(ctx, "a")
			put(t, b, "a", now)
			return errors.Is(err, keystore.ErrCorrupt)
		}
		require.Equal(t, complete, forgotten())
		require.NoError(t, open(t, b, root).RotateSeal(ctx, nil))
		require.True(t, forgotten())
		require.Equal(t, "value", get(t, s, "a"))
	}
}

// dying fails every commit after the first few.
type dying struct {
	keystore.Backend
	left int
}

var errDied = errors.New("died")

func (b *dying) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if b.left--; b.left < 0 {
		return 0, errDied
	}
	return b.Backend.Commit(ctx, tx)
}

func TestRotateSealResumesAnInterruptedRotation(t *testing.T) {
	const n = 350 // four batches, between two changes of the header
	for died := range 7 {
		b := kept{memory.New()}
		root := keystoretest.RootKey()
		s := open(t, b, root)
		for i := range n {
			put(t, s, fmt.Sprintf("key%03d", i), fmt.Sprint(i))
		}
		err := open(t, &dying{b, died}, root).RotateSeal(ctx, nil)
		if died < 6 {
			require.ErrorIs(t, err, errDied)
		} else {
			require.NoError(t, err)
		}
		put(t, s, "key000", "0") // by a process that may have an old seal
		after := open(t, b, root)
		done := 0
		require.NoError(t, after.RotateSeal(ctx, func(n int) { done = n }))
		if 0 < died && died < 6 {
			require.Less(t, done, n, "what was done is not done again")
		}
		seen := map[string]bool{}
		records, err := b.Scan(ctx, "key", "", 2*n)
		require.NoError(t, err)
		for i, record := range records {
			seen[string(record.Value[:5])] = true
			require.Equal(t, fmt.Sprint(i), get(t, after, record.Key))
			require.Equal(t, fmt.Sprint(i), get(t, s, record.Key))
		}
		require.Len(t, seen, 1, "one seal key")
	}
}

func TestRotateSealStopsAtADamagedRecord(t *testing.T) {
	b := memory.New()
	s := open(t, b, keystoretest.RootKey())
	put(t, s, "a", "value")
	put(t, s, "b", "value")
	put(t, b, "b", get(t, b, "a"))
	require.ErrorIs(t, s.RotateSeal(ctx, nil), keystore.ErrCorrupt)
	require.Equal(t, "value", get(t, s, "a"))
	_, err := s.Commit(ctx, keystore.Tx{Deletes: []string{"b"}})
	require.NoError(t, err)
	require.NoError(t, s.RotateSeal(ctx, nil))
	require.Equal(t, "value", get(t, s, "a"))
}

// meddling does something between the first scan, of a rotation or of Open, and the commit that
// follows.
type meddling struct {
	keystore.Backend
	meddle func()
}

func (b *meddling) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	records, err := b.Backend.Scan(ctx, prefix, after, limit)
	if meddle := b.meddle; meddle != nil {
		b.meddle = nil
		meddle()
	}
	return records, err
}

func TestRotateSealKeepsConcurrentWrites(t *testing.T) {
	b := &meddling{Backend: kept{memory.New()}}
	root := keystoretest.RootKey()
	s, elsewhere := open(t, b, root), open(t, b, root)
	for _, key := range []string{"changed", "deleted", "kept"} {
		put(t, s, key, "old")
	}
	b.meddle = func() {
		_, err := elsewhere.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "changed", Value: []byte("new")}}, Deletes: []string{"deleted"}})
		require.NoError(t, err)
	}
	require.NoError(t, s.RotateSeal(ctx, nil))
	require.Equal(t, "new", get(t, s, "changed"))
	require.Equal(t, "old", get(t, s, "kept"))
	_, err := s.Get(ctx, "deleted")
	require.ErrorIs(t, err, keystore.ErrNotFound)

	// A whole rotation by another process overtakes this one; and a change of root key in this one
	// comes between.
	b.meddle = func() { require.NoError(t, elsewhere.RotateSeal(ctx, nil)) }
	require.NoError(t, s.RotateSeal(ctx, nil))
	b.meddle = func() { require.NoError(t, s.ChangeRootKey(ctx, keystore.External("other", blind{}))) }
	require.NoError(t, s.RotateSeal(ctx, nil))
	require.Equal(t, "new", get(t, open(t, b, keystore.External("other", blind{})), "changed"))
}

// Writers in several processes, rotations in two, and nothing is lost.
func TestRotateSealWithWriters(t *testing.T) {
	b := kept{memory.New()}
	root := keystoretest.RootKey()
	var group sync.WaitGroup
	errs := make([]error, 6)
	for w := range errs {
		s := open(t, b, root)
		group.Go(func() {
			for i := range 60 {
				if w >= 4 {
					if i < 8 {
						errs[w] = errors.Join(errs[w], s.RotateSeal(ctx, nil))
					}
					continue
				}
				key := fmt.Sprint("counter", w%2)
				for {
					record, err := s.Get(ctx, key)
					if err == nil || errors.Is(err, keystore.ErrNotFound) {
						_, err = s.Commit(ctx, keystore.Tx{
							Expect: []keystore.Expectation{{Key: key, Revision: record.Revision}},
							Puts:   []keystore.Put{{Key: key, Value: append(record.Value, '.')}, {Key: fmt.Sprint(w, "/", i)}},
						})
					}
					if errors.Is(err, keystore.ErrConflict) {
						continue
					}
					errs[w] = errors.Join(errs[w], err)
					break
				}
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	s := open(t, b, root)
	require.NoError(t, s.RotateSeal(ctx, nil))
	require.Len(t, get(t, s, "counter0"), 120)
	require.Len(t, get(t, s, "counter1"), 120)
	records, err := s.Scan(ctx, "", "", 1000)
	require.NoError(t, err)
	require.Len(t, records, 4*60+2)
}
