package kms

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/uuid"
)

// A call is the state of one request. It is used again for later ones: nothing may keep it, or its
// scratch, after the request.
type call struct {
	ctx     context.Context
	svc     *Service // the view that it was made on
	op      *description
	now     time.Time
	nonce   uint64    // of its identifiers; 0 until one is needed
	targets [2]target // the second is only ReEncrypt's destination and UpdateAlias's new key
	count   int       // of targets
	scratch []byte
	builder *audit.Builder // of audit events; nil until there is one
}

// A target is a key that a call is about, with the permission that it takes.
type target struct {
	key          *keydb.Key
	permission   string
	byCiphertext bool            // only a ciphertext named the key
	namedBy      string          // what a caller of another account named the key by
	material     *keydb.Material // that the call used, if it encrypted or decrypted
}

var calls = sync.Pool{New: func() any { return new(call) }}

// begin returns the call of an operation on s, to be ended.
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

// end gives the call back, with nothing of it but its memory.
func (c *call) end() {
	c.clearTargets()
	c.ctx, c.svc, c.op, c.now, c.nonce = nil, nil, nil, time.Time{}, 0
	if cap(c.scratch) <= 4*ciphertext.MaxContextBytes {
		calls.Put(c)
	}
}

// errPanic is all that a caller learns of a panic.
var errPanic = exception(KMSInternalException, "The request could not be completed.")

// recovered returns errPanic if do panics. The panic's value is not logged: it could hold anything.
func (c *call) recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.svc.core.config.Logger.Error("kms: an operation panicked", "operation", c.op.name, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return do()
}

// key returns the call's first key.
func (c *call) key() *keydb.Key { return c.targets[0].key }

func (c *call) clearTargets() {
	clear(c.targets[:c.count])
	c.count = 0
}

// requestID returns the ID of the request, and eventID that of its audit event: UUIDs, made when one
// is needed. They are identifiers, not secrets.
func (c *call) requestID() [16]byte {
	if id := audit.RequestInfoFromContext(c.ctx).ID; !id.IsZero() {
		return id
	}
	return c.uuid(requestIDs)
}

func (c *call) eventID() [16]byte { return c.uuid(eventIDs) }

// The kinds of identifiers.
const (
	requestIDs = iota
	eventIDs
)

// uuid returns an identifier: random bits of the service, which differ by kind, and then the nonce.
func (c *call) uuid(kind int) [16]byte {
	for c.nonce == 0 {
		c.nonce = rand.Uint64()
	}
	var id [16]byte
	copy(id[:8], c.svc.core.idPrefixes[kind][:])
	binary.BigEndian.PutUint64(id[8:], c.nonce)
	return uuid.Of(id)
}

// recordUse notes the last use of the call's keys.
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
