package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

const seededID = "1234abcd-12ab-34cd-56ef-1234567890ab"

// impatient clients try three times, and do not wait in between.
func impatient(o *awskms.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 3
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

// The SDK's own retryer sees the faults of kmstest as those of AWS, in the same process and over a socket.
func TestTheSDKTriesAgainOnInjectedFaults(t *testing.T) {
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: seededID}))
	server := httptest.NewServer(awsapi.Handler(svc.Service, awsapi.Options{InsecureTrustAll: true}))
	defer server.Close()
	for transport, client := range map[string]*awskms.Client{
		"in process": awsclient.New(svc.Service, impatient),
		"on a socket": awskms.New(awskms.Options{
			Region: svc.Region(), Credentials: static("any", "any", ""), BaseEndpoint: aws.String(server.URL),
		}, impatient),
	} {
		for name, err := range map[string]error{
			"throttling":                    kmstest.Throttling(),
			"an internal failure":           kmstest.Internal(),
			"a timeout of a dependency":     kmstest.DependencyTimeout(),
			"a broken connection":           kmstest.ErrConnection,
			"an answer that was never seen": kmstest.ErrConnection,
		} {
			t.Run(name+" "+transport, func(t *testing.T) {
				svc.ResetCalls()
				defer svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Count: 2, Err: err, LoseResponse: name == "an answer that was never seen"})()
				_, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(seededID), Plaintext: []byte("hello")})
				require.NoError(t, err)
				svc.RequireCalls(t, "Encrypt", "Encrypt", "Encrypt")
				require.Equal(t, []byte("hello"), kmstest.Inputs[kms.EncryptInput](svc)[2].Plaintext)
			})
		}
	}
}

func TestInjectedFaultsAreErrorsOfTheSDK(t *testing.T) {
	svc := kmstest.New(t)
	client := awsclient.New(svc.Service, func(o *awskms.Options) { o.Retryer = aws.NopRetryer{} })
	fail := func(err error) error {
		defer svc.Inject(kmstest.Fault{Err: err})()
		_, err = client.ListKeys(t.Context(), nil)
		return err
	}
	var api smithy.APIError
	require.ErrorAs(t, fail(kmstest.Throttling()), &api)
	require.Equal(t, "ThrottlingException", api.ErrorCode())
	require.Equal(t, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.", api.ErrorMessage())
	require.True(t, is[*types.KMSInternalException](fail(kmstest.Internal())))
	require.True(t, is[*types.DependencyTimeoutException](fail(kmstest.DependencyTimeout())))
	require.True(t, is[*types.KeyUnavailableException](fail(&kms.Error{Code: kms.KeyUnavailableException})))
	err := fail(kmstest.ErrConnection)
	require.False(t, errors.As(err, &api), "there was no answer: %v", err)
	var connection interface{ ConnectionError() bool }
	require.ErrorAs(t, err, &connection)
	require.True(t, connection.ConnectionError())
}

func TestASlowServiceIsLeftAtTheDeadline(t *testing.T) {
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Latency: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		svc.BlockUntil(1)
		cancel()
	}()
	_, err := awsclient.New(svc).ListKeys(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	svc.RequireCalled(t, "ListKeys", 1)
}

// A fixture, a fork for each row, and the delay of a new alias, all through the SDK.
func TestTheSDKOnAForkOfAFixture(t *testing.T) {
	parent := kmstest.New(t, kmstest.Seed(seed.Key{ID: seededID, Aliases: []string{"alias/app"}}))
	sealed, err := awsclient.New(parent.Service).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String("alias/app"), Plaintext: []byte("hello")})
	require.NoError(t, err)

	fork := parent.Fork(t, kmstest.EventualConsistency(time.Second))
	client := awsclient.New(fork.Service)
	opened, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	require.NoError(t, err)
	require.True(t, bytes.Equal([]byte("hello"), opened.Plaintext))
	_, err = client.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/new"), TargetKeyId: aws.String(seededID)})
	require.NoError(t, err)
	describe := func() error {
		_, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String("alias/new")})
		return err
	}
	require.True(t, is[*types.NotFoundException](describe()))
	fork.Advance(time.Second)
	require.NoError(t, describe())
}

// A fork is an endpoint below the URL of its server, with a path that the SDK signs.
func TestTheSDKSignsRequestsToAFork(t *testing.T) {
	root, err := kms.ParsePrincipal("arn:aws:iam::111122223333:root")
	require.NoError(t, err)
	known, err := awsapi.NewCredentials(root, secretAccessKey)
	require.NoError(t, err)
	service, err := kmstest.NewServer(awsapi.Options{Credentials: func(id string) *awsapi.Credentials {
		if id != accessKeyID {
			return nil
		}
		return known
	}}, kmstest.Seed(seed.Key{ID: seededID}))
	require.NoError(t, err)
	defer service.Close()
	socket := httptest.NewServer(service)
	defer socket.Close()
	response, err := http.Post(socket.URL+"/test/v1/fork", "application/json", nil)
	require.NoError(t, err)
	defer response.Body.Close()
	var fork struct{ URL string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&fork))
	require.Equal(t, socket.URL+"/forks/1", fork.URL)

	for secret, want := range map[string]string{secretAccessKey: "", "another secret": "InvalidSignatureException"} {
		for _, endpoint := range []string{fork.URL, fork.URL + "/", socket.URL} {
			client := awskms.New(awskms.Options{Region: region, Credentials: static(accessKeyID, secret, ""), BaseEndpoint: aws.String(endpoint)})
			_, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String(seededID)})
			var api smithy.APIError
			code := ""
			if errors.As(err, &api) {
				code = api.ErrorCode()
			}
			require.Equal(t, want, code, "%s: %v", endpoint, err)
		}
	}
}
