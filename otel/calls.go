package otel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// Attributes of spans. Those of the semantic conventions have the names of version 1.43.0.
const (
	rpcSystemKey  = attribute.Key("rpc.system.name")
	rpcMethodKey  = attribute.Key("rpc.method")
	statusCodeKey = attribute.Key("rpc.response.status_code")
	errorTypeKey  = attribute.Key("error.type")
	requestIDKey  = attribute.Key("aws.request_id")
	regionKey     = attribute.Key("cloud.region")
	keyARNKey     = attribute.Key("kms.key.arn")
	keySpecKey    = attribute.Key("kms.key.spec")
	refusalKey    = attribute.Key("kms.authorization.refusal")
)

const (
	resultKey     = attribute.Key("result")
	succeeded     = "OK"
	otherCode     = "_OTHER" // as in the semantic conventions
	maxCodes      = 100      // of an operation; the API has 51
	internalError = string(kms.KMSInternalException)
)

// calls are the metrics and spans of calls.
type calls struct {
	tracer      trace.Tracer // nil: no spans
	count       metric.Int64Counter
	duration    metric.Float64Histogram
	refusals    metric.Int64Counter
	pendingUses metric.Int64Counter
	operations  map[string]*operation

	implicit, explicit []metric.AddOption
}

// An operation is what is the same in all calls of an operation.
type operation struct {
	name, span       string
	internal, server []trace.SpanStartOption
	duration         []metric.RecordOption
	ok               []metric.AddOption
	codes            sync.Map // other codes: string to []metric.AddOption
	known            atomic.Int32
}

func newCalls(meter metric.Meter, tracer trace.Tracer) (*calls, error) {
	b := &builder{Meter: meter}
	c := &calls{
		tracer:      tracer,
		count:       b.counter("kms.operations", "", "Calls of operations, by the exception that they ended with, or OK."),
		duration:    b.duration("kms.operation.duration", "Time of calls, without that of the audit sink."),
		refusals:    b.counter("kms.authorization.refusals", "", "Calls that authorization refused, or would have refused in the mode Observe."),
		pendingUses: b.counter("kms.pending_deletion.use_attempts", "", "Calls that failed because their key is pending deletion."),
		operations:  map[string]*operation{},
		implicit:    with(resultKey.String("implicit_deny")),
		explicit:    with(resultKey.String("explicit_deny")),
	}
	if b.err != nil {
		return nil, b.err
	}
	ctx := context.Background()
	for _, op := range kms.Operations() {
		name := op.Name()
		attributes := trace.WithAttributes(rpcSystemKey.String("aws-api"), rpcMethodKey.String("KMS/"+name))
		o := &operation{
			name:     name,
			span:     "KMS/" + name,
			internal: []trace.SpanStartOption{attributes, trace.WithSpanKind(trace.SpanKindInternal)},
			server:   []trace.SpanStartOption{attributes, trace.WithSpanKind(trace.SpanKindServer)},
			duration: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("operation", name)))},
		}
		o.ok = o.withCode(succeeded)
		c.operations[name] = o
		for _, code := range []string{succeeded, string(kms.ThrottlingException), internalError} {
			c.count.Add(ctx, 0, o.options(code)...) // so that the first one is an increase, for an alarm
		}
	}
	c.refusals.Add(ctx, 0, c.implicit...)
	c.refusals.Add(ctx, 0, c.explicit...)
	c.pendingUses.Add(ctx, 0)
	return c, nil
}

func with(attributes ...attribute.KeyValue) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attributes...))}
}

func (o *operation) withCode(code string) []metric.AddOption {
	return with(attribute.String("operation", o.name), attribute.String("code", code))
}

// options returns those for a code. An interceptor can make up any number of codes.
func (o *operation) options(code string) []metric.AddOption {
	if code == succeeded {
		return o.ok
	}
	if known, ok := o.codes.Load(code); ok {
		return known.([]metric.AddOption)
	}
	if o.known.Add(1) > maxCodes {
		return o.withCode(otherCode)
	}
	known, _ := o.codes.LoadOrStore(code, o.withCode(code))
	return known.([]metric.AddOption)
}

// around returns an interceptor that measures calls with inner around them, which may be nil.
func (c *calls) around(inner kms.Interceptor) kms.Interceptor {
	return func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (out any, err error) {
		op := c.operations[call.Operation.Name()]
		var span trace.Span
		if c.tracer != nil {
			ctx, span = c.start(ctx, op)
		}
		begin := time.Now()
		code := internalError // if the call panics
		defer func() { c.end(ctx, op, call, span, time.Since(begin), code) }()
		if inner != nil {
			out, err = inner(ctx, call, next)
		} else {
			out, err = next(ctx)
		}
		code = codeOf(err)
		return out, err
	}
}

func (c *calls) start(ctx context.Context, op *operation) (context.Context, trace.Span) {
	options := op.internal
	if trace.SpanContextFromContext(ctx).IsRemote() { // nothing else in this process has made a span of the request
		options = op.server
	}
	return c.tracer.Start(ctx, op.span, options...)
}

func (c *calls) end(ctx context.Context, op *operation, call kms.Call, span trace.Span, duration time.Duration, code string) {
	c.count.Add(ctx, 1, op.options(code)...)
	c.duration.Record(ctx, duration.Seconds(), op.duration...)
	switch call.Outcome.Refusal {
	case kms.VerdictImplicitDeny:
		c.refusals.Add(ctx, 1, c.implicit...)
	case kms.VerdictExplicitDeny:
		c.refusals.Add(ctx, 1, c.explicit...)
	}
	if code == string(kms.KMSInvalidStateException) {
		switch call.Outcome.KeyState {
		case kms.KeyStatePendingDeletion, kms.KeyStatePendingReplicaDeletion:
			c.pendingUses.Add(ctx, 1)
		}
	}
	if span == nil {
		return
	}
	if span.IsRecording() {
		describe(span, call, code)
	}
	span.End()
}

// describe sets the attributes and the status of the span of a call that has ended.
func describe(span trace.Span, call kms.Call, code string) {
	o := call.Outcome
	attributes := append(make([]attribute.KeyValue, 0, 7), statusCodeKey.String(code), regionKey.String(call.Service.Region()))
	if !o.RequestID.IsZero() {
		attributes = append(attributes, requestIDKey.String(o.RequestID.String()))
	}
	if o.KeyARN != "" {
		attributes = append(attributes, keyARNKey.String(o.KeyARN), keySpecKey.String(string(o.KeySpec)))
	}
	if o.Refusal != "" {
		attributes = append(attributes, refusalKey.String(string(o.Refusal)))
	}
	if code != succeeded && code != string(kms.DryRunOperationException) {
		attributes = append(attributes, errorTypeKey.String(code))
		span.SetStatus(codes.Error, code) // without the message, which may repeat input
	}
	span.SetAttributes(attributes...)
}

// codeOf returns the exception that a caller gets for err, or what else ended the call.
func codeOf(err error) string {
	if err == nil {
		return succeeded
	}
	exception, ok := err.(*kms.Error) // one that is wrapped is not of this service
	switch {
	case ok:
		return string(exception.Code)
	case errors.Is(err, kms.ErrClosed), errors.Is(err, keystore.ErrClosed):
		return "Closed"
	case errors.Is(err, context.Canceled):
		return "Canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "DeadlineExceeded"
	}
	return internalError
}
