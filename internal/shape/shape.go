// Package shape compiles the API's constraints on inputs from struct tags, once for each type, and
// checks values against them.
//
// A member's tag is `kms:"..."`, a comma-separated list of
//
//	required            the member must not be absent (its zero value)
//	required-on-wire    must be present on the wire, but may be empty; in Go, the zero value means empty
//	len=1..2048         characters of a string, bytes of a blob, entries of a list or map
//	range=1..1000       an integer's value
//	each=1..8192        characters of every string of a list
//	pattern=NAME        the whole string matches the named pattern (see patterns)
//	secret              never in a log, an audit event or an error
//	emitzero            on the wire and in audit events even if it is zero
//	default=VALUE       what audit events show if it is absent: VALUE for strings, else the zero value
//
// Either bound of len, range and each may be left out. A type with a method Values is an
// enumeration. Nested structures and lists of structures are checked, too. A tag that cannot be
// parsed causes a panic when the type is compiled, which is at the start of the program: it is a
// bug of this module, not of a caller.
package shape

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// A Kind is the type of a member in the API's model.
type Kind int

// The kinds of members.
const (
	String Kind = iota
	Blob
	Integer
	Boolean
	Timestamp
	StringMap
	StringList
	Structure
	StructureList
)

// A Struct is the compiled shape of an input, an output or a nested structure. It is immutable.
type Struct struct {
	Type    reflect.Type
	Members []Member

	pointer        reflect.Type // *Type
	checked        []*Member    // those with constraints
	quick          []quickRule  // the same, for fastValid
	loggable       []*Member    // those that may be logged, in the order of their paths
	requiredOnWire bool         // one of its members is RequiredOnWire, or one of a nested structure
}

// A Member is one member of a structure.
type Member struct {
	Name           string // the API's name and the Go field's: "KeyId"
	Path           string // the name in messages and audit events: "keyId"
	Index          int    // of the Go field
	Kind           Kind
	Pointer        bool    // an *int32, *bool or *struct
	offset         uintptr // of the Go field
	Nested         *Struct // of a Structure or StructureList
	Required       bool
	RequiredOnWire bool
	Secret         bool
	EmitZero       bool

	length, value, each bounds
	pattern             *pattern
	enum                []string
	defaultValue        string
	hasDefault          bool
	narrow              bool // an Integer of 32 bits
	// plain is true for a String without a pattern and with a minimum length of 0 or 1: if its
	// number of bytes is in bounds, so is its number of characters.
	plain bool
}

type bounds struct {
	min, max       int
	hasMin, hasMax bool
}

var compiled sync.Map // reflect.Type -> *Struct

// A Typed is the Struct of T. Its methods take a *T where those of Struct take any pointer.
type Typed[T any] struct{ *Struct }

// TypedOf returns the Typed of T, a struct type.
func TypedOf[T any]() Typed[T] { return Typed[T]{Of[T]()} }

// Of returns the shape of T, a struct type.
func Of[T any]() *Struct { return OfType(reflect.TypeFor[T]()) }

// OfType returns the shape of t, a struct type.
func OfType(t reflect.Type) *Struct {
	if s, ok := compiled.Load(t); ok {
		return s.(*Struct)
	}
	s := &Struct{Type: t, pointer: reflect.PointerTo(t)}
	for i := range t.NumField() {
		s.Members = append(s.Members, compile(t.Field(i), i))
	}
	for i := range s.Members {
		m := &s.Members[i]
		if m.constrained() {
			s.checked = append(s.checked, m)
			s.quick = append(s.quick, m.quickRule())
			s.requiredOnWire = s.requiredOnWire || m.RequiredOnWire || m.Nested != nil && m.Nested.requiredOnWire
		}
		if !m.Secret && m.Kind != Blob {
			s.loggable = append(s.loggable, m)
		}
	}
	slices.SortFunc(s.loggable, func(a, b *Member) int { return strings.Compare(a.Path, b.Path) })
	actual, _ := compiled.LoadOrStore(t, s)
	return actual.(*Struct)
}

// Member returns the member with the given name. It reports whether there is one.
func (s *Struct) Member(name string) (*Member, bool) {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i], true
		}
	}
	return nil, false
}

// A Field reads one member, of type T, of structures of type S, without reflection, which would
// take much of the time of a call.
type Field[S, T any] struct {
	offset uintptr
	exists bool
}

// FieldOf returns the Field of S named name. If S has no such member, the value of the Field is the
// zero T. FieldOf panics if the member is not of type T.
func FieldOf[S, T any](name string) Field[S, T] {
	m, ok := Of[S]().Member(name)
	if !ok {
		return Field[S, T]{}
	}
	if got, want := reflect.TypeFor[S]().Field(m.Index).Type, reflect.TypeFor[T](); got != want {
		panic("shape: member " + name + " has type " + got.String() + " and not " + want.String())
	}
	return Field[S, T]{m.offset, true}
}

// Of returns the value of the member in s.
func (f Field[S, T]) Of(s *S) (value T) {
	if f.exists {
		value = *(*T)(unsafe.Add(unsafe.Pointer(s), f.offset))
	}
	return value
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	bytesType     = reflect.TypeFor[[]byte]()
	stringMapType = reflect.TypeFor[map[string]string]()
)

func compile(f reflect.StructField, index int) Member {
	m := Member{Name: f.Name, Path: lowerCamel(f.Name), Index: index, offset: f.Offset}
	t := f.Type
	if t.Kind() == reflect.Pointer {
		m.Pointer, t = true, t.Elem()
	}
	scalar := t
	switch {
	case t == timeType:
		m.Kind = Timestamp
	case t == bytesType:
		m.Kind = Blob
	case t.Kind() == reflect.String:
		m.Kind = String
	case t.Kind() == reflect.Int32 || t.Kind() == reflect.Int64:
		m.Kind, m.narrow = Integer, t.Kind() == reflect.Int32
	case t.Kind() == reflect.Bool:
		m.Kind = Boolean
	case t == stringMapType:
		m.Kind = StringMap
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		m.Kind, scalar = StringList, t.Elem()
	case t.Kind() == reflect.Struct:
		m.Kind, m.Nested = Structure, OfType(t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		m.Kind, m.Nested = StructureList, OfType(t.Elem())
	default:
		panic("shape: member " + f.Name + " has type " + f.Type.String() + ", which the API's model does not know")
	}
	m.enum = enumValues(scalar)
	if tag := f.Tag.Get("kms"); tag != "" {
		for option := range strings.SplitSeq(tag, ",") {
			m.apply(option)
		}
	}
	m.plain = m.pattern == nil && m.length.min <= 1
	return m
}

func (m *Member) constrained() bool {
	return m.Required || m.RequiredOnWire || m.enum != nil || m.pattern != nil || m.length != bounds{} || m.value != bounds{} || m.each != bounds{} ||
		m.Nested != nil && len(m.Nested.checked) > 0
}

func (m *Member) apply(option string) {
	name, argument, _ := strings.Cut(option, "=")
	switch name {
	case "required":
		m.Required = true
	case "required-on-wire":
		m.RequiredOnWire = true
	case "secret":
		m.Secret = true
	case "emitzero":
		m.EmitZero = true
	case "default":
		m.defaultValue, m.hasDefault = argument, true
	case "len":
		m.length = parseBounds(argument)
	case "range":
		m.value = parseBounds(argument)
	case "each":
		m.each = parseBounds(argument)
	case "pattern":
		p, ok := patterns[argument]
		if !ok {
			panic("shape: member " + m.Name + " names the unknown pattern " + argument)
		}
		m.pattern = p
	default:
		panic("shape: member " + m.Name + " has the unknown option " + option)
	}
}

func parseBounds(s string) bounds {
	low, high, ok := strings.Cut(s, "..")
	b := bounds{hasMin: low != "", hasMax: high != ""}
	var err1, err2 error
	if b.hasMin {
		b.min, err1 = strconv.Atoi(low)
	}
	if b.hasMax {
		b.max, err2 = strconv.Atoi(high)
	}
	if !ok || err1 != nil || err2 != nil || !b.hasMin && !b.hasMax {
		panic("shape: unreadable bounds " + s)
	}
	return b
}

// enumValues returns the values of the enumeration t, or nil if t is not an enumeration.
func enumValues(t reflect.Type) []string {
	if t.Kind() != reflect.String {
		return nil
	}
	method, ok := t.MethodByName("Values")
	if !ok {
		return nil
	}
	list := method.Func.Call([]reflect.Value{reflect.Zero(t)})[0]
	values := make([]string, list.Len())
	for i := range values {
		values[i] = list.Index(i).String()
	}
	return values
}

// lowerCamel returns the name of a member in messages and in CloudTrail: KeyId becomes keyId, and
// AWSAccountId becomes aWSAccountId.
func lowerCamel(name string) string {
	return strings.ToLower(name[:1]) + name[1:]
}
