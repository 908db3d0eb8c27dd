package seed_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/seed"
)

const reader = "arn:aws:iam::111122223333:role/reader"

func grantedKey() seed.Key {
	return seed.Key{ID: symmetricID, Grants: []kms.CreateGrantInput{{
		Name: "reader", GranteePrincipal: reader, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt, kms.GrantOperationDescribeKey},
		Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "4711"}},
	}, {
		Name: "writer", GranteePrincipal: "arn:aws:iam::111122223333:role/writer", RetiringPrincipal: reader,
		Operations: []kms.GrantOperation{kms.GrantOperationEncrypt},
	}}}
}

func grants(t *testing.T, svc *kms.Service) map[string]kms.GrantListEntry {
	t.Helper()
	out, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: symmetricID})
	require.NoError(t, err)
	byName := map[string]kms.GrantListEntry{}
	for _, g := range out.Grants {
		byName[g.Name] = g
	}
	require.Len(t, byName, len(out.Grants))
	return byName
}

func TestAKeyCanHaveGrants(t *testing.T) {
	var changes []string
	svc := newAuditedService(t, audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
		if !e.ReadOnly {
			changes = append(changes, e.EventName)
		}
		return nil
	}))
	key := grantedKey()
	require.NoError(t, seed.Apply(t.Context(), svc, key))
	first := grants(t, svc)
	require.Len(t, first, 2)
	require.Equal(t, reader, first["reader"].GranteePrincipal)
	require.Equal(t, map[string]string{"tenant": "4711"}, first["reader"].Constraints.EncryptionContextSubset)
	require.Equal(t, reader, first["writer"].RetiringPrincipal)
	require.Empty(t, key.Grants[0].KeyId, "the input belongs to the caller")

	changes = nil
	key.Grants[0].Operations = []kms.GrantOperation{kms.GrantOperationDescribeKey, kms.GrantOperationDecrypt, kms.GrantOperationDecrypt}
	require.NoError(t, seed.Apply(t.Context(), svc, key))
	require.Equal(t, first, grants(t, svc), "the order of operations is no difference")
	require.Equal(t, []string{"CreateKey"}, changes)

	_, err := svc.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: symmetricID, GrantId: first["writer"].GrantId})
	require.NoError(t, err)
	require.NoError(t, seed.Apply(t.Context(), svc, key))
	require.Equal(t, first["reader"], grants(t, svc)["reader"])
	require.Contains(t, grants(t, svc), "writer", "it is there again")
}

func TestAGrantIsTheSameOnlyWithTheSameProperties(t *testing.T) {
	for name, change := range map[string]func(*kms.CreateGrantInput){
		"grantee":    func(g *kms.CreateGrantInput) { g.GranteePrincipal += "2" },
		"retiring":   func(g *kms.CreateGrantInput) { g.RetiringPrincipal = reader },
		"operations": func(g *kms.CreateGrantInput) { g.Operations = g.Operations[:1] },
		"context": func(g *kms.CreateGrantInput) {
			g.Constraints = &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "4712"}}
		},
		"kind of constraint": func(g *kms.CreateGrantInput) {
			g.Constraints = &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"tenant": "4711"}}
		},
		"no constraint": func(g *kms.CreateGrantInput) { g.Constraints = nil },
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			key := grantedKey()
			require.NoError(t, seed.Apply(t.Context(), svc, key))
			change(&key.Grants[0])
			require.NoError(t, seed.Apply(t.Context(), svc, key))
			out, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: symmetricID})
			require.NoError(t, err)
			require.Len(t, out.Grants, 3, "the former grant stays")
		})
	}
}

func TestGrantsAndTheStateOfTheKey(t *testing.T) {
	for _, state := range []kms.KeyState{kms.KeyStateDisabled, kms.KeyStatePendingDeletion} {
		t.Run(string(state), func(t *testing.T) {
			svc, key := newService(t), grantedKey()
			key.State = state
			for range 2 {
				require.NoError(t, seed.Apply(t.Context(), svc, key))
				require.Equal(t, state, describe(t, svc, symmetricID).KeyState)
				require.Len(t, grants(t, svc), 2)
			}
			key.Grants[0].Name = "another"
			require.ErrorContains(t, seed.Apply(t.Context(), svc, key), `grant "another": `)
		})
	}
	t.Run("enabled again", func(t *testing.T) {
		svc, key := newService(t), seed.Key{ID: symmetricID, State: kms.KeyStateDisabled}
		require.NoError(t, seed.Apply(t.Context(), svc, key))
		key = grantedKey()
		require.ErrorIs(t, seed.Apply(t.Context(), svc, key), kms.DisabledException)
		key.State = kms.KeyStateEnabled
		require.NoError(t, seed.Apply(t.Context(), svc, key))
		require.Len(t, grants(t, svc), 2)
	})
}

func TestImpossibleGrantsAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*kms.CreateGrantInput)
		want   string
	}{
		"without a name":   {func(g *kms.CreateGrantInput) { g.Name = "" }, "a grant needs a name"},
		"of another":       {func(g *kms.CreateGrantInput) { g.Name = "writer" }, `two grants of the key have the name "writer"`},
		"of another key":   {func(g *kms.CreateGrantInput) { g.KeyId = symmetricID }, "a grant has no KeyId, GrantTokens or DryRun"},
		"as a dry run":     {func(g *kms.CreateGrantInput) { g.DryRun = true }, "a grant has no KeyId, GrantTokens or DryRun"},
		"without anything": {func(g *kms.CreateGrantInput) { g.GranteePrincipal = "" }, `grant "reader": `},
		"of an operation":  {func(g *kms.CreateGrantInput) { g.Operations[0] = kms.GrantOperationSign }, "Operations [Sign] are not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			svc, key := newService(t), grantedKey()
			tt.change(&key.Grants[0])
			err := seed.Apply(t.Context(), svc, key)
			require.ErrorContains(t, err, `seed: keys[0] ("`+symmetricID+`"): `)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestMoreGrantsThanAPageHasAreFound(t *testing.T) {
	svc, key := newService(t), seed.Key{ID: symmetricID}
	for i := range 101 {
		key.Grants = append(key.Grants, kms.CreateGrantInput{
			Name: strings.Repeat("a", i+1), GranteePrincipal: reader, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
		})
	}
	key.State = kms.KeyStateDisabled
	require.NoError(t, seed.Apply(t.Context(), svc, key))
	require.NoError(t, seed.Apply(t.Context(), svc, key))
}
