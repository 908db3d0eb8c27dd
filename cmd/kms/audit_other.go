//go:build !unix

package main

import (
	"os"

	"github.com/pocketkms/kms/audit"
)

// openAudit opens the audit log.
func openAudit(path string) (*os.File, error) { return audit.OpenFile(path) }
