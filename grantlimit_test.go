package kms

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/keydb"
)

// The count of a key's grants is set, because 50,000 grants would take a test too long.
func TestAKeyHasALimitOfGrants(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	key, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	ref := keydb.Ref{Account: key.KeyMetadata.AWSAccountId, Region: svc.Region(), ID: key.KeyMetadata.KeyId}
	k, err := svc.core.db.Key(t.Context(), ref, svc.core.config.Clock())
	require.NoError(t, err)
	_, err = svc.core.db.Update(t.Context(), k, func(r *keydb.Record) { r.Grants = grantsPerKey - 1 })
	require.NoError(t, err)

	create := func(name string, dryRun bool) error {
		_, err := svc.CreateGrant(t.Context(), &CreateGrantInput{
			KeyId: ref.ID, Name: name, DryRun: dryRun,
			GranteePrincipal: "arn:aws:iam::111122223333:user/alice", Operations: []GrantOperation{GrantOperationDecrypt},
		})
		return err
	}
	require.NoError(t, create("last", false))
	const refusal = "kms: CreateGrant: LimitExceededException: A key can have at most 50000 grants."
	for _, dryRun := range []bool{false, true} {
		require.EqualError(t, create("another", dryRun), refusal)
		require.EqualError(t, create("", dryRun), refusal)
	}
	require.NoError(t, create("last", false), "it exists")
	require.ErrorIs(t, create("last", true), DryRunOperationException)
}
