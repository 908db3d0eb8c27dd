package crypto

import (
	stdecdsa "crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/signature/subtle"

	"github.com/pocketkms/kms/internal/secret"
)

// ECDSAP256 is ECDSA (FIPS 186-5) on NIST P-256. Its keys are [SigningKey]s of one algorithm,
// ECDSA_SHA_256, for messages and digests. Signatures are randomized, and DER (RFC 3279, section
// 2.2.3). The material is PKCS#8 with an ECPrivateKey (RFC 5915) that names the curve.
func ECDSAP256() Family { return nistFamily{nistP256, newECDSAKey("ECDSA_SHA_256", "SHA256", 32)} }

// ECDSAP384 is the same on NIST P-384 with ECDSA_SHA_384.
func ECDSAP384() Family { return nistFamily{nistP384, newECDSAKey("ECDSA_SHA_384", "SHA384", 48)} }

// ECDSAP521 is the same on NIST P-521 with ECDSA_SHA_512.
func ECDSAP521() Family { return nistFamily{nistP521, newECDSAKey("ECDSA_SHA_512", "SHA512", 64)} }

// newECDSAKey makes keys of private keys. It takes Tink's name of the hash function and the length
// of its digests in bytes.
func newECDSAKey(algorithm, hash string, digestSize int) func(*stdecdsa.PrivateKey, []byte) (Key, error) {
	schemes := []scheme[ecdsa]{{
		algorithm: algorithm, messageType: Raw,
		sign:   func(e *ecdsa, message []byte) ([]byte, error) { return e.signer.Sign(message) },
		verify: func(e *ecdsa, signature, message []byte) bool { return e.verifier.Verify(signature, message) == nil },
	}, {
		algorithm: algorithm, messageType: Digest, size: digestSize,
		sign: func(e *ecdsa, digest []byte) ([]byte, error) {
			return stdecdsa.SignASN1(rand.Reader, e.private, digest)
		},
		verify: func(e *ecdsa, signature, digest []byte) bool {
			return stdecdsa.VerifyASN1(&e.private.PublicKey, digest, signature)
		},
	}}
	return func(private *stdecdsa.PrivateKey, public []byte) (Key, error) {
		e := &ecdsa{private: private}
		var err error
		if e.signer, err = subtle.NewECDSASignerFromPrivateKey(hash, "DER", private); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
		}
		if e.verifier, err = subtle.NewECDSAVerifierFromPublicKey(hash, "DER", &private.PublicKey); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
		}
		return newSigningKey(e, public, schemes), nil
	}
}

// ecdsa holds the primitives: Tink's for messages, the standard library's for digests.
type ecdsa struct {
	private  *stdecdsa.PrivateKey
	signer   *subtle.ECDSASigner
	verifier *subtle.ECDSAVerifier
}

// The curves of FIPS 186-5, with the object identifiers of RFC 5480, section 2.1.1.1.
var (
	nistP256 = nistCurve{newNamedCurve(32, 1, 2, 840, 10045, 3, 1, 7), elliptic.P256()}
	nistP384 = nistCurve{newNamedCurve(48, 1, 3, 132, 0, 34), elliptic.P384()}
	nistP521 = nistCurve{newNamedCurve(66, 1, 3, 132, 0, 35), elliptic.P521()}
)

type nistCurve struct {
	*namedCurve
	curve elliptic.Curve
}

// nistFamily is the material of private keys on a NIST curve, for every use.
type nistFamily struct {
	nistCurve
	newKey func(private *stdecdsa.PrivateKey, public []byte) (Key, error)
}

func (f nistFamily) Generate() ([]byte, error) {
	private, err := stdecdsa.GenerateKey(f.curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	return f.store(private)
}

func (f nistFamily) Import(material []byte) ([]byte, error) {
	private, _, err := f.read(material)
	if err != nil {
		return nil, err
	}
	return f.store(private)
}

func (f nistFamily) Parse(material []byte) (Key, error) {
	private, point, err := f.read(material)
	if err != nil {
		return nil, err
	}
	public, err := marshalSPKI(f.algorithm, point)
	if err != nil {
		return nil, err
	}
	return f.newKey(private, public)
}

// read returns the private key, and the point of its public key.
func (f nistFamily) read(material []byte) (private *stdecdsa.PrivateKey, point []byte, err error) {
	err = f.namedCurve.read(material, func(scalar []byte) ([]byte, error) {
		if private, err = stdecdsa.ParseRawPrivateKey(f.curve, scalar); err != nil {
			return nil, err
		}
		point, err = private.PublicKey.Bytes()
		return point, err
	})
	return private, point, err
}

func (f nistFamily) store(private *stdecdsa.PrivateKey) ([]byte, error) {
	scalar, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	defer secret.Clear(scalar)
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return f.marshal(scalar, point)
}
