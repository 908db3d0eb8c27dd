package keystore

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Copy copies all records of a backend into an empty one, so that a store moves to another backend.
// They stay sealed: it takes no root key, and the copy opens with that of the original. Their
// revisions are those of the commits that write them. If to has records, the error is ErrNotEmpty;
// if from has none, ErrNoStore.
//
// If from is a [Snapshotter], the copy has the records of one moment, and from may be in use.
// Otherwise nobody may change it meanwhile: the error is ErrConflict if somebody did. Nobody else
// may use to.
//
// The header is written last. So [Open] refuses a copy that was interrupted, with ErrCorrupt, and a
// second Copy refuses it, too: remove what is there first.
func Copy(ctx context.Context, to, from Backend) error {
	l, err := newLoader(ctx, to)
	if err != nil {
		return err
	}
	for record, err := range snapshot(ctx, from) {
		if err != nil {
			return err
		}
		if err := l.add(ctx, record); err != nil {
			return err
		}
	}
	return l.finish(ctx)
}

// snapshot yields all records of a backend in ascending order, or ends with ErrConflict if they
// were changed meanwhile.
func snapshot(ctx context.Context, from Backend) iter.Seq2[Record, error] {
	if s, ok := from.(Snapshotter); ok {
		return s.Snapshot(ctx)
	}
	return func(yield func(Record, error) bool) {
		before, err := from.Commit(ctx, Tx{})
		for after := ""; err == nil; {
			var records []Record
			if records, err = from.Scan(ctx, "", after, MaxTxOps); err != nil || len(records) == 0 {
				break
			}
			for _, record := range records {
				after = record.Key
				if !yield(record, nil) {
					return
				}
			}
		}
		if err == nil {
			var now Revision
			if now, err = from.Commit(ctx, Tx{}); err == nil && now != before {
				err = fmt.Errorf("%w: the store was changed while it was read", ErrConflict)
			}
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// A loader writes sealed records into an empty backend, the header last.
type loader struct {
	to     Backend
	header []byte
	puts   []Put
	size   int
	last   string // the greatest key so far
}

func newLoader(ctx context.Context, to Backend) (*loader, error) {
	records, err := to.Scan(ctx, "", "", 1)
	if err == nil && len(records) > 0 {
		err = ErrNotEmpty
	}
	return &loader{to: to}, err
}

func (l *loader) add(ctx context.Context, r Record) error {
	if r.Key <= l.last { // also the empty key
		return fmt.Errorf("%w: record %q comes after %q", ErrCorrupt, r.Key, l.last)
	}
	l.last = r.Key
	if r.Key == headerKey {
		l.header = r.Value
		return nil
	}
	size := len(r.Key) + len(r.Value)
	if len(l.puts) == MaxTxOps || l.size+size > MaxTxBytes {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	l.puts, l.size = append(l.puts, Put{r.Key, r.Value}), l.size+size
	return nil
}

func (l *loader) flush(ctx context.Context) error {
	tx := Tx{Puts: l.puts}
	l.puts, l.size = nil, 0
	if len(tx.Puts) == 0 {
		return nil
	}
	_, err := l.to.Commit(ctx, tx)
	return err
}

// finish writes what is left, and then the header.
func (l *loader) finish(ctx context.Context) error {
	switch {
	case l.last == "":
		return ErrNoStore
	case l.header == nil:
		return fmt.Errorf("%w: records without a header", ErrCorrupt)
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	_, err := l.to.Commit(ctx, Tx{Expect: []Expectation{{Key: headerKey}}, Puts: []Put{{headerKey, l.header}}})
	if errors.Is(err, ErrConflict) {
		err = ErrNotEmpty
	}
	return err
}
