package seed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
)

// Material is key material that was chosen beforehand. It is decoded when the key is created, which
// fails if it is malformed. The same private key is the same material, with the same ID, in
// whatever encoding.
//
// Printing or encoding a Material does not disclose it.
type Material struct {
	decode func() (material []byte, private bool, err error) // a function, because fmt prints everything else
}

// Bytes returns the material itself: 32 bytes for SYMMETRIC_DEFAULT, from the size of the hash up
// to 128 bytes for an HMAC key, and a DER-encoded PKCS#8 PrivateKeyInfo for any other spec. It is
// copied.
func Bytes(material []byte) Material {
	material = bytes.Clone(material)
	return Material{func() ([]byte, bool, error) { return bytes.Clone(material), false, nil }}
}

// Hex is [Bytes] in hexadecimal.
func Hex(text string) Material {
	return Material{func() ([]byte, bool, error) {
		material, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			err = errors.New("the material is not hexadecimal") // does not repeat the wrong digit
		}
		return material, false, err
	}}
}

// Base64 is [Bytes] in base64, in the standard or the URL alphabet, with or without padding.
func Base64(text string) Material {
	return Material{func() ([]byte, bool, error) {
		material, err := decodeBase64(text)
		if err != nil {
			err = errors.New("the material is not base64")
		}
		return material, false, err
	}}
}

// PEM is a private key in a block "PRIVATE KEY" (PKCS#8) or "EC PRIVATE KEY" (SEC 1), not
// encrypted. A block "EC PARAMETERS", which openssl writes before it, is ignored.
func PEM(text string) Material {
	return Material{func() ([]byte, bool, error) {
		material, err := decodePEM([]byte(text))
		return material, true, err
	}}
}

// JWK is a JSON Web Key (RFC 7517) with "kty" "oct" for symmetric and HMAC keys, or "EC" for the
// private key of an elliptic curve.
func JWK(text string) Material {
	return Material{func() ([]byte, bool, error) {
		var k jwk
		if json.Unmarshal([]byte(text), &k) != nil {
			return nil, false, errJWK
		}
		return k.decode()
	}}
}

// bytes returns the stored form of the material for a key of that spec; the caller erases it. It
// returns nil for the zero Material.
func (m Material) bytes(keySpec kms.KeySpec) ([]byte, error) {
	if m.decode == nil {
		return nil, nil
	}
	material, private, err := m.decode()
	if err != nil {
		return nil, err
	}
	if material == nil { // nil would mean to generate it
		material = []byte{}
	}
	s := spec.Of(string(keySpec))
	if s == nil {
		return material, nil // the service refuses the spec
	}
	if s.Kind != spec.Asymmetric {
		if private {
			secret.Clear(material)
			return nil, errors.New("a private key cannot be the material for KeySpec " + s.Name)
		}
		return material, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return material, nil // the service knows more kinds of keys than x509, and says what is wrong
	}
	secret.Clear(material)
	return x509.MarshalPKCS8PrivateKey(key)
}

func decodePEM(text []byte) (_ []byte, err error) {
	var found []byte
	defer func() {
		if err != nil {
			secret.Clear(found)
		}
	}()
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && len(bytes.TrimSpace(rest)) > 0, block == nil && found == nil, block != nil && found != nil:
			return nil, errors.New("the material is not one PEM block of a private key")
		case block == nil:
			return found, nil
		}
		text = rest
		var key *ecdsa.PrivateKey
		switch block.Type {
		case "EC PARAMETERS":
			continue
		case "PRIVATE KEY":
			found = block.Bytes
			continue
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			secret.Clear(block.Bytes)
			return nil, errors.New("a PEM block of this type, or an encrypted one, is not supported")
		}
		secret.Clear(block.Bytes)
		if err == nil {
			found, err = x509.MarshalPKCS8PrivateKey(key)
		}
		if err != nil {
			return nil, errors.New("the PEM block does not hold a private key of its type")
		}
	}
}

// A jwk has the members of RFC 7518 that hold a key, and then those that only describe it.
type jwk struct {
	Type  string `json:"kty" yaml:"kty"`
	Curve string `json:"crv" yaml:"crv"`
	X     string `json:"x" yaml:"x"`
	Y     string `json:"y" yaml:"y"`
	D     string `json:"d" yaml:"d"`
	K     string `json:"k" yaml:"k"`

	ID         string   `json:"kid" yaml:"kid"`
	Use        string   `json:"use" yaml:"use"`
	Algorithm  string   `json:"alg" yaml:"alg"`
	Operations []string `json:"key_ops" yaml:"key_ops"`
	Extract    bool     `json:"ext" yaml:"ext"`
}

var errJWK = errors.New("the material is not a JSON Web Key of type oct, or of type EC with a private key")

func (k *jwk) decode() (material []byte, private bool, err error) {
	switch k.Type {
	case "oct":
		material, err := base64.RawURLEncoding.Strict().DecodeString(k.K)
		if err != nil || len(material) == 0 {
			return nil, false, errJWK
		}
		return material, false, nil
	case "EC":
	default:
		return nil, false, errJWK
	}
	curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Curve]
	d, err1 := base64.RawURLEncoding.Strict().DecodeString(k.D)
	x, err2 := base64.RawURLEncoding.Strict().DecodeString(k.X)
	y, err3 := base64.RawURLEncoding.Strict().DecodeString(k.Y)
	if !ok || errors.Join(err1, err2, err3) != nil {
		return nil, true, errJWK
	}
	defer secret.Clear(d)
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, true, errJWK
	}
	public, err := key.PublicKey.Bytes()
	if err != nil || !bytes.Equal(public, append(append([]byte{4}, x...), y...)) { // SEC 1, section 2.3.3
		return nil, true, errors.New("x and y of the JSON Web Key are not the public key of its d")
	}
	material, err = x509.MarshalPKCS8PrivateKey(key)
	return material, true, err
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/", "\n", "", " ", "").Replace(text)
	return base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}
