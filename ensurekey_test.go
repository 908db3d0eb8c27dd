package kms_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore/memory"
)

func TestEnsureKeyCreatesAKeyOnce(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	first, err := svc.EnsureKey(t.Context(), "alias/invoices", &kms.CreateKeyInput{Description: "first"})
	require.NoError(t, err)
	require.Equal(t, "first", first.Description)
	var names []string
	events := s.take()
	for _, e := range events {
		names = append(names, e.EventName+" "+e.ErrorCode)
	}
	require.Equal(t, []string{"DescribeKey NotFoundException", "CreateKey ", "CreateAlias "}, names)
	require.Equal(t, first.Arn, events[2].Resources[0].ARN)

	second, err := svc.EnsureKey(t.Context(), "alias/invoices", &kms.CreateKeyInput{Description: "second"})
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, first, describe(t, svc, "alias/invoices"))

	mac, err := svc.EnsureKey(t.Context(), "alias/macs", &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac})
	require.NoError(t, err)
	require.Equal(t, kms.KeySpecHMAC256, mac.KeySpec)
	managed, err := svc.EnsureKey(t.Context(), "alias/aws/s3", nil)
	require.NoError(t, err)
	require.Equal(t, kms.KeyManagerAWS, managed.KeyManager)
}

// Many callers of several processes ask for the same alias at the same time.
func TestEnsureKeyIsSafeAgainstRaces(t *testing.T) {
	backend, clock := memory.New(), newClock()
	services := []*kms.Service{join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)}
	var wg sync.WaitGroup
	ids := make([]string, 64)
	for i := range ids {
		wg.Go(func() {
			k, err := services[i%2].EnsureKey(context.Background(), "alias/shared", nil)
			if err == nil {
				ids[i] = k.KeyId
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	keys, err := services[0].ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys.Keys, 1, "no key is left over")
	requireConsistentBackend(t, backend)
}

func TestEnsureKeyReturnsAKeyInAnyState(t *testing.T) {
	svc, clock := newService(t)
	k, err := svc.EnsureKey(t.Context(), "alias/a", nil)
	require.NoError(t, err)
	scheduleDeletion(t, svc, k.KeyId, 7)
	pending, err := svc.EnsureKey(t.Context(), "alias/a", nil)
	require.NoError(t, err)
	require.Equal(t, kms.KeyStatePendingDeletion, pending.KeyState)
	clock.Move(7 * day)
	next, err := svc.EnsureKey(t.Context(), "alias/a", nil)
	require.NoError(t, err)
	require.NotEqual(t, k.KeyId, next.KeyId)
}

func TestEnsureKeyRefusesWhatTheOperationsRefuse(t *testing.T) {
	svc, _ := newService(t)
	for alias, want := range map[string]kms.ErrorCode{
		"":                  kms.ValidationException,
		"invoices":          kms.ValidationException,
		"alias/":            kms.ValidationException,
		"alias/a:b":         kms.ValidationException,
		"alias/aws/unknown": kms.InvalidAliasNameException,
		"arn:aws:kms:us-east-1:111122223333:alias/x": kms.ValidationException,
	} {
		_, err := svc.EnsureKey(t.Context(), alias, nil)
		require.ErrorIs(t, err, want, alias)
		var e *kms.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "EnsureKey", e.Operation)
	}
	_, err := svc.EnsureKey(t.Context(), "alias/a", &kms.CreateKeyInput{KeySpec: kms.KeySpecRSA2048})
	require.ErrorIs(t, err, kms.ValidationException)
	_, err = svc.As(kms.Principal{}).EnsureKey(t.Context(), "alias/a", nil)
	require.ErrorIs(t, err, kms.AccessDeniedException)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = svc.EnsureKey(ctx, "alias/a", nil)
	require.ErrorIs(t, err, context.Canceled)
	keys, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, keys.Keys)
	require.NoError(t, svc.Close())
	_, err = svc.EnsureKey(t.Context(), "alias/a", nil)
	require.True(t, errors.Is(err, kms.ErrClosed))
}

// Once CreateKey has created the alias, neither a clock that panics nor a caller that leaves keeps the
// event of it back.
func TestTheAliasOfEnsureKeyIsRecordedWhateverComesBetween(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	var broken atomic.Bool
	s := new(trail)
	clock := newClock()
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = s
		c.Clock = func() time.Time {
			if broken.Load() {
				panic("no time")
			}
			return clock.Now()
		}
	})
	s.failWith(func(e *audit.Event) error {
		if e.EventName == "CreateKey" {
			broken.Store(true)
			leave()
		}
		return nil
	})
	k, err := svc.EnsureKey(ctx, "alias/a", nil)
	require.NoError(t, err)
	broken.Store(false)
	events := s.take()
	last := events[len(events)-1]
	require.Equal(t, "CreateAlias", last.EventName)
	require.Equal(t, k.KeyId, last.RequestParameters.Get("targetKeyId").String())
	require.NotZero(t, last.EventTime)
}
