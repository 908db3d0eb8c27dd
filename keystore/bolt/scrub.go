package bolt

import (
	"fmt"
	"io"
	"slices"

	"go.etcd.io/bbolt"
)

// scrub overwrites with zeros all that the file holds of the past. Only Open and the leader of the queue call it, for a file that
// has the marker.
//
// That this is safe rests on what bbolt does. A commit T writes new pages, syncs, writes the meta of T over that of T-2, syncs.
// After a crash the file is opened by the meta of T or, if that was torn, of T-1. So after T no page that T freed may be touched
// yet. The empty transaction T+1 below changes the tree in nothing, and then both metas name the tree of T: the pages that are
// free in T+1 are referred to by neither, except the list of free pages of T, which T+1 has freed and which is therefore left
// alone. (bbolt itself is less careful: it writes over what T freed in T+1.)
func (b *Backend) scrub() error {
	if err := b.guardedUpdate(func(*bbolt.Tx) error { return nil }); err != nil {
		return classify(err)
	}
	// A barrier: readers that might still be in the tree of T-1 end before it. Those that come after it are in the tree of T,
	// from which no free page can be reached, and need not wait.
	b.mu.Lock()
	b.mu.Unlock() //lint:ignore SA2001 a barrier
	current, previous, both, err := readMetas(b.file)
	if err != nil {
		return err
	}
	if !both || previous.txid+1 != current.txid || previous.root != current.root {
		return fmt.Errorf("bolt: transaction %d follows %d", current.txid, previous.txid)
	}
	free, _, err := readFreelist(b.file, current)
	if err != nil {
		return err
	}
	_, end, err := readFreelist(b.file, previous)
	if err != nil {
		return err
	}
	free = slices.DeleteFunc(free, func(id uint64) bool { return previous.freelist <= id && id < end })
	buf := make([]byte, 64*current.pageSize)
	for len(free) > 0 {
		n := 1
		for n < len(free) && free[n] == free[0]+uint64(n) {
			n++
		}
		if err := b.zero(buf, current.pageSize, int64(free[0])*current.pageSize, int64(free[0]+uint64(n))*current.pageSize); err != nil {
			return err
		}
		free = free[n:]
	}
	if !b.tailScrubbed { // commits that failed or were cut short may have left pages there
		info, err := b.file.Stat()
		if err != nil {
			return err
		}
		if err := b.zero(buf, current.pageSize, int64(current.pgid)*current.pageSize, info.Size()); err != nil {
			return err
		}
	}
	if err := b.syncer.syncFile(b.file); err != nil {
		b.rewriteAll = true // the system may have given up on what it could not write
		return classify(err)
	}
	b.tailScrubbed, b.markerStale, b.rewriteAll = true, true, false
	return nil
}

// zero overwrites those pages from start to end that are not zero. Reading is cheaper than writing, and most free pages of a
// file that is scrubbed now and then are zero.
func (b *Backend) zero(buf []byte, pageSize, start, end int64) error {
	zeros := make([]byte, pageSize)
	for start < end {
		chunk := buf[:min(int64(len(buf)), end-start)]
		if _, err := b.file.ReadAt(chunk, start); err != nil && err != io.EOF {
			return err
		}
		for len(chunk) > 0 {
			page := chunk[:min(pageSize, int64(len(chunk)))]
			if b.rewriteAll || !allZero(page) {
				if _, err := b.file.WriteAt(zeros[:len(page)], start); err != nil {
					return classify(err)
				}
			}
			chunk = chunk[len(page):]
			start += int64(len(page))
		}
	}
	return nil
}

func allZero(b []byte) bool { return slices.IndexFunc(b, func(c byte) bool { return c != 0 }) < 0 }
