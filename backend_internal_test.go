package kms

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// A failing is a Backend that does something of the test's own before each
// commit, which may be to fail it.
type failing struct {
	keystore.Backend
	commit atomic.Pointer[func(keystore.Tx) error]
}

func (f *failing) before(commit func(keystore.Tx) error) { f.commit.Store(&commit) }

func (f *failing) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if before := f.commit.Load(); before != nil && *before != nil {
		if err := (*before)(tx); err != nil {
			return 0, err
		}
	}
	return f.Backend.Commit(ctx, tx)
}

type useFixture struct {
	*Service
	backend *failing
	now     atomic.Pointer[time.Time]
	keys    []string
}

func hour(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }

func newUseFixture(t *testing.T, keys int) *useFixture {
	f := &useFixture{backend: &failing{Backend: memory.New()}}
	f.now.Store(new(hour(0)))
	svc, err := New(Config{Backend: f.backend, RootKey: keystore.Ephemeral(), Clock: func() time.Time { return *f.now.Load() }})
	require.NoError(t, err)
	t.Cleanup(func() { svc.Close() })
	svc.cancel() // the tests do the work in the background themselves, one step at a time
	svc.workers.Wait()
	f.Service = svc
	for range keys {
		out, err := svc.CreateKey(t.Context(), nil)
		require.NoError(t, err)
		f.keys = append(f.keys, out.KeyMetadata.KeyId)
	}
	return f
}

// use uses a key at an hour of the day.
func (f *useFixture) use(t *testing.T, key string, at int) {
	f.now.Store(new(hour(at)))
	_, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: key, Plaintext: []byte("x")})
	require.NoError(t, err)
}

// requireUsed requires the hour of the last use to be told, and after storing it
// to be told from the store, too.
func (f *useFixture) requireUsed(t *testing.T, key string, at int) {
	t.Helper()
	for range 2 {
		out, err := f.GetKeyLastUsage(t.Context(), &GetKeyLastUsageInput{KeyId: key})
		require.NoError(t, err)
		require.Equal(t, at, out.KeyLastUsage.Timestamp.Hour())
		require.NoError(t, f.storeUses(t.Context()))
		f.core.keys.clear()
	}
}

func TestAUseDuringAFailedStoreIsNotLost(t *testing.T) {
	f := newUseFixture(t, 1)
	f.use(t, f.keys[0], 1)
	refused := errors.New("refused")
	f.backend.before(func(keystore.Tx) error {
		f.core.keys.clear() // the key is loaded anew, and used
		f.use(t, f.keys[0], 7)
		return refused
	})
	require.ErrorIs(t, f.storeUses(t.Context()), refused)
	f.backend.before(nil)
	f.requireUsed(t, f.keys[0], 7)
}

func TestAUseDuringAStoreIsNotLost(t *testing.T) {
	f := newUseFixture(t, 1)
	f.use(t, f.keys[0], 1)
	f.backend.before(func(keystore.Tx) error {
		f.core.keys.clear()
		f.use(t, f.keys[0], 8)
		return nil
	})
	require.NoError(t, f.storeUses(t.Context()))
	f.backend.before(nil)
	f.requireUsed(t, f.keys[0], 8)
}

func TestALateStoreDoesNotSetALastUseBack(t *testing.T) {
	f := newUseFixture(t, 1)
	f.use(t, f.keys[0], 1)
	f.backend.before(func(keystore.Tx) error { // another process stores a later use first
		f.backend.before(nil)
		f.use(t, f.keys[0], 6)
		return f.storeUses(t.Context())
	})
	require.NoError(t, f.storeUses(t.Context()))
	f.requireUsed(t, f.keys[0], 6)
}

func TestALateCallDoesNotSetALastUseBack(t *testing.T) {
	f := newUseFixture(t, 1)
	f.use(t, f.keys[0], 9)
	f.use(t, f.keys[0], 5)
	f.requireUsed(t, f.keys[0], 9)
}

func TestADamagedKeyDoesNotHinderTheLastUsesOfOthers(t *testing.T) {
	f := newUseFixture(t, 3)
	ref := func(i int) keyRef { return keyRef{"111122223333", "us-east-1", f.keys[i]} }
	_, err := f.backend.Backend.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: ref(1).recordName(), Value: []byte("damaged")}}})
	require.NoError(t, err)
	for i := range f.keys {
		u, record := new(lastUse), usageRecord{Operation: KeyLastUsageTrackingOperationEncrypt, Time: hour(3)}
		require.True(t, u.note(nil, 0, record))
		f.toStore(ref(i), u, record)
	}
	require.ErrorIs(t, f.storeUses(t.Context()), keystore.ErrCorrupt)
	for _, i := range []int{0, 2} {
		_, err := f.store.Get(t.Context(), ref(i).usageName())
		require.NoError(t, err)
	}
}

func TestASweepGoesOnPastANameThatItCannotRead(t *testing.T) {
	f := newUseFixture(t, 1)
	_, err := f.ScheduleKeyDeletion(t.Context(), &ScheduleKeyDeletionInput{KeyId: f.keys[0]})
	require.NoError(t, err)
	_, err = f.store.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: "due/000000000000", Value: []byte("?")}}})
	require.NoError(t, err)
	f.now.Store(new(hour(30 * 24)))
	require.ErrorIs(t, f.destroyDue(t.Context()), keystore.ErrCorrupt)
	_, err = f.store.Get(t.Context(), keyRef{"111122223333", "us-east-1", f.keys[0]}.recordName())
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

// The store may be sealed by another KMS, whose exceptions are not this one's.
func TestTheExceptionsOfAnotherServiceAreNotThisOnes(t *testing.T) {
	f := newUseFixture(t, 1)
	theirs := &Error{Code: NotFoundException, Message: "theirs"}
	for _, err := range []error{theirs, errors.Join(keystore.ErrRootKey, theirs), context.DeadlineExceeded} {
		f.backend.before(func(keystore.Tx) error { return &keystore.RecordError{Key: "header", Err: err} })
		_, got := f.DisableKey(t.Context(), &DisableKeyInput{KeyId: f.keys[0]})
		f.backend.before(nil)
		require.ErrorIs(t, got, KMSInternalException)
		require.NotErrorIs(t, got, NotFoundException)
		require.Equal(t, errors.Is(err, keystore.ErrRootKey), errors.Is(got, keystore.ErrRootKey))
		var e *Error
		require.ErrorAs(t, got, &e)
		require.Equal(t, "DisableKey", e.Operation)
	}
}

func TestADamagedForeignKeyLooksLikeAForbiddenOne(t *testing.T) {
	f := newUseFixture(t, 1)
	ref := keyRef{"111122223333", "us-east-1", f.keys[0]}
	sealed, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: ref.id, Plaintext: []byte("x")})
	require.NoError(t, err)
	_, err = f.backend.Backend.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: ref.recordName(), Value: []byte("damaged")}}})
	require.NoError(t, err)
	f.core.keys.clear()
	in := &DescribeKeyInput{KeyId: f.keyARN(ref)}
	_, err = f.DescribeKey(t.Context(), in)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	foreign := f.As(rootOf("aws", "444455556666"))
	_, err = foreign.DescribeKey(t.Context(), in)
	require.ErrorIs(t, err, AccessDeniedException)
	_, err = foreign.Decrypt(t.Context(), &DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	require.ErrorIs(t, err, AccessDeniedException)
}
