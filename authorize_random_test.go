package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

var randomCases = flag.Int("randomcases", 20_000, "how many requests TestRandomDecisionsArePlain makes")

// Random policies, principals, grants and requests are decided as the plain evaluator decides them:
// by the call, by Explain, and by the call again, so that a decision that was kept is seen, too. If
// they differ, rapid shows the smallest such case that it finds, and how to run it again.
func TestRandomDecisionsArePlain(t *testing.T) {
	svc, _ := newService(t)
	cases := rapid.Custom(func(t *rapid.T) *randomCase { return randomMaker{t}.next() })
	worlds, decided, seen := 0, 0, map[string]int{}
	for decided < *randomCases && !t.Failed() {
		rapid.Check(t, func(t *rapid.T) {
			c := cases.Draw(t, "case")
			worlds++
			w := c.create(t, svc, worlds)
			for i, p := range c.principals {
				caller := svc.As(w.principal(p))
				for _, r := range c.requests[i] {
					expected := r.decide(p)
					w.requireOutcome(caller, r, p, expected)
					decided++
					seen[expected]++
					seen[r.operation+" "+expected]++
				}
			}
		})
	}
	t.Log(seen)
	for _, outcome := range []string{"allowed", "denied", "explicitly denied"} { // else the cases say little
		require.Greater(t, seen[outcome], *randomCases/20, outcome)
		for _, operation := range randomOperations {
			require.Positive(t, seen[operation+" "+outcome], "%s %s", operation, outcome)
		}
	}
}

// A randomCase has the names of its keys and aliases as they are in ARNs: "key/0" and "alias/red".
type randomCase struct {
	keys       [2]*plainKey
	principals []*plainPrincipal
	requests   [][]*plainRequest // of each principal
}

// A createdCase is a randomCase in a service, which gives the keys other names, so that they differ
// from those of other cases.
type createdCase struct {
	*rapid.T
	names       *strings.Replacer
	ciphertexts map[*plainKey][]byte
	grantIDs    map[*plainGrant]string
}

// create makes the keys, aliases and grants. n is the number of the case.
func (c *randomCase) create(t *rapid.T, svc *kms.Service, n int) *createdCase {
	w := &createdCase{T: t, ciphertexts: map[*plainKey][]byte{}, grantIDs: map[*plainGrant]string{}}
	var names []string
	for _, alias := range []string{"alias/red", "alias/blue", "alias/new"} {
		names = append(names, alias, fmt.Sprintf("%s-%d", alias, n))
	}
	for _, k := range c.keys {
		root := svc.As(w.parse("arn:aws:iam::" + k.account + ":root"))
		in := &kms.CreateKeyInput{Policy: everybodys}
		if k.team != "" {
			in.Tags = []kms.Tag{{TagKey: "Team", TagValue: k.team}}
		}
		created, err := root.CreateKey(context.Background(), in)
		require.NoError(t, err)
		names = append(names, k.arn, created.KeyMetadata.Arn)
		encrypted, err := root.Encrypt(context.Background(), &kms.EncryptInput{KeyId: created.KeyMetadata.KeyId, Plaintext: []byte("x")})
		require.NoError(t, err)
		w.ciphertexts[k] = encrypted.CiphertextBlob
	}
	w.names = strings.NewReplacer(names...)
	for _, k := range c.keys {
		root, keyARN := svc.As(w.parse("arn:aws:iam::"+k.account+":root")), w.names.Replace(k.arn)
		_, err := root.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: w.names.Replace(k.aliases[0]), TargetKeyId: keyARN})
		require.NoError(t, err)
		for _, g := range k.grants {
			created, err := svc.As(w.parse("arn:aws:iam::"+g.issuer+":root")).CreateGrant(context.Background(), g.input(keyARN))
			require.NoError(t, err)
			w.grantIDs[g] = created.GrantId
		}
		_, err = root.PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{KeyId: keyARN, Policy: w.document(k.policy), BypassPolicyLockoutSafetyCheck: true})
		require.NoError(t, err)
	}
	return w
}

func (w *createdCase) document(p plainPolicy) string {
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": p})
	require.NoError(w, err)
	return w.names.Replace(string(text))
}

func (w *createdCase) parse(arn string) kms.Principal {
	p, err := kms.ParsePrincipal(arn)
	require.NoError(w, err)
	return p
}

func (w *createdCase) principal(p *plainPrincipal) kms.Principal {
	if p.kind == "service" {
		s, err := kms.ServicePrincipal(p.arn)
		require.NoError(w, err)
		return s
	}
	named := w.parse(p.arn)
	if p.kind == "root" {
		return named
	}
	documents := func(list []plainPolicy) (policies []kms.Policy) {
		for _, policy := range list {
			policies = append(policies, kms.Policy{Document: w.document(policy)})
		}
		return policies
	}
	id := kms.Identity{Issuer: p.role + p.user, Policies: documents(p.identity), SessionPolicies: documents(p.session)}
	if p.boundary != nil {
		id.Boundary = &kms.Policy{Document: w.document(p.boundary)}
	}
	if p.team != "" {
		id.Tags = map[string]string{"team": p.team}
	}
	complete, err := named.WithIdentity(id)
	require.NoError(w, err)
	return complete
}

// requireOutcome requires that a request is decided as expected.
func (w *createdCase) requireOutcome(caller *kms.Service, r *plainRequest, p *plainPrincipal, expected string) {
	in := w.input(r)
	ctx := audit.ContextWithRequestInfo(context.Background(), audit.RequestInfo{ViaService: r.via, SourceARN: r.source})
	require := func(ok bool, got any) {
		if !ok {
			w.Fatalf("%v, and not %s\n%s\n%s", got, expected, p, r)
		}
	}
	explain := func() {
		e, err := caller.Explain(ctx, in)
		require(err == nil, err)
		verdict := map[string]kms.Verdict{"allowed": kms.VerdictAllowed, "denied": kms.VerdictImplicitDeny, "explicitly denied": kms.VerdictExplicitDeny}
		require(e.Verdict == verdict[expected], e)
	}
	explain()
	if strings.HasSuffix(r.operation, "Alias") { // has no DryRun
		return
	}
	disclosed := r.key.account == p.account && (r.to == nil || r.to.account == p.account) // whether the reason is
	operations := kms.Operations()
	op := operations[slices.IndexFunc(operations, func(op kms.Operation) bool { return op.Name() == r.operation })]
	for range 2 {
		_, err := op.Invoke(ctx, caller, in)
		refused := errors.Is(err, kms.AccessDeniedException)
		require(refused != (expected == "allowed"), err)
		switch {
		case refused && disclosed:
			require(strings.Contains(err.Error(), "with an explicit deny") == (expected == "explicitly denied"), err)
		case !refused && err != nil && r.operation != "ReEncrypt": // whose ciphertext has another context
			require(errors.Is(err, kms.DryRunOperationException), err)
		}
	}
}

func (r *plainRequest) String() string   { return fmt.Sprintf("request %+v", *r) }
func (p *plainPrincipal) String() string { return fmt.Sprintf("principal %+v", *p) }
func (k *plainKey) String() string       { return fmt.Sprintf("%+v", *k) }
func (g *plainGrant) String() string     { return fmt.Sprintf("%+v", *g) }

var randomOperations = []string{"Encrypt", "DescribeKey", "GenerateDataKey", "GetKeyPolicy", "ReEncrypt", "CreateGrant", "RetireGrant", "CreateAlias",
	"UpdateAlias", "DeleteAlias"}

const (
	homeUser   = "arn:aws:iam::111122223333:user/alice"
	extUser    = "arn:aws:iam::444455556666:user/eve"
	federated  = "arn:aws:sts::111122223333:federated-user/fay"
	homeRoot   = "arn:aws:iam::111122223333:root"
	extRoot    = "arn:aws:iam::444455556666:root"
	thirdRoot  = "arn:aws:iam::777788889999:root"
	s3Service  = "s3.amazonaws.com"
	anySource  = "arn:aws:s3:::documents"
	viaService = "s3.us-east-1.amazonaws.com"
)

var randomGrantees = []string{homeUser, appRole, appSession, federated, homeRoot, extUser, extRole, extSession, extRoot}

// A randomMaker makes random things. The first of each list is the simplest one.
type randomMaker struct{ *rapid.T }

func (m randomMaker) one(list ...string) string { return rapid.SampledFrom(list).Draw(m.T, "") }
func (m randomMaker) upTo(n int) int            { return rapid.IntRange(1, n).Draw(m.T, "") }
func (m randomMaker) oneIn(n int) bool          { return rapid.IntRange(1, n).Draw(m.T, "") == n }

// some returns one to three of a list, each once.
func (m randomMaker) some(list ...string) (chosen []string) {
	for range m.upTo(3) {
		if c := m.one(list...); !slices.Contains(chosen, c) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// next makes a case.
func (m randomMaker) next() *randomCase {
	c := &randomCase{}
	for i := range c.keys {
		k := &plainKey{account: "111122223333", team: m.one("", "red", "blue"), aliases: []string{[]string{"alias/red", "alias/blue"}[i]}}
		if i == 1 && m.oneIn(2) {
			k.account = "444455556666"
		}
		k.arn = fmt.Sprintf("arn:aws:kms:us-east-1:%s:key/%d", k.account, i)
		c.keys[i] = k
	}
	for _, k := range c.keys {
		for range m.upTo(5) - 1 {
			k.grants = append(k.grants, m.grant())
		}
		k.policy = m.policy(c, true)
	}
	for range m.upTo(6) {
		p := m.principal(c)
		c.principals = append(c.principals, p)
		var requests []*plainRequest
		for range m.upTo(16) {
			requests = append(requests, m.request(c, p))
		}
		c.requests = append(c.requests, requests)
	}
	return c
}

func (m randomMaker) policy(c *randomCase, ofKey bool) (p plainPolicy) {
	for range m.upTo(3) {
		p = append(p, m.statement(c, ofKey))
	}
	return p
}

func (m randomMaker) statement(c *randomCase, ofKey bool) (s plainStatement) {
	s.Effect = m.one("Allow", "Allow", "Allow", "Deny")
	actions := m.some("kms:*", "*", "kms:Encrypt", "KMS:encrypt", "kms:Generate*", "kms:De*", "kms:Create*", "kms:GetKeyPolicy", "kms:ReEncrypt*", "kms:ReEncryptTo",
		"kms:*Alias", "kms:RetireGrant")
	if m.oneIn(7) {
		s.NotAction = actions
	} else {
		s.Action = actions
	}
	switch {
	case ofKey:
		s.Resource = []string{m.one("*", "*", c.keys[0].arn, c.keys[1].arn)}
	case m.oneIn(8):
		s.NotResource = m.resources(c)
	case m.oneIn(3):
		s.Resource = m.resources(c)
	default:
		s.Resource = []string{"*"}
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(m.T, "") {
		operator, key, values := m.condition(c, ofKey)
		if s.Condition == nil {
			s.Condition = plainConditions{}
		}
		s.Condition[operator] = map[string][]string{key: values}
	}
	if !ofKey {
		return s
	}
	list := map[string][]string{}
	for range m.upTo(4) {
		who, kind := m.one(append(slices.Clone(randomGrantees), "*", homeRoot, "111122223333", "444455556666", s3Service)...), "AWS"
		if who == s3Service {
			kind = "Service"
		}
		list[kind] = append(list[kind], who)
	}
	if s.Effect == "Deny" && m.oneIn(2) {
		s.NotPrincipal = list
	} else {
		s.Principal = list
	}
	return s
}

func (m randomMaker) resources(c *randomCase) []string {
	return m.some("arn:aws:kms:*:key/*", "arn:aws:kms:*:alias/*", c.keys[0].arn, c.keys[1].arn, "arn:aws:kms:us-east-1:${aws:PrincipalAccount}:*",
		"arn:aws:kms:*:alias/${aws:PrincipalTag/Team}*", "arn:aws:kms:*:alias/${aws:PrincipalTag/Team, 'red'}*")
}

func (m randomMaker) condition(c *randomCase, ofKey bool) (operator, key string, values []string) {
	key = m.one("kms:EncryptionContext:Tenant", "kms:EncryptionContextKeys", "kms:CallerAccount", "aws:PrincipalTag/Team", "kms:ViaService", "aws:PrincipalArn",
		"kms:GranteePrincipal", "kms:GrantOperations", "kms:ResourceAliases", "kms:RequestAlias", "aws:ResourceTag/Team", "aws:username", "kms:ReEncryptOnSameKey",
		"kms:GrantConstraintType", "KMS:encryptioncontext:TENANT")
	if m.oneIn(6) {
		return "Null", key, []string{m.one("true", "false")}
	}
	operator = m.one("StringEquals", "StringNotEquals", "StringLike", "StringNotLike")
	multivalued := slices.Contains([]string{"kms:EncryptionContextKeys", "kms:GrantOperations", "kms:ResourceAliases"}, key)
	if multivalued && !m.oneIn(5) || !multivalued && !ofKey && m.oneIn(10) {
		operator = m.one("ForAnyValue:", "ForAllValues:") + operator
	}
	if m.oneIn(5) {
		operator += "IfExists"
	}
	possible := []string{"red", "blue", "*e*", "${aws:PrincipalTag/Team}", "${aws:PrincipalTag/Team, 'red'}", "${kms:EncryptionContext:Tenant}", "${kms:EncryptionContextKeys, 'red'}"}
	switch key {
	case "kms:EncryptionContextKeys":
		possible = []string{"tenant", "Tenant", "app", "*", "t*"}
	case "kms:CallerAccount":
		possible = []string{"111122223333", "444455556666", "*"}
	case "kms:ViaService":
		possible = []string{viaService, "s3.*"}
	case "aws:PrincipalArn", "kms:GranteePrincipal":
		possible = []string{homeUser, appRole, extUser, homeRoot, "arn:aws:iam::*:user/*", "arn:aws:iam::111122223333:user/${aws:username, 'alice'}"}
	case "kms:GrantOperations":
		possible = []string{"Encrypt", "GenerateDataKey", "RetireGrant", "*Grant"}
	case "kms:ResourceAliases", "kms:RequestAlias":
		possible = []string{"alias/red", "alias/blue", "alias/new", "alias/*", "alias/r*", "alias/${aws:PrincipalTag/Team, 'red'}*"}
	case "aws:username":
		possible = []string{"alice", "eve", "*"}
	case "kms:ReEncryptOnSameKey":
		possible = []string{"true", "false"}
	case "kms:GrantConstraintType":
		possible = []string{"EncryptionContextSubset", "EncryptionContext*"}
	}
	return operator, key, m.some(possible...)
}

func (m randomMaker) principal(c *randomCase) *plainPrincipal {
	p := rapid.SampledFrom([]plainPrincipal{
		{kind: "user", arn: homeUser, account: "111122223333"},
		{kind: "user", arn: extUser, account: "444455556666"},
		{kind: "session", arn: appSession, account: "111122223333", role: appRole},
		{kind: "session", arn: "arn:aws:sts::111122223333:assumed-role/app/two", account: "111122223333", role: appRole},
		{kind: "session", arn: extSession, account: "444455556666", role: extRole},
		{kind: "role", arn: appRole, account: "111122223333"},
		{kind: "federated", arn: federated, account: "111122223333", user: homeUser},
		{kind: "root", arn: homeRoot, account: "111122223333"},
		{kind: "root", arn: extRoot, account: "444455556666"},
		{kind: "root", arn: thirdRoot, account: "777788889999"},
		{kind: "service", arn: s3Service},
	}).Draw(m.T, "")
	if p.kind == "root" || p.kind == "service" {
		return &p
	}
	p.team = m.one("", "red", "blue")
	for range m.upTo(3) - 1 {
		p.identity = append(p.identity, m.policy(c, false))
	}
	if m.oneIn(4) {
		p.boundary = m.policy(c, false)
	}
	for m.oneIn(4) {
		p.session = append(p.session, m.policy(c, false))
	}
	return &p
}

func (m randomMaker) context() map[string]string {
	pairs := map[string]string{}
	for _, key := range []string{"tenant", "app", "Tenant"} {
		if value := m.one("", "red", "blue"); value != "" && (key != "Tenant" || m.oneIn(3)) {
			pairs[key] = value
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	return pairs
}

func (m randomMaker) grant() *plainGrant {
	g := &plainGrant{grantee: m.one(randomGrantees...), issuer: m.one("111122223333", "111122223333", "444455556666", "777788889999")}
	g.operations = m.some("Encrypt", "GenerateDataKey", "DescribeKey", "CreateGrant", "RetireGrant", "ReEncryptFrom", "ReEncryptTo")
	switch m.upTo(3) {
	case 2:
		g.subset = m.context()
	case 3:
		g.equals = m.context()
	}
	if m.oneIn(2) {
		g.retiring = m.one(append(slices.Clone(randomGrantees), s3Service)...)
	}
	if m.oneIn(6) {
		g.source = anySource
	}
	if m.oneIn(6) {
		g.grantee, g.source = s3Service, anySource
		if g.retiring == "" {
			g.retiring = homeUser
		}
	}
	return g
}

func (m randomMaker) request(c *randomCase, p *plainPrincipal) *plainRequest {
	r := &plainRequest{operation: m.one(randomOperations...), key: c.keys[m.upTo(2)-1], via: m.one("", "", viaService), source: m.one("", anySource)}
	byAlias := func(k *plainKey) string { return m.one("", k.aliases[0]) }
	switch r.operation {
	case "Encrypt", "GenerateDataKey":
		r.context, r.keyAlias = m.context(), byAlias(r.key)
	case "DescribeKey":
		r.keyAlias = byAlias(r.key)
	case "ReEncrypt":
		r.to = c.keys[m.upTo(2)-1]
		r.context, r.toContext, r.toAlias = m.context(), m.context(), byAlias(r.to)
	case "CreateGrant":
		r.child = m.grant()
	case "RetireGrant":
		if len(r.key.grants) == 0 {
			r.operation = "DescribeKey"
			return r
		}
		r.retired = rapid.SampledFrom(r.key.grants).Draw(m.T, "")
	case "CreateAlias", "UpdateAlias", "DeleteAlias":
		own := slices.Collect(func(yield func(*plainKey) bool) {
			for _, k := range c.keys {
				if k.account == p.account && !yield(k) {
					return
				}
			}
		})
		if len(own) == 0 { // it is only for keys of the caller's account
			r.operation = "DescribeKey"
			return r
		}
		r.key, r.to = rapid.SampledFrom(own).Draw(m.T, ""), rapid.SampledFrom(own).Draw(m.T, "")
		r.alias = r.key.aliases[0]
		if r.operation == "CreateAlias" {
			r.alias, r.to = "alias/new", nil
		}
	}
	return r
}

func (g *plainGrant) input(keyARN string) *kms.CreateGrantInput {
	in := &kms.CreateGrantInput{KeyId: keyARN, GranteePrincipal: g.grantee, RetiringPrincipal: g.retiring, Constraints: &kms.GrantConstraints{
		EncryptionContextEquals: g.equals, EncryptionContextSubset: g.subset, SourceArn: g.source}}
	if g.grantee == s3Service {
		in.GranteePrincipal, in.GranteeServicePrincipal = "", s3Service
	}
	if g.retiring == s3Service {
		in.RetiringPrincipal, in.RetiringServicePrincipal = "", s3Service
	}
	for _, op := range g.operations {
		in.Operations = append(in.Operations, kms.GrantOperation(op))
	}
	return in
}

// name returns how a request names a key: by its ARN, or by the ARN of an alias.
func (k *plainKey) name(alias string) string {
	if alias == "" {
		return k.arn
	}
	return "arn:aws:kms:us-east-1:" + k.account + ":" + alias
}

// input returns the input of the operation. It is not to be carried out.
func (w *createdCase) input(r *plainRequest) any {
	keyARN, byAlias := w.names.Replace(r.key.arn), w.names.Replace(r.key.name(r.keyAlias))
	switch r.operation {
	case "Encrypt":
		return &kms.EncryptInput{KeyId: byAlias, Plaintext: []byte("x"), EncryptionContext: r.context, DryRun: true}
	case "GenerateDataKey":
		return &kms.GenerateDataKeyInput{KeyId: byAlias, KeySpec: kms.DataKeySpecAES256, EncryptionContext: r.context, DryRun: true}
	case "DescribeKey":
		return &kms.DescribeKeyInput{KeyId: byAlias}
	case "GetKeyPolicy":
		return &kms.GetKeyPolicyInput{KeyId: keyARN}
	case "ReEncrypt":
		return &kms.ReEncryptInput{SourceKeyId: keyARN, CiphertextBlob: w.ciphertexts[r.key], SourceEncryptionContext: r.context,
			DestinationKeyId: w.names.Replace(r.to.name(r.toAlias)), DestinationEncryptionContext: r.toContext, DryRun: true}
	case "CreateGrant":
		in := r.child.input(keyARN)
		in.DryRun = true
		return in
	case "RetireGrant":
		return &kms.RetireGrantInput{KeyId: keyARN, GrantId: w.grantIDs[r.retired], DryRun: true}
	case "CreateAlias":
		return &kms.CreateAliasInput{AliasName: w.names.Replace(r.alias), TargetKeyId: keyARN}
	case "UpdateAlias":
		return &kms.UpdateAliasInput{AliasName: w.names.Replace(r.alias), TargetKeyId: w.names.Replace(r.to.arn)}
	case "DeleteAlias":
		return &kms.DeleteAliasInput{AliasName: w.names.Replace(r.alias)}
	}
	panic(r.operation)
}
