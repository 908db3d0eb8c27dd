package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
)

const (
	appRole    = "arn:aws:iam::111122223333:role/app"
	appSession = "arn:aws:sts::111122223333:assumed-role/app/one"
	extRole    = "arn:aws:iam::444455556666:role/ext"
	extSession = "arn:aws:sts::444455556666:assumed-role/ext/one"
)

// with returns a principal with identity-based policies.
func with(t testing.TB, arn string, policies ...string) kms.Principal {
	t.Helper()
	var id kms.Identity
	for _, p := range policies {
		id.Policies = append(id.Policies, kms.Policy{Document: p})
	}
	return withIdentity(t, arn, id)
}

func withIdentity(t testing.TB, arn string, id kms.Identity) kms.Principal {
	t.Helper()
	p, err := principal(t, arn).WithIdentity(id)
	require.NoError(t, err)
	return p
}

// policy returns an identity-based policy of one statement.
func policy(effect, action, resource string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":%q,"Action":%q,"Resource":%q}}`, effect, action, resource)
}

func condition(action, operator, key, value string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":%q,"Resource":"*","Condition":{%q:{%q:%q}}}}`, action, operator, key, value)
}

func setPolicy(t testing.TB, svc *kms.Service, keyID, policy string) {
	t.Helper()
	_, err := svc.PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{KeyId: keyID, Policy: policy, BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err)
}

func describeAs(svc *kms.Service, p kms.Principal, keyID string) error {
	_, err := svc.As(p).DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: keyID})
	return err
}

func encryptAs(svc *kms.Service, p kms.Principal, keyID string, encryptionContext map[string]string) error {
	_, err := svc.As(p).Encrypt(context.Background(), &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("x"), EncryptionContext: encryptionContext})
	return err
}

func requireRefused(t testing.TB, err error, fragment string) {
	t.Helper()
	require.ErrorIs(t, err, kms.AccessDeniedException)
	require.ErrorContains(t, err, fragment)
}

func TestAChangedPolicyDecidesTheNextCall(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	allowed, other := with(t, appSession, policy("Allow", "kms:*", "*")), with(t, appSession)
	for range 3 { // the decision is kept
		require.NoError(t, describeAs(svc, allowed, k.KeyId))
		requireRefused(t, describeAs(svc, other, k.KeyId), "no identity-based policy allows")
	}
	requireRefused(t, describeAs(svc, principal(t, appSession), k.KeyId), "no identity-based policy allows")
	setPolicy(t, svc, k.KeyId, strings.Replace(everybodys, `"Allow"`, `"Deny"`, 1))
	for _, p := range []kms.Principal{allowed, other, svc.Caller()} {
		requireRefused(t, describeAs(svc, p, k.KeyId), "with an explicit deny in a resource-based policy")
	}
}

func TestADecisionThatDependsOnTheRequestIsNotKept(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	tenant := with(t, appSession, condition("kms:Encrypt", "StringEquals", "kms:EncryptionContext:tenant", "a"))
	until := with(t, appSession, condition("kms:Encrypt", "DateLessThan", "aws:CurrentTime", clock.Now().Add(time.Hour).Format(time.RFC3339)))
	for range 3 {
		require.NoError(t, encryptAs(svc, tenant, k.KeyId, map[string]string{"Tenant": "a"}))
		requireRefused(t, encryptAs(svc, tenant, k.KeyId, map[string]string{"tenant": "b"}), "no identity-based policy allows")
		requireRefused(t, encryptAs(svc, tenant, k.KeyId, nil), "no identity-based policy allows")
		require.NoError(t, encryptAs(svc, until, k.KeyId, nil))
	}
	clock.Move(time.Hour)
	requireRefused(t, encryptAs(svc, until, k.KeyId, nil), "no identity-based policy allows")
}

func TestConfigSuppliesIdentities(t *testing.T) {
	supplied := map[string]kms.Principal{}
	failure := error(nil)
	svc, _ := newService(t, func(c *kms.Config) {
		c.Identities = func(_ context.Context, p kms.Principal) (kms.Principal, error) {
			if s, ok := supplied[p.ARN()]; ok {
				return s, failure
			}
			return p, failure
		}
	})
	k := createKey(t, svc, nil)
	bare := principal(t, appSession)
	requireRefused(t, describeAs(svc, bare, k.KeyId), "no identity-based policy allows")
	supplied[appSession] = with(t, appSession, policy("Allow", "kms:*", "*"))
	require.NoError(t, describeAs(svc, bare, k.KeyId))
	requireRefused(t, describeAs(svc, with(t, appSession), k.KeyId), "no identity-based policy allows") // its own counts
	supplied[appSession] = with(t, appSession, policy("Deny", "kms:*", "*"))
	requireRefused(t, describeAs(svc, bare, k.KeyId), "with an explicit deny in an identity-based policy")
	supplied[appSession] = svc.Caller()
	require.ErrorIs(t, describeAs(svc, bare, k.KeyId), kms.KMSInternalException)
	failure = errors.New("the directory is down")
	require.ErrorIs(t, describeAs(svc, bare, k.KeyId), kms.KMSInternalException)
	_, err := svc.As(bare).ListKeys(t.Context(), nil)
	require.ErrorIs(t, err, kms.KMSInternalException)
	failure = nil
	require.NoError(t, describeAs(svc, svc.Caller(), k.KeyId))
}

func TestWithIdentityRefusesWhatCannotBe(t *testing.T) {
	broken := []kms.Policy{{Document: `{"Statement":{"Effect":"allow"}}`}}
	compiled, err := iam.Parse(policy("Allow", "kms:*", "*"), iam.SessionPolicy)
	require.NoError(t, err)
	service, err := kms.ServicePrincipal("s3.amazonaws.com")
	require.NoError(t, err)
	root := rootOf(t, "111122223333")
	const alice = "arn:aws:iam::111122223333:user/alice"
	const noJSON = "iam: the policy is not valid\n1:1: expected a JSON value"
	const noEffect = "iam: the policy is not valid\n1:14: Statement[0]: Action is missing\n1:14: Statement[0]: Resource is missing\n" +
		"1:24: Statement[0].Effect: the effect is \"allow\", not Allow or Deny"
	for _, test := range []struct {
		principal kms.Principal
		identity  kms.Identity
		want      string
	}{
		{kms.Principal{}, kms.Identity{}, "the anonymous principal has no identity"},
		{principal(t, appSession), kms.Identity{Policies: broken}, "policy 0 of " + appSession + ": " + noEffect},
		{principal(t, appSession), kms.Identity{Boundary: &broken[0]}, "permissions boundary of " + appSession + ": " + noEffect},
		{principal(t, appSession), kms.Identity{SessionPolicies: broken}, "session policy 0 of " + appSession + ": " + noEffect},
		{principal(t, appSession), kms.Identity{Policies: []kms.Policy{{Document: allowAll}, {}}}, "policy 1 of " + appSession + ": " + noJSON},
		{principal(t, appSession), kms.Identity{Policies: []kms.Policy{{Compiled: compiled}}}, "policy 0 of " + appSession + ": it was compiled as a session policy"},
		{principal(t, appSession), kms.Identity{Issuer: extRole}, "the issuer of " + appSession + ": it is not a principal of the same account"},
		{principal(t, appSession), kms.Identity{Issuer: "app"}, "the issuer of " + appSession + ": it is not a principal of the same account"},
		{principal(t, appSession), kms.Identity{Issuer: "arn:aws:iam::111122223333:role/other"}, "the issuer of " + appSession + ": it is not the role that the session's ARN names"},
		{principal(t, appSession), kms.Identity{Issuer: "arn:aws:iam::444455556666:role/app"}, "the issuer of " + appSession + ": it is not a principal of the same account"},
		{principal(t, appSession), kms.Identity{Issuer: "arn:aws:iam::111122223333:user/app"}, "the issuer of " + appSession + ": it is not the role that the session's ARN names"},
		{principal(t, alice), kms.Identity{Issuer: appRole}, "the issuer of " + alice + ": the principal is not a session"},
		{principal(t, alice), kms.Identity{Tags: map[string]string{"Team": "a", "team": "b"}}, "the tags of " + alice + ": another key differs from \"team\" only in case"},
		{root, kms.Identity{Policies: []kms.Policy{{Document: allowAll}}}, "the policies of " + root.ARN() + ": such a principal has none"},
		{service, kms.Identity{Policies: []kms.Policy{{Document: allowAll}}}, "the policies of s3.amazonaws.com: such a principal has none"},
		{root, kms.Identity{Boundary: &kms.Policy{Document: allowAll}}, "the policies of " + root.ARN() + ": such a principal has none"},
		{service, kms.Identity{Boundary: &kms.Policy{Document: allowAll}}, "the policies of s3.amazonaws.com: such a principal has none"},
		{root, kms.Identity{SessionPolicies: []kms.Policy{{Document: allowAll}}}, "the policies of " + root.ARN() + ": such a principal has none"},
		{service, kms.Identity{SessionPolicies: []kms.Policy{{Document: allowAll}}}, "the policies of s3.amazonaws.com: such a principal has none"},
		{principal(t, appSession), kms.Identity{Issuer: "arn:aws-cn:iam::111122223333:role/app"}, "the issuer of " + appSession + ": it is not a principal of the same account"},
		{principal(t, federated), kms.Identity{Issuer: appRole}, "the issuer of " + federated + ": it is not a user"},
		{principal(t, federated), kms.Identity{Issuer: extUser}, "the issuer of " + federated + ": it is not a principal of the same account"},
	} {
		p, err := test.principal.WithIdentity(test.identity)
		require.EqualError(t, err, "kms: "+test.want)
		require.Equal(t, kms.Principal{}, p)
	}
	var invalid *iam.Error
	_, err = principal(t, appSession).WithIdentity(kms.Identity{Policies: broken})
	require.ErrorAs(t, err, &invalid)
	p, err := principal(t, appSession).WithIdentity(kms.Identity{Issuer: "arn:aws:iam::111122223333:role/team/app", SessionPolicies: []kms.Policy{{Compiled: compiled}}})
	require.NoError(t, err)
	require.True(t, p.HasIdentity())
	require.False(t, root.HasIdentity())
	_, err = principal(t, federated).WithIdentity(kms.Identity{Issuer: homeRoot})
	require.NoError(t, err)
}

// GetFederationToken without a policy gives nothing of what the user may do. Key policies and grants
// can still name the federated user.
func TestAFederatedUserHasNothingOfTheUsersWithoutASessionPolicy(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	all := []kms.Policy{{Document: allowAll}}
	for _, tt := range []struct {
		id    kms.Identity
		lacks string
	}{
		{kms.Identity{Policies: all}, "no session policy allows"},
		{kms.Identity{Policies: all, SessionPolicies: all}, ""},
		{kms.Identity{SessionPolicies: all}, "no identity-based policy allows"},
		{kms.Identity{}, "no identity-based policy allows"},
	} {
		tt.id.Issuer = fixtureAlice
		p := withIdentity(t, federated, tt.id)
		e, err := svc.As(p).Explain(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
		require.NoError(t, err)
		described := describeAs(svc, p, k.KeyId)
		_, listed := svc.As(p).ListKeys(t.Context(), nil)
		requireAgreement(t, e, nil, described)
		for _, err := range []error{described, listed} {
			if tt.lacks == "" {
				require.NoError(t, err)
			} else {
				requireRefused(t, err, tt.lacks)
			}
		}
	}
	nothing := withIdentity(t, federated, kms.Identity{Issuer: fixtureAlice, Policies: all})
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: federated, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	require.NoError(t, encryptAs(svc, nothing, k.KeyId, nil))
	setPolicy(t, svc, k.KeyId, strings.Replace(everybodys, `"*"`, `{"AWS":"`+federated+`"}`, 1))
	require.NoError(t, describeAs(svc, nothing, k.KeyId))
}

func TestAManagedPolicyIsNamedInTheRefusal(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	const arn = "arn:aws:iam::111122223333:policy/no-kms"
	deny := kms.Policy{Document: policy("Deny", "kms:DescribeKey", "*"), ARN: arn}
	allow := []kms.Policy{{Document: allowAll}}
	for want, id := range map[string]kms.Identity{
		"an identity-based policy: " + arn: {Policies: []kms.Policy{allow[0], deny, {Document: deny.Document, ARN: arn + "-either"}}},
		"a permissions boundary: " + arn:   {Policies: allow, Boundary: &deny},
		"a session policy: " + arn:         {Policies: allow, SessionPolicies: []kms.Policy{deny}},
	} {
		requireError(t, describeAs(svc, withIdentity(t, appSession, id), k.KeyId), kms.AccessDeniedException,
			"User: %s is not authorized to perform: kms:DescribeKey on resource: %s with an explicit deny in %s", appSession, k.Arn, want)
	}
}

// What a caller of another account is told must not depend on whether the key exists.
func TestADenyOfTheCallersOwnPoliciesDoesNotDiscloseAKey(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	mallory := with(t, extSession, policy("Deny", "kms:*", "*"))
	exists := describeAs(svc, mallory, k.Arn)
	requireDeniedForeign(t, exists, mallory, "kms:DescribeKey")
	missing := describeAs(svc, mallory, strings.Replace(k.Arn, k.KeyId, "00000000-0000-4000-8000-000000000000", 1))
	require.Equal(t, missing.Error(), exists.Error())
	setPolicy(t, svc, k.KeyId, everybodys)
	requireRefused(t, describeAs(svc, mallory, k.Arn), "on this resource with an explicit deny in an identity-based policy")
	requireRefused(t, describeAs(svc, with(t, extSession), k.Arn), "on this resource because no identity-based policy allows")
	require.NoError(t, describeAs(svc, with(t, extSession, allowAll), k.Arn))
}

func TestObserveLetsCallsPassAndRecordsTheRefusal(t *testing.T) {
	for _, mode := range []kms.AuthorizationMode{kms.Enforce, kms.Observe} {
		s, log := new(trail), new(bytes.Buffer)
		svc, _ := newService(t, func(c *kms.Config) {
			c.Audit, c.Authorization, c.Logger = s, mode, slog.New(slog.NewTextHandler(log, nil))
		})
		k := createKey(t, svc, nil)
		app := principal(t, appSession)
		s.take()
		for range 3 {
			err := encryptAs(svc, app, k.KeyId, nil)
			e := s.take()[0]
			refusal := deniedMessage(appSession, "kms:Encrypt", k.Arn, "identity-based")
			if mode == kms.Enforce {
				requireError(t, err, kms.AccessDeniedException, "%s", refusal)
				require.NotContains(t, e.AdditionalEventData.Map(), "observedRefusal")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, refusal, e.AdditionalEventData.Map()["observedRefusal"])
			require.Empty(t, e.ErrorCode)
		}
		require.Equal(t, map[kms.AuthorizationMode]int{kms.Observe: 1}[mode], strings.Count(log.String(), "calls pass that authorization would refuse"))
		require.NoError(t, encryptAs(svc, svc.Caller(), k.KeyId, nil))
		require.NotContains(t, s.take()[0].AdditionalEventData.Map(), "observedRefusal")
		_, err := svc.As(app).ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: encrypt(t, svc, k.KeyId, "x"), DestinationKeyId: k.KeyId})
		if events := s.take(); mode == kms.Observe { // the first refusal is the one that would have ended the call
			require.NoError(t, err)
			require.Contains(t, events[len(events)-1].AdditionalEventData.Map()["observedRefusal"], "kms:ReEncryptFrom on resource")
		}
		require.ErrorIs(t, encryptAs(svc, kms.Principal{}, k.KeyId, nil), kms.AccessDeniedException)
		_, err = svc.As(app).Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), GrantTokens: []string{"?"}})
		if mode == kms.Observe { // it fails for another reason, and says what else
			require.ErrorIs(t, err, kms.InvalidGrantTokenException)
			events := s.take()
			require.Contains(t, events[len(events)-1].AdditionalEventData.Map(), "observedRefusal")
		}
	}
}

func TestTheAuthorOfAPolicyMustNotLockItselfOut(t *testing.T) {
	svc, _ := newService(t)
	admin := with(t, appSession, allowAll)
	const ours = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:*","Resource":"*"}}`
	create := func(p kms.Principal, policy string, bypass bool) error {
		_, err := svc.As(p).CreateKey(t.Context(), &kms.CreateKeyInput{Policy: policy, BypassPolicyLockoutSafetyCheck: bypass})
		return err
	}
	const lockout = "The new key policy will not allow you to update the key policy in the future."
	require.NoError(t, create(admin, ours, false))
	requireError(t, create(svc.Caller(), ours, false), kms.MalformedPolicyDocumentException, lockout)
	require.NoError(t, create(svc.Caller(), ours, true))
	require.NoError(t, create(svc.Caller(), everybodys, false))
	onlyCreate := with(t, appSession, policy("Allow", "kms:CreateKey", "*"))
	require.NoError(t, create(onlyCreate, "", false), "the default policy is not checked")
	requireError(t, create(onlyCreate, defaultPolicyOf("arn:aws:iam::111122223333:root"), false), kms.MalformedPolicyDocumentException, lockout)
	requireError(t, create(admin, strings.Replace(ours, `"Resource":"*"`, `"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, 1), false),
		kms.MalformedPolicyDocumentException, lockout)
}

func TestPrincipalsThatDoNotExistAreRefused(t *testing.T) {
	var asked []string
	var failure error
	svc, _ := newService(t, func(c *kms.Config) {
		c.PrincipalExists = func(_ context.Context, name string) (bool, error) {
			asked = append(asked, name)
			return name != extRole, failure
		}
	})
	k := createKey(t, svc, nil)
	put := func(principals string) error {
		_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, BypassPolicyLockoutSafetyCheck: true,
			Policy: `{"Statement":{"Effect":"Allow","Principal":` + principals + `,"Action":"kms:*","Resource":"*"}}`})
		return err
	}
	require.NoError(t, put(`{"AWS":["*","111122223333","`+appRole+`"],"Service":"s3.amazonaws.com"}`))
	require.Equal(t, []string{"111122223333", appRole}, asked)
	requireError(t, put(`{"AWS":["111122223333","`+extRole+`"]}`), kms.MalformedPolicyDocumentException,
		"Policy contains a statement with one or more invalid principals.")
	_, err := svc.DiffKeyPolicy(t.Context(), k.KeyId, `{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+extRole+`"},"Action":"kms:*","Resource":"*"}}`)
	require.ErrorIs(t, err, kms.MalformedPolicyDocumentException)
	setPolicy(t, svc, k.KeyId, everybodys)
	_, err = svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: extRole, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}})
	requireError(t, err, kms.InvalidArnException, "ARN does not refer to a valid principal: %s", extRole)
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole})

	failure = errors.New("the directory is down")
	require.ErrorIs(t, put(`{"AWS":"`+appRole+`"}`), kms.KMSInternalException)
	_, err = svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}})
	require.ErrorIs(t, err, kms.KMSInternalException)
}

func TestTagsOfANewKeyNeedThePermissionToTag(t *testing.T) {
	svc, _ := newService(t)
	in := &kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}}
	_, err := svc.As(with(t, appSession, policy("Allow", "kms:CreateKey", "*"))).CreateKey(t.Context(), in)
	requireError(t, err, kms.AccessDeniedException,
		"User: %s is not authorized to perform: kms:TagResource because no identity-based policy allows the kms:TagResource action", appSession)
	_, err = svc.As(with(t, appSession, policy("Allow", "kms:CreateKey", "*"), policy("Allow", "kms:TagResource", "*"))).CreateKey(t.Context(), in)
	require.NoError(t, err)
}

// Tags of a new key are tags of a key: what policies say about the keys of an account counts.
func TestTagsOfANewKeyAreDecidedOnTheKey(t *testing.T) {
	svc, _ := newService(t)
	tags := []kms.Tag{{TagKey: "k", TagValue: "v"}}
	primary := createPrimary(t, svc)
	keys, aliases, eu := "arn:aws:kms:*:111122223333:key/*", "arn:aws:kms:*:*:alias/*", "arn:aws:kms:eu-west-1:111122223333:key/mrk-*"
	for name, tt := range map[string]struct {
		policies        []string
		create, replica bool
	}{
		"all keys":     {[]string{policy("Allow", "kms:TagResource", keys)}, true, true},
		"no keys":      {[]string{policy("Allow", "kms:TagResource", aliases)}, false, false},
		"of a Region":  {[]string{policy("Allow", "kms:TagResource", eu)}, false, true},
		"of no Region": {[]string{policy("Allow", "kms:TagResource", "*"), policy("Deny", "kms:TagResource", eu)}, true, false},
		"denied":       {[]string{policy("Allow", "kms:TagResource", "*"), policy("Deny", "kms:TagResource", keys)}, false, false},
		"one account":  {[]string{condition("kms:TagResource", "StringEquals", "aws:ResourceAccount", "111122223333")}, true, true},
		"another":      {[]string{condition("kms:TagResource", "StringEquals", "aws:ResourceAccount", "444455556666")}, false, false},
	} {
		p := svc.As(with(t, appSession, append(tt.policies, policy("Allow", "kms:CreateKey", "*"), policy("Allow", "kms:ReplicateKey", "*"))...))
		_, err := p.CreateKey(t.Context(), &kms.CreateKeyInput{Tags: tags})
		require.Equal(t, tt.create, err == nil, "%s: %v", name, err)
		e, err := p.Explain(t.Context(), &kms.ReplicateKeyInput{KeyId: primary.KeyId, ReplicaRegion: "eu-west-1", Tags: tags})
		require.NoError(t, err)
		require.Equal(t, tt.replica, e.Allowed(), "%s: %s", name, e)
	}
	multiRegionOnly := with(t, appSession, policy("Allow", "kms:CreateKey", "*"), policy("Allow", "kms:TagResource", "arn:aws:kms:*:111122223333:key/mrk-*"))
	for _, multiRegion := range []bool{false, true} {
		_, err := svc.As(multiRegionOnly).CreateKey(t.Context(), &kms.CreateKeyInput{Tags: tags, MultiRegion: multiRegion})
		require.Equal(t, multiRegion, err == nil, "%v", err)
	}
	_, err := svc.As(with(t, appSession, condition("kms:CreateAlias", "StringNotEquals", "aws:ResourceAccount", "111122223333"))).CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: "alias/x", TargetKeyId: primary.KeyId})
	requireRefused(t, err,
		"kms:CreateAlias on resource: arn:aws:kms:us-east-1:111122223333:alias/x")
}

func TestUpdateAliasNeedsTheAliasAndBothKeys(t *testing.T) {
	svc, _ := newService(t)
	from, to := createKey(t, svc, nil), createKey(t, svc, nil)
	const alias = "arn:aws:kms:us-east-1:111122223333:alias/x"
	createAlias(t, svc, "alias/x", from.KeyId)
	update := func(resources ...string) error {
		var policies []string
		for _, r := range resources {
			policies = append(policies, policy("Allow", "kms:UpdateAlias", r))
		}
		_, err := svc.As(with(t, appSession, policies...)).UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/x", TargetKeyId: to.KeyId})
		return err
	}
	requireRefused(t, update(from.Arn, to.Arn), "on resource: "+alias+" because no identity-based policy")
	requireRefused(t, update(alias, to.Arn), "on resource: "+from.Arn+" because no identity-based policy")
	requireRefused(t, update(alias, from.Arn), "on resource: "+to.Arn+" because no identity-based policy")
	require.NoError(t, update(alias, from.Arn, to.Arn))
}

func TestEnsureKeyNeedsTheAliasAndTheKey(t *testing.T) {
	svc, _ := newService(t)
	const alias = "arn:aws:kms:us-east-1:111122223333:alias/x"
	describe, create := policy("Allow", "kms:DescribeKey", "*"), policy("Allow", "kms:CreateKey", "*")
	_, err := svc.As(with(t, appSession, describe, create, policy("Allow", "kms:CreateAlias", "arn:aws:kms:*:*:key/*"))).EnsureKey(t.Context(), "alias/x", nil)
	requireRefused(t, err, "kms:CreateAlias on resource: "+alias)
	_, err = svc.As(with(t, appSession, describe, create, policy("Allow", "kms:CreateAlias", alias))).EnsureKey(t.Context(), "alias/x", nil)
	requireRefused(t, err, "kms:CreateAlias on resource: arn:aws:kms:us-east-1:111122223333:key/")
	_, err = svc.As(with(t, appSession, describe, create, policy("Allow", "kms:CreateAlias", "*"))).EnsureKey(t.Context(), "alias/x", nil)
	require.NoError(t, err)
}

func TestAServiceIsDecidedByKeyPoliciesAndGrants(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	k := createKey(t, svc, nil)
	logs, err := kms.ServicePrincipal("logs.us-east-1.amazonaws.com")
	require.NoError(t, err)
	requireRefused(t, describeAs(svc, logs, k.Arn), hiddenResource)
	setPolicy(t, svc, k.KeyId, strings.Replace(everybodys, `"Principal":"*"`, `"Principal":{"Service":"logs.us-east-1.amazonaws.com","AWS":"111122223333"}`, 1))
	s.take()
	require.NoError(t, describeAs(svc, logs, k.Arn))
	e := s.take()[0]
	require.Equal(t, &audit.UserIdentity{Type: audit.IdentityAWSService, InvokedBy: "logs.us-east-1.amazonaws.com"}, e.UserIdentity)
	require.Equal(t, "111122223333", e.RecipientAccountID)
	other, err := kms.ServicePrincipal("s3.amazonaws.com")
	require.NoError(t, err)
	requireRefused(t, describeAs(svc, other, k.Arn), hiddenResource)
	_, err = svc.As(logs).ListKeys(t.Context(), nil)
	requireRefused(t, err, "no identity-based policy allows the kms:ListKeys action")
	_, err = svc.As(logs).CreateKey(t.Context(), nil)
	requireRefused(t, err, "no identity-based policy allows the kms:CreateKey action")
	for _, name := range []string{"", "s3", "*.amazonaws.com", appRole} {
		_, err := kms.ServicePrincipal(name)
		require.Error(t, err)
	}

	const forResource = `{"Effect":"Allow","Principal":{"Service":"logs.us-east-1.amazonaws.com"},"Action":"kms:ListGrants","Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"},"Null":{"aws:PrincipalArn":"true"}}}`
	setPolicy(t, svc, k.KeyId, `{"Statement":[`+manages+`,`+forResource+`]}`)
	_, err = svc.As(logs).ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.Arn})
	require.NoError(t, err)

	setPolicy(t, svc, k.KeyId, defaultPolicyOf("111122223333"))
	const bucket = "arn:aws:s3:::documents"
	g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteeServicePrincipal: "s3.amazonaws.com", RetiringServicePrincipal: "s3.amazonaws.com",
		Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}, Constraints: &kms.GrantConstraints{SourceArn: bucket}})
	encryptFor := func(sourceARN string) error {
		ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{SourceARN: sourceARN})
		_, err := svc.As(other).Encrypt(ctx, &kms.EncryptInput{KeyId: k.Arn, Plaintext: []byte("x")})
		return err
	}
	require.NoError(t, encryptFor(bucket))
	requireRefused(t, encryptFor(bucket+"2"), hiddenResource)
	requireRefused(t, encryptFor(""), hiddenResource)

	retire := &kms.RetireGrantInput{KeyId: k.Arn, GrantId: g.GrantId}
	_, err = svc.As(logs).RetireGrant(t.Context(), retire)
	requireRefused(t, err, hiddenResource)
	_, err = svc.As(other).RetireGrant(t.Context(), retire)
	require.NoError(t, err)
}

func TestAPolicyOfAnAWSManagedKeyAllowsItsServiceOnBehalfOfTheAccount(t *testing.T) {
	svc, _ := newService(t)
	k := describe(t, svc, "alias/aws/s3")
	encryptVia := func(service string, p kms.Principal) error {
		ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{ViaService: service})
		_, err := svc.As(p).Encrypt(ctx, &kms.EncryptInput{KeyId: k.Arn, Plaintext: []byte("x")})
		return err
	}
	require.NoError(t, encryptVia("s3.us-east-1.amazonaws.com", principal(t, appSession)))
	requireRefused(t, encryptVia("s3.eu-west-1.amazonaws.com", principal(t, appSession)), "no resource-based policy allows")
	requireRefused(t, encryptVia("", svc.Caller()), "no resource-based policy allows")
	requireRefused(t, encryptVia("s3.us-east-1.amazonaws.com", with(t, extSession, allowAll)), hiddenResource)

	managed, err := svc.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: k.KeyId})
	require.NoError(t, err)
	statements := must(iam.Parse(managed.Policy, iam.ResourcePolicy)).Statements()
	require.Len(t, statements, 2)
	for i, want := range [][]string{
		{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey"},
		{"kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"},
	} {
		actions, not := statements[i].Actions()
		require.False(t, not)
		require.Equal(t, want, actions)
	}

	// One that is to be created is a key, too, although its ARN is that of its alias.
	keys := "arn:aws:kms:*:111122223333:key/*"
	requireRefused(t, describeAs(svc, with(t, appSession, allowAll, policy("Deny", "kms:DescribeKey", keys)), "alias/aws/ebs"), "explicit deny")
	require.NoError(t, describeAs(svc, with(t, appSession, policy("Allow", "kms:DescribeKey", keys)), "alias/aws/ebs"))
}
