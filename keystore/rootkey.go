package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/crypto/argon2"

	"github.com/pocketkms/kms/internal/secret"
)

// A RootKey encrypts the small keyset under which all records of a store are sealed. It is used
// when a store is opened and when its root key is changed; the AEAD that it returned is used when
// the seal is rotated.
//
// [Passphrase], [KeyFile], [Key], [External] and [Ephemeral] return root keys; other packages may
// implement more. An implementation must not reveal its secret to fmt, slog or encoding/json.
type RootKey interface {
	// Kind returns the kind of root key: 1 to 64 printable ASCII characters, stored in the clear. A
	// store can be opened only with the kind of root key that it was sealed under.
	Kind() string

	// Create prepares to seal a store. params, at most 4096 bytes, is what Open needs besides the
	// secret, such as a salt or the name of a key; it is stored in the clear and authenticated by
	// the AEAD.
	Create(ctx context.Context) (params []byte, key tink.AEAD, err error)

	// Open returns the AEAD that Create returned with params. The params may come from a hostile
	// file: implementations must bound the work that they demand. If they do not belong to this
	// root key, the error is ErrRootKey.
	Open(ctx context.Context, params []byte) (tink.AEAD, error)
}

const (
	rootKeyBytes       = 32
	minPassphraseBytes = 8 // of a new store
)

// Argon2id, version 0x13. New stores use the second recommended option of RFC 9106, section 4, for
// the cost and for the sizes of salt and key: about a tenth of a second, and memory that every
// machine has.
const (
	argonPasses = 3
	argonKiB    = 64 * 1024 // KiB
	argonLanes  = 4
	argonSalt   = 16

	// Bounds on what a store may demand of its reader.
	maxArgonPasses = 16
	maxArgonKiB    = 1024 * 1024 // KiB: 1 GiB
	maxArgonLanes  = 64
)

// Passphrase returns a root key derived from a passphrase by Argon2id (RFC 9106) with 64 MiB, 3
// passes, 4 lanes and a random salt of 16 bytes. The passphrase is copied, and used byte for byte,
// without normalization. A store can be created only with a passphrase of at least 8 bytes; a
// shorter one is refused with ErrInvalid, and an empty one with ErrRootKey.
func Passphrase(passphrase []byte) RootKey {
	return &passphraseKey{
		passphrase: secret.New(bytes.Clone(passphrase)),
		passes:     argonPasses, kib: argonKiB, lanes: argonLanes,
	}
}

type passphraseKey struct {
	passphrase  *secret.Bytes
	passes, kib uint32
	lanes       uint8
}

func (*passphraseKey) Kind() string { return "argon2id" }

// Create returns the parameters: passes (4 bytes, big endian), KiB of memory (4), lanes (1), salt
// (16).
func (p *passphraseKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	if n := p.passphrase.Len(); 0 < n && n < minPassphraseBytes {
		return nil, nil, fmt.Errorf("%w: a new passphrase of %d bytes; it must have %d or more", ErrInvalid, n, minPassphraseBytes)
	}
	params := make([]byte, 9+argonSalt)
	binary.BigEndian.PutUint32(params, p.passes)
	binary.BigEndian.PutUint32(params[4:], p.kib)
	params[8] = p.lanes
	rand.Read(params[9:])
	key, err := p.Open(ctx, params)
	return params, key, err
}

func (p *passphraseKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if p.passphrase.Len() == 0 {
		return nil, fmt.Errorf("%w: the passphrase is empty", ErrRootKey)
	}
	if len(params) != 9+argonSalt {
		return nil, fmt.Errorf("%w: header: Argon2id parameters of %d bytes", ErrCorrupt, len(params))
	}
	passes, kib, lanes := binary.BigEndian.Uint32(params), binary.BigEndian.Uint32(params[4:]), params[8]
	if passes < 1 || passes > maxArgonPasses || lanes < 1 || lanes > maxArgonLanes ||
		kib < 8*uint32(lanes) || kib > maxArgonKiB {
		return nil, fmt.Errorf("%w: header: Argon2id with %d passes, %d KiB and %d lanes is out of bounds",
			ErrCorrupt, passes, kib, lanes)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw := argon2.IDKey(p.passphrase.Expose(), params[9:], passes, kib, lanes, rootKeyBytes)
	defer secret.Clear(raw)
	return xaes(raw)
}

// External returns a root key that is kept elsewhere: any tink.AEAD, such as a key of another KMS
// or of an HSM. name identifies the key in 1 to 256 bytes. It is stored in the clear, and a store
// can be opened only with the name that it was sealed with.
func External(name string, key tink.AEAD) RootKey {
	return &externalKey{name, func() tink.AEAD { return key }}
}

type externalKey struct {
	name string
	// A function, because fmt prints the fields of everything else, and the AEAD may hold its key
	// in plain ones. A Format method would not suffice: fmt does not call it for bad verbs.
	key func() tink.AEAD
}

func (*externalKey) Kind() string { return "aead" }

func (e *externalKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	if e.key() == nil || len(e.name) < 1 || len(e.name) > 256 {
		return nil, nil, fmt.Errorf("%w: an external root key needs a name of 1 to 256 bytes and an AEAD", ErrRootKey)
	}
	return []byte(e.name), e.key(), ctx.Err()
}

func (e *externalKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if e.key() == nil || string(params) != e.name {
		return nil, fmt.Errorf("%w: the store is sealed under the external key %q, not %q", ErrRootKey, params, e.name)
	}
	return e.key(), ctx.Err()
}

// Ephemeral returns a new random root key that exists only in memory. [Open] and ChangeRootKey
// accept it only for a backend that is [Volatile], such as that of keystore/memory: a store that
// outlives the process could never be opened again.
func Ephemeral() RootKey {
	raw := make([]byte, rootKeyBytes)
	rand.Read(raw)
	return &ephemeralKey{secret.New(raw)}
}

type ephemeralKey struct{ raw *secret.Bytes }

const ephemeralKind = "ephemeral"

func (*ephemeralKey) Kind() string { return ephemeralKind }

func (k *ephemeralKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	key, err := k.Open(ctx, nil)
	return nil, key, err
}

func (k *ephemeralKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if len(params) != 0 {
		return nil, fmt.Errorf("%w: header: an ephemeral root key has no parameters", ErrCorrupt)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return xaes(k.raw.Expose())
}

// xaes returns XAES-256-GCM with a copy of the 32-byte key. A ciphertext is a nonce of 24 bytes,
// the encrypted bytes, and a tag of 16 bytes.
func xaes(raw []byte) (tink.AEAD, error) {
	params, err1 := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, sealSaltBytes)
	key, err2 := xaesgcm.NewKey(secretdata.NewBytesFromData(raw, insecuresecretdataaccess.Token{}), 0, params)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("keystore: root key: %w", err)
	}
	manager := keyset.NewManager()
	id, err1 := manager.AddKey(key)
	err2 = manager.SetPrimary(id)
	handle, err3 := manager.Handle()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("keystore: root key: %w", err)
	}
	return aead.New(handle)
}
