package keydb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
)

// Keys yields the keys of an account and Region at now, by ID, from the first after the ID after. A
// key whose record is damaged is among them: it must not hide the others. It reads batch records at
// a time.
func (db *DB) Keys(ctx context.Context, account, region, after string, batch int, now time.Time) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		prefix := keysName(account, region)
		for name, err := range db.names(ctx, prefix, prefix+after, batch) {
			if err != nil {
				yield(Ref{}, err)
				return
			}
			ref, ok := parseKeyName(name)
			if !ok {
				db.logForged(name, now)
				continue
			}
			k, err := db.Key(ctx, ref, now)
			switch {
			case errors.Is(err, keystore.ErrCorrupt):
			case err != nil:
				yield(Ref{}, err)
				return
			case k == nil:
				continue
			}
			if !yield(ref, nil) {
				return
			}
		}
	}
}

// Aliases yields the aliases of an account and Region at now, by name, from the first after the
// name after. Of an alias whose record is damaged it yields only where it is.
func (db *DB) Aliases(ctx context.Context, account, region, after string, batch int, now time.Time) iter.Seq2[*Alias, error] {
	return db.listAliases(ctx, aliasesName(account, region), account, region, after, batch, now)
}

// AliasesOf is Aliases for those that point to one key.
func (db *DB) AliasesOf(ctx context.Context, ref Ref, after string, batch int, now time.Time) iter.Seq2[*Alias, error] {
	return db.listAliases(ctx, ref.aliasesName(), ref.Account, ref.Region, after, batch, now)
}

func (db *DB) listAliases(ctx context.Context, prefix, account, region, after string, batch int, now time.Time) iter.Seq2[*Alias, error] {
	return func(yield func(*Alias, error) bool) {
		for name, err := range db.names(ctx, prefix, prefix+strings.TrimPrefix(after, arn.AliasPrefix), batch) {
			if err != nil {
				yield(nil, err)
				return
			}
			ref := AliasRef{account, region, arn.AliasPrefix + strings.TrimPrefix(name, prefix)}
			if !arn.IsAlias(ref.Name) {
				db.logForged(name, now)
				continue
			}
			a, err := db.AliasAt(ctx, ref, now)
			switch {
			case errors.Is(err, keystore.ErrCorrupt):
				a = &Alias{AliasRef: ref}
			case err != nil:
				yield(nil, err)
				return
			case a == nil:
				continue
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// logForged logs a record whose name this package cannot have written.
func (db *DB) logForged(name string, now time.Time) {
	db.forged.Error(db.config.Logger, now, "kms: the key store has records that are not its own", fmt.Errorf("%w: record %q", keystore.ErrCorrupt, name))
}

// names yields the names of the records with a prefix that come after the name after, in order. It
// reads batch records at a time. The names of records that cannot be opened are among them. It ends
// with the first error of the store itself.
func (db *DB) names(ctx context.Context, prefix, after string, batch int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for r, err := range db.records(ctx, prefix, after, batch) {
			secret.Clear(r.Value)
			var damaged *keystore.RecordError
			if errors.As(err, &damaged) {
				err = nil
			}
			if !yield(r.Key, err) || err != nil {
				return
			}
		}
	}
}

// records is names for whole records. One that cannot be opened comes with a *keystore.RecordError;
// any other error is the last.
func (db *DB) records(ctx context.Context, prefix, after string, batch int) iter.Seq2[keystore.Record, error] {
	return func(yield func(keystore.Record, error) bool) {
		for {
			records, err := db.store.Scan(ctx, prefix, after, batch)
			var damaged *keystore.RecordError
			if err != nil && !errors.As(err, &damaged) {
				yield(keystore.Record{}, err)
				return
			}
			more := len(records) == batch || damaged != nil
			if damaged != nil {
				records = append(records, keystore.Record{Key: damaged.Key})
			}
			for i, r := range records {
				if r.Key <= after { // of a Backend that is not in order: there would be no end
					yield(keystore.Record{}, fmt.Errorf("%w: record %q is out of order", keystore.ErrCorrupt, r.Key))
					return
				}
				var err error
				if damaged != nil && i == len(records)-1 {
					err = damaged
				}
				if !yield(r, err) {
					return
				}
				after = r.Key
			}
			if !more {
				return
			}
		}
	}
}
