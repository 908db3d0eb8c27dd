package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/jsontext"
)

// An Object is an immutable JSON object: named values in an order that is kept. Its zero value is
// null.
type Object struct {
	// encoded is a kindObject, as a Builder writes it, or nil. It is not JSON, which would cost every
	// call what only some sinks need, nor a tree: one piece of memory without pointers costs least
	// to make, to keep and to collect. It is not a string, so that a Builder can lend its memory.
	encoded []byte
}

// kind is the first byte of an encoded value; what follows it is
//
//	kindString, kindNumber    a length as a varint, and the text
//	kindInt, kindTime         a varint; a time is in seconds since 1970
//	kindObject                each member, and a kindEnd
//	kindList                  each value, and a kindEnd
//	kindName, of a member     the length of its name as a varint, the name, and its value
//	others                    nothing
type kind byte

const (
	kindNull kind = iota
	kindFalse
	kindTrue
	kindInt
	kindTime
	kindString
	kindNumber // one that is not a kindInt, as JSON has it
	kindObject
	kindList
	kindName
	kindEnd
)

// emptyObject is {}, which is not null.
var emptyObject = []byte{byte(kindObject), byte(kindEnd)}

// ObjectOf returns m as an Object, in the order of its names. Its values are nil, strings,
// integers, float64, bool, time.Time, and []string, []any, map[string]string and map[string]any of
// these; any other is replaced by a text that says so. The nil map is null.
func ObjectOf(m map[string]any) Object {
	if m == nil {
		return Object{}
	}
	o := Object{emptyObject}
	if len(m) > 0 {
		var b Builder
		b.Start(&o, "", math.MaxInt)
		b.anyMap(m)
		b.Finish(true) // b is not used again
	}
	return o
}

// IsZero reports whether o is null.
func (o Object) IsZero() bool { return o.encoded == nil }

// Equal reports whether o and other have the same members in the same order.
func (o Object) Equal(other Object) bool { return bytes.Equal(o.encoded, other.encoded) }

// Get returns the member at path, which names first a member of o, then a member of that, and so
// on: Get("encryptionContext", "tenant"). If there is no such member it returns the zero Value.
func (o Object) Get(path ...string) Value {
	if len(path) == 0 {
		return Value{}
	}
	for name, value := range o.members() {
		if string(name) == path[0] {
			if len(path) == 1 {
				return value
			}
			return value.Object().Get(path[1:]...)
		}
	}
	return Value{}
}

// All returns the members in their order.
func (o Object) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for name, value := range o.members() {
			if !yield(string(name), value) {
				return
			}
		}
	}
}

// members is All with names that are part of o's memory.
func (o Object) members() iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) {
		if o.IsZero() {
			return
		}
		for rest := o.encoded[1:]; kind(rest[0]) != kindEnd; {
			name, value := cutText(rest[1:])
			end := encodedLen(value)
			if !yield(name, Value{value[:end]}) {
				return
			}
			rest = value[end:]
		}
	}
}

// Map returns the members as [Value.Any] returns them; nil for null.
func (o Object) Map() map[string]any {
	if o.IsZero() {
		return nil
	}
	m := make(map[string]any)
	for name, value := range o.All() {
		m[name] = value.Any()
	}
	return m
}

// String returns o as JSON.
func (o Object) String() string { return string(o.appendJSON(nil)) }

// MarshalJSON returns o as JSON. A time is the string that CloudTrail has: 2026-01-31T23:59:59Z.
func (o Object) MarshalJSON() ([]byte, error) { return o.appendJSON(nil), nil }

func (o Object) appendJSON(b []byte) []byte {
	if o.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for name, value := range o.members() {
		b = value.appendJSON(appendName(b, name))
	}
	return append(b, '}')
}

// UnmarshalJSON sets o to the JSON object, or null, in data.
func (o *Object) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	first, err := d.Token()
	switch {
	case err != nil:
		return err
	case first == nil:
		*o = Object{}
		return nil
	case first != json.Delim('{'):
		return fmt.Errorf("audit: %.20s is not a JSON object", data)
	}
	var b Builder
	read := Object{}
	b.Start(&read, "", math.MaxInt)
	if err := b.readJSON(d, true, 1); err != nil {
		return err
	}
	b.Finish(true) // b is not used again
	if read.IsZero() {
		read.encoded = emptyObject
	}
	*o = read
	return nil
}

// A Value is a value in an [Object]. The zero Value is that of a member that does not exist.
type Value struct{ encoded []byte }

// IsZero reports whether v does not exist. A JSON null does.
func (v Value) IsZero() bool { return v.encoded == nil }

func (v Value) kind() kind { return kind(v.encoded[0]) }

func (v Value) integer() int64 {
	n, _ := binary.Varint(v.encoded[1:])
	return n
}

// text returns the text of a string or a number. It is part of v's memory.
func (v Value) text() []byte {
	text, _ := cutText(v.encoded[1:])
	return text
}

// Any returns v as string, int64, float64, bool, time.Time in UTC, []any, map[string]any, or nil.
func (v Value) Any() any {
	if v.IsZero() {
		return nil
	}
	switch v.kind() {
	case kindFalse, kindTrue:
		return v.kind() == kindTrue
	case kindInt:
		return v.integer()
	case kindTime:
		return time.Unix(v.integer(), 0).UTC()
	case kindString:
		return string(v.text())
	case kindNumber:
		f, _ := strconv.ParseFloat(string(v.text()), 64) // it has been parsed before
		return f
	case kindObject:
		return v.Object().Map()
	case kindList:
		list := []any{}
		for element := range v.List() {
			list = append(list, element.Any())
		}
		return list
	}
	return nil
}

// String returns a string as it is, any other value as JSON, a time without the quotes, and nothing
// for the zero Value.
func (v Value) String() string {
	switch {
	case v.IsZero():
		return ""
	case v.kind() == kindString:
		return string(v.text())
	}
	return strings.Trim(string(v.appendJSON(nil)), `"`)
}

// Object returns v if it is an object, otherwise null.
func (v Value) Object() Object {
	if v.IsZero() || v.kind() != kindObject {
		return Object{}
	}
	return Object(v)
}

// List returns the elements of v if it is a list, otherwise none.
func (v Value) List() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.IsZero() || v.kind() != kindList {
			return
		}
		for rest := v.encoded[1:]; kind(rest[0]) != kindEnd; {
			end := encodedLen(rest)
			if !yield(Value{rest[:end]}) {
				return
			}
			rest = rest[end:]
		}
	}
}

func (v Value) appendJSON(b []byte) []byte {
	switch v.kind() {
	case kindFalse, kindTrue:
		return strconv.AppendBool(b, v.kind() == kindTrue)
	case kindInt:
		return strconv.AppendInt(b, v.integer(), 10)
	case kindTime:
		return appendTime(b, time.Unix(v.integer(), 0))
	case kindString:
		return jsontext.AppendString(b, v.text())
	case kindNumber:
		return append(b, v.text()...)
	case kindObject:
		return v.Object().appendJSON(b)
	case kindList:
		b = append(b, '[')
		for element := range v.List() {
			if b[len(b)-1] != '[' {
				b = append(b, ',')
			}
			b = element.appendJSON(b)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// encodedLen returns the length of the value that s begins with.
func encodedLen(s []byte) int {
	switch kind(s[0]) {
	case kindInt, kindTime:
		for i := 1; ; i++ {
			if s[i] < 0x80 {
				return i + 1
			}
		}
	case kindString, kindNumber:
		_, rest := cutText(s[1:])
		return len(s) - len(rest)
	case kindName:
		_, rest := cutText(s[1:])
		return len(s) - len(rest) + encodedLen(rest)
	case kindObject, kindList:
		n := 1
		for kind(s[n]) != kindEnd {
			n += encodedLen(s[n:])
		}
		return n + 1
	}
	return 1
}

// cutText returns the text that s begins with, after its length, and what follows it.
func cutText(s []byte) (text, rest []byte) {
	length, shift, i := 0, 0, 0
	for ; s[i] >= 0x80; i++ {
		length |= int(s[i]&0x7f) << shift
		shift += 7
	}
	length |= int(s[i]) << shift
	i++
	return s[i : i+length], s[i+length:]
}
