package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
	"github.com/pocketkms/kms/seed"
)

const (
	maxPassphraseBytes = 4 << 10
	maxPEMBytes        = 1 << 20

	healthTimeout = 10 * time.Second
)

// serve runs kms serve. It returns when ctx is done and everything is closed.
func (p *program) serve(ctx context.Context, args []string) (err error) {
	s, err := p.serveSettings(args)
	if err != nil {
		return err
	}
	// The checks that change nothing come first.
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(p.stderr, nil))
	options := awsapi.Options{Logger: logger, InsecureTrustAll: s.credentials == "", AllowedHosts: s.hosts()}
	var known atomic.Pointer[map[string]*awsapi.Credentials]
	var onHangup []func()
	if s.credentials != "" {
		credentials, err := readCredentials(s.credentials)
		if err != nil {
			return err
		}
		known.Store(&credentials)
		options.Credentials = func(accessKeyID string) *awsapi.Credentials { return (*known.Load())[accessKeyID] }
		onHangup = append(onHangup, func() { reloadCredentials(s.credentials, &known, logger) })
	}
	var transport *tls.Config
	if s.tlsCert != "" {
		if transport, err = s.tls(); err != nil {
			return err
		}
	}

	// Without a listener nothing is created or changed. Connections wait from here on.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w", s.listenFlag(), err)
	}
	defer listener.Close() // again, if the server has closed it
	monitor, err := s.monitor(ctx, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, monitor.close()) }()

	var admin net.Listener
	if s.adminSocket != "" {
		if admin, err = listenAdmin(ctx, s.adminSocket); err != nil {
			return err
		}
		defer admin.Close()
	}

	config := kms.Config{
		Account: s.account, Region: s.region, AllowOtherDefaults: s.otherDefaults, MustExist: s.mustExist, Logger: logger,
	}
	if s.audit != "" {
		log, err := audit.OpenFile(s.audit)
		if err != nil {
			return fmt.Errorf("--audit: %w", err)
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		config.Audit = log
		onHangup = append(onHangup, func() { reopen(log, logger) })
	}
	if onHangup != nil {
		defer p.atEachHangup(onHangup)()
	}
	if s.test {
		return p.serveTest(ctx, s, config, options, transport, listener, logger)
	}
	if config.Backend, config.RootKey, err = p.openStore(ctx, s); err != nil {
		return err
	}
	svc, err := monitor.newService(config)
	if err != nil {
		if errors.Is(err, keystore.ErrNoStore) {
			err = fmt.Errorf("--must-exist: %s: %w", s.store, err)
		}
		return errors.Join(s.root.explain(s.store, err), config.Backend.Close())
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	if s.seed != "" {
		if err := loadSeed(ctx, svc, s.seed); err != nil {
			return err
		}
	}

	if admin != nil {
		defer serveAdmin(admin, svc, logger)()
	}

	server := awsapi.Server(withHealthCheck(awsapi.Handler(svc, options), svc, logger))
	server.TLSConfig = transport
	server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	if options.InsecureTrustAll {
		logger.Warn("there are no --credentials: everyone who can connect may use all keys")
	}
	if s.insecure {
		logger.Warn("--insecure-listen: other machines may be able to connect", "address", listener.Addr())
		if transport == nil {
			logger.Warn("there is no --tls-cert: data keys and plaintexts cross the network unencrypted")
		}
	}
	if s.store == "" {
		logger.Warn("there is no --store: the keys are in memory, and lost when the service stops")
	}
	about := []any{"address", listener.Addr(), "tls", transport != nil, "store", cmp.Or(s.store, "memory")}
	if s.seed != "" {
		about = append(about, "seed", s.seed)
	}
	if s.audit != "" {
		about = append(about, "audit", s.audit)
	}
	if s.credentials != "" {
		about = append(about, "credentials", len(*known.Load()))
	}
	logger.Info("serving", append(about, "account", svc.Caller().Account(), "region", svc.Region())...)
	limited := limitConnections(listener, s.maxConnections, server)
	ctx = monitor.serve(ctx, svc, logger)
	return p.serveUntilDone(ctx, server, limited, s.url(listener), logger)
}

func (p *program) serveUntilDone(ctx context.Context, server *http.Server, listener net.Listener, url string, logger *slog.Logger) error {
	served := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	if _, err := fmt.Fprintln(p.stdout, url); err != nil {
		return errors.Join(err, server.Close(), closed(<-served))
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	logger.Info("stopping", "why", context.Cause(ctx))
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.grace)
	defer cancel()
	err := server.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("requests that did not end in time are cut off", "grace", p.grace)
		err = server.Close()
	}
	return errors.Join(err, closed(<-served))
}

// atEachHangup calls functions at each SIGHUP, until the function that it returns is called.
func (p *program) atEachHangup(do []func()) (stop func()) {
	done := make(chan struct{})
	var worker sync.WaitGroup
	worker.Go(func() {
		for {
			select {
			case <-p.hangups:
				for _, f := range do {
					f()
				}
			case <-done:
				return
			}
		}
	})
	return func() { close(done); worker.Wait() }
}

// reopen reopens the audit log, after it was renamed.
func reopen(log *audit.File, logger *slog.Logger) {
	if err := log.Reopen(); err != nil {
		logger.Error("the audit log cannot be reopened, and events go on to the former file", "error", err)
		return
	}
	logger.Info("reopened the audit log")
}

// reloadCredentials replaces the credentials and principals by those that are in the file now.
// Calls that have begun end as they began.
func reloadCredentials(path string, known *atomic.Pointer[map[string]*awsapi.Credentials], logger *slog.Logger) {
	credentials, err := readCredentials(path)
	if err != nil {
		logger.Error("the credentials cannot be read again, and the former ones stay valid", "error", err)
		return
	}
	known.Store(&credentials)
	logger.Info("read the credentials again", "credentials", len(credentials))
}

// closed returns err, or nil if it says only that the server was closed.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// openStore opens the store, and returns it with its root key.
func (p *program) openStore(ctx context.Context, s *settings) (keystore.Backend, keystore.RootKey, error) {
	if s.store == "" {
		return memory.New(), keystore.Ephemeral(), nil
	}
	return s.open(ctx, p)
}

func loadSeed(ctx context.Context, svc *kms.Service, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--seed: %w", err)
	}
	defer file.Close()
	if err := seed.Load(ctx, svc, file); err != nil {
		return fmt.Errorf("--seed: %s: %w", path, err)
	}
	return nil
}

// tls returns a configuration for TLS 1.3. Go chooses the key exchange and prefers X25519MLKEM768,
// so that traffic recorded today stays confidential if there are quantum computers one day.
func (s *settings) tls() (*tls.Config, error) {
	file, err := os.Open(s.tlsCert)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	defer file.Close()
	chain, err := securefile.Read(file, s.tlsCert, maxPEMBytes)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	key, err := securefile.ReadPrivate(s.tlsKey, maxPEMBytes)
	if err != nil {
		return nil, fmt.Errorf("--tls-key: %w", err)
	}
	defer secret.Clear(key)
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}}, nil
}

// url returns the URL of the service. Its host is the one that was configured, because a
// certificate may be for that name.
func (s *settings) url(listener net.Listener) string {
	host, _, _ := net.SplitHostPort(s.listen)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "localhost"
	}
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if s.tlsCert != "" {
		u.Scheme = "https"
	}
	return u.String()
}

// withHealthCheck returns a handler that answers GET /healthz, and passes other requests to api.
func withHealthCheck(api http.Handler, svc *kms.Service, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		// A probe that has closed its side of the connection is not a failure of the store.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), healthTimeout)
		defer cancel()
		if err := svc.Ping(ctx); err != nil {
			logger.Error("the store cannot be used", "error", err)
			http.Error(w, "the store cannot be used", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok")
	})
	mux.Handle("/", api)
	return mux
}
