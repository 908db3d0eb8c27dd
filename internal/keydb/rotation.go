package keydb

import (
	"context"
	"time"

	"github.com/pocketkms/kms/keystore"
)

// The rotation types of the API.
const (
	rotationAutomatic = "AUTOMATIC"
	rotationOnDemand  = "ON_DEMAND"
)

// RotateOnDemand gives k a new current material: the staged one if k's material is imported.
func (db *DB) RotateOnDemand(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	record := k.Record.clone()
	record.OnDemandRotations++
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	if record.Origin != originKMS {
		m := *record.Staged
		m.Rotated, m.RotationType = new(now.UTC()), rotationOnDemand
		record.Materials, record.Staged = append(record.Materials, m), nil
	} else if err := db.addMaterial(&tx, k, record, rotationOnDemand, now.UTC()); err != nil {
		return nil, err
	}
	return db.commitRotation(ctx, k, record, tx, now)
}

// rotateDue makes the automatic rotations that are due, one for each period that has passed.
func (db *DB) rotateDue(ctx context.Context, k *Key, now time.Time) (*Key, error) {
	record := k.Record.clone()
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	for range maxRotationsAtOnce {
		if now.Before(record.Rotation.Next) {
			break
		}
		if err := db.addMaterial(&tx, k, record, rotationAutomatic, record.Rotation.Next); err != nil {
			return nil, err
		}
		record.Rotation.Next = record.Rotation.Next.AddDate(0, 0, int(record.Rotation.PeriodInDays))
	}
	if !now.Before(record.Rotation.Next) { // more were missed than are worth making up for
		record.Rotation.Next = now.AddDate(0, 0, int(record.Rotation.PeriodInDays))
	}
	return db.commitRotation(ctx, k, record, tx, now)
}

// maxRotationsAtOnce bounds the work of a clock that was set far ahead. With two events for each,
// the rotations fit in one transaction.
const maxRotationsAtOnce = 30

// addMaterial adds a new current material to record, and its bytes to tx.
func (db *DB) addMaterial(tx *keystore.Tx, k *Key, record *Record, rotationType string, at time.Time) error {
	m, put, err := db.newMaterial(k.Ref, record, k.Usage, nil)
	if err != nil {
		return err
	}
	m.Rotated, m.RotationType = new(at), rotationType
	record.Materials = append(record.Materials, m)
	tx.Puts = append(tx.Puts, put)
	return nil
}

// commitRotation commits record, which has new materials, with an event for each.
func (db *DB) commitRotation(ctx context.Context, k *Key, record *Record, tx keystore.Tx, now time.Time) (*Key, error) {
	events := outbox{db: db}
	defer events.close()
	for i := len(k.Record.Materials); i < len(record.Materials); i++ {
		m := record.Materials[i]
		events.add(&tx, "RotateKey", k, now, map[string]any{
			"keyId":                 k.ID,
			"keyOrigin":             record.Origin,
			"rotationType":          m.RotationType,
			"previousKeyMaterialId": record.Materials[i-1].ID,
			"currentKeyMaterialId":  m.ID,
		})
	}
	next, err := db.commit(ctx, k, record, tx)
	if err != nil {
		return nil, err
	}
	events.deliver(ctx)
	return next, nil
}
