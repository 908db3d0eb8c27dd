package main

import (
	"errors"
	"syscall"
)

// restrictSocket gives a socket mode 0600 before it has a name: with a permissive umask, others could
// connect between its creation and a chmod.
func restrictSocket(_, _ string, c syscall.RawConn) error {
	var chmod error
	err := c.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmod)
}
