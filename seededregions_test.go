package kms

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/testhook"
)

// A seeded multi-Region key whose ID a key in another Region has is its replica.
func TestSeededKeysWithOneIDAreRelated(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	material := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	create := func(region string, in *CreateKeyInput, materials ...[]byte) error {
		in.MultiRegion = true
		ctx := testhook.WithKey(t.Context(), &testhook.SeedKey{ID: "mrk-1234abcd12ab34cd56ef1234567890ab", Materials: materials})
		_, err := svc.In(region).CreateKey(ctx, in)
		return err
	}
	require.NoError(t, create("us-east-1", &CreateKeyInput{}, material(1), material(2)))
	require.NoError(t, create("eu-west-1", &CreateKeyInput{Description: "eu"}, material(1), material(2)))
	require.NoError(t, create("ap-south-1", &CreateKeyInput{}), "with whatever material there is")
	for name, err := range map[string]error{
		"another origin":   create("sa-east-1", &CreateKeyInput{Origin: OriginExternal}, material(1), material(2)),
		"another material": create("sa-east-1", &CreateKeyInput{}, material(1), material(3)),
		"another spec":     create("sa-east-1", &CreateKeyInput{KeySpec: KeySpecHMAC256, KeyUsage: KeyUsageGenerateVerifyMac}, material(1)),
	} {
		require.ErrorIs(t, err, ConflictException, name)
	}
	require.ErrorIs(t, create("eu-west-1", &CreateKeyInput{}, material(1), material(2)), AlreadyExistsException)
	out, err := svc.In("eu-west-1").DescribeKey(t.Context(), &DescribeKeyInput{KeyId: "mrk-1234abcd12ab34cd56ef1234567890ab"})
	require.NoError(t, err)
	require.Equal(t, KeyStateEnabled, out.KeyMetadata.KeyState, "it is there from the start")
	require.Equal(t, "eu", out.KeyMetadata.Description)
	require.Equal(t, "us-east-1", out.KeyMetadata.MultiRegionConfiguration.PrimaryKey.Region)
	require.Len(t, out.KeyMetadata.MultiRegionConfiguration.ReplicaKeys, 2)
	for err := range svc.Check(t.Context(), nil) {
		t.Error(err)
	}
}
