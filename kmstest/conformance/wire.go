package conformance

import (
	"strconv"

	"github.com/pocketkms/kms"
)

func factsAboutFormsOfAnswers() []Fact {
	return []Fact{
		{"the message of an exception", "observed", input(&kms.DescribeKeyInput{KeyId: "alias/none"}),
			isSent(`{"__type":"NotFoundException","message":"Alias ` + aliasARN + `alias/none is not found."}`)},
		{"the Message of an AccessDeniedException", "reported",
			func(s *scene) any { s.as(alice); return &kms.DescribeKeyInput{KeyId: s.symmetric().KeyId} },
			isSent(`{"__type":"AccessDeniedException","Message":"User: ` + alice + ` is not authorized to perform: kms:DescribeKey on resource: {symmetric} ` +
				`because no identity-based policy allows the kms:DescribeKey action"}`)},
		{"an exception without a message", "observed", input(&kms.DecryptInput{CiphertextBlob: []byte("x")}),
			isSent(`{"__type":"InvalidCiphertextException"}`)},
		{"the date of a key", "recorded 2026",
			about("{symmetric}", &kms.DescribeKeyInput{}), succeeds(isSent(`"CreationDate":1.7723664E9,`))},
		{"a date with a fraction", "recorded 2026",
			func(s *scene) any {
				s.advance(521_000_000)
				return &kms.DescribeKeyInput{KeyId: createKey(s, s.svc, nil).KeyId}
			}, succeeds(isSent(`"CreationDate":1.772366400521E9,`))},
		{"the date of a deletion", "recorded 2026",
			about("{symmetric}", &kms.ScheduleKeyDeletionInput{}), succeeds(isSent(`"DeletionDate":1.7749584E9`))},
		{"the last page of a list", "documented",
			with((*scene).alone, input(&kms.ListKeysInput{})), succeeds(has("", "Keys Truncated"), is("Truncated", false))},
		{"a page of a list that goes on", "documented",
			with((*scene).symmetric, with((*scene).other, input(&kms.ListKeysInput{Limit: new(int32(1))}))),
			succeeds(has("", "Keys Truncated NextMarker"), is("Truncated", true))},
		{"a marker of nothing", "documented",
			input(&kms.ListKeysInput{Marker: "x"}), refusesSomehow(kms.InvalidMarkerException)},
		{"a limit above the operation's", "documented", input(&kms.ListAliasesInput{Limit: new(int32(101))}),
			violates("Value '101' at 'limit'", "have value less than or equal to 100")},
		{"a key ID of no key", "observed",
			func(s *scene) any { return &kms.EnableKeyInput{KeyId: "12345678-1234-1234-1234-123456789012"} },
			refuses(kms.NotFoundException, "Key '"+aliasARN+"key/12345678-1234-1234-1234-123456789012' does not exist")},
		{"a key ID without its dashes", "observed",
			input(&kms.EnableKeyInput{KeyId: "12345678123412341234123456789012"}),
			refuses(kms.NotFoundException, "Invalid keyId '12345678123412341234123456789012'")},
		{"a multi-Region key ID in the wrong form", "observed", input(&kms.EnableKeyInput{KeyId: "mrk-foo"}),
			refuses(kms.NotFoundException, "Invalid keyId 'mrk-foo'")},
		{"a key ARN of another Region", "observed",
			input(&kms.EnableKeyInput{KeyId: "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012"}),
			refuses(kms.NotFoundException, "Invalid arn eu-west-1")},
		{"half an ARN", "documented",
			input(&kms.EnableKeyInput{KeyId: "arn:aws:kms"}), refusesSomehow(kms.InvalidArnException)},
		{"an operation without a key", "observed",
			func(s *scene) any { s.as(alice); return &kms.CreateKeyInput{} },
			denies(alice, "kms:CreateKey", "*")},
	}
}

func factsAboutEvents() []Fact {
	const defaults = `"description":"","origin":"AWS_KMS","bypassPolicyLockoutSafetyCheck":false,` +
		`"customerMasterKeySpec":"SYMMETRIC_DEFAULT","keySpec":"SYMMETRIC_DEFAULT","keyUsage":"ENCRYPT_DECRYPT"`
	const members = "aWSAccountId keyId arn creationDate enabled description keyUsage keyState origin keyManager " +
		"customerMasterKeySpec keySpec encryptionAlgorithms multiRegion currentKeyMaterialId"
	return []Fact{
		{"the version of an event", "recorded 2026",
			input(&kms.ListKeysInput{}), isRecorded("eventVersion", `"1.11"`)},
		{"the event of a direct call has no sharedEventID", "recorded 2026",
			input(&kms.ListKeysInput{}), isRecorded("sharedEventID", `null`)},
		{"the event of Encrypt has its algorithm", "recorded 2026",
			func(s *scene) any { return &kms.EncryptInput{KeyId: s.symmetric().Arn, Plaintext: []byte("x")} },
			isRecorded("requestParameters", `{"encryptionAlgorithm":"SYMMETRIC_DEFAULT","keyId":"{symmetric}"}`)},
		{"the event of Decrypt without a key has none among its parameters", "recorded 2026",
			func(s *scene) any { return &kms.DecryptInput{CiphertextBlob: s.ciphertext()} },
			isRecorded("requestParameters", `{"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}`)},
		{"the event of Decrypt without a key has it among its resources", "recorded 2026",
			func(s *scene) any { return &kms.DecryptInput{CiphertextBlob: s.ciphertext()} },
			isRecorded("resources", `[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"{symmetric}"}]`)},
		{"the event of Sign has its message type", "documented",
			func(s *scene) any {
				return &kms.SignInput{KeyId: s.signing().KeyId, Message: []byte("x"), MessageType: kms.MessageTypeRaw, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
			},
			func(s *scene, got reply) {
				isRecorded("requestParameters", `{"keyId":"`+s.signing().KeyId+`","messageType":"RAW","signingAlgorithm":"ECDSA_SHA_256"}`)(s, got)
			}},
		{"the event of CreateKey has its defaults filled in", "recorded 2026", input(&kms.CreateKeyInput{}),
			isRecorded("requestParameters", "{"+defaults+"}")},
		{"the event of CreateKey has the policy as it was sent, and the tags", "recorded 2026",
			input(&kms.CreateKeyInput{Policy: compactPolicy, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}}),
			isRecorded("requestParameters", "{"+defaults+`,"tags":[{"tagKey":"k","tagValue":"v"}],"policy":`+strconv.Quote(compactPolicy)+"}")},
		{"the event of CreateKey has these members of the key", "recorded 2026", input(&kms.CreateKeyInput{}),
			hasRecorded("responseElements.keyMetadata", members)},
		{"the event of CreateKey has its date in ISO 8601", "recorded 2026", input(&kms.CreateKeyInput{}),
			isRecorded("responseElements.keyMetadata.creationDate", `"2026-03-01T12:00:00Z"`)},
		{"the event of ScheduleKeyDeletion has all of the answer", "recorded 2026",
			about("{symmetric}", &kms.ScheduleKeyDeletionInput{PendingWindowInDays: new(int32(7))}),
			isRecorded("responseElements", `{"keyId":"{symmetric}","keyState":"PendingDeletion","deletionDate":"2026-03-08T12:00:00Z","pendingWindowInDays":7}`)},
		{"the event of a change that answers with nothing names the key", "documented",
			about("{symmetric}", &kms.EnableKeyInput{}), isRecorded("responseElements", `{"keyId":"{symmetric}"}`)},
		{"the event of a refusal", "documented", input(&kms.DescribeKeyInput{KeyId: "alias/none"}),
			isRecorded("errorCode", `"NotFoundException"`)},
		{"the event of a read has no answer", "documented", about("{symmetric}", &kms.DescribeKeyInput{}),
			isRecorded("responseElements", `null`)},
	}
}
