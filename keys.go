package kms

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/internal/testhook"
)

// CreateKeyInput describes a new key. Its zero value asks for a symmetric encryption key with the default policy.
// Each call makes one more key: there is no token that would make a repeated call harmless.
type CreateKeyInput struct {
	// KeySpec is the kind of key; absent means KeySpecSymmetricDefault. It cannot be changed later.
	KeySpec KeySpec

	// CustomerMasterKeySpec is KeySpec's former name; only one of the two may be given.
	//
	// Deprecated: use KeySpec.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for, and must suit KeySpec. Only for a symmetric encryption key may it be absent,
	// which means KeyUsageEncryptDecrypt. It cannot be changed later.
	KeyUsage KeyUsageType

	// Origin is where the key material comes from; absent means OriginAWSKMS. It cannot be changed later.
	Origin OriginType

	// MultiRegion asks for a multi-Region primary key. It cannot be changed later.
	MultiRegion bool

	// Description is any text of up to 8,192 characters; no secrets, it is logged in clear.
	Description string `kms:"len=..8192"`

	// Policy is the key policy, a JSON document of up to 32,768 bytes. Absent, the key gets the default policy, which
	// leaves access to the IAM policies of the account.
	Policy string `kms:"len=1..131072,pattern=policy"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let its author change it again. Such a key may
	// become unmanageable. Nothing is checked as long as policies are not evaluated.
	BypassPolicyLockoutSafetyCheck bool

	// Tags are put on the key; at most 50, with different keys.
	Tags []Tag

	// CustomKeyStoreId names the custom key store that shall hold the material; Origin must be that store's.
	CustomKeyStoreId string `kms:"len=1..64"`

	// XksKeyId names the existing key in the external key manager; required with OriginExternalKeyStore, and only then
	// allowed.
	XksKeyId string `kms:"len=1..128,pattern=xksKeyID"`
}

// CreateKeyOutput describes the key as made.
type CreateKeyOutput struct {
	// KeyMetadata is the new key, enabled.
	KeyMetadata *KeyMetadata
}

// KeyMetadata is all that can be told of a key without its material, policy, tags and aliases.
type KeyMetadata struct {
	// KeyId is the bare key ID: a UUID, or "mrk-" and 32 hexadecimal digits for a multi-Region key.
	KeyId string

	// Arn is the key ARN.
	Arn string

	// AWSAccountId is the account that owns the key, 12 digits.
	AWSAccountId string

	// Description is the text given by CreateKey or UpdateKeyDescription, perhaps empty.
	Description string `kms:"always"`

	// KeySpec is the kind of key.
	KeySpec KeySpec

	// CustomerMasterKeySpec repeats KeySpec under its former name.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for.
	KeyUsage KeyUsageType

	// KeyState is where the key stands in its life.
	KeyState KeyState

	// Enabled is true in KeyStateEnabled alone.
	Enabled bool `kms:"always"`

	// KeyManager is KeyManagerCustomer, or KeyManagerAWS for a key behind an alias/aws/... name.
	KeyManager KeyManagerType

	// Origin is where the key material comes from.
	Origin OriginType

	// CreationDate is when the key was made.
	CreationDate time.Time

	// DeletionDate is when the key will be deleted; zero unless KeyStatePendingDeletion.
	DeletionDate time.Time

	// PendingDeletionWindowInDays is the waiting period that starts once the last replica is gone; nil unless
	// KeyStatePendingReplicaDeletion.
	PendingDeletionWindowInDays *int32

	// CurrentKeyMaterialId is the key material that encrypts now, 64 hexadecimal digits. Only symmetric encryption keys
	// of OriginAWSKMS and OriginExternal have one, the latter from the first import on.
	CurrentKeyMaterialId string

	// ExpirationModel says whether imported key material expires; only with OriginExternal and material present.
	ExpirationModel ExpirationModelType

	// ValidTo is when the imported key material expires, the earliest if there are several; zero if it does not.
	ValidTo time.Time

	// EncryptionAlgorithms are the algorithms for KeyUsageEncryptDecrypt; nil for another usage.
	EncryptionAlgorithms []EncryptionAlgorithmSpec

	// SigningAlgorithms are the algorithms for KeyUsageSignVerify; nil for another usage.
	SigningAlgorithms []SigningAlgorithmSpec

	// MacAlgorithms is the algorithm for KeyUsageGenerateVerifyMac; nil for another usage.
	MacAlgorithms []MacAlgorithmSpec

	// KeyAgreementAlgorithms is the algorithm for KeyUsageKeyAgreement; nil for another usage.
	KeyAgreementAlgorithms []KeyAgreementAlgorithmSpec

	// EncapsulationAlgorithms is the algorithm for KeyUsageEncapsulateDecapsulate; nil for another usage.
	EncapsulationAlgorithms []EncapsulationAlgorithmSpec

	// MultiRegion says whether the key is a multi-Region key, primary or replica.
	MultiRegion bool `kms:"always"`

	// MultiRegionConfiguration lists the related keys in other Regions; nil unless MultiRegion.
	MultiRegionConfiguration *MultiRegionConfiguration

	// CustomKeyStoreId is the custom key store that holds the material, if one does.
	CustomKeyStoreId string

	// CloudHsmClusterId is the cluster behind that store, for OriginAWSCloudHSM.
	CloudHsmClusterId string

	// XksKeyConfiguration is the key in the external key manager, for OriginExternalKeyStore.
	XksKeyConfiguration *XksKeyConfigurationType
}

// MultiRegionConfiguration is a multi-Region key's place among the related keys, itself included.
type MultiRegionConfiguration struct {
	// MultiRegionKeyType says whether the key at hand is the primary or a replica.
	MultiRegionKeyType MultiRegionKeyType

	// PrimaryKey is the one primary.
	PrimaryKey *MultiRegionKey

	// ReplicaKeys are all replicas; empty for a lone primary.
	ReplicaKeys []MultiRegionKey `kms:"always"`
}

// MultiRegionKey is one key of a set of multi-Region keys.
type MultiRegionKey struct {
	// Arn is the key ARN.
	Arn string

	// Region is the key's Region, such as "eu-central-1".
	Region string
}

// XksKeyConfigurationType names a key outside the service.
type XksKeyConfigurationType struct {
	// Id is the key's name in the external key manager.
	Id string
}

// DescribeKeyInput names the key to describe.
type DescribeKeyInput struct {
	// KeyId is a key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`
}

// DescribeKeyOutput describes the key.
type DescribeKeyOutput struct {
	// KeyMetadata is the key as it is at the moment of the call.
	KeyMetadata *KeyMetadata
}

// ListKeysInput chooses a page of the keys of the caller's account and Region.
type ListKeysInput struct {
	// Limit is the most keys to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListKeysOutput is a page of keys.
type ListKeysOutput struct {
	// Keys are the keys in any state, in the order of their IDs.
	Keys []KeyListEntry `kms:"always"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated says that more keys follow.
	Truncated bool `kms:"always"`
}

// KeyListEntry names one key.
type KeyListEntry struct {
	// KeyId is the bare key ID.
	KeyId string

	// KeyArn is the key ARN.
	KeyArn string
}

// EnableKeyInput names the key to put into service.
type EnableKeyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// EnableKeyOutput is empty.
type EnableKeyOutput struct{}

// DisableKeyInput names the key to take out of service.
type DisableKeyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// DisableKeyOutput is empty.
type DisableKeyOutput struct{}

// UpdateKeyDescriptionInput gives a key another description.
type UpdateKeyDescriptionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Description is the new text, up to 8,192 characters; empty removes the old one. No secrets: it is logged in clear.
	// The API calls this member required, but allows it to be empty.
	Description string `kms:"present,len=..8192"`
}

// UpdateKeyDescriptionOutput is empty.
type UpdateKeyDescriptionOutput struct{}

var opCreateKey = define(description{
	name: "CreateKey",
}, steps[CreateKeyInput, CreateKeyOutput]{
	validate: validateCreateKey,
	admit: func(_ *call, in *CreateKeyInput) error {
		if err := validatePolicy(in.Policy); err != nil {
			return err
		}
		return validateTags(in.Tags)
	},
	auditParameters: func(in *CreateKeyInput, event map[string]any) {
		spec := in.spec()
		event["keySpec"], event["customerMasterKeySpec"] = string(spec), string(spec)
		event["origin"] = string(orDefault(in.Origin, OriginAWSKMS))
		event["description"], event["bypassPolicyLockoutSafetyCheck"] = in.Description, in.BypassPolicyLockoutSafetyCheck
		if spec == KeySpecSymmetricDefault {
			event["keyUsage"] = string(orDefault(in.KeyUsage, KeyUsageEncryptDecrypt))
		}
	},
	act: func(c *call, in *CreateKeyInput) (*CreateKeyOutput, error) {
		s, usage, err := resolveSpec(in)
		if err != nil {
			return nil, err
		}
		record := &keydb.Record{
			Spec:        s.Name,
			Usage:       usage.Name,
			Origin:      string(orDefault(in.Origin, OriginAWSKMS)),
			Manager:     string(KeyManagerCustomer),
			Created:     c.now.UTC(),
			Description: in.Description,
			MultiRegion: in.MultiRegion,
			Policy:      in.Policy,
			Tags:        mergeTags(nil, storedTags(in.Tags)),
		}
		if record.Policy == "" {
			record.Policy = defaultPolicy(c.svc.caller.account, c.svc.region)
		}
		ref := keydb.Ref{Account: c.svc.caller.account, Region: c.svc.region, ID: arn.NewKeyID(in.MultiRegion)}
		var options keydb.CreateOptions
		if seeded := testhook.KeyFrom(c.ctx); seeded != nil { // only for package seed
			ref.ID, options.Material = seeded.ID, seeded.Material
			if err := c.checkSeeded(ref, seeded.Material, record, usage); err != nil {
				return nil, err
			}
		}
		if alias := ensuredAlias(c.ctx); alias != "" {
			options.Alias = c.callerAlias(alias)
			if err := c.admitEnsuredAlias(options.Alias); err != nil {
				return nil, err
			}
		}
		k, err := c.svc.core.db.Create(c.ctx, ref, record, options)
		if err != nil {
			return nil, err
		}
		return &CreateKeyOutput{KeyMetadata: metadata(k)}, c.addTarget(target{key: k})
	},
})

// CreateKey makes a key in the caller's account and Region. Without a policy it
// gets the API's default one, which leaves the decision to the account.
func (s *Service) CreateKey(ctx context.Context, in *CreateKeyInput) (*CreateKeyOutput, error) {
	return opCreateKey.do(ctx, s, in)
}

func orDefault[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}

func validateCreateKey(in *CreateKeyInput) error {
	if in.KeySpec != "" && in.CustomerMasterKeySpec != "" {
		return invalid("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	if err := requireText("A description", in.Description); err != nil {
		return err
	}
	switch in.Origin {
	case OriginAWSCloudHSM, OriginExternalKeyStore:
		if in.CustomKeyStoreId == "" {
			return invalid("Origin %s requires a CustomKeyStoreId.", in.Origin)
		}
	default:
		if in.CustomKeyStoreId != "" {
			return invalid("CustomKeyStoreId is only valid with Origin AWS_CLOUDHSM or EXTERNAL_KEY_STORE.")
		}
	}
	if (in.Origin == OriginExternalKeyStore) != (in.XksKeyId != "") {
		return invalid("XksKeyId is required with Origin EXTERNAL_KEY_STORE, and only valid with it.")
	}
	return nil
}

func (in *CreateKeyInput) spec() KeySpec {
	return orDefault(in.KeySpec, orDefault(KeySpec(in.CustomerMasterKeySpec), KeySpecSymmetricDefault))
}

// resolveSpec returns the spec and usage of the new key, or why it cannot be created.
func resolveSpec(in *CreateKeyInput) (*spec.Spec, *spec.Usage, error) {
	name := in.spec()
	usage := in.KeyUsage
	switch {
	case usage != "":
	case name == KeySpecSymmetricDefault:
		usage = KeyUsageEncryptDecrypt
	default:
		return nil, nil, invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	}
	s := spec.Of(string(name))
	u := s.Usage(string(usage))
	switch {
	case u == nil:
		return nil, nil, invalid("KeyUsage %s is not compatible with KeySpec %s", usage, name)
	case in.Origin == OriginExternal && s.GeneratedOnly:
		return nil, nil, invalid("KeySpec %s is not supported for Origin EXTERNAL", name)
	case in.CustomKeyStoreId != "":
		return nil, nil, noSuchCustomKeyStore(in.CustomKeyStoreId)
	case u.Family == nil:
		return nil, nil, exception(UnsupportedOperationException, "KeySpec %s with KeyUsage %s is not supported.", name, usage)
	case in.Origin == OriginExternal:
		return nil, nil, exception(UnsupportedOperationException, "Origin EXTERNAL is not supported.")
	}
	return s, u, nil
}

func noSuchCustomKeyStore(id string) *Error {
	return exception(CustomKeyStoreNotFoundException, "Custom key store %s does not exist.", id)
}

// checkSeeded refuses a key with a given ID and material that cannot be created. Of one that exists,
// the error says whether it is the same.
func (c *call) checkSeeded(ref keydb.Ref, bytes []byte, record *keydb.Record, usage *spec.Usage) error {
	if !arn.IsKeyID(ref.ID) || strings.HasPrefix(ref.ID, arn.MultiRegionPrefix) != record.MultiRegion {
		return invalid("%.64q cannot be the ID of this key.", ref.ID)
	}
	if bytes != nil {
		k, err := usage.Family(c.svc.core.config.Clock).Parse(bytes)
		if err != nil {
			return invalid("The key material does not suit KeySpec %s: %v.", record.Spec, err)
		}
		k.Destroy()
	}
	existing, err := c.svc.core.db.Key(c.ctx, ref, c.now)
	if existing == nil || err != nil {
		return err
	}
	id := keydb.MaterialID(ref.ID, bytes)
	same := func(m *keydb.Material) bool { return m.ID == id }
	if existing.Record.Spec != record.Spec || existing.Record.Usage != record.Usage ||
		bytes != nil && !slices.ContainsFunc(existing.Materials, same) {
		return exception(ConflictException, "Key '%s' already exists as another key", existing.ARN)
	}
	return exception(AlreadyExistsException, "Key '%s' already exists", existing.ARN)
}

var opDescribeKey = define(description{
	name: "DescribeKey", keys: keyOrAlias, crossAccount: true, states: anyState, readOnly: true,
}, steps[DescribeKeyInput, DescribeKeyOutput]{
	act: func(c *call, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
		if !c.key().Stored() { // an AWS managed key, created when it is first described
			k, err := c.createManagedKey(c.key(), in.KeyId)
			if err != nil {
				return nil, err
			}
			c.targets[0].key = k
		}
		if k := c.key(); len(k.Materials) > 0 { // a key that could not be used must not look as if it could
			if err := c.svc.core.db.RequireMaterial(c.ctx, k, k.Current()); err != nil {
				return nil, err
			}
		}
		return &DescribeKeyOutput{KeyMetadata: metadata(c.key())}, nil
	},
})

// createManagedKey stores an AWS managed key, and the alias in its ARN.
func (c *call) createManagedKey(k *keydb.Key, identifier string) (*keydb.Key, error) {
	alias := keydb.AliasRef{Account: k.Account, Region: k.Region, Name: identifier[strings.Index(identifier, arn.AliasPrefix):]}
	return c.svc.core.db.Create(c.ctx, k.Ref, k.Record, keydb.CreateOptions{Alias: alias})
}

// DescribeKey tells all about a key but its policy, tags, aliases and rotation.
// Described by an alias/aws/ name that has no key yet, the AWS managed key of
// that service is made.
func (s *Service) DescribeKey(ctx context.Context, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
	return opDescribeKey.do(ctx, s, in)
}

// metadata describes k in the API's terms.
func metadata(k *keydb.Key) *KeyMetadata {
	r := k.Record
	m := &KeyMetadata{
		KeyId:                   k.ID,
		Arn:                     k.ARN,
		AWSAccountId:            k.Account,
		Description:             r.Description,
		KeySpec:                 KeySpec(r.Spec),
		CustomerMasterKeySpec:   CustomerMasterKeySpec(r.Spec),
		KeyUsage:                KeyUsageType(r.Usage),
		KeyState:                KeyState(k.State),
		Enabled:                 k.State == keydb.Enabled,
		KeyManager:              KeyManagerType(r.Manager),
		Origin:                  OriginType(r.Origin),
		CreationDate:            r.Created,
		EncryptionAlgorithms:    algorithmsOf[EncryptionAlgorithmSpec](k, KeyUsageEncryptDecrypt),
		SigningAlgorithms:       algorithmsOf[SigningAlgorithmSpec](k, KeyUsageSignVerify),
		MacAlgorithms:           algorithmsOf[MacAlgorithmSpec](k, KeyUsageGenerateVerifyMac),
		KeyAgreementAlgorithms:  algorithmsOf[KeyAgreementAlgorithmSpec](k, KeyUsageKeyAgreement),
		EncapsulationAlgorithms: algorithmsOf[EncapsulationAlgorithmSpec](k, KeyUsageEncapsulateDecapsulate),
		MultiRegion:             r.MultiRegion,
	}
	if r.DeletionDate != nil {
		m.DeletionDate = *r.DeletionDate
	}
	if k.Spec.Kind == spec.Symmetric && len(k.Materials) > 0 {
		m.CurrentKeyMaterialId = k.Current().ID
	}
	if r.MultiRegion {
		m.MultiRegionConfiguration = &MultiRegionConfiguration{
			MultiRegionKeyType: MultiRegionKeyTypePrimary,
			PrimaryKey:         &MultiRegionKey{Arn: k.ARN, Region: k.Region},
			ReplicaKeys:        []MultiRegionKey{},
		}
	}
	return m
}

// algorithmsOf returns a key's algorithms for a usage in the type of the API, or nil if the key has
// another usage.
func algorithmsOf[A ~string](k *keydb.Key, usage KeyUsageType) []A {
	if k.Record.Usage != string(usage) {
		return nil
	}
	var list []A
	for _, name := range k.Usage.Algorithms {
		list = append(list, A(name))
	}
	return list
}

// primitive returns the primitive of k's current material, as the interface that its usage has.
func primitive[P crypto.Key](c *call, k *keydb.Key) (P, error) {
	p, err := c.svc.core.db.Primitive(c.ctx, k, k.Current())
	if err != nil {
		var none P
		return none, err
	}
	return as[P](p, k)
}

func as[P crypto.Key](p crypto.Key, k *keydb.Key) (P, error) {
	typed, ok := p.(P)
	if !ok {
		return typed, fmt.Errorf("%w: key %s has no such primitive", crypto.ErrAlgorithm, k.ARN)
	}
	return typed, nil
}

var opListKeys = define(description{
	name: "ListKeys", readOnly: true,
}, steps[ListKeysInput, ListKeysOutput]{
	act: func(c *call, in *ListKeysInput) (*ListKeysOutput, error) {
		p, err := c.page(in.Marker, in.Limit, 100, c.callerList())
		if err != nil {
			return nil, err
		}
		all := c.svc.core.db.Keys(c.ctx, c.svc.caller.account, c.svc.region, p.after, p.limit+1, c.now)
		list, err := collect(p, all, func(k keydb.Ref) KeyListEntry { return KeyListEntry{KeyId: k.ID, KeyArn: k.ARN()} })
		if err != nil {
			return nil, err
		}
		list, next := truncate(c, p, list, func(e KeyListEntry) string { return e.KeyId })
		return &ListKeysOutput{Keys: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListKeys lists the keys of the caller's account and Region, whatever their
// state, by key ID.
func (s *Service) ListKeys(ctx context.Context, in *ListKeysInput) (*ListKeysOutput, error) {
	return opListKeys.do(ctx, s, in)
}

// update stores what change makes of the record of the call's key.
func (c *call) update(change func(*keydb.Record)) error {
	_, err := c.svc.core.db.Update(c.ctx, c.key(), change)
	return err
}

// requireCurrent makes the call start again if its key has changed, for an answer that must not
// depend on an older state: that there is nothing to change.
func (c *call) requireCurrent() error { return c.svc.core.db.RequireCurrent(c.ctx, c.key()) }

var opEnableKey = define(description{
	name: "EnableKey", keys: keyOnly, states: toggleState,
}, steps[EnableKeyInput, EnableKeyOutput]{
	act: func(c *call, in *EnableKeyInput) (*EnableKeyOutput, error) {
		if !c.key().Record.Disabled {
			return &EnableKeyOutput{}, c.requireCurrent()
		}
		err := c.update(func(r *keydb.Record) {
			r.Disabled = false
			if r.Rotation != nil && r.Rotation.Next.Before(c.now) {
				r.Rotation.Next = c.now.UTC() // overdue: one rotation now, and a new period from here
			}
		})
		if err == nil {
			_, err = c.svc.core.db.Key(c.ctx, c.key().Ref, c.now)
		}
		return &EnableKeyOutput{}, err
	},
})

// EnableKey makes a disabled key usable again.
func (s *Service) EnableKey(ctx context.Context, in *EnableKeyInput) (*EnableKeyOutput, error) {
	return opEnableKey.do(ctx, s, in)
}

var opDisableKey = define(description{
	name: "DisableKey", keys: keyOnly, states: toggleState,
}, steps[DisableKeyInput, DisableKeyOutput]{
	act: func(c *call, in *DisableKeyInput) (*DisableKeyOutput, error) {
		if c.key().Record.Disabled {
			return &DisableKeyOutput{}, c.requireCurrent()
		}
		return &DisableKeyOutput{}, c.update(func(r *keydb.Record) { r.Disabled = true })
	},
})

// DisableKey makes a key unusable until EnableKey.
func (s *Service) DisableKey(ctx context.Context, in *DisableKeyInput) (*DisableKeyOutput, error) {
	return opDisableKey.do(ctx, s, in)
}

// requireText refuses strings that are not UTF-8: records and audit events could not keep them as
// they are.
func requireText(what string, texts ...string) error {
	if slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) }) {
		return invalid("%s must be valid UTF-8.", what)
	}
	return nil
}

var opUpdateKeyDescription = define(description{
	name: "UpdateKeyDescription", keys: keyOnly, states: changeState,
}, steps[UpdateKeyDescriptionInput, UpdateKeyDescriptionOutput]{
	validate: func(in *UpdateKeyDescriptionInput) error { return requireText("A description", in.Description) },
	act: func(c *call, in *UpdateKeyDescriptionInput) (*UpdateKeyDescriptionOutput, error) {
		return &UpdateKeyDescriptionOutput{}, c.update(func(r *keydb.Record) { r.Description = in.Description })
	},
})

// UpdateKeyDescription replaces a key's description.
func (s *Service) UpdateKeyDescription(ctx context.Context, in *UpdateKeyDescriptionInput) (*UpdateKeyDescriptionOutput, error) {
	return opUpdateKeyDescription.do(ctx, s, in)
}
