package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

func TestASecondRunFindsTheKeyOfTheFirst(t *testing.T) {
	path, passphrase := filepath.Join(t.TempDir(), "keys"), "not to be seen"
	var first, second strings.Builder
	require.NoError(t, run(&first, path, []byte(passphrase)))
	require.NoError(t, run(&second, path, []byte(passphrase)))

	_, id, ok := strings.Cut(first.String(), "a key, SYMMETRIC_DEFAULT: ")
	require.True(t, ok, "%s", &first)
	require.Contains(t, second.String(), "the key that alias/quickstart names: "+id[:36])
	require.NotContains(t, first.String()+second.String(), passphrase)
}

func TestAWrongPassphraseEndsTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, with(path, []byte("right"), nothing))
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	require.ErrorIs(t, run(new(strings.Builder), path, []byte("wrong")), keystore.ErrRootKey)

	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}
