package keydb

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/keystore"
)

// A storeFixture has a connected custom key store with a key in it.
type storeFixture struct {
	*fixture
	store StoreRef
	key   *Key
}

const testCluster = "cluster-234567abcde"

func newStoreFixture(t *testing.T) *storeFixture {
	f := &storeFixture{fixture: newFixture(t), store: StoreRef{"111122223333", "us-east-1", "cks-1"}}
	f.devices = newDevices(map[string]keystore.Device{testCluster: plainHSM{}})
	all, err := f.Stores(t.Context(), f.store.Account, f.store.Region)
	require.NoError(t, err)
	record := &StoreRecord{Name: "a/b", Type: cloudHSM, State: Connected, Cluster: testCluster, Created: f.now}
	require.NoError(t, f.CreateStore(t.Context(), all, f.store, record, []byte("password")))
	f.key = f.createInStore()
	return f
}

func (f *storeFixture) current() *Store {
	f.t.Helper()
	s, err := f.Store(f.t.Context(), f.store)
	require.NoError(f.t, err)
	require.NotNil(f.t, s)
	return s
}

func (f *storeFixture) createInStore() *Key {
	f.t.Helper()
	record := &Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: cloudHSM, Manager: "CUSTOMER", Created: f.now, Policy: validKeyPolicy}
	k, err := f.CreateInStore(f.t.Context(), f.current(), Ref{f.store.Account, f.store.Region, arn.NewKeyID(false)}, record, CreateOptions{}, DeviceCall{})
	require.NoError(f.t, err)
	return k
}

// A plainHSM is a device that encrypts nothing, and whose keys have the names of their KMS keys.
type plainHSM struct{}

func (plainHSM) Health(context.Context, DeviceCall) (DeviceHealth, error) {
	return DeviceHealth{HSMs: 2}, nil
}

func (plainHSM) Encrypt(_ context.Context, _ DeviceCall, _ string, plaintext, _ []byte) ([]byte, error) {
	return plaintext, nil
}

func (plainHSM) Decrypt(_ context.Context, _ DeviceCall, _ string, encrypted, _ []byte) ([]byte, error) {
	return encrypted, nil
}

func (plainHSM) CreateKey(_ context.Context, call DeviceCall) (string, error) {
	return call.KeyARN[strings.LastIndexByte(call.KeyARN, '/')+1:], nil
}

func (plainHSM) DeleteKey(context.Context, DeviceCall, string) error { return nil }

func (plainHSM) Random(_ context.Context, _ DeviceCall, n int) ([]byte, error) {
	return make([]byte, n), nil
}

func TestCheckNoticesEveryFaultOfACustomKeyStore(t *testing.T) {
	f := newStoreFixture(t)
	f.damaged = true
	ordinary := f.create()
	require.Empty(t, slices.Collect(f.Check(t.Context(), nil)))
	before := f.all()

	s, k := f.store, f.key
	directory := func(ids map[string]string) keystore.Put {
		return keystore.Put{Key: directoryName(s.Account, s.Region), Value: encodeRecord(directory{ids})}
	}
	stored := func(change func(*StoreRecord)) keystore.Put {
		record := *f.current().StoreRecord
		change(&record)
		return keystore.Put{Key: s.recordName(), Value: encodeRecord(record)}
	}
	stray := StoreRef{s.Account, s.Region, "cks-2"}
	for name, tx := range map[string]keystore.Tx{
		"a lost store":                          {Deletes: []string{s.recordName()}},
		"a lost secret":                         {Deletes: []string{s.secretName()}},
		"a lost directory":                      {Deletes: []string{directoryName(s.Account, s.Region)}},
		"a store that is not in the directory":  {Puts: []keystore.Put{directory(map[string]string{})}},
		"another name in the directory":         {Puts: []keystore.Put{directory(map[string]string{"c": s.ID})}},
		"one more store in the directory":       {Puts: []keystore.Put{directory(map[string]string{"a/b": s.ID, "c": stray.ID})}},
		"an impossible store in the directory":  {Puts: []keystore.Put{directory(map[string]string{"a/b": s.ID, "c": "d/e"})}},
		"another name":                          {Puts: []keystore.Put{stored(func(r *StoreRecord) { r.Name = "c" })}},
		"a store of no possible kind":           {Puts: []keystore.Put{stored(func(r *StoreRecord) { r.Cluster = "" })}},
		"a store of another kind":               {Puts: []keystore.Put{stored(func(r *StoreRecord) { r.Type = externalStore })}},
		"a secret of no store":                  {Puts: []keystore.Put{{Key: stray.secretName(), Value: []byte("\x02x")}}},
		"a store of no possible name":           {Puts: []keystore.Put{{Key: storePrefix + "x", Value: index}}},
		"a directory that cannot be decoded":    {Puts: []keystore.Put{{Key: directoryName(s.Account, s.Region), Value: []byte("\x02x")}}},
		"a key without its index entry":         {Deletes: []string{s.keyName(k.Record.DeviceKey)}},
		"an index entry of another key":         {Puts: []keystore.Put{{Key: s.keyName(k.Record.DeviceKey), Value: encodeRecord(storeKey{ordinary.ID})}}},
		"one more index entry":                  {Puts: []keystore.Put{{Key: s.keyName("x"), Value: encodeRecord(storeKey{k.ID})}}},
		"an index entry of no key":              {Puts: []keystore.Put{{Key: s.keyName("x"), Value: encodeRecord(storeKey{arn.NewKeyID(false)})}}},
		"an index entry of no store":            {Puts: []keystore.Put{{Key: stray.keyName(k.Record.DeviceKey), Value: encodeRecord(storeKey{k.ID})}}},
		"an index entry that cannot be decoded": {Puts: []keystore.Put{{Key: s.keyName(k.Record.DeviceKey), Value: []byte("\x02x")}}},
		"an index entry of no possible name":    {Puts: []keystore.Put{{Key: storeKeyPrefix + "x", Value: index}}},
		"a lost key":                            {Deletes: []string{k.recordName()}},
	} {
		t.Run(name, func(t *testing.T) {
			f.requireFault(t, tx, before)
		})
	}
}

// A key whose store is lost is not usable, and hides no other.
func TestAKeyOfALostStoreIsCorrupt(t *testing.T) {
	f := newStoreFixture(t)
	f.damaged = true
	f.commit(keystore.Tx{Deletes: []string{f.store.recordName()}})
	_, err := f.Key(t.Context(), f.key.Ref, f.now)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	n := 0
	for _, err := range f.Keys(t.Context(), f.key.Account, f.key.Region, "", 10, f.now) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 1, n)
}

// A deletion that has to be made in several transactions, and one of many keys, delete everything.
func TestDestroyedKeysLeaveTheirStore(t *testing.T) {
	f := newStoreFixture(t)
	keys := []*Key{f.key}
	for range 2 * destroyKeys {
		keys = append(keys, f.createInStore())
	}
	for range 3 * destroyBatch {
		f.alias("alias/"+arn.NewKeyID(false), f.key)
	}
	date := f.now.Add(time.Hour)
	for _, k := range keys {
		f.schedule(k.Ref, date)
	}
	has, err := f.HasKeys(t.Context(), f.current())
	require.NoError(t, err)
	require.True(t, has)
	f.now = date
	require.NoError(t, f.destroyDue(t.Context()))
	has, err = f.HasKeys(t.Context(), f.current())
	require.NoError(t, err)
	require.False(t, has)
	all, err := f.Stores(t.Context(), f.store.Account, f.store.Region)
	require.NoError(t, err)
	require.NoError(t, f.DeleteStore(t.Context(), all, f.current()))
	require.Empty(t, f.all())
}

// What an older view of the stores, or of one, is based on is not committed.
func TestChangesOfCustomKeyStoresConflict(t *testing.T) {
	f := newStoreFixture(t)
	ctx := t.Context()
	all, err := f.Stores(ctx, f.store.Account, f.store.Region)
	require.NoError(t, err)
	old := f.current()
	require.NoError(t, f.Disconnect(ctx, old))
	require.ErrorIs(t, f.Disconnect(ctx, old), ErrConflict)
	require.ErrorIs(t, f.UpdateStore(ctx, all, old, old.StoreRecord, nil), ErrConflict)
	require.ErrorIs(t, f.DeleteStore(ctx, all, old), ErrConflict)
	record := &Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: cloudHSM, Manager: "CUSTOMER", Created: f.now, Policy: validKeyPolicy}
	_, err = f.CreateInStore(ctx, old, Ref{f.store.Account, f.store.Region, arn.NewKeyID(false)}, record, CreateOptions{}, DeviceCall{})
	require.ErrorIs(t, err, ErrConflict, "the store was connected when it was read")

	other := StoreRef{f.store.Account, f.store.Region, "cks-2"}
	create := func(all *Stores) error {
		return f.CreateStore(ctx, all, other, &StoreRecord{Name: "other", Type: cloudHSM, State: Disconnected, Cluster: "cluster-2"}, []byte("p"))
	}
	require.NoError(t, create(all))
	require.ErrorIs(t, create(all), ErrConflict)
}

// What comes from outside as a ciphertext of a device, or from a device, is refused or passed on,
// but never a panic, and never longer than its bound.
func FuzzOpenInDevice(f *testing.F) {
	f.Add(make([]byte, ciphertext.MinBytes), make([]byte, 16))
	f.Add(make([]byte, ciphertext.NonceEnd+ciphertext.MaxDeviceBytes), make([]byte, ciphertext.MaxDevicePlaintext+1))
	f.Add([]byte{2}, []byte{})
	f.Fuzz(func(t *testing.T, blob, answer []byte) {
		blob = append([]byte{2, 0, 0, 0}, blob...) // most others are no ciphertexts
		if ciphertext.Parse(blob) == nil {
			return
		}
		f := newStoreFixture(t)
		f.devices = newDevices(map[string]keystore.Device{testCluster: answering{answer: answer}})
		opened, err := f.OpenInDevice(t.Context(), f.key, blob, nil, DeviceCall{})
		if err != nil {
			require.ErrorAs(t, err, new(*DeviceError))
			require.True(t, len(answer) < ciphertext.TagBytes || len(answer) > ciphertext.MaxDevicePlaintext)
			return
		}
		require.Equal(t, blob[:ciphertext.NonceEnd], opened[:ciphertext.NonceEnd])
		require.Equal(t, answer, opened[ciphertext.NonceEnd:])
	})
}

type answering struct {
	plainHSM
	answer []byte
}

func (d answering) Decrypt(context.Context, DeviceCall, string, []byte, []byte) ([]byte, error) {
	return d.answer, nil
}

// A former password is erased from the medium with the commit that replaces it, and with its store.
func TestFormerPasswordsAreScrubbed(t *testing.T) {
	f := newStoreFixture(t)
	var scrubbed []bool
	f.backend.before(func(tx keystore.Tx) error {
		scrubbed = append(scrubbed, tx.Scrub)
		return nil
	})
	update := func(password []byte) {
		all, err := f.Stores(t.Context(), f.store.Account, f.store.Region)
		require.NoError(t, err)
		require.NoError(t, f.UpdateStore(t.Context(), all, f.current(), f.current().StoreRecord, password))
	}
	update([]byte("another"))
	update(nil)
	stored, err := f.StoreSecret(t.Context(), f.current())
	require.NoError(t, err)
	require.Equal(t, "another", string(stored.Expose()))
	all, err := f.Stores(t.Context(), f.store.Account, f.store.Region)
	require.NoError(t, err)
	f.damaged = true // its key stays, without a store
	require.NoError(t, f.DeleteStore(t.Context(), all, f.current()))
	require.Equal(t, []bool{true, false, true}, scrubbed)
}
