package kms

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
)

// GenerateDataKeyInput asks for a random data key. Exactly one of KeySpec and NumberOfBytes must be
// given.
type GenerateDataKeyInput struct {
	// KeyId is the symmetric key to encrypt the data key with: key ID, key ARN, alias name or alias
	// ARN.
	KeyId string `kms:"required,len=1..2048"`

	// KeySpec is the size of the data key by name.
	KeySpec DataKeySpec

	// NumberOfBytes is the size of the data key in bytes, 1 to 1,024.
	NumberOfBytes *int32 `kms:"range=1..1024"`

	// EncryptionContext is authenticated with the data key: Decrypt must be given the same pairs.
	// It must hold no secrets: it is logged in the clear.
	EncryptionContext map[string]string

	// Recipient asks for the data key encrypted to an attested enclave instead of in the clear.
	Recipient *RecipientInfo

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// GenerateDataKeyOutput is a data key, in the clear and encrypted.
type GenerateDataKeyOutput struct {
	// KeyId is the ARN of the key that encrypted the data key.
	KeyId string

	// Plaintext is the data key; nil if a Recipient was given. The slice belongs to the caller:
	// clear it after use.
	Plaintext []byte `kms:"secret"`

	// CiphertextBlob is the encrypted data key, for Decrypt.
	CiphertextBlob []byte `kms:"secret"`

	// CiphertextForRecipient is the data key encrypted to the Recipient, a CMS EnvelopedData (RFC
	// 5652); nil without a Recipient.
	CiphertextForRecipient []byte `kms:"secret"`

	// KeyMaterialId is the ID of the key material that encrypted the data key, 64 hexadecimal
	// digits; absent with a Recipient.
	KeyMaterialId string
}

// GenerateDataKeyWithoutPlaintextInput asks for a random data key in encrypted form. Exactly one of
// KeySpec and NumberOfBytes must be given.
type GenerateDataKeyWithoutPlaintextInput struct {
	// KeyId is the symmetric key to encrypt the data key with: key ID, key ARN, alias name or alias
	// ARN.
	KeyId string `kms:"required,len=1..2048"`

	// KeySpec is the size of the data key by name.
	KeySpec DataKeySpec

	// NumberOfBytes is the size of the data key in bytes, 1 to 1,024.
	NumberOfBytes *int32 `kms:"range=1..1024"`

	// EncryptionContext is authenticated with the data key: Decrypt must be given the same pairs.
	// It must hold no secrets: it is logged in the clear.
	EncryptionContext map[string]string

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// GenerateDataKeyWithoutPlaintextOutput is an encrypted data key.
type GenerateDataKeyWithoutPlaintextOutput struct {
	// KeyId is the ARN of the key that encrypted the data key.
	KeyId string

	// CiphertextBlob is the encrypted data key, for Decrypt.
	CiphertextBlob []byte `kms:"secret"`

	// KeyMaterialId is the ID of the key material that encrypted the data key, 64 hexadecimal
	// digits.
	KeyMaterialId string
}

// GenerateDataKeyPairInput asks for an asymmetric data key pair.
type GenerateDataKeyPairInput struct {
	// KeyId is the symmetric key to encrypt the private key with: key ID, key ARN, alias name or
	// alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// KeyPairSpec is the kind of key pair.
	KeyPairSpec DataKeyPairSpec `kms:"required"`

	// EncryptionContext is authenticated with the private key: Decrypt must be given the same pairs.
	// It must hold no secrets: it is logged in the clear.
	EncryptionContext map[string]string

	// Recipient asks for the private key encrypted to an attested enclave instead of in the clear.
	Recipient *RecipientInfo

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// GenerateDataKeyPairOutput is a data key pair, with the private key in the clear and encrypted.
type GenerateDataKeyPairOutput struct {
	// KeyId is the ARN of the key that encrypted the private key.
	KeyId string

	// KeyPairSpec is the kind of key pair.
	KeyPairSpec DataKeyPairSpec

	// PublicKey is a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
	PublicKey []byte

	// PrivateKeyPlaintext is the private key, a PrivateKeyInfo in DER (PKCS#8, RFC 5208); nil if a
	// Recipient was given. The slice belongs to the caller: clear it after use.
	PrivateKeyPlaintext []byte `kms:"secret"`

	// PrivateKeyCiphertextBlob is the encrypted private key, for Decrypt.
	PrivateKeyCiphertextBlob []byte `kms:"secret"`

	// CiphertextForRecipient is the private key encrypted to the Recipient, a CMS EnvelopedData
	// (RFC 5652); nil without a Recipient.
	CiphertextForRecipient []byte `kms:"secret"`

	// KeyMaterialId is the ID of the key material that encrypted the private key, 64 hexadecimal
	// digits; absent with a Recipient.
	KeyMaterialId string
}

// GenerateDataKeyPairWithoutPlaintextInput asks for an asymmetric data key pair whose private key
// is encrypted.
type GenerateDataKeyPairWithoutPlaintextInput struct {
	// KeyId is the symmetric key to encrypt the private key with: key ID, key ARN, alias name or
	// alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// KeyPairSpec is the kind of key pair.
	KeyPairSpec DataKeyPairSpec `kms:"required"`

	// EncryptionContext is authenticated with the private key: Decrypt must be given the same pairs.
	// It must hold no secrets: it is logged in the clear.
	EncryptionContext map[string]string

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// GenerateDataKeyPairWithoutPlaintextOutput is a public key and the encrypted private key.
type GenerateDataKeyPairWithoutPlaintextOutput struct {
	// KeyId is the ARN of the key that encrypted the private key.
	KeyId string

	// KeyPairSpec is the kind of key pair.
	KeyPairSpec DataKeyPairSpec

	// PublicKey is a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
	PublicKey []byte

	// PrivateKeyCiphertextBlob is the encrypted private key, for Decrypt: a PrivateKeyInfo in DER
	// (PKCS#8, RFC 5208).
	PrivateKeyCiphertextBlob []byte `kms:"secret"`

	// KeyMaterialId is the ID of the key material that encrypted the private key, 64 hexadecimal
	// digits.
	KeyMaterialId string
}

// GenerateRandomInput asks for random bytes.
type GenerateRandomInput struct {
	// NumberOfBytes is the number of bytes, 1 to 1,024. It is required.
	NumberOfBytes *int32 `kms:"range=1..1024"`

	// CustomKeyStoreId is the CloudHSM key store that generates the bytes; absent means the service
	// itself.
	CustomKeyStoreId string `kms:"len=1..64"`

	// Recipient asks for the bytes encrypted to an attested enclave instead of in the clear.
	Recipient *RecipientInfo
}

// GenerateRandomOutput holds the random bytes.
type GenerateRandomOutput struct {
	// Plaintext is the bytes; nil if a Recipient was given. The slice belongs to the caller.
	Plaintext []byte `kms:"secret"`

	// CiphertextForRecipient is the bytes encrypted to the Recipient, a CMS EnvelopedData (RFC
	// 5652); nil without a Recipient.
	CiphertextForRecipient []byte `kms:"secret"`
}

var opGenerateDataKey = define(description{
	name: "GenerateDataKey", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[GenerateDataKeyInput, GenerateDataKeyOutput]{
	validate: func(in *GenerateDataKeyInput) error { return validateDataKey(in.KeySpec, in.NumberOfBytes) },
	admit: func(c *call, in *GenerateDataKeyInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		if err := requireSymmetric(c.key(), c.op.name); err != nil {
			return err
		}
		return c.tryContext(in.DryRun, in.EncryptionContext)
	},
	act: func(c *call, in *GenerateDataKeyInput) (*GenerateDataKeyOutput, error) {
		memory := new(dataKeyMemory)
		plaintext, ciphertext, err := c.newDataKey(memory.ciphertext[:0], in.KeySpec, in.NumberOfBytes, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		out := &memory.out
		out.KeyId, out.Plaintext, out.CiphertextBlob = c.key().ARN, plaintext, ciphertext
		out.KeyMaterialId = c.targets[0].materialID()
		return out, nil
	},
})

// A dataKeyMemory is an output with memory for its ciphertext in the same allocation. The plaintext
// has its own: who keeps the ciphertext must not keep the plaintext in memory.
type dataKeyMemory struct {
	out        GenerateDataKeyOutput
	ciphertext [ciphertext.MinBytes + shortPlaintext]byte
}

// GenerateDataKey generates a random key for use outside the service and returns it in the clear
// and encrypted. Encrypt your data with Plaintext, clear it, and store CiphertextBlob beside the
// data: Decrypt returns the data key when it is needed again. This is how to encrypt more than
// Encrypt takes.
func (s *Service) GenerateDataKey(ctx context.Context, in *GenerateDataKeyInput) (*GenerateDataKeyOutput, error) {
	return opGenerateDataKey.do(ctx, s, in)
}

var opGenerateDataKeyWithoutPlaintext = define(description{
	name: "GenerateDataKeyWithoutPlaintext", keys: keyOrAlias, crossAccount: true,
	states: useState, usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[GenerateDataKeyWithoutPlaintextInput, GenerateDataKeyWithoutPlaintextOutput]{
	validate: func(in *GenerateDataKeyWithoutPlaintextInput) error {
		return validateDataKey(in.KeySpec, in.NumberOfBytes)
	},
	admit: func(c *call, in *GenerateDataKeyWithoutPlaintextInput) error {
		if err := requireSymmetric(c.key(), c.op.name); err != nil {
			return err
		}
		return c.tryContext(in.DryRun, in.EncryptionContext)
	},
	act: func(c *call, in *GenerateDataKeyWithoutPlaintextInput) (*GenerateDataKeyWithoutPlaintextOutput, error) {
		plaintext, ciphertext, err := c.newDataKey(nil, in.KeySpec, in.NumberOfBytes, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		secret.Clear(plaintext)
		return &GenerateDataKeyWithoutPlaintextOutput{
			KeyId:          c.key().ARN,
			CiphertextBlob: ciphertext,
			KeyMaterialId:  c.targets[0].materialID(),
		}, nil
	},
})

// GenerateDataKeyWithoutPlaintext generates a random key and returns only the encrypted key; call
// Decrypt when it is needed.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, in *GenerateDataKeyWithoutPlaintextInput) (*GenerateDataKeyWithoutPlaintextOutput, error) {
	return opGenerateDataKeyWithoutPlaintext.do(ctx, s, in)
}

var opGenerateDataKeyPair = define(description{
	name: "GenerateDataKeyPair", keys: keyOrAlias, crossAccount: true, states: pairState,
	usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[GenerateDataKeyPairInput, GenerateDataKeyPairOutput]{
	admit: func(c *call, in *GenerateDataKeyPairInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		return c.admitKeyPair(in.EncryptionContext)
	},
	act: func(c *call, in *GenerateDataKeyPairInput) (*GenerateDataKeyPairOutput, error) {
		private, public, ciphertext, err := c.newKeyPair(in.KeyPairSpec, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		return &GenerateDataKeyPairOutput{
			KeyId:                    c.key().ARN,
			KeyPairSpec:              in.KeyPairSpec,
			PublicKey:                public,
			PrivateKeyPlaintext:      private,
			PrivateKeyCiphertextBlob: ciphertext,
			KeyMaterialId:            c.targets[0].materialID(),
		}, nil
	},
})

// GenerateDataKeyPair generates a key pair for use outside the service and returns the private key
// in the clear and encrypted, like [Service.GenerateDataKey]. It takes as long as the generation:
// up to seconds for RSA, unless Config.PregeneratedRSAKeys has a key pair ready.
func (s *Service) GenerateDataKeyPair(ctx context.Context, in *GenerateDataKeyPairInput) (*GenerateDataKeyPairOutput, error) {
	return opGenerateDataKeyPair.do(ctx, s, in)
}

var opGenerateDataKeyPairWithoutPlaintext = define(description{
	name: "GenerateDataKeyPairWithoutPlaintext", keys: keyOrAlias, crossAccount: true,
	states: pairState, usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[GenerateDataKeyPairWithoutPlaintextInput, GenerateDataKeyPairWithoutPlaintextOutput]{
	admit: func(c *call, in *GenerateDataKeyPairWithoutPlaintextInput) error {
		return c.admitKeyPair(in.EncryptionContext)
	},
	act: func(c *call, in *GenerateDataKeyPairWithoutPlaintextInput) (*GenerateDataKeyPairWithoutPlaintextOutput, error) {
		private, public, ciphertext, err := c.newKeyPair(in.KeyPairSpec, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		secret.Clear(private)
		return &GenerateDataKeyPairWithoutPlaintextOutput{
			KeyId:                    c.key().ARN,
			KeyPairSpec:              in.KeyPairSpec,
			PublicKey:                public,
			PrivateKeyCiphertextBlob: ciphertext,
			KeyMaterialId:            c.targets[0].materialID(),
		}, nil
	},
})

// GenerateDataKeyPairWithoutPlaintext is [Service.GenerateDataKeyPair] that returns the private key
// only encrypted; call Decrypt when it is needed.
func (s *Service) GenerateDataKeyPairWithoutPlaintext(ctx context.Context, in *GenerateDataKeyPairWithoutPlaintextInput) (*GenerateDataKeyPairWithoutPlaintextOutput, error) {
	return opGenerateDataKeyPairWithoutPlaintext.do(ctx, s, in)
}

var opGenerateRandom = define(description{
	name: "GenerateRandom", readOnly: true,
}, steps[GenerateRandomInput, GenerateRandomOutput]{
	validate: func(in *GenerateRandomInput) error {
		if in.NumberOfBytes == nil {
			return invalid("NumberOfBytes is required.")
		}
		return nil
	},
	admit: func(c *call, in *GenerateRandomInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		return nil
	},
	act: func(c *call, in *GenerateRandomInput) (*GenerateRandomOutput, error) {
		if in.CustomKeyStoreId != "" {
			random, err := c.randomInStore(in.CustomKeyStoreId, int(*in.NumberOfBytes))
			return &GenerateRandomOutput{Plaintext: random}, err
		}
		out := &GenerateRandomOutput{Plaintext: make([]byte, *in.NumberOfBytes)}
		rand.Read(out.Plaintext)
		return out, nil
	},
})

// GenerateRandom returns 1 to 1,024 bytes from the cryptographic random number generator of the
// operating system, or of a CloudHSM key store.
func (s *Service) GenerateRandom(ctx context.Context, in *GenerateRandomInput) (*GenerateRandomOutput, error) {
	return opGenerateRandom.do(ctx, s, in)
}

// newDataKey draws a data key and encrypts it. The ciphertext is in memory, if that is enough for it.
func (c *call) newDataKey(memory []byte, keySpec DataKeySpec, numberOfBytes *int32, encryptionContext map[string]string) (plaintext, ciphertext []byte, err error) {
	plaintext = make([]byte, dataKeyBytes(keySpec, numberOfBytes))
	rand.Read(plaintext)
	if ciphertext, err = c.seal(memory, &c.targets[0], plaintext, encryptionContext); err != nil {
		secret.Clear(plaintext)
		return nil, nil, err
	}
	return plaintext, ciphertext, nil
}

// admitKeyPair refuses a key that cannot encrypt a data key pair. It looks at the encryption
// context before a key pair is generated, which takes long.
func (c *call) admitKeyPair(encryptionContext map[string]string) error {
	if c.key().Spec.Kind != spec.Symmetric {
		return exception(InvalidKeyUsageException, "You cannot generate a data key pair with an asymmetric CMK")
	}
	if err := refuseCustomKeyStore(c.key()); err != nil {
		return err
	}
	return c.tryContext(true, encryptionContext)
}

// newKeyPair generates a data key pair and encrypts its private key.
func (c *call) newKeyPair(pairSpec DataKeyPairSpec, encryptionContext map[string]string) (private, public, ciphertext []byte, err error) {
	usage := &spec.Of(string(pairSpec)).Usages[0] // all usages of a spec have the same material
	if private, err = c.svc.core.db.Generate(usage); err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			secret.Clear(private)
			private = nil
		}
	}()
	p, err := usage.Family(c.svc.core.config.Clock).Parse(private)
	if err != nil {
		return private, nil, nil, err
	}
	defer p.Destroy()
	pair, ok := p.(crypto.PrivateKey)
	if !ok {
		return private, nil, nil, fmt.Errorf("%w: %s is not the spec of a key pair", crypto.ErrAlgorithm, pairSpec)
	}
	ciphertext, err = c.seal(nil, &c.targets[0], private, encryptionContext)
	return private, pair.PublicKey(), ciphertext, err
}

func validateDataKey(keySpec DataKeySpec, numberOfBytes *int32) error {
	if (keySpec == "") == (numberOfBytes == nil) {
		return invalid("Please specify either number of bytes or key spec.")
	}
	return nil
}

func dataKeyBytes(keySpec DataKeySpec, numberOfBytes *int32) int {
	switch {
	case numberOfBytes != nil:
		return int(*numberOfBytes)
	case keySpec == DataKeySpecAES128:
		return 16
	}
	return 32
}

// requireSymmetric refuses keys that are for encryption but not symmetric.
func requireSymmetric(k *keydb.Key, operation string) error {
	if k.Spec.Kind != spec.Symmetric {
		return exception(InvalidKeyUsageException, "%s key spec is %s which is not valid for %s.", k.ARN, k.Record.Spec, operation)
	}
	return nil
}
