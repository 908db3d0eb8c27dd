package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	typeCustomerData = 0x80 // the only type of a version 1 message
	contentUnframed  = 1
	contentFramed    = 2

	commitmentBytes = 32
	maxKeys         = math.MaxUint16 // of a message
)

// A header is the beginning of a message: the body of the header, and what authenticates it.
type header struct {
	body        []byte // as it is in the message
	suite       *suite
	messageID   []byte
	pairs       map[string]string // stored
	keys        []encryptedKey
	framed      bool
	frameLength uint32
	commitment  []byte // version 2

	auth []byte // the IV (version 1) and the tag, as they are in the message
}

// length returns the length of the header in the message.
func (h *header) length() int { return len(h.body) + len(h.auth) }

// encode sets body from the other fields. context is the encoding of the stored pairs.
func (h *header) encode(context []byte) error {
	size := 128 + len(context)
	for i := range h.keys {
		size += 6 + len(h.keys[i].provider) + len(h.keys[i].info) + len(h.keys[i].ciphertext)
	}
	b := append(make([]byte, 0, size), h.suite.version)
	if h.suite.version == 1 {
		b = append(b, typeCustomerData)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(h.suite.id))
	b = append(b, h.messageID...)
	b = appendString(b, context)
	b, err := appendKeys(b, h.keys)
	if err != nil {
		return err
	}
	content := byte(contentUnframed)
	if h.framed {
		content = contentFramed
	}
	b = append(b, content)
	if h.suite.version == 1 {
		b = append(b, 0, 0, 0, 0, ivBytes)
	}
	b = binary.BigEndian.AppendUint32(b, h.frameLength)
	h.body = append(b, h.commitment...)
	return nil
}

// appendKeys appends the encrypted data keys after their number.
func appendKeys(b []byte, keys []encryptedKey) ([]byte, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("envelope: %d encrypted data keys", len(keys))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(keys)))
	for i := range keys {
		k := &keys[i]
		if max(len(k.provider), len(k.info), len(k.ciphertext)) > math.MaxUint16 {
			return nil, errors.New("envelope: an encrypted data key is too long")
		}
		b = appendString(appendString(appendString(b, k.provider), k.info), k.ciphertext)
	}
	return b, nil
}

// A scanner reads a header, field by field. Memory grows only as bytes arrive.
type scanner struct {
	src io.Reader // nil if all of the message is in buf
	buf []byte    // what was read, or the message
	off int       // what was scanned
}

// take returns the next n bytes, at most 65,535. They are not changed afterwards.
func (s *scanner) take(n int) ([]byte, error) {
	if missing := s.off + n - len(s.buf); missing > 0 {
		if s.src == nil {
			return nil, ErrTruncated
		}
		s.buf = slices.Grow(s.buf, missing)
		got, err := io.ReadFull(s.src, s.buf[len(s.buf):len(s.buf)+missing])
		s.buf = s.buf[:len(s.buf)+got]
		if err != nil {
			return nil, readError(err)
		}
	}
	s.off += n
	return s.buf[s.off-n : s.off : s.off], nil
}

// readError returns ErrTruncated for the end of the input, and else the error of the caller's
// reader.
func readError(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return fmt.Errorf("envelope: reading the message: %w", err)
}

func (s *scanner) uint16() (int, error) {
	b, err := s.take(2)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint16(b)), nil
}

// field returns a field that follows its length.
func (s *scanner) field() ([]byte, error) {
	n, err := s.uint16()
	if err != nil {
		return nil, err
	}
	return s.take(n)
}

// expect refuses the next bytes if they are others.
func (s *scanner) expect(what string, want ...byte) error {
	b, err := s.take(len(want))
	if err == nil && !bytes.Equal(b, want) {
		err = fmt.Errorf("%w: its %s is wrong", ErrAltered, what)
	}
	return err
}

// scanHeader reads a header. It refuses more than limit encrypted data keys before it reads them.
// Nothing that it returns is authenticated yet.
func scanHeader(s *scanner, limit int) (*header, error) {
	h := new(header)
	if err := h.scanSuite(s); err != nil {
		return nil, err
	}
	id, err := s.take(h.suite.messageIDBytes())
	if err != nil {
		return nil, err
	}
	h.messageID = id
	context, err := s.field()
	if err != nil {
		return nil, err
	}
	if h.pairs, err = decodeContext(context); err != nil {
		return nil, err
	}
	if err := h.scanKeys(s, limit); err != nil {
		return nil, err
	}
	if err := h.scanContent(s); err != nil {
		return nil, err
	}
	h.body = s.buf[:s.off:s.off]
	auth := tagBytes
	if h.suite.version == 1 {
		auth += ivBytes
	}
	h.auth, err = s.take(auth)
	return h, err
}

// scanSuite reads what precedes the message ID.
func (h *header) scanSuite(s *scanner) error {
	b, err := s.take(1)
	if err != nil {
		return err
	}
	version := b[0]
	switch version {
	case 1:
		if b, err = s.take(1); err != nil {
			return err
		}
		if b[0] != typeCustomerData {
			return fmt.Errorf("%w: type %#02x", ErrNotMessage, b[0])
		}
	case 2:
	case 'A': // what base64 makes of 1 and 2
		return fmt.Errorf("%w: it may be base64 text, to be decoded first", ErrNotMessage)
	default:
		return fmt.Errorf("%w: version %d", ErrNotMessage, version)
	}
	id, err := s.uint16()
	if err != nil {
		return err
	}
	if h.suite = findSuite(Suite(id)); h.suite == nil || h.suite.version != version {
		return fmt.Errorf("%w: version %d with algorithm suite %#04x", ErrNotMessage, version, id)
	}
	return nil
}

func (h *header) scanKeys(s *scanner, limit int) error {
	count, err := s.uint16()
	if err != nil {
		return err
	}
	if count == 0 {
		return fmt.Errorf("%w: it has no data key", ErrAltered)
	}
	if count > limit {
		return fmt.Errorf("%w: the message has %d encrypted data keys, more than MaxEncryptedDataKeys, %d", ErrLimit, count, limit)
	}
	for range count {
		var fields [3][]byte
		for i := range fields {
			if fields[i], err = s.field(); err != nil {
				return err
			}
		}
		h.keys = append(h.keys, encryptedKey{provider: string(fields[0]), info: string(fields[1]), ciphertext: fields[2]})
	}
	return nil
}

// scanContent reads what follows the encrypted data keys.
func (h *header) scanContent(s *scanner) error {
	content, err := s.take(1)
	if err != nil {
		return err
	}
	if content[0] != contentFramed && content[0] != contentUnframed {
		return fmt.Errorf("%w: content type %d", ErrAltered, content[0])
	}
	h.framed = content[0] == contentFramed
	if h.suite.version == 1 {
		if err := s.expect("reserved field", 0, 0, 0, 0); err != nil {
			return err
		}
		if err := s.expect("IV length", ivBytes); err != nil {
			return err
		}
	}
	length, err := s.take(4)
	if err != nil {
		return err
	}
	h.frameLength = binary.BigEndian.Uint32(length)
	if h.framed != (h.frameLength > 0) {
		return fmt.Errorf("%w: frame length %d", ErrAltered, h.frameLength)
	}
	if h.suite.commits() {
		h.commitment, err = s.take(commitmentBytes)
	}
	return err
}
