package kmstest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

// A testServer sends requests to a Server as a program on the same machine does.
type testServer struct {
	*kmstest.Server
	testing.TB
}

func newServer(t testing.TB, options ...kmstest.Option) testServer {
	t.Helper()
	s, err := kmstest.NewServer(awsapi.Options{InsecureTrustAll: true}, options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return testServer{s, t}
}

func (s testServer) request(method, path, body string) *http.Request {
	r := httptest.NewRequestWithContext(s.Context(), method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:4711"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (s testServer) do(r *http.Request) (status int, body string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

// control makes a request of the control API that succeeds, and returns its answer.
func (s testServer) control(method, path, body string) (answer map[string]any) {
	s.Helper()
	status, text := s.do(s.request(method, path, body))
	require.Equal(s, http.StatusOK, status, text)
	require.NoError(s, json.Unmarshal([]byte(text), &answer))
	return answer
}

// fork returns the path of a new fork.
func (s testServer) fork(of, body string) string {
	s.Helper()
	return strings.TrimPrefix(s.control("POST", of+"/test/v1/fork", body)["url"].(string), "http://127.0.0.1:8080")
}

// call calls an operation of the service at a path, and returns the exception, if there is one.
func (s testServer) call(path, operation, input string) (exception string, output map[string]any) {
	s.Helper()
	r := s.request("POST", path+"/", input)
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	_, text := s.do(r)
	if text != "" {
		require.NoError(s, json.Unmarshal([]byte(text), &output), text)
	}
	exception, _ = output["__type"].(string)
	return exception, output
}

func TestAMonthInTheLifeOfAKey(t *testing.T) {
	t.Parallel()
	s := newServer(t, kmstest.Seed(seed.Key{ID: aKey}))
	exception, _ := s.call("", "ScheduleKeyDeletion", `{"KeyId":"`+aKey+`"}`)
	require.Empty(t, exception)
	require.Equal(t, "2026-01-30T23:59:59.5Z", s.control("POST", "/test/v1/advance", `{"days":29,"seconds":86399.5}`)["now"])
	exception, _ = s.call("", "DescribeKey", `{"KeyId":"`+aKey+`"}`)
	require.Empty(t, exception)
	s.control("POST", "/test/v1/advance", `{"seconds":0.5}`)
	exception, _ = s.call("", "DescribeKey", `{"KeyId":"`+aKey+`"}`)
	require.Equal(t, "NotFoundException", exception)
	require.Equal(t, map[string]any{"now": "2026-01-31T00:00:00Z", "waiting": 0.0}, s.control("GET", "/test/v1/clock", ""))
}

func TestForksAndTheirParentDoNotSeeOneAnother(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.control("POST", "/test/v1/seed", `{"version":1,"keys":[{"id":"`+aKey+`","aliases":["alias/app"]}]}`)
	s.control("POST", "/test/v1/advance", `{"days":1}`)
	s.control("POST", "/test/v1/faults", `{"error":"DisabledException"}`)
	one, two := s.fork("", ""), s.fork("", "{}")
	require.Equal(t, []string{"/forks/1", "/forks/2"}, []string{one, two})
	require.Equal(t, "2026-01-02T00:00:00Z", s.control("GET", one+"/test/v1/clock", "")["now"])
	require.Empty(t, s.control("GET", one+"/test/v1/faults", "")["faults"])

	exception, _ := s.call(one, "DeleteAlias", `{"AliasName":"alias/app"}`)
	require.Empty(t, exception)
	s.control("POST", one+"/test/v1/advance", `{"days":1}`)
	grandchild := s.fork(one, `{"start":"2027-01-01T01:00:00+01:00"}`)
	for path, want := range map[string]string{one: "NotFoundException", grandchild: "NotFoundException", two: "", "": "DisabledException"} {
		exception, _ := s.call(path, "DescribeKey", `{"KeyId":"alias/app"}`)
		require.Equal(t, want, exception, path)
	}
	require.Equal(t, "2027-01-01T00:00:00Z", s.control("GET", grandchild+"/test/v1/clock", "")["now"])
	require.Len(t, s.control("GET", two+"/test/v1/calls", "")["calls"], 1)

	s.control("DELETE", one+"/test/v1", "")
	status, text := s.do(s.request("GET", one+"/test/v1/clock", ""))
	require.Equal(t, `404 {"error":"there is no such fork, or it was deleted"}`, fmt.Sprint(status, " ", text))
	exception, _ = s.call(one, "ListKeys", "{}")
	require.Equal(t, "ResourceNotFoundException", exception)
	exception, _ = s.call(grandchild, "ListKeys", "{}")
	require.Empty(t, exception, "a fork outlives its parent")
	require.Equal(t, "/forks/4", s.fork(two, ""), "no name is used twice")
}

func TestResetReturnsToTheStart(t *testing.T) {
	t.Parallel()
	s := newServer(t, kmstest.Seed(seed.Key{ID: aKey}), kmstest.EventualConsistency(time.Hour))
	s.control("POST", "/test/v1/advance", `{"days":1}`)
	fork := s.fork("", "")
	for _, path := range []string{fork, "", fork} {
		start := s.control("GET", path+"/test/v1/clock", "")["now"]
		exception, _ := s.call(path, "ScheduleKeyDeletion", `{"KeyId":"`+aKey+`"}`)
		require.Empty(t, exception)
		s.control("POST", path+"/test/v1/advance", `{"days":365}`)
		s.control("POST", path+"/test/v1/faults", `{"error":"DisabledException"}`)
		if path == "" {
			start = "2026-01-01T00:00:00Z"
		}
		require.Equal(t, start, s.control("POST", path+"/test/v1/reset", "")["now"])
		require.Equal(t, start, s.control("GET", path+"/test/v1/clock", "")["now"])
		require.Empty(t, s.control("GET", path+"/test/v1/calls", "")["calls"])
		_, out := s.call(path, "DescribeKey", `{"KeyId":"`+aKey+`"}`)
		require.Equal(t, "Enabled", out["KeyMetadata"].(map[string]any)["KeyState"], "%v", out)
	}
	exception, _ := s.call(fork, "CreateAlias", `{"AliasName":"alias/new","TargetKeyId":"`+aKey+`"}`)
	require.Empty(t, exception)
	exception, _ = s.call(fork, "DescribeKey", `{"KeyId":"alias/new"}`)
	require.Equal(t, "NotFoundException", exception, "the settings are those of the start, too")
}

func TestFaultsAndCallsOverTheControlAPI(t *testing.T) {
	t.Parallel()
	s := newServer(t, kmstest.Seed(seed.Key{ID: aKey}))
	first := s.control("POST", "/test/v1/faults", `{"operations":["Encrypt"],"error":"ThrottlingException","count":1}`)["id"]
	s.control("POST", "/test/v1/faults", `{"key":"`+aKey+`","error":"DisabledException","message":"as if","after":1,"count":1}`)
	encrypt := `{"KeyId":"` + aKey + `","Plaintext":"` + base64.StdEncoding.EncodeToString([]byte("hello")) + `"}`
	for _, want := range []string{"ThrottlingException", "DisabledException", ""} {
		exception, _ := s.call("", "Encrypt", encrypt)
		require.Equal(t, want, exception)
	}
	s.call("", "ListKeys", "{}")
	faults := s.control("GET", "/test/v1/faults", "")["faults"].([]any)
	require.Equal(t, map[string]any{"id": first, "affected": 1.0, "operations": []any{"Encrypt"}, "error": "ThrottlingException", "count": 1.0}, faults[0])
	require.Equal(t, 1.0, faults[1].(map[string]any)["affected"])

	calls := s.control("GET", "/test/v1/calls?operation=Encrypt", "")["calls"].([]any)
	require.Len(t, calls, 3)
	require.Equal(t, map[string]any{
		"operation": "Encrypt", "caller": "arn:aws:iam::111122223333:root", "region": "us-east-1", "time": "2026-01-01T00:00:00Z", "injected": true,
		"error": map[string]any{"code": "DisabledException", "message": "as if"},
		"input": map[string]any{"KeyId": aKey, "Plaintext": "aGVsbG8="},
	}, calls[1])
	require.Contains(t, calls[2].(map[string]any)["output"], "CiphertextBlob")
	require.Len(t, s.control("GET", "/test/v1/calls", "")["calls"], 4)
	require.Len(t, s.control("GET", "/test/v1/calls?operation=ListKeys&operation=Encrypt", "")["calls"], 4)
	s.control("DELETE", "/test/v1/calls", "")
	require.Equal(t, map[string]any{"calls": []any{}, "dropped": 0.0}, s.control("GET", "/test/v1/calls", ""))

	s.control("DELETE", "/test/v1/faults/"+first.(string), "")
	require.Len(t, s.control("GET", "/test/v1/faults", "")["faults"], 1)
	s.control("DELETE", "/test/v1/faults", "")
	require.Empty(t, s.control("GET", "/test/v1/faults", "")["faults"])
}

// A fault that breaks the connection does what a server does then.
func TestABrokenConnectionIsRecorded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.control("POST", "/test/v1/faults", `{"error":"ConnectionError","loseResponse":true}`)
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { s.call("", "CreateKey", "{}") })
	call := s.control("GET", "/test/v1/calls", "")["calls"].([]any)[0].(map[string]any)
	require.Equal(t, map[string]any{"code": "ConnectionError"}, call["error"])
	s.control("DELETE", "/test/v1/faults", "")
	_, out := s.call("", "ListKeys", "{}")
	require.Len(t, out["Keys"], 1)
}

// A test advances the clock once the calls wait that it expects.
func TestAdvanceWaitsForCallsThatWait(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.control("POST", "/test/v1/faults", `{"operations":["ListKeys"],"latencySeconds":2}`)
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() { s.call("", "ListKeys", "{}") })
	}
	require.Equal(t, 3.0, s.control("POST", "/test/v1/advance", `{"seconds":1,"waiting":3}`)["waiting"])
	s.control("POST", "/test/v1/advance", `{"seconds":1}`)
	calls.Wait()
	for _, call := range s.control("GET", "/test/v1/calls", "")["calls"].([]any) {
		require.NotContains(t, call, "pending")
	}
}

func TestCallsThatWaitEndWhenTheirServiceIsResetDeletedOrClosed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, end := range []func(fork string){
		func(fork string) { s.control("POST", fork+"/test/v1/reset", "") },
		func(fork string) { s.control("DELETE", fork+"/test/v1", "") },
		func(string) { require.NoError(t, s.Close()) },
	} {
		fork := s.fork("", "")
		s.control("POST", fork+"/test/v1/faults", `{"latencySeconds":3600}`)
		var call sync.WaitGroup
		call.Go(func() {
			exception, _ := s.call(fork, "ListKeys", "{}")
			require.NotEmpty(t, exception)
		})
		s.control("POST", fork+"/test/v1/advance", `{"waiting":1}`)
		end(fork)
		call.Wait()
	}
	status, _ := s.do(s.request("GET", "/test/v1/clock", ""))
	require.Equal(t, http.StatusNotFound, status)
}

func TestAForkHasSettingsOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hidden := s.fork("", `{"eventualConsistencySeconds":60}`)
	_, out := s.call(hidden, "CreateKey", "{}")
	id := out["KeyMetadata"].(map[string]any)["KeyId"].(string)
	s.call(hidden, "CreateAlias", `{"AliasName":"alias/new","TargetKeyId":"`+id+`"}`)
	for _, want := range []string{"NotFoundException", ""} {
		exception, _ := s.call(hidden, "DescribeKey", `{"KeyId":"alias/new"}`)
		require.Equal(t, want, exception)
		s.control("POST", hidden+"/test/v1/advance", `{"seconds":60}`)
	}
	s.control("POST", hidden+"/test/v1/seed", `{"version":1,"keys":[{"id":"`+aKey+`","aliases":["alias/seeded"]}]}`)
	exception, _ := s.call(hidden, "DescribeKey", `{"KeyId":"alias/seeded"}`)
	require.Empty(t, exception, "what is seeded is visible at once")

	limited := s.fork("", `{"requestQuotas":true}`)
	exception = ""
	for i := 0; i < 10 && exception == ""; i++ {
		exception, _ = s.call(limited, "CreateKey", "{}")
	}
	require.Equal(t, "ThrottlingException", exception)

	for body, want := range map[string]string{"": "Creating", `{"replicationDelaySeconds":0}`: "Enabled"} {
		fork := s.fork("", body)
		_, out := s.call(fork, "CreateKey", `{"MultiRegion":true}`)
		_, out = s.call(fork, "ReplicateKey", `{"ReplicaRegion":"eu-west-1","KeyId":"`+out["KeyMetadata"].(map[string]any)["KeyId"].(string)+`"}`)
		require.Equal(t, want, out["ReplicaKeyMetadata"].(map[string]any)["KeyState"])
	}
}

func TestTheControlAPIAnswersOnlyThisMachine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for name, tt := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"another machine":             {func(r *http.Request) { r.RemoteAddr = "192.0.2.1:4711" }, "only this machine"},
		"another machine by IPv6":     {func(r *http.Request) { r.RemoteAddr = "[2001:db8::1]:4711" }, "only this machine"},
		"a socket without an address": {func(r *http.Request) { r.RemoteAddr = "@" }, "only this machine"},
		"no address":                  {func(r *http.Request) { r.RemoteAddr = "" }, "only this machine"},
		"DNS rebinding":               {func(r *http.Request) { r.Host = "rebound.example:8080" }, "the Host of a request"},
		"a name that looks like ours": {func(r *http.Request) { r.Host = "localhost.rebound.example" }, "the Host of a request"},
		"no host":                     {func(r *http.Request) { r.Host = "" }, "the Host of a request"},
		"all addresses":               {func(r *http.Request) { r.Host = "0.0.0.0:8080" }, "the Host of a request"},
		"a web page":                  {func(r *http.Request) { r.Header.Set("Origin", "http://localhost:3000") }, "web pages"},
		"a web page in a sandbox":     {func(r *http.Request) { r.Header.Set("Origin", "null") }, "web pages"},
		"a link":                      {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, "web pages"},
		"a proxy":                     {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }, "proxy"},
		"a standard proxy":            {func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.1") }, "proxy"},
		"a proxy that names itself":   {func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") }, "proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			for path, method := range map[string]string{"/test/v1/clock": "GET", "/test/v1/advance": "POST", "/forks/1/test/v1/clock": "GET", "/test/": "GET"} {
				r := s.request(method, path, "")
				tt.change(r)
				status, text := s.do(r)
				require.Equal(t, http.StatusForbidden, status, path)
				require.Contains(t, text, tt.want)
			}
		})
	}
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4711", "[::1]:8080" },
		func(r *http.Request) { r.RemoteAddr, r.Host = "[::ffff:127.0.0.1]:4711", "localhost:8080" },
		func(r *http.Request) { r.RemoteAddr, r.Host = "127.0.0.2:4711", "KMS.localhost" },
	} {
		r := s.request("GET", "/test/v1/clock", "")
		change(r)
		status, text := s.do(r)
		require.Equal(t, http.StatusOK, status, text)
	}
}

func TestBadRequestsOfTheControlAPI(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	huge := strings.Repeat(" ", 64<<10+1)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/test/v1/clocks", "", 404, "no such path"},
		{"GET", "/test/v2/clock", "", 404, "no such path"},
		{"GET", "/test", "", 404, "no such path"},
		{"GET", "/test/v1/clock/", "", 404, "no such path"},
		{"GET", "/test/v11/clock", "", 404, "no such path"},
		{"PUT", "/test/v1/clock", "", 405, "this path has no PUT"},
		{"GET", "/test/v1/faults/1", "", 405, "this path has no GET"},
		{"DELETE", "/test/v1", "", 405, "only a fork can be deleted"},
		{"GET", "/forks/77/test/v1/clock", "", 404, "no such fork"},
		{"GET", "/forks/test/v1/clock", "", 404, "no such fork"},
		{"POST", "/test/v1/advance", `{"days":-1}`, 400, "days is a number from 0 to 36525"},
		{"POST", "/test/v1/advance", `{"seconds":1e300}`, 400, "seconds is a number from 0 to 3155760000"},
		{"POST", "/test/v1/advance", `{"days":"30"}`, 400, "days cannot be a JSON string"},
		{"POST", "/test/v1/advance", `{"day":30}`, 400, `unknown field \"day\"`},
		{"POST", "/test/v1/advance", `{"days":30}{}`, 400, "more than one JSON value"},
		{"POST", "/test/v1/advance", `{"days":30`, 400, "not the JSON of this request"},
		{"POST", "/test/v1/advance", `[30]`, 400, "the body cannot be a JSON array"},
		{"POST", "/test/v1/advance", huge, 413, "more than 65536 bytes"},
		{"POST", "/test/v1/faults", `{}`, 400, "an error or latencySeconds"},
		{"POST", "/test/v1/faults", `{"error":"throttled"}`, 400, "not the name of an exception"},
		{"POST", "/test/v1/faults", `{"message":"x","latencySeconds":1}`, 400, "a message needs an error"},
		{"POST", "/test/v1/faults", `{"error":"ConnectionError","message":"x"}`, 400, "has no message"},
		{"POST", "/test/v1/faults", `{"latencySeconds":1,"loseResponse":true}`, 400, "loseResponse needs an error"},
		{"POST", "/test/v1/faults", `{"latencySeconds":-1}`, 400, "latencySeconds is a number"},
		{"POST", "/test/v1/faults", `{"latencySeconds":31,"wallClock":true}`, 400, "latencySeconds is a number from 0 to 30"},
		{"POST", "/test/v1/faults", `{"error":"DisabledException","operations":["Encrpyt"]}`, 400, `no operation \"Encrpyt\"`},
		{"POST", "/test/v1/faults", `{"error":"DisabledException","count":-1}`, 400, "must not be negative"},
		{"POST", "/test/v1/faults", `{"error":"DisabledException","probability":2}`, 400, "between 0 and 1"},
		{"POST", "/test/v1/faults", `{"error":"DisabledException","id":"7"}`, 400, "unknown field"},
		{"DELETE", "/test/v1/faults/7", "", 404, "no such fault"},
		{"GET", "/test/v1/calls?operation=decrypt", "", 400, `no operation \"decrypt\"`},
		{"POST", "/test/v1/seed", "", 400, "is empty"},
		{"POST", "/test/v1/seed", `{"version":1,"keys":[{"id":"x"}]}`, 400, "seed:"},
		{"POST", "/test/v1/seed", strings.Repeat("#", 4<<20+1), 413, "more than 4194304 bytes"},
		{"POST", "/test/v1/fork", `{"start":"2025-01-01T00:00:00Z"}`, 400, "before the current time of its parent"},
		{"POST", "/test/v1/fork", `{"start":"9999-02-01T00:00:00Z"}`, 400, "the clock ends"},
		{"POST", "/test/v1/fork", `{"start":"tomorrow"}`, 400, "parsing time"},
		{"POST", "/test/v1/fork", `{"eventualConsistencySeconds":1e9}`, 400, "a number from 0 to 3600"},
		{"POST", "/test/v1/fork", `{"replicationDelaySeconds":-1}`, 400, "a number from 0 to 3600"},
		{"POST", "/test/v1/reset", `{"to":"start"}`, 400, "unknown field"},
	} {
		t.Run(fmt.Sprintf("%s %s %.60s", tt.method, tt.path, tt.body), func(t *testing.T) {
			status, text := s.do(s.request(tt.method, tt.path, tt.body))
			require.Equal(t, tt.status, status, text)
			require.Contains(t, text, tt.want)
			require.True(t, json.Valid([]byte(text)))
		})
	}
	r := s.request("POST", "/test/v1/advance", `{"days":1}`)
	r.Header.Set("Content-Type", "text/plain") // which a web page sends without asking
	status, text := s.do(r)
	require.Equal(t, http.StatusUnsupportedMediaType, status, text)
	require.Equal(t, "2026-01-01T00:00:00Z", s.control("GET", "/test/v1/clock", "")["now"], "nothing has changed")
	require.Empty(t, s.control("GET", "/test/v1/faults", "")["faults"])

	for range 80 { // the clock ends
		status, text = s.do(s.request("POST", "/test/v1/advance", `{"days":36525}`))
	}
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, text, "the clock ends with the year 9998")
}

func TestAServerWithMistakesDoesNotStart(t *testing.T) {
	t.Parallel()
	for _, option := range []kmstest.Option{
		kmstest.Configure(func(c *kms.Config) { c.Account = "1" }), kmstest.Seed(seed.Key{ID: "x"}), kmstest.SeedFile("testdata/none.yaml"),
	} {
		_, err := kmstest.NewServer(awsapi.Options{}, option)
		require.Error(t, err)
	}
}

func BenchmarkServerFork(b *testing.B) {
	s := newServer(b, kmstest.Seed(seed.Key{ID: aKey}))
	b.ReportAllocs()
	for b.Loop() {
		s.control("DELETE", s.fork("", "")+"/test/v1", "")
	}
}
