package kms

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheNumberOfPregeneratedRSAKeysIsBounded(t *testing.T) {
	for _, n := range []int{-1, maxPregeneratedRSAKeys + 1} {
		_, err := New(Config{PregeneratedRSAKeys: n})
		require.EqualError(t, err, fmt.Sprintf("kms: PregeneratedRSAKeys is %d, not 0 to 100", n))
	}
}

// BenchmarkCreateRSA4096 reports the median time of CreateKey with and without a pregenerated key
// pair. It waits for the pairs outside of the measured time.
func BenchmarkCreateRSA4096(b *testing.B) {
	for _, pregenerated := range []int{0, 1} {
		b.Run(fmt.Sprintf("pregenerated=%d", pregenerated), func(b *testing.B) {
			svc, err := New(Config{PregeneratedRSAKeys: pregenerated})
			require.NoError(b, err)
			defer svc.Close()
			var times []time.Duration
			for range b.N {
				require.Eventually(b, func() bool { return svc.core.db.PregeneratedRSAKeys(4096) >= pregenerated }, time.Minute, 10*time.Millisecond)
				start := time.Now()
				_, err := svc.CreateKey(b.Context(), &CreateKeyInput{KeySpec: KeySpecRSA4096, KeyUsage: KeyUsageSignVerify})
				times = append(times, time.Since(start))
				require.NoError(b, err)
			}
			b.StopTimer()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-us")
		})
	}
}
