package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilesAreRefusedAndRenewed(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, ""))
	require.Contains(t, out.String(), "All 3 open again")
	require.Regexp(t, `half of a file: +envelope: truncated message`, out.String())
	require.Regexp(t, `in the place of another: +envelope: encryption context refused`, out.String())
	require.Regexp(t, `one bit changed: +envelope: the message was altered`, out.String())
	require.Contains(t, out.String(), "3 files are under its former material.\nEncrypted again, 0 are.")

	require.ErrorContains(t, run(t.Context(), &out, t.TempDir()), "there is no file")
}
