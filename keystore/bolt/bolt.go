// Package bolt is a keystore.Backend in one file, for one process at a time, on go.etcd.io/bbolt.
//
// # Layout
//
// The file has one bucket, named pocketkms-records-1; each key holds the revision of its record (8 bytes, big endian) and then
// its value. The bucket's sequence is the revision of the store. An empty bucket, pocketkms-unscrubbed, marks that free pages
// may hold what a transaction with Scrub replaced.
//
// # Scrub
//
// bbolt never writes over a page that a reader or a crash might still need, so old values stay in free pages until these are
// used again. After a transaction with Scrub that replaced or deleted something, all free pages, and what an interrupted
// commit left behind the end of the used part of the file, are overwritten with zeros. Reads that began before the transaction
// are waited for; later ones go on meanwhile. If the process ends before the overwriting does, or if that fails, Open does it
// when the file is opened again, and so does the next transaction with Scrub. Of deleted records keys may remain: they
// can part the branches of the tree. What lies beneath the file is out of reach: a copy-on-write file system, a snapshot, a
// journal of data, the spare blocks of an SSD. There, what protects old values is that they are sealed.
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
)

// A Backend keeps records in a bbolt file. Transactions that come while another is being written share the
// next write.
type Backend struct {
	db       *bbolt.DB
	file     *os.File // the same that bbolt uses
	blocks   blocks   // the file, to scrub it
	pageSize int64
	syncer   syncer
	changes  *feed.Feed
	queue    queue

	mu     sync.RWMutex // held for reading by readers
	closed bool
	broken atomic.Pointer[error] // what all calls fail with until the file is opened again

	// Only for the leader of the queue.
	zeroed       pageSet // free pages that are known to be zero
	tailScrubbed bool    // the pages after those in use are zero
	markerStale  bool    // the file has the marker, but the scrub that it asks for is done
	rewriteAll   bool    // zeros that are read may not be on the disk: the last scrub failed or was interrupted
}

var _ keystore.Backend = (*Backend)(nil)

type blocks interface {
	io.ReaderAt
	io.WriterAt
}

// A syncer makes durable what bbolt does not. Tests replace it.
type syncer struct {
	syncDir  func(path string) error
	syncFile func(*os.File) error
}

// Open opens the file, or creates it with mode 0600. It returns ErrLocked if another process, or this
// one, has it open, after half a second; ErrCorrupt if it is damaged or not a file of this package,
// and then leaves it as it is; ErrNewerVersion.
//
// Open checks the structure of the file: all branches of its tree, and that each page is in use, or
// free, exactly once. In a file of up to 1024 pages it checks the leaves, too; those of a larger one
// are checked before they are read or changed, which then fails with ErrCorrupt.
//
// If a scrub was interrupted, Open finishes it, and fails if that fails, unless the disk is full.
func Open(path string) (*Backend, error) { return openWith(defaults(), path) }

// An environment is what tests replace.
type environment struct {
	syncer
	inspectLeavesUpTo uint64
}

func defaults() environment {
	return environment{syncer{securefile.SyncDir, (*os.File).Sync}, inspectLeavesUpTo}
}

func openWith(env environment, path string) (_ *Backend, err error) {
	file, err := openLocked(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = unlockAndClose(file) // perhaps for the second time
		}
	}()
	b := &Backend{file: file, blocks: file, syncer: env.syncer}
	if err := b.open(env, path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// prepare checks a file and, if it is new, makes its name durable.
func prepare(env environment, file *os.File) (root, error) {
	info, err := file.Stat()
	if err != nil {
		return root{}, err
	}
	if !info.Mode().IsRegular() {
		return root{}, fmt.Errorf("%w: not a regular file", fs.ErrInvalid)
	}
	if info.Size() > 0 {
		r, uninitialized, err := inspect(file, info.Size(), env.inspectLeavesUpTo)
		if err != nil || !uninitialized {
			return r, err
		}
		if err := file.Truncate(0); err != nil {
			return root{}, err
		}
	}
	return root{}, env.syncDir(filepath.Dir(file.Name()))
}

func (b *Backend) open(env environment, path string) (err error) {
	r, err := prepare(env, b.file)
	if err != nil {
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

// decode copies a record out of the file. One that is shorter or longer than a record can be has no value, which no seal fits.
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

// Watch is that of keystore.Backend. At least the last 4096 changes since Open are known.
func (b *Backend) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	return b.changes.Watch(ctx, after)
}

// Close is that of keystore.Backend. It releases the file for other processes.
func (b *Backend) Close() error {
	if !b.queue.close() {
		return keystore.ErrClosed
	}
	b.changes.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	var err error
	if b.markerStale && b.broken.Load() == nil { // or else the next Open would scrub once more
		if err = b.guardedUpdate(func(tx *bbolt.Tx) error { return b.mark(tx, false) }); err != nil {
			err = classify(err)
		}
	}
	if b.broken.Load() != nil {
		return errors.Join(err, unlockAndClose(b.file)) // bbolt may hold its own locks for ever; this at least frees the file
	}
	return errors.Join(err, b.db.Close())
}

// cursors keeps the buffers of cursors for later calls.
var cursors = sync.Pool{New: func() any { return new(cursor) }}

// release returns the cursor to the pool.
func (c *cursor) release() {
	c.tree = tree{} // which would keep the file
	cursors.Put(c)
}

// view calls read with a cursor of the present tree, which bbolt does not change meanwhile.
func (b *Backend) view(ctx context.Context, read func(*cursor) error) (err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return keystore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if broken := b.broken.Load(); broken != nil {
		return *broken
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

// openCursor makes c a cursor of the tree as it was when the transaction began.
func (b *Backend) openCursor(c *cursor, tx *bbolt.Tx) error {
	return c.open(file{b.file, b.pageSize, uint64(tx.Size() / b.pageSize)}, uint64(tx.Cursor().Bucket().Root()))
}

// poisonOnFault keeps all further calls away from bbolt after a memory fault, which may have happened inside its locks.
func (b *Backend) poisonOnFault(err *error) {
	var fault interface{ Addr() uintptr }
	if errors.As(*err, &fault) {
		b.poison(*err)
	}
}

// fail makes all further calls fail.
func (b *Backend) poison(err error) {
	b.broken.CompareAndSwap(nil, &err)
}

// guard turns what bbolt does when it meets damaged pages, a panic or a fault in mapped memory, into ErrCorrupt:
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

// classify gives the errors of bbolt and of the system the names of package keystore.
func classify(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		// bbolt passes on the error of a failed growth as mere text.
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
