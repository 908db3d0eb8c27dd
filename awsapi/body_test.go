package awsapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// head is the header of a request to a server, up to its Content-Length.
const head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.ListKeys\r\nContent-Length: "

// A slowServer signals when a handler waits for more than the first smallBody+1 bytes of a body.
type slowServer struct {
	*httptest.Server
	handler *handler
	waiting chan struct{}
}

func newSlowServer(t *testing.T, http2 bool) *slowServer {
	s := &slowServer{handler: Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}).(*handler), waiting: make(chan struct{}, 1000)}
	s.Server = httptest.NewUnstartedServer(nil)
	s.Config = Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &watched{r.Body, smallBody + 1, func() { s.waiting <- struct{}{} }}
		s.handler.ServeHTTP(w, r)
	}))
	if s.EnableHTTP2 = http2; http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// A slowRequest is a large request whose body is unfinished.
type slowRequest struct {
	body     *io.PipeWriter
	answered chan string
}

// begin sends a request without the last byte of its body, and returns when the handler waits for
// it.
func (s *slowServer) begin(t *testing.T) slowRequest {
	body, w := io.Pipe()
	r, err := http.NewRequest(http.MethodPost, s.URL, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.ListKeys")
	slow := slowRequest{w, make(chan string, 1)}
	go func() {
		response, err := s.Client().Do(r)
		if err != nil {
			slow.answered <- err.Error()
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		slow.answered <- fmt.Sprint(response.StatusCode, " ", string(text))
	}()
	_, err = io.WriteString(w, "{"+strings.Repeat(" ", smallBody))
	require.NoError(t, err)
	<-s.waiting
	return slow
}

func (r slowRequest) finish() string {
	io.WriteString(r.body, "}") // fails if the request has been answered
	r.body.Close()
	return <-r.answered
}

const (
	throttled = `400 {"__type":"ThrottlingException","message":"Rate exceeded"}`
	noKeys    = `200 {"Keys":[],"Truncated":false}`
)

func TestUnfinishedBodiesKeepNobodyOut(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := newSlowServer(t, http2)
			var slow []slowRequest
			for range maxUnfinished {
				slow = append(slow, s.begin(t))
			}
			require.Empty(t, s.handler.large, "a body that has not been received takes no slot")
			latest := s.begin(t)
			require.Equal(t, throttled, <-slow[0].answered)
			slow[0].body.Close()
			for _, r := range append(slow[1:], latest) {
				require.Equal(t, noKeys, r.finish())
			}
			s.handler.unfinished.mu.Lock()
			defer s.handler.unfinished.mu.Unlock()
			require.Empty(t, s.handler.unfinished.bodies)
			require.Empty(t, s.handler.large)
		})
	}
}

func TestClientWithTheMostUnfinishedBodiesLosesItsOldest(t *testing.T) {
	var u unfinishedBodies
	add := func(client string) *unfinishedBody {
		b := &unfinishedBody{client: client, interrupt: func() error { return nil }}
		require.True(t, u.add(b))
		return b
	}
	first := add("a")
	greedy := []*unfinishedBody{}
	for range maxUnfinished - 1 {
		greedy = append(greedy, add("b"))
	}
	for range 3 {
		add("b")
	}
	for range 2 {
		add("c")
	}
	require.Len(t, u.bodies, maxUnfinished)
	for i, b := range greedy {
		require.Equal(t, i < 5, b.evicted, i)
	}
	require.False(t, first.evicted, "another client's oldest body stays")
	u.remove(first)
	u.remove(greedy[0])
	u.remove(greedy[10])
	require.Len(t, u.bodies, maxUnfinished-2)
}

func TestAPanicWhileReadingLeavesNothingBehind(t *testing.T) {
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true, Logger: slog.New(slog.DiscardHandler)}).(*handler)
	r := request("ListKeys", "")
	r.ContentLength = -1
	r.Body = &closing{Reader: io.MultiReader(strings.NewReader(strings.Repeat(" ", smallBody+1)), eof(func() { panic("swordfish") }))}
	require.Equal(t, http.StatusInternalServerError, serve(h, r).Code)
	require.Empty(t, h.unfinished.bodies)
	require.Empty(t, h.large)
}

func TestBodiesThatCannotBeInterruptedAreNotEvicted(t *testing.T) {
	var u unfinishedBodies
	for range maxUnfinished {
		require.True(t, u.add(&unfinishedBody{interrupt: func() error { return http.ErrNotSupported }}))
	}
	require.False(t, u.add(&unfinishedBody{}))
	for _, b := range u.bodies {
		require.False(t, b.evicted)
	}
}

// A client may close its side of the connection as soon as it has sent its request.
func TestAClientThatHalfClosesIsAnswered(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	cancelled := make(chan bool, 1)
	h := Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &closing{Reader: io.MultiReader(r.Body, eof(func() {
			close(entered)
			<-leave
			<-r.Context().Done() // net/http has seen that the client has closed its side
			cancelled <- true
		}))}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, head+"2\r\n\r\n{}")
	require.NoError(t, err)
	<-entered
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	close(leave)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, noKeys, strconv.Itoa(response.StatusCode)+" "+string(text))
	require.True(t, <-cancelled)
}

// eof is an empty reader that calls a function when it is read.
type eof func()

func (f eof) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// The context of an interrupted request is canceled, too, but its body is not complete.
func TestAnIncompleteBodyIsRefused(t *testing.T) {
	server := httptest.NewServer(Handler(newService(t, kms.Config{}), Options{InsecureTrustAll: true}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, head+"3\r\n\r\n{}")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.Equal(t, "SerializationException", response.Header.Get("X-Amzn-Errortype"))
}

// Although it outlives the client's side of the connection, a call over a socket is bounded in
// time, by middleware's deadline if that is earlier.
func TestCallsOverASocketHaveADeadline(t *testing.T) {
	server := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{})
	early, cancel := context.WithDeadline(server, time.Now().Add(time.Second))
	for name, tt := range map[string]struct {
		parent context.Context
		most   time.Duration
	}{
		"the handler's own": {server, writeTimeout},
		"an earlier one":    {early, time.Second},
	} {
		ctx, end := callContext(tt.parent)
		defer end()
		deadline, ok := ctx.Deadline()
		require.True(t, ok, name)
		require.False(t, deadline.After(time.Now().Add(tt.most)), name)
	}
	ctx, end := callContext(early)
	defer end()
	cancel()
	require.NoError(t, ctx.Err(), "the client may have closed its side only")

	ctx, cancel = context.WithCancel(t.Context())
	inProcess, end := callContext(ctx)
	defer end()
	cancel()
	require.ErrorIs(t, inProcess.Err(), context.Canceled, "a caller in the same process can end a call")
}
