package seed

import (
	"bytes"
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

// A file has the format that docs/seed.md describes.
type file struct {
	Version int     `yaml:"version"`
	Keys    []entry `yaml:"keys"`
}

type entry struct {
	ID                     string            `yaml:"id"`
	Account                string            `yaml:"account"`
	Region                 string            `yaml:"region"`
	Spec                   kms.KeySpec       `yaml:"spec"`
	Usage                  kms.KeyUsageType  `yaml:"usage"`
	Origin                 kms.OriginType    `yaml:"origin"`
	Material               *material         `yaml:"material"`
	PreviousMaterials      []material        `yaml:"previousMaterials"`
	MaterialValidityInDays int32             `yaml:"materialValidityInDays"`
	MaterialDescription    string            `yaml:"materialDescription"`
	State                  kms.KeyState      `yaml:"state"`
	PendingWindowInDays    int32             `yaml:"pendingWindowInDays"`
	Aliases                []string          `yaml:"aliases"`
	Description            string            `yaml:"description"`
	Tags                   map[string]string `yaml:"tags"`
	Policy                 string            `yaml:"policy"`
	Grants                 []grant           `yaml:"grants"`
}

// A grant has the members of CreateGrant that describe one.
type grant struct {
	Name                     string               `yaml:"name"`
	GranteePrincipal         string               `yaml:"granteePrincipal"`
	GranteeServicePrincipal  string               `yaml:"granteeServicePrincipal"`
	RetiringPrincipal        string               `yaml:"retiringPrincipal"`
	RetiringServicePrincipal string               `yaml:"retiringServicePrincipal"`
	Operations               []kms.GrantOperation `yaml:"operations"`
	Constraints              *constraints         `yaml:"constraints"`
}

type constraints struct {
	EncryptionContextEquals map[string]string `yaml:"encryptionContextEquals"`
	EncryptionContextSubset map[string]string `yaml:"encryptionContextSubset"`
	SourceArn               string            `yaml:"sourceArn"`
}

func (g *grant) input() kms.CreateGrantInput {
	in := kms.CreateGrantInput{
		Name: g.Name, GranteePrincipal: g.GranteePrincipal, GranteeServicePrincipal: g.GranteeServicePrincipal,
		RetiringPrincipal: g.RetiringPrincipal, RetiringServicePrincipal: g.RetiringServicePrincipal, Operations: g.Operations,
	}
	if c := g.Constraints; c != nil {
		in.Constraints = &kms.GrantConstraints{
			EncryptionContextEquals: c.EncryptionContextEquals, EncryptionContextSubset: c.EncryptionContextSubset, SourceArn: c.SourceArn,
		}
	}
	return in
}

// A material has exactly one member.
type material struct {
	Hex    string `yaml:"hex"`
	Base64 string `yaml:"base64"`
	PEM    string `yaml:"pem"`
	JWK    *jwk   `yaml:"jwk"`
}

// errLocalKMS is the error for a seed file of local-kms, which users often have.
var errLocalKMS = errors.New("seed: this is a seed file of local-kms (nsmithuk/local-kms), which has another format: " +
	"docs/seed.md shows how to write its keys and aliases in this one")

// Parse reads a file of at most 4 MiB and 10,000 keys in the format that docs/seed.md describes. It
// refuses anything that is not described there, and key material that is not that of its key's
// spec. Its errors name the line, and the key if they are about one, and repeat no material.
func Parse(r io.Reader) ([]Key, error) {
	text, err := securefile.Read(r, "the file", maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	defer secret.Clear(text)
	var f file
	if err := strictyaml.Decode(text, &f, "docs/seed.md"); err != nil {
		if isLocalKMS(text) {
			return nil, errLocalKMS
		}
		return nil, fmt.Errorf("seed: %w", err)
	}
	switch f.Version {
	case formatVersion:
	case 0:
		return nil, errors.New(`seed: the file does not have the member "version: 1"`)
	default:
		return nil, fmt.Errorf("seed: the file has version %d; this program supports version %d", f.Version, formatVersion)
	}
	keys := make([]Key, len(f.Keys))
	for i, e := range f.Keys {
		if keys[i], err = e.key(); err != nil {
			path := []any{"keys", i}
			if member, ok := errors.AsType[*memberError](err); ok {
				path = append(path, member.path...)
			}
			return nil, fmt.Errorf("seed: line %d: %w", strictyaml.LineOf(text, path...), named(i, keys[i], err))
		}
	}
	return keys, nil
}

// isLocalKMS reports whether a file that cannot be decoded has a top-level member of local-kms.
func isLocalKMS(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("Keys:")) || bytes.HasPrefix(line, []byte("Aliases:")) {
			return true
		}
	}
	return false
}

// key returns the Key of an entry. With an error, the Key is only good for naming it.
func (e *entry) key() (Key, error) {
	k := Key{
		ID: e.ID, Account: e.Account, Region: e.Region, Spec: e.Spec, Usage: e.Usage, Origin: e.Origin,
		MaterialValidityInDays: e.MaterialValidityInDays, MaterialDescription: e.MaterialDescription,
		State: e.State, PendingWindowInDays: e.PendingWindowInDays, Aliases: e.Aliases, Description: e.Description, Tags: e.Tags, Policy: e.Policy,
	}
	if e.ID == "" {
		return k, errors.New("a key needs an id")
	}
	for i := range e.Grants {
		k.Grants = append(k.Grants, e.Grants[i].input())
	}
	if err := k.checkGrants(); err != nil {
		return k, err
	}
	var err error
	if e.Material != nil {
		if k.Material, err = e.Material.encoded(); err != nil {
			return k, &memberError{[]any{"material"}, err}
		}
	}
	for i := range e.PreviousMaterials {
		m, err := e.PreviousMaterials[i].encoded()
		if err != nil {
			return k, &memberError{[]any{"previousMaterials", i}, err}
		}
		k.PreviousMaterials = append(k.PreviousMaterials, m)
	}
	if err := k.checkOrigin(); err != nil {
		return k, err
	}
	materials, err := k.materials()
	clearAll(materials)
	return k, err
}

// encoded returns the Material that m holds.
func (m *material) encoded() (Material, error) {
	var all []Material
	if m.Hex != "" {
		all = append(all, Hex(m.Hex))
	}
	if m.Base64 != "" {
		all = append(all, Base64(m.Base64))
	}
	if m.PEM != "" {
		all = append(all, PEM(m.PEM))
	}
	if m.JWK != nil {
		all = append(all, newMaterial(m.JWK.decode))
	}
	if len(all) != 1 {
		return Material{}, errors.New("a material has exactly one of hex, base64, pem and jwk")
	}
	return all[0], nil
}
