package kms

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/spec"
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
	SignatureValid bool `kms:"always"`

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
		sign := signer.Sign
		if in.MessageType == MessageTypeDigest {
			sign = signer.SignDigest
		}
		signature, err := sign(in.Message)
		if err != nil {
			return nil, err
		}
		return &SignOutput{KeyId: c.key().ARN, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
	},
})

// Sign signs a message of up to 4,096 bytes, or the digest of one of any
// length. ECDSA signatures are DER (RFC 3279, section 2.2.3).
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

// Verify checks a signature. A false one is an error,
// KMSInvalidSignatureException: SignatureValid is never false.
func (s *Service) Verify(ctx context.Context, in *VerifyInput) (*VerifyOutput, error) {
	return opVerify.do(ctx, s, in)
}

// verifySignature refuses a signature that is not the message's.
func verifySignature(signer crypto.Signer, in *VerifyInput) error {
	verify := signer.Verify
	if in.MessageType == MessageTypeDigest {
		verify = signer.VerifyDigest
	}
	err := verify(in.Signature, in.Message)
	if errors.Is(err, crypto.ErrVerify) {
		return exception(KMSInvalidSignatureException, "")
	}
	return err
}

// signer returns the signer of the call's key for an algorithm. It refuses an algorithm or a kind of
// message that the key cannot sign.
func (c *call) signer(algorithm SigningAlgorithmSpec, messageType MessageType, message []byte) (crypto.Signer, error) {
	k := c.key()
	if err := requireAlgorithm(k, string(algorithm)); err != nil {
		return nil, err
	}
	p, err := primitive[crypto.SigningKey](c, k)
	if err != nil {
		return nil, err
	}
	signer, err := p.Signer(string(algorithm))
	switch {
	case err != nil:
		return nil, err
	case messageType == MessageTypeExternalMu:
		return nil, invalid("Message type EXTERNAL_MU is incompatible with key spec %s.", k.Record.Spec)
	case messageType == MessageTypeDigest && len(message) != signer.DigestSize():
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
		p, err := primitive[crypto.SigningKey](c, k)
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

// GetPublicKey returns the public half of an asymmetric key as a DER
// SubjectPublicKeyInfo (RFC 5280). Symmetric and HMAC keys have none:
// UnsupportedOperationException.
func (s *Service) GetPublicKey(ctx context.Context, in *GetPublicKeyInput) (*GetPublicKeyOutput, error) {
	return opGetPublicKey.do(ctx, s, in)
}
