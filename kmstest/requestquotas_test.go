package kmstest_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

func TestRequestQuotasThrottleOverHTTP(t *testing.T) {
	var seeds []seed.Key
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "0"} { // more CreateKeys than in a second
		seeds = append(seeds, seed.Key{ID: "1234abcd-12ab-34cd-56ef-12345678900" + id})
	}
	svc := kmstest.New(t, kmstest.RequestQuotas(), kmstest.Seed(seeds...))
	for range 5 {
		_, err := svc.CreateKey(t.Context(), nil)
		require.NoError(t, err)
	}
	_, err := svc.CreateKey(t.Context(), nil)
	require.ErrorIs(t, err, kms.ThrottlingException)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://kms.us-east-1.amazonaws.com/", bytes.NewReader([]byte("{}")))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "TrentService.CreateKey")
	response, err := awsapi.HTTPClient(svc.Service).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.JSONEq(t, `{"__type":"ThrottlingException","message":"You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}`, string(body))

	svc.Advance(time.Second)
	_, err = svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
}
