package kms_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// A history has the calls and results of clients, with a logical time for the beginning and the end
// of each call.
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

// require requires that a service that executes one call at a time could have returned the same
// results.
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

// run makes calls with several clients concurrently.
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

// answer returns the exception of err, or "" if err is nil.
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

// keyStates models a key by the table of key states.
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

// There are more reads than changes, so that reads overlap with the changes of others.
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

type aliasCall struct {
	operation string
	key       int // the index of the alias's new key
}
type aliasAnswer struct {
	code kms.ErrorCode
	key  int // that answered
}

// aliasMoves models an alias by the index of its key, or -1 if the alias does not exist.
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

// rotations models a key by the number of its rotations and by the number that each of two services
// has read last. A single service always reads the latest. indexes has the index of each material.
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

// materialsOf returns the IDs of the materials of a key, oldest first.
func materialsOf(t testing.TB, svc *kms.Service, id string) (materials []string) {
	t.Helper()
	out, err := svc.ListKeyRotations(context.Background(), &kms.ListKeyRotationsInput{KeyId: id, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	require.NoError(t, err)
	for _, r := range out.Rotations {
		materials = append(materials, r.KeyMaterialId)
	}
	return materials
}
