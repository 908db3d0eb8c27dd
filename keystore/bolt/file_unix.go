//go:build unix && !solaris && !aix

package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// openLocked opens or creates the file and takes the lock that bbolt takes, before anything reads
// the file. bbolt is then given this very file, and to lock an open file again changes nothing.
// openLocked waits for the lock until ctx is done. created reports whether it created the file.
func openLocked(ctx context.Context, path string) (f *os.File, created bool, err error) {
	for range 10 {
		if f, created, err = openOrCreate(path); err != nil {
			return nil, false, err
		}
		if err = lock(ctx, f); err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		// The process that had the lock may have removed the file, or replaced it.
		there, err := os.Stat(path)
		if err == nil {
			var here os.FileInfo
			if here, err = f.Stat(); err == nil && os.SameFile(there, here) {
				return f, created, nil
			}
		}
		if err := unlockAndClose(f); err != nil {
			return nil, false, err
		}
	}
	return nil, false, keystore.ErrReplaced
}

func lock(ctx context.Context, f *os.File) error {
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return lockedError(ctx)
		}
	}
}

func lockedError(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, keystore.ErrLocked) {
		return fmt.Errorf("%w: %w", keystore.ErrLocked, cause)
	}
	return keystore.ErrLocked
}

// unlockAndClose closes the file and releases its lock, which the mapping of the file would keep if
// bbolt was not closed.
func unlockAndClose(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// unlockToReplace does nothing: here a file can be replaced while it is open and locked.
func unlockToReplace(*os.File) {}
