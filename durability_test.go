package kms_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

var (
	durabilitySeed   = flag.Uint64("durability.seed", 0, "seed of the first file that is killed at; 0 draws one")
	durabilityRounds = flag.Int("durability.rounds", 100, "how often a process is killed")

	durabilityRun string // the flags that repeat the test of this run; TestMain prints them
)

// childEnv is the environment variable that makes a process of this test binary a child.
const childEnv = "POCKETKMS_TEST_CHILD"

var children = map[string]func() error{
	"change until killed": changeUntilKilled,
	"fill the disk":       fillTheDisk,
	"hold the lock":       holdTheLock,
}

// runChild does not return in a child process.
func runChild() {
	name := os.Getenv(childEnv)
	if name == "" {
		return
	}
	if err := children[name](); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(ctx context.Context, name string, environment ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), append(environment, childEnv+"="+name)...)
	return c
}

// A keyState is everything that the API shows of a key.
type keyState struct {
	ID          string // not yet known of a key that is only about to be created
	Description string
	State       kms.KeyState // empty: there is no such key
	Deletion    time.Time    // while pending deletion; zero if not known
	Policy      string
	Tags        map[string]string
	Aliases     []string // ascending
	External    bool     // its material is imported
	MultiRegion bool
	Replica     bool // it has one, in replicaRegion
	Materials   int
	Canaries    [][]byte // ciphertexts of canary, at least one for each material but a new one
}

const canary = "tweet"

// at returns the state of the key at a time, after the deletions and rotations that are due.
func (k keyState) at(now time.Time) keyState {
	if k.State == kms.KeyStatePendingDeletion && !k.Deletion.IsZero() && !now.Before(k.Deletion) {
		return keyState{ID: k.ID}
	}
	return k
}

func (k keyState) clone() keyState {
	k.Tags, k.Aliases, k.Canaries = maps.Clone(k.Tags), slices.Clone(k.Aliases), slices.Clone(k.Canaries)
	return k
}

// A report is a line that the child prints: before a change the intended state, and after the
// change is acknowledged the new state. An incomplete line is ignored.
type report struct {
	Worker int
	Done   bool
	Keys   []keyState // those that the change affects
	Clock  time.Time  // the time to which the service's clock will be set; without other fields
}

// A life is what the child reads from its standard input.
type life struct {
	Path, Root string
	Seed       uint64
	Clock      time.Time
	Keys       [][]keyState // of each worker
}

// changeUntilKilled makes changes by several workers, each with its own keys.
func changeUntilKilled() error {
	var l life
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		return err
	}
	out := &reporter{}
	out.print(report{Worker: -1})
	clock := newClock()
	clock.MoveTo(l.Clock)
	open := func() (*kms.Service, error) {
		backend, err := bolt.Open(l.Path)
		if err != nil {
			return nil, err
		}
		complaints := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		return kms.New(kms.Config{Backend: backend, RootKey: keystore.KeyFile(l.Root), Clock: clock.Now, ReplicationDelay: -1, Logger: complaints})
	}
	svc, err := open()
	if err != nil {
		return err
	}
	// First a service that is closed, which stores when keys were used.
	for _, keys := range l.Keys {
		for _, k := range keys {
			if k.State == kms.KeyStateEnabled {
				if _, err := svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: k.ID, Plaintext: []byte(canary)}); err != nil {
					return err
				}
			}
		}
	}
	if err := svc.Close(); err != nil {
		return err
	}
	if svc, err = open(); err != nil {
		return err
	}
	failure := make(chan error)
	for i := range l.Keys {
		w := &worker{
			id: i, svc: svc, clock: clock, out: out, keys: l.Keys[i],
			rng: rand.New(rand.NewPCG(l.Seed, uint64(i))),
		}
		go func() {
			for {
				if err := w.step(); err != nil {
					failure <- err
					return
				}
			}
		}()
	}
	return <-failure
}

type reporter struct{ mu sync.Mutex }

func (r *reporter) print(line report) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

type worker struct {
	id    int
	svc   *kms.Service
	clock *clock
	out   *reporter
	rng   *rand.Rand
	keys  []keyState
}

const liveKeys = 6 // of a worker

// step makes a random change that the states of the keys allow.
func (w *worker) step() error {
	ctx := context.Background()
	now := w.clock.Now()
	for i := range w.keys {
		w.keys[i] = w.keys[i].at(now)
	}
	var live []int
	for i, k := range w.keys {
		if k.State != "" {
			live = append(live, i)
		}
	}
	if len(live) == 0 || len(live) < liveKeys && w.rng.IntN(4) == 0 {
		return w.create(ctx)
	}
	i := live[w.rng.IntN(len(live))]
	k := w.keys[i].clone()
	name := fmt.Sprintf("alias/%d/%x", w.id, w.rng.Uint64())
	pending := k.State == kms.KeyStatePendingDeletion
	switch choice := w.rng.IntN(12); {
	case choice == 0 && !pending:
		tag := kms.Tag{TagKey: fmt.Sprint("t", w.rng.IntN(5)), TagValue: fmt.Sprint(w.rng.Uint32())}
		k.Tags[tag.TagKey] = tag.TagValue
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.TagResource(ctx, &kms.TagResourceInput{KeyId: k.ID, Tags: []kms.Tag{tag}})
			return err
		})
	case choice == 1 && !pending && len(k.Tags) > 0:
		tag := slices.Min(slices.Collect(maps.Keys(k.Tags)))
		delete(k.Tags, tag)
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.UntagResource(ctx, &kms.UntagResourceInput{KeyId: k.ID, TagKeys: []string{tag}})
			return err
		})
	case choice == 2 && k.State == kms.KeyStateEnabled:
		k.State = kms.KeyStateDisabled
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: k.ID})
			return err
		})
	case choice <= 3 && k.State == kms.KeyStatePendingImport:
		k.State, k.Materials = kms.KeyStateEnabled, 1
		return w.change(map[int]keyState{i: k}, func() error { return importOwn(ctx, w.svc, k.ID) })
	case choice == 3 && k.State == kms.KeyStateEnabled && k.External:
		k.State = kms.KeyStatePendingImport
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: k.ID})
			return err
		})
	case choice == 3 && k.State == kms.KeyStateEnabled && k.MultiRegion && !k.Replica:
		k.Replica = true
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: k.ID, ReplicaRegion: replicaRegion})
			return err
		})
	case choice <= 3 && k.State == kms.KeyStateDisabled:
		k.State = kms.KeyStateEnabled
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.EnableKey(ctx, &kms.EnableKeyInput{KeyId: k.ID})
			return err
		})
	case choice <= 5 && k.State == kms.KeyStateEnabled && k.Materials <= 25 && !k.External:
		k.Materials++
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: k.ID})
			return err
		})
	case choice == 6 && !pending && !k.Replica: // else it would wait for its replica
		k.State, k.Deletion = kms.KeyStatePendingDeletion, time.Time{}
		return w.change(map[int]keyState{i: k}, func() error {
			out, err := w.svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.ID, PendingWindowInDays: new(int32(7))})
			if err == nil {
				k.Deletion = out.DeletionDate
				w.keys[i] = k
			}
			return err
		})
	case choice <= 7 && pending && !k.External: // else it may lack its material
		k.State, k.Deletion = kms.KeyStateDisabled, time.Time{}
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.ID})
			return err
		})
	case choice <= 8 && !pending && len(k.Aliases) < 3:
		k.Aliases = append(k.Aliases, name)
		slices.Sort(k.Aliases)
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: k.ID})
			return err
		})
	case choice == 9 && len(k.Aliases) > 0:
		to := live[w.rng.IntN(len(live))]
		if w.keys[to].State == kms.KeyStatePendingDeletion || to == i {
			alias := k.Aliases[0]
			k.Aliases = k.Aliases[1:]
			return w.change(map[int]keyState{i: k}, func() error {
				_, err := w.svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
				return err
			})
		}
		alias, target := k.Aliases[0], w.keys[to].clone()
		k.Aliases, target.Aliases = k.Aliases[1:], append(target.Aliases, alias)
		slices.Sort(target.Aliases)
		return w.change(map[int]keyState{i: k, to: target}, func() error {
			_, err := w.svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: target.ID})
			return err
		})
	case choice == 10 && !pending:
		k.Policy = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"%x","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`, w.rng.Uint64())
		return w.change(map[int]keyState{i: k}, func() error {
			_, err := w.svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.ID, Policy: k.Policy})
			return err
		})
	case choice == 11 && pending:
		// The clock moves past the deletion of the key, and perhaps of others, and the key is read.
		at := w.clock.Now().Add(8 * day)
		w.out.print(report{Clock: at})
		w.clock.Move(8 * day)
		return w.change(map[int]keyState{i: {ID: k.ID}}, func() error {
			_, err := w.svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.ID})
			if !errors.Is(err, kms.NotFoundException) {
				return fmt.Errorf("described on its deletion date: %w", err)
			}
			return nil
		})
	}
	return nil
}

func (w *worker) create(ctx context.Context) error {
	k := keyState{
		Description: fmt.Sprintf("%d %x", w.id, w.rng.Uint64()),
		State:       kms.KeyStateEnabled,
		Policy:      `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`,
		Tags:        map[string]string{"t0": "0"},
		Materials:   1,
	}
	switch w.rng.IntN(3) {
	case 0:
		k.External, k.State, k.Materials = true, kms.KeyStatePendingImport, 0
	case 1:
		k.MultiRegion = true
	}
	w.keys = append(w.keys, keyState{})
	i := len(w.keys) - 1
	return w.change(map[int]keyState{i: k}, func() error {
		in := &kms.CreateKeyInput{
			Description: k.Description, Policy: k.Policy, Tags: []kms.Tag{{TagKey: "t0", TagValue: "0"}}, MultiRegion: k.MultiRegion,
		}
		if k.External {
			in.Origin = kms.OriginExternal
		}
		out, err := w.svc.CreateKey(ctx, in)
		if err == nil {
			k.ID = out.KeyMetadata.KeyId
			w.keys[i] = k
		}
		return err
	})
}

// importOwn imports the material of a key, which follows from its ID, so that it is always the
// same.
func importOwn(ctx context.Context, svc *kms.Service, keyID string) error {
	p, err := svc.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: keyID, WrappingAlgorithm: kms.AlgorithmSM2PKE, WrappingKeySpec: kms.WrappingKeySpecSM2,
	})
	if err != nil {
		return err
	}
	public, err := smx509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		return err
	}
	material := sha256.Sum256([]byte(keyID))
	wrapped, err := sm2.EncryptASN1(crand.Reader, public.(*ecdsa.PublicKey), material[:])
	if err != nil {
		return err
	}
	_, err = svc.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId: keyID, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire,
	})
	if errors.Is(err, kms.ExpiredImportTokenException) { // another worker has moved the clock meanwhile
		return importOwn(ctx, svc, keyID)
	}
	return err
}

// change reports the intended state of the keys, makes the change, and reports that it is done.
func (w *worker) change(next map[int]keyState, do func() error) error {
	line := report{Worker: w.id}
	indexes := slices.Sorted(maps.Keys(next))
	for _, i := range indexes {
		k := next[i]
		k.Canaries = nil
		line.Keys = append(line.Keys, k)
	}
	w.out.print(line)
	before := map[int]keyState{}
	for i := range next {
		before[i], w.keys[i] = w.keys[i], next[i]
	}
	if err := do(); errors.Is(err, kms.NotFoundException) {
		// Another worker has moved the clock past the end of one of the keys.
		ended := false
		for i, k := range before {
			w.keys[i] = k.at(w.clock.Now())
			ended = ended || w.keys[i].State != k.State
		}
		if !ended {
			return err
		}
	} else if err != nil {
		return err
	}
	line = report{Worker: w.id, Done: true}
	for _, i := range indexes {
		k := &w.keys[i]
		if k.State == kms.KeyStateEnabled && k.Materials > before[i].Materials {
			out, err := w.svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: k.ID, Plaintext: []byte(canary)})
			if err != nil {
				return err
			}
			k.Canaries = append(k.Canaries, out.CiphertextBlob)
		}
		line.Keys = append(line.Keys, *k)
	}
	w.out.print(line)
	return nil
}

// After a SIGKILL all acknowledged changes are in the store, and changes in progress are in it
// completely or not at all.
func TestChangesOutliveAKill(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, keystore.CreateKeyFile(root))
	seed := *durabilitySeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	durabilityRun = fmt.Sprintf("-durability.seed=%d -durability.rounds=%d\n", seed, *durabilityRounds)
	const roundsPerFile = 20
	acknowledged, inFlight := 0, 0
	for round := 0; round < *durabilityRounds; seed++ {
		t.Logf("-durability.seed=%d -durability.rounds=%d", seed, roundsPerFile)
		rng := rand.New(rand.NewPCG(seed, 0))
		f := &killedFile{
			life: life{Path: filepath.Join(t.TempDir(), "keys"), Root: root, Clock: newClock().Now(), Keys: make([][]keyState, 4)},
		}
		for i := 0; i < roundsPerFile && round < *durabilityRounds; i++ {
			f.live(t, rng)
			f.check(t)
			acknowledged, inFlight = acknowledged+f.acknowledged, inFlight+f.inFlight
			round++
		}
	}
	t.Logf("%d changes were acknowledged; of those under way at the kill, %d were found done", acknowledged, inFlight)
	require.NotZero(t, acknowledged)
}

// A killedFile is a store, with the reports of the children that were killed.
type killedFile struct {
	life
	tried                  [][]keyState // by worker: the change under way
	acknowledged, inFlight int          // in the last life
}

// live starts a child and kills it: sometimes 0 to 60 ms after its start, and otherwise 5 to 60 ms
// after the first acknowledgement.
func (f *killedFile) live(t *testing.T, rng *rand.Rand) {
	t.Helper()
	early := rng.IntN(8) == 0
	delay := 5*time.Millisecond + time.Duration(rng.Int64N(int64(55*time.Millisecond)))
	if early {
		delay = time.Duration(rng.Int64N(int64(60 * time.Millisecond)))
	}
	f.Seed = rng.Uint64()
	input, err := json.Marshal(f.life)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child := childCommand(ctx, "change until killed")
	child.Stdin = bytes.NewReader(input)
	var complaint bytes.Buffer
	child.Stderr = &complaint
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	f.tried, f.acknowledged = make([][]keyState, len(f.Keys)), 0
	var killer *time.Timer
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r report
		require.NoError(t, json.Unmarshal(line, &r))
		if killer == nil && (early || r.Done) {
			killer = time.AfterFunc(delay, func() { _ = child.Process.Kill() })
		}
		f.hear(t, r)
	}
	err = child.Wait()
	require.NotNil(t, killer, "%v: %s", err, &complaint)
	killer.Stop()
	require.Empty(t, complaint.String())
	require.EqualError(t, err, "signal: killed")
}

func (f *killedFile) hear(t *testing.T, r report) {
	switch {
	case r.Clock.After(f.Clock):
		f.Clock = r.Clock
	case r.Worker < 0 || len(r.Keys) == 0:
	case !r.Done:
		require.Nil(t, f.tried[r.Worker])
		f.tried[r.Worker] = r.Keys
	default:
		f.tried[r.Worker] = nil
		f.acknowledged++
		for _, k := range r.Keys {
			f.set(r.Worker, k)
		}
	}
}

func (f *killedFile) set(worker int, k keyState) {
	keys := &f.Keys[worker]
	if i := slices.IndexFunc(*keys, func(known keyState) bool { return known.ID == k.ID }); i >= 0 {
		(*keys)[i] = k
	} else {
		*keys = append(*keys, k)
	}
}

// check requires the file to have the reported states. It reads a copy in memory, so that the next
// child finds the file as the kill has left it.
func (f *killedFile) check(t *testing.T) {
	t.Helper()
	backend, err := bolt.Open(f.Path)
	require.NoError(t, err)
	replica := copyRecords(t, backend)
	require.NoError(t, backend.Close())
	checkPages(t, f.Path)

	store, err := keystore.Open(context.Background(), replica, keystore.KeyFile(f.Root))
	require.NoError(t, err)
	requireConsistent(t, store)
	svc, err := kms.New(kms.Config{Backend: replica, RootKey: keystore.KeyFile(f.Root), Clock: func() time.Time { return f.Clock }, ReplicationDelay: -1})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	found := observe(t, svc)

	f.inFlight = 0
	for worker, tried := range f.tried {
		if tried == nil {
			continue
		}
		if tried[0].ID == "" { // a creation: the description identifies the key
			for id, k := range found {
				if k.Description == tried[0].Description {
					tried[0].ID = id
					f.set(worker, keyState{ID: id}) // before: no such key
				}
			}
		}
		same := 0
		for _, k := range tried {
			if k.ID != "" && k.like(found[k.ID], f.Clock) {
				same++
			}
		}
		if same != len(tried) {
			continue // then all must be as before, below
		}
		f.inFlight++
		for _, k := range tried {
			i := slices.IndexFunc(f.Keys[worker], func(known keyState) bool { return known.ID == k.ID })
			k.Canaries = f.Keys[worker][i].Canaries
			f.Keys[worker][i] = k
		}
	}
	for worker, keys := range f.Keys {
		var left []keyState
		for _, k := range keys {
			was, is := k.at(f.Clock), found[k.ID]
			require.True(t, was.like(is, f.Clock), "key %s of worker %d: want %+v, found %+v, under way %+v", k.ID, worker, was, is, f.tried[worker])
			delete(found, k.ID)
			if is.State == "" {
				continue
			}
			is.Canaries = k.Canaries
			left = append(left, is)
			requireCanaries(t, svc, is)
		}
		f.Keys[worker] = left
	}
	require.Empty(t, found, "keys that nobody has made")
	requireConsistent(t, store)
}

// like reports whether a key has the expected state.
func (k keyState) like(found keyState, now time.Time) bool {
	if k.State == kms.KeyStatePendingDeletion && k.Deletion.IsZero() {
		if k.Deletion = found.Deletion; found.State == "" {
			return true // its deletion has come, too
		}
	}
	k = k.at(now)
	if k.State == "" || found.State == "" {
		return k.State == found.State
	}
	return k.Description == found.Description && k.State == found.State && k.Deletion.Equal(found.Deletion) && k.Policy == found.Policy &&
		maps.Equal(k.Tags, found.Tags) && slices.Equal(k.Aliases, found.Aliases) && k.Materials == found.Materials &&
		k.External == found.External && k.MultiRegion == found.MultiRegion && k.Replica == found.Replica
}

// observe returns all keys as the API shows them.
func observe(t *testing.T, svc *kms.Service) map[string]keyState {
	t.Helper()
	ctx := context.Background()
	found := map[string]keyState{}
	list, err := svc.ListKeys(ctx, &kms.ListKeysInput{Limit: new(int32(1000))})
	require.NoError(t, err)
	require.False(t, list.Truncated)
	for _, entry := range list.Keys {
		m := describe(t, svc, entry.KeyId)
		k := keyState{ID: entry.KeyId, Description: m.Description, State: m.KeyState, Deletion: m.DeletionDate, Tags: map[string]string{}}
		k.External, k.MultiRegion = m.Origin == kms.OriginExternal, m.MultiRegion
		k.Replica = m.MultiRegion && len(m.MultiRegionConfiguration.ReplicaKeys) == 1
		policy, err := svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: entry.KeyId})
		require.NoError(t, err)
		var compact bytes.Buffer // as it was put
		require.NoError(t, json.Compact(&compact, []byte(policy.Policy)))
		k.Policy = compact.String()
		tags, err := svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: entry.KeyId})
		require.NoError(t, err)
		for _, tag := range tags.Tags {
			k.Tags[tag.TagKey] = tag.TagValue
		}
		aliases, err := svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: entry.KeyId})
		require.NoError(t, err)
		for _, alias := range aliases.Aliases {
			require.Equal(t, entry.KeyId, alias.TargetKeyId)
			require.Equal(t, entry.KeyId, describe(t, svc, alias.AliasName).KeyId)
			k.Aliases = append(k.Aliases, alias.AliasName)
		}
		rotations, err := svc.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: entry.KeyId, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
		require.NoError(t, err)
		k.Materials = len(rotations.Rotations)
		found[k.ID] = k
	}
	return found
}

// requireCanaries requires the key, in any state, to decrypt everything that it has encrypted.
func requireCanaries(t *testing.T, svc *kms.Service, k keyState) {
	t.Helper()
	if k.State == kms.KeyStatePendingDeletion {
		_, err := svc.CancelKeyDeletion(context.Background(), &kms.CancelKeyDeletionInput{KeyId: k.ID})
		require.NoError(t, err)
	}
	if k.External {
		require.NoError(t, importOwn(context.Background(), svc, k.ID)) // which enables it
	} else {
		enable(t, svc, k.ID)
	}
	for _, c := range k.Canaries {
		requireDecrypts(t, svc, c, canary)
		if k.Replica {
			requireDecrypts(t, svc.In(replicaRegion), c, canary)
		}
	}
	requireDecrypts(t, svc, encrypt(t, svc, k.ID, canary), canary)
}

// copyRecords copies the sealed records of a backend into memory.
func copyRecords(t *testing.T, from keystore.Backend) keystore.Backend {
	t.Helper()
	to := memory.New()
	for after := ""; ; {
		records, err := from.Scan(context.Background(), "", after, keystore.MaxTxOps)
		require.NoError(t, err)
		if len(records) == 0 {
			return to
		}
		var tx keystore.Tx
		for _, r := range records {
			tx.Puts = append(tx.Puts, keystore.Put{Key: r.Key, Value: r.Value})
			after = r.Key
		}
		_, err = to.Commit(context.Background(), tx)
		require.NoError(t, err)
	}
}

// checkPages checks all pages of a file with bbolt.
func checkPages(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		var failures []error
		for err := range tx.Check() {
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	}))
}
