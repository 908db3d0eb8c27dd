package awsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
)

// A Transport sends requests to a handler in the same process, without a socket. It implements
// aws.HTTPClient, which SDK clients take, and http.RoundTripper. It may be used concurrently.
type Transport struct{ handler http.Handler }

var _ http.RoundTripper = (*Transport)(nil)

// HTTPClient returns a Transport to a [Handler] of svc that does not verify signatures: code that
// has svc can call it directly too.
func HTTPClient(svc *kms.Service) *Transport {
	return NewTransport(Handler(svc, Options{InsecureTrustAll: true}))
}

// NewTransport returns a Transport to h, which is usually a [Handler] or wraps one. h runs on the
// goroutine of the caller. If it panics, the request fails as if the connection had been closed.
func NewTransport(h http.Handler) *Transport { return &Transport{h} }

// RoundTrip calls Do.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) { return t.Do(r) }

// Do sends a request and returns the response. The error is the context's, the one that reading the
// request's body failed with, or one for a handler that panicked. Do closes the request's body. The
// response's body is in memory, and is erased when it is closed, or if Do returns an error.
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
	// The handler's copy, with the fields that a server sets.
	received := r.WithContext(context.WithValue(ctx, inProcessKey{}, true))
	received.Body = &source
	received.Proto, received.ProtoMajor, received.ProtoMinor = "HTTP/1.1", 1, 1
	if received.Method == "" {
		received.Method = http.MethodGet
	}
	if received.Host == "" {
		received.Host = r.URL.Host
	}
	if received.ContentLength == 0 && r.Body != nil && r.Body != http.NoBody {
		received.ContentLength = -1 // zero means unknown in a client's request
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
			w.body.Close() // it may contain secrets
		}
	}()
	t.handler.ServeHTTP(w, received)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case source.err != nil:
		return nil, source.err
	}
	return w.response(r), nil
}

// A source is a request's body that remembers the error of a failed read.
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

func (s *source) Close() error { return nil } // Do closes the body

// A recorder is a ResponseWriter that keeps the response in memory.
type recorder struct {
	header http.Header
	status int
	body   body
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // an earlier status is informational
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body.data = append(w.body.data, p...)
	return len(p), nil
}

func (w *recorder) response(r *http.Request) *http.Response {
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
		Request:       r,
	}
}

// A body is the body of a response in memory.
type body struct {
	data   []byte
	offset int
}

func (b *body) Read(p []byte) (int, error) {
	if b.offset == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.offset:])
	b.offset += n
	return n, nil
}

func (b *body) Close() error {
	secret.Clear(b.data)
	b.data, b.offset = nil, 0
	return nil
}

var errAborted = errors.New("awsapi: the connection was aborted")
