package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"sort"

	"github.com/pocketkms/kms/keystore"
)

// bbolt trusts its file: it maps the file and follows the page numbers and offsets in it wherever
// they lead, and a change that it makes on the basis of a damaged page can make the whole file
// unreadable. So this package reads the file itself, with plain reads and checks, and lets bbolt
// change only what it has checked. Numbers in pages are in the byte order of the machine.

var byteOrder = binary.NativeEndian

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageHeaderBytes   = 16 // ID 8, flags 2, count 2, overflow 4
	elementBytes      = 16
	bucketHeaderBytes = 16 // root page 8, sequence 8
	metaBytes         = 64
	minPageBytes      = 1 << 10
	maxPageBytes      = 1 << 16

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01

	// A page of the tree that is longer than this would have been split: bbolt splits pages of more
	// than four elements.
	maxTreePageBytes = pageHeaderBytes + 4*(elementBytes+keystore.MaxKeyBytes+revisionBytes+keystore.MaxValueBytes)

	// maxDepth exceeds the depth of any tree: a branch has two children or more.
	maxDepth = 32
)

// A meta is one of the two pages that say where everything else is.
type meta struct {
	pageSize             int64
	root, freelist, pgid uint64 // pgid is the number of pages in use, from the start of the file
	txid                 uint64
}

// parseMeta decodes the meta in a page.
func parseMeta(page []byte) (m meta, ok bool) {
	if len(page) < pageHeaderBytes+metaBytes {
		return meta{}, false
	}
	b := page[pageHeaderBytes:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaBytes-8])
	m = meta{
		pageSize: int64(byteOrder.Uint32(b[8:])),
		root:     byteOrder.Uint64(b[16:]),
		freelist: byteOrder.Uint64(b[32:]),
		pgid:     byteOrder.Uint64(b[40:]),
		txid:     byteOrder.Uint64(b[48:]),
	}
	ok = byteOrder.Uint32(b) == metaMagic && byteOrder.Uint32(b[4:]) == metaVersion && byteOrder.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= minPageBytes && m.pageSize <= maxPageBytes && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// readMetas returns the meta that bbolt uses, and the other one if both are valid.
func readMetas(f io.ReaderAt) (current, other meta, both bool, err error) {
	read := func(at int64) (meta, bool) {
		page := make([]byte, pageHeaderBytes+metaBytes)
		if n, _ := f.ReadAt(page, at); n < len(page) {
			return meta{}, false
		}
		return parseMeta(page)
	}
	first, ok0 := read(0)
	var second meta
	ok1 := false
	for size := int64(minPageBytes); size <= maxPageBytes && !ok1; size *= 2 {
		if !ok0 || size == first.pageSize {
			second, ok1 = read(size)
			ok1 = ok1 && second.pageSize == size
		}
	}
	switch {
	case !ok0 && !ok1:
		return meta{}, meta{}, false, fmt.Errorf("%w: not a file of this package, or its first pages are lost", keystore.ErrCorrupt)
	case !ok1 || ok0 && first.txid >= second.txid:
		return first, second, ok1, nil
	}
	return second, first, ok0, nil
}

// damaged returns ErrCorrupt for a page.
func damaged(id uint64) error { return fmt.Errorf("%w: page %d is damaged", keystore.ErrCorrupt, id) }

// A file reads pages of a bbolt file.
type file struct {
	io.ReaderAt
	pageSize int64
	pgid     uint64 // pages in use, from the start of the file
}

// header reads the header of a page, and returns its flags, its count, and how many pages follow it
// that belong to it.
func (f file) header(id uint64) (flags, count uint16, overflow uint64, err error) {
	if id < 2 || id >= f.pgid {
		return 0, 0, 0, damaged(id)
	}
	var h [pageHeaderBytes]byte
	if _, err := f.ReadAt(h[:], int64(id)*f.pageSize); err != nil {
		return 0, 0, 0, damaged(id)
	}
	overflow = uint64(byteOrder.Uint32(h[12:]))
	if byteOrder.Uint64(h[:]) != id || overflow >= f.pgid-id {
		return 0, 0, 0, damaged(id)
	}
	return byteOrder.Uint16(h[8:]), byteOrder.Uint16(h[10:]), overflow, nil
}

// page reads a page of a tree with those that follow it. It reuses buf if that is long enough.
func (f file) page(id uint64, buf []byte) (page, error) {
	if id < 2 || id >= f.pgid {
		return nil, damaged(id)
	}
	if int64(cap(buf)) < f.pageSize {
		buf = make([]byte, f.pageSize)
	}
	p := page(buf[:f.pageSize])
	if _, err := f.ReadAt(p, int64(id)*f.pageSize); err != nil {
		return nil, damaged(id)
	}
	if byteOrder.Uint64(p) != id {
		return nil, damaged(id)
	}
	overflow := uint64(byteOrder.Uint32(p[12:]))
	if overflow == 0 {
		return p, nil
	}
	if overflow >= f.pgid-id || int64(overflow)*f.pageSize >= maxTreePageBytes {
		return nil, damaged(id)
	}
	whole := make(page, (int64(overflow)+1)*f.pageSize)
	if _, err := f.ReadAt(whole, int64(id)*f.pageSize); err != nil {
		return nil, damaged(id)
	}
	return whole, nil
}

// A page is a branch or a leaf of a tree, with the pages that follow it.
type page []byte

func (p page) flags() uint16 { return byteOrder.Uint16(p[8:]) }
func (p page) count() int    { return int(byteOrder.Uint16(p[10:])) }

// An element of a branch is a page and its first key, an element of a leaf a key and its value. The
// slices point into the page.
type element struct {
	key, value []byte
	child      uint64
	flags      uint32 // of an element of a leaf
}

// element returns the ith element. at is where its key begins.
func (p page) element(i int) (e element, at int, ok bool) {
	start := pageHeaderBytes + i*elementBytes
	if start+elementBytes > len(p) {
		return element{}, 0, false
	}
	b := p[start:]
	var from, keySize, valueSize uint64
	if p.flags() == branchPage {
		from, keySize = uint64(byteOrder.Uint32(b)), uint64(byteOrder.Uint32(b[4:]))
		e.child = byteOrder.Uint64(b[8:])
	} else {
		e.flags = byteOrder.Uint32(b)
		from, keySize, valueSize = uint64(byteOrder.Uint32(b[4:])), uint64(byteOrder.Uint32(b[8:])), uint64(byteOrder.Uint32(b[12:]))
	}
	if keySize < 1 || keySize > keystore.MaxKeyBytes || from+keySize+valueSize > uint64(len(b)) {
		return element{}, 0, false
	}
	e.key, e.value = b[from:from+keySize], b[from+keySize:from+keySize+valueSize]
	return e, start + int(from), true
}

// key returns the key of the ith element of a page that was checked.
func (p page) key(i int) []byte {
	e, _, _ := p.element(i)
	return e.key
}

// check reports whether the page is exactly as bbolt writes it: a branch or a leaf whose elements
// are without gaps, and its keys in order. low, unless it is nil, is the first key; all are less
// than high, unless that is nil. unit is what the length of the page is a multiple of.
func (p page) check(low, high []byte, elementFlags uint32, unit int64) bool {
	if len(p) < pageHeaderBytes {
		return false
	}
	flags, count := p.flags(), p.count()
	if flags != branchPage && flags != leafPage || count == 0 && (flags == branchPage || low != nil) {
		return false
	}
	next := pageHeaderBytes + count*elementBytes
	var last []byte
	for i := range count {
		e, at, ok := p.element(i)
		if !ok || at != next || flags == leafPage && e.flags != elementFlags || i > 0 && bytes.Compare(last, e.key) >= 0 {
			return false
		}
		if i == 0 && low != nil && !bytes.Equal(e.key, low) {
			return false
		}
		last = e.key
		next += len(e.key) + len(e.value)
	}
	if last != nil && high != nil && bytes.Compare(last, high) >= 0 {
		return false
	}
	return (int64(next)+unit-1)/unit*unit == int64(len(p))
}

// A tree is the tree of records in a file, at one transaction.
type tree struct {
	file
	root   uint64 // 0: the tree is the page inline
	inline page
}

// A root is what the bucket of buckets says.
type root struct {
	exists   bool   // the bucket of records
	unscrub  bool   // the marker
	pages    uint64 // that the bucket of buckets takes
	page     uint64
	inline   page // in the page that was read
	sequence uint64
}

// readRoot reads the bucket of buckets. It reuses buf if that is long enough.
func (f file) readRoot(id uint64, buf []byte) (r root, err error) {
	p, err := f.page(id, buf)
	if err != nil {
		return root{}, err
	}
	if !p.check(nil, nil, bucketLeaf, f.pageSize) {
		return root{}, damaged(id)
	}
	r.pages = uint64(int64(len(p)) / f.pageSize)
	foreign := fmt.Errorf("%w: a bbolt file of another program", keystore.ErrCorrupt)
	if p.flags() != leafPage {
		return root{}, foreign
	}
	for i := range p.count() {
		e, _, _ := p.element(i)
		name := string(e.key)
		switch {
		case name != bucketName && name != markerName && len(name) > len(bucketFamily) && name[:len(bucketFamily)] == bucketFamily:
			return root{}, fmt.Errorf("%w: its records are %q; this program supports %q", keystore.ErrNewerVersion, name, bucketName)
		case name != bucketName && name != markerName:
			return root{}, foreign
		case len(e.value) < bucketHeaderBytes:
			return root{}, damaged(id)
		}
		first, inline := byteOrder.Uint64(e.value), page(e.value[bucketHeaderBytes:])
		if first == 0 && (!inline.check(nil, nil, 0, 1) || inline.flags() != leafPage) || first != 0 && len(inline) != 0 {
			return root{}, damaged(id)
		}
		if name == markerName {
			if first != 0 || inline.count() != 0 {
				return root{}, damaged(id)
			}
			r.unscrub = true
			continue
		}
		r.exists, r.page, r.inline, r.sequence = true, first, inline, byteOrder.Uint64(e.value[8:])
	}
	return r, nil
}

// A cursor goes through the leaves of a tree. It checks every page on its way, and against the
// branch above it.
type cursor struct {
	tree
	levels  []level // from the root to a leaf
	rootBuf [minPageBytes << 2]byte
}

// open makes the cursor one of the tree whose bucket of buckets is in a page.
func (c *cursor) open(f file, bucketOfBuckets uint64) error {
	r, err := f.readRoot(bucketOfBuckets, c.rootBuf[:])
	if err == nil && !r.exists {
		err = fmt.Errorf("%w: the bucket of records is missing", keystore.ErrCorrupt)
	}
	c.tree, c.levels = tree{f, r.page, r.inline}, c.levels[:0]
	return err
}

type level struct {
	page
	low, high []byte // see page.check
	index     int    // of the child that the next level is
	buf       []byte
}

// leaf returns the leaf that the cursor is at.
func (c *cursor) leaf() page { return c.levels[len(c.levels)-1].page }

// seek goes to the leaf in which key is, or belongs.
func (c *cursor) seek(key []byte) error {
	c.levels = c.levels[:0]
	if err := c.push(c.root, nil, nil); err != nil {
		return err
	}
	return c.descend(func(p page) int {
		return max(0, sort.Search(p.count(), func(i int) bool { return bytes.Compare(p.key(i), key) > 0 })-1)
	})
}

// inLeaf reports whether key is, or belongs, in the leaf that the cursor is at.
func (c *cursor) inLeaf(key []byte) bool {
	if len(c.levels) == 0 {
		return false
	}
	l := &c.levels[len(c.levels)-1]
	return (l.low == nil || bytes.Compare(l.low, key) <= 0) && (l.high == nil || bytes.Compare(key, l.high) < 0)
}

// find returns the index of the first key in the leaf that is not less than key.
func (c *cursor) find(key []byte) (i int, equal bool) {
	p := c.leaf()
	i = sort.Search(p.count(), func(i int) bool { return bytes.Compare(p.key(i), key) >= 0 })
	return i, i < p.count() && bytes.Equal(p.key(i), key)
}

// next goes to the next leaf. It reports false, and does not move, if there is none. After an error
// the cursor must not be used before it has sought again.
func (c *cursor) next() (bool, error) {
	return c.step(1, func(page) int { return 0 })
}

// previous goes to the leaf before. It reports false, and does not move, if there is none.
func (c *cursor) previous() (bool, error) {
	return c.step(-1, func(p page) int { return p.count() - 1 })
}

func (c *cursor) step(by int, choose func(page) int) (bool, error) {
	for n := len(c.levels) - 2; n >= 0; n-- {
		l := &c.levels[n]
		if i := l.index + by; i >= 0 && i < l.count() {
			c.levels = c.levels[:n+1]
			err := c.child(i)
			if err == nil {
				err = c.descend(choose)
			}
			return err == nil, err
		}
	}
	return false, nil
}

func (c *cursor) descend(choose func(page) int) error {
	for {
		p := c.leaf()
		if p.flags() == leafPage {
			return nil
		}
		if err := c.child(choose(p)); err != nil {
			return err
		}
	}
}

// child adds the ith child of the last level as a level.
func (c *cursor) child(i int) error {
	l := &c.levels[len(c.levels)-1]
	l.index = i
	e, _, _ := l.element(i)
	high := l.high
	if i+1 < l.count() {
		high = l.key(i + 1)
	}
	return c.push(e.child, e.key, high)
}

func (c *cursor) push(id uint64, low, high []byte) error {
	n := len(c.levels)
	if n == maxDepth {
		return fmt.Errorf("%w: page %d is deeper than a tree can be", keystore.ErrCorrupt, id)
	}
	if n == cap(c.levels) {
		c.levels = append(c.levels, level{})
	} else {
		c.levels = c.levels[:n+1]
	}
	l := &c.levels[n]
	if id == 0 && n == 0 {
		l.page, l.low, l.high = c.inline, nil, nil // which was checked
		return nil
	}
	p, err := c.page(id, l.buf)
	if err != nil {
		return err
	}
	if !p.check(low, high, 0, c.pageSize) {
		return damaged(id)
	}
	if int64(len(p)) == c.pageSize {
		l.buf = p
	}
	l.page, l.low, l.high = p, low, high
	return nil
}

// checkChange checks the leaves that bbolt reads in a change: those of the keys and, because bbolt
// merges a leaf that has lost keys with one beside it, the neighbors of those from which keys are
// deleted. keys are all that the transaction names, deleted those that it deletes.
func (c *cursor) checkChange(keys, deleted []string) error {
	for _, key := range keys {
		if c.inLeaf([]byte(key)) {
			continue
		}
		if err := c.seek([]byte(key)); err != nil {
			return err
		}
	}
	for _, key := range deleted {
		if err := c.seek([]byte(key)); err != nil {
			return err
		}
		moved, err := c.previous()
		if err == nil && moved {
			_, err = c.next()
		}
		if err == nil {
			_, err = c.next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
