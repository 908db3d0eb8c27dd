package kmstest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

// ended is a test that ends when end is called, so that a benchmark can end as many as it begins.
type ended struct {
	testing.TB
	cleanups []func()
}

func (e *ended) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

func (e *ended) end() {
	for _, f := range e.cleanups {
		f()
	}
	e.cleanups = nil
}

func BenchmarkNew(b *testing.B) {
	t := &ended{TB: b}
	b.Run("kms.New, the floor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			svc, err := kms.New(kms.Config{})
			require.NoError(b, err)
			svc.Close()
		}
	})
	b.Run("kmstest.New", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			kmstest.New(t)
			t.end()
		}
	})
	b.Run("kmstest.New with 10 keys, created and checked", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			svc := kmstest.New(t)
			for range 10 {
				createKey(b, svc.Service)
			}
			t.end()
		}
	})
}

// A fork, and a fork that is used: one call for each kind of record, which copies what it changes.
// The latter is closed before its test ends, so that it is not checked, which takes time for each
// key.
func BenchmarkFork(b *testing.B) {
	ctx := context.Background()
	for _, keys := range []int{10, 10_000} {
		parent := kmstest.New(b)
		var last string
		for i := range keys {
			out, err := parent.CreateKey(ctx, nil)
			require.NoError(b, err)
			last = out.KeyMetadata.KeyId
			_, err = parent.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: fmt.Sprintf("alias/%d", i), TargetKeyId: last})
			require.NoError(b, err)
		}
		parent.ResetCalls()
		t := &ended{TB: b}
		b.Run(fmt.Sprintf("of %d keys", keys), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parent.Fork(t)
				t.end()
			}
		})
		b.Run(fmt.Sprintf("of %d keys, then changed", keys), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fork := parent.Fork(t)
				_, err := fork.DisableKey(ctx, &kms.DisableKeyInput{KeyId: last})
				require.NoError(b, err)
				_, err = fork.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/0"})
				require.NoError(b, err)
				require.NoError(b, fork.Close())
				t.end()
			}
		})
	}
}
