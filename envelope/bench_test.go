package envelope

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
	"github.com/pocketkms/kms/internal/secret"
)

// reused is a provider of one data key for all messages, as a cache of data keys is.
type reused struct {
	dataKey *secret.Bytes
	keys    []encryptedKey
}

func newReused(b *testing.B) *reused {
	list, err := checkKeyrings(RawAES("bench", "key", make([]byte, 32)), true)
	require.NoError(b, err)
	ec, err := newContext(benchContext())
	require.NoError(b, err)
	dataKey, keys, err := newDataKey(b.Context(), list, 32, ec)
	require.NoError(b, err)
	return &reused{secret.New(dataKey), keys}
}

func (r *reused) forEncryption(_ context.Context, _ *suite, pairs map[string]string, _ int64) (*encryptionMaterials, error) {
	ec, err := newContext(pairs)
	return &encryptionMaterials{context: ec, dataKey: r.dataKey, keys: r.keys, release: func() {}}, err
}

func (r *reused) forDecryption(context.Context, *suite, *encryptionContext, []encryptedKey) (*decryptionMaterials, error) {
	return &decryptionMaterials{dataKey: r.dataKey, release: func() {}}, nil
}

func benchContext() map[string]string { return map[string]string{"tenant": "7", "table": "orders"} }

// benchCoders returns an Encrypter and a Decrypter with a data key that is reused.
func benchCoders(b *testing.B) (*Encrypter, *Decrypter) {
	keyring := RawAES("bench", "key", make([]byte, 32))
	e, err := NewEncrypter(keyring, EncrypterOptions{})
	require.NoError(b, err)
	d, err := NewDecrypter(keyring, DecrypterOptions{})
	require.NoError(b, err)
	r := newReused(b)
	e.materials, d.materials = r, r
	return e, d
}

func newGCM(b *testing.B) cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 32))
	require.NoError(b, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(b, err)
	return aead
}

// The floor is AES-256-GCM over the same frames, into one new slice.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(sizeName(size), func(b *testing.B) {
			e, _ := benchCoders(b)
			ctx, pairs, aead := b.Context(), benchContext(), newGCM(b)
			plaintext, nonce, ad := make([]byte, size), make([]byte, 12), make([]byte, 79)
			rand.Read(plaintext)
			b.SetBytes(int64(size))
			benchtest.Compare(b, func() {
				out := make([]byte, 0, size+1000)
				for p := plaintext; len(p) > 0; p = p[min(len(p), defaultFrameLength):] {
					nonce[11]++
					out = aead.Seal(out, nonce, p[:min(len(p), defaultFrameLength)], ad)
				}
			}, func() {
				if _, err := e.Seal(ctx, plaintext, pairs); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(sizeName(size), func(b *testing.B) {
			e, d := benchCoders(b)
			ctx, pairs, aead := b.Context(), benchContext(), newGCM(b)
			plaintext, nonce, ad := make([]byte, size), make([]byte, 12), make([]byte, 79)
			rand.Read(plaintext)
			message, err := e.Seal(ctx, plaintext, pairs)
			require.NoError(b, err)
			var frames [][]byte
			for p := plaintext; len(p) > 0; p = p[min(len(p), defaultFrameLength):] {
				frames = append(frames, aead.Seal(nil, nonce, p[:min(len(p), defaultFrameLength)], ad))
			}
			b.SetBytes(int64(size))
			benchtest.Compare(b, func() {
				out := make([]byte, 0, size)
				for _, f := range frames {
					if out, err = aead.Open(out, nonce, f, ad); err != nil {
						b.Fatal(err)
					}
				}
			}, func() {
				if _, err := d.Open(ctx, message, pairs); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func sizeName(n int) string {
	if n < 1<<20 {
		return "1KiB"
	}
	return "1MiB"
}
