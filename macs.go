package kms

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/crypto"
)

// GenerateMacInput is a message to authenticate.
type GenerateMacInput struct {
	// KeyId is an HMAC key: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is the message, 1 to 4,096 bytes. For a longer one, pass its hash here and to
	// VerifyMac.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MacAlgorithm is the one of the key.
	MacAlgorithm MacAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// GenerateMacOutput is the MAC of a message.
type GenerateMacOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// Mac is the HMAC (RFC 2104), not truncated: 28, 32, 48 or 64 bytes.
	Mac []byte `kms:"secret"`

	// MacAlgorithm is the algorithm used.
	MacAlgorithm MacAlgorithmSpec
}

// VerifyMacInput is a message and a MAC to verify.
type VerifyMacInput struct {
	// KeyId is the HMAC key that must have computed the MAC: key ID, key ARN, alias name or alias
	// ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is the message that GenerateMac was given, 1 to 4,096 bytes.
	Message []byte `kms:"required,len=1..4096,secret"`

	// Mac is the MAC to verify, not truncated.
	Mac []byte `kms:"required,len=1..6144,secret"`

	// MacAlgorithm is the algorithm that GenerateMac was given.
	MacAlgorithm MacAlgorithmSpec `kms:"required"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// VerifyMacOutput confirms that the MAC is valid. An invalid one is an error,
// KMSInvalidMacException.
type VerifyMacOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// MacValid is always true.
	MacValid bool `kms:"emitzero"`

	// MacAlgorithm is the algorithm used.
	MacAlgorithm MacAlgorithmSpec
}

var opGenerateMac = define(description{
	name: "GenerateMac", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageGenerateVerifyMac, readOnly: true, tracked: true,
}, steps[GenerateMacInput, GenerateMacOutput]{
	admit: func(c *call, in *GenerateMacInput) error { return requireAlgorithm(c.key(), string(in.MacAlgorithm)) },
	act: func(c *call, in *GenerateMacInput) (*GenerateMacOutput, error) {
		p, err := primitive[crypto.MAC](c, c.key())
		if err != nil {
			return nil, err
		}
		mac, err := p.ComputeMAC(in.Message)
		if err != nil {
			return nil, err
		}
		return &GenerateMacOutput{KeyId: c.key().ARN, Mac: mac, MacAlgorithm: in.MacAlgorithm}, nil
	},
})

// GenerateMac returns the HMAC of a message of up to 4,096 bytes.
func (s *Service) GenerateMac(ctx context.Context, in *GenerateMacInput) (*GenerateMacOutput, error) {
	return opGenerateMac.do(ctx, s, in)
}

var opVerifyMac = define(description{
	name: "VerifyMac", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageGenerateVerifyMac, readOnly: true, tracked: true,
}, steps[VerifyMacInput, VerifyMacOutput]{
	admit: func(c *call, in *VerifyMacInput) error {
		if err := requireAlgorithm(c.key(), string(in.MacAlgorithm)); err != nil || !in.DryRun {
			return err
		}
		return c.verifyMAC(in)
	},
	act: func(c *call, in *VerifyMacInput) (*VerifyMacOutput, error) {
		if err := c.verifyMAC(in); err != nil {
			return nil, err
		}
		return &VerifyMacOutput{KeyId: c.key().ARN, MacValid: true, MacAlgorithm: in.MacAlgorithm}, nil
	},
})

// VerifyMac verifies an HMAC in constant time. The error is [KMSInvalidMacException] if it is not
// valid: MacValid is never false.
func (s *Service) VerifyMac(ctx context.Context, in *VerifyMacInput) (*VerifyMacOutput, error) {
	return opVerifyMac.do(ctx, s, in)
}

// verifyMAC refuses a MAC that is not the message's.
func (c *call) verifyMAC(in *VerifyMacInput) error {
	p, err := primitive[crypto.MAC](c, c.key())
	if err != nil {
		return err
	}
	if err = p.VerifyMAC(in.Mac, in.Message); errors.Is(err, crypto.ErrVerify) {
		return exception(KMSInvalidMacException, "")
	}
	return err
}
