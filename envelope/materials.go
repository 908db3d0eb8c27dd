package envelope

import (
	"context"
	"fmt"
	"maps"

	"github.com/pocketkms/kms/internal/secret"
)

// A materialsProvider returns what messages are encrypted and decrypted with. The one of a keyring
// asks it for each message; one that caches data keys stands before it.
type materialsProvider interface {
	// forEncryption returns materials for a message of the suite. pairs are those of the caller.
	// length is that of the plaintext, or -1 if it is not known.
	forEncryption(ctx context.Context, s *suite, pairs map[string]string, length int64) (*encryptionMaterials, error)

	// forDecryption returns materials for a message with some encrypted data keys.
	forDecryption(ctx context.Context, s *suite, ec *encryptionContext, keys []encryptedKey) (*decryptionMaterials, error)
}

// encryptionMaterials are what messages are encrypted with. Messages may share them.
type encryptionMaterials struct {
	context *encryptionContext // complete
	dataKey *secret.Bytes
	keys    []encryptedKey
	sign    signer // nil if the suite does not sign
	release func() // called when the message has its cipher; nil destroys the data key
}

func (m *encryptionMaterials) done() { done(m.dataKey, m.release) }

// decryptionMaterials are what a message is decrypted with.
type decryptionMaterials struct {
	dataKey *secret.Bytes
	release func() // as for encryption
}

func (m *decryptionMaterials) done() { done(m.dataKey, m.release) }

func done(dataKey *secret.Bytes, release func()) {
	if release == nil {
		release = dataKey.Destroy
	}
	release()
}

// keyringMaterials are the materials of keyrings: a new data key for each message.
type keyringMaterials []keyring

func (km keyringMaterials) forEncryption(ctx context.Context, s *suite, pairs map[string]string, _ int64) (*encryptionMaterials, error) {
	var m encryptionMaterials
	if s.signs() {
		sign, public, err := newSigner(s.curve)
		if err != nil {
			return nil, fmt.Errorf("envelope: generating a signing key: %w", err)
		}
		pairs = maps.Clone(pairs)
		if pairs == nil {
			pairs = make(map[string]string, 1)
		}
		pairs[publicKeyPair] = public
		m.sign = sign
	}
	ec, err := newContext(pairs)
	if err != nil {
		return nil, err
	}
	dataKey, keys, err := newDataKey(ctx, km, s.keyBytes, ec)
	if err != nil {
		return nil, err
	}
	m.context, m.dataKey, m.keys = ec, secret.New(dataKey), keys
	return &m, nil
}

func (km keyringMaterials) forDecryption(ctx context.Context, s *suite, ec *encryptionContext, keys []encryptedKey) (*decryptionMaterials, error) {
	dataKey, err := decryptDataKey(ctx, km, keys, s.keyBytes, ec)
	if err != nil {
		return nil, err
	}
	return &decryptionMaterials{dataKey: secret.New(dataKey)}, nil
}
