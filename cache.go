package kms

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A cache keeps a bounded number of immutable values, in sets of four. Readers
// take no lock. What a reader loads from storage goes in only if nothing was
// changed meanwhile, so that a slow reader cannot bring back what a commit has
// replaced.
type cache[V any] struct {
	sets   [cacheSets]cacheSet[V] // first, so that each set is a cache line of its own
	ofKeys bool
	seed   maphash.Seed
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
	next    uint8      // the way to give up for a newcomer
	_       [8]byte
}

type cacheEntry[V any] struct {
	place
	value *V
}

// A place is what a key or an alias is found under: its account, its Region,
// and its ID or name.
type place struct {
	account, region, name string
}

// hashKey says where a key belongs, by the last digit of its account and the last
// 24 bits of its ID, which are random. The same can be had of a ciphertext
// without the text of the ID.
func hashKey(accountEnd byte, idEnd uint32) uint32 {
	h := (idEnd<<4 ^ uint32(accountEnd&0xf)) * 0x9e3779b1 // 2^32 by the golden ratio: Knuth's multiplicative hash
	return h >> 12
}

func (p *place) hashKey() uint32 {
	var accountEnd byte
	if p.account != "" {
		accountEnd = p.account[len(p.account)-1]
	}
	idEnd := uint32(0)
	for i := max(0, len(p.name)-6); i < len(p.name); i++ {
		idEnd = idEnd<<4 ^ uint32(p.name[i]&0xf+p.name[i]>>6*9) // the value of a hexadecimal digit
	}
	return hashKey(accountEnd, idEnd&0xffffff)
}

// newCache returns a cache of keys, or of what has names that callers choose:
// those are spread over the sets by a random function of the whole place.
func newCache[V any](ofKeys bool) *cache[V] {
	return &cache[V]{ofKeys: ofKeys, seed: maphash.MakeSeed()}
}

func (c *cache[V]) set(p *place) *cacheSet[V] {
	if c.ofKeys {
		return &c.sets[p.hashKey()%cacheSets]
	}
	return &c.sets[maphash.Comparable(c.seed, *p)%cacheSets]
}

// get returns the value at p, or nil.
func (c *cache[V]) get(p place) *V {
	if e, _ := c.set(&p).find(&p); e != nil {
		return e.value
	}
	return nil
}

// findHashed returns the value with that hash for which isIt holds; or nil.
func (c *cache[V]) findHashed(hash uint32, isIt func(*V) bool) *V {
	s := &c.sets[hash%cacheSets]
	for i := range s.ways {
		if e := s.ways[i].Load(); e != nil && isIt(e.value) {
			return e.value
		}
	}
	return nil
}

// find returns the entry at p and its way, or nil and the way to give up.
func (s *cacheSet[V]) find(p *place) (*cacheEntry[V], int) {
	free := -1
	for i := range s.ways {
		e := s.ways[i].Load()
		switch {
		case e == nil:
			free = i
		case e.name == p.name && e.account == p.account && e.region == p.region:
			return e, i
		}
	}
	return nil, free
}

// maxFetches bounds how often one load fetches. What is fetched last may be
// returned, but not kept: it may be stale by then.
const maxFetches = 3

// load returns the value at p, from fetch if it is not there. A nil value of
// fetch is returned and not kept.
func (c *cache[V]) load(p place, fetch func() (*V, error)) (*V, error) {
	for n := 1; ; n++ {
		if v := c.get(p); v != nil {
			return v, nil
		}
		s := c.set(&p)
		before := s.changes.Load()
		v, err := fetch()
		if err != nil {
			return nil, err
		}
		if kept, ok := s.keep(p, v, before); ok {
			return kept, nil
		}
		if n == maxFetches {
			return v, nil
		}
	}
}

// keep puts v at p, unless the set has changed since it was fetched: whoever
// was told of a later value, or that there is none, must not be followed by one
// who finds this. It returns what is at p then.
func (s *cacheSet[V]) keep(p place, v *V, before uint64) (_ *V, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes.Load() != before {
		return nil, false
	}
	e, way := s.find(&p)
	if e != nil {
		return e.value, true // another reader was quicker; one value serves all
	}
	if v == nil {
		s.changes.Add(1)
		return nil, true
	}
	if way < 0 {
		s.changes.Add(1)
		way = int(s.next % cacheWays)
		s.next++
	}
	s.ways[way].Store(&cacheEntry[V]{p, v})
	return v, true
}

// replace puts v in the place of old after a commit that turned old into v. If
// anything but old is there, another commit came between and p is forgotten, to
// be loaded anew.
func (c *cache[V]) replace(p place, old, v *V) {
	s := c.set(&p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Add(1)
	e, way := s.find(&p)
	switch {
	case e == nil:
	case e.value == old:
		s.ways[way].Store(&cacheEntry[V]{p, v})
	default:
		s.ways[way].Store(nil)
	}
}

// drop forgets p.
func (c *cache[V]) drop(p place) { c.dropIf(p, func(*V) bool { return true }) }

// dropIf forgets p, which has changed in storage, if what is kept of it is
// stale.
func (c *cache[V]) dropIf(p place, stale func(*V) bool) {
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

// clear forgets everything.
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
