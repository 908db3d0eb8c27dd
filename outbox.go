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
	if b.audit == nil {
		return
	}
	e := &audit.Event{
		EventVersion:        audit.EventVersion,
		UserIdentity:        audit.UserIdentity{AccountID: k.ref.account, InvokedBy: audit.Internal},
		EventTime:           now.UTC(),
		EventSource:         audit.EventSource,
		EventName:           name,
		AWSRegion:           k.ref.region,
		SourceIPAddress:     audit.Internal,
		UserAgent:           audit.Internal,
		EventID:             formatUUID(b.uuid(1, rand.Uint64())),
		Resources:           []audit.Resource{{AccountID: k.ref.account, Type: audit.KeyResource, ARN: k.arn}},
		EventType:           audit.ServiceEvent,
		ServiceEventDetails: details,
		ManagementEvent:     true,
		RecipientAccountID:  k.ref.account,
		EventCategory:       audit.Management,
	}
	record := fmt.Sprintf("%s%012d/%03d/%s", outboxName, now.Unix(), len(b.names), e.EventID) // in their order
	b.delivering.Store(record, true)
	b.names, b.events = append(b.names, record), append(b.events, e)
	tx.Puts = append(tx.Puts, keystore.Put{Key: record, Value: encodeRecord(e)})
}

// deliver gives the events to the sink, once the change is committed. What the
// sink refuses is left for deliverStored.
func (b *outbox) deliver(ctx context.Context) {
	for i, name := range b.names {
		if err := b.deliverEvent(ctx, name, b.events[i]); err != nil {
			b.complain(&b.undelivered, "kms: events wait in the key store for the audit sink", err)
		}
	}
}

// close leaves the records, if there are any, to deliverStored.
func (b *outbox) close() {
	for _, name := range b.names {
		b.delivering.Delete(name)
	}
}

func (c *core) deliverEvent(ctx context.Context, name string, e *audit.Event) error {
	ctx = context.WithoutCancel(ctx) // what has happened is told, whether or not somebody still waits
	if err := c.contain("audit", func() error { return c.audit.Record(ctx, e) }); err != nil {
		return err
	}
	_, err := c.store.Commit(ctx, keystore.Tx{Deletes: []string{name}})
	return err
}

// deliverStored gives the sink the events that it has not taken when they came
// about, until it refuses one again.
func (c *core) deliverStored(ctx context.Context) error {
	if c.audit == nil {
		return nil
	}
	var failures error
	for name, err := range c.names(ctx, outboxName, "", sweepBatch) {
		if err != nil {
			return errors.Join(failures, err)
		}
		if err := c.deliverRecord(ctx, name); errors.Is(err, keystore.ErrCorrupt) {
			failures = errors.Join(failures, err)
		} else if err != nil {
			return errors.Join(failures, err)
		}
	}
	return failures
}

func (c *core) deliverRecord(ctx context.Context, name string) error {
	if _, busy := c.delivering.LoadOrStore(name, true); busy {
		return nil
	}
	defer c.delivering.Delete(name)
	r, err := c.store.Get(ctx, name)
	if errors.Is(err, keystore.ErrNotFound) { // another process was quicker
		return nil
	} else if err != nil {
		return err
	}
	e, err := decodeRecord[audit.Event](r)
	if err != nil {
		return err
	}
	return c.deliverEvent(ctx, name, e)
}
