package integration_test

import (
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	gocloudkms "gocloud.dev/secrets/awskms"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/kmstest"
)

// setenv has the clients of this process find the server in the environment.
func (w *wire) setenv(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": w.url, "AWS_REGION": region, "AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": w.secret, "AWS_SESSION_TOKEN": "",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// A keeper is opened by its URL, as Go Cloud's users do; server and credentials are found in the environment.
func TestGoCloudURL(t *testing.T) {
	svc := newService(t)
	w := listen(t)
	w.serve(svc)
	w.setenv(t)
	arn := fixture{t, svc}.arnOf(fixture{t, svc}.aliased("alias/app"))

	open := func(url string) *secrets.Keeper {
		keeper, err := secrets.OpenKeeper(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, keeper.Close()) })
		return keeper
	}
	ciphertext, err := open("awskms://alias/app?region=us-east-1&context_tenant=4711").Encrypt(t.Context(), []byte("x"))
	require.NoError(t, err)
	plaintext, err := open("awskms:///"+arn+"?context_tenant=4711").Decrypt(t.Context(), ciphertext)
	require.NoError(t, err)
	require.Equal(t, "x", string(plaintext))

	_, err = open("awskms://alias/app?context_tenant=4712").Decrypt(t.Context(), ciphertext)
	require.Equal(t, gcerrors.InvalidArgument, gcerrors.Code(err))
	_, err = open("awskms://alias/app?region=eu-west-1").Encrypt(t.Context(), []byte("x"))
	require.Equal(t, gcerrors.NotFound, gcerrors.Code(err), "keys are in one Region")
}

// Go Cloud's codes for what KMS itself fails with, rather than refuses.
func TestGoCloudFailures(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code gcerrors.ErrorCode
	}{
		{kmstest.Internal(), gcerrors.Internal},
		{kmstest.DependencyTimeout(), gcerrors.DeadlineExceeded},
		{&kms.Error{Code: kms.KeyUnavailableException}, gcerrors.ResourceExhausted},
	} {
		t.Run(tt.code.String(), func(t *testing.T) {
			svc := kmstest.New(t)
			key := fixture{t, svc.Service}.arn()
			svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Err: tt.err})
			once := awsclient.New(svc.Service, func(o *awskms.Options) { o.RetryMaxAttempts = 1 })
			keeper := gocloudkms.OpenKeeperV2(once, key, nil)
			defer keeper.Close()
			_, err := keeper.Encrypt(t.Context(), []byte("x"))
			require.Equal(t, tt.code, gcerrors.Code(err), "%v", err)
			svc.RequireCalled(t, "Encrypt", 1)
		})
	}
}
