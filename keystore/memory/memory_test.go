package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackend(t *testing.T) {
	keystoretest.Run(t, func(testing.TB) keystore.Backend { return memory.New() })
}

// Enough records, in an order of no use, that chunks are split and emptied.
func TestManyRecordsStaySorted(t *testing.T) {
	ctx := context.Background()
	b := memory.New()
	const n = 5000
	var want []string
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		key := fmt.Sprintf("%05d", i)
		_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: key, Value: []byte(key)}}})
		require.NoError(t, err)
		want = append(want, key)
	}
	slices.Sort(want)
	for i := 0; i < n; i++ {
		if i/1500 == 1 { // a run of whole chunks
			_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{fmt.Sprintf("%05d", i)}})
			require.NoError(t, err)
		}
	}
	want = append(want[:1500:1500], want[3000:]...)
	records, err := b.Scan(ctx, "", "", n+1)
	require.NoError(t, err)
	var got []string
	for _, r := range records {
		got = append(got, r.Key)
		require.Equal(t, r.Key, string(r.Value))
		one, err := b.Get(ctx, r.Key)
		require.NoError(t, err)
		require.Equal(t, r, one)
	}
	require.Equal(t, want, got)
}

func TestOldChangesAreCompacted(t *testing.T) {
	ctx := context.Background()
	b := memory.New()
	var last keystore.Revision
	for range 3 * 4096 {
		revision, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a"}}})
		require.NoError(t, err)
		last = revision
	}
	for _, err := range b.Watch(ctx, 0) {
		require.ErrorIs(t, err, keystore.ErrCompacted)
	}
	next := last - 4096
	for event, err := range b.Watch(ctx, last-4096) {
		require.NoError(t, err)
		next++
		require.Equal(t, next, event.Revision)
		if event.Revision == last {
			break
		}
	}
}
