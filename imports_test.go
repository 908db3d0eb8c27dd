package kms_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/testenv"
	"github.com/pocketkms/kms/internal/testhook"
)

// parametersForImport returns parameters with a wrapping key that, if it is an RSA key, is always
// the same, because it takes up to seconds to generate one.
func parametersForImport(t testing.TB, svc *kms.Service, keyID string, algorithm kms.AlgorithmSpec, spec kms.WrappingKeySpec) *kms.GetParametersForImportOutput {
	t.Helper()
	ctx := context.Background()
	if spec != kms.WrappingKeySpecSM2 {
		ctx = testhook.WithKey(ctx, &testhook.SeedKey{Materials: [][]byte{fixedRSA(t, kms.KeySpec(spec))}})
	}
	out, err := svc.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: keyID, WrappingAlgorithm: algorithm, WrappingKeySpec: spec})
	require.NoError(t, err)
	return out
}

// wrap encrypts key material to a wrapping key, as a caller does with the standard library and
// Tink.
func wrap(t testing.TB, public []byte, algorithm kms.AlgorithmSpec, material []byte) []byte {
	t.Helper()
	if algorithm == kms.AlgorithmSM2PKE {
		key, err := smx509.ParsePKIXPublicKey(public)
		require.NoError(t, err)
		wrapped, err := sm2.EncryptASN1(rand.Reader, key.(*ecdsa.PublicKey), material)
		require.NoError(t, err)
		return wrapped
	}
	key, err := x509.ParsePKIXPublicKey(public)
	require.NoError(t, err)
	var h hash.Hash = sha256.New()
	if strings.HasSuffix(string(algorithm), "SHA_1") {
		h = sha1.New()
	}
	oaep := func(material []byte) []byte {
		wrapped, err := rsa.EncryptOAEP(h, rand.Reader, key.(*rsa.PublicKey), material, nil)
		require.NoError(t, err)
		return wrapped
	}
	if !strings.HasPrefix(string(algorithm), "RSA_AES_KEY_WRAP") {
		return oaep(material)
	}
	aes := make([]byte, 32)
	rand.Read(aes)
	kwp, err := subtle.NewKWP(aes)
	require.NoError(t, err)
	wrapped, err := kwp.Wrap(material)
	require.NoError(t, err)
	return append(oaep(aes), wrapped...)
}

// importWrapped imports wrapped material that does not expire.
func importWrapped(t testing.TB, svc *kms.Service, keyID string, token, wrapped []byte) *kms.ImportKeyMaterialOutput {
	t.Helper()
	out, err := svc.ImportKeyMaterial(context.Background(), &kms.ImportKeyMaterialInput{KeyId: keyID, ImportToken: token, EncryptedKeyMaterial: wrapped,
		ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire})
	require.NoError(t, err)
	return out
}

// An importer brings material to one key, with one set of parameters.
type importer struct {
	t         testing.TB
	svc       *kms.Service
	key       *kms.KeyMetadata
	algorithm kms.AlgorithmSpec
	*kms.GetParametersForImportOutput
}

// newImporter creates a key of OriginExternal and gets parameters for it. Nil means a symmetric
// key.
func newImporter(t testing.TB, svc *kms.Service, in *kms.CreateKeyInput, algorithm kms.AlgorithmSpec, spec kms.WrappingKeySpec) *importer {
	t.Helper()
	given := kms.CreateKeyInput{}
	if in != nil {
		given = *in
	}
	given.Origin = kms.OriginExternal
	key := createKey(t, svc, &given)
	return &importer{t, svc, key, algorithm, parametersForImport(t, svc, key.KeyId, algorithm, spec)}
}

// newSymmetricImporter wraps by SM2PKE, because an SM2 key is generated in no time.
func newSymmetricImporter(t testing.TB, svc *kms.Service) *importer {
	t.Helper()
	return newImporter(t, svc, nil, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
}

// input returns an import of material that does not expire, unless change says otherwise.
func (i *importer) input(material []byte, change ...func(*kms.ImportKeyMaterialInput)) *kms.ImportKeyMaterialInput {
	i.t.Helper()
	in := &kms.ImportKeyMaterialInput{
		KeyId: i.key.KeyId, ImportToken: i.ImportToken, EncryptedKeyMaterial: wrap(i.t, i.PublicKey, i.algorithm, material),
		ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire,
	}
	for _, c := range change {
		c(in)
	}
	return in
}

func (i *importer) do(material []byte, change ...func(*kms.ImportKeyMaterialInput)) (*kms.ImportKeyMaterialOutput, error) {
	i.t.Helper()
	return i.svc.ImportKeyMaterial(context.Background(), i.input(material, change...))
}

// must returns the ID of the imported material.
func (i *importer) must(material []byte, change ...func(*kms.ImportKeyMaterialInput)) (id string) {
	i.t.Helper()
	out, err := i.do(material, change...)
	require.NoError(i.t, err)
	require.Equal(i.t, i.key.Arn, out.KeyId)
	return out.KeyMaterialId
}

// delete deletes material; an empty id means the current one.
func (i *importer) delete(id string) {
	i.t.Helper()
	_, err := i.svc.DeleteImportedKeyMaterial(context.Background(), &kms.DeleteImportedKeyMaterialInput{KeyId: i.key.KeyId, KeyMaterialId: id})
	require.NoError(i.t, err)
}

func (i *importer) describe() *kms.KeyMetadata {
	i.t.Helper()
	return describe(i.t, i.svc, i.key.KeyId)
}

func (i *importer) requireState(want kms.KeyState) {
	i.t.Helper()
	m := i.describe()
	require.Equal(i.t, want, m.KeyState)
	require.Equal(i.t, want == kms.KeyStateEnabled, m.Enabled)
	_, err := i.svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: i.key.KeyId, Plaintext: []byte("text")})
	switch want {
	case kms.KeyStateEnabled:
		require.NoError(i.t, err)
	case kms.KeyStatePendingImport:
		requireError(i.t, err, kms.KMSInvalidStateException, "%s is pending import.", i.key.Arn)
	default:
		require.Error(i.t, err)
	}
}

// symmetricMaterial returns the n-th of some materials.
func symmetricMaterial(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func asNew(in *kms.ImportKeyMaterialInput)      { in.ImportType = kms.ImportTypeNewKeyMaterial }
func asExisting(in *kms.ImportKeyMaterialInput) { in.ImportType = kms.ImportTypeExistingKeyMaterial }
func validTo(at time.Time) func(*kms.ImportKeyMaterialInput) {
	return func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel, in.ValidTo = "", at }
}
func described(text string) func(*kms.ImportKeyMaterialInput) {
	return func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = text }
}

// importPairs are all wrapping algorithms and wrapping keys for each key spec, by the table of the
// API's documentation and the refusals of AWS KMS. P-521 and Ed25519 are too long for RSA_2048.
var importPairs = map[kms.KeySpec]string{
	kms.KeySpecSymmetricDefault: "oaep2 oaep3 oaep4 sm2", kms.KeySpecHMAC224: "oaep2 oaep3 oaep4 sm2", kms.KeySpecHMAC256: "oaep2 oaep3 oaep4 sm2",
	kms.KeySpecHMAC384: "oaep2 oaep3 oaep4 sm2", kms.KeySpecHMAC512: "oaep2 oaep3 oaep4 sm2",
	kms.KeySpecRSA2048: "aes2 aes3 aes4", kms.KeySpecRSA3072: "aes2 aes3 aes4", kms.KeySpecRSA4096: "aes2 aes3 aes4",
	kms.KeySpecECCNISTP256: "oaep2 oaep3 oaep4 aes2 aes3 aes4 sm2", kms.KeySpecECCNISTP384: "oaep2 oaep3 oaep4 aes2 aes3 aes4 sm2",
	kms.KeySpecECCNISTP521: "oaep3 oaep4 aes2 aes3 aes4 sm2", kms.KeySpecECCSECGP256K1: "oaep2 oaep3 oaep4 aes2 aes3 aes4 sm2",
	kms.KeySpecECCNISTEdwards25519: "oaep3 oaep4 aes2 aes3 aes4 sm2",
	kms.KeySpecSM2:                 "oaep2 oaep3 oaep4 sm2",
	kms.KeySpecMLKEM512:            "oaep2 oaep3 oaep4 sm2", kms.KeySpecMLKEM768: "oaep2 oaep3 oaep4 sm2", kms.KeySpecMLKEM1024: "oaep2 oaep3 oaep4 sm2",
	kms.KeySpecMLDSA44: "", kms.KeySpecMLDSA65: "", kms.KeySpecMLDSA87: "",
}

// pairName returns the name that importPairs has for a wrapping algorithm and a wrapping key.
func pairName(algorithm kms.AlgorithmSpec, key kms.WrappingKeySpec) string {
	family := map[kms.AlgorithmSpec]string{
		kms.AlgorithmRSAESOAEPSHA1: "oaep", kms.AlgorithmRSAESOAEPSHA256: "oaep", kms.AlgorithmRSAAESKeyWrapSHA1: "aes", kms.AlgorithmRSAAESKeyWrapSHA256: "aes",
	}[algorithm]
	size := map[kms.WrappingKeySpec]string{kms.WrappingKeySpecRSA2048: "2", kms.WrappingKeySpecRSA3072: "3", kms.WrappingKeySpecRSA4096: "4"}[key]
	switch {
	case family != "" && size != "":
		return family + size
	case algorithm == kms.AlgorithmSM2PKE && key == kms.WrappingKeySpecSM2:
		return "sm2"
	}
	return "unfit"
}

// usageOf returns a usage of a spec.
func usageOf(spec kms.KeySpec) kms.KeyUsageType {
	switch name := string(spec); {
	case strings.HasPrefix(name, "HMAC"):
		return kms.KeyUsageGenerateVerifyMac
	case strings.HasPrefix(name, "ML_KEM"):
		return kms.KeyUsageEncapsulateDecapsulate
	case spec == kms.KeySpecSymmetricDefault:
		return kms.KeyUsageEncryptDecrypt
	}
	return kms.KeyUsageSignVerify
}

func TestWrappingAlgorithmsFitKeySpecs(t *testing.T) {
	svc, _ := newService(t)
	require.Len(t, importPairs, len(kms.KeySpec("").Values()))
	for spec, fitting := range importPairs {
		in := &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usageOf(spec), Origin: kms.OriginExternal}
		if fitting == "" {
			_, err := svc.CreateKey(t.Context(), in)
			requireError(t, err, kms.ValidationException, "KeySpec %s is not supported for Origin EXTERNAL", spec)
			continue
		}
		key := createKey(t, svc, in)
		for _, algorithm := range kms.AlgorithmSpec("").Values() {
			for _, wrapping := range kms.WrappingKeySpec("").Values() {
				pair := pairName(algorithm, wrapping)
				ok := slices.Contains(strings.Fields(fitting), pair)
				if ok && pair != "sm2" {
					continue // TestMaterialOfEverySpecIsImported generates some of them
				}
				_, err := svc.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{KeyId: key.KeyId, WrappingAlgorithm: algorithm, WrappingKeySpec: wrapping})
				if ok {
					require.NoError(t, err)
					continue
				}
				requireError(t, err, kms.ValidationException, "Wrapping algorithm %s and wrapping key spec %s cannot be used to import a %s key.", algorithm, wrapping, spec)
			}
		}
	}
}

// materialOf returns key material for a spec, and its public key if it has one. Only key pairs
// other than RSA are new each time.
func materialOf(t testing.TB, svc *kms.Service, spec kms.KeySpec) (material, public []byte) {
	t.Helper()
	switch spec {
	case kms.KeySpecSymmetricDefault, kms.KeySpecHMAC256:
		return symmetricMaterial(1), nil
	case kms.KeySpecHMAC224, kms.KeySpecHMAC384, kms.KeySpecHMAC512:
		return bytes.Repeat([]byte{1}, 128), nil
	case kms.KeySpecRSA2048, kms.KeySpecRSA3072, kms.KeySpecRSA4096:
		material = otherRSA(t, spec)
		key, err := x509.ParsePKCS8PrivateKey(material)
		require.NoError(t, err)
		public, err = x509.MarshalPKIXPublicKey(key.(*rsa.PrivateKey).Public())
		require.NoError(t, err)
		return material, public
	}
	parent := createKey(t, svc, nil)
	out, err := svc.GenerateDataKeyPair(context.Background(), &kms.GenerateDataKeyPairInput{KeyId: parent.KeyId, KeyPairSpec: kms.DataKeyPairSpec(spec)})
	require.NoError(t, err)
	return out.PrivateKeyPlaintext, out.PublicKey
}

func TestMaterialOfEverySpecIsImported(t *testing.T) {
	svc, _ := newService(t)
	oaep2 := []kms.AlgorithmSpec{kms.AlgorithmRSAESOAEPSHA256, kms.AlgorithmRSAESOAEPSHA1}
	aes2 := []kms.AlgorithmSpec{kms.AlgorithmRSAAESKeyWrapSHA256, kms.AlgorithmRSAAESKeyWrapSHA1}
	for spec, fitting := range importPairs {
		if fitting == "" {
			continue
		}
		t.Run(string(spec), func(t *testing.T) {
			material, public := materialOf(t, svc, spec)
			n := len(material) % 2 // both hash functions over all specs
			if spec == kms.KeySpecECCNISTP384 {
				n = 1 // with SHA-256, RSA_2048 takes 190 bytes, and the form that KMS itself writes is longer
			}
			pairs := map[kms.AlgorithmSpec]kms.WrappingKeySpec{}
			if strings.Contains(fitting, "aes2") {
				pairs[aes2[n]] = kms.WrappingKeySpecRSA2048
			}
			if strings.Contains(fitting, "oaep2") {
				pairs[oaep2[n]] = kms.WrappingKeySpecRSA2048
			} else if strings.Contains(fitting, "oaep3") {
				pairs[oaep2[n]] = kms.WrappingKeySpecRSA3072
			}
			if strings.Contains(fitting, "sm2") {
				pairs[kms.AlgorithmSM2PKE] = kms.WrappingKeySpecSM2
			}
			if spec == kms.KeySpecHMAC512 {
				pairs[kms.AlgorithmRSAESOAEPSHA256] = kms.WrappingKeySpecRSA4096
			}
			for algorithm, wrapping := range pairs {
				i := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usageOf(spec)}, algorithm, wrapping)
				require.Equal(t, kms.KeyStatePendingImport, i.key.KeyState)
				require.LessOrEqual(t, len(i.ImportToken), 6144)
				id := i.must(material)
				require.Equal(t, spec == kms.KeySpecSymmetricDefault, id != "", "only symmetric material has an ID")
				m := i.describe()
				require.Equal(t, kms.KeyStateEnabled, m.KeyState)
				require.Equal(t, kms.OriginExternal, m.Origin)
				require.Equal(t, kms.ExpirationModelKeyMaterialDoesNotExpire, m.ExpirationModel)
				require.Equal(t, id, m.CurrentKeyMaterialId)
				if public != nil {
					require.Equal(t, public, publicKey(t, svc, i.key.KeyId))
				}
				requireUsable(t, svc, m)
				i.delete("")
				require.Equal(t, kms.KeyStatePendingImport, i.describe().KeyState)
				i.must(material)
				requireUsable(t, svc, m)
				if spec == kms.KeySpecSymmetricDefault {
					continue
				}
				other, _ := materialOf(t, svc, spec)
				switch {
				case public == nil:
					other[0] ^= 1
				case bytes.Equal(other, material):
					other = fixedRSA(t, spec)
				}
				_, err := i.do(other)
				requireError(t, err, kms.IncorrectKeyMaterialException, "The key material is not the one that was imported into KMS key %s.", i.key.Arn)
			}
		})
	}
}

// requireUsable uses a key for what it is for.
func requireUsable(t testing.TB, svc *kms.Service, k *kms.KeyMetadata) {
	t.Helper()
	ctx, message := context.Background(), []byte("message")
	switch k.KeyUsage {
	case kms.KeyUsageEncryptDecrypt:
		requireDecrypts(t, svc, encrypt(t, svc, k.KeyId, "message"), "message")
	case kms.KeyUsageGenerateVerifyMac:
		out, err := svc.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: k.MacAlgorithms[0]})
		require.NoError(t, err)
		_, err = svc.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: k.MacAlgorithms[0], Mac: out.Mac})
		require.NoError(t, err)
	case kms.KeyUsageSignVerify:
		out, err := svc.Sign(ctx, &kms.SignInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: k.SigningAlgorithms[0]})
		require.NoError(t, err)
		_, err = svc.Verify(ctx, &kms.VerifyInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: k.SigningAlgorithms[0], Signature: out.Signature})
		require.NoError(t, err)
	default:
		out, err := svc.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
		require.NoError(t, err)
		opened, err := svc.Decapsulate(ctx, &kms.DecapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM, SharedSecretCiphertextBlob: out.SharedSecretCiphertextBlob})
		require.NoError(t, err)
		require.Equal(t, out.SharedSecret, opened.SharedSecret)
	}
}

func TestADeletedMaterialComesBackWithAllCiphertexts(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	i := newSymmetricImporter(t, svc)
	require.Empty(t, i.key.CurrentKeyMaterialId)
	i.requireState(kms.KeyStatePendingImport)
	id := i.must(symmetricMaterial(1), described("the first"))
	ciphertext := encrypt(t, svc, i.key.KeyId, "text")
	require.Equal(t, id, requireDecrypts(t, svc, ciphertext, "text"))

	i.delete("")
	i.delete("") // idempotent
	m := i.describe()
	require.Equal(t, id, m.CurrentKeyMaterialId, "it stays")
	require.Zero(t, m.ExpirationModel)
	_, err := svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
	requireError(t, err, kms.KMSInvalidStateException, "%s is pending import.", i.key.Arn)

	require.NoError(t, svc.Close())
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(file), id, "nothing is left of the record's name, and so of the record")
	svc = openService(t, path, clock)
	i.svc = svc // with the same token
	i.requireState(kms.KeyStatePendingImport)
	require.Equal(t, id, i.must(symmetricMaterial(1)))
	require.Equal(t, id, requireDecrypts(t, svc, ciphertext, "text"))
	require.Equal(t, "the first", allMaterials(t, svc, i.key.KeyId)[0].KeyMaterialDescription)
	i.must(symmetricMaterial(1), described("another text"))
	require.Equal(t, "another text", allMaterials(t, svc, i.key.KeyId)[0].KeyMaterialDescription)
}

func TestMaterialExpiresByTheClock(t *testing.T) {
	trail := new(trail)
	svc, clock := newService(t, func(c *kms.Config) { c.Audit = trail })
	for name, in := range map[string]*kms.CreateKeyInput{
		"symmetric": nil, "HMAC": {KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac},
	} {
		t.Run(name, func(t *testing.T) {
			i := newImporter(t, svc, in, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
			end := clock.Now().Add(time.Hour)
			id := i.must(symmetricMaterial(1), validTo(end))
			m := i.describe()
			require.Equal(t, kms.ExpirationModelKeyMaterialExpires, m.ExpirationModel)
			require.Equal(t, end, m.ValidTo)
			clock.Move(time.Hour - 1)
			requireUsable(t, svc, m)
			trail.take()
			clock.Move(1)
			m = i.describe()
			require.Equal(t, kms.KeyStatePendingImport, m.KeyState)
			require.Zero(t, m.ExpirationModel)
			require.Zero(t, m.ValidTo)
			var expired []*audit.Event
			for _, e := range trail.take() {
				if e.EventName == "DeleteExpiredKeyMaterial" {
					expired = append(expired, e)
				}
			}
			require.Len(t, expired, 1)
			require.Equal(t, audit.ServiceEvent, expired[0].EventType)
			details := map[string]any{"keyId": i.key.KeyId}
			if id != "" {
				details["keyMaterialId"] = id
			}
			require.Equal(t, details, expired[0].ServiceEventDetails.Map())
			require.Equal(t, resources(i.key.Arn), expired[0].Resources)

			i.must(symmetricMaterial(1)) // without an end
			clock.Move(400 * day)
			require.Equal(t, kms.KeyStateEnabled, i.describe().KeyState)
		})
	}
}

func TestAnImportOfPresentMaterialChangesItsExpiry(t *testing.T) {
	svc, clock := newService(t)
	i := newSymmetricImporter(t, svc)
	start := clock.Now()
	i.must(symmetricMaterial(1), validTo(start.Add(time.Hour)))
	i.must(symmetricMaterial(1), validTo(start.Add(3*time.Hour)))
	clock.Move(2 * time.Hour)
	i.requireState(kms.KeyStateEnabled)
	i.must(symmetricMaterial(1), validTo(start.Add(365*day)))
	clock.Move(2 * time.Hour)
	require.Equal(t, start.Add(365*day), i.describe().ValidTo)
}

func TestStagedMaterialIsRotatedTo(t *testing.T) {
	svc, clock := newService(t)
	i := newSymmetricImporter(t, svc)
	first := i.must(symmetricMaterial(1))
	old := encrypt(t, svc, i.key.KeyId, "old")
	err := rotateNow(svc, i.key.KeyId)
	requireError(t, err, kms.KMSInvalidStateException, "No available key material pending rotation for the key: %s.", i.key.Arn)

	second := i.must(symmetricMaterial(2), asNew, described("second"), validTo(clock.Now().Add(30*day)))
	require.NotEqual(t, first, second)
	m := i.describe()
	require.Equal(t, first, m.CurrentKeyMaterialId, "it changes only with the rotation")
	require.Equal(t, kms.ExpirationModelKeyMaterialDoesNotExpire, m.ExpirationModel, "staged material does not count")
	require.Equal(t, first, requireDecrypts(t, svc, encrypt(t, svc, i.key.KeyId, "x"), "x"))
	require.Equal(t, []kms.RotationsListEntry{
		{KeyId: i.key.Arn, KeyMaterialId: first, KeyMaterialState: kms.KeyMaterialStateCurrent, ImportState: kms.ImportStateImported,
			ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire},
		{KeyId: i.key.Arn, KeyMaterialId: second, KeyMaterialState: kms.KeyMaterialStatePendingRotation, ImportState: kms.ImportStateImported,
			KeyMaterialDescription: "second", ExpirationModel: kms.ExpirationModelKeyMaterialExpires, ValidTo: clock.Now().Add(30 * day)},
	}, allMaterials(t, svc, i.key.KeyId))
	require.Empty(t, rotationDates(t, svc, i.key.KeyId), "nothing was rotated")

	clock.Move(time.Hour)
	require.NoError(t, rotateNow(svc, i.key.KeyId))
	m = i.describe()
	require.Equal(t, second, m.CurrentKeyMaterialId)
	require.Equal(t, clock.Now().Add(30*day-time.Hour), m.ValidTo)
	require.Equal(t, first, requireDecrypts(t, svc, old, "old"))
	require.Equal(t, second, requireDecrypts(t, svc, encrypt(t, svc, i.key.KeyId, "new"), "new"))
	history := allMaterials(t, svc, i.key.KeyId)
	require.Equal(t, kms.KeyMaterialStateNonCurrent, history[0].KeyMaterialState)
	require.Equal(t, kms.KeyMaterialStateCurrent, history[1].KeyMaterialState)
	require.Equal(t, kms.RotationTypeOnDemand, history[1].RotationType)
	require.Equal(t, []time.Time{clock.Now()}, rotationDates(t, svc, i.key.KeyId))

	// Without one of its materials the key cannot be used at all.
	i.delete(first)
	i.requireState(kms.KeyStatePendingImport)
	m = i.describe()
	require.Equal(t, second, m.CurrentKeyMaterialId)
	require.Zero(t, m.ValidTo)
	history = allMaterials(t, svc, i.key.KeyId)
	require.Equal(t, kms.ImportStatePendingImport, history[0].ImportState)
	require.Zero(t, history[0].ExpirationModel)
	require.Equal(t, kms.ImportStateImported, history[1].ImportState)
	i.delete("") // the current one
	i.must(symmetricMaterial(1))
	i.requireState(kms.KeyStatePendingImport)
	i.must(symmetricMaterial(2))
	i.requireState(kms.KeyStateEnabled)
	requireDecrypts(t, svc, old, "old")
}

func TestOneMaterialIsStagedAtATime(t *testing.T) {
	svc, clock := newService(t)
	i := newSymmetricImporter(t, svc)
	first := i.must(symmetricMaterial(1))
	second := i.must(symmetricMaterial(2), asNew, described("staged"), validTo(clock.Now().Add(time.Hour)))
	_, err := i.do(symmetricMaterial(3), asNew)
	require.ErrorIs(t, err, kms.KMSInvalidStateException)
	require.Regexp(t, `New key material \(id: [0-9a-f]{64}\) cannot be imported into KMS key `+i.key.Arn+`, because another key material \(id: `+second+`\) is pending rotation\.$`, err.Error())
	_, err = i.do(symmetricMaterial(3))
	require.ErrorIs(t, err, kms.IncorrectKeyMaterialException, "by default it must be one that the key has")
	require.Equal(t, second, i.must(symmetricMaterial(2), validTo(clock.Now().Add(2*time.Hour))), "the staged one can be imported again")

	// It does not expire before it is current.
	clock.Move(3 * time.Hour)
	i.requireState(kms.KeyStateEnabled)
	staged := allMaterials(t, svc, i.key.KeyId)[1]
	require.Equal(t, kms.ImportStateImported, staged.ImportState)
	require.Equal(t, clock.Now().Add(-time.Hour), staged.ValidTo)
	_, err = i.do(symmetricMaterial(2), asNew)
	require.ErrorIs(t, err, kms.IncorrectKeyMaterialException)

	// A staged material that is deleted is forgotten.
	i.delete(second)
	i.requireState(kms.KeyStateEnabled)
	require.Len(t, allMaterials(t, svc, i.key.KeyId), 1)
	_, err = svc.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: i.key.KeyId, KeyMaterialId: second})
	requireError(t, err, kms.ValidationException, "Key material (id: %s) has never been imported into KMS key %s.", second, i.key.Arn)
	require.Equal(t, second, i.must(symmetricMaterial(2), asNew, validTo(clock.Now().Add(time.Hour))))
	require.Empty(t, allMaterials(t, svc, i.key.KeyId)[1].KeyMaterialDescription)

	// It is rotated to although it has expired, and is deleted then.
	clock.Move(2 * time.Hour)
	require.NoError(t, rotateNow(svc, i.key.KeyId))
	i.requireState(kms.KeyStatePendingImport)
	require.Equal(t, second, i.describe().CurrentKeyMaterialId)
	i.must(symmetricMaterial(2))
	i.requireState(kms.KeyStateEnabled)
	_, err = i.do(symmetricMaterial(1), asNew)
	requireError(t, err, kms.IncorrectKeyMaterialException, "The key material was imported into KMS key %s before.", i.key.Arn)
	require.Equal(t, first, i.must(symmetricMaterial(1), asExisting))
}

func TestAnImportEnablesADisabledKey(t *testing.T) {
	svc, _ := newService(t)
	i := newSymmetricImporter(t, svc)
	i.must(symmetricMaterial(1))
	disable(t, svc, i.key.KeyId)
	i.requireState(kms.KeyStateDisabled)
	i.must(symmetricMaterial(1))
	i.requireState(kms.KeyStateEnabled)
	disable(t, svc, i.key.KeyId)
	i.delete("")
	i.requireState(kms.KeyStatePendingImport)
	_, err := svc.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: i.key.KeyId})
	requireError(t, err, kms.KMSInvalidStateException, "%s is pending import.", i.key.Arn)
	i.must(symmetricMaterial(1))
	i.requireState(kms.KeyStateEnabled)
}

func TestDeletionAndMaterialAreIndependent(t *testing.T) {
	svc, clock := newService(t)
	cancel := func(i *importer) {
		t.Helper()
		_, err := svc.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: i.key.KeyId})
		require.NoError(t, err)
	}
	// Expired while pending deletion; at the same second as another deletion; deleted by hand; kept.
	expiring, deleted, kept, ending := newSymmetricImporter(t, svc), newSymmetricImporter(t, svc), newSymmetricImporter(t, svc), newSymmetricImporter(t, svc)
	expiring.must(symmetricMaterial(1), validTo(clock.Now().Add(2*day)))
	ending.must(symmetricMaterial(1), validTo(clock.Now().Add(7*day)))
	for _, i := range []*importer{deleted, kept} {
		i.must(symmetricMaterial(1))
	}
	for _, i := range []*importer{expiring, deleted, kept, ending} {
		scheduleDeletion(t, svc, i.key.KeyId, 7)
	}
	_, err := kept.do(symmetricMaterial(1))
	requireError(t, err, kms.KMSInvalidStateException, "%s is pending deletion.", kept.key.Arn)
	deleted.delete("")
	clock.Move(3 * day)
	expiring.requireState(kms.KeyStatePendingDeletion)
	deleted.requireState(kms.KeyStatePendingDeletion)
	for _, i := range []*importer{expiring, deleted, kept} {
		cancel(i)
	}
	expiring.requireState(kms.KeyStatePendingImport)
	deleted.requireState(kms.KeyStatePendingImport)
	kept.requireState(kms.KeyStateDisabled)
	clock.Move(4 * day)
	_, err = svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: ending.key.KeyId})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.Equal(t, kms.KeyStatePendingImport, deleted.describe().KeyState)
}

// A token is good for its key, for a day, in every process that has the store.
func TestImportTokens(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	i := newSymmetricImporter(t, svc)
	require.Equal(t, clock.Now().Add(day), i.ParametersValidTo)
	in := i.input(symmetricMaterial(1))
	invalid := func(svc *kms.Service, in *kms.ImportKeyMaterialInput, what string) {
		t.Helper()
		_, err := svc.ImportKeyMaterial(t.Context(), in)
		requireError(t, err, kms.InvalidImportTokenException, "")
		require.Equal(t, kms.KeyStatePendingImport, i.describe().KeyState, what)
	}
	token := i.ImportToken
	with := func(token []byte) *kms.ImportKeyMaterialInput {
		changed := *in
		changed.ImportToken = token
		return &changed
	}
	for bit := 0; bit < 8*len(token); bit += 7 {
		flipped := bytes.Clone(token)
		flipped[bit/8] ^= 1 << (bit % 8)
		invalid(svc, with(flipped), "a flipped bit")
	}
	for _, n := range []int{1, 2, 40, len(token) - 1} {
		invalid(svc, with(token[:n]), "truncated")
	}
	invalid(svc, with(append(bytes.Clone(token), 0)), "longer")
	invalid(svc, with(encrypt(t, svc, createKey(t, svc, nil).KeyId, "no token")), "a ciphertext")

	// Of another key, of the same key ID in another Region, and of another store.
	other := newSymmetricImporter(t, svc)
	invalid(svc, with(other.ImportToken), "of another key")
	moved := *in
	moved.KeyId = other.key.KeyId
	invalid(svc, &moved, "for another key")
	elsewhere, _ := newService(t)
	stranger := newSymmetricImporter(t, elsewhere)
	invalid(svc, with(stranger.ImportToken), "of another store")

	// With the wrapping key of another token of the same key.
	second := parametersForImport(t, svc, i.key.KeyId, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
	require.NotEqual(t, i.PublicKey, second.PublicKey)
	_, err := svc.ImportKeyMaterial(t.Context(), with(second.ImportToken))
	requireError(t, err, kms.InvalidCiphertextException, "")
	require.ErrorIs(t, err, kms.ErrContextOrAltered)

	require.NoError(t, svc.Close())
	svc = openService(t, path, clock)
	i.svc = svc
	clock.Move(day - time.Millisecond)
	importWrapped(t, svc, in.KeyId, in.ImportToken, in.EncryptedKeyMaterial)
	importWrapped(t, svc, in.KeyId, in.ImportToken, in.EncryptedKeyMaterial)
	clock.Move(time.Millisecond)
	_, err = svc.ImportKeyMaterial(t.Context(), in)
	requireError(t, err, kms.ExpiredImportTokenException, "")
	clock.Move(100 * day)
	_, err = svc.ImportKeyMaterial(t.Context(), in)
	requireError(t, err, kms.ExpiredImportTokenException, "")
}

func TestImportRefusesWhatIsNoKeyMaterial(t *testing.T) {
	svc, _ := newService(t)
	rsa2048, _ := materialOf(t, svc, kms.KeySpecRSA2048)
	p256, _ := materialOf(t, svc, kms.KeySpecECCNISTP256)
	p384, _ := materialOf(t, svc, kms.KeySpecECCNISTP384)
	ed25519, _ := materialOf(t, svc, kms.KeySpecECCNISTEdwards25519)
	kem768, _ := materialOf(t, svc, kms.KeySpecMLKEM768)
	offCurve := bytes.Clone(p256)
	offCurve[len(offCurve)-1] ^= 1 // the last byte of the point
	zero := bytes.Clone(p256)
	clear(zero[36:68])
	require.NotEqual(t, p256[36:68], zero[36:68])
	badPrime := craftedRSA(t, func(p *big.Int) { p.Add(p, big.NewInt(2)) })
	for spec, materials := range map[kms.KeySpec]map[string][]byte{
		kms.KeySpecSymmetricDefault: {"16 bytes": make([]byte, 16), "31 bytes": make([]byte, 31), "33 bytes": make([]byte, 33), "a private key": p256},
		kms.KeySpecHMAC224:          {"27 bytes": make([]byte, 27), "129 bytes": make([]byte, 129)},
		kms.KeySpecHMAC256:          {"31 bytes": make([]byte, 31), "129 bytes": make([]byte, 129)},
		kms.KeySpecHMAC384:          {"47 bytes": make([]byte, 47), "129 bytes": make([]byte, 129)},
		kms.KeySpecHMAC512:          {"63 bytes": make([]byte, 63), "129 bytes": make([]byte, 129)},
		kms.KeySpecECCNISTP256: {"another curve": p384, "a point off the curve": offCurve, "no private key": zero, "bytes after it": append(bytes.Clone(p256), 0),
			"half of it": p256[:len(p256)/2], "an RSA key": rsa2048, "random bytes": make([]byte, 32)},
		kms.KeySpecECCNISTEdwards25519: {"another curve": p256, "half of it": ed25519[:24]},
		kms.KeySpecECCSECGP256K1:       {"another curve": p256},
		kms.KeySpecSM2:                 {"another curve": p256},
		kms.KeySpecMLKEM512:            {"another parameter set": kem768},
		kms.KeySpecRSA2048:             {"an EC key": p256, "a factor that is not prime": badPrime},
		kms.KeySpecRSA3072:             {"2,048 bits": rsa2048},
	} {
		algorithm, wrapping := kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2
		if strings.HasPrefix(string(spec), "RSA") {
			algorithm, wrapping = kms.AlgorithmRSAAESKeyWrapSHA256, kms.WrappingKeySpecRSA2048
		}
		i := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usageOf(spec)}, algorithm, wrapping)
		for what, material := range materials {
			if algorithm == kms.AlgorithmSM2PKE && len(material) > 1024 {
				continue
			}
			t.Run(string(spec)+" with "+what, func(t *testing.T) {
				_, err := i.do(material)
				requireError(t, err, kms.InvalidCiphertextException, "")
				require.ErrorIs(t, err, kms.ErrNotKeyMaterial)
				require.Equal(t, kms.KeyStatePendingImport, i.describe().KeyState)
			})
		}
		in := i.input(symmetricMaterial(1))
		for _, n := range []int{1, len(in.EncryptedKeyMaterial) / 2, len(in.EncryptedKeyMaterial) - 1} {
			garbled := *in
			garbled.EncryptedKeyMaterial = in.EncryptedKeyMaterial[:n]
			_, err := svc.ImportKeyMaterial(t.Context(), &garbled)
			requireError(t, err, kms.InvalidCiphertextException, "")
			garbled.EncryptedKeyMaterial = bytes.Clone(in.EncryptedKeyMaterial)
			garbled.EncryptedKeyMaterial[n] ^= 1
			_, err = svc.ImportKeyMaterial(t.Context(), &garbled)
			requireError(t, err, kms.InvalidCiphertextException, "")
		}
	}
}

// craftedRSA returns a PKCS#8 key of 2,048 bits whose first prime was changed, and all else to fit.
func craftedRSA(t testing.TB, change func(p *big.Int)) []byte {
	t.Helper()
	for {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		p, q := new(big.Int).Set(key.Primes[0]), key.Primes[1]
		change(p)
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		n, d := new(big.Int).Mul(p, q), new(big.Int).ModInverse(big.NewInt(65537), phi)
		if d == nil || n.BitLen() != 2048 || p.BitLen() != 1024 || p.ProbablyPrime(1) {
			continue
		}
		private, err := asn1.Marshal(struct {
			Version                      int
			N                            *big.Int
			E                            int
			D, P, Q, DP, DQ, Coefficient *big.Int
		}{0, n, 65537, d, p, q, new(big.Int).Mod(d, new(big.Int).Sub(p, one)), new(big.Int).Mod(d, new(big.Int).Sub(q, one)), new(big.Int).ModInverse(q, p)})
		require.NoError(t, err)
		info, err := asn1.Marshal(struct {
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Private   []byte
		}{0, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, private})
		require.NoError(t, err)
		return info
	}
}

// The same key in another encoding is the same material.
func TestMaterialIsComparedByTheKeyThatItIs(t *testing.T) {
	svc, _ := newService(t)
	i := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify}, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
	material, _ := materialOf(t, svc, kms.KeySpecECCNISTP256)
	key, err := x509.ParsePKCS8PrivateKey(material)
	require.NoError(t, err)
	short, err := x509.MarshalPKCS8PrivateKey(key) // without the curve in the ECPrivateKey
	require.NoError(t, err)
	require.NotEqual(t, len(material), len(short))
	i.must(material)
	i.must(short)

	r := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecRSA2048, KeyUsage: kms.KeyUsageSignVerify}, kms.AlgorithmRSAAESKeyWrapSHA1, kms.WrappingKeySpecRSA2048)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	material, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	swapped := &rsa.PrivateKey{PublicKey: private.PublicKey, D: private.D, Primes: []*big.Int{private.Primes[1], private.Primes[0]}}
	swapped.Precompute()
	again, err := x509.MarshalPKCS8PrivateKey(swapped)
	require.NoError(t, err)
	require.NotEqual(t, material, again)
	r.must(material)
	r.must(again)
	requireUsable(t, svc, r.describe())
}

func TestMembersForSymmetricKeysOnly(t *testing.T) {
	svc, _ := newService(t)
	i := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac}, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
	for member, change := range map[string]func(*kms.ImportKeyMaterialInput){
		"importType": asNew, "keyMaterialDescription": described("x"),
		"keyMaterialId": func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialId = strings.Repeat("0", 64) },
	} {
		_, err := i.do(symmetricMaterial(1), change)
		requireError(t, err, kms.ValidationException, "Input parameter %s can only be used with symmetric keys.", member)
	}
	i.must(symmetricMaterial(1))
	out, err := svc.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: i.key.KeyId})
	require.NoError(t, err)
	require.Equal(t, &kms.DeleteImportedKeyMaterialOutput{KeyId: i.key.Arn}, out)
}

func TestTheKeyMaterialIDOfAnImportIsVerified(t *testing.T) {
	svc, _ := newService(t)
	i := newSymmetricImporter(t, svc)
	withID := func(id string) func(*kms.ImportKeyMaterialInput) {
		return func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialId = id }
	}
	_, err := i.do(symmetricMaterial(1), withID(strings.Repeat("0", 64)))
	requireError(t, err, kms.ValidationException, "A keyMaterialId cannot be set if the ImportType is NEW_KEY_MATERIAL")
	_, err = i.do(symmetricMaterial(1), asExisting)
	require.ErrorIs(t, err, kms.IncorrectKeyMaterialException, "there is none yet")
	first := i.must(symmetricMaterial(1))
	require.Equal(t, first, i.must(symmetricMaterial(1), withID(first)))
	_, err = i.do(symmetricMaterial(1), withID(strings.Repeat("0", 64)))
	require.ErrorIs(t, err, kms.IncorrectKeyMaterialException)
	second := i.must(symmetricMaterial(2), asNew)
	_, err = i.do(symmetricMaterial(1), withID(second))
	require.ErrorIs(t, err, kms.IncorrectKeyMaterialException)
	_, err = i.do(symmetricMaterial(3), asNew, withID(first))
	require.ErrorIs(t, err, kms.ValidationException)
	other := newSymmetricImporter(t, svc)
	require.NotEqual(t, first, other.must(symmetricMaterial(1)), "another key has another ID for the same bytes")
}

// Each account and Region has its own copy.
func TestAMultiRegionPrimaryIsImportedInto(t *testing.T) {
	svc, _ := newService(t)
	i := newImporter(t, svc, &kms.CreateKeyInput{MultiRegion: true}, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2)
	require.Equal(t, kms.MultiRegionKeyTypePrimary, i.key.MultiRegionConfiguration.MultiRegionKeyType)
	i.must(symmetricMaterial(1))
	i.must(symmetricMaterial(2), asNew)
	require.NoError(t, rotateNow(svc, i.key.KeyId))
	i.requireState(kms.KeyStateEnabled)
}

// Whatever the order of imports, deletions and uses, no use sees a key with half of its material.
func TestImportsAndDeletionsRaceWithUses(t *testing.T) {
	svc, _ := newService(t)
	i := newSymmetricImporter(t, svc)
	i.must(symmetricMaterial(1))
	ciphertext := encrypt(t, svc, i.key.KeyId, "text")
	in := i.input(symmetricMaterial(1))
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for range 50 {
				var err error
				switch worker {
				case 0:
					_, err = svc.ImportKeyMaterial(context.Background(), in)
				case 1:
					_, err = svc.DeleteImportedKeyMaterial(context.Background(), &kms.DeleteImportedKeyMaterialInput{KeyId: i.key.KeyId})
				default:
					_, err = svc.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: ciphertext})
					if errors.Is(err, kms.KMSInvalidStateException) {
						err = nil
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	i.must(symmetricMaterial(1))
	requireDecrypts(t, svc, ciphertext, "text")
}

func TestNothingOfAnImportIsLoggedOrRecorded(t *testing.T) {
	trail, log := new(trail), new(bytes.Buffer)
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = trail
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	i := newSymmetricImporter(t, svc)
	in := i.input([]byte("the material that nobody may see"))
	_, err := svc.ImportKeyMaterial(t.Context(), in)
	require.NoError(t, err)
	garbled := *in
	garbled.ImportToken = in.ImportToken[1:]
	_, err = svc.ImportKeyMaterial(t.Context(), &garbled)
	require.Error(t, err)
	events, err2 := json.Marshal(trail.take())
	require.NoError(t, err2)
	for _, hidden := range [][]byte{in.ImportToken, in.EncryptedKeyMaterial, []byte("the material that nobody may see")} {
		for _, text := range []string{log.String(), string(events), err.Error()} {
			for _, form := range []string{string(hidden), base64.StdEncoding.EncodeToString(hidden[3:9]), hex.EncodeToString(hidden[3:9])} {
				require.NotContains(t, text, form)
			}
		}
	}
}

// The commands are those of the API's documentation.
func TestMaterialThatOpenSSLHasWrappedIsImported(t *testing.T) {
	testenv.NeedsTool(t, "openssl")
	svc, _ := newService(t)
	dir := t.TempDir()
	write := func(content []byte) string {
		f, err := os.CreateTemp(dir, "")
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return f.Name()
	}
	openssl := func(input []byte, args ...string) []byte {
		t.Helper()
		command := exec.CommandContext(t.Context(), "openssl", args...)
		command.Stdin = bytes.NewReader(input)
		out, err := command.Output()
		require.NoError(t, err, "openssl %s", strings.Join(args, " "))
		return out
	}
	oaep := func(public []byte, hash string, material []byte) []byte {
		t.Helper()
		return openssl(nil, "pkeyutl", "-encrypt", "-in", write(material), "-inkey", write(public), "-keyform", "DER", "-pubin",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:"+hash, "-pkeyopt", "rsa_mgf1_md:"+hash)
	}
	pkcs8 := func(args ...string) []byte {
		t.Helper()
		return openssl(openssl(nil, append([]string{"genpkey"}, args...)...), "pkcs8", "-topk8", "-nocrypt", "-outform", "DER")
	}
	ec := func(curve string) []byte {
		t.Helper()
		return pkcs8("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+curve, "-pkeyopt", "ec_param_enc:named_curve")
	}
	for spec, material := range map[kms.KeySpec][]byte{
		kms.KeySpecSymmetricDefault:    openssl(nil, "rand", "32"),
		kms.KeySpecHMAC512:             openssl(nil, "rand", "64"),
		kms.KeySpecRSA3072:             pkcs8("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"),
		kms.KeySpecECCNISTP521:         ec("P-521"),
		kms.KeySpecECCSECGP256K1:       ec("secp256k1"),
		kms.KeySpecECCNISTEdwards25519: pkcs8("-algorithm", "ED25519"),
		kms.KeySpecSM2:                 ec("SM2"),
	} {
		t.Run(string(spec), func(t *testing.T) {
			for algorithm, wrapping := range map[kms.AlgorithmSpec]kms.WrappingKeySpec{
				kms.AlgorithmRSAESOAEPSHA1: kms.WrappingKeySpecRSA2048, kms.AlgorithmRSAESOAEPSHA256: kms.WrappingKeySpecRSA3072,
				kms.AlgorithmRSAAESKeyWrapSHA256: kms.WrappingKeySpecRSA2048, kms.AlgorithmSM2PKE: kms.WrappingKeySpecSM2,
			} {
				if !slices.Contains(strings.Fields(importPairs[spec]), pairName(algorithm, wrapping)) {
					continue
				}
				i := newImporter(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usageOf(spec)}, algorithm, wrapping)
				in := i.input(symmetricMaterial(1))
				switch algorithm {
				case kms.AlgorithmRSAESOAEPSHA1:
					in.EncryptedKeyMaterial = oaep(i.PublicKey, "sha1", material)
				case kms.AlgorithmRSAESOAEPSHA256:
					in.EncryptedKeyMaterial = oaep(i.PublicKey, "sha256", material)
				case kms.AlgorithmSM2PKE:
					in.EncryptedKeyMaterial = openssl(nil, "pkeyutl", "-encrypt", "-in", write(material), "-inkey", write(i.PublicKey), "-keyform", "DER", "-pubin")
				default:
					aes := openssl(nil, "rand", "32")
					wrapped := openssl(nil, "enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(aes), "-iv", "A65959A6", "-in", write(material))
					in.EncryptedKeyMaterial = append(oaep(i.PublicKey, "sha256", aes), wrapped...)
				}
				_, err := svc.ImportKeyMaterial(t.Context(), in)
				require.NoError(t, err, "%s with %s", algorithm, wrapping)
				requireUsable(t, svc, i.describe())
				if usageOf(spec) == kms.KeyUsageSignVerify {
					require.Equal(t, openssl(material, "pkey", "-inform", "DER", "-pubout", "-outform", "DER"), publicKey(t, svc, i.key.KeyId))
				}
			}
		})
	}
}
