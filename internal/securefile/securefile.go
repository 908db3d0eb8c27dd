// Package securefile reads files that hold secrets, and makes the names of new files durable.
package securefile

import (
	"errors"
	"fmt"
	"io"

	"github.com/pocketkms/kms/internal/secret"
)

var (
	// ErrUnsafe: others than the owner could read or write the file.
	ErrUnsafe = errors.New("what holds a secret must be a regular file of mode 0600 or less, owned by this user or by root")
	// ErrTooLong: there are more bytes than were asked for. Read makes a sentence of its text.
	ErrTooLong = errors.New("longer")
)

// ReadPrivate reads a file that holds a secret: a regular file of at most limit bytes, which nobody but its owner, this
// user or root, can read; else the error is ErrUnsafe or ErrTooLong. Without Unix permissions only the kind of file is
// checked. The caller erases what it returns.
func ReadPrivate(path string, limit int) ([]byte, error) {
	f, err := openNonblocking(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened: nobody can swap it in between
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !hasSafeOwnerAndMode(info) {
		return nil, fmt.Errorf("%s has mode %v: %w", path, info.Mode(), ErrUnsafe)
	}
	return Read(f, path, limit)
}

// Read reads all of r, which may hold a secret, up to limit bytes; name is for the error, ErrTooLong, if it has more. The
// caller erases what it returns.
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
