package keydb

import (
	"context"
	"strings"
	"sync"

	"github.com/pocketkms/kms/internal/arn"
)

// A granteeCache has the grants of some grantees of a key, as they were found first. Whatever
// creates or deletes a grant also changes the key's record, in any process, so that the cache goes
// with the snapshot before it could be stale for longer than the snapshot itself.
type granteeCache struct {
	mu   sync.RWMutex
	sets map[string]*grantSet // by grantee; a nil set has no grants
	size int                  // the grants in all sets
}

// The bounds of a granteeCache. What does not fit replaces all that is there.
const (
	cachedGrantees = 1000
	cachedGrants   = 50_000
)

// A grantSet has the grants of one grantee, by what their constraints ask of an encryption context,
// so that a call looks only at those that could allow it: each grant is in one bucket. That of a
// grant without such a constraint is "", and that of any other one of the pairs that it requires.
type grantSet struct {
	buckets map[string][]*Grant
	n       int
}

// Candidates calls f with the grants of k to a grantee, a principal or a service, that can allow a
// call with an encryption context, until f returns false: all those whose constraints the context
// meets, and perhaps some more. With all, it calls f with every grant.
func (db *DB) Candidates(ctx context.Context, k *Key, grantee string, encryptionContext map[string]string, all bool, f func(*Grant) bool) error {
	if k.Record.Grants == 0 {
		return nil
	}
	set, err := db.grantsTo(ctx, k, grantee)
	if set == nil || err != nil {
		return err
	}
	each := func(list []*Grant) bool {
		for _, g := range list {
			if !f(g) {
				return false
			}
		}
		return true
	}
	if all {
		for _, list := range set.buckets {
			if !each(list) {
				return nil
			}
		}
		return nil
	}
	if !each(set.buckets[""]) || len(set.buckets) == 1 && set.buckets[""] != nil {
		return nil
	}
	for key, value := range encryptionContext {
		if list := set.buckets[pairName(key, value)]; list != nil && !each(list) {
			return nil
		}
	}
	return nil
}

// pairName stands for a pair of an encryption context in which the case of the key does not matter.
func pairName(key, value string) string { return foldKey(key) + "\x00" + value }

// foldKey returns what is the same for keys that differ only in case.
func foldKey(key string) string { return strings.ToLower(key) }

// grantsTo returns the grants of k to a grantee, or nil if there are none.
func (db *DB) grantsTo(ctx context.Context, k *Key, grantee string) (*grantSet, error) {
	c := k.grants
	c.mu.RLock()
	set, known := c.sets[grantee]
	c.mu.RUnlock()
	if known {
		return set, nil
	}
	var list []*Grant
	for g, err := range db.GrantsTo(ctx, k.Ref, grantee, "", sweepBatch) {
		if err != nil {
			return nil, err
		}
		if g.grantee() == grantee { // the index has hashes
			list = append(list, g)
		}
	}
	set = newGrantSet(list)
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.sets[grantee]; ok {
		return known, nil
	}
	if len(c.sets) >= cachedGrantees || c.size+len(list) > cachedGrants {
		c.sets, c.size = nil, 0
	}
	if c.sets == nil {
		c.sets = map[string]*grantSet{}
	}
	c.sets[grantee] = set
	c.size += len(list)
	return set, nil
}

// newGrantSet returns the set of some grants. It puts each grant in the bucket of its rarest pair.
func newGrantSet(list []*Grant) *grantSet {
	if len(list) == 0 {
		return nil
	}
	count := map[string]int{}
	for _, g := range list {
		for key, value := range g.ContextConstraint() {
			count[pairName(key, value)]++
		}
	}
	set := &grantSet{buckets: map[string][]*Grant{}, n: len(list)}
	for _, g := range list {
		bucket, fewest := "", 0
		for key, value := range g.ContextConstraint() {
			name := pairName(key, value)
			if n := count[name]; fewest == 0 || n < fewest || n == fewest && name < bucket {
				bucket, fewest = name, n
			}
		}
		set.buckets[bucket] = append(set.buckets[bucket], g)
	}
	return set
}

// ContextConstraint returns the pairs that the grant requires of an encryption context.
func (g *GrantRecord) ContextConstraint() map[string]string {
	if len(g.ContextEquals) > 0 {
		return g.ContextEquals
	}
	return g.ContextSubset
}

// SameContextKey reports whether constraints of grants take two keys of an encryption context for
// the same: the case does not matter.
func SameContextKey(a, b string) bool { return a == b || foldKey(a) == foldKey(b) }

// GranteeName returns the grantee, a principal or a service.
func (g *GrantRecord) GranteeName() string { return g.grantee() }

// RetiringName returns the retiring principal or service. It is empty if there is none.
func (g *GrantRecord) RetiringName() string { return g.retiring() }

// IssuingAccount returns the account that created the grant, 12 digits.
func (g *GrantRecord) IssuingAccount() string {
	a, _ := arn.Parse(g.Issuer)
	return a.Account
}
