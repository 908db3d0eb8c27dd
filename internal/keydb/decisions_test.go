package keydb

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecisionsAreFoundByAllThatTheyDependOn(t *testing.T) {
	var d Decisions
	type identity struct{ name string }
	a, b := &identity{"a"}, &identity{"b"}
	require.NotEqual(t, a.name, b.name)
	require.Nil(t, d.Load("p", a, "kms:Encrypt"))
	d.Store(&Decision{Principal: "p", Identity: a, Permission: "kms:Encrypt", Value: 1})
	require.Equal(t, 1, d.Load("p", a, "kms:Encrypt"))
	require.Nil(t, d.Load("p", b, "kms:Encrypt"))
	require.Nil(t, d.Load("p", (*identity)(nil), "kms:Encrypt"))
	require.Nil(t, d.Load("q", a, "kms:Encrypt"))
	require.Nil(t, d.Load("p", a, "kms:Decrypt"))
	for i := range 10_000 { // it is bounded
		p := fmt.Sprint("arn:aws:iam::111122223333:user/", i)
		d.Store(&Decision{Principal: p, Identity: a, Permission: "kms:Encrypt", Value: i})
		require.Equal(t, i, d.Load(p, a, "kms:Encrypt"))
	}
}

const validKeyPolicy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`

func TestAStoredPolicyThatCannotBeReadIsFound(t *testing.T) {
	f := newFixture(t)
	k := f.create()
	require.NotNil(t, k.Policy)
	k, err := f.Update(t.Context(), k, func(r *Record) { r.Description = "x" })
	require.NoError(t, err)
	require.NotNil(t, k.Policy, "it is taken over")
	k, err = f.Update(t.Context(), k, func(r *Record) { r.Policy = `{"Statement":[]}` })
	require.NoError(t, err)
	require.Nil(t, k.Policy)
	var faults []string
	for err := range f.Check(t.Context(), nil) {
		faults = append(faults, err.Error())
	}
	require.Len(t, faults, 1)
	require.Contains(t, faults[0], "has a policy that cannot be read")
	_, err = f.Update(t.Context(), k, func(r *Record) { r.Policy = validKeyPolicy })
	require.NoError(t, err)
}
