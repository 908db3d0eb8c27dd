package awsapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/shape"
)

// decode decodes body, the JSON of an input, into in, a pointer to a zero struct of s's type. It
// returns the paths of the members that are present and empty, as in [shape.Wire]. The error is a
// SerializationException: without a message for invalid JSON, as at AWS, and otherwise with AWS's.
//
// Names must match exactly. Unknown members are ignored, and null means absent. What could not be
// kept as it was sent is refused: a string that is not Unicode, a name that occurs twice in an
// object, and a null in a map.
func decode(body []byte, s *shape.Struct, in any) (empty map[string]struct{}, err error) {
	switch {
	case !utf8.Valid(body) || !json.Valid(body):
		return nil, badRequest(serialization, "")
	case hasLoneSurrogate(body):
		return nil, badRequest(serialization, "A string contains an unpaired surrogate.")
	}
	d := decoder{data: body}
	switch d.peek() {
	case '{':
		err = d.structure(s, reflect.ValueOf(in).Elem())
	case '[':
		err = badRequest(serialization, listUnexpected)
	default:
		err = badRequest(serialization, "")
	}
	return d.empty, err
}

// hasLoneSurrogate reports whether a string in a valid JSON text has an escape of half a surrogate
// pair. No Unicode string contains it: package json would replace it by U+FFFD.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		first := escapedUnit(text)
		if first < 0 {
			text = text[2:]
			continue
		}
		text = text[6:]
		if !utf16.IsSurrogate(first) {
			continue
		}
		if utf16.DecodeRune(first, escapedUnit(text)) == utf8.RuneError {
			return true
		}
		text = text[6:]
	}
}

// escapedUnit returns the UTF-16 code unit of the \u escape that text begins with, or -1.
func escapedUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// A decoder walks a valid JSON text, so that it needs few checks.
type decoder struct {
	data   []byte
	offset int
	path   []step // to the structure that is being decoded
	empty  map[string]struct{}
}

// A step leads into a structure: into an element of a list, numbered from 1, or with 0 into a
// member.
type step struct {
	member  *shape.Member
	element int
}

// maxEntries bounds the entries of a list or map, which may need many times more memory than their
// JSON. It is more than ten times what any operation accepts.
const maxEntries = 10_000

var errDuplicateName = badRequest(serialization, "A name occurs twice in an object.")

// peek returns the first byte of the next token. In valid JSON, commas and colons carry no
// information for the decoder: it skips them like white space.
func (d *decoder) peek() byte {
	for {
		switch c := d.data[d.offset]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			d.offset++
		default:
			return c
		}
	}
}

// more reports whether another element or member comes before the closing bracket. If not, it skips
// the bracket.
func (d *decoder) more(closing byte) bool {
	if d.peek() == closing {
		d.offset++
		return false
	}
	return true
}

// quoted returns the next token, a string, without its quotes, and reports whether it has escapes.
func (d *decoder) quoted() (raw []byte, escaped bool) {
	start := d.offset + 1
	for i := start; ; i++ {
		switch d.data[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			d.offset = i + 1
			return d.data[start:i], escaped
		}
	}
}

// text returns the next token, a string.
func (d *decoder) text() string {
	start := d.offset
	raw, escaped := d.quoted()
	if !escaped {
		return string(raw)
	}
	var s string
	if json.Unmarshal(d.data[start:d.offset], &s) != nil {
		panic("awsapi: a valid JSON string cannot be read")
	}
	return s
}

// scalar returns the next token: a number, true, false or null.
func (d *decoder) scalar() []byte {
	start := d.offset
	for ; d.offset < len(d.data); d.offset++ {
		switch d.data[d.offset] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return d.data[start:d.offset]
		}
	}
	return d.data[start:]
}

// skip skips a value of any kind.
func (d *decoder) skip() {
	for depth := 0; ; {
		switch d.peek() {
		case '"':
			d.quoted()
		case '{', '[':
			depth++
			d.offset++
		case '}', ']':
			depth--
			d.offset++
		default:
			d.scalar()
		}
		if depth == 0 {
			return
		}
	}
}

func (d *decoder) structure(s *shape.Struct, v reflect.Value) error {
	var seen uint64 // a bit for each member
	d.offset++
	for d.more('}') {
		start := d.offset
		name, escaped := d.quoted()
		if escaped {
			d.offset = start
			name = []byte(d.text())
		}
		m, ok := s.Member(string(name))
		if !ok {
			d.peek()
			d.skip()
			continue
		}
		bit := uint64(1) << m.Index
		if seen&bit != 0 {
			return errDuplicateName
		}
		seen |= bit
		if err := d.member(m, v.Field(m.Index)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) noteEmpty(m *shape.Member) {
	if d.empty == nil {
		d.empty = map[string]struct{}{}
	}
	d.empty[d.pathOf(m)] = struct{}{}
}

func (d *decoder) member(m *shape.Member, f reflect.Value) error {
	c := d.peek()
	if c == 'n' {
		d.skip()
		return nil
	}
	if m.Pointer {
		f.Set(reflect.New(f.Type().Elem()))
		f = f.Elem()
	}
	switch m.Kind {
	case shape.String:
		if c != '"' {
			return d.mismatch("a String")
		}
		text := d.text()
		f.SetString(text)
		if text == "" {
			d.noteEmpty(m)
		}
	case shape.Blob:
		if c != '"' {
			return d.mismatch("a Blob")
		}
		return d.blob(f)
	case shape.Integer:
		return d.integer(f)
	case shape.Boolean:
		if c != 't' && c != 'f' {
			return d.mismatch("a Boolean")
		}
		f.SetBool(c == 't')
		if c == 'f' {
			d.noteEmpty(m)
		}
		d.scalar()
	case shape.Timestamp:
		return d.timestamp(f)
	case shape.StringMap:
		if c != '{' {
			return d.mismatch("map")
		}
		return d.stringMap(f)
	case shape.Structure:
		if c != '{' {
			return d.mismatch("structure")
		}
		return d.nested(step{m, 0}, f)
	case shape.StringList, shape.StructureList:
		if c != '[' {
			return d.mismatch("list")
		}
		return d.list(m, f)
	}
	return nil
}

func (d *decoder) nested(to step, f reflect.Value) error {
	d.path = append(d.path, to)
	err := d.structure(to.member.Nested, f)
	d.path = d.path[:len(d.path)-1]
	return err
}

func (d *decoder) list(m *shape.Member, f reflect.Value) error {
	f.Set(reflect.MakeSlice(f.Type(), 0, 0))
	d.offset++
	for n := 0; d.more(']'); {
		c := d.peek()
		if c == 'n' { // AWS was seen to leave it out of the list
			d.skip()
			continue
		}
		if n == maxEntries {
			return badRequest(serialization, "")
		}
		f.Grow(1)
		f.SetLen(n + 1)
		element := f.Index(n)
		n++
		switch {
		case m.Kind == shape.StringList && c != '"':
			return d.mismatch("a String")
		case m.Kind == shape.StringList:
			element.SetString(d.text())
		case c != '{':
			return d.mismatch("structure")
		default:
			if err := d.nested(step{m, n}, element); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *decoder) stringMap(f reflect.Value) error {
	entries := map[string]string{}
	d.offset++
	for d.more('}') {
		name := d.text()
		if _, ok := entries[name]; ok {
			return errDuplicateName
		}
		if len(entries) == maxEntries {
			return badRequest(serialization, "")
		}
		switch c := d.peek(); {
		case c == '"':
			entries[name] = d.text()
		case c == '-' || isDigit(c): // its literal
			entries[name] = string(d.scalar())
		case c == 'n':
			d.skip()
			entries[name] = "" // which no member accepts: null must not pass for absent
		default:
			return d.mismatch("a String")
		}
	}
	f.Set(reflect.ValueOf(entries))
	return nil
}

var strictBase64 = base64.StdEncoding.Strict()

func (d *decoder) blob(f reflect.Value) error {
	start := d.offset
	raw, escaped := d.quoted()
	if escaped {
		d.offset = start
		raw = []byte(d.text())
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := strictBase64.Decode(b, raw)
	if err != nil || bytes.ContainsAny(raw, "\r\n") { // the decoder ignores these
		return badRequest(serialization, "The value is not valid base64.")
	}
	f.SetBytes(b[:n])
	return nil
}

// integer also accepts fractions, and truncates them, as AWS was seen to do.
func (d *decoder) integer(f reflect.Value) error {
	target := "an Integer"
	if f.Kind() == reflect.Int64 {
		target = "a Long"
	}
	if c := d.peek(); c != '-' && !isDigit(c) {
		return d.mismatch(target)
	}
	digits := string(d.scalar())
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		x, err := strconv.ParseFloat(digits, 64)
		if err != nil || math.Abs(x) >= 1<<63 {
			return badRequest(serialization, "NUMBER_VALUE can not be converted to "+target)
		}
		n = int64(x)
	}
	if f.OverflowInt(n) {
		return badRequest(serialization, "NUMBER_VALUE can not be converted to "+target)
	}
	f.SetInt(n)
	return nil
}

// maxEpoch is the end of the year 9999.
const maxEpoch = 253402300799

// timestamp decodes seconds since 1970, rounded to milliseconds.
func (d *decoder) timestamp(f reflect.Value) error {
	if c := d.peek(); c != '-' && !isDigit(c) {
		return d.mismatch("a Timestamp")
	}
	seconds, err := strconv.ParseFloat(string(d.scalar()), 64)
	if err != nil || math.Abs(seconds) > maxEpoch {
		return badRequest(serialization, "NUMBER_VALUE can not be converted to a Timestamp")
	}
	f.Set(reflect.ValueOf(time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()))
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

const (
	listUnexpected      = "Start of list found where not expected"
	structureUnexpected = "Start of structure or map found where not expected."
)

// mismatch returns the exception for a next value that is not of the expected kind: "list", "map",
// "structure", or a scalar with its article.
func (d *decoder) mismatch(expected string) error {
	var found string
	switch d.peek() {
	case '[':
		return badRequest(serialization, listUnexpected)
	case '{':
		return badRequest(serialization, structureUnexpected)
	case '"':
		found = "STRING_VALUE"
	case 't':
		found = "TRUE_VALUE"
	case 'f':
		found = "FALSE_VALUE"
	case 'n':
		found = "NULL_VALUE"
	default:
		found = "NUMBER_VALUE"
	}
	switch expected {
	case "list", "map":
		return badRequest(serialization, "Expected "+expected+" or null")
	case "structure":
		return badRequest(serialization, "Expected null")
	}
	return badRequest(serialization, found+" can not be converted to "+expected)
}

// pathOf returns the name of a member in messages, such as tags.1.member.tagKey.
func (d *decoder) pathOf(m *shape.Member) string {
	if len(d.path) == 0 {
		return m.Path
	}
	var b strings.Builder
	for _, s := range d.path {
		b.WriteString(s.member.Path + ".")
		if s.element > 0 {
			b.WriteString(strconv.Itoa(s.element) + ".member.")
		}
	}
	return b.String() + m.Path
}
