package envelope

import (
	"context"
	"io"
)

// A ReaderAt decrypts parts of a message. It may be used concurrently.
type ReaderAt struct{}

// NewReaderAt returns a ReaderAt of the message of size bytes in src. It verifies the beginning and
// the end of the message, so that a message cut at its end is refused with [ErrTruncated], and asks
// the KMS for the data key; ctx is used for that only. A signed message is refused with [ErrSigned],
// because the signature is over all of it.
func (d *Decrypter) NewReaderAt(ctx context.Context, src io.ReaderAt, size int64, encryptionContext map[string]string) (*ReaderAt, error) {
	panic("skeleton")
}

// ReadAt returns the plaintext at off. Each call decrypts the frames that it needs.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) { panic("skeleton") }

// Size returns the length of the plaintext in bytes.
func (r *ReaderAt) Size() int64 { panic("skeleton") }

// EncryptionContext returns the message's encryption context, which is authenticated.
func (r *ReaderAt) EncryptionContext() map[string]string { panic("skeleton") }

// Suite returns the message's algorithm suite.
func (r *ReaderAt) Suite() Suite { panic("skeleton") }
