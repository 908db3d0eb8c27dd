package kms_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/kmstest"
)

// withOutcomes returns a setting that appends the outcome of each call to all.
func withOutcomes(all *[]kms.Outcome) func(*kms.Config) {
	return func(c *kms.Config) {
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			if *call.Outcome != (kms.Outcome{}) {
				panic("the outcome is not zero before the call")
			}
			out, err := next(ctx)
			*all = append(*all, *call.Outcome)
			return out, err
		}
	}
}

func TestAnInterceptorSeesTheOutcome(t *testing.T) {
	var outcomes []kms.Outcome
	last := func() kms.Outcome {
		o := outcomes[len(outcomes)-1]
		require.False(t, o.RequestID.IsZero())
		o.RequestID = audit.UUID{}
		return o
	}
	svc, clock := newService(t, withOutcomes(&outcomes))
	_, err := svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(8))})
	require.NoError(t, err)
	require.Zero(t, last())

	k := createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	_, err = svc.Sign(t.Context(), &kms.SignInput{KeyId: k.KeyId, Message: []byte("m"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
	require.NoError(t, err)
	want := kms.Outcome{KeyARN: k.Arn, KeySpec: kms.KeySpecECCNISTP256, KeyOrigin: kms.OriginAWSKMS, KeyState: kms.KeyStateEnabled}
	require.Equal(t, want, last())

	_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	require.NoError(t, err)
	_, err = svc.Sign(t.Context(), &kms.SignInput{KeyId: k.KeyId, Message: []byte("m"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
	require.ErrorIs(t, err, kms.KMSInvalidStateException)
	want.KeyState = kms.KeyStatePendingDeletion
	require.Equal(t, want, last())

	usable := createKey(t, svc, nil)
	sealed, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: usable.KeyId, Plaintext: []byte("p")})
	require.NoError(t, err)
	_, err = svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: k.KeyId})
	require.ErrorIs(t, err, kms.KMSInvalidStateException)
	require.Equal(t, want, last())

	clock.Move(30 * 24 * time.Hour)
	_, err = svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.Zero(t, last())
}

func TestTheOutcomeHasTheIDOfTheRequest(t *testing.T) {
	var outcomes []kms.Outcome
	var events []audit.UUID
	svc, _ := newService(t, withOutcomes(&outcomes), func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error { events = append(events, e.RequestID); return nil })
	})
	id := audit.UUID{1, 2, 3}
	for _, ctx := range []context.Context{t.Context(), audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{ID: id})} {
		_, err := svc.ListKeys(ctx, nil)
		require.NoError(t, err)
	}
	require.Equal(t, events, []audit.UUID{outcomes[0].RequestID, outcomes[1].RequestID})
	require.Equal(t, id, outcomes[1].RequestID)
}

func TestTheOutcomeSaysWhichRefusalItWas(t *testing.T) {
	const deny = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`
	const allow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`
	var outcomes []kms.Outcome
	for _, mode := range []kms.AuthorizationMode{kms.Enforce, kms.Observe} {
		svc, _ := newService(t, withOutcomes(&outcomes), func(c *kms.Config) { c.Authorization = mode })
		k := createKey(t, svc, nil)
		sealed, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
		require.NoError(t, err)
		for _, tt := range []struct {
			name, arn, policy string
			want              kms.Verdict
		}{
			{"allowed", "arn:aws:iam::111122223333:user/alice", allow, ""},
			{"nothing allows", "arn:aws:iam::111122223333:user/alice", "", kms.VerdictImplicitDeny},
			{"a deny", "arn:aws:iam::111122223333:user/alice", deny, kms.VerdictExplicitDeny},
		} {
			var policies []string
			if tt.policy != "" {
				policies = []string{tt.policy}
			}
			view := svc.As(kmstest.Principal(t, tt.arn, policies...))
			for operation, call := range map[string]func() error{
				"CreateKey": func() error { _, err := view.CreateKey(t.Context(), nil); return err },
				"DescribeKey": func() error {
					_, err := view.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
					return err
				},
				"Decrypt": func() error { // whose refusal does not say which it is
					_, err := view.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
					return err
				},
			} {
				err := call()
				require.Equal(t, mode == kms.Enforce && tt.want != "", err != nil, "%s: %v", operation, err)
				require.Equal(t, tt.want, outcomes[len(outcomes)-1].Refusal, "%s, %s", tt.name, operation)
			}
		}
		setPolicy(t, svc, k.KeyId, strings.Replace(everybodys, `"Allow"`, `"Deny"`, 1))
		_, err = svc.As(kmstest.Principal(t, fixtureAlice, allow)).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		require.Equal(t, mode == kms.Enforce, err != nil)
		require.Equal(t, kms.VerdictExplicitDeny, outcomes[len(outcomes)-1].Refusal)
	}
}
