package bolt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms/keystore"
)

// Backup writes a backup of all records to w while the file may be in use: see [keystore.Backup] and
// [Backend.Snapshot].
func (b *Backend) Backup(ctx context.Context, w io.Writer) error {
	return keystore.Backup(ctx, w, b)
}

// Snapshot implements keystore.Snapshotter. It copies the file to a temporary one beside it, and
// reads from that: a transaction that reads as slowly as a backup is written would hold up others.
// While it copies, calls go on, except changes that let the file grow, and scrubs: these, and the
// calls that come after them, wait as long as the disk takes. The temporary file has no name where
// the system allows that, and is gone when the sequence ends. On a full disk the error is ErrFull.
func (b *Backend) Snapshot(ctx context.Context) iter.Seq2[keystore.Record, error] {
	return func(yield func(keystore.Record, error) bool) {
		spool, err := os.CreateTemp(filepath.Dir(b.path), ".kms-snapshot-*")
		if err != nil {
			yield(keystore.Record{}, classify(err))
			return
		}
		_ = os.Remove(spool.Name()) // some systems refuse this while the file is open
		defer func() { _ = errors.Join(spool.Close(), os.Remove(spool.Name())) }()
		c, err := b.spool(ctx, spool)
		if err == nil {
			err = c.yieldAll(ctx, yield)
		}
		if err != nil {
			yield(keystore.Record{}, err)
		}
	}
}

// spool copies the pages of the file, and returns a cursor of the copy.
func (b *Backend) spool(ctx context.Context, to *os.File) (*cursor, error) {
	c := new(cursor)
	err := b.view(ctx, func(source *cursor) error {
		if err := b.checkPath(); err != nil {
			return err
		}
		size := int64(source.pgid) * source.pageSize
		pages := io.NewSectionReader(b.file, 0, size)
		for at := int64(0); at < size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := io.CopyN(to, pages, min(spoolBytes, size-at))
			if err != nil {
				return classify(err)
			}
			at += n
		}
		c.tree = source.tree
		c.inline = bytes.Clone(source.inline) // which is in a buffer that is used again
		c.ReaderAt = to
		return nil
	})
	return c, err
}

// spoolBytes is how much is copied before a context that is done is noticed.
const spoolBytes = 4 << 20

// yieldAll yields all records, unless it returns an error. It returns nil if the consumer has ended
// the sequence.
func (c *cursor) yieldAll(ctx context.Context, yield func(keystore.Record, error) bool) error {
	if err := c.seek(nil); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		for p, i := c.leaf(), 0; i < p.count(); i++ {
			e, _, _ := p.element(i)
			if !yield(decode(string(e.key), e.value), nil) {
				return nil
			}
		}
		if more, err := c.next(); !more {
			return err
		}
	}
}
