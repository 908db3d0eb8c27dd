package envelope

import "context"

// DecrypterOptions are the settings of a [Decrypter]. The zero value is right for most uses.
type DecrypterOptions struct {
	// CommitmentPolicy is about messages that do not commit to their data key. They are refused by
	// default.
	CommitmentPolicy CommitmentPolicy

	// MaxEncryptedDataKeys is the largest number of encrypted data keys that a message may have, up
	// to 65,535; 0 means 10. Each may cost a call to the KMS.
	MaxEncryptedDataKeys int

	// MaxFrameLength is the number of bytes that a [Reader] or [ReaderAt] may have to keep in memory
	// at once: a frame, or all of a message that is not framed. 0 means 64 MiB.
	MaxFrameLength int64

	// RequiredContextKeys are keys of the encryption context that every call must give.
	RequiredContextKeys []string

	// UnsignedOnly refuses signed messages with [ErrSigned]: a stream's plaintext is otherwise
	// released before its signature is verified.
	UnsignedOnly bool
}

// A Decrypter decrypts messages. It is immutable and may be used concurrently.
type Decrypter struct{}

// NewDecrypter returns a Decrypter that finds the data keys of messages with keyring. It fails if
// the keyring cannot decrypt or an option is out of its range.
func NewDecrypter(keyring Keyring, options DecrypterOptions) (*Decrypter, error) { panic("skeleton") }

// Open decrypts a message and returns the plaintext. Every pair of encryptionContext must be the
// message's; the message may have others.
func (d *Decrypter) Open(ctx context.Context, message []byte, encryptionContext map[string]string) ([]byte, error) {
	panic("skeleton")
}
