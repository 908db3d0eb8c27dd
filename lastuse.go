package kms

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pocketkms/kms/keystore"
)

// A lastUse is a key's last successful cryptographic operation. It is kept in
// memory and stored from time to time, and when the service closes: a write for
// each use would cost more than the use.
type lastUse struct {
	latest   atomic.Int64                // record.Time in milliseconds
	latestOp atomic.Pointer[description] // the operation behind record
	mu       sync.Mutex
	record   usageRecord // zero: never used
	dirty    bool        // the store has an older one
}

// recordUse notes that the call has used its keys. Of the uses by the same
// operation in one millisecond one is noted, lest processors that share a key
// wait for one another.
func (c *call) recordUse() {
	at := c.now.UnixMilli()
	for i := range c.count {
		k := c.targets[i].key
		u := k.lastUse
		if u.latest.Load() == at && u.latestOp.Load() == c.op {
			continue
		}
		u.mu.Lock()
		u.latest.Store(at)
		u.latestOp.Store(c.op)
		u.record = usageRecord{Operation: c.op.use, Time: c.now, RequestID: c.requestID(), EventID: c.eventID()}
		news := !u.dirty
		u.dirty = true
		u.mu.Unlock()
		if news {
			c.usesMu.Lock()
			c.uses[k.ref] = u
			c.usesMu.Unlock()
		}
	}
}

// loadLastUse returns what is known of the key's last use.
func (c *core) loadLastUse(ctx context.Context, ref keyRef) (*lastUse, error) {
	c.usesMu.Lock()
	u := c.uses[ref]
	c.usesMu.Unlock()
	if u != nil {
		return u, nil
	}
	r, err := c.store.Get(ctx, ref.usageName())
	if errors.Is(err, keystore.ErrNotFound) {
		return &lastUse{}, nil
	} else if err != nil {
		return nil, err
	}
	record, err := decodeRecord[usageRecord](r)
	if err != nil {
		return nil, err
	}
	return &lastUse{record: *record}, nil
}

// read returns the last use, and whether there was any.
func (u *lastUse) read() (usageRecord, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.record, !u.record.Time.IsZero()
}

// storeUses stores the last uses that are not in the store yet.
func (c *core) storeUses(ctx context.Context) error {
	c.usesMu.Lock()
	uses := c.uses
	c.uses = map[keyRef]*lastUse{}
	c.usesMu.Unlock()
	for batch := range slices.Chunk(slices.Collect(maps.Keys(uses)), 50) {
		if err := c.storeUsesOf(ctx, batch, uses); err != nil {
			c.usesMu.Lock()
			maps.Copy(c.uses, uses) // all again, next time
			c.usesMu.Unlock()
			return err
		}
	}
	return nil
}

// storeUsesOf stores the last uses of some keys, of those that still are.
func (c *core) storeUsesOf(ctx context.Context, refs []keyRef, uses map[keyRef]*lastUse) error {
	for tries := 1; ; tries++ {
		var tx keystore.Tx
		for _, ref := range refs {
			r, err := c.store.Get(ctx, ref.recordName())
			if errors.Is(err, keystore.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			u := uses[ref]
			u.mu.Lock()
			tx.Expect = append(tx.Expect, keystore.Expectation{Key: r.Key, Revision: r.Revision})
			tx.Puts = append(tx.Puts, keystore.Put{Key: ref.usageName(), Value: encodeRecord(u.record)})
			u.dirty = false
			u.mu.Unlock()
		}
		_, err := c.store.Commit(ctx, tx)
		if !errors.Is(err, keystore.ErrConflict) || tries == maxAttempts {
			return err
		}
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
}

// forgetUse drops the last use of a key that is gone.
func (c *core) forgetUse(ref keyRef) {
	c.usesMu.Lock()
	delete(c.uses, ref)
	c.usesMu.Unlock()
}
