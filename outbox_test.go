package kms_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

func TestRotationAndDeletionAreServiceEvents(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	check := func(e *audit.Event, name string, at time.Time) {
		t.Helper()
		require.Equal(t, name, e.EventName)
		require.Equal(t, audit.ServiceEvent, e.EventType)
		require.Equal(t, &audit.UserIdentity{AccountID: "111122223333", InvokedBy: audit.AWSInternal}, e.UserIdentity)
		require.Equal(t, []audit.Resource{{AccountID: "111122223333", Type: audit.KeyResource, ARN: f.symmetric.Arn}}, e.Resources)
		require.Equal(t, at, e.EventTime)
		require.Regexp(t, uuid, e.EventID)
		require.Empty(t, e.RequestID)
		require.Zero(t, e.RequestParameters)
		require.Zero(t, e.ResponseElements)
	}
	first := f.symmetric.CurrentKeyMaterialId

	s.take()
	_, err := f.svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: f.symmetric.KeyId})
	require.NoError(t, err)
	events := s.take()
	require.Len(t, events, 2)
	check(events[0], "RotateKey", f.clock.Now())
	require.Equal(t, "RotateKeyOnDemand", events[1].EventName)
	second := describe(t, f.svc, f.symmetric.KeyId).CurrentKeyMaterialId
	require.Equal(t, map[string]any{"keyId": f.symmetric.KeyId, "keyOrigin": "AWS_KMS", "rotationType": "ON_DEMAND",
		"previousKeyMaterialId": first, "currentKeyMaterialId": second}, events[0].ServiceEventDetails.Map())

	_, err = f.svc.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: f.symmetric.KeyId, RotationPeriodInDays: new(int32(90))})
	require.NoError(t, err)
	f.clock.Move(90 * day)
	s.take()
	third := describe(t, f.svc, f.symmetric.KeyId).CurrentKeyMaterialId
	events = s.take()
	require.Len(t, events, 2)
	check(events[0], "RotateKey", f.clock.Now())
	require.Equal(t, map[string]any{"keyId": f.symmetric.KeyId, "keyOrigin": "AWS_KMS", "rotationType": "AUTOMATIC",
		"previousKeyMaterialId": second, "currentKeyMaterialId": third}, events[0].ServiceEventDetails.Map())

	scheduleDeletion(t, f.svc, f.symmetric.KeyId, 7)
	f.clock.Move(7 * day)
	s.take()
	_, err = f.svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: f.symmetric.KeyId})
	require.ErrorIs(t, err, kms.NotFoundException)
	events = s.take()
	require.Len(t, events, 2)
	check(events[0], "DeleteKey", f.clock.Now())
}

// What the service does by itself is no fault of the call that meets it. Its
// event waits in the store, also for another process, until a sink takes it.
func TestAServiceEventThatTheSinkRefusesIsDeliveredLater(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	refusing := new(trail)
	refusals, refused := 0, map[string]bool{} // each may be offered again meanwhile
	refusing.failWith(func(e *audit.Event) error {
		if e.EventType != audit.ServiceEvent {
			return nil
		}
		refused[e.EventName+" "+e.EventID.String()] = true
		switch refusals++; refusals {
		case 1:
			return &kms.Error{Code: kms.DisabledException, Message: "theirs"}
		case 2:
			panic("no")
		}
		return keystore.ErrConflict
	})
	svc := openService(t, path, clock, func(c *kms.Config) { c.Audit = refusing })
	keep, end := createKey(t, svc, nil), createKey(t, svc, nil)
	_, err := svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: keep.KeyId})
	require.NoError(t, err)
	_, err = svc.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: keep.KeyId, RotationPeriodInDays: new(int32(90))})
	require.NoError(t, err)
	scheduleDeletion(t, svc, end.KeyId, 7)
	clock.Move(180 * day)
	require.Len(t, rotationDates(t, svc, keep.KeyId), 3)
	_, err = svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: end.KeyId})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.Len(t, refused, 4)
	rotate := refusing.take()[2]
	require.Equal(t, "RotateKeyOnDemand", rotate.EventName)
	require.Empty(t, rotate.ErrorCode, "it has rotated")
	require.NoError(t, svc.Close())

	events := make(chan string, len(refused))
	openService(t, path, clock, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
			require.Equal(t, audit.ServiceEvent, e.EventType)
			events <- e.EventName + " " + e.EventID.String()
			return nil
		})
	})
	delivered := map[string]bool{}
	for range refused {
		delivered[<-events] = true
	}
	require.Equal(t, refused, delivered)
}

// A syncer notes what is recorded and synced, in that order, and fails as it is told to.
type syncer struct {
	trail
	calls    []string
	syncFail error
}

func (s *syncer) Record(ctx context.Context, e *audit.Event) error {
	if e.EventType == audit.ServiceEvent {
		s.calls = append(s.calls, "record")
	}
	return s.trail.Record(ctx, e)
}

func (s *syncer) Sync(context.Context) error {
	s.calls = append(s.calls, "sync")
	return s.syncFail
}

// An event's record leaves the store only after the sink has made the event durable.
func TestAServiceEventIsSyncedBeforeItLeavesTheStore(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	sink := &syncer{syncFail: errors.New("disk full")}
	svc := openService(t, path, clock, func(c *kms.Config) { c.Audit = sink })
	key := createKey(t, svc, nil)
	_, err := svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	require.NoError(t, err)
	require.Equal(t, []string{"record", "sync"}, sink.calls)
	require.NoError(t, svc.Close())

	delivered := make(chan audit.UUID, 1)
	openService(t, path, clock, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error { delivered <- e.EventID; return nil })
	})
	require.Equal(t, sink.take()[1].EventID, <-delivered, "it has waited in the store")
}
