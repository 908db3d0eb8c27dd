package keystore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Store encrypts the values of a [Backend]: its methods take and return plain values, and the
// backend sees only sealed ones. Its methods may be called concurrently, also while this or another
// process changes the root key or rotates the seal.
type Store struct {
	backend Backend
	created bool // by Open
	seal    atomic.Pointer[seal]
	mu      sync.Mutex // held while the seal is replaced
}

// maxReloads bounds how often a call starts over because the header has changed.
const maxReloads = 16

// Open opens the store in a backend with the root key that it is sealed under. If the backend is
// empty, Open creates a new store. It reads only the header. The errors are ErrRootKey for a wrong
// root key, ErrCorrupt, ErrNewerVersion, and those of the backend and of the root key. On success
// the backend belongs to the Store, which closes it; if Open fails, the caller still has to.
func Open(ctx context.Context, backend Backend, root RootKey) (*Store, error) {
	return open(ctx, backend, root, false)
}

// OpenExisting is like Open, but returns ErrNoStore if the backend is empty: a volume that is not
// mounted, or a file that was truncated, must not become a new store.
func OpenExisting(ctx context.Context, backend Backend, root RootKey) (*Store, error) {
	return open(ctx, backend, root, true)
}

func open(ctx context.Context, backend Backend, root RootKey, mustExist bool) (*Store, error) {
	if err := checkEphemeral(backend, root); err != nil {
		return nil, err
	}
	s := &Store{backend: backend}
	record, err := backend.Get(ctx, headerKey)
	if errors.Is(err, ErrNotFound) {
		if mustExist {
			return nil, ErrNoStore
		}
		if err = s.create(ctx, root); err == nil {
			s.created = true
			return s, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
		record, err = backend.Get(ctx, headerKey) // another process was faster
	}
	if err != nil {
		return nil, err
	}
	h, err := decodeHeader(record.Value)
	if err != nil {
		return nil, err
	}
	key, err := unsealRoot(ctx, h, root)
	if err != nil {
		return nil, err
	}
	opened, err := openSeal(record.Revision, h, key)
	if err != nil {
		return nil, err
	}
	s.seal.Store(opened)
	return s, nil
}

// checkEphemeral returns an error if the store would outlive its root key.
func checkEphemeral(backend Backend, root RootKey) error {
	if root == nil || root.Kind() != ephemeralKind {
		return nil
	}
	if v, ok := backend.(Volatile); ok && v.Volatile() {
		return nil
	}
	return fmt.Errorf("%w: an ephemeral root key is lost when the process ends, and so would be this store: use it only in memory", ErrInvalid)
}

func (s *Store) create(ctx context.Context, root RootKey) error {
	if records, err := s.backend.Scan(ctx, "", "", 1); err != nil {
		return err
	} else if len(records) > 0 && records[0].Key != headerKey {
		return fmt.Errorf("%w: records without a header", ErrCorrupt)
	}
	var storeID [16]byte
	rand.Read(storeID[:])
	h, key, err := newHeader(ctx, storeID, root)
	if err != nil {
		return err
	}
	handle, err := addSealKey(nil)
	if err != nil {
		return err
	}
	if h, err = encodeKeyset(h, key, handle); err != nil {
		return err
	}
	revision, err := s.backend.Commit(ctx, headerTx(h, 0))
	if err != nil {
		return err
	}
	created, err := newSeal(revision, h, key, handle)
	if err != nil {
		return err
	}
	s.seal.Store(created)
	return nil
}

// headerTx returns the transaction that replaces the header. It erases the old one, which may be
// the last copy of an old seal key, or of the seal keys under an old root key.
func headerTx(h *header, was Revision) Tx {
	return Tx{
		Expect: []Expectation{{headerKey, was}},
		Puts:   []Put{{headerKey, h.encode()}},
		Scrub:  was != 0,
	}
}

// Get returns a record, or ErrNotFound. A value that was not sealed for this key of this store is a
// *[RecordError] with ErrCorrupt.
func (s *Store) Get(ctx context.Context, key string) (Record, error) {
	if err := validateStoreKey(key); err != nil {
		return Record{}, err
	}
	var record Record
	err := s.withSeal(ctx, func(current *seal) (keyKnown bool, err error) {
		if record, err = s.backend.Get(ctx, key); err != nil {
			return true, err
		}
		if record.Key != key {
			return true, &RecordError{key, ErrCorrupt}
		}
		return current.openRecord(&record)
	})
	if err != nil {
		return Record{}, err
	}
	return record, nil
}

// Scan returns records as [Backend.Scan] does. If one of them cannot be decrypted, it returns those
// before it and a *[RecordError].
func (s *Store) Scan(ctx context.Context, prefix, after string, limit int) ([]Record, error) {
	if strings.HasPrefix(prefix, reservedPrefix) {
		return nil, fmt.Errorf("%w: keys that begin with a zero byte are reserved", ErrInvalid)
	}
	after = max(after, lastReserved)
	var records []Record
	err := s.withSeal(ctx, func(current *seal) (keyKnown bool, err error) {
		if records, err = s.backend.Scan(ctx, prefix, after, limit); err != nil {
			return true, err
		}
		for i := range records {
			if keyKnown, err := current.openRecord(&records[i]); err != nil {
				records = records[:i]
				return keyKnown, err
			}
		}
		return true, nil
	})
	return records, err
}

// lastReserved is the greatest reserved key.
var lastReserved = reservedPrefix + strings.Repeat("\xff", MaxKeyBytes-len(reservedPrefix))

func validateStoreKey(key string) error {
	if strings.HasPrefix(key, reservedPrefix) {
		return fmt.Errorf("%w: keys that begin with a zero byte are reserved", ErrInvalid)
	}
	return ValidateKey(key)
}

// withSeal calls read, which reads and decrypts records, and calls it again if a record is sealed
// under a key that only a newer header has. The seal is loaded before the records are read: if the
// header has not changed after that, no such key exists.
func (s *Store) withSeal(ctx context.Context, read func(*seal) (keyKnown bool, err error)) error {
	for reloads := 0; ; reloads++ {
		current := s.seal.Load()
		keyKnown, err := read(current)
		if err == nil || keyKnown {
			return err
		}
		next, reloadErr := s.reload(ctx, current)
		if reloadErr != nil {
			return reloadErr
		}
		if next == current || reloads == maxReloads {
			return err
		}
	}
}

// Commit carries out a transaction as [Backend.Commit] does. A value may have up to [MaxValueBytes]
// - 45 bytes, because its seal takes 45; Expect may have [MaxTxOps] entries.
func (s *Store) Commit(ctx context.Context, tx Tx) (Revision, error) {
	if err := validateStoreTx(tx); err != nil {
		return 0, err
	}
	for reloads := 0; ; reloads++ {
		current := s.seal.Load()
		sealed, err := current.tx(tx)
		if err != nil {
			return 0, err
		}
		revision, err := s.backend.Commit(ctx, sealed)
		if !errors.Is(err, ErrConflict) || reloads == maxReloads {
			return revision, err
		}
		next, reloadErr := s.reload(ctx, current)
		if reloadErr != nil {
			return 0, reloadErr
		}
		if next == current { // the header is not what changed
			return 0, err
		}
	}
}

// tx seals the values of a transaction and makes it expect the current header. So no record can be
// committed under a key that is not, or no longer, in the header, however long a process is
// suspended before it commits.
func (sl *seal) tx(tx Tx) (Tx, error) {
	if len(tx.Puts) == 0 {
		return tx, nil
	}
	puts := make([]Put, len(tx.Puts))
	for i, put := range tx.Puts {
		value, err := sl.sealValue(put.Key, put.Value)
		if err != nil {
			return Tx{}, err
		}
		puts[i] = Put{put.Key, value}
	}
	tx.Puts = puts
	tx.Expect = append(slices.Clip(tx.Expect), Expectation{headerKey, sl.revision})
	return tx, nil
}

func validateStoreTx(tx Tx) error {
	if len(tx.Expect) > MaxTxOps {
		return fmt.Errorf("%w: a transaction has at most %d expectations", ErrInvalid, MaxTxOps)
	}
	var err error
	for _, expect := range tx.Expect {
		err = errors.Join(err, validateStoreKey(expect.Key))
	}
	for _, put := range tx.Puts {
		err = errors.Join(err, validateStoreKey(put.Key))
		if most := MaxValueBytes - sealOverheadBytes; len(put.Value) > most {
			err = errors.Join(err, fmt.Errorf("%w: the value of %q has %d bytes; at most %d are allowed",
				ErrInvalid, put.Key, len(put.Value), most))
		}
	}
	for _, key := range tx.Deletes {
		err = errors.Join(err, validateStoreKey(key))
	}
	return err
}

// Watch yields changes as [Backend.Watch] does.
func (s *Store) Watch(ctx context.Context, after Revision) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for event, err := range s.backend.Watch(ctx, after) {
			if err == nil && strings.HasPrefix(event.Key, reservedPrefix) {
				// If this fails, it fails again, and is reported, where the new header is needed.
				_, _ = s.reload(ctx, s.seal.Load())
				continue
			}
			if !yield(event, err) {
				return
			}
		}
	}
}

// Ping returns nil if the store can be used. It calls Ping of a backend that is a [Pinger], and
// reads from any other.
func (s *Store) Ping(ctx context.Context) error {
	if p, ok := s.backend.(Pinger); ok {
		return p.Ping(ctx)
	}
	_, err := s.backend.Get(ctx, headerKey)
	return err
}

// Created reports whether Open created the store, because the backend was empty.
func (s *Store) Created() bool { return s.created }

// Backup is like the function [Backup] for the backend of the store.
func (s *Store) Backup(ctx context.Context, w io.Writer) error { return Backup(ctx, w, s.backend) }

// Close closes the backend.
func (s *Store) Close() error { return s.backend.Close() }

// reload returns the seal of the stored header: old if it has not changed. If another process has
// changed the root key, reload returns ErrRootKey.
func (s *Store) reload(ctx context.Context, old *seal) (*seal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current := s.seal.Load(); current != old {
		return current, nil
	}
	record, err := s.backend.Get(ctx, headerKey)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: the header is missing", ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	if record.Revision == old.revision {
		return old, nil
	}
	h, err := decodeHeader(record.Value)
	if err != nil {
		return nil, err
	}
	if h.storeID != old.header.storeID {
		return nil, fmt.Errorf("%w: the header belongs to another store", ErrCorrupt)
	}
	if h.kind != old.header.kind || !slices.Equal(h.params, old.header.params) {
		return nil, fmt.Errorf("%w: another process has changed it: open the store again with the new one", ErrRootKey)
	}
	next, err := openSeal(record.Revision, h, old.root)
	if err != nil {
		return nil, err
	}
	s.seal.Store(next)
	return next, nil
}
