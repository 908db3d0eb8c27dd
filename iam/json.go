package iam

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A node is a JSON value with its place in the text. encoding/json is not used, because it gives
// objects no positions, accepts duplicate names, and replaces what is not valid UTF-8.
type node struct {
	kind    byte   // '{', '[', '"', '0' for a number, 'b' for a boolean, 'n' for null
	offset  int    // where it begins
	text    string // the string; the number, true or false as written
	members []member
	items   []node
}

type member struct {
	name   string
	offset int // of the name
	value  node
}

var jsonTypes = map[byte]string{'{': "an object", '[': "a list", '"': "a string", '0': "a number", 'b': "a boolean", 'n': "null"}

const (
	maxDepth = 16    // a policy needs 7
	maxNodes = 20000 // values in a document
)

// A jsonError is why a text is not JSON, or exceeds a limit. Reading ends with the first.
type jsonError struct {
	kind    ProblemKind
	offset  int
	message string
}

func (e *jsonError) Error() string { return e.message }

type jsonReader struct {
	text   string
	offset int
	depth  int
	nodes  int
}

// readJSON reads the only value of a text.
func readJSON(text string) (node, *jsonError) {
	r := &jsonReader{text: text}
	n, err := r.value()
	if err != nil {
		return node{}, err
	}
	if r.skipSpace(); r.offset < len(text) {
		return node{}, r.fail("more text after the end of the policy")
	}
	return n, nil
}

func (r *jsonReader) fail(message string) *jsonError {
	return &jsonError{NotJSON, r.offset, message}
}

func (r *jsonReader) skipSpace() {
	for r.offset < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.offset]) >= 0 {
		r.offset++
	}
}

// next skips white space and returns the next byte, or 0 at the end.
func (r *jsonReader) next() byte {
	if r.skipSpace(); r.offset == len(r.text) {
		return 0
	}
	return r.text[r.offset]
}

func (r *jsonReader) value() (node, *jsonError) {
	c := r.next()
	n := node{kind: c, offset: r.offset}
	if r.nodes++; r.nodes > maxNodes {
		return n, &jsonError{TooLarge, r.offset, fmt.Sprintf("more than %d values", maxNodes)}
	}
	var err *jsonError
	switch {
	case c == '{' || c == '[':
		if r.depth++; r.depth > maxDepth {
			return n, &jsonError{TooLarge, r.offset, fmt.Sprintf("nested more than %d deep", maxDepth)}
		}
		r.offset++
		if c == '{' {
			n.members, err = r.members()
		} else {
			n.items, err = r.list()
		}
		r.depth--
		return n, err
	case c == '"':
		n.text, err = r.str()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		n.kind = '0'
		n.text, err = r.number()
		return n, err
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(r.text[r.offset:], word) {
			r.offset += len(word)
			n.text, n.kind = word, 'b'
			if word == "null" {
				n.kind = 'n'
			}
			return n, nil
		}
	}
	return n, r.fail("expected a JSON value")
}

// members reads the members of an object, after its bracket.
func (r *jsonReader) members() (members []member, err *jsonError) {
	if r.next() == '}' {
		r.offset++
		return nil, nil
	}
	for {
		if r.next() != '"' {
			return nil, r.fail("expected a name in quotation marks")
		}
		m := member{offset: r.offset}
		if m.name, err = r.str(); err != nil {
			return nil, err
		}
		if r.next() != ':' {
			return nil, r.fail("expected ':' after a name")
		}
		r.offset++
		if m.value, err = r.value(); err != nil {
			return nil, err
		}
		members = append(members, m)
		switch r.next() {
		case ',':
			r.offset++
		case '}':
			r.offset++
			return members, nil
		default:
			return nil, r.fail("expected ',' or '}' in an object")
		}
	}
}

// list reads the items of a list, after its bracket.
func (r *jsonReader) list() (items []node, err *jsonError) {
	if r.next() == ']' {
		r.offset++
		return nil, nil
	}
	for {
		n, err := r.value()
		if err != nil {
			return nil, err
		}
		items = append(items, n)
		switch r.next() {
		case ',':
			r.offset++
		case ']':
			r.offset++
			return items, nil
		default:
			return nil, r.fail("expected ',' or ']' in a list")
		}
	}
}

func (r *jsonReader) number() (string, *jsonError) {
	start := r.offset
	digits := func() bool {
		from := r.offset
		for r.offset < len(r.text) && r.text[r.offset] >= '0' && r.text[r.offset] <= '9' {
			r.offset++
		}
		return r.offset > from
	}
	accept := func(set string) bool {
		ok := r.offset < len(r.text) && strings.IndexByte(set, r.text[r.offset]) >= 0
		if ok {
			r.offset++
		}
		return ok
	}
	accept("-")
	ok := accept("0") || digits()
	if ok && accept(".") {
		ok = digits()
	}
	if ok && accept("eE") {
		accept("+-")
		ok = digits()
	}
	if !ok {
		return "", r.fail("expected a digit")
	}
	return r.text[start:r.offset], nil
}

// str reads a string, from its opening quotation mark.
func (r *jsonReader) str() (string, *jsonError) {
	r.offset++
	start := r.offset
	var decoded []byte // used from the first escape on
	for escaped := false; ; {
		if r.offset == len(r.text) {
			return "", r.fail("a string has no end")
		}
		c := r.text[r.offset]
		switch {
		case c == '"':
			s := r.text[start:r.offset]
			if escaped {
				s = string(append(decoded, s...))
			}
			r.offset++
			return s, nil
		case c < ' ':
			return "", r.fail("a control character in a string")
		case c == '\\':
			decoded = append(decoded, r.text[start:r.offset]...)
			char, ok := r.escape()
			if !ok {
				return "", r.fail("an invalid escape in a string")
			}
			decoded = utf8.AppendRune(decoded, char)
			start, escaped = r.offset, true
		case c < utf8.RuneSelf:
			r.offset++
		default:
			char, size := utf8.DecodeRuneInString(r.text[r.offset:])
			if char == utf8.RuneError && size == 1 {
				return "", r.fail("a string that is not valid UTF-8")
			}
			r.offset += size
		}
	}
}

// escape reads an escape, from its backslash. A surrogate without its partner is no character.
func (r *jsonReader) escape() (rune, bool) {
	rest := r.text[r.offset+1:]
	if rest == "" {
		return 0, false
	}
	if rest[0] != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, rest[0])
		if i < 0 {
			return 0, false
		}
		r.offset += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	char, ok := hex4(rest[1:])
	if !ok {
		return 0, false
	}
	r.offset += 6
	if utf16.IsSurrogate(char) {
		low, ok := rune(0), strings.HasPrefix(r.text[r.offset:], `\u`)
		if ok {
			low, ok = hex4(r.text[r.offset+2:])
		}
		if char = utf16.DecodeRune(char, low); !ok || char == utf8.RuneError {
			return 0, false
		}
		r.offset += 6
	}
	return char, true
}

func hex4(s string) (rune, bool) {
	n, err := strconv.ParseUint(s[:min(4, len(s))], 16, 16)
	return rune(n), err == nil && len(s) >= 4
}
