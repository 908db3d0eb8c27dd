package kms

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/internal/uuid"
	"github.com/pocketkms/kms/keystore"
)

// A description says all that sets one operation apart but what it does.
type description struct {
	name         string // the API's and the wire's: "Encrypt"
	permission   string // "kms:Encrypt"
	keys         identifierRule
	crossAccount bool         // may be called on another account's key
	states       stateRule    // the key states in which it works
	usage        KeyUsageType // that the key must have; empty for any
	readOnly     bool         // changes nothing, for the audit event
	tracked      bool         // is a use of its keys, for GetKeyLastUsage
}

// An identifierRule says what an operation takes for its KeyId.
type identifierRule int8

const (
	noKey       identifierRule = iota
	keyOnly                    // key ID or key ARN
	keyOrAlias                 // key ID, key ARN, alias name or alias ARN
	ownIdentify                // the operation's own function
)

// An operation is a description, with the types of its input and output and
// the functions that only it has.
type operation[In, Out any] struct {
	description
	in, out  *shape.Struct
	members  members[In]
	missing  func(*call, *In) []error // violations of the input's shape that tags cannot express; may be nil
	validate func(*In) error          // ValidationExceptions of other forms; may be nil
	identify func(*call, *In) error   // where KeyId is not all; with ownIdentify
	admit    func(*call, *In) error   // beyond key state and usage; may be nil
	logged   func(*In) *In            // the input as an audit event shows it, with its defaults; may be nil
	act      func(*call, *In) (*Out, error)
}

// members are those that mean the same in every input that has them.
type members[In any] struct {
	keyID       shape.Field[In, string]
	dryRun      shape.Field[In, bool]
	grantTokens shape.Field[In, []string]
	aliasName   shape.Field[In, string]
}

// define completes an operation's description from its types.
func define[In, Out any](op operation[In, Out]) *operation[In, Out] {
	op.in, op.out = shape.Of[In](), shape.Of[Out]()
	op.members = members[In]{
		keyID:       shape.FieldOf[In, string]("KeyId"),
		dryRun:      shape.FieldOf[In, bool]("DryRun"),
		grantTokens: shape.FieldOf[In, []string]("GrantTokens"),
		aliasName:   shape.FieldOf[In, string]("AliasName"),
	}
	if op.permission == "" {
		op.permission = "kms:" + op.name
	}
	return &op
}

// A call is one operation under way. It is reused for later ones: nothing may
// keep it, or its scratch, past the end of the operation.
type call struct {
	ctx context.Context
	*Service
	op       *description
	now      time.Time
	serial   uint64        // of the call, drawn when it is asked for: see uuid
	targets  [2]target     // the second is only ReEncrypt's destination and UpdateAlias's new key
	count    int           // of targets
	source   source        // of Decrypt and ReEncrypt
	blob     *blobHeader   // of the ciphertext that Decrypt and ReEncrypt were given; nil if there is none
	openedBy *material     // that decrypted, for the audit event
	sealedBy *material     // that encrypted, likewise
	signer   crypto.Signer // of Sign and Verify
	scratch  []byte
	builder  audit.Builder // of the event
}

// A target is a key that a call is about, with the permission that it takes.
type target struct {
	*key
	permission string
	ciphertext bool   // the key was named by a ciphertext alone
	sent       string // what a caller of another account named it by
}

var calls = sync.Pool{New: func() any { return new(call) }}

// do runs the operation on in.
func (op *operation[In, Out]) do(ctx context.Context, s *Service, in *In) (*Out, error) {
	return op.run(ctx, s, in, nil)
}

// run takes the seven steps that every call goes through. sent is in as it came
// over a wire, if it did.
func (op *operation[In, Out]) run(ctx context.Context, s *Service, in *In, sent *shape.Wire) (out *Out, err error) {
	if ctx == nil { // a mistake, which shall not end in a panic
		ctx = context.Background()
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if in == nil {
		in = new(In)
	}
	c := calls.Get().(*call)
	defer func() {
		if p := recover(); p != nil { // of the clock's or the sink's
			s.logPanic(op.name, p)
			if out != nil {
				op.out.Erase(out)
			}
			out, err = nil, wrapError(ctx, errPanic, op.name)
		}
		c.end()
	}()
	c.begin(ctx, s, &op.description) // may panic: the clock is not ours
	out, err = op.contain(c, in, sent)
	if s.config.Audit != nil {
		if failure := op.record(c, in, out, err); failure != nil && !s.mayGoUnrecorded(failure) {
			if out != nil {
				op.out.Erase(out)
			}
			out, err = nil, unrecordedError(failure)
		}
	}
	if err != nil {
		return nil, wrapError(ctx, err, op.name)
	}
	if op.tracked {
		c.recordUse()
	}
	return out, nil
}

// contain turns a panic in the operation into an error, which is recorded as
// any other.
func (op *operation[In, Out]) contain(c *call, in *In, sent *shape.Wire) (out *Out, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic(op.name, p)
			out, err = nil, errPanic
		}
	}()
	if c.config.Intercept == nil {
		return op.attempt(c, in, sent)
	}
	return op.intercept(c, in, sent)
}

// errPanic is all that a caller learns of a panic.
var errPanic = exception(KMSInternalException, "The request could not be completed.")

// intercept gives the interceptor the call to let go on, or not.
func (op *operation[In, Out]) intercept(c *call, in *In, sent *shape.Wire) (*Out, error) {
	ctx := c.ctx
	if sent != nil {
		ctx = testhook.WithWire(ctx, sent)
	}
	out, err := c.config.Intercept(ctx, Call{Service: c.Service, Operation: op, Input: in}, func(ctx context.Context) (any, error) {
		if ctx != nil {
			c.ctx = ctx
		}
		return op.attempt(c, in, sent)
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, untouched{err}
	}
	if err != nil {
		return nil, err
	}
	typed, ok := out.(*Out)
	if !ok || typed == nil {
		return nil, fmt.Errorf("the interceptor answered with a %T", out)
	}
	return typed, nil
}

// maxAttempts bounds how often a change that lost a race is tried anew. Of the
// changes that race, one wins each time.
const maxAttempts = 1000

// attempt takes the steps from validate to act, anew when another change to the
// same records came between.
func (op *operation[In, Out]) attempt(c *call, in *In, sent *shape.Wire) (*Out, error) {
	violations := op.check(in, sent)
	if op.missing != nil {
		violations = append(violations, op.missing(c, in)...)
	}
	if violations != nil {
		return nil, invalidShape(violations)
	}
	if op.validate != nil {
		if err := op.validate(in); err != nil {
			return nil, err
		}
	}
	if c.astray {
		return nil, invalid("%.40q is not the name of a Region.", c.region)
	}
	if c.caller.kind == principalNobody {
		return nil, denied(c.caller, op.permission, "*", noIdentityPolicy)
	}
	for tries := 1; ; tries++ {
		out, err := op.try(c, in)
		if err == nil {
			return out, nil
		}
		if errors.Is(err, crypto.ErrDestroyed) { // under this call: it is looked up again, and not found
			err = keystore.ErrConflict
		}
		if err := again(c.ctx, err, tries); err != nil {
			return nil, err
		}
	}
}

func (op *operation[In, Out]) check(in *In, sent *shape.Wire) []error {
	if sent != nil {
		return op.in.CheckWire(sent)
	}
	return op.in.Check(in)
}

func (op *operation[In, Out]) try(c *call, in *In) (*Out, error) {
	clear(c.targets[:c.count])
	c.count, c.blob = 0, nil
	var err error
	switch op.keys {
	case keyOnly, keyOrAlias:
		err = c.identify(op.members.keyID.Of(in), op.permission, op.keys == keyOrAlias)
	case ownIdentify:
		err = op.identify(c, in)
	}
	if err != nil {
		return nil, err
	}
	if err := c.authorize(); err != nil {
		return nil, err
	}
	if len(op.members.grantTokens.Of(in)) > 0 {
		return nil, exception(InvalidGrantTokenException, "The grant token is not valid.")
	}
	if err := c.admit(); err != nil {
		return nil, err
	}
	if op.admit != nil {
		if err := op.admit(c, in); err != nil {
			return nil, err
		}
	}
	if op.members.dryRun.Of(in) {
		return nil, exception(DryRunOperationException, "The request would have succeeded, but the DryRun option is set.")
	}
	return op.act(c, in)
}

// again returns nil if what ended in err, a lost race, is to be tried anew; a
// moment later, which is longer after each try, on average. Otherwise it returns
// what to end with.
func again(ctx context.Context, err error, tries int) error {
	if !errors.Is(err, keystore.ErrConflict) || tries == maxAttempts {
		return err
	}
	return sleep(ctx, rand.N(min(50*time.Microsecond<<min(tries, 10), 20*time.Millisecond)))
}

// sleep returns after d, or with the context's error.
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

func (c *call) begin(ctx context.Context, s *Service, op *description) {
	c.ctx, c.Service, c.op, c.now, c.serial = ctx, s, op, s.config.Clock(), 0
}

// requestID names the call, and eventID its audit event: UUIDs, made when they
// are asked for. They are identifiers, not secrets.
func (c *call) requestID() [16]byte {
	if id := audit.RequestInfoFromContext(c.ctx).ID; !id.IsZero() {
		return id
	}
	return c.uuid(callID)
}

func (c *call) eventID() [16]byte { return c.uuid(eventID) }

// The kinds of identifiers.
const (
	callID = iota
	eventID
)

func (c *call) uuid(kind int) [16]byte {
	for c.serial == 0 {
		c.serial = rand.Uint64()
	}
	return c.core.uuid(kind, c.serial)
}

// uuid returns an identifier of this process: random bits of its own in front,
// which differ by kind, and serial behind.
func (c *core) uuid(kind int, serial uint64) [16]byte {
	var id [16]byte
	copy(id[:8], c.prefixes[kind][:])
	binary.BigEndian.PutUint64(id[8:], serial)
	return uuid.Of(id)
}

// end gives the call back for reuse, with nothing of it but its scratch.
func (c *call) end() {
	*c = call{scratch: c.scratch}
	if cap(c.scratch) <= 4*maxContextBytes {
		calls.Put(c)
	}
}

// identify makes the key that the caller named the call's next target.
func (c *call) identify(sent, permission string, aliases bool) error {
	k, err := c.resolve(sent, permission, aliases)
	if err != nil {
		return err
	}
	t := target{key: k, permission: permission}
	if k.ref.account != c.caller.account {
		t.sent = sent
	}
	return c.addTarget(t)
}

// addTarget makes t the call's next target. A hidden key is refused at once to
// those who may not use it, before any other failure.
func (c *call) addTarget(t target) error {
	c.targets[c.count] = t
	c.count++
	if !t.hidden() {
		return nil
	}
	err := c.authorizeTarget(&t)
	if err != nil { // nor does the audit event tell of it
		c.count--
		c.targets[c.count] = target{}
	}
	return err
}

// hidden tells whether only those who may use the key shall learn that it exists.
func (t *target) hidden() bool { return t.sent != "" || t.ciphertext }

// key is the call's first key.
func (c *call) key() *key { return c.targets[0].key }

// resolve finds the key that sent names. To a caller of another account, a key
// that does not exist looks like one that they may not use.
func (c *call) resolve(sent, permission string, aliases bool) (*key, error) {
	if k := c.keys.get(place{c.caller.account, c.region, sent}); k != nil { // a bare key ID, as most often
		if k, err := c.settle(c.ctx, k, c.now); k != nil || err != nil {
			return k, err
		}
	}
	id, malformed := parseKeyIdentifier(sent, c.config.Partition)
	switch {
	case malformed != nil:
		return nil, malformed
	case id.alias != "" && !aliases:
		return nil, exception(NotFoundException, "Invalid keyId '%s'", sent)
	case id.account == "":
		id.account, id.region = c.caller.account, c.region
	case id.region != c.region:
		return nil, exception(NotFoundException, "Invalid arn %s", id.region)
	case id.account != c.caller.account && !c.op.crossAccount:
		return nil, denied(c.caller, permission, sent, noResourcePolicy)
	}
	k, err := c.find(id)
	if err != nil && id.account != c.caller.account {
		return nil, c.mask(err, denied(c.caller, permission, sent, noResourcePolicy))
	}
	return k, err
}

// find returns the key that id names, or a NotFoundException.
func (c *call) find(id keyIdentifier) (*key, error) {
	ref := keyRef{id.account, id.region, id.keyID}
	notFound := func() error { return keyNotFound(c.keyARN(ref)) }
	if id.alias != "" {
		alias := aliasRef{id.account, id.region, id.alias}
		notFound = func() error { return c.aliasNotFound(alias) }
		a, err := c.alias(c.ctx, alias)
		if err != nil {
			return nil, err
		}
		if a == nil {
			if k := c.prospectiveKey(alias); k != nil && id.account == c.caller.account {
				return k, nil
			}
			return nil, notFound()
		}
		ref.id = a.Key
	}
	k, err := c.lookup(c.ctx, ref, c.now)
	if k == nil && err == nil {
		err = notFound() // with an alias: it has just gone with its key
	}
	return k, err
}

// mask is what a caller of another account than the key's learns of a failure
// to find the key: a refusal as any other. The operator hears of it, if it is
// not just that there is no such key.
func (c *call) mask(err error, refusal *Error) error {
	if c.ctx.Err() != nil {
		return err
	}
	if _, ours := err.(*Error); !ours {
		c.config.Logger.Error("kms: a key of another account than the caller's cannot be read", "error", err)
	}
	return refusal
}

func (c *core) aliasNotFound(alias aliasRef) *Error {
	return exception(NotFoundException, "Alias %s is not found.", c.aliasARN(alias))
}

func keyNotFound(arn string) *Error {
	return exception(NotFoundException, "Key '%s' does not exist", arn)
}

// authorize refuses a call that its caller may not make.
func (c *call) authorize() error {
	if c.count == 0 {
		if d := decide(c.caller, c.op.permission, nil); !d.allowed {
			return denied(c.caller, c.op.permission, "*", d.reason)
		}
	}
	for i := range c.count {
		if t := &c.targets[i]; !t.hidden() { // or it has been authorized already
			if err := c.authorizeTarget(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *call) authorizeTarget(t *target) error {
	d := decide(c.caller, t.permission, t.key)
	switch {
	case d.allowed:
		return nil
	case t.ciphertext:
		return deniedCiphertext(c.caller, t.permission, t.ref.account == c.caller.account, d.reason)
	case t.sent != "": // in the words for a key that does not exist
		return denied(c.caller, t.permission, t.sent, d.reason)
	}
	return denied(c.caller, t.permission, t.arn, d.reason)
}

// admit refuses a call that its keys, as they are now, cannot serve.
func (c *call) admit() error {
	for i := range c.count {
		if err := c.op.states.admit(c.targets[i].key); err != nil {
			return err
		}
	}
	if c.op.usage != "" {
		return c.key().admitUsage(c.op.usage, c.op.name)
	}
	return nil
}

func (k *key) admitUsage(usage KeyUsageType, operation string) error {
	if k.record.Usage != usage {
		return exception(InvalidKeyUsageException, "%s key usage is %s which is not valid for %s.", k.arn, k.record.Usage, operation)
	}
	return nil
}

// logPanic tells the operator of a defect; the caller learns only that there
// was one. The panic's value is left out, since it could hold anything.
func (c *core) logPanic(operation string, value any) {
	c.config.Logger.Error("kms: an operation panicked", "operation", operation, "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
}
