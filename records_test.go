package kms

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// Records of version 1 are read for ever: what is written here never changes.
// New members may join a record if their absence means what it always meant.
func TestRecordsOfVersionOneAreReadForEver(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return v
	}
	full := &keyRecord{
		Spec: KeySpecSymmetricDefault, Usage: KeyUsageEncryptDecrypt, Origin: OriginAWSKMS, Manager: KeyManagerCustomer,
		Created: at("2026-03-01T12:00:00Z"), Description: "é", Disabled: true, MultiRegion: true, Policy: "{}",
		Tags:         []Tag{{TagKey: "a", TagValue: "b"}},
		DeletionDate: new(at("2026-04-01T12:00:00Z")), Ending: true,
		Materials: []keyMaterial{
			{ID: "00"},
			{ID: "11", Rotated: new(at("2026-03-02T12:00:00Z")), Rotation: RotationTypeOnDemand},
		},
		Rotation:          &keyRotation{PeriodInDays: 90, Next: at("2026-06-01T12:00:00Z")},
		OnDemandRotations: 1,
	}
	requireGolden(t, full, `{"spec":"SYMMETRIC_DEFAULT","usage":"ENCRYPT_DECRYPT","origin":"AWS_KMS","manager":"CUSTOMER",`+
		`"created":"2026-03-01T12:00:00Z","description":"é","disabled":true,"multiRegion":true,"policy":"{}",`+
		`"tags":[{"TagKey":"a","TagValue":"b"}],"deletionDate":"2026-04-01T12:00:00Z","ending":true,`+
		`"materials":[{"id":"00"},{"id":"11","rotated":"2026-03-02T12:00:00Z","rotation":"ON_DEMAND"}],`+
		`"rotation":{"periodInDays":90,"next":"2026-06-01T12:00:00Z"},"onDemandRotations":1}`)
	requireGolden(t, &keyRecord{
		Spec: KeySpecHMAC256, Usage: KeyUsageGenerateVerifyMac, Origin: OriginAWSKMS, Manager: KeyManagerAWS, Created: at("2026-03-01T12:00:00Z"),
	}, `{"spec":"HMAC_256","usage":"GENERATE_VERIFY_MAC","origin":"AWS_KMS","manager":"AWS","created":"2026-03-01T12:00:00Z","policy":""}`)
	requireGolden(t, &aliasRecord{Key: "k", Created: at("2026-03-01T12:00:00Z"), Updated: at("2026-03-02T12:00:00Z")},
		`{"key":"k","created":"2026-03-01T12:00:00Z","updated":"2026-03-02T12:00:00Z"}`)
	requireGolden(t, &usageRecord{Operation: KeyLastUsageTrackingOperationSign, Time: at("2026-03-01T12:00:00Z"), RequestID: [16]byte{1}, EventID: [16]byte{2}},
		`{"operation":"Sign","time":"2026-03-01T12:00:00Z","requestID":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"eventID":[2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}`)
}

func requireGolden[T any](t *testing.T, record *T, text string) {
	t.Helper()
	value := append([]byte{1}, text...)
	require.Equal(t, string(value), string(encodeRecord(record)))
	read, err := decodeRecord[T](keystore.Record{Key: "golden", Value: value})
	require.NoError(t, err)
	require.Equal(t, record, read)
}
