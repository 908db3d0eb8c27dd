package bolt

import (
	"fmt"
	"io"
	"math"
	"slices"

	"go.etcd.io/bbolt"
)

// scrubPages is how many pages a scrub looks at before changes that wait get their turn.
const scrubPages = 2048

// scrub overwrites with zeros up to limit pages that the file no longer uses, and reports whether
// more are left. Only Open and the leader of the queue call it, in a file that has the marker.
//
// That this is safe rests on how bbolt commits. Transaction T writes new pages, syncs, writes its
// meta over that of T-2, and syncs. After a crash the file is opened with the meta of T or, if that
// is torn, of T-1, so right after T no page that T freed may be touched. The empty transaction T+1
// below does not change the tree, and after it both metas name the tree of T. Neither refers to the
// pages that are free in T+1, except the list of free pages of T, which T+1 has freed and which
// scrub leaves alone. (bbolt itself is less careful: it overwrites what T freed in T+1.)
func (b *Backend) scrub(limit int) (more bool, err error) {
	if err := b.guardedUpdate(func(*bbolt.Tx) error { return nil }); err != nil {
		return false, classify(err)
	}
	// A barrier: it waits for readers that might still use the tree of T-1. Later ones use the tree
	// of T, which has no free page, and need not wait.
	b.mu.Lock()
	b.mu.Unlock() //lint:ignore SA2001 a barrier
	current, previous, both, err := readMetas(b.file)
	if err != nil {
		return false, err
	}
	if !both || previous.txid+1 != current.txid || previous.root != current.root {
		return false, fmt.Errorf("bolt: transaction %d follows %d", current.txid, previous.txid)
	}
	free, _, err := readFreelist(b.file, current)
	if err != nil {
		return false, err
	}
	_, _, overflow, err := file{b.file, previous.pageSize, previous.pgid}.header(previous.freelist)
	if err != nil {
		return false, err
	}
	end := previous.freelist + overflow + 1
	b.keepZeroed(free) // the empty transaction has taken pages for its list of free pages
	if err := b.zeroFree(free, previous.freelist, end, limit); err != nil {
		b.zeroed = nil
		return false, err
	}
	if more = len(free)-b.zeroed.len() > int(end-previous.freelist); more {
		return true, b.syncZeros()
	}
	if !b.tailScrubbed { // commits that failed or were interrupted may have left pages there
		info, err := b.file.Stat()
		if err != nil {
			return false, err
		}
		if err := b.zero(int64(current.pgid)*b.pageSize, info.Size()); err != nil {
			return false, err
		}
	}
	if err := b.syncZeros(); err != nil {
		return false, err
	}
	b.tailScrubbed, b.markerStale, b.rewriteAll = true, true, false
	return false, nil
}

// scrubAll scrubs until nothing is left.
func (b *Backend) scrubAll() error {
	_, err := b.scrub(math.MaxInt)
	return err
}

// syncZeros makes the zeros durable.
func (b *Backend) syncZeros() error {
	err := b.syncer.syncFile(b.file)
	if err != nil {
		b.rewriteAll, b.zeroed = true, nil // the system may have given up what it could not write
		return classify(err)
	}
	return nil
}

// zeroFree overwrites up to limit pages of free that are not known to be zero, and remembers that
// they are. It leaves alone those from start to end.
func (b *Backend) zeroFree(free []uint64, start, end uint64, limit int) error {
	for i := 0; i < len(free) && limit > 0; {
		n := 0 // pages in a row
		for i+n < len(free) && free[i+n] == free[i]+uint64(n) && n < limit && !b.zeroed.has(free[i+n]) &&
			(free[i+n] < start || free[i+n] >= end) {
			n++
		}
		if n == 0 {
			i++
			continue
		}
		if err := b.zero(int64(free[i])*b.pageSize, int64(free[i]+uint64(n))*b.pageSize); err != nil {
			return err
		}
		for _, id := range free[i : i+n] {
			b.zeroed.add(id)
		}
		i, limit = i+n, limit-n
	}
	return nil
}

// forgetUsed removes from the pages known to be zero those that the last transaction has taken into
// use: they are no longer free, because bbolt does not use a page that the same transaction frees.
func (b *Backend) forgetUsed() {
	if len(b.zeroed) == 0 {
		return
	}
	current, _, _, err := readMetas(b.file)
	var free []uint64
	if err == nil {
		free, _, err = readFreelist(b.file, current)
	}
	if err != nil {
		free = nil
	}
	b.keepZeroed(free)
}

// keepZeroed removes all pages but those of free from the pages known to be zero.
func (b *Backend) keepZeroed(free []uint64) {
	still := pageSet{}
	for len(free) > 0 {
		word := free[0] / 64
		var mask uint64
		for len(free) > 0 && free[0]/64 == word {
			mask |= 1 << (free[0] % 64)
			free = free[1:]
		}
		if mask &= b.zeroed[word]; mask != 0 {
			still[word] = mask
		}
	}
	b.zeroed = still
}

// zero overwrites the pages from start to end that are not zero. Reading is cheaper than writing,
// and most free pages of a file that is scrubbed now and then are zero.
func (b *Backend) zero(start, end int64) error {
	zeros := make([]byte, b.pageSize)
	buf := make([]byte, min(64*b.pageSize, end-start))
	for start < end {
		chunk := buf[:min(int64(len(buf)), end-start)]
		if _, err := b.blocks.ReadAt(chunk, start); err != nil && err != io.EOF {
			return err
		}
		for len(chunk) > 0 {
			page := chunk[:min(b.pageSize, int64(len(chunk)))]
			if b.rewriteAll || !allZero(page) {
				if _, err := b.blocks.WriteAt(zeros[:len(page)], start); err != nil {
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
