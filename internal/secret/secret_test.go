package secret_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/secret/secrettest"
)

func random(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 32)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return b
}

func TestPrintersAndEncodersDoNotShowTheSecret(t *testing.T) {
	b := random(t)
	s := secret.New(bytes.Clone(b))
	type key struct {
		name  string
		bytes *secret.Bytes
		value secret.Bytes
	}
	k := &key{name: "k", bytes: s}
	k.value = *secret.New(bytes.Clone(b))
	for name, v := range map[string]any{"by itself": s, "in a field": k, "in a slice": []*secret.Bytes{s}} {
		t.Run(name, func(t *testing.T) { secrettest.RequireHidden(t, v, b) })
	}
}

func TestASecretInAPlainFieldIsFound(t *testing.T) {
	b := []byte("correct horse battery staple")
	type plain struct{ B []byte }
	for _, v := range []any{plain{b}, &plain{b}} {
		shown := secrettest.Shown(v, b)
		for _, means := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%200x", "%# x",
			"Sprint", "Errorf", "slog text", "slog JSON", "json", "xml", "gob", "testify"} {
			require.True(t, slices.Contains(shown, means), means)
		}
	}
}

func TestExposeReturnsWhatNewWasGiven(t *testing.T) {
	b := []byte("material")
	s := secret.New(b)
	require.Equal(t, "material", string(s.Expose()))
	require.Same(t, &b[0], &s.Expose()[0], "New takes the slice, it does not copy it")
	require.Equal(t, 8, s.Len())
}

func TestEqualComparesContents(t *testing.T) {
	a := secret.New([]byte("material"))
	require.True(t, a.Equal(a))
	require.True(t, a.Equal(secret.New([]byte("material"))))
	require.False(t, a.Equal(secret.New([]byte("Material"))))
	require.False(t, a.Equal(secret.New([]byte("materia"))))
	require.False(t, a.Equal(secret.New(nil)))
}

func TestDestroyErases(t *testing.T) {
	b := []byte("material")
	s := secret.New(b)
	s.Destroy()
	require.Equal(t, make([]byte, 8), b)
	require.Nil(t, s.Expose())
	require.Zero(t, s.Len())
	require.False(t, s.Equal(s), "a destroyed secret equals nothing, not even itself")
	require.False(t, s.Equal(secret.New(nil)))
	require.NotPanics(t, s.Destroy)
}

func TestTheZeroValueHoldsNothing(t *testing.T) {
	var s secret.Bytes
	require.Nil(t, s.Expose())
	require.Zero(t, s.Len())
	require.NotPanics(t, s.Destroy)
}

func TestClearOverwrites(t *testing.T) {
	b := []byte("material")
	secret.Clear(b[:4])
	require.Equal(t, "\x00\x00\x00\x00rial", string(b))
	require.NotPanics(t, func() { secret.Clear(nil) })
}
