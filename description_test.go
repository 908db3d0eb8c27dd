package kms

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/keydb"
)

// crossAccount are the operations that the API permits on a key of another account.
var crossAccount = map[string]bool{
	"CreateGrant": true, "Decapsulate": true, "Decrypt": true, "DeriveSharedSecret": true, "DescribeKey": true, "Encapsulate": true, "Encrypt": true, "GenerateDataKey": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
	"GenerateDataKeyWithoutPlaintext": true,
	"GenerateMac":                     true, "GetKeyRotationStatus": true, "GetPublicKey": true, "ListGrants": true, "ReEncrypt": true, "RetireGrant": true, "RevokeGrant": true, "Sign": true, "Verify": true,
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

// The table of key states has a row for every operation with a key.
func TestStateRulesFollowTheTableOfKeyStates(t *testing.T) {
	states := []KeyState{KeyStateEnabled, KeyStateDisabled, KeyStatePendingDeletion, KeyStatePendingReplicaDeletion,
		KeyStatePendingImport, KeyStateUnavailable, KeyStateCreating, KeyStateUpdating}
	require.ElementsMatch(t, KeyState("").Values(), states)
	const y = proceed
	rows := map[string][]stateAnswer{ // in the order of states
		"CancelKeyDeletion":         {isNotPendingDeletion, isNotPendingDeletion, y, y, isNotPendingDeletion, isNotPendingDeletion, isNotPendingDeletion, isNotPendingDeletion},
		"CreateAlias":               {y, y, isPendingDeletion, isPendingDeletion, y, y, y, y},
		"CreateGrant":               {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, y},
		"DescribeKey":               {y, y, y, y, y, y, y, y},
		"EnableKey":                 {y, y, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, isUpdating},
		"EnableKeyRotation":         {y, isDisabled, isPendingDeletion, isPendingDeletion, y, y, isCreating, y}, // then by origin
		"Encrypt":                   {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, isUnavailable, isCreating, y},
		"GetPublicKey":              {y, y, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, y},
		"GetParametersForImport":    {y, y, isPendingDeletion, isPendingDeletion, y, y, isCreating, isUpdating}, // then by origin
		"ImportKeyMaterial":         {y, y, isPendingDeletion, isPendingDeletion, y, y, isCreating, y},
		"DeleteImportedKeyMaterial": {y, y, y, y, y, y, isCreating, isUpdating},
		"RotateKeyOnDemand":         {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, y, isCreating, y},
		"ScheduleKeyDeletion":       {y, y, isPendingDeletion, isPendingDeletion, y, y, y, isUpdating},
		"ReplicateKey":              {y, isDisabled, isPendingDeletion, isPendingDeletion, isPendingImport, isUnavailable, isCreating, isUpdating},
	}
	like := map[string]string{ // the operations with the same row
		"Decapsulate": "Encrypt", "Decrypt": "Encrypt", "DeriveSharedSecret": "Encrypt", "Encapsulate": "Encrypt", "GenerateDataKey": "Encrypt", "GenerateDataKeyPair": "Encrypt", "GenerateDataKeyPairWithoutPlaintext": "Encrypt",
		"GenerateDataKeyWithoutPlaintext": "Encrypt", "GenerateMac": "Encrypt",
		"ReEncrypt": "Encrypt", "Sign": "Encrypt", "Verify": "Encrypt", "VerifyMac": "Encrypt",
		"DisableKey": "EnableKey", "DisableKeyRotation": "EnableKeyRotation",
		"TagResource": "CreateAlias", "UntagResource": "CreateAlias", "UpdateKeyDescription": "CreateAlias",
		"DeleteAlias": "DescribeKey", "GetKeyLastUsage": "DescribeKey", "GetKeyPolicy": "DescribeKey", "GetKeyRotationStatus": "DescribeKey",
		"ListAliases": "DescribeKey", "ListGrants": "DescribeKey", "RetireGrant": "DescribeKey", "RevokeGrant": "DescribeKey", "ListKeyPolicies": "DescribeKey", "ListKeyRotations": "DescribeKey", "ListResourceTags": "DescribeKey",
		"UpdatePrimaryRegion": "RotateKeyOnDemand",
		"PutKeyPolicy":        "DescribeKey", "UpdateAlias": "DescribeKey", // UpdateAlias's new key: see below
	}
	for _, op := range operations {
		d := op.describe()
		row := rows[d.name]
		if row == nil {
			row = rows[like[d.name]]
		}
		if d.keys == noKey {
			require.Nil(t, row)
			require.Nil(t, d.states)
			continue
		}
		require.NotNil(t, row, "%s has no row", d.name)
		for i, state := range states {
			require.Equal(t, row[i], d.states.answer(state), "%s in state %s", d.name, state)
		}
	}
	for _, state := range append(states, "NoSuchState") {
		require.Error(t, (*stateRule)(nil).admit(&keydb.Key{State: keydb.State(state)}), "an operation without a rule works in no state")
		require.Error(t, new(stateRule).admit(&keydb.Key{State: keydb.State(state)}), "nor does one with an empty rule")
	}
	require.Error(t, anyState.admit(&keydb.Key{State: "NoSuchState"}))
}

func TestErrorsOfKeyStatesHaveTheAPIsWords(t *testing.T) {
	for state, want := range map[KeyState]string{
		KeyStateDisabled:               "kms: DisabledException: ARN is disabled.",
		KeyStatePendingDeletion:        "kms: KMSInvalidStateException: ARN is pending deletion.",
		KeyStatePendingReplicaDeletion: "kms: KMSInvalidStateException: ARN is pending replica deletion.",
		KeyStatePendingImport:          "kms: KMSInvalidStateException: ARN is pending import.",
		KeyStateUnavailable:            "kms: KMSInvalidStateException: ARN is unavailable.",
		KeyStateCreating:               "kms: KMSInvalidStateException: ARN is creating.",
	} {
		require.EqualError(t, useState.admit(&keydb.Key{ARN: "ARN", State: keydb.State(state)}), want)
	}
	require.NoError(t, useState.admit(&keydb.Key{State: keydb.State(KeyStateUpdating)}))
	require.EqualError(t, toggleState.admit(&keydb.Key{ARN: "ARN", State: keydb.State(KeyStateUpdating)}), "kms: KMSInvalidStateException: ARN is updating.")
}
