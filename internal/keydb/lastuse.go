package keydb

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// A Use is one successful cryptographic operation under a key.
type Use struct {
	Operation string    `json:"operation"` // of the API: "Encrypt"
	Time      time.Time `json:"time"`
	RequestID [16]byte  `json:"requestID"`
	EventID   [16]byte  `json:"eventID"`
}

// A lastUse is the last use of a key. It is kept in memory and stored once a minute and by Close: a
// write for each use would cost more than the use.
type lastUse struct {
	latest atomic.Pointer[Use] // nil: never used
	mu     sync.Mutex          // held to change what follows, and latest
	dirty  bool                // the store has an older one
}

// Used reports whether a use by the same operation in the same millisecond is noted already: then
// this one need not be, so that processors that share a key do not wait for one another.
func (k *Key) Used(operation string, at time.Time) bool {
	u := k.lastUse.latest.Load()
	return u != nil && u.Operation == operation && u.Time.UnixMilli() == at.UnixMilli()
}

// NoteUse notes a use of k. Whoever learns from Used that it is noted can rely on the next Flush to
// store it.
func (db *DB) NoteUse(k *Key, use Use) {
	db.usesMu.Lock()
	defer db.usesMu.Unlock()
	if k.lastUse.note(&use) {
		db.enqueue(k.Ref, k.lastUse, &use)
	}
}

// note notes a use, unless a later one is noted. It reports whether the caller must enqueue it: no
// other has.
func (l *lastUse) note(use *Use) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.latest.Load(); u != nil && use.Time.Before(u.Time) {
		return false
	}
	l.latest.Store(use)
	first = !l.dirty
	l.dirty = true
	return first
}

// enqueue has the next Flush store l. If the key was loaded again meanwhile, and another lastUse of
// it is in the queue, that one takes the use. The caller must hold usesMu.
func (db *DB) enqueue(ref Ref, l *lastUse, use *Use) {
	queued := db.uses[ref]
	if queued == nil || queued == l {
		db.uses[ref] = l
		return
	}
	queued.note(use)
	l.mu.Lock()
	l.dirty = false
	l.mu.Unlock()
}

// lastUseOf returns the lastUse of a key that is in the queue, or a new one.
func (db *DB) lastUseOf(ref Ref) *lastUse {
	db.usesMu.Lock()
	defer db.usesMu.Unlock()
	if l := db.uses[ref]; l != nil {
		return l
	}
	return new(lastUse)
}

// LastUse returns the last known use of k, by any process, or the zero Use.
func (db *DB) LastUse(ctx context.Context, k *Key) (Use, error) {
	var latest Use
	take := func(u *Use) {
		if u != nil && u.Time.After(latest.Time) {
			latest = *u
		}
	}
	take(k.lastUse.latest.Load())
	take(db.lastUseOf(k.Ref).latest.Load())
	stored, _, err := readRecord[Use](ctx, db, k.lastUseName())
	take(stored)
	return latest, err
}

const (
	flushBatch   = 50 // last uses in a transaction: with two expectations for each it is full
	flushWriters = 16 // transactions at the same time, which a Backend can commit together
)

// Backup stores the last uses, and then writes a backup of all records to w.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	if err := db.Flush(ctx); err != nil {
		return err
	}
	return db.store.Backup(ctx, w)
}

// Flush stores the last uses that are not in the store yet. They stay in the queue until that is
// done, so that a key that is loaded meanwhile finds its own. It tries again the next time what
// cannot be stored, and stores the rest.
func (db *DB) Flush(ctx context.Context) error {
	db.usesMu.Lock()
	uses := maps.Clone(db.uses)
	db.usesMu.Unlock()
	var (
		mu       sync.Mutex
		failures error
		writers  sync.WaitGroup
		slots    = make(chan struct{}, flushWriters)
	)
	for batch := range slices.Chunk(slices.Collect(maps.Keys(uses)), flushBatch) {
		slots <- struct{}{}
		writers.Go(func() {
			defer func() { <-slots }()
			err := db.guard("last uses", func() error { return db.flushBatch(ctx, batch, uses) })
			mu.Lock()
			defer mu.Unlock()
			failures = errors.Join(failures, err)
		})
	}
	writers.Wait()
	return failures
}

// flushBatch stores the last uses of some keys, of those that still exist.
func (db *DB) flushBatch(ctx context.Context, refs []Ref, uses map[Ref]*lastUse) error {
	var failures error
	err := retry(ctx, func() error {
		var tx keystore.Tx
		failures = nil
		stored := map[Ref]*Use{}
		for _, ref := range refs {
			use := uses[ref].latest.Load()
			switch err := db.stage(ctx, &tx, ref, use); {
			case errors.Is(err, keystore.ErrNotFound):
				db.forgetUse(ref)
			case err != nil:
				failures = errors.Join(failures, err)
			default:
				stored[ref] = use
			}
		}
		if _, err := db.store.Commit(ctx, tx); err != nil {
			return err
		}
		db.markStored(stored, uses)
		return nil
	})
	return errors.Join(failures, err)
}

// stage adds the last use of a key to tx, unless the store has a later one, of another process.
// ErrNotFound means that the key does not exist any more.
func (db *DB) stage(ctx context.Context, tx *keystore.Tx, ref Ref, use *Use) error {
	k, err := db.store.Get(ctx, ref.recordName())
	if err != nil {
		return err
	}
	before, revision, err := readRecord[Use](ctx, db, ref.lastUseName())
	switch {
	case errors.Is(err, keystore.ErrCorrupt): // it is replaced, whatever its revision
	case err != nil:
		return err
	case before != nil && before.Time.After(use.Time):
		return nil
	default:
		tx.Expect = append(tx.Expect, keystore.Expectation{Key: ref.lastUseName(), Revision: revision})
	}
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: k.Key, Revision: k.Revision})
	tx.Puts = append(tx.Puts, keystore.Put{Key: ref.lastUseName(), Value: encodeRecord(use)})
	return nil
}

// markStored removes from the queue those whose keys were not used since.
func (db *DB) markStored(stored map[Ref]*Use, uses map[Ref]*lastUse) {
	db.usesMu.Lock()
	defer db.usesMu.Unlock()
	for ref, use := range stored {
		l := uses[ref]
		l.mu.Lock()
		if l.latest.Load() == use && db.uses[ref] == l {
			l.dirty = false
			delete(db.uses, ref)
		}
		l.mu.Unlock()
	}
}

// forgetUse removes from the queue the last use of a key that was deleted.
func (db *DB) forgetUse(ref Ref) {
	db.usesMu.Lock()
	delete(db.uses, ref)
	db.usesMu.Unlock()
}
