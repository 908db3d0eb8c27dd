package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

func benchContext() map[string]string { return map[string]string{"tenant": "7", "table": "orders"} }

// benchCoders returns an Encrypter and a Decrypter with a cache of data keys.
func benchCoders(b *testing.B) (*Encrypter, *Decrypter) {
	e, d, _ := cachedCoders(b, RawAES("bench", "key", make([]byte, 32)), CacheOptions{MaxAge: time.Hour})
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
