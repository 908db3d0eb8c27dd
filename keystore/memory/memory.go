// Package memory implements keystore.Backend in memory, for tests and for keys that need not
// outlive the process.
package memory

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/internal/feed"
)

// A Backend keeps records in memory, sorted by key. Every change, with Scrub or without, overwrites
// the old values with zeros, except those that a fork still has. Copies that the runtime or the
// operating system may have made are out of its reach.
type Backend struct {
	mu       sync.RWMutex
	records  sorted
	revision keystore.Revision
	closed   bool
	changes  *feed.Feed
}

var (
	_ keystore.Backend     = (*Backend)(nil)
	_ keystore.Snapshotter = (*Backend)(nil)
	_ keystore.Volatile    = (*Backend)(nil)
)

// New returns an empty Backend.
func New() *Backend { return &Backend{records: sorted{owner: new(owner)}, changes: feed.New(0)} }

// Fork returns a Backend with the same records at the same revisions. Neither sees the other's
// changes. The two share records until one changes them, so the time hardly depends on how many
// there are. The fork's Watch has no changes from before it. The fork of a closed Backend is
// closed.
func (b *Backend) Fork() *Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	fork := &Backend{records: b.records.fork(), revision: b.revision, closed: b.closed, changes: feed.New(b.revision)}
	if fork.closed {
		fork.changes.Close()
	}
	return fork
}

// Get implements keystore.Backend.
func (b *Backend) Get(ctx context.Context, key string) (keystore.Record, error) {
	if err := keystore.ValidateKey(key); err != nil {
		return keystore.Record{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.check(ctx); err != nil {
		return keystore.Record{}, err
	}
	record := b.records.get(key)
	if record == nil {
		return keystore.Record{}, keystore.ErrNotFound
	}
	return cloneRecord(record.Record), nil
}

// Scan implements keystore.Backend.
func (b *Backend) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if err := keystore.ValidateScan(prefix, after, limit); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	var found []keystore.Record
	for record := range b.records.from(max(prefix, after)) {
		if len(found) == limit || !strings.HasPrefix(record.Key, prefix) {
			break
		}
		if record.Key > after {
			found = append(found, cloneRecord(record.Record))
		}
	}
	return found, nil
}

// Commit implements keystore.Backend; nothing outlives the process.
func (b *Backend) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if err := tx.Validate(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.check(ctx); err != nil {
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
		key := strings.Clone(put.Key) // which may be a substring of a large string
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

// Watch implements keystore.Backend. It has at least the last 4096 changes.
func (b *Backend) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return b.changes.Watch(ctx, after)
}

// Snapshot implements keystore.Snapshotter.
func (b *Backend) Snapshot(ctx context.Context) iter.Seq2[keystore.Record, error] {
	return func(yield func(keystore.Record, error) bool) {
		fork := b.Fork()
		if err := fork.check(ctx); err != nil {
			yield(keystore.Record{}, err)
			return
		}
		for record := range fork.records.from("") { // which nobody else has, and nobody changes
			if err := ctx.Err(); err != nil {
				yield(keystore.Record{}, err)
				return
			}
			if !yield(cloneRecord(record.Record), nil) {
				return
			}
		}
	}
}

// Volatile implements keystore.Volatile: it returns true.
func (b *Backend) Volatile() bool { return true }

// Close implements keystore.Backend. It overwrites all values with zeros, except those that it has
// ever shared with a fork.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return keystore.ErrClosed
	}
	b.closed = true
	b.changes.Close()
	b.records.erase()
	return nil
}

func (b *Backend) check(ctx context.Context) error {
	if b.closed {
		return keystore.ErrClosed
	}
	return ctx.Err()
}

func cloneRecord(r keystore.Record) keystore.Record {
	r.Value = append([]byte{}, r.Value...)
	return r
}

// sorted holds records in the order of their keys, in chunks of 1 to chunkRecords, so that an
// insertion moves few of them. What has another owner is shared with a fork and is copied before it
// is changed.
type sorted struct {
	owner  *owner
	chunks []chunk
	shared bool // the slice of chunks is shared with a fork
}

// An owner identifies who may change a chunk in place. It is not empty, so that each has an address
// of its own.
type owner struct{ _ byte }

type chunk struct {
	owner   *owner
	records []record
}

type record struct {
	keystore.Record
	owner *owner // of the value
}

const chunkRecords = 512

// fork returns a copy. From now on neither s nor the copy owns what they share.
func (s *sorted) fork() sorted {
	s.owner, s.shared = new(owner), true
	return sorted{new(owner), s.chunks, true}
}

// find returns the position of the first record whose key is not less than key, and whether it is
// equal.
func (s *sorted) find(key string) (at, index int, found bool) {
	// The last chunk that begins before the key.
	at, found = slices.BinarySearchFunc(s.chunks, key, func(c chunk, key string) int { return strings.Compare(c.records[0].Key, key) })
	if found {
		return at, 0, true
	}
	if at > 0 {
		at--
	}
	if len(s.chunks) == 0 {
		return 0, 0, false
	}
	index, found = slices.BinarySearchFunc(s.chunks[at].records, key, func(r record, key string) int { return strings.Compare(r.Key, key) })
	return at, index, found
}

func (s *sorted) get(key string) *record {
	if at, index, found := s.find(key); found {
		return &s.chunks[at].records[index]
	}
	return nil
}

// from yields the records whose keys are not less than key, in order.
func (s *sorted) from(key string) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		at, index, _ := s.find(key)
		for ; at < len(s.chunks); at, index = at+1, 0 {
			for ; index < len(s.chunks[at].records); index++ {
				if !yield(&s.chunks[at].records[index]) {
					return
				}
			}
		}
	}
}

func (s *sorted) put(r keystore.Record) {
	at, index, found := s.find(r.Key)
	if len(s.chunks) == 0 {
		s.chunks, s.shared = []chunk{{s.owner, nil}}, false
	}
	records := s.writable(at)
	switch {
	case found:
		s.clear(&(*records)[index])
		(*records)[index] = record{r, s.owner}
	case len(*records) < chunkRecords:
		*records = slices.Insert(*records, index, record{r, s.owner})
	default:
		half := slices.Clone((*records)[chunkRecords/2:])
		clear((*records)[chunkRecords/2:])
		*records = (*records)[:chunkRecords/2]
		s.chunks = slices.Insert(s.chunks, at+1, chunk{s.owner, half})
		s.put(r)
	}
}

func (s *sorted) delete(key string) bool {
	at, index, found := s.find(key)
	if !found {
		return false
	}
	records := s.writable(at)
	s.clear(&(*records)[index])
	if *records = slices.Delete(*records, index, index+1); len(*records) == 0 {
		s.chunks = slices.Delete(s.chunks, at, at+1)
	}
	return true
}

// writable returns the records of a chunk, which the caller may change.
func (s *sorted) writable(at int) *[]record {
	if s.shared {
		s.chunks, s.shared = slices.Clone(s.chunks), false
	}
	c := &s.chunks[at]
	if c.owner != s.owner {
		*c = chunk{s.owner, slices.Clone(c.records)}
	}
	return &c.records
}

// clear overwrites the value of a record, unless a fork may have it.
func (s *sorted) clear(r *record) {
	if r.owner == s.owner {
		secret.Clear(r.Value)
	}
}

// erase overwrites all values and removes the records.
func (s *sorted) erase() {
	for _, c := range s.chunks {
		if s.shared {
			break // nothing has changed since the last fork
		}
		if c.owner != s.owner {
			continue // it has no value of this owner
		}
		for i := range c.records {
			s.clear(&c.records[i])
		}
	}
	s.chunks = nil
}
