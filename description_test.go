package kms

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// crossAccount are the operations that the API lets be called on another
// account's key.
var crossAccount = map[string]bool{
	"Decrypt": true, "DescribeKey": true, "Encrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"GenerateMac": true, "GetKeyRotationStatus": true, "GetPublicKey": true, "ReEncrypt": true, "Sign": true, "Verify": true,
	"VerifyMac": true,
}

func TestEveryOperationIsDescribed(t *testing.T) {
	service := reflect.TypeFor[*Service]()
	seen := map[string]bool{}
	for _, op := range operations {
		d := op.describe()
		t.Run(d.name, func(t *testing.T) {
			require.False(t, seen[d.name], "it is listed once")
			seen[d.name] = true
			method, ok := service.MethodByName(d.name)
			require.True(t, ok, "it has the name of its method")
			require.Equal(t, method.Type.In(2), reflect.TypeOf(op.NewInput()))
			permission := "kms:" + d.name
			if d.name == "ReEncrypt" { // kms:ReEncryptTo is its second key's
				permission = "kms:ReEncryptFrom"
			}
			require.Equal(t, permission, d.permission)
			require.Equal(t, crossAccount[d.name], d.crossAccount)

			input := method.Type.In(2).Elem()
			switch d.keys {
			case noKey:
				for _, name := range []string{"KeyId", "SourceKeyId", "TargetKeyId", "AliasName"} {
					_, ok := input.FieldByName(name)
					require.False(t, ok, "a call that names a key identifies it")
				}
			case keyOnly, keyOrAlias:
				_, ok := input.FieldByName("KeyId")
				require.True(t, ok)
			}
			if d.tracked {
				require.Contains(t, KeyLastUsageTrackingOperation("").Values(), KeyLastUsageTrackingOperation(d.name))
				require.Equal(t, useState, d.states, "what uses a key needs it enabled")
				require.True(t, d.readOnly)
			}
		})
	}
}

// A row of the key states table for the states that no key is in yet.
func TestStateRulesAnswerEveryStateAsTheTableHasIt(t *testing.T) {
	states := []KeyState{KeyStateEnabled, KeyStateDisabled, KeyStatePendingDeletion, KeyStatePendingReplicaDeletion,
		KeyStatePendingImport, KeyStateUnavailable, KeyStateCreating, KeyStateUpdating}
	require.ElementsMatch(t, KeyState("").Values(), states)
	const y = proceed
	rows := map[string][]stateAnswer{ // in the order of states
		"CancelKeyDeletion":   {isNotPendingDeletion, isNotPendingDeletion, y, y, isNotPendingDeletion, isNotPendingDeletion, isNotPendingDeletion, isNotPendingDeletion},
		"CreateAlias":         {y, y, isPendingDeletion, isPendingDeletion, y, y, y, y},
		"DescribeKey":         {y, y, y, y, y, y, y, y},
		"EnableKey":           {y, y, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, isUpdating},
		"EnableKeyRotation":   {y, isDisabled, isPendingDeletion, isPendingDeletion, y, y, isCreating, y}, // then by origin
		"Encrypt":             {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, isUnavailable, isCreating, y},
		"GetPublicKey":        {y, y, isPendingDeletion, isPendingDeletion, y, y, isCreating, y},
		"RotateKeyOnDemand":   {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, y},
		"ScheduleKeyDeletion": {y, y, isPendingDeletion, isPendingDeletion, y, y, y, isUpdating},
	}
	like := map[string]string{ // the operations with the same row
		"Decrypt": "Encrypt", "GenerateDataKey": "Encrypt", "GenerateDataKeyWithoutPlaintext": "Encrypt", "GenerateMac": "Encrypt",
		"ReEncrypt": "Encrypt", "Sign": "Encrypt", "Verify": "Encrypt", "VerifyMac": "Encrypt",
		"DisableKey": "EnableKey", "DisableKeyRotation": "EnableKeyRotation",
		"TagResource": "CreateAlias", "UntagResource": "CreateAlias", "UpdateKeyDescription": "CreateAlias",
	}
	for _, op := range operations {
		d := op.describe()
		row := rows[d.name]
		if row == nil {
			row = rows[like[d.name]]
		}
		if row == nil {
			row = rows["DescribeKey"]
		}
		for i, state := range states {
			require.Equal(t, row[i], d.states.answer(state), "%s in state %s", d.name, state)
		}
	}
	require.Equal(t, isUnavailable, new(stateRule).answer("NoSuchState"), "fail closed")
}

func TestStateAnswersAreWordedAsTheAPIDoes(t *testing.T) {
	for state, want := range map[KeyState]string{
		KeyStateDisabled:               "kms: DisabledException: ARN is disabled.",
		KeyStatePendingDeletion:        "kms: KMSInvalidStateException: ARN is pending deletion.",
		KeyStatePendingReplicaDeletion: "kms: KMSInvalidStateException: ARN is pending replica deletion.",
		KeyStatePendingImport:          "kms: KMSInvalidStateException: ARN is pending import.",
		KeyStateUnavailable:            "kms: KMSInvalidStateException: ARN is unavailable.",
		KeyStateCreating:               "kms: KMSInvalidStateException: ARN is creating.",
	} {
		require.EqualError(t, useState.admit(&key{arn: "ARN", state: state}), want)
	}
	require.NoError(t, useState.admit(&key{state: KeyStateUpdating}))
	require.EqualError(t, toggleState.admit(&key{arn: "ARN", state: KeyStateUpdating}), "kms: KMSInvalidStateException: ARN is updating.")
}
