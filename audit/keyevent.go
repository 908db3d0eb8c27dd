package audit

import (
	"encoding/json"
	"time"
)

// The [KeyEvent.DetailType]s.
const (
	KeyRotation           = "KMS CMK Rotation"
	KeyMaterialExpiration = "KMS Imported Key Material Expiration"
	KeyDeletion           = "KMS CMK Deletion"
)

// KeyEventSource is the source of every [KeyEvent].
const KeyEventSource = "aws.kms"

// KeyEvent is what AWS KMS sends to EventBridge when time has changed a key: when it was rotated,
// also on demand, when imported key material has expired, and when it was deleted. Its JSON is that
// of an EventBridge event, with the fields version and source, which are the same in all.
// https://docs.aws.amazon.com/kms/latest/developerguide/kms-events.html.
type KeyEvent struct {
	ID         UUID
	DetailType string
	Account    string
	Time       time.Time // JSON has it in UTC, cut to whole seconds
	Region     string
	Resources  []string // the key ARN
	Detail     KeyEventDetail
}

// KeyEventDetail is the detail of a [KeyEvent]. Fields that its type does not have are empty.
type KeyEventDetail struct {
	KeyID                 string `json:"key-id"`
	KeyOrigin             string `json:"key-origin,omitempty"`               // of a rotation: "AWS_KMS"
	RotationType          string `json:"rotation-type,omitempty"`            // "AUTOMATIC" or "ON_DEMAND"
	PreviousKeyMaterialID string `json:"previous-key-material-id,omitempty"` // of a rotation
	CurrentKeyMaterialID  string `json:"current-key-material-id,omitempty"`  // of a rotation
	KeyMaterialID         string `json:"key-material-id,omitempty"`          // of an expiration
}

// keyEventJSON is the JSON of a KeyEvent.
type keyEventJSON struct {
	Version    string         `json:"version"`
	ID         UUID           `json:"id"`
	DetailType string         `json:"detail-type"`
	Source     string         `json:"source"`
	Account    string         `json:"account"`
	Time       time.Time      `json:"time"`
	Region     string         `json:"region"`
	Resources  []string       `json:"resources"`
	Detail     KeyEventDetail `json:"detail"`
}

// MarshalJSON returns e as an EventBridge event.
func (e KeyEvent) MarshalJSON() ([]byte, error) {
	return json.Marshal(keyEventJSON{"0", e.ID, e.DetailType, KeyEventSource, e.Account,
		e.Time.UTC().Truncate(time.Second), e.Region, e.Resources, e.Detail})
}

// UnmarshalJSON sets e to the event in data, as MarshalJSON has written it.
func (e *KeyEvent) UnmarshalJSON(data []byte) error {
	var read keyEventJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*e = KeyEvent{read.ID, read.DetailType, read.Account, read.Time, read.Region, read.Resources, read.Detail}
	return nil
}
