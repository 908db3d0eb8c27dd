package awsapi

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// Audit events have the facts of the request: which access key signed it, and the connection.
func TestEventsHaveTheFactsOfTheRequest(t *testing.T) {
	var events []*audit.Event
	sink := audit.SinkFunc(func(_ context.Context, e *audit.Event) error { events = append(events, e); return nil })
	svc, err := kms.New(kms.Config{Audit: sink})
	require.NoError(t, err)
	defer svc.Close()
	alice := principal(t, "arn:aws:iam::111122223333:user/alice")
	known := map[string]*Credentials{ // two keys of one user
		exampleID:  longTerm(t, alice, exampleSecret),
		"AKIOTHER": longTerm(t, alice, "other"),
		"ASIA":     session(t, principal(t, "arn:aws:sts::111122223333:assumed-role/app/job"), "session", "token", signTime.Add(time.Hour)),
	}
	h := Handler(svc, Options{
		Credentials: func(id string) *Credentials { return known[id] },
		Clock:       func() time.Time { return signTime },
	})
	for _, change := range []func(*signing){
		func(*signing) {},
		func(s *signing) { s.id, s.secret = "AKIOTHER", "other" },
		func(s *signing) { s.id, s.secret, s.token = "ASIA", "session", "token" },
	} {
		s := good()
		change(&s)
		h.ServeHTTP(httptest.NewRecorder(), s.request()) // refused: no policy allows it to a user or role
	}
	require.Len(t, events, 3)
	require.Equal(t, []string{exampleID, "AKIOTHER", "ASIA"},
		[]string{events[0].UserIdentity.AccessKeyID, events[1].UserIdentity.AccessKeyID, events[2].UserIdentity.AccessKeyID})
	require.Equal(t, "alice", events[0].UserIdentity.UserName)
	require.Nil(t, events[0].TLSDetails)
	require.Equal(t, &audit.SessionIssuer{Type: "Role", PrincipalID: "app", ARN: "arn:aws:iam::111122223333:role/app",
		AccountID: "111122223333", UserName: "app"}, events[2].UserIdentity.SessionContext.SessionIssuer)

	events = nil
	server := httptest.NewTLSServer(Handler(svc, Options{InsecureTrustAll: true}))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(`{}`))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "TrentService.ListKeys")
	r.Header.Set("Content-Type", contentType[0])
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKICLAIMED/20260102/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0")
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Len(t, events, 1)
	require.Empty(t, events[0].UserIdentity.AccessKeyID, "nobody has verified it")
	require.Equal(t, &audit.TLSDetails{
		TLSVersion:               "TLSv1.3",
		CipherSuite:              tls.CipherSuiteName(response.TLS.CipherSuite),
		ClientProvidedHostHeader: strings.TrimPrefix(server.URL, "https://"),
		KeyExchange:              response.TLS.CurveID.String(),
	}, events[0].TLSDetails)
}
