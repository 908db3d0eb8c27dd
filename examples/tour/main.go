// Tour calls every operation of the API once, as a small shop would in its first year, and prints
// what came back:
//
//	go run ./examples/tour
//
// The service is in memory and on a clock that the tour moves, so that months take no time.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

func main() {
	if err := run(context.Background(), os.Stdout, story); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// A chapter is a part of the story: calls on one subject, in their order.
type chapter struct {
	title string
	steps []step
}

// A step makes one call, or moves the clock and makes none. It returns what came back, in words.
type step func(context.Context, *tour) (string, error)

// call is the step that calls an operation. in returns its input, and back says what came back.
// Both may use and set what other steps need.
func call[In, Out any](operation func(*kms.Service, context.Context, *In) (*Out, error), in func(*tour) *In, back func(*tour, *Out) string) step {
	return func(ctx context.Context, t *tour) (string, error) {
		out, err := operation(t.svc, ctx, in(t))
		if err != nil {
			return "", err
		}
		return back(t, out), t.err
	}
}

// later is the step that lets time pass.
func later(days int, what string) step {
	return func(_ context.Context, t *tour) (string, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.now = t.now.AddDate(0, 0, days)
		return fmt.Sprintf("%d days later%s", days, what), nil
	}
}

// A tour is what the steps of a story share.
type tour struct {
	svc    *kms.Service
	mu     sync.Mutex // for the service, which reads the time in the background, too
	now    time.Time
	called []string // the operations called since the step began
	err    error    // what a step found wrong with an answer
	memory
}

func (t *tour) clock() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// require notes that an answer is wrong unless it is as the step expects.
func (t *tour) require(ok bool, expected string) {
	if !ok {
		t.err = errors.Join(t.err, errors.New("the answer is wrong: "+expected))
	}
}

// run takes the tour and prints it. It fails if not every operation was called exactly once.
func run(ctx context.Context, w io.Writer, story []chapter) error {
	t := &tour{now: time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)}
	var err error
	t.svc, err = kms.New(kms.Config{
		Clock:   t.clock,
		Devices: map[string]keystore.Device{cluster: kmstest.NewDevice(password)}, // a program has an HSM here
		Intercept: func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			t.called = append(t.called, call.Operation.Name())
			return next(ctx)
		},
	})
	if err != nil {
		return err
	}
	defer t.svc.Close()
	if err := seed.Apply(ctx, t.svc, keys...); err != nil {
		return err
	}
	empty, err := t.svc.CreateKey(ctx, &kms.CreateKeyInput{Origin: kms.OriginExternal}) // its material is imported later
	if err != nil {
		return err
	}
	t.vault = empty.KeyMetadata.KeyId
	times := map[string]int{}
	for _, c := range story {
		fmt.Fprintf(w, "%s\n\n", c.title)
		for _, step := range c.steps {
			t.called = nil
			back, err := step(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", strings.Join(t.called, ", "), err)
			}
			if len(t.called) == 0 {
				fmt.Fprintf(w, "  %-*s  (%s)\n", nameWidth, "", back)
				continue
			}
			fmt.Fprintf(w, "  %-*s  %s\n", nameWidth, strings.Join(t.called, ", "), back)
			for _, name := range t.called {
				times[name]++
			}
		}
		fmt.Fprintln(w)
	}
	for fault := range t.svc.Check(ctx, nil) {
		return fault
	}
	for _, op := range kms.Operations() {
		if times[op.Name()] != 1 {
			err = errors.Join(err, fmt.Errorf("%s was called %d times", op.Name(), times[op.Name()]))
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Those were all %d operations, each once. The key store is sound.\n", len(times))
	return nil
}

// nameWidth is the length of the longest name, GenerateDataKeyPairWithoutPlaintext.
const nameWidth = 35
