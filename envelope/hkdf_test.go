package envelope

import (
	"crypto/hkdf"
	"crypto/sha512"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysAreDerivedAsByTheStandardLibrary(t *testing.T) {
	for n := range 65 {
		key, salt, info1, info2 := pattern(n), pattern(2 * n)[n:], pattern(min(n, 63)), []byte("COMMITKEY")
		got1, got2 := hkdfSHA512(key, salt, info1, info2)
		want1, err := hkdf.Key(sha512.New, key, salt, string(info1), 64)
		require.NoError(t, err)
		want2, err := hkdf.Key(sha512.New, key, salt, string(info2), 64)
		require.NoError(t, err)
		require.Equal(t, want1, got1[:], n)
		require.Equal(t, want2, got2[:], n)
	}
	state, err := sha512.New().(resumable).AppendBinary(nil)
	require.NoError(t, err)
	require.Len(t, state, stateBytes)
}
