package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pocketkms/kms"
)

// maxAdminErrorBytes bounds the text of an error that kms serve sends to kms backup.
const maxAdminErrorBytes = 4 << 10

// listenAdmin listens on a Unix socket that only this user and root can connect to. It removes a
// socket that a killed process has left.
func listenAdmin(ctx context.Context, path string) (net.Listener, error) {
	config := net.ListenConfig{Control: restrictSocket}
	listener, err := config.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && isAbandoned(ctx, path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("--admin-socket: %w", err)
		}
		listener, err = config.Listen(ctx, "unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("--admin-socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("--admin-socket: %w", errors.Join(err, listener.Close()))
	}
	return listener, nil
}

// isAbandoned reports whether path is a socket on which nobody listens.
func isAbandoned(ctx context.Context, path string) bool {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	connection, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = connection.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// serveAdmin answers on the admin socket until the function that it returns is called, which ends
// what is in progress.
func serveAdmin(listener net.Listener, svc *kms.Service, logger *slog.Logger) (stop func()) {
	var calls sync.RWMutex // held for reading by those in progress
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		calls.RLock()
		defer calls.RUnlock()
		started := &startedWriter{w: w}
		err := svc.Backup(r.Context(), started)
		switch {
		case err == nil:
			logger.Info("wrote a backup", "bytes", started.n)
		case started.n == 0:
			logger.Error("a backup failed", "error", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			logger.Error("a backup failed", "error", err)
			panic(http.ErrAbortHandler) // the client must not take what it has for complete
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return func() {
		_ = server.Close()
		<-done
		calls.Lock() // and never unlocked
	}
}

// A startedWriter counts what was written.
type startedWriter struct {
	w io.Writer
	n int64
}

func (s *startedWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	return n, err
}

// fetchBackup writes a backup that kms serve makes to w.
func fetchBackup(ctx context.Context, socket string, w io.Writer) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kms/backup", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("--admin-socket: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxAdminErrorBytes))
		return fmt.Errorf("--admin-socket: %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("the backup is incomplete: %w", err)
	}
	return nil
}
