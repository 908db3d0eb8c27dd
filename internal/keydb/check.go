package keydb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/keystore"
)

// Check yields what is wrong with the records: a record that cannot be read, an index entry without
// its record, a record without its index entry or its key material. It changes nothing, and may run
// while others change the store. progress, if it is not nil, is called with the number of records
// checked so far.
func (db *DB) Check(ctx context.Context, progress func(records int)) iter.Seq[error] {
	return func(yield func(error) bool) {
		n := 0
		for name, err := range db.names(ctx, "", "", sweepBatch) {
			if err == nil {
				err = db.checkStable(ctx, name)
			}
			if err != nil && !yield(err) {
				return
			}
			if n++; progress != nil {
				progress(n)
			}
		}
	}
}

// CheckStore is Check for a store that no DB has open. It starts no work in the background.
func CheckStore(ctx context.Context, store *keystore.Store, config Config, progress func(records int)) iter.Seq[error] {
	return newDB(store, config).Check(ctx, progress)
}

// checkStable checks a record until it is right, or wrong several times: what another call changes
// meanwhile can look wrong once.
func (db *DB) checkStable(ctx context.Context, name string) error {
	var err error
	for range 3 {
		if err = db.checkRecord(ctx, name); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// checkRecord checks the record of that name against those that it belongs to.
func (db *DB) checkRecord(ctx context.Context, name string) error {
	r, err := db.store.Get(ctx, name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil // deleted since its name was read
	}
	if err != nil {
		return err
	}
	defer secret.Clear(r.Value)
	body, err := recordBody(r)
	if err != nil {
		return err
	}
	wrong := func(format string, arguments ...any) error {
		return fmt.Errorf("%w: record %q %s", keystore.ErrCorrupt, name, fmt.Sprintf(format, arguments...))
	}
	kind, path, _ := strings.Cut(name, "/")
	last := ""
	if kind == "material" || kind == "aliasof" { // KEY/MATERIAL, KEY/NAME
		parts := strings.SplitN(path, "/", 4)
		if len(parts) < 4 {
			return wrong("has no possible name")
		}
		path, last = strings.Join(parts[:3], "/"), parts[3]
	}
	if kind == "due" {
		last, path, _ = strings.Cut(path, "/")
	}
	switch kind {
	case "alias":
		return db.checkAlias(ctx, r, wrong)
	case "grant", "granteeof", "grantname", "retirable":
		return db.checkGrant(ctx, r, kind, path, wrong)
	case "customstore", "customstoresecret", "customstorekey", "customstores":
		return db.checkStore(ctx, r, kind, path, wrong)
	case "event":
		_, err := decodeRecord[audit.Event](r)
		return err
	case defaultsName:
		d, err := decodeRecord[Defaults](r)
		if err == nil && (name != kind || !arn.IsAccount(d.Account) || !arn.IsRegion(d.Region)) {
			err = wrong("does not hold an account and a Region")
		}
		return err
	case tokenKeysName:
		if _, err := db.parseTokenKeys(r); err != nil || name != kind {
			return wrong("does not hold the keys of import tokens")
		}
		return nil
	case "shared":
		return db.checkShared(ctx, r, wrong)
	case "sharedmaterial":
		return db.checkSharedMaterial(ctx, path, body, wrong)
	case "keyevent":
		_, err := decodeRecord[audit.KeyEvent](r)
		return err
	case "keycount":
		return db.checkKeyCount(ctx, r, wrong)
	case "key", "material", "aliasof", "lastuse", "due":
	default:
		return wrong("is of no known kind")
	}

	ref, ok := parseRef(path)
	if !ok {
		return wrong("has no possible name")
	}
	if kind == "key" {
		return db.checkKey(ctx, r, ref, wrong)
	}
	record, _, err := db.readKey(ctx, ref)
	if err != nil {
		return err
	}
	if record == nil {
		return wrong("belongs to a key that does not exist")
	}
	switch kind {
	case "material":
		if record.materialsName(ref) != ref.materialsName() {
			return wrong("is a material that its key shares with others")
		}
		return checkMaterial(ref.ID, record, last, body, wrong)
	case "aliasof":
		alias := AliasRef{ref.Account, ref.Region, arn.AliasPrefix + last}
		a, _, err := readRecord[aliasRecord](ctx, db, alias.recordName()) // not of the cache
		if err != nil {
			return err
		}
		if a == nil || a.Key != ref.ID {
			return wrong("is of an alias that does not point to its key")
		}
	case "lastuse":
		_, err := decodeRecord[Use](r)
		return err
	case "due":
		if !slices.Contains(ref.dueNames(record), name) {
			return wrong("is of a key for which nothing is due then")
		}
	}
	return nil
}

func (db *DB) checkKey(ctx context.Context, r keystore.Record, ref Ref, wrong func(string, ...any) error) error {
	record, _, err := db.readKey(ctx, ref)
	if record == nil || err != nil {
		return err
	}
	k, err := newKey(ref, record, r.Revision, nil, db.config.Clock())
	if err != nil {
		return err
	}
	if k.Policy == nil {
		return wrong("has a policy that cannot be read, so that nobody can use the key")
	}
	if record.DeletionDate != nil && record.DeletionWindow != 0 {
		return wrong("is of a key that is to be deleted and waits for others")
	}
	for _, name := range ref.dueNames(record) {
		if ok, err := db.exists(ctx, name); err != nil {
			return err
		} else if !ok {
			return wrong("is of a key that is not in the index of what is due")
		}
	}
	if record.counted() {
		if ok, err := db.exists(ctx, ref.countName()); err != nil {
			return err
		} else if !ok {
			return wrong("is of a key that is not counted")
		}
	}
	if n, err := db.countGrants(ctx, ref); err != nil {
		return err
	} else if n != record.Grants && !record.Destroying {
		return wrong("is of a key with %d grants, but there are %d", record.Grants, n)
	}
	if err := db.checkInStore(ctx, ref, record, wrong); err != nil {
		return err
	}
	if record.Destroying || record.materialsName(ref) != ref.materialsName() {
		return nil // some of its materials may be deleted already, or they are those of the shared record
	}
	return db.checkMaterials(ctx, ref, record, wrong)
}

// checkMaterial checks a key material against the record of its key.
func checkMaterial(keyID string, record *Record, id string, body []byte, wrong func(string, ...any) error) error {
	m := record.Material(id)
	switch {
	case (m == nil || m.Absent) && !slices.ContainsFunc(record.Dropped, func(c ImportedCopy) bool { return c.ID == id }):
		return wrong("is a material that its key does not have")
	case MaterialID(keyID, body) != id:
		return wrong("holds another material")
	}
	return nil
}

// checkMaterials checks that the materials that a record names exist and suit its spec.
func (db *DB) checkMaterials(ctx context.Context, ref Ref, record *Record, wrong func(string, ...any) error) error {
	usage := spec.Of(record.Spec).Usage(record.Usage)
	if usage == nil {
		return wrong("is of a key of no possible spec")
	}
	materials := record.Materials
	if record.Staged != nil {
		materials = append(slices.Clip(materials), *record.Staged)
	}
	for _, m := range materials {
		if m.Absent {
			continue
		}
		stored, err := db.store.Get(ctx, record.materialsName(ref)+m.ID)
		if errors.Is(err, keystore.ErrNotFound) {
			return wrong("is of a key whose material %s does not exist", m.ID)
		}
		if err != nil {
			return err
		}
		body, err := recordBody(stored)
		if err == nil {
			var primitive crypto.Key
			if primitive, err = usage.Family(db.config.Clock).Parse(body); err == nil {
				primitive.Destroy()
			}
		}
		secret.Clear(stored.Value)
		if err != nil {
			return wrong("is of a key whose material %s is not of its spec", m.ID)
		}
	}
	return nil
}

func (db *DB) checkAlias(ctx context.Context, r keystore.Record, wrong func(string, ...any) error) error {
	ref, ok := parseAliasName(r.Key)
	if !ok {
		return wrong("has no possible name")
	}
	record, err := decodeRecord[aliasRecord](r)
	if err != nil {
		return err
	}
	to := Ref{ref.Account, ref.Region, record.Key}
	if !arn.IsKeyID(record.Key) {
		return wrong("points to no possible key")
	}
	for _, name := range []string{to.recordName(), to.aliasName(ref.Name)} {
		if ok, err := db.exists(ctx, name); err != nil {
			return err
		} else if !ok {
			return wrong("has no record %q", name)
		}
	}
	return nil
}

func (db *DB) exists(ctx context.Context, name string) (bool, error) {
	r, err := db.store.Get(ctx, name)
	if errors.Is(err, keystore.ErrNotFound) {
		return false, nil
	}
	secret.Clear(r.Value)
	return err == nil, err
}
