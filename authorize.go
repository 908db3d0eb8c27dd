package kms

import (
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
)

// A decision is the answer to a question: whether the call is allowed, and what decided. The zero
// decision refuses.
type decision struct {
	allowed bool
	reason  reason

	// policy is the kind of the policy that decides, or that would have to allow; index is its
	// place in the list of those of the principal, and statement that of the statement in it, -1 if
	// there is none.
	policy           policyKind
	index, statement int

	// grant is the one that allows. In a refusal it is a grant from which the caller could create
	// narrower ones than it wants.
	grant *keydb.Grant

	// disclosed is true if the caller may learn that the key exists: it is in the caller's account, or
	// the account of the key lets the caller's use it.
	disclosed bool
}

// A reason is the rule that decided.
type reason uint8

const (
	undecided reason = iota

	// Reasons to allow.
	byKeyPolicy      // the key policy names the caller: itself, its role or everyone
	byIdentityPolicy // an identity-based policy allows, and the key policy leaves it to the account
	byRoot           // the caller is the root of the account that the key policy leaves it to
	byGrant
	byCrossAccount   // the key policy and the policies of the caller's account both allow
	byRetirer        // the caller is the retiring principal of the grant, or a grantee that may retire it
	byIssuingAccount // the account that created the grant leaves it to the caller to retire it

	// Reasons to refuse.
	explicitDeny
	noKeyPolicy // the key policy gives neither the caller nor its account anything
	noIdentityPolicy
	noBoundary
	noSessionPolicy
	notRetirer // the grant gives the caller no right to retire it
)

// A policyKind says which policy a decision is about.
type policyKind uint8

const (
	keyPolicy policyKind = iota
	identityPolicy
	boundaryPolicy
	sessionPolicy
)

// String returns the kind as refusals name it.
func (k policyKind) String() string {
	return [...]string{"resource-based policy", "identity-based policy", "permissions boundary", "session policy"}[k]
}

func allow(r reason, p policyKind, index, statement int) decision {
	return decision{allowed: true, reason: r, policy: p, index: index, statement: statement, disclosed: true}
}

// refusalBy returns a refusal because no policy of a kind allows.
func refusalBy(r reason) decision {
	d := decision{reason: r, statement: -1}
	switch r {
	case noIdentityPolicy, notRetirer:
		d.policy = identityPolicy
	case noBoundary:
		d.policy = boundaryPolicy
	case noSessionPolicy:
		d.policy = sessionPolicy
	}
	return d
}

// A question is what one decision is about: may the caller use a permission for a key, or for
// another resource?
type question struct {
	call       *call
	who        *identity
	permission string
	key        *keydb.Key   // nil: no key
	policy     *iam.Policy  // of the key; nil: it cannot be read
	grant      *keydb.Grant // with kms:RetireGrant; nil: it does not exist
	identifier string       // the KeyId that named the key, if one did

	request iam.Request
	asked   bool  // a policy has asked for something that may differ for the next request
	own     bool  // a policy of the caller is evaluated, not the key's
	err     error // why a condition key or a grant could not be read
}

// ask begins a question. The call has one at a time.
func (c *call) ask(permission, resource string) (*question, error) {
	who, err := c.identityOf()
	if err != nil {
		return nil, err
	}
	q := &c.question
	*q = question{call: c, who: who, permission: permission}
	q.request = iam.Request{Principal: &who.Principal, Action: permission, Resource: resource, Context: q}
	return q, nil
}

// askKey begins a question about a target of the call.
func (c *call) askKey(t *target) (*question, error) {
	resource := t.key.ARN
	if !t.key.Stored() {
		resource = t.key.Ref.ARN() // its ARN is that of the alias
	}
	q, err := c.ask(t.permission, resource)
	if err != nil {
		return nil, err
	}
	q.key, q.policy, q.grant, q.identifier = t.key, t.key.Policy, c.retiring, t.identifier
	return q, nil
}

// decide is the one place where a call is allowed. What it does in which order:
//
//  1. A Deny refuses, in the key policy and in any policy of the caller.
//  2. Without a key, the identity-based policies decide, within the boundary and the session policies.
//  3. In the account of the key, its policy decides: by naming the caller, or by leaving it to the
//     account, whose identity-based policies then decide.
//  4. In another account, both must allow.
//  5. A grant allows like the policy of the account that issued it.
//
// What nothing allows is refused.
func (q *question) decide() decision {
	d := q.evaluate()
	if t := q.call.trace; t != nil {
		traced := d // else every decision would be on the heap
		t.add(q, &traced)
	}
	return d
}

func (q *question) evaluate() decision {
	var resource iam.Decision
	retire := q.permission == retirePermission // key policies have no say
	if q.key != nil && !retire {
		if q.policy == nil {
			return refusalBy(noKeyPolicy)
		}
		resource = q.policy.Evaluate(&q.request)
		if resource.Denied() {
			return decision{reason: explicitDeny, policy: keyPolicy, statement: resource.Statement(), disclosed: q.local()}
		}
	}
	own := q.evaluateOwn()
	if own.denied {
		own.deny.disclosed = q.key == nil || q.local() || resource.Allowed()
		return own.deny
	}
	switch {
	case q.key == nil:
		return q.decideWithoutKey(&own)
	case retire:
		return q.decideRetirement(&own)
	}

	var refusal decision
	switch match := resource.Match(); {
	case match == iam.Unmatched:
		refusal = refusalBy(noKeyPolicy)
	case !q.local(): // and the key's account lets the caller's use the key
		if own.lacks == undecided {
			return allow(byCrossAccount, keyPolicy, 0, resource.Statement())
		}
		refusal = refusalBy(own.lacks)
	case match == iam.ByAccount:
		if own.lacks == undecided {
			return own.allowance(byIdentityPolicy)
		}
		refusal = refusalBy(own.lacks)
	case match >= iam.ByWildcard || own.limits == undecided:
		return allow(byKeyPolicy, keyPolicy, 0, resource.Statement())
	default: // a role is named: the boundary and the session policies still limit its sessions
		refusal = refusalBy(own.limits)
	}
	refusal.disclosed = q.local() || resource.Allowed()
	return q.decideByGrants(&own, refusal)
}

// local reports whether no other account than the key's has to allow.
func (q *question) local() bool { return q.key.Account == q.who.Account || q.who.Type == iam.Service }

func (q *question) decideWithoutKey(own *ownDecision) decision {
	switch {
	case q.who.Type == iam.Service:
		own.lacks = noIdentityPolicy
		fallthrough
	case own.lacks != undecided:
		d := refusalBy(own.lacks)
		d.disclosed = true
		return d
	}
	return own.allowance(byIdentityPolicy)
}

// decideByGrants decides by the grants of the key to the caller. refusal is the decision if no grant
// allows.
func (q *question) decideByGrants(own *ownDecision, refusal decision) decision {
	result := refusal
	q.eachGrant(func(g *keydb.Grant, match iam.Match) (more bool) {
		lacks := own.lacks
		switch issuer := g.IssuingAccount(); {
		case issuer == q.who.Account, q.who.Type == iam.Service && issuer == q.key.Account:
			switch match {
			case iam.ByIdentity:
				lacks = undecided
			case iam.ByIssuer:
				lacks = own.limits
			}
		case issuer != q.key.Account:
			return true // an account that has no say, neither over the key nor over the caller
		}
		switch covered := q.covers(g); {
		case covered == wider:
			result.grant = g
		case covered == no:
		case lacks == undecided:
			result = decision{allowed: true, reason: byGrant, statement: -1, grant: g, disclosed: true}
			return false
		default:
			narrower := result.grant
			result = refusalBy(lacks)
			result.disclosed, result.grant = true, narrower
		}
		return true
	})
	return result
}

// decideRetirement decides about kms:RetireGrant. Permission by policies is not enough: the grant
// must give the right to the caller or to its account.
func (q *question) decideRetirement(own *ownDecision) decision {
	g, r := q.grant, byRetirer
	match, issuer := iam.Unmatched, ""
	if g != nil {
		match, issuer = q.who.named(g.RetiringName()), g.IssuingAccount()
		if slices.Contains(g.Operations, string(GrantOperationRetireGrant)) {
			match = max(match, q.who.named(g.GranteeName()))
		}
	}
	lacks := own.lacks
	switch {
	case match == iam.ByIdentity && issuer == q.who.Account:
		lacks = undecided
	case match == iam.ByIssuer && issuer == q.who.Account:
		lacks = own.limits
	case match != iam.Unmatched:
	case g != nil && issuer == q.who.Account,
		g == nil && q.key.Account == q.who.Account: // no such grant: that, the account's may know
		r = byIssuingAccount
		if lacks == noIdentityPolicy {
			lacks = notRetirer
		}
	default:
		lacks = notRetirer
	}
	if lacks == undecided {
		return decision{allowed: true, reason: r, statement: -1, grant: g, disclosed: true}
	}
	d := refusalBy(lacks)
	d.disclosed = q.key.Account == q.who.Account || match != iam.Unmatched
	return d
}

// An ownDecision is what the policies of the caller itself say.
type ownDecision struct {
	denied bool
	deny   decision

	// limits is what the permissions boundary and the session policies lack, and lacks the same if an
	// identity-based policy must allow, too. undecided means nothing.
	limits, lacks reason

	root             bool
	index, statement int // of the identity-based policy that allows
}

// allowance returns that the own policies of the caller allow.
func (o *ownDecision) allowance(r reason) decision {
	if o.root {
		return allow(byRoot, identityPolicy, 0, -1)
	}
	return allow(r, identityPolicy, o.index, o.statement)
}

// evaluateOwn evaluates the policies of the caller.
func (q *question) evaluateOwn() (o ownDecision) {
	switch q.who.Type {
	case iam.AccountRoot:
		o.root = true
		return o
	case iam.Service:
		return o
	}
	q.own = true
	defer func() { q.own = false }()
	evaluate := func(kind policyKind, list []compiledPolicy) (allowed bool) {
		for i := range list {
			switch d := list[i].Evaluate(&q.request); {
			case d.Denied() && !o.denied:
				o.denied = true
				o.deny = decision{reason: explicitDeny, policy: kind, index: i, statement: d.Statement()}
			case d.Allowed() && !allowed:
				allowed = true
				if kind == identityPolicy {
					o.index, o.statement = i, d.Statement()
				}
			}
		}
		return allowed
	}
	identity := evaluate(identityPolicy, q.who.policies)
	boundary := evaluate(boundaryPolicy, q.who.boundary)
	session := evaluate(sessionPolicy, q.who.sessionPolicies)
	switch {
	case !session && len(q.who.sessionPolicies) > 0:
		o.limits = noSessionPolicy
	case !boundary && len(q.who.boundary) > 0:
		o.limits = noBoundary
	}
	switch o.lacks = o.limits; {
	case o.lacks != undecided:
	case !identity:
		o.lacks = noIdentityPolicy
	case q.who.Type == iam.FederatedUser && !session: // it has none
		o.lacks = noSessionPolicy
	}
	return o
}

// named returns how a name, the grantee or the retiring principal of a grant, names the principal.
func (id *identity) named(name string) iam.Match {
	for _, n := range id.grantees {
		if n.name == name && name != "" {
			return n.match
		}
	}
	return iam.Unmatched
}

// authorize refuses a call that its caller may not make.
func (c *call) authorize(aliasName string) error {
	if aliasName != "" {
		if err := c.authorizeResource(c.op.permission, c.callerAlias(aliasName).ARN()); err != nil {
			return err
		}
	}
	if c.count == 0 {
		return c.authorizeResource(c.op.permission, "*")
	}
	for i := range c.count {
		if t := &c.targets[i]; !t.undisclosed() { // else it has been authorized already
			if err := c.authorizeTarget(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// authorizeResource refuses the caller a permission for a resource that is no key: an alias, or
// "*".
func (c *call) authorizeResource(permission, resource string) error {
	q, err := c.ask(permission, resource)
	if err != nil {
		return err
	}
	d := q.decide()
	if d.allowed || q.err != nil {
		return q.err
	}
	on := " on resource: " + resource
	if permission == "kms:TagResource" { // of a key that does not exist yet
		on = ""
	}
	return c.refused(q.refusal(&d, on))
}

// authorizeTarget refuses the caller the permission for a target.
func (c *call) authorizeTarget(t *target) error {
	caller := &c.svc.caller
	id := caller.identity
	if id == nil && c.svc.core.config.Identities != nil {
		var err error
		if id, err = c.identityOf(); err != nil {
			return err
		}
	}
	if c.trace == nil && t.key.Decisions.Load(caller.arn, id, t.permission) != nil {
		return nil
	}
	q, err := c.askKey(t)
	if err != nil {
		return err
	}
	d := q.decide()
	switch {
	case q.err != nil && t.foreign:
		return c.mask(q.err, hiddenForeign(caller, t.permission))
	case q.err != nil && t.byCiphertext && t.key.Account != caller.account:
		return c.mask(q.err, hiddenCiphertext(caller, t.permission))
	case q.err != nil:
		return q.err
	case d.allowed:
		if !q.asked && d.grant == nil && t.permission != retirePermission {
			kept := d // else every decision would be on the heap
			t.key.Decisions.Store(&keydb.Decision{Principal: caller.arn, Identity: id, Permission: t.permission, Value: &kept})
		}
		return nil
	}
	return c.refused(q.refuseTarget(t, &d))
}

// refused returns a refusal, or nil if refusals are only observed.
func (c *call) refused(refusal *Error) error {
	if c.svc.core.config.Authorization != Observe || c.trace != nil {
		return refusal
	}
	if c.observed == "" {
		c.observed = refusal.Message
	}
	c.svc.core.observed.Error(c.svc.core.config.Logger, c.now, "kms: calls pass that authorization would refuse", refusal)
	return nil
}

// retirePermission is the one that key policies cannot give.
const retirePermission = "kms:RetireGrant"

// covers returns whether a grant of the caller allows the call.
func (q *question) covers(g *keydb.Grant) coverage {
	operation := strings.TrimPrefix(q.permission, "kms:")
	if !slices.Contains(g.Operations, operation) || g.SourceARN != "" && g.SourceARN != q.info().SourceARN {
		return no
	}
	in, create := q.call.input.(*CreateGrantInput)
	switch {
	case create:
		if !narrows(g.GrantRecord, in) {
			return wider
		}
	case usesContext(q.permission):
		if !meets(g.GrantRecord, q.encryptionContext()) {
			return no
		}
	}
	return yes
}

type coverage uint8

const (
	no    coverage = iota
	wider          // it would, if the call were to create a grant that is not wider than itself
	yes
)

// eachGrant calls f with the grants of the key that name the caller, and how they do, until f
// returns false. It leaves out some whose constraints the call does not meet.
func (q *question) eachGrant(f func(*keydb.Grant, iam.Match) bool) {
	context, all := q.encryptionContext(), !usesContext(q.permission)
	for _, n := range q.who.grantees {
		more := true
		err := q.call.svc.core.db.Candidates(q.call.ctx, q.key, n.name, context, all, func(g *keydb.Grant) bool {
			more = f(g, n.match)
			return more
		})
		if err != nil {
			q.err = err
		}
		if err != nil || !more {
			return
		}
	}
}

// meets reports whether an encryption context meets the constraints of a grant.
func meets(g *keydb.GrantRecord, context map[string]string) bool {
	if len(g.ContextEquals) > 0 && (len(g.ContextEquals) != len(context) || !includes(g.ContextEquals, context)) {
		return false
	}
	return includes(context, g.ContextEquals) && includes(context, g.ContextSubset)
}

// includes reports whether a has all pairs of b. The case of their keys does not matter.
func includes(a, b map[string]string) bool {
	for key, value := range b {
		if v, ok := a[key]; ok && v == value {
			continue
		}
		found := false
		for k, v := range a {
			found = found || v == value && keydb.SameContextKey(k, key)
		}
		if !found {
			return false
		}
	}
	return true
}

// narrows reports whether a new grant allows no call that its parent does not.
func narrows(parent *keydb.GrantRecord, in *CreateGrantInput) bool {
	for _, op := range in.Operations {
		if !slices.Contains(parent.Operations, string(op)) {
			return false
		}
	}
	var c GrantConstraints
	if in.Constraints != nil {
		c = *in.Constraints
	}
	if parent.SourceARN != "" && parent.SourceARN != c.SourceArn {
		return false
	}
	if len(parent.ContextEquals) > 0 {
		return len(c.EncryptionContextEquals) > 0 && meets(parent, c.EncryptionContextEquals)
	}
	if len(c.EncryptionContextEquals) > 0 {
		return includes(c.EncryptionContextEquals, parent.ContextSubset)
	}
	return includes(c.EncryptionContextSubset, parent.ContextSubset)
}

// hiddenResource is the reason that does not distinguish a key that does not exist from one that
// the caller may not use.
const hiddenResource = "the resource does not exist in this Region, no resource-based policies allow access, " +
	"or a resource-based policy explicitly denies access"

const (
	onForeign    = " on this resource"
	onCiphertext = " on the resource associated with this ciphertext"
)

// accessDenied returns the AccessDeniedException for a permission on a resource: on is how the
// message names it, and why the reason, which the action completes.
func accessDenied(caller *Principal, permission, on, why string) *Error {
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s%s because %s the %[2]s action", caller.display(), permission, on, why)
}

// hiddenForeign returns the AccessDeniedException for a key of another account, which may not
// exist.
func hiddenForeign(caller *Principal, permission string) *Error {
	return hidden(caller, permission, onForeign)
}

// hiddenCiphertext returns the AccessDeniedException for a ciphertext whose key may not exist.
func hiddenCiphertext(caller *Principal, permission string) *Error {
	return hidden(caller, permission, onCiphertext)
}

func hidden(caller *Principal, permission, on string) *Error {
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s%s because %s", caller.display(), permission, on, hiddenResource)
}

// errAnonymous refuses a caller without an account.
func errAnonymous(caller *Principal, permission string) *Error {
	return accessDenied(caller, permission, " on resource: *", "no identity-based policy allows")
}

// refuseTarget returns the AccessDeniedException for a target. A key of another account is not
// named, and what its policy says only if it lets the account of the caller use the key. The same
// goes for the key of a ciphertext that the caller did not name.
func (q *question) refuseTarget(t *target, d *decision) *Error {
	caller, on := &q.call.svc.caller, " on resource: "+t.key.ARN
	q.call.denied = d.reason == explicitDeny // also if the refusal does not say so
	switch {
	case t.byCiphertext && (!d.disclosed || d.policy == keyPolicy):
		return hiddenCiphertext(caller, t.permission)
	case t.foreign && (!d.disclosed || d.policy == keyPolicy):
		return hiddenForeign(caller, t.permission)
	case t.byCiphertext && !q.local():
		on = onCiphertext
	case t.foreign:
		on = onForeign
	}
	return q.refusal(d, on)
}

// refusal returns the AccessDeniedException of a decision. on is how it names the resource.
func (q *question) refusal(d *decision, on string) *Error {
	caller := &q.call.svc.caller
	if d.reason != explicitDeny {
		return accessDenied(caller, q.permission, on, "no "+d.policy.String()+" allows")
	}
	q.call.denied = true
	article, name := "a", ""
	switch d.policy {
	case identityPolicy:
		article, name = "an", q.who.policies[d.index].arn
	case boundaryPolicy:
		name = q.who.boundary[d.index].arn
	case sessionPolicy:
		name = q.who.sessionPolicies[d.index].arn
	}
	if name != "" {
		name = ": " + name
	}
	return exception(AccessDeniedException, "User: %s is not authorized to perform: %s%s with an explicit deny in %s %s%s",
		caller.display(), q.permission, on, article, d.policy, name)
}

// display returns how a message names the principal.
func (p Principal) display() string {
	if p.arn == "" {
		return "anonymous"
	}
	return p.arn
}
