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

	// Message is the message, 1 to 4,096 bytes. Hash a longer one and give its hash as the message, on both sides.
	Message []byte `kms:"required,len=1..4096,secret"`

	// MacAlgorithm is the one that the key's KeySpec has.
	MacAlgorithm MacAlgorithmSpec `kms:"required"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// GenerateMacOutput is the message's MAC.
type GenerateMacOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// Mac is the HMAC (RFC 2104) in full length: 28, 32, 48 or 64 bytes.
	Mac []byte `kms:"secret"`

	// MacAlgorithm is the algorithm used.
	MacAlgorithm MacAlgorithmSpec
}

// VerifyMacInput is a message with the MAC that it claims.
type VerifyMacInput struct {
	// KeyId is the HMAC key that must have made the MAC: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Message is the message as GenerateMac was given it, 1 to 4,096 bytes.
	Message []byte `kms:"required,len=1..4096,secret"`

	// Mac is the MAC to check, in full length.
	Mac []byte `kms:"required,len=1..6144,secret"`

	// MacAlgorithm is what GenerateMac was given.
	MacAlgorithm MacAlgorithmSpec `kms:"required"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// VerifyMacOutput says that the MAC is the message's. A wrong one is KMSInvalidMacException instead.
type VerifyMacOutput struct {
	// KeyId is the ARN of the key used.
	KeyId string

	// MacValid is true: there is no output otherwise.
	MacValid bool `kms:"emitzero"`

	// MacAlgorithm is the algorithm used.
	MacAlgorithm MacAlgorithmSpec
}

var opGenerateMac = define(operation[GenerateMacInput, GenerateMacOutput]{
	description: description{name: "GenerateMac", keys: keyOrAlias, crossAccount: true, states: useState,
		usage: KeyUsageGenerateVerifyMac, readOnly: true, tracked: true},
	admit: func(c *call, in *GenerateMacInput) error { return c.key().requireAlgorithm(string(in.MacAlgorithm)) },
	act: func(c *call, in *GenerateMacInput) (*GenerateMacOutput, error) {
		key, err := primitive[crypto.MAC](c, c.key())
		if err != nil {
			return nil, err
		}
		mac, err := key.ComputeMAC(in.Message)
		if err != nil {
			return nil, err
		}
		return &GenerateMacOutput{KeyId: c.key().arn, Mac: mac, MacAlgorithm: in.MacAlgorithm}, nil
	},
})

// GenerateMac returns the HMAC of a message, as long as the algorithm's hash.
func (s *Service) GenerateMac(ctx context.Context, in *GenerateMacInput) (*GenerateMacOutput, error) {
	return opGenerateMac.do(ctx, s, in)
}

var opVerifyMac = define(operation[VerifyMacInput, VerifyMacOutput]{
	description: description{name: "VerifyMac", keys: keyOrAlias, crossAccount: true, states: useState,
		usage: KeyUsageGenerateVerifyMac, readOnly: true, tracked: true},
	admit: func(c *call, in *VerifyMacInput) error { return c.key().requireAlgorithm(string(in.MacAlgorithm)) },
	act: func(c *call, in *VerifyMacInput) (*VerifyMacOutput, error) {
		key, err := primitive[crypto.MAC](c, c.key())
		if err != nil {
			return nil, err
		}
		if err := key.VerifyMAC(in.Mac, in.Message); err != nil {
			if errors.Is(err, crypto.ErrVerify) {
				return nil, exception(KMSInvalidMacException, "")
			}
			return nil, err
		}
		return &VerifyMacOutput{KeyId: c.key().arn, MacValid: true, MacAlgorithm: in.MacAlgorithm}, nil
	},
})

// VerifyMac checks an HMAC in constant time. A false one is an error,
// KMSInvalidMacException: MacValid is never false.
func (s *Service) VerifyMac(ctx context.Context, in *VerifyMacInput) (*VerifyMacOutput, error) {
	return opVerifyMac.do(ctx, s, in)
}
