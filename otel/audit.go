package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/pocketkms/kms/audit"
)

// A sink is an audit sink with metrics.
type sink struct {
	inner            audit.Sink
	events, failures metric.Int64Counter
	duration         metric.Float64Histogram
}

var (
	_ audit.Syncer   = (*sink)(nil)
	_ audit.Borrower = (*sink)(nil)
)

func newSink(inner audit.Sink, meter metric.Meter) (audit.Sink, error) {
	b := &builder{Meter: meter}
	s := &sink{
		inner:    inner,
		events:   b.counter("kms.audit.events", "", "Audit events that the sink has taken."),
		failures: b.counter("kms.audit.failures", "", "Failures of the audit sink. Unless Config.AuditBestEffort is set, the calls failed, too."),
		duration: b.duration("kms.audit.duration", "Time that the audit sink takes for an event."),
	}
	if b.err != nil {
		return nil, b.err
	}
	s.events.Add(context.Background(), 0)
	s.failures.Add(context.Background(), 0)
	return s, nil
}

func (s *sink) Record(ctx context.Context, e *audit.Event) error {
	begin, counter := time.Now(), s.failures // also if the sink panics
	defer func() {
		s.duration.Record(ctx, time.Since(begin).Seconds())
		counter.Add(ctx, 1)
	}()
	err := s.inner.Record(ctx, e)
	if err == nil {
		counter = s.events
	}
	return err
}

// Sync implements [audit.Syncer].
func (s *sink) Sync(ctx context.Context) error {
	inner, ok := s.inner.(audit.Syncer)
	if !ok {
		return nil
	}
	err := inner.Sync(ctx)
	if err != nil {
		s.failures.Add(ctx, 1)
	}
	return err
}

// BorrowsEvents implements [audit.Borrower].
func (s *sink) BorrowsEvents() bool {
	inner, ok := s.inner.(audit.Borrower)
	return ok && inner.BorrowsEvents()
}
