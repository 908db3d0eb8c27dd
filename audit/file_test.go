package audit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is the line of an event of that name.
func recorded(name string) string {
	return string((&Event{EventName: name}).appendJSON(nil)) + "\n"
}

func requireFile(t *testing.T, path, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(text))
}

func TestAFileIsAppendedToAtTheBeginningOfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for _, step := range []struct{ torn, want string }{
		{"", recorded("one")},
		{"", recorded("one") + recorded("two")},
		{"torn", recorded("one") + recorded("two") + "torn\n" + recorded("three")},
	} {
		if step.torn != "" {
			file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = file.WriteString(step.torn)
			require.NoError(t, errors.Join(err, file.Close()))
		}
		file, err := OpenFile(path)
		require.NoError(t, err)
		name := []string{"one", "two", "three"}[strings.Count(step.want, "eventName")-1]
		require.NoError(t, file.Record(t.Context(), &Event{EventName: name}))
		require.NoError(t, file.Sync(t.Context()))
		require.NoError(t, file.Close())
		requireFile(t, path, step.want)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	_, err := OpenFile(t.TempDir())
	require.Error(t, err)
}

func TestAReopenedFileIsTheOneAtItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	file, err := OpenFile(path)
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Record(t.Context(), &Event{EventName: "one"}))
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, file.Record(t.Context(), &Event{EventName: "two"}))

	require.NoError(t, file.Reopen())

	require.NoError(t, file.Record(t.Context(), &Event{EventName: "three"}))
	requireFile(t, path+".1", recorded("one")+recorded("two"))
	requireFile(t, path, recorded("three"))

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700)) // which cannot be opened to write to
	require.Error(t, file.Reopen())
	require.NoError(t, file.Record(t.Context(), &Event{EventName: "four"}), "events go on to the file that is open")
}

func TestEventsAreNotLostWhileAFileIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	file, err := OpenFile(path)
	require.NoError(t, err)
	done := make(chan error)
	const events = 200
	go func() {
		var failures error
		for range events {
			failures = errors.Join(failures, file.Record(context.Background(), &Event{}), file.Sync(context.Background()))
		}
		done <- failures
	}()
	for range 20 {
		require.NoError(t, file.Reopen())
	}
	require.NoError(t, <-done)
	require.NoError(t, file.Close())
	requireFile(t, path, strings.Repeat(recorded(""), events))
}

// Root may read all files, so the refusal is made up.
func TestAFileNeedNotBeReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer file.Close()
	refuse := func(err error) func(string) (*os.File, error) {
		return func(name string) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	}
	require.NoError(t, terminateLastLine(file, refuse(fs.ErrPermission)))
	require.ErrorIs(t, terminateLastLine(file, refuse(fs.ErrNotExist)), fs.ErrNotExist)
	requireFile(t, path, "{}")
}
