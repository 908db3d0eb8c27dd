package kms_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

const aliasARN = "arn:aws:kms:us-east-1:111122223333:"

// aliasesOf returns the names of a key's aliases, or all alias names if keyID is empty.
func aliasesOf(t testing.TB, svc *kms.Service, keyID string) []string {
	t.Helper()
	out, err := svc.ListAliases(context.Background(), &kms.ListAliasesInput{KeyId: keyID, Limit: new(int32(100))})
	require.NoError(t, err)
	require.False(t, out.Truncated)
	names := []string{}
	for _, a := range out.Aliases {
		names = append(names, a.AliasName)
	}
	return names
}

func updateAlias(svc *kms.Service, name, keyID string) error {
	_, err := svc.UpdateAlias(context.Background(), &kms.UpdateAliasInput{AliasName: name, TargetKeyId: keyID})
	return err
}

func deleteAlias(svc *kms.Service, name string) error {
	_, err := svc.DeleteAlias(context.Background(), &kms.DeleteAliasInput{AliasName: name})
	return err
}

func TestAnAliasNamesItsKeyUntilItIsMovedOrDeleted(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	one, two := createKey(t, svc, nil), createKey(t, svc, nil)
	created := clock.Now()
	createAlias(t, svc, "alias/app/Main_key-1", one.KeyId)
	require.Equal(t, one, describe(t, svc, "alias/app/Main_key-1"))
	list, err := svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: one.Arn})
	require.NoError(t, err)
	entry := kms.AliasListEntry{
		AliasName: "alias/app/Main_key-1", AliasArn: aliasARN + "alias/app/Main_key-1",
		TargetKeyId: one.KeyId, CreationDate: created, LastUpdatedDate: created,
	}
	require.Equal(t, &kms.ListAliasesOutput{Aliases: []kms.AliasListEntry{entry}}, list)

	ciphertext := encrypt(t, svc, "alias/app/Main_key-1", "text")
	clock.Move(day)
	require.NoError(t, updateAlias(svc, "alias/app/Main_key-1", two.Arn))
	require.Equal(t, two, describe(t, svc, aliasARN+"alias/app/Main_key-1"))
	entry.TargetKeyId, entry.LastUpdatedDate = two.KeyId, clock.Now()
	list, err = svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: two.KeyId})
	require.NoError(t, err)
	require.Equal(t, []kms.AliasListEntry{entry}, list.Aliases)
	require.Empty(t, aliasesOf(t, svc, one.KeyId))
	_, err = svc.Decrypt(ctx, &kms.DecryptInput{KeyId: "alias/app/Main_key-1", CiphertextBlob: ciphertext})
	requireError(t, err, kms.IncorrectKeyException, "The key ID in the request does not identify a CMK that can perform this operation.")

	clock.Move(day)
	require.NoError(t, updateAlias(svc, "alias/app/Main_key-1", two.KeyId), "to the same key")
	entry.LastUpdatedDate = clock.Now()
	list, err = svc.ListAliases(ctx, &kms.ListAliasesInput{KeyId: two.KeyId})
	require.NoError(t, err)
	require.Equal(t, []kms.AliasListEntry{entry}, list.Aliases)

	require.NoError(t, deleteAlias(svc, "alias/app/Main_key-1"))
	_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/app/Main_key-1"})
	requireError(t, err, kms.NotFoundException, "Alias %salias/app/Main_key-1 is not found.", aliasARN)
	require.Empty(t, aliasesOf(t, svc, two.KeyId))
	require.Equal(t, two, describe(t, svc, two.KeyId), "the key stays")
	createAlias(t, svc, "alias/app/Main_key-1", one.KeyId) // at once
	require.Equal(t, one, describe(t, svc, "alias/app/Main_key-1"))
}

func TestAliasNamesAreCaseSensitive(t *testing.T) {
	svc, _ := newService(t)
	one, two := createKey(t, svc, nil), createKey(t, svc, nil)
	createAlias(t, svc, "alias/name", one.KeyId)
	createAlias(t, svc, "alias/NAME", two.KeyId)
	require.Equal(t, one, describe(t, svc, "alias/name"))
	require.Equal(t, two, describe(t, svc, "alias/NAME"))
}

func TestAnInvalidAliasNameIsRefused(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	createAlias(t, svc, "alias/"+strings.Repeat("x", 250), k.KeyId) // the longest
	const prefix = `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`
	const violation = "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: Member must "
	long := "alias/" + strings.Repeat("x", 251)
	tests := []struct {
		name    string
		code    kms.ErrorCode
		message string
	}{
		{"name", kms.ValidationException, prefix},
		{"Alias/name", kms.ValidationException, prefix},
		{"alias/", kms.ValidationException, prefix},
		{"aliasname", kms.ValidationException, prefix},
		{"alias/a:b", kms.ValidationException, "alias/a:b contains invalid characters for an alias"},
		{"alias/a b", kms.ValidationException, fmt.Sprintf(violation, "alias/a b") + "satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{"alias/é", kms.ValidationException, fmt.Sprintf(violation, "alias/é") + "satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{"alias/a\n", kms.ValidationException, fmt.Sprintf(violation, "alias/a\n") + "satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{long, kms.ValidationException, fmt.Sprintf(violation, long) + "have length less than or equal to 256"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: test.name, TargetKeyId: k.KeyId})
			requireError(t, err, test.code, "%s", test.message)
			requireError(t, updateAlias(svc, test.name, k.KeyId), test.code, "%s", test.message)
			requireError(t, deleteAlias(svc, test.name), test.code, "%s", test.message)
		})
	}
}

func TestNamesOfAWSManagedKeysAreReserved(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	managed := describe(t, svc, "alias/aws/ssm")
	for _, name := range []string{"alias/aws/s3", "alias/aws/mine", "alias/aws/ssm"} {
		_, err := svc.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: k.KeyId})
		requireError(t, err, kms.InvalidAliasNameException, "The prefix alias/aws/ is reserved for AWS managed keys.")
	}
	for _, name := range []string{"alias/aws/s3", "alias/aws/mine"} {
		requireError(t, updateAlias(svc, name, k.KeyId), kms.NotFoundException, "Alias %s is not found.", aliasARN+name)
		requireError(t, deleteAlias(svc, name), kms.NotFoundException, "Alias %s is not found.", aliasARN+name)
	}
	requireDenied(t, updateAlias(svc, "alias/aws/ssm", k.KeyId), svc.Caller(), "kms:UpdateAlias", managed.Arn)
	requireDenied(t, deleteAlias(svc, "alias/aws/ssm"), svc.Caller(), "kms:DeleteAlias", managed.Arn)
}

const tooManyAliases = "Aliases per key quota for this account in this region is 50, current usage is 50."

func TestAKeyHasAtMost50Aliases(t *testing.T) {
	svc, _ := newService(t)
	full, other := createKey(t, svc, nil), createKey(t, svc, nil)
	for i := range 50 {
		createAlias(t, svc, fmt.Sprintf("alias/%02d", i), full.KeyId)
	}
	_, err := svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: "alias/50", TargetKeyId: full.KeyId})
	requireError(t, err, kms.LimitExceededException, tooManyAliases)
	createAlias(t, svc, "alias/50", other.KeyId)
	requireError(t, updateAlias(svc, "alias/50", full.KeyId), kms.LimitExceededException, tooManyAliases)
	require.NoError(t, updateAlias(svc, "alias/00", full.KeyId), "which does not make them more")
	require.NoError(t, deleteAlias(svc, "alias/00"))
	require.NoError(t, updateAlias(svc, "alias/50", full.KeyId))
	require.Len(t, aliasesOf(t, svc, full.KeyId), 50)
	require.Empty(t, aliasesOf(t, svc, other.KeyId))
}

func TestConcurrentCreateAliasCallsDoNotExceedTheLimit(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	var wg sync.WaitGroup
	errs := make([]error, 60)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: fmt.Sprintf("alias/%02d", i), TargetKeyId: k.KeyId})
		})
	}
	wg.Wait()
	refused := 0
	for _, err := range errs {
		if err != nil {
			requireError(t, err, kms.LimitExceededException, tooManyAliases)
			refused++
		}
	}
	require.Equal(t, 10, refused)
	require.Len(t, aliasesOf(t, svc, k.KeyId), 50)
}

func TestAnAliasMovesOnlyBetweenKeysOfOneTypeAndUsage(t *testing.T) {
	svc, _ := newService(t)
	keys := map[string][2]*kms.KeyMetadata{ // two of each kind, between which an alias may move
		"symmetric":  {createKey(t, svc, nil), createKey(t, svc, &kms.CreateKeyInput{MultiRegion: true})},
		"asymmetric": {createSigningKey(t, svc), createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP384, KeyUsage: kms.KeyUsageSignVerify})},
		"HMAC":       {createMacKey(t, svc), createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC512, KeyUsage: kms.KeyUsageGenerateVerifyMac})},
	}
	for from, pair := range keys {
		for to, others := range keys {
			t.Run("from "+from+" to "+to, func(t *testing.T) {
				name := "alias/" + from + "-" + to
				createAlias(t, svc, name, pair[0].KeyId)
				err := updateAlias(svc, name, others[1].KeyId)
				if from == to {
					require.NoError(t, err)
					require.Equal(t, others[1], describe(t, svc, name))
					return
				}
				requireError(t, err, kms.ValidationException, "Alias %s cannot be changed from a CMK with key usage %s to a CMK with key usage %s. "+
					"The key usage of the current CMK and the new CMK must be the same.", name, pair[0].KeyUsage, others[1].KeyUsage)
				require.Equal(t, pair[0], describe(t, svc, name))
			})
		}
	}
}

func TestAnAliasDoesNotMoveToAKeyOfAnotherKindWithTheSameUsage(t *testing.T) {
	svc, _ := newService(t)
	symmetric, rsa := createKey(t, svc, nil), createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecRSA2048, KeyUsage: kms.KeyUsageEncryptDecrypt})
	createAlias(t, svc, "alias/a", symmetric.KeyId)
	requireError(t, updateAlias(svc, "alias/a", rsa.KeyId), kms.ValidationException,
		"Alias alias/a cannot be changed from a CMK with key spec SYMMETRIC_DEFAULT to a CMK with key spec RSA_2048.")
	require.Equal(t, symmetric, describe(t, svc, "alias/a"))
}

func TestAnAliasCanBeMovedFromAKeyPendingDeletionButNotToOne(t *testing.T) {
	svc, clock := newService(t)
	going, staying := createKey(t, svc, nil), createKey(t, svc, nil)
	createAlias(t, svc, "alias/leaves", going.KeyId)
	createAlias(t, svc, "alias/stays", going.KeyId)
	createAlias(t, svc, "alias/other", staying.KeyId)
	scheduleDeletion(t, svc, going.KeyId, 7)
	requireError(t, updateAlias(svc, "alias/other", going.KeyId), kms.KMSInvalidStateException, "%s is pending deletion.", going.Arn)
	require.NoError(t, updateAlias(svc, "alias/leaves", staying.KeyId))
	require.Equal(t, []string{"alias/stays"}, aliasesOf(t, svc, going.KeyId))
	clock.Move(7 * day)
	require.Equal(t, staying, describe(t, svc, "alias/leaves"))
	require.Equal(t, []string{"alias/leaves", "alias/other"}, aliasesOf(t, svc, staying.KeyId))
	requireError(t, deleteAlias(svc, "alias/stays"), kms.NotFoundException, "Alias %salias/stays is not found.", aliasARN)
}

// managedAliases returns the alias names that every account has in every Region.
func managedAliases(t *testing.T, svc *kms.Service) []string {
	t.Helper()
	var names []string
	for _, name := range aliasesOf(t, svc, "") {
		if strings.HasPrefix(name, "alias/aws/") {
			names = append(names, name)
		}
	}
	return names
}

func TestPredefinedAliasesAreListedWithoutAKeyUntilItIsCreated(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	createAlias(t, svc, "alias/aaa", k.KeyId)
	createAlias(t, svc, "alias/zzz", k.KeyId)
	names := aliasesOf(t, svc, "")
	require.Equal(t, "alias/aaa", names[0])
	require.Equal(t, "alias/zzz", names[len(names)-1])
	require.IsIncreasing(t, names)
	managed := managedAliases(t, svc)
	require.Len(t, managed, len(names)-2)
	require.Contains(t, managed, "alias/aws/s3")
	require.Equal(t, managed, managedAliases(t, svc.In("eu-west-1")))

	created := clock.Now()
	m := describe(t, svc, "alias/aws/s3")
	clock.Move(day)
	list, err := svc.ListAliases(ctx, nil)
	require.NoError(t, err)
	for _, a := range list.Aliases {
		switch {
		case a.AliasName == "alias/aws/s3":
			require.Equal(t, kms.AliasListEntry{AliasName: a.AliasName, AliasArn: aliasARN + a.AliasName,
				TargetKeyId: m.KeyId, CreationDate: created, LastUpdatedDate: created}, a)
		case strings.HasPrefix(a.AliasName, "alias/aws/"):
			require.Equal(t, kms.AliasListEntry{AliasName: a.AliasName, AliasArn: aliasARN + a.AliasName}, a)
		}
	}
	require.Equal(t, managed, managedAliases(t, svc))
	require.Equal(t, []string{"alias/aws/s3"}, aliasesOf(t, svc, m.KeyId))
}

func TestDescribeKeyCreatesAnAWSManagedKeyOnce(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	const callers = 20
	found := make([]*kms.KeyMetadata, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			out, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/aws/ebs"})
			if errs[i] = err; err == nil {
				found[i] = out.KeyMetadata
			}
		})
	}
	wg.Wait()
	m := found[0]
	for i := range callers {
		require.NoError(t, errs[i])
		require.Equal(t, m, found[i])
	}
	require.Equal(t, kms.KeyManagerAWS, m.KeyManager)
	require.Equal(t, kms.KeySpecSymmetricDefault, m.KeySpec)
	require.Equal(t, kms.KeyStateEnabled, m.KeyState)
	require.NotEmpty(t, m.Description)
	list, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, []kms.KeyListEntry{{KeyId: m.KeyId, KeyArn: m.Arn}}, list.Keys)
	require.Equal(t, m, describe(t, svc, m.Arn))
	require.NotEqual(t, m.KeyId, describe(t, svc.In("eu-west-1"), "alias/aws/ebs").KeyId)
	require.NotEqual(t, m.KeyId, describe(t, svc.As(rootOf(t, "444455556666")), "alias/aws/ebs").KeyId)

	require.Equal(t, &kms.GetKeyRotationStatusOutput{KeyId: m.Arn}, rotationStatus(t, svc, m.KeyId), "before its first rotation")
	clock.Move(365 * day)
	require.NotEqual(t, m.CurrentKeyMaterialId, describe(t, svc, m.KeyId).CurrentKeyMaterialId)
	require.Equal(t, &kms.GetKeyRotationStatusOutput{KeyId: m.Arn, KeyRotationEnabled: true, RotationPeriodInDays: new(int32(365)),
		NextRotationDate: clock.Now().AddDate(0, 0, 365)}, rotationStatus(t, svc, m.KeyId))
	require.Contains(t, keyPolicy(t, svc, m.KeyId), `"kms:ViaService" : "ebs.us-east-1.amazonaws.com"`)
}

// A meeting is a Backend whose next commits wait for one another, so that all of them have read
// before one of them writes.
type meeting struct {
	keystore.Backend
	absent atomic.Int32
	all    sync.WaitGroup
}

func (m *meeting) await(n int) {
	m.all.Add(n)
	m.absent.Store(int32(n))
}

func (m *meeting) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if m.absent.Add(-1) >= 0 {
		m.all.Done()
		m.all.Wait()
	}
	return m.Backend.Commit(ctx, tx)
}

func TestOfTwoThatMakeOneAliasAtOnceOneComesLater(t *testing.T) {
	ctx := context.Background()
	m := &meeting{Backend: memory.New()}
	svc, _ := newService(t, func(c *kms.Config) { c.Backend, c.RootKey = m, sharedRoot })
	keys := []*kms.KeyMetadata{createKey(t, svc, nil), createKey(t, svc, nil)}
	var wg sync.WaitGroup
	race := func(calls ...func()) {
		m.await(len(calls))
		for _, call := range calls {
			wg.Go(call)
		}
		wg.Wait()
	}

	errs := make([]error, 2)
	create := func(i int) func() {
		return func() {
			_, errs[i] = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/one", TargetKeyId: keys[i].KeyId})
		}
	}
	race(create(0), create(1))
	winner := slices.Index(errs, nil)
	require.GreaterOrEqual(t, winner, 0)
	requireError(t, errs[1-winner], kms.AlreadyExistsException, "An alias with the name %salias/one already exists", aliasARN)
	require.Equal(t, keys[winner], describe(t, svc, "alias/one"))
	require.Empty(t, aliasesOf(t, svc, keys[1-winner].KeyId))

	found := make([]*kms.DescribeKeyOutput, 2)
	look := func(i int) func() {
		return func() { found[i], errs[i] = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/aws/s3"}) }
	}
	race(look(0), look(1))
	require.Equal(t, []error{nil, nil}, errs)
	require.Equal(t, found[0], found[1], "one AWS managed key for both")
	list, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	require.Len(t, list.Keys, 3)
}

func TestOnlyDescribeKeyCreatesAnAWSManagedKey(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	ctx := context.Background()
	_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/aws/s3", Plaintext: []byte("text")})
	requireDenied(t, err, svc.Caller(), "kms:Encrypt", aliasARN+"alias/aws/s3")
	_, err = svc.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: "alias/aws/s3"})
	requireError(t, err, kms.UnsupportedOperationException, "%salias/aws/s3 key spec is SYMMETRIC_DEFAULT which is not valid for GetPublicKey.", aliasARN)
	for _, e := range s.take() {
		require.Empty(t, e.Resources, "there is no key yet")
	}
	stranger := svc.As(rootOf(t, "444455556666"))
	_, err = stranger.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aliasARN + "alias/aws/s3"})
	requireDeniedForeign(t, err, stranger.Caller(), "kms:DescribeKey")
	_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/aws/none"})
	requireError(t, err, kms.NotFoundException, "Alias %salias/aws/none is not found.", aliasARN)
	list, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, list.Keys)
}

func TestAnAWSManagedKeyCanOnlyBeViewed(t *testing.T) {
	allowed := map[string]bool{
		"DescribeKey": true, "GetKeyLastUsage": true, "GetKeyPolicy": true, "GetKeyRotationStatus": true, "ListAliases": true,
		"ListGrants": true, "ListKeyPolicies": true, "ListKeyRotations": true, "ListResourceTags": true,
	}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		managed := describe(t, f.svc, "alias/aws/ssm")
		for i, member := range keyMembers(in) {
			valid := member.String()
			member.SetString(managed.KeyId)
			_, err := op.Invoke(context.Background(), f.svc, in)
			member.SetString(valid)
			permission := "kms:" + op.Name()
			switch {
			case allowed[op.Name()]:
				require.NoError(t, err)
				continue
			case op.Name() == "GetPublicKey", op.Name() == "GetParametersForImport":
				require.ErrorIs(t, err, kms.UnsupportedOperationException)
				continue
			case op.Name() == "RevokeGrant", op.Name() == "RetireGrant":
				require.ErrorIs(t, err, kms.NotFoundException)
				continue
			case op.Name() == "ReEncrypt":
				permission = []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"}[i]
			}
			requireDenied(t, err, f.svc.Caller(), permission, managed.Arn)
		}
	})
}
