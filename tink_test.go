package kms_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/pocketkms/kms"
)

func TestAnAEADBindsItsAssociatedData(t *testing.T) {
	svc, _ := newService(t)
	key, other := createKey(t, svc, nil), createKey(t, svc, nil)
	a := svc.AEAD(key.KeyId)
	for _, associatedData := range []string{"", "associated", "\x00\xff", strings.Repeat("x", 4000)} {
		ciphertext, err := a.Encrypt([]byte("plaintext"), []byte(associatedData))
		require.NoError(t, err)
		plaintext, err := a.DecryptWithContext(t.Context(), ciphertext, []byte(associatedData))
		require.NoError(t, err)
		require.Equal(t, "plaintext", string(plaintext))

		for _, wrong := range []string{"", "Associated", "associated\x00"} {
			if wrong != associatedData {
				_, err = a.Decrypt(ciphertext, []byte(wrong))
				require.ErrorIs(t, err, kms.ErrContextOrAltered)
			}
		}
		_, err = svc.AEAD(other.KeyId).Decrypt(ciphertext, []byte(associatedData))
		require.ErrorIs(t, err, kms.IncorrectKeyException)
	}
	ciphertext := encrypt(t, svc, key.KeyId, "plaintext")
	plaintext, err := a.Decrypt(ciphertext, nil)
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(plaintext), "of Encrypt without an encryption context")
	_, err = a.Encrypt([]byte("plaintext"), make([]byte, 4096))
	require.ErrorIs(t, err, kms.ValidationException, "too much associated data")
}

func TestAnAEADPassesOnTheErrorOfItsCall(t *testing.T) {
	svc, _ := newService(t)
	key := createKey(t, svc, nil)
	a := svc.AEAD(key.KeyId)
	ciphertext, err := a.Encrypt([]byte("plaintext"), nil)
	require.NoError(t, err)
	for _, size := range []int{0, 4097} {
		_, err := a.Encrypt(make([]byte, size), nil)
		require.ErrorIs(t, err, kms.ValidationException)
	}
	_, err = svc.As(principal(t, fixtureAlice)).AEAD(key.Arn).Decrypt(ciphertext, nil)
	require.ErrorIs(t, err, kms.AccessDeniedException)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.EncryptWithContext(ended, []byte("plaintext"), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = a.DecryptWithContext(ended, ciphertext, nil)
	require.ErrorIs(t, err, context.Canceled)

	disable(t, svc, key.KeyId)
	_, err = a.Encrypt([]byte("plaintext"), nil)
	require.ErrorIs(t, err, kms.DisabledException)
	_, err = a.Decrypt(ciphertext, nil)
	require.ErrorIs(t, err, kms.DisabledException)
}

// Decrypt without a KeyId uses the key that the ciphertext names, which an AEAD must not.
func TestAnAEADWithoutAKeyDecryptsNothing(t *testing.T) {
	svc, _ := newService(t)
	ciphertext := encrypt(t, svc, createKey(t, svc, nil).KeyId, "plaintext")
	_, err := svc.AEAD("").Decrypt(ciphertext, nil)
	require.ErrorIs(t, err, kms.ValidationException)
	_, err = svc.AEAD("").Encrypt([]byte("plaintext"), nil)
	require.ErrorIs(t, err, kms.ValidationException)
	_, err = new(kms.AEAD).Encrypt([]byte("plaintext"), nil)
	require.ErrorIs(t, err, kms.KMSInternalException)
}

func TestAnAEADMayBeUsedConcurrently(t *testing.T) {
	svc, _ := newService(t)
	a := svc.AEAD(createKey(t, svc, nil).KeyId)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 16 {
				ciphertext, err := a.Encrypt([]byte{byte(i)}, []byte{byte(i)})
				if err != nil {
					t.Error(err)
					return
				}
				if plaintext, err := a.Decrypt(ciphertext, []byte{byte(i)}); err != nil || !bytes.Equal(plaintext, []byte{byte(i)}) {
					t.Errorf("decrypted %x: %v", plaintext, err)
				}
			}
		})
	}
	wg.Wait()
}

// Tink's registry finds the client for the URI in a keyset, which is not secret.
func TestTinkFindsKeysByTheirURIs(t *testing.T) {
	svc, _ := newService(t)
	abroad := svc.In("cn-north-1")
	registry.RegisterKMSClient(svc.TinkClient())
	registry.RegisterKMSClient(abroad.TinkClient())
	t.Cleanup(registry.ClearKMSClients)
	createAlias(t, svc, "alias/tink", createKey(t, svc, nil).KeyId)
	for _, name := range []string{createKey(t, svc, nil).Arn, "arn:aws:kms:us-east-1:111122223333:alias/tink", createKey(t, abroad, nil).Arn} {
		template, err := aead.CreateKMSEnvelopeAEADKeyTemplate("aws-kms://"+name, aead.AES256GCMKeyTemplate())
		require.NoError(t, err)
		handle, err := keyset.NewHandle(template)
		require.NoError(t, err)
		envelope, err := aead.New(handle)
		require.NoError(t, err)
		ciphertext, err := envelope.Encrypt(make([]byte, 10000), []byte("associated"))
		require.NoError(t, err)
		plaintext, err := envelope.Decrypt(ciphertext, []byte("associated"))
		require.NoError(t, err)
		require.Equal(t, make([]byte, 10000), plaintext)
	}
}

func TestATinkClientSupportsTheKeysOfItsRegion(t *testing.T) {
	svc, _ := newService(t)
	client := svc.TinkClient()
	for uri, supported := range map[string]bool{
		"aws-kms://arn:aws:kms:us-east-1:111122223333:key/1":     true,
		"aws-kms://arn:aws:kms:us-east-1:444455556666:alias/app": true,
		"aws-kms://arn:aws:kms:us-east-1:111122223333:":          false,
		"aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1":     false,
		"aws-kms://arn:aws-cn:kms:us-east-1:111122223333:key/1":  false,
		"aws-kms://arn:aws:iam:us-east-1:111122223333:key/1":     false,
		"aws-kms://alias/app":                                    false,
		"aws-kms://":                                             false,
		"arn:aws:kms:us-east-1:111122223333:key/1":               false,
		"gcp-kms://arn:aws:kms:us-east-1:111122223333:key/1":     false,
		"": false,
	} {
		require.Equal(t, supported, client.Supported(uri), uri)
		_, err := client.GetAEAD(uri)
		require.Equal(t, supported, err == nil, uri)
	}
	missing, err := client.GetAEAD("aws-kms://arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	require.NoError(t, err)
	_, err = missing.Encrypt([]byte("plaintext"), nil)
	require.ErrorIs(t, err, kms.NotFoundException)
}
