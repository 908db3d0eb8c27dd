package conformance

import (
	"fmt"
	"time"

	"github.com/pocketkms/kms"
)

func factsAboutRotation() []Fact {
	const limit = "The on-demand rotations limit has been reached for the given keyId. " +
		"No more on-demand rotations can be performed for this key: {symmetric}"
	start := Start
	status := about("{symmetric}", &kms.GetKeyRotationStatusInput{})
	list := func(key string, include kms.IncludeKeyMaterial) func(*scene) any {
		return func(s *scene) any {
			return &kms.ListKeyRotationsInput{KeyId: s.expand(key), IncludeKeyMaterial: include}
		}
	}
	enableRotation := func(s *scene, days *int32) {
		s.do(&kms.EnableKeyRotationInput{KeyId: s.symmetric().KeyId, RotationPeriodInDays: days})
	}
	// again enables rotation, waits 10 days, and enables it again.
	again := func(first, second *int32) func(*scene) any {
		return func(s *scene) any {
			enableRotation(s, first)
			s.advance(10 * day)
			enableRotation(s, second)
			return status(s)
		}
	}
	// afterDisabling does the same, with DisableKeyRotation between the two.
	afterDisabling := func(first, second *int32) func(*scene) any {
		return func(s *scene) any {
			enableRotation(s, first)
			s.advance(10 * day)
			s.do(&kms.DisableKeyRotationInput{KeyId: s.symmetric().KeyId})
			enableRotation(s, second)
			return status(s)
		}
	}
	rotates := func(days float64, next time.Time) expectation {
		return succeeds(has("", "KeyId KeyRotationEnabled RotationPeriodInDays NextRotationDate"), is("KeyId", "{symmetric}"),
			is("KeyRotationEnabled", true), is("RotationPeriodInDays", days), is("NextRotationDate", unix(next)))
	}
	doesNotRotate := succeeds(has("", "KeyId KeyRotationEnabled"), is("KeyRotationEnabled", false))
	const later = 10 * day
	facts := []Fact{
		{"a period of 2,561 days", "documented",
			about("{symmetric}", &kms.EnableKeyRotationInput{RotationPeriodInDays: new(int32(2561))}),
			violates("Value '2561' at 'rotationPeriodInDays'", "have value less than or equal to 2560")},
		{"a period of 89 days", "documented",
			about("{symmetric}", &kms.EnableKeyRotationInput{RotationPeriodInDays: new(int32(89))}),
			violates("Value '89' at 'rotationPeriodInDays'", "have value greater than or equal to 90")},
		{"a key that does not rotate has neither period nor date", "documented", status, doesNotRotate},
		{"a period is 365 days unless given", "documented",
			func(s *scene) any { enableRotation(s, nil); return status(s) }, rotates(365, start.Add(365*day))},
		{"EnableKeyRotation again, without a period, after 90 days", "recorded 2026",
			again(new(int32(90)), nil), rotates(90, start.Add(90*day))},
		{"EnableKeyRotation again, 90 days after 90", "recorded 2026",
			again(new(int32(90)), new(int32(90))), rotates(90, start.Add(90*day))},
		{"EnableKeyRotation again, both times without a period", "recorded 2026",
			again(nil, nil), rotates(365, start.Add(365*day))},
		{"EnableKeyRotation again, 365 days after no period", "recorded 2026",
			again(nil, new(int32(365))), rotates(365, start.Add(365*day))},
		{"EnableKeyRotation again, without a period, after 2,560 days", "recorded 2026",
			again(new(int32(2560)), nil), rotates(2560, start.Add(2560*day))},
		{"EnableKeyRotation again, 91 days after 90, starts now", "recorded 2026",
			again(new(int32(90)), new(int32(91))), rotates(91, start.Add(later+91*day))},
		{"EnableKeyRotation again, 365 days after 90, starts now", "recorded 2026",
			again(new(int32(90)), new(int32(365))), rotates(365, start.Add(later+365*day))},
		{"EnableKeyRotation after DisableKeyRotation, without a period, means 365 days from now", "recorded 2026",
			afterDisabling(new(int32(90)), nil), rotates(365, start.Add(later+365*day))},
		{"EnableKeyRotation after DisableKeyRotation, with the same period, starts now", "recorded 2026",
			afterDisabling(new(int32(90)), new(int32(90))), rotates(90, start.Add(later+90*day))},
		{"EnableKeyRotation again, without a period, after a rotation", "recorded 2026",
			func(s *scene) any {
				enableRotation(s, new(int32(90)))
				s.advance(100 * day)
				enableRotation(s, nil)
				return status(s)
			}, rotates(90, start.Add(180*day))},
		{"a key that is pending deletion does not rotate", "documented",
			func(s *scene) any {
				enableRotation(s, new(int32(90)))
				scheduleDeletion(s, s.svc, s.symmetric().KeyId, 7)
				return status(s)
			}, doesNotRotate},
		{"a disabled key keeps its rotation", "documented",
			func(s *scene) any {
				enableRotation(s, new(int32(90)))
				disable(s, s.svc, s.symmetric().KeyId)
				return status(s)
			}, rotates(90, start.Add(90*day))},
		{"a new AWS managed key says that it does not rotate", "recorded 2026",
			func(s *scene) any {
				return &kms.GetKeyRotationStatusInput{KeyId: describe(s, s.svc, "alias/aws/sqs").KeyId}
			}, doesNotRotate},
		{"DisableKeyRotation is idempotent and answers with nothing", "documented",
			about("{symmetric}", &kms.DisableKeyRotationInput{}), succeeds(has("", ""))},
		{"DisableKeyRotation of an HMAC key succeeds", "recorded 2026",
			about("{mac}", &kms.DisableKeyRotationInput{}), succeeds(has("", ""))},
		{"DisableKeyRotation of an asymmetric key", "documented",
			about("{signing}", &kms.DisableKeyRotationInput{}), refusesSomehow(kms.UnsupportedOperationException)},
		{"EnableKeyRotation of an HMAC key", "documented",
			about("{mac}", &kms.EnableKeyRotationInput{}), refusesSomehow(kms.UnsupportedOperationException)},
		{"EnableKeyRotation of an asymmetric key", "documented",
			about("{signing}", &kms.EnableKeyRotationInput{}), refusesSomehow(kms.UnsupportedOperationException)},
		{"an HMAC key says that it does not rotate", "observed",
			about("{mac}", &kms.GetKeyRotationStatusInput{}), doesNotRotate},
		{"an asymmetric key says that it does not rotate", "observed",
			about("{signing}", &kms.GetKeyRotationStatusInput{}), doesNotRotate},
		{"RotateKeyOnDemand of an HMAC key", "observed",
			about("{mac}", &kms.RotateKeyOnDemandInput{}), refuses(kms.UnsupportedOperationException, "")},
		{"RotateKeyOnDemand of an asymmetric key", "observed",
			about("{signing}", &kms.RotateKeyOnDemandInput{}), refuses(kms.UnsupportedOperationException, "")},
		{"RotateKeyOnDemand of a disabled key", "observed",
			func(s *scene) any {
				disable(s, s.svc, s.symmetric().KeyId)
				return &kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId}
			}, refuses(kms.DisabledException, "{symmetric} is disabled.")},
		{"a 26th rotation on demand", "observed",
			func(s *scene) any {
				for range 25 {
					s.do(&kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId})
				}
				return &kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId}
			}, refuses(kms.LimitExceededException, limit)},
		{"RotateKeyOnDemand less than 20 minutes before a rotation", "documented",
			func(s *scene) any {
				enableRotation(s, new(int32(90)))
				s.advance(90*day - 19*time.Minute)
				return &kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId}
			}, refusesSomehow(kms.ConflictException)},
		{"RotateKeyOnDemand returns the key ARN and does not change the schedule", "documented",
			func(s *scene) any {
				enableRotation(s, new(int32(90)))
				s.advance(10 * day)
				return &kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId}
			}, succeeds(has("", "KeyId"), is("KeyId", "{symmetric}"), then(status, rotates(90, start.Add(90*day))))},
		{"the first material is no rotation", "documented", list("{symmetric}", ""),
			succeeds(has("", "Rotations Truncated"), is("Rotations", []any{}))},
		{"the first material has neither date nor type", "documented",
			list("{symmetric}", kms.IncludeKeyMaterialAllKeyMaterial),
			succeeds(has("Rotations.0", "KeyId KeyMaterialId KeyMaterialState"), is("Rotations.0.KeyMaterialState", "CURRENT"))},
		{"rotations are listed from the oldest on, with date and type", "recorded 2026",
			func(s *scene) any {
				s.do(&kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId})
				s.advance(day)
				s.do(&kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId})
				return &kms.ListKeyRotationsInput{KeyId: s.symmetric().KeyId}
			},
			succeeds(has("Rotations.0", "KeyId KeyMaterialId KeyMaterialState RotationDate RotationType"),
				is("Rotations.0.RotationDate", unix(start)),
				is("Rotations.0.RotationType", "ON_DEMAND"), is("Rotations.0.KeyMaterialState", "NON_CURRENT"),
				is("Rotations.1.RotationDate", unix(start.Add(day))), is("Rotations.1.KeyMaterialState", "CURRENT"))},
		{"a rotation names its key by its ARN though the ID was sent", "recorded 2026",
			func(s *scene) any {
				return &kms.ListKeyRotationsInput{KeyId: s.symmetric().KeyId, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial}
			}, succeeds(is("Rotations.0.KeyId", "{symmetric}"))},
		{"a rotation names its key by its ARN if that was sent", "recorded 2026",
			list("{symmetric}", kms.IncludeKeyMaterialAllKeyMaterial),
			succeeds(is("Rotations.0.KeyId", "{symmetric}"))},
		{"an HMAC key has no rotations", "documented",
			list("{mac}", ""), succeeds(has("", "Rotations Truncated"), is("Rotations", []any{}))},
		{"an asymmetric key has no rotations", "documented",
			list("{signing}", ""), succeeds(is("Rotations", []any{}))},
		{"the materials of an HMAC key", "recorded 2026", list("{mac}", kms.IncludeKeyMaterialAllKeyMaterial),
			refuses(kms.ValidationException, "Input parameter includeKeyMaterial can only be used with symmetric keys.")},
		{"the materials of an asymmetric key", "recorded 2026 for HMAC",
			list("{signing}", kms.IncludeKeyMaterialAllKeyMaterial),
			refuses(kms.ValidationException, "Input parameter includeKeyMaterial can only be used with symmetric keys.")},
	}
	for _, in := range []any{&kms.EnableKeyRotationInput{}, &kms.DisableKeyRotationInput{}, &kms.RotateKeyOnDemandInput{}} {
		name := operationOf(in).Name()
		facts = append(facts, Fact{name + " of an AWS managed key", "recorded 2026",
			func(s *scene) any {
				s.key = describe(s, s.svc, "alias/aws/sqs")
				again := operationOf(in).NewInput()
				keyMembers(again)[0].SetString(s.key.KeyId)
				return again
			},
			refuses(kms.AccessDeniedException, fmt.Sprintf("User: arn:aws:iam::111122223333:root is not authorized to perform: kms:%s "+
				"on resource: {key} because no resource-based policy allows the kms:%[1]s action", name))})
	}
	return facts
}
