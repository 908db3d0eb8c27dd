// Package audit describes what a KMS does: one [Event] for each call, allowed, refused or failed,
// in the form of an AWS CloudTrail record, so that programs that read CloudTrail can read it; and
// the [Sink] to which each event goes.
//
// As in CloudTrail, an event contains no plaintext, ciphertext, signature, MAC, key or grant token.
// It does contain encryption contexts, tags, descriptions and alias names in clear: keep secrets
// out of those, as with AWS KMS.
//
// An event has a bounded size whatever the caller sends. Texts that a client makes up, and error
// messages, are cut after 1,024 bytes. Parameters whose JSON is longer than [MaxFailedBytes], or
// [MaxSucceededBytes] of a call that succeeded, are left out; then the event says how long they
// were. As JSON, an event is never longer than [MaxEventBytes].
package audit

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Values that are the same in every event of a KMS, or one of few.
const (
	// EventVersion is the version of the record format of [Event].
	EventVersion = "1.11"
	// EventSource names the service.
	EventSource = "kms.amazonaws.com"

	// APICall is the [Event.EventType] of a call.
	APICall = "AwsApiCall"
	// ServiceEvent is the [Event.EventType] of what the service does by itself: RotateKey,
	// DeleteKey and DeleteExpiredKeyMaterial.
	ServiceEvent = "AwsServiceEvent"

	// CategoryManagement is the eventCategory of all KMS events.
	CategoryManagement = "Management"
	// KeyResource is the [Resource.Type] of a KMS key, and of an alias.
	KeyResource = "AWS::KMS::Key"
	// AWSInternal is the [UserIdentity.InvokedBy] of a service event, and the address and the user
	// agent of all events that have no other.
	AWSInternal = "AWS Internal"
)

// Bounds on the size of events as JSON, in bytes.
const (
	// MaxFailedBytes is the longest requestParameters of a call that failed: CloudTrail's limit.
	MaxFailedBytes = 100 << 10
	// MaxSucceededBytes is the longest requestParameters, and the longest responseElements, of a
	// call that succeeded. It is more than the largest request that the service accepts, so that
	// nothing can be done out of the log's sight.
	MaxSucceededBytes = 256 << 10
	// MaxEventBytes is the longest event.
	MaxEventBytes = 640 << 10
)

// Event is one record. Its fields are CloudTrail's, in CloudTrail's order, and its JSON is a
// CloudTrail record:
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html.
// The fields eventVersion, eventSource, managementEvent and eventCategory, which are the same in
// all events, are in the JSON only.
//
// An event read back from its JSON is equal to the one written, except that times are cut to whole
// seconds, and that a time in an [Object] comes back as a string.
type Event struct {
	UserIdentity *UserIdentity `json:"userIdentity"` // shared with other events
	// EventTime is when the call was made. JSON has it in UTC, cut to whole seconds.
	EventTime       time.Time `json:"eventTime"`
	EventName       string    `json:"eventName"` // the operation: "Encrypt"
	AWSRegion       string    `json:"awsRegion"`
	SourceIPAddress string    `json:"sourceIPAddress"`
	UserAgent       string    `json:"userAgent"`
	// ErrorCode is the exception that the call was answered with, and "" for success. CloudTrail,
	// unlike the API, prints AccessDeniedException as "AccessDenied".
	ErrorCode    string `json:"errorCode"`
	ErrorMessage string `json:"errorMessage"`
	// RequestParameters are the request's members in camelCase, without those that are never
	// recorded.
	RequestParameters Object `json:"requestParameters"`
	// ResponseElements are what a call that changes something answered; null for all others.
	ResponseElements    Object `json:"responseElements"`
	AdditionalEventData Object `json:"additionalEventData"`
	RequestID           UUID   `json:"requestID"` // a service event has none
	EventID             UUID   `json:"eventID"`
	ReadOnly            bool   `json:"readOnly"`
	// Resources are the keys that the call reached, and then the alias that it was about. JSON has
	// an empty list for none.
	Resources          []Resource `json:"resources"`
	EventType          string     `json:"eventType"` // APICall or ServiceEvent
	RecipientAccountID string     `json:"recipientAccountId"`
	// SharedEventID is the same in the two events of a call across accounts, one for the caller's
	// account and one for the key's; otherwise zero.
	SharedEventID       UUID        `json:"sharedEventID"`
	ServiceEventDetails Object      `json:"serviceEventDetails"`
	TLSDetails          *TLSDetails `json:"tlsDetails"` // nil if the call did not come over TLS
}

// UUID is a UUID in its binary form. Its text is 36 characters in lower case.
type UUID [16]byte

// IsZero reports whether u is the zero UUID, which identifies nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// String returns the text of u; of the zero UUID the empty string.
func (u UUID) String() string {
	if u.IsZero() {
		return ""
	}
	text := make([]byte, 0, 36)
	for i, end := range []int{4, 6, 8, 10, 16} {
		begin := 0
		if i > 0 {
			text = append(text, '-')
			begin = 2 + 2*i
		}
		text = hex.AppendEncode(text, u[begin:end])
	}
	return string(text)
}

// MarshalText returns what String returns.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText sets u to the UUID whose text String returned.
func (u *UUID) UnmarshalText(text []byte) error {
	var read UUID
	compact := make([]byte, 0, 32)
	for i, c := range text {
		if i != 8 && i != 13 && i != 18 && i != 23 {
			compact = append(compact, c)
		}
	}
	if n, err := hex.Decode(read[:], compact[:min(len(compact), 32)]); err != nil || n != len(read) || read.String() != string(text) {
		if len(text) > 0 {
			return fmt.Errorf("audit: %.40q is not a UUID", text)
		}
	}
	*u = read
	return nil
}

// IdentityType is the kind of caller that a [UserIdentity] describes.
type IdentityType string

// The kinds of caller. An event of the service itself has none.
const (
	IdentityRoot          IdentityType = "Root"
	IdentityIAMUser       IdentityType = "IAMUser"
	IdentityAssumedRole   IdentityType = "AssumedRole"
	IdentityRole          IdentityType = "Role"
	IdentityFederatedUser IdentityType = "FederatedUser"
	IdentityAWSAccount    IdentityType = "AWSAccount" // a principal of another account than the event's recipient
	IdentityAWSService    IdentityType = "AWSService"
	IdentityUnknown       IdentityType = "Unknown" // a caller without an identity
)

// UserIdentity describes the caller. Fields that do not apply to its type are empty, and absent
// from the JSON.
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html.
type UserIdentity struct {
	Type           IdentityType    `json:"type"`
	PrincipalID    string          `json:"principalId"` // of a role's session: "ROLE-ID:SESSION-NAME"
	ARN            string          `json:"arn"`
	AccountID      string          `json:"accountId"`
	AccessKeyID    string          `json:"accessKeyId"` // the public half of the credentials
	UserName       string          `json:"userName"`
	SessionContext *SessionContext `json:"sessionContext"`
	InvokedBy      string          `json:"invokedBy"` // the AWS service that called for the caller, or AWSInternal
}

// SessionContext describes the session that temporary credentials are for.
type SessionContext struct {
	SessionIssuer *SessionIssuer     `json:"sessionIssuer"`
	Attributes    *SessionAttributes `json:"attributes"`
}

// SessionIssuer is the role, or the user, that a session's credentials come from.
type SessionIssuer struct {
	Type        string `json:"type"` // "Role", "Root" or "IAMUser"
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"` // the role's name
}

// SessionAttributes describe how a session began.
type SessionAttributes struct {
	// CreationDate is when the credentials were issued. JSON has it in UTC, cut to whole seconds.
	CreationDate time.Time `json:"creationDate"`
	// MFAAuthenticated is a string in JSON: "true" or "false".
	MFAAuthenticated bool `json:"mfaAuthenticated,string"`
}

// Resource is a key that a call reached, or the alias that it was about.
type Resource struct {
	AccountID string `json:"accountId"` // the owner, which need not be the caller's account
	Type      string `json:"type"`      // KeyResource
	ARN       string `json:"ARN"`
}

// TLSDetails describes the TLS connection that a call came over. Empty fields are absent from the
// JSON.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion"`  // "TLSv1.3"
	CipherSuite              string `json:"cipherSuite"` // "TLS_AES_128_GCM_SHA256"
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
	KeyExchange              string `json:"keyExchange"` // "X25519MLKEM768"
}
