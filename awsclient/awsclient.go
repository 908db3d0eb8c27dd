// Package awsclient returns the AWS SDK's own KMS client for a [kms.Service] in the same process:
// no socket, no account, no credentials. Use it for code that takes the SDK's *kms.Client, or an
// interface of some of its methods.
//
// Like every client of the SDK it retries, and waits in real time between attempts. In a test that
// injects throttling or failures, pass [WithoutBackoff] to retry at once, or run the test in a
// bubble of testing/synctest, in which the waits take no time.
//
// A program that makes its client from config.LoadDefaultConfig can pass awsapi.HTTPClient to it. If
// AWS_CA_BUNDLE is set, LoadDefaultConfig fails with such a client, because it can add certificates
// only to its own: unset the variable in the test, or set HTTPClient in the options of the client.
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

// A Service is a *[kms.Service], or what embeds one, as kmstest.Service does.
type Service interface {
	Region() string
	In(region string) *kms.Service
}

// New returns a client of svc. Its calls are made by the caller of that view and go to its Region.
// New reads neither the environment nor shared configuration files.
//
// The options are applied last: another Region directs the calls to that Region, and an HTTPClient
// that wraps [awsapi.HTTPClient] sees every request. Do not use the client after svc is closed.
func New(svc Service, optFns ...func(*awskms.Options)) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: svc.Region(),
		// Any will do: signatures are not verified in process.
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "in-process", SecretAccessKey: "in-process"}, nil
		}),
		HTTPClient: awsapi.HTTPClient(svc.In(svc.Region())),
	}, optFns...)
}

// WithoutBackoff is an option for [New] or for a single call. It keeps the number of attempts but
// removes the delay between them. The SDK's delay is in real time, up to a few seconds before each
// attempt, even if the service runs on a test's clock.
func WithoutBackoff(o *awskms.Options) {
	o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, time.Nanosecond) // it takes the logarithm, so not 0
}
