package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for RSAES-OAEP
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pocketkms/kms/internal/secret"
)

// RawAES returns a keyring with an AES key of 16, 24 or 32 bytes that the application keeps itself;
// the key is copied. Namespace and name are stored in the message and must be the same to decrypt.
// The namespace must not begin with "aws-kms". Use a key for at most 2^32 data keys: each gets a
// random IV of AES-GCM.
func RawAES(namespace, name string, key []byte) Keyring {
	return &rawAES{namespace: namespace, name: name, key: secret.New(bytes.Clone(key))}
}

// A rawAES encrypts data keys by AES-GCM, with the encryption context as associated data.
type rawAES struct {
	namespace, name string
	key             *secret.Bytes
}

const (
	ivBytes  = 12
	tagBytes = 16
)

func (r *rawAES) keyrings() []keyring { return []keyring{r} }

func (r *rawAES) can() (encrypt, decrypt bool) { return true, true }

func (r *rawAES) check() error {
	if r == nil {
		return errors.New("envelope: a keyring is nil")
	}
	if n := r.key.Len(); n != 16 && n != 24 && n != 32 {
		return fmt.Errorf("envelope: a raw AES key of %d bytes, not 16, 24 or 32", n)
	}
	return checkRaw(r.namespace, r.name)
}

func checkRaw(namespace, name string) error {
	if strings.HasPrefix(namespace, providerKMS) {
		return fmt.Errorf("envelope: the namespace of a raw key must not begin with %s", providerKMS)
	}
	return errors.Join(checkName("namespace", namespace), checkName("name", name))
}

// info returns the provider info before the IV: name, length of the tag in bits, length of the IV.
func (r *rawAES) info() []byte {
	b := binary.BigEndian.AppendUint32([]byte(r.name), 8*tagBytes)
	return binary.BigEndian.AppendUint32(b, ivBytes)
}

func (r *rawAES) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(r.key.Expose())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (r *rawAES) generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	return generateRaw(ctx, r, size, ec)
}

func generateRaw(ctx context.Context, k keyring, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	dataKey := make([]byte, size)
	rand.Read(dataKey) // never fails
	encrypted, err := k.encrypt(ctx, dataKey, ec)
	if err != nil {
		secret.Clear(dataKey)
		return nil, encryptedKey{}, err
	}
	return dataKey, encrypted, nil
}

func (r *rawAES) encrypt(_ context.Context, dataKey []byte, ec *encryptionContext) (encryptedKey, error) {
	aead, err := r.aead()
	if err != nil {
		return encryptedKey{}, err
	}
	var iv [ivBytes]byte
	rand.Read(iv[:])
	return encryptedKey{
		provider:   r.namespace,
		info:       string(append(r.info(), iv[:]...)),
		ciphertext: aead.Seal(nil, iv[:], dataKey, ec.encoded),
	}, nil
}

func (r *rawAES) matches(key *encryptedKey) bool {
	info := string(r.info())
	return key.provider == r.namespace && len(key.info) == len(info)+ivBytes && strings.HasPrefix(key.info, info)
}

func (r *rawAES) decrypt(_ context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error) {
	aead, err := r.aead()
	if err != nil {
		return nil, err
	}
	dataKey, err := aead.Open(nil, []byte(key.info[len(key.info)-ivBytes:]), key.ciphertext, ec.encoded)
	if err != nil {
		return nil, errUnwrap
	}
	return dataKey, nil
}

// RawRSA returns a keyring with an RSA key of at least 2,048 bits that the application keeps itself.
// It encrypts data keys by RSAES-OAEP with a hash, which is SHA-1, SHA-256, SHA-384 or SHA-512; the
// format has the same one for MGF1. RSA does not authenticate the encryption context: only the
// message does.
//
// Namespace and name are as for [RawAES]. The key must not be changed afterwards.
func RawRSA(namespace, name string, hash crypto.Hash, key *rsa.PrivateKey) Keyring {
	r := &rawRSA{namespace: namespace, name: name, hash: hash}
	if key != nil {
		r.public = &key.PublicKey
		r.open = func(ciphertext []byte) ([]byte, error) {
			return rsa.DecryptOAEP(hash.New(), nil, key, ciphertext, nil)
		}
	}
	return r
}

// RawRSAPublic returns the half of a [RawRSA] that only encrypts, such as for a key in escrow.
func RawRSAPublic(namespace, name string, hash crypto.Hash, key *rsa.PublicKey) Keyring {
	return &rawRSA{namespace: namespace, name: name, hash: hash, public: key}
}

type rawRSA struct {
	namespace, name string
	hash            crypto.Hash
	public          *rsa.PublicKey
	open            func(ciphertext []byte) ([]byte, error) // nil without the private key, which it hides
}

func (r *rawRSA) keyrings() []keyring { return []keyring{r} }

func (r *rawRSA) can() (encrypt, decrypt bool) { return true, r.open != nil }

func (r *rawRSA) check() error {
	if r.public == nil || r.public.N == nil || r.public.N.BitLen() < 2048 {
		return errors.New("envelope: a raw RSA key must have at least 2,048 bits")
	}
	if !slices.Contains([]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}, r.hash) {
		return errors.New("envelope: the hash of a raw RSA keyring must be SHA-1, SHA-256, SHA-384 or SHA-512")
	}
	return checkRaw(r.namespace, r.name)
}

func (r *rawRSA) generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	return generateRaw(ctx, r, size, ec)
}

func (r *rawRSA) encrypt(_ context.Context, dataKey []byte, _ *encryptionContext) (encryptedKey, error) {
	ciphertext, err := rsa.EncryptOAEP(r.hash.New(), rand.Reader, r.public, dataKey, nil)
	if err != nil {
		return encryptedKey{}, err
	}
	return encryptedKey{provider: r.namespace, info: r.name, ciphertext: ciphertext}, nil
}

func (r *rawRSA) matches(key *encryptedKey) bool {
	return r.open != nil && key.provider == r.namespace && key.info == r.name
}

func (r *rawRSA) decrypt(_ context.Context, key *encryptedKey, _ *encryptionContext) ([]byte, error) {
	dataKey, err := r.open(key.ciphertext)
	if err != nil {
		return nil, errUnwrap
	}
	return dataKey, nil
}
