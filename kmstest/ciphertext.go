package kmstest

import (
	"encoding/hex"
	"fmt"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/uuid"
)

// keyOfCiphertext returns the ARN of the key that a ciphertext claims to be of, as docs/ciphertext.md lays it out: a version,
// flags, the account in 5 bytes and the key ID in 16. It is empty if blob is no ciphertext of a symmetric key.
func keyOfCiphertext(on *kms.Service, blob []byte) string {
	if len(blob) < 23 || blob[0] != 1 {
		return ""
	}
	account := uint64(0)
	for _, b := range blob[2:7] {
		account = account<<8 | uint64(b)
	}
	id := uuid.Format([16]byte(blob[7:23]))
	if blob[1] == 1 {
		id = "mrk-" + hex.EncodeToString(blob[7:23])
	}
	return keyARN(on.Caller().Partition(), on.Region(), fmt.Sprintf("%012d", account), id)
}
