// Package crypto is what key material can do.
//
// A [Family] makes and checks one kind of material, and turns it into a [Key]: an [AEAD], a [MAC] or a [SigningKey],
// told apart by type assertion. The package knows nothing of key IDs, policies or storage, and no time but that of a
// clock it is given. Each family has a file of its own; a new one changes no other.
//
// The primitives are those of Tink, and of the standard library where Tink offers none.
package crypto

import (
	"errors"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// Errors of this package, for errors.Is. None carries any part of a key or a message.
var (
	ErrMaterial  = errors.New("crypto: unfit key material")
	ErrAlgorithm = errors.New("crypto: algorithm does not suit the key")
	ErrTooLong   = errors.New("crypto: message is too long for the algorithm")
	ErrDigest    = errors.New("crypto: wrong length of digest for the algorithm")
	ErrDecrypt   = errors.New("crypto: decryption failed")
	ErrVerify    = errors.New("crypto: verification failed")
	ErrDestroyed = errors.New("crypto: key is destroyed")
)

// Family is one kind of key material: how it is made, checked and put to use.
type Family interface {
	// Generate returns new material in its stored form: the key's bytes for symmetric and MAC keys, a DER PKCS#8
	// PrivateKeyInfo for private keys. The caller owns it, and erases it.
	Generate() ([]byte, error)

	// Parse checks the material strictly and makes a key of it, or returns ErrMaterial. It neither keeps nor changes
	// the slice.
	Parse(material []byte) (Key, error)
}

// Key is material at work: an [AEAD], a [MAC] or a [SigningKey]. Only this package makes keys.
//
// All methods of a key may be called at the same time. They neither keep nor change what they are given; what they
// return is the caller's own.
type Key interface {
	// Destroy ends the key: a call that has begun comes to its proper end, every later one returns ErrDestroyed. What
	// remains of the key in memory is left to the garbage collector, which erases it where the key's own type says so.
	Destroy()

	isKey()
}

// AEAD is a key that encrypts, authenticates what it encrypts, and authenticates associated data along with it.
type AEAD interface {
	Key

	// Encrypt is Seal, and Decrypt is Open, into a new slice.
	tink.AEAD

	// Seal appends the encrypted plaintext to dst and returns the longer slice; dst may be nil. It does not allocate
	// if dst has enough free capacity, which must not overlap the other arguments.
	Seal(dst, plaintext, associatedData []byte) ([]byte, error)

	// Open appends the plaintext to dst, on Seal's terms. ErrDecrypt is its one answer to whatever this key did not
	// encrypt with this associated data.
	Open(dst, ciphertext, associatedData []byte) ([]byte, error)
}

// MAC is a key that authenticates messages. VerifyMAC takes full-length tags only, and answers ErrVerify to a false one.
type MAC interface {
	Key
	tink.MAC
}

// SigningKey is a private key that signs, by one or more algorithms.
type SigningKey interface {
	Key

	// PublicKey returns the public key as a DER SubjectPublicKeyInfo (RFC 5280, section 4.1). Destroy leaves it be.
	PublicKey() []byte

	// Signer returns the key at work by one algorithm, as KMS spells it: "ECDSA_SHA_256". ErrAlgorithm means that the
	// key cannot. The signer lives and dies with the key.
	Signer(algorithm string) (Signer, error)
}

// Signer signs and verifies by one algorithm, messages or their digests: a signature made of one verifies with the other.
// ErrVerify is the answer to a false signature, ErrDigest to a digest that is not DigestSize long.
type Signer interface {
	tink.Signer
	tink.Verifier

	SignDigest(digest []byte) ([]byte, error)
	VerifyDigest(signature, digest []byte) error

	// DigestSize is the length of the algorithm's digests in bytes.
	DigestSize() int
}

// held keeps a key's primitives where nothing that prints or encodes the key can see them (secret.Bytes says why), and
// lets go of them at Destroy, while calls under way still have theirs. Every Key embeds one.
type held[P any] struct{ p atomic.Pointer[P] }

func (h *held[P]) get() (*P, error) {
	if p := h.p.Load(); p != nil {
		return p, nil
	}
	return nil, ErrDestroyed
}

func (h *held[P]) Destroy() { h.p.Store(nil) }

func (h *held[P]) isKey() {}
