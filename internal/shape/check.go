package shape

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// A Violation is a constraint that a member does not satisfy, in the API's words.
type Violation struct {
	Value      string // " '...'", " null", or empty if the value is not printed
	Path       string // "tags.1.member.tagKey"
	Constraint string // "Member must ..."
}

// Error returns the violation in the API's words.
func (v *Violation) Error() string {
	return "Value" + v.Value + " at '" + v.Path + "' failed to satisfy constraint: " + v.Constraint
}

type pattern struct {
	source string // as in the API's model
	re     *regexp.Regexp
}

// latin matches the characters that the API accepts in free-form members: tab, line feed, carriage
// return, and U+0020 to U+00FF.
const latin = `[\u0009\u000A\u000D\u0020-\u00FF]`

// patterns are the regular expressions of the API's model, by their names in tags.
var patterns = compilePatterns(map[string]string{
	"accountID":           `[0-9]{12}`,
	"aliasName":           `^[a-zA-Z0-9:/_-]+$`,
	"clusterID":           `cluster-[2-7a-zA-Z]{11,16}`,
	"marker":              `[\u0020-\u00FF]*`,
	"materialDescription": `^[a-zA-Z0-9:/_\s.-]+$`,
	"materialID":          `^[a-f0-9]+$`,
	"policy":              latin + `+`,
	"policyName":          `[\w]+`,
	"principal":           `^[\w+=,.@:/-]+$`,
	"region":              `^([a-z]+-){2,3}\d+$`,
	"vpcEndpointService":  `^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$`,
	"xksAccessKeyID":      `^[A-Z2-7]+$`,
	"xksKeyID":            `^[a-zA-Z0-9-_.]+$`,
	"xksSecretAccessKey":  `^[a-zA-Z0-9\/+=]+$`,
	"xksURIEndpoint":      `^https://[a-zA-Z0-9.-]+$`,
	"xksURIPath":          `^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$`,
})

func compilePatterns(sources map[string]string) map[string]*pattern {
	compiled := make(map[string]*pattern, len(sources))
	escape := regexp.MustCompile(`\\u([0-9A-F]{4})`)
	for name, source := range sources {
		compiled[name] = &pattern{
			source: source,
			re:     regexp.MustCompile(`^(?:` + escape.ReplaceAllString(source, `\x{$1}`) + `)$`),
		}
	}
	return compiled
}

// maxPrinted is the maximum number of bytes of an invalid value that a message repeats.
const maxPrinted = 4096

// Check returns all violations of in, a pointer to a struct of s's type. If there are none, it
// returns nil and usually does not allocate.
func (s *Struct) Check(in any) []error {
	if s.fastValid(s.pointerTo(in)) {
		return nil
	}
	return s.check(reflect.ValueOf(in).Elem(), "", nil, nil)
}

// Check is [Struct.Check] without reflection on a valid in.
func (s Typed[T]) Check(in *T) []error {
	if s.fastValid(unsafe.Pointer(in)) {
		return nil
	}
	return s.Struct.Check(in)
}

// A Wire is an input that came over a wire, where a member can be present but empty. A Go struct
// does not distinguish that from an absent member.
type Wire struct {
	Input any                 // a pointer to the struct
	Empty map[string]struct{} // the paths of members, also nested ones, that are present: strings that are empty, and booleans that are false
}

// IsEmpty reports whether the member with a path is present but empty. s may be nil.
func (s *Wire) IsEmpty(path string) bool {
	if s == nil {
		return false
	}
	_, ok := s.Empty[path]
	return ok
}

// CheckWire is Check for an input that came over a wire.
func (s *Struct) CheckWire(sent *Wire) []error {
	if len(sent.Empty) == 0 && !s.requiredOnWire {
		return s.Check(sent.Input)
	}
	return s.check(reflect.ValueOf(sent.Input).Elem(), "", sent, nil)
}

// A quickRule is what fastValid needs of a member with constraints: it walks them in every call.
type quickRule struct {
	offset   uintptr // of the Go field
	form     form
	required bool
	min, max int // the bytes or elements of a member that is present; if max is less, check decides
	enum     []string
}

// A form is how Go stores a member.
type form uint8

const (
	otherForm form = iota // check decides
	pointerForm
	stringForm
	sliceForm
)

func (m *Member) quickRule() quickRule {
	r := quickRule{offset: m.offset, required: m.Required, max: -1, enum: m.enum}
	switch {
	case m.Pointer:
		r.form = pointerForm
	case m.Kind == String:
		r.form = stringForm
		if m.plain {
			r.min, r.max = m.length.limits()
		}
	case m.Kind == Blob:
		r.form = sliceForm
		r.min, r.max = m.length.limits()
	case m.Kind == StringList:
		r.form = sliceForm
	}
	return r
}

// limits returns the bounds, with the widest instead of those that b has not.
func (b *bounds) limits() (low, high int) {
	low, high = 0, math.MaxInt
	if b.hasMin {
		low = b.min
	}
	if b.hasMax {
		high = b.max
	}
	return low, high
}

// fastValid reports whether the structure at p is known to be valid. If it returns false, check has
// to decide. It exists because some operations take less time than a walk by reflection.
func (s *Struct) fastValid(p unsafe.Pointer) bool {
	for i := range s.quick {
		r := &s.quick[i]
		field := unsafe.Add(p, r.offset)
		absent, n := false, 0
		switch r.form {
		case pointerForm:
			absent = *(*unsafe.Pointer)(field) == nil
		case stringForm:
			n = len(*(*string)(field))
			absent = n == 0
		case sliceForm: // the headers of all slices have the same form
			slice := *(*[]byte)(field)
			n, absent = len(slice), slice == nil
		}
		switch {
		case absent && !r.required:
		case absent, n < r.min, n > r.max, r.enum != nil && !slices.Contains(r.enum, *(*string)(field)):
			return false
		}
	}
	return true
}

func (s *Struct) check(v reflect.Value, prefix string, sent *Wire, found []error) []error {
	for _, m := range s.checked {
		f := v.Field(m.Index)
		if f.IsZero() {
			switch {
			case m.Kind == String && sent.IsEmpty(prefix+m.Path):
				found = m.check(f, prefix, sent, found)
			case m.Required || m.RequiredOnWire && sent != nil:
				found = append(found, Missing(prefix+m.Path))
			}
			continue
		}
		if m.Pointer {
			f = f.Elem()
		}
		found = m.check(f, prefix, sent, found)
	}
	return found
}

func (m *Member) check(f reflect.Value, prefix string, sent *Wire, found []error) []error {
	violate := func(constraint string) {
		found = append(found, &Violation{m.printed(f), prefix + m.Path, constraint})
	}
	switch m.Kind {
	case String:
		m.checkString(f.String(), m.length, violate)
	case Blob, StringMap:
		checkLength(f.Len(), m.length, violate)
	case Integer:
		n := int(f.Int())
		if m.value.hasMin && n < m.value.min {
			violate("Member must have value greater than or equal to " + strconv.Itoa(m.value.min))
		}
		if m.value.hasMax && n > m.value.max {
			violate("Member must have value less than or equal to " + strconv.Itoa(m.value.max))
		}
	case StringList:
		checkLength(f.Len(), m.length, violate)
		if m.length.hasMax && f.Len() > m.length.max {
			break // bounds the work: a list that is too long is not walked
		}
		for i := range f.Len() {
			ok := true
			m.checkString(f.Index(i).String(), m.each, func(string) { ok = false })
			if !ok {
				violate("Member must satisfy constraint: [" + strings.Join(m.elementConstraints(), ", ") + "]")
				break
			}
		}
	case Structure:
		found = m.Nested.check(f, prefix+m.Path+".", sent, found)
	case StructureList:
		checkLength(f.Len(), m.length, violate)
		if m.length.hasMax && f.Len() > m.length.max {
			break
		}
		for i := range f.Len() {
			found = m.Nested.check(f.Index(i), fmt.Sprintf("%s%s.%d.member.", prefix, m.Path, i+1), sent, found)
			if len(found) >= maxViolations {
				break
			}
		}
	}
	return found
}

// maxViolations bounds the violations that are reported for the elements of a list.
const maxViolations = 50

func (m *Member) checkString(s string, length bounds, violate func(string)) {
	if len(s) > length.max || length.min > 1 { // a string has at most as many characters as bytes
		checkLength(utf8.RuneCountInString(s), length, violate)
	} else {
		checkLength(len(s), length, violate)
	}
	if m.enum != nil && !slices.Contains(m.enum, s) {
		violate(m.enumConstraint())
	}
	if m.pattern != nil && (!length.hasMax || len(s) <= 4*length.max) && !m.pattern.re.MatchString(s) {
		violate(m.patternConstraint())
	}
}

func checkLength(n int, b bounds, violate func(string)) {
	if b.hasMin && n < b.min {
		violate(lengthAtLeast(b))
	}
	if b.hasMax && n > b.max {
		violate(lengthAtMost(b))
	}
}

func lengthAtLeast(b bounds) string {
	return "Member must have length greater than or equal to " + strconv.Itoa(b.min)
}

func lengthAtMost(b bounds) string {
	return "Member must have length less than or equal to " + strconv.Itoa(b.max)
}

func (m *Member) enumConstraint() string {
	return "Member must satisfy enum value set: [" + strings.Join(m.enum, ", ") + "]"
}

func (m *Member) patternConstraint() string {
	return "Member must satisfy regular expression pattern: " + m.pattern.source
}

// elementConstraints returns all constraints on the elements of a list. The API names all of them
// if an element violates one.
func (m *Member) elementConstraints() []string {
	var all []string
	if m.each.hasMax {
		all = append(all, lengthAtMost(m.each))
	}
	if m.each.hasMin {
		all = append(all, lengthAtLeast(m.each))
	}
	if m.enum != nil {
		all = append(all, m.enumConstraint())
	}
	if m.pattern != nil {
		all = append(all, m.patternConstraint())
	}
	return all
}

// printed returns an invalid value as messages of the API repeat it. It is empty for blobs,
// structures and secrets.
func (m *Member) printed(f reflect.Value) string {
	if m.Secret {
		return ""
	}
	var text string
	switch m.Kind {
	case String:
		text = f.String()
	case Integer:
		text = strconv.FormatInt(f.Int(), 10)
	case StringList:
		var b strings.Builder
		b.WriteByte('[')
		for i := 0; i < f.Len() && b.Len() <= maxPrinted; i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(f.Index(i).String())
		}
		b.WriteByte(']')
		text = b.String()
	default:
		return ""
	}
	if len(text) > maxPrinted {
		text = strings.ToValidUTF8(text[:maxPrinted], "") + "..."
	}
	return " '" + strings.ToValidUTF8(text, "\uFFFD") + "'"
}

// Missing returns the violation for a required member that is absent.
func Missing(path string) *Violation {
	return &Violation{" null", path, "Member must not be null"}
}
