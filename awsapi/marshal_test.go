package awsapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

func TestInputsAndOutputsHaveTheJSONOfTheProtocol(t *testing.T) {
	for _, tt := range []struct {
		value, empty any
		text         string
	}{
		{&kms.EncryptInput{KeyId: "alias/a", Plaintext: []byte("hello")}, new(kms.EncryptInput), `{"KeyId":"alias/a","Plaintext":"aGVsbG8="}`},
		{&kms.GenerateRandomInput{NumberOfBytes: new(int32(8))}, new(kms.GenerateRandomInput), `{"NumberOfBytes":8}`},
		{&kms.UpdateKeyDescriptionInput{KeyId: "k"}, new(kms.UpdateKeyDescriptionInput), `{"KeyId":"k","Description":""}`},
		{&kms.VerifyMacOutput{KeyId: "k", MacValid: true}, new(kms.VerifyMacOutput), `{"KeyId":"k","MacValid":true}`},
		{&kms.ScheduleKeyDeletionOutput{DeletionDate: time.Unix(1772366400, 0).UTC()}, new(kms.ScheduleKeyDeletionOutput), `{"DeletionDate":1.7723664E9}`},
		{&kms.DisableKeyOutput{}, new(kms.DisableKeyOutput), `{}`},
	} {
		text, err := awsapi.Marshal(tt.value)
		require.NoError(t, err)
		require.JSONEq(t, tt.text, string(text))
		require.NoError(t, awsapi.Unmarshal(text, tt.empty))
		require.Equal(t, tt.value, tt.empty)
	}
	require.NoError(t, awsapi.Unmarshal(nil, new(kms.DisableKeyOutput)), "the body of a response")
}

func TestOtherTypesAndTextsAreRefused(t *testing.T) {
	for _, v := range []any{nil, 1, kms.EncryptInput{}, (*kms.EncryptInput)(nil), new(kms.KeyMetadata), new(kms.Service), new(time.Time)} {
		_, err := awsapi.Marshal(v)
		require.ErrorContains(t, err, "neither an input nor an output")
		require.Error(t, awsapi.Unmarshal([]byte("{}"), v))
	}
	for _, text := range []string{"[]", "{", `{"Plaintext":1}`, `{"Plaintext":"a secret"}`} {
		err := awsapi.Unmarshal([]byte(text), new(kms.EncryptInput))
		require.ErrorContains(t, err, "not the JSON of a *kms.EncryptInput")
		require.NotContains(t, err.Error(), "a secret")
	}
}
