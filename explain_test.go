package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// requireAgreement requires that an explanation, or why there is none, says of a call what the call
// then did.
func requireAgreement(t *testing.T, e *kms.Explanation, explainErr, callErr error) {
	t.Helper()
	var refusal *kms.Error
	isError := errors.As(callErr, &refusal)
	lockout := isError && strings.HasPrefix(refusal.Message, "The new key policy will not allow you")
	switch {
	case isError && (refusal.Code == kms.AccessDeniedException || lockout):
		require.NoError(t, explainErr)
		require.False(t, e.Allowed(), "the call was refused: %v\n%s", callErr, e)
		require.Equal(t, refusal.Code, e.Error)
		require.Equal(t, refusal.Message, e.Message)
		if !lockout { // the Deny of a new policy may lock out, which the refusal does not say
			require.Equal(t, e.Verdict == kms.VerdictExplicitDeny, strings.Contains(refusal.Message, "with an explicit deny in") || e.Reason == "explicit-deny")
		}
	case callErr == nil:
		require.NoError(t, explainErr)
		require.True(t, e.Allowed(), "the call was allowed\n%s", e)
		require.Empty(t, e.Message)
	case explainErr != nil:
		require.Equal(t, callErr.Error(), explainErr.Error())
		return
	default:
		require.True(t, e.Allowed(), "the call failed after it was authorized: %v\n%s", callErr, e)
	}
	require.NotEmpty(t, e.Because)
	require.Equal(t, e.Reason == "anonymous", strings.HasPrefix(e.Principal, "anonymous"))
	for _, d := range e.Decisions {
		require.Len(t, d.Steps, 7)
		decides := 0
		for _, step := range d.Steps {
			require.NotEmpty(t, step.Because, "%s", step.Step)
			if step.Decides {
				decides++
			}
		}
		require.NotZero(t, decides, "no step decides\n%s", e)
		require.LessOrEqual(t, decides, 2)
	}
}

// TestExplainAgreesWithDecisions explains the decisions of TestDecisions, and makes the calls.
func TestExplainAgreesWithDecisions(t *testing.T) {
	for _, raw := range readDecisions(t) {
		c, err := readDecision(string(raw))
		require.NoError(t, err)
		t.Run(c.Name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil {
					t.Fatalf("cannot be arranged: %v", p)
				}
			}()
			r := newReplay(t, c, string(raw))
			defer r.close()
			var e, again *kms.Explanation
			var explainErr error
			r.before = func(ctx context.Context, svc *kms.Service, in any) {
				e, explainErr = svc.Explain(ctx, in)
				again, _ = svc.Explain(ctx, in)
			}
			callErr := r.request()
			requireAgreement(t, e, explainErr, callErr)
			require.Equal(t, e, again, "an explanation changes nothing")
			if explainErr == nil && !slices.Contains([]string{"malformed-policy", "invalid-principal", "policy-too-large", "not-found"}, c.Expect.Reason) {
				require.Equal(t, c.Expect.Reason, e.Reason, "%s", e)
			}
		})
	}
}

// TestExplainNamesWhatDecides has one call for each kind of decision. The call itself must agree.
func TestExplainNamesWhatDecides(t *testing.T) {
	svc, _ := newService(t)
	ctx := t.Context()
	const (
		home, abroad = "111122223333", "444455556666"
		allow        = `{"Version":"2012-10-17","Statement":{"Sid":"All","Effect":"Allow","Action":"kms:*","Resource":"*"}}`
		deny         = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"No","Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}]}`
		otherwise    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`
	)
	user := func(account, name string, id kms.Identity) kms.Principal {
		p, err := principal(t, "arn:aws:iam::"+account+":user/"+name).WithIdentity(id)
		require.NoError(t, err)
		return p
	}
	policies := func(texts ...string) (list []kms.Policy) {
		for _, text := range texts {
			list = append(list, kms.Policy{Document: text})
		}
		return list
	}
	statement := func(sid, effect, name, action string) string {
		return `{"Sid":"` + sid + `","Effect":"` + effect + `","Principal":{"AWS":"` + name + `"},"Action":"` + action + `","Resource":"*"}`
	}
	key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: `{"Version":"2012-10-17","Statement":[` + strings.Join([]string{
		statement("Root", "Allow", home, "kms:*"),
		statement("Named", "Allow", "arn:aws:iam::"+home+":user/named", "kms:Encrypt"),
		statement("Denied", "Deny", "arn:aws:iam::"+home+":user/denied", "kms:Encrypt"),
		statement("Abroad", "Allow", abroad, "kms:Encrypt"),
		statement("AbroadNamed", "Allow", "arn:aws:iam::"+abroad+":user/named", "kms:Encrypt"),
	}, ",") + `]}`})
	require.NoError(t, err)
	arn := key.KeyMetadata.Arn
	unread, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Policy: everybodys})
	require.NoError(t, err)
	_, err = svc.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: unread.KeyMetadata.KeyId, BypassPolicyLockoutSafetyCheck: true,
		Policy: `{"Version":"2012-10-17","Statement":[` + statement("", "Allow", "arn:aws:iam::"+home+":user/nobody", "kms:*") + `]}`})
	require.NoError(t, err)
	grant := func(grantee string, operations ...kms.GrantOperation) *kms.CreateGrantOutput {
		out, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: arn, GranteePrincipal: grantee, RetiringPrincipal: "arn:aws:iam::" + home + ":user/retirer",
			Operations: operations, Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "7"}}})
		require.NoError(t, err)
		return out
	}
	granted := grant("arn:aws:iam::"+home+":user/grantee", kms.GrantOperationEncrypt, kms.GrantOperationCreateGrant)
	retirable := grant("arn:aws:iam::"+home+":user/other", kms.GrantOperationEncrypt)
	encrypt := &kms.EncryptInput{KeyId: arn, Plaintext: []byte("the secret text")}
	withContext := &kms.EncryptInput{KeyId: arn, Plaintext: []byte("the secret text"), EncryptionContext: map[string]string{"tenant": "7"}}
	retire := &kms.RetireGrantInput{KeyId: arn, GrantId: retirable.GrantId, DryRun: true}
	for _, tt := range []struct {
		name     string
		caller   kms.Principal
		in       any
		reason   string
		decides  string // the steps
		contains string
	}{
		{"key policy", user(home, "named", kms.Identity{}), encrypt, "key-policy", "key policy", `statement 1 "Named" at 1:`},
		{"key policy that a boundary does not limit", user(home, "named", kms.Identity{Boundary: &policies(otherwise)[0]}), encrypt, "key-policy", "key policy", "does not allow, and does not limit what decides\n"},
		{"root", rootOf(t, home), encrypt, "account-root", "delegation", "whose root the caller is"},
		{"identity", user(home, "alice", kms.Identity{Policies: policies(otherwise, allow)}), encrypt, "identity-policy", "identity policies", `statement 0 "All" at 1:37 of identity-based policy 1`},
		{"grant", user(home, "grantee", kms.Identity{}), withContext, "grant", "grants", granted.GrantId},
		{"cross-account", user(abroad, "named", kms.Identity{Policies: policies(allow)}), encrypt, "cross-account", "key policy, identity policies", `"AbroadNamed"`},
		{"cross-account by delegation", user(abroad, "alice", kms.Identity{Policies: policies(allow)}), encrypt, "cross-account", "delegation, identity policies", `"Abroad"`},
		{"keyless", user(home, "alice", kms.Identity{Policies: policies(otherwise)}), &kms.ListKeysInput{}, "identity-policy", "identity policies", "the operation uses no key"},
		{"retire", user(home, "retirer", kms.Identity{}), retire, "retiring-principal", "grants", "key policies have no say"},
		{"retire by the account", user(home, "alice", kms.Identity{Policies: policies(allow)}), retire, "issuing-account", "grants", "the account that created the grant"},

		{"deny of the key policy", user(home, "denied", kms.Identity{Policies: policies(allow)}), encrypt, "explicit-deny", "explicit deny", `statement 2 "Denied"`},
		{"deny of an identity policy", user(home, "named", kms.Identity{Policies: policies(allow, deny)}), encrypt, "explicit-deny", "explicit deny", `"No" at 1:85 of identity-based policy 1`},
		{"deny of the boundary", user(home, "named", kms.Identity{Boundary: &policies(deny)[0]}), encrypt, "explicit-deny", "explicit deny", "of permissions boundary denies it"},
		{"deny of a session policy", user(home, "named", kms.Identity{SessionPolicies: policies(deny)}), encrypt, "explicit-deny", "explicit deny", "of session policy 0 denies it"},
		{"deny without a key", user(home, "alice", kms.Identity{Policies: policies(deny)}), &kms.ListKeysInput{}, "identity-policy", "identity policies", "allowed by statement 0"},
		{"no key policy", user(home, "alice", kms.Identity{Policies: policies(allow)}), &kms.EncryptInput{KeyId: unread.KeyMetadata.KeyId, Plaintext: []byte("x")}, "no-key-policy-allow", "key policy", "another principal"},
		{"no identity policy", user(home, "alice", kms.Identity{Policies: policies(otherwise)}), encrypt, "no-identity-allow", "identity policies", "(Allow): another action"},
		{"no identity policy without a key", user(home, "alice", kms.Identity{}), &kms.ListKeysInput{}, "no-identity-allow", "identity policies", "the caller has none"},
		{"boundary", user(home, "alice", kms.Identity{Policies: policies(allow), Boundary: &policies(otherwise)[0]}), encrypt, "boundary", "permissions boundary", "does not allow\n"},
		{"session", user(home, "alice", kms.Identity{Policies: policies(allow), SessionPolicies: policies(otherwise)}), encrypt, "session-policy", "session policies", "does not allow\n"},
		{"grant with other constraints", user(home, "grantee", kms.Identity{}), encrypt, "no-identity-allow", "identity policies", `EncryptionContextSubset kms:EncryptionContext:tenant: expected "7", the key is absent`},
		{"wider grant", user(home, "grantee", kms.Identity{}), &kms.CreateGrantInput{KeyId: arn, GranteePrincipal: "arn:aws:iam::" + home + ":user/x", Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}},
			"grant-wider-than-parent", "identity policies, grants", "would allow more"},
		{"not the retirer", user(home, "grantee", kms.Identity{}), retire, "not-retirer", "grants", "does not let the caller retire it"},
		{"no identity policy abroad", user(abroad, "named", kms.Identity{}), encrypt, "no-identity-allow", "identity policies", "must allow it, too"},
		{"not for other accounts", user(abroad, "named", kms.Identity{Policies: policies(allow)}), &kms.DisableKeyInput{KeyId: arn}, "cross-account-operation", "", "is not for keys of other accounts"},
		{"no such key abroad", user(abroad, "named", kms.Identity{Policies: policies(allow)}), &kms.EncryptInput{KeyId: arn[:len(arn)-1] + "z", Plaintext: []byte("x")}, "", "", ""},
		{"anonymous", kms.Principal{}, &kms.ListKeysInput{}, "anonymous", "", "no identity in the partition"},
		{"another retirer's account", rootOf(t, home), &kms.ListRetirableGrantsInput{RetiringPrincipal: "arn:aws:iam::" + abroad + ":user/x"}, "other-account", "identity policies", "another account"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			view := svc.As(tt.caller)
			e, explainErr := view.Explain(ctx, tt.in)
			callErr := func() error {
				for _, op := range kms.Operations() {
					if reflect.TypeOf(op.NewInput()) == reflect.TypeOf(tt.in) {
						_, err := op.Invoke(ctx, view, tt.in)
						return err
					}
				}
				panic("no such operation")
			}()
			requireAgreement(t, e, explainErr, callErr)
			if tt.reason == "" {
				return
			}
			require.Equal(t, tt.reason, e.Reason, "%s", e)
			var decides []string
			if n := len(e.Decisions); n > 0 {
				for _, step := range e.Decisions[n-1].Steps {
					if step.Decides {
						decides = append(decides, step.Step)
					}
				}
			}
			require.Equal(t, tt.decides, strings.Join(decides, ", "), "%s", e)
			require.Contains(t, e.String(), tt.contains)
			text, err := json.Marshal(e)
			require.NoError(t, err)
			for _, where := range []string{e.String(), string(text)} {
				require.NotContains(t, where, "the secret text")
				require.NotContains(t, where, "dGhlIHNlY3JldCB0ZXh0") // in base64
			}
		})
	}
}

// A call without its alias has no decision about it, which could refuse.
func TestExplainNeedsTheAliasName(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	onKeys := svc.As(with(t, appSession, policy("Allow", "kms:*", "arn:aws:kms:*:*:key/*")))
	_, err := onKeys.Explain(t.Context(), &kms.CreateAliasInput{TargetKeyId: k.KeyId})
	requireError(t, err, kms.ValidationException, "The alias name is missing.")
	e, err := onKeys.Explain(t.Context(), &kms.CreateAliasInput{TargetKeyId: k.KeyId, AliasName: "alias/x"})
	require.NoError(t, err)
	require.False(t, e.Allowed())
}

func TestExplainChangesNothing(t *testing.T) {
	var events, intercepted int
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(context.Context, *audit.Event) error { events++; return nil })
		c.Intercept = func(ctx context.Context, _ kms.Call, next func(context.Context) (any, error)) (any, error) {
			intercepted++
			return next(ctx)
		}
	})
	ctx := t.Context()
	key, err := svc.CreateKey(ctx, nil)
	require.NoError(t, err)
	id := key.KeyMetadata.KeyId
	for _, in := range []any{
		&kms.EncryptInput{KeyId: id, Plaintext: []byte("x")}, &kms.DisableKeyInput{KeyId: id}, &kms.CreateKeyInput{}, &kms.ScheduleKeyDeletionInput{KeyId: id},
		&kms.CreateAliasInput{AliasName: "alias/x", TargetKeyId: id}, &kms.PutKeyPolicyInput{KeyId: id, Policy: everybodys}, &kms.GenerateRandomInput{},
		&kms.CreateGrantInput{KeyId: id, GranteePrincipal: "arn:aws:iam::111122223333:user/x", Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}},
	} {
		e, err := svc.Explain(ctx, in)
		require.NoError(t, err)
		require.True(t, e.Allowed(), "%s", e)
	}
	require.Equal(t, 1, events, "only that of CreateKey")
	require.Equal(t, 1, intercepted)
	keys, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	require.Len(t, keys.Keys, 1)
	described, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
	require.NoError(t, err)
	require.Equal(t, kms.KeyStateEnabled, described.KeyMetadata.KeyState)
	usage, err := svc.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: id})
	require.NoError(t, err)
	require.Empty(t, usage.KeyLastUsage.Operation)
	policy, err := svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id})
	require.NoError(t, err)
	require.NotContains(t, policy.Policy, `"*" : "*"`)
	require.Contains(t, policy.Policy, "Enable IAM User Permissions")
}

func TestExplainOfWhatIsOnlyObserved(t *testing.T) {
	svc, _ := newService(t, func(c *kms.Config) { c.Authorization = kms.Observe })
	key, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	alice := svc.As(principal(t, "arn:aws:iam::111122223333:user/alice"))
	in := &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")}
	_, err = alice.Encrypt(t.Context(), in)
	require.NoError(t, err, "it passes")
	e, err := alice.Explain(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "no-identity-allow", e.Reason)
	require.Contains(t, e.Message, "is not authorized to perform: kms:Encrypt")
}

func TestExplainRefusesWhatIsNoRequest(t *testing.T) {
	svc, _ := newService(t)
	for _, in := range []any{nil, "Decrypt", kms.DecryptInput{}, &kms.DecryptOutput{}} {
		_, err := svc.Explain(t.Context(), in)
		require.ErrorContains(t, err, "takes the input of an operation")
	}
	_, err := svc.Explain(t.Context(), &kms.EncryptInput{})
	require.ErrorIs(t, err, kms.NotFoundException)
	_, err = svc.Explain(t.Context(), (*kms.DescribeKeyInput)(nil))
	require.ErrorIs(t, err, kms.NotFoundException)
	_, err = svc.In("not a Region").Explain(t.Context(), &kms.ListKeysInput{})
	require.ErrorIs(t, err, kms.ValidationException)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = svc.Explain(canceled, &kms.ListKeysInput{})
	require.ErrorIs(t, err, context.Canceled)
	e, err := svc.Explain(t.Context(), (*kms.ListKeysInput)(nil))
	require.NoError(t, err)
	require.True(t, e.Allowed())
	require.NoError(t, svc.Close())
	_, err = svc.Explain(t.Context(), &kms.ListKeysInput{})
	require.ErrorIs(t, err, kms.ErrClosed)
	_, err = svc.WhoCan(t.Context(), "x", "Decrypt")
	require.ErrorIs(t, err, kms.ErrClosed)
}

// TestNoOperationPanicsInExplain passes each operation an input with nothing but a key.
func TestNoOperationPanicsInExplain(t *testing.T) {
	var log strings.Builder
	svc, _ := newService(t, func(c *kms.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, spec := range []kms.KeySpec{kms.KeySpecSymmetricDefault, kms.KeySpecECCNISTP256, kms.KeySpecHMAC256} {
		usage := map[kms.KeySpec]kms.KeyUsageType{kms.KeySpecECCNISTP256: kms.KeyUsageSignVerify, kms.KeySpecHMAC256: kms.KeyUsageGenerateVerifyMac}[spec]
		key, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
		require.NoError(t, err)
		for _, op := range kms.Operations() {
			in := op.NewInput()
			for _, name := range []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"} {
				setMember(in, name, key.KeyMetadata.KeyId)
			}
			_, err := svc.Explain(t.Context(), in)
			require.NotErrorIs(t, err, kms.KMSInternalException, op.Name())
		}
	}
	require.Empty(t, log.String())
}

func TestExplainBoundsTheGrantsThatItLists(t *testing.T) {
	svc, _ := newService(t)
	ctx := t.Context()
	key, err := svc.CreateKey(ctx, nil)
	require.NoError(t, err)
	const alice = "arn:aws:iam::111122223333:user/alice"
	create := func(operation kms.GrantOperation) string {
		out, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key.KeyMetadata.KeyId, GranteePrincipal: alice, Operations: []kms.GrantOperation{operation}})
		require.NoError(t, err)
		return out.GrantId
	}
	for range 105 {
		create(kms.GrantOperationDecrypt)
	}
	grants := func() (e *kms.Explanation, step kms.ExplainedStep) {
		e, err := svc.As(principal(t, alice)).Explain(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId})
		require.NoError(t, err)
		return e, e.Decisions[0].Steps[6]
	}
	e, step := grants()
	require.False(t, e.Allowed())
	require.Len(t, step.Grants, 100)
	require.Equal(t, "none of more than 100 grants to the caller allows", step.Because)
	require.Equal(t, "it is for other operations", step.Grants[0].Because)
	id := create(kms.GrantOperationEncrypt)
	e, step = grants()
	require.True(t, e.Allowed())
	require.Len(t, step.Grants, 100)
	require.Equal(t, id, step.Grants[0].ID, "the one that decides comes first")
	require.True(t, step.Grants[0].Allows)
	require.Equal(t, 2, strings.Count(e.String(), id)-strings.Count(e.Because, id), "the others are not printed")
}

// An explanation shows of each grant what keeps it from allowing.
func TestExplainShowsWhatKeepsAGrantFromAllowing(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys})
	third := svc.As(rootOf(t, "777788889999"))
	for issuer, constraints := range map[*kms.Service]*kms.GrantConstraints{
		svc: {EncryptionContextEquals: map[string]string{"a": "1"}, SourceArn: anySource}, third: {},
	} {
		createGrant(t, issuer, &kms.CreateGrantInput{KeyId: k.Arn, GranteePrincipal: appRole, Constraints: constraints, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	}
	setPolicy(t, svc, k.KeyId, onlyRoot)
	e, err := svc.As(principal(t, appSession)).Explain(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, EncryptionContext: map[string]string{"a": "1", "b": "2"}})
	require.NoError(t, err)
	require.False(t, e.Allowed())
	because := map[string]string{}
	for _, g := range e.Decisions[0].Steps[6].Grants {
		because[g.Issuer] = g.Because
		if g.Issuer == "111122223333" {
			require.Equal(t, []kms.ExplainedCondition{
				{Operator: "SourceArn", Key: "aws:SourceArn", Expected: []string{anySource}},
				{Operator: "EncryptionContextEquals", Key: "kms:EncryptionContext:a", Expected: []string{"1"}, Present: true, Seen: []string{"1"}, Holds: true},
				{Operator: "EncryptionContextEquals", Key: "kms:EncryptionContext:b", Present: true, Seen: []string{"2"}},
			}, g.Constraints)
		}
	}
	require.Equal(t, map[string]string{
		"111122223333": "the call does not meet its constraints",
		"777788889999": "the account that created it has no say, neither over the key nor over the caller",
	}, because)
}
