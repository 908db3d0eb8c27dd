package keystore_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

func golden(tb testing.TB, name string) []byte {
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	require.NoError(tb, err)
	return data
}

const goldenPassphrase = "golden passphrase"

func goldenBackend(tb testing.TB) keystore.Backend {
	b := memory.New()
	put(tb, b, headerKey, string(golden(tb, "header-1.hex")))
	put(tb, b, "golden/record", string(golden(tb, "record-1.hex")))
	return b
}

// Every later version opens a store of version 1. The files never change.
func TestGoldenStoreOpens(t *testing.T) {
	s := open(t, goldenBackend(t), keystore.Passphrase([]byte(goldenPassphrase)))
	require.Equal(t, "golden value", get(t, s, "golden/record"))
	_, err := keystore.Open(ctx, goldenBackend(t), keystore.Passphrase([]byte("another")))
	require.ErrorIs(t, err, keystore.ErrRootKey)
}

func TestDamagedHeadersAreRefused(t *testing.T) {
	b := memory.New()
	root := keystore.Ephemeral()
	open(t, b, root)
	header := []byte(get(t, b, headerKey))
	refused := func(want error, raw string) {
		t.Helper()
		put(t, b, headerKey, raw)
		_, err := keystore.Open(ctx, b, root)
		require.ErrorIs(t, err, want)
	}
	for i := range header {
		changed := bytes.Clone(header)
		changed[i] ^= 1
		refused(keystore.ErrCorrupt, string(changed))
		refused(keystore.ErrCorrupt, string(header[:i]))
	}
	refused(keystore.ErrCorrupt, string(header)+"\x00")
	refused(keystore.ErrCorrupt, resum(append(bytes.Clone(header[:len(header)-32]), make([]byte, 33)...)))
	newer := bytes.Clone(header)
	newer[4] = 2
	refused(keystore.ErrNewerVersion, resum(newer))
}

// A forger can make the checksum fit, but not the keyset.
func TestForgedHeadersAreRefused(t *testing.T) {
	b := memory.New()
	root := keystore.Ephemeral()
	open(t, b, root)
	header := []byte(get(t, b, headerKey))
	for i := range header[:len(header)-32] {
		changed := bytes.Clone(header)
		changed[i] ^= 1
		put(t, b, headerKey, resum(changed))
		_, err := keystore.Open(ctx, b, root)
		require.Error(t, err, "byte %d", i)
	}
}

func FuzzHeader(f *testing.F) {
	b := memory.New()
	root := keystore.Ephemeral()
	open(f, b, root)
	header := []byte(get(f, b, headerKey))
	f.Add([]byte{})
	f.Add([]byte("PKKS"))
	f.Add(header)
	f.Add(header[:len(header)-1])
	f.Add(golden(f, "header-1.hex"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 32 && len(data) <= 4096 {
			data = []byte(resum(data)) // or else nothing would come past the checksum
		}
		if bytes.Equal(data, header) {
			return
		}
		put(t, b, headerKey, string(data))
		if s, err := keystore.Open(ctx, b, root); err == nil {
			t.Fatalf("accepted: %x, %v", data, s)
		}
	})
}

func FuzzStoreGet(f *testing.F) {
	b := memory.New()
	s := open(f, b, keystore.Ephemeral())
	put(f, s, "key", "value")
	sealed := []byte(get(f, b, "key"))
	f.Add([]byte{})
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add(golden(f, "record-1.hex"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > keystore.MaxValueBytes || bytes.Equal(data, sealed) {
			return
		}
		put(t, b, "key", string(data))
		_, err := s.Get(ctx, "key")
		require.ErrorIs(t, err, keystore.ErrCorrupt)
	})
}
