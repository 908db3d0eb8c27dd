package kms_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

const (
	otherAccount = "444455556666"
	fixtureBob   = "arn:aws:iam::" + otherAccount + ":role/path/bob"
)

func listGrants(t testing.TB, svc *kms.Service, in *kms.ListGrantsInput) []kms.GrantListEntry {
	t.Helper()
	out, err := svc.ListGrants(context.Background(), in)
	require.NoError(t, err)
	return out.Grants
}

func grantsOf(t testing.TB, svc *kms.Service, keyID string) []kms.GrantListEntry {
	t.Helper()
	return listGrants(t, svc, &kms.ListGrantsInput{KeyId: keyID})
}

func retirable(t testing.TB, svc *kms.Service, principal string) (ids []string) {
	t.Helper()
	out, err := svc.ListRetirableGrants(context.Background(), &kms.ListRetirableGrantsInput{RetiringPrincipal: principal})
	require.NoError(t, err)
	for _, g := range out.Grants {
		ids = append(ids, g.GrantId)
	}
	return ids
}

func retire(svc *kms.Service, token string) error {
	_, err := svc.RetireGrant(context.Background(), &kms.RetireGrantInput{GrantToken: token})
	return err
}

// useToken makes a call with grant tokens.
func useToken(svc *kms.Service, keyID string, tokens ...string) error {
	_, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: keyID, GrantTokens: tokens})
	return err
}

func TestAGrantIsListedAsItWasCreated(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	require.Equal(t, []kms.GrantListEntry{}, grantsOf(t, svc, k.KeyId))
	constraints := &kms.GrantConstraints{
		EncryptionContextSubset: map[string]string{"Department": "IT", "é": strings.Repeat("é", 384)},
		SourceArn:               "arn:aws:s3:::amzn-s3-demo-bucket",
	}
	const service = "dynamodb.amazonaws.com"
	whole := createGrant(t, svc, &kms.CreateGrantInput{
		KeyId: k.Arn, GranteeServicePrincipal: service, RetiringServicePrincipal: service, Constraints: constraints, Name: "a:b/c_d-1",
		Operations: []kms.GrantOperation{kms.GrantOperationEncrypt, kms.GrantOperationDecrypt, kms.GrantOperationEncrypt},
	})
	require.Regexp(t, "^[0-9a-f]{64}$", whole.GrantId)
	require.Regexp(t, "^[A-Za-z0-9_-]+$", whole.GrantToken)
	clock.Move(day)
	plain := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: fixtureBob, RetiringPrincipal: fixtureAlice, Constraints: &kms.GrantConstraints{}})
	require.ElementsMatch(t, []kms.GrantListEntry{
		{
			KeyId: k.Arn, GrantId: whole.GrantId, Name: "a:b/c_d-1", CreationDate: clock.Now().Add(-day), IssuingAccount: "arn:aws:iam::111122223333:root",
			GranteeServicePrincipal: service, RetiringServicePrincipal: service,
			Operations: []kms.GrantOperation{kms.GrantOperationEncrypt, kms.GrantOperationDecrypt}, Constraints: constraints,
		},
		{
			KeyId: k.Arn, GrantId: plain.GrantId, CreationDate: clock.Now(), IssuingAccount: "arn:aws:iam::111122223333:root",
			GranteePrincipal: fixtureBob, RetiringPrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
		},
	}, grantsOf(t, svc, k.KeyId))
}

func TestGrantsAreListedByIDAndByGrantee(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	a := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: fixtureAlice})
	b := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: fixtureBob})
	for _, test := range []struct {
		in   kms.ListGrantsInput
		want []string
	}{
		{kms.ListGrantsInput{GranteePrincipal: fixtureAlice}, []string{a.GrantId}},
		{kms.ListGrantsInput{GranteePrincipal: fixtureBob}, []string{b.GrantId}},
		{kms.ListGrantsInput{GranteePrincipal: "arn:aws:iam::111122223333:root"}, nil},
		{kms.ListGrantsInput{GrantId: b.GrantId}, []string{b.GrantId}},
		{kms.ListGrantsInput{GrantId: b.GrantId, GranteePrincipal: fixtureBob}, []string{b.GrantId}},
		{kms.ListGrantsInput{GrantId: b.GrantId, GranteePrincipal: fixtureAlice}, nil},
	} {
		test.in.KeyId = k.KeyId
		var ids []string
		for _, g := range listGrants(t, svc, &test.in) {
			ids = append(ids, g.GrantId)
		}
		require.Equal(t, test.want, ids, "%+v", test.in)
	}
	require.Equal(t, []string{a.GrantId}, retirable(t, svc, fixtureAlice))
	require.Empty(t, retirable(t, svc.In("eu-west-1"), fixtureAlice))
}

func TestRetirableGrantsAreListedAcrossKeysAndAccounts(t *testing.T) {
	svc, _ := newService(t)
	there := svc.As(rootOf(t, otherAccount))
	var want []string
	for range 2 {
		want = append(want, createGrant(t, svc, &kms.CreateGrantInput{KeyId: createKey(t, svc, nil).KeyId, RetiringPrincipal: fixtureBob}).GrantId)
		want = append(want, createGrant(t, there, &kms.CreateGrantInput{KeyId: createKey(t, there, nil).KeyId, RetiringPrincipal: fixtureBob}).GrantId)
	}
	require.ElementsMatch(t, want, retirable(t, there, fixtureBob))
	_, err := svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: fixtureBob})
	requireError(t, err, kms.AccessDeniedException, "User: arn:aws:iam::111122223333:root is not authorized to perform: kms:ListRetirableGrants on resource: "+
		fixtureBob+" because no resource-based policy allows the kms:ListRetirableGrants action")
}

func TestAPageOfGrantsHasTheUsualSizeUnlessGiven(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	for range 101 {
		createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: fixtureAlice})
	}
	for _, limit := range []*int32{nil, new(int32(100))} {
		size := 50
		if limit != nil {
			size = 100
		}
		grants, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId, Limit: limit})
		require.NoError(t, err)
		require.Len(t, grants.Grants, size)
		require.True(t, grants.Truncated)
		rest, err := svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: fixtureAlice, Limit: limit})
		require.NoError(t, err)
		require.Len(t, rest.Grants, size)
		require.True(t, rest.Truncated)
	}
}

func TestInvalidGrantsAreRefused(t *testing.T) {
	svc, _ := newService(t)
	k, mac := createKey(t, svc, nil), createMacKey(t, svc)
	pair := map[string]string{"k": "v"}
	const service = "s3.amazonaws.com"
	const source = "arn:aws:s3:::amzn-s3-demo-bucket"
	const oneGrantee = "Exactly one of GranteePrincipal and GranteeServicePrincipal must be specified."
	const needs = "A GranteeServicePrincipal requires the constraint SourceArn, and a RetiringPrincipal or RetiringServicePrincipal."
	for name, test := range map[string]struct {
		change  func(in *kms.CreateGrantInput)
		code    kms.ErrorCode
		message string
	}{
		"no grantee":   {func(in *kms.CreateGrantInput) { in.GranteePrincipal = "" }, kms.ValidationException, oneGrantee},
		"two grantees": {func(in *kms.CreateGrantInput) { in.GranteeServicePrincipal = service }, kms.ValidationException, oneGrantee},
		"two to retire": {func(in *kms.CreateGrantInput) {
			in.RetiringPrincipal, in.RetiringServicePrincipal = fixtureBob, service
		}, kms.ValidationException, "RetiringPrincipal and RetiringServicePrincipal cannot be specified together."},
		"no source": {func(in *kms.CreateGrantInput) {
			in.GranteePrincipal, in.GranteeServicePrincipal, in.RetiringPrincipal = "", service, fixtureBob
		}, kms.ValidationException, needs},
		"none to retire": {func(in *kms.CreateGrantInput) {
			in.GranteePrincipal, in.GranteeServicePrincipal, in.Constraints = "", service, &kms.GrantConstraints{SourceArn: source}
		}, kms.ValidationException, needs},
		"two contexts": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: pair, EncryptionContextSubset: pair}
		}, kms.ValidationException, "EncryptionContextEquals and EncryptionContextSubset cannot be specified together."},
		"an empty value": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"k": ""}}
		}, kms.ValidationException, "Invalid EncryptionContext"},
		"an empty key": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"": "v"}}
		}, kms.ValidationException, "Invalid EncryptionContext"},
		"not UTF-8": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"k": "\xff"}}
		}, kms.ValidationException, "Invalid EncryptionContext"},
		"a source of no text": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{SourceArn: strings.Repeat("\xff", 20)}
		}, kms.ValidationException, "SourceArn must be valid UTF-8."},
		"a long value": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"k": strings.Repeat("é", 385)}}
		}, kms.ValidationException, "A value of an encryption context constraint has at most 384 characters."},
		"a long key": {func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextEquals: map[string]string{strings.Repeat("k", 8192): "v"}}
		}, kms.ValidationException, "The encryption context is longer than 8192 bytes."},
		"nine pairs": {func(in *kms.CreateGrantInput) {
			nine := map[string]string{}
			for i := range 9 {
				nine[fmt.Sprint(i)] = "v"
			}
			in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: nine}
		}, kms.ValidationException, "1 validation error detected: Value at 'constraints.encryptionContextSubset' failed to satisfy constraint: Member must have length less than or equal to 8"},
		"a context for a MAC": {func(in *kms.CreateGrantInput) {
			in.KeyId, in.Operations, in.Constraints = mac.KeyId, []kms.GrantOperation{kms.GrantOperationVerifyMac}, &kms.GrantConstraints{EncryptionContextEquals: pair}
		}, kms.ValidationException, "An encryption context constraint is only for symmetric encryption keys; " + mac.Arn + " is not one."},
	} {
		t.Run(name, func(t *testing.T) {
			in := &kms.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}}
			test.change(in)
			for _, in.DryRun = range []bool{false, true} {
				out, err := svc.CreateGrant(t.Context(), in)
				requireError(t, err, test.code, "%s", test.message)
				require.Nil(t, out)
			}
		})
	}
	require.Empty(t, grantsOf(t, svc, k.KeyId))
}

func TestAPrincipalOfAGrantIsAnARNOrAUniqueID(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	create := func(svc *kms.Service, grantee, retiring string) error {
		_, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: k.Arn, GranteePrincipal: grantee, RetiringPrincipal: retiring,
			Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}})
		return err
	}
	for _, valid := range []string{
		"arn:aws:iam::111122223333:root", fixtureAlice, fixtureBob, "arn:aws:sts::444455556666:assumed-role/app/session",
		"arn:aws:sts::444455556666:federated-user/bob", "AIDACKCEVSQ6C2EXAMPLE", "AROADBQP57FF2AEXAMPLE", "AROADBQP57FF2AEXAMPLE:session",
	} {
		require.NoError(t, create(svc, valid, valid), valid)
	}
	for _, text := range []string{
		"111122223333", "s3.amazonaws.com", "arn:aws:iam::111122223333:group/g", "arn:aws:iam::11112222333:root", "arn:aws:iam::111122223333:user/",
		"arn:aws-cn:iam::111122223333:root", "arn:aws:s3:::amzn-s3-demo-bucket", "alice", "AROADBQP57FF2AEXAMPLE:", "AIDACKCEVSQ6C2EXAMPLE:session",
		"AROADBQP57ff2AEXAMPLE", "AROASHORT",
	} {
		requireError(t, create(svc, text, ""), kms.InvalidArnException, "ARN does not refer to a valid principal: %s", text)
		requireError(t, create(svc, fixtureAlice, text), kms.InvalidArnException, "ARN does not refer to a valid principal: %s", text)
		_, err := svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: text})
		requireError(t, err, kms.InvalidArnException, "ARN does not refer to a valid principal: %s", text)
	}
	const path = "arn:aws:sts::111122223333:assumed-role/path/app/session"
	requireError(t, create(svc, path, ""), kms.InvalidArnException, "ARN is not valid: %s", path)
	_, err := svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: "AROADBQP57FF2AEXAMPLE"})
	require.ErrorIs(t, err, kms.InvalidArnException, "it does not say whose it is")
}

func TestTheOperationsOfAGrantMustSuitItsKey(t *testing.T) {
	svc, _ := newService(t)
	common := []kms.GrantOperation{kms.GrantOperationCreateGrant, kms.GrantOperationRetireGrant, kms.GrantOperationDescribeKey}
	for _, test := range []struct {
		key  *kms.KeyMetadata
		kind string
		own  []kms.GrantOperation
	}{
		{createKey(t, svc, nil), "a symmetric", []kms.GrantOperation{kms.GrantOperationEncrypt, kms.GrantOperationDecrypt,
			kms.GrantOperationReEncryptFrom, kms.GrantOperationReEncryptTo, kms.GrantOperationGenerateDataKey,
			kms.GrantOperationGenerateDataKeyWithoutPlaintext, kms.GrantOperationGenerateDataKeyPair, kms.GrantOperationGenerateDataKeyPairWithoutPlaintext}},
		{createMacKey(t, svc), "a symmetric", []kms.GrantOperation{kms.GrantOperationGenerateMac, kms.GrantOperationVerifyMac}},
		{createSigningKey(t, svc), "an asymmetric", []kms.GrantOperation{kms.GrantOperationSign, kms.GrantOperationVerify, kms.GrantOperationGetPublicKey}},
	} {
		possible := append(slices.Clone(common), test.own...)
		createGrant(t, svc, &kms.CreateGrantInput{KeyId: test.key.KeyId, Operations: possible})
		for _, op := range kms.GrantOperation("").Values() {
			_, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: test.key.KeyId, GranteePrincipal: fixtureAlice, Operations: []kms.GrantOperation{op, kms.GrantOperationDescribeKey, op}})
			if slices.Contains(possible, op) {
				require.NoError(t, err, op)
				continue
			}
			requireError(t, err, kms.ValidationException, "Operations [%s] are not supported when creating a grant for %s KMS key with key usage %s. Valid operations are [%s]",
				op, test.kind, test.key.KeyUsage, strings.Trim(strings.ReplaceAll(fmt.Sprint(possible), " ", ", "), "[]"))
		}
	}
}

func TestANamedGrantIsCreatedOnce(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	in := &kms.CreateGrantInput{KeyId: k.KeyId, Name: "n", Constraints: &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "1", "b": "2"}}}
	first := createGrant(t, svc, in)
	created := clock.Now()
	clock.Move(day)
	again := createGrant(t, svc, in)
	require.Equal(t, first.GrantId, again.GrantId)
	require.NotEqual(t, first.GrantToken, again.GrantToken)
	require.Len(t, grantsOf(t, svc, k.KeyId), 1)
	require.Equal(t, created, grantsOf(t, svc, k.KeyId)[0].CreationDate)
	for name, change := range map[string]func(in *kms.CreateGrantInput){
		"another key":          func(in *kms.CreateGrantInput) { in.KeyId = createKey(t, svc, nil).KeyId },
		"another name":         func(in *kms.CreateGrantInput) { in.Name = "m" },
		"no name":              func(in *kms.CreateGrantInput) { in.Name = "" },
		"another grantee":      func(in *kms.CreateGrantInput) { in.GranteePrincipal = fixtureBob },
		"a retiring principal": func(in *kms.CreateGrantInput) { in.RetiringPrincipal = fixtureBob },
		"one operation more": func(in *kms.CreateGrantInput) {
			in.Operations = []kms.GrantOperation{kms.GrantOperationDecrypt, kms.GrantOperationEncrypt}
		},
		"other constraints": func(in *kms.CreateGrantInput) {
			in.Constraints = &kms.GrantConstraints{EncryptionContextSubset: in.Constraints.EncryptionContextEquals}
		},
		"no constraints": func(in *kms.CreateGrantInput) { in.Constraints = nil },
	} {
		other := *in
		change(&other)
		require.NotEqual(t, first.GrantId, createGrant(t, svc, &other).GrantId, name)
	}
	require.NoError(t, retire(svc, again.GrantToken))
	require.NotEqual(t, first.GrantId, createGrant(t, svc, in).GrantId, "a retired grant does not count")
}

func TestAllTokensOfAGrantNameIt(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true})
	other := createKey(t, svc, nil)
	in := &kms.CreateGrantInput{KeyId: k.KeyId, Name: "n"}
	one, two := createGrant(t, svc, in).GrantToken, createGrant(t, svc, in).GrantToken
	require.NoError(t, useToken(svc, k.KeyId, one, two))
	require.NoError(t, useToken(svc, other.KeyId, one), "it is of another key, and changes nothing")
	requireError(t, useToken(svc.As(principal(t, fixtureAlice)), k.KeyId, one), kms.AccessDeniedException,
		"User: %s is not authorized to perform: kms:DescribeKey on resource: %s because no identity-based policy allows the kms:DescribeKey action", fixtureAlice, k.Arn)

	require.NoError(t, retire(svc, one))
	require.Empty(t, grantsOf(t, svc, k.KeyId))
	for _, token := range []string{one, two} {
		requireError(t, retire(svc, token), kms.InvalidGrantTokenException, "The grant token is not valid.")
		requireError(t, useToken(svc, k.KeyId, token), kms.InvalidGrantTokenException, "The grant token is not valid.")
	}
}

func TestAGrantTokenThatNamesNoGrantIsRefused(t *testing.T) {
	svc, clock := newService(t)
	k, doomed := createKey(t, svc, nil), createKey(t, svc, nil)
	token := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId}).GrantToken
	gone := createGrant(t, svc, &kms.CreateGrantInput{KeyId: doomed.KeyId}).GrantToken
	scheduleDeletion(t, svc, doomed.KeyId, 7)
	clock.Move(7 * day)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	with := func(i int, b byte) string {
		changed := slices.Clone(raw)
		changed[i] = b
		return base64.RawURLEncoding.EncodeToString(changed)
	}
	for name, bad := range map[string]string{
		"of a deleted key": gone, "no token": "x", "half a token": token[:len(token)/2], "a token and more": token + "A", "with a line break": token[:10] + "\n" + token[11:],
		"with bits that mean nothing": token[:len(token)-1] + string(token[len(token)-1]+1),
		"padded":                      token + "==", "in another alphabet": strings.Repeat("+/", len(token)/2), "of another version": with(0, 2), "of other flags": with(1, 2),
		"of a multi-Region key": with(1, 1), "of no account": with(2, 'x'), "of another account": with(2, '9'), "of another key": with(20, raw[20]^1), "of another grant": with(40, raw[40]^1),
	} {
		requireError(t, useToken(svc, k.KeyId, bad), kms.InvalidGrantTokenException, "The grant token is not valid.")
		if name == "of another account" {
			requireDeniedForeign(t, retire(svc, bad), svc.Caller(), "kms:RetireGrant")
			continue
		}
		requireError(t, retire(svc, bad), kms.InvalidGrantTokenException, "The grant token is not valid.")
	}
	requireError(t, useToken(svc, k.KeyId, token, gone), kms.InvalidGrantTokenException, "The grant token is not valid.")
	there := svc.In("eu-west-1")
	requireError(t, useToken(there, createKey(t, there, nil).KeyId, token), kms.InvalidGrantTokenException, "The grant token is not valid.")
	requireError(t, retire(there, token), kms.InvalidGrantTokenException, "The grant token is not valid.")
	require.NoError(t, retire(svc, token))
}

func TestAGrantIsRetiredOrRevokedByItsKeyAndID(t *testing.T) {
	svc, _ := newService(t)
	k, other := createKey(t, svc, nil), createKey(t, svc, nil)
	for name, end := range map[string]func(keyID, id string, dryRun bool) error{
		"RetireGrant": func(keyID, id string, dryRun bool) error {
			_, err := svc.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: keyID, GrantId: id, DryRun: dryRun})
			return err
		},
		"RevokeGrant": func(keyID, id string, dryRun bool) error {
			_, err := svc.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: keyID, GrantId: id, DryRun: dryRun})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, keyID := range []string{k.KeyId, k.Arn} {
				g := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: fixtureAlice})
				kept := createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, RetiringPrincipal: fixtureAlice})
				requireError(t, end(other.KeyId, g.GrantId, false), kms.NotFoundException, "Grant %s does not exist", g.GrantId)
				require.ErrorIs(t, end(keyID, g.GrantId, true), kms.DryRunOperationException)
				require.Len(t, grantsOf(t, svc, k.KeyId), 2)
				require.NoError(t, end(keyID, g.GrantId, false))
				require.Equal(t, []string{kept.GrantId}, retirable(t, svc, fixtureAlice))
				requireError(t, end(keyID, g.GrantId, false), kms.NotFoundException, "Grant %s does not exist", g.GrantId)
				requireError(t, end(keyID, g.GrantId, true), kms.NotFoundException, "Grant %s does not exist", g.GrantId)
				require.NoError(t, end(keyID, kept.GrantId, false))
			}
			for _, id := range []string{"x", strings.Repeat("A", 64), strings.Repeat("a", 63), strings.Repeat("a", 65), strings.Repeat("g", 64), strings.Repeat("a", 62) + "/."} {
				requireError(t, end(k.KeyId, id, false), kms.InvalidGrantIdException, "The grant ID is not valid.")
				_, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId, GrantId: id})
				requireError(t, err, kms.InvalidGrantIdException, "The grant ID is not valid.")
			}
		})
	}
	for _, in := range []*kms.RetireGrantInput{{}, {KeyId: k.KeyId}, {GrantId: strings.Repeat("a", 64)}} {
		_, err := svc.RetireGrant(t.Context(), in)
		requireError(t, err, kms.ValidationException, "Grant token OR (grant ID, key ID) must be specified.")
	}
}

func TestListsOfServicesAreForServices(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	const service, refusal = "s3.amazonaws.com", "Only an AWS service can list by a service principal."
	_, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId, GranteeServicePrincipal: service})
	requireError(t, err, kms.ValidationException, refusal)
	_, err = svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId, GranteeServicePrincipal: service, GranteePrincipal: fixtureAlice})
	requireError(t, err, kms.ValidationException, "GranteePrincipal and GranteeServicePrincipal cannot be specified together.")
	_, err = svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringServicePrincipal: service})
	requireError(t, err, kms.ValidationException, refusal)
	for _, in := range []*kms.ListRetirableGrantsInput{{}, {RetiringPrincipal: fixtureAlice, RetiringServicePrincipal: service}} {
		_, err = svc.ListRetirableGrants(t.Context(), in)
		requireError(t, err, kms.ValidationException, "Exactly one of RetiringPrincipal and RetiringServicePrincipal must be specified.")
	}
}

func TestAKeyIsDeletedWithItsGrants(t *testing.T) {
	svc, clock := newService(t)
	k, kept := createKey(t, svc, nil), createKey(t, svc, nil)
	for i := range 5 {
		createGrant(t, svc, &kms.CreateGrantInput{KeyId: k.KeyId, Name: fmt.Sprint(i), RetiringPrincipal: fixtureAlice})
	}
	left := createGrant(t, svc, &kms.CreateGrantInput{KeyId: kept.KeyId, RetiringPrincipal: fixtureAlice})
	scheduleDeletion(t, svc, k.KeyId, 7)
	require.Len(t, grantsOf(t, svc, k.KeyId), 5)
	clock.Move(7 * day)
	require.Equal(t, []string{left.GrantId}, retirable(t, svc, fixtureAlice), "it counts as deleted before anything asks for it")
	_, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: k.KeyId})
	requireError(t, err, kms.NotFoundException, "Key '%s' does not exist", k.Arn)
	require.Equal(t, []string{left.GrantId}, retirable(t, svc, fixtureAlice))
}

func TestTheEventsOfGrantsShowAllButTheToken(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	k := createKey(t, svc, nil)
	s.take()
	g := createGrant(t, svc, &kms.CreateGrantInput{
		KeyId: k.KeyId, Name: "n", RetiringPrincipal: fixtureBob, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
		Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}, SourceArn: "arn:aws:s3:::amzn-s3-demo-bucket"},
	})
	require.NoError(t, retire(svc, g.GrantToken))
	_ = retire(svc, g.GrantToken)
	_ = useToken(svc, k.KeyId, g.GrantToken)
	events := s.take()
	require.Len(t, events, 4)
	require.Equal(t, map[string]any{
		"keyId": k.KeyId, "name": "n", "granteePrincipal": fixtureAlice, "retiringPrincipal": fixtureBob, "operations": []any{"Decrypt"},
		"constraints": map[string]any{"encryptionContextSubset": map[string]any{"a": "b"}, "sourceArn": "arn:aws:s3:::amzn-s3-demo-bucket"},
	}, events[0].RequestParameters.Map())
	require.Equal(t, map[string]any{"grantId": g.GrantId, "keyId": k.Arn}, events[0].ResponseElements.Map())
	require.Zero(t, events[1].RequestParameters)
	require.Equal(t, map[string]any{"keyId": k.Arn}, events[1].ResponseElements.Map())
	require.Equal(t, resources(k.Arn), events[1].Resources)
	for _, e := range events {
		requireNoSecret(t, fmt.Sprintf("%+v %v %v", e, e.RequestParameters.Map(), e.ResponseElements.Map()), [][]byte{[]byte(g.GrantToken)})
	}
}
