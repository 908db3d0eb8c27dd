// Package kms is an embeddable key management service: the AWS KMS API as methods of a [Service]
// that runs in the program's own process.
//
// Most programs call [Open], which keeps keys in a local file, and then [Service.EnsureKey], which
// returns the key of an alias and creates it the first time:
//
//	svc, err := kms.Open("my.keys", keystore.Passphrase(passphrase), kms.Config{})
//	key, err := svc.EnsureKey(ctx, "alias/invoices", nil)
//	out, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: secret})
//
// [New] keeps keys in memory or in any [keystore.Backend]. Tests use package kmstest, and code that
// takes a client of the AWS SDK gets one from package awsclient.
//
// # Which operation to use
//
// [Service.Encrypt] encrypts up to 4,096 bytes, such as a password or a token. For anything larger
// use [Service.GenerateDataKey]: encrypt the data with the data key, store the encrypted data key
// beside it, and let [Service.Decrypt] return the data key later. Pass Decrypt the KeyId that you
// expect, and use an encryption context to say what a ciphertext is for.
//
// [Service.GenerateMac] authenticates data for programs that can call the same key. [Service.Sign]
// signs it for everyone who has the public key, and [Service.Decrypt] opens what anyone encrypts
// with the public key of an RSA or SM2 key. [Service.DeriveSharedSecret] and [Service.Decapsulate]
// agree on a secret with somebody who has only the public key.
//
// Code that takes a crypto.Signer, a crypto.Decrypter or a tink.AEAD, such as a library for
// certificates, TLS, tokens or keysets, gets one from [Service.Signer], [Service.Decrypter] or
// [Service.AEAD].
//
// # When not to use this package
//
// Key material is in the memory of the process: if keys must not be where the program is, use an
// HSM or AWS KMS itself. [Service.As] and [Service.In] separate accounts and Regions, but not
// mutually distrusting code, which could call them, too. Only one process at a time can open a
// file. Nothing is validated by FIPS 140. Ciphertexts have a format of their own, which AWS KMS
// cannot decrypt.
//
// A program that needs one key, and no rotation, aliases or audit trail, is simpler with Tink.
// Files for people are better encrypted with age. Passwords that are only checked should be hashed.
//
// # The API
//
// Operations, their members and their errors have the API's names, so its documentation applies. A
// nil input is an empty one. An optional number is a pointer: write new(int32(7)). The tags of
// inputs are the API's constraints; the error for an input that violates some names all of them.
// Errors of operations are [*Error], except [ErrClosed] and those of the context.
//
// All 56 operations of the API exist, for all key specs and usages. A Recipient is refused with
// [UnsupportedOperationException]. The keys of custom key stores are in the devices of
// Config.Devices.
//
// # Authorization
//
// Each call is allowed or refused as in AWS KMS: by the policy of the key, the policies of the
// caller, and the grants of the key. The root of an account needs none of its own. Any other
// principal has those of its [Identity]:
//
//	alice, err := kms.ParsePrincipal("arn:aws:iam::111122223333:user/alice")
//	alice, err = alice.WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: policy}}})
//	_, err = svc.As(alice).Encrypt(ctx, in)
//
// or Config.Identities supplies them. A refusal is an [AccessDeniedException]. What conditions say of
// the request itself, such as its source address, package audit takes from the context: see
// [audit.ContextWithRequestInfo].
//
// # Compatibility
//
// There is no release yet, and until then names and formats may change. From the first release on,
// a newer version opens every store and decrypts every ciphertext of an older one. Structs may gain
// fields and enumerations values, and error messages may change: compare errors with errors.Is and
// an [ErrorCode].
package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/loglimit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

// A Config configures a Service. Its zero value is a service in memory, for account 111122223333 in
// Region us-east-1.
type Config struct {
	// Account is the default account, 12 digits. Its root makes all calls except those through a view
	// of [Service.As]. Empty means that of the store, and 111122223333 for a new one.
	Account string
	// Region is the default Region. The partition of ARNs follows from their Region: that of
	// us-gov-west-1 is aws-us-gov. Empty means that of the store, and us-east-1 for a new one.
	Region string
	// AllowOtherDefaults lets Account and Region differ from those that the store was created with.
	// Otherwise New and Open fail with [ErrOtherDefaults], because a service that is started with a
	// wrong Region finds none of its keys, and may create new ones instead. The store keeps those
	// that it was created with.
	AllowOtherDefaults bool

	// Backend stores the records; nil means memory. Close closes it. If New fails, the caller must.
	Backend keystore.Backend
	// RootKey seals the Backend. If Backend is nil, it may be nil, which means a random one.
	RootKey keystore.RootKey
	// MustExist makes New and Open fail with [keystore.ErrNoStore] instead of creating a store: a
	// service that has lost its file must not start with new keys.
	MustExist bool

	// Devices hold the keys of custom key stores: HSMs by the ID of the CloudHSM cluster that they
	// stand for, and external key managers by the URI of their proxy, which is XksProxyUriEndpoint and
	// XksProxyUriPath joined ("https://hsm.example.com/kms/xks/v1"). A cluster or a proxy that is not
	// among them does not exist. Close does not close them. With the zero value, custom key stores
	// can be read and disconnected, but not used. Package kmstest has a device for tests.
	Devices map[string]keystore.Device

	// Clock returns the current time; nil means time.Now. It may be called concurrently. It decides
	// when keys and imported material are deleted, which cannot be undone: a clock that is far ahead
	// deletes them early. If it is set back, rotations and deletions wait longer, and past ones are
	// not undone.
	Clock func() time.Time

	// ReplicationDelay is how long, by Clock, a new replica of a multi-Region key is in
	// KeyStateCreating, and both keys are in KeyStateUpdating after UpdatePrimaryRegion. Zero means
	// [DefaultReplicationDelay]; if it is negative, keys are never in these states.
	ReplicationDelay time.Duration

	// Audit receives one event for each call, and for each rotation, deletion and expiry of imported
	// material that is carried out; nil means no audit trail. If it returns an error for the event of
	// a call, the call fails and returns no output, but a change that the call has made stays. The
	// other events stay in the store until Audit has taken them, and may be delivered again after a
	// failure, with the same event ID.
	Audit audit.Sink
	// AuditBestEffort lets calls succeed even if Audit returns an error.
	AuditBestEffort bool

	// Identities supplies what belongs to the principals that carry no [Identity] of their own; nil
	// means that nothing does. It returns p as [Principal.WithIdentity] returned it, or p itself, and
	// is called once for each call that needs to know: it must be fast, and return the same Principal
	// while nothing has changed. If it returns an error, the call fails.
	Identities func(ctx context.Context, p Principal) (Principal, error)
	// PrincipalExists reports whether a principal exists that a key policy or a grant names: by an
	// ARN, the number of an account, or a unique ID. Nil means that the form of the name is enough.
	PrincipalExists func(ctx context.Context, name string) (bool, error)
	// Authorization says whether calls that are not allowed are refused. The zero value refuses them.
	Authorization AuthorizationMode

	// Limits are the resource quotas; its zero value is AWS's defaults.
	Limits Limits

	// RequestQuotas makes the service refuse calls with [ThrottlingException] that exceed the default
	// request quotas of AWS KMS, which are calls per second of an account in a Region. After a time
	// without calls, as many as in one second can be made at once. The Clock decides.
	RequestQuotas bool

	// PregeneratedRSAKeys is how many RSA key pairs of each size, 2,048, 3,072 and 4,096 bits, are
	// generated ahead and kept in memory; at most 100, and 0 means none. CreateKey,
	// GenerateDataKeyPair and GetParametersForImport take a pair, which is replaced in the
	// background, instead of generating one for up to seconds; if all are taken, they generate
	// their own. Close erases those that are left, and waits up to seconds for the one that is
	// being generated.
	PregeneratedRSAKeys int

	// KeyEvents receives the events that AWS KMS sends to EventBridge: when a key has been rotated,
	// imported key material has expired, or a key has been deleted. Nil means none. An event stays
	// in the store until KeyEvents has returned nil for it, and may be delivered again, with the same
	// ID. It is called concurrently, and must not call Close. Calls that rotate a key wait for it.
	KeyEvents func(context.Context, *audit.KeyEvent) error

	// Intercept runs around every operation; nil means none. Package kmstest injects faults with
	// it.
	Intercept Interceptor

	// Logger receives errors that cannot be returned to a caller: panics and failures of background
	// work. It receives no secrets. Nil means slog.Default().
	Logger *slog.Logger
}

// An AuthorizationMode says what becomes of calls that are not allowed.
type AuthorizationMode int8

const (
	// Enforce refuses them.
	Enforce AuthorizationMode = iota
	// Observe lets them pass, and records the refusal that they would have got: in the audit event,
	// as the observedRefusal of the additional data, and in the log, once a minute at most. It is for
	// finding out what a new policy would refuse, and protects nothing. Calls without a principal, and
	// those of an operation on a key of another account that only the owner can call, are refused all
	// the same.
	Observe
)

// An Interceptor runs around every operation. It calls next at most once and returns its result, or
// returns a result of its own: an output of the operation's type, or an error. The context that it
// passes to next is used by the rest of the call: by the key store, the root key and the audit
// sink. An error other than an [*Error], a context error, [ErrClosed] or kmstest.ErrConnection
// reaches the caller as a KMSInternalException. An interceptor must not call next after it has
// returned.
type Interceptor func(ctx context.Context, call Call, next func(context.Context) (any, error)) (any, error)

// A Call describes a call to an [Interceptor]. Later versions may add fields.
type Call struct {
	Service   *Service  // the view that the call was made on
	Operation Operation // the operation
	Input     any       // a pointer to the operation's input, never nil; do not change or keep it
	Outcome   *Outcome  // what next has found out; zero until it returns
}

// A Service is a KMS with any number of accounts and Regions, as one caller sees it in one Region.
// Its methods may be called concurrently. They neither change nor keep their inputs, and their
// outputs belong to the caller.
type Service struct {
	core      *core
	as        *Principal // given to As; nil means the root of the default account
	caller    Principal  // as, in the partition of region
	region    string
	badRegion bool // region does not have the form of a Region's name: every call is refused

	identity *audit.UserIdentity      // the caller's, for audit events; nil without a sink
	bare     atomic.Pointer[identity] // of a caller that carries none; nil until it is needed
}

// A core is shared by all views of a service.
type core struct {
	config     Config
	db         *keydb.DB
	throttle   *throttle // nil without request quotas
	idPrefixes [2]uint64 // of the identifiers of requests and of events
	lendEvents bool      // the sink only borrows events
	unrecorded loglimit.Limiter
	observed   loglimit.Limiter // refusals that Observe lets pass
	closed     atomic.Bool
}

const maxPregeneratedRSAKeys = 100

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
	if c.ReplicationDelay == 0 {
		c.ReplicationDelay = DefaultReplicationDelay
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func (c *Config) keydb() keydb.Config {
	return keydb.Config{
		Clock:               c.Clock,
		Sink:                c.Audit,
		KeyEvents:           c.KeyEvents,
		Logger:              c.Logger,
		PregeneratedRSAKeys: c.PregeneratedRSAKeys,
		MaxKeys:             c.Limits.KeysPerRegion,
		Devices:             c.Devices,
	}
}

// checkDevices returns an error if a device cannot be that of a custom key store.
func (c *Config) checkDevices() error {
	for name, d := range c.Devices {
		var ok bool
		if strings.HasPrefix(name, "https://") {
			_, ok = d.(keystore.ExternalKeyManager)
		} else if strings.HasPrefix(name, "cluster-") {
			_, ok = d.(keystore.HSM)
		}
		if !ok {
			return fmt.Errorf("kms: the device %.300q is neither a keystore.HSM named cluster-x nor a keystore.ExternalKeyManager named https://x", name)
		}
	}
	return nil
}

// New returns a Service with the given configuration. The caller must close it. If New fails, it
// does not close the Backend of config. New logs the creation of a store, except in memory.
func New(config Config) (*Service, error) {
	given := keydb.Defaults{Account: config.Account, Region: config.Region}
	config.setDefaults()
	if err := config.Limits.setDefaults(); err != nil {
		return nil, err
	}
	switch {
	case !arn.IsAccount(config.Account):
		return nil, fmt.Errorf("kms: the account %.20q is not 12 digits", config.Account)
	case !arn.IsRegion(config.Region):
		return nil, fmt.Errorf("kms: %.40q is not the name of a Region", config.Region)
	case config.PregeneratedRSAKeys < 0 || config.PregeneratedRSAKeys > maxPregeneratedRSAKeys:
		return nil, fmt.Errorf("kms: PregeneratedRSAKeys is %d, not 0 to %d", config.PregeneratedRSAKeys, maxPregeneratedRSAKeys)
	case config.Backend != nil && config.RootKey == nil:
		return nil, errors.New("kms: a Backend needs a RootKey")
	}
	if err := config.checkDevices(); err != nil {
		return nil, err
	}
	if config.Backend == nil {
		config.Backend = memory.New()
		if config.RootKey == nil {
			config.RootKey = keystore.Ephemeral()
		}
	}
	open := keystore.Open
	if config.MustExist {
		open = keystore.OpenExisting
	}
	store, err := open(context.Background(), config.Backend, config.RootKey)
	if err != nil {
		return nil, fmt.Errorf("kms: cannot open the key store: %w", err)
	}
	if err := config.agree(store, given); err != nil {
		return nil, err
	}
	db, err := keydb.Open(context.Background(), store, config.keydb())
	if err != nil {
		return nil, fmt.Errorf("kms: cannot read the key store: %w", err)
	}
	c := &core{config: config, db: db}
	if config.RequestQuotas {
		c.throttle = new(throttle)
	}
	if sink, ok := config.Audit.(audit.Borrower); ok {
		c.lendEvents = sink.BorrowsEvents()
	}
	for i := range c.idPrefixes {
		c.idPrefixes[i] = rand.Uint64()
	}
	return c.view(nil, config.Region), nil
}

// agree sets the account and Region to those of the store, unless they were given. A store without
// them keeps them from now on, if it outlives the process.
func (c *Config) agree(store *keystore.Store, given keydb.Defaults) error {
	kept, err := keydb.ReadDefaults(context.Background(), store)
	if volatile, ok := c.Backend.(keystore.Volatile); err == nil && kept == nil && (!ok || !volatile.Volatile()) {
		if store.Created() {
			c.Logger.Info("kms: created a new key store", "account", c.Account, "region", c.Region)
		}
		kept, err = keydb.KeepDefaults(context.Background(), store, keydb.Defaults{Account: c.Account, Region: c.Region})
	}
	if err != nil {
		return fmt.Errorf("kms: cannot read the key store: %w", err)
	}
	if kept == nil {
		return nil
	}
	if given.Account == "" {
		c.Account = kept.Account
	}
	if given.Region == "" {
		c.Region = kept.Region
	}
	if !c.AllowOtherDefaults && (c.Account != kept.Account || c.Region != kept.Region) {
		return fmt.Errorf("%w: it was created for account %s in %s, not %s in %s",
			ErrOtherDefaults, kept.Account, kept.Region, c.Account, c.Region)
	}
	return nil
}

// CheckStore is like [Service.Check], for a key store that no Service has open. config must have a
// Backend and a RootKey. CheckStore does not close the Backend.
func CheckStore(ctx context.Context, config Config, progress func(records int)) iter.Seq[error] {
	if config.Backend == nil || config.RootKey == nil {
		return slices.Values([]error{errors.New("kms: CheckStore needs a Backend and a RootKey")})
	}
	config.setDefaults()
	store, err := keystore.OpenExisting(ctx, config.Backend, config.RootKey)
	if err != nil {
		return slices.Values([]error{fmt.Errorf("kms: cannot open the key store: %w", err)})
	}
	return keydb.CheckStore(ctx, store, config.keydb(), progress)
}

// view returns a view of a Region in which the principal as makes the calls. If as is nil, the root
// of the default account does.
func (c *core) view(as *Principal, region string) *Service {
	s := &Service{core: c, as: as, region: region, badRegion: !arn.IsRegion(region)}
	partition := arn.Partition(region)
	if as == nil {
		s.caller = rootOf(partition, c.config.Account)
	} else if s.caller = *as; !as.inPartition(partition) {
		s.caller.kind, s.caller.identity = iam.Anonymous, nil
	}
	s.identity = c.eventIdentity(s.caller)
	return s
}

// Open returns a Service that keeps its keys in the file at path, sealed under root. It creates the
// file if it does not exist. Only one process at a time can open a file. config holds all other
// settings; its Backend and RootKey must be nil. The caller must close the Service. A first Open
// that fails leaves no file.
//
// The errors of Open wrap those of package keystore: [keystore.ErrRootKey] for a wrong passphrase
// or key file, [keystore.ErrLocked] if another process has the file open, [keystore.ErrCorrupt] if
// it is damaged, and others.
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

// In returns a view of the same service in another Region, which has its own keys and aliases. Any
// name that has the form of a Region's name is accepted; with any other, calls through the view
// fail with ValidationException. The partition follows from the Region: that of cn-north-1 is
// aws-cn.
func (s *Service) In(region string) *Service {
	if s == nil || s.core == nil {
		return new(Service) // whose calls say so
	}
	return s.core.view(s.as, region)
}

// As returns a view of the same service with p as the caller. Key IDs and alias names are then
// those of p's account. A principal from another partition than the Region's is treated as
// anonymous: every call is denied.
func (s *Service) As(p Principal) *Service {
	if s == nil || s.core == nil {
		return new(Service)
	}
	return s.core.view(&p, s.region)
}

// Region returns the Region of this view.
func (s *Service) Region() string { return s.region }

// Caller returns the principal that makes the calls of this view.
func (s *Service) Caller() Principal { return s.caller }

// Flush stores what the service keeps only in memory: when keys were last used. The service does
// the same once a minute and in Close. Call it before you copy the store.
func (s *Service) Flush(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.core.db.Flush(ctx)
}

// Backup writes a backup of the store to w, while the service is in use: the state of one moment,
// with the last uses of keys. Records stay sealed, under the same root key, and calls do not wait
// for w. Restore it with [keystore.Restore] into an empty Backend, or with kms restore into a file,
// and check it with [CheckStore]. If Backup returns an error, what it has written is of no use.
func (s *Service) Backup(ctx context.Context, w io.Writer) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.core.db.Backup(ctx, w)
}

// Ping returns nil if the key store can be used. A file that was removed or replaced while it was
// open cannot: from then on calls fail with [keystore.ErrReplaced], because changes to it would be
// lost.
func (s *Service) Ping(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.core.db.Ping(ctx)
}

// Check yields an error for every fault in the key store: for records that are damaged or missing,
// and for indexes that do not agree with them. It changes nothing and may run while the service is
// in use. If progress is not nil, Check calls it with the number of records checked so far.
func (s *Service) Check(ctx context.Context, progress func(records int)) iter.Seq[error] {
	if err := s.ready(ctx); err != nil {
		return slices.Values([]error{err})
	}
	return s.core.db.Check(ctx, progress)
}

// Close stores when keys were last used, ends the service for all its views, and closes the
// Backend. Calls in progress may fail with [ErrClosed]; later calls do. A second Close, of this or
// another view, does nothing and returns nil.
func (s *Service) Close() error {
	if s == nil || s.core == nil {
		return errNoService
	}
	if s.core.closed.Swap(true) {
		return nil
	}
	return s.core.db.Close()
}

var errNoService = errors.New("kms: the Service is nil, or was not made by New or Open")

// ready returns an error if no call can begin.
func (s *Service) ready(ctx context.Context) error {
	if s == nil || s.core == nil {
		return errNoService
	}
	if s.core.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
