package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
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

// children are what a process of this test binary does instead of tests, if the environment
// variable has the path of a file.
var children = map[string]func(path string) error{fullDiskEnv: fillDisk, killEnv: dieBeforeTheScrub, replaceEnv: dieBeforeTheRenaming}

func TestMain(m *testing.M) {
	for variable, child := range children {
		if path := os.Getenv(variable); path != "" {
			if err := child(path); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

func newBackend(tb testing.TB) (*Backend, string) {
	path := filepath.Join(tb.TempDir(), "store")
	return reopen(tb, path), path
}

// reopen opens a file. At the end of the test it is closed, and bbolt checks it page by page.
func reopen(tb testing.TB, path string) *Backend {
	b, err := Open(path)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if err := b.Close(); errors.Is(err, keystore.ErrClosed) {
			return
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return // nothing was committed
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

// bbolt syncs the file before Commit returns, unless an option leaves that, or a part of it, to
// the system.
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

func TestOpenContextWaitsForTheLock(t *testing.T) {
	b, path := newBackend(t)
	put(t, b, "a", []byte("1"))
	waiting, cancel := context.WithCancel(ctx)
	cancelled := make(chan error, 1)
	go func() {
		_, err := OpenContext(waiting, path)
		cancelled <- err
	}()
	type result struct {
		b   *Backend
		err error
	}
	opened := make(chan result, 1)
	go func() {
		b, err := OpenContext(ctx, path)
		opened <- result{b, err}
	}()
	_, err := Open(path) // for half a second
	require.ErrorIs(t, err, keystore.ErrLocked)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	cancel()
	err = <-cancelled
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, path)
	_, err = OpenContext(waiting, filepath.Join(t.TempDir(), "store"))
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, b.Close())
	second := <-opened
	require.NoError(t, second.err)
	_, err = second.b.Get(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, second.b.Close())
}

// waiting is a context that reports when a call begins to wait for it.
type waiting struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

func (w *waiting) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}

// Close removes a file that Open has created if nothing was committed to it. A process that waits
// for the lock meanwhile does not end up with the removed file.
func TestAFileWithoutACommitIsRemoved(t *testing.T) {
	b, path := newBackend(t)
	opened := make(chan *Backend, 1)
	waits := &waiting{Context: ctx, begun: make(chan struct{})}
	go func() {
		second, err := OpenContext(waits, path)
		if err != nil {
			t.Error(err)
		}
		opened <- second
	}()
	<-waits.begun
	_, err := b.Commit(ctx, keystore.Tx{Expect: []keystore.Expectation{{Key: "a"}}})
	require.NoError(t, err, "it writes nothing")
	require.NoError(t, b.Close())
	second := <-opened
	require.FileExists(t, path)
	put(t, second, "a", nil)
	require.NoError(t, second.Close())
	require.FileExists(t, path)
	require.NoError(t, reopen(t, path).Close())
	require.FileExists(t, path)

	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.NoError(t, reopen(t, empty).Close())
	require.FileExists(t, empty, "Open has not created it")
}

func TestAFileThatWasRemovedOrReplacedIsNotChanged(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"removed": os.Remove,
		"renamed": func(path string) error { return os.Rename(path, path+".old") },
		"replaced by a copy": func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path))
		},
		"its directory renamed": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") },
	} {
		for _, ping := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ping), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "directory", "store")
				require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
				b, err := Open(path)
				require.NoError(t, err)
				put(t, b, "a", nil)
				require.NoError(t, b.Ping(ctx))
				require.NoError(t, replace(path))
				if ping {
					require.ErrorIs(t, b.Ping(ctx), keystore.ErrReplaced)
				}
				_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "b"}}})
				require.ErrorIs(t, err, keystore.ErrReplaced)
				require.ErrorContains(t, err, path)
				_, err = b.Get(ctx, "a")
				require.ErrorIs(t, err, keystore.ErrReplaced)
				_, err = b.Scan(ctx, "", "", 1)
				require.ErrorIs(t, err, keystore.ErrReplaced)
				require.ErrorIs(t, b.Ping(ctx), keystore.ErrReplaced)
				require.NoError(t, b.Close())
				require.ErrorIs(t, b.Ping(ctx), keystore.ErrClosed)
			})
		}
	}
}

func TestOpenRefusesWhatIsNotAFile(t *testing.T) {
	_, err := Open(t.TempDir())
	require.Error(t, err)
	_, err = Open(filepath.Join(t.TempDir(), "missing", "store"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAnEphemeralRootKeyIsRefused(t *testing.T) {
	b, _ := newBackend(t)
	_, err := keystore.Open(ctx, b, keystore.Ephemeral())
	require.ErrorIs(t, err, keystore.ErrInvalid)
	_, err = b.Get(ctx, "\x00header")
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

// Commits that come while a group is being written share the next one; each succeeds or fails on
// its own.
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

// fill writes records in a few large bbolt transactions.
func fill(tb testing.TB, b *Backend, records, valueBytes int) {
	b.unused, b.db.NoSync = false, true
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

func TestFilesOfOtherProgramsAreRefused(t *testing.T) {
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

// If the last meta page is torn, the file is as it was before that transaction.
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

// A new file survives a crash only if its directory was synced.
func TestTheNameOfANewFileIsSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var synced []string
	var failure error
	m := syncer{syncDir: func(dir string) error {
		synced = append(synced, dir)
		return failure
	}, syncFile: (*os.File).Sync}
	failure = syscall.EIO
	_, err := openWith(ctx, environment{m, inspectLeavesUpTo}, path)
	require.ErrorIs(t, err, syscall.EIO)
	failure = nil
	b, err := openWith(ctx, environment{m, inspectLeavesUpTo}, path)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.Equal(t, []string{filepath.Dir(path), filepath.Dir(path)}, synced, "a file without content counts as new")
}

// If the sync of the page that makes a transaction valid fails, a crash may undo it, or not.
func TestABackendFailsAfterAFailureInTheLastStepOfACommit(t *testing.T) {
	for name, failFrom := range map[string]int{"of a commit": 1, "of the empty transaction of a scrub": 2} {
		t.Run(name, func(t *testing.T) {
			b, path := newBackend(t)
			revision := put(t, b, "a", []byte("old"))
			failMetaWrites(b, failFrom)
			_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("new")}}, Scrub: true})
			require.ErrorIs(t, err, syscall.EIO)
			require.Equal(t, failFrom == 2, errors.Is(err, keystore.ErrNotScrubbed))
			_, err = b.Get(ctx, "a")
			require.ErrorIs(t, err, syscall.EIO)
			_, err = b.Commit(ctx, keystore.Tx{})
			require.ErrorIs(t, err, syscall.EIO)
			require.NoError(t, b.Close())
			record, err := reopen(t, path).Get(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, revision+1, record.Revision)
		})
	}
}

// writeAtOf returns the function with which bbolt writes; it has no option to replace it.
func writeAtOf(b *Backend) *func([]byte, int64) (int, error) {
	field := reflect.ValueOf(b.db).Elem().FieldByName("ops").FieldByName("writeAt")
	return (*func([]byte, int64) (int, error))(field.Addr().UnsafePointer())
}

// failMetaWrites lets the nth write of a meta from now, and all after it, reach the file and fail.
func failMetaWrites(b *Backend, n int) {
	writeAt := writeAtOf(b)
	whole := *writeAt
	*writeAt = func(p []byte, at int64) (int, error) {
		done, err := whole(p, at)
		if at < 2*int64(os.Getpagesize()) {
			if n--; n < 1 {
				err = syscall.EIO
			}
		}
		return done, err
	}
}

// The resource limit on the size of files stands for a full disk. It holds for a whole process, so
// a child process runs the test.
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
	// There is no space for a snapshot either, which changes nothing.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit / 2, Max: limit}); err != nil {
		return err
	}
	if _, err := snapshot(ctx, b); !errors.Is(err, keystore.ErrFull) {
		return fmt.Errorf("snapshot: want ErrFull, got %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	if records, err := snapshot(ctx, b); err != nil || len(records) != n {
		return fmt.Errorf("snapshot: %d records, %w", len(records), err)
	}
	// After a deletion there is space again.
	if _, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"0000", "0001", "0002"}, Scrub: true}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if _, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "after", Value: make([]byte, 5000)}}}); err != nil {
		return fmt.Errorf("put after delete: %w", err)
	}
	return b.Close()
}
