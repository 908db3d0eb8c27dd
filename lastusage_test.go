package kms_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// lastUsage returns the last use of a key. It is the zero value if there is none.
func lastUsage(t testing.TB, svc *kms.Service, keyID string) *kms.KeyLastUsageData {
	t.Helper()
	out, err := svc.GetKeyLastUsage(context.Background(), &kms.GetKeyLastUsageInput{KeyId: keyID})
	require.NoError(t, err)
	require.NotNil(t, out.KeyLastUsage)
	return out.KeyLastUsage
}

func TestAKeyThatWasNeverUsedHasNoLastUse(t *testing.T) {
	svc, clock := newService(t)
	created := clock.Now()
	k := createKey(t, svc, nil)
	clock.Move(day)
	for _, id := range []string{k.KeyId, k.Arn} {
		out, err := svc.GetKeyLastUsage(context.Background(), &kms.GetKeyLastUsageInput{KeyId: id})
		require.NoError(t, err)
		require.Equal(t, &kms.GetKeyLastUsageOutput{
			KeyId: id, KeyLastUsage: &kms.KeyLastUsageData{}, TrackingStartDate: created, KeyCreationDate: created,
		}, out)
	}
}

// useOperations are the operations that count as uses of a key.
var useOperations = slices.DeleteFunc(slices.Clone(dryRunOperations), func(op string) bool { return strings.HasSuffix(op, "Grant") })

func TestOnlyCryptographicOperationsAreLastUses(t *testing.T) {
	uses := map[string]bool{}
	for _, operation := range useOperations {
		uses[operation] = true
	}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		subject := f.subject(op.Name())
		before := lastUsage(t, f.svc, subject.KeyId)
		f.clock.Move(time.Hour)
		_, err := op.Invoke(context.Background(), f.svc, in)
		require.NoError(t, err)
		after := lastUsage(t, f.svc, subject.KeyId)
		if !uses[op.Name()] {
			require.Equal(t, before, after)
			return
		}
		require.Equal(t, op.Name(), string(after.Operation))
		require.Equal(t, f.clock.Now(), after.Timestamp)
		const uuid = `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`
		require.Regexp(t, uuid, after.KmsRequestId)
		require.Regexp(t, uuid, after.CloudTrailEventId)
		require.NotEqual(t, after.KmsRequestId, after.CloudTrailEventId)
		require.NotEqual(t, before.KmsRequestId, after.KmsRequestId)
		if op.Name() == "ReEncrypt" {
			require.Equal(t, after, lastUsage(t, f.svc, f.other.KeyId), "one call, the same on both keys")
		}
	})
}

func TestAFailedOperationIsNotALastUse(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	flipped := append([]byte(nil), f.ciphertext...)
	flipped[len(flipped)-1] ^= 1
	before := map[string]*kms.KeyLastUsageData{}
	for _, k := range []*kms.KeyMetadata{f.symmetric, f.other, f.signing, f.mac, f.agreement, f.kem} {
		before[k.KeyId] = lastUsage(t, f.svc, k.KeyId)
	}
	f.clock.Move(day)
	_, err := f.svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: flipped})
	requireError(t, err, kms.InvalidCiphertextException, "")
	_, err = f.svc.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: flipped, DestinationKeyId: f.other.KeyId})
	requireError(t, err, kms.InvalidCiphertextException, "")
	_, err = f.svc.Verify(ctx, &kms.VerifyInput{KeyId: f.signing.KeyId, Message: []byte("another"), Signature: f.signature, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
	requireError(t, err, kms.KMSInvalidSignatureException, "")
	_, err = f.svc.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: f.mac.KeyId, Message: []byte("another"), Mac: f.tag, MacAlgorithm: kms.MacAlgorithmHMACSHA256})
	requireError(t, err, kms.KMSInvalidMacException, "")
	for id, want := range before {
		require.Equal(t, want, lastUsage(t, f.svc, id))
	}
	for _, operation := range useOperations {
		subject := f.subject(operation)
		disable(t, f.svc, subject.KeyId)
		_, err := f.invoke(t, operation, f.example(t, operation))
		require.ErrorIs(t, err, kms.DisabledException)
		require.Equal(t, before[subject.KeyId], lastUsage(t, f.svc, subject.KeyId), operation)
	}
}

func TestTheLastUseSurvivesChangesAndCloseAndOpen(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	used, unused := createKey(t, svc, nil), createKey(t, svc, nil)
	ciphertext := encrypt(t, svc, used.KeyId, "text")
	want := lastUsage(t, svc, used.KeyId)
	disable(t, svc, used.KeyId)
	enable(t, svc, used.KeyId)
	require.Equal(t, want, lastUsage(t, svc, used.KeyId), "after a change")
	for range 2 {
		require.NoError(t, svc.Close())
		clock.Move(day)
		svc = openService(t, path, clock)
		require.Equal(t, want, lastUsage(t, svc, used.KeyId), "after Close and Open")
		require.Zero(t, *lastUsage(t, svc, unused.KeyId))
	}
	requireDecrypts(t, svc, ciphertext, "text")
	want = lastUsage(t, svc, used.KeyId)
	require.Equal(t, kms.KeyLastUsageTrackingOperationDecrypt, want.Operation)
	require.NoError(t, svc.Close())
	require.Equal(t, want, lastUsage(t, openService(t, path, clock), used.KeyId), "a later use in place of the earlier one")
}

// Close stores the use, or the call fails.
func TestAUseWhileTheServiceClosesIsStoredOrFails(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	k := createKey(t, svc, nil)
	require.NoError(t, svc.Close())

	closing := openService(t, path, clock, func(c *kms.Config) {
		var closed atomic.Bool
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			out, err := next(ctx)
			if !closed.Swap(true) { // after the use, and before it is noted
				require.NoError(t, call.Service.Close())
			}
			return out, err
		}
	})
	out, err := closing.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")})
	require.ErrorIs(t, err, kms.ErrClosed)
	require.Nil(t, out)
	require.Zero(t, *lastUsage(t, openService(t, path, clock), k.KeyId))
}

// counting is a Backend that counts commits.
type counting struct {
	keystore.Backend
	commits atomic.Int64
}

func (b *counting) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	b.commits.Add(1)
	return b.Backend.Commit(ctx, tx)
}

func TestCloseStoresManyLastUsesInFewTransactions(t *testing.T) {
	backend := &counting{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	const keys = 500
	for range keys {
		encrypt(t, svc, createKey(t, svc, nil).KeyId, "x")
	}
	before := backend.commits.Load()
	require.NoError(t, svc.Close())
	require.LessOrEqual(t, backend.commits.Load()-before, int64(keys/50+1))
}
