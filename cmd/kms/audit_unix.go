//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/pocketkms/kms/audit"
)

// openAudit opens the audit log. A named pipe is opened without waiting for a reader: the service
// would neither start nor say why.
func openAudit(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != os.ModeNamedPipe {
		return audit.OpenFile(path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%s is a named pipe that nobody reads: start its reader first", path)
	}
	return file, err
}
