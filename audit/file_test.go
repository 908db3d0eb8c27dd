package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenFileAppendsAtTheBeginningOfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for _, step := range []struct{ write, want string }{
		{"one\n", "one\n"},
		{"torn", "one\ntorn"},
		{"two\n", "one\ntorn\ntwo\n"},
	} {
		file, err := OpenFile(path)
		require.NoError(t, err)
		info, err := file.Stat()
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
		_, err = file.WriteString(step.write)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, step.want, string(text))
	}
	_, err := OpenFile(t.TempDir())
	require.Error(t, err)
}

// Root may read all files, so the refusal is made.
func TestAFileNeedNotBeReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer file.Close()
	refuse := func(err error) func(string) (*os.File, error) {
		return func(name string) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	}
	require.NoError(t, endLine(file, refuse(fs.ErrPermission)))
	require.ErrorIs(t, endLine(file, refuse(fs.ErrNotExist)), fs.ErrNotExist)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "{}", string(text))
}
