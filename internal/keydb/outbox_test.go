package keydb

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

// An outboxFixture has a sink that calls a function of the test.
type outboxFixture struct {
	*fixture
	key  Ref
	sink func(*audit.Event) error
}

func newOutboxFixture(t *testing.T) *outboxFixture {
	f := &outboxFixture{fixture: newFixture(t)}
	f.config.Sink = audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
		if f.sink != nil {
			return f.sink(e)
		}
		return nil
	})
	f.key = f.create().Ref
	return f
}

func (f *outboxFixture) rotate() {
	f.t.Helper()
	_, err := f.RotateOnDemand(f.t.Context(), f.fixture.key(f.key), f.now)
	require.NoError(f.t, err)
}

func (f *outboxFixture) requireWaiting(want int) {
	f.t.Helper()
	require.Len(f.t, f.recordNames(eventPrefix), want)
}

func TestAnEventStaysInTheStoreUntilTheSinkHasIt(t *testing.T) {
	f := newOutboxFixture(t)
	f.rotate()
	f.requireWaiting(0)
	refused := errors.New("refused")
	f.sink = func(*audit.Event) error { return refused }
	f.rotate()
	f.rotate()
	f.requireWaiting(2)
	require.ErrorIs(t, f.deliverStored(t.Context()), refused)
	f.requireWaiting(2)
	f.sink = nil
	require.NoError(t, f.deliverStored(t.Context()))
	f.requireWaiting(0)
}

func TestAnEventThatCannotBeDeliveredDoesNotHoldUpOthers(t *testing.T) {
	f := newOutboxFixture(t)
	var offered []string
	f.sink = func(e *audit.Event) error {
		offered = append(offered, e.EventID.String())
		return errors.New("refused")
	}
	for range 6 {
		f.rotate()
	}
	first := offered[0]
	f.commit(keystore.Tx{Puts: []keystore.Put{{Key: eventPrefix + "000000000001", Value: []byte("\x03newer")}}})
	f.damage(eventPrefix + "000000000000")

	offered = nil
	require.Error(t, f.deliverStored(t.Context()))
	require.Len(t, offered, maxRefusals, "by then the sink is at fault")
	f.sink = func(e *audit.Event) error {
		if e.EventID.String() == first {
			return errors.New("not this one")
		}
		return nil
	}
	err := f.deliverStored(t.Context())
	require.ErrorContains(t, err, "not this one")
	require.ErrorIs(t, err, keystore.ErrCorrupt)
	require.ErrorIs(t, err, keystore.ErrNewerVersion)
	f.requireWaiting(3)
}

func TestAnEventIsDeliveredOnce(t *testing.T) {
	f := newOutboxFixture(t)
	times := 0
	f.sink = func(*audit.Event) error {
		times++
		return f.deliverStored(context.Background()) // a sweep at this moment leaves it to the call
	}
	f.rotate()
	require.Equal(t, 1, times)

	f.backend.before(func(tx keystore.Tx) error { // its record cannot be deleted
		if len(tx.Puts) == 0 {
			return keystore.ErrFull
		}
		return nil
	})
	f.rotate()
	f.requireWaiting(1)
	for range 2 {
		require.ErrorIs(t, f.deliverStored(t.Context()), keystore.ErrFull)
	}
	f.backend.before(nil)
	require.NoError(t, f.deliverStored(t.Context()))
	f.requireWaiting(0)
	require.Equal(t, 2, times)
}

func TestAPanickingSinkIsARefusal(t *testing.T) {
	f := newOutboxFixture(t)
	f.sink = func(*audit.Event) error { panic("a defect of the sink") }
	f.rotate()
	f.requireWaiting(1)
	f.sink = nil
	require.NoError(t, f.deliverStored(t.Context()))
	f.requireWaiting(0)
}

func TestEventsAreDeliveredInTheirOrder(t *testing.T) {
	f := newOutboxFixture(t)
	f.sink = func(*audit.Event) error { return errors.New("refused") }
	f.rotate()
	f.rotate()
	_, err := f.Update(t.Context(), f.fixture.key(f.key), func(r *Record) { r.Rotation = &Rotation{PeriodInDays: 90, Next: hour(90 * 24)} })
	require.NoError(t, err)
	f.now = hour(10 * 100 * 24)
	k := f.fixture.key(f.key)
	require.Len(t, k.Materials, 1+2+11)
	var order []string
	f.sink = func(e *audit.Event) error {
		order = append(order, e.ServiceEventDetails.Get("currentKeyMaterialId").String())
		return nil
	}
	require.NoError(t, f.deliverStored(t.Context()))
	for i, m := range k.Materials[1:] {
		require.Equal(t, m.ID, order[i])
	}
}

func TestKeyEventsAreDeliveredBesideAuditEvents(t *testing.T) {
	f := newOutboxFixture(t)
	var events []*audit.KeyEvent
	var refusal error
	f.config.KeyEvents = func(_ context.Context, e *audit.KeyEvent) error { events = append(events, e); return refusal }
	f.rotate()
	k := f.fixture.key(f.key)
	require.Len(t, events, 1)
	require.Equal(t, audit.KeyEvent{
		ID: events[0].ID, DetailType: audit.KeyRotation, Account: k.Account, Time: f.now, Region: k.Region, Resources: []string{k.ARN},
		Detail: audit.KeyEventDetail{
			KeyID: k.ID, KeyOrigin: originKMS, RotationType: rotationOnDemand,
			PreviousKeyMaterialID: k.Materials[0].ID, CurrentKeyMaterialID: k.Materials[1].ID,
		},
	}, *events[0])
	require.Empty(t, f.recordNames(keyEventPrefix))

	refusal = errors.New("refused")
	f.schedule(k.Ref, hour(24))
	f.now = hour(24)
	require.NoError(t, f.destroyDue(t.Context()))
	f.requireWaiting(0)
	require.Len(t, f.recordNames(keyEventPrefix), 1, "the audit sink has its own")
	require.ErrorIs(t, f.deliverStored(t.Context()), refusal)
	refusal = nil
	require.NoError(t, f.deliverStored(t.Context()))
	require.Empty(t, f.recordNames(keyEventPrefix))
	require.Len(t, events, 4)
	for _, e := range events[1:] {
		require.Equal(t, audit.KeyEvent{
			ID: events[1].ID, DetailType: audit.KeyDeletion, Account: k.Account, Time: f.now, Region: k.Region, Resources: []string{k.ARN},
			Detail: audit.KeyEventDetail{KeyID: k.ID},
		}, *e)
	}
}

func TestKeyEventsNeedNoAuditSink(t *testing.T) {
	f := newFixture(t)
	var types []string
	f.config.KeyEvents = func(_ context.Context, e *audit.KeyEvent) error {
		types = append(types, e.DetailType+" "+e.Detail.KeyMaterialID)
		panic("a defect of the receiver")
	}
	k := f.create()
	events := outbox{db: f.DB}
	var tx keystore.Tx
	events.add(&tx, "DeleteExpiredKeyMaterial", k, f.now, map[string]any{"keyId": k.ID, "keyMaterialId": k.Current().ID})
	f.commit(tx)
	events.deliver(t.Context())
	events.close()
	require.Len(t, f.recordNames(keyEventPrefix), 1)
	require.Empty(t, f.recordNames(eventPrefix))
	f.config.KeyEvents = nil
	require.NoError(t, f.deliverStored(t.Context()))
	require.Len(t, f.recordNames(keyEventPrefix), 1, "it waits for a receiver")
	require.Equal(t, []string{"KMS Imported Key Material Expiration " + k.Current().ID}, types)
}

// With two events for each, the most rotations and deletions at once fit in a transaction.
func TestTheLargestChangesFitInATransactionWithTheirEvents(t *testing.T) {
	f := newOutboxFixture(t)
	f.config.KeyEvents = func(context.Context, *audit.KeyEvent) error { return nil }
	_, err := f.Update(t.Context(), f.fixture.key(f.key), func(r *Record) { r.Rotation = &Rotation{PeriodInDays: 90, Next: hour(90 * 24)} })
	require.NoError(t, err)
	f.now = hour(90 * 100 * 24)
	require.Len(t, f.fixture.key(f.key).Materials, 1+maxRotationsAtOnce)
	for range destroyKeys {
		k := f.create()
		for i := range destroyOps/2 - 1 {
			f.alias("alias/"+k.ID+string(rune('a'+i)), k)
		}
		f.schedule(k.Ref, f.now)
	}
	require.NoError(t, f.destroyDue(t.Context()))
	require.Len(t, f.recordNames(keyPrefix), 1)
}
