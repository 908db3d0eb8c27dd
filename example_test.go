package kms_test

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

// Keys in a file outlive the program. The encryption context is not secret, and has to be the same to decrypt.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	svc, err := kms.Open(filepath.Join(dir, "my.keys"), keystore.Passphrase([]byte("correct horse battery staple")))
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

// Envelope encryption: the data is encrypted here, with a data key that is kept beside it, itself encrypted.
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
	clear(dataKey.Plaintext) // what stays is sealed, and beside it dataKey.CiphertextBlob

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

// cipherOf is AES-256-GCM, which puts a random nonce before what it seals. It is for one message for each data key.
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

// Every call is an event, those that were refused too.
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
	_, _ = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/nobody"})
	// Output:
	// CreateKey succeeded
	// DescribeKey NotFoundException
}
