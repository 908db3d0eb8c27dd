package kms_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// Key policies that no caller should send have their errors, and take no time worth measuring.
func TestHostileKeyPoliciesAreRefused(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	statement := func(members string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*",` + members + `}}`
	}
	for name, tt := range map[string]struct {
		policy string
		code   kms.ErrorCode
	}{
		"no JSON":                {`{"Version":`, kms.MalformedPolicyDocumentException},
		"33 KiB":                 {statement(`"Principal":"*"`) + strings.Repeat(" ", 33<<10), kms.LimitExceededException},
		"nested 10,000 deep":     {strings.Repeat("[", 10_000), kms.MalformedPolicyDocumentException},
		"objects deep":           {strings.Repeat(`{"a":`, 6_000), kms.MalformedPolicyDocumentException},
		"an unknown operator":    {statement(`"Principal":"*","Condition":{"StringMatches":{"a:b":"c"}}`), kms.MalformedPolicyDocumentException},
		"an unknown prefix":      {statement(`"Principal":"*","Condition":{"ForNoValue:StringEquals":{"a:b":"c"}}`), kms.MalformedPolicyDocumentException},
		"a group":                {statement(`"Principal":{"AWS":"arn:aws:iam::111122223333:group/x"}`), kms.MalformedPolicyDocumentException},
		"a wildcard in an ARN":   {statement(`"Principal":{"AWS":"arn:aws:iam::111122223333:role/*"}`), kms.MalformedPolicyDocumentException},
		"a principal of no kind": {statement(`"Principal":{"GCP":"x"}`), kms.MalformedPolicyDocumentException},
		"a member twice":         {statement(`"Principal":"*","Effect":"Deny"`), kms.MalformedPolicyDocumentException},
		"a statement twice":      {`{"Statement":[],` + statement(`"Principal":"*"`)[1:], kms.MalformedPolicyDocumentException},
		"a control character":    {statement("\"Principal\":\"*\",\"Sid\":\"\x01\""), kms.ValidationException},
		"an escaped NUL":         {statement(`"Principal":"*","Sid":"\u0000"`), ""}, // of a Sid, which decides nothing
	} {
		_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: tt.policy})
		if tt.code == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, tt.code, name)
		}
	}
}

// Nothing bounds an encryption context before the caller is authorized: many names, and many
// spellings of one, must not take long. Policies with wildcards do not backtrack.
func TestHostileRequestsAreRefused(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	names, spelled := map[string]string{}, map[string]string{}
	for i := range 10_000 {
		names[fmt.Sprint("name", i)] = fmt.Sprint(i)
		spelling := []byte("tenantidentity")
		for bit := range spelling {
			if i>>bit&1 == 1 {
				spelling[bit] -= 'a' - 'A'
			}
		}
		spelled[string(spelling)] = fmt.Sprint(i)
	}
	backtracking := strings.Repeat("*a", 100) + "b"
	app := with(t, appSession, strings.NewReplacer("VALUE", backtracking).Replace(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*",
		"Condition":{"StringLike":{"kms:EncryptionContext:TenantIdentity":["VALUE","7"]}}}]}`))
	for _, context := range []map[string]string{names, spelled, {"tenantidentity": strings.Repeat("a", 100_000)}} {
		requireRefused(t, encryptAs(svc, app, k.KeyId, context), "no identity-based policy allows")
		requireError(t, encryptAs(svc, svc.Caller(), k.KeyId, context), kms.ValidationException, "The encryption context is longer than 8192 bytes.")
		_, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt},
			Constraints: &kms.GrantConstraints{EncryptionContextSubset: context}})
		require.ErrorIs(t, err, kms.ValidationException)
	}
	require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenantidentity": "7"}))
}
