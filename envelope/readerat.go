package envelope

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pocketkms/kms/internal/secret"
)

// A ReaderAt decrypts parts of a message. It may be used concurrently if the underlying io.ReaderAt
// may be.
type ReaderAt struct {
	src     io.ReaderAt
	message *incoming
	body    int64     // offset of the first frame
	full    int64     // number of regular frames
	last    int64     // length of the plaintext of the final frame
	buffers sync.Pool // of *frameBuffer
}

// A frameBuffer is what one goroutine decrypts with.
type frameBuffer struct {
	frames *frameCipher
	bytes  []byte
}

// NewReaderAt returns a ReaderAt of the message in the size bytes of src. It authenticates the
// beginning and the end of the message, so a message that lacks its end is refused with
// [ErrTruncated]. It asks the keyring for the data key; ctx is for that only. Each pair of
// encryptionContext must be the message's.
//
// Signed messages are refused with [ErrSigned], because the signature is over all of the message;
// messages without frames with [errors.ErrUnsupported].
func (d *Decrypter) NewReaderAt(ctx context.Context, src io.ReaderAt, size int64, encryptionContext map[string]string) (*ReaderAt, error) {
	if src == nil || size < 0 {
		return nil, errors.New("envelope: NewReaderAt with a nil io.ReaderAt or a negative size")
	}
	m, err := d.beginAt(ctx, bufio.NewReader(io.NewSectionReader(src, 0, size)), encryptionContext)
	if err != nil {
		return nil, err
	}
	r := &ReaderAt{src: src, message: m, body: int64(m.header.length())}
	r.buffers.New = func() any { return &frameBuffer{frames: m.frames.clone()} }
	frame := int64(m.header.frameLength)
	rest := size - r.body - finalOverhead
	if rest < 0 {
		return nil, ErrTruncated
	}
	r.full, r.last = rest/(frame+frameOverhead), rest%(frame+frameOverhead)
	if r.full >= maxFrames || r.last > frame {
		return nil, ErrTruncated // no message has this length
	}
	b := r.buffers.Get().(*frameBuffer)
	defer r.put(b)
	if _, err := r.open(b, r.full); err != nil {
		return nil, err
	}
	return r, nil
}

// beginAt is begin with what a ReaderAt refuses. A Decrypter that refuses signed messages does so
// before it asks for their data keys.
func (d *Decrypter) beginAt(ctx context.Context, src io.Reader, pairs map[string]string) (*incoming, error) {
	if d == nil {
		return nil, errZero
	}
	unsigned := *d
	unsigned.unsignedOnly = true
	m, err := unsigned.begin(ctx, &scanner{src: src}, pairs)
	if err != nil {
		return nil, err
	}
	if !m.header.framed {
		return nil, fmt.Errorf("envelope: random access to a message without frames: %w", errors.ErrUnsupported)
	}
	return m, d.checkFrameLength(m.header)
}

// Size returns the length of the plaintext in bytes. It is authenticated.
func (r *ReaderAt) Size() int64 {
	if r.message == nil {
		return 0
	}
	return r.full*int64(r.message.header.frameLength) + r.last
}

// EncryptionContext returns the encryption context of the message, like [Reader.EncryptionContext].
func (r *ReaderAt) EncryptionContext() map[string]string { return r.message.callerPairs() }

// Suite returns the algorithm suite of the message.
func (r *ReaderAt) Suite() Suite { return r.message.suite() }

// ReadAt reads plaintext at an offset, like io.ReaderAt. Each call decrypts all of the frames that
// it reads from, so read whole frames where you can. What it returns is authenticated, also if it
// returns an error for what follows.
func (r *ReaderAt) ReadAt(p []byte, off int64) (n int, err error) {
	if r.message == nil {
		return 0, errZero
	}
	if off < 0 {
		return 0, errors.New("envelope: ReadAt with a negative offset")
	}
	size, frame := r.Size(), int64(r.message.header.frameLength)
	if off >= size {
		return 0, io.EOF
	}
	b := r.buffers.Get().(*frameBuffer)
	defer r.put(b)
	for n < len(p) && off < size {
		plain, err := r.open(b, off/frame)
		if err != nil {
			return n, err
		}
		copied := copy(p[n:], plain[off%frame:])
		n += copied
		off += int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *ReaderAt) put(b *frameBuffer) {
	secret.Clear(b.bytes)
	r.buffers.Put(b)
}

// open returns the plaintext of a frame, in the buffer. Frames are counted from 0; their sequence
// numbers from 1.
func (r *ReaderAt) open(b *frameBuffer, frame int64) ([]byte, error) {
	length := int64(r.message.header.frameLength)
	at := r.body + frame*(length+frameOverhead)
	before := int64(4 + ivBytes)
	if frame == r.full {
		length, before = r.last, 4+4+ivBytes+4
	}
	n := before + length + tagBytes
	if int64(cap(b.bytes)) < n {
		secret.Clear(b.bytes)
		b.bytes = make([]byte, n)
	}
	bytes := b.bytes[:n]
	if got, err := r.src.ReadAt(bytes, at); got < len(bytes) {
		return nil, readError(err)
	}
	mark, sequence := binary.BigEndian.Uint32(bytes), uint32(frame+1)
	encrypted := bytes[before:]
	if frame < r.full {
		if err := checkSequence(mark, sequence); err != nil {
			return nil, err
		}
		return b.frames.open(encrypted[:0], sequence, bytes[4:before], encrypted)
	}
	if mark != finalMark {
		return nil, ErrTruncated // more frames would follow
	}
	fields := bytes[4:before]
	declared, err := r.message.finalLength(fields, sequence)
	if err != nil {
		return nil, err
	}
	if int64(declared) > r.last {
		return nil, ErrTruncated
	}
	if int64(declared) < r.last {
		return nil, errTrailing
	}
	return b.frames.openSingle(encrypted[:0], sequence, fields[4:4+ivBytes], encrypted)
}
