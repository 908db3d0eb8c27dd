// Fake is a function that calls AWS KMS through an SDK client, and its unit test, which needs no AWS, no container and no
// mock. The program runs the same function against the same KMS in this process:
//
//	go run ./examples/fake
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// Encrypter is what the function needs of the SDK's *kms.Client.
type Encrypter interface {
	Encrypt(context.Context, *awskms.EncryptInput, ...func(*awskms.Options)) (*awskms.EncryptOutput, error)
}

// SealCard encrypts a card number so that it decrypts for its customer only.
func SealCard(ctx context.Context, client Encrypter, customer, number string) ([]byte, error) {
	out, err := client.Encrypt(ctx, &awskms.EncryptInput{
		KeyId:             aws.String("alias/cards"),
		Plaintext:         []byte(number),
		EncryptionContext: map[string]string{"customer": customer},
	})
	if err != nil {
		return nil, fmt.Errorf("sealing the card of %s: %w", customer, err)
	}
	return out.CiphertextBlob, nil
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "fake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()
	client := awsclient.New(svc) // the SDK's own client, without a socket

	_, err = SealCard(ctx, client, "alice", "4111 1111 1111 1111")
	fmt.Println("Before there is a key:\n  ", err)

	key, err := client.CreateKey(ctx, &awskms.CreateKeyInput{})
	if err != nil {
		return err
	}
	_, err = client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/cards"), TargetKeyId: key.KeyMetadata.KeyId})
	if err != nil {
		return err
	}
	sealed, err := SealCard(ctx, client, "alice", "4111 1111 1111 1111")
	if err != nil {
		return err
	}
	fmt.Printf("\nAlice's card, sealed:\n   %x… (%d bytes)\n", sealed[:24], len(sealed))

	for _, customer := range []string{"alice", "mallory"} {
		fmt.Printf("\nOpened for %s:\n   ", customer)
		out, err := client.Decrypt(ctx, &awskms.DecryptInput{
			CiphertextBlob: sealed, EncryptionContext: map[string]string{"customer": customer},
		})
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println(string(out.Plaintext))
		}
	}
	fmt.Println("\nAll this was the AWS SDK, and no request left the process.")
	return nil
}
