package kms_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// An answer is what an operation says to a key's state.
type answer struct {
	code kms.ErrorCode
	text string // after the key's ARN
}

var (
	ok         = answer{}
	disabled   = answer{kms.DisabledException, " is disabled."}
	pending    = answer{kms.KMSInvalidStateException, " is pending deletion."}
	notPending = answer{kms.KMSInvalidStateException, " is not pending deletion."}
)

// stateTable is the table of key states of the AWS KMS Developer Guide, for
// the states that a key can be in here.
var stateTable = []struct {
	operation                          string
	enabled, disabled, pendingDeletion answer
}{
	{"CancelKeyDeletion", notPending, notPending, ok},
	{"CreateAlias", ok, ok, pending},
	{"Decrypt", ok, disabled, pending},
	{"DeleteAlias", ok, ok, ok},
	{"DescribeKey", ok, ok, ok},
	{"DisableKey", ok, ok, pending},
	{"DisableKeyRotation", ok, disabled, pending},
	{"EnableKey", ok, ok, pending},
	{"EnableKeyRotation", ok, disabled, pending},
	{"Encrypt", ok, disabled, pending},
	{"GenerateDataKey", ok, disabled, pending},
	{"GenerateDataKeyWithoutPlaintext", ok, disabled, pending},
	{"GenerateMac", ok, disabled, pending},
	{"GetKeyLastUsage", ok, ok, ok},
	{"GetKeyPolicy", ok, ok, ok},
	{"GetKeyRotationStatus", ok, ok, ok},
	{"GetPublicKey", ok, ok, pending},
	{"ListAliases", ok, ok, ok},
	{"ListKeyPolicies", ok, ok, ok},
	{"ListKeyRotations", ok, ok, ok},
	{"ListResourceTags", ok, ok, ok},
	{"PutKeyPolicy", ok, ok, ok},
	{"ReEncrypt", ok, disabled, pending},
	{"RotateKeyOnDemand", ok, disabled, pending},
	{"ScheduleKeyDeletion", ok, ok, pending},
	{"Sign", ok, disabled, pending},
	{"TagResource", ok, ok, pending},
	{"UntagResource", ok, ok, pending},
	{"UpdateAlias", ok, ok, ok}, // the key that the alias leaves
	{"UpdateKeyDescription", ok, ok, pending},
	{"Verify", ok, disabled, pending},
	{"VerifyMac", ok, disabled, pending},
}

// secondKeyTable is for the second key of the operations that have two.
var secondKeyTable = []struct {
	operation                          string
	enabled, disabled, pendingDeletion answer
}{
	{"ReEncrypt", ok, disabled, pending},
	{"UpdateAlias", ok, ok, pending},
}

func TestEveryOperationAnswersAKeysStateAsTheTableHasIt(t *testing.T) {
	var operations []string
	for _, row := range stateTable {
		operations = append(operations, row.operation)
		requireAnswers(t, row.operation, (*fixture).subject, row.enabled, row.disabled, row.pendingDeletion)
	}
	for _, op := range kms.Operations() {
		if !slices.Contains([]string{"CreateKey", "GenerateRandom", "ListKeys"}, op.Name()) { // these have no key
			require.Contains(t, operations, op.Name())
		}
	}
	for _, row := range secondKeyTable {
		second := func(f *fixture, _ string) *kms.KeyMetadata { return f.other }
		requireAnswers(t, row.operation+" to", second, row.enabled, row.disabled, row.pendingDeletion)
	}
}

// requireAnswers requires an operation's example to be answered in three states
// of one of its keys.
func requireAnswers(t *testing.T, name string, key func(*fixture, string) *kms.KeyMetadata, answers ...answer) {
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
			require.Equal(t, state, describe(t, f.svc, k.KeyId).KeyState)
			out, err := f.invoke(t, operation, f.example(t, operation))
			if answers[i] == ok {
				require.NoError(t, err)
				require.NotNil(t, out)
				return
			}
			requireError(t, err, answers[i].code, "%s", k.Arn+answers[i].text)
			require.Nil(t, out)
		})
	}
}

func TestTheStateIsToldByTheKeyARNAlsoOfAnAlias(t *testing.T) {
	f := newFixture(t)
	disable(t, f.svc, f.symmetric.KeyId)
	_, err := f.svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: fixtureAlias, Plaintext: []byte("text")})
	requireError(t, err, kms.DisabledException, "%s is disabled.", f.symmetric.Arn)
}

func TestTheStateIsToldBeforeTheUsage(t *testing.T) {
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
