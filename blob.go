package kms

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
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

// A blobHeader is the first part of a ciphertext: whose key, which, and which
// of its materials.
type blobHeader [blobHeaderBytes]byte

func newBlobHeader(ref keyRef, materialID *[32]byte) *blobHeader {
	h := new(blobHeader)
	id, multiRegion := packKeyID(ref.id)
	h[0] = blobVersion
	if multiRegion {
		h[1] = blobMultiRegion
	}
	putAccount(h[2:7], ref.account)
	copy(h[7:23], id[:])
	copy(h[23:], materialID[:])
	return h
}

// parseBlob returns the header of a ciphertext; nil if it has none that this
// version can read. That it has says nothing of whether it is authentic.
func parseBlob(b []byte) *blobHeader {
	if len(b) < blobMinBytes || b[0] != blobVersion || b[1]&^blobMultiRegion != 0 {
		return nil
	}
	h := (*blobHeader)(b)
	if accountNumber(h[2:7]) > 999_999_999_999 {
		return nil
	}
	return h
}

// sameKey tells whether both headers name the same key.
func (h *blobHeader) sameKey(other *blobHeader) bool {
	return string(h[:23]) == string(other[:23])
}

func (h *blobHeader) materialID() *[32]byte { return (*[32]byte)(h[23:]) }

// account returns the owner's 12 digits. It spares the allocation where they
// are those of likely.
func (h *blobHeader) account(likely string) string {
	var number [5]byte
	putAccount(number[:], likely)
	if string(number[:]) == string(h[2:7]) {
		return likely
	}
	return fmt.Sprintf("%012d", accountNumber(h[2:7]))
}

// keyID returns the text of the key ID.
func (h *blobHeader) keyID() string {
	return formatKeyID((*[16]byte)(h[7:23]), h[1] == blobMultiRegion)
}

// cacheHash is that of the key's place.
func (h *blobHeader) cacheHash() uint32 {
	return hashKey(byte(accountNumber(h[2:7])%10), uint32(h[20])<<16|uint32(h[21])<<8|uint32(h[22]))
}

// An account's 12 digits fit in 40 bits.
func putAccount(dst []byte, digits string) {
	n := uint64(0)
	for i := range len(digits) {
		n = n*10 + uint64(digits[i]-'0')
	}
	dst[0] = byte(n >> 32)
	binary.BigEndian.PutUint32(dst[1:], uint32(n))
}

func accountNumber(b []byte) uint64 {
	return uint64(b[0])<<32 | uint64(binary.BigEndian.Uint32(b[1:]))
}

// maxContextBytes bounds an encryption context: the most that an external key
// store has to accept as associated data.
const maxContextBytes = 8192

// associatedData returns header and encryption context in the one form that
// every order of the same pairs has: by key, each key and value behind its
// length in two bytes. It is valid until the call's next use of its scratch.
func (c *call) associatedData(header []byte, context map[string]string) ([]byte, error) {
	data := append(c.scratch[:0], header...)
	var few [4]pair
	pairs := few[:0]
	size := 0
	for name, value := range context {
		if size += 4 + len(name) + len(value); size > maxContextBytes {
			return nil, invalid("The encryption context is longer than %d bytes.", maxContextBytes)
		}
		pairs = append(pairs, pair{name, value})
	}
	if len(pairs) == 2 { // the usual number is not worth a call of sort
		if pairs[0].name > pairs[1].name {
			pairs[0], pairs[1] = pairs[1], pairs[0]
		}
	} else {
		slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	}
	for _, p := range pairs {
		data = binary.BigEndian.AppendUint16(data, uint16(len(p.name)))
		data = append(data, p.name...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(p.value)))
		data = append(data, p.value...)
	}
	c.scratch = data
	return data, nil
}

type pair struct{ name, value string }

// admitContext refuses, for a dry run, an encryption context that is too long.
// Calls that act on it find out when they do.
func (c *call) admitContext(dryRun bool, context map[string]string) error {
	if !dryRun {
		return nil
	}
	_, err := c.associatedData(nil, context)
	return err
}
