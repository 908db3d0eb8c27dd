package envelope

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	labelUnframed = "AWSKMSEncryptionClient Single Block"
	labelFrame    = "AWSKMSEncryptionClient Frame"
	labelFinal    = "AWSKMSEncryptionClient Final Frame"

	frameOverhead = 4 + ivBytes + tagBytes                             // sequence number, IV, tag
	finalOverhead = 4 + frameOverhead + 4                              // mark before, length within
	finalMark     = math.MaxUint32                                     // in the place of a sequence number
	maxFrames     = math.MaxUint32                                     // of a message, with the final one
	maxUnframed   = 1<<36 - 32                                         // bytes, the most that AES-GCM encrypts
	unframedBytes = ivBytes + 8                                        // before the ciphertext: IV, length
	noIV          = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // of version 2 headers
)

// A frameCipher encrypts and decrypts the frames of one message, without allocations. It may be used
// by one goroutine at a time.
type frameCipher struct {
	// aead returns the cipher. It is a function because printing the cipher would print its key.
	aead   func() cipher.AEAD
	frame  associatedData // of regular frames
	single associatedData // of the final frame, or of the body of an unframed message
	iv     [ivBytes]byte
}

func newFrameCipher(aead cipher.AEAD, messageID []byte, framed bool) *frameCipher {
	label := labelFinal
	if !framed {
		label = labelUnframed
	}
	f := &frameCipher{aead: func() cipher.AEAD { return aead }}
	f.frame.init(messageID, labelFrame)
	f.single.init(messageID, label)
	return f
}

// clone returns a copy for another goroutine.
func (f *frameCipher) clone() *frameCipher {
	c := *f
	return &c
}

// associatedData is what the tag of a frame authenticates with it: message ID, label, sequence
// number and length.
type associatedData struct {
	buf    [32 + len(labelUnframed) + 12]byte
	prefix int // length of message ID and label
}

func (a *associatedData) init(messageID []byte, label string) {
	a.prefix = copy(a.buf[:], messageID)
	a.prefix += copy(a.buf[a.prefix:], label)
}

func (a *associatedData) of(sequence uint32, length int) []byte {
	b := binary.BigEndian.AppendUint32(a.buf[:a.prefix], sequence)
	return binary.BigEndian.AppendUint64(b, uint64(length))
}

// seal appends a regular frame to dst, which does not overlap plaintext.
func (f *frameCipher) seal(dst []byte, sequence uint32, plaintext []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, sequence)
	dst = f.appendIV(dst, sequence)
	return f.aead().Seal(dst, f.iv[:], plaintext, f.frame.of(sequence, len(plaintext)))
}

// sealFinal appends the final frame to dst.
func (f *frameCipher) sealFinal(dst []byte, sequence uint32, plaintext []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, finalMark)
	dst = binary.BigEndian.AppendUint32(dst, sequence)
	dst = f.appendIV(dst, sequence)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(plaintext)))
	return f.aead().Seal(dst, f.iv[:], plaintext, f.single.of(sequence, len(plaintext)))
}

// appendIV appends the IV of a frame: its sequence number, which no other frame of the message has.
// The header's IV is 0.
func (f *frameCipher) appendIV(dst []byte, sequence uint32) []byte {
	binary.BigEndian.PutUint32(f.iv[ivBytes-4:], sequence)
	return append(dst, f.iv[:]...)
}

// open appends to dst the plaintext of a regular frame, of which encrypted is the ciphertext and
// tag.
func (f *frameCipher) open(dst []byte, sequence uint32, iv, encrypted []byte) ([]byte, error) {
	return f.openAs(&f.frame, dst, sequence, iv, encrypted)
}

// openSingle appends to dst the plaintext of the final frame, or of an unframed body, whose sequence
// number is 1.
func (f *frameCipher) openSingle(dst []byte, sequence uint32, iv, encrypted []byte) ([]byte, error) {
	return f.openAs(&f.single, dst, sequence, iv, encrypted)
}

func (f *frameCipher) openAs(ad *associatedData, dst []byte, sequence uint32, iv, encrypted []byte) ([]byte, error) {
	out, err := f.aead().Open(dst, iv, encrypted, ad.of(sequence, len(encrypted)-tagBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: the tag of frame %d does not verify", ErrAltered, sequence)
	}
	return out, nil
}
