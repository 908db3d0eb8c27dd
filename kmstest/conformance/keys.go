//lint:file-ignore SA1019 some facts are about members that are deprecated

package conformance

import (
	"fmt"
	"strings"

	"github.com/pocketkms/kms"
)

// printedPolicy is a key policy in the layout in which it is returned.
const printedPolicy = `{
  "Version" : "2012-10-17",
  "Statement" : [ {
    "Action" : [ "kms:Encrypt", "kms:*" ],
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Resource" : "*"
  } ],
  "Id" : "mine"
}`

const compactPolicy = `{"Version":"2012-10-17","Statement":[{"Action":["kms:Encrypt","kms:*"],"Effect":"Allow",` +
	`"Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Resource":"*"}],"Id":"mine"}`

const (
	alwaysInMetadata = "AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled KeyId KeyManager " +
		"KeySpec KeyState KeyUsage MultiRegion Origin "
	incompatible = "KeyUsage %s is not compatible with KeySpec %s"
)

func factsAboutKeys() []Fact {
	facts := []Fact{
		{"the defaults of CreateKey", "documented",
			input(&kms.CreateKeyInput{}),
			succeeds(is("KeyMetadata.KeySpec", "SYMMETRIC_DEFAULT"), is("KeyMetadata.KeyUsage", "ENCRYPT_DECRYPT"),
				is("KeyMetadata.Origin", "AWS_KMS"),
				is("KeyMetadata.MultiRegion", false), is("KeyMetadata.Description", ""), is("KeyMetadata.KeyState", "Enabled"))},
		{"a key ID is a lower-case UUID", "documented",
			input(&kms.CreateKeyInput{}),
			succeeds(matches("KeyMetadata.KeyId", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
				matches("KeyMetadata.Arn", "^arn:aws:kms:us-east-1:111122223333:key/"))},
		{"a multi-Region key's ID is mrk- and 32 digits", "documented",
			input(&kms.CreateKeyInput{MultiRegion: true}),
			succeeds(matches("KeyMetadata.KeyId", "^mrk-[0-9a-f]{32}$"))},
		{"a key material's ID is 64 lower-case digits", "documented",
			input(&kms.CreateKeyInput{}),
			succeeds(matches("KeyMetadata.CurrentKeyMaterialId", "^[0-9a-f]{64}$"))},
		{"metadata of a symmetric key", "documented and observed",
			input(&kms.CreateKeyInput{}),
			succeeds(has("KeyMetadata", alwaysInMetadata+"CurrentKeyMaterialId EncryptionAlgorithms"))},
		{"metadata of a signing key", "documented and observed",
			input(&kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP384, KeyUsage: kms.KeyUsageSignVerify}),
			succeeds(has("KeyMetadata", alwaysInMetadata+"SigningAlgorithms"),
				is("KeyMetadata.CustomerMasterKeySpec", "ECC_NIST_P384"))},
		{"metadata of an HMAC key", "documented and observed",
			input(&kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC384, KeyUsage: kms.KeyUsageGenerateVerifyMac}),
			succeeds(has("KeyMetadata", alwaysInMetadata+"MacAlgorithms"), is("KeyMetadata.CustomerMasterKeySpec", "HMAC_384"))},
		{"metadata of a lone multi-Region primary", "documented and observed",
			input(&kms.CreateKeyInput{MultiRegion: true}),
			succeeds(has("KeyMetadata", alwaysInMetadata+"CurrentKeyMaterialId EncryptionAlgorithms MultiRegionConfiguration"),
				has("KeyMetadata.MultiRegionConfiguration", "MultiRegionKeyType PrimaryKey ReplicaKeys"),
				is("KeyMetadata.MultiRegionConfiguration.ReplicaKeys", []any{}))},
		{"metadata of a key that is pending deletion", "documented",
			func(s *scene) any {
				scheduleDeletion(s, s.svc, s.symmetric().KeyId, 7)
				return &kms.DescribeKeyInput{KeyId: s.symmetric().KeyId}
			},
			succeeds(has("KeyMetadata", alwaysInMetadata+"CurrentKeyMaterialId EncryptionAlgorithms DeletionDate"),
				is("KeyMetadata.Enabled", false),
				is("KeyMetadata.DeletionDate", unix(Start.Add(7*day))))},
		{"only a symmetric key may be created without a usage", "observed",
			input(&kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256}),
			refuses(kms.ValidationException, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")},
		{"KeySpec and CustomerMasterKeySpec together, though they are equal", "reported",
			input(&kms.CreateKeyInput{KeySpec: kms.KeySpecSymmetricDefault, CustomerMasterKeySpec: kms.CustomerMasterKeySpecSymmetricDefault}),
			refuses(kms.ValidationException, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "+
				"CustomerMasterKeySpec is deprecated.")},
		{"KeySpec and CustomerMasterKeySpec together", "reported",
			input(&kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, CustomerMasterKeySpec: kms.CustomerMasterKeySpecSymmetricDefault}),
			refuses(kms.ValidationException, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "+
				"CustomerMasterKeySpec is deprecated.")},
		{"a CustomerMasterKeySpec has no value that is newer than KeySpec", "documented",
			input(&kms.CreateKeyInput{CustomerMasterKeySpec: "ML_DSA_44", KeyUsage: kms.KeyUsageSignVerify}),
			refusesSomehow(kms.ValidationException)},
		{"a key that does not exist, named by a user without permissions", "observed",
			func(s *scene) any {
				s.as(alice)
				return &kms.DisableKeyInput{KeyId: "12345678-1234-1234-1234-123456789012"}
			},
			refuses(kms.NotFoundException, "Key '"+aliasARN+"key/12345678-1234-1234-1234-123456789012' does not exist")},
		{"an unknown custom key store", "documented",
			input(&kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: "cks-1234567890abcdef0"}),
			refusesSomehow(kms.CustomKeyStoreNotFoundException)},
		{"a key of an external key store needs an XksKeyId", "documented",
			input(&kms.CreateKeyInput{Origin: kms.OriginExternalKeyStore, CustomKeyStoreId: "cks-1234567890abcdef0"}),
			refusesSomehow(kms.ValidationException)},
		{"another key must not have an XksKeyId", "documented",
			input(&kms.CreateKeyInput{XksKeyId: "x"}),
			refusesSomehow(kms.ValidationException)},
		{"a second ScheduleKeyDeletion", "observed",
			func(s *scene) any {
				scheduleDeletion(s, s.svc, s.symmetric().KeyId, 7)
				return &kms.ScheduleKeyDeletionInput{KeyId: s.symmetric().KeyId}
			},
			refuses(kms.KMSInvalidStateException, "{symmetric} is pending deletion.")},
		{"ScheduleKeyDeletion says when, 30 days on unless asked otherwise", "documented",
			about("{symmetric}", &kms.ScheduleKeyDeletionInput{}),
			succeeds(has("", "KeyId DeletionDate KeyState PendingWindowInDays"),
				is("KeyId", "{symmetric}"), is("KeyState", "PendingDeletion"),
				is("PendingWindowInDays", 30.0), is("DeletionDate", unix(Start.Add(30*day))))},
		{"CancelKeyDeletion leaves the key disabled, without a deletion date", "documented and observed",
			func(s *scene) any {
				scheduleDeletion(s, s.svc, s.symmetric().KeyId, 7)
				return &kms.CancelKeyDeletionInput{KeyId: s.symmetric().KeyId}
			},
			succeeds(has("", "KeyId"), is("KeyId", "{symmetric}"),
				then(about("{symmetric}", &kms.DescribeKeyInput{}),
					succeeds(is("KeyMetadata.KeyState", "Disabled"), is("KeyMetadata.DeletionDate", nil))))},
		{"CancelKeyDeletion of a key that is not pending deletion", "documented",
			about("{symmetric}", &kms.CancelKeyDeletionInput{}),
			refuses(kms.KMSInvalidStateException, "{symmetric} is not pending deletion.")},
		{"the message about a disabled key has the key ARN though an alias was sent", "observed",
			func(s *scene) any {
				disable(s, s.svc, s.symmetric().KeyId)
				return &kms.EncryptInput{KeyId: fixtureAlias, Plaintext: []byte("x")}
			},
			refuses(kms.DisabledException, "{symmetric} is disabled.")},
		{"ListKeys gives ID and ARN", "documented",
			with((*scene).alone, with((*scene).symmetric, input(&kms.ListKeysInput{}))),
			succeeds(has("", "Keys Truncated"), has("Keys.0", "KeyId KeyArn"))},
		{"DisableKey answers with nothing", "documented",
			about("{symmetric}", &kms.DisableKeyInput{}), succeeds(has("", ""))},
		{"EnableKey of an enabled key succeeds and answers with nothing", "documented",
			about("{symmetric}", &kms.EnableKeyInput{}), succeeds(has("", ""))},
		{"UpdateKeyDescription may remove the description, and answers with nothing", "documented",
			about("{symmetric}", &kms.UpdateKeyDescriptionInput{}), succeeds(has("", ""))},
		{"GetKeyLastUsage answers with the key ID if that was sent", "recorded 2026",
			func(s *scene) any { return &kms.GetKeyLastUsageInput{KeyId: s.symmetric().KeyId} },
			succeeds(has("", "KeyId KeyCreationDate TrackingStartDate KeyLastUsage"), matches("KeyId", "^[0-9a-f-]{36}$"))},
		{"GetKeyLastUsage answers with the key ARN if that was sent", "recorded 2026",
			func(s *scene) any { return &kms.GetKeyLastUsageInput{KeyId: s.symmetric().Arn} },
			succeeds(is("KeyId", "{symmetric}"))},
		{"the last usage of a key that was never used is an empty object", "recorded 2026",
			about("{other}", &kms.GetKeyLastUsageInput{}),
			succeeds(has("KeyLastUsage", ""))},
		{"the last usage of a key has four members", "recorded 2026",
			with((*scene).ciphertext, about("{symmetric}", &kms.GetKeyLastUsageInput{})),
			succeeds(has("KeyLastUsage", "Timestamp Operation KmsRequestId CloudTrailEventId"))},
		{"ReEncrypt is the last usage of its destination", "documented",
			func(s *scene) any {
				s.do(&kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), DestinationKeyId: s.other().KeyId})
				return &kms.GetKeyLastUsageInput{KeyId: s.other().KeyId}
			},
			succeeds(is("KeyLastUsage.Operation", "ReEncrypt"))},
	}
	for spec, usage := range map[kms.KeySpec]kms.KeyUsageType{
		kms.KeySpecRSA2048: kms.KeyUsageKeyAgreement, kms.KeySpecECCNISTP256: kms.KeyUsageEncryptDecrypt, kms.KeySpecHMAC256: kms.KeyUsageSignVerify,
		kms.KeySpecMLDSA44: kms.KeyUsageEncryptDecrypt, kms.KeySpecSymmetricDefault: kms.KeyUsageSignVerify,
	} {
		facts = append(facts, Fact{fmt.Sprintf("%s does not go with %s", usage, spec), "observed and recorded 2026",
			input(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage}),
			refuses(kms.ValidationException, fmt.Sprintf(incompatible, usage, spec))})
	}
	for _, spec := range []kms.KeySpec{kms.KeySpecMLDSA44, kms.KeySpecMLDSA65, kms.KeySpecMLDSA87} {
		facts = append(facts, Fact{fmt.Sprintf("%s cannot be imported", spec), "recorded 2026",
			input(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageSignVerify, Origin: kms.OriginExternal}),
			refuses(kms.ValidationException, fmt.Sprintf("KeySpec %s is not supported for Origin EXTERNAL", spec))})
	}
	for _, days := range []int32{1, 6, 31, 365} {
		facts = append(facts, Fact{fmt.Sprintf("a key does not wait %d days for its deletion", days), "documented",
			about("{symmetric}", &kms.ScheduleKeyDeletionInput{PendingWindowInDays: &days}),
			refusesSomehow(kms.ValidationException)})
	}
	return facts
}

func factsAboutPolicies() []Fact {
	facts := []Fact{
		{"the default policy lets the account decide", "observed",
			about("{symmetric}", &kms.GetKeyPolicyInput{}),
			succeeds(has("", "Policy PolicyName"), is("PolicyName", "default"), is("Policy", `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`))},
		{"the policy of an AWS managed key names its service", "recorded 2026",
			func(s *scene) any {
				return &kms.GetKeyPolicyInput{KeyId: describe(s, s.svc, "alias/aws/sqs").KeyId}
			},
			succeeds(matches("Policy", `"Id" : "auto-sqs-1"`))},
		{"the policy of PutKeyPolicy comes back in the service's own print, its members in their order", "recorded 2026",
			func(s *scene) any {
				s.do(&kms.PutKeyPolicyInput{KeyId: s.symmetric().KeyId, Policy: compactPolicy})
				return &kms.GetKeyPolicyInput{KeyId: s.symmetric().KeyId}
			},
			succeeds(is("Policy", printedPolicy))},
		{"the policy of CreateKey comes back in the service's own print", "recorded 2026",
			func(s *scene) any {
				return &kms.GetKeyPolicyInput{KeyId: s.create(&kms.CreateKeyInput{Policy: compactPolicy}).KeyId}
			},
			succeeds(is("Policy", printedPolicy))},
		{"PutKeyPolicy works while the key is pending deletion", "recorded 2026",
			func(s *scene) any {
				scheduleDeletion(s, s.svc, s.symmetric().KeyId, 7)
				return &kms.PutKeyPolicyInput{KeyId: s.symmetric().KeyId, Policy: compactPolicy}
			},
			succeeds(has("", ""))},
		{"default is a key's only policy", "documented",
			about("{symmetric}", &kms.ListKeyPoliciesInput{}),
			succeeds(has("", "PolicyNames Truncated"), is("PolicyNames", []any{"default"}))},
	}
	const statement = `{"Statement":[{"Effect":"Allow","Principal":%s,"Action":"kms:*","Resource":"*"%s}]}`
	for _, refused := range []struct {
		text, source, policy string
		want                 expectation
	}{
		{"a policy without a closing brace", "reported",
			"{", refuses(kms.MalformedPolicyDocumentException, "")},
		{"a policy that is a word", "reported", "policy", refuses(kms.MalformedPolicyDocumentException, "")},
		{"a policy with something behind it", "reported",
			compactPolicy + ";", refuses(kms.MalformedPolicyDocumentException, "")},
		{"a statement without actions", "reported",
			`{"Statement":[{"Effect":"Allow","Principal":"*","Resource":"*"}]}`,
			refuses(kms.MalformedPolicyDocumentException, "Missing required field Action")},
		{"a statement without resources", "reported",
			`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*"}]}`,
			refuses(kms.MalformedPolicyDocumentException, "Missing required field Resource")},
		{"a second statement without resources", "reported",
			strings.Replace(compactPolicy, "}],", `},{"Effect":"Deny","Principal":"*","NotAction":"kms:*"}],`, 1),
			refuses(kms.MalformedPolicyDocumentException, "Missing required field Resource")},
		{"a principal that is no ARN", "observed",
			fmt.Sprintf(statement, `{"AWS":"arn:aws::111122223333:role/app"}`, ""),
			refuses(kms.MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")},
		{"a principal with a wildcard in its ARN", "observed",
			fmt.Sprintf(statement, `{"AWS":"arn:aws:iam::111122223333:role/*"}`, ""),
			refuses(kms.MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")},
		{"a policy of 32,769 bytes", "documented",
			policyOf(32769), refusesSomehow(kms.LimitExceededException)},
		{"a policy of 131,073 characters", "documented",
			policyOf(131073), refusesSomehow(kms.ValidationException)},
		{"a policy with a character beyond U+00FF", "documented",
			strings.Replace(compactPolicy, "mine", "\u0100", 1),
			refusesSomehow(kms.ValidationException)},
		{"ForAllValues on an encryption context", "documented",
			fmt.Sprintf(statement, `"*"`, `,"Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"b"}}`),
			refusesSomehow(kms.MalformedPolicyDocumentException)},
	} {
		facts = append(facts,
			Fact{refused.text + " to CreateKey", refused.source, input(&kms.CreateKeyInput{Policy: refused.policy}), refused.want},
			Fact{refused.text + " to PutKeyPolicy", refused.source, about("{symmetric}", &kms.PutKeyPolicyInput{Policy: refused.policy}), refused.want})
	}
	return facts
}

func factsAboutTags() []Fact {
	facts := []Fact{
		{"tags that make more than 50 together", "documented and observed",
			func(s *scene) any {
				s.do(&kms.TagResourceInput{KeyId: s.symmetric().KeyId, Tags: manyTags(50)})
				return &kms.TagResourceInput{KeyId: s.symmetric().KeyId, Tags: []kms.Tag{{TagKey: "one more"}}}
			},
			refuses(kms.TagException, "Too many tags")},
		{"TagResource replaces by the exact tag key, and answers with nothing", "documented",
			func(s *scene) any {
				s.do(&kms.TagResourceInput{KeyId: s.symmetric().KeyId, Tags: []kms.Tag{{TagKey: "k", TagValue: "1"}, {TagKey: "K", TagValue: "1"}}})
				return &kms.TagResourceInput{KeyId: s.symmetric().KeyId, Tags: []kms.Tag{{TagKey: "k", TagValue: ""}}}
			},
			succeeds(has("", ""), then(about("{symmetric}", &kms.ListResourceTagsInput{}),
				succeeds(is("Tags", []any{map[string]any{"TagKey": "K", "TagValue": "1"}, map[string]any{"TagKey": "k", "TagValue": ""}}))))},
		{"UntagResource ignores tags that do not exist, and answers with nothing", "documented",
			about("{symmetric}", &kms.UntagResourceInput{TagKeys: []string{"none"}}), succeeds(has("", ""))},
	}
	long := strings.Repeat("x", 257)
	for _, refused := range []struct {
		text string
		tags []kms.Tag
		want expectation
	}{
		{"51 tags", manyTags(51), refuses(kms.TagException, "Too many tags")},
		{"two tags of one key", []kms.Tag{{TagKey: "a"}, {TagKey: "a"}}, refuses(kms.TagException, "Duplicate tag keys")},
		{"a tag aws:", []kms.Tag{{TagKey: "aws:x"}}, refuses(kms.TagException, "Tags beginning with aws: are reserved")},
		{"a tag AWS:", []kms.Tag{{TagKey: "AWS:x"}}, refuses(kms.TagException, "Tags beginning with aws: are reserved")},
		{"a tag aWs:", []kms.Tag{{TagKey: "aWs:x"}}, refuses(kms.TagException, "Tags beginning with aws: are reserved")},
		{"a tag key of 129 characters", []kms.Tag{{TagKey: long[:129]}}, violates("Value '"+long[:129]+"' at 'tags.1.member.tagKey'", "have length less than or equal to 128")},
		{"a tag value of 257 characters", []kms.Tag{{TagKey: "k", TagValue: long}}, violates("Value '"+long+"' at 'tags.1.member.tagValue'", "have length less than or equal to 256")},
	} {
		facts = append(facts,
			Fact{refused.text + " to CreateKey", "observed",
				input(&kms.CreateKeyInput{Tags: refused.tags}), refused.want},
			Fact{refused.text + " to TagResource", "observed",
				about("{symmetric}", &kms.TagResourceInput{Tags: refused.tags}), refused.want})
	}
	return facts
}

const foreignKey = "arn:aws:kms:us-east-1:444455556666:key/12345678-1234-1234-1234-123456789012"

func factsAboutAliases() []Fact {
	const prefix = `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`
	const tooMany = "Aliases per key quota for this account in this region is 50, current usage is 50."
	const changedUsage = "Alias alias/fixture cannot be changed from a CMK with key usage ENCRYPT_DECRYPT to a CMK with key usage %s. " +
		"The key usage of the current CMK and the new CMK must be the same."
	create := func(name, target string) func(*scene) any {
		return func(s *scene) any {
			return &kms.CreateAliasInput{AliasName: name, TargetKeyId: s.expand(target)}
		}
	}
	update := func(name, target string) func(*scene) any {
		return func(s *scene) any {
			return &kms.UpdateAliasInput{AliasName: name, TargetKeyId: s.expand(target)}
		}
	}
	full := func(then func(*scene) any) func(*scene) any {
		return func(s *scene) any {
			for i := range 50 {
				createAlias(s, s.svc, fmt.Sprint("alias/", i), s.other().KeyId)
			}
			return then(s)
		}
	}
	return []Fact{
		{"CreateAlias answers with nothing", "documented",
			create("alias/new", "{symmetric}"), succeeds(has("", ""))},
		{"an alias without its prefix", "observed",
			create("name", "{symmetric}"), refuses(kms.ValidationException, prefix)},
		{"an alias with a colon", "observed", create("alias/a:b", "{symmetric}"),
			refuses(kms.ValidationException, "alias/a:b contains invalid characters for an alias")},
		{"an alias with a space", "documented",
			create("alias/a b", "{symmetric}"), refusesSomehow(kms.ValidationException)},
		{"an alias of a name that is reserved", "observed and documented",
			create("alias/aws/mine", "{symmetric}"),
			refusesSomehow("NotAuthorizedException", kms.InvalidAliasNameException)},
		{"an alias that exists, of the same key", "observed", create(fixtureAlias, "{symmetric}"),
			refuses(kms.AlreadyExistsException, "An alias with the name "+aliasARN+fixtureAlias+" already exists")},
		{"an alias that exists, of another key", "observed", create(fixtureAlias, "{other}"),
			refuses(kms.AlreadyExistsException, "An alias with the name "+aliasARN+fixtureAlias+" already exists")},
		{"an alias for an alias", "observed", create("alias/new", fixtureAlias),
			refuses(kms.ValidationException, "Aliases must refer to keys. Not aliases")},
		{"an alias for an alias's ARN", "observed", create("alias/new", aliasARN+fixtureAlias),
			refuses(kms.ValidationException, "Aliases must refer to keys. Not aliases")},
		{"a 51st alias", "reported",
			full(create("alias/new", "{other}")), refuses(kms.LimitExceededException, tooMany)},
		{"an alias that moves to a key with 50", "reported",
			full(update(fixtureAlias, "{other}")), refuses(kms.LimitExceededException, tooMany)},
		{"an alias for a key of another Region", "reported",
			create("alias/new", strings.Replace(foreignKey, "us-east-1:444455556666", "eu-west-1:111122223333", 1)),
			refuses(kms.NotFoundException, "Invalid arn eu-west-1")},
		{"an alias for a key of another account", "reported",
			create("alias/new", foreignKey), refusesWith("This operation cannot be called cross account")},
		{"an alias that moves to a key of another account", "reported", update(fixtureAlias, foreignKey),
			refusesWith("This operation cannot be called cross account")},
		{"an alias for an AWS managed key", "documented",
			func(s *scene) any { return create("alias/new", describe(s, s.svc, "alias/aws/s3").Arn)(s) },
			refusesSomehow(kms.AccessDeniedException, kms.ValidationException, kms.UnsupportedOperationException)},
		{"the name of an alias that was deleted may be used at once", "documented",
			func(s *scene) any {
				s.do(&kms.DeleteAliasInput{AliasName: fixtureAlias})
				return create(fixtureAlias, "{other}")(s)
			},
			succeeds()},
		{"aliases are case-sensitive", "documented",
			create(strings.ToUpper(fixtureAlias[6:]), "{other}"), refuses(kms.ValidationException, prefix)},
		{"an alias that differs in case is another", "documented",
			create("alias/FIXTURE", "{other}"), succeeds()},
		{"an alias moves to a key of the same usage, which answers with nothing", "documented",
			update(fixtureAlias, "{other}"),
			succeeds(has("", ""))},
		{"an alias does not move to a signing key", "reported", update(fixtureAlias, "{signing}"),
			refuses(kms.ValidationException, fmt.Sprintf(changedUsage, "SIGN_VERIFY"))},
		{"an alias does not move to an HMAC key", "reported", update(fixtureAlias, "{mac}"),
			refuses(kms.ValidationException, fmt.Sprintf(changedUsage, "GENERATE_VERIFY_MAC"))},
		{"an alias that does not exist does not move", "documented", update("alias/none", "{other}"),
			refuses(kms.NotFoundException, "Alias "+aliasARN+"alias/none is not found.")},
		{"an alias that does not exist is not deleted", "observed",
			input(&kms.DeleteAliasInput{AliasName: "alias/none"}),
			refuses(kms.NotFoundException, "Alias "+aliasARN+"alias/none is not found.")},
		{"DeleteAlias answers with nothing", "observed",
			input(&kms.DeleteAliasInput{AliasName: fixtureAlias}), succeeds(has("", ""))},
		{"a use of an alias that does not exist", "observed",
			input(&kms.EncryptInput{KeyId: "alias/none", Plaintext: []byte("x")}),
			refuses(kms.NotFoundException, "Alias "+aliasARN+"alias/none is not found.")},
		{"an alias is listed with its key and dates", "documented",
			func(s *scene) any { return &kms.ListAliasesInput{KeyId: s.symmetric().Arn} },
			succeeds(has("Aliases.0", "AliasArn AliasName CreationDate LastUpdatedDate TargetKeyId"))},
		{"a predefined alias is listed without key and dates", "documented", input(&kms.ListAliasesInput{}),
			succeeds(has("Aliases.0", "AliasArn AliasName"))},
		{"the list of a key's aliases says over HTTP how many it has", "recorded 2026",
			about("{symmetric}", &kms.ListAliasesInput{}), succeeds(isSent(`"AliasCount":1`))},
		{"a page of aliases says over HTTP how many it has", "recorded 2026",
			input(&kms.ListAliasesInput{Limit: new(int32(2))}), succeeds(isSent(`"AliasCount":2`))},
		{"an empty list of aliases says so over HTTP", "recorded 2026",
			about("{other}", &kms.ListAliasesInput{}), succeeds(isSent(`"AliasCount":0`))},
	}
}
