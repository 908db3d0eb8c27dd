package kmstest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/kmstest"
)

func TestACallFailsWithTheFaultsError(t *testing.T) {
	t.Parallel()
	other := errors.New("the disk is on fire")
	for name, tt := range map[string]struct {
		inject, want error
		text         string
	}{
		"throttling": {kmstest.Throttling(), kms.ThrottlingException,
			"kms: Encrypt: ThrottlingException: You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
		"an internal failure": {kmstest.Internal(), kms.KMSInternalException,
			"kms: Encrypt: KMSInternalException: The request could not be completed."},
		"a timeout": {kmstest.DependencyTimeout(), kms.DependencyTimeoutException,
			"kms: Encrypt: DependencyTimeoutException: The request was not completed in time."},
		"a bare code":              {kms.KeyUnavailableException, kms.KeyUnavailableException, "kms: Encrypt: KeyUnavailableException"},
		"a code of no exception":   {&kms.Error{Code: "TooHot"}, kms.ErrorCode("TooHot"), "kms: Encrypt: TooHot"},
		"any exception":            {&kms.Error{Code: kms.KeyUnavailableException}, kms.KeyUnavailableException, "kms: Encrypt: KeyUnavailableException"},
		"a broken connection":      {kmstest.ErrConnection, kmstest.ErrConnection, "kmstest: the connection broke"},
		"a wrapped one":            {fmt.Errorf("at night: %w", kmstest.ErrConnection), kmstest.ErrConnection, "at night: kmstest: the connection broke"},
		"a cancelled context":      {context.Canceled, context.Canceled, "context canceled"},
		"another, as KMS's defect": {other, kms.KMSInternalException, "kms: Encrypt: KMSInternalException: The request could not be completed: the disk is on fire"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := kmstest.New(t)
			id := createKey(t, svc.Service)
			remove := svc.Inject(kmstest.Fault{Err: tt.inject})
			_, err := encrypt(svc.Service, id)
			require.ErrorIs(t, err, tt.want)
			require.EqualError(t, err, tt.text)
			remove()
			remove()
			_, err = encrypt(svc.Service, id)
			require.NoError(t, err)
		})
	}
}

// A bare code has the message of the exception itself.
func TestABareCodeHasTheMessageOfAWS(t *testing.T) {
	t.Parallel()
	const region = "us-gov-west-1"
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) { c.Region = region }))
	id := createKey(t, svc.Service)
	createAlias(t, svc.Service, "alias/app", id)
	blob, err := encrypt(svc.Service, id)
	require.NoError(t, err)
	user, err := kms.ParsePrincipal("arn:aws-us-gov:iam::111122223333:user/alice")
	require.NoError(t, err)
	refused := func(code kms.ErrorCode, svc *kms.Service, call func(*kms.Service) error) string {
		t.Helper()
		err := call(svc)
		require.ErrorIs(t, err, code)
		return err.Error()
	}
	use := func(id string) func(*kms.Service) error {
		return func(svc *kms.Service) error { _, err := encrypt(svc, id); return err }
	}
	change := func(err error) { t.Helper(); require.NoError(t, err) }

	for name, tt := range map[string]struct {
		code    kms.ErrorCode
		view    func(*kms.Service) *kms.Service // of the caller
		prepare func(*kmstest.Service)          // makes call fail with code
		call    func(*kms.Service) error
	}{
		"a disabled key": {kms.DisabledException, nil, func(svc *kmstest.Service) {
			_, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id})
			change(err)
		}, use("alias/app")},
		"a key that is pending deletion": {kms.KMSInvalidStateException, nil, func(svc *kmstest.Service) {
			_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id})
			change(err)
		}, use(id)},
		"a key that does not exist": {kms.NotFoundException, nil, nil, use("00000000-0000-4000-8000-000000000000")},
		"a deleted alias": {kms.NotFoundException, nil, func(svc *kmstest.Service) {
			_, err := svc.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: "alias/app"})
			change(err)
		}, use("alias/app")},
		"an alias ARN":               {kms.NotFoundException, nil, nil, use("arn:aws-us-gov:kms:" + region + ":111122223333:alias/none")},
		"a user without permissions": {kms.AccessDeniedException, func(svc *kms.Service) *kms.Service { return svc.As(user) }, nil, use(id)},
		"a user with a ciphertext": {kms.AccessDeniedException, func(svc *kms.Service) *kms.Service { return svc.As(user) }, nil,
			func(svc *kms.Service) error { return decrypt(svc, "", blob) }},
		"a user with a ciphertext for another key": {kms.AccessDeniedException, func(svc *kms.Service) *kms.Service { return svc.As(user) }, nil,
			func(svc *kms.Service) error {
				_, err := svc.ReEncrypt(context.Background(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: id})
				return err
			}},
		"another key's ciphertext": {kms.IncorrectKeyException, nil, func(svc *kmstest.Service) {
			_, err := svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/app", TargetKeyId: createKey(t, svc.Service)})
			change(err)
		}, func(svc *kms.Service) error { return decrypt(svc, "alias/app", blob) }},
		"garbage": {kms.InvalidCiphertextException, nil, nil, func(svc *kms.Service) error { return decrypt(svc, "", []byte("garbage")) }},
		"a dry run": {kms.DryRunOperationException, nil, nil, func(svc *kms.Service) error {
			_, err := svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("hello"), DryRun: true})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			real, faulty := svc.Fork(t), svc.Fork(t)
			if tt.prepare != nil {
				tt.prepare(real)
			}
			faulty.Inject(kmstest.Fault{Err: tt.code})
			if tt.view == nil {
				tt.view = func(svc *kms.Service) *kms.Service { return svc }
			}
			require.Equal(t, refused(tt.code, tt.view(real.Service), tt.call), refused(tt.code, tt.view(faulty.Service), tt.call))
		})
	}
	t.Run("a call without a key", func(t *testing.T) {
		svc := svc.Fork(t)
		svc.Inject(kmstest.Fault{Err: kms.DisabledException})
		_, err := svc.ListKeys(t.Context(), nil)
		require.EqualError(t, err, "kms: ListKeys: DisabledException")
	})
}

// hits returns one letter for each of n calls: x if it failed, a dot if not.
func hits(svc *kmstest.Service, n int, call func() error) (pattern string) {
	for range n {
		if err := call(); err != nil {
			pattern += "x"
		} else {
			pattern += "."
		}
	}
	return pattern
}

func TestAFaultAffectsCountCallsAfterOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault kmstest.Fault
		want  string
	}{
		"all":               {kmstest.Fault{}, "xxxxxxxxxx"},
		"of its operations": {kmstest.Fault{Operations: []string{"Decrypt", "Encrypt"}}, "xxxxxxxxxx"},
		"of no other":       {kmstest.Fault{Operations: []string{"Decrypt"}}, ".........."},
		"the first":         {kmstest.Fault{Count: 1}, "x........."},
		"after the first":   {kmstest.Fault{After: 1}, ".xxxxxxxxx"},
		"two in the middle": {kmstest.Fault{After: 3, Count: 2}, "...xx....."},
	} {
		t.Run(name, func(t *testing.T) {
			svc := kmstest.New(t)
			id := createKey(t, svc.Service)
			tt.fault.Err = kmstest.Throttling()
			svc.Inject(tt.fault)
			require.Equal(t, tt.want, hits(svc, 10, func() error { _, err := encrypt(svc.Service, id); return err }))
		})
	}
}

func TestTheFirstErrorOfSeveralFaultsDecides(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Err: kmstest.Throttling(), Count: 2})
	svc.Inject(kmstest.Fault{Err: kmstest.Internal(), After: 1, Count: 1})
	svc.Inject(kmstest.Fault{Err: kmstest.DependencyTimeout(), After: 3})
	var codes []string
	for range 4 {
		_, err := svc.ListKeys(t.Context(), nil)
		var failure *kms.Error
		require.ErrorAs(t, err, &failure)
		codes = append(codes, failure.ErrorCode())
	}
	require.Equal(t, []string{"ThrottlingException", "ThrottlingException", "KMSInternalException", "DependencyTimeoutException"}, codes)
}

// In any order of the faults, latencies come before the effect, except that of a lost response.
func TestLatenciesAddUpInAnyOrder(t *testing.T) {
	slow, late := kmstest.Fault{Latency: time.Hour, WallClock: true}, kmstest.Fault{Latency: time.Minute, WallClock: true, LoseResponse: true, Err: kmstest.ErrConnection}
	for name, faults := range map[string][]kmstest.Fault{"error last": {slow, late}, "error first": {late, slow}} {
		synctest.Test(t, func(t *testing.T) {
			svc := kmstest.New(t)
			for _, f := range faults {
				svc.Inject(f)
			}
			start := time.Now()
			result := make(chan error)
			go func() { _, err := svc.CreateKey(t.Context(), nil); result <- err }()
			// The time of the bubble: it takes none.
			time.Sleep(time.Hour - time.Second)
			require.Equal(t, 0, keys(t, svc), name)
			time.Sleep(2 * time.Second)
			require.Equal(t, 1, keys(t, svc), name)
			require.ErrorIs(t, <-result, kmstest.ErrConnection)
			require.Equal(t, time.Hour+time.Minute, time.Since(start), name)
		})
	}
}

func TestProbableFaultsAreTheSameOnEveryRun(t *testing.T) {
	t.Parallel()
	run := func(fault kmstest.Fault) string {
		svc := kmstest.New(t)
		fault.Err = kmstest.Throttling()
		svc.Inject(fault)
		return hits(svc, 60, func() error { _, err := svc.ListKeys(t.Context(), nil); return err })
	}
	quarter := run(kmstest.Fault{Probability: 0.25})
	require.Equal(t, quarter, run(kmstest.Fault{Probability: 0.25}))
	require.NotEqual(t, quarter, run(kmstest.Fault{Probability: 0.25, Seed: 1}))
	require.Equal(t, "..............x..x..x....x...xx...x............x..x.......xx", quarter)
}

func TestAFaultOfAKeyMatchesAnyOfItsNames(t *testing.T) {
	t.Parallel()
	var events int
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) { c.Audit = sink(func(*audit.Event) { events++ }) }))
	id, other := createKey(t, svc.Service), createKey(t, svc.Service)
	multi, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: true})
	require.NoError(t, err)
	createAlias(t, svc.Service, "alias/app", id)
	createAlias(t, svc.Service, "alias/other", other)
	prefix := "arn:aws:kms:us-east-1:111122223333:"
	names := map[string]string{"ID": id, "ARN": prefix + "key/" + id, "alias": "alias/app", "alias ARN": prefix + "alias/app"}
	blob, err := encrypt(svc.Service, id)
	require.NoError(t, err)
	otherBlob, err := encrypt(svc.Service, other)
	require.NoError(t, err)
	multiBlob, err := encrypt(svc.Service, multi.KeyMetadata.KeyId)
	require.NoError(t, err)

	for named, key := range names {
		t.Run("by "+named, func(t *testing.T) {
			remove := svc.Inject(kmstest.Fault{Key: key, Err: kmstest.Throttling()})
			defer remove()
			for sent, name := range names {
				_, err := encrypt(svc.Service, name)
				require.ErrorIs(t, err, kms.ThrottlingException, sent)
			}
			require.ErrorIs(t, decrypt(svc.Service, "", blob), kms.ThrottlingException, "only a ciphertext")
			_, err := svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: otherBlob, DestinationKeyId: id})
			require.ErrorIs(t, err, kms.ThrottlingException)
			_, err = svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/other", TargetKeyId: id})
			require.ErrorIs(t, err, kms.ThrottlingException)

			_, err = encrypt(svc.Service, "alias/other")
			require.NoError(t, err)
			require.NoError(t, decrypt(svc.Service, "", otherBlob))
			_, err = encrypt(svc.Service, "alias/none")
			require.ErrorIs(t, err, kms.NotFoundException)
			require.ErrorIs(t, decrypt(svc.Service, "", []byte("no ciphertext")), kms.InvalidCiphertextException)
			_, err = svc.ListKeys(t.Context(), nil)
			require.NoError(t, err)
			_, err = encrypt(svc.In("eu-west-1"), id)
			if key == id {
				require.ErrorIs(t, err, kms.ThrottlingException, "the same text in any Region")
			} else {
				require.ErrorIs(t, err, kms.NotFoundException, "another Region's key of that ID")
			}
		})
	}
	t.Run("another account's key, by its alias", func(t *testing.T) {
		alice, err := kms.ParsePrincipal("arn:aws:iam::444455556666:root")
		require.NoError(t, err)
		defer svc.Inject(kmstest.Fault{Key: names["ARN"], Err: kmstest.Throttling()})()
		_, err = encrypt(svc.As(alice), names["alias ARN"])
		require.ErrorIs(t, err, kms.ThrottlingException)
		_, err = encrypt(svc.As(alice), "alias/app")
		require.ErrorIs(t, err, kms.NotFoundException, "her own alias")
		require.ErrorIs(t, decrypt(svc.As(alice), "", blob), kms.ThrottlingException)
		require.ErrorIs(t, decrypt(svc.As(kms.Principal{}), "", []byte{1}), kms.AccessDeniedException)
	})
	t.Run("by the name that the test has for it, for any caller", func(t *testing.T) {
		bob, err := kms.ParsePrincipal("arn:aws:iam::444455556666:root")
		require.NoError(t, err)
		for _, name := range names {
			remove := svc.Inject(kmstest.Fault{Key: name, Err: kmstest.Throttling()})
			_, err = encrypt(svc.As(bob), names["ARN"])
			require.ErrorIs(t, err, kms.ThrottlingException, name)
			_, err = encrypt(svc.In("eu-west-1"), names["ARN"])
			require.ErrorIs(t, err, kms.ThrottlingException, name)
			remove()
		}
	})
	t.Run("a multi-Region key, by its ciphertext", func(t *testing.T) {
		svc.Inject(kmstest.Fault{Key: multi.KeyMetadata.KeyId, Err: kmstest.Throttling()})
		require.ErrorIs(t, decrypt(svc.Service, "", multiBlob), kms.ThrottlingException)
	})
	require.Equal(t, len(svc.Calls()), events, "resolving an alias is not recorded")
}

func TestAFaultOfAKeyCreatesNoKey(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Key: "alias/aws/s3", Err: kmstest.Throttling()})
	_, err := svc.ListAliases(t.Context(), nil)
	require.NoError(t, err)
	_, err = describe(svc.Service, "alias/aws/s3")
	require.ErrorIs(t, err, kms.ThrottlingException, "as sent")
	keys, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, keys.Keys)
}

// A grant with a name can be created again after a lost response; the second call returns the first
// grant.
func TestALostGrantIsFoundAgain(t *testing.T) {
	svc := kmstest.New(t)
	id := createKey(t, svc.Service)
	svc.Inject(kmstest.Fault{Operations: []string{"CreateGrant"}, Key: id, Count: 1, LoseResponse: true, Err: kmstest.ErrConnection})
	_, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: id, GranteePrincipal: reader, RetiringPrincipal: reader, Name: "a",
		Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}})
	require.ErrorIs(t, err, kmstest.ErrConnection)
	requireGrants(t, svc.Service, id, 1)
	createGrant(t, svc.Service, id)
	requireGrants(t, svc.Service, id, 1)
}

func TestLoseResponseLosesOnlyTheResponse(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Operations: []string{"CreateKey"}, Count: 1, LoseResponse: true, Err: kmstest.ErrConnection})
	_, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: "none"})
	require.ErrorIs(t, err, kms.ValidationException, "there was no response to lose")
	require.False(t, svc.Calls()[0].Injected)

	svc.Inject(kmstest.Fault{Operations: []string{"CreateKey"}, Count: 1, LoseResponse: true, Err: kmstest.ErrConnection})
	_, err = svc.CreateKey(t.Context(), nil)
	require.ErrorIs(t, err, kmstest.ErrConnection)
	require.True(t, svc.Calls()[1].Injected)
	keys, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, keys.Keys, 1)
}

func TestASlowCallWaitsForTheClock(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	id := createKey(t, svc.Service)
	svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Latency: 2 * time.Second})
	svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Latency: time.Second, Err: kmstest.DependencyTimeout(), Count: 1})
	results := make(chan error)
	start := func() { go func() { _, err := encrypt(svc.Service, id); results <- err }() }

	start()
	svc.BlockUntil(1)
	svc.Advance(3*time.Second - 1)
	svc.BlockUntil(1)
	require.True(t, svc.Calls("Encrypt")[0].Pending)
	svc.Advance(1)
	require.ErrorIs(t, <-results, kms.DependencyTimeoutException)

	start()
	start()
	svc.BlockUntil(2)
	svc.Advance(2 * time.Second)
	require.NoError(t, <-results)
	require.NoError(t, <-results)
}

func TestASlowCallEndsWithItsContextAndWithTheService(t *testing.T) {
	t.Parallel()
	e := &ended{TB: t}
	svc := kmstest.New(e)
	svc.Inject(kmstest.Fault{Operations: []string{"ListKeys"}, Latency: time.Hour})
	svc.Inject(kmstest.Fault{Operations: []string{"ListAliases"}, Latency: time.Hour, WallClock: true})
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	call := func() { _, err := svc.ListKeys(ctx, nil); results <- err }

	go call()
	svc.BlockUntil(1)
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)

	ctx = t.Context()
	go call()
	svc.BlockUntil(1)
	go func() { _, err := svc.ListAliases(ctx, nil); results <- err }()
	e.end()
	require.ErrorIs(t, <-results, kms.ErrClosed)
	require.ErrorIs(t, <-results, kms.ErrClosed)
}

func TestWallClockLatencyIsThatOfTheBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := kmstest.New(t)
		svc.Inject(kmstest.Fault{Latency: time.Hour, WallClock: true})
		start := time.Now()
		_, err := svc.ListKeys(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = svc.ListKeys(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Minute, time.Since(start))
	})
}

func TestImpossibleFaultsFailTheTest(t *testing.T) {
	t.Parallel()
	for want, fault := range map[string]kmstest.Fault{
		`the Service has no operation "Decyrpt"`: {Operations: []string{"Decyrpt"}, Err: kmstest.Internal()},
		"needs an Err or a Latency":              {Count: 1},
		"with LoseResponse needs an Err":         {LoseResponse: true, Latency: 1},
		"must not be negative":                   {Count: -1, Err: kmstest.Internal()},
		"Probability must be between 0 and 1":    {Probability: 1.5, Err: kmstest.Internal()},
	} {
		requireFailure(t, want, func(t testing.TB) { kmstest.New(t).Inject(fault) })
	}
}

// disabled is like types.DisabledException of the AWS SDK.
type disabled struct{}

func (*disabled) Error() string     { return "DisabledException: " }
func (*disabled) ErrorCode() string { return "DisabledException" }

func TestForeignExceptionsFailTheTest(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		new(disabled),
		fmt.Errorf("at night: %w", new(disabled)),
		fmt.Errorf("at night: %w", kms.DisabledException),
		fmt.Errorf("at night: %w", &kms.Error{Code: kms.DisabledException}),
	} {
		requireFailure(t, "kmstest: the Err is not an exception of package kms: use kms.DisabledException or &kms.Error{Code: kms.DisabledException}",
			func(t testing.TB) { kmstest.New(t).Inject(kmstest.Fault{Err: err}) })
	}
}

// Exactly Count of the calls of many goroutines are affected.
func TestFaultsCountConcurrentCalls(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{After: 10, Count: 25, Err: kmstest.Throttling()})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 {
				svc.ListKeys(context.Background(), nil)
			}
		})
	}
	group.Wait()
	failed := 0
	for _, c := range svc.Calls("ListKeys") {
		if c.Injected {
			failed++
		}
	}
	require.Equal(t, 25, failed)
	svc.RequireCalled(t, "ListKeys", 80)
}

// keys returns the number of keys of a service, in a fork, which has no faults.
func keys(t *testing.T, svc *kmstest.Service) int {
	fork := svc.Fork(t)
	out, err := fork.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	return len(out.Keys)
}
