package audit_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
)

func TestTheJSONOfAKeyEventIsThatOfEventBridge(t *testing.T) {
	e := audit.KeyEvent{
		ID:         audit.UUID{0x6a, 0x7e, 0x8f, 0xee, 0xb4, 0x91, 0x4c, 0xf7, 0xa9, 0xf1, 0xbf, 0x37, 0x03, 0x46, 0x77, 0x18},
		DetailType: audit.KeyRotation,
		Account:    "111122223333",
		Time:       time.Date(2026, 8, 25, 18, 5, 48, 999, time.FixedZone("", 7200)),
		Region:     "us-east-1",
		Resources:  []string{"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
		Detail: audit.KeyEventDetail{
			KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab", KeyOrigin: "AWS_KMS", RotationType: "ON_DEMAND",
			PreviousKeyMaterialID: "aa", CurrentKeyMaterialID: "bb",
		},
	}
	got, err := json.MarshalIndent(e, "", "  ")
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/keyevent.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got)+"\n")
	var back audit.KeyEvent
	require.NoError(t, json.Unmarshal(got, &back))
	e.Time = e.Time.UTC().Truncate(time.Second)
	require.Equal(t, e, back)
	require.Error(t, json.Unmarshal([]byte(`{"time":"x"}`), &back))
}
