package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret/secrettest"
)

// watcher is a keyring that keeps copies of data keys, and the data keys themselves.
type watcher struct {
	keyring
	copies [][]byte
	seen   [][]byte
}

func (w *watcher) keyrings() []keyring { return []keyring{w} }

func (w *watcher) watch(dataKey []byte) []byte {
	w.copies, w.seen = append(w.copies, bytes.Clone(dataKey)), append(w.seen, dataKey)
	return dataKey
}

func (w *watcher) generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	dataKey, key, err := w.keyring.generate(ctx, size, ec)
	return w.watch(dataKey), key, err
}

func (w *watcher) decrypt(ctx context.Context, key *encryptedKey, size int, ec *encryptionContext) ([]byte, error) {
	dataKey, err := w.keyring.decrypt(ctx, key, size, ec)
	return w.watch(dataKey), err
}

func TestNothingPrintsAKey(t *testing.T) {
	key := bytes.Repeat([]byte("0123456789abcdef"), 2)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	w := &watcher{keyring: RawAES("test", "fixed", key).(*rawAES)}
	e := newEncrypter(t, w, EncrypterOptions{Suite: SuiteCommitKeyECDSA, FrameLength: 100})
	d := newDecrypter(t, w, DecrypterOptions{})
	var out bytes.Buffer
	writer, err := e.NewWriter(t.Context(), &out, nil)
	require.NoError(t, err)
	write(t, writer, pattern(100)) // kept in the clear until Close, and not a key
	secrets := [][]byte{key, w.copies[0], private.D.Bytes()[:32], private.Primes[0].Bytes()[:32]}
	derived := derivedKey(t, w.copies[0], writer.message.header.messageID)
	secrets = append(secrets, derived)
	secrettest.RequireHidden(t, writer.message, secrets...)
	require.NoError(t, writer.Close())
	secrettest.RequireHidden(t, writer, append(secrets, pattern(32))...)
	reader, err := d.NewReader(t.Context(), bytes.NewReader(out.Bytes()), nil)
	require.NoError(t, err)
	for _, value := range []any{RawAES("test", "fixed", key), RawRSA("test", "RSA", crypto.SHA256, private), Multi(testKeyring(), RawRSA("test", "RSA", crypto.SHA256, private)),
		newEncrypter(t, RawAES("test", "fixed", key), EncrypterOptions{}), newDecrypter(t, RawAES("test", "fixed", key), DecrypterOptions{}), reader} {
		secrettest.RequireHidden(t, value, secrets...)
	}
}

// derivedKey returns the first bytes of the expanded key of the message's cipher.
func derivedKey(t testing.TB, dataKey, messageID []byte) []byte {
	t.Helper()
	s := *findSuite(SuiteCommitKey)
	s.id = SuiteCommitKeyECDSA
	prk, err := hkdf.Extract(s.kdf.New, dataKey, messageID)
	require.NoError(t, err)
	derived, err := hkdf.Expand(s.kdf.New, prk, "\x05\x78DERIVEKEY", 32)
	require.NoError(t, err)
	return derived
}

func TestDataKeysAreErasedAfterUse(t *testing.T) {
	w := &watcher{keyring: testKeyring().(*rawAES)}
	message, err := newEncrypter(t, w, EncrypterOptions{}).Seal(t.Context(), []byte("plaintext"), nil)
	require.NoError(t, err)
	d := newDecrypter(t, w, DecrypterOptions{})
	_, err = d.Open(t.Context(), message, nil)
	require.NoError(t, err)
	parts := splitMessage(t, message)
	for _, altered := range [][]byte{parts.header.commitment, parts.header.auth, parts.frames[0][len(parts.frames[0])-1:]} {
		altered[0] ^= 1 // in message
		plaintext, err := d.Open(t.Context(), message, nil)
		require.ErrorIs(t, err, ErrAltered)
		require.Nil(t, plaintext)
		altered[0] ^= 1
	}
	require.Len(t, w.seen, 5)
	for i := range w.seen {
		require.Equal(t, w.copies[0], w.copies[i])
		require.Equal(t, make([]byte, 32), w.seen[i])
	}
}

// What a Writer keeps of the plaintext is erased when it is closed or fails.
func TestAWriterErasesWhatItKeeps(t *testing.T) {
	for _, fails := range []bool{false, true} {
		dst := &limitedWriter{n: 1 << 20}
		w, err := newEncrypter(t, testKeyring(), EncrypterOptions{}).NewWriter(t.Context(), dst, nil)
		require.NoError(t, err)
		write(t, w, pattern(1000))
		kept := w.pending
		require.Equal(t, pattern(1000), kept)
		if fails {
			dst.n, dst.short = 0, true
		}
		require.Equal(t, fails, w.Close() != nil)
		require.Equal(t, make([]byte, 1000), kept)
	}
}
