package bolt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"

	"github.com/pocketkms/kms/keystore"
)

// bbolt trusts its file: it maps it and follows its page numbers and offsets wherever they lead, out of the file or into other
// memory of the process. So before bbolt may have it, the file is looked at here, by plain reads. All numbers in it are in the
// byte order of the machine.

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	pageHeaderBytes = 16 // id 8, flags 2, count 2, overflow 4
	elementBytes    = 16
	metaBytes       = 64
	minPageBytes    = 1 << 10
	maxPageBytes    = 1 << 16

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01

	inspectPages = 1024 // how much of the tree is looked at: from the top, level by level

	// bbolt splits a page of the tree that does not hold its elements, unless these are four or less.
	maxTreePageBytes = pageHeaderBytes + 4*(elementBytes+keystore.MaxKeyBytes+revisionBytes+keystore.MaxValueBytes)
)

// order is the machine's.
var byteOrder = binary.NativeEndian

// A meta is one of the two pages that say where all else is.
type meta struct {
	pageSize             int64
	root, freelist, pgid uint64 // pgid is the number of pages in use, from the start of the file
	txid                 uint64
}

// parseMeta reads the meta at the start of a page, after its header.
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

// readMetas returns the meta that bbolt will go by, and the other if it is valid too.
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

// inspect returns ErrCorrupt if the file is damaged. uninitialized means that its creation was interrupted before anything could be
// committed to it: it is as good as empty.
func inspect(f io.ReaderAt, size int64) (uninitialized bool, err error) {
	m, other, both, err := readMetas(f)
	if err != nil {
		return false, err
	}
	// bbolt writes the first four pages at once, with transactions 0 and 1 in their metas.
	if size < 4*m.pageSize && m.txid <= 1 && (!both || other.txid <= 1) {
		return true, nil
	}
	if m.pgid > uint64(size/m.pageSize) {
		return false, fmt.Errorf("%w: truncated: %d bytes are left of %d pages of %d", keystore.ErrCorrupt, size, m.pgid, m.pageSize)
	}
	free, _, err := readFreelist(f, m)
	if err != nil {
		return false, err
	}
	in := inspection{f: f, meta: m, seen: map[uint64]bool{0: true, 1: true}}
	level := []uint64{m.root}
	for len(level) > 0 {
		var below []uint64
		for _, id := range level {
			if len(in.seen) >= inspectPages {
				below = nil
				break
			}
			children, err := in.page(id)
			if err != nil {
				return false, err
			}
			below = append(below, children[:min(len(children), inspectPages)]...)
		}
		level = below
	}
	for _, id := range free {
		if in.seen[id] {
			return false, fmt.Errorf("%w: page %d is both in use and free", keystore.ErrCorrupt, id)
		}
	}
	return false, nil
}

type inspection struct {
	f    io.ReaderAt
	meta meta
	seen map[uint64]bool
}

// readHead returns the header of a page, and how many pages overflow from it: as many as the file is long, if it is forged.
func readHead(f io.ReaderAt, m meta, id uint64) (head []byte, overflow uint64, err error) {
	damaged := fmt.Errorf("%w: page %d is damaged", keystore.ErrCorrupt, id)
	if id < 2 || id >= m.pgid {
		return nil, 0, damaged
	}
	head = make([]byte, pageHeaderBytes)
	if _, err := f.ReadAt(head, int64(id)*m.pageSize); err != nil {
		return nil, 0, damaged
	}
	overflow = uint64(byteOrder.Uint32(head[12:]))
	if byteOrder.Uint64(head) != id || overflow >= m.pgid-id {
		return nil, 0, damaged
	}
	return head, overflow, nil
}

// readTreePage returns the bytes of a page with all that overflows from it.
func readTreePage(f io.ReaderAt, m meta, id uint64) ([]byte, error) {
	_, overflow, err := readHead(f, m, id)
	if err != nil {
		return nil, err
	}
	if int64(overflow)*m.pageSize >= maxTreePageBytes {
		return nil, fmt.Errorf("%w: page %d is longer than its elements can be", keystore.ErrCorrupt, id)
	}
	page := make([]byte, (int64(overflow)+1)*m.pageSize)
	if _, err := f.ReadAt(page, int64(id)*m.pageSize); err != nil {
		return nil, fmt.Errorf("%w: page %d is damaged", keystore.ErrCorrupt, id)
	}
	return page, nil
}

// page looks at a page of the tree and returns its children.
func (in *inspection) page(id uint64) ([]uint64, error) {
	page, err := readTreePage(in.f, in.meta, id)
	if err != nil {
		return nil, err
	}
	for i := range uint64(int64(len(page)) / in.meta.pageSize) {
		if in.seen[id+i] {
			return nil, fmt.Errorf("%w: page %d is used twice", keystore.ErrCorrupt, id+i)
		}
		in.seen[id+i] = true
	}
	children, ok := elements(page, true)
	if !ok {
		return nil, fmt.Errorf("%w: page %d is damaged", keystore.ErrCorrupt, id)
	}
	return children, nil
}

// elements checks the elements of a page: within it, and their keys in order. It returns the pages that they lead to.
func elements(page []byte, mayNest bool) (children []uint64, ok bool) {
	flags, count := byteOrder.Uint16(page[8:]), int(byteOrder.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || pageHeaderBytes+count*elementBytes > len(page) || flags == branchPage && count == 0 {
		return nil, false
	}
	var last []byte
	for i := range count {
		start := pageHeaderBytes + i*elementBytes
		e := page[start:]
		var at, keySize, valueSize uint64
		if flags == branchPage {
			at, keySize = uint64(byteOrder.Uint32(e)), uint64(byteOrder.Uint32(e[4:]))
			children = append(children, byteOrder.Uint64(e[8:]))
		} else {
			at, keySize, valueSize = uint64(byteOrder.Uint32(e[4:])), uint64(byteOrder.Uint32(e[8:])), uint64(byteOrder.Uint32(e[12:]))
		}
		if at+keySize+valueSize > uint64(len(e)) || keySize > keystore.MaxKeyBytes {
			return nil, false
		}
		key, value := e[at:at+keySize], e[at+keySize:at+keySize+valueSize]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, false
		}
		last = key
		if flags != leafPage || byteOrder.Uint32(e)&bucketLeaf == 0 {
			continue
		}
		// A bucket: its root and sequence, and if the root is 0, its only page.
		if len(value) < 16 || !mayNest {
			return nil, false
		}
		if root := byteOrder.Uint64(value); root != 0 {
			children = append(children, root)
		} else if len(value) < 16+pageHeaderBytes {
			return nil, false
		} else if inner, ok := elements(value[16:], false); !ok || len(inner) > 0 {
			return nil, false
		}
	}
	return children, true
}

// readFreelist returns the free pages in ascending order, those included that the last transaction freed, and the end of the
// pages that the list itself takes, from m.freelist on. It takes no more memory than the file has entries in order, whatever
// numbers these are said to have.
func readFreelist(f io.ReaderAt, m meta) (free []uint64, end uint64, err error) {
	head, overflow, err := readHead(f, m, m.freelist)
	if err != nil {
		return nil, 0, err
	}
	damaged := fmt.Errorf("%w: the list of free pages is damaged", keystore.ErrCorrupt)
	if byteOrder.Uint16(head[8:]) != freelistPage {
		return nil, 0, damaged
	}
	end = m.freelist + overflow + 1
	section := io.NewSectionReader(f, int64(m.freelist)*m.pageSize+pageHeaderBytes, int64(overflow+1)*m.pageSize-pageHeaderBytes)
	entries := bufio.NewReaderSize(section, maxPageBytes)
	entry := make([]byte, 8)
	next := func() uint64 {
		if _, err := io.ReadFull(entries, entry); err != nil {
			return 0 // which is never free
		}
		return byteOrder.Uint64(entry)
	}
	count := uint64(byteOrder.Uint16(head[10:]))
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
	// bbolt reckons how long the list will be before it takes the pages for it, perhaps from the list. It frees them one by one,
	// so they must not be many more than that.
	if overflow > 8*(count+overflow+4)/uint64(m.pageSize) {
		return nil, 0, damaged
	}
	return free, end, nil
}
