package envelope

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAContextIsSortedByUTF8Bytes(t *testing.T) {
	// In UTF-16, U+1F600 is d83d de00 and sorts before U+FFFD.
	encoded, err := encodeContext(map[string]string{"\uFFFD": "2", "😀": "3", "a": "1", "é": "e", "": "empty"})
	require.NoError(t, err)
	require.Equal(t, "\x00\x05"+"\x00\x00\x00\x05empty"+"\x00\x01a\x00\x011"+"\x00\x02é\x00\x01e"+"\x00\x03\uFFFD\x00\x012"+"\x00\x04😀\x00\x013", string(encoded))
	pairs, err := decodeContext(encoded)
	require.NoError(t, err)
	require.Len(t, pairs, 5)
	require.Equal(t, "3", pairs["😀"])

	unsorted, err := decodeContext([]byte("\x00\x02\x00\x01b\x00\x012\x00\x01a\x00\x011"))
	require.NoError(t, err, "some implementations sort in another way")
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, unsorted)
}

func TestMalformedContextsAreRefused(t *testing.T) {
	for name, encoded := range map[string]string{
		"no count":      "\x00",
		"count of none": "\x00\x00",
		"too few":       "\x00\x02\x00\x01a\x00\x011",
		"impossible":    "\xff\xff\x00\x01a\x00\x011",
		"repeated key":  "\x00\x02\x00\x01a\x00\x011\x00\x01a\x00\x012",
		"repeated pair": "\x00\x02\x00\x01a\x00\x011\x00\x01a\x00\x011",
		"trailing":      "\x00\x01\x00\x01a\x00\x011\x00",
		"cut value":     "\x00\x01\x00\x01a\x00\x021",
		"not UTF-8":     "\x00\x01\x00\x01\xff\x00\x011",
		"value, too":    "\x00\x01\x00\x01a\x00\x01\xff",
	} {
		_, err := decodeContext([]byte(encoded))
		require.ErrorIs(t, err, ErrAltered, name)
	}
}

func TestContextsThatCannotBeWrittenAreRefused(t *testing.T) {
	e := newEncrypter(t, testKeyring(), EncrypterOptions{})
	for name, pairs := range map[string]map[string]string{
		"reserved":  {"aws-crypto-mine": "1"},
		"not UTF-8": {"a": "\xff"},
		"too long":  {"a": strings.Repeat("x", 65535-6)},
	} {
		_, err := e.Seal(t.Context(), nil, pairs)
		require.ErrorIs(t, err, ErrContext, name)
	}
	longest := map[string]string{"a": strings.Repeat("x", maxContext-7)}
	message, err := e.Seal(t.Context(), nil, longest)
	require.NoError(t, err)
	_, err = newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), message, longest)
	require.NoError(t, err)
}

func TestGivenPairsMustBeTheMessages(t *testing.T) {
	pairs := map[string]string{"tenant": "7", "row": "1"}
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
		message := testWriter{suite: suite, pairs: pairs, frameLength: 8}.seal(t, []byte("plaintext"))
		d := newDecrypter(t, testKeyring(), DecrypterOptions{})
		for _, given := range []map[string]string{nil, {}, {"tenant": "7"}, pairs} {
			_, err := d.Open(t.Context(), message, given)
			require.NoError(t, err, given)
		}
		_, err := d.Open(t.Context(), message, map[string]string{"tenant": "8"})
		require.ErrorIs(t, err, ErrContext)
		require.NotContains(t, err.Error(), "7")
		_, err = d.Open(t.Context(), message, with(pairs, "table", "orders"))
		require.Error(t, err)
		_, err = d.Open(t.Context(), message, map[string]string{publicKeyPair: splitMessage(t, message).header.pairs[publicKeyPair]})
		require.ErrorIs(t, err, ErrContext)

		r, err := d.NewReader(t.Context(), bytes.NewReader(message), map[string]string{"row": "1"})
		require.NoError(t, err)
		require.Equal(t, pairs, r.EncryptionContext())
		r.EncryptionContext()["row"] = "2"
		require.Equal(t, pairs, r.EncryptionContext(), "the map is the caller's")
	}
}

// The pairs that are given and not stored are authenticated with the header, also if the keyring
// does not authenticate them.
func TestRequiredPairsAreAuthenticatedAndNotStored(t *testing.T) {
	private := testRSA(t)
	for name, k := range map[string]Keyring{"AES": testKeyring(), "RSA": private} {
		for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
			e := newEncrypter(t, k, EncrypterOptions{Suite: suite, RequiredContextKeys: []string{"secret", "tenant", "secret"}})
			pairs := map[string]string{"tenant": "7", "secret": "s", "row": "1"}
			message, err := e.Seal(t.Context(), []byte("plaintext"), pairs)
			require.NoError(t, err)
			stored := splitMessage(t, message).header.pairs
			delete(stored, publicKeyPair)
			require.Equal(t, map[string]string{"row": "1"}, stored)
			_, err = e.Seal(t.Context(), nil, map[string]string{"tenant": "7"})
			require.ErrorIs(t, err, ErrContext)

			d := newDecrypter(t, k, DecrypterOptions{})
			for _, given := range []map[string]string{{"tenant": "7", "secret": "s"}, pairs} {
				r, err := d.NewReader(t.Context(), bytes.NewReader(message), given)
				require.NoError(t, err)
				require.Equal(t, pairs, r.EncryptionContext())
			}
			refused := ErrNoKey // AES authenticates the context
			if name == "RSA" {
				refused = ErrAltered
			}
			for _, given := range []map[string]string{nil, {"tenant": "7"}, {"tenant": "7", "secret": "t"}, with(pairs, "more", "m")} {
				_, err = d.Open(t.Context(), message, given)
				require.ErrorIs(t, err, refused, given)
			}
			demanding := newDecrypter(t, k, DecrypterOptions{RequiredContextKeys: []string{"row"}})
			_, err = demanding.Open(t.Context(), message, map[string]string{"tenant": "7", "secret": "s"})
			require.ErrorIs(t, err, ErrContext)
			_, err = demanding.Open(t.Context(), message, pairs)
			require.NoError(t, err)
		}
	}
}
