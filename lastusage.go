package kms

import (
	"context"
	"time"

	"github.com/pocketkms/kms/internal/uuid"
)

// GetKeyLastUsageInput names the key whose last use to return.
type GetKeyLastUsageInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// GetKeyLastUsageOutput is the last use of a key. If KeyLastUsage is zero, the key has not been
// used since TrackingStartDate. Uses by another process appear up to a minute late.
type GetKeyLastUsageOutput struct {
	// KeyId is the key as the input named it.
	KeyId string

	// KeyLastUsage is the last successful cryptographic operation. It is never nil, and points to a
	// zero value if none is known.
	KeyLastUsage *KeyLastUsageData

	// TrackingStartDate is since when uses of this key are recorded.
	TrackingStartDate time.Time

	// KeyCreationDate is when the key was created.
	KeyCreationDate time.Time
}

// KeyLastUsageData is one use of a key.
type KeyLastUsageData struct {
	// Operation is the operation that used the key.
	Operation KeyLastUsageTrackingOperation

	// Timestamp is when the key was used.
	Timestamp time.Time

	// CloudTrailEventId is the ID of the audit event of the call.
	CloudTrailEventId string

	// KmsRequestId is the ID of the request.
	KmsRequestId string
}

var opGetKeyLastUsage = define(description{
	name: "GetKeyLastUsage", keys: keyOnly, states: anyState, readOnly: true,
}, steps[GetKeyLastUsageInput, GetKeyLastUsageOutput]{
	act: func(c *call, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
		k := c.key()
		out := &GetKeyLastUsageOutput{
			KeyId:             in.KeyId,
			KeyLastUsage:      &KeyLastUsageData{},
			TrackingStartDate: k.Record.Created,
			KeyCreationDate:   k.Record.Created,
		}
		u, err := c.svc.core.db.LastUse(c.ctx, k)
		if err != nil {
			return nil, err
		}
		if !u.Time.IsZero() {
			out.KeyLastUsage = &KeyLastUsageData{
				Operation:         KeyLastUsageTrackingOperation(u.Operation),
				Timestamp:         u.Time.UTC(),
				CloudTrailEventId: uuid.Format(u.EventID),
				KmsRequestId:      uuid.Format(u.RequestID),
			}
		}
		return out, nil
	},
})

// GetKeyLastUsage returns the last successful cryptographic operation with a key. Uses are recorded
// from the creation of the key on, and stored once a minute: a crash can lose the latest.
func (s *Service) GetKeyLastUsage(ctx context.Context, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
	return opGetKeyLastUsage.do(ctx, s, in)
}
