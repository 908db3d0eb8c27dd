package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// control makes a request of the control API of kms serve --test.
func (i *invocation) control(method, url, body string) (status int, answer string) {
	i.Helper()
	r, err := http.NewRequestWithContext(i.Context(), method, url, strings.NewReader(body))
	require.NoError(i, err)
	r.Header.Set("Content-Type", "application/json")
	return i.do(r)
}

func TestTestServerMovesItsClockAndForks(t *testing.T) {
	keys := file(t, "seed.yaml", "version: 1\nkeys:\n- id: 1234abcd-12ab-34cd-56ef-1234567890ab\n  aliases: [alias/app]\n")
	log := filepath.Join(t.TempDir(), "audit")
	i := start(t, program{}, "--test", "--seed", keys, "--audit", log, "--account", "444455556666")
	status, answer := i.control("POST", i.url+"/test/v1/fork", "")
	require.Equal(t, http.StatusOK, status, answer)
	require.JSONEq(t, `{"url":"`+i.url+`/forks/1"}`, answer)
	status, out := i.call(access{}, "ScheduleKeyDeletion", `{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab"}`)
	require.Equal(t, http.StatusOK, status, out)
	status, answer = i.control("POST", i.url+"/test/v1/advance", `{"days":30}`)
	require.Equal(t, http.StatusOK, status, answer)
	_, out = i.call(access{}, "DescribeKey", `{"KeyId":"alias/app"}`)
	require.Equal(t, "NotFoundException", out.Type)

	r := access{}.request(t, i.url+"/forks/1", "DescribeKey", `{"KeyId":"alias/app"}`)
	status, answer = i.do(r)
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	status, answer = i.health()
	require.Equal(t, http.StatusOK, status, answer)

	require.Zero(t, i.stop())
	require.Empty(t, i.stdout, "one line and no more")
	require.Contains(t, i.stderr.all(), "every program on this machine can move the clock")
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(text), `"eventTime":"2026-01-31T00:00:00Z"`, "events have the time of the service")
}

func TestTestServerVerifiesSignaturesIfItHasCredentials(t *testing.T) {
	i := start(t, program{}, "--test", "--credentials", file(t, "credentials", credentialsText))
	_, out := i.call(access{}, "CreateKey", `{}`)
	require.Equal(t, "MissingAuthenticationTokenException", out.Type)
	_, out = i.call(access{"AKIDEXAMPLE", longTerm, ""}, "CreateKey", `{}`)
	require.Contains(t, out.KeyMetadata.Arn, "arn:aws:kms:eu-west-1:444455556666:key/")
	status, answer := i.control("GET", i.url+"/test/v1/calls", "")
	require.Equal(t, http.StatusOK, status, "programs on this machine need no credentials for the control API")
	require.Contains(t, answer, `"caller":"arn:aws:iam::444455556666:root"`)
}

func TestTestServerOpensNoStore(t *testing.T) {
	dir := t.TempDir()
	store, passphrase := filepath.Join(dir, "store"), file(t, "passphrase", "a good passphrase")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--store", store, "--passphrase-file", passphrase}, "it takes no --store"},
		{[]string{"--store", store}, "it takes no --store"},
		{[]string{"--passphrase-file", passphrase}, "it takes no --store"},
		{[]string{"--must-exist"}, "--must-exist needs --store"},
	} {
		status, stdout, stderr := run(t, "", append([]string{"serve", "--test"}, tt.args...)...)
		require.Equal(t, 2, status)
		require.Contains(t, stderr, tt.want)
		require.Empty(t, stdout)
	}
	made, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, made)

	status, _, stderr := run(t, "", "serve", "--test", "--listen", "127.0.0.1:0", "--seed", file(t, "seed.yaml", "version: 1\nkeys: [{id: x}]\n"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "seed.yaml: ")
}

// The control API is for this machine, wherever the KMS API is served.
func TestTestServerRefusesToBeControlledByAnotherName(t *testing.T) {
	i := start(t, program{}, "--test", "--insecure-listen", "0.0.0.0:0", "--allow-host", "kms")
	for path, want := range map[string]int{"/": http.StatusOK, "/test/v1/reset": http.StatusForbidden} {
		r := access{}.request(t, i.url, "ListKeys", "{}")
		r.URL.Path, r.Host = path, "kms:8080"
		status, answer := i.do(r)
		require.Equal(t, want, status, answer)
	}
	require.Contains(t, i.stderr.all(), "other machines may be able to connect")
}
