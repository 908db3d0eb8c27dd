package main

import (
	"errors"
	"testing"
	"testing/synctest"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

const keyID = "1234abcd-12ab-34cd-56ef-1234567890ab"

func TestACardDecryptsOnlyForItsCustomer(t *testing.T) {
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: keyID, Aliases: []string{"alias/cards"}}))
	client := awsclient.New(svc)

	sealed, err := SealCard(t.Context(), client, "alice", "4111")
	if err != nil {
		t.Fatal(err)
	}
	if in := kmstest.Inputs[kms.EncryptInput](svc)[0]; in.KeyId != "alias/cards" || in.EncryptionContext["customer"] != "alice" {
		t.Errorf("sent %v, %v", in.KeyId, in.EncryptionContext)
	}
	decrypt := func(customer string) (*awskms.DecryptOutput, error) {
		return client.Decrypt(t.Context(), &awskms.DecryptInput{
			CiphertextBlob: sealed, EncryptionContext: map[string]string{"customer": customer},
		})
	}
	if out, err := decrypt("alice"); err != nil || string(out.Plaintext) != "4111" {
		t.Error(out, err)
	}
	var wrong *types.InvalidCiphertextException
	if _, err := decrypt("mallory"); !errors.As(err, &wrong) {
		t.Error("decrypted for another customer:", err)
	}
}

func TestADisabledKeyDoesNotEncrypt(t *testing.T) {
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: keyID, Aliases: []string{"alias/cards"}, State: kms.KeyStateDisabled}))

	_, err := SealCard(t.Context(), awsclient.New(svc), "alice", "4111")
	var disabled *types.DisabledException
	if !errors.As(err, &disabled) {
		t.Error(err)
	}
}

// In a bubble, the SDK's backoff takes no time.
func TestAThrottledCallIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: keyID, Aliases: []string{"alias/cards"}}))
		svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Count: 2, Err: kmstest.Throttling()})

		if _, err := SealCard(t.Context(), awsclient.New(svc), "alice", "4111"); err != nil {
			t.Error(err)
		}
		svc.RequireCalled(t, "Encrypt", 3)
	})
}
