package kms

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/keystore"

	"github.com/pocketkms/kms/internal/uuid"
)

// GetKeyLastUsageInput names the key whose last use is asked for.
type GetKeyLastUsageInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// GetKeyLastUsageOutput tells of a key's last use. An empty KeyLastUsage means that the key was never used, unless
// KeyCreationDate lies before TrackingStartDate: then it was not used since TrackingStartDate. A use by another process is
// known a minute later.
type GetKeyLastUsageOutput struct {
	// KeyId is the bare key ID.
	KeyId string

	// KeyLastUsage is the last successful cryptographic operation. It is never nil; zero if none is known.
	KeyLastUsage *KeyLastUsageData

	// TrackingStartDate is when uses of this key began to be noted.
	TrackingStartDate time.Time

	// KeyCreationDate is when the key was made.
	KeyCreationDate time.Time
}

// KeyLastUsageData is one use of a key.
type KeyLastUsageData struct {
	// Operation is what was done.
	Operation KeyLastUsageTrackingOperation

	// Timestamp is when it was done.
	Timestamp time.Time

	// CloudTrailEventId is the ID of the audit event of that call.
	CloudTrailEventId string

	// KmsRequestId is the ID of that call.
	KmsRequestId string
}

var opGetKeyLastUsage = define(operation[GetKeyLastUsageInput, GetKeyLastUsageOutput]{
	description: description{name: "GetKeyLastUsage", keys: keyOnly, readOnly: true},
	act: func(c *call, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
		k := c.key()
		out := &GetKeyLastUsageOutput{
			KeyId:             k.ref.id,
			KeyLastUsage:      &KeyLastUsageData{},
			TrackingStartDate: k.record.Created,
			KeyCreationDate:   k.record.Created,
		}
		u, err := c.latestUse(c.ctx, k)
		if err != nil {
			return nil, err
		}
		if !u.Time.IsZero() {
			out.KeyLastUsage = &KeyLastUsageData{
				Operation:         u.Operation,
				Timestamp:         u.Time.UTC(),
				CloudTrailEventId: uuid.Format(u.EventID),
				KmsRequestId:      uuid.Format(u.RequestID),
			}
		}
		return out, nil
	},
})

// GetKeyLastUsage tells of the last successful cryptographic operation under a
// key. Uses are tracked from the key's creation on.
func (s *Service) GetKeyLastUsage(ctx context.Context, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
	return opGetKeyLastUsage.do(ctx, s, in)
}

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
// operation in one millisecond one is noted, so that processors that share a key
// do not wait for one another.
func (c *call) recordUse() {
	at := c.now.UnixMilli()
	for i := range c.count {
		k := c.targets[i].key
		u := k.lastUse
		if u.latest.Load() == at && u.latestOp.Load() == c.op {
			continue
		}
		record := usageRecord{Operation: KeyLastUsageTrackingOperation(c.op.name), Time: c.now, RequestID: c.requestID(), EventID: c.eventID()}
		if u.note(c.op, at, record) {
			c.toStore(k.ref, u, record)
		}
	}
}

// note takes the record of a use, unless a later one is there. It tells whether
// the store has to learn of it, which no other call has seen to.
func (u *lastUse) note(op *description, at int64, record usageRecord) (news bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if record.Time.Before(u.record.Time) {
		return false
	}
	u.latest.Store(at)
	u.latestOp.Store(op)
	u.record = record
	news = !u.dirty
	u.dirty = true
	return news
}

// toStore has the next storeUses store u. If the key was loaded anew meanwhile,
// and another lastUse of it waits already, that one takes the record.
func (c *core) toStore(ref keyRef, u *lastUse, record usageRecord) {
	c.usesMu.Lock()
	defer c.usesMu.Unlock()
	waiting := c.uses[ref]
	if waiting == nil || waiting == u {
		c.uses[ref] = u
		return
	}
	waiting.note(nil, 0, record)
	u.mu.Lock()
	u.dirty = false
	u.mu.Unlock()
}

// lastUseOf returns the last use of a key that waits to be stored, or a new one.
func (c *core) lastUseOf(ref keyRef) *lastUse {
	c.usesMu.Lock()
	defer c.usesMu.Unlock()
	if u := c.uses[ref]; u != nil {
		return u
	}
	return new(lastUse)
}

// latestUse returns the last use of k that is known: noted in k, or by a
// snapshot that was loaded beside it, or stored by whatever process.
func (c *core) latestUse(ctx context.Context, k *key) (usageRecord, error) {
	latest := k.lastUse.read()
	if waiting := c.lastUseOf(k.ref).read(); waiting.Time.After(latest.Time) {
		latest = waiting
	}
	stored, _, err := readRecord[usageRecord](ctx, c, k.ref.usageName())
	if err == nil && stored != nil && stored.Time.After(latest.Time) {
		latest = *stored
	}
	return latest, err
}

// read returns the last use; zero if there was none.
func (u *lastUse) read() usageRecord {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.record
}

// storeUses stores the last uses that are not in the store yet. They wait in
// c.uses until that is done, so that a key loaded meanwhile finds its own. What
// cannot be stored is tried again next time, and does not hinder the rest.
func (c *core) storeUses(ctx context.Context) error {
	c.usesMu.Lock()
	uses := maps.Clone(c.uses)
	c.usesMu.Unlock()
	var failures error
	for batch := range slices.Chunk(slices.Collect(maps.Keys(uses)), 50) {
		failures = errors.Join(failures, c.storeUsesOf(ctx, batch, uses))
	}
	return failures
}

// storeUsesOf stores the last uses of some keys, of those that still are.
func (c *core) storeUsesOf(ctx context.Context, refs []keyRef, uses map[keyRef]*lastUse) error {
	for tries := 1; ; tries++ {
		var tx keystore.Tx
		var failures error
		stored := map[keyRef]usageRecord{}
		for _, ref := range refs {
			record := uses[ref].read()
			switch err := c.addUse(ctx, &tx, ref, record); {
			case errors.Is(err, keystore.ErrNotFound):
				c.forgetUse(ref)
			case err != nil:
				failures = errors.Join(failures, err)
			default:
				stored[ref] = record
			}
		}
		_, err := c.store.Commit(ctx, tx)
		if err == nil {
			c.usesStored(stored, uses)
			return failures
		}
		if err := again(ctx, err, tries); err != nil {
			return errors.Join(failures, err)
		}
	}
}

// addUse puts the last use of a key into tx, unless the store has a later one,
// of another process. ErrNotFound means that the key is gone.
func (c *core) addUse(ctx context.Context, tx *keystore.Tx, ref keyRef, record usageRecord) error {
	k, err := c.store.Get(ctx, ref.recordName())
	if err != nil {
		return err
	}
	before, revision, err := readRecord[usageRecord](ctx, c, ref.usageName())
	switch {
	case errors.Is(err, keystore.ErrCorrupt): // to be replaced, whatever its revision
	case err != nil:
		return err
	case before != nil && before.Time.After(record.Time):
		return nil
	default:
		tx.Expect = append(tx.Expect, keystore.Expectation{Key: ref.usageName(), Revision: revision})
	}
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: k.Key, Revision: k.Revision})
	tx.Puts = append(tx.Puts, keystore.Put{Key: ref.usageName(), Value: encodeRecord(record)})
	return nil
}

// usesStored ends the wait of those whose keys were not used since.
func (c *core) usesStored(stored map[keyRef]usageRecord, uses map[keyRef]*lastUse) {
	c.usesMu.Lock()
	defer c.usesMu.Unlock()
	for ref, record := range stored {
		u := uses[ref]
		u.mu.Lock()
		if u.record == record && c.uses[ref] == u {
			u.dirty = false
			delete(c.uses, ref)
		}
		u.mu.Unlock()
	}
}

// forgetUse drops the last use of a key that is gone.
func (c *core) forgetUse(ref keyRef) {
	c.usesMu.Lock()
	delete(c.uses, ref)
	c.usesMu.Unlock()
}
