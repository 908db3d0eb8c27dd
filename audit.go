package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/pocketkms/kms/audit"
)

// A recording is an event with its resources, in one allocation.
type recording struct {
	event     audit.Event
	resources [1]audit.Resource
}

// record gives the audit sink the event of a call that has ended in out or in err. A panic of the
// sink is a failure like any other.
func (op *operation[In, Out]) record(c *call, in *In, out *Out, err error) error {
	r := new(recording)
	e, b, info := &r.event, &c.builder, audit.RequestInfoFromContext(c.ctx)
	e.UserIdentity = c.identity
	if info.AccessKeyID != "" {
		identity := *c.identity
		identity.AccessKeyID = info.AccessKeyID
		e.UserIdentity = &identity
	}
	e.EventTime = c.now.UTC()
	e.EventName = op.name
	e.AWSRegion = c.region
	if c.astray {
		e.AWSRegion = fmt.Sprintf("%.100s", c.region) // it may be any text
	}
	e.SourceIPAddress = cmp.Or(info.SourceIPAddress, audit.AWSInternal)
	e.UserAgent = cmp.Or(info.UserAgent, audit.AWSInternal)
	e.TLSDetails = info.TLS
	if e.RequestID = info.ID; e.RequestID.IsZero() {
		e.RequestID = c.uuid(callID)
	}
	e.EventID = c.eventID()
	e.ReadOnly = op.readOnly
	e.EventType = audit.APICall
	e.RecipientAccountID = c.caller.account

	limit := audit.MaxSucceededBytes
	if err != nil {
		limit = audit.MaxFailedBytes
	}
	b.Buffer(c.scratch)
	b.Start(&e.RequestParameters, "requestParameters", limit)
	if op.logged != nil {
		in = op.logged(in)
	}
	op.in.VisitLoggableWithDefaults(in, b)
	if err != nil {
		e.SetError(eventError(wrapError(c.ctx, err, op.name)))
	} else {
		b.Start(&e.AdditionalEventData, "additionalEventData", limit)
		c.addKeyMaterials(b)
		if !op.readOnly {
			b.Start(&e.ResponseElements, "responseElements", limit)
			op.out.VisitLoggable(out, b)
			if len(op.out.Members) == 0 && c.count > 0 {
				b.String("keyId", c.targets[c.count-1].arn)
			}
		}
	}
	c.scratch = b.Finish()
	e.Resources = r.resources[:0]
	for i := range c.count {
		k := c.targets[i].key
		if k.alias != "" {
			continue // it does not exist yet
		}
		e.Resources = append(e.Resources, audit.Resource{AccountID: k.ref.account, Type: audit.KeyResource, ARN: k.arn})
	}
	if alias := op.members.aliasName.Of(in); alias != "" && c.count > 0 {
		arn := c.aliasARN(aliasRef{c.caller.account, c.region, alias})
		e.Resources = append(e.Resources, audit.Resource{AccountID: c.caller.account, Type: audit.KeyResource, ARN: arn})
	}

	ctx := c.ctx
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx) // the call has been made, even if its caller has left
	}
	return c.contain("audit", func() error { return c.config.Audit.Record(ctx, e) })
}

// eventError returns what an event has of the error that a caller gets.
func eventError(err error) (code, message string) {
	var failure *Error
	switch {
	case !errors.As(err, &failure):
		return string(KMSInternalException), ""
	case failure.Code == AccessDeniedException:
		return "AccessDenied", failure.Message // as CloudTrail prints it
	}
	return string(failure.Code), failure.Message
}

// addKeyMaterials names the materials of symmetric keys that the call has used.
func (c *call) addKeyMaterials(b *audit.Builder) {
	switch {
	case c.openedBy != nil && c.sealedBy != nil:
		b.String("destinationKeyMaterialId", c.sealedBy.id)
		b.String("sourceKeyMaterialId", c.openedBy.id)
	case c.openedBy != nil:
		b.String("keyMaterialId", c.openedBy.id)
	case c.sealedBy != nil:
		b.String("keyMaterialId", c.sealedBy.id)
	}
}

// mayGoUnrecorded reports whether a call succeeds whose event the sink refused with err. The
// operator learns of the refusal in any case.
func (c *core) mayGoUnrecorded(err error) bool {
	c.logRarely(&c.unrecorded, "kms: events are not recorded", err)
	return c.config.AuditBestEffort
}

// logRarely logs what goes wrong again and again, at most once a minute. last is when it did so, in
// seconds since 1970.
func (c *core) logRarely(last *atomic.Int64, message string, err error) {
	now := c.config.Clock().Unix()
	if then := last.Load(); now-then >= 60 && last.CompareAndSwap(then, now) {
		c.config.Logger.Error(message, "error", err)
	}
}

// unrecordedError returns the failure of a call whose event the sink refused with err. That error
// is not the call's own: it may be an exception of another service, or a context's.
func unrecordedError(err error) *Error {
	return &Error{
		Code:    KMSInternalException,
		Message: "The request could not be completed: the call could not be recorded: " + err.Error(),
		cause:   foreignError{err},
	}
}

// identityOf returns the identity of p for events; nil if there are none.
func (c *core) identityOf(p Principal) *audit.UserIdentity {
	if c.config.Audit == nil {
		return nil
	}
	u := userIdentity(p)
	return &u
}

func userIdentity(p Principal) audit.UserIdentity {
	u := audit.UserIdentity{ARN: p.arn, AccountID: p.account, PrincipalID: p.account}
	_, name, _ := strings.Cut(p.arn, "/")
	switch p.kind {
	case principalNobody:
		u.Type = audit.IdentityUnknown
	case principalRoot:
		u.Type = audit.IdentityRoot
	case principalUser:
		u.Type = audit.IdentityIAMUser
		u.UserName = name[strings.LastIndexByte(name, '/')+1:]
		u.PrincipalID = u.UserName
	case principalRole:
		u.Type, u.PrincipalID = audit.IdentityRole, name[strings.LastIndexByte(name, '/')+1:]
	case principalAssumedRole:
		role, session, _ := strings.Cut(name, "/")
		u.Type, u.PrincipalID = audit.IdentityAssumedRole, role+":"+session
		u.SessionContext = &audit.SessionContext{SessionIssuer: &audit.SessionIssuer{
			Type:        "Role",
			PrincipalID: role,
			ARN:         "arn:" + p.Partition() + ":iam::" + p.account + ":role/" + role, // a session does not know its role's path
			AccountID:   p.account,
			UserName:    role,
		}}
	case principalFederatedUser:
		u.Type, u.PrincipalID = audit.IdentityFederatedUser, p.account+":"+name
	}
	return u
}
