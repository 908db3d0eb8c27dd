package keydb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/keystore"
)

func (f *fixture) schedule(ref Ref, at time.Time) {
	f.t.Helper()
	_, err := f.ScheduleDeletion(f.t.Context(), f.key(ref), 0, at)
	require.NoError(f.t, err)
}

func TestASweepGoesOnPastWhatItCannotRead(t *testing.T) {
	f := newFixture(t)
	keys := []*Key{f.create(), f.create()}
	for _, k := range keys {
		f.schedule(k.Ref, hour(30*24))
	}
	f.commit(keystore.Tx{Puts: []keystore.Put{{Key: "due/000000000000", Value: []byte("?")}}})
	f.damage("due/9", keys[0].dueName(hour(30*24)))
	f.now = hour(30 * 24)
	require.ErrorIs(t, f.destroyDue(t.Context()), keystore.ErrCorrupt)
	require.Empty(t, f.recordNames(keyPrefix))
}

// One key that cannot be destroyed does not hinder the others in its batch.
func TestAKeyThatCannotBeDestroyedDoesNotHinderOthers(t *testing.T) {
	f := newFixture(t)
	keys := []*Key{f.create(), f.create(), f.create()}
	for _, k := range keys {
		f.schedule(k.Ref, hour(24))
	}
	f.now = hour(24)
	refused := errors.New("refused")
	f.backend.before(func(tx keystore.Tx) error {
		for _, name := range tx.Deletes {
			if name == keys[1].recordName() {
				return refused
			}
		}
		return nil
	})
	require.ErrorIs(t, f.destroyDue(t.Context()), refused)
	require.Equal(t, []string{keys[1].recordName()}, f.recordNames(keyPrefix))
	f.backend.before(nil)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Empty(t, f.recordNames(""))
}

func TestDamagedRecordsOfAKeyAreDestroyedToo(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	for range 2 {
		_, err := f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
		require.NoError(t, err)
	}
	one := f.alias("alias/one", k)
	two := f.alias("alias/two", k)
	f.alias("alias/three", k)
	f.schedule(k.Ref, hour(24))
	f.damage(f.key(k.Ref).materialName(f.key(k.Ref).Materials[0].ID), k.aliasName(one.Name), two.recordName())
	f.now = hour(24)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Empty(t, f.recordNames(""))
	f.damaged = false
}

// A key with more records than fit in one transaction is destroyed in several. Wherever the process
// is killed between them, the store is consistent and the next one goes on.
func TestALargeKeyIsDestroyedInSeveralTransactions(t *testing.T) {
	killed := errors.New("killed")
	for n := 1; ; n++ { // killed at the first commit, at the second, ...
		f := newFixture(t)
		k := f.create()
		for range 2 * destroyBatch {
			_, err := f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
			require.NoError(t, err)
		}
		for i := range 50 {
			f.alias(fmt.Sprintf("alias/%d", i), k)
		}
		f.schedule(k.Ref, hour(24))
		f.now = hour(24)
		commits := 0
		f.backend.before(func(keystore.Tx) error {
			if commits++; commits >= n {
				return killed
			}
			return nil
		})
		_, err := f.Key(t.Context(), k.Ref, f.now)
		f.backend.before(nil)
		require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
		if err == nil {
			require.Greater(t, n, 5, "it takes several transactions")
			return
		}
		require.ErrorIs(t, err, killed)
		next := f.open(f.backend)
		require.NoError(t, next.destroyDue(t.Context()))
		require.Empty(t, f.recordNames(""))
	}
}

// While the store cannot be written, keys work and do not rotate.
func TestADueRotationThatCannotBeStoredWaits(t *testing.T) {
	f := newFixture(t)
	k := f.create(func(r *Record) { r.Rotation = &Rotation{PeriodInDays: 90, Next: hour(90 * 24)} })
	f.now = hour(100 * 24)
	f.backend.before(func(keystore.Tx) error { return keystore.ErrFull })
	require.Len(t, f.key(k.Ref).Materials, 1)
	f.backend.before(nil)
	require.Len(t, f.key(k.Ref).Materials, 2)
}

// An error that waiting cannot mend is returned to the call that met it.
func TestADueRotationDoesNotHideThatTheStoreIsLost(t *testing.T) {
	f := newFixture(t)
	k := f.create(func(r *Record) { r.Rotation = &Rotation{PeriodInDays: 90, Next: hour(90 * 24)} })
	f.now = hour(100 * 24)
	for _, failure := range []error{keystore.ErrRootKey, keystore.ErrReplaced, keystore.ErrCorrupt, keystore.ErrNewerVersion, keystore.ErrClosed} {
		f.backend.before(func(keystore.Tx) error { return failure })
		_, err := f.Key(t.Context(), k.Ref, f.now)
		require.ErrorIs(t, err, failure)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.backend.before(func(keystore.Tx) error { cancel(); return ctx.Err() })
	_, err := f.Key(ctx, k.Ref, f.now)
	require.ErrorIs(t, err, context.Canceled)

	f.backend.before(func(keystore.Tx) error { f.backend.before(nil); return keystore.ErrConflict }) // a lost race is run again
	require.NotEqual(t, k.Current().ID, f.key(k.Ref).Current().ID)
}

// countDestroyed wraps a family whose keys count how many of them are destroyed.
func countDestroyed(family func(func() time.Time) crypto.Family, n *int) func(func() time.Time) crypto.Family {
	return func(clock func() time.Time) crypto.Family { return countingFamily{family(clock), n} }
}

type countingFamily struct {
	crypto.Family
	n *int
}

func (f countingFamily) Parse(material []byte) (crypto.Key, error) {
	k, err := f.Family.Parse(material)
	if err != nil {
		return nil, err
	}
	return countingKey{k.(crypto.AEAD), f.n}, nil
}

type countingKey struct {
	crypto.AEAD
	n *int
}

func (k countingKey) Destroy() { *k.n++; k.AEAD.Destroy() }
