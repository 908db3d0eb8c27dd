package encryptionsdk_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	materials "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	sdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/envelope"
	"github.com/pocketkms/kms/integration/messagetest"
)

// The AWS Encryption SDK for Go, unchanged, and package envelope decrypt each other's messages,
// with a Service in process.
func TestEncryptionSDKForGo(t *testing.T) {
	svc, err := kms.New(kms.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	client := awsclient.New(svc, awsclient.WithoutBackoff)
	provider, err := materials.NewClient(mpl.MaterialProvidersConfig{})
	require.NoError(t, err)
	messagetest.Exchange(t, client, &implementation{
		client: client, provider: provider,
		committing: newSDK(t, mpl.ESDKCommitmentPolicyRequireEncryptRequireDecrypt),
		others:     newSDK(t, mpl.ESDKCommitmentPolicyForbidEncryptAllowDecrypt),
	})
}

func newSDK(t testing.TB, policy mpl.ESDKCommitmentPolicy) *sdk.Client {
	strict := esdk.NetV4_0_0_RetryPolicyForbidRetry // or it reads messages that are not of the format
	client, err := sdk.NewClient(esdk.AwsEncryptionSdkConfig{CommitmentPolicy: &policy, NetV4_0_0_RetryPolicy: &strict})
	require.NoError(t, err)
	return client
}

type implementation struct {
	client             *awskms.Client
	provider           *materials.Client
	committing, others *sdk.Client
}

func (i *implementation) Encrypt(t testing.TB, suite envelope.Suite, keys []messagetest.WrappingKey, pairs map[string]string, plaintext []byte) ([]byte, error) {
	client := i.others
	if suite.Commits() {
		client = i.committing
	}
	id := mpl.ESDKAlgorithmSuiteId(fmt.Sprintf("0x%04X", uint16(suite)))
	length := int64(messagetest.FrameLength)
	out, err := client.Encrypt(t.Context(), esdk.EncryptInput{
		Plaintext: plaintext, EncryptionContext: pairs, Keyring: i.keyring(t, keys), AlgorithmSuiteId: &id, FrameLength: &length,
	})
	if err != nil {
		return nil, err
	}
	return out.Ciphertext, nil
}

func (i *implementation) Decrypt(t testing.TB, keys []messagetest.WrappingKey, message []byte) (messagetest.Decrypted, error) {
	out, err := i.committing.Decrypt(t.Context(), esdk.DecryptInput{Ciphertext: message, Keyring: i.keyring(t, keys)})
	if err != nil {
		return messagetest.Decrypted{}, err
	}
	suite, err := strconv.ParseUint(string(out.AlgorithmSuiteId), 0, 16)
	require.NoError(t, err)
	return messagetest.Decrypted{Plaintext: out.Plaintext, Suite: envelope.Suite(suite), Context: out.EncryptionContext}, nil
}

// keyring makes a keyring of keys, of which the first generates data keys.
func (i *implementation) keyring(t testing.TB, keys []messagetest.WrappingKey) mpl.IKeyring {
	var keyrings []mpl.IKeyring
	for _, k := range keys {
		keyring, err := i.keyringOf(t.Context(), k)
		require.NoError(t, err)
		keyrings = append(keyrings, keyring)
	}
	if len(keyrings) == 1 {
		return keyrings[0]
	}
	multi, err := i.provider.CreateMultiKeyring(t.Context(), mpl.CreateMultiKeyringInput{Generator: keyrings[0], ChildKeyrings: keyrings[1:]})
	require.NoError(t, err)
	return multi
}

func (i *implementation) keyringOf(ctx context.Context, k messagetest.WrappingKey) (mpl.IKeyring, error) {
	switch k.Kind {
	case messagetest.KMS:
		return i.provider.CreateAwsKmsKeyring(ctx, mpl.CreateAwsKmsKeyringInput{KmsClient: i.client, KmsKeyId: k.Name})
	case messagetest.Discovery:
		return i.provider.CreateAwsKmsDiscoveryKeyring(ctx, mpl.CreateAwsKmsDiscoveryKeyringInput{KmsClient: i.client})
	case messagetest.AES:
		return i.provider.CreateRawAesKeyring(ctx, mpl.CreateRawAesKeyringInput{
			KeyNamespace: messagetest.Namespace, KeyName: k.Name, WrappingKey: k.Secret,
			WrappingAlg: mpl.AesWrappingAlg(fmt.Sprintf("ALG_AES%d_GCM_IV12_TAG16", 8*len(k.Secret))),
		})
	default:
		return i.provider.CreateRawRsaKeyring(ctx, mpl.CreateRawRsaKeyringInput{
			KeyNamespace: messagetest.Namespace, KeyName: k.Name, PublicKey: []byte(k.Public), PrivateKey: []byte(k.Private),
			PaddingScheme: mpl.PaddingScheme("OAEP_" + strings.ToUpper(k.Hash) + "_MGF1"),
		})
	}
}
