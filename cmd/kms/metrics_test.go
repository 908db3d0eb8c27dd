package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// monitor returns the URL of the address of --metrics.
func (i *invocation) monitor() string {
	i.Helper()
	for line := range i.stderr {
		if found := regexp.MustCompile(`msg="serving metrics" address=(\S+)`).FindStringSubmatch(line); found != nil {
			return "http://" + found[1]
		}
	}
	return ""
}

func (i *invocation) get(url string) (int, string) {
	i.Helper()
	r, err := http.NewRequestWithContext(i.Context(), http.MethodGet, url, nil)
	require.NoError(i, err)
	return i.do(r)
}

func TestMetricsAreServed(t *testing.T) {
	i := start(t, program{}, "--metrics", "127.0.0.1:0", "--audit", filepath.Join(t.TempDir(), "audit"))
	status, _ := i.call(access{}, "CreateKey", `{}`)
	require.Equal(t, http.StatusOK, status)
	status, _ = i.call(access{}, "DescribeKey", `{"KeyId":"alias/missing"}`)
	require.Equal(t, http.StatusBadRequest, status)

	monitor := i.monitor()
	status, text := i.get(monitor + "/metrics")
	require.Equal(t, http.StatusOK, status)
	for _, line := range []string{
		`kms_operations_total{code="OK",operation="CreateKey"} 1`,
		`kms_operations_total{code="OK",operation="Encrypt"} 0`,
		`kms_operations_total{code="NotFoundException",operation="DescribeKey"} 1`,
		`kms_operation_duration_seconds_count{operation="CreateKey"} 1`,
		`kms_audit_events_total 2`,
		`kms_keys{account="111122223333",region="us-east-1"} 1`,
		`kms_store_up 1`,
	} {
		require.Contains(t, text, "\n"+line+"\n")
	}
	require.Regexp(t, `\nkms_store_commits_total\{engine="memory",result="ok"\} [1-9]`, text)
	require.Regexp(t, `\ngo_goroutines \d`, text)
	require.Regexp(t, `\nkms_build_info\{goversion="go1[^"]+",version="[^"]+"\} 1\n`, text)

	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 404} {
		status, _ := i.get(monitor + path)
		require.Equal(t, want, status, path)
	}
	status, _ = i.get(i.url + "/metrics")
	require.Equal(t, http.StatusNotFound, status, "not on the address of the API")
	require.Zero(t, i.stop())
}

func TestThereAreNoMetricsWithoutTheFlag(t *testing.T) {
	i := start(t, program{})
	require.Zero(t, i.stop())
	require.NotContains(t, i.stderr.all(), "metrics")
}

func TestTheMonitorIsNotReadyWhileTheServiceStops(t *testing.T) {
	i := start(t, program{}, "--metrics", "127.0.0.1:0")
	monitor := i.monitor()
	status, _ := i.get(monitor + "/readyz")
	require.Equal(t, http.StatusOK, status)
	conn, _ := unfinished(t, i.url) // keeps the service from ending
	i.cancel()
	for status != http.StatusServiceUnavailable {
		status, _ = i.get(monitor + "/readyz")
	}
	status, _ = i.get(monitor + "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, conn.Close())
	require.Zero(t, <-i.status)
}

func TestAMetricsAddressThatCannotBeServedEndsTheProgram(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	store := filepath.Join(t.TempDir(), "keys")
	passphrase := file(t, "passphrase", "a good passphrase\n")
	for _, tt := range []struct {
		name, flag, address string
		status              int
		want                string
	}{
		{"in use", "--metrics", busy.Addr().String(), 1, "kms: --metrics: listen tcp " + busy.Addr().String() + ": bind: address already in use\n"},
		{"in use, insecurely", "--insecure-metrics", busy.Addr().String(), 1, "kms: --insecure-metrics: listen tcp"},
		{"all addresses", "--metrics", ":0", 2, `--metrics ":0" is open to other machines`},
		{"an address of a network", "--metrics", "192.0.2.1:0", 2, "is open to other machines"},
		{"no port", "--metrics", "127.0.0.1", 2, `--metrics "127.0.0.1" is not an address and a port`},
		{"an invalid port", "--metrics", "127.0.0.1:99999", 2, `"99999" is not a port`},
		{"empty", "--metrics", "", 2, "--metrics is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := run(t, "", "serve", "--listen", "127.0.0.1:0", "--store", store, "--passphrase-file", passphrase, tt.flag, tt.address)
			require.Equal(t, tt.status, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
			_, err := os.Stat(store)
			require.ErrorIs(t, err, os.ErrNotExist, "nothing was created")
		})
	}
	status, _, stderr := run(t, "", "serve", "--metrics", "127.0.0.1:0", "--insecure-metrics", "127.0.0.1:0")
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "--metrics and --insecure-metrics exclude each other")
}

func TestMetricsCanBeOpenToOtherMachines(t *testing.T) {
	i := start(t, program{}, "--insecure-metrics", ":0")
	require.Zero(t, i.stop())
	require.Regexp(t, `msg="serving metrics" address=\[::\]:\d+`, i.stderr.all())
}

// A service that nobody can watch any more ends.
func TestTheServiceEndsIfItsMetricsAreNoLongerServed(t *testing.T) {
	s := &settings{metrics: "127.0.0.1:0"}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	m, err := s.monitor(t.Context(), logger)
	require.NoError(t, err)
	svc, err := m.newService(kms.Config{})
	require.NoError(t, err)
	ctx := m.serve(t.Context(), svc, logger)
	require.NoError(t, m.listener.Close())
	<-ctx.Done()
	require.ErrorContains(t, context.Cause(ctx), "metrics are no longer served")
	require.NoError(t, svc.Close())
	require.ErrorContains(t, m.close(), "use of closed network connection")
}
