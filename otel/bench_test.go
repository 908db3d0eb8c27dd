package otel_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/benchtest"
	kmsotel "github.com/pocketkms/kms/otel"
)

// BenchmarkEncrypt compares calls of an instrumented service with those of one that is not, which
// are its floor.
func BenchmarkEncrypt(b *testing.B) {
	metrics := func() metric.MeterProvider {
		return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	spans := func(sampler sdktrace.Sampler) trace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(discard{}))
	}
	encrypt := func(b *testing.B, svc *kms.Service, err error) func() {
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, svc.Close()) })
		ctx := context.Background()
		in := &kms.EncryptInput{KeyId: createKey(b, svc, nil).KeyId, Plaintext: make([]byte, 32), EncryptionContext: map[string]string{"tenant": "4711", "purpose": "invoices"}}
		return func() {
			if _, err := svc.Encrypt(ctx, in); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, bb := range []struct {
		name    string
		config  kms.Config
		options *kmsotel.Options
	}{
		{"off", kms.Config{}, nil},
		{"noop", kms.Config{}, &kmsotel.Options{MeterProvider: metricnoop.NewMeterProvider(), TracerProvider: noop.NewTracerProvider()}},
		{"metrics", kms.Config{}, &kmsotel.Options{MeterProvider: metrics(), TracerProvider: noop.NewTracerProvider()}},
		{"metrics, audited", kms.Config{Audit: audit.Discard}, &kmsotel.Options{MeterProvider: metrics(), TracerProvider: noop.NewTracerProvider()}},
		{"metrics and spans, not sampled", kms.Config{}, &kmsotel.Options{MeterProvider: metrics(), TracerProvider: spans(sdktrace.NeverSample())}},
		{"metrics and spans", kms.Config{}, &kmsotel.Options{MeterProvider: metrics(), TracerProvider: spans(sdktrace.AlwaysSample())}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			svc, err := kms.New(bb.config)
			floor := encrypt(b, svc, err)
			if bb.options == nil {
				svc, err = kms.New(bb.config)
			} else {
				svc, err = kmsotel.New(bb.config, *bb.options)
			}
			benchtest.Compare(b, floor, encrypt(b, svc, err))
			b.ReportMetric(testing.AllocsPerRun(100, floor), "floor-allocs/op")
		})
	}
}

// discard is a span processor that drops spans.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }
