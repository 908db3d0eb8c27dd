package keydb

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// Every record and index entry that is removed, added or altered is noticed, each by name.
func TestCheckNoticesEveryFault(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	k := f.create()
	k, err := f.RotateOnDemand(t.Context(), k, f.now)
	require.NoError(t, err)
	alias := f.alias("alias/a", k)
	dueKey := f.create()
	date := hour(24)
	f.schedule(dueKey.Ref, date)
	f.use(k.Ref, 1)
	require.NoError(t, f.Flush(t.Context()))
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	before := f.all()

	stranger := Ref{k.Account, k.Region, arn.NewKeyID(false)}
	for name, tx := range map[string]keystore.Tx{
		"an alias without its index entry":           {Deletes: []string{k.aliasName(alias.Name)}},
		"an index entry without its alias":           {Deletes: []string{alias.recordName()}},
		"one more index entry":                       {Puts: []keystore.Put{{Key: k.aliasName("alias/b"), Value: index}}},
		"an index entry of another key":              {Puts: []keystore.Put{{Key: dueKey.aliasName(alias.Name), Value: index}}},
		"an alias that points elsewhere":             {Puts: []keystore.Put{{Key: alias.recordName(), Value: encodeRecord(aliasRecord{Key: dueKey.ID})}}},
		"an alias of a key that does not exist":      {Puts: []keystore.Put{{Key: alias.recordName(), Value: encodeRecord(aliasRecord{Key: stranger.ID})}}},
		"an alias of no possible key":                {Puts: []keystore.Put{{Key: alias.recordName(), Value: encodeRecord(aliasRecord{Key: "x"})}}},
		"a key to be deleted without an index entry": {Deletes: []string{dueKey.dueName(date)}},
		"one more deletion":                          {Puts: []keystore.Put{{Key: k.dueName(date), Value: index}}},
		"a deletion at another time":                 {Puts: []keystore.Put{{Key: dueKey.dueName(date.Add(time.Hour)), Value: index}}},
		"a deletion of a key that does not exist":    {Puts: []keystore.Put{{Key: stranger.dueName(date), Value: index}}},
		"a lost material":                            {Deletes: []string{k.materialName(k.Materials[0].ID)}},
		"a material that the key does not have":      {Puts: []keystore.Put{{Key: k.materialName(strings.Repeat("0", 64)), Value: []byte("\x02x")}}},
		"another material under its name":            {Puts: []keystore.Put{{Key: k.materialName(k.Current().ID), Value: append([]byte{2}, make([]byte, 32)...)}}},
		"a material that is none":                    {Puts: []keystore.Put{{Key: k.materialName(k.Current().ID), Value: []byte("\x02short")}}},
		"a material of a key that does not exist":    {Puts: []keystore.Put{{Key: stranger.materialName(k.Current().ID), Value: []byte("\x02x")}}},
		"a lost key":                              {Deletes: []string{k.recordName()}},
		"a key of no possible kind":               {Puts: []keystore.Put{{Key: k.recordName(), Value: encodeRecord(Record{Spec: "X"})}}},
		"a last use of a key that does not exist": {Puts: []keystore.Put{{Key: stranger.lastUseName(), Value: encodeRecord(Use{})}}},
		"a last use that cannot be decoded":       {Puts: []keystore.Put{{Key: k.lastUseName(), Value: []byte("\x02x")}}},
		"an event that cannot be decoded":         {Puts: []keystore.Put{{Key: eventPrefix + "1/1/x", Value: []byte("\x02x")}}},
		"a key that is not counted":               {Deletes: []string{k.countName()}},
		"a wrong count":                           {Puts: []keystore.Put{{Key: k.countName(), Value: encodeRecord(keyCount{3})}}},
		"a count of no keys":                      {Puts: []keystore.Put{{Key: countsName("444455556666", k.Region) + "00", Value: encodeRecord(keyCount{1})}}},
		"a count of no possible name":             {Puts: []keystore.Put{{Key: "keycount/1", Value: encodeRecord(keyCount{1})}}},
		"a key event that cannot be decoded":      {Puts: []keystore.Put{{Key: keyEventPrefix + "1/1/x", Value: []byte("\x02x")}}},
		"a record of another kind":                {Puts: []keystore.Put{{Key: "secret/1", Value: index}}},
		"a key of no possible name":               {Puts: []keystore.Put{{Key: "key/1", Value: index}}},
		"a material of no possible name":          {Puts: []keystore.Put{{Key: "material/1", Value: index}}},
		"an alias of no possible name":            {Puts: []keystore.Put{{Key: "alias/1", Value: index}}},
	} {
		t.Run(name, func(t *testing.T) {
			f.requireFault(t, tx, before)
		})
	}
	t.Run("a damaged record", func(t *testing.T) {
		f.damage(alias.recordName())
		require.NotEmpty(t, slices.Collect(f.Check(t.Context(), nil)))
		f.restore(before)
	})
}

func (f *fixture) all() map[string][]byte {
	f.t.Helper()
	records := map[string][]byte{}
	for r, err := range f.records(f.t.Context(), "", "", 100) {
		require.NoError(f.t, err)
		records[r.Key] = r.Value
	}
	return records
}

// requireFault requires that Check finds the fault that tx makes, and nothing once the records are
// as before again.
func (f *fixture) requireFault(t *testing.T, tx keystore.Tx, before map[string][]byte) {
	t.Helper()
	f.commit(tx)
	found := slices.Collect(f.Check(t.Context(), nil))
	require.NotEmpty(t, found)
	for _, err := range found {
		require.ErrorIs(t, err, keystore.ErrCorrupt)
	}
	f.restore(before)
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
}

// restore makes the store hold the given records and no others.
func (f *fixture) restore(records map[string][]byte) {
	f.t.Helper()
	var tx keystore.Tx
	for name, err := range f.names(f.t.Context(), "", "", 100) {
		require.NoError(f.t, err)
		if records[name] == nil {
			tx.Deletes = append(tx.Deletes, name)
		}
	}
	for name, value := range records {
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: value})
	}
	f.commit(tx)
}

func TestCheckShowsItsProgress(t *testing.T) {
	f := newFixture(t)
	f.create()
	var progress []int
	for err := range f.Check(t.Context(), func(n int) { progress = append(progress, n) }) {
		t.Fatal(err)
	}
	require.Equal(t, []int{1, 2, 3}, progress)
}
