package awsclient_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// A client for tests, which tries again as often as others, and at once. The SDK's own wait is real time, up to some seconds
// before each attempt, even where the service's clock is a test's.
func ExampleNew_withoutBackoff() {
	calls := 0
	throttled := func(_ context.Context, _ *kms.Service, _ kms.Operation, _ any, proceed func() (any, error)) (any, error) {
		if calls++; calls <= 2 {
			return nil, &kms.Error{Code: kms.ThrottlingException, Message: "Rate exceeded"}
		}
		return proceed()
	}
	svc, err := kms.New(kms.Config{Intercept: throttled})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()

	client := awsclient.New(svc, func(o *awskms.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	_, err = client.ListKeys(context.Background(), &awskms.ListKeysInput{})
	fmt.Println(calls, err)
	// Output: 3 <nil>
}
