// Package rig is what the packages for tests and the service agree on, and nobody else can reach: keys made beforehand,
// copies of a service, inputs as they were sent, its logger, and connections that break.
package rig

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/internal/shape"
)

// A Key is what the CreateKey of a context with it takes instead of what it would have drawn itself.
type Key struct {
	ID       string
	Material []byte // in the stored form of package crypto; nil: drawn as ever
}

type keyOf struct{}

// WithKey returns a context whose CreateKey makes k.
func WithKey(ctx context.Context, k *Key) context.Context { return context.WithValue(ctx, keyOf{}, k) }

// KeyFrom returns the key to make; nil in all contexts but those of WithKey.
func KeyFrom(ctx context.Context) *Key {
	k, _ := ctx.Value(keyOf{}).(*Key)
	return k
}

type sentOf struct{}

// WithSent returns the context in which an interceptor gets an input that came over a wire.
func WithSent(ctx context.Context, sent *shape.Sent) context.Context {
	return context.WithValue(ctx, sentOf{}, sent)
}

// Sent returns in, the input that an interceptor was given, as Invoke takes it: with all that its context knows of it.
func Sent(ctx context.Context, in any) any {
	if sent, ok := ctx.Value(sentOf{}).(*shape.Sent); ok && sent.Input == in {
		return sent
	}
	return in
}

// A Backend is a keystore.Backend that is given a function which stores what the service on it has in memory alone.
type Backend interface {
	OnFlush(store func(context.Context) error)
}

// ErrPast is the error of a Backend that shows what has been: what reads from it cannot go on where the clock would have
// changed something first.
var ErrPast = errors.New("kmstest: the past cannot be changed")

// ErrConnection stands for an answer that never comes: the service passes it on untouched, and the protocol over it
// breaks the connection.
var ErrConnection = errors.New("kmstest: the connection broke")
