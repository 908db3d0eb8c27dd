package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms/keystore"
)

func TestScrubLeavesNoTrace(t *testing.T) {
	b, path := newBackend(t)
	secret := func(i int) []byte { return fmt.Appendf(nil, "<secret %04d>", i) }
	// Neighbours make bbolt copy the page with the secret again and again; some values overflow
	// their page.
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

// makeRoom makes the file so large that bbolt need not map more of it later: for that it would wait
// for readers, too.
func makeRoom(tb testing.TB, b *Backend) {
	put(tb, b, "room", make([]byte, 500_000))
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"room"}})
	require.NoError(tb, err)
}

func TestScrubWaitsForReaders(t *testing.T) {
	b, _ := newBackend(t)
	makeRoom(t, b)
	old := bytes.Repeat([]byte("old"), 4000)
	put(t, b, "a", old)
	scrubbed := make(chan error, 1)
	require.NoError(t, b.view(ctx, func(c *cursor) error {
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
		require.NoError(t, c.seek([]byte("a")))
		i, found := c.find([]byte("a"))
		require.True(t, found)
		e, _, _ := c.leaf().element(i)
		require.True(t, bytes.Equal(old, e.value[revisionBytes:]), "the page was scrubbed under its reader")
		return nil
	}))
	require.NoError(t, <-scrubbed)
}

// Readers that begin after the transaction need not wait, because no free page is in their tree.
func TestReadersGoOnDuringAScrub(t *testing.T) {
	b, _ := newBackend(t)
	const records = 200
	value := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "<%d>", i), 1000) }
	for i := range records {
		put(t, b, fmt.Sprintf("kept/%03d", i), value(i))
	}
	free := 0
	b.syncer.syncFile = func(file *os.File) error { // the zeros are written, the scrub is not done
		if b.mu.TryRLock() {
			b.mu.RUnlock()
			free++
		}
		return file.Sync()
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	errs := make([]error, 2)
	for w := range errs {
		group.Go(func() {
			for {
				got, err := b.Scan(ctx, "kept/", "", 2*records)
				if err != nil || len(got) != records {
					errs[w] = fmt.Errorf("%d records: %w", len(got), err)
					return
				}
				for i, record := range got {
					if !bytes.Equal(record.Value, value(i)) {
						errs[w] = fmt.Errorf("%s was overwritten", record.Key)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	const scrubs = 20
	for i := range scrubs {
		put(t, b, "victim", bytes.Repeat([]byte("secret"), 100*i))
		_, err := b.Commit(ctx, keystore.Tx{
			Deletes: []string{"victim"}, Puts: []keystore.Put{{Key: fmt.Sprintf("kept/%03d", i), Value: value(i)}}, Scrub: true,
		})
		require.NoError(t, err)
	}
	close(done)
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, scrubs, free, "readers had to wait")
}

// Of transactions that share a write, those without Scrub are done when it is.
func TestOnlyCommitsWithScrubWaitForTheScrub(t *testing.T) {
	b, _ := newBackend(t)
	put(t, b, "a", []byte("old"))
	group := map[string]chan error{}
	b.syncer.syncFile = func(file *os.File) error {
		return errors.Join(<-group["beside"], file.Sync())
	}
	for _, key := range []string{"first", "beside", "scrub"} {
		group[key] = make(chan error, 1)
	}
	require.NoError(t, b.db.Update(func(*bbolt.Tx) error { // holds up the first leader, so that the others share a write
		for i, key := range []string{"first", "scrub", "beside"} {
			go func() {
				tx := keystore.Tx{Puts: []keystore.Put{{Key: key}}}
				if key == "scrub" {
					tx = keystore.Tx{Deletes: []string{"a"}, Scrub: true}
				}
				_, err := b.Commit(ctx, tx)
				group[key] <- err
			}()
			waitFor(func() bool {
				b.queue.mu.Lock()
				defer b.queue.mu.Unlock()
				return b.queue.led && len(b.queue.waiting) == i
			})
		}
		return nil
	}))
	require.NoError(t, <-group["first"])
	require.NoError(t, <-group["scrub"])
}

const killEnv = "POCKETKMS_TEST_KILL"

// dieBeforeTheScrub is killed when a transaction with Scrub is committed and its scrub has not
// overwritten anything. If there is a new key file beside the store, the transaction changes the
// root key, or else it deletes a record.
func dieBeforeTheScrub(path string) error {
	b, err := Open(path)
	if err != nil {
		return err
	}
	change := func() error {
		_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"victim"}, Scrub: true})
		return err
	}
	if _, err := os.Stat(path + ".newkey"); err == nil {
		store, err := keystore.Open(ctx, b, keystore.KeyFile(path+".key"))
		if err != nil {
			return err
		}
		change = func() error { return store.ChangeRootKey(ctx, keystore.KeyFile(path+".newkey")) }
	}
	changed := make(chan error, 1)
	return b.view(ctx, func(*cursor) error { // a reader holds the scrub up
		go func() { changed <- change() }()
		waitFor(func() bool {
			if len(changed) > 0 {
				return true
			}
			free := b.mu.TryRLock()
			if free {
				b.mu.RUnlock()
			}
			return !free
		})
		select {
		case err := <-changed:
			return fmt.Errorf("it was not held up: %w", err)
		default:
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	})
}

func TestAKillBeforeTheScrub(t *testing.T) {
	for name, rootKeyChanges := range map[string]bool{"of a deleted record": false, "of the header under the old root key": true} {
		t.Run(name, func(t *testing.T) {
			b, path := newBackend(t)
			makeRoom(t, b)
			root := path + ".key"
			require.NoError(t, keystore.CreateKeyFile(root))
			_, err := keystore.Open(ctx, b, keystore.KeyFile(root))
			require.NoError(t, err)
			secret := []byte("<secret>")
			put(t, b, "victim", secret)
			if rootKeyChanges {
				header, err := b.Get(ctx, "\x00header")
				require.NoError(t, err)
				secret = header.Value
				root = path + ".newkey"
				require.NoError(t, keystore.CreateKeyFile(root))
			}
			require.NoError(t, b.Close())

			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), killEnv+"="+path)
			output, err := child.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", output)
			require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", output)
			require.NotZero(t, count(t, path, secret), "nothing was left to scrub")

			b = reopen(t, path)
			require.Zero(t, count(t, path, secret))
			require.True(t, marked(t, b), "no sync is spent on it")
			records, err := b.Scan(ctx, "", "", 10)
			require.NoError(t, err)
			for _, record := range records {
				require.Contains(t, []string{"\x00header", "victim"}, record.Key, "the marker is no record")
			}
			store, err := keystore.Open(ctx, b, keystore.KeyFile(root))
			require.NoError(t, err)
			_, err = store.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "next"}}})
			require.NoError(t, err)
			require.False(t, marked(t, b))
		})
	}
}

func count(tb testing.TB, path string, secret []byte) int {
	data, err := os.ReadFile(path)
	require.NoError(tb, err)
	return bytes.Count(data, secret)
}

func marked(tb testing.TB, b *Backend) (is bool) {
	require.NoError(tb, b.db.View(func(tx *bbolt.Tx) error {
		is = tx.Bucket([]byte(markerName)) != nil
		return nil
	}))
	return is
}

// The marker is there from the transaction that asks for a scrub to the first one after the scrub;
// a scrub that failed is done by the next Open, or by the next transaction with Scrub.
func TestTheMarkerStaysUntilAScrubSucceeds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	syncs := 0
	var failure error
	m := syncer{syncDir: func(string) error { return nil }, syncFile: func(file *os.File) error {
		syncs++
		return errors.Join(failure, file.Sync())
	}}
	open := func() *Backend {
		b, err := openWith(ctx, environment{m, inspectLeavesUpTo}, path)
		require.NoError(t, err)
		return b
	}
	b := open()
	replace := func() error {
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("new")}}, Scrub: true})
		return err
	}
	require.NoError(t, replace())
	require.Zero(t, syncs)
	require.False(t, marked(t, b), "it replaced nothing")

	require.NoError(t, replace())
	require.Equal(t, 1, syncs, "the zeros are synced")
	require.True(t, marked(t, b))
	require.NoError(t, replace())
	require.True(t, marked(t, b))
	put(t, b, "b", nil)
	require.False(t, marked(t, b))

	failure = syscall.EIO
	require.ErrorIs(t, replace(), keystore.ErrNotScrubbed)
	put(t, b, "b", nil)
	require.True(t, marked(t, b), "it is still to be done")
	require.NoError(t, b.Close())
	_, err := openWith(ctx, environment{m, inspectLeavesUpTo}, path)
	require.ErrorIs(t, err, syscall.EIO, "Open cannot do it")
	failure = syscall.ENOSPC
	b = open() // a full disk must not make the keys unusable
	put(t, b, "b", nil)
	require.True(t, marked(t, b))
	require.NoError(t, b.Close())

	failure, syncs = nil, 0
	b = open()
	require.Equal(t, 1, syncs)
	require.NoError(t, b.Close())
	b = open()
	require.Equal(t, 1, syncs, "there was nothing left to scrub")
	require.False(t, marked(t, b))
	require.NoError(t, b.Close())
	checkFile(t, path)
}

// After a failed sync, the system may return zeros that it never wrote: they are written again.
func TestAScrubAfterAFailedOneWritesAllZerosAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var failure error
	m := syncer{syncDir: func(string) error { return nil }, syncFile: func(file *os.File) error { return failure }}
	b, err := openWith(ctx, environment{m, inspectLeavesUpTo}, path)
	require.NoError(t, err)
	replace := func() error {
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("value")}}, Scrub: true})
		return err
	}
	for range 3 {
		require.NoError(t, replace())
	}
	pageSize := int64(os.Getpagesize())
	written := func() bool { // overwrites a page that is zero
		end := 1000 * pageSize
		require.NoError(t, b.file.Truncate(end+pageSize))
		long := time.Unix(1e9, 0)
		require.NoError(t, os.Chtimes(path, long, long))
		require.NoError(t, b.zero(end, end+pageSize))
		info, err := b.file.Stat()
		require.NoError(t, err)
		return !info.ModTime().Equal(long)
	}
	require.False(t, written())
	failure = syscall.EIO
	require.ErrorIs(t, replace(), keystore.ErrNotScrubbed)
	require.True(t, written())
	failure = nil
	require.NoError(t, replace())
	require.False(t, written())
	require.NoError(t, b.Close())
}

// A memory fault in a write leaves bbolt's locks held. Close does not wait for them, even if it
// would have to delete a marker.
func TestABrokenBackendClosesAfterAScrub(t *testing.T) {
	b, path := newBackend(t)
	put(t, b, "a", make([]byte, 100_000))
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"a"}, Scrub: true})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 0))
	_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "b"}}})
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	require.NoError(t, b.Close())
}

// countingBlocks counts what a scrub reads and writes, and calls before with the number of bytes
// that it has read before each read.
type countingBlocks struct {
	blocks
	read, written int
	before        func(read int)
}

func (c *countingBlocks) ReadAt(p []byte, at int64) (int, error) {
	if c.before != nil {
		c.before(c.read)
	}
	c.read += len(p)
	return c.blocks.ReadAt(p, at)
}

func (c *countingBlocks) WriteAt(p []byte, at int64) (int, error) {
	c.written += len(p)
	return c.blocks.WriteAt(p, at)
}

// withFreePages returns a Backend with many free pages that are not zero.
func withFreePages(tb testing.TB, pages int) (*Backend, *countingBlocks) {
	b, path := newBackend(tb)
	fill(tb, b, pages/2, os.Getpagesize()/2)
	fillMore := make([]byte, keystore.MaxValueBytes)
	for i := range pages * os.Getpagesize() / 2 / len(fillMore) {
		put(tb, b, fmt.Sprint("room", i), bytes.Repeat([]byte("<old>"), len(fillMore)/5))
	}
	for i := range pages * os.Getpagesize() / 2 / len(fillMore) {
		_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{fmt.Sprint("room", i)}})
		require.NoError(tb, err)
	}
	require.NoError(tb, b.Close())
	b = reopen(tb, path)
	counting := &countingBlocks{blocks: b.blocks}
	b.blocks = counting
	return b, counting
}

// A scrub works in proportion to what was freed since the one before, however many pages are free.
func TestAScrubTouchesOnlyWhatWasFreed(t *testing.T) {
	b, counting := withFreePages(t, 4000)
	scrub := func(i int) {
		_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{fmt.Sprintf("record/%07d", i)}, Scrub: true})
		require.NoError(t, err)
	}
	scrub(1)
	require.Greater(t, counting.read, 1000*os.Getpagesize(), "the first one looks at all free pages")
	secret := []byte("<a secret in a record>")
	for i := range 30 {
		key := fmt.Sprint("secret", i)
		put(t, b, key, bytes.Repeat(secret, 1+i*20))
		put(t, b, "beside "+key, []byte("stays"))
		counting.read, counting.written = 0, 0
		_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{key}, Scrub: true})
		require.NoError(t, err)
		require.LessOrEqual(t, counting.read, 80*os.Getpagesize(), "pages of the last transactions, with their lists of free pages")
		require.Zero(t, count(t, b.file.Name(), secret))
	}
	require.Zero(t, count(t, b.file.Name(), []byte("<old><old>")))

	// What a commit that fails has written to free pages is found, too.
	put(t, b, "victim", nil)
	failMetaWritesOnce(b)
	_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "lost", Value: bytes.Repeat(secret, 10_000)}}})
	require.ErrorIs(t, err, syscall.EIO)
	require.NotZero(t, count(t, b.file.Name(), secret))
	_, err = b.Commit(ctx, keystore.Tx{Deletes: []string{"victim"}, Scrub: true})
	require.NoError(t, err)
	require.Zero(t, count(t, b.file.Name(), secret))
}

// failMetaWritesOnce lets the next write of a meta fail, before it reaches the file.
func failMetaWritesOnce(b *Backend) {
	writeAt := writeAtOf(b)
	whole := *writeAt
	*writeAt = func(p []byte, at int64) (int, error) {
		if at < 2*int64(os.Getpagesize()) {
			*writeAt = whole
			return 0, syscall.EIO
		}
		return whole(p, at)
	}
}

// A scrub of many pages pauses for changes that come meanwhile: without that, this test would not
// end.
func TestChangesGoOnDuringALongScrub(t *testing.T) {
	b, counting := withFreePages(t, 4*scrubPages)
	changed := make(chan error, 1)
	started := false
	counting.before = func(read int) {
		switch {
		case !started:
			started = true
			go func() {
				_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "meanwhile"}}})
				changed <- err
			}()
			waitFor(func() bool {
				b.queue.mu.Lock()
				defer b.queue.mu.Unlock()
				return len(b.queue.waiting) == 1
			})
		case read >= scrubPages*os.Getpagesize() && changed != nil:
			require.NoError(t, <-changed)
			changed = nil
		}
	}
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"record/0000001"}, Scrub: true})
	require.NoError(t, err)
	require.Nil(t, changed, "the scrub had no second part")
	require.Zero(t, count(t, b.file.Name(), []byte("<old><old>")))
}
