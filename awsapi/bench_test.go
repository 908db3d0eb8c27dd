package awsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/benchtest"
)

// bare returns a handler that does the minimum for GenerateDataKey: it decodes the input and
// encodes a fixed output.
func bare(out *kms.GenerateDataKeyOutput) http.Handler {
	type input struct {
		KeyId             string
		EncryptionContext map[string]string
		KeySpec           kms.DataKeySpec
	}
	type output struct {
		CiphertextBlob []byte
		Plaintext      []byte
		KeyId          string
		KeyMaterialId  string
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in input
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.KeySpec != kms.DataKeySpecAES256 {
			http.Error(w, "bad input", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		json.NewEncoder(w).Encode(output{out.CiphertextBlob, out.Plaintext, out.KeyId, out.KeyMaterialId})
	})
}

// generateDataKey returns a service, a request for a data key, and a response to it.
func generateDataKey(b *testing.B) (svc *kms.Service, request []byte, answer *kms.GenerateDataKeyOutput) {
	svc, err := kms.New(kms.Config{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, svc.Close()) })
	key, err := svc.CreateKey(context.Background(), nil)
	require.NoError(b, err)
	answer, err = svc.GenerateDataKey(context.Background(), &kms.GenerateDataKeyInput{KeyId: key.KeyMetadata.KeyId, KeySpec: kms.DataKeySpecAES256})
	require.NoError(b, err)
	request = []byte(`{"EncryptionContext":{"purpose":"invoices","tenant":"4711"},"KeyId":"` + key.KeyMetadata.KeyId + `","KeySpec":"AES_256"}`)
	return svc, request, answer
}

// A sink is a ResponseWriter that discards the body.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkGenerateDataKeyHandler(b *testing.B) {
	svc, body, answer := generateDataKey(b)
	serve := func(h http.Handler) func() {
		template := httptest.NewRequest(http.MethodPost, "http://localhost/", nil)
		template.Header.Set("Content-Type", "application/x-amz-json-1.1")
		template.Header.Set("X-Amz-Target", "TrentService.GenerateDataKey")
		template.ContentLength = int64(len(body))
		return func() {
			r := template.WithContext(b.Context())
			r.Body = io.NopCloser(bytes.NewReader(body))
			w := &sink{header: http.Header{}}
			h.ServeHTTP(w, r)
			if w.status != 0 {
				panic(w.status)
			}
		}
	}
	benchtest.Compare(b, serve(bare(answer)), serve(awsapi.Handler(svc, awsapi.Options{InsecureTrustAll: true})))
}

// The same over HTTP/1.1 on the loopback interface.
func BenchmarkGenerateDataKeyLoopback(b *testing.B) {
	svc, body, answer := generateDataKey(b)
	post := func(h http.Handler) func() {
		server := httptest.NewServer(h)
		b.Cleanup(server.Close)
		return func() {
			r, err := http.NewRequest(http.MethodPost, server.URL, bytes.NewReader(body))
			if err != nil {
				panic(err)
			}
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
			r.Header.Set("X-Amz-Target", "TrentService.GenerateDataKey")
			response, err := server.Client().Do(r)
			if err != nil || response.StatusCode != http.StatusOK {
				panic(err)
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	benchtest.Compare(b, post(bare(answer)), post(awsapi.Handler(svc, awsapi.Options{InsecureTrustAll: true})))
}
