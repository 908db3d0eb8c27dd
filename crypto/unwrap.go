package crypto

import (
	"strings"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/pocketkms/kms/internal/secret"
)

// Unwrap decrypts key material that was encrypted to the public key of k by a wrapping algorithm,
// as KMS spells it. RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256 and SM2PKE are the algorithms of the same
// names. RSA_AES_KEY_WRAP_SHA_1 and _SHA_256 take an AES-256 key, encrypted by RSAES_OAEP with that
// hash function, and then the material, wrapped with the AES key by AES-KWP (RFC 5649): it is
// CKM_RSA_AES_KEY_WRAP of PKCS #11.
//
// Unwrap returns ErrAlgorithm if k does not have the algorithm, and ErrDecrypt for everything that
// was not encrypted to k by it. The caller owns the material, and erases it.
func Unwrap(k DecryptionKey, algorithm string, wrapped []byte) ([]byte, error) {
	hash, ok := strings.CutPrefix(algorithm, "RSA_AES_KEY_WRAP_")
	if !ok {
		return k.Decrypt(algorithm, wrapped)
	}
	outer, ok := k.(*rsaDecryptionKey)
	if !ok {
		return nil, ErrAlgorithm
	}
	private, _, err := outer.use("RSAES_OAEP_" + hash)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < private.Size() {
		return nil, ErrDecrypt
	}
	key, err := outer.Decrypt("RSAES_OAEP_"+hash, wrapped[:private.Size()])
	if err != nil {
		return nil, err
	}
	defer secret.Clear(key)
	if len(key) != 32 { // Tink takes AES-128, too
		return nil, ErrDecrypt
	}
	aes, err := subtle.NewKWP(key)
	if err != nil {
		return nil, err
	}
	material, err := aes.Unwrap(wrapped[private.Size():])
	if err != nil {
		return nil, ErrDecrypt
	}
	return material, nil
}
