package envelope

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A recording is a keyring that keeps the data keys that it returned, so that tests see whether they
// were erased. It may be used concurrently.
type recording struct {
	keyring
	before func(ctx context.Context) error // called by each call, if set

	mu        sync.Mutex
	generated [][]byte
	decrypted [][]byte
}

func newRecording() *recording { return &recording{keyring: testKeyring().(*rawAES)} }

func (r *recording) keyrings() []keyring { return []keyring{r} }

func (r *recording) generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	if r.before != nil {
		if err := r.before(ctx); err != nil {
			return nil, encryptedKey{}, err
		}
	}
	dataKey, key, err := r.keyring.generate(ctx, size, ec)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generated = append(r.generated, dataKey)
	return dataKey, key, err
}

func (r *recording) decrypt(ctx context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error) {
	if r.before != nil {
		if err := r.before(ctx); err != nil {
			return nil, err
		}
	}
	dataKey, err := r.keyring.decrypt(ctx, key, ec)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decrypted = append(r.decrypted, dataKey)
	return dataKey, err
}

// live returns how many data keys have not been erased.
func (r *recording) live() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, dataKey := range append(r.generated, r.decrypted...) {
		if !bytes.Equal(dataKey, make([]byte, len(dataKey))) {
			n++
		}
	}
	return n
}

func (r *recording) calls() (generate, decrypt int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.generated), len(r.decrypted)
}

// cachedCoders returns an Encrypter and a Decrypter with a cache.
func cachedCoders(t testing.TB, k Keyring, options CacheOptions) (*Encrypter, *Decrypter, *Cache) {
	t.Helper()
	if options.MaxAge == 0 {
		options.MaxAge = time.Minute
	}
	c, err := NewCache(options)
	require.NoError(t, err)
	return newEncrypter(t, k, EncrypterOptions{Cache: c}), newDecrypter(t, k, DecrypterOptions{Cache: c}), c
}

func sealed(t testing.TB, e *Encrypter, plaintext []byte, pairs map[string]string) []byte {
	t.Helper()
	message, err := e.Seal(t.Context(), plaintext, pairs)
	require.NoError(t, err)
	return message
}

// requireConsistent requires that what a cache has, and nothing else, has not been erased.
func requireConsistent(t testing.TB, c *Cache, k *recording) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.LessOrEqual(t, len(c.entries), c.options.MaxEntries)
	require.Equal(t, len(c.entries), k.live())
	require.Equal(t, len(c.entries), c.byAge.Len())
	require.Equal(t, len(c.entries), c.byUse.Len())
	for e := c.byAge.Front(); e != nil && e.Next() != nil; e = e.Next() {
		require.False(t, e.Value.(*cacheEntry).expires.After(e.Next().Value.(*cacheEntry).expires))
	}
}

// dataKeyOf identifies the data key of a message.
func dataKeyOf(t testing.TB, message []byte) string {
	t.Helper()
	return string(splitMessage(t, message).header.keys[0].ciphertext)
}

func TestMessagesShareADataKeyOnlyIfTheyMay(t *testing.T) {
	k := newRecording()
	e, d, c := cachedCoders(t, k, CacheOptions{})
	signing := newEncrypter(t, k, EncrypterOptions{Cache: c, Suite: SuiteCommitKeyECDSA})
	other := newEncrypter(t, k, EncrypterOptions{Cache: c})
	a, b := map[string]string{"tenant": "a"}, map[string]string{"tenant": "b"}
	used := make(map[string]string)
	for range 3 {
		for name, message := range map[string][]byte{
			"a": sealed(t, e, pattern(10), a), "b": sealed(t, e, pattern(10), b), "no context": sealed(t, e, pattern(10), nil),
			"signed": sealed(t, signing, pattern(10), a), "another Encrypter": sealed(t, other, pattern(10), a),
		} {
			id := dataKeyOf(t, message)
			if used[name] == "" {
				used[name] = id
			}
			require.Equal(t, used[name], id, name)
			plaintext, err := d.Open(t.Context(), message, nil)
			require.NoError(t, err)
			require.Equal(t, pattern(10), plaintext)
		}
	}
	distinct := make(map[string]bool)
	for _, id := range used {
		distinct[id] = true
	}
	require.Len(t, distinct, 5)
	generated, decrypted := k.calls()
	require.Equal(t, 5, generated)
	require.Equal(t, 5, decrypted)

	// Another Decrypter does not profit, nor does another way to list the same data keys.
	message := sealed(t, e, pattern(10), a)
	_, err := newDecrypter(t, k, DecrypterOptions{Cache: c}).Open(t.Context(), message, a)
	require.NoError(t, err)
	parts := splitMessage(t, message)
	h := *parts.header
	h.keys = append(h.keys, encryptedKey{"another", "key", []byte{1}})
	ec, err := newContext(a)
	require.NoError(t, err)
	materials, err := d.materials.forDecryption(t.Context(), h.suite, ec, h.keys)
	require.NoError(t, err)
	materials.done()
	_, decrypted = k.calls()
	require.Equal(t, 7, decrypted)
	c.Clear()
	require.Zero(t, k.live())
}

func TestWhatIsNotCached(t *testing.T) {
	k := newRecording()
	e, d, c := cachedCoders(t, k, CacheOptions{MaxBytes: 100})
	large := map[string]string{"k": string(bytes.Repeat([]byte{'v'}, maxCacheKey))}
	for name, write := range map[string]func() []byte{
		"a stream":           func() []byte { return writeMessage(t, e, func(w *Writer) { write(t, w, pattern(1)) }) },
		"more than MaxBytes": func() []byte { return sealed(t, e, pattern(101), nil) },
		"a large context":    func() []byte { return sealed(t, e, nil, large) },
	} {
		require.NotEqual(t, dataKeyOf(t, write()), dataKeyOf(t, write()), name)
		require.Empty(t, c.entries, name)
	}
	_, err := d.Open(t.Context(), sealed(t, e, pattern(101), large), nil)
	require.NoError(t, err)
	require.Empty(t, c.entries, "a large context")

	noKDF := testWriter{suite: 0x0078, frameLength: 10}.seal(t, pattern(10))
	options := anySuite()
	options.Cache = c
	_, err = newDecrypter(t, k, options).Open(t.Context(), noKDF, nil)
	require.NoError(t, err)
	require.Empty(t, c.entries, "a suite without key derivation")
	require.Zero(t, k.live())
}

func TestMessagesOfADataKeyShareTheKeyOfTheirSignature(t *testing.T) {
	c, err := NewCache(CacheOptions{MaxAge: time.Minute})
	require.NoError(t, err)
	e := newEncrypter(t, testKeyring(), EncrypterOptions{Suite: SuiteCommitKeyECDSA, Cache: c})
	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	pairs := map[string]string{"a": "b"}
	first, second := sealed(t, e, pattern(10), pairs), sealed(t, e, pattern(20), pairs)
	public := func(message []byte) string { return splitMessage(t, message).header.pairs[publicKeyPair] }
	require.NotEmpty(t, public(first))
	require.Equal(t, public(first), public(second))
	for _, message := range [][]byte{first, second} {
		_, err := d.Open(t.Context(), message, pairs)
		require.NoError(t, err)
	}
}

func TestACachedContextIsNotTheCallers(t *testing.T) {
	required, err := NewCache(CacheOptions{MaxAge: time.Minute})
	require.NoError(t, err)
	e := newEncrypter(t, testKeyring(), EncrypterOptions{Cache: required, RequiredContextKeys: []string{"row"}})
	d := newDecrypter(t, testKeyring(), DecrypterOptions{Cache: required})
	for _, row := range []string{"1", "2", "1"} {
		pairs := map[string]string{"row": row}
		message := sealed(t, e, []byte(row), pairs)
		pairs["row"] = "changed"
		_, err := d.Open(t.Context(), message, nil)
		require.Error(t, err)
		plaintext, err := d.Open(t.Context(), message, map[string]string{"row": row})
		require.NoError(t, err)
		require.Equal(t, row, string(plaintext))
	}
}

func TestADataKeyIsUsedUntilMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(time.Second); return nil } // counts too
		e, d, _ := cachedCoders(t, k, CacheOptions{})
		message := sealed(t, e, nil, nil)
		time.Sleep(59*time.Second - 1)
		require.Equal(t, dataKeyOf(t, message), dataKeyOf(t, sealed(t, e, nil, nil)))
		time.Sleep(time.Nanosecond)
		require.NotEqual(t, dataKeyOf(t, message), dataKeyOf(t, sealed(t, e, nil, nil)))

		for _, wait := range []time.Duration{0, 59*time.Second - 1, time.Nanosecond} {
			time.Sleep(wait)
			_, err := d.Open(t.Context(), message, nil)
			require.NoError(t, err)
		}
		_, decrypted := k.calls()
		require.Equal(t, 2, decrypted)
	})
}

// A key that took longer than MaxAge to get serves the message that waited for it.
func TestASlowKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		k.before = func(context.Context) error { time.Sleep(time.Hour); return nil }
		e, d, c := cachedCoders(t, k, CacheOptions{})
		_, err := d.Open(t.Context(), sealed(t, e, pattern(10), nil), nil)
		require.NoError(t, err)
		require.Empty(t, c.entries)
		require.Zero(t, k.live())
	})
}

func TestExpiredDataKeysAreErasedIfNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRecording()
		e, d, c := cachedCoders(t, k, CacheOptions{})
		for i := range 3 {
			_, err := d.Open(t.Context(), sealed(t, e, nil, map[string]string{"i": fmt.Sprint(i)}), nil)
			require.NoError(t, err)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(30*time.Second - 1) // a minute after the first, but for 1 ns
		for _, want := range []int{6, 4, 2, 0} {
			synctest.Wait()
			requireConsistent(t, c, k)
			require.Equal(t, want, k.live())
			time.Sleep(10 * time.Second)
		}
		require.False(t, c.expiry.Stop(), "an empty cache has no timer")
	})
}

func TestTheLeastRecentlyUsedDataKeyMakesRoom(t *testing.T) {
	k := newRecording()
	e, _, c := cachedCoders(t, k, CacheOptions{MaxEntries: 2})
	id := func(tenant string) string {
		return dataKeyOf(t, sealed(t, e, nil, map[string]string{"tenant": tenant}))
	}
	a, b := id("a"), id("b")
	require.Equal(t, a, id("a"))
	id("c")
	require.Equal(t, a, id("a"))
	require.NotEqual(t, b, id("b"))
	require.Len(t, c.entries, 2)
	require.Equal(t, 2, k.live())
}

// A random sequence of calls keeps all bounds. The clock is that of the bubble.
func TestACacheKeepsItsBounds(t *testing.T) {
	shared := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			options := CacheOptions{MaxAge: time.Minute, MaxMessages: 1 + random.Int64N(6), MaxBytes: 1 + random.Int64N(400), MaxEntries: 1 + random.IntN(5)}
			k := newRecording()
			k.before = func(context.Context) error {
				time.Sleep(time.Duration(random.Int64N(int64(2 * time.Second))))
				return nil
			}
			e, d, c := cachedCoders(t, k, options)
			other := newEncrypter(t, k, EncrypterOptions{Cache: c})
			type use struct {
				since           time.Time
				messages, bytes int64
				of              string
			}
			uses := make(map[string]*use)
			var messages [][]byte
			for range 100 {
				time.Sleep(time.Duration(random.Int64N(int64(8 * time.Second))))
				if random.IntN(20) == 0 {
					c.Clear()
					requireConsistent(t, c, k)
				}
				if len(messages) > 0 && random.IntN(3) == 0 {
					_, err := d.Open(t.Context(), messages[random.IntN(len(messages))], nil)
					require.NoError(t, err)
				} else {
					by, tenant, size := e, fmt.Sprint(random.IntN(3)), random.Int64N(150)
					if random.IntN(4) == 0 {
						by = other
					}
					before := time.Now()
					message := sealed(t, by, make([]byte, size), map[string]string{"tenant": tenant})
					messages = append(messages, message)
					u := uses[dataKeyOf(t, message)]
					if u == nil {
						u = &use{since: before, of: fmt.Sprintf("%p %s", by, tenant)}
						uses[dataKeyOf(t, message)] = u
					}
					u.messages++
					u.bytes += size
					require.Equal(t, u.of, fmt.Sprintf("%p %s", by, tenant))
					require.LessOrEqual(t, u.messages, options.MaxMessages)
					require.Less(t, before.Sub(u.since), options.MaxAge)
					if u.messages > 1 {
						require.LessOrEqual(t, u.bytes, options.MaxBytes)
					}
				}
				requireConsistent(t, c, k)
			}
			shared += len(messages) - len(uses)
			time.Sleep(options.MaxAge)
			synctest.Wait()
			require.Zero(t, k.live())
			require.Empty(t, c.entries)
		})
	}
	require.Greater(t, shared, 50, "messages that did not ask the KMS")
}
