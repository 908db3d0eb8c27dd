package kms

import (
	"context"
	"slices"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/testhook"
)

// ReplicateKeyInput describes a new replica of a multi-Region key. Description, Policy and Tags are
// those of the replica only: it inherits none of them.
type ReplicateKeyInput struct {
	// KeyId is the key ID or key ARN of a multi-Region primary key of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// ReplicaRegion is the Region of the replica, in the same partition as that of the primary. It
	// must not have one of the related keys. Any name that has the form of a Region's name there will
	// do.
	ReplicaRegion string `kms:"required,len=1..32,pattern=region"`

	// Policy is the key policy of the replica, a JSON document of up to 32,768 bytes. Absent means the
	// default policy, which leaves access to the IAM policies of the account.
	Policy string `kms:"len=1..131072,pattern=policy"`

	// BypassPolicyLockoutSafetyCheck accepts a policy that does not let the caller change it again.
	// Such a key may become unmanageable.
	BypassPolicyLockoutSafetyCheck bool `kms:"default=false"`

	// Description is any text of up to 8,192 characters. It must hold no secrets: it is logged in the
	// clear.
	Description string `kms:"len=..8192,default="`

	// Tags are the tags of the replica, up to 50, with different tag keys.
	Tags []Tag
}

// ReplicateKeyOutput describes the new replica.
type ReplicateKeyOutput struct {
	// ReplicaKeyMetadata is the replica, in KeyStateCreating.
	ReplicaKeyMetadata *KeyMetadata

	// ReplicaPolicy is the key policy of the replica, in the layout of the API.
	ReplicaPolicy string

	// ReplicaTags are the tags of the replica, sorted by tag key.
	ReplicaTags []Tag `kms:"emitzero"`
}

// UpdatePrimaryRegionInput says which of related multi-Region keys becomes the primary.
type UpdatePrimaryRegionInput struct {
	// KeyId is the key ID or key ARN of the present primary.
	KeyId string `kms:"required,len=1..2048"`

	// PrimaryRegion is the Region of the replica that becomes the primary.
	PrimaryRegion string `kms:"required,len=1..32,pattern=region"`
}

// UpdatePrimaryRegionOutput is empty.
type UpdatePrimaryRegionOutput struct{}

// DefaultReplicationDelay is the [Config.ReplicationDelay] of a Config that has none.
const DefaultReplicationDelay = 2 * time.Second

// maxReplicas bounds the replicas of a primary. It is more than there are Regions.
const maxReplicas = 60

var opReplicateKey = define(description{
	name: "ReplicateKey", keys: keyOnly, states: replicateState,
}, steps[ReplicateKeyInput, ReplicateKeyOutput]{
	validate: func(in *ReplicateKeyInput) error { return requireText("A description", in.Description) },
	admit: func(c *call, in *ReplicateKeyInput) error {
		if err := requirePrimary(c.key()); err != nil {
			return err
		}
		if err := c.authorizeReplica(in); err != nil {
			return err
		}
		ref, record := keydb.Ref{Account: c.key().Account, Region: in.ReplicaRegion, ID: c.key().ID}, *c.key().Record
		record.Tags = storedTags(in.Tags) // a replica has its own
		if err := c.admitPolicy(keydb.NewUnstoredKey(ref, ref.ARN(), &record), in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		if err := validateTags(in.Tags); err != nil {
			return err
		}
		return requireReplicaRegion(c.key(), in.ReplicaRegion)
	},
	act: func(c *call, in *ReplicateKeyInput) (*ReplicateKeyOutput, error) {
		db, k := c.svc.core.db, c.key()
		existing, err := db.Key(c.ctx, keydb.Ref{Account: k.Account, Region: in.ReplicaRegion, ID: k.ID}, c.now)
		switch {
		case err != nil:
			return nil, err
		case existing != nil:
			return nil, exception(AlreadyExistsException, "You can create only one replica of each primary key in each AWS Region.")
		case len(k.Record.Shared.Replicas(c.now)) >= maxReplicas:
			return nil, exception(LimitExceededException, "%s has %d replicas, and no more can be created.", k.ARN, maxReplicas)
		}
		record := &keydb.Record{
			Created:     c.now.UTC(),
			Description: in.Description,
			Policy:      orDefault(in.Policy, defaultPolicy(k.Account, in.ReplicaRegion)),
			Tags:        mergeTags(nil, storedTags(in.Tags)),
		}
		if delay := c.svc.core.config.ReplicationDelay; delay > 0 {
			record.Creating = new(record.Created.Add(delay))
		}
		replica, err := db.Replicate(c.ctx, k, in.ReplicaRegion, record, keydb.CreateOptions{})
		if err != nil {
			return nil, keyLimitError(err)
		}
		return &ReplicateKeyOutput{
			ReplicaKeyMetadata: metadata(replica, c.now),
			ReplicaPolicy:      formatPolicy(record.Policy),
			ReplicaTags:        tagsOf(replica),
		}, nil
	},
	recordElsewhere: func(_ *operation[ReplicateKeyInput, ReplicateKeyOutput], c *call, in *ReplicateKeyInput, out *ReplicateKeyOutput) error {
		m := out.ReplicaKeyMetadata
		return recordIn(c, in.ReplicaRegion, opCreateKey, &CreateKeyInput{
			KeySpec:                        m.KeySpec,
			KeyUsage:                       m.KeyUsage,
			Origin:                         m.Origin,
			MultiRegion:                    true,
			Description:                    in.Description,
			Policy:                         in.Policy,
			BypassPolicyLockoutSafetyCheck: in.BypassPolicyLockoutSafetyCheck,
			Tags:                           in.Tags,
		}, &CreateKeyOutput{KeyMetadata: m}, m.KeyId)
	},
})

// ReplicateKey creates a replica of a multi-Region primary key in another Region of the same
// partition. Related keys have the same key ID, key material and rotation: what one encrypts, all
// decrypt. Policy, tags, aliases, grants and state are each key's own.
//
// The replica is in KeyStateCreating for the time of [Config.ReplicationDelay], by the service's
// clock. Until then it cannot be used, and calls of cryptographic operations fail with
// [KMSInvalidStateException]: a program retries or waits for DescribeKey to say otherwise, a test
// moves its clock by [DefaultReplicationDelay] or sets a negative delay.
func (s *Service) ReplicateKey(ctx context.Context, in *ReplicateKeyInput) (*ReplicateKeyOutput, error) {
	return opReplicateKey.do(ctx, s, in)
}

// requirePrimary refuses keys that are not multi-Region primary keys.
func requirePrimary(k *keydb.Key) error {
	switch {
	case !k.Record.MultiRegion:
		return exception(UnsupportedOperationException, "%s is not a multi-region key.", k.ARN)
	case k.IsReplica():
		return exception(UnsupportedOperationException, "%s is not a multi-region primary key.", k.ARN)
	}
	return nil
}

// authorizeReplica refuses a replica that the caller may not create.
func (c *call) authorizeReplica(in *ReplicateKeyInput) error {
	if err := c.authorizeResource("kms:CreateKey", "*"); err != nil {
		return err
	}
	return c.authorizeNewTags(keydb.Ref{Account: c.key().Account, Region: in.ReplicaRegion, ID: c.key().ID}, in.Tags)
}

// requireReplicaRegion refuses a Region that cannot have a replica of k.
func requireReplicaRegion(k *keydb.Key, region string) error {
	switch {
	case region == k.Region:
		return invalid("%s cannot have a replica because it contains the primary.", region)
	case !arn.IsRegionOfPartition(region):
		return invalid("Region %s is not a valid Region or multi-Region keys are not supported in Region %[1]s.", region)
	case arn.Partition(region) != arn.Partition(k.Region):
		return invalid("The replica key Region must be in the same AWS partition as the primary key Region.")
	}
	return nil
}

var opUpdatePrimaryRegion = define(description{
	name: "UpdatePrimaryRegion", keys: keyOnly, states: readyState,
}, steps[UpdatePrimaryRegionInput, UpdatePrimaryRegionOutput]{
	admit: func(c *call, in *UpdatePrimaryRegionInput) error {
		if err := requirePrimary(c.key()); err != nil {
			return err
		}
		_, err := c.replicaToPromote(in.PrimaryRegion)
		return err
	},
	act: func(c *call, in *UpdatePrimaryRegionInput) (*UpdatePrimaryRegionOutput, error) {
		replica, err := c.replicaToPromote(in.PrimaryRegion)
		if err != nil {
			return nil, err
		}
		until := c.now.Add(max(c.svc.core.config.ReplicationDelay, 0))
		return &UpdatePrimaryRegionOutput{}, c.svc.core.db.UpdatePrimary(c.ctx, c.key(), replica, until)
	},
	recordElsewhere: func(op *operation[UpdatePrimaryRegionInput, UpdatePrimaryRegionOutput], c *call, in *UpdatePrimaryRegionInput, out *UpdatePrimaryRegionOutput) error {
		return recordIn(c, in.PrimaryRegion, op, in, out, c.key().ID)
	},
})

// UpdatePrimaryRegion makes a replica the primary of its related multi-Region keys, and the primary
// a replica. It is called in the Region of the primary. From then on the new primary is the one
// that can be replicated and rotated; the rotation itself goes on as it was.
//
// Both keys are in KeyStateUpdating for the time of [Config.ReplicationDelay], by the service's
// clock. They can be used meanwhile, but neither enabled, disabled nor deleted.
func (s *Service) UpdatePrimaryRegion(ctx context.Context, in *UpdatePrimaryRegionInput) (*UpdatePrimaryRegionOutput, error) {
	return opUpdatePrimaryRegion.do(ctx, s, in)
}

// replicaToPromote returns the replica in a Region of the call's key. The caller needs the
// permission for it, too, and its state must allow the change: both as they are now, which may be
// after admit.
func (c *call) replicaToPromote(region string) (*keydb.Key, error) {
	k := c.key()
	if !slices.Contains(k.Record.Shared.Replicas(c.now), region) {
		return nil, invalid("%s does not have a replica key in the specified Region.", k.ID)
	}
	replica, err := c.svc.core.db.Key(c.ctx, keydb.Ref{Account: k.Account, Region: region, ID: k.ID}, c.now)
	if err != nil {
		return nil, err
	}
	if replica == nil { // deleted since
		return nil, keydb.ErrConflict
	}
	if err := c.authorizeTarget(&target{key: replica, permission: c.op.permission}); err != nil {
		return nil, err
	}
	return replica, c.op.states.admit(replica)
}

// multiRegionConfiguration lists the keys that are related to k, at now.
func multiRegionConfiguration(k *keydb.Key, now time.Time) *MultiRegionConfiguration {
	shared := k.Record.Shared
	related := func(region string) MultiRegionKey {
		return MultiRegionKey{Arn: arn.Key(k.Account, region, k.ID), Region: region}
	}
	c := &MultiRegionConfiguration{
		MultiRegionKeyType: MultiRegionKeyTypePrimary,
		PrimaryKey:         new(related(shared.Primary)),
		ReplicaKeys:        []MultiRegionKey{},
	}
	if k.IsReplica() {
		c.MultiRegionKeyType = MultiRegionKeyTypeReplica
	}
	for _, region := range shared.Replicas(now) {
		c.ReplicaKeys = append(c.ReplicaKeys, related(region))
	}
	return c
}

// recordIn gives the audit sink the event of what a call has done in another Region, as if it were
// a call of op there, on the key with that ID.
func recordIn[In, Out any](c *call, region string, op *operation[In, Out], in *In, out *Out, keyID string) error {
	there, err := begin(context.WithoutCancel(c.ctx), c.svc.In(region), &op.description)
	if err != nil {
		return err
	}
	defer there.end()
	there.now = c.now
	k, err := c.svc.core.db.Key(there.ctx, keydb.Ref{Account: c.svc.caller.account, Region: region, ID: keyID}, c.now)
	if k != nil && err == nil { // without its ARN, the event is better than none
		there.targets[0].key, there.count = k, 1
	}
	return op.record(there, in, out, nil)
}

// create creates a key. One of package seed becomes the replica of the key with the same ID in
// another Region, if there is one. Imported material is stored in its Region, too.
func (c *call) create(ref keydb.Ref, record *keydb.Record, options keydb.CreateOptions) (*keydb.Key, error) {
	db := c.svc.core.db
	if !record.MultiRegion || testhook.KeyFrom(c.ctx) == nil {
		return db.Create(c.ctx, ref, record, options)
	}
	primary, err := db.Primary(c.ctx, ref, c.now)
	switch {
	case err != nil:
		return nil, err
	case primary == nil:
		return db.Create(c.ctx, ref, record, options)
	case !sameSeed(primary, record, ref.ID, options.Materials):
		return nil, exception(ConflictException, "Key '%s' already exists as another key", primary.ARN)
	}
	return db.Replicate(c.ctx, primary, ref.Region, record, options)
}

// sameSeed reports whether k has the spec, usage, origin and materials of a seeded key. If it was
// rotated since, it has more. Imported material counts also if it was deleted.
func sameSeed(k *keydb.Key, record *keydb.Record, id string, materials [][]byte) bool {
	r := k.Record
	if r.Spec != record.Spec || r.Usage != record.Usage || r.Origin != record.Origin || len(k.Materials) < len(materials) {
		return false
	}
	for i, bytes := range materials {
		if k.Materials[i].ID != keydb.MaterialID(id, bytes) {
			return false
		}
	}
	return true
}
