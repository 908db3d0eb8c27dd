package keydb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// ScheduleDeletion makes k pending deletion for a number of days, after which it is deleted. They
// begin now or, for a primary with replicas, when the last replica has been deleted.
func (db *DB) ScheduleDeletion(ctx context.Context, k *Key, days int32, now time.Time) (*Key, error) {
	record := k.Record.clone()
	if record.hasReplicas(k.Region, now) {
		record.DeletionWindow = days
	} else {
		record.DeletionDate = new(deletionDate(now, days))
	}
	return db.commit(ctx, k, record, keystore.Tx{})
}

func deletionDate(from time.Time, days int32) time.Time {
	return from.UTC().Add(time.Duration(days) * 24 * time.Hour)
}

// CancelDeletion makes k, which must be pending deletion, disabled, or pending import if it lacks
// material.
func (db *DB) CancelDeletion(ctx context.Context, k *Key) (*Key, error) {
	record := k.Record.clone()
	record.DeletionDate, record.DeletionWindow, record.Creating = nil, 0, nil
	record.Disabled = true
	return db.commit(ctx, k, record, keystore.Tx{})
}

const (
	// destroyBatch is how many records of one kind a transaction deletes at most.
	destroyBatch = 20
	// destroyKeys is how many keys are destroyed in one transaction at most. With destroyOps records
	// of each they fit in one.
	destroyKeys = 5
	destroyOps  = 11
)

// destroy deletes keys that are due, with their materials, grants, aliases, tags and last uses, so
// that nothing readable of them is left. Keys with many records take several transactions. The
// process can be killed between them: the key record is deleted last, and brings the next caller
// back here.
func (db *DB) destroy(ctx context.Context, keys []*Key, now time.Time) error {
	tx := keystore.Tx{Scrub: true}
	events := outbox{db: db}
	defer events.close()
	inDevices, err := db.destroyInDevice(ctx, keys)
	if err != nil {
		return err
	}
	var aliases []AliasRef
	defer func() {
		for _, a := range aliases {
			db.aliases.invalidate(a.cacheKey())
		}
	}()
	for _, k := range keys {
		rest, err := db.remnants(ctx, k)
		if err != nil {
			return err
		}
		for rest.ops() > destroyOps {
			if k, err = db.destroyPart(ctx, k, rest); err != nil {
				return err
			}
			if rest, err = db.remnants(ctx, k); err != nil {
				return err
			}
		}
		destroyPrimitives(k)
		rest.addTo(&tx)
		aliases = append(aliases, rest.aliases...)
		tx.Expect = append(tx.Expect, k.expectations()...)
		tx.Deletes = append(tx.Deletes, k.recordName(), k.lastUseName())
		tx.Deletes = append(tx.Deletes, k.dueNames(k.Record)...)
		k.leaveRelated(&tx)
		events.addWith(&tx, "DeleteKey", k, now, nil, inDevices[k.Ref])
	}
	counted, err := db.discount(ctx, &tx, keys)
	if err != nil {
		return err
	}
	revision, err := db.store.Commit(ctx, tx)
	err = db.acceptUnscrubbed(err)
	for _, k := range keys {
		db.keys.invalidate(k.cacheKey())
		if k.Record.Shared != nil {
			db.invalidateRelated(k.Ref, k.sharedRevision+1)
		}
	}
	if err != nil {
		return err
	}
	db.counts.saw(revision, counted)
	for _, k := range keys {
		db.forgetUse(k.Ref)
	}
	events.deliver(ctx)
	return nil
}

// acceptUnscrubbed returns nil for an error which says that what was deleted is not erased yet: the
// next deletion or the next start erases it.
func (db *DB) acceptUnscrubbed(err error) error {
	if !errors.Is(err, keystore.ErrNotScrubbed) {
		return err
	}
	db.config.Logger.Warn("kms: traces of deleted keys may be left in the key store until the next deletion or start", "error", err)
	return nil
}

// destroyPart deletes some of what belongs to k, and returns its new snapshot.
func (db *DB) destroyPart(ctx context.Context, k *Key, rest *remnants) (*Key, error) {
	if !k.Record.Destroying {
		// Else a process whose clock is behind could cancel the deletion of a key that has lost its
		// material.
		var err error
		if k, err = db.Update(ctx, k, func(r *Record) { r.Destroying = true }); err != nil {
			return nil, err
		}
	}
	destroyPrimitives(k)
	tx := keystore.Tx{Expect: k.expectations()}
	rest.addTo(&tx)
	_, err := db.store.Commit(ctx, tx)
	for _, a := range rest.aliases {
		db.aliases.invalidate(a.cacheKey())
	}
	return k, err
}

func destroyPrimitives(k *Key) {
	for _, m := range k.Materials {
		m.destroy()
	}
}

func (m *Material) destroy() {
	if p := m.primitive.Swap(nil); p != nil {
		(*p).Destroy()
	}
}

// remnants are the first of the records that belong to a key.
type remnants struct {
	expect  []keystore.Expectation
	names   []string
	aliases []AliasRef
}

func (r *remnants) ops() int { return len(r.names) }

func (r *remnants) addTo(tx *keystore.Tx) {
	tx.Expect = append(tx.Expect, r.expect...)
	tx.Deletes = append(tx.Deletes, r.names...)
}

func (db *DB) remnants(ctx context.Context, k *Key) (*remnants, error) {
	r := new(remnants)
	if prefix := k.ownMaterials(); prefix != "" {
		for name, err := range db.names(ctx, prefix, "", destroyBatch) {
			if err != nil {
				return nil, err
			}
			if r.names = append(r.names, name); len(r.names) == destroyBatch {
				break
			}
		}
	}
	if k.Record.CustomKeyStore != "" {
		r.names = append(r.names, StoreRef{k.Account, k.Region, k.Record.CustomKeyStore}.keyName(k.Record.DeviceKey))
	}
	grants, err := db.grantRemnants(ctx, k.Ref)
	if err != nil {
		return nil, err
	}
	if r.names = append(r.names, grants...); len(r.names) >= destroyBatch {
		return r, nil
	}
	prefix := k.aliasesName()
	for name, err := range db.names(ctx, prefix, "", destroyBatch) {
		if err != nil {
			return nil, err
		}
		a := AliasRef{k.Account, k.Region, arn.AliasPrefix + name[len(prefix):]}
		record, revision, err := readRecord[aliasRecord](ctx, db, a.recordName())
		switch {
		case errors.Is(err, keystore.ErrCorrupt): // it is deleted, too
			r.names = append(r.names, a.recordName())
		case err != nil:
			return nil, err
		case record != nil && record.Key == k.ID: // else it moves to another key at this moment
			r.expect = append(r.expect, keystore.Expectation{Key: a.recordName(), Revision: revision})
			r.names = append(r.names, a.recordName())
		}
		r.names = append(r.names, name)
		if r.aliases = append(r.aliases, a); len(r.aliases) == destroyBatch {
			break
		}
	}
	return r, nil
}

// sweepBatch is how many records the work in the background reads at a time.
const sweepBatch = 100

// destroyDue destroys every key whose deletion is due, and all material that has expired.
func (db *DB) destroyDue(ctx context.Context) error {
	now := db.config.Clock()
	var failures error
	var due []*Key
	flush := func() {
		if len(due) == 0 {
			return
		}
		if db.destroy(ctx, due, now) != nil { // one by one, then, so that none hinders the others
			for _, k := range due {
				if _, err := db.Key(ctx, k.Ref, now); err != nil {
					failures = errors.Join(failures, err)
				}
			}
		}
		due = due[:0]
	}
	for name, err := range db.names(ctx, duePrefix, "", sweepBatch) {
		if err != nil {
			failures = errors.Join(failures, err)
			break
		}
		at, ref, ok := parseDueName(name)
		if !ok {
			failures = errors.Join(failures, fmt.Errorf("%w: the name of record %q", keystore.ErrCorrupt, name))
			continue
		}
		if at > dueTime(now) {
			break
		}
		k, err := db.cachedKey(ctx, ref)
		switch {
		case err != nil:
			failures = errors.Join(failures, err)
		case k == nil:
			// Another process was faster.
		case !k.deletionDue(now), k.Record.Shared != nil: // one transaction cannot change a shared record twice
			if _, err := db.catchUp(ctx, k, now); err != nil {
				failures = errors.Join(failures, err)
			}
		default:
			if due = append(due, k); len(due) == destroyKeys {
				flush()
			}
		}
	}
	flush()
	return failures
}
