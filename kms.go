// Package kms is an embeddable key management service: the AWS KMS API as
// methods of a [Service] that lives in the program's own process.
//
// [Open] keeps keys in one file, sealed under a passphrase, a key file or
// another KMS; [New] keeps them in memory, or in any [keystore.Backend].
// Operations, their members and their errors have the API's own names, so that
// its documentation applies. A nil input is an empty one; an optional number is
// a pointer, so write new(int32(7)). The tags of inputs hold the API's
// constraints, which are all checked at once before anything else.
//
// Code that asks for another Region or acts for another principal gets a view:
// see [Service.In] and [Service.As]. Key policies are stored but not evaluated
// yet: the root of the account that owns a key may do everything with it, and
// everybody else is refused with [AccessDeniedException].
//
// Of the API's key specs, SYMMETRIC_DEFAULT, the four of HMAC and, for
// signatures, ECC_NIST_P256, P384 and P521 can be made. Others are refused with
// [UnsupportedOperationException], as are imported key material and a
// Recipient. There are no grants yet: every grant token is refused with
// [InvalidGrantTokenException].
package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

// A Config says how a Service works. Its zero value is a service in memory, for
// account 111122223333 in Region us-east-1.
type Config struct {
	// Account is the 12 digits of the default account; absent means
	// 111122223333. Unless [Service.As] says otherwise, its root makes all calls.
	Account string
	// Region is the default Region; absent means us-east-1.
	Region string
	// Partition is the first part of all ARNs; absent means aws.
	Partition string

	// Backend keeps the records; nil means memory. The Service that New returns
	// closes it; if New fails, it is still the caller's to close.
	Backend keystore.Backend
	// RootKey seals the Backend. It may be nil only with a nil Backend: then a
	// random one is used.
	RootKey keystore.RootKey

	// Clock is the only source of time; nil means the system's. It must not run
	// backwards, and may be called concurrently. It decides when keys are
	// deleted for good: a clock set far ahead deletes early.
	Clock func() time.Time

	// Audit receives one event for each call, and one for each rotation and
	// deletion that is carried out; nil means none. A call whose event it
	// refuses fails and gives no output. A change that such a call had made
	// stays: the next one sees it. The event of a rotation or deletion is kept
	// in the store until it is taken, and may be repeated after a failure.
	Audit audit.Sink
	// AuditBestEffort lets calls succeed whose event the Audit sink refused.
	AuditBestEffort bool

	// Intercept stands between callers and every operation; nil means nothing
	// does. Package kmstest makes faults with it.
	Intercept Interceptor

	// Logger hears of what no caller can be told: defects, and failures of
	// work in the background. It never gets a secret. Nil means slog.Default().
	Logger *slog.Logger
}

// An Interceptor runs around every operation. It calls next, at most once, and
// returns its result, or it returns a result of its own: an output of the
// operation's type, or an error. The context that it gives to next is that of
// the rest of the call: of the key store, the root key and the audit sink. An
// error other than an [Error], a context's, [ErrClosed] or kmstest.ErrConnection
// reaches the caller as a KMSInternalException. next must not be called after
// the interceptor has returned.
type Interceptor func(ctx context.Context, call Call, next func(context.Context) (any, error)) (any, error)

// A Call is what an [Interceptor] sees of a call. It may get more fields.
type Call struct {
	Service   *Service  // the view that the call was made on
	Operation Operation // the operation
	Input     any       // a pointer to the operation's input, never nil; not to be changed or kept
}

// A Service is a KMS of many accounts and Regions, seen by one caller in one
// Region. Its methods may be called concurrently. Inputs are neither changed nor
// kept, and outputs are the caller's own.
type Service struct {
	*core
	caller Principal
	region string
	astray bool // region is no Region's name: every call is refused

	identity *audit.UserIdentity // the caller's, for events; nil without a sink
}

// core is what all views of a service share.
type core struct {
	config  Config
	store   *keystore.Store
	keys    *cache[key]
	aliases *cache[aliasEntry]

	prefixes [2][8]byte // of the identifiers of calls and of events

	delivering, delivered sync.Map // names of records of events that are on their way to the sink, and that it has
	eventCount            atomic.Uint64

	unrecorded, undelivered, unrotated atomic.Int64 // when each was last logged: see logRarely

	closed  atomic.Bool
	cancel  context.CancelFunc
	workers sync.WaitGroup

	usesMu sync.Mutex
	uses   map[keyRef]*lastUse // not yet in the store
}

// New returns a Service as config says. Close it when done. If New fails, the
// Backend of config, if there is one, is the caller's to close.
func New(config Config) (*Service, error) {
	if config.Account == "" {
		config.Account = "111122223333"
	}
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.Partition == "" {
		config.Partition = "aws"
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	switch {
	case !isAccount(config.Account):
		return nil, fmt.Errorf("kms: the account %.20q is not 12 digits", config.Account)
	case !isName(config.Region):
		return nil, fmt.Errorf("kms: %.40q is not the name of a Region", config.Region)
	case !isName(config.Partition):
		return nil, fmt.Errorf("kms: %.40q is not the name of a partition", config.Partition)
	case config.Backend != nil && config.RootKey == nil:
		return nil, errors.New("kms: a Backend needs a RootKey")
	}
	if config.Backend == nil {
		config.Backend = memory.New()
		if config.RootKey == nil {
			config.RootKey = keystore.Ephemeral()
		}
	}
	store, err := keystore.Open(context.Background(), config.Backend, config.RootKey)
	if err != nil {
		return nil, fmt.Errorf("kms: cannot open the key store: %w", err)
	}
	revision, err := store.Commit(context.Background(), keystore.Tx{}) // writes nothing: asks for the current one
	if err != nil {
		return nil, fmt.Errorf("kms: cannot read the key store: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &core{
		config:  config,
		store:   store,
		keys:    newCache[key](true),
		aliases: newCache[aliasEntry](false),
		cancel:  cancel,
		uses:    map[keyRef]*lastUse{},
	}
	for i := range c.prefixes {
		rand.Read(c.prefixes[i][:])
	}
	c.workers.Go(func() { c.watch(ctx, revision) })
	c.workers.Go(func() { c.sweep(ctx) })
	root := rootOf(config.Partition, config.Account)
	return &Service{core: c, caller: root, region: config.Region, identity: c.identityOf(root)}, nil
}

// Open returns a Service that keeps its keys in the file at path, sealed under
// root. It creates the file if it does not exist. Only one process at a time can
// open a file. config holds all other settings; its Backend and RootKey must be
// nil. A first Open that fails may leave a file without a store, which the next
// Open fills.
//
// Its errors are those of package keystore: among them [keystore.ErrRootKey],
// [keystore.ErrLocked] and [keystore.ErrCorrupt].
func Open(path string, root keystore.RootKey, config Config) (*Service, error) {
	switch {
	case root == nil:
		return nil, errors.New("kms: Open needs a root key")
	case config.Backend != nil || config.RootKey != nil:
		return nil, errors.New("kms: Open takes no Backend and no RootKey in its Config: they are its first two arguments, or use New")
	}
	backend, err := bolt.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kms: cannot open the key store: %w", err)
	}
	config.Backend, config.RootKey = backend, root
	s, err := New(config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%s)", err, path), backend.Close())
	}
	return s, nil
}

// In returns a view of the same service in another Region, where other keys
// and aliases live. Any name of a Region's form is one; calls through a view of
// something else fail with ValidationException.
func (s *Service) In(region string) *Service {
	return &Service{core: s.core, caller: s.caller, region: region, astray: !isName(region), identity: s.identity}
}

// As returns a view of the same service through which p makes the calls. Key
// IDs and alias names then mean p's account. A principal of another partition
// than the service's is nobody here.
func (s *Service) As(p Principal) *Service {
	if !strings.HasPrefix(p.arn, "arn:"+s.config.Partition+":") {
		p.kind = principalNobody
	}
	return &Service{core: s.core, caller: p, region: s.region, astray: s.astray, identity: s.identityOf(p)}
}

// Region returns the Region that calls through this view go to.
func (s *Service) Region() string { return s.region }

// Caller returns the principal that makes the calls through this view.
func (s *Service) Caller() Principal { return s.caller }

// Logger returns the Logger of the service's Config, for what serves it.
func (s *Service) Logger() *slog.Logger { return s.config.Logger }

// Flush stores what the service keeps in memory only: when keys were last used.
// It is done once a minute and by Close; call it before copying the store.
func (s *Service) Flush(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.storeUses(ctx)
}

// Close ends the service for all its views, once it has stored when keys were
// last used, and closes the Backend. Calls that are under way may fail with
// [ErrClosed], as all later ones do; so does a second Close.
func (s *Service) Close() error {
	if s.closed.Swap(true) {
		return ErrClosed
	}
	s.cancel()
	s.workers.Wait()
	err := s.storeUses(context.Background())
	return errors.Join(err, s.store.Close())
}

// ready tells whether a call can begin.
func (s *Service) ready(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// watch forgets what other processes have changed. What this one changes is
// replaced by the commit itself.
func (c *core) watch(ctx context.Context, after keystore.Revision) {
	for failures := 0; ; {
		followed := after
		err := c.contain("watch", func() error { return c.follow(ctx, &after) })
		if errors.Is(err, keystore.ErrClosed) || ctx.Err() != nil {
			return
		}
		if after > followed || errors.Is(err, keystore.ErrCompacted) {
			failures = 0
		} else {
			c.config.Logger.Warn("kms: the store cannot be watched", "error", err)
			failures++
		}
		// Some changes may have been missed: from here on, none.
		err = c.contain("watch", func() error {
			current, err := c.store.Commit(ctx, keystore.Tx{})
			after = max(after, current)
			return err
		})
		if err != nil {
			failures++
		}
		c.keys.clear()
		c.aliases.clear()
		if sleep(ctx, min(20*time.Millisecond<<min(failures, 20), maxWatchDelay)) != nil {
			return
		}
	}
}

// maxWatchDelay bounds how long changes of other processes go unnoticed after
// the store has come back.
const maxWatchDelay = 30 * time.Second

// contain turns a panic into an error: the clock, the audit sink and the Backend
// are not ours, and nobody could recover from a panic in the background.
func (c *core) contain(work string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic(work, p)
			err = fmt.Errorf("a panic in %s", work)
		}
	}()
	return do()
}

func (c *core) follow(ctx context.Context, after *keystore.Revision) error {
	for event, err := range c.store.Watch(ctx, *after) {
		if err != nil {
			return err
		}
		*after = event.Revision - 1 // the commit may have more events
		if ref, ok := parseKeyName(event.Key); ok {
			c.keys.dropIf(ref.place(), func(k *key) bool { return k.revision < event.Revision })
		} else if ref, ok := parseAliasName(event.Key); ok {
			c.aliases.dropIf(ref.place(), func(a *aliasEntry) bool { return a.revision < event.Revision })
		}
	}
	return ctx.Err()
}

const sweepInterval = time.Minute

// sweep destroys keys whose time has come although nobody looks at them, stores
// last uses, and delivers events that the audit sink has refused. Nothing waits
// for it: a key that is looked at is settled then.
func (c *core) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		err := c.contain("sweep", func() error { return errors.Join(c.destroyDue(ctx), c.storeUses(ctx), c.deliverStored(ctx)) })
		if err != nil && ctx.Err() == nil {
			c.config.Logger.Warn("kms: work in the background failed and will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
