package seed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
)

const (
	formatVersion = 1
	maxFileBytes  = 4 << 20
	maxKeys       = 10_000
	maxMembers    = 64 // of any mapping: package yaml compares each with each
)

// A file is what docs/seed.md describes.
type file struct {
	Version int     `yaml:"version"`
	Keys    []entry `yaml:"keys"`
}

type entry struct {
	ID                  string            `yaml:"id"`
	Account             string            `yaml:"account"`
	Region              string            `yaml:"region"`
	Spec                kms.KeySpec       `yaml:"spec"`
	Usage               kms.KeyUsageType  `yaml:"usage"`
	Material            *material         `yaml:"material"`
	State               kms.KeyState      `yaml:"state"`
	PendingWindowInDays int32             `yaml:"pendingWindowInDays"`
	Aliases             []string          `yaml:"aliases"`
	Description         string            `yaml:"description"`
	Tags                map[string]string `yaml:"tags"`
	Policy              string            `yaml:"policy"`
}

// A material is written in one of these forms.
type material struct {
	Hex    string `yaml:"hex"`
	Base64 string `yaml:"base64"`
	PEM    string `yaml:"pem"`
	JWK    *jwk   `yaml:"jwk"`
}

// Read reads a file of at most 4 MiB and 10,000 keys in the form that docs/seed.md describes. It refuses whatever that does
// not, and material that cannot be read. Its errors name the line or the key, and repeat no material.
func Read(r io.Reader) ([]Key, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	defer secret.Clear(text)
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("seed: the file is longer than %d bytes", maxFileBytes)
	}
	f, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	if f.Version != formatVersion {
		return nil, fmt.Errorf("seed: the file has version %d; this program reads version %d", f.Version, formatVersion)
	}
	keys := make([]Key, len(f.Keys))
	for i, e := range f.Keys {
		keys[i] = Key{
			ID: e.ID, Account: e.Account, Region: e.Region, Spec: e.Spec, Usage: e.Usage, State: e.State,
			PendingWindowInDays: e.PendingWindowInDays, Aliases: e.Aliases, Description: e.Description, Tags: e.Tags, Policy: e.Policy,
		}
		if e.ID == "" {
			return nil, entryError(i, keys[i], errors.New("a key needs an id"))
		}
		if e.Material == nil {
			continue
		}
		if keys[i].Material, err = e.Material.form(); err != nil {
			return nil, entryError(i, keys[i], err)
		}
		readable, err := keys[i].Material.bytes(cmp.Or(e.Spec, kms.KeySpecSymmetricDefault))
		secret.Clear(readable)
		if err != nil {
			return nil, entryError(i, keys[i], err)
		}
	}
	return keys, nil
}

func decode(text []byte) (f file, err error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := d.Decode(&document); err == io.EOF {
		return f, errors.New("the file is empty")
	} else if err != nil {
		return f, malformed(err)
	}
	if err := d.Decode(new(yaml.Node)); err == nil {
		return f, errors.New("the file has more than one document")
	} else if err != io.EOF {
		return f, malformed(err)
	}
	if err := bound(&document); err != nil {
		return f, err
	}
	d = yaml.NewDecoder(bytes.NewReader(text)) // a node cannot be decoded strictly
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return f, malformed(err)
	}
	return f, nil
}

// bound refuses long mappings and lists, and entries of lists that are null, which package yaml passes over. It does not
// follow YAML's aliases.
func bound(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode && len(n.Content) > 2*maxMembers {
		return fmt.Errorf("line %d: a mapping has at most %d members", n.Line, maxMembers)
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) > maxKeys {
		return fmt.Errorf("line %d: a list has at most %d entries", n.Line, maxKeys)
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

func (m *material) form() (Material, error) {
	var forms []Material
	if m.Hex != "" {
		forms = append(forms, Hex(m.Hex))
	}
	if m.Base64 != "" {
		forms = append(forms, Base64(m.Base64))
	}
	if m.PEM != "" {
		forms = append(forms, PEM(m.PEM))
	}
	if m.JWK != nil {
		forms = append(forms, Material{m.JWK.read})
	}
	if len(forms) != 1 {
		return Material{}, errors.New("material has exactly one of hex, base64, pem and jwk")
	}
	return forms[0], nil
}

// where is how package yaml begins its errors, if it knows the line. What comes after may be words of the file.
var where = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n  )?(line \d+): `)

// malformed says where a file is not of the form. Package yaml would say more, and quote from the file: values, names of
// members and anchors, any of which may be material in the wrong place.
func malformed(err error) error {
	if match := where.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("%s is not as docs/seed.md describes", match[1])
	}
	return errors.New("the file is not as docs/seed.md describes")
}
