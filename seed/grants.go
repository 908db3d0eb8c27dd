package seed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pocketkms/kms"
)

// checkGrants refuses grants that could not be found again, and members that are not those of a
// grant.
func (k *Key) checkGrants() error {
	names := map[string]bool{}
	for i, g := range k.Grants {
		var err error
		switch {
		case g.Name == "":
			err = errors.New("a grant needs a name: without one, each start would create it again")
		case names[g.Name]:
			err = fmt.Errorf("two grants of the key have the name %.256q", g.Name)
		case g.KeyId != "" || g.GrantTokens != nil || g.DryRun:
			err = errors.New("a grant has no KeyId, GrantTokens or DryRun")
		}
		if err != nil {
			return &memberError{[]any{"grants", i}, err}
		}
		names[g.Name] = true
	}
	return nil
}

// fetchGrants returns all grants of the key, if it is to have any.
func (p *plan) fetchGrants(ctx context.Context) (grants []kms.GrantListEntry, err error) {
	if len(p.Grants) == 0 {
		return nil, nil
	}
	in := &kms.ListGrantsInput{KeyId: p.ID, Limit: new(int32(100))}
	for {
		page, err := p.svc.ListGrants(ctx, in)
		if err != nil {
			return nil, err
		}
		grants = append(grants, page.Grants...)
		if in.Marker = page.NextMarker; !page.Truncated {
			return grants, nil
		}
	}
}

// applyGrants creates the grants that the key does not have.
func (p *plan) applyGrants(ctx context.Context, existing []kms.GrantListEntry) error {
	for _, g := range p.Grants {
		if slices.ContainsFunc(existing, func(e kms.GrantListEntry) bool { return sameGrant(&g, &e) }) {
			continue
		}
		g.KeyId = p.ID
		if _, err := p.svc.CreateGrant(ctx, &g); err != nil {
			return fmt.Errorf("grant %.256q: %w", g.Name, err)
		}
	}
	return nil
}

// sameGrant reports whether a grant has the name and properties of g.
func sameGrant(g *kms.CreateGrantInput, e *kms.GrantListEntry) bool {
	var want, has kms.GrantConstraints
	if g.Constraints != nil {
		want = *g.Constraints
	}
	if e.Constraints != nil {
		has = *e.Constraints
	}
	return g.Name == e.Name && g.GranteePrincipal == e.GranteePrincipal && g.GranteeServicePrincipal == e.GranteeServicePrincipal &&
		g.RetiringPrincipal == e.RetiringPrincipal && g.RetiringServicePrincipal == e.RetiringServicePrincipal &&
		slices.Equal(sortedSet(g.Operations), sortedSet(e.Operations)) &&
		maps.Equal(want.EncryptionContextEquals, has.EncryptionContextEquals) &&
		maps.Equal(want.EncryptionContextSubset, has.EncryptionContextSubset) && want.SourceArn == has.SourceArn
}

func sortedSet(operations []kms.GrantOperation) []kms.GrantOperation {
	return slices.Compact(slices.Sorted(slices.Values(operations)))
}
