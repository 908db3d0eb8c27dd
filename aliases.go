package kms

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
)

// CreateAliasInput describes a new alias of a key.
type CreateAliasInput struct {
	// AliasName is the new name, with "alias/": up to 256 letters, digits, "/", "_" and "-". Upper
	// and lower case differ. Names that begin with "alias/aws/" are reserved.
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`

	// TargetKeyId is the key ID or key ARN of a customer managed key in the caller's account and
	// Region.
	TargetKeyId string `kms:"required,len=1..2048"`
}

// CreateAliasOutput is empty.
type CreateAliasOutput struct{}

// UpdateAliasInput moves an alias to another key.
type UpdateAliasInput struct {
	// AliasName is the existing name, with "alias/".
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`

	// TargetKeyId is the key ID or key ARN of the new key. It must have the same account, Region
	// and KeyUsage as the present one, and must be symmetric, asymmetric or HMAC as that one is.
	TargetKeyId string `kms:"required,len=1..2048"`
}

// UpdateAliasOutput is empty.
type UpdateAliasOutput struct{}

// DeleteAliasInput names the alias to delete. Its key stays.
type DeleteAliasInput struct {
	// AliasName is the existing name, with "alias/".
	AliasName string `kms:"required,len=1..256,pattern=aliasName"`
}

// DeleteAliasOutput is empty.
type DeleteAliasOutput struct{}

// ListAliasesInput selects a page of the aliases of the caller's account and Region.
type ListAliasesInput struct {
	// KeyId, a key ID or key ARN, limits the list to the aliases of one key. Absent means all
	// aliases.
	KeyId string `kms:"len=1..2048"`

	// Limit is the most aliases to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListAliasesOutput is a page of aliases.
type ListAliasesOutput struct {
	// Aliases are in the order of their names.
	Aliases []AliasListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more aliases follow.
	Truncated bool `kms:"emitzero"`
}

// AliasListEntry is one alias.
type AliasListEntry struct {
	// AliasName is the name, with "alias/".
	AliasName string

	// AliasArn is the alias ARN.
	AliasArn string

	// TargetKeyId is the key ID; absent for a predefined alias/aws/... that has no key yet.
	TargetKeyId string

	// CreationDate is when the alias was created; zero while it has no key.
	CreationDate time.Time

	// LastUpdatedDate is when CreateAlias or UpdateAlias last set the key of the alias.
	LastUpdatedDate time.Time
}

// predefinedAliases are the names of the AWS managed keys, by the service that uses each. All
// accounts have them; a key is created for one when it is described.
var predefinedAliases = []string{
	"alias/aws/acm", "alias/aws/backup", "alias/aws/dynamodb", "alias/aws/ebs", "alias/aws/elasticfilesystem",
	"alias/aws/es", "alias/aws/glue", "alias/aws/kinesis", "alias/aws/lambda", "alias/aws/rds", "alias/aws/redshift",
	"alias/aws/s3", "alias/aws/secretsmanager", "alias/aws/sns", "alias/aws/sqs", "alias/aws/ssm", "alias/aws/xray",
}

// undefinedManagedKey returns the AWS managed key that DescribeKey creates for a predefined alias,
// or nil if the alias is not predefined.
func (c *call) undefinedManagedKey(alias keydb.AliasRef) *keydb.Key {
	if !slices.Contains(predefinedAliases, alias.Name) {
		return nil
	}
	now := c.now.UTC()
	service := strings.TrimPrefix(alias.Name, arn.ReservedAliasPrefix)
	ref := keydb.Ref{Account: alias.Account, Region: alias.Region, ID: arn.NewKeyID(false)}
	return keydb.NewUnstoredKey(ref, alias.ARN(), &keydb.Record{ // the ARN of a random ID would mean nothing
		Spec:        string(KeySpecSymmetricDefault),
		Usage:       string(KeyUsageEncryptDecrypt),
		Origin:      string(OriginAWSKMS),
		Manager:     string(KeyManagerAWS),
		Created:     now,
		Description: "Default key that protects the data of " + service + " when no other key is chosen",
		Policy:      managedKeyPolicy(alias.Account, alias.Region, service),
		Rotation:    &keydb.Rotation{PeriodInDays: defaultRotationDays, Next: now.AddDate(0, 0, defaultRotationDays)},
	})
}

// callerAlias returns the alias of that name in the caller's account and Region.
func (c *call) callerAlias(name string) keydb.AliasRef {
	return keydb.AliasRef{Account: c.svc.caller.account, Region: c.svc.region, Name: name}
}

// identifyAliasTarget adds the key of a TargetKeyId to the targets of the call.
func (c *call) identifyAliasTarget(identifier string) error {
	id, err := parseKeyIdentifier(identifier)
	switch {
	case err != nil:
		return err
	case id.alias != "":
		return invalid("Aliases must refer to keys. Not aliases")
	case id.account != "" && id.account != c.svc.caller.account && id.region == c.svc.region:
		return invalid("This operation cannot be called cross account")
	}
	return c.identify(identifier, c.op.permission, false)
}

// requireRoomForAlias refuses a key that cannot have one more alias.
func (c *call) requireRoomForAlias(k *keydb.Key) error {
	limit := c.svc.core.config.Limits.AliasesPerKey
	n, err := c.svc.core.db.CountAliases(c.ctx, k.Ref, limit)
	if err == nil && n == limit {
		err = limitExceeded("Aliases per key", limit, n)
	}
	return err
}

func validateAliasName(name string) error {
	switch {
	case !strings.HasPrefix(name, arn.AliasPrefix) || name == arn.AliasPrefix:
		return invalid(`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case !arn.IsAlias(name):
		return invalid("%s contains invalid characters for an alias", name)
	}
	return nil
}

// requireUnreserved refuses the names that only AWS managed keys can have.
func requireUnreserved(alias string) error {
	if strings.HasPrefix(alias, arn.ReservedAliasPrefix) {
		return exception(InvalidAliasNameException, "The prefix %s is reserved for AWS managed keys.", arn.ReservedAliasPrefix)
	}
	return nil
}

var opCreateAlias = define(description{
	name: "CreateAlias", keys: ownIdentify, states: changeState,
}, steps[CreateAliasInput, CreateAliasOutput]{
	validate: func(in *CreateAliasInput) error { return validateAliasName(in.AliasName) },
	identify: func(c *call, in *CreateAliasInput) error { return c.identifyAliasTarget(in.TargetKeyId) },
	admit:    func(_ *call, in *CreateAliasInput) error { return requireUnreserved(in.AliasName) },
	act: func(c *call, in *CreateAliasInput) (*CreateAliasOutput, error) {
		alias := c.callerAlias(in.AliasName)
		existing, err := c.svc.core.db.AliasAt(c.ctx, alias, c.now)
		if err != nil {
			return nil, err
		}
		if existing != nil {
			return nil, exception(AlreadyExistsException, "An alias with the name %s already exists", alias.ARN())
		}
		if err := c.requireRoomForAlias(c.key()); err != nil {
			return nil, err
		}
		return &CreateAliasOutput{}, c.svc.core.db.BindAlias(c.ctx, alias, c.key(), c.now)
	},
})

// CreateAlias creates an alias of a customer managed key. A key can have up to 50, unless
// Config.Limits says otherwise.
//
// To create a key together with its alias, use [Service.EnsureKey].
func (s *Service) CreateAlias(ctx context.Context, in *CreateAliasInput) (*CreateAliasOutput, error) {
	return opCreateAlias.do(ctx, s, in)
}

var opUpdateAlias = define(description{
	name: "UpdateAlias", keys: ownIdentify, states: anyState,
}, steps[UpdateAliasInput, UpdateAliasOutput]{
	validate: func(in *UpdateAliasInput) error { return validateAliasName(in.AliasName) },
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
		if from.Usage.Name != to.Usage.Name {
			return nil, invalid("Alias %s cannot be changed from a CMK with key usage %s to a CMK with key usage %s. "+
				"The key usage of the current CMK and the new CMK must be the same.", alias.Name, from.Usage.Name, to.Usage.Name)
		}
		if from.Spec.Kind != to.Spec.Kind {
			return nil, invalid("Alias %s cannot be changed from a CMK with key spec %s to a CMK with key spec %s.", alias.Name, from.Spec.Name, to.Spec.Name)
		}
		if from.Ref != to.Ref {
			if err := c.requireRoomForAlias(to); err != nil {
				return nil, err
			}
		}
		existing, err := c.currentAlias(alias, from)
		if err != nil {
			return nil, err
		}
		return &UpdateAliasOutput{}, c.svc.core.db.MoveAlias(c.ctx, existing, to, c.now)
	},
})

// UpdateAlias moves an alias to another key of the same type and usage.
func (s *Service) UpdateAlias(ctx context.Context, in *UpdateAliasInput) (*UpdateAliasOutput, error) {
	return opUpdateAlias.do(ctx, s, in)
}

// identifyAlias adds the key of an alias of the caller to the targets of the call.
func (c *call) identifyAlias(name string) error {
	alias := c.callerAlias(name)
	a, err := c.svc.core.db.Alias(c.ctx, alias)
	if err != nil {
		return err
	}
	if a != nil {
		k, err := c.svc.core.db.Key(c.ctx, a.Key(), c.now)
		if err != nil {
			return err
		}
		if k != nil {
			return c.addTarget(k, c.op.permission, "", false)
		}
	}
	return aliasNotFound(alias)
}

// currentAlias returns an alias that points to k, or ErrConflict if it no longer does.
func (c *call) currentAlias(alias keydb.AliasRef, k *keydb.Key) (*keydb.Alias, error) {
	a, err := c.svc.core.db.Alias(c.ctx, alias)
	if err != nil {
		return nil, err
	}
	if a == nil || a.Key() != k.Ref {
		return nil, keydb.ErrConflict
	}
	return a, nil
}

var opDeleteAlias = define(description{
	name: "DeleteAlias", keys: ownIdentify, states: anyState,
}, steps[DeleteAliasInput, DeleteAliasOutput]{
	validate: func(in *DeleteAliasInput) error { return validateAliasName(in.AliasName) },
	identify: func(c *call, in *DeleteAliasInput) error { return c.identifyAlias(in.AliasName) },
	act: func(c *call, in *DeleteAliasInput) (*DeleteAliasOutput, error) {
		existing, err := c.currentAlias(c.callerAlias(in.AliasName), c.key())
		if err != nil {
			return nil, err
		}
		return &DeleteAliasOutput{}, c.svc.core.db.DeleteAlias(c.ctx, existing)
	},
})

// DeleteAlias deletes an alias. Its key stays.
func (s *Service) DeleteAlias(ctx context.Context, in *DeleteAliasInput) (*DeleteAliasOutput, error) {
	return opDeleteAlias.do(ctx, s, in)
}

var opListAliases = define(description{
	name: "ListAliases", keys: ownIdentify, states: anyState, readOnly: true,
}, steps[ListAliasesInput, ListAliasesOutput]{
	identify: func(*call, *ListAliasesInput) error { return nil }, // KeyId is a filter and takes no permission on that key
	act: func(c *call, in *ListAliasesInput) (*ListAliasesOutput, error) {
		db, list, of := c.svc.core.db, "", (*keydb.Key)(nil)
		if in.KeyId != "" {
			var err error
			if of, err = c.resolve(in.KeyId, c.op.permission, false); err != nil {
				return nil, err
			}
			list = of.ARN
		} else {
			list = c.callerList()
		}
		p, err := c.page(in.Marker, in.Limit, 50, list)
		if err != nil {
			return nil, err
		}
		var all iter.Seq2[*keydb.Alias, error]
		if of != nil {
			all = db.AliasesOf(c.ctx, of.Ref, p.after, p.limit+1, c.now)
		} else {
			all = db.Aliases(c.ctx, c.svc.caller.account, c.svc.region, p.after, p.limit+1, c.now)
		}
		entries, err := collect(p, all, aliasEntry)
		if err != nil {
			return nil, err
		}
		if of == nil {
			if entries, err = c.addPredefinedAliases(entries); err != nil {
				return nil, err
			}
		}
		entries, next := truncate(c, p, entries, func(e AliasListEntry) string { return e.AliasName })
		return &ListAliasesOutput{Aliases: entries, NextMarker: next, Truncated: next != ""}, nil
	},
})

// aliasEntry returns the entry of an alias in a list. One whose record is damaged has only its
// name: DescribeKey says what is wrong with it.
func aliasEntry(a *keydb.Alias) AliasListEntry {
	return AliasListEntry{
		AliasName:       a.Name,
		AliasArn:        a.ARN(),
		TargetKeyId:     a.KeyID,
		CreationDate:    a.Created,
		LastUpdatedDate: a.Updated,
	}
}

// addPredefinedAliases adds the predefined aliases that have no key yet to a list of stored ones.
func (c *call) addPredefinedAliases(entries []AliasListEntry) ([]AliasListEntry, error) {
	for _, name := range predefinedAliases {
		alias := c.callerAlias(name)
		stored, err := c.svc.core.db.HasAlias(c.ctx, alias)
		if err != nil {
			return nil, err
		}
		if !stored {
			entries = append(entries, AliasListEntry{AliasName: name, AliasArn: alias.ARN()})
		}
	}
	slices.SortFunc(entries, func(a, b AliasListEntry) int { return strings.Compare(a.AliasName, b.AliasName) })
	return entries, nil
}

// ListAliases lists the aliases of the caller's account and Region, or of one key there, sorted by
// name. That includes the predefined alias/aws/ names, which have no key until they are described:
// as in AWS, they are in every account, and code that lists aliases has to expect them.
func (s *Service) ListAliases(ctx context.Context, in *ListAliasesInput) (*ListAliasesOutput, error) {
	return opListAliases.do(ctx, s, in)
}
