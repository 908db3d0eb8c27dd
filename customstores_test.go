package kms_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
	"github.com/pocketkms/kms/kmstest"
)

const (
	fixturePassword  = "the password"
	fixtureAccessKey = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	fixtureCluster   = "cluster-234567abcde"
	fixtureEndpoint  = "https://proxy.example.com"
	fixturePath      = "/kms/xks/v1"
	fixtureProxy     = fixtureEndpoint + fixturePath
	fixtureAccess    = "ABCDEFGHIJKLMNOPQRST"
)

func newDevice() *kmstest.Device { return kmstest.NewDevice(fixturePassword, fixtureAccessKey) }

// withDevice makes d both fixtureCluster and fixtureProxy.
func withDevice(d keystore.Device) func(*kms.Config) {
	return func(c *kms.Config) { c.Devices = map[string]keystore.Device{fixtureCluster: d, fixtureProxy: d} }
}

func hsmStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CloudHsmClusterId: fixtureCluster, TrustAnchorCertificate: kmstest.TrustAnchor, KeyStorePassword: fixturePassword,
	}
}

func proxyStore(name string) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: name, CustomKeyStoreType: kms.CustomKeyStoreTypeExternalKeyStore, XksProxyConnectivity: kms.XksProxyConnectivityPublicEndpoint,
		XksProxyUriEndpoint: fixtureEndpoint, XksProxyUriPath: fixturePath,
		XksProxyAuthenticationCredential: &kms.XksProxyAuthenticationCredentialType{AccessKeyId: fixtureAccess, RawSecretAccessKey: fixtureAccessKey},
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

// A stored is a service with a device, and both kinds of custom key store, connected, with a key
// each.
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
	return newStoredOn(t, newDevice(), settings...)
}

func newStoredOn(t testing.TB, device *kmstest.Device, settings ...func(*kms.Config)) *stored {
	t.Helper()
	s := &stored{device: device, trail: new(trail)}
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
			info, err := kms.InspectCiphertext(encrypted.CiphertextBlob)
			require.NoError(t, err)
			require.Equal(t, &kms.CiphertextInfo{Account: k.AWSAccountId, KeyId: k.KeyId}, info)
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

func TestACustomKeyStoreIsDescribedWithoutItsSecret(t *testing.T) {
	s := newStored(t)
	created := s.clock.Now()
	require.Equal(t, kms.CustomKeyStoresListEntry{
		CustomKeyStoreId: s.hsm, CustomKeyStoreName: "hsm", CustomKeyStoreType: kms.CustomKeyStoreTypeAWSCloudHSM, CreationDate: created,
		ConnectionState: kms.ConnectionStateConnected, CloudHsmClusterId: fixtureCluster, TrustAnchorCertificate: kmstest.TrustAnchor,
	}, describeStore(t, s.svc, s.hsm))
	require.Equal(t, kms.CustomKeyStoresListEntry{
		CustomKeyStoreId: s.proxy, CustomKeyStoreName: "proxy", CustomKeyStoreType: kms.CustomKeyStoreTypeExternalKeyStore, CreationDate: created,
		ConnectionState: kms.ConnectionStateConnected, XksProxyConfiguration: &kms.XksProxyConfigurationType{
			AccessKeyId: fixtureAccess, Connectivity: kms.XksProxyConnectivityPublicEndpoint, UriEndpoint: fixtureEndpoint, UriPath: fixturePath,
		},
	}, describeStore(t, s.svc, s.proxy))

	byName, err := s.svc.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "proxy"})
	require.NoError(t, err)
	require.Equal(t, []kms.CustomKeyStoresListEntry{describeStore(t, s.svc, s.proxy)}, byName.CustomKeyStores)
	all, err := s.svc.DescribeCustomKeyStores(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, all.CustomKeyStores, 2)
	_, err = s.svc.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "proxy", CustomKeyStoreId: s.proxy})
	requireError(t, err, kms.ValidationException, "You can specify CustomKeyStoreId or CustomKeyStoreName, but not both.")
	for _, in := range []*kms.DescribeCustomKeyStoresInput{{CustomKeyStoreName: "none"}, {CustomKeyStoreId: "cks-1"}, {CustomKeyStoreId: "a/b"}} {
		_, err = s.svc.DescribeCustomKeyStores(t.Context(), in)
		require.ErrorIs(t, err, kms.CustomKeyStoreNotFoundException)
	}
	for _, elsewhere := range []*kms.Service{s.svc.In("eu-west-1"), s.svc.As(rootOf(t, "444455556666"))} {
		_, err = elsewhere.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: s.hsm})
		require.ErrorIs(t, err, kms.CustomKeyStoreNotFoundException)
		createStore(t, elsewhere, hsmStore("hsm")) // which has its own names and devices
	}
}

func TestKeyMetadataNamesTheCustomKeyStore(t *testing.T) {
	s := newStored(t)
	require.Equal(t, s.hsm, s.inHSM.CustomKeyStoreId)
	require.Equal(t, fixtureCluster, s.inHSM.CloudHsmClusterId)
	require.Nil(t, s.inHSM.XksKeyConfiguration)
	require.Equal(t, s.proxy, s.inProxy.CustomKeyStoreId)
	require.Empty(t, s.inProxy.CloudHsmClusterId)
	require.Equal(t, &kms.XksKeyConfigurationType{Id: "external"}, s.inProxy.XksKeyConfiguration)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		require.Empty(t, k.CurrentKeyMaterialId)
		require.Equal(t, k, describe(t, s.svc, k.KeyId))
		disable(t, s.svc, k.KeyId)
		enable(t, s.svc, k.KeyId)
		require.Equal(t, k, describe(t, s.svc, k.KeyId))
	})
}

// change returns in after a change.
func change[T any](in *T, change func(*T)) *T {
	change(in)
	return in
}

func TestCreateCustomKeyStoreRefuses(t *testing.T) {
	type input = kms.CreateCustomKeyStoreInput
	const service = "com.amazonaws.vpce.us-east-1.vpce-svc-1"
	vpc := func(name, endpoint, service string) *input {
		return change(proxyStore(name), func(in *input) {
			in.XksProxyConnectivity, in.XksProxyUriEndpoint, in.XksProxyVpcEndpointServiceName = kms.XksProxyConnectivityVPCEndpointService, endpoint, service
		})
	}
	type preparation = func(*fixture)
	health := func(h keystore.DeviceHealth) preparation { return func(f *fixture) { f.device.SetHealth(h) } }
	fault := func(err error) preparation {
		return func(f *fixture) { f.device.Inject(kmstest.DeviceFault{Method: "Health", Err: err}) }
	}
	remove := func(f *fixture) {
		_, err := f.svc.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: f.hsm})
		require.NoError(t, err)
	}
	for name, tt := range map[string]struct {
		in      *input
		prepare []preparation
		code    kms.ErrorCode
	}{
		"a name in use":                    {proxyStore("fixture"), nil, kms.CustomKeyStoreNameInUseException},
		"a cluster in use":                 {hsmStore("new"), nil, kms.CloudHsmClusterInUseException},
		"a cluster that does not exist":    {change(hsmStore("new"), func(in *input) { in.CloudHsmClusterId = "cluster-zzzzzzzzzzz" }), []preparation{remove}, kms.CloudHsmClusterNotFoundException},
		"a cluster that is not active":     {hsmStore("new"), []preparation{remove, fault(keystore.DeviceNotActive)}, kms.CloudHsmClusterNotActiveException},
		"a cluster with one HSM":           {hsmStore("new"), []preparation{remove, health(keystore.DeviceHealth{HSMs: 1})}, kms.CloudHsmClusterInvalidConfigurationException},
		"another trust anchor":             {change(hsmStore("new"), func(in *input) { in.TrustAnchorCertificate = "another" }), []preparation{remove}, kms.IncorrectTrustAnchorException},
		"a cluster of another type":        {change(hsmStore("new"), func(in *input) { in.CustomKeyStoreType = kms.CustomKeyStoreTypeExternalKeyStore }), nil, kms.ValidationException},
		"no cluster":                       {change(hsmStore("new"), func(in *input) { in.CloudHsmClusterId = "" }), nil, kms.ValidationException},
		"no trust anchor":                  {change(hsmStore("new"), func(in *input) { in.TrustAnchorCertificate = "" }), nil, kms.ValidationException},
		"no password":                      {change(hsmStore("new"), func(in *input) { in.KeyStorePassword = "" }), nil, kms.ValidationException},
		"a cluster with a URI":             {change(hsmStore("new"), func(in *input) { in.XksProxyUriPath = fixturePath }), nil, kms.ValidationException},
		"a cluster with an access key":     {change(hsmStore("new"), func(in *input) { in.XksProxyAuthenticationCredential = proxyStore("").XksProxyAuthenticationCredential }), nil, kms.ValidationException},
		"a proxy with a password":          {change(proxyStore("new"), func(in *input) { in.KeyStorePassword = "password" }), nil, kms.ValidationException},
		"a proxy with a cluster":           {change(proxyStore("new"), func(in *input) { in.CloudHsmClusterId = fixtureCluster }), nil, kms.ValidationException},
		"no connectivity":                  {change(proxyStore("new"), func(in *input) { in.XksProxyConnectivity = "" }), nil, kms.ValidationException},
		"no endpoint":                      {change(proxyStore("new"), func(in *input) { in.XksProxyUriEndpoint = "" }), nil, kms.ValidationException},
		"no path":                          {change(proxyStore("new"), func(in *input) { in.XksProxyUriPath = "" }), nil, kms.ValidationException},
		"no access key":                    {change(proxyStore("new"), func(in *input) { in.XksProxyAuthenticationCredential = nil }), nil, kms.ValidationException},
		"a port":                           {change(proxyStore("new"), func(in *input) { in.XksProxyUriEndpoint += ":443" }), nil, kms.ValidationException},
		"an IP address":                    {change(proxyStore("new"), func(in *input) { in.XksProxyUriEndpoint = "https://127.0.0.1" }), nil, kms.ValidationException},
		"an empty label":                   {change(proxyStore("new"), func(in *input) { in.XksProxyUriEndpoint = "https://a..example" }), nil, kms.ValidationException},
		"a path of another version":        {change(proxyStore("new"), func(in *input) { in.XksProxyUriPath = "/kms/xks/v" }), nil, kms.ValidationException},
		"a service of a public endpoint":   {change(proxyStore("new"), func(in *input) { in.XksProxyVpcEndpointServiceName = service }), nil, kms.ValidationException},
		"an owner of no service":           {change(proxyStore("new"), func(in *input) { in.XksProxyVpcEndpointServiceOwner = "111122223333" }), nil, kms.ValidationException},
		"a VPC endpoint without a service": {vpc("new", fixtureEndpoint, ""), nil, kms.ValidationException},
		"a URI in use":                     {proxyStore("new"), []preparation{func(f *fixture) { createStore(t, f.svc, proxyStore("first")) }}, kms.XksProxyUriInUseException},
		"a private name that is a public endpoint": {change(vpc("new", fixtureEndpoint, service), func(in *input) { in.XksProxyUriPath = "/x" + fixturePath }),
			[]preparation{func(f *fixture) { createStore(t, f.svc, proxyStore("first")) }}, kms.XksProxyUriEndpointInUseException},
		"a public endpoint that is a private name": {change(proxyStore("new"), func(in *input) { in.XksProxyUriPath = "/x" + fixturePath }),
			[]preparation{func(f *fixture) { createStore(t, f.svc, vpc("first", fixtureEndpoint, service)) }}, kms.XksProxyUriEndpointInUseException},
		"a private name in use": {change(vpc("new", fixtureEndpoint, service+"2"), func(in *input) { in.XksProxyUriPath = "/x" + fixturePath }),
			[]preparation{func(f *fixture) { createStore(t, f.svc, vpc("first", fixtureEndpoint, service)) }}, kms.XksProxyUriEndpointInUseException},
		"a service in use": {vpc("new", "https://other.example.com", service),
			[]preparation{func(f *fixture) { createStore(t, f.svc, vpc("first", fixtureEndpoint, service)) }}, kms.XksProxyVpcEndpointServiceInUseException},
		"a proxy that does not exist":   {change(proxyStore("new"), func(in *input) { in.XksProxyUriEndpoint = "https://other.example.com" }), nil, kms.XksProxyUriUnreachableException},
		"a wrong access key":            {change(proxyStore("new"), func(in *input) { in.XksProxyAuthenticationCredential.RawSecretAccessKey = strings.Repeat("x", 43) }), nil, kms.XksProxyIncorrectAuthenticationCredentialException},
		"a proxy with a faulty service": {proxyStore("new"), []preparation{fault(keystore.DeviceServiceMisconfigured)}, kms.XksProxyVpcEndpointServiceInvalidConfigurationException},
		"an eleventh store": {proxyStore("new"), []preparation{func(f *fixture) {
			for i := range 9 {
				createStore(t, f.svc, vpc(fmt.Sprint(i), fmt.Sprintf("https://proxy-%d.example.com", i), fmt.Sprint(service, i)))
			}
		}}, kms.LimitExceededException},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for _, prepare := range tt.prepare {
				prepare(f)
			}
			before, err := f.svc.DescribeCustomKeyStores(t.Context(), nil)
			require.NoError(t, err)
			_, err = f.svc.CreateCustomKeyStore(t.Context(), tt.in)
			require.ErrorIs(t, err, tt.code)
			after, err := f.svc.DescribeCustomKeyStores(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

func TestAStoreBehindAVPCEndpointIsNotTriedUntilItIsConnected(t *testing.T) {
	f := newFixture(t)
	in := change(proxyStore("private"), func(in *kms.CreateCustomKeyStoreInput) {
		in.XksProxyConnectivity, in.XksProxyVpcEndpointServiceName = kms.XksProxyConnectivityVPCEndpointService, "com.amazonaws.vpce.us-east-1.vpce-svc-1"
	})
	defer f.device.Inject(kmstest.DeviceFault{Err: keystore.DeviceServiceNotFound})()
	id := createStore(t, f.svc, in)
	require.Zero(t, f.device.Calls("DescribeKey"))
	require.Equal(t, &kms.XksProxyConfigurationType{
		AccessKeyId: fixtureAccess, Connectivity: kms.XksProxyConnectivityVPCEndpointService, UriEndpoint: fixtureEndpoint, UriPath: fixturePath,
		VpcEndpointServiceName: in.XksProxyVpcEndpointServiceName, VpcEndpointServiceOwner: "111122223333",
	}, describeStore(t, f.svc, id).XksProxyConfiguration)
	e := tryToConnect(t, f.svc, id)
	require.Equal(t, kms.ConnectionErrorCodeXKSVPCEndpointServiceNotFound, e.ConnectionErrorCode)
}

// deviceFaults has for each fault the ConnectionErrorCode of an HSM and of an external key manager,
// and the exceptions that an external key manager causes in CreateCustomKeyStore and in CreateKey.
var deviceFaults = map[error]struct {
	hsm, external kms.ConnectionErrorCodeType
	store, key    kms.ErrorCode
	message       string // begins with
}{
	keystore.DeviceNotFound:       {"CLUSTER_NOT_FOUND", "XKS_PROXY_INVALID_CONFIGURATION", kms.XksProxyInvalidConfigurationException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because of an invalid URI path."},
	keystore.DeviceNotActive:      {"NETWORK_ERRORS", "XKS_PROXY_NOT_REACHABLE", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
	keystore.DeviceUnreachable:    {"NETWORK_ERRORS", "XKS_PROXY_NOT_REACHABLE", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
	keystore.DeviceBadTLS:         {"NETWORK_ERRORS", "XKS_PROXY_INVALID_TLS_CONFIGURATION", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot establish a TLS connection"},
	keystore.DeviceTimedOut:       {"NETWORK_ERRORS", "XKS_PROXY_TIMED_OUT", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS rejected the request because the external key store proxy did not respond in time."},
	keystore.DeviceBackendTimeout: {"NETWORK_ERRORS", "XKS_PROXY_TIMED_OUT", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy did not respond to the request in the time allotted."},
	keystore.DeviceThrottled:      {"NETWORK_ERRORS", "XKS_PROXY_NOT_REACHABLE", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request due to a very high request rate."},
	keystore.DeviceBadResponse:    {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot interpret the response"},
	keystore.DeviceInternal:       {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it cannot communicate with the external key manager."},
	errors.New("unheard of"):      {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it cannot communicate with the external key manager."},
	keystore.DeviceFault("new"):   {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it cannot communicate with the external key manager."},
	keystore.DeviceUnsupported:    {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it does not support the requested operation."},
	keystore.DeviceAccessDenied:   {"INVALID_CREDENTIALS", "XKS_PROXY_ACCESS_DENIED", kms.XksProxyInvalidResponseException, kms.KMSInvalidStateException, "The external key store proxy denied access to the operation."},

	keystore.DeviceBadCredential: {"INVALID_CREDENTIALS", "INVALID_CREDENTIALS", kms.XksProxyIncorrectAuthenticationCredentialException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it could not authenticate AWS KMS."},
	keystore.DeviceUserNotFound:  {"USER_NOT_FOUND", "INVALID_CREDENTIALS", kms.XksProxyIncorrectAuthenticationCredentialException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it could not authenticate AWS KMS."},
	keystore.DeviceUserLockedOut: {"USER_LOCKED_OUT", "INVALID_CREDENTIALS", kms.XksProxyIncorrectAuthenticationCredentialException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it could not authenticate AWS KMS."},
	keystore.DeviceUserLoggedIn:  {"USER_LOGGED_IN", "INVALID_CREDENTIALS", kms.XksProxyIncorrectAuthenticationCredentialException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because it could not authenticate AWS KMS."},

	keystore.DeviceKeyNotFound:   {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.XksKeyNotFoundException, "The external key associated with this KMS key in an external key store was not found"},
	keystore.DeviceKeyDisabled:   {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.XksKeyInvalidConfigurationException, "The external key associated with this KMS key in an external key store is not enabled"},
	keystore.DeviceKeyUsage:      {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.XksKeyInvalidConfigurationException, "The external key associated with this KMS key in an external key store does not support the requested operation."},
	keystore.DeviceBadCiphertext: {"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE", kms.XksProxyInvalidResponseException, kms.CustomKeyStoreInvalidStateException, "The external key store proxy rejected the request because the specified ciphertext or encryption context is corrupted"},

	keystore.DeviceSubnetNotFound:       {"SUBNET_NOT_FOUND", "XKS_PROXY_NOT_REACHABLE", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
	keystore.DeviceSubnetFull:           {"INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET", "XKS_PROXY_NOT_REACHABLE", kms.XksProxyUriUnreachableException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
	keystore.DeviceServiceNotFound:      {"INTERNAL_ERROR", "XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND", kms.XksProxyVpcEndpointServiceNotFoundException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
	keystore.DeviceServiceMisconfigured: {"INTERNAL_ERROR", "XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION", kms.XksProxyVpcEndpointServiceInvalidConfigurationException, kms.CustomKeyStoreInvalidStateException, "AWS KMS cannot communicate with"},
}

// secretWords are in errors of devices, whose texts no caller of the API sees.
const secretWords = "the words of the device"

func TestEveryFaultOfADeviceHasTheAPIsErrors(t *testing.T) {
	for fault, want := range deviceFaults {
		t.Run(fault.Error(), func(t *testing.T) {
			s := newStored(t)
			inHSM, inProxy := encrypt(t, s.svc, s.inHSM.KeyId, "x"), encrypt(t, s.svc, s.inProxy.KeyId, "x")
			s.device.AddKey("another")
			disconnect(t, s.svc, s.hsm)
			remove := s.device.Inject(kmstest.DeviceFault{Err: fmt.Errorf("%s: %w", secretWords, fault)})

			var e *kms.Error
			_, err := s.svc.CreateKey(t.Context(), s.keyInProxy("another"))
			require.ErrorAs(t, err, &e)
			require.Equal(t, want.key, e.Code)
			require.True(t, strings.HasPrefix(e.Message, want.message), e.Message)
			_, err = s.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: s.inProxy.KeyId, Plaintext: []byte("x")})
			requireError(t, err, kms.KMSInvalidStateException, "%s", e.Message)
			_, err = s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: inProxy})
			requireError(t, err, kms.KMSInvalidStateException, "%s", e.Message)
			_, err = s.svc.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{
				CustomKeyStoreId: s.proxy, XksProxyAuthenticationCredential: proxyStore("").XksProxyAuthenticationCredential,
			})
			requireError(t, err, want.store, "%s", e.Message)
			require.NotContains(t, err.Error(), secretWords)

			failed := tryToConnect(t, s.svc, s.hsm)
			require.Equal(t, kms.ConnectionStateFailed, failed.ConnectionState)
			require.Equal(t, want.hsm, failed.ConnectionErrorCode)
			require.Equal(t, kms.KeyStateUnavailable, describe(t, s.svc, s.inHSM.KeyId).KeyState)
			_, err = s.svc.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: s.hsm})
			require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
			disconnect(t, s.svc, s.hsm)
			require.Empty(t, describeStore(t, s.svc, s.hsm).ConnectionErrorCode)
			disconnect(t, s.svc, s.proxy)
			require.Equal(t, want.external, tryToConnect(t, s.svc, s.proxy).ConnectionErrorCode)
			disconnect(t, s.svc, s.proxy)

			remove()
			connect(t, s.svc, s.hsm)
			connect(t, s.svc, s.proxy)
			requireDecrypts(t, s.svc, inHSM, "x")
			requireDecrypts(t, s.svc, inProxy, "x")
			defer s.device.Inject(kmstest.DeviceFault{Err: fault})()
			_, err = s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: inHSM})
			if fault == keystore.DeviceBadCiphertext {
				requireError(t, err, kms.InvalidCiphertextException, "")
				require.ErrorIs(t, err, kms.ErrContextOrAltered)
			} else {
				require.ErrorIs(t, err, kms.KMSInvalidStateException)
			}
		})
	}
}

func TestAStoreWithoutADeviceFailsToConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	clock := newClock()
	device := newDevice()
	svc := openService(t, path, clock, withDevice(device))
	hsm, proxy := createStore(t, svc, hsmStore("hsm")), createStore(t, svc, proxyStore("proxy"))
	connect(t, svc, hsm)
	key := createKey(t, svc, &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: hsm})
	encrypted := encrypt(t, svc, key.KeyId, "text")
	require.NoError(t, svc.Close())

	svc = openService(t, path, clock)
	require.Equal(t, kms.ConnectionStateConnected, describeStore(t, svc, hsm).ConnectionState, "as before")
	_, err := svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: encrypted})
	requireError(t, err, kms.KMSInvalidStateException, "The CloudHSM cluster of the custom key store cannot be used: there is no such device.")
	disconnect(t, svc, hsm)
	require.Equal(t, kms.ConnectionErrorCodeClusterNotFound, tryToConnect(t, svc, hsm).ConnectionErrorCode)
	require.Equal(t, kms.ConnectionErrorCodeXKSProxyNotReachable, tryToConnect(t, svc, proxy).ConnectionErrorCode)
	_, err = svc.CreateCustomKeyStore(t.Context(), change(hsmStore("new"), func(in *kms.CreateCustomKeyStoreInput) {
		in.CloudHsmClusterId, in.TrustAnchorCertificate = "cluster-zzzzzzzzzzz", "another"
	}))
	require.ErrorIs(t, err, kms.CloudHsmClusterNotFoundException)
	require.NoError(t, svc.Close())

	svc = openService(t, path, clock, withDevice(device))
	require.Equal(t, kms.ConnectionStateFailed, describeStore(t, svc, hsm).ConnectionState, "as before")
	disconnect(t, svc, hsm)
	connect(t, svc, hsm)
	requireDecrypts(t, svc, encrypted, "text")
}

func TestAConnectedStoreStaysSoAndAnAttemptIsMadeAgainAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	clock := newClock()
	device := newDevice()
	svc := openService(t, path, clock, withDevice(device))
	hsm, proxy := createStore(t, svc, hsmStore("hsm")), createStore(t, svc, proxyStore("proxy"))
	connect(t, svc, hsm)
	key := createKey(t, svc, &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: hsm})
	encrypted := encrypt(t, svc, key.KeyId, "text")
	remove := device.Inject(kmstest.DeviceFault{Method: "Health", Hang: true})
	_, err := svc.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: proxy})
	require.NoError(t, err)
	require.Equal(t, kms.ConnectionStateConnecting, describeStore(t, svc, proxy).ConnectionState)
	require.NoError(t, svc.Close(), "it does not wait for the device")
	remove()

	calls := device.Calls("Health")
	svc = openService(t, path, clock, withDevice(device))
	requireDecrypts(t, svc, encrypted, "text")
	require.Equal(t, kms.ConnectionStateConnected, awaitConnection(t, svc, proxy).ConnectionState)
	require.Equal(t, calls+1, device.Calls("Health"), "of the one that was connecting")
}

func TestDisconnectEndsAnAttemptToConnect(t *testing.T) {
	f := newFixture(t)
	remove := f.device.Inject(kmstest.DeviceFault{Method: "Health", Hang: true})
	for range 3 {
		_, err := f.svc.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: f.hsm})
		require.NoError(t, err, "also while it is connecting")
	}
	require.Equal(t, kms.ConnectionStateConnecting, describeStore(t, f.svc, f.hsm).ConnectionState)
	_, err := f.svc.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: f.hsm})
	require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
	disconnect(t, f.svc, f.hsm)
	remove()
	connect(t, f.svc, f.hsm) // another attempt, whatever became of the first
	connect(t, f.svc, f.hsm) // and of a connected one
}

func TestAClusterWithoutAnHSMOrWithAnotherCertificateFailsToConnect(t *testing.T) {
	f := newFixture(t)
	f.device.SetHealth(keystore.DeviceHealth{HSMs: 0, TrustAnchor: kmstest.TrustAnchor})
	require.Equal(t, kms.ConnectionErrorCodeInsufficientCloudHSMHSMs, tryToConnect(t, f.svc, f.hsm).ConnectionErrorCode)
	disconnect(t, f.svc, f.hsm)
	f.device.SetHealth(keystore.DeviceHealth{HSMs: 2, TrustAnchor: "another"})
	require.Equal(t, kms.ConnectionErrorCodeInternalError, tryToConnect(t, f.svc, f.hsm).ConnectionErrorCode)
	disconnect(t, f.svc, f.hsm)
	f.device.SetHealth(keystore.DeviceHealth{HSMs: 2, TrustAnchor: strings.Repeat("x", 20001)})
	require.Equal(t, kms.ConnectionErrorCodeInternalError, tryToConnect(t, f.svc, f.hsm).ConnectionErrorCode)
	disconnect(t, f.svc, f.hsm)
	f.device.SetHealth(keystore.DeviceHealth{HSMs: 1})
	connect(t, f.svc, f.hsm) // one is enough, and not every device has a certificate
	_, err := f.svc.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: f.hsm})
	requireError(t, err, kms.CloudHsmClusterInvalidConfigurationException, "The cluster %s has 1 active HSMs; it must have 2.", fixtureCluster)
	require.Empty(t, f.device.Keys())
}

func TestAnAlteredCiphertextIsNoticed(t *testing.T) {
	s := newStored(t)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		good := encrypt(t, s.svc, k.KeyId, "text")
		_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: good, EncryptionContext: map[string]string{"a": "b"}})
		altered := kms.InvalidCiphertextException
		if store == s.proxy {
			altered = kms.KMSInvalidStateException
		}
		require.ErrorIs(t, err, altered, "another encryption context")
		require.ErrorIs(t, err, kms.ErrContextOrAltered)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: bad, KeyId: k.Arn})
			switch {
			case i < 2:
				require.ErrorIs(t, err, kms.ErrNotCiphertext, "the version and the flags")
			case i < 23:
				require.ErrorIs(t, err, kms.IncorrectKeyException, "the key")
			case i < 55:
				require.ErrorIs(t, err, kms.ErrUnknownKeyMaterial)
			default:
				require.ErrorIs(t, err, altered)
				require.ErrorIs(t, err, kms.ErrContextOrAltered)
			}
		}
		for n := range len(good) {
			_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: good[:max(n, 1)], KeyId: k.KeyId})
			require.Error(t, err)
			require.NotErrorIs(t, err, kms.KMSInternalException)
		}
		requireDecrypts(t, s.svc, good, "text")
	})
	_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: encrypt(t, s.svc, s.inHSM.KeyId, "x"), KeyId: s.inProxy.KeyId})
	require.ErrorIs(t, err, kms.IncorrectKeyException)
}

func TestAKeyOfAnotherPlaceHasAnotherVersionOfCiphertexts(t *testing.T) {
	s := newStored(t)
	ordinary := createKey(t, s.svc, nil)
	for key, version := range map[string]byte{ordinary.KeyId: 2, s.inHSM.KeyId: 1} {
		blob := encrypt(t, s.svc, key, "text")
		blob[0] = version
		for _, keyID := range []string{"", key} {
			_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: keyID})
			require.ErrorIs(t, err, kms.IncorrectKeyException)
		}
	}
}

// A device that does not do what it must is noticed: when it encrypts, if what it returns cannot be
// right, and else when the ciphertext is decrypted.
func TestADeviceThatChangesWhatItReturnsIsNoticed(t *testing.T) {
	long := func(n int) func([]byte) []byte {
		return func(b []byte) []byte { return append(b, make([]byte, n)...) }
	}
	for name, alter := range map[string]func([]byte) []byte{
		"nothing":         func([]byte) []byte { return nil },
		"less than a tag": func(b []byte) []byte { return b[:15] },
		"too much":        long(1 << 20),
		"a byte too much": long(keystore.MaxDeviceOverheadBytes - 28 + 1),
		"a part":          func(b []byte) []byte { return b[:len(b)-1] },
		"more":            long(1),
		"a bit changed":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"zeros":           func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStored(t)
			s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
				good := encrypt(t, s.svc, k.KeyId, "text")
				remove := s.device.Inject(kmstest.DeviceFault{Method: "Decrypt", Alter: alter})
				_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: good})
				require.ErrorIs(t, err, kms.KMSInvalidStateException)
				remove()
				remove = s.device.Inject(kmstest.DeviceFault{Method: "Encrypt", Alter: alter})
				out, err := s.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("text")})
				remove()
				if err != nil {
					require.ErrorIs(t, err, kms.KMSInvalidStateException)
				} else {
					require.LessOrEqual(t, len(out.CiphertextBlob), 6144)
					_, err = s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, KeyId: k.KeyId})
					require.Error(t, err)
				}
				requireDecrypts(t, s.svc, good, "text")
			})
		})
	}
}

func TestADeviceThatSwapsOrRepeatsWhatItReturnsIsNoticed(t *testing.T) {
	s := newStored(t)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		var first []byte
		remove := s.device.Inject(kmstest.DeviceFault{Method: "Encrypt", Alter: func(b []byte) []byte {
			if first == nil {
				first = bytes.Clone(b)
			}
			return bytes.Clone(first)
		}})
		one, two := encrypt(t, s.svc, k.KeyId, "one!"), encrypt(t, s.svc, k.KeyId, "two!")
		remove()
		requireDecrypts(t, s.svc, one, "one!")
		_, err := s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: two})
		require.Error(t, err, "its device has encrypted another message")
		require.ErrorIs(t, err, kms.ErrContextOrAltered)

		two = encrypt(t, s.svc, k.KeyId, "two!")
		var last []byte
		remove = s.device.Inject(kmstest.DeviceFault{Method: "Decrypt", Alter: func(b []byte) []byte {
			repeated := last
			if last = bytes.Clone(b); repeated == nil {
				return b
			}
			return repeated // what it decrypted before
		}})
		defer remove()
		requireDecrypts(t, s.svc, one, "one!")
		_, err = s.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: two})
		requireError(t, err, kms.KMSInvalidStateException, "The ciphertext that the external key store proxy submitted for decryption, "+
			"or the encryption context, is corrupted, missing, or otherwise invalid.")
	})
}

// A hanging is a device whose calls return only when release is closed, whatever their context
// says.
type hanging struct {
	*kmstest.Device
	release chan struct{}
}

func (d hanging) Encrypt(context.Context, keystore.DeviceCall, string, []byte, []byte) ([]byte, error) {
	<-d.release
	panic("late")
}

func TestADeviceThatHangsHoldsUpOnlyItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := hanging{newDevice(), make(chan struct{})}
		svc, err := kms.New(kms.Config{Logger: slog.New(slog.DiscardHandler), Devices: map[string]keystore.Device{fixtureCluster: device, fixtureProxy: device}})
		require.NoError(t, err)
		s := &stored{svc: svc, hsm: createStore(t, svc, hsmStore("hsm")), proxy: createStore(t, svc, proxyStore("proxy"))}
		for _, id := range []string{s.hsm, s.proxy} {
			_, err := svc.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id})
			require.NoError(t, err)
			synctest.Wait()
		}
		device.AddKey("external")
		s.inHSM, s.inProxy = createKey(t, svc, s.keyInHSM()), createKey(t, svc, s.keyInProxy("external"))
		for keyID, limit := range map[string]time.Duration{s.inHSM.KeyId: 5 * time.Second, s.inProxy.KeyId: 500 * time.Millisecond} {
			begin := time.Now()
			_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("x")})
			require.ErrorIs(t, err, kms.KMSInvalidStateException)
			require.Equal(t, limit, time.Since(begin))
		}
		// However many calls hang, they take no more than a bounded number of goroutines, and
		// others go on.
		before := runtime.NumGoroutine()
		var calls sync.WaitGroup
		for range 200 {
			calls.Go(func() {
				_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: s.inHSM.KeyId, Plaintext: []byte("x")})
				require.ErrorIs(t, err, kms.KMSInvalidStateException)
			})
		}
		synctest.Wait()
		encrypt(t, svc, createKey(t, svc, nil).KeyId, "x")
		disable(t, svc, s.inHSM.KeyId)
		disconnect(t, svc, s.proxy)
		calls.Wait()
		require.LessOrEqual(t, runtime.NumGoroutine()-before, 64)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: s.inProxy.KeyId, Plaintext: []byte("x")})
		require.Equal(t, context.Canceled, err)
		require.NoError(t, svc.Close())
		close(device.release) // what they do now, even a panic, reaches nobody
	})
}

func TestTheErrorOfTheContextEndsACallOfADevice(t *testing.T) {
	s := newStored(t)
	defer s.device.Inject(kmstest.DeviceFault{Method: "Encrypt", Hang: true})()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err := s.svc.Encrypt(ctx, &kms.EncryptInput{KeyId: s.inProxy.KeyId, Plaintext: []byte("x")})
	if !errors.Is(err, context.Canceled) { // the machine was slower than the limit
		require.ErrorIs(t, err, kms.KMSInvalidStateException)
	}
}

// A panicking is a device that panics.
type panicking struct{ *kmstest.Device }

func (panicking) Decrypt(context.Context, keystore.DeviceCall, string, []byte, []byte) ([]byte, error) {
	panic(secretWords)
}

func TestAPanicOfADeviceIsAnError(t *testing.T) {
	var log bytes.Buffer
	svc, _ := newService(t, withDevice(panicking{newDevice()}), func(c *kms.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	id := createStore(t, svc, hsmStore("hsm"))
	connect(t, svc, id)
	key := createKey(t, svc, &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: id})
	_, err := svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: encrypt(t, svc, key.KeyId, "x")})
	requireError(t, err, kms.KMSInvalidStateException, "The CloudHSM cluster of the custom key store cannot be used: the device failed.")
	require.Contains(t, log.String(), "a panic with a string")
	require.NotContains(t, log.String(), secretWords)
}

func TestCreateKeyInACustomKeyStoreRefuses(t *testing.T) {
	s := newStored(t)
	set := func(spec, status string, usages ...string) keystore.DeviceKey {
		return keystore.DeviceKey{Spec: spec, Usages: usages, Status: status}
	}
	for name, k := range map[string]keystore.DeviceKey{
		"rsa": set("RSA_2048", "ENABLED", "ENCRYPT", "DECRYPT"), "disabled": set("AES_256", "DISABLED", "ENCRYPT", "DECRYPT"),
		"encrypts": set("AES_256", "ENABLED", "ENCRYPT"), "decrypts": set("AES_256", "ENABLED", "DECRYPT"), "signs": set("AES_256", "ENABLED", "SIGN"),
		"long": set(strings.Repeat("A", 65), "ENABLED", "ENCRYPT", "DECRYPT"), "lines": set("AES_256", "ENABLED\n", "ENCRYPT", "DECRYPT"),
		"many": set("AES_256", "ENABLED", "ENCRYPT", "DECRYPT", "1", "2", "3", "4", "5", "6", "7", "8", "9"), "good": set("AES_256", "ENABLED", "SIGN", "DECRYPT", "ENCRYPT"),
	} {
		s.device.SetKey(name, k)
	}
	for name, tt := range map[string]struct {
		in      *kms.CreateKeyInput
		code    kms.ErrorCode
		message string
	}{
		"an asymmetric key": {change(s.keyInHSM(), func(in *kms.CreateKeyInput) { in.KeySpec, in.KeyUsage = kms.KeySpecRSA2048, kms.KeyUsageSignVerify }), kms.UnsupportedOperationException, ""},
		"an HMAC key": {change(s.keyInProxy("good"), func(in *kms.CreateKeyInput) {
			in.KeySpec, in.KeyUsage = kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac
		}), kms.UnsupportedOperationException, ""},
		"a multi-Region key": {change(s.keyInHSM(), func(in *kms.CreateKeyInput) { in.MultiRegion = true }), kms.UnsupportedOperationException, ""},
		"an origin of the other type": {change(s.keyInHSM(), func(in *kms.CreateKeyInput) { in.CustomKeyStoreId = s.proxy }), kms.ValidationException,
			"The type of the custom key store " + s.proxy + " is EXTERNAL_KEY_STORE, which is not valid for Origin AWS_CLOUDHSM."},
		"a store that does not exist": {change(s.keyInHSM(), func(in *kms.CreateKeyInput) { in.CustomKeyStoreId = "cks-1" }), kms.CustomKeyStoreNotFoundException, "Custom key store cks-1 does not exist."},
		"an external key in use":      {s.keyInProxy("external"), kms.XksKeyAlreadyInUseException, "The external key external is that of another KMS key in the custom key store " + s.proxy + "."},
		"an external key that is not there": {s.keyInProxy("none"), kms.XksKeyNotFoundException, "The external key associated with this KMS key in an external key store was not found in its external key manager. " +
			"If the external key ID associated with this KMS key is incorrect, create a new KMS key with the correct external key ID."},
		"an RSA key":               {s.keyInProxy("rsa"), kms.XksKeyInvalidConfigurationException, "The key spec of the external key rsa is RSA_2048; it must be AES_256."},
		"a disabled key":           {s.keyInProxy("disabled"), kms.XksKeyInvalidConfigurationException, "The key status of the external key disabled is DISABLED; it must be ENABLED."},
		"a key that only encrypts": {s.keyInProxy("encrypts"), kms.XksKeyInvalidConfigurationException, "The key usage of the external key encrypts is [ENCRYPT]; it must be [ENCRYPT, DECRYPT]."},
		"a key that only decrypts": {s.keyInProxy("decrypts"), kms.XksKeyInvalidConfigurationException, ""},
		"a key that signs":         {s.keyInProxy("signs"), kms.XksKeyInvalidConfigurationException, ""},
		"a spec that is too long":  {s.keyInProxy("long"), kms.CustomKeyStoreInvalidStateException, ""},
		"a status of two lines":    {s.keyInProxy("lines"), kms.CustomKeyStoreInvalidStateException, ""},
		"too many usages":          {s.keyInProxy("many"), kms.CustomKeyStoreInvalidStateException, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.svc.CreateKey(t.Context(), tt.in)
			if tt.message != "" {
				requireError(t, err, tt.code, "%s", tt.message)
			}
			require.ErrorIs(t, err, tt.code)
		})
	}
	createKey(t, s.svc, s.keyInProxy("good"))
	disconnect(t, s.svc, s.hsm)
	_, err := s.svc.CreateKey(t.Context(), s.keyInHSM())
	requireError(t, err, kms.CustomKeyStoreInvalidStateException, "The connection state of the custom key store %s is DISCONNECTED, which is not valid for this operation.", s.hsm)
	disconnect(t, s.svc, s.proxy)
	_, err = s.svc.CreateKey(t.Context(), s.keyInProxy("another"))
	requireError(t, err, kms.CustomKeyStoreInvalidStateException, "This KMS key is in a custom key store that is not connected to its external key store proxy. "+
		"Connect the external key store and try the request again.")
}

func TestAFailedCreateKeyLeavesNothing(t *testing.T) {
	backend := &failing{Backend: memory.New()}
	s := newStored(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, keystore.Ephemeral() })
	keys, list := s.device.Keys(), listKeys(t, s.svc)
	requireNothingNew := func(code kms.ErrorCode) {
		t.Helper()
		_, err := s.svc.CreateKey(t.Context(), s.keyInHSM())
		require.ErrorIs(t, err, code)
		require.Equal(t, list, listKeys(t, s.svc))
	}
	for _, f := range []kmstest.DeviceFault{
		{Method: "CreateKey", Err: keystore.DeviceInternal}, {Method: "Health", Err: keystore.DeviceUnreachable},
	} {
		remove := s.device.Inject(f)
		requireNothingNew(kms.CustomKeyStoreInvalidStateException)
		require.Equal(t, keys, s.device.Keys())
		remove()
	}
	for _, name := range []string{"", "a/b", "a b", strings.Repeat("x", 129)} {
		remove := s.device.Inject(kmstest.DeviceFault{Method: "CreateKey", Alter: func([]byte) []byte { return []byte(name) }})
		requireNothingNew(kms.CustomKeyStoreInvalidStateException)
		remove()
	}
	keys = s.device.Keys() // with what it made under a name that it did not tell
	remove := s.device.Inject(kmstest.DeviceFault{Method: "CreateKey", Err: keystore.DeviceUnreachable, LoseResponse: true})
	requireNothingNew(kms.CustomKeyStoreInvalidStateException)
	remove()
	require.Len(t, s.device.Keys(), len(keys)+1, "it vanished in mid-call: nobody knows the name of its key")

	keys = s.device.Keys()
	backend.fail.Store(true)
	requireNothingNew(kms.KMSInternalException)
	backend.fail.Store(false)
	require.Equal(t, keys, s.device.Keys(), "the key in the device was deleted again")
	createKey(t, s.svc, s.keyInHSM())
	require.Len(t, s.device.Keys(), len(keys)+1)
}

// A failing is a Backend whose commits can fail.
type failing struct {
	keystore.Backend
	fail atomic.Bool
}

func (f *failing) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if f.fail.Load() && len(tx.Puts) > 0 {
		return 0, keystore.ErrFull
	}
	return f.Backend.Commit(ctx, tx)
}

// Volatile allows an ephemeral root key.
func (f *failing) Volatile() bool { return true }

func listKeys(t testing.TB, svc *kms.Service) []kms.KeyListEntry {
	t.Helper()
	out, err := svc.ListKeys(context.Background(), nil)
	require.NoError(t, err)
	return out.Keys
}

func TestUpdateCustomKeyStore(t *testing.T) {
	type input = kms.UpdateCustomKeyStoreInput
	const otherCluster, otherPath = "cluster-765432zyxwv", "/tenant" + fixturePath
	const service = "com.amazonaws.vpce.us-east-1.vpce-svc-1"
	device, related := newDevice(), newDevice()
	f := newStoredOn(t, device, func(c *kms.Config) {
		c.Devices = map[string]keystore.Device{
			fixtureCluster: device, fixtureProxy: device, otherCluster: related, fixtureEndpoint + otherPath: related, "https://other.example.com" + otherPath: related,
		}
	})
	update := func(id string, change func(*input)) error {
		in := &input{CustomKeyStoreId: id}
		change(in)
		_, err := f.svc.UpdateCustomKeyStore(t.Context(), in)
		return err
	}
	inHSM, inProxy := encrypt(t, f.svc, f.inHSM.KeyId, "x"), encrypt(t, f.svc, f.inProxy.KeyId, "x")

	t.Run("a connected store", func(t *testing.T) {
		for name, tt := range map[string]struct {
			id     string
			change func(*input)
			code   kms.ErrorCode // empty: it succeeds
		}{
			"a cluster's name": {f.hsm, func(in *input) { in.NewCustomKeyStoreName = "hsm 2" }, ""},
			"a proxy's name":   {f.proxy, func(in *input) { in.NewCustomKeyStoreName = "proxy 2" }, ""},
			"its own name":     {f.proxy, func(in *input) { in.NewCustomKeyStoreName = "proxy 2" }, ""},
			"a password":       {f.hsm, func(in *input) { in.KeyStorePassword = "another" }, kms.CustomKeyStoreInvalidStateException},
			"a cluster":        {f.hsm, func(in *input) { in.CloudHsmClusterId = otherCluster }, kms.CustomKeyStoreInvalidStateException},
			"an endpoint":      {f.proxy, func(in *input) { in.XksProxyUriEndpoint = "https://other.example.com" }, kms.CustomKeyStoreInvalidStateException},
			"a connectivity": {f.proxy, func(in *input) {
				in.XksProxyConnectivity, in.XksProxyUriEndpoint, in.XksProxyVpcEndpointServiceName = kms.XksProxyConnectivityVPCEndpointService, "https://other.example.com", service
			}, kms.CustomKeyStoreInvalidStateException},
			"an access key": {f.proxy, func(in *input) { in.XksProxyAuthenticationCredential = proxyStore("").XksProxyAuthenticationCredential }, ""},
			"a wrong access key": {f.proxy, func(in *input) {
				in.XksProxyAuthenticationCredential = &kms.XksProxyAuthenticationCredentialType{AccessKeyId: fixtureAccess, RawSecretAccessKey: strings.Repeat("x", 43)}
			}, kms.XksProxyIncorrectAuthenticationCredentialException},
			"a path that is not there":  {f.proxy, func(in *input) { in.XksProxyUriPath = "/none" + fixturePath }, kms.XksProxyUriUnreachableException},
			"nothing":                   {f.hsm, func(*input) {}, kms.ValidationException},
			"a password of a proxy":     {f.proxy, func(in *input) { in.KeyStorePassword = "another" }, kms.ValidationException},
			"a path of a cluster":       {f.hsm, func(in *input) { in.XksProxyUriPath = fixturePath }, kms.ValidationException},
			"a store that is not there": {"cks-1", func(in *input) { in.NewCustomKeyStoreName = "x" }, kms.CustomKeyStoreNotFoundException},
		} {
			err := update(tt.id, tt.change)
			if tt.code == "" {
				require.NoError(t, err, name)
			} else {
				require.ErrorIs(t, err, tt.code, name)
			}
		}
		require.ErrorIs(t, update(f.hsm, func(in *input) { in.NewCustomKeyStoreName = "proxy 2" }), kms.CustomKeyStoreNameInUseException)
		require.NoError(t, update(f.proxy, func(in *input) { in.NewCustomKeyStoreName = "proxy" }), "the former name is free")
		require.Equal(t, "hsm 2", describeStore(t, f.svc, f.hsm).CustomKeyStoreName)
		requireDecrypts(t, f.svc, inHSM, "x")
		requireDecrypts(t, f.svc, inProxy, "x")

		require.NoError(t, update(f.proxy, func(in *input) { in.XksProxyUriPath = otherPath }))
		require.Equal(t, kms.ConnectionStateConnected, describeStore(t, f.svc, f.proxy).ConnectionState)
		_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: inProxy})
		require.ErrorIs(t, err, kms.KMSInvalidStateException, "the other proxy does not have the key")
		require.NoError(t, update(f.proxy, func(in *input) { in.XksProxyUriPath = fixturePath }))
		requireDecrypts(t, f.svc, inProxy, "x")
	})

	t.Run("a disconnected cluster", func(t *testing.T) {
		disconnect(t, f.svc, f.hsm)
		require.NoError(t, update(f.hsm, func(in *input) { in.KeyStorePassword = "new password" }))
		require.Equal(t, kms.ConnectionErrorCodeInvalidCredentials, tryToConnect(t, f.svc, f.hsm).ConnectionErrorCode)
		require.ErrorIs(t, update(f.hsm, func(in *input) { in.NewCustomKeyStoreName = "x" }), kms.CustomKeyStoreInvalidStateException, "it failed: disconnect it")
		disconnect(t, f.svc, f.hsm)
		device.SetPasswords("new password", fixtureAccessKey)
		connect(t, f.svc, f.hsm)
		requireDecrypts(t, f.svc, inHSM, "x")

		disconnect(t, f.svc, f.hsm)
		related.SetHealth(keystore.DeviceHealth{HSMs: 2, TrustAnchor: "another"})
		require.ErrorIs(t, update(f.hsm, func(in *input) { in.CloudHsmClusterId = otherCluster }), kms.CloudHsmClusterNotRelatedException)
		require.ErrorIs(t, update(f.hsm, func(in *input) { in.CloudHsmClusterId = "cluster-zzzzzzzzzzz" }), kms.CloudHsmClusterNotFoundException)
		related.SetHealth(keystore.DeviceHealth{HSMs: 1, TrustAnchor: kmstest.TrustAnchor})
		require.ErrorIs(t, update(f.hsm, func(in *input) { in.CloudHsmClusterId = otherCluster }), kms.CloudHsmClusterInvalidConfigurationException)
		related.SetHealth(keystore.DeviceHealth{HSMs: 2, TrustAnchor: kmstest.TrustAnchor})
		require.NoError(t, update(f.hsm, func(in *input) { in.CloudHsmClusterId = otherCluster }))
		require.Equal(t, otherCluster, describe(t, f.svc, f.inHSM.KeyId).CloudHsmClusterId)
		require.NoError(t, update(f.hsm, func(in *input) { in.CloudHsmClusterId = fixtureCluster }))
	})

	t.Run("a disconnected proxy", func(t *testing.T) {
		disconnect(t, f.svc, f.proxy)
		require.ErrorIs(t, update(f.proxy, func(in *input) {
			in.XksProxyConnectivity, in.XksProxyVpcEndpointServiceName = kms.XksProxyConnectivityVPCEndpointService, service
		}), kms.ValidationException)
		require.ErrorIs(t, update(f.proxy, func(in *input) {
			in.XksProxyConnectivity, in.XksProxyUriEndpoint = kms.XksProxyConnectivityVPCEndpointService, "https://other.example.com"
		}), kms.ValidationException)
		require.ErrorIs(t, update(f.proxy, func(in *input) { in.XksProxyVpcEndpointServiceName = service }), kms.ValidationException)
		require.ErrorIs(t, update(f.proxy, func(in *input) { in.XksProxyUriEndpoint = "https://127.0.0.1" }), kms.ValidationException)
		require.NoError(t, update(f.proxy, func(in *input) {
			in.XksProxyConnectivity, in.XksProxyUriEndpoint, in.XksProxyUriPath = kms.XksProxyConnectivityVPCEndpointService, "https://other.example.com", otherPath
			in.XksProxyVpcEndpointServiceName, in.XksProxyVpcEndpointServiceOwner = service, "444455556666"
		}))
		require.Equal(t, &kms.XksProxyConfigurationType{
			AccessKeyId: fixtureAccess, Connectivity: kms.XksProxyConnectivityVPCEndpointService, UriEndpoint: "https://other.example.com", UriPath: otherPath,
			VpcEndpointServiceName: service, VpcEndpointServiceOwner: "444455556666",
		}, describeStore(t, f.svc, f.proxy).XksProxyConfiguration)
		require.NoError(t, update(f.proxy, func(in *input) {
			in.XksProxyConnectivity, in.XksProxyUriEndpoint, in.XksProxyUriPath = kms.XksProxyConnectivityPublicEndpoint, fixtureEndpoint, fixturePath
		}))
		require.Empty(t, describeStore(t, f.svc, f.proxy).XksProxyConfiguration.VpcEndpointServiceName)
		connect(t, f.svc, f.proxy)
		requireDecrypts(t, f.svc, inProxy, "x")
	})
}

func TestACustomKeyStoreWithKeysIsNotDeleted(t *testing.T) {
	s := newStored(t)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		remove := func() error {
			_, err := s.svc.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		}
		require.ErrorIs(t, remove(), kms.CustomKeyStoreInvalidStateException, "it is connected")
		disconnect(t, s.svc, store)
		_, err := s.svc.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
		require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
		requireError(t, remove(), kms.CustomKeyStoreHasCMKsException, "The custom key store %s has KMS keys.", store)
		scheduleDeletion(t, s.svc, k.KeyId, 7)
		require.ErrorIs(t, remove(), kms.CustomKeyStoreHasCMKsException, "also with keys pending deletion")
		s.clock.Move(7 * day)
		_, err = s.svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
		require.ErrorIs(t, err, kms.NotFoundException)
		require.NoError(t, remove())
		require.ErrorIs(t, remove(), kms.CustomKeyStoreNotFoundException)
		for _, call := range []func() error{
			func() error {
				_, err := s.svc.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store})
				return err
			},
			func() error {
				_, err := s.svc.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
				return err
			},
		} {
			require.ErrorIs(t, call(), kms.CustomKeyStoreNotFoundException)
		}
	})
	createStore(t, s.svc, hsmStore("hsm")) // name and cluster are free
	createStore(t, s.svc, proxyStore("proxy"))
}

func TestAKeyIsUnavailableWhileItsStoreIsNotConnected(t *testing.T) {
	s := newStored(t)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		state := func() kms.KeyState { return describe(t, s.svc, k.KeyId).KeyState }
		ctx, encrypted := t.Context(), encrypt(t, s.svc, k.KeyId, "x")
		createAlias(t, s.svc, "alias/"+store, k.KeyId)
		disconnect(t, s.svc, store)
		require.Equal(t, kms.KeyStateUnavailable, state())
		require.False(t, describe(t, s.svc, k.KeyId).Enabled)
		require.Contains(t, listKeys(t, s.svc), kms.KeyListEntry{KeyId: k.KeyId, KeyArn: k.Arn})
		for name, call := range map[string]func() error{
			"Encrypt": func() error {
				_, err := s.svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/" + store, Plaintext: []byte("x")})
				return err
			},
			"Decrypt": func() error { _, err := s.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted}); return err },
			"ReEncrypt": func() error {
				_, err := s.svc.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: encrypted, DestinationKeyId: k.KeyId})
				return err
			},
			"GenerateDataKey": func() error {
				_, err := s.svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256})
				return err
			},
		} {
			requireError(t, call(), kms.KMSInvalidStateException, "%s is unavailable.", k.Arn)
			_ = name
		}
		requireUnsupported(t, s.svc, k)
		_, err := s.svc.TagResource(ctx, &kms.TagResourceInput{KeyId: k.KeyId, Tags: []kms.Tag{{TagKey: "k"}}})
		require.NoError(t, err)
		_, err = s.svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: "d"})
		require.NoError(t, err)

		// EnableKey and DisableKey take effect when the key is available again.
		disable(t, s.svc, k.KeyId)
		disable(t, s.svc, k.KeyId)
		require.Equal(t, kms.KeyStateUnavailable, state())
		connect(t, s.svc, store)
		require.Equal(t, kms.KeyStateDisabled, state())
		_, err = s.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted})
		requireError(t, err, kms.DisabledException, "%s is disabled.", k.Arn)
		disconnect(t, s.svc, store)
		enable(t, s.svc, k.KeyId)
		require.Equal(t, kms.KeyStateUnavailable, state())
		connect(t, s.svc, store)
		require.Equal(t, kms.KeyStateEnabled, state())
		requireDecrypts(t, s.svc, encrypted, "x")
		requireUnsupported(t, s.svc, k)

		// A key pending deletion stays so.
		disconnect(t, s.svc, store)
		require.Equal(t, kms.KeyStatePendingDeletion, scheduleDeletion(t, s.svc, k.KeyId, 7).KeyState)
		require.Equal(t, kms.KeyStatePendingDeletion, state())
		_, err = s.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted})
		requireError(t, err, kms.KMSInvalidStateException, "%s is pending deletion.", k.Arn)
		_, err = s.svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
		require.NoError(t, err)
		require.Equal(t, kms.KeyStateUnavailable, state())
		_, err = s.svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
		requireError(t, err, kms.KMSInvalidStateException, "%s is not pending deletion.", k.Arn)
		connect(t, s.svc, store)
		require.Equal(t, kms.KeyStateDisabled, state())
		enable(t, s.svc, k.KeyId)
		requireDecrypts(t, s.svc, encrypted, "x")
	})
}

// requireUnsupported requires that a key of a custom key store refuses what none of them does.
func requireUnsupported(t *testing.T, svc *kms.Service, k *kms.KeyMetadata) {
	t.Helper()
	for _, in := range []any{
		&kms.EnableKeyRotationInput{KeyId: k.KeyId}, &kms.DisableKeyRotationInput{KeyId: k.KeyId}, &kms.GetKeyRotationStatusInput{KeyId: k.KeyId},
		&kms.RotateKeyOnDemandInput{KeyId: k.KeyId}, &kms.ListKeyRotationsInput{KeyId: k.KeyId},
		&kms.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256},
		&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: k.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256},
	} {
		name := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
		_, err := operationNamed(t, name).Invoke(t.Context(), svc, in)
		requireError(t, err, kms.UnsupportedOperationException, "%s origin is %s which is not valid for this operation.", k.Arn, k.Origin)
	}
}

func TestGenerateRandomOfACustomKeyStore(t *testing.T) {
	s := newStored(t)
	random := func(id string) ([]byte, error) {
		out, err := s.svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(32)), CustomKeyStoreId: id})
		if err != nil {
			require.Nil(t, out)
			return nil, err
		}
		return out.Plaintext, nil
	}
	one, err := random(s.hsm)
	require.NoError(t, err)
	require.Len(t, one, 32)
	require.Equal(t, 1, s.device.Calls("Random"))
	_, err = random(s.proxy)
	require.ErrorIs(t, err, kms.UnsupportedOperationException)
	_, err = random("cks-1")
	require.ErrorIs(t, err, kms.CustomKeyStoreNotFoundException)
	for _, f := range []kmstest.DeviceFault{{Err: keystore.DeviceInternal}, {Alter: func(b []byte) []byte { return b[:31] }}, {Alter: func(b []byte) []byte { return append(b, 0) }}} {
		remove := s.device.Inject(f)
		_, err = random(s.hsm)
		require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
		remove()
	}
	disconnect(t, s.svc, s.hsm)
	_, err = random(s.hsm)
	require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
}

func TestADeletedKeyIsDeletedInItsHSM(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(*stored)
		status  string
		left    bool
	}{
		"if the HSM does it":       {func(*stored) {}, "SUCCESS", false},
		"if it is deleted already": {func(s *stored) { s.device.RemoveKey("key-1") }, "SUCCESS", false},
		"not if the HSM cannot": {func(s *stored) {
			s.device.Inject(kmstest.DeviceFault{Method: "DeleteKey", Err: keystore.DeviceInternal})
		}, "FAILURE", true},
		"not if it is not connected": {func(s *stored) { disconnect(t, s.svc, s.hsm) }, "FAILURE", true},
		"in any case if the reply is lost": {func(s *stored) {
			s.device.Inject(kmstest.DeviceFault{Method: "DeleteKey", Err: keystore.DeviceUnreachable, LoseResponse: true})
		}, "FAILURE", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStored(t)
			for _, k := range []*kms.KeyMetadata{s.inHSM, s.inProxy} {
				scheduleDeletion(t, s.svc, k.KeyId, 7)
			}
			tt.prepare(s)
			s.trail.take()
			s.clock.Move(7 * day)
			require.Empty(t, listKeys(t, s.svc))
			require.Equal(t, tt.left, slices.Contains(s.device.Keys(), "key-1"))
			require.Contains(t, s.device.Keys(), "external", "it is somebody else's")
			deleted := map[string]*audit.Event{}
			for _, e := range s.trail.take() {
				if e.EventName == "DeleteKey" {
					deleted[e.Resources[0].ARN] = e
				}
			}
			require.Len(t, deleted, 2)
			require.Zero(t, deleted[s.inProxy.Arn].AdditionalEventData)
			require.Equal(t, audit.ObjectOf(map[string]any{
				"customKeyStoreId": s.hsm, "clusterId": fixtureCluster,
				"backingKeys":               `[{"keyHandle":"1","backingKeyId":"key-1"}]`,
				"backingKeysDeletionStatus": `[{"keyHandle":"1","backingKeyId":"key-1","deletionStatus":"` + tt.status + `"}]`,
			}), deleted[s.inHSM.Arn].AdditionalEventData)
		})
	}
}

func TestEventsNameTheKeyInTheDevice(t *testing.T) {
	s := newStored(t)
	s.each(t, func(t *testing.T, k *kms.KeyMetadata, store string) {
		device, name := "backingKeyId", "key-1"
		if store == s.proxy {
			device, name = "xksKeyId", "external"
		}
		encrypted := encrypt(t, s.svc, k.KeyId, "x")
		requireDecrypts(t, s.svc, encrypted, "x")
		for _, e := range s.trail.take() {
			require.Equal(t, store, e.AdditionalEventData.Get("customKeyStoreId").String(), e.EventName)
			require.Equal(t, name, e.AdditionalEventData.Get(device).String())
			require.Zero(t, e.AdditionalEventData.Get("keyMaterialId"))
		}
		_, err := s.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: encrypted, DestinationKeyId: s.inHSM.KeyId})
		require.NoError(t, err)
		e := s.trail.take()[0]
		require.Equal(t, store, e.AdditionalEventData.Get("sourceCustomKeyStoreId").String())
		require.Equal(t, "key-1", e.AdditionalEventData.Get("destinationBackingKeyId").String())
		describe(t, s.svc, k.KeyId)
		require.Zero(t, s.trail.take()[0].AdditionalEventData)
	})
	s.device.AddKey("new")
	createKey(t, s.svc, s.keyInProxy("new"))
	e := s.trail.take()[0]
	require.Equal(t, "new", e.AdditionalEventData.Get("xksKeyId").String())
	require.Equal(t, "new", e.RequestParameters.Get("xksKeyId").String())
}

// Whatever a caller or a device does, neither a password nor an access key gets out.
func TestSecretsOfCustomKeyStoresStayInside(t *testing.T) {
	var log bytes.Buffer
	trail := new(trail)
	backend := memory.New()
	device := newDevice()
	svc, _ := newService(t, withDevice(device), func(c *kms.Config) {
		c.Backend, c.RootKey, c.Audit, c.Logger = backend, keystore.Ephemeral(), trail, slog.New(slog.NewTextHandler(&log, nil))
	})
	const wrong = "a wrong secret that is kept, too, 0123456789"
	secrets := []string{fixturePassword, fixtureAccessKey, wrong, wrong[:32]}
	hsm, proxy := createStore(t, svc, hsmStore("hsm")), createStore(t, svc, proxyStore("proxy"))
	connect(t, svc, hsm)
	var shown []any
	note := func(out any, err error) { shown = append(shown, out, err) }
	for range 2 { // with a device that answers, and without
		_, err := svc.CreateCustomKeyStore(t.Context(), change(hsmStore("hsm"), func(in *kms.CreateCustomKeyStoreInput) { in.KeyStorePassword = wrong[:32] }))
		note(nil, err)
		_, err = svc.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: hsm, KeyStorePassword: wrong[:32]})
		note(nil, err)
		_, err = svc.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: hsm, KeyStorePassword: wrong})
		note(nil, err)
		_, err = svc.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{
			CustomKeyStoreId: proxy, XksProxyAuthenticationCredential: &kms.XksProxyAuthenticationCredentialType{AccessKeyId: fixtureAccess, RawSecretAccessKey: strings.ReplaceAll(wrong, " ", "")},
		})
		note(nil, err)
		note(svc.DescribeCustomKeyStores(t.Context(), nil))
		_, err = svc.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: hsm})
		note(nil, err)
		device.Inject(kmstest.DeviceFault{Err: keystore.DeviceInternal})
	}
	for _, e := range trail.take() {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		shown = append(shown, string(text))
	}
	shown = append(shown, log.String())
	records, err := backend.Scan(t.Context(), "", "", 1000)
	require.NoError(t, err)
	for _, r := range records {
		shown = append(shown, r.Key, string(r.Value))
	}
	for _, v := range shown {
		text := fmt.Sprintf("%+v %v", v, v)
		if encoded, err := json.Marshal(v); err == nil {
			text += string(encoded)
		}
		for _, secret := range secrets {
			require.NotContains(t, text, secret)
		}
	}
}

func TestCustomKeyStoresAreChangedAtTheSameTime(t *testing.T) {
	s := newStored(t)
	var calls sync.WaitGroup
	var created atomic.Int32
	for i := range 8 {
		calls.Go(func() {
			in := change(proxyStore(fmt.Sprint("name ", i%3)), func(in *kms.CreateCustomKeyStoreInput) {
				in.XksProxyConnectivity, in.XksProxyUriEndpoint = kms.XksProxyConnectivityVPCEndpointService, fmt.Sprintf("https://proxy-%d.example.com", i)
				in.XksProxyVpcEndpointServiceName = fmt.Sprintf("com.amazonaws.vpce.us-east-1.vpce-svc-%d", i)
			})
			if _, err := s.svc.CreateCustomKeyStore(context.Background(), in); err == nil {
				created.Add(1)
			} else {
				require.ErrorIs(t, err, kms.CustomKeyStoreNameInUseException)
			}
		})
		calls.Go(func() {
			_, err := s.svc.CreateKey(context.Background(), s.keyInHSM())
			if err != nil {
				require.ErrorIs(t, err, kms.CustomKeyStoreInvalidStateException)
			}
		})
	}
	calls.Go(func() {
		disconnect(t, s.svc, s.hsm)
		_, err := s.svc.DeleteCustomKeyStore(context.Background(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: s.hsm})
		require.ErrorIs(t, err, kms.CustomKeyStoreHasCMKsException)
	})
	calls.Wait()
	require.EqualValues(t, 3, created.Load())
	require.Len(t, s.device.Keys(), len(listKeys(t, s.svc)), "each key of the HSM is that of a KMS key, and the external one")
}

func TestConfigRefusesDevicesThatCannotBeUsed(t *testing.T) {
	for name, d := range map[string]keystore.Device{
		"cluster-1":     struct{ keystore.Device }{newDevice()},
		"https://a/kms": struct{ keystore.Device }{newDevice()},
		"http://a/kms":  newDevice(),
		"":              newDevice(),
		"cluster-2":     nil,
		"https://b/kms": nil,
	} {
		_, err := kms.New(kms.Config{Devices: map[string]keystore.Device{name: d}})
		require.ErrorContains(t, err, fmt.Sprintf("kms: the device %q is neither", name))
	}
}

// A goldenDevice is the device of docs/ciphertext.md.
type goldenDevice struct{ *kmstest.Device }

func (goldenDevice) aead() cipher.AEAD {
	key := make([]byte, 32)
	for i := range key {
		key[i] = 0xa0 + byte(i)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

var goldenIV = []byte{0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb}

func (d goldenDevice) Encrypt(_ context.Context, _ keystore.DeviceCall, _ string, plaintext, ad []byte) ([]byte, error) {
	return d.aead().Seal(bytes.Clone(goldenIV), goldenIV, plaintext, ad), nil
}

func (d goldenDevice) Decrypt(_ context.Context, _ keystore.DeviceCall, _ string, ciphertext, ad []byte) ([]byte, error) {
	return d.aead().Open(nil, ciphertext[:12], ciphertext[12:], ad)
}

func TestGoldenCiphertextsOfCustomKeyStoresDecrypt(t *testing.T) {
	text, err := os.ReadFile("docs/ciphertext.md")
	require.NoError(t, err)
	device := goldenDevice{newDevice()}
	device.AddKey("external")
	const begin = "020019df6690e51234abcd12ab34cd56ef1234567890abe326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f\n" +
		"404142434445464748494a4b4c4d4e4f5051525354555657\n" + "d0d1d2d3d4d5d6d7d8d9dadb\n" +
		"af393509f1bb2a39de974ed9addf33ae03c69196d8da8edc3241f0f27736cea400cf9b\n"
	require.Contains(t, string(text), begin)
	for origin, tag := range map[kms.OriginType]string{
		kms.OriginExternalKeyStore: "686972aff8b78b7e7fc504f47d997144", kms.OriginAWSCloudHSM: "84b927232a4f886f99452e21a695b4bc",
	} {
		require.Contains(t, string(text), "\n"+tag+"\n")
		golden, err := hex.DecodeString(strings.ReplaceAll(begin+tag, "\n", ""))
		require.NoError(t, err)
		svc, _ := newService(t, withDevice(device))
		in := &kms.CreateKeyInput{Origin: origin, CustomKeyStoreId: createStore(t, svc, hsmStore("hsm"))}
		if origin == kms.OriginExternalKeyStore {
			in.CustomKeyStoreId, in.XksKeyId = createStore(t, svc, proxyStore("proxy")), "external"
		}
		connect(t, svc, in.CustomKeyStoreId)
		material := make([]byte, 32)
		for i := range material {
			material[i] = byte(i)
		}
		const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
		_, err = svc.CreateKey(testhook.WithKey(t.Context(), &testhook.SeedKey{ID: id, Materials: [][]byte{material}}), in)
		require.NoError(t, err)
		ec := map[string]string{"tenant": "7", "purpose": "café"}
		out, err := svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: golden, EncryptionContext: ec})
		require.NoError(t, err)
		require.Equal(t, "The quick brown fox", string(out.Plaintext))
		again, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: out.Plaintext, EncryptionContext: ec})
		require.NoError(t, err)
		require.Equal(t, golden[:55], again.CiphertextBlob[:55])
		require.Len(t, again.CiphertextBlob, len(golden))
	}
}
