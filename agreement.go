package kms

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/secret"
)

// DeriveSharedSecretInput is another party's public key, and the key to agree on a secret with.
type DeriveSharedSecretInput struct {
	// KeyId is an ECC_NIST or SM2 key for KeyUsageKeyAgreement: key ID, key ARN, alias name or
	// alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// KeyAgreementAlgorithm is the one of the key.
	KeyAgreementAlgorithm KeyAgreementAlgorithmSpec `kms:"required"`

	// PublicKey is the other party's public key on the curve of the key, a SubjectPublicKeyInfo in
	// DER (RFC 5280, section 4.1.2.7), as GetPublicKey returns it.
	PublicKey []byte `kms:"required,len=1..8192"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool

	// Recipient asks for the secret encrypted to an attested enclave instead of in the clear.
	Recipient *RecipientInfo
}

// DeriveSharedSecretOutput is the secret that two parties share.
type DeriveSharedSecretOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// SharedSecret is the x-coordinate of the shared point, as long as the curve's field: 32, 48 or
	// 66 bytes. It is not uniformly random: derive keys from it with a key derivation function. It
	// is nil if a Recipient was given. The slice belongs to the caller: clear it after use.
	SharedSecret []byte `kms:"secret"`

	// CiphertextForRecipient is the secret encrypted to the Recipient, a CMS EnvelopedData (RFC
	// 5652); nil without a Recipient.
	CiphertextForRecipient []byte `kms:"secret"`

	// KeyAgreementAlgorithm is the algorithm used.
	KeyAgreementAlgorithm KeyAgreementAlgorithmSpec

	// KeyOrigin is where the key material comes from.
	KeyOrigin OriginType
}

// EncapsulateInput names the key to encapsulate a shared secret with.
type EncapsulateInput struct {
	// KeyId is an ML-KEM key: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// EncapsulationAlgorithm is the one of the key.
	EncapsulationAlgorithm EncapsulationAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// EncapsulateOutput is a shared secret, in the clear and encapsulated.
type EncapsulateOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// SharedSecret is 32 random bytes, which can be used as a key. The slice belongs to the caller:
	// clear it after use.
	SharedSecret []byte `kms:"secret"`

	// SharedSecretCiphertextBlob is the encapsulated secret, for Decapsulate: 768 bytes with an
	// ML_KEM_512 key, 1,088 with ML_KEM_768 and 1,568 with ML_KEM_1024.
	SharedSecretCiphertextBlob []byte `kms:"secret"`

	// EncapsulationAlgorithm is the algorithm used.
	EncapsulationAlgorithm EncapsulationAlgorithmSpec
}

// DecapsulateInput is an encapsulated secret of Encapsulate, or one that was made elsewhere with
// the public key.
type DecapsulateInput struct {
	// KeyId is the ML-KEM key that must have encapsulated: key ID, key ARN, alias name or alias
	// ARN.
	KeyId string `kms:"required,len=1..2048"`

	// SharedSecretCiphertextBlob is the encapsulated secret, 1 to 6,144 bytes.
	SharedSecretCiphertextBlob []byte `kms:"required,len=1..6144,secret"`

	// EncapsulationAlgorithm is the algorithm that Encapsulate was given.
	EncapsulationAlgorithm EncapsulationAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// DecapsulateOutput is the shared secret.
type DecapsulateOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// SharedSecret is the secret, 32 bytes. The slice belongs to the caller: clear it after use.
	SharedSecret []byte `kms:"secret"`

	// EncapsulationAlgorithm is the algorithm used.
	EncapsulationAlgorithm EncapsulationAlgorithmSpec
}

var opDeriveSharedSecret = define(description{
	name: "DeriveSharedSecret", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageKeyAgreement, readOnly: true, tracked: true,
}, steps[DeriveSharedSecretInput, DeriveSharedSecretOutput]{
	admit: func(c *call, in *DeriveSharedSecretInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		if err := requireAlgorithm(c.key(), string(in.KeyAgreementAlgorithm)); err != nil || !in.DryRun {
			return err
		}
		shared, err := c.sharedSecret(in.PublicKey)
		secret.Clear(shared)
		return err
	},
	act: func(c *call, in *DeriveSharedSecretInput) (*DeriveSharedSecretOutput, error) {
		shared, err := c.sharedSecret(in.PublicKey)
		if err != nil {
			return nil, err
		}
		return &DeriveSharedSecretOutput{
			KeyId:                 c.key().ARN,
			SharedSecret:          shared,
			KeyAgreementAlgorithm: in.KeyAgreementAlgorithm,
			KeyOrigin:             OriginType(c.key().Record.Origin),
		}, nil
	},
})

// DeriveSharedSecret returns the secret that the key shares with the owner of another key on its
// curve, by elliptic curve Diffie-Hellman: the owner computes the same secret from their private
// key and the public key that [Service.GetPublicKey] returns. The error is [ValidationException],
// without a message, if the public key is malformed or of another curve.
func (s *Service) DeriveSharedSecret(ctx context.Context, in *DeriveSharedSecretInput) (*DeriveSharedSecretOutput, error) {
	return opDeriveSharedSecret.do(ctx, s, in)
}

// sharedSecret returns the secret that the call's key shares with the owner of a public key.
func (c *call) sharedSecret(publicKey []byte) ([]byte, error) {
	p, err := primitive[crypto.AgreementKey](c, c.key())
	if err != nil {
		return nil, err
	}
	shared, err := p.SharedSecret(publicKey)
	if errors.Is(err, crypto.ErrPublicKey) {
		return nil, invalid("")
	}
	return shared, err
}

var opEncapsulate = define(description{
	name: "Encapsulate", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageEncapsulateDecapsulate, readOnly: true, tracked: true,
}, steps[EncapsulateInput, EncapsulateOutput]{
	admit: func(c *call, in *EncapsulateInput) error {
		return requireAlgorithm(c.key(), string(in.EncapsulationAlgorithm))
	},
	act: func(c *call, in *EncapsulateInput) (*EncapsulateOutput, error) {
		p, err := primitive[crypto.DecapsulationKey](c, c.key())
		if err != nil {
			return nil, err
		}
		shared, ciphertext, err := p.Encapsulate()
		if err != nil {
			return nil, err
		}
		return &EncapsulateOutput{
			KeyId:                      c.key().ARN,
			SharedSecret:               shared,
			SharedSecretCiphertextBlob: ciphertext,
			EncapsulationAlgorithm:     in.EncapsulationAlgorithm,
		}, nil
	},
})

// Encapsulate returns a new secret for the caller and for whoever may call [Service.Decapsulate]
// with the key, by ML-KEM (FIPS 203). Whoever has the public key can do the same elsewhere.
func (s *Service) Encapsulate(ctx context.Context, in *EncapsulateInput) (*EncapsulateOutput, error) {
	return opEncapsulate.do(ctx, s, in)
}

var opDecapsulate = define(description{
	name: "Decapsulate", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageEncapsulateDecapsulate, readOnly: true, tracked: true,
}, steps[DecapsulateInput, DecapsulateOutput]{
	admit: func(c *call, in *DecapsulateInput) error {
		if err := requireAlgorithm(c.key(), string(in.EncapsulationAlgorithm)); err != nil || !in.DryRun {
			return err
		}
		shared, err := c.decapsulate(in.SharedSecretCiphertextBlob)
		secret.Clear(shared)
		return err
	},
	act: func(c *call, in *DecapsulateInput) (*DecapsulateOutput, error) {
		shared, err := c.decapsulate(in.SharedSecretCiphertextBlob)
		if err != nil {
			return nil, err
		}
		return &DecapsulateOutput{KeyId: c.key().ARN, SharedSecret: shared, EncapsulationAlgorithm: in.EncapsulationAlgorithm}, nil
	},
})

// Decapsulate returns the secret of [Service.Encapsulate]. The error is
// [InvalidCiphertextException] only if the encapsulated secret does not have the length for the
// key. If it was altered, or is that of another key, the result is a secret that nobody else has:
// confirm that both parties have the same one before you rely on it.
func (s *Service) Decapsulate(ctx context.Context, in *DecapsulateInput) (*DecapsulateOutput, error) {
	return opDecapsulate.do(ctx, s, in)
}

// decapsulate returns the secret that the call's key decapsulates.
func (c *call) decapsulate(ciphertext []byte) ([]byte, error) {
	p, err := primitive[crypto.DecapsulationKey](c, c.key())
	if err != nil {
		return nil, err
	}
	shared, err := p.Decapsulate(ciphertext)
	if errors.Is(err, crypto.ErrDecrypt) {
		return nil, invalidCiphertext(ErrNotCiphertext)
	}
	return shared, err
}
