package kms_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

const (
	incorrectKey = "The key ID in the request does not identify a CMK that can perform this operation."
	blobOverhead = 95 // docs/ciphertext.md
)

var someContext = map[string]string{"purpose": "test", "tenant": "7"}

func TestOutputsOfEncryptAndDecryptHaveAllMembers(t *testing.T) {
	f := newFixture(t)
	for _, algorithm := range []kms.EncryptionAlgorithmSpec{"", kms.EncryptionAlgorithmSymmetricDefault} {
		plaintext := []byte("secret")
		e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{
			KeyId: fixtureAlias, Plaintext: plaintext, EncryptionContext: someContext, EncryptionAlgorithm: algorithm})
		require.NoError(t, err)
		require.Equal(t, &kms.EncryptOutput{
			KeyId: f.symmetric.Arn, CiphertextBlob: e.CiphertextBlob, EncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault}, e)
		require.Len(t, e.CiphertextBlob, len(plaintext)+blobOverhead)
		require.False(t, bytes.Contains(e.CiphertextBlob, plaintext))
		for _, keyID := range []string{"", f.symmetric.KeyId, f.symmetric.Arn, fixtureAlias, "arn:aws:kms:us-east-1:111122223333:" + fixtureAlias} {
			d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{
				KeyId: keyID, CiphertextBlob: e.CiphertextBlob, EncryptionContext: someContext, EncryptionAlgorithm: algorithm})
			require.NoError(t, err)
			require.Equal(t, &kms.DecryptOutput{
				KeyId: f.symmetric.Arn, Plaintext: plaintext, EncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault,
				KeyMaterialId: f.symmetric.CurrentKeyMaterialId}, d)
		}
	}
}

func TestEncryptIsRandomized(t *testing.T) {
	f := newFixture(t)
	seen := map[string]bool{}
	for range 100 {
		seen[string(encrypt(t, f.svc, f.symmetric.KeyId, "x")[55:])] = true
	}
	require.Len(t, seen, 100)
}

// Short results are in one allocation with their outputs. What a caller does to one must not change
// another.
func TestResultsShareNoMemory(t *testing.T) {
	f := newFixture(t)
	decrypt := func(sealed []byte) []byte {
		out, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
		require.NoError(t, err)
		return out.Plaintext
	}
	for _, size := range []int{1, 31, 32, 33, 4096} {
		key, err := f.svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, NumberOfBytes: new(int32(min(size, 1024)))})
		require.NoError(t, err)
		sealed := encrypt(t, f.svc, f.symmetric.KeyId, strings.Repeat("p", size))
		opened := decrypt(sealed)
		results := [][]byte{key.Plaintext, key.CiphertextBlob, sealed, opened, encrypt(t, f.svc, f.symmetric.KeyId, "p"), decrypt(sealed)}
		before := make([][]byte, len(results))
		for i := range results {
			before[i] = bytes.Clone(results[i])
		}
		for i := range results {
			require.Equal(t, before[i], results[i], "%d bytes", size)
			_ = append(results[i], "beyond the end"...)
			clear(results[i])
		}
	}
}

func TestEncryptTakesOneTo4096Bytes(t *testing.T) {
	f := newFixture(t)
	const tooLong = "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"
	const none = "1 validation error detected: Value null at 'plaintext' failed to satisfy constraint: Member must not be null"
	const empty = "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1"
	for size, message := range map[int]string{-1: none, 0: empty, 1: "", 2: "", 4095: "", 4096: "", 4097: tooLong, 100_000: tooLong} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			var plaintext []byte
			if size >= 0 {
				plaintext = make([]byte, size)
				rand.Read(plaintext)
			}
			e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: plaintext})
			if message != "" {
				requireError(t, err, kms.ValidationException, "%s", message)
				return
			}
			require.NoError(t, err)
			require.Len(t, e.CiphertextBlob, size+blobOverhead)
			requireDecrypts(t, f.svc, e.CiphertextBlob, string(plaintext))
		})
	}
}

// As in docs/ciphertext.md: if a bit of bytes 1 to 22 is flipped, the blob names a key that does
// not exist. If any other bit is flipped, the blob is not a valid ciphertext.
func TestEveryFlippedBitOfACiphertextIsRefused(t *testing.T) {
	f := newFixture(t)
	e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("secret"), EncryptionContext: someContext})
	require.NoError(t, err)
	root := f.svc.Caller().ARN()
	for bit := range 8 * len(e.CiphertextBlob) {
		const flagBit, account, keyID, material, nonce = 8 + 7, 2 * 8, 7 * 8, 23 * 8, 55 * 8
		identity := bit == flagBit || bit >= account && bit < material
		ciphertext := flip(e.CiphertextBlob, bit)
		for _, id := range []string{"", f.symmetric.Arn, f.symmetric.KeyId} {
			out, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, KeyId: id, EncryptionContext: someContext})
			require.Nil(t, out)
			_, again := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{
				CiphertextBlob: ciphertext, SourceKeyId: id, SourceEncryptionContext: someContext, DestinationKeyId: f.other.KeyId})
			bare := id == f.symmetric.KeyId && bit >= account && bit < keyID // the bare ID of another account's key
			switch {
			case !identity:
				requireError(t, err, kms.InvalidCiphertextException, "")
				requireError(t, again, kms.InvalidCiphertextException, "")
				cause := kms.ErrContextOrAltered
				if bit < account {
					cause = kms.ErrNotCiphertext
				} else if bit < nonce {
					cause = kms.ErrUnknownKeyMaterial
				}
				require.ErrorIs(t, err, cause)
				require.ErrorIs(t, again, cause)
			case id == "" || bare:
				requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(root, "kms:Decrypt"))
				requireError(t, again, kms.AccessDeniedException, "%s", deniedCiphertextMessage(root, "kms:ReEncryptFrom"))
			default:
				requireError(t, err, kms.IncorrectKeyException, incorrectKey)
				requireError(t, again, kms.IncorrectKeyException, incorrectKey)
			}
		}
	}
}

func TestEveryTruncatedOrExtendedCiphertextIsRefused(t *testing.T) {
	f := newFixture(t)
	for n := 1; n < len(f.ciphertext); n++ {
		for _, ciphertext := range [][]byte{f.ciphertext[:n], f.ciphertext[n:]} {
			for _, id := range []string{"", f.symmetric.Arn} {
				_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, KeyId: id})
				var e *kms.Error
				require.ErrorAs(t, err, &e)
				if e.Code != kms.InvalidCiphertextException { // what is left from some place on may look like a header
					require.Contains(t, []kms.ErrorCode{kms.AccessDeniedException, kms.IncorrectKeyException}, e.Code)
				}
			}
		}
		_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext[:n]})
		requireError(t, err, kms.InvalidCiphertextException, "")
	}
	for _, longer := range [][]byte{append(bytes.Clone(f.ciphertext), 0), append(bytes.Clone(f.ciphertext), f.ciphertext...)} {
		_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: longer})
		requireError(t, err, kms.InvalidCiphertextException, "")
	}
	_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: make([]byte, 6145)})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144")
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
}

func TestPartsOfTwoCiphertextsDoNotMakeAThird(t *testing.T) {
	f := newFixture(t)
	a, b := encrypt(t, f.svc, f.symmetric.KeyId, "aaaaaaaa"), encrypt(t, f.svc, f.symmetric.KeyId, "bbbbbbbb")
	for _, cut := range []int{79, 87, len(a) - 16} { // behind the nonce, within the ciphertext, before the tag
		_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: append(bytes.Clone(a[:cut]), b[cut:]...)})
		requireError(t, err, kms.InvalidCiphertextException, "")
	}
	other := encrypt(t, f.svc, f.other.KeyId, "aaaaaaaa")
	_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: append(bytes.Clone(other[:55]), a[55:]...)})
	requireError(t, err, kms.InvalidCiphertextException, "")
}

func TestDecryptNeedsTheSameContext(t *testing.T) {
	f := newFixture(t)
	for name, tt := range map[string]struct{ given, later map[string]string }{
		"none for some":                {map[string]string{"a": "b"}, nil},
		"some for none":                {nil, map[string]string{"a": "b"}},
		"another value":                {map[string]string{"a": "b"}, map[string]string{"a": "c"}},
		"another key":                  {map[string]string{"a": "b"}, map[string]string{"c": "b"}},
		"another case of the value":    {map[string]string{"a": "b"}, map[string]string{"a": "B"}},
		"another case of the key":      {map[string]string{"a": "b"}, map[string]string{"A": "b"}},
		"one pair less":                {map[string]string{"a": "b", "c": "d"}, map[string]string{"a": "b"}},
		"one pair more":                {map[string]string{"a": "b"}, map[string]string{"a": "b", "c": "d"}},
		"key and value swapped":        {map[string]string{"a": "b"}, map[string]string{"b": "a"}},
		"values swapped":               {map[string]string{"a": "b", "c": "d"}, map[string]string{"a": "d", "c": "b"}},
		"a letter moved":               {map[string]string{"a": "bc"}, map[string]string{"ab": "c"}},
		"a pair moved into a value":    {map[string]string{"a": "b", "c": "d"}, map[string]string{"a": "b\x00\x01c\x00\x01d"}},
		"a space more":                 {map[string]string{"a": "b"}, map[string]string{"a": "b "}},
		"another form of one letter":   {map[string]string{"a": "é"}, map[string]string{"a": "e\u0301"}},
		"another form of a whole word": {map[string]string{"ﬁ": "x"}, map[string]string{"fi": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: tt.given})
			require.NoError(t, err)
			_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: tt.later})
			requireError(t, err, kms.InvalidCiphertextException, "")
			_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: tt.given})
			require.NoError(t, err)
		})
	}
}

func TestAnEmptyContextEqualsNoContext(t *testing.T) {
	f := newFixture(t)
	contexts := []map[string]string{nil, {}}
	for _, given := range contexts {
		e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: given})
		require.NoError(t, err)
		for _, later := range contexts {
			_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: later})
			require.NoError(t, err)
		}
	}
}

func TestAContextHasAtMost8192Bytes(t *testing.T) {
	f := newFixture(t)
	longest := map[string]string{"k": strings.Repeat("v", 8192-4-1)}
	e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: longest})
	require.NoError(t, err)
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: longest})
	require.NoError(t, err)

	for name, context := range map[string]map[string]string{
		"one byte too long":  {"k": strings.Repeat("v", 8192-4)},
		"a long key":         {strings.Repeat("k", 8192): "v"},
		"two pairs together": {"k": strings.Repeat("v", 8192-4-1), "l": "w"},
		"beyond 16 bits":     {"k": strings.Repeat("v", 1<<16)},
		"a megabyte":         {"k": strings.Repeat("v", 1<<20)},
		"many small pairs":   manyPairs(2000),
	} {
		t.Run(name, func(t *testing.T) {
			const message = "The encryption context is longer than 8192 bytes."
			_, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: context})
			requireError(t, err, kms.ValidationException, message)
			_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: context})
			requireError(t, err, kms.ValidationException, message)
			_, err = f.svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, KeySpec: kms.DataKeySpecAES256, EncryptionContext: context})
			requireError(t, err, kms.ValidationException, message)
			_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{
				CiphertextBlob: f.ciphertext, DestinationKeyId: f.other.KeyId, DestinationEncryptionContext: context})
			requireError(t, err, kms.ValidationException, message)
			_, err = f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: context, DryRun: true})
			requireError(t, err, kms.ValidationException, message)
		})
	}
}

func manyPairs(n int) map[string]string {
	pairs := make(map[string]string, n)
	for i := range n {
		pairs[fmt.Sprint(i)] = "v"
	}
	return pairs
}

func TestDecryptOfADeletedKeysCiphertext(t *testing.T) {
	f := newFixture(t)
	scheduleDeletion(t, f.svc, f.symmetric.KeyId, 7)
	_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext})
	requireError(t, err, kms.KMSInvalidStateException, "%s is pending deletion.", f.symmetric.Arn)
	f.clock.Move(7 * day)
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(f.svc.Caller().ARN(), "kms:Decrypt"))
	for _, id := range []string{f.symmetric.KeyId, f.symmetric.Arn} {
		_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: id})
		requireError(t, err, kms.NotFoundException, "Key '%s' does not exist", f.symmetric.Arn)
	}
}

func TestACiphertextStaysInItsRegion(t *testing.T) {
	f := newFixture(t)
	_, err := f.svc.In("eu-west-1").Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(f.svc.Caller().ARN(), "kms:Decrypt"))
}

func TestEncryptionWithAKeyOfAnotherUsageIsRefused(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		key   *kms.KeyMetadata
		usage string
	}{{f.signing, "SIGN_VERIFY"}, {f.mac, "GENERATE_VERIFY_MAC"}} {
		_, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: tt.key.KeyId, Plaintext: []byte("x")})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for Encrypt.", tt.key.Arn, tt.usage)
		_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: f.ciphertext, DestinationKeyId: tt.key.KeyId})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for ReEncrypt.", tt.key.Arn, tt.usage)
	}
}

func TestAnAlgorithmThatTheKeyDoesNotHaveIsRefused(t *testing.T) {
	f := newFixture(t)
	for _, algorithm := range (kms.EncryptionAlgorithmSpec)("").Values() {
		if algorithm == kms.EncryptionAlgorithmSymmetricDefault {
			continue
		}
		t.Run(string(algorithm), func(t *testing.T) {
			const message = "Algorithm %s is incompatible with key spec SYMMETRIC_DEFAULT."
			_, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionAlgorithm: algorithm})
			requireError(t, err, kms.InvalidKeyUsageException, message, algorithm)
			_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.symmetric.KeyId, CiphertextBlob: f.ciphertext, EncryptionAlgorithm: algorithm})
			requireError(t, err, kms.InvalidKeyUsageException, message, algorithm)
			_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: f.symmetric.KeyId, CiphertextBlob: f.ciphertext,
				DestinationKeyId: f.other.KeyId, DestinationEncryptionAlgorithm: algorithm})
			requireError(t, err, kms.InvalidKeyUsageException, message, algorithm)
			_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: f.ciphertext, SourceEncryptionAlgorithm: algorithm, DestinationKeyId: f.other.KeyId})
			requireError(t, err, kms.ValidationException, "SourceKeyId must not be null")
		})
	}
}

func TestTheOutputOfReEncryptHasAllMembers(t *testing.T) {
	f := newFixture(t)
	there := map[string]string{"stage": "2"}
	source, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: someContext})
	require.NoError(t, err)
	for name, destination := range map[string]*kms.KeyMetadata{"another key": f.other, "the same key": f.symmetric} {
		t.Run(name, func(t *testing.T) {
			for _, sourceID := range []string{"", f.symmetric.KeyId, fixtureAlias} {
				out, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: source.CiphertextBlob, SourceKeyId: sourceID,
					SourceEncryptionContext: someContext, DestinationKeyId: destination.Arn, DestinationEncryptionContext: there})
				require.NoError(t, err)
				require.Equal(t, &kms.ReEncryptOutput{
					KeyId: destination.Arn, SourceKeyId: f.symmetric.Arn, CiphertextBlob: out.CiphertextBlob,
					SourceEncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault, DestinationEncryptionAlgorithm: kms.EncryptionAlgorithmSymmetricDefault,
					SourceKeyMaterialId: f.symmetric.CurrentKeyMaterialId, DestinationKeyMaterialId: destination.CurrentKeyMaterialId}, out)
				d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, KeyId: destination.KeyId, EncryptionContext: there})
				require.NoError(t, err)
				require.Equal(t, "x", string(d.Plaintext))
				_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: someContext})
				requireError(t, err, kms.InvalidCiphertextException, "")
			}
		})
	}
	_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: source.CiphertextBlob, DestinationKeyId: f.other.KeyId})
	requireError(t, err, kms.InvalidCiphertextException, "")
}

func TestRotationKeepsOldCiphertextsAndReEncryptRenewsThem(t *testing.T) {
	f := newFixture(t)
	var ciphertexts [][]byte
	var materials []string
	for i := range 4 {
		ciphertexts = append(ciphertexts, encrypt(t, f.svc, f.symmetric.KeyId, fmt.Sprint(i)))
		materials = append(materials, describe(t, f.svc, f.symmetric.KeyId).CurrentKeyMaterialId)
		f.clock.Move(day)
		_, err := f.svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: f.symmetric.KeyId})
		require.NoError(t, err)
	}
	current := describe(t, f.svc, f.symmetric.KeyId).CurrentKeyMaterialId
	require.NotContains(t, materials, current)
	for i, c := range ciphertexts {
		require.Equal(t, materials[i], requireDecrypts(t, f.svc, c, fmt.Sprint(i)))
		out, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: c, DestinationKeyId: f.symmetric.KeyId})
		require.NoError(t, err)
		require.Equal(t, materials[i], out.SourceKeyMaterialId)
		require.Equal(t, current, out.DestinationKeyMaterialId)
		require.Equal(t, current, requireDecrypts(t, f.svc, out.CiphertextBlob, fmt.Sprint(i)))
	}
	// A ciphertext that names another material of the same key does not decrypt.
	swapped := append(bytes.Clone(ciphertexts[0][:23]), ciphertexts[1][23:55]...)
	_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: append(swapped, ciphertexts[0][55:]...)})
	requireError(t, err, kms.InvalidCiphertextException, "")
}

func TestADryRunDoesNotNeedACiphertext(t *testing.T) {
	f := newFixture(t)
	ignore := []kms.DryRunModifierType{kms.DryRunModifierIgnoreCiphertext}
	_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.symmetric.KeyId, DryRun: true, DryRunModifiers: ignore})
	require.ErrorIs(t, err, kms.DryRunOperationException)
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.symmetric.KeyId, CiphertextBlob: []byte("ignored"), DryRun: true, DryRunModifiers: ignore})
	require.ErrorIs(t, err, kms.DryRunOperationException)
	_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: f.symmetric.KeyId, DestinationKeyId: f.other.KeyId, DryRun: true, DryRunModifiers: ignore})
	require.ErrorIs(t, err, kms.DryRunOperationException)
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.mac.KeyId, DryRun: true, DryRunModifiers: ignore})
	requireError(t, err, kms.IncorrectKeyException, incorrectKey)
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{DryRun: true, DryRunModifiers: ignore})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.symmetric.KeyId, DryRunModifiers: ignore})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{DestinationKeyId: f.other.KeyId, DryRun: true})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{DryRun: true, DryRunModifiers: ignore, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")
}

func TestARecipientIsRefused(t *testing.T) {
	f := newFixture(t)
	recipient := &kms.RecipientInfo{AttestationDocument: []byte("document")}
	for operation, in := range map[string]any{
		"Decrypt":             &kms.DecryptInput{CiphertextBlob: f.ciphertext, Recipient: recipient},
		"GenerateDataKey":     &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, KeySpec: kms.DataKeySpecAES256, Recipient: recipient},
		"DeriveSharedSecret":  &kms.DeriveSharedSecretInput{KeyId: f.agreement.KeyId, PublicKey: f.peer, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, Recipient: recipient},
		"GenerateDataKeyPair": &kms.GenerateDataKeyPairInput{KeyId: f.symmetric.KeyId, KeyPairSpec: kms.DataKeyPairSpecSM2, Recipient: recipient},
		"GenerateRandom":      &kms.GenerateRandomInput{NumberOfBytes: new(int32(1)), Recipient: recipient},
	} {
		_, err := f.invoke(t, operation, in)
		requireError(t, err, kms.UnsupportedOperationException, "Recipient is not supported: no attestation document can be verified here.")
	}
}

func TestEveryCiphertextDecryptsToItsPlaintext(t *testing.T) {
	f := newFixture(t)
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	roundTrip := func(plaintext []byte, k1, v1, k2, v2, otherKey string) bool {
		context := map[string]string{"1" + k1: "1" + v1, "2" + k2: "2" + v2} // nothing is empty
		if len(plaintext) == 0 || len(plaintext) > 4096 {
			plaintext = []byte{0}
		}
		key := []*kms.KeyMetadata{f.symmetric, f.other}[rng.IntN(2)]
		e, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: plaintext, EncryptionContext: context})
		if err != nil {
			return false
		}
		d, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: context})
		if err != nil || !bytes.Equal(d.Plaintext, plaintext) || d.KeyId != key.Arn {
			return false
		}
		changed := map[string]string{otherKey: "not in it"}
		for k, v := range context {
			changed[k] = v
		}
		if _, ok := context[otherKey]; ok {
			delete(changed, otherKey)
		}
		_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: changed})
		if err == nil {
			return false
		}
		_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: flip(e.CiphertextBlob, rng.IntN(8*len(e.CiphertextBlob))), EncryptionContext: context})
		return err != nil
	}
	require.NoError(t, quick.Check(roundTrip, &quick.Config{MaxCount: 300}), "seed %d", seed)
}

// Whether Decrypt and ReEncrypt require a ciphertext depends on other members. A missing one is
// reported together with all other violations.
func TestAMissingCiphertextIsReportedWithOtherViolations(t *testing.T) {
	svc, _ := newService(t)
	tokens := slices.Repeat([]string{"token"}, 11)
	const null = "Value null at '%s' failed to satisfy constraint: Member must not be null"
	for _, caller := range []*kms.Service{svc, svc.As(kms.Principal{})} {
		for _, in := range []*kms.DecryptInput{{}, {GrantTokens: tokens[:1]}, {Recipient: &kms.RecipientInfo{}}} {
			_, err := caller.Decrypt(t.Context(), in)
			requireError(t, err, kms.ValidationException, "1 validation error detected: "+null, "ciphertextBlob")
		}
	}
	_, err := svc.Decrypt(t.Context(), &kms.DecryptInput{GrantTokens: tokens})
	requireError(t, err, kms.ValidationException, "2 validation errors detected: Value at 'grantTokens' failed to satisfy constraint: "+
		"Member must have length less than or equal to 10; "+null, "ciphertextBlob")
	_, err = svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceEncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256})
	requireError(t, err, kms.ValidationException, "2 validation errors detected: "+null+"; "+null, "destinationKeyId", "ciphertextBlob")
}

// A dry run of Decrypt decrypts the ciphertext, unless DryRunModifiers say to ignore it.
func TestADryRunDecryptsTheCiphertext(t *testing.T) {
	f := newFixture(t)
	flipped := flip(f.ciphertext, 8*len(f.ciphertext)-1)
	for name, tt := range map[string]struct {
		ciphertext []byte
		context    map[string]string
		modifiers  []kms.DryRunModifierType
		want       kms.ErrorCode
	}{
		"right":                         {f.ciphertext, nil, nil, kms.DryRunOperationException},
		"changed":                       {flipped, nil, nil, kms.InvalidCiphertextException},
		"in another encryption context": {f.ciphertext, map[string]string{"tenant": "8"}, nil, kms.InvalidCiphertextException},
		"changed, and ignored":          {flipped, nil, []kms.DryRunModifierType{kms.DryRunModifierIgnoreCiphertext}, kms.DryRunOperationException},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: f.symmetric.KeyId, CiphertextBlob: tt.ciphertext,
				EncryptionContext: tt.context, DryRun: true, DryRunModifiers: tt.modifiers})
			require.ErrorIs(t, err, tt.want)
			_, err = f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: f.symmetric.KeyId, CiphertextBlob: tt.ciphertext,
				SourceEncryptionContext: tt.context, DestinationKeyId: f.other.KeyId, DryRun: true, DryRunModifiers: tt.modifiers})
			require.ErrorIs(t, err, tt.want)
		})
	}
}
