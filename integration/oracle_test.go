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

// Random policies and requests are decided as by an independent implementation of IAM. What it is known to decide in another
// way is left out:
//
//   - It has neither grants nor the rules for the root of an account.
//   - A key policy for everyone lifts, for it, what a permissions boundary does not allow. The IAM User Guide says so only of
//     users and sessions that are named themselves, and here the boundary holds.
//   - A session policy limits, for it, even a session that the key policy names itself. The guide says that it does not.
//   - An address of IPv6 differs, for it, from a block of IPv4, but not from a single address.
//   - A variable without a value makes, for it, no operator hold. The guide says that negated ones do.
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
		c := g.next()
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
	KeyPolicy        *policyText    `json:"keyPolicy"`
	IdentityPolicies []*policyText  `json:"identityPolicies"`
	Boundary         *policyText    `json:"boundary"`
	SessionPolicy    *policyText    `json:"sessionPolicy"`

	caller            *oracleCaller
	encryptionContext map[string]string
	info              audit.RequestInfo
}

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
}

var oracleCallers = []*oracleCaller{
	{arn: "arn:aws:iam::111122223333:user/alice", account: "111122223333", username: "alice", tags: map[string]string{"team": "blue"}},
	{arn: "arn:aws:iam::111122223333:user/staff/bob", account: "111122223333", username: "bob"},
	{arn: "arn:aws:sts::111122223333:assumed-role/app/job", account: "111122223333", role: "arn:aws:iam::111122223333:role/app", tags: map[string]string{"team": "red"}},
	{arn: "arn:aws:iam::444455556666:user/eve", account: "444455556666", username: "eve"},
	{arn: "arn:aws:sts::444455556666:assumed-role/ext/job", account: "444455556666", role: "arn:aws:iam::444455556666:role/ext", tags: map[string]string{"team": "blue"}},
}

// decide makes the request through the public API. It returns the ARN of the key and the refusal.
func (c *oracleCase) decide(t *testing.T, svc *kms.Service) (key string, refusal error) {
	created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: c.KeyPolicy.text(), BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err, "%s", c.KeyPolicy.text())
	key = created.KeyMetadata.Arn
	id := kms.Identity{Tags: c.caller.tags}
	for _, d := range c.IdentityPolicies {
		id.Policies = append(id.Policies, kms.Policy{Document: d.text()})
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
	now time.Time
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) next() *oracleCase {
	c := &oracleCase{caller: pick(g, oracleCallers...), Account: "111122223333", Action: pick(g, "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey")}
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
	for range g.IntN(3) {
		c.IdentityPolicies = append(c.IdentityPolicies, g.policy(nil))
	}
	if c.IdentityPolicies == nil {
		c.IdentityPolicies = []*policyText{}
	}
	if g.chance(25) {
		c.Boundary = g.policy(nil)
	}
	if c.caller.role != "" && g.chance(40) {
		c.SessionPolicy = g.policy(nil)
	}
	c.KeyPolicy = g.policy(c)
	return c
}

// policy returns the key policy of a case, or a policy of its caller if there is none.
func (g *generator) policy(of *oracleCase) *policyText {
	d := &policyText{Version: "2012-10-17"}
	for range 1 + g.IntN(3) {
		d.Statement = append(d.Statement, g.statement(of))
	}
	return d
}

func (g *generator) statement(of *oracleCase) map[string]any {
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
	case of != nil:
		s["Resource"] = "*"
		s["Principal"] = g.principal(of)
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

func (g *generator) principal(of *oracleCase) any {
	names := []string{
		"111122223333", "arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:root",
		"arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/staff/bob", "arn:aws:iam::111122223333:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/other", "arn:aws:iam::444455556666:user/eve", "arn:aws:iam::444455556666:role/ext",
	}
	if of.Boundary == nil {
		if g.chance(15) {
			return "*"
		}
		names = append(names, "*")
	}
	if of.SessionPolicy == nil {
		names = append(names, "arn:aws:sts::111122223333:assumed-role/app/job", "arn:aws:sts::444455556666:assumed-role/ext/job")
	}
	return map[string]any{"AWS": g.some(names...)}
}

// team returns a variable, which a negated operator needs to have a value.
func team(operator string) string {
	if strings.Contains(operator, "Not") {
		return "${aws:PrincipalTag/team, 'green'}"
	}
	return "${aws:PrincipalTag/team}"
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
		return operator + ifExists, key, g.some("blue", "red", "RED", "alice", "test", "s3.us-east-1.amazonaws.com", team(operator), "${aws:username, 'blue'}")
	case 2:
		key = pick(g, "kms:EncryptionContext:tenant", "aws:PrincipalTag/team", "aws:username", "kms:ViaService", "kms:KeySpec", "kms:EncryptionAlgorithm")
		operator = pick(g, "StringLike", "StringNotLike")
		return operator + ifExists, key, g.some("b*", "*e*", "???", "*", "s3.*.amazonaws.com", "SYMMETRIC_*", team(operator)+"*")
	case 3:
		return pick(g, "ForAnyValue:", "ForAllValues:") + pick(g, "StringEquals", "StringLike", "StringNotEquals"), "kms:EncryptionContextKeys",
			g.some("tenant", "stage", "*", "t*")
	case 4:
		return pick(g, "IpAddress", "NotIpAddress") + ifExists, "aws:SourceIp", g.some("203.0.113.0/24", "198.51.100.9/32", "2001:db8::/32", "203.0.113.7/32")
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
