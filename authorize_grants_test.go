package kms_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

const onlyRoot = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/admin"},"Action":"kms:*","Resource":"*"}}`

func TestAGrantAllowsOnlyWhatItsConstraintsMeet(t *testing.T) {
	type pairs = map[string]string
	for _, test := range []struct {
		name            string
		constraints     kms.GrantConstraints
		allowed, denied []pairs
	}{
		{"none", kms.GrantConstraints{}, []pairs{nil, {"a": "1"}}, nil},
		{"equals", kms.GrantConstraints{EncryptionContextEquals: pairs{"a": "1", "b": "2"}},
			[]pairs{{"a": "1", "b": "2"}, {"A": "1", "b": "2"}}, []pairs{nil, {"a": "1"}, {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x"}, {"a": "1", "A": "1", "b": "2"}, {"a": "1", "A": "1"}}},
		{"equals in two spellings", kms.GrantConstraints{EncryptionContextEquals: pairs{"a": "1", "A": "1"}},
			[]pairs{{"a": "1", "A": "1"}}, []pairs{{"a": "1"}, {"a": "1", "b": "2"}}},
		{"subset", kms.GrantConstraints{EncryptionContextSubset: pairs{"a": "1", "b": "2"}},
			[]pairs{{"a": "1", "b": "2"}, {"a": "1", "B": "2", "c": "3"}}, []pairs{nil, {"a": "1"}, {"b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}}},
		{"value with case", kms.GrantConstraints{EncryptionContextSubset: pairs{"a": "x"}}, []pairs{{"a": "x"}}, []pairs{{"a": "X"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc, _ := newService(t)
			k := createKey(t, svc, nil)
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Constraints: &test.constraints,
				Operations: []kms.GrantOperation{kms.GrantOperationEncrypt, kms.GrantOperationDescribeKey}})
			setPolicy(t, svc, k.KeyId, onlyRoot)
			for _, c := range test.allowed {
				require.NoError(t, encryptAs(svc, principal(t, appSession), k.KeyId, c), c)
			}
			for _, c := range test.denied {
				requireRefused(t, encryptAs(svc, principal(t, appSession), k.KeyId, c), "no resource-based policy allows")
			}
			require.NoError(t, describeAs(svc, principal(t, appSession), k.KeyId), "it has no encryption context")
		})
	}
}

// Constraints and condition keys see the encryption context of every operation that has one.
func TestTheContextOfEveryOperationIsLookedAt(t *testing.T) {
	svc, _ := newService(t)
	k, other := createKey(t, svc, nil), createKey(t, svc, nil)
	ignore := []kms.DryRunModifierType{kms.DryRunModifierIgnoreCiphertext}
	type pairs = map[string]string
	for permission, input := range map[string]func(c pairs) any{
		"Encrypt": func(c pairs) any {
			return &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), EncryptionContext: c, DryRun: true}
		},
		"Decrypt": func(c pairs) any {
			return &kms.DecryptInput{KeyId: k.KeyId, EncryptionContext: c, DryRun: true, DryRunModifiers: ignore}
		},
		"GenerateDataKey": func(c pairs) any {
			return &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256, EncryptionContext: c, DryRun: true}
		},
		"GenerateDataKeyWithoutPlaintext": func(c pairs) any {
			return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256, EncryptionContext: c, DryRun: true}
		},
		"GenerateDataKeyPair": func(c pairs) any {
			return &kms.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256, EncryptionContext: c, DryRun: true}
		},
		"GenerateDataKeyPairWithoutPlaintext": func(c pairs) any {
			return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: k.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256, EncryptionContext: c, DryRun: true}
		},
		"ReEncryptFrom": func(c pairs) any {
			return &kms.ReEncryptInput{SourceKeyId: k.KeyId, DestinationKeyId: other.KeyId, SourceEncryptionContext: c, DryRun: true, DryRunModifiers: ignore}
		},
		"ReEncryptTo": func(c pairs) any {
			return &kms.ReEncryptInput{SourceKeyId: other.KeyId, DestinationKeyId: k.KeyId, DestinationEncryptionContext: c, DryRun: true, DryRunModifiers: ignore}
		},
	} {
		onOther := policy("Allow", "kms:ReEncrypt*", other.Arn)
		subset, equals := &kms.GrantConstraints{EncryptionContextSubset: pairs{"tenant": "red"}}, &kms.GrantConstraints{EncryptionContextEquals: pairs{"tenant": "red"}}
		for i, constraints := range []*kms.GrantConstraints{subset, equals, nil} {
			user := fmt.Sprint("arn:aws:iam::111122223333:user/", permission, i)
			p := with(t, user, onOther, condition("kms:"+permission, "StringEquals", "kms:EncryptionContext:tenant", "red"))
			if constraints != nil {
				createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: user, Constraints: constraints, Operations: []kms.GrantOperation{kms.GrantOperation(permission)}})
				p = with(t, user, onOther)
			}
			for value, allowed := range map[string]bool{"red": true, "blue": false} {
				in := input(pairs{"tenant": value})
				_, err := operationOf(t, in).Invoke(t.Context(), svc.As(p), in)
				if allowed {
					require.ErrorIs(t, err, kms.DryRunOperationException, "%s %v", permission, constraints)
				} else {
					requireRefused(t, err, "kms:"+permission)
				}
			}
		}
	}
}

func TestAGrantNamesItsGrantee(t *testing.T) {
	const id = "AROAIIAUMCEXAMPLE0001"
	session, issuer := with(t, appSession), withIdentity(t, appSession, kms.Identity{Issuer: "arn:aws:iam::111122223333:role/team/app", UniqueID: id + ":one"})
	for _, test := range []struct {
		grantee         string
		allowed, denied []kms.Principal
	}{
		{appRole, []kms.Principal{session, principal(t, appRole)}, []kms.Principal{issuer, principal(t, "arn:aws:iam::111122223333:user/app"), principal(t, extSession)}},
		{"arn:aws:iam::111122223333:role/team/app", []kms.Principal{issuer}, []kms.Principal{session}},
		{appSession, []kms.Principal{session, issuer}, []kms.Principal{principal(t, "arn:aws:sts::111122223333:assumed-role/app/two"), principal(t, appRole)}},
		{id, []kms.Principal{issuer}, []kms.Principal{session}},
		{id + ":one", []kms.Principal{issuer}, []kms.Principal{session, withIdentity(t, appSession, kms.Identity{UniqueID: id + ":two"})}},
		{"arn:aws:iam::111122223333:root", []kms.Principal{rootOf(t, "111122223333"), with(t, appSession, allowAll)}, []kms.Principal{session, with(t, extSession, allowAll)}},
	} {
		t.Run(test.grantee, func(t *testing.T) {
			svc, _ := newService(t)
			k := createKey(t, svc, nil)
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: test.grantee, Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey}})
			setPolicy(t, svc, k.KeyId, onlyRoot)
			for _, p := range test.allowed {
				require.NoError(t, describeAs(svc, p, k.Arn))
			}
			for _, p := range test.denied {
				require.ErrorIs(t, describeAs(svc, p, k.Arn), kms.AccessDeniedException)
			}
		})
	}
}

// The limits of a session hold for a grant to its role, and not for one to the session itself.
func TestASessionPolicyAndABoundaryLimitAGrantToARole(t *testing.T) {
	other := kms.Policy{Document: policy("Allow", "s3:*", "*")}
	const roleID = "AROAIIAUMCEXAMPLE0001"
	for grantee, limited := range map[string]bool{appRole: true, appSession: false, roleID: true, roleID + ":one": false} {
		for reason, id := range map[string]kms.Identity{"session policy": {SessionPolicies: []kms.Policy{other}}, "permissions boundary": {Boundary: &other}} {
			svc, _ := newService(t)
			k := createKey(t, svc, nil)
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: grantee, Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey}})
			setPolicy(t, svc, k.KeyId, onlyRoot)
			role, session := id, id
			role.UniqueID, session.UniqueID = roleID, roleID+":one"
			if limited { // nor is the role itself more than its sessions
				requireRefused(t, describeAs(svc, withIdentity(t, appRole, role), k.Arn), "no "+reason+" allows")
			}
			err := describeAs(svc, withIdentity(t, appSession, session), k.Arn)
			if limited {
				requireRefused(t, err, "no "+reason+" allows")
			} else {
				require.NoError(t, err)
			}
		}
	}
}

// A grant of an account that has no say, neither over the key nor over the caller, allows nothing.
func TestAGrantOfAThirdAccountDoesNotCount(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	setPolicy(t, svc, k.KeyId, everybodys)
	third := svc.As(with(t, "arn:aws:sts::777788889999:assumed-role/x/y", allowAll))
	_, err := third.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.Arn, GranteePrincipal: extRole, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	require.NoError(t, err)
	setPolicy(t, svc, k.KeyId, onlyRoot)
	requireRefused(t, encryptAs(svc, with(t, extSession, allowAll), k.Arn, nil), hiddenResource)
}

func TestAGrantFromAGrantIsNotWider(t *testing.T) {
	type pairs = map[string]string
	equals := func(p pairs) *kms.GrantConstraints { return &kms.GrantConstraints{EncryptionContextEquals: p} }
	subset := func(p pairs) *kms.GrantConstraints { return &kms.GrantConstraints{EncryptionContextSubset: p} }
	source := func(arn string) *kms.GrantConstraints { return &kms.GrantConstraints{SourceArn: arn} }
	const bucket = "arn:aws:s3:::documents"
	for _, test := range []struct {
		name          string
		parent, child *kms.GrantConstraints
		operations    []kms.GrantOperation
		allowed       bool
	}{
		{"the same", nil, nil, []kms.GrantOperation{"CreateGrant", "Encrypt"}, true},
		{"fewer operations", nil, nil, []kms.GrantOperation{"Encrypt"}, true},
		{"another operation", nil, nil, []kms.GrantOperation{"Decrypt"}, false},
		{"one operation more", nil, nil, []kms.GrantOperation{"Encrypt", "Decrypt"}, false},
		{"a constraint more", nil, subset(pairs{"a": "1"}), []kms.GrantOperation{"Encrypt"}, true},
		{"no constraint", subset(pairs{"a": "1"}), nil, []kms.GrantOperation{"Encrypt"}, false},
		{"the same subset", subset(pairs{"a": "1"}), subset(pairs{"A": "1"}), []kms.GrantOperation{"Encrypt"}, true},
		{"a larger subset", subset(pairs{"a": "1"}), subset(pairs{"a": "1", "b": "2"}), []kms.GrantOperation{"Encrypt"}, true},
		{"a smaller subset", subset(pairs{"a": "1", "b": "2"}), subset(pairs{"a": "1"}), []kms.GrantOperation{"Encrypt"}, false},
		{"another subset", subset(pairs{"a": "1"}), subset(pairs{"a": "2"}), []kms.GrantOperation{"Encrypt"}, false},
		{"equals for subset", subset(pairs{"a": "1"}), equals(pairs{"a": "1", "b": "2"}), []kms.GrantOperation{"Encrypt"}, true},
		{"equals without the subset", subset(pairs{"a": "1"}), equals(pairs{"b": "2"}), []kms.GrantOperation{"Encrypt"}, false},
		{"the same equals", equals(pairs{"a": "1"}), equals(pairs{"a": "1"}), []kms.GrantOperation{"Encrypt"}, true},
		{"more equals", equals(pairs{"a": "1"}), equals(pairs{"a": "1", "b": "2"}), []kms.GrantOperation{"Encrypt"}, false},
		{"subset for equals", equals(pairs{"a": "1"}), subset(pairs{"a": "1"}), []kms.GrantOperation{"Encrypt"}, false},
		{"no source", source(bucket), nil, []kms.GrantOperation{"Encrypt"}, false},
		{"the same source", source(bucket), source(bucket), []kms.GrantOperation{"Encrypt"}, true},
		{"another source", source(bucket), source(bucket + "2"), []kms.GrantOperation{"Encrypt"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc, _ := newService(t)
			k := createKey(t, svc, nil)
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Constraints: test.parent, Operations: []kms.GrantOperation{"CreateGrant", "Encrypt"}})
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{"Decrypt"}}) // two parents do not add up
			ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{SourceARN: bucket, ViaService: "s3.us-east-1.amazonaws.com"})
			_, err := svc.As(principal(t, appSession)).CreateGrant(ctx, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: fixtureAlice, Constraints: test.child, Operations: test.operations})
			if test.allowed {
				require.NoError(t, err)
			} else {
				requireRefused(t, err, "kms:CreateGrant on resource: "+k.Arn+" because no identity-based policy allows")
			}
		})
	}
}

func TestWhoMayRetireAGrant(t *testing.T) {
	mayRetire := policy("Allow", "kms:RetireGrant", "*")
	alice, app := principal(t, fixtureAlice), principal(t, appSession)
	for _, test := range []struct {
		name    string
		grant   kms.CreateGrantInput
		caller  kms.Principal
		allowed bool
	}{
		{"the retiring principal", kms.CreateGrantInput{RetiringPrincipal: fixtureAlice}, alice, true},
		{"another principal", kms.CreateGrantInput{RetiringPrincipal: fixtureAlice}, app, false},
		{"the retiring principal, beside a grantee that may", kms.CreateGrantInput{RetiringPrincipal: fixtureAlice, GranteePrincipal: appRole, Operations: []kms.GrantOperation{"Decrypt", "RetireGrant"}}, alice, true},
		{"a name in another case", kms.CreateGrantInput{RetiringPrincipal: "arn:aws:iam::111122223333:user/Alice"}, alice, false},
		{"whom its own retiring account does not let", kms.CreateGrantInput{RetiringPrincipal: homeRoot}, app, false},
		{"a session of the retiring role", kms.CreateGrantInput{RetiringPrincipal: appRole}, app, true},
		{"the grantee of a grant without RetireGrant", kms.CreateGrantInput{GranteePrincipal: appRole}, app, false},
		{"the grantee of a grant with RetireGrant", kms.CreateGrantInput{GranteePrincipal: appRole, Operations: []kms.GrantOperation{"Decrypt", "RetireGrant"}}, app, true},
		{"the root of the account", kms.CreateGrantInput{}, rootOf(t, "111122223333"), true},
		{"whom the account lets", kms.CreateGrantInput{}, with(t, appSession, mayRetire), true},
		{"a Deny of its own", kms.CreateGrantInput{RetiringPrincipal: fixtureAlice}, with(t, fixtureAlice, policy("Deny", "kms:RetireGrant", "*")), false},
		{"another account", kms.CreateGrantInput{}, with(t, extSession, mayRetire), false},
		{"the retiring principal of another account", kms.CreateGrantInput{RetiringPrincipal: extRole}, with(t, extSession), false},
		{"the same with permission", kms.CreateGrantInput{RetiringPrincipal: extRole}, with(t, extSession, mayRetire), true},
		{"the root of a retiring account", kms.CreateGrantInput{RetiringPrincipal: "arn:aws:iam::444455556666:root"}, rootOf(t, "444455556666"), true},
		{"whom a retiring account lets", kms.CreateGrantInput{RetiringPrincipal: "arn:aws:iam::444455556666:root"}, with(t, extSession, mayRetire), true},
		{"whom a retiring account does not let", kms.CreateGrantInput{RetiringPrincipal: "arn:aws:iam::444455556666:root"}, with(t, extSession), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc, _ := newService(t)
			k := createKey(t, svc, nil)
			setPolicy(t, svc, k.KeyId, everybodys)
			for _, byToken := range []bool{false, true} {
				test.grant.KeyId = k.KeyId
				g := createGrant(t, svc, &test.grant)
				in := &kms.RetireGrantInput{KeyId: k.Arn, GrantId: g.GrantId}
				if byToken {
					in = &kms.RetireGrantInput{GrantToken: g.GrantToken}
				}
				_, err := svc.As(test.caller).RetireGrant(t.Context(), in)
				if test.allowed {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, kms.AccessDeniedException)
				}
				_, err = svc.As(test.caller).RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: k.Arn, GrantId: g.GrantId})
				require.NotErrorIs(t, err, kms.KMSInternalException)
			}
		})
	}
}

func TestRevokingNeedsTheKeyPolicy(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, RetiringPrincipal: fixtureAlice})
	revoke := func(p kms.Principal) error {
		_, err := svc.As(p).RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: k.KeyId, GrantId: g.GrantId})
		return err
	}
	requireRefused(t, revoke(principal(t, fixtureAlice)), "no identity-based policy allows the kms:RevokeGrant action")
	require.NoError(t, revoke(with(t, fixtureAlice, policy("Allow", "kms:RevokeGrant", "*"))))
}

// What was found of a grantee is forgotten when a grant of the key is created, retired or revoked.
func TestGrantsCountAtOnceAndNoLonger(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	app := principal(t, appSession)
	in := &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, RetiringPrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey}}
	for range 3 {
		require.Error(t, describeAs(svc, app, k.KeyId))
		one, two := createGrant(t, svc, in), createGrant(t, svc, in)
		require.NoError(t, describeAs(svc, app, k.KeyId))
		_, err := svc.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: k.KeyId, GrantId: one.GrantId})
		require.NoError(t, err)
		require.NoError(t, describeAs(svc, app, k.KeyId))
		_, err = svc.As(principal(t, fixtureAlice)).RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: two.GrantToken})
		require.NoError(t, err)
	}
	require.Error(t, describeAs(svc, app, k.KeyId))
}

func TestOneOfManyGrantsToAGranteeAllows(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	app := principal(t, appSession)
	for i := range 300 {
		createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt},
			Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"app": "x", "tenant": fmt.Sprint(i)}}})
	}
	require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"app": "x", "Tenant": "150", "more": "y"}))
	requireRefused(t, encryptAs(svc, app, k.KeyId, map[string]string{"app": "x", "tenant": "300"}), "no identity-based policy allows")
	requireRefused(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenant": "150"}), "no identity-based policy allows")

	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: homeRoot, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"app": "x", "tenant": "150"}), "one to the account takes nothing away")
}
