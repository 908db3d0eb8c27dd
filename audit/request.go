package audit

import "context"

// A Request is what a protocol in front of the service knows of the request that a call came by.
type Request struct {
	// ID is the request's ID, a UUID, which the event and the key's last usage then have too. Zero leaves it to the
	// service.
	ID [16]byte
	// SourceIPAddress is where the request came from, and UserAgent what the caller said of its program. Empty means
	// Internal.
	SourceIPAddress, UserAgent string
}

type requestKey struct{}

type requestContext struct {
	context.Context
	request Request
}

func (c *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return &c.request
	}
	return c.Context.Value(key)
}

// WithRequest returns a context whose calls, one or more, came by r.
func WithRequest(ctx context.Context, r Request) context.Context { return &requestContext{ctx, r} }

// RequestOf returns what WithRequest put into ctx; the zero Request if nothing.
func RequestOf(ctx context.Context) Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return *r
	}
	return Request{}
}
