package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/secret"
)

// A sealed value is a Tink ciphertext of XAES-256-GCM with Tink's prefix: the byte 1, the ID of the
// seal key (4 bytes, big endian), a nonce of 24 bytes, the encrypted bytes, a tag of 16 bytes.
const (
	tinkPrefixBytes   = 5
	sealSaltBytes     = 12 // the part of the nonce that selects the derived key
	sealOverheadBytes = tinkPrefixBytes + sealSaltBytes + 12 + 16
)

// A seal is the decrypted content of one revision of the header. It is immutable.
type seal struct {
	revision Revision // of the header record
	header   *header
	root     tink.AEAD
	handle   *keyset.Handle
	records  tink.AEAD
	primary  uint32
	ids      []uint32 // of all seal keys
}

func newSeal(revision Revision, h *header, root tink.AEAD, handle *keyset.Handle) (*seal, error) {
	s := &seal{revision: revision, header: h, root: root, handle: handle}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("keystore: seal keys: %w", err)
		}
		s.ids = append(s.ids, entry.KeyID())
		if entry.IsPrimary() {
			s.primary = entry.KeyID()
		}
	}
	var err error
	if s.records, err = aead.New(handle); err != nil {
		return nil, fmt.Errorf("keystore: seal keys: %w", err)
	}
	return s, nil
}

// openSeal decrypts the keyset of a header.
func openSeal(revision Revision, h *header, root tink.AEAD) (*seal, error) {
	plain, err := h.keyset(root)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(plain)
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plain)))
	if err != nil {
		return nil, fmt.Errorf("%w: header: not a keyset", ErrCorrupt)
	}
	return newSeal(revision, h, root, handle)
}

// encodeKeyset encrypts a keyset for a header.
func encodeKeyset(h *header, root tink.AEAD, handle *keyset.Handle) (*header, error) {
	var plain bytes.Buffer
	defer func() { secret.Clear(plain.Bytes()) }()
	plain.Grow(4096) // so that growth leaves no copies behind
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&plain)); err != nil {
		return nil, fmt.Errorf("keystore: seal keys: %w", err)
	}
	return h.withKeyset(root, plain.Bytes())
}

// addSealKey returns a keyset with a new primary key and the keys of old, which may be nil.
func addSealKey(old *keyset.Handle) (*keyset.Handle, error) {
	manager := keyset.NewManager()
	if old != nil {
		manager = keyset.NewManagerFromHandle(old)
	}
	params, err1 := xaesgcm.NewParameters(xaesgcm.VariantTink, sealSaltBytes)
	id, err2 := manager.AddNewKeyFromParameters(params)
	err3 := manager.SetPrimary(id)
	handle, err4 := manager.Handle()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("keystore: new seal key: %w", err)
	}
	return handle, nil
}

// primaryOnly returns the keyset with only its primary key.
func (sl *seal) primaryOnly() (*keyset.Handle, error) {
	manager := keyset.NewManagerFromHandle(sl.handle)
	for _, id := range sl.ids {
		if id != sl.primary {
			if err := manager.Delete(id); err != nil {
				return nil, fmt.Errorf("keystore: old seal key: %w", err)
			}
		}
	}
	return manager.Handle()
}

// associatedData returns the associated data of a record: a label, the ID of the store, and the
// record's key.
func (sl *seal) associatedData(key string) []byte {
	const domain = "pocketkms keystore record 1\n"
	b := make([]byte, 0, len(domain)+len(sl.header.storeID)+4+len(key))
	b = append(b, domain...)
	b = append(b, sl.header.storeID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	return append(b, key...)
}

// sealValue encrypts the value of a record and binds it to the record's key.
func (sl *seal) sealValue(key string, plain []byte) ([]byte, error) {
	sealed, err := sl.records.Encrypt(plain, sl.associatedData(key))
	if err != nil {
		return nil, fmt.Errorf("keystore: sealing record %q: %w", key, err)
	}
	return sealed, nil
}

// openRecord decrypts the value of a record in place. If that fails, keyKnown reports whether the
// seal has the key that the value names; if not, a newer header may have it.
func (sl *seal) openRecord(r *Record) (keyKnown bool, err error) {
	if len(r.Value) < sealOverheadBytes || r.Value[0] != 1 {
		return true, &RecordError{r.Key, ErrCorrupt}
	}
	if !slices.Contains(sl.ids, keyID(r.Value)) {
		return false, &RecordError{r.Key, fmt.Errorf("%w: unknown seal key %08x", ErrCorrupt, keyID(r.Value))}
	}
	plain, err := sl.records.Decrypt(r.Value, sl.associatedData(r.Key))
	if err != nil {
		return true, &RecordError{r.Key, ErrCorrupt}
	}
	r.Value = plain
	return true, nil
}

// keyID returns the ID of the seal key that a value of at least sealOverheadBytes names.
func keyID(sealed []byte) uint32 { return binary.BigEndian.Uint32(sealed[1:]) }
