package kms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// A decision that is kept is that of the identity that it is kept under, although Config.Identities
// supplies another one a moment later.
func TestADecisionIsKeptForTheIdentityThatItIsAbout(t *testing.T) {
	may, mayNot := with(t, appSession, policy("Allow", "kms:*", "*")), with(t, appSession)
	answers := []kms.Principal{mayNot, may}
	asked := 0
	svc, _ := newService(t, func(c *kms.Config) {
		c.Identities = func(_ context.Context, p kms.Principal) (kms.Principal, error) {
			switch asked++; {
			case p.ARN() != appSession:
				return p, nil
			case len(answers) == 0:
				return mayNot, nil
			}
			next := answers[0]
			answers = answers[1:]
			return next, nil
		}
	})
	k := createKey(t, svc, nil)
	asked = 0
	requireRefused(t, describeAs(svc, principal(t, appSession), k.KeyId), "no identity-based policy allows")
	require.Equal(t, 1, asked)
	require.NoError(t, describeAs(svc, principal(t, appSession), k.KeyId))
	for range 3 {
		requireRefused(t, describeAs(svc, principal(t, appSession), k.KeyId), "no identity-based policy allows")
	}
}

// What happens in another Region is decided with that as aws:RequestedRegion.
func TestTheRequestedRegionOfAReplicaIsItsOwn(t *testing.T) {
	svc, clock := newService(t)
	all := policy("Allow", "kms:*", "*")
	deny := func(action, region string) kms.Principal {
		denied := strings.Replace(condition(action, "StringEquals", "aws:RequestedRegion", region), `"Allow"`, `"Deny"`, 1)
		return with(t, appSession, all, denied)
	}
	id := createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true}).KeyId
	replicateAs := func(p kms.Principal, region string) error {
		_, err := svc.As(p).ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: region, Tags: []kms.Tag{{TagKey: "a", TagValue: "b"}}})
		return err
	}
	requireRefused(t, replicateAs(deny("kms:CreateKey", "eu-west-1"), "eu-west-1"), "kms:CreateKey on resource: * with an explicit deny")
	requireRefused(t, replicateAs(deny("kms:TagResource", "eu-west-1"), "eu-west-1"), "kms:TagResource with an explicit deny")
	requireRefused(t, replicateAs(deny("kms:ReplicateKey", "us-east-1"), "eu-west-1"), "kms:ReplicateKey on resource")
	require.NoError(t, replicateAs(deny("kms:CreateKey", "us-east-1"), "eu-west-1"))
	require.NoError(t, replicateAs(deny("kms:ReplicateKey", "ap-south-1"), "ap-south-1"))
	clock.Move(kms.DefaultReplicationDelay)
	update := &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"}
	for region, refused := range map[string]bool{"eu-west-1": true, "us-east-1": true, "ap-south-1": false} {
		denied := svc.As(deny("kms:UpdatePrimaryRegion", region))
		e, explainErr := denied.Explain(t.Context(), update)
		require.NoError(t, explainErr)
		require.Equal(t, refused, !e.Allowed(), "%s: %s", region, e)
		if refused {
			_, err := denied.UpdatePrimaryRegion(t.Context(), update)
			requireAgreement(t, e, explainErr, err)
			requireRefused(t, err, "with an explicit deny in an identity-based policy")
		}
	}
	_, err := svc.As(deny("kms:UpdatePrimaryRegion", "ap-south-1")).UpdatePrimaryRegion(t.Context(), update)
	require.NoError(t, err)
}

// Whether its author could change the policy of a replica depends on the replica's tags, not on
// those of the primary.
func TestTheLockoutCheckOfAReplicaSeesItsTags(t *testing.T) {
	svc, _ := newService(t)
	author := with(t, appSession, policy("Allow", "kms:ReplicateKey", "*"), policy("Allow", "kms:CreateKey", "*"), policy("Allow", "kms:TagResource", "*"),
		condition("kms:PutKeyPolicy", "StringEquals", "aws:ResourceTag/team", "red"))
	tags := []kms.Tag{{TagKey: "team", TagValue: "red"}}
	for _, onPrimary := range []bool{false, true} {
		in := &kms.CreateKeyInput{MultiRegion: true}
		replica := &kms.ReplicateKeyInput{ReplicaRegion: "eu-west-1", Policy: defaultPolicyOf("arn:aws:iam::111122223333:root")}
		if onPrimary {
			in.Tags = tags
		} else {
			replica.Tags = tags
		}
		replica.KeyId = createKey(t, svc, in).KeyId
		_, err := svc.As(author).ReplicateKey(t.Context(), replica)
		if onPrimary {
			require.ErrorIs(t, err, kms.MalformedPolicyDocumentException)
		} else {
			require.NoError(t, err)
		}
	}
}

// A service cannot find out by RetireGrant which keys exist.
func TestAServiceCannotFindKeysByRetiringGrants(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId})
	s3, err := kms.ServicePrincipal("s3.amazonaws.com")
	require.NoError(t, err)
	const missing = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000"
	for _, keyARN := range []string{k.Arn, missing} {
		for _, id := range []string{g.GrantId, strings.Repeat("0", 64), "x"} {
			_, err := svc.As(s3).RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: keyARN, GrantId: id})
			requireRefused(t, err, "kms:RetireGrant on this resource because "+hiddenResource)
		}
	}
}

// An unreliable backend does not read what has a prefix.
type unreliable struct {
	keystore.Backend
	prefix atomic.Pointer[string]
	reads  atomic.Int64 // so many succeed first
}

func (u *unreliable) Get(ctx context.Context, name string) (keystore.Record, error) {
	if p := u.prefix.Load(); p != nil && strings.HasPrefix(name, *p) && u.reads.Add(-1) == -1 {
		return keystore.Record{}, errors.New("it is out of order for a moment")
	}
	return u.Backend.Get(ctx, name)
}

func (u *unreliable) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if p := u.prefix.Load(); p != nil && strings.HasPrefix(prefix, *p) && u.reads.Add(-1) == -1 {
		return nil, errors.New("it is out of order for a moment")
	}
	return u.Backend.Scan(ctx, prefix, after, limit)
}

// A caller of another account does not learn from a failure that a key or a grant exists.
func TestAFailureDisclosesNoGrantOfAnotherAccount(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	k := createKey(t, svc, nil)
	g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId})
	backend.prefix.Store(new("grant/"))
	_, err := svc.As(with(t, extSession, allowAll)).RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.Arn, GrantId: g.GrantId})
	requireRefused(t, err, hiddenResource)
	backend.reads.Store(0)
	_, err = svc.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.Arn, GrantId: g.GrantId})
	require.ErrorIs(t, err, kms.KMSInternalException)
}

// That the grants of a caller cannot be read for a moment is a failure, and not a refusal.
func TestAFailureToReadGrantsIsNoRefusal(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	k := createKey(t, svc, nil)
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey}})
	backend.prefix.Store(new("grant/"))
	require.ErrorIs(t, describeAs(svc, principal(t, appSession), k.KeyId), kms.KMSInternalException)
	require.NoError(t, describeAs(svc, principal(t, appSession), k.KeyId))
}

// What a Deny asks for may be what cannot be read for a moment, so that the call fails.
func TestAConditionKeyThatCannotBeReadFailsTheCall(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	for prefix, deny := range map[string]string{
		"aliasof/": `"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}`,
		"lastuse/": `"NumericLessThan":{"kms:TrailingDaysWithoutKeyUsage":"30"}`,
	} {
		k := createKey(t, svc, nil)
		if prefix == "aliasof/" {
			createAlias(t, svc, "alias/a", k.KeyId)
		}
		p := with(t, appSession, allowAll, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:DisableKey","Resource":"*","Condition":{`+deny+`}}}`)
		disable := func() error {
			_, err := svc.As(p).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: k.KeyId})
			return err
		}
		backend.prefix.Store(nil)
		requireRefused(t, disable(), "explicit deny")
		backend.reads.Store(0)
		backend.prefix.Store(&prefix)
		require.ErrorIs(t, disable(), kms.KMSInternalException, prefix)
		requireRefused(t, disable(), "explicit deny")
	}
}

// A lockout check that cannot be made refuses the new policy.
func TestALockoutCheckThatFailsChangesNothing(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	k := createKey(t, svc, nil)
	createAlias(t, svc, "alias/a", k.KeyId)
	p := with(t, appSession, condition("kms:*", "ForAnyValue:StringEquals", "kms:ResourceAliases", "alias/a"))
	backend.reads.Store(1) // of the decision about the call
	backend.prefix.Store(new("aliasof/"))
	_, err := svc.As(p).PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: defaultPolicyOf("111122223333")})
	require.ErrorIs(t, err, kms.KMSInternalException)
	require.Equal(t, int64(-1), backend.reads.Load())
	_, err = svc.As(p).PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: defaultPolicyOf("111122223333")})
	require.NoError(t, err)
}

// A Deny of re-encryption on the same key bites although the destination cannot be read for a
// moment.
func TestReEncryptOnSameKeyFailsClosed(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	k := createKey(t, svc, nil)
	createAlias(t, svc, "alias/same", k.KeyId)
	setPolicy(t, svc, k.KeyId, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},`+
		`{"Effect":"Deny","Principal":"*","Action":"kms:ReEncryptFrom","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":"true"}}}]}`)
	in := &kms.ReEncryptInput{CiphertextBlob: encrypt(t, svc, k.KeyId, "x"), DestinationKeyId: "arn:aws:kms:us-east-1:111122223333:alias/same"}
	for _, p := range []kms.Principal{svc.Caller(), with(t, extSession, allowAll)} {
		backend.prefix.Store(nil)
		_, err := svc.As(p).ReEncrypt(t.Context(), in)
		require.ErrorIs(t, err, kms.AccessDeniedException)
	}
	_, err := svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/same", TargetKeyId: k.KeyId}) // out of the cache
	require.NoError(t, err)
	backend.reads.Store(0)
	backend.prefix.Store(new("alias/"))
	_, err = svc.ReEncrypt(t.Context(), in)
	require.Error(t, err)
}

// A grant that one process revokes or retires stops counting in the others, which had found it, and
// a new one begins to count.
func TestGrantsOfOtherProcesses(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		clock := newClock()
		one, two := join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)
		k := createKey(t, one, nil)
		app := principal(t, appSession)
		for _, retire := range []bool{false, true} {
			require.ErrorIs(t, describeAs(two, app, k.KeyId), kms.AccessDeniedException)
			g := createGrant(t, one, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{"DescribeKey"}})
			requireSoon(t, func() bool { return describeAs(two, app, k.KeyId) == nil })
			require.NoError(t, describeAs(one, app, k.KeyId))
			var err error
			if retire {
				_, err = one.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: g.GrantToken})
			} else {
				_, err = one.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: k.KeyId, GrantId: g.GrantId})
			}
			require.NoError(t, err)
			require.ErrorIs(t, describeAs(one, app, k.KeyId), kms.AccessDeniedException)
			requireSoon(t, func() bool { return errors.Is(describeAs(two, app, k.KeyId), kms.AccessDeniedException) })
		}
	})
}

// A condition key is absent from the calls of a permission that does not supply it, even if there
// is something that could be its value.
func TestAConditionKeyIsAbsentWhereItIsNotSupplied(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	createAlias(t, svc, "alias/a", k.KeyId)
	for action, keys := range map[string][]string{
		"kms:DescribeKey": {"kms:EncryptionAlgorithm", "kms:GrantIsForAWSResource", "kms:RotationPeriodInDays", "kms:ScheduleKeyDeletionPendingWindowInDays",
			"kms:TrailingDaysWithoutKeyUsage", "kms:EncryptionContextKeys", "aws:TagKeys"},
		"kms:ListKeys": {"kms:CallerAccount", "kms:MultiRegion", "kms:KeyOrigin", "aws:ResourceAccount", "kms:ResourceAliases"},
	} {
		for _, key := range keys {
			p := with(t, appSession, policy("Allow", "kms:*", "*"), strings.Replace(condition(action, "Null", key, "false"), `"Allow"`, `"Deny"`, 1))
			err := describeAs(svc, p, k.KeyId)
			if action == "kms:ListKeys" {
				_, err = svc.As(p).ListKeys(t.Context(), nil)
			}
			require.NoError(t, err, key)
		}
	}
}

// A key with more aliases than a key can have has none for policies.
func TestTooManyAliasesCountForNothing(t *testing.T) {
	backend := memory.New()
	t.Cleanup(func() { require.NoError(t, backend.Close()) })
	clock := newClock()
	wide, p := join(t, process{Backend: backend}, clock), with(t, appSession,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}}`)
	k := createKey(t, wide, nil)
	createAlias(t, wide, "alias/a", k.KeyId)
	createAlias(t, wide, "alias/b", k.KeyId)
	for limit, allowed := range map[int]bool{1: false, 2: true, 3: true} {
		svc := startService(t, kms.Config{Backend: process{Backend: backend}, RootKey: sharedRoot, Clock: clock.Now}, []func(*kms.Config){
			func(c *kms.Config) { c.Limits.AliasesPerKey = limit }})
		if err := describeAs(svc, p, k.KeyId); allowed {
			require.NoError(t, err)
		} else {
			requireRefused(t, err, "no identity-based policy allows")
		}
	}
}

// The policies of a session limit it as a retiring role, and not as a retiring principal itself.
func TestASessionPolicyLimitsARetiringRole(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	for reason, id := range map[string]kms.Identity{
		"session policy":       {SessionPolicies: []kms.Policy{{Document: policy("Allow", "s3:*", "*")}}},
		"permissions boundary": {Boundary: &kms.Policy{Document: policy("Allow", "s3:*", "*")}},
	} {
		for retiring, limited := range map[string]bool{appRole: true, appSession: false} {
			g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: retiring})
			_, err := svc.As(withIdentity(t, appSession, id)).RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.KeyId, GrantId: g.GrantId})
			if limited {
				requireRefused(t, err, "no "+reason+" allows the kms:RetireGrant action")
			} else {
				require.NoError(t, err)
			}
		}
	}
}

// A grant of many allows only by its constraints in whatever bucket it is, and no decision by a
// grant is kept for a call with another encryption context.
func TestAGrantIsLookedAtForEachCall(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: appRole, Operations: []kms.GrantOperation{"Encrypt"},
		Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "red"}}})
	app := principal(t, appSession)
	for range 3 {
		require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenant": "red"}))
		requireRefused(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenant": "blue"}), "no identity-based policy allows")
	}
}

// Each key of a ReEncrypt is decided with the algorithm that is used with it.
func TestReEncryptIsDecidedByBothAlgorithms(t *testing.T) {
	svc, _ := newService(t)
	from := createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecRSA2048, KeyUsage: kms.KeyUsageEncryptDecrypt})
	to := createKey(t, svc, nil)
	const rsa = kms.EncryptionAlgorithmRSAESOAEPSHA256
	encrypted, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: from.KeyId, Plaintext: []byte("x"), EncryptionAlgorithm: rsa})
	require.NoError(t, err)
	for _, test := range []struct {
		permission, algorithm string
		allowed               bool
	}{
		{"kms:ReEncryptFrom", string(rsa), false},
		{"kms:ReEncryptFrom", "SYMMETRIC_DEFAULT", true},
		{"kms:ReEncryptTo", string(rsa), true},
		{"kms:ReEncryptTo", "SYMMETRIC_DEFAULT", false},
	} {
		p := with(t, appSession, allowAll, strings.Replace(condition(test.permission, "StringEquals", "kms:EncryptionAlgorithm", test.algorithm), `"Allow"`, `"Deny"`, 1))
		_, err := svc.As(p).ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: from.KeyId, CiphertextBlob: encrypted.CiphertextBlob,
			SourceEncryptionAlgorithm: rsa, DestinationKeyId: to.KeyId})
		if test.allowed {
			require.NoError(t, err)
		} else {
			requireRefused(t, err, test.permission+" on resource")
		}
	}
}

// A decision by the aliases of a key is not kept: they can change without the key.
func TestAnAliasThatIsDeletedCountsNoLonger(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	p := with(t, appSession,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}}`)
	createAlias(t, svc, "alias/a", k.KeyId)
	for range 2 {
		require.NoError(t, describeAs(svc, p, k.KeyId))
	}
	_, err := svc.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: "alias/a"})
	require.NoError(t, err)
	requireRefused(t, describeAs(svc, p, k.KeyId), "no identity-based policy allows")
}

// Who may change an alias of one key may not change it if it has just been moved to another.
func TestAnAliasThatIsMovedMeanwhileIsDecidedAgain(t *testing.T) {
	var app kms.Principal
	var meanwhile func()
	svc, _ := newService(t, func(c *kms.Config) {
		c.Identities = func(_ context.Context, p kms.Principal) (kms.Principal, error) {
			if p.ARN() != appSession {
				return p, nil
			}
			if f := meanwhile; f != nil {
				meanwhile = nil
				f()
			}
			return app, nil
		}
	})
	for operation, change := range map[string]func(*kms.Service, *kms.KeyMetadata) error{
		"DeleteAlias": func(svc *kms.Service, _ *kms.KeyMetadata) error { return deleteAlias(svc, "alias/DeleteAlias") },
		"UpdateAlias": func(svc *kms.Service, to *kms.KeyMetadata) error {
			return updateAlias(svc, "alias/UpdateAlias", to.KeyId)
		},
	} {
		ours, theirs, to := createKey(t, svc, nil), createKey(t, svc, nil), createKey(t, svc, nil)
		createAlias(t, svc, "alias/"+operation, ours.KeyId)
		app = with(t, appSession, policy("Allow", "kms:*", "arn:aws:kms:us-east-1:111122223333:alias/*"), policy("Allow", "kms:*", ours.Arn), policy("Allow", "kms:*", to.Arn))
		meanwhile = func() { require.NoError(t, updateAlias(svc, "alias/"+operation, theirs.KeyId)) }
		requireRefused(t, change(svc.As(principal(t, appSession)), to), "kms:"+operation+" on resource: "+theirs.Arn)
		require.Equal(t, theirs, describe(t, svc, "alias/"+operation))
	}
}

// Names that differ only in case are one condition key, and its values refuse whatever any of them
// would refuse: nobody passes a condition by adding another spelling.
func TestAnotherSpellingPassesNoCondition(t *testing.T) {
	svc, _ := newService(t)
	both := map[string]string{"tenant": "red", "Tenant": "blue"}
	allow, deny := condition("kms:*", "StringEquals", "%s", "red"), strings.Replace(condition("kms:*", "StringEquals", "%s", "blue"), `"Allow"`, `"Deny"`, 1)
	refused := func(call func(kms.Principal) error, key string) {
		t.Helper()
		require.ErrorIs(t, call(with(t, appSession, fmt.Sprintf(allow, key))), kms.AccessDeniedException)
		requireRefused(t, call(with(t, appSession, allowAll, fmt.Sprintf(deny, key))), "explicit deny")
		require.NoError(t, call(with(t, appSession, allowAll)))
	}
	k := createKey(t, svc, nil)
	refused(func(p kms.Principal) error { return encryptAs(svc, p, k.KeyId, both) }, "kms:EncryptionContext:tenant")
	app := with(t, appSession, fmt.Sprintf(allow, "kms:EncryptionContext:tenant"))
	require.NoError(t, encryptAs(svc, app, k.KeyId, map[string]string{"tenant": "red", "TENANT": "red"}))
	tags := []kms.Tag{{TagKey: "team", TagValue: "red"}, {TagKey: "Team", TagValue: "blue"}}
	for range 2 {
		refused(func(p kms.Principal) error {
			_, err := svc.As(p).TagResource(t.Context(), &kms.TagResourceInput{KeyId: createKey(t, svc, nil).KeyId, Tags: tags})
			return err
		}, "aws:RequestTag/team")
		slices.Reverse(tags)
	}
	tagged := createKey(t, svc, &kms.CreateKeyInput{Tags: tags})
	refused(func(p kms.Principal) error { return describeAs(svc, p, tagged.KeyId) }, "aws:ResourceTag/team")

	_, err := principal(t, appSession).WithIdentity(kms.Identity{Tags: both})
	require.ErrorContains(t, err, `another key differs from "tenant" only in case`)
}

// Neither an Allow nor a Deny of kms:RetireGrant in a key policy counts.
func TestAKeyPolicyHasNoSayAboutRetiring(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	retire := func(p kms.Principal) error {
		g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: fixtureAlice})
		_, err := svc.As(p).RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.KeyId, GrantId: g.GrantId})
		return err
	}
	setPolicy(t, svc, k.KeyId,
		`{"Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:RetireGrant","Resource":"*"},{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
	require.NoError(t, retire(principal(t, fixtureAlice)))
	setPolicy(t, svc, k.KeyId, everybodys)
	requireRefused(t, retire(principal(t, appSession)), "no identity-based policy allows the kms:RetireGrant action")
}

const manages = `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:PutKeyPolicy","Resource":"*"}`

// A key policy that names a user or a session itself, or everyone, is not limited by what the
// boundary and the session policies leave out, and one that names the role or the account is. The
// IAM User Guide says it of everyone where aws:PrincipalArn is the role, too. A Deny limits all.
func TestLimitsOfWhomAKeyPolicyNames(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	other := kms.Policy{Document: policy("Allow", "s3:*", "*")}
	deny := kms.Policy{Document: policy("Deny", "kms:*", "*")}
	all := []kms.Policy{{Document: allowAll}}
	limits := func(p kms.Policy) map[string]kms.Identity {
		return map[string]kms.Identity{"session policy": {Policies: all, SessionPolicies: []kms.Policy{p}}, "permissions boundary": {Policies: all, Boundary: &p}}
	}
	for named, limited := range map[string]bool{
		`{"AWS":"` + appSession + `"}`: false, `{"AWS":"` + appRole + `"}`: true, `{"AWS":"111122223333"}`: true, `"*"`: false,
		`"*","Condition":{"ArnLike":{"aws:PrincipalArn":"` + appRole + `"}}`: false, `{"AWS":["*","` + appRole + `"]}`: false,
		`{"AWS":["*","` + appRole + `","` + appSession + `","111122223333"]}`: false,
	} {
		setPolicy(t, svc, k.KeyId, `{"Statement":[`+manages+`,{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*","Principal":`+named+`}]}`)
		for reason, id := range limits(other) {
			err := describeAs(svc, withIdentity(t, appSession, id), k.KeyId)
			if limited {
				requireRefused(t, err, "no "+reason+" allows")
			} else {
				require.NoError(t, err, named)
			}
		}
		for reason, id := range limits(deny) {
			requireRefused(t, describeAs(svc, withIdentity(t, appSession, id), k.KeyId), "with an explicit deny in a "+reason)
		}
		requireRefused(t, describeAs(svc, with(t, appSession, deny.Document), k.KeyId), "with an explicit deny in an identity-based policy")
	}
	// In another account its policies must allow, too.
	setPolicy(t, svc, k.KeyId, everybodys)
	for reason, id := range limits(other) {
		requireRefused(t, describeAs(svc, withIdentity(t, extSession, id), k.Arn), "no "+reason+" allows")
	}
}

// A grant to a service counts only if the account of the key created it: no other account can let a
// service use the key.
func TestAGrantToAServiceIsOfTheKeysAccount(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	s3, err := kms.ServicePrincipal("s3.amazonaws.com")
	require.NoError(t, err)
	in := &kms.CreateGrantInput{KeyId: k.Arn, GranteeServicePrincipal: "s3.amazonaws.com", RetiringServicePrincipal: "s3.amazonaws.com",
		Operations: []kms.GrantOperation{kms.GrantOperationDescribeKey}, Constraints: &kms.GrantConstraints{SourceArn: "arn:aws:s3:::documents"}}
	ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{SourceARN: "arn:aws:s3:::documents"})
	for _, issuer := range []kms.Principal{rootOf(t, "444455556666"), svc.Caller()} {
		setPolicy(t, svc, k.KeyId, everybodys)
		_, err = svc.As(issuer).CreateGrant(t.Context(), in)
		require.NoError(t, err)
		setPolicy(t, svc, k.KeyId, `{"Statement":`+manages+`}`)
		_, err = svc.As(s3).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.Arn})
		if issuer == svc.Caller() {
			require.NoError(t, err)
		} else {
			requireRefused(t, err, hiddenResource)
		}
	}
}

// That somebody may ask for a grant that does not exist is not kept as the right to retire those
// that do.
func TestTheRightToRetireIsOfOneGrant(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys})
	app := svc.As(with(t, appSession, policy("Allow", "kms:RetireGrant", "*")))
	theirs, err := svc.As(rootOf(t, foreignAccount)).CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.Arn, GranteePrincipal: extRole,
		Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}})
	require.NoError(t, err)
	for range 2 {
		_, err := app.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.KeyId, GrantId: strings.Repeat("0", 64)})
		require.ErrorIs(t, err, kms.NotFoundException)
	}
	_, err = app.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: k.KeyId, GrantId: theirs.GrantId})
	requireRefused(t, err, "kms:RetireGrant on resource")
}

// Who denies itself what it was never allowed does not learn by the refusal which keys exist.
func TestADenyOfOnesOwnDisclosesNoCiphertext(t *testing.T) {
	svc, _ := newService(t)
	ciphertext := encrypt(t, svc, createKey(t, svc, nil).KeyId, "x")
	p := with(t, extSession, allowAll, policy("Deny", "kms:Decrypt", "*"))
	for _, blob := range [][]byte{ciphertext, flip(ciphertext, 8*10)} { // the other has no key
		_, err := svc.As(p).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
		requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(extSession, "kms:Decrypt"))
	}
}

// Whose account may use a key, but not itself, learns by a ciphertext no more than that.
func TestARefusalOfACiphertextDoesNotNameItsKey(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys})
	ciphertext := encrypt(t, svc, k.KeyId, "x")
	for _, p := range []kms.Principal{with(t, extSession), with(t, extSession, policy("Deny", "kms:Decrypt", "*"))} {
		_, err := svc.As(p).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
		requireRefused(t, err, "kms:Decrypt on the resource associated with this ciphertext")
		require.ErrorContains(t, err, "identity-based policy")
		require.NotContains(t, err.Error(), k.KeyId)
	}
}

// A failure to read what a condition asks for discloses no key of another account.
func TestAFailureDisclosesNoKeyOfAnotherAccount(t *testing.T) {
	backend := &unreliable{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = backend, sharedRoot })
	k := createKey(t, svc, nil)
	ciphertext := encrypt(t, svc, k.KeyId, "x")
	setPolicy(t, svc, k.KeyId, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":"false"}}}}`)
	ext := svc.As(with(t, extSession, allowAll))
	mine, err := ext.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	for _, source := range []string{k.Arn, ""} {
		backend.prefix.Store(nil)
		alias := "alias/mine" + fmt.Sprint(len(source))
		_, err = ext.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: mine.KeyMetadata.KeyId})
		require.NoError(t, err)
		_, err = ext.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: mine.KeyMetadata.KeyId}) // out of the cache
		require.NoError(t, err)
		in := &kms.ReEncryptInput{CiphertextBlob: ciphertext, SourceKeyId: source, DestinationKeyId: mine.KeyMetadata.Arn}
		_, err = ext.ReEncrypt(t.Context(), in)
		require.NoError(t, err, "it is not the same key")
		in.DestinationKeyId = alias
		backend.reads.Store(0)
		backend.prefix.Store(new("alias/"))
		_, err = ext.ReEncrypt(t.Context(), in)
		requireRefused(t, err, hiddenResource)
		require.NotContains(t, err.Error(), k.KeyId)
	}
}

// Nor does a failure to read the key of a ciphertext.
func TestAFailureDisclosesNoKeyOfACiphertext(t *testing.T) {
	backend := memory.New()
	t.Cleanup(func() { require.NoError(t, backend.Close()) })
	clock := newClock()
	svc, out := join(t, process{Backend: backend}, clock), &unreliable{Backend: process{Backend: backend}}
	ciphertext := encrypt(t, svc, createKey(t, svc, nil).KeyId, "x")
	restarted := join(t, out, clock)
	out.prefix.Store(new("key/"))
	_, err := restarted.As(with(t, extSession, allowAll)).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(extSession, "kms:Decrypt"))
	require.Equal(t, int64(-1), out.reads.Load())
	out.reads.Store(0)
	_, err = restarted.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext})
	require.ErrorIs(t, err, kms.KMSInternalException)
}
