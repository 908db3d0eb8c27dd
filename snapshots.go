package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
)

// A key is an immutable snapshot of a key as one commit left it, with what is
// derived from it once. A change makes a new snapshot, which takes over the
// materials and the last use of the old one.
type key struct {
	ref       keyRef
	arn       string
	record    *keyRecord
	revision  keystore.Revision // 0: not stored yet
	spec      *spec
	use       *keyUse
	state     KeyState
	due       time.Time // when the clock alone next changes the key; zero: never
	materials []*material
	lastUse   *lastUse
	alias     string // of an AWS managed key that is not stored yet: the name that will make it
}

func (c *core) newKey(ref keyRef, record *keyRecord, revision keystore.Revision, old *key) (*key, error) {
	k := &key{ref: ref, arn: c.keyARN(ref), record: record, revision: revision, spec: specOf(record.Spec)}
	if k.spec != nil {
		k.use = k.spec.use(record.Usage)
	}
	if k.use == nil || len(record.Materials) == 0 && record.Origin == OriginAWSKMS {
		return nil, fmt.Errorf("%w: record %s describes no possible key", keystore.ErrCorrupt, ref.recordName())
	}
	if k.use.family == nil {
		return nil, fmt.Errorf("%w: record %s is a %s key for %s", keystore.ErrNewerVersion, ref.recordName(), record.Spec, record.Usage)
	}
	switch {
	case record.Ending:
		k.state, k.due = KeyStatePendingDeletion, time.Unix(0, 0) // overdue by any process's clock
	case record.DeletionDate != nil:
		k.state, k.due = KeyStatePendingDeletion, *record.DeletionDate
	case len(record.Materials) == 0:
		k.state = KeyStatePendingImport
	case record.Disabled:
		k.state = KeyStateDisabled
	default:
		k.state = KeyStateEnabled
		if record.Rotation != nil {
			k.due = record.Rotation.Next
		}
	}
	for i := range record.Materials {
		id := record.Materials[i].ID
		var m *material
		if old != nil && i < len(old.materials) && old.materials[i].id == id {
			m = old.materials[i]
		} else {
			packed, err := hex.DecodeString(id)
			if err != nil || len(packed) != 32 {
				return nil, fmt.Errorf("%w: record %s names no possible key material", keystore.ErrCorrupt, ref.recordName())
			}
			m = &material{id: id, header: newBlobHeader(ref, (*[32]byte)(packed))}
		}
		k.materials = append(k.materials, m)
	}
	if old != nil {
		k.lastUse = old.lastUse
	}
	return k, nil
}

// current is the material that encrypts and signs.
func (k *key) current() *material { return k.materials[len(k.materials)-1] }

// materialOf returns the material that a ciphertext was made with, or nil.
func (k *key) materialOf(h *blobHeader) *material {
	for i := len(k.materials) - 1; i >= 0; i-- {
		if *k.materials[i].header.materialID() == *h.materialID() {
			return k.materials[i]
		}
	}
	return nil
}

// A material is one key material, put to work on first use.
type material struct {
	id     string
	header *blobHeader // of ciphertexts under it
	atWork atomic.Pointer[crypto.Key]
}

// atWork returns the material at work. Two callers may both put it to work at
// first; one of the results stays.
func (c *core) atWork(ctx context.Context, k *key, m *material) (crypto.Key, error) {
	if p := m.atWork.Load(); p != nil {
		return *p, nil
	}
	r, err := c.store.Get(ctx, k.ref.materialName(m.id))
	if err != nil {
		if errors.Is(err, keystore.ErrNotFound) { // destroyed since the snapshot was taken
			return nil, keyNotFound(k.arn)
		}
		return nil, err
	}
	defer secret.Clear(r.Value)
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	primitive, err := k.use.family(c.config.Clock).Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: record %s holds no material for a key of its spec", keystore.ErrCorrupt, r.Key)
	}
	for !m.atWork.CompareAndSwap(nil, &primitive) {
		if p := m.atWork.Load(); p != nil { // else it was destroyed in between
			primitive.Destroy()
			return *p, nil
		}
	}
	return primitive, nil
}

// primitive returns k's current material at work, as the interface that its
// usage calls for.
func primitive[P crypto.Key](c *call, k *key) (P, error) {
	var none P
	p, err := c.atWork(c.ctx, k, k.current())
	if err != nil {
		return none, err
	}
	if typed, ok := p.(P); ok {
		return typed, nil
	}
	return none, errNoPrimitive(k)
}

func errNoPrimitive(k *key) error {
	return fmt.Errorf("%w: key %s has no such primitive", crypto.ErrAlgorithm, k.arn)
}

// newMaterial makes key material for a key, and its record to store.
func (c *core) newMaterial(ref keyRef, use *keyUse) (keyMaterial, keystore.Put, error) {
	bytes, err := use.family(c.config.Clock).Generate()
	if err != nil {
		return keyMaterial{}, keystore.Put{}, err
	}
	defer secret.Clear(bytes)
	m, put := storedMaterial(ref, bytes)
	return m, put, nil
}

func storedMaterial(ref keyRef, bytes []byte) (keyMaterial, keystore.Put) {
	m := keyMaterial{ID: materialID(ref.id, bytes)}
	return m, keystore.Put{Key: ref.materialName(m.ID), Value: append([]byte{recordVersion}, bytes...)}
}

// materialID names a key material: the same bytes in the same key have the same
// name, in another key another, and the name tells nothing of bytes that were
// drawn at random.
func materialID(keyID string, bytes []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "github.com/pocketkms/kms key material\x00%s\x00", keyID)
	h.Write(bytes)
	return hex.EncodeToString(h.Sum(nil))
}

// lookup returns the key at ref as it is now; nil if there is none. What the
// clock has brought about meanwhile, its deletion or rotation, is done first.
func (c *core) lookup(ctx context.Context, ref keyRef, now time.Time) (*key, error) {
	k, err := c.cachedKey(ctx, ref)
	if err != nil {
		return nil, err
	}
	return c.settle(ctx, k, now)
}

func (c *core) cachedKey(ctx context.Context, ref keyRef) (*key, error) {
	if k := c.keys.get(ref.place()); k != nil {
		return k, nil
	}
	return c.keys.load(ref.place(), func() (*key, error) { return c.loadKey(ctx, ref) })
}

// settle returns k as the clock has made it; nil if it has come to its end.
func (c *core) settle(ctx context.Context, k *key, now time.Time) (*key, error) {
	for tries := 1; ; tries++ {
		if k == nil || k.due.IsZero() || now.Before(k.due) {
			return k, nil
		}
		next, err := c.passTime(ctx, k, now)
		if err == nil {
			return next, nil
		}
		if err := again(ctx, err, tries); err != nil {
			return nil, err
		}
		if k, err = c.cachedKey(ctx, k.ref); err != nil {
			return nil, err
		}
	}
}

// passTime does what is due for k.
func (c *core) passTime(ctx context.Context, k *key, now time.Time) (*key, error) {
	if k.state == KeyStatePendingDeletion {
		return nil, c.destroy(ctx, k, now)
	}
	next, err := c.rotateDue(ctx, k, now)
	if err == nil || ctx.Err() != nil || slices.ContainsFunc(notForLater, func(not error) bool { return errors.Is(err, not) }) {
		return next, err
	}
	// The store cannot be written. A rotation can be late, but what the key has encrypted is needed now.
	c.logRarely(&c.unrotated, "kms: keys are not rotated", err)
	return k, nil
}

// notForLater are the errors that a due rotation does not wait out: another
// change came between, or the store is not what it was.
var notForLater = []error{keystore.ErrConflict, keystore.ErrClosed, keystore.ErrRootKey, keystore.ErrCorrupt, keystore.ErrNewerVersion,
	keystore.ErrInvalid, testhook.ErrReadOnly}

func (c *core) loadKey(ctx context.Context, ref keyRef) (*key, error) {
	record, revision, err := readRecord[keyRecord](ctx, c, ref.recordName())
	if record == nil || err != nil {
		return nil, err
	}
	k, err := c.newKey(ref, record, revision, nil)
	if err != nil {
		return nil, err
	}
	k.lastUse = c.lastUseOf(ref)
	return k, nil
}

// commit stores record as the next state of k, with whatever else belongs to
// the same change, and returns the snapshot of it. ErrConflict means that k is
// not the latest state.
func (c *core) commit(ctx context.Context, k *key, record *keyRecord, with keystore.Tx) (*key, error) {
	name := k.ref.recordName()
	with.Expect = append(with.Expect, keystore.Expectation{Key: name, Revision: k.revision})
	with.Puts = append(with.Puts, keystore.Put{Key: name, Value: encodeRecord(record)})
	next, err := c.newKey(k.ref, record, 0, k)
	if err != nil {
		return nil, err
	}
	next.revision, err = c.store.Commit(ctx, with)
	if err != nil {
		// Whatever became of it, what is cached may be stale.
		c.forget(k)
		return nil, err
	}
	c.keys.replace(k.ref.place(), k, next)
	return next, nil
}

// forget drops k from the cache, and what is older.
func (c *core) forget(k *key) {
	c.keys.dropIf(k.ref.place(), func(cached *key) bool { return cached.revision <= k.revision })
}

// change commits a changed copy of the record of the call's key.
func (c *call) change(change func(*keyRecord)) error {
	record := c.key().record.clone()
	change(record)
	_, err := c.commit(c.ctx, c.key(), record, keystore.Tx{})
	return err
}

// confirm returns ErrConflict if k is not the latest state: another process may
// have changed the key a moment ago. It is for answers that must not be given of
// an older one, such as that there is nothing to change.
func (c *core) confirm(ctx context.Context, k *key) error {
	r, err := c.store.Get(ctx, k.ref.recordName())
	if err == nil && r.Revision == k.revision {
		return nil
	}
	c.forget(k)
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		return keystore.ErrConflict
	}
	return err
}

// rotateDue makes the automatic rotations that are due: one for each period
// that has passed.
func (c *core) rotateDue(ctx context.Context, k *key, now time.Time) (*key, error) {
	record := k.record.clone()
	var tx keystore.Tx
	for range maxRotationsAtOnce {
		if now.Before(record.Rotation.Next) {
			break
		}
		m, put, err := c.newMaterial(k.ref, k.use)
		if err != nil {
			return nil, err
		}
		m.Rotated, m.Rotation = new(record.Rotation.Next), RotationTypeAutomatic
		record.Materials = append(record.Materials, m)
		tx.Puts = append(tx.Puts, put)
		record.Rotation.Next = record.Rotation.Next.AddDate(0, 0, int(record.Rotation.PeriodInDays))
	}
	if !now.Before(record.Rotation.Next) { // more were missed than are worth making up for
		record.Rotation.Next = now.AddDate(0, 0, int(record.Rotation.PeriodInDays))
	}
	return c.rotate(ctx, k, record, tx, now)
}

// maxRotationsAtOnce bounds what a clock that was set far ahead can ask for:
// with an event for each, it fits in one transaction.
const maxRotationsAtOnce = 40

// rotate commits record, which has new materials, with the materials in tx, and
// tells of each.
func (c *core) rotate(ctx context.Context, k *key, record *keyRecord, tx keystore.Tx, now time.Time) (*key, error) {
	defer clearPuts(tx.Puts)
	events := outbox{core: c}
	defer events.close()
	for i := len(k.record.Materials); i < len(record.Materials); i++ {
		m := record.Materials[i]
		events.add(&tx, "RotateKey", k, now, map[string]any{
			"keyId":                 k.ref.id,
			"keyOrigin":             string(record.Origin),
			"rotationType":          string(m.Rotation),
			"previousKeyMaterialId": record.Materials[i-1].ID,
			"currentKeyMaterialId":  m.ID,
		})
	}
	next, err := c.commit(ctx, k, record, tx)
	if err != nil {
		return nil, err
	}
	events.deliver(ctx)
	return next, nil
}

// clearPuts erases the key material among what was stored.
func clearPuts(puts []keystore.Put) {
	for _, p := range puts {
		secret.Clear(p.Value)
	}
}

// An aliasEntry is an immutable snapshot of an alias.
type aliasEntry struct {
	aliasRecord
	revision keystore.Revision
}

// alias returns the alias at ref; nil if there is none.
func (c *core) alias(ctx context.Context, ref aliasRef) (*aliasEntry, error) {
	if a := c.aliases.get(ref.place()); a != nil {
		return a, nil
	}
	return c.aliases.load(ref.place(), func() (*aliasEntry, error) {
		record, revision, err := readRecord[aliasRecord](ctx, c, ref.recordName())
		if record == nil || err != nil {
			return nil, err
		}
		return &aliasEntry{*record, revision}, nil
	})
}

func (c *core) keyARN(r keyRef) string {
	return "arn:" + c.config.Partition + ":kms:" + r.region + ":" + r.account + ":key/" + r.id
}

func (c *core) aliasARN(r aliasRef) string {
	return "arn:" + c.config.Partition + ":kms:" + r.region + ":" + r.account + ":" + r.name
}
