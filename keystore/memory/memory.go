// Package memory is a keystore.Backend in the memory of this process: for tests, and for keys that need not outlive it.
package memory

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/internal/feed"
)

// A Backend keeps records in memory, in the order of their keys. Scrub overwrites old values with zeros, as does every other
// change: the copies that a garbage collector or the system may have made are out of its reach.
type Backend struct {
	mu       sync.RWMutex
	records  sorted
	revision keystore.Revision
	closed   bool
	changes  *feed.Feed
}

var _ keystore.Backend = (*Backend)(nil)

// New returns an empty Backend.
func New() *Backend { return &Backend{changes: feed.New(0)} }

// Get is that of keystore.Backend.
func (b *Backend) Get(ctx context.Context, key string) (keystore.Record, error) {
	if err := keystore.ValidateKey(key); err != nil {
		return keystore.Record{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(ctx); err != nil {
		return keystore.Record{}, err
	}
	record := b.records.get(key)
	if record == nil {
		return keystore.Record{}, keystore.ErrNotFound
	}
	return copied(*record), nil
}

// Scan is that of keystore.Backend.
func (b *Backend) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if err := keystore.ValidateScan(prefix, after, limit); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(ctx); err != nil {
		return nil, err
	}
	var found []keystore.Record
	for record := range b.records.from(max(prefix, after)) {
		if len(found) == limit || !strings.HasPrefix(record.Key, prefix) {
			break
		}
		if record.Key > after {
			found = append(found, copied(record))
		}
	}
	return found, nil
}

// Commit is that of keystore.Backend; durable means until the process ends.
func (b *Backend) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if err := tx.Validate(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil {
		return 0, err
	}
	for _, expect := range tx.Expect {
		var revision keystore.Revision
		if record := b.records.get(expect.Key); record != nil {
			revision = record.Revision
		}
		if revision != expect.Revision {
			return 0, keystore.ErrConflict
		}
	}
	if len(tx.Puts)+len(tx.Deletes) == 0 {
		return b.revision, nil
	}
	b.revision++
	events := make([]keystore.Event, 0, len(tx.Puts)+len(tx.Deletes))
	for _, put := range tx.Puts {
		key := strings.Clone(put.Key) // which may be a small part of something large
		b.records.put(keystore.Record{Key: key, Value: bytes.Clone(put.Value), Revision: b.revision})
		events = append(events, keystore.Event{Key: key, Revision: b.revision})
	}
	for _, key := range tx.Deletes {
		if b.records.delete(key) {
			events = append(events, keystore.Event{Key: strings.Clone(key), Revision: b.revision, Deleted: true})
		}
	}
	b.changes.Publish(events)
	return b.revision, nil
}

// Watch is that of keystore.Backend. At least the last 4096 changes are known.
func (b *Backend) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return b.changes.Watch(ctx, after)
}

// Close overwrites all values with zeros and forgets them.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return keystore.ErrClosed
	}
	b.closed = true
	b.changes.Close()
	for record := range b.records.from("") {
		clear(record.Value)
	}
	b.records = nil
	return nil
}

func (b *Backend) usable(ctx context.Context) error {
	if b.closed {
		return keystore.ErrClosed
	}
	return ctx.Err()
}

func copied(r keystore.Record) keystore.Record {
	r.Value = append([]byte{}, r.Value...)
	return r
}

// sorted holds records in the order of their keys, in chunks of 1 to chunkRecords, so that an insertion moves few of them.
type sorted [][]keystore.Record

const chunkRecords = 512

// find returns where the first record is whose key is not less than the key, or where it would be put.
func (s sorted) find(key string) (chunk, index int, found bool) {
	// The chunk before the first that begins after the key.
	chunk, found = slices.BinarySearchFunc(s, key, func(c []keystore.Record, key string) int { return strings.Compare(c[0].Key, key) })
	if found {
		return chunk, 0, true
	}
	if chunk > 0 {
		chunk--
	}
	if len(s) == 0 {
		return 0, 0, false
	}
	index, found = slices.BinarySearchFunc(s[chunk], key, func(r keystore.Record, key string) int { return strings.Compare(r.Key, key) })
	return chunk, index, found
}

func (s sorted) get(key string) *keystore.Record {
	if chunk, index, found := s.find(key); found {
		return &s[chunk][index]
	}
	return nil
}

// from yields the records whose keys are not less than the key, in order.
func (s sorted) from(key string) iter.Seq[keystore.Record] {
	return func(yield func(keystore.Record) bool) {
		chunk, index, _ := s.find(key)
		for ; chunk < len(s); chunk, index = chunk+1, 0 {
			for ; index < len(s[chunk]); index++ {
				if !yield(s[chunk][index]) {
					return
				}
			}
		}
	}
}

func (s *sorted) put(r keystore.Record) {
	chunk, index, found := s.find(r.Key)
	switch {
	case found:
		clear((*s)[chunk][index].Value)
		(*s)[chunk][index] = r
	case len(*s) == 0:
		*s = sorted{{r}}
	case len((*s)[chunk]) < chunkRecords:
		(*s)[chunk] = slices.Insert((*s)[chunk], index, r)
	default:
		half := (*s)[chunk]
		*s = slices.Insert(*s, chunk+1, slices.Clone(half[chunkRecords/2:]))
		clear(half[chunkRecords/2:])
		(*s)[chunk] = half[:chunkRecords/2]
		s.put(r)
	}
}

func (s *sorted) delete(key string) bool {
	chunk, index, found := s.find(key)
	if !found {
		return false
	}
	clear((*s)[chunk][index].Value)
	if (*s)[chunk] = slices.Delete((*s)[chunk], index, index+1); len((*s)[chunk]) == 0 {
		*s = slices.Delete(*s, chunk, chunk+1)
	}
	return true
}
