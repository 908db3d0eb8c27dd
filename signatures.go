package kms

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/spec"
)

// SignInput is a message to sign, or its digest.
type SignInput struct {
	// KeyId is the key to sign with: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is what MessageType says, 1 to 4,096 bytes. Hash a longer message and sign its
	// digest.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MessageType says what Message is; absent means MessageTypeRaw. A digest must be as long as
	// the hash of the algorithm, and mu 64 bytes.
	MessageType MessageType

	// SigningAlgorithm is one of the key's.
	SigningAlgorithm SigningAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// SignOutput is the signature of a message.
type SignOutput struct {
	// KeyId is the ARN of the key that signed.
	KeyId string

	// Signature is the signature in the form of its algorithm: RSA as in RFC 8017, ECDSA and SM2 in
	// DER (RFC 3279, section 2.2.3), Ed25519 as in RFC 8032, ML-DSA as in FIPS 204.
	Signature []byte `kms:"secret"`

	// SigningAlgorithm is the algorithm used.
	SigningAlgorithm SigningAlgorithmSpec
}

// VerifyInput is a message, or its digest, and a signature to verify.
type VerifyInput struct {
	// KeyId is the key that must have signed: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is what MessageType says, 1 to 4,096 bytes. A signature of a raw message also
	// verifies with its digest, and the reverse, except for Ed25519.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MessageType says what Message is; absent means MessageTypeRaw.
	MessageType MessageType

	// Signature is the signature to verify, in the form that Sign returns, 1 to 6,144 bytes.
	Signature []byte `kms:"required,len=1..6144,secret"`

	// SigningAlgorithm is the algorithm that Sign was given.
	SigningAlgorithm SigningAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// VerifyOutput confirms that the signature is valid. An invalid one is an error,
// KMSInvalidSignatureException.
type VerifyOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// SignatureValid is always true.
	SignatureValid bool `kms:"emitzero"`

	// SigningAlgorithm is the algorithm used.
	SigningAlgorithm SigningAlgorithmSpec
}

// GetPublicKeyInput names an asymmetric key.
type GetPublicKeyInput struct {
	// KeyId is a key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`
}

// GetPublicKeyOutput is a public key and what it can be used for.
type GetPublicKeyOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// PublicKey is a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7), which
	// x509.ParsePKIXPublicKey reads.
	PublicKey []byte

	// KeySpec is the kind of key.
	KeySpec KeySpec

	// CustomerMasterKeySpec is KeySpec under its former name.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for. It determines which of the lists below is not nil.
	KeyUsage KeyUsageType

	// EncryptionAlgorithms are the algorithms for KeyUsageEncryptDecrypt.
	EncryptionAlgorithms []EncryptionAlgorithmSpec

	// SigningAlgorithms are the algorithms for KeyUsageSignVerify.
	SigningAlgorithms []SigningAlgorithmSpec

	// KeyAgreementAlgorithms is the algorithm for KeyUsageKeyAgreement.
	KeyAgreementAlgorithms []KeyAgreementAlgorithmSpec

	// EncapsulationAlgorithms is the algorithm for KeyUsageEncapsulateDecapsulate.
	EncapsulationAlgorithms []EncapsulationAlgorithmSpec
}

var opSign = define(description{
	name: "Sign", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageSignVerify, readOnly: true, tracked: true,
}, steps[SignInput, SignOutput]{
	admit: func(c *call, in *SignInput) error {
		_, err := c.signer(in.SigningAlgorithm, in.MessageType, in.Message)
		return err
	},
	act: func(c *call, in *SignInput) (*SignOutput, error) {
		signer, err := c.signer(in.SigningAlgorithm, in.MessageType, in.Message)
		if err != nil {
			return nil, err
		}
		signature, err := signer.Sign(in.Message)
		if err != nil {
			return nil, err
		}
		return &SignOutput{KeyId: c.key().ARN, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
	},
})

// Sign signs a message of up to 4,096 bytes, or the digest of a message of any length. ECDSA
// signatures are in DER (RFC 3279, section 2.2.3).
func (s *Service) Sign(ctx context.Context, in *SignInput) (*SignOutput, error) {
	return opSign.do(ctx, s, in)
}

var opVerify = define(description{
	name: "Verify", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageSignVerify, readOnly: true, tracked: true,
}, steps[VerifyInput, VerifyOutput]{
	admit: func(c *call, in *VerifyInput) error {
		signer, err := c.signer(in.SigningAlgorithm, in.MessageType, in.Message)
		if err != nil || !in.DryRun {
			return err
		}
		return verifySignature(signer, in)
	},
	act: func(c *call, in *VerifyInput) (*VerifyOutput, error) {
		signer, err := c.signer(in.SigningAlgorithm, in.MessageType, in.Message)
		if err != nil {
			return nil, err
		}
		if err := verifySignature(signer, in); err != nil {
			return nil, err
		}
		return &VerifyOutput{KeyId: c.key().ARN, SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
	},
})

// Verify verifies a signature. The error is [KMSInvalidSignatureException] if it is not valid:
// SignatureValid is never false.
func (s *Service) Verify(ctx context.Context, in *VerifyInput) (*VerifyOutput, error) {
	return opVerify.do(ctx, s, in)
}

// verifySignature refuses a signature that is not the message's.
func verifySignature(signer crypto.Signer, in *VerifyInput) error {
	err := signer.Verify(in.Signature, in.Message)
	if errors.Is(err, crypto.ErrVerify) {
		return exception(KMSInvalidSignatureException, "")
	}
	return err
}

// signer returns the signer of the call's key for an algorithm. It refuses an algorithm or a kind
// of message that the key cannot sign.
func (c *call) signer(algorithm SigningAlgorithmSpec, messageType MessageType, message []byte) (crypto.Signer, error) {
	k := c.key()
	if err := requireAlgorithm(k, string(algorithm)); err != nil {
		return nil, err
	}
	p, err := primitive[crypto.SigningKey](c, k)
	if err != nil {
		return nil, err
	}
	messageType = orDefault(messageType, MessageTypeRaw)
	signer, err := p.Signer(string(algorithm), string(messageType))
	switch {
	case errors.Is(err, crypto.ErrMessageType):
		return nil, invalid("Message type %s is incompatible with key spec %s.", messageType, k.Record.Spec)
	case err != nil:
		return nil, err
	}
	if size := signer.InputSize(); size != 0 && len(message) != size {
		return nil, invalid("Digest is invalid length for algorithm %s.", algorithm)
	}
	return signer, nil
}

var opGetPublicKey = define(description{
	name: "GetPublicKey", keys: keyOrAlias, crossAccount: true, states: publicState, readOnly: true,
}, steps[GetPublicKeyInput, GetPublicKeyOutput]{
	admit: func(c *call, in *GetPublicKeyInput) error {
		if k := c.key(); k.Spec.Kind != spec.Asymmetric {
			return exception(UnsupportedOperationException, "%s key spec is %s which is not valid for GetPublicKey.", k.ARN, k.Record.Spec)
		}
		return nil
	},
	act: func(c *call, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
		k := c.key()
		p, err := primitive[crypto.PrivateKey](c, k)
		if err != nil {
			return nil, err
		}
		return &GetPublicKeyOutput{
			KeyId:                   k.ARN,
			PublicKey:               p.PublicKey(),
			KeySpec:                 KeySpec(k.Record.Spec),
			CustomerMasterKeySpec:   CustomerMasterKeySpec(k.Record.Spec),
			KeyUsage:                KeyUsageType(k.Record.Usage),
			EncryptionAlgorithms:    algorithmsOf[EncryptionAlgorithmSpec](k, KeyUsageEncryptDecrypt),
			SigningAlgorithms:       algorithmsOf[SigningAlgorithmSpec](k, KeyUsageSignVerify),
			KeyAgreementAlgorithms:  algorithmsOf[KeyAgreementAlgorithmSpec](k, KeyUsageKeyAgreement),
			EncapsulationAlgorithms: algorithmsOf[EncapsulationAlgorithmSpec](k, KeyUsageEncapsulateDecapsulate),
		}, nil
	},
})

// GetPublicKey returns the public key of an asymmetric key. The error is
// [UnsupportedOperationException] for a symmetric or HMAC key.
func (s *Service) GetPublicKey(ctx context.Context, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
	return opGetPublicKey.do(ctx, s, in)
}
