package keydb

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

func (f *fixture) requireKeys(db *DB, want int) {
	f.t.Helper()
	n, err := db.CountKeys(f.t.Context(), "111122223333", "us-east-1")
	require.NoError(f.t, err)
	require.Equal(f.t, want, n)
}

// A scanned backend counts its scans.
type scanned struct {
	keystore.Backend
	n atomic.Int64
}

func (s *scanned) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	s.n.Add(1)
	return s.Backend.Scan(ctx, prefix, after, limit)
}

func TestKeysAreCountedWithoutReadingThem(t *testing.T) {
	f := newFixture(t)
	f.requireKeys(f.DB, 0)
	k := f.create()
	f.create()
	require.NoError(t, f.tryCreate(f.DB, "us-east-1", func(r *Record) { r.Manager = "AWS" }), "not counted")
	require.NoError(t, f.tryCreate(f.DB, "eu-west-1"))
	f.requireKeys(f.DB, 2)

	scans := &scanned{Backend: f.backend}
	other := f.open(scans)
	f.requireKeys(other, 2)
	before := scans.n.Load()
	require.NotZero(t, before)
	f.requireKeys(other, 2)
	require.Equal(t, before, scans.n.Load(), "the counts are in memory")

	f.create()
	other.counts.changed(k.countName(), keystore.Revision(1<<40)) // as the watch reports it
	f.requireKeys(other, 3)

	f.schedule(k.Ref, hour(24))
	f.now = hour(24)
	require.NoError(t, f.destroyDue(t.Context()))
	f.requireKeys(f.DB, 2)
}

func (f *fixture) requireUpcoming(want Upcoming) {
	f.t.Helper()
	u, err := f.Upcoming(f.t.Context())
	require.NoError(f.t, err)
	require.Equal(f.t, want, u)
}

func TestUpcomingDeletionAndExpiry(t *testing.T) {
	f := newFixture(t)
	f.requireUpcoming(Upcoming{})
	f.imports(f.createExternal().Ref, 1, new(hour(50)))
	k := f.createExternal()
	f.imports(k.Ref, 2, new(hour(30)))
	f.requireUpcoming(Upcoming{Expiry: hour(30)})
	f.schedule(f.create().Ref, hour(72))
	f.schedule(k.Ref, hour(48))
	f.requireUpcoming(Upcoming{Deletion: hour(48), Expiry: hour(30)})
	f.now = hour(30)
	require.NoError(t, f.destroyDue(t.Context()))
	f.requireUpcoming(Upcoming{Deletion: hour(48), Expiry: hour(50)})
	_, err := f.CancelDeletion(t.Context(), f.key(k.Ref))
	require.NoError(t, err)
	f.requireUpcoming(Upcoming{Deletion: hour(72), Expiry: hour(50)})
}

func TestUpcomingIsBounded(t *testing.T) {
	f := newFixture(t)
	for range maxUpcoming - 1 {
		f.schedule(f.create().Ref, hour(24))
	}
	f.schedule(f.create().Ref, hour(30))
	f.requireUpcoming(Upcoming{Deletion: hour(24)})
	f.imports(f.createExternal().Ref, 1, new(hour(50)))
	f.requireUpcoming(Upcoming{Deletion: hour(24), Expiry: hour(30)})
}

func TestUpcomingLeavesOutDamagedKeys(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.schedule(k.Ref, hour(24))
	f.schedule(f.create().Ref, hour(48))
	f.damage(k.recordName())
	f.requireUpcoming(Upcoming{Deletion: hour(48)})
}
