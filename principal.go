package kms

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
)

// A Principal is the identity that makes a call, named by an ARN: the root of an account, an IAM
// user, a role, a session of a role, or a federated user; or an AWS service. It is a small value.
// What belongs to it beside its name, above all its policies, is its [Identity], which is not
// needed for the root of an account. The zero value is anonymous: every operation is denied.
type Principal struct {
	arn      string
	account  string
	kind     iam.PrincipalType
	identity *identity // nil: none
}

// maxPrincipalBytes is the maximum length of a principal's ARN in the API.
const maxPrincipalBytes = 2048

// ParsePrincipal parses the ARN of a principal, in one of these forms:
//
//	arn:aws:iam::111122223333:root
//	arn:aws:iam::111122223333:user/path/alice
//	arn:aws:iam::111122223333:role/path/app
//	arn:aws:sts::111122223333:assumed-role/app/session
//	arn:aws:sts::111122223333:federated-user/bob
func ParsePrincipal(text string) (Principal, error) {
	fail := func() (Principal, error) {
		return Principal{}, fmt.Errorf("kms: %.100q is not the ARN of a principal", text)
	}
	a, ok := arn.Parse(text)
	if !ok || len(text) > maxPrincipalBytes || !arn.IsRegion(a.Partition) || a.Region != "" || !arn.IsAccount(a.Account) {
		return fail()
	}
	p := Principal{arn: text, account: a.Account}
	kind, name, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Service == "iam" && a.Resource == "root":
		p.kind = iam.AccountRoot
	case a.Service == "iam" && kind == "user":
		p.kind = iam.User
	case a.Service == "iam" && kind == "role":
		p.kind = iam.Role
	case a.Service == "sts" && kind == "assumed-role" && strings.Count(name, "/") == 1:
		p.kind = iam.RoleSession
	case a.Service == "sts" && kind == "federated-user":
		p.kind = iam.FederatedUser
	default:
		return fail()
	}
	unfit := func(c rune) bool { return c <= ' ' || c > '~' || c == '*' || c == '?' }
	if p.kind != iam.AccountRoot && (name == "" || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.ContainsFunc(name, unfit)) {
		return fail()
	}
	return p, nil
}

// NewPrincipal returns the principal of an ARN, as ParsePrincipal does, with an Identity.
func NewPrincipal(arn string, id Identity) (Principal, error) {
	p, err := ParsePrincipal(arn)
	if err != nil {
		return Principal{}, err
	}
	return p.WithIdentity(id)
}

// ServicePrincipal returns the AWS service of that name, such as "cloudtrail.amazonaws.com". It has
// no account and no partition. What it may do, key policies and grants say.
func ServicePrincipal(name string) (Principal, error) {
	if who, err := iam.ParsePrincipal(name); err != nil || who.Type != iam.Service {
		return Principal{}, fmt.Errorf("kms: %.100q is not the name of a service", name)
	}
	return Principal{arn: name, kind: iam.Service}, nil
}

// ARN returns the principal's ARN, or the name of a service. It is empty for the anonymous
// principal.
func (p Principal) ARN() string { return p.arn }

// Partition returns the partition of the principal, usually "aws". It is empty for the anonymous
// principal and for a service.
func (p Principal) Partition() string {
	if p.kind == iam.Service {
		return ""
	}
	_, rest, _ := strings.Cut(p.arn, ":")
	partition, _, _ := strings.Cut(rest, ":")
	return partition
}

// Account returns the principal's account, 12 digits. It is empty for the anonymous principal and
// for a service.
func (p Principal) Account() string { return p.account }

// String returns the principal's ARN.
func (p Principal) String() string { return p.arn }

// HasIdentity reports whether p carries an Identity.
func (p Principal) HasIdentity() bool { return p.identity != nil }

// inPartition reports whether the principal can call in a partition. Services are in all.
func (p *Principal) inPartition(partition string) bool {
	return p.kind == iam.Service || p.Partition() == partition
}

// rootOf returns the root of an account.
func rootOf(partition, account string) Principal {
	return Principal{arn: arn.Root(partition, account), account: account, kind: iam.AccountRoot}
}

// An Identity is what belongs to a principal beside its name. All of it is optional.
type Identity struct {
	// Issuer is the ARN of the role of a role session, which has the role's path; empty means that the
	// role has none. For a federated user it is the ARN of the IAM user who asked for the session.
	Issuer string
	// UniqueID is the ID that does not change: AIDA... of a user, AROA... of a role,
	// AROA...:SESSION of a role session.
	UniqueID string
	// Provider is the identity provider behind a role session, as in a policy's "Federated".
	Provider string
	// Tags are the tags of the user, the role or the session. No two keys may differ only in case, which
	// policies do not distinguish.
	Tags map[string]string
	// OrganizationID and OrganizationPaths say where the account is in an organization.
	OrganizationID    string
	OrganizationPaths []string

	// Policies are the identity-based policies, inline and managed, of the user with its groups, or of
	// the role. Without one that allows, only key policies and grants do.
	Policies []Policy
	// Boundary is the permissions boundary of the user or the role; nil means none. A Deny of a key
	// policy with NotPrincipal applies to everyone who has one, as in AWS.
	Boundary *Policy
	// SessionPolicies limit the session: a call must be allowed by one of them. Nil means that a role
	// session is not limited, and that a federated user has nothing of the user's Policies.
	SessionPolicies []Policy
}

// A Policy is one policy of a principal.
type Policy struct {
	// Document is the policy, a JSON document.
	Document string
	// Compiled is used instead of Document if it is not nil. It must be of the kind that its place
	// requires: [iam.IdentityPolicy], [iam.PermissionsBoundary] or [iam.SessionPolicy].
	Compiled *iam.Policy
	// ARN is that of a managed policy. Refusals name it.
	ARN string
}

// compile returns the compiled policy.
func (p *Policy) compile(kind iam.Kind) (*iam.Policy, error) {
	if p.Compiled == nil {
		return iam.Parse(p.Document, kind)
	}
	if p.Compiled.Kind() != kind {
		return nil, fmt.Errorf("it was compiled as a %s", p.Compiled.Kind())
	}
	return p.Compiled, nil
}

// An identity is an Identity with all that is derived from it once. It is immutable.
type identity struct {
	iam.Principal
	tags              []principalTag
	organizationID    string
	organizationPaths []string
	policies          []compiledPolicy
	boundary          []compiledPolicy // one at most
	sessionPolicies   []compiledPolicy
	grantees          []granteeName
}

// A granteeName is a text by which a grant can name the principal, and how it names it then.
type granteeName struct {
	name  string
	match iam.Match
}

type principalTag struct{ key, value string }

type compiledPolicy struct {
	*iam.Policy
	arn string
}

// WithIdentity returns p with an Identity, which it copies. The policies are compiled once: keep
// the result for all calls. If a policy is not valid, the error wraps an [*iam.Error]. The root of
// an account and services cannot have policies: IAM does not limit them.
func (p Principal) WithIdentity(id Identity) (Principal, error) {
	fail := func(what string, err error) (Principal, error) {
		return Principal{}, fmt.Errorf("kms: %s of %s: %w", what, p.arn, err)
	}
	if p.kind == iam.Anonymous {
		return Principal{}, errors.New("kms: the anonymous principal has no identity")
	}
	if (p.kind == iam.AccountRoot || p.kind == iam.Service) && (id.Policies != nil || id.Boundary != nil || id.SessionPolicies != nil) {
		return fail("the policies", errors.New("such a principal has none"))
	}
	if id.Issuer != "" {
		switch issuer, err := ParsePrincipal(id.Issuer); {
		case err != nil || issuer.account != p.account || issuer.Partition() != p.Partition():
			return fail("the issuer", errors.New("it is not a principal of the same account"))
		case p.kind == iam.RoleSession && (issuer.kind != iam.Role || nameOf(issuer.arn) != sessionRole(p.arn)):
			return fail("the issuer", errors.New("it is not the role that the session's ARN names"))
		case p.kind == iam.FederatedUser && issuer.kind != iam.User && issuer.kind != iam.AccountRoot:
			return fail("the issuer", errors.New("it is not a user"))
		case p.kind != iam.RoleSession && p.kind != iam.FederatedUser:
			return fail("the issuer", errors.New("the principal is not a session"))
		}
	}
	compiled := newIdentity(&p, &id)
	for i, t := range compiled.tags {
		if slices.ContainsFunc(compiled.tags[:i], func(other principalTag) bool { return strings.EqualFold(other.key, t.key) }) {
			return fail("the tags", fmt.Errorf("another key differs from %.100q only in case", t.key))
		}
	}
	for _, list := range []struct {
		what     string
		kind     iam.Kind
		policies []Policy
		to       *[]compiledPolicy
	}{
		{"policy", iam.IdentityPolicy, id.Policies, &compiled.policies},
		{"permissions boundary", iam.PermissionsBoundary, asSlice(id.Boundary), &compiled.boundary},
		{"session policy", iam.SessionPolicy, id.SessionPolicies, &compiled.sessionPolicies},
	} {
		for i := range list.policies {
			policy, err := list.policies[i].compile(list.kind)
			switch {
			case err != nil && list.kind == iam.PermissionsBoundary: // the only one
				return fail(list.what, err)
			case err != nil:
				return fail(fmt.Sprintf("%s %d", list.what, i), err)
			}
			*list.to = append(*list.to, compiledPolicy{policy, list.policies[i].ARN})
		}
	}
	compiled.HasBoundary = len(compiled.boundary) > 0
	p.identity = compiled
	return p, nil
}

func asSlice[T any](p *T) []T {
	if p == nil {
		return nil
	}
	return []T{*p}
}

// newIdentity returns the identity of p, without its policies.
func newIdentity(p *Principal, id *Identity) *identity {
	n := &identity{
		Principal:         iam.Principal{Type: p.kind, ARN: p.arn, Account: p.account, Issuer: id.Issuer, ID: id.UniqueID, Provider: id.Provider},
		organizationID:    id.OrganizationID,
		organizationPaths: slices.Clone(id.OrganizationPaths),
	}
	if p.kind == iam.RoleSession && n.Issuer == "" {
		n.Issuer = "arn:" + p.Partition() + ":iam::" + p.account + ":role/" + sessionRole(p.arn)
	}
	for _, key := range slices.Sorted(maps.Keys(id.Tags)) {
		n.tags = append(n.tags, principalTag{key, id.Tags[key]})
	}
	name := func(name string, match iam.Match) {
		if name != "" {
			n.grantees = append(n.grantees, granteeName{name, match})
		}
	}
	self := iam.ByIdentity
	if p.kind == iam.Role {
		self = iam.ByIssuer // a session of the role is no more
	}
	if p.kind != iam.AccountRoot {
		name(p.arn, self)
	}
	name(id.UniqueID, self)
	name(n.Issuer, iam.ByIssuer)
	if role, _, isSession := strings.Cut(id.UniqueID, ":"); isSession {
		name(role, iam.ByIssuer)
	}
	if p.account != "" {
		name(arn.Root(p.Partition(), p.account), iam.ByAccount)
	}
	return n
}

// sessionRole returns the name of the role in the ARN of a role session.
func sessionRole(arn string) string {
	_, names, _ := strings.Cut(arn, "/")
	role, _, _ := strings.Cut(names, "/")
	return role
}

// nameOf returns what follows the last slash of an ARN.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// identityOf returns what belongs to the caller of the call: what the principal carries, or what
// Config.Identities supplies. An attempt of a call asks Config.Identities once, so that all its
// decisions, and the identity that they are kept under, are about the same.
func (c *call) identityOf() (*identity, error) {
	if c.identity == nil {
		id, err := c.supplyIdentity()
		if err != nil {
			return nil, err
		}
		c.identity = id
	}
	return c.identity, nil
}

func (c *call) supplyIdentity() (*identity, error) {
	p := &c.svc.caller
	if p.identity != nil {
		return p.identity, nil
	}
	if supply := c.svc.core.config.Identities; supply != nil {
		supplied, err := supply(c.ctx, *p)
		switch {
		case err != nil:
			return nil, err
		case supplied.arn != p.arn || supplied.kind != p.kind:
			return nil, fmt.Errorf("kms: Config.Identities returned another principal than %s", p.arn)
		case supplied.identity != nil:
			return supplied.identity, nil
		}
	}
	return c.svc.bareIdentity(), nil
}

// bareIdentity returns the identity of a caller that carries nothing.
func (s *Service) bareIdentity() *identity {
	if id := s.bare.Load(); id != nil {
		return id
	}
	id := newIdentity(&s.caller, &Identity{})
	s.bare.Store(id)
	return id
}
