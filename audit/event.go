// Package audit is what a KMS tells about itself: one [Event] for each call, allowed, refused or failed, in the shape of
// an AWS CloudTrail record, so that what reads CloudTrail reads these too; and the [Sink] that each event goes to.
//
// An event tells what CloudTrail tells, and so holds no plaintext, ciphertext, signature, MAC, key or grant token. It does
// hold encryption contexts, tags, descriptions and alias names in clear: keep secrets out of those, as with AWS KMS.
//
// The package only shapes and delivers events; it knows nothing of the service that fills them.
package audit

import (
	"encoding/json"
	"time"
)

// Values that are the same in every event of a KMS, or one of few.
const (
	// EventVersion is the version of the record format that [Event] follows.
	EventVersion = "1.11"
	// EventSource names the service.
	EventSource = "kms.amazonaws.com"

	// APICall is the [Event.EventType] of a call that somebody made.
	APICall = "AwsApiCall"
	// ServiceEvent is the [Event.EventType] of what the service does by itself: RotateKey, DeleteKey and
	// DeleteExpiredKeyMaterial.
	ServiceEvent = "AwsServiceEvent"

	// Management is the [Event.EventCategory] of all KMS events.
	Management = "Management"
	// KeyResource is the [Resource.Type] of a KMS key.
	KeyResource = "AWS::KMS::Key"
	// Internal stands in a service event for what it lacks: [UserIdentity.InvokedBy], the address and the agent.
	Internal = "AWS Internal"
)

// Event is one record. Its fields are CloudTrail's, in CloudTrail's order, and its JSON is a CloudTrail record:
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html.
//
// The maps hold JSON values: nil, bool, string, numbers, slices, and maps of these. An event read back from its JSON is
// equal to the one written, but for what JSON does not tell apart: a number comes back as float64, a slice as []any, a
// map as map[string]any.
type Event struct {
	EventVersion string       `json:"eventVersion"`
	UserIdentity UserIdentity `json:"userIdentity"`
	// EventTime is when the call was made. JSON has it in UTC, cut to whole seconds.
	EventTime       time.Time `json:"eventTime"`
	EventSource     string    `json:"eventSource"`
	EventName       string    `json:"eventName"` // the operation: "Encrypt"
	AWSRegion       string    `json:"awsRegion"`
	SourceIPAddress string    `json:"sourceIPAddress"`
	UserAgent       string    `json:"userAgent"`
	// ErrorCode is the exception that the call was answered with, and "" for success. CloudTrail, unlike the API, prints
	// AccessDeniedException as "AccessDenied".
	ErrorCode    string `json:"errorCode,omitempty"`
	ErrorMessage string `json:"errorMessage,omitempty"`
	// RequestParameters are the request's members in camelCase, without those that are never recorded; nil is null.
	RequestParameters map[string]any `json:"requestParameters"`
	// ResponseElements are what a call that changes something answered; nil, which is null, for all others.
	ResponseElements    map[string]any `json:"responseElements"`
	AdditionalEventData map[string]any `json:"additionalEventData,omitempty"`
	RequestID           string         `json:"requestID,omitempty"` // a service event has none
	EventID             string         `json:"eventID"`
	ReadOnly            bool           `json:"readOnly"`
	// Resources are the keys that the call reached. None is an empty list, never null.
	Resources          []Resource `json:"resources"`
	EventType          string     `json:"eventType"` // APICall or ServiceEvent
	ManagementEvent    bool       `json:"managementEvent"`
	RecipientAccountID string     `json:"recipientAccountId"`
	// SharedEventID is the same in the two events of a call across accounts, one for the caller's account and one for the
	// key's; otherwise "".
	SharedEventID       string         `json:"sharedEventID,omitempty"`
	ServiceEventDetails map[string]any `json:"serviceEventDetails,omitempty"`
	EventCategory       string         `json:"eventCategory"`
}

// MarshalJSON prints e as a CloudTrail record.
func (e Event) MarshalJSON() ([]byte, error) {
	type record Event // without this method
	r := record(e)
	r.EventTime = wholeSeconds(e.EventTime)
	if r.Resources == nil {
		r.Resources = []Resource{}
	}
	return json.Marshal(r)
}

// wholeSeconds returns t as CloudTrail prints it: 2026-01-31T23:59:59Z.
func wholeSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// IdentityType says what kind of caller a [UserIdentity] is.
type IdentityType string

// The kinds of caller. An event of the service itself has none.
const (
	Root        IdentityType = "Root"
	IAMUser     IdentityType = "IAMUser"
	AssumedRole IdentityType = "AssumedRole"
	AWSAccount  IdentityType = "AWSAccount" // a principal of another account than the event's recipient
	AWSService  IdentityType = "AWSService"

	Role          IdentityType = "Role"
	FederatedUser IdentityType = "FederatedUser"
	Unknown       IdentityType = "Unknown" // a caller without an identity
)

// UserIdentity says who called. Fields that do not apply to its type are empty, and absent from the JSON.
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html.
type UserIdentity struct {
	Type           IdentityType    `json:"type,omitempty"`
	PrincipalID    string          `json:"principalId,omitempty"` // of a role's session: "ROLE-ID:SESSION-NAME"
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"` // the public half of the credentials
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
	InvokedBy      string          `json:"invokedBy,omitempty"` // the AWS service that called for the caller, or Internal
}

// SessionContext tells of temporary credentials: the session that they are for and who issued it.
type SessionContext struct {
	SessionIssuer *SessionIssuer     `json:"sessionIssuer,omitempty"`
	Attributes    *SessionAttributes `json:"attributes,omitempty"`
}

// SessionIssuer is the role, or the user, that a session's credentials come from.
type SessionIssuer struct {
	Type        string `json:"type"` // "Role", or Root or IAMUser
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName,omitempty"` // the role's name
}

// SessionAttributes say how a session began.
type SessionAttributes struct {
	// CreationDate is when the credentials were issued. JSON has it in UTC, cut to whole seconds.
	CreationDate time.Time `json:"creationDate"`
	// MFAAuthenticated is a string in CloudTrail too: "true" or "false".
	MFAAuthenticated bool `json:"mfaAuthenticated,string"`
}

// MarshalJSON prints a as CloudTrail does.
func (a SessionAttributes) MarshalJSON() ([]byte, error) {
	type attributes SessionAttributes // without this method
	a.CreationDate = wholeSeconds(a.CreationDate)
	return json.Marshal(attributes(a))
}

// Resource is a key that a call reached.
type Resource struct {
	AccountID string `json:"accountId"` // the key's owner, who need not be the caller's account
	Type      string `json:"type"`      // KeyResource
	ARN       string `json:"ARN"`
}
