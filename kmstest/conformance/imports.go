package conformance

import (
	"bytes"
	"strings"
	"time"

	"github.com/pocketkms/kms"
)

func factsAboutImports() []Fact {
	hmac := &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac}
	signing := &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify}
	newKey := func(in *kms.CreateKeyInput, change ...func(*kms.ImportKeyMaterialInput)) func(*scene) any {
		return func(s *scene) any { return s.importer(in).input(symmetricMaterial(1), change...) }
	}
	again := func(in *kms.CreateKeyInput, n byte, change ...func(*kms.ImportKeyMaterialInput)) func(*scene) any {
		return func(s *scene) any { return s.imported(in).input(symmetricMaterial(n), change...) }
	}
	material := func(in *kms.CreateKeyInput, bytes []byte) func(*scene) any {
		return func(s *scene) any { return s.importer(in).input(bytes) }
	}
	describeKey := aboutKey(&kms.DescribeKeyInput{})
	listAll := aboutKey(&kms.ListKeyRotationsInput{IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	after := func(prepare func(s *scene), in func(*scene) any) func(*scene) any {
		return func(s *scene) any { prepare(s); return in(s) }
	}
	metadata := "AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled KeyId KeyManager KeySpec KeyState KeyUsage MultiRegion Origin EncryptionAlgorithms"
	pairs := func(spec kms.KeySpec, algorithm kms.AlgorithmSpec, wrapping kms.WrappingKeySpec) Fact {
		text := "Wrapping algorithm " + string(algorithm) + " and wrapping key spec " + string(wrapping) + " cannot be used to import a " + string(spec) + " key."
		return Fact{text, "recorded 2026", func(s *scene) any {
			k := s.create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: usageOf(spec), Origin: kms.OriginExternal})
			return &kms.GetParametersForImportInput{KeyId: k.KeyId, WrappingAlgorithm: algorithm, WrappingKeySpec: wrapping}
		}, refuses(kms.ValidationException, text)}
	}
	deleted := func(in *kms.CreateKeyInput, change ...func(*kms.ImportKeyMaterialInput)) func(*scene) {
		return func(s *scene) { s.imported(in, change...).delete("") }
	}
	staged := func(s *scene) { s.imported(nil).must(symmetricMaterial(2), asNew) }
	tomorrow := Start.Add(day)

	return []Fact{
		pairs(kms.KeySpecSymmetricDefault, kms.AlgorithmRSAESPKCS1V15, kms.WrappingKeySpecRSA2048),
		pairs(kms.KeySpecSymmetricDefault, kms.AlgorithmRSAAESKeyWrapSHA256, kms.WrappingKeySpecRSA4096),
		pairs(kms.KeySpecHMAC256, kms.AlgorithmRSAAESKeyWrapSHA1, kms.WrappingKeySpecRSA2048),
		pairs(kms.KeySpecRSA2048, kms.AlgorithmRSAESOAEPSHA256, kms.WrappingKeySpecRSA4096),
		pairs(kms.KeySpecECCNISTP521, kms.AlgorithmRSAESOAEPSHA256, kms.WrappingKeySpecRSA2048),
		pairs(kms.KeySpecECCNISTEdwards25519, kms.AlgorithmRSAESOAEPSHA1, kms.WrappingKeySpecRSA2048),
		{"GetParametersForImport answers with a token and a public key for 24 hours", "documented",
			func(s *scene) any {
				return &kms.GetParametersForImportInput{KeyId: s.importer(nil).key.KeyId, WrappingAlgorithm: kms.AlgorithmSM2PKE, WrappingKeySpec: kms.WrappingKeySpecSM2}
			},
			succeeds(has("", "KeyId ImportToken PublicKey ParametersValidTo"), is("KeyId", "{key}"), is("ParametersValidTo", unix(tomorrow)),
				recordsMembers("keyId wrappingAlgorithm wrappingKeySpec", ""))},
		{"GetParametersForImport of a key whose material is not imported", "observed",
			func(s *scene) any {
				return &kms.GetParametersForImportInput{KeyId: s.symmetric().KeyId, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048}
			}, refuses(kms.UnsupportedOperationException, "{symmetric} origin is AWS_KMS which is not valid for this operation.")},
		{"ImportKeyMaterial into a key whose material is not imported", "documented",
			func(s *scene) any {
				in := s.importer(nil).input(symmetricMaterial(1))
				in.KeyId = s.symmetric().KeyId
				return in
			}, refuses(kms.UnsupportedOperationException, "{symmetric} origin is AWS_KMS which is not valid for this operation.")},
		{"DeleteImportedKeyMaterial of a key whose material is not imported", "documented",
			func(s *scene) any { return &kms.DeleteImportedKeyMaterialInput{KeyId: s.symmetric().KeyId} },
			refuses(kms.UnsupportedOperationException, "{symmetric} origin is AWS_KMS which is not valid for this operation.")},

		{"a new key of Origin EXTERNAL is pending import", "observed", input(&kms.CreateKeyInput{Origin: kms.OriginExternal}),
			succeeds(has("KeyMetadata", metadata), is("KeyMetadata.KeyState", "PendingImport"), is("KeyMetadata.Enabled", false), is("KeyMetadata.Origin", "EXTERNAL"))},
		{"the metadata of a key with imported material", "observed", after(func(s *scene) { s.imported(nil, validTo(tomorrow)) }, describeKey),
			succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId ExpirationModel ValidTo"), is("KeyMetadata.ValidTo", unix(tomorrow)),
				is("KeyMetadata.ExpirationModel", "KEY_MATERIAL_EXPIRES"))},
		{"the metadata of a key with imported material that does not expire", "observed", after(func(s *scene) { s.imported(nil) }, describeKey),
			succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId ExpirationModel"), is("KeyMetadata.ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE"))},
		{"the metadata of a key whose material was deleted", "observed", after(deleted(nil, validTo(tomorrow)), describeKey),
			succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId"), is("KeyMetadata.KeyState", "PendingImport"))},
		{"the metadata of a key with staged material", "observed", after(staged, describeKey),
			succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId ExpirationModel"), is("KeyMetadata.Enabled", true))},

		{"ImportKeyMaterial answers with the key and the material", "documented", newKey(nil),
			succeeds(has("", "KeyId KeyMaterialId"), is("KeyId", "{key}"), matches("KeyMaterialId", "^[0-9a-f]{64}$"))},
		{"ImportKeyMaterial into an HMAC key answers with the key", "documented", newKey(hmac), succeeds(has("", "KeyId"), is("KeyId", "{key}"))},
		{"the event of an import", "documented", newKey(nil, validTo(tomorrow), described("from the safe")),
			succeeds(recordsMembers("keyId validTo expirationModel keyMaterialDescription", "keyId keyMaterialId"))},
		{"the event of a deletion", "inferred", after(func(s *scene) { s.imported(nil) }, aboutKey(&kms.DeleteImportedKeyMaterialInput{})),
			succeeds(recordsMembers("keyId", "keyId keyMaterialId"))},

		{"an import without ValidTo and ExpirationModel", "observed", newKey(nil, func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" }),
			refuses(kms.ValidationException, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")},
		{"an import with ValidTo that does not expire", "recorded 2026", newKey(nil, func(in *kms.ImportKeyMaterialInput) { in.ValidTo = tomorrow }),
			refuses(kms.ValidationException, "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")},
		{"an import with a ValidTo in the past", "recorded 2026", newKey(nil, validTo(Start)),
			refuses(kms.ValidationException, "ValidTo must be in the future")},
		{"an import with a ValidTo of 1970", "recorded 2026", newKey(nil, validTo(time.Unix(0, 0))),
			refuses(kms.ValidationException, "ValidTo must be in the future")},
		{"an import for more than 365 days", "documented", newKey(nil, validTo(Start.Add(365*day+time.Second))), refusesSomehow(kms.ValidationException)},
		{"an import for 365 days", "documented", newKey(nil, validTo(Start.Add(365*day))), succeeds()},

		{"symmetric material of another length", "recorded 2026", material(nil, make([]byte, 16)), refuses(kms.InvalidCiphertextException, "")},
		{"HMAC material that is too short", "recorded 2026", material(hmac, make([]byte, 31)), refuses(kms.InvalidCiphertextException, "")},
		{"HMAC material that is longer than the hash", "documented", material(hmac, make([]byte, 128)), succeeds()},
		{"HMAC material that is too long", "recorded 2026", material(hmac, make([]byte, 129)), refuses(kms.InvalidCiphertextException, "")},
		{"a spoiled blob", "recorded 2026", newKey(nil, func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial[60] ^= 1 }),
			refuses(kms.InvalidCiphertextException, "")},
		{"a spoiled token", "recorded 2026", newKey(nil, func(in *kms.ImportKeyMaterialInput) { in.ImportToken = bytes.Repeat([]byte{1}, 200) }),
			refuses(kms.InvalidImportTokenException, "")},
		{"a token of another key", "recorded 2026", func(s *scene) any {
			in := s.importer(nil).input(symmetricMaterial(1))
			in.ImportToken = s.importer(nil).ImportToken
			return in
		}, refuses(kms.InvalidImportTokenException, "")},
		{"a token after 24 hours", "documented", func(s *scene) any {
			in := s.importer(nil).input(symmetricMaterial(1))
			s.advance(day)
			return in
		}, refusesSomehow(kms.ExpiredImportTokenException)},

		{"the same material again", "documented", again(nil, 1), succeeds(has("", "KeyId KeyMaterialId"))},
		{"other material", "documented", again(nil, 2), refusesSomehow(kms.IncorrectKeyMaterialException)},
		{"other material for an HMAC key", "documented", again(hmac, 2), refusesSomehow(kms.IncorrectKeyMaterialException)},
		{"the same material as new", "recorded 2026", again(nil, 1, asNew), refusesSomehow(kms.IncorrectKeyMaterialException)},
		{"a second staged material", "observed", func(s *scene) any {
			i := s.imported(nil)
			i.must(symmetricMaterial(2), asNew)
			return i.input(symmetricMaterial(3), asNew)
		}, func(s *scene, got reply) {
			matchesText(s, got, kms.KMSInvalidStateException, "New key material (id: ", ") cannot be imported into KMS key "+s.key.Arn+", because another key material (id: ", ") is pending rotation.")
		}},
		{"staged material that has expired, as new", "recorded 2026", func(s *scene) any {
			i := s.imported(nil)
			i.must(symmetricMaterial(2), asNew, validTo(s.now().Add(time.Hour)))
			s.advance(2 * time.Hour)
			return i.input(symmetricMaterial(2), asNew)
		}, refusesSomehow(kms.IncorrectKeyMaterialException)},
		{"staged material that has expired stays in the history", "recorded 2026", after(func(s *scene) {
			i := s.imported(nil)
			i.must(symmetricMaterial(2), asNew, validTo(tomorrow))
			s.advance(2 * day)
		}, listAll), succeeds(is("Rotations.1.ImportState", "IMPORTED"), is("Rotations.1.ValidTo", unix(tomorrow)), then(describeKey, is("KeyMetadata.KeyState", "Enabled")))},
		{"the same material for a disabled key enables it", "recorded 2026", func(s *scene) any {
			i := s.imported(nil)
			disable(s, s.svc, i.key.KeyId)
			return i.input(symmetricMaterial(1))
		}, succeeds(then(describeKey, is("KeyMetadata.KeyState", "Enabled")))},

		{"DeleteImportedKeyMaterial of the current material", "documented", after(func(s *scene) { s.imported(nil) }, aboutKey(&kms.DeleteImportedKeyMaterialInput{})),
			succeeds(has("", "KeyId KeyMaterialId"), is("KeyId", "{key}"), then(describeKey, is("KeyMetadata.KeyState", "PendingImport")))},
		{"DeleteImportedKeyMaterial of a key that is pending import", "recorded 2026", after(deleted(nil), aboutKey(&kms.DeleteImportedKeyMaterialInput{})), succeeds()},
		{"DeleteImportedKeyMaterial of a key that never had material", "inferred", after(func(s *scene) { s.importer(nil) }, aboutKey(&kms.DeleteImportedKeyMaterialInput{})),
			succeeds(has("", "KeyId"))},
		{"DeleteImportedKeyMaterial of an ID that the key never had", "recorded 2026", after(func(s *scene) { s.imported(nil) },
			aboutKey(&kms.DeleteImportedKeyMaterialInput{KeyMaterialId: strings.Repeat("a", 64)})),
			refuses(kms.ValidationException, "Key material (id: "+strings.Repeat("a", 64)+") has never been imported into KMS key {key}.")},
		{"DeleteImportedKeyMaterial of a key that is pending deletion", "documented", after(func(s *scene) {
			scheduleDeletion(s, s.svc, s.imported(nil).key.KeyId, 7)
		}, aboutKey(&kms.DeleteImportedKeyMaterialInput{})), succeeds(then(describeKey, is("KeyMetadata.KeyState", "PendingDeletion")))},
		{"CancelKeyDeletion of a key without its material", "recorded 2026", after(func(s *scene) {
			i := s.imported(nil)
			scheduleDeletion(s, s.svc, i.key.KeyId, 7)
			i.delete("")
		}, aboutKey(&kms.CancelKeyDeletionInput{})), succeeds(then(describeKey, is("KeyMetadata.KeyState", "PendingImport")))},
		{"CancelKeyDeletion of a key with imported material", "documented", after(func(s *scene) {
			scheduleDeletion(s, s.svc, s.imported(nil).key.KeyId, 7)
		}, aboutKey(&kms.CancelKeyDeletionInput{})), succeeds(then(describeKey, is("KeyMetadata.KeyState", "Disabled")))},

		{"Encrypt with a key that is pending import", "observed", after(deleted(nil), aboutKey(&kms.EncryptInput{Plaintext: []byte("x")})),
			refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"GenerateMac with a key that is pending import", "recorded 2026", after(deleted(hmac), aboutKey(&kms.GenerateMacInput{Message: []byte("x"), MacAlgorithm: kms.MacAlgorithmHMACSHA256})),
			refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"GetPublicKey of a key that is pending import", "recorded 2026", after(func(s *scene) { s.importer(signing) }, aboutKey(&kms.GetPublicKeyInput{})),
			refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"EnableKey of a key that is pending import", "documented", after(deleted(nil), aboutKey(&kms.EnableKeyInput{})), refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"DisableKey of a key that is pending import", "documented", after(deleted(nil), aboutKey(&kms.DisableKeyInput{})), refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"CreateGrant for a key that is pending import", "documented", after(deleted(nil),
			aboutKey(&kms.CreateGrantInput{GranteePrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}})),
			refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"EnableKeyRotation of a key with imported material", "documented", after(func(s *scene) { s.imported(nil) }, aboutKey(&kms.EnableKeyRotationInput{})),
			refuses(kms.UnsupportedOperationException, "{key} origin is EXTERNAL which is not valid for this operation.")},
		{"GetKeyRotationStatus of a key with imported material", "recorded 2026", after(func(s *scene) { s.imported(nil) }, aboutKey(&kms.GetKeyRotationStatusInput{})),
			succeeds(has("", "KeyId KeyRotationEnabled"), is("KeyId", "{key}"), is("KeyRotationEnabled", false))},
		{"GetKeyRotationStatus of a key that is pending import", "recorded 2026", after(func(s *scene) { s.importer(nil) }, aboutKey(&kms.GetKeyRotationStatusInput{})),
			succeeds(has("", "KeyId KeyRotationEnabled"), is("KeyRotationEnabled", false))},
		{"RotateKeyOnDemand with nothing staged", "observed", after(func(s *scene) { s.imported(nil) }, aboutKey(&kms.RotateKeyOnDemandInput{})),
			refuses(kms.KMSInvalidStateException, "No available key material pending rotation for the key: {key}.")},
		{"RotateKeyOnDemand of a key that is pending import", "observed", after(func(s *scene) { s.importer(nil) }, aboutKey(&kms.RotateKeyOnDemandInput{})),
			refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"RotateKeyOnDemand to staged material", "observed", after(staged, aboutKey(&kms.RotateKeyOnDemandInput{})),
			succeeds(has("", "KeyId"), then(listAll, succeeds(is("Rotations.0.KeyMaterialState", "NON_CURRENT"), is("Rotations.1.KeyMaterialState", "CURRENT"),
				is("Rotations.1.RotationType", "ON_DEMAND"))))},
		{"RotateKeyOnDemand to staged material that has expired", "recorded 2026", after(func(s *scene) {
			s.imported(nil).must(symmetricMaterial(2), asNew, validTo(tomorrow))
			s.advance(2 * day)
		}, aboutKey(&kms.RotateKeyOnDemandInput{})), succeeds(then(describeKey, is("KeyMetadata.KeyState", "PendingImport")))},
		{"ListKeyRotations of a key with staged material", "documented", after(func(s *scene) {
			s.imported(nil, described("first"), validTo(tomorrow)).must(symmetricMaterial(2), asNew)
		}, listAll), succeeds(
			has("Rotations.0", "KeyId KeyMaterialId KeyMaterialState ImportState KeyMaterialDescription ExpirationModel ValidTo"), is("Rotations.0.KeyMaterialState", "CURRENT"),
			has("Rotations.1", "KeyId KeyMaterialId KeyMaterialState ImportState ExpirationModel"), is("Rotations.1.KeyMaterialState", "PENDING_ROTATION"))},
		{"ListKeyRotations of a key whose material was deleted", "documented", after(deleted(nil, validTo(tomorrow)), listAll),
			succeeds(has("Rotations.0", "KeyId KeyMaterialId KeyMaterialState ImportState"), is("Rotations.0.ImportState", "PENDING_IMPORT"))},
		{"ListKeyRotations of a key without material", "inferred", after(func(s *scene) { s.importer(nil) }, listAll), succeeds(is("Rotations", []any{}))},
	}
}

// aboutKey is a call with {key} as its KeyId.
func aboutKey(in any) func(*scene) any { return about("{key}", in) }

// matchesText requires a message that consists of parts, with IDs of key materials between them.
func matchesText(s *scene, got reply, code kms.ErrorCode, parts ...string) {
	s.Helper()
	refusesSomehow(code)(s, got)
	rest := got.message
	for i, part := range parts {
		if i > 0 {
			rest = rest[min(64, len(rest)):]
		}
		var ok bool
		if rest, ok = strings.CutPrefix(rest, part); !ok {
			s.Errorf("the message is %q", got.message)
		}
	}
}

// recordsMembers expects exactly these members, separated by spaces, in the call's audit event. A
// call that changes nothing has no responseElements.
func recordsMembers(request, response string) expectation {
	return inEvent(func(s *scene, event map[string]any) {
		has("requestParameters", request)(s, reply{members: event})
		if response == "" {
			is("responseElements", nil)(s, reply{members: event})
		} else {
			has("responseElements", response)(s, reply{members: event})
		}
		is("readOnly", response == "")(s, reply{members: event})
	})
}
