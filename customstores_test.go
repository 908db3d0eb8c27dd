package kms_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
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
	s := &stored{device: newDevice(), trail: new(trail)}
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

// deviceFaults has for each fault the ConnectionErrorCode of an HSM and of an external key manager, and
// the exceptions that an external key manager causes in CreateCustomKeyStore and in CreateKey.
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
