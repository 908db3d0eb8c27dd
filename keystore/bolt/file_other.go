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
