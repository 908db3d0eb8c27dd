package awsapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
)

// A Transport sends requests to a handler in the same process, without a socket. It is an aws.HTTPClient, which SDK
// clients take, and an http.RoundTripper. It may be used concurrently.
type Transport struct{ handler http.Handler }

var _ http.RoundTripper = (*Transport)(nil)

// HTTPClient returns a Transport to a [Handler] of svc that accepts every request: whoever holds svc may call it anyway.
func HTTPClient(svc *kms.Service) *Transport {
	return NewTransport(Handler(svc, Options{InsecureTrustAll: true}))
}

// NewTransport returns a Transport to h, which is most often a [Handler] or something around it. h runs on the sender's
// goroutine and may panic with http.ErrAbortHandler, which the sender sees as a broken connection.
func NewTransport(h http.Handler) *Transport { return &Transport{h} }

// RoundTrip is Do.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) { return t.Do(r) }

// Do sends a request and returns the response. Its errors are those of a connection: the context's own, and what the
// request's body failed with. Do closes that body. The response's body is in memory, and erased when it is closed, or
// before an error is returned instead.
func (t *Transport) Do(r *http.Request) (response *http.Response, err error) {
	source := source{body: r.Body}
	if source.body == nil {
		source.body = http.NoBody
	}
	defer source.body.Close()
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	received := *r // which is the handler's own, with what a server would have set
	received.Body = &source
	received.Proto, received.ProtoMajor, received.ProtoMinor = "HTTP/1.1", 1, 1
	if received.Method == "" {
		received.Method = http.MethodGet
	}
	if received.Host == "" {
		received.Host = r.URL.Host
	}
	if received.ContentLength == 0 && r.Body != nil && r.Body != http.NoBody {
		received.ContentLength = -1 // which is how a client says that it does not know
	}
	received.RequestURI = r.URL.RequestURI()

	w := &recorder{header: make(http.Header, 4)}
	defer func() {
		if p := recover(); p != nil {
			response, err = nil, errAborted
			if p != http.ErrAbortHandler {
				err = fmt.Errorf("%w: the handler panicked with a %T", errAborted, p)
			}
		}
		if err != nil {
			w.body.Close() // the answer that nobody gets may hold secrets too
		}
	}()
	t.handler.ServeHTTP(w, &received)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case source.err != nil:
		return nil, source.err
	}
	return w.response(r), nil
}

// A source is a request's body that remembers what it failed with.
type source struct {
	body io.ReadCloser
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) Close() error { return nil } // Do does it, in the end

// A recorder is a response as it is written.
type recorder struct {
	header http.Header
	status int
	body   body
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // what comes before is only information
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body.data = append(w.body.data, p...)
	return len(p), nil
}

func (w *recorder) response(to *http.Request) *http.Response {
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status:        strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.header,
		Body:          &w.body,
		ContentLength: int64(len(w.body.data)),
		Request:       to,
	}
}

// A body is what a recorder was given.
type body struct {
	data []byte
	at   int
}

func (b *body) Read(p []byte) (int, error) {
	if b.at == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.at:])
	b.at += n
	return n, nil
}

func (b *body) Close() error {
	secret.Clear(b.data)
	b.data, b.at = nil, 0
	return nil
}

var errAborted = errors.New("awsapi: the connection was aborted")
