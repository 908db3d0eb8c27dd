package keydb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// A Shared is what related multi-Region keys have in common, beside the Materials, Rotation and
// OnDemandRotations of their Records.
type Shared struct {
	Primary string       `json:"primary"`           // the Region of the primary
	Keys    []RelatedKey `json:"keys"`              // the primary and its replicas, sorted by Region
	Deleted *time.Time   `json:"deleted,omitempty"` // when the last one was deleted that is no longer in Keys
	Updated *Update      `json:"updated,omitempty"` // the last change of the primary
	Paused  bool         `json:"paused,omitempty"`  // no automatic rotation: the primary is disabled or pending deletion
}

// A RelatedKey is one of related multi-Region keys. The rest of it is as in its Record.
type RelatedKey struct {
	Region       string     `json:"region"`
	DeletionDate *time.Time `json:"deletionDate,omitempty"`
	Staged       bool       `json:"staged,omitempty"` // it has the bytes of the staged material
}

// An ImportedCopy says that the bytes of an imported material are in one Region.
type ImportedCopy struct {
	ID      string     `json:"id"`
	ValidTo *time.Time `json:"validTo,omitempty"` // when they are deleted; nil: never
}

// An Update is a change of the primary.
type Update struct {
	Former string    `json:"former"` // the Region of the former primary
	Until  time.Time `json:"until"`  // when the change is complete
}

// A sharedRecord is what is stored once for related multi-Region keys. Whatever they share changes
// for all of them in one commit. The key materials that were generated here are stored once, too: a
// key can have many of them, and a commit is limited. Imported materials are stored in each Region.
type sharedRecord struct {
	Shared
	Materials         []MaterialRecord `json:"materials,omitempty"`
	Staged            *MaterialRecord  `json:"staged,omitempty"`
	Rotation          *Rotation        `json:"rotation,omitempty"`
	OnDemandRotations int              `json:"onDemandRotations,omitempty"`
}

func (r Ref) sharedName() string          { return sharedPrefix + r.Account + "/" + r.ID }
func (r Ref) sharedMaterialsName() string { return sharedMaterialPrefix + r.Account + "/" + r.ID + "/" }

// parseSharedName is the inverse of sharedName.
func parseSharedName(name string) (account, id string, ok bool) {
	path, ok := strings.CutPrefix(name, sharedPrefix)
	account, id, _ = strings.Cut(path, "/")
	return account, id, ok && arn.IsAccount(account) && arn.IsKeyID(id)
}

// materialsName returns how the names of the records of the key's materials begin.
func (r *Record) materialsName(ref Ref) string {
	if r.MultiRegion && r.Origin == originKMS {
		return ref.sharedMaterialsName()
	}
	return ref.materialsName()
}

func (s *Shared) clone() *Shared {
	c := *s
	c.Keys = slices.Clone(s.Keys)
	return &c
}

func (s *Shared) index(region string) int {
	return slices.IndexFunc(s.Keys, func(k RelatedKey) bool { return k.Region == region })
}

// Replicas returns the Regions that have a replica at now, sorted.
func (s *Shared) Replicas(now time.Time) []string {
	var regions []string
	for _, k := range s.Keys {
		if k.Region != s.Primary && (k.DeletionDate == nil || now.Before(*k.DeletionDate)) {
			regions = append(regions, k.Region)
		}
	}
	return regions
}

// replicasDeleted returns when the last replica is or was deleted, or the zero time if one is not
// pending deletion.
func (s *Shared) replicasDeleted() (last time.Time) {
	if s.Deleted != nil {
		last = *s.Deleted
	}
	for _, k := range s.Keys {
		switch {
		case k.Region == s.Primary:
		case k.DeletionDate == nil:
			return time.Time{}
		case k.DeletionDate.After(last):
			last = *k.DeletionDate
		}
	}
	return last
}

// StagedEverywhere reports whether all keys that exist at now have the bytes of the staged
// material.
func (s *Shared) StagedEverywhere(now time.Time) bool {
	return !slices.ContainsFunc(s.Keys, func(k RelatedKey) bool {
		return !k.Staged && (k.DeletionDate == nil || now.Before(*k.DeletionDate))
	})
}

// outlived reports whether the deletion of the primary has begun, or ended. That is only so if all
// replicas are deleted.
func (s *Shared) outlived() bool {
	i := s.index(s.Primary)
	return i < 0 || s.Keys[i].DeletionDate != nil
}

// IsReplica reports whether k is a replica of a multi-Region key.
func (k *Key) IsReplica() bool { return k.Record.isReplica(k.Region) }

func (r *Record) isReplica(region string) bool { return r.Shared != nil && r.Shared.Primary != region }

// hasReplicas reports whether the key of that Region is a primary that has replicas at now.
func (r *Record) hasReplicas(region string, now time.Time) bool {
	return r.Shared != nil && r.Shared.Primary == region && len(r.Shared.Replicas(now)) > 0
}

// deletionOverdue reports whether the key of that Region is to be deleted whatever the time.
func (r *Record) deletionOverdue(region string) bool {
	return r.DeletionDate != nil && r.isReplica(region) && r.Shared.outlived()
}

// relatedState is state for a multi-Region key.
func (r *Record) relatedState(region string, now time.Time) (s State, nextDue time.Time) {
	due := func(at time.Time) {
		if !at.IsZero() && (nextDue.IsZero() || at.Before(nextDue)) {
			nextDue = at
		}
	}
	if r.Rotation != nil && !r.Shared.Paused {
		due(r.Rotation.Next) // a replica shows the rotation of its primary, whatever its own state
	}
	if at := r.Expiry(); at != nil {
		due(*at)
	}
	if len(r.Dropped) > 0 || r.Destroying || r.deletionOverdue(region) {
		due(overdue)
	}
	switch {
	case r.Destroying:
		return PendingDeletion, nextDue
	case r.DeletionDate != nil:
		due(*r.DeletionDate)
		return PendingDeletion, nextDue
	case r.DeletionWindow != 0:
		due(r.Shared.replicasDeleted())
		return PendingReplicaDeletion, nextDue
	case r.Creating != nil && now.Before(*r.Creating):
		due(*r.Creating)
		return Creating, nextDue
	}
	u := r.Shared.Updated
	switch {
	case u != nil && now.Before(u.Until) && (region == r.Shared.Primary || region == u.Former):
		due(u.Until)
		return Updating, nextDue
	case r.LacksMaterial():
		return PendingImport, nextDue
	case r.Disabled:
		return Disabled, nextDue
	}
	return Enabled, nextDue
}

// own returns what of r is stored for its Region only.
func (r *Record) own() *Record {
	if r.Shared == nil {
		return r
	}
	own := *r
	own.Materials, own.Staged, own.Rotation, own.OnDemandRotations = nil, nil, nil, 0
	own.Imported = slices.Clone(r.Dropped)
	if r.Origin == originKMS {
		return &own
	}
	for _, m := range r.Materials {
		own.addCopy(&m)
	}
	own.addCopy(r.Staged)
	return &own
}

func (r *Record) addCopy(m *MaterialRecord) {
	if m != nil && !m.Absent {
		r.Imported = append(r.Imported, ImportedCopy{m.ID, m.ValidTo})
	}
}

// shared returns what of r is stored once for all related keys. Of imported material, that is not
// whether its bytes are there.
func (r *Record) shared() *sharedRecord {
	s := &sharedRecord{Shared: *r.Shared, Materials: slices.Clone(r.Materials), Rotation: r.Rotation, OnDemandRotations: r.OnDemandRotations}
	for i := range s.Materials {
		s.Materials[i].Absent, s.Materials[i].ValidTo = false, nil
	}
	if r.Staged != nil {
		s.Staged = new(*r.Staged)
		s.Staged.Absent, s.Staged.ValidTo = false, nil
	}
	return s
}

// join adds to r, as it is stored, what it shares.
func (r *Record) join(s *sharedRecord) {
	r.Shared, r.Materials, r.Staged, r.Rotation, r.OnDemandRotations = &s.Shared, s.Materials, s.Staged, s.Rotation, s.OnDemandRotations
	copies := r.Imported
	r.Imported, r.Dropped = nil, nil
	if r.Origin == originKMS {
		return
	}
	for i := range r.Materials {
		r.Materials[i].Absent = true
	}
	if r.Staged != nil {
		r.Staged.Absent = true
	}
	for _, c := range copies {
		if m := r.Material(c.ID); m != nil {
			m.Absent, m.ValidTo = false, c.ValidTo
		} else {
			r.Dropped = append(r.Dropped, c)
		}
	}
}

// synchronized returns r with the Shared that follows from the rest of it.
func (r *Record) synchronized(region string) *Record {
	if r.Shared == nil {
		return r
	}
	next := *r
	next.Shared = r.Shared.clone()
	for i := range next.Shared.Keys {
		switch k := &next.Shared.Keys[i]; {
		case r.Staged == nil:
			k.Staged = false
		case k.Region == region:
			k.Staged = !r.Staged.Absent
		}
	}
	next.Shared.Keys[next.Shared.index(region)].DeletionDate = r.DeletionDate
	if region == next.Shared.Primary {
		next.Shared.Paused = r.Disabled || r.DeletionDate != nil
	}
	return &next
}

// sharedChange returns what a commit of record as the next state of k stores for the related keys,
// or nil if nothing has changed for them.
func (k *Key) sharedChange(record *Record) *keystore.Put {
	if record.Shared == nil {
		return nil
	}
	before, after := encodeRecord(k.Record.shared()), encodeRecord(record.shared())
	if bytes.Equal(before, after) {
		return nil
	}
	return &keystore.Put{Key: k.sharedName(), Value: after}
}

// expectations are those of a commit that is based on k.
func (k *Key) expectations() []keystore.Expectation {
	e := []keystore.Expectation{{Key: k.recordName(), Revision: k.revision}}
	if k.Record.Shared != nil {
		e = append(e, keystore.Expectation{Key: k.sharedName(), Revision: k.sharedRevision})
	}
	return e
}

// invalidateRelated removes from the cache the related keys that are older than a revision of what
// they share.
func (db *DB) invalidateRelated(ref Ref, revision keystore.Revision) {
	db.keys.invalidateRelated(ref.Account, ref.ID, func(k *Key) bool { return k.older(ref, revision) })
}

// older reports whether k is one of the keys related to ref, as it was before a revision of what
// they share.
func (k *Key) older(ref Ref, revision keystore.Revision) bool {
	return k.sharedRevision < revision && k.ID == ref.ID && k.Account == ref.Account && k.Record.Shared != nil
}

// outdated returns which other snapshots are stale once a reader can find k, or nil: whoever has
// seen a change in one Region must not find the former state in another.
func (k *Key) outdated() func(*Key) bool {
	if k.Record.Shared == nil {
		return nil
	}
	return func(other *Key) bool { return other.older(k.Ref, k.sharedRevision) }
}

// revisions are those of the records of a key. shared is 0 unless it is a multi-Region key.
type revisions struct{ key, shared keystore.Revision }

// maxReads bounds how often readKey reads a key that changes meanwhile.
const maxReads = 10

// readKey reads the record of a key with what it shares. It returns nil if the key does not exist.
func (db *DB) readKey(ctx context.Context, ref Ref) (*Record, revisions, error) {
	before := keystore.Revision(0)
	for range maxReads {
		record, revision, err := readRecord[Record](ctx, db, ref.recordName())
		if record == nil || err != nil || !record.MultiRegion {
			return record, revisions{key: revision}, err
		}
		shared, sharedRevision, err := readRecord[sharedRecord](ctx, db, ref.sharedName())
		if err != nil {
			return nil, revisions{}, err
		}
		if shared != nil && shared.index(ref.Region) >= 0 {
			record.join(shared)
			return record, revisions{revision, sharedRevision}, nil
		}
		if revision == before {
			return nil, revisions{}, fmt.Errorf("%w: record %s is of a key that is not in record %s", keystore.ErrCorrupt, ref.recordName(), ref.sharedName())
		}
		before = revision // perhaps it was deleted between the two reads
	}
	return nil, revisions{}, ErrConflict
}

// requireUnrelated returns an error if the key at ref, whose record does not exist, is one of
// related multi-Region keys.
func (db *DB) requireUnrelated(ctx context.Context, ref Ref) error {
	if !strings.HasPrefix(ref.ID, arn.MultiRegionPrefix) {
		return nil
	}
	shared, _, err := readRecord[sharedRecord](ctx, db, ref.sharedName())
	if shared == nil || err != nil || shared.index(ref.Region) < 0 {
		return err
	}
	if _, err := db.store.Get(ctx, ref.recordName()); !errors.Is(err, keystore.ErrNotFound) {
		if err == nil { // it has been created since
			err = ErrConflict
		}
		return err
	}
	again, _, err := readRecord[sharedRecord](ctx, db, ref.sharedName())
	if again == nil || err != nil || again.index(ref.Region) < 0 {
		return err // it was deleted between the two reads
	}
	return fmt.Errorf("%w: record %s does not exist, but record %s names it", keystore.ErrCorrupt, ref.recordName(), ref.sharedName())
}

// relatedDue does one thing that is due for a multi-Region key, except its own deletion.
func (db *DB) relatedDue(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	r := k.Record
	switch {
	case len(r.Dropped) > 0:
		return db.deleteDropped(ctx, k)
	case k.State == PendingReplicaDeletion && !r.Shared.replicasDeleted().IsZero() && !now.Before(r.Shared.replicasDeleted()):
		return db.startDeletion(ctx, k)
	case r.Rotation == nil || r.Shared.Paused || now.Before(r.Rotation.Next): // a transient state has ended
		next, err := newKey(k.Ref, r, k.revision, k, now)
		if err != nil {
			return nil, err
		}
		next.sharedRevision = k.sharedRevision
		db.keys.replace(k.cacheKey(), k, next)
		return next, nil
	case !k.IsReplica():
		return db.rotateDue(ctx, k, now)
	}
	if _, err := db.Key(ctx, Ref{k.Account, r.Shared.Primary, k.ID}, now); err != nil { // which is rotated
		return nil, err
	}
	return db.cachedKey(ctx, k.Ref)
}

// deleteDropped deletes the bytes of what was staged and that the primary has dropped.
func (db *DB) deleteDropped(ctx context.Context, k *Key) (*Key, error) {
	record := k.Record.clone()
	record.Dropped = nil
	tx := keystore.Tx{Scrub: true}
	for _, c := range k.Record.Dropped {
		tx.Deletes = append(tx.Deletes, k.materialName(c.ID))
	}
	return db.commit(ctx, k, record, tx)
}

// nextExpiry is Expiry for the index of what is due. Of a multi-Region key it counts the staged
// material and what was: a change in another Region must not change the entry of this one.
func (r *Record) nextExpiry() *time.Time {
	first := r.Expiry()
	earliest := func(at *time.Time) {
		if at != nil && (first == nil || at.Before(*first)) {
			first = at
		}
	}
	if r.Shared != nil && r.Staged != nil {
		earliest(r.Staged.ValidTo)
	}
	for _, c := range r.Dropped {
		earliest(c.ValidTo)
	}
	return first
}

// dropStaged deletes the staged material of k. A replica only deletes its own bytes; a primary
// makes the related keys delete theirs, too, when they are looked at: now or in the next sweep.
func (db *DB) dropStaged(ctx context.Context, k *Key) (*Key, error) {
	record := k.Record.clone()
	tx := keystore.Tx{Deletes: []string{k.materialName(record.Staged.ID)}, Scrub: true}
	if k.IsReplica() {
		record.Staged.Absent, record.Staged.ValidTo = true, nil
		return db.commit(ctx, k, record, tx)
	}
	record.Staged = nil
	var others []Ref
	if record.Shared != nil {
		for _, related := range record.Shared.Keys {
			if related.Staged && related.Region != k.Region {
				others = append(others, Ref{k.Account, related.Region, k.ID})
			}
		}
	}
	for _, ref := range others {
		tx.Puts = append(tx.Puts, keystore.Put{Key: ref.dueName(overdue), Value: index})
	}
	next, err := db.commit(ctx, k, record, tx)
	if err != nil {
		return nil, err
	}
	for _, ref := range others {
		if _, err := db.Key(ctx, ref, db.config.Clock()); err != nil {
			db.config.Logger.Warn("kms: key material that was deleted in one Region is still in another, until the next sweep", "error", err)
		}
	}
	return next, nil
}

// startDeletion makes k, a primary whose replicas have been deleted, pending deletion from that
// moment on.
func (db *DB) startDeletion(ctx context.Context, k *Key) (*Key, error) {
	record := k.Record.clone()
	record.DeletionDate = new(deletionDate(record.Shared.replicasDeleted(), record.DeletionWindow))
	record.DeletionWindow = 0
	return db.commit(ctx, k, record, keystore.Tx{})
}

// Replicate stores a replica of k, a primary, in another Region. record has what is not shared, and
// is the DB's from then on. If the material of k is imported, the replica has a copy of each of the
// Materials of options, which k must have had, and waits for the others; options.Alias is ignored.
// If the Region has a replica, the error is ErrConflict; if the account has as many keys there as
// it may have, it is a [TooManyKeysError].
func (db *DB) Replicate(ctx context.Context, k *Key, region string, record *Record, options CreateOptions) (*Key, error) {
	ref := Ref{k.Account, region, k.ID}
	record.Spec, record.Usage, record.Origin, record.Manager, record.MultiRegion = k.Record.Spec, k.Record.Usage, k.Record.Origin, k.Record.Manager, true
	if record.Creating != nil && record.Origin != originKMS {
		record.PrimaryValidTo = k.Record.Expiry()
	}
	room, err := db.reserveKey(ctx, ref, record)
	if err != nil {
		return nil, err
	}
	defer room.release()
	tx := keystore.Tx{Expect: k.expectations()}
	defer func() { clearPuts(tx.Puts) }()
	if record.Origin == originExternal {
		for i, bytes := range options.Materials {
			m, put, err := db.newMaterial(ref, record, k.Usage, bytes)
			if err != nil {
				return nil, err
			}
			if i == len(options.Materials)-1 {
				m.ValidTo = options.ValidTo
			}
			record.addCopy(&m)
			tx.Puts = append(tx.Puts, put)
		}
	}
	record.join(k.Record.clone().shared())
	record.Shared.Keys = append(record.Shared.Keys, RelatedKey{Region: region})
	slices.SortFunc(record.Shared.Keys, func(a, b RelatedKey) int { return strings.Compare(a.Region, b.Region) })
	replica, err := db.commitNew(ctx, room, record, tx)
	db.invalidateRelated(k.Ref, k.sharedRevision+1) // also after an error: the commit may have taken effect
	return replica, err
}

// UpdatePrimary makes replica, a replica of k, the primary instead of k. Both are in state Updating
// until a time.
func (db *DB) UpdatePrimary(ctx context.Context, k, replica *Key, until time.Time) error {
	record := replica.Record.clone()
	record.Shared.Primary = replica.Region
	record.Shared.Updated = &Update{Former: k.Region, Until: until.UTC()}
	record = record.synchronized(replica.Region)
	_, err := db.commitShared(ctx, k, keystore.Tx{
		Expect: append(k.expectations(), keystore.Expectation{Key: replica.recordName(), Revision: replica.revision}),
		Puts:   []keystore.Put{{Key: k.sharedName(), Value: encodeRecord(record.shared())}},
	})
	return err
}

// commitShared commits tx, which replaces the sharedRecord of k.
func (db *DB) commitShared(ctx context.Context, k *Key, tx keystore.Tx) (keystore.Revision, error) {
	revision, err := db.store.Commit(ctx, tx)
	db.invalidateRelated(k.Ref, k.sharedRevision+1) // also after an error: the commit may have taken effect
	return revision, err
}

// Primary returns the primary of the related keys that have the ID of ref, as it is at now, or nil
// if there are none.
func (db *DB) Primary(ctx context.Context, ref Ref, now time.Time) (*Key, error) {
	shared, _, err := readRecord[sharedRecord](ctx, db, ref.sharedName())
	if shared == nil || err != nil {
		return nil, err
	}
	for _, related := range shared.Keys { // what is due for deletion is deleted
		if _, err := db.Key(ctx, Ref{ref.Account, related.Region, ref.ID}, now); err != nil {
			return nil, err
		}
	}
	return db.Key(ctx, Ref{ref.Account, shared.Primary, ref.ID}, now)
}

// ownMaterials returns how the names of the key materials begin that are deleted with k; empty if
// related keys still need them.
func (k *Key) ownMaterials() string {
	if name := k.Record.materialsName(k.Ref); k.Record.Shared == nil || len(k.Record.Shared.Keys) == 1 || name == k.materialsName() {
		return name
	}
	return ""
}

// leaveRelated adds to tx, which deletes k, that it is no longer one of related keys.
func (k *Key) leaveRelated(tx *keystore.Tx) {
	switch {
	case k.Record.Shared == nil:
	case len(k.Record.Shared.Keys) == 1:
		tx.Deletes = append(tx.Deletes, k.sharedName())
	default:
		shared := k.Record.clone().shared()
		i := shared.index(k.Region)
		shared.Keys = slices.Delete(shared.Keys, i, i+1)
		if date := k.Record.DeletionDate; shared.Deleted == nil || shared.Deleted.Before(*date) {
			shared.Deleted = date
		}
		tx.Puts = append(tx.Puts, keystore.Put{Key: k.sharedName(), Value: encodeRecord(shared)})
	}
}

// checkShared checks the record that related multi-Region keys share against their own records and
// the key materials.
func (db *DB) checkShared(ctx context.Context, r keystore.Record, wrong func(string, ...any) error) error {
	account, id, ok := parseSharedName(r.Key)
	if !ok {
		return wrong("has no possible name")
	}
	shared, err := decodeRecord[sharedRecord](r)
	if err != nil {
		return err
	}
	if !slices.IsSortedFunc(shared.Keys, func(a, b RelatedKey) int { return strings.Compare(a.Region, b.Region) }) || len(shared.Keys) == 0 {
		return wrong("does not name keys in order")
	}
	var first *Record
	for i, related := range shared.Keys {
		ref := Ref{account, related.Region, id}
		if i > 0 && related.Region == shared.Keys[i-1].Region || !arn.IsRegion(related.Region) {
			return wrong("does not name each key once")
		}
		record, _, err := readRecord[Record](ctx, db, ref.recordName())
		if err != nil {
			return err
		}
		if record == nil || !record.MultiRegion {
			return wrong("names the key in %s, which does not exist", related.Region)
		}
		if first == nil {
			first = record
		}
		switch {
		case record.Spec != first.Spec || record.Usage != first.Usage || record.Origin != first.Origin:
			return wrong("names keys of different specs, usages or origins")
		case !sameTime(record.DeletionDate, related.DeletionDate):
			return wrong("has another deletion date than the key in %s", related.Region)
		case related.Region != shared.Primary && record.DeletionWindow != 0:
			return wrong("is of a replica that waits for others")
		case related.Region == shared.Primary && shared.Paused != (record.Disabled || record.DeletionDate != nil):
			return wrong("does not say whether the primary is rotated")
		case shared.index(shared.Primary) < 0 && record.DeletionDate == nil:
			return wrong("is of a replica without a primary")
		case related.Staged != (shared.Staged != nil && slices.ContainsFunc(record.Imported, func(c ImportedCopy) bool { return c.ID == shared.Staged.ID })):
			return wrong("does not say whether the key in %s has the staged material", related.Region)
		case record.Destroying:
			return nil // some of the materials may be deleted already
		}
	}
	if first.Origin != originKMS {
		return nil
	}
	first.join(shared)
	return db.checkMaterials(ctx, Ref{account, shared.Keys[0].Region, id}, first, wrong)
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// checkSharedMaterial checks a key material of related multi-Region keys against the record that
// they share. path is what follows the kind in its name.
func (db *DB) checkSharedMaterial(ctx context.Context, path string, body []byte, wrong func(string, ...any) error) error {
	parts := strings.Split(path, "/")
	if len(parts) != 3 || !arn.IsAccount(parts[0]) || !arn.IsKeyID(parts[1]) {
		return wrong("has no possible name")
	}
	shared, _, err := readRecord[sharedRecord](ctx, db, Ref{Account: parts[0], ID: parts[1]}.sharedName())
	switch {
	case err != nil:
		return err
	case shared == nil:
		return wrong("belongs to keys that do not exist")
	}
	return checkMaterial(parts[1], &Record{Materials: shared.Materials}, parts[2], body, wrong)
}
