package awsapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/clientaddr"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/shape"
)

const (
	// maxBody is enough for the largest input of the API, which is CreateKey's: a policy of 131,072
	// characters, a description of 8,192, and 50 tags of 384, even if each character is written as
	// an escape of 6 bytes.
	maxBody = 1 << 20
	// smallBody is enough for all inputs but policies, attestation documents and long grant tokens.
	// Larger bodies are counted, so that slow connections cannot take all memory.
	smallBody = 16 << 10
	// maxUnfinished bounds the large bodies that are being received.
	maxUnfinished = 64
	// maxLarge bounds the requests with a large or compressed body that are carried out. They are
	// counted only when the body has been received: a slow client does not keep others out.
	maxLarge = 64
)

var (
	errTooLarge = &exception{http.StatusRequestEntityTooLarge, tooLarge, "HTTP content length exceeded " + strconv.Itoa(maxBody) + " bytes."}
	errTooMany  = badRequest(kms.ThrottlingException, "Rate exceeded")
	errEvicted  = badRequest(kms.ThrottlingException, "Rate exceeded")
)

// An exchange is one request and its response. Its buffers are reused; they are erased in between.
type exchange struct {
	*handler
	request  []byte
	response []byte
	wire     shape.Wire
	isLarge  bool // it has an element in handler.large
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{request: make([]byte, 0, 2048), response: make([]byte, 0, 2048)}
}}

func (x *exchange) end() {
	secret.Clear(x.request)
	secret.Clear(x.response)
	if x.isLarge {
		<-x.large
	}
	request, response := x.request[:0], x.response[:0]
	if cap(request) > smallBody || cap(response) > smallBody {
		return
	}
	*x = exchange{request: request, response: response}
	exchanges.Put(x)
}

// receive waits for the first byte of a body, or its end, and returns an exchange with it. Until
// then no memory is used beyond net/http's. An empty body is not an error here: its signature is
// verified before it is decoded.
func (h *handler) receive(r *http.Request) (*exchange, error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if err != nil && err != io.EOF {
		return nil, badRequest(serialization, "")
	}
	x := exchanges.Get().(*exchange)
	x.handler = h
	x.request = append(x.request, first[:n]...)
	return x, nil
}

// readBody appends the rest of the body to the request.
func (x *exchange) readBody(w http.ResponseWriter, r *http.Request) error {
	complete, err := x.fill(r.Body, smallBody)
	if complete || err != nil {
		return err
	}
	b := &unfinishedBody{client: clientaddr.Client(r.RemoteAddr), interrupt: func() error {
		return http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	}}
	if !x.unfinished.add(b) {
		return errTooMany
	}
	func() {
		defer x.unfinished.remove(b)
		complete, err = x.fill(r.Body, maxBody)
	}()
	switch {
	case err != nil && b.evicted:
		return errEvicted
	case err != nil:
		return err
	case !complete:
		return errTooLarge
	}
	return x.admitLarge()
}

// fill appends bytes from r to the request, until the end of r, or until the request has more than
// limit bytes. It reports whether it has reached the end.
func (x *exchange) fill(r io.Reader, limit int) (complete bool, err error) {
	for len(x.request) <= limit {
		if len(x.request) == cap(x.request) {
			x.grow(limit + 1)
		}
		n, err := r.Read(x.request[len(x.request):cap(x.request)])
		x.request = x.request[:len(x.request)+n]
		switch {
		case err == io.EOF:
			return len(x.request) <= limit, nil
		case err != nil:
			return false, badRequest(serialization, "")
		}
	}
	return false, nil
}

// grow doubles the capacity of the request, up to limit, and erases the old buffer.
func (x *exchange) grow(limit int) {
	larger := append(make([]byte, 0, min(2*cap(x.request), limit)), x.request...)
	secret.Clear(x.request)
	x.request = larger
}

// admitLarge counts this exchange among the large ones that are carried out.
func (x *exchange) admitLarge() error {
	if x.isLarge {
		return nil
	}
	select {
	case x.large <- struct{}{}:
		x.isLarge = true
		return nil
	default:
		return errTooMany
	}
}

// decompress replaces a compressed request by its content.
func (x *exchange) decompress(encoding string) error {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return nil
	case "gzip":
	default:
		return badRequest(serialization, "")
	}
	if err := x.admitLarge(); err != nil {
		return err
	}
	compressed := x.request
	defer secret.Clear(compressed)
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return badRequest(serialization, "")
	}
	x.request = make([]byte, 0, smallBody)
	complete, err := x.fill(z, maxBody)
	if err == nil && !complete {
		return errTooLarge
	}
	return err
}

// unfinishedBodies are the large bodies that are being received, oldest first.
type unfinishedBodies struct {
	mu     sync.Mutex
	bodies []*unfinishedBody
}

type unfinishedBody struct {
	client    string
	interrupt func() error // makes reading the body fail
	evicted   bool
}

// add adds b. If there are too many, it evicts the oldest body of the client that has the most: a
// client that leaves its requests unfinished keeps out neither others nor its own later requests.
// It reports whether there is room for b.
func (u *unfinishedBodies) add(b *unfinishedBody) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.bodies) == maxUnfinished {
		i := u.candidate(b.client)
		oldest := u.bodies[i]
		if oldest.interrupt() != nil {
			return false // the server cannot interrupt it, so that its memory stays in use
		}
		oldest.evicted = true
		u.delete(i)
	}
	u.bodies = append(u.bodies, b)
	return true
}

// candidate returns the index of the body to evict for another one of client.
func (u *unfinishedBodies) candidate(client string) int {
	counts := map[string]int{client: 1}
	for _, b := range u.bodies {
		counts[b.client]++
	}
	index := 0
	for i, b := range u.bodies {
		if counts[b.client] > counts[u.bodies[index].client] {
			index = i
		}
	}
	return index
}

// remove removes b, if it has not been evicted. It is not evicted afterwards.
func (u *unfinishedBodies) remove(b *unfinishedBody) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.bodies {
		if u.bodies[i] == b {
			u.delete(i)
			return
		}
	}
}

func (u *unfinishedBodies) delete(i int) {
	copy(u.bodies[i:], u.bodies[i+1:])
	u.bodies[len(u.bodies)-1] = nil
	u.bodies = u.bodies[:len(u.bodies)-1]
}
