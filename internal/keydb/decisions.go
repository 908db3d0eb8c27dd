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

// slot spreads principals and permissions over the slots, by what is likely to differ between them:
// their ends.
func slot(principal, permission string) int {
	h := (tail(principal)*31 + tail(permission)) * 0x9e3779b1 // 2^32 by the golden ratio: Knuth's multiplicative hash
	return int(h >> 26)
}

// tail returns the last four bytes of s, and its length if it has fewer.
func tail(s string) uint32 {
	n := len(s)
	if n < 4 {
		return uint32(n)
	}
	return uint32(s[n-4]) | uint32(s[n-3])<<8 | uint32(s[n-2])<<16 | uint32(s[n-1])<<24
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
