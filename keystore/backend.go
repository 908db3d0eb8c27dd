// Package keystore stores encrypted records and changes them in transactions.
//
// A [Backend] is an ordered key-value store with revisions; packages keystore/memory and
// keystore/bolt implement it. A [Store] encrypts the values of a Backend: [Open] one with a
// [RootKey], and every value is sealed before it reaches the backend.
//
// # What a stolen store reveals
//
// The keys of records are visible; choose them with that in mind. Of values, only their lengths are
// visible. A value that was edited, swapped with another, or copied to another key or store is
// refused with [ErrCorrupt]. Rollback is not detected: whoever can write to the backend can restore
// an older copy of it, or of a single record.
//
// The formats are specified in docs/store.md.
package keystore

import (
	"context"
	"fmt"
	"iter"
)

// Limits of every Backend, low enough for distributed ones. What exceeds them is refused with
// [ErrInvalid].
const (
	MaxKeyBytes   = 1024    // a key has 1 to 1024 arbitrary bytes
	MaxValueBytes = 1 << 20 // a value has 0 to 1 MiB; in a Store, 45 bytes less
	MaxTxOps      = 100     // Puts and Deletes together; and Expect, to which a Store adds one
	MaxTxBytes    = 5 << 18 // 1.25 MiB for all keys and values of a transaction
)

// A Revision numbers a commit. Each commit that writes has a higher revision than all earlier ones.
// Revision 0 is that of an empty store.
type Revision uint64

// A Record is a key, its value, and the revision of the commit that last wrote it. The value
// belongs to the caller.
type Record struct {
	Key      string
	Value    []byte
	Revision Revision
}

// An Expectation holds if the record Key is at exactly this Revision or, for Revision 0, does not
// exist.
type Expectation struct {
	Key      string
	Revision Revision
}

// A Put creates or replaces a record.
type Put struct {
	Key   string
	Value []byte
}

// A Tx is a transaction: all of it takes effect, or nothing. Expectations refer to the state before
// it. A key may occur once in Expect, and once in Puts and Deletes together. Deleting a key that
// does not exist is not an error.
type Tx struct {
	Expect  []Expectation
	Puts    []Put
	Deletes []string
	// Scrub asks Commit not to return before the values that the transaction overwrote or deleted
	// are erased from the medium, as far as the backend can reach: its documentation says how far
	// that is. Such a commit is slower. If only the erasure fails, Commit returns the revision and
	// ErrNotScrubbed, and the transaction stands.
	Scrub bool
}

// An Event reports that the commit at Revision wrote or deleted the record Key.
type Event struct {
	Key      string
	Revision Revision
	Deleted  bool
}

// A Backend is an ordered key-value store with revisions. Its methods may be called concurrently
// and are linearizable. It neither keeps the slices that it is passed nor shares those that it
// returns. Package keystoretest tests everything that is said here.
//
// Except for Watch, a method whose context is done when it is called does nothing and returns the
// context's error. Commit may also return that error later, provided it has done nothing.
//
// A Backend may also have the methods of [Pinger], [Snapshotter] and [Volatile].
type Backend interface {
	// Get returns the record with the given key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)

	// Scan returns, in ascending order of their bytes, the first limit records whose keys begin
	// with prefix and are greater than after; either may be empty. limit must be positive. The
	// records are a snapshot. Fewer than limit records mean that there are no more.
	Scan(ctx context.Context, prefix, after string, limit int) ([]Record, error)

	// Commit carries out the transaction and returns its revision once it is durable. If an
	// expectation does not hold, Commit changes nothing and returns ErrConflict. A transaction that
	// writes nothing only checks its expectations and returns the current revision.
	Commit(ctx context.Context, tx Tx) (Revision, error)

	// Watch yields the changes of all commits after a revision, each once and in the order of the
	// commits, and waits for more. The events of one commit are adjacent, in any order; to resume
	// after an interruption, pass the revision before that of the last event. The sequence ends
	// with an error: the context's, ErrClosed, or ErrCompacted if the backend no longer has the
	// changes after the revision.
	Watch(ctx context.Context, after Revision) iter.Seq2[Event, error]

	// Close waits for calls in progress and frees all resources. Later calls, also of Close, return
	// ErrClosed.
	Close() error
}

// A Pinger is a Backend that knows whether it can still be used: a connection may be lost, a file
// removed.
type Pinger interface {
	// Ping returns the error that other calls would fail with, or nil. It may make them fail.
	Ping(ctx context.Context) error
}

// A Snapshotter is a Backend that can be read as a whole while it is changed. [Backup] and [Copy] of
// any other must be the only ones that use it.
type Snapshotter interface {
	// Snapshot yields all records, in ascending order of their keys, as they were at one moment
	// after the call. Changes do not wait until the caller has taken them. The sequence ends after
	// the last record, or with an error. It can be used once.
	Snapshot(ctx context.Context) iter.Seq2[Record, error]
}

// Volatile is implemented by a Backend whose records do not outlive the process. Only such a
// backend can be sealed under an [Ephemeral] root key.
type Volatile interface {
	// Volatile reports whether all records are lost when the process ends.
	Volatile() bool
}

// ValidateKey returns ErrInvalid if the key is not within the limits. It is for implementations of
// Backend.
func ValidateKey(key string) error {
	if len(key) < 1 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes; it must have 1 to %d", ErrInvalid, len(key), MaxKeyBytes)
	}
	return nil
}

// ValidateScan returns ErrInvalid if the arguments of Scan are not within the limits. It is for
// implementations of Backend.
func ValidateScan(prefix, after string, limit int) error {
	if limit < 1 {
		return fmt.Errorf("%w: a scan with limit %d; it must be positive", ErrInvalid, limit)
	}
	if len(prefix) > MaxKeyBytes || len(after) > MaxKeyBytes {
		return fmt.Errorf("%w: a key has at most %d bytes", ErrInvalid, MaxKeyBytes)
	}
	return nil
}

// Validate returns ErrInvalid if the transaction is not within the limits. It is for
// implementations of Backend.
func (tx Tx) Validate() error {
	if len(tx.Expect) > MaxTxOps+1 || len(tx.Puts)+len(tx.Deletes) > MaxTxOps {
		return fmt.Errorf("%w: a transaction has at most %d expectations and %d writes", ErrInvalid, MaxTxOps+1, MaxTxOps)
	}
	size := 0
	check := func(i int, keyAt func(int) string) error {
		key := keyAt(i)
		size += len(key)
		for j := range i { // at most MaxTxOps: faster than a map, and without allocations
			if keyAt(j) == key {
				return fmt.Errorf("%w: the key %q occurs twice in a transaction", ErrInvalid, key)
			}
		}
		return ValidateKey(key)
	}
	for i := range tx.Expect {
		if err := check(i, func(i int) string { return tx.Expect[i].Key }); err != nil {
			return err
		}
	}
	for i := range len(tx.Puts) + len(tx.Deletes) {
		err := check(i, func(i int) string {
			if i < len(tx.Puts) {
				return tx.Puts[i].Key
			}
			return tx.Deletes[i-len(tx.Puts)]
		})
		if err != nil {
			return err
		}
	}
	for _, put := range tx.Puts {
		size += len(put.Value)
		if len(put.Value) > MaxValueBytes {
			return fmt.Errorf("%w: the value of %q has %d bytes; at most %d are allowed",
				ErrInvalid, put.Key, len(put.Value), MaxValueBytes)
		}
	}
	if size > MaxTxBytes {
		return fmt.Errorf("%w: a transaction with %d bytes of keys and values; at most %d are allowed",
			ErrInvalid, size, MaxTxBytes)
	}
	return nil
}
