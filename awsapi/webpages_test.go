package awsapi

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// A browser sends these headers with the requests of a page, even if the name of the page's site
// resolves to this service.
func TestWebPagesAreAnsweredOnlyWithCredentials(t *testing.T) {
	now := signTime
	verifying, svc := signedHandler(t, &now)
	trusting := Handler(svc, Options{InsecureTrustAll: true, AllowedHosts: []string{"kms.test"}})
	for name, values := range map[string][]string{
		"Origin":         {"http://rebound.example", "http://localhost:8080", "null", ""},
		"Sec-Fetch-Site": {"cross-site", "same-site", "same-origin", "none", ""},
	} {
		for _, value := range values {
			r := good().request()
			r.Header[name] = []string{value}
			status, body := exchangeOf(trusting, r)
			require.Equal(t, http.StatusForbidden, status)
			require.JSONEq(t, `{"__type":"AccessDeniedException","Message":"Web pages may ask only a service that verifies signatures."}`, body)

			r = good().request()
			r.Header[name] = []string{value}
			status, body = exchangeOf(verifying, r)
			require.Equal(t, http.StatusOK, status, body)
		}
	}
	status, body := exchangeOf(trusting, good().request())
	require.Equal(t, http.StatusOK, status, body)
}

func TestHostIsCheckedOnlyWithoutCredentials(t *testing.T) {
	now := signTime
	verifying, svc := signedHandler(t, &now)
	s := good()
	s.host = "rebound.example"
	status, body := exchangeOf(verifying, s.request())
	require.Equal(t, http.StatusOK, status, body)
	status, body = exchangeOf(Handler(svc, Options{InsecureTrustAll: true}), s.request())
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, `{"__type":"AccessDeniedException","Message":"The Host header names neither`)
}

func TestHostsThatAreAllowed(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{
		InsecureTrustAll: true,
		AllowedHosts:     []string{"", "kms", "KMS.Internal.", "192.0.2.7", "[2001:db8::7]"},
	})
	for host, allowed := range map[string]bool{
		"localhost":               true,
		"localhost:8080":          true,
		"LOCALHOST.:8080":         true,
		"kms.localhost:8080":      true,
		"127.0.0.1":               true,
		"127.1.2.3:8080":          true,
		"[::1]":                   true,
		"[::1]:8080":              true,
		"[::ffff:127.0.0.1]:8080": true,
		"kms:8080":                true,
		"kms.internal":            true,
		"192.0.2.7:8080":          true,
		"[2001:db8::7]:8080":      true,

		"":                       false,
		":8080":                  false,
		"rebound.example":        false,
		"localhost.example":      false,
		"localhost.example:8080": false,
		"notlocalhost":           false,
		"127.0.0.1.example":      false,
		"127.0.0.1:8080:8080":    false,
		"127.1":                  false, // an address to some resolvers, but to no browser's Host
		"0.0.0.0:8080":           false,
		"[::]:8080":              false,
		"192.0.2.8":              false,
		"kms.example":            false,
		"x.kms":                  false,
	} {
		r := request("ListKeys", `{}`)
		r.Host = host
		status, body := exchangeOf(h, r)
		require.Equal(t, allowed, status == http.StatusOK, "%s: %s", host, body)
		if !allowed {
			require.Equal(t, http.StatusForbidden, status, host)
		}
	}
}
