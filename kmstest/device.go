package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// TrustAnchor is the certificate of every [Device], for the TrustAnchorCertificate of a custom key
// store, unless [Device.SetHealth] sets another.
const TrustAnchor = "-----BEGIN CERTIFICATE-----\nthe trust anchor of package kmstest\n-----END CERTIFICATE-----\n"

// A Device is a cluster of HSMs and an external key manager in memory, for kms.Config.Devices: the
// name that it has there decides as which it is used.
//
//	hsm := kmstest.NewDevice("password")
//	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) {
//		c.Devices = map[string]keystore.Device{"cluster-234567abcde": hsm}
//	}))
//
// Its methods may be called concurrently.
type Device struct {
	mu        sync.Mutex
	passwords []*keystore.DeviceCredential
	health    keystore.DeviceHealth
	keys      map[string]deviceKey
	faults    []*deviceFault
	calls     map[string]int
}

var (
	_ keystore.HSM                = (*Device)(nil)
	_ keystore.ExternalKeyManager = (*Device)(nil)
)

type deviceKey struct {
	keystore.DeviceKey
	aead cipher.AEAD
}

// NewDevice returns a device with two HSMs that accepts each of the passwords: the KeyStorePassword
// or the RawSecretAccessKey of a custom key store.
func NewDevice(passwords ...string) *Device {
	d := &Device{health: keystore.DeviceHealth{HSMs: 2, TrustAnchor: TrustAnchor}, keys: map[string]deviceKey{}, calls: map[string]int{}}
	d.SetPasswords(passwords...)
	return d
}

// SetPasswords replaces the passwords.
func (d *Device) SetPasswords(passwords ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passwords = nil
	for _, p := range passwords {
		d.passwords = append(d.passwords, keystore.NewDeviceCredential("", []byte(p)))
	}
}

// SetHealth replaces what the device says of itself.
func (d *Device) SetHealth(h keystore.DeviceHealth) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health = h
}

// AddKey adds an external key, AES-256 and enabled, for the XksKeyId of a KMS key.
func (d *Device) AddKey(key string) {
	d.SetKey(key, keystore.DeviceKey{Spec: "AES_256", Usages: []string{"ENCRYPT", "DECRYPT"}, Status: "ENABLED"})
}

// SetKey changes what a key is said to be, and adds it if it does not exist.
func (d *Device) SetKey(key string, as keystore.DeviceKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, ok := d.keys[key]
	if !ok {
		k.aead = newDeviceAEAD()
	}
	k.DeviceKey = as
	d.keys[key] = k
}

// RemoveKey deletes a key behind the back of the service.
func (d *Device) RemoveKey(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
}

// Keys returns the names of the keys, sorted.
func (d *Device) Keys() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.keys))
}

// Calls returns how often a method, such as "Encrypt", was called.
func (d *Device) Calls(method string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[method]
}

// A DeviceFault makes calls of a [Device] fail. It applies to every call unless Method, After or
// Count restrict it.
type DeviceFault struct {
	// Method is the name of a method, such as "Encrypt"; empty means all.
	Method string

	// The first After matching calls are not affected. After Count affected calls the fault ends; 0
	// means that it does not.
	After, Count int

	// Err is the error of the call, such as keystore.DeviceUnreachable. It may be nil.
	Err error

	// LoseResponse lets the device do what it is asked, and then fails the call with Err: it vanishes
	// in mid-call.
	LoseResponse bool

	// Alter replaces what Encrypt, Decrypt and Random return: a device that changes, swaps or repeats
	// it.
	Alter func(result []byte) []byte

	// Hang makes the call wait until the fault is removed, or its context is done.
	Hang bool
}

type deviceFault struct {
	DeviceFault
	seen, hits int
	removed    chan struct{}
}

// Inject adds a fault and returns a function that removes it. Of several faults that match a call,
// the first one decides.
func (d *Device) Inject(f DeviceFault) (remove func()) {
	added := &deviceFault{DeviceFault: f, removed: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, added)
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.faults = slices.DeleteFunc(d.faults, func(f *deviceFault) bool { return f == added })
		close(added.removed)
	})
}

// call does what a method is asked, as the faults let it.
func (d *Device) call(ctx context.Context, method string, call keystore.DeviceCall, do func() ([]byte, error)) ([]byte, error) {
	f := d.begin(method)
	if f != nil && f.Hang {
		select {
		case <-f.removed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if f != nil && f.Err != nil && !f.LoseResponse {
		return nil, f.Err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if call.Credential != nil || method != "Health" {
		if err := d.logIn(call.Credential); err != nil {
			return nil, err
		}
	}
	result, err := do()
	switch {
	case err != nil || f == nil:
		return result, err
	case f.Err != nil:
		return nil, f.Err
	case f.Alter != nil:
		return f.Alter(result), nil
	}
	return result, nil
}

// begin counts a call and returns the fault that affects it, or nil.
func (d *Device) begin(method string) *deviceFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[method]++
	for _, f := range d.faults {
		if f.Method != "" && f.Method != method {
			continue
		}
		f.seen++
		if f.seen > f.After && (f.Count == 0 || f.hits < f.Count) {
			f.hits++
			return f
		}
	}
	return nil
}

// logIn accepts every user who has one of the passwords. The caller holds d.mu.
func (d *Device) logIn(c *keystore.DeviceCredential) error {
	accepted := false
	if c != nil {
		given := keystore.NewDeviceCredential("", c.Secret())
		for _, p := range d.passwords {
			accepted = given.Equal(p) || accepted
		}
	}
	if !accepted {
		return keystore.DeviceBadCredential
	}
	return nil
}

// Health is a method of [keystore.Device].
func (d *Device) Health(ctx context.Context, call keystore.DeviceCall) (h keystore.DeviceHealth, err error) {
	_, err = d.call(ctx, "Health", call, func() ([]byte, error) { h = d.health; return nil, nil })
	return h, err
}

// Encrypt is a method of [keystore.Device].
func (d *Device) Encrypt(ctx context.Context, call keystore.DeviceCall, key string, plaintext, associatedData []byte) ([]byte, error) {
	return d.call(ctx, "Encrypt", call, func() ([]byte, error) {
		k, err := d.key(key, "ENCRYPT")
		if err != nil {
			return nil, err
		}
		return k.aead.Seal(nil, nil, plaintext, associatedData), nil
	})
}

// Decrypt is a method of [keystore.Device].
func (d *Device) Decrypt(ctx context.Context, call keystore.DeviceCall, key string, ciphertext, associatedData []byte) ([]byte, error) {
	return d.call(ctx, "Decrypt", call, func() ([]byte, error) {
		k, err := d.key(key, "DECRYPT")
		if err != nil {
			return nil, err
		}
		plaintext, err := k.aead.Open(nil, nil, ciphertext, associatedData)
		if err != nil {
			return nil, keystore.DeviceBadCiphertext
		}
		return plaintext, nil
	})
}

// key returns a key that can be used. The caller holds d.mu.
func (d *Device) key(name, usage string) (deviceKey, error) {
	k, ok := d.keys[name]
	switch {
	case !ok:
		return k, keystore.DeviceKeyNotFound
	case k.Status != "ENABLED":
		return k, keystore.DeviceKeyDisabled
	case !slices.Contains(k.Usages, usage):
		return k, keystore.DeviceKeyUsage
	}
	return k, nil
}

// CreateKey is a method of [keystore.HSM].
func (d *Device) CreateKey(ctx context.Context, call keystore.DeviceCall) (string, error) {
	name, err := d.call(ctx, "CreateKey", call, func() ([]byte, error) {
		name := fmt.Sprintf("key-%d", d.calls["CreateKey"])
		d.keys[name] = deviceKey{keystore.DeviceKey{Spec: "AES_256", Usages: []string{"ENCRYPT", "DECRYPT"}, Status: "ENABLED"}, newDeviceAEAD()}
		return []byte(name), nil
	})
	return string(name), err
}

// DeleteKey is a method of [keystore.HSM].
func (d *Device) DeleteKey(ctx context.Context, call keystore.DeviceCall, key string) error {
	_, err := d.call(ctx, "DeleteKey", call, func() ([]byte, error) {
		if _, ok := d.keys[key]; !ok {
			return nil, keystore.DeviceKeyNotFound
		}
		delete(d.keys, key)
		return nil, nil
	})
	return err
}

// Random is a method of [keystore.HSM].
func (d *Device) Random(ctx context.Context, call keystore.DeviceCall, n int) ([]byte, error) {
	return d.call(ctx, "Random", call, func() ([]byte, error) {
		random := make([]byte, n)
		rand.Read(random)
		return random, nil
	})
}

// DescribeKey is a method of [keystore.ExternalKeyManager].
func (d *Device) DescribeKey(ctx context.Context, call keystore.DeviceCall, key string) (described keystore.DeviceKey, err error) {
	_, err = d.call(ctx, "DescribeKey", call, func() ([]byte, error) {
		k, ok := d.keys[key]
		if !ok {
			return nil, keystore.DeviceKeyNotFound
		}
		described = k.DeviceKey
		described.Usages = slices.Clone(k.Usages)
		return nil, nil
	})
	return described, err
}

func newDeviceAEAD() cipher.AEAD {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // of a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // of another cipher than AES
	}
	return aead
}

// Connect connects a custom key store of the account and Region of s, and waits until the attempt
// is over. It returns why the attempt failed, or "". Its calls are neither recorded nor do faults
// apply to them.
func (s *Service) Connect(id string) kms.ConnectionErrorCodeType {
	s.t.Helper()
	ctx := internalContext()
	if _, err := s.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id}); err != nil {
		s.t.Fatalf("kmstest: %v", err)
	}
	for {
		out, err := s.DescribeCustomKeyStores(ctx, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
		if err != nil {
			s.t.Fatalf("kmstest: %v", err)
		}
		if e := out.CustomKeyStores[0]; e.ConnectionState != kms.ConnectionStateConnecting {
			return e.ConnectionErrorCode
		}
		time.Sleep(time.Millisecond) // of the wall clock: a device knows no other
	}
}
