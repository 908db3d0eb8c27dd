package crypto

import (
	stdecdh "crypto/ecdh"
	stdecdsa "crypto/ecdsa"
	"fmt"
)

// ECDHP256 is elliptic curve Diffie-Hellman (NIST SP 800-56A revision 3, section 5.7.1.2) on NIST
// P-256. Its keys are [AgreementKey]s whose shared secrets have 32 bytes. The material is that of
// [ECDSAP256].
func ECDHP256() Family { return nistFamily{nistP256, newECDHKey(nistP256.namedCurve)} }

// ECDHP384 is the same on NIST P-384, with shared secrets of 48 bytes.
func ECDHP384() Family { return nistFamily{nistP384, newECDHKey(nistP384.namedCurve)} }

// ECDHP521 is the same on NIST P-521, with shared secrets of 66 bytes.
func ECDHP521() Family { return nistFamily{nistP521, newECDHKey(nistP521.namedCurve)} }

func newECDHKey(curve *namedCurve) func(*stdecdsa.PrivateKey, []byte) (Key, error) {
	return func(private *stdecdsa.PrivateKey, public []byte) (Key, error) {
		p, err := private.ECDH()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
		}
		k := &ecdhKey{curve: curve}
		k.public = public
		k.p.Store(p)
		return k, nil
	}
}

type ecdhKey struct {
	privateKey[stdecdh.PrivateKey]
	curve *namedCurve
}

var _ AgreementKey = (*ecdhKey)(nil)

func (k *ecdhKey) SharedSecret(peer []byte) ([]byte, error) {
	private, err := k.get()
	if err != nil {
		return nil, err
	}
	point, err := readSPKI(peer, k.curve.algorithm)
	if err != nil {
		return nil, err
	}
	// NewPublicKey accepts only uncompressed points on the curve, and not the point at infinity.
	// The cofactor of the NIST curves is 1, so such a point generates the whole group.
	public, err := private.Curve().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w: not a point on the curve", ErrPublicKey)
	}
	return private.ECDH(public)
}
