package keydb

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of many readers of the same missing values at the same time, each fetches a few times at most,
// however often the others make it start again.
func TestALoadEndsWhateverOthersDo(t *testing.T) {
	c := newCache[int](true) // names with the same end are in one set
	var fetched atomic.Int64
	var all sync.WaitGroup
	const loads = 200
	for i := range loads {
		all.Go(func() {
			v, err := c.load(cacheKey{ID: fmt.Sprint(i%3, "-000000")}, func() (*int, error) {
				fetched.Add(1)
				c.invalidateIf(cacheKey{ID: "other-000000"}, func(*int) bool { return true }) // what a commit does
				return nil, nil
			})
			if v != nil || err != nil {
				panic("found what is not there")
			}
		})
	}
	all.Wait()
	require.EqualValues(t, loads*maxFetches, fetched.Load())

	v, err := c.load(cacheKey{ID: "there-000000"}, func() (*int, error) {
		c.invalidateIf(cacheKey{ID: "other-000000"}, func(*int) bool { return true })
		return new(7), nil
	})
	require.NoError(t, err)
	require.Equal(t, 7, *v)
	require.Nil(t, c.get(&cacheKey{ID: "there-000000"}), "it may be stale")
}

func TestAliasesOfOnePatternSpreadOverTheCache(t *testing.T) {
	c := newCache[int](false)
	sets := map[*cacheSet[int]]bool{}
	for i := range 1000 {
		sets[c.set(&cacheKey{"111122223333", "us-east-1", fmt.Sprintf("alias/tenant-%d/master-key", i)})] = true
	}
	require.Greater(t, len(sets), 500)
}

// If a commit's own value arrives after the watcher has seen a later commit, nothing else would
// repair a cache that brings the older value back.
func TestALateReplaceDoesNotBringAnOlderValueBack(t *testing.T) {
	c := newCache[int](true)
	p := cacheKey{"111122223333", "us-east-1", "k"}
	old, newer, late := new(1), new(3), new(2)
	_, err := c.load(p, func() (*int, error) { return old, nil })
	require.NoError(t, err)
	c.replace(p, old, newer)
	require.Same(t, newer, c.get(&p))
	c.replace(p, old, late)
	require.Nil(t, c.get(&p))
}

// Readers take no lock. Whoever has found the new state of a key in one Region must not find the
// former state in another, not even while the commit is putting the new one into the cache.
func TestAReplacementIsNotFoundBeforeWhatItOutdatesIsGone(t *testing.T) {
	c := newCache[int](true)
	here, there := cacheKey{"111122223333", "us-east-1", "mrk-0"}, cacheKey{"111122223333", "eu-west-1", "mrk-0"}
	old, related, next := new(1), new(1), new(2)
	for p, v := range map[cacheKey]*int{here: old, there: related} {
		_, err := c.load(p, func() (*int, error) { return v, nil })
		require.NoError(t, err)
	}
	compared := false
	c.outdates = func(v *int) func(*int) bool {
		return func(other *int) bool {
			compared = compared || other == related
			require.NotSame(t, next, c.get(&here), "found too early")
			return *other < *v
		}
	}
	c.replace(here, old, next)
	require.Nil(t, c.get(&there))
	require.Same(t, next, c.get(&here))
	require.True(t, compared)
}

// A load that gives up returns a value that it does not store. What another reader stored before
// the commit of that value must not be found after it.
func TestAValueIsNotFoundAfterALaterOneWasReturned(t *testing.T) {
	c := newCache[int](true)
	p, other := cacheKey{ID: "k-000000"}, cacheKey{ID: "other-000000"}
	fetches := 0
	v, err := c.load(p, func() (*int, error) {
		if fetches++; fetches == maxFetches {
			_, err := c.load(p, func() (*int, error) { return new(1), nil })
			require.NoError(t, err)
		}
		c.invalidate(other)
		return new(2), nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, *v)
	require.Nil(t, c.get(&p))
}
