package envelope

import "context"

// A Keyring encrypts and decrypts data keys. [KMSKey], [KMSDiscovery], [RawAES], [RawRSA] and
// [RawRSAPublic] return one; [Multi] combines several.
//
// Constructors of keyrings do not fail: [NewEncrypter] and [NewDecrypter] return what is wrong with
// a keyring. A Keyring is immutable and may be used concurrently.
type Keyring interface {
	// keyrings returns the keyrings that this one consists of, first the one that generates data
	// keys.
	keyrings() []keyring
}

// A keyring holds one wrapping key, or finds it through the encrypted data key.
type keyring interface {
	// check returns what is wrong with the configuration.
	check() error
	// can reports whether the keyring can encrypt and decrypt data keys.
	can() (encrypt, decrypt bool)
	// generate returns a new data key of size bytes, in the clear and encrypted.
	generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error)
	// encrypt returns the data key encrypted.
	encrypt(ctx context.Context, dataKey []byte, ec *encryptionContext) (encryptedKey, error)
	// matches reports whether the keyring can try to decrypt the data key.
	matches(key *encryptedKey) bool
	// decrypt returns a data key that matches, of size bytes.
	decrypt(ctx context.Context, key *encryptedKey, size int, ec *encryptionContext) ([]byte, error)
}

// An encryptedKey is the data key of a message, encrypted under one wrapping key.
type encryptedKey struct {
	provider   string // the kind of keyring: providerKMS, or the namespace of a raw key
	info       string // which key: its ARN, or what a raw keyring stores
	ciphertext []byte
}

// Multi returns a keyring that encrypts the data key under every one of keyrings, so that any one of
// them decrypts the message. The generator generates data keys; encrypting fails if any keyring
// fails. To decrypt, the keyrings are tried in their order.
func Multi(generator Keyring, others ...Keyring) Keyring { panic("skeleton") }
