// Package testhook is what the packages for tests and the service agree on, and nobody else can reach: keys made beforehand,
// copies of a service, inputs as they were sent, its logger, and connections that break.
package testhook

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/internal/shape"
)

// A SeedKey is what the CreateKey of a context with it takes instead of what it would have drawn itself.
type SeedKey struct {
	ID       string
	Material []byte // in the stored form of package crypto; nil: drawn as ever
}

type seedKey struct{}

// WithKey returns a context whose CreateKey makes k.
func WithKey(ctx context.Context, k *SeedKey) context.Context {
	return context.WithValue(ctx, seedKey{}, k)
}

// KeyFrom returns the key to make; nil in all contexts but those of WithKey.
func KeyFrom(ctx context.Context) *SeedKey {
	k, _ := ctx.Value(seedKey{}).(*SeedKey)
	return k
}

type wireKey struct{}

// WithWire returns the context in which an interceptor gets an input that came over a wire.
func WithWire(ctx context.Context, sent *shape.Wire) context.Context {
	return context.WithValue(ctx, wireKey{}, sent)
}

// WireInput returns in, the input that an interceptor was given, as Invoke takes it: with all that its context knows of it.
func WireInput(ctx context.Context, in any) any {
	if sent, ok := ctx.Value(wireKey{}).(*shape.Wire); ok && sent.Input == in {
		return sent
	}
	return in
}

// ErrReadOnly is the error of a Backend that shows what has been: what reads from it cannot go on where the clock would have
// changed something first.
var ErrReadOnly = errors.New("kmstest: the past cannot be changed")

// ErrConnection stands for an answer that never comes: the service passes it on untouched, and the protocol over it
// breaks the connection.
var ErrConnection = errors.New("kmstest: the connection broke")
