//go:build !unix

package keystore

import (
	"io/fs"
	"os"
)

func openKeyFile(path string) (*os.File, error) { return os.Open(path) }

func ownedSafely(fs.FileInfo) bool { return true }

func syncDir(string) error { return nil }
