// Package envelope encrypts an application's own data: rows, files and streams of any size, under
// keys of a KMS. Each message has a data key of its own, which the KMS generates and encrypts. The
// message carries the encrypted data key, so decrypting asks the KMS once and needs nothing else.
//
// Messages have the format of the AWS Encryption SDK, versions 1 and 2: its implementations in other
// languages read what this package writes, and the other way round.
//
//	keyring := envelope.KMSKey(svc, "alias/app")
//	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
//	...
//	message, err := enc.Seal(ctx, plaintext, map[string]string{"tenant": "7"})
//
// Use [Encrypter.Seal] and [Decrypter.Open] for what fits in memory, [Encrypter.NewWriter] and
// [Decrypter.NewReader] for streams, and [Decrypter.NewReaderAt] to read parts of a file. For secrets
// of at most 4,096 bytes, Encrypt of the KMS is simpler and its ciphertext is smaller.
//
// # Encryption context
//
// The encryption context is pairs of strings that are stored with the message in the clear. They
// are authenticated with it, given to the KMS, and so visible in its audit log and usable in its
// policies. Pairs given to a [Decrypter] must be the message's: pass what the program knows, such
// as the tenant and the row, so that nobody can pass off one message for another. A message may have
// pairs that are not given.
//
// Every implementation of the format reserves keys that begin with "aws-crypto-"; they are refused.
package envelope

import (
	"context"

	"github.com/pocketkms/kms"
)

// KMS is the part of a key management service that encrypts data keys. [*kms.Service] implements it;
// awsclient.EnvelopeKMS makes the AWS SDK's client implement it.
type KMS interface {
	GenerateDataKey(context.Context, *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error)
	Encrypt(context.Context, *kms.EncryptInput) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput) (*kms.DecryptOutput, error)
}

var _ KMS = (*kms.Service)(nil)
