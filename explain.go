package kms

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/pocketkms/kms/iam"
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
			if v, ok := memberOf(in, "AliasName"); ok && v.Len() == 0 { // it needs a permission of its own
				return invalid("The alias name is missing.")
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
