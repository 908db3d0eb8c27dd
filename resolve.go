package kms

import (
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
)

// A keyIdentifier is a parsed KeyId. Only an ARN has an account and a Region.
type keyIdentifier struct {
	account, region string
	keyID           string // of a key ID or key ARN
	alias           string // of an alias name or alias ARN, with its prefix "alias/"
}

// parseKeyIdentifier parses a KeyId in the API's four forms. Its errors are the API's.
func parseKeyIdentifier(s string) (keyIdentifier, *Error) {
	if strings.HasPrefix(s, "arn:") {
		a, ok := arn.Parse(s)
		if !ok || a.Service != "kms" || !arn.IsRegion(a.Region) || !arn.IsAccount(a.Account) || a.Partition != arn.Partition(a.Region) {
			return keyIdentifier{}, exception(InvalidArnException, "Invalid arn %s", s)
		}
		id := keyIdentifier{account: a.Account, region: a.Region}
		if keyID, ok := strings.CutPrefix(a.Resource, "key/"); ok {
			if !arn.IsKeyID(keyID) {
				return keyIdentifier{}, exception(NotFoundException, "Invalid keyId '%s'", keyID)
			}
			id.keyID = keyID
			return id, nil
		}
		if !arn.IsAlias(a.Resource) {
			return keyIdentifier{}, exception(InvalidArnException, "Invalid arn %s", s)
		}
		id.alias = a.Resource
		return id, nil
	}
	if arn.IsAlias(s) {
		return keyIdentifier{alias: s}, nil
	}
	if !arn.IsKeyID(s) {
		return keyIdentifier{}, exception(NotFoundException, "Invalid keyId '%s'", s)
	}
	return keyIdentifier{keyID: s}, nil
}

// identify makes the key that identifier names the call's next target.
func (c *call) identify(identifier, permission string, aliases bool) error {
	k, err := c.resolve(identifier, permission, aliases)
	if err != nil {
		return err
	}
	return c.addTarget(k, permission, identifier, false)
}

// addTarget makes k the call's next target: identifier is the KeyId that named it, if one did. If the
// key is undisclosed, the caller is authorized first, so that no other error can reveal that the key
// exists.
func (c *call) addTarget(k *keydb.Key, permission, identifier string, byCiphertext bool) error {
	t := &c.targets[c.count]
	t.key, t.permission, t.identifier, t.byCiphertext = k, permission, identifier, byCiphertext
	t.foreign = identifier != "" && k.Account != c.svc.caller.account
	c.count++
	if !t.undisclosed() {
		return nil
	}
	err := c.authorizeTarget(t)
	if err != nil { // the audit event must not disclose the key, either
		c.count--
		*t = target{}
	}
	return err
}

// undisclosed reports whether a caller that is not allowed to use the key must not learn that it
// exists.
func (t *target) undisclosed() bool { return t.foreign || t.byCiphertext }

// resolve returns the key that an identifier names. A caller gets the same error for a key of
// another account that does not exist as for one that it may not use.
func (c *call) resolve(identifier, permission string, aliases bool) (*keydb.Key, error) {
	caller, region := &c.svc.caller, c.svc.region
	ref := keydb.Ref{Account: caller.account, Region: region, ID: identifier} // identifier is usually a key ID
	if k, err := c.svc.core.db.CachedKey(c.ctx, &ref, c.now); k != nil || err != nil {
		return k, err
	}
	id, malformed := parseKeyIdentifier(identifier)
	switch {
	case malformed != nil:
		return nil, malformed
	case id.alias != "" && !aliases:
		return nil, exception(InvalidArnException, "Key Aliases are not supported for this operation.")
	case id.account == "":
		id.account, id.region = caller.account, region
	case id.region != region:
		return nil, exception(NotFoundException, "Invalid arn %s", id.region)
	case id.account != caller.account && caller.kind != iam.Service && !c.op.crossAccount:
		return nil, hiddenForeign(caller, permission)
	}
	k, err := c.find(id)
	if err != nil && id.account != caller.account {
		return nil, c.mask(err, hiddenForeign(caller, permission))
	}
	return k, err
}

// find returns the key that id names, or a NotFoundException.
func (c *call) find(id keyIdentifier) (*keydb.Key, error) {
	db := c.svc.core.db
	ref := keydb.Ref{Account: id.account, Region: id.region, ID: id.keyID}
	notFound := func() error { return keyNotFound(ref.ARN()) }
	if id.alias != "" {
		alias := keydb.AliasRef{Account: id.account, Region: id.region, Name: id.alias}
		notFound = func() error { return aliasNotFound(alias) }
		a, err := db.Alias(c.ctx, alias)
		if err != nil {
			return nil, err
		}
		if a == nil {
			if k := c.undefinedManagedKey(alias); k != nil && id.account == c.svc.caller.account {
				return k, nil
			}
			return nil, notFound()
		}
		ref = a.Key()
	}
	k, err := db.Key(c.ctx, ref, c.now)
	if k == nil && err == nil {
		err = notFound() // an alias is deleted with its key, so it was deleted just now
	}
	return k, err
}

// mask returns refusal instead of err, an error of finding a key of another account, because the
// caller must not learn why it was not found. It logs err if it is not an exception.
func (c *call) mask(err error, refusal *Error) error {
	if c.ctx.Err() != nil {
		return err
	}
	if _, ours := err.(*Error); !ours {
		c.svc.core.config.Logger.Error("kms: a key of another account than the caller's cannot be read", "error", err)
	}
	return refusal
}

func aliasNotFound(alias keydb.AliasRef) *Error {
	return exception(NotFoundException, "Alias %s is not found.", alias.ARN())
}

func keyNotFound(arn string) *Error {
	return exception(NotFoundException, "Key '%s' does not exist", arn)
}
