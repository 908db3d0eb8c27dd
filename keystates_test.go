package kms_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// A response is the result of an operation on a key in some state.
type response struct {
	code kms.ErrorCode
	text string // after the key's ARN
}

var (
	proceeds     = response{}
	isDisabled   = response{kms.DisabledException, " is disabled."}
	isPending    = response{kms.KMSInvalidStateException, " is pending deletion."}
	isNotPending = response{kms.KMSInvalidStateException, " is not pending deletion."}

	isReplicaPending = response{kms.KMSInvalidStateException, " is pending replica deletion."}
)

// stateTable is the table of key states in the AWS KMS Developer Guide, for the states that this
// service has.
var stateTable = []struct {
	operation                          string
	enabled, disabled, pendingDeletion response
}{
	{"CancelKeyDeletion", isNotPending, isNotPending, proceeds},
	{"CreateAlias", proceeds, proceeds, isPending},
	{"CreateGrant", proceeds, isDisabled, isPending},
	{"Decapsulate", proceeds, isDisabled, isPending},
	{"Decrypt", proceeds, isDisabled, isPending},
	{"DeleteAlias", proceeds, proceeds, proceeds},
	{"DeleteImportedKeyMaterial", proceeds, proceeds, proceeds},
	{"DeriveSharedSecret", proceeds, isDisabled, isPending},
	{"DescribeKey", proceeds, proceeds, proceeds},
	{"DisableKey", proceeds, proceeds, isPending},
	{"DisableKeyRotation", proceeds, isDisabled, isPending},
	{"EnableKey", proceeds, proceeds, isPending},
	{"EnableKeyRotation", proceeds, isDisabled, isPending},
	{"Encapsulate", proceeds, isDisabled, isPending},
	{"Encrypt", proceeds, isDisabled, isPending},
	{"GenerateDataKey", proceeds, isDisabled, isPending},
	{"GenerateDataKeyPair", proceeds, isDisabled, isPending},
	{"GenerateDataKeyPairWithoutPlaintext", proceeds, isDisabled, isPending},
	{"GenerateDataKeyWithoutPlaintext", proceeds, isDisabled, isPending},
	{"GenerateMac", proceeds, isDisabled, isPending},
	{"GetKeyLastUsage", proceeds, proceeds, proceeds},
	{"GetKeyPolicy", proceeds, proceeds, proceeds},
	{"GetKeyRotationStatus", proceeds, proceeds, proceeds},
	{"GetParametersForImport", proceeds, proceeds, isPending},
	{"GetPublicKey", proceeds, proceeds, isPending},
	{"ImportKeyMaterial", proceeds, proceeds, isPending},
	{"ListAliases", proceeds, proceeds, proceeds},
	{"ListGrants", proceeds, proceeds, proceeds},
	{"ListKeyPolicies", proceeds, proceeds, proceeds},
	{"ListKeyRotations", proceeds, proceeds, proceeds},
	{"ListResourceTags", proceeds, proceeds, proceeds},
	{"PutKeyPolicy", proceeds, proceeds, proceeds},
	{"ReEncrypt", proceeds, isDisabled, isPending},
	{"ReplicateKey", proceeds, isDisabled, isPending},
	{"RetireGrant", proceeds, proceeds, proceeds},
	{"RevokeGrant", proceeds, proceeds, proceeds},
	{"RotateKeyOnDemand", proceeds, isDisabled, isPending},
	{"ScheduleKeyDeletion", proceeds, proceeds, isPending},
	{"Sign", proceeds, isDisabled, isPending},
	{"TagResource", proceeds, proceeds, isPending},
	{"UntagResource", proceeds, proceeds, isPending},
	{"UpdateAlias", proceeds, proceeds, proceeds}, // the key that the alias leaves
	{"UpdateKeyDescription", proceeds, proceeds, isPending},
	{"UpdatePrimaryRegion", proceeds, isDisabled, isReplicaPending}, // it has a replica
	{"Verify", proceeds, isDisabled, isPending},
	{"VerifyMac", proceeds, isDisabled, isPending},
}

// secondKeyTable is the same for the second key of operations that have two.
var secondKeyTable = []struct {
	operation                          string
	enabled, disabled, pendingDeletion response
}{
	{"ReEncrypt", proceeds, isDisabled, isPending},
	{"UpdateAlias", proceeds, proceeds, isPending},
}

func TestOperationsFollowTheTableOfKeyStates(t *testing.T) {
	var operations []string
	for _, row := range stateTable {
		operations = append(operations, row.operation)
		requireAnswers(t, row.operation, (*fixture).subject, row.enabled, row.disabled, row.pendingDeletion)
	}
	for _, op := range kms.Operations() {
		if !slices.Contains([]string{"CreateKey", "GenerateRandom", "ListKeys", "ListRetirableGrants"}, op.Name()) { // these have no key
			require.Contains(t, operations, op.Name())
		}
	}
	for _, row := range secondKeyTable {
		second := func(f *fixture, _ string) *kms.KeyMetadata { return f.other }
		requireAnswers(t, row.operation+" to", second, row.enabled, row.disabled, row.pendingDeletion)
	}
}

// requireAnswers requires the responses to an operation's example in three states of one of its
// keys.
func requireAnswers(t *testing.T, name string, key func(*fixture, string) *kms.KeyMetadata, answers ...response) {
	t.Helper()
	operation := name
	if len(name) > 3 && name[len(name)-3:] == " to" {
		operation = name[:len(name)-3]
	}
	for i, state := range []kms.KeyState{kms.KeyStateEnabled, kms.KeyStateDisabled, kms.KeyStatePendingDeletion} {
		t.Run(name+" in state "+string(state), func(t *testing.T) {
			f := newFixture(t)
			k := key(f, operation)
			switch state {
			case kms.KeyStateDisabled:
				disable(t, f.svc, k.KeyId)
			case kms.KeyStatePendingDeletion:
				scheduleDeletion(t, f.svc, k.KeyId, 7)
			}
			if answers[i] == isReplicaPending {
				state = kms.KeyStatePendingReplicaDeletion
			}
			require.Equal(t, state, describe(t, f.svc, k.KeyId).KeyState)
			out, err := f.invoke(t, operation, f.example(t, operation))
			if answers[i] == proceeds {
				require.NoError(t, err)
				require.NotNil(t, out)
				return
			}
			requireError(t, err, answers[i].code, "%s", k.Arn+answers[i].text)
			require.Nil(t, out)
		})
	}
}

func TestAStateErrorHasTheKeyARNAlsoForAnAlias(t *testing.T) {
	f := newFixture(t)
	disable(t, f.svc, f.symmetric.KeyId)
	_, err := f.svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: fixtureAlias, Plaintext: []byte("text")})
	requireError(t, err, kms.DisabledException, "%s is disabled.", f.symmetric.Arn)
}

func TestTheStateIsCheckedBeforeTheUsage(t *testing.T) {
	f := newFixture(t)
	disable(t, f.svc, f.signing.KeyId)
	_, err := f.svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: f.signing.KeyId, Plaintext: []byte("text")})
	requireError(t, err, kms.DisabledException, "%s is disabled.", f.signing.Arn)
	_, err = f.svc.RotateKeyOnDemand(context.Background(), &kms.RotateKeyOnDemandInput{KeyId: f.signing.KeyId})
	requireError(t, err, kms.DisabledException, "%s is disabled.", f.signing.Arn)
}

func TestEnableAndDisableAreIdempotent(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	for range 2 {
		disable(t, svc, k.KeyId)
		m := describe(t, svc, k.KeyId)
		require.Equal(t, kms.KeyStateDisabled, m.KeyState)
		require.False(t, m.Enabled)
	}
	for range 2 {
		enable(t, svc, k.KeyId)
		require.Equal(t, k, describe(t, svc, k.KeyId))
	}
}
