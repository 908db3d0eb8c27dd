package kms

import (
	"encoding/hex"

	"github.com/pocketkms/kms/internal/ciphertext"
)

// A CiphertextInfo is what a ciphertext of a symmetric key says about itself.
type CiphertextInfo struct {
	// Account owns the key: 12 digits.
	Account string

	// KeyId is the key ID. The Region is that of the [Service] which made the ciphertext, or of any
	// replica of a multi-Region key.
	KeyId string

	// KeyMaterialId is the ID of the key material that encrypted, 64 hexadecimal digits. What
	// rotation has left behind has another one than [KeyMetadata].CurrentKeyMaterialId. It is empty
	// for keys in custom key stores.
	KeyMaterialId string
}

// InspectCiphertext returns what a ciphertext of [Service.Encrypt], ReEncrypt or GenerateDataKey says
// about itself, without a key: nothing of it is authenticated before Decrypt has succeeded. The
// error is [ErrNotCiphertext] if it is not a ciphertext of a symmetric key of this service.
func InspectCiphertext(ciphertextBlob []byte) (*CiphertextInfo, error) {
	h := ciphertext.Parse(ciphertextBlob)
	if h == nil {
		return nil, ErrNotCiphertext
	}
	info := &CiphertextInfo{Account: h.Account("000000000000"), KeyId: h.KeyID()}
	if !h.InStore() {
		info.KeyMaterialId = hex.EncodeToString(h.MaterialID()[:])
	}
	return info, nil
}
