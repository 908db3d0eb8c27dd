package keydb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// primary creates a multi-Region key in us-east-1.
func (f *fixture) primary(change ...func(*Record)) *Key {
	f.t.Helper()
	record := &Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: originKMS, Manager: "CUSTOMER", Created: f.now, Policy: validKeyPolicy, MultiRegion: true}
	for _, c := range change {
		c(record)
	}
	k, err := f.Create(f.t.Context(), Ref{"111122223333", "us-east-1", arn.NewKeyID(true)}, record, CreateOptions{})
	require.NoError(f.t, err)
	return k
}

// replica creates a replica of the key at ref.
func (f *fixture) replica(ref Ref, region string) *Key {
	f.t.Helper()
	k, err := f.Replicate(f.t.Context(), f.key(ref), region, &Record{Created: f.now, Policy: validKeyPolicy}, CreateOptions{})
	require.NoError(f.t, err)
	return k
}

func (r Ref) in(region string) Ref { return Ref{r.Account, region, r.ID} }

func (f *fixture) scheduleDays(ref Ref, days int32) {
	f.t.Helper()
	_, err := f.ScheduleDeletion(f.t.Context(), f.key(ref), days, f.now)
	require.NoError(f.t, err)
}

func TestWhatRelatedKeysShareIsStoredOnce(t *testing.T) {
	f := newFixture(t)
	k := f.primary()
	for _, region := range []string{"eu-west-1", "ap-south-1"} {
		f.replica(k.Ref, region)
	}
	rotated, err := f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
	require.NoError(t, err)
	want := []string{k.sharedName()}
	for _, ref := range []Ref{k.Ref, k.in("ap-south-1"), k.in("eu-west-1")} {
		want = append(want, ref.recordName(), ref.countName())
	}
	for _, m := range rotated.Record.Materials {
		want = append(want, k.sharedMaterialsName()+m.ID)
	}
	require.ElementsMatch(t, want, f.recordNames(""))
	own, _, err := readRecord[Record](t.Context(), f.DB, k.recordName())
	require.NoError(t, err)
	require.Empty(t, own.Materials)

	single := f.create()
	require.Equal(t, []string{single.materialName(single.Current().ID)}, f.recordNames(materialPrefix), "other keys are stored as ever")
	require.Equal(t, []string{k.sharedName()}, f.recordNames(sharedPrefix))
}

// A snapshot that is in the cache is replaced by a change to the related key in another Region.
func TestAChangeReachesTheRelatedKeysInTheCache(t *testing.T) {
	f := newFixture(t)
	k := f.primary()
	f.replica(k.Ref, "eu-west-1")
	eu := f.key(k.in("eu-west-1"))
	require.Same(t, eu, f.key(eu.Ref))
	rotated, err := f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
	require.NoError(t, err)
	next := f.key(eu.Ref)
	require.Equal(t, rotated.Current().ID, next.Current().ID)
	require.Equal(t, 1, next.Record.OnDemandRotations)

	for name, change := range map[string]func() error{
		"a snapshot of an earlier rotation": func() error {
			_, err := f.Update(t.Context(), eu, func(r *Record) { r.Description = "late" })
			return err
		},
		"an answer from it": func() error { return f.RequireCurrent(t.Context(), eu) },
	} {
		require.ErrorIs(t, change(), ErrConflict, name)
	}

	f.replica(k.Ref, "ap-south-1")
	require.Equal(t, []string{"ap-south-1", "eu-west-1"}, f.key(eu.Ref).Record.Shared.Replicas(f.now))
	require.Equal(t, []string{"ap-south-1", "eu-west-1"}, f.key(k.Ref).Record.Shared.Replicas(f.now))
	require.NoError(t, f.UpdatePrimary(t.Context(), f.key(k.Ref), f.key(eu.Ref), f.now))
	for _, region := range []string{"us-east-1", "eu-west-1", "ap-south-1"} {
		require.Equal(t, "eu-west-1", f.key(k.in(region)).Record.Shared.Primary)
		require.Equal(t, region != "eu-west-1", f.key(k.in(region)).IsReplica())
	}
}

// A change that only concerns one key leaves the snapshots of the related keys alone.
func TestAKeysOwnPropertiesAreNotShared(t *testing.T) {
	f := newFixture(t)
	k := f.primary()
	f.replica(k.Ref, "eu-west-1")
	us, eu := f.key(k.Ref), f.key(k.in("eu-west-1"))
	_, err := f.Update(t.Context(), eu, func(r *Record) { r.Description, r.Tags = "replica", []Tag{{"a", "b"}} })
	require.NoError(t, err)
	require.Same(t, us, f.key(k.Ref))
	_, err = f.Update(t.Context(), f.key(eu.Ref), func(r *Record) { r.Disabled = true })
	require.NoError(t, err)
	require.Equal(t, Disabled, f.key(eu.Ref).State)
	require.Equal(t, Enabled, f.key(k.Ref).State)
}

// Of several changes that are based on the same state, one is committed.
func TestChangesOfRelatedKeysConflict(t *testing.T) {
	for name, change := range map[string]func(f *fixture, us, eu *Key) error{
		"replicate": func(f *fixture, us, _ *Key) error {
			_, err := f.Replicate(f.t.Context(), us, "ap-south-1", &Record{Created: f.now, Policy: validKeyPolicy}, CreateOptions{})
			return err
		},
		"rotate": func(f *fixture, us, _ *Key) error {
			_, err := f.RotateOnDemand(f.t.Context(), us, f.now)
			return err
		},
		"delete the primary": func(f *fixture, us, _ *Key) error {
			_, err := f.ScheduleDeletion(f.t.Context(), us, 7, f.now)
			return err
		},
		"delete the replica": func(f *fixture, _, eu *Key) error {
			_, err := f.ScheduleDeletion(f.t.Context(), eu, 7, f.now)
			return err
		},
		"promote the replica": func(f *fixture, us, eu *Key) error { return f.UpdatePrimary(f.t.Context(), us, eu, f.now) },
	} {
		for other, first := range map[string]func(f *fixture, us, eu *Key) error{
			"a rotation": func(f *fixture, us, _ *Key) error {
				_, err := f.RotateOnDemand(f.t.Context(), us, f.now)
				return err
			},
			"another replica": func(f *fixture, us, _ *Key) error {
				_, err := f.Replicate(f.t.Context(), us, "ap-south-1", &Record{Created: f.now, Policy: validKeyPolicy}, CreateOptions{})
				return err
			},
			"the deletion of the replica": func(f *fixture, _, eu *Key) error {
				_, err := f.ScheduleDeletion(f.t.Context(), eu, 7, f.now)
				return err
			},
			"a new primary": func(f *fixture, us, eu *Key) error { return f.UpdatePrimary(f.t.Context(), us, eu, f.now) },
		} {
			t.Run(name+" after "+other, func(t *testing.T) {
				f := newFixture(t)
				k := f.primary()
				f.replica(k.Ref, "eu-west-1")
				us, eu := f.key(k.Ref), f.key(k.in("eu-west-1"))
				require.NoError(t, first(f, us, eu))
				require.ErrorIs(t, change(f, us, eu), ErrConflict)
			})
		}
	}
}

func TestTransientStatesEndByTheClock(t *testing.T) {
	f := newFixture(t)
	k := f.primary()
	until := f.now.Add(2 * time.Second)
	eu := k.in("eu-west-1")
	_, err := f.Replicate(t.Context(), f.key(k.Ref), eu.Region, &Record{Created: f.now, Creating: &until, Policy: validKeyPolicy}, CreateOptions{})
	require.NoError(t, err)
	states := func(want ...State) {
		t.Helper()
		commits := 0
		f.backend.before(func(keystore.Tx) error { commits++; return nil })
		require.Equal(t, want, []State{f.key(k.Ref).State, f.key(eu).State})
		require.Zero(t, commits)
		f.backend.before(nil)
	}
	states(Enabled, Creating)
	f.now = until.Add(-1)
	states(Enabled, Creating)
	f.now = until
	states(Enabled, Enabled)

	until = f.now.Add(2 * time.Second)
	require.NoError(t, f.UpdatePrimary(t.Context(), f.key(k.Ref), f.key(eu), until))
	f.replica(eu, "ap-south-1")
	states(Updating, Updating)
	require.Equal(t, Enabled, f.key(k.in("ap-south-1")).State)
	f.now = until
	states(Enabled, Enabled)
}

func TestACanceledDeletionOfANewReplicaIsDisabled(t *testing.T) {
	f := newFixture(t)
	k := f.primary()
	until := f.now.Add(time.Hour)
	eu, err := f.Replicate(t.Context(), k, "eu-west-1", &Record{Created: f.now, Creating: &until, Policy: validKeyPolicy}, CreateOptions{})
	require.NoError(t, err)
	eu, err = f.ScheduleDeletion(t.Context(), eu, 7, f.now)
	require.NoError(t, err)
	require.Equal(t, PendingDeletion, eu.State)
	eu, err = f.CancelDeletion(t.Context(), eu)
	require.NoError(t, err)
	require.Equal(t, Disabled, eu.State)
}

// A key is rotated when one of the related keys is looked at, and only while its primary is
// enabled.
func TestARotationIsDueForAllRelatedKeys(t *testing.T) {
	f := newFixture(t)
	k := f.primary(func(r *Record) { r.Rotation = &Rotation{PeriodInDays: 90, Next: hour(90 * 24)} })
	f.replica(k.Ref, "eu-west-1")
	eu := k.in("eu-west-1")
	first := f.key(eu).Current().ID
	f.now = hour(90 * 24)
	second := f.key(eu).Current().ID
	require.NotEqual(t, first, second)
	require.Equal(t, second, f.key(k.Ref).Current().ID)

	_, err := f.Update(t.Context(), f.key(k.Ref), func(r *Record) { r.Disabled = true })
	require.NoError(t, err)
	f.now = hour(200 * 24)
	require.Equal(t, second, f.key(eu).Current().ID)
	require.Equal(t, Enabled, f.key(eu).State)
	_, err = f.Update(t.Context(), f.key(k.Ref), func(r *Record) { r.Disabled = false })
	require.NoError(t, err)
	third := f.key(eu).Current().ID
	require.NotEqual(t, second, third)

	// A replica's own state does not matter.
	_, err = f.Update(t.Context(), f.key(eu), func(r *Record) { r.Disabled = true })
	require.NoError(t, err)
	f.now = hour(300 * 24)
	require.NotEqual(t, third, f.key(eu).Current().ID)

	// Nor can it be used less because the store cannot be written.
	last := f.key(eu).Current().ID
	f.now = hour(400 * 24)
	f.backend.before(func(keystore.Tx) error { return keystore.ErrFull })
	require.Equal(t, last, f.key(eu).Current().ID)
}

// However and whenever the related keys are looked at, the waiting period of the primary begins at
// the moment when its last replica is deleted.
func TestThePrimaryWaitsForItsReplicas(t *testing.T) {
	const days = 24
	looks := map[string]func(f *fixture, k Ref){
		"nobody":            func(*fixture, Ref) {},
		"the primary":       func(f *fixture, k Ref) { f.key(k) },
		"the last replica":  func(f *fixture, k Ref) { f.gone(k.in("eu-west-1")) },
		"the other replica": func(f *fixture, k Ref) { f.gone(k.in("ap-south-1")) },
		"the sweep":         func(f *fixture, _ Ref) { require.NoError(f.t, f.destroyDue(f.t.Context())) },
		"another process": func(f *fixture, k Ref) {
			require.NoError(f.t, f.open(f.backend).destroyDue(f.t.Context()))
			f.keys.clear() // what the watch does
		},
		"all": func(f *fixture, k Ref) { f.gone(k.in("eu-west-1")); f.gone(k.in("ap-south-1")); f.key(k) },
	}
	for name, look := range looks {
		for _, at := range []int{15, 20} { // when it is looked at; the last replica is deleted on day 15
			t.Run(fmt.Sprintf("%s on day %d", name, at), func(t *testing.T) {
				f := newFixture(t)
				k := f.primary().Ref
				f.replica(k, "eu-west-1")
				f.replica(k, "ap-south-1")
				f.scheduleDays(k, 7)
				require.Equal(t, PendingReplicaDeletion, f.key(k).State)
				require.Nil(t, f.key(k).Record.DeletionDate)
				f.scheduleDays(k.in("ap-south-1"), 10)
				f.scheduleDays(k.in("eu-west-1"), 15)
				f.now = hour(15*days - 1)
				require.Equal(t, PendingReplicaDeletion, f.key(k).State)

				f.now = hour(at * days)
				look(f, k)
				us := f.key(k)
				require.Equal(t, PendingDeletion, us.State)
				require.Equal(t, hour(22*days), *us.Record.DeletionDate)
				require.Empty(t, us.Record.Shared.Replicas(f.now))
				f.now = hour(22*days - 1)
				require.NoError(t, f.destroyDue(t.Context()))
				f.key(k)
				require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
				f.now = hour(22 * days)
				require.NoError(t, f.destroyDue(t.Context()))
				require.Empty(t, f.recordNames(""), "nothing is left of them")
			})
		}
	}
	t.Run("looked at once all is over", func(t *testing.T) {
		f := newFixture(t)
		k := f.primary().Ref
		f.replica(k, "eu-west-1")
		f.scheduleDays(k, 7)
		f.scheduleDays(k.in("eu-west-1"), 7)
		f.now = hour(14 * days)
		f.gone(k)
		f.gone(k.in("eu-west-1"))
		require.Empty(t, f.recordNames(""))
	})
}

// gone requires that the key at ref does not exist.
func (f *fixture) gone(ref Ref) {
	f.t.Helper()
	k, err := f.Key(f.t.Context(), ref, f.now)
	require.NoError(f.t, err)
	require.Nil(f.t, k)
}

func TestTheDeletionOfAPrimaryIsCanceled(t *testing.T) {
	f := newFixture(t)
	k := f.primary().Ref
	f.replica(k, "eu-west-1")
	f.scheduleDays(k, 7)
	us, err := f.CancelDeletion(t.Context(), f.key(k))
	require.NoError(t, err)
	require.Equal(t, Disabled, us.State)
	require.Empty(t, f.recordNames(duePrefix))

	f.scheduleDays(k, 7)
	f.scheduleDays(k.in("eu-west-1"), 10)
	_, err = f.CancelDeletion(t.Context(), f.key(k.in("eu-west-1")))
	require.NoError(t, err)
	f.now = hour(100 * 24)
	require.Equal(t, PendingReplicaDeletion, f.key(k).State, "the replica stays")

	f.scheduleDays(k.in("eu-west-1"), 10)
	f.now = hour(110 * 24)
	require.Equal(t, PendingDeletion, f.key(k).State)
	us, err = f.CancelDeletion(t.Context(), f.key(k))
	require.NoError(t, err)
	require.Equal(t, Disabled, us.State)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, []string{k.recordName()}, f.recordNames(keyPrefix))
	require.Equal(t, "ap-south-1", f.replica(k, "ap-south-1").Region)
}

func TestAReplicaIsDeletedWithoutTheOthers(t *testing.T) {
	f := newFixture(t)
	k := f.primary().Ref
	f.replica(k, "eu-west-1")
	f.replica(k, "ap-south-1")
	f.alias("alias/gone", f.key(k.in("eu-west-1")))
	f.alias("alias/stays", f.key(k))
	f.use(k.in("eu-west-1"), 1)
	require.NoError(t, f.Flush(t.Context()))
	f.scheduleDays(k.in("eu-west-1"), 7)
	f.now = f.now.AddDate(0, 0, 7)
	require.Equal(t, []string{"ap-south-1"}, f.key(k).Record.Shared.Replicas(f.now), "it is gone before it is destroyed")
	f.gone(k.in("eu-west-1"))
	for _, name := range f.recordNames("") {
		require.NotContains(t, name, "eu-west-1")
	}
	_, err := f.Primitive(t.Context(), f.key(k), f.key(k).Current())
	require.NoError(t, err)
	require.Equal(t, "eu-west-1", f.replica(k, "eu-west-1").Region, "it can be created again")
}

// Keys that are due at the same time are deleted in one sweep, related or not.
func TestRelatedKeysAreDueTogether(t *testing.T) {
	f := newFixture(t)
	k := f.primary().Ref
	single := []*Key{f.create(), f.create()}
	for _, region := range []string{"eu-west-1", "ap-south-1", "sa-east-1"} {
		f.replica(k, region)
		f.scheduleDays(k.in(region), 7)
	}
	for _, s := range single {
		f.scheduleDays(s.Ref, 7)
	}
	f.now = hour(7 * 24)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, []string{k.recordName()}, f.recordNames(keyPrefix))
}

// Related keys with more records than fit in one transaction are deleted in several. Wherever the
// process is killed between them, the store is consistent and the next one goes on.
func TestLargeRelatedKeysAreDestroyedInSeveralTransactions(t *testing.T) {
	killed := errors.New("killed")
	for n := 1; ; n++ {
		f := newFixture(t)
		k := f.primary().Ref
		f.replica(k, "eu-west-1")
		for range 2 * destroyBatch {
			_, err := f.RotateOnDemand(t.Context(), f.key(k), f.now)
			require.NoError(t, err)
		}
		for i := range 15 {
			f.alias(fmt.Sprintf("alias/%d", i), f.key(k.in("eu-west-1")))
			f.alias(fmt.Sprintf("alias/%d", i), f.key(k))
		}
		f.scheduleDays(k, 7)
		f.scheduleDays(k.in("eu-west-1"), 7)
		f.now = hour(20 * 24)
		commits := 0
		f.backend.before(func(keystore.Tx) error {
			if commits++; commits >= n {
				return killed
			}
			return nil
		})
		err := f.destroyDue(t.Context())
		f.backend.before(nil)
		require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
		if err == nil {
			require.Greater(t, n, 8, "it takes several transactions")
			return
		}
		require.ErrorIs(t, err, killed)
		next := f.open(f.backend)
		require.NoError(t, next.destroyDue(t.Context()))
		require.Empty(t, f.recordNames(""))
	}
}

// Once the deletion of the primary has begun, no process whose clock is behind brings a replica
// back.
func TestAReplicaDoesNotOutliveItsPrimary(t *testing.T) {
	f := newFixture(t)
	k := f.primary().Ref
	f.replica(k, "eu-west-1")
	f.scheduleDays(k, 7)
	f.scheduleDays(k.in("eu-west-1"), 7)
	behind := f.key(k.in("eu-west-1"))
	f.now = hour(7 * 24)
	require.Equal(t, PendingDeletion, f.key(k).State)
	f.now = hour(6 * 24)
	_, err := f.CancelDeletion(t.Context(), behind)
	require.ErrorIs(t, err, ErrConflict)
	f.gone(k.in("eu-west-1"))
}

// A reading is a Backend that calls a function of the test before each read of a record.
type reading struct {
	keystore.Backend
	before func(name string)
}

func (r *reading) Get(ctx context.Context, name string) (keystore.Record, error) {
	r.before(name)
	return r.Backend.Get(ctx, name)
}

// The two records of a key are read one after the other. A change in between is no damage.
func TestAChangeBetweenTheReadsOfAKeyIsNoDamage(t *testing.T) {
	for name, change := range map[string]func(f *fixture, k Ref){
		"deleted": func(f *fixture, k Ref) { f.scheduleDays(k, 0); f.gone(k) },
		"all deleted": func(f *fixture, k Ref) {
			f.scheduleDays(k, 0)
			f.gone(k)
			f.scheduleDays(k.in("us-east-1"), 0)
			f.gone(k.in("us-east-1"))
		},
		"created again": func(f *fixture, k Ref) {
			f.scheduleDays(k, 0)
			f.gone(k)
			f.replica(k.in("us-east-1"), k.Region)
		},
		"changed": func(f *fixture, k Ref) {
			_, err := f.Update(f.t.Context(), f.key(k), func(r *Record) { r.Disabled = true })
			require.NoError(f.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			k := f.primary().in("eu-west-1")
			f.replica(k.in("us-east-1"), k.Region)
			var once sync.Once
			other := f.open(&reading{f.backend, func(name string) {
				if strings.HasPrefix(name, sharedPrefix) {
					once.Do(func() { change(f, k) })
				}
			}})
			_, err := other.Key(t.Context(), k, f.now)
			require.NoError(t, err)
			f.keys.clear()
			want, err := f.Key(t.Context(), k, f.now)
			require.NoError(t, err)
			other.keys.clear()
			got, err := other.Key(t.Context(), k, f.now)
			require.NoError(t, err)
			require.Equal(t, want == nil, got == nil)
		})
	}
	t.Run("created", func(t *testing.T) {
		f := newFixture(t)
		k := f.primary().in("eu-west-1")
		var once sync.Once
		other := f.open(&reading{f.backend, func(name string) {
			if strings.HasPrefix(name, sharedPrefix) {
				once.Do(func() { f.replica(k.in("us-east-1"), k.Region) })
			}
		}})
		_, err := other.Key(t.Context(), k, f.now)
		require.ErrorIs(t, err, ErrConflict)
		got, err := other.Key(t.Context(), k, f.now)
		require.NoError(t, err)
		require.Equal(t, k, got.Ref)
	})
}

func TestALostRecordOfRelatedKeysIsNotAMissingKey(t *testing.T) {
	for name, lost := range map[string]func(k Ref) string{
		"a key":          func(k Ref) string { return k.recordName() },
		"what is shared": func(k Ref) string { return k.sharedName() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.damaged = true
			k := f.primary().Ref
			f.replica(k, "eu-west-1")
			f.commit(keystore.Tx{Deletes: []string{lost(k.in("eu-west-1"))}})
			_, err := f.Key(t.Context(), k.in("eu-west-1"), f.now)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
		})
	}
}

func TestCheckNoticesEveryFaultOfRelatedKeys(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	us := f.primary().Ref
	eu, ap := us.in("eu-west-1"), us.in("ap-south-1")
	f.replica(us, eu.Region)
	f.replica(us, ap.Region)
	_, err := f.RotateOnDemand(t.Context(), f.key(us), f.now)
	require.NoError(t, err)
	f.scheduleDays(us, 7)
	f.scheduleDays(ap, 7)
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	before := f.all()

	own := func(ref Ref, change func(*Record)) keystore.Tx {
		record, _, err := readRecord[Record](t.Context(), f.DB, ref.recordName())
		require.NoError(t, err)
		change(record)
		return keystore.Tx{Puts: []keystore.Put{{Key: ref.recordName(), Value: encodeRecord(record)}}}
	}
	shared := func(change func(*sharedRecord)) keystore.Tx {
		record, _, err := readRecord[sharedRecord](t.Context(), f.DB, us.sharedName())
		require.NoError(t, err)
		change(record)
		return keystore.Tx{Puts: []keystore.Put{{Key: us.sharedName(), Value: encodeRecord(record)}}}
	}
	material := f.key(us).Current().ID
	stranger := Ref{us.Account, us.Region, arn.NewKeyID(true)}
	faults := map[string]keystore.Tx{
		"a key that is not in the shared record":    shared(func(r *sharedRecord) { r.Keys = r.Keys[1:] }),
		"no key":                                    shared(func(r *sharedRecord) { r.Keys = nil }),
		"keys out of order":                         shared(func(r *sharedRecord) { slices.Reverse(r.Keys) }),
		"a key twice":                               shared(func(r *sharedRecord) { r.Keys = append(r.Keys, r.Keys[2]) }),
		"one more key":                              shared(func(r *sharedRecord) { r.Keys = append(r.Keys, RelatedKey{Region: "us-west-2"}) }),
		"a key in no possible Region":               shared(func(r *sharedRecord) { r.Keys = append(r.Keys, RelatedKey{Region: "~"}) }),
		"a primary elsewhere":                       shared(func(r *sharedRecord) { r.Primary = "us-west-2" }),
		"a primary that waits for others":           shared(func(r *sharedRecord) { r.Primary = eu.Region }),
		"a deletion of another date":                shared(func(r *sharedRecord) { r.Keys[0].DeletionDate = &f.now }),
		"a deletion that is not in the key":         shared(func(r *sharedRecord) { r.Keys[1].DeletionDate = &f.now }),
		"a deletion that is only in the key":        shared(func(r *sharedRecord) { r.Keys[0].DeletionDate = nil }),
		"a rotation that is paused":                 shared(func(r *sharedRecord) { r.Paused = true }),
		"a material that does not exist":            shared(func(r *sharedRecord) { r.Materials[0].ID = strings.Repeat("0", 64) }),
		"one material less":                         shared(func(r *sharedRecord) { r.Materials = r.Materials[1:] }),
		"a lost shared record":                      {Deletes: []string{us.sharedName()}},
		"a lost key":                                {Deletes: []string{eu.recordName()}},
		"a lost material":                           {Deletes: []string{us.sharedMaterialsName() + material}},
		"another material under its name":           {Puts: []keystore.Put{{Key: us.sharedMaterialsName() + material, Value: append([]byte{2}, make([]byte, 32)...)}}},
		"a material of one of the keys":             {Puts: []keystore.Put{{Key: us.materialName(material), Value: append([]byte{2}, make([]byte, 32)...)}}},
		"a material that the keys do not have":      {Puts: []keystore.Put{{Key: us.sharedMaterialsName() + strings.Repeat("0", 64), Value: []byte("\x02x")}}},
		"a material of keys that do not exist":      {Puts: []keystore.Put{{Key: stranger.sharedMaterialsName() + material, Value: []byte("\x02x")}}},
		"a material of no possible name":            {Puts: []keystore.Put{{Key: "sharedmaterial/1", Value: index}}},
		"a shared record of keys that do not exist": {Puts: []keystore.Put{{Key: stranger.sharedName(), Value: encodeRecord(sharedRecord{Shared: Shared{Primary: "us-east-1", Keys: []RelatedKey{{Region: "us-east-1"}}}})}}},
		"a shared record of no possible name":       {Puts: []keystore.Put{{Key: "shared/1", Value: index}}},
		"a key of another spec":                     own(eu, func(r *Record) { r.Spec, r.Usage = "RSA_2048", "SIGN_VERIFY" }),
		"a key of another origin":                   own(eu, func(r *Record) { r.Origin = "EXTERNAL" }),
		"a key that is no multi-Region key":         own(eu, func(r *Record) { r.MultiRegion = false }),
		"a replica that waits for others":           own(eu, func(r *Record) { r.DeletionWindow = 7 }),
		"a primary that waits for nobody":           own(us, func(r *Record) { r.DeletionWindow = 0 }),
		"a primary that waits and is deleted":       own(us, func(r *Record) { r.DeletionDate = &f.now }),
		"a disabled primary that is rotated":        own(us, func(r *Record) { r.Disabled = true }),
		"a waiting primary that is not looked at":   {Deletes: []string{us.dueName(overdue)}},
	}
	for name, tx := range faults {
		t.Run(name, func(t *testing.T) {
			f.requireFault(t, tx, before)
		})
	}
}

// The primary of related keys is found by their ID, once what is due for deletion is deleted.
func TestThePrimaryIsFoundByTheIDOfItsKey(t *testing.T) {
	f := newFixture(t)
	primary := func(ref Ref) *Key {
		k, err := f.Primary(t.Context(), ref, f.now)
		require.NoError(t, err)
		return k
	}
	k := f.primary().Ref
	require.Nil(t, primary(Ref{k.Account, k.Region, arn.NewKeyID(true)}))
	f.replica(k, "eu-west-1")
	require.Equal(t, k, primary(k.in("ap-south-1")).Ref)
	f.scheduleDays(k, 7)
	f.scheduleDays(k.in("eu-west-1"), 7)
	f.now = hour(14 * 24)
	require.Nil(t, primary(k.in("ap-south-1")))
	require.Empty(t, f.recordNames(""))
}
