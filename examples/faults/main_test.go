package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

func TestThePolicyRetriesTransientErrors(t *testing.T) {
	ms := func(n ...time.Duration) (waits []time.Duration) {
		for _, n := range n {
			waits = append(waits, n*time.Millisecond)
		}
		return waits
	}
	prepared := kmstest.New(t)
	for name, tt := range map[string]struct {
		fault kmstest.Fault
		waits []time.Duration // between attempts
		want  error
	}{
		"throttled twice":            {kmstest.Fault{Err: kmstest.Throttling(), Count: 2}, ms(10, 20), nil},
		"always throttled":           {kmstest.Fault{Err: kmstest.Throttling()}, ms(10, 20, 40), kms.ThrottlingException},
		"an internal failure":        {kmstest.Fault{Err: kmstest.Internal(), Count: 1}, ms(10), nil},
		"a refusal of a second call": {kmstest.Fault{Err: kms.AccessDeniedException, After: 1}, nil, nil},
		"a refusal":                  {kmstest.Fault{Err: kms.AccessDeniedException}, nil, kms.AccessDeniedException},
	} {
		t.Run(name, func(t *testing.T) {
			svc := prepared.Fork(t)
			svc.Inject(tt.fault)
			var waits []time.Duration
			policy := Policy{Attempts: 4, First: 10 * time.Millisecond, Wait: func(_ context.Context, d time.Duration) error {
				waits = append(waits, d)
				return nil
			}}
			err := policy.Do(t.Context(), func() error {
				_, err := svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(32))})
				return err
			})
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, tt.waits, waits)
			svc.RequireCalled(t, "GenerateRandom", len(waits)+1)
		})
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, wait(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, wait(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(start))
	})
}

func TestThePolicyWaitsNoLongerThanItsContext(t *testing.T) {
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Err: kmstest.Throttling()})
	policy := Policy{Attempts: 4, Wait: func(context.Context, time.Duration) error { return context.Canceled }}
	err := policy.Do(t.Context(), func() error { _, err := svc.ListKeys(t.Context(), nil); return err })
	require.ErrorIs(t, err, context.Canceled)
	svc.RequireCalled(t, "ListKeys", 1)
}
