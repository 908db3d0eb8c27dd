package envelope

import (
	"context"
	"crypto/ecdsa"

	"github.com/pocketkms/kms/internal/secret"
)

// A materialsProvider returns what messages are encrypted and decrypted with. The one of a keyring
// asks it for each message; one that caches data keys can stand before it.
type materialsProvider interface {
	// forEncryption returns materials for a message of the suite. length is that of its plaintext,
	// or -1 if it is not known. pairs are those of the caller.
	forEncryption(ctx context.Context, s *suite, pairs map[string]string, length int64) (*encryptionMaterials, error)

	// forDecryption returns materials for a message with these encrypted data keys.
	forDecryption(ctx context.Context, s *suite, ec *encryptionContext, keys []encryptedKey) (*decryptionMaterials, error)
}

// encryptionMaterials are what messages are encrypted with. Several messages may share them.
type encryptionMaterials struct {
	context    *encryptionContext // complete
	dataKey    *secret.Bytes
	keys       []encryptedKey
	signingKey *ecdsa.PrivateKey // nil if the suite does not sign
	release    func()            // called when the data key is no longer used; nil destroys it
}

// decryptionMaterials are what a message is decrypted with.
type decryptionMaterials struct {
	dataKey *secret.Bytes
	release func()
}
