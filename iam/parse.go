package iam

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of a policy. AWS has lower ones, which differ from service to service.
const (
	// MaxBytes is the most bytes that a policy has.
	MaxBytes = 128 << 10
	// MaxStatements is the most statements that a policy has.
	MaxStatements = 1000
)

// Parse parses and compiles a policy. The error is an *Error with everything that is wrong.
//
// Parse refuses names and values that can match nothing, such as a date that is no date: Evaluate
// cannot fail, so that a Deny with such a value would silently not deny.
//
// A list of actions, resources, principals or values may be empty, as in AWS.
func Parse(text string, kind Kind) (*Policy, error) {
	c := &compiler{text: text, position: position{text: text}, sids: make(map[string]bool), policy: &Policy{kind: kind, version: version2008}}
	c.document()
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, &Error{Problems: c.problems}
	}
	return c.policy, nil
}

const (
	version2008 = "2008-10-17" // without variables
	version2012 = "2012-10-17"
)

type compiler struct {
	text     string
	position position
	policy   *Policy
	syntax   syntax          // variables, if the policy's version has them
	sids     map[string]bool // of the statements of an identity's policy so far
	problems []Problem
}

// report adds a problem with what is at an offset. element is the name of the element that is at
// fault.
func (c *compiler) report(kind ProblemKind, at *path, offset int, element, format string, args ...any) {
	if len(c.problems) == maxProblems {
		return
	}
	p := Problem{Kind: kind, Element: element, Statement: at.statement(), Path: at.String(), Message: fmt.Sprintf(format, args...)}
	p.Line, p.Column = c.position.at(offset)
	c.problems = append(c.problems, p)
}

// members calls f with each member of an object, and reports members that are unknown, for which f
// returns false, or there twice.
func (c *compiler) members(n *node, at *path, element string, f func(m *member, at *path) (known bool)) {
	if n.kind != '{' {
		c.report(WrongType, at, n.offset, element, "an object is required, not %s", jsonTypes[n.kind])
		return
	}
	seen := make(map[string]bool, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		at := at.member(m.name)
		if seen[m.name] {
			c.report(DuplicateElement, at, m.offset, element, "%.100q appears twice", m.name)
			continue
		}
		seen[m.name] = true
		if !f(m, at) {
			c.report(UnknownElement, at, m.offset, element, "%.100q does not exist here", m.name)
		}
	}
}

// str returns a string, or reports that the value is none.
func (c *compiler) str(n *node, at *path, element string) (string, bool) {
	if n.kind != '"' {
		c.report(WrongType, at, n.offset, element, "a string is required, not %s", jsonTypes[n.kind])
		return "", false
	}
	return n.text, true
}

// each calls f with each item of a list, or with the value itself if it is not a list.
func each(n *node, at *path, f func(n *node, at *path)) {
	if n.kind != '[' {
		f(n, at)
		return
	}
	for i := range n.items {
		f(&n.items[i], at.item(i))
	}
}

func (c *compiler) document() {
	if len(c.text) > MaxBytes {
		c.report(TooLarge, nil, 0, "", "more than %d bytes", MaxBytes)
		return
	}
	root, err := readJSON(c.text)
	if err != nil {
		c.report(err.kind, nil, err.offset, "", "%s", err.message)
		return
	}
	var statements *node
	var at *path
	c.members(&root, nil, "", func(m *member, place *path) bool {
		switch m.name {
		case "Version":
			version, ok := c.str(&m.value, place, "Version")
			if c.policy.version = version; ok && version != version2008 && version != version2012 {
				c.report(InvalidValue, place, m.value.offset, "Version", "the version is %.100q, not %s or %s", version, version2012, version2008)
			}
		case "Id":
			c.policy.id, _ = c.str(&m.value, place, "Id")
		case "Statement":
			statements, at = &m.value, place
		default:
			return false
		}
		return true
	})
	if root.kind != '{' {
		return
	}
	if c.policy.version == version2012 {
		c.syntax = variables
	}
	switch {
	case statements == nil:
		c.report(MissingElement, nil, root.offset, "Statement", "Statement is missing")
		return
	case statements.kind != '[':
		list := node{kind: '[', offset: statements.offset, items: []node{*statements}}
		statements = &list
	case len(statements.items) == 0:
		c.report(MissingElement, at, statements.offset, "Statement", "there is no statement")
	case len(statements.items) > MaxStatements:
		c.report(TooLarge, at, statements.offset, "Statement", "more than %d statements", MaxStatements)
		return
	}
	for i := range statements.items {
		s := c.statement(&statements.items[i], at.item(i))
		s.index = int32(i)
		if s.effect == Deny {
			c.policy.denies = append(c.policy.denies, s)
		} else {
			c.policy.allows = append(c.policy.allows, s)
		}
	}
	c.policy.asks = asks(c.policy.denies) || asks(c.policy.allows)
}

func (c *compiler) statement(n *node, at *path) statement {
	s := statement{attached: c.policy.kind != ResourcePolicy}
	s.line, s.column = c.position.at(n.offset)
	present := make(map[string]*member)
	c.members(n, at, "Statement", func(m *member, at *path) bool {
		present[m.name] = m
		switch m.name {
		case "Sid":
			c.sid(&m.value, at, &s)
		case "Effect":
			c.effect(&m.value, at, &s)
		case "Principal", "NotPrincipal":
			s.notPrincipal = m.name == "NotPrincipal"
			if s.attached {
				c.report(ForbiddenElement, at, m.offset, m.name, "the policy of an identity has no %s", m.name)
			} else {
				c.principals(&m.value, at, m.name, &s)
			}
		case "Action", "NotAction":
			s.notAction = m.name == "NotAction"
			s.actions = c.patterns(&m.value, at, m.name, wildcards|ignoreCase, validAction)
		case "Resource", "NotResource":
			s.notResource = m.name == "NotResource"
			s.resources = c.patterns(&m.value, at, m.name, wildcards|c.syntax, validResource)
			s.anyResource = !s.notResource && len(s.resources) == 1 && s.resources[0].shape == matchesAll
		case "Condition":
			c.conditions(&m.value, at, &s)
		default:
			return false
		}
		return true
	})
	for i := range s.conditions {
		s.conditions[i].deny = s.effect == Deny
	}
	if n.kind != '{' {
		return s
	}
	if present["Effect"] == nil {
		c.report(MissingElement, at, n.offset, "Effect", "Effect is missing")
	}
	for _, name := range [...]string{"Principal", "Action", "Resource"} {
		element, negation := present[name], present["Not"+name]
		switch {
		case element != nil && negation != nil:
			c.report(ConflictingElements, at, max(element.offset, negation.offset), name, "%s and Not%s exclude each other", name, name)
		case element == nil && negation == nil && (name != "Principal" || !s.attached):
			c.report(MissingElement, at, n.offset, name, "%s is missing", name)
		case name == "Principal" && negation != nil && s.effect == Allow && !s.attached:
			c.report(ConflictingElements, at, negation.offset, "NotPrincipal", "NotPrincipal with Allow would allow everyone else")
		}
	}
	return s
}

func (c *compiler) sid(n *node, at *path, s *statement) {
	sid, ok := c.str(n, at, "Sid")
	if s.sid = sid; !ok || sid == "" || !s.attached {
		return
	}
	if strings.ContainsFunc(sid, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) {
		c.report(InvalidValue, at, n.offset, "Sid", "a Sid in the policy of an identity has only letters and digits")
	}
	if c.sids[sid] {
		c.report(DuplicateElement, at, n.offset, "Sid", "another statement has the Sid %.100q", sid)
	}
	c.sids[sid] = true
}

func (c *compiler) effect(n *node, at *path, s *statement) {
	effect, ok := c.str(n, at, "Effect")
	switch {
	case effect == "Allow":
		s.effect = Allow
	case effect == "Deny":
		s.effect = Deny
	case ok:
		c.report(InvalidValue, at, n.offset, "Effect", "the effect is %.100q, not Allow or Deny", effect)
	}
}

func (c *compiler) principals(n *node, at *path, element string, s *statement) {
	add := func(kind string, n *node, at *path) {
		text, ok := c.str(n, at, element)
		if !ok {
			return
		}
		p, err := ParsePrincipalPattern(kind, text)
		if err != nil {
			c.report(InvalidPrincipal, at, n.offset, element, "%.100q is not a principal of the kind %s", text, kind)
			return
		}
		s.principals = append(s.principals, p)
	}
	if n.kind == '"' {
		if n.text == "*" {
			add("AWS", n, at)
		} else {
			c.report(InvalidPrincipal, at, n.offset, element, "%.100q is not a principal: only \"*\" needs no object", n.text)
		}
		return
	}
	c.members(n, at, element, func(m *member, at *path) bool {
		switch m.name {
		case "AWS", "Service", "Federated", "CanonicalUser":
			each(&m.value, at, func(n *node, at *path) { add(m.name, n, at) })
			return true
		}
		return false
	})
}

// patterns compiles the strings of an element. check returns what is wrong with one, or "".
func (c *compiler) patterns(n *node, at *path, element string, s syntax, check func(string, syntax) string) []pattern {
	var patterns []pattern
	each(n, at, func(n *node, at *path) {
		text, ok := c.str(n, at, element)
		if !ok {
			return
		}
		problem := check(text, s)
		p, err := compilePattern(text, s)
		if err != nil && problem == "" {
			problem = err.Error()
		}
		if problem != "" {
			c.report(InvalidValue, at, n.offset, element, "%s", problem)
		}
		patterns = append(patterns, p)
	})
	return patterns
}

// validAction returns what is wrong with a pattern for actions. It can match a service and a name
// with one colon between them.
func validAction(text string, _ syntax) string {
	valid := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("*?:-_./", r)
	}
	service, name, found := strings.Cut(text, ":")
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return !valid(r) }),
		found && (service == "" || name == "" || strings.Contains(name, ":")),
		!found && !strings.Contains(text, "*"):
		return fmt.Sprintf("%.100q is not an action: a service, a colon and a name", text)
	}
	return ""
}

// validResource returns what is wrong with a pattern for resources. It is a star, or an ARN.
func validResource(text string, s syntax) string {
	if text != "" && strings.Trim(text, "*") == "" || strings.HasPrefix(text, "arn:") || s&variables != 0 && strings.HasPrefix(text, "${") {
		return ""
	}
	return fmt.Sprintf("%.100q is neither an ARN nor \"*\"", text)
}

var errNotARN = errors.New("not an ARN: six parts with colons between them")

func (c *compiler) conditions(n *node, at *path, s *statement) {
	c.members(n, at, "Condition", func(m *member, at *path) bool {
		name := m.name
		operator, ok := parseOperator(name)
		if !ok {
			c.report(UnknownOperator, at, m.offset, "Condition", "%.100q is not a condition operator", m.name)
			return true
		}
		c.members(&m.value, at, "Condition", func(m *member, at *path) bool {
			condition, source := operator, &conditionSource{operator: name, key: m.name}
			condition.key, condition.source, condition.others = lowerASCII(m.name), source, new(others)
			source.line, source.column = c.position.at(m.offset)
			if m.name == "" {
				c.report(InvalidValue, at, m.offset, "Condition", "the condition key is empty")
			}
			each(&m.value, at, func(n *node, at *path) {
				if n.kind != '"' && n.kind != '0' && n.kind != 'b' {
					c.report(WrongType, at, n.offset, "Condition", "a string, a number or a boolean is required, not %s", jsonTypes[n.kind])
					return
				}
				if problem := condition.add(n.text, c.syntax); problem != "" {
					c.report(InvalidValue, at, n.offset, "Condition", "%.100q: %s", n.text, problem)
				}
			})
			condition.finish()
			s.conditions = append(s.conditions, condition)
			return true
		})
		return true
	})
}
