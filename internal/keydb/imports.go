package keydb

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/keystore"
)

// An ImportedMaterial is key material that was made elsewhere.
type ImportedMaterial struct {
	Bytes       []byte     // in the stored form of package crypto; the caller erases them
	ValidTo     *time.Time // when they are to be deleted; nil: never
	Description string     // empty keeps the one that the material has
}

// Import stores imported material of k, and ends its disabled state. The first material of a key is
// its current one. Material that the key has had before gets its bytes, expiry and description
// back. Any other is staged until RotateOnDemand makes it current; k must have no staged one then.
func (db *DB) Import(ctx context.Context, k *Key, m ImportedMaterial) (*Key, error) {
	record := k.Record.clone()
	id := MaterialID(k.ID, m.Bytes)
	known := record.Material(id)
	switch {
	case known != nil:
	case len(record.Materials) == 0:
		record.Materials = []MaterialRecord{{ID: id, Absent: true}}
		known = &record.Materials[0]
	case record.Staged == nil:
		record.Staged = &MaterialRecord{ID: id, Absent: true}
		known = record.Staged
	default:
		return nil, fmt.Errorf("keydb: key %s has another staged material", k.ARN)
	}
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	if known.Absent {
		tx.Puts = []keystore.Put{{Key: k.materialName(id), Value: append([]byte{recordVersion}, m.Bytes...)}}
	}
	known.Absent, known.ValidTo = false, m.ValidTo
	if m.Description != "" {
		known.Description = m.Description
	}
	record.Disabled = false
	return db.commit(ctx, k, record, tx)
}

// DeleteMaterial deletes the bytes of an imported material of k, so that nothing readable of them
// is left. A staged material is forgotten; of any other k keeps the ID and description, and waits
// for the same bytes.
func (db *DB) DeleteMaterial(ctx context.Context, k *Key, id string) (*Key, error) {
	record := k.Record.clone()
	if record.Staged != nil && record.Staged.ID == id {
		return db.dropStaged(ctx, k)
	}
	var tx keystore.Tx
	record.remove(&tx, k.Ref, func(m *MaterialRecord) bool { return m.ID == id })
	return db.commitRemoval(ctx, k, record, tx)
}

// expire deletes the bytes of the materials of k that have expired. A staged material expires only
// once it is current.
func (db *DB) expire(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	record := k.Record.clone()
	var tx keystore.Tx
	events := outbox{db: db}
	defer events.close()
	record.remove(&tx, k.Ref, func(m *MaterialRecord) bool {
		if m.ValidTo == nil || now.Before(*m.ValidTo) {
			return false
		}
		details := map[string]any{"keyId": k.ID}
		if k.Spec.Kind == spec.Symmetric {
			details["keyMaterialId"] = m.ID
		}
		events.add(&tx, "DeleteExpiredKeyMaterial", k, now, details)
		return true
	})
	next, err := db.commitRemoval(ctx, k, record, tx)
	if err != nil {
		return nil, err
	}
	events.deliver(ctx)
	return next, nil
}

// remove marks the materials of r that are to go as absent, and deletes their bytes in tx.
func (r *Record) remove(tx *keystore.Tx, ref Ref, goes func(*MaterialRecord) bool) {
	for i := range r.Materials {
		if m := &r.Materials[i]; !m.Absent && goes(m) {
			m.Absent, m.ValidTo = true, nil
			tx.Deletes = append(tx.Deletes, ref.materialName(m.ID))
		}
	}
	tx.Scrub = true
}

// commitRemoval commits record, which lacks bytes that k has, and destroys what is made of them.
func (db *DB) commitRemoval(ctx context.Context, k *Key, record *Record, tx keystore.Tx) (*Key, error) {
	next, err := db.commit(ctx, k, record, tx)
	if err != nil {
		return nil, err
	}
	for i, m := range k.Materials {
		if record.Materials[i].Absent {
			m.destroy()
		}
	}
	return next, nil
}

// Material returns the material of that ID, which may be staged or absent, or nil.
func (r *Record) Material(id string) *MaterialRecord {
	for i := range r.Materials {
		if r.Materials[i].ID == id {
			return &r.Materials[i]
		}
	}
	if r.Staged != nil && r.Staged.ID == id {
		return r.Staged
	}
	return nil
}

// LacksMaterial reports whether the key has no material, or lacks the bytes of one. Then it cannot
// be used at all.
func (r *Record) LacksMaterial() bool {
	for i := range r.Materials {
		if r.Materials[i].Absent {
			return true
		}
	}
	return len(r.Materials) == 0
}

// Expiry returns when the first of the key's materials expires, or nil if none does. Staged
// material does not expire.
func (r *Record) Expiry() *time.Time {
	var first *time.Time
	for i := range r.Materials {
		if at := r.Materials[i].ValidTo; at != nil && (first == nil || at.Before(*first)) {
			first = at
		}
	}
	return first
}

// deletionDue reports whether k is to be deleted by now.
func (k *Key) deletionDue(now time.Time) bool {
	at := k.Record.DeletionDate
	return k.Record.Destroying || at != nil && !now.Before(*at) || k.Record.deletionOverdue(k.Region)
}

// dueNames returns the names of the index entries of a key with that record: one for its deletion,
// one for the next expiry of its material, and one if the next sweep is to look at it.
func (r Ref) dueNames(record *Record) (names []string) {
	add := func(at *time.Time) {
		if at != nil && !slices.Contains(names, r.dueName(*at)) {
			names = append(names, r.dueName(*at))
		}
	}
	add(record.DeletionDate)
	add(record.nextExpiry())
	if record.DeletionWindow != 0 || len(record.Dropped) > 0 {
		add(&overdue)
	}
	return names
}

// reschedule adds to tx what brings the index entries of k from those of its record to those of
// next.
func (k *Key) reschedule(tx *keystore.Tx, next *Record) {
	entries := map[string]bool{}
	for _, name := range k.dueNames(k.Record) {
		entries[name] = false
	}
	for _, name := range k.dueNames(next) {
		if _, kept := entries[name]; kept {
			delete(entries, name)
		} else {
			entries[name] = true
		}
	}
	for name, added := range entries {
		if added {
			tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: index})
		} else {
			tx.Deletes = append(tx.Deletes, name)
		}
	}
}
