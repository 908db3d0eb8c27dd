package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret/secrettest"
)

const (
	longTerm  = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	temporary = "je7MtGbClwBF/2Zp9Utk+h3yCo8nvbEXAMPLEKEY"
	token     = "IQoJb3JpZ2luX2VjEXAMPLE=="

	credentialsText = `# As docs/serve.md has it.
version: 1
credentials:
  - accessKeyId: AKIDEXAMPLE
    secretAccessKey: ` + longTerm + `
    principal: arn:aws:iam::444455556666:root
  - {accessKeyId: ASIAEXAMPLE, secretAccessKey: ` + temporary + `, sessionToken: ` + token + `, principal: "arn:aws:iam::111122223333:root"}
`
)

func TestCredentialsAreFoundByAccessKeyID(t *testing.T) {
	known, err := readCredentials(file(t, "credentials", credentialsText))
	require.NoError(t, err)
	for _, id := range []string{"AKIDEXAMPLE", "ASIAEXAMPLE"} {
		require.NotNil(t, known[id])
		secrettest.RequireHidden(t, known[id], []byte(longTerm))
		secrettest.RequireHidden(t, known[id], []byte(temporary))
	}
	require.Nil(t, known["akidexample"])
	require.Nil(t, known[""])
}

func TestCredentialsMayBeJSON(t *testing.T) {
	parsed, err := parseCredentials([]byte(`{"version": 1, "credentials": [
		{"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "` + longTerm + `", "principal": "arn:aws:iam::444455556666:root"}
	]}`))
	require.NoError(t, err)
	require.Len(t, parsed.known, 1)
}

func TestMalformedCredentialsAreRefused(t *testing.T) {
	entry := func(members string) string { return "version: 1\ncredentials:\n- {" + members + "}\n" }
	const id, secretKey, arn = "accessKeyId: A, ", "secretAccessKey: " + longTerm + ", ", "principal: 'arn:aws:iam::111122223333:root'"
	for _, secretKey := range []string{secretKey, "secretAccessKey: 1234567890123456, "} {
		_, err := parseCredentials([]byte(entry(id + secretKey + arn)))
		require.NoError(t, err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "is empty"},
		{"not YAML", "version: 1\n\t" + longTerm, "line 2 is not"},
		{"a secret in place of an entry", "version: 1\ncredentials: [" + longTerm + "]", "line 2: a mapping is wanted"},
		{"a secret in place of a member", entry(longTerm + ": x"), "line 3: a credential has accessKeyId, secretAccessKey, sessionToken, principal and nothing else"},
		{"a secret that looks like a YAML alias", entry("secretAccessKey: *" + longTerm[:8]), "the file is not"},
		{"a secret that reads like a line number", "version: !!int 'line 0531 " + longTerm + "'", "the file is not"},
		{"a list of secrets", entry(id + "secretAccessKey: [" + longTerm + "], " + arn), "line 3: text is wanted"},
		{"a member twice", entry(id + id + secretKey + arn), "line 3: a member is there twice"},
		{"a member in another case", entry("accesskeyid: A, " + secretKey + arn), "line 3: a credential has accessKeyId, "},
		{"no version", "credentials: []", `does not begin with "version: 1"`},
		{"a later version", "version: 2", "version 2"},
		{"two documents", entry(id+secretKey+arn) + "---\n", "more than one document"},
		{"no credentials", "version: 1", "no credentials"},
		{"too many", "version: 1\ncredentials: [" + strings.Repeat("{},", 10_001) + "]", "at most 10000 entries"},
		{"an empty one", entry(id+secretKey+arn) + "-\n", "line 4: an entry of a list is empty"},
		{"no access key ID", entry(secretKey + arn), "credentials[0]: an accessKeyId"},
		{"an access key ID that no request can have", entry("accessKeyId: A/B, " + secretKey + arn), "credentials[0]: an accessKeyId"},
		{"no secret", entry(id + arn), "at least 16 bytes"},
		{"a short secret", entry(id + "secretAccessKey: 123456789012345, " + arn), "at least 16 bytes"},
		{"no principal", entry(id + secretKey), "ARN"},
		{"an invalid principal", entry(id + secretKey + "principal: " + longTerm), "ARN"},
		{"an access key ID twice", entry(id+secretKey+arn) + "- {" + id + secretKey + arn + "}\n", "line 4: credentials[1]: its accessKeyId is there twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseCredentials([]byte(tt.text))
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), longTerm[:8])
		})
	}
}

func TestCredentialsFileIsBounded(t *testing.T) {
	_, err := readCredentials(file(t, "credentials", credentialsText+strings.Repeat("#", maxCredentialsBytes)))
	require.ErrorContains(t, err, "longer than 1048576 bytes")
}
