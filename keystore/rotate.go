package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/secret"
)

// ChangeRootKey seals the store with another root key: one record is rewritten. Other processes that have the store open can
// still read it, until a rotation of the seal, and delete records. Whatever else they write fails with ErrRootKey until they open
// the store again with the new root key.
//
// The keys that seal records stay as they are. One who has an old copy of the store and its old root key knows them: after such
// a loss, change the root key and then call RotateSeal.
//
// ErrNotScrubbed means that the change stands: keep the new root key, from now on no other opens the store. Only traces of the
// old header, for which the old root key is good, may be left in the medium; to erase them, call again with the new root key.
// After an error that leaves open whether the commit stands, such as a lost connection, keep both root keys until one of them
// has opened the store.
func (s *Store) ChangeRootKey(ctx context.Context, root RootKey) error {
	h, key, err := bind(ctx, s.seal.Load().header.storeID, root) // slow for a passphrase, so before the lock
	if err != nil {
		return err
	}
	_, err = s.replaceHeader(ctx, func(current *seal) (*header, tink.AEAD, *keyset.Handle, error) {
		return h, key, current.handle, nil
	})
	return err
}

// RotateSeal makes a new key to seal records with, seals every record anew, and then forgets the old key. It may be interrupted
// at any point, also by the end of the process: the next call goes on with the unfinished rotation. Meanwhile the store can be
// used as ever, here and in other processes; records change their revisions as they are sealed anew. progress, which may be
// nil, is told after each batch how many records this call has sealed so far.
//
// If a record cannot be opened, RotateSeal stops there with a *[RecordError], since with the old key it would be lost for good.
// Delete or restore it, then call again.
//
// ErrNotScrubbed means that a change of the header stands, and that traces of the header before may be left in the medium. If it
// was the last step, the rotation is complete, and the traces hold the old key, under the root key; if it was the first, the
// rotation has begun. To call again is right in both cases: that rotates once more or goes on, and again tries to erase.
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
	if err = s.sealAll(ctx, current.primary, progress); err == nil {
		// All records are under the primary key now, and no writer can use an older one, because each commit of a sealed
		// record expects the header that it was sealed by.
		_, err = s.replaceHeader(ctx, func(now *seal) (*header, tink.AEAD, *keyset.Handle, error) {
			if now.primary != current.primary || len(now.ids) == 1 {
				return nil, nil, nil, errOvertaken
			}
			handle, err := now.onlyPrimary()
			return now.header, now.root, handle, err
		})
	}
	if errors.Is(err, errOvertaken) {
		return nil
	}
	return err
}

// errOvertaken: another process finished this rotation, since none begins while one is unfinished.
var errOvertaken = errors.New("keystore: another process finished this rotation of the seal")

func addKeyTo(current *seal) (*header, tink.AEAD, *keyset.Handle, error) {
	handle := current.handle
	var err error
	if len(current.ids) == 1 { // or else another process has just done it
		handle, err = addSealKey(handle)
	}
	return current.header, current.root, handle, err
}

// A headerChange gives what is to follow the current seal: the header, the AEAD of its root key, and the keyset to seal in it.
type headerChange func(current *seal) (*header, tink.AEAD, *keyset.Handle, error)

// replaceHeader commits the header that change makes of the current one, with the keyset that it gives, and takes it as the new
// seal. Until it is taken no reload can see it, since it knows its root key better.
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
	return nil, fmt.Errorf("%w: the header changes all the time", ErrConflict)
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

// latest returns the seal of the header as it stands.
func (s *Store) latest(ctx context.Context) (*seal, error) { return s.reload(ctx, s.seal.Load()) }

// sealAll goes through all records and seals those anew that are not yet under the primary key.
func (s *Store) sealAll(ctx context.Context, primary uint32, progress func(int)) error {
	done := 0
	for after := lastReserved; ; {
		current := s.seal.Load() // before the records are read, as in reading
		records, err := s.backend.Scan(ctx, "", after, MaxTxOps)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return nil
		}
		if current.primary != primary {
			return errOvertaken
		}
		tx, taken, err := current.sealAnew(records)
		if err != nil {
			// Perhaps the record is under a key that only a newer header has.
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
			if errors.Is(err, ErrConflict) { // somebody wrote one of these: look at them again
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

// sealAnew makes the transaction that seals the first of some records under the primary key, as many as fit; taken is their
// number, those included that are under it already.
func (s *seal) sealAnew(records []Record) (tx Tx, taken int, err error) {
	tx.Expect = append(tx.Expect, Expectation{headerKey, s.revision})
	size := len(headerKey)
	for _, record := range records {
		size += 2*len(record.Key) + len(record.Value)
		if taken > 0 && size > MaxTxBytes {
			break
		}
		taken++
		if len(record.Value) >= SealOverheadBytes && keyID(record.Value) == s.primary {
			continue
		}
		if _, err := s.openRecord(&record); err != nil {
			return Tx{}, 0, err
		}
		value, err := s.sealValue(record.Key, record.Value)
		secret.Clear(record.Value)
		if err != nil {
			return Tx{}, 0, err
		}
		tx.Expect = append(tx.Expect, Expectation{record.Key, record.Revision})
		tx.Puts = append(tx.Puts, Put{record.Key, value})
	}
	return tx, taken, nil
}
