package envelope

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// Why there is only ReEncrypt: if other encrypted data keys are put into the header of a message and the
// header is authenticated again, the tags reveal GCM's authentication key. This test has three
// headers of one message, as after two rewraps, because the authentication key is then the greatest
// common divisor of two polynomials. Two headers take factoring one.
func TestRewrappedHeadersLetAnyoneForge(t *testing.T) {
	plaintext := []byte("pay 1000 to Alice")
	message := sealed(t, newEncrypter(t, testKeyring(), EncrypterOptions{}), plaintext, nil)
	messages := [][]byte{message, rewrapped(t, message, "second"), rewrapped(t, message, "third")}
	for _, m := range messages {
		got, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), m, nil)
		require.NoError(t, err)
		require.Equal(t, plaintext, got)
	}

	// From here on, nothing is used that is not public. The sum of the polynomials of two headers has
	// the key as a root; the encrypted nonce is in both and cancels.
	var headers []polynomial
	for _, m := range messages {
		h := splitMessage(t, m).header
		headers = append(headers, add(ghash(h.body, nil), polynomial{toElement(h.auth)}))
	}
	divisor := gcd(add(headers[0], headers[1]), add(headers[0], headers[2]))
	for divisor[0] == (element{}) {
		divisor = divisor[1:] // all of them have the root 0
	}
	require.Len(t, divisor, 2)
	key := divisor[0].times(divisor[1].inverse())

	forged := bytes.Clone(message)
	parts := splitMessage(t, forged)
	frame := parts.frames[0]
	ciphertext, tag := frame[len(frame)-tagBytes-len(plaintext):len(frame)-tagBytes], frame[len(frame)-tagBytes:]
	ad := newFrameCipher(nil, parts.header.messageID, true).single.of(1, len(plaintext))
	nonce := toElement(tag).plus(ghash(ad, ciphertext).at(key))
	for i, b := range []byte("pay 9000 to Mary!") {
		ciphertext[i] ^= plaintext[i] ^ b
	}
	nonce.plus(ghash(ad, ciphertext).at(key)).put(tag)

	got, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), forged, nil)
	require.NoError(t, err, "a frame with another plaintext, made without a key")
	require.Equal(t, "pay 9000 to Mary!", string(got))
}

// rewrapped returns a message with one more encrypted data key in its header.
func rewrapped(t *testing.T, message []byte, provider string) []byte {
	t.Helper()
	list, err := checkKeyrings(testKeyring(), false)
	require.NoError(t, err)
	parts := splitMessage(t, message)
	h := *parts.header
	ec, err := newContext(nil)
	require.NoError(t, err)
	dataKey, err := decryptDataKey(t.Context(), list, h.keys, h.suite.keyBytes, ec)
	require.NoError(t, err)
	aead, _, err := h.suite.derive(dataKey, h.messageID)
	require.NoError(t, err)
	h.keys = append(h.keys, encryptedKey{provider, "key", []byte("a data key, encrypted with another key")})
	require.NoError(t, h.encode(nil))
	h.auth = aead.Seal(nil, []byte(noIV), nil, h.body)
	parts.header = &h
	return parts.join()
}

// An element is one of GF(2^128), with the bits in the order of GCM.
type element struct{ high, low uint64 }

func toElement(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (x element) put(b []byte) {
	binary.BigEndian.PutUint64(b, x.high)
	binary.BigEndian.PutUint64(b[8:], x.low)
}

func (x element) plus(y element) element { return element{x.high ^ y.high, x.low ^ y.low} }

func (x element) times(y element) (z element) {
	for range 128 {
		if x.high>>63 == 1 {
			z = z.plus(y)
		}
		x = element{x.high<<1 | x.low>>63, x.low << 1}
		carry := y.low & 1
		y = element{y.high >> 1, y.low>>1 | y.high<<63}
		y.high ^= carry * 0xe1 << 56
	}
	return z
}

func (x element) inverse() element {
	z := element{high: 1 << 63}
	for range 127 {
		x = x.times(x)
		z = z.times(x)
	}
	return z
}

// A polynomial has the coefficient of x^i at i. The last is not 0.
type polynomial []element

// ghash returns what GHASH evaluates at the authentication key.
func ghash(ad, ciphertext []byte) polynomial {
	var blocks []byte
	for _, part := range [][]byte{ad, ciphertext} {
		blocks = append(append(blocks, part...), make([]byte, -len(part)&15)...)
	}
	blocks = binary.BigEndian.AppendUint64(blocks, 8*uint64(len(ad)))
	blocks = binary.BigEndian.AppendUint64(blocks, 8*uint64(len(ciphertext)))
	p := polynomial{{}}
	for ; len(blocks) > 0; blocks = blocks[:len(blocks)-16] {
		p = append(p, toElement(blocks[len(blocks)-16:]))
	}
	return p
}

func (p polynomial) at(x element) (sum element) {
	for i := len(p) - 1; i >= 0; i-- {
		sum = sum.times(x).plus(p[i])
	}
	return sum
}

func add(p, q polynomial) polynomial {
	if len(p) < len(q) {
		p, q = q, p
	}
	sum := append(polynomial(nil), p...)
	for i := range q {
		sum[i] = sum[i].plus(q[i])
	}
	for len(sum) > 0 && sum[len(sum)-1] == (element{}) {
		sum = sum[:len(sum)-1]
	}
	return sum
}

// gcd returns the greatest common divisor, by Euclid's algorithm.
func gcd(p, q polynomial) polynomial {
	for len(q) > 0 {
		for len(p) >= len(q) { // subtract the multiple of q that has p's first term
			factor := p[len(p)-1].times(q[len(q)-1].inverse())
			multiple := make(polynomial, len(p)-len(q), len(p))
			for _, c := range q {
				multiple = append(multiple, c.times(factor))
			}
			p = add(p, multiple)
		}
		p, q = q, p
	}
	return p
}
