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

func hasSafeOwnerAndMode(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().Perm()&0o177 == 0 && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}
