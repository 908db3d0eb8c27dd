package kms_test

import (
	"maps"
	"slices"
	"strings"
)

// The plain evaluator decides as the guide tells it, step by step and without sharing anything with
// the package. It knows only what randomMaker makes.

type plainStatement struct {
	Effect       string
	Principal    map[string][]string `json:",omitempty"`
	NotPrincipal map[string][]string `json:",omitempty"`
	Action       []string            `json:",omitempty"`
	NotAction    []string            `json:",omitempty"`
	Resource     []string            `json:",omitempty"`
	NotResource  []string            `json:",omitempty"`
	Condition    plainConditions     `json:",omitempty"`
}

type (
	plainPolicy     []plainStatement
	plainConditions map[string]map[string][]string // operator, key, values
)

type plainPrincipal struct {
	kind, arn, account, role, user string // role of a session; user behind a federated user
	team                           string // a tag
	identity, session              []plainPolicy
	boundary                       plainPolicy
}

type plainGrant struct {
	grantee, retiring, issuer, source string
	operations                        []string
	equals, subset                    map[string]string
}

type plainKey struct {
	account, arn string
	policy       plainPolicy
	grants       []*plainGrant
	aliases      []string
	team         string // a tag
}

type plainRequest struct {
	operation          string
	key, to            *plainKey // to: the destination of ReEncrypt, the new key of UpdateAlias
	keyAlias, toAlias  string    // by which the request names them
	context, toContext map[string]string
	child              *plainGrant // of CreateGrant
	retired            *plainGrant // of RetireGrant
	alias              string      // of the operations on aliases
	via, source        string
}

// A plainQuestion is whether a principal has one permission, without "kms:", for a key or an alias.
type plainQuestion struct {
	*plainRequest
	who        *plainPrincipal
	permission string
	key        *plainKey // nil: the alias
	resource   string
	ofCaller   bool // a policy of the caller is evaluated, not the key's
}

func (r *plainRequest) question(p *plainPrincipal, permission string, k *plainKey) *plainQuestion {
	return &plainQuestion{plainRequest: r, who: p, permission: permission, key: k, resource: k.arn}
}

// decide returns "allowed", "denied" or "explicitly denied".
func (r *plainRequest) decide(p *plainPrincipal) string {
	foreign := func(k *plainKey) bool { return k.account != p.account }
	var questions []*plainQuestion
	switch r.operation {
	case "ReEncrypt":
		from, to := r.question(p, "ReEncryptFrom", r.key), r.question(p, "ReEncryptTo", r.to)
		if !foreign(r.key) && foreign(r.to) { // first whatever must not be disclosed
			from, to = to, from
		}
		questions = append(questions, from, to)
	case "CreateAlias", "UpdateAlias", "DeleteAlias":
		alias := "arn:aws:kms:us-east-1:" + p.account + ":" + r.alias
		questions = append(questions, &plainQuestion{plainRequest: r, who: p, permission: r.operation, resource: alias}, r.question(p, r.operation, r.key))
		if r.operation == "UpdateAlias" {
			questions = append(questions, r.question(p, r.operation, r.to))
		}
	case "GetKeyPolicy":
		if foreign(r.key) && p.kind != "service" {
			return "denied" // not between accounts
		}
		fallthrough
	default:
		questions = append(questions, r.question(p, r.operation, r.key))
	}
	for _, q := range questions {
		if outcome := q.decide(); outcome != "allowed" {
			return outcome
		}
	}
	return "allowed"
}

func (q *plainQuestion) decide() string {
	p, k := q.who, q.key
	// A Deny, wherever it is.
	if k != nil && q.permission != "RetireGrant" && q.any([]plainPolicy{k.policy}, "Deny") {
		return "explicitly denied"
	}
	q.ofCaller = true
	limited := p.kind != "root" && p.kind != "service"
	var boundary []plainPolicy
	if p.boundary != nil {
		boundary = []plainPolicy{p.boundary}
	}
	if limited && (q.any(p.identity, "Deny") || q.any(p.session, "Deny") || q.any(boundary, "Deny")) {
		return "explicitly denied"
	}
	// What the caller's own policies give and leave.
	within := !limited || (boundary == nil || q.any(boundary, "Allow")) && (p.session == nil || q.any(p.session, "Allow"))
	own := within && (!limited || q.any(p.identity, "Allow")) && (p.kind != "federated" || p.session != nil)
	q.ofCaller = false
	switch {
	case k == nil:
		return plainOutcome(own && p.kind != "service")
	case q.permission == "RetireGrant":
		return plainOutcome(q.mayRetire(within, own))
	}
	// The key policy.
	local := p.account == k.account || p.kind == "service"
	for _, s := range k.policy {
		if s.Effect != "Allow" {
			continue
		}
		for _, how := range s.matches(q) {
			if local && (how == "itself" || how == "anyone" || how == "role" && within) || own {
				return "allowed"
			}
		}
	}
	// The grants.
	for _, g := range k.grants {
		how := p.names(g.grantee)
		if how == "" || !g.covers(q) {
			continue
		}
		switch {
		case p.kind == "service":
			if g.issuer == k.account {
				return "allowed"
			}
		case g.issuer == p.account:
			if how == "itself" || how == "role" && within || own {
				return "allowed"
			}
		case g.issuer == k.account && own:
			return "allowed"
		}
	}
	return "denied"
}

func plainOutcome(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// mayRetire reports whether the principal may retire the grant. within and own are what its policies
// leave and give.
func (q *plainQuestion) mayRetire(within, own bool) bool {
	p, g := q.who, q.retired
	names := []string{p.names(g.retiring)}
	if slices.Contains(g.operations, "RetireGrant") {
		names = append(names, p.names(g.grantee))
	}
	if g.issuer == p.account { // which may also leave it to its principals
		return slices.Contains(names, "itself") || slices.Contains(names, "role") && within || own
	}
	return own && slices.ContainsFunc(names, func(how string) bool { return how != "" })
}

func (q *plainQuestion) any(list []plainPolicy, effect string) bool {
	for _, policy := range list {
		for i := range policy {
			if policy[i].Effect == effect && policy[i].matches(q) != nil {
				return true
			}
		}
	}
	return false
}

// names returns how a name in a policy or a grant names p: "", account, anyone, role or itself.
func (p *plainPrincipal) names(name string) string {
	switch {
	case name == "":
		return ""
	case name == "*":
		return "anyone"
	case name == p.account, p.account != "" && name == "arn:aws:iam::"+p.account+":root":
		return "account"
	case name == p.arn && p.kind == "role", name == p.role, name == p.user:
		return "role" // which is as much as its sessions
	case name == p.arn:
		return "itself"
	}
	return ""
}

// matches returns how a statement names the principal if it applies, or nothing.
func (s *plainStatement) matches(q *plainQuestion) (by []string) {
	anyAction := false
	for _, a := range append(slices.Clone(s.Action), s.NotAction...) {
		anyAction = anyAction || plainLike(strings.ToLower(a), strings.ToLower("kms:"+q.permission))
	}
	if anyAction != (s.NotAction == nil) || !s.matchesResource(q) {
		return nil
	}
	for operator, keys := range s.Condition {
		for key, expected := range keys {
			if !q.holds(s.Effect, operator, key, expected) {
				return nil
			}
		}
	}
	p, list, element := q.who, s.Principal, true
	if s.NotPrincipal != nil {
		list, element = s.NotPrincipal, false
	}
	for kind, entries := range list {
		for _, e := range entries {
			if how := p.names(e); how != "" && (kind == "Service") == (p.kind == "service" && how == "itself") {
				by = append(by, how)
			}
		}
	}
	switch {
	case list == nil:
		return []string{"attached"}
	case element:
		return by
	case p.boundary != nil:
		return []string{"not excepted"}
	case slices.Contains(by, "anyone"):
		return nil
	}
	all := map[string][]string{"root": {"account"}, "user": {"account", "itself"}, "federated": {"account", "itself"},
		"role": {"account", "role"}, "session": {"account", "role", "itself"}, "service": {"itself"}}[p.kind]
	for _, how := range all {
		if !slices.Contains(by, how) {
			return []string{"not excepted"}
		}
	}
	return nil
}

func (s *plainStatement) matchesResource(q *plainQuestion) bool {
	matched, known := false, true
	for _, pattern := range append(slices.Clone(s.Resource), s.NotResource...) {
		pattern, ok := q.expand(pattern)
		matched, known = matched || ok && plainLike(pattern, q.resource), known && ok
	}
	if s.NotResource == nil {
		return matched
	}
	return !matched && (known || s.Effect == "Deny")
}

func plainLike(pattern, text string) bool {
	before, after, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, before)
	for i := range len(rest) + 1 {
		if ok && plainLike(after, rest[i:]) {
			return true
		}
	}
	return false
}

// expand replaces a variable, ${KEY} or ${KEY, 'DEFAULT'}.
func (q *plainQuestion) expand(text string) (expanded string, ok bool) {
	before, rest, found := strings.Cut(text, "${")
	if !found {
		return text, true
	}
	name, after, _ := strings.Cut(rest, "}")
	name, otherwise, hasDefault := strings.Cut(name, ", ")
	switch list, multivalued := q.values(name); {
	case multivalued && len(list) > 0, len(list) > 1:
		return "", false
	case len(list) == 1:
		return before + list[0] + after, true
	}
	return before + strings.Trim(otherwise, "'") + after, hasDefault
}

// values returns the values of a condition key: none if it is absent, and several of one that is not
// multivalued if the request has several names for it.
func (q *plainQuestion) values(name string) (list []string, multivalued bool) {
	contexts := []string{"Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo", "CreateGrant", "RetireGrant"}
	hasContext := slices.Contains(contexts, q.permission)
	one := func(value string, supplied bool) ([]string, bool) {
		if value == "" || !supplied {
			return nil, false
		}
		return []string{value}, false
	}
	grant := q.child
	if q.permission == "RetireGrant" {
		grant = q.retired
	}
	switch strings.ToLower(name) {
	case "kms:calleraccount", "aws:principalaccount":
		return one(q.who.account, true)
	case "aws:principaltag/team":
		return one(q.who.team, true)
	case "aws:username":
		return one(strings.TrimPrefix(q.who.arn, "arn:aws:iam::"+q.who.account+":user/"), q.who.kind == "user")
	case "aws:principalarn":
		if q.who.kind == "session" {
			return one(q.who.role, true)
		}
		return one(q.who.arn, q.who.kind != "service")
	case "kms:viaservice":
		return one(q.via, true)
	case "kms:requestalias":
		alias := q.keyAlias
		if q.permission == "ReEncryptTo" {
			alias = q.toAlias
		}
		return one(alias, q.permission == "DescribeKey" || hasContext && !strings.HasSuffix(q.permission, "Grant"))
	case "kms:resourcealiases":
		if !q.ofCaller || q.key == nil {
			return nil, true
		}
		return q.key.aliases, true
	case "aws:resourcetag/team":
		if q.key == nil {
			return nil, false
		}
		return one(q.key.team, q.ofCaller)
	case "kms:encryptioncontext:tenant":
		if hasContext {
			for k, v := range q.encryptionContext() {
				if strings.EqualFold(k, "tenant") && !slices.Contains(list, v) {
					list = append(list, v)
				}
			}
		}
		return list, false
	case "kms:encryptioncontextkeys":
		if hasContext {
			list = slices.Collect(maps.Keys(q.encryptionContext()))
		}
		return list, true
	case "kms:reencryptonsamekey":
		same := map[bool]string{true: "true", false: "false"}[q.plainRequest.key == q.to]
		return one(same, q.operation == "ReEncrypt")
	case "kms:granteeprincipal":
		return one(q.granteePrincipal(), true)
	case "kms:grantoperations":
		if q.permission == "CreateGrant" {
			list = q.child.operations
		}
		return list, true
	case "kms:grantconstrainttype":
		switch {
		case grant == nil:
			return nil, false
		case grant.equals != nil:
			return one("EncryptionContextEquals", true)
		}
		return one("EncryptionContextSubset", grant.subset != nil)
	}
	panic(name)
}

func (q *plainQuestion) granteePrincipal() string {
	if q.permission != "CreateGrant" || q.child.grantee == s3Service {
		return ""
	}
	return q.child.grantee
}

func (q *plainQuestion) encryptionContext() map[string]string {
	grant := q.child
	switch q.permission {
	case "ReEncryptTo":
		return q.toContext
	case "RetireGrant":
		grant = q.retired
		fallthrough
	case "CreateGrant":
		if grant.equals != nil {
			return grant.equals
		}
		return grant.subset
	}
	return q.context
}

// holds reports whether a condition of a statement holds.
func (q *plainQuestion) holds(effect, operator, key string, expected []string) bool {
	seen, multivalued := q.values(key)
	if operator == "Null" {
		return (len(seen) == 0) == (expected[0] == "true")
	}
	name, ifExists := strings.CutSuffix(operator, "IfExists")
	name, forAll := strings.CutPrefix(name, "ForAllValues:")
	name, forAny := strings.CutPrefix(name, "ForAnyValue:")
	negated := strings.Contains(name, "Not")
	compare := func(value string) bool {
		for _, e := range expected {
			e, ok := q.expand(e)
			if ok && (e == value || strings.HasSuffix(name, "Like") && plainLike(e, value)) {
				return !negated
			}
		}
		return negated
	}
	every := !slices.ContainsFunc(seen, func(value string) bool { return !compare(value) })
	some := slices.ContainsFunc(seen, compare)
	switch {
	case len(seen) == 0:
		return ifExists || forAll || negated && !forAny
	case multivalued && !forAll && !forAny:
		return false
	case multivalued && forAll, !multivalued && effect == "Allow":
		return every
	}
	return some
}

// covers reports whether a grant allows what is asked to whom it names.
func (g *plainGrant) covers(q *plainQuestion) bool {
	within := func(small, large map[string]string) bool {
		for k, v := range small {
			found := false
			for k2, v2 := range large {
				found = found || strings.EqualFold(k, k2) && v == v2
			}
			if !found {
				return false
			}
		}
		return true
	}
	same := func(a, b map[string]string) bool { return len(a) == len(b) && within(a, b) && within(b, a) }
	if !slices.Contains(g.operations, q.permission) || g.source != "" && g.source != q.source {
		return false
	}
	switch q.permission {
	case "CreateGrant":
		c := q.child
		for _, op := range c.operations {
			if !slices.Contains(g.operations, op) {
				return false
			}
		}
		switch {
		case g.source != "" && g.source != c.source:
			return false
		case g.equals != nil:
			return same(g.equals, c.equals)
		case c.equals != nil:
			return within(g.subset, c.equals)
		}
		return within(g.subset, c.subset)
	case "DescribeKey":
		return true
	}
	context := q.encryptionContext()
	return within(g.subset, context) && (g.equals == nil || same(g.equals, context))
}
