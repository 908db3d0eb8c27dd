package kms

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/uuid"
)

// record is the step record: it gives the audit sink the event of a call that ended in out or in err.
// It returns err, or the failure to record it.
func (op *operation[In, Out]) record(c *call, in *In, out *Out, err error) error {
	if c.now.IsZero() { // the clock panicked
		c.now = time.Now()
	}
	request := audit.RequestOf(c.ctx)
	e := &audit.Event{
		EventVersion:       audit.EventVersion,
		UserIdentity:       userIdentity(c.svc.caller),
		EventTime:          c.now.UTC(),
		EventSource:        audit.EventSource,
		EventName:          op.name,
		AWSRegion:          c.svc.region,
		SourceIPAddress:    cmp.Or(request.SourceIPAddress, audit.Internal),
		UserAgent:          cmp.Or(request.UserAgent, audit.Internal),
		RequestID:          uuid.Format(c.requestID()),
		EventID:            uuid.Format(c.eventID()),
		RequestParameters:  op.parameters(in),
		ReadOnly:           op.readOnly,
		EventType:          audit.APICall,
		ManagementEvent:    true,
		RecipientAccountID: c.svc.caller.account,
		EventCategory:      audit.Management,
	}
	if err != nil {
		e.ErrorCode, e.ErrorMessage = told(wrapError(c.ctx, err, op.name))
	} else {
		e.AdditionalEventData = c.keyMaterials()
	}
	for i := range c.count {
		k := c.targets[i].key
		if !k.Stored() {
			continue
		}
		e.Resources = append(e.Resources, audit.Resource{AccountID: k.Account, Type: audit.KeyResource, ARN: k.ARN})
	}
	if err == nil && !op.readOnly {
		e.ResponseElements = op.out.Public(out)
		if len(op.out.Members) == 0 && c.count > 0 {
			e.ResponseElements = map[string]any{"keyId": c.targets[c.count-1].key.ARN}
		}
	}
	// What was done is recorded even if the caller is gone.
	failure := c.svc.core.config.Audit.Record(context.WithoutCancel(c.ctx), e)
	switch {
	case failure == nil:
		return err
	case c.svc.core.config.AuditBestEffort:
		c.svc.core.unrecorded.Error(c.svc.core.config.Logger, c.now, "kms: events are not recorded", failure)
		return err
	}
	return auditFailed(failure)
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
	if op.auditParameters != nil {
		if parameters == nil {
			parameters = make(map[string]any)
		}
		op.auditParameters(in, parameters)
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

// keyMaterials returns the materials of symmetric keys that the call has used.
func (c *call) keyMaterials() map[string]any {
	first, second := c.targets[0].material, c.targets[1].material
	switch {
	case first != nil && second != nil:
		return map[string]any{"sourceKeyMaterialId": first.ID, "destinationKeyMaterialId": second.ID}
	case first != nil:
		return map[string]any{"keyMaterialId": first.ID}
	}
	return nil
}

// auditFailed is the failure of a call whose event the audit sink refused. The
// sink's error says why, but is not the call's own: it may be an exception of
// another service, or a context's.
func auditFailed(failure error) *Error {
	return &Error{
		Code:    KMSInternalException,
		Message: "The request could not be completed: the call could not be recorded: " + failure.Error(),
		cause:   opaqueCause{failure},
	}
}

func userIdentity(p Principal) audit.UserIdentity {
	u := audit.UserIdentity{ARN: p.arn, AccountID: p.account, PrincipalID: p.account}
	_, name, _ := strings.Cut(p.arn, "/")
	switch p.kind {
	case principalAnonymous:
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
