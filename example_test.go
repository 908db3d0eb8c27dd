package kms_test

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

// Keys in a file outlive the program. The encryption context is not secret, but Decrypt must be
// given the same.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	svc, err := kms.Open(filepath.Join(dir, "my.keys"), keystore.Passphrase([]byte("correct horse battery staple")), kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := svc.Encrypt(ctx, &kms.EncryptInput{
		KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("a secret"), EncryptionContext: map[string]string{"tenant": "7"},
	})
	if err != nil {
		log.Fatal(err)
	}

	for _, tenant := range []string{"7", "8"} {
		opened, err := svc.Decrypt(ctx, &kms.DecryptInput{
			CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"tenant": tenant},
		})
		switch {
		case errors.Is(err, kms.InvalidCiphertextException):
			fmt.Printf("tenant %s: refused\n", tenant)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Printf("tenant %s: %s\n", tenant, opened.Plaintext)
		}
	}
	// Output:
	// tenant 7: a secret
	// tenant 8: refused
}

// Envelope encryption: the program encrypts the data with a data key, and stores the encrypted data
// key beside it.
func ExampleService_GenerateDataKey() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	dataKey, err := svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyMetadata.KeyId, KeySpec: kms.DataKeySpecAES256})
	if err != nil {
		log.Fatal(err)
	}
	sealed := cipherOf(dataKey.Plaintext).Seal(nil, nil, []byte("more than Encrypt takes"), nil)
	clear(dataKey.Plaintext) // store sealed and dataKey.CiphertextBlob

	opened, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dataKey.CiphertextBlob})
	if err != nil {
		log.Fatal(err)
	}
	data, err := cipherOf(opened.Plaintext).Open(nil, nil, sealed, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", data)
	// Output: more than Encrypt takes
}

// cipherOf returns AES-256-GCM under a data key, with a random nonce in front of the ciphertext.
// Use each data key for one message only.
func cipherOf(dataKey []byte) cipher.AEAD {
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		log.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		log.Fatal(err)
	}
	return gcm
}

// The first call creates the key and its alias; later calls return the same key. Callers that race
// get the same key, too.
func ExampleService_EnsureKey() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()

	first, err := svc.EnsureKey(ctx, "alias/invoices", &kms.CreateKeyInput{Description: "for invoices"})
	if err != nil {
		log.Fatal(err)
	}
	second, err := svc.EnsureKey(ctx, "alias/invoices", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(second.Description, second.KeyId == first.KeyId)
	// Output: for invoices true
}

// An alias can be moved to another key: what was encrypted before can still be decrypted.
func ExampleService_UpdateAlias() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	if _, err := svc.EnsureKey(ctx, "alias/invoices", nil); err != nil {
		log.Fatal(err)
	}
	before, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/invoices", Plaintext: []byte("from before")})
	if err != nil {
		log.Fatal(err)
	}

	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: "alias/invoices", TargetKeyId: key.KeyMetadata.KeyId})
	if err != nil {
		log.Fatal(err)
	}
	opened, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: before.CiphertextBlob})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s; with the new key: %t\n", opened.Plaintext, opened.KeyId == key.KeyMetadata.Arn)
	// Output: from before; with the new key: false
}

// Sign the digest of a document that is too long to be signed itself. Whoever has the public key
// can verify the signature, without the service.
func ExampleService_Sign() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a document"))
	signed, err := svc.Sign(ctx, &kms.SignInput{
		KeyId: key.KeyMetadata.KeyId, Message: digest[:], MessageType: kms.MessageTypeDigest,
		SigningAlgorithm: kms.SigningAlgorithmECDSASHA256,
	})
	if err != nil {
		log.Fatal(err)
	}

	out, err := svc.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil {
		log.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signed.Signature))
	// Output: true
}

// A rotated key encrypts with new key material, and still decrypts the ciphertexts of earlier
// material.
func ExampleService_RotateKeyOnDemand() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	keyID := key.KeyMetadata.KeyId
	sealed, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("from before")})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: keyID}); err != nil {
		log.Fatal(err)
	}

	opened, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil {
		log.Fatal(err)
	}
	now, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: keyID})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s; with the current material: %t\n", opened.Plaintext, opened.KeyMaterialId == now.KeyMetadata.CurrentKeyMaterialId)
	// Output: from before; with the current material: false
}

// Every call is recorded, including those that are refused.
func ExampleConfig_audit() {
	sink := audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
		fmt.Println(e.EventName, cmp.Or(e.ErrorCode, "succeeded"))
		return nil // an error would fail the call
	})
	svc, err := kms.New(kms.Config{Audit: sink})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	_, _ = svc.CreateKey(ctx, nil)
	_, _ = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/missing"})
	// Output:
	// CreateKey succeeded
	// DescribeKey NotFoundException
}
