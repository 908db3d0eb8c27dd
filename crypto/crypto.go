// Package crypto turns stored key material into AEADs, MACs, signers, public-key encryption, key
// agreement and KEMs.
//
// A [Family] generates, imports and parses one kind of material. Parse returns a [Key], and a type
// assertion says what it does: [AEAD], [MAC], [SigningKey], [DecryptionKey], [AgreementKey] or
// [DecapsulationKey]. No key does two of these, so that no code can use a key for what it is not
// for. The package knows no key IDs, policies or storage, and no time but that of a clock it is
// given. Each family has a file of its own; a new family changes no other file.
//
// The primitives come from Tink, from the standard library where Tink has none, and from the
// modules that the files name where neither has. The package belongs to kms, and promises nothing
// about its API before v1.
package crypto

import (
	"bytes"
	"errors"
	"runtime"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// Errors of this package, for errors.Is. None contains any part of a key or a message.
var (
	ErrMaterial    = errors.New("crypto: invalid key material")
	ErrPublicKey   = errors.New("crypto: invalid public key")
	ErrAlgorithm   = errors.New("crypto: algorithm does not fit the key")
	ErrMessageType = errors.New("crypto: message type does not fit the algorithm")
	ErrLength      = errors.New("crypto: input has a length that the algorithm does not take")
	ErrDecrypt     = errors.New("crypto: decryption failed")
	ErrVerify      = errors.New("crypto: verification failed")
	ErrDestroyed   = errors.New("crypto: key is destroyed")
)

// The types of message that a [Signer] takes, as KMS spells them.
const (
	Raw        = "RAW"         // the message
	Digest     = "DIGEST"      // its digest
	ExternalMu = "EXTERNAL_MU" // its representative mu: FIPS 204, algorithm 7, line 6
)

// Family is one kind of key material and its one use.
//
// Material has one stored form. A symmetric or HMAC key is its bytes. A private key is a DER PKCS#8
// PrivateKeyInfo (RFC 5208, section 5), encoded as KMS returns the private keys of data key pairs;
// the object identifiers in it name its algorithm, and its version field its version.
type Family interface {
	// Generate returns new material in its stored form. The caller owns it, and erases it.
	Generate() ([]byte, error)

	// Import returns the stored form of material that was made elsewhere: the bytes of a symmetric
	// or HMAC key, or a DER PKCS#8 private key. It returns ErrMaterial if the material is not what
	// a key of this family can be. Material that is the same key has the same stored form. Import
	// neither keeps nor changes the slice; the caller owns the result, and erases it.
	Import(material []byte) ([]byte, error)

	// Parse returns the key whose stored form is material, or ErrMaterial. It neither keeps nor
	// changes the slice.
	Parse(material []byte) (Key, error)
}

// Key is a key in use: an [AEAD], [MAC], [SigningKey], [DecryptionKey], [AgreementKey] or
// [DecapsulationKey]. Only this package makes keys.
//
// All methods of a key may be called at the same time. They neither keep nor change their
// arguments, and the caller owns what they return.
type Key interface {
	// Destroy ends the use of the key: calls under way complete, every later call returns
	// ErrDestroyed. What is left of the key in memory is garbage; it is erased before it is
	// collected if the doc comment of the key's family says so.
	Destroy()

	isKey()
}

// AEAD is a key that encrypts and authenticates data, and authenticates associated data with it.
type AEAD interface {
	Key

	// Encrypt is Seal, and Decrypt is Open, into a new slice.
	tink.AEAD

	// Seal appends the encrypted plaintext to dst and returns the longer slice; dst may be nil. It
	// does not allocate if dst has enough free capacity, which must not overlap the other
	// arguments.
	Seal(dst, plaintext, associatedData []byte) ([]byte, error)

	// Open appends the plaintext to dst, as Seal appends the ciphertext. It returns ErrDecrypt for
	// everything that this key did not encrypt with this associated data.
	Open(dst, ciphertext, associatedData []byte) ([]byte, error)
}

// MAC is a key that authenticates messages. VerifyMAC accepts only full-length tags, and returns
// ErrVerify for a wrong one.
type MAC interface {
	Key
	tink.MAC
}

// PrivateKey is the private key of an asymmetric algorithm.
type PrivateKey interface {
	Key

	// PublicKey returns the public key as a DER SubjectPublicKeyInfo (RFC 5280, section 4.1), also
	// after Destroy.
	PublicKey() []byte
}

// SigningKey is a private key that signs, by one or more algorithms.
type SigningKey interface {
	PrivateKey

	// Signer returns a signer by one algorithm for one type of message, both as KMS spells them:
	// "ECDSA_SHA_256" and "RAW". It returns ErrAlgorithm if the key does not have the algorithm,
	// and ErrMessageType if the algorithm does not take the type. The signer is valid until the key
	// is destroyed.
	Signer(algorithm, messageType string) (Signer, error)
}

// Signer signs and verifies by one algorithm. Sign and Verify return ErrLength for an input that
// does not have InputSize bytes; Verify returns ErrVerify for a wrong signature.
type Signer interface {
	tink.Signer
	tink.Verifier

	// InputSize is the length in bytes of a digest or mu, and 0 for messages, which can have any.
	InputSize() int
}

// DecryptionKey is a private key that decrypts what its public key encrypts.
type DecryptionKey interface {
	PrivateKey

	// Encrypt encrypts to the public key by an algorithm as KMS spells it: "RSAES_OAEP_SHA_256". It
	// returns ErrAlgorithm if the key does not have it, and ErrLength if the algorithm does not
	// take plaintexts of this length.
	Encrypt(algorithm string, plaintext []byte) ([]byte, error)

	// Decrypt returns ErrDecrypt for everything that is not a ciphertext for this key and
	// algorithm.
	Decrypt(algorithm string, ciphertext []byte) ([]byte, error)
}

// AgreementKey is a private key that computes secrets shared with the owners of other keys.
type AgreementKey interface {
	PrivateKey

	// SharedSecret returns the raw ECDH result, the x-coordinate of the shared point in big-endian
	// order and as long as the curve's field. The peer's public key is a DER SubjectPublicKeyInfo.
	// SharedSecret returns ErrPublicKey if it is malformed, of another curve, or not on the curve.
	SharedSecret(peer []byte) ([]byte, error)
}

// DecapsulationKey is the private key of a key encapsulation mechanism.
type DecapsulationKey interface {
	PrivateKey

	// Encapsulate returns a new shared secret, and the ciphertext that carries it.
	Encapsulate() (sharedSecret, ciphertext []byte, err error)

	// Decapsulate returns ErrDecrypt only for a ciphertext of the wrong length. Any other
	// ciphertext that Encapsulate did not return yields a secret that nobody else has (FIPS 203,
	// section 6.3).
	Decapsulate(ciphertext []byte) (sharedSecret []byte, err error)
}

// handle holds a key's primitives where nothing that prints or encodes the key can see them
// (secret.Bytes explains why), and drops them on Destroy; calls under way still have theirs.
// Every Key embeds one.
type handle[P any] struct{ p atomic.Pointer[P] }

func (h *handle[P]) get() (*P, error) {
	if p := h.p.Load(); p != nil {
		return p, nil
	}
	return nil, ErrDestroyed
}

func (h *handle[P]) Destroy() { h.p.Store(nil) }

func (h *handle[P]) isKey() {}

// privateKey is the part that all private keys have.
type privateKey[P any] struct {
	handle[P]
	public []byte // DER SubjectPublicKeyInfo
}

func (k *privateKey[P]) PublicKey() []byte { return bytes.Clone(k.public) }

// signingKey is a SigningKey made of a table of schemes.
type signingKey[P any] struct {
	privateKey[P]
	schemes []scheme[P]
}

// A scheme is one signature algorithm for one type of message. Its functions read the key in p,
// which lives at least as long as the call.
type scheme[P any] struct {
	algorithm, messageType string
	size                   int // of the input in bytes; 0 for any
	sign                   func(p *P, data []byte) ([]byte, error)
	verify                 func(p *P, signature, data []byte) bool
}

// hashed returns the scheme for messages that hashes them and applies s, a scheme for digests.
func (s scheme[P]) hashed(hash func(message []byte) []byte) scheme[P] {
	return scheme[P]{
		algorithm: s.algorithm, messageType: Raw,
		sign:   func(p *P, message []byte) ([]byte, error) { return s.sign(p, hash(message)) },
		verify: func(p *P, signature, message []byte) bool { return s.verify(p, signature, hash(message)) },
	}
}

func newSigningKey[P any](p *P, public []byte, schemes []scheme[P]) SigningKey {
	k := &signingKey[P]{schemes: schemes}
	k.public = public
	k.p.Store(p)
	return k
}

func (k *signingKey[P]) Signer(algorithm, messageType string) (Signer, error) {
	err := ErrAlgorithm
	for i := range k.schemes {
		s := &k.schemes[i]
		if s.algorithm == algorithm {
			if s.messageType == messageType {
				return &signer[P]{&k.handle, s}, nil
			}
			err = ErrMessageType
		}
	}
	return nil, err
}

type signer[P any] struct {
	key    *handle[P]
	scheme *scheme[P]
}

func (s *signer[P]) InputSize() int { return s.scheme.size }

func (s *signer[P]) Sign(data []byte) ([]byte, error) {
	p, err := s.use(data)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(p)
	return s.scheme.sign(p, data)
}

func (s *signer[P]) Verify(signature, data []byte) error {
	p, err := s.use(data)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(p)
	if !s.scheme.verify(p, signature, data) {
		return ErrVerify
	}
	return nil
}

func (s *signer[P]) use(data []byte) (*P, error) {
	p, err := s.key.get()
	if err == nil && s.scheme.size != 0 && len(data) != s.scheme.size {
		err = ErrLength
	}
	return p, err
}
