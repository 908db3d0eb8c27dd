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

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/spec"
)

// CreateGrantInput gives a principal the use of a key, without a change of its policy. Exactly one of GranteePrincipal and
// GranteeServicePrincipal must be given.
type CreateGrantInput struct {
	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"required,len=1..2048"`

	// GranteePrincipal is the ARN of the account, user, role, session of a role or federated user that gets the use.
	GranteePrincipal string `kms:"len=1..256,pattern=principal"`

	// GranteeServicePrincipal is the AWS service that gets the use. It needs Constraints.SourceArn and a retiring
	// principal.
	GranteeServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringPrincipal is the ARN of the principal that may retire the grant.
	RetiringPrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringServicePrincipal is the AWS service that may retire the grant. At most one of the two may be given.
	RetiringServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Operations are those that the grantee may call. They must suit the key's usage.
	Operations []GrantOperation `kms:"required"`

	// Constraints limit the calls that the grant allows; nil means that it allows all.
	Constraints *GrantConstraints

	// Name makes repeated calls harmless: a grant that has it and the same properties is returned instead of a new one.
	// No secrets, it is logged in clear.
	Name string `kms:"len=1..256,pattern=aliasName"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// CreateGrantOutput names the grant.
type CreateGrantOutput struct {
	// GrantId is the grant's ID, 64 hexadecimal digits.
	GrantId string

	// GrantToken stands for the grant in GrantTokens and RetireGrant. It is not a secret, but is not logged.
	GrantToken string `kms:"secret"`
}

// GrantConstraints limit a grant. At most one of the two encryption contexts may be given, for symmetric encryption keys.
type GrantConstraints struct {
	// EncryptionContextEquals must be the encryption context of a call. At most 8 pairs.
	EncryptionContextEquals map[string]string `kms:"len=..8"`

	// EncryptionContextSubset must be in the encryption context of a call. At most 8 pairs.
	EncryptionContextSubset map[string]string `kms:"len=..8"`

	// SourceArn is the resource on whose behalf a service must call.
	SourceArn string `kms:"len=20..2048"`
}

// ListGrantsInput chooses a page of the grants of a key.
type ListGrantsInput struct {
	// KeyId is a key ID or key ARN; the key may be another account's.
	KeyId string `kms:"required,len=1..2048"`

	// GrantId limits the list to one grant.
	GrantId string `kms:"len=1..128"`

	// GranteePrincipal limits the list to the grants of one grantee.
	GranteePrincipal string `kms:"len=1..256,pattern=principal"`

	// GranteeServicePrincipal limits the list to the grants of one service. At most one of the two may be given.
	GranteeServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Limit is the most grants to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListGrantsOutput is a page of grants.
type ListGrantsOutput struct {
	// Grants are in the order of their IDs.
	Grants []GrantListEntry `kms:"always"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more grants follow.
	Truncated bool `kms:"always"`
}

// ListRetirableGrantsInput chooses a page of the grants in the Region that a principal may retire. Exactly one of
// RetiringPrincipal and RetiringServicePrincipal must be given.
type ListRetirableGrantsInput struct {
	// RetiringPrincipal is the ARN of a principal of the caller's account.
	RetiringPrincipal string `kms:"len=1..256,pattern=principal"`

	// RetiringServicePrincipal is an AWS service.
	RetiringServicePrincipal string `kms:"len=1..256,pattern=principal"`

	// Limit is the most grants to return, 1 to 100; nil means 50.
	Limit *int32 `kms:"range=1..100"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListRetirableGrantsOutput is a page of grants.
type ListRetirableGrantsOutput struct {
	// Grants are in the order of their accounts, keys and IDs.
	Grants []GrantListEntry `kms:"always"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more grants follow.
	Truncated bool `kms:"always"`
}

// GrantListEntry is one grant.
type GrantListEntry struct {
	// KeyId is the key ARN.
	KeyId string

	// GrantId is the grant's ID.
	GrantId string

	// Name is that of CreateGrant; empty if there was none.
	Name string

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

// RetireGrantInput names a grant by its token, or by its key and ID.
type RetireGrantInput struct {
	// GrantToken is that of CreateGrant.
	GrantToken string `kms:"len=1..8192,secret"`

	// KeyId is the key ARN, or the key ID of a key of the caller's account.
	KeyId string `kms:"len=1..2048"`

	// GrantId is the grant's ID.
	GrantId string `kms:"len=1..128"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
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

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// RevokeGrantOutput is empty.
type RevokeGrantOutput struct{}

const (
	grantsPerKey           = 50_000
	maxConstraintRunes     = 384 // of the value of a pair
	grantIDBytes           = 32
	grantTokenVersion      = 1
	grantTokenNonceBytes   = 8
	grantTokenHeaderBytes  = 1 + 1 + 12 + 16
	grantTokenBytes        = grantTokenHeaderBytes + grantIDBytes + grantTokenNonceBytes
	grantTokenMultiRegion  = 1
	invalidGrantTokenText  = "The grant token is not valid."
	bothRetiringPrincipals = "RetiringPrincipal and RetiringServicePrincipal cannot be given together."
)

var opCreateGrant = define(description{
	name: "CreateGrant", keys: keyOnly, crossAccount: true, states: grantState,
}, steps[CreateGrantInput, CreateGrantOutput]{
	validate: validateCreateGrant,
	admit: func(c *call, in *CreateGrantInput) error {
		for _, principal := range []string{in.GranteePrincipal, in.RetiringPrincipal} {
			if err := c.requirePrincipal(principal); err != nil {
				return err
			}
		}
		if err := requireGrantOperations(c.key(), in.Operations); err != nil {
			return err
		}
		constraints := in.Constraints
		if constraints != nil && c.key().Spec.Kind != spec.Symmetric && len(constraints.EncryptionContextEquals)+len(constraints.EncryptionContextSubset) > 0 {
			return invalid("An encryption context constraint is only for symmetric encryption keys; %s is not one.", c.key().ARN)
		}
		if c.key().Record.Grants >= grantsPerKey && in.DryRun {
			return errTooManyGrants
		}
		return nil
	},
	act: func(c *call, in *CreateGrantInput) (*CreateGrantOutput, error) {
		var id [grantIDBytes]byte
		rand.Read(id[:])
		g, err := c.svc.core.db.CreateGrant(c.ctx, c.key(), hex.EncodeToString(id[:]), c.grantRecord(in), grantsPerKey)
		switch {
		case errors.Is(err, keydb.ErrLimit):
			return nil, errTooManyGrants
		case err != nil:
			return nil, err
		}
		return &CreateGrantOutput{GrantId: g.ID, GrantToken: newGrantToken(g)}, nil
	},
})

// CreateGrant gives a principal the use of a key for some operations. Policies and grants do not decide
// yet: the package's introduction says who may do what.
func (s *Service) CreateGrant(ctx context.Context, in *CreateGrantInput) (*CreateGrantOutput, error) {
	return opCreateGrant.do(ctx, s, in)
}

var errTooManyGrants = exception(LimitExceededException, "A key can have at most %d grants.", grantsPerKey)

func (c *call) grantRecord(in *CreateGrantInput) *keydb.GrantRecord {
	r := &keydb.GrantRecord{
		Name:            in.Name,
		Grantee:         in.GranteePrincipal,
		GranteeService:  in.GranteeServicePrincipal,
		Retiring:        in.RetiringPrincipal,
		RetiringService: in.RetiringServicePrincipal,
		Issuer:          arn.Root(arn.Partition(c.svc.region), c.svc.caller.account),
		Created:         c.now.UTC(),
	}
	for _, op := range in.Operations {
		if !slices.Contains(r.Operations, string(op)) {
			r.Operations = append(r.Operations, string(op))
		}
	}
	if in.Constraints != nil {
		r.ContextEquals, r.ContextSubset, r.SourceARN = in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset, in.Constraints.SourceArn
	}
	return r
}

func validateCreateGrant(in *CreateGrantInput) error {
	constraints := in.Constraints
	if constraints == nil {
		constraints = new(GrantConstraints)
	}
	switch {
	case (in.GranteePrincipal == "") == (in.GranteeServicePrincipal == ""):
		return invalid("Exactly one of GranteePrincipal and GranteeServicePrincipal must be given.")
	case in.RetiringPrincipal != "" && in.RetiringServicePrincipal != "":
		return invalid(bothRetiringPrincipals)
	case in.GranteeServicePrincipal != "" && (constraints.SourceArn == "" || in.RetiringPrincipal+in.RetiringServicePrincipal == ""):
		return invalid("A GranteeServicePrincipal needs the constraint SourceArn, and a RetiringPrincipal or RetiringServicePrincipal.")
	case len(constraints.EncryptionContextEquals) > 0 && len(constraints.EncryptionContextSubset) > 0:
		return invalid("EncryptionContextEquals and EncryptionContextSubset cannot be given together.")
	}
	for _, pairs := range []map[string]string{constraints.EncryptionContextEquals, constraints.EncryptionContextSubset} {
		for k, v := range pairs {
			if k == "" || v == "" {
				return invalid("Invalid EncryptionContext")
			}
			if len([]rune(v)) > maxConstraintRunes {
				return invalid("The value of an encryption context constraint has at most %d characters.", maxConstraintRunes)
			}
		}
	}
	return nil
}

// requirePrincipal refuses what no principal can be called. Empty means that none was given.
func (c *call) requirePrincipal(text string) error {
	if text == "" || arn.IsAccount(text) || isUniqueID(text) {
		return nil
	}
	if p, err := ParsePrincipal(text); err != nil || p.Partition() != arn.Partition(c.svc.region) {
		return exception(InvalidArnException, "ARN does not refer to a valid principal: %s", text)
	}
	return nil
}

// isUniqueID reports whether text has the form of IAM's unique ID of a user or role, or of a session
// of a role: "AROAEXAMPLE:session".
func isUniqueID(text string) bool {
	id, _, _ := strings.Cut(text, ":")
	if len(id) < 16 || !strings.HasPrefix(id, "A") {
		return false
	}
	return strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// requireGrantOperations refuses operations that k cannot be used for.
func requireGrantOperations(k *keydb.Key, operations []GrantOperation) error {
	var valid, unfit []string
	for _, op := range append([]GrantOperation{GrantOperationCreateGrant, GrantOperationRetireGrant, GrantOperationDescribeKey}, grantOperations(k)...) {
		valid = append(valid, string(op))
	}
	for _, op := range operations {
		if !slices.Contains(valid, string(op)) {
			unfit = append(unfit, string(op))
		}
	}
	if unfit == nil {
		return nil
	}
	kind := "a symmetric"
	if k.Spec.Kind == spec.Asymmetric {
		kind = "an asymmetric"
	}
	return invalid("Operations [%s] are not supported when creating a grant for %s KMS key with key usage %s. Valid operations are [%s]",
		strings.Join(unfit, ", "), kind, k.Usage.Name, strings.Join(valid, ", "))
}

// grantOperations returns the operations that use a key of k's kind.
func grantOperations(k *keydb.Key) []GrantOperation {
	var operations []GrantOperation
	switch KeyUsageType(k.Usage.Name) {
	case KeyUsageEncryptDecrypt:
		operations = []GrantOperation{GrantOperationEncrypt, GrantOperationDecrypt, GrantOperationReEncryptFrom, GrantOperationReEncryptTo}
	case KeyUsageSignVerify:
		operations = []GrantOperation{GrantOperationSign, GrantOperationVerify}
	case KeyUsageGenerateVerifyMac:
		operations = []GrantOperation{GrantOperationGenerateMac, GrantOperationVerifyMac}
	case KeyUsageKeyAgreement:
		operations = []GrantOperation{GrantOperationDeriveSharedSecret}
	case KeyUsageEncapsulateDecapsulate:
		operations = []GrantOperation{GrantOperationEncapsulate, GrantOperationDecapsulate}
	}
	switch k.Spec.Kind {
	case spec.Symmetric:
		operations = append(operations, GrantOperationGenerateDataKey, GrantOperationGenerateDataKeyWithoutPlaintext,
			GrantOperationGenerateDataKeyPair, GrantOperationGenerateDataKeyPairWithoutPlaintext)
	case spec.Asymmetric:
		operations = append(operations, GrantOperationGetPublicKey)
	}
	return operations
}

// A grant token has, in unpadded base64url: a version, flags, the account, the key ID, the grant's ID
// and a nonce, so that each is different. It is not a secret, and gives nothing that the grant does not.
func newGrantToken(g *keydb.Grant) string {
	id, multiRegion := arn.PackKeyID(g.Key.ID)
	b := make([]byte, 0, grantTokenBytes)
	flags := byte(0)
	if multiRegion {
		flags = grantTokenMultiRegion
	}
	b = append(append(append(b, grantTokenVersion, flags), g.Key.Account...), id[:]...)
	grantID, _ := hex.DecodeString(g.ID) // its form was checked when it was created
	b = append(b, grantID...)
	var nonce [grantTokenNonceBytes]byte
	rand.Read(nonce[:])
	return base64.RawURLEncoding.EncodeToString(append(b, nonce[:]...))
}

// parseGrantToken returns the key and the ID of the grant that a token names.
func parseGrantToken(token, region string) (key keydb.Ref, grantID string, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(grantTokenBytes) {
		return keydb.Ref{}, "", false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != grantTokenBytes || b[0] != grantTokenVersion || b[1]&^grantTokenMultiRegion != 0 {
		return keydb.Ref{}, "", false
	}
	account := string(b[2:14])
	key = keydb.Ref{Account: account, Region: region, ID: arn.FormatKeyID((*[16]byte)(b[14:30]), b[1] == grantTokenMultiRegion)}
	return key, hex.EncodeToString(b[grantTokenHeaderBytes : grantTokenHeaderBytes+grantIDBytes]), arn.IsAccount(account)
}

// requireGrantTokens refuses a token of no grant.
func (c *call) requireGrantTokens(tokens []string) error {
	for _, token := range tokens {
		key, id, ok := parseGrantToken(token, c.svc.region)
		if ok {
			g, err := c.svc.core.db.Grant(c.ctx, key, id)
			if err != nil {
				return err
			}
			ok = g != nil
		}
		if !ok {
			return exception(InvalidGrantTokenException, invalidGrantTokenText)
		}
	}
	return nil
}

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
	if len(g.ContextEquals)+len(g.ContextSubset) > 0 || g.SourceARN != "" {
		e.Constraints = &GrantConstraints{EncryptionContextEquals: g.ContextEquals, EncryptionContextSubset: g.ContextSubset, SourceArn: g.SourceARN}
	}
	return e
}

var opListGrants = define(description{
	name: "ListGrants", keys: keyOnly, crossAccount: true, states: anyState, readOnly: true,
}, steps[ListGrantsInput, ListGrantsOutput]{
	validate: func(in *ListGrantsInput) error {
		if in.GranteePrincipal != "" && in.GranteeServicePrincipal != "" {
			return invalid("GranteePrincipal and GranteeServicePrincipal cannot be given together.")
		}
		return nil
	},
	act: func(c *call, in *ListGrantsInput) (*ListGrantsOutput, error) {
		db, key, grantee := c.svc.core.db, c.key().Ref, in.GranteePrincipal+in.GranteeServicePrincipal
		if in.GrantId != "" {
			g, err := c.grant(key, in.GrantId)
			if err != nil {
				return nil, err
			}
			out := &ListGrantsOutput{Grants: []GrantListEntry{}}
			if grantee == "" || grantee == g.Grantee+g.GranteeService {
				out.Grants = append(out.Grants, grantEntry(g))
			}
			return out, nil
		}
		p, err := c.page(in.Marker, in.Limit, 50, c.key().ARN+"/"+grantee)
		if err != nil {
			return nil, err
		}
		all := db.Grants(c.ctx, key, p.after, p.limit+1)
		if grantee != "" {
			all = db.GrantsTo(c.ctx, key, grantee, p.after, p.limit+1)
		}
		list, err := collect(p, all, grantEntry)
		if err != nil {
			return nil, err
		}
		list, next := truncate(c, p, list, func(e GrantListEntry) string { return e.GrantId })
		return &ListGrantsOutput{Grants: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListGrants lists the grants of a key, by ID.
func (s *Service) ListGrants(ctx context.Context, in *ListGrantsInput) (*ListGrantsOutput, error) {
	return opListGrants.do(ctx, s, in)
}

var opListRetirableGrants = define(description{
	name: "ListRetirableGrants", readOnly: true,
}, steps[ListRetirableGrantsInput, ListRetirableGrantsOutput]{
	validate: func(in *ListRetirableGrantsInput) error {
		if (in.RetiringPrincipal == "") == (in.RetiringServicePrincipal == "") {
			return invalid("Exactly one of RetiringPrincipal and RetiringServicePrincipal must be given.")
		}
		return nil
	},
	admit: func(c *call, in *ListRetirableGrantsInput) error {
		if err := c.requirePrincipal(in.RetiringPrincipal); err != nil {
			return err
		}
		if p, err := ParsePrincipal(in.RetiringPrincipal); err == nil && p.account != c.svc.caller.account {
			return denied(c.svc.caller, c.op.permission, in.RetiringPrincipal, noResourcePolicy)
		}
		return nil
	},
	act: func(c *call, in *ListRetirableGrantsInput) (*ListRetirableGrantsOutput, error) {
		retiring := in.RetiringPrincipal + in.RetiringServicePrincipal
		p, err := c.page(in.Marker, in.Limit, 50, c.svc.region+"/"+retiring)
		if err != nil {
			return nil, err
		}
		all := c.svc.core.db.RetirableGrants(c.ctx, c.svc.region, retiring, p.after, p.limit+1)
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

// ListRetirableGrants lists the grants in the Region that a principal may retire, whatever their keys
// and accounts.
func (s *Service) ListRetirableGrants(ctx context.Context, in *ListRetirableGrantsInput) (*ListRetirableGrantsOutput, error) {
	return opListRetirableGrants.do(ctx, s, in)
}

// grant returns a grant of a key, or a NotFoundException.
func (c *call) grant(key keydb.Ref, id string) (*keydb.Grant, error) {
	if _, err := hex.DecodeString(id); err != nil || len(id) != 2*grantIDBytes || id != strings.ToLower(id) {
		return nil, exception(InvalidGrantIdException, "The grant ID is not valid.")
	}
	g, err := c.svc.core.db.Grant(c.ctx, key, id)
	if g == nil && err == nil {
		err = exception(NotFoundException, "Grant ID %s is not found.", id)
	}
	return g, err
}

// deleteGrant deletes a grant of the call's key.
func (c *call) deleteGrant(id string) error {
	g, err := c.grant(c.key().Ref, id)
	if err != nil {
		return err
	}
	return c.svc.core.db.DeleteGrant(c.ctx, c.key(), g)
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
		keyID, _, ok := c.retired(in)
		if !ok {
			return exception(InvalidGrantTokenException, invalidGrantTokenText)
		}
		return c.identify(keyID, c.op.permission, false)
	},
	admit: func(c *call, in *RetireGrantInput) error {
		_, id, _ := c.retired(in)
		_, err := c.grant(c.key().Ref, id)
		return err
	},
	act: func(c *call, in *RetireGrantInput) (*RetireGrantOutput, error) {
		_, id, _ := c.retired(in)
		return &RetireGrantOutput{}, c.deleteGrant(id)
	},
})

// retired returns the identifier of the key and the ID of the grant that in names.
func (c *call) retired(in *RetireGrantInput) (keyID, grantID string, ok bool) {
	if in.GrantToken == "" {
		return in.KeyId, in.GrantId, true
	}
	key, id, ok := parseGrantToken(in.GrantToken, c.svc.region)
	return key.ARN(), id, ok
}

// RetireGrant deletes a grant that is not needed any more.
func (s *Service) RetireGrant(ctx context.Context, in *RetireGrantInput) (*RetireGrantOutput, error) {
	return opRetireGrant.do(ctx, s, in)
}

var opRevokeGrant = define(description{
	name: "RevokeGrant", keys: keyOnly, crossAccount: true, states: anyState,
}, steps[RevokeGrantInput, RevokeGrantOutput]{
	admit: func(c *call, in *RevokeGrantInput) error {
		_, err := c.grant(c.key().Ref, in.GrantId)
		return err
	},
	act: func(c *call, in *RevokeGrantInput) (*RevokeGrantOutput, error) {
		return &RevokeGrantOutput{}, c.deleteGrant(in.GrantId)
	},
})

// RevokeGrant deletes a grant of a key, to take back the use that it gives.
func (s *Service) RevokeGrant(ctx context.Context, in *RevokeGrantInput) (*RevokeGrantOutput, error) {
	return opRevokeGrant.do(ctx, s, in)
}

