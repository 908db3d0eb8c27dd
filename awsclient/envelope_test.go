package awsclient_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/envelope"
)

// What is encrypted through the SDK is decrypted by the service itself, and the other way round.
func TestEnvelopeEncryptionThroughTheSDK(t *testing.T) {
	svc := newService(t)
	ctx := t.Context()
	var keys []string
	for range 2 {
		created, err := svc.CreateKey(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, created.KeyMetadata.Arn)
	}
	pairs := map[string]string{"tenant": "7"}
	granted, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: keys[0], GranteePrincipal: "arn:aws:iam::111122223333:user/alice",
		Operations: []kms.GrantOperation{kms.GrantOperationGenerateDataKey, kms.GrantOperationDecrypt}})
	if err != nil {
		t.Fatal(err)
	}
	both := func(k envelope.KMS, tokens ...string) envelope.Keyring {
		return envelope.Multi(envelope.KMSKey(k, keys[0], tokens...), envelope.KMSKey(k, keys[1]))
	}
	sdk := awsclient.EnvelopeKMS(awsclient.New(svc, awsclient.WithoutBackoff))
	keyrings := map[string]envelope.Keyring{"SDK": both(sdk, granted.GrantToken), "service": both(svc), "SDK, discovery": envelope.KMSDiscovery(sdk, envelope.DiscoveryFilter{})}
	for _, writer := range []string{"SDK", "service"} {
		e, err := envelope.NewEncrypter(keyrings[writer], envelope.EncrypterOptions{Suite: envelope.SuiteCommitKeyECDSA})
		if err != nil {
			t.Fatal(err)
		}
		message, err := e.Seal(ctx, []byte("plaintext"), pairs)
		if err != nil {
			t.Fatal(err)
		}
		for reader, keyring := range keyrings {
			d, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.Open(ctx, message, pairs)
			if err != nil || string(got) != "plaintext" {
				t.Errorf("%s to %s: %q %v", writer, reader, got, err)
			}
		}
	}
}

func TestErrorsOfTheSDKArePassedThroughByEnvelope(t *testing.T) {
	svc := newService(t)
	sdk := awsclient.EnvelopeKMS(awsclient.New(svc, awsclient.WithoutBackoff))
	missing := "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
	raw := envelope.RawAES("test", "key", make([]byte, 32))
	notFound := new(types.NotFoundException)
	for name, keyring := range map[string]envelope.Keyring{"GenerateDataKey": envelope.KMSKey(sdk, missing), "Encrypt": envelope.Multi(raw, envelope.KMSKey(sdk, missing))} {
		e, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Seal(t.Context(), nil, nil); !errors.As(err, &notFound) {
			t.Error(name, err)
		}
	}
	created, err := svc.CreateKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keyring := envelope.KMSKey(sdk, created.KeyMetadata.Arn)
	e, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	message, err := e.Seal(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: created.KeyMetadata.Arn}); err != nil {
		t.Fatal(err)
	}
	d, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	disabled := new(types.DisabledException)
	if _, err := d.Open(t.Context(), message, nil); !errors.As(err, &disabled) || !errors.Is(err, envelope.ErrNoKey) {
		t.Error(err)
	}
}
