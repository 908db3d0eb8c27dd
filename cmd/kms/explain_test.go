package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

const (
	aliceARN = "arn:aws:iam::111122223333:user/alice"
	tenant7  = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"7"}}}}`
	denyAll  = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`
	allowAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
)

func runCommand(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := program{stdout: &out, stderr: &errs}
	status = p.run(context.Background(), args)
	return status, out.String(), errs.String()
}

// newStore returns the flags for a new store, with one key under alias/app and what change does.
func newStore(t *testing.T, config kms.Config, change func(*kms.Service, *kms.KeyMetadata)) (path string, flags []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store")
	svc, err := kms.Open(path, keystore.Passphrase([]byte("a good passphrase")), config)
	require.NoError(t, err)
	key, err := svc.EnsureKey(t.Context(), "alias/app", nil)
	require.NoError(t, err)
	if change != nil {
		change(svc, key)
	}
	require.NoError(t, svc.Close())
	return path, []string{"--store", path, "--passphrase-file", file(t, "passphrase", "a good passphrase")}
}

func TestExplainAnswersByItsStatus(t *testing.T) {
	path, store := newStore(t, kms.Config{}, nil)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	explain := func(args ...string) (int, string, string) {
		return runCommand(append(append([]string{"explain", "--key", "alias/app", "--operation", "Decrypt"}, store...), args...)...)
	}
	status, stdout, stderr := explain()
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "arn:aws:iam::111122223333:root may call Decrypt")

	status, stdout, stderr = explain("--principal", aliceARN)
	require.Equal(t, 1, status)
	require.Empty(t, stderr, "the answer no is no failure")
	require.Contains(t, stdout, aliceARN+" may not call Decrypt: no identity-based policy of the caller allows it\n")

	tenant := file(t, "tenant", tenant7)
	status, stdout, _ = explain("--principal", aliceARN, "--policy", tenant, "--context", "tenant=8")
	require.Equal(t, 1, status)
	require.Contains(t, stdout, `StringEquals kms:EncryptionContext:tenant: expected "7", seen "8"`)
	status, stdout, _ = explain("--principal", aliceARN, "--policy", tenant)
	require.Equal(t, 1, status)
	require.Contains(t, stdout, `StringEquals kms:EncryptionContext:tenant: expected "7", the key is absent`)
	status, _, _ = explain("--principal", aliceARN, "--policy", tenant, "--input", `{"EncryptionContext":{"tenant":"7"}}`)
	require.Zero(t, status)

	all := file(t, "all", allowAll)
	status, _, _ = explain("--principal", aliceARN, "--policy", all, "--boundary", all, "--session-policy", all)
	require.Zero(t, status)
	for flag, reason := range map[string]string{"--boundary": "boundary", "--session-policy": "session-policy", "--policy": "explicit-deny"} {
		text := tenant7
		if flag == "--policy" {
			text = denyAll
		}
		status, stdout, _ = explain("--principal", aliceARN, "--policy", all, flag, file(t, "limit", text), "--json")
		require.Equal(t, 1, status)
		var e struct{ Verdict, Reason, Error string }
		require.NoError(t, json.Unmarshal([]byte(stdout), &e))
		require.Equal(t, reason, e.Reason)
		require.Equal(t, "AccessDeniedException", e.Error)
	}

	status, _, stderr = runCommand(append([]string{"explain", "--key", "alias/none", "--operation", "Decrypt"}, store...)...)
	require.Equal(t, 2, status, "there is no answer about a key that does not exist")
	require.Contains(t, stderr, "alias/none is not found")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "the store is not changed")
}

func TestExplainDoesNotCarryOutWhatIsDue(t *testing.T) {
	past := time.Now().Add(-365 * 24 * time.Hour)
	path, store := newStore(t, kms.Config{Clock: func() time.Time { return past }}, func(svc *kms.Service, key *kms.KeyMetadata) {
		_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
		require.NoError(t, err)
	})
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	status, _, _ := runCommand(append([]string{"explain", "--key", "alias/app", "--operation", "Decrypt"}, store...)...)
	require.Equal(t, 2, status, "the key is deleted")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "its records are still there")
}

func TestWhoCanAnswersByItsStatus(t *testing.T) {
	_, store := newStore(t, kms.Config{}, func(svc *kms.Service, key *kms.KeyMetadata) {
		_, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{
			KeyId: key.KeyId, GranteePrincipal: aliceARN, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}, Name: "reports",
		})
		require.NoError(t, err)
	})
	whoCan := func(args ...string) (int, string, string) {
		return runCommand(append(append([]string{"who-can", "--key", "alias/app", "--operation", "kms:Decrypt"}, store...), args...)...)
	}
	status, stdout, stderr := whoCan()
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "  account 111122223333: its root, and whom its policies allow\n")
	require.Contains(t, stdout, aliceARN+"\n      grant \"reports\" (")
	require.Contains(t, stdout, "Not known:\n  Account 111122223333 can allow its principals by identity-based policies, which are not known.\n")

	status, _, _ = whoCan("--only", aliceARN)
	require.Equal(t, 1, status)
	status, stdout, _ = whoCan("--only", aliceARN, "--only", "arn:aws:iam::111122223333:root", "--json")
	require.Zero(t, status)
	var report struct {
		Permission string
		Allowed    []struct{ Principal, Source string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, "kms:Decrypt", report.Permission)
	require.Equal(t, []struct{ Principal, Source string }{{"arn:aws:iam::111122223333:root", "delegation to the account"}, {aliceARN, "grant"}}, report.Allowed)
}

// The principals of a credentials file: bob is a user with a policy, and a session of the role app
// has the role's policy, its boundary and its own tag.
var principalsText = credentialsText + `  - {accessKeyId: BOB, secretAccessKey: ` + longTerm + `, principal: "` + bobARN + `"}
  - {accessKeyId: APP, secretAccessKey: ` + longTerm + `, sessionToken: ` + token + `, principal: "` + appARN + `"}
principals:
  - arn: ` + bobARN + `
    policies: [{document: '` + tenant7 + `'}]
  - arn: arn:aws:iam::111122223333:role/app
    policies: [{document: '` + allowAll + `'}]
    boundary: {document: '` + tenant7 + `'}
`

const (
	bobARN = "arn:aws:iam::111122223333:user/bob"
	appARN = "arn:aws:sts::111122223333:assumed-role/app/one"
)

// seededKey returns the flags for a key under alias/app.
func seededKey(t *testing.T) []string {
	return []string{"--seed", file(t, "keys.yaml",
		"version: 1\nkeys:\n  - id: 1234abcd-12ab-34cd-56ef-1234567890ab\n    aliases: [alias/app]\n    material: {hex: "+strings.Repeat("00", 32)+"}\n")}
}

func TestExplainTakesPoliciesFromACredentialsFile(t *testing.T) {
	store := seededKey(t)
	credentials := file(t, "credentials", principalsText)
	explain := func(args ...string) (int, string, string) {
		command := []string{"explain", "--key", "alias/app", "--operation", "kms:Decrypt", "--credentials", credentials}
		return runCommand(append(append(command, store...), args...)...)
	}
	for _, tt := range []struct {
		principal, tenant string
		status            int
		why               string
	}{
		{bobARN, "7", 0, "statement 0 at 1:37 of identity-based policy 0 allows it"},
		{bobARN, "8", 1, "no identity-based policy of the caller allows it"},
		{appARN, "7", 0, "statement 0 at 1:37 of identity-based policy 0 allows it"},
		{appARN, "8", 1, "the permissions boundary of the caller does not allow it"},
		{"arn:aws:sts::111122223333:assumed-role/app/other", "8", 1, "the permissions boundary of the caller does not allow it"},
		{"arn:aws:iam::111122223333:role/app", "8", 1, "the permissions boundary of the caller does not allow it"},
		{"arn:aws:iam::444455556666:root", "7", 2, ""}, // of another account, which has no alias/app
		{"arn:aws:iam::111122223333:root", "8", 0, "whose root the caller is"},
		{"s3.amazonaws.com", "8", 2, ""},
	} {
		status, stdout, stderr := explain("--principal", tt.principal, "--context", "tenant="+tt.tenant)
		require.Equal(t, tt.status, status, "%s: %s%s", tt.principal, stdout, stderr)
		require.Contains(t, stdout, tt.why)
	}
	status, _, stderr := explain("--principal", aliceARN)
	require.Equal(t, 2, status, "alice may be misspelled")
	require.Contains(t, stderr, "credentials does not name "+aliceARN)
	require.NotContains(t, stderr, longTerm)
	status, _, _ = explain()
	require.Zero(t, status, "the root of the account needs no entry")
}

func TestWhoCanLooksAtTheCandidatesOfACredentialsFile(t *testing.T) {
	store := seededKey(t)
	status, stdout, stderr := runCommand(append([]string{"who-can", "--key", "alias/app", "--operation", "Decrypt", "--credentials",
		file(t, "credentials", principalsText), "--only", "arn:aws:iam::111122223333:root", "--only", bobARN}, store...)...)
	require.Equal(t, 1, status, stderr)
	require.Contains(t, stdout, "  "+bobARN+"\n      statement 0 at 1:37 of identity-based policy 0\n      if StringEquals kms:EncryptionContext:tenant: \"7\"\n")
	require.Contains(t, stdout, "  arn:aws:iam::111122223333:role/app\n      statement 0 at 1:37 of identity-based policy 0\n")
	require.Contains(t, stdout, "  "+appARN+"\n")
	require.Contains(t, stdout, "only those of the candidates are known")
}

func TestPolicyDiffAnswersByItsStatus(t *testing.T) {
	store := seededKey(t)
	diff := func(policy string, args ...string) (int, string, string) {
		return runCommand(append(append([]string{"policy-diff", "--key", "alias/app", "--policy", file(t, "policy", policy)}, store...), args...)...)
	}
	delegate := `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`
	forAlice := `{"Effect":"Allow","Principal":{"AWS":"` + aliceARN + `"},"Action":"kms:Decrypt","Resource":"*"}`

	status, stdout, stderr := diff(`{"Statement":` + delegate + `}`)
	require.Zero(t, status, stderr)
	require.Equal(t, "nobody gains or loses anything\n", stdout)
	status, stdout, _ = diff(`{"Statement":[` + delegate + `,` + forAlice + `]}`)
	require.Equal(t, 1, status)
	require.Equal(t, aliceARN+" gains\n    kms:Decrypt\n", stdout)
	status, stdout, _ = diff(`{"Statement":[`+delegate+`,`+forAlice+`]}`, "--only", aliceARN, "--json")
	require.Zero(t, status)
	var d kms.PolicyDiff
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, []kms.PolicyRight{{Principal: aliceARN, Permissions: []string{"kms:Decrypt"}}}, d.Gained)
	status, stdout, _ = diff(`{"Statement":`+forAlice+`}`, "--only", aliceARN, "--only", "111122223333")
	require.Equal(t, 1, status, "the root of the account could not change it again")
	require.Contains(t, stdout, "The caller could not change the new policy again.\n")
	status, _, _ = diff(`{"Statement":`+delegate+`}`, "--principal", aliceARN)
	require.Equal(t, 1, status, "nor could alice")
	all := file(t, "credentials", strings.Replace(principalsText, tenant7, allowAll, 1))
	status, _, _ = diff(`{"Statement":`+delegate+`}`, "--principal", bobARN, "--credentials", all)
	require.Zero(t, status, "bob could")

}

// An error about a policy names the flag and the file, and the place in it, as compilers do.
func TestMistakesInPoliciesAreFoundInTheirFiles(t *testing.T) {
	store := seededKey(t)
	two := "{\"Statement\": [{\n  \"Effect\": \"Permit\", \"Action\": \"kms:*\", \"Resource\": \"*\"}, {\n  \"Effect\": \"Allow\", \"Action\": 7, \"Resource\": \"*\"}]}"
	good := file(t, "good", allowAll)
	for flag, command := range map[string][]string{
		"--policy":         {"explain", "--operation", "Encrypt", "--principal", aliceARN, "--policy", good},
		"--boundary":       {"explain", "--operation", "Encrypt", "--principal", aliceARN},
		"--session-policy": {"explain", "--operation", "Encrypt", "--principal", appARN, "--session-policy", good},
		"--policy ":        {"policy-diff"},
	} {
		flag := strings.TrimSpace(flag)
		bad := func(text string) (path, stderr string) {
			path = file(t, "bad", text)
			status, stdout, stderr := runCommand(slices.Concat(command, store, []string{"--key", "alias/app", flag, path})...)
			require.Equal(t, 2, status, "%s %s", flag, stdout)
			require.Empty(t, stdout)
			return path, stderr
		}
		for text, want := range map[string]string{"": "1:1: expected a JSON value\n", longTerm: "1:1: expected a JSON value\n", "{": "1:2: expected a name in quotation marks\n"} {
			path, stderr := bad(text)
			require.Equal(t, "kms: "+flag+": "+path+":"+want, stderr)
		}
		path, stderr := bad(two)
		require.Contains(t, stderr, flag+": "+path+":2:13: Statement[0].Effect: the effect is \"Permit\", not Allow or Deny\n")
		require.Contains(t, stderr, "\n"+flag+": "+path+":3:32: Statement[1].Action: a string is required, not a number\n")
		if command[0] == "policy-diff" {
			path, stderr = bad(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"b"}}}}`)
			require.Contains(t, stderr, "kms: "+flag+": "+path+": MalformedPolicyDocumentException: OverlyPermissiveCondition: ")
			path, stderr = bad(strings.Repeat(" ", 33<<10))
			require.Contains(t, stderr, "kms: "+flag+": "+path+": LimitExceededException: A key policy can have at most 32768 bytes.")
		}
	}
}

// --only takes the names of a principal that the answers and policies have.
func TestOnlyTakesAPrincipalAsTheAnswerShowsIt(t *testing.T) {
	store := seededKey(t)
	for _, account := range []string{"account 111122223333", "111122223333", "arn:aws:iam::111122223333:root"} {
		status, stdout, stderr := runCommand(append([]string{"who-can", "--key", "alias/app", "--operation", "Decrypt", "--only", account}, store...)...)
		require.Zero(t, status, "%s: %s%s", account, stdout, stderr)
	}
	open := file(t, "policy", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},`+
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}]}`)
	for only, want := range map[string]int{"everyone": 0, "*": 0, "444455556666": 1} {
		status, stdout, _ := runCommand(append([]string{"policy-diff", "--key", "alias/app", "--policy", open, "--only", only}, store...)...)
		require.Equal(t, want, status, "%s: %s", only, stdout)
		require.Contains(t, stdout, "everyone gains\n")
	}
}

// An ARN says in which Region the key is.
func TestExplainLooksWhereTheKeyIs(t *testing.T) {
	keys := file(t, "keys.yaml", "version: 1\nkeys:\n  - id: 1234abcd-12ab-34cd-56ef-1234567890ab\n    region: eu-west-1\n    material: {hex: "+strings.Repeat("00", 32)+"}\n")
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for region, want := range map[string]int{"": 0, "eu-west-1": 0, "us-east-1": 2} {
		args := []string{"explain", "--seed", keys, "--operation", "Decrypt", "--key", arn}
		if region != "" {
			args = append(args, "--region", region)
		}
		status, stdout, stderr := runCommand(args...)
		require.Equal(t, want, status, "%s: %s%s", region, stdout, stderr)
	}
	status, stdout, stderr := runCommand("explain", "--seed", keys, "--operation", "Decrypt", "--key", "arn:aws:kms:no/where:111122223333:key/x")
	require.Equal(t, 2, status, stdout)
	require.Contains(t, stderr, "is not the name of a Region")
}

func TestExplainOfASeed(t *testing.T) {
	status, stdout, stderr := runCommand(append([]string{"explain", "--key", "alias/app", "--operation", "Encrypt"}, seededKey(t)...)...)
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "may call Encrypt")
}

func TestExplainRefusesWhatItCannotAnswer(t *testing.T) {
	_, store := newStore(t, kms.Config{}, nil)
	passphrase := store[3]
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"explain"}, "needs --store or --seed"},
		{[]string{"who-can", "--store", missing}, "kms who-can needs --key-file or --passphrase-file"},
		{[]string{"explain", "--depth", "3"}, "kms explain -h lists the flags"},
		{append([]string{"explain", "x"}, store...), "takes only flags"},
		{append([]string{"explain"}, store...), "kms explain needs --operation"},
		{append([]string{"explain", "--operation", "Sing"}, store...), "there is no operation"},
		{append([]string{"explain", "--operation", "GenerateRandom", "--key", "alias/app"}, store...), "takes no key"},
		{append([]string{"explain", "--operation", "Sign", "--context", "a=b"}, store...), "has no encryption context"},
		{append([]string{"explain", "--operation", "Encrypt", "--context", "a"}, store...), "not KEY=VALUE"},
		{append([]string{"explain", "--operation", "Encrypt", "--input", "{"}, store...), "--input"},
		{append([]string{"explain", "--operation", "Encrypt", "--input", `{"Keyid2":1}`}, store...), "unknown field"},
		{append([]string{"explain", "--operation", "Encrypt", "--input", `{}{}`}, store...), "more than one JSON value"},
		{append([]string{"explain", "--operation", "Encrypt", "--principal", "alice"}, store...), "not the ARN of a principal"},
		{append([]string{"explain", "--operation", "Encrypt", "--policy", missing}, store...), "need --principal"},
		{append([]string{"explain", "--operation", "Encrypt", "--principal", aliceARN, "--policy", missing}, store...), "no such file"},
		{append([]string{"explain", "--operation", "ReEncryptTo"}, store...), "--operation: the operation is ReEncrypt"},
		{append([]string{"explain", "--operation", "Encrypt"}, store...), "kms explain needs --key for Encrypt"},
		{append([]string{"explain", "--operation", "Decrypt"}, store...), "kms explain needs --key for Decrypt"},
		{append([]string{"explain", "--operation", "Decrypt", "--input", `{"CiphertextBlob":"AAAA"}`}, store...), "InvalidCiphertextException"},
		{append([]string{"explain", "--operation", "ReEncrypt", "--key", "alias/app"}, store...), "kms explain needs --input with DestinationKeyId for ReEncrypt"},
		{append([]string{"explain", "--operation", "CreateAlias"}, store...), "kms explain needs --key for CreateAlias"},
		{append([]string{"explain", "--operation", "UpdateAlias", "--key", "alias/app"}, store...), "kms explain needs --input with AliasName for UpdateAlias"},
		{append([]string{"explain", "--operation", "DeleteAlias"}, store...), "kms explain needs --input with AliasName for DeleteAlias"},
		{append([]string{"explain", "--operation", "Encrypt", "--source-ip", "203.0.113"}, store...), "--source-ip: \"203.0.113\" is not an address"},
		{append([]string{"explain", "--operation", "Encrypt", "--principal", aliceARN, "--policy", passphrase, "--credentials", passphrase}, store...), "it excludes --policy"},
		{append([]string{"explain", "--operation", "Encrypt", "--principal", aliceARN, "--credentials", passphrase}, store...), "--credentials: "},
		{append([]string{"who-can", "--operation", "Encrypt", "--key", "alias/app", "--credentials", missing}, store...), "no such file"},
		{append([]string{"policy-diff", "--key", "alias/app"}, store...), "kms policy-diff needs --policy"},
		{append([]string{"policy-diff", "--policy", passphrase}, store...), "kms policy-diff needs --key"},
		{append([]string{"policy-diff", "--policy", missing, "--key", "alias/app"}, store...), "no such file"},
		{append([]string{"policy-diff", "--operation", "Decrypt"}, store...), "kms policy-diff -h lists the flags"},
		{append([]string{"who-can", "--operation", "Encrypt"}, store...), "kms who-can needs --key"},
		{append([]string{"who-can", "--operation", "ReEncrypt", "--key", "alias/app"}, store...), "ask for ReEncryptFrom and for ReEncryptTo"},
		{append([]string{"who-can", "--operation", "CreateKey", "--key", "alias/app"}, store...), "is not an operation on a key"},
		{[]string{"explain", "--operation", "Encrypt", "--store", missing, "--passphrase-file", passphrase}, "no such file"},
		{[]string{"explain", "--operation", "Encrypt", "--store", store[1], "--passphrase-file", file(t, "wrong", "another passphrase")}, "not the passphrase of"},
	} {
		status, stdout, stderr := runCommand(tt.args...)
		require.Equal(t, 2, status, "%v: %s", tt.args, stderr)
		require.Contains(t, stderr, tt.want)
		require.Empty(t, stdout)
	}
	_, err := os.Stat(missing)
	require.ErrorIs(t, err, os.ErrNotExist, "it is not created")
	for _, command := range []string{"explain", "who-can", "policy-diff"} {
		status, stdout, _ := runCommand(command, "-h")
		require.Zero(t, status)
		require.True(t, strings.HasPrefix(stdout, "usage: kms "+command+" [flags]\n"))
	}
}
