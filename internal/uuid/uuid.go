// Package uuid generates and formats random UUIDs, version 4 of RFC 9562, section 5.4.
package uuid

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// New returns a random UUID.
func New() [16]byte {
	var id [16]byte
	rand.Read(id[:])
	return Of(id)
}

// Of returns b as a UUID: with the bits of the version and the variant set.
func Of(b [16]byte) [16]byte {
	b[6] = b[6]&0x0f | 0x40 // version 4
	b[8] = b[8]&0x3f | 0x80 // the variant of RFC 9562
	return b
}

// Put sets *id to Of the bits of high and low, most significant first. It writes each half at once,
// so that a copy of the whole need not wait for it.
func Put(id *[16]byte, high, low uint64) {
	binary.BigEndian.PutUint64(id[:8], high&^0xf000|0x4000)
	binary.BigEndian.PutUint64(id[8:], low&^(3<<62)|2<<62)
}

// Format returns the text form of a UUID: 36 characters, in lower case.
func Format(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
