package kms

import (
	"context"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
)

// GetKeyPolicyInput names the key whose policy to return.
type GetKeyPolicyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// PolicyName is "default", the only policy that a key has; absent means the same.
	PolicyName string `kms:"len=1..128,pattern=policyName"`
}

// GetKeyPolicyOutput is a key's policy.
type GetKeyPolicyOutput struct {
	// Policy is the JSON document that was stored, in the layout of the API: a member on each line,
	// in their order.
	Policy string `kms:"secret"`

	// PolicyName is "default".
	PolicyName string
}

// PutKeyPolicyInput replaces a key's policy.
type PutKeyPolicyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Policy is the new policy, a JSON document of up to 32,768 bytes.
	Policy string `kms:"required,len=1..131072,pattern=policy"`

	// PolicyName is "default", the only policy that a key has; absent means the same.
	PolicyName string `kms:"len=1..128,pattern=policyName"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let the caller change it again.
	// Such a key may become unmanageable.
	BypassPolicyLockoutSafetyCheck bool
}

// PutKeyPolicyOutput is empty.
type PutKeyPolicyOutput struct{}

// ListKeyPoliciesInput selects a page of the names of a key's policies.
type ListKeyPoliciesInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Limit is the most names to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListKeyPoliciesOutput is a page of policy names.
type ListKeyPoliciesOutput struct {
	// PolicyNames is always "default".
	PolicyNames []string `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more names follow.
	Truncated bool `kms:"emitzero"`
}

const (
	policyName     = "default" // the only one that a key has
	maxPolicyBytes = 32768
)

// defaultPolicy returns the policy of a key that is created without one. It leaves access to the
// IAM policies of the account.
func defaultPolicy(account, region string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + arn.Root(arn.Partition(region), account) + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// managedKeyPolicy returns the policy of an AWS managed key: its service may use the key for the
// account, and the account may view it.
func managedKeyPolicy(account, region, service string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "auto-` + service + `-1",
  "Statement" : [ {
    "Sid" : "Allow access through ` + service + ` for all principals in the account that are authorized to use it",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "*"
    },
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey" ],
    "Resource" : "*",
    "Condition" : {
      "StringEquals" : {
        "kms:CallerAccount" : "` + account + `",
        "kms:ViaService" : "` + service + "." + region + `.amazonaws.com"
      }
    }
  }, {
    "Sid" : "Allow direct access to key metadata to the account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + arn.Root(arn.Partition(region), account) + `"
    },
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  } ]
}`
}

var opGetKeyPolicy = define(description{
	name: "GetKeyPolicy", keys: keyOnly, states: anyState, readOnly: true,
}, steps[GetKeyPolicyInput, GetKeyPolicyOutput]{
	act: func(c *call, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
		if in.PolicyName != "" && in.PolicyName != policyName {
			return nil, exception(NotFoundException, "No such policy exists")
		}
		return &GetKeyPolicyOutput{Policy: formatPolicy(c.key().Record.Policy), PolicyName: policyName}, nil
	},
})

// GetKeyPolicy returns the policy of a key, in the layout of the API.
func (s *Service) GetKeyPolicy(ctx context.Context, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
	return opGetKeyPolicy.do(ctx, s, in)
}

var opPutKeyPolicy = define(description{
	name: "PutKeyPolicy", keys: keyOnly, states: anyState,
}, steps[PutKeyPolicyInput, PutKeyPolicyOutput]{
	admit: func(c *call, in *PutKeyPolicyInput) error {
		if in.PolicyName != "" && in.PolicyName != policyName {
			return exception(UnsupportedOperationException, "Only default policy is supported")
		}
		return c.admitPolicy(c.key(), in.Policy, in.BypassPolicyLockoutSafetyCheck)
	},
	act: func(c *call, in *PutKeyPolicyInput) (*PutKeyPolicyOutput, error) {
		return &PutKeyPolicyOutput{}, c.update(func(r *keydb.Record) { r.Policy = in.Policy })
	},
})

// PutKeyPolicy replaces the policy of a key. The next call is decided by the new one. A policy under
// which the caller could not call PutKeyPolicy again is refused with
// [MalformedPolicyDocumentException], unless BypassPolicyLockoutSafetyCheck is set.
func (s *Service) PutKeyPolicy(ctx context.Context, in *PutKeyPolicyInput) (*PutKeyPolicyOutput, error) {
	return opPutKeyPolicy.do(ctx, s, in)
}

// errLockout refuses a policy that its author could not change again.
var errLockout = exception(MalformedPolicyDocumentException, "The new key policy will not allow you to update the key policy in the future.")

// admitPolicy refuses a new policy of k, or of the key that is to be if k is nil, that is not valid
// or that would lock the caller out. An empty policy means that none was given.
func (c *call) admitPolicy(k *keydb.Key, text string, bypass bool) error {
	if text == "" {
		return nil
	}
	policy, err := parseKeyPolicy(text)
	if err != nil {
		return err
	}
	if err := c.requirePrincipals(policy); err != nil || bypass {
		return err
	}
	if k == nil {
		k = c.keyToBe()
	}
	q, err := c.askKey(&target{key: k, permission: "kms:PutKeyPolicy"})
	if err != nil {
		return err
	}
	q.policy = policy
	if d := q.decide(); d.allowed || q.err != nil {
		return q.err
	}
	return c.refused(errLockout)
}

// keyToBe returns a key that the call might create, to be authorized.
func (c *call) keyToBe() *keydb.Key {
	record := c.question.recordToBe()
	ref := c.refToBe(record.MultiRegion)
	return keydb.NewUnstoredKey(ref, ref.ARN(), &record)
}

// refToBe names a key that the call might create. Its ID is in the form of one, and no key has it.
func (c *call) refToBe(multiRegion bool) keydb.Ref {
	id := "00000000-0000-0000-0000-000000000000"
	if multiRegion {
		id = "mrk-" + strings.ReplaceAll(id, "-", "")
	}
	return keydb.Ref{Account: c.svc.caller.account, Region: c.svc.region, ID: id}
}

// requirePrincipals refuses a policy with principals that do not exist.
func (c *call) requirePrincipals(policy *iam.Policy) error {
	exists := c.svc.core.config.PrincipalExists
	if exists == nil {
		return nil
	}
	for _, s := range policy.Statements() {
		entries, _ := s.Principals()
		for _, p := range entries {
			if p.Kind() != "AWS" || p.IsAnyone() {
				continue
			}
			if ok, err := exists(c.ctx, p.String()); err != nil {
				return err
			} else if !ok {
				return errInvalidPrincipals
			}
		}
	}
	return nil
}

var opListKeyPolicies = define(description{
	name: "ListKeyPolicies", keys: keyOnly, states: anyState, readOnly: true,
}, steps[ListKeyPoliciesInput, ListKeyPoliciesOutput]{
	act: func(c *call, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
		p, err := c.page(in.Marker, in.Limit, 100, c.key().ARN)
		if err != nil {
			return nil, err
		}
		list, next := truncate(c, p, []string{policyName}, func(name string) string { return name })
		return &ListKeyPoliciesOutput{PolicyNames: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListKeyPolicies lists the names of the policies of a key: only "default".
func (s *Service) ListKeyPolicies(ctx context.Context, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
	return opListKeyPolicies.do(ctx, s, in)
}
