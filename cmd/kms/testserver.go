package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/kmstest"
)

// serveTest runs kms serve --test. It opens no store.
func (p *program) serveTest(
	ctx context.Context, s *settings, config kms.Config, options awsapi.Options, transport *tls.Config, listener net.Listener, logger *slog.Logger,
) (err error) {
	prepare := []kmstest.Option{kmstest.Configure(func(c *kms.Config) { *c = config })}
	if s.seed != "" {
		prepare = append(prepare, kmstest.SeedFile(s.seed))
	}
	service, err := kmstest.NewServer(options, prepare...)
	if err != nil {
		if s.seed != "" {
			err = fmt.Errorf("--seed: %w", err)
		}
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.Handle("/", service)
	server := awsapi.Server(mux)
	server.TLSConfig = transport
	server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	logger.Warn("--test: every program on this machine can move the clock, and see all calls with their plaintexts")
	if s.insecure {
		logger.Warn("--insecure-listen: other machines may be able to connect", "address", listener.Addr())
	}
	logger.Info("serving", "address", listener.Addr(), "tls", transport != nil, "store", "test")
	return p.serveUntilDone(ctx, server, limitConnections(listener, s.maxConnections, server), s.url(listener), logger)
}
