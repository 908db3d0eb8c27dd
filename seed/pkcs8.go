package seed

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/pocketkms/kms/internal/secret"
)

// This file encodes private keys in other formats as PKCS#8, without a look at the numbers: the
// family of the key's spec checks them, and that they fit each other, as it does for PKCS#8.

// An algorithm is what a PKCS#8 PrivateKeyInfo (RFC 5208, section 5) says about its private key.
type algorithm struct {
	oid, curve asn1.ObjectIdentifier // the curve is only that of an ecPublicKey
	null       bool                  // whether the parameter is NULL
}

var (
	rsaEncryption = algorithm{oid: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, null: true} // RFC 8017, appendix A.1
	ed25519       = algorithm{oid: asn1.ObjectIdentifier{1, 3, 101, 112}}                         // RFC 8410, section 3
	ecPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}                                 // RFC 5480, section 2.1.1
)

// pkcs8 returns a private key in the algorithm's own encoding as PKCS#8, with its public key in the
// same unless that is nil (OneAsymmetricKey: RFC 5958, section 2).
func pkcs8(a algorithm, private, public []byte) ([]byte, error) {
	b := newBuilder()
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(min(len(public), 1))) // the version
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(a.oid)
			if a.curve != nil {
				b.AddASN1ObjectIdentifier(a.curve)
			}
			if a.null {
				b.AddASN1NULL()
			}
		})
		b.AddASN1OctetString(private)
		if public != nil {
			b.AddASN1(der.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddUint8(0) // no unused bits
				b.AddBytes(public)
			})
		}
	})
	return b.Bytes()
}

// newBuilder returns a Builder with room for any private key, so that it leaves no copies of a part
// behind. That of RSA-4096 has 2,400 bytes.
func newBuilder() *cryptobyte.Builder { return cryptobyte.NewBuilder(make([]byte, 0, 4096)) }

// wrap returns what b has built as PKCS#8, and erases it.
func wrap(a algorithm, b *cryptobyte.Builder, public []byte) ([]byte, error) {
	private, err := b.Bytes()
	if err != nil {
		return nil, errJWK
	}
	defer secret.Clear(private)
	return pkcs8(a, private, public)
}

// pkcs8OfSEC1 returns an ECPrivateKey (RFC 5915) as PKCS#8. It must name its curve.
func pkcs8OfSEC1(private []byte) ([]byte, error) {
	input := cryptobyte.String(private)
	var key, parameters cryptobyte.String
	var curve asn1.ObjectIdentifier
	ok := input.ReadASN1(&key, der.SEQUENCE) && key.SkipASN1(der.INTEGER) && key.SkipASN1(der.OCTET_STRING) &&
		key.ReadASN1(&parameters, der.Tag(0).ContextSpecific().Constructed()) && parameters.ReadASN1ObjectIdentifier(&curve)
	if !ok {
		return nil, errors.New("the PEM block does not hold an EC private key with the name of its curve")
	}
	return pkcs8(algorithm{oid: ecPublicKey, curve: curve}, private, nil)
}

// A jwk has the members of RFC 7518 and RFC 8037 that hold a key, and then those that only describe
// it.
type jwk struct {
	Type  string `json:"kty" yaml:"kty"`
	Curve string `json:"crv" yaml:"crv"`
	X     string `json:"x" yaml:"x"`
	Y     string `json:"y" yaml:"y"`
	N     string `json:"n" yaml:"n"`
	E     string `json:"e" yaml:"e"`
	D     string `json:"d" yaml:"d"`
	P     string `json:"p" yaml:"p"`
	Q     string `json:"q" yaml:"q"`
	DP    string `json:"dp" yaml:"dp"`
	DQ    string `json:"dq" yaml:"dq"`
	QI    string `json:"qi" yaml:"qi"`
	K     string `json:"k" yaml:"k"`

	ID         string   `json:"kid" yaml:"kid"`
	Use        string   `json:"use" yaml:"use"`
	Algorithm  string   `json:"alg" yaml:"alg"`
	Operations []string `json:"key_ops" yaml:"key_ops"`
	Extract    bool     `json:"ext" yaml:"ext"`
}

var errJWK = errors.New("the material is not a JSON Web Key of type oct, or one of type RSA, EC or OKP with a private key")

// jwkCurves are the curves of type EC, by their names in RFC 7518 and RFC 8812.
var jwkCurves = map[string]asn1.ObjectIdentifier{
	"P-256":     {1, 2, 840, 10045, 3, 1, 7},
	"P-384":     {1, 3, 132, 0, 34},
	"P-521":     {1, 3, 132, 0, 35},
	"secp256k1": {1, 3, 132, 0, 10},
}

func (k *jwk) decode() (material []byte, private bool, err error) {
	switch {
	case k.Type == "oct":
		parts, err := decodeMembers(k.K)
		if err != nil {
			return nil, false, err
		}
		return parts[0], false, nil
	case k.Type == "RSA":
		material, err = k.rsa()
	case k.Type == "EC" && jwkCurves[k.Curve] != nil:
		material, err = k.ec(jwkCurves[k.Curve])
	case k.Type == "OKP" && k.Curve == "Ed25519":
		material, err = k.ed25519()
	default:
		err = errJWK
	}
	return material, true, err
}

// rsa returns an RSAPrivateKey (RFC 8017, appendix A.1.2) with two primes.
func (k *jwk) rsa() ([]byte, error) {
	parts, err := decodeMembers(k.N, k.E, k.D, k.P, k.Q, k.DP, k.DQ, k.QI)
	if err != nil {
		return nil, err
	}
	defer clearAll(parts)
	b := newBuilder()
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		for _, number := range parts {
			b.AddASN1BigInt(new(big.Int).SetBytes(number))
		}
	})
	return wrap(rsaEncryption, b, nil)
}

// ec returns an ECPrivateKey (RFC 5915) with the public key, which has to be that of d.
func (k *jwk) ec(curve asn1.ObjectIdentifier) ([]byte, error) {
	parts, err := decodeMembers(k.D, k.X, k.Y)
	if err != nil {
		return nil, err
	}
	defer clearAll(parts)
	b := newBuilder()
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1OctetString(parts[0])
		b.AddASN1(der.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1BitString(append(append([]byte{4}, parts[1]...), parts[2]...)) // SEC 1, section 2.3.3
		})
	})
	return wrap(algorithm{oid: ecPublicKey, curve: curve}, b, nil)
}

// ed25519 returns a CurvePrivateKey (RFC 8410, section 7) with the public key, which has to be that
// of d.
func (k *jwk) ed25519() ([]byte, error) {
	parts, err := decodeMembers(k.D, k.X)
	if err != nil {
		return nil, err
	}
	defer clearAll(parts)
	b := newBuilder()
	b.AddASN1OctetString(parts[0])
	return wrap(ed25519, b, parts[1])
}

// maxMemberBytes bounds the members of a JSON Web Key: the modulus of RSA-4096 has as many bytes.
const maxMemberBytes = 512

// decodeMembers returns members of a JSON Web Key, none of which may be empty. The caller erases
// them.
func decodeMembers(members ...string) (parts [][]byte, err error) {
	for _, member := range members {
		part, err := base64.RawURLEncoding.Strict().DecodeString(member)
		parts = append(parts, part)
		if err != nil || len(part) == 0 || len(part) > maxMemberBytes {
			clearAll(parts)
			return nil, errJWK
		}
	}
	return parts, nil
}
