package keystore

import (
	"errors"
	"fmt"
)

// The errors of this package and of every [Backend], for errors.Is. Errors of a context pass through as they are.
var (
	// ErrNotFound: no record has the key.
	ErrNotFound = errors.New("keystore: no such record")
	// ErrConflict: an expectation of the transaction does not hold; nothing was changed. Read again, then retry.
	ErrConflict = errors.New("keystore: a record changed since it was read: read it again and retry")
	// ErrInvalid: a key, value or transaction is outside the limits of this package; nothing was changed.
	ErrInvalid = errors.New("keystore: outside the limits")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("keystore: closed")
	// ErrCompacted: Watch was asked for changes that are no longer kept. Drop what was cached, then watch from now.
	ErrCompacted = errors.New("keystore: the changes asked for are no longer kept: drop what is cached and watch from the current revision")
	// ErrLocked: another process, or this one, has the file open.
	ErrLocked = errors.New("keystore: the file is open already, here or in another process: close it there first")
	// ErrRootKey: the root key is not the one that the store was sealed with.
	ErrRootKey = errors.New("keystore: wrong root key")
	// ErrNewerVersion: the store was written by a newer version of this package.
	ErrNewerVersion = errors.New("keystore: written by a newer version: upgrade this program")
	// ErrCorrupt: a record or the header fails authentication, or the file is damaged. Restore it from a backup.
	ErrCorrupt = errors.New("keystore: damaged or tampered with: restore it from a backup")
	// ErrFull: no space is left on the medium; nothing was changed, and all that was committed is still there.
	ErrFull = errors.New("keystore: no space left: free some, then retry")
	// ErrNotScrubbed: the transaction stands, but what it replaced may still be readable in the medium. Any later
	// transaction with Scrub that replaces something tries again, and keystore/bolt also when it opens the file.
	ErrNotScrubbed = errors.New("keystore: committed, but the replaced values could not be scrubbed: commit with Scrub again")
	// ErrPermissions: others than the owner could read or write the key file.
	ErrPermissions = errors.New("keystore: unsafe key file")
)

// A RecordError says which record a [Store] could not open. Unwrap gives the cause, such as [ErrCorrupt]; the other records
// are not affected, and a Scan can go on after Key.
type RecordError struct {
	Key string
	Err error
}

// Error names the record, by its key, and the cause.
func (e *RecordError) Error() string { return fmt.Sprintf("record %q: %v", e.Key, e.Err) }

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }
