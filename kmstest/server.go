package kmstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/pocketkms/kms/awsapi"
)

const (
	// maxForks bounds the forks of a Server, because each takes memory until it is deleted.
	maxForks = 1000
	// maxCalls is how many calls of a service are kept: the latest.
	maxCalls = 10_000
	// maxFaults bounds the faults of a service, because each call looks at all of them.
	maxFaults = 1000

	forksPath = "/forks/"
)

// A Server gives tests in every language what a [Service] gives tests in Go. It serves the KMS API
// for an SDK and, below /test/v1/, a control API by which a test moves the clock, injects faults,
// sees the calls, seeds, resets and forks. A fork is a further service below /forks/, with both
// APIs. docs/testing.md describes the control API; kms serve --test is a Server on a port.
//
// The control API answers only this machine: it refuses requests from other addresses, by other
// host names, of web pages and through proxies.
type Server struct {
	api awsapi.Options

	mu       sync.Mutex
	services map[string]*served // by the path at which they are served
	forks    int                // all that there have been, which names the next one
}

// A served service is replaced when it is reset.
type served struct {
	path  string
	start snapshot // what reset returns to; set before sim

	mu      sync.Mutex
	sim     *simulator   // nil until the service is started
	api     http.Handler // of sim
	deleted bool         // sim and api are nil
}

// NewServer returns a Server whose first service has the options. api says who may call the KMS
// API, of this service and of all its forks. The caller closes the Server.
func NewServer(api awsapi.Options, options ...Option) (*Server, error) {
	s := &Server{api: api, services: map[string]*served{}}
	first := new(served)
	s.services[""] = first
	if err := s.start(first, newSnapshot(options)); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes all services. Calls that wait for a clock end.
func (s *Server) Close() error {
	s.mu.Lock()
	all := s.services
	s.services = nil
	s.mu.Unlock()
	var err error
	for _, each := range all {
		err = errors.Join(err, each.replace(nil, s.api))
	}
	return err
}

// start starts a service on a snapshot. Its seeds are a part of what it can be reset to.
func (s *Server) start(v *served, from snapshot) error {
	sim, err := newSimulator(from)
	if err != nil {
		return err
	}
	if v.start, err = sim.snapshot(); err != nil {
		return errors.Join(err, sim.close())
	}
	return v.replace(sim, s.api)
}

// replace closes the service and serves another, or none from then on.
func (v *served) replace(by *simulator, options awsapi.Options) error {
	v.mu.Lock()
	former, deleted := v.sim, v.deleted
	switch {
	case deleted:
		former = by
	case by != nil:
		by.keep = maxCalls
		v.sim, v.api = by, awsapi.Handler(by.svc, options)
	default:
		v.sim, v.api, v.deleted = nil, nil, true
	}
	v.mu.Unlock()
	var err error
	if former != nil {
		err = former.close()
	}
	if deleted && by != nil {
		err = errors.Join(errGone, err)
	}
	return err
}

// reset makes a service what it was at its start.
func (s *Server) reset(v *served) error {
	sim, err := newSimulator(v.start.fork())
	if err != nil {
		return err
	}
	return v.replace(sim, s.api)
}

// fork serves a copy of a service.
func (s *Server) fork(of *simulator, options []Option) (*served, error) {
	from, err := of.snapshot()
	if err != nil {
		return nil, err
	}
	if err := from.startLater(options); err != nil {
		return nil, statusError{http.StatusBadRequest, err.Error()}
	}
	added, err := s.addFork()
	if err != nil {
		return nil, err
	}
	if err := s.start(added, from); err != nil {
		return nil, errors.Join(err, s.remove(added))
	}
	return added, nil
}

// addFork names a fork, which is to be started: other requests do not wait for that.
func (s *Server) addFork() (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.services == nil:
		return nil, errGone
	case len(s.services) > maxForks:
		return nil, statusError{http.StatusConflict, fmt.Sprintf("there are %d forks: delete those that are done", maxForks)}
	}
	s.forks++
	added := &served{path: forksPath + strconv.Itoa(s.forks)}
	s.services[added.path] = added
	return added, nil
}

// remove deletes a fork.
func (s *Server) remove(v *served) error {
	s.mu.Lock()
	delete(s.services, v.path)
	s.mu.Unlock()
	return v.replace(nil, s.api)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prefix, rest := "", r.URL.Path
	if below, ok := strings.CutPrefix(rest, forksPath); ok {
		name, _, _ := strings.Cut(below, "/")
		prefix = forksPath + name
		rest = strings.TrimPrefix(rest, prefix)
	}
	control, isControl := controlPath(rest)
	if isControl {
		if err := refuseOthers(r); err != nil {
			writeError(w, err)
			return
		}
	}
	s.mu.Lock()
	v := s.services[prefix]
	s.mu.Unlock()
	var sim *simulator
	var api http.Handler
	if v != nil {
		v.mu.Lock()
		sim, api = v.sim, v.api
		v.mu.Unlock()
	}
	switch {
	case sim == nil && !isControl:
		writeJSON(w, errGone.status, map[string]string{"__type": "ResourceNotFoundException", "message": errGone.text}) // for an SDK
	case sim == nil:
		writeError(w, errGone)
	case isControl:
		s.control(w, r, v, sim, control)
	default:
		http.StripPrefix(prefix, api).ServeHTTP(w, r)
	}
}

// A statusError is an answer that is not that of a KMS.
type statusError struct {
	status int
	text   string
}

func (e statusError) Error() string { return e.text }

var errGone = statusError{http.StatusNotFound, "there is no such fork, or it was deleted"}

// writeError answers a request of the control API.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[statusError](err); ok {
		status = e.status
	}
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // fails only if the client is gone
}
