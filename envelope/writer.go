package envelope

import (
	"context"
	"io"
)

// A Writer encrypts a stream. It may be used by one goroutine at a time.
type Writer struct{}

// NewWriter returns a Writer of a message to dst, and writes its beginning. It asks the KMS for a
// data key; ctx is used for that only. The message is complete only after [Writer.Close]: without,
// its readers get [ErrTruncated].
func (e *Encrypter) NewWriter(ctx context.Context, dst io.Writer, encryptionContext map[string]string) (*Writer, error) {
	panic("skeleton")
}

// Write encrypts p. Frames are written when they are full.
func (w *Writer) Write(p []byte) (int, error) { panic("skeleton") }

// ReadFrom encrypts all of src, without a copy. It does not close the Writer.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) { panic("skeleton") }

// Close writes the end of the message. It does not close the underlying writer.
func (w *Writer) Close() error { panic("skeleton") }
