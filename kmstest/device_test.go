package kmstest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret/secrettest"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/kmstest"
)

const devicePassword = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

var deviceCall = keystore.DeviceCall{Credential: keystore.NewDeviceCredential("kmsuser", []byte(devicePassword)), Operation: "Encrypt"}

func TestADeviceEncryptsForItsKeysOnly(t *testing.T) {
	d := kmstest.NewDevice("another", devicePassword)
	key, err := d.CreateKey(t.Context(), deviceCall)
	require.NoError(t, err)
	d.AddKey("external")
	require.Equal(t, []string{"external", key}, d.Keys())

	encrypted, err := d.Encrypt(t.Context(), deviceCall, key, []byte("text"), []byte("data"))
	require.NoError(t, err)
	plaintext, err := d.Decrypt(t.Context(), deviceCall, key, encrypted, []byte("data"))
	require.NoError(t, err)
	require.Equal(t, "text", string(plaintext))
	for _, tt := range []struct {
		key, data string
		want      error
	}{{key, "other", keystore.DeviceBadCiphertext}, {"external", "data", keystore.DeviceBadCiphertext}, {"none", "data", keystore.DeviceKeyNotFound}} {
		_, err := d.Decrypt(t.Context(), deviceCall, tt.key, encrypted, []byte(tt.data))
		require.ErrorIs(t, err, tt.want)
	}
	d.SetKey(key, keystore.DeviceKey{Spec: "AES_256", Status: "DISABLED"})
	_, err = d.Decrypt(t.Context(), deviceCall, key, encrypted, []byte("data"))
	require.ErrorIs(t, err, keystore.DeviceKeyDisabled)
	d.SetKey(key, keystore.DeviceKey{Spec: "AES_256", Status: "ENABLED", Usages: []string{"ENCRYPT"}})
	_, err = d.Decrypt(t.Context(), deviceCall, key, encrypted, []byte("data"))
	require.ErrorIs(t, err, keystore.DeviceKeyUsage)

	require.NoError(t, d.DeleteKey(t.Context(), deviceCall, key))
	require.ErrorIs(t, d.DeleteKey(t.Context(), deviceCall, key), keystore.DeviceKeyNotFound)
	require.Equal(t, 6, d.Calls("Decrypt"))
}

func TestADeviceRefusesAWrongPassword(t *testing.T) {
	d := kmstest.NewDevice(devicePassword)
	wrong := keystore.DeviceCall{Credential: keystore.NewDeviceCredential("kmsuser", []byte("a wrong password"))}
	for _, call := range []keystore.DeviceCall{wrong, {}} {
		_, err := d.Random(t.Context(), call, 8)
		require.ErrorIs(t, err, keystore.DeviceBadCredential)
	}
	_, err := d.Health(t.Context(), wrong)
	require.ErrorIs(t, err, keystore.DeviceBadCredential)
	health, err := d.Health(t.Context(), keystore.DeviceCall{})
	require.NoError(t, err, "without a credential it does not log in")
	require.Equal(t, keystore.DeviceHealth{HSMs: 2, TrustAnchor: kmstest.TrustAnchor}, health)
	d.SetPasswords("a wrong password")
	_, err = d.Health(t.Context(), wrong)
	require.NoError(t, err)
	secrettest.RequireHidden(t, d, []byte("a wrong password"))
	secrettest.RequireHidden(t, wrong, []byte("a wrong password"))
	secrettest.RequireHidden(t, wrong.Credential, []byte("a wrong password"))
}

func TestFaultsOfADeviceAreCountedAndRemoved(t *testing.T) {
	d := kmstest.NewDevice(devicePassword)
	broken := errors.New("broken")
	remove := d.Inject(kmstest.DeviceFault{Method: "Random", After: 1, Count: 2, Err: broken})
	var got []bool
	for range 5 {
		_, err := d.Random(t.Context(), deviceCall, 8)
		got = append(got, err == nil)
	}
	require.Equal(t, []bool{true, false, false, true, true}, got)
	remove()
	remove()

	defer d.Inject(kmstest.DeviceFault{Method: "CreateKey", Err: broken, LoseResponse: true})()
	_, err := d.CreateKey(t.Context(), deviceCall)
	require.ErrorIs(t, err, broken)
	require.Len(t, d.Keys(), 1)

	remove = d.Inject(kmstest.DeviceFault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Random(ctx, deviceCall, 8)
	require.ErrorIs(t, err, context.Canceled)
	done := make(chan error)
	go func() { _, err := d.Random(context.Background(), deviceCall, 8); done <- err }()
	remove()
	require.NoError(t, <-done)
}

func TestConnectWaitsForTheEndOfTheAttempt(t *testing.T) {
	d := kmstest.NewDevice(devicePassword)
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) {
		c.Devices = map[string]keystore.Device{"https://proxy.example.com/kms/xks/v1": d}
	}))
	store, err := svc.CreateCustomKeyStore(t.Context(), &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: "proxy", CustomKeyStoreType: kms.CustomKeyStoreTypeExternalKeyStore, XksProxyConnectivity: kms.XksProxyConnectivityPublicEndpoint,
		XksProxyUriEndpoint: "https://proxy.example.com", XksProxyUriPath: "/kms/xks/v1",
		XksProxyAuthenticationCredential: &kms.XksProxyAuthenticationCredentialType{AccessKeyId: "ABCDEFGHIJKLMNOPQRST", RawSecretAccessKey: devicePassword},
	})
	require.NoError(t, err)
	d.SetPasswords("another")
	require.Equal(t, kms.ConnectionErrorCodeInvalidCredentials, svc.Connect(store.CustomKeyStoreId))
	_, err = svc.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store.CustomKeyStoreId})
	require.NoError(t, err)
	d.SetPasswords(devicePassword)
	require.Empty(t, svc.Connect(store.CustomKeyStoreId))
	require.Empty(t, svc.Calls("ConnectCustomKeyStore"), "its calls are not recorded")
}
