package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

var plainCases = flag.Int("plaincases", 20_000, "how many calls TestDecisionsArePlain makes")

// The plain evaluator decides as the guide tells it, step by step and without sharing anything with
// the package. It knows only the few policies, principals and calls that plainWorld makes.

type plainStatement struct {
	Effect       string
	Principal    map[string][]string `json:",omitempty"`
	NotPrincipal map[string][]string `json:",omitempty"`
	Action       []string            `json:",omitempty"`
	NotAction    []string            `json:",omitempty"`
	Resource     string
	Condition    map[string]map[string]string `json:",omitempty"`
}

type plainPolicy []plainStatement

func (p plainPolicy) String() string {
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": p})
	if err != nil {
		panic(err)
	}
	return string(text)
}

type plainPrincipal struct {
	kind, arn, account, role, user string // role of a session; user behind a federated user
	team                           string // a tag
	identity, session              []plainPolicy
	boundary                       plainPolicy
}

type plainGrant struct {
	grantee, issuer, source string
	operations              []string
	equals, subset          map[string]string
}

type plainRequest struct {
	action, via, source string
	context             map[string]string
	child               *plainGrant // of CreateGrant
}

type plainWorld struct {
	account, keyARN string
	policy          plainPolicy
	grants          []plainGrant
}

func plainWild(pattern, text string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(strings.ToLower(text), strings.ToLower(prefix))
	}
	return strings.EqualFold(pattern, text)
}

// value returns the value of a condition key, which is absent if it is empty.
func (r *plainRequest) value(p *plainPrincipal, key string) string {
	switch key {
	case "kms:EncryptionContext:Tenant":
		if r.action == "DescribeKey" || r.action == "GetKeyPolicy" {
			return ""
		}
		context := r.context
		if r.child != nil {
			context = r.child.subset
			if r.child.equals != nil {
				context = r.child.equals
			}
		}
		for k, v := range context {
			if strings.EqualFold(k, "tenant") {
				return v
			}
		}
		return ""
	case "kms:CallerAccount":
		return p.account
	case "aws:PrincipalTag/Team":
		return p.team
	case "kms:ViaService":
		return r.via
	case "aws:PrincipalArn":
		switch p.kind {
		case "session":
			return p.role
		case "service":
			return ""
		}
		return p.arn
	case "kms:GranteePrincipal":
		if r.child != nil && r.child.grantee != s3Service {
			return r.child.grantee
		}
		return ""
	}
	panic(key)
}

func (r *plainRequest) holds(p *plainPrincipal, operator, key, expected string) bool {
	v := r.value(p, key)
	switch operator {
	case "Null":
		return (v == "") == (expected == "true")
	case "StringEquals":
		return v != "" && v == expected
	case "StringNotEquals":
		return v == "" || v != expected
	case "StringEqualsIfExists":
		return v == "" || v == expected
	}
	panic(operator)
}

// names returns how an entry of a Principal element names p: "", account, anyone, role or itself.
func (p *plainPrincipal) names(entry string) string {
	switch {
	case entry == "*":
		return "anyone"
	case entry == p.account && p.account != "", entry == "arn:aws:iam::"+p.account+":root":
		return "account"
	case entry == p.arn:
		return "itself"
	case entry != "" && (entry == p.role || entry == p.user):
		return "role"
	}
	return ""
}

// matches returns how a statement names p if it applies to the request, or "".
func (s *plainStatement) matches(w *plainWorld, p *plainPrincipal, r *plainRequest) (by []string) {
	anyAction := false
	for _, a := range append(slices.Clone(s.Action), s.NotAction...) {
		anyAction = anyAction || plainWild(a, "kms:"+r.action)
	}
	if anyAction != (s.NotAction == nil) || s.Resource != "*" && s.Resource != w.keyARN {
		return nil
	}
	for operator, keys := range s.Condition {
		for key, expected := range keys {
			if !r.holds(p, operator, key, expected) {
				return nil
			}
		}
	}
	list, element := s.Principal, true
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
	case slices.Contains(by, "anyone"):
		return nil
	}
	all := map[string][]string{"root": {"account"}, "user": {"account", "itself"}, "federated": {"account", "itself"},
		"session": {"account", "role", "itself"}, "service": {"itself"}}[p.kind]
	for _, how := range all {
		if !slices.Contains(by, how) {
			return []string{"not excepted"}
		}
	}
	return nil
}

func (w *plainWorld) any(list []plainPolicy, effect string, p *plainPrincipal, r *plainRequest) bool {
	for _, policy := range list {
		for _, s := range policy {
			if s.Effect == effect && s.matches(w, p, r) != nil {
				return true
			}
		}
	}
	return false
}

// covers reports whether a grant allows the request to whom it names.
func (g *plainGrant) covers(r *plainRequest) bool {
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
	if !slices.Contains(g.operations, r.action) || g.source != "" && g.source != r.source {
		return false
	}
	if c := r.child; c != nil {
		for _, op := range c.operations {
			if !slices.Contains(g.operations, op) {
				return false
			}
		}
		if g.source != "" && g.source != c.source {
			return false
		}
		if g.equals != nil {
			return c.equals != nil && within(g.equals, c.equals) && within(c.equals, g.equals)
		}
		return within(g.subset, c.equals) || within(g.subset, c.subset)
	}
	if r.action == "DescribeKey" {
		return true
	}
	return within(g.subset, r.context) && within(g.equals, r.context) && (g.equals == nil || len(g.equals) == len(r.context))
}

// decide returns "allowed", "denied" or "explicitly denied".
func (w *plainWorld) decide(p *plainPrincipal, r *plainRequest) string {
	local := p.account == w.account || p.kind == "service"
	if !local && r.action == "GetKeyPolicy" {
		return "denied" // not between accounts
	}
	// A Deny, wherever it is.
	for _, s := range w.policy {
		if s.Effect == "Deny" && s.matches(w, p, r) != nil {
			return "explicitly denied"
		}
	}
	limited := p.kind != "root" && p.kind != "service"
	var boundary []plainPolicy
	if p.boundary != nil {
		boundary = []plainPolicy{p.boundary}
	}
	if limited && (w.any(p.identity, "Deny", p, r) || w.any(p.session, "Deny", p, r) || w.any(boundary, "Deny", p, r)) {
		return "explicitly denied"
	}
	// What the caller's own policies give and leave.
	within := !limited || (boundary == nil || w.any(boundary, "Allow", p, r)) && (p.session == nil || w.any(p.session, "Allow", p, r))
	own := within && (!limited || w.any(p.identity, "Allow", p, r))
	// The key policy.
	for _, s := range w.policy {
		if s.Effect != "Allow" {
			continue
		}
		for _, how := range s.matches(w, p, r) {
			if local && how == "itself" || local && within && (how == "role" || how == "anyone") || own {
				return "allowed"
			}
		}
	}
	// The grants.
	for i := range w.grants {
		g := &w.grants[i]
		how := p.names(g.grantee)
		if how == "" || !g.covers(r) {
			continue
		}
		switch {
		case p.kind == "service":
			if g.issuer == w.account {
				return "allowed"
			}
		case g.issuer == p.account:
			if how == "itself" || how == "role" && within || own {
				return "allowed"
			}
		case g.issuer == w.account && own:
			return "allowed"
		}
	}
	return "denied"
}

// A plainMaker makes random worlds.
type plainMaker struct{ *rand.Rand }

func (m plainMaker) one(list ...string) string { return list[m.IntN(len(list))] }
func (m plainMaker) some(p float64) bool       { return m.Float64() < p }

const (
	homeUser   = "arn:aws:iam::111122223333:user/alice"
	extUser    = "arn:aws:iam::444455556666:user/eve"
	federated  = "arn:aws:sts::111122223333:federated-user/fay"
	homeRoot   = "arn:aws:iam::111122223333:root"
	extRoot    = "arn:aws:iam::444455556666:root"
	s3Service  = "s3.amazonaws.com"
	anySource  = "arn:aws:s3:::documents"
	viaService = "s3.us-east-1.amazonaws.com"
)

var plainGrantees = []string{homeUser, appRole, appSession, federated, homeRoot, extUser, extRole, extSession, extRoot}

func (m plainMaker) statement(keyPolicy bool, keyARN string) (s plainStatement) {
	s.Effect = "Allow"
	if m.some(0.25) {
		s.Effect = "Deny"
	}
	s.Resource = "*"
	if m.some(0.2) {
		s.Resource = keyARN
	} else if !keyPolicy && m.some(0.1) {
		s.Resource = "arn:aws:kms:us-east-1:111122223333:key/another"
	}
	var actions []string
	for range 1 + m.IntN(3) {
		actions = append(actions, m.one("kms:*", "kms:Encrypt", "KMS:encrypt", "kms:Generate*", "kms:DescribeKey", "kms:De*", "kms:Create*", "kms:GetKeyPolicy"))
	}
	if m.some(0.15) {
		s.NotAction = actions
	} else {
		s.Action = actions
	}
	for range m.IntN(3) {
		operator := m.one("StringEquals", "StringEquals", "StringNotEquals", "StringEqualsIfExists", "Null")
		key := m.one("kms:EncryptionContext:Tenant", "kms:CallerAccount", "aws:PrincipalTag/Team", "kms:ViaService", "aws:PrincipalArn", "kms:GranteePrincipal")
		value := map[string][]string{"kms:EncryptionContext:Tenant": {"red", "blue"}, "kms:CallerAccount": {"111122223333", "444455556666"},
			"aws:PrincipalTag/Team": {"red", "blue"}, "kms:ViaService": {viaService}, "aws:PrincipalArn": {homeUser, appRole, extUser, homeRoot},
			"kms:GranteePrincipal": {homeUser, appRole}}[key]
		expected := m.one(value...)
		if operator == "Null" {
			expected = m.one("true", "false")
		}
		if s.Condition == nil {
			s.Condition = map[string]map[string]string{}
		}
		s.Condition[operator] = map[string]string{key: expected}
	}
	if !keyPolicy {
		return s
	}
	list := map[string][]string{}
	for range 1 + m.IntN(4) {
		who := m.one(append(slices.Clone(plainGrantees), "*", homeRoot, "111122223333", "444455556666", s3Service)...)
		kind := "AWS"
		if who == s3Service {
			kind = "Service"
		}
		list[kind] = append(list[kind], who)
	}
	if s.Effect == "Deny" && m.some(0.4) {
		s.NotPrincipal = list
	} else {
		s.Principal = list
	}
	return s
}

func (m plainMaker) policy(keyPolicy bool, keyARN string) (p plainPolicy) {
	for range 1 + m.IntN(3) {
		p = append(p, m.statement(keyPolicy, keyARN))
	}
	return p
}

func (m plainMaker) principals(keyARN string) []*plainPrincipal {
	list := []*plainPrincipal{
		{kind: "root", arn: homeRoot, account: "111122223333"},
		{kind: "root", arn: extRoot, account: "444455556666"},
		{kind: "user", arn: homeUser, account: "111122223333"},
		{kind: "user", arn: extUser, account: "444455556666"},
		{kind: "session", arn: appSession, account: "111122223333", role: appRole},
		{kind: "session", arn: "arn:aws:sts::111122223333:assumed-role/app/two", account: "111122223333", role: appRole},
		{kind: "session", arn: extSession, account: "444455556666", role: extRole},
		{kind: "federated", arn: federated, account: "111122223333", user: homeUser},
		{kind: "service", arn: s3Service},
	}
	for _, p := range list {
		if p.kind == "root" || p.kind == "service" {
			continue
		}
		p.team = m.one("", "red", "blue")
		for range m.IntN(3) {
			p.identity = append(p.identity, m.policy(false, keyARN))
		}
		if m.some(0.3) {
			p.boundary = m.policy(false, keyARN)
		}
		for m.some(0.25) {
			p.session = append(p.session, m.policy(false, keyARN))
		}
	}
	return list
}

func (m plainMaker) context() map[string]string {
	c := map[string]string{}
	for _, key := range []string{m.one("tenant", "Tenant"), m.one("app", "APP")} {
		if m.some(0.6) {
			c[key] = m.one("red", "blue")
		}
	}
	if len(c) == 0 {
		return nil
	}
	return c
}

func (m plainMaker) grant() plainGrant {
	g := plainGrant{grantee: m.one(plainGrantees...), issuer: m.one("111122223333", "111122223333", "444455556666", "777788889999")}
	for _, op := range []string{"Encrypt", "GenerateDataKey", "DescribeKey", "CreateGrant"} {
		if m.some(0.5) {
			g.operations = append(g.operations, op)
		}
	}
	if g.operations == nil {
		g.operations = []string{"Encrypt"}
	}
	switch m.IntN(3) {
	case 0:
		g.equals = m.context()
	case 1:
		g.subset = m.context()
	}
	if m.some(0.15) {
		g.grantee, g.source = s3Service, anySource
	} else if m.some(0.15) {
		g.source = anySource
	}
	return g
}

func (g *plainGrant) input(keyARN string) *kms.CreateGrantInput {
	in := &kms.CreateGrantInput{KeyId: keyARN, GranteePrincipal: g.grantee, Constraints: &kms.GrantConstraints{EncryptionContextEquals: g.equals,
		EncryptionContextSubset: g.subset, SourceArn: g.source}}
	if g.grantee == s3Service {
		in.GranteePrincipal, in.GranteeServicePrincipal, in.RetiringPrincipal = "", s3Service, homeUser
	}
	for _, op := range g.operations {
		in.Operations = append(in.Operations, kms.GrantOperation(op))
	}
	return in
}

func (p *plainPrincipal) principal(t *testing.T) kms.Principal {
	if p.kind == "service" {
		s, err := kms.ServicePrincipal(p.arn)
		require.NoError(t, err)
		return s
	}
	documents := func(list []plainPolicy) (policies []kms.Policy) {
		for _, policy := range list {
			policies = append(policies, kms.Policy{Document: policy.String()})
		}
		return policies
	}
	id := kms.Identity{Issuer: p.role + p.user, Policies: documents(p.identity), SessionPolicies: documents(p.session)}
	if p.boundary != nil {
		id.Boundary = &kms.Policy{Document: p.boundary.String()}
	}
	if p.team != "" {
		id.Tags = map[string]string{"team": p.team}
	}
	return withIdentity(t, p.arn, id)
}

func (r *plainRequest) call(svc *kms.Service, keyARN string) (err error) {
	ctx := audit.ContextWithRequestInfo(context.Background(), audit.RequestInfo{ViaService: r.via, SourceARN: r.source})
	switch r.action {
	case "Encrypt":
		_, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: keyARN, Plaintext: []byte("x"), EncryptionContext: r.context, DryRun: true})
	case "GenerateDataKey":
		_, err = svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: keyARN, KeySpec: kms.DataKeySpecAES256, EncryptionContext: r.context, DryRun: true})
	case "DescribeKey":
		_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: keyARN})
	case "GetKeyPolicy":
		_, err = svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: keyARN})
	case "CreateGrant":
		in := r.child.input(keyARN)
		in.DryRun = true
		_, err = svc.CreateGrant(ctx, in)
	}
	return err
}

// Random policies, principals, grants and calls are decided as a second evaluator decides them,
// each twice, so that a decision that was kept is seen, too.
func TestDecisionsArePlain(t *testing.T) {
	svc, _ := newService(t)
	m := plainMaker{rand.New(rand.NewPCG(20260301, 1))}
	seen := map[string]int{}
	for n := 0; n < *plainCases; {
		k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys})
		w := &plainWorld{account: "111122223333", keyARN: k.Arn, policy: m.policy(true, k.Arn)}
		for range m.IntN(6) {
			g := m.grant()
			issuer := svc.As(rootOf(t, g.issuer))
			_, err := issuer.CreateGrant(t.Context(), g.input(k.Arn))
			require.NoError(t, err)
			w.grants = append(w.grants, g)
		}
		setPolicy(t, svc, k.KeyId, w.policy.String())
		for _, p := range m.principals(k.Arn) {
			caller := svc.As(p.principal(t))
			for range 12 {
				r := &plainRequest{action: m.one("Encrypt", "GenerateDataKey", "DescribeKey", "GetKeyPolicy", "CreateGrant")}
				if m.some(0.3) {
					r.via = viaService
				}
				if m.some(0.4) {
					r.source = anySource
				}
				switch r.action {
				case "Encrypt", "GenerateDataKey":
					r.context = m.context()
				case "CreateGrant":
					r.child = new(m.grant())
				}
				expected := w.decide(p, r)
				for range 2 {
					n++
					err := r.call(caller, k.Arn)
					got := "allowed"
					if errors.Is(err, kms.AccessDeniedException) {
						got = "denied"
						if expected == "explicitly denied" && (p.account != w.account || strings.Contains(err.Error(), "with an explicit deny")) {
							got = expected
						}
					} else if err != nil {
						require.ErrorIs(t, err, kms.DryRunOperationException)
					}
					if got != expected {
						t.Fatalf("%s, not %s (%v)\nkey policy %s\n%s\ngrants %+v\ncall %+v, child %+v", got, expected, err, w.policy, fmt.Sprintf("%+v", *p), w.grants, *r, r.child)
					}
					seen[got]++
				}
			}
		}
	}
	t.Log(seen)
	for _, outcome := range []string{"allowed", "denied", "explicitly denied"} {
		require.Greater(t, seen[outcome], *plainCases/20, outcome)
	}
}
