package kmstest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/awsapi"
)

func TestForksFaultsAndCallsAreBounded(t *testing.T) {
	t.Parallel()
	s, err := NewServer(awsapi.Options{InsecureTrustAll: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	first := s.services[""]
	request := func(method, path, body string) string {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:4711"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Amz-Target", "TrentService.ListKeys")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return fmt.Sprint(w.Code, " ", w.Body)
	}

	for i := range maxForks - 1 {
		s.services[fmt.Sprint("/forks/of-another-test-", i)] = &served{deleted: true}
	}
	require.Contains(t, request(http.MethodPost, "/test/v1/fork", ""), "/forks/1")
	require.Contains(t, request(http.MethodPost, "/test/v1/fork", ""), "409 {\"error\":\"there are 1000 forks: delete those that are done")
	require.Contains(t, request(http.MethodDelete, "/forks/1/test/v1", ""), "200")
	require.Contains(t, request(http.MethodPost, "/test/v1/fork", ""), "/forks/2")

	for range maxFaults - 1 {
		first.sim.faults = append(first.sim.faults, &fault{Fault: Fault{Operations: []string{"Encrypt"}}})
	}
	const inject = `{"error":"DisabledException","operations":["Encrypt"]}`
	require.Contains(t, request(http.MethodPost, "/test/v1/faults", inject), "200")
	require.Contains(t, request(http.MethodPost, "/test/v1/faults", inject), "400 {\"error\":\"there are 1000 faults: remove those that are done")
	require.Contains(t, request(http.MethodDelete, "/test/v1/faults", ""), "200")

	require.Equal(t, maxCalls, first.sim.keep)
	first.sim.keep = 2
	for range 5 {
		require.Contains(t, request(http.MethodPost, "/", "{}"), "200")
	}
	require.Contains(t, request(http.MethodGet, "/test/v1/calls", ""), `"dropped":3`)
	require.Len(t, first.sim.callsOf(nil), 2)
}

// docs/testing.md has a row for each request of the control API, and no others.
func TestTheDocumentListsTheControlAPI(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/testing.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| request | body | answer |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ [^?`]+)").FindAllStringSubmatch(table, -1) {
		rows = append(rows, row[1])
	}
	want := []string{"DELETE /test/v1/faults/ID"}
	for path, methods := range controls {
		for method := range methods {
			want = append(want, method+" "+strings.TrimSuffix("/test/v1/"+path, "/"))
		}
	}
	require.ElementsMatch(t, want, rows)
}
