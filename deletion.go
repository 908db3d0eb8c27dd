package kms

import (
	"context"
	"time"
)

// ScheduleKeyDeletionInput names a key to delete after a waiting period.
type ScheduleKeyDeletionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// PendingWindowInDays is the waiting period, 7 to 30 days; nil means 30. Until it ends,
	// CancelKeyDeletion keeps the key.
	PendingWindowInDays *int32 `kms:"range=7..30"`
}

// ScheduleKeyDeletionOutput says when the key will be deleted.
type ScheduleKeyDeletionOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyState is KeyStatePendingDeletion, or KeyStatePendingReplicaDeletion for a primary that
	// still has replicas.
	KeyState KeyState

	// DeletionDate is when the key will be deleted; zero for a primary that still has replicas.
	DeletionDate time.Time

	// PendingWindowInDays is the waiting period.
	PendingWindowInDays *int32
}

// CancelKeyDeletionInput names the key whose deletion to cancel.
type CancelKeyDeletionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// CancelKeyDeletionOutput names the key.
type CancelKeyDeletionOutput struct {
	// KeyId is the key ARN.
	KeyId string
}

const defaultDeletionDays = 30

var opScheduleKeyDeletion = define(description{
	name: "ScheduleKeyDeletion", keys: keyOnly, states: scheduleState,
}, steps[ScheduleKeyDeletionInput, ScheduleKeyDeletionOutput]{
	act: func(c *call, in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
		days := int32(defaultDeletionDays)
		if in.PendingWindowInDays != nil {
			days = *in.PendingWindowInDays
		}
		k, err := c.svc.core.db.ScheduleDeletion(c.ctx, c.key(), days, c.now)
		if err != nil {
			return nil, err
		}
		out := &ScheduleKeyDeletionOutput{KeyId: k.ARN, KeyState: KeyState(k.State), PendingWindowInDays: &days}
		if k.Record.DeletionDate != nil {
			out.DeletionDate = *k.Record.DeletionDate
		}
		return out, nil
	},
})

// ScheduleKeyDeletion makes a key unusable at once, and deletes it with its key material after the
// waiting period. Whatever it has encrypted is then lost: consider [Service.DisableKey], and see
// [Service.GetKeyLastUsage].
//
// The waiting period of a multi-Region primary key begins when its last replica has been deleted:
// until then the key is in KeyStatePendingReplicaDeletion. A replica can be deleted at any time.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
	return opScheduleKeyDeletion.do(ctx, s, in)
}

var opCancelKeyDeletion = define(description{
	name: "CancelKeyDeletion", keys: keyOnly, states: cancelState,
}, steps[CancelKeyDeletionInput, CancelKeyDeletionOutput]{
	act: func(c *call, in *CancelKeyDeletionInput) (*CancelKeyDeletionOutput, error) {
		k, err := c.svc.core.db.CancelDeletion(c.ctx, c.key())
		if err != nil {
			return nil, err
		}
		return &CancelKeyDeletionOutput{KeyId: k.ARN}, nil
	},
})

// CancelKeyDeletion cancels a scheduled deletion. The key is then disabled: see
// [Service.EnableKey].
func (s *Service) CancelKeyDeletion(ctx context.Context, in *CancelKeyDeletionInput) (*CancelKeyDeletionOutput, error) {
	return opCancelKeyDeletion.do(ctx, s, in)
}
