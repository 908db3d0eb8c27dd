package awsapi

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/jsontext"
)

const (
	exampleID     = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// The example of "Create a signed AWS API request" in the IAM User Guide.
func TestSigningKeyIsThatOfTheGuide(t *testing.T) {
	key := deriveKey([]byte(exampleSecret), "20150830", "us-east-1", "iam")
	require.Equal(t, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9", hex.EncodeToString(key))
}

// The case post-vanilla of the test suite of Signature Version 4.
func TestSignatureIsThatOfTheSuite(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "http://example.amazonaws.com/", nil)
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	var canonical bytes.Buffer
	empty := sha256.Sum256(nil)
	writeCanonical(&canonical, r, nil, "host;x-amz-date", hex.EncodeToString(empty[:]))
	hash := sha256.Sum256(canonical.Bytes())
	require.Equal(t, "553f88c9e4d10fc9e109e2aeb65f030801b70c2f6468faca261d401ae622fc87", hex.EncodeToString(hash[:]))

	key := deriveKey([]byte(exampleSecret), "20150830", "us-east-1", "service")
	signature := hmacSHA256(key, "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n"+hex.EncodeToString(hash[:]))
	require.Equal(t, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", hex.EncodeToString(signature))
}

// The suite's cases of headers and query strings.
func TestCanonicalForm(t *testing.T) {
	r := &http.Request{Method: "POST", Host: "example.com", ContentLength: 3, Header: http.Header{
		"My-Header1": {" a   b  c ", "\td"}, "My-Header2": {`"x  y"`}, "Empty": {""},
	}}
	query := url.Values{"b": {"2", "1", "~-_."}, "a b": {"/+=&"}, "a-": {""}, "é": {"ሴ"}, "X-Amz-Signature": {"00"}, "X-Amz-Date": {"d"}}
	var got strings.Builder
	writeCanonical(&got, r, query, "content-length;empty;host;missing;my-header1;my-header2", "PAYLOAD")
	require.Equal(t, "POST\n/\n"+
		"%C3%A9=%E1%88%B4&X-Amz-Date=d&a%20b=%2F%2B%3D%26&a-=&b=1&b=2&b=~-_.\n"+
		"content-length:3\nempty:\nhost:example.com\nmissing:\nmy-header1:a b c,d\nmy-header2:\"x y\"\n\n"+
		"content-length;empty;host;missing;my-header1;my-header2\nPAYLOAD", got.String())
}

var (
	signTime  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stampText = "20260102T030405Z"
)

// A signing is a request to sign, by an implementation that shares nothing with the one under test.
type signing struct {
	id, secret, token     string
	date, region, service string
	at                    string // of X-Amz-Date
	expires               string
	presign               bool
	query                 url.Values // more parameters of a presigned URL
	body                  string
	host                  string // "kms.test" if empty
	header                map[string]string
	unsigned              []string                // headers that are left out of the signature
	arrange               func([]string) []string // changes the order of the signed headers
}

func (s signing) request() *http.Request {
	host := cmp.Or(s.host, "kms.test")
	r := httptest.NewRequest(http.MethodPost, "http://"+host+"/", strings.NewReader(s.body))
	header := map[string]string{"content-type": "application/x-amz-json-1.1", "x-amz-target": "TrentService.GenerateRandom"}
	maps.Copy(header, s.header)
	scope := s.date + "/" + s.region + "/" + s.service + "/aws4_request"
	query := url.Values{}
	if s.presign {
		query = url.Values{"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {s.id + "/" + scope}, "X-Amz-Date": {s.at}}
		if s.expires != "" {
			query.Set("X-Amz-Expires", s.expires)
		}
		if s.token != "" {
			query.Set("X-Amz-Security-Token", s.token)
		}
		maps.Copy(query, s.query)
	} else {
		header["x-amz-date"] = s.at
		if s.token != "" {
			header["x-amz-security-token"] = s.token
		}
	}
	lines := []string{"host:" + host}
	names := []string{"host"}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		r.Header.Set(name, header[name])
		if !slices.Contains(s.unsigned, name) {
			lines = append(lines, name+":"+strings.Join(strings.Fields(header[name]), " "))
			names = append(names, name)
		}
	}
	slices.Sort(lines)
	slices.Sort(names)
	if s.arrange != nil {
		lines, names = s.arrange(lines), s.arrange(names)
	}
	if s.presign {
		query.Set("X-Amz-SignedHeaders", strings.Join(names, ";"))
	}
	digest := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	canonical := strings.Join([]string{"POST", "/", strings.ReplaceAll(query.Encode(), "+", "%20"), strings.Join(lines, "\n") + "\n",
		strings.Join(names, ";"), digest(s.body)}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", s.at, scope, digest(canonical)}, "\n")
	mac := []byte("AWS4" + s.secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request", text} {
		h := hmac.New(sha256.New, mac)
		h.Write([]byte(part))
		mac = h.Sum(nil)
	}
	signature := hex.EncodeToString(mac)
	if s.presign {
		query.Set("X-Amz-Signature", signature)
		r.URL.RawQuery = query.Encode()
	} else {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+scope+", SignedHeaders="+strings.Join(names, ";")+", Signature="+signature)
	}
	return r
}

func principal(t testing.TB, arn string) kms.Principal {
	p, err := kms.ParsePrincipal(arn)
	require.NoError(t, err)
	return p
}

func longTerm(t testing.TB, p kms.Principal, secretAccessKey string) *Credentials {
	c, err := NewCredentials(p, secretAccessKey)
	require.NoError(t, err)
	return c
}

func session(t testing.TB, p kms.Principal, secretAccessKey, sessionToken string, expires time.Time) *Credentials {
	c, err := NewSessionCredentials(p, secretAccessKey, sessionToken, expires)
	require.NoError(t, err)
	return c
}

// signedHandler returns a handler with the example's credentials, those of another account's root,
// of a session, and of an expired session.
func signedHandler(t testing.TB, now *time.Time) (http.Handler, *kms.Service) {
	svc, err := kms.New(kms.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	root := principal(t, "arn:aws:iam::111122223333:root")
	known := map[string]*Credentials{
		exampleID:  longTerm(t, root, exampleSecret),
		"AKIOTHER": longTerm(t, principal(t, "arn:aws:iam::444455556666:root"), "other"),
		"ASIA":     session(t, root, "session", "token", signTime.Add(time.Hour)),
		"ASIAOLD":  session(t, root, "session", "token", signTime),
	}
	return Handler(svc, Options{
		Credentials: func(id string) *Credentials { return known[id] },
		Clock:       func() time.Time { return *now },
	}), svc
}

func good() signing {
	return signing{id: exampleID, secret: exampleSecret, date: "20260102", region: "us-east-1", service: "kms", at: stampText,
		body: `{"NumberOfBytes":8}`}
}

func exchangeOf(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestGoodSignaturesAreAccepted(t *testing.T) {
	now := signTime
	h, _ := signedHandler(t, &now)
	for name, change := range map[string]func(*signing){
		"as it is":           func(*signing) {},
		"another Region":     func(s *signing) { s.region = "eu-central-1" },
		"spaces in a header": func(s *signing) { s.header = map[string]string{"x-amz-meta": "a   b  c"} },
		"the hash of the body": func(s *signing) {
			s.header = map[string]string{"x-amz-content-sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(s.body)))}
		},
		"an unsigned header":      func(s *signing) { s.header, s.unsigned = map[string]string{"user-agent": "x"}, []string{"user-agent"} },
		"a session":               func(s *signing) { s.id, s.secret, s.token = "ASIA", "session", "token" },
		"presigned":               func(s *signing) { s.presign = true },
		"presigned for an hour":   func(s *signing) { s.presign, s.expires = true, "3600" },
		"presigned, of a session": func(s *signing) { s.presign, s.id, s.secret, s.token = true, "ASIA", "session", "token" },
		"4 minutes and 59 s ago":  func(s *signing) { s.at = "20260102T025906Z" },
		"5 minutes ago":           func(s *signing) { s.at = "20260102T025905Z" },
		"5 minutes ahead":         func(s *signing) { s.at = "20260102T030905Z" },
		"a minute ago, presigned": func(s *signing) { s.presign, s.expires, s.at = true, "60", "20260102T030305Z" },
		"six days ago, presigned": func(s *signing) { s.presign, s.expires, s.at, s.date = true, "604800", "20251227T030405Z", "20251227" },
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			change(&s)
			status, body := exchangeOf(h, s.request())
			require.Equal(t, http.StatusOK, status, body)
		})
	}
}

// A client that cannot sign learns nothing about its body.
func TestEmptyBodyIsRefusedAfterItsSignature(t *testing.T) {
	now := signTime
	h, _ := signedHandler(t, &now)
	s := good()
	s.body = ""
	_, body := exchangeOf(h, s.request())
	require.Equal(t, `{"__type":"SerializationException"}`, body)
	s.secret = "another"
	_, body = exchangeOf(h, s.request())
	require.Contains(t, body, `{"__type":"InvalidSignatureException"`)
}

func TestWrongSignaturesAreRefused(t *testing.T) {
	now := signTime
	h, _ := signedHandler(t, &now)
	signed := func(changes ...func(*signing)) *http.Request {
		s := good()
		for _, change := range changes {
			change(&s)
		}
		return s.request()
	}
	tampered := func(s signing, change func(*http.Request)) *http.Request {
		r := s.request()
		change(r)
		return r
	}
	presigned := good()
	presigned.presign, presigned.expires = true, "60"
	replace := func(old, with string) func(*http.Request) {
		return func(r *http.Request) {
			before := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.Replace(before, old, with, 1))
			if r.Header.Get("Authorization") == before {
				panic("nothing replaced")
			}
		}
	}
	query := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			if value == "" {
				q.Del(name)
			}
			r.URL.RawQuery = q.Encode()
		}
	}
	hashed := func(authorization string) string {
		hash := sha256.Sum256([]byte(authorization))
		return "(Hashed with SHA-256 and encoded with Base64) Authorization=" + base64.StdEncoding.EncodeToString(hash[:])
	}
	for _, tt := range []struct {
		name    string
		code    kms.ErrorCode
		message string
		request *http.Request
	}{
		{"no signature", missingToken, missingTokenMessage, tampered(good(), func(r *http.Request) { r.Header.Del("Authorization") })},
		{"another scheme", missingToken, missingTokenMessage, tampered(good(), func(r *http.Request) { r.Header.Set("Authorization", "Basic QTpC") })},
		{"both forms", invalidSignature, foundBothForms, tampered(presigned, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 ") })},
		{"nothing but the algorithm", incompleteSignature, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. " +
			"Authorization header requires 'SignedHeaders' parameter. " + hashed("AWS4-HMAC-SHA256"),
			tampered(good(), func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") })},
		{"no date", incompleteSignature, "Authorization header requires 'Signature' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. " +
			hashed("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b"), tampered(good(), func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b")
			r.Header.Del("X-Amz-Date")
		})},
		{"half a presigned URL", incompleteSignature, "AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters.",
			tampered(presigned, func(r *http.Request) { query("X-Amz-Signature", "")(r); query("X-Amz-Date", "")(r) })},
		{"a date of another format", incompleteSignature, "Date must be in ISO-8601 'basic format'. Got '2026-01-02'. See http://en.wikipedia.org/wiki/ISO_8601",
			tampered(good(), func(r *http.Request) { r.Header.Set("X-Amz-Date", "2026-01-02") })},
		{"too old", invalidSignature, "Signature expired: 20260102T025904Z is now earlier than 20260102T025905Z (20260102T030405Z - 5 min.)",
			signed(func(s *signing) { s.at = "20260102T025904Z" })},
		{"not yet", invalidSignature, "Signature not yet current: 20260102T030906Z is still later than 20260102T030905Z (20260102T030405Z + 5 min.)",
			signed(func(s *signing) { s.at = "20260102T030906Z" })},
		{"a URL that has expired", invalidSignature, "Signature expired: 20260102T030304Z is now earlier than 20260102T030305Z (20260102T030405Z - 1 min.)",
			signed(func(s *signing) { s.presign, s.expires, s.at = true, "60", "20260102T030304Z" })},
		{"a URL for ever", invalidSignature, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
			signed(func(s *signing) { s.presign, s.expires = true, "604801" })},
		{"a URL for no time", invalidSignature, "X-Amz-Expires must be greater than zero", signed(func(s *signing) { s.presign, s.expires = true, "0" })},
		{"a URL for some time", invalidSignature, "X-Amz-Expires should be a number", signed(func(s *signing) { s.presign, s.expires = true, "1h" })},
		{"an unsigned host", invalidSignature, hostMustBeSigned, tampered(good(), replace("host;", ""))},
		{"another algorithm", incompleteSignature, "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA512' (only AWS4-HMAC-SHA256 for now). ", tampered(good(), replace("SHA256", "SHA512"))},
		{"a credential of four parts", incompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'AKIDEXAMPLE/20260102/us-east-1/kms'",
			tampered(good(), replace("/aws4_request", ""))},
		{"a scope all wrong", invalidSignature, "Credential should be scoped to a valid region, not 'US'. Credential should be scoped to correct service: 'kms'. " +
			"Credential should be scoped with a valid terminator: 'aws4_request', not 'x'. " +
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: 'b' != '20260102', from '20260102T030405Z'. ",
			tampered(good(), replace("20260102/us-east-1/kms/aws4_request", "b/US/s3/x"))},
		{"an unknown access key", unrecognizedClient, invalidTokenMessage, signed(func(s *signing) { s.id = "AKIUNKNOWN" })},
		{"another secret", invalidSignature, mismatchMessage, signed(func(s *signing) { s.secret += "x" })},
		{"an empty signature of the right length", invalidSignature, mismatchMessage, tampered(presigned, query("X-Amz-Signature", strings.Repeat("0", 64)))},
		{"a signature in capitals", invalidSignature, mismatchMessage, tampered(presigned, func(r *http.Request) {
			query("X-Amz-Signature", strings.ToUpper(r.URL.Query().Get("X-Amz-Signature")))(r)
		})},
		{"another body", invalidSignature, mismatchMessage, tampered(good(), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"NumberOfBytes":9}`)) })},
		{"another host", invalidSignature, mismatchMessage, tampered(good(), func(r *http.Request) { r.Host = "other.test" })},
		{"another operation", invalidSignature, mismatchMessage, tampered(good(), func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.ListKeys") })},
		{"another parameter", invalidSignature, mismatchMessage, tampered(presigned, query("X-Amz-Expires", "61"))},
		{"one more parameter", invalidSignature, mismatchMessage, tampered(good(), query("a", "b"))},
		{"an unsigned operation", invalidSignature, unsignedHeaders + "x-amz-target", signed(func(s *signing) { s.unsigned = []string{"x-amz-target"} })},
		{"one more header", invalidSignature, unsignedHeaders + "x-amz-meta", tampered(good(), func(r *http.Request) { r.Header.Set("X-Amz-Meta", "x") })},
		{"headers out of order", invalidSignature, mismatchMessage, signed(func(s *signing) {
			s.arrange = func(list []string) []string { slices.Reverse(list); return list }
		})},
		{"a header twice", invalidSignature, mismatchMessage, signed(func(s *signing) {
			s.arrange = func(list []string) []string { return append(list[:1:1], list...) }
		})},
		{"an unsigned payload", invalidSignature, mismatchMessage, signed(func(s *signing) { s.header = map[string]string{"x-amz-content-sha256": "UNSIGNED-PAYLOAD"} })},
		{"an unsigned payload in the URL", invalidSignature, mismatchMessage, signed(func(s *signing) { s.presign, s.query = true, url.Values{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}} })},
		{"the hash of another body", invalidSignature, mismatchMessage, signed(func(s *signing) {
			s.header = map[string]string{"x-amz-content-sha256": fmt.Sprintf("%x", sha256.Sum256(nil))}
		})},
		{"a session without its token", unrecognizedClient, invalidTokenMessage, signed(func(s *signing) { s.id, s.secret = "ASIA", "session" })},
		{"a session with another token", unrecognizedClient, invalidTokenMessage, signed(func(s *signing) { s.id, s.secret, s.token = "ASIA", "session", "other" })},
		{"a token where there is no session", unrecognizedClient, invalidTokenMessage, signed(func(s *signing) { s.token = "token" })},
		{"a session that has ended", expiredToken, expiredTokenMessage, signed(func(s *signing) { s.id, s.secret, s.token = "ASIAOLD", "session", "token" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := exchangeOf(h, tt.request)
			want := jsontext.AppendString(append(jsontext.AppendString([]byte(`{"__type":`), string(tt.code)), `,"message":`...), tt.message)
			require.Equal(t, string(want)+"}", body)
			require.Equal(t, http.StatusBadRequest, status)
		})
	}
}

func TestDateHeaderIsAccepted(t *testing.T) {
	now := signTime
	h, _ := signedHandler(t, &now)
	s := good()
	s.header = map[string]string{"date": signTime.Format(http.TimeFormat)}
	s.unsigned = []string{"x-amz-date"}
	r := s.request()
	r.Header.Del("X-Amz-Date") // not signed, unlike the Date header
	status, body := exchangeOf(h, r)
	require.Equal(t, http.StatusOK, status, body)
}

func TestCallerIsTheOwnerOfTheAccessKey(t *testing.T) {
	now := signTime
	h, svc := signedHandler(t, &now)
	create := good()
	create.body, create.region = `{}`, "eu-west-1"
	create.header = map[string]string{"x-amz-target": "TrentService.CreateKey"}
	status, body := exchangeOf(h, create.request())
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "arn:aws:kms:eu-west-1:111122223333:key/")

	create.id, create.secret = "AKIOTHER", "other"
	status, body = exchangeOf(h, create.request())
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "arn:aws:kms:eu-west-1:444455556666:key/")

	keys, err := svc.In("eu-west-1").ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys.Keys, 1)
}

// An empty secret is most often a variable that is not set, and anyone can sign with it.
func TestEmptySecretsAreRefused(t *testing.T) {
	root := principal(t, "arn:aws:iam::111122223333:root")
	c, err := NewCredentials(root, "")
	require.EqualError(t, err, "awsapi: the secret access key is empty")
	require.Nil(t, c)
	for _, tt := range []struct{ secret, token, want string }{
		{"", "swordfish", "awsapi: the secret access key is empty"},
		{"swordfish", "", "awsapi: the session token is empty"},
		{"", "", "awsapi: the secret access key is empty"},
	} {
		c, err := NewSessionCredentials(root, tt.secret, tt.token, time.Time{})
		require.EqualError(t, err, tt.want)
		require.Nil(t, c)
	}
}

func TestZeroCredentialsMatchNothing(t *testing.T) {
	now := signTime
	_, svc := signedHandler(t, &now)
	h := Handler(svc, Options{Credentials: func(string) *Credentials { return new(Credentials) }, Clock: func() time.Time { return now }})
	for _, key := range []string{"", "secret"} {
		for _, token := range []string{"", "token"} {
			s := good()
			s.secret, s.token = key, token
			_, body := exchangeOf(h, s.request())
			require.Contains(t, body, `"UnrecognizedClientException"`)
		}
	}
}

func TestZeroOptionsRefuseEveryRequest(t *testing.T) {
	var log bytes.Buffer
	h := Handler(newService(t, kms.Config{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.Contains(t, log.String(), "every request is refused")
	presigned := good()
	presigned.presign = true
	for name, r := range map[string]*http.Request{
		"unsigned":  request("ListKeys", `{}`),
		"signed":    good().request(),
		"presigned": presigned.request(),
	} {
		t.Run(name, func(t *testing.T) {
			r.Body = io.NopCloser(iotest.ErrReader(errors.New("the body was read")))
			status, body := exchangeOf(h, r)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`, body)
		})
	}
}

func TestCredentialsTakePrecedenceOverTrust(t *testing.T) {
	now := signTime
	_, svc := signedHandler(t, &now)
	h := Handler(svc, Options{Credentials: func(string) *Credentials { return nil }, InsecureTrustAll: true, Clock: func() time.Time { return now }})
	_, body := exchangeOf(h, good().request())
	require.Contains(t, body, `"UnrecognizedClientException"`)
}

func TestCredentialsCannotBePrinted(t *testing.T) {
	c := session(t, principal(t, "arn:aws:iam::111122223333:root"), "hunter2hunter2", "swordfish", time.Time{})
	c.signingKey("20260102", "us-east-1")
	key := string(c.latest.Load().key.Expose())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, struct{ c *Credentials }{c}} {
			text := fmt.Sprintf(verb, v)
			for _, s := range []string{"hunter2", "swordfish", key} {
				require.NotContains(t, text, s)
				require.NotContains(t, text, hex.EncodeToString([]byte(s)))
			}
		}
	}
}

// FuzzSigV4 signs requests with the other implementation. They are accepted, and refused after a
// change.
func FuzzSigV4(f *testing.F) {
	f.Add(`{"NumberOfBytes":1}`, "value", "n", "v", false)
	f.Add(``, " a  b ", "a b", "+/é~", true)
	f.Fuzz(func(t *testing.T, body, header, name, value string, presign bool) {
		for _, c := range []byte(header) {
			if c < ' ' || c >= 0x7f { // refused by net/http
				return
			}
		}
		if name == "X-Amz-Signature" { // not part of what is signed
			return
		}
		credentials := longTerm(t, kms.Principal{}, exampleSecret)
		v := &verifier{func(string) *Credentials { return credentials }, func() time.Time { return signTime }}
		verify := func(r *http.Request) error {
			query := r.URL.Query()
			s, err := v.precheck(r, query, readSignature(r, query))
			if err != nil {
				return err
			}
			sent, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			_, err = s.verify(r, query, sent, signTime)
			return err
		}
		s := good()
		s.body, s.presign, s.header = body, presign, map[string]string{"x-amz-meta": header}
		require.NoError(t, verify(s.request()))

		r := s.request()
		r.Body = io.NopCloser(strings.NewReader(body + "x"))
		require.Error(t, verify(r))
		r = s.request()
		r.Header.Set("X-Amz-Meta", header+"x")
		require.Error(t, verify(r))
		r = s.request()
		query := r.URL.Query()
		query.Add(name, value)
		r.URL.RawQuery = query.Encode()
		require.Error(t, verify(r))
	})
}

// BenchmarkVerify verifies the signature of one request, of the size of an SDK's.
func BenchmarkVerify(b *testing.B) {
	credentials := longTerm(b, kms.Principal{}, exampleSecret)
	v := &verifier{func(string) *Credentials { return credentials }, func() time.Time { return signTime }}
	s := good()
	s.header = map[string]string{"amz-sdk-invocation-id": "2ad53b4c-7a1a-4fd5-b0b4-d3b3a1a3a6a4", "amz-sdk-request": "attempt=1; max=3"}
	r := s.request()
	body := []byte(s.body)
	b.ReportAllocs()
	for b.Loop() {
		s, err := v.precheck(r, nil, readSignature(r, nil))
		if err == nil {
			_, err = s.verify(r, nil, body, signTime)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
