// Package seed creates keys with IDs and key material that were chosen beforehand, from Go or from
// a YAML file. A test or a local service then has the same keys on every run: what one run
// encrypts, the next one decrypts.
//
// Such key material is only as secret as the place where it is written down. Use it for tests and
// development.
package seed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/internal/testhook"
)

// A Key describes a key to create. Only its ID is required.
type Key struct {
	// ID is a lower-case UUID or, for a multi-Region key, "mrk-" and 32 lower-case hexadecimal
	// digits. Multi-Region keys with the same ID in several Regions of an account are related: the
	// first that is created is the primary, the others are its replicas, and each decrypts what the
	// others encrypted.
	ID string

	// Account and Region say where the key is; the defaults are those of the Service's view.
	Account string
	Region  string

	// Spec and Usage are those of CreateKey. Usage is required unless Spec is empty or
	// SYMMETRIC_DEFAULT.
	Spec  kms.KeySpec
	Usage kms.KeyUsageType

	// Origin is AWS_KMS or EXTERNAL; empty means AWS_KMS. The material of a key of origin EXTERNAL is
	// imported: without a Material the key is pending import, and has no grants. Each of the related
	// multi-Region keys needs a Material, which is stored in its Region.
	Origin kms.OriginType

	// Material is the current key material. With the zero value the Service generates it,
	// differently on each run, unless Origin is EXTERNAL.
	Material Material

	// PreviousMaterials are the materials that Material has replaced, oldest first. They only
	// decrypt. Only a symmetric encryption key can have them, at most 25, and it needs a Material.
	// They count as on-demand rotations that happened when the key was created.
	PreviousMaterials []Material

	// MaterialValidityInDays says for how many days from the creation of the key it keeps the
	// imported Material, at most 365; 0 means forever. Then the key is pending import until the
	// same material is imported again, which Apply does not do. MaterialDescription is that of the
	// imported Material of a symmetric encryption key. An existing key keeps what it has.
	MaterialValidityInDays int32
	MaterialDescription    string

	// Grants are the grants of the key, by the root of its account. Each needs a Name, which no other
	// grant of the key may have; a grant that exists with the same name and properties is not created
	// again. KeyId must be empty. Grant IDs and tokens differ on each run.
	Grants []kms.CreateGrantInput

	// State is Enabled, Disabled or PendingDeletion. The default is Enabled for a new key; the
	// state of a key that exists stays as it is. PendingWindowInDays is for PendingDeletion: 7 to
	// 30 days from the creation of the key; 0 means 30.
	State               kms.KeyState
	PendingWindowInDays int32

	Aliases     []string // with the prefix "alias/"
	Description string
	Tags        map[string]string
	Policy      string // a JSON document that may lock out its author; empty means the default policy
}

// Load creates the keys of a file in the format that docs/seed.md describes: it calls [Parse] and
// [Apply]. If the file has an error, it creates none.
func Load(ctx context.Context, svc *kms.Service, file io.Reader) error {
	keys, err := Parse(file)
	if err != nil {
		return err
	}
	return Apply(ctx, svc, keys...)
}

// Apply makes svc have the keys, in their order. It creates keys that do not exist. In a key that
// exists with the same spec, usage, origin and material it changes what differs from the Key, and
// leaves what the Key does not mention: to apply the same keys again changes nothing, and completes
// what was interrupted. If another key has that ID, the error is a ConflictException. Apply does
// not take an alias from another key and does not cancel a deletion. A key that is pending deletion
// cannot get a description, tags, aliases or grants: if the Key has no State, they are left as they
// are. Nor can a key get grants that is disabled or pending import.
//
// Apply creates nothing if an ID is malformed, if key material cannot be read, or if two keys have
// the same ID or alias. At any other error it stops. Errors name the key; what the service answered
// is a [kms.Error] in them.
func Apply(ctx context.Context, svc *kms.Service, keys ...Key) error {
	plans, err := newPlans(svc, keys)
	defer func() {
		for _, p := range plans {
			clearAll(p.materials)
		}
	}()
	if err != nil {
		return err
	}
	for i, p := range plans {
		if err := p.apply(ctx); err != nil {
			return keyError(i, p.Key, err)
		}
	}
	return nil
}

func clearAll(materials [][]byte) {
	for _, m := range materials {
		secret.Clear(m)
	}
}

// keyError returns an error about a key.
func keyError(i int, k Key, err error) error { return fmt.Errorf("seed: %w", named(i, k, err)) }

func named(i int, k Key, err error) error { return fmt.Errorf("keys[%d] (%.64q): %w", i, k.ID, err) }

// A plan is a Key with what is needed to apply it.
type plan struct {
	Key
	svc       *kms.Service // the view of the root of the key's account in its Region
	materials [][]byte     // in the stored form, oldest first; none: generated
}

var errKeyID = errors.New(`this is not a key ID: it must be a lower-case UUID, or "` + arn.MultiRegionPrefix +
	`" and 32 lower-case hexadecimal digits for a multi-Region key`)

// newPlans returns what to do for each key. With an error, too, the caller erases the materials of
// the plans.
func newPlans(svc *kms.Service, keys []Key) ([]plan, error) {
	type place struct{ account, region, name string }
	taken := map[place]int{}
	var plans []plan
	for i, k := range keys {
		k.Account, k.Region = cmp.Or(k.Account, svc.Caller().Account()), cmp.Or(k.Region, svc.Region())
		if !arn.IsKeyID(k.ID) {
			return plans, keyError(i, k, errKeyID)
		}
		root, err := kms.ParsePrincipal(arn.Root(arn.Partition(k.Region), k.Account))
		if err != nil {
			return plans, keyError(i, k, fmt.Errorf("the account %.20q is not 12 digits", k.Account))
		}
		for _, name := range append([]string{k.ID}, k.Aliases...) {
			if j, ok := taken[place{k.Account, k.Region, name}]; ok {
				return plans, keyError(i, k, fmt.Errorf("%.256q is taken by keys[%d]", name, j))
			}
			taken[place{k.Account, k.Region, name}] = i
		}
		switch k.State {
		case "", kms.KeyStateEnabled, kms.KeyStateDisabled, kms.KeyStatePendingDeletion:
		default:
			return plans, keyError(i, k, fmt.Errorf("the state %.32q is not Enabled, Disabled or PendingDeletion", k.State))
		}
		if k.PendingWindowInDays != 0 && k.State != kms.KeyStatePendingDeletion {
			return plans, keyError(i, k, errors.New("a pending window is only for the state PendingDeletion"))
		}
		if err := cmp.Or(k.checkGrants(), k.checkOrigin()); err != nil {
			return plans, keyError(i, k, err)
		}
		materials, err := k.materials()
		if err != nil {
			return plans, keyError(i, k, err)
		}
		plans = append(plans, plan{k, svc.In(k.Region).As(root), materials})
	}
	return plans, nil
}

// A memberError says which member of a key an error is about, as the path to it in a file.
type memberError struct {
	path []any // names and indices
	err  error
}

func (e *memberError) Error() string { return e.err.Error() }
func (e *memberError) Unwrap() error { return e.err }

// materials returns the key's materials in the stored form, oldest first; the caller erases them.
// There are none if the service is to generate one, or refuses the spec or usage.
func (k *Key) materials() (materials [][]byte, err error) {
	defer func() {
		if err != nil {
			clearAll(materials)
			materials = nil
		}
	}()
	all := append(slices.Clone(k.PreviousMaterials), k.Material)
	given := slices.DeleteFunc(slices.Clone(all), func(m Material) bool { return m.stored == nil })
	if len(k.PreviousMaterials) > 0 && len(given) < len(all) {
		return nil, errors.New("a key with previous materials needs a material, and none of them can be empty")
	}
	s := spec.Of(string(cmp.Or(k.Spec, kms.KeySpecSymmetricDefault)))
	if s == nil {
		return nil, nil
	}
	name := string(k.Usage)
	if name == "" && s.Kind == spec.Symmetric {
		name = s.Usages[0].Name
	}
	usage := s.Usage(name)
	if usage == nil {
		return nil, nil
	}
	for i, m := range given {
		material, err := m.stored(s, usage)
		if err != nil {
			path := []any{"material"}
			if i < len(k.PreviousMaterials) {
				path = []any{"previousMaterials", i}
			}
			return materials, &memberError{path, err}
		}
		materials = append(materials, material)
	}
	return materials, nil
}

// existing is what a key has before it is completed.
type existing struct {
	description string
	tags        []kms.Tag
	aliases     []string
	grants      []kms.GrantListEntry
	state       kms.KeyState
	policy      string
}

func (p *plan) apply(ctx context.Context) error {
	in := &kms.CreateKeyInput{
		KeySpec:     p.Spec,
		KeyUsage:    p.Usage,
		Origin:      p.Origin,
		MultiRegion: strings.HasPrefix(p.ID, arn.MultiRegionPrefix),
		Description: p.Description,
	}
	for _, tag := range slices.Sorted(maps.Keys(p.Tags)) {
		in.Tags = append(in.Tags, kms.Tag{TagKey: tag, TagValue: p.Tags[tag]})
	}
	out, err := p.svc.CreateKey(testhook.WithKey(ctx, &testhook.SeedKey{
		ID: p.ID, Materials: p.materials, Validity: time.Duration(p.MaterialValidityInDays) * 24 * time.Hour, Description: p.MaterialDescription,
	}), in)
	switch {
	case err == nil:
		return p.complete(ctx, &existing{description: in.Description, tags: in.Tags, state: out.KeyMetadata.KeyState}, in.Tags)
	case !errors.Is(err, kms.AlreadyExistsException):
		return err
	}
	e, err := p.fetch(ctx)
	if err != nil {
		return err
	}
	return p.complete(ctx, e, in.Tags)
}

// fetch returns what the key has. One page of a list holds all the tags and aliases of a key, and
// one grant.
func (p *plan) fetch(ctx context.Context) (*existing, error) {
	key, err := p.svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	tags, err := p.svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	aliases, err := p.svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	grants, err := p.fetchGrants(ctx)
	if err != nil {
		return nil, err
	}
	policy, err := p.svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	e := &existing{
		description: key.KeyMetadata.Description, tags: tags.Tags, grants: grants, state: key.KeyMetadata.KeyState, policy: policy.Policy,
	}
	for _, alias := range aliases.Aliases {
		e.aliases = append(e.aliases, alias.AliasName)
	}
	return e, nil
}

// complete changes what is not yet as planned.
func (p *plan) complete(ctx context.Context, e *existing, tags []kms.Tag) error {
	if e.state == kms.KeyStatePendingDeletion && p.State != "" && p.State != e.state {
		return fmt.Errorf("the key exists and is pending deletion: it cannot become %s", p.State)
	}
	toEnable := p.State == kms.KeyStateEnabled && p.State != e.state
	if toEnable { // first: a disabled key cannot get grants
		if err := p.applyState(ctx); err != nil {
			return err
		}
	}
	if e.state != kms.KeyStatePendingDeletion || p.State != "" {
		if err := p.applyLabels(ctx, e, tags); err != nil {
			return err
		}
	}
	if p.State != "" && p.State != e.state && !toEnable {
		if err := p.applyState(ctx); err != nil {
			return err
		}
	}
	if p.Policy == "" || sameJSON(p.Policy, e.policy) {
		return nil
	}
	_, err := p.svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{ // last: it may forbid all of the above
		KeyId: p.ID, Policy: p.Policy, BypassPolicyLockoutSafetyCheck: true,
	})
	return err
}

// sameJSON reports whether two texts are the same JSON value: GetKeyPolicy returns a policy in a
// layout of its own.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// applyLabels sets the description, tags, aliases and grants, which the service refuses while a
// deletion is pending.
func (p *plan) applyLabels(ctx context.Context, e *existing, tags []kms.Tag) error {
	if p.Description != "" && p.Description != e.description {
		_, err := p.svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: p.ID, Description: p.Description})
		if err != nil {
			return err
		}
	}
	tags = slices.DeleteFunc(slices.Clone(tags), func(t kms.Tag) bool { return slices.Contains(e.tags, t) })
	if len(tags) > 0 {
		if _, err := p.svc.TagResource(ctx, &kms.TagResourceInput{KeyId: p.ID, Tags: tags}); err != nil {
			return err
		}
	}
	for _, alias := range p.Aliases {
		if slices.Contains(e.aliases, alias) {
			continue
		}
		if _, err := p.svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: p.ID}); err != nil {
			return err
		}
	}
	return p.applyGrants(ctx, e.grants)
}

func (p *plan) applyState(ctx context.Context) (err error) {
	switch p.State {
	case kms.KeyStateEnabled:
		_, err = p.svc.EnableKey(ctx, &kms.EnableKeyInput{KeyId: p.ID})
	case kms.KeyStateDisabled:
		_, err = p.svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: p.ID})
	case kms.KeyStatePendingDeletion:
		in := &kms.ScheduleKeyDeletionInput{KeyId: p.ID}
		if p.PendingWindowInDays != 0 {
			in.PendingWindowInDays = &p.PendingWindowInDays
		}
		_, err = p.svc.ScheduleKeyDeletion(ctx, in)
	}
	return err
}
