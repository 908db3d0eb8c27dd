package audit

import (
	"encoding/json"
	"time"

	"github.com/pocketkms/kms/internal/jsontext"
)

// MarshalJSON returns e as a CloudTrail record.
func (e Event) MarshalJSON() ([]byte, error) { return e.appendJSON(nil), nil }

// UnmarshalJSON sets e to the record in data, as MarshalJSON has written it.
func (e *Event) UnmarshalJSON(data []byte) error {
	type fields Event // without this method; it lacks what is the same in all events
	var read fields
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*e = Event(read)
	return nil
}

// appendJSON is written out: it takes a fraction of the time of encoding/json, and escapes nothing
// for the sake of HTML.
func (e *Event) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = appendText(b, "eventVersion", EventVersion)
	b = appendName(b, "userIdentity")
	b = e.UserIdentity.appendJSON(b)
	b = appendTime(appendName(b, "eventTime"), e.EventTime)
	b = appendText(b, "eventSource", EventSource)
	b = appendText(b, "eventName", e.EventName)
	b = appendText(b, "awsRegion", e.AWSRegion)
	b = appendText(b, "sourceIPAddress", e.SourceIPAddress)
	b = appendText(b, "userAgent", e.UserAgent)
	b = appendOptional(b, "errorCode", e.ErrorCode)
	b = appendOptional(b, "errorMessage", e.ErrorMessage)
	b = e.RequestParameters.appendJSON(appendName(b, "requestParameters"))
	b = e.ResponseElements.appendJSON(appendName(b, "responseElements"))
	if !e.AdditionalEventData.IsZero() {
		b = e.AdditionalEventData.appendJSON(appendName(b, "additionalEventData"))
	}
	if !e.RequestID.IsZero() {
		b = appendText(b, "requestID", e.RequestID.String())
	}
	b = appendText(b, "eventID", e.EventID.String())
	b = appendBool(b, "readOnly", e.ReadOnly)
	b = append(appendName(b, "resources"), '[')
	for i, r := range e.Resources {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = appendText(b, "accountId", r.AccountID)
		b = appendText(b, "type", r.Type)
		b = appendText(b, "ARN", r.ARN)
		b = append(b, '}')
	}
	b = append(b, ']')
	b = appendText(b, "eventType", e.EventType)
	b = appendBool(b, "managementEvent", true)
	b = appendText(b, "recipientAccountId", e.RecipientAccountID)
	if !e.SharedEventID.IsZero() {
		b = appendText(b, "sharedEventID", e.SharedEventID.String())
	}
	if !e.ServiceEventDetails.IsZero() {
		b = e.ServiceEventDetails.appendJSON(appendName(b, "serviceEventDetails"))
	}
	b = appendText(b, "eventCategory", CategoryManagement)
	if t := e.TLSDetails; t != nil {
		b = append(appendName(b, "tlsDetails"), '{')
		b = appendOptional(b, "tlsVersion", t.TLSVersion)
		b = appendOptional(b, "cipherSuite", t.CipherSuite)
		b = appendOptional(b, "clientProvidedHostHeader", t.ClientProvidedHostHeader)
		b = appendOptional(b, "keyExchange", t.KeyExchange)
		b = append(b, '}')
	}
	return append(b, '}')
}

func (u *UserIdentity) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if u != nil {
		b = appendOptional(b, "type", string(u.Type))
		b = appendOptional(b, "principalId", u.PrincipalID)
		b = appendOptional(b, "arn", u.ARN)
		b = appendOptional(b, "accountId", u.AccountID)
		b = appendOptional(b, "accessKeyId", u.AccessKeyID)
		b = appendOptional(b, "userName", u.UserName)
		if s := u.SessionContext; s != nil {
			b = s.appendJSON(appendName(b, "sessionContext"))
		}
		b = appendOptional(b, "invokedBy", u.InvokedBy)
	}
	return append(b, '}')
}

func (s *SessionContext) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if i := s.SessionIssuer; i != nil {
		b = append(appendName(b, "sessionIssuer"), '{')
		b = appendText(b, "type", i.Type)
		b = appendText(b, "principalId", i.PrincipalID)
		b = appendText(b, "arn", i.ARN)
		b = appendText(b, "accountId", i.AccountID)
		b = appendOptional(b, "userName", i.UserName)
		b = append(b, '}')
	}
	if a := s.Attributes; a != nil {
		b = append(appendName(b, "attributes"), '{')
		b = appendTime(appendName(b, "creationDate"), a.CreationDate)
		authenticated := "false" // a string in CloudTrail too
		if a.MFAAuthenticated {
			authenticated = "true"
		}
		b = appendText(b, "mfaAuthenticated", authenticated)
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendName appends the name of a member of the object that b ends in.
func appendName[T string | []byte](b []byte, name T) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(jsontext.AppendString(b, name), ':')
}

func appendText(b []byte, name, value string) []byte {
	return jsontext.AppendString(appendName(b, name), value)
}

// appendOptional appends nothing for the empty string.
func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(b, name, value)
}

func appendBool(b []byte, name string, value bool) []byte {
	b = appendName(b, name)
	if value {
		return append(b, "true"...)
	}
	return append(b, "false"...)
}

// appendTime appends t as CloudTrail prints it: "2026-01-31T23:59:59Z".
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05Z"`)
}
