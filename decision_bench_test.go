package kms

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/keydb"
)

// BenchmarkDecision measures the decision about one target: kept, and made for the first time.
func BenchmarkDecision(b *testing.B) {
	svc, err := New(Config{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, svc.Close()) })
	created, err := svc.CreateKey(context.Background(), nil)
	require.NoError(b, err)
	p, err := ParsePrincipal("arn:aws:sts::111122223333:assumed-role/app/session")
	require.NoError(b, err)
	app, err := p.WithIdentity(Identity{Policies: []Policy{{Document: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`}}})
	require.NoError(b, err)
	for name, view := range map[string]*Service{"root": svc, "identity policy": svc.As(app)} {
		c, err := begin(context.Background(), view, &opEncrypt.description)
		require.NoError(b, err)
		c.now, c.input = svc.core.config.Clock(), &EncryptInput{}
		k, err := svc.core.db.Key(context.Background(), keydb.Ref{Account: "111122223333", Region: "us-east-1", ID: created.KeyMetadata.KeyId}, c.now)
		require.NoError(b, err)
		t := &target{key: k, permission: "kms:Encrypt"}
		b.Run(name+"/kept", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.authorizeTarget(t); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/made", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				q, err := c.askKey(t)
				if err != nil || !q.decide().allowed {
					b.Fatal(err)
				}
			}
		})
		c.end()
	}
}
