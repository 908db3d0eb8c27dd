package kms

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// suppliedBy returns which calls supply a condition key, as docs/authorization.md says it.
func (k *conditionKey) suppliedBy() string {
	if k.permissions == "" {
		return "every call"
	}
	var parts []string
	rest := k.permissions
	for _, group := range []struct{ permissions, name string }{
		{keyPermissions, "calls for a key"}, {keyUses, "cryptographic operations"}, {contextUses, "operations with an encryption context"},
		{storePermissions, "calls for a custom key store"},
	} {
		if before, after, found := strings.Cut(rest, group.permissions); found {
			parts, rest = append(parts, group.name), before+after
		}
	}
	return strings.Join(append(parts, strings.Fields(rest)...), ", ")
}

// The document has a row for each condition key, in the order of the table of the code, which says
// who supplies it and which policies see it.
func TestTheDocumentListsTheConditionKeys(t *testing.T) {
	text, err := os.ReadFile("docs/authorization.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| condition key | supplied by |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for line := range strings.Lines(table) {
		columns := strings.Split(line, " | ")
		if strings.HasPrefix(line, "| `") {
			require.Len(t, columns, 3, "%s", line)
			require.Greater(t, len(columns[2]), len("a |\n"), "%s has no meaning", columns[0])
			rows = append(rows, columns[0]+" | "+columns[1])
		}
	}
	var want []string
	for i := range conditionKeys {
		k := &conditionKeys[i]
		name := "`" + k.name + "`"
		if strings.HasSuffix(k.name, ":") || strings.HasSuffix(k.name, "/") {
			name = "`" + k.name + "...`"
		}
		if k.kind == fixedIdentity || k.kind == perRequestIdentity {
			name += " (not in key policies)"
		}
		want = append(want, fmt.Sprintf("| %s | %s", name, k.suppliedBy()))
	}
	require.Equal(t, want, rows, "the rows of docs/authorization.md must begin with:\n%s", strings.Join(want, "\n"))
}
