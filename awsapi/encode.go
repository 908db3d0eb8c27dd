package awsapi

import (
	"encoding/base64"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/shape"
)

// encode appends the JSON of out, a pointer to a struct of s's type. A member that is zero is left out, unless the
// API always sends it. An output without members is an empty body, not an empty structure.
func encode(b []byte, s *shape.Struct, out any) []byte {
	if len(s.Members) == 0 {
		return b
	}
	return appendStructure(b, s, reflect.ValueOf(out).Elem())
}

// room is how many bytes encode may need for an output with secrets in it, which are in its blobs: a buffer that grew
// would leave some behind where nobody erases them.
func room(s *shape.Struct, out any) int {
	v := reflect.ValueOf(out).Elem()
	n := 1024 // for members that are no blobs
	for i := range s.Members {
		if m := &s.Members[i]; m.Kind == shape.Blob {
			n += base64.StdEncoding.EncodedLen(v.Field(m.Index).Len())
		}
	}
	return n
}

func appendStructure(b []byte, s *shape.Struct, v reflect.Value) []byte {
	separator := byte('{')
	for i := range s.Members {
		m := &s.Members[i]
		f := v.Field(m.Index)
		if f.IsZero() && (!m.EmitZero || m.Pointer) {
			continue
		}
		b = append(b, separator, '"')
		b = append(b, m.Name...)
		b = append(b, '"', ':')
		b = appendMember(b, m, f)
		separator = ','
	}
	if separator == '{' {
		b = append(b, '{')
	}
	return append(b, '}')
}

func appendMember(b []byte, m *shape.Member, f reflect.Value) []byte {
	if m.Pointer {
		f = f.Elem()
	}
	switch m.Kind {
	case shape.String:
		return appendString(b, f.String())
	case shape.Blob:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, f.Bytes())
		return append(b, '"')
	case shape.Integer:
		return strconv.AppendInt(b, f.Int(), 10)
	case shape.Boolean:
		return strconv.AppendBool(b, f.Bool())
	case shape.Timestamp:
		return appendTime(b, f.Addr().Interface().(*time.Time))
	case shape.Structure:
		return appendStructure(b, m.Nested, f)
	case shape.StringMap:
		b = append(b, '{')
		for entries, first := f.MapRange(), true; entries.Next(); first = false {
			if !first {
				b = append(b, ',')
			}
			b = appendString(b, entries.Key().String())
			b = append(b, ':')
			b = appendString(b, entries.Value().String())
		}
		return append(b, '}')
	}
	b = append(b, '[')
	for i := range f.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if m.Kind == shape.StringList {
			b = appendString(b, f.Index(i).String())
		} else {
			b = appendStructure(b, m.Nested, f.Index(i))
		}
	}
	return append(b, ']')
}

// appendTime prints seconds since 1970 with as many decimals, of at most three, as there are.
func appendTime(b []byte, t *time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		b, ms = append(b, '-'), -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if fraction := ms % 1000; fraction != 0 {
		digits := strconv.AppendInt(nil, 1000+fraction, 10)
		digits[0] = '.'
		for digits[len(digits)-1] == '0' {
			digits = digits[:len(digits)-1]
		}
		b = append(b, digits...)
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString prints a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	plain := 0 // where the bytes begin that have not been appended, all of which stand for themselves
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(b, s[plain:i]...)
				b = append(b, `\ufffd`...)
				plain = i + 1
			}
			i += size
			continue
		}
		b = append(b, s[plain:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		plain = i
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}
