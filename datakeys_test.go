package kms_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func TestADataKeyAndItsCiphertextAreTheSameKey(t *testing.T) {
	f := newFixture(t)
	for name, tt := range map[string]struct {
		spec  kms.DataKeySpec
		bytes *int32
		size  int
	}{
		"AES_128":    {kms.DataKeySpecAES128, nil, 16},
		"AES_256":    {kms.DataKeySpecAES256, nil, 32},
		"1 byte":     {"", new(int32(1)), 1},
		"64 bytes":   {"", new(int32(64)), 64},
		"1024 bytes": {"", new(int32(1024)), 1024},
	} {
		t.Run(name, func(t *testing.T) {
			clear, err := f.svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{
				KeyId: fixtureAlias, KeySpec: tt.spec, NumberOfBytes: tt.bytes, EncryptionContext: someContext})
			require.NoError(t, err)
			require.Len(t, clear.Plaintext, tt.size)
			require.Equal(t, &kms.GenerateDataKeyOutput{KeyId: f.symmetric.Arn, Plaintext: clear.Plaintext,
				CiphertextBlob: clear.CiphertextBlob, KeyMaterialId: f.symmetric.CurrentKeyMaterialId}, clear)

			sealed, err := f.svc.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{
				KeyId: fixtureAlias, KeySpec: tt.spec, NumberOfBytes: tt.bytes, EncryptionContext: someContext})
			require.NoError(t, err)
			require.Equal(t, &kms.GenerateDataKeyWithoutPlaintextOutput{KeyId: f.symmetric.Arn,
				CiphertextBlob: sealed.CiphertextBlob, KeyMaterialId: f.symmetric.CurrentKeyMaterialId}, sealed)

			var opened [][]byte
			for _, ciphertext := range [][]byte{clear.CiphertextBlob, sealed.CiphertextBlob} {
				d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: someContext})
				require.NoError(t, err)
				require.Len(t, d.Plaintext, tt.size)
				opened = append(opened, d.Plaintext)
				_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
				requireError(t, err, kms.InvalidCiphertextException, "")
			}
			require.Equal(t, clear.Plaintext, opened[0])
			if tt.size >= 16 {
				require.NotEqual(t, opened[0], opened[1])
				require.False(t, bytes.Contains(clear.CiphertextBlob, clear.Plaintext))
			}
		})
	}
}

func TestADataKeyNeedsOneSize(t *testing.T) {
	f := newFixture(t)
	const either = "Please specify either number of bytes or key spec."
	const bounds = "1 validation error detected: Value '%d' at 'numberOfBytes' failed to satisfy constraint: Member must have value %s"
	for name, tt := range map[string]struct {
		spec    kms.DataKeySpec
		bytes   *int32
		message string
	}{
		"neither":      {"", nil, either},
		"both":         {kms.DataKeySpecAES256, new(int32(32)), either},
		"no bytes":     {"", new(int32(0)), fmt.Sprintf(bounds, 0, "greater than or equal to 1")},
		"less than no": {"", new(int32(-1 << 31)), fmt.Sprintf(bounds, -1<<31, "greater than or equal to 1")},
		"1025 bytes":   {"", new(int32(1025)), fmt.Sprintf(bounds, 1025, "less than or equal to 1024")},
		"2^31 - 1":     {"", new(int32(1<<31 - 1)), fmt.Sprintf(bounds, 1<<31-1, "less than or equal to 1024")},
		"AES_192": {"AES_192", nil,
			"1 validation error detected: Value 'AES_192' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_128, AES_256]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, KeySpec: tt.spec, NumberOfBytes: tt.bytes})
			requireError(t, err, kms.ValidationException, "%s", tt.message)
			_, err = f.svc.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{
				KeyId: f.symmetric.KeyId, KeySpec: tt.spec, NumberOfBytes: tt.bytes})
			requireError(t, err, kms.ValidationException, "%s", tt.message)
		})
	}
}

func TestGenerateRandomReturnsAsManyBytesAsAsked(t *testing.T) {
	svc, _ := newService(t)
	seen := map[string]bool{}
	for _, n := range []int32{1, 2, 31, 32, 1023, 1024} {
		out, err := svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(n)})
		require.NoError(t, err)
		require.Len(t, out.Plaintext, int(n))
		require.Nil(t, out.CiphertextForRecipient)
	}
	for range 100 {
		out, err := svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(16))})
		require.NoError(t, err)
		seen[string(out.Plaintext)] = true
	}
	require.Len(t, seen, 100)
}
