package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
)

// A key file is one line of text: this prefix, the 32 bytes of the key as 64 lower-case hexadecimal
// digits, and a line feed.
const keyFilePrefix = "pocketkms-root-key-1:"

const keyFileBytes = len(keyFilePrefix) + 2*rootKeyBytes + 1

// CreateKeyFile writes a new random root key to a new file of mode 0600, for [KeyFile]. It returns
// fs.ErrExist if the file exists. Keep a copy in a safe place: without it the store is lost.
func CreateKeyFile(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keystore: key file: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
			err = fmt.Errorf("keystore: key file: %w", err)
		}
	}()
	raw := make([]byte, rootKeyBytes)
	defer secret.Clear(raw)
	rand.Read(raw)
	line := make([]byte, 0, keyFileBytes)
	line = append(hex.AppendEncode(append(line, keyFilePrefix...), raw), '\n')
	defer secret.Clear(line)
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return securefile.SyncDir(filepath.Dir(path))
}

// KeyFile returns the root key in a file that [CreateKeyFile] created. The file is read each time
// the root key is used. It must be a regular file of mode 0600 or less that belongs to the current
// user or to root, or of mode 0444 or less that belongs to root, as containers mount secrets;
// otherwise the error is ErrPermissions. On systems without Unix permissions only the type of the
// file is checked.
func KeyFile(path string) RootKey { return keyFile(path) }

type keyFile string

const keyFileKind = "keyfile"

func (keyFile) Kind() string { return keyFileKind }

func (f keyFile) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	key, err := f.Open(ctx, nil)
	return nil, key, err
}

func (f keyFile) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if err := checkKeyFileParams(ctx, params); err != nil {
		return nil, err
	}
	line, err := securefile.ReadPrivate(string(f), keyFileBytes)
	switch {
	case errors.Is(err, securefile.ErrUnsafe):
		return nil, fmt.Errorf("%w: %w", ErrPermissions, err)
	case err != nil && !errors.Is(err, securefile.ErrTooLong): // then line is empty, and not a key
		return nil, fmt.Errorf("keystore: key file: %w", err)
	}
	defer secret.Clear(line)
	digits, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte(keyFilePrefix))
	raw, err := hex.AppendDecode(nil, digits)
	defer secret.Clear(raw)
	if !ok || err != nil || len(raw) != rootKeyBytes { // the text of err would show a digit of the key
		return nil, fmt.Errorf("%w: %s is not a key file", ErrRootKey, string(f))
	}
	return xaes(raw)
}

// Key returns the root key with the given 32 bytes, which must be random, such as those from a
// secret manager. The bytes are copied. A store that was sealed under a key file can also be opened
// with the 32 bytes in it, and the other way around. Any other number of bytes is refused with
// ErrInvalid when the root key is used.
func Key(raw []byte) RootKey { return &rawKey{secret.New(bytes.Clone(raw))} }

type rawKey struct{ raw *secret.Bytes }

func (*rawKey) Kind() string { return keyFileKind }

func (k *rawKey) Create(ctx context.Context) ([]byte, tink.AEAD, error) {
	key, err := k.Open(ctx, nil)
	return nil, key, err
}

func (k *rawKey) Open(ctx context.Context, params []byte) (tink.AEAD, error) {
	if err := checkKeyFileParams(ctx, params); err != nil {
		return nil, err
	}
	if n := k.raw.Len(); n != rootKeyBytes {
		return nil, fmt.Errorf("%w: a root key of %d bytes; it must have %d", ErrInvalid, n, rootKeyBytes)
	}
	return xaes(k.raw.Expose())
}

func checkKeyFileParams(ctx context.Context, params []byte) error {
	if len(params) != 0 {
		return fmt.Errorf("%w: header: a key file has no parameters", ErrCorrupt)
	}
	return ctx.Err()
}
