package conformance

import (
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// related creates {key} with imported material, and a replica without.
func (s *scene) related(change ...func(*kms.ImportKeyMaterialInput)) (primary, replica *importer) {
	primary = s.imported(&kms.CreateKeyInput{MultiRegion: true}, change...)
	s.replicate(s.key.KeyId)
	return primary, primary.in(replicaRegion)
}

// staged is related with the same material in both keys, and new one that is staged in the primary.
func (s *scene) staged() (primary, replica *importer, id string) {
	primary, replica = s.related()
	replica.must(symmetricMaterial(1))
	return primary, replica, primary.must(symmetricMaterial(2), asNew)
}

func factsAboutImportedMultiRegionKeys() []Fact {
	const refusal = "Cannot perform key material rotation: Key material has not been imported for replicas of the Multi-Region key."
	const awaits, pending = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION", "PENDING_ROTATION"
	metadata := "AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled KeyId KeyManager KeySpec KeyState KeyUsage MultiRegion " +
		"MultiRegionConfiguration Origin EncryptionAlgorithms"
	tomorrow := Start.Add(day)
	ofPrimary := func(in any) func(*scene) any {
		return func(s *scene) any { s.caller = s.svc; return aboutKey(in)(s) }
	}
	describeKey, rotate := ofPrimary(&kms.DescribeKeyInput{}), ofPrimary(&kms.RotateKeyOnDemandInput{})
	listAll := ofPrimary(&kms.ListKeyRotationsInput{IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	ofReplica := func(s *scene, in any) any {
		s.caller = s.svc.In(replicaRegion)
		return about("{keyReplica}", in)(s)
	}
	listOfReplica := func(s *scene) any {
		return ofReplica(s, &kms.ListKeyRotationsInput{IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	}
	creating := func(s *scene) any {
		s.restart(Settings{ReplicationDelay: true})
		s.imported(&kms.CreateKeyInput{MultiRegion: true}, validTo(tomorrow))
		replicate(s, s.svc, s.key.KeyId)
		return ofReplica(s, &kms.DescribeKeyInput{})
	}
	state := func(path, state, importState string) expectation {
		return func(s *scene, got reply) {
			s.Helper()
			is("Rotations."+path+".KeyMaterialState", state)(s, got)
			is("Rotations."+path+".ImportState", importState)(s, got)
		}
	}
	return []Fact{
		{"ReplicateKey of a primary without material", "recorded 2026", func(s *scene) any {
			i := s.importer(&kms.CreateKeyInput{MultiRegion: true})
			return &kms.ReplicateKeyInput{KeyId: i.key.KeyId, ReplicaRegion: replicaRegion}
		}, refuses(kms.KMSInvalidStateException, "{key} is pending import.")},
		{"a replica that is being created shows the expiration of the primary", "recorded 2026", creating,
			succeeds(has("KeyMetadata", metadata+" ExpirationModel ValidTo"), is("KeyMetadata.KeyState", "Creating"), is("KeyMetadata.ExpirationModel", "KEY_MATERIAL_EXPIRES"))},
		{"a replica without material shows the ID of the primary's", "recorded 2026", func(s *scene) any {
			s.related(validTo(tomorrow))
			return ofReplica(s, &kms.DescribeKeyInput{})
		}, func(s *scene, got reply) {
			succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId"), is("KeyMetadata.KeyState", "PendingImport"),
				is("KeyMetadata.CurrentKeyMaterialId", describe(s, s.svc, s.key.KeyId).CurrentKeyMaterialId))(s, got)
		}},
		{"a replica takes the material of the primary", "documented", func(s *scene) any {
			_, replica := s.related()
			s.caller = replica.svc
			return replica.input(symmetricMaterial(1))
		}, succeeds(is("KeyId", "{keyReplica}"), then(describeKey, succeeds(is("KeyMetadata.Enabled", true))))},
		{"a replica takes no other material", "documented", func(s *scene) any {
			_, replica := s.related()
			s.caller = replica.svc
			return replica.input(symmetricMaterial(2))
		}, refusesSomehow(kms.IncorrectKeyMaterialException)},
		{"new material is not imported into a replica", "documented", func(s *scene) any {
			_, replica, _ := s.staged()
			s.caller = replica.svc
			return replica.input(symmetricMaterial(3), asNew)
		}, refusesSomehow(kms.UnsupportedOperationException)},
		{"the material of a replica that does not expire", "documented", func(s *scene) any {
			_, replica := s.related(validTo(tomorrow))
			replica.must(symmetricMaterial(1))
			return ofReplica(s, &kms.DescribeKeyInput{})
		}, succeeds(is("KeyMetadata.ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE"), then(describeKey, succeeds(is("KeyMetadata.ExpirationModel", "KEY_MATERIAL_EXPIRES"))))},
		{"new material awaits its import into the replicas", "documented", func(s *scene) any { s.staged(); return listAll(s) },
			succeeds(state("0", "CURRENT", "IMPORTED"), state("1", awaits, "IMPORTED"))},
		{"a replica shows new material that it lacks", "documented", func(s *scene) any { s.staged(); return listOfReplica(s) },
			succeeds(is("Rotations.1.KeyId", "{keyReplica}"), state("1", awaits, "PENDING_IMPORT"))},
		{"new material with its description is known to the replicas", "documented", func(s *scene) any {
			primary, replica := s.related()
			replica.must(symmetricMaterial(1))
			primary.must(symmetricMaterial(2), asNew, described("second"))
			return listOfReplica(s)
		}, succeeds(is("Rotations.1.KeyMaterialDescription", "second"))},
		{"material that all keys have is pending rotation", "documented", func(s *scene) any {
			_, replica, _ := s.staged()
			replica.must(symmetricMaterial(2), asExisting)
			return listAll(s)
		}, succeeds(state("1", pending, "IMPORTED"), then(listOfReplica, succeeds(state("1", pending, "IMPORTED"))))},
		{"RotateKeyOnDemand while a replica lacks the new material", "recorded 2026", func(s *scene) any { s.staged(); return rotate(s) },
			refuses(kms.KMSInvalidStateException, refusal)},
		{"RotateKeyOnDemand without new material", "observed", func(s *scene) any { s.related(); return rotate(s) },
			refuses(kms.KMSInvalidStateException, "No available key material pending rotation for the key: {key}.")},
		{"RotateKeyOnDemand of a replica whose material is imported", "recorded 2026", func(s *scene) any {
			_, replica := s.related()
			replica.must(symmetricMaterial(1))
			return ofReplica(s, &kms.RotateKeyOnDemandInput{})
		}, refuses(kms.UnsupportedOperationException, "{keyReplica} is a multi-region replica key which is not valid for RotateKeyOnDemand.")},
		{"RotateKeyOnDemand once all keys have the new material", "documented", func(s *scene) any {
			_, replica, _ := s.staged()
			replica.must(symmetricMaterial(2))
			return rotate(s)
		}, succeeds(then(listOfReplica, succeeds(state("0", "NON_CURRENT", "IMPORTED"), state("1", "CURRENT", "IMPORTED"))))},
		{"an older material that a replica lacks does not matter", "recorded 2026", func(s *scene) any {
			_, replica, _ := s.staged()
			replica.must(symmetricMaterial(2))
			replica.delete(replica.key.CurrentKeyMaterialId)
			return rotate(s)
		}, succeeds(then(listOfReplica, succeeds(state("0", "NON_CURRENT", "PENDING_IMPORT"), state("1", "CURRENT", "IMPORTED"))))},
		{"deleting the new material of a replica", "recorded 2026", func(s *scene) any {
			_, replica, id := s.staged()
			replica.must(symmetricMaterial(2))
			s.caller = replica.svc
			return &kms.DeleteImportedKeyMaterialInput{KeyId: replica.key.KeyId, KeyMaterialId: id}
		}, succeeds(then(listAll, succeeds(state("1", awaits, "IMPORTED"))), then(listOfReplica, succeeds(state("1", awaits, "PENDING_IMPORT"))),
			func(s *scene, _ reply) {
				s.Helper()
				(&importer{s: s, svc: s.svc, key: s.key}).in(replicaRegion).must(symmetricMaterial(2))
			})},
		{"deleting the new material of the primary deletes that of the replicas", "documented", func(s *scene) any {
			_, replica, id := s.staged()
			replica.must(symmetricMaterial(2))
			return &kms.DeleteImportedKeyMaterialInput{KeyId: s.key.KeyId, KeyMaterialId: id}
		}, succeeds(then(listOfReplica, func(s *scene, got reply) {
			require.Len(s, got.members["Rotations"], 1)
		}))},
		{"deleting the material of one key does not concern the others", "documented", func(s *scene) any {
			primary, replica := s.related()
			replica.must(symmetricMaterial(1))
			primary.delete("")
			return ofReplica(s, &kms.EncryptInput{Plaintext: []byte("x")})
		}, succeeds(then(describeKey, succeeds(is("KeyMetadata.KeyState", "PendingImport"))))},
		{"UpdatePrimaryRegion to a replica without material", "inferred", func(s *scene) any {
			s.related()
			return &kms.UpdatePrimaryRegionInput{KeyId: s.key.KeyId, PrimaryRegion: replicaRegion}
		}, refuses(kms.KMSInvalidStateException, "{keyReplica} is pending import.")},
	}
}
