package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// ScheduleKeyDeletionInput names a key to delete, with all that it ever encrypted, after a waiting period.
type ScheduleKeyDeletionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// PendingWindowInDays is the waiting period, 7 to 30 days; nil means 30. Until its end CancelKeyDeletion can help.
	PendingWindowInDays *int32 `kms:"range=7..30"`
}

// ScheduleKeyDeletionOutput says what will happen, and when.
type ScheduleKeyDeletionOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyState is KeyStatePendingDeletion, or KeyStatePendingReplicaDeletion for a primary that still has replicas.
	KeyState KeyState

	// DeletionDate is when the key will be deleted; zero for a primary that still has replicas.
	DeletionDate time.Time

	// PendingWindowInDays is the waiting period as agreed.
	PendingWindowInDays *int32
}

// CancelKeyDeletionInput names a key that shall not be deleted after all.
type CancelKeyDeletionInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// CancelKeyDeletionOutput names the key, which is disabled now.
type CancelKeyDeletionOutput struct {
	// KeyId is the key ARN.
	KeyId string
}

var opScheduleKeyDeletion = define(operation[ScheduleKeyDeletionInput, ScheduleKeyDeletionOutput]{
	description: description{name: "ScheduleKeyDeletion", keys: keyOnly, states: scheduleState},
	act: func(c *call, in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
		days := int32(30)
		if in.PendingWindowInDays != nil {
			days = *in.PendingWindowInDays
		}
		k := c.key()
		date := c.now.UTC().Add(time.Duration(days) * 24 * time.Hour)
		record := k.record.clone()
		record.DeletionDate = &date
		k, err := c.commit(c.ctx, k, record, keystore.Tx{
			Puts: []keystore.Put{{Key: k.ref.dueName(date), Value: encodeRecord(struct{}{})}},
		})
		if err != nil {
			return nil, err
		}
		return &ScheduleKeyDeletionOutput{KeyId: k.arn, KeyState: k.state, DeletionDate: date, PendingWindowInDays: &days}, nil
	},
})

// ScheduleKeyDeletion makes a key unusable, and destroys it with all its
// material when the window has passed. What it encrypted is then lost.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
	return opScheduleKeyDeletion.do(ctx, s, in)
}

var opCancelKeyDeletion = define(operation[CancelKeyDeletionInput, CancelKeyDeletionOutput]{
	description: description{name: "CancelKeyDeletion", keys: keyOnly, states: cancelState},
	act: func(c *call, in *CancelKeyDeletionInput) (*CancelKeyDeletionOutput, error) {
		k := c.key()
		record := k.record.clone()
		record.DeletionDate = nil
		record.Disabled = true
		k, err := c.commit(c.ctx, k, record, keystore.Tx{Deletes: []string{k.ref.dueName(*k.record.DeletionDate)}})
		if err != nil {
			return nil, err
		}
		return &CancelKeyDeletionOutput{KeyId: k.arn}, nil
	},
})

// CancelKeyDeletion keeps a key that was to be deleted. It is disabled then.
func (s *Service) CancelKeyDeletion(ctx context.Context, in *CancelKeyDeletionInput) (*CancelKeyDeletionOutput, error) {
	return opCancelKeyDeletion.do(ctx, s, in)
}

// destroyBatch is how many records are deleted in one transaction.
const destroyBatch = 50

// destroy deletes a key whose time has come, with its materials, aliases and
// tags, so that no readable trace of them is left. It can be cut off anywhere:
// the key record, which goes last, brings the next caller back here.
func (c *core) destroy(ctx context.Context, k *key, now time.Time) error {
	if !k.record.Ending {
		// A process whose clock is behind could otherwise cancel the deletion of a key that has lost its material.
		record := k.record.clone()
		record.Ending = true
		var err error
		if k, err = c.commit(ctx, k, record, keystore.Tx{}); err != nil {
			return err
		}
	}
	expect := []keystore.Expectation{{Key: k.ref.recordName(), Revision: k.revision}}
	for _, m := range k.materials {
		if p := m.atWork.Swap(nil); p != nil {
			(*p).Destroy()
		}
	}
	for _, prefix := range []string{k.ref.materialsName(), k.ref.aliasesName()} {
		for {
			records, err := c.store.Scan(ctx, prefix, "", destroyBatch)
			if err != nil {
				return err
			}
			if len(records) == 0 {
				break
			}
			tx := keystore.Tx{Expect: slices.Clone(expect)}
			for _, r := range records {
				tx.Deletes = append(tx.Deletes, r.Key)
				if prefix == k.ref.aliasesName() {
					// The alias may be moving to another key at this moment.
					tx.Expect = append(tx.Expect, keystore.Expectation{Key: r.Key, Revision: r.Revision})
					alias := aliasRef{k.ref.account, k.ref.region, aliasPrefix + r.Key[len(prefix):]}
					tx.Deletes = append(tx.Deletes, alias.recordName())
					defer c.aliases.dropIf(alias.place(), func(*aliasEntry) bool { return true })
				}
			}
			if _, err := c.store.Commit(ctx, tx); err != nil {
				return err
			}
		}
	}
	_, err := c.store.Commit(ctx, keystore.Tx{
		Expect:  expect,
		Deletes: []string{k.ref.recordName(), k.ref.usageName(), k.ref.dueName(*k.record.DeletionDate)},
		Scrub:   true,
	})
	if errors.Is(err, keystore.ErrNotScrubbed) { // the key is gone all the same; the next one to go takes its traces along
		c.config.Logger.Warn("kms: traces of a deleted key may be left in the key store until the next deletion", "key", k.arn, "error", err)
		err = nil
	}
	c.keys.dropIf(k.ref.place(), func(cached *key) bool { return cached.revision <= k.revision })
	if err != nil {
		return err
	}
	c.forgetUse(k.ref)
	return c.recordServiceEvent(ctx, "DeleteKey", k, now, nil)
}

// dueBatch is how many keys destroyDue reads at a time.
const dueBatch = 100

// destroyDue destroys every key whose deletion is due.
func (c *core) destroyDue(ctx context.Context) error {
	var failures error
	for after := ""; ; {
		due, err := c.store.Scan(ctx, "due/", after, dueBatch)
		if err != nil {
			return err
		}
		now := c.config.Clock()
		for _, r := range due {
			ref, ok := parseDueName(r.Key)
			after = r.Key
			if !ok {
				failures = errors.Join(failures, fmt.Errorf("%w: the name of record %q", keystore.ErrCorrupt, r.Key))
				continue
			}
			if r.Key > ref.dueName(now) {
				return failures
			}
			if _, err := c.lookup(ctx, ref, now); err != nil {
				failures = errors.Join(failures, err)
			}
		}
		if len(due) < dueBatch {
			return failures
		}
	}
}
