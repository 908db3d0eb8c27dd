//go:build unix

package securefile

import (
	"io/fs"
	"os"
	"syscall"
)

// openNonblocking opens a file for reading. It does not wait for a writer if the file is a pipe.
func openNonblocking(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// hasSafeOwnerAndMode accepts a file that only its owner can use, this user or root. It also accepts
// one of root's that nobody can write, for which others may have the permission to read: so
// container runtimes mount secrets, for the one user who is in the container. A careless creation
// does not make such files, because it leaves the permission to write to the owner.
func hasSafeOwnerAndMode(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	if stat.Uid == 0 && mode&^0o444 == 0 {
		return true
	}
	return mode&^0o600 == 0 && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}
