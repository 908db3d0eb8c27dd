package crypto

import (
	"bytes"
	stdecdsa "crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/signature/subtle"
	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480, section 2.1.1

// ECDSAP256 is ECDSA (FIPS 186-5) on NIST P-256. Its keys are [SigningKey]s of one algorithm, ECDSA_SHA_256, with DER
// signatures (RFC 3279, section 2.2.3). The material is PKCS#8 around an ECPrivateKey (RFC 5915) that must name the
// curve; a public key in it must be the private key's own.
func ECDSAP256() Family {
	return ecdsaFamily{"ECDSA_SHA_256", "SHA256", 32, elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}}
}

// ECDSAP384 is the same on NIST P-384 with ECDSA_SHA_384.
func ECDSAP384() Family {
	return ecdsaFamily{"ECDSA_SHA_384", "SHA384", 48, elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}}
}

// ECDSAP521 is the same on NIST P-521 with ECDSA_SHA_512.
func ECDSAP521() Family {
	return ecdsaFamily{"ECDSA_SHA_512", "SHA512", 64, elliptic.P521(), asn1.ObjectIdentifier{1, 3, 132, 0, 35}}
}

type ecdsaFamily struct {
	algorithm  string
	hash       string // Tink's name
	digestSize int    // in bytes
	curve      elliptic.Curve
	oid        asn1.ObjectIdentifier // of the curve: RFC 5480, section 2.1.1.1
}

func (f ecdsaFamily) Generate() ([]byte, error) {
	private, err := stdecdsa.GenerateKey(f.curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

func (f ecdsaFamily) Parse(material []byte) (Key, error) {
	private, err := f.read(material)
	if err != nil {
		return nil, err
	}
	k := &ecdsaKey{algorithm: f.algorithm, digestSize: f.digestSize}
	e := &ecdsa{private: private}
	if k.public, err = x509.MarshalPKIXPublicKey(&private.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	if e.signer, err = subtle.NewECDSASignerFromPrivateKey(f.hash, "DER", private); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	if e.verifier, err = subtle.NewECDSAVerifierFromPublicKey(f.hash, "DER", &private.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	k.p.Store(e)
	return k, nil
}

func (f ecdsaFamily) read(material []byte) (*stdecdsa.PrivateKey, error) {
	algorithm, octets, ok := readPKCS8(material)
	var kind, curve asn1.ObjectIdentifier
	if !ok || !algorithm.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidECPublicKey) {
		return nil, fmt.Errorf("%w: not a PKCS#8 elliptic curve key", ErrMaterial)
	}
	if !algorithm.ReadASN1ObjectIdentifier(&curve) || !algorithm.Empty() || !curve.Equal(f.oid) {
		return nil, fmt.Errorf("%w: not a key on the named curve %s", ErrMaterial, f.curve.Params().Name)
	}

	var key, scalar, parameters, bits cryptobyte.String
	var hasParameters, hasPublic bool
	var version int
	var public []byte
	tag := func(n uint8) cryptobyteasn1.Tag { return cryptobyteasn1.Tag(n).ContextSpecific().Constructed() }
	ok = octets.ReadASN1(&key, cryptobyteasn1.SEQUENCE) && octets.Empty() &&
		key.ReadASN1Integer(&version) && version == 1 &&
		key.ReadASN1(&scalar, cryptobyteasn1.OCTET_STRING) &&
		key.ReadOptionalASN1(&parameters, &hasParameters, tag(0)) &&
		key.ReadOptionalASN1(&bits, &hasPublic, tag(1)) && key.Empty() &&
		(!hasParameters || parameters.ReadASN1ObjectIdentifier(&curve) && parameters.Empty() && curve.Equal(f.oid)) &&
		(!hasPublic || bits.ReadASN1BitStringAsBytes(&public) && bits.Empty())
	if !ok {
		return nil, fmt.Errorf("%w: malformed ECPrivateKey", ErrMaterial)
	}
	private, err := stdecdsa.ParseRawPrivateKey(f.curve, scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: private key out of range", ErrMaterial)
	}
	if own, err := private.PublicKey.Bytes(); err != nil || hasPublic && !bytes.Equal(public, own) {
		return nil, fmt.Errorf("%w: public key of another private key", ErrMaterial)
	}
	return private, nil
}

// ecdsaKey has one algorithm, and so is its own Signer.
type ecdsaKey struct {
	held[ecdsa]
	algorithm  string
	digestSize int
	public     []byte
}

var (
	_ SigningKey = (*ecdsaKey)(nil)
	_ Signer     = (*ecdsaKey)(nil)
)

func (k *ecdsaKey) PublicKey() []byte { return bytes.Clone(k.public) }

func (k *ecdsaKey) Signer(algorithm string) (Signer, error) {
	if algorithm != k.algorithm {
		return nil, ErrAlgorithm
	}
	return k, nil
}

func (k *ecdsaKey) DigestSize() int { return k.digestSize }

func (k *ecdsaKey) Sign(data []byte) ([]byte, error) {
	e, err := k.get()
	if err != nil {
		return nil, err
	}
	return e.signer.Sign(data)
}

func (k *ecdsaKey) Verify(signature, data []byte) error {
	e, err := k.get()
	if err != nil {
		return err
	}
	if e.verifier.Verify(signature, data) != nil {
		return ErrVerify
	}
	return nil
}

func (k *ecdsaKey) SignDigest(digest []byte) ([]byte, error) {
	e, err := k.get()
	if err != nil {
		return nil, err
	}
	if len(digest) != k.digestSize {
		return nil, ErrDigest
	}
	return stdecdsa.SignASN1(rand.Reader, e.private, digest)
}

func (k *ecdsaKey) VerifyDigest(signature, digest []byte) error {
	e, err := k.get()
	if err != nil {
		return err
	}
	if len(digest) != k.digestSize {
		return ErrDigest
	}
	if !stdecdsa.VerifyASN1(&e.private.PublicKey, digest, signature) {
		return ErrVerify
	}
	return nil
}

// ecdsa is the material at work: Tink's primitives for messages, the standard library's for digests.
type ecdsa struct {
	private  *stdecdsa.PrivateKey
	signer   *subtle.ECDSASigner
	verifier *subtle.ECDSAVerifier
}
