package integration_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

var update = flag.Bool("update", false, "write docs/clients.md")

const document = "../docs/clients.md"

// requireDocument compares docs/clients.md with what the clients did, but for the lines about a client of another version
// than the machine has.
func requireDocument(t *testing.T, clients []kind, results []result) {
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		t.Log("this is a part of the tests: docs/clients.md is not compared")
		return
	}
	text := render(clients, results)
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(text), 0o644))
	}
	committed, err := os.ReadFile(document)
	require.NoError(t, err)
	want := string(committed)
	for _, k := range clients {
		if k.found && !strings.Contains(want, fmt.Sprintf("| %s | %s |", k.name, k.version)) {
			about := regexp.MustCompile(`(?m)^(\| |- )` + regexp.QuoteMeta(k.name) + `( \||:).*$`)
			want, text = about.ReplaceAllString(want, k.name), about.ReplaceAllString(text, k.name)
		}
	}
	require.Equal(t, want, text, "after a change that is meant so: go test -run TestClients ./integration -update")
}

func render(clients []kind, results []result) string {
	all, whole, operations, exceptions, lists := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, op := range kms.Operations() {
		operations[op.Name()] = true
	}
	for i, k := range clients {
		all[k.name] = true
		if k.whole {
			whole[k.name] = true
		}
		maps.Copy(exceptions, results[i].exceptions)
		maps.Copy(lists, results[i].lists)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	each := func(done func(*result) map[string]bool, all map[string]bool) {
		for i, k := range clients {
			line("- %s: %s", k.name, list(done(&results[i]), all))
		}
	}
	line("# Clients\n")
	line("The clients that are tested with a Service, unchanged, and the results. [The test](../integration/clients_test.go) writes this")
	line("page, and fails if the page differs from its results. All calls go over HTTP on the loopback interface, with signatures that")
	line("are verified.\n")
	line("| client | version | operations | exceptions | paginators | throttled twice | throttled for ever | wrong secret |")
	line("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for i, k := range clients {
		r := &results[i]
		line("| %s | %s | %d of %d | %d of %d | %d of %d | %s | %s | %s |", k.name, k.version,
			len(r.operations), len(operations), len(r.exceptions), len(exceptions), len(r.lists), len(lists),
			said(r.retried, "third attempt succeeds"), said(r.gaveUp, "gives up when told to"), said(r.signed, "InvalidSignatureException"))
	}
	line("\nAWS CLI and boto3 are those of the machine; the versions of the others are pinned. If the machine has another version of")
	line("these two, the test does not compare their results with this page, and they may lack what the API has only since 2023.")
	line("\n## Operations\n")
	line("The operations that succeeded, and whose output had exactly the members and values of the response.\n")
	each(func(r *result) map[string]bool { return r.operations }, operations)
	line("\nAll are %s.", list(operations, nil))
	line("\n## Exceptions\n")
	line("The exceptions that the caller received with their message, in the form that the client's users handle: a type of its own,")
	line("if the client has one, or a code of Go Cloud.\n")
	each(func(r *result) map[string]bool { return r.exceptions }, exceptions)
	line("\nAll are %s.", list(exceptions, nil))
	line("\n## Paginators\n")
	line("The paginators that read a whole list in pages of two.\n")
	each(func(r *result) map[string]bool { return r.lists }, lists)
	line("\nAll are %s.", list(lists, nil))
	line("\n## Interoperability\n")
	line("All clients used the same `kms serve`. For each client, those whose ciphertexts it decrypted, with their encryption contexts:\n")
	each(func(r *result) map[string]bool { return r.decrypts }, all)
	line("\nFor each client, those of the whole API whose signatures (ECDSA_SHA_256) and MACs (HMAC_SHA_256) it verified:\n")
	each(func(r *result) map[string]bool { return r.verifies }, whole)
	return b.String()
}

func said(done bool, what string) string {
	if done {
		return what
	}
	return "no"
}

func list(done, all map[string]bool) string {
	switch {
	case len(done) == 0:
		return "none"
	case len(done) == len(all):
		return "all"
	}
	return strings.Join(slices.Sorted(maps.Keys(done)), ", ")
}

// versions are those that go.mod and package-lock.json pin.
func versions(t testing.TB) map[string]string {
	found := map[string]string{}
	modules, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v(\S+)`).FindAllStringSubmatch(string(modules), -1) {
		found[m[1]] = m[2]
	}
	text, err := os.ReadFile("js/package-lock.json")
	require.NoError(t, err)
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	require.NoError(t, json.Unmarshal(text, &lock))
	for name, p := range lock.Packages {
		found[strings.TrimPrefix(name, "node_modules/")] = p.Version
	}
	return found
}
