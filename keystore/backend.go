// Package keystore keeps records at rest: sealed, bound to their place, and changed only in transactions.
//
// A [Backend] is an ordered key-value store with revisions; keystore/memory and keystore/bolt are two. A [Store] is a sealed
// view of one: [Open] it with a [RootKey], and each value is encrypted before it reaches the backend.
//
// # What a stolen store tells
//
// The keys of records are visible: choose them knowing that. Of a value nothing is, except its length. A value that was
// edited, swapped with another, or copied to another key or store is refused with [ErrCorrupt]. What cannot be noticed
// without a witness outside the store is time travel: a whole store, or the value of one record, set back to what it was
// earlier under the same seal.
//
// The layouts of bytes are in docs/store.md.
package keystore

import (
	"context"
	"fmt"
	"iter"
)

// Limits of every Backend, chosen so that distributed ones can keep them too. Beyond them is [ErrInvalid].
const (
	MaxKeyBytes   = 1024    // a key has 1 to 1024 bytes, of any value
	MaxValueBytes = 1 << 20 // a value has 0 to 1 MiB; under a Store, SealOverheadBytes less
	MaxTxOps      = 100     // Puts and Deletes together; and Expect, where a Store adds one of its own
	MaxTxBytes    = 5 << 18 // 1.25 MiB for all keys and values of a transaction
)

// A Revision counts the commits of a store: each commit that writes gets a higher one than all before. 0 is before the first.
type Revision uint64

// A Record is a key, its value, and the revision of the commit that last wrote it. Its value is the caller's own.
type Record struct {
	Key      string
	Value    []byte
	Revision Revision
}

// An Expectation holds if the record Key is at exactly this Revision; 0: if there is no such record.
type Expectation struct {
	Key      string
	Revision Revision
}

// A Put writes a record, new or not.
type Put struct {
	Key   string
	Value []byte
}

// A Tx is done wholly or not at all. Expectations are about the state before it. A key is in Expect at most once, and in Puts
// and Deletes together at most once. To delete a key that does not exist is no error.
type Tx struct {
	Expect  []Expectation
	Puts    []Put
	Deletes []string
	// Scrub: once Commit has returned, the values that the transaction overwrote or deleted can no longer be read from
	// the medium, as far as the backend can reach: its own documentation says how far that is. It makes a commit slower.
	// If only this last part fails, Commit returns the revision and ErrNotScrubbed: the transaction stands.
	Scrub bool
}

// An Event tells that the commit at Revision wrote or deleted the record Key.
type Event struct {
	Key      string
	Revision Revision
	Deleted  bool
}

// A Backend is an ordered key-value store with revisions. Its methods may be called concurrently; each is linearizable.
// It keeps no slice that it was given, and shares none that it gives. Package keystoretest tests all that is said here.
//
// Watch aside, methods return the error of a context that was done when they were called, and then did nothing. Commit may
// also return it later as long as nothing was done; once begun, it is finished.
type Backend interface {
	// Get returns the record of a key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)

	// Scan returns, in ascending order of key bytes, the first limit records whose keys begin with prefix and come after
	// the key after; "" for either leaves it out. limit must be positive. All are of one moment. Fewer than limit records
	// means that there are no more.
	Scan(ctx context.Context, prefix, after string, limit int) ([]Record, error)

	// Commit carries out the transaction and returns its revision once it is durable. If an expectation does not hold it
	// does nothing and returns ErrConflict. A Tx that writes nothing is only checked, and returns the current revision.
	Commit(ctx context.Context, tx Tx) (Revision, error)

	// Watch yields the changes of all commits after a revision, in the order of commits and each once, and waits for
	// further ones. The events of one commit come together, in any order: to resume after an interruption, give the
	// revision before that of the last event. The sequence ends with an error: that of the context, ErrClosed, or
	// ErrCompacted if the backend no longer knows the changes after the revision.
	Watch(ctx context.Context, after Revision) iter.Seq2[Event, error]

	// Close waits for calls in progress and frees all resources. All later calls return ErrClosed, Close included.
	Close() error
}

// ValidateKey tells by ErrInvalid that a key is not within the limits. It is for implementers of Backend.
func ValidateKey(key string) error {
	if len(key) < 1 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key has 1 to %d bytes, this one %d", ErrInvalid, MaxKeyBytes, len(key))
	}
	return nil
}

// ValidateScan tells by ErrInvalid that the arguments of Scan are not within the limits. It is for implementers of Backend.
func ValidateScan(prefix, after string, limit int) error {
	if limit < 1 {
		return fmt.Errorf("%w: the limit of a scan is positive, this one %d", ErrInvalid, limit)
	}
	if len(prefix) > MaxKeyBytes || len(after) > MaxKeyBytes {
		return fmt.Errorf("%w: a key has at most %d bytes", ErrInvalid, MaxKeyBytes)
	}
	return nil
}

// Validate tells by ErrInvalid that the transaction is not within the limits. It is for implementers of Backend.
func (tx Tx) Validate() error {
	if len(tx.Expect) > MaxTxOps+1 || len(tx.Puts)+len(tx.Deletes) > MaxTxOps {
		return fmt.Errorf("%w: a transaction has at most %d expectations and %d writes", ErrInvalid, MaxTxOps+1, MaxTxOps)
	}
	size := 0
	check := func(i int, keyAt func(int) string) error {
		key := keyAt(i)
		size += len(key)
		for j := range i { // at most MaxTxOps: quicker than a map, and free of allocations
			if keyAt(j) == key {
				return fmt.Errorf("%w: the key %q is twice in a transaction", ErrInvalid, key)
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
			return fmt.Errorf("%w: a value has at most %d bytes, that of %q %d", ErrInvalid, MaxValueBytes, put.Key, len(put.Value))
		}
	}
	if size > MaxTxBytes {
		return fmt.Errorf("%w: the keys and values of a transaction have at most %d bytes, these %d", ErrInvalid, MaxTxBytes, size)
	}
	return nil
}
