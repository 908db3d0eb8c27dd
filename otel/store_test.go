package otel_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
	kmsotel "github.com/pocketkms/kms/otel"
)

func instrumented(t testing.TB, r *telemetry, backend keystore.Backend) keystore.Backend {
	config := kms.Config{Backend: backend}
	require.NoError(t, kmsotel.Instrument(&config, r.Options))
	return config.Backend
}

func TestAnInstrumentedBackendIsABackend(t *testing.T) {
	r := newTelemetry(t)
	keystoretest.Run(t, func(tb testing.TB) keystore.Backend { return instrumented(tb, r, memory.New()) })
}

// A broken backend is neither a Pinger nor Volatile.
type broken struct {
	keystore.Backend
	err error // of Commit
}

func (b *broken) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if b.err != nil && len(tx.Puts) > 0 {
		return 0, b.err
	}
	return b.Backend.Commit(ctx, tx)
}

func TestAnInstrumentedBackendHasTheOptionalMethods(t *testing.T) {
	r := newTelemetry(t)
	require.True(t, instrumented(t, r, memory.New()).(keystore.Volatile).Volatile())
	require.False(t, instrumented(t, r, &broken{}).(keystore.Volatile).Volatile())
	require.NoError(t, instrumented(t, r, &broken{}).(keystore.Pinger).Ping(t.Context()))
	ping := errors.New("the disk is gone")
	pinged := new(pinger)
	pinged.ping.Store(&ping)
	require.Equal(t, ping, instrumented(t, r, pinged).(keystore.Pinger).Ping(t.Context()))
}

type pinger struct {
	keystore.Backend
	ping atomic.Pointer[error] // what Ping returns
}

func (p *pinger) Ping(context.Context) error {
	if err := p.ping.Load(); err != nil {
		return *err
	}
	return nil
}

func TestCommitsAreCountedByTheirResult(t *testing.T) {
	r := newTelemetry(t)
	inner := &broken{Backend: memory.New()}
	b := instrumented(t, r, inner)
	put := keystore.Tx{Puts: []keystore.Put{{Key: "a"}}, Expect: []keystore.Expectation{{Key: "a"}}}
	_, err := b.Commit(t.Context(), put)
	require.NoError(t, err)
	_, err = b.Commit(t.Context(), put)
	require.ErrorIs(t, err, keystore.ErrConflict)
	inner.err = errors.New("the disk is full")
	_, err = b.Commit(t.Context(), put)
	require.ErrorIs(t, err, inner.err)
	_, err = b.Commit(t.Context(), keystore.Tx{})
	require.NoError(t, err)
	_, err = b.Get(t.Context(), "a")
	require.NoError(t, err)
	_, err = b.Scan(t.Context(), "", "", 1)
	require.NoError(t, err)
	r.requireValues(map[string]int64{
		"kms.store.commits{engine=otel_test,result=ok}":         1,
		"kms.store.commits{engine=otel_test,result=conflict}":   1,
		"kms.store.commits{engine=otel_test,result=error}":      1,
		"kms.store.commit.duration{engine=otel_test}":           3,
		"kms.store.read.duration{engine=otel_test,method=get}":  1,
		"kms.store.read.duration{engine=otel_test,method=scan}": 1,
	})
	require.NoError(t, b.Close())
}

func TestEventsAreCounted(t *testing.T) {
	r := newTelemetry(t)
	var failure error
	svc := r.newService(kms.Config{Logger: slog.New(slog.DiscardHandler), Audit: audit.SinkFunc(func(context.Context, *audit.Event) error { return failure })})
	_, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	r.requireValues(map[string]int64{"kms.audit.events{}": 1, "kms.audit.failures{}": 0})
	failure = errors.New("the disk is full")
	_, err = svc.ListKeys(t.Context(), nil)
	require.ErrorIs(t, err, kms.KMSInternalException)
	r.requireValues(map[string]int64{"kms.audit.events{}": 1, "kms.audit.failures{}": 1, "kms.audit.duration{}": 2})
}

// A syncing sink is a Syncer and a Borrower.
type syncing struct {
	audit.Sink
	err error
}

func (s syncing) Sync(context.Context) error { return s.err }
func (s syncing) BorrowsEvents() bool        { return true }

func TestAnInstrumentedSinkHasTheOptionalMethods(t *testing.T) {
	r := newTelemetry(t)
	sink := func(inner audit.Sink) audit.Sink {
		config := kms.Config{Audit: inner}
		require.NoError(t, kmsotel.Instrument(&config, r.Options))
		return config.Audit
	}
	plain := sink(audit.SinkFunc(func(context.Context, *audit.Event) error { return nil }))
	require.False(t, plain.(audit.Borrower).BorrowsEvents())
	require.NoError(t, plain.(audit.Syncer).Sync(t.Context()))
	failure := errors.New("the disk is full")
	full := sink(syncing{audit.Discard, failure})
	require.True(t, full.(audit.Borrower).BorrowsEvents())
	require.Equal(t, failure, full.(audit.Syncer).Sync(t.Context()))
	r.requireValues(map[string]int64{"kms.audit.failures{}": 1})
}

func TestGaugesAreReadFromTheService(t *testing.T) {
	r := newTelemetry(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	svc := r.newService(kms.Config{Clock: func() time.Time { return now }, Limits: kms.Limits{KeysPerRegion: 9}})
	const where = "{account=111122223333,region=us-east-1}"
	k := createKey(t, svc, nil)
	createKey(t, svc, nil)
	r.requireValues(map[string]int64{"kms.keys" + where: 2, "kms.keys.quota" + where: 9, "kms.store.up{}": 1})
	require.NotContains(t, r.values(), "kms.key.deletion.next.timestamp{}")
	_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: new(int32(7))})
	require.NoError(t, err)
	r.requireValues(map[string]int64{"kms.key.deletion.next.timestamp{}": now.Add(7 * 24 * time.Hour).Unix()})
	require.NotContains(t, r.values(), "kms.imported_key_material.expiration.timestamp{}")
	importExpiring(t, svc, now.Add(48*time.Hour))
	r.requireValues(map[string]int64{"kms.imported_key_material.expiration.timestamp{}": now.Add(48 * time.Hour).Unix()})
}

func TestAStoreThatIsLostIsSeen(t *testing.T) {
	r := newTelemetry(t)
	store := &pinger{Backend: memory.New()}
	svc := r.newService(kms.Config{Backend: volatile{store}, RootKey: keystore.Ephemeral()})
	r.requireValues(map[string]int64{"kms.store.up{}": 1})
	lost := errors.New("the disk is gone")
	store.ping.Store(&lost)
	r.requireValues(map[string]int64{"kms.store.up{}": 0})
	require.NoError(t, svc.Close())
}

type volatile struct{ *pinger }

func (volatile) Volatile() bool { return true }

func TestClosingEndsTheGauges(t *testing.T) {
	r := newTelemetry(t)
	svc := r.newService(kms.Config{})
	require.Contains(t, r.values(), "kms.store.up{}")
	done := make(chan struct{})
	go func() { // while metrics are collected
		defer close(done)
		var all metricdata.ResourceMetrics
		for range 100 {
			if err := r.reader.Collect(context.Background(), &all); err != nil {
				t.Error(err)
			}
		}
	}()
	require.NoError(t, svc.Close())
	<-done
	require.NotContains(t, r.values(), "kms.store.up{}")
	require.ErrorIs(t, svc.Ping(t.Context()), kms.ErrClosed)
}

func TestAServiceThatIsNotMadeLeavesNoGauges(t *testing.T) {
	r := newTelemetry(t)
	_, err := kmsotel.New(kms.Config{Account: "1"}, r.Options)
	require.ErrorContains(t, err, "not 12 digits")
	require.NotContains(t, r.values(), "kms.store.up{}")
}

func TestOpenIsOpenOfPackageKMS(t *testing.T) {
	r := newTelemetry(t)
	path := filepath.Join(t.TempDir(), "keys")
	root := keystoretest.RootKey()
	svc, err := kmsotel.Open(path, root, kms.Config{}, r.Options)
	require.NoError(t, err)
	createKey(t, svc, nil)
	values := r.values()
	require.NotZero(t, values["kms.store.commits{engine=bolt,result=ok}"])
	_, err = kmsotel.Open(path, root, kms.Config{}, r.Options)
	require.ErrorIs(t, err, keystore.ErrLocked)
	require.NoError(t, svc.Close())

	_, err = kmsotel.Open(path, keystoretest.RootKey(), kms.Config{}, r.Options)
	require.ErrorIs(t, err, keystore.ErrRootKey)
	require.ErrorContains(t, err, path)
	svc, err = kms.Open(path, root, kms.Config{})
	require.NoError(t, err, "the file was closed")
	require.NoError(t, svc.Close())

	_, err = kmsotel.Open(path, nil, kms.Config{}, r.Options)
	require.ErrorContains(t, err, "needs a root key")
	_, err = kmsotel.Open(path, root, kms.Config{Backend: memory.New()}, r.Options)
	require.ErrorContains(t, err, "takes no Backend")
}
