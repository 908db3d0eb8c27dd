package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms/keystore"
)

func TestDamagedFilesAreRefusedAndLeftAlone(t *testing.T) {
	b, path := newBackend(t)
	for i := range 200 {
		put(t, b, fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i)}, 100))
	}
	require.NoError(t, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	page := os.Getpagesize()
	m, _, _, err := readMetas(bytes.NewReader(whole))
	require.NoError(t, err)
	with := func(change func([]byte)) []byte {
		data := bytes.Clone(whole)
		change(data)
		return data
	}
	at := func(id uint64) int { return int(id) * page }
	for name, data := range map[string][]byte{
		"one byte":            []byte("x"),
		"text":                []byte(strings.Repeat("not a store\n", 5000)),
		"zeros":               make([]byte, len(whole)),
		"first page only":     whole[:page],
		"truncated by a page": whole[:at(m.pgid)-page],
		"truncated in a page": whole[:at(m.pgid)-1],
		"both metas zero":     with(func(d []byte) { clear(d[:2*page]) }),
		"both metas flipped":  with(func(d []byte) { d[60] ^= 1; d[page+60] ^= 1 }),
		"root zero":           with(func(d []byte) { clear(d[at(m.root) : at(m.root)+page]) }),
		"root is a freelist":  with(func(d []byte) { d[at(m.root)+8] = freelistPage }),
		"freelist zero":       with(func(d []byte) { clear(d[at(m.freelist) : at(m.freelist)+page]) }),
		"freelist too long":   with(func(d []byte) { d[at(m.freelist)+10], d[at(m.freelist)+11] = 0xfe, 0xff }),
		"freelist far too long": with(func(d []byte) {
			copy(d[at(m.freelist)+10:], bytes.Repeat([]byte{0xff}, 14))
		}),
		"offset out of page": with(func(d []byte) { byteOrder.PutUint32(d[at(m.root)+16+4:], 1<<30) }),
		"size out of page":   with(func(d []byte) { byteOrder.PutUint32(d[at(m.root)+16+12:], 1<<31) }),
		"overflow out of file": with(func(d []byte) {
			byteOrder.PutUint32(d[at(m.root)+12:], 1<<31)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			_, err := Open(path)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, after), "the file was changed")
		})
	}
}

// A small file is extended with a hole, and its numbers are forged to match: Open must not allocate
// what they say.
func TestForgedLengthsTakeNoMemory(t *testing.T) {
	b, path := newBackend(t)
	put(t, b, "a", nil)
	require.NoError(t, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	page := os.Getpagesize()
	const apparent = 1 << 40
	pages := uint64(apparent / page)
	m, _, _, err := readMetas(bytes.NewReader(whole))
	require.NoError(t, err)
	list := func(d []byte) []byte { return d[int(m.freelist)*page:] }
	for name, forge := range map[string]func([]byte){
		"a list of free pages": func(d []byte) {
			byteOrder.PutUint32(list(d)[12:], uint32(pages-m.freelist-1))
			byteOrder.PutUint16(list(d)[10:], 0) // an entry would be one of its own pages
		},
		"a list of free pages, with a number to match": func(d []byte) {
			byteOrder.PutUint32(list(d)[12:], uint32(8*pages/uint64(page)))
			byteOrder.PutUint16(list(d)[10:], 0xffff)
			byteOrder.PutUint64(list(d)[pageHeaderBytes:], pages-2)
		},
		"a page of the tree": func(d []byte) { byteOrder.PutUint32(d[int(m.root)*page+12:], uint32(pages-m.root-1)) },
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(whole)
			for _, meta := range [][]byte{data, data[page:]} {
				byteOrder.PutUint64(meta[pageHeaderBytes+40:], pages)
			}
			sumMetas(data)
			forge(data)
			path := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			require.NoError(t, os.Truncate(path, apparent))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Open(path)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		})
	}
}

// sumMetas makes the checksums of both metas right.
func sumMetas(data []byte) {
	for _, meta := range [][]byte{data, data[os.Getpagesize():]} {
		sum := fnv.New64a()
		_, _ = sum.Write(meta[pageHeaderBytes:][:metaBytes-8])
		byteOrder.PutUint64(meta[pageHeaderBytes+metaBytes-8:], sum.Sum64())
	}
}

// Open accepts the longest pages that bbolt writes: four values as long as the limit, and a list
// of many free pages.
func TestTheLongestPagesAreAccepted(t *testing.T) {
	b, path := newBackend(t)
	for i := range 4 {
		key := strings.Repeat(fmt.Sprint(i), keystore.MaxKeyBytes)
		put(t, b, key, bytes.Repeat([]byte{byte(i)}, keystore.MaxValueBytes))
	}
	require.NoError(t, b.Close())
	b = reopen(t, path)
	for i := range 3 { // so many pages are free that their list takes several itself
		put(t, b, fmt.Sprint("room", i), make([]byte, keystore.MaxValueBytes))
		_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{fmt.Sprint("room", i)}})
		require.NoError(t, err)
		require.NoError(t, b.Close())
		b = reopen(t, path)
	}
	m, _, _, err := readMetas(b.file)
	require.NoError(t, err)
	free, end, err := readFreelist(b.file, m)
	require.NoError(t, err)
	require.Greater(t, len(free), 1000)
	require.Greater(t, end-m.freelist, uint64(1))
}

// A leaf of a large file is damaged. What does not need it works; what reads or changes it, or
// would merge another leaf with it, fails with ErrCorrupt and leaves the file as it is.
func TestDamagedLeavesOfALargeFile(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 40_000, 500)
	require.NoError(t, b.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	m, _, _, err := readMetas(bytes.NewReader(data))
	require.NoError(t, err)
	require.Greater(t, m.pgid, uint64(4*inspectLeavesUpTo))
	_, _, err = inspect(bytes.NewReader(data), int64(m.pgid-1)*m.pageSize, 0)
	require.ErrorIs(t, err, keystore.ErrCorrupt, "a page is missing at the end")

	id := uint64(bytes.LastIndex(data, []byte("record/0039000"))) / uint64(os.Getpagesize())
	leaf := page(data[int(id)*os.Getpagesize():][:os.Getpagesize()])
	require.EqualValues(t, leafPage, leaf.flags())
	first, _, ok := leaf.element(0)
	require.True(t, ok)
	last, _, ok := leaf.element(leaf.count() - 1)
	require.True(t, ok)
	var before, after int
	_, err = fmt.Sscanf(string(first.key), "record/%d", &before)
	require.NoError(t, err)
	_, err = fmt.Sscanf(string(last.key), "record/%d", &after)
	require.NoError(t, err)
	record := func(i int) string { return fmt.Sprintf("record/%07d", i) }

	for name, damage := range map[string]func(page){
		"zeros": func(p page) { clear(p) },
		"a value out of the page": func(p page) {
			byteOrder.PutUint32(p[16+4:], 1<<31-1)
			byteOrder.PutUint32(p[16+16+4:], 1<<31-1)
		},
		"another first key":     func(p page) { e, _, _ := p.element(0); e.key[0] ^= 1 },
		"a last key too great":  func(p page) { e, _, _ := p.element(p.count() - 1); e.key[0] ^= 0x80 },
		"a page more":           func(p page) { p[12] = 1 },
		"a record fewer":        func(p page) { p[10]-- },
		"a bucket for a record": func(p page) { p[16] = bucketLeaf },
		"the page that follows": func(p page) { byteOrder.PutUint64(p, id+1) },
		"a branch in a circle": func(p page) {
			clear(p)
			byteOrder.PutUint64(p, id)
			p[8], p[10] = branchPage, 1
			byteOrder.PutUint32(p[16:], elementBytes)
			byteOrder.PutUint32(p[20:], uint32(len(record(before))))
			byteOrder.PutUint64(p[24:], id)
			copy(p[32:], record(before))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			damaged := bytes.Clone(data)
			damage(damaged[int(id)*os.Getpagesize():][:os.Getpagesize()])
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			b, err := Open(path)
			require.NoError(t, err)
			_, err = b.Get(ctx, record(1))
			require.NoError(t, err)
			_, err = b.Get(ctx, record(before+1))
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			_, err = b.Scan(ctx, "", "", 50_000)
			require.ErrorIs(t, err, keystore.ErrCorrupt)
			var all, allBelow []string // of the leaves beside, which would then be merged with this one
			for i := range 6 {
				allBelow = append(allBelow, record(before-1-i))
				all = append(all, record(after+1+i))
			}
			for change, tx := range map[string]keystore.Tx{
				"a put":                {Puts: []keystore.Put{{Key: record(before) + "x"}}},
				"a delete":             {Deletes: []string{record(before + 1)}},
				"an expectation":       {Expect: []keystore.Expectation{{Key: record(before), Revision: 1}}},
				"a delete in the next": {Deletes: all},
				"a delete in the last": {Deletes: allBelow},
				"a scrub":              {Deletes: []string{record(before + 1)}, Scrub: true},
			} {
				_, err = b.Commit(ctx, tx)
				require.ErrorIs(t, err, keystore.ErrCorrupt, change)
			}
			require.NoError(t, b.Close())
			unchanged, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(damaged, unchanged), "the file was changed")

			b, err = Open(path)
			require.NoError(t, err)
			put(t, b, record(1), []byte("new"))
			require.NoError(t, b.Close())
			b, err = Open(path)
			require.NoError(t, err)
			require.NoError(t, b.Close())
		})
	}
}

// Pages that are lost, or used twice, are found without reading the leaves.
func TestPagesAreInUseOrFreeExactlyOnce(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 400, 500)
	put(t, b, "long", make([]byte, 20_000))
	put(t, b, "room", make([]byte, 50_000))
	_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"room"}})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	m, _, _, err := readMetas(bytes.NewReader(whole))
	require.NoError(t, err)
	free, _, err := readFreelist(bytes.NewReader(whole), m)
	require.NoError(t, err)
	r, err := file{bytes.NewReader(whole), m.pageSize, m.pgid}.readRoot(m.root, nil)
	require.NoError(t, err)
	page := func(d []byte, id uint64) page { return d[int64(id)*m.pageSize:][:m.pageSize] }
	list := func(d []byte) []byte { return page(d, m.freelist) }
	for name, damage := range map[string]func([]byte){
		"a free page lost": func(d []byte) { byteOrder.PutUint16(list(d)[10:], uint16(len(free)-1)) },
		"a free page in the tree": func(d []byte) {
			e, _, _ := page(d, r.page).element(3)
			for i := range free { // in its place in the order
				if i == len(free)-1 || free[i+1] > e.child {
					byteOrder.PutUint64(list(d)[pageHeaderBytes+8*i:], e.child)
					return
				}
			}
		},
		"a leaf twice": func(d []byte) {
			root := page(d, r.page)
			e, _, _ := root.element(3)
			byteOrder.PutUint64(root[pageHeaderBytes+4*elementBytes+8:], e.child)
		},
		"a separator changed": func(d []byte) { e, _, _ := page(d, r.page).element(3); e.key[len(e.key)-1]++ },
	} {
		t.Run(name, func(t *testing.T) {
			damaged := bytes.Clone(whole)
			damage(damaged)
			_, _, err := inspect(bytes.NewReader(damaged), int64(len(damaged)), 0)
			if name == "a separator changed" { // of a leaf: it is found where the leaf is read
				require.NoError(t, err)
				_, _, err = inspect(bytes.NewReader(damaged), int64(len(damaged)), m.pgid)
			}
			require.ErrorIs(t, err, keystore.ErrCorrupt)
		})
	}
}

// A record whose length is impossible is empty, so that its seal does not fit; a key that is too
// long is damage.
func TestRecordsOfImpossibleLengths(t *testing.T) {
	b, path := newBackend(t)
	for _, key := range []string{"a", "b", "c", "d"} {
		put(t, b, key, []byte("value"))
	}
	raw := func(change func(*bbolt.Bucket) error) {
		require.NoError(t, b.db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(bucketName))) }))
	}
	raw(func(bucket *bbolt.Bucket) error {
		return errors.Join(bucket.Put([]byte("b"), []byte("short")), bucket.Put([]byte("c"), make([]byte, revisionBytes+keystore.MaxValueBytes+1)))
	})
	records, err := b.Scan(ctx, "", "", 10)
	require.NoError(t, err)
	require.Len(t, records, 4)
	for i, want := range []string{"value", "", "", "value"} {
		require.Equal(t, want, string(records[i].Value))
		got, err := b.Get(ctx, records[i].Key)
		require.NoError(t, err)
		require.Equal(t, records[i], got)
	}

	raw(func(bucket *bbolt.Bucket) error {
		return bucket.Put(bytes.Repeat([]byte("x"), keystore.MaxKeyBytes+1), nil)
	})
	_, err = b.Scan(ctx, "", "", 10)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	var record *keystore.RecordError
	require.False(t, errors.As(err, &record), "no name that a scan could go on from")
	require.NoError(t, b.Close())
	_, err = Open(path)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
}

// Whatever a file contains, it causes errors and nothing worse, and a file that is accepted opens
// again after a change. The checksums of the metas are made right, since little would get past
// them.
func FuzzOpen(f *testing.F) {
	b, path := newBackend(f)
	for i := range 100 {
		put(f, b, fmt.Sprint("key", i), bytes.Repeat([]byte{byte(i)}, 100))
	}
	require.NoError(f, b.Close())
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(uint32(0), []byte{0})
	f.Add(uint32(os.Getpagesize()+32), []byte{0xff, 0xff, 0xff, 0xff})
	for page := range 8 {
		f.Add(uint32(page*os.Getpagesize()+8), []byte{2, 0, 0xff, 0xff})
		f.Add(uint32(page*os.Getpagesize()+16), bytes.Repeat([]byte{0x7f}, 16))
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		data := bytes.Clone(whole)
		copy(data[int(at)%len(data):], change)
		sumMetas(data)
		path := filepath.Join(t.TempDir(), "store")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		b, err := Open(path)
		if err != nil {
			return
		}
		b.db.NoSync = true
		_, _ = b.Scan(ctx, "", "", 1000)
		_, _ = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "key5"}, {Key: "key50"}}, Deletes: []string{"key7"}, Scrub: true})
		_, _ = b.Get(ctx, "key5")
		require.NoError(t, b.Close())
		b, err = Open(path)
		require.NoError(t, err)
		require.NoError(t, b.Close())
	})
}
