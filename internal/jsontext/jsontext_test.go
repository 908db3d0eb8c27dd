package jsontext

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStringsAreValidJSON(t *testing.T) {
	var every strings.Builder
	for r := range rune(0x3000) {
		every.WriteRune(r)
	}
	for _, s := range []string{"", "plain", "\x00\x1f\x7f\"\\/<>&\u2028", "a\xffb\xc3", "\xed\xa0\x80", "😀", every.String()} {
		var got string
		require.NoError(t, json.Unmarshal(AppendString(nil, s), &got))
		require.Equal(t, string([]rune(s)), got)
	}
}

func TestNoStringBreaksALine(t *testing.T) {
	require.Equal(t, `"a\n\r\u2028\u2029b"`, string(AppendString(nil, "a\n\r\u2028\u2029b")))
}
