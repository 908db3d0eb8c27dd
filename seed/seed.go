// Package seed makes keys whose IDs and material were chosen beforehand, from Go or from a YAML file, so that a test or a
// local service has the same keys on every run: what one run encrypts, the next one decrypts.
//
// Such material is as secret as the place where it is written down. It is for tests and for development.
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
	"regexp"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/testhook"
)

// A Key is a key to make. Only its ID is required.
type Key struct {
	// ID is a lower-case UUID or, for a multi-Region key, "mrk-" and 32 lower-case hexadecimal digits. Two Regions may have
	// a multi-Region key of the same ID and material: each then decrypts what the other encrypted.
	ID string

	// Account and Region say where the key lives; absent means where the Service's view stands.
	Account string
	Region  string

	// Spec and Usage are those of CreateKey: Usage may be absent only where Spec is, or is SYMMETRIC_DEFAULT.
	Spec  kms.KeySpec
	Usage kms.KeyUsageType

	// Material is the key material; its zero value lets the Service draw it, another on each run.
	Material Material

	// State is Enabled, Disabled or PendingDeletion; absent means Enabled, or as it is if the key is there already.
	// PendingWindowInDays goes with PendingDeletion: 7 to 30 days from the making of the key; 0 means 30.
	State               kms.KeyState
	PendingWindowInDays int32

	Aliases     []string // with their prefix "alias/"
	Description string
	Tags        map[string]string
	Policy      string // a JSON document, not checked for whether it locks out its author; absent means the default policy
}

// Load makes the keys of a file in the form that docs/seed.md describes, as [Read] and [Make] do. A file that cannot be
// read makes none.
func Load(ctx context.Context, svc *kms.Service, file io.Reader) error {
	keys, err := Read(file)
	if err != nil {
		return err
	}
	return Make(ctx, svc, keys...)
}

// Make makes keys in svc, in their order. Of a key that svc has already, of the same spec, usage and material, it completes
// or sets right what the Key says, and leaves alone what the Key is silent on: so to make the same keys again changes nothing,
// and what was interrupted is made up for. If svc has another key of that ID, the error is a ConflictException; an alias is
// not taken from another key, nor a deletion cancelled. A key that is to be deleted takes no description, tags and aliases any
// more: they are left as they are if the Key says nothing of its State.
//
// Nothing is made if an ID is none, if a key's material cannot be read, or if two keys have the same ID or alias. Any other
// error ends it where it occurs; errors name the key, and what the service says of it is a [kms.Error] in them.
func Make(ctx context.Context, svc *kms.Service, keys ...Key) error {
	plans, err := plan(svc, keys)
	defer func() {
		for _, p := range plans {
			secret.Clear(p.material)
		}
	}()
	if err != nil {
		return err
	}
	for i, p := range plans {
		if err := p.make(ctx); err != nil {
			return entryError(i, p.Key, err)
		}
	}
	return nil
}

func entryError(i int, k Key, err error) error {
	return fmt.Errorf("seed: keys[%d] (%.64q): %w", i, k.ID, err)
}

// A planned key has its place and its material.
type planned struct {
	Key
	svc      *kms.Service // a view of its account's root in its Region
	material []byte       // in the stored form; nil: to be drawn
}

// keyID is the form of IDs that the service takes.
var keyID = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

var errNoKeyID = errors.New(`this is not a key ID: that is a lower-case UUID, or "mrk-" and 32 hexadecimal digits for a multi-Region key`)

func plan(svc *kms.Service, keys []Key) ([]planned, error) {
	partition := svc.Caller().Partition()
	type place struct{ account, region, name string }
	taken := map[place]int{}
	var plans []planned
	for i, k := range keys {
		k.Account, k.Region = cmp.Or(k.Account, svc.Caller().Account()), cmp.Or(k.Region, svc.Region())
		if !keyID.MatchString(k.ID) {
			return plans, entryError(i, k, errNoKeyID)
		}
		root, err := kms.ParsePrincipal("arn:" + partition + ":iam::" + k.Account + ":root")
		if err != nil {
			return plans, entryError(i, k, fmt.Errorf("the account %.20q is not 12 digits", k.Account))
		}
		for _, name := range append([]string{k.ID}, k.Aliases...) {
			if j, ok := taken[place{k.Account, k.Region, name}]; ok {
				return plans, entryError(i, k, fmt.Errorf("%.256q is taken by keys[%d]", name, j))
			}
			taken[place{k.Account, k.Region, name}] = i
		}
		switch k.State {
		case "", kms.KeyStateEnabled, kms.KeyStateDisabled, kms.KeyStatePendingDeletion:
		default:
			return plans, entryError(i, k, fmt.Errorf("the state %.32q is not Enabled, Disabled or PendingDeletion", k.State))
		}
		if k.PendingWindowInDays != 0 && k.State != kms.KeyStatePendingDeletion {
			return plans, entryError(i, k, errors.New("only a key in PendingDeletion has a pending window"))
		}
		material, err := k.Material.bytes(cmp.Or(k.Spec, kms.KeySpecSymmetricDefault))
		if err != nil {
			return plans, entryError(i, k, err)
		}
		plans = append(plans, planned{k, svc.In(k.Region).As(root), material})
	}
	return plans, nil
}

// present is what of a planned key is there already.
type present struct {
	description string
	tags        []kms.Tag
	aliases     []string
	state       kms.KeyState
	policy      string
}

func (p *planned) make(ctx context.Context) error {
	in := &kms.CreateKeyInput{
		KeySpec:     p.Spec,
		KeyUsage:    p.Usage,
		MultiRegion: strings.HasPrefix(p.ID, "mrk-"),
		Description: p.Description,
	}
	for _, tag := range slices.Sorted(maps.Keys(p.Tags)) {
		in.Tags = append(in.Tags, kms.Tag{TagKey: tag, TagValue: p.Tags[tag]})
	}
	_, err := p.svc.CreateKey(testhook.WithKey(ctx, &testhook.SeedKey{ID: p.ID, Material: p.material}), in)
	switch {
	case err == nil:
		return p.complete(ctx, &present{description: in.Description, tags: in.Tags, state: kms.KeyStateEnabled}, in.Tags)
	case !errors.Is(err, kms.AlreadyExistsException):
		return err
	}
	there, err := p.look(ctx)
	if err != nil {
		return err
	}
	return p.complete(ctx, there, in.Tags)
}

func (p *planned) look(ctx context.Context) (*present, error) {
	key, err := p.svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	tags, err := p.svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: p.ID}) // a page holds all that a key can have
	if err != nil {
		return nil, err
	}
	aliases, err := p.svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: p.ID}) // likewise
	if err != nil {
		return nil, err
	}
	policy, err := p.svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: p.ID})
	if err != nil {
		return nil, err
	}
	there := &present{description: key.KeyMetadata.Description, tags: tags.Tags, state: key.KeyMetadata.KeyState, policy: policy.Policy}
	for _, alias := range aliases.Aliases {
		there.aliases = append(there.aliases, alias.AliasName)
	}
	return there, nil
}

// complete changes only what is not yet as planned.
func (p *planned) complete(ctx context.Context, there *present, tags []kms.Tag) error {
	if there.state == kms.KeyStatePendingDeletion && p.State != "" && p.State != there.state {
		return fmt.Errorf("the key is there, but it is to be deleted: it cannot be made %s", p.State)
	}
	if there.state != kms.KeyStatePendingDeletion || p.State != "" {
		if err := p.label(ctx, there, tags); err != nil {
			return err
		}
	}
	if p.State != "" && p.State != there.state {
		if err := p.enter(ctx); err != nil {
			return err
		}
	}
	if p.Policy == "" || sameJSON(p.Policy, there.policy) {
		return nil
	}
	_, err := p.svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{ // at last: it may forbid all of the above
		KeyId: p.ID, Policy: p.Policy, BypassPolicyLockoutSafetyCheck: true,
	})
	return err
}

// sameJSON reports whether two texts are the same value in JSON: GetKeyPolicy returns a policy in a
// layout of its own.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// label gives the key its description, tags and aliases, which the service refuses while a deletion is pending.
func (p *planned) label(ctx context.Context, there *present, tags []kms.Tag) error {
	if p.Description != "" && p.Description != there.description {
		_, err := p.svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: p.ID, Description: p.Description})
		if err != nil {
			return err
		}
	}
	tags = slices.DeleteFunc(slices.Clone(tags), func(t kms.Tag) bool { return slices.Contains(there.tags, t) })
	if len(tags) > 0 {
		if _, err := p.svc.TagResource(ctx, &kms.TagResourceInput{KeyId: p.ID, Tags: tags}); err != nil {
			return err
		}
	}
	for _, alias := range p.Aliases {
		if slices.Contains(there.aliases, alias) {
			continue
		}
		if _, err := p.svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: p.ID}); err != nil {
			return err
		}
	}
	return nil
}

// enter brings the key into its state.
func (p *planned) enter(ctx context.Context) (err error) {
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
