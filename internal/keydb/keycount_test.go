package keydb

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// counted returns the sum of the counts in the store.
func (f *fixture) counted(region string) (n int) {
	f.t.Helper()
	for r, err := range f.records(f.t.Context(), countsName("111122223333", region), "", 10) {
		require.NoError(f.t, err)
		count, err := decodeRecord[keyCount](r)
		require.NoError(f.t, err)
		n += count.Keys
	}
	return n
}

func (f *fixture) tryCreate(db *DB, region string, change ...func(*Record)) error {
	record := &Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: originKMS, Manager: managerCustomer, Created: f.now, Policy: validKeyPolicy}
	for _, c := range change {
		c(record)
	}
	_, err := db.Create(f.t.Context(), Ref{"111122223333", region, arn.NewKeyID(record.MultiRegion)}, record, CreateOptions{})
	return err
}

func (f *fixture) requireFull(db *DB, usage int) {
	f.t.Helper()
	var full *TooManyKeysError
	require.ErrorAs(f.t, f.tryCreate(db, "us-east-1"), &full)
	require.Equal(f.t, TooManyKeysError{f.config.MaxKeys, usage}, *full)
}

func TestAnAccountHasALimitOfKeysInARegion(t *testing.T) {
	f := newFixture(t)
	f.config.MaxKeys = 3
	k := f.create()
	require.NoError(t, f.tryCreate(f.DB, "us-east-1", func(r *Record) { r.MultiRegion = true }))
	require.NoError(t, f.tryCreate(f.DB, "us-east-1", func(r *Record) { r.Disabled = true }))
	f.requireFull(f.DB, 3)
	require.NoError(t, f.tryCreate(f.DB, "us-east-1", func(r *Record) { r.Manager = "AWS" }), "not counted")
	require.NoError(t, f.tryCreate(f.DB, "eu-west-1"))
	f.schedule(k.Ref, hour(24))
	f.requireFull(f.DB, 3)
	f.now = hour(24)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, 2, f.counted("us-east-1"))
	require.NoError(t, f.tryCreate(f.DB, "us-east-1"))
	f.requireFull(f.DB, 3)

	f.DB.counts = keyCounts{} // as in the next process
	f.requireFull(f.DB, 3)
}

func TestConcurrentKeysAreCountedExactly(t *testing.T) {
	f := newFixture(t)
	f.config.MaxKeys = 300
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				var full *TooManyKeysError
				if err := f.tryCreate(f.DB, "us-east-1"); err != nil && !errors.As(err, &full) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 300, f.counted("us-east-1"))
	f.requireFull(f.DB, 300)
	require.Len(t, f.recordNames(keyPrefix), 300)
}

func TestAFailedCreationLeavesNoReservation(t *testing.T) {
	f := newFixture(t)
	f.config.MaxKeys = 1
	f.backend.before(func(keystore.Tx) error { return keystore.ErrFull })
	for range 3 {
		require.ErrorIs(t, f.tryCreate(f.DB, "us-east-1"), keystore.ErrFull)
	}
	f.backend.before(nil)
	require.NoError(t, f.tryCreate(f.DB, "us-east-1"))
}

// The other process has changed the same count between the read and the commit.
func TestAConflictOfTheCountIsNotOneOfTheKey(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	conflicts := 0
	f.backend.before(func(tx keystore.Tx) error {
		for _, p := range tx.Puts {
			if strings.HasPrefix(p.Key, countPrefix) && conflicts == 0 {
				conflicts++
				f.backend.before(nil)
				f.commit(keystore.Tx{Puts: []keystore.Put{{Key: p.Key, Value: encodeRecord(keyCount{1})}}})
			}
		}
		return nil
	})
	id := k.ID[:len(k.ID)-4] + "0000" // counted in the same record
	record := *k.Record
	_, err := f.Create(t.Context(), Ref{k.Account, k.Region, id}, &record, CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, conflicts)
	require.Equal(t, 2, f.counted("us-east-1"))
	record = *k.Record
	_, err = f.Create(t.Context(), Ref{k.Account, k.Region, id}, &record, CreateOptions{})
	require.ErrorIs(t, err, ErrConflict, "the key exists")
}

func TestTheKeysOfAnotherProcessAreCounted(t *testing.T) {
	f := newFixture(t)
	f.config.MaxKeys = 2
	other := f.open(f.backend)
	other.config.MaxKeys = 2
	require.NoError(t, f.tryCreate(other, "us-east-1"))
	require.NoError(t, f.tryCreate(f.DB, "us-east-1"))
	f.requireFull(f.DB, 2)
	r, err := f.store.Get(t.Context(), f.recordNames(countPrefix)[0])
	require.NoError(t, err)
	for _, name := range f.recordNames(countPrefix) {
		other.counts.changed(name, r.Revision+1) // as the store reports it
	}
	f.requireFull(other, 2)
}

func TestALostCountIsCountedAgain(t *testing.T) {
	for name, lose := range map[string]func(f *fixture, count string){
		"deleted": func(f *fixture, count string) { f.commit(keystore.Tx{Deletes: []string{count}}) },
		"damaged": func(f *fixture, count string) { f.damage(count) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			k := f.create()
			lose(f, k.countName())
			id := k.ID[:len(k.ID)-4] + "0000"
			record := *k.Record
			_, err := f.Create(t.Context(), Ref{k.Account, k.Region, id}, &record, CreateOptions{})
			require.NoError(t, err)
			require.Equal(t, 2, f.counted("us-east-1"))
		})
	}
}
