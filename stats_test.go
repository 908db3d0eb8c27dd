package kms_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func TestStats(t *testing.T) {
	svc, clock := newService(t, func(c *kms.Config) { c.Limits.KeysPerRegion = 7 })
	stats, err := svc.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, kms.Stats{KeyQuota: 7}, stats)

	k := createKey(t, svc, nil)
	createKey(t, svc, nil)
	createKey(t, svc.In("eu-west-1"), nil)
	_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: new(int32(7))})
	require.NoError(t, err)
	stats, err = svc.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, kms.Stats{Keys: 2, KeyQuota: 7, NextDeletion: clock.Now().UTC().Add(7 * 24 * time.Hour)}, stats)
	stats, err = svc.In("eu-west-1").Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, stats.Keys)
	require.False(t, stats.NextDeletion.IsZero(), "of any Region")
	require.True(t, stats.NextExpiry.IsZero())

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = svc.Stats(canceled)
	require.ErrorIs(t, err, context.Canceled)
}
