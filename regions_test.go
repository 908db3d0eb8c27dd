package kms_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

var allRegions = []string{"us-east-1", "eu-west-1", "ap-south-1"}

// createRelated creates related keys in allRegions, the primary in the first. They are ready.
func createRelated(t testing.TB, svc *kms.Service, clock *clock, in *kms.CreateKeyInput) (id string) {
	t.Helper()
	again := kms.CreateKeyInput{MultiRegion: true}
	if in != nil {
		again = *in
		again.MultiRegion = true
	}
	id = createKey(t, svc, &again).KeyId
	for _, region := range allRegions[1:] {
		replicate(t, svc, id, region)
	}
	clock.Move(kms.DefaultReplicationDelay)
	return id
}

// What a key encrypts, signs or authenticates in one Region, the related keys decrypt and verify.
func TestRelatedKeysAreInterchangeable(t *testing.T) {
	svc, clock := newService(t)
	ctx := t.Context()
	id := createRelated(t, svc, clock, nil)
	check := func() {
		t.Helper()
		for _, from := range allRegions {
			ciphertext := encrypt(t, svc.In(from), id, from)
			for _, to := range allRegions {
				out, err := svc.In(to).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext})
				require.NoError(t, err)
				require.Equal(t, from, string(out.Plaintext))
				require.Equal(t, describe(t, svc.In(to), id).Arn, out.KeyId)
				require.Equal(t, describe(t, svc, id).CurrentKeyMaterialId, out.KeyMaterialId)
			}
		}
		_, err := svc.In("sa-east-1").Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypt(t, svc, id, "x")})
		require.ErrorIs(t, err, kms.AccessDeniedException, "there is none in that Region")
	}
	check()
	old := encrypt(t, svc.In("eu-west-1"), id, "old")
	_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
	require.NoError(t, err)
	check()
	replicate(t, svc, id, "us-west-2")
	clock.Move(kms.DefaultReplicationDelay)
	requireDecrypts(t, svc.In("us-west-2"), old, "old") // a new replica has all materials

	signing := createRelated(t, svc, clock, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	signed, err := svc.In("eu-west-1").Sign(ctx, &kms.SignInput{KeyId: signing, Message: []byte("m"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
	require.NoError(t, err)
	for _, region := range allRegions {
		_, err := svc.In(region).Verify(ctx, &kms.VerifyInput{KeyId: signing, Message: []byte("m"), Signature: signed.Signature, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
		require.NoError(t, err)
		require.Equal(t, publicKey(t, svc, signing), publicKey(t, svc.In(region), signing))
		require.Empty(t, describe(t, svc.In(region), signing).CurrentKeyMaterialId)
	}
	mac := createRelated(t, svc, clock, &kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac})
	tagged, err := svc.In("ap-south-1").GenerateMac(ctx, &kms.GenerateMacInput{KeyId: mac, Message: []byte("m"), MacAlgorithm: kms.MacAlgorithmHMACSHA256})
	require.NoError(t, err)
	_, err = svc.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: mac, Message: []byte("m"), Mac: tagged.Mac, MacAlgorithm: kms.MacAlgorithmHMACSHA256})
	require.NoError(t, err)
}

// requireRelated requires that the related keys of all Regions say the same of one another.
func requireRelated(t testing.TB, svc *kms.Service, id, primary string, replicas ...string) {
	t.Helper()
	arnIn := func(region string) string { return "arn:aws:kms:" + region + ":111122223333:key/" + id }
	for _, region := range append([]string{primary}, replicas...) {
		want := &kms.MultiRegionConfiguration{
			MultiRegionKeyType: kms.MultiRegionKeyTypeReplica,
			PrimaryKey:         &kms.MultiRegionKey{Arn: arnIn(primary), Region: primary},
			ReplicaKeys:        []kms.MultiRegionKey{},
		}
		if region == primary {
			want.MultiRegionKeyType = kms.MultiRegionKeyTypePrimary
		}
		for _, r := range replicas {
			want.ReplicaKeys = append(want.ReplicaKeys, kms.MultiRegionKey{Arn: arnIn(r), Region: r})
		}
		require.Equal(t, want, describe(t, svc.In(region), id).MultiRegionConfiguration, region)
	}
}

func TestRelatedKeysKnowOneAnother(t *testing.T) {
	svc, clock := newService(t)
	id := createRelated(t, svc, clock, nil)
	requireRelated(t, svc, id, "us-east-1", "ap-south-1", "eu-west-1")
	_, err := svc.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"})
	require.NoError(t, err)
	requireRelated(t, svc, id, "eu-west-1", "ap-south-1", "us-east-1")
	scheduleDeletion(t, svc.In("ap-south-1"), id, 7)
	requireRelated(t, svc, id, "eu-west-1", "ap-south-1", "us-east-1")
	clock.Move(7 * day)
	requireRelated(t, svc, id, "eu-west-1", "us-east-1")
	replicate(t, svc.In("eu-west-1"), id, "ap-south-1")
	requireRelated(t, svc, id, "eu-west-1", "ap-south-1", "us-east-1")
}

func TestRelatedKeysHaveTheirOwnProperties(t *testing.T) {
	ctx := t.Context()
	svc, clock := newService(t)
	id := createRelated(t, svc, clock, nil)
	eu := svc.In("eu-west-1")
	before := describe(t, svc, id)

	disable(t, eu, id)
	_, err := eu.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: id, Description: "eu"})
	require.NoError(t, err)
	_, err = eu.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: "k"}}})
	require.NoError(t, err)
	_, err = eu.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: id, Policy: otherPolicy})
	require.NoError(t, err)
	createAlias(t, eu, "alias/eu", id)
	enable(t, eu, id)
	createGrant(t, eu, &kms.CreateGrantInput{KeyId: id})
	encrypt(t, eu, id, "x")

	require.Equal(t, before, describe(t, svc, id))
	tags, err := svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id})
	require.NoError(t, err)
	require.Empty(t, tags.Tags)
	policy, err := svc.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: id})
	require.NoError(t, err)
	require.NotContains(t, policy.Policy, "other")
	grants, err := svc.ListGrants(ctx, &kms.ListGrantsInput{KeyId: id})
	require.NoError(t, err)
	require.Empty(t, grants.Grants)
	_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/eu"})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.Zero(t, *lastUsage(t, svc, id))
	require.NotZero(t, *lastUsage(t, eu, id))
}

// The rotation of related keys goes on as it was when another becomes the primary.
func TestTheRotationMovesWithThePrimary(t *testing.T) {
	ctx := t.Context()
	svc, clock := newService(t)
	id := createRelated(t, svc, clock, nil)
	eu := svc.In("eu-west-1")
	enableRotation := func(svc *kms.Service) error {
		_, err := svc.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: new(int32(90))})
		return err
	}
	require.NoError(t, enableRotation(svc))
	for range 20 {
		_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
	}
	next := clock.Now().Add(90 * day)
	_, err := svc.UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"})
	require.NoError(t, err)
	for _, region := range allRegions {
		out, err := svc.In(region).GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
		require.NoError(t, err)
		require.True(t, out.KeyRotationEnabled)
		require.Equal(t, next, out.NextRotationDate)
		require.Len(t, materialsOf(t, svc.In(region), id), 21)
	}
	require.ErrorIs(t, enableRotation(svc), kms.UnsupportedOperationException)
	require.NoError(t, enableRotation(eu))
	for range 5 { // of 25 for all related keys together
		_, err := eu.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
	}
	_, err = eu.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
	require.ErrorIs(t, err, kms.LimitExceededException)
	clock.Move(90 * day)
	require.Len(t, materialsOf(t, svc.In("ap-south-1"), id), 27, "rotated because it is due")

	// Enabling a replica does not start the rotation of its primary again.
	disable(t, eu, id)
	disable(t, svc, id)
	clock.Move(100 * day)
	enable(t, svc, id)
	require.Len(t, materialsOf(t, svc, id), 27)
	enable(t, eu, id)
	require.Len(t, materialsOf(t, svc, id), 28)
}

func TestADelayOfReplicationIsConfigured(t *testing.T) {
	for delay, want := range map[time.Duration]time.Duration{0: kms.DefaultReplicationDelay, -1: 0, time.Minute: time.Minute} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			svc, clock := newService(t, func(c *kms.Config) { c.ReplicationDelay = delay })
			id := createPrimary(t, svc).KeyId
			state := kms.KeyStateEnabled
			if want > 0 {
				state = kms.KeyStateCreating
			}
			require.Equal(t, state, replicate(t, svc, id, replicaRegion).KeyState)
			if want > 0 {
				clock.Move(want - 1)
				require.Equal(t, kms.KeyStateCreating, describe(t, svc.In(replicaRegion), id).KeyState)
				clock.Move(1)
			}
			encrypt(t, svc.In(replicaRegion), id, "x")
			_, err := svc.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: replicaRegion})
			require.NoError(t, err)
			require.Equal(t, want > 0, describe(t, svc, id).KeyState == kms.KeyStateUpdating)
			clock.Move(want)
			require.Equal(t, kms.KeyStateEnabled, describe(t, svc, id).KeyState)
		})
	}
}

// No caller can have any number of replicas, nor any policy, tags or description.
func TestReplicasAreBounded(t *testing.T) {
	ctx := t.Context()
	svc, _ := newService(t)
	k := createPrimary(t, svc)
	for name, tt := range map[string]struct {
		in   kms.ReplicateKeyInput
		code kms.ErrorCode
	}{
		"a policy that is none":   {kms.ReplicateKeyInput{Policy: "{"}, kms.MalformedPolicyDocumentException},
		"a policy that is long":   {kms.ReplicateKeyInput{Policy: `{"Id":"` + strings.Repeat("x", 32768) + `"}`}, kms.LimitExceededException},
		"a reserved tag":          {kms.ReplicateKeyInput{Tags: []kms.Tag{{TagKey: "aws:x"}}}, kms.TagException},
		"too many tags":           {kms.ReplicateKeyInput{Tags: make51Tags()}, kms.TagException},
		"a description not UTF-8": {kms.ReplicateKeyInput{Description: "\xff"}, kms.ValidationException},
	} {
		in := tt.in
		in.KeyId, in.ReplicaRegion = k.KeyId, replicaRegion
		_, err := svc.ReplicateKey(ctx, &in)
		require.ErrorIs(t, err, tt.code, name)
	}
	for i := range 60 {
		replicate(t, svc, k.KeyId, fmt.Sprintf("us-west-%d", i))
	}
	_, err := svc.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: replicaRegion})
	requireError(t, err, kms.LimitExceededException, "%s has 60 replicas, and no more can be created.", k.Arn)
	require.Len(t, describe(t, svc, k.KeyId).MultiRegionConfiguration.ReplicaKeys, 60)
}

func make51Tags() (tags []kms.Tag) {
	for i := range 51 {
		tags = append(tags, kms.Tag{TagKey: fmt.Sprint(i)})
	}
	return tags
}

// Neither operation acts on a key of another account, whatever the Region.
func TestRelatedKeysBelongToOneAccount(t *testing.T) {
	svc, clock := newService(t)
	id := createRelated(t, svc, clock, nil)
	other := svc.As(rootOf(t, "444455556666"))
	_, err := other.In(replicaRegion).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id})
	require.ErrorIs(t, err, kms.NotFoundException)
	_, err = other.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: describe(t, svc, id).Arn, ReplicaRegion: "sa-east-1"})
	requireDeniedForeign(t, err, other.Caller(), "kms:ReplicateKey")
}

func TestBothRegionsRecordWhatHappensInThem(t *testing.T) {
	s := new(trail)
	svc, clock := newService(t, func(c *kms.Config) { c.Audit = s })
	k := createPrimary(t, svc)
	s.take()
	_, err := svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: replicaRegion, Description: "d", Tags: []kms.Tag{{TagKey: "t", TagValue: "v"}}})
	require.NoError(t, err)
	events := s.take()
	require.Len(t, events, 2)
	first, second := events[0], events[1]
	require.Equal(t, []string{"ReplicateKey", "us-east-1", "CreateKey", replicaRegion}, []string{first.EventName, first.AWSRegion, second.EventName, second.AWSRegion})
	require.Equal(t, resources(k.Arn), first.Resources)
	require.Equal(t, resources(replicaARN(k)), second.Resources)
	require.Equal(t, map[string]any{"keyId": k.KeyId, "replicaRegion": replicaRegion, "bypassPolicyLockoutSafetyCheck": false, "description": "d",
		"tags": []any{map[string]any{"tagKey": "t", "tagValue": "v"}}}, first.RequestParameters.Map())
	require.Equal(t, replicaARN(k), first.ResponseElements.Map()["replicaKeyMetadata"].(map[string]any)["arn"])
	require.Equal(t, replicaARN(k), second.ResponseElements.Map()["keyMetadata"].(map[string]any)["arn"])
	require.Equal(t, true, second.RequestParameters.Get("multiRegion").Any())
	require.Equal(t, "d", second.RequestParameters.Get("description").String())
	require.Equal(t, first.UserIdentity, second.UserIdentity)
	require.NotEqual(t, first.EventID, second.EventID)

	clock.Move(kms.DefaultReplicationDelay)
	_, err = svc.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: replicaRegion})
	require.NoError(t, err)
	events = s.take()
	require.Len(t, events, 2)
	for i, want := range []struct{ region, arn string }{{"us-east-1", k.Arn}, {replicaRegion, replicaARN(k)}} {
		require.Equal(t, "UpdatePrimaryRegion", events[i].EventName)
		require.Equal(t, want.region, events[i].AWSRegion)
		require.Equal(t, resources(want.arn), events[i].Resources)
	}

	_, err = svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: "sa-east-1"})
	require.Error(t, err)
	require.Len(t, s.take(), 1, "a refused call created nothing")
}

// After Close and Open, related keys are as they were.
func TestRelatedKeysSurviveCloseAndOpen(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	id := createRelated(t, svc, clock, nil)
	ciphertext := encrypt(t, svc.In("eu-west-1"), id, "text")
	_, err := svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
	require.NoError(t, err)
	scheduleDeletion(t, svc, id, 7)
	var before []*kms.KeyMetadata
	for _, region := range allRegions {
		before = append(before, describe(t, svc.In(region), id))
	}
	require.NoError(t, svc.Close())
	svc = openService(t, path, clock)
	for i, region := range allRegions {
		require.Equal(t, before[i], describe(t, svc.In(region), id))
	}
	requireDecrypts(t, svc.In("ap-south-1"), ciphertext, "text")
}

// A process sees what others change of related keys, in every Region.
func TestChangesOfRelatedKeysByOtherProcesses(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		clock := newClock()
		one, two := join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)
		id := createRelated(t, one, clock, nil)
		for _, region := range allRegions { // into the cache
			describe(t, two.In(region), id)
		}
		_, err := one.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
		ciphertext := encrypt(t, one.In("eu-west-1"), id, "text")
		requireDecrypts(t, two.In("ap-south-1"), ciphertext, "text") // even before the event has come
		for _, region := range allRegions {
			requireSoon(t, func() bool {
				return describe(t, two.In(region), id).CurrentKeyMaterialId == describe(t, one, id).CurrentKeyMaterialId
			})
		}
		_, err = one.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
		requireSoon(t, func() bool { // though it looks at no other Region, and loads nothing
			return describe(t, two.In("eu-west-1"), id).CurrentKeyMaterialId == describe(t, one, id).CurrentKeyMaterialId
		})
		_, err = one.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"})
		require.NoError(t, err)
		_, err = two.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: "sa-east-1"})
		require.Error(t, err, "whatever it has seen")
		for _, region := range allRegions {
			requireSoon(t, func() bool {
				return describe(t, two.In(region), id).MultiRegionConfiguration.PrimaryKey.Region == "eu-west-1"
			})
		}
	})
}

// Whoever has seen a rotation in one Region does not find an earlier state in another.
func TestRotationsAreLinearizableAcrossRegions(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		ctx := context.Background()
		clock := newClock()
		svc := join(t, process{Backend: backend}, clock)
		var keys [2]string
		for i := range keys {
			keys[i] = createRelated(t, svc, clock, nil)
		}
		var h history
		run(6, 150, func(client int, rng *rand.Rand) {
			in := rotationCall{key: rng.IntN(len(keys)), rotate: rng.IntN(8) == 0}
			view := svc.In(allRegions[rng.IntN(len(allRegions))])
			h.do(client, in, func() any {
				if in.rotate {
					_, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: keys[in.key]})
					return rotationAnswer{code: answer(err)}
				}
				out, err := view.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: keys[in.key], KeySpec: kms.DataKeySpecAES256})
				if err != nil {
					return rotationAnswer{code: answer(err)}
				}
				return rotationAnswer{material: out.KeyMaterialId}
			})
		})
		indexes := map[string]int{}
		for _, id := range keys {
			for i, material := range materialsOf(t, svc, id) {
				indexes[material] = i
			}
		}
		h.require(t, rotations(indexes, 1))
	})
}

// All changes of related keys run concurrently, in all Regions and by two services. No call fails
// for another reason than the state of a key, no ciphertext is lost unless all keys are deleted,
// and the related keys agree in the end.
func TestRelatedKeysAllAtOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend keystore.Backend) {
		ctx := context.Background()
		clock := newClock()
		services := [2]*kms.Service{join(t, process{Backend: backend}, clock), join(t, process{Backend: backend}, clock)}
		var keys [3]string
		for i := range keys {
			keys[i] = createRelated(t, services[0], clock, nil)
		}
		type ciphertext struct {
			key  int
			blob []byte
		}
		var (
			mu          sync.Mutex
			ciphertexts []ciphertext
			failures    []error
		)
		harmless := []error{
			nil, kms.DisabledException, kms.KMSInvalidStateException, kms.NotFoundException, kms.AlreadyExistsException,
			kms.LimitExceededException, kms.AccessDeniedException, kms.UnsupportedOperationException, kms.ValidationException,
		}
		run(8, 200, func(client int, rng *rand.Rand) {
			i := rng.IntN(len(keys))
			id, region, other := keys[i], allRegions[rng.IntN(len(allRegions))], allRegions[rng.IntN(len(allRegions))]
			svc := services[client%2].In(region)
			var old ciphertext
			mu.Lock()
			if len(ciphertexts) > 0 {
				old = ciphertexts[rng.IntN(len(ciphertexts))]
			}
			mu.Unlock()
			var err error
			choice := rng.IntN(30)
			switch choice {
			case 0, 1:
				_, err = svc.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: other})
			case 2:
				_, err = svc.UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: other})
			case 3:
				_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
			case 4:
				_, err = svc.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: new(int32(7))})
			case 5, 6:
				_, err = svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id})
			case 7:
				_, err = svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
			case 8, 9, 10:
				_, err = svc.EnableKey(ctx, &kms.EnableKeyInput{KeyId: id})
			case 11:
				if rng.IntN(4) == 0 {
					clock.Move(4 * day)
				}
			case 12:
				clock.Move(time.Second)
			case 13:
				_, err = svc.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: new(int32(90))})
			case 14:
				_, err = svc.ListKeys(ctx, nil)
			case 15:
				_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
			default:
				if choice%2 == 0 {
					var out *kms.EncryptOutput
					if out, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte(canary)}); err == nil {
						mu.Lock()
						ciphertexts = append(ciphertexts, ciphertext{i, out.CiphertextBlob})
						mu.Unlock()
					}
				} else if old.blob != nil {
					var out *kms.DecryptOutput
					if out, err = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: old.blob}); err == nil && string(out.Plaintext) != canary {
						err = errors.New("decrypted to something else")
					}
				}
			}
			if !slices.ContainsFunc(harmless, func(e error) bool { return errors.Is(err, e) }) {
				mu.Lock()
				failures = append(failures, fmt.Errorf("call %d: %w", choice, err))
				mu.Unlock()
			}
		})
		require.Empty(t, failures)
		clock.Move(kms.DefaultReplicationDelay)
		third := join(t, process{Backend: backend}, clock)
		left := map[int]*kms.Service{} // a Region where the key can be used
		for i, id := range keys {
			var configuration *kms.MultiRegionConfiguration
			for _, region := range allRegions {
				out, err := third.In(region).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
				if errors.Is(err, kms.NotFoundException) {
					continue
				}
				require.NoError(t, err)
				got := *out.KeyMetadata.MultiRegionConfiguration
				got.MultiRegionKeyType = ""
				if configuration == nil {
					configuration = &got
				}
				require.Equal(t, configuration, &got)
				if _, err := third.In(region).CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: id}); err == nil || out.KeyMetadata.KeyState == kms.KeyStateDisabled {
					enable(t, third.In(region), id)
				}
				left[i] = third.In(region)
			}
		}
		for _, c := range ciphertexts {
			if left[c.key] != nil {
				requireDecrypts(t, left[c.key], c.blob, canary)
			}
		}
		for _, svc := range []*kms.Service{services[0], services[1], third} {
			require.NoError(t, svc.Close())
		}
		requireConsistentBackend(t, backend)
	})
}

const otherPolicy = `{"Version":"2012-10-17","Id":"other","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`
