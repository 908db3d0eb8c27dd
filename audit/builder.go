package audit

import (
	"bytes"
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

// A Builder makes the objects of one event. [Builder.Start] begins one, the methods named like
// types add members to it, in the order of the calls, and in a list without names. [Builder.Finish]
// sets all of them. Its zero value is ready for use, and so is a Builder that has finished, which
// keeps the memory that it has worked in.
type Builder struct {
	buf    []byte
	sorted struct {
		name    string
		entries []byte
	}
	objects [3]pending
	n       int // of objects
	limit   int // of the current one, the last
	skipped int // what has not been added to it any more
	open    open
}

// A pending is an object that Finish will set.
type pending struct {
	object     *Object
	field      string
	start, end int // in buf; if both are 0, the object is null
}

// open has a bit for the current object or list, the lowest, and for each around it. It is set for
// a list.
type open uint32

// maxDepth is how deep objects and lists may be in one another.
const maxDepth = 32

// maxKeptBytes bounds the memory that a Builder keeps.
const maxKeptBytes = 64 << 10

// Sorted gives b the entries of the map that StringMap will add under a name, so that StringMap
// need not collect and sort them: sorted by key, each key and each value after its length in two
// bytes, big-endian. b reads them until Finish.
func (b *Builder) Sorted(name string, entries []byte) {
	b.sorted.name, b.sorted.entries = name, entries
}

// Start begins object, which is the value of the event's field of that name. If its JSON is longer
// than maxBytes, all that it will say is how long, as in CloudTrail. If no member is added, it is
// null.
func (b *Builder) Start(object *Object, field string, maxBytes int) {
	b.close()
	p := &b.objects[b.n]
	p.object, p.field, p.start = object, field, len(b.buf)
	b.n++
	b.limit, b.skipped, b.open = maxBytes, 0, 0
	b.buf = append(b.buf, byte(kindObject))
}

// size is the size of the current object as JSON, or a little less.
func (b *Builder) size() int { return len(b.buf) - b.objects[b.n-1].start + b.skipped }

// maxEscape is how many bytes of JSON one byte of a string can take, as \u0000 does.
const maxEscape = 6

// close ends the current object, if there is one.
func (b *Builder) close() {
	if b.n == 0 {
		return
	}
	p, size := &b.objects[b.n-1], b.size()
	switch {
	case size == 1:
		b.buf, p.start, p.end = b.buf[:p.start], 0, 0
		return
	case b.skipped == 0:
		b.buf = append(b.buf, byte(kindEnd))
		if size > b.limit/maxEscape {
			size = len(Object{b.buf[p.start:]}.appendJSON(nil))
		}
	}
	if size > b.limit {
		b.buf = append(b.buf[:p.start], byte(kindObject))
		b.limit, b.skipped, b.open = math.MaxInt, 0, 0
		b.Bool("omitted", true)
		b.Int("originalSize", int64(size))
		b.String("reason", p.field+" too large")
		b.buf = append(b.buf, byte(kindEnd))
	}
	p.end = len(b.buf)
}

// Finish sets the objects. If lend is true, they use b's memory, which is theirs until b is used
// again; if not, they have memory of their own.
func (b *Builder) Finish(lend bool) {
	b.close()
	all := b.buf
	if !lend {
		all = bytes.Clone(all)
	}
	for _, p := range b.objects[:b.n] {
		*p.object = Object{}
		if p.end > 0 {
			p.object.encoded = all[p.start:p.end:p.end]
		}
	}
	clear(b.objects[:b.n])
	b.buf, b.n = b.buf[:0], 0
	b.Sorted("", nil)
	if cap(b.buf) > maxKeptBytes {
		b.buf = nil
	}
}

// add adds the name and the kind of a value that takes n bytes more, and reports whether there was
// room for it. Once there was none, nothing is added any more.
func (b *Builder) add(name string, k kind, n int) bool {
	size := len(name) + n + 2
	if b.skipped > 0 || b.size()+size > b.limit {
		b.skipped += size
		return false
	}
	buf := b.buf
	if b.open&1 == 0 {
		buf = appendString(append(buf, byte(kindName)), name)
	}
	b.buf = append(buf, byte(k))
	return true
}

func appendString[T string | []byte](buf []byte, s T) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// String adds a string.
func (b *Builder) String(name, value string) {
	if b.add(name, kindString, len(value)+1) {
		b.buf = appendString(b.buf, value)
	}
}

// Int adds an integer.
func (b *Builder) Int(name string, value int64) {
	if b.add(name, kindInt, 1) {
		b.buf = binary.AppendVarint(b.buf, value)
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
		b.buf = binary.AppendVarint(b.buf, value.Unix())
	}
}

// StringMap adds an object with the entries of m, in the order of their keys.
func (b *Builder) StringMap(name string, m map[string]string) {
	b.BeginObject(name)
	defer b.End()
	if name == b.sorted.name && b.sorted.entries != nil {
		b.addSorted(b.sorted.entries)
		return
	}
	if b.skipped > 0 || b.size()+3*len(m) > b.limit { // they are counted, and neither collected nor sorted
		for key, value := range m {
			b.skipped += len(key) + len(value) + 3
		}
		return
	}
	type entry struct{ key, value string }
	var few [4]entry
	entries := few[:0]
	for key, value := range m {
		entries = append(entries, entry{key, value})
	}
	if len(entries) <= len(few) { // a call of SortFunc would take longer
		for i := 1; i < len(entries); i++ {
			for j := i; j > 0 && entries[j].key < entries[j-1].key; j-- {
				entries[j], entries[j-1] = entries[j-1], entries[j]
			}
		}
	} else {
		slices.SortFunc(entries, func(x, y entry) int { return strings.Compare(x.key, y.key) })
	}
	for i := range entries {
		b.String(entries[i].key, entries[i].value)
	}
}

// addSorted adds the entries that Sorted was given.
func (b *Builder) addSorted(entries []byte) {
	fits := b.skipped == 0 && b.size()+2*len(entries) <= b.limit // they take less than twice as much
	for len(entries) > 0 {
		var key, value []byte
		key, entries = cutEntry(entries)
		value, entries = cutEntry(entries)
		if fits {
			buf := appendString(append(b.buf, byte(kindName)), key)
			b.buf = appendString(append(buf, byte(kindString)), value)
		} else {
			b.String(string(key), string(value))
		}
	}
}

// cutEntry returns the text that b begins with, after its length, and the rest.
func cutEntry(b []byte) (text, rest []byte) {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n], b[n:]
}

// BeginObject begins an object whose members are what is added up to the End that is its own.
func (b *Builder) BeginObject(name string) {
	b.add(name, kindObject, 1)
	b.open <<= 1
}

// BeginList begins a list whose elements are what is added up to the End that is its own.
func (b *Builder) BeginList(name string) {
	b.add(name, kindList, 1)
	b.open = b.open<<1 | 1
}

// End ends the object or list that began last.
func (b *Builder) End() {
	if b.skipped == 0 {
		b.buf = append(b.buf, byte(kindEnd))
	}
	b.open >>= 1
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
		b.buf = appendString(b.buf, json)
	}
}

// readJSON adds what comes up to the end of an object or a list, the beginning of which has been
// read.
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
