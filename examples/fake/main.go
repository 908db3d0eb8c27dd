// Fake is a function that calls AWS KMS through an SDK client, and its unit test, which needs no
// AWS account, no container and no mock. The program calls the function with a KMS in its own
// process:
//
//	go run ./examples/fake
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// An Encrypter is the part of the SDK's *kms.Client that SealCard uses.
type Encrypter interface {
	Encrypt(context.Context, *awskms.EncryptInput, ...func(*awskms.Options)) (*awskms.EncryptOutput, error)
}

// SealCard encrypts a card number. It decrypts only with the same customer.
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

	const card = "4111 1111 1111 1111"
	_, err = SealCard(ctx, client, "alice", card)
	var notFound *types.NotFoundException
	if !errors.As(err, &notFound) {
		return fmt.Errorf("the missing key was not reported: %w", err)
	}
	fmt.Printf("Without a key:\n  %v\n\n", notFound)

	key, err := svc.EnsureKey(ctx, "alias/cards", nil)
	if err != nil {
		return err
	}
	sealed, err := SealCard(ctx, client, "alice", card)
	if err != nil {
		return err
	}
	fmt.Printf("Alice's card, encrypted with %s:\n  %x… (%d bytes)\n", key.Arn, sealed[:24], len(sealed))

	for _, customer := range []string{"alice", "mallory"} {
		fmt.Printf("\nDecrypted for %s:\n  ", customer)
		out, err := client.Decrypt(ctx, &awskms.DecryptInput{
			CiphertextBlob: sealed, EncryptionContext: map[string]string{"customer": customer},
		})
		var refused *types.InvalidCiphertextException
		switch {
		case errors.As(err, &refused):
			fmt.Println(refused)
		case err != nil:
			return err
		default:
			fmt.Println(string(out.Plaintext))
		}
	}
	fmt.Println("\nThe AWS SDK made these calls. No request left the process.")
	return nil
}
