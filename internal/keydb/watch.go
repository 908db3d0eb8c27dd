package keydb

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/keystore"
)

// start starts the work in the background: following what other processes change since a revision,
// a task for each kind of work that time brings, and the pool of RSA key pairs. No task waits for
// another.
func (db *DB) start(after keystore.Revision) {
	ctx, cancel := context.WithCancel(context.Background())
	db.cancel = cancel
	if db.config.PregeneratedRSAKeys > 0 {
		db.pool = startRSAPool(db.config.PregeneratedRSAKeys, spec.RSA(), func(u *spec.Usage) (pair []byte, err error) {
			err = db.guard("key generation", func() (err error) { pair, err = u.Family(db.config.Clock).Generate(); return err })
			if err != nil {
				db.config.Logger.Warn("kms: an RSA key pair could not be generated ahead", "error", err)
			}
			return pair, err
		})
	}
	db.workers.Go(func() { db.watch(ctx, after) })
	db.workers.Go(func() { db.connectStores(ctx) })
	for _, task := range []func(context.Context) error{db.destroyDue, db.dropTokenKeys, db.Flush, db.deliverStored, db.Ping, db.connectPending} {
		db.workers.Go(func() { db.sweep(ctx, task) })
	}
}

// Close ends the work in the background, stores the last uses, and closes the store. Last, it waits
// for the RSA key pair that is being generated ahead, if there is one: that cannot be canceled.
func (db *DB) Close() error {
	db.cancel()
	db.pool.stop()
	db.workers.Wait()
	err := errors.Join(db.Flush(context.Background()), db.store.Close())
	db.pool.wait()
	return err
}

// Ping returns nil if the store can be used.
func (db *DB) Ping(ctx context.Context) error { return db.store.Ping(ctx) }

const sweepInterval = time.Minute

// sweep runs a task now and once a minute. No caller waits for it: what is due for a key is done
// when the key is read.
func (db *DB) sweep(ctx context.Context, task func(context.Context) error) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		err := db.guard("background", func() error { return task(ctx) })
		if err != nil && ctx.Err() == nil {
			db.config.Logger.Warn("kms: work in the background failed and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// watch invalidates what other processes change. What this process changes, its commit replaces.
func (db *DB) watch(ctx context.Context, after keystore.Revision) {
	for failures := 0; ; {
		followed := after
		err := db.guard("watch", func() error { return db.follow(ctx, &after) })
		if errors.Is(err, keystore.ErrClosed) || ctx.Err() != nil {
			return
		}
		if after > followed || errors.Is(err, keystore.ErrCompacted) {
			failures = 0
		} else {
			db.config.Logger.Warn("kms: the key store cannot be watched", "error", err)
			failures++
		}
		// Some changes may have been missed. Follow those from here on, and invalidate all else.
		err = db.guard("watch", func() error {
			current, err := db.store.Commit(ctx, keystore.Tx{})
			after = max(after, current)
			return err
		})
		if err != nil {
			failures++
		}
		db.keys.clear()
		db.aliases.clear()
		if sleep(ctx, min(20*time.Millisecond<<min(failures, 20), maxWatchDelay)) != nil {
			return
		}
	}
}

// maxWatchDelay bounds how long changes of other processes go unnoticed after the store has come
// back.
const maxWatchDelay = 30 * time.Second

func (db *DB) follow(ctx context.Context, after *keystore.Revision) error {
	for event, err := range db.store.Watch(ctx, *after) {
		if err != nil {
			return err
		}
		*after = event.Revision - 1 // the commit may have more events
		if ref, ok := parseKeyName(event.Key); ok {
			db.keys.invalidateIf(ref.cacheKey(), func(k *Key) bool { return k.revision < event.Revision })
		} else if account, id, ok := parseSharedName(event.Key); ok {
			db.invalidateRelated(Ref{Account: account, ID: id}, event.Revision)
		} else if ref, ok := parseAliasName(event.Key); ok {
			db.aliases.invalidateIf(ref.cacheKey(), func(a *Alias) bool { return a.revision < event.Revision })
		} else if strings.HasPrefix(event.Key, countPrefix) {
			db.counts.changed(event.Key, event.Revision)
		}
	}
	return ctx.Err()
}

// guard turns a panic into an error: the clock, the audit sink and the Backend are not ours, and
// nobody could recover from a panic in the background. The panic's value is not logged: it could
// hold anything.
func (db *DB) guard(work string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			db.config.Logger.Error("kms: a panic in the background", "work", work, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("a panic in %s", work)
		}
	}()
	return do()
}
