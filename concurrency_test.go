package kms_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

// These tests are for services that share a backend, like processes on a distributed store. Each
// change is made against the latest state, whatever is in the cache of the service, so that no
// change is lost. Reads may be stale until the service has received the events of later changes.
// They never go back to an earlier state, and include the service's own changes. A single service
// is linearizable.

// A process is the backend of one of several processes: Close does not close the shared backend,
// and events can be delayed.
type process struct {
	keystore.Backend
	events chan struct{} // events are delivered once it is closed; nil if they are not delayed
}

func (p process) Close() error { return nil }

func (p process) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return func(yield func(keystore.Event, error) bool) {
		if p.events != nil {
			select {
			case <-p.events:
			case <-ctx.Done():
				yield(keystore.Event{}, ctx.Err())
				return
			}
		}
		p.Backend.Watch(ctx, after)(yield)
	}
}

// join returns a service that shares a backend with others.
func join(t testing.TB, backend keystore.Backend, clock *clock) *kms.Service {
	t.Helper()
	return startService(t, kms.Config{Backend: backend, RootKey: sharedRoot, Clock: clock.Now}, nil)
}

// eachBackend runs a test on every embedded backend.
func eachBackend(t *testing.T, test func(t *testing.T, backend keystore.Backend)) {
	t.Run("memory", func(t *testing.T) {
		b := memory.New()
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		test(t, b)
	})
	t.Run("bolt", func(t *testing.T) {
		b, err := bolt.Open(filepath.Join(t.TempDir(), "keys"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		test(t, b)
	})
}

// The changes of two services to one key have the same result as if they were made in sequence, and
// a third service finds it.
func TestNoChangeOfTwoServicesIsLost(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		clock := newClock()
		services := [2]*kms.Service{join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)}
		var keys [3]string
		for i := range keys {
			keys[i] = createKey(t, services[0], nil).KeyId
		}
		var h history
		run(6, 150, func(client int, rng *rand.Rand) {
			in := stateCall{key: rng.IntN(len(keys)), operation: stateOperations[rng.IntN(len(stateOperations))], lags: true}
			h.do(client, in, func() any { return callState(services[client%2], keys[in.key], in.operation) })
		})
		third := join(t, process{Backend: backend}, clock)
		for i := range keys {
			in := stateCall{key: i, operation: "DescribeKey"}
			h.do(6, in, func() any { return callState(third, keys[i], in.operation) })
		}
		h.require(t, keyStates)
		for _, svc := range services {
			for _, id := range keys {
				requireSoon(t, func() bool { return describe(t, svc, id).KeyState == describe(t, third, id).KeyState })
			}
		}
	})
}

// requireSoon waits until the next events have had an effect.
func requireSoon(t *testing.T, met func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !met() {
		require.True(t, time.Now().Before(deadline), "it never came about")
	}
}

// A service that receives no events reads a past state, but makes its changes to the current one.
// When it receives the events, it is up to date.
func TestChangesByAServiceWithAStaleCache(t *testing.T) {
	ctx := context.Background()
	backend, clock := memory.New(), newClock()
	ahead := join(t, process{Backend: backend}, clock)
	events := make(chan struct{})
	behind := join(t, process{backend, events}, clock)

	id := createKey(t, ahead, nil).KeyId
	other := createKey(t, ahead, nil).KeyId
	createAlias(t, ahead, "alias/a", id)
	look := func() {
		describe(t, behind, id)
		describe(t, behind, other)
		describe(t, behind, "alias/a")
	}
	look()

	disable(t, ahead, id)
	require.Equal(t, kms.KeyStateEnabled, describe(t, behind, id).KeyState, "no event has come: it lags")
	enable(t, behind, id)
	require.Equal(t, kms.KeyStateEnabled, describe(t, join(t, process{Backend: backend}, clock), id).KeyState, "enabled last")
	requireSoon(t, func() bool { return describe(t, ahead, id).KeyState == kms.KeyStateEnabled })

	disable(t, behind, id)
	requireSoon(t, func() bool { return describe(t, ahead, id).KeyState == kms.KeyStateDisabled })
	enable(t, ahead, id)
	disable(t, behind, id)
	require.Equal(t, kms.KeyStateDisabled, describe(t, join(t, process{Backend: backend}, clock), id).KeyState, "disabled last")
	enable(t, behind, id)
	requireSoon(t, func() bool { return describe(t, ahead, id).KeyState == kms.KeyStateEnabled })

	_, err := ahead.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id})
	require.NoError(t, err)
	_, err = behind.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: id})
	require.NoError(t, err)
	status, err := join(t, process{Backend: backend}, clock).GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	require.NoError(t, err)
	require.False(t, status.KeyRotationEnabled, "ended last")

	for i, svc := range []*kms.Service{ahead, behind, ahead, behind} {
		_, err := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: fmt.Sprint(i), TagValue: "x"}}})
		require.NoError(t, err)
		_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
		_, err = svc.TagResource(ctx, &kms.TagResourceInput{KeyId: other, Tags: []kms.Tag{{TagKey: fmt.Sprint(i), TagValue: "x"}}})
		require.NoError(t, err)
		createAlias(t, svc, fmt.Sprint("alias/", i), id)
		_, err = svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: "alias/a", TargetKeyId: []string{other, id}[i%2]})
		require.NoError(t, err)
	}
	_, err = ahead.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/0"})
	require.NoError(t, err)
	scheduleDeletion(t, behind, other, 7)

	close(events)
	third := join(t, process{Backend: backend}, clock)
	want := observe(t, third)
	require.Equal(t, 5, want[id].Materials)
	require.Len(t, want[id].Tags, 4)
	require.Equal(t, []string{"alias/1", "alias/2", "alias/3", "alias/a"}, want[id].Aliases)
	require.Equal(t, kms.KeyStatePendingDeletion, want[other].State)
	for _, svc := range []*kms.Service{ahead, behind} {
		requireSoon(t, func() bool {
			for _, id := range []string{id, other, "alias/a", "alias/1", "alias/2", "alias/3"} {
				if fmt.Sprint(describe(t, svc, id)) != fmt.Sprint(describe(t, third, id)) {
					return false
				}
			}
			_, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/0"})
			return errors.Is(err, kms.NotFoundException)
		})
		require.Equal(t, want, observe(t, svc))
	}
	requireConsistentBackend(t, backend)
}

func requireConsistentBackend(t *testing.T, backend keystore.Backend) {
	t.Helper()
	store, err := keystore.Open(context.Background(), process{Backend: backend}, sharedRoot)
	require.NoError(t, err)
	requireConsistent(t, store)
}

// A process stores no last use of a key that another process has destroyed.
func TestTheLastUseOfADestroyedKeyIsNotStored(t *testing.T) {
	backend, clock := memory.New(), newClock()
	one := join(t, process{Backend: backend}, clock)
	two := join(t, process{backend, make(chan struct{})}, clock)
	id, kept := createKey(t, one, nil).KeyId, createKey(t, one, nil).KeyId
	encrypt(t, two, id, "x")
	encrypt(t, two, kept, "x")
	disable(t, one, kept) // a change since does not count against the use
	scheduleDeletion(t, one, id, 7)
	clock.Move(7 * day)
	_, err := one.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: id})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.NoError(t, two.Close())
	requireConsistentBackend(t, backend)
	out, err := join(t, process{Backend: backend}, clock).GetKeyLastUsage(context.Background(), &kms.GetKeyLastUsageInput{KeyId: kept})
	require.NoError(t, err)
	require.Equal(t, kms.KeyLastUsageTrackingOperationEncrypt, out.KeyLastUsage.Operation)
}

// forgetful is a process that was disconnected for so long that the changes since then are no
// longer kept. Its first Watch returns ErrCompacted when it is connected again.
type forgetful struct {
	process
	back    chan struct{}
	watched *atomic.Bool
}

func (b forgetful) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	if b.watched.Swap(true) {
		return b.process.Watch(ctx, after)
	}
	return func(yield func(keystore.Event, error) bool) {
		select {
		case <-b.back:
			yield(keystore.Event{}, keystore.ErrCompacted)
		case <-ctx.Done():
			yield(keystore.Event{}, ctx.Err())
		}
	}
}

func TestAProcessThatMissedChangesReadsThemAgain(t *testing.T) {
	backend, clock := memory.New(), newClock()
	away := forgetful{process{Backend: backend}, make(chan struct{}), new(atomic.Bool)}
	here, there := join(t, process{Backend: backend}, clock), join(t, away, clock)
	old, other := createKey(t, here, nil).KeyId, createKey(t, here, nil).KeyId
	createAlias(t, here, "alias/a", old)
	named := func() string { return describe(t, there, "alias/a").KeyId }
	state := func() kms.KeyState { return describe(t, there, old).KeyState }
	require.Equal(t, old, named())
	require.Equal(t, kms.KeyStateEnabled, state())

	disable(t, here, old)
	_, err := here.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/a", TargetKeyId: other})
	require.NoError(t, err)
	require.Equal(t, old, named(), "it has not received the event")
	require.Equal(t, kms.KeyStateEnabled, state(), "it has not received the event")

	close(away.back)
	for deadline := time.Now().Add(time.Minute); named() != other || state() != kms.KeyStateDisabled; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "after a minute, the alias is %s's and the key is %s", named(), state())
	}
}

// interrupted calls before each commit.
type interrupted struct {
	process
	before func(commit int)
	n      *atomic.Int32
}

func (b interrupted) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if len(tx.Puts)+len(tx.Deletes) > 0 {
		b.before(int(b.n.Add(1)))
	}
	return b.process.Commit(ctx, tx)
}

// Scan hides due keys from the sweep: only the test reads keys.
func (b interrupted) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if prefix == "due/" {
		return nil, nil
	}
	return b.process.Scan(ctx, prefix, after, limit)
}

// Two processes have different clocks: one destroys a key whose deletion is not yet due for the
// other. If the other cancels the deletion at that time, either the call fails or the key is
// complete.
func TestADeletionIsCanceledWhileItIsCarriedOut(t *testing.T) {
	for at := 1; at <= 5; at++ {
		t.Run(fmt.Sprint("before commit ", at), func(t *testing.T) {
			ctx := context.Background()
			backend, clock, fast := memory.New(), newClock(), newClock()
			slow := join(t, process{Backend: backend}, clock)
			id := createKey(t, slow, nil).KeyId
			createAlias(t, slow, "alias/a", id)
			ciphertext := encrypt(t, slow, id, "x")
			_, err := slow.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
			require.NoError(t, err)
			later := encrypt(t, slow, id, "y")
			scheduleDeletion(t, slow, id, 7)
			fast.Move(7 * day)
			var cancelled error = kms.NotFoundException
			destroyer := join(t, interrupted{process{Backend: backend}, func(commit int) {
				if commit == at {
					_, cancelled = slow.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
				}
			}, new(atomic.Int32)}, fast)
			_, err = destroyer.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
			if cancelled != nil {
				require.ErrorIs(t, cancelled, kms.NotFoundException)
				require.ErrorIs(t, err, kms.NotFoundException)
				require.NotContains(t, observe(t, slow), id)
			} else {
				require.NoError(t, err)
				enable(t, slow, id)
				requireDecrypts(t, slow, ciphertext, "x")
				requireDecrypts(t, slow, later, "y")
				require.Equal(t, id, describe(t, slow, "alias/a").KeyId)
			}
			requireConsistentBackend(t, backend)
		})
	}
}

// All operations run concurrently. What a call returns depends on the others, but it is never a
// KMSInternalException, and in the end every ciphertext can be decrypted unless its key was
// deleted.
func TestEverythingAtOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		ctx := context.Background()
		clock := newClock()
		services := [2]*kms.Service{join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)}
		type ciphertext struct {
			key  string
			blob []byte
		}
		var (
			mu          sync.Mutex
			keys        []string
			ciphertexts []ciphertext
			failures    []error
		)
		for range 4 {
			keys = append(keys, createKey(t, services[0], nil).KeyId)
		}
		harmless := []error{
			nil, kms.DisabledException, kms.KMSInvalidStateException, kms.NotFoundException, kms.AlreadyExistsException,
			kms.LimitExceededException, kms.AccessDeniedException,
		}
		run(8, 250, func(client int, rng *rand.Rand) {
			svc := services[client%2]
			mu.Lock()
			id := keys[rng.IntN(len(keys))]
			var old ciphertext
			if len(ciphertexts) > 0 {
				old = ciphertexts[rng.IntN(len(ciphertexts))]
			}
			mu.Unlock()
			alias := fmt.Sprint("alias/", rng.IntN(4))
			var err error
			choice := rng.IntN(40)
			switch choice {
			case 0:
				var out *kms.CreateKeyOutput
				if out, err = svc.CreateKey(ctx, nil); err == nil {
					mu.Lock()
					keys = append(keys, out.KeyMetadata.KeyId)
					mu.Unlock()
				}
			case 1:
				_, err = svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
			case 2, 3, 4:
				_, err = svc.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
			case 5:
				_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
			case 6:
				_, err = svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: new(int32(7))})
			case 7, 8:
				_, err = svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
			case 9, 10:
				_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: id})
			case 11, 12:
				_, err = svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: id})
			case 13:
				_, err = svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
			case 14:
				if rng.IntN(10) == 0 {
					clock.Move(3 * day)
				}
			case 15:
				_, err = svc.ListKeys(ctx, nil)
			case 16:
				_, err = svc.ListAliases(ctx, nil)
			case 17:
				_, err = svc.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: fmt.Sprint(rng.IntN(9)), TagValue: "x"}}})
			case 18:
				_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias})
			case 19:
				_, err = svc.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: id})
			default:
				if choice%2 == 0 {
					if rng.IntN(2) == 0 {
						id = alias
					}
					var out *kms.EncryptOutput
					if out, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte(canary)}); err == nil {
						mu.Lock()
						ciphertexts = append(ciphertexts, ciphertext{out.KeyId, out.CiphertextBlob})
						mu.Unlock()
					}
				} else if old.blob != nil {
					var out *kms.DecryptOutput
					if out, err = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: old.blob}); err == nil && (string(out.Plaintext) != canary || out.KeyId != old.key) {
						err = fmt.Errorf("decrypted to %q by %s, not by %s", out.Plaintext, out.KeyId, old.key)
					}
				}
			}
			if !slices.ContainsFunc(harmless, func(e error) bool { return errors.Is(err, e) }) {
				mu.Lock()
				failures = append(failures, fmt.Errorf("call %d: %w", choice, err))
				mu.Unlock()
			}
		})
		require.Empty(t, failures)
		third := join(t, process{Backend: backend}, clock)
		found := observe(t, third)
		for _, k := range found {
			requireCanaries(t, third, k)
		}
		for _, c := range ciphertexts {
			_, err := third.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: c.blob})
			if id := c.key[len(c.key)-36:]; found[id].State != "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, kms.AccessDeniedException)
			}
		}
		for _, svc := range []*kms.Service{services[0], services[1], third} {
			require.NoError(t, svc.Close())
		}
		requireConsistentBackend(t, backend)
	})
}
