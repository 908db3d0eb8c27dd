package kms

import (
	"context"
	"crypto"
	"crypto/rsa"
	"io"
)

// Decrypter returns the RSA key that keyID names as a [crypto.Decrypter]. keyID is a key ID, key
// ARN, alias name or alias ARN of a key for KeyUsageEncryptDecrypt.
//
// What is said of contexts, aliases and errors at [Service.Signer] holds here, too: Decrypter calls
// [Service.GetPublicKey], and the Decrypter's Decrypt calls [Service.Decrypt] with ctx.
//
// Decrypt ignores its io.Reader. Its options are [*rsa.OAEPOptions] with SHA-1 or SHA-256 as Hash,
// the same MGFHash or none, and no label. All others are an [UnsupportedOperationException]: AWS
// KMS does not offer PKCS #1 v1.5 decryption, whose errors are an oracle. So are SM2 keys.
func (s *Service) Decrypter(ctx context.Context, keyID string) (crypto.Decrypter, error) {
	public, keyARN, err := s.publicKey(ctx, keyID, KeyUsageEncryptDecrypt, "Decrypt")
	if err != nil {
		return nil, err
	}
	return &keyDecrypter{s, ctx, keyARN, public}, nil
}

type keyDecrypter struct {
	svc    *Service
	ctx    context.Context // a crypto.Decrypter is not given one
	keyARN string
	public crypto.PublicKey
}

// Public returns the public key, an [*rsa.PublicKey].
func (k *keyDecrypter) Public() crypto.PublicKey { return k.public }

// Decrypt decrypts a ciphertext of [rsa.EncryptOAEP].
func (k *keyDecrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	algorithm, err := encryptionAlgorithm(opts)
	if err != nil {
		return nil, err
	}
	out, err := k.svc.Decrypt(k.ctx, &DecryptInput{KeyId: k.keyARN, CiphertextBlob: ciphertext, EncryptionAlgorithm: algorithm})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

func encryptionAlgorithm(opts crypto.DecrypterOpts) (EncryptionAlgorithmSpec, error) {
	oaep, ok := opts.(*rsa.OAEPOptions)
	switch {
	case !ok || oaep == nil:
		return "", unsupported("Decrypt", "A Decrypter offers RSA OAEP, with *rsa.OAEPOptions, not %T.", opts)
	case len(oaep.Label) > 0:
		return "", unsupported("Decrypt", "RSA OAEP with a label is not supported.")
	case oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash:
		return "", unsupported("Decrypt", "RSA OAEP with %v in MGF1 and %v elsewhere is not supported.", oaep.MGFHash, oaep.Hash)
	}
	switch oaep.Hash {
	case crypto.SHA1:
		return EncryptionAlgorithmRSAESOAEPSHA1, nil
	case crypto.SHA256:
		return EncryptionAlgorithmRSAESOAEPSHA256, nil
	}
	return "", unsupported("Decrypt", "RSA OAEP with %v is not supported.", oaep.Hash)
}
