package kms

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
)

var reasonNames = map[reason]string{
	byKeyPolicy: "key-policy", byIdentityPolicy: "identity-policy", byRoot: "account-root", byGrant: "grant", byCrossAccount: "cross-account",
	byRetirer: "retiring-principal", byIssuingAccount: "issuing-account",
	explicitDeny: "explicit-deny", noKeyPolicy: "no-key-policy-allow", noIdentityPolicy: "no-identity-allow", noBoundary: "boundary",
	noSessionPolicy: "session-policy", notRetirer: "not-retirer",
}

// verdict returns the outcome of d.
func (d *decision) verdict() Verdict {
	switch {
	case d.allowed:
		return VerdictAllowed
	case d.reason == explicitDeny:
		return VerdictExplicitDeny
	}
	return VerdictImplicitDeny
}

// The names of the steps.
const (
	stepDeny       = "explicit deny"
	stepKeyPolicy  = "key policy"
	stepDelegation = "delegation"
	stepIdentity   = "identity policies"
	stepBoundary   = "permissions boundary"
	stepSession    = "session policies"
	stepGrants     = "grants"
)

// The results of steps.
const (
	resultDenies  = "denies"
	resultAllows  = "allows"
	resultNothing = "allows nothing"
	resultAbsent  = "absent"
)

// explain says how q came to be decided as d. It looks at the same policies and grants again, and
// only at the decision for what follows from them.
func (q *question) explain(d *decision) ExplainedDecision {
	asked := q.asked
	defer func() { q.asked, q.own = asked, false }()
	x := explainer{question: q, d: d}
	x.look()
	e := ExplainedDecision{
		Permission: q.permission, Resource: q.request.Resource, NewPolicy: q.key != nil && q.policy != q.key.Policy,
		Verdict: d.verdict(), Reason: reasonNames[d.reason],
	}
	switch {
	case !d.allowed && e.NewPolicy:
		e.Reason = "lockout"
	case !d.allowed && d.grant != nil:
		e.Reason = "grant-wider-than-parent"
	}
	e.Steps = []ExplainedStep{x.deny(), x.keyPolicy(), x.delegation(), x.identity(), x.limit(stepBoundary), x.limit(stepSession), x.grants()}
	e.Because = x.because()
	return e
}

// An explainer has what an explanation is made from.
type explainer struct {
	*question
	d          *decision
	byPolicy   bool // the key policy has a say
	resource   iam.Decision
	statements []ExplainedStatement // of the key policy
	own        map[policyKind]*explainedPolicies
}

// explainedPolicies are the policies of one kind of the caller.
type explainedPolicies struct {
	count      int
	allows     bool
	by         string // the statement that allows
	statements []ExplainedStatement
}

func (x *explainer) look() {
	x.byPolicy = x.key != nil && x.permission != retirePermission
	if x.byPolicy && x.policy != nil {
		e := x.policy.Explain(&x.request)
		x.resource, x.statements = e.Decision, explainedStatements(keyPolicyName, e.Statements)
	}
	x.question.own = true
	x.own = map[policyKind]*explainedPolicies{}
	for kind, list := range map[policyKind][]compiledPolicy{identityPolicy: x.who.policies, boundaryPolicy: x.who.boundary, sessionPolicy: x.who.sessionPolicies} {
		of := &explainedPolicies{count: len(list)}
		for i := range list {
			e, name := list[i].Explain(&x.request), list[i].name(kind, i)
			of.statements = append(of.statements, explainedStatements(name, e.Statements)...)
			if e.Decision.Allowed() && !of.allows {
				of.allows = true
				s := e.Statements[e.Decision.Statement()]
				of.by = statementName(s.Index, s.Sid, s.Line, s.Column) + " of " + name
			}
		}
		x.own[kind] = of
	}
	x.question.own = false
}

const keyPolicyName = "key policy"

// name returns how explanations name a policy of the caller.
func (p *compiledPolicy) name(kind policyKind, i int) string {
	name := fmt.Sprintf("%s %d", kind, i)
	if kind == boundaryPolicy {
		name = kind.String()
	}
	if p.arn != "" {
		name += ": " + p.arn
	}
	return name
}

func statementName(index int, sid string, line, column int) string {
	if sid != "" {
		sid = fmt.Sprintf(" %.100q", sid)
	}
	return fmt.Sprintf("statement %d%s at %d:%d", index, sid, line, column)
}

func (s *ExplainedStatement) name() string { return statementName(s.Index, s.Sid, s.Line, s.Column) }

var namedBy = map[iam.Match]string{iam.ByAccount: "account", iam.ByWildcard: "everyone", iam.ByIssuer: "issuer", iam.ByIdentity: "itself"}

// explainedStatements returns the statements that apply, and those that one element keeps from it.
func explainedStatements(policy string, all []iam.StatementExplanation) (list []ExplainedStatement) {
	for i := range all {
		s := &all[i]
		e := ExplainedStatement{
			Policy: policy, Index: s.Index, Sid: s.Sid, Line: s.Line, Column: s.Column, Effect: s.Effect.String(), Applies: s.Applies,
		}
		if policy == keyPolicyName {
			e.NamedBy = namedBy[s.Match]
		}
		holds := true
		for _, c := range s.Conditions {
			holds = holds && c.Holds
			e.Conditions = append(e.Conditions, ExplainedCondition{
				Operator: c.Operator, Key: c.Key, Expected: c.Expected, Present: c.Present, Seen: c.Seen, Holds: c.Holds,
			})
		}
		mismatches := 0
		for _, element := range []struct {
			name    string
			matches bool
		}{{"principal", s.Match != iam.Unmatched}, {"action", s.Action.Matches}, {"resource", s.Resource.Matches}, {"condition", holds}} {
			if !element.matches {
				e.Mismatch = element.name
				mismatches++
			}
		}
		if mismatches <= 1 {
			list = append(list, e)
		}
	}
	return list
}

// choose returns the statements for which f is true.
func choose(list []ExplainedStatement, f func(*ExplainedStatement) bool) (chosen []ExplainedStatement) {
	for i := range list {
		if f(&list[i]) {
			chosen = append(chosen, list[i])
		}
	}
	return chosen
}

func (x *explainer) deny() ExplainedStep {
	step := ExplainedStep{Step: stepDeny, Result: resultAbsent, Because: "no statement denies"}
	all := slices.Clone(x.statements)
	for _, kind := range []policyKind{identityPolicy, boundaryPolicy, sessionPolicy} {
		all = append(all, x.own[kind].statements...)
	}
	// Others than the caller are denied all the time.
	step.Statements = choose(all, func(s *ExplainedStatement) bool {
		return s.Effect == "Deny" && (s.Applies || s.Mismatch == "condition")
	})
	if x.d.reason == explicitDeny {
		step.Result, step.Decides = resultDenies, true
		step.Because = x.because()
	}
	return step
}

func (x *explainer) keyPolicy() ExplainedStep {
	step := ExplainedStep{Step: stepKeyPolicy, Result: resultNothing, Decides: x.d.reason == byKeyPolicy || x.d.reason == noKeyPolicy}
	match := x.resource.Match()
	step.Statements = choose(x.statements, func(s *ExplainedStatement) bool { return s.Effect == "Allow" && s.NamedBy != "account" })
	switch {
	case x.key == nil:
		step.Result, step.Because = resultAbsent, "the operation uses no key"
	case !x.byPolicy:
		step.Result, step.Because = resultAbsent, "key policies have no say about retiring a grant"
	case x.policy == nil:
		step.Because = "the policy cannot be read, so that it allows nothing"
	case x.resource.Denied():
		step.Because = "it denies"
	case match == iam.Unmatched:
		step.Because = "it gives neither the caller nor its account this permission"
	case match == iam.ByAccount:
		step.Because = "it does not name the caller itself"
	default:
		who := map[iam.Match]string{iam.ByWildcard: "everyone", iam.ByIssuer: "the role or the user behind the caller", iam.ByIdentity: "the caller"}[match]
		step.Result, step.Because = resultAllows, "it names "+who
		step.Decides = step.Decides || x.d.reason == byCrossAccount
	}
	return step
}

func (x *explainer) delegation() ExplainedStep {
	step := ExplainedStep{Step: stepDelegation, Result: resultAbsent, Because: "there is no key policy to leave it to the account"}
	if !x.byPolicy {
		return step
	}
	step.Statements = choose(x.statements, func(s *ExplainedStatement) bool { return s.Effect == "Allow" && s.NamedBy == "account" })
	_, delegates := x.resource.AllowedBy(iam.ByAccount)
	match := x.resource.Match()
	switch {
	case match > iam.ByAccount && x.local():
		step.Because = "not needed: the key policy names the caller"
	case match > iam.ByAccount:
		step.Result, step.Because = resultAllows, "the policies of account "+x.who.Account+" must allow it, too"
	case delegates && x.local():
		step.Result, step.Because = resultAllows, "the key policy leaves it to account "+x.who.Account
	case delegates:
		step.Result, step.Because = resultAllows, "the key policy lets account "+x.who.Account+" use the key; its policies must allow it, too"
	default:
		step.Result, step.Because = resultNothing, "the key policy does not leave it to the account of the caller"
	}
	step.Decides = x.d.reason == byRoot || x.d.reason == byCrossAccount && match == iam.ByAccount
	return step
}

func (x *explainer) identity() ExplainedStep {
	of := x.own[identityPolicy]
	step := ExplainedStep{Step: stepIdentity, Result: resultNothing}
	step.Statements = choose(of.statements, func(s *ExplainedStatement) bool { return s.Effect == "Allow" })
	switch r := x.d.reason; {
	case r == byIdentityPolicy, r == byCrossAccount, r == noIdentityPolicy, r == byRoot && x.key == nil:
		step.Decides = true
	}
	switch {
	case x.who.Type == iam.AccountRoot:
		step.Result, step.Because = resultAllows, "IAM does not limit the root of an account"
	case x.who.Type == iam.Service:
		step.Result, step.Because = resultAbsent, "a service has none"
	case of.allows:
		step.Result, step.Because = resultAllows, "allowed by "+of.by
	case of.count == 0:
		step.Because = "the caller has none"
	case of.count == 1:
		step.Because = "the policy of the caller does not allow"
	default:
		step.Because = fmt.Sprintf("none of the %d policies of the caller allows", of.count)
	}
	return step
}

// limit returns the step of the permissions boundary or of the session policies.
func (x *explainer) limit(name string) ExplainedStep {
	kind, lacking := boundaryPolicy, noBoundary
	if name == stepSession {
		kind, lacking = sessionPolicy, noSessionPolicy
	}
	of := x.own[kind]
	step := ExplainedStep{Step: name, Result: resultNothing, Decides: x.d.reason == lacking, Because: "does not allow"}
	step.Statements = choose(of.statements, func(s *ExplainedStatement) bool { return s.Effect == "Allow" })
	switch {
	case of.count == 0 && step.Decides:
		step.Because = "the caller has none, without which a federated user has nothing of the user's policies"
	case of.count == 0:
		step.Result, step.Because = resultAbsent, "the caller has none"
	case of.allows:
		step.Result, step.Because = resultAllows, "allowed by "+of.by
	case x.d.allowed:
		step.Because = "does not allow, and does not limit what decides"
	}
	return step
}

// explainedGrants is the most grants in an explanation.
const explainedGrants = 100

func (x *explainer) grants() ExplainedStep {
	step := ExplainedStep{Step: stepGrants, Result: resultNothing}
	switch x.d.reason {
	case byGrant, byRetirer, byIssuingAccount:
		step.Result, step.Decides = resultAllows, true
	case notRetirer:
		step.Decides = true
	}
	switch {
	case x.key == nil:
		step.Result, step.Because = resultAbsent, "the operation uses no key"
		return step
	case !x.byPolicy:
		step.Because = x.because()
		if g := x.grant; g != nil {
			step.Grants = []ExplainedGrant{explainedGrant(g, x.d.allowed, step.Because)}
		}
		return step
	}
	var deciding string
	if x.d.grant != nil {
		deciding = x.d.grant.ID
		step.Grants = append(step.Grants, x.explainGrant(x.d.grant, x.who.named(x.d.grant.GranteeName())))
		step.Decides = true
	}
	more := false
	for _, n := range x.who.grantees {
		if x.key.Record.Grants == 0 {
			break
		}
		for g, err := range x.call.svc.core.db.GrantsTo(x.call.ctx, x.key.Ref, n.name, "", explainedGrants+1) {
			if err != nil {
				x.err = err
				break
			}
			if g.ID == deciding {
				continue
			}
			if more = len(step.Grants) == explainedGrants; more {
				break
			}
			step.Grants = append(step.Grants, x.explainGrant(g, n.match))
		}
	}
	switch {
	case x.d.reason == byGrant:
		step.Because = "allowed by grant " + grantName(x.d.grant)
	case x.d.allowed:
		step.Because = "not needed"
	case len(step.Grants) == 0:
		step.Result, step.Because = resultAbsent, "no grant names the caller"
	case more:
		step.Because = "none of more than 100 grants to the caller allows"
	case len(step.Grants) == 1:
		step.Because = "the grant to the caller does not allow"
	default:
		step.Because = fmt.Sprintf("none of the %d grants to the caller allows", len(step.Grants))
	}
	return step
}

func grantName(g *keydb.Grant) string {
	if g.Name != "" {
		return fmt.Sprintf("%.100q (%s)", g.Name, g.ID)
	}
	return g.ID
}

// explainGrant says what a grant to the caller does for the call.
func (x *explainer) explainGrant(g *keydb.Grant, match iam.Match) ExplainedGrant {
	if x.d.reason == byGrant && x.d.grant.ID == g.ID {
		return x.withConstraints(explainedGrant(g, true, "allows"), g)
	}
	because := ""
	switch covered := x.covers(g); {
	case covered == wider:
		because = "the new grant would allow more than this one"
	case covered == yes && g.IssuingAccount() != x.key.Account && g.IssuingAccount() != x.who.Account:
		because = "the account that created it has no say, neither over the key nor over the caller"
	case covered == yes && x.d.allowed:
		because = "would allow, too, as far as the policies of the caller let it"
	case covered == yes && match == iam.ByAccount || covered == yes && g.IssuingAccount() != x.who.Account:
		because = "allows if the policies of the caller's account do"
	case covered == yes:
		because = "allows if the permissions boundary and the session policies do"
	case !slices.Contains(g.Operations, strings.TrimPrefix(x.permission, "kms:")):
		because = "it is for other operations"
	default:
		because = "the call does not meet its constraints"
	}
	return x.withConstraints(explainedGrant(g, false, because), g)
}

func explainedGrant(g *keydb.Grant, allows bool, because string) ExplainedGrant {
	return ExplainedGrant{
		ID: g.ID, Name: g.Name, Grantee: g.GranteeName(), Retiring: g.RetiringName(), Issuer: g.IssuingAccount(),
		Operations: slices.Clone(g.Operations), Allows: allows, Because: because,
	}
}

// withConstraints adds the constraints of a grant, with the values that the call has.
func (x *explainer) withConstraints(e ExplainedGrant, g *keydb.Grant) ExplainedGrant {
	if g.SourceARN != "" {
		info := x.info()
		c := ExplainedCondition{Operator: "SourceArn", Key: "aws:SourceArn", Expected: []string{g.SourceARN}, Present: info.SourceARN != "", Holds: info.SourceARN == g.SourceARN}
		if c.Present {
			c.Seen = []string{info.SourceARN}
		}
		e.Constraints = append(e.Constraints, c)
	}
	if !usesContext(x.permission) {
		return e
	}
	seen := x.encryptionContext()
	for _, part := range []struct {
		operator string
		pairs    map[string]string
	}{{"EncryptionContextEquals", g.ContextEquals}, {"EncryptionContextSubset", g.ContextSubset}} {
		for _, key := range slices.Sorted(maps.Keys(part.pairs)) {
			pair := map[string]string{key: part.pairs[key]}
			c := ExplainedCondition{Operator: part.operator, Key: "kms:EncryptionContext:" + key, Expected: []string{pair[key]}, Holds: includes(seen, pair)}
			for _, name := range slices.Sorted(maps.Keys(seen)) {
				if keydb.SameContextKey(name, key) {
					c.Present, c.Seen = true, append(c.Seen, seen[name])
				}
			}
			e.Constraints = append(e.Constraints, c)
		}
	}
	if len(g.ContextEquals) > 0 {
		for _, key := range slices.Sorted(maps.Keys(seen)) {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(g.ContextEquals)), func(k string) bool { return keydb.SameContextKey(k, key) }) {
				e.Constraints = append(e.Constraints, ExplainedCondition{
					Operator: "EncryptionContextEquals", Key: "kms:EncryptionContext:" + key, Present: true, Seen: []string{seen[key]},
				})
			}
		}
	}
	return e
}

// because returns the sentence that says what decided.
func (x *explainer) because() string {
	d, policy := x.d, ""
	if d.statement >= 0 {
		switch d.policy {
		case keyPolicy:
			if s := x.policy.Statements(); d.statement < len(s) {
				line, column := s[d.statement].Position()
				policy = statementName(d.statement, s[d.statement].Sid(), line, column) + " of the key policy"
			}
		default:
			list := x.who.policies
			if d.policy == boundaryPolicy {
				list = x.who.boundary
			} else if d.policy == sessionPolicy {
				list = x.who.sessionPolicies
			}
			s := list[d.index].Statements()[d.statement]
			line, column := s.Position()
			policy = statementName(d.statement, s.Sid(), line, column) + " of " + list[d.index].name(d.policy, d.index)
		}
	}
	switch d.reason {
	case byKeyPolicy:
		return policy + " allows it"
	case byIdentityPolicy:
		if x.key == nil {
			return policy + " allows it"
		}
		return policy + " allows it, and the key policy leaves it to the account"
	case byRoot:
		if x.key == nil {
			return "the root of an account may do everything in it"
		}
		return "the key policy leaves it to the account, whose root the caller is"
	case byGrant:
		return "grant " + grantName(d.grant) + " allows it"
	case byCrossAccount:
		return policy + " allows it, and so do the policies of the caller's account"
	case byRetirer:
		return "the grant lets the caller retire it"
	case byIssuingAccount:
		if x.grant == nil {
			return "there is no such grant, which the account may know"
		}
		return "the account that created the grant leaves it to the caller"
	case explicitDeny:
		return policy + " denies it"
	case noKeyPolicy:
		return x.suffix("the key policy gives neither the caller nor its account this permission")
	case noIdentityPolicy:
		return x.suffix("no identity-based policy of the caller allows it")
	case noBoundary:
		return x.suffix("the permissions boundary of the caller does not allow it")
	case noSessionPolicy:
		return x.suffix("no session policy of the caller allows it")
	case notRetirer:
		return "the grant does not let the caller retire it"
	}
	return "nothing allows it"
}

func (x *explainer) suffix(text string) string {
	if x.d.grant != nil {
		return text + ", and the new grant would allow more than the caller's grant " + grantName(x.d.grant)
	}
	return text
}
