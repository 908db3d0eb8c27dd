package keydb

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// CountKeys returns how many customer managed keys an account has in a Region. It reads their
// counts only if they are not in memory, or if another process has changed one.
func (db *DB) CountKeys(ctx context.Context, account, region string) (int, error) {
	prefix, k := countsName(account, region), &db.counts
	k.mu.Lock()
	c := k.region(prefix)
	fresh := c.fresh
	c.fresh = true // unless another process changes something from here on
	k.mu.Unlock()
	if !fresh {
		if err := db.readKeyCounts(ctx, prefix, c); err != nil {
			return 0, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return c.stored, nil
}

// Upcoming is what time will bring first. A zero time means never.
type Upcoming struct {
	Deletion time.Time // of a key
	Expiry   time.Time // of imported key material
}

// maxUpcoming is how many entries of the index of what is due Upcoming reads at most.
const maxUpcoming = 1000

// Upcoming returns when the next key is deleted, and when the next imported material expires. It
// reads the keys for which something is due first. If there are very many before the first deletion
// or the first expiry, it returns the time up to which it has looked: none is earlier.
func (db *DB) Upcoming(ctx context.Context) (u Upcoming, err error) {
	n, reached := 0, time.Time{}
	for name, err := range db.names(ctx, duePrefix, "", sweepBatch) {
		if err != nil {
			return Upcoming{}, err
		}
		if n++; n > maxUpcoming {
			u.Deletion, u.Expiry = cmp.Or(u.Deletion, reached), cmp.Or(u.Expiry, reached)
			break
		}
		at, ref, ok := parseDueName(name)
		if !ok {
			continue // Check reports it
		}
		seconds, _ := strconv.ParseInt(at, 10, 64)
		reached = time.Unix(seconds, 0).UTC()
		record, _, err := db.readKey(ctx, ref)
		switch {
		case errors.Is(err, keystore.ErrCorrupt):
			continue
		case err != nil:
			return Upcoming{}, err
		case record == nil: // it has just been deleted
			continue
		}
		isDue := func(at *time.Time) bool { return at != nil && ref.dueName(*at) == name }
		if date := record.DeletionDate; u.Deletion.IsZero() && isDue(date) {
			u.Deletion = *date
		}
		if expiry := record.Expiry(); u.Expiry.IsZero() && isDue(expiry) {
			u.Expiry = *expiry
		}
		if !u.Deletion.IsZero() && !u.Expiry.IsZero() {
			break
		}
	}
	return u, nil
}
