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

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

// What services promise that share a backend, as processes on a distributed
// store do: a change is made against the latest state, whatever the service
// that makes it has in its cache, so that none is lost. What a service reads,
// or refuses on account of what it reads, may be as old as the events that have
// not reached it; it never goes back, includes the service's own changes, and
// is up to date once the events have come. A service alone is linearizable.

// A process is a handle of a backend as one process of several has it: Close
// leaves the backend to the others, and events can be held up.
type process struct {
	keystore.Backend
	events chan struct{} // closed: they flow; nil: so they did from the start
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

// A history is what clients asked and were told, in an order of time that
// counts beginnings and ends.
type history struct {
	time atomic.Int64
	mu   sync.Mutex
	ops  []porcupine.Operation
}

func (h *history) do(client int, input any, call func() any) {
	begun := h.time.Add(1)
	output := call()
	ended := h.time.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: input, Call: begun, Output: output, Return: ended})
}

// require requires that the clients could have been told the same by a service
// that takes one call after another.
func (h *history) require(t *testing.T, model porcupine.Model) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, time.Minute)
	if result == porcupine.Ok {
		return
	}
	picture := filepath.Join(t.ArtifactDir(), "history.html")
	require.NoError(t, porcupine.VisualizePath(model, info, picture))
	require.Equal(t, porcupine.Ok, result, "no order of the calls explains their answers; see %s with go test -artifacts", picture)
}

// run lets clients make calls at once.
func run(clients, calls int, call func(client int, rng *rand.Rand)) {
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(client), 0))
			for range calls {
				call(client, rng)
			}
		})
	}
	group.Wait()
}

// answer is an error's exception; "" for none.
func answer(err error) kms.ErrorCode {
	var e *kms.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return kms.ErrorCode(err.Error())
}

type stateCall struct {
	key       int
	operation string
	lags      bool // reads and refusals may be of an earlier time
}

type stateAnswer struct {
	code  kms.ErrorCode
	state kms.KeyState // of DescribeKey
}

// keyStates is a key as the table of key states has it.
var keyStates = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		return partition(history, func(input any) int { return input.(stateCall).key })
	},
	Init: func() any { return kms.KeyStateEnabled },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(kms.KeyState), input.(stateCall), output.(stateAnswer)
		pending := now == kms.KeyStatePendingDeletion
		next, want := now, kms.ErrorCode("")
		refuse := func(when bool, code kms.ErrorCode) {
			if when {
				want = code
			}
		}
		switch in.operation {
		case "EnableKey":
			next = kms.KeyStateEnabled
			refuse(pending, kms.KMSInvalidStateException)
		case "DisableKey":
			next = kms.KeyStateDisabled
			refuse(pending, kms.KMSInvalidStateException)
		case "ScheduleKeyDeletion":
			next = kms.KeyStatePendingDeletion
			refuse(pending, kms.KMSInvalidStateException)
		case "CancelKeyDeletion":
			next = kms.KeyStateDisabled
			refuse(!pending, kms.KMSInvalidStateException)
		case "Encrypt":
			refuse(now == kms.KeyStateDisabled, kms.DisabledException)
			refuse(pending, kms.KMSInvalidStateException)
		case "DescribeKey":
			if out.state != now && !in.lags {
				return false, now
			}
		}
		reads := in.operation == "Encrypt" || in.operation == "DescribeKey"
		if in.lags && (reads || out.code == kms.KMSInvalidStateException) {
			return true, now
		}
		if out.code != want {
			return false, now
		}
		if want != "" {
			return true, now
		}
		return true, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

func partition[K comparable](history []porcupine.Operation, key func(input any) K) [][]porcupine.Operation {
	parts := map[K][]porcupine.Operation{}
	for _, op := range history {
		parts[key(op.Input)] = append(parts[key(op.Input)], op)
	}
	var all [][]porcupine.Operation
	for _, part := range parts {
		all = append(all, part)
	}
	return all
}

func callState(svc *kms.Service, keyID, operation string) stateAnswer {
	ctx := context.Background()
	var err error
	switch operation {
	case "EnableKey":
		_, err = svc.EnableKey(ctx, &kms.EnableKeyInput{KeyId: keyID})
	case "DisableKey":
		_, err = svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: keyID})
	case "ScheduleKeyDeletion":
		_, err = svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: keyID})
	case "CancelKeyDeletion":
		_, err = svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: keyID})
	case "Encrypt":
		_, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("x")})
	case "DescribeKey":
		var out *kms.DescribeKeyOutput
		if out, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: keyID}); err == nil {
			return stateAnswer{state: out.KeyMetadata.KeyState}
		}
	}
	return stateAnswer{code: answer(err)}
}

// Reads come more often than changes, as they do, and so meet those of others.
var stateOperations = []string{
	"EnableKey", "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "CancelKeyDeletion",
	"Encrypt", "Encrypt", "Encrypt", "DescribeKey", "DescribeKey",
}

func TestKeyStatesAreLinearizable(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		svc := join(t, process{Backend: backend}, newClock())
		var keys [3]string
		for i := range keys {
			keys[i] = createKey(t, svc, nil).KeyId
		}
		var h history
		run(6, 150, func(client int, rng *rand.Rand) {
			in := stateCall{key: rng.IntN(len(keys)), operation: stateOperations[rng.IntN(len(stateOperations))]}
			h.do(client, in, func() any { return callState(svc, keys[in.key], in.operation) })
		})
		h.require(t, keyStates)
	})
}

// The changes that two services have acknowledged are those of one key that
// took them one after another, and what a third finds at the end is the result.
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

// requireSoon waits for what the next events bring about.
func requireSoon(t *testing.T, met func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !met() {
		require.True(t, time.Now().Before(deadline), "it never came about")
	}
}

type aliasCall struct {
	operation string
	key       int // to which the alias shall point
}

type aliasAnswer struct {
	code kms.ErrorCode
	key  int // that answered
}

// aliasMoves is an alias: the index of its key, -1 for no alias.
var aliasMoves = porcupine.Model{
	Init: func() any { return -1 },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(int), input.(aliasCall), output.(aliasAnswer)
		exists := now >= 0
		switch in.operation {
		case "CreateAlias":
			if exists {
				return out.code == kms.AlreadyExistsException, now
			}
			return out.code == "", in.key
		case "UpdateAlias", "DeleteAlias":
			if !exists {
				return out.code == kms.NotFoundException, now
			}
			return out.code == "", in.key
		}
		if !exists {
			return out.code == kms.NotFoundException, now
		}
		return out.code == "" && out.key == now, now
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

func TestAliasesAreLinearizable(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		svc := join(t, process{Backend: backend}, newClock())
		ctx := context.Background()
		var arns []string
		for range 3 {
			arns = append(arns, createKey(t, svc, nil).Arn)
		}
		operations := []string{"CreateAlias", "UpdateAlias", "UpdateAlias", "DeleteAlias", "Encrypt", "Encrypt", "Encrypt", "DescribeKey"}
		const alias = "alias/moving"
		var h history
		run(6, 100, func(client int, rng *rand.Rand) {
			in := aliasCall{operation: operations[rng.IntN(len(operations))], key: rng.IntN(len(arns))}
			if in.operation == "DeleteAlias" {
				in.key = -1
			}
			h.do(client, in, func() any {
				var err error
				var answered string
				switch in.operation {
				case "CreateAlias":
					_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: arns[in.key]})
				case "UpdateAlias":
					_, err = svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: arns[in.key]})
				case "DeleteAlias":
					_, err = svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
				case "Encrypt":
					var out *kms.EncryptOutput
					if out, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: []byte("x")}); err == nil {
						answered = out.KeyId
					}
				case "DescribeKey":
					var out *kms.DescribeKeyOutput
					if out, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias}); err == nil {
						answered = out.KeyMetadata.Arn
					}
				}
				return aliasAnswer{code: answer(err), key: slices.Index(arns, answered)}
			})
		})
		h.require(t, aliasMoves)
	})
}

type rotationCall struct {
	key     int
	service int
	rotate  bool
}

type rotationAnswer struct {
	code     kms.ErrorCode
	material string // of the ciphertext
}

// rotations is how often a key was rotated, and what each of two services has
// read of it last; where there is but one, it reads all. indexes are those of
// the materials.
func rotations(indexes map[string]int, services int) porcupine.Model {
	type state struct {
		total int
		seen  [2]int
	}
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			return partition(history, func(input any) int { return input.(rotationCall).key })
		},
		Init: func() any { return state{} },
		Step: func(s, input, output any) (bool, any) {
			now, in, out := s.(state), input.(rotationCall), output.(rotationAnswer)
			switch {
			case in.rotate && out.code == kms.LimitExceededException:
				return now.total == 25, now
			case out.code != "":
				return false, now
			case in.rotate:
				now.total++
				return true, now
			}
			index, known := indexes[out.material]
			least := now.seen[in.service]
			if services == 1 {
				least = now.total
			}
			now.seen[in.service] = index
			return known && index >= least && index <= now.total, now
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

func TestMaterialsNeverGoBack(t *testing.T) {
	for services := 1; services <= 2; services++ {
		t.Run(fmt.Sprint(services), func(t *testing.T) {
			eachBackend(t, func(t *testing.T, backend keystore.Backend) {
				ctx := context.Background()
				var all []*kms.Service
				for range services {
					all = append(all, join(t, process{Backend: backend}, newClock()))
				}
				var keys [3]string
				for i := range keys {
					keys[i] = createKey(t, all[0], nil).KeyId
				}
				var h history
				var mu sync.Mutex
				var steps [][2]string // the materials that a client read before and after its rotation
				run(6, 120, func(client int, rng *rand.Rand) {
					in := rotationCall{key: rng.IntN(len(keys)), service: client % services, rotate: rng.IntN(8) == 0}
					svc, id := all[in.service], keys[in.key]
					read := func() (material string) {
						h.do(client, rotationCall{key: in.key, service: in.service}, func() any {
							out, err := svc.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: kms.DataKeySpecAES256})
							if err != nil {
								return rotationAnswer{code: answer(err)}
							}
							material = out.KeyMaterialId
							return rotationAnswer{material: material}
						})
						return material
					}
					before := read()
					if !in.rotate {
						return
					}
					var err error
					h.do(client, in, func() any {
						_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
						return rotationAnswer{code: answer(err)}
					})
					if after := read(); err == nil {
						mu.Lock()
						steps = append(steps, [2]string{before, after})
						mu.Unlock()
					}
				})
				indexes := map[string]int{}
				fresh := join(t, process{Backend: backend}, newClock())
				for _, id := range keys {
					for i, material := range materialsOf(t, fresh, id) {
						indexes[material] = i
					}
					for _, svc := range all {
						requireSoon(t, func() bool { return slices.Equal(materialsOf(t, svc, id), materialsOf(t, fresh, id)) })
					}
				}
				require.Len(t, indexes, len(keys)+len(steps))
				for _, step := range steps {
					require.Less(t, indexes[step[0]], indexes[step[1]], "a service sees its own changes")
				}
				h.require(t, rotations(indexes, services))
			})
		})
	}
}

// materialsOf returns the IDs of a key's materials, oldest first.
func materialsOf(t testing.TB, svc *kms.Service, id string) (materials []string) {
	t.Helper()
	out, err := svc.ListKeyRotations(context.Background(), &kms.ListKeyRotationsInput{KeyId: id, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	require.NoError(t, err)
	for _, r := range out.Rotations {
		materials = append(materials, r.KeyMaterialId)
	}
	return materials
}

// A service that no event reaches reads what is past, but changes what is
// there. Once the events flow it is up to date.
func TestChangesByAServiceThatIsBehind(t *testing.T) {
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
	requireNothingDangles(t, backend)
}

func requireNothingDangles(t *testing.T, backend keystore.Backend) {
	t.Helper()
	store, err := keystore.Open(context.Background(), process{Backend: backend}, sharedRoot)
	require.NoError(t, err)
	require.Empty(t, dangling(t, store, time.Time{}))
}

// Of a key that another process has destroyed, this one stores no last use.
func TestNoUseIsStoredOfADestroyedKey(t *testing.T) {
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
	requireNothingDangles(t, backend)
	out, err := join(t, process{Backend: backend}, clock).GetKeyLastUsage(context.Background(), &kms.GetKeyLastUsageInput{KeyId: kept})
	require.NoError(t, err)
	require.Equal(t, kms.KeyLastUsageTrackingOperationEncrypt, out.KeyLastUsage.Operation)
}

// forgetful is a process that was away for so long that the changes since are no
// longer kept: its first Watch says so as soon as it is back.
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

func TestWhatWasMissedIsReadAnew(t *testing.T) {
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
	require.Equal(t, old, named(), "nobody has told it")
	require.Equal(t, kms.KeyStateEnabled, state(), "nobody has told it")

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

// Scan hides from the sweep what is due: the test alone looks at keys.
func (b interrupted) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if prefix == "due/" {
		return nil, nil
	}
	return b.process.Scan(ctx, prefix, after, limit)
}

// Two processes do not agree on the time: one destroys the key on its deletion
// date, which for the other has not come. Whenever the other cancels the
// deletion, either it fails or the key is whole.
func TestCancellationMeetsDestruction(t *testing.T) {
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
			requireNothingDangles(t, backend)
		})
	}
}

// Everything at once. What a call may answer depends on what the others do, but
// nothing is ever answered by a defect, and in the end all that was encrypted
// can be decrypted or is the loss of a key that was deleted.
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
		requireNothingDangles(t, backend)
	})
}
