package conformance

import (
	"github.com/pocketkms/kms"
)

// there makes the caller call in the Region of the replica.
func there(call func(*scene) any) func(*scene) any {
	return func(s *scene) any {
		s.caller = s.svc.In(replicaRegion)
		return call(s)
	}
}

// withDelay replaces the service by one with the default delay, where primary is {primary}.
func (s *scene) withDelay() {
	s.restart(Settings{ReplicationDelay: true})
	s.keys = map[string]*kms.KeyMetadata{"primary": createPrimary(s, s.svc)}
}

func factsAboutMultiRegionKeys() []Fact {
	const one = "You can create only one replica of each primary key in each AWS Region."
	const metadata = "AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled EncryptionAlgorithms KeyId KeyManager KeySpec " +
		"KeyState KeyUsage MultiRegion MultiRegionConfiguration Origin"
	start := Start
	to := func(region string) *kms.ReplicateKeyInput { return &kms.ReplicateKeyInput{ReplicaRegion: region} }
	describe := func(key string) func(*scene) any { return about(key, &kms.DescribeKeyInput{}) }
	schedule := func(s *scene) any {
		return &kms.ScheduleKeyDeletionInput{KeyId: s.primary().KeyId, PendingWindowInDays: new(int32(9))}
	}
	creating := func(call func(*scene) any) func(*scene) any {
		return func(s *scene) any {
			s.withDelay()
			s.do(&kms.EnableKeyRotationInput{KeyId: s.primary().KeyId, RotationPeriodInDays: new(int32(90))})
			replicate(s, s.svc, s.primary().KeyId)
			s.caller = s.svc.In(replicaRegion)
			return call(s)
		}
	}
	updating := func(region string, call func(*scene) any) func(*scene) any {
		return func(s *scene) any {
			s.withDelay()
			replicate(s, s.svc, s.primary().KeyId)
			s.advance(kms.DefaultReplicationDelay)
			s.do(&kms.UpdatePrimaryRegionInput{KeyId: s.primary().KeyId, PrimaryRegion: replicaRegion})
			s.caller = s.svc.In(region)
			return call(s)
		}
	}
	return []Fact{
		{"ReplicateKey of a replica", "recorded 2026", there(about("{replica}", to("ap-south-1"))),
			refuses(kms.UnsupportedOperationException, "{replica} is not a multi-region primary key.")},
		{"ReplicateKey of a single-Region key", "reported", about("{symmetric}", to(replicaRegion)),
			refuses(kms.UnsupportedOperationException, "{symmetric} is not a multi-region key.")},
		{"ReplicateKey to a Region with a replica", "observed", about("{primary}", to(replicaRegion)),
			refuses(kms.AlreadyExistsException, one)},
		{"ReplicateKey to a Region whose replica is pending deletion", "recorded 2026", func(s *scene) any {
			scheduleDeletion(s, s.svc.In(replicaRegion), s.primary().KeyId, 7)
			return about("{primary}", to(replicaRegion))(s)
		}, refuses(kms.AlreadyExistsException, one)},
		{"ReplicateKey to the Region of the primary", "recorded 2026", about("{lone}", to("us-east-1")),
			refuses(kms.ValidationException, "us-east-1 cannot have a replica because it contains the primary.")},
		{"ReplicateKey to another partition", "recorded 2026", about("{lone}", to("cn-north-1")),
			refuses(kms.ValidationException, "The replica key Region must be in the same AWS partition as the primary key Region.")},
		{"ReplicateKey to a Region that does not exist", "recorded 2026", about("{lone}", to("xx-nowhere-1")),
			refuses(kms.ValidationException, "Region xx-nowhere-1 is not a valid Region or multi-Region keys are not supported in Region xx-nowhere-1.")},
		{"ReplicateKey to what has not the form of a Region", "documented", about("{lone}", to("europe")),
			violates("Value 'europe' at 'replicaRegion'", `satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$`)},
		{"ReplicateKey of a disabled primary", "recorded 2026", func(s *scene) any {
			disable(s, s.svc, s.lone().KeyId)
			return about("{lone}", to(replicaRegion))(s)
		}, refuses(kms.DisabledException, "{lone} is disabled.")},
		{"ReplicateKey of a primary that is pending replica deletion", "documented", func(s *scene) any {
			s.do(schedule(s))
			return about("{primary}", to("ap-south-1"))(s)
		}, refuses(kms.KMSInvalidStateException, "{primary} is pending replica deletion.")},
		{"ReplicateKey describes a replica that is being created", "observed", func(s *scene) any {
			s.withDelay()
			return &kms.ReplicateKeyInput{KeyId: s.primary().KeyId, ReplicaRegion: replicaRegion}
		}, succeeds(
			has("", "ReplicaKeyMetadata ReplicaPolicy ReplicaTags"),
			has("ReplicaKeyMetadata", metadata), is("ReplicaKeyMetadata.KeyState", "Creating"), is("ReplicaKeyMetadata.Enabled", false),
			is("ReplicaKeyMetadata.Arn", "{replica}"), is("ReplicaTags", []any{}), matches("ReplicaPolicy", `"key-default-1"`),
			is("ReplicaKeyMetadata.MultiRegionConfiguration.MultiRegionKeyType", "REPLICA"),
			is("ReplicaKeyMetadata.MultiRegionConfiguration.PrimaryKey.Arn", "{primary}"),
			is("ReplicaKeyMetadata.MultiRegionConfiguration.ReplicaKeys.0.Arn", "{replica}"))},
		{"a replica inherits neither description nor policy nor tags", "documented", func(s *scene) any {
			s.key = createKey(s, s.svc, &kms.CreateKeyInput{MultiRegion: true, Description: "d", Tags: []kms.Tag{{TagKey: "k"}}, Policy: otherPolicy})
			return &kms.ReplicateKeyInput{KeyId: s.key.KeyId, ReplicaRegion: replicaRegion}
		}, succeeds(is("ReplicaKeyMetadata.Description", ""), is("ReplicaTags", []any{}), matches("ReplicaPolicy", `"key-default-1"`))},
		{"a replica has what the call gives it", "documented", func(s *scene) any {
			return &kms.ReplicateKeyInput{KeyId: s.lone().KeyId, ReplicaRegion: replicaRegion, Description: "d", Policy: otherPolicy,
				Tags: []kms.Tag{{TagKey: "b", TagValue: "2"}, {TagKey: "a", TagValue: "1"}}}
		}, succeeds(is("ReplicaKeyMetadata.Description", "d"), matches("ReplicaPolicy", "other"),
			is("ReplicaTags", []any{map[string]any{"TagKey": "a", "TagValue": "1"}, map[string]any{"TagKey": "b", "TagValue": "2"}}))},
		{"a replica that is being created encrypts nothing", "documented", creating(about("{replica}", &kms.EncryptInput{Plaintext: []byte("x")})),
			refuses(kms.KMSInvalidStateException, "{replica} is creating.")},
		{"a replica that is being created shows the rotation of the primary", "recorded 2026", creating(about("{replica}", &kms.GetKeyRotationStatusInput{})),
			succeeds(is("KeyId", "{replica}"), is("KeyRotationEnabled", true), is("RotationPeriodInDays", 90.0), is("NextRotationDate", unix(start.Add(90*day))))},
		{"a replica that is being created can be scheduled for deletion", "documented", creating(about("{replica}", &kms.ScheduleKeyDeletionInput{})),
			succeeds(is("KeyState", "PendingDeletion"))},
		{"a replica that is being created cannot be disabled", "documented", creating(about("{replica}", &kms.DisableKeyInput{})),
			refuses(kms.KMSInvalidStateException, "{replica} is creating.")},
		{"a replica is created after seconds", "observed", creating(func(s *scene) any {
			s.advance(kms.DefaultReplicationDelay)
			return describe("{replica}")(s)
		}), succeeds(is("KeyMetadata.KeyState", "Enabled"), is("KeyMetadata.Enabled", true), has("KeyMetadata", metadata+" CurrentKeyMaterialId"))},
		{"RotateKeyOnDemand of a replica", "recorded 2026", there(about("{replica}", &kms.RotateKeyOnDemandInput{})),
			refuses(kms.UnsupportedOperationException, "{replica} is a multi-region replica key which is not valid for RotateKeyOnDemand.")},
		{"EnableKeyRotation of a replica", "documented", there(about("{replica}", &kms.EnableKeyRotationInput{})),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"DisableKeyRotation of a replica", "documented", there(about("{replica}", &kms.DisableKeyRotationInput{})),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"a replica shows the rotation status of the primary", "recorded 2026", there(func(s *scene) any {
			s.do(&kms.EnableKeyRotationInput{KeyId: s.primary().KeyId})
			return about("{replica}", &kms.GetKeyRotationStatusInput{})(s)
		}), succeeds(is("KeyId", "{replica}"), is("KeyRotationEnabled", true), is("RotationPeriodInDays", 365.0), is("NextRotationDate", unix(start.Add(365*day))))},
		{"a replica lists the rotations of the primary", "recorded 2026", there(func(s *scene) any {
			s.do(&kms.RotateKeyOnDemandInput{KeyId: s.primary().KeyId})
			return about("{replica}", &kms.ListKeyRotationsInput{})(s)
		}), succeeds(is("Rotations.0.KeyId", "{replica}"), is("Rotations.0.RotationType", "ON_DEMAND"), is("Rotations.0.RotationDate", unix(start)),
			is("Rotations.0.KeyMaterialState", "CURRENT"))},
		{"ScheduleKeyDeletion of a primary with a replica", "documented", schedule,
			succeeds(has("", "KeyId KeyState PendingWindowInDays"), is("KeyState", "PendingReplicaDeletion"), is("PendingWindowInDays", 9.0),
				isRecorded("responseElements", `{"keyId":"{primary}","keyState":"PendingReplicaDeletion","pendingWindowInDays":9}`))},
		{"a primary that waits for its replicas has a window and no date", "documented", func(s *scene) any {
			s.do(schedule(s))
			return describe("{primary}")(s)
		}, succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId PendingDeletionWindowInDays"), is("KeyMetadata.PendingDeletionWindowInDays", 9.0))},
		{"a primary that waits for its replicas encrypts nothing", "documented", func(s *scene) any {
			s.do(schedule(s))
			return about("{primary}", &kms.EncryptInput{Plaintext: []byte("x")})(s)
		}, refuses(kms.KMSInvalidStateException, "{primary} is pending replica deletion.")},
		{"a primary that waits for its replicas still says that it rotates", "recorded 2026", func(s *scene) any {
			s.do(&kms.EnableKeyRotationInput{KeyId: s.primary().KeyId})
			s.do(schedule(s))
			return about("{primary}", &kms.GetKeyRotationStatusInput{})(s)
		}, succeeds(is("KeyRotationEnabled", true), is("RotationPeriodInDays", 365.0), is("NextRotationDate", unix(start.Add(365*day))))},
		{"PutKeyPolicy of a primary that waits for its replicas", "recorded 2026", func(s *scene) any {
			s.do(schedule(s))
			return about("{primary}", &kms.PutKeyPolicyInput{Policy: otherPolicy})(s)
		}, succeeds()},
		{"CancelKeyDeletion of a primary that waits for its replicas", "documented", func(s *scene) any {
			s.do(schedule(s))
			return about("{primary}", &kms.CancelKeyDeletionInput{})(s)
		}, succeeds(is("KeyId", "{primary}"), then(describe("{primary}"), succeeds(is("KeyMetadata.KeyState", "Disabled"), has("KeyMetadata", metadata+" CurrentKeyMaterialId"))))},
		{"the waiting period of a primary begins when its last replica has been deleted", "documented", func(s *scene) any {
			s.do(schedule(s))
			scheduleDeletion(s, s.svc.In(replicaRegion), s.primary().KeyId, 7)
			s.advance(8 * day)
			return describe("{primary}")(s)
		}, succeeds(has("KeyMetadata", metadata+" CurrentKeyMaterialId DeletionDate"), is("KeyMetadata.KeyState", "PendingDeletion"),
			is("KeyMetadata.DeletionDate", unix(start.Add(16*day))), is("KeyMetadata.MultiRegionConfiguration.ReplicaKeys", []any{}))},
		{"UpdatePrimaryRegion to a Region without a replica", "recorded 2026", func(s *scene) any {
			return &kms.UpdatePrimaryRegionInput{KeyId: s.primary().KeyId, PrimaryRegion: "ap-south-1"}
		}, func(s *scene, got reply) {
			refuses(kms.ValidationException, s.primary().KeyId+" does not have a replica key in the specified Region.")(s, got)
		}},
		{"UpdatePrimaryRegion to the Region of the primary", "inferred", about("{primary}", &kms.UpdatePrimaryRegionInput{PrimaryRegion: "us-east-1"}),
			refusesSomehow(kms.ValidationException)},
		{"UpdatePrimaryRegion of a replica", "inferred", there(about("{replica}", &kms.UpdatePrimaryRegionInput{PrimaryRegion: "us-east-1"})),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"UpdatePrimaryRegion of a single-Region key", "inferred", about("{symmetric}", &kms.UpdatePrimaryRegionInput{PrimaryRegion: replicaRegion}),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"UpdatePrimaryRegion to a disabled replica", "inferred", func(s *scene) any {
			disable(s, s.svc.In(replicaRegion), s.primary().KeyId)
			return about("{primary}", &kms.UpdatePrimaryRegionInput{PrimaryRegion: replicaRegion})(s)
		}, refuses(kms.DisabledException, "{replica} is disabled.")},
		{"UpdatePrimaryRegion answers with nothing", "documented", about("{primary}", &kms.UpdatePrimaryRegionInput{PrimaryRegion: replicaRegion}),
			succeeds(has("", ""), then(describe("{primary}"), succeeds(
				is("KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType", "REPLICA"),
				is("KeyMetadata.MultiRegionConfiguration.PrimaryKey.Arn", "{replica}"),
				is("KeyMetadata.MultiRegionConfiguration.ReplicaKeys.0.Arn", "{primary}"))))},
		{"the former primary is updating", "documented", updating("us-east-1", describe("{primary}")),
			succeeds(is("KeyMetadata.KeyState", "Updating"), is("KeyMetadata.Enabled", false))},
		{"the new primary is updating", "documented", updating(replicaRegion, describe("{replica}")),
			succeeds(is("KeyMetadata.KeyState", "Updating"))},
		{"a key that is updating encrypts", "documented", updating(replicaRegion, about("{replica}", &kms.EncryptInput{Plaintext: []byte("x")})), succeeds()},
		{"a key that is updating cannot be disabled", "documented", updating("us-east-1", about("{primary}", &kms.DisableKeyInput{})),
			refuses(kms.KMSInvalidStateException, "{primary} is updating.")},
		{"a key that is updating cannot be replicated", "documented", updating(replicaRegion, about("{replica}", to("ap-south-1"))),
			refuses(kms.KMSInvalidStateException, "{replica} is updating.")},
		{"a key that is updating cannot be deleted", "documented", updating(replicaRegion, about("{replica}", &kms.ScheduleKeyDeletionInput{})),
			refuses(kms.KMSInvalidStateException, "{replica} is updating.")},
		{"a key is updated after seconds", "documented", updating("us-east-1", func(s *scene) any {
			s.advance(kms.DefaultReplicationDelay)
			return describe("{primary}")(s)
		}), succeeds(is("KeyMetadata.KeyState", "Enabled"))},
		{"a key without replicas is a primary", "documented", describe("{lone}"),
			succeeds(is("KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType", "PRIMARY"), is("KeyMetadata.MultiRegionConfiguration.ReplicaKeys", []any{}),
				is("KeyMetadata.MultiRegionConfiguration.PrimaryKey.Region", "us-east-1"))},
	}
}

const otherPolicy = `{"Version":"2012-10-17","Id":"other","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`
