package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A fakeListener accepts connections from the addresses that are sent to it.
type fakeListener struct {
	from   chan string
	closed chan struct{}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case from := <-l.from:
		return &fakeConn{from: from}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *fakeListener) Close() error   { close(l.closed); return nil }
func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

type fakeConn struct {
	net.Conn
	from                string
	closed, writeClosed bool
}

func (c *fakeConn) Close() error      { c.closed = true; return nil }
func (c *fakeConn) CloseWrite() error { c.writeClosed = true; return nil }
func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 4711))
}

func newLimit(limit int) (accept func(from string) *limitedConn, state func(net.Conn, http.ConnState), l net.Listener) {
	fake := &fakeListener{make(chan string, 1), make(chan struct{})}
	server := &http.Server{}
	l = limitConnections(fake, limit, server)
	return func(from string) *limitedConn {
		fake.from <- from
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		return c.(*limitedConn)
	}, server.ConnState, l
}

func isClosed(c *limitedConn) bool { return c.Conn.(*fakeConn).closed }

func TestAnotherConnectionClosesTheOneThatIsIdleLongest(t *testing.T) {
	accept, state, _ := newLimit(3)
	a, b, c := accept("192.0.2.1"), accept("192.0.2.1"), accept("192.0.2.1")
	state(a, http.StateActive)
	state(b, http.StateActive)
	state(b, http.StateIdle) // later than c, which has not been used
	accept("192.0.2.1")
	require.False(t, isClosed(a), "it is in use")
	require.False(t, isClosed(b))
	require.True(t, isClosed(c))
	state(a, http.StateIdle)
	accept("192.0.2.1")
	require.True(t, isClosed(b))
	require.False(t, isClosed(a))
}

func TestAClientThatOpensManyConnectionsLosesItsOwn(t *testing.T) {
	accept, _, _ := newLimit(3)
	other := accept("192.0.2.1")
	greedy := accept("192.0.2.2")
	accept("192.0.2.2")
	accept("192.0.2.2")
	require.False(t, isClosed(other), "although it has been idle longer")
	require.True(t, isClosed(greedy))
}

func TestAConnectionWaitsUntilAnotherIsClosedOrIdle(t *testing.T) {
	for name, release := range map[string]func(*limitedConn, func(net.Conn, http.ConnState)){
		"closed": func(c *limitedConn, _ func(net.Conn, http.ConnState)) { c.Close() },
		"idle":   func(c *limitedConn, state func(net.Conn, http.ConnState)) { state(c, http.StateIdle) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accept, state, _ := newLimit(1)
				first := accept("192.0.2.1")
				state(first, http.StateActive)
				accepted := make(chan *limitedConn, 1)
				go func() { accepted <- accept("192.0.2.1") }()
				synctest.Wait()
				require.Empty(t, accepted)
				release(first, state)
				require.NotNil(t, <-accepted)
				require.True(t, isClosed(first))
			})
		})
	}
}

// Package net/http looks for this method, so that a client gets a response that is sent before its
// request has been read.
func TestWritingCanBeClosedFirst(t *testing.T) {
	accept, _, _ := newLimit(1)
	c := accept("192.0.2.1")
	require.NoError(t, net.Conn(c).(interface{ CloseWrite() error }).CloseWrite())
	require.True(t, c.Conn.(*fakeConn).writeClosed)
	require.False(t, isClosed(c))
}

func TestClosingTheListenerEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accept, state, l := newLimit(1)
		state(accept("192.0.2.1"), http.StateActive)
		accepted := make(chan *limitedConn)
		go func() { accepted <- accept("192.0.2.1") }()
		synctest.Wait()
		require.NoError(t, l.Close())
		require.Nil(t, <-accepted)
	})
}

// A service with one connection serves one client after another.
func TestMaxConnections(t *testing.T) {
	i := start(t, program{}, "--max-connections", "1")
	idle, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
	require.NoError(t, err)
	defer idle.Close()
	require.NoError(t, idle.SetDeadline(time.Now().Add(time.Minute))) // before the server's own timeout
	_, err = io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	from := bufio.NewReader(idle)
	response, err := http.ReadResponse(from, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)

	status, _ := i.call(access{}, "CreateKey", `{}`)
	require.Equal(t, http.StatusOK, status)
	_, err = from.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}
