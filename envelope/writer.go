package envelope

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pocketkms/kms/internal/secret"
)

// A Writer encrypts a stream. It may be used by one goroutine at a time.
type Writer struct {
	dst      io.Writer
	message  *outgoing
	sequence uint32 // of the next frame
	pending  []byte // plaintext that is not encrypted, at most a frame
	out      []byte // a frame, before it is written
	length   int    // of a frame
	err      error  // of the first failure, or errClosed
}

var errClosed = errors.New("envelope: the Writer is closed")

// NewWriter returns a Writer of a message to dst, and writes the beginning of the message. It asks
// the keyring for a data key; ctx is for that only. [Writer.Close] completes the message: without
// it, whoever reads the message gets [ErrTruncated].
func (e *Encrypter) NewWriter(ctx context.Context, dst io.Writer, encryptionContext map[string]string) (*Writer, error) {
	if dst == nil {
		return nil, errors.New("envelope: NewWriter with a nil io.Writer")
	}
	m, err := e.begin(ctx, encryptionContext, -1)
	if err != nil {
		return nil, err
	}
	w := &Writer{dst: dst, message: m, sequence: 1, length: int(e.frameLength)}
	w.out = append(append(w.out, m.header.body...), m.header.auth...)
	if err := w.flush(); err != nil {
		return nil, err
	}
	return w, nil
}

// Write encrypts p. It writes what fills a frame, and keeps the rest until more is written. After
// an error of the underlying writer, the Writer cannot be used.
func (w *Writer) Write(p []byte) (n int, err error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		// The last frame is a final one, so a full frame waits until something follows it.
		if len(w.pending) == w.length {
			if err := w.frame(w.pending); err != nil {
				return n, err
			}
			w.pending = w.pending[:0]
		}
		taken := min(len(p), w.length-len(w.pending))
		if len(w.pending) == 0 && len(p) > w.length {
			taken = w.length
			err = w.frame(p[:taken])
		} else {
			w.keep(p[:taken])
		}
		if err != nil {
			return n, err
		}
		n += taken
		p = p[taken:]
	}
	return n, nil
}

// usable returns why the Writer cannot be used, if so.
func (w *Writer) usable() error {
	if w.err == nil && w.message == nil {
		w.err = errZero
	}
	return w.err
}

// keep appends p to what is pending. The buffer grows with what arrives, up to a frame.
func (w *Writer) keep(p []byte) {
	w.grow(len(w.pending) + len(p))
	w.pending = append(w.pending, p...)
}

// grow makes room for need bytes in all, at most a frame and a byte.
func (w *Writer) grow(need int) {
	if need <= cap(w.pending) {
		return
	}
	grown := make([]byte, len(w.pending), min(max(need, 2*cap(w.pending), 512), w.length+1))
	copy(grown, w.pending)
	w.erase()
	w.pending = grown
}

// ReadFrom encrypts what src has, until io.EOF. It does not close the Writer. After an error of src,
// more can be written.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	for w.usable() == nil {
		w.grow(len(w.pending) + 1)
		read, err := src.Read(w.pending[len(w.pending):cap(w.pending)])
		if read < 0 || read > cap(w.pending)-len(w.pending) {
			return n, errors.New("envelope: the io.Reader returned an impossible count")
		}
		w.pending = w.pending[:len(w.pending)+read]
		n += int64(read)
		// A byte more than a frame shows that the frame is not the last.
		if len(w.pending) > w.length {
			if err := w.frame(w.pending[:w.length]); err != nil {
				return n, err
			}
			w.pending = append(w.pending[:0], w.pending[w.length])
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, w.err
}

// frame writes a regular frame.
func (w *Writer) frame(plaintext []byte) error {
	if w.sequence == maxFrames {
		w.fail(fmt.Errorf("%w: the message has too many frames", ErrLimit))
		return w.err
	}
	w.out = w.message.frames.seal(w.out[:0], w.sequence, plaintext)
	w.sequence++
	return w.flush()
}

// flush writes out, and adds it to what is signed.
func (w *Writer) flush() error {
	w.message.transcript.write(w.out)
	return w.write()
}

func (w *Writer) write() error {
	n, err := w.dst.Write(w.out)
	if err == nil && n < len(w.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.fail(fmt.Errorf("envelope: writing the message: %w", err))
	}
	return w.err
}

// fail ends the use of the Writer, and clears what it has of the plaintext.
func (w *Writer) fail(err error) {
	w.err = err
	w.erase()
	w.pending, w.message = nil, nil
}

// erase clears the buffer of the plaintext, also behind what is pending: frames were there before.
func (w *Writer) erase() { secret.Clear(w.pending[:cap(w.pending)]) }

// Close writes the end of the message. It does not close the underlying writer. A second Close
// returns the error of the first.
func (w *Writer) Close() error {
	if w.err == errClosed {
		return nil
	}
	if err := w.usable(); err != nil {
		return err
	}
	w.out = w.message.frames.sealFinal(w.out[:0], w.sequence, w.pending)
	w.message.transcript.write(w.out)
	out, err := w.message.appendFooter(w.out)
	if err != nil {
		w.fail(err)
		return err
	}
	w.out = out
	if err := w.write(); err != nil {
		return err
	}
	w.fail(errClosed)
	return nil
}
