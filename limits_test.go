package kms

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAKeyHasALimitOfGrants(t *testing.T) {
	svc, err := New(Config{Limits: Limits{GrantsPerKey: 1}})
	require.NoError(t, err)
	defer svc.Close()
	key, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	keyID := key.KeyMetadata.KeyId
	create := func(name string, dryRun bool) error {
		_, err := svc.CreateGrant(t.Context(), &CreateGrantInput{
			KeyId: keyID, Name: name, DryRun: dryRun,
			GranteePrincipal: "arn:aws:iam::111122223333:user/alice", Operations: []GrantOperation{GrantOperationDecrypt},
		})
		return err
	}
	require.NoError(t, create("last", false))
	const refusal = "kms: CreateGrant: LimitExceededException: Grants per key quota for this account in this region is 1, current usage is 1."
	for _, dryRun := range []bool{false, true} {
		require.EqualError(t, create("another", dryRun), refusal)
		require.EqualError(t, create("", dryRun), refusal)
	}
	require.NoError(t, create("last", false), "it exists")
	require.ErrorIs(t, create("last", true), DryRunOperationException)
}

func TestTheLimitsOfAnAccountAreThoseOfConfig(t *testing.T) {
	svc, err := New(Config{Limits: Limits{KeysPerRegion: 2, AliasesPerKey: 1}})
	require.NoError(t, err)
	defer svc.Close()
	ctx := t.Context()
	first, err := svc.EnsureKey(ctx, "alias/a", nil)
	require.NoError(t, err)
	_, err = svc.CreateAlias(ctx, &CreateAliasInput{AliasName: "alias/b", TargetKeyId: first.KeyId})
	require.EqualError(t, err, "kms: CreateAlias: LimitExceededException: Aliases per key quota for this account in this region is 1, current usage is 1.")
	_, err = svc.CreateKey(ctx, &CreateKeyInput{MultiRegion: true})
	require.NoError(t, err)
	_, err = svc.DescribeKey(ctx, &DescribeKeyInput{KeyId: "alias/aws/s3"})
	require.NoError(t, err, "the keys of AWS are not counted")
	const refusal = "LimitExceededException: Customer managed keys quota for this account in this region is 2, current usage is 2."
	_, err = svc.CreateKey(ctx, nil)
	require.EqualError(t, err, "kms: CreateKey: "+refusal)
	_, err = svc.EnsureKey(ctx, "alias/c", nil)
	require.ErrorIs(t, err, LimitExceededException)
	_, err = svc.In("eu-west-1").CreateKey(ctx, nil)
	require.NoError(t, err)
	other, err := ParsePrincipal("arn:aws:iam::444455556666:root")
	require.NoError(t, err)
	_, err = svc.As(other).CreateKey(ctx, nil)
	require.NoError(t, err)
	for err := range svc.Check(ctx, nil) {
		t.Error(err)
	}
}

func TestLimitsHaveDefaults(t *testing.T) {
	svc, err := New(Config{Limits: Limits{KeysPerRegion: 200_000}})
	require.NoError(t, err)
	defer svc.Close()
	require.Equal(t, Limits{200_000, 50, 50_000, 10}, svc.core.config.Limits)
	for _, limits := range []Limits{{KeysPerRegion: -1}, {AliasesPerKey: -1}, {GrantsPerKey: -1}, {CustomKeyStoresPerRegion: -1}} {
		_, err := New(Config{Limits: limits})
		require.ErrorContains(t, err, "negative Limits")
	}
}
