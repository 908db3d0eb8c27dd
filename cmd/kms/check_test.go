package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

// runCheck runs kms check and returns its exit status and what it printed.
func runCheck(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := program{stdout: &out, stderr: &errs}
	status = p.run(context.Background(), append([]string{"check"}, args...))
	return status, out.String(), errs.String()
}

// editStore applies a transaction to the records of a store.
func editStore(t *testing.T, path string, root keystore.RootKey, tx keystore.Tx) {
	t.Helper()
	backend, err := bolt.Open(path)
	require.NoError(t, err)
	store, err := keystore.Open(t.Context(), backend, root)
	require.NoError(t, err)
	_, err = store.Commit(t.Context(), tx)
	require.NoError(t, err)
	require.NoError(t, store.Close())
}

func TestCheckFindsFaultsOfAStore(t *testing.T) {
	const secret = "a good passphrase"
	path, passphrase := filepath.Join(t.TempDir(), "store"), file(t, "passphrase", secret)
	root := keystore.Passphrase([]byte(secret))
	svc, err := kms.Open(path, root, kms.Config{})
	require.NoError(t, err)
	one, err := svc.EnsureKey(t.Context(), "alias/one", nil)
	require.NoError(t, err)
	two, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, svc.Close())
	args := []string{"--store", path, "--passphrase-file", passphrase}

	status, stdout, stderr := runCheck(args...)
	require.Zero(t, status, stderr)
	require.Equal(t, path+": 9 records, no faults\n", stdout)
	require.Empty(t, stderr)

	prefix := "aliasof/" + one.AWSAccountId + "/us-east-1/"
	entry := prefix + one.KeyId + "/one"
	backend, err := bolt.Open(path)
	require.NoError(t, err)
	store, err := keystore.Open(t.Context(), backend, root)
	require.NoError(t, err)
	record, err := store.Get(t.Context(), entry)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	restore := keystore.Put{Key: entry, Value: record.Value}
	stray := prefix + two.KeyMetadata.KeyId + "/one"
	for _, tt := range []struct {
		name, want string
		spoil      keystore.Tx
		restore    keystore.Tx
	}{
		{"one index entry removed", "has no record", keystore.Tx{Deletes: []string{entry}}, keystore.Tx{Puts: []keystore.Put{restore}}},
		{"one added", "does not point to its key", keystore.Tx{Puts: []keystore.Put{{Key: stray, Value: record.Value}}}, keystore.Tx{Deletes: []string{stray}}},
		{"one pointing elsewhere", "has no record", keystore.Tx{Deletes: []string{entry}, Puts: []keystore.Put{{Key: stray, Value: record.Value}}},
			keystore.Tx{Deletes: []string{stray}, Puts: []keystore.Put{restore}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			editStore(t, path, root, tt.spoil)
			status, stdout, stderr := runCheck(args...)
			require.Equal(t, 1, status)
			require.Contains(t, stdout, tt.want)
			require.Contains(t, stderr, "fault")
			editStore(t, path, root, tt.restore)
			status, _, _ = runCheck(args...)
			require.Zero(t, status)
		})
	}
}

func TestCheckRefusesWhatItCannotCheck(t *testing.T) {
	passphrase := file(t, "passphrase", "a good passphrase")
	missing, empty := filepath.Join(t.TempDir(), "missing"), file(t, "empty", "")
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "kms check needs --store"},
		{[]string{"--store", missing}, 2, "kms check needs"},
		{[]string{"--depth", "3"}, 2, "kms check -h lists the flags"},
		{[]string{"--store", missing, "--passphrase-file", passphrase, "x"}, 2, "takes only flags"},
		{[]string{"--store", missing, "--passphrase-file", passphrase}, 1, "no such file"},
		{[]string{"--store", empty, "--passphrase-file", passphrase}, 1, "is empty"},
		{[]string{"--store", passphrase, "--passphrase-file", passphrase}, 1, "damaged"},
	} {
		status, stdout, stderr := runCheck(tt.args...)
		require.Equal(t, tt.status, status, "%v", tt.args)
		require.Contains(t, stderr, tt.want)
		require.Empty(t, stdout)
	}
	_, err := os.Stat(missing)
	require.ErrorIs(t, err, os.ErrNotExist, "it is not created")
	status, stdout, _ := runCheck("-h")
	require.Zero(t, status)
	require.True(t, strings.HasPrefix(stdout, "usage: kms check [flags]\n"))
}

func TestCheckWithAnotherPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	svc, err := kms.Open(path, keystore.Passphrase([]byte("a good passphrase")), kms.Config{})
	require.NoError(t, err)
	require.NoError(t, svc.Close())
	status, _, stderr := runCheck("--store", path, "--passphrase-file", file(t, "wrong", "another one"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "not the passphrase of "+path)
}
