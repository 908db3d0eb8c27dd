package main

import (
	"fmt"
	"io"

	"github.com/pocketkms/kms/internal/secret"
)

// readPrivate reads a file that holds a secret: a regular file of at most limit bytes, which nobody but its owner, this
// user or root, can read. The caller erases what it returns.
func readPrivate(path string, limit int) ([]byte, error) {
	f, err := openPrivate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened: nobody can swap it in between
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !ownedSafely(info) {
		return nil, fmt.Errorf("%s has mode %v: what holds a secret must be a regular file of mode 0600 or less, owned by this user or by root", path, info.Mode())
	}
	return readBounded(f, path, limit)
}

// readBounded reads all of r, whose name is for the error if it has more than limit bytes.
func readBounded(r io.Reader, name string, limit int) ([]byte, error) {
	b := make([]byte, limit+1)
	n, err := io.ReadFull(r, b)
	switch {
	case err == nil:
		err = fmt.Errorf("%s is longer than %d bytes", name, limit)
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return b[:n], nil
	}
	secret.Clear(b)
	return nil, err
}
