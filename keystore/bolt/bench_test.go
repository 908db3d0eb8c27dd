package bolt

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
)

// openFloor returns the bare bbolt transaction that a durable put of a value amounts to, in another
// file with as many free pages.
func openFloor(b *testing.B, value []byte, freePages int) (put func(i int)) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "floor"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	name := []byte(bucketName)
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(name)
		return err
	}))
	if freePages > 0 {
		room := []byte("room")
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucket(room)
			if err != nil {
				return err
			}
			return bucket.Put(room, make([]byte, freePages*os.Getpagesize()))
		}))
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(room) }))
	}
	return func(i int) {
		err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(name).Put(benchKey(i), value) })
		if err != nil {
			b.Fatal(err)
		}
	}
}

// besideFloor runs an operation and its floor in turns, so that both meet the same disk, and
// reports the time of the operation and its ratio to that of the floor.
func besideFloor(b *testing.B, floor, operation func(i int)) {
	var base, took time.Duration
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		floor(i)
		middle := time.Now()
		operation(i)
		base += middle.Sub(start)
		took += time.Since(middle)
	}
	b.ReportMetric(float64(took)/float64(b.N), "ns/op")
	b.ReportMetric(float64(took)/float64(base), "x-floor")
}

func benchKey(i int) []byte { return fmt.Appendf(nil, "record/%07d", i%1000) }

// BenchmarkCommit is one durable put, with an expectation; x-floor is its cost relative to bbolt
// alone.
func BenchmarkCommit(b *testing.B) {
	backend, _ := newBackend(b)
	value := make([]byte, 500)
	revisions := make([]keystore.Revision, 1000)
	besideFloor(b, openFloor(b, append(make([]byte, revisionBytes), value...), 0), func(i int) {
		key := string(benchKey(i))
		revision, err := backend.Commit(ctx, keystore.Tx{
			Expect: []keystore.Expectation{{Key: key, Revision: revisions[i%1000]}},
			Puts:   []keystore.Put{{Key: key, Value: value}},
		})
		if err != nil {
			b.Fatal(err)
		}
		revisions[i%1000] = revision
	})
}

// BenchmarkCommitParallel is the same from 32 goroutines at once; x-floor well under 1 shows that
// they share writes.
func BenchmarkCommitParallel(b *testing.B) {
	backend, _ := newBackend(b)
	value := make([]byte, 500)
	floor := openFloor(b, append(make([]byte, revisionBytes), value...), 0)
	start := time.Now()
	for i := range b.N {
		floor(i)
	}
	base := time.Since(start)
	var next atomic.Int64
	b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key := string(benchKey(int(next.Add(1))))
			if _, err := backend.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: value}}}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed())/float64(base), "x-floor")
}

// BenchmarkCommitScrubManyFree is BenchmarkCommitScrub in a file with 100 MB of free pages.
func BenchmarkCommitScrubManyFree(b *testing.B) {
	const freePages = 25_600
	backend, _ := withFreePages(b, freePages)
	value := make([]byte, 500)
	scrub := func(i int) {
		_, err := backend.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: string(benchKey(i)), Value: value}}, Scrub: true})
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range 1000 {
		put(b, backend, string(benchKey(i)), value)
	}
	scrub(0) // the first one looks at all free pages
	besideFloor(b, openFloor(b, append(make([]byte, revisionBytes), value...), freePages/2), scrub)
}

// BenchmarkCommitScrub is a durable put that erases the value before it.
func BenchmarkCommitScrub(b *testing.B) {
	backend, _ := newBackend(b)
	value := make([]byte, 500)
	for i := range 1000 {
		put(b, backend, string(benchKey(i)), value)
	}
	besideFloor(b, openFloor(b, append(make([]byte, revisionBytes), value...), 0), func(i int) {
		_, err := backend.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: string(benchKey(i)), Value: value}}, Scrub: true})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkStoreGet reads and opens one sealed record of 500 bytes; x-floor is its cost relative to
// bbolt alone.
func BenchmarkStoreGet(b *testing.B) {
	backend, _ := newBackend(b)
	store, err := keystore.Open(ctx, backend, keystoretest.RootKey())
	require.NoError(b, err)
	for i := range 10 {
		tx := keystore.Tx{}
		for j := range 100 {
			tx.Puts = append(tx.Puts, keystore.Put{Key: string(benchKey(100*i + j)), Value: make([]byte, 500)})
		}
		_, err := store.Commit(ctx, tx)
		require.NoError(b, err)
	}
	besideFloor(b, func(i int) {
		err := backend.db.View(func(tx *bbolt.Tx) error {
			_ = append([]byte{}, tx.Bucket([]byte(bucketName)).Get(benchKey(i))...)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}, func(i int) {
		if _, err := store.Get(ctx, string(benchKey(i))); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkOpenMillion opens a store of a million records of 500 bytes, and reports by how much
// that grows the heap.
func BenchmarkOpenMillion(b *testing.B) {
	const records = 1_000_000
	path := filepath.Join(b.TempDir(), "store")
	backend, err := Open(path)
	require.NoError(b, err)
	root := keystoretest.RootKey()
	fmt.Fprintf(os.Stderr, "writing %d records ...\n", records)
	start := time.Now()
	store, err := keystore.Open(ctx, backend, root)
	require.NoError(b, err)
	fill(b, backend, records, 500)
	require.NoError(b, store.Close())
	fmt.Fprintf(os.Stderr, "written in %v\n", time.Since(start).Round(time.Second))
	var before, after runtime.MemStats
	var grown uint64
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		backend, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		store, err := keystore.Open(ctx, backend, root)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.ReadMemStats(&after)
		grown = max(grown, after.HeapAlloc-before.HeapAlloc)
		require.NoError(b, store.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(grown)/(1<<20), "heap-MiB")
}
