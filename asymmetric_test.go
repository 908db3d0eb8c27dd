package kms_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// encryptionCases has every algorithm for asymmetric encryption, with the longest plaintext.
var encryptionCases = []struct {
	spec      kms.KeySpec
	algorithm kms.EncryptionAlgorithmSpec
	maximum   int
}{
	{kms.KeySpecRSA2048, kms.EncryptionAlgorithmRSAESOAEPSHA1, 214},
	{kms.KeySpecRSA2048, kms.EncryptionAlgorithmRSAESOAEPSHA256, 190},
	{kms.KeySpecSM2, kms.EncryptionAlgorithmSM2PKE, 1024},
}

// createEncryptionKey creates an asymmetric key for encryption.
func createEncryptionKey(t testing.TB, svc *kms.Service, spec kms.KeySpec) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageEncryptDecrypt})
}

func publicKey(t testing.TB, svc *kms.Service, keyID string) []byte {
	t.Helper()
	out, err := svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: keyID})
	require.NoError(t, err)
	return out.PublicKey
}

func TestAsymmetricEncryption(t *testing.T) {
	svc, _ := newService(t)
	symmetric := createKey(t, svc, nil)
	keys := map[kms.KeySpec]*kms.KeyMetadata{}
	for _, tt := range encryptionCases {
		if keys[tt.spec] == nil {
			keys[tt.spec] = createEncryptionKey(t, svc, tt.spec)
		}
		t.Run(string(tt.spec)+" "+string(tt.algorithm), func(t *testing.T) {
			key := keys[tt.spec]
			encrypt := func(plaintext []byte, dryRun bool) (*kms.EncryptOutput, error) {
				return svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: plaintext, EncryptionAlgorithm: tt.algorithm, DryRun: dryRun})
			}
			decrypt := func(change func(*kms.DecryptInput), ciphertext []byte) (*kms.DecryptOutput, error) {
				in := &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: ciphertext, EncryptionAlgorithm: tt.algorithm}
				change(in)
				return svc.Decrypt(t.Context(), in)
			}
			unchanged := func(*kms.DecryptInput) {}
			for _, size := range []int{1, tt.maximum} {
				plaintext := make([]byte, size)
				plaintext[size-1] = 7
				out, err := encrypt(plaintext, false)
				require.NoError(t, err)
				require.Equal(t, &kms.EncryptOutput{KeyId: key.Arn, CiphertextBlob: out.CiphertextBlob, EncryptionAlgorithm: tt.algorithm}, out)
				back, err := decrypt(unchanged, out.CiphertextBlob)
				require.NoError(t, err)
				require.Equal(t, &kms.DecryptOutput{KeyId: key.Arn, Plaintext: plaintext, EncryptionAlgorithm: tt.algorithm}, back)
				_, err = encrypt(plaintext, true)
				require.ErrorIs(t, err, kms.DryRunOperationException)

				for what, change := range map[string]func(*kms.DecryptInput){
					"altered":         func(in *kms.DecryptInput) { in.CiphertextBlob = flip(in.CiphertextBlob, 8*len(in.CiphertextBlob)-1) },
					"truncated":       func(in *kms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[1:] },
					"no algorithm":    func(in *kms.DecryptInput) { in.EncryptionAlgorithm = "" },
					"not of this key": func(in *kms.DecryptInput) { in.CiphertextBlob = []byte("words") },
					"one altered, tried": func(in *kms.DecryptInput) {
						in.CiphertextBlob, in.DryRun = flip(in.CiphertextBlob, 8*len(in.CiphertextBlob)-1), true
					},
				} {
					_, err = decrypt(change, out.CiphertextBlob)
					requireError(t, err, kms.InvalidCiphertextException, "")
					require.Error(t, err, what)
				}
				_, err = decrypt(func(in *kms.DecryptInput) { in.DryRun = true }, out.CiphertextBlob)
				require.ErrorIs(t, err, kms.DryRunOperationException)
				_, err = decrypt(func(in *kms.DecryptInput) { in.EncryptionContext = someContext }, out.CiphertextBlob)
				require.ErrorIs(t, err, kms.ValidationException)
				_, err = decrypt(func(in *kms.DecryptInput) { in.KeyId = "" }, out.CiphertextBlob)
				requireError(t, err, kms.ValidationException, "KeyId must not be null")
				_, err = decrypt(func(in *kms.DecryptInput) { in.KeyId = symmetric.KeyId }, out.CiphertextBlob)
				requireError(t, err, kms.InvalidKeyUsageException, "Algorithm %s is incompatible with key spec SYMMETRIC_DEFAULT.", tt.algorithm)
			}
			for _, dryRun := range []bool{false, true} {
				_, err := encrypt(make([]byte, tt.maximum+1), dryRun)
				requireError(t, err, kms.ValidationException, "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", tt.algorithm, tt.spec, tt.maximum)
			}
			_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
			requireError(t, err, kms.InvalidKeyUsageException, "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec %s.", tt.spec)
			_, err = svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x"), EncryptionAlgorithm: tt.algorithm, EncryptionContext: someContext})
			require.ErrorIs(t, err, kms.ValidationException)
		})
	}
}

func TestReEncryptBetweenSymmetricAndAsymmetricKeys(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	key := createEncryptionKey(t, f.svc, kms.KeySpecRSA2048)
	const oaep = kms.EncryptionAlgorithmRSAESOAEPSHA256
	out, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: f.ciphertext, DestinationKeyId: key.KeyId, DestinationEncryptionAlgorithm: oaep})
	require.NoError(t, err)
	require.Equal(t, &kms.ReEncryptOutput{KeyId: key.Arn, SourceKeyId: f.symmetric.Arn, CiphertextBlob: out.CiphertextBlob,
		SourceEncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault, DestinationEncryptionAlgorithm: oaep,
		SourceKeyMaterialId: f.symmetric.CurrentKeyMaterialId}, out)
	event := s.take()
	require.Equal(t, `{"sourceKeyMaterialId":"`+f.symmetric.CurrentKeyMaterialId+`"}`, event[len(event)-1].AdditionalEventData.String())

	back := &kms.ReEncryptInput{CiphertextBlob: out.CiphertextBlob, SourceKeyId: key.KeyId, SourceEncryptionAlgorithm: oaep, DestinationKeyId: f.other.KeyId}
	again, err := f.svc.ReEncrypt(t.Context(), back)
	require.NoError(t, err)
	require.Equal(t, &kms.ReEncryptOutput{KeyId: f.other.Arn, SourceKeyId: key.Arn, CiphertextBlob: again.CiphertextBlob,
		SourceEncryptionAlgorithm: oaep, DestinationEncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault,
		DestinationKeyMaterialId: f.other.CurrentKeyMaterialId}, again)
	requireDecrypts(t, f.svc, again.CiphertextBlob, fixtureMessage)
	event = s.take()
	require.Equal(t, `{"destinationKeyMaterialId":"`+f.other.CurrentKeyMaterialId+`"}`, event[len(event)-2].AdditionalEventData.String())

	back.SourceEncryptionAlgorithm = kms.EncryptionAlgorithmRSAESOAEPSHA1
	for _, back.DryRun = range []bool{false, true} {
		_, err = f.svc.ReEncrypt(t.Context(), back)
		requireError(t, err, kms.InvalidCiphertextException, "")
	}
	long := &kms.ReEncryptInput{CiphertextBlob: encrypt(t, f.svc, f.symmetric.KeyId, string(make([]byte, 191))),
		DestinationKeyId: key.KeyId, DestinationEncryptionAlgorithm: oaep}
	for _, long.DryRun = range []bool{false, true} {
		_, err = f.svc.ReEncrypt(t.Context(), long)
		requireError(t, err, kms.ValidationException, "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")
	}
}

func TestWhatThePublicKeyEncryptsElsewhereDecrypts(t *testing.T) {
	svc, _ := newService(t)
	key := createEncryptionKey(t, svc, kms.KeySpecRSA2048)
	parsed, err := x509.ParsePKIXPublicKey(publicKey(t, svc, key.KeyId))
	require.NoError(t, err)
	for algorithm, newHash := range map[kms.EncryptionAlgorithmSpec]func() hash.Hash{
		kms.EncryptionAlgorithmRSAESOAEPSHA1: sha1.New, kms.EncryptionAlgorithmRSAESOAEPSHA256: sha256.New,
	} {
		ciphertext, err := rsa.EncryptOAEP(newHash(), rand.Reader, parsed.(*rsa.PublicKey), []byte(fixtureMessage), nil)
		require.NoError(t, err)
		out, err := svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: ciphertext, EncryptionAlgorithm: algorithm})
		require.NoError(t, err)
		require.Equal(t, fixtureMessage, string(out.Plaintext))
	}
}
