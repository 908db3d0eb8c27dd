package kms_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/keystoretest"
)

// TestMain fails if a test has leaked a goroutine.
func TestMain(m *testing.M) {
	runChild()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		fmt.Fprint(os.Stderr, durabilityRun)
		os.Exit(code)
	}))
}

// day is the API's unit of rotation periods and waiting periods.
const day = 24 * time.Hour

// A clock stands still until it is moved. Its methods may be called concurrently.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// MoveTo sets the clock. It never moves it backwards.
func (c *clock) MoveTo(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Before(c.now) {
		panic("the clock was set back")
	}
	c.now = t
}

// newService returns a service in memory with a new clock. It is closed when the test ends.
// settings change its Config.
func newService(t testing.TB, settings ...func(*kms.Config)) (*kms.Service, *clock) {
	t.Helper()
	clock := newClock()
	return startService(t, kms.Config{Clock: clock.Now}, settings), clock
}

// sharedRoot is the root key of all stores of openService.
var sharedRoot = keystoretest.RootKey()

// openService returns a service on the file at path, which it creates if it does not exist. The
// service is closed when the test ends, if it is still open.
func openService(t testing.TB, path string, clock *clock, settings ...func(*kms.Config)) *kms.Service {
	t.Helper()
	backend, err := bolt.Open(path)
	require.NoError(t, err)
	return startService(t, kms.Config{Backend: backend, RootKey: sharedRoot, Clock: clock.Now}, settings)
}

func startService(t testing.TB, config kms.Config, settings []func(*kms.Config)) *kms.Service {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	for _, set := range settings {
		set(&config)
	}
	svc, err := kms.New(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		for err := range svc.Check(context.Background(), nil) {
			if !errors.Is(err, kms.ErrClosed) {
				t.Errorf("the key store is not consistent: %v", err)
			}
		}
		require.NoError(t, svc.Close())
	})
	return svc
}

// requireConsistent requires that a store has no faults.
func requireConsistent(t testing.TB, store *keystore.Store) {
	t.Helper()
	for err := range keydb.CheckStore(context.Background(), store, keydb.Config{Clock: time.Now, Logger: slog.Default()}, nil) {
		t.Errorf("the key store is not consistent: %v", err)
	}
}

// requireError requires that err is the exception code with exactly this message, and that
// errors.Is and errors.As find it.
func requireError(t testing.TB, err error, code kms.ErrorCode, format string, arguments ...any) {
	t.Helper()
	message := format
	if len(arguments) > 0 {
		message = fmt.Sprintf(format, arguments...)
	}
	var e *kms.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, string(code)+": "+message, string(e.Code)+": "+e.Message)
	require.ErrorIs(t, err, code)
	require.NotEmpty(t, e.Operation)
}

// rootOf returns the root of an account.
func rootOf(t testing.TB, account string) kms.Principal {
	t.Helper()
	return principal(t, "arn:aws:iam::"+account+":root")
}

func principal(t testing.TB, arn string) kms.Principal {
	t.Helper()
	p, err := kms.ParsePrincipal(arn)
	require.NoError(t, err)
	return p
}

// hiddenResource is the reason in the error for a key that is another account's or does not exist.
const hiddenResource = "the resource does not exist in this Region, no resource-based policies allow access, " +
	"or a resource-based policy explicitly denies access"

// createKey creates a key. A nil in means a symmetric encryption key. All RSA keys of a spec have
// the same material, because it takes up to seconds to generate one.
func createKey(t testing.TB, svc *kms.Service, in *kms.CreateKeyInput) *kms.KeyMetadata {
	t.Helper()
	ctx := context.Background()
	if in != nil && strings.HasPrefix(string(in.KeySpec), "RSA_") && in.Origin != kms.OriginExternal {
		ctx = testhook.WithKey(ctx, &testhook.SeedKey{ID: arn.NewKeyID(in.MultiRegion), Materials: [][]byte{fixedRSA(t, in.KeySpec)}})
	}
	out, err := svc.CreateKey(ctx, in)
	require.NoError(t, err)
	return out.KeyMetadata
}

// fixedRSA returns a private key of Wycheproof for an RSA spec.
func fixedRSA(t testing.TB, spec kms.KeySpec) []byte { return wycheproofRSA(t, spec, "sha256") }

// otherRSA returns another one.
func otherRSA(t testing.TB, spec kms.KeySpec) []byte { return wycheproofRSA(t, spec, "sha512") }

func wycheproofRSA(t testing.TB, spec kms.KeySpec, hash string) []byte {
	t.Helper()
	var file struct {
		TestGroups []struct{ PrivateKeyPkcs8 string }
	}
	f, err := wycheproof.TestVectors.Open(fmt.Sprintf("rsa_oaep_%s_%s_mgf1%[2]s_test.json", strings.TrimPrefix(string(spec), "RSA_"), hash))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, json.NewDecoder(f).Decode(&file))
	material, err := hex.DecodeString(file.TestGroups[0].PrivateKeyPkcs8)
	require.NoError(t, err)
	return material
}

// createSigningKey creates a key that can sign with ECDSA_SHA_256.
func createSigningKey(t testing.TB, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
}

// createMacKey creates a key for HMAC_SHA_256.
func createMacKey(t testing.TB, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac})
}

// createPrimary creates a symmetric multi-Region key.
func createPrimary(t testing.TB, svc *kms.Service) *kms.KeyMetadata {
	t.Helper()
	return createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true})
}

// replicate creates a replica of a multi-Region key.
func replicate(t testing.TB, svc *kms.Service, keyID, region string) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.ReplicateKey(context.Background(), &kms.ReplicateKeyInput{KeyId: keyID, ReplicaRegion: region})
	require.NoError(t, err)
	return out.ReplicaKeyMetadata
}

// replicaARN returns the ARN of the replica of a key of us-east-1 in replicaRegion.
func replicaARN(primary *kms.KeyMetadata) string {
	return strings.Replace(primary.Arn, "us-east-1", replicaRegion, 1)
}

func createAlias(t testing.TB, svc *kms.Service, name, keyID string) {
	t.Helper()
	_, err := svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: keyID})
	require.NoError(t, err)
}

// createGrant creates a grant. Unless in has them, alice is the grantee and Decrypt is the
// operation.
func createGrant(t testing.TB, svc *kms.Service, in *kms.CreateGrantInput) *kms.CreateGrantOutput {
	t.Helper()
	given := *in
	if given.GranteePrincipal+given.GranteeServicePrincipal == "" {
		given.GranteePrincipal = fixtureAlice
	}
	if given.Operations == nil {
		given.Operations = []kms.GrantOperation{kms.GrantOperationDecrypt}
	}
	out, err := svc.CreateGrant(context.Background(), &given)
	require.NoError(t, err)
	return out
}

func describe(t testing.TB, svc *kms.Service, keyID string) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: keyID})
	require.NoError(t, err)
	return out.KeyMetadata
}

// encrypt encrypts text under a key.
func encrypt(t testing.TB, svc *kms.Service, keyID, text string) []byte {
	t.Helper()
	out, err := svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: keyID, Plaintext: []byte(text)})
	require.NoError(t, err)
	return out.CiphertextBlob
}

// requireDecrypts requires that ciphertext decrypts to text, and returns the ID of its key
// material.
func requireDecrypts(t testing.TB, svc *kms.Service, ciphertext []byte, text string) (materialID string) {
	t.Helper()
	out, err := svc.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: ciphertext})
	require.NoError(t, err)
	require.Equal(t, text, string(out.Plaintext))
	return out.KeyMaterialId
}

func disable(t testing.TB, svc *kms.Service, keyID string) {
	t.Helper()
	_, err := svc.DisableKey(context.Background(), &kms.DisableKeyInput{KeyId: keyID})
	require.NoError(t, err)
}

func enable(t testing.TB, svc *kms.Service, keyID string) {
	t.Helper()
	_, err := svc.EnableKey(context.Background(), &kms.EnableKeyInput{KeyId: keyID})
	require.NoError(t, err)
}

// scheduleDeletion schedules the deletion of a key in days.
func scheduleDeletion(t testing.TB, svc *kms.Service, keyID string, days int32) *kms.ScheduleKeyDeletionOutput {
	t.Helper()
	out, err := svc.ScheduleKeyDeletion(context.Background(), &kms.ScheduleKeyDeletionInput{KeyId: keyID, PendingWindowInDays: &days})
	require.NoError(t, err)
	return out
}
