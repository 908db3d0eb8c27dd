// Package bolt implements keystore.Backend in one file, for one process at a time, on
// go.etcd.io/bbolt.
//
// # Scrub
//
// bbolt does not overwrite a page that a reader, or recovery after a crash, might still need, so
// old values stay in free pages until those are used again. After a transaction with Scrub that
// replaced or deleted something, all free pages are overwritten with zeros, and so is what an
// interrupted commit left behind the part of the file that is in use. The scrub waits for reads
// that began before the transaction; later ones go on meanwhile. If the process ends before the
// scrub does, or if the scrub fails, the next Open finishes it, and so does the next transaction
// with Scrub.
//
// A scrub takes time in proportion to the pages that were freed since the one before. The first
// after Open looks at all free pages; waiting transactions are committed in between.
//
// What is below the file is out of reach: copy-on-write file systems, snapshots, journals of data,
// the spare blocks of an SSD. There, old values are protected by their seal.
//
// The layout of the file is in docs/store.md.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/internal/feed"
)

const (
	bucketFamily = "pocketkms-records-"
	bucketName   = bucketFamily + "1"
	markerName   = "pocketkms-unscrubbed"

	revisionBytes = 8
	lockTimeout   = 500 * time.Millisecond
	lockRetry     = lockTimeout / 20
)

// A Backend keeps records in a bbolt file. Transactions that come while another is being written
// share the next write.
type Backend struct {
	db       *bbolt.DB
	file     *os.File    // the same that bbolt uses
	blocks   blocks      // the file, to scrub it
	path     string      // absolute
	info     os.FileInfo // of the file
	pageSize int64
	syncer   syncer
	changes  *feed.Feed
	queue    queue

	mu     sync.RWMutex // held for reading by readers
	closed bool
	broken atomic.Pointer[error] // what all calls fail with until the file is opened again

	// Only for the leader of the queue, and Close.
	unused       bool    // Open has created the file, and nothing was committed
	zeroed       pageSet // free pages that are known to be zero
	tailScrubbed bool    // the pages after those in use are zero
	markerStale  bool    // the file has the marker, but the scrub that it asks for is done
	rewriteAll   bool    // zeros that are read may not be on the disk: the last scrub failed or was interrupted
}

var (
	_ keystore.Backend     = (*Backend)(nil)
	_ keystore.Pinger      = (*Backend)(nil)
	_ keystore.Snapshotter = (*Backend)(nil)
)

type blocks interface {
	io.ReaderAt
	io.WriterAt
}

// A syncer makes durable what bbolt does not. Tests replace it.
type syncer struct {
	syncDir  func(path string) error
	syncFile func(*os.File) error
}

// Open opens the file, or creates it with mode 0600. The errors are ErrLocked if another process,
// or this one, has the file open for half a second more; ErrCorrupt if it is damaged or not a file
// of this package; ErrNewerVersion. A file that Open refuses is not changed.
//
// Open checks the structure of the file: all branches of its tree, and that each page is in use, or
// free, exactly once. In a file of up to 1024 pages it checks the leaves, too; those of a larger
// one are checked before they are read or changed, which then fails with ErrCorrupt.
//
// If a scrub was interrupted, Open finishes it, and fails if that fails, unless the disk is full.
func Open(path string) (*Backend, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), lockTimeout, keystore.ErrLocked)
	defer cancel()
	return openWith(ctx, defaults(), path)
}

// OpenContext is like Open, but waits until ctx is done for a file that is open elsewhere. Then the
// error is both ErrLocked and that of the context.
func OpenContext(ctx context.Context, path string) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return openWith(ctx, defaults(), path)
}

// An environment is what tests replace.
type environment struct {
	syncer
	inspectLeavesUpTo uint64
}

func defaults() environment {
	return environment{syncer{securefile.SyncDir, (*os.File).Sync}, inspectLeavesUpTo}
}

func openWith(ctx context.Context, env environment, path string) (*Backend, error) {
	for {
		b, err := tryOpen(ctx, env, path)
		if !errors.Is(err, keystore.ErrLocked) || ctx.Err() != nil {
			return b, err
		}
	}
}

func tryOpen(ctx context.Context, env environment, path string) (_ *Backend, err error) {
	f, created, err := openLocked(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b := &Backend{file: f, blocks: f, syncer: env.syncer, unused: created}
	defer func() {
		if err != nil {
			_ = unlockAndClose(f) // perhaps for the second time
		}
	}()
	if b.path, err = filepath.Abs(path); err == nil {
		b.info, err = f.Stat()
	}
	if err == nil {
		err = b.open(env, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// openOrCreate opens the file, or creates it.
func openOrCreate(path string) (f *os.File, created bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err == nil, err
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // a symbolic link, or another process was faster
	return f, false, err
}

// prepare checks a file and, if it is new, makes its name durable.
func (b *Backend) prepare(env environment) (root, error) {
	if !b.info.Mode().IsRegular() {
		return root{}, fmt.Errorf("%w: not a regular file", fs.ErrInvalid)
	}
	if size := b.info.Size(); size > 0 {
		r, uninitialized, err := inspect(b.file, size, env.inspectLeavesUpTo)
		if err != nil || !uninitialized {
			return r, err
		}
		if err := b.file.Truncate(0); err != nil {
			return root{}, err
		}
	}
	return root{}, env.syncDir(filepath.Dir(b.file.Name()))
}

func (b *Backend) open(env environment, path string) (err error) {
	r, err := b.prepare(env)
	if err != nil {
		b.removeUnused()
		return err
	}
	defer recoverFault(&err)()
	b.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return b.file, nil },
	})
	if err != nil {
		return classify(err)
	}
	defer func() {
		if err != nil && b.broken.Load() == nil { // otherwise bbolt may hold its locks forever
			b.removeUnused()
			_ = b.db.Close()
		}
	}()
	b.pageSize = int64(b.db.Info().PageSize)
	if !r.exists {
		err = b.db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte(bucketName))
			return err
		})
		if err != nil {
			return classify(err)
		}
	}
	if r.unscrub {
		b.rewriteAll = true
		if err := b.scrubAll(); err != nil && !errors.Is(err, keystore.ErrFull) {
			return fmt.Errorf("bolt: to finish an interrupted scrub: %w", err)
		}
	}
	b.changes = feed.New(keystore.Revision(r.sequence))
	return nil
}

// Get implements keystore.Backend.
func (b *Backend) Get(ctx context.Context, key string) (record keystore.Record, err error) {
	if err := keystore.ValidateKey(key); err != nil {
		return keystore.Record{}, err
	}
	err = b.view(ctx, func(c *cursor) error {
		if err := c.seek([]byte(key)); err != nil {
			return err
		}
		i, found := c.find([]byte(key))
		if !found {
			return keystore.ErrNotFound
		}
		e, _, _ := c.leaf().element(i)
		record = decode(key, e.value)
		return nil
	})
	return record, err
}

// Scan implements keystore.Backend.
func (b *Backend) Scan(ctx context.Context, prefix, after string, limit int) (records []keystore.Record, err error) {
	if err := keystore.ValidateScan(prefix, after, limit); err != nil {
		return nil, err
	}
	err = b.view(ctx, func(c *cursor) error {
		start := []byte(max(prefix, after))
		if err := c.seek(start); err != nil {
			return err
		}
		for i, _ := c.find(start); ; i = 0 {
			for p := c.leaf(); i < p.count(); i++ {
				e, _, _ := p.element(i)
				if len(records) == limit || !bytes.HasPrefix(e.key, []byte(prefix)) {
					return nil
				}
				if string(e.key) != after {
					records = append(records, decode(string(e.key), e.value))
				}
			}
			if more, err := c.next(); !more {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// decode copies a record out of a page. One whose length is impossible gets no value, to which no
// seal fits.
func decode(key string, value []byte) keystore.Record {
	if len(value) < revisionBytes || len(value) > revisionBytes+keystore.MaxValueBytes {
		return keystore.Record{Key: key}
	}
	return keystore.Record{
		Key:      key,
		Value:    append([]byte{}, value[revisionBytes:]...),
		Revision: keystore.Revision(binary.BigEndian.Uint64(value)),
	}
}

// Watch implements keystore.Backend. It has at least the last 4096 changes since Open.
func (b *Backend) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return b.changes.Watch(ctx, after)
}

// Ping implements keystore.Pinger. It returns ErrReplaced if the file was removed or replaced, and
// from then on all other calls do, too. Commit checks this itself.
func (b *Backend) Ping(ctx context.Context) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(ctx); err != nil {
		return err
	}
	return b.checkPath()
}

// checkPath returns ErrReplaced, and makes all other calls return it, if the path does not lead to
// the file any more. If that cannot be seen, it returns nil: the process may have given up the
// permission.
func (b *Backend) checkPath() error {
	info, err := os.Stat(b.path)
	if err == nil && os.SameFile(info, b.info) || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	err = fmt.Errorf("%s: %w", b.path, keystore.ErrReplaced)
	b.poison(err)
	return err
}

// Close implements keystore.Backend. It unlocks the file, and removes one that Open has created if
// nothing was committed to it.
func (b *Backend) Close() error {
	if !b.queue.close() {
		return keystore.ErrClosed
	}
	b.changes.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.removeUnused()
	broken := b.broken.Load()
	if broken != nil && !errors.Is(*broken, keystore.ErrReplaced) {
		return unlockAndClose(b.file) // bbolt may hold its locks forever
	}
	var err error
	if b.markerStale && broken == nil { // otherwise the next Open would scrub again
		if err = b.guardedUpdate(func(tx *bbolt.Tx) error { return b.mark(tx, false) }); err != nil {
			err = classify(err)
		}
		if b.broken.Load() != nil {
			return errors.Join(err, unlockAndClose(b.file))
		}
	}
	return errors.Join(err, b.db.Close())
}

// removeUnused removes a file that Open has created if nothing was committed to it. It has to be
// locked: another process that waits for the lock sees that the file is gone.
func (b *Backend) removeUnused() {
	if b.unused && b.broken.Load() == nil && b.checkPath() == nil {
		_ = os.Remove(b.path)
	}
}

// cursors keeps cursors for their buffers.
var cursors = sync.Pool{New: func() any { return new(cursor) }}

// release returns the cursor to the pool.
func (c *cursor) release() {
	c.tree = tree{} // which would keep the file
	cursors.Put(c)
}

// view calls read with a cursor of the current tree, which does not change meanwhile.
func (b *Backend) view(ctx context.Context, read func(*cursor) error) (err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(ctx); err != nil {
		return err
	}
	defer b.poisonOnFault(&err)
	defer recoverFault(&err)()
	return b.db.View(func(tx *bbolt.Tx) error {
		c := cursors.Get().(*cursor)
		defer c.release()
		if err := b.openCursor(c, tx); err != nil {
			return err
		}
		return read(c)
	})
}

// usable returns the error of a call that cannot begin. b.mu is held.
func (b *Backend) usable(ctx context.Context) error {
	if b.closed {
		return keystore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if broken := b.broken.Load(); broken != nil {
		return *broken
	}
	return nil
}

// openCursor makes c a cursor of the tree as it was when the transaction began.
func (b *Backend) openCursor(c *cursor, tx *bbolt.Tx) error {
	return c.open(file{b.file, b.pageSize, uint64(tx.Size() / b.pageSize)}, uint64(tx.Cursor().Bucket().Root()))
}

// poisonOnFault makes all further calls fail after a memory fault, because bbolt may hold its
// locks.
func (b *Backend) poisonOnFault(err *error) {
	var fault interface{ Addr() uintptr }
	if errors.As(*err, &fault) {
		b.poison(*err)
	}
}

// poison makes all further calls fail.
func (b *Backend) poison(err error) {
	b.broken.CompareAndSwap(nil, &err)
}

// recoverFault turns a panic of bbolt, or a fault in mapped memory, into ErrCorrupt:
//
//	defer recoverFault(&err)()
func recoverFault(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		switch p := recover().(type) {
		case nil:
		case error:
			*err = fmt.Errorf("%w: %w", keystore.ErrCorrupt, p)
		default:
			*err = fmt.Errorf("%w: %v", keystore.ErrCorrupt, p)
		}
	}
}

// classify wraps errors of bbolt and of the system in those of package keystore.
func classify(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		// bbolt returns the error of a failed growth as text.
		if errors.Is(err, full) || strings.Contains(err.Error(), ": "+full.Error()) {
			return fmt.Errorf("%w: %w", keystore.ErrFull, err)
		}
	}
	for _, corrupt := range []error{bbolterrors.ErrInvalid, bbolterrors.ErrVersionMismatch, bbolterrors.ErrChecksum} {
		if errors.Is(err, corrupt) {
			return fmt.Errorf("%w: %w", keystore.ErrCorrupt, err)
		}
	}
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return keystore.ErrLocked
	}
	return err
}
