package keydb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/keystore"
)

// A Key is an immutable snapshot of a key as one commit left it, with what is derived from it once.
// A change makes a new snapshot, which takes over the materials and the last use of the old one.
type Key struct {
	Ref
	ARN       string
	Record    *Record
	Spec      *spec.Spec
	Usage     *spec.Usage
	State     State
	Materials []*Material // as in Record
	Store     *Store      // the custom key store that the key is in, as it was when the key was looked up

	// Policy is the key policy, compiled. It is nil if the stored text is not a key policy: then the
	// key refuses everything.
	Policy *iam.Policy
	// Decisions keeps what has been decided with this snapshot.
	Decisions *Decisions

	grants         *granteeCache
	revision       keystore.Revision // 0: not stored
	sharedRevision keystore.Revision // of the sharedRecord of a multi-Region key
	nextDue        time.Time         // when time next changes the key; zero: never
	nextLook       time.Time         // when a lookup has to look closer: nextDue, and always in a custom key store
	lastUse        *lastUse
}

// A State is the state of a key, by its name in the API.
type State string

// The key states that are stored or follow from what is stored.
const (
	Enabled                State = "Enabled"
	Disabled               State = "Disabled"
	PendingDeletion        State = "PendingDeletion"
	PendingReplicaDeletion State = "PendingReplicaDeletion"
	PendingImport          State = "PendingImport"
	Creating               State = "Creating"
	Updating               State = "Updating"
	Unavailable            State = "Unavailable" // not stored: the custom key store is not connected
)

// Origins of key material, as the API names them.
const (
	originKMS      = "AWS_KMS"  // generated here
	originExternal = "EXTERNAL" // imported
)

// newKey returns the snapshot of a record at now. It shares what it can with old, an earlier
// snapshot of the same key, which may be nil.
func newKey(ref Ref, record *Record, revision keystore.Revision, old *Key, now time.Time) (*Key, error) {
	k := &Key{Ref: ref, ARN: ref.ARN(), Record: record, revision: revision, Spec: spec.Of(record.Spec), Decisions: new(Decisions), grants: new(granteeCache)}
	if k.Spec != nil {
		k.Usage = k.Spec.Usage(record.Usage)
	}
	if k.Usage == nil || len(record.Materials) == 0 && record.Origin == originKMS {
		return nil, fmt.Errorf("%w: record %s describes no possible key", keystore.ErrCorrupt, ref.recordName())
	}
	k.State, k.nextDue = record.state(ref.Region, now)
	newHeader := ciphertext.NewHeader
	if k.nextLook = k.nextDue; record.CustomKeyStore != "" {
		k.nextLook = time.Unix(0, 0)
		newHeader = ciphertext.NewDeviceHeader
	}
	for i := range record.Materials {
		id := record.Materials[i].ID
		if old != nil && i < len(old.Materials) && old.Materials[i].ID == id && old.Record.Materials[i].Absent == record.Materials[i].Absent {
			k.Materials = append(k.Materials, old.Materials[i])
			continue
		}
		packed, err := hex.DecodeString(id)
		if err != nil || len(packed) != 32 {
			return nil, fmt.Errorf("%w: record %s names no possible key material", keystore.ErrCorrupt, ref.recordName())
		}
		m := &Material{ID: id, Header: newHeader(ref.Account, ref.ID, (*[32]byte)(packed)), absent: record.Materials[i].Absent}
		k.Materials = append(k.Materials, m)
	}
	if old != nil {
		k.lastUse, k.Store = old.lastUse, old.Store
	}
	if old != nil && old.Record.Policy == record.Policy {
		k.Policy = old.Policy
	} else {
		k.Policy, _ = parsePolicy(record.Policy)
	}
	return k, nil
}

// state returns the state of the key at now, and when time next changes the key.
func (r *Record) state(region string, now time.Time) (s State, nextDue time.Time) {
	if r.Shared != nil {
		return r.relatedState(region, now)
	}
	var expiry time.Time
	if at := r.Expiry(); at != nil {
		expiry = *at
	}
	switch {
	case r.Destroying:
		return PendingDeletion, overdue
	case r.DeletionDate != nil:
		if expiry.IsZero() || r.DeletionDate.Before(expiry) {
			return PendingDeletion, *r.DeletionDate
		}
		return PendingDeletion, expiry
	case r.LacksMaterial():
		return PendingImport, expiry
	case r.Disabled:
		return Disabled, expiry
	case r.Rotation != nil: // never of imported material
		return Enabled, r.Rotation.Next
	}
	return Enabled, expiry
}

// overdue is a time that has passed by the clock of any process.
var overdue = time.Unix(0, 0)

// NewUnstoredKey returns a snapshot of a key that does not exist yet, so that it can be authorized
// and described. It has no materials.
func NewUnstoredKey(ref Ref, arn string, record *Record) *Key {
	s := spec.Of(record.Spec)
	policy, _ := parsePolicy(record.Policy)
	return &Key{Policy: policy, Ref: ref, ARN: arn, Record: record, Spec: s, Usage: s.Usage(record.Usage), State: Enabled, lastUse: new(lastUse), Decisions: new(Decisions), grants: new(granteeCache)}
}

// Stored reports whether k is in the store, or was when the snapshot was taken.
func (k *Key) Stored() bool { return k.revision != 0 }

// Current returns the material that encrypts and signs. k must have one.
func (k *Key) Current() *Material { return k.Materials[len(k.Materials)-1] }

// MaterialOf returns the material that made a ciphertext, or nil.
func (k *Key) MaterialOf(h *ciphertext.Header) *Material {
	for i := len(k.Materials) - 1; i >= 0; i-- {
		if *k.Materials[i].Header.MaterialID() == *h.MaterialID() {
			return k.Materials[i]
		}
	}
	return nil
}

// A Material is one key material. Its bytes are loaded on first use.
type Material struct {
	ID     string             // 64 hexadecimal digits
	Header *ciphertext.Header // of the ciphertexts that it makes

	absent    bool // as in Record
	primitive atomic.Pointer[crypto.Key]
	present   atomic.Bool // its record has been read
}

// Primitive returns the primitive of a material of k. If the key changed or was deleted since the
// snapshot was taken, the error may be ErrConflict.
func (db *DB) Primitive(ctx context.Context, k *Key, m *Material) (crypto.Key, error) {
	if p := m.primitive.Load(); p != nil {
		return *p, nil
	}
	return db.loadPrimitive(ctx, k, m)
}

// loadPrimitive loads the material on its first use. If several callers do so at the same time, all
// share the result of one.
func (db *DB) loadPrimitive(ctx context.Context, k *Key, m *Material) (crypto.Key, error) {
	r, err := db.material(ctx, k, m)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(r.Value)
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	primitive, err := k.Usage.Family(db.config.Clock).Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: record %s holds no material for a key of its spec", keystore.ErrCorrupt, r.Key)
	}
	for !m.primitive.CompareAndSwap(nil, &primitive) {
		if p := m.primitive.Load(); p != nil { // else it was destroyed in between
			primitive.Destroy()
			return *p, nil
		}
	}
	return primitive, nil
}

// RequireMaterial returns an error if a material of k cannot be read, although it has not been
// deleted.
func (db *DB) RequireMaterial(ctx context.Context, k *Key, m *Material) error {
	if m.absent || m.present.Load() {
		return nil
	}
	r, err := db.material(ctx, k, m)
	secret.Clear(r.Value)
	return err
}

// material returns the record of a material of k.
func (db *DB) material(ctx context.Context, k *Key, m *Material) (keystore.Record, error) {
	name := k.Record.materialsName(k.Ref) + m.ID
	r, err := db.store.Get(ctx, name)
	if !errors.Is(err, keystore.ErrNotFound) {
		m.present.Store(err == nil)
		return r, err
	}
	if err := db.RequireCurrent(ctx, k); err != nil { // destroyed since the snapshot was taken
		return keystore.Record{}, err
	}
	return keystore.Record{}, fmt.Errorf("%w: record %s does not exist, but the key has this material", keystore.ErrCorrupt, name)
}

// newMaterial stores key material in memory: what a Record and a transaction take of it. It
// generates the bytes if they are nil.
func (db *DB) newMaterial(ref Ref, record *Record, usage *spec.Usage, bytes []byte) (MaterialRecord, keystore.Put, error) {
	if bytes == nil {
		var err error
		if bytes, err = db.Generate(usage); err != nil {
			return MaterialRecord{}, keystore.Put{}, err
		}
		defer secret.Clear(bytes)
	}
	m := MaterialRecord{ID: MaterialID(ref.ID, bytes)}
	return m, keystore.Put{Key: record.materialsName(ref) + m.ID, Value: append([]byte{recordVersion}, bytes...)}, nil
}

// Generate returns new material for keys of a usage, in the stored form of package crypto. An RSA
// key pair comes from the pool, if there is one that has it. The caller owns the material, and
// erases it.
func (db *DB) Generate(usage *spec.Usage) ([]byte, error) {
	if pair := db.pool.take(usage.RSABits); pair != nil {
		return pair, nil
	}
	return usage.Family(db.config.Clock).Generate()
}

// MaterialID returns the ID of a key material, a hash. The same bytes have the same ID in the same
// key and another one in another key. The ID discloses nothing of random bytes.
func MaterialID(keyID string, bytes []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "github.com/pocketkms/kms key material\x00%s\x00", keyID)
	h.Write(bytes)
	return hex.EncodeToString(h.Sum(nil))
}

// SwapPrimitive replaces the primitive of a material, which must be loaded, and returns the former
// one. It is for tests.
func (m *Material) SwapPrimitive(p crypto.Key) crypto.Key { return *m.primitive.Swap(&p) }
