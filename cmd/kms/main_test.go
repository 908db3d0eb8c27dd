package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines receives an element for each call of Write.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// all returns what has been written since the last call.
func (l lines) all() string {
	var b strings.Builder
	for len(l) > 0 {
		b.WriteString(<-l)
	}
	return b.String()
}

// An invocation is a command that runs in this process.
type invocation struct {
	*testing.T
	url            string
	stdout, stderr lines
	cancel         context.CancelFunc
	status         chan int
	client         *http.Client
}

// start starts kms serve and waits until it is ready. Without another address it listens on a free
// port of the loopback interface.
func start(t *testing.T, p program, args ...string) *invocation {
	t.Helper()
	if !slices.Contains(args, "--insecure-listen") && !slices.Contains(args, "--listen") {
		args = append([]string{"--listen", "127.0.0.1:0"}, args...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	i := &invocation{T: t, stdout: make(lines, 100), stderr: make(lines, 1000), cancel: cancel, status: make(chan int, 1)}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	i.client = &http.Client{Transport: transport, Timeout: time.Minute}
	p.stdout, p.stderr = i.stdout, i.stderr
	if p.grace == 0 {
		p.grace = time.Minute
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.status <- p.run(ctx, append([]string{"serve"}, args...))
	}()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		<-ended
	})
	select {
	case line := <-i.stdout:
		i.url = strings.TrimSuffix(line, "\n")
	case <-ended:
		require.Fail(t, "not ready", i.stderr.all())
	}
	return i
}

// stop returns the exit status.
func (i *invocation) stop() int {
	i.cancel()
	return <-i.status
}

// run runs a command to its end. It stops a service as soon as that is ready.
func run(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, log strings.Builder
	p := program{stdin: strings.NewReader(stdin), stdout: writer(func(b []byte) (int, error) {
		cancel()
		return out.Write(b)
	}), stderr: &log}
	status = p.run(ctx, args)
	return status, out.String(), log.String()
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestHelpIsPrinted(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"-help"}, {"--help"}} {
		status, stdout, stderr := run(t, "", args...)
		require.Zero(t, status)
		require.Contains(t, stdout, "kms serve [flags] ")
		require.Empty(t, stderr)
	}
	status, stdout, stderr := run(t, "", "serve", "-h")
	require.Zero(t, status)
	require.Empty(t, stderr)
	require.Equal(t, 21, strings.Count(stdout, "\n  --"))
	require.Contains(t, stdout, "\n  --listen ADDRESS\n        ADDRESS and port")
	require.Contains(t, stdout, "(127.0.0.1:8080)\n")
}

func TestVersionIsPrinted(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"-version"}, {"--version"}} {
		status, stdout, stderr := run(t, "", args...)
		require.Zero(t, status)
		require.Regexp(t, `^kms \S+ go1\..+\n$`, stdout)
		require.Empty(t, stderr)
	}
}

func TestDocumentListsEveryFlagAndHasAValidExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/serve.md")
	require.NoError(t, err)
	_, help, _ := run(t, "", "serve", "-h")
	for _, flag := range regexp.MustCompile(`(?m)^  (--[a-z-]+ [A-Z]+)$`).FindAllStringSubmatch(help, -1) {
		require.Regexp(t, "(?m)^\\| .*`"+flag[1]+"`.* \\|.*\\|.*\\|$", string(text))
	}
	_, example, ok := strings.Cut(string(text), "```yaml\nversion:")
	require.True(t, ok)
	example, _, _ = strings.Cut(example, "```")
	parsed, err := parseCredentials([]byte("version:" + example))
	require.NoError(t, err)
	require.Len(t, parsed.known, 2)
}

func TestMistakesInTheCommandLineAreRefused(t *testing.T) {
	credentials, cert, key := file(t, "credentials", credentialsText), "no-such-cert", "no-such-key"
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "there is no command"},
		{"an unknown command", []string{"sevre"}, `"sevre" is not a command`},
		{"an unknown flag", []string{"serve", "--port", "80"}, "-port"},
		{"a flag without its value", []string{"serve", "--store"}, "-store"},
		{"an argument", []string{"serve", "now"}, `not "now"`},
		{"an empty value", []string{"serve", "--store", "", "--passphrase-file", ""}, "is empty"},
		{"a store without a passphrase", []string{"serve", "--store", "s"}, "--store goes together with --key-file or --passphrase-file"},
		{"a passphrase without a store", []string{"serve", "--passphrase-file", "p"}, "--store goes together with --key-file or --passphrase-file"},
		{"a certificate without its key", []string{"serve", "--tls-cert", cert}, "--tls-cert and --tls-key go together"},
		{"a key without its certificate", []string{"serve", "--tls-key", key}, "--tls-cert and --tls-key go together"},
		{"two addresses", []string{"serve", "--listen", ":0", "--insecure-listen", ":0"}, "--listen and --insecure-listen exclude each other"},
		{"an empty address", []string{"serve", "--insecure-listen", ""}, "--insecure-listen is empty"},
		{"no port, insecurely", []string{"serve", "--insecure-listen", "0.0.0.0"}, `--insecure-listen "0.0.0.0" is not an address and a port`},
		{"an empty host", []string{"serve", "--allow-host", ""}, "--allow-host is empty"},
		{"a host with a port", []string{"serve", "--allow-host", "kms:8080"}, "not a host name or an address"},
		{"a host with credentials", []string{"serve", "--allow-host", "kms", "--credentials", credentials}, "--allow-host has no effect with --credentials"},
		{"no connections", []string{"serve", "--max-connections", "0"}, "--max-connections is a number from 1 to 1000000"},
		{"too many connections", []string{"serve", "--max-connections", "1000001"}, "--max-connections is a number from 1 to 1000000"},
		{"connections that are not a number", []string{"serve", "--max-connections", "many"}, "-max-connections"},
		{"no port", []string{"serve", "--listen", "127.0.0.1"}, "is not an address and a port"},
		{"an invalid port", []string{"serve", "--listen", ":99999"}, `--listen ":99999": "99999" is not a port`},
		{"an unknown service", []string{"serve", "--listen", "127.0.0.1:htpt"}, `"htpt" is not a port`},
		{"all addresses", []string{"serve", "--listen", "0.0.0.0:0"}, "open to other machines"},
		{"all addresses, by default", []string{"serve", "--listen", ":0"}, "open to other machines"},
		{"all addresses of IPv6", []string{"serve", "--listen", "[::]:0"}, "open to other machines"},
		{"an address of a network", []string{"serve", "--listen", "192.0.2.1:0"}, "open to other machines"},
		{"the same, mapped to IPv6", []string{"serve", "--listen", "[::ffff:192.0.2.1]:0"}, "open to other machines"},
		{"a network with only TLS", []string{"serve", "--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key}, "open to other machines"},
		{"a network with only credentials", []string{"serve", "--listen", "0.0.0.0:0", "--credentials", credentials}, "open to other machines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := run(t, "", tt.args...)
			require.Equal(t, 2, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		})
	}
}

func TestAFailureNamesItsCause(t *testing.T) {
	passphrase := file(t, "passphrase", "a good passphrase\n")
	store := filepath.Join(t.TempDir(), "keys")
	require.Zero(t, start(t, program{}, "--store", store, "--passphrase-file", passphrase).stop())

	withKeyFile := filepath.Join(t.TempDir(), "keys")
	rootKey := filepath.Join(t.TempDir(), "root.key")
	require.NoError(t, keystore.CreateKeyFile(rootKey))
	svc, err := kms.Open(withKeyFile, keystore.KeyFile(rootKey), kms.Config{})
	require.NoError(t, err)
	require.NoError(t, svc.Close())

	inUse := filepath.Join(t.TempDir(), "keys")
	busy := start(t, program{}, "--store", inUse, "--passphrase-file", passphrase)

	readable := file(t, "readable", "a good passphrase\n")
	require.NoError(t, os.Chmod(readable, 0o640))
	for _, tt := range []struct {
		name  string
		stdin string
		args  []string
		want  string
	}{
		{"a wrong passphrase", "", []string{"--store", store, "--passphrase-file", file(t, "wrong", "another")}, "kms: --passphrase-file: not the passphrase of " + store + "\n"},
		{"a passphrase with two newlines", "a good passphrase\n\n", []string{"--store", store, "--passphrase-file", "-"}, "kms: --passphrase-file: not the passphrase of " + store + "\n"},
		{"a passphrase for the store of a key file", "", []string{"--store", withKeyFile, "--passphrase-file", passphrase}, `sealed under one of kind "keyfile"`},
		{"a store in use", "", []string{"--store", inUse, "--passphrase-file", passphrase}, "the file is already open"},
		{"a store that is another file", "", []string{"--store", passphrase, "--passphrase-file", passphrase}, "damaged"},
		{"a passphrase that others can read", "", []string{"--store", store, "--passphrase-file", readable}, "mode 0600 or less"},
		{"a passphrase that is a directory", "", []string{"--store", store, "--passphrase-file", t.TempDir()}, "a regular file"},
		{"a missing passphrase file", "", []string{"--store", store, "--passphrase-file", passphrase + "-"}, "no such file"},
		{"an empty passphrase", "\n", []string{"--store", store, "--passphrase-file", "-"}, "- is empty"},
		{"a passphrase that is too long", strings.Repeat("a", maxPassphraseBytes+1), []string{"--store", store, "--passphrase-file", "-"}, "longer than 4096 bytes"},
		{"a port in use", "", []string{"--listen", strings.TrimPrefix(busy.url, "http://")}, "address already in use"},
		{"an invalid account", "", []string{"--account", "1"}, "not 12 digits"},
		{"an invalid Region", "", []string{"--region", "Mars"}, "not the name of a Region"},
		{"an invalid seed file", "", []string{"--seed", passphrase}, "seed:"},
		{"a missing seed file of a service for tests", "", []string{"--test", "--seed", passphrase + "-"}, "--seed: "},
		{"a store that must exist", "", []string{"--store", passphrase + "-", "--must-exist", "--passphrase-file", passphrase}, "--must-exist: " + passphrase + "-"},
		{"invalid credentials", "", []string{"--credentials", passphrase}, "line 1: a mapping is wanted"},
		{"an invalid certificate", "", []string{"--tls-cert", passphrase, "--tls-key", passphrase}, "--tls-cert and --tls-key: "},
		{"a private key that others can read", "", []string{"--tls-cert", passphrase, "--tls-key", readable}, "mode 0600 or less"},
		{"an audit log that cannot be written", "", []string{"--audit", t.TempDir()}, "--audit: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := run(t, tt.stdin, append([]string{"serve", "--listen", "127.0.0.1:0"}, tt.args...)...)
			require.Equal(t, 1, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
			require.NotContains(t, stderr, "a good passphrase")
		})
	}
}

func TestServiceEndsIfItsURLCannotBePrinted(t *testing.T) {
	stdout, w := io.Pipe()
	require.NoError(t, stdout.Close())
	p := program{stdout: w, stderr: io.Discard}
	require.Equal(t, 1, p.run(t.Context(), []string{"serve", "--listen", "127.0.0.1:0"}))
}
