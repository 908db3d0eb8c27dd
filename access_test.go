package kms_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
)

// putPolicy gives a key a policy of these statements, as the root of its account.
func putPolicy(t *testing.T, svc *kms.Service, keyID string, statements ...string) string {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: keyID, Policy: policy, BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err)
	return policy
}

func TestWhoCanListsEverySource(t *testing.T) {
	svc, _ := newService(t)
	ctx := t.Context()
	key, err := svc.EnsureKey(ctx, "alias/app", nil)
	require.NoError(t, err)
	const home, abroad = "arn:aws:iam::111122223333:", "arn:aws:iam::444455556666:"
	grants := map[string]string{}
	for name, operations := range map[string][]kms.GrantOperation{"reader": {kms.GrantOperationDecrypt}, "writer": {kms.GrantOperationEncrypt}, "leaver": {kms.GrantOperationDecrypt, kms.GrantOperationRetireGrant}} {
		out, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{
			KeyId: key.KeyId, GranteePrincipal: home + "user/" + name, RetiringPrincipal: home + "user/retirer", Name: name, Operations: operations,
			Constraints: &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"tenant": "7"}},
		})
		require.NoError(t, err)
		grants[out.GrantId] = name
	}
	putPolicy(t, svc, key.KeyId,
		`{"Sid":"Delegation","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`,
		`{"Effect":"Allow","Principal":{"AWS":["`+home+`role/app","`+abroad+`role/app"],"Service":"logs.amazonaws.com"},"Action":"kms:Dec*","Resource":"*","Condition":{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT","kms:ViaService":["a.us-east-1.amazonaws.com","b.us-east-1.amazonaws.com"]}}}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:KeySpec":"RSA_2048"}}}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:SigningAlgorithm":"ECDSA_SHA_256"}}}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*"}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:key/other"}`,
		`{"Effect":"Deny","NotPrincipal":{"AWS":["`+home+`root","`+home+`role/app"]},"Action":"kms:Decrypt","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":false}}}`)
	alice, err := principal(t, home+"user/alice").WithIdentity(kms.Identity{
		Policies: []kms.Policy{{Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:D*","Resource":"*"},{"Effect":"Deny","Action":"kms:D*","Resource":"*","Condition":{"Bool":{"aws:ViaAWSService":"true"}}}]}`, ARN: "arn:aws:iam::111122223333:policy/p"}},
		Boundary: &kms.Policy{Document: allowAll},
	})
	require.NoError(t, err)
	stranger, err := principal(t, "arn:aws:iam::777788889999:user/x").WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: allowAll}}})
	require.NoError(t, err)
	app, err := principal(t, abroad+"role/app").WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: allowAll}}})
	require.NoError(t, err)

	nothing := withIdentity(t, federated, kms.Identity{Policies: []kms.Policy{{Document: allowAll}}}) // without a session policy
	r, err := svc.WhoCan(ctx, "alias/app", "Decrypt", alice, stranger, app, nothing)
	require.NoError(t, err)
	require.Equal(t, key.Arn, r.KeyARN)
	via := kms.AccessCondition{Operator: "StringEquals", Key: "kms:ViaService", Values: []string{"a.us-east-1.amazonaws.com", "b.us-east-1.amazonaws.com"}}
	var got []string
	for _, a := range r.Allowed {
		text := fmt.Sprint(a.Source, " ", a.Principal)
		if a.Statement != nil {
			text += fmt.Sprint(" ", a.Statement.Index)
		}
		got = append(got, text)
		switch {
		case a.Statement != nil && a.Statement.Index == 1:
			require.Equal(t, []kms.AccessCondition{via}, a.Conditions, "that about the key spec is decided")
		case a.Source == kms.SourceGrant:
			require.Equal(t, grants[a.GrantID], a.GrantName)
			require.Equal(t, []kms.AccessCondition{{Operator: "EncryptionContextEquals", Key: "kms:EncryptionContext:tenant", Values: []string{"7"}}}, a.Conditions)
		}
	}
	require.ElementsMatch(t, []string{
		"delegation to the account 111122223333 0",
		"key policy " + home + "role/app 1", "key policy " + abroad + "role/app 1", "key policy logs.amazonaws.com 1",
		"identity-based policy " + home + "user/alice 0", "identity-based policy " + abroad + "role/app 0",
		"grant " + home + "user/reader", "grant " + home + "user/leaver",
	}, got)
	require.Len(t, r.Denied, 2)
	require.True(t, r.Denied[0].Except)
	require.Equal(t, home+"root, "+home+"role/app", r.Denied[0].Principal)
	require.Equal(t, home+"user/alice", r.Denied[1].Principal)
	require.Equal(t, []string{
		"The permissions boundary or the session policies of " + home + "user/alice may allow less.",
		"Account 111122223333 can allow its principals by identity-based policies; only those of the candidates are known.",
		"Principals of other accounts also need an identity-based policy of their own account that allows, unless a grant of it does.",
		"Identity-based policies, permissions boundaries and session policies of principals can deny what is allowed here.",
	}, r.Unknown)

	r, err = svc.WhoCan(ctx, key.Arn, "kms:RetireGrant")
	require.NoError(t, err)
	got = nil
	for _, a := range r.Allowed {
		require.Equal(t, kms.SourceGrant, a.Source)
		got = append(got, a.GrantName+" "+a.Principal)
	}
	require.ElementsMatch(t, []string{
		"reader " + home + "user/retirer", "reader " + home + "root", "writer " + home + "user/retirer", "writer " + home + "root",
		"leaver " + home + "user/leaver", "leaver " + home + "user/retirer", "leaver " + home + "root",
	}, got)

	for operation, want := range map[string]string{
		"ReEncrypt": "kms: ReEncrypt needs two permissions: ask for ReEncryptFrom and for ReEncryptTo",
		"ListKeys":  `kms: "ListKeys" is not an operation on a key`, "": `kms: "" is not an operation on a key`, "decrypt": `kms: "decrypt" is not an operation on a key`,
	} {
		_, err = svc.WhoCan(ctx, key.KeyId, operation)
		require.EqualError(t, err, want)
	}
	for _, id := range []string{"", "alias/none", "arn:aws:kms:eu-west-1:111122223333:key/" + key.KeyId, "arn:aws:kms:us-east-1:444455556666:alias/aws/s3"} {
		_, err = svc.WhoCan(ctx, id, "Decrypt")
		require.ErrorIs(t, err, kms.NotFoundException)
	}
}

// Conditions that depend on the request stay in the report, and so do texts with variables.
func TestWhoCanListsWhatRequestsDecide(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteeServicePrincipal: s3Service, RetiringPrincipal: appRole,
		Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}, Constraints: &kms.GrantConstraints{SourceArn: anySource}})
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: homeUser, RetiringPrincipal: homeUser,
		Operations: []kms.GrantOperation{kms.GrantOperationDecrypt, kms.GrantOperationRetireGrant}, Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "7"}}})
	statement := func(rest string) string {
		return `{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt",` + rest + `}`
	}
	putPolicy(t, svc, k.KeyId,
		statement(`"Resource":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}`),
		statement(`"Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"111122223333"}}`),
		statement(`"Resource":"*","Condition":{"StringEquals":{"kms:KeySpec":"${aws:PrincipalTag/spec}"}}`),
		statement(`"Resource":"arn:aws:kms:*:${aws:PrincipalAccount}:key/*"`),
		statement(`"Resource":"*","Condition":{"Null":{"kms:TrailingDaysWithoutKeyUsage":"true"}}`),
		`{"Effect":"Deny","Principal":{"AWS":"444455556666"},"Action":"kms:Decrypt","Resource":"*"}`)
	all := []kms.Policy{{Document: allowAll}} // which the policy does not ask for
	limited := withIdentity(t, appSession, kms.Identity{Policies: all, SessionPolicies: all})
	r, err := svc.WhoCan(t.Context(), k.KeyId, "Decrypt", limited)
	require.NoError(t, err)
	var got []string
	for _, a := range r.Allowed {
		got = append(got, fmt.Sprint(a.Principal, " if ", a.Conditions))
	}
	require.ElementsMatch(t, []string{
		`* if [StringEquals aws:PrincipalOrgID: "o-1"]`,
		`* if [StringEquals kms:CallerAccount: "111122223333"]`,
		`* if [StringEquals kms:KeySpec: "${aws:PrincipalTag/spec}"]`,
		`* if [Resource the key: "arn:aws:kms:*:${aws:PrincipalAccount}:key/*"]`,
		`* if []`,
		homeUser + ` if [EncryptionContextSubset kms:EncryptionContext:tenant: "7"]`,
		s3Service + ` if [SourceArn aws:SourceArn: "` + anySource + `"]`,
	}, got)
	require.Equal(t, []string{
		"The permissions boundary or the session policies of " + appSession + " may allow less.",
		"Identity-based policies, permissions boundaries and session policies of principals can deny what is allowed here.",
	}, r.Unknown)
	require.Len(t, r.Denied, 1)
	require.Equal(t, kms.SourceKeyPolicy, r.Denied[0].Source)

	r, err = svc.WhoCan(t.Context(), k.KeyId, "RetireGrant")
	require.NoError(t, err)
	got = nil
	for _, a := range r.Allowed {
		got = append(got, a.Principal)
	}
	require.ElementsMatch(t, []string{homeUser, homeRoot, appRole, homeRoot}, got, "each once for each grant")

	_, err = svc.WhoCan(t.Context(), createKey(t, svc.In("eu-west-1"), nil).Arn, "Decrypt")
	require.ErrorIs(t, err, kms.NotFoundException, "it is in another Region")
}

func TestDiffKeyPolicySaysWhoGainsAndLoses(t *testing.T) {
	svc, _ := newService(t)
	created, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	id := created.KeyMetadata.KeyId
	const (
		home  = "arn:aws:iam::111122223333:"
		root  = `{"Effect":"Allow","Principal":{"AWS":"` + home + `root"},"Action":"kms:*","Resource":"*"}`
		app   = `{"Effect":"Allow","Principal":{"AWS":"` + home + `role/app"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"}`
		via   = `{"Effect":"Allow","Principal":{"AWS":"` + home + `role/app"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"x"}}}`
		every = `{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`
		rsa   = `{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:KeySpec":"RSA_2048"}}}`
		deny  = `{"Effect":"Deny","Principal":{"AWS":"` + home + `role/app"},"Action":"kms:Decrypt","Resource":"*"}`
		no    = `{"Effect":"Deny","NotPrincipal":{"AWS":"` + home + `root"},"Action":"kms:Decrypt","Resource":"*"}`
	)
	for _, tt := range []struct {
		name          string
		before, after []string
		want          string
	}{
		{"the same, otherwise", []string{root, app}, []string{strings.Replace(root, home+"root", "111122223333", 1), strings.Replace(app, `["kms:Encrypt","kms:Decrypt"]`, `"kms:*crypt"`, 1)}, "nobody gains or loses anything\n"},
		{"new principal", []string{root}, []string{root, app}, home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n"},
		{"fewer", []string{root, app}, []string{root, strings.Replace(app, `"kms:Decrypt"`, `"kms:Sign"`, 1)}, home + "role/app gains\n    kms:Sign\n" + home + "role/app loses\n    kms:Decrypt\n"},
		{"a condition less", []string{root, via}, []string{root, app}, home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n"},
		{"a condition more", []string{root, app}, []string{root, via}, home + "role/app loses\n    kms:Decrypt, kms:Encrypt\n"},
		{"everyone", []string{root, app}, []string{root, app, every}, "everyone gains\n    kms:Decrypt\n"},
		{"of everyone", []string{root, every}, []string{root, every, strings.Replace(app, `"kms:Encrypt",`, "", 1)}, "nobody gains or loses anything\n"},
		{"what cannot be", []string{root}, []string{root, rsa}, "nobody gains or loses anything\n"},
		{"denied", []string{root, app}, []string{root, app, deny}, home + "role/app loses\n    kms:Decrypt\n" + home + "role/app will be denied\n    kms:Decrypt\n"},
		{"denied on a condition", []string{root}, []string{root, app, strings.Replace(deny, `"Resource":"*"`, `"Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"x"}}`, 1)},
			home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n" + home + "role/app will be denied\n    kms:Decrypt\n    if StringEquals kms:ViaService: \"x\"\n"},
		{"denied on its condition", []string{root}, []string{root, via, strings.Replace(via, `"Allow"`, `"Deny"`, 1)},
			home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:ViaService: \"x\"\n" + home + "role/app will be denied\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:ViaService: \"x\"\n"},
		{"the account denied", []string{root, app}, []string{root, app, strings.Replace(deny, "role/app", "root", 1)},
			"account 111122223333 loses\n    kms:Decrypt\n" + home + "role/app loses\n    kms:Decrypt\naccount 111122223333 will be denied\n    kms:Decrypt\n"},
		{"an exception", []string{root, no}, []string{root}, "everyone except " + home + "root will no longer be denied\n    kms:Decrypt\n"},
		{"another exception", []string{root, no}, []string{root, strings.Replace(no, home+"root", home+"role/app", 1)},
			"everyone except " + home + "role/app will be denied\n    kms:Decrypt\neveryone except " + home + "root will no longer be denied\n    kms:Decrypt\n"},
		{"two conditions", []string{root}, []string{root, strings.Replace(app, `,"kms:Decrypt"`, "", 1), strings.Replace(via, `"kms:Encrypt",`, "", 1)},
			home + "role/app gains\n    kms:Decrypt\n    if StringEquals kms:ViaService: \"x\"\n" + home + "role/app gains\n    kms:Encrypt\n"},
		{"another case", []string{root, via}, []string{root, strings.Replace(via, "kms:ViaService", "KMS:viaservice", 1)}, "nobody gains or loses anything\n"},
		{"another letter", []string{root, strings.Replace(via, "kms:ViaService", "kms:EncryptionContext:Ä", 1)}, []string{root, strings.Replace(via, "kms:ViaService", "kms:EncryptionContext:ä", 1)},
			home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:EncryptionContext:ä: \"x\"\n" + home + "role/app loses\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:EncryptionContext:Ä: \"x\"\n"},
		{"another value", []string{root, via}, []string{root, strings.Replace(via, `"x"`, `"y"`, 1)},
			home + "role/app gains\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:ViaService: \"y\"\n" + home + "role/app loses\n    kms:Decrypt, kms:Encrypt\n    if StringEquals kms:ViaService: \"x\"\n"},
		{"another kind", []string{root, strings.Replace(every, `"*"`, `{"Service":"a.example.com"}`, 1)}, []string{root, strings.Replace(every, `"*"`, `{"Federated":"a.example.com"}`, 1)},
			"a.example.com gains\n    kms:Decrypt\na.example.com loses\n    kms:Decrypt\n"},
		{"lockout", []string{root}, []string{app}, home + "role/app gains\n    kms:Decrypt, kms:Encrypt\naccount 111122223333 loses\n    kms:*\nThe caller could not change the new policy again.\n"},
		{"its session", []string{root, app}, []string{root, app, strings.Replace(app, "arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/s", 1)}, "nobody gains or loses anything\n"},
		{"sessions only", []string{root}, []string{root, strings.Replace(app, "arn:aws:iam::111122223333:role/app", "arn:aws:sts::111122223333:assumed-role/app/s", 1)}, "arn:aws:sts::111122223333:assumed-role/app/s gains\n    kms:Decrypt, kms:Encrypt\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			putPolicy(t, svc, id, tt.before...)
			d, err := svc.DiffKeyPolicy(t.Context(), id, `{"Version":"2012-10-17","Statement":[`+strings.Join(tt.after, ",")+`]}`)
			require.NoError(t, err)
			require.Equal(t, tt.want, d.String())
			require.Equal(t, strings.HasPrefix(tt.want, "nobody"), d.Empty())
			require.Equal(t, strings.Contains(tt.want, "could not change"), d.Lockout)
			text, err := json.Marshal(d)
			require.NoError(t, err)
			require.NotContains(t, string(text), "null")
		})
	}
	d, err := svc.As(principal(t, "arn:aws-cn:iam::111122223333:root")).DiffKeyPolicy(t.Context(), id, everybodys)
	require.NoError(t, err)
	require.True(t, d.Lockout, "an anonymous caller may do nothing")
	var invalid *iam.Error
	_, err = svc.DiffKeyPolicy(t.Context(), id, `{"Statement":[{"Effect":"Alow"}]}`)
	require.ErrorAs(t, err, &invalid)
	_, err = svc.DiffKeyPolicy(t.Context(), id, `{"x":"`+strings.Repeat("x", 40000)+`"}`)
	require.ErrorIs(t, err, kms.LimitExceededException)
	_, err = svc.DiffKeyPolicy(t.Context(), id, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"AIDAQQQQQQQQQQQQQQQQQ"},"Action":"kms:*","Resource":"*"}}`)
	require.ErrorIs(t, err, kms.MalformedPolicyDocumentException)
}

// TestDiffKeyPolicyMissesNothing changes policies at random: a principal that a new policy allows
// more must gain something, and one that it allows less must lose something.
func TestDiffKeyPolicyMissesNothing(t *testing.T) {
	svc, _ := newService(t)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	callers := []string{
		"arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/s", "logs.amazonaws.com", "arn:aws:iam::444455556666:user/bob",
	}
	policy := func() string {
		var statements []string
		for range 1 + random.IntN(3) {
			who := `{"AWS":"` + pick(append(callers[:4:4], "*", "111122223333", callers[5])...) + `"}`
			if random.IntN(8) == 0 {
				who = `{"Service":"logs.amazonaws.com"}`
			}
			effect, element := pick("Allow", "Allow", "Deny"), "Principal"
			if effect == "Deny" && random.IntN(4) == 0 {
				element = "NotPrincipal"
			}
			statements = append(statements, `{"Effect":"`+effect+`","`+element+`":`+who+`,"`+pick("Action", "Action", "NotAction")+`":"`+
				pick("kms:*", "kms:Decrypt", "kms:Encrypt", "kms:*crypt")+`","Resource":"*"`+
				pick("", "", `,"Condition":{"StringEquals":{"kms:EncryptionContext:a":"1"}}`, `,"Condition":{"StringNotEquals":{"kms:EncryptionContext:a":"1"}}`,
					`,"Condition":{"StringEquals":{"kms:KeySpec":"RSA_2048"}}`, `,"Condition":{"StringEquals":{"kms:KeyUsage":"ENCRYPT_DECRYPT"}}`)+`}`)
		}
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	differences := 0
	for range 400 {
		before, after := policy(), policy()
		created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: before, BypassPolicyLockoutSafetyCheck: true})
		require.NoError(t, err)
		id := created.KeyMetadata.KeyId
		d, err := svc.DiffKeyPolicy(t.Context(), id, after)
		require.NoError(t, err)
		say := func(list []kms.PolicyRight, action string) bool {
			return slices.ContainsFunc(list, func(r kms.PolicyRight) bool {
				return slices.Contains(r.Permissions, action) || r.Permissions[0] == "kms:*"
			})
		}
		compiled := [2]*iam.Policy{must(iam.Parse(before, iam.ResourcePolicy)), must(iam.Parse(after, iam.ResourcePolicy))}
		for _, name := range callers {
			who := must(iam.ParsePrincipal(name))
			for _, action := range []string{"kms:Decrypt", "kms:Encrypt", "kms:Sign"} {
				for _, context := range []iam.Values{{}, {"kms:EncryptionContext:a": iam.String("1")}} {
					if action == "kms:Sign" && len(context) > 0 {
						continue // it has none
					}
					values := iam.Values{"kms:KeySpec": iam.String("SYMMETRIC_DEFAULT"), "kms:KeyUsage": iam.String("ENCRYPT_DECRYPT")}
					for k, v := range context {
						values[k] = v
					}
					var allowed [2]iam.Match
					for i, p := range compiled {
						allowed[i] = p.Evaluate(&iam.Request{Principal: &who, Action: action, Resource: created.KeyMetadata.Arn, Context: values}).Match()
					}
					rank := func(m iam.Match) int { return min(int(m), int(iam.ByIssuer)) } // none, by the account, by name
					switch {
					case rank(allowed[0]) < rank(allowed[1]):
						differences++
						require.True(t, say(d.Gained, action) || say(d.NoLongerDenied, action), "%s gains %s:\n%s\n%s\n%s", name, action, before, after, d)
					case rank(allowed[0]) > rank(allowed[1]):
						differences++
						require.True(t, say(d.Lost, action) || say(d.NewlyDenied, action), "%s loses %s:\n%s\n%s\n%s", name, action, before, after, d)
					}
				}
			}
		}
	}
	require.Greater(t, differences, 1000)
}

func TestPolicyFromEventsAllowsWhatWasDone(t *testing.T) {
	var events []*audit.Event
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error { events = append(events, e); return nil })
	})
	ctx := t.Context()
	created, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: everybodys})
	require.NoError(t, err)
	other, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: everybodys})
	require.NoError(t, err)
	id, arn := created.KeyMetadata.KeyId, created.KeyMetadata.Arn
	app := svc.As(principal(t, "arn:aws:sts::111122223333:assumed-role/app/s1"))
	again := svc.As(principal(t, "arn:aws:sts::111122223333:assumed-role/app/s2"))
	alice := svc.As(principal(t, "arn:aws:iam::111122223333:user/alice"))
	bob := svc.As(must(principal(t, "arn:aws:iam::444455556666:user/bob").WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: allowAll}}})))
	logs := svc.As(must(kms.ServicePrincipal("logs.amazonaws.com")))
	sealed := must(app.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: map[string]string{"tenant": "7", "row": "1", "odd": "${x}"}})).CiphertextBlob
	must(again.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: map[string]string{"Tenant": "7", "row": "2", "odd": "${x}", "more": "1"}}))
	must(alice.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed, EncryptionContext: map[string]string{"tenant": "7", "row": "1", "odd": "${x}"}}))
	must(alice.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: sealed, SourceEncryptionContext: map[string]string{"tenant": "7", "row": "1", "odd": "${x}"}, DestinationKeyId: other.KeyMetadata.Arn,
		DestinationEncryptionContext: map[string]string{"to": "1"}}))
	must(bob.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: arn}))
	must(logs.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: arn}))
	_, err = bob.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed})
	require.Error(t, err, "it does not count")
	must(alice.Encrypt(ctx, &kms.EncryptInput{KeyId: other.KeyMetadata.KeyId, Plaintext: []byte("x")}))
	must(svc.ListAliases(ctx, nil))

	policy, err := kms.PolicyFromEvents(arn, slices.Values(events), kms.PolicyOptions{EncryptionContext: true})
	require.NoError(t, err)
	const condition = `{"Null":{"kms:EncryptionContext:row":"false"},"StringEquals":{"kms:EncryptionContext:Tenant":"7","kms:EncryptionContext:odd":"${$}{x}"}}`
	require.JSONEq(t, `{"Version":"2012-10-17","Statement":[
		{"Sid":"Used1","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:role/app"]},"Action":["kms:Encrypt"],"Resource":"*","Condition":`+condition+`},
		{"Sid":"Used2","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:user/alice"]},"Action":["kms:Decrypt","kms:ReEncryptFrom"],"Resource":"*",
			"Condition":{"StringEquals":{"kms:EncryptionContext:odd":"${$}{x}","kms:EncryptionContext:row":"1","kms:EncryptionContext:tenant":"7"}}},
		{"Sid":"Used3","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::444455556666:user/bob"],"Service":["logs.amazonaws.com"]},"Action":["kms:DescribeKey"],"Resource":"*"}
	]}`, policy)
	destination, err := kms.PolicyFromEvents(other.KeyMetadata.Arn, slices.Values(events), kms.PolicyOptions{EncryptionContext: true})
	require.NoError(t, err)
	require.Contains(t, destination, `"kms:EncryptionContext:to" : "1"`)
	require.NotContains(t, destination, "tenant")
	require.Contains(t, destination, `"kms:ReEncryptTo"`)
	require.NotContains(t, destination, "kms:ReEncryptFrom")
	slices.Reverse(events)
	var back []*audit.Event // as another program reads them
	for _, e := range events {
		var read audit.Event
		require.NoError(t, json.Unmarshal(must(json.Marshal(e)), &read))
		back = append(back, &read)
	}
	for _, list := range [][]*audit.Event{events, back} {
		again, err := kms.PolicyFromEvents(arn, slices.Values(list), kms.PolicyOptions{EncryptionContext: true})
		require.NoError(t, err)
		require.Equal(t, policy, again, "the order of the events does not matter")
	}

	// Under the policy the same calls are allowed, and no others.
	_, err = svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: policy, BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err)
	must(app.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), EncryptionContext: map[string]string{"tenant": "7", "row": "3", "odd": "${x}"}}))
	must(alice.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed, EncryptionContext: map[string]string{"tenant": "7", "row": "1", "odd": "${x}"}}))
	must(logs.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: arn}))
	for _, in := range []*kms.EncryptInput{{}, {EncryptionContext: map[string]string{"tenant": "8", "row": "3", "odd": "${x}"}}, {EncryptionContext: map[string]string{"tenant": "7", "odd": "${x}"}}} {
		in.KeyId, in.Plaintext = id, []byte("x")
		_, err = app.Encrypt(ctx, in)
		require.ErrorIs(t, err, kms.AccessDeniedException)
	}
	_, err = alice.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	require.ErrorIs(t, err, kms.AccessDeniedException)

	plain, err := kms.PolicyFromEvents(arn, slices.Values(events), kms.PolicyOptions{Administrators: []string{"arn:aws:iam::111122223333:role/admin", "111122223333"}})
	require.NoError(t, err)
	require.NotContains(t, plain, "Condition")
	administrators := must(iam.Parse(plain, iam.ResourcePolicy)).Statements()[0]
	require.Equal(t, "Administration", administrators.Sid())
	for _, use := range strings.Fields("Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext" +
		" GenerateDataKeyWithoutPlaintext Sign Verify GenerateMac VerifyMac DeriveSharedSecret Encapsulate Decapsulate CreateGrant") {
		require.False(t, administrators.MatchesAction("kms:"+use), use)
	}
	for _, management := range strings.Fields("CancelKeyDeletion CreateAlias DeleteAlias DeleteImportedKeyMaterial DescribeKey DisableKey DisableKeyRotation" +
		" EnableKey EnableKeyRotation GetKeyPolicy ImportKeyMaterial ListGrants PutKeyPolicy ReplicateKey RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion" +
		" TagResource UntagResource UpdateAlias UpdateKeyDescription UpdatePrimaryRegion") {
		require.True(t, administrators.MatchesAction("kms:"+management), management)
	}
	_, err = svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: other.KeyMetadata.KeyId, Policy: plain})
	require.NoError(t, err, "its administrators can change it again")

	for _, tt := range []struct {
		arn, want string
		options   kms.PolicyOptions
	}{
		{"alias/app", "is not the ARN of a key", kms.PolicyOptions{}},
		{"arn:aws:kms:us-east-1:111122223333:alias/app", "is not the ARN of a key", kms.PolicyOptions{}},
		{"arn:aws:s3:us-east-1:111122223333:key/app", "is not the ARN of a key", kms.PolicyOptions{}},
		{arn + "x", "no event is of a call that used the key", kms.PolicyOptions{}},
		{arn, `the administrator "*" is not a principal`, kms.PolicyOptions{Administrators: []string{"*"}}},
	} {
		_, err := kms.PolicyFromEvents(tt.arn, slices.Values(events), tt.options)
		require.ErrorContains(t, err, tt.want)
	}
	for _, change := range []func(*audit.Event){
		func(e *audit.Event) { e.UserIdentity = &audit.UserIdentity{Type: audit.IdentityIAMUser, ARN: "*"} },
		func(e *audit.Event) { e.UserIdentity = &audit.UserIdentity{Type: audit.IdentityIAMUser, ARN: "alice"} },
		func(e *audit.Event) { e.UserIdentity = nil },
		func(e *audit.Event) { e.EventName = "RetireGrant" },
		func(e *audit.Event) { e.EventName = "NoSuchOperation" },
		func(e *audit.Event) { e.ErrorCode = "AccessDenied" },
		func(e *audit.Event) { e.EventType = audit.ServiceEvent },
	} {
		e := *events[slices.IndexFunc(events, func(e *audit.Event) bool { return e.EventName == "Decrypt" && e.ErrorCode == "" })]
		change(&e)
		_, err := kms.PolicyFromEvents(arn, slices.Values([]*audit.Event{&e}), kms.PolicyOptions{})
		require.ErrorContains(t, err, "no event is of a call that used the key")
	}
	var many []*audit.Event
	for i := range 1000 {
		e := *events[0]
		for _, from := range events {
			if from.EventName == "Decrypt" && from.ErrorCode == "" {
				e = *from
			}
		}
		e.UserIdentity = &audit.UserIdentity{Type: audit.IdentityIAMUser, ARN: fmt.Sprintf("arn:aws:iam::111122223333:user/u%d", i)}
		many = append(many, &e)
	}
	_, err = kms.PolicyFromEvents(arn, slices.Values(many), kms.PolicyOptions{})
	require.ErrorIs(t, err, kms.LimitExceededException)
}

// The policy is valid, and allows what was done, whatever characters an encryption context has.
func TestPolicyFromEventsOfAnyCharacters(t *testing.T) {
	var events []*audit.Event
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error { events = append(events, e); return nil })
	})
	k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys})
	app := principal(t, appSession)
	contexts := []map[string]string{
		{"größe": "日本", "鍵": "x", "a\x01b": "y", "z": "a\x7f\u0085\u2028<😀${", "Ä": "1", "tenant": "7", "Tenant": "8"},
		{"größe": "日本", "鍵": "x", "a\x01b": "y", "z": "a\x7f\u0085\u2028<😀${", "ä": "2", "tenant": "7", "Tenant": "8"}, // to a policy another key
	}
	for _, context := range contexts {
		require.NoError(t, encryptAs(svc, app, k.KeyId, context))
	}
	policy, err := kms.PolicyFromEvents(k.Arn, slices.Values(events), kms.PolicyOptions{EncryptionContext: true})
	require.NoError(t, err)
	require.Contains(t, policy, `"kms:EncryptionContext:größe" : "\u65e5\u672c"`)
	setPolicy(t, svc, k.KeyId, policy)
	for _, context := range contexts {
		require.NoError(t, encryptAs(svc, app, k.KeyId, context), "%s", policy)
		context["größe"] = "日"
		requireRefused(t, encryptAs(svc, app, k.KeyId, context), "no resource-based policy allows")
	}
}
