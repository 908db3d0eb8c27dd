package envelope

import (
	"context"
	"errors"
	"io"
)

// ReEncrypt decrypts the message in src and encrypts its plaintext for dst, in constant memory: to
// move a message to other wrapping keys or newer key material, to another algorithm suite, or to
// another KMS. The new message has the encryption context of the old one, its stored pairs and those
// that are given, and a data key of its own. It does not depend on the old wrapping keys, and whoever
// knows the old data key cannot read it.
//
// If it fails, dst lacks the end of the message, and readers refuse that with [ErrTruncated]. To
// replace a file, write to a temporary one and rename it.
//
// There is no operation that replaces only the encrypted data keys and keeps the body, because it
// would destroy the authenticity of the message. The header is authenticated by AES-GCM with the key
// of the body and, in version 2 of the format, with an IV of 0. A second header would be
// authenticated with the same key and IV. Anyone who has both messages computes GCM's authentication
// key from the two tags, and then alters the header and every frame as they like. Nor would it help
// after a wrapping key became known, because whoever has it and the old message has the data key.
func ReEncrypt(ctx context.Context, dst io.Writer, to *Encrypter, src io.Reader, from *Decrypter, encryptionContext map[string]string) error {
	if dst == nil || src == nil {
		return errors.New("envelope: ReEncrypt with a nil io.Writer or io.Reader")
	}
	r, err := from.NewReader(ctx, &contextReader{ctx, src}, encryptionContext)
	if err != nil {
		return err
	}
	w, err := to.NewWriter(ctx, dst, r.EncryptionContext())
	if err != nil {
		r.fail(err)
		return err
	}
	if _, err := r.WriteTo(w); err != nil {
		r.fail(err)
		w.fail(err)
		return err
	}
	return w.Close()
}

// A contextReader reads until its context is done.
type contextReader struct {
	ctx context.Context
	src io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
