package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// output returns what main prints.
func output(t *testing.T) string {
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	os.Stdout = file
	main()
	require.NoError(t, file.Close())
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	return string(text)
}

func TestEachIsRefusedWhereItShouldBe(t *testing.T) {
	text, ok := strings.CutPrefix(output(t), "The key policy:\n\n"+keyPolicy+"\n")
	require.True(t, ok, "%s", text)
	text = regexp.MustCompile(`arn:aws:kms:\S+`).ReplaceAllString(text, "KEY")
	text = strings.ReplaceAll(text, "arn:aws:sts::111122223333:assumed-role/", "")
	text, why, _ := strings.Cut(text, "\n\nWhy is the record closed to red?\n\n")
	require.Contains(t, why, `expected "red", seen "blue"`)
	require.Equal(t, `tenant/blue has encrypted a record with tenant=blue
tenant/blue decrypts it with tenant=blue: done
tenant/red decrypts it with tenant=blue: kms: Decrypt: AccessDeniedException: User: tenant/red is not authorized to perform: kms:Decrypt on resource: KEY because no resource-based policy allows the kms:Decrypt action
tenant/red decrypts it with tenant=red: kms: Decrypt: InvalidCiphertextException
kms: another encryption context, or an altered ciphertext
admin/carol decrypts it with tenant=blue: kms: Decrypt: AccessDeniedException: User: admin/carol is not authorized to perform: kms:Decrypt on resource: KEY because no resource-based policy allows the kms:Decrypt action
tenant/blue disables the key: kms: DisableKey: AccessDeniedException: User: tenant/blue is not authorized to perform: kms:DisableKey on resource: KEY because no resource-based policy allows the kms:DisableKey action
admin/carol disables the key: done`, text)
}
