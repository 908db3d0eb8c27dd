//go:build !unix

package securefile

import (
	"io/fs"
	"os"
)

func openNonblocking(path string) (*os.File, error) { return os.Open(path) }

func hasSafeOwnerAndMode(fs.FileInfo) bool { return true }
