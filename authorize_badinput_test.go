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
	const (
		notValid   = "The policy document is not valid."
		principals = "Policy contains a statement with one or more invalid principals."
	)
	for name, tt := range map[string]struct {
		policy  string
		code    kms.ErrorCode
		message string
	}{
		"no JSON":                  {`{"Version":`, kms.MalformedPolicyDocumentException, ""},
		"33 KiB":                   {statement(`"Principal":"*"`) + strings.Repeat(" ", 33<<10), kms.LimitExceededException, "A key policy can have at most 32768 bytes."},
		"nested 10,000 deep":       {strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), kms.MalformedPolicyDocumentException, notValid},
		"nested deeper":            {strings.Repeat("[", 16_000) + strings.Repeat("]", 16_000), kms.MalformedPolicyDocumentException, ""},
		"nested without an end":    {strings.Repeat("[", 10_000), kms.MalformedPolicyDocumentException, ""},
		"objects deep":             {strings.Repeat(`{"a":`, 5_000) + "1" + strings.Repeat("}", 5_000), kms.MalformedPolicyDocumentException, notValid},
		"an unknown operator":      {statement(`"Principal":"*","Condition":{"StringMatches":{"a:b":"c"}}`), kms.MalformedPolicyDocumentException, notValid},
		"an unknown prefix":        {statement(`"Principal":"*","Condition":{"ForNoValue:StringEquals":{"a:b":"c"}}`), kms.MalformedPolicyDocumentException, notValid},
		"a group":                  {statement(`"Principal":{"AWS":"arn:aws:iam::111122223333:group/x"}`), kms.MalformedPolicyDocumentException, principals},
		"a wildcard in an ARN":     {statement(`"Principal":{"AWS":"arn:aws:iam::111122223333:role/*"}`), kms.MalformedPolicyDocumentException, principals},
		"an ARN without an end":    {statement(`"Principal":{"AWS":"arn:aws:iam::111122223333"}`), kms.MalformedPolicyDocumentException, principals},
		"a session of two slashes": {statement(`"Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/a/b/c"}`), kms.MalformedPolicyDocumentException, principals},
		"a principal of no kind":   {statement(`"Principal":{"GCP":"x"}`), kms.MalformedPolicyDocumentException, notValid},
		"a principal of a list":    {statement(`"Principal":["*"]`), kms.MalformedPolicyDocumentException, notValid},
		"a member twice":           {statement(`"Principal":"*","Effect":"Deny"`), kms.MalformedPolicyDocumentException, notValid},
		"a member twice, escaped":  {statement(`"Principal":"*","\u0045ffect":"Deny"`), kms.MalformedPolicyDocumentException, notValid},
		"a condition key twice":    {statement(`"Principal":"*","Condition":{"StringEquals":{"a:b":"c","a:b":"d"}}`), kms.MalformedPolicyDocumentException, notValid},
		"a statement twice":        {`{"Statement":[],` + statement(`"Principal":"*"`)[1:], kms.MalformedPolicyDocumentException, notValid},
		"a control character": {statement("\"Principal\":\"*\",\"Sid\":\"\x01\""), kms.ValidationException,
			"1 validation error detected: Value '" + statement("\"Principal\":\"*\",\"Sid\":\"\x01\"") + "' at 'policy' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"},
		"an escaped NUL": {statement(`"Principal":"*","Sid":"\u0000"`), "", ""}, // of a Sid, which decides nothing
	} {
		t.Run(name, func(t *testing.T) {
			_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: tt.policy})
			if tt.code == "" {
				require.NoError(t, err)
			} else {
				requireError(t, err, tt.code, "%s", tt.message)
			}
		})
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
		if len(context) == 1 {
			requireError(t, err, kms.ValidationException, "The encryption context is longer than 8192 bytes.")
		} else {
			requireError(t, err, kms.ValidationException, "%s", "1 validation error detected: Value at 'constraints.encryptionContextSubset' "+
				"failed to satisfy constraint: Member must have length less than or equal to 8")
		}
	}
	require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenantidentity": "7"}))
}

// Policies of many principals, or of many conditions, are compared without comparing each with each.
// What that would cost shows in what is allocated: a text for each condition in each comparison.
func TestHostilePoliciesAreCompared(t *testing.T) {
	svc, _ := newService(t)
	many := func(prefix string) (principals, conditions string) {
		var accounts, statements []string
		for i := range 2000 {
			accounts = append(accounts, fmt.Sprintf(`"%s%011d"`, prefix, i))
		}
		for i := range 250 {
			statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*","Condition":{"Bool":{"aws:PrincipalTag/%s%d":"true"}}}`, prefix, i))
		}
		return `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":{"AWS":[` + strings.Join(accounts, ",") + `]}}}`,
			`{"Statement":[` + strings.Join(statements, ",") + `]}`
	}
	principals, conditions := many("1")
	otherPrincipals, otherConditions := many("2")
	for _, tt := range []struct {
		before, after string
		rights        int
	}{{principals, otherPrincipals, 2000}, {conditions, otherConditions, 250}, {conditions, conditions, 0}} {
		k := createKey(t, svc, nil)
		setPolicy(t, svc, k.KeyId, tt.before)
		var d *kms.PolicyDiff
		allocations := testing.AllocsPerRun(1, func() {
			var err error
			d, err = svc.DiffKeyPolicy(t.Context(), k.KeyId, tt.after)
			require.NoError(t, err)
		})
		require.Len(t, d.Gained, tt.rights)
		require.Len(t, d.Lost, tt.rights)
		require.Less(t, allocations, 2e6)
	}
}
