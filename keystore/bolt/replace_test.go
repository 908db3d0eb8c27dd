package bolt

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// store writes a file with one record at path.
func store(path, value string) error {
	b, err := Open(path)
	if err != nil {
		return err
	}
	_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte(value)}}})
	return errors.Join(err, b.Close())
}

// requireStored requires that the file at path has one record with that value.
func requireStored(t *testing.T, path, value string) {
	t.Helper()
	b := reopen(t, path)
	record, err := b.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, value, string(record.Value))
	require.NoError(t, b.Close())
}

func TestReplacePutsAFileInThePlaceOfAnother(t *testing.T) {
	for _, before := range []string{"none", "a store", "a damaged store", "a link"} {
		t.Run(before, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			linked := filepath.Join(t.TempDir(), "linked")
			switch before {
			case "a store":
				require.NoError(t, store(path, "old"))
			case "a damaged store":
				require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 9000), 0o600))
			case "a link":
				require.NoError(t, store(linked, "old"))
				require.NoError(t, os.Symlink(linked, path))
			}
			require.NoError(t, Replace(ctx, path, func(temporary string) error {
				if before == "a store" {
					_, err := Open(path)
					require.ErrorIs(t, err, keystore.ErrLocked)
					require.ErrorIs(t, Replace(ctx, path, storing("third")), keystore.ErrLocked)
				}
				return store(temporary, "new")
			}))
			requireStored(t, path, "new")
			requireAlone(t, path)
			if before == "a link" {
				requireStored(t, linked, "new")
				requireAlone(t, linked)
			}
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode())
		})
	}
}

func storing(value string) func(string) error {
	return func(path string) error { return store(path, value) }
}

func TestReplaceChangesNothingIfTheNewFileIsNotAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	refused := errors.New("refused")
	refuse := func(temporary string) error {
		require.NoError(t, store(temporary, "new"))
		return refused
	}
	require.ErrorIs(t, Replace(ctx, path, refuse), refused)
	_, err := os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, store(path, "old"))
	require.ErrorIs(t, Replace(ctx, path, refuse), refused)
	requireStored(t, path, "old")
	requireAlone(t, path)
	require.Error(t, Replace(ctx, filepath.Join(path, "below"), refuse))
	require.Error(t, Replace(ctx, t.TempDir(), refuse))
}

func TestAnOpenFileIsNotReplaced(t *testing.T) {
	b, path := newBackend(t)
	put(t, b, "a", []byte("old"))
	require.ErrorIs(t, Replace(ctx, path, func(string) error {
		require.Fail(t, "the file is open")
		return nil
	}), keystore.ErrLocked)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, Replace(cancelled, path, storing("new")), context.Canceled)
	require.NoError(t, b.Close())
	requireStored(t, path, "old")
}

const replaceEnv = "POCKETKMS_TEST_REPLACE"

// dieBeforeTheRenaming is killed when the new file is complete.
func dieBeforeTheRenaming(path string) error {
	return Replace(ctx, path, func(temporary string) error {
		if err := store(temporary, "new"); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
}

func TestAKilledReplacementLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	require.NoError(t, store(path, "old"))
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), replaceEnv+"="+path)
	output, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", output)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", output)
	requireStored(t, path, "old")
	require.NoError(t, Replace(ctx, path, storing("newer")))
	requireStored(t, path, "newer")
}
