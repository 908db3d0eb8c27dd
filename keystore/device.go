package keystore

import (
	"bytes"
	"context"

	"github.com/pocketkms/kms/internal/secret"
)

// Bounds on what the service gives a [Device], and on what it accepts from one. What exceeds them
// is refused before it is used or stored.
const (
	// MaxDevicePlaintextBytes is the longest plaintext that the service gives a Device to encrypt:
	// 4,096 bytes, and 16 of its own encryption.
	MaxDevicePlaintextBytes = 4096 + 16
	// MaxDeviceOverheadBytes is how much longer than its plaintext a ciphertext of a Device may be.
	MaxDeviceOverheadBytes = 128
	// MaxDeviceAssociatedDataBytes is the longest associated data that the service gives a Device.
	MaxDeviceAssociatedDataBytes = 8192
	// MaxDeviceKeyBytes is the longest name of a key of a Device. It has letters, digits, dots,
	// hyphens and underscores.
	MaxDeviceKeyBytes = 128
)

// A Device is a place that keys never leave: a cluster of HSMs, or an external key manager behind
// its proxy. A custom key store of the API is the use that the service makes of one. A Device is an
// [HSM] or an [ExternalKeyManager]; those who implement one choose how it is reached.
//
// The service encrypts with key material of its own before it calls Encrypt. So a Device sees no
// plaintext of a caller, and one that changes, swaps or repeats a ciphertext is noticed.
//
// Methods may be called concurrently, up to 64 at a time. They must not keep or change the slices
// that they are passed, and what they return belongs to the service. They should return soon after
// their context is done. The service does not wait for one that does not: its caller gets an error,
// and the goroutine and its place among the 64 are taken until the method returns. A panic counts as
// [DeviceInternal].
//
// An error says what is wrong by wrapping a [DeviceFault], and counts as DeviceInternal if it does
// not. Its text is logged, and no caller of the API sees it; it must not hold a secret.
type Device interface {
	// Health returns nil if the device is there, and if it accepts the credential of call. Without a
	// credential, it does not log in.
	Health(ctx context.Context, call DeviceCall) (DeviceHealth, error)

	// Encrypt encrypts with the named key, and authenticates the plaintext and associatedData. The
	// ciphertext has a form of the device's choice, with all that Decrypt needs but the name of the
	// key and associatedData.
	Encrypt(ctx context.Context, call DeviceCall, key string, plaintext, associatedData []byte) ([]byte, error)

	// Decrypt returns the plaintext, or [DeviceBadCiphertext] if Encrypt did not return this
	// ciphertext for this key and associatedData.
	Decrypt(ctx context.Context, call DeviceCall, key string, ciphertext, associatedData []byte) ([]byte, error)
}

// An HSM is a Device that makes its keys itself, such as an AWS CloudHSM cluster.
type HSM interface {
	Device

	// CreateKey makes a key for Encrypt and Decrypt that cannot be extracted, AES-256 or better, and
	// returns its name. The KeyARN of call is that of the new KMS key.
	CreateKey(ctx context.Context, call DeviceCall) (key string, err error)

	// DeleteKey deletes a key, or returns [DeviceKeyNotFound].
	DeleteKey(ctx context.Context, call DeviceCall, key string) error

	// Random returns n random bytes.
	Random(ctx context.Context, call DeviceCall, n int) ([]byte, error)
}

// An ExternalKeyManager is a Device whose keys somebody else makes and deletes.
type ExternalKeyManager interface {
	Device

	// DescribeKey returns what the key is, or [DeviceKeyNotFound].
	DescribeKey(ctx context.Context, call DeviceCall, key string) (DeviceKey, error)
}

// A DeviceCall says on whose behalf a Device is called. Later versions may add fields.
type DeviceCall struct {
	Credential *DeviceCredential // nil for a Health that does not log in
	Operation  string            // of the API: "Encrypt"
	RequestID  string            // of the call of that operation; empty for work in the background
	Principal  string            // the ARN of its caller; empty for work in the background
	KeyARN     string            // of the KMS key; empty if there is none
}

// A DeviceCredential is what the service logs in to a Device with: the name of a user and a
// password, or the ID of an access key and the key. Package fmt does not print its secret.
type DeviceCredential struct {
	user   string
	secret *secret.Bytes
}

// NewDeviceCredential returns a credential. It copies the secret.
func NewDeviceCredential(user string, password []byte) *DeviceCredential {
	return &DeviceCredential{user, secret.New(bytes.Clone(password))}
}

// User returns the name of the user, "kmsuser" for an HSM, or the ID of the access key.
func (c *DeviceCredential) User() string { return c.user }

// Secret returns a copy of the password or the access key. Clear it after use.
func (c *DeviceCredential) Secret() []byte { return bytes.Clone(c.secret.Expose()) }

// Equal reports whether both credentials are the same. The time that it takes does not depend on
// where the secrets differ.
func (c *DeviceCredential) Equal(other *DeviceCredential) bool {
	same := c.secret.Equal(other.secret)
	return same && c.user == other.user
}

// A DeviceHealth is the state of a Device that is there.
type DeviceHealth struct {
	// HSMs is the number of active HSMs of an [HSM]. The API asks for one to connect and to encrypt,
	// and for two to create a custom key store or a key.
	HSMs int
	// TrustAnchor is the certificate that an [HSM] was initialized with, in PEM, or empty if the
	// device does not tell. A custom key store must have been created with the same.
	TrustAnchor string
}

// A DeviceKey describes a key of an [ExternalKeyManager], in the words of the API of external key
// store proxies.
type DeviceKey struct {
	Spec   string   // must be "AES_256"
	Usages []string // must have "ENCRYPT" and "DECRYPT"; at most 10
	Status string   // must be "ENABLED"
}

// A DeviceFault says why a call of a [Device] failed. It is an error: a Device returns it, or an
// error that wraps it.
type DeviceFault string

// The faults of a Device.
const (
	DeviceNotFound       DeviceFault = "there is no such device"
	DeviceNotActive      DeviceFault = "the device is not active"
	DeviceUnreachable    DeviceFault = "the device cannot be reached"
	DeviceBadTLS         DeviceFault = "no TLS connection to the device can be made"
	DeviceTimedOut       DeviceFault = "the device did not answer in time"
	DeviceBackendTimeout DeviceFault = "what the device depends on did not answer it in time"
	DeviceThrottled      DeviceFault = "the device was called too often"
	DeviceBadResponse    DeviceFault = "the device returned what it must not"
	DeviceInternal       DeviceFault = "the device failed"
	DeviceUnsupported    DeviceFault = "the device does not support the call"
	DeviceAccessDenied   DeviceFault = "the device denied the call"

	DeviceBadCredential DeviceFault = "the device does not accept the credential"
	DeviceUserNotFound  DeviceFault = "the device has no such user"
	DeviceUserLockedOut DeviceFault = "the user is locked out of the device"
	DeviceUserLoggedIn  DeviceFault = "the user is logged in to the device already"

	DeviceKeyNotFound   DeviceFault = "the device has no such key"
	DeviceKeyDisabled   DeviceFault = "the key is disabled in the device"
	DeviceKeyUsage      DeviceFault = "the key in the device is not for this use"
	DeviceBadCiphertext DeviceFault = "the ciphertext or its associated data is not right"

	DeviceSubnetNotFound       DeviceFault = "a subnet of the device does not exist"
	DeviceSubnetFull           DeviceFault = "a subnet of the device has no free address"
	DeviceServiceNotFound      DeviceFault = "the VPC endpoint service of the device does not exist"
	DeviceServiceMisconfigured DeviceFault = "the VPC endpoint service of the device is not configured as it must be"
)

// Error returns what is wrong.
func (f DeviceFault) Error() string { return "keystore: " + string(f) }
