package kms_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

type spanKey struct{}

// spans are the values of spanKey in the contexts of calls, by what was called.
type spans struct {
	mu   sync.Mutex
	seen map[string]any
}

func (s *spans) see(ctx context.Context, what string) {
	if span := ctx.Value(spanKey{}); span != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen[what] = span
	}
}

type tracedBackend struct {
	keystore.Backend
	*spans
}

func (b tracedBackend) Get(ctx context.Context, name string) (keystore.Record, error) {
	b.see(ctx, "Get")
	return b.Backend.Get(ctx, name)
}

func (b tracedBackend) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	b.see(ctx, "Scan")
	return b.Backend.Scan(ctx, prefix, after, limit)
}

func (b tracedBackend) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	b.see(ctx, "Commit")
	return b.Backend.Commit(ctx, tx)
}

// The key store and the audit sink are called with the context of the interceptor, and so in its
// span.
func TestTheRestOfACallUsesTheInterceptorsContext(t *testing.T) {
	traced := &spans{seen: map[string]any{}}
	svc, _ := newService(t, func(c *kms.Config) {
		c.Backend, c.RootKey = tracedBackend{memory.New(), traced}, sharedRoot
		c.Audit = audit.SinkFunc(func(ctx context.Context, _ *audit.Event) error { traced.see(ctx, "Record"); return nil })
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			return next(context.WithValue(ctx, spanKey{}, call.Operation.Name()))
		}
	})
	k := createKey(t, svc, nil)
	require.Equal(t, map[string]any{"Commit": "CreateKey", "Get": "CreateKey", "Record": "CreateKey", "Scan": "CreateKey"}, traced.seen)
	_, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	describe(t, svc, k.KeyId)
	require.Equal(t, map[string]any{"Commit": "CreateKey", "Scan": "ListKeys", "Get": "DescribeKey", "Record": "DescribeKey"}, traced.seen)
}

func TestAnInterceptorCanEndACall(t *testing.T) {
	svc, _ := newService(t, func(c *kms.Config) {
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			require.IsType(t, &kms.ListKeysInput{}, call.Input)
			require.Equal(t, "eu-west-1", call.Service.Region())
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errors.New("enough"))
			return next(ctx)
		}
	})
	_, err := svc.In("eu-west-1").ListKeys(t.Context(), nil)
	require.ErrorIs(t, err, context.Canceled)
}
