package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
)

var ctx = context.Background()

const fullDiskEnv = "POCKETKMS_TEST_FULL_DISK"

func TestMain(m *testing.M) {
	if path := os.Getenv(fullDiskEnv); path != "" {
		if err := fillDisk(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func newBackend(tb testing.TB) (*Backend, string) {
	path := filepath.Join(tb.TempDir(), "store")
	return reopen(tb, path), path
}

// reopen opens a file; at the end of the test it is closed, and checked by bbolt page for page.
func reopen(tb testing.TB, path string) *Backend {
	b, err := Open(path)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if err := b.Close(); errors.Is(err, keystore.ErrClosed) {
			return
		}
		checkFile(tb, path)
	})
	return b
}

func checkFile(tb testing.TB, path string) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	require.NoError(tb, err)
	defer db.Close()
	require.NoError(tb, db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}))
}

func put(tb testing.TB, b *Backend, key string, value []byte) keystore.Revision {
	tb.Helper()
	revision, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: value}}})
	require.NoError(tb, err)
	return revision
}

func TestBackend(t *testing.T) {
	keystoretest.Run(t, func(tb testing.TB) keystore.Backend {
		b, _ := newBackend(tb)
		return b
	})
}

func TestRecordsAndRevisionsOutliveTheProcess(t *testing.T) {
	b, path := newBackend(t)
	first := put(t, b, "a", []byte("1"))
	second := put(t, b, "b", []byte("2"))
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"b"}})
	require.NoError(t, err)
	require.NoError(t, b.Close())

	b = reopen(t, path)
	record, err := b.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, keystore.Record{Key: "a", Value: []byte("1"), Revision: first}, record)
	require.Equal(t, second+2, put(t, b, "c", nil), "a revision is not given twice")
	for _, err := range b.Watch(ctx, second) {
		require.ErrorIs(t, err, keystore.ErrCompacted, "what happened before Open")
	}
}

// bbolt syncs the file before Commit returns, unless it is told to leave that, or a part of it, to the system.
func TestCommitsAreSynced(t *testing.T) {
	b, _ := newBackend(t)
	require.False(t, b.db.NoSync)
	require.False(t, b.db.NoGrowSync)
	require.False(t, b.db.NoFreelistSync, "without it, to open a file means to read all of it")
}

func TestFileIsPrivate(t *testing.T) {
	_, path := newBackend(t)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

func TestAnOpenFileIsLocked(t *testing.T) {
	b, path := newBackend(t)
	_, err := Open(path)
	require.ErrorIs(t, err, keystore.ErrLocked)
	require.NoError(t, b.Close())
	reopen(t, path)
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	_, err := Open(t.TempDir())
	require.Error(t, err)
	_, err = Open(filepath.Join(t.TempDir(), "missing", "store"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Whoever comes while a group is being written shares the next one; each is judged on its own.
func TestConcurrentCommitsShareAWrite(t *testing.T) {
	b, _ := newBackend(t)
	one := put(t, b, "a", []byte("1"))
	transaction := func() int {
		m, _, _, err := readMetas(b.file)
		require.NoError(t, err)
		return int(m.txid)
	}
	const n = 20
	before := transaction()
	stopped, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	var wins, conflicts, cancelled int
	var mu sync.Mutex
	require.NoError(t, b.db.Update(func(*bbolt.Tx) error { // holds up the first leader
		for i := range n {
			call := ctx
			if i == n-1 {
				call = stopped
			}
			group.Go(func() {
				_, err := b.Commit(call, keystore.Tx{
					Expect: []keystore.Expectation{{Key: "a", Revision: one}},
					Puts:   []keystore.Put{{Key: "a", Value: []byte("2")}, {Key: fmt.Sprint(i)}},
				})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					wins++
				case errors.Is(err, keystore.ErrConflict):
					conflicts++
				case errors.Is(err, context.Canceled):
					cancelled++
				}
			})
			waitFor(func() bool { // until it leads or queues
				b.queue.mu.Lock()
				defer b.queue.mu.Unlock()
				return b.queue.led && len(b.queue.waiting) == i
			})
		}
		stop()
		waitFor(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return cancelled == 1
		})
		return nil
	}))
	group.Wait()
	require.Equal(t, []int{1, n - 2, 1}, []int{wins, conflicts, cancelled})
	require.LessOrEqual(t, transaction()-before, 3, "that which held them up, the first, and one for all others that changed nothing")

	before = transaction()
	require.NoError(t, b.db.Update(func(*bbolt.Tx) error {
		for i := range n {
			group.Go(func() { put(t, b, fmt.Sprint("b", i), nil) })
			waitFor(func() bool {
				b.queue.mu.Lock()
				defer b.queue.mu.Unlock()
				return b.queue.led && len(b.queue.waiting) == i
			})
		}
		return nil
	}))
	group.Wait()
	require.Equal(t, 3, transaction()-before, "that which held them up, the first, and one for all others")
}

func waitFor(met func() bool) {
	for !met() {
		runtime.Gosched()
	}
}

func TestDamagedFilesAreRefusedAndLeftAlone(t *testing.T) {
	b, path := newBackend(t)
	for i := range 200 {
		put(t, b, fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i)}, 100))
	}
	require.NoError(t, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	page := os.Getpagesize()
	m, _, _, err := readMetas(bytes.NewReader(whole))
	require.NoError(t, err)
	with := func(change func([]byte)) []byte {
		data := bytes.Clone(whole)
		change(data)
		return data
	}
	at := func(id uint64) int { return int(id) * page }
	for name, data := range map[string][]byte{
		"one byte":            []byte("x"),
		"text":                []byte(strings.Repeat("not a store\n", 5000)),
		"zeros":               make([]byte, len(whole)),
		"first page only":     whole[:page],
		"truncated by a page": whole[:at(m.pgid)-page],
		"truncated in a page": whole[:at(m.pgid)-1],
		"both metas zero":     with(func(d []byte) { clear(d[:2*page]) }),
		"both metas flipped":  with(func(d []byte) { d[60] ^= 1; d[page+60] ^= 1 }),
		"root zero":           with(func(d []byte) { clear(d[at(m.root) : at(m.root)+page]) }),
		"root is a freelist":  with(func(d []byte) { d[at(m.root)+8] = freelistPage }),
		"freelist zero":       with(func(d []byte) { clear(d[at(m.freelist) : at(m.freelist)+page]) }),
		"freelist too long":   with(func(d []byte) { d[at(m.freelist)+10], d[at(m.freelist)+11] = 0xfe, 0xff }),
		"freelist far too long": with(func(d []byte) {
			copy(d[at(m.freelist)+10:], bytes.Repeat([]byte{0xff}, 14))
		}),
		"offset out of page": with(func(d []byte) { order.PutUint32(d[at(m.root)+16+4:], 1<<30) }),
		"size out of page":   with(func(d []byte) { order.PutUint32(d[at(m.root)+16+12:], 1<<31) }),
		"overflow out of file": with(func(d []byte) {
			order.PutUint32(d[at(m.root)+12:], 1<<31)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			_, err := Open(path)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, after), "the file was changed")
		})
	}
}

// A page deep in a large file is damaged: what does not need it works, what needs it says ErrCorrupt.
func TestDamageBehindTheInspectedPart(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 40_000, 500)
	require.NoError(t, b.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	m, _, _, err := readMetas(bytes.NewReader(data))
	require.NoError(t, err)
	require.Greater(t, m.pgid, uint64(4*inspectPages))
	_, err = inspect(bytes.NewReader(data), int64(m.pgid-1)*m.pageSize)
	require.ErrorIs(t, err, keystore.ErrCorrupt, "a page is missing at the end")

	victim := bytes.LastIndex(data, []byte("record/0039000")) / os.Getpagesize()
	for name, damage := range map[string]func([]byte){
		"zeros":     func(page []byte) { clear(page) },
		"far value": func(page []byte) { order.PutUint32(page[16+4:], 1<<31-1); order.PutUint32(page[16+16+4:], 1<<31-1) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			damaged := bytes.Clone(data)
			damage(damaged[victim*os.Getpagesize():][:os.Getpagesize()])
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			b, err := Open(path)
			require.NoError(t, err)
			defer b.Close()
			_, err = b.Get(ctx, "record/0000001")
			require.NoError(t, err)
			_, err = b.Scan(ctx, "", "", 50_000)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "record/0039000x"}}})
			if name == "zeros" {
				require.ErrorIs(t, err, keystore.ErrCorrupt)
				_, err = b.Get(ctx, "record/0000001")
				require.ErrorIs(t, err, keystore.ErrCorrupt, "after a panic in a write nothing is trusted")
			}
		})
	}
}

// fill writes records in a few large bbolt transactions.
func fill(tb testing.TB, b *Backend, records, valueBytes int) {
	b.db.NoSync = true
	defer func() { b.db.NoSync = false }()
	for next := 0; next < records; {
		require.NoError(tb, b.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(bucketName))
			bucket.FillPercent = 0.95
			value := make([]byte, revisionBytes+valueBytes)
			value[revisionBytes-1] = 1
			for end := min(next+50_000, records); next < end; next++ {
				if err := bucket.Put(fmt.Appendf(nil, "record/%07d", next), value); err != nil {
					return err
				}
			}
			return bucket.SetSequence(1)
		}))
	}
	require.NoError(tb, b.db.Sync())
}

func TestFilesOfOthersAreRefused(t *testing.T) {
	for name, want := range map[string]error{"theirs": keystore.ErrCorrupt, bucketFamily + "2": keystore.ErrNewerVersion} {
		path := filepath.Join(t.TempDir(), "store")
		db, err := bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte(name))
			return err
		}))
		require.NoError(t, db.Close())
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = Open(path)
		require.ErrorIs(t, err, want)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after), "the file was changed")
	}
}

// bbolt makes a file of four pages in one write; a kill can leave the first of them.
func TestAnInterruptedCreationIsRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for pages := range 5 {
		require.NoError(t, os.WriteFile(path, whole[:pages*os.Getpagesize()], 0o600))
		b := reopen(t, path)
		put(t, b, "a", nil)
		require.NoError(t, b.Close())
		checkFile(t, path)
	}
}

// The meta page that was written last is torn: the file is as it was before that transaction.
func TestATornCommitFallsBack(t *testing.T) {
	b, path := newBackend(t)
	for i := range 6 { // also after a scrub, which must have left the state before it intact
		revision := put(t, b, "a", bytes.Repeat([]byte("old"), 2000))
		_, err := b.Commit(ctx, keystore.Tx{
			Puts: []keystore.Put{{Key: "a", Value: []byte(fmt.Sprint("new", i))}}, Scrub: i%2 == 1,
		})
		require.NoError(t, err)
		require.NoError(t, b.Close())
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		m, _, _, err := readMetas(bytes.NewReader(data))
		require.NoError(t, err)
		data[int64(m.txid%2)*m.pageSize+60] ^= 1
		torn := filepath.Join(t.TempDir(), "torn")
		require.NoError(t, os.WriteFile(torn, data, 0o600))
		fallback := reopen(t, torn)
		record, err := fallback.Get(ctx, "a")
		require.NoError(t, err)
		if i%2 == 1 { // the last transaction is the empty one of the scrub
			require.Equal(t, fmt.Sprint("new", i), string(record.Value))
		} else {
			require.Equal(t, revision, record.Revision)
			require.Len(t, record.Value, 6000)
		}
		require.NoError(t, fallback.Close())
		checkFile(t, torn)
		b = reopen(t, path)
	}
}

func TestScrubLeavesNoTrace(t *testing.T) {
	b, path := newBackend(t)
	secret := func(i int) []byte { return fmt.Appendf(nil, "<secret %04d>", i) }
	// Neighbours make bbolt copy the page with the secret again and again; some values overflow their page.
	for i := range 60 {
		put(t, b, fmt.Sprint("victim", i), bytes.Repeat(secret(i), 1+i*i))
		put(t, b, fmt.Sprint("neighbour", i), []byte("stays"))
	}
	// What a killed commit may have left behind the used part.
	info, err := b.file.Stat()
	require.NoError(t, err)
	_, err = b.file.WriteAt(secret(9999), info.Size()-20)
	require.NoError(t, err)
	found := func() int {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return bytes.Count(data, []byte("<secret "))
	}
	for i := 0; i < 60; i += 2 {
		scrub := i == 58
		if scrub {
			require.NotZero(t, found())
		}
		_, err := b.Commit(ctx, keystore.Tx{
			Deletes: []string{fmt.Sprint("victim", i)},
			Puts:    []keystore.Put{{Key: fmt.Sprint("victim", i+1), Value: []byte("overwritten")}},
			Scrub:   scrub,
		})
		require.NoError(t, err)
	}
	require.Zero(t, found(), "old values are still in the file")
	for i := range 60 {
		record, err := b.Get(ctx, fmt.Sprint("neighbour", i))
		require.NoError(t, err)
		require.Equal(t, "stays", string(record.Value))
	}
	require.NoError(t, b.Close())
	checkFile(t, path)
	require.Zero(t, found())
}

func TestScrubWaitsForReaders(t *testing.T) {
	b, _ := newBackend(t)
	put(t, b, "room", make([]byte, 500_000)) // bbolt waits for readers too, where it must map more of the file: not here
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"room"}})
	require.NoError(t, err)
	old := bytes.Repeat([]byte("old"), 4000)
	put(t, b, "a", old)
	scrubbed := make(chan error, 1)
	require.NoError(t, b.view(ctx, func(bucket *bbolt.Bucket) error {
		value := bucket.Get([]byte("a"))
		go func() {
			_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("new")}}, Scrub: true})
			scrubbed <- err
		}()
		waitFor(func() bool { // until the scrub waits, or has not
			if len(scrubbed) > 0 {
				return true
			}
			free := b.mu.TryRLock()
			if free {
				b.mu.RUnlock()
			}
			return !free
		})
		require.True(t, bytes.Equal(old, value[revisionBytes:]), "the page was scrubbed under its reader")
		return nil
	}))
	require.NoError(t, <-scrubbed)
}

// The limit on the size of files stands for a full disk; it holds for a whole process, so a child takes the test.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fullDiskEnv+"="+path)
	output, err := child.CombinedOutput()
	require.NoError(t, err, "%s", output)
	b := reopen(t, path)
	records, err := b.Scan(ctx, "", "", 1000)
	require.NoError(t, err)
	require.NotEmpty(t, records)
}

func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	const limit = 200_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	b, err := Open(path)
	if err != nil {
		return err
	}
	n := 0
	for ; ; n++ {
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: fmt.Sprintf("%04d", n), Value: make([]byte, 5000)}}})
		if errors.Is(err, keystore.ErrFull) {
			break
		}
		if err != nil || n > limit/5000 {
			return fmt.Errorf("after %d records: want ErrFull, got %w", n, err)
		}
	}
	revision, err := b.Commit(ctx, keystore.Tx{})
	if err != nil || int(revision) != n {
		return fmt.Errorf("revision %d after %d commits: %w", revision, n, err)
	}
	for i := range n {
		if record, err := b.Get(ctx, fmt.Sprintf("%04d", i)); err != nil || len(record.Value) != 5000 {
			return fmt.Errorf("record %d of %d: %d bytes, %w", i, n, len(record.Value), err)
		}
	}
	if _, err := b.Get(ctx, fmt.Sprintf("%04d", n)); !errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("the refused record: %w", err)
	}
	// Once something is gone there is room again.
	if _, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"0000", "0001", "0002"}, Scrub: true}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if _, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "after", Value: make([]byte, 5000)}}}); err != nil {
		return fmt.Errorf("put after delete: %w", err)
	}
	return b.Close()
}

// Whatever stands in a file, it does no more than fail. The checksums of the metas are made right, or else little would get past
// them.
func FuzzOpen(f *testing.F) {
	b, path := newBackend(f)
	for i := range 100 {
		put(f, b, fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i)}, 100))
	}
	require.NoError(f, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(uint32(0), []byte{0})
	f.Add(uint32(os.Getpagesize()+32), []byte{0xff, 0xff, 0xff, 0xff})
	for page := range 8 {
		f.Add(uint32(page*os.Getpagesize()+8), []byte{2, 0, 0xff, 0xff})
		f.Add(uint32(page*os.Getpagesize()+16), bytes.Repeat([]byte{0x7f}, 16))
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		data := bytes.Clone(whole)
		copy(data[int(at)%len(data):], change)
		for _, meta := range []int{0, os.Getpagesize()} {
			sum := fnv.New64a()
			_, _ = sum.Write(data[meta+pageHeaderBytes:][:metaBytes-8])
			order.PutUint64(data[meta+pageHeaderBytes+metaBytes-8:], sum.Sum64())
		}
		path := filepath.Join(t.TempDir(), "store")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		b, err := Open(path)
		if err != nil {
			return
		}
		defer b.Close()
		_, _ = b.Scan(ctx, "", "", 1000)
		_, _ = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "key5"}, {Key: "key50"}}, Deletes: []string{"key7"}, Scrub: true})
		_, _ = b.Get(ctx, "key5")
	})
}
