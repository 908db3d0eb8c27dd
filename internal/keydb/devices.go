package keydb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/keystore"
)

// A DeviceCall is that of package keystore. The methods of a DB that take one set its Credential
// and its KeyARN.
type DeviceCall = keystore.DeviceCall

// How long a device may take to answer. AWS KMS gives the proxy of an external key manager this
// time as well, and asks once more if it is over.
const (
	hsmTimeout             = 5 * time.Second
	externalTimeout        = 250 * time.Millisecond
	externalTimeoutRetries = 1
)

// maxDeviceCalls bounds the calls of one device at a time, so that one that hangs takes no more
// goroutines than these.
const maxDeviceCalls = 64

// A device is one of Config.Devices, and the places for calls of it.
type device struct {
	keystore.Device
	places chan struct{}
}

func newDevices(configured map[string]keystore.Device) map[string]*device {
	devices := make(map[string]*device, len(configured))
	for name, d := range configured {
		devices[name] = &device{d, make(chan struct{}, maxDeviceCalls)}
	}
	return devices
}

// A DeviceError is the failure of a device.
type DeviceError struct {
	fault    keystore.DeviceFault
	external bool // it is an external key manager
}

func (s *Store) failure(f keystore.DeviceFault) *DeviceError { return &DeviceError{f, s.External()} }

// A faultRow is what the API makes of a fault. Empty texts mean what notListed says.
type faultRow struct {
	hsmConnection, connection string // the ConnectionErrorCode, of an HSM and of an external key manager
	hsmStore, store           string // the exception of CreateCustomKeyStore and UpdateCustomKeyStore
	hsmKey, key               string // the exception of CreateKey
	message                   string // of an external key manager, in the words of the specification of its proxies
}

// What a faultRow does not say.
var notListed = faultRow{
	"INTERNAL_ERROR", "XKS_PROXY_INVALID_RESPONSE",
	"CloudHsmClusterInvalidConfigurationException", "XksProxyInvalidResponseException",
	"CustomKeyStoreInvalidStateException", "CustomKeyStoreInvalidStateException",
	"AWS KMS cannot interpret the response from the external key store proxy. If you see this error repeatedly, report it to your external key store proxy administrator.",
}

const (
	unreachable   = "XksProxyUriUnreachableException"
	misconfigured = "XksProxyInvalidConfigurationException"
	credential    = "XksProxyIncorrectAuthenticationCredentialException"
	notActive     = "CloudHsmClusterNotActiveException"
	badCluster    = "CloudHsmClusterInvalidConfigurationException"
	badKey        = "XksKeyInvalidConfigurationException"
	notReachable  = "XKS_PROXY_NOT_REACHABLE"
	badLogin      = "INVALID_CREDENTIALS"
	network       = "NETWORK_ERRORS"

	notAuthenticated = "The external key store proxy rejected the request because it could not authenticate AWS KMS. Verify the XKS proxy authentication credentials for your external key store and update if necessary."
)

// faults has a row for each fault of a device.
var faults = map[keystore.DeviceFault]faultRow{
	keystore.DeviceNotFound: {"CLUSTER_NOT_FOUND", "XKS_PROXY_INVALID_CONFIGURATION", "CloudHsmClusterNotFoundException", misconfigured, "", "",
		"The external key store proxy rejected the request because of an invalid URI path. Verify the URI path for your external key store and update if necessary."},
	keystore.DeviceNotActive:   {network, notReachable, notActive, unreachable, badCluster, "", notCommunicating},
	keystore.DeviceUnreachable: {network, notReachable, notActive, unreachable, "", "", notCommunicating},
	keystore.DeviceBadTLS: {network, "XKS_PROXY_INVALID_TLS_CONFIGURATION", notActive, unreachable, "", "",
		"AWS KMS cannot establish a TLS connection to the external key store proxy. Verify the TLS configuration, including its certificate."},
	keystore.DeviceTimedOut: {network, "XKS_PROXY_TIMED_OUT", notActive, unreachable, "", "",
		"AWS KMS rejected the request because the external key store proxy did not respond in time. Retry the request. If you see this error repeatedly, report it to your external key store proxy administrator."},
	keystore.DeviceBackendTimeout: {network, "XKS_PROXY_TIMED_OUT", notActive, unreachable, "", "",
		"The external key store proxy did not respond to the request in the time allotted. Retry the request. If you see this error repeatedly, report it to your external key store proxy administrator."},
	keystore.DeviceThrottled: {network, notReachable, notActive, unreachable, "", "",
		"The external key store proxy rejected the request due to a very high request rate. Reduce the frequency of your calls using KMS keys in this external key store."},
	keystore.DeviceBadResponse: {},
	keystore.DeviceInternal: {"", "", "", "", "", "",
		"The external key store proxy rejected the request because it cannot communicate with the external key manager. Verify that the external key store proxy configuration is correct and that the external key manager is available."},
	keystore.DeviceUnsupported: {"", "", "", "", "", "",
		"The external key store proxy rejected the request because it does not support the requested operation. If you see this error repeatedly, report it to your external key store proxy administrator."},
	keystore.DeviceAccessDenied: {badLogin, "XKS_PROXY_ACCESS_DENIED", "", "", "KMSInvalidStateException", "KMSInvalidStateException",
		"The external key store proxy denied access to the operation. Verify that the user and the external key are both authorized for this operation, and try the request again."},

	keystore.DeviceBadCredential: {badLogin, badLogin, "", credential, "", "", notAuthenticated},
	keystore.DeviceUserNotFound:  {"USER_NOT_FOUND", badLogin, "", credential, "", "", notAuthenticated},
	keystore.DeviceUserLockedOut: {"USER_LOCKED_OUT", badLogin, "", credential, "", "", notAuthenticated},
	keystore.DeviceUserLoggedIn:  {"USER_LOGGED_IN", badLogin, "", credential, "", "", notAuthenticated},

	keystore.DeviceKeyNotFound: {"", "", "", "", "", "XksKeyNotFoundException",
		"The external key associated with this KMS key in an external key store was not found in its external key manager. If the external key ID associated with this KMS key is incorrect, create a new KMS key with the correct external key ID."},
	keystore.DeviceKeyDisabled: {"", "", "", "", "", badKey,
		"The external key associated with this KMS key in an external key store is not enabled in the external key manager. Enable the external key in the external key manager and retry the request."},
	keystore.DeviceKeyUsage: {"", "", "", "", "", badKey,
		"The external key associated with this KMS key in an external key store does not support the requested operation. Enable the operation on the key in your external key manager, and try the request again."},
	keystore.DeviceBadCiphertext: {"", "", "", "", "", "",
		"The external key store proxy rejected the request because the specified ciphertext or encryption context is corrupted, missing, or otherwise invalid."},

	keystore.DeviceSubnetNotFound:       {"SUBNET_NOT_FOUND", notReachable, "", unreachable, "", "", notCommunicating},
	keystore.DeviceSubnetFull:           {"INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET", notReachable, "", unreachable, "", "", notCommunicating},
	keystore.DeviceServiceNotFound:      {"", "XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND", "", "XksProxyVpcEndpointServiceNotFoundException", "", "", notCommunicating},
	keystore.DeviceServiceMisconfigured: {"", "XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION", "", "XksProxyVpcEndpointServiceInvalidConfigurationException", "", "", notCommunicating},
}

const notCommunicating = "AWS KMS cannot communicate with the external key store proxy. This might be a transient network issue. If you see this error repeatedly, verify that your external key store proxy is active and is connected to the network, and that its endpoint URI is correct in your external keystore."

// pick returns what the row of the fault says, or else what notListed says.
func (e *DeviceError) pick(hsm, external func(*faultRow) string) string {
	row, of := faults[e.fault], hsm
	if e.external {
		of = external
	}
	if text := of(&row); text != "" {
		return text
	}
	return of(&notListed)
}

// ConnectionErrorCode returns that of the API.
func (e *DeviceError) ConnectionErrorCode() string {
	return e.pick(func(r *faultRow) string { return r.hsmConnection }, func(r *faultRow) string { return r.connection })
}

// StoreException returns the exception of CreateCustomKeyStore and UpdateCustomKeyStore.
func (e *DeviceError) StoreException() string {
	return e.pick(func(r *faultRow) string { return r.hsmStore }, func(r *faultRow) string { return r.store })
}

// KeyException returns the exception of CreateKey.
func (e *DeviceError) KeyException() string {
	return e.pick(func(r *faultRow) string { return r.hsmKey }, func(r *faultRow) string { return r.key })
}

// IsBadCiphertext reports whether the device says that the ciphertext or the encryption context is
// wrong.
func (e *DeviceError) IsBadCiphertext() bool { return e.fault == keystore.DeviceBadCiphertext }

// IsExternal reports whether the device is an external key manager.
func (e *DeviceError) IsExternal() bool { return e.external }

// Message returns the message of all these exceptions.
func (e *DeviceError) Message() string {
	if e.external {
		return e.pick(nil, func(r *faultRow) string { return r.message })
	}
	return "The CloudHSM cluster of the custom key store cannot be used: " + string(e.fault) + "."
}

// Error returns the fault.
func (e *DeviceError) Error() string { return e.fault.Error() }

// callDevice calls a method of the device of s: do, whose result is read only if it returns in
// time. It returns a *DeviceError, or the error of ctx.
func callDevice[D keystore.Device, T any](ctx context.Context, db *DB, s *Store, call DeviceCall, do func(context.Context, D, DeviceCall) (T, error)) (result T, err error) {
	d := db.devices[s.DeviceName()]
	if d == nil {
		if s.External() {
			return result, s.failure(keystore.DeviceUnreachable)
		}
		return result, s.failure(keystore.DeviceNotFound)
	}
	typed, ok := d.Device.(D)
	if !ok {
		return result, s.failure(keystore.DeviceUnsupported)
	}
	limit, attempts := hsmTimeout, 1
	if s.External() {
		limit, attempts = externalTimeout, 1+externalTimeoutRetries
	}
	for range attempts {
		result, err = within(ctx, d, limit, func(ctx context.Context) (T, error) { return do(ctx, typed, call) })
		if !errors.Is(err, keystore.DeviceTimedOut) || ctx.Err() != nil {
			break
		}
	}
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		return result, ctx.Err()
	}
	fault, ok := errors.AsType[keystore.DeviceFault](err)
	if _, known := faults[fault]; !ok || !known {
		fault = keystore.DeviceInternal
	}
	if fault != keystore.DeviceBadCiphertext { // which is the caller's
		db.deviceFailures.Error(db.config.Logger, db.config.Clock(), "kms: calls of the device of a custom key store fail",
			fmt.Errorf("custom key store %s, %s: %w", s.ID, call.Operation, err))
	}
	return result, s.failure(fault)
}

// within calls do in a goroutine of its own, and returns when do does or the time is over. A
// goroutine that is left behind keeps its place until do returns.
func within[T any](ctx context.Context, d *device, limit time.Duration, do func(context.Context) (T, error)) (result T, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case d.places <- struct{}{}:
	case <-ctx.Done():
		return result, keystore.DeviceTimedOut
	}
	type answer struct {
		result T
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		a := answer{err: keystore.DeviceInternal} // if do ends the goroutine
		defer func() {
			if p := recover(); p != nil { // its value is not logged: it could hold anything
				a.err = fmt.Errorf("%w: a panic with a %T\n%s", keystore.DeviceInternal, p, debug.Stack())
			}
			<-d.places
			answers <- a
		}()
		a.result, a.err = do(ctx)
	}()
	select {
	case a := <-answers:
		if errors.Is(a.err, context.DeadlineExceeded) || errors.Is(a.err, context.Canceled) {
			a.err = keystore.DeviceTimedOut
		}
		return a.result, a.err
	case <-ctx.Done():
		return result, keystore.DeviceTimedOut
	}
}

// A DeviceHealth is that of package keystore.
type DeviceHealth = keystore.DeviceHealth

// DeviceHealth returns the health of the device of s, which need not be stored. With a password, it
// logs in.
func (db *DB) DeviceHealth(ctx context.Context, s *Store, password []byte, call DeviceCall) (DeviceHealth, error) {
	if password != nil {
		call.Credential = keystore.NewDeviceCredential(s.user(), password)
	}
	health, err := callDevice(ctx, db, s, call, func(ctx context.Context, d keystore.Device, call DeviceCall) (DeviceHealth, error) {
		return d.Health(ctx, call)
	})
	if err == nil && len(health.TrustAnchor) > maxTrustAnchorBytes {
		return DeviceHealth{}, s.failure(keystore.DeviceBadResponse)
	}
	return health, err
}

const maxTrustAnchorBytes = 4 * 5000 // of 5,000 characters

// A DeviceKey is that of package keystore.
type DeviceKey = keystore.DeviceKey

// DescribeDeviceKey returns what an external key is. Its texts have at most 64 bytes, and it has at
// most 10 usages.
func (db *DB) DescribeDeviceKey(ctx context.Context, s *Store, key string, call DeviceCall) (DeviceKey, error) {
	described, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.ExternalKeyManager, call DeviceCall) (DeviceKey, error) {
		return d.DescribeKey(ctx, call, key)
	})
	if err != nil {
		return DeviceKey{}, err
	}
	described.Usages = slices.Clone(described.Usages)
	for _, text := range append(described.Usages, described.Spec, described.Status) {
		if len(described.Usages) > 10 || !shortText.MatchString(text) {
			return DeviceKey{}, s.failure(keystore.DeviceBadResponse)
		}
	}
	return described, nil
}

// createDeviceKey makes a key in the HSM of s and returns its name.
func (db *DB) createDeviceKey(ctx context.Context, s *Store, call DeviceCall) (string, error) {
	name, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.HSM, call DeviceCall) (string, error) {
		return d.CreateKey(ctx, call)
	})
	if err == nil && !deviceKeyName.MatchString(name) {
		err = s.failure(keystore.DeviceBadResponse)
	}
	return name, err
}

var (
	deviceKeyName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	shortText     = regexp.MustCompile(`^[!-~]{1,64}$`)
)

// deleteDeviceKey deletes a key of the HSM of s. It returns nil if the key does not exist.
func (db *DB) deleteDeviceKey(ctx context.Context, s *Store, key string, call DeviceCall) error {
	_, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.HSM, call DeviceCall) (struct{}, error) {
		return struct{}{}, d.DeleteKey(ctx, call, key)
	})
	if failure, ok := errors.AsType[*DeviceError](err); ok && failure.fault == keystore.DeviceKeyNotFound {
		return nil
	}
	return err
}

// Random returns n random bytes of the HSM of s.
func (db *DB) Random(ctx context.Context, s *Store, n int, call DeviceCall) ([]byte, error) {
	random, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.HSM, call DeviceCall) ([]byte, error) {
		return d.Random(ctx, call, n)
	})
	if err == nil && len(random) != n {
		err = s.failure(keystore.DeviceBadResponse)
	}
	if err != nil {
		return nil, err
	}
	return bytes.Clone(random), nil
}

// SealInDevice appends to dst what the device of k's custom key store makes of sealed, which k's
// material has encrypted.
func (db *DB) SealInDevice(ctx context.Context, k *Key, dst, sealed, encryptionContext []byte, call DeviceCall) ([]byte, error) {
	s := k.Store
	call.KeyARN = k.ARN
	sealed, ad := bytes.Clone(sealed), s.associatedData(dst, encryptionContext) // of no memory that is used again
	outer, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.Device, call DeviceCall) ([]byte, error) {
		return d.Encrypt(ctx, call, k.Record.DeviceKey, sealed, ad)
	})
	if err != nil {
		return nil, err
	}
	if len(outer) < ciphertext.TagBytes || len(outer) > len(sealed)+keystore.MaxDeviceOverheadBytes {
		return nil, s.failure(keystore.DeviceBadResponse)
	}
	return append(slices.Clip(dst), outer...), nil
}

// OpenInDevice is the inverse of SealInDevice: sealed begins with what dst was.
func (db *DB) OpenInDevice(ctx context.Context, k *Key, sealed, encryptionContext []byte, call DeviceCall) ([]byte, error) {
	s := k.Store
	call.KeyARN = k.ARN
	dst, outer := sealed[:ciphertext.NonceEnd], bytes.Clone(sealed[ciphertext.NonceEnd:])
	ad := s.associatedData(dst, encryptionContext)
	inner, err := withCredential(ctx, db, s, call, func(ctx context.Context, d keystore.Device, call DeviceCall) ([]byte, error) {
		return d.Decrypt(ctx, call, k.Record.DeviceKey, outer, ad)
	})
	if err != nil {
		return nil, err
	}
	if len(inner) < ciphertext.TagBytes || len(inner) > keystore.MaxDevicePlaintextBytes {
		return nil, s.failure(keystore.DeviceBadResponse)
	}
	return append(slices.Clip(dst), inner...), nil
}

// The package of ciphertexts, which imports nothing of this one, knows the same bounds.
var (
	_ [0]struct{} = [ciphertext.MaxDevicePlaintext - keystore.MaxDevicePlaintextBytes]struct{}{}
	_ [0]struct{} = [ciphertext.MaxDeviceOverhead - keystore.MaxDeviceOverheadBytes]struct{}{}
	_ [0]struct{} = [ciphertext.MaxContextBytes - keystore.MaxDeviceAssociatedDataBytes]struct{}{}
)

// withCredential is callDevice with the credential of s.
func withCredential[D keystore.Device, T any](ctx context.Context, db *DB, s *Store, call DeviceCall, do func(context.Context, D, DeviceCall) (T, error)) (T, error) {
	var none T
	password, err := db.StoreSecret(ctx, s)
	if err != nil {
		return none, err
	}
	defer password.Destroy()
	call.Credential = keystore.NewDeviceCredential(s.user(), password.Expose())
	return callDevice(ctx, db, s, call, do)
}
