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
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/shape"
)

// decode reads body, the JSON of an input, into in, a pointer to a struct of s's type. It returns the paths of the
// string members that are there and empty. Its error is a SerializationException: without a message for what is not JSON,
// as the API has it, and otherwise with the API's.
//
// Members are found by their exact names; unknown ones are ignored, null is as good as absent, and of a member that comes
// twice the last one counts.
func decode(body []byte, s *shape.Struct, in any) (empty map[string]struct{}, err error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, refuse(serialization, "")
	}
	d := decoder{data: body}
	switch d.peek() {
	case '{':
		err = d.structure(s, reflect.ValueOf(in).Elem())
	case '[':
		err = refuse(serialization, listUnexpected)
	default:
		err = refuse(serialization, "")
	}
	return d.empty, err
}

// A decoder walks a JSON text that is known to be valid, which spares it nearly every check.
type decoder struct {
	data  []byte
	at    int
	path  []step              // to the structure that is being read
	empty map[string]struct{} // as a set, so that repeating a member adds nothing
}

// A step leads into a structure: the element of that number of a list, from 1, or with 0 a single one.
type step struct {
	member  *shape.Member
	element int
}

// maxEntries bounds the entries of one list or map. No operation takes a tenth of it; but an entry may need many times
// more memory than its JSON.
const maxEntries = 10_000

// peek returns the first byte of the next token. In valid JSON commas and colons say nothing that the decoder does not
// know: they pass as white space.
func (d *decoder) peek() byte {
	for {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			d.at++
		default:
			return c
		}
	}
}

// more tells whether another element or member comes before the closing bracket, which it steps over otherwise.
func (d *decoder) more(closing byte) bool {
	if d.peek() == closing {
		d.at++
		return false
	}
	return true
}

// quoted returns the string that comes next without its quotes, and whether it has escapes in it.
func (d *decoder) quoted() (raw []byte, escaped bool) {
	start := d.at + 1
	for i := start; ; i++ {
		switch d.data[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			d.at = i + 1
			return d.data[start:i], escaped
		}
	}
}

func (d *decoder) text() string {
	start := d.at
	raw, escaped := d.quoted()
	if !escaped {
		return string(raw)
	}
	var s string
	if json.Unmarshal(d.data[start:d.at], &s) != nil {
		panic("awsapi: a valid JSON string cannot be read")
	}
	return s
}

// scalar returns the number, true, false or null that comes next.
func (d *decoder) scalar() []byte {
	start := d.at
	for ; d.at < len(d.data); d.at++ {
		switch d.data[d.at] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return d.data[start:d.at]
		}
	}
	return d.data[start:]
}

// skip steps over one value of any kind.
func (d *decoder) skip() {
	for depth := 0; ; {
		switch d.peek() {
		case '"':
			d.quoted()
		case '{', '[':
			depth++
			d.at++
		case '}', ']':
			depth--
			d.at++
		default:
			d.scalar()
		}
		if depth == 0 {
			return
		}
	}
}

func (d *decoder) structure(s *shape.Struct, v reflect.Value) error {
	d.at++
	for d.more('}') {
		start := d.at
		name, escaped := d.quoted()
		if escaped {
			d.at = start
			name = []byte(d.text())
		}
		m, ok := s.Member(string(name))
		if !ok {
			d.peek()
			d.skip()
			continue
		}
		if err := d.member(m, v.Field(m.Index)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) member(m *shape.Member, f reflect.Value) error {
	f.SetZero()
	c := d.peek()
	if c == 'n' {
		d.skip()
		d.forget(m)
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
			if d.empty == nil {
				d.empty = map[string]struct{}{}
			}
			d.empty[d.pathOf(m)] = struct{}{}
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

// forget undoes what an earlier member of the same name has left in empty. Where the later one is not empty that does not
// matter: nobody looks.
func (d *decoder) forget(m *shape.Member) {
	if len(d.empty) > 0 && m.Kind == shape.String {
		delete(d.empty, d.pathOf(m))
	}
}

func (d *decoder) nested(to step, f reflect.Value) error {
	d.path = append(d.path, to)
	for i := range to.member.Nested.Members {
		d.forget(&to.member.Nested.Members[i]) // of an earlier structure in this place
	}
	err := d.structure(to.member.Nested, f)
	d.path = d.path[:len(d.path)-1]
	return err
}

func (d *decoder) list(m *shape.Member, f reflect.Value) error {
	f.Set(reflect.MakeSlice(f.Type(), 0, 0))
	d.at++
	for n := 0; d.more(']'); {
		c := d.peek()
		if c == 'n' { // observed: left out of the list
			d.skip()
			continue
		}
		if n == maxEntries {
			return refuse(serialization, "")
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
	d.at++
	for d.more('}') {
		key := d.text()
		switch c := d.peek(); {
		case c == '"':
			entries[key] = d.text()
		case c == '-' || isDigit(c): // as it is written
			entries[key] = string(d.scalar())
		case c == 'n':
			d.skip()
			entries[key] = "" // which no member takes: null must not pass for absent
		default:
			return d.mismatch("a String")
		}
		if len(entries) > maxEntries {
			return refuse(serialization, "")
		}
	}
	f.Set(reflect.ValueOf(entries))
	return nil
}

var strictBase64 = base64.StdEncoding.Strict()

func (d *decoder) blob(f reflect.Value) error {
	start := d.at
	raw, escaped := d.quoted()
	if escaped {
		d.at = start
		raw = []byte(d.text())
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := strictBase64.Decode(b, raw)
	if err != nil || bytes.ContainsAny(raw, "\r\n") { // which the decoder passes over
		return refuse(serialization, "The value is not valid base64.")
	}
	f.SetBytes(b[:n])
	return nil
}

// integer takes fractions too, and cuts them off: observed.
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
			return refuse(serialization, "NUMBER_VALUE can not be converted to "+target)
		}
		n = int64(x)
	}
	if f.OverflowInt(n) {
		return refuse(serialization, "NUMBER_VALUE can not be converted to "+target)
	}
	f.SetInt(n)
	return nil
}

// maxEpoch is the end of the year 9999.
const maxEpoch = 253402300799

// timestamp reads seconds since 1970, of which the API keeps milliseconds.
func (d *decoder) timestamp(f reflect.Value) error {
	if c := d.peek(); c != '-' && !isDigit(c) {
		return d.mismatch("a Timestamp")
	}
	seconds, err := strconv.ParseFloat(string(d.scalar()), 64)
	if err != nil || math.Abs(seconds) > maxEpoch {
		return refuse(serialization, "NUMBER_VALUE can not be converted to a Timestamp")
	}
	f.Set(reflect.ValueOf(time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()))
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

const (
	listUnexpected      = "Start of list found where not expected"
	structureUnexpected = "Start of structure or map found where not expected."
)

// mismatch is the exception for the value that comes next where another kind is wanted: "list", "map", "structure", or a
// scalar with its article.
func (d *decoder) mismatch(wanted string) error {
	var found string
	switch d.peek() {
	case '[':
		return refuse(serialization, listUnexpected)
	case '{':
		return refuse(serialization, structureUnexpected)
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
	switch wanted {
	case "list", "map":
		return refuse(serialization, "Expected "+wanted+" or null")
	case "structure":
		return refuse(serialization, "Expected null")
	}
	return refuse(serialization, found+" can not be converted to "+wanted)
}

// pathOf is the name of a member in messages, such as tags.1.member.tagKey.
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
