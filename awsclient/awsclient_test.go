package awsclient_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
)

// newService returns a service that is closed with the test. This module has no assertion library: its go.mod is its
// users' as well.
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

func TestClientSeesTheService(t *testing.T) {
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
