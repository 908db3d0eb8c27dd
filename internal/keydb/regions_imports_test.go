package keydb

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// externalRelated creates related keys in us-east-1, the primary, and eu-west-1, each with the
// first imported material.
func (f *fixture) externalRelated() (us, eu Ref) {
	f.t.Helper()
	us = f.primary(func(r *Record) { r.Origin = "EXTERNAL" }).Ref
	f.imports(us, 1, nil)
	eu = f.replica(us, "eu-west-1").Ref
	f.imports(eu, 1, nil)
	return us, eu
}

func TestEachRegionImportsItsOwnMaterial(t *testing.T) {
	f := newFixture(t)
	us := f.primary(func(r *Record) { r.Origin = "EXTERNAL" }).Ref
	f.imports(us, 1, nil)
	eu := f.replica(us, "eu-west-1")
	require.Equal(t, PendingImport, eu.State)
	require.Equal(t, f.key(us).Current().ID, eu.Current().ID, "it knows which material it lacks")
	require.NoError(t, f.RequireMaterial(t.Context(), eu, eu.Current()))
	f.imports(eu.Ref, 1, new(hour(5)))
	require.Equal(t, Enabled, f.key(eu.Ref).State)
	require.Len(t, f.recordNames(materialPrefix), 2)
	require.Empty(t, f.recordNames(sharedMaterialPrefix))

	f.now = hour(5) // expired in one Region
	require.Equal(t, PendingImport, f.key(eu.Ref).State)
	require.Equal(t, Enabled, f.key(us).State)
	_, err := f.DeleteMaterial(t.Context(), f.key(us), f.key(us).Current().ID)
	require.NoError(t, err)
	require.Empty(t, f.recordNames(materialPrefix))
	f.imports(eu.Ref, 1, nil)
	require.Equal(t, Enabled, f.key(eu.Ref).State)
	require.Equal(t, PendingImport, f.key(us).State)
}

func TestStagedMaterialIsAwaitedInEachRegion(t *testing.T) {
	f := newFixture(t)
	us, eu := f.externalRelated()
	everywhere := func(want bool) {
		t.Helper()
		for _, ref := range []Ref{us, eu} {
			require.Equal(t, want, f.key(ref).Record.Shared.StagedEverywhere(f.now))
		}
	}
	staged := MaterialID(us.ID, importedBytes(2))
	f.imports(us, 2, nil)
	everywhere(false)
	require.Equal(t, staged, f.key(eu).Record.Staged.ID)
	require.True(t, f.key(eu).Record.Staged.Absent)
	require.Equal(t, Enabled, f.key(eu).State)
	f.imports(eu, 2, new(hour(7)))
	everywhere(true)
	_, err := f.DeleteMaterial(t.Context(), f.key(eu), staged)
	require.NoError(t, err)
	everywhere(false)
	require.Equal(t, staged, f.key(eu).Record.Staged.ID, "it may be imported again")
	f.imports(eu, 2, new(hour(7)))
	f.replica(us, "ap-south-1")
	everywhere(false)
	f.scheduleDays(us.in("ap-south-1"), 0)
	everywhere(true)

	_, err = f.RotateOnDemand(t.Context(), f.key(us), f.now)
	require.NoError(t, err)
	for _, ref := range []Ref{us, eu} {
		k := f.key(ref)
		require.Equal(t, staged, k.Current().ID)
		require.Equal(t, Enabled, k.State)
		require.Nil(t, k.Record.Staged)
		require.False(t, k.Record.Shared.Keys[0].Staged)
		_, err := f.Primitive(t.Context(), k, k.Current())
		require.NoError(t, err)
	}
	f.now = hour(7) // the sweep finds what has expired, though the rotation was in another Region
	require.NoError(t, f.destroyDue(t.Context()))
	require.NotContains(t, f.recordNames(materialPrefix), eu.materialName(staged))
	require.Equal(t, PendingImport, f.key(eu).State)
	require.Equal(t, Enabled, f.key(us).State)
}

// What the primary drops is deleted in all Regions, wherever the process is killed in between.
func TestAStagedMaterialThatIsDroppedIsDeletedInAllRegions(t *testing.T) {
	killed := errors.New("killed")
	looks := map[string]func(f *fixture, eu Ref){
		"by the next sweep": func(f *fixture, _ Ref) { require.NoError(f.t, f.open(f.backend).destroyDue(f.t.Context())) },
		"by the next call":  func(f *fixture, eu Ref) { f.key(eu) },
		"by a sweep of the same process": func(f *fixture, _ Ref) {
			require.NoError(f.t, f.destroyDue(f.t.Context()))
		},
	}
	for name, look := range looks {
		for n := 1; n <= 3; n++ { // killed at the first commit, at the second, not at all
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				f := newFixture(t)
				us, eu := f.externalRelated()
				staged := MaterialID(us.ID, importedBytes(2))
				f.imports(us, 2, nil)
				f.imports(eu, 2, new(hour(9)))
				k, commits := f.key(us), 0
				f.backend.before(func(keystore.Tx) error {
					if commits++; commits >= n {
						return killed
					}
					return nil
				})
				_, err := f.DeleteMaterial(t.Context(), k, staged)
				f.backend.before(nil)
				require.Equal(t, n == 1, err != nil)
				require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
				if n == 1 {
					_, err := f.DeleteMaterial(t.Context(), f.key(us), staged)
					require.NoError(t, err)
				}
				look(f, eu)
				f.keys.clear()
				require.Equal(t, []string{eu.materialName(MaterialID(us.ID, importedBytes(1))), us.materialName(MaterialID(us.ID, importedBytes(1)))}, f.recordNames(materialPrefix))
				require.Empty(t, f.recordNames(duePrefix))
				require.Equal(t, Enabled, f.key(eu).State)
				require.Nil(t, f.key(eu).Record.Staged)
				f.imports(us, 2, nil)
				require.True(t, f.key(eu).Record.Staged.Absent)
			})
		}
	}
}

// A change of a key that could not delete what was dropped does not forget it.
func TestWhatWasDroppedIsNotForgotten(t *testing.T) {
	f := newFixture(t)
	us, eu := f.externalRelated()
	staged := MaterialID(us.ID, importedBytes(2))
	f.imports(us, 2, nil)
	f.imports(eu, 2, nil)
	commits := 0
	f.backend.before(func(keystore.Tx) error {
		if commits++; commits > 1 {
			return keystore.ErrFull
		}
		return nil
	})
	_, err := f.DeleteMaterial(t.Context(), f.key(us), staged)
	require.NoError(t, err)
	late := f.key(eu)
	require.Len(t, late.Record.Dropped, 1)
	f.backend.before(nil)
	late, err = f.Update(t.Context(), late, func(r *Record) { r.Description = "changed" })
	require.NoError(t, err)
	require.Len(t, late.Record.Dropped, 1)
	require.Empty(t, f.key(eu).Record.Dropped)
	require.NotContains(t, f.recordNames(materialPrefix), eu.materialName(staged))
}

// The transaction that drops staged material fits however many Regions have it.
func TestStagedMaterialOfManyRegionsIsDropped(t *testing.T) {
	f := newFixture(t)
	us, _ := f.externalRelated()
	f.imports(us, 2, nil)
	for i := range 60 {
		ref := f.replica(us, fmt.Sprintf("eu-north-%d", i)).Ref
		f.imports(ref, 2, nil)
	}
	_, err := f.DeleteMaterial(t.Context(), f.key(us), MaterialID(us.ID, importedBytes(2)))
	require.NoError(t, err)
	require.Len(t, f.recordNames(materialPrefix), 2)
}

func TestImportedRelatedKeysLeaveNothing(t *testing.T) {
	f := newFixture(t)
	us, eu := f.externalRelated()
	f.imports(us, 2, new(hour(30*24)))
	f.imports(eu, 2, new(hour(30*24)))
	f.scheduleDays(us, 7)
	f.scheduleDays(eu, 7)
	f.now = hour(7 * 24)
	require.NoError(t, f.destroyDue(t.Context()))
	for _, name := range f.recordNames("") {
		require.NotContains(t, name, "eu-west-1")
	}
	f.now = hour(14 * 24)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Empty(t, f.recordNames(""))
}

func TestCheckNoticesEveryFaultOfImportedRelatedKeys(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	us, eu := f.externalRelated()
	f.imports(us, 2, nil)
	f.imports(eu, 2, new(hour(9)))
	// In ap-south-1 the deletion of what was dropped has failed.
	ap := f.replica(us, "ap-south-1").Ref
	f.imports(ap, 2, nil)
	staged := MaterialID(us.ID, importedBytes(2))
	commits := 0
	f.backend.before(func(keystore.Tx) error {
		if commits++; commits > 1 {
			return keystore.ErrFull
		}
		return nil
	})
	_, err := f.DeleteMaterial(t.Context(), f.key(us), staged)
	require.NoError(t, err)
	f.backend.before(nil)
	f.key(eu)
	f.imports(us, 3, nil)
	f.imports(eu, 3, new(hour(9)))
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
	third := MaterialID(us.ID, importedBytes(3))
	for name, tx := range map[string]keystore.Tx{
		"a lost copy":                         {Deletes: []string{eu.materialName(third)}},
		"a copy that the key does not have":   own(eu, func(r *Record) { r.Imported = r.Imported[:1] }),
		"a copy that is not there":            own(eu, func(r *Record) { r.Imported[1].ID = staged }),
		"another copy under its name":         {Puts: []keystore.Put{{Key: eu.materialName(third), Value: append([]byte{2}, make([]byte, 32)...)}}},
		"an expiry that is not in the index":  {Deletes: []string{eu.dueName(hour(9))}},
		"an expiry that is only in the index": {Puts: []keystore.Put{{Key: us.dueName(hour(9)), Value: index}}},
		"a copy to delete that nobody finds":  {Deletes: []string{ap.dueName(overdue)}},
		"a key to look at without a reason":   {Puts: []keystore.Put{{Key: us.dueName(overdue), Value: index}}},
		"a staged material nowhere":           shared(func(r *sharedRecord) { r.Keys[1].Staged = false }),
		"a staged material everywhere":        shared(func(r *sharedRecord) { r.Keys[0].Staged = true }),
		"no staged material":                  shared(func(r *sharedRecord) { r.Staged = nil }),
	} {
		t.Run(name, func(t *testing.T) {
			f.requireFault(t, tx, before)
		})
	}
}

func TestANewReplicaKnowsTheExpiryOfItsPrimary(t *testing.T) {
	f := newFixture(t)
	us := f.primary(func(r *Record) { r.Origin = "EXTERNAL" }).Ref
	f.imports(us, 1, new(hour(9)))
	until := f.now.Add(time.Second)
	eu, err := f.Replicate(t.Context(), f.key(us), "eu-west-1", &Record{Created: f.now, Creating: &until, Policy: validKeyPolicy}, CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, hour(9), *eu.Record.PrimaryValidTo)
	require.Empty(t, eu.dueNames(eu.Record), "it does not expire")
}

// Imported material can come with a new key and with its replica. Then both are in the index of
// what is due, and each has the bytes.
func TestKeysAreCreatedWithImportedMaterial(t *testing.T) {
	f := newFixture(t)
	ref := f.primary().Ref
	ref.ID = "mrk-00000000000000000000000000000001"
	record := &Record{
		Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: "EXTERNAL", Manager: "CUSTOMER", Created: f.now, MultiRegion: true, Policy: validKeyPolicy,
	}
	options := CreateOptions{Materials: [][]byte{importedBytes(1), importedBytes(2)}, ValidTo: new(hour(5)), MaterialDescription: "second"}
	us, err := f.Create(t.Context(), ref, record, options)
	require.NoError(t, err)
	options.ValidTo = new(hour(7))
	eu, err := f.Replicate(t.Context(), us, "eu-west-1", &Record{Created: f.now, Policy: validKeyPolicy}, options)
	require.NoError(t, err)
	for _, k := range []*Key{us, eu} {
		require.Equal(t, Enabled, k.State)
		require.Nil(t, k.Record.Materials[0].ValidTo)
		require.Equal(t, "second", k.Record.Materials[1].Description)
		_, err := f.Primitive(t.Context(), k, k.Current())
		require.NoError(t, err)
	}
	require.Len(t, f.recordNames(materialPrefix), 4)
	require.Len(t, f.recordNames(duePrefix), 2)
	f.now = hour(5)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, PendingImport, f.key(us.Ref).State)
	require.Equal(t, Enabled, f.key(eu.Ref).State)
	f.now = hour(7)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, PendingImport, f.key(eu.Ref).State)
	require.Len(t, f.recordNames(materialPrefix), 2)
	require.Empty(t, f.recordNames(duePrefix))
}
