package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// CreateAliasInput gives a key one more name.
type CreateAliasInput struct {
	// AliasName is the new name, "alias/" included: up to 256 letters, digits, "/", "_" and "-", upper and lower case
	// being different. "alias/aws/" is reserved.
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`

	// TargetKeyId is the key ID or key ARN of a customer managed key in the caller's account and Region.
	TargetKeyId string `kms:"required,len=1..2048"`
}

// CreateAliasOutput is empty.
type CreateAliasOutput struct{}

// UpdateAliasInput moves an alias from its key to another.
type UpdateAliasInput struct {
	// AliasName is the existing name, "alias/" included.
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`

	// TargetKeyId is the key ID or key ARN of the key that the alias shall name from now on: of the same account, Region
	// and KeyUsage as the present one, and like it symmetric, asymmetric or HMAC.
	TargetKeyId string `kms:"required,len=1..2048"`
}

// UpdateAliasOutput is empty.
type UpdateAliasOutput struct{}

// DeleteAliasInput names the alias to delete. Its key stays.
type DeleteAliasInput struct {
	// AliasName is the existing name, "alias/" included.
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`
}

// DeleteAliasOutput is empty.
type DeleteAliasOutput struct{}

// ListAliasesInput chooses a page of the aliases of the caller's account and Region.
type ListAliasesInput struct {
	// KeyId, a key ID or key ARN, limits the list to the aliases of one key. Absent means all aliases.
	KeyId string `kms:"len=1..2048"`

	// Limit is the most aliases to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListAliasesOutput is a page of aliases.
type ListAliasesOutput struct {
	// Aliases are in the order of their names.
	Aliases []AliasListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated says that more aliases follow.
	Truncated bool `kms:"emitzero"`
}

// AliasListEntry is one alias.
type AliasListEntry struct {
	// AliasName is the name, "alias/" included.
	AliasName string

	// AliasArn is the alias ARN.
	AliasArn string

	// TargetKeyId is the bare ID of the key; absent for a predefined alias/aws/... that has no key yet.
	TargetKeyId string

	// CreationDate is when the alias was made; zero as long as it has no key.
	CreationDate time.Time

	// LastUpdatedDate is when the alias was last given a key, by CreateAlias or UpdateAlias.
	LastUpdatedDate time.Time
}

const aliasesPerKey = 50

// predefinedAliases are the names of the AWS managed keys, by the service that
// uses each. All accounts have them; a key is made for one when it is described.
var predefinedAliases = []string{
	"alias/aws/acm", "alias/aws/backup", "alias/aws/dynamodb", "alias/aws/ebs", "alias/aws/elasticfilesystem",
	"alias/aws/es", "alias/aws/glue", "alias/aws/kinesis", "alias/aws/lambda", "alias/aws/rds", "alias/aws/redshift",
	"alias/aws/s3", "alias/aws/secretsmanager", "alias/aws/sns", "alias/aws/sqs", "alias/aws/ssm", "alias/aws/xray",
}

// prospectiveKey returns the AWS managed key that a predefined alias will name
// once it is described; nil if the alias is none.
func (c *core) prospectiveKey(alias aliasRef) *key {
	if !slices.Contains(predefinedAliases, alias.name) {
		return nil
	}
	now := c.config.Clock().UTC()
	service := strings.TrimPrefix(alias.name, reservedAliasPrefix)
	ref := keyRef{alias.account, alias.region, newKeyID(false)}
	return &key{
		ref: ref,
		arn: c.aliasARN(alias), // an ID that was only just drawn would tell nobody anything
		record: &keyRecord{
			Spec:        KeySpecSymmetricDefault,
			Usage:       KeyUsageEncryptDecrypt,
			Origin:      OriginAWSKMS,
			Manager:     KeyManagerAWS,
			Created:     now,
			Description: "Default key that protects the data of " + service + " when no other key is chosen",
			Policy:      managedKeyPolicy(c.config.Partition, alias.account, alias.region, service),
			Rotation:    &keyRotation{PeriodInDays: defaultRotationDays, Next: now.AddDate(0, 0, defaultRotationDays)},
		},
		spec:  specOf(KeySpecSymmetricDefault),
		use:   specOf(KeySpecSymmetricDefault).use(KeyUsageEncryptDecrypt),
		state: KeyStateEnabled,
		alias: alias.name,
	}
}

// createManagedKey stores a prospective key and its alias.
func (c *call) createManagedKey(k *key) (*key, error) {
	alias := aliasRef{k.ref.account, k.ref.region, k.alias}
	return c.createKey(c.ctx, k.ref, nil, k.record, k.use, c.bindAlias(alias, k.ref))
}

// bindAlias is the change that makes a new alias name a key.
func (c *call) bindAlias(alias aliasRef, to keyRef) keystore.Tx {
	now := c.now.UTC()
	return keystore.Tx{
		Expect: []keystore.Expectation{{Key: alias.recordName()}},
		Puts: []keystore.Put{
			{Key: alias.recordName(), Value: encodeRecord(aliasRecord{Key: to.id, Created: now, Updated: now})},
			{Key: to.aliasName(alias.name), Value: encodeRecord(struct{}{})},
		},
	}
}

// commitAlias commits a change of an alias, and forgets what it was. If it is
// to name a key from now on, that key's record is written too, as it is: of two
// aliases at once, one has to begin anew, so that they do not make 51 of 50.
func (c *call) commitAlias(alias aliasRef, names *key, tx keystore.Tx) error {
	var err error
	if names != nil {
		_, err = c.commit(c.ctx, names, names.record, tx)
	} else {
		_, err = c.store.Commit(c.ctx, tx)
	}
	c.aliases.drop(alias.place())
	if err != nil { // a key may have changed since it was read
		for i := range c.count {
			k := c.targets[i].key
			c.forget(k)
		}
	}
	return err
}

// callerAlias is where an alias of that name lives for this call.
func (c *call) callerAlias(name string) aliasRef { return aliasRef{c.caller.account, c.region, name} }

// identifyAliasTarget makes the key that an alias shall name the call's next
// target.
func (c *call) identifyAliasTarget(sent string) error {
	id, err := parseKeyIdentifier(sent, c.config.Partition)
	switch {
	case err != nil:
		return err
	case id.alias != "":
		return invalid("Aliases must refer to keys. Not aliases")
	case id.account != "" && id.account != c.caller.account && id.region == c.region:
		return keyNotFound(sent) // there is no other account's key for an alias
	}
	return c.identify(sent, c.op.permission, false)
}

// admitAliasTarget refuses a key that cannot have one more alias.
func (c *call) admitAliasTarget(k *key) error {
	existing, err := c.store.Scan(c.ctx, k.ref.aliasesName(), "", aliasesPerKey)
	if err != nil {
		return err
	}
	if len(existing) >= aliasesPerKey {
		return exception(LimitExceededException, "A key can have at most %d aliases.", aliasesPerKey)
	}
	return nil
}

func validateAliasName(name string) error {
	switch {
	case !strings.HasPrefix(name, aliasPrefix) || name == aliasPrefix:
		return invalid(`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case !isAliasName(name):
		return invalid("%s contains invalid characters for an alias", name)
	}
	return nil
}

var opCreateAlias = define(operation[CreateAliasInput, CreateAliasOutput]{
	description: description{name: "CreateAlias", keys: ownIdentify, states: changeState},
	validate:    func(in *CreateAliasInput) error { return validateAliasName(in.AliasName) },
	identify:    func(c *call, in *CreateAliasInput) error { return c.identifyAliasTarget(in.TargetKeyId) },
	admit: func(_ *call, in *CreateAliasInput) error {
		if strings.HasPrefix(in.AliasName, reservedAliasPrefix) {
			return exception(InvalidAliasNameException, "The prefix %s is reserved for AWS managed keys.", reservedAliasPrefix)
		}
		return nil
	},
	act: func(c *call, in *CreateAliasInput) (*CreateAliasOutput, error) {
		alias, k := c.callerAlias(in.AliasName), c.key()
		existing, err := c.describeAlias(alias) // not one whose key has come to its end
		if err != nil {
			return nil, err
		}
		if existing != nil {
			return nil, exception(AlreadyExistsException, "An alias with the name %s already exists", c.aliasARN(alias))
		}
		if err := c.admitAliasTarget(k); err != nil {
			return nil, err
		}
		return &CreateAliasOutput{}, c.commitAlias(alias, k, c.bindAlias(alias, k.ref))
	},
})

// CreateAlias gives a customer managed key one more name, of at most 50.
func (s *Service) CreateAlias(ctx context.Context, in *CreateAliasInput) (*CreateAliasOutput, error) {
	return opCreateAlias.do(ctx, s, in)
}

var opUpdateAlias = define(operation[UpdateAliasInput, UpdateAliasOutput]{
	description: description{name: "UpdateAlias", keys: ownIdentify},
	validate:    func(in *UpdateAliasInput) error { return validateAliasName(in.AliasName) },
	identify: func(c *call, in *UpdateAliasInput) error {
		if err := c.identifyAlias(in.AliasName); err != nil {
			return err
		}
		return c.identifyAliasTarget(in.TargetKeyId)
	},
	act: func(c *call, in *UpdateAliasInput) (*UpdateAliasOutput, error) {
		alias, from, to := c.callerAlias(in.AliasName), c.targets[0].key, c.targets[1].key
		if err := changeState.admit(to); err != nil { // the old key may be pending deletion, the new one not
			return nil, err
		}
		if from.spec.kind != to.spec.kind || from.record.Usage != to.record.Usage {
			return nil, exception(KMSInvalidStateException, "Alias %s cannot move from %s to %s: the keys differ in type or usage.", c.aliasARN(alias), from.arn, to.arn)
		}
		if from.ref != to.ref {
			if err := c.admitAliasTarget(to); err != nil {
				return nil, err
			}
		}
		existing, err := c.alias(c.ctx, alias)
		if err != nil {
			return nil, err
		}
		if existing == nil || existing.Key != from.ref.id {
			return nil, keystore.ErrConflict // it moved since it was identified: once more
		}
		tx := keystore.Tx{
			Expect: []keystore.Expectation{
				{Key: alias.recordName(), Revision: existing.revision},
			},
			Puts: []keystore.Put{{Key: alias.recordName(), Value: encodeRecord(aliasRecord{
				Key: to.ref.id, Created: existing.Created, Updated: c.now.UTC(),
			})}},
		}
		if from.ref != to.ref {
			tx.Puts = append(tx.Puts, keystore.Put{Key: to.ref.aliasName(alias.name), Value: encodeRecord(struct{}{})})
			tx.Deletes = []string{from.ref.aliasName(alias.name)}
		}
		return &UpdateAliasOutput{}, c.commitAlias(alias, to, tx)
	},
})

// UpdateAlias makes an alias name another key of the same type and usage.
func (s *Service) UpdateAlias(ctx context.Context, in *UpdateAliasInput) (*UpdateAliasOutput, error) {
	return opUpdateAlias.do(ctx, s, in)
}

// identifyAlias makes the key that an alias of the caller names the call's next
// target.
func (c *call) identifyAlias(name string) error {
	alias := c.callerAlias(name)
	a, err := c.alias(c.ctx, alias)
	if err != nil {
		return err
	}
	if a != nil {
		k, err := c.lookup(c.ctx, keyRef{alias.account, alias.region, a.Key}, c.now)
		if err != nil {
			return err
		}
		if k != nil {
			return c.addTarget(target{key: k, permission: c.op.permission})
		}
	}
	return c.aliasNotFound(alias)
}

var opDeleteAlias = define(operation[DeleteAliasInput, DeleteAliasOutput]{
	description: description{name: "DeleteAlias", keys: ownIdentify},
	validate:    func(in *DeleteAliasInput) error { return validateAliasName(in.AliasName) },
	identify:    func(c *call, in *DeleteAliasInput) error { return c.identifyAlias(in.AliasName) },
	act: func(c *call, in *DeleteAliasInput) (*DeleteAliasOutput, error) {
		alias := c.callerAlias(in.AliasName)
		existing, err := c.alias(c.ctx, alias)
		if err != nil {
			return nil, err
		}
		if existing == nil || existing.Key != c.key().ref.id {
			return nil, keystore.ErrConflict // it moved since it was identified: once more
		}
		return &DeleteAliasOutput{}, c.commitAlias(alias, nil, keystore.Tx{
			Expect:  []keystore.Expectation{{Key: alias.recordName(), Revision: existing.revision}},
			Deletes: []string{alias.recordName(), c.key().ref.aliasName(alias.name)},
		})
	},
})

// DeleteAlias takes a name from its key, which stays.
func (s *Service) DeleteAlias(ctx context.Context, in *DeleteAliasInput) (*DeleteAliasOutput, error) {
	return opDeleteAlias.do(ctx, s, in)
}

var opListAliases = define(operation[ListAliasesInput, ListAliasesOutput]{
	description: description{name: "ListAliases", keys: ownIdentify, readOnly: true},
	identify:    func(*call, *ListAliasesInput) error { return nil }, // KeyId is a filter, and takes no permission on that key
	act: func(c *call, in *ListAliasesInput) (*ListAliasesOutput, error) {
		scope := aliasesOf(c.caller.account, c.region)
		if in.KeyId != "" {
			k, err := c.resolve(in.KeyId, c.op.permission, false)
			if err != nil {
				return nil, err
			}
			scope = k.ref.aliasesName()
		}
		place := func(name string) string { return scope + strings.TrimPrefix(name, aliasPrefix) }
		p, err := c.page(in.Marker, in.Limit, 50, scope)
		if err != nil {
			return nil, err
		}
		list, err := collect(c, p, func(name string) (*AliasListEntry, error) {
			alias := c.callerAlias(aliasPrefix + strings.TrimPrefix(name, scope))
			e, err := c.describeAlias(alias)
			if errors.Is(err, keystore.ErrCorrupt) { // DescribeKey tells what is wrong with it
				return &AliasListEntry{AliasName: alias.name, AliasArn: c.aliasARN(alias)}, nil
			}
			return e, err
		})
		if err != nil {
			return nil, err
		}
		if in.KeyId == "" {
			for _, name := range predefinedAliases {
				alias := c.callerAlias(name)
				if a, err := c.alias(c.ctx, alias); err != nil && !errors.Is(err, keystore.ErrCorrupt) {
					return nil, err
				} else if a == nil && err == nil {
					list = append(list, AliasListEntry{AliasName: name, AliasArn: c.aliasARN(alias)})
				}
			}
			slices.SortFunc(list, func(a, b AliasListEntry) int { return strings.Compare(a.AliasName, b.AliasName) })
		}
		list, next := cut(c, p, list, func(e AliasListEntry) string { return place(e.AliasName) })
		return &ListAliasesOutput{Aliases: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// describeAlias returns the list's entry for an alias; nil if it is gone, or
// its key by now.
func (c *call) describeAlias(alias aliasRef) (*AliasListEntry, error) {
	a, err := c.alias(c.ctx, alias)
	if a == nil || err != nil {
		return nil, err
	}
	k, err := c.lookup(c.ctx, keyRef{alias.account, alias.region, a.Key}, c.now)
	if k == nil || err != nil {
		return nil, err
	}
	return &AliasListEntry{
		AliasName:       alias.name,
		AliasArn:        c.aliasARN(alias),
		TargetKeyId:     a.Key,
		CreationDate:    a.Created,
		LastUpdatedDate: a.Updated,
	}, nil
}

// ListAliases lists the aliases of the caller's account and Region, or of one
// key there, by name. The predefined alias/aws/ names are among them, without a
// key until it is made.
func (s *Service) ListAliases(ctx context.Context, in *ListAliasesInput) (*ListAliasesOutput, error) {
	return opListAliases.do(ctx, s, in)
}
