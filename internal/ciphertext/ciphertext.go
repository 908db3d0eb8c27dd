// Package ciphertext has the layout of the ciphertexts of symmetric keys: their header, and the
// associated data that binds header and encryption context to them. docs/ciphertext.md has the
// table and golden vectors.
//
//	 1  version, 1
//	 1  flags: bit 0 is set for a multi-Region key
//	 5  account that owns the key, a big-endian integer
//	16  key ID
//	32  key material ID
//	24  nonce of XAES-256-GCM
//	 n  ciphertext, as long as the plaintext
//	16  tag
//
// In version 2, of the keys of custom key stores, a device has encrypted the last two parts:
//
//	1  version, 2
//	1  flags: none
//	   account, key ID, key material ID and nonce, as in version 1
//	m  what the device made of ciphertext and tag
package ciphertext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/arn"
)

const (
	version         = 1
	deviceVersion   = 2
	flagMultiRegion = 1

	// HeaderBytes is the length of a header.
	HeaderBytes = 1 + 1 + 5 + 16 + 32
	// NonceEnd is the length of what comes before the encrypted part, which a device encrypts again
	// in version 2: the header and the nonce.
	NonceEnd = HeaderBytes + 24
	// TagBytes is the length of the tag.
	TagBytes = 16
	// MinBytes is the length of the shortest ciphertext, of either version: no device makes one
	// shorter.
	MinBytes = NonceEnd + TagBytes

	// MaxDeviceBytes is the length of the longest encrypted part of version 2, and MaxDeviceOverhead
	// how much longer than its plaintext a device may make a ciphertext.
	MaxDeviceBytes    = MaxDevicePlaintext + MaxDeviceOverhead
	MaxDeviceOverhead = 128
	// MaxDevicePlaintext is the longest ciphertext and tag that a device is given to encrypt.
	MaxDevicePlaintext = 4096 + TagBytes
)

// A Header is the first part of a ciphertext. It says which key made it, and with which of the
// key's materials.
type Header [HeaderBytes]byte

// NewHeader returns the header of ciphertexts that a material of a key makes. account and keyID
// must have the form of package arn.
func NewHeader(account, keyID string, materialID *[32]byte) *Header {
	h := new(Header)
	id, multiRegion := arn.PackKeyID(keyID)
	h[0] = version
	if multiRegion {
		h[1] = flagMultiRegion
	}
	putAccount(h[2:7], account)
	copy(h[7:23], id[:])
	copy(h[23:], materialID[:])
	return h
}

// NewDeviceHeader is NewHeader for a key of a custom key store.
func NewDeviceHeader(account, keyID string, materialID *[32]byte) *Header {
	h := NewHeader(account, keyID, materialID)
	h[0] = deviceVersion
	return h
}

// Parse returns the header of a ciphertext, which shares b's memory, or nil if b does not begin
// with one. The header is not authenticated.
func Parse(b []byte) *Header {
	if len(b) < MinBytes || b[1]&^flagMultiRegion != 0 {
		return nil
	}
	if b[0] != version && (b[0] != deviceVersion || b[1] != 0 || len(b) > NonceEnd+MaxDeviceBytes) {
		return nil
	}
	h := (*Header)(b)
	if h.accountNumber() > 999_999_999_999 {
		return nil
	}
	return h
}

// SameKey reports whether both headers name the same key, in the same version: that follows from
// where the key is.
func (h *Header) SameKey(other *Header) bool { return string(h[:23]) == string(other[:23]) }

// InStore reports whether the key is in a custom key store.
func (h *Header) InStore() bool { return h[0] == deviceVersion }

// MaterialID returns the ID of the key material.
func (h *Header) MaterialID() *[32]byte { return (*[32]byte)(h[23:]) }

// Account returns the 12 digits of the account that owns the key. It returns likely itself, without
// allocating, if the account is that.
func (h *Header) Account(likely string) string {
	var number [5]byte
	putAccount(number[:], likely)
	if string(number[:]) == string(h[2:7]) {
		return likely
	}
	return fmt.Sprintf("%012d", h.accountNumber())
}

// AccountEnd returns the last digit of the account as a number.
func (h *Header) AccountEnd() byte { return byte(h.accountNumber() % 10) }

// KeyID returns the text of the key ID.
func (h *Header) KeyID() string {
	return arn.FormatKeyID((*[16]byte)(h[7:23]), h[1] == flagMultiRegion)
}

// KeyIDEnd returns the last 24 bits of the key ID.
func (h *Header) KeyIDEnd() uint32 { return uint32(h[20])<<16 | uint32(h[21])<<8 | uint32(h[22]) }

// The 12 digits of an account fit in 40 bits.
func putAccount(dst []byte, digits string) {
	n := uint64(0)
	for i := range len(digits) {
		n = n*10 + uint64(digits[i]-'0')
	}
	dst[0] = byte(n >> 32)
	binary.BigEndian.PutUint32(dst[1:], uint32(n))
}

func (h *Header) accountNumber() uint64 {
	return uint64(h[2])<<32 | uint64(binary.BigEndian.Uint32(h[3:7]))
}

// MaxContextBytes bounds an encryption context in its canonical form. It is the most that an
// external key store has to accept as associated data.
const MaxContextBytes = 8192

// The reasons why an encryption context has no canonical form. Of several, the first one here
// counts.
var (
	ErrContextTooLong = errors.New("ciphertext: the encryption context is longer than MaxContextBytes")
	ErrContextEmpty   = errors.New("ciphertext: a key or a value of the encryption context is empty")
	ErrContextNotUTF8 = errors.New("ciphertext: the encryption context is not UTF-8")
)

// AppendContext appends the canonical form of an encryption context to dst, the same for every
// order of the pairs: the pairs sorted by key, each key and value after its length in two bytes.
func AppendContext(dst []byte, encryptionContext map[string]string) ([]byte, error) {
	return new(ContextAppender).Append(dst, encryptionContext)
}

// A ContextAppender appends encryption contexts. It remembers the keys of the last one: a program
// uses the same ones in most calls, and looking them up takes half as long as ranging over the map.
// It must not be used concurrently.
type ContextAppender struct {
	keys [4]string // sorted; the first n are keys
	n    int
}

// Append is [AppendContext].
func (a *ContextAppender) Append(dst []byte, encryptionContext map[string]string) ([]byte, error) {
	if appended, ok := a.appendKnown(dst, encryptionContext); ok {
		return appended, nil
	}
	size, empty := 0, false
	pairs := make([]pair, 0, len(a.keys)) // on the stack, unless there are more
	for k, v := range encryptionContext {
		if size += 4 + len(k) + len(v); size > MaxContextBytes {
			return dst, ErrContextTooLong
		}
		empty = empty || k == "" || v == ""
		pairs = append(pairs, pair{k, v})
	}
	if empty {
		return dst, ErrContextEmpty
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	for _, p := range pairs {
		if !utf8.ValidString(p.key) || !utf8.ValidString(p.value) { // no audit event could show it
			return dst, ErrContextNotUTF8
		}
		dst = appendString(appendString(dst, p.key), p.value)
	}
	if a.n = 0; len(pairs) <= len(a.keys) {
		for _, p := range pairs {
			a.keys[a.n] = p.key
			a.n++
		}
	}
	return dst, nil
}

// appendKnown appends a context if it has the keys of the last one and nothing to look closer at.
func (a *ContextAppender) appendKnown(dst []byte, encryptionContext map[string]string) (_ []byte, ok bool) {
	if len(encryptionContext) != a.n {
		return nil, false
	}
	start := len(dst)
	for i := range a.n {
		value := encryptionContext[a.keys[i]]
		if value == "" || len(value) > MaxContextBytes {
			return nil, false
		}
		dst = appendString(appendString(dst, a.keys[i]), value)
	}
	appended := dst[start:]
	return dst, len(appended) <= MaxContextBytes && isASCII(appended) // as all short lengths are, too
}

type pair struct{ key, value string }

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
