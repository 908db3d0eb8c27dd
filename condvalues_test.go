package kms_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// Each condition key has, in the call of an operation, exactly the value that is expected: a policy
// that requires it allows, and one that requires another value does not.
func TestEveryConditionKeyHasItsValue(t *testing.T) {
	const (
		str, boolean, number, date, ip = "StringEquals", "Bool", "NumericEquals", "DateEquals", "IpAddress"
		multi                          = "ForAllValues:StringEquals"
	)
	now := newClock().Now()
	full := kms.Identity{
		Issuer: "arn:aws:iam::111122223333:role/team/app", UniqueID: "AROAIIAUMCEXAMPLE0001:one", Provider: "accounts.example.com",
		Tags: map[string]string{"Team": "blue"}, OrganizationID: "o-1", OrganizationPaths: []string{"o-1/r-1/"},
	}
	session, user := withIdentity(t, appSession, full), principal(t, fixtureAlice)
	type (
		info = audit.RequestInfo
		test struct {
			key, operation, operator, value, other string
			caller                                 kms.Principal
			info                                   info
			change                                 func(in any)
		}
	)
	service := info{ViaService: "s3.us-east-1.amazonaws.com", CalledVia: []string{"cloudformation.amazonaws.com", "s3.amazonaws.com"}}
	set := func(member string, value any) func(any) {
		return func(in any) { setMember(in, member, value) }
	}
	tags := set("Tags", []kms.Tag{{TagKey: "Project", TagValue: "alpha"}})
	constraints := set("Constraints", &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1"}})
	equals := set("Constraints", &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "1"}})
	tests := []test{
		{"kms:CallerAccount", "Encrypt", str, "111122223333", "444455556666", session, info{}, nil},
		{"aws:PrincipalAccount", "ListKeys", str, "111122223333", "444455556666", session, info{}, nil},
		{"aws:PrincipalArn", "Encrypt", str, full.Issuer, appSession, session, info{}, nil},
		{"aws:PrincipalArn", "Encrypt", str, fixtureAlice, appSession, user, info{}, nil},
		{"aws:PrincipalType", "Encrypt", str, "AssumedRole", "User", session, info{}, nil},
		{"aws:PrincipalTag/team", "Encrypt", str, "blue", "red", session, info{}, nil},
		{"aws:PrincipalOrgID", "Encrypt", str, "o-1", "o-2", session, info{}, nil},
		{"aws:PrincipalOrgPaths", "Encrypt", multi, "o-1/r-1/", "o-1/r-2/", session, info{}, nil},
		{"aws:PrincipalIsAWSService", "Encrypt", boolean, "false", "true", session, info{}, nil},
		{"aws:PrincipalServiceName", "Encrypt", "Null", "true", "false", session, info{}, nil},
		{"aws:userid", "Encrypt", str, full.UniqueID, "AROAIIAUMCEXAMPLE0001", session, info{}, nil},
		{"aws:username", "Encrypt", str, "alice", "bob", user, info{}, nil},
		{"aws:username", "Encrypt", "Null", "true", "false", session, info{}, nil},
		{"aws:FederatedProvider", "Encrypt", str, "accounts.example.com", "other.example.com", session, info{}, nil},

		{"aws:CurrentTime", "Encrypt", date, now.Format(time.RFC3339), now.Add(time.Second).Format(time.RFC3339), session, info{}, nil},
		{"aws:EpochTime", "Encrypt", date, now.Format(time.RFC3339), now.Add(time.Second).Format(time.RFC3339), session, info{}, nil},
		{"aws:RequestedRegion", "CreateKey", str, "us-east-1", "eu-west-1", session, info{}, nil},
		{"aws:SourceIp", "Encrypt", ip, "192.0.2.0/24", "198.51.100.0/24", session, info{SourceIPAddress: "192.0.2.7"}, nil},
		{"aws:SourceIp", "Encrypt", "Null", "true", "false", session, info{SourceIPAddress: "192.0.2.7", VPCEndpoint: "vpce-1"}, nil},
		{"aws:VpcSourceIp", "Encrypt", ip, "10.0.0.0/8", "192.0.2.0/24", session, info{SourceIPAddress: "10.1.2.3", VPCEndpoint: "vpce-1"}, nil},
		{"aws:SourceVpc", "Encrypt", str, "vpc-1", "vpc-2", session, info{VPC: "vpc-1"}, nil},
		{"aws:SourceVpce", "Encrypt", str, "vpce-1", "vpce-2", session, info{VPCEndpoint: "vpce-1"}, nil},
		{"aws:UserAgent", "Encrypt", str, "agent", "other", session, info{UserAgent: "agent"}, nil},
		{"aws:SecureTransport", "Encrypt", boolean, "true", "false", session, info{}, nil},
		{"aws:SecureTransport", "Encrypt", boolean, "false", "true", session, info{SourceIPAddress: "192.0.2.7"}, nil},
		{"aws:SecureTransport", "Encrypt", boolean, "true", "false", session, info{SourceIPAddress: "192.0.2.7", TLS: &audit.TLSDetails{}}, nil},
		{"aws:SecureTransport", "Encrypt", boolean, "false", "true", session, info{SecureTransport: new(bool)}, nil},
		{"aws:MultiFactorAuthPresent", "Encrypt", "Null", "true", "false", session, info{}, nil},
		{"aws:MultiFactorAuthPresent", "Encrypt", boolean, "false", "true", session, info{MFAPresent: new(bool)}, nil},
		{"aws:MultiFactorAuthPresent", "Encrypt", boolean, "true", "false", session, info{MFATime: now}, nil},
		{"aws:MultiFactorAuthAge", "Encrypt", number, "60", "61", session, info{MFATime: now.Add(-time.Minute)}, nil},
		{"aws:MultiFactorAuthAge", "Encrypt", "Null", "true", "false", session, info{MFATime: now, MFAPresent: new(bool)}, nil},
		{"aws:TokenIssueTime", "Encrypt", date, "2026-03-01T11:00:00Z", "2026-03-01T11:00:01Z", session, info{TokenIssueTime: now.Add(-time.Hour)}, nil},

		{"kms:ViaService", "Encrypt", str, "s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com", session, service, nil},
		{"aws:ViaAWSService", "Encrypt", boolean, "true", "false", session, service, nil},
		{"aws:ViaAWSService", "Encrypt", boolean, "false", "true", session, info{}, nil},
		{"aws:ViaAWSService", "Encrypt", boolean, "true", "false", session, info{CalledVia: service.CalledVia}, nil},
		{"aws:CalledVia", "Encrypt", "ForAnyValue:StringEquals", "s3.amazonaws.com", "ec2.amazonaws.com", session, service, nil},
		{"aws:CalledViaFirst", "Encrypt", str, "cloudformation.amazonaws.com", "s3.amazonaws.com", session, service, nil},
		{"aws:CalledViaLast", "Encrypt", str, "s3.amazonaws.com", "cloudformation.amazonaws.com", session, service, nil},
		{"aws:SourceArn", "Encrypt", str, "arn:aws:s3:::a", "arn:aws:s3:::b", session, info{SourceARN: "arn:aws:s3:::a"}, nil},
		{"aws:SourceAccount", "Encrypt", str, "111122223333", "444455556666", session, info{SourceAccount: "111122223333"}, nil},
		{"aws:SourceOrgID", "Encrypt", str, "o-1", "o-2", session, info{SourceOrgID: "o-1"}, nil},
		{"aws:SourceOrgPaths", "Encrypt", multi, "o-1/r-1/", "o-2/r-1/", session, info{SourceOrgPaths: []string{"o-1/r-1/"}}, nil},
		{"kms:GrantIsForAWSResource", "CreateGrant", boolean, "true", "false", session, service, nil},
		{"kms:GrantIsForAWSResource", "RevokeGrant", boolean, "false", "true", session, info{}, nil},

		{"aws:ResourceAccount", "Encrypt", str, "111122223333", "444455556666", session, info{}, nil},
		{"aws:ResourceTag/kind", "Encrypt", str, "test", "Test", session, info{}, nil},
		{"aws:ResourceTag/project", "CreateKey", str, "alpha", "beta", session, info{}, tags},
		{"kms:KeySpec", "Sign", str, "ECC_NIST_P256", "ECC_NIST_P384", session, info{}, nil},
		{"kms:KeySpec", "CreateKey", str, "SYMMETRIC_DEFAULT", "HMAC_256", session, info{}, nil},
		{"kms:CustomerMasterKeySpec", "Sign", str, "ECC_NIST_P256", "ECC_NIST_P384", session, info{}, nil},
		{"kms:KeyUsage", "Sign", str, "SIGN_VERIFY", "ENCRYPT_DECRYPT", session, info{}, nil},
		{"kms:CustomerMasterKeyUsage", "CreateKey", str, "ENCRYPT_DECRYPT", "SIGN_VERIFY", session, info{}, nil},
		{"kms:KeyOrigin", "ImportKeyMaterial", str, "EXTERNAL", "AWS_KMS", session, info{}, nil},
		{"kms:MultiRegion", "Encrypt", boolean, "false", "true", session, info{}, nil},
		{"kms:MultiRegion", "CreateKey", boolean, "true", "false", session, info{}, set("MultiRegion", true)},
		{"kms:MultiRegionKeyType", "CreateKey", str, "PRIMARY", "REPLICA", session, info{}, set("MultiRegion", true)},
		{"kms:ResourceAliases", "Encrypt", "ForAnyValue:StringEquals", fixtureAlias, "alias/other", session, info{}, nil},
		{"kms:RequestAlias", "Encrypt", str, fixtureAlias, "alias/other", session, info{}, set("KeyId", fixtureAlias)},
		{"kms:RequestAlias", "DescribeKey", "Null", "true", "false", session, info{}, nil},
		{"kms:TrailingDaysWithoutKeyUsage", "DisableKey", number, "0", "1", session, info{}, nil},

		{"kms:EncryptionContext:A", "Encrypt", str, "1", "2", session, info{}, set("EncryptionContext", map[string]string{"a": "1"})},
		{"kms:EncryptionContext:a", "CreateGrant", str, "1", "2", session, info{}, constraints},
		{"kms:EncryptionContextKeys", "GenerateDataKey", multi, "a", "A", session, info{}, set("EncryptionContext", map[string]string{"a": "1"})},
		{"kms:EncryptionAlgorithm", "GenerateDataKey", str, "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256", session, info{}, nil},
		{"kms:EncryptionAlgorithm", "Encrypt", str, "RSAES_OAEP_SHA_1", "SYMMETRIC_DEFAULT", session, info{}, set("EncryptionAlgorithm", kms.EncryptionAlgorithmRSAESOAEPSHA1)},
		{"kms:EncryptionAlgorithm", "Decrypt", str, "RSAES_OAEP_SHA_1", "SYMMETRIC_DEFAULT", session, info{}, set("EncryptionAlgorithm", kms.EncryptionAlgorithmRSAESOAEPSHA1)},
		{"kms:ReEncryptOnSameKey", "ReEncrypt", boolean, "false", "true", session, info{}, nil},
		{"kms:DataKeyPairSpec", "GenerateDataKeyPair", str, "ECC_NIST_P256", "RSA_2048", session, info{}, set("KeyPairSpec", kms.DataKeyPairSpecECCNISTP256)},
		{"kms:SigningAlgorithm", "Sign", str, "ECDSA_SHA_256", "ECDSA_SHA_384", session, info{}, nil},
		{"kms:MessageType", "Verify", str, "RAW", "DIGEST", session, info{}, nil},
		{"kms:MacAlgorithm", "GenerateMac", str, "HMAC_SHA_256", "HMAC_SHA_512", session, info{}, nil},
		{"kms:KeyAgreementAlgorithm", "DeriveSharedSecret", str, "ECDH", "DH", session, info{}, nil},
		{"kms:RotationPeriodInDays", "EnableKeyRotation", number, "365", "90", session, info{}, set("RotationPeriodInDays", (*int32)(nil))},
		{"kms:RotationPeriodInDays", "EnableKeyRotation", number, "100", "365", session, info{}, set("RotationPeriodInDays", new(int32(100)))},
		{"kms:ScheduleKeyDeletionPendingWindowInDays", "ScheduleKeyDeletion", number, "8", "30", session, info{}, set("PendingWindowInDays", new(int32(8)))},
		{"kms:WrappingAlgorithm", "GetParametersForImport", str, "RSAES_OAEP_SHA_256", "SM2PKE", session, info{}, set("WrappingAlgorithm", kms.AlgorithmRSAESOAEPSHA256)},
		{"kms:WrappingKeySpec", "GetParametersForImport", str, "RSA_2048", "SM2", session, info{}, func(in any) {
			setMember(in, "WrappingAlgorithm", kms.AlgorithmRSAESOAEPSHA256)
			setMember(in, "WrappingKeySpec", kms.WrappingKeySpecRSA2048)
		}},
		{"kms:ExpirationModel", "ImportKeyMaterial", str, "KEY_MATERIAL_DOES_NOT_EXPIRE", "KEY_MATERIAL_EXPIRES", session, info{}, set("ExpirationModel", kms.ExpirationModelKeyMaterialDoesNotExpire)},
		{"kms:ValidTo", "ImportKeyMaterial", "Null", "true", "false", session, info{}, set("ExpirationModel", kms.ExpirationModelKeyMaterialDoesNotExpire)},
		{"kms:BypassPolicyLockoutSafetyCheck", "PutKeyPolicy", "Null", "true", "false", session, info{}, nil},
		{"kms:BypassPolicyLockoutSafetyCheck", "PutKeyPolicy", boolean, "true", "false", session, info{}, set("BypassPolicyLockoutSafetyCheck", true)},
		{"kms:BypassPolicyLockoutSafetyCheck", "ReplicateKey", boolean, "true", "false", session, info{}, set("BypassPolicyLockoutSafetyCheck", true)},
		{"aws:RequestTag/project", "ReplicateKey", str, "alpha", "beta", session, info{}, tags},
		{"aws:TagKeys", "ReplicateKey", multi, "Project", "project", session, info{}, tags},
		{"aws:RequestTag/project", "TagResource", str, "alpha", "beta", session, info{}, tags},
		{"aws:TagKeys", "CreateKey", multi, "Project", "project", session, info{}, tags},
		{"aws:TagKeys", "UntagResource", multi, "Kind", "Other", session, info{}, set("TagKeys", []string{"Kind"})},

		{"kms:GranteePrincipal", "CreateGrant", str, fixtureAlice, appRole, session, info{}, nil},
		{"kms:GranteeServicePrincipal", "CreateGrant", "Null", "true", "false", session, info{}, nil},
		{"kms:RetiringPrincipal", "CreateGrant", str, appRole, fixtureAlice, session, info{}, set("RetiringPrincipal", appRole)},
		{"kms:RetiringServicePrincipal", "CreateGrant", str, "s3.amazonaws.com", "sns.amazonaws.com", session, info{}, set("RetiringServicePrincipal", "s3.amazonaws.com")},
		{"kms:GrantOperations", "CreateGrant", multi, "Decrypt", "Encrypt", session, info{}, nil},
		{"kms:EncryptionContext:a", "CreateGrant", str, "1", "2", session, info{}, equals},
		{"kms:GrantConstraintType", "CreateGrant", str, "EncryptionContextEquals", "EncryptionContextSubset", session, info{}, equals},
		{"kms:GrantConstraintType", "CreateGrant", str, "EncryptionContextSubset", "EncryptionContextEquals", session, info{}, constraints},
		{"kms:GrantConstraintSourceArn", "CreateGrant", str, "arn:aws:s3:::documents", "arn:aws:s3:::other", session, info{},
			set("Constraints", &kms.GrantConstraints{SourceArn: "arn:aws:s3:::documents"})},

		{"kms:RecipientAttestation:ImageSha384", "Decrypt", "Null", "true", "false", session, info{}, nil},
		{"kms:RecipientAttestation:PCR0", "Decrypt", "Null", "true", "false", session, info{}, nil},
		{"kms:NoSuchKey", "Decrypt", "Null", "true", "false", session, info{}, nil},
	}
	// Two of them need related keys in other Regions.
	covered := map[string]bool{"kms:PrimaryRegion": true, "kms:ReplicaRegion": true}
	for _, test := range tests {
		for _, name := range kms.ConditionKeyNames() {
			if test.key == name || strings.HasPrefix(strings.ToLower(test.key), strings.ToLower(name)) && strings.ContainsAny(name[len(name)-1:], ":/") {
				covered[name] = true
			}
		}
		t.Run(test.key+" of "+test.operation, func(t *testing.T) {
			f := newFixture(t)
			_, err := f.svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: []kms.Tag{{TagKey: "Kind", TagValue: "test"}}})
			require.NoError(t, err)
			in := f.example(t, test.operation)
			if test.change != nil {
				test.change(in)
			}
			op := operationNamed(t, test.operation)
			call := func(value string) error {
				statements := []any{
					map[string]any{"Effect": "Allow", "NotAction": permissionOf(op), "Resource": "*"},
					map[string]any{"Effect": "Allow", "Action": permissionOf(op), "Resource": "*", "Condition": map[string]any{test.operator: map[string]any{test.key: value}}},
				}
				document := string(must(json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})))
				id := full
				if reflect.DeepEqual(test.caller, user) {
					id = kms.Identity{}
				}
				id.Policies = []kms.Policy{{Document: document}}
				caller := withIdentity(t, test.caller.ARN(), id)
				_, err := op.Invoke(audit.ContextWithRequestInfo(t.Context(), test.info), f.svc.As(caller), in)
				return err
			}
			requireRefused(t, call(test.other), "no identity-based policy allows the "+permissionOf(op)+" action")
			require.NotErrorIs(t, call(test.value), kms.AccessDeniedException)
		})
	}
	for _, name := range kms.ConditionKeyNames() {
		require.True(t, covered[name], "no test has %s", name)
	}
}

// The aliases and tags of a key count only in policies of identities.
func TestAKeyPolicyDoesNotSeeTheAliasesAndTagsOfItsKey(t *testing.T) {
	f := newFixture(t)
	for _, c := range []string{`"Null":{"kms:ResourceAliases":"false"}`, `"Null":{"aws:ResourceTag/k":"false"}`} {
		_, err := f.svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}})
		require.NoError(t, err)
		statement := `{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{` + c + `}}`
		setPolicy(t, f.svc, f.symmetric.KeyId, `{"Version":"2012-10-17","Statement":[`+statement+`,{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
		require.NoError(t, encryptAs(f.svc, principal(t, appSession), f.symmetric.KeyId, nil))
		e, err := f.svc.As(principal(t, appSession)).Explain(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId})
		require.NoError(t, err)
		require.False(t, e.Decisions[0].Steps[0].Statements[0].Applies, "%s", e)
		denied := strings.Replace(`{"Version":"2012-10-17","Statement":`+statement+`}`, `"Principal":"*",`, "", 1)
		requireRefused(t, encryptAs(f.svc, with(t, appSession, denied), f.symmetric.KeyId, nil), "explicit deny in an identity-based policy")
		e, err = f.svc.As(with(t, appSession, denied)).Explain(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId})
		require.NoError(t, err)
		require.True(t, e.Decisions[0].Steps[0].Statements[1].Applies, "%s", e)
	}
}

// A key that was never used counts from its creation.
func TestTrailingDaysOfAKeyThatWasNeverUsed(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	clock.Move(3*day + time.Hour)
	for days, allowed := range map[string]bool{"2": false, "3": true, "4": false} {
		p := with(t, appSession, condition("kms:DisableKey", "NumericEquals", "kms:TrailingDaysWithoutKeyUsage", days))
		_, err := svc.As(p).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: k.KeyId})
		require.Equal(t, allowed, err == nil, "%s: %v", days, err)
	}
}

// What a key is, it is for callers of other accounts and in other Regions, too.
func TestConditionKeysOfForeignKeysAndReplicas(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Policy: everybodys, MultiRegion: true})
	_, err := svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: "eu-west-1", Policy: everybodys})
	require.NoError(t, err)
	clock.Move(kms.DefaultReplicationDelay)
	replica := strings.Replace(k.Arn, "us-east-1", "eu-west-1", 1)
	for _, tt := range []struct{ keyARN, key, value, other string }{
		{k.Arn, "aws:ResourceAccount", "111122223333", "444455556666"},
		{k.Arn, "kms:CallerAccount", "444455556666", "111122223333"},
		{k.Arn, "kms:MultiRegionKeyType", "PRIMARY", "REPLICA"},
		{replica, "kms:MultiRegionKeyType", "REPLICA", "PRIMARY"},
		{replica, "aws:RequestedRegion", "eu-west-1", "us-east-1"},
	} {
		describeIf := func(value string) error {
			region := strings.Split(tt.keyARN, ":")[3]
			return describeAs(svc.In(region), with(t, extSession, condition("kms:DescribeKey", "StringEquals", tt.key, value)), tt.keyARN)
		}
		require.NoError(t, describeIf(tt.value), "%s %s", tt.keyARN, tt.key)
		requireRefused(t, describeIf(tt.other), "no identity-based policy allows")
	}
}

// Each key of a ReEncrypt is decided with its own encryption context.
func TestReEncryptIsDecidedByBothContexts(t *testing.T) {
	svc, _ := newService(t)
	from, to := createKey(t, svc, nil), createKey(t, svc, nil)
	red, blue := map[string]string{"tenant": "red"}, map[string]string{"tenant": "blue"}
	encrypted, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: from.KeyId, Plaintext: []byte("x"), EncryptionContext: red})
	require.NoError(t, err)
	for _, tt := range []struct {
		from, to string
		allowed  bool
	}{{"red", "blue", true}, {"red", "red", false}, {"blue", "blue", false}} {
		p := with(t, appSession, condition("kms:ReEncryptFrom", "StringEquals", "kms:EncryptionContext:tenant", tt.from),
			condition("kms:ReEncryptTo", "StringEquals", "kms:EncryptionContext:tenant", tt.to))
		_, err := svc.As(p).ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: encrypted.CiphertextBlob, SourceEncryptionContext: red,
			DestinationKeyId: to.KeyId, DestinationEncryptionContext: blue})
		if tt.allowed {
			require.NoError(t, err)
		} else {
			requireRefused(t, err, "no identity-based policy allows")
		}
	}
}
