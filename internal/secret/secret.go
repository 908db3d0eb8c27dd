// Package secret holds bytes that cannot be printed by accident: key material, and whatever it can be computed from.
package secret

import (
	"crypto/subtle"
	"runtime"
	"sync/atomic"
)

// Bytes is a secret. The zero value holds none.
//
// The bytes lie behind an atomic.Pointer, which is an unsafe.Pointer to whoever walks a value by reflection: no fmt verb,
// logger, encoder or test diff follows it, not even where Bytes is an unexported field of another struct and so has no
// method of its own to hide behind. At most an address shows.
//
// All methods may be called at the same time, but see Expose.
type Bytes struct{ p atomic.Pointer[[]byte] }

// New makes b a secret. The secret owns b from here on: the caller neither changes nor keeps it.
func New(b []byte) *Bytes {
	s := new(Bytes)
	s.p.Store(&b)
	return s
}

// Expose returns the secret itself, not a copy, or nil after Destroy. It is for reading only, and turns to zeros under
// the reader's eyes if Destroy runs meanwhile: who destroys must know that no one is reading.
func (s *Bytes) Expose() []byte {
	if p := s.p.Load(); p != nil {
		return *p
	}
	return nil
}

// Len returns the secret's length in bytes, 0 after Destroy.
func (s *Bytes) Len() int { return len(s.Expose()) }

// Equal reports whether both hold the same bytes, in a time that depends only on their lengths. What was destroyed
// equals nothing.
func (s *Bytes) Equal(other *Bytes) bool {
	a, b := s.p.Load(), other.p.Load()
	return a != nil && b != nil && subtle.ConstantTimeCompare(*a, *b) == 1
}

// Destroy erases the secret. Destroying twice is harmless.
func (s *Bytes) Destroy() {
	if p := s.p.Swap(nil); p != nil {
		Clear(*p)
	}
}

// Clear overwrites b with zeros. It reaches b alone: copies that the runtime or another function made stay as they are.
func Clear(b []byte) {
	clear(b)
	runtime.KeepAlive(b) // counts as a use, so that no compiler may drop the writes as dead
}
