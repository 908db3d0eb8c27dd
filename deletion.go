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
	if err := c.destroyMaterials(ctx, k, expect); err != nil {
		return err
	}
	if err := c.destroyAliases(ctx, k, expect); err != nil {
		return err
	}
	tx := keystore.Tx{
		Expect:  expect,
		Deletes: []string{k.ref.recordName(), k.ref.usageName(), k.ref.dueName(*k.record.DeletionDate)},
		Scrub:   true,
	}
	events := outbox{core: c}
	defer events.close()
	events.add(&tx, "DeleteKey", k, now, nil)
	_, err := c.store.Commit(ctx, tx)
	if errors.Is(err, keystore.ErrNotScrubbed) { // the key is gone all the same; the next deletion scrubs its traces, too, or the next start
		c.config.Logger.Warn("kms: traces of a deleted key may be left in the key store until the next deletion or start", "key", k.arn, "error", err)
		err = nil
	}
	c.forget(k)
	if err != nil {
		return err
	}
	c.forgetUse(k.ref)
	events.deliver(ctx)
	return nil
}

func (c *core) destroyMaterials(ctx context.Context, k *key, expect []keystore.Expectation) error {
	for {
		tx := keystore.Tx{Expect: expect}
		for name, err := range c.names(ctx, k.ref.materialsName(), "", destroyBatch) {
			if err != nil {
				return err
			}
			if tx.Deletes = append(tx.Deletes, name); len(tx.Deletes) == destroyBatch {
				break
			}
		}
		if len(tx.Deletes) == 0 {
			return nil
		}
		if _, err := c.store.Commit(ctx, tx); err != nil {
			return err
		}
	}
}

func (c *core) destroyAliases(ctx context.Context, k *key, expect []keystore.Expectation) error {
	prefix := k.ref.aliasesName()
	for {
		tx := keystore.Tx{Expect: slices.Clone(expect)}
		var aliases []aliasRef
		for name, err := range c.names(ctx, prefix, "", destroyBatch) {
			if err != nil {
				return err
			}
			alias := aliasRef{k.ref.account, k.ref.region, aliasPrefix + name[len(prefix):]}
			record, revision, err := readRecord[aliasRecord](ctx, c, alias.recordName())
			switch {
			case errors.Is(err, keystore.ErrCorrupt): // then it goes, too
				tx.Deletes = append(tx.Deletes, alias.recordName())
			case err != nil:
				return err
			case record != nil && record.Key == k.ref.id: // it may be moving to another key
				tx.Expect = append(tx.Expect, keystore.Expectation{Key: alias.recordName(), Revision: revision})
				tx.Deletes = append(tx.Deletes, alias.recordName())
			}
			tx.Deletes = append(tx.Deletes, name)
			if aliases = append(aliases, alias); len(aliases) == destroyBatch {
				break
			}
		}
		if len(aliases) == 0 {
			return nil
		}
		_, err := c.store.Commit(ctx, tx)
		for _, alias := range aliases {
			c.aliases.drop(alias.place())
		}
		if err != nil {
			return err
		}
	}
}

// sweepBatch is how many records the work in the background reads at a time.
const sweepBatch = 100

// destroyDue destroys every key whose deletion is due.
func (c *core) destroyDue(ctx context.Context) error {
	now := c.config.Clock()
	var failures error
	for name, err := range c.names(ctx, "due/", "", sweepBatch) {
		if err != nil {
			return errors.Join(failures, err)
		}
		ref, ok := parseDueName(name)
		if !ok {
			failures = errors.Join(failures, fmt.Errorf("%w: the name of record %q", keystore.ErrCorrupt, name))
			continue
		}
		if name > ref.dueName(now) {
			break
		}
		if _, err := c.lookup(ctx, ref, now); err != nil {
			failures = errors.Join(failures, err)
		}
	}
	return failures
}
