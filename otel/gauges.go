package otel

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// gauges are the metrics that are read from a service whenever metrics are collected.
type gauges struct {
	svc          atomic.Pointer[kms.Service] // nil before it is made
	registration metric.Registration

	keys, quota, deletion, expiry, up, build metric.Int64ObservableGauge
}

func newGauges(meter metric.Meter) (*gauges, error) {
	b := &builder{Meter: meter}
	g := &gauges{
		keys:     b.gauge("kms.keys", "", "Customer managed keys, in all states, of the service's account in its Region."),
		quota:    b.gauge("kms.keys.quota", "", "How many of these there can be."),
		deletion: b.gauge("kms.key.deletion.next.timestamp", "s", "When the next key is deleted, in seconds since 1970. Absent if none is."),
		expiry:   b.gauge("kms.imported_key_material.expiration.timestamp", "s", "When the next imported key material expires, in seconds since 1970. Absent if none does."),
		up:       b.gauge("kms.store.up", "", "1 if the key store can be used, otherwise 0."),
		build:    b.gauge("kms.build.info", "", "1, with the versions of kms and Go."),
	}
	if b.err != nil {
		return nil, b.err
	}
	var err error
	g.registration, err = meter.RegisterCallback(g.observe, g.keys, g.quota, g.deletion, g.expiry, g.up, g.build)
	return g, err
}

// stop ends the metrics. The last collection has ended when it returns.
func (g *gauges) stop() error { return g.registration.Unregister() }

func (g *gauges) observe(ctx context.Context, o metric.Observer) error {
	svc := g.svc.Load()
	if svc == nil {
		return nil
	}
	o.ObserveInt64(g.build, 1, metric.WithAttributes(attribute.String("version", version()), attribute.String("goversion", runtime.Version())))
	err := svc.Ping(ctx)
	up := int64(1)
	if err != nil {
		up = 0
	}
	if errors.Is(err, kms.ErrClosed) {
		return nil
	}
	o.ObserveInt64(g.up, up)
	stats, err := svc.Stats(ctx)
	if errors.Is(err, kms.ErrClosed) || errors.Is(err, keystore.ErrClosed) {
		return nil
	}
	if err != nil {
		return err
	}
	where := metric.WithAttributes(attribute.String("account", svc.Caller().Account()), attribute.String("region", svc.Region()))
	o.ObserveInt64(g.keys, int64(stats.Keys), where)
	o.ObserveInt64(g.quota, int64(stats.KeyQuota), where)
	observeTime(o, g.deletion, stats.NextDeletion)
	observeTime(o, g.expiry, stats.NextExpiry)
	return nil
}

func observeTime(o metric.Observer, g metric.Int64Observable, at time.Time) {
	if !at.IsZero() {
		o.ObserveInt64(g, at.Unix())
	}
}

// version returns the version of kms in this program.
func version() string {
	const path = "github.com/pocketkms/kms"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == path {
			return module.Version
		}
	}
	return ""
}
