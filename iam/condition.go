package iam

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// An operator is a condition operator without its prefix and suffix. It holds for a value of the
// request if the comparison is true for any value of the policy, or, if negated, for none.
type operator struct {
	compare comparison
	negated bool
	accepts orders // of numbers and dates: how the request compares with the policy
}

type comparison uint8

const (
	compareNull comparison = iota + 1
	compareStrings
	compareStringsIgnoringCase
	comparePatterns
	compareNumbers
	compareDates
	compareBools
	compareBinary
	compareAddresses
	compareARNs
)

// orders is a set of results of a comparison.
type orders uint8

const (
	less orders = 1 << iota
	equal
	greater
)

// has reports whether the set has a result: negative, zero or positive.
func (o orders) has(order int) bool { return o>>(order+1)&1 != 0 }

// operators has all operators. IfExists can be added to each except Null.
var operators = map[string]operator{
	"Null": {compare: compareNull},

	"StringEquals":              {compare: compareStrings},
	"StringNotEquals":           {compare: compareStrings, negated: true},
	"StringEqualsIgnoreCase":    {compare: compareStringsIgnoringCase},
	"StringNotEqualsIgnoreCase": {compare: compareStringsIgnoringCase, negated: true},
	"StringLike":                {compare: comparePatterns},
	"StringNotLike":             {compare: comparePatterns, negated: true},

	"NumericEquals":            {compare: compareNumbers, accepts: equal},
	"NumericNotEquals":         {compare: compareNumbers, accepts: equal, negated: true},
	"NumericLessThan":          {compare: compareNumbers, accepts: less},
	"NumericLessThanEquals":    {compare: compareNumbers, accepts: less | equal},
	"NumericGreaterThan":       {compare: compareNumbers, accepts: greater},
	"NumericGreaterThanEquals": {compare: compareNumbers, accepts: greater | equal},

	"DateEquals":            {compare: compareDates, accepts: equal},
	"DateNotEquals":         {compare: compareDates, accepts: equal, negated: true},
	"DateLessThan":          {compare: compareDates, accepts: less},
	"DateLessThanEquals":    {compare: compareDates, accepts: less | equal},
	"DateGreaterThan":       {compare: compareDates, accepts: greater},
	"DateGreaterThanEquals": {compare: compareDates, accepts: greater | equal},

	"Bool":         {compare: compareBools},
	"BinaryEquals": {compare: compareBinary},

	"IpAddress":    {compare: compareAddresses},
	"NotIpAddress": {compare: compareAddresses, negated: true},

	"ArnEquals":    {compare: compareARNs},
	"ArnLike":      {compare: compareARNs},
	"ArnNotEquals": {compare: compareARNs, negated: true},
	"ArnNotLike":   {compare: compareARNs, negated: true},
}

// A quantifier says for how many values of a multivalued key an operator must hold.
type quantifier uint8

const (
	single quantifier = iota // no prefix
	forAll
	forAny
)

// A condition is one key of one operator of a Condition element. It has the values of the policy in
// the one form that its operator compares.
type condition struct {
	operator
	quantifier quantifier
	ifExists   bool
	deny       bool     // of a statement that denies
	key        string   // as Context gets it
	fixed      []string // texts without wildcards and variables
	*others

	source *conditionSource
}

// others has values that are not fixed texts. set has the fixed texts if there are many.
type others struct {
	set       map[string]struct{}
	patterns  []pattern
	numbers   []number
	dates     []instant
	bools     []bool
	addresses []addressRange
	arns      []arnPattern
}

// A conditionSource is what is in the policy.
type conditionSource struct {
	operator, key string
	texts         []string
	variables     bool // texts may have variables
	line, column  int
}

// parseOperator parses the name of an operator with its prefix and suffix.
func parseOperator(name string) (c condition, ok bool) {
	whole := name
	if rest, found := strings.CutPrefix(name, "ForAllValues:"); found {
		c.quantifier, name = forAll, rest
	} else if rest, found := strings.CutPrefix(name, "ForAnyValue:"); found {
		c.quantifier, name = forAny, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	c.operator, ok = operators[name]
	return c, ok && (c.compare != compareNull || name == whole)
}

// add compiles a value, with variables if s has them. It returns what is wrong with it, or "".
func (c *condition) add(text string, s syntax) (problem string) {
	c.source.texts = append(c.source.texts, text)
	switch c.compare {
	case compareStrings, compareStringsIgnoringCase, comparePatterns:
		c.source.variables = s != 0
		if c.compare == comparePatterns {
			s |= wildcards
		}
		p, err := compilePattern(text, s)
		if err != nil {
			return err.Error()
		}
		if p.shape == exact {
			c.fixed = append(c.fixed, p.fixed)
		} else {
			c.patterns = append(c.patterns, p)
		}
	case compareARNs:
		c.source.variables = s != 0
		a, err := compileARN(text, s)
		if err != nil {
			return err.Error()
		}
		c.arns = append(c.arns, a)
	case compareNumbers:
		n, ok := parseNumber(text)
		if !ok {
			return "not a number"
		}
		c.numbers = append(c.numbers, n)
	case compareDates:
		t, ok := parseInstant(text)
		if !ok {
			return "not a date in ISO 8601 or in seconds since 1970"
		}
		c.dates = append(c.dates, t)
	case compareBools, compareNull:
		is := strings.EqualFold(text, "true")
		if !is && !strings.EqualFold(text, "false") {
			return "neither true nor false"
		}
		c.bools = append(c.bools, is)
	case compareBinary:
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return "not in base64"
		}
		c.fixed = append(c.fixed, text)
	case compareAddresses:
		p, ok := parsePrefix(text)
		if !ok {
			return "not an IP address or a range in CIDR notation"
		}
		c.addresses = append(c.addresses, rangeOf(p))
	}
	return ""
}

// finish is called after the last value.
func (c *condition) finish() {
	const many = 12 // from here on a map is faster
	if c.compare == compareStringsIgnoringCase || len(c.fixed) < many {
		return
	}
	c.set = make(map[string]struct{})
	for _, text := range c.fixed {
		c.set[text] = struct{}{}
	}
	c.fixed = nil
}

// parsePrefix parses an address or a range, in which the bits behind the prefix do not count. IPv4
// addresses in IPv6 form are IPv4 addresses.
func parsePrefix(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p, true
}

// An address is an IPv6 address in two halves, or an IPv4 address in its IPv6 form.
type address struct{ high, low uint64 }

func addressOf(a netip.Addr) address {
	bytes := a.As16()
	return address{binary.BigEndian.Uint64(bytes[:8]), binary.BigEndian.Uint64(bytes[8:])}
}

func (a address) is4() bool { return a.high == 0 && a.low>>32 == 0xffff }

// An addressRange has the addresses of one family that begin with the same bits.
type addressRange struct {
	first, mask address
	is4         bool
}

func rangeOf(p netip.Prefix) addressRange {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	mask := address{^uint64(0) << max(64-bits, 0), ^uint64(0) << min(128-bits, 64)}
	first := addressOf(p.Masked().Addr())
	return addressRange{first, mask, p.Addr().Is4()}
}

func (r *addressRange) contains(a address) bool {
	return a.high&r.mask.high == r.first.high && a.low&r.mask.low == r.first.low && a.is4() == r.is4
}

// holds reports whether the condition holds for a request.
func (c *condition) holds(keys *keys) bool {
	v := keys.value(c.key)
	return c.holdsFor(&v, keys)
}

func (c *condition) holdsFor(v *Value, keys *keys) bool {
	switch {
	case c.compare == compareNull:
		return slices.Contains(c.bools, v.kind == absentValue)
	case v.kind == absentValue:
		return c.ifExists || c.quantifier == forAll || c.quantifier == single && c.negated
	case v.kind == ambiguousValue:
		return c.holdsForEach(v.list, !c.deny, keys)
	case v.kind != listValue:
		return c.compareWith(v, keys) != c.negated
	case c.quantifier == single:
		return false
	}
	return c.holdsForEach(v.list, c.quantifier == forAll, keys)
}

// holdsForEach reports whether the operator holds for all of the texts, or for any.
func (c *condition) holdsForEach(texts []string, all bool, keys *keys) bool {
	for _, text := range texts {
		one := Value{kind: stringValue, text: text}
		if held := c.compareWith(&one, keys) != c.negated; held != all {
			return held
		}
	}
	return all
}

// compareWith reports whether a single value compares with any value of the policy.
func (c *condition) compareWith(v *Value, keys *keys) bool {
	switch c.compare {
	case compareStrings, comparePatterns, compareBinary:
		text := v.str()
		for _, expected := range c.fixed {
			if text == expected {
				return true
			}
		}
		if _, ok := c.set[text]; ok {
			return true
		}
		for i := range c.patterns {
			if ok, _ := c.patterns[i].match(text, keys); ok {
				return true
			}
		}
	case compareStringsIgnoringCase:
		text := v.str()
		for _, expected := range c.fixed {
			if strings.EqualFold(text, expected) {
				return true
			}
		}
		for i := range c.patterns {
			if expected, ok := c.patterns[i].expand(keys); ok && strings.EqualFold(text, expected) {
				return true
			}
		}
	case compareARNs:
		text := v.str()
		for i := range c.arns {
			if c.arns[i].match(text, keys) {
				return true
			}
		}
	case compareNumbers:
		if n, ok := v.number(); ok {
			for _, expected := range c.numbers {
				if c.accepts.has(n.compare(expected)) {
					return true
				}
			}
		}
	case compareDates:
		if t, ok := v.instant(); ok {
			for _, expected := range c.dates {
				if c.accepts.has(t.compare(expected)) {
					return true
				}
			}
		}
	case compareBools:
		is := v.bool()
		for _, expected := range c.bools {
			if is == expected {
				return true
			}
		}
	case compareAddresses:
		if a, ok := v.ip(); ok {
			for i := range c.addresses {
				if c.addresses[i].contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// An arnPattern is an ARN whose six parts are compared one by one, so that no wildcard matches a
// colon, except in the last.
type arnPattern struct {
	parts [6]pattern
	whole *pattern // if variables decide where the colons are
}

// compileARN compiles an ARN. Its colons are those outside of variables.
func compileARN(text string, s syntax) (a arnPattern, err error) {
	var texts [6]string
	n, start := 0, 0
	for i := 0; i < len(text) && n < 5; i++ {
		if s&variables != 0 && strings.HasPrefix(text[i:], "${") {
			_, length, err := parseVariable(text[i:])
			if err != nil {
				return a, err
			}
			i += length - 1
		} else if text[i] == ':' {
			texts[n] = text[start:i]
			start = i + 1
			n++
		}
	}
	if texts[n] = text[start:]; n < 5 {
		p, err := compilePattern(text, s)
		switch {
		case err != nil:
			return a, err
		case p.shape != general || len(p.vars) == 0 || strings.ContainsAny(text, "*?"):
			return a, errNotARN
		}
		a.whole = &p
		return a, nil
	}
	for i := range texts {
		if a.parts[i], err = compilePattern(texts[i], s|wildcards); err != nil {
			return a, err
		}
	}
	if p := &a.parts[0]; p.shape == exact && p.fixed != "arn" {
		return a, errNotARN
	}
	return a, nil
}

func (a *arnPattern) match(text string, keys *keys) bool {
	parts, ok := splitARN(text)
	if !ok || parts[0] != "arn" {
		return false
	}
	if a.whole != nil {
		matched, _ := a.whole.match(text, keys)
		return matched
	}
	for i := range parts {
		if matched, _ := a.parts[i].match(parts[i], keys); !matched {
			return false
		}
	}
	return true
}
