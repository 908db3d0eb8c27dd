package kms

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
)

// A PolicyDiff is what a new key policy would change. Its String is for people, its JSON for
// programs: names and values in it do not change.
type PolicyDiff struct {
	KeyARN string `json:"keyArn"`

	// Gained and Lost are the rights that the new policy gives and takes, sorted. A right that is
	// denied without a condition is none. One that only changes its conditions is in both.
	Gained []PolicyRight `json:"gained"`
	Lost   []PolicyRight `json:"lost"`

	// NewlyDenied and NoLongerDenied are the Deny statements that come and go. Whoever is denied loses
	// what identity-based policies and grants give, too.
	NewlyDenied    []PolicyRight `json:"newlyDenied"`
	NoLongerDenied []PolicyRight `json:"noLongerDenied"`

	// Lockout reports whether the caller could not change the new policy again, so that PutKeyPolicy
	// refuses it.
	Lockout bool `json:"lockout"`
}

// Empty reports whether the new policy changes nothing for anybody.
func (d *PolicyDiff) Empty() bool {
	return len(d.Gained)+len(d.Lost)+len(d.NewlyDenied)+len(d.NoLongerDenied) == 0
}

// A PolicyRight is what a key policy allows, or denies, to a principal.
type PolicyRight struct {
	// Principal and Except are as in Access.
	Principal string `json:"principal"`
	Except    bool   `json:"except,omitempty"`
	// Delegation reports whether the principal is an account, whose identity-based policies decide.
	Delegation bool `json:"delegation,omitempty"`
	// Permissions are sorted: "kms:Decrypt". If they are all that there are for a key, they are
	// "kms:*".
	Permissions []string          `json:"permissions"`
	Conditions  []AccessCondition `json:"conditions,omitempty"`
}

// DiffKeyPolicy compares the policy of a key with one that is to replace it, and says who would
// gain and who would lose what. keyID is as in [Service.WhoCan], which this resembles: it needs no
// permission, and conditions that the key itself decides are left out.
//
// Rights are compared by what the statements say. A right with conditions is taken to be part of
// the same right without them, or with some of them; and a right of a user or a role, of the same
// right of everyone. That two different conditions mean the same is not seen: then the right is
// both gained and lost. Whoever gains nothing by this comparison, gains nothing, with one exception:
// permissions boundaries and session policies, which are not looked at, limit what the sessions of a
// role are allowed by its name, and not a session that the policy then names itself.
//
// A policy that is not valid is refused as PutKeyPolicy refuses it; if it is not of the policy
// language, the error wraps an *[iam.Error], which has the positions of all problems.
func (s *Service) DiffKeyPolicy(ctx context.Context, keyID, policy string) (*PolicyDiff, error) {
	if len(policy) <= maxPolicyBytes {
		if _, err := iam.Parse(policy, iam.ResourcePolicy); err != nil {
			return nil, fmt.Errorf("kms: the new key policy: %w", err)
		}
	}
	d := &PolicyDiff{}
	err := s.inspect(ctx, "DiffKeyPolicy", keyID, func(c *call, k *keydb.Key) error {
		after, err := parseKeyPolicy(policy)
		if err != nil {
			return err
		}
		if err := c.requirePrincipals(after); err != nil {
			return err
		}
		d.KeyARN = k.ARN
		before := &iam.Policy{} // says nothing, as one that cannot be read
		if k.Policy != nil {
			before = k.Policy
		}
		var gained, lost, denied, undenied []right
		for _, permission := range allKeyPermissions() {
			if permission == retirePermission { // key policies have no say
				continue
			}
			w := keyView{c, k, permission}
			allows, denies := w.rights(before)
			newAllows, newDenies := w.rights(after)
			gained, lost = append(gained, missing(newAllows, allows)...), append(lost, missing(allows, newAllows)...)
			denied, undenied = append(denied, missing(newDenies, denies)...), append(undenied, missing(denies, newDenies)...)
		}
		d.Gained, d.Lost, d.NewlyDenied, d.NoLongerDenied = group(gained), group(lost), group(denied), group(undenied)
		d.Lockout, err = c.locksOut(k, after)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// locksOut reports whether the caller could not call PutKeyPolicy if k had the policy.
func (c *call) locksOut(k *keydb.Key, policy *iam.Policy) (bool, error) {
	if c.svc.caller.kind == iam.Anonymous {
		return true, nil
	}
	c.input = &PutKeyPolicyInput{KeyId: k.ID}
	q, err := c.askKey(&target{key: k, permission: "kms:PutKeyPolicy"})
	if err != nil {
		return false, err
	}
	q.policy = policy
	d := q.decide()
	return !d.allowed, q.err
}

// A right is what one statement says to one principal about one permission.
type right struct {
	entry      *iam.PrincipalPattern // nil for an exception
	who        *iam.Principal        // that entry is; nil if it is an account or does not say
	principal  string                // normal form: accounts by number
	except     bool
	deny       bool
	permission string
	conditions []AccessCondition // sorted
	ids        []string          // of the conditions
}

// rights returns what a policy allows, if it does not deny it at once, and what it denies.
func (w *keyView) rights(p *iam.Policy) (allows, denies []right) {
	for _, s := range p.Statements() {
		conditions, possible := w.remaining(s)
		if !possible || !s.MatchesAction(w.permission) {
			continue
		}
		slices.SortFunc(conditions, func(a, b AccessCondition) int { return cmp.Compare(a.id(), b.id()) })
		r := right{deny: s.Effect() == iam.Deny, permission: w.permission, conditions: conditions}
		for _, c := range conditions {
			r.ids = append(r.ids, c.id())
		}
		list := &allows
		if r.deny {
			list = &denies
		}
		entries, not := s.Principals()
		if not {
			names := make([]string, len(entries))
			for i := range entries {
				names[i] = entries[i].String()
			}
			slices.Sort(names)
			r.principal, r.except = strings.Join(names, ", "), true
			*list = append(*list, r)
			continue
		}
		for i := range entries {
			r.entry, r.principal, r.who = &entries[i], entries[i].String(), nil
			switch kind := r.entry.Kind(); {
			case r.entry.IsAccount():
				r.principal = r.entry.Account()
			case kind == "AWS", kind == "Service": // an identity provider can have the name of a service
				if who, err := iam.ParsePrincipal(r.principal); err == nil {
					r.who = &who
				}
			}
			*list = append(*list, r)
		}
	}
	denied := indexRights(denies)
	allows = slices.DeleteFunc(allows, func(a right) bool {
		return denied.any(&a, func(d *right) bool { return len(d.conditions) == 0 && d.covers(&a) })
	})
	return allows, denies
}

// id is the same for the same conditions.
func (c AccessCondition) id() string {
	return fmt.Sprintf("%q %q %q", c.Operator, lowerKey(c.Key), c.Values)
}

// covers reports whether every call that other is about is one that r is about.
func (r *right) covers(other *right) bool {
	if !r.coversPrincipal(other) {
		return false
	}
	for _, id := range r.ids {
		if !slices.Contains(other.ids, id) {
			return false
		}
	}
	return true
}

func (r *right) coversPrincipal(other *right) bool {
	switch {
	case r.except || other.except:
		return r.except == other.except && r.principal == other.principal
	case r.entry.IsAnyone(), r.principal == other.principal && r.entry.Kind() == other.entry.Kind():
		return true
	}
	named := iam.ByIssuer
	if r.deny { // what an account is denied, all its principals are
		named = iam.ByAccount
	}
	return other.who != nil && r.entry.Match(other.who) >= named
}

// A rightsIndex has rights by their principals: a policy may have thousands, of which few can cover
// another.
type rightsIndex map[string][]*right

func indexRights(list []right) rightsIndex {
	x := rightsIndex{}
	for i := range list {
		x[list[i].principal] = append(x[list[i].principal], &list[i])
	}
	return x
}

// any reports whether f is true for a right whose principal may cover that of r.
func (x rightsIndex) any(r *right, f func(*right) bool) bool {
	names := []string{"*", r.principal}
	if r.who != nil {
		names = append(names, r.who.Issuer, r.who.Account)
	}
	return slices.ContainsFunc(names, func(name string) bool { return slices.ContainsFunc(x[name], f) })
}

// missing returns the rights of list that no right of other covers.
func missing(list, other []right) (rest []right) {
	x := indexRights(other)
	for i := range list {
		if !x.any(&list[i], func(r *right) bool { return r.covers(&list[i]) }) {
			rest = append(rest, list[i])
		}
	}
	return rest
}

// group joins the rights that differ only in their permission.
func group(list []right) []PolicyRight {
	groups := []PolicyRight{}
	index := map[string]int{}
	for i := range list {
		r := &list[i]
		id := fmt.Sprintf("%q %t %q", r.principal, r.except, r.conditions)
		at, ok := index[id]
		if !ok {
			at = len(groups)
			index[id] = at
			groups = append(groups, PolicyRight{Principal: r.principal, Except: r.except, Delegation: !r.except && r.entry.IsAccount(), Conditions: r.conditions})
		}
		if g := &groups[at]; !slices.Contains(g.Permissions, r.permission) {
			g.Permissions = append(g.Permissions, r.permission)
		}
	}
	for i := range groups {
		if len(groups[i].Permissions) == len(allKeyPermissions())-1 { // without RetireGrant
			groups[i].Permissions = []string{"kms:*"}
		}
	}
	slices.SortStableFunc(groups, func(a, b PolicyRight) int {
		return cmp.Or(cmp.Compare(a.Principal, b.Principal), slices.Compare(a.Permissions, b.Permissions), cmp.Compare(fmt.Sprint(a.Conditions), fmt.Sprint(b.Conditions)))
	})
	return groups
}

// String returns the difference as lines of text.
func (d *PolicyDiff) String() string {
	var b strings.Builder
	if d.Empty() {
		b.WriteString("nobody gains or loses anything\n")
	}
	part := func(title string, list []PolicyRight) {
		for i := range list {
			fmt.Fprintf(&b, "%s %s\n", list[i].who(), title)
			fmt.Fprintf(&b, "    %s\n", strings.Join(list[i].Permissions, ", "))
			for _, c := range list[i].Conditions {
				fmt.Fprintf(&b, "    if %s\n", c)
			}
		}
	}
	part("gains", d.Gained)
	part("loses", d.Lost)
	part("will be denied", d.NewlyDenied)
	part("will no longer be denied", d.NoLongerDenied)
	if d.Lockout {
		b.WriteString("The caller could not change the new policy again.\n")
	}
	return b.String()
}

func (r *PolicyRight) who() string {
	a := Access{Principal: r.Principal, Except: r.Except}
	if r.Delegation {
		return "account " + r.Principal
	}
	return a.who()
}

// MarshalJSON returns the difference as JSON. Lists that are empty are [].
func (d *PolicyDiff) MarshalJSON() ([]byte, error) {
	type plain PolicyDiff
	p := plain(*d)
	for _, list := range []*[]PolicyRight{&p.Gained, &p.Lost, &p.NewlyDenied, &p.NoLongerDenied} {
		if *list == nil {
			*list = []PolicyRight{}
		}
	}
	return json.Marshal(p)
}
