package envelope

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/pocketkms/kms/internal/secret"
)

// CacheOptions are the bounds of a [Cache]. MaxAge must be set.
type CacheOptions struct {
	// MaxAge is for how long a data key is used, from before the KMS was asked for it. It is also
	// how late a [Cache] may notice that a key was disabled or a permission taken away.
	MaxAge time.Duration

	// MaxMessages is how many messages are encrypted with one data key, up to 4,294,967,296, which 0
	// also means. Each message has a derived key of its own, so AES-GCM does not need less: the
	// bound is about how much whoever learns a data key can read.
	MaxMessages int64

	// MaxBytes is how many bytes of plaintext are encrypted with one data key; 0 means no bound.
	MaxBytes int64

	// MaxEntries is how many data keys are kept; 0 means 1,000. The one that has not been used for
	// the longest time makes room.
	MaxEntries int
}

const (
	defaultMaxEntries = 1000
	maxMessages       = 1 << 32

	// maxCacheKey bounds what an entry takes: a message can have megabytes of encrypted data keys.
	maxCacheKey = 16 << 10
)

// A Cache keeps data keys in memory, so that an [Encrypter] uses one for many messages and a
// [Decrypter] does not ask the KMS twice for the same. It is for many small messages, and for a KMS
// behind a network. It is set in [EncrypterOptions] and [DecrypterOptions]; without one, which is
// the default, every message has a data key of its own.
//
// A cache weakens what a KMS gives:
//   - While a data key is kept, it encrypts and decrypts although its KMS key was disabled, or the
//     permission was taken away. Nothing but [Cache.Clear] ends that before MaxAge.
//   - Messages share data keys: whoever learns one reads all of its messages.
//   - The KMS authorizes and logs one call for many messages, whatever context.Context the others have.
//
// So set MaxAge to minutes, and the other bounds to what a burst of messages needs.
//
// A data key is used only for messages of the same encryption context and algorithm suite; to
// decrypt, of the same encrypted data keys too. Encrypters and Decrypters do not use each other's
// data keys, even if they share a Cache: make them once, not for each message. A [Writer] gets a
// data key of its own, because the length of its plaintext is not known. Messages that
// [SuiteCommitKeyECDSA] signs share the key of the signature as long as the data key.
//
// When several goroutines need the same data key, one asks the KMS and the others wait for it. Data
// keys are erased when they are evicted and when they expire, also if nobody uses the Cache; keys of
// signatures are only dropped. A Cache has no goroutine. It may be used concurrently.
type Cache struct {
	options CacheOptions

	mu         sync.Mutex
	entries    map[cacheKey]*cacheEntry
	loads      map[cacheKey]*cacheLoad
	byUse      *list.List // of *cacheEntry, the last used first
	byAge      *list.List // of *cacheEntry, the first to expire first
	expiry     *time.Timer
	partitions uint64 // that were given
	cleared    uint64 // how often
}

// A cacheKey is what messages must have in common to share a data key.
type cacheKey struct {
	partition uint64 // of an Encrypter or a Decrypter
	suite     Suite
	text      string // the encoded encryption context; to decrypt, also the encrypted data keys
}

// A cacheEntry is a data key, for both directions. The mutex of the cache is for its fields too.
type cacheEntry struct {
	cache    *Cache
	key      cacheKey
	dataKey  *secret.Bytes
	encrypts *encryptionMaterials // nil if it decrypts
	decrypts *decryptionMaterials // nil if it encrypts
	expires  time.Time
	messages int64 // that were encrypted with it
	bytes    int64 // of their plaintexts
	users    int   // messages that have not called release
	evicted  bool  // erase it when it has no user
	use, age *list.Element
}

// A cacheLoad is a call of the KMS that others wait for.
type cacheLoad struct {
	cache   *Cache
	key     cacheKey
	start   time.Time
	cleared uint64        // when it started
	done    chan struct{} // closed when the call is over
	err     error         // why it failed, if that is so for everybody
}

// NewCache returns an empty Cache. It fails if an option is out of range.
func NewCache(options CacheOptions) (*Cache, error) {
	if options.MaxAge <= 0 {
		return nil, errors.New("envelope: a Cache must have a MaxAge")
	}
	if options.MaxMessages < 0 || options.MaxMessages > maxMessages {
		return nil, fmt.Errorf("envelope: MaxMessages is %d, not 1 to %d", options.MaxMessages, int64(maxMessages))
	}
	if options.MaxBytes < 0 || options.MaxEntries < 0 {
		return nil, errors.New("envelope: MaxBytes or MaxEntries is negative")
	}
	if options.MaxMessages == 0 {
		options.MaxMessages = maxMessages
	}
	if options.MaxBytes == 0 {
		options.MaxBytes = math.MaxInt64
	}
	if options.MaxEntries == 0 {
		options.MaxEntries = defaultMaxEntries
	}
	return &Cache{
		options: options,
		entries: make(map[cacheKey]*cacheEntry),
		loads:   make(map[cacheKey]*cacheLoad),
		byUse:   list.New(),
		byAge:   list.New(),
	}, nil
}

// Clear erases every data key that no message is being made with, and the others when they are.
// After a KMS key was disabled, it makes every message ask the KMS again.
func (c *Cache) Clear() {
	if c == nil || c.entries == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleared++
	for _, e := range c.entries {
		c.evict(e)
	}
	c.setTimer(time.Now())
}

// before returns a provider that keeps what next returns, in a partition of its own.
func (c *Cache) before(next materialsProvider) (materialsProvider, error) {
	if c == nil {
		return next, nil
	}
	if c.entries == nil {
		return nil, errors.New("envelope: use NewCache")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partitions++
	return &cachedMaterials{cache: c, partition: c.partitions, next: next}, nil
}

// find returns the entry for a message whose plaintext has some bytes, or a load whose end the
// caller must call, after it has asked the KMS.
func (c *Cache) find(ctx context.Context, partition uint64, suite Suite, text []byte, length int64) (*cacheEntry, *cacheLoad, error) {
	for {
		c.mu.Lock()
		now := time.Now()
		if e := c.entries[cacheKey{partition, suite, string(text)}]; e != nil { // does not allocate
			if e.take(length, now) {
				c.mu.Unlock()
				return e, nil, nil
			}
			c.evict(e)
		}
		key := cacheKey{partition, suite, string(text)}
		load := c.loads[key]
		if load == nil {
			load = &cacheLoad{cache: c, key: key, start: now, cleared: c.cleared, done: make(chan struct{})}
			c.loads[key] = load
			c.mu.Unlock()
			return nil, load, nil
		}
		c.mu.Unlock()
		select {
		case <-load.done:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if load.err != nil {
			return nil, nil, load.err
		}
	}
}

// take counts a message, and reports whether the entry may be used for it.
func (e *cacheEntry) take(length int64, now time.Time) bool {
	if !now.Before(e.expires) {
		return false
	}
	if e.encrypts != nil {
		if e.messages >= e.cache.options.MaxMessages || length > e.cache.options.MaxBytes-e.bytes {
			return false
		}
		e.messages++
		e.bytes += length
	}
	e.users++
	e.cache.byUse.MoveToFront(e.use)
	return true
}

// release ends the use of the data key by one message.
func (e *cacheEntry) release() {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	e.users--
	e.erase()
}

func (e *cacheEntry) erase() {
	if e.evicted && e.users == 0 {
		e.dataKey.Destroy()
	}
}

func (c *Cache) evict(e *cacheEntry) {
	delete(c.entries, e.key)
	c.byUse.Remove(e.use)
	c.byAge.Remove(e.age)
	e.evicted = true
	e.erase()
}

// keep puts an entry into the cache, with its loader as a user. It does not if the cache was cleared
// meanwhile: the KMS may have answered before that.
func (l *cacheLoad) keep(e *cacheEntry) {
	c := l.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	e.key, e.users, e.expires = l.key, 1, l.start.Add(c.options.MaxAge)
	now := time.Now()
	if c.cleared != l.cleared || !now.Before(e.expires) {
		e.evicted = true
		return
	}
	for len(c.entries) >= c.options.MaxEntries {
		c.evict(c.byUse.Back().Value.(*cacheEntry))
	}
	c.entries[e.key] = e
	e.use = c.byUse.PushFront(e)
	older := c.byAge.Back()
	for older != nil && older.Value.(*cacheEntry).expires.After(e.expires) {
		older = older.Prev()
	}
	if older != nil {
		e.age = c.byAge.InsertAfter(e, older)
		return
	}
	e.age = c.byAge.PushFront(e)
	c.setTimer(now)
}

// fail gives those who wait the error of the load, unless it is due to the context of this caller.
func (l *cacheLoad) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		l.err = err
	}
}

// end lets those go on who wait. It must also be called if the KMS panics.
func (l *cacheLoad) end() {
	l.cache.mu.Lock()
	delete(l.cache.loads, l.key)
	l.cache.mu.Unlock()
	close(l.done)
}

// setTimer sets the timer to when the next entry expires. Between, entries may go and the timer may
// come too early.
func (c *Cache) setTimer(now time.Time) {
	first := c.byAge.Front()
	switch {
	case first == nil:
		if c.expiry != nil {
			c.expiry.Stop()
		}
	case c.expiry == nil:
		c.expiry = time.AfterFunc(first.Value.(*cacheEntry).expires.Sub(now), c.expire)
	default:
		c.expiry.Reset(first.Value.(*cacheEntry).expires.Sub(now))
	}
}

// expire evicts what is too old.
func (c *Cache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for first := c.byAge.Front(); first != nil; first = c.byAge.Front() {
		e := first.Value.(*cacheEntry)
		if now.Before(e.expires) {
			break
		}
		c.evict(e)
	}
	c.setTimer(now)
}

// cachedMaterials are the materials of a provider, kept in a cache.
type cachedMaterials struct {
	cache     *Cache
	partition uint64
	next      materialsProvider
}

func (m *cachedMaterials) forEncryption(ctx context.Context, s *suite, pairs map[string]string, length int64) (*encryptionMaterials, error) {
	if length < 0 || length > m.cache.options.MaxBytes || s.kdf == 0 {
		return m.next.forEncryption(ctx, s, pairs, length)
	}
	text, err := encodeContext(pairs)
	if err != nil {
		return nil, err
	}
	if len(text) > maxCacheKey {
		return m.next.forEncryption(ctx, s, pairs, length)
	}
	e, load, err := m.cache.find(ctx, m.partition, s.id, text, length)
	if err != nil {
		return nil, err
	}
	if e != nil {
		return e.encrypts, nil
	}
	defer load.end()
	materials, err := m.next.forEncryption(ctx, s, maps.Clone(pairs), length)
	if err != nil {
		load.fail(ctx, err)
		return nil, err
	}
	e = &cacheEntry{cache: m.cache, dataKey: materials.dataKey, encrypts: materials, messages: 1, bytes: length}
	materials.release = e.release
	load.keep(e)
	return materials, nil
}

func (m *cachedMaterials) forDecryption(ctx context.Context, s *suite, ec *encryptionContext, keys []encryptedKey) (*decryptionMaterials, error) {
	size := 4 + len(ec.encoded)
	for i := range keys {
		size += 6 + len(keys[i].provider) + len(keys[i].info) + len(keys[i].ciphertext)
	}
	if size > maxCacheKey || s.kdf == 0 {
		return m.next.forDecryption(ctx, s, ec, keys)
	}
	var few [1024]byte
	text := binary.BigEndian.AppendUint32(few[:0], uint32(len(ec.encoded)))
	text = append(text, ec.encoded...)
	for i := range keys {
		k := &keys[i]
		text = appendString(appendString(appendString(text, k.provider), k.info), k.ciphertext)
	}
	e, load, err := m.cache.find(ctx, m.partition, s.id, text, 0)
	if err != nil {
		return nil, err
	}
	if e != nil {
		return e.decrypts, nil
	}
	defer load.end()
	materials, err := m.next.forDecryption(ctx, s, ec, keys)
	if err != nil {
		load.fail(ctx, err)
		return nil, err
	}
	e = &cacheEntry{cache: m.cache, dataKey: materials.dataKey, decrypts: materials}
	materials.release = e.release
	load.keep(e)
	return materials, nil
}
