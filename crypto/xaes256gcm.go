package crypto

import (
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

	// A salt serves so many messages at most. Their 96 random bits each then collide with probability 2^-49.
	xaesMaxMessages = 1 << 24

	// A salt serves so long. This is hygiene, where the count is safety; so the clock, whose reading costs half as
	// much as an encryption, is looked at only with every xaesClockStride-th message.
	xaesMaxAge      = time.Hour
	xaesClockStride = 64

	// xaesOpenedKeys bounds the derived keys remembered for decryption, at about 1.3 kB each.
	xaesOpenedKeys = 16
)

// XAES256GCM is the family behind SYMMETRIC_DEFAULT: XAES-256-GCM (https://c2sp.org/XAES-256-GCM). Its material is 32
// bytes, its keys are [AEAD]s whose ciphertext is nonce (24 bytes) ‖ encrypted plaintext ‖ tag (16 bytes), and a
// plaintext may have up to 2^36 - 32 bytes.
//
// The first 12 bytes of a nonce, its salt, choose the AES-256-GCM key that the other 12 are used with. A key draws a
// salt at random, and anew after 2^24 messages or about an hour of the given clock (nil means time.Now). In between it
// needs no derivation, only 12 new random bytes for each message, and so runs as fast as AES-GCM.
func XAES256GCM(clock func() time.Time) Family {
	if clock == nil {
		clock = time.Now
	}
	return xaesFamily{clock}
}

type xaesFamily struct{ clock func() time.Time }

func (xaesFamily) Generate() ([]byte, error) { return randomBytes(xaesKeyBytes), nil }

func (f xaesFamily) Parse(material []byte) (Key, error) {
	if len(material) != xaesKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrMaterial, len(material), xaesKeyBytes)
	}
	prf, err := subtle.NewAESCMACPRF(material)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	k := new(xaesKey)
	k.p.Store(&xaes{prf: prf, clock: f.clock})
	return k, nil
}

type xaesKey struct{ held[xaes] }

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
		return nil, ErrTooLong
	}
	s, err := x.reserve()
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst, xaesNonceBytes+len(plaintext)+xaesTagBytes)
	dst = append(dst, s.salt[:]...)
	return s.gcm.Seal(dst, nil, plaintext, associatedData), nil // draws the nonce's second half itself, and puts it in front
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
	known := d != nil && d.salt == salt
	if !known {
		if d, err = x.derive(salt); err != nil {
			return nil, err
		}
	}
	plaintext, err := d.gcm.Open(dst, nil, ciphertext[xaesSaltBytes:], associatedData)
	if err != nil {
		return nil, ErrDecrypt
	}
	if !known {
		slot.Store(d) // not before it has opened something: forgeries must not push out keys in use
	}
	return plaintext, nil
}

// xaes is the material at work. Nothing in it is locked.
type xaes struct {
	prf     *subtle.AESCMACPRF
	clock   func() time.Time
	sealing atomic.Pointer[sealingKey]                 // nil before the first message
	opened  [xaesOpenedKeys]atomic.Pointer[derivedKey] // by the salt's first byte
}

// derivedKey is AES-256-GCM for one salt. The AEAD draws its 12-byte nonces itself and puts them before the ciphertext.
type derivedKey struct {
	salt [xaesSaltBytes]byte
	gcm  cipher.AEAD
}

type sealingKey struct {
	*derivedKey
	since    time.Time
	messages atomic.Uint64 // reserved so far
}

// reserve returns a derived key with leave to seal one message, and replaces the present one when it is spent.
// Of those who find it spent together, one gets to replace it; the others take what that one left.
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
	return 0 <= age && age < xaesMaxAge // a clock set back also ends the salt's time: its age is unknown
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

// deriveBytes is NIST SP 800-108r1's KDF in counter mode with CMAC, as the specification fixes its inputs:
// two blocks of a 16-bit counter, the label "X", a zero byte and the salt.
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
	rand.Read(b) // never fails: without randomness the program ends
	return b
}
