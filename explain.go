package kms

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
)

// A Verdict is the outcome of an authorization decision.
type Verdict string

const (
	// VerdictAllowed: something allows the call, and nothing denies it.
	VerdictAllowed Verdict = "allowed"
	// VerdictImplicitDeny: nothing allows the call.
	VerdictImplicitDeny Verdict = "implicitDeny"
	// VerdictExplicitDeny: a Deny statement refuses the call, whatever else allows it.
	VerdictExplicitDeny Verdict = "explicitDeny"
)

// words returns the verdict for people.
func (v Verdict) words() string {
	switch v {
	case VerdictImplicitDeny:
		return "implicit deny"
	case VerdictExplicitDeny:
		return "explicit deny"
	}
	return string(v)
}

// An Explanation says whether a call is authorized, and why. Its String is for people, its JSON for
// programs: names and values in it do not change. It has no plaintext, ciphertext or token of the
// request, but encryption contexts and the texts of policies.
type Explanation struct {
	Principal string  `json:"principal"` // the ARN, or "anonymous"
	Operation string  `json:"operation"`
	Verdict   Verdict `json:"verdict"`

	// Reason is the rule that decided, in the last decision if there are several. Of calls that are
	// allowed:
	//
	//	key-policy          the key policy names the caller, its role or everyone
	//	identity-policy     an identity-based policy allows, and the key policy, if there is a key,
	//	                    leaves it to the account
	//	account-root        the caller is the root of the account to which the key policy leaves it
	//	grant               a grant allows
	//	cross-account       the key policy and the policies of the caller's account both allow
	//	retiring-principal  the grant gives the caller the right to retire it
	//	issuing-account     the account that created the grant leaves it to the caller to retire it
	//
	// Of calls that are refused:
	//
	//	explicit-deny            a statement denies
	//	no-key-policy-allow      the key policy gives neither the caller nor its account anything
	//	no-identity-allow        no identity-based policy allows
	//	boundary                 the permissions boundary does not allow
	//	session-policy           no session policy allows
	//	grant-wider-than-parent  the caller may only create grants that allow no more than its own
	//	not-retirer              the grant does not give the caller the right to retire it
	//	cross-account-operation  the operation is not for keys of other accounts
	//	not-found                a key that is not there, which the caller must not learn
	//	other-account            the principal whose grants are to be listed is of another account
	//	lockout                  the caller could not change the new key policy
	//	anonymous                the caller has no identity in the partition of the Region
	Reason string `json:"reason"`

	// Because is a sentence that says what decided.
	Because string `json:"because"`

	// Error is the exception that refuses the call, and Message its message. Both are empty if the
	// call is allowed.
	Error   ErrorCode `json:"error,omitempty"`
	Message string    `json:"message,omitempty"`

	// Decisions are those that the call needs, in their order, up to the first that refuses: two for
	// operations on an alias and its key, and for ReEncrypt. There may be none if the call is refused
	// without looking at a policy.
	Decisions []ExplainedDecision `json:"decisions"`
}

// Allowed reports whether the call is authorized.
func (e *Explanation) Allowed() bool { return e.Verdict == VerdictAllowed }

// An ExplainedDecision is the decision about one permission.
type ExplainedDecision struct {
	Permission string  `json:"permission"` // such as "kms:Decrypt"
	Resource   string  `json:"resource"`   // an ARN, or "*"
	NewPolicy  bool    `json:"newPolicy"`  // it is made by a new key policy, which the caller must be able to change again
	Verdict    Verdict `json:"verdict"`
	Reason     string  `json:"reason"` // as in Explanation
	Because    string  `json:"because"`

	// Steps are always the same seven: "explicit deny", "key policy", "delegation" (of the key to
	// the account), "identity policies", "permissions boundary", "session policies" and "grants".
	Steps []ExplainedStep `json:"steps"`
}

// An ExplainedStep is one rung of the ladder of a decision.
type ExplainedStep struct {
	Step    string `json:"step"`
	Result  string `json:"result"`  // "denies", "allows", "allows nothing", or "absent" if there is nothing to decide by
	Decides bool   `json:"decides"` // whether the verdict comes from this step; from two across accounts
	Because string `json:"because"`

	// Statements are those that apply, and those that one element keeps from it.
	Statements []ExplainedStatement `json:"statements,omitempty"`
	// Grants are those that name the caller, 100 at most, or the one to be retired.
	Grants []ExplainedGrant `json:"grants,omitempty"`
}

// An ExplainedStatement is a statement of a policy.
type ExplainedStatement struct {
	Policy string `json:"policy"` // "key policy", "identity-based policy 0: ARN"
	Index  int    `json:"index"`  // from 0
	Sid    string `json:"sid,omitempty"`
	Line   int    `json:"line"`   // from 1, in the text of the policy as it was given to the service
	Column int    `json:"column"` // from 1, in characters
	Effect string `json:"effect"` // "Allow" or "Deny"

	// Applies reports whether the statement applies to the request. If not, Mismatch is the element
	// that keeps it from it: "principal", "action", "resource" or "condition".
	Applies  bool   `json:"applies"`
	Mismatch string `json:"mismatch,omitempty"`

	// NamedBy is how a statement of a key policy names the caller: "account", "everyone", "issuer"
	// (its role or user) or "itself".
	NamedBy    string               `json:"namedBy,omitempty"`
	Conditions []ExplainedCondition `json:"conditions,omitempty"`
}

// An ExplainedCondition is a condition of a statement, or a constraint of a grant.
type ExplainedCondition struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Expected []string `json:"expected"`
	Present  bool     `json:"present"` // whether the request has the key
	Seen     []string `json:"seen,omitempty"`
	Holds    bool     `json:"holds"`
}

// String returns the condition with the values expected and seen, each to at most 100 bytes:
//
//	StringEquals aws:username: expected "alice", seen "bob"
func (c ExplainedCondition) String() string {
	return iam.ConditionExplanation{Operator: c.Operator, Key: c.Key, Expected: c.Expected, Present: c.Present, Seen: c.Seen}.String()
}

// An ExplainedGrant is a grant that names the caller.
type ExplainedGrant struct {
	ID          string               `json:"id"`
	Name        string               `json:"name,omitempty"`
	Grantee     string               `json:"grantee"`
	Retiring    string               `json:"retiringPrincipal,omitempty"`
	Issuer      string               `json:"issuingAccount"`
	Operations  []string             `json:"operations"`
	Allows      bool                 `json:"allows"`
	Because     string               `json:"because"`
	Constraints []ExplainedCondition `json:"constraints,omitempty"`
}

// Explain says whether the caller of s may make a call, and why: by which policy, statement or
// grant. in is the input of the operation, such as a *[DecryptInput]. Only what matters to the
// decision need be there: a ciphertext may be missing if there is a KeyId, and so may a plaintext.
// The facts of the request come with ctx, as for a call, in an audit.RequestInfo. To ask about
// another principal:
//
//	e, err := svc.As(alice).Explain(ctx, &kms.DecryptInput{KeyId: id})
//
// It is decided by the code that decides the call. Explain says nothing of what else a call
// requires, such as the state of the key. It is not a use of the key, and is neither intercepted
// nor recorded; only a rotation or deletion that is due is carried out, as whenever a key is looked
// at. It needs no permission and reveals what the caller of s must not learn: it is for the program
// that owns the Service, which must not pass the answer to that caller. With [Observe], it says
// what would be refused.
//
// The error is that of a call for which there is no decision: an operation that does not exist, or
// a key of the caller's account that does not exist.
func (s *Service) Explain(ctx context.Context, in any) (*Explanation, error) {
	for _, op := range operations {
		if reflect.TypeOf(op.NewInput()) == reflect.TypeOf(in) {
			return op.explain(ctx, s, in)
		}
	}
	return nil, fmt.Errorf("kms: Explain takes the input of an operation, such as a *kms.DecryptInput, not a %T", in)
}

// A trace records the decisions of a call that is explained.
type trace struct{ decisions []ExplainedDecision }

func (t *trace) add(q *question, d *decision) { t.decisions = append(t.decisions, q.explain(d)) }

// explain takes the input through the steps that decide: identify, authorize, and of admit what the
// operation itself asks.
func (op *operation[In, Out]) explain(ctx context.Context, s *Service, input any) (*Explanation, error) {
	in := input.(*In)
	if in == nil {
		in = new(In)
	}
	c, err := begin(ctx, s, &op.description)
	if err != nil {
		return nil, err
	}
	defer c.end()
	t := new(trace)
	c.trace, c.input = t, in
	authorized := false
	err = c.recovered(func() error {
		c.now = s.core.config.Clock()
		switch {
		case s.badRegion:
			return invalid("%.40q is not the name of a Region.", s.region)
		case s.caller.kind == iam.Anonymous:
			return errAnonymous(&s.caller, op.permission)
		}
		return s.core.db.Retry(c.ctx, c.key, func() error {
			c.clearTargets()
			t.decisions, authorized = nil, false
			if err := op.resolveKeys(c, in); err != nil {
				return err
			}
			if err := c.authorize(op.aliasName.Of(in)); err != nil {
				return err
			}
			authorized = true
			if op.admit == nil {
				return nil
			}
			return op.admit(c, in)
		})
	})
	e := &Explanation{Principal: s.caller.display(), Operation: op.name, Verdict: VerdictAllowed, Decisions: t.decisions}
	for _, d := range t.decisions {
		if !d.NewPolicy || d.Verdict != VerdictAllowed { // one that the new policy allows is no more than required
			e.Verdict, e.Reason, e.Because = d.Verdict, d.Reason, d.Because
		}
	}
	refusal, ours := err.(*Error)
	refused := ours && (refusal.Code == AccessDeniedException || refusal == errLockout)
	switch {
	case refused:
		e.Error, e.Message = refusal.Code, refusal.Message
	case err != nil && !(authorized && ours):
		return nil, wrapError(c.ctx, err, op.name)
	}
	if refused && e.Verdict == VerdictAllowed { // not by a decision
		e.Verdict = VerdictImplicitDeny
		e.Reason, e.Because = op.refusedWithoutDecision(c, in, authorized)
	}
	return e, nil
}

// refusedWithoutDecision returns why a call is refused without a decision, or after those that
// allow.
func (op *operation[In, Out]) refusedWithoutDecision(c *call, in *In, authorized bool) (reason, because string) {
	id, _ := parseKeyIdentifier(op.keyID.Of(in))
	switch {
	case c.svc.caller.kind == iam.Anonymous:
		return "anonymous", "the caller has no identity in the partition of this Region"
	case authorized:
		return "other-account", "the principal is of another account than the caller"
	case !op.crossAccount && id.account != "" && id.account != c.svc.caller.account && c.svc.caller.kind != iam.Service:
		return "cross-account-operation", op.name + " is not for keys of other accounts"
	}
	return "not-found", "there is no such key, and the caller must not learn that"
}

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
	case of.count == 0:
		step.Result, step.Because = resultAbsent, "the caller has none"
	case of.allows:
		step.Result, step.Because = resultAllows, "allowed by "+of.by
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

// String returns the explanation as lines of text. An arrow marks what decided.
func (e *Explanation) String() string {
	var b strings.Builder
	may := "may call"
	if !e.Allowed() {
		may = "may not call"
	}
	fmt.Fprintf(&b, "%s %s %s: %s\n", e.Principal, may, e.Operation, e.Because)
	for i := range e.Decisions {
		e.Decisions[i].write(&b)
	}
	return b.String()
}

func (d *ExplainedDecision) write(b *strings.Builder) {
	under := ""
	if d.NewPolicy {
		under = ", under the new key policy"
	}
	fmt.Fprintf(b, "\n%s on %s%s: %s\n", d.Permission, d.Resource, under, d.Verdict.words())
	for i := range d.Steps {
		step := &d.Steps[i]
		mark := "  "
		if step.Decides {
			mark = "->"
		}
		fmt.Fprintf(b, "%s %-20s  %s\n", mark, step.Step, step.Because)
		for j := range step.Statements {
			s := &step.Statements[j]
			if s.Applies || d.Verdict != VerdictAllowed || step.Step == stepDeny {
				fmt.Fprintf(b, "      %s %s\n", s.Policy, s.line())
			}
		}
		for j := range step.Grants {
			g := &step.Grants[j]
			if !g.Allows && d.Verdict == VerdictAllowed {
				continue
			}
			name := g.ID
			if g.Name != "" {
				name = fmt.Sprintf("%.100q (%s)", g.Name, g.ID)
			}
			fmt.Fprintf(b, "      grant %s to %s: %s\n", name, g.Grantee, g.Because)
			for _, c := range g.Constraints {
				if !c.Holds {
					fmt.Fprintf(b, "        %s\n", c)
				}
			}
		}
	}
}

// line returns the statement in one line: that it applies, or what keeps it from that.
func (s *ExplainedStatement) line() string {
	text := s.name() + " (" + s.Effect + "): "
	if s.Applies {
		text += "applies"
		for _, c := range s.Conditions {
			text += "; " + c.String()
		}
		return text
	}
	if s.Mismatch != "condition" {
		return text + "another " + s.Mismatch
	}
	var failed []string
	for _, c := range s.Conditions {
		if !c.Holds {
			failed = append(failed, c.String())
		}
	}
	return text + strings.Join(failed, "; ")
}

// MarshalJSON returns the explanation as JSON. Lists that are empty are [].
func (e *Explanation) MarshalJSON() ([]byte, error) {
	type plain Explanation
	p := plain(*e)
	if p.Decisions == nil {
		p.Decisions = []ExplainedDecision{}
	}
	return json.Marshal(p)
}
