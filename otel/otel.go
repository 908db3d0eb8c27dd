// Package otel makes OpenTelemetry metrics and spans of what a [kms.Service] does. Its own packages
// know nothing of OpenTelemetry: a service that is not instrumented does no work for it.
//
//	svc, err := kmsotel.Open("my.keys", root, kms.Config{}, kmsotel.Options{})
//
// is [kms.Open] with metrics and spans, [New] is [kms.New], and [Instrument] is for a service that
// something else makes. The name kmsotel avoids a conflict with OpenTelemetry's own package.
//
// docs/observability.md lists the metrics, and otel/alerts.yaml has alarms for Prometheus.
//
// # What is never recorded
//
// No metric and no span holds a plaintext, a ciphertext, a key, a grant token, an encryption
// context, a policy, a tag, a description, or the message of an error. Spans have the ARN of the
// key and the ID of the request, metrics neither: their attributes have few values, whatever
// callers send.
package otel

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

const scope = "github.com/pocketkms/kms/otel"

// Options configure the metrics and spans. With the zero value they go where those of the rest of
// the program go.
type Options struct {
	// MeterProvider makes the metrics; nil means otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// TracerProvider makes the spans; nil means otel.GetTracerProvider(). With that of package
	// go.opentelemetry.io/otel/trace/noop there are none, and calls take less time.
	TracerProvider trace.TracerProvider
}

func (o Options) meter() metric.Meter {
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	return o.MeterProvider.Meter(scope)
}

// tracer returns nil if there are to be no spans.
func (o Options) tracer() trace.Tracer {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if _, ok := o.TracerProvider.(noop.TracerProvider); ok {
		return nil
	}
	return o.TracerProvider.Tracer(scope)
}

// New is [kms.New] with metrics and spans. Its errors, and what the caller must close, are the
// same. Closing the service ends the metrics that are read from it.
func New(config kms.Config, o Options) (*kms.Service, error) {
	if config.Backend == nil { // as kms.New does
		config.Backend = memory.New()
		if config.RootKey == nil {
			config.RootKey = keystore.Ephemeral()
		}
	}
	g, err := newGauges(o.meter())
	if err != nil {
		return nil, failed(err)
	}
	if err := instrument(&config, o, g.stop); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	svc, err := kms.New(config)
	if err != nil {
		return nil, errors.Join(err, g.stop())
	}
	g.svc.Store(svc)
	return svc, nil
}

// Open is [kms.Open] with metrics and spans.
func Open(path string, root keystore.RootKey, config kms.Config, o Options) (*kms.Service, error) {
	if root == nil || config.Backend != nil || config.RootKey != nil {
		return kms.Open(path, root, config) // which refuses them
	}
	backend, err := bolt.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kms: cannot open the key store: %w", err)
	}
	config.Backend, config.RootKey = backend, root
	svc, err := New(config, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%s)", err, path), backend.Close())
	}
	return svc, nil
}

// Instrument changes config so that the service which is made of it has metrics and spans: of its
// calls, of its audit sink and of its Backend, if it has them. What config.Intercept does is a part
// of the call. Unlike [New] it makes no metrics that are read from the service: kms.keys,
// kms.key.deletion.next.timestamp and the like.
func Instrument(config *kms.Config, o Options) error { return instrument(config, o) }

func instrument(config *kms.Config, o Options, beforeClose ...func() error) error {
	meter, tracer := o.meter(), o.tracer()
	calls, err := newCalls(meter, tracer)
	if err != nil {
		return failed(err)
	}
	if config.Backend != nil {
		backend, err := newStore(config.Backend, meter, tracer, beforeClose...)
		if err != nil {
			return failed(err)
		}
		config.Backend = backend
	}
	if config.Audit != nil {
		if config.Audit, err = newSink(config.Audit, meter); err != nil {
			return failed(err)
		}
	}
	config.Intercept = calls.around(config.Intercept)
	return nil
}

func failed(err error) error { return fmt.Errorf("kms: cannot make metrics: %w", err) }

// seconds are the bounds of the buckets of durations: 1 microsecond to 8 seconds, each twice the
// one before.
func seconds() (bounds []float64) {
	for bound := 1e-6; len(bounds) < 24; bound *= 2 {
		bounds = append(bounds, bound)
	}
	return bounds
}

// A builder makes instruments, and keeps the first error.
type builder struct {
	metric.Meter
	err error
}

func (b *builder) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) counter(name, unit, description string) metric.Int64Counter {
	c, err := b.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.keep(err)
	return c
}

func (b *builder) duration(name, description string) metric.Float64Histogram {
	h, err := b.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(seconds()...))
	b.keep(err)
	return h
}

func (b *builder) gauge(name, unit, description string) metric.Int64ObservableGauge {
	g, err := b.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.keep(err)
	return g
}
