package envelope

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A cursor reads a message that is in memory, after its header.
type cursor struct {
	message []byte
	off     int
}

// take returns the next n bytes.
func (c *cursor) take(n int) ([]byte, error) {
	if n > len(c.message)-c.off {
		c.off = len(c.message)
		return nil, ErrTruncated
	}
	c.off += n
	return c.message[c.off-n : c.off : c.off], nil
}

// openFrames returns the plaintext of a framed body. If it fails, it also returns what it has, for
// the caller to clear.
func (m *incoming) openFrames(c *cursor) (plaintext []byte, err error) {
	length := int64(m.header.frameLength)
	remaining := int64(len(c.message) - c.off)
	// Each frame has an overhead, so this is more than the plaintext, by a little.
	plaintext = make([]byte, 0, max(remaining-finalOverhead-(remaining-finalOverhead)/(length+frameOverhead)*frameOverhead, 0))
	for sequence := uint32(1); ; sequence++ {
		prefix, err := c.take(4)
		if err != nil {
			return plaintext, err
		}
		mark := binary.BigEndian.Uint32(prefix)
		if mark == finalMark {
			return m.openFinalFrame(c, plaintext, sequence)
		}
		if err := checkSequence(mark, sequence); err != nil {
			return plaintext, err
		}
		if remaining := int64(len(c.message) - c.off); remaining < length+ivBytes+tagBytes {
			return plaintext, ErrTruncated
		}
		iv, _ := c.take(ivBytes)
		encrypted, _ := c.take(int(length) + tagBytes)
		opened, err := m.frames.open(plaintext, sequence, iv, encrypted)
		if err != nil {
			return plaintext, err
		}
		plaintext = opened
	}
}

// checkSequence refuses a regular frame that is not the next one.
func checkSequence(got, want uint32) error {
	if got != want {
		return fmt.Errorf("%w: frame %d where %d belongs", ErrAltered, got, want)
	}
	return nil
}

func (m *incoming) openFinalFrame(c *cursor, plaintext []byte, sequence uint32) ([]byte, error) {
	fields, err := c.take(4 + ivBytes + 4)
	if err != nil {
		return plaintext, err
	}
	length, err := m.finalLength(fields, sequence)
	if err != nil {
		return plaintext, err
	}
	encrypted, err := c.takeLong(int64(length))
	if err != nil {
		return plaintext, err
	}
	opened, err := m.frames.openSingle(plaintext, sequence, fields[4:4+ivBytes], encrypted)
	if err != nil {
		return plaintext, err
	}
	return opened, nil
}

// finalLength returns the length of the plaintext of a final frame. fields are its sequence number,
// IV and length.
func (m *incoming) finalLength(fields []byte, sequence uint32) (uint32, error) {
	if got := binary.BigEndian.Uint32(fields); got != sequence {
		return 0, fmt.Errorf("%w: final frame %d where %d belongs", ErrAltered, got, sequence)
	}
	length := binary.BigEndian.Uint32(fields[4+ivBytes:])
	if length > m.header.frameLength {
		return 0, fmt.Errorf("%w: its final frame is longer than a frame", ErrAltered)
	}
	return length, nil
}

// takeLong returns the next length bytes and a tag.
func (c *cursor) takeLong(length int64) ([]byte, error) {
	if length > math.MaxInt-tagBytes {
		return nil, ErrTruncated
	}
	return c.take(int(length) + tagBytes)
}

// openUnframed returns the plaintext of a body that is not framed.
func (m *incoming) openUnframed(c *cursor) ([]byte, error) {
	fields, err := c.take(unframedBytes)
	if err != nil {
		return nil, err
	}
	length, err := unframedLength(fields)
	if err != nil {
		return nil, err
	}
	encrypted, err := c.takeLong(length)
	if err != nil {
		return nil, err
	}
	return m.frames.openSingle(nil, 1, fields[:ivBytes], encrypted)
}

// unframedLength returns the length of the plaintext of a body that is not framed. fields are its IV
// and length.
func unframedLength(fields []byte) (int64, error) {
	length := binary.BigEndian.Uint64(fields[ivBytes:])
	if length > maxUnframed {
		return 0, fmt.Errorf("%w: a body of %d bytes", ErrAltered, length)
	}
	return int64(length), nil
}

// openFooter verifies the signature.
func (m *incoming) openFooter(c *cursor) error {
	prefix, err := c.take(2)
	if err != nil {
		return err
	}
	signature, err := c.take(int(binary.BigEndian.Uint16(prefix)))
	if err != nil {
		return err
	}
	return m.transcript.verify(m.verify, signature)
}
