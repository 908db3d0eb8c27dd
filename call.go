package kms

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/uuid"
)

// A call is the state of one request. It is reused for later requests: nothing may keep it or its
// scratch memory after the request.
type call struct {
	ctx                   context.Context
	svc                   *Service // the view that the call was made on
	op                    *description
	now                   time.Time
	nonce                 uint64    // of the call's identifiers; 0 until one is needed
	targets               [2]target // the second is only ReEncrypt's destination and UpdateAlias's new key
	count                 int       // the number of targets
	charged               bool      // it has been counted against the request quotas
	scratch               []byte
	contexts              ciphertext.ContextAppender // it remembers the keys of encryption contexts beyond the request
	contextAt, contextEnd int                        // where scratch has the canonical encryption context that was used last
	input                 any                        // a pointer to the operation's input
	wire                  *shape.Wire                // the input's form on the wire, if it came over one
	retiring              *keydb.Grant               // that RetireGrant is about, if it exists
	question              question                   // that is being decided
	identity              *identity                  // of the caller; nil until it is needed
	info                  audit.RequestInfo          // of the request, once hasInfo is true
	hasInfo               bool
	observed              string         // the first refusal that Observe let pass
	denied                bool           // a refusal was an explicit deny
	trace                 *trace         // of Explain; nil for a call
	builder               *audit.Builder // nil until there is an audit event
	lent                  *recording     // to a sink that borrows events; nil until one was
}

// A target is a key that a call uses, with the permission that the caller needs for it.
type target struct {
	key          *keydb.Key
	permission   string
	identifier   string          // the KeyId that named the key, if one did
	byCiphertext bool            // the key was named only by a ciphertext
	foreign      bool            // the key was named, and is in another account than the caller
	material     *keydb.Material // set if the call encrypted or decrypted with a symmetric key
}

// materialID returns the ID of the key material that the call used, or "" if the key is not
// symmetric, or in a custom key store.
func (t *target) materialID() string {
	if t.material == nil || t.key.Record.CustomKeyStore != "" {
		return ""
	}
	return t.material.ID
}

var calls = sync.Pool{New: func() any { return new(call) }}

// begin returns a call of an operation on s. The caller must end it.
func begin(ctx context.Context, s *Service, op *description) (*call, error) {
	if ctx == nil { // tolerated, although it is a mistake
		ctx = context.Background()
	}
	if s == nil || s.core == nil {
		return nil, &Error{Code: KMSInternalException, Operation: op.name, Message: "The Service is nil or was not made by New or Open."}
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	c := calls.Get().(*call)
	c.ctx, c.svc, c.op = ctx, s, op
	return c, nil
}

// end clears the call and returns it to the pool. It leaves ctx, svc and op, which begin sets: writes
// of pointers are expensive while garbage is collected, and the pool soon drops what nobody takes.
func (c *call) end() {
	c.clearTargets()
	c.now, c.nonce, c.charged = time.Time{}, 0, false
	c.input, c.observed, c.denied, c.trace = nil, "", false, nil
	if c.hasInfo {
		c.info, c.hasInfo = audit.RequestInfo{}, false
	}
	if c.wire != nil {
		c.wire = nil
	}
	if c.lent != nil {
		*c.lent = recording{}
	}
	if cap(c.scratch) <= 4*ciphertext.MaxContextBytes {
		calls.Put(c)
	}
}

// errPanic is the error that a caller gets if a call panics.
var errPanic = exception(KMSInternalException, "The request could not be completed.")

// recover, when it is deferred, sets *err to errPanic if the function panics. The panic's value is
// not logged: it could hold anything.
func (c *call) recover(err *error) {
	if p := recover(); p != nil {
		c.svc.core.config.Logger.Error("kms: an operation panicked", "operation", c.op.name, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = errPanic
	}
}

// recovered returns errPanic if do panics.
func (c *call) recovered(do func() error) (err error) {
	defer c.recover(&err)
	return do()
}

// key returns the call's first key.
func (c *call) key() *keydb.Key { return c.targets[0].key }

// context returns the canonical encryption context that the call has used last, or nil if it has used
// none, or an empty one. It is valid until the call's next use of its scratch.
func (c *call) context() []byte {
	if c.contextAt == c.contextEnd {
		return nil
	}
	return c.scratch[c.contextAt:c.contextEnd]
}

func (c *call) clearTargets() {
	for i := range c.count {
		c.targets[i] = target{}
	}
	c.count, c.contextAt, c.contextEnd, c.retiring, c.identity = 0, 0, 0, nil, nil
	if c.question.call != nil {
		c.question = question{}
	}
}

// requestInfo returns what is known of the request.
func (c *call) requestInfo() *audit.RequestInfo {
	if !c.hasInfo {
		c.info, c.hasInfo = audit.RequestInfoFromContext(c.ctx), true
	}
	return &c.info
}

// requestID returns the ID of the request, and eventID the ID of its audit event. Both are UUIDs:
// identifiers, not secrets.
func (c *call) requestID() [16]byte {
	id := audit.RequestInfoFromContext(c.ctx).ID
	if id.IsZero() {
		c.putUUID(&id, requestIDs)
	}
	return id
}

func (c *call) eventID() (id audit.UUID) {
	c.putUUID(&id, eventIDs)
	return id
}

// The kinds of identifiers.
const (
	requestIDs = iota
	eventIDs
)

// putUUID sets *id to an identifier: random bits of the service, which differ by kind, followed by
// the nonce.
func (c *call) putUUID(id *audit.UUID, kind int) {
	for c.nonce == 0 {
		c.nonce = rand.Uint64()
	}
	uuid.Put((*[16]byte)(id), c.svc.core.idPrefixes[kind], c.nonce)
}

// recordUse records that the call used its keys, for GetKeyLastUsage.
func (c *call) recordUse() error {
	for i := range c.count {
		k := c.targets[i].key
		if !k.Used(c.op.name, c.now) {
			c.svc.core.db.NoteUse(k, keydb.Use{Operation: c.op.name, Time: c.now, RequestID: c.requestID(), EventID: c.eventID()})
		}
	}
	if c.svc.core.closed.Load() { // Close may have stored the last uses before this one
		return ErrClosed
	}
	return nil
}
