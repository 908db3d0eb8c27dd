package kms_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

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

func TestAPolicyIsGivenBackByteForByte(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	policies := []string{
		policyOf(200),
		policyOf(32768),
		"\t{ \"Statement\" :\r\n [{\"Effect\":\"Allow\", \"Principal\":\"*\"}] }\n ",
		`{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Sid":"é<&"}}`,
		`{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`,
	}
	for _, policy := range policies {
		k := createKey(t, svc, &kms.CreateKeyInput{Policy: policy})
		require.Equal(t, policy, keyPolicy(t, svc, k.KeyId))
	}
	k := createKey(t, svc, nil)
	for i, policy := range policies {
		in := &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy}
		if i%2 == 0 {
			in.PolicyName = "default"
		}
		_, err := svc.PutKeyPolicy(ctx, in)
		require.NoError(t, err)
		require.Equal(t, policy, keyPolicy(t, svc, k.KeyId))
	}
	require.Equal(t, k, describe(t, svc, k.KeyId))
}

func TestAMalformedPolicyIsRefusedAndTheOldOneStays(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	before := keyPolicy(t, svc, k.KeyId)
	const statement = `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`
	malformed := map[string]string{
		"no JSON":                       "allow all",
		"half of a document":            `{"Statement":[`,
		"two documents":                 `{"Statement":[` + statement + `]}{}`,
		"a document with a tail":        `{"Statement":[` + statement + `]} x`,
		"an array":                      `[` + statement + `]`,
		"a string":                      `"Statement"`,
		"null":                          `null`,
		"no statement":                  `{}`,
		"an empty list of statements":   `{"Statement":[]}`,
		"a spaced empty list":           `{"Statement":[ ]}`,
		"a statement that is text":      `{"Statement":"all"}`,
		"a statement that is null":      `{"Statement":null}`,
		"a null among statements":       `{"Statement":[` + statement + `,null]}`,
		"an unknown version":            `{"Version":"2020-01-01","Statement":[` + statement + `]}`,
		"a version that is no string":   `{"Version":2012,"Statement":[` + statement + `]}`,
		"statements that are not alike": `{"Statement":[` + statement + `,1]}`,
	}
	for name, policy := range malformed {
		t.Run(name, func(t *testing.T) {
			_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy})
			requireError(t, err, kms.MalformedPolicyDocumentException, "The policy document is not valid.")
			_, err = svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: policy})
			requireError(t, err, kms.MalformedPolicyDocumentException, "The policy document is not valid.")
		})
	}
	const stranger = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws::111122223333:role/app"},"Action":"kms:*","Resource":"*"}}`
	_, err := svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: stranger})
	requireError(t, err, kms.MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")
	_, err = svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: stranger})
	requireError(t, err, kms.MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")
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
