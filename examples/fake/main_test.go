package main

import (
	"errors"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

const keyID = "1234abcd-12ab-34cd-56ef-1234567890ab"

func TestACardOpensForItsCustomerOnly(t *testing.T) {
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: keyID, Aliases: []string{"alias/cards"}}))
	client := awsclient.New(svc.Service)

	sealed, err := SealCard(t.Context(), client, "alice", "4111")
	if err != nil {
		t.Fatal(err)
	}
	if in := kmstest.Inputs[kms.EncryptInput](svc)[0]; in.KeyId != "alias/cards" || in.EncryptionContext["customer"] != "alice" {
		t.Errorf("sent %v, %v", in.KeyId, in.EncryptionContext)
	}
	open := func(customer string) (*awskms.DecryptOutput, error) {
		return client.Decrypt(t.Context(), &awskms.DecryptInput{
			CiphertextBlob: sealed, EncryptionContext: map[string]string{"customer": customer},
		})
	}
	if out, err := open("alice"); err != nil || string(out.Plaintext) != "4111" {
		t.Error(out, err)
	}
	var wrong *types.InvalidCiphertextException
	if _, err := open("mallory"); !errors.As(err, &wrong) {
		t.Error("opened for another customer:", err)
	}
}

func TestADisabledKeySealsNothing(t *testing.T) {
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: keyID, Aliases: []string{"alias/cards"}, State: kms.KeyStateDisabled}))

	_, err := SealCard(t.Context(), awsclient.New(svc.Service), "alice", "4111")
	var disabled *types.DisabledException
	if !errors.As(err, &disabled) {
		t.Error(err)
	}
}
