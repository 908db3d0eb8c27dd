package keydb

import "sync/atomic"

// Decisions keeps a bounded number of decisions about a key that depend on nothing but the
// snapshot, the principal and the permission. They are gone with the snapshot. Its zero value is
// empty, and its methods may be called concurrently.
type Decisions struct {
	slots atomic.Pointer[[decisionSlots]atomic.Pointer[Decision]]
}

const decisionSlots = 64 // a later decision replaces one in the same slot

// A Decision is one entry of Decisions.
type Decision struct {
	Principal  string // its ARN
	Identity   any    // what else the decision depends on: a pointer; compared with ==
	Permission string
	Value      any
}

// slot spreads principals and permissions over the slots, by what is likely to differ between them.
func slot(principal, permission string) int {
	h := uint32(len(principal))*31 + uint32(len(permission))
	if n := len(principal); n >= 3 {
		h = h*31 + uint32(principal[n-1])
		h = h*31 + uint32(principal[n-2])
		h = h*31 + uint32(principal[n-3])
	}
	if n := len(permission); n >= 5 {
		h = h*31 + uint32(permission[4]) // the first letter after "kms:"
		h = h*31 + uint32(permission[n-1])
	}
	return int(h * 0x9e3779b1 >> 26)
}

// Load returns the value of a decision, or nil.
func (d *Decisions) Load(principal string, identity any, permission string) any {
	slots := d.slots.Load()
	if slots == nil {
		return nil
	}
	e := slots[slot(principal, permission)].Load()
	if e == nil || e.Permission != permission || e.Principal != principal || e.Identity != identity {
		return nil
	}
	return e.Value
}

// Store keeps a decision.
func (d *Decisions) Store(e *Decision) {
	slots := d.slots.Load()
	if slots == nil {
		d.slots.CompareAndSwap(nil, new([decisionSlots]atomic.Pointer[Decision]))
		slots = d.slots.Load()
	}
	slots[slot(e.Principal, e.Permission)].Store(e)
}
