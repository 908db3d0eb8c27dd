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

// CreateKeyInput describes a new key. Its zero value asks for a symmetric encryption key with the
// default policy. Each call creates another key, even a retry; [Service.EnsureKey] does not.
type CreateKeyInput struct {
	// KeySpec is the kind of key; absent means KeySpecSymmetricDefault. It cannot be changed later.
	KeySpec KeySpec

	// CustomerMasterKeySpec is the former name of KeySpec; only one of the two may be given.
	//
	// Deprecated: use KeySpec.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for, and must be one that KeySpec has. For a symmetric encryption
	// key it may be absent, which means KeyUsageEncryptDecrypt. It cannot be changed later.
	KeyUsage KeyUsageType

	// Origin is where the key material comes from; absent means OriginAWSKMS. It cannot be changed
	// later.
	Origin OriginType `kms:"default=AWS_KMS"`

	// MultiRegion asks for a multi-Region primary key. It cannot be changed later.
	MultiRegion bool

	// Description is any text of up to 8,192 characters. It must hold no secrets: it is logged in
	// the clear.
	Description string `kms:"len=..8192,default="`

	// Policy is the key policy, a JSON document of up to 32,768 bytes. Absent means the default
	// policy, which leaves access to the IAM policies of the account.
	Policy string `kms:"len=1..131072,pattern=policy"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let the caller change it again.
	// Such a key may become unmanageable.
	BypassPolicyLockoutSafetyCheck bool `kms:"default=false"`

	// Tags are the tags of the key, up to 50, with different tag keys.
	Tags []Tag

	// CustomKeyStoreId is the custom key store that holds the material; Origin must be that of the
	// store.
	CustomKeyStoreId string `kms:"len=1..64"`

	// XksKeyId is the existing key in the external key manager. It is required with
	// OriginExternalKeyStore, and not allowed otherwise.
	XksKeyId string `kms:"len=1..128,pattern=xksKeyID"`
}

// CreateKeyOutput describes the new key.
type CreateKeyOutput struct {
	// KeyMetadata is the new key. It is enabled, or pending import if its Origin is OriginExternal.
	KeyMetadata *KeyMetadata
}

// KeyMetadata describes a key, without its material, policy, tags and aliases.
type KeyMetadata struct {
	// KeyId is the key ID: a UUID, or "mrk-" and 32 hexadecimal digits for a multi-Region key.
	KeyId string

	// Arn is the key ARN.
	Arn string

	// AWSAccountId is the account that owns the key, 12 digits.
	AWSAccountId string

	// Description is the text that CreateKey or UpdateKeyDescription was given. It may be empty.
	Description string `kms:"emitzero"`

	// KeySpec is the kind of key.
	KeySpec KeySpec

	// CustomerMasterKeySpec is KeySpec under its former name.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for.
	KeyUsage KeyUsageType

	// KeyState is the state of the key, which decides which operations work.
	KeyState KeyState

	// Enabled reports whether KeyState is KeyStateEnabled.
	Enabled bool `kms:"emitzero"`

	// KeyManager is KeyManagerCustomer, or KeyManagerAWS for a key behind an alias/aws/... name.
	KeyManager KeyManagerType

	// Origin is where the key material comes from.
	Origin OriginType

	// CreationDate is when the key was created.
	CreationDate time.Time

	// DeletionDate is when the key will be deleted; zero unless KeyState is
	// KeyStatePendingDeletion.
	DeletionDate time.Time

	// PendingDeletionWindowInDays is the waiting period that begins when the last replica has been
	// deleted; nil unless KeyState is KeyStatePendingReplicaDeletion.
	PendingDeletionWindowInDays *int32

	// CurrentKeyMaterialId is the ID of the key material that encrypts now, 64 hexadecimal digits.
	// Only symmetric encryption keys of OriginAWSKMS and OriginExternal have one, the latter from
	// the first import on.
	CurrentKeyMaterialId string

	// ExpirationModel says whether imported key material expires; absent unless Origin is
	// OriginExternal and material is present.
	ExpirationModel ExpirationModelType

	// ValidTo is when the imported key material expires, or the first of several; zero if none
	// does.
	ValidTo time.Time

	// EncryptionAlgorithms are the algorithms for KeyUsageEncryptDecrypt; nil for another usage.
	EncryptionAlgorithms []EncryptionAlgorithmSpec

	// SigningAlgorithms are the algorithms for KeyUsageSignVerify; nil for another usage.
	SigningAlgorithms []SigningAlgorithmSpec

	// MacAlgorithms is the algorithm for KeyUsageGenerateVerifyMac; nil for another usage.
	MacAlgorithms []MacAlgorithmSpec

	// KeyAgreementAlgorithms is the algorithm for KeyUsageKeyAgreement; nil for another usage.
	KeyAgreementAlgorithms []KeyAgreementAlgorithmSpec

	// EncapsulationAlgorithms is the algorithm for KeyUsageEncapsulateDecapsulate; nil for another
	// usage.
	EncapsulationAlgorithms []EncapsulationAlgorithmSpec

	// MultiRegion reports whether the key is a multi-Region key, primary or replica.
	MultiRegion bool `kms:"emitzero"`

	// MultiRegionConfiguration lists the related keys in other Regions; nil unless MultiRegion.
	MultiRegionConfiguration *MultiRegionConfiguration

	// CustomKeyStoreId is the custom key store that holds the material, if one does.
	CustomKeyStoreId string

	// CloudHsmClusterId is the cluster of that store, for OriginAWSCloudHSM.
	CloudHsmClusterId string

	// XksKeyConfiguration is the key in the external key manager, for OriginExternalKeyStore.
	XksKeyConfiguration *XksKeyConfigurationType
}

// MultiRegionConfiguration lists a multi-Region key and the related keys in other Regions.
type MultiRegionConfiguration struct {
	// MultiRegionKeyType says whether the described key is the primary or a replica.
	MultiRegionKeyType MultiRegionKeyType

	// PrimaryKey is the primary.
	PrimaryKey *MultiRegionKey

	// ReplicaKeys are the replicas; empty if there are none.
	ReplicaKeys []MultiRegionKey `kms:"emitzero"`
}

// MultiRegionKey is one of a set of related multi-Region keys.
type MultiRegionKey struct {
	// Arn is the key ARN.
	Arn string

	// Region is the key's Region, such as "eu-central-1".
	Region string
}

// XksKeyConfigurationType names a key in an external key manager.
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
	// KeyMetadata describes the key at the time of the call.
	KeyMetadata *KeyMetadata
}

// ListKeysInput selects a page of the keys of the caller's account and Region.
type ListKeysInput struct {
	// Limit is the most keys to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListKeysOutput is a page of keys.
type ListKeysOutput struct {
	// Keys are the keys, in any state, sorted by key ID.
	Keys []KeyListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more keys follow.
	Truncated bool `kms:"emitzero"`
}

// KeyListEntry names one key.
type KeyListEntry struct {
	// KeyId is the key ID.
	KeyId string

	// KeyArn is the key ARN.
	KeyArn string
}

// EnableKeyInput names the key to enable.
type EnableKeyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// EnableKeyOutput is empty.
type EnableKeyOutput struct{}

// DisableKeyInput names the key to disable.
type DisableKeyInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// DisableKeyOutput is empty.
type DisableKeyOutput struct{}

// UpdateKeyDescriptionInput is the new description of a key.
type UpdateKeyDescriptionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Description is the new text, up to 8,192 characters; empty removes the old one. It must hold
	// no secrets: it is logged in the clear. The API calls this member required but allows it to be
	// empty.
	Description string `kms:"required-on-wire,len=..8192"`
}

// UpdateKeyDescriptionOutput is empty.
type UpdateKeyDescriptionOutput struct{}

var opCreateKey = define(description{
	name: "CreateKey",
}, steps[CreateKeyInput, CreateKeyOutput]{
	validate: validateCreateKey,
	admit: func(c *call, in *CreateKeyInput) error {
		if err := c.authorizeNewTags(c.refToBe(in.MultiRegion), in.Tags); err != nil {
			return err
		}
		if err := c.admitPolicy(nil, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		return validateTags(in.Tags)
	},
	logged: func(in *CreateKeyInput) *CreateKeyInput {
		logged := *in
		logged.KeySpec, logged.CustomerMasterKeySpec = in.spec(), CustomerMasterKeySpec(in.spec())
		if logged.KeySpec == KeySpecSymmetricDefault {
			logged.KeyUsage = orDefault(in.KeyUsage, KeyUsageEncryptDecrypt)
		}
		return &logged
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
			ref.ID, options.Materials, options.MaterialDescription = seeded.ID, seeded.Materials, seeded.Description
			if seeded.Validity != 0 {
				options.ValidTo = new(record.Created.Add(seeded.Validity))
			}
			if err := c.checkSeeded(ref, seeded.Materials, record, usage); err != nil {
				return nil, err
			}
		}
		if alias := ensuredAlias(c.ctx); alias != "" {
			options.Alias = c.callerAlias(alias)
			if err := c.admitEnsuredAlias(options.Alias, keydb.NewUnstoredKey(ref, ref.ARN(), record)); err != nil {
				return nil, err
			}
		}
		var k *keydb.Key
		if inCustomKeyStore(record.Origin) {
			k, err = c.createInStore(in, ref, record, options)
		} else {
			k, err = c.create(ref, record, options)
		}
		if err != nil {
			return nil, keyLimitError(err)
		}
		return &CreateKeyOutput{KeyMetadata: metadata(k, c.now)}, c.addTarget(k, "", "", false)
	},
})

// CreateKey creates a key in the caller's account and Region. Most programs want one key for each
// purpose, under an alias: see [Service.EnsureKey].
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
	case in.Origin == OriginExternal && !s.Importable():
		return nil, nil, invalid("KeySpec %s is not supported for Origin EXTERNAL", name)
	case in.CustomKeyStoreId != "" && (s.Kind != spec.Symmetric || in.MultiRegion):
		return nil, nil, exception(UnsupportedOperationException, "A custom key store has only keys of KeySpec SYMMETRIC_DEFAULT, and none that are multi-Region keys.")
	}
	return s, u, nil
}

func noSuchCustomKeyStore(id string) *Error {
	return exception(CustomKeyStoreNotFoundException, "Custom key store %s does not exist.", id)
}

// checkSeeded refuses a key with a given ID and materials that cannot be created. If the key
// exists, the error says whether it is the same.
func (c *call) checkSeeded(ref keydb.Ref, materials [][]byte, record *keydb.Record, usage *spec.Usage) error {
	if !arn.IsKeyID(ref.ID) || strings.HasPrefix(ref.ID, arn.MultiRegionPrefix) != record.MultiRegion {
		return invalid("%.64q cannot be the ID of this key.", ref.ID)
	}
	if len(materials) > 1 && spec.Of(record.Spec).Kind != spec.Symmetric {
		return invalid("A key of KeySpec %s has one key material.", record.Spec)
	}
	if len(materials) > 1+maxOnDemandRotations {
		return invalid("A key has at most %d key materials.", 1+maxOnDemandRotations)
	}
	var ids []string
	for _, bytes := range materials {
		k, err := usage.Family(c.svc.core.config.Clock).Parse(bytes)
		if err != nil {
			return invalid("The key material does not suit KeySpec %s: %v.", record.Spec, err)
		}
		k.Destroy()
		id := keydb.MaterialID(ref.ID, bytes)
		if slices.Contains(ids, id) {
			return invalid("The key materials of a key must differ.")
		}
		ids = append(ids, id)
	}
	existing, err := c.svc.core.db.Key(c.ctx, ref, c.now)
	if existing == nil || err != nil {
		return err
	}
	if !sameSeed(existing, record, ref.ID, materials) {
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
		return &DescribeKeyOutput{KeyMetadata: metadata(c.key(), c.now)}, nil
	},
})

// createManagedKey stores an AWS managed key, and the alias in its ARN.
func (c *call) createManagedKey(k *keydb.Key, identifier string) (*keydb.Key, error) {
	alias := keydb.AliasRef{Account: k.Account, Region: k.Region, Name: identifier[strings.Index(identifier, arn.AliasPrefix):]}
	return c.svc.core.db.Create(c.ctx, k.Ref, k.Record, keydb.CreateOptions{Alias: alias})
}

// DescribeKey describes a key, except its policy, tags, aliases and rotation. If KeyId is a
// predefined alias/aws/ name that has no key yet, DescribeKey creates the AWS managed key.
func (s *Service) DescribeKey(ctx context.Context, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
	return opDescribeKey.do(ctx, s, in)
}

// metadata describes k at now in the API's terms.
func metadata(k *keydb.Key, now time.Time) *KeyMetadata {
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
	if k.State == keydb.PendingReplicaDeletion {
		m.PendingDeletionWindowInDays = new(r.DeletionWindow)
	}
	switch {
	case inCustomKeyStore(r.Origin):
		m.CustomKeyStoreId = r.CustomKeyStore
		if m.CloudHsmClusterId = k.Store.Cluster; k.Store.External() {
			m.XksKeyConfiguration = &XksKeyConfigurationType{Id: r.DeviceKey}
		}
	case k.Spec.Kind == spec.Symmetric && len(k.Materials) > 0 && k.State != keydb.Creating:
		m.CurrentKeyMaterialId = k.Current().ID
	}
	if r.Origin == string(OriginExternal) && !r.LacksMaterial() {
		m.ExpirationModel, m.ValidTo = expiration(r.Expiry())
	}
	if r.Origin == string(OriginExternal) && k.State == keydb.Creating { // a replica, which has no material yet
		m.ExpirationModel, m.ValidTo = expiration(r.PrimaryValidTo)
	}
	if r.MultiRegion {
		m.MultiRegionConfiguration = multiRegionConfiguration(k, now)
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

// primitive returns the primitive of the current material of k, as the interface of its usage.
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

// ListKeys lists the keys of the caller's account and Region in all states, sorted by key ID.
func (s *Service) ListKeys(ctx context.Context, in *ListKeysInput) (*ListKeysOutput, error) {
	return opListKeys.do(ctx, s, in)
}

// update applies change to the record of the call's key and stores it.
func (c *call) update(change func(*keydb.Record)) error {
	_, err := c.svc.core.db.Update(c.ctx, c.key(), change)
	return err
}

// requireCurrent makes the call start again if its key has changed. A call that finds nothing to
// change uses it, because it must not answer from an older state.
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
			if r.Rotation != nil && r.Rotation.Next.Before(c.now) && !c.key().IsReplica() {
				r.Rotation.Next = c.now.UTC() // overdue: one rotation now, and a new period from here
			}
		})
		if err == nil {
			_, err = c.svc.core.db.Key(c.ctx, c.key().Ref, c.now)
		}
		return &EnableKeyOutput{}, err
	},
})

// EnableKey ends the disabled state of a key: it can be used again.
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

// DisableKey prevents the use of a key until EnableKey is called. Its description, tags, policy and
// aliases can still be read and changed.
func (s *Service) DisableKey(ctx context.Context, in *DisableKeyInput) (*DisableKeyOutput, error) {
	return opDisableKey.do(ctx, s, in)
}

// requireText refuses strings that are not UTF-8: records and audit events could not hold them
// unchanged.
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
