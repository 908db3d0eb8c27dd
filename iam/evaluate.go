package iam

import "fmt"

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
	allow [ByIdentity + 1]int32 // the same, for each way in which the principal is named
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
	case d.Match() != Unmatched:
		return Allowed
	}
	return NoMatch
}

// Allowed reports whether the outcome is Allowed.
func (d Decision) Allowed() bool { return d.Outcome() == Allowed }

// Denied reports whether the outcome is Denied.
func (d Decision) Denied() bool { return d.deny > 0 }

// Statement returns the index of the statement that decides, or -1 if none does: the first that
// denies, or else the first of those that allow and name the principal as Match says.
func (d Decision) Statement() int {
	if d.deny > 0 {
		return int(d.deny) - 1
	}
	return int(d.allow[d.Match()]) - 1
}

// Match returns the closest way in which a statement that allows names the principal. It is Unmatched
// if the request is denied, or no statement allows it.
func (d Decision) Match() Match {
	if d.deny == 0 {
		for m := ByIdentity; m > Unmatched; m-- {
			if d.allow[m] > 0 {
				return m
			}
		}
	}
	return Unmatched
}

// AllowedBy returns the index of the first statement that allows the request and names the principal
// in the given way. ok is false if there is none, and if the request is denied.
func (d Decision) AllowedBy(m Match) (statement int, ok bool) {
	if d.deny > 0 || m == Unmatched || int(m) >= len(d.allow) || d.allow[m] == 0 {
		return -1, false
	}
	return int(d.allow[m]) - 1, true
}

// Evaluate decides about a request. It does not fail, and usually does not allocate: it does if an
// operator of strings or ARNs looks at a value that is not a text, or StringEqualsIgnoreCase has a
// variable.
func (p *Policy) Evaluate(r *Request) Decision {
	var d Decision
	for i := range p.denies {
		if s := &p.denies[i]; s.applies(r) != Unmatched {
			d.deny = s.index + 1
			return d
		}
	}
	for i := range p.allows {
		s := &p.allows[i]
		if m := s.applies(r); m != Unmatched && d.allow[m] == 0 {
			if d.allow[m] = s.index + 1; m == ByIdentity {
				return d
			}
		}
	}
	return d
}

// applies returns how the statement names the principal, if all its elements match the request.
func (s *statement) applies(r *Request) Match {
	if !s.matchesAction(r.Action) || !s.matchesResource(r.Resource, r.Context) {
		return Unmatched
	}
	m := s.matchesPrincipal(r.Principal)
	if m == Unmatched {
		return Unmatched
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Context) {
			return Unmatched
		}
	}
	return m
}

func (s *statement) matchesAction(action string) bool {
	for i := range s.actions {
		p := &s.actions[i]
		if p.shape != general && p.matchFixed(action) {
			return !s.notAction
		}
		if p.shape == general {
			if matched, _ := p.matchParts(action, nil); matched {
				return !s.notAction
			}
		}
	}
	return s.notAction
}

// matchesResource is fail-closed for a NotResource with a variable that does not resolve: whether the
// resource is excepted is not known, so that Deny applies and Allow does not.
func (s *statement) matchesResource(resource string, c Context) bool {
	unknown := false
	for i := range s.resources {
		matched, resolved := s.resources[i].match(resource, c)
		if matched {
			return !s.notResource
		}
		unknown = unknown || !resolved
	}
	return s.notResource && (!unknown || s.effect == Deny)
}

func (s *statement) matchesPrincipal(who *Principal) Match {
	switch {
	case s.attached:
		return ByIdentity
	case !s.notPrincipal:
		return s.principals.match(who)
	case s.principals.spare(who):
		return Unmatched
	}
	return ByIdentity
}
