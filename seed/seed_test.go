package seed_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/seed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const symmetricID = "1234abcd-12ab-34cd-56ef-1234567890ab"

// yamlBlocks returns the YAML blocks of docs/seed.md.
func yamlBlocks(t testing.TB) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/seed.md")
	require.NoError(t, err)
	for _, rest := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, ok := strings.Cut(rest, "```\n")
		require.True(t, ok)
		blocks = append(blocks, block)
	}
	return blocks
}

// example is the complete example of docs/seed.md.
func example(t testing.TB) string { return yamlBlocks(t)[0] }

func newService(t testing.TB) *kms.Service { return newAuditedService(t, nil) }

func newAuditedService(t testing.TB, sink audit.Sink) *kms.Service {
	t.Helper()
	clock := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	svc, err := kms.New(kms.Config{Clock: clock, Audit: sink, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	return svc
}

func loaded(t testing.TB) *kms.Service {
	t.Helper()
	svc := newService(t)
	require.NoError(t, seed.Load(t.Context(), svc, strings.NewReader(example(t))))
	return svc
}

func describe(t testing.TB, svc *kms.Service, id string) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id})
	require.NoError(t, err)
	return out.KeyMetadata
}

func TestTheExampleOfTheDocumentCreatesItsKeys(t *testing.T) {
	svc := loaded(t)
	ctx := t.Context()

	app := describe(t, svc, "alias/app/v1")
	require.Equal(t, symmetricID, app.KeyId)
	require.Equal(t, "encrypts what the app stores", app.Description)
	require.Equal(t, kms.KeyStateEnabled, app.KeyState)
	tags, err := svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: symmetricID})
	require.NoError(t, err)
	require.Equal(t, []kms.Tag{{TagKey: "stage", TagValue: "test"}, {TagKey: "team", TagValue: "payments"}}, tags.Tags)

	require.True(t, describe(t, svc, "alias/global").MultiRegion)
	here, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/global", Plaintext: []byte("hello")})
	require.NoError(t, err)
	there, err := svc.In("eu-west-1").Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: here.CiphertextBlob})
	require.NoError(t, err)
	require.Equal(t, "hello", string(there.Plaintext))

	other, err := kms.ParsePrincipal("arn:aws:iam::444455556666:root")
	require.NoError(t, err)
	policy, err := svc.As(other).GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: "0987dcba-09fe-87dc-65ba-ab0987654321"})
	require.NoError(t, err)
	require.Contains(t, policy.Policy, "arn:aws:iam::111122223333:role/app")

	require.Equal(t, kms.KeyStateDisabled, describe(t, svc, "11111111-2222-3333-4444-000000000001").KeyState)
	pending := describe(t, svc, "11111111-2222-3333-4444-000000000002")
	require.Equal(t, kms.KeyStatePendingDeletion, pending.KeyState)
	require.Equal(t, pending.CreationDate.Add(7*24*time.Hour), pending.DeletionDate)
}

// golden was encrypted by the key of the example in an earlier run. It decrypts if the key has the
// same ID and material.
const golden = "AQAZ32aQ5RI0q80SqzTNVu8SNFZ4kKvjJsa43jJba8mIkl39l4CmS/WRbFHh8pYfenChnaSwD+W4x0xmuH5sYrVsESptZyPh2lAMzsDkDM/xhF9Yn9DpIVVVPxv+jZhdb8aTnNd4flrP"

func TestWhatOneRunEncryptsTheNextDecrypts(t *testing.T) {
	blob, err := base64.StdEncoding.DecodeString(golden)
	require.NoError(t, err)
	out, err := loaded(t).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"run": "1"}})
	require.NoError(t, err)
	require.Equal(t, "from run 1", string(out.Plaintext))
}

func TestKeyMaterialIDsAreTheSameOnEveryRun(t *testing.T) {
	want := sha256.Sum256([]byte("github.com/pocketkms/kms key material\x00" + symmetricID + "\x00" +
		"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"))
	require.Equal(t, hex.EncodeToString(want[:]), describe(t, loaded(t), symmetricID).CurrentKeyMaterialId)
}

// RFC 4231 has no such key. The value is that of
//
//	printf message | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001...1f
func TestAMACIsThatOfTheMaterial(t *testing.T) {
	out, err := loaded(t).GenerateMac(t.Context(), &kms.GenerateMacInput{
		KeyId: "aaaaaaaa-0000-4000-8000-000000000256", MacAlgorithm: kms.MacAlgorithmHMACSHA256, Message: []byte("message"),
	})
	require.NoError(t, err)
	require.Equal(t, "6297b77508a1a30ea4dfadd8f847c31b49aba45de10a79daf721d3f7ec112a24", hex.EncodeToString(out.Mac))
}

// The private key of RFC 7515, appendix A.3, in every encoding.
const (
	rfcX = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	rfcY = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	rfcD = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
	rfc  = `{"kty":"EC","crv":"P-256","x":"` + rfcX + `","y":"` + rfcY + `","d":"` + rfcD + `","use":"sig"}`
)

func rfcKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	x, err1 := base64.RawURLEncoding.DecodeString(rfcX)
	y, err2 := base64.RawURLEncoding.DecodeString(rfcY)
	d, err3 := base64.RawURLEncoding.DecodeString(rfcD)
	require.NoError(t, errors.Join(err1, err2, err3))
	// An ECPrivateKey (RFC 5915), encoded by hand.
	der := append([]byte{0x30, 0x77, 2, 1, 1, 4, 32}, d...)
	der = append(der, 0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 0xa1, 0x44, 3, 0x42, 0, 4)
	key, err := x509.ParseECPrivateKey(append(append(der, x...), y...))
	require.NoError(t, err)
	return key
}

func TestEveryEncodingOfAPrivateKeyIsTheSameKey(t *testing.T) {
	key := rfcKey(t)
	sec1, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	bare, err := hex.DecodeString("3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420")
	require.NoError(t, err)
	d, err := base64.RawURLEncoding.DecodeString(rfcD)
	require.NoError(t, err)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for name, material := range map[string]seed.Material{
		"JWK":                        seed.JWK(rfc),
		"PEM of PKCS#8":              seed.PEM(block("PRIVATE KEY", pkcs8)),
		"PEM of SEC 1":               seed.PEM(block("EC PRIVATE KEY", sec1)),
		"PEM with a curve":           seed.PEM("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + block("EC PRIVATE KEY", sec1)),
		"DER":                        seed.Bytes(pkcs8),
		"DER without its public key": seed.Bytes(append(bare, d...)),
		"hexadecimal DER":            seed.Hex(hex.EncodeToString(pkcs8)),
		"base64 of DER":              seed.Base64(base64.URLEncoding.EncodeToString(pkcs8)),
	} {
		t.Run(name, func(t *testing.T) {
			svc := loaded(t) // has the key: other material would be a conflict
			same := seed.Key{ID: "eeeeeeee-0000-4000-8000-000000000256", Spec: kms.KeySpecECCNISTP256, Usage: kms.KeyUsageSignVerify, Material: material}
			require.NoError(t, seed.Apply(t.Context(), svc, same))

			signed, err := svc.Sign(t.Context(), &kms.SignInput{
				KeyId: same.ID, Message: []byte("message"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256,
			})
			require.NoError(t, err)
			digest := sha256.Sum256([]byte("message"))
			require.True(t, ecdsa.VerifyASN1(&key.PublicKey, digest[:], signed.Signature))
		})
	}
}

func TestApplyingTheSameKeysAgainChangesNothing(t *testing.T) {
	var changes []string
	svc := newAuditedService(t, audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
		if !e.ReadOnly {
			changes = append(changes, e.EventName+e.ErrorCode)
		}
		return nil
	}))
	require.NoError(t, seed.Load(t.Context(), svc, strings.NewReader(example(t))))
	changes = nil
	require.NoError(t, seed.Load(t.Context(), svc, strings.NewReader(example(t))))
	require.NotEmpty(t, changes)
	for _, change := range changes {
		require.Equal(t, "CreateKeyAlreadyExistsException", change)
	}
}

func TestWhatAKeyDoesNotMentionStays(t *testing.T) {
	svc := loaded(t)
	ctx := t.Context()
	_, err := svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: symmetricID})
	require.NoError(t, err)
	_, err = svc.TagResource(ctx, &kms.TagResourceInput{KeyId: symmetricID, Tags: []kms.Tag{{TagKey: "more", TagValue: "x"}}})
	require.NoError(t, err)
	_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/more", TargetKeyId: symmetricID})
	require.NoError(t, err)

	require.NoError(t, seed.Load(ctx, svc, strings.NewReader(example(t))))
	require.NoError(t, seed.Apply(ctx, svc, seed.Key{ID: symmetricID}))

	require.Equal(t, kms.KeyStateDisabled, describe(t, svc, "alias/more").KeyState)
	require.Equal(t, "encrypts what the app stores", describe(t, svc, symmetricID).Description)
	tags, err := svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: symmetricID})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 3)
}

const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`

// requireAsAsked requires that the key, made with this state, has what the tests below ask for.
func requireAsAsked(t *testing.T, svc *kms.Service, state kms.KeyState) {
	t.Helper()
	for _, name := range []string{"alias/a", "alias/b", "alias/c"} {
		key := describe(t, svc, name)
		require.Equal(t, symmetricID, key.KeyId)
		require.Equal(t, "as asked", key.Description)
		require.Equal(t, state, key.KeyState)
	}
	tags, err := svc.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: symmetricID})
	require.NoError(t, err)
	require.Equal(t, []kms.Tag{{TagKey: "stage", TagValue: "test"}, {TagKey: "team", TagValue: "payments"}}, tags.Tags)
	got, err := svc.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: symmetricID})
	require.NoError(t, err)
	require.JSONEq(t, policy, got.Policy)
}

func TestAnInterruptedSeedIsCompleted(t *testing.T) {
	for _, state := range []kms.KeyState{kms.KeyStateEnabled, kms.KeyStateDisabled, kms.KeyStatePendingDeletion} {
		t.Run(string(state), func(t *testing.T) {
			svc := newService(t)
			ctx := t.Context()
			other, err := svc.CreateKey(ctx, nil)
			require.NoError(t, err)
			_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/b", TargetKeyId: other.KeyMetadata.KeyId})
			require.NoError(t, err)
			key := seed.Key{
				ID: symmetricID, Material: seed.Bytes(make([]byte, 32)), Aliases: []string{"alias/a", "alias/b", "alias/c"},
				Description: "as asked", Tags: map[string]string{"team": "payments", "stage": "test"}, State: state, Policy: policy,
			}
			for range 2 { // the alias is not taken from its key
				require.ErrorIs(t, seed.Apply(ctx, svc, key), kms.AlreadyExistsException)
				require.Equal(t, other.KeyMetadata.KeyId, describe(t, svc, "alias/b").KeyId)
			}
			_, err = svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/b"})
			require.NoError(t, err)

			for range 2 {
				require.NoError(t, seed.Apply(ctx, svc, key))
				requireAsAsked(t, svc, state)
			}
		})
	}
}

func TestAChangedKeyIsRestored(t *testing.T) {
	svc := newService(t)
	ctx := t.Context()
	key := seed.Key{ID: symmetricID}
	require.NoError(t, seed.Apply(ctx, svc, key))
	_, err1 := svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: symmetricID})
	_, err2 := svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: symmetricID, Description: "another"})
	_, err3 := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: symmetricID, Tags: []kms.Tag{{TagKey: "stage", TagValue: "production"}}})
	require.NoError(t, errors.Join(err1, err2, err3))

	key.Aliases, key.Description, key.Policy = []string{"alias/a", "alias/b", "alias/c"}, "as asked", policy
	key.Tags, key.State = map[string]string{"team": "payments", "stage": "test"}, kms.KeyStateEnabled
	require.NoError(t, seed.Apply(ctx, svc, key))
	requireAsAsked(t, svc, kms.KeyStateEnabled)
}

func TestAPendingDeletionIsNotCancelled(t *testing.T) {
	svc := newService(t)
	require.NoError(t, seed.Apply(t.Context(), svc, seed.Key{ID: symmetricID, State: kms.KeyStatePendingDeletion, PendingWindowInDays: 7}))
	before := describe(t, svc, symmetricID)
	for _, state := range []kms.KeyState{kms.KeyStateEnabled, kms.KeyStateDisabled} {
		err := seed.Apply(t.Context(), svc, seed.Key{ID: symmetricID, State: state, Policy: policy})
		require.ErrorContains(t, err, "the key exists and is pending deletion: it cannot become "+string(state))
	}
	require.NoError(t, seed.Apply(t.Context(), svc, seed.Key{ID: symmetricID, State: kms.KeyStatePendingDeletion, PendingWindowInDays: 30}))
	require.Equal(t, before, describe(t, svc, symmetricID))
}

// A service that is seeded at every start also starts after an application has scheduled the
// deletion of a key.
func TestAKeyPendingDeletionStaysIfTheSeedHasNoState(t *testing.T) {
	for name, change := range map[string]func(*seed.Key){
		"the alias is gone":   func(*seed.Key) {},
		"another description": func(k *seed.Key) { k.Description = "another" },
		"another tag":         func(k *seed.Key) { k.Tags = map[string]string{"stage": "production"} },
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			ctx := t.Context()
			key := seed.Key{ID: symmetricID, Aliases: []string{"alias/app"}, Description: "one", Tags: map[string]string{"stage": "test"}}
			require.NoError(t, seed.Apply(ctx, svc, key))
			_, err1 := svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/app"})
			_, err2 := svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: symmetricID})
			require.NoError(t, errors.Join(err1, err2))
			before := describe(t, svc, symmetricID)
			change(&key)
			key.Policy = policy // it can be changed

			require.NoError(t, seed.Apply(ctx, svc, key))
			require.Equal(t, before, describe(t, svc, symmetricID))
			got, err := svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: symmetricID})
			require.NoError(t, err)
			require.JSONEq(t, policy, got.Policy)

			key.State = kms.KeyStatePendingDeletion // now the labels are required
			require.ErrorIs(t, seed.Apply(ctx, svc, key), kms.KMSInvalidStateException)
		})
	}
}

func TestAnotherKeyOfTheSameIDIsAConflict(t *testing.T) {
	svc := loaded(t)
	for name, key := range map[string]seed.Key{
		"other material": {ID: symmetricID, Material: seed.Bytes(make([]byte, 32))},
		"more material": {ID: symmetricID, Material: seed.Bytes(make([]byte, 32)), PreviousMaterials: []seed.Material{
			seed.Hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")}},
		"another spec": {ID: symmetricID, Spec: kms.KeySpecHMAC256, Usage: kms.KeyUsageGenerateVerifyMac,
			Material: seed.Hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, seed.Apply(t.Context(), svc, key), kms.ConflictException)
		})
	}
}

func TestImpossibleKeysAreRefused(t *testing.T) {
	const id = "00000000-0000-4000-8000-000000000000"
	const notKeyID = `): this is not a key ID: it must be a lower-case UUID, or "mrk-" and 32 lower-case hexadecimal digits for a multi-Region key`
	sign := func(m seed.Material) seed.Key {
		return seed.Key{ID: id, Spec: kms.KeySpecECCNISTP256, Usage: kms.KeyUsageSignVerify, Material: m}
	}
	for name, tt := range map[string]struct {
		key  seed.Key
		want string
	}{
		"no ID":                    {seed.Key{}, notKeyID},
		"an ID in upper case":      {seed.Key{ID: strings.ToUpper(symmetricID)}, notKeyID},
		"a path for an ID":         {seed.Key{ID: "../../../../12345678-1234-1234-12345"}, notKeyID},
		"an ID and more":           {seed.Key{ID: id + "\n"}, notKeyID},
		"a multi-Region UUID":      {seed.Key{ID: "mrk-" + id}, notKeyID},
		"an account":               {seed.Key{ID: id, Account: "1234"}, `the account "1234" is not 12 digits`},
		"a Region":                 {seed.Key{ID: id, Region: "a/b"}, "is not the name of a Region"},
		"an alias":                 {seed.Key{ID: id, Aliases: []string{"app"}}, `Alias must start with the prefix "alias/"`},
		"an alias of AWS":          {seed.Key{ID: id, Aliases: []string{"alias/aws/s3"}}, "InvalidAliasNameException"},
		"a tag of AWS":             {seed.Key{ID: id, Tags: map[string]string{"aws:x": "y"}}, "TagException"},
		"a policy":                 {seed.Key{ID: id, Policy: "{}"}, "MalformedPolicyDocumentException"},
		"a state":                  {seed.Key{ID: id, State: kms.KeyStateCreating}, `the state "Creating" is not`},
		"a window without a state": {seed.Key{ID: id, PendingWindowInDays: 7}, "only for the state PendingDeletion"},
		"a window":                 {seed.Key{ID: id, State: kms.KeyStatePendingDeletion, PendingWindowInDays: 6}, "ValidationException"},
		"a spec":                   {seed.Key{ID: id, Spec: "AES_256"}, "ValidationException"},
		"a spec without a usage":   {seed.Key{ID: id, Spec: kms.KeySpecHMAC256}, "You must specify a KeyUsage value"},
		"31 bytes":                 {seed.Key{ID: id, Material: seed.Bytes(make([]byte, 31))}, "31 bytes instead of 32"},
		"no bytes":                 {seed.Key{ID: id, Material: seed.Bytes(nil)}, "0 bytes instead of 32"},
		"hexadecimal digits":       {seed.Key{ID: id, Material: seed.Hex("0g")}, "not hexadecimal"},
		"base64":                   {seed.Key{ID: id, Material: seed.Base64("*")}, "not base64"},
		"a private key for AES":    {seed.Key{ID: id, Material: seed.JWK(rfc)}, "a private key cannot be the material for KeySpec SYMMETRIC_DEFAULT"},
		"bytes for a private key":  {sign(seed.Bytes(make([]byte, 32))), "invalid key material"},
		"a symmetric JWK for it":   {sign(seed.JWK(`{"kty":"oct","k":"AAEC"}`)), "invalid key material"},
		"another curve":            {sign(seed.JWK(strings.Replace(rfc, "P-256", "P-384", 1))), "not a private key of this algorithm"},
		"an unknown curve":         {sign(seed.JWK(strings.Replace(rfc, "P-256", "P-255", 1))), "not a JSON Web Key"},
		"a public JWK":             {sign(seed.JWK(strings.Replace(rfc, rfcD, "", 1))), "not a JSON Web Key"},
		"another public key":       {sign(seed.JWK(strings.Replace(rfc, "f83O", "f83P", 1))), "public key of another private key"},
		"an empty JWK of RSA":      {sign(seed.JWK(`{"kty":"RSA"}`)), "not a JSON Web Key"},
		"a JWK of X25519":          {sign(seed.JWK(`{"kty":"OKP","crv":"X25519","d":"AAAA","x":"AAAA"}`)), "not a JSON Web Key"},
		"a JWK with a long member": {sign(seed.JWK(strings.ReplaceAll(rfc, rfcD, strings.Repeat("A", 1024)))), "not a JSON Web Key"},
		"a PEM block encrypted by openssl": {sign(seed.PEM("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")),
			"encrypted"},
		"no JSON":                    {sign(seed.JWK("{")), "not a JSON Web Key"},
		"no PEM":                     {sign(seed.PEM("secret")), "not one PEM block"},
		"two PEM blocks":             {sign(seed.PEM(strings.Repeat("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 2))), "not one PEM block"},
		"PEM with a tail":            {sign(seed.PEM("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\nsecret")), "not one PEM block"},
		"an encrypted PEM block":     {sign(seed.PEM("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")), "encrypted"},
		"a PEM block of RSA":         {sign(seed.PEM("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")), "not a private key of this algorithm"},
		"a certificate":              {sign(seed.PEM("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "PEM block of this type"},
		"an empty PEM block":         {sign(seed.PEM("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")), "does not hold an EC private key with the name of its curve"},
		"a PEM block of something":   {sign(seed.PEM("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "invalid key material"},
		"a key of an impossible use": {seed.Key{ID: id, Usage: kms.KeyUsageSignVerify}, "not compatible with KeySpec"},
	} {
		t.Run(name, func(t *testing.T) {
			err := seed.Apply(t.Context(), newService(t), tt.key)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, fmt.Sprintf("seed: keys[0] (%.64q)", tt.key.ID))
			require.NotContains(t, err.Error(), rfcD[:6])
		})
	}
}

func TestTwoKeysCannotHaveTheSameName(t *testing.T) {
	one := seed.Key{ID: symmetricID, Aliases: []string{"alias/a"}}
	two := seed.Key{ID: "00000000-0000-4000-8000-000000000000", Aliases: []string{"alias/b", "alias/a"}}
	svc := newService(t)

	require.EqualError(t, seed.Apply(t.Context(), svc, one, two),
		`seed: keys[1] ("00000000-0000-4000-8000-000000000000"): "alias/a" is taken by keys[0]`)
	require.ErrorContains(t, seed.Apply(t.Context(), svc, one, one), `"`+symmetricID+`" is taken by keys[0]`)
	keys, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, keys.Keys, "none was created")

	two.Region = "eu-west-1" // where both names are free
	require.NoError(t, seed.Apply(t.Context(), svc, one, two))
}

func TestMalformedFilesAreRefused(t *testing.T) {
	const id = "version: 1\nkeys:\n  - id: " + symmetricID + "\n"
	for name, tt := range map[string]struct{ file, want string }{
		"an empty file":   {"", "the file is empty"},
		"no version":      {"keys: []", `seed: the file does not have the member "version: 1"`},
		"a later version": {"version: 2\nkeys: []", "the file has version 2"},
		"not YAML":        {"\t", "seed: the file is not as docs/seed.md describes"},
		"a list":          {"- version: 1", "line 1: a mapping is wanted"},
		"two documents":   {"version: 1\n---\nversion: 1\n", "more than one document"},
		"an unknown member": {id + "    keyid: x\n", "seed: line 4: a key has id, account, region, spec, usage, origin, material, previousMaterials, " +
			"materialValidityInDays, materialDescription, state, pendingWindowInDays, aliases, description, tags, policy, grants and nothing else"},
		"an alias for aliases":  {id + "    aliases: alias/x\n", "seed: line 4: a list is wanted"},
		"a member of singular":  {id + "    alias: alias/x\n", "seed: line 4: a key has id, "},
		"a member twice":        {id + "    spec: HMAC_256\n    spec: HMAC_256\n", "line 5: a member is there twice"},
		"a key without an ID":   {"version: 1\nkeys:\n  - spec: HMAC_256\n", "keys[0] (\"\"): a key needs an id"},
		"material out of place": {id + "    material: s3cr3tmaterial\n", "seed: line 4: a mapping is wanted"},
		"material of no form":   {id + "    material: {}\n", "exactly one of hex, base64, pem and jwk"},
		"material of two forms": {id + "    material: {hex: s3cr3t, base64: s3cr3t}\n", "exactly one of hex, base64, pem and jwk"},
		"unreadable material":   {id + "    material: {hex: s3cr3t}\n", `keys[0] ("` + symmetricID + `"): the material is not hexadecimal`},
		"unreadable previous material": {id + "    material: {hex: 00}\n    previousMaterials:\n    - hex: '" + strings.Repeat("00", 32) + "'\n    - {hex: s3cr3t}\n",
			`seed: line 7: keys[0] ("` + symmetricID + `"): the material is not hexadecimal`},
		"material of another length": {id + "    material:\n      hex: 00\n", `seed: line 4: keys[0] ("` + symmetricID +
			`"): the material does not suit KeySpec SYMMETRIC_DEFAULT: crypto: invalid key material: 1 bytes instead of 32`},
		"material of another spec": {id + "    spec: RSA_2048\n    usage: SIGN_VERIFY\n    material:\n      jwk: " + rfc + "\n",
			`seed: line 6: keys[0] ("` + symmetricID + `"): the material does not suit KeySpec RSA_2048: crypto: invalid key material: not a private key of this algorithm`},
		"a grant without a name":       {id + "    grants:\n    - operations: [Decrypt]\n", `seed: line 5: keys[0] ("` + symmetricID + `"): a grant needs a name`},
		"two grants of one name":       {id + "    grants:\n    - name: a\n    - name: a\n", `line 6: keys[0] ("` + symmetricID + `"): two grants of the key have the name "a"`},
		"an unknown grant member":      {id + "    grants: [{grantee: x}]\n", "line 4: a grant has name, granteePrincipal, granteeServicePrincipal, retiringPrincipal, retiringServicePrincipal, operations, constraints and nothing else"},
		"previous material of no form": {id + "    previousMaterials: [{hex: 00}, {}]\n", `line 4: keys[0] ("` + symmetricID + `"): a material has exactly one of hex, base64, pem and jwk`},
		"only a previous material":     {id + "    previousMaterials: [{hex: 00}]\n", "needs a material"},
		"an unknown JWK member":        {id + "    material: {jwk: {kty: oct, s3cr3t: x}}\n", "line 4: jwk has kty, crv, x, y, n, e, d, p, q, dp, dq, qi, k, kid, use, alg, key_ops, ext and nothing else"},
		"material and no colon":        {id + "    material: {hexs3cr3t}\n", "line 4: material has hex, base64, pem, jwk and nothing else"},
		"a member and no space":        {id + "    material: {hex:s3cr3t}\n", "line 4: material has hex"},
		"material as an alias":         {id + "    material: {base64: *s3cr3t}\n", "seed: the file is not as"},
		"one in a 2nd document":        {id + "---\n*s3cr3t\n", "seed: the file is not as"},
		"a name like a line":           {id + "    material: {\"line 0531 s3cr3t\": x}\n", "line 4: material has hex"},
		"a backtick in a value":        {id + "    material: a`s3cr3t\n", "line 4: a mapping is wanted"},
		"a line end in a value":        {id + "    material: \"a\\ns3cr3t\"\n", "line 4: a mapping is wanted"},
		"a tag":                        {id + "    material: !s3cr3t {hex: 00}\n", "seed: "},
		"a tag of a scalar":            {id + "    pendingWindowInDays: !!int s3cr3t\n", "seed: "},
		"a handle of a tag":            {id + "    material: !s3cr3t!x y\n", "is not as"},
		"too many keys":                {"version: 1\nkeys: [" + strings.Repeat("{id: a},", 10_001) + "]", "line 2: a list has at most 10000 entries"},
		"too long a mapping":           {"version: 1\nkeys:\n  - id: a\n    tags: {" + strings.Repeat("a: b, ", 65) + "}", "line 4: a mapping has at most 64 members"},
		"an empty entry":               {id + "  -\n", "line 4: an entry of a list is empty"},
		"too long a file":              {"version: 1\n" + strings.Repeat("#\n", 2<<20), "longer than 4194304 bytes"},
		"a file full of aliases":       {"version: 1\nkeys:\n  - &a {id: a, tags: &t {a: b}}\n" + strings.Repeat("  - *a\n", 9_999), "seed: "},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			err := seed.Load(t.Context(), svc, strings.NewReader(tt.file))
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "s3cr3t")
			require.NotContains(t, err.Error(), "0531")
		})
	}
}

// Materials of a key that was rotated twice, oldest first.
var rotated = []seed.Material{
	seed.Bytes(bytes.Repeat([]byte{1}, 32)), seed.Bytes(bytes.Repeat([]byte{2}, 32)), seed.Bytes(bytes.Repeat([]byte{3}, 32)),
}

func rotatedKey(materials ...seed.Material) seed.Key {
	last := len(materials) - 1
	return seed.Key{ID: symmetricID, PreviousMaterials: materials[:last], Material: materials[last]}
}

func TestAKeyCanHavePreviousMaterials(t *testing.T) {
	ctx := t.Context()
	svc := newService(t)
	require.NoError(t, seed.Apply(ctx, svc, rotatedKey(rotated...)))
	key := describe(t, svc, symmetricID)
	var ids []string
	for i, m := range rotated {
		single := newService(t)
		require.NoError(t, seed.Apply(ctx, single, rotatedKey(m)))
		ids = append(ids, describe(t, single, symmetricID).CurrentKeyMaterialId)
		encrypted, err := single.Encrypt(ctx, &kms.EncryptInput{KeyId: symmetricID, Plaintext: []byte("hello")})
		require.NoError(t, err)
		decrypted, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob})
		require.NoError(t, err, "material %d", i)
		require.Equal(t, "hello", string(decrypted.Plaintext))
		require.Equal(t, ids[i], decrypted.KeyMaterialId)
	}
	require.Equal(t, ids[2], key.CurrentKeyMaterialId)

	list, err := svc.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: symmetricID, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	require.NoError(t, err)
	require.Len(t, list.Rotations, 3)
	for i, r := range list.Rotations {
		require.Equal(t, ids[i], r.KeyMaterialId)
	}
	require.Zero(t, list.Rotations[0].RotationDate)
	require.Equal(t, key.CreationDate, list.Rotations[2].RotationDate)
	require.Equal(t, kms.RotationTypeOnDemand, list.Rotations[2].RotationType)
	require.Equal(t, kms.KeyMaterialStateCurrent, list.Rotations[2].KeyMaterialState)

	require.NoError(t, seed.Apply(ctx, svc, rotatedKey(rotated...)), "it exists")
	_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: symmetricID})
	require.NoError(t, err)
	require.NoError(t, seed.Apply(ctx, svc, rotatedKey(rotated...)), "it was rotated since")
	for name, other := range map[string]seed.Key{
		"another order":     rotatedKey(rotated[1], rotated[0], rotated[2]),
		"fewer from behind": rotatedKey(rotated[1:]...),
		"one more":          rotatedKey(append(slices.Clone(rotated), seed.Bytes(bytes.Repeat([]byte{4}, 32)))...),
	} {
		require.ErrorIs(t, seed.Apply(ctx, svc, other), kms.ConflictException, name)
	}
}

func TestPreviousMaterialsCountAsOnDemandRotations(t *testing.T) {
	materials := make([]seed.Material, 27)
	for i := range materials {
		materials[i] = seed.Bytes(bytes.Repeat([]byte{byte(i)}, 32))
	}
	svc := newService(t)
	require.ErrorContains(t, seed.Apply(t.Context(), svc, rotatedKey(materials...)), "A key has at most 26 key materials.")
	require.NoError(t, seed.Apply(t.Context(), svc, rotatedKey(materials[:26]...)))
	_, err := svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: symmetricID})
	require.ErrorIs(t, err, kms.LimitExceededException)
}

func TestImpossiblePreviousMaterialsAreRefused(t *testing.T) {
	hmac := rotatedKey(rotated...)
	hmac.Spec, hmac.Usage = kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac
	for name, tt := range map[string]struct {
		key  seed.Key
		want string
	}{
		"without a current one": {seed.Key{ID: symmetricID, PreviousMaterials: rotated}, "a key with previous materials needs a material"},
		"an empty one":          {rotatedKey(seed.Material{}, rotated[0]), "none of them can be empty"},
		"an unreadable one":     {rotatedKey(seed.Hex("0g"), rotated[0]), "not hexadecimal"},
		"a short one":           {rotatedKey(seed.Hex("00"), rotated[0]), "1 bytes instead of 32"},
		"one twice":             {rotatedKey(rotated[0], rotated[0]), "The key materials of a key must differ."},
		"of a key for MACs":     {hmac, "A key of KeySpec HMAC_256 has one key material."},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			require.ErrorContains(t, seed.Apply(t.Context(), svc, tt.key), tt.want)
			keys, err := svc.ListKeys(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, keys.Keys)
		})
	}
}

func TestTheOwnerOfAKeyIsOfThePartitionOfItsRegion(t *testing.T) {
	svc := newService(t)
	require.NoError(t, seed.Apply(t.Context(), svc, seed.Key{ID: symmetricID, Region: "cn-north-1", Aliases: []string{"alias/app"}}))
	require.Equal(t, "arn:aws-cn:kms:cn-north-1:111122223333:key/"+symmetricID, describe(t, svc.In("cn-north-1"), "alias/app").Arn)
}

// docs/seed.md has a file of local-kms, and the same keys in this format.
func TestAFileOfLocalKMSIsRefusedAndCanBeConverted(t *testing.T) {
	blocks := yamlBlocks(t)
	require.Len(t, blocks, 3, "the example, a file of local-kms, and what becomes of it")
	svc := newService(t)
	for name, file := range map[string]string{
		"of the document": blocks[1],
		"with CRLF":       strings.ReplaceAll(blocks[1], "\n", "\r\n"),
		"aliases only":    "Aliases:\n  - AliasName: alias/testing\n    TargetKeyId: " + symmetricID + "\n",
	} {
		require.EqualError(t, seed.Load(t.Context(), svc, strings.NewReader(file)), "seed: this is a seed file of local-kms "+
			"(nsmithuk/local-kms), which has another format: docs/seed.md shows how to write its keys and aliases in this one", name)
	}
	err := seed.Load(t.Context(), svc, strings.NewReader("version: 1\nkeys:\n  - id: a\n    Keys: x\n"))
	require.ErrorContains(t, err, "seed: line 4: a key has id", "only at the top level")

	svc = newService(t).In("eu-west-2")
	require.NoError(t, seed.Load(t.Context(), svc, strings.NewReader(blocks[2])))
	list, err := svc.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: "6f1d5c2e-8a34-4b7d-9c21-3e5f7a9b1d02"})
	require.NoError(t, err)
	require.Len(t, list.Rotations, 1)
	require.Equal(t, "an AES key, rotated once", describe(t, svc, "alias/testing").Description)
	require.Equal(t, kms.KeySpecECCNISTP256, describe(t, svc, "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d").KeySpec)
	imported := describe(t, svc, "3b7a9d15-6c2e-4f80-a1b4-7d9e0c5f2a63")
	require.Equal(t, kms.OriginExternal, imported.Origin)
	require.Equal(t, kms.KeyStateEnabled, imported.KeyState)
}

func TestMaterialIsNotPrinted(t *testing.T) {
	key := seed.Key{ID: symmetricID, Material: seed.Bytes([]byte("secret")), Aliases: []string{"alias/a"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed := fmt.Sprintf(verb, key)
		require.NotContains(t, printed, "secret")
		require.NotContains(t, printed, hex.EncodeToString([]byte("secret")))
		require.NotContains(t, printed, "115 101 99")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add("version: 1\nkeys: [{id: a, material: {jwk: {kty: EC}}}]")
	f.Fuzz(func(t *testing.T, file string) {
		keys, err := seed.Parse(strings.NewReader(file))
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "seed: "), err.Error())
			require.Nil(t, keys)
		}
	})
}

func ExampleApply() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		panic(err)
	}
	defer svc.Close()
	ctx := context.Background()
	err = seed.Apply(ctx, svc, seed.Key{
		ID:       "1234abcd-12ab-34cd-56ef-1234567890ab",
		Aliases:  []string{"alias/app"},
		Material: seed.Hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
	})
	if err != nil {
		panic(err)
	}
	out, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/app"})
	if err != nil {
		panic(err)
	}
	fmt.Println(out.KeyMetadata.Arn)
	fmt.Println(out.KeyMetadata.CurrentKeyMaterialId[:16])
	// Output:
	// arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
	// e326c6b8de325b6b
}
