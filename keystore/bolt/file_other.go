//go:build !unix || solaris || aix

package bolt

import "os"

// openLocked leaves the lock to bbolt: here it could not be taken twice.
func openLocked(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

func unlockAndClose(file *os.File) error { return file.Close() }
