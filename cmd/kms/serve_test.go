package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// An access signs requests. The zero value does not sign.
type access struct{ id, secret, token string }

// request returns a request of the protocol, signed as the IAM User Guide describes, without any
// code of package awsapi.
func (a access) request(t *testing.T, url, operation, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	if a.id == "" {
		return r
	}
	now := time.Now().UTC().Format("20060102T150405Z")
	scope := now[:8] + "/eu-west-1/kms/aws4_request"
	r.Header.Set("X-Amz-Date", now)
	names, canonical := "host;x-amz-date;x-amz-target", "POST\n/\n\nhost:"+r.Host+"\nx-amz-date:"+now+"\n"
	if a.token != "" {
		r.Header.Set("X-Amz-Security-Token", a.token)
		names, canonical = "host;x-amz-date;x-amz-security-token;x-amz-target", canonical+"x-amz-security-token:"+a.token+"\n"
	}
	canonical += "x-amz-target:TrentService." + operation + "\n\n" + names + "\n" + digest(body)
	key := []byte("AWS4" + a.secret)
	for _, part := range []string{now[:8], "eu-west-1", "kms", "aws4_request", "AWS4-HMAC-SHA256\n" + now + "\n" + scope + "\n" + digest(canonical)} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", a.id, scope, names, key))
	return r
}

func digest(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// An answer is the response of an operation.
type answer struct {
	KeyMetadata struct{ Arn, KeyId, Description string }
	Type        string `json:"__type"`
}

func (i *invocation) do(r *http.Request) (int, string) {
	i.Helper()
	response, err := i.client.Do(r)
	require.NoError(i, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(i, err)
	return response.StatusCode, string(body)
}

func (i *invocation) call(a access, operation, body string) (status int, out answer) {
	i.Helper()
	status, text := i.do(a.request(i.T, i.url, operation, body))
	require.NoError(i, json.Unmarshal([]byte(text), &out), text)
	return status, out
}

func (i *invocation) health() (int, string) {
	i.Helper()
	r, err := http.NewRequestWithContext(i.Context(), http.MethodGet, i.url+"/healthz", nil)
	require.NoError(i, err)
	return i.do(r)
}

func TestServesUntilItIsStopped(t *testing.T) {
	i := start(t, program{}, "--account", "444455556666", "--region", "eu-central-1")
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, i.url)
	status, body := i.health()
	require.Equal(t, "200 ok", fmt.Sprint(status, " ", body))

	status, out := i.call(access{}, "CreateKey", `{"Description":"not for the log"}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, out.KeyMetadata.Arn, "arn:aws:kms:eu-central-1:444455556666:key/")

	require.Zero(t, i.stop())
	require.Empty(t, i.stdout, "one line and no more")
	log := i.stderr.all()
	require.Contains(t, log, "the keys are in memory, and lost when the service stops")
	require.Contains(t, log, "everyone who can connect may use all keys")
	require.Contains(t, log, "stopping")
	require.NotContains(t, log, "not for the log")
}

func TestStoreIsKeptFromOneStartToTheNext(t *testing.T) {
	store := filepath.Join(t.TempDir(), "keys")
	first := start(t, program{}, "--store", store, "--passphrase-file", file(t, "passphrase", "correct horse\n"))
	_, created := first.call(access{}, "CreateKey", `{}`)
	require.Zero(t, first.stop())
	require.NotContains(t, first.stderr.all(), "in memory")

	second := start(t, program{stdin: strings.NewReader("correct horse")}, "--store", store, "--passphrase-file", "-")
	status, found := second.call(access{}, "DescribeKey", `{"KeyId":"`+created.KeyMetadata.KeyId+`"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, created.KeyMetadata.Arn, found.KeyMetadata.Arn)
}

func TestNothingIsCreatedIfThePortIsInUse(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	status, _, stderr := run(t, "a good passphrase", "serve", "--listen", taken.Addr().String(), "--passphrase-file", "-",
		"--store", filepath.Join(dir, "keys"), "--audit", filepath.Join(dir, "audit"), "--seed", file(t, "seed.yaml", "version: 1\nkeys: []\n"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "address already in use")
	made, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, made)
}

func TestSeededKeysExistFromTheStart(t *testing.T) {
	seed := file(t, "seed.yaml", "version: 1\nkeys:\n- id: 1234abcd-12ab-34cd-56ef-1234567890ab\n  aliases: [alias/app]\n")
	i := start(t, program{}, "--seed", seed)
	_, out := i.call(access{}, "DescribeKey", `{"KeyId":"alias/app"}`)
	require.Equal(t, "1234abcd-12ab-34cd-56ef-1234567890ab", out.KeyMetadata.KeyId)
}

func TestAuditLogHasCallsButNotProbes(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit")
	for range 2 { // the second appends
		i := start(t, program{}, "--audit", log)
		i.call(access{}, "CreateKey", `{}`)
		i.health()
		require.Zero(t, i.stop())
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(text), "\n"))
	require.Equal(t, 2, strings.Count(string(text), `"eventName":"CreateKey"`))
	info, err := os.Stat(log)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestAnEventAfterAnIncompleteOneHasItsOwnLine(t *testing.T) {
	const torn = `{"eventName":"Cre`
	log := file(t, "audit", torn)
	i := start(t, program{}, "--audit", log)
	i.call(access{}, "CreateKey", `{}`)
	require.Zero(t, i.stop())
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, torn, lines[0])
	require.True(t, json.Valid([]byte(lines[1])), lines[1])
	require.Empty(t, lines[2])
}

func TestTheLogSaysWhatIsServed(t *testing.T) {
	i := start(t, program{})
	require.Regexp(t, `msg=serving address=127\.0\.0\.1:\d+ tls=false store=memory account=111122223333 region=us-east-1\n`, i.stderr.all())

	seed, log := file(t, "keys.yaml", "version: 1\nkeys: []\n"), filepath.Join(t.TempDir(), "audit.log")
	i = start(t, program{}, "--seed", seed, "--audit", log, "--credentials", file(t, "credentials", credentialsText),
		"--account", "444455556666", "--region", "eu-west-1")
	require.Contains(t, i.stderr.all(), "store=memory seed="+seed+" audit="+log+" credentials=2 account=444455556666 region=eu-west-1\n")
}

func TestWithCredentialsOnlySignedRequestsAreAnswered(t *testing.T) {
	i := start(t, program{}, "--credentials", file(t, "credentials", credentialsText))
	for _, tt := range []struct {
		name string
		access
		want string // of the exception, or of the ARN
	}{
		{"unsigned", access{}, "MissingAuthenticationTokenException"},
		{"by an unknown key", access{"AKIDUNKNOWN", longTerm, ""}, "UnrecognizedClientException"},
		{"with a wrong secret", access{"AKIDEXAMPLE", temporary, ""}, "InvalidSignatureException"},
		{"without the session token", access{"ASIAEXAMPLE", temporary, ""}, "UnrecognizedClientException"},
		{"long-term", access{"AKIDEXAMPLE", longTerm, ""}, "arn:aws:kms:eu-west-1:444455556666:key/"},
		{"temporary", access{"ASIAEXAMPLE", temporary, token}, "arn:aws:kms:eu-west-1:111122223333:key/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, out := i.call(tt.access, "CreateKey", `{}`)
			require.Contains(t, out.Type+out.KeyMetadata.Arn, tt.want)
		})
	}
	status, _ := i.health()
	require.Equal(t, http.StatusOK, status, "a probe has no credentials")
	require.NotContains(t, i.stderr.all(), "everyone")
}

func TestWebPagesAreAnsweredOnlyWithCredentials(t *testing.T) {
	for want, args := range map[int][]string{
		http.StatusForbidden: nil,
		http.StatusOK:        {"--credentials", file(t, "credentials", credentialsText)},
	} {
		i := start(t, program{}, args...)
		for _, header := range []string{"Origin", "Sec-Fetch-Site"} {
			r := access{"AKIDEXAMPLE", longTerm, ""}.request(t, i.url, "CreateKey", `{}`)
			r.Header.Set(header, "http://rebound.example")
			status, _ := i.do(r)
			require.Equal(t, want, status)
		}
	}
}

func TestInsecureListenIsOpenToOtherMachinesWithAWarning(t *testing.T) {
	for name, tt := range map[string]struct {
		args              []string
		everyone, inClear bool
	}{
		"nothing else":     {nil, true, true},
		"with credentials": {[]string{"--credentials", file(t, "credentials", credentialsText)}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, program{}, append([]string{"--insecure-listen", "0.0.0.0:0"}, tt.args...)...)
			require.Regexp(t, `^http://localhost:\d+$`, i.url)
			log := i.stderr.all()
			require.Regexp(t, `level=WARN msg="--insecure-listen: other machines may be able to connect" address=(0\.0\.0\.0|\[::\]):\d+\n`, log)
			require.Equal(t, tt.everyone, strings.Contains(log, "everyone who can connect may use all keys"))
			require.Equal(t, tt.inClear, strings.Contains(log, "data keys and plaintexts cross the network unencrypted"))
			status, _ := i.call(access{"AKIDEXAMPLE", longTerm, ""}, "CreateKey", `{}`)
			require.Equal(t, http.StatusOK, status)
		})
	}
}

func TestOnlyKnownHostsAreAnsweredWithoutCredentials(t *testing.T) {
	status := func(i *invocation, host string) int {
		r := access{}.request(t, i.url, "CreateKey", `{}`)
		r.Host = host
		status, _ := i.do(r)
		return status
	}
	i := start(t, program{}, "--allow-host", "kms", "--allow-host", "kms.internal")
	for _, host := range []string{"localhost", "127.0.0.1:8080", "kms:8080", "kms.internal"} {
		require.Equal(t, http.StatusOK, status(i, host), host)
	}
	require.Equal(t, http.StatusForbidden, status(i, "rebound.example"))

	s, err := new(program).serveSettings([]string{"--insecure-listen", "kms.example:0", "--allow-host", "::1"})
	require.NoError(t, err)
	require.Equal(t, []string{"kms.example", "::1"}, s.hosts())
	for _, everywhere := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		s, err := new(program).serveSettings([]string{"--insecure-listen", everywhere})
		require.NoError(t, err)
		require.Empty(t, s.hosts())
	}
}

// The recipe for containers in the manual, with the address changed to a free port.
func TestTheRecipeForContainersWorks(t *testing.T) {
	text, err := os.ReadFile("../../docs/serve.md")
	require.NoError(t, err)
	_, recipe, ok := strings.Cut(string(text), "```yaml\nservices:")
	require.True(t, ok)
	recipe, _, _ = strings.Cut(recipe, "```")
	var compose struct {
		Services struct {
			KMS struct {
				Build          string
				Command, Ports []string
			}
			App struct{ Environment map[string]string }
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte("services:"+recipe), &compose))
	kms := compose.Services.KMS
	for _, port := range kms.Ports {
		require.Regexp(t, `^127\.0\.0\.1:`, port, "published to this machine only")
	}
	require.Equal(t, ".", kms.Build, "the root of the repository, with its Dockerfile")

	require.Equal(t, "serve", kms.Command[0])
	args := kms.Command[1:]
	at := slices.Index(args, "--insecure-listen") + 1
	require.Equal(t, ":8080", args[at])
	args[at] = ":0"
	i := start(t, program{}, args...)
	app := compose.Services.App.Environment
	endpoint, ok := strings.CutPrefix(app["AWS_ENDPOINT_URL_KMS"], "http://")
	require.True(t, ok)
	r := access{app["AWS_ACCESS_KEY_ID"], app["AWS_SECRET_ACCESS_KEY"], ""}.request(t, i.url, "CreateKey", `{}`)
	r.Host = endpoint
	status, body := i.do(r)
	require.Equal(t, http.StatusOK, status, body)
	r = access{}.request(t, i.url, "CreateKey", `{}`)
	r.Host = "rebound.example"
	status, _ = i.do(r)
	require.Equal(t, http.StatusForbidden, status)
}

func TestAStoreThatCannotBeUsedIsNotHealthy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	root := filepath.Join(t.TempDir(), "root.key")
	require.NoError(t, keystore.CreateKeyFile(root))
	svc, err := kms.Open(path, keystore.KeyFile(root), kms.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer svc.Close()
	h := withHealthCheck(http.NotFoundHandler(), svc, slog.New(slog.DiscardHandler))
	gone, cancel := context.WithCancel(t.Context())
	cancel() // as for a probe that has closed its side of the connection
	probe := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(gone, http.MethodGet, "/healthz", nil))
		return w.Code
	}
	require.Equal(t, http.StatusOK, probe())
	require.NoError(t, os.Remove(path))
	require.Equal(t, http.StatusServiceUnavailable, probe())
	_, err = svc.CreateKey(t.Context(), nil)
	require.ErrorIs(t, err, keystore.ErrReplaced, "it is not acknowledged and lost")
}

// certificate writes a self-signed certificate for localhost and 127.0.0.1, and returns a pool with
// it.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return file(t, "cert.pem", encode("CERTIFICATE", der)), file(t, "key.pem", encode("PRIVATE KEY", pkcs8)), roots
}

func TestTLSIs13WithAHybridKeyExchange(t *testing.T) {
	cert, key, roots := certificate(t)
	i := start(t, program{}, "--tls-cert", cert, "--tls-key", key)
	require.Regexp(t, `^https://127\.0\.0\.1:\d+$`, i.url)
	trust(i, &tls.Config{RootCAs: roots})

	response, err := i.client.Get(i.url + "/healthz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "HTTP/2.0", response.Proto)
	require.Equal(t, uint16(tls.VersionTLS13), response.TLS.Version)
	require.Equal(t, tls.X25519MLKEM768, response.TLS.CurveID)

	trust(i, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12})
	_, err = i.client.Get(i.url + "/healthz")
	require.ErrorContains(t, err, "protocol version")
}

// trust sets the TLS configuration of the client of an invocation.
func trust(i *invocation, config *tls.Config) {
	transport := i.client.Transport.(*http.Transport)
	transport.CloseIdleConnections()
	transport = transport.Clone()
	transport.TLSClientConfig = config
	i.client.Transport = transport
	i.Cleanup(transport.CloseIdleConnections)
}

func TestOtherMachinesNeedCredentialsAndTLS(t *testing.T) {
	cert, key, roots := certificate(t)
	i := start(t, program{}, "--listen", ":0", "--credentials", file(t, "credentials", credentialsText), "--tls-cert", cert, "--tls-key", key)
	require.Regexp(t, `^https://localhost:\d+$`, i.url)
	trust(i, &tls.Config{RootCAs: roots})
	_, out := i.call(access{"AKIDEXAMPLE", longTerm, ""}, "CreateKey", `{}`)
	require.NotEmpty(t, out.KeyMetadata.Arn)
}

func TestEveryAddressOfANameMustBeLoopback(t *testing.T) {
	for text, want := range map[string]bool{
		"":                    false, // all of them
		"127.0.0.1":           true,
		"127.255.0.1 ::1":     true,
		"::ffff:127.0.0.1":    true,
		"127.0.0.1 192.0.2.1": false,
		"::1 2001:db8::1":     false,
		"::ffff:192.0.2.1":    false,
		"0.0.0.0":             false,
		"::":                  false,
		"fe80::1%lo":          false,
	} {
		var addresses []netip.Addr
		for _, a := range strings.Fields(text) {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		require.Equal(t, want, areLoopback(addresses), text)
	}
}

func TestANameIsResolvedOnce(t *testing.T) {
	s := settings{listen: "localhost:0"}
	address, err := s.address(t.Context())
	require.NoError(t, err)
	require.Contains(t, []string{"127.0.0.1:0", "[::1]:0"}, address)
}

// unfinished sends a request without the last byte of its body, and returns when the service waits
// for it.
func unfinished(t *testing.T, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n"+
		"X-Amz-Target: TrentService.CreateKey\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	line, err := from.ReadString('\n') // sent when the handler reads the body
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	_, err = from.ReadString('\n')
	require.NoError(t, err)
	_, err = io.WriteString(conn, "{")
	require.NoError(t, err)
	return conn, from
}

func TestRequestsInProgressAreFinished(t *testing.T) {
	i := start(t, program{})
	conn, from := unfinished(t, i.url)
	i.cancel()
	for line := range i.stderr {
		if strings.Contains(line, "stopping") {
			break
		}
	}
	_, err := io.WriteString(conn, "}")
	require.NoError(t, err)
	response, err := http.ReadResponse(from, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Zero(t, i.stop())
	require.NotContains(t, i.stderr.all(), "cut off")
}

func TestRequestsThatDoNotEndAreInterrupted(t *testing.T) {
	i := start(t, program{grace: time.Nanosecond})
	_, from := unfinished(t, i.url)
	require.Zero(t, i.stop())
	require.Contains(t, i.stderr.all(), "cut off")
	_, err := from.ReadByte()
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
