package audit

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Builder makes the objects of one event. [Builder.Start] begins one, the methods named like types add members to it, in the
// order of the calls, and [Builder.Object] returns it. In a list, names are empty. The objects contain copies only, all of them
// in one piece of memory. A Builder must not be copied after its first use.
type Builder struct {
	buf     strings.Builder
	start   int
	limit   int
	skipped int    // what has not been added any more
	lists   uint32 // whether what is open is a list, in the lowest bit, and what is around it
}

// roomBytes is what the objects of most events take together.
const roomBytes = 224

// Start begins an object. If its JSON is longer than maxBytes, all that it will say is how long, as in CloudTrail.
func (b *Builder) Start(maxBytes int) {
	if b.buf.Cap() == 0 {
		b.buf.Grow(roomBytes)
	}
	b.start, b.limit, b.skipped, b.lists = b.buf.Len(), maxBytes, 0, 0
	b.buf.WriteByte(byte(kindObject))
}

// maxEscape is how many bytes of JSON one byte of a string can take, as \u0000 does.
const maxEscape = 6

// Object returns the object, which is the value of the event's field of that name. If it has no members, it is null.
func (b *Builder) Object(field string) Object {
	if b.size() == 1 {
		return Object{}
	}
	return b.object(field)
}

// size is the size of the object as JSON, or a little less.
func (b *Builder) size() int { return b.buf.Len() - b.start + b.skipped }

func (b *Builder) object(field string) Object {
	size := b.size()
	if b.skipped == 0 {
		b.buf.WriteByte(byte(kindEnd))
		object := Object{b.buf.String()[b.start:]}
		if size <= b.limit/maxEscape {
			return object
		}
		if size = len(object.appendJSON(nil)); size <= b.limit {
			return object
		}
	}
	var omitted Builder // what b has collected can be forgotten then
	omitted.Start(math.MaxInt)
	omitted.Bool("omitted", true)
	omitted.Int("originalSize", int64(size))
	omitted.String("reason", field+" too large")
	return omitted.object("")
}

// add adds the name and the kind of a value that takes n bytes more, and reports whether there was room for it. Once there
// was none, nothing is added any more.
func (b *Builder) add(name string, k kind, n int) bool {
	size := len(name) + n + 2
	if b.skipped > 0 || b.size()+size > b.limit {
		b.skipped += size
		return false
	}
	if b.lists&1 == 0 {
		b.buf.WriteByte(byte(kindName))
		b.writeText(name)
	}
	b.buf.WriteByte(byte(k))
	return true
}

func (b *Builder) writeText(text string) {
	n := uint(len(text))
	for ; n >= 0x80; n >>= 7 {
		b.buf.WriteByte(byte(n) | 0x80)
	}
	b.buf.WriteByte(byte(n))
	b.buf.WriteString(text)
}

func (b *Builder) writeVarint(n int64) {
	var room [binary.MaxVarintLen64]byte
	b.buf.Write(binary.AppendVarint(room[:0], n))
}

// String adds a string.
func (b *Builder) String(name, value string) {
	if b.add(name, kindString, len(value)+1) {
		b.writeText(value)
	}
}

// Int adds an integer.
func (b *Builder) Int(name string, value int64) {
	if b.add(name, kindInt, 1) {
		b.writeVarint(value)
	}
}

// Bool adds a boolean.
func (b *Builder) Bool(name string, value bool) {
	k := kindFalse
	if value {
		k = kindTrue
	}
	b.add(name, k, 0)
}

// Time adds a time, in whole seconds.
func (b *Builder) Time(name string, value time.Time) {
	if b.add(name, kindTime, 1) {
		b.writeVarint(value.Unix())
	}
}

// StringMap adds an object with the entries of m, in the order of their keys.
func (b *Builder) StringMap(name string, m map[string]string) {
	b.BeginObject(name)
	defer b.End()
	if b.skipped > 0 || b.size()+3*len(m) > b.limit { // they are counted, and neither collected nor sorted
		for key, value := range m {
			b.skipped += len(key) + len(value) + 3
		}
		return
	}
	var few [8]string
	keys := few[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b.String(key, m[key])
	}
}

// BeginObject begins an object whose members are what is added up to the End that is its own.
func (b *Builder) BeginObject(name string) {
	b.add(name, kindObject, 1)
	b.lists <<= 1
}

// BeginList begins a list whose elements are what is added up to the End that is its own.
func (b *Builder) BeginList(name string) {
	b.add(name, kindList, 1)
	b.lists = b.lists<<1 | 1
}

// End ends the object or list that began last.
func (b *Builder) End() {
	if b.skipped == 0 {
		b.buf.WriteByte(byte(kindEnd))
	}
	b.lists >>= 1
}

// any adds a value of those that ObjectOf takes.
func (b *Builder) any(name string, value any) {
	switch value := value.(type) {
	case nil:
		b.add(name, kindNull, 0)
	case string:
		b.String(name, value)
	case int:
		b.Int(name, int64(value))
	case int32:
		b.Int(name, int64(value))
	case int64:
		b.Int(name, value)
	case float64:
		if math.IsNaN(value) || math.IsInf(value, 0) {
			b.String(name, "!ERROR: "+strconv.FormatFloat(value, 'g', -1, 64))
			return
		}
		b.number(name, strconv.FormatFloat(value, 'g', -1, 64))
	case bool:
		b.Bool(name, value)
	case time.Time:
		b.Time(name, value)
	case []string:
		b.BeginList(name)
		for _, element := range value {
			b.String("", element)
		}
		b.End()
	case []any:
		b.BeginList(name)
		for _, element := range value {
			b.any("", element)
		}
		b.End()
	case map[string]string:
		b.StringMap(name, value)
	case map[string]any:
		b.BeginObject(name)
		b.anyMap(value)
		b.End()
	default:
		b.String(name, fmt.Sprintf("!ERROR: a %T", value)) // not its value, which may be anything
	}
}

func (b *Builder) anyMap(m map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b.any(name, m[name])
	}
}

func (b *Builder) number(name, json string) {
	if b.add(name, kindNumber, len(json)+1) {
		b.writeText(json)
	}
}

// maxDepth is how deep objects and lists may be in one another: lists has a bit for each.
const maxDepth = 32

// readJSON adds what comes up to the end of an object or a list, the beginning of which has been read.
func (b *Builder) readJSON(d *json.Decoder, named bool, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("audit: an object is nested more than %d times", maxDepth)
	}
	for d.More() {
		name := ""
		if named {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ = token.(string)
		}
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case json.Number:
			if n, err := token.Int64(); err == nil {
				b.Int(name, n)
				break
			}
			if _, err := token.Float64(); err != nil {
				return err
			}
			b.number(name, token.String())
		case json.Delim:
			if token == '{' {
				b.BeginObject(name)
			} else {
				b.BeginList(name)
			}
			if err := b.readJSON(d, token == '{', depth+1); err != nil {
				return err
			}
			b.End()
		default:
			b.any(name, token)
		}
	}
	_, err := d.Token() // the end
	return err
}
