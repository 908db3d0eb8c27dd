package iam

import (
	"fmt"
	"slices"
)

// A Request is what a policy decides about. It is not changed, and not kept.
type Request struct {
	// Principal makes the request; nil is anonymous. Policies of identities do not look at it.
	Principal *Principal

	// Action is what the principal wants to do: "kms:Decrypt". Case does not matter.
	Action string

	// Resource is the ARN of the resource, or "*" if the action has none.
	Resource string

	// Context has the condition keys; nil has none.
	Context Context
}

// A Decision is what one policy says about a request. The zero Decision says nothing: no statement
// applies, which is a refusal unless another policy allows.
type Decision struct {
	deny  int32                 // 1 + index of the statement, or 0
	match Match                 // the greatest for which allow has a statement
	allow [ByIdentity + 1]int32 // as deny, for each way in which the principal is named
}

// An Outcome is the result of a Decision.
type Outcome uint8

const (
	// NoMatch: no statement applies: an implicit deny.
	NoMatch Outcome = iota
	// Allowed: a statement allows, and none denies.
	Allowed
	// Denied: a statement denies: an explicit deny, which no other policy can lift.
	Denied
)

// String returns the name of the constant.
func (o Outcome) String() string {
	names := [...]string{"NoMatch", "Allowed", "Denied"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Outcome returns the result.
func (d Decision) Outcome() Outcome {
	switch {
	case d.deny > 0:
		return Denied
	case d.match != Unmatched:
		return Allowed
	}
	return NoMatch
}

// Allowed reports whether the outcome is Allowed.
func (d Decision) Allowed() bool { return d.match != Unmatched }

// Denied reports whether the outcome is Denied.
func (d Decision) Denied() bool { return d.deny > 0 }

// Statement returns the index of the statement that decides, or -1 if none does: the first that
// denies, or else the first of those that allow and name the principal as Match says.
func (d Decision) Statement() int {
	if d.deny > 0 {
		return int(d.deny) - 1
	}
	return int(d.allow[d.match]) - 1
}

// Match returns the greatest of the ways in which statements that allow name the principal. It is
// Unmatched if the request is denied, or no statement allows it.
func (d Decision) Match() Match {
	return d.match
}

// AllowedBy returns the index of the first statement that allows the request and names the
// principal in the given way. ok is false if there is none, and if the request is denied.
func (d Decision) AllowedBy(m Match) (statement int, ok bool) {
	if m == Unmatched || int(m) >= len(d.allow) || d.allow[m] == 0 {
		return -1, false
	}
	return int(d.allow[m]) - 1, true
}

// Evaluate decides about a request. It does not fail, and usually does not allocate. It allocates
// to compare a number, a date or an address as a text, to find that a text is not one of these, and
// for a variable of StringEqualsIgnoreCase.
func (p *Policy) Evaluate(r *Request) (d Decision) {
	if p.asks {
		p.decideWithKeys(r, &d)
	} else {
		p.decide(r, nil, &d)
	}
	return d
}

// decideWithKeys is a function so that other policies do not pay for the memory of the keys.
//
//go:noinline
func (p *Policy) decideWithKeys(r *Request, d *Decision) { p.decide(r, &keys{context: r.Context}, d) }

func (p *Policy) decide(r *Request, keys *keys, d *Decision) {
	for i := range p.denies {
		if s := &p.denies[i]; s.applies(r, keys) != Unmatched {
			d.deny = s.index + 1
			return
		}
	}
	for i := range p.allows {
		s := &p.allows[i]
		if m := s.applies(r, keys); m != Unmatched && d.allow[m] == 0 {
			d.allow[m] = s.index + 1
			if d.match = max(d.match, m); m == ByIdentity {
				break // no statement says more
			}
		}
	}
}

// applies returns how the statement names the principal, if all its elements match the request. It
// looks at the principal first, because that differs most often.
func (s *statement) applies(r *Request, keys *keys) Match {
	m := s.settled
	if m == Unmatched {
		if m = s.matchesPrincipal(r.Principal); m == Unmatched || !s.matchesAction(r.Action) {
			return Unmatched
		}
	}
	if !s.anyResource && !s.matchesResource(r.Resource, keys) {
		return Unmatched
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(keys) {
			return Unmatched
		}
	}
	return m
}

func (s *statement) matchesAction(action string) bool {
	for i := range s.actions {
		if p := &s.actions[i]; p.shape != general && p.matchFixed(action) || p.shape == general && p.matchParts(action) {
			return !s.notAction
		}
	}
	return s.notAction
}

// matchesResource is fail-closed for a NotResource with a variable that does not resolve: whether
// the resource is excepted is not known, so that Deny applies and Allow does not.
func (s *statement) matchesResource(resource string, keys *keys) bool {
	unknown := false
	for i := range s.resources {
		matched, resolved := s.resources[i].match(resource, keys)
		if matched {
			return !s.notResource
		}
		unknown = unknown || !resolved
	}
	return s.notResource && (!unknown || s.effect == Deny)
}

func (s *statement) matchesPrincipal(who *Principal) Match {
	if s.attached || s.notPrincipal {
		if s.notPrincipal && s.principals.spare(who) {
			return Unmatched
		}
		return ByIdentity
	}
	best := Unmatched
	for i := range s.principals {
		best = max(best, s.principals[i].Match(who))
	}
	return best
}

// Narrow returns a policy that decides as p does about the requests of one principal for one action
// on one resource. Statements that do not apply to these are left out, and of the others only the
// conditions and variables remain to be looked at. Its Evaluate looks only at a Request's Resource
// and Context.
//
// It is for programs that decide about the same principal, action and resource many times. To
// explain a decision, use p.
func (p *Policy) Narrow(who *Principal, action, resource string) *Policy {
	narrow := *p
	narrow.denies = narrowed(p.denies, who, action, resource)
	narrow.allows = narrowed(p.allows, who, action, resource)
	narrow.asks = asks(narrow.denies) || asks(narrow.allows)
	return &narrow
}

func narrowed(statements []statement, who *Principal, action, resource string) []statement {
	var kept []statement
	for i := range statements {
		s := statements[i]
		if s.settled == Unmatched {
			if s.settled = s.matchesPrincipal(who); s.settled == Unmatched || !s.matchesAction(action) {
				continue
			}
		}
		if !s.hasVariables() {
			if !s.matchesResource(resource, nil) {
				continue
			}
			s.anyResource = true
		}
		kept = append(kept, s)
	}
	return kept
}

// asks reports whether a decision may depend on condition keys.
func asks(statements []statement) bool {
	return slices.ContainsFunc(statements, func(s statement) bool { return len(s.conditions) > 0 || s.hasVariables() })
}

// hasVariables reports whether Resource or NotResource has variables.
func (s *statement) hasVariables() bool {
	return slices.ContainsFunc(s.resources, func(p pattern) bool { return p.shape == general && len(p.vars) > 0 })
}

// Constant returns the decision of a policy from Narrow, if it does not depend on the Request's
// Context.
func (p *Policy) Constant() (d Decision, ok bool) {
	constant := func(s *statement) bool { return s.settled != Unmatched && s.anyResource && len(s.conditions) == 0 }
	look := p.allows
	if len(p.denies) > 0 {
		look = p.denies[:1] // the first that may deny
	}
	for i := range look {
		if !constant(&look[i]) {
			return Decision{}, false
		}
	}
	return p.Evaluate(&Request{}), true
}
