package kms

import (
	"context"
	"errors"
	"strings"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
)

// EnsureKey returns the key that an alias points to. If the alias does not exist, EnsureKey creates
// it together with a new key as described by in, of which nil means a symmetric encryption key. It
// is not an operation of the API, but takes the permissions of DescribeKey, or CreateKey and
// CreateAlias, and is audited as those.
//
// Key and alias are created in one transaction: however many callers ask for the same alias at the
// same time, and wherever the process is killed, they all get the same key and none is left over. A
// key that exists is returned as it is, whatever in says and in whatever state it is.
func (s *Service) EnsureKey(ctx context.Context, alias string, in *CreateKeyInput) (*KeyMetadata, error) {
	if !strings.HasPrefix(alias, arn.AliasPrefix) {
		return nil, &Error{Code: ValidationException, Operation: "EnsureKey", Message: "EnsureKey takes the name of an alias, which begins with alias/."}
	}
	for {
		described, err := s.DescribeKey(ctx, &DescribeKeyInput{KeyId: alias})
		if err == nil {
			return described.KeyMetadata, nil
		}
		if !errors.Is(err, NotFoundException) {
			return nil, wrapError(ctx, err, "EnsureKey")
		}
		created, err := s.CreateKey(context.WithValue(ctx, ensuredAliasKey{}, alias), in)
		if errors.Is(err, errAliasExists) {
			continue // another caller was faster: describe its key
		}
		if err == nil {
			err = s.recordEnsuredAlias(ctx, alias, created.KeyMetadata.KeyId)
		}
		if err != nil {
			return nil, wrapError(ctx, err, "EnsureKey")
		}
		return created.KeyMetadata, nil
	}
}

// ensuredAliasKey is the key of the context value that has CreateKey create an alias, too.
type ensuredAliasKey struct{}

func ensuredAlias(ctx context.Context) string {
	alias, _ := ctx.Value(ensuredAliasKey{}).(string)
	return alias
}

var errAliasExists = errors.New("kms: the alias exists")

// admitEnsuredAlias refuses what CreateAlias would refuse. k is the key that is to be.
func (c *call) admitEnsuredAlias(alias keydb.AliasRef, k *keydb.Key) error {
	if err := validateAliasName(alias.Name); err != nil {
		return err
	}
	if err := c.authorizeResource("kms:CreateAlias", alias.ARN()); err != nil {
		return err
	}
	if err := c.authorizeTarget(&target{key: k, permission: "kms:CreateAlias"}); err != nil {
		return err
	}
	if err := requireUnreserved(alias.Name); err != nil {
		return err
	}
	existing, err := c.svc.core.db.AliasAt(c.ctx, alias, c.now)
	if existing != nil {
		return passthrough{errAliasExists}
	}
	return err
}

// recordEnsuredAlias records the creation of an alias that CreateKey has created.
func (s *Service) recordEnsuredAlias(ctx context.Context, alias, keyID string) error {
	if s.core.config.Audit == nil {
		return nil
	}
	c, err := begin(context.WithoutCancel(ctx), s, &opCreateAlias.description)
	if err != nil {
		return err
	}
	defer c.end()
	_ = c.recovered(func() error { // without the ARN of the key, the event is better than none
		c.now = s.core.config.Clock()
		k, err := s.core.db.Key(c.ctx, keydb.Ref{Account: s.caller.account, Region: s.region, ID: keyID}, c.now)
		if k != nil {
			c.targets[0].key, c.count = k, 1
		}
		return err
	})
	return c.recovered(func() error {
		return opCreateAlias.record(c, &CreateAliasInput{AliasName: alias, TargetKeyId: keyID}, &CreateAliasOutput{}, nil)
	})
}
