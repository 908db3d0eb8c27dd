package kms_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/keystoretest"
)

// A storedFile is a store with two keys, each with an alias, a rotation and a
// ciphertext under each material.
type storedFile struct {
	path        string
	root        keystore.RootKey
	keys        [2]*kms.KeyMetadata
	ciphertexts [2][][]byte
}

func newStoredFile(t *testing.T, root keystore.RootKey) *storedFile {
	t.Helper()
	f := &storedFile{path: filepath.Join(t.TempDir(), "keys"), root: root}
	svc, err := kms.Open(f.path, root, kms.Config{})
	require.NoError(t, err)
	for i := range f.keys {
		k := createKey(t, svc, &kms.CreateKeyInput{Description: fmt.Sprint("key ", i)})
		createAlias(t, svc, fmt.Sprint("alias/", i), k.KeyId)
		f.ciphertexts[i] = append(f.ciphertexts[i], encrypt(t, svc, k.KeyId, "before"))
		_, err := svc.RotateKeyOnDemand(context.Background(), &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
		require.NoError(t, err)
		f.ciphertexts[i] = append(f.ciphertexts[i], encrypt(t, svc, k.KeyId, "after"))
		f.keys[i] = describe(t, svc, k.KeyId)
	}
	require.NoError(t, svc.Close())
	return f
}

func (f *storedFile) open(t *testing.T) *kms.Service {
	t.Helper()
	svc, err := kms.Open(f.path, f.root, kms.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = svc.Close() })
	return svc
}

func (f *storedFile) requireUsable(t *testing.T, svc *kms.Service, i int) {
	t.Helper()
	require.Equal(t, f.keys[i], describe(t, svc, f.keys[i].KeyId))
	require.Equal(t, f.keys[i], describe(t, svc, fmt.Sprint("alias/", i)))
	requireDecrypts(t, svc, f.ciphertexts[i][0], "before")
	require.Equal(t, f.keys[i].CurrentKeyMaterialId, requireDecrypts(t, svc, f.ciphertexts[i][1], "after"))
}

func (f *storedFile) record(i int) string { return "key/111122223333/us-east-1/" + f.keys[i].KeyId }

func (f *storedFile) material(i int) string {
	return "material/111122223333/us-east-1/" + f.keys[i].KeyId + "/" + f.keys[i].CurrentKeyMaterialId
}

// tamper changes sealed values in the file. A nil value deletes a record.
func (f *storedFile) tamper(t *testing.T, change func(sealed map[string][]byte)) {
	t.Helper()
	b, err := bolt.Open(f.path)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	records, err := b.Scan(context.Background(), "", "", 1000)
	require.NoError(t, err)
	sealed := map[string][]byte{}
	for _, r := range records {
		sealed[r.Key] = r.Value
	}
	change(sealed)
	var tx keystore.Tx
	for name, value := range sealed {
		if value == nil {
			tx.Deletes = append(tx.Deletes, name)
		} else {
			tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: value})
		}
	}
	_, err = b.Commit(context.Background(), tx)
	require.NoError(t, err)
}

// reseal changes decrypted values, as a program with the root key can.
func (f *storedFile) reseal(t *testing.T, name string, change func(value []byte) []byte) {
	t.Helper()
	b, err := bolt.Open(f.path)
	require.NoError(t, err)
	store, err := keystore.Open(context.Background(), b, f.root)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	r, err := store.Get(context.Background(), name)
	require.NoError(t, err)
	_, err = store.Commit(context.Background(), keystore.Tx{Puts: []keystore.Put{{Key: name, Value: change(r.Value)}}})
	require.NoError(t, err)
}

const headerName = "\x00header"

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func requireUnchanged(t *testing.T, path string, before []byte) {
	t.Helper()
	require.True(t, bytes.Equal(before, readFile(t, path)), "the file was changed")
}

func TestOpenRefusesInvalidStoresAndDoesNotChangeThem(t *testing.T) {
	right := keystoretest.RootKey()
	passphrase := keystore.Passphrase([]byte("correct horse battery staple"))
	for name, tt := range map[string]struct {
		sealedWith keystore.RootKey
		openedWith keystore.RootKey
		damage     func(t *testing.T, f *storedFile)
		want       error
	}{
		"a wrong passphrase":           {passphrase, keystore.Passphrase([]byte("correct horse battery stable")), nil, keystore.ErrRootKey},
		"an empty passphrase":          {passphrase, keystore.Passphrase(nil), nil, keystore.ErrRootKey},
		"another root key":             {right, keystoretest.RootKey(), nil, keystore.ErrRootKey},
		"a root key of another kind":   {right, passphrase, nil, keystore.ErrRootKey},
		"a header of a newer version":  {right, right, withHeader(func(h []byte) { h[4] = 2 }), keystore.ErrNewerVersion},
		"a header of another salt":     {passphrase, passphrase, withHeader(func(h []byte) { h[50] ^= 1 }), keystore.ErrRootKey},
		"a header of another store ID": {right, right, withHeader(func(h []byte) { h[5] ^= 1 }), keystore.ErrRootKey},
		"a header with a flipped bit": {right, right, func(t *testing.T, f *storedFile) {
			f.tamper(t, func(sealed map[string][]byte) { sealed[headerName][30] ^= 1 })
		}, keystore.ErrCorrupt},
		"records without a header": {right, right, func(t *testing.T, f *storedFile) {
			f.tamper(t, func(sealed map[string][]byte) { sealed[headerName] = nil })
		}, keystore.ErrCorrupt},
		"half of the file": {right, right, func(t *testing.T, f *storedFile) {
			require.NoError(t, os.Truncate(f.path, int64(len(readFile(t, f.path))/2)))
		}, keystore.ErrCorrupt},
		"a text file": {right, right, func(t *testing.T, f *storedFile) {
			require.NoError(t, os.WriteFile(f.path, []byte(strings.Repeat("# not a store\n", 2000)), 0o600))
		}, keystore.ErrCorrupt},
		"a newer layout":               {right, right, withBucket("pocketkms-records-2"), keystore.ErrNewerVersion},
		"another program's bbolt file": {right, right, withBucket("theirs"), keystore.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			f := newStoredFile(t, tt.sealedWith)
			if tt.damage != nil {
				tt.damage(t, f)
			}
			before := readFile(t, f.path)
			for range 2 { // the first attempt leaves no lock behind
				svc, err := kms.Open(f.path, tt.openedWith, kms.Config{})
				require.Nil(t, svc)
				require.ErrorIs(t, err, tt.want)
				for _, other := range []error{keystore.ErrRootKey, keystore.ErrCorrupt, keystore.ErrNewerVersion, keystore.ErrLocked, keystore.ErrClosed} {
					require.Equal(t, other == tt.want, errors.Is(err, other), "%v is %v", err, other)
				}
				require.NotContains(t, err.Error(), "horse")
			}
			requireUnchanged(t, f.path, before)
			if tt.damage == nil {
				svc := f.open(t)
				f.requireUsable(t, svc, 0)
				f.requireUsable(t, svc, 1)
			}
		})
	}
}

// withHeader changes the header and updates its checksum.
func withHeader(change func([]byte)) func(*testing.T, *storedFile) {
	return func(t *testing.T, f *storedFile) {
		f.tamper(t, func(sealed map[string][]byte) {
			h := sealed[headerName]
			change(h)
			sum := sha256.Sum256(h[:len(h)-sha256.Size])
			copy(h[len(h)-sha256.Size:], sum[:])
		})
	}
}

// withBucket replaces the store by a bbolt file with an empty bucket.
func withBucket(name string) func(*testing.T, *storedFile) {
	return func(t *testing.T, f *storedFile) {
		require.NoError(t, os.Remove(f.path))
		db, err := bbolt.Open(f.path, 0o600, &bbolt.Options{Timeout: time.Second})
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte(name))
			return err
		}))
		require.NoError(t, db.Close())
	}
}

func TestOpenWithoutARootKeyCreatesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	svc, err := kms.Open(path, nil, kms.Config{})
	require.Nil(t, svc)
	require.EqualError(t, err, "kms: Open needs a root key")
	_, err = kms.Open(path, keystore.Ephemeral(), kms.Config{})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "an ephemeral root key is lost when the process ends")
	require.NoFileExists(t, path)
}

func TestAFirstOpenThatFailsLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for _, root := range []keystore.RootKey{
		keystore.Passphrase(nil), keystore.Passphrase([]byte("1234567")), keystore.KeyFile(path + ".missing"),
	} {
		_, err := kms.Open(path, root, kms.Config{})
		require.Error(t, err)
		require.NoFileExists(t, path)
	}
	svc, err := kms.Open(path, keystoretest.RootKey(), kms.Config{})
	require.NoError(t, err)
	require.NoError(t, svc.Close())
}

func TestOpenRefusesPathsThatAreNotFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err := kms.Open(dir, keystoretest.RootKey(), kms.Config{})
	require.Error(t, err)
	_, err = kms.Open(filepath.Join(dir, "missing", "keys"), keystoretest.RootKey(), kms.Config{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = kms.Open(filepath.Join(file, "keys"), keystoretest.RootKey(), kms.Config{})
	require.ErrorIs(t, err, syscall.ENOTDIR)
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	_, err = kms.Open(loop, keystoretest.RootKey(), kms.Config{})
	require.ErrorIs(t, err, syscall.ELOOP)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing was made")
}

func TestDamagedRecordsAreRefusedAndLeftAlone(t *testing.T) {
	f0 := func(change func(f *storedFile, sealed map[string][]byte)) func(*testing.T, *storedFile) {
		return func(t *testing.T, f *storedFile) {
			f.tamper(t, func(sealed map[string][]byte) { change(f, sealed) })
		}
	}
	resealed := func(change func([]byte) []byte) func(*testing.T, *storedFile) {
		return func(t *testing.T, f *storedFile) { f.reseal(t, f.record(0), change) }
	}
	for name, tt := range map[string]struct {
		damage   func(*testing.T, *storedFile)
		material bool // only calls that need the material fail
		want     error
	}{
		"a bit of the key flipped":       {f0(func(f *storedFile, s map[string][]byte) { s[f.record(0)][60] ^= 1 }), false, keystore.ErrCorrupt},
		"the key cut short":              {f0(func(f *storedFile, s map[string][]byte) { s[f.record(0)] = s[f.record(0)][:50] }), false, keystore.ErrCorrupt},
		"the key emptied":                {f0(func(f *storedFile, s map[string][]byte) { s[f.record(0)] = []byte{} }), false, keystore.ErrCorrupt},
		"another key in the key's place": {f0(func(f *storedFile, s map[string][]byte) { s[f.record(0)] = s[f.record(1)] }), false, keystore.ErrCorrupt},
		"an alias in the key's place": {f0(func(f *storedFile, s map[string][]byte) {
			s[f.record(0)] = s["alias/111122223333/us-east-1/0"]
		}), false, keystore.ErrCorrupt},
		"the key lost":                            {f0(func(f *storedFile, s map[string][]byte) { s[f.record(0)] = nil }), false, keystore.ErrCorrupt},
		"the material lost":                       {f0(func(f *storedFile, s map[string][]byte) { s[f.material(0)] = nil }), true, keystore.ErrCorrupt},
		"a bit of the material flipped":           {f0(func(f *storedFile, s map[string][]byte) { s[f.material(0)][50] ^= 1 }), true, keystore.ErrCorrupt},
		"another key's material in its place":     {f0(func(f *storedFile, s map[string][]byte) { s[f.material(0)] = s[f.material(1)] }), true, keystore.ErrCorrupt},
		"the key of a newer version":              {resealed(func(v []byte) []byte { v[0]++; return v }), false, keystore.ErrNewerVersion},
		"the key with a member that is unknown":   {resealed(func(v []byte) []byte { return append(v[:len(v)-1], `,"quorum":3}`...) }), false, keystore.ErrCorrupt},
		"the key with something behind it":        {resealed(func(v []byte) []byte { return append(v, " {}"...) }), false, keystore.ErrCorrupt},
		"the key without its materials":           {resealed(func(v []byte) []byte { return cutMember(v, "materials") }), false, keystore.ErrCorrupt},
		"the key of a spec that does not exist":   {resealed(func(v []byte) []byte { return bytes.ReplaceAll(v, []byte("SYMMETRIC_DEFAULT"), []byte("ASYMMETRIC")) }), false, keystore.ErrCorrupt},
		"the key with a material of a false name": {resealed(func(v []byte) []byte { return bytes.ReplaceAll(v, []byte(`"id":"`), []byte(`"id":"zz`)) }), false, keystore.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			f := newStoredFile(t, keystoretest.RootKey())
			tt.damage(t, f)
			before := readFile(t, f.path)
			svc := f.open(t)
			ctx := context.Background()
			id := f.keys[0].KeyId
			calls := map[string]error{}
			_, calls["Encrypt"] = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
			_, calls["Decrypt"] = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: f.ciphertexts[0][1]})
			_, calls["DescribeKey"] = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/0"})
			_, calls["EnsureKey"] = svc.EnsureKey(ctx, "alias/0", nil)
			if !tt.material {
				_, calls["TagResource"] = svc.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: "a", TagValue: "b"}}})
				_, calls["DisableKey"] = svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
				_, calls["PutKeyPolicy"] = svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: policyOf(200)})
				_, calls["ScheduleKeyDeletion"] = svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id})
				_, calls["RotateKeyOnDemand"] = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
				_, calls["UpdateAlias"] = svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: "alias/0", TargetKeyId: f.keys[1].KeyId})
			}
			for operation, err := range calls {
				require.ErrorIs(t, err, kms.KMSInternalException, operation)
				require.ErrorIs(t, err, tt.want, operation)
				require.Contains(t, err.Error(), id, operation)
			}
			requireUnchanged(t, f.path, before)
			f.requireUsable(t, svc, 1)
			require.NoError(t, svc.Close())
		})
	}
}

// cutMember removes a member from a stored record.
func cutMember(value []byte, name string) []byte {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(value[1:], &members); err != nil {
		panic(err)
	}
	delete(members, name)
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return append(value[:1:1], text...)
}

const pathEnv, rootEnv = "POCKETKMS_TEST_PATH", "POCKETKMS_TEST_ROOT"

// holdTheLock keeps a store open until the end of its standard input.
func holdTheLock() error {
	svc, err := kms.Open(os.Getenv(pathEnv), keystore.KeyFile(os.Getenv(rootEnv)), kms.Config{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, svc.Close())
}

func TestAnOpenStoreIsLocked(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, keystore.CreateKeyFile(root))
	f := newStoredFile(t, keystore.KeyFile(root))

	child := childCommand(t.Context(), "hold the lock", pathEnv+"="+f.path, rootEnv+"="+root)
	release, err := child.StdinPipe()
	require.NoError(t, err)
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = io.ReadFull(output, make([]byte, len("open\n")))
	require.NoError(t, err)
	before := readFile(t, f.path)
	_, err = kms.Open(f.path, f.root, kms.Config{})
	require.ErrorIs(t, err, keystore.ErrLocked)
	requireUnchanged(t, f.path, before)
	require.NoError(t, release.Close())
	require.NoError(t, child.Wait())

	svc := f.open(t)
	_, err = kms.Open(f.path, f.root, kms.Config{})
	require.ErrorIs(t, err, keystore.ErrLocked, "the same process a second time")
	f.requireUsable(t, svc, 0)
	require.NoError(t, svc.Close())
	f.requireUsable(t, f.open(t), 1)
}

func TestCloseEndsAllViews(t *testing.T) {
	f := newStoredFile(t, keystoretest.RootKey())
	svc := f.open(t)
	view := svc.In("eu-west-1")
	require.NoError(t, view.Close())
	require.NoError(t, svc.Close())
	require.NoError(t, view.Close())
	_, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: "alias/0"})
	require.Equal(t, kms.ErrClosed, err)
	f.requireUsable(t, f.open(t), 0)
}

// A filledDisk is what the child that fills the disk has created.
type filledDisk struct {
	Keys        []string
	Ciphertexts [][]byte
}

// fillTheDisk creates keys until the disk is full, uses them, and then gets more space. A limit on
// the size of files simulates the full disk.
func fillTheDisk() error {
	ctx := context.Background()
	signal.Ignore(syscall.SIGXFSZ)
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	limit := func(l syscall.Rlimit) error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l) }
	const room = 300_000
	if err := limit(syscall.Rlimit{Cur: room, Max: unlimited.Max}); err != nil {
		return err
	}
	svc, err := kms.Open(os.Getenv(pathEnv), keystore.KeyFile(os.Getenv(rootEnv)), kms.Config{})
	if err != nil {
		return err
	}
	var made filledDisk
	create := func() error {
		out, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Description: strings.Repeat("x", 8000)})
		if err != nil {
			return err
		}
		e, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: out.KeyMetadata.KeyId, Plaintext: []byte(canary)})
		if err != nil {
			return fmt.Errorf("a new key: %w", err)
		}
		made.Keys, made.Ciphertexts = append(made.Keys, out.KeyMetadata.KeyId), append(made.Ciphertexts, e.CiphertextBlob)
		return nil
	}
	for err == nil && len(made.Keys) < room/8000 {
		err = create()
	}
	if !errors.Is(err, kms.KMSInternalException) || !errors.Is(err, keystore.ErrFull) || len(made.Keys) < 5 {
		return fmt.Errorf("after %d keys, want ErrFull, got %w", len(made.Keys), err)
	}
	usable := func() error {
		list, err := svc.ListKeys(ctx, nil)
		if err != nil || len(list.Keys) != len(made.Keys) {
			return fmt.Errorf("%d keys were made, want exactly these in %+v, %w", len(made.Keys), list, err)
		}
		for i, id := range made.Keys {
			if d, err := svc.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: made.Ciphertexts[i]}); err != nil || string(d.Plaintext) != canary {
				return fmt.Errorf("key %d of %d: %w", i, len(made.Keys), err)
			}
		}
		return nil
	}
	if err := usable(); err != nil {
		return fmt.Errorf("when full: %w", err)
	}
	// A change that is refused does not change the cached key.
	_, err = svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: made.Keys[0], Description: strings.Repeat("y", 8192)})
	for range room / 8000 { // what the refused change gave back may have room for a few
		if err == nil {
			err = create()
		}
	}
	if !errors.Is(err, keystore.ErrFull) {
		return fmt.Errorf("a second time, want ErrFull, got %w", err)
	}
	if err := limit(unlimited); err != nil {
		return err
	}
	if err := usable(); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	for range 10 {
		if err := create(); err != nil {
			return fmt.Errorf("with room again: %w", err)
		}
	}
	if err := errors.Join(usable(), svc.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

func TestAFullDiskLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path, root := filepath.Join(dir, "keys"), filepath.Join(dir, "root")
	require.NoError(t, keystore.CreateKeyFile(root))
	child := childCommand(t.Context(), "fill the disk", pathEnv+"="+path, rootEnv+"="+root)
	var complaint bytes.Buffer
	child.Stderr = &complaint
	output, err := child.Output()
	require.NoError(t, err, "%s", &complaint)
	var made filledDisk
	require.NoError(t, json.Unmarshal(output, &made))

	checkPages(t, path)
	svc, err := kms.Open(path, keystore.KeyFile(root), kms.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	list, err := svc.ListKeys(context.Background(), nil)
	require.NoError(t, err)
	require.Len(t, list.Keys, len(made.Keys))
	for i, id := range made.Keys {
		require.True(t, slices.ContainsFunc(list.Keys, func(e kms.KeyListEntry) bool { return e.KeyId == id }))
		requireDecrypts(t, svc, made.Ciphertexts[i], canary)
	}
}

// A service that has lost its file must not start with new keys.
func TestAStoreThatMustExistIsNotCreated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	mustExist := kms.Config{MustExist: true}
	_, err := kms.Open(path, sharedRoot, mustExist)
	require.ErrorIs(t, err, keystore.ErrNoStore)
	require.NoFileExists(t, path)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = kms.Open(path, sharedRoot, mustExist)
	require.ErrorIs(t, err, keystore.ErrNoStore, "an empty file")
	_, err = kms.New(mustExist)
	require.ErrorIs(t, err, keystore.ErrNoStore, "memory is always empty")

	for _, config := range []kms.Config{{}, mustExist} {
		svc, err := kms.Open(path, sharedRoot, config)
		require.NoError(t, err)
		require.NoError(t, svc.Close())
	}
}
