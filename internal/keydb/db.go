// Package keydb reads and writes the records of a KMS: keys, key materials, aliases, last uses and
// events. No other package names, encodes or commits them.
//
// It keeps the records consistent: it writes every index in the same transaction as the record that
// it belongs to, and invalidates what a commit makes stale. [DB.Check] verifies that. It also does
// what time brings: automatic rotation, the expiry of imported material, and deletion.
//
// A change is optimistic. It is based on a snapshot, a [Key] or an [Alias], and fails with
// [ErrConflict] if that is not the latest: read it again and retry, see [DB.Retry].
package keydb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/loglimit"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
)

// Errors of package keystore that the operations of the API need to know.
var (
	ErrConflict = keystore.ErrConflict // another change came first
	ErrClosed   = keystore.ErrClosed
)

// A Config says how a DB works.
type Config struct {
	Clock  func() time.Time
	Sink   audit.Sink // receives the events of rotations and deletions; may be nil
	Logger *slog.Logger

	KeyEvents func(context.Context, *audit.KeyEvent) error // receives the key events; may be nil

	PregeneratedRSAKeys int // how many RSA key pairs of each size to generate ahead
	MaxKeys             int // the most customer managed keys in an account and Region; 0: no limit

	// Devices hold the keys of custom key stores. Their names are those of StoreRecord.DeviceName.
	Devices map[string]keystore.Device
}

// A DB is the records of a store. Its methods may be called concurrently.
type DB struct {
	config  Config
	store   *keystore.Store
	keys    *cache[Key]
	aliases *cache[Alias]

	usesMu sync.Mutex
	uses   map[Ref]*lastUse // not stored yet

	queues [retryQueues]chan struct{} // of changes that lost a race; each holds who may retry

	tokenKeys atomic.Pointer[tokenKeys] // nil until they are needed

	inFlight, acked sync.Map // names of event records: being delivered; delivered but not deleted
	eventCount      atomic.Uint64

	pool   *rsaPool // nil: none
	counts keyCounts

	devices  map[string]*device
	connects chan struct{} // has an element if a custom key store is to be connected
	attempts sync.Map      // to connect one, under way

	undelivered, unrotated, forged, deviceFailures loglimit.Limiter

	cancel  context.CancelFunc
	workers sync.WaitGroup
}

// Open returns the DB of a store, and starts its work in the background. From then on the store
// belongs to the DB; if Open fails, it is still the caller's to close.
func Open(ctx context.Context, store *keystore.Store, config Config) (*DB, error) {
	revision, err := store.Commit(ctx, keystore.Tx{}) // writes nothing: returns the current revision
	if err != nil {
		return nil, err
	}
	db := newDB(store, config)
	db.start(revision)
	return db, nil
}

func newDB(store *keystore.Store, config Config) *DB {
	db := &DB{
		config:  config,
		store:   store,
		keys:    newCache[Key](true),
		aliases: newCache[Alias](false),
		uses:    map[Ref]*lastUse{},

		devices:  newDevices(config.Devices),
		connects: make(chan struct{}, 1),
	}
	db.keys.outdates = (*Key).outdated
	for i := range db.queues {
		db.queues[i] = make(chan struct{}, 1)
	}
	return db
}

// Key returns the key at ref as it is at now, or nil if it does not exist. What is due by then, its
// deletion, the expiry of its material or its rotation, is done first. A key of a custom key store
// that is not connected is Unavailable.
func (db *DB) Key(ctx context.Context, ref Ref, now time.Time) (*Key, error) {
	k, err := db.cachedKey(ctx, ref)
	if err != nil {
		return nil, err
	}
	return db.catchUp(ctx, k, now)
}

// CachedKey is Key without the store: it returns nil also if the key is not in the cache.
func (db *DB) CachedKey(ctx context.Context, ref *Ref, now time.Time) (*Key, error) {
	k := db.keys.get((*cacheKey)(ref))
	if k == nil || !k.looksDue(now) {
		return k, nil
	}
	return db.catchUp(ctx, k, now)
}

// KeyOf is Key for the key in a Region that the header of a ciphertext names. likely is the account
// that it is likely to be in.
func (db *DB) KeyOf(ctx context.Context, h *ciphertext.Header, likely, region string, now time.Time) (*Key, error) {
	k := db.keys.lookupHash(hashID(h.AccountEnd(), h.KeyIDEnd()), func(k *Key) bool {
		return k.Region == region && len(k.Materials) > 0 && h.SameKey(k.Current().Header)
	})
	if k != nil {
		return db.catchUp(ctx, k, now)
	}
	return db.Key(ctx, Ref{h.Account(likely), region, h.KeyID()}, now)
}

func (db *DB) cachedKey(ctx context.Context, ref Ref) (*Key, error) {
	p := ref.cacheKey()
	if k := db.keys.get(&p); k != nil {
		return k, nil
	}
	return db.keys.load(ref.cacheKey(), func() (*Key, error) { return db.loadKey(ctx, ref) })
}

func (db *DB) loadKey(ctx context.Context, ref Ref) (*Key, error) {
	record, revisions, err := db.readKey(ctx, ref)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, db.requireAbsent(ctx, ref)
	}
	k, err := newKey(ref, record, revisions.key, nil, db.config.Clock())
	if err != nil {
		return nil, err
	}
	k.sharedRevision = revisions.shared
	k.lastUse = db.lastUseOf(ref)
	return k, nil
}

// requireAbsent returns an error if the key at ref, whose record does not exist, has other records.
// A lost key must not look like one that never was.
func (db *DB) requireAbsent(ctx context.Context, ref Ref) error {
	if err := db.requireUnrelated(ctx, ref); err != nil {
		return err
	}
	for _, prefix := range []string{ref.materialsName(), ref.aliasesName()} {
		left, err := db.store.Scan(ctx, prefix, "", 1)
		var damaged *keystore.RecordError
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		if len(left) == 0 && damaged == nil {
			continue
		}
		// It may have been created since.
		if _, err := db.store.Get(ctx, ref.recordName()); err == nil {
			return ErrConflict
		} else if !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		return fmt.Errorf("%w: record %s does not exist, but others of that key do", keystore.ErrCorrupt, ref.recordName())
	}
	return nil
}

// looksDue reports whether catchUp has to look at k.
func (k *Key) looksDue(now time.Time) bool { return !k.nextLook.IsZero() && !now.Before(k.nextLook) }

// catchUp does what is due for k, which may be nil, and returns its current state, or nil if it has
// been deleted.
func (db *DB) catchUp(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	if k == nil || !k.looksDue(now) {
		return k, nil
	}
	ref, first := k.Ref, true
	err := retry(ctx, func() (err error) {
		if !first {
			if k, err = db.cachedKey(ctx, ref); err != nil {
				return err
			}
		}
		first = false
		for range maxDueSteps {
			before := k
			if k == nil || k.nextDue.IsZero() || now.Before(k.nextDue) {
				break
			}
			if k, err = db.runDue(ctx, k, now); err != nil || k == before {
				return err
			}
		}
		if k != nil && k.Record.CustomKeyStore != "" {
			k, err = db.inCurrentStore(ctx, k)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// maxDueSteps bounds how many different changes can be due for a key at once: a replica's creation
// has ended, its key is rotated, and so on.
const maxDueSteps = 6

// runDue does one thing that is due for k. It returns k itself if that must wait.
func (db *DB) runDue(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	if k.deletionDue(now) {
		return nil, db.destroy(ctx, []*Key{k}, now)
	}
	if expiry := k.Record.Expiry(); expiry != nil && !now.Before(*expiry) {
		return db.expire(ctx, k, now)
	}
	due := db.rotateDue
	if k.Record.Shared != nil {
		due = db.relatedDue
	}
	next, err := due(ctx, k, now)
	if err == nil || ctx.Err() != nil || slices.ContainsFunc(notRetryable, func(not error) bool { return errors.Is(err, not) }) {
		return next, err
	}
	// The store cannot be written. The change can be late, but what the key has encrypted is needed
	// now.
	db.unrotated.Error(db.config.Logger, now, "kms: keys are not rotated", err)
	return k, nil
}

// notRetryable are the errors that a due rotation does not wait out: another change came first, or
// the store is not what it was.
var notRetryable = []error{keystore.ErrConflict, keystore.ErrClosed, keystore.ErrReplaced, keystore.ErrRootKey, keystore.ErrCorrupt,
	keystore.ErrNewerVersion, keystore.ErrInvalid, testhook.ErrReadOnly}

// CreateOptions are optional parts of a new key.
type CreateOptions struct {
	// Materials are the key materials, oldest first, in the stored form of package crypto. All but
	// the first count as on-demand rotations when the key was created. If there are none, one is
	// generated, or remains to be imported if that is the key's origin.
	Materials [][]byte
	ValidTo   *time.Time // when the last of Materials, which is imported, is deleted; nil: never
	// MaterialDescription is that of the last of Materials, which is imported.
	MaterialDescription string
	Alias               AliasRef // points to the key from the beginning; zero: none

	store *Store // the custom key store that the key is in
}

// Create stores a new key with its materials. record is the DB's from then on. If the key or the
// alias exists, the error is ErrConflict; if the account has as many keys as it may have, it is a
// [TooManyKeysError].
func (db *DB) Create(ctx context.Context, ref Ref, record *Record, options CreateOptions) (*Key, error) {
	room, err := db.reserveKey(ctx, ref, record) // before a key pair is generated
	if err != nil {
		return nil, err
	}
	defer room.release()
	s := spec.Of(record.Spec)
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	materials := options.Materials
	if len(materials) == 0 && record.Origin != originExternal {
		materials = [][]byte{nil}
	}
	record.Materials, record.OnDemandRotations = nil, max(0, len(materials)-1)
	if record.MultiRegion {
		record.Shared = &Shared{Primary: ref.Region, Keys: []RelatedKey{{Region: ref.Region}}}
	}
	for i, bytes := range materials {
		m, put, err := db.newMaterial(ref, record, s.Usage(record.Usage), bytes)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			m.Rotated, m.RotationType = new(record.Created), rotationOnDemand
		}
		if i == len(materials)-1 {
			m.ValidTo, m.Description = options.ValidTo, options.MaterialDescription
		}
		tx.Puts = append(tx.Puts, put)
		record.Materials = append(record.Materials, m)
	}
	if options.Alias != (AliasRef{}) {
		options.Alias.bind(&tx, ref, record.Created)
		defer db.aliases.invalidate(options.Alias.cacheKey())
	}
	if record.Shared != nil {
		tx.Expect = append(tx.Expect, keystore.Expectation{Key: ref.sharedName()})
	}
	if options.store != nil {
		options.store.inStore(&tx, ref, record)
	}
	k, err := db.commitNew(ctx, room, record, tx)
	if err != nil {
		return nil, err
	}
	k.Store = options.store
	return k, nil
}

// commitNew stores record as a new key together with what else is in tx, and counts it.
func (db *DB) commitNew(ctx context.Context, room *reservation, record *Record, tx keystore.Tx) (*Key, error) {
	k, err := newKey(room.ref, record, 0, nil, record.Created)
	if err != nil {
		return nil, err
	}
	k.lastUse = new(lastUse)
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: k.recordName()})
	tx.Puts = append(tx.Puts, keystore.Put{Key: k.recordName(), Value: encodeRecord(record.own())})
	if record.Shared != nil {
		tx.Puts = append(tx.Puts, keystore.Put{Key: k.sharedName(), Value: encodeRecord(record.shared())})
	}
	for _, name := range k.dueNames(record) {
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: index})
	}
	if k.revision, err = room.commit(ctx, tx); err != nil {
		return nil, err
	}
	if record.Shared != nil {
		k.sharedRevision = k.revision
	}
	return k, nil
}

// Update stores what change makes of k's record, and returns the new snapshot.
func (db *DB) Update(ctx context.Context, k *Key, change func(*Record)) (*Key, error) {
	record := k.Record.clone()
	change(record)
	return db.commit(ctx, k, record, keystore.Tx{})
}

// commit stores record as the next state of k, together with what else is in tx.
func (db *DB) commit(ctx context.Context, k *Key, record *Record, tx keystore.Tx) (*Key, error) {
	tx.Expect = append(tx.Expect, k.expectations()...)
	tx.Puts = append(tx.Puts, keystore.Put{Key: k.recordName(), Value: encodeRecord(record.own())})
	k.reschedule(&tx, record)
	record = record.synchronized(k.Region)
	put := k.sharedChange(record)
	if put != nil {
		tx.Puts = append(tx.Puts, *put)
	}
	next, err := newKey(k.Ref, record, 0, k, db.config.Clock())
	if err != nil {
		return nil, err
	}
	next.revision, err = db.store.Commit(ctx, tx)
	if err = db.acceptUnscrubbed(err); err != nil {
		db.invalidate(k) // the commit may have taken effect
		return nil, err
	}
	next.sharedRevision = k.sharedRevision
	if put != nil {
		next.sharedRevision = next.revision
	}
	db.keys.replace(k.cacheKey(), k, next)
	return next, nil
}

// invalidate removes k from the cache, and what is older; of a multi-Region key the related keys,
// too.
func (db *DB) invalidate(k *Key) {
	db.keys.invalidateIf(k.cacheKey(), func(cached *Key) bool { return cached.revision <= k.revision })
	if k.Record.Shared != nil {
		db.invalidateRelated(k.Ref, k.sharedRevision+1)
	}
}

// RequireCurrent returns ErrConflict if k is not the latest state of its key: another process may
// have changed it a moment ago. It is for answers that must not depend on an older state, such as
// that there is nothing to change.
func (db *DB) RequireCurrent(ctx context.Context, k *Key) error {
	for _, e := range k.expectations() {
		r, err := db.store.Get(ctx, e.Key)
		if err == nil && r.Revision == e.Revision {
			continue
		}
		db.invalidate(k)
		if err == nil || errors.Is(err, keystore.ErrNotFound) {
			return ErrConflict
		}
		return err
	}
	return nil
}

// maxAttempts bounds how often Retry calls its function. Of the changes that race for one record,
// one wins each time.
const maxAttempts = 1000

// retryQueues is how many queues there are for retries. Keys share them.
const retryQueues = 64

// Retry calls f until it returns another error than ErrConflict, or none. The changes of one key
// that lost a race are tried again one after the other, in the order in which they lost. Of races
// with other keys that share the queue, and with other processes, it waits out some time, on
// average longer after each call. key returns the key that f changes, once f has been called.
func (db *DB) Retry(ctx context.Context, key func() *Key, f func() error) error {
	err := f()
	if err == nil || !errors.Is(err, ErrConflict) {
		return err
	}
	var ref Ref
	if k := key(); k != nil {
		ref = k.Ref
	}
	p := ref.cacheKey()
	queue := db.queues[p.hashID()%retryQueues]
	patience := time.NewTimer(maxQueueWait)
	defer patience.Stop()
	select {
	case queue <- struct{}{}:
		defer func() { <-queue }()
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return retry(ctx, f)
}

// maxQueueWait bounds how long a change waits for its turn: the one whose turn it is may wait for
// this one, by way of an audit sink that calls the service.
const maxQueueWait = 2 * time.Second

func retry(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if !errors.Is(err, ErrConflict) || attempt == maxAttempts {
			return err
		}
		if err := sleep(ctx, rand.N(min(50*time.Microsecond<<min(attempt, 10), 20*time.Millisecond))); err != nil {
			return err
		}
	}
}

// sleep returns after d, or earlier with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
