package awsapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

func newService(t testing.TB, config kms.Config) *kms.Service {
	svc, err := kms.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { svc.Close() })
	return svc
}

func request(operation, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// call sends a request that must succeed, and returns the members of the response.
func call(t testing.TB, h http.Handler, operation, body string) map[string]any {
	w := serve(h, request(operation, body))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var members map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &members))
	}
	return members
}

// golden replaces the parts of a response that differ from run to run.
func golden(body string) string {
	for pattern, with := range map[string]string{
		`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`: "KEY-ID",
		`[0-9a-f]{64}`:                "MATERIAL-ID",
		`"[A-Za-z0-9+/]{43}="`:        `"32-BYTES"`,
		`"[A-Za-z0-9+/]{100,}={0,2}"`: `"BLOB"`,
	} {
		body = regexp.MustCompile(pattern).ReplaceAllString(body, with)
	}
	return body
}

func TestResponsesOnTheWire(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	h := Handler(newService(t, kms.Config{Clock: func() time.Time { return clock }}), Options{InsecureTrustAll: true})
	key := call(t, h, "CreateKey", `{"Description":"d","Tags":[{"TagKey":"a","TagValue":""}]}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	for _, tt := range []struct{ operation, body, want string }{
		{"CreateKey", `{"MultiRegion":true}`, `{"KeyMetadata":{"KeyId":"mrk-`},
		{"DescribeKey", `{"KeyId":"KEY"}`, `{"KeyMetadata":{"KeyId":"KEY-ID","Arn":"arn:aws:kms:us-east-1:111122223333:key/KEY-ID","AWSAccountId":"111122223333",` +
			`"Description":"d","KeySpec":"SYMMETRIC_DEFAULT","CustomerMasterKeySpec":"SYMMETRIC_DEFAULT","KeyUsage":"ENCRYPT_DECRYPT","KeyState":"Enabled","Enabled":true,` +
			`"KeyManager":"CUSTOMER","Origin":"AWS_KMS","CreationDate":1.767323045678E9,"CurrentKeyMaterialId":"MATERIAL-ID","EncryptionAlgorithms":["SYMMETRIC_DEFAULT"],"MultiRegion":false}}`},
		{"GenerateDataKey", `{"KeyId":"KEY","KeySpec":"AES_256","EncryptionContext":{"a":1}}`,
			`{"KeyId":"arn:aws:kms:us-east-1:111122223333:key/KEY-ID","Plaintext":"32-BYTES","CiphertextBlob":"BLOB","KeyMaterialId":"MATERIAL-ID"}`},
		{"ListResourceTags", `{"KeyId":"KEY"}`, `{"Tags":[{"TagKey":"a","TagValue":""}],"Truncated":false}`},
		{"ListAliases", `{"KeyId":"KEY"}`, `{"Aliases":[],"Truncated":false,"AliasCount":0}`},
		{"GetKeyRotationStatus", `{"KeyId":"KEY"}`, `{"KeyId":"arn:aws:kms:us-east-1:111122223333:key/KEY-ID","KeyRotationEnabled":false}`},
		{"ListKeyPolicies", `{"KeyId":"KEY"}`, `{"PolicyNames":["default"],"Truncated":false}`},
		{"UpdateKeyDescription", `{"KeyId":"KEY","Description":""}`, ``},
		{"EnableKeyRotation", `{"KeyId":"KEY"}`, ``},
	} {
		t.Run(tt.operation, func(t *testing.T) {
			w := serve(h, request(tt.operation, strings.ReplaceAll(tt.body, "KEY\"", key+"\"")))
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			if got := golden(w.Body.String()); !strings.HasSuffix(tt.want, "-") {
				require.Equal(t, tt.want, got)
			} else {
				require.True(t, strings.HasPrefix(got, tt.want), got)
			}
			require.Equal(t, "application/x-amz-json-1.1", w.Header().Get("Content-Type"))
			require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, w.Header().Get("x-amzn-RequestId"))
			require.Empty(t, w.Header().Get("x-amzn-ErrorType"))
		})
	}
}

func TestErrorsOnTheWire(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	const null, short = " failed to satisfy constraint: Member must not be null", " failed to satisfy constraint: Member must have length greater than or equal to 1"
	for _, tt := range []struct {
		name, operation, body, code, message string
		status                               int
	}{
		{"an exception", "DescribeKey", `{"KeyId":"alias/x"}`, "NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/x is not found.", 400},
		{"an exception without a message", "Decrypt", `{"CiphertextBlob":"AAAA"}`, "InvalidCiphertextException", "", 400},
		{"a member that is absent", "DescribeKey", `{}`, "ValidationException", "1 validation error detected: Value null at 'keyId'" + null, 400},
		{"a member that is null", "DescribeKey", `{"KeyId":null}`, "ValidationException", "1 validation error detected: Value null at 'keyId'" + null, 400},
		{"a member that is empty", "DescribeKey", `{"KeyId":""}`, "ValidationException", "1 validation error detected: Value '' at 'keyId'" + short, 400},
		{"an optional member that is empty", "ListKeys", `{"Marker":""}`, "ValidationException", "1 validation error detected: Value '' at 'marker'" + short, 400},
		{"a blob that is empty", "Encrypt", `{"KeyId":"x","Plaintext":""}`, "ValidationException", "1 validation error detected: Value at 'plaintext'" + short, 400},
		{"two members", "Encrypt", `{"KeyId":""}`, "ValidationException", "2 validation errors detected: Value '' at 'keyId'" + short + "; Value null at 'plaintext'" + null, 400},
		{"a number that is zero", "ListKeys", `{"Limit":0}`, "ValidationException",
			"1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1", 400},
		{"a required member that may be empty", "UpdateKeyDescription", `{"KeyId":"x"}`, "ValidationException", "1 validation error detected: Value null at 'description'" + null, 400},
		{"such a member of an element", "TagResource", `{"KeyId":"x","Tags":[{"TagKey":"a","TagValue":""},{"TagKey":"b"}]}`, "ValidationException",
			"1 validation error detected: Value null at 'tags.2.member.tagValue'" + null, 400},
		{"an empty member of an element", "TagResource", `{"KeyId":"x","Tags":[{"TagKey":"","TagValue":""}]}`, "ValidationException",
			"1 validation error detected: Value '' at 'tags.1.member.tagKey'" + short, 400},
		{"an operation that is not there", "Frobnicate", `{}`, "UnknownOperationException", "", 400},
		{"no JSON", "ListKeys", `{`, "SerializationException", "", 400},
		{"no body", "ListKeys", ``, "SerializationException", "", 400},
		{"a wrong type", "ListKeys", `{"Limit":"1"}`, "SerializationException", "STRING_VALUE can not be converted to an Integer", 400},
		{"a large body", "ListKeys", strings.Repeat(" ", maxBody) + "{}", "RequestEntityTooLargeException", "HTTP content length exceeded 1048576 bytes.", 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(h, request(tt.operation, tt.body))
			want := map[string]any{"__type": tt.code}
			if tt.code == "SerializationException" && tt.message != "" {
				want["Message"] = tt.message
			} else if tt.message != "" {
				want["message"] = tt.message
			}
			var got map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			require.Equal(t, want, got)
			require.Equal(t, tt.status, w.Code)
			require.Equal(t, tt.code, w.Header().Get("x-amzn-ErrorType"))
			require.NotEmpty(t, w.Header().Get("x-amzn-RequestId"))
		})
	}
}

// Policies can ask whether a call says that it does not bypass the check.
func TestABypassThatIsSentAsFalseIsACondition(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	for condition, denied := range map[string]string{
		`"Null":{"kms:BypassPolicyLockoutSafetyCheck":"true"}`:  ``,
		`"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"false"}`: `,"BypassPolicyLockoutSafetyCheck":false`,
		`"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"true"}`:  `,"BypassPolicyLockoutSafetyCheck":true`,
	} {
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},` +
			`{"Effect":"Deny","Principal":"*","Action":"kms:PutKeyPolicy","Resource":"*","Condition":{` + condition + `}}]}`
		key := call(t, h, "CreateKey", `{"BypassPolicyLockoutSafetyCheck":true,"Policy":`+strconv.Quote(policy)+`}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
		for _, said := range []string{``, `,"BypassPolicyLockoutSafetyCheck":false`, `,"BypassPolicyLockoutSafetyCheck":true`} {
			w := serve(h, request("PutKeyPolicy", `{"KeyId":"`+key+`","Policy":`+strconv.Quote(policy)+said+`}`))
			require.Equal(t, said == denied, w.Code != http.StatusOK, "%s, %s: %s", condition, said, w.Body)
		}
	}
}

func TestEmptyEnumerationValueIsRefused(t *testing.T) {
	w := serve(Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}), request("CreateKey", `{"KeySpec":""}`))
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), `Value '' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [`)
}

func TestOtherRequestsAreRefused(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	for name, change := range map[string]func(*http.Request){
		"GET":                   func(r *http.Request) { r.Method = http.MethodGet },
		"OPTIONS":               func(r *http.Request) { r.Method = http.MethodOptions },
		"another path":          func(r *http.Request) { r.URL.Path = "/x" },
		"no content type":       func(r *http.Request) { r.Header.Del("Content-Type") },
		"a form's content type": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain; x=application/json") },
		"a broken content type": func(r *http.Request) { r.Header.Set("Content-Type", "application/json;;=") },
	} {
		t.Run(name, func(t *testing.T) {
			r := request("ListKeys", `{}`)
			change(r)
			w := serve(h, r)
			require.Equal(t, http.StatusNotFound, w.Code)
			require.Equal(t, `{"__type":"UnknownOperationException","message":"Send a POST to / with Content-Type application/x-amz-json-1.1 `+
				`and X-Amz-Target TrentService.<Operation>."}`, w.Body.String())
		})
	}
	for name, change := range map[string]func(*http.Request){
		"no target":       func(r *http.Request) { r.Header.Del("X-Amz-Target") },
		"another service": func(r *http.Request) { r.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListKeys") },
		"no prefix":       func(r *http.Request) { r.Header.Set("X-Amz-Target", "ListKeys") },
		"unsupported":     func(r *http.Request) { r.Header.Set("X-Amz-Target", "CreateGrant") },
	} {
		t.Run(name, func(t *testing.T) {
			r := request("ListKeys", `{}`)
			change(r)
			require.Equal(t, `{"__type":"UnknownOperationException"}`, serve(h, r).Body.String())
		})
	}
	for _, contentType := range []string{"application/x-amz-json-1.1; charset=utf-8", "application/json", "Application/X-Amz-Json-1.1"} {
		r := request("ListKeys", `{}`)
		r.Header.Set("Content-Type", contentType)
		require.Equal(t, http.StatusOK, serve(h, r).Code, contentType)
	}
	r := request("", `{}`)
	r.Header.Del("X-Amz-Target")
	r.URL.RawQuery = url.Values{"X-Amz-Target": {"TrentService.ListKeys"}}.Encode()
	require.Equal(t, http.StatusOK, serve(h, r).Code)
	r.URL.RawQuery = "%zz"
	require.Contains(t, serve(h, r).Body.String(), "InvalidSignatureException")
}

func TestUnsupportedOperationsAreNamed(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	offered := map[string]bool{}
	for _, op := range kms.Operations() {
		offered[op.Name()] = true
	}
	require.Len(t, apiOperations, 56)
	for name := range offered {
		require.Contains(t, apiOperations, name)
	}
	for _, name := range apiOperations {
		want := name + " is not among the operations of this service."
		if offered[name] {
			continue
		}
		w := serve(h, request(name, `{}`))
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Equal(t, `{"__type":"UnknownOperationException","message":"`+want+`"}`, w.Body.String())
	}
}

// The largest input that the API allows, with every character escaped.
func TestLargestInputIsAccepted(t *testing.T) {
	escaped := func(n int) string { return strings.Repeat(`\u00e9`, n) }
	var tags []string
	for range 50 {
		tags = append(tags, `{"TagKey":"`+escaped(128)+`","TagValue":"`+escaped(256)+`"}`)
	}
	body := `{"Policy":"` + escaped(131072) + `","Description":"` + escaped(8192) + `","Tags":[` + strings.Join(tags, ",") + `]}`
	w := serve(Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}), request("CreateKey", body))
	require.NotContains(t, w.Body.String(), "RequestEntityTooLarge")
	require.NotContains(t, w.Body.String(), "SerializationException")
}

func compress(t *testing.T, data []byte) *bytes.Buffer {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return &b
}

func TestCompressedBodies(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	zipped := func(encoding string, body io.Reader) *httptest.ResponseRecorder {
		r := request("ListKeys", "")
		r.Body, r.ContentLength = io.NopCloser(body), -1
		r.Header.Set("Content-Encoding", encoding)
		return serve(h, r)
	}
	require.Equal(t, http.StatusOK, zipped("gzip", compress(t, []byte(`{}`))).Code)
	require.Equal(t, http.StatusOK, zipped("GZIP", compress(t, append(bytes.Repeat([]byte(" "), maxBody-2), "{}"...))).Code)
	require.Equal(t, http.StatusOK, zipped("identity", strings.NewReader(`{}`)).Code)
	require.Equal(t, `{"__type":"SerializationException"}`, zipped("gzip", strings.NewReader(`{}`)).Body.String())
	require.Equal(t, `{"__type":"SerializationException"}`, zipped("br", strings.NewReader(`{}`)).Body.String())
	truncated := compress(t, []byte(`{}`))
	truncated.Truncate(truncated.Len() - 3)
	require.Equal(t, `{"__type":"SerializationException"}`, zipped("gzip", truncated).Body.String())

	bomb := zipped("gzip", compress(t, make([]byte, 64<<20)))
	require.Equal(t, http.StatusRequestEntityTooLarge, bomb.Code)
}

func TestBodyWithATooLargeContentLengthIsNotRead(t *testing.T) {
	r := request("ListKeys", "")
	r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(errors.New("read"))), maxBody+1
	w := serve(Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}), r)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, "close", w.Header().Get("Connection"))
}

func TestBodyIsLargeBeyondSmallBody(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	for range maxLarge {
		h.(*handler).large <- struct{}{}
	}
	body := func(n int) string { return "{" + strings.Repeat(" ", n-2) + "}" }
	require.Equal(t, http.StatusOK, serve(h, request("ListKeys", body(smallBody))).Code)
	require.Contains(t, serve(h, request("ListKeys", body(smallBody+1))).Body.String(), "ThrottlingException")
}

func TestCompressedBodiesCountAsLarge(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	for range maxLarge {
		h.(*handler).large <- struct{}{}
	}
	r := request("ListKeys", compress(t, []byte(`{}`)).String())
	r.Header.Set("Content-Encoding", "gzip")
	require.Contains(t, serve(h, r).Body.String(), "ThrottlingException")
	require.Equal(t, http.StatusOK, serve(h, request("ListKeys", `{}`)).Code)
}

// Over real connections, of both versions of HTTP, with and without a Content-Length.
func TestOverTheNetwork(t *testing.T) {
	svc := newService(t, kms.Config{})
	for name, start := range map[string]func(*httptest.Server){
		"HTTP/1.1": (*httptest.Server).Start,
		"HTTP/2.0": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(nil)
			server.Config = Server(Handler(svc, Options{InsecureTrustAll: true}))
			start(server)
			t.Cleanup(server.Close)
			for _, body := range []io.Reader{strings.NewReader(`{"NumberOfBytes":8}`), io.MultiReader(strings.NewReader(`{"NumberOf`), strings.NewReader(`Bytes":8}`))} {
				r, err := http.NewRequest(http.MethodPost, server.URL, body)
				require.NoError(t, err)
				r.Header.Set("Content-Type", "application/x-amz-json-1.1")
				r.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
				response, err := server.Client().Do(r)
				require.NoError(t, err)
				answer, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, name, response.Proto)
				require.Regexp(t, `^{"Plaintext":"[A-Za-z0-9+/]{11}="}$`, string(answer))
			}
			// The response comes at the first byte beyond the limit: the body has no end.
			body, w := io.Pipe()
			defer w.Close()
			go w.Write(make([]byte, maxBody+1))
			r, err := http.NewRequest(http.MethodPost, server.URL, body)
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			r.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
			response, err := server.Client().Do(r)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
		})
	}
}

func TestRegionIsThatOfTheCredentialScope(t *testing.T) {
	h := Handler(newService(t, kms.Config{}).In("us-west-2"), Options{InsecureTrustAll: true})
	for authorization, region := range map[string]string{
		"": "us-west-2",
		"AWS4-HMAC-SHA256 Credential=any/20260101/eu-central-1/kms/aws4_request, SignedHeaders=host, Signature=any": "eu-central-1",
		"AWS4-HMAC-SHA256 Credential=any/20260101/EU!/kms/aws4_request":                                             "us-west-2",
		"Basic x": "us-west-2",
	} {
		r := request("CreateKey", `{}`)
		r.Header.Set("Authorization", authorization)
		require.Contains(t, serve(h, r).Body.String(), "arn:aws:kms:"+region+":111122223333:key/")
	}
}

// Every code of the service, and those of operations that it does not have yet.
func TestStatusOfEveryCode(t *testing.T) {
	want := map[string]int{"KMSInternalException": 500, "KeyUnavailableException": 500, "DependencyTimeoutException": 503}
	codes := map[string]bool{"KeyUnavailableException": true, "DependencyTimeoutException": true}
	source, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(source, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && fmt.Sprint(spec.Type) == "ErrorCode" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			codes[text] = true
		}
		return true
	})
	require.Greater(t, len(codes), 20)
	for code := range codes {
		status, ok := want[code]
		if !ok {
			status = 400
		}
		w := httptest.NewRecorder()
		e, hidden := exceptionOf(fmt.Errorf("wrapped: %w", &kms.Error{Code: kms.ErrorCode(code), Message: "m"}))
		require.NoError(t, hidden)
		writeError(w, e)
		require.Equal(t, status, w.Code, code)
		member := "message"
		if code == "AccessDeniedException" {
			member = "Message"
		}
		require.JSONEq(t, `{"__type":"`+code+`","`+member+`":"m"}`, w.Body.String())
		require.Equal(t, code, w.Header().Get("x-amzn-ErrorType"))
	}
}

func TestClosedServiceIsUnavailable(t *testing.T) {
	svc := newService(t, kms.Config{})
	h := Handler(svc, Options{InsecureTrustAll: true})
	require.NoError(t, svc.Close())
	w := serve(h, request("ListKeys", `{}`))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "ServiceUnavailableException")
}

func TestEndedContextIsATimeout(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := serve(h, request("ListKeys", `{}`).WithContext(ctx))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "DependencyTimeoutException")
}

// broken is an operation that does something else when it is invoked.
type broken struct {
	kms.Operation
	invoke func() (any, error)
}

func (b broken) Invoke(context.Context, *kms.Service, any) (any, error) { return b.invoke() }

func breakOperation(h http.Handler, name string, invoke func() (any, error)) {
	op := h.(*handler).operations[targetPrefix+name]
	op.Operation = broken{op.Operation, invoke}
}

func TestPanicIsAnsweredAndLoggedWithoutItsValue(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newService(t, kms.Config{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), InsecureTrustAll: true})
	breakOperation(h, "Encrypt", func() (any, error) { panic("swordfish") })
	for range maxLarge + 1 { // each releases its slot
		w := serve(h, request("Encrypt", `{"Plaintext":"c3dvcmRmaXNo","x":"`+strings.Repeat("x", smallBody)+`"}`))
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.Equal(t, `{"__type":"KMSInternalException","message":"The request could not be completed."}`, w.Body.String())
	}
	require.Contains(t, log.String(), "awsapi: a request panicked")
	require.Contains(t, log.String(), "handler_test.go")
	require.NotContains(t, log.String(), "swordfish")
	require.NotContains(t, log.String(), "c3dvcmRmaXNo")
}

func TestCauseOfAFailureIsLoggedAndNotSent(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newService(t, kms.Config{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), InsecureTrustAll: true})
	breakOperation(h, "Encrypt", func() (any, error) { return nil, errors.New("disk full at /var/keys") })
	w := serve(h, request("Encrypt", `{"Plaintext":"c3dvcmRmaXNo"}`))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.NotContains(t, w.Body.String(), "disk")
	require.Contains(t, log.String(), "disk full at /var/keys")
	require.NotContains(t, log.String(), "c3dvcmRmaXNo")
}

type refusing struct{}

func (refusing) Record(context.Context, *audit.Event) error {
	return errors.New("disk full at /var/audit")
}

func TestCauseOfAnInternalExceptionIsLoggedAndNotSent(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newService(t, kms.Config{Audit: refusing{}}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), InsecureTrustAll: true})
	w := serve(h, request("ListKeys", `{}`))
	require.Equal(t, `{"__type":"KMSInternalException","message":"The request could not be completed."}`, w.Body.String())
	require.Contains(t, log.String(), "disk full at /var/audit")
}

func TestDefaultLoggerIsUsedWithoutAnother(t *testing.T) {
	var log, other bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	svc := newService(t, kms.Config{Audit: refusing{}, Logger: slog.New(slog.DiscardHandler)})
	ask := func(h http.Handler) { serve(h, request("ListKeys", `{}`)) }

	ask(Handler(svc, Options{Logger: slog.New(slog.NewTextHandler(&other, nil)), InsecureTrustAll: true}))
	require.Contains(t, other.String(), "awsapi: a call failed")
	require.Empty(t, log.String())
	ask(Handler(svc, Options{InsecureTrustAll: true}))
	require.Equal(t, 1, strings.Count(log.String(), "awsapi: a call failed"))
	ask(HTTPClient(svc).handler)
	require.Equal(t, 2, strings.Count(log.String(), "awsapi: a call failed"))
}

func TestOrdinaryRequestsAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newService(t, kms.Config{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), InsecureTrustAll: true})
	call(t, h, "GenerateRandom", `{"NumberOfBytes":8}`)
	serve(h, request("Encrypt", `{"KeyId":"alias/none","Plaintext":"c3dvcmRmaXNo"}`))
	serve(h, request("Encrypt", `{"KeyId":"alias/none","Plaintext":"c3dvcmRmaXNo"`))
	require.Empty(t, log.String())
}

type events []*audit.Event

func (e *events) Record(_ context.Context, event *audit.Event) error {
	*e = append(*e, event)
	return nil
}

func TestAuditEventHasTheRequest(t *testing.T) {
	var recorded events
	h := Handler(newService(t, kms.Config{Audit: &recorded}), Options{InsecureTrustAll: true})
	r := request("ListKeys", `{}`)
	r.RemoteAddr = "[2001:db8::1]:4711"
	r.Header.Set("User-Agent", "aws-cli/2 "+strings.Repeat("é", 600))
	w := serve(h, r)
	require.Len(t, recorded, 1)
	require.Equal(t, w.Header().Get("x-amzn-RequestId"), recorded[0].RequestID.String())
	require.Equal(t, "2001:db8::1", recorded[0].SourceIPAddress)
	require.Equal(t, "aws-cli/2 "+strings.Repeat("é", 507), recorded[0].UserAgent)

	key := call(t, h, "CreateKey", `{}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	w = serve(h, request("GenerateDataKey", `{"KeyId":"`+key+`","KeySpec":"AES_128"}`))
	usage := call(t, h, "GetKeyLastUsage", `{"KeyId":"`+key+`"}`)["KeyLastUsage"].(map[string]any)
	require.Equal(t, w.Header().Get("x-amzn-RequestId"), usage["KmsRequestId"])
}

func TestSecretsAreErasedFromTheBuffers(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}).(*handler)
	x, err := h.receive(request("Encrypt", `{"Plaintext":"c3dvcmRmaXNo"}`))
	require.NoError(t, err)
	x.request = append(x.request, "secret"...)
	x.response = append(x.response, "secret"...)
	request, response := x.request, x.response
	x.end()
	require.Equal(t, make([]byte, len(request)), request)
	require.Equal(t, make([]byte, len(response)), response)
}

// memory is a listener for connections in memory.
type memory struct {
	connections chan net.Conn
	closed      chan struct{}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.connections:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { close(m.closed); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// watched is a body that calls waiting when it is read beyond the bytes that have been sent.
type watched struct {
	io.ReadCloser
	left    int // bytes sent and not read
	waiting func()
}

func (w *watched) Read(p []byte) (int, error) {
	if w.left <= 0 {
		w.waiting()
	}
	n, err := w.ReadCloser.Read(p[:min(len(p), max(w.left, 1))])
	w.left -= n
	return n, err
}

// perConnection opens connections that send only some bytes of a body of 1,000, and returns the
// memory that each of them uses.
func perConnection(t *testing.T, h http.Handler, connections, sent int) uint64 {
	waiting := make(chan struct{}, connections)
	server := Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &watched{r.Body, sent, func() { waiting <- struct{}{} }}
		h.ServeHTTP(w, r)
	}))
	closed := make(chan struct{}, connections)
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	listener := &memory{make(chan net.Conn), make(chan struct{})}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := inUse()
	head := []byte("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.ListKeys\r\nContent-Length: 1000\r\n\r\n" +
		strings.Repeat(" ", sent))
	var clients []net.Conn
	for range connections {
		client, connection := net.Pipe()
		listener.connections <- connection
		_, err := client.Write(head)
		require.NoError(t, err)
		clients = append(clients, client)
	}
	for range connections {
		<-waiting
	}
	after := inUse()
	require.NoError(t, server.Close())
	for _, c := range clients {
		c.Close()
		<-closed
	}
	require.ErrorIs(t, <-served, http.ErrServerClosed)
	return (after - min(before, after)) / uint64(connections)
}

func TestSlowConnectionsCostLittle(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	bare := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { r.Body.Read(make([]byte, 1)) })
	const few = 1000
	perConnection(t, bare, few, 0) // fills the pools of net/http
	floor := perConnection(t, bare, few, 0)
	silent := perConnection(t, h, few, 0)
	begun := perConnection(t, h, slowConnections, 100)
	t.Logf("bytes for each connection: %d for net/http alone, %d before the body, %d for %d within it", floor, silent, begun, slowConnections)
	require.Less(t, silent, floor+6<<10) // the goroutine's stack is one size larger
	require.Less(t, begun, uint64(32<<10))
}

func FuzzHandler(f *testing.F) {
	f.Add("POST", "TrentService.Encrypt", "application/x-amz-json-1.1", "", "", "", []byte(`{"KeyId":"a","Plaintext":"AQI="}`))
	f.Add("POST", "TrentService.CreateKey", "application/json", "AWS4-HMAC-SHA256 Credential=a/b/c/kms/aws4_request", "", "gzip", []byte("\x1f\x8b"))
	f.Add("POST", "TrentService.TagResource", "application/x-amz-json-1.1", "", "X-Amz-Algorithm=a&X-Amz-Expires=1", "", []byte(`{"Tags":[{"TagKey":""}]}`))
	for _, op := range kms.Operations() {
		f.Add("POST", "TrentService."+op.Name(), "application/x-amz-json-1.1", "", "", "", []byte(`{}`))
	}
	svc := newService(f, kms.Config{})
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	trusting := Handler(svc, Options{Logger: logger, InsecureTrustAll: true})
	credentials := longTerm(f, svc.Caller(), "s")
	verifying := Handler(svc, Options{Logger: logger, Credentials: func(string) *Credentials { return credentials }})
	f.Fuzz(func(t *testing.T, method, target, contentType, authorization, query, encoding string, body []byte) {
		for _, h := range []http.Handler{trusting, verifying} {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/", bytes.NewReader(body))
			r.Method, r.URL.RawQuery = method, query
			for name, value := range map[string]string{"X-Amz-Target": target, "Content-Type": contentType, "Authorization": authorization, "Content-Encoding": encoding} {
				r.Header.Set(name, value)
			}
			w := serve(h, r)
			require.Contains(t, []int{200, 400, 404, 413}, w.Code, w.Body)
			require.Empty(t, log.String())
			if w.Body.Len() > 0 {
				var answer struct {
					Type string `json:"__type"`
				}
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
				require.Equal(t, w.Header().Get("x-amzn-ErrorType"), answer.Type)
				require.Equal(t, w.Code != 200, answer.Type != "")
			}
			if h == verifying {
				require.NotEqual(t, 200, w.Code)
			}
		}
	})
}

func TestInterruptedChunkedBodyIsRefused(t *testing.T) {
	server := httptest.NewServer(Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}))
	t.Cleanup(server.Close)
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Amz-Target: TrentService.ListKeys\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Lim\r\nnonsense\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.NoError(t, c.Close())
}
