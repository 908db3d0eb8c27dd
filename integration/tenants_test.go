package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// The two tenants and the administrator of examples/tenants are decided alike in the process of the example and as
// callers of `kms serve` with the AWS CLI, down to the words of the refusals.
func TestTenantsSeeTheSameThroughTheCLI(t *testing.T) {
	needsPython(t, "awscli")
	inProcess, err := exec.CommandContext(t.Context(), "go", "run", "github.com/pocketkms/kms/examples/tenants").Output()
	require.NoError(t, err)
	policy, err := os.ReadFile("../examples/tenants/policy.json")
	require.NoError(t, err)

	file := "version: 1\ncredentials:\n"
	for id, session := range map[string]string{"ADMIN": "admin/carol", "BLUE": "tenant/blue", "RED": "tenant/red"} {
		file += fmt.Sprintf("  - {accessKeyId: %s, secretAccessKey: %s, sessionToken: token of %[1]s, principal: 'arn:aws:sts::111122223333:assumed-role/%[3]s'}\n",
			id, secretAccessKey, session)
	}
	s := serveFor(t, file+`principals:
  - arn: arn:aws:iam::111122223333:role/admin
    policies:
      - document: '{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}'
  - {arn: "arn:aws:sts::111122223333:assumed-role/tenant/blue", tags: {tenant: blue}}
  - {arn: "arn:aws:sts::111122223333:assumed-role/tenant/red", tags: {tenant: red}}
`)
	as := func(id string) commandLine {
		return newCommandLine(t, server{url: s.url, secret: secretAccessKey, id: id, token: "token of " + id})
	}
	admin, blue, red := as("ADMIN"), as("BLUE"), as("RED")

	throughCLI := "The key policy:\n\n" + string(policy) + "\n"
	report := func(who, did string, err error) {
		throughCLI += who + " " + did + ": "
		var refused *refusal
		if errors.As(err, &refused) {
			throughCLI += refused.Code + ": " + refused.Message + "\n"
			return
		}
		require.NoError(t, err)
		throughCLI += "done\n"
	}
	created, err := admin.call(t, "CreateKey", &kms.CreateKeyInput{Policy: string(policy)})
	require.NoError(t, err)
	key := created["KeyMetadata"].(map[string]any)["Arn"].(string)
	of := func(tenant string) map[string]string { return map[string]string{"tenant": tenant} }
	sealed, err := blue.call(t, "Encrypt", &kms.EncryptInput{KeyId: key, Plaintext: []byte("a record"), EncryptionContext: of("blue")})
	require.NoError(t, err)
	throughCLI += "tenant/blue has encrypted a record with tenant=blue\n"
	for _, try := range []struct {
		client      commandLine
		who, tenant string
	}{{blue, "tenant/blue", "blue"}, {red, "tenant/red", "blue"}, {red, "tenant/red", "red"}, {admin, "admin/carol", "blue"}} {
		_, err = try.client.call(t, "Decrypt",
			&kms.DecryptInput{KeyId: key, CiphertextBlob: bytesOf(t, sealed, "CiphertextBlob"), EncryptionContext: of(try.tenant)})
		report(try.who, "decrypts it with tenant="+try.tenant, err)
	}
	_, err = blue.call(t, "DisableKey", &kms.DisableKeyInput{KeyId: key})
	report("tenant/blue", "disables the key", err)
	_, err = admin.call(t, "DisableKey", &kms.DisableKeyInput{KeyId: key})
	report("admin/carol", "disables the key", err)

	comparable := func(text string) string {
		text = regexp.MustCompile(`arn:aws:kms:\S+`).ReplaceAllString(text, "KEY")
		text = regexp.MustCompile(`kms: [A-Z]\w+: `).ReplaceAllString(text, "") // the operation
		// The API gives this exception no message, and clients do not see its cause.
		return regexp.MustCompile(`InvalidCiphertextException\n.*|InvalidCiphertextException: `).ReplaceAllString(text, "InvalidCiphertextException")
	}
	calls, _, _ := strings.Cut(string(inProcess), "\nWhy ") // clients cannot ask
	require.Equal(t, comparable(calls), comparable(throughCLI))
	require.Equal(t, 4, strings.Count(throughCLI, "Exception: "))
}
