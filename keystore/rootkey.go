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

// A RootKey seals the one small keyset under which all records of a store are sealed. It is used when a store is opened, when
// its root key is changed, and through the AEAD that it gave, when the seal is rotated.
//
// [Passphrase], [KeyFile], [AEAD] and [Ephemeral] make one; anyone may implement it. An implementation must not show its
// secret to fmt, slog or encoding/json.
type RootKey interface {
	// Kind names the kind of root key: 1 to 64 printable ASCII characters, written to the store in the clear. A store is
	// opened only with the kind that sealed it.
	Kind() string

	// Create prepares to seal a store. params, at most 4096 bytes, is what Open needs besides the secret (a salt, the
	// name of a key); it is written to the store in the clear and authenticated under the AEAD.
	Create(ctx context.Context) (params []byte, key tink.AEAD, err error)

	// Open gives the AEAD that Create gave along with params. These may come from a hostile file: implementations bound
	// the work that they ask for. If they do not fit this root key, the error is ErrRootKey.
	Open(ctx context.Context, params []byte) (tink.AEAD, error)
}

const rootKeyBytes = 32

// Argon2id, version 0x13. The cost of new stores is the second choice recommended in RFC 9106, section 4, and so are the sizes
// of salt and key: a tenth of a second or so, and memory that every machine has.
const (
	argonTime    = 3
	argonMemory  = 64 * 1024 // KiB
	argonThreads = 4
	argonSalt    = 16

	// Ceilings for what a store may ask of its reader.
	maxArgonTime    = 16
	maxArgonMemory  = 1024 * 1024 // KiB: 1 GiB
	maxArgonThreads = 64
)

// Passphrase is a root key derived from a passphrase by Argon2id (RFC 9106) with 64 MiB, 3 passes, 4 lanes and a random salt
// of 16 bytes. The passphrase is copied, and not normalised: its bytes are what counts. An empty one is refused with ErrRootKey
// when it is used.
func Passphrase(passphrase []byte) RootKey {
	return &passphraseKey{
		passphrase: secret.New(bytes.Clone(passphrase)),
		time:       argonTime, memory: argonMemory, threads: argonThreads,
	}
}

type passphraseKey struct {
	passphrase   *secret.Bytes
	time, memory uint32
	threads      uint8
}

func (*passphraseKey) Kind() string { return "argon2id" }

// Create gives the parameters: time (4 bytes, big endian), memory in KiB (4), threads (1), salt (16).
func (k *passphraseKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	params := make([]byte, 9+argonSalt)
	binary.BigEndian.PutUint32(params, k.time)
	binary.BigEndian.PutUint32(params[4:], k.memory)
	params[8] = k.threads
	rand.Read(params[9:])
	key, err := k.Open(ctx, params)
	return params, key, err
}

func (k *passphraseKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if k.passphrase.Len() == 0 {
		return nil, fmt.Errorf("%w: the passphrase is empty", ErrRootKey)
	}
	if len(params) != 9+argonSalt {
		return nil, fmt.Errorf("%w: header: Argon2id parameters of %d bytes", ErrCorrupt, len(params))
	}
	time, memory, threads := binary.BigEndian.Uint32(params), binary.BigEndian.Uint32(params[4:]), params[8]
	if time < 1 || time > maxArgonTime || threads < 1 || threads > maxArgonThreads ||
		memory < 8*uint32(threads) || memory > maxArgonMemory {
		return nil, fmt.Errorf("%w: header: Argon2id with %d passes, %d KiB and %d lanes is out of bounds", ErrCorrupt, time, memory, threads)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw := argon2.IDKey(k.passphrase.Expose(), params[9:], time, memory, threads, rootKeyBytes)
	defer secret.Clear(raw)
	return xaes(raw)
}

// AEAD is a root key that lives elsewhere: any tink.AEAD, such as one of another KMS or of an HSM. name says which key it is,
// in 1 to 256 bytes; it is stored in the clear, and a store is opened only with the name that it was sealed with.
func AEAD(name string, key tink.AEAD) RootKey {
	return &aeadKey{name, func() tink.AEAD { return key }}
}

type aeadKey struct {
	name string
	// A function, because fmt looks into all else, and the AEAD may hold its key in plain fields. A Format method would not
	// do: fmt passes it by for verbs that it thinks misplaced.
	key func() tink.AEAD
}

func (*aeadKey) Kind() string { return "aead" }

func (k *aeadKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	if k.key() == nil || len(k.name) < 1 || len(k.name) > 256 {
		return nil, nil, fmt.Errorf("%w: an AEAD root key needs a name of 1 to 256 bytes and an AEAD", ErrRootKey)
	}
	return []byte(k.name), k.key(), ctx.Err()
}

func (k *aeadKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if k.key() == nil || string(params) != k.name {
		return nil, fmt.Errorf("%w: the store is sealed under the AEAD %q, given is %q", ErrRootKey, params, k.name)
	}
	return k.key(), ctx.Err()
}

// Ephemeral is a random root key that exists only in this value: for stores in memory, and for tests.
func Ephemeral() RootKey {
	raw := make([]byte, rootKeyBytes)
	rand.Read(raw)
	return &ephemeralKey{secret.New(raw)}
}

type ephemeralKey struct{ raw *secret.Bytes }

func (*ephemeralKey) Kind() string { return "ephemeral" }

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

// xaes is XAES-256-GCM under a key of 32 bytes, which is copied: 24 bytes of nonce, ciphertext, 16 bytes of tag.
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
