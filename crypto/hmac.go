package crypto

import (
	"bytes"
	"fmt"
	"runtime"

	"github.com/tink-crypto/tink-go/v2/mac/subtle"

	"github.com/pocketkms/kms/internal/secret"
)

// hmacMaxKeyBytes is the longest HMAC key that KMS imports, whatever the hash.
const hmacMaxKeyBytes = 128

// The HMAC families (RFC 2104), by their hash function. Their keys are [MAC]s with tags as long as the hash: 28, 32, 48 or
// 64 bytes. The material is the key itself: as many bytes as the hash has when generated here, up to 128 when it
// comes from elsewhere. It is erased once the key is destroyed, or garbage, and no call uses it any more.
func HMACSHA224() Family { return hmacFamily{"SHA224", 28} }

// HMACSHA256 is HMAC with SHA-256; see [HMACSHA224].
func HMACSHA256() Family { return hmacFamily{"SHA256", 32} }

// HMACSHA384 is HMAC with SHA-384; see [HMACSHA224].
func HMACSHA384() Family { return hmacFamily{"SHA384", 48} }

// HMACSHA512 is HMAC with SHA-512; see [HMACSHA224].
func HMACSHA512() Family { return hmacFamily{"SHA512", 64} }

type hmacFamily struct {
	hash string // Tink's name
	size int    // of hash, tag and shortest key, in bytes
}

func (f hmacFamily) Generate() ([]byte, error) { return randomBytes(f.size), nil }

func (f hmacFamily) Parse(material []byte) (Key, error) {
	if len(material) < f.size || len(material) > hmacMaxKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes instead of %d to %d", ErrMaterial, len(material), f.size, hmacMaxKeyBytes)
	}
	h := &hmac{key: secret.New(bytes.Clone(material))}
	var err error
	if h.mac, err = subtle.NewHMAC(f.hash, h.key.Expose(), uint32(f.size)); err != nil {
		h.key.Destroy()
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	runtime.AddCleanup(h, (*secret.Bytes).Destroy, h.key)
	k := new(hmacKey)
	k.p.Store(h)
	return k, nil
}

type hmacKey struct{ held[hmac] }

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

// hmac is the material at work. As mac reads key in place, the two are erased only when no one can reach them: whoever
// uses mac keeps the hmac alive.
type hmac struct {
	mac *subtle.HMAC
	key *secret.Bytes
}
