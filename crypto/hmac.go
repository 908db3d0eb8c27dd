package crypto

import (
	"bytes"
	"fmt"
	"runtime"

	"github.com/tink-crypto/tink-go/v2/mac/subtle"

	"github.com/pocketkms/kms/internal/secret"
)

// hmacMaxKeyBytes is the length of the longest HMAC key that KMS imports, for every hash function.
const hmacMaxKeyBytes = 128

// HMACSHA224 is HMAC (RFC 2104) with SHA-224. Its keys are [MAC]s with tags as long as the hash, 28
// bytes. The material is the key itself: as long as the hash if it is generated, and from there to
// 128 bytes if it is imported. It is erased once the key is destroyed or garbage, and no call uses
// it.
func HMACSHA224() Family { return hmacFamily{"SHA224", 28} }

// HMACSHA256 is the same with SHA-256 and 32 bytes.
func HMACSHA256() Family { return hmacFamily{"SHA256", 32} }

// HMACSHA384 is the same with SHA-384 and 48 bytes.
func HMACSHA384() Family { return hmacFamily{"SHA384", 48} }

// HMACSHA512 is the same with SHA-512 and 64 bytes.
func HMACSHA512() Family { return hmacFamily{"SHA512", 64} }

type hmacFamily struct {
	hash string // Tink's name
	size int    // of hash, tag and shortest key, in bytes
}

func (f hmacFamily) Generate() ([]byte, error) { return randomBytes(f.size), nil }

func (f hmacFamily) Import(material []byte) ([]byte, error) {
	if len(material) < f.size || len(material) > hmacMaxKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes instead of %d to %d", ErrMaterial, len(material), f.size, hmacMaxKeyBytes)
	}
	return bytes.Clone(material), nil
}

func (f hmacFamily) Parse(material []byte) (Key, error) {
	own, err := f.Import(material)
	if err != nil {
		return nil, err
	}
	h := &hmac{key: secret.New(own)}
	if h.mac, err = subtle.NewHMAC(f.hash, h.key.Expose(), uint32(f.size)); err != nil {
		h.key.Destroy()
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	runtime.AddCleanup(h, (*secret.Bytes).Destroy, h.key)
	k := new(hmacKey)
	k.p.Store(h)
	return k, nil
}

type hmacKey struct{ handle[hmac] }

var _ MAC = (*hmacKey)(nil)

func (k *hmacKey) ComputeMAC(data []byte) ([]byte, error) {
	h, err := k.get()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(h)
	return h.mac.ComputeMAC(data)
}

func (k *hmacKey) VerifyMAC(mac, data []byte) error {
	h, err := k.get()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(h)
	if h.mac.VerifyMAC(mac, data) != nil {
		return ErrVerify
	}
	return nil
}

// hmac holds the key, and Tink's MAC that reads it in place. The key is erased when the hmac is
// unreachable, so a call that uses mac keeps the hmac alive.
type hmac struct {
	mac *subtle.HMAC
	key *secret.Bytes
}
