package conformance

import (
	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

// inStore creates a connected external key store with a key, which a message calls {key}.
func (s *scene) inStore() *kms.KeyMetadata {
	s.Helper()
	proxy := createStore(s, s.svc, proxyStore("proxy"))
	connect(s, s.svc, proxy)
	s.device().AddKey("external")
	s.key = createKey(s, s.svc, &kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: proxy, XksKeyId: "external"})
	return s.key
}

func factsAboutCustomKeyStores() []Fact {
	const notConnected = "This KMS key is in a custom key store that is not connected to its external key store proxy. Connect the external key store and try the request again."
	withKey := func(in func(*kms.KeyMetadata) any) func(*scene) any {
		return func(s *scene) any { return in(s.inStore()) }
	}
	unsupported := refuses(kms.UnsupportedOperationException, "{key} origin is EXTERNAL_KEY_STORE which is not valid for this operation.")
	return []Fact{
		{"CreateCustomKeyStore answers with the ID", "documented",
			input(proxyStore("new")), succeeds(has("", "CustomKeyStoreId"), matches("CustomKeyStoreId", "^cks-[0-9a-f]{17}$"))},
		{"ConnectCustomKeyStore answers with nothing", "documented",
			func(s *scene) any { return &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: s.hsm()} }, succeeds(has("", ""))},
		{"DisconnectCustomKeyStore answers with nothing", "documented",
			func(s *scene) any {
				connect(s, s.svc, s.hsm())
				return &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: s.hsm()}
			}, succeeds(has("", ""))},
		{"UpdateCustomKeyStore answers with nothing", "documented",
			func(s *scene) any {
				return &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: s.hsm(), KeyStorePassword: "another"}
			}, succeeds(has("", ""))},
		{"DeleteCustomKeyStore answers with nothing", "documented",
			func(s *scene) any { return &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: s.hsm()} }, succeeds(has("", ""))},
		{"a new CloudHSM key store is disconnected", "documented",
			func(s *scene) any { return &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: s.hsm()} },
			succeeds(has("", "CustomKeyStores Truncated"), is("CustomKeyStores.0.ConnectionState", "DISCONNECTED"),
				has("CustomKeyStores.0", "CustomKeyStoreId CustomKeyStoreName CustomKeyStoreType CloudHsmClusterId TrustAnchorCertificate ConnectionState CreationDate"))},
		{"an external key store shows its proxy, and not the secret", "documented",
			func(s *scene) any {
				createStore(s, s.svc, proxyStore("proxy"))
				return &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "proxy"}
			},
			succeeds(has("CustomKeyStores.0", "CustomKeyStoreId CustomKeyStoreName CustomKeyStoreType XksProxyConfiguration ConnectionState CreationDate"),
				has("CustomKeyStores.0.XksProxyConfiguration", "AccessKeyId Connectivity UriEndpoint UriPath"))},
		{"a store that failed to connect says why", "documented",
			func(s *scene) any {
				s.device().SetPasswords()
				tryToConnect(s, s.svc, s.hsm())
				return &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: s.hsm()}
			},
			succeeds(is("CustomKeyStores.0.ConnectionState", "FAILED"), is("CustomKeyStores.0.ConnectionErrorCode", "INVALID_CREDENTIALS"))},
		{"a store is described by its ID or its name", "documented",
			input(&kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: "cks-1", CustomKeyStoreName: "x"}), refusesSomehow(kms.ValidationException)},
		{"a store that does not exist is not described", "documented",
			input(&kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: "none"}), refusesSomehow(kms.CustomKeyStoreNotFoundException)},
		{"a wrong trust anchor", "documented",
			func(s *scene) any {
				s.do(&kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: s.hsm()})
				in := hsmStore("new")
				in.TrustAnchorCertificate = "x" + kmstest.TrustAnchor
				return in
			}, refusesSomehow(kms.IncorrectTrustAnchorException)},
		{"a key of an external key store", "documented",
			withKey(func(k *kms.KeyMetadata) any { return &kms.DescribeKeyInput{KeyId: k.KeyId} }),
			succeeds(is("KeyMetadata.XksKeyConfiguration.Id", "external"), is("KeyMetadata.CurrentKeyMaterialId", nil), is("KeyMetadata.CloudHsmClusterId", nil))},
		{"an external key has one KMS key", "documented",
			withKey(func(k *kms.KeyMetadata) any {
				return &kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: k.CustomKeyStoreId, XksKeyId: "external"}
			}), refusesSomehow(kms.XksKeyAlreadyInUseException)},
		{"a key of a store that is not connected is unavailable", "documented",
			func(s *scene) any {
				k := s.inStore()
				disconnect(s, s.svc, k.CustomKeyStoreId)
				return &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")}
			}, refuses(kms.KMSInvalidStateException, "{key} is unavailable.")},
		{"no key is created in a store that is not connected", "documented",
			func(s *scene) any {
				return &kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: createStore(s, s.svc, proxyStore("proxy")), XksKeyId: "external"}
			}, refuses(kms.CustomKeyStoreInvalidStateException, notConnected)},
		{"a key of a custom key store does not rotate", "documented",
			withKey(func(k *kms.KeyMetadata) any { return &kms.EnableKeyRotationInput{KeyId: k.KeyId} }), unsupported},
		{"a key of a custom key store has no rotation status", "documented",
			withKey(func(k *kms.KeyMetadata) any { return &kms.GetKeyRotationStatusInput{KeyId: k.KeyId} }), unsupported},
		{"a key of a custom key store makes no data key pairs", "documented",
			withKey(func(k *kms.KeyMetadata) any {
				return &kms.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
			}), unsupported},
		{"an external key store generates no random bytes", "documented",
			withKey(func(k *kms.KeyMetadata) any {
				return &kms.GenerateRandomInput{NumberOfBytes: new(int32(8)), CustomKeyStoreId: k.CustomKeyStoreId}
			}), refusesSomehow(kms.UnsupportedOperationException)},
		{"a connected store is not deleted", "documented",
			withKey(func(k *kms.KeyMetadata) any {
				return &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: k.CustomKeyStoreId}
			}), refusesSomehow(kms.CustomKeyStoreInvalidStateException)},
	}
}
