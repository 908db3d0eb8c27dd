package bolt

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

var allFlips = flag.String("flips", "some", "the bits that TestAStoreThatIsAcceptedStaysReadable flips: some, or all")

// smallStore returns the content of a file of 64 KiB with several leaves, a value that overflows
// its page, and free pages.
func smallStore(t *testing.T) []byte {
	b, path := newBackend(t)
	tx := keystore.Tx{Puts: []keystore.Put{{Key: "long", Value: make([]byte, 4500)}}}
	for i := range 24 {
		tx.Puts = append(tx.Puts, keystore.Put{Key: fmt.Sprintf("key/%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 250)})
	}
	_, err := b.Commit(ctx, tx)
	require.NoError(t, err)
	_, err = b.Commit(ctx, keystore.Tx{Deletes: []string{"key/001"}, Scrub: true})
	require.NoError(t, err)
	require.NoError(t, b.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1<<16, len(data))
	return data
}

// changes are transactions that touch every leaf of smallStore, split some and merge others.
func changes() []keystore.Tx {
	var grow, shrink keystore.Tx
	for i := range 24 {
		if i%7 == 3 {
			grow.Puts = append(grow.Puts, keystore.Put{Key: fmt.Sprintf("key/%03d+", i), Value: make([]byte, 700)})
		}
		if i < 18 {
			shrink.Deletes = append(shrink.Deletes, fmt.Sprintf("key/%03d", i))
		}
	}
	return []keystore.Tx{
		{Puts: []keystore.Put{{Key: "a"}, {Key: "z"}}},
		{Puts: []keystore.Put{{Key: "key/020", Value: []byte("new")}}},
		grow,
		{Deletes: []string{"key/023", "long"}, Scrub: true},
		shrink,
	}
}

// A single bit of a store flips, at rest. Whatever Open and Commit then accept, the store opens
// again afterwards: a commit refuses to change damaged pages, because that would spread the damage
// to where it makes the whole file unreadable.
func TestAStoreThatIsAcceptedStaysReadable(t *testing.T) {
	data := smallStore(t)
	var bits []int
	if *allFlips == "all" {
		for bit := range 8 * len(data) {
			bits = append(bits, bit)
		}
	} else {
		random := rand.New(rand.NewPCG(1, 2))
		for range 600 {
			bits = append(bits, random.IntN(8*len(data)))
		}
		m, _, _, err := readMetas(bytes.NewReader(data))
		require.NoError(t, err)
		for id := range m.pgid { // and one in each of the first bytes of each page, where its structure is
			for at := range 48 {
				bits = append(bits, 8*(int(id)*int(m.pageSize)+at)+random.IntN(8))
			}
		}
	}
	for name, leaves := range map[string]bool{"as a small file": true, "as a large file": false} {
		t.Run(name, func(t *testing.T) {
			var refused, refusedChanges, lost atomic.Int64
			var group sync.WaitGroup
			var first sync.Once
			workers := runtime.GOMAXPROCS(0)
			for w := range workers {
				path := filepath.Join(t.TempDir(), "store")
				group.Go(func() {
					flipped := bytes.Clone(data)
					for i := w; i < len(bits); i += workers {
						flipped[bits[i]/8] ^= 1 << (bits[i] % 8)
						result, err := survives(path, flipped, leaves)
						flipped[bits[i]/8] ^= 1 << (bits[i] % 8)
						if err != nil {
							lost.Add(1)
							first.Do(func() { t.Errorf("bit %d of page %d, byte %d: %v", bits[i]%8, bits[i]/8/4096, bits[i]/8%4096, err) })
						}
						refused.Add(int64(result.refused))
						refusedChanges.Add(int64(result.refusedChanges))
					}
				})
			}
			group.Wait()
			t.Logf("%d flips: %d files refused, %d changed with a transaction refused, %d lost",
				len(bits), refused.Load(), refusedChanges.Load(), lost.Load())
		})
	}
}

type survival struct{ refused, refusedChanges int }

// survives opens a file, reads and changes it, and opens it again. It returns an error if the file
// is accepted first and refused later.
func survives(path string, data []byte, leaves bool) (result survival, err error) {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return result, err
	}
	open := func() (*Backend, error) { return openFlipped(path, leaves) }
	b, err := open()
	if err != nil {
		if !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrNewerVersion) {
			return result, fmt.Errorf("refused with %w", err)
		}
		return survival{refused: 1}, nil
	}
	_, _ = b.Scan(ctx, "", "", 1000)
	for i, tx := range changes() {
		_, err := b.Commit(context.Background(), tx)
		if err != nil && !errors.Is(err, keystore.ErrCorrupt) {
			return result, errors.Join(fmt.Errorf("change %d: %w", i, err), b.Close())
		}
		if err != nil {
			result.refusedChanges = 1
		}
		if i == 2 { // a reader in between
			_, _ = b.Get(ctx, "key/020")
		}
	}
	if err := b.Close(); err != nil {
		return result, fmt.Errorf("Close: %w", err)
	}
	b, err = open()
	if err != nil {
		return result, fmt.Errorf("it does not open again: %w", err)
	}
	records, err := b.Scan(ctx, "", "", 1000)
	if err == nil {
		_, err = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "key/021x"}}})
	}
	if err != nil && !errors.Is(err, keystore.ErrCorrupt) {
		return result, errors.Join(err, b.Close())
	}
	if result.refusedChanges == 0 && err == nil && !slices.ContainsFunc(records, func(r keystore.Record) bool { return r.Key == "key/020" }) {
		return result, errors.Join(errors.New("an acknowledged record is missing"), b.Close())
	}
	return result, b.Close()
}

func openFlipped(path string, leaves bool) (*Backend, error) {
	env := defaults()
	if !leaves {
		env.inspectLeavesUpTo = 0
	}
	b, err := openWith(ctx, env, path)
	if err == nil {
		b.db.NoSync = true // the disk is not what is tested
	}
	return b, err
}
