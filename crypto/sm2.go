package crypto

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	gmecdh "github.com/emmansun/gmsm/ecdh"
	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"

	"github.com/pocketkms/kms/internal/secret"
)

// SM2DSA is the signature algorithm of SM2 (GB/T 32918.2). Its keys are [SigningKey]s of one
// algorithm, SM2DSA, for messages and digests. A digest is SM3 of the signer's Z value and the
// message; for messages, Z is that of the distinguishing identifier 1234567812345678. Signatures
// are randomized, and DER like those of ECDSA. The material is PKCS#8 with an ECPrivateKey (RFC
// 5915) that names the curve.
//
// All of SM2 is in one file, the only one that imports github.com/emmansun/gmsm.
func SM2DSA() Family {
	return sm2Family{func(private *sm2.PrivateKey, public []byte) (Key, error) {
		return newSigningKey(private, public, sm2Schemes), nil
	}}
}

// SM2PKE is the public-key encryption of SM2 (GB/T 32918.4). Its keys are [DecryptionKey]s of one
// algorithm, SM2PKE, for plaintexts of 1 to 1,024 bytes, as in KMS. Ciphertexts are DER (GB/T
// 35276, section 7.2). The material is that of [SM2DSA].
func SM2PKE() Family {
	return sm2Family{func(private *sm2.PrivateKey, public []byte) (Key, error) {
		k := new(sm2DecryptionKey)
		k.public = public
		k.p.Store(private)
		return k, nil
	}}
}

// SM2ECDH is elliptic curve Diffie-Hellman on the curve of SM2. Its keys are [AgreementKey]s whose
// shared secrets have 32 bytes. It is not the key exchange of GB/T 32918.3, which needs a second
// pair of keys. The material is that of [SM2DSA].
func SM2ECDH() Family {
	return sm2Family{func(private *sm2.PrivateKey, public []byte) (Key, error) {
		p, err := private.ECDH()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
		}
		k := new(sm2AgreementKey)
		k.public = public
		k.p.Store(p)
		return k, nil
	}}
}

// sm2Family is the material of SM2 keys, for every use.
type sm2Family struct {
	newKey func(private *sm2.PrivateKey, public []byte) (Key, error)
}

var sm2Curve = newNamedCurve(32, 1, 2, 156, 10197, 1, 301) // GB/T 33560, and RFC 8998, section 3.2

func (f sm2Family) Generate() ([]byte, error) {
	private, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return f.store(private)
}

func (f sm2Family) Import(material []byte) ([]byte, error) {
	private, _, err := f.read(material)
	if err != nil {
		return nil, err
	}
	return f.store(private)
}

func (f sm2Family) Parse(material []byte) (Key, error) {
	private, point, err := f.read(material)
	if err != nil {
		return nil, err
	}
	public, err := marshalSPKI(sm2Curve.algorithm, point)
	if err != nil {
		return nil, err
	}
	return f.newKey(private, public)
}

func (sm2Family) read(material []byte) (private *sm2.PrivateKey, point []byte, err error) {
	err = sm2Curve.read(material, func(scalar []byte) ([]byte, error) {
		if private, err = sm2.NewPrivateKey(scalar); err != nil { // 1 to n-2
			return nil, err
		}
		point, err = sm2Point(private)
		return point, err
	})
	return private, point, err
}

// sm2Point returns the public key in uncompressed form.
func sm2Point(private *sm2.PrivateKey) ([]byte, error) {
	public, err := sm2.PublicKeyToECDH(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return public.Bytes(), nil
}

func (sm2Family) store(private *sm2.PrivateKey) ([]byte, error) {
	scalar := private.D.FillBytes(make([]byte, sm2Curve.size))
	defer secret.Clear(scalar)
	point, err := sm2Point(private)
	if err != nil {
		return nil, err
	}
	return sm2Curve.marshal(scalar, point)
}

var sm2Schemes = []scheme[sm2.PrivateKey]{{
	algorithm: "SM2DSA", messageType: Raw,
	sign: func(private *sm2.PrivateKey, message []byte) ([]byte, error) {
		digest, err := sm2.CalculateSM2Hash(&private.PublicKey, message, nil)
		if err != nil {
			return nil, err
		}
		return sm2.SignASN1(rand.Reader, private, digest, nil)
	},
	verify: func(private *sm2.PrivateKey, signature, message []byte) bool {
		digest, err := sm2.CalculateSM2Hash(&private.PublicKey, message, nil)
		return err == nil && sm2.VerifyASN1(&private.PublicKey, digest, signature)
	},
}, {
	algorithm: "SM2DSA", messageType: Digest, size: sm3.Size,
	sign: func(private *sm2.PrivateKey, digest []byte) ([]byte, error) {
		return sm2.SignASN1(rand.Reader, private, digest, nil)
	},
	verify: func(private *sm2.PrivateKey, signature, digest []byte) bool {
		return sm2.VerifyASN1(&private.PublicKey, digest, signature)
	},
}}

const (
	sm2MaxPlaintextBytes = 1024

	// sm2Attempts bounds the attempts to encrypt one plaintext. For one byte, an attempt fails with
	// probability 2^-8, so all of them fail with probability 2^-128.
	sm2Attempts = 16
)

type sm2DecryptionKey struct{ privateKey[sm2.PrivateKey] }

var _ DecryptionKey = (*sm2DecryptionKey)(nil)

func (k *sm2DecryptionKey) Encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	private, err := k.use(algorithm)
	if err != nil {
		return nil, err
	}
	if len(plaintext) == 0 || len(plaintext) > sm2MaxPlaintextBytes {
		return nil, ErrLength
	}
	for range sm2Attempts {
		ciphertext, err := sm2.EncryptASN1(rand.Reader, &private.PublicKey, plaintext)
		if err != nil {
			return nil, err
		}
		// If the key stream is all zeros, the standard says to draw another random point. The
		// module draws one, but has overwritten its copy of the public key with the first
		// product, and so returns a ciphertext that this key cannot decrypt.
		opened, err := sm2.Decrypt(private, ciphertext)
		if err == nil && bytes.Equal(opened, plaintext) {
			return ciphertext, nil
		}
	}
	return nil, errors.New("crypto: SM2 encryption failed")
}

func (k *sm2DecryptionKey) Decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	private, err := k.use(algorithm)
	if err != nil {
		return nil, err
	}
	// The module also takes ciphertexts that are not DER.
	if len(ciphertext) == 0 || ciphertext[0] != 0x30 {
		return nil, ErrDecrypt
	}
	plaintext, err := sm2.Decrypt(private, ciphertext)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

func (k *sm2DecryptionKey) use(algorithm string) (*sm2.PrivateKey, error) {
	if algorithm != "SM2PKE" {
		return nil, ErrAlgorithm
	}
	return k.get()
}

type sm2AgreementKey struct{ privateKey[gmecdh.PrivateKey] }

var _ AgreementKey = (*sm2AgreementKey)(nil)

func (k *sm2AgreementKey) SharedSecret(peer []byte) ([]byte, error) {
	private, err := k.get()
	if err != nil {
		return nil, err
	}
	point, err := readSPKI(peer, sm2Curve.algorithm)
	if err != nil {
		return nil, err
	}
	public, err := gmecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w: not a point on the curve", ErrPublicKey)
	}
	return private.ECDH(public)
}
