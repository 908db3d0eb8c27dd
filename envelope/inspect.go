package envelope

import (
	"errors"
	"io"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
)

// A MessageInfo is what a message says about itself. Nothing of it is authenticated: whoever could
// write the message chose it.
type MessageInfo struct {
	// Suite is the algorithm suite, and Version that of the message format, 1 or 2.
	Suite   Suite
	Version int

	// EncryptionContext has the stored pairs, without the reserved one of signatures. There may be
	// others that are authenticated but not stored.
	EncryptionContext map[string]string

	// EncryptedDataKeys are the data key, encrypted with each wrapping key. There is at least one.
	EncryptedDataKeys []EncryptedDataKey

	// FrameLength is the number of plaintext bytes in a frame, 0 if the message has no frames.
	FrameLength int64

	// HeaderLength is the number of bytes before the body of the message.
	HeaderLength int
}

// An EncryptedDataKey is a data key, encrypted with one wrapping key.
type EncryptedDataKey struct {
	// Provider is "aws-kms" for a key of a KMS, or the namespace of a raw key.
	Provider string

	// ProviderInfo is the ARN of the KMS key, or begins with the name of the raw key; a [RawAES]
	// keyring stores 20 bytes after it.
	ProviderInfo string

	// KeyMaterialID is the ID of the key material that encrypted, 64 hexadecimal digits, if a
	// [kms.Service] did with a key that is not in a custom key store; else it is empty. After a
	// rotation of the key, [kms.KeyMetadata].CurrentKeyMaterialId is another one.
	KeyMaterialID string

	// Ciphertext is the encrypted data key.
	Ciphertext []byte
}

// Inspect reads the header of the message in src, and nothing that follows it. It needs no key, and
// verifies nothing. It refuses more encrypted data keys than the limit, up to 65,535, with
// [ErrLimit]; a limit of 0 means 10. Each can take 192 KiB of memory.
func Inspect(src io.Reader, maxEncryptedDataKeys int) (*MessageInfo, error) {
	if src == nil {
		return nil, errors.New("envelope: Inspect with a nil io.Reader")
	}
	limit, err := checkMaxKeys(maxEncryptedDataKeys)
	if err != nil {
		return nil, err
	}
	h, err := scanHeader(&scanner{src: src}, limit)
	if err != nil {
		return nil, err
	}
	info := &MessageInfo{
		Suite:             h.suite.id,
		Version:           int(h.suite.version),
		EncryptionContext: callerPairs(h.pairs),
		FrameLength:       int64(h.frameLength),
		HeaderLength:      h.length(),
	}
	for i := range h.keys {
		k := &h.keys[i]
		info.EncryptedDataKeys = append(info.EncryptedDataKeys, EncryptedDataKey{
			Provider: k.provider, ProviderInfo: k.info, KeyMaterialID: keyMaterialID(k), Ciphertext: k.ciphertext,
		})
	}
	return info, nil
}

// keyMaterialID returns the key material that a data key's ciphertext names, if its key is the one
// that the message names.
func keyMaterialID(k *encryptedKey) string {
	named, ok := parseKeyARN(k.info)
	if !ok || k.provider != providerKMS {
		return ""
	}
	c, err := kms.InspectCiphertext(k.ciphertext)
	if err != nil || arn.Key(c.Account, named.Region, c.KeyId) != k.info {
		return ""
	}
	return c.KeyMaterialId
}
