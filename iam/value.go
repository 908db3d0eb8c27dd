package iam

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Context has the values of condition keys for one request. Evaluation asks only for the keys
// that it needs, so that a Context can compute them when asked. Lookup must return the same value
// for a key during one evaluation.
//
// The key is as in the policy with the letters A to Z in lower case: "aws:principaltag/team". Keys
// that the Context does not have are absent: the zero Value.
type Context interface {
	Lookup(key string) Value
}

// keys has the condition keys of a Context that one evaluation has asked for, so that it asks for
// most of them once. A nil keys has none.
type keys struct {
	context Context
	count   int
	names   [8]string
	values  [8]Value
}

// value returns the value of a key.
func (k *keys) value(key string) Value {
	if k == nil || k.context == nil {
		return Value{}
	}
	for i := range k.names[:k.count] {
		if k.names[i] == key {
			return k.values[i]
		}
	}
	v := k.context.Lookup(key)
	if k.count < len(k.names) {
		k.names[k.count], k.values[k.count] = key, v
		k.count++
	}
	return v
}

// Values is a Context from a map. The case of the letters A to Z in its keys does not matter, so no
// two may differ only in that. Keys in lower case are found without a search.
type Values map[string]Value

// Lookup returns the value of a key.
func (m Values) Lookup(key string) Value {
	if v, ok := m[key]; ok {
		return v
	}
	for name, v := range m {
		if sameKey(name, key) {
			return v
		}
	}
	return Value{}
}

// sameKey reports whether two names differ at most in the case of the letters A to Z.
func sameKey(a, b string) bool {
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// A Value is the value of a condition key: absent (the zero Value), one value, or a list of values
// for a key that is multivalued. Operators of another type convert it: StringEquals compares the
// text of a number, NumericEquals the number that a text has.
type Value struct {
	kind valueKind
	text string
	list []string
	a, b uint64 // the number; the seconds and nanoseconds; the two halves of the address
}

type valueKind uint8

const (
	absentValue valueKind = iota
	stringValue
	listValue
	ambiguousValue // list has two texts at least
	intValue
	floatValue
	boolValue
	timeValue
	ipValue
)

// String returns the value of a single-valued key. An empty string is a value.
func String(s string) Value { return Value{kind: stringValue, text: s} }

// Strings returns the values of a multivalued key. Without values, the key is absent. The list must
// not be changed while the Value is in use.
//
// A multivalued key needs ForAllValues or ForAnyValue: without one of them, no operator holds for
// it, even if it has one value only.
func Strings(list []string) Value {
	if len(list) == 0 {
		return Value{}
	}
	return Value{kind: listValue, list: list}
}

// Ambiguous returns the value of a single-valued key that a request has several times, for example
// because it has names that differ only in case, which policies do not distinguish. The texts are
// sorted, each once; if only one remains, it is the value.
//
// Which of them another program takes for the value is not known. Therefore a condition of an Allow
// must hold for each of them, and one of a Deny for any. A variable has none of them.
func Ambiguous(texts ...string) Value {
	list := slices.Compact(slices.Sorted(slices.Values(texts)))
	switch len(list) {
	case 0:
		return Value{}
	case 1:
		return String(list[0])
	}
	return Value{kind: ambiguousValue, list: list}
}

// Int returns an integer.
func Int(n int64) Value { return Value{kind: intValue, a: uint64(n)} }

// Float returns a number.
func Float(f float64) Value { return Value{kind: floatValue, a: math.Float64bits(f)} }

// Bool returns a boolean.
func Bool(b bool) Value {
	if b {
		return Value{kind: boolValue, a: 1}
	}
	return Value{kind: boolValue}
}

// Time returns a date. As a text it has the form 2006-01-02T15:04:05Z, as a number it is the
// seconds since 1970.
func Time(t time.Time) Value {
	return Value{kind: timeValue, a: uint64(t.Unix()), b: uint64(t.Nanosecond())}
}

// IP returns an address. The invalid Addr is absent.
func IP(a netip.Addr) Value {
	if !a.IsValid() {
		return Value{}
	}
	halves := addressOf(a)
	return Value{kind: ipValue, a: halves.high, b: halves.low}
}

// Binary returns binary data. As a text it is in base64, with padding.
func Binary(data []byte) Value { return String(base64.StdEncoding.EncodeToString(data)) }

// Present reports whether the key has a value.
func (v Value) Present() bool { return v.kind != absentValue }

// Multivalued reports whether the value is of a multivalued key.
func (v Value) Multivalued() bool { return v.kind == listValue }

// Texts returns the value as texts: none if it is absent, and one if it is neither a list nor
// ambiguous.
func (v Value) Texts() []string {
	switch v.kind {
	case absentValue:
		return nil
	case listValue, ambiguousValue:
		return slices.Clone(v.list)
	}
	return []string{v.str()}
}

// str returns a single value as a text.
func (v *Value) str() string {
	if v.kind == stringValue {
		return v.text
	}
	return v.format()
}

func (v *Value) format() string {
	switch v.kind {
	case intValue:
		return strconv.FormatInt(int64(v.a), 10)
	case floatValue:
		return strconv.FormatFloat(math.Float64frombits(v.a), 'f', -1, 64)
	case boolValue:
		if v.a != 0 {
			return "true"
		}
		return "false"
	case timeValue:
		return time.Unix(int64(v.a), 0).UTC().Format("2006-01-02T15:04:05Z")
	case ipValue:
		return v.addr().String()
	}
	return ""
}

func (v *Value) addr() netip.Addr {
	var bytes [16]byte
	binary.BigEndian.PutUint64(bytes[:8], v.a)
	binary.BigEndian.PutUint64(bytes[8:], v.b)
	return netip.AddrFrom16(bytes).Unmap()
}

// number returns a single value as a number.
func (v *Value) number() (number, bool) {
	switch v.kind {
	case intValue, timeValue:
		return intNumber(int64(v.a)), true
	case floatValue:
		f := math.Float64frombits(v.a)
		return number{float: f}, !math.IsNaN(f)
	case stringValue:
		return parseNumber(v.text)
	}
	return number{}, false
}

// instant returns a single value as a date.
func (v *Value) instant() (instant, bool) {
	switch v.kind {
	case timeValue:
		return instant{int64(v.a), int64(v.b)}, true
	case intValue:
		return instant{seconds: int64(v.a)}, true
	case floatValue:
		f := math.Float64frombits(v.a)
		if whole := math.Floor(f); math.Abs(whole) < 1<<53 {
			return instant{int64(whole), int64((f - whole) * 1e9)}, true
		}
	case stringValue:
		return parseInstant(v.text)
	}
	return instant{}, false
}

// ip returns a single value as an address.
func (v *Value) ip() (address, bool) {
	switch v.kind {
	case ipValue:
		return address{v.a, v.b}, true
	case stringValue:
		a, err := netip.ParseAddr(v.text)
		return addressOf(a), err == nil
	}
	return address{}, false
}

// bool returns a single value as a boolean. Every text other than true is false.
func (v *Value) bool() bool {
	if v.kind == boolValue {
		return v.a != 0
	}
	return v.kind == stringValue && strings.EqualFold(v.text, "true")
}

// A number is an integer if it can be one exactly, and else a float.
type number struct {
	float   float64
	integer int64
	exact   bool // integer is the number
}

func intNumber(n int64) number { return number{float64(n), n, true} }

// compare returns -1, 0 or 1.
func (n number) compare(other number) int {
	if n.exact && other.exact {
		return cmp.Compare(n.integer, other.integer)
	}
	return cmp.Compare(n.float, other.float)
}

// parseNumber parses a decimal number, with or without a fraction and an exponent.
func parseNumber(s string) (number, bool) {
	if strings.Trim(s, "0123456789+-.eE") != "" || len(s) > 400 { // not NaN, not hexadecimal
		return number{}, false
	}
	whole := s
	if digits, fraction, ok := strings.Cut(s, "."); ok && digits != "" && fraction != "" && strings.Trim(fraction, "0") == "" {
		whole = digits
	}
	if !strings.ContainsAny(whole, ".eE") { // else it allocates an error
		if n, err := strconv.ParseInt(whole, 10, 64); err == nil {
			return intNumber(n), true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return number{float: f}, err == nil
}

// An instant is a point in time, of any year.
type instant struct{ seconds, nanoseconds int64 } // since 1970; 0 to 999,999,999

// compare returns -1, 0 or 1.
func (t instant) compare(other instant) int {
	return cmp.Or(cmp.Compare(t.seconds, other.seconds), cmp.Compare(t.nanoseconds, other.nanoseconds))
}

// dateLayouts are the forms of ISO 8601 in which dates are written. Fractions of seconds are
// accepted after each that has seconds. Without an offset, a time is in UTC.
var dateLayouts = [...]string{
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04Z0700",
	"2006-01-02T15:04",
	"2006-01-02",
}

// parseInstant parses a date in ISO 8601, or seconds since 1970 with or without a fraction.
func parseInstant(s string) (instant, bool) {
	if s == "" || len(s) > 64 {
		return instant{}, false
	}
	if strings.Trim(s[1:], "0123456789.") == "" {
		return parseEpoch(s)
	}
	if len(s) < 10 || s[4] != '-' {
		return instant{}, false
	}
	for _, layout := range dateLayouts {
		// time.Parse also takes a comma before a fraction, and an hour of one digit.
		if t, err := time.Parse(layout, s); err == nil && strings.IndexByte(s, ',') < 0 && (len(s) == 10 || len(s) > 13 && s[13] == ':') {
			return instant{t.Unix(), int64(t.Nanosecond())}, true
		}
	}
	return instant{}, false
}

func parseEpoch(s string) (instant, bool) {
	digits, fraction, point := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || point && (fraction == "" || strings.Trim(fraction, "0123456789") != "") || digits[0] == '+' {
		return instant{}, false
	}
	t := instant{seconds: seconds}
	if point {
		t.nanoseconds, _ = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if digits[0] == '-' && t.nanoseconds > 0 {
			t = instant{seconds - 1, 1e9 - t.nanoseconds}
		}
	}
	return t, true
}
