package kms_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

var macSpecs = []struct {
	spec      kms.KeySpec
	algorithm kms.MacAlgorithmSpec
	size      int
}{
	{kms.KeySpecHMAC224, kms.MacAlgorithmHMACSHA224, 28},
	{kms.KeySpecHMAC256, kms.MacAlgorithmHMACSHA256, 32},
	{kms.KeySpecHMAC384, kms.MacAlgorithmHMACSHA384, 48},
	{kms.KeySpecHMAC512, kms.MacAlgorithmHMACSHA512, 64},
}

func TestAMacVerifiesItsMessageAlone(t *testing.T) {
	svc, _ := newService(t)
	for _, spec := range macSpecs {
		t.Run(string(spec.spec), func(t *testing.T) {
			in := &kms.CreateKeyInput{KeySpec: spec.spec, KeyUsage: kms.KeyUsageGenerateVerifyMac}
			key, other := createKey(t, svc, in), createKey(t, svc, in)
			require.Equal(t, []kms.MacAlgorithmSpec{spec.algorithm}, key.MacAlgorithms)
			for _, size := range []int{1, 100, 4096} {
				message := make([]byte, size)
				out, err := svc.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: key.KeyId, Message: message, MacAlgorithm: spec.algorithm})
				require.NoError(t, err)
				require.Len(t, out.Mac, spec.size)
				require.Equal(t, &kms.GenerateMacOutput{KeyId: key.Arn, Mac: out.Mac, MacAlgorithm: spec.algorithm}, out)
				again, err := svc.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: key.Arn, Message: message, MacAlgorithm: spec.algorithm})
				require.NoError(t, err)
				require.Equal(t, out.Mac, again.Mac, "a MAC is deterministic")

				verify := func(keyID string, message, mac []byte) (*kms.VerifyMacOutput, error) {
					return svc.VerifyMac(t.Context(), &kms.VerifyMacInput{KeyId: keyID, Message: message, Mac: mac, MacAlgorithm: spec.algorithm})
				}
				valid, err := verify(key.KeyId, message, out.Mac)
				require.NoError(t, err)
				require.Equal(t, &kms.VerifyMacOutput{KeyId: key.Arn, MacValid: true, MacAlgorithm: spec.algorithm}, valid)

				refused := func(keyID string, message, mac []byte) {
					t.Helper()
					out, err := verify(keyID, message, mac)
					require.Nil(t, out)
					requireError(t, err, kms.KMSInvalidMacException, "")
				}
				for bit := range 8 * len(out.Mac) {
					refused(key.KeyId, message, flip(out.Mac, bit))
				}
				for n := 1; n < len(out.Mac); n++ {
					refused(key.KeyId, message, out.Mac[:n])
				}
				refused(key.KeyId, message, append(out.Mac[:spec.size:spec.size], 0))
				refused(key.KeyId, message, make([]byte, 6144))
				refused(key.KeyId, flip(message, 8*size-1), out.Mac)
				if size > 1 {
					refused(key.KeyId, message[1:], out.Mac)
				}
				refused(other.KeyId, message, out.Mac)
			}
		})
	}
}

func TestAMacNeedsAnHMACKey(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		key   *kms.KeyMetadata
		usage string
	}{{f.symmetric, "ENCRYPT_DECRYPT"}, {f.signing, "SIGN_VERIFY"}} {
		_, err := f.svc.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: tt.key.KeyId, Message: []byte("x"), MacAlgorithm: kms.MacAlgorithmHMACSHA256})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for GenerateMac.", tt.key.Arn, tt.usage)
		_, err = f.svc.VerifyMac(t.Context(), &kms.VerifyMacInput{KeyId: tt.key.KeyId, Message: []byte("x"), Mac: f.tag, MacAlgorithm: kms.MacAlgorithmHMACSHA256})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for VerifyMac.", tt.key.Arn, tt.usage)
	}
}
