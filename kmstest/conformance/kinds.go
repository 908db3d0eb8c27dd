package conformance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// The facts of this file are about all operations with a certain member, which reflection finds.

func factsAboutKindsOfIdentifiers() []Fact {
	var facts []Fact
	for _, op := range kms.Operations() {
		field, ok := reflect.TypeOf(op.NewInput()).Elem().FieldByName("KeyId")
		if !ok || takeAliases[op.Name()] {
			continue
		}
		for what, prefix := range map[string]string{"an alias": "", "an alias ARN": aliasARN} {
			facts = append(facts, Fact{op.Name() + " of " + what, "recorded 2026 and reported", func(s *scene) any {
				in := s.example(op.Name())
				alias := "alias/of-" + op.Name()
				if op.Name() == "CancelKeyDeletion" {
					alias = fixtureAlias // of a key that can get no other
				} else {
					createAlias(s, s.svc, alias, s.subject(op.Name()).KeyId)
				}
				reflect.ValueOf(in).Elem().FieldByIndex(field.Index).SetString(prefix + alias)
				return in
			}, refuses(kms.InvalidArnException, "Key Aliases are not supported for this operation.")})
		}
	}
	return facts
}

func factsAboutInvalidEncryptionContexts() []Fact {
	var facts []Fact
	for _, op := range kms.Operations() {
		input := reflect.TypeOf(op.NewInput()).Elem()
		for i := range input.NumField() {
			member := input.Field(i)
			if member.Type != reflect.TypeFor[map[string]string]() {
				continue
			}
			for _, dryRun := range []string{"", "DryRun"} {
				prepare := func(s *scene, context map[string]string) any {
					in := s.example(op.Name())
					reflect.ValueOf(in).Elem().Field(i).Set(reflect.ValueOf(context))
					if dryRun != "" {
						withDryRun(in)
					}
					return in
				}
				name := strings.TrimSpace(op.Name()+"."+member.Name+" "+dryRun) + " with "
				for what, context := range map[string]map[string]string{
					"an empty value": {"k": ""}, "an empty key": {"": "v"}, "neither key nor value": {"": ""},
					"one empty value of two": {"aws:ssm:SessionId": "s-1", "aws:ssm:TargetId": ""},
					"one empty key of two":   {"k": "v", "": "v"},
				} {
					facts = append(facts, Fact{name + what, "observed for an empty value",
						func(s *scene) any { return prepare(s, context) },
						refuses(kms.ValidationException, "Invalid EncryptionContext")})
				}
				for what, context := range map[string]map[string]any{"null": {"k": nil}, "null among others": {"a": "b", "k": nil}} {
					facts = append(facts, Fact{name + what, "inferred: null must not pass for absent", func(s *scene) any {
						text, err := awsapi.Marshal(prepare(s, nil))
						require.NoError(s, err)
						var in map[string]any
						require.NoError(s, json.Unmarshal(text, &in))
						in[member.Name] = context
						body, err := json.Marshal(in)
						require.NoError(s, err)
						return rawCall{op.Name(), string(body)}
					}, refusesSomehow(kms.ValidationException)})
				}
			}
		}
	}
	return facts
}

// crossAccount are the operations that can be called on a key of another account.
var crossAccount = []string{
	"CreateGrant", "Decapsulate", "Decrypt", "DeriveSharedSecret", "DescribeKey", "Encapsulate", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateDataKeyWithoutPlaintext", "GenerateMac", "GetKeyRotationStatus",
	"GetPublicKey", "ListGrants", "ReEncrypt", "RetireGrant", "RevokeGrant", "Sign", "Verify", "VerifyMac",
}

func factsAboutKeysOfAnotherAccount() []Fact {
	const missingKey = aliasARN + "key/12345678-1234-1234-1234-123456789012"
	const denied = "User: arn:aws:iam::444455556666:root is not authorized to perform: kms:%s on this resource because " + hiddenResource
	var facts []Fact
	for _, operation := range crossAccount {
		permission := operation
		if operation == "ReEncrypt" {
			permission = "ReEncryptFrom"
		}
		for _, there := range []string{"a key", "no key"} {
			facts = append(facts, Fact{operation + " on another account's " + there, "reported", func(s *scene) any {
				in := s.example(operation)
				arn := s.subject(operation).Arn
				if there == "no key" {
					arn = missingKey
				}
				keyMembers(in)[0].SetString(arn)
				s.as("arn:aws:iam::444455556666:root")
				return in
			}, refuses(kms.AccessDeniedException, fmt.Sprintf(denied, permission))})
		}
	}
	for _, there := range []string{"a key", "no key"} {
		facts = append(facts, Fact{"ReEncrypt to another account's " + there, "reported", func(s *scene) any {
			arn := s.symmetric().Arn
			if there == "no key" {
				arn = missingKey
			}
			s.as("arn:aws:iam::444455556666:root")
			k := createKey(s, s.caller, nil)
			return &kms.ReEncryptInput{CiphertextBlob: encrypt(s, s.caller, k.KeyId, "x"), DestinationKeyId: arn}
		}, refuses(kms.AccessDeniedException, fmt.Sprintf(denied, "ReEncryptTo"))})
	}
	for _, op := range kms.Operations() {
		if len(keyMembers(op.NewInput())) == 0 || slices.Contains(crossAccount, op.Name()) || strings.HasSuffix(op.Name(), "eAlias") {
			continue
		}
		facts = append(facts, Fact{op.Name() + " is only for the key's own account", "documented", func(s *scene) any {
			in := s.example(op.Name())
			keyMembers(in)[0].SetString(s.subject(op.Name()).Arn)
			s.as("arn:aws:iam::444455556666:root")
			return in
		}, refusesSomehow(kms.AccessDeniedException)})
	}
	return facts
}

// regions has Regions of each partition. All facts about ARNs are checked in the marked Regions,
// and one of them in the others.
var regions = []struct {
	name, partition string
	all             bool
}{
	{"us-east-1", "aws", true}, {"eu-central-1", "aws", false}, {"il-central-1", "aws", false},
	{"us-gov-west-1", "aws-us-gov", true}, {"us-gov-east-1", "aws-us-gov", false},
	{"cn-north-1", "aws-cn", true}, {"cn-northwest-1", "aws-cn", false},
	{"eusc-de-east-1", "aws-eusc", true},
	{"us-iso-east-1", "aws-iso", false}, {"us-iso-west-1", "aws-iso", false}, {"us-isob-east-1", "aws-iso-b", false},
	{"eu-isoe-west-1", "aws-iso-e", false}, {"us-isof-south-1", "aws-iso-f", false},
}

func factsAboutPartitions() []Fact {
	const source, regionalAlias = "documented", "alias/regional"
	var facts []Fact
	for _, r := range regions {
		in, root := " in "+r.name, "arn:"+r.partition+":iam::111122223333:root"
		prefix := "arn:" + r.partition + ":kms:" + r.name + ":111122223333:"
		// move starts a service in the Region and creates a key.
		move := func(s *scene) *kms.KeyMetadata {
			s.restart(Settings{Region: r.name})
			return s.create(nil)
		}
		// rightly passes the correct ARN of the key to want, not the one that the service returned.
		rightly := func(want func(right string) expectation) expectation {
			return func(s *scene, got reply) { want(prefix+"key/"+s.key.KeyId)(s, got) }
		}
		facts = append(facts, Fact{"a key" + in + " by its ARN", source,
			func(s *scene) any { return &kms.DescribeKeyInput{KeyId: prefix + "key/" + move(s).KeyId} },
			rightly(func(right string) expectation { return succeeds(is("KeyMetadata.Arn", right)) })})
		if !r.all {
			continue
		}
		facts = append(facts, []Fact{
			{"a use of a key" + in + " by its alias ARN", source,
				func(s *scene) any {
					createAlias(s, s.svc, regionalAlias, move(s).KeyId)
					return &kms.EncryptInput{KeyId: prefix + regionalAlias, Plaintext: []byte("x")}
				},
				rightly(func(right string) expectation { return succeeds(is("KeyId", right)) })},
			{"a list of aliases" + in, source,
				func(s *scene) any {
					createAlias(s, s.svc, regionalAlias, move(s).KeyId)
					return &kms.ListAliasesInput{KeyId: s.key.KeyId}
				},
				succeeds(is("Aliases.0.AliasArn", prefix+regionalAlias))},
			{"a list of keys" + in, source, func(s *scene) any { move(s); return &kms.ListKeysInput{} },
				rightly(func(right string) expectation { return succeeds(is("Keys.0.KeyArn", right)) })},
			{"a key that does not exist" + in, source,
				func(s *scene) any {
					move(s)
					return &kms.DescribeKeyInput{KeyId: "12345678-1234-1234-1234-123456789012"}
				},
				refuses(kms.NotFoundException, "Key '"+prefix+"key/12345678-1234-1234-1234-123456789012' does not exist")},
			{"an ARN of a partition that does not exist" + in, "documented",
				func(s *scene) any {
					return &kms.DescribeKeyInput{KeyId: "arn:aws-x:kms:" + r.name + ":111122223333:key/" + move(s).KeyId}
				},
				refusesSomehow(kms.InvalidArnException)},
			{"the default policy" + in, "observed", func(s *scene) any { return &kms.GetKeyPolicyInput{KeyId: move(s).KeyId} },
				succeeds(matches("Policy", `"AWS" : "`+root+`"`))},
			{"the policy of an AWS managed key" + in, "documented",
				func(s *scene) any {
					move(s)
					return &kms.GetKeyPolicyInput{KeyId: describe(s, s.svc, "alias/aws/sqs").KeyId}
				},
				succeeds(matches("Policy", `"AWS" : "`+root+`"`), matches("Policy", `"kms:ViaService" : "sqs.`+r.name+`.amazonaws.com"`))},
			{"the key in an event" + in, "documented",
				func(s *scene) any { return &kms.EncryptInput{KeyId: move(s).KeyId, Plaintext: []byte("x")} },
				rightly(func(right string) expectation { return isRecorded("resources.0.ARN", `"`+right+`"`) })},
			{"the caller in an event" + in, "documented",
				func(s *scene) any { return &kms.EncryptInput{KeyId: move(s).KeyId, Plaintext: []byte("x")} },
				isRecorded("userIdentity.arn", `"`+root+`"`)},
			{"a user of the partition" + in, "observed",
				func(s *scene) any {
					k := move(s)
					s.as("arn:" + r.partition + ":iam::111122223333:user/alice")
					return &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")}
				},
				rightly(func(right string) expectation {
					return denies("arn:"+r.partition+":iam::111122223333:user/alice", "kms:Encrypt", right)
				})},
			{"a new key" + in + ", asked for at a service in us-east-1", "the partition follows from the Region",
				func(s *scene) any { s.caller = s.svc.In(r.name); return &kms.CreateKeyInput{} },
				succeeds(matches("KeyMetadata.Arn", "^"+prefix+"key/"))},
		}...)
	}
	return facts
}
