package seed

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/internal/strictyaml"
)

const (
	formatVersion = 1
	maxFileBytes  = 4 << 20
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
	text, err := securefile.Read(r, "the file", maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	defer secret.Clear(text)
	var f file
	if err := strictyaml.Decode(text, &f, "docs/seed.md"); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	switch f.Version {
	case formatVersion:
	case 0:
		return nil, errors.New(`seed: the file does not begin with "version: 1"`)
	default:
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
