package kms

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/crypto"
)

// SignInput is a message, or its digest, to sign.
type SignInput struct {
	// KeyId is the key to sign with: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is what MessageType says, 1 to 4,096 bytes. Hash a longer message and sign its digest.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MessageType says what Message is; absent means MessageTypeRaw. A digest must be as long as the algorithm's hash,
	// and mu 64 bytes.
	MessageType MessageType

	// SigningAlgorithm is one that the key has.
	SigningAlgorithm SigningAlgorithmSpec `kms:"required"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// SignOutput is the message's signature.
type SignOutput struct {
	// KeyId is the ARN of the key that signed.
	KeyId string

	// Signature is the signature, in its algorithm's own form: RSA as in RFC 8017, ECDSA and SM2 in DER (RFC 3279,
	// section 2.2.3), Ed25519 as in RFC 8032, ML-DSA as in FIPS 204.
	Signature []byte `kms:"secret"`

	// SigningAlgorithm is the algorithm used.
	SigningAlgorithm SigningAlgorithmSpec
}

// VerifyInput is a message, or its digest, with the signature that it claims.
type VerifyInput struct {
	// KeyId is the key that must have signed: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is what MessageType says, 1 to 4,096 bytes. A message signed as its digest verifies raw, and the other way
	// round, except with Ed25519.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MessageType says what Message is; absent means MessageTypeRaw.
	MessageType MessageType

	// Signature is the signature to check, in the form that Sign returns, 1 to 6,144 bytes.
	Signature []byte `kms:"required,len=1..6144,secret"`

	// SigningAlgorithm is what Sign was given.
	SigningAlgorithm SigningAlgorithmSpec `kms:"required"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// VerifyOutput says that the signature is the message's. A wrong one is KMSInvalidSignatureException instead.
type VerifyOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// SignatureValid is true: there is no output otherwise.
	SignatureValid bool `kms:"emitzero"`

	// SigningAlgorithm is the algorithm used.
	SigningAlgorithm SigningAlgorithmSpec
}

// GetPublicKeyInput names the asymmetric key whose public half is asked for.
type GetPublicKeyInput struct {
	// KeyId is a key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`
}

// GetPublicKeyOutput is a public key, and what may be done with it.
type GetPublicKeyOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// PublicKey is a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
	PublicKey []byte

	// KeySpec is the kind of key.
	KeySpec KeySpec

	// CustomerMasterKeySpec repeats KeySpec under its former name.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for, and tells which one of the lists below is not nil.
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

var opSign = define(operation[SignInput, SignOutput]{
	description: description{name: "Sign", keys: keyOrAlias, crossAccount: true, states: useState,
		usage: KeyUsageSignVerify, readOnly: true, tracked: true},
	admit: func(c *call, in *SignInput) error {
		return c.admitSigning(in.SigningAlgorithm, in.MessageType, in.Message)
	},
	act: func(c *call, in *SignInput) (*SignOutput, error) {
		sign := c.signer.Sign
		if in.MessageType == MessageTypeDigest {
			sign = c.signer.SignDigest
		}
		signature, err := sign(in.Message)
		if err != nil {
			return nil, err
		}
		return &SignOutput{KeyId: c.key().arn, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
	},
})

// Sign signs a message of up to 4,096 bytes, or the digest of one of any
// length. ECDSA signatures are DER (RFC 3279, section 2.2.3).
func (s *Service) Sign(ctx context.Context, in *SignInput) (*SignOutput, error) {
	return opSign.do(ctx, s, in)
}

var opVerify = define(operation[VerifyInput, VerifyOutput]{
	description: description{name: "Verify", keys: keyOrAlias, crossAccount: true, states: useState,
		usage: KeyUsageSignVerify, readOnly: true, tracked: true},
	admit: func(c *call, in *VerifyInput) error {
		return c.admitSigning(in.SigningAlgorithm, in.MessageType, in.Message)
	},
	act: func(c *call, in *VerifyInput) (*VerifyOutput, error) {
		verify := c.signer.Verify
		if in.MessageType == MessageTypeDigest {
			verify = c.signer.VerifyDigest
		}
		if err := verify(in.Signature, in.Message); err != nil {
			if errors.Is(err, crypto.ErrVerify) {
				return nil, exception(KMSInvalidSignatureException, "")
			}
			return nil, err
		}
		return &VerifyOutput{KeyId: c.key().arn, SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
	},
})

// Verify checks a signature. A false one is an error,
// KMSInvalidSignatureException: SignatureValid is never false.
func (s *Service) Verify(ctx context.Context, in *VerifyInput) (*VerifyOutput, error) {
	return opVerify.do(ctx, s, in)
}

// admitSigning refuses an algorithm or a kind of message that the call's key
// cannot sign, and else puts its key material to work.
func (c *call) admitSigning(algorithm SigningAlgorithmSpec, messageType MessageType, message []byte) error {
	k := c.key()
	if err := k.requireAlgorithm(string(algorithm)); err != nil {
		return err
	}
	key, err := primitive[crypto.SigningKey](c, k)
	if err != nil {
		return err
	}
	if c.signer, err = key.Signer(string(algorithm)); err != nil {
		return err
	}
	switch {
	case messageType == MessageTypeExternalMu:
		return invalid("Message type EXTERNAL_MU is incompatible with algorithm %s.", algorithm)
	case messageType == MessageTypeDigest && len(message) != c.signer.DigestSize():
		return invalid("Digest is invalid length for algorithm %s.", algorithm)
	}
	return nil
}

var opGetPublicKey = define(operation[GetPublicKeyInput, GetPublicKeyOutput]{
	description: description{name: "GetPublicKey", keys: keyOrAlias, crossAccount: true, states: publicState, readOnly: true},
	admit: func(c *call, in *GetPublicKeyInput) error {
		if k := c.key(); k.spec.kind != asymmetricKind {
			return exception(UnsupportedOperationException, "%s key spec is %s which is not valid for GetPublicKey.", k.arn, k.record.Spec)
		}
		return nil
	},
	act: func(c *call, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
		k := c.key()
		if len(k.materials) == 0 {
			return nil, exception(KMSInvalidStateException, "%s is pending import.", k.arn)
		}
		key, err := primitive[crypto.SigningKey](c, k)
		if err != nil {
			return nil, err
		}
		return &GetPublicKeyOutput{
			KeyId:                   k.arn,
			PublicKey:               key.PublicKey(),
			KeySpec:                 k.record.Spec,
			CustomerMasterKeySpec:   CustomerMasterKeySpec(k.record.Spec),
			KeyUsage:                k.record.Usage,
			EncryptionAlgorithms:    algorithmsOf[EncryptionAlgorithmSpec](k, KeyUsageEncryptDecrypt),
			SigningAlgorithms:       algorithmsOf[SigningAlgorithmSpec](k, KeyUsageSignVerify),
			KeyAgreementAlgorithms:  algorithmsOf[KeyAgreementAlgorithmSpec](k, KeyUsageKeyAgreement),
			EncapsulationAlgorithms: algorithmsOf[EncapsulationAlgorithmSpec](k, KeyUsageEncapsulateDecapsulate),
		}, nil
	},
})

// GetPublicKey returns the public half of an asymmetric key as a DER
// SubjectPublicKeyInfo (RFC 5280). Symmetric and HMAC keys have none:
// UnsupportedOperationException.
func (s *Service) GetPublicKey(ctx context.Context, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
	return opGetPublicKey.do(ctx, s, in)
}
