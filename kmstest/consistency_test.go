package kmstest_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/kmstest"
)

const delay = 5 * time.Second

func eventual(t testing.TB) *kmstest.Service {
	t.Helper()
	return kmstest.New(t, kmstest.EventualConsistency(delay))
}

// requireTurn requires that hidden holds until the delay is over, and visible from then on.
func requireTurn(t *testing.T, svc *kmstest.Service, hidden, visible func(t *testing.T)) {
	t.Helper()
	hidden(t)
	svc.Advance(delay - time.Nanosecond)
	hidden(t)
	svc.Advance(time.Nanosecond)
	visible(t)
}

func TestANewAliasIsVisibleAfterTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	aliases := func(keyID string) int {
		out, err := svc.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: keyID})
		require.NoError(t, err)
		n := 0
		for _, a := range out.Aliases {
			if a.AliasName == "alias/app" {
				n++
			}
		}
		return n
	}
	requireTurn(t, svc, func(t *testing.T) {
		_, err := encrypt(svc.Service, "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException)
		require.ErrorContains(t, err, "Alias arn:aws:kms:us-east-1:111122223333:alias/app is not found.")
		require.Zero(t, aliases("")+aliases(id))
		_, err = encrypt(svc.Service, id)
		require.NoError(t, err, "a new key is seen at once")
		_, err = svc.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: "alias/app", TargetKeyId: id})
		require.ErrorIs(t, err, kms.AlreadyExistsException, "a change builds on the latest state")
	}, func(t *testing.T) {
		_, err := encrypt(svc.Service, "alias/app")
		require.NoError(t, err)
		require.Equal(t, 2, aliases("")+aliases(id))
	})
}

func TestAMovedAliasPointsToItsOldKeyForTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	before, after := createKey(t, svc.Service), createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", before)
	svc.Advance(delay)
	_, err := svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/app", TargetKeyId: after})
	require.NoError(t, err)
	names := func(want string) func(*testing.T) {
		return func(t *testing.T) {
			k, err := describe(svc.Service, "alias/app")
			require.NoError(t, err)
			require.Equal(t, want, k.KeyId)
		}
	}
	requireTurn(t, svc, names(before), names(after))
}

func TestADeletedAliasStaysForTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	svc.Advance(delay)
	_, err := svc.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: "alias/app"})
	require.NoError(t, err)
	aliases := func() int {
		out, err := svc.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: id})
		require.NoError(t, err)
		return len(out.Aliases)
	}
	requireTurn(t, svc, func(t *testing.T) {
		_, err := encrypt(svc.Service, "alias/app")
		require.NoError(t, err)
		require.Equal(t, 1, aliases())
	}, func(t *testing.T) {
		_, err := encrypt(svc.Service, "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException)
		require.Zero(t, aliases())
	})
}

func TestAChangeBuildsOnTheLatestState(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id, other := createKey(t, svc.Service), createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	_, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id})
	require.NoError(t, err)
	svc.Advance(delay)

	_, err = svc.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id})
	require.NoError(t, err)
	_, err = svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}) // it is disabled in the past
	require.NoError(t, err)
	_, err = svc.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: "alias/app"})
	require.NoError(t, err)
	createAlias(t, svc.Service, "alias/app", other) // it is taken in the past

	svc.Advance(delay)
	_, err = encrypt(svc.Service, id)
	require.ErrorIs(t, err, kms.DisabledException)
	_, err = encrypt(svc.Service, "alias/app")
	require.NoError(t, err)
}

func TestANewKeyIsVisibleAtOnceWhileOtherChangesAreHidden(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	for range 3 {
		_, err := encrypt(svc.Service, "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException)
		id = createKey(t, svc.Service)
		_, err = encrypt(svc.Service, id)
		require.NoError(t, err)
	}
}

func TestAKeysStateIsVisibleAfterTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	works := func(t *testing.T) { _, err := encrypt(svc.Service, id); require.NoError(t, err) }
	fails := func(code error, state kms.KeyState) func(*testing.T) {
		return func(t *testing.T) {
			_, err := encrypt(svc.Service, id)
			require.ErrorIs(t, err, code)
			k, err := describe(svc.Service, id)
			require.NoError(t, err)
			require.Equal(t, state, k.KeyState)
		}
	}
	change := func(err error) { t.Helper(); require.NoError(t, err) }

	_, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id})
	change(err)
	requireTurn(t, svc, works, fails(kms.DisabledException, kms.KeyStateDisabled))
	_, err = svc.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id})
	change(err)
	requireTurn(t, svc, fails(kms.DisabledException, kms.KeyStateDisabled), works)
	_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id})
	change(err)
	requireTurn(t, svc, works, fails(kms.KMSInvalidStateException, kms.KeyStatePendingDeletion))
	_, err = svc.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: id})
	change(err)
	requireTurn(t, svc, fails(kms.KMSInvalidStateException, kms.KeyStatePendingDeletion), fails(kms.DisabledException, kms.KeyStateDisabled))
}

// Each change becomes visible at its own time.
func TestChangesBecomeVisibleOneByOne(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	rename := func(text string) {
		_, err := svc.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{KeyId: id, Description: text})
		require.NoError(t, err)
	}
	var seen []string
	look := func() {
		k, err := describe(svc.Service, id)
		require.NoError(t, err)
		seen = append(seen, k.Description)
	}
	rename("one")
	svc.Advance(time.Second)
	rename("two")
	look()
	svc.Advance(delay - time.Second)
	rename("three")
	look()
	svc.Advance(time.Second)
	look()
	svc.Advance(delay - time.Second)
	look()
	require.Equal(t, []string{"", "one", "two", "three"}, seen)
}

func TestADeletedKeyIsGoneAtOnce(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id})
	require.NoError(t, err)
	svc.Advance(30 * day)
	for range 2 {
		_, err = describe(svc.Service, id)
		require.ErrorIs(t, err, kms.NotFoundException)
		_, err = describe(svc.Service, "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException)
	}
}

func TestWhatIsDueHappensWithinTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	_, err := svc.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id})
	require.NoError(t, err)
	svc.Advance(365 * day)
	createAlias(t, svc.Service, "alias/app", id) // so that something is hidden
	for range 2 {
		out, err := svc.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: id})
		require.NoError(t, err)
		require.Len(t, out.Rotations, 1)
	}
	k, err := describe(svc.Service, "alias/aws/s3")
	require.NoError(t, err, "an AWS managed key is created now")
	svc.Advance(delay)
	again, err := describe(svc.Service, "alias/aws/s3")
	require.NoError(t, err)
	require.Equal(t, k.KeyId, again.KeyId)
}

// On the wire a member can be present and empty. That is refused as usual while a change is hidden.
func TestThePastGetsTheInputOfTheWire(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	handler := awsapi.Handler(svc.Service, awsapi.Options{InsecureTrustAll: true})
	answers := func() (answers []string) {
		for _, sent := range [][2]string{{"ListAliases", `{"KeyId":""}`}, {"ListAliases", `{"Marker":""}`}, {"DescribeKey", `{"KeyId":""}`}, {"ListKeys", `{}`}} {
			r := httptest.NewRequest("POST", "http://localhost/", strings.NewReader(sent[1]))
			r.Header.Set("X-Amz-Target", "TrentService."+sent[0])
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			answers = append(answers, w.Body.String())
		}
		return answers
	}
	before := answers()
	require.Contains(t, before[0], "Value '' at 'keyId' failed to satisfy constraint")
	createAlias(t, svc.Service, "alias/app", id)
	_, err := describe(svc.Service, "alias/app")
	require.ErrorIs(t, err, kms.NotFoundException, "it is hidden")
	require.Equal(t, before, answers())
}

func TestViewsSeeTheSamePast(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	paris := svc.In("eu-west-3")
	id := createKey(t, paris)
	createAlias(t, paris, "alias/app", id)
	_, err := encrypt(paris, "alias/app")
	require.ErrorContains(t, err, "arn:aws:kms:eu-west-3:111122223333:alias/app")
	_, err = encrypt(svc.Service, id)
	require.ErrorIs(t, err, kms.NotFoundException)
	nobody := svc.As(kms.Principal{})
	_, err = encrypt(nobody, id)
	require.ErrorIs(t, err, kms.AccessDeniedException)
}

func TestAForkHidesWhatItsParentHides(t *testing.T) {
	t.Parallel()
	parent := eventual(t)
	id := createKey(t, parent.Service)
	createAlias(t, parent.Service, "alias/app", id)
	fork, prompt := parent.Fork(t), parent.Fork(t, kmstest.EventualConsistency(0))

	_, err := encrypt(prompt.Service, "alias/app")
	require.NoError(t, err)
	requireTurn(t, fork, func(t *testing.T) {
		_, err := encrypt(fork.Service, "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException)
	}, func(t *testing.T) {
		_, err := encrypt(fork.Service, "alias/app")
		require.NoError(t, err)
	})
	_, err = encrypt(parent.Service, "alias/app")
	require.ErrorIs(t, err, kms.NotFoundException, "the parent's clock has not moved")

	// What a consistent service prepared is visible in a fork that is not.
	late := prompt.Fork(t, kmstest.EventualConsistency(delay))
	_, err = encrypt(late.Service, "alias/app")
	require.NoError(t, err)
}

func TestThePastCanBeUsedConcurrently(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for j := range 5 {
				_, err := svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: fmt.Sprintf("alias/%d/%d", i, j), TargetKeyId: id})
				if err != nil {
					t.Error(err)
				}
				if _, err := encrypt(svc.Service, id); err != nil {
					t.Error(err)
				}
				svc.Advance(delay / 10)
			}
		})
	}
	group.Wait()
	svc.Advance(delay)
	out, err := svc.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: id})
	require.NoError(t, err)
	require.Len(t, out.Aliases, 20)
}

// A new replica, and what related keys share, is seen after the delay; their old state goes on.
func TestAReplicaIsVisibleAfterTheDelay(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t, kmstest.EventualConsistency(delay), kmstest.Configure(func(c *kms.Config) { c.ReplicationDelay = -1 }))
	created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: true})
	require.NoError(t, err)
	id, there := created.KeyMetadata.KeyId, svc.In("eu-west-1")
	replicas := func(want int) {
		k, err := describe(svc.Service, id)
		require.NoError(t, err)
		require.Len(t, k.MultiRegionConfiguration.ReplicaKeys, want)
	}
	_, err = svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: "eu-west-1"})
	require.NoError(t, err)
	requireTurn(t, svc, func(t *testing.T) {
		_, err := encrypt(there, id)
		require.ErrorIs(t, err, kms.NotFoundException)
		replicas(0)
	}, func(t *testing.T) {
		_, err := encrypt(there, id)
		require.NoError(t, err)
		replicas(1)
	})

	_, err = svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
	require.NoError(t, err)
	material := func(want string, same bool) func(*testing.T) {
		return func(t *testing.T) {
			k, err := describe(there, id)
			require.NoError(t, err)
			require.Equal(t, same, k.CurrentKeyMaterialId == want)
		}
	}
	first := created.KeyMetadata.CurrentKeyMaterialId
	requireTurn(t, svc, material(first, true), material(first, false))

	_, err = svc.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"})
	require.NoError(t, err)
	primary := func(want string) func(*testing.T) {
		return func(t *testing.T) {
			k, err := describe(svc.Service, id)
			require.NoError(t, err)
			require.Equal(t, want, k.MultiRegionConfiguration.PrimaryKey.Region)
		}
	}
	requireTurn(t, svc, primary("us-east-1"), primary("eu-west-1"))

	// The deletion at the end of the waiting period is not delayed.
	_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: new(int32(7))})
	require.NoError(t, err)
	svc.Advance(7 * 24 * time.Hour)
	_, err = encrypt(svc.Service, id)
	require.ErrorIs(t, err, kms.NotFoundException)
	k, err := describe(there, id)
	require.NoError(t, err)
	require.Empty(t, k.MultiRegionConfiguration.ReplicaKeys)
}

// A test steps over the state Creating with the clock.
func TestAReplicaIsCreatedByTheClock(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: true})
	require.NoError(t, err)
	id, there := created.KeyMetadata.KeyId, svc.In("eu-west-1")
	_, err = svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: "eu-west-1"})
	require.NoError(t, err)
	_, err = encrypt(there, id)
	require.ErrorIs(t, err, kms.KMSInvalidStateException)
	svc.Advance(kms.DefaultReplicationDelay)
	_, err = encrypt(there, id)
	require.NoError(t, err)
}

const reader = "arn:aws:iam::111122223333:role/reader"

func createGrant(t *testing.T, svc *kms.Service, id string) *kms.CreateGrantOutput {
	t.Helper()
	out, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: id, GranteePrincipal: reader, RetiringPrincipal: reader, Name: "a",
		Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	require.NoError(t, err)
	return out
}

// requireGrants requires every list to have n grants.
func requireGrants(t *testing.T, svc *kms.Service, id string, n int) {
	t.Helper()
	all, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: id})
	require.NoError(t, err)
	require.Len(t, all.Grants, n)
	its, err := svc.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: id, GranteePrincipal: reader})
	require.NoError(t, err)
	require.Len(t, its.Grants, n)
	retirable, err := svc.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: reader})
	require.NoError(t, err)
	require.Len(t, retirable.Grants, n)
}

func TestAGrantIsVisibleAfterTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	grant := createGrant(t, svc.Service, id)
	require.Equal(t, grant.GrantId, createGrant(t, svc.Service, id).GrantId, "a change is based on the latest state")
	requireTurn(t, svc, func(t *testing.T) { requireGrants(t, svc.Service, id, 0) }, func(t *testing.T) { requireGrants(t, svc.Service, id, 1) })

	_, err := svc.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: id, GrantId: grant.GrantId})
	require.NoError(t, err)
	requireTurn(t, svc, func(t *testing.T) { requireGrants(t, svc.Service, id, 1) }, func(t *testing.T) { requireGrants(t, svc.Service, id, 0) })
}

func TestAGrantTokenShowsAGrantBeforeTheDelay(t *testing.T) {
	t.Parallel()
	svc := eventual(t)
	id := createKey(t, svc.Service)
	grant := createGrant(t, svc.Service, id)
	encrypt := func(token string) error {
		_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("x"), GrantTokens: []string{token}})
		return err
	}
	require.NoError(t, encrypt(grant.GrantToken))
	require.ErrorIs(t, encrypt("no token"), kms.InvalidGrantTokenException)
	_, err := svc.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: grant.GrantToken})
	require.NoError(t, err)
	requireGrants(t, svc.Service, id, 0)

	grant = createGrant(t, svc.Service, id)
	svc.Advance(delay)
	_, err = svc.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: id, GrantId: grant.GrantId})
	require.NoError(t, err)
	requireTurn(t, svc, func(t *testing.T) { require.NoError(t, encrypt(grant.GrantToken)) },
		func(t *testing.T) { require.ErrorIs(t, encrypt(grant.GrantToken), kms.InvalidGrantTokenException) })
}
