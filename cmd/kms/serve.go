package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
	"github.com/pocketkms/kms/seed"
)

const (
	maxPassphraseBytes = 4 << 10
	maxPEMBytes        = 1 << 20
)

// serve is the command. It returns once ctx is done and all is closed.
func (p *program) serve(ctx context.Context, args []string) (err error) {
	s, err := parse(args, p.stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	// What costs nothing and changes nothing comes first.
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(p.stderr, nil))
	options := awsapi.Options{Logger: logger}
	var known map[string]*awsapi.Credentials
	if s.credentials != "" {
		if known, err = readCredentials(s.credentials); err != nil {
			return err
		}
		options.Credentials = func(accessKeyID string) *awsapi.Credentials { return known[accessKeyID] }
	}
	var transport *tls.Config
	if s.tlsCert != "" {
		if transport, err = s.tls(); err != nil {
			return err
		}
	}

	// Where it cannot listen it makes and changes nothing. Who connects from here on waits.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer listener.Close() // the server, once there is one, does so too

	config := kms.Config{Account: s.account, Partition: partition, Region: s.region, Logger: logger}
	if s.audit != "" {
		log, err := audit.OpenFile(s.audit)
		if err != nil {
			return fmt.Errorf("--audit: %w", err)
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		config.Audit = log
	}
	if config.Backend, config.RootKey, err = p.openStore(s); err != nil {
		return err
	}
	svc, err := kms.New(config)
	if err != nil {
		if s.store != "" && errors.Is(err, keystore.ErrRootKey) {
			err = notThePassphrase(s.store, err)
		}
		return errors.Join(err, config.Backend.Close())
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	if s.seed != "" {
		if err := load(ctx, svc, s.seed); err != nil {
			return err
		}
	}

	server := awsapi.Server(front(awsapi.Handler(svc, options), options, config.Backend))
	server.TLSConfig = transport
	server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	if options.Credentials == nil {
		logger.Warn("there are no --credentials: everyone who can connect may use all keys")
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
	if known != nil {
		about = append(about, "credentials", len(known))
	}
	logger.Info("serving", append(about, "account", s.account, "region", s.region)...)
	return p.serveUntilDone(ctx, server, listener, s.url(listener), logger)
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

// closed is err unless it is how a server says that it was closed.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// openStore returns where the keys are kept, and what seals them.
func (p *program) openStore(s *settings) (keystore.Backend, keystore.RootKey, error) {
	if s.store == "" {
		return memory.New(), keystore.Ephemeral(), nil
	}
	var passphrase []byte
	var err error
	if s.passphrase == "-" {
		passphrase, err = securefile.Read(p.stdin, "standard input", maxPassphraseBytes)
	} else {
		passphrase, err = securefile.ReadPrivate(s.passphrase, maxPassphraseBytes)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--passphrase-file: %w", err)
	}
	defer secret.Clear(passphrase)
	passphrase = bytes.TrimSuffix(passphrase, []byte("\n")) // which editors and echo put there
	if len(passphrase) == 0 {
		return nil, nil, fmt.Errorf("--passphrase-file: %s is empty", s.passphrase)
	}
	backend, err := bolt.Open(s.store)
	if err != nil {
		return nil, nil, fmt.Errorf("--store: %w", err)
	}
	return backend, keystore.Passphrase(passphrase), nil
}

// notThePassphrase leaves out how the store says it, but for the kind of the root key if that is another.
func notThePassphrase(store string, err error) error {
	text := "--passphrase-file: not the passphrase of " + store
	if _, kinds, ok := strings.Cut(err.Error(), keystore.ErrRootKey.Error()+": "); ok {
		text += ": " + kinds
	}
	return errors.New(text)
}

func load(ctx context.Context, svc *kms.Service, path string) error {
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

// tls is TLS 1.3. Its key exchange is left to Go, which prefers X25519MLKEM768, so that what is recorded today stays
// closed to the quantum computers of later.
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

// url is where clients find the service: at the name that was given, which a certificate may be for.
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

// front puts a health check before the protocol.
func front(api http.Handler, options awsapi.Options, backend keystore.Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		// Beneath the service, so that probes do not fill the audit log.
		if _, err := backend.Scan(r.Context(), "", "", 1); err != nil {
			options.Logger.Error("the store cannot be read", "error", err)
			http.Error(w, "the store cannot be read", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok")
	})
	mux.Handle("/", api)
	return mux
}
