package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
	"github.com/pocketkms/kms/keystore"
)

func TestASecondRunUsesTheKeyOfTheFirst(t *testing.T) {
	path, passphrase := filepath.Join(t.TempDir(), "keys"), "not to be seen"
	var first, second strings.Builder
	require.NoError(t, run(&first, path, []byte(passphrase)))
	require.NoError(t, run(&second, path, []byte(passphrase)))

	const named = "a key for alias/quickstart: "
	_, id, ok := strings.Cut(first.String(), named)
	require.True(t, ok, "%s", &first)
	require.Contains(t, second.String(), named+id[:36])
	require.NotContains(t, first.String()+second.String(), passphrase)
}

func TestAWrongPassphraseEndsTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, withService(path, []byte("the right one"), func(*kms.Service) error { return nil }))
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	require.ErrorIs(t, run(new(strings.Builder), path, []byte("wrong")), keystore.ErrRootKey)

	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestAFileOpensWholeOrNotAtAll(t *testing.T) {
	svc, err := kms.New(kms.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.EnsureKey(t.Context(), alias, nil)
	require.NoError(t, err)
	dir := t.TempDir()
	plain, sealed, opened := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")

	for _, size := range []int{0, 1, 1<<20 - 1, 1 << 20, 5<<20 + 7} {
		want := bytes.Repeat([]byte{'x'}, size)
		require.NoError(t, os.WriteFile(plain, want, 0o600))
		require.NoError(t, sealFile(t.Context(), svc, plain, sealed))
		require.NoError(t, openFile(t.Context(), svc, sealed, opened))
		got, err := os.ReadFile(opened)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "of %d bytes", size)
	}

	whole, err := os.ReadFile(sealed)
	require.NoError(t, err)
	info, err := envelope.Inspect(bytes.NewReader(whole), 0)
	require.NoError(t, err)
	header := info.HeaderLength
	flipped := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	for name, damaged := range map[string][]byte{
		"nothing":                       nil,
		"half a suite":                  whole[:2],
		"a part of the data key":        whole[:50],
		"only the header":               whole[:header],
		"one byte less":                 whole[:len(whole)-1],
		"without its last segment":      whole[:len(whole)-(5<<20+7)%(64<<10)-40],
		"one byte more":                 append(bytes.Clone(whole), 0),
		"a bit of the data key flipped": flipped(100),
		"a bit of the end flipped":      flipped(len(whole) - 1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
			require.NoError(t, os.WriteFile(src, damaged, 0o600))

			require.Error(t, openFile(t.Context(), svc, src, dst))
			require.Equal(t, []string{"src"}, namesIn(t, dir))

			require.NoError(t, os.WriteFile(dst, []byte("from before"), 0o600))
			require.Error(t, openFile(t.Context(), svc, src, dst))
			kept, err := os.ReadFile(dst)
			require.NoError(t, err)
			require.Equal(t, "from before", string(kept))
		})
	}
}

func TestAFileThatCannotBeReadIsNotSealed(t *testing.T) {
	svc, err := kms.New(kms.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	_, err = svc.EnsureKey(t.Context(), alias, nil)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "src"), 0o700)) // which opens, but cannot be read

	require.Error(t, sealFile(t.Context(), svc, filepath.Join(dir, "src"), filepath.Join(dir, "dst")))
	require.ErrorIs(t, sealFile(t.Context(), svc, filepath.Join(dir, "none"), filepath.Join(dir, "dst")), fs.ErrNotExist)

	require.Equal(t, []string{"src"}, namesIn(t, dir))
}

func namesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
