package awsclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/kmstest/conformance"
)

// The facts about AWS KMS hold of a service that is called through the SDK.
func TestTheSDKConforms(t *testing.T) {
	svc := kmstest.New(t, kmstest.Start(conformance.Start))
	as := func(arn string) conformance.Call {
		return awsclient.JSON(awsclient.New(svc.As(kmstest.Principal(t, arn))))
	}
	report := conformance.Check(t.Context(), conformance.Target{
		Call: awsclient.JSON(awsclient.New(svc.Service)), As: as, Clock: svc,
	}, nil)
	require.Zero(t, len(report.With(conformance.Deviates)), "%v", report)
	require.Greater(t, len(report.With(conformance.Conforms)), 600, "%v", report)
	t.Log(report)
}

// half is a fake of which a program needs only Encrypt.
type half struct{}

func (half) Encrypt(context.Context, *awskms.EncryptInput, ...func(*awskms.Options)) (*awskms.EncryptOutput, error) {
	return &awskms.EncryptOutput{KeyId: aws.String("k"), CiphertextBlob: []byte("x")}, nil
}
func (half) Decrypt() {}

func TestJSONRefusesWhatTheClientCannotSend(t *testing.T) {
	call := awsclient.JSON(half{})
	out, err := call(t.Context(), "us-east-1", "Encrypt", []byte(`{"KeyId":"alias/a","Plaintext":"aGVsbG8="}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"KeyId":"k","CiphertextBlob":"eA=="}`, string(out))
	for _, tt := range []struct{ operation, input string }{
		{"Sign", `{}`}, {"Decrypt", `{}`}, {"Encrypt", `{"Key":"k"}`}, {"Encrypt", `{"KeyId":1}`}, {"Encrypt", `{"Plaintext":"?"}`}, {"Encrypt", `[]`},
		{"Encrypt", `{"EncryptionContext":{"a":null}}`}, {"Encrypt", `{"DryRun":"true"}`}, {"Encrypt", `{"GrantTokens":{}}`},
	} {
		_, err := call(t.Context(), "us-east-1", tt.operation, []byte(tt.input))
		require.ErrorIs(t, err, errors.ErrUnsupported, "%v", tt)
	}
	_, err = call(t.Context(), "us-east-1", "Encrypt", []byte(`{`))
	require.ErrorContains(t, err, "not JSON")
}

// The check of a KMS through an SDK client takes these lines. With awskms.NewFromConfig for the
// client, and the Account, it checks AWS.
func ExampleJSON() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	target := conformance.Target{Call: awsclient.JSON(awsclient.New(svc))}
	report := conformance.Check(context.Background(), target, func(f conformance.Fact) bool {
		return f.Text == "a second ScheduleKeyDeletion" || f.Text == "a token after 24 hours"
	})
	fmt.Println(report)
	// Output:
	// not run: needs a clock that moves
	//     a token after 24 hours
	// 2 facts: 1 conform, 0 deviate, 1 not run
}
