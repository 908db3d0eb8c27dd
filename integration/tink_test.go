package integration_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/require"
	awskmstink "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
)

// Tink's envelope encryption asks KMS for one call to encrypt and one to decrypt, however long the text is.
func TestTinkEnvelope(t *testing.T) {
	svc := kmstest.New(t)
	key := fixture{t, svc.Service}.arn()
	remote, err := awskmstink.NewAEADWithContext(t.Context(), key, awskmstink.WithKMS(awsclient.New(svc.Service)))
	require.NoError(t, err)
	envelope, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), remote)
	require.NoError(t, err)
	svc.ResetCalls()

	plaintext, associatedData := bytes.Repeat([]byte("long "), 10000), []byte("mine")
	ciphertext, err := envelope.EncryptWithContext(t.Context(), plaintext, associatedData)
	require.NoError(t, err)
	got, err := envelope.DecryptWithContext(t.Context(), ciphertext, associatedData)
	require.NoError(t, err)
	require.Equal(t, plaintext, got)
	svc.RequireCalls(t, "Encrypt", "Decrypt")

	_, err = envelope.DecryptWithContext(t.Context(), ciphertext, []byte("another's"))
	require.Error(t, err)
	for _, at := range []int{len(ciphertext) - 1, 100} { // the text, the encrypted key
		broken := bytes.Clone(ciphertext)
		broken[at] ^= 1
		_, err = envelope.DecryptWithContext(t.Context(), broken, associatedData)
		require.Error(t, err)
	}
}

// A keyset that Tink encrypts by a key of the Service is of use only as long as that key is.
func TestTinkKeyset(t *testing.T) {
	svc := kmstest.New(t)
	f := fixture{t, svc.Service}
	key := f.arn()
	client, err := awskmstink.NewClientWithOptions(t.Context(), "aws-kms://arn:aws:kms:us-east-1:", awskmstink.WithKMS(awsclient.New(svc.Service)))
	require.NoError(t, err)
	remote, err := client.GetAEAD("aws-kms://" + key)
	require.NoError(t, err)
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	require.NoError(t, err)
	var stored bytes.Buffer
	require.NoError(t, handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&stored), remote, []byte("keyset")))

	read, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(stored.Bytes())), remote, []byte("keyset"))
	require.NoError(t, err)
	primitive, err := aead.New(read)
	require.NoError(t, err)
	original, err := aead.New(handle)
	require.NoError(t, err)
	ciphertext, err := original.Encrypt([]byte("x"), nil)
	require.NoError(t, err)
	plaintext, err := primitive.Decrypt(ciphertext, nil)
	require.NoError(t, err)
	require.Equal(t, "x", string(plaintext))

	other, err := client.GetAEAD("aws-kms://" + f.arn())
	require.NoError(t, err)
	_, err = keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(stored.Bytes())), other, []byte("keyset"))
	require.ErrorContains(t, err, "IncorrectKeyException") // whose type Tink does not pass on
}

// A keyset of the envelope template holds no key, only the URI of one: Tink finds the client for it in
// its registry. So it is stored in the clear, and another program with the same registry reads it.
func TestTinkEnvelopeKeyset(t *testing.T) {
	svc := kmstest.New(t)
	f := fixture{t, svc.Service}
	const prefix = "aws-kms://arn:aws:kms:us-east-1:"
	client, err := awskmstink.NewClientWithOptions(t.Context(), prefix, awskmstink.WithKMS(awsclient.New(svc.Service)))
	require.NoError(t, err)
	registry.RegisterKMSClient(client)
	t.Cleanup(registry.ClearKMSClients)

	template, err := aead.CreateKMSEnvelopeAEADKeyTemplate("aws-kms://"+f.arn(), aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	handle, err := keyset.NewHandle(template)
	require.NoError(t, err)
	var stored bytes.Buffer
	require.NoError(t, handle.WriteWithNoSecrets(keyset.NewBinaryWriter(&stored)))
	require.Contains(t, stored.String(), "aws-kms://arn:aws:kms:")
	original, err := aead.New(handle)
	require.NoError(t, err)
	ciphertext, err := original.Encrypt([]byte("x"), []byte("mine"))
	require.NoError(t, err)

	read, err := keyset.ReadWithNoSecrets(keyset.NewBinaryReader(&stored))
	require.NoError(t, err)
	primitive, err := aead.New(read)
	require.NoError(t, err)
	svc.ResetCalls()
	plaintext, err := primitive.Decrypt(ciphertext, []byte("mine"))
	require.NoError(t, err)
	require.Equal(t, "x", string(plaintext))
	svc.RequireCalls(t, "Decrypt")
	_, err = primitive.Decrypt(ciphertext, []byte("another's"))
	require.Error(t, err)
}

// The client looks after the keys under its own URI prefix only.
func TestTinkKeyURIs(t *testing.T) {
	svc := kmstest.New(t)
	prefix := "aws-kms://arn:aws:kms:us-east-1:"
	client, err := awskmstink.NewClientWithOptions(t.Context(), prefix, awskmstink.WithKMS(awsclient.New(svc.Service)))
	require.NoError(t, err)
	for uri, supported := range map[string]bool{
		prefix + "111122223333:key/1":                            true,
		"aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1":     false,
		"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys": false,
	} {
		require.Equal(t, supported, client.Supported(uri), uri)
		_, err := client.GetAEAD(uri)
		require.Equal(t, supported, err == nil, uri)
	}
	missing, err := client.GetAEAD(prefix + "111122223333:key/00000000-0000-0000-0000-000000000000")
	require.NoError(t, err)
	_, err = missing.Encrypt([]byte("x"), nil)
	require.True(t, is[*types.NotFoundException](err), "%v", err)
}

// Service.AEAD and Tink's client decrypt what the other has encrypted, with and without associated data, and their clients
// for the registry take the same URIs.
func TestTinkAndTheServiceReadEachOther(t *testing.T) {
	svc := kmstest.New(t)
	uri := "aws-kms://" + fixture{t, svc.Service}.arn()
	client, err := awskmstink.NewClientWithOptions(t.Context(), uri, awskmstink.WithKMS(awsclient.New(svc.Service)))
	require.NoError(t, err)
	theirs, err := client.GetAEAD(uri)
	require.NoError(t, err)
	ours, err := svc.TinkClient().GetAEAD(uri)
	require.NoError(t, err)
	for _, associatedData := range []string{"", "mine", "\x00\xff", strings.Repeat("ü", 1000)} {
		for _, way := range [][2]tink.AEAD{{ours, theirs}, {theirs, ours}} {
			ciphertext, err := way[0].Encrypt([]byte("x"), []byte(associatedData))
			require.NoError(t, err)
			plaintext, err := way[1].Decrypt(ciphertext, []byte(associatedData))
			require.NoError(t, err)
			require.Equal(t, "x", string(plaintext))
			_, err = way[1].Decrypt(ciphertext, []byte("another's"))
			require.Error(t, err)
		}
	}
	ourEnvelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), ours)
	theirEnvelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), theirs)
	ciphertext, err := theirEnvelope.Encrypt(make([]byte, 10000), []byte("mine"))
	require.NoError(t, err)
	plaintext, err := ourEnvelope.Decrypt(ciphertext, []byte("mine"))
	require.NoError(t, err)
	require.Equal(t, make([]byte, 10000), plaintext)
}

// With no options, the client finds server and credentials in the environment, as programs have it in production. What it
// encrypted in its older versions' way has another encryption context.
func TestTinkFromTheEnvironment(t *testing.T) {
	svc := newService(t)
	w := listen(t)
	w.serve(svc)
	w.setenv(t)
	uri := "aws-kms://" + fixture{t, svc}.arn()
	client, err := awskmstink.NewClientWithOptions(t.Context(), uri)
	require.NoError(t, err)
	legacy, err := awskmstink.NewClientWithOptions(t.Context(), uri, awskmstink.WithEncryptionContextName(awskmstink.LegacyAdditionalData))
	require.NoError(t, err)
	remote, err := client.GetAEAD(uri)
	require.NoError(t, err)
	old, err := legacy.GetAEAD(uri)
	require.NoError(t, err)

	ciphertext, err := remote.Encrypt([]byte("x"), []byte("mine"))
	require.NoError(t, err)
	plaintext, err := remote.Decrypt(ciphertext, []byte("mine"))
	require.NoError(t, err)
	require.Equal(t, "x", string(plaintext))
	_, err = old.Decrypt(ciphertext, []byte("mine"))
	require.True(t, is[*types.InvalidCiphertextException](err), "%v", err)
}
