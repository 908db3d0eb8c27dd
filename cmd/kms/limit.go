package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/pocketkms/kms/internal/clientaddr"
)

// A limitListener keeps at most max connections open. To accept another one it closes the
// connection that has been idle longest, among those of clients with at least as many as the new
// one's: a client that opens many connections loses its own. If no such connection is idle, it
// waits. A request that arrives at that moment fails as if the server had ended the idle
// connection: clients retry it.
type limitListener struct {
	net.Listener
	max int

	mu     sync.Mutex
	change *sync.Cond // a connection was closed or became idle, or the listener was closed
	conns  map[*limitedConn]struct{}
	turn   uint64 // counts the times that a connection became idle
	closed bool
}

type limitedConn struct {
	net.Conn
	listener *limitListener
	client   string
	idle     bool // no request has begun since it was opened or last used
	since    uint64
}

// limitConnections returns a listener for server that accepts the connections of l. It sets the
// server's ConnState.
func limitConnections(l net.Listener, limit int, server *http.Server) net.Listener {
	limited := &limitListener{Listener: l, max: limit, conns: map[*limitedConn]struct{}{}}
	limited.change = sync.NewCond(&limited.mu)
	server.ConnState = limited.stateChanged
	return limited
}

func (l *limitListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: accepted, listener: l, client: clientaddr.Client(accepted.RemoteAddr().String())}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.conns) >= l.max && !l.closed {
		if idle := l.evictable(c.client); idle != nil {
			delete(l.conns, idle)
			idle.Conn.Close()
		} else {
			l.change.Wait()
		}
	}
	if l.closed {
		accepted.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	l.setIdle(c)
	return c, nil
}

func (l *limitListener) Close() error {
	l.mu.Lock()
	l.closed = true
	l.change.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// evictable returns the connection to close for a new one of client, or nil.
func (l *limitListener) evictable(client string) *limitedConn {
	counts := map[string]int{client: 1}
	for c := range l.conns {
		counts[c.client]++
	}
	var found *limitedConn
	for c := range l.conns {
		if c.idle && counts[c.client] >= counts[client] && (found == nil || c.since < found.since) {
			found = c
		}
	}
	return found
}

func (l *limitListener) setIdle(c *limitedConn) {
	l.turn++
	c.idle, c.since = true, l.turn
	l.change.Signal()
}

// stateChanged notes which connections are idle. It is called by the server.
func (l *limitListener) stateChanged(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	c, ok := conn.(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive:
		c.idle = false
	case http.StateIdle:
		l.setIdle(c)
	}
}

// CloseWrite lets package net/http end a response before it closes a connection with unread data.
func (c *limitedConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}

func (c *limitedConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.change.Signal()
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
