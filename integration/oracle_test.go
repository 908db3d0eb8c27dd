package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/testenv"
)

// oracleCases is how many random cases are decided twice. The seed is fixed, so that they are the same in each run.
const oracleCases = 2000

// Random policies, grants and requests are decided as by an independent implementation of IAM. It
// does not know grants: it gets a statement of the key policy that allows the same. It does not know
// the root of an account: it gets a user who may do everything. It lacks three rules of the IAM User
// Guide, and only what they decide is left out:
//
//   - What a key policy or a grant allows a session itself, or everyone, no session policy limits
//     ("How AWS enforcement code logic evaluates requests"); to it one does.
//   - An address differs from a single one of the other family, IPv4 or IPv6, for NotIpAddress
//     matches all but what it names ("Condition operators"); to it that holds only of ranges.
//   - Negated operators hold for a variable without a value ("Policy variables with no value"); to
//     it no operator does.
func TestDecisionsAreThoseOfAnIndependentImplementation(t *testing.T) {
	testenv.NeedsTool(t, "node", "npm")
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	svc, err := kms.New(kms.Config{Clock: func() time.Time { return now }})
	require.NoError(t, err)
	defer svc.Close()
	ask := startOracle(t)
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), now: now}
	results := map[string]int{}
	for i := range oracleCases {
		c := g.make()
		key, err := c.decide(t, svc)
		got := "Allowed"
		switch {
		case err == nil:
		case !strings.Contains(err.Error(), "AccessDeniedException"):
			require.NoError(t, err, "case %d", i)
		case strings.Contains(err.Error(), "explicit"):
			got = "ExplicitlyDenied" // or, to another account, perhaps
		default:
			got = "ImplicitlyDenied"
		}
		c.Resource = key
		want := ask(c)
		results[want]++
		if c.Account != c.caller.account && got != "Allowed" && want != "Allowed" {
			continue // whether another account is told of a Deny is up to the service
		}
		if got != want {
			text, marshalErr := json.MarshalIndent(c, "", "  ")
			require.NoError(t, marshalErr)
			require.Equal(t, want, got, "case %d: %v\n%s", i, err, text)
		}
	}
	for _, want := range []string{"Allowed", "ImplicitlyDenied", "ExplicitlyDenied"} { // else the cases say little
		require.Greater(t, results[want], oracleCases/20, "%v", results)
	}
	t.Log(results)
}

// startOracle starts the other implementation, in a process of its own.
func startOracle(t *testing.T) func(*oracleCase) (result string) {
	command := exec.CommandContext(context.WithoutCancel(t.Context()), "node", "index.mjs")
	command.Dir = installNode(t, "simulate")
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	command.Stderr = &stderr
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, command.Wait(), "%s", &stderr)
	})
	requests, answers := json.NewEncoder(stdin), bufio.NewReader(stdout)
	return func(c *oracleCase) (result string) {
		require.NoError(t, requests.Encode(c))
		line, err := answers.ReadBytes('\n')
		if err == io.EOF {
			t.Fatalf("the oracle has ended: %s", &stderr)
		}
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(line, &result))
		return result
	}
}

// An oracleCase is a request with the policies that decide it, as the oracle is told.
type oracleCase struct {
	Principal        string         `json:"principal"`
	Action           string         `json:"action"`
	Resource         string         `json:"resource"`
	Account          string         `json:"account"` // of the key
	Context          map[string]any `json:"context"`
	KeyPolicy        *policyText    `json:"keyPolicy"` // with the grants as statements
	IdentityPolicies []*policyText  `json:"identityPolicies"`
	Boundary         *policyText    `json:"boundary"`
	SessionPolicy    *policyText    `json:"sessionPolicy"`

	caller            *oracleCaller
	encryptionContext map[string]string
	info              audit.RequestInfo
	keyPolicy         *policyText // without
	grants            []*kms.CreateGrantInput
}

// limited reports whether a session policy limits the caller in the account of the key.
func (c *oracleCase) limited() bool { return c.SessionPolicy != nil && c.caller.account == c.Account }

type policyText struct {
	Version   string
	Statement []map[string]any
}

func (d *policyText) text() string {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(text)
}

type oracleCaller struct {
	arn, account, username, role string
	tags                         map[string]string
	root                         bool
}

var oracleCallers = []*oracleCaller{
	{arn: "arn:aws:iam::111122223333:user/alice", account: "111122223333", username: "alice", tags: map[string]string{"team": "blue"}},
	{arn: "arn:aws:iam::111122223333:user/staff/bob", account: "111122223333", username: "bob"},
	{arn: "arn:aws:sts::111122223333:assumed-role/app/job", account: "111122223333", role: "arn:aws:iam::111122223333:role/app", tags: map[string]string{"team": "red"}},
	{arn: "arn:aws:iam::444455556666:user/eve", account: "444455556666", username: "eve"},
	{arn: "arn:aws:iam::111122223333:root", account: "111122223333", root: true},
	{arn: "arn:aws:iam::444455556666:root", account: "444455556666", root: true},
	{arn: "arn:aws:sts::444455556666:assumed-role/ext/job", account: "444455556666", role: "arn:aws:iam::444455556666:role/ext", tags: map[string]string{"team": "blue"}},
}

// decide makes the request through the public API. It returns the ARN of the key and the refusal.
func (c *oracleCase) decide(t *testing.T, svc *kms.Service) (key string, refusal error) {
	created, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	key = created.KeyMetadata.Arn
	for _, in := range c.grants {
		in.KeyId = key
		_, err := svc.CreateGrant(t.Context(), in)
		require.NoError(t, err)
	}
	_, err = svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key, Policy: c.keyPolicy.text(), BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err, "%s", c.keyPolicy.text())
	id := kms.Identity{Tags: c.caller.tags}
	for _, d := range c.IdentityPolicies {
		if !c.caller.root {
			id.Policies = append(id.Policies, kms.Policy{Document: d.text()})
		}
	}
	if c.Boundary != nil {
		id.Boundary = &kms.Policy{Document: c.Boundary.text()}
	}
	if c.SessionPolicy != nil {
		id.SessionPolicies = []kms.Policy{{Document: c.SessionPolicy.text()}}
	}
	p, err := kms.ParsePrincipal(c.caller.arn)
	require.NoError(t, err)
	p, err = p.WithIdentity(id)
	require.NoError(t, err)
	caller, ctx := svc.As(p), audit.ContextWithRequestInfo(context.Background(), c.info)
	switch c.Action {
	case "kms:Encrypt":
		_, err = caller.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x"), EncryptionContext: c.encryptionContext})
	case "kms:GenerateDataKey":
		_, err = caller.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: kms.DataKeySpecAES256, EncryptionContext: c.encryptionContext})
	case "kms:DescribeKey":
		_, err = caller.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
	default:
		t.Fatalf("%s is not tried", c.Action)
	}
	return key, err
}

// A generator makes random cases. Its lists are short, so that the parts of a case often meet.
type generator struct {
	*rand.Rand
	now  time.Time
	next *oracleCase // the one that is being made
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) make() *oracleCase {
	c := &oracleCase{caller: pick(g, oracleCallers...), Account: "111122223333", Action: pick(g, "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey")}
	g.next = c
	c.Principal = c.caller.arn
	c.Context = map[string]any{
		"aws:PrincipalArn": c.caller.arn, "aws:PrincipalAccount": c.caller.account, "kms:CallerAccount": c.caller.account,
		"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT", "kms:KeyOrigin": "AWS_KMS", "kms:MultiRegion": "false",
		"aws:CurrentTime": g.now.Format(time.RFC3339), "aws:EpochTime": fmt.Sprint(g.now.Unix()), "aws:RequestedRegion": "us-east-1",
		"aws:SecureTransport": "true", "aws:ViaAWSService": "false",
	}
	if c.caller.role != "" {
		c.Context["aws:PrincipalArn"] = c.caller.role
	}
	if c.caller.username != "" {
		c.Context["aws:username"] = c.caller.username
	}
	for key, value := range c.caller.tags {
		c.Context["aws:PrincipalTag/"+key] = value
	}
	if g.chance(60) {
		c.info.SourceIPAddress = pick(g, "203.0.113.7", "198.51.100.9", "2001:db8::1")
		c.Context["aws:SourceIp"], c.Context["aws:SecureTransport"] = c.info.SourceIPAddress, "false"
	}
	if g.chance(30) {
		c.info.ViaService = pick(g, "s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com")
		c.Context["kms:ViaService"], c.Context["aws:ViaAWSService"] = c.info.ViaService, "true"
	}
	if c.Action != "kms:DescribeKey" {
		c.Context["kms:EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT"
		if g.chance(70) {
			c.encryptionContext = map[string]string{"tenant": pick(g, "blue", "red")}
			c.Context["kms:EncryptionContext:tenant"] = c.encryptionContext["tenant"]
			keys := []string{"tenant"}
			if g.chance(30) {
				c.encryptionContext["stage"] = "test"
				c.Context["kms:EncryptionContext:stage"] = "test"
				keys = append(keys, "stage")
			}
			c.Context["kms:EncryptionContextKeys"] = keys
		}
	}
	c.IdentityPolicies = []*policyText{}
	switch {
	case c.caller.root:
		c.IdentityPolicies = append(c.IdentityPolicies, &policyText{"2012-10-17", []map[string]any{{"Effect": "Allow", "Action": "*", "Resource": "*"}}})
	default:
		for range g.IntN(3) {
			c.IdentityPolicies = append(c.IdentityPolicies, g.policy(false))
		}
		if g.chance(25) {
			c.Boundary = g.policy(false)
		}
		if c.caller.role != "" && g.chance(40) {
			c.SessionPolicy = g.policy(false)
		}
	}
	c.keyPolicy = g.policy(true)
	c.KeyPolicy = &policyText{c.keyPolicy.Version, slices.Clone(c.keyPolicy.Statement)}
	for g.chance(20) {
		in := g.grant()
		c.grants = append(c.grants, in)
		c.KeyPolicy.Statement = append(c.KeyPolicy.Statement, statementsOf(in)...)
	}
	return c
}

// policy returns a policy of the caller, or that of the key.
func (g *generator) policy(ofKey bool) *policyText {
	d := &policyText{Version: "2012-10-17"}
	for range 1 + g.IntN(3) {
		d.Statement = append(d.Statement, g.statement(ofKey))
	}
	return d
}

func (g *generator) statement(ofKey bool) map[string]any {
	effect := "Allow"
	if g.chance(20) {
		effect = "Deny"
	}
	s := map[string]any{"Effect": effect}
	action := "Action"
	if g.chance(10) {
		action = "NotAction"
	}
	s[action] = g.some("kms:*", "kms:Encrypt", "kms:E*", "kms:generatedatakey", "KMS:Generate*", "kms:Describe???", "*", "s3:*")
	switch {
	case ofKey:
		s["Resource"] = "*"
		s["Principal"] = g.principal(effect)
	case g.chance(10):
		s["NotResource"] = g.some("arn:aws:kms:us-east-1:111122223333:key/*", "arn:aws:kms:*:*:alias/*", "arn:aws:s3:::*")
	default:
		s["Resource"] = g.some("*", "*", "arn:aws:kms:us-east-1:111122223333:key/*", "arn:aws:kms:*:444455556666:*", "arn:aws:kms:us-east-?:111122223333:key/????????-*")
	}
	if g.chance(50) {
		conditions := map[string]map[string]any{}
		for range 1 + g.IntN(2) {
			operator, key, values := g.condition()
			if conditions[operator] == nil {
				conditions[operator] = map[string]any{}
			}
			conditions[operator][key] = values
		}
		s["Condition"] = conditions
	}
	return s
}

// grant returns a grant, which the account of the key creates.
func (g *generator) grant() *kms.CreateGrantInput {
	in := &kms.CreateGrantInput{Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey, pick(g, kms.GrantOperationEncrypt, kms.GrantOperationGenerateDataKey)}}
	grantees := []string{
		"arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/other", "arn:aws:iam::444455556666:root", "arn:aws:iam::444455556666:role/ext",
	}
	if !g.next.limited() {
		grantees = append(grantees, "arn:aws:sts::111122223333:assumed-role/app/job")
	}
	in.GranteePrincipal = pick(g, grantees...)
	if pairs := map[string]string{pick(g, "tenant", "TENANT"): pick(g, "blue", "red")}; g.chance(30) {
		in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: pairs}
	} else if g.chance(30) {
		in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: pairs}
	}
	return in
}

// statementsOf returns what a key policy would say in place of a grant.
func statementsOf(in *kms.CreateGrantInput) (list []map[string]any) {
	for _, op := range in.Operations {
		s := map[string]any{"Effect": "Allow", "Action": "kms:" + string(op), "Resource": "*", "Principal": map[string]any{"AWS": in.GranteePrincipal}}
		if in.Constraints != nil && op != kms.GrantOperationDescribeKey { // which has no encryption context
			conditions, pairs, keys := map[string]map[string]any{}, map[string]any{}, []string{}
			for key, value := range in.Constraints.EncryptionContextSubset {
				pairs["kms:EncryptionContext:"+key] = value
			}
			for key, value := range in.Constraints.EncryptionContextEquals {
				pairs["kms:EncryptionContext:"+key] = value
				keys = append(keys, key)
			}
			conditions["StringEquals"] = pairs
			if len(keys) > 0 {
				conditions["ForAllValues:StringEqualsIgnoreCase"] = map[string]any{"kms:EncryptionContextKeys": keys}
			}
			s["Condition"] = conditions
		}
		list = append(list, s)
	}
	return list
}

// some returns one value or a list of some.
func (g *generator) some(from ...string) any {
	if g.chance(60) {
		return pick(g, from...)
	}
	var list []string
	for range 1 + g.IntN(3) {
		list = append(list, pick(g, from...))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (g *generator) principal(effect string) any {
	names := []string{
		"111122223333", "arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:root",
		"arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/staff/bob", "arn:aws:iam::111122223333:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/other", "arn:aws:iam::444455556666:user/eve", "arn:aws:iam::444455556666:role/ext",
	}
	if effect == "Deny" || !g.next.limited() {
		if g.chance(15) {
			return "*"
		}
		names = append(names, "*", "arn:aws:sts::111122223333:assumed-role/app/job", "arn:aws:sts::444455556666:assumed-role/ext/job")
	}
	return map[string]any{"AWS": g.some(names...)}
}

// team returns a variable, which has a value if the operator is negated.
func (g *generator) team(operator string) string {
	if strings.Contains(operator, "Not") && g.next.caller.tags == nil {
		return "${aws:PrincipalTag/team, 'green'}"
	}
	return "${aws:PrincipalTag/team}"
}

// addresses returns addresses and ranges for an operator.
func (g *generator) addresses(operator string) any {
	list := []string{"203.0.113.0/24", "198.51.100.9/32", "2001:db8::/32", "203.0.113.7/32"}
	single := map[bool]string{false: "203.0.113.7", true: "2001:db8::1"}
	is6 := strings.Contains(g.next.info.SourceIPAddress, ":")
	list = append(list, single[is6])
	if operator == "IpAddress" {
		list = append(list, single[!is6])
	}
	return g.some(list...)
}

func (g *generator) condition() (operator, key string, values any) {
	ifExists := ""
	if g.chance(20) {
		ifExists = "IfExists"
	}
	switch g.IntN(9) {
	case 0, 1:
		key = pick(g, "kms:EncryptionContext:tenant", "kms:encryptioncontext:TENANT", "kms:EncryptionContext:stage", "aws:PrincipalTag/team", "aws:username", "kms:ViaService")
		operator = pick(g, "StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase")
		return operator + ifExists, key, g.some("blue", "red", "RED", "alice", "test", "s3.us-east-1.amazonaws.com", g.team(operator), "${aws:username, 'blue'}")
	case 2:
		key = pick(g, "kms:EncryptionContext:tenant", "aws:PrincipalTag/team", "aws:username", "kms:ViaService", "kms:KeySpec", "kms:EncryptionAlgorithm")
		operator = pick(g, "StringLike", "StringNotLike")
		return operator + ifExists, key, g.some("b*", "*e*", "???", "*", "s3.*.amazonaws.com", "SYMMETRIC_*", g.team(operator)+"*")
	case 3:
		return pick(g, "ForAnyValue:", "ForAllValues:") + pick(g, "StringEquals", "StringLike", "StringNotEquals"), "kms:EncryptionContextKeys",
			g.some("tenant", "stage", "*", "t*")
	case 4:
		operator = pick(g, "IpAddress", "NotIpAddress")
		return operator + ifExists, "aws:SourceIp", g.addresses(operator)
	case 5:
		return "Bool" + ifExists, pick(g, "aws:SecureTransport", "aws:ViaAWSService", "kms:MultiRegion"), pick(g, "true", "false")
	case 6:
		return "Null", pick(g, "kms:EncryptionContext:tenant", "kms:EncryptionContextKeys", "kms:ViaService", "aws:SourceIp", "aws:username", "aws:PrincipalTag/team"), pick(g, "true", "false")
	case 7:
		if g.chance(50) {
			return pick(g, "DateLessThan", "DateGreaterThan", "DateLessThanEquals", "DateEquals", "DateNotEquals") + ifExists, "aws:CurrentTime",
				pick(g, "2026-06-01T12:00:00Z", "2026-06-01T11:59:59Z", "2027-01-01T00:00:00Z")
		}
		return pick(g, "NumericLessThan", "NumericGreaterThanEquals", "NumericEquals", "NumericNotEquals") + ifExists, "aws:EpochTime",
			pick(g, fmt.Sprint(g.now.Unix()), fmt.Sprint(g.now.Unix()+1), "0")
	}
	return pick(g, "ArnLike", "ArnEquals", "ArnNotLike", "ArnNotEquals") + ifExists, "aws:PrincipalArn",
		g.some("arn:aws:iam::111122223333:user/*", "arn:aws:iam::*:role/*", "arn:aws:iam::111122223333:role/app", "arn:aws:iam::444455556666:user/e?e")
}
