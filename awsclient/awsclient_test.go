package awsclient_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// newService returns a service that is closed at the end of the test. The module does not require
// an assertion library, because its users would have to as well.
func newService(t testing.TB) *kms.Service {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
	})
	return svc
}

func TestClientUsesTheService(t *testing.T) {
	t.Setenv("AWS_REGION", "nowhere")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null/none")
	svc := newService(t).In("eu-west-1")
	client := awsclient.New(svc)
	created, err := client.CreateKey(context.Background(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	described, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.ToString(created.KeyMetadata.KeyId)})
	if err != nil {
		t.Fatal(err)
	}
	if described.KeyMetadata.Arn != aws.ToString(created.KeyMetadata.Arn) {
		t.Error(described.KeyMetadata.Arn, "is not", *created.KeyMetadata.Arn)
	}
}

func TestOptionsAreApplied(t *testing.T) {
	client := awsclient.New(newService(t), func(o *awskms.Options) { o.Region = "us-west-2" })
	created, err := client.CreateKey(context.Background(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:kms:us-west-2:111122223333:key/" + *created.KeyMetadata.KeyId; *created.KeyMetadata.Arn != want {
		t.Error(*created.KeyMetadata.Arn, "is not", want)
	}
}

func TestWithoutBackoffRetriesAtOnce(t *testing.T) {
	fiveTimes := func(o *awskms.Options) { o.RetryMaxAttempts = 5 }
	fourTimes := func(o *awskms.Options) { o.Retryer = retry.AddWithMaxAttempts(o.Retryer, 4) }
	for _, tt := range []struct {
		name     string
		options  []func(*awskms.Options)
		attempts int
	}{
		{"the SDK's three", []func(*awskms.Options){awsclient.WithoutBackoff}, 3},
		{"as many as are set", []func(*awskms.Options){fiveTimes, awsclient.WithoutBackoff}, 5},
		{"as many as are set later", []func(*awskms.Options){awsclient.WithoutBackoff, fiveTimes}, 5},
		{"as a Retryer from before says", []func(*awskms.Options){fourTimes, awsclient.WithoutBackoff}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				svc, err := kms.New(kms.Config{
					Intercept: func(context.Context, kms.Call, func(context.Context) (any, error)) (any, error) {
						attempts++
						return nil, &kms.Error{Code: kms.KMSInternalException, Message: "injected"}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer svc.Close()
				start := time.Now() // by the bubble's clock, which advances only while everything waits
				_, err = awsclient.New(svc, tt.options...).ListKeys(t.Context(), &awskms.ListKeysInput{})
				if want := new(types.KMSInternalException); !errors.As(err, &want) {
					t.Error(err)
				}
				if waited := time.Since(start); attempts != tt.attempts || waited > time.Microsecond {
					t.Errorf("%d attempts, want %d; waited %v", attempts, tt.attempts, waited)
				}
			})
		})
	}
}
