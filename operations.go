package kms

import (
	"context"
	"fmt"
	"reflect"

	"github.com/pocketkms/kms/internal/shape"
)

// An Operation is one operation of the API, for code that serves all of them
// alike: a protocol, a recorder, a fault injector. Other code calls the methods
// of [Service].
type Operation interface {
	// Name is the API's name of the operation: "Encrypt".
	Name() string
	// ReadOnly says that the operation changes nothing, as audit events have it.
	ReadOnly() bool
	// NewInput returns a new zero input: an *EncryptInput.
	NewInput() any
	// Invoke calls the operation on s. in is of NewInput's type; out is the
	// operation's output type, an *EncryptOutput, and nil with an error.
	Invoke(ctx context.Context, s *Service, in any) (out any, err error)

	describe() *description
}

// operations are all there are. A method of Service that is not in this list,
// or the reverse, is found by a test.
var operations = []Operation{
	opCancelKeyDeletion, opCreateAlias, opCreateKey, opDecrypt, opDeleteAlias, opDescribeKey, opDisableKey,
	opDisableKeyRotation, opEnableKey, opEnableKeyRotation, opEncrypt, opGenerateDataKey,
	opGenerateDataKeyWithoutPlaintext, opGenerateMac, opGenerateRandom, opGetKeyLastUsage, opGetKeyPolicy,
	opGetKeyRotationStatus, opGetPublicKey, opListAliases, opListKeyPolicies, opListKeyRotations, opListKeys,
	opListResourceTags, opPutKeyPolicy, opReEncrypt, opRotateKeyOnDemand, opScheduleKeyDeletion, opSign, opTagResource,
	opUntagResource, opUpdateAlias, opUpdateKeyDescription, opVerify, opVerifyMac,
}

// Operations returns all operations of a Service, by name.
func Operations() []Operation { return append([]Operation(nil), operations...) }

func (op *operation[In, Out]) Name() string           { return op.name }
func (op *operation[In, Out]) ReadOnly() bool         { return op.readOnly }
func (op *operation[In, Out]) NewInput() any          { return new(In) }
func (op *operation[In, Out]) describe() *description { return &op.description }

func (op *operation[In, Out]) Invoke(ctx context.Context, s *Service, in any) (any, error) {
	sent, _ := in.(*shape.Wire)
	if sent != nil {
		in = sent.Input
	}
	typed, ok := in.(*In)
	if !ok {
		return nil, fmt.Errorf("kms: %s takes a %s, not a %T", op.name, reflect.TypeFor[*In](), in)
	}
	out, err := op.run(ctx, s, typed, sent)
	if err != nil {
		return nil, err
	}
	return out, nil
}
