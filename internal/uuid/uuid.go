// Package uuid makes and prints random UUIDs: version 4 of RFC 9562, section 5.4.
package uuid

import (
	"crypto/rand"
	"encoding/hex"
)

// New returns a random UUID.
func New() [16]byte {
	var id [16]byte
	rand.Read(id[:])
	return Of(id)
}

// Of returns the UUID with the random bits of b.
func Of(b [16]byte) [16]byte {
	b[6] = b[6]&0x0f | 0x40 // the version ...
	b[8] = b[8]&0x3f | 0x80 // ... and its variant
	return b
}

// Format returns the text of a UUID, 36 characters in lower case.
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
