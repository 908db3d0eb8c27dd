package kms_test

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

func TestADataKeyPairAndItsCiphertextAreTheSamePair(t *testing.T) {
	f := newFixture(t)
	for _, spec := range (kms.DataKeyPairSpec)("").Values() {
		if spec == kms.DataKeyPairSpecRSA3072 || spec == kms.DataKeyPairSpecRSA4096 {
			continue // seconds, for nothing that RSA_2048 lacks
		}
		t.Run(string(spec), func(t *testing.T) {
			clear, err := f.svc.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{
				KeyId: fixtureAlias, KeyPairSpec: spec, EncryptionContext: someContext})
			require.NoError(t, err)
			require.Equal(t, &kms.GenerateDataKeyPairOutput{KeyId: f.symmetric.Arn, KeyPairSpec: spec, PublicKey: clear.PublicKey,
				PrivateKeyPlaintext: clear.PrivateKeyPlaintext, PrivateKeyCiphertextBlob: clear.PrivateKeyCiphertextBlob,
				KeyMaterialId: f.symmetric.CurrentKeyMaterialId}, clear)

			sealed, err := f.svc.GenerateDataKeyPairWithoutPlaintext(t.Context(), &kms.GenerateDataKeyPairWithoutPlaintextInput{
				KeyId: fixtureAlias, KeyPairSpec: spec, EncryptionContext: someContext})
			require.NoError(t, err)
			require.Equal(t, &kms.GenerateDataKeyPairWithoutPlaintextOutput{KeyId: f.symmetric.Arn, KeyPairSpec: spec, PublicKey: sealed.PublicKey,
				PrivateKeyCiphertextBlob: sealed.PrivateKeyCiphertextBlob, KeyMaterialId: f.symmetric.CurrentKeyMaterialId}, sealed)
			require.NotEqual(t, clear.PublicKey, sealed.PublicKey)

			var opened [][]byte
			for _, ciphertext := range [][]byte{clear.PrivateKeyCiphertextBlob, sealed.PrivateKeyCiphertextBlob} {
				d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: someContext})
				require.NoError(t, err)
				opened = append(opened, d.Plaintext)
				_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
				requireError(t, err, kms.InvalidCiphertextException, "")
			}
			require.Equal(t, clear.PrivateKeyPlaintext, opened[0])
			for i, public := range [][]byte{clear.PublicKey, sealed.PublicKey} {
				requireKeyPair(t, spec, opened[i], public)
			}
		})
	}
}

// requireKeyPair requires a private key to be that of a public key, by the standard library, which
// does not know all kinds.
func requireKeyPair(t *testing.T, spec kms.DataKeyPairSpec, private, public []byte) {
	t.Helper()
	switch spec {
	case kms.DataKeyPairSpecSM2, kms.DataKeyPairSpecECCSECGP256K1:
		var form struct {
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}
		rest, err := asn1.Unmarshal(private, &form)
		require.NoError(t, err)
		require.Empty(t, rest)
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			PublicKey asn1.BitString
		}
		rest, err = asn1.Unmarshal(public, &info)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Equal(t, form.Algorithm, info.Algorithm)
		require.True(t, bytes.HasSuffix(form.Key, info.PublicKey.Bytes), "RFC 5915: the public key comes last")
	case kms.DataKeyPairSpecMLKEM512, kms.DataKeyPairSpecMLKEM768, kms.DataKeyPairSpecMLKEM1024:
		require.Len(t, private, 86, "the seed, in PKCS#8")
		seed := private[len(private)-64:]
		var want []byte
		switch spec {
		case kms.DataKeyPairSpecMLKEM768:
			k, err := mlkem.NewDecapsulationKey768(seed)
			require.NoError(t, err)
			want = k.EncapsulationKey().Bytes()
		case kms.DataKeyPairSpecMLKEM1024:
			k, err := mlkem.NewDecapsulationKey1024(seed)
			require.NoError(t, err)
			want = k.EncapsulationKey().Bytes()
		}
		require.True(t, bytes.HasSuffix(public, want))
	default:
		parsed, err := x509.ParsePKCS8PrivateKey(private)
		require.NoError(t, err)
		want, err := x509.MarshalPKIXPublicKey(parsed.(crypto.Signer).Public())
		require.NoError(t, err)
		require.Equal(t, want, public)
		if spec == kms.DataKeyPairSpecECCNISTP256 {
			require.Len(t, private, 150)
		}
	}
}

// The longest private key is that of RSA_4096.
func TestTheLongestEncryptedDataKeyPairFitsIntoDecrypt(t *testing.T) {
	f := newFixture(t)
	out, err := f.svc.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: f.symmetric.KeyId, KeyPairSpec: kms.DataKeyPairSpecRSA4096})
	require.NoError(t, err)
	d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob})
	require.NoError(t, err)
	require.Equal(t, out.PrivateKeyPlaintext, d.Plaintext)
	r, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob, DestinationKeyId: f.other.KeyId})
	require.NoError(t, err)
	require.Equal(t, f.other.Arn, r.KeyId)
}

func TestADataKeyPairNeedsASymmetricKey(t *testing.T) {
	f := newFixture(t)
	asymmetric := createEncryptionKey(t, f.svc, kms.KeySpecSM2)
	for _, operation := range []string{"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"} {
		in := f.example(t, operation)
		keyMembers(in)[0].SetString(asymmetric.KeyId)
		_, err := f.invoke(t, operation, in)
		requireError(t, err, kms.InvalidKeyUsageException, "You cannot generate a data key pair with an asymmetric CMK")
		keyMembers(in)[0].SetString(f.mac.KeyId)
		_, err = f.invoke(t, operation, in)
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is GENERATE_VERIFY_MAC which is not valid for %s.", f.mac.Arn, operation)
	}
	_, err := f.svc.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: f.symmetric.KeyId, KeyPairSpec: "ML_DSA_44"})
	require.ErrorIs(t, err, kms.ValidationException, "there are no such data key pairs")
}
