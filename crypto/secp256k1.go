package crypto

import (
	"crypto/sha256"
	"errors"
	"runtime"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/pocketkms/kms/internal/secret"
)

// ECDSASecp256k1 is ECDSA (FIPS 186-5) on secp256k1 (SEC 2, section 2.4.1). Its keys are
// [SigningKey]s of one algorithm, ECDSA_SHA_256, for messages and digests. Signatures are
// deterministic (RFC 6979), and DER with the smaller of the two values of s; Verify accepts both
// values. The material is PKCS#8 with an ECPrivateKey (RFC 5915) that names the curve. The private
// key is erased once it is destroyed or garbage, and no call uses it.
//
// Signing is not constant-time: the module multiplies the base point by the nonce, and inverts the
// nonce, in times that depend on it. An attacker who can time many signatures precisely may learn
// something about the private key.
func ECDSASecp256k1() Family { return secp256k1Family{} }

type secp256k1Family struct{}

var secp256k1Curve = newNamedCurve(32, 1, 3, 132, 0, 10)

func (secp256k1Family) Generate() ([]byte, error) {
	private, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	return storeSecp256k1(private)
}

func (secp256k1Family) Import(material []byte) ([]byte, error) {
	private, err := readSecp256k1(material)
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	return storeSecp256k1(private)
}

func (secp256k1Family) Parse(material []byte) (Key, error) {
	private, err := readSecp256k1(material)
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	k := &secp256k1Key{secret.New(private.Serialize()), private.PubKey()}
	public, err := marshalSPKI(secp256k1Curve.algorithm, k.public.SerializeUncompressed())
	if err != nil {
		return nil, err
	}
	runtime.AddCleanup(k, (*secret.Bytes).Destroy, k.private)
	return newSigningKey(k, public, secp256k1Schemes), nil
}

func readSecp256k1(material []byte) (private *secp256k1.PrivateKey, err error) {
	err = secp256k1Curve.read(material, func(scalar []byte) ([]byte, error) {
		var d secp256k1.ModNScalar
		defer d.Zero()
		if d.SetByteSlice(scalar) || d.IsZero() {
			return nil, errors.New("not a scalar")
		}
		private = secp256k1.NewPrivateKey(&d)
		return private.PubKey().SerializeUncompressed(), nil
	})
	return private, err
}

func storeSecp256k1(private *secp256k1.PrivateKey) ([]byte, error) {
	scalar := private.Serialize()
	defer secret.Clear(scalar)
	return secp256k1Curve.marshal(scalar, private.PubKey().SerializeUncompressed())
}

type secp256k1Key struct {
	private *secret.Bytes // the scalar
	public  *secp256k1.PublicKey
}

var secp256k1Schemes = func() []scheme[secp256k1Key] {
	digests := scheme[secp256k1Key]{
		algorithm: "ECDSA_SHA_256", messageType: Digest, size: sha256.Size,
		sign: func(k *secp256k1Key, digest []byte) ([]byte, error) {
			private := secp256k1.PrivKeyFromBytes(k.private.Expose())
			defer private.Zero()
			return secp256k1ecdsa.Sign(private, digest).Serialize(), nil
		},
		verify: func(k *secp256k1Key, signature, digest []byte) bool {
			s, err := secp256k1ecdsa.ParseDERSignature(signature)
			return err == nil && s.Verify(digest, k.public)
		},
	}
	return []scheme[secp256k1Key]{digests, digests.hashed(func(message []byte) []byte {
		digest := sha256.Sum256(message)
		return digest[:]
	})}
}()
