package kms_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pocketkms/kms"
)

// The facts of this file are about all operations with a certain member, which reflection finds.

// example returns a valid input of an operation, and prepares the scene for it.
func (s *scene) example(operation string) any {
	if operation == "CancelKeyDeletion" {
		scheduleDeletion(s.t, s.svc, s.symmetric.KeyId, 7)
	}
	return s.fixture.example(s.t, operation)
}

func TestRecordedAnswersToAliasesOfOperationsThatAcceptNone(t *testing.T) {
	var facts []fact
	for _, op := range kms.Operations() {
		field, ok := reflect.TypeOf(op.NewInput()).Elem().FieldByName("KeyId")
		if !ok || takeAliases[op.Name()] {
			continue
		}
		for what, prefix := range map[string]string{"an alias": "", "an alias ARN": aliasARN} {
			facts = append(facts, fact{op.Name() + " of " + what, "recorded 2026 and reported", func(s *scene) any {
				in := s.example(op.Name())
				alias := "alias/of-" + op.Name()
				if op.Name() == "CancelKeyDeletion" {
					alias = fixtureAlias // of a key that can get no other
				} else {
					createAlias(s.t, s.svc, alias, s.subject(op.Name()).KeyId)
				}
				reflect.ValueOf(in).Elem().FieldByIndex(field.Index).SetString(prefix + alias)
				return in
			}, refuses(kms.InvalidArnException, "Key Aliases are not supported for this operation.")})
		}
	}
	requireFacts(t, facts)
}

func TestRecordedAnswersToInvalidEncryptionContexts(t *testing.T) {
	var facts []fact
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
					facts = append(facts, fact{name + what, "observed for an empty value",
						func(s *scene) any { return prepare(s, context) },
						refuses(kms.ValidationException, "Invalid EncryptionContext")})
				}
				for what, context := range map[string]map[string]any{"null": {"k": nil}, "null among others": {"a": "b", "k": nil}} {
					facts = append(facts, fact{name + what, "inferred: null must not pass for absent", func(s *scene) any {
						in := jsonOf(reflect.ValueOf(prepare(s, map[string]string{}))).(map[string]any)
						in[member.Name] = context
						body, err := json.Marshal(in)
						if err != nil {
							s.t.Fatal(err)
						}
						return rawCall{op.Name(), string(body)}
					}, refusesSomehow(kms.ValidationException)})
				}
			}
		}
	}
	requireFacts(t, facts)
}

// crossAccount are the operations that can be called on a key of another account.
var crossAccount = []string{
	"CreateGrant", "Decapsulate", "Decrypt", "DeriveSharedSecret", "DescribeKey", "Encapsulate", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateDataKeyWithoutPlaintext", "GenerateMac", "GetKeyRotationStatus",
	"GetPublicKey", "ListGrants", "ReEncrypt", "RetireGrant", "RevokeGrant", "Sign", "Verify", "VerifyMac",
}

func TestRecordedAnswersAboutKeysOfAnotherAccount(t *testing.T) {
	const missingKey = aliasARN + "key/12345678-1234-1234-1234-123456789012"
	const denied = "User: arn:aws:iam::444455556666:root is not authorized to perform: kms:%s on this resource because " + hiddenResource
	var facts []fact
	for _, operation := range crossAccount {
		permission := operation
		if operation == "ReEncrypt" {
			permission = "ReEncryptFrom"
		}
		for _, there := range []string{"a key", "no key"} {
			facts = append(facts, fact{operation + " on another account's " + there, "reported", func(s *scene) any {
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
		facts = append(facts, fact{"ReEncrypt to another account's " + there, "reported", func(s *scene) any {
			arn := s.symmetric.Arn
			if there == "no key" {
				arn = missingKey
			}
			s.as("arn:aws:iam::444455556666:root")
			k := createKey(s.t, s.caller, nil)
			return &kms.ReEncryptInput{CiphertextBlob: encrypt(s.t, s.caller, k.KeyId, "x"), DestinationKeyId: arn}
		}, refuses(kms.AccessDeniedException, fmt.Sprintf(denied, "ReEncryptTo"))})
	}
	for _, op := range kms.Operations() {
		if len(keyMembers(op.NewInput())) == 0 || slices.Contains(crossAccount, op.Name()) || strings.HasSuffix(op.Name(), "eAlias") {
			continue
		}
		facts = append(facts, fact{op.Name() + " is only for the key's own account", "documented", func(s *scene) any {
			in := s.example(op.Name())
			keyMembers(in)[0].SetString(s.subject(op.Name()).Arn)
			s.as("arn:aws:iam::444455556666:root")
			return in
		}, refusesSomehow(kms.AccessDeniedException)})
	}
	requireFacts(t, facts)
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

func TestRecordedAnswersInEveryPartition(t *testing.T) {
	const source = "documented"
	var facts []fact
	for _, r := range regions {
		in, root := " in "+r.name, "arn:"+r.partition+":iam::111122223333:root"
		prefix := "arn:" + r.partition + ":kms:" + r.name + ":111122223333:"
		// move starts a service in the Region and creates a key.
		move := func(s *scene) *kms.KeyMetadata {
			s.restart(func(c *kms.Config) { c.Region = r.name })
			return s.create(nil)
		}
		// rightly passes the correct ARN of the key to want, not the one that the service returned.
		rightly := func(want func(right string) expectation) expectation {
			return func(s *scene, got reply) { want(prefix+"key/"+s.key.KeyId)(s, got) }
		}
		facts = append(facts, fact{"a key" + in + " by its ARN", source,
			func(s *scene) any { return &kms.DescribeKeyInput{KeyId: prefix + "key/" + move(s).KeyId} },
			rightly(func(right string) expectation { return succeeds(is("KeyMetadata.Arn", right)) })})
		if !r.all {
			continue
		}
		facts = append(facts, []fact{
			{"a use of a key" + in + " by its alias ARN", source,
				func(s *scene) any {
					createAlias(s.t, s.svc, fixtureAlias, move(s).KeyId)
					return &kms.EncryptInput{KeyId: prefix + fixtureAlias, Plaintext: []byte("x")}
				},
				rightly(func(right string) expectation { return succeeds(is("KeyId", right)) })},
			{"a list of aliases" + in, source,
				func(s *scene) any {
					createAlias(s.t, s.svc, fixtureAlias, move(s).KeyId)
					return &kms.ListAliasesInput{KeyId: s.key.KeyId}
				},
				succeeds(is("Aliases.0.AliasArn", prefix+fixtureAlias))},
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
					return &kms.GetKeyPolicyInput{KeyId: describe(s.t, s.svc, "alias/aws/sqs").KeyId}
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
	requireFacts(t, facts)
}
