package kms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/kmstest/conformance"
)

// Every fact about AWS KMS holds of a Service, in Go and over HTTP.
func TestRecordedFacts(t *testing.T) {
	for _, way := range []struct {
		name   string
		target func(t *testing.T, with conformance.Settings) conformance.Target
		notRun []string
	}{
		{"in Go", targetInGo, []string{"needs inputs that are sent as JSON", "needs the bodies of responses"}},
		{"over HTTP", targetOverHTTP, nil},
	} {
		t.Run(way.name, func(t *testing.T) {
			seen := map[string]bool{}
			for _, f := range conformance.Facts() {
				require.False(t, seen[f.Text], "two facts say: %s", f.Text)
				seen[f.Text] = true
				t.Run(f.Text, func(t *testing.T) {
					result := f.Check(t.Context(), way.target(t, conformance.Settings{}))
					if result.Outcome == conformance.NotRun {
						require.Contains(t, way.notRun, result.Reason)
						return
					}
					require.Equal(t, conformance.Conforms, result.Outcome, result.Reason)
				})
			}
		})
	}
}

// targetInGo returns a new service to be called in Go, which has all that a fact may need.
func targetInGo(t *testing.T, with conformance.Settings) conformance.Target {
	events := new(trail)
	device, devices := conformance.Devices()
	svc, clock := newService(t, func(c *kms.Config) {
		c.Audit, c.Devices, c.Region, c.Intercept = events, devices, with.Region, withFixedRSA(t)
		if !with.ReplicationDelay {
			c.ReplicationDelay = -1
		}
	})
	return conformance.Target{
		Service: svc, Clock: advancing{clock}, Device: device, Discard: true,
		Restart: func(with conformance.Settings) conformance.Target { return targetInGo(t, with) },
		Event: func() []byte {
			taken := events.take()
			require.NotEmpty(t, taken)
			text, err := json.Marshal(taken[len(taken)-1])
			require.NoError(t, err)
			return text
		},
	}
}

// targetOverHTTP is targetInGo by the protocol of AWS.
func targetOverHTTP(t *testing.T, with conformance.Settings) conformance.Target {
	target := targetInGo(t, with)
	svc := target.Service
	as := func(svc *kms.Service) conformance.Call {
		return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
			return post(ctx, svc.In(region), operation, input)
		}
	}
	target.Service, target.HTTP, target.Call = nil, true, as(svc)
	target.As = func(arn string) conformance.Call { return as(svc.As(principal(t, arn))) }
	target.Restart = func(with conformance.Settings) conformance.Target { return targetOverHTTP(t, with) }
	return target
}

// withFixedRSA gives all RSA keys of a spec the same material, because it takes up to seconds to
// generate one.
func withFixedRSA(t *testing.T) kms.Interceptor {
	return func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
		in, ok := call.Input.(*kms.CreateKeyInput)
		if ok && strings.HasPrefix(string(in.KeySpec), "RSA_") && in.Origin != kms.OriginExternal {
			ctx = testhook.WithKey(ctx, &testhook.SeedKey{ID: arn.NewKeyID(in.MultiRegion), Materials: [][]byte{fixedRSA(t, in.KeySpec)}})
		}
		return next(ctx)
	}
}

type advancing struct{ *clock }

func (a advancing) Advance(d time.Duration) { a.Move(d) }

// A sentError is an exception as it was sent.
type sentError struct {
	body          []byte
	code, message string
}

func (e *sentError) Error() string        { return e.code + ": " + e.message }
func (e *sentError) ErrorCode() string    { return e.code }
func (e *sentError) ErrorMessage() string { return e.message }
func (e *sentError) Body() []byte         { return e.body }

// post calls an operation over HTTP. Its error is a *sentError.
func post(ctx context.Context, svc *kms.Service, operation string, input []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://kms/", bytes.NewReader(input))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	response, err := awsapi.HTTPClient(svc).Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return body, err
	}
	var members map[string]string
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	failure := &sentError{body: body, code: members["__type"]}
	for _, name := range []string{"message", "Message"} {
		if text, ok := members[name]; ok {
			failure.message = text
			if text == "" {
				return nil, &sentError{body: body, code: "an empty message, which AWS never sends"}
			}
		}
	}
	if response.StatusCode != http.StatusBadRequest { // as every client error has
		failure.code = response.Status
	}
	return nil, failure
}
