package keydb

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

const (
	alice = "arn:aws:iam::111122223333:user/alice"
	bob   = "arn:aws:iam::444455556666:user/bob"
)

func newGrantID() string {
	var id [32]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// grant creates a grant to alice that bob can retire, or returns the one of the same name.
func (f *fixture) grant(ref Ref, change ...func(*GrantRecord)) *Grant {
	f.t.Helper()
	record := &GrantRecord{Grantee: alice, Retiring: bob, Issuer: "arn:aws:iam::111122223333:root", Operations: []string{"Decrypt"}, Created: f.now}
	for _, c := range change {
		c(record)
	}
	g, err := f.NamedGrant(f.t.Context(), ref, record)
	require.NoError(f.t, err)
	if g != nil {
		return g
	}
	g, err = f.CreateGrant(f.t.Context(), f.key(ref), newGrantID(), record)
	require.NoError(f.t, err)
	return g
}

func ids(t *testing.T, grants iter.Seq2[*Grant, error]) (ids []string) {
	t.Helper()
	for g, err := range grants {
		require.NoError(t, err)
		ids = append(ids, g.ID)
	}
	return ids
}

func TestGrantsAreFoundByKeyGranteeAndRetiringPrincipal(t *testing.T) {
	f := newFixture(t)
	one, two := f.create(), f.create()
	a := f.grant(one.Ref)
	b := f.grant(one.Ref, func(g *GrantRecord) { g.Grantee, g.Retiring = bob, "" })
	c := f.grant(two.Ref)
	service := f.grant(two.Ref, func(g *GrantRecord) {
		g.Grantee, g.GranteeService, g.Retiring, g.RetiringService = "", "dynamodb.amazonaws.com", "", "dynamodb.amazonaws.com"
	})
	require.ElementsMatch(t, []string{a.ID, b.ID}, ids(t, f.Grants(t.Context(), one.Ref, "", 1)))
	require.Equal(t, []string{a.ID}, ids(t, f.GrantsTo(t.Context(), one.Ref, alice, "", 10)))
	require.Equal(t, []string{service.ID}, ids(t, f.GrantsTo(t.Context(), two.Ref, "dynamodb.amazonaws.com", "", 10)))
	require.ElementsMatch(t, []string{a.ID, c.ID}, ids(t, f.RetirableGrants(t.Context(), "us-east-1", bob, "", 1, f.now)))
	require.Empty(t, ids(t, f.RetirableGrants(t.Context(), "eu-west-1", bob, "", 10, f.now)))
	require.Equal(t, []string{service.ID}, ids(t, f.RetirableGrants(t.Context(), "us-east-1", "dynamodb.amazonaws.com", "", 10, f.now)))

	all := ids(t, f.RetirableGrants(t.Context(), "us-east-1", bob, "", 10, f.now))
	first := a
	if all[0] != a.ID {
		first = c
	}
	require.Equal(t, all[1:], ids(t, f.RetirableGrants(t.Context(), "us-east-1", bob, first.RetirableKey(), 10, f.now)))

	require.NoError(t, f.DeleteGrant(t.Context(), f.key(one.Ref), a))
	require.Equal(t, []string{b.ID}, ids(t, f.Grants(t.Context(), one.Ref, "", 10)))
	require.Equal(t, []string{c.ID}, ids(t, f.RetirableGrants(t.Context(), "us-east-1", bob, "", 10, f.now)))
	require.ErrorIs(t, f.DeleteGrant(t.Context(), f.key(one.Ref), a), ErrConflict, "it is deleted already")
	require.Equal(t, 1, f.key(one.Ref).Record.Grants)
}

func TestAListOfGrantsReadsNoOthers(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	k := f.create()
	mine := f.grant(k.Ref)
	other := f.grant(k.Ref, func(g *GrantRecord) { g.Grantee, g.Retiring = bob, alice })
	f.commit(keystore.Tx{Puts: []keystore.Put{{Key: k.grantName(other.ID), Value: []byte{recordVersion, '{'}}}})
	require.Equal(t, []string{mine.ID}, ids(t, f.GrantsTo(t.Context(), k.Ref, alice, "", 10)))
	require.Equal(t, []string{mine.ID}, ids(t, f.RetirableGrants(t.Context(), "us-east-1", bob, "", 10, f.now)))
	for _, err := range f.GrantsTo(t.Context(), k.Ref, bob, "", 10) {
		require.ErrorIs(t, err, keystore.ErrCorrupt)
	}
}

func TestANamedGrantIsCreatedOnce(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	named := func(g *GrantRecord) { g.Name, g.ContextSubset = "n", map[string]string{"a": "1", "b": "2"} }
	first := f.grant(k.Ref, named)
	f.now = hour(1)
	again := f.grant(k.Ref, named)
	require.Equal(t, first.ID, again.ID)
	require.Equal(t, hour(0), again.Created)
	other := f.grant(k.Ref, named, func(g *GrantRecord) { g.Operations = []string{"Encrypt", "Decrypt"} })
	require.NotEqual(t, first.ID, other.ID)
	reordered := f.grant(k.Ref, named, func(g *GrantRecord) { g.Operations = []string{"Decrypt", "Encrypt"} })
	require.Equal(t, other.ID, reordered.ID)
	require.NotEqual(t, f.grant(k.Ref).ID, f.grant(k.Ref).ID, "without a name each is a new one")
	require.NoError(t, f.DeleteGrant(t.Context(), f.key(k.Ref), first))
	require.NotEqual(t, first.ID, f.grant(k.Ref, named).ID)
}

func TestAKeyIsDestroyedWithItsGrants(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	for i := range 3*destroyBatch + 1 {
		f.grant(k.Ref, func(g *GrantRecord) { g.Name = fmt.Sprint(i) })
	}
	kept := f.create()
	f.grant(kept.Ref)
	f.schedule(k.Ref, hour(24))
	f.now = hour(24)
	killed := errors.New("killed")
	commits := 0
	f.backend.before(func(keystore.Tx) error {
		if commits++; commits == 4 {
			return killed
		}
		return nil
	})
	_, err := f.Key(t.Context(), k.Ref, f.now)
	require.ErrorIs(t, err, killed)
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	f.backend.before(nil)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Len(t, f.recordNames(grantPrefix), 1)
	require.Len(t, f.recordNames(granteePrefix), 1)
	require.Len(t, f.recordNames(retirablePrefix), 1)
	require.Empty(t, f.recordNames(grantNamePrefix))
}

func TestAKeyIsDestroyedWithAllEntriesOfADamagedGrant(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	var damaged keystore.Tx
	for i := range destroyBatch {
		g := f.grant(k.Ref, func(g *GrantRecord) { g.Name = fmt.Sprint(i) })
		if i%2 == 0 {
			damaged.Puts = append(damaged.Puts, keystore.Put{Key: k.grantName(g.ID), Value: []byte{recordVersion, '{'}})
		}
	}
	f.commit(damaged)
	f.schedule(k.Ref, hour(24))
	f.now = hour(24)
	require.NoError(t, f.destroyDue(t.Context()))
	for _, prefix := range []string{keyPrefix, grantPrefix, granteePrefix, grantNamePrefix, retirablePrefix} {
		require.Empty(t, f.recordNames(prefix), prefix)
	}
}

func TestCheckNoticesFaultsOfGrants(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	k := f.create()
	g := f.grant(k.Ref, func(g *GrantRecord) { g.Name = "n" })
	other := f.grant(k.Ref, func(g *GrantRecord) { g.Grantee = bob })
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	before := f.all()
	names := g.recordNames()
	require.Len(t, names, 4)
	for name, tx := range map[string]keystore.Tx{
		"no grant":                    {Deletes: names[:1]},
		"no entry for its grantee":    {Deletes: names[1:2]},
		"no entry for its name":       {Deletes: names[2:3]},
		"no entry for who retires it": {Deletes: names[3:4]},
		"an entry of another grantee": {Puts: []keystore.Put{{Key: k.granteeName(alice) + other.ID, Value: index}}},
		"a name of another grant":     {Puts: []keystore.Put{{Key: names[2], Value: encodeRecord(grantID{other.ID})}}},
		"an entry of no grant":        {Puts: []keystore.Put{{Key: retirableName("us-east-1", bob) + k.Account + "/" + k.ID + "/" + newGrantID(), Value: index}}},
		"one that is not counted":     {Puts: []keystore.Put{{Key: k.recordName(), Value: encodeRecord(k.Record)}}},
		"no possible name":            {Puts: []keystore.Put{{Key: "grant/x", Value: index}}},
	} {
		t.Run(name, func(t *testing.T) {
			f.commit(tx)
			require.NotEmpty(t, slices.Collect(f.Check(t.Context(), nil)))
			f.restore(before)
			require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
		})
	}
}

func TestADamagedGrantCanBeRevoked(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, record string){
		"undecodable": func(f *fixture, record string) {
			f.commit(keystore.Tx{Puts: []keystore.Put{{Key: record, Value: []byte{recordVersion, '{'}}}})
		},
		"not authentic": func(f *fixture, record string) { f.damage(record) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t) // which is checked in the end
			k := f.create()
			kept := f.grant(k.Ref, func(g *GrantRecord) { g.Name = "kept" })
			g := f.grant(k.Ref, func(g *GrantRecord) { g.Name = "damaged" })
			damage(f, k.grantName(g.ID))
			exists, err := f.HasGrant(t.Context(), k.Ref, g.ID)
			require.NoError(t, err)
			require.True(t, exists)
			_, err = f.Grant(t.Context(), k.Ref, g.ID)
			require.ErrorIs(t, err, keystore.ErrCorrupt)

			require.NoError(t, f.RevokeGrant(t.Context(), f.key(k.Ref), g.ID))
			require.Equal(t, []string{kept.ID}, ids(t, f.Grants(t.Context(), k.Ref, "", 10)))
			require.Equal(t, 1, f.key(k.Ref).Record.Grants)
			for _, prefix := range []string{grantPrefix, granteePrefix, grantNamePrefix, retirablePrefix} {
				require.Len(t, f.recordNames(prefix), 1, prefix)
			}
			exists, err = f.HasGrant(t.Context(), k.Ref, g.ID)
			require.NoError(t, err)
			require.False(t, exists)
			require.ErrorIs(t, f.RevokeGrant(t.Context(), f.key(k.Ref), g.ID), ErrConflict)
		})
	}
}

// The index names grantees by hashes: an entry whose grant is to somebody else allows nothing.
func TestCandidatesAreGrantsToTheGrantee(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	k := f.create()
	mine := f.grant(k.Ref)
	other := f.grant(k.Ref, func(g *GrantRecord) { g.Grantee, g.ContextSubset = bob, map[string]string{"a": "1"} })
	f.commit(keystore.Tx{Puts: []keystore.Put{{Key: k.granteeName(alice) + other.ID, Value: index}}})
	for _, all := range []bool{false, true} {
		var candidates []string
		require.NoError(t, f.Candidates(t.Context(), f.key(k.Ref), alice, map[string]string{"a": "1"}, all, func(g *Grant) bool {
			candidates = append(candidates, g.ID)
			return true
		}))
		require.Equal(t, []string{mine.ID}, candidates)
	}
}

// Of many grants, those that the encryption context can meet are all found, in whatever bucket they
// are, and no more are looked at than those of its pairs.
func TestCandidatesOfAnEncryptionContext(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	constraints := []map[string]string{nil, {"a": "1"}, {"a": "2"}, {"a": "1", "b": "1"}, {"B": "2"}, {"a": "1", "c": "3"}}
	name := map[string]int{}
	for i, pairs := range constraints {
		for range 2 { // of Equals and of Subset
			name[f.grant(k.Ref, func(g *GrantRecord) { g.ContextSubset = pairs }).ID] = i
			name[f.grant(k.Ref, func(g *GrantRecord) { g.ContextEquals = pairs }).ID] = i
		}
	}
	for _, tt := range []struct {
		context   map[string]string
		all       bool
		must, may []int
	}{
		{nil, false, []int{0}, nil},
		{map[string]string{"a": "1"}, false, []int{0, 1}, []int{3, 5}},
		{map[string]string{"A": "1", "b": "1"}, false, []int{0, 1, 3}, []int{5}},
		{map[string]string{"b": "2", "x": "y"}, false, []int{0, 4}, nil},
		{map[string]string{"a": "9"}, false, []int{0}, nil},
		{nil, true, []int{0, 1, 2, 3, 4, 5}, nil},
	} {
		found := map[int]int{}
		require.NoError(t, f.Candidates(t.Context(), f.key(k.Ref), alice, tt.context, tt.all, func(g *Grant) bool {
			found[name[g.ID]]++
			return true
		}))
		for i := range constraints {
			switch {
			case slices.Contains(tt.must, i):
				require.Equal(t, 4, found[i], "%v: %v", tt.context, constraints[i])
			case !slices.Contains(tt.may, i):
				require.Zero(t, found[i], "%v: %v", tt.context, constraints[i])
			}
		}
	}
	require.NoError(t, f.Candidates(t.Context(), f.key(k.Ref), bob, nil, true, func(*Grant) bool { t.Error("no grant is to bob"); return true }))
}

// However many grantees ask, and whatever grants they have, a key keeps a bounded number of them.
func TestTheGrantsThatAKeyKeepsAreBounded(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.grant(k.Ref)
	f.grant(k.Ref)
	k = f.key(k.Ref)
	find := func(grantee string) {
		require.NoError(t, f.Candidates(t.Context(), k, grantee, nil, true, func(*Grant) bool { return true }))
	}
	for i := range cachedGrantees + 1 {
		find(fmt.Sprint("arn:aws:iam::111122223333:user/", i))
	}
	require.Equal(t, 1, len(k.grants.sets))
	find(alice)
	require.Equal(t, 2, len(k.grants.sets))
	require.Equal(t, 2, k.grants.size)
	k.grants.size = cachedGrants - 1
	find(bob) // who has none
	require.Equal(t, 3, len(k.grants.sets))
	delete(k.grants.sets, alice)
	find(alice)
	require.Equal(t, 1, len(k.grants.sets))
	require.Equal(t, 2, k.grants.size)
}
