package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

// Eight writers each raise two counters in every transaction, delete, and let the file grow. In
// each backup both counters of a writer are the same, and no less than what was acknowledged before
// the backup began.
func TestABackupIsOfOneMomentWhileEightWriters(t *testing.T) {
	const writers, backups = 8, 10
	b, _ := newBackend(t)
	root := keystoretest.RootKey()
	s, err := keystore.Open(ctx, b, root)
	require.NoError(t, err)
	for i := range 12 { // so that a copy takes longer than a change
		put(t, b, fmt.Sprintf("large/%d", i), make([]byte, keystore.MaxValueBytes))
	}
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	name := func(w int, side string) string { return fmt.Sprintf("counter/%d/%s", w, side) }
	var acknowledged [writers]atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := uint64(1); !stop.Load(); n++ {
				tx := keystore.Tx{Scrub: n%50 == 0, Puts: []keystore.Put{
					{Key: name(w, "left"), Value: number(n)}, {Key: name(w, "right"), Value: number(n)},
					{Key: fmt.Sprintf("filler/%d/%d", w, n), Value: make([]byte, rand.N(3000))},
				}}
				if n > 20 {
					tx.Deletes = []string{fmt.Sprintf("filler/%d/%d", w, n-20)}
				}
				if _, err := s.Commit(ctx, tx); err != nil {
					t.Error(err)
					return
				}
				acknowledged[w].Store(n)
			}
		})
	}
	for round := range backups {
		waitFor(func() bool { return t.Failed() || acknowledged[0].Load() > uint64(5*round) })
		var before [writers]uint64
		for w := range writers {
			before[w] = acknowledged[w].Load()
		}
		var w bytes.Buffer
		require.NoError(t, b.Backup(ctx, &w))
		restored := memory.New()
		require.NoError(t, keystore.Restore(ctx, restored, &w, nil))
		copied, err := keystore.OpenExisting(ctx, restored, root)
		require.NoError(t, err)
		for w := range writers {
			left, err := copied.Get(ctx, name(w, "left"))
			if errors.Is(err, keystore.ErrNotFound) {
				require.Zero(t, before[w])
				continue
			}
			require.NoError(t, err)
			right, err := copied.Get(ctx, name(w, "right"))
			require.NoError(t, err)
			require.Equal(t, left.Value, right.Value)
			require.GreaterOrEqual(t, binary.BigEndian.Uint64(left.Value), before[w])
		}
	}
	stop.Store(true)
	wg.Wait()
}

// snapshot returns the records of a snapshot.
func snapshot(ctx context.Context, b *Backend) (records []keystore.Record, err error) {
	for record, err := range b.Snapshot(ctx) {
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

func TestASnapshotLeavesNoFile(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 300, 1000)
	for range b.Snapshot(ctx) {
		break
	}
	records, err := snapshot(ctx, b)
	require.NoError(t, err)
	scanned, err := b.Scan(ctx, "", "", 1_000_000)
	require.NoError(t, err)
	require.Equal(t, scanned, records)
	requireAlone(t, path)
}

// requireAlone requires that there is no other file beside the one at path.
func requireAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, filepath.Base(path), entries[0].Name())
}

// A reader of a backup that does not read holds up neither changes, nor scrubs, nor Close.
func TestNothingWaitsForASlowBackup(t *testing.T) {
	b, _ := newBackend(t)
	_, err := keystore.Open(ctx, b, keystoretest.RootKey())
	require.NoError(t, err)
	fill(t, b, 300, 1000)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := b.Backup(ctx, w)
		done <- errors.Join(err, w.Close())
	}()
	_, err = io.ReadFull(r, make([]byte, 10)) // the snapshot has begun
	require.NoError(t, err)
	for i := range 3 { // the file grows
		put(t, b, fmt.Sprintf("more/%d", i), make([]byte, 1<<20))
	}
	_, err = b.Commit(ctx, keystore.Tx{Deletes: []string{"record/0000001", "record/0000002"}, Scrub: true})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = io.Copy(io.Discard, r)
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestASnapshotOfADamagedFileFails(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 300, 1000)
	info, err := os.Stat(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	whole := make([]byte, info.Size())
	_, err = f.ReadAt(whole, 0)
	require.NoError(t, err)
	damage := make([]byte, b.pageSize)
	for at := 4 * b.pageSize; at < info.Size(); at += b.pageSize {
		_, err := f.WriteAt(damage, at)
		require.NoError(t, err)
	}
	_, err = snapshot(ctx, b)
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	_, err = f.WriteAt(whole, 0)
	require.NoError(t, err)
	_, err = snapshot(ctx, b)
	require.NoError(t, err)
}

func TestASnapshotOfAFileThatWasReplacedFails(t *testing.T) {
	b, path := newBackend(t)
	fill(t, b, 3, 10)
	require.NoError(t, os.Rename(path, path+"-"))
	_, err := snapshot(ctx, b)
	require.Error(t, err)
	require.ErrorIs(t, err, keystore.ErrReplaced)
	require.NoError(t, os.Rename(path+"-", path))
}
