package crypto

import (
	"bytes"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/pocketkms/kms/internal/secret"
)

// maxMaterialBytes bounds the private keys that are parsed at all: one of RSA-4096 has 2,400 bytes.
const maxMaterialBytes = 8192

// algorithmID returns the content of an AlgorithmIdentifier (RFC 5280, section 4.1.1.2), whose one
// parameter, if any, is another object identifier.
func algorithmID(oids ...asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	for _, oid := range oids {
		b.AddASN1ObjectIdentifier(oid)
	}
	return b.BytesOrPanic() // of the constants in this package
}

// readPKCS8 reads a DER PrivateKeyInfo (RFC 5208, section 5) or OneAsymmetricKey (RFC 5958, section
// 2) of the algorithm. It returns the private key in the algorithm's own encoding, and the public
// key if the structure has one. It refuses what crypto/x509 accepts and a key store should not:
// bytes after the structure or within it, unknown versions, other parameters. Attributes are
// allowed, and ignored.
func readPKCS8(material, algorithm []byte) (private cryptobyte.String, public []byte, err error) {
	if len(material) > maxMaterialBytes {
		return nil, nil, fmt.Errorf("%w: more than %d bytes", ErrMaterial, maxMaterialBytes)
	}
	input := cryptobyte.String(material)
	var info, id, bits cryptobyte.String
	var version int
	var hasPublic bool
	var unused uint8 // bits at the end of the public key
	ok := input.ReadASN1(&info, der.SEQUENCE) && input.Empty() &&
		info.ReadASN1Integer(&version) &&
		info.ReadASN1(&id, der.SEQUENCE) &&
		info.ReadASN1(&private, der.OCTET_STRING) &&
		info.SkipOptionalASN1(der.Tag(0).ContextSpecific().Constructed()) &&
		info.ReadOptionalASN1(&bits, &hasPublic, der.Tag(1).ContextSpecific()) && info.Empty() &&
		(version == 0 && !hasPublic || version == 1 && hasPublic && bits.ReadUint8(&unused) && unused == 0 && !bits.Empty())
	if !ok {
		return nil, nil, fmt.Errorf("%w: not a PKCS#8 private key", ErrMaterial)
	}
	if !bytes.Equal(id, algorithm) {
		return nil, nil, fmt.Errorf("%w: not a private key of this algorithm", ErrMaterial)
	}
	return private, bits, nil
}

// marshalPKCS8 returns the DER PrivateKeyInfo of a private key in the algorithm's own encoding.
func marshalPKCS8(algorithm, private []byte) ([]byte, error) {
	// With enough capacity the builder never moves the secret to a new array.
	b := cryptobyte.NewBuilder(make([]byte, 0, len(algorithm)+len(private)+32))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(algorithm) })
		b.AddASN1OctetString(private)
	})
	return b.Bytes()
}

// readSPKI reads a DER SubjectPublicKeyInfo (RFC 5280, section 4.1) of the algorithm, and returns
// the public key in the algorithm's own encoding.
func readSPKI(spki, algorithm []byte) ([]byte, error) {
	input := cryptobyte.String(spki)
	var info, id cryptobyte.String
	var public []byte
	ok := input.ReadASN1(&info, der.SEQUENCE) && input.Empty() &&
		info.ReadASN1(&id, der.SEQUENCE) &&
		info.ReadASN1BitStringAsBytes(&public) && info.Empty()
	if !ok {
		return nil, fmt.Errorf("%w: not a SubjectPublicKeyInfo", ErrPublicKey)
	}
	if !bytes.Equal(id, algorithm) {
		return nil, fmt.Errorf("%w: not a public key of this algorithm", ErrPublicKey)
	}
	return public, nil
}

// marshalSPKI returns the DER SubjectPublicKeyInfo of a public key in the algorithm's own encoding.
func marshalSPKI(algorithm, public []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(algorithm) })
		b.AddASN1BitString(public)
	})
	return b.Bytes()
}

var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480, section 2.1.1

// A namedCurve encodes keys on one elliptic curve.
type namedCurve struct {
	size      int    // of a scalar and of a coordinate, in bytes
	oid       []byte // DER
	algorithm []byte // content of the AlgorithmIdentifier
}

func newNamedCurve(size int, oid ...int) *namedCurve {
	return &namedCurve{size, algorithmID(oid), algorithmID(oidECPublicKey, oid)}
}

// read reads a PKCS#8 private key on the curve, which holds an ECPrivateKey (RFC 5915). It calls
// public for the uncompressed public key of the scalar, and refuses any other public key in the
// material. An error of public means that the scalar is out of range.
func (c *namedCurve) read(material []byte, public func(scalar []byte) ([]byte, error)) error {
	octets, outer, err := readPKCS8(material, c.algorithm)
	if err != nil {
		return err
	}
	var key, scalar, parameters, bits cryptobyte.String
	var hasParameters, hasPublic bool
	var version int
	var inner []byte
	explicit := func(n uint8) der.Tag { return der.Tag(n).ContextSpecific().Constructed() }
	ok := octets.ReadASN1(&key, der.SEQUENCE) && octets.Empty() &&
		key.ReadASN1Integer(&version) && version == 1 &&
		key.ReadASN1(&scalar, der.OCTET_STRING) && len(scalar) == c.size &&
		key.ReadOptionalASN1(&parameters, &hasParameters, explicit(0)) &&
		key.ReadOptionalASN1(&bits, &hasPublic, explicit(1)) && key.Empty() &&
		(!hasParameters || bytes.Equal(parameters, c.oid)) &&
		(!hasPublic || bits.ReadASN1BitStringAsBytes(&inner) && bits.Empty())
	if !ok {
		return fmt.Errorf("%w: malformed ECPrivateKey", ErrMaterial)
	}
	own, err := public(scalar)
	if err != nil {
		return fmt.Errorf("%w: private key out of range", ErrMaterial)
	}
	if hasPublic && !bytes.Equal(inner, own) || outer != nil && !bytes.Equal(outer, own) {
		return fmt.Errorf("%w: public key of another private key", ErrMaterial)
	}
	return nil
}

// marshal returns the stored form of a private key. As in the private keys of KMS, the ECPrivateKey
// repeats the name of the curve.
func (c *namedCurve) marshal(scalar, public []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 4*c.size+64))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1OctetString(scalar)
		b.AddASN1(der.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(c.oid) })
		b.AddASN1(der.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1BitString(public) })
	})
	private, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	defer secret.Clear(private)
	return marshalPKCS8(c.algorithm, private)
}

// readSeed reads a PKCS#8 private key that is a seed, in the choice [0] of RFC 9881, section 6, and
// RFC 9935, section 6. It returns the public key too if the structure has one.
func readSeed(material, algorithm []byte, size int) (seed, public []byte, err error) {
	octets, public, err := readPKCS8(material, algorithm)
	if err != nil {
		return nil, nil, err
	}
	var content cryptobyte.String
	if !octets.ReadASN1(&content, der.Tag(0).ContextSpecific()) || !octets.Empty() || len(content) != size {
		return nil, nil, fmt.Errorf("%w: not a seed", ErrMaterial)
	}
	return content, public, nil
}

// marshalSeed returns the stored form of a seed.
func marshalSeed(algorithm, seed []byte) ([]byte, error) {
	private := append([]byte{byte(der.Tag(0).ContextSpecific()), byte(len(seed))}, seed...)
	defer secret.Clear(private)
	return marshalPKCS8(algorithm, private)
}
