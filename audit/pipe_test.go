//go:build unix

package audit

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestANamedPipeWithoutAReaderIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	_, err := OpenFile(path)
	require.ErrorContains(t, err, "is a named pipe that nobody reads")

	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	file, err := OpenFile(path)
	require.NoError(t, err)
	require.NoError(t, file.Record(t.Context(), &Event{EventName: "one"}))
	require.NoError(t, file.Sync(t.Context()), "a pipe has nothing to sync")
	line := make([]byte, len(recorded("one")))
	_, err = reader.Read(line)
	require.NoError(t, err)
	require.Equal(t, recorded("one"), string(line))
	require.NoError(t, reader.Close())
	require.Error(t, file.Record(t.Context(), &Event{}), "the reader has gone")
	require.NoError(t, file.Close())
}
