package kms

import (
	"errors"

	"github.com/pocketkms/kms/audit"
)

// An Outcome is what a call has found out that neither its output nor its error says, for metrics
// and traces. It holds no secrets, but what its caller may not learn.
type Outcome struct {
	// RequestID identifies the call, as in its audit event and in the answer of package awsapi.
	RequestID audit.UUID

	// KeyARN, KeySpec, KeyOrigin and KeyState describe the first key that the call found, as it was
	// then; the second if that one's state made the call fail. They are empty if it found none.
	KeyARN    string
	KeySpec   KeySpec
	KeyOrigin OriginType
	KeyState  KeyState

	// Refusal is [VerdictImplicitDeny] or [VerdictExplicitDeny] if authorization refused the call, or
	// would have without [Observe]. Otherwise it is empty.
	Refusal Verdict
}

// describe sets o to the outcome of c, whose error is err.
func (c *call) describe(o *Outcome, err error) {
	o.RequestID = c.requestID()
	k := c.key()
	if c.count == 2 && KeyState(k.State) == KeyStateEnabled && errors.Is(err, KMSInvalidStateException) {
		k = c.targets[1].key
	}
	if k != nil && k.Stored() {
		o.KeyARN, o.KeySpec = k.ARN, KeySpec(k.Record.Spec)
		o.KeyOrigin, o.KeyState = OriginType(k.Record.Origin), KeyState(k.State)
	}
	switch {
	case c.observed == "" && !errors.Is(err, AccessDeniedException):
	case c.denied:
		o.Refusal = VerdictExplicitDeny
	default:
		o.Refusal = VerdictImplicitDeny
	}
}
