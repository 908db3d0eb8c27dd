package keydb

import (
	"context"
	"errors"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// An Alias is an immutable snapshot of an alias.
type Alias struct {
	AliasRef
	KeyID   string
	Created time.Time
	Updated time.Time // when it was last made to point to a key

	revision keystore.Revision
}

// Key returns where the key is that a points to.
func (a *Alias) Key() Ref { return Ref{a.Account, a.Region, a.KeyID} }

// Alias returns the alias at ref, or nil if it does not exist. Its key may have been deleted since.
func (db *DB) Alias(ctx context.Context, ref AliasRef) (*Alias, error) {
	p := ref.cacheKey()
	if a := db.aliases.get(&p); a != nil {
		return a, nil
	}
	return db.aliases.load(ref.cacheKey(), func() (*Alias, error) {
		record, revision, err := readRecord[aliasRecord](ctx, db, ref.recordName())
		if record == nil || err != nil {
			return nil, err
		}
		return &Alias{ref, record.Key, record.Created, record.Updated, revision}, nil
	})
}

// HasAlias reports whether there is a record of the alias at ref, even a damaged one.
func (db *DB) HasAlias(ctx context.Context, ref AliasRef) (bool, error) {
	a, err := db.Alias(ctx, ref)
	if errors.Is(err, keystore.ErrCorrupt) {
		return true, nil
	}
	return a != nil, err
}

// AliasAt returns the alias at ref, or nil if it or its key does not exist at now.
func (db *DB) AliasAt(ctx context.Context, ref AliasRef, now time.Time) (*Alias, error) {
	a, err := db.Alias(ctx, ref)
	if a == nil || err != nil {
		return nil, err
	}
	k, err := db.Key(ctx, a.Key(), now)
	if k == nil || err != nil {
		return nil, err
	}
	return a, nil
}

// bind adds to tx that the alias, which must not exist, points to a key.
func (r AliasRef) bind(tx *keystore.Tx, to Ref, now time.Time) {
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: r.recordName()})
	tx.Puts = append(tx.Puts,
		keystore.Put{Key: r.recordName(), Value: encodeRecord(aliasRecord{Key: to.ID, Created: now, Updated: now})},
		keystore.Put{Key: to.aliasName(r.Name), Value: index})
}

// BindAlias creates an alias that points to k. If the alias exists, the error is ErrConflict.
func (db *DB) BindAlias(ctx context.Context, ref AliasRef, k *Key, now time.Time) error {
	defer db.aliases.invalidate(ref.cacheKey())
	var tx keystore.Tx
	ref.bind(&tx, k.Ref, now.UTC())
	return db.commitUnchanged(ctx, k, tx)
}

// MoveAlias makes an alias point to another key, or to the same one again.
func (db *DB) MoveAlias(ctx context.Context, a *Alias, to *Key, now time.Time) error {
	defer db.aliases.invalidate(a.cacheKey())
	tx := keystore.Tx{
		Expect: []keystore.Expectation{{Key: a.recordName(), Revision: a.revision}},
		Puts:   []keystore.Put{{Key: a.recordName(), Value: encodeRecord(aliasRecord{Key: to.ID, Created: a.Created, Updated: now.UTC()})}},
	}
	if a.Key() != to.Ref {
		tx.Puts = append(tx.Puts, keystore.Put{Key: to.aliasName(a.Name), Value: index})
		tx.Deletes = []string{a.Key().aliasName(a.Name)}
	}
	return db.commitUnchanged(ctx, to, tx)
}

// commitUnchanged commits tx together with k's record as it is: of two changes at the same time
// that count the aliases of k, one must fail.
func (db *DB) commitUnchanged(ctx context.Context, k *Key, tx keystore.Tx) error {
	_, err := db.commit(ctx, k, k.Record, tx)
	return err
}

// DeleteAlias deletes an alias.
func (db *DB) DeleteAlias(ctx context.Context, a *Alias) error {
	defer db.aliases.invalidate(a.cacheKey())
	_, err := db.store.Commit(ctx, keystore.Tx{
		Expect:  []keystore.Expectation{{Key: a.recordName(), Revision: a.revision}},
		Deletes: []string{a.recordName(), a.Key().aliasName(a.Name)},
	})
	return err
}

// CountAliases returns how many aliases point to a key, at most limit.
func (db *DB) CountAliases(ctx context.Context, ref Ref, limit int) (int, error) {
	n := 0
	for _, err := range db.names(ctx, ref.aliasesName(), "", limit) {
		if err != nil {
			return 0, err
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}
