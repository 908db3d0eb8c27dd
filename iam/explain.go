package iam

import (
	"fmt"
	"slices"
	"strings"
)

// An Explanation says for each statement of a policy why it applies to a request or not.
type Explanation struct {
	// Decision is what Evaluate returns.
	Decision Decision

	// Statements has every statement, in the order of the document, also those that Evaluate need not
	// look at.
	Statements []StatementExplanation
}

// A StatementExplanation says why a statement applies to a request or not. Each of its elements is
// looked at, also after one that does not match.
type StatementExplanation struct {
	Index        int
	Sid          string
	Effect       Effect
	Line, Column int

	// Applies reports whether all that follows matches or holds.
	Applies bool

	// Action and Resource say which pattern matches.
	Action, Resource ElementExplanation

	// Match is how the statement names the principal.
	Match Match

	// Principal is the entry that names the principal. It is empty for NotPrincipal and for the policy
	// of an identity.
	Principal string

	// Conditions has every condition, in the order of the document.
	Conditions []ConditionExplanation
}

// An ElementExplanation says whether Action or Resource, or its negation, matches a request.
type ElementExplanation struct {
	// Matches reports whether the element lets the statement apply.
	Matches bool

	// Not reports whether it is NotAction or NotResource.
	Not bool

	// Pattern is the first pattern that the value of the request matches, or "" if there is none. With
	// Not, a pattern is an exception.
	Pattern string
}

// A ConditionExplanation says whether a condition holds.
type ConditionExplanation struct {
	// Operator and Key are as in the policy.
	Operator, Key string
	Line, Column  int

	// Expected has the values of the policy. The variables in a value are replaced by their values if
	// they have one.
	Expected []string

	// Present reports whether the request has the key, and Seen its values there.
	Present bool
	Seen    []string

	Holds bool
}

// Explain decides about a request as Evaluate does, and says why.
func (p *Policy) Explain(r *Request) Explanation {
	e := Explanation{Decision: p.Evaluate(r)}
	for _, s := range p.Statements() {
		e.Statements = append(e.Statements, s.s.explain(r))
	}
	return e
}

func (s *statement) explain(r *Request) StatementExplanation {
	keys := keys{context: r.Context}
	e := StatementExplanation{
		Index: int(s.index), Sid: s.sid, Effect: s.effect, Line: s.line, Column: s.column,
		Applies:  s.applies(r, &keys) != Unmatched,
		Action:   ElementExplanation{s.matchesAction(r.Action), s.notAction, firstMatch(s.actions, r.Action, nil)},
		Resource: ElementExplanation{s.matchesResource(r.Resource, &keys), s.notResource, firstMatch(s.resources, r.Resource, &keys)},
		Match:    s.matchesPrincipal(r.Principal),
	}
	if !s.notPrincipal && e.Match != Unmatched {
		for i := range s.principals {
			if s.principals[i].Match(r.Principal) == e.Match {
				e.Principal = s.principals[i].text
				break
			}
		}
	}
	for i := range s.conditions {
		e.Conditions = append(e.Conditions, s.conditions[i].explain(&keys))
	}
	return e
}

func firstMatch(patterns []pattern, text string, keys *keys) string {
	for i := range patterns {
		if matched, _ := patterns[i].match(text, keys); matched {
			return patterns[i].text
		}
	}
	return ""
}

func (c *condition) explain(keys *keys) ConditionExplanation {
	v := keys.value(c.key)
	e := ConditionExplanation{
		Operator: c.source.operator, Key: c.source.key, Line: c.source.line, Column: c.source.column,
		Expected: slices.Clone(c.source.texts), Present: v.Present(), Seen: v.Texts(), Holds: c.holdsFor(&v, keys),
	}
	if c.source.variables {
		for i, text := range e.Expected {
			e.Expected[i] = replaceVariables(text, keys)
		}
	}
	return e
}

// replaceVariables returns text with the variables that resolve replaced by their values.
func replaceVariables(text string, keys *keys) string {
	var b strings.Builder
	for {
		before, _, ok := strings.Cut(text, "${")
		if b.WriteString(before); !ok {
			return b.String()
		}
		text = text[len(before):]
		v, length, err := parseVariable(text)
		if err != nil {
			return b.String() + text // Parse has refused it
		}
		value, ok := v.resolve(keys)
		switch {
		case v.key == "":
			value = v.fallback
		case !ok:
			value = v.text
		}
		b.WriteString(value)
		text = text[length:]
	}
}

// String returns the explanation as lines of text: the outcome, and for each statement what keeps
// it from applying, or that it applies.
func (e Explanation) String() string {
	var b strings.Builder
	switch d := e.Decision; d.Outcome() {
	case Denied:
		fmt.Fprintf(&b, "denied by statement %d\n", d.Statement())
	case Allowed:
		fmt.Fprintf(&b, "allowed by statement %d\n", d.Statement())
	default:
		b.WriteString("no statement applies\n")
	}
	for _, s := range e.Statements {
		b.WriteString("  " + s.String() + "\n")
	}
	return b.String()
}

// String returns the explanation in one line: which elements do not match, with the values expected
// and seen, or "applies".
func (e StatementExplanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "statement %d", e.Index)
	if e.Sid != "" {
		fmt.Fprintf(&b, " %.100q", e.Sid)
	}
	fmt.Fprintf(&b, " at %d:%d (%s): ", e.Line, e.Column, e.Effect)
	var reasons []string
	if e.Match == Unmatched {
		reasons = append(reasons, "another principal")
	}
	if !e.Action.Matches {
		reasons = append(reasons, e.Action.reason("action"))
	}
	if !e.Resource.Matches {
		reasons = append(reasons, e.Resource.reason("resource"))
	}
	for _, c := range e.Conditions {
		if !c.Holds {
			reasons = append(reasons, c.String())
		}
	}
	if reasons == nil {
		reasons = []string{"applies"}
	}
	b.WriteString(strings.Join(reasons, "; "))
	return b.String()
}

func (e ElementExplanation) reason(noun string) string {
	if e.Not && e.Pattern != "" {
		return fmt.Sprintf("the %s is excepted by %.100q", noun, e.Pattern)
	}
	return "another " + noun
}

// String returns the condition with the values expected and seen, each to at most 100 bytes:
//
//	StringEquals aws:username: expected "alice", seen "bob"
func (e ConditionExplanation) String() string {
	seen := "the key is absent"
	if e.Present {
		seen = "seen " + quoted(e.Seen)
	}
	return fmt.Sprintf("%s %.100s: expected %s, %s", e.Operator, e.Key, quoted(e.Expected), seen)
}

// quoted returns up to ten values, in quotation marks.
func quoted(values []string) string {
	const most = 10
	var b strings.Builder
	for i, v := range values[:min(len(values), most)] {
		if i > 0 {
			b.WriteString(" or ")
		}
		fmt.Fprintf(&b, "%.100q", v)
	}
	if n := len(values) - most; n > 0 {
		fmt.Fprintf(&b, " or %d others", n)
	}
	if len(values) == 0 {
		return "no value"
	}
	return b.String()
}
