package iam_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

const mixed = `{
  "Version": "2012-10-17", "Id": "mixed",
  "Statement": [
    {"Sid": "Users", "Effect": "Allow", "Principal": {"AWS": ["111122223333", "arn:aws:iam::444455556666:role/x"], "Service": "s3.amazonaws.com"},
     "Action": ["kms:Encrypt", "KMS:Re*"], "Resource": "*",
     "Condition": {"StringEquals": {"kms:ViaService": ["s3", "sqs"]}, "ForAllValues:StringLikeIfExists": {"aws:TagKeys": "${aws:username}*"}}},
    {"Effect": "Deny", "NotPrincipal": {"AWS": "444455556666"}, "NotAction": "kms:Get*", "NotResource": ["arn:aws:kms:*:*:key/1"]},
    {"Sid": "Once", "Effect": "Allow", "Principal": "*", "Action": "kms:Get*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": true}}}
  ]
}`

func TestStatements(t *testing.T) {
	p := parse(t, mixed, iam.ResourcePolicy)
	require.Equal(t, iam.ResourcePolicy, p.Kind())
	require.Equal(t, "2012-10-17", p.Version())
	require.Equal(t, "mixed", p.ID())
	require.Equal(t, "2008-10-17", parse(t, `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`, iam.IdentityPolicy).Version())

	statements := p.Statements()
	var lines []string
	for _, s := range statements {
		principals, notPrincipal := s.Principals()
		actions, notAction := s.Actions()
		resources, notResource := s.Resources()
		line, column := s.Position()
		lines = append(lines, fmt.Sprint(s.Index(), s.Sid(), s.Effect(), line, column, principals, notPrincipal, actions, notAction, resources, notResource))
		for _, c := range s.Conditions() {
			line, column := c.Position()
			lines = append(lines, fmt.Sprint(c.Operator(), c.Key(), c.Values(), c.ForAllValues(), c.ForAnyValue(), line, column))
		}
	}
	require.Equal(t, []string{
		"0UsersAllow 4 5 [111122223333 arn:aws:iam::444455556666:role/x s3.amazonaws.com] false [kms:Encrypt KMS:Re*] false [*] false",
		"StringEqualskms:ViaService[s3 sqs] false false 6 37",
		"ForAllValues:StringLikeIfExistsaws:TagKeys[${aws:username}*] true false 6 107",
		"1Deny 7 5 [444455556666] true [kms:Get*] true [arn:aws:kms:*:*:key/1] true",
		"2OnceAllow 8 5 [*] false [kms:Get*] false [*] false",
		"Boolaws:SecureTransport[true] false false 8 120",
	}, lines)

	for i, s := range statements {
		again, ok := p.Statement(i)
		require.True(t, ok)
		require.Equal(t, s, again)
	}
	for _, i := range []int{-1, 3} {
		_, ok := p.Statement(i)
		require.False(t, ok)
	}

	// What the methods return belongs to the caller.
	actions, _ := statements[0].Actions()
	principals, _ := statements[0].Principals()
	actions[0], principals[0] = "changed", iam.PrincipalPattern{}
	statements[0].Conditions()[0].Values()[0] = "changed"
	require.Equal(t, p, parse(t, mixed, iam.ResourcePolicy))

	require.True(t, statements[0].MatchesAction("kms:ReEncryptTo"))
	require.False(t, statements[0].MatchesAction("kms:Decrypt"))
	require.False(t, statements[1].MatchesAction("kms:GetPublicKey"))
	require.True(t, statements[1].MatchesResource("arn:aws:kms:r:1:key/2", nil))
	require.False(t, statements[1].MatchesResource("arn:aws:kms:r:1:key/1", nil))
	require.Equal(t, iam.ByAccount, statements[0].MatchPrincipal(alice))
	require.True(t, statements[0].Conditions()[0].Holds(iam.Values{"kms:viaservice": iam.String("sqs")}))
	require.False(t, statements[0].Conditions()[0].Holds(nil))
	require.True(t, statements[0].Conditions()[1].Holds(nil))
}

func TestExplain(t *testing.T) {
	p := parse(t, mixed, iam.ResourcePolicy)
	values := iam.Values{
		"kms:ViaService": iam.String("sns"), "aws:TagKeys": iam.Strings([]string{"alice's", "bob's"}), "aws:username": iam.String("alice"),
		"aws:SecureTransport": iam.Bool(false),
	}
	e := p.Explain(&iam.Request{Principal: alice, Action: "kms:ReEncryptTo", Resource: "arn:aws:kms:r:1:key/1", Context: values})
	require.Equal(t, []iam.StatementExplanation{
		{
			Index: 0, Sid: "Users", Effect: iam.Allow, Line: 4, Column: 5, Match: iam.ByAccount, Principal: "111122223333",
			Action: iam.ElementExplanation{Matches: true, Pattern: "KMS:Re*"}, Resource: iam.ElementExplanation{Matches: true, Pattern: "*"},
			Conditions: []iam.ConditionExplanation{
				{Operator: "StringEquals", Key: "kms:ViaService", Line: 6, Column: 37, Expected: []string{"s3", "sqs"}, Present: true, Seen: []string{"sns"}},
				{Operator: "ForAllValues:StringLikeIfExists", Key: "aws:TagKeys", Line: 6, Column: 107, Expected: []string{"alice*"}, Present: true, Seen: []string{"alice's", "bob's"}},
			},
		},
		{
			Index: 1, Effect: iam.Deny, Line: 7, Column: 5, Match: iam.ByIdentity,
			Action:   iam.ElementExplanation{Matches: true, Not: true},
			Resource: iam.ElementExplanation{Not: true, Pattern: "arn:aws:kms:*:*:key/1"},
		},
		{
			Index: 2, Sid: "Once", Effect: iam.Allow, Line: 8, Column: 5, Match: iam.ByWildcard, Principal: "*",
			Resource: iam.ElementExplanation{Matches: true, Pattern: "*"},
			Conditions: []iam.ConditionExplanation{
				{Operator: "Bool", Key: "aws:SecureTransport", Line: 8, Column: 120, Expected: []string{"true"}, Present: true, Seen: []string{"false"}},
			},
		},
	}, e.Statements)
	require.Equal(t, `no statement applies
  statement 0 "Users" at 4:5 (Allow): StringEquals kms:ViaService: expected "s3" or "sqs", seen "sns"; ForAllValues:StringLikeIfExists aws:TagKeys: expected "alice*", seen "alice's" or "bob's"
  statement 1 at 7:5 (Deny): the resource is excepted by "arn:aws:kms:*:*:key/1"
  statement 2 "Once" at 8:5 (Allow): another action; Bool aws:SecureTransport: expected "true", seen "false"
`, e.String())

	e = p.Explain(&iam.Request{Principal: stranger, Action: "kms:GetPublicKey", Resource: "*"})
	require.Equal(t, `no statement applies
  statement 0 "Users" at 4:5 (Allow): another principal; another action; StringEquals kms:ViaService: expected "s3" or "sqs", the key is absent
  statement 1 at 7:5 (Deny): the action is excepted by "kms:Get*"
  statement 2 "Once" at 8:5 (Allow): Bool aws:SecureTransport: expected "true", the key is absent
`, e.String())
}

// An entry of NotPrincipal that does not except a principal in full is not why a Deny applies.
func TestExplainNotPrincipal(t *testing.T) {
	p := parse(t, `{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"`+alice.ARN+`"},"Action":"*","Resource":"*"}}`, iam.ResourcePolicy)
	e := p.Explain(&iam.Request{Principal: alice, Action: "a:b", Resource: "*"}).Statements[0]
	require.True(t, e.Applies)
	require.Equal(t, iam.ByIdentity, e.Match)
	require.Empty(t, e.Principal)
}

// A resource that may be excepted is denied and not allowed.
func TestNotResourceWithAVariableThatDoesNotResolve(t *testing.T) {
	for _, resources := range []string{`"arn:aws:kms:*:*:key/${aws:username}"`, `["arn:aws:x","arn:aws:kms:*:*:key/${aws:username}"]`} {
		const statement = `{"Version":"2012-10-17","Statement":{"Effect":%q,"Action":"*","NotResource":%s}}`
		allow := parse(t, fmt.Sprintf(statement, "Allow", resources), iam.IdentityPolicy)
		deny := parse(t, fmt.Sprintf(statement, "Deny", resources), iam.IdentityPolicy)
		for name, matches := range map[string]bool{"alice": false, "bob": true} {
			r := &iam.Request{Action: "a:b", Resource: "arn:aws:kms:r:1:key/alice", Context: iam.Values{"aws:username": iam.String(name)}}
			require.Equal(t, matches, allow.Evaluate(r).Allowed())
			require.Equal(t, matches, deny.Evaluate(r).Denied())
		}
		r := &iam.Request{Action: "a:b", Resource: "arn:aws:kms:r:1:key/alice"}
		require.False(t, allow.Evaluate(r).Allowed())
		require.True(t, deny.Evaluate(r).Denied())
	}
}

func TestNarrow(t *testing.T) {
	p := parse(t, mixed, iam.ResourcePolicy)
	narrow := p.Narrow(alice, "kms:Encrypt", "arn:aws:kms:r:1:key/1")
	require.Len(t, narrow.Statements(), 1)
	require.Equal(t, "Users", narrow.Statements()[0].Sid())
	_, ok := narrow.Constant()
	require.False(t, ok, "it has conditions")
	require.Equal(t, p.Kind(), narrow.Kind())

	d, ok := p.Narrow(alice, "s3:Get", "arn:aws:s3:::b").Constant()
	require.True(t, ok)
	require.Equal(t, 1, d.Statement())
	require.True(t, d.Denied())
	d, ok = p.Narrow(alice, "s3:Get", "arn:aws:kms:r:1:key/1").Constant()
	require.True(t, ok)
	require.Equal(t, iam.Decision{}, d)
	_, ok = p.Constant()
	require.False(t, ok)

	_, ok = parse(t, `{"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, iam.IdentityPolicy).Constant()
	require.False(t, ok, "it is for any action")

	// An Allow without conditions is not constant while a Deny has some.
	p = parse(t, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"a:c","Resource":"*","Condition":{"Null":{"a:k":"true"}}}]}`, iam.IdentityPolicy)
	_, ok = p.Narrow(nil, "a:c", "*").Constant()
	require.False(t, ok)
	d, ok = p.Narrow(nil, "a:b", "*").Constant()
	require.True(t, ok)
	require.True(t, d.Allowed())

	// A variable in a resource remains.
	p = parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":["arn:a:${a:k}","arn:c:d"]}}`, iam.IdentityPolicy)
	narrow = p.Narrow(nil, "a:b", "arn:a:b")
	_, ok = narrow.Constant()
	require.False(t, ok)
	r := &iam.Request{Resource: "arn:a:b", Context: iam.Values{"a:k": iam.String("b")}}
	require.True(t, narrow.Evaluate(r).Allowed())
	r.Context = nil
	require.False(t, narrow.Evaluate(r).Allowed())
}

func TestDecisionsPreferTheGreatestMatch(t *testing.T) {
	p := parse(t, `{"Statement":[
		{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*"},
		{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/team/app"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/app/s1"},"Action":"kms:Encrypt","Resource":"*"},
		{"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"kms:Delete*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":"kms:*Delete*","Resource":"*"}
	]}`, iam.ResourcePolicy)
	for action, want := range map[string]struct {
		statement int
		match     iam.Match
	}{
		"s3:Get": {1, iam.ByWildcard}, "kms:Decrypt": {1, iam.ByWildcard}, "kms:Encrypt": {4, iam.ByIdentity}, "kms:DeleteAlias": {5, iam.Unmatched},
	} {
		d := p.Evaluate(&iam.Request{Principal: session, Action: action, Resource: "*"})
		require.Equal(t, want.statement, d.Statement(), action)
		require.Equal(t, want.match, d.Match(), action)
	}
	d := p.Evaluate(&iam.Request{Principal: session, Action: "kms:Decrypt", Resource: "*"})
	for m, want := range map[iam.Match]int{iam.ByAccount: 0, iam.ByWildcard: 1, iam.ByIssuer: 3, iam.ByIdentity: -1, iam.Unmatched: -1} {
		i, ok := d.AllowedBy(m)
		require.Equal(t, want, i)
		require.Equal(t, want >= 0, ok)
	}
	_, ok := p.Evaluate(&iam.Request{Principal: session, Action: "kms:DeleteAlias", Resource: "*"}).AllowedBy(iam.ByWildcard)
	require.False(t, ok)
}
