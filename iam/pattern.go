package iam

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// A pattern is a text of a policy with its wildcards and variables: * stands for any characters, ?
// for one character, ${key} for the value of a condition key.
//
// A pattern is split at its stars. The first and the last part are compared with the two ends of
// the text, and each part between is searched for once, from where the one before it was found: the
// first place is always good enough, so that there is no backtracking. A search is linear in the
// length of the text, too: what has a ? is limited to what one pass finds.
type pattern struct {
	fixed string // if exact, the text; if prefix, what is before the star
	shape shape
	fold  bool   // the case of ASCII letters does not matter
	*wild        // if general
	text  string // as in the policy
}

// wild is what only a pattern with more than a star at its end has.
type wild struct {
	parts []part   // between the stars
	vars  []varRef // as in the pieces
}

type shape uint8

const (
	general    shape = iota
	exact            // no wildcard, no variable
	prefix           // one star, at the end
	matchesAll       // only a star
)

// A part is what is between two stars.
type part struct {
	pieces []piece
	search *runeSearch // for a part that is searched for and has a ?
}

// A piece is a fixed text, a variable, or a number of characters. Only one of the three is set.
type piece struct {
	fixed    string
	skip     int // characters: the number of successive ?
	variable int // 1 + index in vars
}

// A varRef is a policy variable: ${key} or ${key, 'fallback'}.
type varRef struct {
	key         string // as Context gets it
	text        string // as in the policy
	fallback    string
	hasFallback bool
}

// syntax says what is special in a pattern.
type syntax uint8

const (
	wildcards syntax = 1 << iota // * and ?
	variables                    // ${...}
	ignoreCase
)

const (
	maxVariables  = 16 // in a pattern
	maxSearchable = 64 // characters of a part for which a runeSearch is needed
)

// compilePattern compiles a text. An error is about a variable, or a limit.
func compilePattern(text string, s syntax) (pattern, error) {
	p := pattern{text: text, fold: s&ignoreCase != 0}
	if s&variables == 0 || !strings.Contains(text, "${") {
		stars := 0
		if s&wildcards != 0 {
			stars = strings.Count(text, "*")
			if strings.Contains(text, "?") {
				stars = -1
			}
		}
		switch {
		case stars == 0:
			p.shape, p.fixed = exact, text
			return p, nil
		case stars > 0 && strings.Trim(text, "*") == "":
			p.shape = matchesAll
			return p, nil
		case stars == 1 && strings.HasSuffix(text, "*"):
			p.shape, p.fixed = prefix, text[:len(text)-1]
			return p, nil
		}
	}
	p.wild = new(wild)
	var current part
	var fixed strings.Builder
	flush := func() {
		if fixed.Len() > 0 {
			current.pieces = append(current.pieces, piece{fixed: fixed.String()})
			fixed.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*' && s&wildcards != 0:
			flush()
			if len(p.parts) == 0 || len(current.pieces) > 0 { // else another star
				p.parts = append(p.parts, current)
			}
			current = part{}
		case c == '?' && s&wildcards != 0:
			flush()
			if n := len(current.pieces); n > 0 && current.pieces[n-1].skip > 0 {
				current.pieces[n-1].skip++
			} else {
				current.pieces = append(current.pieces, piece{skip: 1})
			}
		case s&variables != 0 && strings.HasPrefix(text[i:], "${"):
			v, length, err := parseVariable(text[i:])
			if err != nil {
				return p, err
			}
			i += length - 1
			if v.key == "" { // an escape
				fixed.WriteString(v.fallback)
				continue
			}
			flush()
			if p.vars = append(p.vars, v); len(p.vars) > maxVariables {
				return p, fmt.Errorf("more than %d variables in one value", maxVariables)
			}
			current.pieces = append(current.pieces, piece{variable: len(p.vars)})
		default:
			fixed.WriteByte(c)
		}
	}
	flush()
	if p.parts = append(p.parts, current); len(p.parts) == 1 && len(p.vars) == 0 && len(current.pieces) == 1 && current.pieces[0].skip == 0 {
		p.shape, p.fixed, p.wild = exact, current.pieces[0].fixed, nil // only escapes
		return p, nil
	}
	for i := 1; i < len(p.parts)-1; i++ {
		if err := p.parts[i].prepare(p.fold); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parseVariable parses the variable or the escape at the beginning of s. It returns its length.
// An escape has no key; its character is the fallback.
func parseVariable(s string) (v varRef, length int, err error) {
	body := s[2:]
	if len(body) > 1 && strings.IndexByte("*?$", body[0]) >= 0 && body[1] == '}' {
		return varRef{fallback: body[:1]}, 4, nil
	}
	end := strings.IndexAny(body, "},")
	if end < 0 {
		return v, 0, fmt.Errorf("the variable %.100q has no end", s)
	}
	v.key = lowerASCII(strings.Trim(body[:end], " "))
	if v.key == "" || strings.ContainsAny(v.key, "*?${'\"") {
		return v, 0, fmt.Errorf("%.100q is not a variable", s[:2+end])
	}
	if body[end] == ',' {
		rest := strings.TrimLeft(body[end+1:], " ")
		if !strings.HasPrefix(rest, "'") {
			return v, 0, fmt.Errorf("the default of the variable %.100q is not in single quotation marks", s)
		}
		value, after, ok := strings.Cut(rest[1:], "'")
		after = strings.TrimLeft(after, " ")
		if !ok || !strings.HasPrefix(after, "}") {
			return v, 0, fmt.Errorf("the variable %.100q has no end", s)
		}
		v.fallback, v.hasFallback = value, true
		end = len(body) - len(after)
	}
	v.text = s[:2+end+1]
	return v, len(v.text), nil
}

// lowerASCII returns s with the letters A to Z in lower case.
func lowerASCII(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// prepare compiles the search of a part between two stars.
func (p *part) prepare(fold bool) error {
	length, skipped, variable := 0, 0, false
	for i := range p.pieces {
		skipped += p.pieces[i].skip
		length += p.pieces[i].skip + utf8.RuneCountInString(p.pieces[i].fixed)
		variable = variable || p.pieces[i].variable > 0
	}
	switch {
	case skipped == 0 && (variable || !fold):
		return nil // the comparison of texts is fast enough
	case variable && skipped > maxSearchable, !variable && length > maxSearchable:
		return fmt.Errorf("more than %d characters between two stars", maxSearchable)
	case !variable:
		p.search = newRuneSearch(p.pieces, length, fold)
	}
	return nil
}

// resolve returns the text of a variable. A variable without a value or a default does not resolve,
// and a multivalued or ambiguous key never does.
func (v *varRef) resolve(keys *keys) (string, bool) {
	value := keys.value(v.key)
	switch {
	case value.kind == listValue, value.kind == ambiguousValue:
		return "", false
	case value.kind != absentValue:
		return value.str(), true
	}
	return v.fallback, v.hasFallback
}

// match reports whether the pattern matches the whole text. It is false if a variable does not
// resolve; then resolved is false, too.
func (p *pattern) match(text string, keys *keys) (matched, resolved bool) {
	switch {
	case p.shape != general:
		return p.matchFixed(text), true
	case len(p.vars) == 0:
		return p.matchParts(text), true
	}
	return p.matchVariables(text, keys)
}

// matchFixed is match for a pattern that is not general.
func (p *pattern) matchFixed(text string) bool {
	n := len(p.fixed)
	switch {
	case p.shape == matchesAll:
		return true
	case len(text) < n, len(text) > n && p.shape == exact:
		return false
	}
	return text[:n] == p.fixed || p.fold && equalFold(text[:n], p.fixed)
}

func (p *pattern) matchParts(text string) bool {
	m := matcher{fold: p.fold}
	return m.match(p.parts, text)
}

func (p *pattern) matchVariables(text string, keys *keys) (matched, resolved bool) {
	var array [maxVariables]string
	values := array[:0]
	for i := range p.vars {
		value, ok := p.vars[i].resolve(keys)
		if !ok {
			return false, false
		}
		values = append(values, value)
	}
	m := matcher{values, p.fold}
	return m.match(p.parts, text), true
}

// A matcher compares parts, with the texts of the variables.
type matcher struct {
	values []string
	fold   bool
}

func (m *matcher) match(parts []part, text string) bool {
	end := m.prefix(parts[0].pieces, text)
	if len(parts) == 1 || end < 0 {
		return end == len(text)
	}
	text = text[end:]
	for i := range parts[1 : len(parts)-1] {
		if end = m.find(&parts[1+i], text); end < 0 {
			return false
		}
		text = text[end:]
	}
	return m.suffix(parts[len(parts)-1].pieces, text)
}

func (m *matcher) textOf(p *piece) string {
	if p.variable > 0 {
		return m.values[p.variable-1]
	}
	return p.fixed
}

// equal compares two texts of one length.
func (m *matcher) equal(a, b string) bool {
	return a == b || m.fold && equalFold(a, b)
}

// prefix returns the end of the pieces at the beginning of text, or -1.
func (m *matcher) prefix(pieces []piece, text string) (end int) {
	for i := range pieces {
		if n := pieces[i].skip; n > 0 {
			for ; n > 0; n-- {
				_, size := utf8.DecodeRuneInString(text[end:])
				if size == 0 {
					return -1
				}
				end += size
			}
			continue
		}
		s := m.textOf(&pieces[i])
		if len(text)-end < len(s) || !m.equal(text[end:end+len(s)], s) {
			return -1
		}
		end += len(s)
	}
	return end
}

// suffix reports whether text ends with the pieces.
func (m *matcher) suffix(pieces []piece, text string) bool {
	for i := range pieces {
		p := &pieces[len(pieces)-1-i]
		if n := p.skip; n > 0 {
			for ; n > 0; n-- {
				_, size := utf8.DecodeLastRuneInString(text)
				if size == 0 {
					return false
				}
				text = text[:len(text)-size]
			}
			continue
		}
		s := m.textOf(p)
		start := len(text) - len(s)
		if start < 0 || !m.equal(text[start:], s) {
			return false
		}
		text = text[:start]
	}
	return true
}

// find returns the end of the first occurrence of a part in text, or -1.
func (m *matcher) find(p *part, text string) int {
	if p.search != nil {
		return p.search.find(text)
	}
	if len(p.pieces) == 1 {
		s := m.textOf(&p.pieces[0])
		if i := strings.Index(text, s); i >= 0 {
			return i + len(s)
		}
		return -1
	}
	for start := 0; ; { // variables
		if end := m.prefix(p.pieces, text[start:]); end >= 0 {
			return start + end
		}
		_, size := utf8.DecodeRuneInString(text[start:])
		if size == 0 {
			return -1
		}
		start += size
	}
}

// equalFold reports whether two texts of one length differ at most in the case of ASCII letters.
func equalFold(a, b string) bool {
	b = b[:len(a)]
	for i := range len(a) {
		if c, d := a[i], b[i]; c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// A runeSearch finds up to 64 characters, some of which may be any, in one pass: bit i of its state
// says whether the text up to here ends with the first i+1 of them (the shift-and algorithm).
type runeSearch struct {
	runes []rune               // the characters that are fixed, sorted
	masks []uint64             // where any character fits, and where each of runes does
	ascii [utf8.RuneSelf]uint8 // the index in masks of each of these characters
	last  uint64
}

const notRune rune = -1 // a byte that is not valid UTF-8

func newRuneSearch(pieces []piece, length int, fold bool) *runeSearch {
	s := &runeSearch{last: 1 << (length - 1)}
	at := map[rune]uint64{}
	var anywhere uint64
	position := 0
	for _, p := range pieces {
		for range p.skip {
			anywhere |= 1 << position
			position++
		}
		for _, r := range p.fixed {
			at[r] |= 1 << position
			if lower := r | 0x20; fold && lower >= 'a' && lower <= 'z' {
				at[r^0x20] |= 1 << position
			}
			position++
		}
	}
	s.runes = slices.Sorted(maps.Keys(at))
	s.masks = append(s.masks, anywhere)
	for i, r := range s.runes {
		s.masks = append(s.masks, at[r]|anywhere)
		if r < utf8.RuneSelf {
			s.ascii[r] = uint8(1 + i)
		}
	}
	return s
}

// mask returns where a character fits.
func (s *runeSearch) mask(r rune) uint64 {
	if i, ok := slices.BinarySearch(s.runes, r); ok {
		return s.masks[1+i]
	}
	return s.masks[0]
}

// find returns the end of the first occurrence in text, or -1.
func (s *runeSearch) find(text string) int {
	var state uint64
	for i := 0; i < len(text); {
		var mask uint64
		if c := text[i]; c < utf8.RuneSelf {
			mask = s.masks[s.ascii[c]]
			i++
		} else {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				r = notRune
			}
			mask = s.mask(r)
			i += size
		}
		if state = (state<<1 | 1) & mask; state&s.last != 0 {
			return i
		}
	}
	return -1
}

// expand returns the text of a pattern without wildcards, with its variables resolved.
func (p *pattern) expand(keys *keys) (text string, ok bool) {
	if p.shape == exact {
		return p.fixed, true
	}
	var b strings.Builder
	for i := range p.parts[0].pieces {
		piece := &p.parts[0].pieces[i]
		value := piece.fixed
		if piece.variable > 0 {
			if value, ok = p.vars[piece.variable-1].resolve(keys); !ok {
				return "", false
			}
		}
		b.WriteString(value)
	}
	return b.String(), true
}
