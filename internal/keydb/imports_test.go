package keydb

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// createExternal creates a symmetric key without material.
func (f *fixture) createExternal() *Key {
	f.t.Helper()
	return f.create(func(r *Record) { r.Origin = "EXTERNAL" })
}

func importedBytes(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// imports imports the n-th material. A nil end means that it does not expire.
func (f *fixture) imports(ref Ref, n byte, end *time.Time) *Key {
	f.t.Helper()
	k, err := f.Import(f.t.Context(), f.key(ref), ImportedMaterial{Bytes: importedBytes(n), ValidTo: end})
	require.NoError(f.t, err)
	return k
}

func TestMaterialIsImportedAndDeleted(t *testing.T) {
	f := newFixture(t)
	k := f.createExternal()
	require.Equal(t, PendingImport, k.State)
	require.Empty(t, f.recordNames(materialPrefix), "none was generated")
	k = f.imports(k.Ref, 1, nil)
	require.Equal(t, Enabled, k.State)
	before, err := f.Primitive(t.Context(), k, k.Current())
	require.NoError(t, err)
	sealed, err := before.(crypto.AEAD).Encrypt([]byte("text"), nil)
	require.NoError(t, err)

	present := k.Current()
	k, err = f.DeleteMaterial(t.Context(), k, k.Current().ID)
	require.NoError(t, err)
	require.Equal(t, PendingImport, k.State)
	require.NotSame(t, present, k.Current(), "what is known of its bytes is forgotten")
	require.Empty(t, f.recordNames(materialPrefix))
	_, err = before.(crypto.AEAD).Decrypt(sealed, nil)
	require.ErrorIs(t, err, crypto.ErrDestroyed)
	require.NoError(t, f.RequireMaterial(t.Context(), k, k.Current()), "it is not lost")

	k = f.imports(k.Ref, 1, nil)
	after, err := f.Primitive(t.Context(), k, k.Current())
	require.NoError(t, err)
	opened, err := after.(crypto.AEAD).Decrypt(sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "text", string(opened))
}

// A process that still has the snapshot from before a deletion does not find the material.
func TestADeletedMaterialIsNotLoadedByAStaleSnapshot(t *testing.T) {
	f := newFixture(t)
	k := f.imports(f.createExternal().Ref, 1, nil)
	other := f.open(f.backend)
	stale, err := other.Key(t.Context(), k.Ref, f.now)
	require.NoError(t, err)
	_, err = f.DeleteMaterial(t.Context(), k, k.Current().ID)
	require.NoError(t, err)
	_, err = other.Primitive(t.Context(), stale, stale.Current())
	require.ErrorIs(t, err, ErrConflict)
}

func TestASecondStagedMaterialIsRefused(t *testing.T) {
	f := newFixture(t)
	k := f.imports(f.createExternal().Ref, 1, nil)
	k = f.imports(k.Ref, 2, nil)
	_, err := f.Import(t.Context(), k, ImportedMaterial{Bytes: importedBytes(3)})
	require.Error(t, err)
	require.Len(t, f.recordNames(materialPrefix), 2)
}

func TestExpiryIsInTheIndexOfWhatIsDue(t *testing.T) {
	f := newFixture(t)
	k := f.createExternal()
	f.imports(k.Ref, 1, new(hour(3)))
	require.Equal(t, []string{k.dueName(hour(3))}, f.recordNames(duePrefix))
	f.imports(k.Ref, 1, new(hour(2)))
	require.Equal(t, []string{k.dueName(hour(2))}, f.recordNames(duePrefix), "the entry moves")
	f.imports(k.Ref, 2, new(hour(1)))
	require.Equal(t, []string{k.dueName(hour(2))}, f.recordNames(duePrefix), "a staged material has none")
	f.schedule(k.Ref, hour(2))
	require.Equal(t, []string{k.dueName(hour(2))}, f.recordNames(duePrefix), "both are due at the same time")
	_, err := f.CancelDeletion(t.Context(), f.key(k.Ref))
	require.NoError(t, err)
	require.Equal(t, []string{k.dueName(hour(2))}, f.recordNames(duePrefix))
	_, err = f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
	require.NoError(t, err)
	require.Equal(t, []string{k.dueName(hour(1))}, f.recordNames(duePrefix), "it has become permanent")

	// Nobody looks at the key: the sweep deletes what has expired, one after the other.
	f.now = hour(1)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, []string{k.materialName(MaterialID(k.ID, importedBytes(1)))}, f.recordNames(materialPrefix))
	require.Equal(t, []string{k.dueName(hour(2))}, f.recordNames(duePrefix))
	f.now = hour(2)
	require.NoError(t, f.destroyDue(t.Context()))
	require.Empty(t, f.recordNames(materialPrefix))
	require.Empty(t, f.recordNames(duePrefix))
	require.Equal(t, PendingImport, f.key(k.Ref).State)
	require.False(t, f.key(k.Ref).Record.Destroying)
}

// Expired material is not used, even if the store cannot delete it.
func TestExpiredMaterialIsNotUsedWhileTheStoreCannotBeWritten(t *testing.T) {
	f := newFixture(t)
	k := f.imports(f.createExternal().Ref, 1, new(hour(1)))
	refused := errors.New("refused")
	f.backend.before(func(keystore.Tx) error { return refused })
	f.now = hour(1)
	_, err := f.Key(t.Context(), k.Ref, f.now)
	require.ErrorIs(t, err, refused)
	f.backend.before(nil)
	require.Equal(t, PendingImport, f.key(k.Ref).State)
}

// Whenever the process is killed, the store is consistent, and the next call ends the work.
func TestEachChangeOfMaterialIsOneTransaction(t *testing.T) {
	for name, change := range map[string]func(f *fixture, k *Key) error{
		"an import": func(f *fixture, k *Key) error {
			_, err := f.Import(t.Context(), k, ImportedMaterial{Bytes: importedBytes(9), ValidTo: new(hour(5))})
			return err
		},
		"a deletion": func(f *fixture, k *Key) error {
			_, err := f.DeleteMaterial(t.Context(), k, k.Current().ID)
			return err
		},
		"a deletion of staged material": func(f *fixture, k *Key) error {
			_, err := f.DeleteMaterial(t.Context(), k, k.Record.Staged.ID)
			return err
		},
		"an expiry": func(f *fixture, k *Key) error {
			f.now = hour(3)
			_, err := f.Key(t.Context(), k.Ref, f.now)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			k := f.imports(f.createExternal().Ref, 1, new(hour(3)))
			if name != "an import" {
				k = f.imports(k.Ref, 2, nil)
			}
			before, now := f.all(), f.now
			killed := errors.New("killed")
			commits := 0
			f.backend.before(func(tx keystore.Tx) error {
				commits++
				if name != "an import" {
					require.True(t, tx.Scrub, "nothing readable is left of the material")
				}
				return killed
			})
			require.ErrorIs(t, change(f, f.key(k.Ref)), killed)
			f.backend.before(nil)
			require.Equal(t, 1, commits)
			require.Equal(t, before, f.all())
			f.now = now
			require.NoError(t, change(f, f.key(k.Ref)))
			require.NotEqual(t, before, f.all())
		})
	}
}

func TestCheckNoticesEveryFaultOfImports(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	k := f.imports(f.createExternal().Ref, 1, new(hour(3)))
	k = f.imports(k.Ref, 2, new(hour(5)))
	absent := f.imports(f.createExternal().Ref, 1, nil)
	absent, err := f.DeleteMaterial(t.Context(), absent, absent.Current().ID)
	require.NoError(t, err)
	_, err = f.SealToken(t.Context(), k.Ref, []byte("x"), f.now)
	require.NoError(t, err)
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	before := f.all()
	for name, tx := range map[string]keystore.Tx{
		"an expiry without an index entry": {Deletes: []string{k.dueName(hour(3))}},
		"an expiry at another time":        {Puts: []keystore.Put{{Key: k.dueName(hour(4)), Value: index}}},
		"an expiry of staged material":     {Puts: []keystore.Put{{Key: k.dueName(hour(5)), Value: index}}},
		"lost material":                    {Deletes: []string{k.materialName(k.Current().ID)}},
		"lost staged material":             {Deletes: []string{k.materialName(k.Record.Staged.ID)}},
		"staged material that is none":     {Puts: []keystore.Put{{Key: k.materialName(k.Record.Staged.ID), Value: []byte("\x02short")}}},
		"material that should be deleted": {Puts: []keystore.Put{{Key: absent.materialName(absent.Current().ID),
			Value: append([]byte{recordVersion}, importedBytes(1)...)}}},
		"a token key that is none":          {Puts: []keystore.Put{{Key: tokenKeysName, Value: []byte("\x02short")}}},
		"a token key under another name":    {Puts: []keystore.Put{{Key: tokenKeysName + "/x", Value: append([]byte{recordVersion}, importedBytes(1)...)}}},
		"a material under a name of no key": {Puts: []keystore.Put{{Key: Ref{k.Account, k.Region, arn.NewKeyID(false)}.materialName(strings.Repeat("0", 64)), Value: index}}},
	} {
		t.Run(name, func(t *testing.T) {
			f.requireFault(t, tx, before)
		})
	}
}

// All processes that share the store seal tokens with one key, whoever is first.
func TestTokensAreSealedForOneKeyByAllProcesses(t *testing.T) {
	f := newFixture(t)
	k, other := f.createExternal(), f.createExternal()
	_, err := f.OpenToken(t.Context(), k.Ref, []byte{tokenVersion}, f.now)
	require.ErrorIs(t, err, crypto.ErrDecrypt)
	require.Empty(t, f.recordNames(tokenKeysName), "a token that is offered creates no key")

	second := f.open(f.backend)
	raced := false
	f.backend.before(func(tx keystore.Tx) error {
		if !raced && len(tx.Puts) == 1 && tx.Puts[0].Key == tokenKeysName {
			raced = true
			_, err := second.SealToken(t.Context(), other.Ref, []byte("theirs"), f.now)
			require.NoError(t, err)
		}
		return nil
	})
	token, err := f.SealToken(t.Context(), k.Ref, []byte("ours"), f.now)
	require.NoError(t, err)
	require.True(t, raced)
	f.backend.before(func(keystore.Tx) error { return errors.New("nothing more is written") })
	for _, db := range []*DB{f.DB, second, f.open(f.backend)} {
		content, err := db.OpenToken(t.Context(), k.Ref, token, f.now)
		require.NoError(t, err)
		require.Equal(t, "ours", string(content))
		for _, ref := range []Ref{other.Ref, {k.Account, "eu-west-1", k.ID}, {"000000000001", k.Region, k.ID}} {
			_, err := db.OpenToken(t.Context(), ref, token, f.now)
			require.ErrorIs(t, err, crypto.ErrDecrypt)
		}
		for _, bad := range [][]byte{nil, token[1:], token[:len(token)-1], append([]byte{2}, token[1:]...)} {
			_, err := db.OpenToken(t.Context(), k.Ref, bad, f.now)
			require.ErrorIs(t, err, crypto.ErrDecrypt)
		}
		_, err = db.SealToken(t.Context(), k.Ref, []byte("again"), f.now)
		require.NoError(t, err)
	}
}

// The most records that destroyKeys keys can have at once fit in a transaction.
func TestKeysWithManyRecordsOfImportsAreDestroyed(t *testing.T) {
	f := newFixture(t)
	f.config.Sink = audit.SinkFunc(func(context.Context, *audit.Event) error { return nil })
	var keys []*Key
	for range destroyKeys {
		k := f.createExternal()
		for n := range byte(destroyOps) {
			f.imports(k.Ref, n, new(hour(24*30)))
			if n > 0 {
				_, err := f.RotateOnDemand(t.Context(), f.key(k.Ref), f.now)
				require.NoError(t, err)
			}
		}
		f.schedule(k.Ref, hour(24))
		f.use(k.Ref, 1)
		keys = append(keys, f.key(k.Ref))
	}
	require.NoError(t, f.Flush(t.Context()))
	f.now = hour(24)
	require.NoError(t, f.destroy(t.Context(), keys, f.now), "in one transaction")
	require.Empty(t, f.recordNames(""))
}

// A token is valid for a day. A day later at most, nobody can open it, not even with the store.
func TestTheKeysOfTokensAreDeleted(t *testing.T) {
	f := newFixture(t)
	k := f.createExternal()
	seal := func(at time.Time) []byte {
		t.Helper()
		token, err := f.SealToken(t.Context(), k.Ref, []byte("content"), at)
		require.NoError(t, err)
		return token
	}
	opens := func(token []byte, at time.Time, want error) {
		t.Helper()
		for _, db := range []*DB{f.DB, f.open(f.backend)} {
			content, err := db.OpenToken(t.Context(), k.Ref, token, at)
			require.ErrorIs(t, err, want)
			require.Equal(t, want == nil, string(content) == "content")
		}
	}
	innerKeys := func() int {
		t.Helper()
		return (len(f.all()[tokenKeysName]) - 1 - tokenKeyBytes) / innerKeyBytes
	}
	other := f.open(f.backend)
	first := seal(hour(0))
	_, err := other.OpenToken(t.Context(), k.Ref, first, hour(1)) // it has the keys from now on
	require.NoError(t, err)
	before := f.all()[tokenKeysName]
	last := seal(hour(24).Add(-1))
	require.Equal(t, before, f.all()[tokenKeysName], "one key for a day")
	next := seal(hour(24))
	require.Equal(t, 2, innerKeys())
	content, err := other.OpenToken(t.Context(), k.Ref, next, hour(24))
	require.NoError(t, err, "another process learns of the new key")
	require.Equal(t, "content", string(content))
	opens(first, hour(24), ErrTokenExpired)
	opens(last, hour(48).Add(-2*time.Millisecond), nil)
	f.now = hour(48).Add(-time.Millisecond)
	require.NoError(t, f.dropTokenKeys(t.Context()))
	require.Equal(t, 2, innerKeys())
	f.now = hour(48)
	require.NoError(t, f.dropTokenKeys(t.Context()))
	require.Equal(t, 1, innerKeys())
	opens(last, hour(48), ErrTokenExpired)
	f.now = hour(100)
	require.NoError(t, f.dropTokenKeys(t.Context()))
	require.Zero(t, innerKeys())
	opens(next, hour(100), ErrTokenExpired)
	opens(next, hour(24), ErrTokenExpired) // with the clock set back
	f.backend.before(func(keystore.Tx) error { return errors.New("nothing more to do") })
	require.NoError(t, f.dropTokenKeys(t.Context()))
	f.backend.before(nil)
	opens(seal(hour(100)), hour(101), nil)
	require.Equal(t, 1, innerKeys())
	opens(seal(hour(500)), hour(501), nil)
	require.Equal(t, 1, innerKeys(), "an old key is replaced")
}

func TestDropTokenKeysCreatesNone(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.dropTokenKeys(t.Context()))
	require.Empty(t, f.recordNames(""))
}
