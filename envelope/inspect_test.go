package envelope

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func TestInspectReturnsWhatTheHeaderSays(t *testing.T) {
	pairs := map[string]string{"tenant": "7", "": "é"}
	for _, s := range suites {
		for _, frameLength := range []int{0, 100} {
			message := testWriter{suite: s.id, pairs: pairs, frameLength: frameLength}.seal(t, pattern(250))
			src := bytes.NewReader(message)
			info, err := Inspect(src, 0)
			require.NoError(t, err)
			parts := splitMessage(t, message)
			require.Equal(t, info.HeaderLength, len(message)-src.Len(), "nothing else was read")
			require.Equal(t, &MessageInfo{
				Suite: s.id, Version: int(message[0]), EncryptionContext: pairs, FrameLength: int64(frameLength),
				HeaderLength: len(parts.header.body) + len(parts.header.auth),
				EncryptedDataKeys: []EncryptedDataKey{{
					Provider: "test", ProviderInfo: parts.header.keys[0].info, Ciphertext: parts.header.keys[0].ciphertext,
				}},
			}, info)
			for n := range info.HeaderLength {
				_, err := Inspect(bytes.NewReader(message[:n]), 0)
				require.ErrorIs(t, err, ErrTruncated)
			}
		}
	}
}

func TestInspectShowsWhatIsUnderOldKeyMaterial(t *testing.T) {
	ctx := t.Context()
	svc, err := kms.New(kms.Config{})
	require.NoError(t, err)
	defer svc.Close()
	var keyrings []Keyring
	var arns []string
	for _, multiRegion := range []bool{false, true} {
		key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{MultiRegion: multiRegion})
		require.NoError(t, err)
		arns = append(arns, key.KeyMetadata.Arn)
		keyrings = append(keyrings, KMSKey(svc, key.KeyMetadata.Arn))
	}
	material := func(i int) string {
		out, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: arns[i]})
		require.NoError(t, err)
		require.Len(t, out.KeyMetadata.CurrentKeyMaterialId, 64)
		return out.KeyMetadata.CurrentKeyMaterialId
	}
	inspect := func(message []byte) []EncryptedDataKey {
		info, err := Inspect(bytes.NewReader(message), 0)
		require.NoError(t, err)
		return info.EncryptedDataKeys
	}
	e := newEncrypter(t, Multi(keyrings[0], keyrings[1], testKeyring()), EncrypterOptions{})
	d := newDecrypter(t, keyrings[0], DecrypterOptions{})
	message := sealed(t, e, pattern(10), nil)
	old := material(0)
	_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: arns[0]})
	require.NoError(t, err)
	require.NotEqual(t, old, material(0))

	keys := inspect(message)
	require.Len(t, keys, 3)
	for i, want := range []string{old, material(1)} {
		require.Equal(t, "aws-kms", keys[i].Provider)
		require.Equal(t, arns[i], keys[i].ProviderInfo)
		require.Equal(t, want, keys[i].KeyMaterialID)
	}
	require.Empty(t, keys[2].KeyMaterialID)
	var moved bytes.Buffer
	require.NoError(t, ReEncrypt(ctx, &moved, e, bytes.NewReader(message), d, nil))
	require.Equal(t, material(0), inspect(moved.Bytes())[0].KeyMaterialID)

	// A ciphertext that does not belong to the named key has no key material of it.
	h := splitMessage(t, message).header
	for name, key := range map[string]encryptedKey{
		"another key":      {providerKMS, arns[1], h.keys[0].ciphertext},
		"another provider": {"another", arns[0], h.keys[0].ciphertext},
		"another KMS":      {providerKMS, arns[0], append([]byte{1, 2, 2, 0, 0x78}, h.keys[0].ciphertext...)},
		"not an ARN":       {providerKMS, "alias/app", h.keys[0].ciphertext},
	} {
		require.Empty(t, keyMaterialID(&key), name)
	}
}

func TestInspectBoundsWhatItReads(t *testing.T) {
	var many []Keyring
	for range 10 {
		many = append(many, testKeyring())
	}
	message := sealed(t, newEncrypter(t, Multi(testKeyring(), many...), EncrypterOptions{MaxEncryptedDataKeys: 11}), nil, nil)
	src := bytes.NewReader(message)
	_, err := Inspect(src, 0)
	require.ErrorIs(t, err, ErrLimit)
	require.Equal(t, 2+1+32+2+2, len(message)-src.Len(), "it stops at the number of data keys")
	info, err := Inspect(bytes.NewReader(message), 11)
	require.NoError(t, err)
	require.Len(t, info.EncryptedDataKeys, 11)

	for _, limit := range []int{-1, maxKeys + 1} {
		_, err := Inspect(bytes.NewReader(message), limit)
		require.Error(t, err)
	}
	_, err = Inspect(nil, 0)
	require.Error(t, err)
	_, err = Inspect(bytes.NewReader([]byte("AgV4")), 0)
	require.ErrorIs(t, err, ErrNotMessage)
}
