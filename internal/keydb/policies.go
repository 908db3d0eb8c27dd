package keydb

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/pocketkms/kms/iam"
)

// A policyCache has compiled policies, so that keys with the same policy share one: most have the
// default policy of their account. It is bounded, by the number and the length of the texts.
type policyCache struct {
	seed  maphash.Seed
	slots [cachedPolicies]atomic.Pointer[cachedPolicy] // a later policy replaces one in the same slot
}

const (
	cachedPolicies    = 128
	cachedPolicyBytes = 2048 // a longer policy is not kept
)

type cachedPolicy struct {
	text   string
	policy *iam.Policy
}

var policies = policyCache{seed: maphash.MakeSeed()}

// parsePolicy compiles a key policy.
func parsePolicy(text string) (*iam.Policy, error) {
	slot := &policies.slots[maphash.String(policies.seed, text)%cachedPolicies]
	if c := slot.Load(); c != nil && c.text == text {
		return c.policy, nil
	}
	policy, err := iam.Parse(text, iam.ResourcePolicy)
	if err == nil && len(text) <= cachedPolicyBytes {
		slot.Store(&cachedPolicy{text, policy})
	}
	return policy, err
}
