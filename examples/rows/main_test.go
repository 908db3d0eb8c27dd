package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatWasMovedIsRefused(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Contains(t, out.String(), "ibans:   100 Encrypt, ")
	require.Contains(t, out.String(), "letters:   2 GenerateDataKey, ")
	require.Regexp(t, `moved to another row: +kms: Decrypt: InvalidCiphertextException`, out.String())
	require.Regexp(t, `moved to another tenant: +envelope: encryption context refused`, out.String())
}
