// Package strictyaml reads YAML files that contain secrets. A file must have exactly the form of a
// Go struct. Errors quote nothing from it.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxEntries is the maximum number of entries of a list.
	MaxEntries = 10_000
	// MaxMembers is the maximum number of members of a mapping. Package yaml compares all pairs of
	// members.
	MaxMembers = 64
)

// A Text is a text and where it is in the file. It stands for a string.
type Text struct {
	Value string
	Line  int // in which it begins, from 1; 0 if it is not there
	block bool
}

var textType = reflect.TypeFor[Text]()

// UnmarshalYAML decodes a scalar.
func (t *Text) UnmarshalYAML(n *yaml.Node) error {
	t.Line, t.block = n.Line, n.Style&yaml.LiteralStyle != 0
	return n.Decode(&t.Value)
}

// LineOf returns the line of the file that has line n of the text, if the text is a literal block,
// which keeps the lines of the file. Otherwise it returns the line in which the text begins.
func (t *Text) LineOf(n int) int {
	if t.block {
		return t.Line + n
	}
	return t.Line
}

// Decode decodes text, a single YAML document, into the struct that into points to. It refuses
// unknown and duplicate members, mappings and lists beyond the limits, and empty entries of lists.
// An error names the line and what is expected there, if they are known, and otherwise doc, the
// document that describes the form. After an error, into may be partly filled. The caller must
// bound the length of text, and erase it.
func Decode(text []byte, into any, doc string) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := d.Decode(&document); err == io.EOF {
		return errors.New("the file is empty")
	} else if err != nil {
		return malformed(err, doc)
	}
	if err := d.Decode(new(yaml.Node)); err == nil {
		return errors.New("the file has more than one document")
	} else if err != io.EOF {
		return malformed(err, doc)
	}
	if err := checkLimits(&document); err != nil {
		return err
	}
	if err := checkType(document.Content[0], reflect.TypeOf(into), "the file"); err != nil {
		return err
	}
	d = yaml.NewDecoder(bytes.NewReader(text)) // a node cannot be decoded strictly
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return malformed(err, doc)
	}
	return nil
}

// LineOf returns the line of the member or entry at the path, which consists of names and indices,
// in a text that Decode has decoded. What an alias or a merge stands for is on the line of that.
func LineOf(text []byte, path ...any) int {
	var document yaml.Node
	if yaml.Unmarshal(text, &document) != nil || len(document.Content) == 0 {
		return 0
	}
	n, line := document.Content[0], 1
	for _, step := range path {
		name, value := child(n, step)
		if name == nil {
			break
		}
		n, line = value, name.Line
	}
	return line
}

// child returns a member of a mapping, as its name and value, or an entry of a list, as both.
func child(n *yaml.Node, step any) (name, value *yaml.Node) {
	switch step := step.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && step < len(n.Content) {
			return n.Content[step], n.Content[step]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	}
	return nil, nil
}

// checkLimits refuses mappings and lists beyond the limits, and null entries of lists, which
// package yaml skips. It does not follow YAML aliases.
func checkLimits(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode && len(n.Content) > 2*MaxMembers {
		return fmt.Errorf("line %d: a mapping has at most %d members", n.Line, MaxMembers)
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) > MaxEntries {
		return fmt.Errorf("line %d: a list has at most %d entries", n.Line, MaxEntries)
	}
	for _, child := range n.Content {
		if n.Kind == yaml.SequenceNode && child.Tag == "!!null" {
			return fmt.Errorf("line %d: an entry of a list is empty", child.Line)
		}
		if err := checkLimits(child); err != nil {
			return err
		}
	}
	return nil
}

// checkType refuses what does not match the type t: unknown and duplicate members, and values of
// another kind. Package yaml refuses all of that too, also behind aliases and merges, and checks
// scalars more closely; checkType runs first because its errors quote nothing from the file. name
// is the name of the value in errors.
func checkType(n *yaml.Node, t reflect.Type, name string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode || n.ShortTag() == "!!null" {
		return nil
	}
	kind, wanted := yaml.ScalarNode, "text"
	switch {
	case t == textType:
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		kind, wanted = yaml.MappingNode, "a mapping"
	case t.Kind() == reflect.Slice:
		kind, wanted = yaml.SequenceNode, "a list"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int32:
		wanted = "a whole number"
	case t.Kind() == reflect.Bool:
		wanted = "true or false"
	}
	if n.Kind != kind || wanted == "a whole number" && n.ShortTag() != "!!int" {
		return fmt.Errorf("line %d: %s is wanted", n.Line, wanted)
	}
	switch kind {
	case yaml.SequenceNode:
		for _, entry := range n.Content {
			if err := checkType(entry, t.Elem(), "a "+strings.TrimSuffix(name, "s")); err != nil { // an entry of keys is "a key"
				return err
			}
		}
	case yaml.MappingNode:
		return checkMembers(n, t, name)
	}
	return nil
}

func checkMembers(n *yaml.Node, t reflect.Type, name string) error {
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		member, value := n.Content[i], n.Content[i+1]
		if member.Kind == yaml.AliasNode || member.ShortTag() == "!!merge" {
			continue
		}
		if member.Kind == yaml.ScalarNode && seen[member.Value] {
			return fmt.Errorf("line %d: a member is there twice", member.Line)
		}
		seen[member.Value] = true
		if t.Kind() == reflect.Map {
			if err := checkType(value, t.Elem(), name); err != nil {
				return err
			}
			continue
		}
		var names []string
		var fieldType reflect.Type
		for field := range t.Fields() {
			known, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if names = append(names, known); known == member.Value {
				fieldType = field.Type
			}
		}
		if fieldType == nil {
			return fmt.Errorf("line %d: %s has %s and nothing else", member.Line, name, strings.Join(names, ", "))
		}
		if err := checkType(value, fieldType, member.Value); err != nil {
			return err
		}
	}
	return nil
}

// linePrefix matches the start of an error of package yaml that names a line. The rest may quote
// from the file.
var linePrefix = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n  )?(line \d+): `)

// malformed returns an error with the line of err and nothing else of it: package yaml quotes
// values, members and anchors, any of which may be a secret in the wrong place.
func malformed(err error, doc string) error {
	if match := linePrefix.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("%s is not as %s describes", match[1], doc)
	}
	return fmt.Errorf("the file is not as %s describes", doc)
}
