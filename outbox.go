package kms

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

// An outbox holds the events of what the service does by itself in one change.
// They are stored with the change and stay in the store until the audit sink has
// taken them: neither a sink that refuses nor a killed process loses one. The
// sink may get an event twice, with the same EventID.
type outbox struct {
	*core
	names  []string // of the records
	events []*audit.Event
}

const outboxName = "event/"

// add puts an event in the outbox, and its record into the change. There are
// none without a sink.
func (b *outbox) add(tx *keystore.Tx, name string, k *key, now time.Time, details map[string]any) {
	if b.config.Audit == nil {
		return
	}
	e := &audit.Event{
		UserIdentity:        &audit.UserIdentity{AccountID: k.ref.account, InvokedBy: audit.AWSInternal},
		EventTime:           now.UTC(),
		EventName:           name,
		AWSRegion:           k.ref.region,
		SourceIPAddress:     audit.AWSInternal,
		UserAgent:           audit.AWSInternal,
		EventID:             b.uuid(eventID, rand.Uint64()),
		Resources:           []audit.Resource{{AccountID: k.ref.account, Type: audit.KeyResource, ARN: k.arn}},
		EventType:           audit.ServiceEvent,
		ServiceEventDetails: audit.ObjectOf(details),
		RecipientAccountID:  k.ref.account,
	}
	record := fmt.Sprintf("%s%012d/%012d/%s", outboxName, now.Unix(), b.eventCount.Add(1), e.EventID) // in the process's order
	b.delivering.Store(record, true)
	b.names, b.events = append(b.names, record), append(b.events, e)
	tx.Puts = append(tx.Puts, keystore.Put{Key: record, Value: encodeRecord(e)})
}

// deliver gives the events to the sink, once the change is committed. What the
// sink refuses is left for deliverStored.
func (b *outbox) deliver(ctx context.Context) {
	for i, name := range b.names {
		if err := b.deliverEvent(ctx, name, b.events[i]); err != nil {
			b.logRarely(&b.undelivered, "kms: events wait in the key store for the audit sink", err)
		}
	}
}

// close leaves the records, if there are any, to deliverStored.
func (b *outbox) close() {
	for _, name := range b.names {
		b.delivering.Delete(name)
	}
}

// deliverEvent gives an event to the sink, unless it has it already, and takes
// its record out of the store.
func (c *core) deliverEvent(ctx context.Context, name string, e *audit.Event) error {
	ctx = context.WithoutCancel(ctx) // what has happened is told, whether or not somebody still waits
	if _, taken := c.delivered.Load(name); !taken {
		err := c.contain("audit", func() error { return c.config.Audit.Record(ctx, e) })
		if sink, ok := c.config.Audit.(audit.Syncer); ok && err == nil {
			err = c.contain("audit", func() error { return sink.Sync(ctx) })
		}
		if err != nil {
			return &refusedEvent{err}
		}
		c.delivered.Store(name, true)
	}
	if _, err := c.store.Commit(ctx, keystore.Tx{Deletes: []string{name}}); err != nil {
		return err
	}
	c.delivered.Delete(name)
	return nil
}

// A refusedEvent is the sink's error, whatever that wraps.
type refusedEvent struct{ error }

func (e *refusedEvent) Unwrap() error { return e.error }

// maxRefusals is how many refusals in a row end a sweep of the outbox: then the
// sink is at fault, and no longer the event.
const maxRefusals = 3

// deliverStored gives the sink the events that it has not taken when they came
// about.
func (c *core) deliverStored(ctx context.Context) error {
	if c.config.Audit == nil {
		return nil
	}
	var failures error
	refusals := 0
	for name, err := range c.names(ctx, outboxName, "", sweepBatch) {
		if err == nil {
			err = c.deliverRecord(ctx, name)
		}
		var refused *refusedEvent
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

func (c *core) deliverRecord(ctx context.Context, name string) error {
	if _, busy := c.delivering.LoadOrStore(name, true); busy {
		return nil
	}
	defer c.delivering.Delete(name)
	e, _, err := readRecord[audit.Event](ctx, c, name)
	if e == nil || err != nil { // another process was quicker, or it cannot be read
		return err
	}
	return c.deliverEvent(ctx, name, e)
}
