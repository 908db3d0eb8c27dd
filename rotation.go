package kms

import (
	"context"
	"fmt"
	"time"

	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/spec"
)

// EnableKeyRotationInput names the key to rotate automatically, and how often. It must be a
// symmetric encryption key of OriginAWSKMS.
type EnableKeyRotationInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// RotationPeriodInDays is the time between rotations, 90 to 2,560 days. nil means 365, or the
	// present period if rotation is enabled. A new period starts with the call; the same one goes on.
	RotationPeriodInDays *int32 `kms:"range=90..2560"`
}

// EnableKeyRotationOutput is empty.
type EnableKeyRotationOutput struct{}

// DisableKeyRotationInput names the key whose automatic rotation ends.
type DisableKeyRotationInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// DisableKeyRotationOutput is empty.
type DisableKeyRotationOutput struct{}

// GetKeyRotationStatusInput names the key whose rotation to describe.
type GetKeyRotationStatusInput struct {
	// KeyId is a key ID or key ARN. The key may belong to another account.
	KeyId string `kms:"required,len=1..2048"`
}

// GetKeyRotationStatusOutput says whether and when a key rotates.
type GetKeyRotationStatusOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyRotationEnabled reports whether the key is rotated automatically. It is false while the
	// key is pending deletion, and for an AWS managed key before its first rotation.
	KeyRotationEnabled bool `kms:"emitzero"`

	// RotationPeriodInDays is the time between automatic rotations; nil unless KeyRotationEnabled.
	RotationPeriodInDays *int32

	// NextRotationDate is the date of the next automatic rotation; zero unless KeyRotationEnabled.
	NextRotationDate time.Time

	// OnDemandRotationStartDate is when an on-demand rotation began that is not complete; zero if
	// there is none.
	OnDemandRotationStartDate time.Time
}

// RotateKeyOnDemandInput names the key to rotate now.
type RotateKeyOnDemandInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`
}

// RotateKeyOnDemandOutput names the key.
type RotateKeyOnDemandOutput struct {
	// KeyId is the key ARN.
	KeyId string
}

// ListKeyRotationsInput selects a page of the rotations of a key.
type ListKeyRotationsInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// IncludeKeyMaterial says what to list; absent means IncludeKeyMaterialRotationsOnly.
	IncludeKeyMaterial IncludeKeyMaterial

	// Limit is the most entries to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListKeyRotationsOutput is a page of rotations.
type ListKeyRotationsOutput struct {
	// Rotations has one entry for each key material that was asked for, oldest first; empty for a
	// key that cannot be rotated.
	Rotations []RotationsListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more entries follow.
	Truncated bool `kms:"emitzero"`
}

// RotationsListEntry is one key material of a key, and the rotation that made it current.
type RotationsListEntry struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyMaterialId is the ID of the key material, 64 hexadecimal digits.
	KeyMaterialId string

	// KeyMaterialState says what the material is used for.
	KeyMaterialState KeyMaterialState

	// RotationDate is when the material became current; zero for the first material and for one
	// that is pending.
	RotationDate time.Time

	// RotationType says what caused the rotation; absent if RotationDate is.
	RotationType RotationType

	// ImportState says whether the material is present. This and all members below are only for
	// OriginExternal.
	ImportState ImportState

	// KeyMaterialDescription is the text that was given with the import.
	KeyMaterialDescription string

	// ExpirationModel says whether the material expires; absent if the material is not present.
	ExpirationModel ExpirationModelType

	// ValidTo is when the material expires; zero if it does not.
	ValidTo time.Time
}

const (
	defaultRotationDays  = 365
	maxOnDemandRotations = 25
	// RotateKeyOnDemand is refused this long before an automatic rotation.
	rotationConflictWindow = 20 * time.Minute
)

var opEnableKeyRotation = define(description{
	name: "EnableKeyRotation", keys: keyOnly, states: rotationState,
}, steps[EnableKeyRotationInput, EnableKeyRotationOutput]{
	admit: func(c *call, _ *EnableKeyRotationInput) error { return c.requireRotatable() },
	act: func(c *call, in *EnableKeyRotationInput) (*EnableKeyRotationOutput, error) {
		if r := c.key().Record.Rotation; r != nil && (in.RotationPeriodInDays == nil || *in.RotationPeriodInDays == r.PeriodInDays) {
			return &EnableKeyRotationOutput{}, c.requireCurrent() // it keeps its dates
		}
		days := int32(defaultRotationDays)
		if in.RotationPeriodInDays != nil {
			days = *in.RotationPeriodInDays
		}
		return &EnableKeyRotationOutput{}, c.update(func(r *keydb.Record) {
			r.Rotation = &keydb.Rotation{PeriodInDays: days, Next: c.now.UTC().AddDate(0, 0, int(days))}
		})
	},
})

// EnableKeyRotation rotates a symmetric key automatically, every RotationPeriodInDays from now on.
// If rotation is enabled, calling it again changes nothing unless it gives another period.
func (s *Service) EnableKeyRotation(ctx context.Context, in *EnableKeyRotationInput) (*EnableKeyRotationOutput, error) {
	return opEnableKeyRotation.do(ctx, s, in)
}

var opDisableKeyRotation = define(description{
	name: "DisableKeyRotation", keys: keyOnly, states: rotationState,
}, steps[DisableKeyRotationInput, DisableKeyRotationOutput]{
	admit: func(c *call, _ *DisableKeyRotationInput) error {
		if c.key().Spec.Kind == spec.HMAC { // AWS KMS accepts it, although such a key cannot rotate
			return nil
		}
		return c.requireRotatable()
	},
	act: func(c *call, in *DisableKeyRotationInput) (*DisableKeyRotationOutput, error) {
		if c.key().Record.Rotation == nil {
			return &DisableKeyRotationOutput{}, c.requireCurrent()
		}
		return &DisableKeyRotationOutput{}, c.update(func(r *keydb.Record) { r.Rotation = nil })
	},
})

// DisableKeyRotation ends the automatic rotation of a key. Earlier key materials still decrypt.
func (s *Service) DisableKeyRotation(ctx context.Context, in *DisableKeyRotationInput) (*DisableKeyRotationOutput, error) {
	return opDisableKeyRotation.do(ctx, s, in)
}

// requireRotatable refuses keys that cannot be rotated. Related multi-Region keys are rotated
// through their primary.
func (c *call) requireRotatable() error {
	k := c.key()
	switch {
	case k.Spec.Kind != spec.Symmetric:
		return exception(UnsupportedOperationException, "")
	case k.IsReplica():
		return exception(UnsupportedOperationException, "%s is a multi-region replica key which is not valid for %s.", k.ARN, c.op.name)
	case k.Record.Origin != string(OriginAWSKMS):
		return exception(UnsupportedOperationException, "%s origin is %s which is not valid for this operation.", k.ARN, k.Record.Origin)
	}
	return nil
}

var opGetKeyRotationStatus = define(description{
	name: "GetKeyRotationStatus", keys: keyOnly, crossAccount: true, states: anyState,
	readOnly: true,
}, steps[GetKeyRotationStatusInput, GetKeyRotationStatusOutput]{
	admit: func(c *call, _ *GetKeyRotationStatusInput) error { return refuseCustomKeyStore(c.key()) },
	act: func(c *call, in *GetKeyRotationStatusInput) (*GetKeyRotationStatusOutput, error) {
		k := c.key()
		out := &GetKeyRotationStatusOutput{KeyId: k.ARN}
		// AWS KMS says of an AWS managed key that it rotates only once it has done so.
		isNew := k.Record.Manager == string(KeyManagerAWS) && len(k.Materials) == 1
		if r := k.Record.Rotation; r != nil && k.State != keydb.PendingDeletion && !isNew {
			out.KeyRotationEnabled = true
			out.RotationPeriodInDays = new(r.PeriodInDays)
			out.NextRotationDate = r.Next
		}
		return out, nil
	},
})

// GetKeyRotationStatus returns whether and when a key is rotated automatically.
func (s *Service) GetKeyRotationStatus(ctx context.Context, in *GetKeyRotationStatusInput) (*GetKeyRotationStatusOutput, error) {
	return opGetKeyRotationStatus.do(ctx, s, in)
}

var opRotateKeyOnDemand = define(description{
	name: "RotateKeyOnDemand", keys: keyOnly, states: readyState,
}, steps[RotateKeyOnDemandInput, RotateKeyOnDemandOutput]{
	admit: func(c *call, _ *RotateKeyOnDemandInput) error {
		if k := c.key(); k.Spec.Kind == spec.Symmetric && k.Record.Origin == string(OriginExternal) && !k.IsReplica() {
			return nil
		}
		return c.requireRotatable()
	},
	act: func(c *call, in *RotateKeyOnDemandInput) (*RotateKeyOnDemandOutput, error) {
		k := c.key()
		if r := k.Record.Rotation; r != nil && r.Next.Sub(c.now) < rotationConflictWindow {
			return nil, exception(ConflictException, "%s is about to be rotated automatically.", k.ARN)
		}
		if k.Record.OnDemandRotations >= maxOnDemandRotations {
			return nil, exception(LimitExceededException, "The on-demand rotations limit has been reached for the given keyId. "+
				"No more on-demand rotations can be performed for this key: %s", k.ARN)
		}
		if k.Record.Origin == string(OriginExternal) && k.Record.Staged == nil {
			return nil, exception(KMSInvalidStateException, "No available key material pending rotation for the key: %s.", k.ARN)
		}
		if k.Record.Staged != nil && !stagedEverywhere(k, c.now) {
			return nil, exception(KMSInvalidStateException,
				"Cannot perform key material rotation: Key material has not been imported for replicas of the Multi-Region key.")
		}
		if _, err := c.svc.core.db.RotateOnDemand(c.ctx, k, c.now); err != nil {
			return nil, err
		}
		return &RotateKeyOnDemandOutput{KeyId: k.ARN}, nil
	},
})

// RotateKeyOnDemand gives a symmetric key new key material at once, up to 25 times for each key. If
// the key's material is imported, the new one must have been imported before: see
// [Service.ImportKeyMaterial]. Ciphertexts of earlier materials can still be decrypted. The dates of
// automatic rotation do not change. Related multi-Region keys are rotated together, through their
// primary; imported material must have been imported into each of them.
func (s *Service) RotateKeyOnDemand(ctx context.Context, in *RotateKeyOnDemandInput) (*RotateKeyOnDemandOutput, error) {
	return opRotateKeyOnDemand.do(ctx, s, in)
}

var opListKeyRotations = define(description{
	name: "ListKeyRotations", keys: keyOnly, states: anyState, readOnly: true,
}, steps[ListKeyRotationsInput, ListKeyRotationsOutput]{
	admit: func(c *call, _ *ListKeyRotationsInput) error { return refuseCustomKeyStore(c.key()) },
	act: func(c *call, in *ListKeyRotationsInput) (*ListKeyRotationsOutput, error) {
		k := c.key()
		all := in.IncludeKeyMaterial == IncludeKeyMaterialAllKeyMaterial
		if all && k.Spec.Kind != spec.Symmetric {
			return nil, invalid("Input parameter includeKeyMaterial can only be used with symmetric keys.")
		}
		p, err := c.page(in.Marker, in.Limit, 100, k.ARN+"/"+string(orDefault(in.IncludeKeyMaterial, IncludeKeyMaterialRotationsOnly)))
		if err != nil {
			return nil, err
		}
		var list []rotation
		for i := range k.Record.Materials {
			m := &k.Record.Materials[i]
			if k.Spec.Kind != spec.Symmetric || m.Rotated == nil && !all {
				continue
			}
			state := KeyMaterialStateNonCurrent
			if i == len(k.Record.Materials)-1 {
				state = KeyMaterialStateCurrent
			}
			list = append(list, rotation{fmt.Sprintf("%06d", i), rotationsEntry(k, m, state)})
		}
		if m := k.Record.Staged; m != nil && all {
			state := KeyMaterialStatePendingRotation
			if !stagedEverywhere(k, c.now) {
				state = KeyMaterialStatePendingMultiRegionImportAndRotation
			}
			list = append(list, rotation{fmt.Sprintf("%06d", len(k.Record.Materials)), rotationsEntry(k, m, state)})
		}
		list, next := truncate(c, p, list, func(r rotation) string { return r.sortKey })
		out := &ListKeyRotationsOutput{Rotations: make([]RotationsListEntry, len(list)), NextMarker: next, Truncated: next != ""}
		for i := range list {
			out.Rotations[i] = list[i].entry
		}
		return out, nil
	},
})

// stagedEverywhere reports whether all keys that are related to k have its staged material at now.
func stagedEverywhere(k *keydb.Key, now time.Time) bool {
	return k.Record.Shared == nil || k.Record.Shared.StagedEverywhere(now)
}

// rotationsEntry describes a material of k in the API's terms.
func rotationsEntry(k *keydb.Key, m *keydb.MaterialRecord, state KeyMaterialState) RotationsListEntry {
	entry := RotationsListEntry{
		KeyId:            k.ARN,
		KeyMaterialId:    m.ID,
		KeyMaterialState: state,
		RotationType:     RotationType(m.RotationType),
	}
	if m.Rotated != nil {
		entry.RotationDate = *m.Rotated
	}
	if k.Record.Origin != string(OriginExternal) {
		return entry
	}
	entry.KeyMaterialDescription = m.Description
	if m.Absent {
		entry.ImportState = ImportStatePendingImport
		return entry
	}
	entry.ImportState = ImportStateImported
	entry.ExpirationModel, entry.ValidTo = expiration(m.ValidTo)
	return entry
}

// A rotation is an entry of the list, with its sort key.
type rotation struct {
	sortKey string
	entry   RotationsListEntry
}

// ListKeyRotations lists the completed rotations of a key, oldest first. With
// IncludeKeyMaterialAllKeyMaterial it also lists the first key material, and one that is pending
// rotation.
func (s *Service) ListKeyRotations(ctx context.Context, in *ListKeyRotationsInput) (*ListKeyRotationsOutput, error) {
	return opListKeyRotations.do(ctx, s, in)
}
