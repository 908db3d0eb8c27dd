package crypto

import (
	"bytes"
	stdcrypto "crypto"
	stded25519 "crypto/ed25519"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"runtime"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/pocketkms/kms/internal/secret"
)

// Ed25519 is EdDSA on edwards25519 (RFC 8032). Its keys are [SigningKey]s with two algorithms,
// whose signatures are deterministic and have 64 bytes. ED25519_SHA_512 is Ed25519 and takes only
// messages. ED25519_PH_SHA_512 is Ed25519ph without a context and takes only digests, of 64 bytes;
// as in KMS, the digest is the message of RFC 8032, and so is hashed once more.
//
// The material is PKCS#8 with a CurvePrivateKey (RFC 8410, section 7). The private key is erased
// once it is destroyed or garbage, and no call uses it; what the standard library derives from it
// is not.
func Ed25519() Family { return ed25519Family{} }

type ed25519Family struct{}

var ed25519Algorithm = algorithmID(asn1.ObjectIdentifier{1, 3, 101, 112})

func (ed25519Family) Generate() ([]byte, error) {
	seed := randomBytes(stded25519.SeedSize)
	defer secret.Clear(seed)
	return storeEd25519(seed)
}

func (ed25519Family) Import(material []byte) ([]byte, error) {
	private, err := readEd25519(material)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(private)
	return storeEd25519(private[:stded25519.SeedSize])
}

func (ed25519Family) Parse(material []byte) (Key, error) {
	private, err := readEd25519(material)
	if err != nil {
		return nil, err
	}
	k := &ed25519Key{secret.New(private), bytes.Clone(private[stded25519.SeedSize:])}
	runtime.AddCleanup(k, (*secret.Bytes).Destroy, k.private)
	public, err := marshalSPKI(ed25519Algorithm, k.public)
	if err != nil {
		return nil, err
	}
	return newSigningKey(k, public, ed25519Schemes), nil
}

func readEd25519(material []byte) (stded25519.PrivateKey, error) {
	octets, public, err := readPKCS8(material, ed25519Algorithm)
	if err != nil {
		return nil, err
	}
	var seed cryptobyte.String
	if !octets.ReadASN1(&seed, der.OCTET_STRING) || !octets.Empty() || len(seed) != stded25519.SeedSize {
		return nil, fmt.Errorf("%w: malformed CurvePrivateKey", ErrMaterial)
	}
	private := stded25519.NewKeyFromSeed(seed)
	if public != nil && !bytes.Equal(public, private[stded25519.SeedSize:]) {
		return nil, fmt.Errorf("%w: public key of another private key", ErrMaterial)
	}
	return private, nil
}

func storeEd25519(seed []byte) ([]byte, error) {
	octets := append([]byte{byte(der.OCTET_STRING), stded25519.SeedSize}, seed...)
	defer secret.Clear(octets)
	return marshalPKCS8(ed25519Algorithm, octets)
}

type ed25519Key struct {
	private *secret.Bytes // an ed25519.PrivateKey
	public  stded25519.PublicKey
}

func (k *ed25519Key) sign(message []byte, options *stded25519.Options) ([]byte, error) {
	return stded25519.PrivateKey(k.private.Expose()).Sign(nil, message, options)
}

func (k *ed25519Key) verify(signature, message []byte, options *stded25519.Options) bool {
	return stded25519.VerifyWithOptions(k.public, message, signature, options) == nil
}

var ed25519ph = &stded25519.Options{Hash: stdcrypto.SHA512}

var ed25519Schemes = []scheme[ed25519Key]{{
	algorithm: "ED25519_SHA_512", messageType: Raw,
	sign: func(k *ed25519Key, message []byte) ([]byte, error) {
		return k.sign(message, &stded25519.Options{})
	},
	verify: func(k *ed25519Key, signature, message []byte) bool {
		return k.verify(signature, message, &stded25519.Options{})
	},
}, {
	algorithm: "ED25519_PH_SHA_512", messageType: Digest, size: sha512.Size,
	sign: func(k *ed25519Key, digest []byte) ([]byte, error) {
		again := sha512.Sum512(digest)
		return k.sign(again[:], ed25519ph)
	},
	verify: func(k *ed25519Key, signature, digest []byte) bool {
		again := sha512.Sum512(digest)
		return k.verify(signature, again[:], ed25519ph)
	},
}}
