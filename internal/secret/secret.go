// Package secret holds bytes that cannot be printed by accident: key material, and anything from
// which it can be computed.
package secret

import (
	"crypto/subtle"
	"runtime"
	"sync/atomic"
)

// Bytes is a secret. The zero value holds none.
//
// The bytes are behind an atomic.Pointer, which reflection sees as an unsafe.Pointer. So no fmt
// verb, logger, encoder or test diff prints more than an address, even if Bytes is in an unexported
// field of another struct, where its methods are not called.
//
// All methods may be called concurrently, but see Expose.
type Bytes struct{ p atomic.Pointer[[]byte] }

// New returns a secret that holds b, without copying it. The caller must not change or keep b.
func New(b []byte) *Bytes {
	s := new(Bytes)
	s.p.Store(&b)
	return s
}

// Expose returns the secret itself, not a copy, or nil after Destroy. The caller must not change
// it. Destroy overwrites it, so Destroy must not be called while the slice is in use.
func (s *Bytes) Expose() []byte {
	if p := s.p.Load(); p != nil {
		return *p
	}
	return nil
}

// Len returns the secret's length in bytes. After Destroy it is 0.
func (s *Bytes) Len() int { return len(s.Expose()) }

// Equal reports whether s and other hold the same bytes, in a time that depends only on their
// lengths. A destroyed secret equals nothing.
func (s *Bytes) Equal(other *Bytes) bool {
	a, b := s.p.Load(), other.p.Load()
	return a != nil && b != nil && subtle.ConstantTimeCompare(*a, *b) == 1
}

// Destroy overwrites the secret with zeros. It may be called again.
func (s *Bytes) Destroy() {
	if p := s.p.Swap(nil); p != nil {
		Clear(*p)
	}
}

// Clear overwrites b with zeros. Copies that the runtime or other functions have made stay.
func Clear(b []byte) {
	clear(b)
	runtime.KeepAlive(b) // keeps the compiler from removing the writes as dead stores
}
