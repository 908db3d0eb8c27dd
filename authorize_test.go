package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

const foreignAccount = "444455556666"

func permissionOf(op kms.Operation) string {
	if op.Name() == "ReEncrypt" {
		return "kms:ReEncryptFrom"
	}
	return "kms:" + op.Name()
}

func deniedMessage(caller, permission, resource, policy string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no %s policy allows the %s action",
		caller, permission, resource, policy, permission)
}

func deniedCiphertextMessage(caller, permission string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on the resource associated with this ciphertext because %s",
		caller, permission, hiddenResource)
}

// inventory returns everything that the account's root can see, to find out whether a call has
// changed or used anything.
func (f *fixture) inventory(t testing.TB) []any {
	t.Helper()
	ctx := t.Context()
	keys, err := f.svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	aliases, err := f.svc.ListAliases(ctx, nil)
	require.NoError(t, err)
	seen := []any{keys, aliases}
	for _, k := range keys.Keys {
		tags, err := f.svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: k.KeyId})
		require.NoError(t, err)
		policy, err := f.svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: k.KeyId})
		require.NoError(t, err)
		rotation, err := f.svc.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: k.KeyId})
		require.NoError(t, err)
		seen = append(seen, describe(t, f.svc, k.KeyId), tags, policy, rotation, lastUsage(t, f.svc, k.KeyId))
	}
	return seen
}

func TestARefusedCallChangesAndUsesNothing(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		before := f.inventory(t)
		f.clock.Move(day)
		for _, caller := range []kms.Principal{
			{},
			principal(t, "arn:aws:iam::111122223333:user/alice"),
			principal(t, "arn:aws:iam::111122223333:user/path/root"),
			principal(t, "arn:aws:iam::444455556666:user/mallory"),
			principal(t, "arn:aws-cn:iam::111122223333:root"),
		} {
			out, err := op.Invoke(t.Context(), f.svc.As(caller), in)
			require.Error(t, err)
			require.Nil(t, out)
		}
		require.Equal(t, before, f.inventory(t))
	})
}

// The zero Principal and principals of another partition are anonymous.
func TestAnAnonymousCallerIsDeniedEverything(t *testing.T) {
	for arn, caller := range map[string]kms.Principal{
		"anonymous":                          {},
		"arn:aws-cn:iam::111122223333:root":  principal(t, "arn:aws-cn:iam::111122223333:root"),
		"arn:aws-cn:iam::444455556666:root":  principal(t, "arn:aws-cn:iam::444455556666:root"),
		"arn:aws2:iam::111122223333:user/u1": principal(t, "arn:aws2:iam::111122223333:user/u1"),
	} {
		t.Run(arn, func(t *testing.T) {
			eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
				out, err := op.Invoke(t.Context(), f.svc.As(caller), in)
				requireError(t, err, kms.AccessDeniedException, "%s", deniedMessage(arn, permissionOf(op), "*", "identity-based"))
				require.Nil(t, out)
			})
		})
	}
}

func TestThePartitionFollowsTheRegion(t *testing.T) {
	home, _ := newService(t)
	for region, partition := range map[string]string{"us-east-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eusc-de-east-1": "aws-eusc"} {
		configured, _ := newService(t, func(c *kms.Config) { c.Region = region })
		root := principal(t, "arn:"+partition+":iam::111122223333:root")
		for _, svc := range []*kms.Service{configured, home.In(region), home.As(root).In(region)} {
			require.Equal(t, root, svc.Caller())
			k := createKey(t, svc, nil)
			require.Equal(t, "arn:"+partition+":kms:"+region+":111122223333:key/"+k.KeyId, k.Arn)
			require.Equal(t, k, describe(t, svc, k.Arn))
			_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: strings.Replace(k.Arn, partition, "aws-iso", 1)})
			require.ErrorIs(t, err, kms.InvalidArnException)
			stranger := principal(t, "arn:aws-iso:iam::111122223333:root")
			_, err = svc.As(stranger).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.Arn})
			require.ErrorIs(t, err, kms.AccessDeniedException)
		}
	}
}

func TestAnotherAccountSeesOnlyItsOwnKeysAndAliases(t *testing.T) {
	f := newFixture(t)
	there := f.svc.As(rootOf(t, foreignAccount))

	keys, err := there.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, keys.Keys)
	aliases, err := there.ListAliases(t.Context(), nil)
	require.NoError(t, err)
	for _, a := range aliases.Aliases {
		require.Empty(t, a.TargetKeyId)
		require.Contains(t, a.AliasArn, ":"+foreignAccount+":alias/aws/")
	}
	_, err = there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: f.symmetric.KeyId})
	requireError(t, err, kms.NotFoundException, "Key 'arn:aws:kms:us-east-1:%s:key/%s' does not exist", foreignAccount, f.symmetric.KeyId)
	_, err = there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: fixtureAlias})
	requireError(t, err, kms.NotFoundException, "Alias arn:aws:kms:us-east-1:%s:%s is not found.", foreignAccount, fixtureAlias)

	mine := createKey(t, there, nil)
	require.Equal(t, foreignAccount, mine.AWSAccountId)
	createAlias(t, there, fixtureAlias, mine.KeyId)
	require.Equal(t, mine.KeyId, describe(t, there, fixtureAlias).KeyId)
	require.Equal(t, f.symmetric.KeyId, describe(t, f.svc, fixtureAlias).KeyId)
	for _, name := range []string{mine.Arn, "arn:aws:kms:us-east-1:" + foreignAccount + ":" + fixtureAlias} {
		_, err = f.svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: name})
		requireDeniedForeign(t, err, f.svc.Caller(), "kms:DescribeKey")
	}
}

// A caller cannot distinguish keys of another account that exist from those that do not: not by key
// ARN, alias ARN or ciphertext.
func TestAForbiddenForeignKeyLooksLikeAMissingOne(t *testing.T) {
	here := "arn:aws:kms:us-east-1:111122223333:"
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		there := f.svc.As(rootOf(t, foreignAccount))
		describe(t, f.svc, "alias/aws/s3") // makes its key
		for _, pair := range [][2]string{
			{f.symmetric.Arn, here + "key/00000000-0000-4000-8000-000000000000"},
			{here + fixtureAlias, here + "alias/missing"},
			{here + "alias/aws/s3", here + "alias/aws/ebs"},
			{here + "alias/aws/s3", here + "alias/aws/nothing"},
		} {
			for i, member := range keyMembers(in) {
				valid := member.String()
				restore := lendSource(t, there, op, in, i)
				var answers []string
				for _, id := range pair {
					member.SetString(id)
					out, err := op.Invoke(t.Context(), there, in)
					require.Error(t, err)
					require.Nil(t, out)
					answers = append(answers, strings.ReplaceAll(err.Error(), id, "ID"))
				}
				require.Equal(t, answers[1], answers[0])
				require.NotContains(t, answers[0], f.symmetric.KeyId)
				member.SetString(valid)
				restore()
			}
		}
	})
}

// lendSource replaces the ciphertext of a ReEncrypt by one of the caller's own if member is 1, the
// destination key, so that the call can only be refused for the destination.
func lendSource(t *testing.T, caller *kms.Service, op kms.Operation, in any, member int) (restore func()) {
	reEncrypt, ok := in.(*kms.ReEncryptInput)
	if !ok || member == 0 {
		return func() {}
	}
	before := *reEncrypt
	mine := createKey(t, caller, nil)
	reEncrypt.SourceKeyId, reEncrypt.CiphertextBlob = mine.KeyId, encrypt(t, caller, mine.KeyId, "x")
	reEncrypt.SourceEncryptionContext = nil
	return func() { *reEncrypt = before }
}

func TestAForbiddenCiphertextLooksLikeOneOfAMissingKey(t *testing.T) {
	f := newFixture(t)
	there := f.svc.As(rootOf(t, foreignAccount))
	mine := createKey(t, there, nil)
	alice := f.svc.As(principal(t, "arn:aws:iam::111122223333:user/alice"))
	missing := flip(f.ciphertext, 8*10)
	for _, tt := range []struct {
		name       string
		caller     *kms.Service
		ciphertext []byte
		message    func(arn, permission string) string
	}{
		{"forbidden", there, f.ciphertext, deniedCiphertextMessage},
		{"missing", there, missing, deniedCiphertextMessage},
		{"missing, in her own account", alice, missing, deniedCiphertextMessage},
		{"forbidden, in her own account", alice, f.ciphertext, func(arn, permission string) string {
			return deniedMessage(arn, permission, f.symmetric.Arn, "identity-based")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.caller.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: tt.ciphertext})
			requireError(t, err, kms.AccessDeniedException, "%s", tt.message(tt.caller.Caller().ARN(), "kms:Decrypt"))
			_, err = tt.caller.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: tt.ciphertext, DestinationKeyId: mine.Arn})
			requireError(t, err, kms.AccessDeniedException, "%s", tt.message(tt.caller.Caller().ARN(), "kms:ReEncryptFrom"))
		})
	}
	// A key ID names a key of another account if the ciphertext is of that key.
	_, err := there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.symmetric.KeyId})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedCiphertextMessage(there.Caller().ARN(), "kms:Decrypt"))
	_, err = there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.other.KeyId})
	requireError(t, err, kms.NotFoundException, "Key 'arn:aws:kms:us-east-1:%s:key/%s' does not exist", foreignAccount, f.other.KeyId)
	_, err = alice.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.symmetric.KeyId})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedMessage(alice.Caller().ARN(), "kms:Decrypt", f.symmetric.Arn, "identity-based"))
	setPolicy(t, f.svc, f.symmetric.KeyId, onlyRoot)
	_, err = alice.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.symmetric.KeyId})
	requireError(t, err, kms.AccessDeniedException, "%s", deniedMessage(alice.Caller().ARN(), "kms:Decrypt", f.symmetric.Arn, "resource-based"))
}

func TestReEncryptNeedsBothKeys(t *testing.T) {
	f := newFixture(t)
	there := f.svc.As(rootOf(t, foreignAccount))
	mine := createKey(t, there, nil)

	_, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: f.ciphertext, DestinationKeyId: mine.Arn})
	requireDeniedForeign(t, err, f.svc.Caller(), "kms:ReEncryptTo")
	_, err = there.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: encrypt(t, there, mine.KeyId, "x"), DestinationKeyId: f.other.Arn})
	requireDeniedForeign(t, err, there.Caller(), "kms:ReEncryptTo")
}

// AWS managed keys can be viewed, but not used or changed.
func TestTheAccountCanOnlyViewAnAWSManagedKey(t *testing.T) {
	looks := []string{"DescribeKey", "GetKeyLastUsage", "GetKeyPolicy", "GetKeyRotationStatus", "ListAliases", "ListGrants", "ListKeyPolicies",
		"ListKeyRotations", "ListResourceTags"}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		managed := describe(t, f.svc, "alias/aws/s3")
		require.Equal(t, kms.KeyManagerAWS, managed.KeyManager)
		members := keyMembers(in)
		if len(members) == 0 || op.Name() == "UpdateAlias" {
			return
		}
		members[0].SetString(managed.Arn)
		before := f.inventory(t)
		_, err := op.Invoke(t.Context(), f.svc, in)
		switch {
		case slices.Contains(looks, op.Name()):
			require.NoError(t, err)
		case op.Name() == "RevokeGrant", op.Name() == "RetireGrant": // for the latter, no key policy matters
			requireError(t, err, kms.NotFoundException, "Grant %s does not exist", f.grant.GrantId)
		case op.Name() == "GetPublicKey":
			requireError(t, err, kms.UnsupportedOperationException, "%s key spec is SYMMETRIC_DEFAULT which is not valid for GetPublicKey.", managed.Arn)
		case op.Name() == "GetParametersForImport":
			requireError(t, err, kms.UnsupportedOperationException, "%s origin is AWS_KMS which is not valid for this operation.", managed.Arn)
		default:
			requireError(t, err, kms.AccessDeniedException, "%s", deniedMessage(f.svc.Caller().ARN(), permissionOf(op), managed.Arn, "resource-based"))
		}
		require.Equal(t, before, f.inventory(t))
	})
}

func TestAuthorizationComesBeforeTheKeysState(t *testing.T) {
	f := newFixture(t)
	disable(t, f.svc, f.symmetric.KeyId)
	const alice = "arn:aws:iam::111122223333:user/alice"
	for _, dryRun := range []bool{false, true} {
		_, err := f.svc.As(principal(t, alice)).Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.Arn, Plaintext: []byte("x"), DryRun: dryRun})
		requireError(t, err, kms.AccessDeniedException, "%s", deniedMessage(alice, "kms:Encrypt", f.symmetric.Arn, "identity-based"))
	}
}

func TestParsePrincipalParsesEveryKind(t *testing.T) {
	const user = "arn:aws:iam::111122223333:user/"
	for _, arn := range []string{
		"arn:aws:iam::111122223333:root",
		"arn:aws-us-gov:iam::111122223333:root",
		"arn:aws:iam::000000000000:root",
		user + "alice",
		user + "division/team/alice@example.com",
		"arn:aws:iam::111122223333:role/app",
		"arn:aws:iam::111122223333:role/aws-service-role/s3.amazonaws.com/App_1+2=3,4",
		"arn:aws:sts::111122223333:assumed-role/app/session",
		"arn:aws:sts::111122223333:federated-user/bob",
		user + strings.Repeat("a", 2048-len(user)),
	} {
		p, err := kms.ParsePrincipal(arn)
		require.NoError(t, err)
		require.Equal(t, arn, p.ARN())
		require.Equal(t, arn, p.String())
		require.Equal(t, strings.Split(arn, ":")[4], p.Account())
		require.Equal(t, strings.Split(arn, ":")[1], p.Partition())
	}
	require.Empty(t, kms.Principal{}.ARN()+kms.Principal{}.Account()+kms.Principal{}.Partition())
}

func TestParsePrincipalRefusesEverythingElse(t *testing.T) {
	const user = "arn:aws:iam::111122223333:user/"
	for name, arn := range map[string]string{
		"nothing":                 "",
		"a wildcard":              "*",
		"an account":              "111122223333",
		"no ARN":                  "root",
		"too few parts":           "arn:aws:iam:111122223333:root",
		"no partition":            "arn::iam::111122223333:root",
		"a strange partition":     "arn:a/b:iam::111122223333:root",
		"no account":              "arn:aws:iam:::root",
		"a short account":         "arn:aws:iam::11112222333:root",
		"a long account":          "arn:aws:iam::1111222233334:root",
		"an account of letters":   "arn:aws:iam::11112222333a:root",
		"other digits":            "arn:aws:iam::１１１１:root",
		"a Region":                "arn:aws:iam:us-east-1:111122223333:root",
		"another service":         "arn:aws:s3::111122223333:root",
		"root of STS":             "arn:aws:sts::111122223333:root",
		"upper-case root":         "arn:aws:iam::111122223333:ROOT",
		"more than root":          "arn:aws:iam::111122223333:root/x",
		"a user of STS":           "arn:aws:sts::111122223333:user/alice",
		"a user without a name":   "arn:aws:iam::111122223333:user",
		"a user without name":     user,
		"a user with empty path":  user + "/alice",
		"a user that ends in /":   user + "alice/",
		"a user with *":           user + "al*",
		"a user with ?":           user + "al?ce",
		"a user with a space":     user + "al ice",
		"a user with a line end":  user + "al\nice",
		"a user with a NUL":       user + "al\x00ice",
		"a user beyond ASCII":     user + "älice",
		"a user of broken UTF-8":  user + "\xff",
		"a group":                 "arn:aws:iam::111122223333:group/admins",
		"a session of nobody":     "arn:aws:sts::111122223333:assumed-role/app",
		"a session of too much":   "arn:aws:sts::111122223333:assumed-role/path/app/session",
		"a session without name":  "arn:aws:sts::111122223333:assumed-role/app/",
		"a session in IAM":        "arn:aws:iam::111122223333:assumed-role/app/session",
		"a federated user in IAM": "arn:aws:iam::111122223333:federated-user/bob",
		"one byte too long":       user + strings.Repeat("a", 2049-len(user)),
		"a megabyte":              user + strings.Repeat("a", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := kms.ParsePrincipal(arn)
			require.EqualError(t, err, fmt.Sprintf("kms: %.100q is not the ARN of a principal", arn))
			require.Equal(t, kms.Principal{}, p)
		})
	}
}

// flip returns b with one bit flipped. Bit 0 is the highest bit of b[0].
func flip(b []byte, bit int) []byte {
	c := slices.Clone(b)
	c[bit/8] ^= 0x80 >> (bit % 8)
	return c
}
