package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
)

// An AccessReport says who can do something with a key. Its String is for people, its JSON for
// programs: names and values in it do not change.
type AccessReport struct {
	KeyARN     string `json:"keyArn"`
	Permission string `json:"permission"` // such as "kms:Decrypt"

	// Allowed has what allows: statements of the key policy in their order, then policies of the
	// candidates, then grants.
	Allowed []Access `json:"allowed"`
	// Denied has what denies, whatever allows: Deny statements of the key policy and of the policies
	// of candidates.
	Denied []Access `json:"denied"`
	// Unknown has a sentence for each thing that the report cannot know.
	Unknown []string `json:"unknown"`
}

// An AccessSource is the kind of thing that gives or takes access.
type AccessSource string

const (
	// SourceKeyPolicy: a statement of the key policy names the principal.
	SourceKeyPolicy AccessSource = "key policy"
	// SourceDelegation: a statement of the key policy names the account. In the account of the key,
	// that allows the root and whomever an identity-based policy allows; elsewhere, only the latter.
	SourceDelegation AccessSource = "delegation to the account"
	// SourceIdentityPolicy: an identity-based policy of a candidate, to whose account the key policy
	// delegates.
	SourceIdentityPolicy AccessSource = "identity-based policy"
	// SourceGrant: a grant names the principal.
	SourceGrant AccessSource = "grant"
)

// An Access is one way in which principals may, or may not, use a permission.
type Access struct {
	// Principal is as in the policy or the grant: an ARN, a number of an account, a service, a unique
	// ID, or "*". Except reports whether it is everyone but the principals in Principal, which are
	// then separated by ", ".
	Principal string       `json:"principal"`
	Except    bool         `json:"except,omitempty"`
	Source    AccessSource `json:"source"`

	// Statement is where a policy says so; nil for a grant.
	Statement *AccessStatement `json:"statement,omitempty"`
	// GrantID and GrantName name the grant.
	GrantID   string `json:"grantId,omitempty"`
	GrantName string `json:"grantName,omitempty"`

	// Conditions must hold for a request. Those that the key itself decides are left out.
	Conditions []AccessCondition `json:"conditions,omitempty"`
}

// An AccessStatement is the place of a statement.
type AccessStatement struct {
	Policy string `json:"policy"` // as in ExplainedStatement
	Index  int    `json:"index"`
	Sid    string `json:"sid,omitempty"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// An AccessCondition is a condition of a statement, or a constraint of a grant.
type AccessCondition struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Values   []string `json:"values"`
}

// String returns the condition, such as
//
//	StringEquals kms:ViaService: "s3.us-east-1.amazonaws.com"
func (c AccessCondition) String() string {
	values := make([]string, len(c.Values))
	for i, v := range c.Values {
		values[i] = fmt.Sprintf("%.100q", v)
	}
	return fmt.Sprintf("%s %.200s: %s", c.Operator, c.Key, strings.Join(values, " or "))
}

// WhoCan lists who can call an operation on a key. keyID is a key ID, key ARN, alias name or alias
// ARN, as the caller of s names it. operation is the name of an operation on a key, "Decrypt"; for
// ReEncrypt, which needs two permissions, "ReEncryptFrom" or "ReEncryptTo".
//
// A key policy can leave a key to an account, and then it is the identity-based policies there that
// decide. Those of the candidates are looked at, which carry them, or get them from
// Config.Identities. Of all other principals they are not known, which the report says.
//
// To decide about one principal and one request, use [Service.Explain], for which the same holds:
// WhoCan needs no permission, and its answer is for the program that owns the Service.
func (s *Service) WhoCan(ctx context.Context, keyID, operation string, candidates ...Principal) (*AccessReport, error) {
	permission := "kms:" + strings.TrimPrefix(operation, "kms:")
	switch {
	case permission == "kms:ReEncrypt":
		return nil, errors.New("kms: ReEncrypt needs two permissions: ask for ReEncryptFrom and for ReEncryptTo")
	case !slices.Contains(allKeyPermissions(), permission):
		return nil, fmt.Errorf("kms: %.100q is not an operation on a key", operation)
	}
	var report *AccessReport
	err := s.inspect(ctx, "WhoCan", keyID, func(c *call, k *keydb.Key) (err error) {
		report, err = c.whoCan(k, permission, candidates)
		return err
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

// allKeyPermissions returns the permissions for a key, in the order of their names.
func allKeyPermissions() (all []string) {
	for _, name := range strings.Fields(keyPermissions) {
		all = append(all, "kms:"+name)
	}
	slices.Sort(all)
	return all
}

// inspected describes what looks at a key without being a call: no key policy stands in its way.
var inspected = &description{name: "DescribeKey", permission: "kms:DescribeKey", crossAccount: true}

// inspect calls f with a key, and with a call to read the store by. Errors name the method.
func (s *Service) inspect(ctx context.Context, method, keyID string, f func(*call, *keydb.Key) error) error {
	c, err := begin(ctx, s, inspected)
	if err != nil {
		return err
	}
	defer c.end()
	err = c.recovered(func() error {
		c.now = s.core.config.Clock()
		if s.badRegion {
			return invalid("%.40q is not the name of a Region.", s.region)
		}
		id, malformed := parseKeyIdentifier(keyID)
		switch {
		case malformed != nil:
			return malformed
		case id.account == "":
			id.account, id.region = s.caller.account, s.region
		case id.region != s.region:
			return exception(NotFoundException, "Invalid arn %s", id.region)
		}
		k, err := c.find(id)
		if err != nil {
			return err
		}
		return f(c, k)
	})
	if err != nil {
		return wrapError(c.ctx, err, method)
	}
	return nil
}

// whoCan makes the report about a permission for k.
func (c *call) whoCan(k *keydb.Key, permission string, candidates []Principal) (*AccessReport, error) {
	r := &AccessReport{KeyARN: k.ARN, Permission: permission, Allowed: []Access{}, Denied: []Access{}}
	w := keyView{c, k, permission}
	var delegated []string // accounts
	switch {
	case permission == retirePermission: // key policies have no say
	case k.Policy == nil:
		r.Unknown = append(r.Unknown, "The key policy cannot be read: it allows nothing.")
	default:
		r.add(w.accesses(k.Policy, keyPolicyName, "", &delegated))
	}
	named := make([]iam.PrincipalPattern, 0, len(r.Allowed)) // by the key policy, which may name thousands
	for _, a := range r.Allowed {
		if p, err := iam.ParsePrincipalPattern("AWS", a.Principal); err == nil && !a.Except {
			named = append(named, p)
		}
	}
	for i := range candidates {
		view := c.svc.As(candidates[i])
		identity, err := (&call{ctx: c.ctx, svc: view}).identityOf()
		if err != nil {
			return nil, err
		}
		counts := countsFor(named, &identity.Principal, k.Account)
		for j, p := range identity.policies {
			allowed, denied := w.accesses(p.Policy, p.name(identityPolicy, j), candidates[i].ARN(), nil)
			if !counts || identity.Type == iam.FederatedUser && len(identity.sessionPolicies) == 0 {
				allowed = nil
			}
			r.add(allowed, denied)
		}
		if len(identity.boundary)+len(identity.sessionPolicies) > 0 {
			r.Unknown = append(r.Unknown, "The permissions boundary or the session policies of "+candidates[i].ARN()+" may allow less.")
		}
	}
	for g, err := range c.svc.core.db.Grants(c.ctx, k.Ref, "", 100) {
		if err != nil {
			return nil, err
		}
		r.Allowed = append(r.Allowed, w.grantAccess(g)...)
	}
	r.unknown(k, delegated, len(candidates))
	return r, nil
}

// countsFor reports whether identity-based policies of a principal matter, by whom the key policy
// allows: it leaves the key to the account, or the principal is of another account than the key.
func countsFor(named []iam.PrincipalPattern, who *iam.Principal, account string) bool {
	for i := range named {
		if match := named[i].Match(who); match == iam.ByAccount || match != iam.Unmatched && who.Account != account {
			return true
		}
	}
	return false
}

func (r *AccessReport) add(allowed, denied []Access) {
	r.Allowed, r.Denied = append(r.Allowed, allowed...), append(r.Denied, denied...)
}

// unknown adds what the report cannot know.
func (r *AccessReport) unknown(k *keydb.Key, delegated []string, candidates int) {
	say := func(format string, arguments ...any) {
		r.Unknown = append(r.Unknown, fmt.Sprintf(format, arguments...))
	}
	slices.Sort(delegated)
	for _, account := range slices.Compact(delegated) {
		if candidates > 0 {
			say("Account %s can allow its principals by identity-based policies; only those of the candidates are known.", account)
		} else {
			say("Account %s can allow its principals by identity-based policies, which are not known.", account)
		}
	}
	if r.Permission == retirePermission {
		say("The account that created a grant can let its principals retire it, by identity-based policies.")
		return
	}
	foreign := map[string]bool{}
	for _, a := range r.Allowed {
		if id, err := iam.ParsePrincipalPattern("AWS", a.Principal); err == nil && id.Account() != "" && id.Account() != k.Account && !id.IsAccount() {
			foreign[id.Account()] = true
		}
	}
	if len(foreign) > 0 {
		say("Principals of other accounts also need an identity-based policy of their own account that allows, unless a grant of it does.")
	}
	say("Identity-based policies, permissions boundaries and session policies of principals can deny what is allowed here.")
}

// A keyView looks at policies as they are for one key and permission.
type keyView struct {
	call       *call
	key        *keydb.Key
	permission string
}

// accesses returns what a policy says: the key policy, or one of a principal. It adds the accounts
// to which the policy leaves the key to delegated.
func (w *keyView) accesses(p *iam.Policy, name, owner string, delegated *[]string) (allowed, denied []Access) {
	for _, s := range p.Statements() {
		conditions, possible := w.remaining(s)
		if !possible || !s.MatchesAction(w.permission) {
			continue
		}
		line, column := s.Position()
		a := Access{
			Principal: owner, Source: SourceIdentityPolicy, Conditions: conditions,
			Statement: &AccessStatement{Policy: name, Index: s.Index(), Sid: s.Sid(), Line: line, Column: column},
		}
		list := []Access{a}
		if owner == "" {
			list = principalAccesses(a, s, delegated)
		}
		if s.Effect() == iam.Deny {
			denied = append(denied, list...)
		} else {
			allowed = append(allowed, list...)
		}
	}
	return allowed, denied
}

// principalAccesses returns a once for each principal of a statement.
func principalAccesses(a Access, s iam.Statement, delegated *[]string) (list []Access) {
	entries, not := s.Principals()
	a.Source = SourceKeyPolicy
	if not {
		names := make([]string, len(entries))
		for i, p := range entries {
			names[i] = p.String()
		}
		a.Principal, a.Except = strings.Join(names, ", "), true
		return []Access{a}
	}
	for _, p := range entries {
		a.Principal, a.Source = p.String(), SourceKeyPolicy
		if p.IsAccount() && s.Effect() == iam.Allow {
			a.Source = SourceDelegation
			if delegated != nil {
				*delegated = append(*delegated, p.Account())
			}
		}
		list = append(list, a)
	}
	return list
}

// remaining returns the conditions of a statement that requests for the key can meet or not.
// possible is false if no request can meet them all, or the statement is about other resources.
func (w *keyView) remaining(s iam.Statement) (conditions []AccessCondition, possible bool) {
	if !s.MatchesResource(w.key.ARN, nil) {
		patterns, not := s.Resources()
		if !slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "${") }) {
			return nil, false
		}
		operator := "Resource"
		if not {
			operator = "NotResource"
		}
		conditions = append(conditions, AccessCondition{Operator: operator, Key: "the key", Values: patterns})
	}
	for _, c := range s.Conditions() {
		if w.decides(c) {
			if !c.Holds(w) {
				return nil, false
			}
			continue
		}
		conditions = append(conditions, AccessCondition{Operator: c.Operator(), Key: c.Key(), Values: c.Values()})
	}
	return conditions, true
}

// keyFacts are the condition keys whose values depend only on the key and its Region.
var keyFacts = []string{
	"aws:resourceaccount", "aws:requestedregion", "kms:keyspec", "kms:customermasterkeyspec", "kms:keyusage", "kms:customermasterkeyusage",
	"kms:keyorigin", "kms:multiregion", "kms:multiregionkeytype",
}

// decides reports whether the key alone decides a condition: it is about a fact of the key, or no
// request for the permission has the condition key.
func (w *keyView) decides(c iam.Condition) bool {
	if slices.ContainsFunc(c.Values(), func(v string) bool { return strings.Contains(v, "${") }) {
		return false
	}
	name := lowerKey(c.Key())
	f, _, ok := findConditionKey(name)
	return !ok || f.permissions != nil && !f.permissions[w.permission] || slices.Contains(keyFacts, name)
}

// Lookup makes w the context of conditions that the key alone decides.
func (w *keyView) Lookup(name string) iam.Value {
	f, rest, ok := findConditionKey(name)
	if !ok || f.permissions != nil && !f.permissions[w.permission] {
		return iam.Value{}
	}
	q := question{call: w.call, who: new(identity), permission: w.permission, key: w.key}
	return f.value(&q, rest)
}

// grantAccess returns what a grant says of the permission.
func (w *keyView) grantAccess(g *keydb.Grant) (list []Access) {
	a := Access{Source: SourceGrant, GrantID: g.ID, GrantName: g.Name}
	if slices.Contains(g.Operations, strings.TrimPrefix(w.permission, "kms:")) {
		a := a
		a.Principal = g.GranteeName()
		if w.permission != retirePermission {
			a.Conditions = grantConditions(g, usesContext(w.permission))
		}
		list = append(list, a)
	}
	if w.permission != retirePermission {
		return list
	}
	for _, name := range []string{g.RetiringName(), arn.Root(arn.Partition(g.Key.Region), g.IssuingAccount())} {
		if name != "" && (len(list) == 0 || list[0].Principal != name) {
			a.Principal = name
			list = append(list, a)
		}
	}
	return list
}

// grantConditions returns the constraints of a grant.
func grantConditions(g *keydb.Grant, withContext bool) (list []AccessCondition) {
	add := func(operator string, pairs map[string]string) {
		for _, key := range sortedKeys(pairs) {
			list = append(list, AccessCondition{operator, "kms:EncryptionContext:" + key, []string{pairs[key]}})
		}
	}
	if withContext {
		add("EncryptionContextEquals", g.ContextEquals)
		add("EncryptionContextSubset", g.ContextSubset)
	}
	if g.SourceARN != "" {
		list = append(list, AccessCondition{"SourceArn", "aws:SourceArn", []string{g.SourceARN}})
	}
	return list
}

// String returns the report as lines of text.
func (r *AccessReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s\n", r.Permission, r.KeyARN)
	part := func(title string, list []Access) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for i := range list {
			list[i].write(&b)
		}
		if len(list) == 0 {
			b.WriteString("  nobody\n")
		}
	}
	part("Allowed:", r.Allowed)
	if len(r.Denied) > 0 {
		part("Denied, whatever allows:", r.Denied)
	}
	b.WriteString("\nNot known:\n")
	for _, text := range r.Unknown {
		b.WriteString("  " + text + "\n")
	}
	return b.String()
}

func (a *Access) write(b *strings.Builder) {
	b.WriteString("  " + a.who() + "\n      ")
	switch {
	case a.Statement != nil:
		s := a.Statement
		fmt.Fprintf(b, "%s of %s", statementName(s.Index, s.Sid, s.Line, s.Column), s.Policy)
	case a.GrantName != "":
		fmt.Fprintf(b, "grant %.100q (%s)", a.GrantName, a.GrantID)
	default:
		b.WriteString("grant " + a.GrantID)
	}
	for _, c := range a.Conditions {
		b.WriteString("\n      if " + c.String())
	}
	b.WriteString("\n")
}

// who returns the principal for people.
func (a *Access) who() string {
	switch {
	case a.Except:
		return "everyone except " + a.Principal
	case a.Principal == "*":
		return "everyone"
	case a.Source == SourceDelegation:
		if p, err := iam.ParsePrincipalPattern("AWS", a.Principal); err == nil {
			return "account " + p.Account() + ": its root, and whom its policies allow"
		}
	}
	return a.Principal
}

// MarshalJSON returns the report as JSON. Lists that are empty are [].
func (r *AccessReport) MarshalJSON() ([]byte, error) {
	type plain AccessReport
	p := plain(*r)
	if p.Unknown == nil {
		p.Unknown = []string{}
	}
	return json.Marshal(p)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
