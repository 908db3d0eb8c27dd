package kms

import "context"

// GetKeyPolicyInput names the policy to read.
type GetKeyPolicyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// PolicyName is "default", the only policy of a key; absent means the same.
	PolicyName string `kms:"len=1..128,pattern=policyName"`
}

// GetKeyPolicyOutput is a key's policy.
type GetKeyPolicyOutput struct {
	// Policy is the JSON document as it was put.
	Policy string `kms:"secret"`

	// PolicyName is "default".
	PolicyName string
}

// PutKeyPolicyInput replaces a key's policy.
type PutKeyPolicyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Policy is the new policy, a JSON document of up to 32,768 bytes. Nothing of the old one stays.
	Policy string `kms:"required,len=1..131072,pattern=policy"`

	// PolicyName is "default", the only policy of a key; absent means the same.
	PolicyName string `kms:"len=1..128,pattern=policyName"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let the caller change it again. Such a key may
	// become unmanageable. Nothing is checked as long as policies are not evaluated.
	BypassPolicyLockoutSafetyCheck bool
}

// PutKeyPolicyOutput is empty.
type PutKeyPolicyOutput struct{}

// ListKeyPoliciesInput chooses a page of the names of a key's policies.
type ListKeyPoliciesInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Limit is the most names to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListKeyPoliciesOutput is a page of policy names.
type ListKeyPoliciesOutput struct {
	// PolicyNames is "default" alone.
	PolicyNames []string `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated says that more names follow.
	Truncated bool `kms:"emitzero"`
}

const (
	policyName     = "default" // the only one that a key has
	maxPolicyBytes = 32768
)

// defaultPolicy is the policy of a key that was created without one: it leaves
// the decision to the account.
func defaultPolicy(partition, account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + rootOf(partition, account).arn + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// managedKeyPolicy is the policy of an AWS managed key: its service uses it for
// the account, which may look at it.
func managedKeyPolicy(partition, account, region, service string) string {
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
      "AWS" : "` + rootOf(partition, account).arn + `"
    },
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  } ]
}`
}

var opGetKeyPolicy = define(operation[GetKeyPolicyInput, GetKeyPolicyOutput]{
	description: description{name: "GetKeyPolicy", keys: keyOnly, readOnly: true},
	act: func(c *call, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
		if in.PolicyName != "" && in.PolicyName != policyName {
			return nil, exception(NotFoundException, "No such policy exists")
		}
		return &GetKeyPolicyOutput{Policy: c.key().record.Policy, PolicyName: policyName}, nil
	},
})

// GetKeyPolicy returns a key's policy, as it was put.
func (s *Service) GetKeyPolicy(ctx context.Context, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
	return opGetKeyPolicy.do(ctx, s, in)
}

var opPutKeyPolicy = define(operation[PutKeyPolicyInput, PutKeyPolicyOutput]{
	description: description{name: "PutKeyPolicy", keys: keyOnly},
	admit: func(c *call, in *PutKeyPolicyInput) error {
		if in.PolicyName != "" && in.PolicyName != policyName {
			return exception(UnsupportedOperationException, "Only default policy is supported")
		}
		return validatePolicy(in.Policy)
	},
	act: func(c *call, in *PutKeyPolicyInput) (*PutKeyPolicyOutput, error) {
		return &PutKeyPolicyOutput{}, c.change(func(r *keyRecord) { r.Policy = in.Policy })
	},
})

// PutKeyPolicy replaces a key's policy.
//
// Policies are kept and given back, but do not decide yet: the package's
// introduction says who may do what.
func (s *Service) PutKeyPolicy(ctx context.Context, in *PutKeyPolicyInput) (*PutKeyPolicyOutput, error) {
	return opPutKeyPolicy.do(ctx, s, in)
}

var opListKeyPolicies = define(operation[ListKeyPoliciesInput, ListKeyPoliciesOutput]{
	description: description{name: "ListKeyPolicies", keys: keyOnly, readOnly: true},
	act: func(c *call, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
		scope := c.key().arn + "/"
		p, err := c.page(in.Marker, in.Limit, 100, scope)
		if err != nil {
			return nil, err
		}
		list, next := cut(c, p, []string{policyName}, func(name string) string { return scope + name })
		return &ListKeyPoliciesOutput{PolicyNames: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListKeyPolicies lists the names of a key's policies: "default", its only one.
func (s *Service) ListKeyPolicies(ctx context.Context, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
	return opListKeyPolicies.do(ctx, s, in)
}
