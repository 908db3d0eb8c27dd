// Package testhook holds what package kms and the packages for tests share, and no user can reach:
// keys with a given ID and material, inputs as they were on the wire, and errors that pass through
// the service.
package testhook

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/internal/shape"
)

// A SeedKey is the key that CreateKey makes in a context with it, instead of a random one.
type SeedKey struct {
	ID string

	// Materials are the key materials, oldest first, in the stored form of package crypto. The last
	// one is current. If there are none, CreateKey generates one.
	Materials [][]byte
}

type seedKey struct{}

// WithKey returns a context in which CreateKey makes k.
func WithKey(ctx context.Context, k *SeedKey) context.Context {
	return context.WithValue(ctx, seedKey{}, k)
}

// KeyFrom returns the key of [WithKey], or nil if the context has none.
func KeyFrom(ctx context.Context) *SeedKey {
	k, _ := ctx.Value(seedKey{}).(*SeedKey)
	return k
}

type wireKey struct{}

// WithWire returns a context for the interceptors of a call whose input came over a wire.
func WithWire(ctx context.Context, wire *shape.Wire) context.Context {
	return context.WithValue(ctx, wireKey{}, wire)
}

// WireInput returns in, the input that an interceptor was given, in the form that Invoke takes:
// with what the context knows about its form on the wire.
func WireInput(ctx context.Context, in any) any {
	if wire, ok := ctx.Value(wireKey{}).(*shape.Wire); ok && wire.Input == in {
		return wire
	}
	return in
}

// ErrReadOnly is returned by a Backend that shows a past state. A call fails with it if it has to
// change something, such as a key that is due for deletion.
var ErrReadOnly = errors.New("kmstest: a past state cannot be changed")

// ErrConnection stands for a response that never arrives. The service returns it unchanged, and
// package awsapi breaks the connection.
var ErrConnection = errors.New("kmstest: the connection broke")
