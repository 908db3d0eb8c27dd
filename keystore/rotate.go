package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/secret"
)

// ChangeRootKey seals the store under another root key. It rewrites one record. Other processes
// that have the store open can still read it until the seal is rotated, and delete records. Their
// other writes fail with ErrRootKey until they open the store again with the new root key.
//
// The keys that seal records do not change. Whoever has an old copy of the store and its old root
// key has them: after such a loss, change the root key and then call RotateSeal.
//
// ErrNotScrubbed means that the change stands: keep the new root key, because only it opens the
// store now. The old header, which the old root key opens, may still be readable on the medium; to
// erase it, call ChangeRootKey again with the new root key. After an error that does not tell
// whether the commit stands, such as a lost connection, keep both root keys until one of them has
// opened the store.
func (s *Store) ChangeRootKey(ctx context.Context, root RootKey) error {
	if err := checkEphemeral(s.backend, root); err != nil {
		return err
	}
	h, key, err := newHeader(ctx, s.seal.Load().header.storeID, root) // slow for a passphrase, so before the lock
	if err != nil {
		return err
	}
	_, err = s.replaceHeader(ctx, func(current *seal) (*header, tink.AEAD, *keyset.Handle, error) {
		return h, key, current.handle, nil
	})
	return err
}

// RotateSeal creates a new seal key, seals every record under it, and then deletes the old one. It
// may be interrupted at any point, also by the end of the process: the next call resumes the
// rotation. Meanwhile the store can be used as usual, in this and other processes; the revisions of
// records change as they are resealed. After each batch RotateSeal calls progress, unless it is
// nil, with the number of records that this call has resealed.
//
// If a record cannot be decrypted, RotateSeal stops with a *[RecordError], because without the old
// key the record would be lost. Delete or restore it, then call RotateSeal again.
//
// ErrNotScrubbed means that a change of the header stands, but the header before may still be
// readable on the medium. If that was the last step, the rotation is complete, and the old header
// holds the old seal key, encrypted under the root key; if it was the first, the rotation has
// begun. Call RotateSeal again in either case: it resumes or rotates once more, and tries to erase
// the old header again.
func (s *Store) RotateSeal(ctx context.Context, progress func(done int)) error {
	current, err := s.latest(ctx)
	if err != nil {
		return err
	}
	if len(current.ids) == 1 {
		if current, err = s.replaceHeader(ctx, addKeyTo); err != nil {
			return err
		}
	}
	if err = s.resealAll(ctx, current.primary, progress); err == nil {
		// All records are under the primary key now, and no writer can use an older one, because
		// each commit of a sealed record expects the header that it was sealed under.
		_, err = s.replaceHeader(ctx, func(now *seal) (*header, tink.AEAD, *keyset.Handle, error) {
			if now.primary != current.primary || len(now.ids) == 1 {
				return nil, nil, nil, errSuperseded
			}
			handle, err := now.primaryOnly()
			return now.header, now.root, handle, err
		})
	}
	if errors.Is(err, errSuperseded) {
		return nil
	}
	return err
}

// errSuperseded: another process finished this rotation. None begins while one is unfinished.
var errSuperseded = errors.New("keystore: another process finished this rotation of the seal")

func addKeyTo(current *seal) (*header, tink.AEAD, *keyset.Handle, error) {
	handle := current.handle
	var err error
	if len(current.ids) == 1 { // otherwise another process has just added it
		handle, err = addSealKey(handle)
	}
	return current.header, current.root, handle, err
}

// A headerChange returns what replaces the current seal: the header, the AEAD of its root key, and
// the keyset to seal in it.
type headerChange func(current *seal) (*header, tink.AEAD, *keyset.Handle, error)

// replaceHeader commits the header and keyset that change returns, and makes them the store's seal.
// It holds the lock until then, because a reload of the new header would look for the old root key.
func (s *Store) replaceHeader(ctx context.Context, change headerChange) (*seal, error) {
	for range maxReloads {
		current, err := s.latest(ctx)
		if err != nil {
			return nil, err
		}
		next, err := s.tryReplaceHeader(ctx, current, change)
		if !errors.Is(err, ErrConflict) {
			return next, err
		}
	}
	return nil, fmt.Errorf("%w: the header keeps changing", ErrConflict)
}

func (s *Store) tryReplaceHeader(ctx context.Context, current *seal, change headerChange) (*seal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, root, handle, err := change(current)
	if err != nil {
		return nil, err
	}
	if h, err = encodeKeyset(h, root, handle); err != nil {
		return nil, err
	}
	revision, commitErr := s.backend.Commit(ctx, headerTx(h, current.revision))
	if commitErr != nil && !errors.Is(commitErr, ErrNotScrubbed) {
		return nil, commitErr
	}
	next, err := newSeal(revision, h, root, handle)
	if err != nil {
		return nil, err
	}
	s.seal.Store(next)
	return next, commitErr
}

// latest returns the seal of the stored header.
func (s *Store) latest(ctx context.Context) (*seal, error) { return s.reload(ctx, s.seal.Load()) }

// resealAll reseals all records that are not yet under the primary key.
func (s *Store) resealAll(ctx context.Context, primary uint32, progress func(int)) error {
	done := 0
	for after := lastReserved; ; {
		current := s.seal.Load() // before the records are read, as in withSeal
		records, err := s.backend.Scan(ctx, "", after, MaxTxOps)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return nil
		}
		if current.primary != primary {
			return errSuperseded
		}
		tx, taken, err := current.reseal(records)
		if err != nil {
			// The record may be under a key that only a newer header has.
			next, reloadErr := s.reload(ctx, current)
			if reloadErr != nil {
				return reloadErr
			}
			if next != current {
				continue
			}
			return err
		}
		if len(tx.Puts) > 0 {
			_, err := s.backend.Commit(ctx, tx)
			if errors.Is(err, ErrConflict) { // one of the records or the header has changed
				if _, err := s.latest(ctx); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			done += len(tx.Puts)
			if progress != nil {
				progress(done)
			}
		}
		after = records[taken-1].Key
	}
}

// reseal returns the transaction that reseals the first records, as many as fit, under the primary
// key. taken is their number, including those that are already under it.
func (sl *seal) reseal(records []Record) (tx Tx, taken int, err error) {
	tx.Expect = append(tx.Expect, Expectation{headerKey, sl.revision})
	size := len(headerKey)
	for _, record := range records {
		size += 2*len(record.Key) + len(record.Value)
		if taken > 0 && size > MaxTxBytes {
			break
		}
		taken++
		if len(record.Value) >= sealOverheadBytes && keyID(record.Value) == sl.primary {
			continue
		}
		if _, err := sl.openRecord(&record); err != nil {
			return Tx{}, 0, err
		}
		value, err := sl.sealValue(record.Key, record.Value)
		secret.Clear(record.Value)
		if err != nil {
			return Tx{}, 0, err
		}
		tx.Expect = append(tx.Expect, Expectation{record.Key, record.Revision})
		tx.Puts = append(tx.Puts, Put{record.Key, value})
	}
	return tx, taken, nil
}
