package kms

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
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

func newUseFixture(t *testing.T, keys int, settings ...func(*Config)) *useFixture {
	f := &useFixture{backend: &failing{Backend: memory.New()}}
	f.now.Store(new(hour(0)))
	config := Config{Backend: f.backend, RootKey: keystore.Ephemeral(), Clock: func() time.Time { return *f.now.Load() }}
	for _, set := range settings {
		set(&config)
	}
	svc, err := New(config)
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
	f.damage(t, f.ref(1).recordName())
	for i := range f.keys {
		u, record := new(lastUse), usageRecord{Operation: KeyLastUsageTrackingOperationEncrypt, Time: hour(3)}
		require.True(t, u.note(nil, 0, record))
		f.toStore(f.ref(i), u, record)
	}
	require.ErrorIs(t, f.storeUses(t.Context()), keystore.ErrCorrupt)
	for _, i := range []int{0, 2} {
		_, err := f.store.Get(t.Context(), f.ref(i).usageName())
		require.NoError(t, err)
	}
}

// damage writes what no seal fits.
func (f *useFixture) damage(t *testing.T, names ...string) {
	var tx keystore.Tx
	for _, name := range names {
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: []byte("damaged")})
	}
	_, err := f.backend.Backend.Commit(t.Context(), tx)
	require.NoError(t, err)
	f.core.keys.clear()
}

func (f *useFixture) ref(key int) keyRef { return keyRef{"111122223333", "us-east-1", f.keys[key]} }

func TestASweepGoesOnPastWhatItCannotRead(t *testing.T) {
	f := newUseFixture(t, 2)
	for i := range f.keys {
		_, err := f.ScheduleKeyDeletion(t.Context(), &ScheduleKeyDeletionInput{KeyId: f.keys[i]})
		require.NoError(t, err)
	}
	_, err := f.store.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: "due/000000000000", Value: []byte("?")}}})
	require.NoError(t, err)
	f.damage(t, "due/9", f.ref(0).dueName(hour(30*24)))
	f.now.Store(new(hour(30 * 24)))
	require.ErrorIs(t, f.destroyDue(t.Context()), keystore.ErrCorrupt)
	for i := range f.keys {
		_, err = f.store.Get(t.Context(), f.ref(i).recordName())
		require.ErrorIs(t, err, keystore.ErrNotFound)
	}
}

func TestDamagedRecordsOfAKeyAreDestroyedToo(t *testing.T) {
	f := newUseFixture(t, 1)
	for range 2 {
		_, err := f.RotateKeyOnDemand(t.Context(), &RotateKeyOnDemandInput{KeyId: f.keys[0]})
		require.NoError(t, err)
	}
	for _, name := range []string{"alias/one", "alias/two", "alias/three"} {
		_, err := f.CreateAlias(t.Context(), &CreateAliasInput{AliasName: name, TargetKeyId: f.keys[0]})
		require.NoError(t, err)
	}
	_, err := f.ScheduleKeyDeletion(t.Context(), &ScheduleKeyDeletionInput{KeyId: f.keys[0]})
	require.NoError(t, err)
	materials, err := f.store.Scan(t.Context(), f.ref(0).materialsName(), "", 10)
	require.NoError(t, err)
	require.Len(t, materials, 3)
	f.damage(t, materials[0].Key, f.ref(0).aliasName("alias/one"), aliasRef{"111122223333", "us-east-1", "alias/two"}.recordName())
	f.now.Store(new(hour(30 * 24)))
	require.NoError(t, f.destroyDue(t.Context()))
	left, err := f.store.Scan(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestADamagedKeyIsListed(t *testing.T) {
	f := newUseFixture(t, 3)
	before, err := f.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	f.damage(t, f.ref(1).recordName())
	after, err := f.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, before, after)
	_, err = f.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: f.keys[1]})
	require.ErrorIs(t, err, keystore.ErrCorrupt)
}

func TestADamagedAliasIsListed(t *testing.T) {
	f := newUseFixture(t, 1)
	for _, name := range []string{"alias/one", "alias/two"} {
		_, err := f.CreateAlias(t.Context(), &CreateAliasInput{AliasName: name, TargetKeyId: f.keys[0]})
		require.NoError(t, err)
	}
	_, err := f.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: "alias/aws/s3"})
	require.NoError(t, err)
	before, err := f.ListAliases(t.Context(), nil)
	require.NoError(t, err)
	alias := func(name string) aliasRef { return aliasRef{"111122223333", "us-east-1", name} }
	f.damage(t, alias("alias/one").recordName(), alias("alias/aws/s3").recordName())
	f.core.aliases.clear()
	after, err := f.ListAliases(t.Context(), nil)
	require.NoError(t, err)
	for i, a := range before.Aliases {
		if a.AliasName == "alias/one" || a.AliasName == "alias/aws/s3" {
			a = AliasListEntry{AliasName: a.AliasName, AliasArn: a.AliasArn}
		}
		require.Equal(t, a, after.Aliases[i])
	}
	require.Len(t, after.Aliases, len(before.Aliases))
}

// A Backend that leads back shall not have a scan go on for ever.
func TestAScanThatLeadsBackEnds(t *testing.T) {
	f := newUseFixture(t, 3)
	store, err := keystore.Open(t.Context(), circling{f.backend}, f.config.RootKey)
	require.NoError(t, err)
	f.core.store = store
	names := 0
	for _, err = range f.names(t.Context(), "key/", "", 2) {
		names++
	}
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	require.Equal(t, 2+1, names, "and the error")
}

// A circling Backend begins each scan anew.
type circling struct{ keystore.Backend }

func (c circling) Scan(ctx context.Context, prefix, _ string, limit int) ([]keystore.Record, error) {
	return c.Backend.Scan(ctx, prefix, "", limit)
}

func TestADamagedLastUseHindersNothingAndIsReplaced(t *testing.T) {
	f := newUseFixture(t, 1)
	f.use(t, f.keys[0], 1)
	require.NoError(t, f.storeUses(t.Context()))
	f.damage(t, f.ref(0).usageName())
	_, err := f.GetKeyLastUsage(t.Context(), &GetKeyLastUsageInput{KeyId: f.keys[0]})
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	f.use(t, f.keys[0], 2)
	require.NoError(t, f.storeUses(t.Context()))
	f.requireUsed(t, f.keys[0], 2)
}

// A call may hold a snapshot of the key that the cache has given up.
func TestAUseUnderAnOldSnapshotIsKnown(t *testing.T) {
	f := newUseFixture(t, 1)
	old, err := f.lookup(t.Context(), f.ref(0), hour(0))
	require.NoError(t, err)
	f.core.keys.clear()
	_, err = f.lookup(t.Context(), f.ref(0), hour(0))
	require.NoError(t, err)
	record := usageRecord{Operation: KeyLastUsageTrackingOperationEncrypt, Time: hour(4)}
	require.True(t, old.lastUse.note(nil, 0, record))
	f.toStore(f.ref(0), old.lastUse, record)
	f.requireUsed(t, f.keys[0], 4)
}

func TestTheLastUseByAnotherProcessIsKnownOnceItIsStored(t *testing.T) {
	backend, root := memory.New(), keystore.Ephemeral()
	config := Config{Backend: backend, RootKey: root}
	one, err := New(config)
	require.NoError(t, err)
	defer one.Close()
	two, err := New(config)
	require.NoError(t, err)
	defer two.Close()
	key, err := one.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	in := &GetKeyLastUsageInput{KeyId: key.KeyMetadata.KeyId}
	unused, err := one.GetKeyLastUsage(t.Context(), in)
	require.NoError(t, err)
	require.Zero(t, *unused.KeyLastUsage)
	_, err = two.Encrypt(t.Context(), &EncryptInput{KeyId: in.KeyId, Plaintext: []byte("x")})
	require.NoError(t, err)
	require.NoError(t, two.storeUses(t.Context()))
	used, err := one.GetKeyLastUsage(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, KeyLastUsageTrackingOperationEncrypt, used.KeyLastUsage.Operation)
}

func TestACallThatCannotBeRecordedIsNoLastUse(t *testing.T) {
	refuse := false
	f := newUseFixture(t, 1, func(c *Config) {
		c.Audit = audit.SinkFunc(func(context.Context, *audit.Event) error {
			if refuse {
				return errors.New("refused")
			}
			return nil
		})
	})
	f.use(t, f.keys[0], 1)
	refuse = true
	f.now.Store(new(hour(2)))
	_, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: f.keys[0], Plaintext: []byte("x")})
	require.ErrorIs(t, err, KMSInternalException)
	refuse = false
	f.requireUsed(t, f.keys[0], 1)
}

// An outboxFixture has a sink that does what the test says with the events of
// the service itself.
type outboxFixture struct {
	*useFixture
	sink func(*audit.Event) error
}

func newOutboxFixture(t *testing.T) *outboxFixture {
	f := new(outboxFixture)
	f.useFixture = newUseFixture(t, 1, func(c *Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
			if e.EventType == audit.ServiceEvent && f.sink != nil {
				return f.sink(e)
			}
			return nil
		})
	})
	return f
}

func (f *outboxFixture) requireWaiting(t *testing.T, want int) {
	t.Helper()
	names := 0
	for _, err := range f.names(t.Context(), outboxName, "", 10) {
		require.NoError(t, err)
		names++
	}
	require.Equal(t, want, names)
}

func (f *outboxFixture) rotate(t *testing.T) {
	t.Helper()
	_, err := f.RotateKeyOnDemand(t.Context(), &RotateKeyOnDemandInput{KeyId: f.keys[0]})
	require.NoError(t, err)
}

func TestAServiceEventStaysInTheStoreUntilTheSinkHasIt(t *testing.T) {
	f := newOutboxFixture(t)
	f.rotate(t)
	f.requireWaiting(t, 0)
	refused := errors.New("refused")
	f.sink = func(*audit.Event) error { return refused }
	f.rotate(t)
	f.rotate(t)
	f.requireWaiting(t, 2)
	require.ErrorIs(t, f.deliverStored(t.Context()), refused)
	f.requireWaiting(t, 2)
	f.sink = nil
	require.NoError(t, f.deliverStored(t.Context()))
	f.requireWaiting(t, 0)
}

func TestAnEventThatCannotBeDeliveredDoesNotHoldUpOthers(t *testing.T) {
	f := newOutboxFixture(t)
	var offered []string
	f.sink = func(e *audit.Event) error {
		offered = append(offered, e.EventID.String())
		return errors.New("refused")
	}
	for range 6 {
		f.rotate(t)
	}
	first := offered[0]
	_, err := f.store.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: outboxName + "000000000001", Value: []byte("\x02newer")}}})
	require.NoError(t, err)
	f.damage(t, outboxName+"000000000000")

	offered = nil
	require.Error(t, f.deliverStored(t.Context()))
	require.Len(t, offered, maxRefusals, "then the sink is at fault")
	f.sink = func(e *audit.Event) error {
		if e.EventID.String() == first {
			return errors.New("not this one")
		}
		return nil
	}
	err = f.deliverStored(t.Context())
	require.ErrorContains(t, err, "not this one")
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	require.ErrorIs(t, err, keystore.ErrNewerVersion)
	f.requireWaiting(t, 3)
}

func TestAnEventIsDeliveredOnce(t *testing.T) {
	f := newOutboxFixture(t)
	times := 0
	f.sink = func(*audit.Event) error {
		times++
		return f.deliverStored(context.Background()) // a sweep at this moment leaves it to the call
	}
	f.rotate(t)
	require.Equal(t, 1, times)

	f.backend.before(func(tx keystore.Tx) error { // its record cannot be deleted
		if len(tx.Puts) == 0 {
			return keystore.ErrFull
		}
		return nil
	})
	f.rotate(t)
	f.requireWaiting(t, 1)
	for range 2 {
		require.ErrorIs(t, f.deliverStored(t.Context()), keystore.ErrFull)
	}
	f.backend.before(nil)
	require.NoError(t, f.deliverStored(t.Context()))
	f.requireWaiting(t, 0)
	require.Equal(t, 2, times)
}

func TestEventsAreDeliveredInTheirOrder(t *testing.T) {
	f := newOutboxFixture(t)
	f.sink = func(*audit.Event) error { return errors.New("refused") }
	f.rotate(t)
	f.rotate(t)
	_, err := f.EnableKeyRotation(t.Context(), &EnableKeyRotationInput{KeyId: f.keys[0], RotationPeriodInDays: new(int32(90))})
	require.NoError(t, err)
	f.now.Store(new(hour(10 * 100 * 24)))
	k, err := f.lookup(t.Context(), f.ref(0), *f.now.Load())
	require.NoError(t, err)
	require.Len(t, k.materials, 1+2+11)
	var order []any
	f.sink = func(e *audit.Event) error {
		order = append(order, e.ServiceEventDetails.Get("currentKeyMaterialId").String())
		return nil
	}
	require.NoError(t, f.deliverStored(t.Context()))
	for i, m := range k.materials[1:] {
		require.Equal(t, m.id, order[i])
	}
}

// As long as the store cannot be written, keys work and do not rotate.
func TestADueRotationThatCannotBeStoredWaits(t *testing.T) {
	f := newUseFixture(t, 1)
	sealed, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: f.keys[0], Plaintext: []byte("x")})
	require.NoError(t, err)
	_, err = f.EnableKeyRotation(t.Context(), &EnableKeyRotationInput{KeyId: f.keys[0], RotationPeriodInDays: new(int32(90))})
	require.NoError(t, err)
	require.NoError(t, f.storeUses(t.Context()))
	f.now.Store(new(hour(100 * 24)))
	f.backend.before(func(keystore.Tx) error { return keystore.ErrFull })
	in := &DecryptInput{CiphertextBlob: sealed.CiphertextBlob}
	before, err := f.Decrypt(t.Context(), in)
	require.NoError(t, err)
	listed, err := f.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, listed.Keys, 1)
	rotations, err := f.ListKeyRotations(t.Context(), &ListKeyRotationsInput{KeyId: f.keys[0]})
	require.NoError(t, err)
	require.Empty(t, rotations.Rotations)

	f.backend.before(nil)
	after, err := f.Decrypt(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, before, after)
	rotations, err = f.ListKeyRotations(t.Context(), &ListKeyRotationsInput{KeyId: f.keys[0]})
	require.NoError(t, err)
	require.Len(t, rotations.Rotations, 1)
}

// What a rotation cannot wait out ends the call that met it.
func TestADueRotationDoesNotHideThatTheStoreIsLost(t *testing.T) {
	f := newUseFixture(t, 1)
	_, err := f.EnableKeyRotation(t.Context(), &EnableKeyRotationInput{KeyId: f.keys[0], RotationPeriodInDays: new(int32(90))})
	require.NoError(t, err)
	f.now.Store(new(hour(100 * 24)))
	in := &EncryptInput{KeyId: f.keys[0], Plaintext: []byte("x")}
	for _, want := range []error{keystore.ErrRootKey, keystore.ErrCorrupt, keystore.ErrNewerVersion, ErrClosed} {
		failure := want
		if want == ErrClosed {
			failure = keystore.ErrClosed
		}
		f.backend.before(func(keystore.Tx) error { return failure })
		_, err = f.Encrypt(t.Context(), in)
		require.ErrorIs(t, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.backend.before(func(keystore.Tx) error { cancel(); return ctx.Err() })
	_, err = f.lookup(ctx, f.ref(0), *f.now.Load())
	require.ErrorIs(t, err, context.Canceled)

	before, err := f.lookup(t.Context(), f.ref(0), hour(0))
	require.NoError(t, err)
	f.backend.before(func(keystore.Tx) error { f.backend.before(nil); return keystore.ErrConflict }) // a lost race is run again
	after, err := f.lookup(t.Context(), f.ref(0), *f.now.Load())
	require.NoError(t, err)
	require.NotEqual(t, before.current().id, after.current().id)
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
	sealed, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: f.keys[0], Plaintext: []byte("x")})
	require.NoError(t, err)
	f.damage(t, f.ref(0).recordName())
	in := &DescribeKeyInput{KeyId: f.keyARN(f.ref(0))}
	_, err = f.DescribeKey(t.Context(), in)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	foreign := f.As(rootOf("aws", "444455556666"))
	_, err = foreign.DescribeKey(t.Context(), in)
	require.ErrorIs(t, err, AccessDeniedException)
	_, err = foreign.Decrypt(t.Context(), &DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	require.ErrorIs(t, err, AccessDeniedException)
}

func TestAKeyOfANewerVersionIsLeftAlone(t *testing.T) {
	f := newUseFixture(t, 1)
	ref := f.ref(0)
	ref.id = "12345678-1234-1234-1234-123456789012"
	record := keyRecord{Spec: KeySpecRSA2048, Usage: KeyUsageSignVerify, Origin: OriginAWSKMS, Materials: []keyMaterial{{ID: strings.Repeat("0", 64)}}}
	_, err := f.store.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{{Key: ref.recordName(), Value: encodeRecord(record)}}})
	require.NoError(t, err)
	_, err = f.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: ref.id})
	require.ErrorIs(t, err, keystore.ErrNewerVersion)
}
