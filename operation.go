package kms

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/testhook"
)

// An Operation is one operation of the API, for code that serves all of them alike: a protocol, a
// recorder, a fault injector. Other code calls the methods of [Service].
type Operation interface {
	// Name is the API's name of the operation: "Encrypt".
	Name() string
	// ReadOnly reports whether the operation changes nothing, as in audit events.
	ReadOnly() bool
	// NewInput returns a pointer to a new zero input, such as an *EncryptInput.
	NewInput() any
	// Invoke calls the operation on s. in is of the type that NewInput returns; package awsapi
	// passes a *shape.Wire with such an input. out is a pointer to the operation's output, such as
	// an *EncryptOutput, or nil if err is not nil.
	Invoke(ctx context.Context, s *Service, in any) (out any, err error)

	describe() *description
	explain(ctx context.Context, s *Service, in any) (*Explanation, error)
}

// operations has all operations. A test compares it with the methods of Service.
var operations = []Operation{
	opCancelKeyDeletion, opConnectCustomKeyStore, opCreateAlias, opCreateCustomKeyStore, opCreateGrant,
	opCreateKey, opDecapsulate, opDecrypt, opDeleteAlias, opDeleteCustomKeyStore,
	opDeleteImportedKeyMaterial, opDeriveSharedSecret, opDescribeCustomKeyStores, opDescribeKey,
	opDisableKey, opDisableKeyRotation, opDisconnectCustomKeyStore, opEnableKey, opEnableKeyRotation,
	opEncapsulate, opEncrypt, opGenerateDataKey, opGenerateDataKeyPair,
	opGenerateDataKeyPairWithoutPlaintext, opGenerateDataKeyWithoutPlaintext, opGenerateMac,
	opGenerateRandom, opGetKeyLastUsage, opGetKeyPolicy, opGetKeyRotationStatus,
	opGetParametersForImport, opGetPublicKey, opImportKeyMaterial, opListAliases, opListGrants,
	opListKeyPolicies, opListKeyRotations, opListKeys, opListResourceTags, opListRetirableGrants,
	opPutKeyPolicy, opReEncrypt, opReplicateKey, opRetireGrant, opRevokeGrant, opRotateKeyOnDemand,
	opScheduleKeyDeletion, opSign, opTagResource, opUntagResource, opUpdateAlias, opUpdateCustomKeyStore,
	opUpdateKeyDescription, opUpdatePrimaryRegion, opVerify, opVerifyMac,
}

// Operations returns all operations of a Service, by name.
func Operations() []Operation { return append([]Operation(nil), operations...) }

// A description declares the properties of an operation. What it does not allow is refused: an
// operation with a key and without a stateRule works in no key state.
type description struct {
	name         string // of the API and on the wire: "Encrypt"
	permission   string // empty means "kms:" and the name
	keys         identifierRule
	crossAccount bool         // it can be called on a key of another account
	states       *stateRule   // the key states in which it works
	usage        KeyUsageType // the key usage that it requires; empty means any
	readOnly     bool         // it changes nothing, in audit events
	tracked      bool         // it counts as a use of its keys in GetKeyLastUsage
}

// An identifierRule says what an operation accepts as its KeyId.
type identifierRule int8

const (
	noKey       identifierRule = iota
	keyOnly                    // key ID or key ARN
	keyOrAlias                 // key ID, key ARN, alias name or alias ARN
	ownIdentify                // see steps.identify
)

// steps are an operation's own functions in the pipeline. All except act may be nil.
type steps[In, Out any] struct {
	requireMembers func(*In) []error      // violations of the input's shape that tags cannot express
	validate       func(*In) error        // the other checks of the input
	identify       func(*call, *In) error // with ownIdentify
	admit          func(*call, *In) error // checks after those of key state and usage
	logged         func(*In) *In          // the input with its defaults, for the audit event
	act            func(*call, *In) (*Out, error)

	// recordElsewhere records the audit events that a successful call has in another Region.
	recordElsewhere func(*operation[In, Out], *call, *In, *Out) error
}

// An operation is one operation with the types of its input and output.
type operation[In, Out any] struct {
	description
	steps[In, Out]
	in  shape.Typed[In]
	out shape.Typed[Out]

	// Members that mean the same in all inputs.
	keyID       shape.Field[In, string]
	dryRun      shape.Field[In, bool]
	grantTokens shape.Field[In, []string]
	aliasName   shape.Field[In, string]

	quotas                       []*requestQuota
	pairSpec                     shape.Field[In, DataKeyPairSpec]
	replicaRegion, primaryRegion shape.Field[In, string]
}

func define[In, Out any](d description, s steps[In, Out]) *operation[In, Out] {
	if d.permission == "" {
		d.permission = "kms:" + d.name
	}
	return &operation[In, Out]{
		description: d,
		steps:       s,
		in:          shape.TypedOf[In](),
		out:         shape.TypedOf[Out](),
		keyID:       shape.FieldOf[In, string]("KeyId"),
		dryRun:      shape.FieldOf[In, bool]("DryRun"),
		grantTokens: shape.FieldOf[In, []string]("GrantTokens"),
		aliasName:   shape.FieldOf[In, string]("AliasName"),

		quotas:        quotasOf[d.name],
		pairSpec:      shape.FieldOf[In, DataKeyPairSpec]("KeyPairSpec"),
		replicaRegion: shape.FieldOf[In, string]("ReplicaRegion"),
		primaryRegion: shape.FieldOf[In, string]("PrimaryRegion"),
	}
}

func (op *operation[In, Out]) Name() string           { return op.name }
func (op *operation[In, Out]) ReadOnly() bool         { return op.readOnly }
func (op *operation[In, Out]) NewInput() any          { return new(In) }
func (op *operation[In, Out]) describe() *description { return &op.description }

func (op *operation[In, Out]) Invoke(ctx context.Context, s *Service, in any) (any, error) {
	wire, _ := in.(*shape.Wire)
	if wire != nil {
		in = wire.Input
	}
	typed, ok := in.(*In)
	if !ok {
		return nil, fmt.Errorf("kms: %s takes a %s, not a %T", op.name, reflect.TypeFor[*In](), in)
	}
	out, err := op.run(ctx, s, typed, wire)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// do runs the operation on an input from Go code.
func (op *operation[In, Out]) do(ctx context.Context, s *Service, in *In) (*Out, error) {
	return op.run(ctx, s, in, nil)
}

// run takes a call through the pipeline: validate, identify, authorize, admit, act, which are in
// attempt, and then record and answer. wire is the input's form on the wire, if it came over one.
func (op *operation[In, Out]) run(ctx context.Context, s *Service, in *In, wire *shape.Wire) (*Out, error) {
	if in == nil {
		in = new(In)
	}
	c, err := begin(ctx, s, &op.description)
	if err != nil {
		return nil, err
	}
	defer c.end()
	out, err := op.perform(c, in, wire)
	if s.core.config.Audit != nil {
		err = op.recordAll(c, in, out, err)
	}
	return op.answer(c, out, err)
}

// perform is attempt, within the Interceptor if there is one.
func (op *operation[In, Out]) perform(c *call, in *In, wire *shape.Wire) (out *Out, err error) {
	defer c.recover(&err)
	c.now = c.svc.core.config.Clock()
	if c.svc.core.config.Intercept != nil {
		return op.intercept(c, in, wire)
	}
	return op.attempt(c, in, wire)
}

// recordAll is the step record, with the events that the call has in another Region.
func (op *operation[In, Out]) recordAll(c *call, in *In, out *Out, failure error) (err error) {
	defer c.recover(&err)
	err = op.record(c, in, out, failure)
	if err == nil && op.recordElsewhere != nil && c.count > 0 { // else an interceptor has answered
		err = op.recordElsewhere(op, c, in, out)
	}
	return err
}

// attempt takes a call through the steps validate, identify, authorize, admit and act. It repeats
// the last four if another change to the same records was committed first.
func (op *operation[In, Out]) attempt(c *call, in *In, wire *shape.Wire) (out *Out, err error) {
	if err := op.charge(c, in, false); err != nil {
		return nil, err
	}
	if err := op.check(c, in, wire); err != nil {
		return nil, err
	}
	c.input = in
	if wire != nil {
		c.wire = wire
	}
	err = c.svc.core.db.Retry(c.ctx, c.key, func() (err error) {
		c.clearTargets()
		if err = op.resolveKeys(c, in); err != nil {
			return err
		}
		if err = op.charge(c, in, true); err != nil {
			return err
		}
		if err = c.authorize(op.aliasName.Of(in)); err != nil {
			return err
		}
		if err = op.requireAdmission(c, in); err != nil {
			return err
		}
		if out, err = op.act(c, in); err != nil && errors.Is(err, crypto.ErrDestroyed) {
			err = keydb.ErrConflict // the key was deleted during the call; the retry does not find it
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// check is the step validate.
func (op *operation[In, Out]) check(c *call, in *In, wire *shape.Wire) error {
	var violations []error
	if wire != nil {
		violations = op.in.CheckWire(wire)
	} else {
		violations = op.in.Check(in)
	}
	if op.requireMembers != nil {
		violations = append(violations, op.requireMembers(in)...)
	}
	if violations != nil {
		return invalidShape(violations)
	}
	if op.validate != nil {
		if err := op.validate(in); err != nil {
			return err
		}
	}
	switch {
	case c.svc.badRegion:
		return invalid("%.40q is not the name of a Region.", c.svc.region)
	case c.svc.caller.kind == iam.Anonymous:
		return errAnonymous(&c.svc.caller, op.permission)
	}
	return nil
}

// resolveKeys is the step identify.
func (op *operation[In, Out]) resolveKeys(c *call, in *In) error {
	switch op.keys {
	case keyOnly, keyOrAlias:
		return c.identify(op.keyID.Of(in), op.permission, op.keys == keyOrAlias)
	case ownIdentify:
		return op.identify(c, in)
	}
	return nil
}

// requireAdmission is the step admit.
func (op *operation[In, Out]) requireAdmission(c *call, in *In) error {
	if err := c.requireGrantTokens(op.grantTokens.Of(in)); err != nil {
		return err
	}
	if err := c.admit(); err != nil {
		return err
	}
	if op.admit != nil {
		if err := op.admit(c, in); err != nil {
			return err
		}
	}
	if op.dryRun.Of(in) {
		return exception(DryRunOperationException, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// answer is the step answer: out, or err in the form in which it leaves the package.
func (op *operation[In, Out]) answer(c *call, out *Out, err error) (*Out, error) {
	if err == nil && op.tracked {
		err = c.recordUse()
	}
	if err != nil {
		if out != nil {
			op.out.Erase(out)
		}
		return nil, wrapError(c.ctx, err, op.name)
	}
	return out, nil
}

// intercept is attempt within the configured Interceptor.
func (op *operation[In, Out]) intercept(c *call, in *In, wire *shape.Wire) (*Out, error) {
	ctx := c.ctx
	if wire != nil {
		ctx = testhook.WithWire(ctx, wire)
	}
	outcome := new(Outcome)
	out, err := c.svc.core.config.Intercept(ctx, Call{Service: c.svc, Operation: op, Input: in, Outcome: outcome}, func(ctx context.Context) (any, error) {
		if ctx != nil {
			c.ctx = ctx
		}
		out, err := op.attempt(c, in, wire)
		c.describe(outcome, err)
		return out, err
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil, passthrough{err}
	}
	if err != nil {
		return nil, err
	}
	typed, ok := out.(*Out)
	if !ok || typed == nil {
		return nil, fmt.Errorf("the interceptor returned a %T", out)
	}
	return typed, nil
}
