package kms

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/shape"
)

// keyOfTable returns the name in conditionKeys of a condition key in AWS's table.
func keyOfTable(name string) string {
	if i := strings.Index(name, "${"); i >= 0 {
		return name[:i]
	}
	return name
}

// The table of AWS says which action supplies which condition key.
func TestEveryActionSuppliesTheConditionKeysOfAWSsTable(t *testing.T) {
	text, err := os.ReadFile("testdata/authorization-table.tsv")
	require.NoError(t, err)
	known := map[string]bool{"SynchronizeMultiRegionKey": true} // not an operation
	for _, line := range strings.Split(strings.Trim(string(text), "\n"), "\n")[1:] {
		columns := strings.Split(line, "\t")
		action, resource, listed := columns[0], columns[2], strings.Fields(columns[3])
		if columns[4] != "" {
			listed = append(listed, "kms:RecipientAttestation:")
		}
		if action == "ReplicateKey" { // the guide has them, and the table does not: they are those of CreateKey
			listed = append(listed, "kms:BypassPolicyLockoutSafetyCheck", "aws:RequestTag/", "aws:TagKeys")
		}
		known[action] = true
		for i := range listed {
			listed[i] = keyOfTable(listed[i])
		}
		if action != "SynchronizeMultiRegionKey" {
			requireSupplied(t, action, strings.Contains(resource, "key*"), listed)
		}
	}
	// The table predates ML-KEM.
	for _, action := range []string{"Encapsulate", "Decapsulate"} {
		known[action] = true
		requireSupplied(t, action, true, []string{"kms:CallerAccount", "kms:RequestAlias", "kms:ViaService"})
	}
	for _, k := range conditionKeys {
		for _, action := range strings.Fields(k.permissions) {
			require.True(t, known[action], "%s is supplied by %s, which is no action", k.name, action)
		}
	}
}

// requireSupplied requires that an action supplies the listed condition keys and no others, except
// those that all actions supply.
func requireSupplied(t *testing.T, action string, ofKey bool, listed []string) {
	t.Helper()
	// The keys that describe the resource of an action.
	resource := []string{"aws:ResourceAccount", "aws:ResourceTag/", "kms:CustomerMasterKeySpec", "kms:CustomerMasterKeyUsage", "kms:KeyOrigin",
		"kms:KeySpec", "kms:KeyUsage", "kms:MultiRegion", "kms:MultiRegionKeyType", "kms:ResourceAliases"}
	twins := map[string]string{"kms:CustomerMasterKeySpec": "kms:KeySpec", "kms:CustomerMasterKeyUsage": "kms:KeyUsage"}
	var supplied []string
	for _, k := range conditionKeys {
		if slices.Contains(strings.Fields(k.permissions), action) {
			supplied = append(supplied, k.name)
			require.True(t, slices.Contains(listed, k.name) || ofKey && slices.Contains(resource, k.name) || slices.Contains(listed, twins[k.name]),
				"%s must not supply %s", action, k.name)
		}
	}
	require.Subset(t, supplied, listed, action)
	if ofKey {
		require.Subset(t, supplied, resource, action)
	}
}

func TestConditionKeysAreFoundByAnyName(t *testing.T) {
	for name, want := range map[string][2]string{
		"kms:viaservice":                     {"kms:ViaService", ""},
		"kms:encryptioncontext:a:b/c":        {"kms:EncryptionContext:", "a:b/c"},
		"kms:encryptioncontextkeys":          {"kms:EncryptionContextKeys", ""},
		"aws:requesttag/a/b":                 {"aws:RequestTag/", "a/b"},
		"kms:recipientattestation:pcr0":      {"kms:RecipientAttestation:", "pcr0"},
		"aws:principaltag/cost:center":       {"aws:PrincipalTag/", "cost:center"},
		"kms:encryptioncontext:":             {},
		"aws:principaltag/":                  {},
		"kms:encryptioncontext":              {},
		"aws:tagkeys/x":                      {},
		"s3:prefix":                          {},
		"kms:":                               {},
		"aws:":                               {},
		"":                                   {},
		"/":                                  {},
		"kms:recipientattestation:imagesha3": {"kms:RecipientAttestation:", "imagesha3"},
	} {
		f, rest, ok := findConditionKey(name)
		require.Equal(t, want[0] != "", ok, name)
		if ok {
			require.Equal(t, want, [2]string{f.name, rest}, name)
		}
	}
}

// A decision that asked for nothing but fixed keys is kept, so that a key is fixed only if it cannot
// differ between two requests of a caller for a key.
func TestOnlyFactsOfTheCallerAndTheKeyAreFixed(t *testing.T) {
	kinds := map[keyKind][]string{}
	for _, k := range conditionKeys {
		kinds[k.kind] = append(kinds[k.kind], k.name)
	}
	require.Equal(t, []string{"kms:CallerAccount", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:PrincipalType", "aws:PrincipalTag/",
		"aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:PrincipalIsAWSService", "aws:PrincipalServiceName", "aws:userid", "aws:username",
		"aws:FederatedProvider", "aws:RequestedRegion", "aws:ResourceAccount", "kms:KeySpec", "kms:CustomerMasterKeySpec", "kms:KeyUsage",
		"kms:CustomerMasterKeyUsage", "kms:KeyOrigin", "kms:MultiRegion", "kms:MultiRegionKeyType",
		"kms:RecipientAttestation:ImageSha384", "kms:RecipientAttestation:"}, kinds[fixed])
	require.Equal(t, []string{"aws:ResourceTag/"}, kinds[fixedIdentity])
	require.Equal(t, []string{"kms:ResourceAliases"}, kinds[perRequestIdentity])
}

// A policy that cannot be read might deny. Therefore nothing else allows, either: no grant, and no
// policy of the account.
func TestNobodyUsesAKeyWhosePolicyCannotBeRead(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	created, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	id := created.KeyMetadata.KeyId
	alice, err := ParsePrincipal("arn:aws:iam::111122223333:user/alice")
	require.NoError(t, err)
	_, err = svc.CreateGrant(t.Context(), &CreateGrantInput{KeyId: id, GranteePrincipal: alice.ARN(), Operations: []GrantOperation{GrantOperationDescribeKey}})
	require.NoError(t, err)
	callers := []*Service{svc, svc.As(alice)}
	for _, caller := range callers {
		_, err = caller.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: id})
		require.NoError(t, err)
	}
	k, err := svc.core.db.Key(t.Context(), keydb.Ref{Account: "111122223333", Region: "us-east-1", ID: id}, time.Now())
	require.NoError(t, err)
	_, err = svc.core.db.Update(t.Context(), k, func(r *keydb.Record) { r.Policy = `{"Statement":[]}` })
	require.NoError(t, err)
	for _, caller := range callers {
		_, err = caller.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: id})
		require.ErrorIs(t, err, AccessDeniedException)
		require.ErrorContains(t, err, "no resource-based policy allows")
	}
}

func TestOnlyTheCaseOfLettersIsIgnoredInKeys(t *testing.T) {
	require.True(t, sameKey("@AZ[`az{", "@az[`az{"))
	for _, name := range []string{"`az[`az{", "@az{`az{", "@az[@az{", "@az[`az", "@az[`azx", "@azä"} {
		require.False(t, sameKey(name, "@az[`az{"), name)
	}
}

// A call is used again: it keeps nothing of a request that the next one could be decided by.
func TestACallThatEndsKeepsNothingThatDecides(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	c, err := begin(t.Context(), svc, &opListKeys.description)
	require.NoError(t, err)
	c.input, c.wire, c.trace, c.observed, c.denied = new(ListKeysInput), new(shape.Wire), new(trace), "refused", true
	c.retiring, c.identity, c.hasInfo, c.question.call = new(keydb.Grant), new(identity), true, c
	c.end()
	require.Nil(t, c.input)
	require.Nil(t, c.wire)
	require.Nil(t, c.trace)
	require.Empty(t, c.observed)
	require.False(t, c.denied)
	require.Nil(t, c.retiring)
	require.Nil(t, c.identity)
	require.False(t, c.hasInfo)
	require.Nil(t, c.question.call)
}

// ConditionKeyNames returns the names of all condition keys, for the tests of package kms_test.
func ConditionKeyNames() (names []string) {
	for _, k := range conditionKeys {
		names = append(names, k.name)
	}
	return names
}
