package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
)

// CreateKeyInput describes a new key. Its zero value asks for a symmetric encryption key with the default policy.
// Each call makes one more key: there is no token that would make a repeated call harmless.
type CreateKeyInput struct {
	// KeySpec is the kind of key; absent means KeySpecSymmetricDefault. It cannot be changed later.
	KeySpec KeySpec

	// CustomerMasterKeySpec is KeySpec's former name; when both are given they must agree.
	//
	// Deprecated: use KeySpec.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for, and must suit KeySpec. Only for a symmetric encryption key may it be absent,
	// which means KeyUsageEncryptDecrypt. It cannot be changed later.
	KeyUsage KeyUsageType

	// Origin is where the key material comes from; absent means OriginAWSKMS. It cannot be changed later.
	Origin OriginType `kms:"default=AWS_KMS"`

	// MultiRegion asks for a multi-Region primary key. It cannot be changed later.
	MultiRegion bool

	// Description is any text of up to 8,192 characters; no secrets, it is logged in clear.
	Description string `kms:"len=..8192,default="`

	// Policy is the key policy, a JSON document of up to 32,768 bytes. Absent, the key gets the default policy, which
	// leaves access to the IAM policies of the account.
	Policy string `kms:"len=1..131072,pattern=policy"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let its author change it again. Such a key may
	// become unmanageable. Nothing is checked as long as policies are not evaluated.
	BypassPolicyLockoutSafetyCheck bool `kms:"default=false"`

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
	Description string `kms:"emitzero"`

	// KeySpec is the kind of key.
	KeySpec KeySpec

	// CustomerMasterKeySpec repeats KeySpec under its former name.
	CustomerMasterKeySpec CustomerMasterKeySpec

	// KeyUsage is what the key is for.
	KeyUsage KeyUsageType

	// KeyState is where the key stands in its life.
	KeyState KeyState

	// Enabled is true in KeyStateEnabled alone.
	Enabled bool `kms:"emitzero"`

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
	MultiRegion bool `kms:"emitzero"`

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
	ReplicaKeys []MultiRegionKey `kms:"emitzero"`
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
	Keys []KeyListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated says that more keys follow.
	Truncated bool `kms:"emitzero"`
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
	Description string `kms:"required-on-wire,len=..8192"`
}

// UpdateKeyDescriptionOutput is empty.
type UpdateKeyDescriptionOutput struct{}

var opCreateKey = define(operation[CreateKeyInput, CreateKeyOutput]{
	description: description{name: "CreateKey"},
	validate:    validateCreateKey,
	admit: func(_ *call, in *CreateKeyInput) error {
		if err := validatePolicy(in.Policy); err != nil {
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
		s, use, err := chooseSpec(in)
		if err != nil {
			return nil, err
		}
		record := &keyRecord{
			Spec:        s.name,
			Usage:       use.usage,
			Origin:      orDefault(in.Origin, OriginAWSKMS),
			Manager:     KeyManagerCustomer,
			Created:     c.now.UTC(),
			Description: in.Description,
			MultiRegion: in.MultiRegion,
			Policy:      in.Policy,
			Tags:        mergeTags(nil, in.Tags),
		}
		if record.Policy == "" {
			record.Policy = defaultPolicy(c.config.Partition, c.caller.account)
		}
		ref, material := keyRef{c.caller.account, c.region, newKeyID(in.MultiRegion)}, []byte(nil)
		if made := testhook.KeyFrom(c.ctx); made != nil { // never, but for package seed
			ref.id, material = made.ID, made.Material
			if err := c.admitMade(ref, material, record, use); err != nil {
				return nil, err
			}
		}
		k, err := c.createKey(c.ctx, ref, material, record, use, keystore.Tx{})
		if err != nil {
			return nil, err
		}
		return &CreateKeyOutput{KeyMetadata: c.metadata(k)}, c.addTarget(target{key: k})
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
	if in.KeySpec != "" && in.CustomerMasterKeySpec != "" && string(in.KeySpec) != string(in.CustomerMasterKeySpec) {
		return invalid("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	if err := validateDescription(in.Description); err != nil {
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

// chooseSpec returns what the new key shall be, or why it cannot be.
func chooseSpec(in *CreateKeyInput) (*spec, *keyUse, error) {
	name := in.spec()
	usage := in.KeyUsage
	switch {
	case usage != "":
	case name == KeySpecSymmetricDefault:
		usage = KeyUsageEncryptDecrypt
	default:
		return nil, nil, invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	}
	s := specOf(name)
	use := s.use(usage)
	switch {
	case use == nil:
		return nil, nil, invalid("KeyUsage %s is not compatible with KeySpec %s", usage, name)
	case in.CustomKeyStoreId != "":
		return nil, nil, noSuchCustomKeyStore(in.CustomKeyStoreId)
	case use.family == nil:
		return nil, nil, exception(UnsupportedOperationException, "KeySpec %s with KeyUsage %s is not supported.", name, usage)
	case in.Origin == OriginExternal:
		return nil, nil, exception(UnsupportedOperationException, "Origin EXTERNAL is not supported.")
	}
	return s, use, nil
}

func noSuchCustomKeyStore(id string) *Error {
	return exception(CustomKeyStoreNotFoundException, "Custom key store %s does not exist.", id)
}

// admitMade refuses a key made beforehand that cannot be. One that exists is
// told apart by whether it is the same.
func (c *call) admitMade(ref keyRef, bytes []byte, record *keyRecord, use *keyUse) error {
	if !isKeyID(ref.id) || strings.HasPrefix(ref.id, multiRegionPrefix) != record.MultiRegion {
		return invalid("%.64q cannot be the ID of this key.", ref.id)
	}
	if bytes != nil {
		k, err := use.family(c.config.Clock).Parse(bytes)
		if err != nil {
			return invalid("The key material does not suit KeySpec %s: %v.", record.Spec, err)
		}
		k.Destroy()
	}
	existing, err := c.lookup(c.ctx, ref, c.now)
	if existing == nil || err != nil {
		return err
	}
	id := materialID(ref.id, bytes)
	same := func(m *material) bool { return m.id == id }
	if existing.record.Spec != record.Spec || existing.record.Usage != record.Usage ||
		bytes != nil && !slices.ContainsFunc(existing.materials, same) {
		return exception(ConflictException, "Key '%s' already exists as another key", existing.arn)
	}
	return exception(AlreadyExistsException, "Key '%s' already exists", existing.arn)
}

// createKey stores a new key with its first material, drawn if nil, and
// whatever else belongs to the same change.
func (c *core) createKey(ctx context.Context, ref keyRef, material []byte, record *keyRecord, use *keyUse, with keystore.Tx) (*key, error) {
	m, put := storedMaterial(ref, material)
	if material == nil {
		var err error
		if m, put, err = c.newMaterial(ref, use); err != nil {
			return nil, err
		}
	}
	defer clearPuts([]keystore.Put{put})
	record.Materials = []keyMaterial{m}
	k, err := c.newKey(ref, record, 0, nil)
	if err != nil {
		return nil, err
	}
	k.lastUse = &lastUse{}
	with.Expect = append(with.Expect, keystore.Expectation{Key: ref.recordName()})
	with.Puts = append(with.Puts, put, keystore.Put{Key: ref.recordName(), Value: encodeRecord(record)})
	k.revision, err = c.store.Commit(ctx, with)
	return k, err
}

var opDescribeKey = define(operation[DescribeKeyInput, DescribeKeyOutput]{
	description: description{name: "DescribeKey", keys: keyOrAlias, crossAccount: true, readOnly: true},
	act: func(c *call, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
		k := c.key()
		if k.alias != "" { // an AWS managed key, made now that it is looked at
			var err error
			if k, err = c.createManagedKey(k); err != nil {
				return nil, err
			}
			c.targets[0].key = k
		}
		return &DescribeKeyOutput{KeyMetadata: c.metadata(k)}, nil
	},
})

// DescribeKey tells all about a key but its policy, tags, aliases and rotation.
// Described by an alias/aws/ name that has no key yet, the AWS managed key of
// that service is made.
func (s *Service) DescribeKey(ctx context.Context, in *DescribeKeyInput) (*DescribeKeyOutput, error) {
	return opDescribeKey.do(ctx, s, in)
}

// metadata describes k in the API's terms.
func (c *call) metadata(k *key) *KeyMetadata {
	r := k.record
	m := &KeyMetadata{
		KeyId:                   k.ref.id,
		Arn:                     k.arn,
		AWSAccountId:            k.ref.account,
		Description:             r.Description,
		KeySpec:                 r.Spec,
		CustomerMasterKeySpec:   CustomerMasterKeySpec(r.Spec),
		KeyUsage:                r.Usage,
		KeyState:                k.state,
		Enabled:                 k.state == KeyStateEnabled,
		KeyManager:              r.Manager,
		Origin:                  r.Origin,
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
	if k.spec.kind == symmetricKind && len(k.materials) > 0 {
		m.CurrentKeyMaterialId = k.current().id
	}
	if r.MultiRegion {
		m.MultiRegionConfiguration = &MultiRegionConfiguration{
			MultiRegionKeyType: MultiRegionKeyTypePrimary,
			PrimaryKey:         &MultiRegionKey{Arn: k.arn, Region: k.ref.region},
			ReplicaKeys:        []MultiRegionKey{},
		}
	}
	return m
}

var opListKeys = define(operation[ListKeysInput, ListKeysOutput]{
	description: description{name: "ListKeys", readOnly: true},
	act: func(c *call, in *ListKeysInput) (*ListKeysOutput, error) {
		scope := keysOf(c.caller.account, c.region)
		p, err := c.page(in.Marker, in.Limit, 100, scope)
		if err != nil {
			return nil, err
		}
		list, err := collect(c, p, func(name string) (*KeyListEntry, error) {
			ref, ok := parseKeyName(name)
			if !ok {
				return nil, nil
			}
			k, err := c.lookup(c.ctx, ref, c.now)    // the clock may have ended it
			if errors.Is(err, keystore.ErrCorrupt) { // DescribeKey tells what is wrong with it
				return &KeyListEntry{KeyId: ref.id, KeyArn: c.keyARN(ref)}, nil
			}
			if k == nil || err != nil {
				return nil, err
			}
			return &KeyListEntry{KeyId: ref.id, KeyArn: k.arn}, nil
		})
		if err != nil {
			return nil, err
		}
		list, next := cut(c, p, list, func(e KeyListEntry) string { return scope + e.KeyId })
		return &ListKeysOutput{Keys: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListKeys lists the keys of the caller's account and Region, whatever their
// state, by key ID.
func (s *Service) ListKeys(ctx context.Context, in *ListKeysInput) (*ListKeysOutput, error) {
	return opListKeys.do(ctx, s, in)
}

var opEnableKey = define(operation[EnableKeyInput, EnableKeyOutput]{
	description: description{name: "EnableKey", keys: keyOnly, states: toggleState},
	act: func(c *call, in *EnableKeyInput) (*EnableKeyOutput, error) {
		if !c.key().record.Disabled {
			return &EnableKeyOutput{}, c.confirm(c.ctx, c.key())
		}
		err := c.change(func(r *keyRecord) {
			r.Disabled = false
			if r.Rotation != nil && r.Rotation.Next.Before(c.now) {
				r.Rotation.Next = c.now.UTC() // overdue: one rotation now, and a new period from here
			}
		})
		if err == nil {
			_, err = c.lookup(c.ctx, c.key().ref, c.now)
		}
		return &EnableKeyOutput{}, err
	},
})

// EnableKey makes a disabled key usable again.
func (s *Service) EnableKey(ctx context.Context, in *EnableKeyInput) (*EnableKeyOutput, error) {
	return opEnableKey.do(ctx, s, in)
}

var opDisableKey = define(operation[DisableKeyInput, DisableKeyOutput]{
	description: description{name: "DisableKey", keys: keyOnly, states: toggleState},
	act: func(c *call, in *DisableKeyInput) (*DisableKeyOutput, error) {
		if c.key().record.Disabled {
			return &DisableKeyOutput{}, c.confirm(c.ctx, c.key())
		}
		return &DisableKeyOutput{}, c.change(func(r *keyRecord) { r.Disabled = true })
	},
})

// DisableKey makes a key unusable until EnableKey.
func (s *Service) DisableKey(ctx context.Context, in *DisableKeyInput) (*DisableKeyOutput, error) {
	return opDisableKey.do(ctx, s, in)
}

// validateDescription refuses what would be stored as something else.
func validateDescription(text string) error {
	if !utf8.ValidString(text) {
		return invalid("A description must be valid UTF-8.")
	}
	return nil
}

var opUpdateKeyDescription = define(operation[UpdateKeyDescriptionInput, UpdateKeyDescriptionOutput]{
	description: description{name: "UpdateKeyDescription", keys: keyOnly, states: changeState},
	validate:    func(in *UpdateKeyDescriptionInput) error { return validateDescription(in.Description) },
	act: func(c *call, in *UpdateKeyDescriptionInput) (*UpdateKeyDescriptionOutput, error) {
		return &UpdateKeyDescriptionOutput{}, c.change(func(r *keyRecord) { r.Description = in.Description })
	},
})

// UpdateKeyDescription replaces a key's description.
func (s *Service) UpdateKeyDescription(ctx context.Context, in *UpdateKeyDescriptionInput) (*UpdateKeyDescriptionOutput, error) {
	return opUpdateKeyDescription.do(ctx, s, in)
}
