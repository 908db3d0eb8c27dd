package keydb

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

// A failing is a Backend that calls a function of the test before each commit, which may fail it.
type failing struct {
	keystore.Backend
	hook atomic.Pointer[func(keystore.Tx) error]
}

func (f *failing) before(hook func(keystore.Tx) error) { f.hook.Store(&hook) }

func (f *failing) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if hook := f.hook.Load(); hook != nil && *hook != nil {
		if err := (*hook)(tx); err != nil {
			return 0, err
		}
	}
	return f.Backend.Commit(ctx, tx)
}

// A fixture is a DB in memory without work in the background, on a clock that the test sets.
type fixture struct {
	*DB
	t       *testing.T
	backend *failing
	root    keystore.RootKey
	now     time.Time
	damaged bool // the test has damaged the store on purpose
}

func hour(n int) time.Time { return time.Date(2026, 3, 1, n, 0, 0, 0, time.UTC) }

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, backend: &failing{Backend: memory.New()}, root: keystoretest.RootKey(), now: hour(0)}
	f.DB = f.open(f.backend)
	t.Cleanup(func() {
		f.backend.before(nil)
		if !f.damaged {
			require.Empty(t, slices.Collect(f.Check(context.Background(), nil)))
		}
		require.NoError(t, f.store.Close())
	})
	return f
}

// open returns another DB of a backend, as another process would.
func (f *fixture) open(backend keystore.Backend) *DB {
	f.t.Helper()
	store, err := keystore.Open(f.t.Context(), backend, f.root)
	require.NoError(f.t, err)
	return newDB(store, Config{Clock: func() time.Time { return f.now }, Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil))})
}

// create creates a symmetric key and returns its snapshot.
func (f *fixture) create(change ...func(*Record)) *Key {
	f.t.Helper()
	record := &Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: originKMS, Manager: "CUSTOMER", Created: f.now, Policy: validKeyPolicy}
	for _, c := range change {
		c(record)
	}
	k, err := f.Create(f.t.Context(), Ref{"111122223333", "us-east-1", arn.NewKeyID(false)}, record, CreateOptions{})
	require.NoError(f.t, err)
	return k
}

// key returns the current snapshot of a key that exists.
func (f *fixture) key(ref Ref) *Key {
	f.t.Helper()
	k, err := f.Key(f.t.Context(), ref, f.now)
	require.NoError(f.t, err)
	require.NotNil(f.t, k)
	return k
}

func (f *fixture) alias(name string, k *Key) AliasRef {
	f.t.Helper()
	ref := AliasRef{k.Account, k.Region, name}
	require.NoError(f.t, f.BindAlias(f.t.Context(), ref, f.key(k.Ref), f.now))
	return ref
}

// damage replaces the values of records by what no seal fits.
func (f *fixture) damage(names ...string) {
	f.t.Helper()
	f.damaged = true
	var tx keystore.Tx
	for _, name := range names {
		tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: []byte("damaged")})
	}
	_, err := f.backend.Backend.Commit(f.t.Context(), tx)
	require.NoError(f.t, err)
	f.keys.clear()
	f.aliases.clear()
}

// commit changes records behind the DB's back.
func (f *fixture) commit(tx keystore.Tx) {
	f.t.Helper()
	_, err := f.store.Commit(f.t.Context(), tx)
	require.NoError(f.t, err)
	f.keys.clear()
	f.aliases.clear()
}

// records returns the names of the records with a prefix.
func (f *fixture) recordNames(prefix string) (names []string) {
	f.t.Helper()
	for name, err := range f.names(f.t.Context(), prefix, "", 10) {
		require.NoError(f.t, err)
		names = append(names, name)
	}
	return names
}

func TestAKeyIsFoundByTheHeaderOfItsCiphertexts(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	for range 2 { // from the store, then from the cache
		found, err := f.KeyOf(t.Context(), k.Current().Header, k.Account, k.Region, f.now)
		require.NoError(t, err)
		require.Equal(t, k.Ref, found.Ref)
	}
	found, err := f.KeyOf(t.Context(), k.Current().Header, k.Account, "eu-west-1", f.now)
	require.NoError(t, err)
	require.Nil(t, found, "it is in another Region")
	for _, ref := range []Ref{{"111122223333", "us-east-1", arn.NewKeyID(false)}, {"000000000007", "us-east-1", arn.NewKeyID(true)}} {
		k := f.create()
		k.Ref = ref
		next, err := newKey(ref, k.Record, 1, nil, f.now)
		require.NoError(t, err)
		p, h := ref.cacheKey(), next.Current().Header
		require.Equal(t, p.hashID(), hashID(h.AccountEnd(), h.KeyIDEnd()))
	}
}

func TestAChangeOfAStaleSnapshotIsAConflict(t *testing.T) {
	f := newFixture(t)
	stale := f.create()
	current, err := f.Update(t.Context(), stale, func(r *Record) { r.Description = "one" })
	require.NoError(t, err)
	_, err = f.Update(t.Context(), stale, func(r *Record) { r.Description = "two" })
	require.ErrorIs(t, err, ErrConflict)
	require.ErrorIs(t, f.RequireCurrent(t.Context(), stale), ErrConflict)
	require.NoError(t, f.RequireCurrent(t.Context(), current))
	require.Equal(t, "one", f.key(stale.Ref).Record.Description)
	require.Empty(t, stale.Record.Description, "a snapshot does not change")
}

func TestACreatedAliasPointsToItsKeyFromTheBeginning(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	alias := AliasRef{k.Account, k.Region, "alias/both"}
	record := *k.Record
	one, err := f.Create(t.Context(), Ref{k.Account, k.Region, arn.NewKeyID(false)}, &record, CreateOptions{Alias: alias})
	require.NoError(t, err)
	a, err := f.Alias(t.Context(), alias)
	require.NoError(t, err)
	require.Equal(t, one.Ref, a.Key())
	record = *k.Record
	_, err = f.Create(t.Context(), Ref{k.Account, k.Region, arn.NewKeyID(false)}, &record, CreateOptions{Alias: alias})
	require.ErrorIs(t, err, ErrConflict)
	require.Len(t, f.recordNames(keyPrefix), 2, "no key is left over")
}

func TestAKeyIsCreatedWithSeveralMaterials(t *testing.T) {
	f := newFixture(t)
	record := *f.create().Record
	ref := Ref{"111122223333", "us-east-1", arn.NewKeyID(false)}
	commits := 0
	f.backend.before(func(keystore.Tx) error { commits++; return nil })
	materials := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}
	k, err := f.Create(t.Context(), ref, &record, CreateOptions{Materials: materials})
	require.NoError(t, err)
	require.Equal(t, 1, commits)
	require.Equal(t, []MaterialRecord{
		{ID: MaterialID(ref.ID, materials[0])},
		{ID: MaterialID(ref.ID, materials[1]), Rotated: new(record.Created), RotationType: rotationOnDemand},
	}, k.Record.Materials)
	require.Equal(t, 1, k.Record.OnDemandRotations)
	require.Equal(t, k.Record.Materials[1].ID, k.Current().ID)
}

func TestADamagedKeyIsListed(t *testing.T) {
	f := newFixture(t)
	keys := []*Key{f.create(), f.create(), f.create()}
	list := func() (refs []Ref) {
		for ref, err := range f.Keys(t.Context(), "111122223333", "us-east-1", "", 2, f.now) {
			require.NoError(t, err)
			refs = append(refs, ref)
		}
		return refs
	}
	before := list()
	require.Len(t, before, 3)
	f.damage(keys[1].recordName())
	require.Equal(t, before, list())
	_, err := f.Key(t.Context(), keys[1].Ref, f.now)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
}

func TestADamagedAliasIsListed(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	one := f.alias("alias/one", k)
	two := f.alias("alias/two", k)
	f.damage(one.recordName())
	for _, all := range []func(func(*Alias, error) bool){
		f.Aliases(t.Context(), k.Account, k.Region, "", 1, f.now),
		f.AliasesOf(t.Context(), k.Ref, "", 1, f.now),
	} {
		var names, keys []string
		for a, err := range all {
			require.NoError(t, err)
			names, keys = append(names, a.Name), append(keys, a.KeyID)
		}
		require.Equal(t, []string{one.Name, two.Name}, names)
		require.Equal(t, []string{"", k.ID}, keys)
	}
	has, err := f.HasAlias(t.Context(), one)
	require.NoError(t, err)
	require.True(t, has)
}

// Whoever can write the file can add records of any name, which must not reach a list.
func TestAForgedNameIsNotListed(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	f.damage("key/111122223333/us-east-1/<script>", "alias/111122223333/us-east-1/a b", "aliasof/"+k.path()+"/a b")
	for ref, err := range f.Keys(t.Context(), k.Account, k.Region, "", 10, f.now) {
		require.NoError(t, err)
		require.Equal(t, k.Ref, ref)
	}
	for a, err := range f.Aliases(t.Context(), k.Account, k.Region, "", 10, f.now) {
		t.Fatal(a, err)
	}
	for a, err := range f.AliasesOf(t.Context(), k.Ref, "", 10, f.now) {
		t.Fatal(a, err)
	}
}

// A Backend that goes back must not make a scan endless.
func TestAScanThatGoesBackEnds(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.create()
	}
	names := 0
	var last error
	for _, err := range f.open(circling{f.backend}).names(t.Context(), keyPrefix, "", 2) {
		names++
		last = err
	}
	require.ErrorIs(t, last, keystore.ErrCorrupt)
	require.Equal(t, 2+1, names, "and the error")
}

// A circling Backend begins each scan at the beginning.
type circling struct{ keystore.Backend }

func (c circling) Scan(ctx context.Context, prefix, _ string, limit int) ([]keystore.Record, error) {
	return c.Backend.Scan(ctx, prefix, "", limit)
}

func TestAKeyOfANewerVersionIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	f.damaged = true
	ref := Ref{"111122223333", "us-east-1", arn.NewKeyID(false)}
	for value, want := range map[string]error{
		"\x03{}": keystore.ErrNewerVersion, "\x01{}": keystore.ErrCorrupt,
		string(encodeRecord(Record{Spec: "SYMMETRIC_DEFAULT", Usage: "SIGN_VERIFY", Origin: originKMS, Materials: []MaterialRecord{{ID: "00"}}})): keystore.ErrCorrupt,
		string(encodeRecord(Record{Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: originKMS})):                                      keystore.ErrCorrupt,
	} {
		f.commit(keystore.Tx{Puts: []keystore.Put{{Key: ref.recordName(), Value: []byte(value)}}})
		_, err := f.Key(t.Context(), ref, f.now)
		require.ErrorIs(t, err, want, value)
	}
}

// An absence that another record contradicts is damage, and must not look like a key that never
// was.
func TestALostRecordIsNotAMissingKey(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	never := Ref{k.Account, k.Region, arn.NewKeyID(false)}
	none, err := f.Key(t.Context(), never, f.now)
	require.NoError(t, err)
	require.Nil(t, none)

	f.damaged = true
	f.commit(keystore.Tx{Deletes: []string{k.materialName(k.Current().ID)}})
	_, err = f.Primitive(t.Context(), f.key(k.Ref), f.key(k.Ref).Current())
	require.ErrorIs(t, err, keystore.ErrCorrupt, "a lost material")

	other := f.create()
	alias := f.alias("alias/lost", other)
	f.commit(keystore.Tx{Deletes: []string{other.recordName()}})
	_, err = f.Key(t.Context(), other.Ref, f.now)
	require.ErrorIs(t, err, keystore.ErrCorrupt, "a lost key")
	_, err = f.AliasAt(t.Context(), alias, f.now)
	require.ErrorIs(t, err, keystore.ErrCorrupt, "an alias of a lost key")
	f.commit(keystore.Tx{Deletes: []string{other.materialName(other.Current().ID)}})
	_, err = f.Key(t.Context(), other.Ref, f.now)
	require.ErrorIs(t, err, keystore.ErrCorrupt, "a key of which only an alias is left")
}

// A material that was destroyed with its key a moment ago is a conflict: the key is looked up
// again, and not found.
func TestAMaterialOfADeletedKeyIsAConflict(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	k, err := f.ScheduleDeletion(t.Context(), k, 0, f.now)
	require.NoError(t, err)
	gone, err := f.Key(t.Context(), k.Ref, f.now)
	require.NoError(t, err)
	require.Nil(t, gone)
	_, err = f.Primitive(t.Context(), k, k.Current())
	require.ErrorIs(t, err, ErrConflict)
}

// Of several callers that load a material at the same time, all but one discard theirs.
func TestALosingPrimitiveIsDestroyed(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	m := k.Current()
	first, err := f.Primitive(t.Context(), k, m)
	require.NoError(t, err)
	require.Same(t, first, mustPrimitive(t, f, k, m))
	// The winner stores its primitive while the loser reads.
	loser := f.open(&overtaken{Backend: f.backend, get: func() { m.primitive.Store(&first) }})
	m.primitive.Store(nil)
	destroyed := 0
	usage := *k.Usage
	usage.Family = countDestroyed(usage.Family, &destroyed)
	k.Usage = &usage
	got, err := loser.Primitive(t.Context(), k, m)
	require.NoError(t, err)
	require.Same(t, first, got)
	require.Equal(t, 1, destroyed)
}

func mustPrimitive(t *testing.T, f *fixture, k *Key, m *Material) any {
	p, err := f.Primitive(t.Context(), k, m)
	require.NoError(t, err)
	return p
}

// An overtaken Backend calls get before it reads a record.
type overtaken struct {
	keystore.Backend
	get func()
}

func (o *overtaken) Get(ctx context.Context, name string) (keystore.Record, error) {
	o.get()
	return o.Backend.Get(ctx, name)
}

func TestDueWorkIsDoneInBatches(t *testing.T) {
	f := newFixture(t)
	const keys = 2*destroyKeys + 1
	for i := range keys {
		k := f.create()
		f.alias(fmt.Sprintf("alias/%d", i), k)
		_, err := f.ScheduleDeletion(t.Context(), f.key(k.Ref), 0, hour(24))
		require.NoError(t, err)
	}
	f.now = hour(24)
	scrubs := 0
	f.backend.before(func(tx keystore.Tx) error {
		if tx.Scrub {
			scrubs++
		}
		return nil
	})
	require.NoError(t, f.destroyDue(t.Context()))
	require.Equal(t, 3, scrubs)
	require.Empty(t, f.recordNames(""))
}

// Changes of one key that lost a race are tried again one after the other.
func TestLosersOfARaceQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		k := f.create()
		var calls [2]atomic.Int32
		release := make(chan struct{})
		var done sync.WaitGroup
		for i := range calls {
			done.Go(func() {
				err := f.Retry(context.Background(), func() *Key { return k }, func() error {
					if calls[i].Add(1) == 1 {
						return ErrConflict
					}
					<-release
					return nil
				})
				if err != nil {
					panic(err)
				}
			})
		}
		synctest.Wait()
		require.EqualValues(t, 3, calls[0].Load()+calls[1].Load(), "one retries, the other waits")
		close(release)
		done.Wait()
		require.EqualValues(t, 4, calls[0].Load()+calls[1].Load())
	})
}

func TestAQueuedLoserGoesWithItsContext(t *testing.T) {
	f := newFixture(t)
	for _, queue := range f.queues {
		queue <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := f.Retry(ctx, func() *Key { return nil }, func() error { cancel(); return ErrConflict })
	require.ErrorIs(t, err, context.Canceled)
}

// A change whose turn does not come goes on: its turn may wait for it.
func TestALoserDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		k := f.create()
		calls := 0
		conflictOnce := func() error {
			if calls++; calls == 1 {
				return ErrConflict
			}
			return nil
		}
		outer := 0
		require.NoError(t, f.Retry(t.Context(), func() *Key { return k }, func() error {
			if outer++; outer == 1 {
				return ErrConflict
			}
			return f.Retry(t.Context(), func() *Key { return k }, conflictOnce)
		}))
		require.Equal(t, 2, calls)
	})
}
