package awsapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func clientRequest(t testing.TB, ctx context.Context, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://kms.us-east-1.amazonaws.com/", body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
	return r
}

func TestHTTPClientUsesNoSocket(t *testing.T) {
	client := &http.Client{Transport: HTTPClient(newService(t, kms.Config{}))}
	response, err := client.Do(clientRequest(t, t.Context(), strings.NewReader(`{"NumberOfBytes":8}`)))
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Regexp(t, `^{"Plaintext":"[A-Za-z0-9+/]{11}="}$`, string(body))
	require.Equal(t, "200 OK", response.Status)
	require.EqualValues(t, len(body), response.ContentLength)
	n, err := response.Body.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Equal(t, io.EOF, err)
}

func TestBodyIsErasedWhenItIsClosed(t *testing.T) {
	response, err := HTTPClient(newService(t, kms.Config{})).Do(clientRequest(t, t.Context(), strings.NewReader(`{"NumberOfBytes":8}`)))
	require.NoError(t, err)
	data := response.Body.(*body).data
	require.NotZero(t, data[0])
	require.NoError(t, response.Body.Close())
	require.Equal(t, make([]byte, len(data)), data)
}

// closing is a body that remembers whether it was closed, and fails at its end with err.
type closing struct {
	io.Reader
	err    error
	closed bool
}

func (c *closing) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF && c.err != nil {
		err = c.err
	}
	return n, err
}
func (c *closing) Close() error { c.closed = true; return nil }

func TestRequestIsClosedAndNotChanged(t *testing.T) {
	body := &closing{Reader: strings.NewReader(`{"NumberOfBytes":8}`)}
	r := clientRequest(t, t.Context(), body)
	before := *r
	_, err := HTTPClient(newService(t, kms.Config{})).RoundTrip(r)
	require.NoError(t, err)
	require.True(t, body.closed)
	require.Equal(t, before, *r)
}

func TestRequestWithoutABodyIsAnswered(t *testing.T) {
	response, err := HTTPClient(newService(t, kms.Config{})).Do(clientRequest(t, t.Context(), nil))
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
}

func TestFailureOfTheBodyIsReturned(t *testing.T) {
	failure := errors.New("no more")
	body := &closing{Reader: strings.NewReader(`{`), err: failure}
	_, err := HTTPClient(newService(t, kms.Config{})).Do(clientRequest(t, t.Context(), body))
	require.ErrorIs(t, err, failure)
	require.True(t, body.closed)
}

func TestEndedContextIsReturned(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := false
	transport := NewTransport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true; cancel(nil) }))
	_, err := transport.Do(clientRequest(t, ctx, nil))
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, asked)

	asked = false
	body := &closing{Reader: strings.NewReader("")}
	_, err = transport.Do(clientRequest(t, ctx, body))
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, asked)
	require.True(t, body.closed)
}

func TestAbortedHandlerIsABrokenConnection(t *testing.T) {
	for _, value := range []any{http.ErrAbortHandler, "swordfish"} {
		_, err := NewTransport(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(value) })).Do(clientRequest(t, t.Context(), nil))
		require.ErrorIs(t, err, errAborted)
		require.NotContains(t, err.Error(), "swordfish")
	}
}

func TestUndeliveredResponseIsErased(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	broken := &closing{Reader: strings.NewReader("x"), err: errors.New("no more")}
	for name, tt := range map[string]struct {
		request *http.Request
		after   func(*http.Request)
	}{
		"the context ended":     {clientRequest(t, ctx, nil), func(*http.Request) { cancel() }},
		"the body failed":       {clientRequest(t, t.Context(), broken), func(r *http.Request) { io.ReadAll(r.Body) }},
		"the handler panicked":  {clientRequest(t, t.Context(), nil), func(*http.Request) { panic("swordfish") }},
		"the connection breaks": {clientRequest(t, t.Context(), nil), func(*http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			var written []byte
			_, err := NewTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "a data key")
				written = w.(*recorder).body.data
				tt.after(r)
			})).Do(tt.request)
			require.Error(t, err)
			require.Equal(t, make([]byte, len("a data key")), written)
		})
	}
}

func TestTransportReturnsWhatTheHandlerWrites(t *testing.T) {
	response, err := NewTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "kms.us-east-1.amazonaws.com", r.Host)
		require.Equal(t, "/", r.RequestURI)
		require.EqualValues(t, -1, r.ContentLength)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		w.Write([]byte("a"))
		w.Write([]byte("b"))
	})).Do(clientRequest(t, t.Context(), &closing{Reader: strings.NewReader("x")}))
	require.NoError(t, err)
	require.Equal(t, "418 I'm a teapot", response.Status)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "ab", string(body))
}
