package kms

import (
	"slices"
	"strings"
)

// A decision says whether a call may go on, and if not, why: in the words of
// the AccessDeniedException.
type decision struct {
	allowed bool
	reason  string // "no identity-based policy allows"
}

const (
	noIdentityPolicy = "no identity-based policy allows"
	noResourcePolicy = "no resource-based policy allows"
)

// looksOn tells whether the policy of an AWS managed key gives a permission to
// the account; everything else is for the AWS service that the key belongs to.
func looksOn(permission string) bool {
	return slices.ContainsFunc([]string{"kms:Describe", "kms:Get", "kms:List", "kms:RevokeGrant"}, func(prefix string) bool {
		return strings.HasPrefix(permission, prefix)
	})
}

// decide is the one place where a call is allowed. k is nil for an operation
// that has no key.
//
// Key policies are kept but not evaluated, and there are no identity policies:
// the root of the key's own account may do everything, nobody else anything.
func decide(caller Principal, permission string, k *key) decision {
	if k != nil && (caller.account != k.ref.account || k.record.Manager == KeyManagerAWS && !looksOn(permission)) {
		return decision{reason: noResourcePolicy}
	}
	return decision{allowed: caller.kind == principalRoot, reason: noIdentityPolicy}
}

// denied is the AccessDeniedException for a permission on a resource: a key's
// ARN, an alias's, or "*".
func denied(caller Principal, permission, resource, reason string) *Error {
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s on resource: %s because %s the %s action",
		caller.name(), permission, resource, reason, permission)
}

// deniedCiphertext is the AccessDeniedException for a ciphertext whose key the
// caller did not name. Only of a key of the caller's own account does it tell
// that an identity policy is what lacks; otherwise it does not tell a missing
// key from a forbidden one.
func deniedCiphertext(caller Principal, permission string, own bool, reason string) *Error {
	if own && reason == noIdentityPolicy {
		reason += " the " + permission + " action"
	} else {
		reason = "the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"
	}
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s on the resource associated with this ciphertext because %s",
		caller.name(), permission, reason)
}

// name is how a message calls the principal.
func (p Principal) name() string {
	if p.arn == "" {
		return "anonymous"
	}
	return p.arn
}
