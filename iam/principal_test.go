package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

var (
	root    = &iam.Principal{Type: iam.AccountRoot, Account: "111122223333", ARN: "arn:aws:iam::111122223333:root"}
	alice   = &iam.Principal{Type: iam.User, Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/team/alice", ID: "AIDAJQABLZS4A3QDU576Q"}
	app     = &iam.Principal{Type: iam.Role, Account: "111122223333", ARN: "arn:aws:iam::111122223333:role/team/app", ID: "AROAJQABLZS4A3QDU576Q"}
	session = &iam.Principal{
		Type: iam.RoleSession, Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/app/s1",
		Issuer: app.ARN, ID: app.ID + ":s1", Provider: "accounts.example.com", CanonicalUser: "79a59df900b949e5",
	}
	federated = &iam.Principal{Type: iam.FederatedUser, Account: "111122223333", ARN: "arn:aws:sts::111122223333:federated-user/bob", Issuer: alice.ARN}
	logs      = &iam.Principal{Type: iam.Service, ARN: "logs.us-east-1.amazonaws.com"}
	china     = &iam.Principal{Type: iam.User, Account: "111122223333", ARN: "arn:aws-cn:iam::111122223333:user/alice"}
	stranger  = &iam.Principal{Type: iam.User, Account: "444455556666", ARN: "arn:aws:iam::444455556666:user/team/alice"}
	anonymous = &iam.Principal{}
	everyone  = []*iam.Principal{root, alice, app, session, federated, logs, china, stranger, anonymous, nil}
)

func TestHowAPolicyNamesAPrincipal(t *testing.T) {
	for principal, matches := range map[string]map[*iam.Principal]iam.Match{
		`"*"`: {root: iam.ByWildcard, alice: iam.ByWildcard, app: iam.ByWildcard, session: iam.ByWildcard, federated: iam.ByWildcard,
			logs: iam.ByWildcard, china: iam.ByWildcard, stranger: iam.ByWildcard, anonymous: iam.ByWildcard, nil: iam.ByWildcard},
		`{"AWS":["*"]}`: {root: iam.ByWildcard, alice: iam.ByWildcard, app: iam.ByWildcard, session: iam.ByWildcard, federated: iam.ByWildcard,
			logs: iam.ByWildcard, china: iam.ByWildcard, stranger: iam.ByWildcard, anonymous: iam.ByWildcard, nil: iam.ByWildcard},
		`{"AWS":"111122223333"}`: {root: iam.ByAccount, alice: iam.ByAccount, app: iam.ByAccount, session: iam.ByAccount,
			federated: iam.ByAccount, china: iam.ByAccount},
		`{"AWS":"arn:aws:iam::111122223333:root"}`: {root: iam.ByAccount, alice: iam.ByAccount, app: iam.ByAccount, session: iam.ByAccount,
			federated: iam.ByAccount},
		`{"AWS":"arn:aws:iam::111122223333:user/team/alice"}`:             {alice: iam.ByIdentity, federated: iam.ByIssuer},
		`{"AWS":"arn:aws:iam::111122223333:user/team/Alice"}`:             {},
		`{"AWS":"arn:aws:iam::111122223333:user/alice"}`:                  {},
		`{"AWS":"arn:aws:iam::111122223333:role/team/app"}`:               {app: iam.ByIssuer, session: iam.ByIssuer},
		`{"AWS":"arn:aws:iam::111122223333:role/app"}`:                    {},
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/app/s1"}`:         {session: iam.ByIdentity},
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/app/s2"}`:         {},
		`{"AWS":"arn:aws:sts::111122223333:federated-user/bob"}`:          {federated: iam.ByIdentity},
		`{"AWS":"AIDAJQABLZS4A3QDU576Q"}`:                                 {alice: iam.ByIdentity},
		`{"AWS":"AROAJQABLZS4A3QDU576Q"}`:                                 {app: iam.ByIssuer, session: iam.ByIssuer},
		`{"AWS":"AROAJQABLZS4A3QDU576Q:s1"}`:                              {session: iam.ByIdentity},
		`{"AWS":"AROAJQABLZS4A3QDU576Q:s2"}`:                              {},
		`{"Service":["s3.amazonaws.com","logs.us-east-1.amazonaws.com"]}`: {logs: iam.ByIdentity},
		`{"Service":"logs.amazonaws.com"}`:                                {},
		`{"Federated":"accounts.example.com"}`:                            {session: iam.ByIdentity},
		`{"CanonicalUser":"79a59df900b949e5"}`:                            {session: iam.ByAccount},
		`{"AWS":[]}`:                                                      {},
		`{}`:                                                              {},
		// The greatest counts.
		`{"AWS":["*","111122223333","arn:aws:iam::111122223333:role/team/app"],"Service":"logs.us-east-1.amazonaws.com"}`: {
			root: iam.ByWildcard, alice: iam.ByWildcard, app: iam.ByWildcard, session: iam.ByWildcard, federated: iam.ByWildcard, logs: iam.ByIdentity,
			china: iam.ByWildcard, stranger: iam.ByWildcard, anonymous: iam.ByWildcard, nil: iam.ByWildcard},
	} {
		for _, effect := range []string{"Allow", "Deny"} {
			p := parse(t, fmt.Sprintf(`{"Statement":{"Effect":%q,"Principal":%s,"Action":"*","Resource":"*"}}`, effect, principal), iam.ResourcePolicy)
			for _, who := range everyone {
				want := matches[who]
				d := p.Evaluate(&iam.Request{Principal: who, Action: "kms:Decrypt", Resource: "*"})
				require.Equal(t, want, p.Statements()[0].MatchPrincipal(who), "%s %+v", principal, who)
				switch {
				case want == iam.Unmatched:
					require.Equal(t, iam.NoMatch, d.Outcome())
					require.Equal(t, iam.Decision{}, d)
				case effect == "Deny":
					require.True(t, d.Denied(), "%s %+v", principal, who)
					require.Equal(t, iam.Unmatched, d.Match())
				default:
					require.True(t, d.Allowed(), "%s %+v", principal, who)
					require.Equal(t, want, d.Match())
					i, ok := d.AllowedBy(want)
					require.True(t, ok)
					require.Zero(t, i)
				}
			}
		}
	}
}

func TestNotPrincipalSparesOnlyWhomItListsInFull(t *testing.T) {
	for notPrincipal, spared := range map[string][]*iam.Principal{
		`{}`:                          nil,
		`{"AWS":"111122223333"}`:      {root}, // an account does not stand for its users
		`{"AWS":"` + alice.ARN + `"}`: nil,
		`{"AWS":["111122223333","` + alice.ARN + `"]}`:                     {root, alice},
		`{"AWS":["111122223333","` + app.ARN + `"]}`:                       {root, app},
		`{"AWS":["111122223333","` + app.ARN + `","` + session.ARN + `"]}`: {root, app, session},
		`{"AWS":["111122223333","` + app.ID + `","` + session.ID + `"]}`:   {root, app, session},
		`{"AWS":["111122223333","` + session.ARN + `"]}`:                   {root},
		`{"AWS":["111122223333","` + federated.ARN + `"]}`:                 {root, federated},
		`{"Service":"logs.us-east-1.amazonaws.com"}`:                       {logs},
		`"*"`: everyone,
	} {
		p := parse(t, `{"Statement":{"Effect":"Deny","NotPrincipal":`+notPrincipal+`,"Action":"*","Resource":"*"}}`, iam.ResourcePolicy)
		for _, who := range everyone {
			want := true
			for _, s := range spared {
				want = want && s != who
			}
			require.Equal(t, want, p.Evaluate(&iam.Request{Principal: who, Action: "a:b", Resource: "*"}).Denied(), "%s %+v", notPrincipal, who)
			if who != nil {
				bounded := *who
				bounded.HasBoundary = true
				require.True(t, p.Evaluate(&iam.Request{Principal: &bounded, Action: "a:b", Resource: "*"}).Denied(), "%s %+v", notPrincipal, bounded)
			}
		}
	}
}

func TestAPolicyOfAnIdentityIsAboutWhoeverHasIt(t *testing.T) {
	for _, kind := range []iam.Kind{iam.IdentityPolicy, iam.SessionPolicy, iam.PermissionsBoundary} {
		p := parse(t, `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`, kind)
		for _, who := range everyone {
			d := p.Evaluate(&iam.Request{Principal: who, Action: "kms:Decrypt", Resource: "*"})
			require.True(t, d.Allowed())
			require.Equal(t, iam.ByIdentity, d.Match())
		}
	}
}

func TestTheFormOfPrincipals(t *testing.T) {
	for kind, texts := range map[string][]string{
		"AWS": {
			"", "alice", "11112222333", "1111222233334", "11112222333x", "**", "a*", "AIDA", "AKIAJQABLZS4A3QDU576Q", "AIDAJQABLZS4A3QDU576Q:s", "AROAJQABLZS4A3QDU576Q:", "AIDA45678901234",
			"arn:aws::111122223333:role/app", "arn:aws:iam:111122223333:role/app", "arn:aws:iam:us-east-1:111122223333:role/app",
			"arn:aws:iam::1111:role/app", "arn:aws:iam::11112222333x:role/app", "arn:aws:sts::111122223333:root", "arn:aws:iam::*:root", "arn:*:iam::111122223333:root", "arn::iam::111122223333:root",
			"arn:aws:iam::111122223333:role/*", "arn:aws:iam::111122223333:role/ap?", "arn:aws:iam::111122223333:role/",
			"arn:aws:iam::111122223333:role", "arn:aws:iam::111122223333:*", "arn:aws:iam::111122223333:group/admins",
			"arn:aws:iam::111122223333:role//app", "arn:aws:iam::111122223333:role/app/", "arn:aws:iam::111122223333:role/a b",
			"arn:aws:iam::111122223333:assumed-role/app/s", "arn:aws:sts::111122223333:assumed-role/app", "arn:aws:sts::111122223333:assumed-role/team/app/s",
			"arn:aws:sts::111122223333:assumed-role/app/*", "arn:aws:sts::111122223333:role/app", "arn:aws:kms:us-east-1:111122223333:key/x",
			"arn:aws:iam::111122223333:role/${aws:username}*", "logs.amazonaws.com", "arn:aws:iam::111122223333:user/" + strings.Repeat("a", 2048),
		},
		"Service":       {"", "*", "s3", "*.amazonaws.com", "s3 .amazonaws.com", "arn:aws:iam::111122223333:role/a.b", strings.Repeat("a", 255) + ".b"},
		"Federated":     {"", "*", "a b"},
		"CanonicalUser": {"", "*", "a\u00a0b"},
		"Group":         {"admins", "*"},
	} {
		for _, text := range texts {
			_, err := iam.ParsePrincipalPattern(kind, text)
			require.Error(t, err, "%s %s", kind, text)
			require.Less(t, len(err.Error()), 400)
		}
	}
	for _, text := range []string{"111122223333", "arn:aws:iam::111122223333:root", "arn:aws-us-gov:iam::111122223333:user/a/b/c+=,.@_-"} {
		p, err := iam.ParsePrincipalPattern("AWS", text)
		require.NoError(t, err)
		require.Equal(t, "111122223333", p.Account())
		require.Equal(t, text, p.String())
		require.Equal(t, "AWS", p.Kind())
		require.Equal(t, !strings.Contains(text, "user"), p.IsAccount())
		require.False(t, p.IsAnyone())
		require.False(t, p.IsUniqueID())
	}
}

func TestParsePrincipal(t *testing.T) {
	for _, want := range []*iam.Principal{root, alice, app, session, federated, logs, china, stranger} {
		got, err := iam.ParsePrincipal(want.ARN)
		require.NoError(t, err)
		require.Equal(t, want.Type, got.Type)
		require.Equal(t, want.ARN, got.ARN)
		require.Equal(t, want.Account, got.Account)
	}
	got, err := iam.ParsePrincipal(session.ARN)
	require.NoError(t, err)
	require.Equal(t, "arn:aws:iam::111122223333:role/app", got.Issuer)
	for _, name := range []string{"", "*", "111122223333", "AIDAJQABLZS4A3QDU576Q", "alice", "arn:aws:iam::111122223333:group/g"} {
		_, err := iam.ParsePrincipal(name)
		require.Error(t, err, name)
	}
}
