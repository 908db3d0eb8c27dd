package conformance

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/kmstest"
)

// day is the API's unit of rotation periods and waiting periods.
const day = 24 * time.Hour

const aliasARN = "arn:aws:kms:us-east-1:111122223333:"

const incorrectKey = "The key ID in the request does not identify a CMK that can perform this operation."

var someContext = map[string]string{"purpose": "test", "tenant": "7"}

// The custom key stores of the facts, both on the target's device.
const (
	storePassword  = "the password"
	storeSecret    = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	storeCluster   = "cluster-234567abcde"
	storeEndpoint  = "https://proxy.example.com"
	storePath      = "/kms/xks/v1"
	storeAccessKey = "ABCDEFGHIJKLMNOPQRST"
)

// Devices returns a device for [Target], and the Devices of the kms.Config in which it is the CloudHSM
// cluster and the external key store proxy of the facts.
func Devices() (*kmstest.Device, map[string]keystore.Device) {
	d := kmstest.NewDevice(storePassword, storeSecret)
	return d, map[string]keystore.Device{storeCluster: d, storeEndpoint + storePath: d}
}

// createKey creates a key. A nil in means a symmetric encryption key.
func createKey(t *scene, svc *kms.Service, in *kms.CreateKeyInput) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.CreateKey(t.ctx, in)
	require.NoError(t, err)
	return out.KeyMetadata
}

// replicate creates a replica in replicaRegion.
func replicate(t *scene, svc *kms.Service, keyID string) {
	t.Helper()
	_, err := svc.ReplicateKey(t.ctx, &kms.ReplicateKeyInput{KeyId: keyID, ReplicaRegion: replicaRegion})
	require.NoError(t, err)
}

// replicate creates a replica in replicaRegion, and waits until it is not being created any more.
func (s *scene) replicate(keyID string) {
	const inTime = "replicas that are ready in a minute, or a Clock"
	if s.target.replicasTakeLong != nil && *s.target.replicasTakeLong {
		s.needs(inTime)
	}
	replicate(s, s.svc, keyID)
	for range 60 {
		if describe(s, s.svc.In(replicaRegion), keyID).KeyState != kms.KeyStateCreating {
			return
		}
		if s.target.Clock != nil { // as if the fact began later
			s.target.Clock.Advance(kms.DefaultReplicationDelay)
			s.start = s.start.Add(kms.DefaultReplicationDelay)
			continue
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if s.target.replicasTakeLong != nil {
		*s.target.replicasTakeLong = true
	}
	s.needs(inTime)
}

// createSigningKey creates a key that can sign with ECDSA_SHA_256.
func createSigningKey(t *scene, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
}

// createMacKey creates a key for HMAC_SHA_256.
func createMacKey(t *scene, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac})
}

// createPrimary creates a symmetric multi-Region key.
func createPrimary(t *scene, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true})
}

// createAgreementKey creates a key for DeriveSharedSecret.
func createAgreementKey(t *scene, svc *kms.Service, spec kms.KeySpec) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageKeyAgreement})
}

// createEncryptionKey creates an asymmetric key for encryption.
func createEncryptionKey(t *scene, svc *kms.Service, spec kms.KeySpec) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageEncryptDecrypt})
}

func createAlias(t *scene, svc *kms.Service, name, keyID string) {
	t.Helper()
	_, err := svc.CreateAlias(t.ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: keyID})
	require.NoError(t, err)
}

func describe(t *scene, svc *kms.Service, keyID string) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.DescribeKey(t.ctx, &kms.DescribeKeyInput{KeyId: keyID})
	require.NoError(t, err)
	return out.KeyMetadata
}

func disable(t *scene, svc *kms.Service, keyID string) {
	t.Helper()
	_, err := svc.DisableKey(t.ctx, &kms.DisableKeyInput{KeyId: keyID})
	require.NoError(t, err)
}

// encrypt encrypts text under a key.
func encrypt(t *scene, svc *kms.Service, keyID, text string) []byte {
	t.Helper()
	out, err := svc.Encrypt(t.ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: []byte(text)})
	require.NoError(t, err)
	return out.CiphertextBlob
}

// scheduleDeletion schedules the deletion of a key in days.
func scheduleDeletion(t *scene, svc *kms.Service, keyID string, days int32) *kms.ScheduleKeyDeletionOutput {
	t.Helper()
	out, err := svc.ScheduleKeyDeletion(t.ctx, &kms.ScheduleKeyDeletionInput{KeyId: keyID, PendingWindowInDays: &days})
	require.NoError(t, err)
	return out
}

func publicKey(t *scene, svc *kms.Service, keyID string) []byte {
	t.Helper()
	out, err := svc.GetPublicKey(t.ctx, &kms.GetPublicKeyInput{KeyId: keyID})
	require.NoError(t, err)
	return out.PublicKey
}

func grantsOf(t *scene, svc *kms.Service, keyID string) []kms.GrantListEntry {
	t.Helper()
	out, err := svc.ListGrants(t.ctx, &kms.ListGrantsInput{KeyId: keyID})
	require.NoError(t, err)
	return out.Grants
}

func createStore(t *scene, svc *kms.Service, in *kms.CreateCustomKeyStoreInput) string {
	t.Helper()
	out, err := svc.CreateCustomKeyStore(t.ctx, in)
	require.NoError(t, err)
	require.Regexp(t, `^cks-[0-9a-f]{17}$`, out.CustomKeyStoreId)
	return out.CustomKeyStoreId
}

func describeStore(t *scene, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	out, err := svc.DescribeCustomKeyStores(t.ctx, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
	require.NoError(t, err)
	require.Len(t, out.CustomKeyStores, 1)
	return out.CustomKeyStores[0]
}

// tryToConnect connects a custom key store and returns what it is then.
func tryToConnect(t *scene, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	_, err := svc.ConnectCustomKeyStore(t.ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id})
	require.NoError(t, err)
	return awaitConnection(t, svc, id)
}

// awaitConnection waits until an attempt to connect a custom key store is over.
func awaitConnection(t *scene, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	for {
		if e := describeStore(t, svc, id); e.ConnectionState != kms.ConnectionStateConnecting {
			return e
		}
		time.Sleep(time.Millisecond) // a device knows no other time
	}
}

func connect(t *scene, svc *kms.Service, id string) {
	t.Helper()
	e := tryToConnect(t, svc, id)
	require.Equal(t, kms.ConnectionStateConnected, e.ConnectionState, e.ConnectionErrorCode)
	require.Empty(t, e.ConnectionErrorCode)
}

func disconnect(t *scene, svc *kms.Service, id string) {
	t.Helper()
	_, err := svc.DisconnectCustomKeyStore(t.ctx, &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: id})
	require.NoError(t, err)
}

func hsmStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CloudHsmClusterId: storeCluster, TrustAnchorCertificate: kmstest.TrustAnchor, KeyStorePassword: storePassword,
	}
}

func proxyStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CustomKeyStoreType: kms.CustomKeyStoreTypeExternalKeyStore, XksProxyConnectivity: kms.XksProxyConnectivityPublicEndpoint,
		XksProxyUriEndpoint: storeEndpoint, XksProxyUriPath: storePath,
		XksProxyAuthenticationCredential: &kms.XksProxyAuthenticationCredentialType{AccessKeyId: storeAccessKey, RawSecretAccessKey: storeSecret},
	}
}

// replicaARN returns the ARN of the replica of a key of us-east-1 in replicaRegion.
func replicaARN(primary *kms.KeyMetadata) string {
	return strings.Replace(primary.Arn, "us-east-1", replicaRegion, 1)
}

// manyTags returns n tags with different keys.
func manyTags(n int) []kms.Tag {
	tags := make([]kms.Tag, n)
	for i := range tags {
		tags[i] = kms.Tag{TagKey: fmt.Sprintf("key-%03d", i), TagValue: "value"}
	}
	return tags
}

func withDryRun(in any) any {
	reflect.ValueOf(in).Elem().FieldByName("DryRun").SetBool(true)
	return in
}

// policyOf returns a policy of exactly n bytes.
func policyOf(n int) string {
	const head, tail = `{"Version":"2012-10-17","Id":"`, `","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

// usageOf returns a usage of a spec.
func usageOf(spec kms.KeySpec) kms.KeyUsageType {
	switch name := string(spec); {
	case strings.HasPrefix(name, "HMAC"):
		return kms.KeyUsageGenerateVerifyMac
	case strings.HasPrefix(name, "ML_KEM"):
		return kms.KeyUsageEncapsulateDecapsulate
	case spec == kms.KeySpecSymmetricDefault:
		return kms.KeyUsageEncryptDecrypt
	}
	return kms.KeyUsageSignVerify
}

// keyMembers returns the members of an input that name keys.
func keyMembers(in any) []reflect.Value {
	var members []reflect.Value
	for _, name := range []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"} {
		if f := reflect.ValueOf(in).Elem().FieldByName(name); f.IsValid() {
			members = append(members, f)
		}
	}
	return members
}

// symmetricMaterial returns the n-th of some materials.
func symmetricMaterial(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func asNew(in *kms.ImportKeyMaterialInput) { in.ImportType = kms.ImportTypeNewKeyMaterial }

func asExisting(in *kms.ImportKeyMaterialInput) { in.ImportType = kms.ImportTypeExistingKeyMaterial }

func validTo(at time.Time) func(*kms.ImportKeyMaterialInput) {
	return func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel, in.ValidTo = "", at }
}

func described(text string) func(*kms.ImportKeyMaterialInput) {
	return func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = text }
}

// takeAliases are the operations that accept an alias as KeyId, by the API's documentation.
var takeAliases = map[string]bool{
	"Decapsulate": true, "Decrypt": true, "DeriveSharedSecret": true, "DescribeKey": true, "Encapsulate": true, "Encrypt": true, "GenerateDataKey": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
	"GenerateDataKeyWithoutPlaintext": true,
	"GenerateMac":                     true, "GetPublicKey": true, "ReEncrypt": true, "Sign": true, "Verify": true, "VerifyMac": true,
}
