// Package securefile reads files that hold secrets, and makes the names of new files durable.
package securefile

import (
	"errors"
	"fmt"
	"io"

	"github.com/pocketkms/kms/internal/secret"
)

var (
	// ErrUnsafe: users other than its owner can read or write the file.
	ErrUnsafe = errors.New("a secret must be in a regular file of mode 0600 or less, owned by this user or by root, or 0444 or less, owned by root")
	// ErrTooLong: the input is longer than the limit.
	ErrTooLong = errors.New("longer")
)

// ReadPrivate reads a file that holds a secret. The error is ErrTooLong if it has more than limit
// bytes, and ErrUnsafe unless it is a regular file of mode 0600 or less that belongs to the current
// user or to root, or of mode 0444 or less that belongs to root. On systems without Unix
// permissions only the type of the file is checked. The caller erases the result.
func ReadPrivate(path string, limit int) ([]byte, error) {
	f, err := openNonblocking(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, which cannot be replaced in between
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !hasSafeOwnerAndMode(info) {
		return nil, fmt.Errorf("%s has mode %v: %w", path, info.Mode(), ErrUnsafe)
	}
	return Read(f, path, limit)
}

// Read reads all of r, which may hold a secret. The error is ErrTooLong if r has more than limit
// bytes; it contains name. The caller erases the result.
func Read(r io.Reader, name string, limit int) ([]byte, error) {
	b := make([]byte, limit+1)
	n, err := io.ReadFull(r, b)
	switch {
	case err == nil:
		err = fmt.Errorf("%s is %w than %d bytes", name, ErrTooLong, limit)
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return b[:n], nil
	}
	secret.Clear(b)
	return nil, err
}
