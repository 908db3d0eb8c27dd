package seed

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
)

// Material is key material that was chosen beforehand. It is decoded when the key is created, which
// fails if it is malformed or not that of the key's spec. The same private key is the same
// material, with the same ID, in whatever encoding.
//
// Printing or encoding a Material does not disclose it. A Material may be used by several
// goroutines and for several services; an RSA key is tested only the first time, which takes
// longest.
type Material struct {
	stored func(*spec.Spec, *spec.Usage) ([]byte, error) // a function, because fmt prints everything else
}

// newMaterial returns the Material that decode decodes. decode returns the bytes of a symmetric or
// HMAC key, or a PKCS#8 private key, and whether it can only be the latter. Its caller owns the
// bytes, and erases them.
func newMaterial(decode func() (material []byte, private bool, err error)) Material {
	var mu sync.Mutex
	var last []byte
	var lastUsage *spec.Usage
	return Material{func(s *spec.Spec, usage *spec.Usage) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if usage == lastUsage {
			return bytes.Clone(last), nil
		}
		material, private, err := decode()
		defer secret.Clear(material)
		switch {
		case err != nil:
			return nil, err
		case private && s.Kind != spec.Asymmetric:
			return nil, errors.New("a private key cannot be the material for KeySpec " + s.Name)
		}
		stored, err := usage.Family(time.Now).Import(material)
		if err != nil {
			return nil, fmt.Errorf("the material does not suit KeySpec %s: %w", s.Name, err)
		}
		secret.Clear(last)
		last, lastUsage = stored, usage
		return bytes.Clone(stored), nil
	}}
}

// Bytes returns the material itself: 32 bytes for SYMMETRIC_DEFAULT, from the size of the hash up
// to 128 bytes for an HMAC key, and a DER-encoded PKCS#8 PrivateKeyInfo for any other spec. It is
// copied.
func Bytes(material []byte) Material {
	material = bytes.Clone(material)
	return newMaterial(func() ([]byte, bool, error) { return bytes.Clone(material), false, nil })
}

// Hex is [Bytes] in hexadecimal.
func Hex(text string) Material {
	return newMaterial(func() ([]byte, bool, error) {
		material, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			err = errors.New("the material is not hexadecimal") // does not repeat the wrong digit
		}
		return material, false, err
	})
}

// Base64 is [Bytes] in base64, in the standard or the URL alphabet, with or without padding.
func Base64(text string) Material {
	return newMaterial(func() ([]byte, bool, error) {
		material, err := decodeBase64(text)
		if err != nil {
			err = errors.New("the material is not base64")
		}
		return material, false, err
	})
}

// PEM is a private key in a block "PRIVATE KEY" (PKCS#8), "RSA PRIVATE KEY" (PKCS#1) or "EC PRIVATE
// KEY" (SEC 1), not encrypted. A block "EC PARAMETERS", which openssl writes before it, is ignored.
func PEM(text string) Material {
	return newMaterial(func() ([]byte, bool, error) {
		material, err := decodePEM([]byte(text))
		return material, true, err
	})
}

// JWK is a JSON Web Key (RFC 7517) with "kty" "oct" for symmetric and HMAC keys, or a private key
// with "kty" "RSA", "EC" or "OKP".
func JWK(text string) Material {
	return newMaterial(func() ([]byte, bool, error) {
		var k jwk
		if json.Unmarshal([]byte(text), &k) != nil {
			return nil, false, errJWK
		}
		return k.decode()
	})
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
		if block.Type == "EC PARAMETERS" {
			continue
		}
		switch plain := len(block.Headers) == 0; {
		case block.Type == "PRIVATE KEY":
			found = bytes.Clone(block.Bytes)
		case block.Type == "RSA PRIVATE KEY" && plain:
			found, err = pkcs8(rsaEncryption, block.Bytes, nil)
		case block.Type == "EC PRIVATE KEY" && plain:
			found, err = pkcs8OfSEC1(block.Bytes)
		default:
			err = errors.New("a PEM block of this type, or an encrypted one, is not supported")
		}
		secret.Clear(block.Bytes)
		if err != nil {
			return nil, err
		}
	}
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/", "\n", "", " ", "").Replace(text)
	return base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}
