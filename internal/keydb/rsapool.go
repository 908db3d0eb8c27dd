package keydb

import (
	"context"
	"sync"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
)

// An rsaPool holds RSA key pairs that were generated ahead, up to a number of each size, in the
// stored form of package crypto. Each is used once. A nil pool has none.
type rsaPool struct {
	perSize  int
	usages   []*spec.Usage // one of each size
	generate func(*spec.Usage) ([]byte, error)

	mu      sync.Mutex              // never held while a pair is generated
	pairs   map[int][]*secret.Bytes // by bits
	turn    int                     // the index of the size that is next
	stopped bool

	taken  chan struct{} // has an element if there may be room
	cancel context.CancelFunc
	worker sync.WaitGroup
}

// startRSAPool returns a pool, and starts to fill it in the background, one pair at a time. The
// caller must stop it.
func startRSAPool(perSize int, usages []*spec.Usage, generate func(*spec.Usage) ([]byte, error)) *rsaPool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &rsaPool{
		perSize:  perSize,
		usages:   usages,
		generate: generate,
		pairs:    map[int][]*secret.Bytes{},
		taken:    make(chan struct{}, 1),
		cancel:   cancel,
	}
	p.worker.Go(func() { p.fill(ctx) })
	return p
}

// take returns a pair of that size and removes it, or returns nil. The caller owns it, and erases
// it.
func (p *rsaPool) take(bits int) []byte {
	if p == nil || bits == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pairs := p.pairs[bits]
	if len(pairs) == 0 {
		return nil
	}
	last := len(pairs) - 1
	pair := pairs[last].Expose()
	pairs[last], p.pairs[bits] = nil, pairs[:last]
	select {
	case p.taken <- struct{}{}:
	default:
	}
	return pair
}

// fill keeps the pool full until ctx ends.
func (p *rsaPool) fill(ctx context.Context) {
	for ctx.Err() == nil {
		u := p.next()
		if u != nil {
			if pair, err := p.generate(u); err == nil {
				p.put(u.RSABits, pair)
				continue
			}
		}
		select { // full, or the generation has failed: until a pair is taken
		case <-ctx.Done():
		case <-p.taken:
		}
	}
}

// next returns the next size of which the pool has too few pairs, or nil if it is full. The sizes
// take turns: one of which pairs are taken all the time does not keep the others from being filled.
func (p *rsaPool) next() *spec.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.usages {
		u := p.usages[p.turn]
		p.turn = (p.turn + 1) % len(p.usages)
		if len(p.pairs[u.RSABits]) < p.perSize {
			return u
		}
	}
	return nil
}

func (p *rsaPool) put(bits int, pair []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		secret.Clear(pair)
		return
	}
	p.pairs[bits] = append(p.pairs[bits], secret.New(pair))
}

// stop erases the pairs and ends the work in the background. A pair that is being generated is
// erased when it is ready.
func (p *rsaPool) stop() {
	if p == nil {
		return
	}
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, pairs := range p.pairs {
		for _, pair := range pairs {
			pair.Destroy()
		}
	}
	clear(p.pairs)
}

// wait returns once the work in the background has ended. The generation of a pair cannot be
// canceled.
func (p *rsaPool) wait() {
	if p != nil {
		p.worker.Wait()
	}
}

// PregeneratedRSAKeys returns how many RSA key pairs of a size are ready. It is for tests.
func (db *DB) PregeneratedRSAKeys(bits int) int {
	if db.pool == nil {
		return 0
	}
	db.pool.mu.Lock()
	defer db.pool.mu.Unlock()
	return len(db.pool.pairs[bits])
}
