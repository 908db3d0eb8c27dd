// Package strictyaml reads YAML files that hold secrets. A file has exactly the form of a Go struct, and errors repeat
// nothing of it.
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
	// MaxEntries is how many entries a list can have.
	MaxEntries = 10_000
	// MaxMembers is how many members a mapping can have: package yaml compares each with each.
	MaxMembers = 64
)

// Decode reads text, which is one YAML document, into the struct that into points to. It refuses members that the struct
// does not have or that come twice, long mappings and lists, and empty entries of lists. Its errors name the line where
// they can, and what is wanted there, or doc, which describes the form; but nothing of text. With an error into may be filled
// in part. The caller, who bounds the length of text, erases it.
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
	if err := bound(&document); err != nil {
		return err
	}
	if err := conform(document.Content[0], reflect.TypeOf(into), "the file"); err != nil {
		return err
	}
	d = yaml.NewDecoder(bytes.NewReader(text)) // a node cannot be decoded strictly
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return malformed(err, doc)
	}
	return nil
}

// bound refuses long mappings and lists, and entries of lists that are null, which package yaml passes over. It does not
// follow YAML's aliases.
func bound(n *yaml.Node) error {
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
		if err := bound(child); err != nil {
			return err
		}
	}
	return nil
}

// conform refuses what is not of the type t: members that it does not have or that come twice, and values of another kind.
// It is there for what it says, in the words of the type: package yaml refuses all of it too, and it alone looks at
// scalars closely, and behind YAML's aliases and merges. name is that of the value, or of the entry of a list.
func conform(n *yaml.Node, t reflect.Type, name string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode || n.ShortTag() == "!!null" {
		return nil
	}
	kind, wanted := yaml.ScalarNode, "text"
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		kind, wanted = yaml.MappingNode, "a mapping"
	case reflect.Slice:
		kind, wanted = yaml.SequenceNode, "a list"
	case reflect.Int, reflect.Int32:
		wanted = "a whole number"
	case reflect.Bool:
		wanted = "true or false"
	}
	if n.Kind != kind || wanted == "a whole number" && n.ShortTag() != "!!int" {
		return fmt.Errorf("line %d: %s is wanted", n.Line, wanted)
	}
	switch kind {
	case yaml.SequenceNode:
		for _, entry := range n.Content {
			if err := conform(entry, t.Elem(), "a "+strings.TrimSuffix(name, "s")); err != nil { // one of the keys is a key
				return err
			}
		}
	case yaml.MappingNode:
		return conformMembers(n, t, name)
	}
	return nil
}

func conformMembers(n *yaml.Node, t reflect.Type, name string) error {
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
			if err := conform(value, t.Elem(), name); err != nil {
				return err
			}
			continue
		}
		var names []string
		var of reflect.Type
		for field := range t.Fields() {
			known, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if names = append(names, known); known == member.Value {
				of = field.Type
			}
		}
		if of == nil {
			return fmt.Errorf("line %d: %s has %s and nothing else", member.Line, name, strings.Join(names, ", "))
		}
		if err := conform(value, of, member.Value); err != nil {
			return err
		}
	}
	return nil
}

// where is how package yaml begins its errors, if it knows the line. What comes after may be words of the file.
var where = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n  )?(line \d+): `)

// malformed says where a file is not of the form. Package yaml would say more, and quote from the file: values, names of
// members and anchors, any of which may be a secret in the wrong place.
func malformed(err error, doc string) error {
	if match := where.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("%s is not as %s describes", match[1], doc)
	}
	return fmt.Errorf("the file is not as %s describes", doc)
}
