package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/kmstest/conformance"
)

// call calls a Service by JSON.
func call(svc *kms.Service) conformance.Call {
	return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
		for _, op := range kms.Operations() {
			if op.Name() == operation {
				in := op.NewInput()
				if err := awsapi.Unmarshal(input, in); err != nil {
					return nil, errors.ErrUnsupported
				}
				out, err := op.Invoke(ctx, svc.In(region), in)
				if err != nil {
					return nil, err
				}
				return awsapi.Marshal(out)
			}
		}
		return nil, errors.ErrUnsupported
	}
}

// about selects facts whose text contains words.
func about(words ...string) func(conformance.Fact) bool {
	return func(f conformance.Fact) bool {
		for _, word := range words {
			if strings.Contains(f.Text, word) {
				return true
			}
		}
		return false
	}
}

func outcomes(r *conformance.Report, outcome conformance.Outcome) (texts []string) {
	for _, result := range r.With(outcome) {
		texts = append(texts, result.Text)
	}
	return texts
}

// Whoever forgets the Clock of a service whose clock stands still waits for one replica, not for each.
func TestReplicasThatAreNeverReadyAreWaitedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		svc, err := kms.New(kms.Config{Clock: func() time.Time { return began }})
		require.NoError(t, err)
		defer svc.Close()
		report := conformance.Check(t.Context(), conformance.Target{Call: call(svc)}, about("replica"))
		require.Less(t, time.Since(began), 2*time.Minute)
		require.Empty(t, report.With(conformance.Deviates), "%v", report)
		require.Contains(t, report.String(), "not run: needs replicas that are ready in a minute, or a Clock\n")
	})
}

// Each planted deviation is found, by the fact that knows better and no other.
func TestPlantedDeviationsAreFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plant  func(conformance.Call) conformance.Call
		fact   string
		reason string
	}{
		"another code": {func(c conformance.Call) conformance.Call {
			return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
				out, err := c(ctx, region, operation, input)
				if operation == "ScheduleKeyDeletion" && errors.Is(err, kms.KMSInvalidStateException) {
					err = &kms.Error{Code: kms.ValidationException, Message: err.(*kms.Error).Message}
				}
				return out, err
			}
		}, "a second ScheduleKeyDeletion", "ValidationException"},
		"another message": {func(c conformance.Call) conformance.Call {
			return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
				out, err := c(ctx, region, operation, input)
				if operation == "Encrypt" && errors.Is(err, kms.DisabledException) {
					err = &kms.Error{Code: kms.DisabledException, Message: "The key is disabled."}
				}
				return out, err
			}
		}, "the message about a disabled key has the key ARN though an alias was sent", "The key is disabled."},
		"a member too many": {func(c conformance.Call) conformance.Call {
			return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
				out, err := c(ctx, region, operation, input)
				if operation == "Encrypt" && err == nil {
					out = bytes.Replace(out, []byte("{"), []byte(`{"KeyMaterialId":"x",`), 1)
				}
				return out, err
			}
		}, "Encrypt answers without a key material ID", "KeyMaterialId"},
		"an error that is no exception": {func(c conformance.Call) conformance.Call {
			return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
				if operation == "GenerateRandom" {
					return nil, errors.New("a fake that is not finished")
				}
				return c(ctx, region, operation, input)
			}
		}, "GenerateRandom answers with the bytes", "a fake that is not finished"},
		"an output that is not JSON": {func(c conformance.Call) conformance.Call {
			return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
				if operation == "GenerateRandom" {
					return []byte("["), nil
				}
				return c(ctx, region, operation, input)
			}
		}, "GenerateRandom answers with the bytes", "the output is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := kmstest.New(t)
			selected := about("a second ScheduleKeyDeletion", "the message about a disabled key", "Encrypt answers without", "GenerateRandom answers")
			report := conformance.Check(t.Context(), conformance.Target{Call: call(svc.Service)}, selected)
			require.Len(t, outcomes(report, conformance.Conforms), 4, "%v", report)
			report = conformance.Check(t.Context(), conformance.Target{Call: tt.plant(call(svc.Service))}, selected)
			require.Equal(t, []string{tt.fact}, outcomes(report, conformance.Deviates), "%v", report)
			require.Contains(t, report.String(), "deviates: "+tt.fact)
			require.Contains(t, report.With(conformance.Deviates)[0].Reason, tt.reason)
			require.Contains(t, report.String(), "4 facts: 3 conform, 1 deviate, 0 not run")
		})
	}
}

// A target that has nothing but a Call, as AWS has, is not asked for more: the report names what was
// left out, and why.
func TestWhatATargetDoesNotHaveIsNotRun(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	for fact, need := range map[string]string{
		"a token after 24 hours": "a clock that moves",
		"ScheduleKeyDeletion says when, 30 days on unless asked otherwise": "a clock that stands still",
		"an operation without a key":                                       "another caller",
		"the version of an event":                                          "audit events",
		"the message of an exception":                                      "the bodies of responses",
		"a key in cn-north-1 by its ARN":                                   "a target that can be started with other settings",
		"ConnectCustomKeyStore answers with nothing":                       "a device for custom key stores",
		"CreateCustomKeyStore answers with the ID":                         "a device for custom key stores",
		"ListKeys gives ID and ARN":                                        "an account without other keys",
	} {
		report := conformance.Check(t.Context(), conformance.Target{Call: call(svc.Service)}, func(f conformance.Fact) bool { return f.Text == fact })
		require.Equal(t, []string{fact}, outcomes(report, conformance.NotRun), "%v", report)
		require.Equal(t, "not run: needs "+need+"\n    "+fact+"\n1 facts: 0 conform, 0 deviate, 1 not run", report.String())
	}
}

// At AWS the account is another, and what was created has to be deleted.
func TestAnotherAccountIsCheckedAndLeftClean(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) { c.Account, c.ReplicationDelay = "444455556667", -1 }))
	target := conformance.Target{Call: call(svc.Service), Account: "444455556667"}
	selected := about("an alias", "a replica", "CreateKey", "grant")
	report := conformance.Check(t.Context(), target, selected)
	require.Empty(t, outcomes(report, conformance.Deviates), "%v", report)
	require.Greater(t, len(report.With(conformance.Conforms)), 50)
	for _, result := range report.With(conformance.NotRun) {
		require.Contains(t, []string{
			"needs a user alice and a role worker", "needs a clock that stands still", "needs a clock that moves", "needs another caller", "needs audit events",
			"needs a target that can be started with other settings", "needs a device for custom key stores", "needs the bodies of responses",
		}, result.Reason, result.Text)
	}
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		for key, err := range svc.In(region).AllKeys(t.Context(), nil) {
			require.NoError(t, err)
			out, err := svc.In(region).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: key.KeyArn})
			require.NoError(t, err)
			if out.KeyMetadata.KeyManager == kms.KeyManagerCustomer {
				require.Contains(t, string(out.KeyMetadata.KeyState), "Deletion", "%v", out.KeyMetadata)
			}
		}
		aliases, err := svc.In(region).ListAliases(t.Context(), nil)
		require.NoError(t, err)
		for _, a := range aliases.Aliases {
			require.True(t, strings.HasPrefix(a.AliasName, "alias/aws/"), a.AliasName)
		}
	}
}

func TestACheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	report := conformance.Check(ctx, conformance.Target{Call: call(svc.Service)}, func(conformance.Fact) bool {
		cancel()
		return true
	})
	require.Len(t, report.Results, 1)
	require.Equal(t, conformance.Deviates, report.Results[0].Outcome, fmt.Sprint(report))
}
