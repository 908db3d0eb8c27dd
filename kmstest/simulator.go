package kmstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// A simulator is what a [Service] and a [Server] have in common: a service whose clock is moved,
// whose calls are recorded, and into which faults are injected. It belongs to no test: a mistake is
// an error.
type simulator struct {
	svc    *kms.Service
	config kms.Config // as the options left it
	root   keystore.RootKey
	store  *laggedStore
	clock  *clock

	mu       sync.Mutex
	faults   []*fault
	injected int       // all faults that there have been
	calls    []*record // in the order in which they began
	keep     int       // how many calls are kept at most; 0 means all
	dropped  int       // calls that were not kept
}

// A snapshot is a simulator as it was at a time, from which others can be started. It has neither
// its faults nor its recorded calls.
type snapshot struct {
	settings
	store *laggedStore
	root  keystore.RootKey
}

// newSnapshot returns a snapshot of a simulator that has existed for no time.
func newSnapshot(options []Option) snapshot {
	s := snapshot{
		settings: settings{start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
		store:    &laggedStore{Backend: memory.New()},
		root:     keystore.Ephemeral(),
	}
	s.apply(options)
	return s
}

func (o *settings) apply(options []Option) {
	for _, set := range options {
		set(o)
	}
}

// newSimulator starts a simulator on the store of a snapshot, which it owns from then on.
func newSimulator(from snapshot) (*simulator, error) {
	s := &simulator{config: from.config, root: from.root, store: from.store, clock: newClock(from.start)}
	config := from.config
	config.Backend, config.RootKey, config.Clock = s.store, s.root, s.clock.read
	if config.Audit != nil {
		config.Audit = filteredSink{config.Audit}
	}
	config.Intercept = s.intercept
	var err error
	if s.svc, err = kms.New(config); err != nil {
		return nil, err
	}
	s.store.setLag(config, from.lag)
	for _, create := range from.seeds {
		if err := s.prepare(create); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// prepare makes changes that are visible at once and not recorded, like those of the start.
func (s *simulator) prepare(change func(context.Context, *kms.Service) error) error {
	lag := s.store.changeLag(0)
	defer s.store.changeLag(lag)
	return change(internalContext(), s.svc)
}

// snapshot returns s as it is now, with its settings. It takes the same time however many keys s
// has.
func (s *simulator) snapshot() (snapshot, error) {
	select {
	case <-s.clock.closed:
		return snapshot{}, errors.New("its test has ended")
	default:
	}
	if err := s.svc.Flush(context.Background()); err != nil {
		return snapshot{}, err
	}
	return snapshot{settings: settings{start: s.clock.read(), config: s.config}, store: s.store, root: s.root}.fork(), nil
}

// fork returns a copy on a store of its own.
func (s snapshot) fork() snapshot {
	s.store, s.lag = s.store.fork(s.start)
	s.store.lag = s.lag
	s.seeds = nil // they are in the store
	return s
}

// startLater applies options to a snapshot whose time has come.
func (s *snapshot) startLater(options []Option) error {
	now := s.start
	s.apply(options)
	if s.start.Before(now) {
		return fmt.Errorf("the fork would start at %v, before the current time of its parent, %v", s.start, now)
	}
	return nil
}

// advance moves the clock.
func (s *simulator) advance(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("the clock cannot be set back, by %v", d)
	}
	s.clock.advance(d)
	return nil
}

// close ends the calls that wait for the clock, and closes the service.
func (s *simulator) close() error {
	s.clock.close()
	return s.svc.Close()
}

// intercept runs around every call. It records the call, delays it or fails it as the faults say,
// and lets it see only what is visible.
func (s *simulator) intercept(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (out any, err error) {
	if isInternal(ctx) {
		return next(ctx)
	}
	r := s.beginCall(call)
	injected := false
	defer func() { s.endCall(r, out, err, injected) }()
	visible := func(ctx context.Context) (any, error) { return s.store.runVisible(ctx, call, next) }
	if s.config.Intercept != nil {
		inner := visible
		visible = func(ctx context.Context) (any, error) { return s.config.Intercept(ctx, call, inner) }
	}
	e := s.effect(call)
	if err = s.delay(ctx, e.before); err != nil {
		return nil, err
	}
	if e.loseResponse {
		if _, err = visible(ctx); err != nil {
			return nil, err
		}
		if err = s.delay(ctx, e.after); err != nil {
			return nil, err
		}
	}
	if e.err != nil {
		injected = true
		return nil, e.err
	}
	return visible(ctx)
}

// internalCall is the key of the context value that marks the calls that this package makes for its
// own ends. They are neither recorded nor audited, and neither faults nor quotas apply to them.
type internalCall struct{}

func internalContext() context.Context {
	return context.WithValue(testhook.WithoutQuotas(context.Background()), internalCall{}, true)
}

func isInternal(ctx context.Context) bool { return ctx.Value(internalCall{}) != nil }

// A filteredSink drops the events of internal calls.
type filteredSink struct{ audit.Sink }

func (f filteredSink) Record(ctx context.Context, e *audit.Event) error {
	if isInternal(ctx) {
		return nil
	}
	return f.Sink.Record(ctx, e)
}

// checkOperations returns an error if no operation has one of the names: what is said about it
// would always hold, or never.
func checkOperations(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(kms.Operations(), func(op kms.Operation) bool { return op.Name() == name }) {
			return fmt.Errorf("the Service has no operation %.80q", name)
		}
	}
	return nil
}
