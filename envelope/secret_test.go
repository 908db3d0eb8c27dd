package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
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

func (w *watcher) decrypt(ctx context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error) {
	dataKey, err := w.keyring.decrypt(ctx, key, ec)
	return w.watch(dataKey), err
}

func TestNothingPrintsAKey(t *testing.T) {
	key := bytes.Repeat([]byte("0123456789abcdef"), 2)
	aes := RawAES("test", "fixed", key)
	w := &watcher{keyring: aes.(*rawAES)}
	var out bytes.Buffer
	writer, err := newEncrypter(t, w, EncrypterOptions{Suite: SuiteCommitKeyECDSA, FrameLength: 16}).NewWriter(t.Context(), &out, nil)
	require.NoError(t, err)
	write(t, writer, pattern(16))
	secrets := [][]byte{key, w.copies[0], derivedKey(t, w.copies[0], writer.message.header.messageID)}
	secrettest.RequireHidden(t, writer.message.frames, secrets...)
	require.NoError(t, writer.Close())
	secrettest.RequireHidden(t, writer, append(secrets, pattern(16))...)

	reader, err := newDecrypter(t, aes, DecrypterOptions{}).NewReader(t.Context(), &out, nil)
	require.NoError(t, err)
	secrettest.RequireHidden(t, reader.message.frames, secrets...)
	secrettest.RequireHidden(t, newEncrypter(t, aes, EncrypterOptions{}), key)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	secrettest.RequireHidden(t, RawRSA("test", "RSA", crypto.SHA256, private), private.D.Bytes()[:32], private.Primes[0].Bytes()[:32])
}

// A cipher has its key as 32-bit words, which secrettest does not look for.
func TestADiffOfATestDoesNotShowTheWordsOfAKey(t *testing.T) {
	w := &watcher{keyring: testKeyring().(*rawAES)}
	writer, err := newEncrypter(t, w, EncrypterOptions{Suite: SuiteCommitKeyECDSA}).NewWriter(t.Context(), io.Discard, nil)
	require.NoError(t, err)
	derived := derivedKey(t, w.copies[0], writer.message.header.messageID)
	words := []string{fmt.Sprint(binary.LittleEndian.Uint32(derived)), fmt.Sprint(binary.BigEndian.Uint32(derived))}
	block, err := aes.NewCipher(derived)
	require.NoError(t, err)
	for _, visible := range []bool{true, false} {
		var value, other any = writer, new(Writer)
		if visible {
			value, other = struct{ block cipher.Block }{block}, struct{ block cipher.Block }{}
		}
		var r recorder
		assert.Equal(&r, value, other)
		require.NotEmpty(t, r)
		shown := strings.Contains(string(r), words[0]) || strings.Contains(string(r), words[1]) ||
			strings.Contains(string(r), fmt.Sprintf("%#x", binary.LittleEndian.Uint32(derived))) || strings.Contains(string(r), fmt.Sprintf("%#x", binary.BigEndian.Uint32(derived)))
		require.Equal(t, visible, shown)
	}
}

// recorder is what an assertion prints.
type recorder string

func (r *recorder) Errorf(format string, args ...any) { *r += recorder(fmt.Sprintf(format, args...)) }

// derivedKey returns the key of a message's cipher, which begins its expanded key.
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

// So is what it had of frames that are written, and of a buffer that was too small.
func TestAWriterErasesWhatItKeptBefore(t *testing.T) {
	w, err := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 1000}).NewWriter(t.Context(), io.Discard, nil)
	require.NoError(t, err)
	write(t, w, pattern(1000))
	first := w.pending[:1000]
	write(t, w, pattern(1000)[:10])
	require.Equal(t, pattern(1000), first)
	readFrom(t, w, bytes.NewReader(pattern(2000)))
	require.Equal(t, make([]byte, 1000), first)
	last := w.pending[:cap(w.pending)]
	require.Equal(t, pattern(2000)[1990:], last[:10])
	require.NoError(t, w.Close())
	require.Equal(t, make([]byte, len(last)), last)
}

// So does a Reader, at the end and when ReEncrypt leaves it.
func TestAReaderErasesWhatItKeeps(t *testing.T) {
	message, err := newEncrypter(t, testKeyring(), EncrypterOptions{}).Seal(t.Context(), pattern(1000), nil)
	require.NoError(t, err)
	for _, fails := range []bool{false, true} {
		r, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).NewReader(t.Context(), bytes.NewReader(message), nil)
		require.NoError(t, err)
		_, err = io.ReadFull(r, make([]byte, 10))
		require.NoError(t, err)
		kept := r.buf
		require.Equal(t, pattern(1000), kept[:1000])
		if fails {
			r.fail(io.ErrClosedPipe)
			_, err = r.Read(make([]byte, 1))
			require.Equal(t, io.ErrClosedPipe, err)
		} else {
			_, err = io.Copy(io.Discard, r)
			require.NoError(t, err)
		}
		require.Equal(t, make([]byte, len(kept)), kept)
	}
}

func TestADataKeyThatIsNotUsedIsErased(t *testing.T) {
	svc, _, keyARN := newKMS(t)
	alias := "alias/app"
	good := KMSKey(svc, keyARN)
	for name, k := range map[string][2]Keyring{
		"an answer without a key ARN": {KMSKey(liar{svc, &alias, 0}, keyARN), good},
		"an answer of another length": {KMSKey(liar{svc, nil, -1}, keyARN), good},
		"a second key that fails":     {good, KMSKey(svc, "alias/none")},
	} {
		w := &watcher{keyring: k[0].(*kmsKey)}
		_, err := newEncrypter(t, Multi(w, k[1]), EncrypterOptions{}).Seal(t.Context(), nil, nil)
		require.Error(t, err, name)
		require.Len(t, w.seen, 1, name)
		erased := make([]byte, len(w.seen[0]))
		require.NotEqual(t, erased, w.copies[0], name)
		require.Equal(t, erased, w.seen[0], name)
	}
}
