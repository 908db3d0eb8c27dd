package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pocketkms/kms"
	kmsotel "github.com/pocketkms/kms/otel"
)

const (
	maxMonitorConnections = 64
	maxScrapes            = 4 // at a time
)

// A monitor serves metrics and health checks on an address of its own. A nil monitor does nothing.
type monitor struct {
	listener net.Listener
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
	server   *http.Server
	served   sync.WaitGroup
	cancel   context.CancelCauseFunc
	failure  error // of the server
}

// monitor returns the monitor of the flags, or nil. Connections wait until it serves.
func (s *settings) monitor(ctx context.Context, logger *slog.Logger) (*monitor, error) {
	name, listen := "--metrics", s.metrics
	if s.insecureMetrics != "" {
		name, listen = "--insecure-metrics", s.insecureMetrics
	}
	if listen == "" {
		return nil, nil
	}
	address, loopback, err := resolve(ctx, name, listen)
	switch {
	case err != nil:
		return nil, err
	case !loopback && s.insecureMetrics == "":
		return nil, usageError(fmt.Sprintf("--metrics %.260q is open to other machines: use --insecure-metrics if they may read the metrics", listen))
	}
	m := &monitor{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	if m.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", address); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// newService is kms.New with the metrics of the monitor.
func (m *monitor) newService(config kms.Config) (*kms.Service, error) {
	if m == nil {
		return kms.New(config)
	}
	return kmsotel.New(config, kmsotel.Options{MeterProvider: m.provider, TracerProvider: noop.NewTracerProvider()})
}

// serve begins to serve. The context that it returns ends if it can no longer serve: a service that
// nobody sees should not go on.
func (m *monitor) serve(ctx context.Context, svc *kms.Service, logger *slog.Logger) context.Context {
	if m == nil {
		return ctx
	}
	serving, cancel := context.WithCancelCause(ctx)
	m.cancel = cancel
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics: true, // with the IDs of traces
	}))
	health := withHealthCheck(http.NotFoundHandler(), svc, logger)
	mux.Handle("GET /healthz", health)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if serving.Err() != nil {
			http.Error(w, "the service is stopping", http.StatusServiceUnavailable)
			return
		}
		ready := r.Clone(r.Context())
		ready.URL.Path = "/healthz"
		health.ServeHTTP(w, ready)
	})
	m.server = &http.Server{
		Handler: mux, ErrorLog: errorLog, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	limited := limitConnections(m.listener, maxMonitorConnections, m.server)
	logger.Info("serving metrics", "address", m.listener.Addr())
	m.served.Go(func() {
		if m.failure = closed(m.server.Serve(limited)); m.failure != nil {
			cancel(fmt.Errorf("metrics are no longer served: %w", m.failure))
		}
	})
	return serving
}

// close ends the monitor, which may be about to serve.
func (m *monitor) close() error {
	if m == nil {
		return nil
	}
	var err error
	if m.server == nil {
		err = m.listener.Close()
	} else {
		err = m.server.Close()
		m.served.Wait()
		m.cancel(nil)
	}
	return errors.Join(err, m.failure, m.provider.Shutdown(context.Background()))
}
