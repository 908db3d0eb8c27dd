package kms_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

// traceBytes is the number of consecutive bytes of a value that count as a trace of it.
const traceBytes = 32

// A searcher finds windows of traceBytes of many values in one pass.
type searcher map[[traceBytes]byte]string

func (s searcher) add(name string, value []byte) {
	for i := range len(value) - traceBytes + 1 {
		s[[traceBytes]byte(value[i:])] = name
	}
}

// in returns the names of the values of which data contains a window.
func (s searcher) in(data []byte) map[string]bool {
	found := map[string]bool{}
	for i := range len(data) - traceBytes + 1 {
		if name, ok := s[[traceBytes]byte(data[i:])]; ok {
			found[name] = true
		}
	}
	return found
}

// sealedRecords returns the records whose names keep accepts, sealed as they are in the file.
func sealedRecords(t *testing.T, path string, keep func(name string) bool) map[string][]byte {
	t.Helper()
	b, err := bolt.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	records, err := b.Scan(context.Background(), "", "", 10_000)
	require.NoError(t, err)
	sealed := map[string][]byte{}
	for _, r := range records {
		if keep(r.Key) {
			sealed[r.Key] = r.Value
		}
	}
	return sealed
}

// After a key is deleted, the file contains no trace of any version of its records.
func TestADestroyedKeyLeavesNoTrace(t *testing.T) {
	ctx := context.Background()
	clock := newClock()
	path := filepath.Join(t.TempDir(), "keys")
	svc := openService(t, path, clock)
	var doomed []string
	traces := searcher{}
	record := func(when string) {
		t.Helper()
		require.NoError(t, svc.Close())
		n := len(traces)
		for name, value := range sealedRecords(t, path, func(name string) bool {
			for i, id := range doomed {
				if strings.Contains(name, id) || strings.HasSuffix(name, fmt.Sprint("/doomed", i)) {
					return true
				}
			}
			return false
		}) {
			traces.add(when+": "+name, value)
		}
		require.Greater(t, len(traces), n)
		svc = openService(t, path, clock)
	}
	kept := createKey(t, svc, nil).KeyId
	ciphertext := encrypt(t, svc, kept, "kept")
	for i := range 20 {
		id := createKey(t, svc, &kms.CreateKeyInput{Description: "doomed", Tags: []kms.Tag{{TagKey: "a", TagValue: strings.Repeat("b", 200)}}}).KeyId
		createAlias(t, svc, fmt.Sprint("alias/doomed", i), id)
		createKey(t, svc, nil) // a neighbour, whose changes make bbolt copy pages
		doomed = append(doomed, id)
	}
	record("new")
	for _, id := range doomed {
		encrypt(t, svc, id, "a use")
		_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
		_, err = svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: id, Description: strings.Repeat("long ", 1000)})
		require.NoError(t, err)
	}
	record("changed")
	for _, id := range doomed {
		scheduleDeletion(t, svc, id, 7)
	}
	record("pending deletion")
	require.NotEmpty(t, traces.in(readFile(t, path)), "the search finds what is there")
	clock.Move(7 * day)
	for _, id := range doomed {
		_, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
		require.ErrorIs(t, err, kms.NotFoundException)
	}
	require.Empty(t, traces.in(readFile(t, path)), "while the store is open")
	requireDecrypts(t, svc, ciphertext, "kept")
	require.NoError(t, svc.Close())
	require.Empty(t, traces.in(readFile(t, path)), "once it is closed")
	require.Empty(t, sealedRecords(t, path, func(name string) bool {
		return strings.HasPrefix(name, "usage/") && !strings.HasSuffix(name, kept) || strings.HasPrefix(name, "due/") || strings.Contains(name, "/doomed")
	}))
	checkPages(t, path)
	requireDecrypts(t, openService(t, path, clock), ciphertext, "kept")
}

// Key material is never in the clear in the file, in errors, panics, the log or the audit trail.
func TestMaterialNeverShows(t *testing.T) {
	ctx := context.Background()
	clock := newClock()
	path := filepath.Join(t.TempDir(), "keys")
	var mu sync.Mutex
	var said bytes.Buffer
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		said.WriteString(text + "\n")
	}
	panics := false
	listen := func(c *kms.Config) {
		c.Logger = slog.New(slog.NewTextHandler(writer(say), nil))
		lines := audit.JSONLines(writer(say))
		c.Audit = audit.SinkFunc(func(ctx context.Context, e *audit.Event) error {
			if panics {
				panic(fmt.Sprintf("%+v", e))
			}
			return lines.Record(ctx, e)
		})
	}
	svc := openService(t, path, clock, listen)
	var ids []string
	materials, files := searcher{}, [][]byte{}
	snap := func() {
		t.Helper()
		require.NoError(t, svc.Close())
		files = append(files, readFile(t, path))
		b, err := bolt.Open(path)
		require.NoError(t, err)
		store, err := keystore.Open(ctx, b, sharedRoot)
		require.NoError(t, err)
		records, err := store.Scan(ctx, "material/", "", 1000)
		require.NoError(t, err)
		require.NoError(t, store.Close())
		require.NotEmpty(t, records)
		for _, r := range records {
			bare := r.Value[1:]
			materials.add(r.Key, bare)
			materials.add(r.Key+" in hex", []byte(hex.EncodeToString(bare)))
			materials.add(r.Key+" in HEX", []byte(strings.ToUpper(hex.EncodeToString(bare))))
			for shift := range 3 { // base64 looks different at each offset modulo 3
				materials.add(r.Key+" in base64", []byte(base64.RawStdEncoding.EncodeToString(bare[shift:])))
				materials.add(r.Key+" in base64url", []byte(base64.RawURLEncoding.EncodeToString(bare[shift:])))
			}
			materials.add(r.Key+" as numbers", []byte(strings.Trim(fmt.Sprint(bare), "[]")))
		}
		svc = openService(t, path, clock, listen)
	}
	specs := []*kms.CreateKeyInput{
		nil,
		{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac},
		{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify},
	}
	for _, in := range specs {
		ids = append(ids, createKey(t, svc, in).KeyId)
	}
	snap()
	ciphertext := encrypt(t, svc, ids[0], "x")
	_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: ids[0]})
	require.NoError(t, err)
	use := func() {
		for _, op := range kms.Operations() {
			_, err := op.Invoke(ctx, svc, op.NewInput())
			say(fmt.Sprintf("%v %+v %#v", err, err, err))
		}
		out, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext})
		say(fmt.Sprintf("%+v %v", out, err))
		mac, err := svc.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: ids[1], Message: []byte("x"), MacAlgorithm: kms.MacAlgorithmHMACSHA256})
		say(fmt.Sprintf("%+v %v", mac, err))
		signed, err := svc.Sign(ctx, &kms.SignInput{KeyId: ids[2], Message: []byte("x"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
		say(fmt.Sprintf("%+v %v", signed, err))
		for _, id := range ids {
			_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: make([]byte, 5000)})
			say(fmt.Sprint(err))
			_, err = svc.Sign(ctx, &kms.SignInput{KeyId: id, Message: []byte("x"), SigningAlgorithm: kms.SigningAlgorithmMLDSASHAKE256})
			say(fmt.Sprint(err))
		}
		say(fmt.Sprintf("%v %+v %#v", svc, svc, svc))
	}
	use()
	panics = true
	use()
	panics = false
	snap()
	require.Contains(t, said.String(), "panicked")

	// The error for a damaged record of key material does not contain the rest of its bytes.
	f := &storedFile{path: path, root: sharedRoot}
	require.NoError(t, svc.Close())
	for name := range sealedRecords(t, path, func(name string) bool { return strings.HasPrefix(name, "material/") }) {
		f.reseal(t, name, func(value []byte) []byte { return value[:len(value)-1] })
	}
	svc = openService(t, path, clock, listen)
	n := said.Len()
	use()
	require.Contains(t, said.String()[n:], keystore.ErrCorrupt.Error())
	scheduleDeletion(t, svc, ids[0], 7)
	clock.Move(7 * day)
	use()
	require.NoError(t, svc.Close())
	files = append(files, readFile(t, path))

	for i, file := range files {
		require.Empty(t, materials.in(file), "the file after step %d", i)
	}
	require.Empty(t, materials.in(said.Bytes()), "what was said")
}

// A writer is a function that implements io.Writer.
type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}
