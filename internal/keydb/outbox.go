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

// An outbox holds the events of what one change does on its own: rotations and deletions. They are
// stored with the change, and stay in the store until the audit sink has them: neither a sink that
// refuses them nor a killed process loses one. The sink may get an event twice, with the same EventID.
type outbox struct {
	db     *DB
	names  []string // of the records
	events []*audit.Event
}

// add adds an event, and its record to the change. It does nothing without a sink.
func (b *outbox) add(tx *keystore.Tx, name string, k *Key, now time.Time, details map[string]any) {
	b.addWith(tx, name, k, now, details, nil)
}

// addWith is add with additionalEventData.
func (b *outbox) addWith(tx *keystore.Tx, name string, k *Key, now time.Time, details, additional map[string]any) {
	if b.db.config.Sink == nil {
		return
	}
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
	record := fmt.Sprintf("%s%s/%012d/%s", eventPrefix, dueTime(now), b.db.eventCount.Add(1), e.EventID) // in the process's order
	b.db.inFlight.Store(record, true)
	b.names, b.events = append(b.names, record), append(b.events, e)
	tx.Puts = append(tx.Puts, keystore.Put{Key: record, Value: encodeRecord(e)})
}

// deliver gives the events to the sink, once the change is committed. It leaves to deliverStored what
// the sink refuses.
func (b *outbox) deliver(ctx context.Context) {
	for i, name := range b.names {
		if err := b.db.deliverEvent(ctx, name, b.events[i]); err != nil {
			b.db.undelivered.Error(b.db.config.Logger, b.db.config.Clock(), "kms: events wait in the key store for the audit sink", err)
		}
	}
}

// close leaves the records to deliverStored, if there are any.
func (b *outbox) close() {
	for _, name := range b.names {
		b.db.inFlight.Delete(name)
	}
}

// deliverEvent gives an event to the sink, unless it has it already, and deletes its record, once the
// sink has made the event durable if it can.
func (db *DB) deliverEvent(ctx context.Context, name string, e *audit.Event) error {
	ctx = context.WithoutCancel(ctx) // the change is committed: record it even if the caller is gone
	if _, acked := db.acked.Load(name); !acked {
		err := db.guard("audit", func() error { return db.config.Sink.Record(ctx, e) })
		if sink, ok := db.config.Sink.(audit.Syncer); ok && err == nil {
			err = db.guard("audit", func() error { return sink.Sync(ctx) })
		}
		if err != nil {
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

// A sinkError is an error of the sink, whatever it wraps.
type sinkError struct{ error }

func (e *sinkError) Unwrap() error { return e.error }

// maxRefusals is how many refusals in a row end a sweep of the outbox: by then the sink is at fault,
// not the event.
const maxRefusals = 3

// deliverStored gives the sink the events that it did not take when they happened.
func (db *DB) deliverStored(ctx context.Context) error {
	if db.config.Sink == nil {
		return nil
	}
	var failures error
	refusals := 0
	for name, err := range db.names(ctx, eventPrefix, "", sweepBatch) {
		if err == nil {
			err = db.deliverRecord(ctx, name)
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

func (db *DB) deliverRecord(ctx context.Context, name string) error {
	if _, busy := db.inFlight.LoadOrStore(name, true); busy {
		return nil
	}
	defer db.inFlight.Delete(name)
	e, _, err := readRecord[audit.Event](ctx, db, name)
	if e == nil || err != nil { // another process was faster, or it cannot be read
		return err
	}
	return db.deliverEvent(ctx, name, e)
}
