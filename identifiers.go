package kms

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/pocketkms/kms/internal/uuid"
)

// An arn is the six parts of an Amazon Resource Name.
type arn struct {
	partition, service, region, account, resource string
}

// parseARN splits s; it does not allocate. It checks the form that all ARNs
// have, not whether what they name can exist.
func parseARN(s string) (arn, bool) {
	rest, ok := strings.CutPrefix(s, "arn:")
	if !ok {
		return arn{}, false
	}
	var a arn
	for _, part := range [...]*string{&a.partition, &a.service, &a.region, &a.account} {
		if *part, rest, ok = strings.Cut(rest, ":"); !ok {
			return arn{}, false
		}
	}
	a.resource = rest
	return a, a.partition != "" && a.service != "" && a.resource != ""
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isName tells whether s can name a Region or a partition. It keeps what goes
// into record keys and ARNs free of their separators.
func isName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

const (
	aliasPrefix         = "alias/"
	reservedAliasPrefix = "alias/aws/"
	multiRegionPrefix   = "mrk-"
)

// A keyIdentifier is what a caller sent as KeyId, taken apart. An account and
// a Region are there only if it was an ARN.
type keyIdentifier struct {
	account, region string
	keyID           string // of a key ID or key ARN
	alias           string // of an alias name or alias ARN, with its prefix "alias/"
}

// parseKeyIdentifier takes s apart in the API's four forms. Its errors are the
// API's.
func parseKeyIdentifier(s, partition string) (keyIdentifier, *Error) {
	if strings.HasPrefix(s, "arn:") {
		a, ok := parseARN(s)
		if !ok || a.service != "kms" || a.partition != partition || !isName(a.region) || !isAccount(a.account) {
			return keyIdentifier{}, exception(InvalidArnException, "Invalid arn %s", s)
		}
		id := keyIdentifier{account: a.account, region: a.region}
		if keyID, ok := strings.CutPrefix(a.resource, "key/"); ok {
			if !isKeyID(keyID) {
				return keyIdentifier{}, exception(NotFoundException, "Invalid keyId '%s'", keyID)
			}
			id.keyID = keyID
			return id, nil
		}
		if !isAliasName(a.resource) {
			return keyIdentifier{}, exception(InvalidArnException, "Invalid arn %s", s)
		}
		id.alias = a.resource
		return id, nil
	}
	if isAliasName(s) {
		return keyIdentifier{alias: s}, nil
	}
	if !isKeyID(s) {
		return keyIdentifier{}, exception(NotFoundException, "Invalid keyId '%s'", s)
	}
	return keyIdentifier{keyID: s}, nil
}

// isAliasName tells whether s is "alias/" and a name of the characters that
// the API takes in one.
func isAliasName(s string) bool {
	name, ok := strings.CutPrefix(s, aliasPrefix)
	if !ok || name == "" || len(s) > 256 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '/' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// isKeyID tells whether s has the form of a key ID: a lower-case UUID, or
// "mrk-" and 32 lower-case hexadecimal digits.
func isKeyID(s string) bool {
	if digits, ok := strings.CutPrefix(s, multiRegionPrefix); ok {
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

// newKeyID draws a key ID.
func newKeyID(multiRegion bool) string {
	var id [16]byte
	rand.Read(id[:])
	if multiRegion {
		return multiRegionPrefix + hex.EncodeToString(id[:])
	}
	return uuid.Format(uuid.Of(id))
}

// packKeyID returns the 16 bytes of a key ID and whether it is a multi-Region
// key's; it is the inverse of formatKeyID.
func packKeyID(id string) (packed [16]byte, multiRegion bool) {
	digits, multiRegion := strings.CutPrefix(id, multiRegionPrefix)
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

// formatKeyID returns the text of a key ID.
func formatKeyID(packed *[16]byte, multiRegion bool) string {
	if multiRegion {
		return multiRegionPrefix + hex.EncodeToString(packed[:])
	}
	return uuid.Format(*packed)
}
