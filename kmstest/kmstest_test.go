package kmstest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// failing is a test that can fail: it keeps the message of the failure.
type failing struct {
	ended
	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, arguments ...any) {
	f.message = fmt.Sprintf(format, arguments...)
	panic(f)
}

func (f *failing) Errorf(format string, arguments ...any) {
	f.message = fmt.Sprintf(format, arguments...)
}

func (f *failing) FailNow() { panic(f) }

// requireFailure requires that test fails with that message.
func requireFailure(t *testing.T, want string, test func(t testing.TB)) {
	t.Helper()
	f := &failing{ended: ended{TB: t}}
	func() {
		defer func() {
			if p := recover(); p != nil && p != f {
				panic(p)
			}
		}()
		test(f)
	}()
	f.end()
	require.Contains(t, f.message, want)
}

func createKey(t testing.TB, svc *kms.Service) string {
	t.Helper()
	out, err := svc.CreateKey(context.Background(), nil)
	require.NoError(t, err)
	return out.KeyMetadata.KeyId
}

func createAlias(t testing.TB, svc *kms.Service, name, keyID string) {
	t.Helper()
	_, err := svc.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: keyID})
	require.NoError(t, err)
}

func encrypt(svc *kms.Service, keyID string) ([]byte, error) {
	out, err := svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("hello")})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

func decrypt(svc *kms.Service, keyID string, blob []byte) error {
	_, err := svc.Decrypt(context.Background(), &kms.DecryptInput{KeyId: keyID, CiphertextBlob: blob})
	return err
}

func describe(svc *kms.Service, keyID string) (*kms.KeyMetadata, error) {
	out, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: keyID})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

func TestTheClockStandsUntilItIsMoved(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	require.Equal(t, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), svc.Now())
	id := createKey(t, svc.Service)
	_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id})
	require.NoError(t, err)

	svc.Advance(30*day - time.Nanosecond)
	_, err = describe(svc.Service, id)
	require.NoError(t, err)
	svc.Advance(time.Nanosecond)
	_, err = describe(svc.Service, id)
	require.ErrorIs(t, err, kms.NotFoundException)

	requireFailure(t, "cannot be set back, by -1ns", func(t testing.TB) { kmstest.New(t).Advance(-1) })
}

func TestOptionsChangeTheService(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	svc := kmstest.New(t, kmstest.Start(at), kmstest.Configure(func(c *kms.Config) {
		c.Account, c.Region, c.Clock = "444455556666", "eu-west-1", time.Now
	}))
	k, err := describe(svc.Service, createKey(t, svc.Service))
	require.NoError(t, err)
	require.Equal(t, at, k.CreationDate)
	require.True(t, strings.HasPrefix(k.Arn, "arn:aws:kms:eu-west-1:444455556666:key/"), k.Arn)

	requireFailure(t, "is not 12 digits", func(t testing.TB) {
		kmstest.New(t, kmstest.Configure(func(c *kms.Config) { c.Account = "1" }))
	})
}

func TestTheServiceIsClosedWithItsTest(t *testing.T) {
	t.Parallel()
	e := &ended{TB: t}
	svc := kmstest.New(e)
	e.end()
	_, err := svc.CreateKey(t.Context(), nil)
	require.ErrorIs(t, err, kms.ErrClosed)

	svc = kmstest.New(e)
	require.NoError(t, svc.Close(), "a test can close it")
	e.end()
}

func TestSeedsExistFromTheStart(t *testing.T) {
	t.Parallel()
	var events []string
	svc := kmstest.New(t,
		kmstest.EventualConsistency(time.Minute),
		kmstest.SeedFile("testdata/keys.yaml"),
		kmstest.Seed(seed.Key{ID: "00000000-0000-4000-8000-000000000000", State: kms.KeyStateDisabled}),
		kmstest.Configure(func(c *kms.Config) { c.Audit = sink(func(e *audit.Event) { events = append(events, e.EventName) }) }),
	)
	k, err := describe(svc.Service, "alias/app")
	require.NoError(t, err)
	require.Equal(t, "1234abcd-12ab-34cd-56ef-1234567890ab", k.KeyId)
	k, err = describe(svc.Service, "00000000-0000-4000-8000-000000000000")
	require.NoError(t, err)
	require.Equal(t, kms.KeyStateDisabled, k.KeyState)
	svc.RequireCalls(t, "DescribeKey", "DescribeKey")
	require.Equal(t, []string{"DescribeKey", "DescribeKey"}, events)

	requireFailure(t, "testdata/none.yaml", func(t testing.TB) { kmstest.New(t, kmstest.SeedFile("testdata/none.yaml")) })
	wrong := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("- id: x"), 0o600))
	requireFailure(t, "kmstest: "+wrong+": seed: line 1: a mapping is wanted", func(t testing.TB) { kmstest.New(t, kmstest.SeedFile(wrong)) })
	requireFailure(t, "seed: keys[0]", func(t testing.TB) { kmstest.New(t, kmstest.Seed(seed.Key{ID: "x"})) })
}

// sink is an audit.Sink.
type sink func(*audit.Event)

func (s sink) Record(_ context.Context, e *audit.Event) error { s(e); return nil }

func TestAConfiguredInterceptorIsCalledToo(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) {
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			if call.Operation.Name() == "Encrypt" {
				return nil, kmstest.DependencyTimeout()
			}
			return next(ctx)
		}
	}))
	_, err := encrypt(svc.Service, createKey(t, svc.Service))
	require.ErrorIs(t, err, kms.DependencyTimeoutException)
	require.False(t, svc.Calls("Encrypt")[0].Injected, "by no fault")
}

func TestAForkAndItsParentAreIndependent(t *testing.T) {
	t.Parallel()
	parent := kmstest.New(t)
	id := createKey(t, parent.Service)
	createAlias(t, parent.Service, "alias/app", id)
	blob, err := encrypt(parent.Service, id)
	require.NoError(t, err)
	parent.Inject(kmstest.Fault{Operations: []string{"Decrypt"}, Err: kmstest.Throttling()})
	parent.Advance(day)

	fork := parent.Fork(t)
	require.Equal(t, parent.Now(), fork.Now())
	require.Empty(t, fork.Calls())
	require.NoError(t, decrypt(fork.Service, "alias/app", blob), "no faults, and the same key")
	used, err := fork.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: id})
	require.NoError(t, err)
	require.Equal(t, kms.KeyLastUsageTrackingOperationDecrypt, used.KeyLastUsage.Operation)

	_, err = fork.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id})
	require.NoError(t, err)
	_, err = fork.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: "alias/app"})
	require.NoError(t, err)
	createAlias(t, parent.Service, "alias/parent", id)
	fork.Advance(day)
	another := parent.Fork(t)

	require.Equal(t, parent.Now().Add(day), fork.Now())
	for name, tt := range map[string]struct {
		svc                *kmstest.Service
		app, parent, state error
	}{
		"the parent":   {parent, nil, nil, nil},
		"the fork":     {fork, kms.NotFoundException, kms.NotFoundException, kms.DisabledException},
		"another fork": {another, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := describe(tt.svc.Service, "alias/app")
			require.ErrorIs(t, err, tt.app)
			_, err = describe(tt.svc.Service, "alias/parent")
			require.ErrorIs(t, err, tt.parent)
			_, err = encrypt(tt.svc.Service, id)
			require.ErrorIs(t, err, tt.state)
		})
	}
}

func TestAForkKnowsTheLastUseOfAKey(t *testing.T) {
	t.Parallel()
	parent := kmstest.New(t)
	id := createKey(t, parent.Service)
	_, err := encrypt(parent.Service, id)
	require.NoError(t, err)
	fork := parent.Fork(t)
	used, err := fork.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: id})
	require.NoError(t, err)
	require.Equal(t, kms.KeyLastUsageTrackingOperationEncrypt, used.KeyLastUsage.Operation)
}

func TestForksOutliveTheirParent(t *testing.T) {
	t.Parallel()
	e := &ended{TB: t}
	parent := kmstest.New(e)
	id := createKey(t, parent.Service)
	fork := parent.Fork(t)
	e.end()
	_, err := encrypt(fork.Service, id)
	require.NoError(t, err)
	requireFailure(t, "its test has ended", func(t testing.TB) { parent.Fork(t) })
}

func TestAForkCannotStartBeforeItsParent(t *testing.T) {
	t.Parallel()
	parent := kmstest.New(t)
	require.Equal(t, parent.Now().Add(day), parent.Fork(t, kmstest.Start(parent.Now().Add(day))).Now())
	requireFailure(t, "before the current time of its parent", func(t testing.TB) { parent.Fork(t, kmstest.Start(parent.Now().Add(-1))) })
}

// Parallel rows fork one prepared service while it is in use.
func TestForksCanBeCreatedConcurrently(t *testing.T) {
	t.Parallel()
	parent := kmstest.New(t)
	id := createKey(t, parent.Service)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			fork := parent.Fork(t)
			name := fmt.Sprint("alias/", i)
			if _, err := fork.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: id}); err != nil {
				t.Error(err)
			}
			out, err := fork.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: id})
			if err != nil || len(out.Aliases) != 1 || out.Aliases[0].AliasName != name {
				t.Error(out, err)
			}
			if _, err := encrypt(parent.Service, id); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
