// Package strictyaml reads YAML files that hold secrets. A file has exactly the form of a Go struct, and errors repeat
// nothing of it.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

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
// they can, and doc, which describes the form, but nothing of text. With an error into may be filled in part. The caller,
// who bounds the length of text, erases it.
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
