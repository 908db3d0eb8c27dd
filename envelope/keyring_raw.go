package envelope

import (
	"crypto"
	"crypto/rsa"
)

// RawAES returns a keyring with an AES key of 16, 24 or 32 bytes that the application keeps itself,
// which is copied. Namespace and name are stored in the message and must be the same to decrypt; the
// namespace must not begin with "aws-kms".
func RawAES(namespace, name string, key []byte) Keyring { panic("skeleton") }

// RawRSA returns a keyring with an RSA key of at least 2,048 bits that the application keeps itself.
// It encrypts data keys by RSAES-OAEP with hash, which is SHA-1, SHA-256, SHA-384 or SHA-512, also
// for MGF1.
func RawRSA(namespace, name string, hash crypto.Hash, key *rsa.PrivateKey) Keyring { panic("skeleton") }

// RawRSAPublic returns the half of [RawRSA] that only encrypts, such as for an escrow key.
func RawRSAPublic(namespace, name string, hash crypto.Hash, key *rsa.PublicKey) Keyring {
	panic("skeleton")
}
