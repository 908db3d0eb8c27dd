package kms

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/keydb"
)

// A conditionKey is one condition key: which permissions supply it, and where its value comes from.
type conditionKey struct {
	// name is the name in policies. If it ends in ":" or "/", any name that begins so is meant.
	name string

	// permissions are those that supply the key, without "kms:"; empty means all.
	permissions string

	// kind says on what the value depends, and which policies see it.
	kind keyKind

	// value returns the value for a question, or the zero Value if the key is absent. rest is what
	// follows a name that is a prefix, in lower case.
	value func(q *question, rest string) iam.Value
}

type keyKind uint8

const (
	// perRequest: the value may differ from one request to the next.
	perRequest keyKind = iota
	// fixed: the value depends only on the caller, the snapshot of the key and the permission.
	fixed
	// fixedIdentity is fixed, for keys that only the policies of the caller see.
	fixedIdentity
	// perRequestIdentity is perRequest, for keys that only the policies of the caller see.
	perRequestIdentity
)

// The permissions that share condition keys.
const (
	// contextUses are those of calls with an encryption context.
	contextUses = " Encrypt Decrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext" +
		" ReEncryptFrom ReEncryptTo"
	// keyUses are those of cryptographic operations with a key.
	keyUses = contextUses + " Decapsulate DeriveSharedSecret Encapsulate GenerateMac Sign Verify VerifyMac"
	// keyPermissions are those for a key.
	keyPermissions = keyUses + " CancelKeyDeletion CreateAlias CreateGrant DeleteAlias DeleteImportedKeyMaterial DescribeKey DisableKey" +
		" DisableKeyRotation EnableKey EnableKeyRotation GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey" +
		" ImportKeyMaterial ListGrants ListKeyPolicies ListKeyRotations ListResourceTags PutKeyPolicy ReplicateKey RetireGrant RevokeGrant" +
		" RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource UpdateAlias UpdateKeyDescription UpdatePrimaryRegion"
	storePermissions = " ConnectCustomKeyStore CreateCustomKeyStore DeleteCustomKeyStore DescribeCustomKeyStores DisconnectCustomKeyStore UpdateCustomKeyStore"
	attested         = " Decrypt DeriveSharedSecret GenerateDataKey GenerateDataKeyPair GenerateRandom"
)

// conditionKeys are all condition keys. What a policy asks for and is not here is absent.
var conditionKeys = []conditionKey{
	// Who calls.
	{"kms:CallerAccount", keyPermissions + storePermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.who.Account) }},
	{"aws:PrincipalAccount", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.Account) }},
	{"aws:PrincipalArn", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.principalARN()) }},
	{"aws:PrincipalType", "", fixed, func(q *question, _ string) iam.Value { return present(principalTypes[q.who.Type]) }},
	{"aws:PrincipalTag/", "", fixed, func(q *question, tag string) iam.Value { return q.who.tag(tag) }},
	{"aws:PrincipalOrgID", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.organizationID) }},
	{"aws:PrincipalOrgPaths", "", fixed, func(q *question, _ string) iam.Value { return iam.Strings(q.who.organizationPaths) }},
	{"aws:PrincipalIsAWSService", "", fixed, func(q *question, _ string) iam.Value { return iam.Bool(q.who.Type == iam.Service) }},
	{"aws:PrincipalServiceName", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.service()) }},
	{"aws:userid", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.userID()) }},
	{"aws:username", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.userName()) }},
	{"aws:FederatedProvider", "", fixed, func(q *question, _ string) iam.Value { return present(q.who.Provider) }},

	// How the request came, and when.
	{"aws:CurrentTime", "", perRequest, func(q *question, _ string) iam.Value { return iam.Time(q.call.now) }},
	{"aws:EpochTime", "", perRequest, func(q *question, _ string) iam.Value { return iam.Int(q.call.now.Unix()) }},
	{"aws:RequestedRegion", "", fixed, func(q *question, _ string) iam.Value { return iam.String(q.region()) }},
	{"aws:SourceIp", "", perRequest, func(q *question, _ string) iam.Value { return sourceIP(q.info(), false) }},
	{"aws:VpcSourceIp", "", perRequest, func(q *question, _ string) iam.Value { return sourceIP(q.info(), true) }},
	{"aws:SourceVpc", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().VPC) }},
	{"aws:SourceVpce", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().VPCEndpoint) }},
	{"aws:UserAgent", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().UserAgent) }},
	{"aws:SecureTransport", "", perRequest, func(q *question, _ string) iam.Value { return iam.Bool(isSecure(q.info())) }},
	{"aws:MultiFactorAuthPresent", "", perRequest, func(q *question, _ string) iam.Value { return mfaPresent(q.info()) }},
	{"aws:MultiFactorAuthAge", "", perRequest, func(q *question, _ string) iam.Value { return mfaAge(q.info(), q.call.now) }},
	{"aws:TokenIssueTime", "", perRequest, func(q *question, _ string) iam.Value { return presentTime(q.info().TokenIssueTime) }},

	// The AWS services on the way.
	{"kms:ViaService", keyPermissions + " CreateKey", perRequest, func(q *question, _ string) iam.Value { return present(q.info().ViaService) }},
	{"aws:ViaAWSService", "", perRequest, func(q *question, _ string) iam.Value { return iam.Bool(q.viaService()) }},
	{"aws:CalledVia", "", perRequest, func(q *question, _ string) iam.Value { return iam.Strings(q.info().CalledVia) }},
	{"aws:CalledViaFirst", "", perRequest, func(q *question, _ string) iam.Value { return calledVia(q.info(), 0) }},
	{"aws:CalledViaLast", "", perRequest, func(q *question, _ string) iam.Value { return calledVia(q.info(), -1) }},
	{"aws:SourceArn", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().SourceARN) }},
	{"aws:SourceAccount", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().SourceAccount) }},
	{"aws:SourceOrgID", "", perRequest, func(q *question, _ string) iam.Value { return present(q.info().SourceOrgID) }},
	{"aws:SourceOrgPaths", "", perRequest, func(q *question, _ string) iam.Value { return iam.Strings(q.info().SourceOrgPaths) }},
	{"kms:GrantIsForAWSResource", "CreateGrant ListGrants RevokeGrant", perRequest, func(q *question, _ string) iam.Value { return iam.Bool(q.viaService() || q.who.Type == iam.Service) }},

	// The key: of CreateKey, the one that is to be.
	{"aws:ResourceAccount", keyPermissions, fixed, func(q *question, _ string) iam.Value { return present(q.resourceAccount()) }},
	{"aws:ResourceTag/", keyPermissions + " CreateKey", fixedIdentity, func(q *question, tag string) iam.Value { return q.resourceTag(tag) }},
	{"kms:KeySpec", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.keyRecord().Spec) }},
	{"kms:CustomerMasterKeySpec", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.keyRecord().Spec) }},
	{"kms:KeyUsage", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.keyRecord().Usage) }},
	{"kms:CustomerMasterKeyUsage", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.keyRecord().Usage) }},
	{"kms:KeyOrigin", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.keyRecord().Origin) }},
	{"kms:MultiRegion", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return iam.Bool(q.keyRecord().MultiRegion) }},
	{"kms:MultiRegionKeyType", keyPermissions + " CreateKey", fixed, func(q *question, _ string) iam.Value { return present(q.multiRegionKeyType()) }},
	{"kms:ResourceAliases", keyPermissions, perRequestIdentity, func(q *question, _ string) iam.Value { return q.resourceAliases() }},
	{"kms:RequestAlias", keyUses + " DescribeKey GetPublicKey", perRequest, func(q *question, _ string) iam.Value { return present(aliasIn(q.identifier)) }},
	{"kms:TrailingDaysWithoutKeyUsage", "DisableKey ScheduleKeyDeletion", perRequest, func(q *question, _ string) iam.Value { return q.trailingDays() }},

	// What is asked of the key.
	{"kms:EncryptionContext:", contextUses + " CreateGrant RetireGrant", perRequest, func(q *question, key string) iam.Value { return contextValue(q.encryptionContext(), key) }},
	{"kms:EncryptionContextKeys", contextUses + " CreateGrant RetireGrant", perRequest, func(q *question, _ string) iam.Value { return contextKeys(q.encryptionContext()) }},
	{"kms:EncryptionAlgorithm", contextUses, perRequest, func(q *question, _ string) iam.Value { return present(string(q.encryptionAlgorithm())) }},
	{"kms:ReEncryptOnSameKey", "ReEncryptFrom ReEncryptTo", perRequest, func(q *question, _ string) iam.Value { return q.reEncryptOnSameKey() }},
	{"kms:DataKeyPairSpec", "GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext", perRequest, member("KeyPairSpec", "")},
	{"kms:SigningAlgorithm", "Sign Verify", perRequest, member("SigningAlgorithm", "")},
	{"kms:MessageType", "Sign Verify", perRequest, member("MessageType", string(MessageTypeRaw))},
	{"kms:MacAlgorithm", "GenerateMac VerifyMac", perRequest, member("MacAlgorithm", "")},
	{"kms:KeyAgreementAlgorithm", "DeriveSharedSecret", perRequest, member("KeyAgreementAlgorithm", "")},
	{"kms:RotationPeriodInDays", "EnableKeyRotation", perRequest, days("RotationPeriodInDays", defaultRotationDays)},
	{"kms:ScheduleKeyDeletionPendingWindowInDays", "ScheduleKeyDeletion", perRequest, days("PendingWindowInDays", defaultDeletionDays)},
	{"kms:WrappingAlgorithm", "GetParametersForImport", perRequest, member("WrappingAlgorithm", "")},
	{"kms:WrappingKeySpec", "GetParametersForImport", perRequest, member("WrappingKeySpec", "")},
	{"kms:ExpirationModel", "ImportKeyMaterial", perRequest, member("ExpirationModel", "")},
	{"kms:ValidTo", "ImportKeyMaterial", perRequest, func(q *question, _ string) iam.Value { return presentTime(input[time.Time](q, "ValidTo")) }},
	{"kms:PrimaryRegion", "UpdatePrimaryRegion", perRequest, member("PrimaryRegion", "")},
	{"kms:ReplicaRegion", "ReplicateKey", perRequest, member("ReplicaRegion", "")},
	{"kms:BypassPolicyLockoutSafetyCheck", "CreateKey PutKeyPolicy ReplicateKey", perRequest, func(q *question, _ string) iam.Value {
		bypass := input[bool](q, "BypassPolicyLockoutSafetyCheck")
		if !bypass && !q.call.wire.IsEmpty("bypassPolicyLockoutSafetyCheck") { // a Go caller cannot send false
			return iam.Value{}
		}
		return iam.Bool(bypass)
	}},
	{"aws:RequestTag/", "CreateKey ReplicateKey TagResource", perRequest, func(q *question, tag string) iam.Value { return q.requestTag(tag) }},
	{"aws:TagKeys", "CreateKey ReplicateKey TagResource UntagResource", perRequest, func(q *question, _ string) iam.Value { return q.tagKeys() }},

	// The grant that is to be.
	{"kms:GranteePrincipal", "CreateGrant", perRequest, member("GranteePrincipal", "")},
	{"kms:GranteeServicePrincipal", "CreateGrant", perRequest, member("GranteeServicePrincipal", "")},
	{"kms:RetiringPrincipal", "CreateGrant", perRequest, member("RetiringPrincipal", "")},
	{"kms:RetiringServicePrincipal", "CreateGrant", perRequest, member("RetiringServicePrincipal", "")},
	{"kms:GrantOperations", "CreateGrant", perRequest, func(q *question, _ string) iam.Value {
		return iam.Strings(storedOperations(input[[]GrantOperation](q, "Operations")))
	}},
	{"kms:GrantConstraintType", "CreateGrant RetireGrant", perRequest, func(q *question, _ string) iam.Value { return q.grantConstraintType() }},
	{"kms:GrantConstraintSourceArn", "CreateGrant", perRequest, func(q *question, _ string) iam.Value {
		if in, ok := q.call.input.(*CreateGrantInput); ok && in.Constraints != nil {
			return present(in.Constraints.SourceArn)
		}
		return iam.Value{}
	}},

	// The attestation document of a Recipient: no document is accepted, so that these are absent.
	{"kms:RecipientAttestation:ImageSha384", attested, fixed, func(*question, string) iam.Value { return iam.Value{} }},
	{"kms:RecipientAttestation:", attested, fixed, func(*question, string) iam.Value { return iam.Value{} }},
}

// A foundKey is a conditionKey as Lookup needs it.
type foundKey struct {
	*conditionKey
	permissions map[string]bool // nil: all
}

var conditionKeyIndex = indexConditionKeys()

func indexConditionKeys() map[string]foundKey {
	index := make(map[string]foundKey, len(conditionKeys))
	for i := range conditionKeys {
		f := foundKey{conditionKey: &conditionKeys[i]}
		if f.conditionKey.permissions != "" {
			f.permissions = map[string]bool{}
			for _, name := range strings.Fields(f.conditionKey.permissions) {
				f.permissions["kms:"+name] = true
			}
		}
		index[strings.ToLower(f.name)] = f
	}
	return index
}

// findConditionKey returns the condition key of a name in lower case, and what follows if that is a
// prefix.
func findConditionKey(name string) (f foundKey, rest string, ok bool) {
	if f, ok = conditionKeyIndex[name]; ok && !strings.HasSuffix(name, ":") && !strings.HasSuffix(name, "/") {
		return f, "", true
	}
	end := strings.IndexByte(name, '/')
	if service, _, _ := strings.Cut(name, ":"); service == "kms" {
		end = strings.IndexByte(name[len("kms:"):], ':')
		if end >= 0 {
			end += len("kms:")
		}
	}
	f, ok = conditionKeyIndex[name[:end+1]]
	return f, name[end+1:], ok && name[end+1:] != ""
}

// Lookup returns the value of a condition key. It makes a question the context of policies.
func (q *question) Lookup(key string) iam.Value {
	f, rest, ok := findConditionKey(key)
	if !ok || f.permissions != nil && !f.permissions[q.permission] {
		return iam.Value{}
	}
	switch {
	case (f.kind == fixedIdentity || f.kind == perRequestIdentity) && !q.own:
		return iam.Value{}
	case f.kind == perRequest || f.kind == perRequestIdentity:
		q.asked = true
	}
	return f.value(q, rest)
}

// present returns a text, or nothing if it is empty.
func present(text string) iam.Value {
	if text == "" {
		return iam.Value{}
	}
	return iam.String(text)
}

func presentTime(t time.Time) iam.Value {
	if t.IsZero() {
		return iam.Value{}
	}
	return iam.Time(t)
}

func (q *question) info() *audit.RequestInfo { return q.call.requestInfo() }

// viaService reports whether an AWS service calls with the permissions of the caller.
func (q *question) viaService() bool {
	info := q.info()
	return info.ViaService != "" || len(info.CalledVia) > 0
}

func calledVia(info *audit.RequestInfo, i int) iam.Value {
	if len(info.CalledVia) == 0 {
		return iam.Value{}
	}
	if i < 0 {
		i = len(info.CalledVia) - 1
	}
	return iam.String(info.CalledVia[i])
}

// sourceIP returns where the request came from, if that is an address in a VPC or not.
func sourceIP(info *audit.RequestInfo, inVPC bool) iam.Value {
	if (info.VPCEndpoint != "") != inVPC {
		return iam.Value{}
	}
	a, err := netip.ParseAddr(info.SourceIPAddress)
	if err != nil { // AWSInternal
		return iam.Value{}
	}
	return iam.IP(a.Unmap().WithZone(""))
}

func isSecure(info *audit.RequestInfo) bool {
	if info.SecureTransport != nil {
		return *info.SecureTransport
	}
	return info.TLS != nil || info.SourceIPAddress == ""
}

func mfaPresent(info *audit.RequestInfo) iam.Value {
	switch {
	case info.MFAPresent != nil:
		return iam.Bool(*info.MFAPresent)
	case !info.MFATime.IsZero():
		return iam.Bool(true)
	}
	return iam.Value{}
}

func mfaAge(info *audit.RequestInfo, now time.Time) iam.Value {
	if info.MFATime.IsZero() || info.MFAPresent != nil && !*info.MFAPresent {
		return iam.Value{}
	}
	return iam.Int(int64(now.Sub(info.MFATime) / time.Second))
}

// principalTypes are the values of aws:PrincipalType. Services have none.
var principalTypes = map[iam.PrincipalType]string{
	iam.AccountRoot: "Account", iam.User: "User", iam.Role: "AssumedRole", iam.RoleSession: "AssumedRole", iam.FederatedUser: "FederatedUser",
}

// principalARN returns the ARN of the principal; of a role session, that of the role.
func (id *identity) principalARN() string {
	switch id.Type {
	case iam.RoleSession:
		return id.Issuer
	case iam.Service:
		return ""
	}
	return id.ARN
}

func (id *identity) service() string {
	if id.Type == iam.Service {
		return id.ARN
	}
	return ""
}

func (id *identity) userName() string {
	if id.Type == iam.User {
		return nameOf(id.ARN)
	}
	return ""
}

func (id *identity) userID() string {
	switch {
	case id.ID != "":
		return id.ID
	case id.Type == iam.AccountRoot:
		return id.Account
	case id.Type == iam.FederatedUser:
		return id.Account + ":" + nameOf(id.ARN)
	}
	return ""
}

// tag returns the value of a tag of the principal. The case of tag keys does not matter.
func (id *identity) tag(key string) iam.Value {
	for _, t := range id.tags {
		if sameKey(t.key, key) {
			return iam.String(t.value)
		}
	}
	return iam.Value{}
}

// spellings are the values of names that differ only in case: policies do not distinguish them, and
// encryption contexts and tags do.
type spellings struct {
	first  string
	found  bool
	others []string // that are not first
}

func (s *spellings) add(value string) {
	switch {
	case !s.found:
		s.first, s.found = value, true
	case value != s.first:
		s.others = append(s.others, value)
	}
}

func (s *spellings) value() iam.Value {
	switch {
	case !s.found:
		return iam.Value{}
	case s.others == nil:
		return iam.String(s.first)
	}
	return iam.Ambiguous(append(s.others, s.first)...)
}

// lowerKey returns a condition key with the letters A to Z in lower case. Policies distinguish the
// case of all others.
func lowerKey(key string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, key)
}

// sameKey reports whether a name is the same as one of which policies have the letters A to Z in
// lower case.
func sameKey(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// region returns the Region in which the question arises: that of the key or, for a replica that is
// to be, that of the replica.
func (q *question) region() string {
	if q.key != nil {
		return q.key.Region
	}
	if in, ok := q.call.input.(*ReplicateKeyInput); ok {
		return in.ReplicaRegion
	}
	return q.call.svc.region
}

// resourceAccount returns the account of the key. Aliases and keys that are to be are in the
// caller's.
func (q *question) resourceAccount() string {
	if q.key == nil {
		return q.who.Account
	}
	return q.key.Account
}

// keyRecord returns the properties of the key. Those of CreateKey are what the caller asks for,
// with defaults.
func (q *question) keyRecord() (r keydb.Record) {
	if q.key != nil {
		return *q.key.Record
	}
	q.asked = true
	return q.recordToBe()
}

// recordToBe returns the properties of the key that the call creates.
func (q *question) recordToBe() keydb.Record {
	if _, ok := q.call.input.(*ReplicateKeyInput); ok {
		return *q.call.key().Record
	}
	in, ok := q.call.input.(*CreateKeyInput)
	if !ok {
		return keydb.Record{}
	}
	usage := in.KeyUsage
	if in.spec() == KeySpecSymmetricDefault {
		usage = orDefault(usage, KeyUsageEncryptDecrypt)
	}
	return keydb.Record{
		Spec: string(in.spec()), Usage: string(usage), Origin: string(orDefault(in.Origin, OriginAWSKMS)), MultiRegion: in.MultiRegion,
		Manager: string(KeyManagerCustomer), Created: q.call.now, Tags: storedTags(in.Tags),
	}
}

func (q *question) multiRegionKeyType() string {
	switch {
	case !q.keyRecord().MultiRegion:
		return ""
	case q.key != nil && !q.key.IsReplica(), q.call.op.name == "CreateKey":
		return string(MultiRegionKeyTypePrimary)
	}
	return string(MultiRegionKeyTypeReplica)
}

func (q *question) resourceTag(key string) iam.Value {
	if q.key == nil {
		return q.requestTag(key) // CreateKey
	}
	var found spellings
	for _, t := range q.key.Record.Tags {
		if sameKey(t.Key, key) {
			found.add(t.Value)
		}
	}
	return found.value()
}

// resourceAliases returns the names of the aliases of the key. If there are more than the key can
// have, it has none: what depends on them is refused.
func (q *question) resourceAliases() iam.Value {
	if q.key == nil {
		return iam.Value{}
	}
	limit := q.call.svc.core.config.Limits.AliasesPerKey
	var names []string
	for a, err := range q.call.svc.core.db.AliasesOf(q.call.ctx, q.key.Ref, "", limit+1, q.call.now) {
		if err != nil {
			q.err = err
			return iam.Value{}
		}
		if names = append(names, a.Name); len(names) > limit {
			return iam.Value{}
		}
	}
	return iam.Strings(names)
}

// aliasIn returns the name of the alias that a KeyId is, or whose ARN it is; empty if it is
// another.
func aliasIn(identifier string) string {
	id, err := parseKeyIdentifier(identifier)
	if err != nil {
		return ""
	}
	return id.alias
}

// trailingDays returns the days since the key was used, or since it was created.
func (q *question) trailingDays() iam.Value {
	if q.key == nil || !q.key.Stored() {
		return iam.Value{}
	}
	use, err := q.call.svc.core.db.LastUse(q.call.ctx, q.key)
	if err != nil {
		q.err = err
		return iam.Value{}
	}
	since := use.Time
	if since.IsZero() {
		since = q.key.Record.Created
	}
	return iam.Int(int64(max(q.call.now.Sub(since), 0) / (24 * time.Hour)))
}

// usesContext reports whether the calls of a permission have an encryption context, which grants
// may require.
func usesContext(permission string) bool {
	switch permission {
	case "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateDataKeyPair",
		"kms:GenerateDataKeyPairWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo":
		return true
	}
	return false
}

// encryptionContext returns the encryption context of the call, or that of the constraints of the
// grant that it creates or retires.
func (q *question) encryptionContext() map[string]string {
	switch in := q.call.input.(type) {
	case *EncryptInput:
		return in.EncryptionContext
	case *DecryptInput:
		return in.EncryptionContext
	case *GenerateDataKeyInput:
		return in.EncryptionContext
	case *GenerateDataKeyWithoutPlaintextInput:
		return in.EncryptionContext
	case *GenerateDataKeyPairInput:
		return in.EncryptionContext
	case *GenerateDataKeyPairWithoutPlaintextInput:
		return in.EncryptionContext
	case *ReEncryptInput:
		if q.permission == "kms:ReEncryptTo" {
			return in.DestinationEncryptionContext
		}
		return in.SourceEncryptionContext
	case *CreateGrantInput:
		return in.Constraints.context()
	case *RetireGrantInput:
		if q.grant != nil {
			return q.grant.ContextConstraint()
		}
	}
	return nil
}

// contextValue returns the value of a key of an encryption context; key is in lower case.
func contextValue(context map[string]string, key string) iam.Value {
	var found spellings
	for name, value := range context {
		if sameKey(name, key) {
			found.add(value)
		}
	}
	return found.value()
}

// contextKeys returns the keys of an encryption context, sorted, so that explanations are the same
// each time.
func contextKeys(context map[string]string) iam.Value {
	keys := make([]string, 0, len(context))
	for name := range context {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	return iam.Strings(keys)
}

func (q *question) encryptionAlgorithm() EncryptionAlgorithmSpec {
	var algorithm EncryptionAlgorithmSpec
	switch in := q.call.input.(type) {
	case *EncryptInput:
		algorithm = in.EncryptionAlgorithm
	case *DecryptInput:
		algorithm = in.EncryptionAlgorithm
	case *ReEncryptInput:
		algorithm = in.SourceEncryptionAlgorithm
		if q.permission == "kms:ReEncryptTo" {
			algorithm = in.DestinationEncryptionAlgorithm
		}
	}
	return orDefault(algorithm, EncryptionAlgorithmSymmetricDefault)
}

// reEncryptOnSameKey reports whether the destination key is the source key. The source is
// authorized before the destination is known if it may not be disclosed. A destination that does
// not exist fails the call later; one that cannot be read might be the source, so that it refuses
// the call now.
func (q *question) reEncryptOnSameKey() iam.Value {
	in, ok := q.call.input.(*ReEncryptInput)
	if !ok {
		return iam.Value{}
	}
	if q.call.count == len(q.call.targets) {
		return iam.Bool(q.call.targets[0].key.Ref == q.call.targets[1].key.Ref)
	}
	to, err := q.call.resolve(in.DestinationKeyId, "kms:ReEncryptTo", true)
	if _, ours := err.(*Error); err != nil && !ours {
		q.err = err
	}
	return iam.Bool(err == nil && to.Ref == q.key.Ref)
}

// requestTag returns the value of a tag that the call sets.
func (q *question) requestTag(key string) iam.Value {
	var found spellings
	for _, t := range input[[]Tag](q, "Tags") {
		if sameKey(t.TagKey, key) {
			found.add(t.TagValue)
		}
	}
	return found.value()
}

func (q *question) tagKeys() iam.Value {
	keys := append([]string(nil), input[[]string](q, "TagKeys")...)
	for _, t := range input[[]Tag](q, "Tags") {
		keys = append(keys, t.TagKey)
	}
	return iam.Strings(keys)
}

func (q *question) grantConstraintType() iam.Value {
	equals, subset := 0, 0
	switch in := q.call.input.(type) {
	case *CreateGrantInput:
		if in.Constraints != nil {
			equals, subset = len(in.Constraints.EncryptionContextEquals), len(in.Constraints.EncryptionContextSubset)
		}
	case *RetireGrantInput:
		if q.grant != nil {
			equals, subset = len(q.grant.ContextEquals), len(q.grant.ContextSubset)
		}
	}
	switch {
	case equals > 0:
		return iam.String("EncryptionContextEquals")
	case subset > 0:
		return iam.String("EncryptionContextSubset")
	}
	return iam.Value{}
}

// context returns the encryption context that the constraints require.
func (g *GrantConstraints) context() map[string]string {
	switch {
	case g == nil:
		return nil
	case len(g.EncryptionContextEquals) > 0:
		return g.EncryptionContextEquals
	}
	return g.EncryptionContextSubset
}

// member returns the function that reads a text of the input, which has a default.
func member(name, otherwise string) func(*question, string) iam.Value {
	return func(q *question, _ string) iam.Value {
		v, ok := memberOf(q.call.input, name)
		if !ok || v.Kind() != reflect.String {
			return iam.Value{}
		}
		if v.Len() == 0 {
			return present(otherwise)
		}
		return iam.String(v.String())
	}
}

// days returns the function that reads a number of days of the input, which has a default.
func days(name string, otherwise int32) func(*question, string) iam.Value {
	return func(q *question, _ string) iam.Value {
		if n := input[*int32](q, name); n != nil {
			return iam.Int(int64(*n))
		}
		return iam.Int(int64(otherwise))
	}
}

// input returns a member of the input, or zero if it has none of that name and type.
func input[T any](q *question, name string) (value T) {
	if v, ok := memberOf(q.call.input, name); ok {
		value, _ = v.Interface().(T)
	}
	return value
}

// memberOf returns a member of a pointer to a struct.
func memberOf(in any, name string) (reflect.Value, bool) {
	v := reflect.ValueOf(in)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	v = v.Elem().FieldByName(name)
	return v, v.IsValid()
}
