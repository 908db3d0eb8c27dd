package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms/keystore"
)

// groupTxs bounds how many transactions share one write, and so the memory that a write takes.
const groupTxs = 64

// errNothingWritten rolls back a bbolt transaction that changes nothing, which saves its two syncs.
var errNothingWritten = errors.New("nothing written")

// A commit is one call of Commit.
type commit struct {
	ctx   context.Context
	tx    keystore.Tx
	turn  chan bool // true: lead the queue; false: the commit is done
	leads bool      // it was sent true; guarded by the queue

	revision keystore.Revision
	events   []keystore.Event
	replaced bool // it overwrote or deleted a value
	err      error
}

// A queue has at most one leader: a caller of Commit that writes for itself and for all that have
// queued up. Then it hands the lead to the first of those that have come meanwhile. So a single
// commit waits for no other, and no commit waits for more than two writes.
type queue struct {
	mu      sync.Mutex
	waiting []*commit // the first is the leader, unless that has begun
	led     bool
	closed  bool
	calls   sync.WaitGroup
}

// Commit implements keystore.Backend. Concurrent transactions share one durable write; each
// succeeds or fails on its own, in the order in which they came.
func (b *Backend) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if err := tx.Validate(); err != nil {
		return 0, err
	}
	c := &commit{ctx: ctx, tx: tx, turn: make(chan bool, 1)}
	if err := b.queue.join(c); err != nil {
		return 0, err
	}
	defer b.queue.calls.Done()
	lead := false
	select {
	case lead = <-c.turn:
	case <-ctx.Done():
		if b.queue.leave(c) {
			return 0, ctx.Err()
		}
		lead = <-c.turn // too late: it has begun, or has to lead the others
	}
	if lead {
		b.lead()
	}
	return c.revision, c.err
}

// lead writes the first group of the queue, and scrubs if one of its transactions asks for it. A
// scrub of many pages pauses for the groups that come meanwhile; each part of it is twice as long
// as the one before, so that it ends.
func (b *Backend) lead() {
	waiting := b.writeNext()
	var err error
	for limit, more := scrubPages, len(waiting) > 0; more; limit *= 2 {
		if more, err = b.scrub(limit); err != nil {
			break
		}
		if more {
			waiting = append(waiting, b.writeNext()...)
		}
	}
	for _, c := range waiting {
		if err != nil {
			c.err = fmt.Errorf("%w: %w", keystore.ErrNotScrubbed, err)
		}
	}
	b.queue.release()
	complete(waiting, func(*commit) bool { return true })
}

// writeNext writes the next group, and returns those commits that wait for a scrub. The others are
// done.
func (b *Backend) writeNext() (waiting []*commit) {
	group := b.queue.take()
	b.write(group)
	return complete(group, func(c *commit) bool { return c.err != nil || !c.scrubs() })
}

// complete ends the calls of those in a group that are done, and returns the others.
func complete(group []*commit, done func(*commit) bool) []*commit {
	return slices.DeleteFunc(group, func(c *commit) bool {
		if !done(c) {
			return false
		}
		c.turn <- false // never blocks: there is room for one, and the leader has received its true
		return true
	})
}

func (q *queue) join(c *commit) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return keystore.ErrClosed
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	q.calls.Add(1)
	q.waiting = append(q.waiting, c)
	if !q.led {
		q.appoint()
	}
	return nil
}

func (q *queue) appoint() {
	q.led = true
	q.waiting[0].leads = true
	q.waiting[0].turn <- true
}

// leave removes a commit that has neither begun nor the lead, and reports whether it did.
func (q *queue) leave(c *commit) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, c)
	if i < 0 || c.leads {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// take removes and returns the next group; the first time, the leader is the first of it.
func (q *queue) take() []*commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), groupTxs)
	group := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return group
}

// release hands the lead to the next commit.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.led = false; len(q.waiting) > 0 {
		q.appoint()
	}
}

// close waits for all commits that have joined. It reports whether it was called for the first
// time.
func (q *queue) close() bool {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	q.calls.Wait()
	return first
}

// write carries out a group in one bbolt transaction. Only the leader calls it.
func (b *Backend) write(group []*commit) {
	var begun []*commit
	for _, c := range group {
		if c.err = c.ctx.Err(); c.err == nil {
			begun = append(begun, c)
		}
	}
	err := b.update(begun)
	var events []keystore.Event
	for _, c := range begun {
		switch {
		case c.err != nil: // a conflict
		case err != nil:
			c.revision, c.err = 0, err
		default:
			events = append(events, c.events...)
		}
	}
	b.changes.Publish(events)
}

func (b *Backend) update(group []*commit) (err error) {
	if broken := b.broken.Load(); broken != nil {
		return *broken
	}
	if len(group) == 0 {
		return nil
	}
	if err := b.checkPath(); err != nil {
		return err
	}
	err = b.guardedUpdate(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bucketName))
		if bucket == nil {
			return fmt.Errorf("%w: the bucket of records is missing", keystore.ErrCorrupt)
		}
		pages := cursors.Get().(*cursor)
		defer pages.release()
		if err := b.openCursor(pages, tx); err != nil {
			return err
		}
		before := keystore.Revision(bucket.Sequence())
		revision, scrub := before, false
		for _, c := range group {
			if c.err = c.checkPages(pages); c.err != nil {
				continue
			}
			if c.err = c.check(bucket); c.err != nil {
				continue
			}
			if len(c.tx.Puts)+len(c.tx.Deletes) > 0 {
				revision++
				if err := c.apply(bucket, revision); err != nil {
					return err
				}
			}
			c.revision = revision
			scrub = scrub || c.scrubs()
		}
		if revision == before {
			return errNothingWritten
		}
		if err := b.mark(tx, scrub); err != nil {
			return err
		}
		return bucket.SetSequence(uint64(revision))
	})
	switch {
	case errors.Is(err, errNothingWritten):
		return nil
	case err == nil:
		b.markerStale = false // the marker is deleted, or asks for another scrub
		b.unused = false
		b.forgetUsed()
		return nil
	case b.broken.Load() != nil:
		return err
	}
	return classify(err)
}

// mark sets the marker in a transaction that asks for a scrub, so that Open finishes the scrub if
// this process does not. The first transaction after the scrub deletes the marker, because a
// transaction of its own would cost two syncs.
func (b *Backend) mark(tx *bbolt.Tx, scrub bool) error {
	marker := []byte(markerName)
	if scrub {
		_, err := tx.CreateBucketIfNotExists(marker)
		return err
	}
	if b.markerStale {
		return tx.DeleteBucket(marker)
	}
	return nil
}

// guardedUpdate is bbolt's Update. If that panics, it may leave bbolt's locks held. If it fails,
// nothing has changed, except if it failed in its last step, the sync of the page that makes the
// transaction valid: then nobody can tell what will be found after a crash. In both cases the
// Backend can no longer be used.
func (b *Backend) guardedUpdate(change func(*bbolt.Tx) error) (err error) {
	panicked := true
	defer func() {
		if panicked {
			b.poison(err)
		}
	}()
	defer recoverFault(&err)()
	var id, last int
	err = b.db.Update(func(tx *bbolt.Tx) error {
		id = tx.ID()
		return change(tx)
	})
	if err != nil && !errors.Is(err, errNothingWritten) {
		b.tailScrubbed, b.zeroed = false, nil // it may have written pages that are free
		readErr := b.db.View(func(tx *bbolt.Tx) error {
			last = tx.ID()
			return nil
		})
		if readErr != nil || last >= id {
			err = fmt.Errorf("bolt: the last write may or may not have succeeded: open the file again: %w", err)
			b.poison(err)
		}
	}
	panicked = false
	return err
}

// checkPages checks the pages of the tree that the transaction reads and changes.
func (c *commit) checkPages(pages *cursor) error {
	keys := make([]string, 0, len(c.tx.Expect)+len(c.tx.Puts)+len(c.tx.Deletes))
	for _, expect := range c.tx.Expect {
		keys = append(keys, expect.Key)
	}
	for _, put := range c.tx.Puts {
		keys = append(keys, put.Key)
	}
	slices.Sort(keys) // so that those of one leaf come together
	return pages.checkChange(keys, c.tx.Deletes)
}

// check returns ErrConflict if an expectation does not hold after the transactions before it in the
// group.
func (c *commit) check(bucket *bbolt.Bucket) error {
	for _, expect := range c.tx.Expect {
		var revision keystore.Revision
		if value := bucket.Get([]byte(expect.Key)); len(value) >= revisionBytes {
			revision = keystore.Revision(binary.BigEndian.Uint64(value))
		} else if value != nil {
			return &keystore.RecordError{Key: expect.Key, Err: keystore.ErrCorrupt}
		}
		if revision != expect.Revision {
			return keystore.ErrConflict
		}
	}
	return nil
}

// scrubs reports, after apply, whether there is something to scrub.
func (c *commit) scrubs() bool { return c.tx.Scrub && c.replaced }

func (c *commit) apply(bucket *bbolt.Bucket, revision keystore.Revision) error {
	c.events = make([]keystore.Event, 0, len(c.tx.Puts)+len(c.tx.Deletes))
	for _, put := range c.tx.Puts {
		key := []byte(put.Key)
		c.replaced = c.replaced || c.tx.Scrub && bucket.Get(key) != nil
		// bbolt keeps this slice until the transaction ends.
		value := make([]byte, revisionBytes+len(put.Value))
		binary.BigEndian.PutUint64(value, uint64(revision))
		copy(value[revisionBytes:], put.Value)
		if err := bucket.Put(key, value); err != nil {
			return err
		}
		c.events = append(c.events, keystore.Event{Key: strings.Clone(put.Key), Revision: revision})
	}
	for _, deleted := range c.tx.Deletes {
		key := []byte(deleted)
		if bucket.Get(key) == nil {
			continue
		}
		c.replaced = true
		if err := bucket.Delete(key); err != nil {
			return err
		}
		c.events = append(c.events, keystore.Event{Key: strings.Clone(deleted), Revision: revision, Deleted: true})
	}
	return nil
}
