package kms_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "k")
	svc, err := kms.Open(path, keystore.Passphrase([]byte("hunter2hunter2")))
	require.NoError(t, err)
	k, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "a", TagValue: "b"}}})
	require.NoError(t, err)
	t.Logf("%+v", k.KeyMetadata)
	_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/x", TargetKeyId: k.KeyMetadata.KeyId})
	require.NoError(t, err)
	e, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/x", Plaintext: []byte("hello"), EncryptionContext: map[string]string{"a": "b", "c": "d"}})
	require.NoError(t, err)
	_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyMetadata.KeyId})
	require.NoError(t, err)
	require.NoError(t, svc.Close())
	svc, err = kms.Open(path, keystore.Passphrase([]byte("hunter2hunter2")))
	require.NoError(t, err)
	d, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: map[string]string{"a": "b", "c": "d"}})
	require.NoError(t, err)
	require.Equal(t, "hello", string(d.Plaintext))
	_, err = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: map[string]string{"a": "b", "c": "D"}})
	require.ErrorIs(t, err, kms.InvalidCiphertextException)
	_, err = svc.Encrypt(ctx, nil)
	t.Log(err)
	u, err := svc.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: k.KeyMetadata.Arn})
	require.NoError(t, err)
	t.Logf("%+v", u.KeyLastUsage)
	a, err := svc.ListAliases(ctx, nil)
	require.NoError(t, err)
	t.Logf("%+v", a)
	m, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/aws/s3"})
	require.NoError(t, err)
	t.Logf("%+v", m.KeyMetadata)
	require.NoError(t, svc.Close())
}
