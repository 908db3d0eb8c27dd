// Package kmstest provides a KMS for tests: a [kms.Service] in memory that answers, refuses and
// fails as AWS KMS does, with a clock that the test moves.
//
//	svc := kmstest.New(t)
//	svc.Advance(30 * 24 * time.Hour)                     // what becomes due happens
//	svc.Inject(kmstest.Fault{Err: kmstest.Throttling()}) // every call fails until removed
//	svc.Calls("Decrypt")                                 // the calls so far, with their inputs
//	svc.Fork(t)                                          // a copy for the next row of a table
//	kmstest.RequireDenied(t, err, kmstest.NoKeyPolicy)   // why a call was refused
//
// A Service shares nothing with any other, so tests may run in parallel. At the end of its test it
// checks its records, as [kms.Service.Check] does, and closes. The check takes time for each key;
// it is left out for a fork that has changed nothing, and for a Service that the test closes
// itself.
//
// # Multi-Region keys
//
// As in AWS KMS, a new replica is in KeyStateCreating and cannot be used at once. It is ready after
// Advance(kms.DefaultReplicationDelay). Code under test that waits for that in real time, or does
// not wait, needs a Service without the state:
//
//	kmstest.New(t, kmstest.Configure(func(c *kms.Config) { c.ReplicationDelay = -1 }))
//
// # The AWS SDK
//
// Code that takes an SDK client gets one from package awsclient, bound to the embedded service:
//
//	client := awsclient.New(svc)
//
// Faults are then errors of the SDK, which its retryer sees. Between attempts the SDK waits in real
// time. In a bubble of package testing/synctest that takes no time; create the Service and the
// client inside the bubble. Outside of one, awsclient.WithoutBackoff retries at once.
//
// Code that loads the SDK's configuration itself gets the HTTP client of package awsapi, with
// config.WithHTTPClient(awsapi.HTTPClient(svc.Service)). The SDK refuses any HTTP client but its
// own if the environment variable AWS_CA_BUNDLE is set: call t.Setenv("AWS_CA_BUNDLE", "") first.
package kmstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/seed"
)

// A Service is a [kms.Service] for one test. All views of it (As, In) have its clock and its
// faults, and their calls are recorded. Its methods may be called concurrently.
type Service struct {
	*kms.Service
	t   testing.TB
	sim *simulator
}

// An Option configures the Service that [New] or [Service.Fork] returns.
type Option func(*settings)

type settings struct {
	start  time.Time
	config kms.Config
	seeds  []func(context.Context, *kms.Service) error
	lag    time.Duration
}

// Start sets the time at which the clock starts; the default is 2026-01-01 00:00 UTC. A fork cannot
// start before the current time of its parent.
func Start(at time.Time) Option { return func(o *settings) { o.start = at } }

// Seed creates keys with fixed IDs and key material. They exist from the start, and creating them
// is not recorded.
func Seed(keys ...seed.Key) Option {
	return func(o *settings) {
		o.seeds = append(o.seeds, func(ctx context.Context, svc *kms.Service) error { return seed.Apply(ctx, svc, keys...) })
	}
}

// SeedFile is [Seed] for the keys of a YAML file in the format of docs/seed.md.
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

// Configure changes the Config, such as its Account, Region or Audit. Backend, RootKey and Clock
// belong to the Service: changes to them are ignored.
func Configure(change func(*kms.Config)) Option { return func(o *settings) { change(&o.config) } }

// RequestQuotas makes the Service refuse calls that exceed the request quotas of AWS KMS, as
// [kms.Config] describes. Its clock stands still, so that the first call that exceeds one is always
// the same: [Service.Advance] makes room.
func RequestQuotas() Option { return func(o *settings) { o.config.RequestQuotas = true } }

// New returns a Service for t. It logs to t. When t ends, it checks its records and closes.
func New(t testing.TB, options ...Option) *Service {
	t.Helper()
	return start(t, newSnapshot(options))
}

// Fork returns a copy of s as it is now, for t. The clock of the copy starts at the current time of
// s; from then on neither sees changes to the other. The copy has no faults and no recorded calls;
// options change the rest. Fork takes the same time however many keys s has. The test of s must not
// have ended.
func (s *Service) Fork(t testing.TB, options ...Option) *Service {
	t.Helper()
	from, err := s.sim.snapshot()
	if err == nil {
		err = from.startLater(options)
	}
	if err != nil {
		t.Fatalf("kmstest: cannot fork: %v", err)
	}
	return start(t, from)
}

func start(t testing.TB, from snapshot) *Service {
	t.Helper()
	if from.config.Logger == nil {
		from.config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	sim, err := newSimulator(from)
	if err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	s := &Service{Service: sim.svc, t: t, sim: sim}
	t.Cleanup(s.end)
	return s
}

// end checks the records of s and closes it, unless the test has closed it.
func (s *Service) end() {
	s.sim.clock.close()
	if s.sim.store.needsCheck() {
		for err := range s.Check(context.Background(), nil) {
			if !errors.Is(err, kms.ErrClosed) {
				s.t.Errorf("kmstest: the key store is damaged: %v", err)
			}
		}
	}
	if err := s.Close(); err != nil {
		s.t.Errorf("kmstest: %v", err)
	}
}

// Now returns the time of the Service's clock, which only [Service.Advance] moves.
func (s *Service) Now() time.Time { return s.sim.clock.read() }

// Advance moves the clock forward by d. Calls that wait for that time continue. What becomes due,
// such as the deletion or rotation of a key, has happened before the next call.
func (s *Service) Advance(d time.Duration) {
	s.t.Helper()
	s.require(s.sim.advance(d))
}

// require fails the test if there is an error.
func (s *Service) require(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("kmstest: %v", err)
	}
}
