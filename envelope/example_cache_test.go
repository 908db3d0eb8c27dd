package envelope_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// Messages of one tenant share a data key for five minutes, at most 10,000 of them.
func ExampleCache() {
	ctx := context.Background()
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	cache, err := envelope.NewCache(envelope.CacheOptions{MaxAge: 5 * time.Minute, MaxMessages: 10_000})
	if err != nil {
		log.Fatal(err)
	}
	keyring := envelope.KMSKey(svc, key.KeyMetadata.Arn)
	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{Cache: cache})
	if err != nil {
		log.Fatal(err)
	}
	var dataKeys [2][]byte
	for i, row := range []string{"a row", "another row"} {
		message, err := enc.Seal(ctx, []byte(row), map[string]string{"tenant": "7"})
		if err != nil {
			log.Fatal(err)
		}
		info, err := envelope.Inspect(bytes.NewReader(message), 0)
		if err != nil {
			log.Fatal(err)
		}
		dataKeys[i] = info.EncryptedDataKeys[0].Ciphertext
	}
	fmt.Println("same data key:", bytes.Equal(dataKeys[0], dataKeys[1]))
	// Output: same data key: true
}

// After a rotation, messages that are still under the old key material are found and moved.
func ExampleReEncrypt() {
	ctx := context.Background()
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	keyARN := key.KeyMetadata.Arn
	keyring := envelope.KMSKey(svc, keyARN)
	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	dec, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	message, err := enc.Seal(ctx, []byte("a report"), map[string]string{"file": "report.txt"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: keyARN}); err != nil {
		log.Fatal(err)
	}

	isCurrent := func(message []byte) bool {
		info, err := envelope.Inspect(bytes.NewReader(message), 0)
		if err != nil {
			log.Fatal(err)
		}
		key, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: keyARN})
		if err != nil {
			log.Fatal(err)
		}
		return info.EncryptedDataKeys[0].KeyMaterialID == key.KeyMetadata.CurrentKeyMaterialId
	}
	fmt.Println(isCurrent(message))
	var moved bytes.Buffer
	if err := envelope.ReEncrypt(ctx, &moved, enc, bytes.NewReader(message), dec, map[string]string{"file": "report.txt"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(isCurrent(moved.Bytes()))
	// Output:
	// false
	// true
}
