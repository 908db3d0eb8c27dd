package conformance

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func factsAboutGrants() []Fact {
	const valid = "Valid operations are [CreateGrant, RetireGrant, DescribeKey, "
	create := func(change func(s *scene, in *kms.CreateGrantInput)) func(*scene) any {
		return func(s *scene) any {
			in := s.example("CreateGrant").(*kms.CreateGrantInput)
			change(s, in)
			return in
		}
	}
	grantee := func(principal string) func(*scene) any {
		return create(func(_ *scene, in *kms.CreateGrantInput) { in.GranteePrincipal = principal })
	}
	operations := func(key func(s *scene) *kms.KeyMetadata, operations ...kms.GrantOperation) func(*scene) any {
		return create(func(s *scene, in *kms.CreateGrantInput) { in.KeyId, in.Operations = key(s).KeyId, operations })
	}
	mac := func(s *scene) *kms.KeyMetadata { return s.mac() }
	signing := func(s *scene) *kms.KeyMetadata { return s.signing() }
	return []Fact{
		{"an operation that a MAC key does not have", "recorded 2026", operations(mac, kms.GrantOperationEncrypt, kms.GrantOperationVerifyMac),
			refuses(kms.ValidationException, "Operations [Encrypt] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. "+valid+"GenerateMac, VerifyMac]")},
		{"an operation that a signing key does not have", "recorded 2026 and documented", operations(signing, kms.GrantOperationDecrypt),
			refuses(kms.ValidationException, "Operations [Decrypt] are not supported when creating a grant for an asymmetric KMS key with key usage SIGN_VERIFY. "+valid+"Sign, Verify, GetPublicKey]")},
		{"a grantee that is a group", "recorded 2026", grantee("arn:aws:iam::111122223333:group/g"),
			refuses(kms.InvalidArnException, "ARN does not refer to a valid principal: arn:aws:iam::111122223333:group/g")},
		{"a grantee that is a service", "documented", grantee("dynamodb.amazonaws.com"), refusesSomehow(kms.InvalidArnException)},
		{"a session that shows the path of its role", "recorded 2026", grantee("arn:aws:sts::111122223333:assumed-role/path/app/s"),
			refuses(kms.InvalidArnException, "ARN is not valid: arn:aws:sts::111122223333:assumed-role/path/app/s")},
		{"a federated user that was never issued", "recorded 2026", grantee("arn:aws:sts::111122223333:federated-user/nobody"), succeeds()},
		{"a unique ID", "recorded 2026", grantee("AROADBQP57FF2AEXAMPLE:session"), succeeds()},
		{"a new grant", "documented", create(func(*scene, *kms.CreateGrantInput) {}),
			succeeds(has("", "GrantId GrantToken"), matches("GrantId", "^[0-9a-f]{64}$"),
				hasRecorded("requestParameters", "granteePrincipal keyId operations"))},
		{"the event of a new grant has its ID and no token", "documented", create(func(*scene, *kms.CreateGrantInput) {}),
			succeeds(hasRecorded("responseElements", "grantId keyId"))},
		{"a grant with a name that exists", "documented",
			create(func(s *scene, in *kms.CreateGrantInput) {
				s.grant()
				in.Name = "n"
				s.do(in)
			}),
			func(s *scene, got reply) {
				grants := grantsOf(s, s.svc, s.symmetric().KeyId)
				require.Len(s, grants, 2, "that of the fixture, and this one once")
				named := slices.IndexFunc(grants, func(g kms.GrantListEntry) bool { return g.Name == "n" })
				succeeds(is("GrantId", grants[named].GrantId))(s, got)
			}},
		{"a grant without a name or constraints in a list", "documented",
			with((*scene).grant, about("{symmetric}", &kms.ListGrantsInput{})),
			func(s *scene, got reply) {
				succeeds(has("Grants.0", "CreationDate GrantId GranteePrincipal IssuingAccount KeyId Name Operations RetiringPrincipal"),
					is("Grants.0.Name", ""), is("Grants.0.KeyId", s.symmetric().Arn), is("Grants.0.IssuingAccount", "arn:aws:iam::111122223333:root"),
					is("Truncated", false))(s, got)
			}},
		{"a list of no grants", "documented", func(s *scene) any { return &kms.ListGrantsInput{KeyId: s.other().KeyId} },
			succeeds(has("", "Grants Truncated"), is("Grants", []any{}))},
		{"a grant ID of another form", "documented", func(s *scene) any { return &kms.RevokeGrantInput{KeyId: s.symmetric().KeyId, GrantId: "g"} },
			refusesSomehow(kms.InvalidGrantIdException)},
		{"a grant that was revoked", "documented",
			func(s *scene) any { in := s.example("RevokeGrant"); s.do(in); return in }, refusesSomehow(kms.NotFoundException)},
		{"a token in another alphabet", "documented", func(*scene) any { return &kms.RetireGrantInput{GrantToken: "é"} },
			refusesSomehow(kms.InvalidGrantTokenException)},
		{"RetireGrant with a grant ID only", "documented", func(s *scene) any { return &kms.RetireGrantInput{GrantId: s.grant().GrantId} },
			refusesSomehow(kms.ValidationException)},
		{"a grant for a disabled key", "documented",
			create(func(s *scene, _ *kms.CreateGrantInput) { disable(s, s.svc, s.symmetric().KeyId) }), refusesSomehow(kms.DisabledException)},
		{"a dry run of RetireGrant", "documented", func(s *scene) any { return withDryRun(s.example("RetireGrant")) },
			refuses(kms.DryRunOperationException, "The request would have succeeded, but the DryRun option is set.")},
		{"a retired grant", "documented", func(s *scene) any { return &kms.RetireGrantInput{GrantToken: s.grant().GrantToken} }, succeeds(has("", ""))},
	}
}
