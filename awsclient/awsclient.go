// Package awsclient gives the AWS SDK's own KMS client for a [kms.Service] in the same process: no socket, no account, no
// credentials. It suits code that takes a *kms.Client of the SDK, or an interface of some of its methods.
//
// The client tries again like any other of the SDK, and waits before it does. A test that injects throttling or failures
// takes the waiting away: the example of [New] shows how.
package awsclient

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
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
