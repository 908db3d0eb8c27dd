package awsclient_test

import (
	"context"
	"fmt"
	"log"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// A client for a test, whose first two attempts are throttled.
func ExampleWithoutBackoff() {
	calls := 0
	throttled := func(ctx context.Context, _ kms.Call, next func(context.Context) (any, error)) (any, error) {
		if calls++; calls <= 2 {
			return nil, &kms.Error{Code: kms.ThrottlingException, Message: "Rate exceeded"}
		}
		return next(ctx)
	}
	svc, err := kms.New(kms.Config{Intercept: throttled})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()

	client := awsclient.New(svc, awsclient.WithoutBackoff)
	_, err = client.ListKeys(context.Background(), &awskms.ListKeysInput{})
	fmt.Println(calls, err)
	// Output: 3 <nil>
}
