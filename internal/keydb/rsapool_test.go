package keydb

import (
	"bytes"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/spec"
)

// A generator makes numbered texts instead of key pairs. While its channel is full, it waits.
type generator struct {
	blocked           chan struct{} // of one element; a Mutex would not do in a bubble
	count, concurrent atomic.Int32
	fails             atomic.Bool
	last              []byte
}

func (g *generator) generate(u *spec.Usage) ([]byte, error) {
	if g.concurrent.Add(1) > 1 {
		panic("two pairs are generated at the same time")
	}
	defer g.concurrent.Add(-1)
	g.blocked <- struct{}{}
	defer func() { <-g.blocked }()
	if g.fails.Load() {
		return nil, errors.New("no pair")
	}
	g.last = []byte(strconv.Itoa(u.RSABits) + "-" + strconv.Itoa(int(g.count.Add(1))))
	return g.last, nil
}

var rsaSizes = []int{2048, 3072, 4096}

func (p *rsaPool) counts() (n [3]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, bits := range rsaSizes {
		n[i] = len(p.pairs[bits])
	}
	return n
}

func TestThePoolOfRSAKeyPairsIsFilledAndGivesEachPairOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &generator{blocked: make(chan struct{}, 1)}
		p := startRSAPool(2, spec.RSA(), g.generate)
		defer p.wait()
		defer p.stop()
		synctest.Wait()
		require.Equal(t, [3]int{2, 2, 2}, p.counts())
		require.Nil(t, p.take(0), "of a key that is not RSA")
		require.Nil(t, p.take(1024))
		seen := map[string]bool{}
		for range 3 {
			for _, bits := range rsaSizes {
				for range 2 {
					pair := string(p.take(bits))
					require.Contains(t, pair, strconv.Itoa(bits)+"-")
					require.False(t, seen[pair])
					seen[pair] = true
				}
			}
			synctest.Wait()
			require.Equal(t, [3]int{2, 2, 2}, p.counts(), "what was taken is replaced")
		}
		require.EqualValues(t, 4*6, g.count.Load())
	})
}

func TestTheSizesOfThePoolTakeTurns(t *testing.T) {
	p := &rsaPool{perSize: 2, usages: spec.RSA()}
	for i := range 6 { // as if pairs of 2,048 bits were taken at once
		require.Equal(t, rsaSizes[i%3], p.next().RSABits)
	}
}

func TestNoPairIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &generator{blocked: make(chan struct{}, 1)}
		p := startRSAPool(1, spec.RSA(), g.generate)
		synctest.Wait()
		g.blocked <- struct{}{}
		require.NotNil(t, p.take(2048))
		synctest.Wait() // the next one is being generated
		require.Nil(t, p.take(2048))
		require.NotNil(t, p.take(4096))
		p.stop()
		<-g.blocked
		p.wait()
	})
}

func TestAFailureToGenerateAPairIsRetriedWhenOneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &generator{blocked: make(chan struct{}, 1)}
		p := startRSAPool(1, spec.RSA(), g.generate)
		defer p.wait()
		defer p.stop()
		synctest.Wait()
		g.fails.Store(true)
		p.take(2048)
		synctest.Wait()
		require.Equal(t, [3]int{0, 1, 1}, p.counts())
		g.fails.Store(false)
		p.take(3072)
		synctest.Wait()
		require.Equal(t, [3]int{1, 1, 1}, p.counts())
	})
}

func TestAStoppedPoolIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &generator{blocked: make(chan struct{}, 1)}
		p := startRSAPool(1, spec.RSA(), g.generate)
		synctest.Wait()
		var pairs [][]byte
		for _, bits := range rsaSizes {
			pairs = append(pairs, p.pairs[bits][0].Expose())
		}
		g.blocked <- struct{}{}
		taken := p.take(2048)
		synctest.Wait()
		p.stop()
		<-g.blocked
		p.wait()
		require.Equal(t, "2048-1", string(taken), "it belongs to the one who took it")
		pairs[0] = g.last // which was being generated
		for _, pair := range pairs {
			require.NotEmpty(t, pair)
			require.Equal(t, make([]byte, len(pair)), pair)
		}
		require.Nil(t, p.take(4096))
		require.Zero(t, p.counts())
	})
}

func TestNewRSAKeysHaveThePairsOfThePool(t *testing.T) {
	f := newFixture(t)
	pair, err := f.Generate(spec.RSA()[0])
	require.NoError(t, err)
	f.pool = startRSAPool(1, nil, nil) // which nothing fills
	defer f.pool.wait()
	defer f.pool.stop()
	pooled := bytes.Clone(pair)
	f.pool.put(2048, pooled)
	f.create()
	require.Equal(t, 1, f.PregeneratedRSAKeys(2048), "a symmetric key takes none")
	rsaKey := func(r *Record) { r.Spec, r.Usage = "RSA_2048", "SIGN_VERIFY" }
	first := f.create(rsaKey)
	require.Equal(t, MaterialID(first.ID, pair), first.Current().ID)
	require.Equal(t, make([]byte, len(pair)), pooled, "erased once it is stored")
	second := f.create(rsaKey)
	require.NotEqual(t, MaterialID(second.ID, pair), second.Current().ID)
}
