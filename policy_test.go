package kms_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// printedPolicy is a key policy in the layout in which it is returned.
const printedPolicy = `{
  "Version" : "2012-10-17",
  "Statement" : [ {
    "Action" : [ "kms:Encrypt", "kms:*" ],
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Resource" : "*"
  } ],
  "Id" : "mine"
}`

const compactPolicy = `{"Version":"2012-10-17","Statement":[{"Action":["kms:Encrypt","kms:*"],"Effect":"Allow",` +
	`"Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Resource":"*"}],"Id":"mine"}`

// policyOf returns a policy of exactly n bytes.
func policyOf(n int) string {
	const head, tail = `{"Version":"2012-10-17","Id":"`, `","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

func keyPolicy(t testing.TB, svc *kms.Service, keyID string) string {
	t.Helper()
	out, err := svc.GetKeyPolicy(context.Background(), &kms.GetKeyPolicyInput{KeyId: keyID})
	require.NoError(t, err)
	require.Equal(t, "default", out.PolicyName)
	return out.Policy
}

func TestAKeyWithoutAPolicyGetsTheDefaultOne(t *testing.T) {
	svc, _ := newService(t)
	for region, partition := range map[string]string{"us-east-1": "aws", "us-gov-west-1": "aws-us-gov"} {
		svc, _ := newService(t, func(c *kms.Config) { c.Region, c.Account = region, "444455556666" })
		require.Equal(t, `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:`+partition+`:iam::444455556666:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, keyPolicy(t, svc, createKey(t, svc, nil).KeyId))
	}
	stranger := svc.As(rootOf(t, "444455556666"))
	require.Contains(t, keyPolicy(t, stranger, createKey(t, stranger, nil).KeyId), `"arn:aws:iam::444455556666:root"`)
}

func TestAPolicyIsReturnedInTheLayoutOfTheAPI(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	const statement = `{
  "Statement" : {
    "Effect" : "Allow",
    "Principal" : "*",
    "Action" : "kms:*",
    "Resource" : "*",
    "Sid" : "é<&"
  }
}`
	policies := map[string]string{
		compactPolicy: printedPolicy,
		printedPolicy: printedPolicy,
		statement:     statement,
		"\t{\"Statement\":\r\n {\"Effect\":\"Allow\", \"Principal\":\"*\",\n\"Action\" :\"kms:*\",\"Resource\":\"*\",\"Sid\":\"é<&\"} }\n": statement,
	}
	for policy, want := range policies {
		k := createKey(t, svc, nil)
		created := createKey(t, svc, &kms.CreateKeyInput{Policy: policy, BypassPolicyLockoutSafetyCheck: true})
		require.Equal(t, want, keyPolicy(t, svc, created.KeyId))
		for _, name := range []string{"", "default"} {
			_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, PolicyName: name, Policy: policy, BypassPolicyLockoutSafetyCheck: true})
			require.NoError(t, err)
			require.Equal(t, want, keyPolicy(t, svc, k.KeyId))
		}
		require.Equal(t, k, describe(t, svc, k.KeyId))
	}
	longest := policyOf(32768)
	require.JSONEq(t, longest, keyPolicy(t, svc, createKey(t, svc, &kms.CreateKeyInput{Policy: longest}).KeyId))
}

// TestTheFormOfAPolicyDocument and other tests have all kinds of malformed policies.
func TestAMalformedPolicyIsRefusedAndTheOldOneStays(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	before := keyPolicy(t, svc, k.KeyId)
	for policy, message := range map[string]string{"{": "", "{}": "The policy document is not valid."} {
		_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy})
		requireError(t, err, kms.MalformedPolicyDocumentException, "%s", message)
		_, err = svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: policy})
		requireError(t, err, kms.MalformedPolicyDocumentException, "%s", message)
	}
	for n, code := range map[int]kms.ErrorCode{32769: kms.LimitExceededException, 131072: kms.LimitExceededException, 131073: kms.ValidationException} {
		_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policyOf(n)})
		require.ErrorIs(t, err, code, "%d bytes", n)
		require.Less(t, len(err.Error()), 20000, "a message does not repeat all of it")
	}
	for _, policy := range []string{strings.Replace(policyOf(200), "x", "\x00", 1), strings.Replace(policyOf(200), "x", "Ā", 1), strings.Replace(policyOf(200), "x", "\xff", 1)} {
		_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy})
		require.ErrorIs(t, err, kms.ValidationException, "%q", policy)
		require.ErrorContains(t, err, `failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`)
	}
	require.Equal(t, before, keyPolicy(t, svc, k.KeyId))
}

func TestDefaultIsTheOnlyPolicyOfAKey(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	list, err := svc.ListKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: k.KeyId})
	require.NoError(t, err)
	require.Equal(t, &kms.ListKeyPoliciesOutput{PolicyNames: []string{"default"}}, list)
	_, err = svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: k.KeyId, PolicyName: "other"})
	requireError(t, err, kms.NotFoundException, "No such policy exists")
	_, err = svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, PolicyName: "other", Policy: policyOf(200)})
	requireError(t, err, kms.UnsupportedOperationException, "Only default policy is supported")
	_, err = svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: k.KeyId, PolicyName: "a b"})
	requireError(t, err, kms.ValidationException,
		"%s", fmt.Sprintf("1 validation error detected: Value 'a b' at 'policyName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", `[\w]+`))
}
