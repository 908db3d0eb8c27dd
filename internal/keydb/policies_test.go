package keydb

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysWithTheSamePolicyShareIt(t *testing.T) {
	first, err := parsePolicy(validKeyPolicy)
	require.NoError(t, err)
	again, err := parsePolicy(strings.Clone(validKeyPolicy))
	require.NoError(t, err)
	require.Same(t, first, again)

	other, err := parsePolicy(strings.Replace(validKeyPolicy, "Allow", "Deny", 1))
	require.NoError(t, err)
	require.NotSame(t, first, other)

	for range 2 { // an error is not kept
		_, err = parsePolicy(`{"Statement":[]}`)
		require.Error(t, err)
	}
}

func TestSharedPoliciesAreBounded(t *testing.T) {
	long := validKeyPolicy + strings.Repeat(" ", cachedPolicyBytes)
	first, err := parsePolicy(long)
	require.NoError(t, err)
	again, err := parsePolicy(long)
	require.NoError(t, err)
	require.NotSame(t, first, again)

	for i := range 10 * cachedPolicies { // each is found again, whatever it replaces
		text := strings.Replace(validKeyPolicy, `{"Effect"`, fmt.Sprintf(`{"Sid":"%d","Effect"`, i), 1)
		p, err := parsePolicy(text)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), p.Statements()[0].Sid())
		again, err := parsePolicy(text)
		require.NoError(t, err)
		require.Same(t, p, again)
	}
}
