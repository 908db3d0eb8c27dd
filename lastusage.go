package kms

import (
	"context"
	"time"

	"github.com/pocketkms/kms/internal/uuid"
)

// GetKeyLastUsageInput names the key whose last use is asked for.
type GetKeyLastUsageInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// GetKeyLastUsageOutput tells of a key's last use. An empty KeyLastUsage means that the key was never used, unless
// KeyCreationDate lies before TrackingStartDate: then it was not used since TrackingStartDate. A use by another process is
// known a minute later.
type GetKeyLastUsageOutput struct {
	// KeyId is the key as the input named it.
	KeyId string

	// KeyLastUsage is the last successful cryptographic operation. It is never nil; zero if none is known.
	KeyLastUsage *KeyLastUsageData

	// TrackingStartDate is when uses of this key began to be noted.
	TrackingStartDate time.Time

	// KeyCreationDate is when the key was made.
	KeyCreationDate time.Time
}

// KeyLastUsageData is one use of a key.
type KeyLastUsageData struct {
	// Operation is what was done.
	Operation KeyLastUsageTrackingOperation

	// Timestamp is when it was done.
	Timestamp time.Time

	// CloudTrailEventId is the ID of the audit event of that call.
	CloudTrailEventId string

	// KmsRequestId is the ID of that call.
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

// GetKeyLastUsage tells of the last successful cryptographic operation under a
// key. Uses are tracked from the key's creation on.
func (s *Service) GetKeyLastUsage(ctx context.Context, in *GetKeyLastUsageInput) (*GetKeyLastUsageOutput, error) {
	return opGetKeyLastUsage.do(ctx, s, in)
}
