package kms

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A cache keeps a bounded number of immutable values. Readers take no lock;
// writers copy a small map. What a reader loads from storage goes in only if
// nothing was changed meanwhile, so that a slow reader cannot bring back what a
// commit has replaced.
type cache[K comparable, V any] struct {
	seed   maphash.Seed
	shards [cacheShards]cacheShard[K, V]
}

const (
	cacheShards     = 256
	entriesPerShard = 64 // 16,384 in all
)

type cacheShard[K comparable, V any] struct {
	entries atomic.Pointer[map[K]*cacheEntry[V]]
	mu      sync.Mutex // held to replace entries
	changes atomic.Uint64
	_       [40]byte // keeps two shards off one cache line
}

type cacheEntry[V any] struct {
	value *V
	used  atomic.Bool // since the last search for something to evict
}

func newCache[K comparable, V any]() *cache[K, V] {
	return &cache[K, V]{seed: maphash.MakeSeed()}
}

func (c *cache[K, V]) shard(k K) *cacheShard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, k)%cacheShards]
}

// get returns the value under k, or nil.
func (c *cache[K, V]) get(k K) *V {
	entries := c.shard(k).entries.Load()
	if entries == nil {
		return nil
	}
	e := (*entries)[k]
	if e == nil {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value
}

// load returns the value under k, from fetch if it is not there. A nil value
// of fetch is returned and not kept.
func (c *cache[K, V]) load(k K, fetch func() (*V, error)) (*V, error) {
	if v := c.get(k); v != nil {
		return v, nil
	}
	s := c.shard(k)
	before := s.changes.Load()
	v, err := fetch()
	if err != nil || v == nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes.Load() == before {
		if e := s.at(k); e != nil {
			return e.value, nil // another reader was quicker; one value serves all
		}
		s.set(k, v)
	}
	return v, nil
}

// replace puts v in the place of old after a commit that turned old into v. If
// anything but old is there, another commit came between and k is dropped, to be
// loaded anew.
func (c *cache[K, V]) replace(k K, old, v *V) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Add(1)
	if e := s.at(k); v != nil && e != nil && e.value == old {
		s.set(k, v)
	} else if e != nil {
		s.set(k, nil)
	}
}

// dropIf forgets k, which has changed in storage, if what is kept of it is
// stale.
func (c *cache[K, V]) dropIf(k K, stale func(*V) bool) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at(k)
	if e != nil && !stale(e.value) {
		return
	}
	s.changes.Add(1)
	if e != nil {
		s.set(k, nil)
	}
}

// clear forgets everything.
func (c *cache[K, V]) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.changes.Add(1)
		s.entries.Store(nil)
		s.mu.Unlock()
	}
}

func (s *cacheShard[K, V]) at(k K) *cacheEntry[V] {
	if entries := s.entries.Load(); entries != nil {
		return (*entries)[k]
	}
	return nil
}

// set stores v under k, or removes k when v is nil, in a copy of the map. When
// the shard is full, an entry that was not used lately makes room.
func (s *cacheShard[K, V]) set(k K, v *V) {
	next := make(map[K]*cacheEntry[V], entriesPerShard)
	if entries := s.entries.Load(); entries != nil {
		for k, e := range *entries {
			next[k] = e
		}
	}
	delete(next, k)
	if v != nil {
		if len(next) >= entriesPerShard {
			evict(next)
		}
		next[k] = &cacheEntry[V]{value: v}
	}
	s.entries.Store(&next)
}

// evict removes one entry that was not used since it was last asked, or any if
// all were.
func evict[K comparable, V any](entries map[K]*cacheEntry[V]) {
	var victim K
	for k, e := range entries {
		victim = k
		if !e.used.Swap(false) {
			break
		}
	}
	delete(entries, victim)
}
