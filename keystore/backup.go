package keystore

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// The format of a backup; docs/store.md specifies it.
const (
	backupMagic   = "PKKB"
	backupVersion = 1

	backupRecord = 1 // a record follows
	backupEnd    = 0 // the number of records and the checksum follow
)

// Backup writes all records of a backend to w, for [Restore]. They stay sealed: it takes no root
// key, and a backup reveals what a stolen store does. Only a backup that Backup has returned nil
// for is complete, and Restore notices one that is not. If from has no records, the error is
// ErrNoStore.
//
// If from is a [Snapshotter], as that of keystore/bolt is, it may be in use: the backup has the
// records of one moment, and changes do not wait for w. Otherwise nobody may change it meanwhile:
// the error is ErrConflict if somebody did.
func Backup(ctx context.Context, w io.Writer, from Backend) error {
	b := &backupWriter{w: bufio.NewWriterSize(w, 1<<16), sum: sha256.New()}
	b.write(append([]byte(backupMagic), backupVersion))
	n := uint64(0)
	for record, err := range snapshot(ctx, from) {
		if err != nil {
			return err
		}
		if n == 0 && record.Key != headerKey {
			return fmt.Errorf("%w: records without a header", ErrCorrupt)
		}
		frame := []byte{backupRecord}
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(record.Key)))
		frame = binary.BigEndian.AppendUint32(frame, uint32(len(record.Value)))
		b.write(append(frame, record.Key...))
		b.write(record.Value)
		if b.err != nil {
			return b.err
		}
		n++
	}
	if n == 0 {
		return ErrNoStore
	}
	b.write(binary.BigEndian.AppendUint64([]byte{backupEnd}, n))
	b.write(b.sum.Sum(nil))
	return cmp.Or(b.err, b.w.Flush()) // which repeats an error of the writer
}

// A backupWriter writes and hashes. It keeps its first error.
type backupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	err error
}

func (b *backupWriter) write(p []byte) {
	if b.err == nil {
		b.sum.Write(p)
		_, b.err = b.w.Write(p)
	}
}

// Restore writes the records of a backup into an empty backend. If to has records, the error is
// ErrNotEmpty; if the backup is cut off, continues after its end or was changed, ErrBackup. It
// writes the header last, and only if all of the backup is in order: [Open] refuses what an
// interrupted or failed Restore has left.
//
// The checksum protects against accidents. Whoever can write the backup can also remove records from
// it, or replace it by an older one: check the store afterwards, as kms.CheckStore does. No other
// change to a record passes its seal.
//
// If progress is not nil, Restore calls it with the number of records so far, without the header.
func Restore(ctx context.Context, to Backend, r io.Reader, progress func(records int)) error {
	l, err := newLoader(ctx, to)
	if err != nil {
		return err
	}
	n := 0
	err = readBackup(r, func(record Record) error {
		if progress != nil && n > 0 {
			progress(n)
		}
		n++
		return l.add(ctx, record)
	})
	if err != nil {
		return err
	}
	return l.finish(ctx)
}

// VerifyBackup reads a backup to its end and returns the number of its records, without the header.
// If it is cut off, continues after its end or was changed, the error is ErrBackup. It takes no root
// key: what only that can show, Restore and a check of the store do.
func VerifyBackup(ctx context.Context, r io.Reader) (records int, err error) {
	records = -1 // the header
	err = readBackup(r, func(Record) error {
		records++
		return ctx.Err()
	})
	return max(records, 0), err
}

// readBackup calls add with each record of a backup, in order, and then returns nil if the backup is
// complete.
func readBackup(r io.Reader, add func(Record) error) error {
	b := &backupReader{r: bufio.NewReaderSize(r, 1<<16), sum: sha256.New()}
	start, err := b.read(len(backupMagic) + 1)
	if err != nil {
		return err
	}
	switch version := start[len(backupMagic)]; {
	case string(start[:len(backupMagic)]) != backupMagic:
		return fmt.Errorf("%w: it does not begin as a backup does", ErrBackup)
	case version > backupVersion:
		return fmt.Errorf("%w: the backup has version %d; this program supports %d", ErrNewerVersion, version, backupVersion)
	case version != backupVersion:
		return fmt.Errorf("%w: version %d", ErrBackup, version)
	}
	last := ""
	for n := uint64(0); ; n++ {
		record, more, err := b.next(n)
		switch {
		case err != nil:
			return err
		case !more && n == 0:
			return fmt.Errorf("%w: it has no records", ErrBackup)
		case !more:
			return nil
		case n == 0 && record.Key != headerKey:
			return fmt.Errorf("%w: its first record is not a header", ErrBackup)
		case record.Key <= last:
			return fmt.Errorf("%w: its records are not in order", ErrBackup)
		}
		last = record.Key
		if err := add(record); err != nil {
			return err
		}
	}
}

type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// next returns the next record, or more false after the last of n records.
func (b *backupReader) next(n uint64) (r Record, more bool, err error) {
	kind, err := b.read(1)
	if err != nil {
		return Record{}, false, err
	}
	switch kind[0] {
	case backupEnd:
		return Record{}, false, b.end(n)
	case backupRecord:
	default:
		return Record{}, false, fmt.Errorf("%w: a part of kind %d", ErrBackup, kind[0])
	}
	sizes, err := b.read(6)
	if err != nil {
		return Record{}, false, err
	}
	keyBytes, valueBytes := int(binary.BigEndian.Uint16(sizes)), binary.BigEndian.Uint32(sizes[2:])
	if keyBytes < 1 || keyBytes > MaxKeyBytes || valueBytes > MaxValueBytes {
		return Record{}, false, fmt.Errorf("%w: a record of an impossible size", ErrBackup)
	}
	key, err := b.read(keyBytes)
	if err != nil {
		return Record{}, false, err
	}
	value, err := b.read(int(valueBytes))
	return Record{Key: string(key), Value: value}, true, err
}

// end checks the number of records and the checksum, and that nothing follows.
func (b *backupReader) end(n uint64) error {
	count, err := b.read(8)
	if err != nil {
		return err
	}
	want := b.sum.Sum(nil)
	sum, err := b.read(len(want))
	switch {
	case err != nil:
		return err
	case binary.BigEndian.Uint64(count) != n || subtle.ConstantTimeCompare(sum, want) != 1:
		return fmt.Errorf("%w: its checksum is wrong", ErrBackup)
	}
	switch _, err := b.r.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: it continues after its end", ErrBackup)
	default:
		return err
	}
}

// read returns the next n bytes.
func (b *backupReader) read(n int) ([]byte, error) {
	p := make([]byte, n)
	_, err := io.ReadFull(b.r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%w: it is cut off", ErrBackup)
	}
	b.sum.Write(p)
	return p, err
}
