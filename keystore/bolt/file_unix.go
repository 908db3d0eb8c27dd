//go:build unix && !solaris && !aix

package bolt

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// openLocked opens the file and takes the lock that bbolt takes, before anyone looks into it. bbolt is then given this very file,
// and to take a lock again through the same open file changes nothing.
func openLocked(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockTimeout / 20) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if busy := errors.Is(err, syscall.EWOULDBLOCK); !busy || time.Now().After(deadline) {
			_ = file.Close()
			if busy {
				err = keystore.ErrLocked
			}
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// release closes the file and gives its lock back, which the mapping of it would keep if bbolt was not closed.
func unlockAndClose(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}
