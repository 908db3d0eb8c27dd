// Package kmstest gives tests a KMS: a [kms.Service] in memory that answers, refuses and fails as AWS KMS does, on a clock
// that the test moves.
//
//	svc := kmstest.New(t)
//	svc.Advance(30 * 24 * time.Hour)                    // what a month changes has changed
//	svc.Inject(kmstest.Fault{Err: kmstest.Throttling()}) // every call fails, until told otherwise
//	svc.Calls("Decrypt")                                // what was called, with what
//	svc.Fork(t)                                         // a copy for the next row of the table
//
// Code that takes an SDK client gets one from package awsclient, for svc.Service; faults then are errors of the SDK, which
// its retryer sees. A Service shares nothing with any other, so tests may run in parallel.
package kmstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
	"github.com/pocketkms/kms/seed"
)

// A Service is a [kms.Service] for one test. All views of it (As, In) are on its clock, meet its faults, and are recorded.
// Its methods may be called concurrently.
type Service struct {
	*kms.Service
	t      testing.TB
	config kms.Config // as the options had it
	root   keystore.RootKey
	store  *history
	clock  *clock

	mu     sync.Mutex
	faults []*fault
	calls  []*record // in the order of their beginnings
}

// An Option changes what [New] or [Service.Fork] gives.
type Option func(*settings)

type settings struct {
	start  time.Time
	config kms.Config
	seeds  []func(context.Context, *kms.Service) error
	lag    time.Duration
}

// Start sets the clock at the beginning, which is 2026-01-01 00:00 UTC otherwise. A fork cannot start before its parent's
// now.
func Start(at time.Time) Option { return func(o *settings) { o.start = at } }

// Seed makes keys whose IDs and material are fixed. They are there at once, and their making is no recorded call.
func Seed(keys ...seed.Key) Option {
	return func(o *settings) {
		o.seeds = append(o.seeds, func(ctx context.Context, svc *kms.Service) error { return seed.Make(ctx, svc, keys...) })
	}
}

// SeedFile is [Seed] with the keys of a YAML file; docs/seed.md describes its form.
func SeedFile(path string) Option {
	return func(o *settings) {
		o.seeds = append(o.seeds, func(ctx context.Context, svc *kms.Service) error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := seed.Load(ctx, svc, f); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			return nil
		})
	}
}

// Configure changes the Config, such as its Account, Region or Audit. Backend, RootKey and Clock are the Service's own, and
// changes of them are not heeded.
func Configure(change func(*kms.Config)) Option { return func(o *settings) { change(&o.config) } }

// New returns a Service for t, which is closed with it. What it logs, t logs.
func New(t testing.TB, options ...Option) *Service {
	t.Helper()
	o := settings{start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, set := range options {
		set(&o)
	}
	return start(t, o, &history{Backend: memory.New()}, keystore.Ephemeral())
}

// Fork returns a copy of s as it is now, for t, with a clock of its own that starts at the now of s. Neither sees the other's
// changes. The copy has neither faults nor recorded calls yet; options change the rest. It takes the same time however many
// keys s has. The test of s must not have ended.
func (s *Service) Fork(t testing.TB, options ...Option) *Service {
	t.Helper()
	select {
	case <-s.clock.closed:
		t.Fatalf("kmstest: cannot fork a Service whose test has ended")
	default:
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatalf("kmstest: cannot fork: %v", err)
	}
	now := s.Now()
	store, lag := s.store.fork(now)
	o := settings{start: now, config: s.config, lag: lag}
	for _, set := range options {
		set(&o)
	}
	if o.start.Before(now) {
		t.Fatalf("kmstest: the fork would start at %v, before its parent's now, %v", o.start, now)
	}
	return start(t, o, store, s.root)
}

func start(t testing.TB, o settings, store *history, root keystore.RootKey) *Service {
	t.Helper()
	s := &Service{t: t, config: o.config, root: root, store: store, clock: newClock(o.start)}
	config := o.config
	config.Backend, config.RootKey, config.Clock = store, root, s.clock.read
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if config.Audit != nil {
		config.Audit = discreet{config.Audit}
	}
	config.Intercept = s.intercept
	var err error
	if s.Service, err = kms.New(config); err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	t.Cleanup(func() {
		s.clock.close()
		if err := s.Close(); err != nil && !errors.Is(err, kms.ErrClosed) {
			t.Errorf("kmstest: %v", err)
		}
	})
	store.lags(config, 0) // what is there from the beginning is visible
	for _, plant := range o.seeds {
		if err := plant(ownContext(), s.Service); err != nil {
			t.Fatalf("kmstest: %v", err)
		}
	}
	store.lags(config, o.lag)
	return s
}

// Now returns the time of the Service's clock, which stands still between calls of [Service.Advance].
func (s *Service) Now() time.Time { return s.clock.read() }

// Advance moves the clock on by d. Calls that were waiting for that time go on; what it brings about, such as the deletion or
// rotation of a key, has come about for the next call.
func (s *Service) Advance(d time.Duration) {
	s.t.Helper()
	if d < 0 {
		s.t.Fatalf("kmstest: the clock cannot be set back, by %v", d)
	}
	s.clock.advance(d)
}

// intercept is the way of every call: recorded, delayed or failed by faults, and answered by what is visible.
func (s *Service) intercept(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (out any, err error) {
	if isOwn(ctx) {
		return next(ctx)
	}
	r := s.begin(call.Service, call.Operation, call.Input)
	injected := false
	defer func() { s.end(r, out, err, injected) }()
	visible := func(ctx context.Context) (any, error) { return s.answer(ctx, call, next) }
	if s.config.Intercept != nil {
		inner := visible
		visible = func(ctx context.Context) (any, error) { return s.config.Intercept(ctx, call, inner) }
	}
	e := s.effect(call.Service, call.Operation, call.Input)
	if err = s.delay(ctx, e.before); err != nil {
		return nil, err
	}
	if e.late {
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

// Calls that kmstest makes itself, for its own ends, are neither recorded nor audited and meet no faults.
type own struct{}

func ownContext() context.Context    { return context.WithValue(context.Background(), own{}, true) }
func isOwn(ctx context.Context) bool { return ctx.Value(own{}) != nil }

type discreet struct{ audit.Sink }

func (d discreet) Record(ctx context.Context, e *audit.Event) error {
	if isOwn(ctx) {
		return nil
	}
	return d.Sink.Record(ctx, e)
}

// known fails the test if an operation has no such name: an assertion about it would hold for ever.
func (s *Service) known(name string) {
	s.t.Helper()
	if !slices.ContainsFunc(kms.Operations(), func(op kms.Operation) bool { return op.Name() == name }) {
		s.t.Fatalf("kmstest: the Service has no operation %q", name)
	}
}
