package keystore

import (
	"errors"
	"fmt"
)

// The errors of this package and of every [Backend], for errors.Is. The errors of a context are
// returned unchanged.
var (
	// ErrNotFound: no record has the key.
	ErrNotFound = errors.New("keystore: no such record")
	// ErrConflict: an expectation of the transaction does not hold; nothing was changed. Read the
	// records again and retry.
	ErrConflict = errors.New("keystore: a record changed since it was read: read it again and retry")
	// ErrInvalid: an argument is outside the limits of this package; nothing was changed.
	ErrInvalid = errors.New("keystore: outside the limits")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("keystore: closed")
	// ErrCompacted: the changes that Watch was asked for are no longer kept. Invalidate what is
	// cached and watch from the current revision.
	ErrCompacted = errors.New("keystore: the changes are no longer kept: invalidate what is cached and watch from the current revision")
	// ErrLocked: the file is already open, in this process or another one.
	ErrLocked = errors.New("keystore: the file is already open in this or another process: close it there first")
	// ErrReplaced: the file was removed, renamed or replaced while it was open. What was committed
	// before is in the old file, if that still exists.
	ErrReplaced = errors.New("keystore: the file was removed or replaced while it was open: open it again")
	// ErrRootKey: the store is sealed under another root key.
	ErrRootKey = errors.New("keystore: wrong root key")
	// ErrNoStore: the backend is empty, and a store was to be opened that exists.
	ErrNoStore = errors.New("keystore: there is no store here")
	// ErrNotEmpty: a backend into which records were to be copied has records already.
	ErrNotEmpty = errors.New("keystore: there is a store here already: copy into an empty one")
	// ErrBackup: a backup is cut off or was changed.
	ErrBackup = errors.New("keystore: the backup is incomplete or damaged: use another one")
	// ErrNewerVersion: the store was written by a newer version of this package.
	ErrNewerVersion = errors.New("keystore: written by a newer version: upgrade this program")
	// ErrCorrupt: a record or the header fails authentication, or the file is damaged. Restore it
	// from a backup.
	ErrCorrupt = errors.New("keystore: damaged or tampered with: restore it from a backup")
	// ErrFull: the medium has no space left; nothing was changed.
	ErrFull = errors.New("keystore: no space left: free some, then retry")
	// ErrNotScrubbed: the transaction stands, but the values that it replaced may still be readable
	// on the medium. The next transaction with Scrub that replaces something tries to erase them
	// again; keystore/bolt also does so when it opens the file.
	ErrNotScrubbed = errors.New("keystore: committed, but the replaced values could not be erased: commit with Scrub again")
	// ErrPermissions: users other than its owner can read or write the key file.
	ErrPermissions = errors.New("keystore: unsafe key file")
)

// A RecordError reports a record that a [Store] could not decrypt. Unwrap returns the cause, such
// as [ErrCorrupt]. Other records are not affected; a Scan can continue after Key.
type RecordError struct {
	Key string
	Err error
}

// Error returns the key of the record and the cause.
func (e *RecordError) Error() string { return fmt.Sprintf("record %q: %v", e.Key, e.Err) }

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }
