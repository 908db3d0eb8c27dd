// Package testhook is shared by package kms and the packages for tests, and cannot be imported by
// users. It passes keys with a given ID and material to CreateKey, wrapping keys to
// GetParametersForImport, and inputs in their wire form to interceptors, and has errors that the
// service returns unchanged.
package testhook

import (
	"context"
	"errors"
	"time"

	"github.com/pocketkms/kms/internal/shape"
)

// A SeedKey is the key that CreateKey creates instead of a random one, and whose first material
// GetParametersForImport returns as wrapping key. See [WithKey].
type SeedKey struct {
	ID string

	// Materials are the key materials, oldest first, in the stored form of package crypto. The last
	// one is current. If it is empty, CreateKey generates one, or the key is pending import.
	Materials [][]byte

	// Validity, from the creation of the key, and Description are those of the current material if
	// it is imported. 0 means that the material does not expire.
	Validity    time.Duration
	Description string
}

type seedKey struct{}

// WithKey returns a context in which CreateKey creates k, and GetParametersForImport returns it.
func WithKey(ctx context.Context, k *SeedKey) context.Context {
	return context.WithValue(ctx, seedKey{}, k)
}

// KeyFrom returns the key of [WithKey], or nil if the context has none.
func KeyFrom(ctx context.Context) *SeedKey {
	k, _ := ctx.Value(seedKey{}).(*SeedKey)
	return k
}

type unchargedKey struct{}

// WithoutQuotas returns a context whose calls do not count against the request quotas.
func WithoutQuotas(ctx context.Context) context.Context {
	return context.WithValue(ctx, unchargedKey{}, true)
}

// Uncharged reports whether ctx is of [WithoutQuotas].
func Uncharged(ctx context.Context) bool { return ctx.Value(unchargedKey{}) != nil }

type wireKey struct{}

// WithWire returns a context for the interceptors of a call whose input came over a wire.
func WithWire(ctx context.Context, wire *shape.Wire) context.Context {
	return context.WithValue(ctx, wireKey{}, wire)
}

// WireInput returns in, the input that an interceptor received, for Invoke: as the [shape.Wire] of
// ctx, if it came over a wire.
func WireInput(ctx context.Context, in any) any {
	if wire, ok := ctx.Value(wireKey{}).(*shape.Wire); ok && wire.Input == in {
		return wire
	}
	return in
}

// ErrReadOnly is returned by a Backend that shows a past state. A call fails with it if the call
// makes a change, or has to carry out a deletion that is due.
var ErrReadOnly = errors.New("kmstest: a past state cannot be changed")

// ErrConnection stands for a response that never arrives. The service returns it unchanged, and
// package awsapi breaks the connection.
var ErrConnection = errors.New("kmstest: the connection broke")
