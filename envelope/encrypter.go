package envelope

import "context"

// EncrypterOptions are the settings of an [Encrypter]. The zero value is right for most uses.
type EncrypterOptions struct {
	// Suite is the algorithm suite; 0 means [SuiteCommitKey]. The AWS Encryption SDK's default is
	// [SuiteCommitKeyECDSA].
	Suite Suite

	// FrameLength is the number of plaintext bytes in a frame, 1 to 4,294,967,295; 0 means 65,536. A
	// reader holds one frame in memory. The AWS Encryption SDK's default is 4,096.
	FrameLength int64

	// MaxEncryptedDataKeys is the largest number of wrapping keys, up to 65,535; 0 means 10.
	MaxEncryptedDataKeys int

	// RequiredContextKeys are keys of the encryption context that every message must have, and whose
	// pairs are authenticated but not stored: a reader must give them.
	RequiredContextKeys []string
}

// An Encrypter encrypts messages. It is immutable and may be used concurrently.
type Encrypter struct{}

// NewEncrypter returns an Encrypter of data keys that keyring generates. It fails if the keyring
// cannot encrypt or an option is out of its range.
func NewEncrypter(keyring Keyring, options EncrypterOptions) (*Encrypter, error) { panic("skeleton") }

// Seal encrypts plaintext, of any length, and returns the message. It asks the KMS for a data key.
func (e *Encrypter) Seal(ctx context.Context, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	panic("skeleton")
}
