package arn

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/pocketkms/kms/internal/uuid"
)

// MultiRegionPrefix begins the IDs of multi-Region keys.
const MultiRegionPrefix = "mrk-"

// IsKeyID reports whether s has the form of a key ID: a lower-case UUID, or [MultiRegionPrefix]
// and 32 lower-case hexadecimal digits.
func IsKeyID(s string) bool {
	if digits, ok := strings.CutPrefix(s, MultiRegionPrefix); ok {
		return len(digits) == 32 && isHex(digits)
	}
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// NewKeyID returns a random key ID.
func NewKeyID(multiRegion bool) string {
	var id [16]byte
	rand.Read(id[:])
	if !multiRegion {
		id = uuid.Of(id)
	}
	return FormatKeyID(&id, multiRegion)
}

// PackKeyID returns the 16 bytes of a key ID, and whether it is that of a multi-Region key. It is
// the inverse of [FormatKeyID].
func PackKeyID(id string) (packed [16]byte, multiRegion bool) {
	digits, multiRegion := strings.CutPrefix(id, MultiRegionPrefix)
	var compact [32]byte
	n := 0
	for i := range len(digits) {
		if digits[i] != '-' && n < len(compact) {
			compact[n] = digits[i]
			n++
		}
	}
	hex.Decode(packed[:], compact[:n])
	return packed, multiRegion
}

// FormatKeyID returns the text of a key ID.
func FormatKeyID(packed *[16]byte, multiRegion bool) string {
	if multiRegion {
		return MultiRegionPrefix + hex.EncodeToString(packed[:])
	}
	return uuid.Format(*packed)
}
