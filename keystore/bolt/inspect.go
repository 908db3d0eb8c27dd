package bolt

import (
	"fmt"
	"io"
	"math/bits"

	"github.com/pocketkms/kms/keystore"
)

// inspectLeavesUpTo is the number of pages up to which Open reads the leaves of a file.
const inspectLeavesUpTo = 1024

// A pageSet is a set of page numbers.
type pageSet map[uint64]uint64 // 64 pages each

func (s pageSet) has(id uint64) bool { return s[id/64]>>(id%64)&1 != 0 }
func (s pageSet) add(id uint64)      { s[id/64] |= 1 << (id % 64) }

func (s pageSet) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// An inspection checks that a file is a tree, a list of free pages, and nothing else.
type inspection struct {
	file
	used   pageSet // pages that were met
	leaves pageSet // those of them that are leaves which were not read
	deep   bool    // read the leaves
	bufs   [maxDepth][]byte
}

// inspect checks a file. It returns ErrCorrupt if the file is damaged. uninitialized reports that
// its creation was interrupted before anything could be committed to it: it is as good as empty.
//
// inspect reads all branches of the tree and the list of free pages: the first key of a page is the
// one that its parent has, and each page of the file is in use, or free, exactly once. It reads the
// leaves of a file of up to leavesUpTo pages; of a larger one, the headers of those that take
// several pages.
func inspect(f io.ReaderAt, size int64, leavesUpTo uint64) (r root, uninitialized bool, err error) {
	m, other, both, err := readMetas(f)
	if err != nil {
		return root{}, false, err
	}
	// bbolt writes the first four pages at once, with transactions 0 and 1 in their metas.
	if size < 4*m.pageSize && m.txid <= 1 && (!both || other.txid <= 1) {
		return root{}, true, nil
	}
	if m.pgid > uint64(size/m.pageSize) {
		return root{}, false, fmt.Errorf("%w: truncated: %d bytes are left of %d pages of %d", keystore.ErrCorrupt, size, m.pgid, m.pageSize)
	}
	in := inspection{file: file{f, m.pageSize, m.pgid}, used: pageSet{}, leaves: pageSet{}, deep: m.pgid <= leavesUpTo}
	free, end, err := readFreelist(f, m)
	if err != nil {
		return root{}, false, err
	}
	if err := in.use(0, 2); err != nil {
		return root{}, false, err
	}
	if err := in.use(m.freelist, end-m.freelist); err != nil {
		return root{}, false, err
	}
	for _, id := range free {
		if err := in.use(id, 1); err != nil {
			return root{}, false, err
		}
	}
	if r, err = in.readRoot(m.root, nil); err != nil {
		return root{}, false, err
	}
	if err := in.use(m.root, r.pages); err != nil {
		return root{}, false, err
	}
	if r.page != 0 {
		height, err := in.height(r.page)
		if err != nil {
			return root{}, false, err
		}
		if err := in.visit(r.page, height, nil, nil); err != nil {
			return root{}, false, err
		}
	}
	return r, false, in.checkRest()
}

// use marks n pages as used.
func (in *inspection) use(id, n uint64) error {
	for ; n > 0; id, n = id+1, n-1 {
		if in.used.has(id) {
			return fmt.Errorf("%w: page %d is used twice", keystore.ErrCorrupt, id)
		}
		in.used.add(id)
	}
	return nil
}

// height returns how many branches are above each leaf.
func (in *inspection) height(id uint64) (int, error) {
	for height := range maxDepth {
		p, err := in.page(id, nil)
		if err != nil {
			return 0, err
		}
		if p.flags() == leafPage {
			return height, nil
		}
		e, _, ok := p.element(0)
		if p.flags() != branchPage || !ok {
			return 0, damaged(id)
		}
		id = e.child
	}
	return 0, damaged(id)
}

// visit checks a page and all below it.
func (in *inspection) visit(id uint64, height int, low, high []byte) error {
	if height == 0 && !in.deep {
		if id < 2 || id >= in.pgid {
			return damaged(id)
		}
		in.leaves.add(id)
		return in.use(id, 1)
	}
	p, err := in.page(id, in.bufs[height])
	if err != nil {
		return err
	}
	if !p.check(low, high, 0, in.pageSize) || (p.flags() == leafPage) != (height == 0) {
		return damaged(id)
	}
	if int64(len(p)) == in.pageSize {
		in.bufs[height] = p
	}
	if err := in.use(id, uint64(int64(len(p))/in.pageSize)); err != nil || height == 0 {
		return err
	}
	e, _, _ := p.element(0)
	for i := range p.count() {
		var next element
		end := high
		if i+1 < p.count() {
			next, _, _ = p.element(i + 1)
			end = next.key
		}
		if err := in.visit(e.child, height-1, e.key, end); err != nil {
			return err
		}
		e = next
	}
	return nil
}

// checkRest checks that the pages which were not met are those that follow the leaves which were
// not read.
func (in *inspection) checkRest() error {
	for id := uint64(2); id < in.pgid; id++ {
		if in.used.has(id) {
			continue
		}
		leaf, end := id-1, id
		for end < in.pgid && !in.used.has(end) && int64(end-leaf)*in.pageSize < maxTreePageBytes {
			end++
		}
		flags, _, overflow, err := in.header(leaf)
		if err != nil {
			return err
		}
		if !in.leaves.has(leaf) || flags != leafPage || overflow != end-id {
			return fmt.Errorf("%w: page %d is neither in use nor free", keystore.ErrCorrupt, id)
		}
		id = end
	}
	return nil
}

// readFreelist returns the free pages in ascending order, including those that the last transaction
// freed, and the end of the pages that the list itself takes, from m.freelist on. It takes no more
// memory than the file has entries in order, whatever their number is said to be.
func readFreelist(f io.ReaderAt, m meta) (free []uint64, end uint64, err error) {
	flags, n, overflow, err := file{f, m.pageSize, m.pgid}.header(m.freelist)
	if err != nil {
		return nil, 0, err
	}
	damaged := fmt.Errorf("%w: the list of free pages is damaged", keystore.ErrCorrupt)
	if flags != freelistPage {
		return nil, 0, damaged
	}
	end = m.freelist + overflow + 1
	at, rest := int64(m.freelist)*m.pageSize+pageHeaderBytes, int64(overflow+1)*m.pageSize-pageHeaderBytes
	buf := make([]byte, min(rest, maxPageBytes))
	var entries []byte
	next := func() uint64 {
		if len(entries) < 8 {
			entries = buf[:min(rest, int64(len(buf)))]
			if _, err := f.ReadAt(entries, at); err != nil || len(entries) < 8 {
				return 0 // which is never free
			}
			at, rest = at+int64(len(entries)), rest-int64(len(entries))
		}
		id := byteOrder.Uint64(entries)
		entries = entries[8:]
		return id
	}
	count := uint64(n)
	if count == 0xffff { // too many for the field
		count = next()
	}
	for range count {
		id := next()
		if id < 2 || id >= m.pgid || len(free) > 0 && id <= free[len(free)-1] || m.freelist <= id && id < end {
			return nil, 0, damaged
		}
		free = append(free, id)
	}
	// bbolt estimates how long the list will be before it allocates pages for it, perhaps from the
	// list. It frees them one by one, so they must not be many more than that.
	if overflow > 8*(count+overflow+4)/uint64(m.pageSize) {
		return nil, 0, damaged
	}
	return free, end, nil
}
