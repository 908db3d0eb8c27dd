package keystore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// The header is the one record that a Store keeps for itself. Keys that begin with a zero byte are
// reserved for the Store.
const (
	reservedPrefix = "\x00"
	headerKey      = reservedPrefix + "header"
)

const (
	headerMagic   = "PKKS"
	headerVersion = 1

	maxKindBytes         = 64
	maxParamsBytes       = 4096
	maxSealedKeysetBytes = 1 << 16
)

// A header is the decoded header record; docs/store.md specifies its encoding.
type header struct {
	storeID [16]byte
	kind    string // of the root key
	params  []byte // of the root key
	sealed  []byte // the serialized Tink keyset, encrypted under the root key
}

// associatedData returns the associated data of the sealed keyset: a label, and the header up to
// the keyset.
func (h *header) associatedData() []byte {
	return h.appendPrefix([]byte("pocketkms keystore header 1\n"))
}

func (h *header) appendPrefix(b []byte) []byte {
	b = append(b, headerMagic...)
	b = append(b, headerVersion)
	b = append(b, h.storeID[:]...)
	b = append(b, byte(len(h.kind)))
	b = append(b, h.kind...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.params)))
	return append(b, h.params...)
}

func (h *header) encode() []byte {
	b := h.appendPrefix(nil)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.sealed)))
	b = append(b, h.sealed...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeHeader returns ErrCorrupt or ErrNewerVersion. The checksum, at the same place in all
// versions, distinguishes damage from a newer version, and from a wrong root key before its costly
// derivation. What protects against forgery is the AEAD.
func decodeHeader(b []byte) (*header, error) {
	if len(b) < len(headerMagic)+1+sha256.Size || string(b[:len(headerMagic)]) != headerMagic {
		return nil, fmt.Errorf("%w: header: not a header", ErrCorrupt)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); subtle.ConstantTimeCompare(sum, want[:]) != 1 {
		return nil, fmt.Errorf("%w: header: wrong checksum", ErrCorrupt)
	}
	if version := body[len(headerMagic)]; version != headerVersion {
		return nil, fmt.Errorf("%w: the header has version %d; this program supports %d",
			ErrNewerVersion, version, headerVersion)
	}
	rest, ok := body[len(headerMagic)+1:], true
	take := func(n, most int) []byte {
		if !ok || n > most || n > len(rest) {
			ok = false
			return make([]byte, 4)
		}
		field := rest[:n:n]
		rest = rest[n:]
		return field
	}
	h := new(header)
	copy(h.storeID[:], take(len(h.storeID), len(h.storeID)))
	h.kind = string(take(int(take(1, 1)[0]), maxKindBytes))
	h.params = bytes.Clone(take(int(binary.BigEndian.Uint16(take(2, 2))), maxParamsBytes))
	h.sealed = bytes.Clone(take(int(binary.BigEndian.Uint32(take(4, 4))), maxSealedKeysetBytes))
	if !ok || len(rest) != 0 || !validKind(h.kind) {
		return nil, fmt.Errorf("%w: header: malformed", ErrCorrupt)
	}
	return h, nil
}

func validKind(kind string) bool {
	for i := range len(kind) {
		if kind[i] < 0x20 || kind[i] > 0x7e {
			return false
		}
	}
	return len(kind) >= 1 && len(kind) <= maxKindBytes
}

// newHeader returns a header without its sealed keyset, and the AEAD that seals the keyset.
func newHeader(ctx context.Context, storeID [16]byte, root RootKey) (*header, tink.AEAD, error) {
	if root == nil {
		return nil, nil, errNoRootKey
	}
	params, key, err := root.Create(ctx)
	if err != nil {
		return nil, nil, err
	}
	h := &header{storeID: storeID, kind: root.Kind(), params: bytes.Clone(params)}
	if !validKind(h.kind) || len(params) > maxParamsBytes || key == nil {
		return nil, nil, fmt.Errorf("%w: the root key of kind %q returned no AEAD, or %d bytes of parameters; at most %d are allowed",
			ErrInvalid, h.kind, len(params), maxParamsBytes)
	}
	return h, key, nil
}

var errNoRootKey = fmt.Errorf("%w: no root key", ErrInvalid)

// unsealRoot returns the AEAD under which the keyset of a header is sealed.
func unsealRoot(ctx context.Context, h *header, root RootKey) (tink.AEAD, error) {
	if root == nil {
		return nil, errNoRootKey
	}
	if root.Kind() != h.kind {
		return nil, fmt.Errorf("%w: the store is sealed under one of kind %q, not %q", ErrRootKey, h.kind, root.Kind())
	}
	key, err := root.Open(ctx, bytes.Clone(h.params))
	if err == nil && key == nil {
		err = fmt.Errorf("%w: no AEAD", ErrRootKey)
	}
	return key, err
}

// withKeyset returns the header with a keyset, which it encrypts.
func (h header) withKeyset(root tink.AEAD, plain []byte) (*header, error) {
	sealed, err := root.Encrypt(plain, h.associatedData())
	if err != nil {
		return nil, fmt.Errorf("keystore: the root key cannot encrypt: %w", err)
	}
	if len(sealed) > maxSealedKeysetBytes {
		return nil, fmt.Errorf("%w: the root key encrypted %d bytes to %d; at most %d are allowed",
			ErrInvalid, len(plain), len(sealed), maxSealedKeysetBytes)
	}
	h.sealed = sealed
	return &h, nil
}

// keyset decrypts the keyset. The caller erases it.
func (h *header) keyset(root tink.AEAD) ([]byte, error) {
	plain, err := root.Decrypt(h.sealed, h.associatedData())
	switch {
	case err == nil:
		return plain, nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case h.kind == (*externalKey)(nil).Kind(): // a remote key may fail for other reasons
		return nil, fmt.Errorf("%w, or a forged header: %w", ErrRootKey, err)
	}
	return nil, fmt.Errorf("%w, or a forged header", ErrRootKey)
}
