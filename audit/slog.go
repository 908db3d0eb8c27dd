package audit

import (
	"context"
	"log/slog"
	"strconv"
)

// Slog returns a Sink that gives each event to l's handler and returns the handler's error. The
// record has the event's own time, the message "KMS " and the operation's name, and the event's
// fields under their CloudTrail names, without those that are the same in all events. Objects are
// groups, and so are lists, with numbers as names: "resources.0.ARN". What is empty is absent.
//
// The level is Info for a call that succeeded, Warn for one that was refused, and Error for one
// that failed for a reason of the service's own. An event below the handler's level is dropped,
// without an error.
func Slog(l *slog.Logger) Sink {
	h := l.Handler()
	return SinkFunc(func(ctx context.Context, e *Event) error {
		level := levelOf(e)
		if !h.Enabled(ctx, level) {
			return nil
		}
		// Not l.Log: it drops the handler's error.
		r := slog.NewRecord(e.EventTime, level, "KMS "+e.EventName, 0)
		r.AddAttrs(eventAttrs(e)...)
		return h.Handle(ctx, r)
	})
}

func levelOf(e *Event) slog.Level {
	switch e.ErrorCode {
	case "":
		return slog.LevelInfo
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException":
		return slog.LevelError
	}
	return slog.LevelWarn
}

// attrs is a list of attributes in the making, in which absent values leave no trace.
type attrs []slog.Attr

func (a *attrs) text(key, value string) {
	if value != "" {
		*a = append(*a, slog.String(key, value))
	}
}

func (a *attrs) group(key string, members attrs) {
	if len(members) > 0 {
		*a = append(*a, slog.Attr{Key: key, Value: slog.GroupValue(members...)})
	}
}

func eventAttrs(e *Event) attrs {
	var a attrs
	a.text("eventID", e.EventID.String())
	a.text("requestID", e.RequestID.String())
	a.text("sharedEventID", e.SharedEventID.String())
	a.text("eventType", e.EventType)
	a.text("eventName", e.EventName)
	a.text("errorCode", e.ErrorCode)
	a.text("errorMessage", e.ErrorMessage)
	if e.UserIdentity != nil {
		a.group("userIdentity", identityAttrs(e.UserIdentity))
	}
	a.text("awsRegion", e.AWSRegion)
	a.text("recipientAccountId", e.RecipientAccountID)
	a.text("sourceIPAddress", e.SourceIPAddress)
	a.text("userAgent", e.UserAgent)
	a = append(a, slog.Bool("readOnly", e.ReadOnly))
	var resources attrs
	for i, r := range e.Resources {
		var resource attrs
		resource.text("accountId", r.AccountID)
		resource.text("type", r.Type)
		resource.text("ARN", r.ARN)
		resources.group(strconv.Itoa(i), resource)
	}
	a.group("resources", resources)
	a.group("requestParameters", objectAttrs(e.RequestParameters))
	a.group("responseElements", objectAttrs(e.ResponseElements))
	a.group("additionalEventData", objectAttrs(e.AdditionalEventData))
	a.group("serviceEventDetails", objectAttrs(e.ServiceEventDetails))
	if t := e.TLSDetails; t != nil {
		var details attrs
		details.text("tlsVersion", t.TLSVersion)
		details.text("cipherSuite", t.CipherSuite)
		details.text("clientProvidedHostHeader", t.ClientProvidedHostHeader)
		details.text("keyExchange", t.KeyExchange)
		a.group("tlsDetails", details)
	}
	return a
}

func identityAttrs(u *UserIdentity) attrs {
	var a attrs
	a.text("type", string(u.Type))
	a.text("principalId", u.PrincipalID)
	a.text("arn", u.ARN)
	a.text("accountId", u.AccountID)
	a.text("accessKeyId", u.AccessKeyID)
	a.text("userName", u.UserName)
	if u.SessionContext != nil {
		a.group("sessionContext", sessionAttrs(u.SessionContext))
	}
	a.text("invokedBy", u.InvokedBy)
	return a
}

func sessionAttrs(s *SessionContext) attrs {
	var a, issuer, began attrs
	if i := s.SessionIssuer; i != nil {
		issuer.text("type", i.Type)
		issuer.text("principalId", i.PrincipalID)
		issuer.text("arn", i.ARN)
		issuer.text("accountId", i.AccountID)
		issuer.text("userName", i.UserName)
	}
	if b := s.Attributes; b != nil {
		began = attrs{
			slog.Time("creationDate", b.CreationDate),
			slog.Bool("mfaAuthenticated", b.MFAAuthenticated),
		}
	}
	a.group("sessionIssuer", issuer)
	a.group("attributes", began)
	return a
}

func objectAttrs(o Object) attrs {
	var a attrs
	for name, value := range o.All() {
		a = append(a, slog.Attr{Key: name, Value: slogValue(value)})
	}
	return a
}

// slogValue leaves nothing for a handler to look into by reflection, which each does in its own
// way.
func slogValue(v Value) slog.Value {
	switch v.kind() {
	case kindNull:
		return slog.StringValue("null")
	case kindObject:
		return slog.GroupValue(objectAttrs(v.Object())...)
	case kindList:
		var a attrs
		for element := range v.List() {
			a = append(a, slog.Attr{Key: strconv.Itoa(len(a)), Value: slogValue(element)})
		}
		return slog.GroupValue(a...)
	}
	return slog.AnyValue(v.Any())
}
