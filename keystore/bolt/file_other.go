//go:build !unix || solaris || aix

package bolt

import (
	"context"
	"os"
)

// openLocked leaves the lock to bbolt, because here a file cannot be locked twice.
func openLocked(_ context.Context, path string) (f *os.File, created bool, err error) {
	return openOrCreate(path)
}

func unlockAndClose(f *os.File) error { return f.Close() }

// unlockToReplace closes the file, because here an open file may not be replaced.
func unlockToReplace(f *os.File) { _ = f.Close() }
