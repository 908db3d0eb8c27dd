package keydb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/secret"
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
// its current one. Material that the key has had before gets its bytes, expiry and description back.
// Any other is staged until RotateOnDemand makes it current; k must have no staged one then.
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

// DeleteMaterial deletes the bytes of an imported material of k, so that nothing readable of them is
// left. A staged material is forgotten; of any other k keeps the ID and description, and waits for
// the same bytes.
func (db *DB) DeleteMaterial(ctx context.Context, k *Key, id string) (*Key, error) {
	record := k.Record.clone()
	if record.Staged != nil && record.Staged.ID == id {
		record.Staged = nil
		return db.commit(ctx, k, record, keystore.Tx{Deletes: []string{k.materialName(id)}, Scrub: true})
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

// Expiry returns when the first of the key's materials expires, or nil if none does. Staged material
// does not expire.
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
	return k.Record.Destroying || at != nil && !now.Before(*at)
}

// dueNames returns the names of the index entries of a key with that record: one for its deletion
// and one for the next expiry of its material.
func (r Ref) dueNames(record *Record) (names []string) {
	if at := record.DeletionDate; at != nil {
		names = append(names, r.dueName(*at))
	}
	if at := record.Expiry(); at != nil && (names == nil || names[0] != r.dueName(*at)) {
		names = append(names, r.dueName(*at))
	}
	return names
}

// reschedule adds to tx what brings the index entries of k from those of its record to those of next.
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

// The key of import tokens is a record of its own, created when the first token is. All processes that
// share the store use it, so a token is good in each of them and after a restart.

// SealToken seals an import token for the key at ref.
func (db *DB) SealToken(ctx context.Context, ref Ref, content []byte) ([]byte, error) {
	key, err := db.loadTokenKey(ctx)
	for err == nil && key == nil {
		if err = db.createTokenKey(ctx); err == nil || errors.Is(err, ErrConflict) {
			key, err = db.loadTokenKey(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	return key.Seal([]byte{tokenVersion}, content, ref.tokenData())
}

// OpenToken returns the content of an import token for the key at ref, or crypto.ErrDecrypt if this
// store has not sealed it for that key. The caller owns the content, and erases it.
func (db *DB) OpenToken(ctx context.Context, ref Ref, token []byte) ([]byte, error) {
	key, err := db.loadTokenKey(ctx)
	if err != nil {
		return nil, err
	}
	if key == nil || len(token) == 0 || token[0] != tokenVersion {
		return nil, crypto.ErrDecrypt
	}
	return key.Open(nil, token[1:], ref.tokenData())
}

// tokenVersion is the first byte of an import token.
const tokenVersion = 1

func (r Ref) tokenData() []byte { return []byte("pocketkms import token 1\n" + r.path()) }

// loadTokenKey returns the key of import tokens, or nil if there is none yet.
func (db *DB) loadTokenKey(ctx context.Context) (crypto.AEAD, error) {
	if key := db.tokenKey.Load(); key != nil {
		return *key, nil
	}
	r, err := db.store.Get(ctx, tokenKeyName)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer secret.Clear(r.Value)
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	key, err := db.parseTokenKey(body)
	if err != nil {
		return nil, fmt.Errorf("%w: record %s holds no key", keystore.ErrCorrupt, r.Key)
	}
	db.tokenKey.Store(&key)
	return key, nil
}

func (db *DB) parseTokenKey(body []byte) (crypto.AEAD, error) {
	key, err := crypto.XAES256GCM(db.config.Clock).Parse(body)
	if err != nil {
		return nil, err
	}
	return key.(crypto.AEAD), nil
}

// createTokenKey stores a new key of import tokens. If there is one, the error is ErrConflict.
func (db *DB) createTokenKey(ctx context.Context) error {
	value := make([]byte, 1+32)
	defer secret.Clear(value)
	value[0] = recordVersion
	rand.Read(value[1:])
	_, err := db.store.Commit(ctx, keystore.Tx{
		Expect: []keystore.Expectation{{Key: tokenKeyName}},
		Puts:   []keystore.Put{{Key: tokenKeyName, Value: value}},
	})
	return err
}
