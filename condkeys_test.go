package kms

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

// ConditionKeyNames returns the names of all condition keys, for the tests of package kms_test.
func ConditionKeyNames() (names []string) {
	for _, k := range conditionKeys {
		names = append(names, k.name)
	}
	return names
}
