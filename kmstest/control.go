package kmstest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/clientaddr"
	"github.com/pocketkms/kms/seed"
)

const (
	maxControlBytes = 64 << 10
	maxSeedBytes    = 4 << 20 // as docs/seed.md has it

	// maxAdvance is how far one request moves the clock, in seconds: a hundred years.
	maxAdvance = 36_525 * 24 * 60 * 60
	// maxWallClock bounds a fault's latency in real time, in seconds: a response takes a minute at
	// most.
	maxWallClock = 30
	// waitingTimeout is how long a request waits for calls that wait for the clock.
	waitingTimeout = 10 * time.Second
)

var lastTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// controlPath reports whether a path is one of the control API, and returns what comes after the
// version.
func controlPath(path string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, "/test/"); !ok && path != "/test" {
		return "", false
	}
	if rest, ok = strings.CutPrefix(rest, "v1"); ok && (rest == "" || rest[0] == '/') {
		return strings.TrimPrefix(rest, "/"), true
	}
	return "no such version", true
}

// refuseOthers returns an error if a request may come from anywhere but a program on this machine. A
// browser sends an Origin or Sec-Fetch-Site, or, if the name of a page's site was made to resolve to
// a loopback address, a Host that is not a loopback name.
func refuseOthers(r *http.Request) error {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	text := ""
	switch {
	case err != nil || !remote.Addr().Unmap().IsLoopback():
		text = "the control API answers only this machine"
	case !clientaddr.IsLoopback(clientaddr.CanonicalHost(r.Host)):
		text = "the Host of a request to the control API is localhost or a loopback address"
	case r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil:
		text = "the control API does not answer web pages"
	case r.Header["Forwarded"] != nil || r.Header["X-Forwarded-For"] != nil || r.Header["Via"] != nil:
		text = "the control API does not answer through a proxy"
	default:
		return nil
	}
	return statusError{http.StatusForbidden, text}
}

// A control is a request of the control API.
type control struct {
	server *Server
	served *served
	sim    *simulator
	w      http.ResponseWriter
	r      *http.Request
}

// controls are the requests of the control API: by path, then by method.
var controls = map[string]map[string]func(c *control) (any, error){
	"":        {http.MethodDelete: (*control).remove},
	"clock":   {http.MethodGet: (*control).time},
	"advance": {http.MethodPost: (*control).advance},
	"faults":  {http.MethodGet: (*control).listFaults, http.MethodPost: (*control).inject, http.MethodDelete: (*control).removeFaults},
	"calls":   {http.MethodGet: (*control).calls, http.MethodDelete: (*control).resetCalls},
	"seed":    {http.MethodPost: (*control).seed},
	"fork":    {http.MethodPost: (*control).fork},
	"reset":   {http.MethodPost: (*control).reset},
}

func (s *Server) control(w http.ResponseWriter, r *http.Request, v *served, sim *simulator, path string) {
	c := &control{s, v, sim, w, r}
	byMethod, ok := controls[path]
	if id, isFault := strings.CutPrefix(path, "faults/"); isFault {
		ok, byMethod = true, map[string]func(*control) (any, error){
			http.MethodDelete: func(c *control) (any, error) { return c.removeFault(id) },
		}
	}
	var answer any
	var err error
	switch do := byMethod[r.Method]; {
	case !ok:
		err = statusError{http.StatusNotFound, "the control API has no such path: docs/testing.md lists them"}
	case do == nil:
		for method := range byMethod {
			w.Header().Add("Allow", method)
		}
		err = statusError{http.StatusMethodNotAllowed, "this path has no " + r.Method}
	default:
		answer, err = do(c)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func badRequest(format string, arguments ...any) error {
	return statusError{http.StatusBadRequest, fmt.Sprintf(format, arguments...)}
}

// read decodes the body, an object with known members, into v. A body may be absent.
func (c *control) read(v any) error {
	body, err := c.body(maxControlBytes, "application/json")
	if err != nil || len(body) == 0 {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return badRequest("%s cannot be a JSON %s", cmp.Or(mismatch.Field, "the body"), mismatch.Value)
	}
	if err != nil {
		return badRequest("the body is not the JSON of this request: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("the body is more than one JSON value")
	}
	return nil
}

// body reads a body of one of the types. A web page can send other types without asking first.
func (c *control) body(limit int64, types ...string) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit)}
	}
	if err != nil {
		return nil, badRequest("the body cannot be read")
	}
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if len(body) > 0 && (err != nil || !slices.Contains(types, media)) {
		return nil, statusError{http.StatusUnsupportedMediaType, "the Content-Type is not " + strings.Join(types, " or ")}
	}
	return body, nil
}

// noBody refuses a body.
func (c *control) noBody() error { return c.read(new(struct{})) }

// seconds returns a duration, if it is within a limit.
func seconds(name string, n float64, limit float64) (time.Duration, error) {
	if !(n >= 0 && n <= limit) { // or it is not a number
		return 0, badRequest("%s is a number from 0 to %.0f", name, limit)
	}
	return time.Duration(math.Round(n * float64(time.Second))), nil
}

type clockAnswer struct {
	Now     time.Time `json:"now"`
	Waiting int       `json:"waiting"` // calls that wait for the clock
}

func (c *control) time() (any, error) { return clockOf(c.sim), nil }

func clockOf(s *simulator) clockAnswer {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return clockAnswer{s.clock.now, s.clock.waiting}
}

func (c *control) advance() (any, error) {
	var in struct {
		Days    float64 `json:"days"`
		Seconds float64 `json:"seconds"`
		Waiting int     `json:"waiting"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	days, err := seconds("days", in.Days, maxAdvance/86400)
	if err != nil {
		return nil, err
	}
	by, err := seconds("seconds", in.Seconds, maxAdvance)
	if err != nil {
		return nil, err
	}
	by += days * 24 * 60 * 60
	if c.sim.clock.read().Add(by).After(lastTime) {
		return nil, badRequest("the clock ends with the year 9998")
	}
	if in.Waiting > 0 {
		ctx, cancel := context.WithTimeout(c.r.Context(), waitingTimeout)
		defer cancel()
		if c.sim.clock.untilWaiting(ctx, in.Waiting) != nil {
			return nil, statusError{http.StatusConflict, fmt.Sprintf("%d of %d calls wait for the clock", clockOf(c.sim).Waiting, in.Waiting)}
		}
	}
	if err := c.sim.advance(by); err != nil {
		return nil, badRequest("%v", err)
	}
	return clockOf(c.sim), nil
}

// A faultRequest is a [Fault] in JSON.
type faultRequest struct {
	Operations     []string `json:"operations,omitempty"`
	Key            string   `json:"key,omitempty"`
	After          int      `json:"after,omitempty"`
	Count          int      `json:"count,omitempty"`
	Probability    float64  `json:"probability,omitempty"`
	Seed           uint64   `json:"seed,omitempty"`
	Error          string   `json:"error,omitempty"`
	Message        *string  `json:"message,omitempty"`
	LoseResponse   bool     `json:"loseResponse,omitempty"`
	LatencySeconds float64  `json:"latencySeconds,omitempty"`
	WallClock      bool     `json:"wallClock,omitempty"`
}

// connectionError is what the error of a fault is called whose connection breaks.
const connectionError = "ConnectionError"

var exceptionName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,99}(Exception|Error|Failure)$`)

// fault returns the fault that is asked for.
func (f *faultRequest) fault() (Fault, error) {
	limit := float64(maxAdvance)
	if f.WallClock {
		limit = maxWallClock
	}
	latency, err := seconds("latencySeconds", f.LatencySeconds, limit)
	if err != nil {
		return Fault{}, err
	}
	added := Fault{
		Operations: f.Operations, Key: f.Key, After: f.After, Count: f.Count, Probability: f.Probability, Seed: f.Seed,
		LoseResponse: f.LoseResponse, Latency: latency, WallClock: f.WallClock,
	}
	switch {
	case f.Error == "" && f.Message != nil:
		return Fault{}, badRequest("a message needs an error")
	case f.Error == "" && f.LoseResponse:
		return Fault{}, badRequest("loseResponse needs an error")
	case f.Error == "" && latency == 0:
		return Fault{}, badRequest("a fault has an error or latencySeconds")
	case f.Error == "":
	case f.Error == connectionError && f.Message != nil:
		return Fault{}, badRequest("a %s has no message", connectionError)
	case f.Error == connectionError:
		added.Err = ErrConnection
	case !exceptionName.MatchString(f.Error):
		return Fault{}, badRequest("%.100q is not the name of an exception, such as ThrottlingException", f.Error)
	case f.Message != nil:
		added.Err = &kms.Error{Code: kms.ErrorCode(f.Error), Message: *f.Message}
	default:
		added.Err = kms.ErrorCode(f.Error)
	}
	return added, nil
}

func (c *control) inject() (any, error) {
	var in faultRequest
	if err := c.read(&in); err != nil {
		return nil, err
	}
	f, err := in.fault()
	if err != nil {
		return nil, err
	}
	added, err := c.sim.inject(f, &in)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	return map[string]string{"id": strconv.Itoa(added.id)}, nil
}

type faultAnswer struct {
	ID       string `json:"id"`
	Affected int    `json:"affected"`
	*faultRequest
}

func (c *control) listFaults() (any, error) {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	list := []faultAnswer{}
	for _, f := range c.sim.faults {
		list = append(list, faultAnswer{strconv.Itoa(f.id), f.hits, f.request})
	}
	return map[string]any{"faults": list}, nil
}

func (c *control) removeFaults() (any, error) {
	c.sim.removeFaults(func(*fault) bool { return true })
	return struct{}{}, nil
}

func (c *control) removeFault(id string) (any, error) {
	if c.sim.removeFaults(func(f *fault) bool { return strconv.Itoa(f.id) == id }) == 0 {
		return nil, statusError{http.StatusNotFound, "there is no such fault, or it was removed"}
	}
	return struct{}{}, nil
}

// A callAnswer is a [Call] in JSON.
type callAnswer struct {
	Operation string          `json:"operation"`
	Caller    string          `json:"caller"`
	Region    string          `json:"region"`
	Time      time.Time       `json:"time"`
	Pending   bool            `json:"pending,omitempty"`
	Injected  bool            `json:"injected,omitempty"`
	Error     *callError      `json:"error,omitempty"`
	Input     json.RawMessage `json:"input"`
	Output    json.RawMessage `json:"output,omitempty"`
}

type callError struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
}

func (c *control) calls() (any, error) {
	operations := c.r.URL.Query()["operation"]
	if err := checkOperations(operations); err != nil {
		return nil, badRequest("%v", err)
	}
	list := []callAnswer{}
	for _, call := range c.sim.callsOf(operations) {
		answer, err := call.answer()
		if err != nil {
			return nil, err
		}
		list = append(list, answer)
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	return map[string]any{"calls": list, "dropped": c.sim.dropped}, nil
}

func (c Call) answer() (a callAnswer, err error) {
	a = callAnswer{Operation: c.Operation, Caller: c.Caller.String(), Region: c.Region, Time: c.Time, Pending: c.Pending, Injected: c.Injected}
	if a.Input, err = awsapi.Marshal(c.in()); err != nil {
		return a, err
	}
	var failure *kms.Error
	switch {
	case errors.As(c.Err, &failure):
		a.Error = &callError{string(failure.Code), failure.Message}
	case errors.Is(c.Err, ErrConnection):
		a.Error = &callError{Code: connectionError}
	case c.Err != nil:
		a.Error = &callError{Code: "Error", Message: c.Err.Error()}
	case !c.Pending:
		a.Output, err = awsapi.Marshal(c.out())
	}
	return a, err
}

func (c *control) resetCalls() (any, error) {
	c.sim.resetCalls()
	return struct{}{}, nil
}

func (c *control) seed() (any, error) {
	body, err := c.body(maxSeedBytes, "application/json", "application/yaml")
	if err != nil {
		return nil, err
	}
	err = c.sim.prepare(func(ctx context.Context, svc *kms.Service) error {
		return seed.Load(ctx, svc, strings.NewReader(string(body)))
	})
	if err != nil {
		return nil, badRequest("%v", err)
	}
	return struct{}{}, nil
}

func (c *control) fork() (any, error) {
	var in struct {
		Start         *time.Time `json:"start"`
		Consistency   *float64   `json:"eventualConsistencySeconds"`
		RequestQuotas *bool      `json:"requestQuotas"`
		Replication   *float64   `json:"replicationDelaySeconds"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var options []Option
	if in.Start != nil {
		if in.Start.After(lastTime) {
			return nil, badRequest("the clock ends with the year 9998")
		}
		options = append(options, Start(in.Start.UTC()))
	}
	if in.Consistency != nil {
		d, err := seconds("eventualConsistencySeconds", *in.Consistency, 3600)
		if err != nil {
			return nil, err
		}
		options = append(options, EventualConsistency(d))
	}
	if in.RequestQuotas != nil {
		options = append(options, Configure(func(config *kms.Config) { config.RequestQuotas = *in.RequestQuotas }))
	}
	if in.Replication != nil {
		d, err := seconds("replicationDelaySeconds", *in.Replication, 3600)
		if err != nil {
			return nil, err
		}
		if d == 0 {
			d = -1 // in a Config, 0 is the default
		}
		options = append(options, Configure(func(config *kms.Config) { config.ReplicationDelay = d }))
	}
	added, err := c.server.fork(c.sim, options)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	return map[string]string{"url": scheme + "://" + c.r.Host + added.path}, nil
}

func (c *control) reset() (any, error) {
	if err := c.noBody(); err != nil {
		return nil, err
	}
	if err := c.server.reset(c.served); err != nil {
		return nil, err
	}
	return clockAnswer{Now: c.served.start.start}, nil
}

func (c *control) remove() (any, error) {
	if c.served.path == "" {
		return nil, statusError{http.StatusMethodNotAllowed, "only a fork can be deleted"}
	}
	return struct{}{}, c.server.remove(c.served)
}
