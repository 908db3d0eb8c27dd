package audit

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Entries that are given sorted make the same object as the map itself, and only under their name.
func TestSortedEntriesAreTheMap(t *testing.T) {
	m := map[string]string{"tenant": "7", "purpose": "café", "long": strings.Repeat("x", 300)}
	var entries []byte
	for _, key := range slices.Sorted(maps.Keys(m)) {
		for _, text := range []string{key, m[key]} {
			entries = append(binary.BigEndian.AppendUint16(entries, uint16(len(text))), text...)
		}
	}
	build := func(sorted []byte, limit int) (o Object) {
		var b Builder
		b.Sorted("context", sorted)
		b.Start(&o, "f", limit)
		b.StringMap("context", m)
		b.StringMap("other", map[string]string{"a": "b"})
		b.Finish(false)
		return o
	}
	for limit := range 1000 { // some of which are too low for the whole, for the entries, or for one of them
		require.Equal(t, build(nil, limit), build(entries, limit), "%d", limit)
	}
	require.Equal(t, "7", build(entries, 1000).Get("context", "tenant").String())
}
