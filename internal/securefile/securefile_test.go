//go:build unix && !solaris && !aix

package securefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func secretFile(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("horse"), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func TestAPrivateFileIsRead(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		text, err := ReadPrivate(secretFile(t, mode), 5)
		require.NoError(t, err)
		require.Equal(t, "horse", string(text))
	}
}

func TestAFileThatOthersCanReachIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o604, 0o640, 0o620, 0o602, 0o601, 0o610, 0o700, 0o777} {
		text, err := ReadPrivate(secretFile(t, mode), 5)
		require.ErrorIs(t, err, ErrUnsafe, "mode %o", mode)
		require.Nil(t, text)
	}
}

type owned struct {
	fs.FileInfo
	uid  uint32
	mode fs.FileMode
}

func (o owned) Sys() any          { return &syscall.Stat_t{Uid: o.uid} }
func (o owned) Mode() fs.FileMode { return o.mode }

func TestAFileOfAnotherUserIsRefused(t *testing.T) {
	self := uint32(os.Geteuid())
	require.True(t, hasSafeOwnerAndMode(owned{uid: self, mode: 0o600}))
	require.True(t, hasSafeOwnerAndMode(owned{uid: 0, mode: 0o600}), "root's")
	require.False(t, hasSafeOwnerAndMode(owned{uid: self + 1, mode: 0o600}))
}

func TestAFileOfRootThatNobodyCanWriteMayBeReadable(t *testing.T) {
	for _, mode := range []fs.FileMode{0o444, 0o440, 0o404, 0o400} {
		require.True(t, hasSafeOwnerAndMode(owned{uid: 0, mode: mode}), "mode %o", mode)
		require.False(t, hasSafeOwnerAndMode(owned{uid: 1 + uint32(os.Geteuid()), mode: mode}), "mode %o of another user", mode)
	}
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o446, 0o464, 0o445, 0o544, 0o666} {
		require.False(t, hasSafeOwnerAndMode(owned{uid: 0, mode: mode}), "mode %o", mode)
	}
}

func TestOnlyARegularFileHoldsASecret(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for _, path := range []string{pipe, t.TempDir()} {
		_, err := ReadPrivate(path, 5)
		require.ErrorIs(t, err, ErrUnsafe)
	}
	_, err := ReadPrivate(filepath.Join(t.TempDir(), "missing"), 5)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// spy sees the buffer that it is read into.
type spy struct {
	text io.Reader
	into []byte
}

func (s *spy) Read(b []byte) (int, error) {
	s.into = b
	return s.text.Read(b)
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read(b []byte) (int, error) { return copy(b, "horse"), errBroken }

func TestInputThatIsRefusedIsErased(t *testing.T) {
	for want, text := range map[error]io.Reader{ErrTooLong: strings.NewReader("horses"), errBroken: broken{}} {
		r := &spy{text: text}
		got, err := Read(r, "x", 5)
		require.ErrorIs(t, err, want)
		require.Nil(t, got)
		require.NotContains(t, err.Error(), "horse")
		require.Equal(t, make([]byte, 6), r.into)
	}
	_, err := Read(strings.NewReader("horses"), "x", 5)
	require.EqualError(t, err, "x is longer than 5 bytes")
}

func TestSyncDirFailsIfTheDirectoryDoesNotExist(t *testing.T) {
	require.NoError(t, SyncDir(t.TempDir()))
	require.ErrorIs(t, SyncDir(filepath.Join(t.TempDir(), "missing")), fs.ErrNotExist)
}
