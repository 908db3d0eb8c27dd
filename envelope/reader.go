package envelope

import (
	"context"
	"io"
)

// A Reader decrypts a stream. It may be used by one goroutine at a time.
type Reader struct{}

// NewReader returns a Reader of the message in src. It reads and verifies the message's beginning,
// and asks the KMS for the data key; ctx is used for that only.
func (d *Decrypter) NewReader(ctx context.Context, src io.Reader, encryptionContext map[string]string) (*Reader, error) {
	panic("skeleton")
}

// Read returns decrypted bytes. Every byte is authenticated when it is returned.
func (r *Reader) Read(p []byte) (int, error) { panic("skeleton") }

// WriteTo writes the rest of the plaintext to dst, without a copy.
func (r *Reader) WriteTo(dst io.Writer) (int64, error) { panic("skeleton") }

// EncryptionContext returns the message's encryption context, which is authenticated.
func (r *Reader) EncryptionContext() map[string]string { panic("skeleton") }

// Suite returns the message's algorithm suite.
func (r *Reader) Suite() Suite { panic("skeleton") }
