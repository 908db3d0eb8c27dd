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
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/loglimit"
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
	// Region is the default Region; absent means us-east-1. The partition of all ARNs follows from it:
	// that of us-gov-west-1 is aws-us-gov.
	Region string

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

// A Service is a KMS of many accounts and Regions, seen by one caller in one Region. Its methods may
// be called concurrently. Inputs are neither changed nor kept, and outputs are the caller's own.
type Service struct {
	core      *core
	as        *Principal // as given to As; nil: the root of the default account
	caller    Principal  // who that is in the partition of region
	region    string
	badRegion bool // region is not the name of a Region: every call is refused
}

// core is what all views of a service share.
type core struct {
	config     Config
	db         *keydb.DB
	idPrefixes [2][8]byte // of the identifiers of requests and of events
	unrecorded loglimit.Limiter
	closed     atomic.Bool
}

func (c *Config) setDefaults() {
	if c.Account == "" {
		c.Account = "111122223333"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func (c *Config) keydb() keydb.Config {
	return keydb.Config{Clock: c.Clock, Sink: c.Audit, Logger: c.Logger}
}

// New returns a Service as config says. Close it when done. If New fails, the
// Backend of config, if there is one, is the caller's to close.
func New(config Config) (*Service, error) {
	config.setDefaults()
	switch {
	case !arn.IsAccount(config.Account):
		return nil, fmt.Errorf("kms: the account %.20q is not 12 digits", config.Account)
	case !arn.IsRegion(config.Region):
		return nil, fmt.Errorf("kms: %.40q is not the name of a Region", config.Region)
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
	db, err := keydb.Open(context.Background(), store, config.keydb())
	if err != nil {
		return nil, fmt.Errorf("kms: cannot read the key store: %w", err)
	}
	c := &core{config: config, db: db}
	for i := range c.idPrefixes {
		rand.Read(c.idPrefixes[i][:])
	}
	return c.view(nil, config.Region), nil
}

// CheckStore yields what is wrong with the records of a key store that no Service has open, as
// [Service.Check] does. It changes nothing. config must have a Backend and a RootKey; the Backend
// stays the caller's to close.
func CheckStore(ctx context.Context, config Config, progress func(records int)) iter.Seq[error] {
	if config.Backend == nil || config.RootKey == nil {
		return slices.Values([]error{errors.New("kms: CheckStore needs a Backend and a RootKey")})
	}
	config.setDefaults()
	store, err := keystore.Open(ctx, config.Backend, config.RootKey)
	if err != nil {
		return slices.Values([]error{fmt.Errorf("kms: cannot open the key store: %w", err)})
	}
	return keydb.CheckStore(ctx, store, config.keydb(), progress)
}

// view returns the view of a caller in a Region: of as, or if it is nil, of the root of the default
// account.
func (c *core) view(as *Principal, region string) *Service {
	s := &Service{core: c, as: as, region: region, badRegion: !arn.IsRegion(region)}
	partition := arn.Partition(region)
	if as == nil {
		s.caller = rootOf(partition, c.config.Account)
		return s
	}
	s.caller = *as
	if as.Partition() != partition {
		s.caller.kind = principalAnonymous
	}
	return s
}

// Open returns a Service that keeps its keys in the file at path, sealed under
// root. It creates the file if it does not exist. Only one process at a time can
// open a file. config holds all other settings; its Backend and RootKey must be
// nil. A first Open that fails leaves no file.
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

// In returns a view of the same service in another Region, where other keys and aliases live. Any
// name in the form of a Region's is one; calls through a view of something else fail with
// ValidationException. The partition follows from the Region: that of cn-north-1 is aws-cn.
func (s *Service) In(region string) *Service { return s.core.view(s.as, region) }

// As returns a view of the same service through which p makes the calls. Key IDs and alias names
// then mean p's account. A principal of another partition than the Region's is treated as anonymous:
// every call is denied.
func (s *Service) As(p Principal) *Service { return s.core.view(&p, s.region) }

// Region returns the Region that calls through this view go to.
func (s *Service) Region() string { return s.region }

// Caller returns the principal that makes the calls through this view.
func (s *Service) Caller() Principal { return s.caller }

// Logger returns the Logger of the service's Config, for what serves it.
func (s *Service) Logger() *slog.Logger { return s.core.config.Logger }

// Flush stores what the service keeps in memory only: when keys were last used. It is done once a
// minute and by Close; call it before copying the store.
func (s *Service) Flush(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.core.db.Flush(ctx)
}

// Check yields what is wrong with the records of the key store: records that are damaged or
// missing, and indexes that do not agree with them. It changes nothing, and may run while the
// service is in use. progress, if it is not nil, is called with the number of records checked so far.
func (s *Service) Check(ctx context.Context, progress func(records int)) iter.Seq[error] {
	if err := s.ready(ctx); err != nil {
		return slices.Values([]error{err})
	}
	return s.core.db.Check(ctx, progress)
}

// Close ends the service for all its views, once it has stored when keys were last used, and closes
// the Backend. Calls that are under way may fail with [ErrClosed], as all later ones do; so does a
// second Close.
func (s *Service) Close() error {
	if s.core.closed.Swap(true) {
		return ErrClosed
	}
	return s.core.db.Close()
}

// ready returns an error if a call cannot begin.
func (s *Service) ready(ctx context.Context) error {
	if s.core.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
