package awsapi

import (
	"bytes"
	"encoding/base64"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/jsontext"
	"github.com/pocketkms/kms/internal/shape"
)

// encode appends the JSON of out, a pointer to a struct of s's type. Zero members are omitted,
// unless the API always sends or, in an input, requires them. An output without members is an empty body, not an empty
// structure.
func encode(b []byte, s *shape.Struct, out any) []byte {
	if len(s.Members) == 0 {
		return b
	}
	b = appendStructure(b, s, reflect.ValueOf(out).Elem())
	if list, ok := out.(*kms.ListAliasesOutput); ok { // the API sends a member that its model does not have
		b = append(b[:len(b)-1], `,"AliasCount":`...)
		b = append(strconv.AppendInt(b, int64(len(list.Aliases)), 10), '}')
	}
	return b
}

// sizeHint returns an upper bound of the encoded size of an output with secrets, which are in its
// blobs: a buffer that grew would leave a copy of them behind that is not erased.
func sizeHint(s *shape.Struct, out any) int {
	v := reflect.ValueOf(out).Elem()
	n := 1024 // for members that are not blobs
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
		if f.IsZero() && (!m.EmitZero && !m.RequiredOnWire || m.Pointer) {
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
		return jsontext.AppendString(b, f.String())
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
			b = jsontext.AppendString(b, entries.Key().String())
			b = append(b, ':')
			b = jsontext.AppendString(b, entries.Value().String())
		}
		return append(b, '}')
	}
	b = append(b, '[')
	for i := range f.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if m.Kind == shape.StringList {
			b = jsontext.AppendString(b, f.Index(i).String())
		} else {
			b = appendStructure(b, m.Nested, f.Index(i))
		}
	}
	return append(b, ']')
}

// appendTime appends seconds since 1970, with up to three decimals, in the form of Java's
// Double.toString, which the API uses: 1.592412018521E9.
func appendTime(b []byte, t *time.Time) []byte {
	seconds := float64(t.UnixMilli()) / 1000
	format := byte('e')
	if size := math.Abs(seconds); size == 0 || size >= 1e-3 && size < 1e7 {
		format = 'f'
	}
	var scratch [32]byte
	mantissa, exponent, scientific := bytes.Cut(strconv.AppendFloat(scratch[:0], seconds, format, -1, 64), []byte("e"))
	b = append(b, mantissa...)
	if !bytes.Contains(mantissa, []byte(".")) {
		b = append(b, ".0"...)
	}
	if scientific {
		n, _ := strconv.Atoi(string(exponent)) // it has a sign and leading zeros
		b = strconv.AppendInt(append(b, 'E'), int64(n), 10)
	}
	return b
}
