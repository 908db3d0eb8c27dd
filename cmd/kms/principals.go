package main

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/strictyaml"
)

// A principalEntry is what belongs to a user, a role, or a session. A session also has what belongs
// to the role or user that it is of.
type principalEntry struct {
	ARN               strictyaml.Text   `yaml:"arn"`
	UniqueID          string            `yaml:"uniqueId"`
	User              strictyaml.Text   `yaml:"user"`
	Provider          string            `yaml:"provider"`
	Tags              map[string]string `yaml:"tags"`
	OrganizationID    string            `yaml:"organizationId"`
	OrganizationPaths []string          `yaml:"organizationPaths"`
	Policies          []policyEntry     `yaml:"policies"`
	Boundary          *policyEntry      `yaml:"boundary"`
	SessionPolicies   []policyEntry     `yaml:"sessionPolicies"`
}

type policyEntry struct {
	ARN      string          `yaml:"arn"`
	Document strictyaml.Text `yaml:"document"`
}

// maxPoliciesOf bounds the policies of one principal in one list.
const maxPoliciesOf = 100

// A principal is an entry with its policies compiled, once for all its credentials.
type principal struct {
	entry    *principalEntry
	identity kms.Identity
	kind     principalKind
	used     bool
	complete *kms.Principal // once it is known
}

type principalKind uint8

const (
	other principalKind = iota
	user
	role
	roleSession
	federatedUser
)

// kindOf returns the kind of a principal, which its ARN shows.
func kindOf(p kms.Principal) principalKind {
	_, _, resource := cutARN(p.ARN())
	kind, _, _ := strings.Cut(resource, "/")
	return map[string]principalKind{"user": user, "role": role, "assumed-role": roleSession, "federated-user": federatedUser}[kind]
}

// cutARN returns partition, account and resource of a principal's ARN.
func cutARN(arn string) (partition, account, resource string) {
	parts := strings.SplitN(arn, ":", 6)
	return parts[1], parts[4], parts[5]
}

// principals are the principals of the file.
type principals struct {
	all   []*principal
	byARN map[string]*principal
	roles map[string]*principal // by the name that the ARN of a session has, without the path
}

func indexPrincipals(entries []principalEntry) (*principals, error) {
	ps := &principals{byARN: map[string]*principal{}, roles: map[string]*principal{}}
	for i := range entries {
		e := &entries[i]
		if e.ARN.Line == 0 {
			return nil, fmt.Errorf("principals[%d] has no arn", i)
		}
		p, err := e.compile()
		if err == nil && ps.byARN[e.ARN.Value] != nil {
			err = fmt.Errorf("%sthe principal is there twice", inLine(e.ARN.Line))
		}
		if err == nil && p.kind == role {
			name := roleName(e.ARN.Value)
			if ps.roles[name] != nil { // in IAM, paths do not distinguish roles
				err = fmt.Errorf("%sa role of that name is there already", inLine(e.ARN.Line))
			}
			ps.roles[name] = p
		}
		if err != nil {
			return nil, err
		}
		ps.byARN[e.ARN.Value] = p
		ps.all = append(ps.all, p)
	}
	for _, p := range ps.all {
		if err := ps.checkUser(p); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// roleName returns what identifies a role: partition, account and name. The ARN is that of the role
// or of one of its sessions.
func roleName(arn string) string {
	partition, account, resource := cutARN(arn)
	parts := strings.Split(resource, "/")
	name := parts[len(parts)-1]
	if parts[0] == "assumed-role" {
		name = parts[1]
	}
	return partition + ":" + account + ":" + name
}

// compile checks the entry and compiles its policies. Each error names a line.
func (e *principalEntry) compile() (*principal, error) {
	fail := func(format string, args ...any) (*principal, error) {
		return nil, fmt.Errorf("%s%w", inLine(e.ARN.Line), fmt.Errorf(format, args...))
	}
	named, err := kms.ParsePrincipal(e.ARN.Value)
	if err != nil {
		return fail("the arn is not that of a user, a role, a role's session or a federated user")
	}
	p := &principal{entry: e, kind: kindOf(named), identity: kms.Identity{
		UniqueID: e.UniqueID, Provider: e.Provider, Tags: e.Tags, OrganizationID: e.OrganizationID, OrganizationPaths: e.OrganizationPaths,
	}}
	isSession := p.kind == roleSession || p.kind == federatedUser
	switch {
	case p.kind == other:
		return fail("no policy limits the root of an account: it needs no entry")
	case isSession && (e.Policies != nil || e.Boundary != nil):
		return fail("a session has sessionPolicies; policies and boundary are those of its role or user, which has an entry of its own")
	case !isSession && e.SessionPolicies != nil:
		return fail("only a session has sessionPolicies")
	case (p.kind == federatedUser) != (e.User.Line > 0):
		return fail("a federated user has a user, who asked for the session, and nobody else has")
	case len(e.Policies) > maxPoliciesOf || len(e.SessionPolicies) > maxPoliciesOf:
		return fail("a principal has at most %d policies", maxPoliciesOf)
	}
	if p.identity.Policies, err = compileAll(e.Policies, iam.IdentityPolicy, e.ARN.Line); err != nil {
		return nil, err
	}
	if p.identity.SessionPolicies, err = compileAll(e.SessionPolicies, iam.SessionPolicy, e.ARN.Line); err != nil {
		return nil, err
	}
	if e.Boundary != nil {
		boundary, err := e.Boundary.compile(iam.PermissionsBoundary, e.ARN.Line)
		if err != nil {
			return nil, err
		}
		p.identity.Boundary = &boundary
	}
	return p, nil
}

func compileAll(entries []policyEntry, kind iam.Kind, line int) (policies []kms.Policy, err error) {
	for i := range entries {
		policy, err := entries[i].compile(kind, line)
		if err != nil {
			return nil, err
		}
		policies = append(policies, policy)
	}
	return policies, nil
}

// compile compiles a policy. line is that of its principal. The error has every problem, with its
// line in the file. What is not JSON is not quoted: it may be a secret in the wrong place.
func (e *policyEntry) compile(kind iam.Kind, line int) (kms.Policy, error) {
	if e.Document.Line == 0 {
		return kms.Policy{}, fmt.Errorf("%sa policy has no document", inLine(line))
	}
	compiled, err := iam.Parse(e.Document.Value, kind)
	refused, ok := errors.AsType[*iam.Error](err)
	switch {
	case err == nil:
		return kms.Policy{Compiled: compiled, ARN: e.ARN}, nil
	case !ok:
		return kms.Policy{}, fmt.Errorf("%sthe document is not a policy", inLine(e.Document.Line))
	}
	var all []error
	for _, problem := range refused.Problems {
		text := "the document is not JSON"
		if problem.Kind != iam.NotJSON {
			text = strings.TrimPrefix(problem.Path+": "+problem.Message, ": ")
		}
		all = append(all, fmt.Errorf("%s%s: %s", inLine(e.Document.LineOf(problem.Line)), kind, text))
	}
	return kms.Policy{}, errors.Join(all...)
}

// checkUser checks that the user of a federated user has an entry.
func (ps *principals) checkUser(p *principal) error {
	if p.kind != federatedUser {
		return nil
	}
	if u := ps.byARN[p.entry.User.Value]; u == nil || u.kind != user {
		return fmt.Errorf("%sthe user has no entry of its own", inLine(p.entry.User.Line))
	}
	return nil
}

// withIdentity returns a principal with what the file says about it, which for one without an entry
// is nothing.
func (ps *principals) withIdentity(named kms.Principal) (kms.Principal, error) {
	p, of := ps.byARN[named.ARN()], (*principal)(nil)
	switch kindOf(named) {
	case roleSession:
		of = ps.roles[roleName(named.ARN())]
	case federatedUser:
		if p != nil {
			of = ps.byARN[p.entry.User.Value]
		}
	}
	if p == nil && of == nil {
		return named, nil
	}
	if of != nil {
		of.used = true
	}
	if p == nil { // a session that has only what its role has
		p = &principal{entry: of.entry}
	}
	p.used = true
	if p.complete != nil {
		return *p.complete, nil
	}
	identity := p.identity
	if of != nil {
		identity = sessionOf(&of.identity, &p.identity)
		identity.Issuer = of.entry.ARN.Value
		if of.kind == role && of.identity.UniqueID != "" && identity.UniqueID == "" {
			identity.UniqueID = of.identity.UniqueID + ":" + named.ARN()[strings.LastIndexByte(named.ARN(), '/')+1:]
		}
	}
	complete, err := named.WithIdentity(identity)
	if err != nil {
		return kms.Principal{}, fmt.Errorf("%s%w", inLine(p.entry.ARN.Line), err)
	}
	p.complete = &complete
	return complete, nil
}

// sessionOf returns what belongs to a session: its own, and what the role or user has.
func sessionOf(of, session *kms.Identity) kms.Identity {
	identity := *session
	identity.Policies, identity.Boundary = of.Policies, of.Boundary
	identity.Tags = maps.Clone(of.Tags)
	if identity.Tags == nil {
		identity.Tags = map[string]string{}
	}
	maps.Copy(identity.Tags, session.Tags)
	if session.OrganizationID == "" {
		identity.OrganizationID, identity.OrganizationPaths = of.OrganizationID, of.OrganizationPaths
	}
	return identity
}

// requireUsed returns an error if no credentials are of a principal: its name is likely wrong, and
// what its policies deny would not be denied.
func (ps *principals) requireUsed() error {
	for _, p := range ps.all {
		if !p.used {
			return fmt.Errorf("%sno credentials are of this principal or of a session of it", inLine(p.entry.ARN.Line))
		}
	}
	return nil
}
