// Package awsclient gives the AWS SDK's own KMS client for a [kms.Service] in the same process: no socket, no account, no
// credentials. It suits code that takes a *kms.Client of the SDK, or an interface of some of its methods.
//
// The client tries again like any other of the SDK, and waits in real time before it does. For a test that injects
// throttling or failures, [WithoutBackoff] takes the waiting away.
package awsclient

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// New returns a client whose calls go to svc, as the caller of that view and in its Region. Nothing is read from the
// environment or from shared configuration files.
//
// The options are applied last: with another Region the calls go to that one, and an HTTPClient that wraps
// [awsapi.HTTPClient] sees every request. The client is of no more use once svc is closed.
func New(svc *kms.Service, optFns ...func(*awskms.Options)) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: svc.Region(),
		// Any will do: the service does not verify what cannot have come from elsewhere.
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "in-process", SecretAccessKey: "in-process"}, nil
		}),
		HTTPClient: awsapi.HTTPClient(svc),
	}, optFns...)
}

// WithoutBackoff is an option for [New], or for one call, after which the client tries as often as before, but at once.
// The SDK's own wait is real time, up to some seconds before each attempt, even where the service's clock is a test's.
func WithoutBackoff(o *awskms.Options) {
	o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, time.Nanosecond) // of 0 it would take a logarithm
}
