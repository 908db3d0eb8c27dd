package kms

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// The ciphertext blob of a symmetric key, in bytes; docs/ciphertext.md has the
// table and a golden vector:
//
//	 1  version, 1
//	 1  flags: bit 0 set for a multi-Region key
//	 5  account that owns the key, a big-endian integer
//	16  key ID
//	32  key material ID
//	24  nonce of XAES-256-GCM
//	 n  ciphertext, as long as the plaintext
//	16  tag
//
// The associated data is the first 55 bytes and the canonical encryption
// context.
const (
	blobVersion     = 1
	blobMultiRegion = 1
	blobHeaderBytes = 1 + 1 + 5 + 16 + 32
	blobNonceBytes  = 24
	blobTagBytes    = 16
	blobMinBytes    = blobHeaderBytes + blobNonceBytes + blobTagBytes
)

// A blob is what the header of a ciphertext says.
type blob struct {
	account     string
	keyID       string
	multiRegion bool
	material    [32]byte
}

// appendBlobHeader appends the header of a ciphertext under m, a material of
// the key at ref.
func appendBlobHeader(dst []byte, ref keyRef, m *material) []byte {
	id, multiRegion := packKeyID(ref.id)
	var flags byte
	if multiRegion {
		flags = blobMultiRegion
	}
	account, _ := strconv.ParseUint(ref.account, 10, 64) // 12 digits
	dst = append(dst, blobVersion, flags)
	dst = append(dst, byte(account>>32))
	dst = binary.BigEndian.AppendUint32(dst, uint32(account))
	dst = append(dst, id[:]...)
	return append(dst, m.packed[:]...)
}

// parseBlob reads a ciphertext's header. That it is well-formed says nothing of
// whether it is authentic.
func parseBlob(b []byte) (blob, bool) {
	if len(b) < blobMinBytes || b[0] != blobVersion || b[1]&^blobMultiRegion != 0 {
		return blob{}, false
	}
	account := uint64(b[2])<<32 | uint64(binary.BigEndian.Uint32(b[3:]))
	if account > 999_999_999_999 {
		return blob{}, false
	}
	var digits [12]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + account%10)
		account /= 10
	}
	h := blob{account: string(digits[:]), multiRegion: b[1] == blobMultiRegion}
	h.keyID = unpackKeyID([16]byte(b[7:23]), h.multiRegion)
	h.material = [32]byte(b[23:blobHeaderBytes])
	return h, true
}

// of tells whether the blob names k as its key.
func (b *blob) of(k *key) bool { return b.keyID == k.ref.id && b.account == k.ref.account }

// maxContextBytes bounds an encryption context: the most that an external key
// store has to accept as associated data.
const maxContextBytes = 8192

// associatedData returns header and encryption context in the one form that
// every order of the same pairs has: by key, each key and value behind its
// length in two bytes. It is valid until the call's next use of its scratch.
func (c *call) associatedData(header []byte, context map[string]string) ([]byte, error) {
	data := append(c.scratch[:0], header...)
	names := c.names[:0]
	size := 0
	for name, value := range context {
		names = append(names, name)
		if size += 4 + len(name) + len(value); size > maxContextBytes {
			return nil, invalid("The encryption context is longer than %d bytes.", maxContextBytes)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		value := context[name]
		data = binary.BigEndian.AppendUint16(data, uint16(len(name)))
		data = append(data, name...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(value)))
		data = append(data, value...)
	}
	clear(names)
	c.scratch, c.names = data, names
	return data, nil
}
