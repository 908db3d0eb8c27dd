// Faults is a retry policy that is tested with injected faults. The program shows the policy with a
// KMS that throttles:
//
//	go run ./examples/faults
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pocketkms/kms"
)

// A Policy retries calls that may succeed later. It doubles the wait after each attempt.
type Policy struct {
	Attempts int
	First    time.Duration                              // the first wait
	Wait     func(context.Context, time.Duration) error // replaced in tests
}

// Do calls f until it succeeds, fails with a permanent error, or has failed Attempts times.
func (p Policy) Do(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || !isTransient(err) {
			return err
		}
		if attempt == p.Attempts {
			return fmt.Errorf("given up after %d attempts: %w", attempt, err)
		}
		if err := p.Wait(ctx, p.First<<(attempt-1)); err != nil {
			return err
		}
	}
}

// isTransient reports whether the next attempt may succeed.
func isTransient(err error) bool {
	return errors.Is(err, kms.ThrottlingException) || errors.Is(err, kms.KMSInternalException) || errors.Is(err, kms.DependencyTimeoutException)
}

// wait returns after d, or with the error of ctx when ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	calls, throttled := 0, 3
	svc, err := kms.New(kms.Config{Intercept: func(ctx context.Context, _ kms.Call, next func(context.Context) (any, error)) (any, error) {
		calls++
		if calls <= throttled {
			return nil, &kms.Error{Code: kms.ThrottlingException, Message: "Reduce the frequency of your calls."}
		}
		return next(ctx)
	}})
	if err != nil {
		return err
	}
	defer svc.Close()

	start := time.Now()
	policy := Policy{Attempts: 5, First: 20 * time.Millisecond, Wait: func(ctx context.Context, d time.Duration) error {
		fmt.Printf("            wait %v\n", d)
		return wait(ctx, d)
	}}
	random := func() error {
		_, err := svc.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: new(int32(32))})
		result := "32 random bytes"
		if err != nil {
			result = err.Error()
		}
		fmt.Printf("  %4d ms   %s\n", time.Since(start).Milliseconds(), result)
		return err
	}
	fmt.Println("The KMS throttles three calls:")
	if err := policy.Do(ctx, random); err != nil {
		return err
	}
	fmt.Println("\nThe KMS throttles every call:")
	calls, throttled, start, policy.Attempts = 0, 1<<30, time.Now(), 3
	fmt.Printf("            %v\n", policy.Do(ctx, random))
	return nil
}
