package keydb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// The records of a grant, and their names:
//
//	grant/ACCOUNT/REGION/KEYID/GRANTID             a GrantRecord
//	granteeof/ACCOUNT/REGION/KEYID/HASH/GRANTID    index: by the hash of the grantee
//	grantname/ACCOUNT/REGION/KEYID/HASH            index: the ID, by the hash of all of a named grant
//	retirable/REGION/HASH/ACCOUNT/KEYID/GRANTID    index: by the hash of the retiring principal
const (
	grantPrefix     = "grant/"
	granteePrefix   = "granteeof/"
	grantNamePrefix = "grantname/"
	retirablePrefix = "retirable/"
)

func (r Ref) grantsName() string         { return grantPrefix + r.path() + "/" }
func (r Ref) grantName(id string) string { return r.grantsName() + id }
func (r Ref) granteeName(grantee string) string {
	return granteePrefix + r.path() + "/" + hashName(grantee) + "/"
}

func retirableName(region, retiring string) string {
	return retirablePrefix + region + "/" + hashName(retiring) + "/"
}

// hashName returns a text of fixed length that stands for another one in the name of a record:
// names can be read by whoever has the store.
func hashName(s string) string {
	sum := sha256.Sum256([]byte("github.com/pocketkms/kms record name\x00" + s))
	return hex.EncodeToString(sum[:16])
}

// A GrantRecord is what is stored of a grant. Exactly one of Grantee and GranteeService is there,
// and at most one of Retiring and RetiringService.
type GrantRecord struct {
	Name            string            `json:"name,omitempty"`
	Grantee         string            `json:"grantee,omitempty"` // the ARN of a principal
	GranteeService  string            `json:"granteeService,omitempty"`
	Retiring        string            `json:"retiring,omitempty"`
	RetiringService string            `json:"retiringService,omitempty"`
	Issuer          string            `json:"issuer"` // the ARN of the root of the account that created it
	Operations      []string          `json:"operations"`
	ContextEquals   map[string]string `json:"contextEquals,omitempty"`
	ContextSubset   map[string]string `json:"contextSubset,omitempty"`
	SourceARN       string            `json:"sourceARN,omitempty"`
	Created         time.Time         `json:"created"`
}

// grantee returns the grantee, of whichever kind.
func (g *GrantRecord) grantee() string { return g.Grantee + g.GranteeService }

// retiring returns the retiring principal, of whichever kind; empty if there is none.
func (g *GrantRecord) retiring() string { return g.Retiring + g.RetiringService }

// nameHash stands for a named grant with all its properties except the time and the order of the
// operations.
func (g *GrantRecord) nameHash() string {
	same := *g
	same.Created = time.Time{}
	same.Operations = slices.Sorted(slices.Values(g.Operations))
	return hashName(string(encodeRecord(same))) // which sorts maps
}

// A Grant is an immutable snapshot of a grant.
type Grant struct {
	*GrantRecord
	Key Ref
	ID  string // 64 hexadecimal digits

	revision keystore.Revision
}

// recordNames returns the names of the grant's records, that of the GrantRecord first.
func (g *Grant) recordNames() []string {
	names := []string{g.Key.grantName(g.ID), g.Key.granteeName(g.grantee()) + g.ID}
	if g.Name != "" {
		names = append(names, g.nameName())
	}
	if g.retiring() != "" {
		names = append(names, g.retirableName())
	}
	return names
}

func (g *Grant) nameName() string { return grantNamePrefix + g.Key.path() + "/" + g.nameHash() }

func (g *Grant) retirableName() string {
	return retirableName(g.Key.Region, g.retiring()) + g.RetirableKey()
}

// CreateGrant stores a grant of k.
func (db *DB) CreateGrant(ctx context.Context, k *Key, id string, record *GrantRecord) (*Grant, error) {
	g := &Grant{GrantRecord: record, Key: k.Ref, ID: id}
	var tx keystore.Tx
	for i, name := range g.recordNames() {
		value := index
		switch {
		case i == 0:
			value = encodeRecord(record)
		case strings.HasPrefix(name, granteePrefix) && record.retiring() != "":
			value = encodeRecord(granteeEntry{Retiring: hashName(record.retiring())})
		case strings.HasPrefix(name, grantNamePrefix):
			value = encodeRecord(grantID{g.ID})
		}
		tx.Expect = append(tx.Expect, keystore.Expectation{Key: name})
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: value})
	}
	key := k.Record.clone()
	key.Grants++
	next, err := db.commit(ctx, k, key, tx)
	if err != nil {
		return nil, err
	}
	g.revision = next.revision
	return g, nil
}

// A granteeEntry is the value of a record granteeof/.
type granteeEntry struct {
	Retiring string `json:"retiring,omitempty"` // the hash in the name of the record retirable/
}

// A grantID is the value of a record grantname/.
type grantID struct {
	ID string `json:"id"`
}

// NamedGrant returns the grant of a key that has the name and the other properties of record,
// whenever it was created; nil if there is none, or record has no name.
func (db *DB) NamedGrant(ctx context.Context, key Ref, record *GrantRecord) (*Grant, error) {
	if record.Name == "" {
		return nil, nil
	}
	g := &Grant{GrantRecord: record, Key: key}
	named, _, err := readRecord[grantID](ctx, db, g.nameName())
	if named == nil || err != nil {
		return nil, err
	}
	return db.Grant(ctx, key, named.ID)
}

// Grant returns a grant of a key, or nil if it does not exist.
func (db *DB) Grant(ctx context.Context, key Ref, id string) (*Grant, error) {
	record, revision, err := readRecord[GrantRecord](ctx, db, key.grantName(id))
	if record == nil || err != nil {
		return nil, err
	}
	return &Grant{GrantRecord: record, Key: key, ID: id, revision: revision}, nil
}

// DeleteGrant deletes a grant of k.
func (db *DB) DeleteGrant(ctx context.Context, k *Key, g *Grant) error {
	names := g.recordNames()
	record := k.Record.clone()
	record.Grants--
	_, err := db.commit(ctx, k, record, keystore.Tx{
		Expect:  []keystore.Expectation{{Key: names[0], Revision: g.revision}},
		Deletes: names,
	})
	return err
}

// HasGrant reports whether a key has a grant of that ID, even a damaged one.
func (db *DB) HasGrant(ctx context.Context, key Ref, id string) (bool, error) {
	g, err := db.Grant(ctx, key, id)
	if errors.Is(err, keystore.ErrCorrupt) {
		return true, nil
	}
	return g != nil, err
}

// RevokeGrant deletes a grant of k, even a damaged one. If it does not exist, the error is
// ErrConflict.
func (db *DB) RevokeGrant(ctx context.Context, k *Key, id string) error {
	g, err := db.Grant(ctx, k.Ref, id)
	switch {
	case errors.Is(err, keystore.ErrCorrupt):
		return db.deleteDamagedGrant(ctx, k, id)
	case err != nil:
		return err
	case g == nil:
		return ErrConflict
	}
	return db.DeleteGrant(ctx, k, g)
}

// deleteDamagedGrant deletes a grant whose record cannot be read, with its index entries, which it
// finds among those of all grants of k. Entries that are damaged, too, stay: Check names them.
func (db *DB) deleteDamagedGrant(ctx context.Context, k *Key, id string) error {
	tx := keystore.Tx{Deletes: []string{k.grantName(id)}}
	for name, err := range db.names(ctx, granteePrefix+k.path()+"/", "", sweepBatch) {
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, "/"+id) {
			continue
		}
		tx.Deletes = append(tx.Deletes, name)
		entry, _, err := readRecord[granteeEntry](ctx, db, name)
		if err != nil && !errors.Is(err, keystore.ErrCorrupt) {
			return err
		}
		if entry != nil && entry.Retiring != "" {
			g := Grant{Key: k.Ref, ID: id}
			tx.Deletes = append(tx.Deletes, retirablePrefix+k.Region+"/"+entry.Retiring+"/"+g.RetirableKey())
		}
	}
	for r, err := range db.records(ctx, grantNamePrefix+k.path()+"/", "", sweepBatch) {
		var named *grantID
		if err == nil {
			named, err = decodeRecord[grantID](r)
		}
		switch {
		case errors.Is(err, keystore.ErrCorrupt):
		case err != nil:
			return err
		case named.ID == id:
			tx.Deletes = append(tx.Deletes, r.Key)
		}
	}
	record := k.Record.clone()
	record.Grants--
	_, err := db.commit(ctx, k, record, tx)
	return err
}

// Grants yields the grants of a key, by ID, from the first after the ID after.
func (db *DB) Grants(ctx context.Context, key Ref, after string, batch int) iter.Seq2[*Grant, error] {
	return db.listGrants(ctx, key.grantsName(), after, batch, func(id string) (Ref, string) { return key, id })
}

// GrantsTo is Grants for those of one grantee: a principal or a service. It does not read the
// others.
func (db *DB) GrantsTo(ctx context.Context, key Ref, grantee, after string, batch int) iter.Seq2[*Grant, error] {
	return db.listGrants(ctx, key.granteeName(grantee), after, batch, func(id string) (Ref, string) { return key, id })
}

// RetirableGrants yields the grants in a Region that a principal or a service can retire, by
// account, key and ID. It does not read the others. [Grant.RetirableKey] is what it sorts by.
// Grants of keys whose deletion is due at now are left out.
func (db *DB) RetirableGrants(ctx context.Context, region, retiring, after string, batch int, now time.Time) iter.Seq2[*Grant, error] {
	all := db.listGrants(ctx, retirableName(region, retiring), after, batch, func(path string) (Ref, string) {
		parts := strings.SplitN(path, "/", 3)
		if len(parts) < 3 {
			return Ref{}, ""
		}
		return Ref{parts[0], region, parts[1]}, parts[2]
	})
	return func(yield func(*Grant, error) bool) {
		for g, err := range all {
			var k *Key
			if err == nil {
				k, err = db.Key(ctx, g.Key, now)
			}
			switch {
			case err != nil:
				yield(nil, err)
				return
			case k != nil && !yield(g, nil):
				return
			}
		}
	}
}

// RetirableKey returns the position of g in [DB.RetirableGrants].
func (g *Grant) RetirableKey() string { return g.Key.Account + "/" + g.Key.ID + "/" + g.ID }

func (db *DB) listGrants(ctx context.Context, prefix, after string, batch int, parse func(rest string) (key Ref, id string)) iter.Seq2[*Grant, error] {
	return func(yield func(*Grant, error) bool) {
		start := prefix
		if after != "" {
			start += after
		}
		for name, err := range db.names(ctx, prefix, start, batch) {
			if err != nil {
				yield(nil, err)
				return
			}
			key, id := parse(strings.TrimPrefix(name, prefix))
			g, err := db.Grant(ctx, key, id)
			switch {
			case err != nil:
				yield(nil, err)
				return
			case g == nil: // deleted since its name was read
				continue
			}
			if !yield(g, nil) {
				return
			}
		}
	}
}

// checkGrant checks the record of a grant against its indexes, or an index entry against its grant.
func (db *DB) checkGrant(ctx context.Context, r keystore.Record, kind, path string, wrong func(string, ...any) error) error {
	parts := strings.Split(path, "/")
	var key Ref
	var id string
	switch {
	case kind == "grant" && len(parts) == 4:
		key, id = Ref{parts[0], parts[1], parts[2]}, parts[3]
	case kind == "granteeof" && len(parts) == 5:
		key, id = Ref{parts[0], parts[1], parts[2]}, parts[4]
	case kind == "grantname" && len(parts) == 4:
		record, err := decodeRecord[grantID](r)
		if err != nil {
			return err
		}
		key, id = Ref{parts[0], parts[1], parts[2]}, record.ID
	case kind == "retirable" && len(parts) == 5:
		key, id = Ref{parts[2], parts[0], parts[3]}, parts[4]
	default:
		return wrong("has no possible name")
	}
	g, err := db.Grant(ctx, key, id)
	if err != nil {
		return err
	}
	if g == nil {
		return wrong("is of a grant that does not exist")
	}
	names := g.recordNames()
	if kind != "grant" {
		for _, name := range names {
			if name == r.Key {
				return nil
			}
		}
		return wrong("is of another grant")
	}
	if ok, err := db.exists(ctx, key.recordName()); err != nil || !ok {
		return errors.Join(err, wrong("is of a key that does not exist"))
	}
	for _, name := range names {
		if ok, err := db.exists(ctx, name); err != nil {
			return err
		} else if !ok {
			return wrong("has no record %q", name)
		}
	}
	return nil
}

// countGrants returns how many grants a key has in the store.
func (db *DB) countGrants(ctx context.Context, key Ref) (n int, err error) {
	for _, err := range db.names(ctx, key.grantsName(), "", sweepBatch) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// grantRemnants returns the names of the first records of the grants of a key that is deleted. It
// finds those of a grant that cannot be read in the indexes.
func (db *DB) grantRemnants(ctx context.Context, key Ref) (names []string, err error) {
	for _, kind := range []struct {
		prefix string
		of     func(name, id string) ([]string, error)
	}{
		{key.grantsName(), func(name, id string) ([]string, error) {
			g, err := db.Grant(ctx, key, id)
			if g == nil {
				return []string{name}, err
			}
			return g.recordNames(), nil
		}},
		{granteePrefix + key.path() + "/", func(name, path string) ([]string, error) {
			entry, _, err := readRecord[granteeEntry](ctx, db, name)
			if entry == nil || entry.Retiring == "" {
				return []string{name}, err
			}
			_, id, _ := strings.Cut(path, "/")
			g := Grant{Key: key, ID: id}
			return []string{name, retirablePrefix + key.Region + "/" + entry.Retiring + "/" + g.RetirableKey()}, nil
		}},
		{grantNamePrefix + key.path() + "/", func(name, _ string) ([]string, error) { return []string{name}, nil }},
	} {
		for name, err := range db.names(ctx, kind.prefix, "", destroyBatch) {
			if err != nil {
				return nil, err
			}
			records, err := kind.of(name, strings.TrimPrefix(name, kind.prefix))
			if err != nil && !errors.Is(err, keystore.ErrCorrupt) {
				return nil, err
			}
			for _, r := range records {
				if !slices.Contains(names, r) {
					names = append(names, r)
				}
			}
			if len(names) >= destroyBatch {
				return names, nil
			}
		}
	}
	return names, nil
}
