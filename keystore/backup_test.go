package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

var sharedRoot = keystoretest.RootKey()

// bare hides the Snapshot of a Backend.
type bare struct{ keystore.Backend }

// filled returns a backend with a store of several transactions of records.
func filled(tb testing.TB) *memory.Backend {
	b := memory.New()
	s := open(tb, b, sharedRoot)
	for i := range 3 * keystore.MaxTxOps {
		put(tb, s, fmt.Sprintf("record %03d", i), fmt.Sprint("value ", i))
	}
	put(tb, s, "large", string(make([]byte, keystore.MaxValueBytes-sealOverheadBytes)))
	put(tb, s, "larger", string(make([]byte, keystore.MaxValueBytes-sealOverheadBytes)))
	return b
}

// contents returns all records of a backend, with their revisions set to 0.
func contents(tb testing.TB, b keystore.Backend) []keystore.Record {
	tb.Helper()
	records, err := b.Scan(ctx, "", "", 1_000_000)
	require.NoError(tb, err)
	for i := range records {
		records[i].Revision = 0
	}
	return records
}

func backup(tb testing.TB, b keystore.Backend) []byte {
	tb.Helper()
	var w bytes.Buffer
	require.NoError(tb, keystore.Backup(ctx, &w, b))
	return w.Bytes()
}

func TestACopyHasAllRecordsAndOpens(t *testing.T) {
	from := filled(t)
	for name, source := range map[string]keystore.Backend{"snapshots": from, "scans": bare{from}} {
		t.Run(name, func(t *testing.T) {
			to := memory.New()
			require.NoError(t, keystore.Copy(ctx, to, source))
			require.Equal(t, contents(t, from), contents(t, to))
			require.Equal(t, "value 7", get(t, open(t, to, sharedRoot), "record 007"))
		})
	}
}

func TestARestoredBackupHasAllRecordsAndOpens(t *testing.T) {
	from := filled(t)
	for name, source := range map[string]keystore.Backend{"snapshots": from, "scans": bare{from}} {
		t.Run(name, func(t *testing.T) {
			to := memory.New()
			reported := 0
			r := iotest.HalfReader(bytes.NewReader(backup(t, source)))
			require.NoError(t, keystore.Restore(ctx, to, r, func(n int) { reported = n }))
			require.Equal(t, contents(t, from), contents(t, to))
			require.Len(t, contents(t, to), 1+reported)
			require.Equal(t, "value 7", get(t, open(t, to, sharedRoot), "record 007"))
		})
	}
}

// Every later version restores a backup of version 1. The file never changes.
func TestGoldenBackupIsRestored(t *testing.T) {
	require.Equal(t, golden(t, "backup-1.hex"), backup(t, goldenBackend(t)))
	n, err := keystore.VerifyBackup(ctx, bytes.NewReader(golden(t, "backup-1.hex")))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	b := memory.New()
	require.NoError(t, keystore.Restore(ctx, b, bytes.NewReader(golden(t, "backup-1.hex")), nil))
	require.Equal(t, "golden value", get(t, open(t, b, keystore.Passphrase([]byte(goldenPassphrase))), "golden/record"))
}

func TestOnlyAnEmptyBackendIsFilled(t *testing.T) {
	from := filled(t)
	to := memory.New()
	put(t, to, "a", "b")
	require.ErrorIs(t, keystore.Copy(ctx, to, from), keystore.ErrNotEmpty)
	require.ErrorIs(t, keystore.Restore(ctx, to, bytes.NewReader(backup(t, from)), nil), keystore.ErrNotEmpty)
	require.Equal(t, []keystore.Record{{Key: "a", Value: []byte("b")}}, contents(t, to))
}

func TestThereIsNothingToCopy(t *testing.T) {
	empty, headless := memory.New(), memory.New()
	put(t, headless, "a", "b")
	for want, from := range map[error]keystore.Backend{keystore.ErrNoStore: empty, keystore.ErrCorrupt: headless} {
		to := memory.New()
		require.ErrorIs(t, keystore.Copy(ctx, to, from), want)
		require.ErrorIs(t, keystore.Backup(ctx, io.Discard, from), want)
		_, err := to.Get(ctx, headerKey)
		require.ErrorIs(t, err, keystore.ErrNotFound)
	}
}

func TestEveryCutBackupIsRefused(t *testing.T) {
	whole := backup(t, goldenBackend(t))
	for n := range whole {
		requireRefused(t, whole[:n], "cut after %d bytes", n)
	}
	requireRefused(t, append(bytes.Clone(whole), 0), "a byte more")
	requireRefused(t, append(bytes.Clone(whole), whole...), "twice")
}

func TestEveryFlippedBitOfABackupIsRefused(t *testing.T) {
	whole := backup(t, goldenBackend(t))
	for i := range 8 * len(whole) {
		flipped := bytes.Clone(whole)
		flipped[i/8] ^= 1 << (i % 8)
		requireRefused(t, flipped, "bit %d", i)
	}
}

// requireRefused requires that a backup is refused, and that what it leaves is no store.
func requireRefused(t *testing.T, backup []byte, format string, arguments ...any) {
	t.Helper()
	to := memory.New()
	err := keystore.Restore(ctx, to, bytes.NewReader(backup), nil)
	if !errors.Is(err, keystore.ErrNewerVersion) {
		require.ErrorIs(t, err, keystore.ErrBackup, fmt.Sprintf(format, arguments...))
	}
	_, verified := keystore.VerifyBackup(ctx, bytes.NewReader(backup))
	require.Equal(t, err, verified)
	_, err = to.Get(ctx, headerKey)
	require.ErrorIs(t, err, keystore.ErrNotFound, fmt.Sprintf(format, arguments...))
}

func TestABackupIsReadToItsEndAndNoFurther(t *testing.T) {
	whole := backup(t, goldenBackend(t))
	broken := errors.New("broken")
	for _, n := range []int{0, 5, 6, 20, len(whole) - 1, len(whole)} {
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		require.ErrorIs(t, keystore.Restore(ctx, memory.New(), r, nil), broken, n)
	}
}

// limited is a Writer with room for n bytes.
type limited struct{ n int }

var errNoRoom = errors.New("no room")

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		return l.n, errNoRoom
	}
	l.n -= len(p)
	return len(p), nil
}

func TestAFailureToWriteABackupIsReturned(t *testing.T) {
	from := filled(t)
	for _, n := range []int{0, 10_000, 1_000_000, len(backup(t, from)) - 1} {
		require.ErrorIs(t, keystore.Backup(ctx, &limited{n}, from), errNoRoom, n)
	}
	require.NoError(t, keystore.Backup(ctx, &limited{len(backup(t, from))}, from))
}

// full is a Backend that takes only some commits.
type full struct {
	keystore.Backend
	commits int
}

func (f *full) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if f.commits--; f.commits < 0 {
		return 0, keystore.ErrFull
	}
	return f.Backend.Commit(ctx, tx)
}

func TestAnInterruptedCopyIsNoStore(t *testing.T) {
	from := filled(t)
	whole := backup(t, from)
	for commits := range 5 {
		for name, fill := range map[string]func(keystore.Backend) error{
			"copy":    func(b keystore.Backend) error { return keystore.Copy(ctx, b, from) },
			"restore": func(b keystore.Backend) error { return keystore.Restore(ctx, b, bytes.NewReader(whole), nil) },
		} {
			to := memory.New()
			require.ErrorIs(t, fill(&full{to, commits}), keystore.ErrFull, name)
			_, err := keystore.OpenExisting(ctx, to, sharedRoot)
			require.Error(t, err, name)
			if commits > 0 {
				_, err = keystore.Open(ctx, to, sharedRoot)
				require.ErrorIs(t, err, keystore.ErrCorrupt, name)
				require.ErrorIs(t, fill(to), keystore.ErrNotEmpty, name)
			}
		}
	}
}

func TestAChangeDuringACopyByScansIsNoticed(t *testing.T) {
	b := filled(t)
	from := &meddling{Backend: b, meddle: func() { put(t, b, "meddling", "value") }}
	require.ErrorIs(t, keystore.Copy(ctx, memory.New(), bare{from}), keystore.ErrConflict)
	require.NoError(t, keystore.Copy(ctx, memory.New(), bare{b}))
}

func TestAForgedBackupOutOfOrderIsRefused(t *testing.T) {
	b := filled(t)
	records := contents(t, b)
	slices.Reverse(records[1:])
	var w bytes.Buffer
	require.NoError(t, keystore.Backup(ctx, &w, unordered{b, records}))
	require.ErrorIs(t, keystore.Restore(ctx, memory.New(), &w, nil), keystore.ErrBackup)
	require.ErrorIs(t, keystore.Copy(ctx, memory.New(), unordered{b, records}), keystore.ErrCorrupt)
}

type unordered struct {
	keystore.Backend
	records []keystore.Record
}

func (u unordered) Snapshot(context.Context) iter.Seq2[keystore.Record, error] {
	return func(yield func(keystore.Record, error) bool) {
		for _, r := range u.records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestACancelledBackupEnds(t *testing.T) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	b := filled(t)
	for _, from := range []keystore.Backend{b, bare{b}} {
		require.ErrorIs(t, keystore.Backup(cancelled, io.Discard, from), context.Canceled)
		require.ErrorIs(t, keystore.Copy(cancelled, memory.New(), from), context.Canceled)
	}
	require.NoError(t, b.Close())
	for _, from := range []keystore.Backend{b, bare{b}} {
		require.ErrorIs(t, keystore.Backup(ctx, io.Discard, from), keystore.ErrClosed)
	}
}
