package otel_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.yaml.in/yaml/v3"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	kmsotel "github.com/pocketkms/kms/otel"
)

// exported returns the labels of all series in Prometheus format, by the name of their metric.
func exported(t *testing.T) map[string][]map[string]string {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	defer func() { require.NoError(t, provider.Shutdown(context.Background())) }()
	svc, err := kmsotel.New(kms.Config{Audit: audit.Discard}, kmsotel.Options{MeterProvider: provider})
	require.NoError(t, err)
	defer func() { require.NoError(t, svc.Close()) }()
	importExpiring(t, svc, time.Now().Add(time.Hour))
	_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: createKey(t, svc, nil).KeyId})
	require.NoError(t, err)
	for err := range svc.Check(t.Context(), nil) {
		require.NoError(t, err)
	}

	families, err := registry.Gather()
	require.NoError(t, err)
	series := map[string][]map[string]string{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			series[family.GetName()] = append(series[family.GetName()], labels)
		}
	}
	return series
}

// A rule is an alarm of Prometheus.
type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// unknown returns an error if a rule is about a series that does not exist.
func unknown(r rule, series map[string][]map[string]string) error {
	names := regexp.MustCompile(`\b(kms_[a-z_]+)(?:\{([a-z]+)="([^"]*)"\})?`).FindAllStringSubmatch(r.Expr, -1)
	if names == nil {
		return errors.New("it has no metric")
	}
	for _, found := range names {
		name, label, value := found[1], found[2], found[3]
		known := series[strings.TrimSuffix(name, "_bucket")]
		if known == nil {
			return errors.New("there is no " + name)
		}
		if label != "" && !slices.ContainsFunc(known, func(labels map[string]string) bool { return labels[label] == value }) {
			return errors.New("there is no " + found[0])
		}
	}
	return nil
}

func TestEveryAlarmIsOnASeriesThatExists(t *testing.T) {
	text, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	require.NoError(t, d.Decode(&file))
	require.Len(t, file.Groups, 1)
	series := exported(t)
	alerts := map[string]bool{}
	for _, r := range file.Groups[0].Rules {
		require.NoError(t, unknown(r, series), r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
		require.False(t, alerts[r.Alert], r.Alert)
		alerts[r.Alert] = true
	}
	require.NotEmpty(t, alerts)
	require.ErrorContains(t, unknown(rule{Expr: "kms_nothing > 0"}, series), "there is no kms_nothing")
	require.ErrorContains(t, unknown(rule{Expr: `kms_store_commits_total{result="lost"} > 0`}, series), `there is no kms_store_commits_total{result="lost"}`)
	require.Error(t, unknown(rule{Expr: "up == 0"}, series))
}

func TestTheDocumentListsEveryMetricWithItsLabels(t *testing.T) {
	text, err := os.ReadFile("../docs/observability.md")
	require.NoError(t, err)
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(kms_[a-z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		rows[row[1]] = strings.ReplaceAll(row[2], "`", "")
	}
	want := map[string]string{}
	for name, series := range exported(t) {
		labels := slices.Sorted(maps.Keys(series[0]))
		want[name] = strings.Join(labels, ", ")
	}
	require.Equal(t, want, rows)
}
