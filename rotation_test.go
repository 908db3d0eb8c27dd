package kms_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// enableRotation enables rotation of a key with a period in days.
func enableRotation(t testing.TB, svc *kms.Service, keyID string, days int32) {
	t.Helper()
	_, err := svc.EnableKeyRotation(context.Background(), &kms.EnableKeyRotationInput{KeyId: keyID, RotationPeriodInDays: &days})
	require.NoError(t, err)
}

func disableRotation(t testing.TB, svc *kms.Service, keyID string) {
	t.Helper()
	_, err := svc.DisableKeyRotation(context.Background(), &kms.DisableKeyRotationInput{KeyId: keyID})
	require.NoError(t, err)
}

func rotateNow(svc *kms.Service, keyID string) error {
	_, err := svc.RotateKeyOnDemand(context.Background(), &kms.RotateKeyOnDemandInput{KeyId: keyID})
	return err
}

func rotationStatus(t testing.TB, svc *kms.Service, keyID string) *kms.GetKeyRotationStatusOutput {
	t.Helper()
	out, err := svc.GetKeyRotationStatus(context.Background(), &kms.GetKeyRotationStatusInput{KeyId: keyID})
	require.NoError(t, err)
	return out
}

// allMaterials returns the materials of a key, oldest first.
func allMaterials(t testing.TB, svc *kms.Service, keyID string) []kms.RotationsListEntry {
	t.Helper()
	out, err := svc.ListKeyRotations(context.Background(), &kms.ListKeyRotationsInput{
		KeyId: keyID, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial})
	require.NoError(t, err)
	require.False(t, out.Truncated)
	return out.Rotations
}

// rotationDates returns the dates of a key's rotations, oldest first.
func rotationDates(t testing.TB, svc *kms.Service, keyID string) []time.Time {
	t.Helper()
	out, err := svc.ListKeyRotations(context.Background(), &kms.ListKeyRotationsInput{KeyId: keyID})
	require.NoError(t, err)
	dates := []time.Time{}
	for _, r := range out.Rotations {
		dates = append(dates, r.RotationDate)
	}
	return dates
}

func TestAutomaticRotationTakesPlaceAtTheEndOfEachPeriod(t *testing.T) {
	for _, days := range []int32{90, 365, 2560} {
		t.Run(fmt.Sprint(days, " days"), func(t *testing.T) {
			svc, clock := newService(t)
			k := createKey(t, svc, nil)
			require.Equal(t, &kms.GetKeyRotationStatusOutput{KeyId: k.Arn}, rotationStatus(t, svc, k.KeyId))
			clock.Move(10 * day)
			enableRotation(t, svc, k.KeyId, days)
			period := time.Duration(days) * day
			start := clock.Now()
			require.Equal(t, &kms.GetKeyRotationStatusOutput{
				KeyId: k.Arn, KeyRotationEnabled: true, RotationPeriodInDays: &days, NextRotationDate: start.Add(period),
			}, rotationStatus(t, svc, k.KeyId))
			before := encrypt(t, svc, k.KeyId, "text")

			clock.MoveTo(start.Add(period - 1))
			require.Equal(t, k, describe(t, svc, k.KeyId), "not yet")
			clock.Move(1)
			rotated := describe(t, svc, k.KeyId)
			require.NotEqual(t, k.CurrentKeyMaterialId, rotated.CurrentKeyMaterialId)
			require.Equal(t, k.CurrentKeyMaterialId, requireDecrypts(t, svc, before, "text"))
			require.Equal(t, rotated.CurrentKeyMaterialId, requireDecrypts(t, svc, encrypt(t, svc, k.KeyId, "text"), "text"))
			require.Equal(t, []kms.RotationsListEntry{
				{KeyId: k.Arn, KeyMaterialId: k.CurrentKeyMaterialId, KeyMaterialState: kms.KeyMaterialStateNonCurrent},
				{KeyId: k.Arn, KeyMaterialId: rotated.CurrentKeyMaterialId, KeyMaterialState: kms.KeyMaterialStateCurrent,
					RotationDate: start.Add(period), RotationType: kms.RotationTypeAutomatic},
			}, allMaterials(t, svc, k.KeyId))
			require.Equal(t, start.Add(2*period), rotationStatus(t, svc, k.KeyId).NextRotationDate)

			rotated.CurrentKeyMaterialId = k.CurrentKeyMaterialId
			require.Equal(t, k, rotated, "all else stays")
		})
	}
}

// Rotations that were due while the key was not used, or the process did not run, are made later,
// each with its own date.
func TestMissedRotationsHaveTheirDates(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	start := clock.Now()
	clock.Move(3*90*day + 5*day)
	want := []time.Time{start.Add(90 * day), start.Add(180 * day), start.Add(270 * day)}
	require.Equal(t, want, rotationDates(t, svc, k.KeyId))
	require.NoError(t, svc.Close())
	clock.Move(2 * 90 * day)
	svc = openService(t, path, clock)
	want = append(want, start.Add(360*day), start.Add(450*day))
	require.Equal(t, want, rotationDates(t, svc, k.KeyId))
	require.Equal(t, start.Add(540*day), rotationStatus(t, svc, k.KeyId).NextRotationDate)
	seen := map[string]bool{}
	for _, m := range allMaterials(t, svc, k.KeyId) {
		require.False(t, seen[m.KeyMaterialId], "each has material of its own")
		seen[m.KeyMaterialId] = true
	}
}

func TestMissedRotationsAreBounded(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	clock.Move(1000 * 90 * day)
	require.Len(t, rotationDates(t, svc, k.KeyId), 30)
	require.Equal(t, clock.Now().Add(90*day), rotationStatus(t, svc, k.KeyId).NextRotationDate)
	require.Len(t, rotationDates(t, svc, k.KeyId), 30, "once")
}

func TestADueRotationIsMadeOnceByConcurrentCalls(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	clock.Move(90 * day)
	var wg sync.WaitGroup
	found := make([]string, 20)
	for i := range found {
		wg.Go(func() {
			out, err := svc.GenerateDataKey(context.Background(), &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: kms.DataKeySpecAES256})
			if err == nil {
				found[i] = out.KeyMaterialId
			}
		})
	}
	wg.Wait()
	current := describe(t, svc, k.KeyId).CurrentKeyMaterialId
	require.NotEqual(t, k.CurrentKeyMaterialId, current)
	for _, id := range found {
		require.Equal(t, current, id)
	}
	require.Len(t, allMaterials(t, svc, k.KeyId), 2)
}

func TestEnablingRotationAgainStartsTheNewPeriodNow(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	clock.Move(89 * day)
	enableRotation(t, svc, k.KeyId, 100)
	restarted := clock.Now()
	clock.Move(99 * day)
	require.Empty(t, rotationDates(t, svc, k.KeyId))
	clock.Move(day)
	require.Equal(t, []time.Time{restarted.Add(100 * day)}, rotationDates(t, svc, k.KeyId))
}

func TestDisablingRotationKeepsTheMaterials(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	disableRotation(t, svc, k.KeyId) // which it was
	before := encrypt(t, svc, k.KeyId, "text")
	enableRotation(t, svc, k.KeyId, 90)
	clock.Move(91 * day)
	for range 2 {
		disableRotation(t, svc, k.KeyId)
		require.Equal(t, &kms.GetKeyRotationStatusOutput{KeyId: k.Arn}, rotationStatus(t, svc, k.KeyId))
	}
	clock.Move(1000 * day)
	require.Len(t, rotationDates(t, svc, k.KeyId), 1, "the one that was due before")
	requireDecrypts(t, svc, before, "text")
}

func TestADisabledKeyIsNotRotatedUntilItIsEnabled(t *testing.T) {
	svc, clock := newService(t)
	overdue, inTime := createKey(t, svc, nil), createKey(t, svc, nil)
	for _, k := range []*kms.KeyMetadata{overdue, inTime} {
		enableRotation(t, svc, k.KeyId, 90)
		disable(t, svc, k.KeyId)
	}
	start := clock.Now()
	clock.Move(50 * day)
	enable(t, svc, inTime.KeyId)
	require.Equal(t, start.Add(90*day), rotationStatus(t, svc, inTime.KeyId).NextRotationDate, "the schedule goes on")

	clock.Move(250 * day) // three periods
	status := rotationStatus(t, svc, overdue.KeyId)
	require.True(t, status.KeyRotationEnabled, "the setting is kept")
	require.Empty(t, rotationDates(t, svc, overdue.KeyId))
	require.Equal(t, overdue.CurrentKeyMaterialId, describe(t, svc, overdue.KeyId).CurrentKeyMaterialId)
	require.Len(t, rotationDates(t, svc, inTime.KeyId), 3)

	enabled := clock.Now()
	enable(t, svc, overdue.KeyId)
	require.NotEqual(t, overdue.CurrentKeyMaterialId, describe(t, svc, overdue.KeyId).CurrentKeyMaterialId)
	require.Equal(t, []time.Time{enabled}, rotationDates(t, svc, overdue.KeyId), "one rotation, when the key came back")
	require.Equal(t, enabled.Add(90*day), rotationStatus(t, svc, overdue.KeyId).NextRotationDate)
}

func TestAKeyPendingDeletionIsNotRotatedAndKeepsItsSetting(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	next := rotationStatus(t, svc, k.KeyId).NextRotationDate
	clock.Move(80 * day)
	scheduleDeletion(t, svc, k.KeyId, 30)
	require.Equal(t, &kms.GetKeyRotationStatusOutput{KeyId: k.Arn}, rotationStatus(t, svc, k.KeyId), "off while pending deletion")
	clock.Move(20 * day)
	require.Empty(t, rotationDates(t, svc, k.KeyId))
	_, err := svc.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: k.KeyId})
	require.NoError(t, err)
	status := rotationStatus(t, svc, k.KeyId)
	require.True(t, status.KeyRotationEnabled)
	require.Equal(t, next, status.NextRotationDate)
	require.Empty(t, rotationDates(t, svc, k.KeyId), "it is disabled now")
	enable(t, svc, k.KeyId)
	require.Equal(t, []time.Time{clock.Now()}, rotationDates(t, svc, k.KeyId))
}

func TestRotationOnDemandDoesNotChangeTheSchedule(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	next := rotationStatus(t, svc, k.KeyId).NextRotationDate
	clock.Move(30 * day)
	out, err := svc.RotateKeyOnDemand(context.Background(), &kms.RotateKeyOnDemandInput{KeyId: k.KeyId})
	require.NoError(t, err)
	require.Equal(t, k.Arn, out.KeyId)
	demanded := clock.Now()
	status := rotationStatus(t, svc, k.KeyId)
	require.Equal(t, next, status.NextRotationDate)
	require.Zero(t, status.OnDemandRotationStartDate, "it is complete")
	clock.MoveTo(next)
	materials := allMaterials(t, svc, k.KeyId)
	require.Len(t, materials, 3)
	require.Equal(t, kms.RotationTypeOnDemand, materials[1].RotationType)
	require.Equal(t, demanded, materials[1].RotationDate)
	require.Equal(t, kms.KeyMaterialStateNonCurrent, materials[1].KeyMaterialState)
	require.Equal(t, kms.RotationTypeAutomatic, materials[2].RotationType)
	require.Equal(t, next, materials[2].RotationDate)
	require.Equal(t, materials[2].KeyMaterialId, describe(t, svc, k.KeyId).CurrentKeyMaterialId)
}

func TestRotationOnDemandWaitsForAnAutomaticOneThatIsNear(t *testing.T) {
	svc, clock := newService(t)
	k := createKey(t, svc, nil)
	enableRotation(t, svc, k.KeyId, 90)
	next := rotationStatus(t, svc, k.KeyId).NextRotationDate
	clock.MoveTo(next.Add(-20 * time.Minute))
	require.NoError(t, rotateNow(svc, k.KeyId))
	clock.Move(1)
	requireError(t, rotateNow(svc, k.KeyId), kms.ConflictException, "%s is about to be rotated automatically.", k.Arn)
	clock.MoveTo(next.Add(-1))
	requireError(t, rotateNow(svc, k.KeyId), kms.ConflictException, "%s is about to be rotated automatically.", k.Arn)
	clock.Move(1)
	require.NoError(t, rotateNow(svc, k.KeyId))
	require.Len(t, allMaterials(t, svc, k.KeyId), 4)
}

func TestAKeyRotates25TimesOnDemandInItsLifeAndEveryMaterialStillDecrypts(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys"), newClock()
	svc := openService(t, path, clock)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	var ciphertexts [][]byte
	keep := func() {
		ciphertexts = append(ciphertexts, encrypt(t, svc, k.KeyId, fmt.Sprint("text ", len(ciphertexts))))
	}
	keep()
	for range 25 {
		require.NoError(t, rotateNow(svc, k.KeyId))
		keep()
	}
	const limit = "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: %s"
	requireError(t, rotateNow(svc, k.KeyId), kms.LimitExceededException, limit, k.Arn)
	enableRotation(t, svc, k.KeyId, 90)
	for range 5 { // which count for nothing
		clock.Move(90 * day)
		keep()
	}
	require.NoError(t, svc.Close())
	svc = openService(t, path, clock)
	requireError(t, rotateNow(svc, k.KeyId), kms.LimitExceededException, limit, k.Arn)

	materials := allMaterials(t, svc, k.KeyId)
	require.Len(t, materials, 31)
	require.Len(t, ciphertexts, 31)
	for i, ciphertext := range ciphertexts {
		require.Equal(t, materials[i].KeyMaterialId, requireDecrypts(t, svc, ciphertext, fmt.Sprint("text ", i)))
		want := kms.KeyMaterialStateNonCurrent
		if i == 30 {
			want = kms.KeyMaterialStateCurrent
		}
		require.Equal(t, want, materials[i].KeyMaterialState)
	}
	out, err := svc.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: ciphertexts[0], DestinationKeyId: k.KeyId})
	require.NoError(t, err)
	require.Equal(t, materials[0].KeyMaterialId, out.SourceKeyMaterialId)
	require.Equal(t, materials[30].KeyMaterialId, out.DestinationKeyMaterialId)
	require.Equal(t, materials[30].KeyMaterialId, requireDecrypts(t, svc, out.CiphertextBlob, "text 0"))
}

func TestAMarkerOfRotationsIsValidForEveryIncludeKeyMaterial(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, nil)
	for range 2 {
		require.NoError(t, rotateNow(svc, k.KeyId))
	}
	first, err := svc.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: k.KeyId, Limit: new(int32(1))})
	require.NoError(t, err)
	second, err := svc.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: k.KeyId, Limit: new(int32(1)), Marker: first.NextMarker,
		IncludeKeyMaterial: kms.IncludeKeyMaterialRotationsOnly})
	require.NoError(t, err)
	require.Len(t, second.Rotations, 1)
	require.NotEqual(t, first.Rotations, second.Rotations)
}
