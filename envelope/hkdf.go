package envelope

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding"
	"hash"

	"github.com/pocketkms/kms/internal/secret"
)

// hkdfSHA512 is HKDF-SHA512 (RFC 5869) of one secret and salt, of at most 64 bytes each, for two
// infos of at most 63 bytes. It gives the first 64 bytes of what crypto/hkdf gives, in little more
// than half the time: it hashes the pseudorandom key once for both, and barely allocates. This is
// most of what a short message costs.
func hkdfSHA512(key, salt, info1, info2 []byte) (out1, out2 [sha512.Size]byte) {
	var block [sha512.BlockSize + sha512.Size]byte
	defer secret.Clear(block[:])

	// Extract: the pseudorandom key is the HMAC of the secret under the salt.
	n := copy(block[sha512.BlockSize:], key)
	padKey(&block, salt, &innerPad)
	inner := sha512.Sum512(block[:sha512.BlockSize+n])
	padKey(&block, salt, &outerPad)
	copy(block[sha512.BlockSize:], inner[:])
	prk := sha512.Sum512(block[:])
	defer secret.Clear(prk[:])

	// Expand: the first output is the HMAC of the info and 1 under the pseudorandom key.
	h := sha512.New().(resumable)
	defer h.Reset()
	padKey(&block, prk[:], &innerPad)
	h.Write(block[:sha512.BlockSize])
	innerState, _ := h.AppendBinary(make([]byte, 0, stateBytes)) // never fails
	defer secret.Clear(innerState)
	padKey(&block, prk[:], &outerPad)
	h.Reset()
	h.Write(block[:sha512.BlockSize])
	outerState, _ := h.AppendBinary(make([]byte, 0, stateBytes))
	defer secret.Clear(outerState)
	expand := func(info []byte) (out [sha512.Size]byte) {
		h.UnmarshalBinary(innerState) // never fails
		h.Write(append(append(block[:0], info...), 1))
		digest := h.Sum(block[:0])
		h.UnmarshalBinary(outerState)
		h.Write(digest)
		copy(out[:], h.Sum(block[:0]))
		return out
	}
	return expand(info1), expand(info2)
}

// stateBytes is the length of a marshaled state of SHA-512.
const stateBytes = 204

// resumable is a hash whose state can be kept, like that of crypto/sha512.
type resumable interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// innerPad and outerPad are the pads of HMAC.
var innerPad, outerPad = repeated(0x36), repeated(0x5c)

func repeated(b byte) (block [sha512.BlockSize]byte) {
	for i := range block {
		block[i] = b
	}
	return block
}

// padKey sets the first block to a key of HMAC, of at most a block, with a pad.
func padKey(block *[sha512.BlockSize + sha512.Size]byte, key []byte, pad *[sha512.BlockSize]byte) {
	n := subtle.XORBytes(block[:], pad[:], key)
	copy(block[n:], pad[n:])
}
