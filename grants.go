package kms

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/spec"
)

// CreateGrantInput describes a new grant. Exactly one of GranteePrincipal and
// GranteeServicePrincipal must be present.
type CreateGrantInput struct {
	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"required,len=1..2048"`

	// GranteePrincipal is the principal that may use the key: the ARN of an account, user, role,
	// session of a role or federated user, or the unique ID of a user or role.
	GranteePrincipal string `kms:"len=1..256,pattern=principal"`

	// GranteeServicePrincipal is the AWS service that may use the key. It requires
	// Constraints.SourceArn and a retiring principal.
	GranteeServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringPrincipal is the principal that may retire the grant, in the form of GranteePrincipal.
	RetiringPrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringServicePrincipal is the AWS service that may retire the grant. At most one of it and
	// RetiringPrincipal may be present.
	RetiringServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Operations are those that the grantee may call. They must be possible with the key's type and
	// KeyUsage.
	Operations []GrantOperation `kms:"required"`

	// Constraints limit the calls that the grant allows; nil means no limits.
	Constraints *GrantConstraints

	// Name makes the call idempotent: if the key has a grant of this name with the same properties,
	// that one is returned with a new token. It must hold no secrets: it is logged in the clear.
	Name string `kms:"len=1..256,pattern=aliasName"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// CreateGrantOutput names the grant.
type CreateGrantOutput struct {
	// GrantId is the grant's ID, 64 hexadecimal digits.
	GrantId string

	// GrantToken names the grant in GrantTokens and in RetireGrant. It gives no more than the grant,
	// but as in the API it is not logged.
	GrantToken string `kms:"secret"`
}

// GrantConstraints limit the calls that a grant allows. At most one of the encryption contexts may
// be present, and only for a symmetric encryption key. They must hold no secrets: they are logged
// in the clear.
type GrantConstraints struct {
	// EncryptionContextEquals must be the encryption context of a call. It has at most 8 pairs, and
	// values of at most 384 characters.
	EncryptionContextEquals map[string]string `kms:"len=..8"`

	// EncryptionContextSubset must be a part of the encryption context of a call. Its limits are
	// those of EncryptionContextEquals.
	EncryptionContextSubset map[string]string `kms:"len=..8"`

	// SourceArn is the ARN of the resource on whose behalf an AWS service must make a call.
	SourceArn string `kms:"len=20..2048"`
}

// ListGrantsInput selects a page of the grants of a key.
type ListGrantsInput struct {
	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"required,len=1..2048"`

	// GrantId limits the list to one grant.
	GrantId string `kms:"len=1..128"`

	// GranteePrincipal limits the list to the grants of one grantee.
	GranteePrincipal string `kms:"len=1..256,pattern=principal"`

	// GranteeServicePrincipal limits the list to the grants of one AWS service. Only such a service
	// can use it: it is refused.
	GranteeServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Limit is the most grants to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListGrantsOutput is a page of grants.
type ListGrantsOutput struct {
	// Grants are sorted by ID.
	Grants []GrantListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more grants follow.
	Truncated bool `kms:"emitzero"`
}

// ListRetirableGrantsInput selects a page of the grants in the Region that a principal may retire.
// Exactly one of RetiringPrincipal and RetiringServicePrincipal must be present.
type ListRetirableGrantsInput struct {
	// RetiringPrincipal is the ARN of a principal of the caller's account.
	RetiringPrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringServicePrincipal is an AWS service. Only such a service can use it: it is refused.
	RetiringServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Limit is the most grants to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListRetirableGrantsOutput is a page of grants.
type ListRetirableGrantsOutput struct {
	// Grants are sorted by account, key ID and grant ID.
	Grants []GrantListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more grants follow.
	Truncated bool `kms:"emitzero"`
}

// GrantListEntry is one grant.
type GrantListEntry struct {
	// KeyId is the key ARN.
	KeyId string

	// GrantId is the grant's ID.
	GrantId string

	// Name is the name; empty if there is none.
	Name string `kms:"emitzero"`

	// CreationDate is when the grant was created.
	CreationDate time.Time

	// GranteePrincipal is the principal that may use the key; absent for a service.
	GranteePrincipal string

	// GranteeServicePrincipal is the service that may use the key; absent for a principal.
	GranteeServicePrincipal string

	// RetiringPrincipal is the principal that may retire the grant, if there is one.
	RetiringPrincipal string

	// RetiringServicePrincipal is the service that may retire the grant, if there is one.
	RetiringServicePrincipal string

	// IssuingAccount is the ARN of the root of the account that created the grant.
	IssuingAccount string

	// Operations are those that the grant allows.
	Operations []GrantOperation

	// Constraints limit the calls that the grant allows; nil if there are none.
	Constraints *GrantConstraints
}

// RetireGrantInput names a grant by its token, or by its key and ID. If there is a token, the
// others are ignored.
type RetireGrantInput struct {
	// GrantToken is a GrantToken of CreateGrantOutput.
	GrantToken string `kms:"len=1..8192,secret"`

	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"len=1..2048"`

	// GrantId is the grant's ID.
	GrantId string `kms:"len=1..128"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// RetireGrantOutput is empty.
type RetireGrantOutput struct{}

// RevokeGrantInput names a grant.
type RevokeGrantInput struct {
	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"required,len=1..2048"`

	// GrantId is the grant's ID.
	GrantId string `kms:"required,len=1..128"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// RevokeGrantOutput is empty.
type RevokeGrantOutput struct{}

const maxConstraintRunes = 384 // of a value of an encryption context constraint

var opCreateGrant = define(description{
	name: "CreateGrant", keys: keyOnly, crossAccount: true, states: readyState,
}, steps[CreateGrantInput, CreateGrantOutput]{
	validate: validateCreateGrant,
	admit: func(c *call, in *CreateGrantInput) error {
		for _, principal := range []string{in.GranteePrincipal, in.RetiringPrincipal} {
			if principal == "" {
				continue
			}
			if err := c.requirePrincipal(principal); err != nil {
				return err
			}
		}
		if err := requireGrantOperations(c.key(), in.Operations); err != nil {
			return err
		}
		if in.Constraints.hasContext() && c.key().Spec.Kind != spec.Symmetric {
			return invalid("An encryption context constraint is only for symmetric encryption keys; %s is not one.", c.key().ARN)
		}
		n, limit := c.key().Record.Grants, c.svc.core.config.Limits.GrantsPerKey
		if n < limit {
			return nil
		}
		same, err := c.svc.core.db.NamedGrant(c.ctx, c.key().Ref, c.grantRecord(in))
		if same == nil && err == nil {
			err = limitExceeded("Grants per key", limit, n)
		}
		return err
	},
	act: func(c *call, in *CreateGrantInput) (*CreateGrantOutput, error) {
		db, record := c.svc.core.db, c.grantRecord(in)
		g, err := db.NamedGrant(c.ctx, c.key().Ref, record)
		if g == nil && err == nil {
			g, err = db.CreateGrant(c.ctx, c.key(), newGrantID(), record)
		}
		if err != nil {
			return nil, err
		}
		return &CreateGrantOutput{GrantId: g.ID, GrantToken: newGrantToken(g)}, nil
	},
})

// CreateGrant creates a grant of a key, which names a principal and the operations that it may
// call. A key can have up to 50,000, unless Config.Limits says otherwise. A grant allows like a
// policy of the account that issued it. A caller that has the permission only by a grant cannot
// create one that allows more.
func (s *Service) CreateGrant(ctx context.Context, in *CreateGrantInput) (*CreateGrantOutput, error) {
	return opCreateGrant.do(ctx, s, in)
}

func validateCreateGrant(in *CreateGrantInput) error {
	var constraints GrantConstraints
	if in.Constraints != nil {
		constraints = *in.Constraints
	}
	switch {
	case (in.GranteePrincipal == "") == (in.GranteeServicePrincipal == ""):
		return invalid("Exactly one of GranteePrincipal and GranteeServicePrincipal must be specified.")
	case in.RetiringPrincipal != "" && in.RetiringServicePrincipal != "":
		return invalid("RetiringPrincipal and RetiringServicePrincipal cannot be specified together.")
	case in.GranteeServicePrincipal != "" && (constraints.SourceArn == "" || in.RetiringPrincipal+in.RetiringServicePrincipal == ""):
		return invalid("A GranteeServicePrincipal requires the constraint SourceArn, and a RetiringPrincipal or RetiringServicePrincipal.")
	case len(constraints.EncryptionContextEquals) > 0 && len(constraints.EncryptionContextSubset) > 0:
		return invalid("EncryptionContextEquals and EncryptionContextSubset cannot be specified together.")
	}
	for _, pairs := range []map[string]string{constraints.EncryptionContextEquals, constraints.EncryptionContextSubset} {
		switch _, err := ciphertext.AppendContext(nil, pairs); {
		case errors.Is(err, ciphertext.ErrContextTooLong): // no call could satisfy it
			return invalid("The encryption context is longer than %d bytes.", ciphertext.MaxContextBytes)
		case err != nil:
			return invalid("Invalid EncryptionContext")
		}
		for _, v := range pairs {
			if utf8.RuneCountInString(v) > maxConstraintRunes {
				return invalid("A value of an encryption context constraint has at most %d characters.", maxConstraintRunes)
			}
		}
	}
	return requireText("SourceArn", constraints.SourceArn)
}

func (g *GrantConstraints) hasContext() bool {
	return g != nil && len(g.EncryptionContextEquals)+len(g.EncryptionContextSubset) > 0
}

// requirePrincipal refuses what names no principal.
func (c *call) requirePrincipal(name string) error {
	unknown := exception(InvalidArnException, "ARN does not refer to a valid principal: %s", name)
	p, err := ParsePrincipal(name)
	if isUniqueID(name) || err == nil && p.Partition() == arn.Partition(c.svc.region) {
		if exists := c.svc.core.config.PrincipalExists; exists != nil {
			if ok, err := exists(c.ctx, name); err != nil || ok {
				return err
			}
			if isUniqueID(name) {
				return exception(InvalidArnException, "GranteePrincipal does not refer to a valid principal.")
			}
			return unknown
		}
		return nil
	}
	if a, ok := arn.Parse(name); ok && a.Service == "sts" && strings.HasPrefix(a.Resource, "assumed-role/") && strings.Count(a.Resource, "/") > 2 {
		return exception(InvalidArnException, "ARN is not valid: %s", name) // it shows the path of the role
	}
	return unknown
}

// isUniqueID reports whether s has the form of IAM's unique ID of a user or role, or of a session
// of a role: "AROA...:session".
func isUniqueID(s string) bool {
	id, session, isSession := strings.Cut(s, ":")
	return len(id) >= 16 && (strings.HasPrefix(id, "AROA") || strings.HasPrefix(id, "AIDA") && !isSession) &&
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == "" && (session != "") == isSession
}

// requireGrantOperations refuses operations that are not possible with k.
func requireGrantOperations(k *keydb.Key, operations []GrantOperation) error {
	possible := k.Spec.GrantOperations(k.Usage)
	var impossible []string
	for _, op := range operations {
		if !slices.Contains(possible, string(op)) && !slices.Contains(impossible, string(op)) {
			impossible = append(impossible, string(op))
		}
	}
	if impossible == nil {
		return nil
	}
	kind := "a symmetric"
	if k.Spec.Kind == spec.Asymmetric {
		kind = "an asymmetric"
	}
	return invalid("Operations [%s] are not supported when creating a grant for %s KMS key with key usage %s. Valid operations are [%s]",
		strings.Join(impossible, ", "), kind, k.Usage.Name, strings.Join(possible, ", "))
}

// storedOperations returns the texts of operations, each once.
func storedOperations(operations []GrantOperation) (texts []string) {
	for _, op := range operations {
		if !slices.Contains(texts, string(op)) {
			texts = append(texts, string(op))
		}
	}
	return texts
}

// grantRecord returns what is stored of a new grant.
func (c *call) grantRecord(in *CreateGrantInput) *keydb.GrantRecord {
	r := &keydb.GrantRecord{
		Name:            in.Name,
		Grantee:         in.GranteePrincipal,
		GranteeService:  in.GranteeServicePrincipal,
		Retiring:        in.RetiringPrincipal,
		RetiringService: in.RetiringServicePrincipal,
		Issuer:          arn.Root(arn.Partition(c.svc.region), c.svc.caller.account),
		Operations:      storedOperations(in.Operations),
		Created:         c.now.UTC(),
	}
	if in.Constraints != nil {
		r.ContextEquals = in.Constraints.EncryptionContextEquals
		r.ContextSubset = in.Constraints.EncryptionContextSubset
		r.SourceARN = in.Constraints.SourceArn
	}
	return r
}

const grantIDBytes = 32

func newGrantID() string {
	var id [grantIDBytes]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// A grant token is, in unpadded base64url:
//
//	offset  bytes
//	0       1      version: 1
//	1       1      1 if the key is a multi-Region key, else 0
//	2       12     the account of the key, in digits
//	14      16     the key ID
//	30      32     the grant ID
//	62      8      random, so that no two tokens are the same
//
// It is valid in its own Region while the grant exists. It is no secret: it gives nothing that the
// grant does not.
const (
	grantTokenVersion = 1
	grantTokenBytes   = 70
)

var errInvalidGrantToken = exception(InvalidGrantTokenException, "The grant token is not valid.")

func newGrantToken(g *keydb.Grant) string {
	var b [grantTokenBytes]byte
	id, multiRegion := arn.PackKeyID(g.Key.ID)
	b[0] = grantTokenVersion
	if multiRegion {
		b[1] = 1
	}
	copy(b[2:14], g.Key.Account)
	copy(b[14:30], id[:])
	hex.Decode(b[30:62], []byte(g.ID))
	rand.Read(b[62:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// parseGrantToken returns the key and the ID of the grant that a token of this Region names.
func (c *call) parseGrantToken(token string) (key keydb.Ref, id string, err error) {
	if len(token) != base64.RawURLEncoding.EncodedLen(grantTokenBytes) {
		return keydb.Ref{}, "", errInvalidGrantToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != grantTokenBytes || b[0] != grantTokenVersion || b[1] > 1 || !arn.IsAccount(string(b[2:14])) {
		return keydb.Ref{}, "", errInvalidGrantToken
	}
	key = keydb.Ref{Account: string(b[2:14]), Region: c.svc.region, ID: arn.FormatKeyID((*[16]byte)(b[14:30]), b[1] == 1)}
	return key, hex.EncodeToString(b[30:62]), nil
}

// grantOfToken returns the grant that a token names, or an InvalidGrantTokenException.
func (c *call) grantOfToken(token string) (*keydb.Grant, error) {
	key, id, err := c.parseGrantToken(token)
	if err != nil {
		return nil, err
	}
	k, err := c.svc.core.db.Key(c.ctx, key, c.now) // a key whose deletion is due has no grants
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, errInvalidGrantToken
	}
	g, err := c.svc.core.db.Grant(c.ctx, key, id)
	if g == nil && err == nil {
		err = errInvalidGrantToken
	}
	return g, err
}

// requireGrantTokens refuses a token of no grant. The others change nothing: every grant is in the
// store when CreateGrant returns.
func (c *call) requireGrantTokens(tokens []string) error {
	for _, token := range tokens {
		if _, err := c.grantOfToken(token); err != nil {
			return err
		}
	}
	return nil
}

// grant returns a grant of the call's key, or the exception that it does not exist.
func (c *call) grant(id string) (*keydb.Grant, error) {
	if err := validateGrantID(id); err != nil {
		return nil, err
	}
	g, err := c.svc.core.db.Grant(c.ctx, c.key().Ref, id)
	if g == nil && err == nil {
		err = noSuchGrant(id)
	}
	return g, err
}

func validateGrantID(id string) error {
	if len(id) != 2*grantIDBytes || strings.Trim(id, "0123456789abcdef") != "" {
		return exception(InvalidGrantIdException, "The grant ID is not valid.")
	}
	return nil
}

func noSuchGrant(id string) error { return exception(NotFoundException, "Grant %s does not exist", id) }

func grantEntry(g *keydb.Grant) GrantListEntry {
	e := GrantListEntry{
		KeyId:                    g.Key.ARN(),
		GrantId:                  g.ID,
		Name:                     g.Name,
		CreationDate:             g.Created,
		GranteePrincipal:         g.Grantee,
		GranteeServicePrincipal:  g.GranteeService,
		RetiringPrincipal:        g.Retiring,
		RetiringServicePrincipal: g.RetiringService,
		IssuingAccount:           g.Issuer,
	}
	for _, op := range g.Operations {
		e.Operations = append(e.Operations, GrantOperation(op))
	}
	if constraints := (GrantConstraints{g.ContextEquals, g.ContextSubset, g.SourceARN}); constraints.hasContext() || constraints.SourceArn != "" {
		e.Constraints = &constraints
	}
	return e
}

// errServicesOnly refuses a filter of a list. Only services can use it, and no caller is one.
var errServicesOnly = invalid("Only an AWS service can list by a service principal.")

var opListGrants = define(description{
	name: "ListGrants", keys: keyOnly, crossAccount: true, states: anyState, readOnly: true,
}, steps[ListGrantsInput, ListGrantsOutput]{
	validate: func(in *ListGrantsInput) error {
		switch {
		case in.GranteePrincipal != "" && in.GranteeServicePrincipal != "":
			return invalid("GranteePrincipal and GranteeServicePrincipal cannot be specified together.")
		case in.GranteeServicePrincipal != "":
			return errServicesOnly
		}
		return nil
	},
	act: func(c *call, in *ListGrantsInput) (*ListGrantsOutput, error) {
		if in.GrantId != "" {
			g, err := c.grant(in.GrantId)
			if err != nil {
				return nil, err
			}
			out := &ListGrantsOutput{Grants: []GrantListEntry{}}
			if in.GranteePrincipal == "" || in.GranteePrincipal == g.Grantee {
				out.Grants = append(out.Grants, grantEntry(g))
			}
			return out, nil
		}
		p, err := c.page(in.Marker, in.Limit, 50, c.key().ARN+"/"+in.GranteePrincipal)
		if err != nil {
			return nil, err
		}
		all := c.svc.core.db.Grants(c.ctx, c.key().Ref, p.after, p.limit+1)
		if in.GranteePrincipal != "" {
			all = c.svc.core.db.GrantsTo(c.ctx, c.key().Ref, in.GranteePrincipal, p.after, p.limit+1)
		}
		list, err := collect(p, all, grantEntry)
		if err != nil {
			return nil, err
		}
		list, next := truncate(c, p, list, func(e GrantListEntry) string { return e.GrantId })
		return &ListGrantsOutput{Grants: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListGrants lists the grants of a key, sorted by ID.
func (s *Service) ListGrants(ctx context.Context, in *ListGrantsInput) (*ListGrantsOutput, error) {
	return opListGrants.do(ctx, s, in)
}

var opListRetirableGrants = define(description{
	name: "ListRetirableGrants", readOnly: true,
}, steps[ListRetirableGrantsInput, ListRetirableGrantsOutput]{
	validate: func(in *ListRetirableGrantsInput) error {
		switch {
		case (in.RetiringPrincipal == "") == (in.RetiringServicePrincipal == ""):
			return invalid("Exactly one of RetiringPrincipal and RetiringServicePrincipal must be specified.")
		case in.RetiringServicePrincipal != "":
			return errServicesOnly
		}
		return nil
	},
	admit: func(c *call, in *ListRetirableGrantsInput) error {
		p, err := ParsePrincipal(in.RetiringPrincipal) // a unique ID would not say whose it is
		switch {
		case err != nil || p.Partition() != arn.Partition(c.svc.region):
			return exception(InvalidArnException, "ARN does not refer to a valid principal: %s", in.RetiringPrincipal)
		case p.account != c.svc.caller.account:
			return accessDenied(&c.svc.caller, c.op.permission, " on resource: "+in.RetiringPrincipal, "no resource-based policy allows")
		}
		return nil
	},
	act: func(c *call, in *ListRetirableGrantsInput) (*ListRetirableGrantsOutput, error) {
		p, err := c.page(in.Marker, in.Limit, 50, c.svc.region+"/"+in.RetiringPrincipal)
		if err != nil {
			return nil, err
		}
		all := c.svc.core.db.RetirableGrants(c.ctx, c.svc.region, in.RetiringPrincipal, p.after, p.limit+1, c.now)
		grants, err := collect(p, all, func(g *keydb.Grant) *keydb.Grant { return g })
		if err != nil {
			return nil, err
		}
		grants, next := truncate(c, p, grants, (*keydb.Grant).RetirableKey)
		out := &ListRetirableGrantsOutput{Grants: []GrantListEntry{}, NextMarker: next, Truncated: next != ""}
		for _, g := range grants {
			out.Grants = append(out.Grants, grantEntry(g))
		}
		return out, nil
	},
})

// ListRetirableGrants lists the grants of all accounts in the Region that a principal of the
// caller's account may retire.
func (s *Service) ListRetirableGrants(ctx context.Context, in *ListRetirableGrantsInput) (*ListRetirableGrantsOutput, error) {
	return opListRetirableGrants.do(ctx, s, in)
}

var opRetireGrant = define(description{
	name: "RetireGrant", keys: ownIdentify, crossAccount: true, states: anyState,
}, steps[RetireGrantInput, RetireGrantOutput]{
	validate: func(in *RetireGrantInput) error {
		if in.GrantToken == "" && (in.GrantId == "" || in.KeyId == "") {
			return invalid("Grant token OR (grant ID, key ID) must be specified.")
		}
		return nil
	},
	identify: func(c *call, in *RetireGrantInput) error {
		keyID, id, err := in.KeyId, in.GrantId, error(nil)
		if in.GrantToken != "" {
			var key keydb.Ref
			if key, id, err = c.parseGrantToken(in.GrantToken); err != nil {
				return err
			}
			keyID = key.ARN()
		}
		k, err := c.resolve(keyID, c.op.permission, false)
		if errors.Is(err, NotFoundException) && in.GrantToken != "" {
			err = errInvalidGrantToken // the key was deleted with the grant
		}
		if err == nil && validateGrantID(id) == nil { // the grant says who may retire it
			if c.retiring, err = c.svc.core.db.Grant(c.ctx, k.Ref, id); err != nil && k.Account != c.svc.caller.account {
				err = c.mask(err, hiddenForeign(&c.svc.caller, c.op.permission))
			}
		}
		if err != nil {
			return err
		}
		return c.addTarget(k, c.op.permission, keyID, false)
	},
	admit: func(c *call, in *RetireGrantInput) error {
		if c.retiring == nil && in.GrantToken != "" {
			return errInvalidGrantToken
		}
		if c.retiring == nil {
			_, err := c.grant(in.GrantId)
			return err
		}
		return nil
	},
	act: func(c *call, in *RetireGrantInput) (*RetireGrantOutput, error) {
		if c.retiring == nil { // it was created just now
			return nil, keydb.ErrConflict
		}
		return &RetireGrantOutput{}, c.svc.core.db.DeleteGrant(c.ctx, c.key(), c.retiring)
	},
})

// RetireGrant deletes a grant that is no longer needed. Its retiring principal may call it, its
// grantee if the grant includes RetireGrant, and the account that created the grant, which can
// leave it to its principals. Key policies have no say. A principal of another account than the one
// that created the grant also needs the permission of its own account.
func (s *Service) RetireGrant(ctx context.Context, in *RetireGrantInput) (*RetireGrantOutput, error) {
	return opRetireGrant.do(ctx, s, in)
}

var opRevokeGrant = define(description{
	name: "RevokeGrant", keys: keyOnly, crossAccount: true, states: anyState,
}, steps[RevokeGrantInput, RevokeGrantOutput]{
	admit: func(c *call, in *RevokeGrantInput) error {
		if err := validateGrantID(in.GrantId); err != nil {
			return err
		}
		exists, err := c.svc.core.db.HasGrant(c.ctx, c.key().Ref, in.GrantId)
		if !exists && err == nil {
			err = noSuchGrant(in.GrantId)
		}
		return err
	},
	act: func(c *call, in *RevokeGrantInput) (*RevokeGrantOutput, error) {
		return &RevokeGrantOutput{}, c.svc.core.db.RevokeGrant(c.ctx, c.key(), in.GrantId)
	},
})

// RevokeGrant deletes a grant of a key, even one whose record in the store is damaged.
func (s *Service) RevokeGrant(ctx context.Context, in *RevokeGrantInput) (*RevokeGrantOutput, error) {
	return opRevokeGrant.do(ctx, s, in)
}
