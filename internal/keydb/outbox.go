package keydb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/uuid"
	"github.com/pocketkms/kms/keystore"
)

// An outbox holds the events of what one change does on its own: rotations, expirations and
// deletions. Each is an event for the audit sink and one for the receiver of key events. They are
// stored with the change, and stay in the store until they have been received: neither a refusal
// nor a killed process loses one. One may be delivered twice, with the same ID.
type outbox struct {
	db     *DB
	names  []string // of the records
	events []any    // *audit.Event or *audit.KeyEvent
}

// keyEventTypes has the type of the key event for each event of the service.
var keyEventTypes = map[string]string{
	"RotateKey":                audit.KeyRotation,
	"DeleteExpiredKeyMaterial": audit.KeyMaterialExpiration,
	"DeleteKey":                audit.KeyDeletion,
}

// add adds both events of what has happened to k, and their records to the change. details are
// those of the audit event, and contain what is in the key event. Events that nobody receives are
// left out.
func (b *outbox) add(tx *keystore.Tx, name string, k *Key, now time.Time, details map[string]any) {
	b.addWith(tx, name, k, now, details, nil)
}

// addWith is add with additionalEventData.
func (b *outbox) addWith(tx *keystore.Tx, name string, k *Key, now time.Time, details, additional map[string]any) {
	if b.db.config.Sink != nil {
		e := &audit.Event{
			UserIdentity:        &audit.UserIdentity{AccountID: k.Account, InvokedBy: audit.AWSInternal},
			EventTime:           now.UTC(),
			EventName:           name,
			AWSRegion:           k.Region,
			SourceIPAddress:     audit.AWSInternal,
			UserAgent:           audit.AWSInternal,
			EventID:             uuid.New(),
			Resources:           []audit.Resource{{AccountID: k.Account, Type: audit.KeyResource, ARN: k.ARN}},
			EventType:           audit.ServiceEvent,
			AdditionalEventData: audit.ObjectOf(additional),
			ServiceEventDetails: audit.ObjectOf(details),
			RecipientAccountID:  k.Account,
		}
		b.addRecord(tx, eventPrefix, now, e.EventID, e)
	}
	if b.db.config.KeyEvents != nil {
		text := func(detail string) string { s, _ := details[detail].(string); return s }
		e := &audit.KeyEvent{
			ID:         uuid.New(),
			DetailType: keyEventTypes[name],
			Account:    k.Account,
			Time:       now.UTC(),
			Region:     k.Region,
			Resources:  []string{k.ARN},
			Detail: audit.KeyEventDetail{
				KeyID:                 k.ID,
				KeyOrigin:             text("keyOrigin"),
				RotationType:          text("rotationType"),
				PreviousKeyMaterialID: text("previousKeyMaterialId"),
				CurrentKeyMaterialID:  text("currentKeyMaterialId"),
				KeyMaterialID:         text("keyMaterialId"),
			},
		}
		b.addRecord(tx, keyEventPrefix, now, e.ID, e)
	}
}

func (b *outbox) addRecord(tx *keystore.Tx, prefix string, now time.Time, id audit.UUID, event any) {
	name := fmt.Sprintf("%s%s/%012d/%s", prefix, dueTime(now), b.db.eventCount.Add(1), id) // in the process's order
	b.db.inFlight.Store(name, true)
	b.names, b.events = append(b.names, name), append(b.events, event)
	tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: encodeRecord(event)})
}

// deliver delivers the events, once the change is committed. It leaves to deliverStored what is
// refused.
func (b *outbox) deliver(ctx context.Context) {
	for i, name := range b.names {
		if err := b.db.deliverEvent(ctx, name, b.events[i]); err != nil {
			b.db.undelivered.Error(b.db.config.Logger, b.db.config.Clock(), "kms: events wait in the key store to be delivered", err)
		}
	}
}

// close leaves the records to deliverStored, if there are any.
func (b *outbox) close() {
	for _, name := range b.names {
		b.db.inFlight.Delete(name)
	}
}

// deliverEvent delivers an event, unless it has been received already, and deletes its record, once
// the audit sink has made the event durable if it can.
func (db *DB) deliverEvent(ctx context.Context, name string, event any) error {
	ctx = context.WithoutCancel(ctx) // the change is committed: record it even if the caller is gone
	if _, acked := db.acked.Load(name); !acked {
		if err := db.guard("an event", func() error { return db.handOver(ctx, event) }); err != nil {
			return &sinkError{err}
		}
		db.acked.Store(name, true)
	}
	if _, err := db.store.Commit(ctx, keystore.Tx{Deletes: []string{name}}); err != nil {
		return err
	}
	db.acked.Delete(name)
	return nil
}

// handOver gives an event to who receives it.
func (db *DB) handOver(ctx context.Context, event any) error {
	if e, ok := event.(*audit.KeyEvent); ok {
		return db.config.KeyEvents(ctx, e)
	}
	err := db.config.Sink.Record(ctx, event.(*audit.Event))
	if sink, ok := db.config.Sink.(audit.Syncer); ok && err == nil {
		err = sink.Sync(ctx)
	}
	return err
}

// A sinkError is an error of the sink, whatever it wraps.
type sinkError struct{ error }

func (e *sinkError) Unwrap() error { return e.error }

// maxRefusals is how many refusals in a row end a sweep of the outbox: by then the sink is at
// fault, not the event.
const maxRefusals = 3

// deliverStored delivers the events that were not received when they happened. Those of each kind
// that nobody receives now stay in the store.
func (db *DB) deliverStored(ctx context.Context) error {
	var failures error
	if db.config.Sink != nil {
		failures = deliverRecords[audit.Event](ctx, db, eventPrefix)
	}
	if db.config.KeyEvents != nil {
		failures = errors.Join(failures, deliverRecords[audit.KeyEvent](ctx, db, keyEventPrefix))
	}
	return failures
}

// deliverRecords delivers the events of one kind.
func deliverRecords[Event any](ctx context.Context, db *DB, prefix string) error {
	var failures error
	refusals := 0
	for name, err := range db.names(ctx, prefix, "", sweepBatch) {
		if err == nil {
			err = deliverRecord[Event](ctx, db, name)
		}
		var refused *sinkError
		switch {
		case err == nil:
			refusals = 0
			continue
		case errors.As(err, &refused):
			refusals++
		case !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrNewerVersion):
			refusals = maxRefusals // the store is at fault
		}
		failures = errors.Join(failures, err)
		if refusals == maxRefusals {
			break
		}
	}
	return failures
}

func deliverRecord[Event any](ctx context.Context, db *DB, name string) error {
	if _, busy := db.inFlight.LoadOrStore(name, true); busy {
		return nil
	}
	defer db.inFlight.Delete(name)
	e, _, err := readRecord[Event](ctx, db, name)
	if e == nil || err != nil { // another process was faster, or it cannot be read
		return err
	}
	return db.deliverEvent(ctx, name, e)
}
