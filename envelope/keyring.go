package envelope

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/pocketkms/kms/internal/secret"
)

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

// A keyring has one wrapping key, or finds it through the encrypted data key. Data keys that its
// methods return belong to the caller.
type keyring interface {
	// check returns what is wrong with the keyring.
	check() error
	// can reports whether the keyring encrypts and decrypts data keys.
	can() (encrypt, decrypt bool)
	// generate returns a new data key of some bytes, in the clear and encrypted.
	generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error)
	// encrypt returns the data key encrypted.
	encrypt(ctx context.Context, dataKey []byte, ec *encryptionContext) (encryptedKey, error)
	// matches reports whether the keyring may be able to decrypt a data key.
	matches(key *encryptedKey) bool
	// decrypt returns a data key that matches. Its length is not checked.
	decrypt(ctx context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error)
}

// An encryptedKey is a data key, encrypted with one wrapping key. Every field has at most 65,535
// bytes.
type encryptedKey struct {
	provider   string // the kind of keyring: providerKMS, or the namespace of a raw key
	info       string // which key: its ARN, or what a raw keyring stores
	ciphertext []byte
}

// Multi returns a keyring that encrypts data keys with each of several, so that each of them
// decrypts the message by itself. The generator generates data keys. Encrypting fails if one of
// them fails; decrypting tries them in their order.
func Multi(generator Keyring, others ...Keyring) Keyring {
	var m multi
	for _, k := range append([]Keyring{generator}, others...) {
		m = append(m, flatten(k)...)
	}
	return m
}

type multi []keyring

func (m multi) keyrings() []keyring { return m }

// flatten returns the keyrings of k; one that check refuses if k is nil.
func flatten(k Keyring) []keyring {
	if k == nil {
		return []keyring{(*rawAES)(nil)}
	}
	return k.keyrings()
}

// checkKeyrings returns the keyrings of k if they are valid. To encrypt, all of them must be able
// to; to decrypt, one.
func checkKeyrings(k Keyring, encrypting bool) ([]keyring, error) {
	list := flatten(k)
	decrypts := false
	seen := make(map[string]bool)
	for _, one := range list {
		if err := one.check(); err != nil {
			return nil, err
		}
		e, d := one.can()
		if encrypting && !e {
			return nil, errors.New("envelope: a keyring cannot encrypt")
		}
		decrypts = decrypts || d
		// Two replicas of one multi-Region key would protect a message no better than one.
		if kk, ok := one.(*kmsKey); ok && encrypting {
			id := multiRegionID(kk.keyID)
			if id != "" && seen[id] {
				return nil, errors.New("envelope: two keyrings have the same multi-Region key")
			}
			seen[id] = true
		}
	}
	if !encrypting && !decrypts {
		return nil, errors.New("envelope: no keyring can decrypt")
	}
	return list, nil
}

// newDataKey returns a new data key, in the clear and encrypted by every keyring.
func newDataKey(ctx context.Context, list []keyring, size int, ec *encryptionContext) ([]byte, []encryptedKey, error) {
	dataKey, key, err := list[0].generate(ctx, size, ec)
	defer func() {
		if err != nil {
			secret.Clear(dataKey)
		}
	}()
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: generating a data key: %w", err)
	}
	if len(dataKey) != size {
		err = errors.New("envelope: the KMS generated a data key of another length")
		return nil, nil, err
	}
	keys := append(make([]encryptedKey, 0, len(list)), key)
	for _, k := range list[1:] {
		if key, err = k.encrypt(ctx, dataKey, ec); err != nil {
			return nil, nil, fmt.Errorf("envelope: encrypting the data key: %w", err)
		}
		keys = append(keys, key)
	}
	return dataKey, keys, nil
}

// decryptDataKey returns the data key that the first keyring decrypts. Its errors do not say which
// of the encrypted keys were tried.
func decryptDataKey(ctx context.Context, list []keyring, keys []encryptedKey, size int, ec *encryptionContext) ([]byte, error) {
	var failed []error
	for _, k := range list {
		for i := range keys {
			if !k.matches(&keys[i]) {
				continue
			}
			dataKey, err := k.decrypt(ctx, &keys[i], ec)
			if err == nil && len(dataKey) == size {
				return dataKey, nil
			}
			if err == nil {
				secret.Clear(dataKey)
				err = errUnwrap
			}
			if ctx.Err() != nil {
				return nil, err
			}
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil, ErrNoKey
	}
	return nil, fmt.Errorf("%w: %w", ErrNoKey, errors.Join(failed...))
}

// errUnwrap is the error of every data key that a raw keyring cannot decrypt, whatever the reason.
var errUnwrap = errors.New("envelope: the data key is of another wrapping key or encryption context")

// checkName refuses strings that do not fit into the header.
func checkName(what, s string) error {
	if s == "" || len(s) > math.MaxUint16/2 {
		return fmt.Errorf("envelope: a keyring's %s must have 1 to %d bytes", what, math.MaxUint16/2)
	}
	return nil
}
