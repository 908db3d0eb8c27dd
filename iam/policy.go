package iam

import "slices"

// A Kind says what a policy is attached to, and so which elements it has.
type Kind uint8

const (
	// ResourcePolicy is attached to a resource, such as a key policy: each statement has a principal.
	ResourcePolicy Kind = iota
	// IdentityPolicy is attached to a user or a role. Statements have no principal.
	IdentityPolicy
	// SessionPolicy limits a session. It has the form of an identity policy.
	SessionPolicy
	// PermissionsBoundary limits a user or a role. It has the form of an identity policy.
	PermissionsBoundary
)

// String returns the kind as refusals of AWS name it: "resource-based policy".
func (k Kind) String() string {
	switch k {
	case ResourcePolicy:
		return "resource-based policy"
	case IdentityPolicy:
		return "identity-based policy"
	case SessionPolicy:
		return "session policy"
	case PermissionsBoundary:
		return "permissions boundary"
	}
	return "unknown kind of policy"
}

// An Effect is what a statement does.
type Effect uint8

const (
	Allow Effect = iota + 1
	Deny
)

// String returns the effect as in a policy: "Allow" or "Deny".
func (e Effect) String() string {
	switch e {
	case Allow:
		return "Allow"
	case Deny:
		return "Deny"
	}
	return "unknown effect"
}

// A Policy is a policy in the form in which it is evaluated. It is immutable, and may be used by
// several goroutines at once. The zero Policy says nothing about any request.
type Policy struct {
	kind        Kind
	version, id string
	denies      []statement // in the order of the document
	allows      []statement
	asks        bool // a decision may depend on condition keys
}

// Kind returns the kind for which the policy was parsed.
func (p *Policy) Kind() Kind { return p.kind }

// Version returns the version of the policy language, "2012-10-17" or "2008-10-17". It is
// "2008-10-17" if the policy names none.
func (p *Policy) Version() string { return p.version }

// ID returns the Id of the policy, which may be empty.
func (p *Policy) ID() string { return p.id }

// Statements returns the statements in the order of the document.
func (p *Policy) Statements() []Statement {
	all := make([]Statement, 0, len(p.denies)+len(p.allows))
	for _, list := range [][]statement{p.denies, p.allows} {
		for i := range list {
			all = append(all, Statement{&list[i]})
		}
	}
	slices.SortFunc(all, func(a, b Statement) int { return a.Index() - b.Index() })
	return all
}

// Statement returns the statement with an index, as in [Decision.Statement]. ok is false if there
// is none, for example after Narrow.
func (p *Policy) Statement(index int) (s Statement, ok bool) {
	for _, list := range [...][]statement{p.denies, p.allows} {
		for i := range list {
			if int(list[i].index) == index {
				return Statement{&list[i]}, true
			}
		}
	}
	return Statement{}, false
}

// A statement is compiled. What an element lists is in one slice, whether it is the element or its
// negation.
type statement struct {
	index        int32
	effect       Effect
	settled      Match // from Narrow: principal and action match
	attached     bool  // of a policy without principals
	notPrincipal bool
	notAction    bool
	notResource  bool
	actions      []pattern
	anyResource  bool // Resource is "*"
	resources    []pattern
	principals   principals
	conditions   []condition

	sid          string
	line, column int
}

// A Statement is a view of one statement of a Policy. The slices that its methods return belong to
// the caller.
type Statement struct{ s *statement }

// Index returns the place of the statement in the policy, from 0.
func (s Statement) Index() int { return int(s.s.index) }

// Sid returns the statement's ID, which may be empty.
func (s Statement) Sid() string { return s.s.sid }

// Effect returns Allow or Deny.
func (s Statement) Effect() Effect { return s.s.effect }

// Position returns where the statement begins in the text. Both count from 1; a column is one
// character.
func (s Statement) Position() (line, column int) { return s.s.line, s.s.column }

// Principals returns the entries of Principal, or of NotPrincipal if not is true. A policy of an
// identity has none.
func (s Statement) Principals() (entries []PrincipalPattern, not bool) {
	return slices.Clone(s.s.principals), s.s.notPrincipal
}

// Actions returns the patterns of Action, or of NotAction if not is true, as in the policy.
func (s Statement) Actions() (patterns []string, not bool) {
	return textsOf(s.s.actions), s.s.notAction
}

// Resources returns the patterns of Resource, or of NotResource if not is true, as in the policy.
func (s Statement) Resources() (patterns []string, not bool) {
	return textsOf(s.s.resources), s.s.notResource
}

func textsOf(patterns []pattern) []string {
	texts := make([]string, len(patterns))
	for i := range patterns {
		texts[i] = patterns[i].text
	}
	return texts
}

// MatchPrincipal returns how the statement names a principal.
func (s Statement) MatchPrincipal(who *Principal) Match { return s.s.matchesPrincipal(who) }

// MatchesAction reports whether the statement is about an action.
func (s Statement) MatchesAction(action string) bool { return s.s.matchesAction(action) }

// MatchesResource reports whether the statement is about a resource. Variables have their values
// from the Context, which may be nil.
func (s Statement) MatchesResource(resource string, c Context) bool {
	return s.s.matchesResource(resource, &keys{context: c})
}

// Conditions returns the conditions, in the order of the document. All must hold.
func (s Statement) Conditions() []Condition {
	all := make([]Condition, len(s.s.conditions))
	for i := range all {
		all[i] = Condition{&s.s.conditions[i]}
	}
	return all
}

// A Condition is a view of one key of one operator in a Condition element.
type Condition struct{ c *condition }

// Operator returns the operator as in the policy: "ForAllValues:StringLikeIfExists".
func (c Condition) Operator() string { return c.c.source.operator }

// Key returns the condition key as in the policy.
func (c Condition) Key() string { return c.c.source.key }

// Values returns the values as in the policy. A number or a boolean is its text.
func (c Condition) Values() []string { return slices.Clone(c.c.source.texts) }

// ForAllValues reports whether the operator has this prefix.
func (c Condition) ForAllValues() bool { return c.c.quantifier == forAll }

// ForAnyValue reports whether the operator has this prefix.
func (c Condition) ForAnyValue() bool { return c.c.quantifier == forAny }

// Position returns where the condition's key is in the text.
func (c Condition) Position() (line, column int) { return c.c.source.line, c.c.source.column }

// Holds reports whether the condition holds for the condition keys of a request.
func (c Condition) Holds(context Context) bool { return c.c.holds(&keys{context: context}) }
