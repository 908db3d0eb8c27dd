package iam_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

// The plain evaluator is a second implementation of the policy language, written only for this test
// and with other means: it reads the JSON as it is on every request, replaces variables in texts,
// and matches with regular expressions, math/big and net.

type plainRequest struct {
	who              *iam.Principal
	action, resource string
	keys             map[string][]string // by the key in lower case
	multivalued      map[string]bool
}

func plainEvaluate(text string, r *plainRequest) (outcome iam.Outcome, matches []iam.Match) {
	var policy struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(text), &policy); err != nil {
		panic(err)
	}
	variables := policy.Version == "2012-10-17"
	for _, s := range policy.Statement {
		m := plainPrincipal(s, r.who)
		if m == iam.Unmatched || !plainElement(s, "Action", func(p string) (bool, bool) {
			return plainRegexp(strings.ToLower(p), nil).MatchString(strings.ToLower(r.action)), true
		}) || !plainElement(s, "Resource", func(p string) (bool, bool) {
			return plainLike(p, r.resource, variables, r)
		}) || !plainConditions(s["Condition"], variables, r) {
			continue
		}
		if s["Effect"] == "Deny" {
			return iam.Denied, nil
		}
		matches = append(matches, m)
	}
	if len(matches) > 0 {
		return iam.Allowed, matches
	}
	return iam.NoMatch, nil
}

func plainList(v any) (texts []string) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, v := range list {
		texts = append(texts, fmt.Sprint(v))
	}
	return texts
}

// plainElement evaluates an element or its negation. match also reports whether it can know.
func plainElement(s map[string]any, name string, match func(pattern string) (matched, known bool)) bool {
	v, not := s["Not"+name]
	if !not {
		v = s[name]
	}
	sure := true
	for _, p := range plainList(v) {
		matched, known := match(p)
		if matched {
			return !not
		}
		sure = sure && known
	}
	return not && (sure || s["Effect"] == "Deny")
}

func plainPrincipal(s map[string]any, who *iam.Principal) iam.Match {
	v, not := s["NotPrincipal"]
	if !not {
		v = s["Principal"]
	}
	if v == "*" {
		v = map[string]any{"AWS": "*"}
	}
	names := map[string]iam.Match{"AWS *": iam.ByWildcard}
	required := 0
	if who.Account != "" {
		names["AWS "+who.Account] = iam.ByAccount
		names["AWS arn:aws:iam::"+who.Account+":root"] = iam.ByAccount
		required++
	}
	if who.Type == iam.RoleSession {
		names["AWS "+who.Issuer] = iam.ByIssuer
		required++
	}
	switch who.Type {
	case iam.User, iam.RoleSession:
		names["AWS "+who.ARN] = iam.ByIdentity
		required++
	case iam.Service:
		names["Service "+who.ARN] = iam.ByIdentity
		required++
	}
	found := map[iam.Match]bool{}
	for kind, list := range v.(map[string]any) {
		for _, name := range plainList(list) {
			if m, ok := names[kind+" "+name]; ok {
				found[m] = true
			}
		}
	}
	if not {
		all := found[iam.ByWildcard]
		delete(found, iam.ByWildcard)
		if all || required > 0 && len(found) == required {
			return iam.Unmatched
		}
		return iam.ByIdentity
	}
	best := iam.Unmatched
	for m := range found {
		best = max(best, m)
	}
	return best
}

// plainRegexp returns a regular expression for a text whose marked characters are fixed.
func plainRegexp(pattern string, fixed map[rune]string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s)^")
	for _, c := range pattern {
		switch {
		case fixed[c] != "":
			b.WriteString(regexp.QuoteMeta(fixed[c]))
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.MustCompile(b.String() + "$")
}

var plainVariable = regexp.MustCompile(`\$\{([^},]*?)(, *'([^']*)')?\}`)

// plainResolve replaces variables by private characters, which stand for their values.
func plainResolve(text string, variables bool, r *plainRequest) (resolved string, fixed map[rune]string, ok bool) {
	fixed, ok = map[rune]string{}, true
	if !variables {
		return text, fixed, true
	}
	private := rune(0xe000)
	resolved = plainVariable.ReplaceAllStringFunc(text, func(v string) string {
		groups := plainVariable.FindStringSubmatch(v)
		key := strings.ToLower(groups[1])
		value := ""
		switch values := r.keys[key]; {
		case key == "*" || key == "?" || key == "$":
			value = key
		case r.multivalued[key] && len(values) > 0:
			ok = false
		case len(values) > 0:
			value = values[0]
		case groups[2] != "":
			value = groups[3]
		default:
			ok = false
		}
		if value == "" {
			return ""
		}
		private++
		fixed[private] = value
		return string(private)
	})
	return resolved, fixed, ok
}

func plainLike(pattern, text string, variables bool, r *plainRequest) (matched, known bool) {
	resolved, fixed, ok := plainResolve(pattern, variables, r)
	return ok && plainRegexp(resolved, fixed).MatchString(text), ok
}

func plainText(pattern string, variables bool, r *plainRequest) (string, bool) {
	resolved, fixed, ok := plainResolve(pattern, variables, r)
	for c, value := range fixed {
		resolved = strings.ReplaceAll(resolved, string(c), value)
	}
	return resolved, ok
}

func plainConditions(v any, variables bool, r *plainRequest) bool {
	operators, _ := v.(map[string]any)
	for operator, keys := range operators {
		for key, expected := range keys.(map[string]any) {
			if !plainCondition(operator, strings.ToLower(key), plainList(expected), variables, r) {
				return false
			}
		}
	}
	return true
}

func plainCondition(operator, key string, expected []string, variables bool, r *plainRequest) bool {
	seen := r.keys[key]
	if operator == "Null" {
		return slices.Contains(expected, fmt.Sprint(len(seen) == 0))
	}
	base, ifExists := strings.CutSuffix(operator, "IfExists")
	prefix, name, ok := strings.Cut(base, ":")
	if !ok {
		prefix, name = "", base
	}
	positive := strings.Replace(name, "Not", "", 1)
	negated := positive != name
	holds := func(seen string) bool {
		for _, e := range expected {
			if plainCompare(positive, e, seen, variables, r) {
				return !negated
			}
		}
		return negated
	}
	if len(seen) == 0 {
		return ifExists || prefix == "ForAllValues" || prefix == "" && negated
	}
	switch {
	case prefix == "ForAllValues":
		for _, s := range seen {
			if !holds(s) {
				return false
			}
		}
		return true
	case prefix == "ForAnyValue":
		return slices.ContainsFunc(seen, holds)
	}
	return !r.multivalued[key] && holds(seen[0])
}

func plainCompare(operator, expected, seen string, variables bool, r *plainRequest) bool {
	switch operator {
	case "StringEquals":
		e, ok := plainText(expected, variables, r)
		return ok && e == seen
	case "StringEqualsIgnoreCase":
		e, ok := plainText(expected, variables, r)
		return ok && plainRegexp(strings.ToLower(e), map[rune]string{'*': "*", '?': "?"}).MatchString(strings.ToLower(seen))
	case "StringLike":
		matched, _ := plainLike(expected, seen, variables, r)
		return matched
	case "ArnEquals", "ArnLike":
		e, s := strings.SplitN(expected, ":", 6), strings.SplitN(seen, ":", 6)
		if len(s) < 6 || s[0] != "arn" {
			return false
		}
		for i := range e {
			if matched, _ := plainLike(e[i], s[i], variables, r); !matched {
				return false
			}
		}
		return true
	case "Bool":
		return strings.EqualFold(expected, "true") == strings.EqualFold(seen, "true")
	case "BinaryEquals":
		return expected == seen
	case "IpAddress":
		if !strings.Contains(expected, "/") {
			expected += "/32"
		}
		_, network, err := net.ParseCIDR(expected)
		ip := net.ParseIP(seen)
		return err == nil && ip != nil && network.Contains(ip)
	}
	for _, suffix := range []string{"LessThanEquals", "GreaterThanEquals", "LessThan", "GreaterThan", "Equals"} {
		kind, ok := strings.CutSuffix(operator, suffix)
		if !ok {
			continue
		}
		e, known := plainNumber(expected, kind == "Date")
		s, ok := plainNumber(seen, kind == "Date")
		if !known || !ok {
			return false
		}
		order := s.Cmp(e)
		return map[string]bool{"LessThan": order < 0, "LessThanEquals": order <= 0, "GreaterThan": order > 0, "GreaterThanEquals": order >= 0, "Equals": order == 0}[suffix]
	}
	panic("unknown operator " + operator)
}

// plainNumber returns a number, or the seconds of a date.
func plainNumber(text string, date bool) (*big.Rat, bool) {
	if date && strings.Contains(text, "-") && !strings.HasPrefix(text, "-") {
		t, err := time.Parse(time.RFC3339, text)
		return big.NewRat(t.Unix(), 1), err == nil
	}
	if date && strings.Contains(text, "e") {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// A generator makes random policies and requests from a small world, so that they often meet.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) some(make func() any) any {
	if g.IntN(2) == 0 {
		return make()
	}
	list := []any{}
	for range 1 + g.IntN(3) {
		list = append(list, make())
	}
	return list
}

var plainPrincipals = []*iam.Principal{
	{Type: iam.AccountRoot, Account: "111122223333", ARN: "arn:aws:iam::111122223333:root"},
	{Type: iam.User, Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/alice"},
	{Type: iam.User, Account: "444455556666", ARN: "arn:aws:iam::444455556666:user/alice"},
	{Type: iam.RoleSession, Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/app/s", Issuer: "arn:aws:iam::111122223333:role/app"},
	{Type: iam.Service, ARN: "s3.amazonaws.com"},
	{},
}

// policyValues and requestValues are what the operators of a family meet.
var (
	policyValues = map[string][]string{
		"String": {"a", "A", "ab", "a*", "*b", "?", "", "${a:one}", "x${A:One}", "${a:none, 'ab'}", "${a:none}", "${a:many, 'a'}", "${*}", "a${?}*"},
		"Numeri": {"1", "2.0", "-3", "1e1", "10"}, "DateEq": {"2026-01-01T00:00:00Z", "2026-06-01T00:00:00+02:00"},
		"Bool": {"true", "false", "True"}, "Binary": {"aGk=", "YQ=="}, "IpAddr": {"10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"},
		"ArnEqu": {"arn:a:b:c:d:e", "arn:*:b:c:d:*", "arn:a:?:c:*:e", "arn:a:b::${a:one}:e:f"},
	}
	requestValues = map[string][]string{
		"String": {"a", "A", "ab", "b", "", "*", "a?", "xa", "a*"},
		"Numeri": {"1", "2", "-3.0", "10", "many", "1e1"}, "DateEq": {"2026-01-01T00:00:00Z", "2026-05-31T22:00:00Z", "2027-01-01T00:00:00Z", "soon"},
		"Bool": {"true", "false", "TRUE", "yes", ""}, "Binary": {"aGk=", "YQ==", "YQ"}, "IpAddr": {"10.1.2.3", "10.2.3.4", "192.0.2.1", "192.0.2.2", "host"},
		"ArnEqu": {"arn:a:b:c:d:e", "arn:x:b:c:d:", "arn:a:b:c:d:e:f", "arn:a:b::a:e:f", "arn:a", "urn:a:b:c:d:e"},
	}
)

func family(operator string) string {
	positive := strings.Replace(operator, "Not", "", 1)
	if strings.HasPrefix(positive, "Date") {
		return "DateEq"
	}
	if strings.HasPrefix(positive, "Arn") {
		return "ArnEqu"
	}
	return positive[:min(6, len(positive))]
}

func (g generator) condition() map[string]any {
	operators := map[string]any{}
	for range g.IntN(3) {
		if g.IntN(8) == 0 {
			operators["Null"] = map[string]any{pick(g, "a:one", "a:many", "a:none"): pick[any](g, true, "false", []any{"true"})}
			continue
		}
		operator := pick(g, slices.Sorted(maps.Keys(valid))...)
		keys := map[string]any{}
		for range 1 + g.IntN(2) {
			keys[pick(g, "a:one", "A:One", "a:Many", "a:none")] = g.some(func() any { return pick(g, policyValues[family(operator)]...) })
		}
		operators[pick(g, "", "", "ForAllValues:", "ForAnyValue:")+operator+pick(g, "", "", "IfExists")] = keys
	}
	return operators
}

func (g generator) statement() map[string]any {
	s := map[string]any{"Effect": pick(g, "Allow", "Allow", "Deny")}
	action := func() any {
		return pick(g, "kms:Encrypt", "kms:Decrypt", "KMS:*", "*", "kms:*crypt", "k?s:DEC*", "s3:*")
	}
	resource := func() any {
		return pick(g, "*", "*", "arn:aws:kms:*:*:key/1", "arn:aws:kms:r:1:key/?", "arn:aws:kms:r:1:key/${a:one}", "arn:aws:kms:r:1:key/${a:none}", "arn:aws:s3:::b")
	}
	principal := func() any {
		if g.IntN(3) == 0 {
			return "*"
		}
		kinds := map[string]any{"AWS": g.some(func() any {
			return pick(g, "*", "111122223333", "444455556666", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/alice",
				"arn:aws:iam::444455556666:user/alice", "arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/s")
		})}
		if g.IntN(3) == 0 {
			kinds["Service"] = pick(g, "s3.amazonaws.com", "sqs.amazonaws.com")
		}
		return kinds
	}
	s[pick(g, "Action", "Action", "NotAction")] = g.some(action)
	s[pick(g, "Resource", "Resource", "NotResource")] = g.some(resource)
	if s["Effect"] == "Deny" && g.IntN(2) == 0 {
		s["NotPrincipal"] = principal()
	} else {
		s["Principal"] = principal()
	}
	if g.IntN(3) > 0 {
		s["Condition"] = g.condition()
	}
	return s
}

func (g generator) policy() string {
	var statements []any
	for range 1 + g.IntN(3) {
		statements = append(statements, g.statement())
	}
	text, err := json.Marshal(map[string]any{"Version": pick(g, "2012-10-17", "2012-10-17", "2008-10-17"), "Statement": statements})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (g generator) request() *plainRequest {
	r := &plainRequest{
		who: pick(g, plainPrincipals...), action: pick(g, "kms:Encrypt", "kms:Decrypt", "kms:decrypt", "s3:Get"),
		resource: pick(g, "arn:aws:kms:r:1:key/1", "arn:aws:kms:r:1:key/a", "*"),
		keys:     map[string][]string{}, multivalued: map[string]bool{"a:many": true},
	}
	values := requestValues[pick(g, slices.Sorted(maps.Keys(requestValues))...)]
	if g.IntN(4) > 0 {
		r.keys["a:one"] = []string{pick(g, values...)}
	}
	for range g.IntN(3) {
		r.keys["a:many"] = append(r.keys["a:many"], pick(g, values...))
	}
	return r
}

// request returns the request for the package under test.
func (r *plainRequest) request() *iam.Request {
	values := iam.Values{}
	for key, list := range r.keys {
		if r.multivalued[key] {
			values[key] = iam.Strings(list)
		} else {
			values[key] = iam.String(list[0])
		}
	}
	return &iam.Request{Principal: r.who, Action: r.action, Resource: r.resource, Context: values}
}

func TestDecisionsAreThoseOfAPlainImplementation(t *testing.T) {
	outcomes := map[iam.Outcome]int{}
	for seed := range uint64(4000) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		text := g.policy()
		p, err := iam.Parse(text, iam.ResourcePolicy)
		if err != nil { // a text that is no value in the version of 2008
			require.Contains(t, text, "2008-10-17", "%s\n%v", text, err)
			continue
		}
		for range 5 {
			plain := g.request()
			want, matches := plainEvaluate(text, plain)
			r := plain.request()
			got := p.Evaluate(r)
			require.Equal(t, want, got.Outcome(), "seed %d\n%s\n%+v\n%v", seed, text, plain, p.Explain(r))
			for _, m := range []iam.Match{iam.ByAccount, iam.ByWildcard, iam.ByIssuer} {
				_, ok := got.AllowedBy(m)
				if got.Match() != iam.ByIdentity { // which ends the evaluation
					require.Equal(t, slices.Contains(matches, m), ok, "seed %d %v", seed, m)
				}
			}
			if want == iam.Allowed {
				require.Equal(t, slices.Max(matches), got.Match(), "seed %d", seed)
			}
			outcomes[want]++
			requireConsistent(t, p, r)
		}
	}
	for _, o := range []iam.Outcome{iam.NoMatch, iam.Allowed, iam.Denied} {
		require.Greater(t, outcomes[o], 1000, o.String())
	}
}

// requireConsistent requires that all ways to ask about a request give the same answer.
func requireConsistent(t *testing.T, p *iam.Policy, r *iam.Request) {
	t.Helper()
	d := p.Evaluate(r)
	e := p.Explain(r)
	narrow := p.Narrow(r.Principal, r.Action, r.Resource)
	constant, ok := narrow.Constant()
	if p.Evaluate(r) != d || e.Decision != d || narrow.Evaluate(&iam.Request{Resource: r.Resource, Context: r.Context}) != d ||
		narrow.Narrow(nil, "", r.Resource).Evaluate(r) != d || ok && constant != d {
		require.Fail(t, "several decisions", "%v %v %v", d, constant, e)
	}
	applies := func(effect iam.Effect) int {
		return slices.IndexFunc(e.Statements, func(s iam.StatementExplanation) bool { return s.Applies && s.Effect == effect })
	}
	first := -1
	switch d.Outcome() {
	case iam.Denied:
		first = applies(iam.Deny)
	case iam.Allowed:
		first = slices.IndexFunc(e.Statements, func(s iam.StatementExplanation) bool { return s.Applies && s.Match == d.Match() })
	}
	if first != d.Statement() || (d.Outcome() == iam.Denied) != (applies(iam.Deny) >= 0) || d.Outcome() == iam.NoMatch && applies(iam.Allow) >= 0 {
		require.Fail(t, "the explanation is of another decision", "%v %v", d, e)
	}
	for i, s := range e.Statements {
		all := s.Match != iam.Unmatched && s.Action.Matches && s.Resource.Matches
		for _, c := range s.Conditions {
			all = all && c.Holds
		}
		if i != s.Index || all != s.Applies {
			require.Fail(t, "the explanation does not say why", "%v", s)
		}
	}
}
