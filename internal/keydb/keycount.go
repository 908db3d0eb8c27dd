package keydb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
)

// The customer managed keys of an account and Region are counted, in all states, so that nothing
// has to read them to know how many there are. One number would make every two CreateKeys at the
// same time conflict. So there is one for each first two digits of a key ID:
//
//	keycount/ACCOUNT/REGION/XX
//
// It changes in the transaction that creates or deletes a key. Their sum is kept in memory. In one
// process it is exact, and includes the keys that are being created. The keys of another process
// are included once the store has reported them: until then the two can exceed the limit by those.
const countPrefix = "keycount/"

func countsName(account, region string) string { return countPrefix + account + "/" + region + "/" }

func (r Ref) countName() string {
	return countsName(r.Account, r.Region) + strings.TrimPrefix(r.ID, arn.MultiRegionPrefix)[:2]
}

// counted reports whether the key counts against the quota: AWS managed keys do not.
func (r *Record) counted() bool { return r.Manager == managerCustomer }

const managerCustomer = "CUSTOMER"

// A keyCount is the value of a record keycount/.
type keyCount struct {
	Keys int `json:"keys"`
}

// A TooManyKeysError is returned if an account can have no more keys in a Region.
type TooManyKeysError struct {
	Limit, Usage int
}

func (e *TooManyKeysError) Error() string {
	return fmt.Sprintf("keydb: %d keys of at most %d", e.Usage, e.Limit)
}

// keyCounts are the counts that have been read, by the prefix of their records' names.
type keyCounts struct {
	mu      sync.Mutex // not held while the store is read or written
	regions map[string]*regionCount
}

type regionCount struct {
	parts            map[string]countPart // by the name of the record
	stored, reserved int
	fresh            bool // all parts were read, and no other process has changed one since
}

type countPart struct {
	keys     int
	revision keystore.Revision
}

// maxCounted bounds how many accounts and Regions are kept in memory.
const maxCounted = 1024

// region returns the counts of that prefix. k.mu must be held.
func (k *keyCounts) region(prefix string) *regionCount {
	if c := k.regions[prefix]; c != nil {
		return c
	}
	if k.regions == nil || len(k.regions) >= maxCounted { // what reservations have, they keep
		k.regions = map[string]*regionCount{}
	}
	c := &regionCount{parts: map[string]countPart{}}
	k.regions[prefix] = c
	return c
}

// saw takes in that a record had that many keys at a revision. k.mu must be held.
func (c *regionCount) saw(name string, keys int, revision keystore.Revision) {
	if old := c.parts[name]; revision > old.revision {
		c.stored += keys - old.keys
		c.parts[name] = countPart{keys, revision}
	}
}

// changed takes in that a record has changed, perhaps by another process.
func (k *keyCounts) changed(name string, revision keystore.Revision) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.regions[name[:strings.LastIndexByte(name, '/')+1]]
	if c != nil && c.reserved == 0 && revision > c.parts[name].revision { // else it can be a change of this process
		c.fresh = false
	}
}

// A reservation is room for one more key.
type reservation struct {
	db     *DB
	ref    Ref
	counts *regionCount // nil if the key is not counted, or the reservation is released
}

// reserveKey returns room for a key, or a TooManyKeysError. The caller must release it.
func (db *DB) reserveKey(ctx context.Context, ref Ref, record *Record) (*reservation, error) {
	r := &reservation{db: db, ref: ref}
	if !record.counted() {
		return r, nil
	}
	prefix, k, limit := countsName(ref.Account, ref.Region), &db.counts, db.config.MaxKeys
	for read := false; ; read = true {
		k.mu.Lock()
		c := k.region(prefix)
		usage := c.stored + c.reserved
		full := limit > 0 && usage >= limit
		if limit == 0 || (c.fresh || read) && !full {
			c.reserved++
			r.counts = c
			k.mu.Unlock()
			return r, nil
		}
		c.fresh = true // unless another process changes something from here on
		k.mu.Unlock()
		if full && read {
			return nil, &TooManyKeysError{limit, usage}
		}
		if err := db.readKeyCounts(ctx, prefix, c); err != nil {
			return nil, err
		}
	}
}

// readKeyCounts reads all counts of an account and Region.
func (db *DB) readKeyCounts(ctx context.Context, prefix string, c *regionCount) error {
	db.counts.mu.Lock()
	before := maps.Clone(c.parts)
	db.counts.mu.Unlock()
	for stored, err := range db.records(ctx, prefix, "", 256) {
		if errors.Is(err, keystore.ErrCorrupt) {
			delete(before, stored.Key)
			continue // the next change of this part counts the keys
		}
		var count *keyCount
		if err == nil {
			count, err = decodeRecord[keyCount](stored)
		}
		if err != nil {
			db.counts.mu.Lock()
			c.fresh = false
			db.counts.mu.Unlock()
			return err
		}
		db.counts.mu.Lock()
		c.saw(stored.Key, count.Keys, stored.Revision)
		db.counts.mu.Unlock()
		delete(before, stored.Key)
	}
	db.counts.mu.Lock()
	defer db.counts.mu.Unlock()
	for name, part := range before { // deleted by another process
		if c.parts[name] == part {
			c.stored -= part.keys
			c.parts[name] = countPart{0, part.revision}
		}
	}
	return nil
}

func (r *reservation) release() {
	r.db.counts.mu.Lock()
	defer r.db.counts.mu.Unlock()
	if r.counts != nil {
		r.counts.reserved--
		r.counts = nil
	}
}

// commit commits tx, which creates the key, and counts it. If another change came first to the
// count only, it tries again.
func (r *reservation) commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if r.counts == nil {
		return r.db.store.Commit(ctx, tx)
	}
	name, seen := r.ref.countName(), []keystore.Expectation(nil)
	for attempt := 0; ; attempt++ {
		keys, expect, err := r.db.readKeyCount(ctx, name)
		if err != nil {
			return 0, err
		}
		if attempt > 0 && slices.Equal(expect, seen) || attempt == maxAttempts {
			return 0, ErrConflict // of something else
		}
		seen = expect
		revision, err := r.db.store.Commit(ctx, keystore.Tx{
			Expect:  append(slices.Clip(tx.Expect), expect...),
			Puts:    append(slices.Clip(tx.Puts), keystore.Put{Key: name, Value: encodeRecord(keyCount{keys + 1})}),
			Deletes: tx.Deletes,
			Scrub:   tx.Scrub,
		})
		if err == nil {
			r.db.counts.mu.Lock()
			r.counts.saw(name, keys+1, revision)
			r.counts.reserved--
			r.counts = nil
			r.db.counts.mu.Unlock()
		}
		if !errors.Is(err, ErrConflict) {
			return revision, err
		}
	}
}

// readKeyCount returns the count in a record, and what a transaction that changes it must expect.
// If the record does not exist or is damaged, it counts the keys.
func (db *DB) readKeyCount(ctx context.Context, name string) (int, []keystore.Expectation, error) {
	count, revision, err := readRecord[keyCount](ctx, db, name)
	expect := []keystore.Expectation{{Key: name, Revision: revision}}
	switch {
	case errors.Is(err, keystore.ErrCorrupt):
		expect = nil // its revision may be unknown
	case err != nil:
		return 0, nil, err
	case count != nil:
		return count.Keys, expect, nil
	}
	keys, err := db.countKeys(ctx, name)
	return keys, expect, err
}

// countKeys returns how many customer managed keys there are for a count of that name.
func (db *DB) countKeys(ctx context.Context, name string) (n int, err error) {
	path := strings.TrimPrefix(name, countPrefix)
	end := strings.LastIndexByte(path, '/') + 1
	for _, prefix := range []string{path, path[:end] + arn.MultiRegionPrefix + path[end:]} {
		for r, err := range db.records(ctx, keyPrefix+prefix, "", sweepBatch) {
			var record *Record
			if err == nil {
				record, err = decodeRecord[Record](r)
			}
			switch {
			case errors.Is(err, keystore.ErrCorrupt): // of a key that is counted, most likely
				n++
			case err != nil:
				return 0, err
			case record.counted():
				n++
			}
		}
	}
	return n, nil
}

// discount adds to tx, which deletes keys, that they are no longer counted. It returns the new
// counts.
func (db *DB) discount(ctx context.Context, tx *keystore.Tx, keys []*Key) (map[string]int, error) {
	counts := map[string]int{}
	for _, k := range keys {
		if !k.Record.counted() {
			continue
		}
		name := k.countName()
		if _, read := counts[name]; !read {
			n, expect, err := db.readKeyCount(ctx, name)
			if err != nil {
				return nil, err
			}
			counts[name] = n
			tx.Expect = append(tx.Expect, expect...)
		}
		counts[name]--
	}
	for name, n := range counts {
		if n == 0 {
			tx.Deletes = append(tx.Deletes, name)
			continue
		}
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: encodeRecord(keyCount{n})})
	}
	return counts, nil
}

// saw takes in the counts of a transaction of this process.
func (k *keyCounts) saw(revision keystore.Revision, counts map[string]int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, n := range counts {
		if c := k.regions[name[:strings.LastIndexByte(name, '/')+1]]; c != nil {
			c.saw(name, n, revision)
		}
	}
}

// checkKeyCount compares a count with the keys.
func (db *DB) checkKeyCount(ctx context.Context, r keystore.Record, wrong func(string, ...any) error) error {
	parts := strings.Split(strings.TrimPrefix(r.Key, countPrefix), "/")
	if len(parts) != 3 || len(parts[2]) != 2 {
		return wrong("has no possible name")
	}
	for range 10 {
		count, before, err := readRecord[keyCount](ctx, db, r.Key)
		if count == nil || err != nil {
			return err
		}
		n, err := db.countKeys(ctx, r.Key)
		if n == count.Keys || err != nil {
			return err
		}
		if _, after, err := readRecord[keyCount](ctx, db, r.Key); err != nil {
			return err
		} else if before == after {
			return wrong("counts %d keys, but there are %d", count.Keys, n)
		}
	}
	return nil // it changes all the time
}
