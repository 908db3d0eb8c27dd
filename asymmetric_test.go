package kms_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
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

// createAgreementKey creates a key for DeriveSharedSecret.
func createAgreementKey(t testing.TB, svc *kms.Service, spec kms.KeySpec) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageKeyAgreement})
}

// createKEMKey creates a key for Encapsulate and Decapsulate.
func createKEMKey(t testing.TB, svc *kms.Service, spec kms.KeySpec) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageEncapsulateDecapsulate})
}

func publicKey(t testing.TB, svc *kms.Service, keyID string) []byte {
	t.Helper()
	out, err := svc.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: keyID})
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

	empty, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, parsed.(*rsa.PublicKey), nil, nil)
	require.NoError(t, err)
	_, err = svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: empty, SourceKeyId: key.KeyId, SourceEncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256,
		DestinationKeyId: createEncryptionKey(t, svc, kms.KeySpecSM2).KeyId, DestinationEncryptionAlgorithm: kms.EncryptionAlgorithmSM2PKE})
	requireError(t, err, kms.ValidationException, "Algorithm SM2PKE and key spec SM2 cannot encrypt empty data.")
}

func TestBothPartiesDeriveTheSameSecret(t *testing.T) {
	svc, _ := newService(t)
	other := publicKey(t, svc, createSigningKey(t, svc).KeyId) // P-256
	for spec, size := range map[kms.KeySpec]int{
		kms.KeySpecECCNISTP256: 32, kms.KeySpecECCNISTP384: 48, kms.KeySpecECCNISTP521: 66, kms.KeySpecSM2: 32,
	} {
		t.Run(string(spec), func(t *testing.T) {
			a, b := createAgreementKey(t, svc, spec), createAgreementKey(t, svc, spec)
			derive := func(keyID string, peer []byte, dryRun bool) (*kms.DeriveSharedSecretOutput, error) {
				return svc.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{
					KeyId: keyID, PublicKey: peer, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, DryRun: dryRun})
			}
			peer := publicKey(t, svc, b.KeyId)
			mine, err := derive(a.KeyId, peer, false)
			require.NoError(t, err)
			require.Len(t, mine.SharedSecret, size)
			require.Equal(t, &kms.DeriveSharedSecretOutput{KeyId: a.Arn, SharedSecret: mine.SharedSecret,
				KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, KeyOrigin: kms.OriginAWSKMS}, mine)
			theirs, err := derive(b.KeyId, publicKey(t, svc, a.KeyId), false)
			require.NoError(t, err)
			require.Equal(t, mine.SharedSecret, theirs.SharedSecret)

			wrong := [][]byte{[]byte("words"), peer[1:], append(peer, 0), flip(peer, 8*len(peer)-1)}
			if spec != kms.KeySpecECCNISTP256 {
				wrong = append(wrong, other) // a public key of another curve
			}
			for _, peer := range wrong {
				for _, dryRun := range []bool{false, true} {
					_, err = derive(a.KeyId, peer, dryRun)
					requireError(t, err, kms.ValidationException, "")
				}
			}
		})
	}
}

func TestADerivedSecretIsThatOfTheStandardLibrary(t *testing.T) {
	svc, _ := newService(t)
	key := createAgreementKey(t, svc, kms.KeySpecECCNISTP384)
	private, err := ecdh.P384().GenerateKey(rand.Reader)
	require.NoError(t, err)
	peer, err := x509.MarshalPKIXPublicKey(private.PublicKey())
	require.NoError(t, err)
	out, err := svc.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{
		KeyId: key.KeyId, PublicKey: peer, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH})
	require.NoError(t, err)

	parsed, err := x509.ParsePKIXPublicKey(publicKey(t, svc, key.KeyId))
	require.NoError(t, err)
	public, err := parsed.(*ecdsa.PublicKey).ECDH()
	require.NoError(t, err)
	want, err := private.ECDH(public)
	require.NoError(t, err)
	require.Equal(t, want, out.SharedSecret)
}

func TestDecapsulateReturnsTheSecretOfEncapsulate(t *testing.T) {
	svc, _ := newService(t)
	for spec, size := range map[kms.KeySpec]int{kms.KeySpecMLKEM512: 768, kms.KeySpecMLKEM768: 1088, kms.KeySpecMLKEM1024: 1568} {
		t.Run(string(spec), func(t *testing.T) {
			const mlkem = kms.EncapsulationAlgorithmMLKEM
			key, other := createKEMKey(t, svc, spec), createKEMKey(t, svc, spec)
			out, err := svc.Encapsulate(t.Context(), &kms.EncapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: mlkem})
			require.NoError(t, err)
			require.Len(t, out.SharedSecret, 32)
			require.Len(t, out.SharedSecretCiphertextBlob, size)
			require.Equal(t, &kms.EncapsulateOutput{KeyId: key.Arn, SharedSecret: out.SharedSecret,
				SharedSecretCiphertextBlob: out.SharedSecretCiphertextBlob, EncapsulationAlgorithm: mlkem}, out)
			decapsulate := func(keyID string, ciphertext []byte, dryRun bool) (*kms.DecapsulateOutput, error) {
				return svc.Decapsulate(t.Context(), &kms.DecapsulateInput{
					KeyId: keyID, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: mlkem, DryRun: dryRun})
			}
			back, err := decapsulate(key.KeyId, out.SharedSecretCiphertextBlob, false)
			require.NoError(t, err)
			require.Equal(t, &kms.DecapsulateOutput{KeyId: key.Arn, SharedSecret: out.SharedSecret, EncapsulationAlgorithm: mlkem}, back)

			altered, err := decapsulate(key.KeyId, flip(out.SharedSecretCiphertextBlob, 9), false)
			require.NoError(t, err)
			foreign, err := decapsulate(other.KeyId, out.SharedSecretCiphertextBlob, false)
			require.NoError(t, err)
			require.NotEqual(t, out.SharedSecret, altered.SharedSecret)
			require.NotEqual(t, out.SharedSecret, foreign.SharedSecret)
			for _, dryRun := range []bool{false, true} {
				for _, ciphertext := range [][]byte{{1}, out.SharedSecretCiphertextBlob[1:], make([]byte, size+1)} {
					_, err = decapsulate(key.KeyId, ciphertext, dryRun)
					requireError(t, err, kms.InvalidCiphertextException, "")
				}
			}
		})
	}
}

func TestAgreementAndEncapsulationNeedAKeyOfThatUsage(t *testing.T) {
	f := newFixture(t)
	for operation, key := range map[string]*kms.KeyMetadata{"DeriveSharedSecret": f.signing, "Encapsulate": f.agreement, "Decapsulate": f.symmetric} {
		in := f.example(t, operation)
		keyMembers(in)[0].SetString(key.KeyId)
		_, err := f.invoke(t, operation, in)
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for %s.", key.Arn, key.KeyUsage, operation)
	}
}
