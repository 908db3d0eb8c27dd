package envelope

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"hash"
)

// A signer signs a digest. It is a function so that its key cannot be printed.
type signer func(digest []byte) ([]byte, error)

// newSigner returns the signer of a message, and the encryption context's value of its public key.
func newSigner(curve elliptic.Curve) (signer, string, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, "", err
	}
	point, err := key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		return nil, "", err
	}
	x := point[:1+(len(point)-1)/2]
	x[0] = 2 + point[len(point)-1]&1 // compressed: the sign of Y, X
	sign := func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, key, digest) }
	return sign, base64.StdEncoding.EncodeToString(x), nil
}

// parsePublicKey returns the public key of the encryption context's value.
func parsePublicKey(curve elliptic.Curve, value string) (*ecdsa.PublicKey, error) {
	compressed, err := base64.StdEncoding.Strict().DecodeString(value)
	if err == nil {
		if x, y := elliptic.UnmarshalCompressed(curve, compressed); x != nil {
			size := len(compressed) - 1
			point := make([]byte, 1+2*size)
			point[0] = 4
			x.FillBytes(point[1 : 1+size])
			y.FillBytes(point[1+size:])
			return ecdsa.ParseUncompressedPublicKey(curve, point)
		}
	}
	return nil, fmt.Errorf("%w: the public key of its signature is malformed", ErrAltered)
}

// A transcript hashes a message for its signature. A nil transcript, of an unsigned one, does
// nothing.
type transcript struct{ hash hash.Hash }

func newTranscript(s *suite) *transcript {
	if !s.signs() {
		return nil
	}
	return &transcript{s.signatureHash.New()}
}

func (t *transcript) write(b []byte) {
	if t != nil {
		t.hash.Write(b)
	}
}

func (t *transcript) digest() []byte { return t.hash.Sum(nil) }

// verify accepts (r, -s) for (r, s), like every implementation of the format: writers do not
// normalize s.
func (t *transcript) verify(key *ecdsa.PublicKey, signature []byte) error {
	if !ecdsa.VerifyASN1(key, t.digest(), signature) {
		return fmt.Errorf("%w: its signature does not verify", ErrAltered)
	}
	return nil
}
