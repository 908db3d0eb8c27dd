package otel

import (
	"context"
	"errors"
	"iter"
	"path"
	"reflect"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pocketkms/kms/keystore"
)

// A store is a Backend with metrics and spans. It has a span for what a call does, and none for
// what the service does in the background.
type store struct {
	keystore.Backend
	tracer trace.Tracer   // nil: no spans
	before []func() error // Close calls them first

	commits               metric.Int64Counter
	commitTime, readTime  metric.Float64Histogram
	ok, conflict, failure []metric.AddOption
	engine, get, scan     []metric.RecordOption
}

var (
	_ keystore.Pinger   = (*store)(nil)
	_ keystore.Volatile = (*store)(nil)
)

// snapshotter is an optional interface of a Backend. A store has its method only if its Backend
// does.
type snapshotter interface {
	Snapshot(ctx context.Context) iter.Seq2[keystore.Record, error]
}

type snapshotStore struct {
	*store
	snapshotter
}

func newStore(backend keystore.Backend, meter metric.Meter, tracer trace.Tracer, before ...func() error) (keystore.Backend, error) {
	engine := attribute.String("engine", engineOf(backend))
	result := func(result string) []metric.AddOption { return with(engine, resultKey.String(result)) }
	recorded := func(attributes ...attribute.KeyValue) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(append(attributes, engine)...))}
	}
	b := &builder{Meter: meter}
	s := &store{
		Backend:    backend,
		tracer:     tracer,
		before:     before,
		commits:    b.counter("kms.store.commits", "", "Transactions that write: ok, conflict if another change came first and the call tries again, or error."),
		commitTime: b.duration("kms.store.commit.duration", "Time of transactions that write."),
		readTime:   b.duration("kms.store.read.duration", "Time of reads. What is in memory is not read."),
		ok:         result("ok"),
		conflict:   result("conflict"),
		failure:    result("error"),
		engine:     recorded(),
		get:        recorded(attribute.String("method", "get")),
		scan:       recorded(attribute.String("method", "scan")),
	}
	if b.err != nil {
		return nil, b.err
	}
	for _, result := range [][]metric.AddOption{s.ok, s.conflict, s.failure} {
		s.commits.Add(context.Background(), 0, result...)
	}
	if snapshots, ok := backend.(snapshotter); ok {
		return &snapshotStore{s, snapshots}, nil
	}
	return s, nil
}

// engineOf returns the name of the package of a Backend: "bolt", "memory".
func engineOf(backend keystore.Backend) string {
	t := reflect.TypeOf(backend)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return path.Base(t.PkgPath())
}

func (s *store) Get(ctx context.Context, key string) (r keystore.Record, err error) {
	defer s.measure(&ctx, "keystore/Get", s.readTime, s.get)(&err)
	return s.Backend.Get(ctx, key)
}

func (s *store) Scan(ctx context.Context, prefix, after string, limit int) (records []keystore.Record, err error) {
	defer s.measure(&ctx, "keystore/Scan", s.readTime, s.scan)(&err)
	return s.Backend.Scan(ctx, prefix, after, limit)
}

func (s *store) Commit(ctx context.Context, tx keystore.Tx) (revision keystore.Revision, err error) {
	if len(tx.Puts)+len(tx.Deletes) == 0 { // it only checks
		return s.Backend.Commit(ctx, tx)
	}
	defer s.measure(&ctx, "keystore/Commit", s.commitTime, s.engine)(&err)
	defer func() {
		result := s.ok
		switch {
		case errors.Is(err, keystore.ErrConflict):
			result = s.conflict
		case err != nil:
			result = s.failure
		}
		s.commits.Add(ctx, 1, result...)
	}()
	return s.Backend.Commit(ctx, tx)
}

// measure begins to measure what is done with *ctx, which it changes to that of a span. The caller
// calls what it returns at the end.
func (s *store) measure(ctx *context.Context, name string, duration metric.Float64Histogram, options []metric.RecordOption) func(*error) {
	var span trace.Span
	if s.tracer != nil && trace.SpanFromContext(*ctx).IsRecording() {
		*ctx, span = s.tracer.Start(*ctx, name)
	}
	begin, measured := time.Now(), *ctx
	return func(err *error) {
		duration.Record(measured, time.Since(begin).Seconds(), options...)
		if span == nil {
			return
		}
		if *err != nil && !errors.Is(*err, keystore.ErrNotFound) {
			span.SetStatus(codes.Error, "") // the error may name a record
		}
		span.End()
	}
}

// Close calls what has to end before the Backend closes, and then closes it.
func (s *store) Close() error {
	var errs []error
	for _, end := range s.before {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, s.Backend.Close())...)
}

// Ping implements [keystore.Pinger].
func (s *store) Ping(ctx context.Context) error {
	if p, ok := s.Backend.(keystore.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// Volatile implements [keystore.Volatile].
func (s *store) Volatile() bool {
	v, ok := s.Backend.(keystore.Volatile)
	return ok && v.Volatile()
}
