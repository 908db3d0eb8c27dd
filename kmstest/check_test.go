package kmstest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/keystore"
)

// reported is a test that remembers its errors and its cleanup.
type reported struct {
	testing.TB
	errors  []string
	cleanup func()
}

func (r *reported) Cleanup(f func()) { r.cleanup = f }
func (r *reported) Errorf(format string, arguments ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, arguments...))
}

func TestTheStoreIsCheckedAtTheEndOfTheTest(t *testing.T) {
	t.Parallel()
	r := &reported{TB: t}
	svc := New(r)
	_, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	fork := svc.Fork(t)

	records, err := svc.sim.store.Scan(t.Context(), "", "", 100)
	require.NoError(t, err)
	for _, record := range records {
		if keydb.KindOf(record.Key) == keydb.KeyKind {
			_, err := svc.sim.store.Commit(t.Context(), keystore.Tx{Deletes: []string{record.Key}})
			require.NoError(t, err)
		}
	}
	r.cleanup()
	require.Len(t, r.errors, 2)
	require.Regexp(t, `^kmstest: the key store is damaged: .*counts 1 keys, but there are 0$`, r.errors[0])
	require.Regexp(t, `^kmstest: the key store is damaged: .*belongs to a key that does not exist$`, r.errors[1])

	_, err = fork.CreateKey(t.Context(), nil) // so that t checks the fork, which is undamaged
	require.NoError(t, err)
}

func TestAForkIsCheckedIfItHasChanged(t *testing.T) {
	t.Parallel()
	svc := New(t)
	require.True(t, svc.sim.store.needsCheck())
	_, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	fork := svc.Fork(t)
	require.False(t, fork.sim.store.needsCheck())
	_, err = fork.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, fork.sim.store.needsCheck())
}

func TestAClosedServiceIsNotChecked(t *testing.T) {
	t.Parallel()
	r := &reported{TB: t}
	svc := New(r)
	require.NoError(t, svc.Close())
	r.cleanup()
	require.Empty(t, r.errors)
}
