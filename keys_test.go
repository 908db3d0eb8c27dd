package kms_test

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

func TestCreateKeyWithoutMembersCreatesASymmetricKey(t *testing.T) {
	svc, clock := newService(t)
	for _, in := range []*kms.CreateKeyInput{nil, {}} {
		m := createKey(t, svc, in)
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, m.KeyId)
		require.Regexp(t, `^[0-9a-f]{64}$`, m.CurrentKeyMaterialId)
		require.Equal(t, &kms.KeyMetadata{
			KeyId:                 m.KeyId,
			Arn:                   "arn:aws:kms:us-east-1:111122223333:key/" + m.KeyId,
			AWSAccountId:          "111122223333",
			KeySpec:               kms.KeySpecSymmetricDefault,
			CustomerMasterKeySpec: kms.CustomerMasterKeySpecSymmetricDefault,
			KeyUsage:              kms.KeyUsageEncryptDecrypt,
			KeyState:              kms.KeyStateEnabled,
			Enabled:               true,
			KeyManager:            kms.KeyManagerCustomer,
			Origin:                kms.OriginAWSKMS,
			CreationDate:          clock.Now(),
			CurrentKeyMaterialId:  m.CurrentKeyMaterialId,
			EncryptionAlgorithms:  []kms.EncryptionAlgorithmSpec{kms.EncryptionAlgorithmSymmetricDefault},
		}, m)
		require.Equal(t, m, describe(t, svc, m.KeyId))
	}
}

func TestCreateKeyCreatesANewKeyEachTime(t *testing.T) {
	svc, _ := newService(t)
	one, two := createKey(t, svc, nil), createKey(t, svc, nil)
	require.NotEqual(t, one.KeyId, two.KeyId)
	require.NotEqual(t, one.CurrentKeyMaterialId, two.CurrentKeyMaterialId)
}

func TestAMultiRegionKeyIsAPrimaryWithoutReplicas(t *testing.T) {
	svc, _ := newService(t)
	m := createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true})
	require.Regexp(t, `^mrk-[0-9a-f]{32}$`, m.KeyId)
	require.True(t, m.MultiRegion)
	require.Equal(t, &kms.MultiRegionConfiguration{
		MultiRegionKeyType: kms.MultiRegionKeyTypePrimary,
		PrimaryKey:         &kms.MultiRegionKey{Arn: m.Arn, Region: "us-east-1"},
		ReplicaKeys:        []kms.MultiRegionKey{},
	}, m.MultiRegionConfiguration)
	require.Equal(t, m, describe(t, svc, m.Arn))
	requireDecrypts(t, svc, encrypt(t, svc, m.KeyId, "text"), "text")
	_, err := svc.In("eu-west-1").DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: m.KeyId})
	requireError(t, err, kms.NotFoundException, "Key 'arn:aws:kms:eu-west-1:111122223333:key/%s' does not exist", m.KeyId)
}

const rsaSigningAlgorithms = "RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512 " +
	"RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512"

// specUsages are the usages that the API lets keys of each spec have, each with its algorithms.
var specUsages = []struct {
	spec       kms.KeySpec
	usage      kms.KeyUsageType
	algorithms string
}{
	{kms.KeySpecSymmetricDefault, kms.KeyUsageEncryptDecrypt, "SYMMETRIC_DEFAULT"},
	{kms.KeySpecHMAC224, kms.KeyUsageGenerateVerifyMac, "HMAC_SHA_224"},
	{kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac, "HMAC_SHA_256"},
	{kms.KeySpecHMAC384, kms.KeyUsageGenerateVerifyMac, "HMAC_SHA_384"},
	{kms.KeySpecHMAC512, kms.KeyUsageGenerateVerifyMac, "HMAC_SHA_512"},
	{kms.KeySpecECCNISTP256, kms.KeyUsageSignVerify, "ECDSA_SHA_256"},
	{kms.KeySpecECCNISTP384, kms.KeyUsageSignVerify, "ECDSA_SHA_384"},
	{kms.KeySpecECCNISTP521, kms.KeyUsageSignVerify, "ECDSA_SHA_512"},
	{kms.KeySpecECCNISTP256, kms.KeyUsageKeyAgreement, "ECDH"},
	{kms.KeySpecECCNISTP384, kms.KeyUsageKeyAgreement, "ECDH"},
	{kms.KeySpecECCNISTP521, kms.KeyUsageKeyAgreement, "ECDH"},
	{kms.KeySpecECCSECGP256K1, kms.KeyUsageSignVerify, "ECDSA_SHA_256"},
	{kms.KeySpecECCNISTEdwards25519, kms.KeyUsageSignVerify, "ED25519_SHA_512 ED25519_PH_SHA_512"},
	{kms.KeySpecRSA2048, kms.KeyUsageEncryptDecrypt, "RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256"},
	{kms.KeySpecRSA3072, kms.KeyUsageEncryptDecrypt, "RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256"},
	{kms.KeySpecRSA4096, kms.KeyUsageEncryptDecrypt, "RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256"},
	{kms.KeySpecRSA2048, kms.KeyUsageSignVerify, rsaSigningAlgorithms},
	{kms.KeySpecRSA3072, kms.KeyUsageSignVerify, rsaSigningAlgorithms},
	{kms.KeySpecRSA4096, kms.KeyUsageSignVerify, rsaSigningAlgorithms},
	{kms.KeySpecSM2, kms.KeyUsageEncryptDecrypt, "SM2PKE"},
	{kms.KeySpecSM2, kms.KeyUsageSignVerify, "SM2DSA"},
	{kms.KeySpecSM2, kms.KeyUsageKeyAgreement, "ECDH"},
	{kms.KeySpecMLDSA44, kms.KeyUsageSignVerify, "ML_DSA_SHAKE_256"},
	{kms.KeySpecMLDSA65, kms.KeyUsageSignVerify, "ML_DSA_SHAKE_256"},
	{kms.KeySpecMLDSA87, kms.KeyUsageSignVerify, "ML_DSA_SHAKE_256"},
	{kms.KeySpecMLKEM512, kms.KeyUsageEncapsulateDecapsulate, "ML_KEM"},
	{kms.KeySpecMLKEM768, kms.KeyUsageEncapsulateDecapsulate, "ML_KEM"},
	{kms.KeySpecMLKEM1024, kms.KeyUsageEncapsulateDecapsulate, "ML_KEM"},
}

func TestEveryKeySpecAcceptsOnlyItsUsages(t *testing.T) {
	svc, _ := newService(t)
	specs, usages := kms.KeySpec("").Values(), kms.KeyUsageType("").Values()
	require.Len(t, specs, 20)
	for _, spec := range specs {
		for _, usage := range usages {
			t.Run(string(spec)+" for "+string(usage), func(t *testing.T) {
				in := &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage}
				for _, row := range specUsages {
					if row.spec != spec || row.usage != usage {
						continue
					}
					key := createKey(t, svc, in)
					requireMetadataOf(t, key, spec, usage, row.algorithms)
					require.Equal(t, key, describe(t, svc, key.KeyId))
					return
				}
				_, err := svc.CreateKey(context.Background(), in)
				requireError(t, err, kms.ValidationException, "KeyUsage %s is not compatible with KeySpec %s", usage, spec)
			})
		}
		if spec != kms.KeySpecSymmetricDefault {
			_, err := svc.CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: spec})
			requireError(t, err, kms.ValidationException, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
		}
	}
}

// requireMetadataOf requires that m has the members of spec and usage and no others that depend on
// them.
func requireMetadataOf(t *testing.T, m *kms.KeyMetadata, spec kms.KeySpec, usage kms.KeyUsageType, algorithms string) {
	t.Helper()
	require.Equal(t, spec, m.KeySpec)
	require.Equal(t, string(spec), string(m.CustomerMasterKeySpec))
	require.Equal(t, usage, m.KeyUsage)
	require.Equal(t, spec == kms.KeySpecSymmetricDefault, m.CurrentKeyMaterialId != "")
	lists := map[kms.KeyUsageType]any{
		kms.KeyUsageEncryptDecrypt:         m.EncryptionAlgorithms,
		kms.KeyUsageSignVerify:             m.SigningAlgorithms,
		kms.KeyUsageGenerateVerifyMac:      m.MacAlgorithms,
		kms.KeyUsageKeyAgreement:           m.KeyAgreementAlgorithms,
		kms.KeyUsageEncapsulateDecapsulate: m.EncapsulationAlgorithms,
	}
	for of, list := range lists {
		if of == usage {
			require.Equal(t, "["+algorithms+"]", fmt.Sprint(list))
		} else {
			require.True(t, reflect.ValueOf(list).IsNil(), "%s", of)
		}
	}
	require.Zero(t, m.DeletionDate)
	require.Nil(t, m.PendingDeletionWindowInDays)
	require.Zero(t, m.ExpirationModel)
	require.Zero(t, m.ValidTo)
	require.False(t, m.MultiRegion)
	require.Nil(t, m.MultiRegionConfiguration)
	require.Zero(t, m.CustomKeyStoreId)
	require.Zero(t, m.CloudHsmClusterId)
	require.Nil(t, m.XksKeyConfiguration)
}

// manyTags returns n tags with different keys.
func manyTags(n int) []kms.Tag {
	tags := make([]kms.Tag, n)
	for i := range tags {
		tags[i] = kms.Tag{TagKey: fmt.Sprintf("key-%03d", i), TagValue: "value"}
	}
	return tags
}

func TestCreateKeyAcceptsTheFormerNameOfKeySpec(t *testing.T) {
	svc, _ := newService(t)
	in := &kms.CreateKeyInput{CustomerMasterKeySpec: kms.CustomerMasterKeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac}
	require.Equal(t, kms.KeySpecHMAC256, createKey(t, svc, in).KeySpec)
}

func TestCreateKeyRefusesInvalidInputs(t *testing.T) {
	svc, _ := newService(t)
	tests := []struct {
		name    string
		in      kms.CreateKeyInput
		code    kms.ErrorCode
		message string
	}{
		{"a tag without a key", kms.CreateKeyInput{Tags: []kms.Tag{{TagValue: "v"}}}, kms.ValidationException,
			"1 validation error detected: Value null at 'tags.1.member.tagKey' failed to satisfy constraint: Member must not be null"},
		{"a policy of 32,769 bytes", kms.CreateKeyInput{Policy: policyOf(32769)}, kms.LimitExceededException, "A key policy can have at most 32768 bytes."},
		{"a store without its origin", kms.CreateKeyInput{CustomKeyStoreId: "cks-1"}, kms.ValidationException,
			"CustomKeyStoreId is only valid with Origin AWS_CLOUDHSM or EXTERNAL_KEY_STORE."},
		{"an origin without its store", kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM}, kms.ValidationException, "Origin AWS_CLOUDHSM requires a CustomKeyStoreId."},
		{"a store that does not exist", kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: "cks-1"}, kms.CustomKeyStoreNotFoundException,
			"Custom key store cks-1 does not exist."},
		{"an external key without its name", kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: "cks-1"}, kms.ValidationException,
			"XksKeyId is required with Origin EXTERNAL_KEY_STORE, and only valid with it."},
		{"an external key's name for another", kms.CreateKeyInput{XksKeyId: "x"}, kms.ValidationException,
			"XksKeyId is required with Origin EXTERNAL_KEY_STORE, and only valid with it."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := svc.CreateKey(context.Background(), &test.in)
			requireError(t, err, test.code, "%s", test.message)
		})
	}
	_, err := svc.CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: "DES", KeyUsage: "SIGN", Description: strings.Repeat("x", 8193)})
	require.ErrorIs(t, err, kms.ValidationException)
	require.ErrorContains(t, err, "3 validation errors detected: Value 'DES' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [")
	require.ErrorContains(t, err, "; Value 'SIGN' at 'keyUsage' failed to satisfy constraint: Member must satisfy enum value set: [")
	require.ErrorContains(t, err, "' at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192")

	keys, err := svc.ListKeys(context.Background(), nil)
	require.NoError(t, err)
	require.Empty(t, keys.Keys, "none of them made a key")
}

func TestTheDescriptionIsReplacedAndMayBeEmpty(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, &kms.CreateKeyInput{Description: "first"})
	require.Equal(t, "first", k.Description)
	for _, text := range []string{"second", strings.Repeat("é", 8192), ""} {
		_, err := svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: text})
		require.NoError(t, err)
		k.Description = text
		require.Equal(t, k, describe(t, svc, k.KeyId), "all else stays")
	}
	_, err := svc.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: strings.Repeat("é", 8193)})
	require.ErrorIs(t, err, kms.ValidationException)
}

func TestAccountsAndRegionsHaveTheirOwnKeys(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	elsewhere, stranger := svc.In("eu-west-1"), svc.As(rootOf(t, "444455556666"))
	require.Equal(t, "eu-west-1", elsewhere.Region())
	require.Equal(t, "arn:aws:iam::111122223333:root", elsewhere.Caller().ARN())
	require.Equal(t, "us-east-1", stranger.Region())
	require.Equal(t, "444455556666", stranger.Caller().Account())
	views := []struct {
		svc    *kms.Service
		prefix string
	}{
		{svc, "arn:aws:kms:us-east-1:111122223333:key/"},
		{elsewhere, "arn:aws:kms:eu-west-1:111122223333:key/"},
		{stranger, "arn:aws:kms:us-east-1:444455556666:key/"},
		{stranger.In("eu-west-1"), "arn:aws:kms:eu-west-1:444455556666:key/"},
	}
	keys := make([]*kms.KeyMetadata, len(views))
	for i, view := range views {
		keys[i] = createKey(t, view.svc, nil)
		require.Equal(t, view.prefix+keys[i].KeyId, keys[i].Arn)
		createAlias(t, view.svc, "alias/same", keys[i].KeyId)
	}
	for i, view := range views {
		list, err := view.svc.ListKeys(ctx, nil)
		require.NoError(t, err)
		require.Equal(t, []kms.KeyListEntry{{KeyId: keys[i].KeyId, KeyArn: keys[i].Arn}}, list.Keys)
		require.Equal(t, keys[i], describe(t, view.svc, "alias/same"))
		for j, k := range keys {
			if i == j {
				continue
			}
			_, err := view.svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyId})
			requireError(t, err, kms.NotFoundException, "Key '%s%s' does not exist", view.prefix, k.KeyId)
			_, err = view.svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.Arn})
			if view.svc.Region() != views[j].svc.Region() {
				requireError(t, err, kms.NotFoundException, "Invalid arn %s", views[j].svc.Region())
			} else {
				requireDeniedForeign(t, err, view.svc.Caller(), "kms:DescribeKey")
			}
		}
	}
}

func TestTheConfigNamesTheDefaults(t *testing.T) {
	svc, _ := newService(t, func(c *kms.Config) { c.Account, c.Region = "123456789012", "cn-north-1" })
	k := createKey(t, svc, nil)
	require.Equal(t, "arn:aws-cn:kms:cn-north-1:123456789012:key/"+k.KeyId, k.Arn)
	require.Equal(t, "arn:aws-cn:iam::123456789012:root", svc.Caller().ARN())
	require.Equal(t, k, describe(t, svc, k.Arn))
	for _, config := range []kms.Config{{Account: "12"}, {Account: "12345678901x"}, {Region: "US"}, {Region: strings.Repeat("a", 33)}} {
		_, err := kms.New(config)
		require.Error(t, err)
	}
}

func TestScheduleKeyDeletionSetsTheDate(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	for days := int32(7); days <= 30; days++ {
		k := createKey(t, svc, nil)
		date := clock.Now().Add(time.Duration(days) * day)
		require.Equal(t, &kms.ScheduleKeyDeletionOutput{
			KeyId: k.Arn, KeyState: kms.KeyStatePendingDeletion, DeletionDate: date, PendingWindowInDays: &days,
		}, scheduleDeletion(t, svc, k.KeyId, days))
		k.KeyState, k.Enabled, k.DeletionDate = kms.KeyStatePendingDeletion, false, date
		require.Equal(t, k, describe(t, svc, k.KeyId))
	}
	k := createKey(t, svc, nil)
	for days, text := range map[int32]string{
		0: "greater than or equal to 7", 6: "greater than or equal to 7", -1: "greater than or equal to 7", 31: "less than or equal to 30", 365: "less than or equal to 30",
	} {
		_, err := svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: &days})
		requireError(t, err, kms.ValidationException,
			"1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value %s", days, text)
	}
	require.Equal(t, k, describe(t, svc, k.KeyId))
	out, err := svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	require.NoError(t, err)
	require.Equal(t, int32(30), *out.PendingWindowInDays)
	require.Equal(t, clock.Now().Add(30*day), out.DeletionDate)
	_, err = svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	requireError(t, err, kms.KMSInvalidStateException, "%s is pending deletion.", k.Arn)
}

func TestCancelKeyDeletionLeavesTheKeyDisabledAndComplete(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(2), Description: "kept"})
	createAlias(t, svc, "alias/kept", k.KeyId)
	ciphertext := encrypt(t, svc, k.KeyId, "text")
	date := scheduleDeletion(t, svc, k.KeyId, 7).DeletionDate
	clock.MoveTo(date.Add(-1))
	out, err := svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	require.NoError(t, err)
	require.Equal(t, k.Arn, out.KeyId)
	clock.Move(40 * day) // past the date that was
	m := describe(t, svc, "alias/kept")
	require.Equal(t, kms.KeyStateDisabled, m.KeyState)
	require.Zero(t, m.DeletionDate)
	_, err = svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	requireError(t, err, kms.KMSInvalidStateException, "%s is not pending deletion.", k.Arn)
	enable(t, svc, k.KeyId)
	require.Equal(t, k, describe(t, svc, k.KeyId))
	requireDecrypts(t, svc, ciphertext, "text")
}

// A key is deleted on its date, whatever the process did in the waiting period.
func TestAKeyIsGoneExactlyAtItsDeletionDate(t *testing.T) {
	ctx := context.Background()
	meanwhiles := map[string]func(t *testing.T, svc *kms.Service, reopen func() *kms.Service, keyID string) *kms.Service{
		"nothing": func(_ *testing.T, svc *kms.Service, _ func() *kms.Service, _ string) *kms.Service { return svc },
		"it read the key": func(t *testing.T, svc *kms.Service, _ func() *kms.Service, keyID string) *kms.Service {
			require.Equal(t, kms.KeyStatePendingDeletion, describe(t, svc, keyID).KeyState)
			return svc
		},
		"it was closed and opened": func(_ *testing.T, _ *kms.Service, reopen func() *kms.Service, _ string) *kms.Service { return reopen() },
		"it made and deleted others": func(t *testing.T, svc *kms.Service, _ func() *kms.Service, _ string) *kms.Service {
			for range 3 {
				scheduleDeletion(t, svc, createKey(t, svc, nil).KeyId, 7)
			}
			return svc
		},
		"the deletion was canceled and scheduled again": func(t *testing.T, svc *kms.Service, _ func() *kms.Service, keyID string) *kms.Service {
			_, err := svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: keyID})
			require.NoError(t, err)
			scheduleDeletion(t, svc, keyID, 8)
			return svc
		},
	}
	for name, meanwhile := range meanwhiles {
		// first is the first operation that finds the key due.
		for _, first := range []string{"Decrypt", "DescribeKey", "DescribeKey by alias", "ListKeys", "ListAliases", "CreateAlias", "UpdateAlias", "DeleteAlias", "Open"} {
			t.Run(name+", then "+first, func(t *testing.T) {
				path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
				svc := openService(t, path, clock)
				k, other := createKey(t, svc, nil), createKey(t, svc, nil)
				createAlias(t, svc, "alias/one", k.KeyId)
				createAlias(t, svc, "alias/two", k.KeyId)
				old := encrypt(t, svc, k.KeyId, "text")
				_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
				require.NoError(t, err)
				ciphertext := encrypt(t, svc, "alias/one", "text")
				scheduleDeletion(t, svc, k.KeyId, 7)
				reopen := func() *kms.Service {
					require.NoError(t, svc.Close())
					return openService(t, path, clock)
				}
				svc = meanwhile(t, svc, reopen, k.KeyId)
				clock.MoveTo(describe(t, svc, k.KeyId).DeletionDate.Add(-1))
				require.Equal(t, kms.KeyStatePendingDeletion, describe(t, svc, "alias/two").KeyState)
				clock.Move(1)

				keyGone := func(err error) {
					t.Helper()
					requireError(t, err, kms.NotFoundException, "Key '%s' does not exist", k.Arn)
				}
				aliasGone := func(err error, name string) {
					t.Helper()
					requireError(t, err, kms.NotFoundException, "Alias arn:aws:kms:us-east-1:111122223333:%s is not found.", name)
				}
				switch first {
				case "CreateAlias":
					createAlias(t, svc, "alias/one", other.KeyId)
					_, err := svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/one"})
					require.NoError(t, err)
				case "UpdateAlias":
					_, err := svc.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: "alias/one", TargetKeyId: other.KeyId})
					aliasGone(err, "alias/one")
				case "DeleteAlias":
					_, err := svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/one"})
					aliasGone(err, "alias/one")
				case "Open":
					svc = reopen()
				}
				for _, look := range []string{first, "Decrypt", "DescribeKey by alias", "DescribeKey", "ListKeys", "ListAliases"} {
					switch look {
					case "Decrypt":
						for _, ciphertext := range [][]byte{ciphertext, old} {
							_, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext})
							requireError(t, err, kms.AccessDeniedException, "User: arn:aws:iam::111122223333:root is not authorized to perform: kms:Decrypt "+
								"on the resource associated with this ciphertext because the resource does not exist in this Region, "+
								"no resource-based policies allow access, or a resource-based policy explicitly denies access")
							_, err = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext, KeyId: k.Arn})
							keyGone(err)
						}
					case "DescribeKey":
						_, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyId})
						keyGone(err)
					case "DescribeKey by alias":
						for range 2 {
							_, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/two"})
							aliasGone(err, "alias/two")
						}
					case "ListKeys":
						list, err := svc.ListKeys(ctx, nil)
						require.NoError(t, err)
						require.NotContains(t, list.Keys, kms.KeyListEntry{KeyId: k.KeyId, KeyArn: k.Arn})
					case "ListAliases":
						list, err := svc.ListAliases(ctx, nil)
						require.NoError(t, err)
						for _, a := range list.Aliases {
							require.NotContains(t, []string{"alias/one", "alias/two"}, a.AliasName)
						}
					}
				}
				_, err = svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
				keyGone(err)
				createAlias(t, svc, "alias/one", other.KeyId)
				createAlias(t, svc, "alias/two", other.KeyId)
				require.Equal(t, other, describe(t, svc, "alias/two"))
				require.NoError(t, svc.Close())
				requireNoRecordOf(t, path, k.KeyId)
			})
		}
	}
}

// requireNoRecordOf requires that the store at path has no records of a key: not the key itself,
// its materials, aliases, last use or due date.
func requireNoRecordOf(t *testing.T, path, keyID string) {
	t.Helper()
	ctx := context.Background()
	backend, err := bolt.Open(path)
	require.NoError(t, err)
	store, err := keystore.Open(ctx, backend, sharedRoot)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	records, err := store.Scan(ctx, "", "", 1000)
	require.NoError(t, err)
	require.NotEmpty(t, records)
	for _, r := range records {
		require.NotContains(t, r.Key, keyID)
	}
}

func TestTheSweepDestroysKeysThatNobodyUses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	clock := newClock()
	svc := openService(t, path, clock)
	k := createKey(t, svc, nil)
	scheduleDeletion(t, svc, k.KeyId, 7)
	require.NoError(t, svc.Close())

	clock.Move(7 * 24 * time.Hour)
	destroyed := make(chan string, 1)
	openService(t, path, clock, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
			destroyed <- e.EventName + " " + e.Resources[0].ARN
			return nil
		})
	})
	select {
	case event := <-destroyed:
		require.Equal(t, "DeleteKey "+k.Arn, event)
	case <-time.After(30 * time.Second):
		t.Fatal("the sweep at the start did not destroy the key")
	}
}
