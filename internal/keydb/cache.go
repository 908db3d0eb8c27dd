package keydb

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A cache holds a bounded number of immutable values, in sets of four. Readers take no lock. A
// value that a reader loads from storage goes in only if nothing has changed meanwhile, so that a
// slow reader cannot bring back what a commit has replaced.
type cache[V any] struct {
	sets     [cacheSets]cacheSet[V] // first, so that each set is a cache line of its own
	hashByID bool
	seed     maphash.Seed

	// outdates returns which other values are stale once a reader can find a value, or nil: none.
	outdates func(*V) func(*V) bool
}

const (
	cacheSets = 2048
	cacheWays = 4 // 8,192 values in all
)

// A cacheSet has 64 bytes.
type cacheSet[V any] struct {
	ways    [cacheWays]atomic.Pointer[cacheEntry[V]]
	changes atomic.Uint64
	mu      sync.Mutex // held to write
	next    uint8      // the way that the next new value replaces
	_       [8]byte
}

type cacheEntry[V any] struct {
	cacheKey
	value *V
}

// A cacheKey is what a key or an alias is found by: its account, its Region, and its ID or name.
type cacheKey Ref

// hashID hashes what a ciphertext's header has of a key's ID, so that Decrypt finds its key without
// formatting the ID: the last digit of the account and the last 24 bits of the ID, which are
// random.
func hashID(accountEnd byte, idEnd uint32) uint32 {
	h := (idEnd<<4 ^ uint32(accountEnd&0xf)) * 0x9e3779b1 // 2^32 by the golden ratio: Knuth's multiplicative hash
	return h >> 12
}

func (p *cacheKey) hashID() uint32 {
	var accountEnd byte
	if p.Account != "" {
		accountEnd = p.Account[len(p.Account)-1]
	}
	idEnd := uint32(0)
	for i := max(0, len(p.ID)-6); i < len(p.ID); i++ {
		idEnd = idEnd<<4 ^ uint32(p.ID[i]&0xf+p.ID[i]>>6*9) // the value of a hexadecimal digit
	}
	return hashID(accountEnd, idEnd&0xffffff)
}

// newCache returns a cache. With hashByID it is for keys, whose IDs are random; without, for values
// whose names callers choose: a random function of the whole cacheKey spreads them over the sets.
func newCache[V any](hashByID bool) *cache[V] {
	return &cache[V]{hashByID: hashByID, seed: maphash.MakeSeed()}
}

func (c *cache[V]) set(p *cacheKey) *cacheSet[V] {
	if c.hashByID {
		return &c.sets[p.hashID()%cacheSets]
	}
	return &c.sets[maphash.Comparable(c.seed, *p)%cacheSets]
}

// get returns the value at p, or nil.
func (c *cache[V]) get(p *cacheKey) *V {
	if e, _ := c.set(p).find(p); e != nil {
		return e.value
	}
	return nil
}

// lookupHash returns the value with that hash that matches, or nil.
func (c *cache[V]) lookupHash(hash uint32, match func(*V) bool) *V {
	s := &c.sets[hash%cacheSets]
	for i := range s.ways {
		if e := s.ways[i].Load(); e != nil && match(e.value) {
			return e.value
		}
	}
	return nil
}

// find returns the entry at p and its way, or nil and a free way, or -1 if all are taken.
func (s *cacheSet[V]) find(p *cacheKey) (*cacheEntry[V], int) {
	free := -1
	for i := range s.ways {
		e := s.ways[i].Load()
		switch {
		case e == nil:
			free = i
		case e.ID == p.ID && e.Account == p.Account && e.Region == p.Region:
			return e, i
		}
	}
	return nil, free
}

// maxFetches bounds how often one load fetches. What is fetched last is returned but not stored: it
// may be stale by then.
const maxFetches = 3

// load returns the value at p, or else stores and returns that of fetch. It does not store a nil
// value.
func (c *cache[V]) load(p cacheKey, fetch func() (*V, error)) (*V, error) {
	for n := 1; ; n++ {
		if v := c.get(&p); v != nil {
			return v, nil
		}
		s := c.set(&p)
		before := s.changes.Load()
		v, err := fetch()
		if err != nil {
			return nil, err
		}
		outdated := c.outdatedBy(v)
		if stored, ok := s.storeIfUnchanged(p, v, before, outdated); ok {
			return stored, nil
		}
		if n == maxFetches {
			c.invalidate(p) // another reader may have stored an earlier value
			s.remove(outdated)
			return v, nil
		}
	}
}

// outdatedBy returns which other values v, which may be nil, makes stale, or nil: none.
func (c *cache[V]) outdatedBy(v *V) func(*V) bool {
	if v == nil || c.outdates == nil {
		return nil
	}
	return c.outdates(v)
}

// storeIfUnchanged stores v at p unless the set has changed since before: a reader must not find v
// after another reader found a later value, or none. It returns what is at p then.
// It removes what is outdated by v.
func (s *cacheSet[V]) storeIfUnchanged(p cacheKey, v *V, before uint64, outdated func(*V) bool) (_ *V, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes.Load() != before {
		return nil, false
	}
	e, way := s.find(&p)
	if e != nil {
		return e.value, true // another reader was faster; all share one value
	}
	if v == nil {
		s.changes.Add(1)
		return nil, true
	}
	if outdated != nil {
		s.removeLocked(outdated)
		_, way = s.find(&p)
	}
	if way < 0 {
		s.changes.Add(1)
		way = int(s.next % cacheWays)
		s.next++
	}
	s.ways[way].Store(&cacheEntry[V]{p, v})
	return v, true
}

// replace stores v in place of old, after a commit that turned old into v. If another value is
// there, another commit came between, and p is invalidated: which of the two is newer is not known.
// What v outdates is removed first: readers take no lock, and whoever has found v must not find it.
func (c *cache[V]) replace(p cacheKey, old, v *V) {
	s := c.set(&p)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, way := s.find(&p)
	s.removeLocked(c.outdatedBy(v))
	switch {
	case e == nil:
	case e.value == old:
		s.ways[way].Store(&cacheEntry[V]{p, v})
	default:
		s.ways[way].Store(nil)
	}
}

// invalidate removes the value at p.
func (c *cache[V]) invalidate(p cacheKey) { c.invalidateIf(p, func(*V) bool { return true }) }

// invalidateIf removes the value at p, which has changed in storage, if it is stale.
func (c *cache[V]) invalidateIf(p cacheKey, stale func(*V) bool) {
	s := c.set(&p)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, way := s.find(&p)
	if e != nil && !stale(e.value) {
		return
	}
	s.changes.Add(1)
	if e != nil {
		s.ways[way].Store(nil)
	}
}

// invalidateRelated removes the values of an account's ID or name in all Regions, if they are
// stale. It is for a cache that hashes by ID: they are all in one set.
func (c *cache[V]) invalidateRelated(account, name string, stale func(*V) bool) {
	c.set(&cacheKey{Account: account, ID: name}).remove(stale)
}

// remove removes the values that are stale; nil: none.
func (s *cacheSet[V]) remove(stale func(*V) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(stale)
}

func (s *cacheSet[V]) removeLocked(stale func(*V) bool) {
	s.changes.Add(1)
	if stale == nil {
		return
	}
	for i := range s.ways {
		if e := s.ways[i].Load(); e != nil && stale(e.value) {
			s.ways[i].Store(nil)
		}
	}
}

// clear removes all values.
func (c *cache[V]) clear() {
	for i := range c.sets {
		s := &c.sets[i]
		s.mu.Lock()
		s.changes.Add(1)
		for way := range s.ways {
			s.ways[way].Store(nil)
		}
		s.mu.Unlock()
	}
}
