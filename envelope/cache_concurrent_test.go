package envelope

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret/secrettest"
)

var errKMS = errors.New("the KMS refuses")

// concurrently calls f in n goroutines, and returns their errors after all have returned.
func concurrently(n int, f func(i int) error) func() []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	return func() []error { wg.Wait(); return errs }
}

func TestOneCallGetsAMissingDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(time.Second); return nil }
		e, d, _ := cachedCoders(t, k, CacheOptions{})
		message := sealed(t, e, pattern(10), nil)
		pairs := map[string]string{"a": "b"}
		for _, err := range concurrently(50, func(i int) error {
			if i%2 == 0 {
				_, err := e.Seal(t.Context(), nil, pairs)
				return err
			}
			_, err := d.Open(t.Context(), message, nil)
			return err
		})() {
			require.NoError(t, err)
		}
		generated, decrypted := k.calls()
		require.Equal(t, 2, generated)
		require.Equal(t, 1, decrypted)
	})
}

// Those who wait count as uses too.
func TestThoseWhoWaitKeepTheBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(time.Second); return nil }
		e, _, _ := cachedCoders(t, k, CacheOptions{MaxMessages: 10})
		for _, err := range concurrently(25, func(int) error { _, err := e.Seal(t.Context(), nil, nil); return err })() {
			require.NoError(t, err)
		}
		generated, _ := k.calls()
		require.Equal(t, 3, generated)
		require.Equal(t, 1, k.live())
	})
}

func TestAFailureIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		e, d, c := cachedCoders(t, k, CacheOptions{})
		message := sealed(t, e, nil, nil)
		c.Clear()
		calls := 0
		k.before = func(context.Context) error { calls++; time.Sleep(time.Second); return errKMS }
		for _, f := range []func(int) error{
			func(int) error { _, err := e.Seal(t.Context(), nil, nil); return err },
			func(int) error { _, err := d.Open(t.Context(), message, nil); return err },
		} {
			calls = 0
			for _, err := range concurrently(10, f)() {
				require.ErrorIs(t, err, errKMS)
			}
			require.Equal(t, 1, calls)
			require.ErrorIs(t, f(0), errKMS)
			require.Equal(t, 2, calls)
			require.Empty(t, c.entries)
			require.Empty(t, c.loads)
		}
		k.before = nil
		_, err := d.Open(t.Context(), sealed(t, e, nil, nil), nil)
		require.NoError(t, err)
	})
}

// Whoever gives up, panics or exits does so for itself: the others ask the KMS again.
func TestThoseWhoWaitDoNotDependOnTheFirst(t *testing.T) {
	for name, ending := range map[string]func(){
		"gives up": nil,
		"panics":   func() { panic("a KMS that panics") },
		"exits":    runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newRecording()
				ctx, cancel := context.WithCancel(t.Context())
				k.before = func(call context.Context) error {
					if call != ctx {
						return nil
					}
					<-ctx.Done()
					if ending != nil {
						ending()
					}
					return ctx.Err()
				}
				e, _, c := cachedCoders(t, k, CacheOptions{})
				first := concurrently(1, func(int) error {
					defer func() { recover() }()
					_, err := e.Seal(ctx, nil, nil)
					return err
				})
				synctest.Wait()
				others := concurrently(10, func(int) error { _, err := e.Seal(t.Context(), nil, nil); return err })
				synctest.Wait()
				require.Len(t, c.loads, 1)
				cancel()
				for _, err := range others() {
					require.NoError(t, err)
				}
				if err := first()[0]; ending == nil {
					require.ErrorIs(t, err, context.Canceled)
				}
				generated, _ := k.calls()
				require.Equal(t, 1, generated)
				require.Empty(t, c.loads)
			})
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(time.Hour); return nil }
		e, _, _ := cachedCoders(t, k, CacheOptions{MaxAge: 2 * time.Hour})
		first := concurrently(1, func(int) error { _, err := e.Seal(t.Context(), nil, nil); return err })
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.Seal(ctx, nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, first()[0])
	})
}

func TestADataKeyInUseIsErasedAfterwards(t *testing.T) {
	k := newRecording()
	e, d, c := cachedCoders(t, k, CacheOptions{MaxEntries: 1})
	message := sealed(t, e, pattern(10), nil)
	ec, err := newContext(nil)
	require.NoError(t, err)
	h := splitMessage(t, message).header
	for name, evict := range map[string]func(){
		"Clear":    c.Clear,
		"eviction": func() { sealed(t, e, nil, map[string]string{"another": "context"}) },
	} {
		encrypting, err := e.materials.forEncryption(t.Context(), e.suite, nil, 1)
		require.NoError(t, err)
		same, err := e.materials.forEncryption(t.Context(), e.suite, nil, 1)
		require.NoError(t, err)
		require.Same(t, encrypting, same)
		evict()
		require.Equal(t, 32, encrypting.dataKey.Len(), name)
		encrypting.done()
		require.Equal(t, 32, encrypting.dataKey.Len(), name)
		same.done()
		require.Zero(t, encrypting.dataKey.Len(), name)

		decrypting, err := d.materials.forDecryption(t.Context(), h.suite, ec, h.keys)
		require.NoError(t, err)
		evict()
		require.Equal(t, 32, decrypting.dataKey.Len(), name)
		decrypting.done()
		require.Zero(t, decrypting.dataKey.Len(), name)
	}
	c.Clear()
	require.Zero(t, k.live())
}

// A data key that the KMS returned before Clear is not kept after it.
func TestClearReachesDataKeysOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(2 * time.Second); return nil }
		e, _, c := cachedCoders(t, k, CacheOptions{})
		wait := concurrently(1, func(int) error { _, err := e.Seal(t.Context(), nil, nil); return err })
		time.Sleep(time.Second)
		c.Clear()
		require.NoError(t, wait()[0])
		require.Empty(t, c.entries)
		require.Zero(t, k.live())
	})
}

func TestACacheIsSafeForConcurrentUse(t *testing.T) {
	k := newRecording()
	e, d, c := cachedCoders(t, k, CacheOptions{MaxAge: 2 * time.Millisecond, MaxMessages: 7, MaxBytes: 1000, MaxEntries: 3})
	for _, err := range concurrently(8, func(i int) error {
		for j := range 60 {
			pairs := map[string]string{"tenant": fmt.Sprint((i + j) % 5)}
			message, err := e.Seal(t.Context(), pattern(j), pairs)
			if err != nil {
				return err
			}
			plaintext, err := d.Open(t.Context(), message, pairs)
			if err != nil {
				return err
			}
			if string(plaintext) != string(pattern(j)) {
				return errors.New("another plaintext")
			}
			if j%20 == 19 {
				c.Clear()
			}
		}
		return nil
	})() {
		require.NoError(t, err)
	}
	c.Clear()
	require.Zero(t, k.live())
}

func TestACacheDoesNotPrintKeys(t *testing.T) {
	k := newRecording()
	e, d, c := cachedCoders(t, k, CacheOptions{})
	_, err := d.Open(t.Context(), sealed(t, e, nil, nil), nil)
	require.NoError(t, err)
	secrettest.RequireHidden(t, c, k.generated[0], k.decrypted[0])
}

func TestCacheOptionsAreChecked(t *testing.T) {
	for name, options := range map[string]CacheOptions{
		"no MaxAge":           {},
		"a negative MaxAge":   {MaxAge: -1},
		"too many messages":   {MaxAge: 1, MaxMessages: maxMessages + 1},
		"a negative number":   {MaxAge: 1, MaxMessages: -1},
		"negative bytes":      {MaxAge: 1, MaxBytes: -1},
		"a negative capacity": {MaxAge: 1, MaxEntries: -1},
	} {
		_, err := NewCache(options)
		require.Error(t, err, name)
	}
	_, err := NewEncrypter(testKeyring(), EncrypterOptions{Cache: new(Cache)})
	require.Error(t, err)
	_, err = NewDecrypter(testKeyring(), DecrypterOptions{Cache: new(Cache)})
	require.Error(t, err)
	new(Cache).Clear()
	(*Cache)(nil).Clear()
}
