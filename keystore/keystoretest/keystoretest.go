// Package keystoretest is a conformance suite for implementations of keystore.Backend. Call Run in
// a test:
//
//	func TestBackend(t *testing.T) {
//		keystoretest.Run(t, func(tb testing.TB) keystore.Backend { ... })
//	}
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// Run tests that a Backend does what its documentation says. It calls open, which must return a
// new, empty Backend, once for each test, and closes the Backend.
func Run(t *testing.T, open func(testing.TB) keystore.Backend) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

// A check tests one promise of Backend. Its name states the promise.
type check struct {
	name string
	body func(tb testing.TB, b *backend)
}

func (c check) run(tb testing.TB, open func(testing.TB) keystore.Backend) {
	b := &backend{open(tb), tb}
	c.body(tb, b)
	if err := b.Close(); !errors.Is(err, keystore.ErrClosed) {
		require.NoError(tb, err)
	}
}

var checks = []check{
	{"an empty store has no records", empty},
	{"records are read as they were written", readBack},
	{"values may be empty, and as long as the limit", sizes},
	{"scans are in the order of bytes", order},
	{"scans return only keys with the prefix", prefixes},
	{"scans can be continued page by page", paging},
	{"a limit must be positive", limits},
	{"transactions up to the limits are accepted", largest},
	{"keys, values and transactions beyond the limits are refused", invalid},
	{"a transaction whose expectations do not hold changes nothing", expectations},
	{"a transaction is atomic", atomicity},
	{"revisions rise with each write", revisions},
	{"deletes remove records, and may name missing ones", deletes},
	{"slices belong to the caller", ownership},
	{"a scrub changes nothing but the medium", scrubs},
	{"no concurrent update is lost", counters},
	{"a scan is a snapshot", snapshots},
	{"a snapshot has all records of one moment", snapshotsOfAll},
	{"each record is a linearizable register", linearizable},
	{"watch yields each change once, in order", watchOrder},
	{"watch resumes after a revision", watchResume},
	{"watch ends with its context", watchCancel},
	{"a cancelled context does nothing", cancelled},
	{"a closed store stays closed", closed},
}

var ctx = context.Background()

// A backend adds shorter methods for the checks.
type backend struct {
	keystore.Backend
	tb testing.TB
}

func (b *backend) commit(tx keystore.Tx) keystore.Revision {
	b.tb.Helper()
	revision, err := b.Commit(ctx, tx)
	require.NoError(b.tb, err)
	return revision
}

func (b *backend) put(key, value string) keystore.Revision {
	b.tb.Helper()
	return b.commit(keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(value)}}})
}

func (b *backend) has(key, value string, revision keystore.Revision) {
	b.tb.Helper()
	record, err := b.Get(ctx, key)
	require.NoError(b.tb, err)
	require.Equal(b.tb, keystore.Record{Key: key, Value: []byte(value), Revision: revision}, record)
}

func (b *backend) lacks(key string) {
	b.tb.Helper()
	_, err := b.Get(ctx, key)
	require.ErrorIs(b.tb, err, keystore.ErrNotFound)
}

func (b *backend) keys(prefix, after string, limit int) []string {
	b.tb.Helper()
	records, err := b.Scan(ctx, prefix, after, limit)
	require.NoError(b.tb, err)
	keys := []string{}
	for _, record := range records {
		keys = append(keys, record.Key)
	}
	return keys
}

func empty(tb testing.TB, b *backend) {
	b.lacks("a")
	require.Empty(tb, b.keys("", "", 10))
	require.Zero(tb, b.commit(keystore.Tx{}), "the revision of an empty store")
}

func readBack(tb testing.TB, b *backend) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	first := b.put("a", string(all))
	second := b.put(string(all[1:])+"\x00", "value")
	b.has("a", string(all), first)
	b.has(string(all[1:])+"\x00", "value", second)
	third := b.put("a", "other")
	b.has("a", "other", third)
	records, err := b.Scan(ctx, "a", "", 1)
	require.NoError(tb, err)
	require.Equal(tb, []keystore.Record{{Key: "a", Value: []byte("other"), Revision: third}}, records)
}

func sizes(tb testing.TB, b *backend) {
	long := strings.Repeat("k", keystore.MaxKeyBytes)
	large := bytes.Repeat([]byte("0123456789abcdef"), keystore.MaxValueBytes/16)
	b.put("empty", "")
	record, err := b.Get(ctx, "empty")
	require.NoError(tb, err)
	require.Empty(tb, record.Value)
	revision := b.commit(keystore.Tx{Puts: []keystore.Put{{Key: long, Value: large}}})
	b.has(long, string(large), revision)
	require.Equal(tb, []string{long}, b.keys(long, "", 2))
	require.Empty(tb, b.keys("", long, 2))
}

func order(tb testing.TB, b *backend) {
	want := []string{"\x00", "\x00\x00", "A", "Z", "a", "a\x00", "a/", "a/1", "a/10", "a/2", "aa", "b", "é", "\xff", "\xff\xff"}
	for i := range want {
		b.put(want[(i*4+3)%len(want)], "v")
	}
	require.Equal(tb, want, b.keys("", "", 100))
}

func prefixes(tb testing.TB, b *backend) {
	for _, key := range []string{"a", "a/1", "a/1/x", "a/10", "a/10/x", "a/2", "a0", "b", "\xff", "\xff\xffz"} {
		b.put(key, "v")
	}
	require.Equal(tb, []string{"a/1", "a/1/x", "a/10", "a/10/x"}, b.keys("a/1", "", 100))
	require.Equal(tb, []string{"a/1/x"}, b.keys("a/1/", "", 100))
	require.Equal(tb, []string{"a/10/x", "a/2"}, b.keys("a/", "a/10", 100))
	require.Equal(tb, []string{"\xff", "\xff\xffz"}, b.keys("\xff", "", 100), "a prefix without a successor")
	require.Equal(tb, []string{"a/1", "a/1/x"}, b.keys("a/1", "A", 2), "after lies before the prefix")
	require.Empty(tb, b.keys("a/1", "b", 100), "after lies behind the prefix")
	require.Empty(tb, b.keys("c", "", 100))
}

func paging(tb testing.TB, b *backend) {
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("k/%02d", i)
		want = append(want, key)
		b.put(key, key)
	}
	b.put("l", "beyond")
	for _, limit := range []int{1, 7, 25, 26, 1 << 30} {
		var got []string
		for after := ""; ; {
			page := b.keys("k/", after, limit)
			require.LessOrEqual(tb, len(page), limit)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			after = page[len(page)-1]
		}
		require.Equal(tb, want, got, "limit %d", limit)
	}
	require.Equal(tb, want[11:13], b.keys("k/", "k/10x", 2), "after need not exist")
}

func limits(tb testing.TB, b *backend) {
	b.put("a", "v")
	for _, limit := range []int{0, -1, -1 << 62} {
		_, err := b.Scan(ctx, "", "", limit)
		require.ErrorIs(tb, err, keystore.ErrInvalid)
	}
}

func largest(tb testing.TB, b *backend) {
	var many, all keystore.Tx
	for i := range keystore.MaxTxOps {
		many.Puts = append(many.Puts, keystore.Put{Key: fmt.Sprintf("%03d", i), Value: []byte("1")})
		all.Deletes = append(all.Deletes, fmt.Sprintf("%03d", i))
	}
	for i := range keystore.MaxTxOps + 1 { // one for a Store
		many.Expect = append(many.Expect, keystore.Expectation{Key: fmt.Sprintf("%03d", i)})
	}
	revision := b.commit(many)
	b.has("000", "1", revision)
	require.Equal(tb, all.Deletes, b.keys("", "", 1000))
	for i := range keystore.MaxTxOps {
		all.Expect = append(all.Expect, keystore.Expectation{Key: fmt.Sprintf("%03d", i), Revision: revision})
	}
	b.commit(all)
	require.Empty(tb, b.keys("", "", 1000))

	// Every key counts, those of expectations too.
	rest := strings.Repeat("2", keystore.MaxTxBytes-keystore.MaxValueBytes-len("a")-2*len("b")-len("c"))
	one := strings.Repeat("1", keystore.MaxValueBytes)
	revision = b.commit(keystore.Tx{
		Expect:  []keystore.Expectation{{Key: "b"}},
		Puts:    []keystore.Put{{Key: "a", Value: []byte(one)}, {Key: "b", Value: []byte(rest)}},
		Deletes: []string{"c"},
	})
	b.has("a", one, revision)
	b.has("b", rest, revision)
}

func invalid(tb testing.TB, b *backend) {
	long := strings.Repeat("k", keystore.MaxKeyBytes+1)
	put := func(key string, value ...byte) keystore.Tx {
		return keystore.Tx{Puts: []keystore.Put{{Key: key, Value: value}}}
	}
	var many, expecting keystore.Tx
	for i := range keystore.MaxTxOps + 1 {
		many.Puts = append(many.Puts, keystore.Put{Key: fmt.Sprint(i)})
	}
	for i := range keystore.MaxTxOps + 2 {
		expecting.Expect = append(expecting.Expect, keystore.Expectation{Key: fmt.Sprint(i)})
	}
	for name, tx := range map[string]keystore.Tx{
		"empty key":            put(""),
		"long key":             put(long),
		"long value":           put("a", make([]byte, keystore.MaxValueBytes+1)...),
		"empty expected key":   {Expect: []keystore.Expectation{{}}},
		"long deleted key":     {Deletes: []string{long}},
		"two puts of a key":    {Puts: []keystore.Put{{Key: "a"}, {Key: "a"}}},
		"put and delete":       {Puts: []keystore.Put{{Key: "a"}}, Deletes: []string{"a"}},
		"a key expected twice": {Expect: []keystore.Expectation{{Key: "a"}, {Key: "a"}}},
		"too many writes":      many,
		"too many expected":    expecting,
		"too many bytes": {Puts: []keystore.Put{
			{Key: "a", Value: make([]byte, keystore.MaxValueBytes)}, {Key: "b", Value: make([]byte, keystore.MaxValueBytes)}}},
	} {
		_, err := b.Commit(ctx, tx)
		require.ErrorIs(tb, err, keystore.ErrInvalid, name)
	}
	for _, key := range []string{"", long} {
		_, err := b.Get(ctx, key)
		require.ErrorIs(tb, err, keystore.ErrInvalid)
	}
	_, err := b.Scan(ctx, long, "", 1)
	require.ErrorIs(tb, err, keystore.ErrInvalid)
	_, err = b.Scan(ctx, "", long, 1)
	require.ErrorIs(tb, err, keystore.ErrInvalid)
	require.Empty(tb, b.keys("", "", 1), "nothing was written")
}

func expectations(tb testing.TB, b *backend) {
	one := b.put("one", "1")
	two := b.put("two", "2")
	expect := func(key string, revision keystore.Revision) keystore.Expectation {
		return keystore.Expectation{Key: key, Revision: revision}
	}
	for name, expected := range map[string][]keystore.Expectation{
		"absent, but present":   {expect("one", 0)},
		"present, but absent":   {expect("none", one)},
		"older revision":        {expect("two", one)},
		"newer revision":        {expect("one", two)},
		"revision to come":      {expect("one", two+1)},
		"the last of several":   {expect("one", one), expect("none", 0), expect("two", two-1)},
		"the first of several":  {expect("one", one+1), expect("two", two)},
		"far above any":         {expect("one", ^keystore.Revision(0))},
		"a prefix of a key":     {expect("on", one)},
		"an extension of a key": {expect("one\x00", one)},
	} {
		for _, tx := range []keystore.Tx{
			{Expect: expected},
			{Expect: expected, Puts: []keystore.Put{{Key: "one", Value: []byte("changed")}}},
			{Expect: expected, Puts: []keystore.Put{{Key: "new", Value: []byte("changed")}}, Deletes: []string{"two"}},
		} {
			_, err := b.Commit(ctx, tx)
			require.ErrorIs(tb, err, keystore.ErrConflict, name)
			b.has("one", "1", one)
			b.has("two", "2", two)
			b.lacks("new")
		}
	}
	require.Equal(tb, two, b.commit(keystore.Tx{Expect: []keystore.Expectation{expect("one", one), expect("none", 0), expect("two", two)}}),
		"a transaction that only checks returns the current revision")
	three := b.commit(keystore.Tx{
		Expect: []keystore.Expectation{expect("none", 0), expect("one", one), expect("two", two)},
		Puts:   []keystore.Put{{Key: "one", Value: []byte("11")}, {Key: "none", Value: []byte("0")}}, Deletes: []string{"two"},
	})
	b.has("one", "11", three)
	b.has("none", "0", three)
	b.lacks("two")
	b.put("two", "again")
	_, err := b.Commit(ctx, keystore.Tx{Expect: []keystore.Expectation{expect("two", two)}})
	require.ErrorIs(tb, err, keystore.ErrConflict, "a record deleted and written again is another")
}

func atomicity(tb testing.TB, b *backend) {
	b.put("a", "1")
	b.put("c", "1")
	revision := b.commit(keystore.Tx{
		Puts:    []keystore.Put{{Key: "b", Value: []byte("2")}, {Key: "a", Value: []byte("2")}},
		Deletes: []string{"c", "d"},
	})
	b.has("a", "2", revision)
	b.has("b", "2", revision)
	b.lacks("c")
	_, err := b.Commit(ctx, keystore.Tx{
		Expect: []keystore.Expectation{{Key: "e", Revision: 1}},
		Puts:   []keystore.Put{{Key: "a", Value: []byte("3")}}, Deletes: []string{"b"},
	})
	require.ErrorIs(tb, err, keystore.ErrConflict)
	b.has("a", "2", revision)
	b.has("b", "2", revision)
}

func revisions(tb testing.TB, b *backend) {
	last := b.commit(keystore.Tx{})
	for i := range 10 {
		next := b.put(fmt.Sprint(i%3), "same")
		require.Greater(tb, next, last)
		require.Equal(tb, next, b.commit(keystore.Tx{}))
		_, err := b.Commit(ctx, keystore.Tx{Expect: []keystore.Expectation{{Key: "none", Revision: 1}}})
		require.ErrorIs(tb, err, keystore.ErrConflict)
		last = next
	}
	require.Greater(tb, b.commit(keystore.Tx{Deletes: []string{"0"}}), last)
}

func deletes(tb testing.TB, b *backend) {
	b.put("a", "1")
	b.commit(keystore.Tx{Deletes: []string{"a", "never"}})
	b.lacks("a")
	require.Empty(tb, b.keys("", "", 10))
	b.commit(keystore.Tx{Deletes: []string{"a"}})
	b.commit(keystore.Tx{Expect: []keystore.Expectation{{Key: "a"}}, Puts: []keystore.Put{{Key: "a"}}})
	require.Equal(tb, []string{"a"}, b.keys("", "", 10))
}

func ownership(tb testing.TB, b *backend) {
	value := []byte("value")
	tx := keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: value}, {Key: "b", Value: []byte("b")}}}
	revision := b.commit(tx)
	copy(value, "XXXXX")
	tx.Puts[1] = keystore.Put{Key: "XX", Value: []byte("XX")}
	b.has("a", "value", revision)
	b.has("b", "b", revision)
	record, err := b.Get(ctx, "a")
	require.NoError(tb, err)
	copy(record.Value, "XXXXX")
	_ = append(record.Value, "XXXXX"...)
	b.has("a", "value", revision)
	records, err := b.Scan(ctx, "", "", 10)
	require.NoError(tb, err)
	for i := range records {
		copy(records[i].Value, "XXXXX")
		_ = append(records[i].Value, "XXXXX"...)
	}
	b.has("a", "value", revision)
	b.has("b", "b", revision)
	record, err = b.Get(ctx, "a")
	require.NoError(tb, err)
	b.commit(keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("other")}}, Scrub: true})
	b.commit(keystore.Tx{Deletes: []string{"a"}, Scrub: true})
	require.Equal(tb, "value", string(record.Value), "what was read stays")
}

func scrubs(tb testing.TB, b *backend) {
	kept := b.put("kept", "kept")
	b.put("a", "old")
	b.put("b", "old")
	revision := b.commit(keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("new")}}, Deletes: []string{"b"}, Scrub: true})
	b.has("kept", "kept", kept)
	b.has("a", "new", revision)
	b.lacks("b")
	require.Equal(tb, revision, b.commit(keystore.Tx{}))
}

func counters(tb testing.TB, b *backend) {
	const workers, increments = 8, 20
	var group sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		group.Go(func() {
			key := fmt.Sprint("counter/", w%2)
			for range increments {
				if errs[w] = increment(b, key); errs[w] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	require.NoError(tb, errors.Join(errs...))
	for _, key := range []string{"counter/0", "counter/1"} {
		record, err := b.Get(ctx, key)
		require.NoError(tb, err)
		require.Len(tb, record.Value, workers/2*increments, "one byte for each increment")
	}
}

// increment appends a byte to a record, and retries after a conflict.
func increment(b *backend, key string) error {
	for {
		record, err := b.Get(ctx, key)
		if err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		_, err = b.Commit(ctx, keystore.Tx{
			Expect: []keystore.Expectation{{Key: key, Revision: record.Revision}},
			Puts:   []keystore.Put{{Key: key, Value: append(record.Value, '.')}},
		})
		if !errors.Is(err, keystore.ErrConflict) {
			return err
		}
	}
}

func snapshots(tb testing.TB, b *backend) {
	const keys = 10
	write := func(i int) error {
		var tx keystore.Tx
		for k := range keys {
			tx.Puts = append(tx.Puts, keystore.Put{Key: fmt.Sprint(k), Value: []byte(fmt.Sprint(i))})
		}
		_, err := b.Commit(ctx, tx)
		return err
	}
	require.NoError(tb, write(0))
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 1; i < 50 && err == nil; i++ {
			err = write(i)
		}
		done <- err
	}()
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(tb, err)
			running = false
		default:
		}
		records, err := b.Scan(ctx, "", "", 2*keys)
		require.NoError(tb, err)
		require.Len(tb, records, keys)
		for _, record := range records[1:] {
			require.Equal(tb, records[0].Revision, record.Revision)
			require.Equal(tb, records[0].Value, record.Value)
		}
	}
}

func cancelled(tb testing.TB, b *backend) {
	revision := b.put("a", "1")
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err := b.Get(done, "a")
	require.ErrorIs(tb, err, context.Canceled)
	_, err = b.Scan(done, "", "", 1)
	require.ErrorIs(tb, err, context.Canceled)
	_, err = b.Commit(done, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("2")}}})
	require.ErrorIs(tb, err, context.Canceled)
	b.has("a", "1", revision)
	require.Equal(tb, revision, b.commit(keystore.Tx{}))
}

func closed(tb testing.TB, b *backend) {
	revision := b.put("a", "1")
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		for event, err := range b.Watch(ctx, revision-1) {
			if err != nil {
				ended <- err
				return
			}
			if event.Key == "a" {
				close(started)
			}
		}
	}()
	<-started
	require.NoError(tb, b.Close())
	require.ErrorIs(tb, <-ended, keystore.ErrClosed, "a watch in progress")
	_, err := b.Get(ctx, "a")
	require.ErrorIs(tb, err, keystore.ErrClosed)
	_, err = b.Scan(ctx, "", "", 1)
	require.ErrorIs(tb, err, keystore.ErrClosed)
	_, err = b.Commit(ctx, keystore.Tx{})
	require.ErrorIs(tb, err, keystore.ErrClosed)
	for _, err := range b.Watch(ctx, revision) {
		require.ErrorIs(tb, err, keystore.ErrClosed)
	}
	require.ErrorIs(tb, b.Close(), keystore.ErrClosed)
}
