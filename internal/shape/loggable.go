package shape

import (
	"reflect"
	"time"
	"unsafe"

	"github.com/pocketkms/kms/internal/secret"
)

// A Visitor receives the members of a structure that may be logged. It must not keep a map. A
// structure begins with BeginObject and a list with BeginList; its members or elements follow, and
// then End. The elements of a list have no names.
type Visitor interface {
	String(name, value string)
	Int(name string, value int64)
	Bool(name string, value bool)
	Time(name string, value time.Time)
	StringMap(name string, value map[string]string)
	BeginObject(name string)
	BeginList(name string)
	End()
}

// VisitLoggable passes to visitor the members of v, a pointer to a struct of s's type, that may be
// logged: all except secrets, blobs and absent members, in the order of their paths. It does not
// walk v by reflection.
func (s *Struct) VisitLoggable(v any, visitor Visitor) { s.visit(s.pointerTo(v), visitor, false) }

// VisitLoggableWithDefaults is like VisitLoggable, but visits absent members that have a default.
func (s *Struct) VisitLoggableWithDefaults(v any, visitor Visitor) {
	s.visit(s.pointerTo(v), visitor, true)
}

func (s *Struct) visit(p unsafe.Pointer, visitor Visitor, defaults bool) {
	for _, m := range s.loggable {
		field := unsafe.Add(p, m.offset)
		if m.Pointer {
			if field = *(*unsafe.Pointer)(field); field == nil {
				continue
			}
		}
		m.visit(field, visitor, defaults)
	}
}

func (m *Member) visit(field unsafe.Pointer, visitor Visitor, defaults bool) {
	show := m.Pointer || m.EmitZero || defaults && m.hasDefault
	switch m.Kind {
	case String:
		text := *(*string)(field)
		if text == "" && defaults {
			text = m.defaultValue
		}
		if text != "" || show {
			visitor.String(m.Path, text)
		}
	case Integer:
		n := m.integer(field)
		if n != 0 || show {
			visitor.Int(m.Path, n)
		}
	case Boolean:
		if set := *(*bool)(field); set || show {
			visitor.Bool(m.Path, set)
		}
	case Timestamp:
		if t := *(*time.Time)(field); !t.IsZero() || show {
			visitor.Time(m.Path, t)
		}
	case StringMap:
		if entries := *(*map[string]string)(field); entries != nil || show {
			visitor.StringMap(m.Path, entries)
		}
	case StringList:
		if list := *(*[]string)(field); list != nil || show {
			visitor.BeginList(m.Path)
			for _, element := range list {
				visitor.String("", element)
			}
			visitor.End()
		}
	case Structure:
		visitor.BeginObject(m.Path)
		m.Nested.visit(field, visitor, defaults)
		visitor.End()
	case StructureList:
		elements, n := m.elements(field)
		if elements == nil && !show {
			return
		}
		visitor.BeginList(m.Path)
		for i := range n {
			visitor.BeginObject("")
			m.Nested.visit(unsafe.Add(elements, uintptr(i)*m.Nested.Type.Size()), visitor, defaults)
			visitor.End()
		}
		visitor.End()
	}
}

// integer returns the value of an Integer.
func (m *Member) integer(field unsafe.Pointer) int64 {
	if m.narrow {
		return int64(*(*int32)(field))
	}
	return *(*int64)(field)
}

// elements returns the array of a StructureList and the number of its elements. It reads the slice
// as a []byte: the headers of all slices have the same form.
func (m *Member) elements(field unsafe.Pointer) (unsafe.Pointer, int) {
	list := *(*[]byte)(field)
	return unsafe.Pointer(unsafe.SliceData(list)), len(list)
}

// pointerTo returns v, which must be a pointer to a struct of s's type.
func (s *Struct) pointerTo(v any) unsafe.Pointer {
	p := reflect.ValueOf(v)
	if p.Type() != s.pointer {
		panic("shape: a " + p.Type().String() + " is not a " + s.pointer.String())
	}
	return p.UnsafePointer()
}

// Erase overwrites every blob of v, a pointer to a struct of s's type, with zeros, also those of
// nested structures.
func (s *Struct) Erase(v any) { s.erase(reflect.ValueOf(v).Elem()) }

func (s *Struct) erase(v reflect.Value) {
	for i := range s.Members {
		m := &s.Members[i]
		f := v.Field(m.Index)
		if f.IsZero() {
			continue
		}
		switch m.Kind {
		case Blob:
			secret.Clear(f.Bytes())
		case Structure:
			m.Nested.erase(reflect.Indirect(f))
		case StructureList:
			for _, element := range f.Seq2() {
				m.Nested.erase(element)
			}
		}
	}
}
