package otel_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
	kmsotel "github.com/pocketkms/kms/otel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A telemetry keeps metrics and spans in memory.
type telemetry struct {
	kmsotel.Options
	t      testing.TB
	reader *sdkmetric.ManualReader
	spans  *tracetest.SpanRecorder
}

func newTelemetry(t testing.TB) *telemetry {
	r := &telemetry{t: t, reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	r.Options = kmsotel.Options{MeterProvider: meters, TracerProvider: traces}
	t.Cleanup(func() {
		require.NoError(t, meters.Shutdown(context.Background()))
		require.NoError(t, traces.Shutdown(context.Background()))
	})
	return r
}

// instrument is an option of kmstest.New. change may be nil.
func (r *telemetry) instrument(change func(*kms.Config)) kmstest.Option {
	return kmstest.Configure(func(c *kms.Config) {
		if change != nil {
			change(c)
		}
		require.NoError(r.t, kmsotel.Instrument(c, r.Options))
	})
}

// newService returns a service in memory, which is closed when the test ends.
func (r *telemetry) newService(config kms.Config) *kms.Service {
	r.t.Helper()
	svc, err := kmsotel.New(config, r.Options)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		for err := range svc.Check(context.Background(), nil) {
			require.ErrorIs(r.t, err, kms.ErrClosed)
		}
		if err := svc.Close(); err != nil {
			require.ErrorIs(r.t, err, kms.ErrClosed)
		}
	})
	return svc
}

// values returns the values of all series, those of histograms being their counts, by name and
// attributes: "kms.operations{code=OK,operation=Encrypt}".
func (r *telemetry) values() map[string]int64 {
	r.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(r.t, r.reader.Collect(context.Background(), &all))
	values := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			set := func(attributes attribute.Set, value int64) {
				values[fmt.Sprintf("%s{%s}", m.Name, attributes.Encoded(attribute.DefaultEncoder()))] = value
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					set(p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					set(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					set(p.Attributes, int64(p.Count))
				}
			default:
				require.Failf(r.t, "unexpected", "%T", data)
			}
		}
	}
	return values
}

// requireValues requires the values of some series.
func (r *telemetry) requireValues(want map[string]int64) {
	r.t.Helper()
	values := r.values()
	for name, value := range want {
		got, ok := values[name]
		require.True(r.t, ok, "%s is not in %v", name, values)
		require.Equal(r.t, value, got, name)
	}
}

// ended returns a span of that name that has ended.
func (r *telemetry) ended(name string) sdktrace.ReadOnlySpan {
	r.t.Helper()
	for _, span := range r.spans.Ended() {
		if span.Name() == name {
			return span
		}
	}
	require.Failf(r.t, "no span", "%s", name)
	return nil
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func createKey(t testing.TB, svc *kms.Service, in *kms.CreateKeyInput) *kms.KeyMetadata {
	t.Helper()
	out, err := svc.CreateKey(context.Background(), in)
	require.NoError(t, err)
	return out.KeyMetadata
}

// importExpiring creates a key with imported material that expires.
func importExpiring(t testing.TB, svc *kms.Service, at time.Time) {
	t.Helper()
	ctx := context.Background()
	k := createKey(t, svc, &kms.CreateKeyInput{Origin: kms.OriginExternal})
	p, err := svc.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: k.KeyId, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048,
	})
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	require.NoError(t, err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), make([]byte, 32), nil)
	require.NoError(t, err)
	_, err = svc.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped, ValidTo: at,
	})
	require.NoError(t, err)
}
