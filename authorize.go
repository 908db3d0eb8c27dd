package kms

import (
	"slices"
	"strings"

	"github.com/pocketkms/kms/internal/keydb"
)

// A decision says whether a call is allowed, and if not, why: in the words of the
// AccessDeniedException.
type decision struct {
	allowed bool
	reason  string // "no identity-based policy allows"
}

const (
	noIdentityPolicy = "no identity-based policy allows"
	noResourcePolicy = "no resource-based policy allows"
)

// authorize refuses a call that its caller may not make.
func (c *call) authorize() error {
	if c.count == 0 {
		if d := decide(&c.svc.caller, c.op.permission, nil); !d.allowed {
			return denied(c.svc.caller, c.op.permission, "*", d.reason)
		}
	}
	for i := range c.count {
		if t := &c.targets[i]; !t.undisclosed() { // else it has been authorized already
			if err := c.authorizeTarget(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *call) authorizeTarget(t *target) error {
	caller := &c.svc.caller
	d := decide(caller, t.permission, t.key)
	switch {
	case d.allowed:
		return nil
	case t.key.Account == caller.account: // whether the caller or a ciphertext named it
	case t.byCiphertext:
		return deniedCiphertext(*caller, t.permission)
	case t.namedBy != "": // in the words for a key that does not exist
		return deniedForeign(*caller, t.permission, d.reason)
	}
	return denied(*caller, t.permission, t.key.ARN, d.reason)
}

// allowedOnManagedKey reports whether the policy of an AWS managed key gives a permission to the
// account. All others are for the AWS service that the key belongs to.
func allowedOnManagedKey(permission string) bool {
	return slices.ContainsFunc([]string{"kms:Describe", "kms:Get", "kms:List", "kms:RevokeGrant"}, func(prefix string) bool {
		return strings.HasPrefix(permission, prefix)
	})
}

// decide is the one place where a call is allowed. k is nil for an operation without a key.
//
// Key policies are stored but not evaluated, and there are no identity policies: the root of the
// key's own account may do everything, all others nothing.
func decide(caller *Principal, permission string, k *keydb.Key) decision {
	if k != nil && (caller.account != k.Account || k.Record.Manager == string(KeyManagerAWS) && !allowedOnManagedKey(permission)) {
		return decision{reason: noResourcePolicy}
	}
	return decision{allowed: caller.kind == principalRoot, reason: noIdentityPolicy}
}

// denied returns the AccessDeniedException for a permission on a resource: the ARN of a key or an
// alias, or "*".
func denied(caller Principal, permission, resource, reason string) *Error {
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s on resource: %s because %s the %s action",
		caller.display(), permission, resource, reason, permission)
}

// hiddenResource is the reason that does not distinguish a key that does not exist from one that the
// caller may not use.
const hiddenResource = "the resource does not exist in this Region, no resource-based policies allow access, " +
	"or a resource-based policy explicitly denies access"

// deniedForeign returns the AccessDeniedException for a key of another account, which may not exist.
// That an identity policy is missing, it says: that policy is the caller's own.
func deniedForeign(caller Principal, permission, reason string) *Error {
	if reason == noIdentityPolicy {
		reason += " the " + permission + " action"
	} else {
		reason = hiddenResource
	}
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s on this resource because %s",
		caller.display(), permission, reason)
}

// deniedCiphertext returns the AccessDeniedException for a ciphertext whose key the caller did not
// name, if that is a key of another account or does not exist.
func deniedCiphertext(caller Principal, permission string) *Error {
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s on the resource associated with this ciphertext because %s",
		caller.display(), permission, hiddenResource)
}

// display returns how a message names the principal.
func (p Principal) display() string {
	if p.arn == "" {
		return "anonymous"
	}
	return p.arn
}
