package kms

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/uuid"
)

// record gives the audit sink the event of a call that has ended in out or in
// err.
func (op *operation[In, Out]) record(c *call, in *In, out *Out, err error) error {
	request := audit.RequestOf(c.ctx)
	e := &audit.Event{
		EventVersion:       audit.EventVersion,
		UserIdentity:       userIdentity(c.caller),
		EventTime:          c.now.UTC(),
		EventSource:        audit.EventSource,
		EventName:          op.name,
		AWSRegion:          c.region,
		SourceIPAddress:    cmp.Or(request.SourceIPAddress, audit.Internal),
		UserAgent:          cmp.Or(request.UserAgent, audit.Internal),
		RequestID:          uuid.Format(c.requestID()),
		EventID:            uuid.Format(c.eventID()),
		RequestParameters:  op.parameters(in),
		ReadOnly:           op.readOnly,
		EventType:          audit.APICall,
		ManagementEvent:    true,
		RecipientAccountID: c.caller.account,
		EventCategory:      audit.Management,
	}
	if err != nil {
		e.ErrorCode, e.ErrorMessage = told(wrapError(c.ctx, err, op.name))
	} else {
		e.AdditionalEventData = c.keyMaterials()
	}
	for i := range c.count {
		k := c.targets[i].key
		if k.alias != "" {
			continue // it is not there yet
		}
		e.Resources = append(e.Resources, audit.Resource{AccountID: k.ref.account, Type: audit.KeyResource, ARN: k.arn})
	}
	if err == nil && !op.readOnly {
		e.ResponseElements = op.out.Public(out)
		if len(op.out.Members) == 0 && c.count > 0 {
			e.ResponseElements = map[string]any{"keyId": c.targets[c.count-1].arn}
		}
	}
	return c.config.Audit.Record(context.WithoutCancel(c.ctx), e) // what was done is told, though its caller has left
}

// told is what an event says of the error that a caller gets.
func told(err error) (code, message string) {
	var failure *Error
	switch {
	case !errors.As(err, &failure):
		return string(KMSInternalException), ""
	case failure.Code == AccessDeniedException:
		return "AccessDenied", failure.Message // as CloudTrail prints it
	}
	return string(failure.Code), failure.Message
}

// parameters are the members of in that may be told. Encryption algorithms are
// always among them.
func (op *operation[In, Out]) parameters(in *In) map[string]any {
	parameters := op.in.Public(in)
	if op.tell != nil {
		if parameters == nil {
			parameters = make(map[string]any)
		}
		op.tell(in, parameters)
	}
	for i := range op.in.Members {
		m := &op.in.Members[i]
		if parameters[m.Path] == nil && op.in.Type.Field(m.Index).Type == reflect.TypeFor[EncryptionAlgorithmSpec]() {
			if parameters == nil {
				parameters = make(map[string]any)
			}
			parameters[m.Path] = string(EncryptionAlgorithmSymmetricDefault)
		}
	}
	return parameters
}

// keyMaterials names the materials of symmetric keys that the call has used.
func (c *call) keyMaterials() map[string]any {
	switch {
	case c.openedBy != nil && c.sealedBy != nil:
		return map[string]any{"sourceKeyMaterialId": c.openedBy.id, "destinationKeyMaterialId": c.sealedBy.id}
	case c.openedBy != nil:
		return map[string]any{"keyMaterialId": c.openedBy.id}
	case c.sealedBy != nil:
		return map[string]any{"keyMaterialId": c.sealedBy.id}
	}
	return nil
}

// forgive tells whether a call may go on whose event the sink refused. If so,
// the operator hears of it.
func (c *core) forgive(failure error) bool {
	if c.config.AuditBestEffort {
		c.complain(&c.unrecorded, "kms: events are not recorded", failure)
	}
	return c.config.AuditBestEffort
}

// complain logs what goes wrong again and again, once a minute at most. last is
// when it did so, in seconds since 1970.
func (c *core) complain(last *atomic.Int64, message string, err error) {
	now := c.config.Clock().Unix()
	if then := last.Load(); now-then >= 60 && last.CompareAndSwap(then, now) {
		c.config.Logger.Error(message, "error", err)
	}
}

// notRecorded is the failure of a call whose event the audit sink refused. The
// sink's error says why, but is not the call's own: it may be an exception of
// another service, or a context's.
func notRecorded(failure error) *Error {
	return &Error{
		Code:    KMSInternalException,
		Message: "The request could not be completed: the call could not be recorded: " + failure.Error(),
		cause:   foreignError{failure},
	}
}

func userIdentity(p Principal) audit.UserIdentity {
	u := audit.UserIdentity{ARN: p.arn, AccountID: p.account, PrincipalID: p.account}
	_, name, _ := strings.Cut(p.arn, "/")
	switch p.kind {
	case principalNobody:
		u.Type = audit.Unknown
	case principalRoot:
		u.Type = audit.Root
	case principalUser:
		u.Type = audit.IAMUser
		u.UserName = name[strings.LastIndexByte(name, '/')+1:]
		u.PrincipalID = u.UserName
	case principalRole:
		u.Type, u.PrincipalID = audit.Role, name[strings.LastIndexByte(name, '/')+1:]
	case principalAssumedRole:
		u.Type, u.PrincipalID = audit.AssumedRole, strings.Replace(name, "/", ":", 1)
	case principalFederatedUser:
		u.Type, u.PrincipalID = audit.FederatedUser, p.account+":"+name
	}
	return u
}
