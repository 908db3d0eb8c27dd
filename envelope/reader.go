package envelope

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pocketkms/kms/internal/secret"
)

// A Reader decrypts a stream. It may be used by one goroutine at a time.
type Reader struct {
	src      io.Reader
	message  *incoming
	maxFrame int64
	sequence uint32 // of the next frame
	buf      []byte // of a frame, that is decrypted in place
	plain    []byte // in buf, what has not been returned
	err      error  // what follows plain
}

// NewReader returns a Reader of the message in src. It reads and authenticates the beginning of the
// message, and asks the keyring for the data key; ctx is for that only. Each pair of
// encryptionContext must be the message's.
//
// Nothing may follow the message in src.
func (d *Decrypter) NewReader(ctx context.Context, src io.Reader, encryptionContext map[string]string) (*Reader, error) {
	if src == nil {
		return nil, errors.New("envelope: NewReader with a nil io.Reader")
	}
	m, err := d.begin(ctx, &scanner{src: src}, encryptionContext)
	if err != nil {
		return nil, err
	}
	if err := d.checkFrameLength(m.header); err != nil {
		return nil, err
	}
	m.transcript.write(m.header.body)
	m.transcript.write(m.header.auth)
	return &Reader{src: src, message: m, maxFrame: d.maxFrame, sequence: 1}, nil
}

func (d *Decrypter) checkFrameLength(h *header) error {
	if int64(h.frameLength) > d.maxFrame {
		return fmt.Errorf("%w: frames of %d bytes, more than MaxFrameLength, %d", ErrLimit, h.frameLength, d.maxFrame)
	}
	return nil
}

// EncryptionContext returns the encryption context of the message, which is authenticated: its
// stored pairs and those that were given. Reserved pairs are left out.
func (r *Reader) EncryptionContext() map[string]string { return r.message.callerPairs() }

// Suite returns the algorithm suite of the message.
func (r *Reader) Suite() Suite { return r.message.suite() }

// Read returns plaintext that is authenticated: of a frame after its tag has been verified, of the
// last frame of a signed message after its signature has been. The error is io.EOF only after all
// of the message has been verified. After another error, what was read before is authentic but not
// all of the message.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// WriteTo writes the rest of the plaintext to dst. Its errors are those of Read and of dst.
func (r *Reader) WriteTo(dst io.Writer) (n int64, err error) {
	for {
		if err := r.fill(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		written, err := dst.Write(r.plain)
		if err == nil && written < len(r.plain) {
			err = io.ErrShortWrite
		}
		written = min(max(written, 0), len(r.plain))
		n += int64(written)
		r.plain = r.plain[written:]
		if err != nil {
			return n, err
		}
	}
}

// fill decrypts frames until there is plaintext.
func (r *Reader) fill() error {
	for len(r.plain) == 0 {
		if r.err == nil {
			r.plain, r.err = r.next()
			continue
		}
		r.fail(r.err)
		return r.err
	}
	return nil
}

// fail ends the use of the Reader, and clears what it has of the plaintext.
func (r *Reader) fail(err error) {
	r.err = err
	secret.Clear(r.buf)
	r.plain, r.buf = nil, nil
}

// next returns the plaintext of the next frame. The error is about what follows it, io.EOF at the
// end of the message.
func (r *Reader) next() ([]byte, error) {
	if r.message == nil {
		return nil, errZero
	}
	if !r.message.header.framed {
		return r.unframed()
	}
	var prefix [4]byte
	if err := r.read(prefix[:]); err != nil {
		return nil, err
	}
	mark := binary.BigEndian.Uint32(prefix[:])
	if mark == finalMark {
		return r.finalFrame()
	}
	if err := checkSequence(mark, r.sequence); err != nil {
		return nil, err
	}
	frame, err := r.readLong(ivBytes + int64(r.message.header.frameLength) + tagBytes)
	if err != nil {
		return nil, err
	}
	sequence := r.sequence
	r.sequence++
	return r.message.frames.open(frame[ivBytes:ivBytes], sequence, frame[:ivBytes], frame[ivBytes:])
}

func (r *Reader) finalFrame() ([]byte, error) {
	var fields [4 + ivBytes + 4]byte
	if err := r.read(fields[:]); err != nil {
		return nil, err
	}
	length, err := r.message.finalLength(fields[:], r.sequence)
	if err != nil {
		return nil, err
	}
	return r.last(fields[4:4+ivBytes], int64(length))
}

func (r *Reader) unframed() ([]byte, error) {
	var fields [unframedBytes]byte
	if err := r.read(fields[:]); err != nil {
		return nil, err
	}
	length, err := unframedLength(fields[:])
	if err != nil {
		return nil, err
	}
	if length > r.maxFrame {
		return nil, fmt.Errorf("%w: a message of %d bytes without frames, more than MaxFrameLength, %d", ErrLimit, length, r.maxFrame)
	}
	return r.last(fields[:ivBytes], length)
}

// last returns the plaintext of the last tag of the message, if everything verifies.
func (r *Reader) last(iv []byte, length int64) ([]byte, error) {
	encrypted, err := r.readLong(length + tagBytes)
	if err != nil {
		return nil, err
	}
	plain, err := r.message.frames.openSingle(encrypted[:0], r.sequence, iv, encrypted)
	if err == nil && r.message.verify != nil {
		err = r.footer()
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return plain, io.EOF
}

func (r *Reader) footer() error {
	var prefix [2]byte
	if _, err := io.ReadFull(r.src, prefix[:]); err != nil {
		return readError(err)
	}
	signature := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if _, err := io.ReadFull(r.src, signature); err != nil {
		return readError(err)
	}
	return r.message.transcript.verify(r.message.verify, signature)
}

// end refuses bytes after the message.
func (r *Reader) end() error {
	var b [1]byte
	switch _, err := io.ReadFull(r.src, b[:]); err {
	case nil:
		return errTrailing
	case io.EOF:
		return nil
	default:
		return readError(err)
	}
}

// read fills b with what is signed.
func (r *Reader) read(b []byte) error {
	if _, err := io.ReadFull(r.src, b); err != nil {
		return readError(err)
	}
	r.message.transcript.write(b)
	return nil
}

// readLong returns the next n bytes, in buf. Beyond what a usual frame has, the buffer grows as
// bytes arrive.
func (r *Reader) readLong(n int64) ([]byte, error) {
	const usual = 128 << 10
	for have := int64(0); have < n; {
		if want := min(n, max(usual, 2*have)); int64(len(r.buf)) < want {
			grown := make([]byte, want)
			copy(grown, r.buf[:have])
			r.buf = grown
		}
		to := min(n, int64(len(r.buf)))
		if err := r.read(r.buf[have:to]); err != nil {
			return nil, err
		}
		have = to
	}
	return r.buf[:n], nil
}
