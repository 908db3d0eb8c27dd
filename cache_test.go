package kms

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of many who look for the same missing things at once, each fetches a few
// times at most, however often the others make it begin anew.
func TestALoadEndsWhateverOthersDo(t *testing.T) {
	c := newCache[int](true) // names with the same end are in one set
	var fetched atomic.Int64
	var all sync.WaitGroup
	const loads = 200
	for i := range loads {
		all.Go(func() {
			v, err := c.load(place{name: fmt.Sprint(i%3, "-000000")}, func() (*int, error) {
				fetched.Add(1)
				c.dropIf(place{name: "other-000000"}, func(*int) bool { return true }) // what a commit does
				return nil, nil
			})
			if v != nil || err != nil {
				panic("found what is not there")
			}
		})
	}
	all.Wait()
	require.EqualValues(t, loads*maxFetches, fetched.Load())

	v, err := c.load(place{name: "there-000000"}, func() (*int, error) {
		c.dropIf(place{name: "other-000000"}, func(*int) bool { return true })
		return new(7), nil
	})
	require.NoError(t, err)
	require.Equal(t, 7, *v)
	require.Nil(t, c.get(place{name: "there-000000"}), "nobody can tell whether it may be kept")
}

func TestAliasesOfOnePatternSpreadOverTheCache(t *testing.T) {
	c := newCache[int](false)
	sets := map[*cacheSet[int]]bool{}
	for i := range 1000 {
		sets[c.set(&place{"111122223333", "us-east-1", fmt.Sprintf("alias/tenant-%d/master-key", i)})] = true
	}
	require.Greater(t, len(sets), 500)
}

func TestAKeyIsFoundByItsCiphertextsHeader(t *testing.T) {
	for _, ref := range []keyRef{
		{"111122223333", "us-east-1", newKeyID(false)},
		{"000000000007", "us-east-1", newKeyID(true)},
	} {
		p := ref.place()
		require.Equal(t, p.hashKey(), newBlobHeader(ref, new([32]byte)).cacheHash())
	}
}
