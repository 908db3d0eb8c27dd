package shape

import (
	"reflect"
	"time"

	"github.com/pocketkms/kms/internal/secret"
)

// Public returns the members of v, a pointer to a struct of s's type, that may
// be told: without secrets and absent ones, by their paths, as maps, lists,
// strings, numbers and booleans that the caller may keep. It is nil when there
// are none.
func (s *Struct) Public(v any) map[string]any {
	return s.public(reflect.ValueOf(v).Elem())
}

func (s *Struct) public(v reflect.Value) map[string]any {
	var told map[string]any
	for i := range s.Members {
		m := &s.Members[i]
		f := v.Field(m.Index)
		if m.Secret || m.Kind == Blob || f.IsZero() && !m.Always {
			continue
		}
		if told == nil {
			told = make(map[string]any)
		}
		told[m.Path] = m.public(f)
	}
	return told
}

// eventTime is how CloudTrail prints the times among a call's members.
const eventTime = "2006-01-02T15:04:05Z"

func (m *Member) public(f reflect.Value) any {
	if m.Pointer && !f.IsNil() {
		f = f.Elem()
	}
	switch m.Kind {
	case String:
		return f.String()
	case Integer:
		return f.Int()
	case Boolean:
		return f.Bool()
	case Timestamp:
		return f.Interface().(time.Time).UTC().Format(eventTime)
	case StringMap:
		told := make(map[string]any, f.Len())
		for entries := f.MapRange(); entries.Next(); {
			told[entries.Key().String()] = entries.Value().String()
		}
		return told
	case StringList:
		told := make([]any, f.Len())
		for i := range told {
			told[i] = f.Index(i).String()
		}
		return told
	case Structure:
		return m.Nested.public(f)
	case StructureList:
		told := make([]any, f.Len())
		for i := range told {
			told[i] = m.Nested.public(f.Index(i))
		}
		return told
	}
	return nil // blobs are never told
}

// Erase overwrites every blob of v, a pointer to a struct of s's type, with
// zeros.
func (s *Struct) Erase(v any) {
	f := reflect.ValueOf(v).Elem()
	for i := range s.Members {
		if m := &s.Members[i]; m.Kind == Blob {
			secret.Clear(f.Field(m.Index).Bytes())
		}
	}
}
