package kms_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func TestADecrypterDecryptsWhatThePublicKeyEncrypts(t *testing.T) {
	svc, _ := newService(t)
	key := createEncryptionKey(t, svc, kms.KeySpecRSA2048)
	decrypter, err := svc.Decrypter(t.Context(), key.KeyId)
	require.NoError(t, err)
	public := decrypter.Public().(*rsa.PublicKey)
	for _, tt := range []struct {
		hash hash.Hash
		opts *rsa.OAEPOptions
	}{
		{sha1.New(), &rsa.OAEPOptions{Hash: crypto.SHA1}},
		{sha256.New(), &rsa.OAEPOptions{Hash: crypto.SHA256}},
		{sha256.New(), &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA256, Label: []byte{}}},
	} {
		ciphertext, err := rsa.EncryptOAEP(tt.hash, rand.Reader, public, []byte("plaintext"), nil)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if plaintext, err := decrypter.Decrypt(nil, ciphertext, tt.opts); err != nil || string(plaintext) != "plaintext" {
					t.Errorf("decrypted %q: %v", plaintext, err)
				}
			})
		}
		wg.Wait()

		_, err = decrypter.Decrypt(rand.Reader, flip(ciphertext, 100), tt.opts)
		require.ErrorIs(t, err, kms.InvalidCiphertextException)
		require.ErrorIs(t, err, kms.ErrContextOrAltered)
	}
	labeled, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("plaintext"), []byte("label"))
	require.NoError(t, err)
	_, err = decrypter.Decrypt(nil, labeled, &rsa.OAEPOptions{Hash: crypto.SHA256})
	require.ErrorIs(t, err, kms.InvalidCiphertextException)

	disable(t, svc, key.KeyId)
	_, err = decrypter.Decrypt(nil, labeled, &rsa.OAEPOptions{Hash: crypto.SHA256})
	require.ErrorIs(t, err, kms.DisabledException)
}

func TestADecrypterRefusesOtherOptions(t *testing.T) {
	svc, _ := newService(t)
	decrypter, err := svc.Decrypter(t.Context(), createEncryptionKey(t, svc, kms.KeySpecRSA2048).KeyId)
	require.NoError(t, err)
	for _, tt := range []struct {
		opts    crypto.DecrypterOpts
		message string
	}{
		{nil, "A Decrypter offers RSA OAEP, with *rsa.OAEPOptions, not <nil>."},
		{(*rsa.OAEPOptions)(nil), "A Decrypter offers RSA OAEP, with *rsa.OAEPOptions, not *rsa.OAEPOptions."},
		//lint:ignore SA1019 it is refused
		{&rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}, "A Decrypter offers RSA OAEP, with *rsa.OAEPOptions, not *rsa.PKCS1v15DecryptOptions."},
		{&rsa.OAEPOptions{}, "RSA OAEP with unknown hash value 0 is not supported."},
		{&rsa.OAEPOptions{Hash: crypto.SHA512}, "RSA OAEP with SHA-512 is not supported."},
		{&rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA1}, "RSA OAEP with SHA-1 in MGF1 and SHA-256 elsewhere is not supported."},
		{&rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("label")}, "RSA OAEP with a label is not supported."},
	} {
		_, err := decrypter.Decrypt(nil, make([]byte, 256), tt.opts)
		requireError(t, err, kms.UnsupportedOperationException, "%s", tt.message)
	}
}

func TestADecrypterIsOnlyForRSAKeysThatDecrypt(t *testing.T) {
	svc, _ := newService(t)
	signing := createSigningKey(t, svc)
	_, err := svc.Decrypter(t.Context(), signing.KeyId)
	requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is SIGN_VERIFY which is not valid for Decrypt.", signing.Arn)
	sm2 := createEncryptionKey(t, svc, kms.KeySpecSM2)
	_, err = svc.Decrypter(t.Context(), sm2.KeyId)
	requireError(t, err, kms.UnsupportedOperationException, "%s key spec is SM2, whose public keys crypto/x509 cannot represent.", sm2.Arn)
}
