package awsclient

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// EnvelopeKMS returns client as an [envelope.KMS], so that package envelope encrypts data keys with
// AWS KMS itself, or with any KMS that the client talks to. Errors are the SDK's.
func EnvelopeKMS(client *awskms.Client) envelope.KMS {
	if client == nil {
		return nil // which keyrings refuse
	}
	return sdkKMS{client}
}

// sdkKMS passes on the members that package envelope uses.
type sdkKMS struct{ client *awskms.Client }

func (s sdkKMS) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
	out, err := s.client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{
		KeyId:             aws.String(in.KeyId),
		KeySpec:           types.DataKeySpec(in.KeySpec),
		NumberOfBytes:     in.NumberOfBytes,
		EncryptionContext: in.EncryptionContext,
		GrantTokens:       in.GrantTokens,
	})
	if err != nil {
		return nil, err
	}
	return &kms.GenerateDataKeyOutput{KeyId: aws.ToString(out.KeyId), Plaintext: out.Plaintext, CiphertextBlob: out.CiphertextBlob}, nil
}

func (s sdkKMS) Encrypt(ctx context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
	out, err := s.client.Encrypt(ctx, &awskms.EncryptInput{
		KeyId:             aws.String(in.KeyId),
		Plaintext:         in.Plaintext,
		EncryptionContext: in.EncryptionContext,
		GrantTokens:       in.GrantTokens,
	})
	if err != nil {
		return nil, err
	}
	return &kms.EncryptOutput{KeyId: aws.ToString(out.KeyId), CiphertextBlob: out.CiphertextBlob}, nil
}

func (s sdkKMS) Decrypt(ctx context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
	request := &awskms.DecryptInput{
		CiphertextBlob:    in.CiphertextBlob,
		EncryptionContext: in.EncryptionContext,
		GrantTokens:       in.GrantTokens,
	}
	if in.KeyId != "" {
		request.KeyId = aws.String(in.KeyId)
	}
	out, err := s.client.Decrypt(ctx, request)
	if err != nil {
		return nil, err
	}
	return &kms.DecryptOutput{KeyId: aws.ToString(out.KeyId), Plaintext: out.Plaintext}, nil
}
