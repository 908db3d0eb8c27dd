package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
)

// A recording is an event with its resources, in one allocation.
type recording struct {
	event     audit.Event
	resources [1]audit.Resource
}

// record is the step record: it gives the audit sink the event of a call with the result out or
// err. It returns err, or an error if the event could not be recorded.
func (op *operation[In, Out]) record(c *call, in *In, out *Out, err error) error {
	if c.now.IsZero() { // the clock panicked
		c.now = time.Now()
	}
	if c.builder == nil {
		c.builder = new(audit.Builder)
	}
	r, lend := c.lent, c.svc.core.lendEvents
	if r == nil || !lend {
		r = new(recording)
	}
	if lend {
		c.lent = r
	}
	e, b, info := &r.event, c.builder, audit.RequestInfoFromContext(c.ctx)
	e.UserIdentity = c.svc.identity
	if info.AccessKeyID != "" {
		identity := *c.svc.identity
		identity.AccessKeyID = info.AccessKeyID
		e.UserIdentity = &identity
	}
	e.EventTime = c.now.UTC()
	e.EventName = op.name
	e.AWSRegion = c.svc.region
	if c.svc.badRegion {
		e.AWSRegion = fmt.Sprintf("%.100s", c.svc.region) // it can be any text
	}
	e.SourceIPAddress = cmp.Or(info.SourceIPAddress, audit.AWSInternal)
	e.UserAgent = cmp.Or(info.UserAgent, audit.AWSInternal)
	e.TLSDetails = info.TLS
	if e.RequestID = info.ID; e.RequestID.IsZero() {
		c.putUUID(&e.RequestID, requestIDs)
	}
	c.putUUID(&e.EventID, eventIDs)
	e.ReadOnly = op.readOnly
	e.EventType = audit.APICall
	e.RecipientAccountID = c.svc.caller.account
	if e.RecipientAccountID == "" && c.count > 0 { // a service has no account
		e.RecipientAccountID = c.key().Account
	}

	limit := audit.MaxSucceededBytes
	if err != nil {
		limit = audit.MaxFailedBytes
	}
	b.Sorted("encryptionContext", c.context()) // of no operation with two contexts
	b.Start(&e.RequestParameters, "requestParameters", limit)
	if op.logged != nil {
		in = op.logged(in)
	}
	op.in.VisitLoggableWithDefaults(in, b)
	if err != nil {
		e.SetError(eventError(wrapError(c.ctx, err, op.name)))
		if c.observed != "" {
			b.Start(&e.AdditionalEventData, "additionalEventData", limit)
			c.addObservedRefusal(b)
		}
	} else {
		b.Start(&e.AdditionalEventData, "additionalEventData", limit)
		c.addStores(b)
		c.addKeyMaterials(b)
		c.addObservedRefusal(b)
		if !op.readOnly {
			b.Start(&e.ResponseElements, "responseElements", limit)
			op.out.VisitLoggable(out, b)
			if _, has := op.out.Member("KeyId"); !has && c.count > 0 {
				b.String("keyId", c.targets[c.count-1].key.ARN)
			}
		}
	}
	b.Finish(lend)
	e.Resources = r.resources[:0]
	for i := range c.count {
		k := c.targets[i].key
		if k.Stored() {
			e.Resources = append(e.Resources, audit.Resource{AccountID: k.Account, Type: audit.KeyResource, ARN: k.ARN})
		}
	}
	if alias := op.aliasName.Of(in); alias != "" && c.count > 0 {
		e.Resources = append(e.Resources, audit.Resource{AccountID: c.svc.caller.account, Type: audit.KeyResource, ARN: c.callerAlias(alias).ARN()})
	}

	ctx := c.ctx
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx) // record the call even if its caller has canceled it
	}
	var failure error
	if panicked := c.recovered(func() error { failure = c.svc.core.config.Audit.Record(ctx, e); return nil }); panicked != nil {
		failure = panicked
	}
	if failure == nil {
		return err
	}
	c.svc.core.unrecorded.Error(c.svc.core.config.Logger, c.now, "kms: events are not recorded", failure)
	if c.svc.core.config.AuditBestEffort {
		return err
	}
	return unrecordedError(failure)
}

// eventError returns the code and message that the event has for the error of a call.
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

// addKeyMaterials adds the IDs of the key materials that the call encrypted or decrypted with.
func (c *call) addKeyMaterials(b *audit.Builder) {
	if c.count < 2 {
		if id := c.targets[0].materialID(); id != "" {
			b.String("keyMaterialId", id)
		}
		return
	}
	if id := c.targets[1].materialID(); id != "" {
		b.String("destinationKeyMaterialId", id)
	}
	if id := c.targets[0].materialID(); id != "" {
		b.String("sourceKeyMaterialId", id)
	}
}

// addObservedRefusal adds the refusal that the call would have got without Observe.
func (c *call) addObservedRefusal(b *audit.Builder) {
	if c.observed != "" {
		b.String("observedRefusal", c.observed)
	}
}

// unrecordedError returns the error of a call whose event the sink refused with err. It hides the
// type of err, which could be an exception of another service or a context error.
func unrecordedError(err error) *Error {
	return &Error{
		Code:    KMSInternalException,
		Message: "The request could not be completed: the call could not be recorded: " + err.Error(),
		cause:   opaqueCause{err},
	}
}

// eventIdentity returns the identity of p for events, or nil if there is no sink.
func (c *core) eventIdentity(p Principal) *audit.UserIdentity {
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
	case iam.Anonymous:
		u.Type = audit.IdentityUnknown
	case iam.AccountRoot:
		u.Type = audit.IdentityRoot
	case iam.User:
		u.Type = audit.IdentityIAMUser
		u.UserName = name[strings.LastIndexByte(name, '/')+1:]
		u.PrincipalID = u.UserName
	case iam.Role:
		u.Type, u.PrincipalID = audit.IdentityRole, name[strings.LastIndexByte(name, '/')+1:]
	case iam.RoleSession:
		role, session, _ := strings.Cut(name, "/")
		issuer := "arn:" + p.Partition() + ":iam::" + p.account + ":role/" + role // without the role's path
		if p.identity != nil {
			issuer = p.identity.Issuer
		}
		u.Type, u.PrincipalID = audit.IdentityAssumedRole, role+":"+session
		u.SessionContext = &audit.SessionContext{SessionIssuer: &audit.SessionIssuer{
			Type:        "Role",
			PrincipalID: role,
			ARN:         issuer,
			AccountID:   p.account,
			UserName:    role,
		}}
	case iam.FederatedUser:
		u.Type, u.PrincipalID = audit.IdentityFederatedUser, p.account+":"+name
	case iam.Service:
		return audit.UserIdentity{Type: audit.IdentityAWSService, InvokedBy: p.arn}
	}
	return u
}
