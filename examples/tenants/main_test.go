package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachIsRefusedWhereItShouldBe(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	text, ok := strings.CutPrefix(out.String(), "The key policy:\n\n"+keyPolicy+"\n")
	require.True(t, ok, "%s", &out)
	text = regexp.MustCompile(`arn:aws:kms:\S+`).ReplaceAllString(text, "KEY")
	text = strings.ReplaceAll(text, "arn:aws:sts::111122223333:assumed-role/", "")
	text, why, _ := strings.Cut(text, "\n\nWhy is the record closed to red?\n\n")
	require.Contains(t, why, `expected "red", seen "blue"`)
	require.Equal(t, `tenant/blue encrypts a record with tenant=blue: done
tenant/blue decrypts the record with tenant=blue: done
tenant/red decrypts the record with tenant=blue: kms: Decrypt: AccessDeniedException: User: tenant/red is not authorized to perform: kms:Decrypt on resource: KEY because no resource-based policy allows the kms:Decrypt action
tenant/red decrypts the record with tenant=red: kms: Decrypt: InvalidCiphertextException
kms: another encryption context, or an altered ciphertext
admin/carol decrypts the record with tenant=blue: kms: Decrypt: AccessDeniedException: User: admin/carol is not authorized to perform: kms:Decrypt on resource: KEY because no resource-based policy allows the kms:Decrypt action
tenant/blue disables the key: kms: DisableKey: AccessDeniedException: User: tenant/blue is not authorized to perform: kms:DisableKey on resource: KEY because no resource-based policy allows the kms:DisableKey action
admin/carol disables the key: done`, text)
}
