package otel_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// post sends a request as an SDK that is instrumented does.
func post(t *testing.T, client *http.Client, url, operation, body string) http.Header {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	response, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	return response.Header
}

func TestTheSpanOfACallIsBetweenThoseOfTheRequestAndTheStore(t *testing.T) {
	r := newTelemetry(t)
	svc := r.newService(kms.Config{})
	api := awsapi.Handler(svc, awsapi.Options{InsecureTrustAll: true})
	server := httptest.NewServer(otelhttp.NewHandler(api, "request",
		otelhttp.WithTracerProvider(r.TracerProvider), otelhttp.WithMeterProvider(r.MeterProvider), otelhttp.WithPropagators(propagation.TraceContext{})))
	transport := &http.Transport{}
	header := post(t, &http.Client{Transport: transport}, server.URL, "CreateKey", "{}")
	transport.CloseIdleConnections()
	server.Close() // waits for the span of the request

	call, commit := r.ended("KMS/CreateKey"), r.ended("keystore/Commit")
	var request trace.SpanContext
	for _, span := range r.spans.Ended() {
		if span.SpanKind() == trace.SpanKindServer {
			request = span.SpanContext()
			require.Equal(t, "b7ad6b7169203331", span.Parent().SpanID().String())
		}
	}
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", call.SpanContext().TraceID().String())
	require.Equal(t, request.SpanID(), call.Parent().SpanID())
	require.Equal(t, trace.SpanKindInternal, call.SpanKind())
	require.Equal(t, call.SpanContext().SpanID(), commit.Parent().SpanID())
	require.Equal(t, header.Get("X-Amzn-Requestid"), attributesOf(call)["aws.request_id"])
}

func TestTheSpanOfACallIsThatOfTheRequestIfThereIsNoOther(t *testing.T) {
	r := newTelemetry(t)
	svc := r.newService(kms.Config{})
	api := awsapi.Handler(svc, awsapi.Options{InsecureTrustAll: true})
	client := &http.Client{Transport: awsapi.NewTransport(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		ctx := propagation.TraceContext{}.Extract(request.Context(), propagation.HeaderCarrier(request.Header))
		api.ServeHTTP(w, request.WithContext(ctx))
	}))}
	post(t, client, "http://kms", "ListKeys", "{}")
	call := r.ended("KMS/ListKeys")
	require.Equal(t, trace.SpanKindServer, call.SpanKind())
	require.Equal(t, "b7ad6b7169203331", call.Parent().SpanID().String())
}

func TestWorkInTheBackgroundHasNoSpans(t *testing.T) {
	r := newTelemetry(t)
	svc := r.newService(kms.Config{})
	k := createKey(t, svc, nil)
	_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
	require.NoError(t, err)
	before := len(r.spans.Ended())
	require.NoError(t, svc.Flush(context.Background()))
	require.NoError(t, svc.Close())
	require.Len(t, r.spans.Ended(), before)
	for _, span := range r.spans.Ended() {
		if strings.HasPrefix(span.Name(), "keystore/") {
			require.True(t, span.Parent().IsValid())
		}
	}
}
