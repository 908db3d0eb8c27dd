package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/prf/subtle"

	"github.com/pocketkms/kms/internal/secret"
)

const (
	xaesKeyBytes   = 32
	xaesSaltBytes  = 12 // first half of the nonce, N[:12] of the specification
	xaesNonceBytes = 24
	xaesTagBytes   = 16

	// xaesMaxPlaintext is AES-GCM's own limit (NIST SP 800-38D, section 5.2.1.1): 2^39 - 256 bits.
	xaesMaxPlaintext = (1<<32 - 2) * aes.BlockSize

	// xaesMaxMessages is how many messages a salt is used for. The probability that two of them get
	// the same 96 random bits is then 2^-49.
	xaesMaxMessages = 1 << 24

	// xaesMaxAge is how long a salt is used. Safety rests on the count, not on the age; and reading
	// the clock takes half as long as an encryption, so only every xaesClockStride-th message does.
	xaesMaxAge      = time.Hour
	xaesClockStride = 64

	// xaesOpenedKeys bounds the derived keys cached for decryption, at about 1.3 kB each.
	xaesOpenedKeys = 16
)

// XAES256GCM is the family of SYMMETRIC_DEFAULT: XAES-256-GCM (https://c2sp.org/XAES-256-GCM). Its
// material is 32 bytes. Its keys are [AEAD]s; a ciphertext is nonce (24 bytes) ‖ encrypted
// plaintext ‖ tag (16 bytes), and a plaintext has up to 2^36 - 32 bytes.
//
// The first 12 bytes of a nonce are its salt, from which the AES-256-GCM key for the other 12 is
// derived. A key draws a random salt, and replaces it after 2^24 messages or about an hour by the
// clock (nil means time.Now). In between, a message takes only 12 new random bytes and no
// derivation, so encryption is as fast as AES-GCM.
func XAES256GCM(clock func() time.Time) Family {
	if clock == nil {
		clock = time.Now
	}
	return xaesFamily{clock}
}

type xaesFamily struct{ clock func() time.Time }

func (xaesFamily) Generate() ([]byte, error) { return randomBytes(xaesKeyBytes), nil }

func (xaesFamily) Import(material []byte) ([]byte, error) {
	if len(material) != xaesKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrMaterial, len(material), xaesKeyBytes)
	}
	return bytes.Clone(material), nil
}

func (f xaesFamily) Parse(material []byte) (Key, error) {
	own, err := f.Import(material)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(own)
	prf, err := subtle.NewAESCMACPRF(own)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	k := new(xaesKey)
	k.p.Store(&xaes{prf: prf, clock: f.clock})
	return k, nil
}

type xaesKey struct{ handle[xaes] }

var _ AEAD = (*xaesKey)(nil)

func (k *xaesKey) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return k.Seal(nil, plaintext, associatedData)
}

func (k *xaesKey) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return k.Open(nil, ciphertext, associatedData)
}

func (k *xaesKey) Seal(dst, plaintext, associatedData []byte) ([]byte, error) {
	x, err := k.get()
	if err != nil {
		return nil, err
	}
	if uint64(len(plaintext)) > xaesMaxPlaintext {
		return nil, ErrLength
	}
	s, err := x.reserve()
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst, xaesNonceBytes+len(plaintext)+xaesTagBytes)
	dst = append(dst, s.salt[:]...)
	// Seal draws the second half of the nonce, and puts it before the ciphertext.
	return s.gcm.Seal(dst, nil, plaintext, associatedData), nil
}

func (k *xaesKey) Open(dst, ciphertext, associatedData []byte) ([]byte, error) {
	x, err := k.get()
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < xaesNonceBytes+xaesTagBytes {
		return nil, ErrDecrypt
	}
	salt := [xaesSaltBytes]byte(ciphertext)
	slot := &x.opened[salt[0]%xaesOpenedKeys]
	d := slot.Load()
	cached := d != nil && d.salt == salt
	if !cached {
		if d, err = x.derive(salt); err != nil {
			return nil, err
		}
	}
	plaintext, err := d.gcm.Open(dst, nil, ciphertext[xaesSaltBytes:], associatedData)
	if err != nil {
		return nil, ErrDecrypt
	}
	if !cached {
		slot.Store(d) // only now: a forgery must not evict a key in use
	}
	return plaintext, nil
}

// xaes holds what is derived from the key. It has no locks.
type xaes struct {
	prf     *subtle.AESCMACPRF
	clock   func() time.Time
	sealing atomic.Pointer[sealingKey]                 // nil before the first message
	opened  [xaesOpenedKeys]atomic.Pointer[derivedKey] // by the salt's first byte
}

// derivedKey is AES-256-GCM for one salt. The AEAD draws its own 12-byte nonces, and puts them
// before the ciphertext.
type derivedKey struct {
	salt [xaesSaltBytes]byte
	gcm  cipher.AEAD
}

type sealingKey struct {
	*derivedKey
	since    time.Time
	messages atomic.Uint64 // reserved so far
}

// reserve returns a derived key for sealing one message. It replaces the current key if that is
// used up. If several calls find it used up at once, one of them replaces it, and the others use
// the replacement.
func (x *xaes) reserve() (*sealingKey, error) {
	for {
		s := x.sealing.Load()
		if s != nil && s.reserve(x.clock) {
			return s, nil
		}
		since := x.clock()
		d, err := x.derive([xaesSaltBytes]byte(randomBytes(xaesSaltBytes)))
		if err != nil {
			return nil, err
		}
		x.sealing.CompareAndSwap(s, &sealingKey{derivedKey: d, since: since})
	}
}

func (s *sealingKey) reserve(clock func() time.Time) bool {
	n := s.messages.Add(1)
	if n > xaesMaxMessages {
		return false
	}
	if n%xaesClockStride != 0 {
		return true
	}
	age := clock().Sub(s.since)
	return 0 <= age && age < xaesMaxAge // negative if the clock was set back
}

func (x *xaes) derive(salt [xaesSaltBytes]byte) (*derivedKey, error) {
	key, err := x.deriveBytes(salt)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &derivedKey{salt, gcm}, nil
}

// deriveBytes is the KDF in counter mode with CMAC of NIST SP 800-108 revision 1, with the inputs
// of the XAES specification: two blocks of a 16-bit counter, the label "X", a zero byte and the
// salt.
func (x *xaes) deriveBytes(salt [xaesSaltBytes]byte) ([]byte, error) {
	key := make([]byte, 0, xaesKeyBytes)
	for _, counter := range []byte{1, 2} {
		input := append([]byte{0, counter, 'X', 0}, salt[:]...)
		half, err := x.prf.ComputePRF(input, aes.BlockSize)
		if err != nil {
			return nil, err
		}
		key = append(key, half...)
		secret.Clear(half)
	}
	return key, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the program if there is no randomness
	return b
}
