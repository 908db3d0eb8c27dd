package audit_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
)

const (
	account = "111122223333"
	keyARN  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

var key = []audit.Resource{{AccountID: account, Type: audit.KeyResource, ARN: keyARN}}

// id returns the UUID with that text.
func id(text string) (u audit.UUID) {
	if err := u.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return u
}

// allowed is an Encrypt that a role's session made.
func allowed() *audit.Event {
	return &audit.Event{
		UserIdentity: &audit.UserIdentity{
			Type:        audit.IdentityAssumedRole,
			PrincipalID: "AROAEXAMPLEROLE:payments-7",
			ARN:         "arn:aws:sts::111122223333:assumed-role/payments/payments-7",
			AccountID:   account,
			AccessKeyID: "ASIAEXAMPLE",
			SessionContext: &audit.SessionContext{
				SessionIssuer: &audit.SessionIssuer{
					Type:        "Role",
					PrincipalID: "AROAEXAMPLEROLE",
					ARN:         "arn:aws:iam::111122223333:role/payments",
					AccountID:   account,
					UserName:    "payments",
				},
				Attributes: &audit.SessionAttributes{CreationDate: time.Date(2026, 1, 31, 22, 0, 0, 0, time.UTC)},
			},
		},
		EventTime:       time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC),
		EventName:       "Encrypt",
		AWSRegion:       "eu-central-1",
		SourceIPAddress: "192.0.2.7",
		UserAgent:       "example/1.0 <go>",
		RequestParameters: audit.ObjectOf(map[string]any{
			"keyId":               "alias/payments",
			"encryptionAlgorithm": "SYMMETRIC_DEFAULT",
			"encryptionContext":   map[string]any{"tenant": "7", "purpose": "card"},
		}),
		AdditionalEventData: audit.ObjectOf(map[string]any{"keyMaterialId": "9f3c"}),
		RequestID:           id("0c1f4e6e-8b7a-4d53-a6f0-0d7f3b0f9a01"),
		EventID:             id("5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b02"),
		ReadOnly:            true,
		Resources:           key,
		EventType:           audit.APICall,
		RecipientAccountID:  account,
	}
}

// refused is a GenerateRandom, which reaches no key, denied to a user of another account.
func refused() *audit.Event {
	return &audit.Event{
		UserIdentity: &audit.UserIdentity{
			Type:        audit.IdentityIAMUser,
			PrincipalID: "AIDAEXAMPLEUSER",
			ARN:         "arn:aws:iam::444455556666:user/mallory",
			AccountID:   "444455556666",
			UserName:    "mallory",
		},
		EventTime:          time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
		EventName:          "GenerateRandom",
		AWSRegion:          "eu-central-1",
		SourceIPAddress:    "192.0.2.9",
		UserAgent:          "example/1.0",
		ErrorCode:          "AccessDenied",
		ErrorMessage:       "User: arn:aws:iam::444455556666:user/mallory is not authorized to perform: kms:GenerateRandom",
		RequestID:          id("0c1f4e6e-8b7a-4d53-a6f0-0d7f3b0f9a03"),
		EventID:            id("5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b04"),
		ReadOnly:           true,
		Resources:          []audit.Resource{},
		EventType:          audit.APICall,
		RecipientAccountID: "444455556666",
		SharedEventID:      id("5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b05"),
	}
}

// rotated is the service's own rotation of a key.
func rotated() *audit.Event {
	return &audit.Event{
		UserIdentity:       &audit.UserIdentity{AccountID: account, InvokedBy: audit.AWSInternal},
		EventTime:          time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC),
		EventName:          "RotateKey",
		AWSRegion:          "eu-central-1",
		SourceIPAddress:    audit.AWSInternal,
		UserAgent:          audit.AWSInternal,
		EventID:            id("5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b06"),
		Resources:          key,
		EventType:          audit.ServiceEvent,
		RecipientAccountID: account,
		ServiceEventDetails: audit.ObjectOf(map[string]any{
			"rotationType":          "AUTOMATIC",
			"keyOrigin":             "AWS_KMS",
			"previousKeyMaterialId": "9f3c",
			"currentKeyMaterialId":  "a07d",
			"keyId":                 "1234abcd-12ab-34cd-56ef-1234567890ab",
		}),
	}
}

var events = []struct {
	name  string
	event func() *audit.Event
}{
	{"allowed", allowed},
	{"refused", refused},
	{"rotated", rotated},
}

// The golden files are records as CloudTrail would write them. Member order is part of what they
// fix.
func TestEventIsACloudTrailRecord(t *testing.T) {
	for _, tt := range events {
		t.Run(tt.name, func(t *testing.T) {
			want, err := os.ReadFile("testdata/" + tt.name + ".json")
			require.NoError(t, err)

			got, err := json.MarshalIndent(tt.event(), "", "  ")

			require.NoError(t, err)
			require.Equal(t, string(want), string(got)+"\n")
		})
	}
}

func TestEventReadsBackAsItWasWritten(t *testing.T) {
	for _, tt := range events {
		t.Run(tt.name, func(t *testing.T) {
			line, err := json.Marshal(tt.event())
			require.NoError(t, err)

			var got audit.Event
			require.NoError(t, json.Unmarshal(line, &got))

			require.Equal(t, tt.event(), &got)
		})
	}
}

func TestTimesAreWholeSecondsOfUTC(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	e := allowed()
	e.EventTime = time.Date(2026, 2, 1, 0, 59, 59, 987654321, cet)
	e.UserIdentity.SessionContext.Attributes.CreationDate = time.Date(2026, 1, 31, 23, 0, 0, 1, cet)
	want, err := json.Marshal(allowed())
	require.NoError(t, err)

	got, err := json.Marshal(*e) // a value prints as a pointer does

	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.Equal(t, 987654321, e.EventTime.Nanosecond(), "the event itself is left alone")
}

func TestNoResourcesAreAnEmptyList(t *testing.T) {
	for name, none := range map[string][]audit.Resource{"nil": nil, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(audit.Event{Resources: none})

			require.NoError(t, err)
			require.Contains(t, string(got), `"resources":[]`)
		})
	}
}
