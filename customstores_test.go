package kms_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/kmstest"
)

const (
	fixturePassword = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG" // an access key; its first 32 characters are a password
	fixtureCluster  = "cluster-234567abcde"
	fixtureEndpoint = "https://proxy.example.com"
	fixturePath     = "/kms/xks/v1"
	fixtureProxy    = fixtureEndpoint + fixturePath
	fixtureAccess   = "ABCDEFGHIJKLMNOPQRST"
)

// withDevice makes d both fixtureCluster, with a password of 32 characters, and fixtureProxy.
func withDevice(d *kmstest.Device) func(*kms.Config) {
	return withDevices(map[string]keystore.Device{fixtureCluster: shortPassword{d}, fixtureProxy: d})
}

func withDevices(devices map[string]keystore.Device) func(*kms.Config) {
	return func(c *kms.Config) { c.Devices = devices }
}

// A shortPassword is a device that takes the first 32 characters of its password.
type shortPassword struct{ *kmstest.Device }

func (d shortPassword) long(call keystore.DeviceCall) keystore.DeviceCall {
	if c := call.Credential; c != nil && string(c.Secret()) == fixturePassword[:32] {
		call.Credential = keystore.NewDeviceCredential(c.User(), []byte(fixturePassword))
	}
	return call
}

func (d shortPassword) Health(ctx context.Context, call keystore.DeviceCall) (keystore.DeviceHealth, error) {
	return d.Device.Health(ctx, d.long(call))
}

func (d shortPassword) Encrypt(ctx context.Context, call keystore.DeviceCall, key string, plaintext, ad []byte) ([]byte, error) {
	return d.Device.Encrypt(ctx, d.long(call), key, plaintext, ad)
}

func (d shortPassword) Decrypt(ctx context.Context, call keystore.DeviceCall, key string, ciphertext, ad []byte) ([]byte, error) {
	return d.Device.Decrypt(ctx, d.long(call), key, ciphertext, ad)
}

func (d shortPassword) CreateKey(ctx context.Context, call keystore.DeviceCall) (string, error) {
	return d.Device.CreateKey(ctx, d.long(call))
}

func (d shortPassword) DeleteKey(ctx context.Context, call keystore.DeviceCall, key string) error {
	return d.Device.DeleteKey(ctx, d.long(call), key)
}

func (d shortPassword) Random(ctx context.Context, call keystore.DeviceCall, n int) ([]byte, error) {
	return d.Device.Random(ctx, d.long(call), n)
}

func hsmStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CloudHsmClusterId: fixtureCluster, TrustAnchorCertificate: kmstest.TrustAnchor, KeyStorePassword: fixturePassword[:32],
	}
}

func proxyStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CustomKeyStoreType: kms.CustomKeyStoreTypeExternalKeyStore, XksProxyConnectivity: kms.XksProxyConnectivityPublicEndpoint,
		XksProxyUriEndpoint: fixtureEndpoint, XksProxyUriPath: fixturePath,
		XksProxyAuthenticationCredential: &kms.XksProxyAuthenticationCredentialType{AccessKeyId: fixtureAccess, RawSecretAccessKey: fixturePassword},
	}
}

func createStore(t testing.TB, svc *kms.Service, in *kms.CreateCustomKeyStoreInput) string {
	t.Helper()
	out, err := svc.CreateCustomKeyStore(context.Background(), in)
	require.NoError(t, err)
	require.Regexp(t, `^cks-[0-9a-f]{17}$`, out.CustomKeyStoreId)
	return out.CustomKeyStoreId
}

func describeStore(t testing.TB, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	out, err := svc.DescribeCustomKeyStores(context.Background(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
	require.NoError(t, err)
	require.Len(t, out.CustomKeyStores, 1)
	return out.CustomKeyStores[0]
}

// tryToConnect connects a custom key store and returns what it is then.
func tryToConnect(t testing.TB, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	_, err := svc.ConnectCustomKeyStore(context.Background(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id})
	require.NoError(t, err)
	return awaitConnection(t, svc, id)
}

// awaitConnection waits until an attempt to connect a custom key store is over.
func awaitConnection(t testing.TB, svc *kms.Service, id string) kms.CustomKeyStoresListEntry {
	t.Helper()
	for {
		if e := describeStore(t, svc, id); e.ConnectionState != kms.ConnectionStateConnecting {
			return e
		}
		runtime.Gosched()
	}
}

func connect(t testing.TB, svc *kms.Service, id string) {
	t.Helper()
	e := tryToConnect(t, svc, id)
	require.Equal(t, kms.ConnectionStateConnected, e.ConnectionState, e.ConnectionErrorCode)
	require.Empty(t, e.ConnectionErrorCode)
}

func disconnect(t testing.TB, svc *kms.Service, id string) {
	t.Helper()
	_, err := svc.DisconnectCustomKeyStore(context.Background(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: id})
	require.NoError(t, err)
}

// A stored is a service with a device, and both kinds of custom key store, connected, with a key each.
type stored struct {
	svc            *kms.Service
	clock          *clock
	device         *kmstest.Device
	trail          *trail
	hsm, proxy     string // IDs of the custom key stores
	inHSM, inProxy *kms.KeyMetadata
}

func newStored(t testing.TB, settings ...func(*kms.Config)) *stored {
	t.Helper()
	s := &stored{device: kmstest.NewDevice(fixturePassword), trail: new(trail)}
	s.svc, s.clock = newService(t, append([]func(*kms.Config){withDevice(s.device), func(c *kms.Config) { c.Audit = s.trail }}, settings...)...)
	s.hsm, s.proxy = createStore(t, s.svc, hsmStore("hsm")), createStore(t, s.svc, proxyStore("proxy"))
	connect(t, s.svc, s.hsm)
	connect(t, s.svc, s.proxy)
	s.device.AddKey("external")
	s.inHSM = createKey(t, s.svc, s.keyInHSM())
	s.inProxy = createKey(t, s.svc, s.keyInProxy("external"))
	s.trail.take()
	return s
}

func (s *stored) keyInHSM() *kms.CreateKeyInput {
	return &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: s.hsm}
}

func (s *stored) keyInProxy(external string) *kms.CreateKeyInput {
	return &kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: s.proxy, XksKeyId: external}
}

// each runs test for both keys.
func (s *stored) each(t *testing.T, test func(t *testing.T, k *kms.KeyMetadata, store string)) {
	t.Run("in an HSM", func(t *testing.T) { test(t, s.inHSM, s.hsm) })
	t.Run("in an external key manager", func(t *testing.T) { test(t, s.inProxy, s.proxy) })
}

func TestKeysOfCustomKeyStoresEncryptAndDecrypt(t *testing.T) {
	s := newStored(t)
	other := createKey(t, s.svc, nil)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		ctx, ec := t.Context(), map[string]string{"tenant": "7"}
		for _, size := range []int{1, 4096} {
			plaintext := []byte(strings.Repeat("x", size))
			encrypted, err := s.svc.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: plaintext, EncryptionContext: ec})
			require.NoError(t, err)
			require.EqualValues(t, 2, encrypted.CiphertextBlob[0], "the version")
			require.LessOrEqual(t, len(encrypted.CiphertextBlob), 6144)
			for _, keyID := range []string{"", k.KeyId} {
				out, err := s.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob, KeyId: keyID, EncryptionContext: ec})
				require.NoError(t, err)
				require.Equal(t, &kms.DecryptOutput{KeyId: k.Arn, Plaintext: plaintext, EncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault}, out)
			}
			moved, err := s.svc.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: encrypted.CiphertextBlob, SourceEncryptionContext: ec, DestinationKeyId: other.KeyId})
			require.NoError(t, err)
			require.Empty(t, moved.SourceKeyMaterialId)
			require.NotEmpty(t, moved.DestinationKeyMaterialId)
			back, err := s.svc.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: moved.CiphertextBlob, DestinationKeyId: k.KeyId})
			require.NoError(t, err)
			require.Empty(t, requireDecrypts(t, s.svc, back.CiphertextBlob, string(plaintext)))
		}
		generated, err := s.svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256})
		require.NoError(t, err)
		require.Empty(t, generated.KeyMaterialId)
		requireDecrypts(t, s.svc, generated.CiphertextBlob, string(generated.Plaintext))
		without, err := s.svc.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256})
		require.NoError(t, err)
		require.Empty(t, without.KeyMaterialId)
		out, err := s.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: without.CiphertextBlob})
		require.NoError(t, err)
		require.Len(t, out.Plaintext, 32)
	})
}

var _ = []any{errors.New, maps.Keys[map[string]int], slices.Max[[]int]}
