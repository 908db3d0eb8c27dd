package keydb

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// use notes a use of a key at an hour of the day.
func (f *fixture) use(ref Ref, at int) {
	f.t.Helper()
	f.now = hour(at)
	f.NoteUse(f.key(ref), Use{Operation: "Encrypt", Time: f.now})
}

// requireUsed requires the hour of the last use to be known, from memory and then from the store.
func (f *fixture) requireUsed(ref Ref, at int) {
	f.t.Helper()
	for range 2 {
		use, err := f.LastUse(f.t.Context(), f.key(ref))
		require.NoError(f.t, err)
		require.Equal(f.t, at, use.Time.Hour())
		require.NoError(f.t, f.Flush(f.t.Context()))
		f.keys.clear()
	}
}

func TestAUseDuringAFailedFlushIsNotLost(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.use(k.Ref, 1)
	refused := errors.New("refused")
	f.backend.before(func(keystore.Tx) error {
		f.keys.clear() // the key is loaded again, and used
		f.use(k.Ref, 7)
		return refused
	})
	require.ErrorIs(t, f.Flush(t.Context()), refused)
	f.backend.before(nil)
	f.requireUsed(k.Ref, 7)
}

func TestAUseDuringAFlushIsNotLost(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.use(k.Ref, 1)
	f.backend.before(func(keystore.Tx) error {
		f.keys.clear()
		f.use(k.Ref, 8)
		return nil
	})
	require.NoError(t, f.Flush(t.Context()))
	f.backend.before(nil)
	f.requireUsed(k.Ref, 8)
}

func TestALateFlushDoesNotReplaceALaterUse(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.use(k.Ref, 1)
	f.backend.before(func(keystore.Tx) error { // another process stores a later use first
		f.backend.before(nil)
		f.use(k.Ref, 6)
		return f.Flush(t.Context())
	})
	require.NoError(t, f.Flush(t.Context()))
	f.requireUsed(k.Ref, 6)
}

func TestALateCallDoesNotReplaceALaterUse(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.use(k.Ref, 9)
	f.use(k.Ref, 5)
	f.requireUsed(k.Ref, 9)
}

func TestADamagedKeyDoesNotHinderTheLastUsesOfOthers(t *testing.T) {
	f := newFixture(t)
	keys := []*Key{f.create(), f.create(), f.create()}
	for _, k := range keys {
		f.use(k.Ref, 3)
	}
	f.damage(keys[1].recordName())
	require.ErrorIs(t, f.Flush(t.Context()), keystore.ErrCorrupt)
	require.ElementsMatch(t, []string{keys[0].lastUseName(), keys[2].lastUseName()}, f.recordNames(lastUsePrefix))
}

func TestADamagedLastUseIsReplaced(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.use(k.Ref, 1)
	require.NoError(t, f.Flush(t.Context()))
	f.damage(k.lastUseName())
	_, err := f.LastUse(t.Context(), f.key(k.Ref))
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	f.use(k.Ref, 2)
	require.NoError(t, f.Flush(t.Context()))
	f.requireUsed(k.Ref, 2)
}

// A call may hold a snapshot that the cache has replaced.
func TestAUseUnderAnOldSnapshotIsKnown(t *testing.T) {
	f := newFixture(t)
	old := f.key(f.create().Ref)
	f.keys.clear()
	f.key(old.Ref)
	f.NoteUse(old, Use{Operation: "Encrypt", Time: hour(4)})
	f.requireUsed(old.Ref, 4)
}

func TestTheLastUseByAnotherProcessIsKnownOnceItIsStored(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	two := f.open(f.backend)
	theirs, err := two.Key(t.Context(), k.Ref, f.now)
	require.NoError(t, err)
	two.NoteUse(theirs, Use{Operation: "Encrypt", Time: hour(2)})
	unused, err := f.LastUse(t.Context(), k)
	require.NoError(t, err)
	require.Zero(t, unused)
	require.NoError(t, two.Flush(t.Context()))
	f.requireUsed(k.Ref, 2)
}

func TestManyLastUsesAreStored(t *testing.T) {
	f := newFixture(t)
	const keys = 3*flushBatch + 1
	for range keys {
		f.use(f.create().Ref, 5)
	}
	require.NoError(t, f.Flush(t.Context()))
	require.Len(t, f.recordNames(lastUsePrefix), keys)
	require.Empty(t, f.uses)
}

// A use is noted once for each operation and millisecond.
func TestAUseIsNotedOnceAMillisecond(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	require.False(t, k.Used("Encrypt", f.now))
	f.NoteUse(k, Use{Operation: "Encrypt", Time: f.now})
	require.True(t, k.Used("Encrypt", f.now.Add(999_000)))
	require.False(t, k.Used("Encrypt", f.now.Add(1_000_000)))
	require.False(t, k.Used("Decrypt", f.now))
}

// Who is not to note a use, because another call has, must be able to rely on the next Flush.
func TestAUseIsInTheQueueOnceItIsSeen(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.usesMu.Lock() // the queue cannot be reached
	var noting sync.WaitGroup
	noting.Go(func() { f.NoteUse(k, Use{Operation: "Encrypt", Time: f.now}) })
	for range 10_000 {
		require.False(t, k.Used("Encrypt", f.now))
		runtime.Gosched()
	}
	f.usesMu.Unlock()
	noting.Wait()
	require.True(t, k.Used("Encrypt", f.now))
}
