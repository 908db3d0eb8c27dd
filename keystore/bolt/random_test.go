package bolt

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// Random changes of a tree that is deep, because its keys are long, and has values of several
// pages: what bbolt writes always passes an inspection, no change is refused, and a scrub leaves
// nothing of deleted records, not even their keys.
func TestRandomChangesPassInspection(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			b, path := newBackend(t)
			b.db.NoSync = true
			present := map[string][]byte{}
			name := func(i int) string {
				key := fmt.Sprintf("<key %04d>", i)
				if seed%2 == 0 {
					key += string(bytes.Repeat([]byte{'.'}, random.IntN(keystore.MaxKeyBytes-len(key))))
				}
				return key
			}
			for round := range 60 {
				var tx keystore.Tx
				tx.Scrub = round%5 == 4
				keys := slices.Sorted(maps.Keys(present))
				from := 0
				if len(keys) > 0 {
					from = random.IntN(len(keys))
				}
				deletes := random.IntN(keystore.MaxTxOps)
				if round < 10 {
					deletes /= 4
				}
				for _, key := range keys[from:min(len(keys), from+deletes)] { // neighbors, so that leaves empty
					tx.Deletes = append(tx.Deletes, key)
					delete(present, key)
				}
				for range random.IntN(keystore.MaxTxOps - len(tx.Deletes) + 1) {
					key := name(random.IntN(10_000))
					if _, ok := present[key]; ok || slices.Contains(tx.Deletes, key) {
						continue
					}
					value := bytes.Repeat([]byte{byte(random.Int())}, random.IntN(200))
					if random.IntN(50) == 0 {
						value = make([]byte, random.IntN(20_000))
					}
					tx.Puts = append(tx.Puts, keystore.Put{Key: key, Value: value})
					present[key] = value
				}
				_, err := b.Commit(ctx, tx)
				require.NoError(t, err)
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				for _, leavesUpTo := range []uint64{0, math.MaxUint64} {
					_, _, err = inspect(bytes.NewReader(data), int64(len(data)), leavesUpTo)
					require.NoError(t, err)
				}
				if len(tx.Deletes) > 0 && tx.Scrub {
					require.Equal(t, countNames(present), countKeys(data), "round %d", round)
				}
			}
			records, err := b.Scan(ctx, "", "", 100_000)
			require.NoError(t, err)
			require.Len(t, records, len(present))
			for _, record := range records {
				require.True(t, bytes.Equal(present[record.Key], record.Value))
			}
		})
	}
}

// countKeys returns how many different keys are anywhere in a file.
func countKeys(data []byte) int {
	found := map[string]bool{}
	for rest := data; ; {
		i := bytes.Index(rest, []byte("<key "))
		if i < 0 {
			return len(found)
		}
		found[string(rest[i:i+len("<key 0000>")])] = true
		rest = rest[i+1:]
	}
}

func countNames(present map[string][]byte) int {
	names := map[string]bool{}
	for key := range present {
		names[key[:len("<key 0000>")]] = true
	}
	return len(names)
}
