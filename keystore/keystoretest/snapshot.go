package keystoretest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// snapshotsOfAll tests a keystore.Snapshotter; other backends have nothing to do here. It changes
// records while it takes those of the snapshot, which must neither show the change nor hold it up.
func snapshotsOfAll(tb testing.TB, b *backend) {
	s, ok := b.Backend.(keystore.Snapshotter)
	if !ok {
		return
	}
	for range s.Snapshot(ctx) {
		require.Fail(tb, "the snapshot of an empty store has something")
	}
	var want []keystore.Record
	for i := range 300 {
		key, value := fmt.Sprintf("%03d", i), fmt.Sprint(i)
		want = append(want, keystore.Record{Key: key, Value: []byte(value), Revision: b.put(key, value)})
	}
	var got []keystore.Record
	for record, err := range s.Snapshot(ctx) {
		require.NoError(tb, err)
		if got = append(got, record); len(got) == 1 {
			b.put("250", "changed")
			b.put("3", "new")
			b.commit(keystore.Tx{Deletes: []string{"000", "200"}})
		}
	}
	require.Equal(tb, want, got)

	for range s.Snapshot(ctx) {
		break // which must free what the snapshot holds
	}
	done, cancel := context.WithCancel(ctx)
	n := 0
	for _, err := range s.Snapshot(done) {
		if cancel(); err != nil {
			require.ErrorIs(tb, err, context.Canceled)
		}
		n++
	}
	cancel()
	require.LessOrEqual(tb, n, 300)
}
