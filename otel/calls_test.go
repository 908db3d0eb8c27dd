package otel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
	kmsotel "github.com/pocketkms/kms/otel"
)

func TestCallsAreCountedByTheirCode(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(nil))
	for _, op := range kms.Operations() {
		r.requireValues(map[string]int64{"kms.operations{code=OK,operation=" + op.Name() + "}": 0})
	}
	k := createKey(t, svc.Service, nil)
	for range 2 {
		_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
		require.NoError(t, err)
	}
	_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "alias/missing"})
	require.ErrorIs(t, err, kms.NotFoundException)
	r.requireValues(map[string]int64{
		"kms.operations{code=OK,operation=CreateKey}":                  1,
		"kms.operations{code=OK,operation=DescribeKey}":                2,
		"kms.operations{code=NotFoundException,operation=DescribeKey}": 1,
		"kms.operation.duration{operation=DescribeKey}":                3,
	})
}

func TestThrottlesAreCounted(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, kmstest.RequestQuotas(), r.instrument(nil))
	for range 10 { // the quota is 5 in a second
		_, err := svc.CancelKeyDeletion(t.Context(), nil)
		require.Error(t, err)
	}
	r.requireValues(map[string]int64{
		"kms.operations{code=ThrottlingException,operation=CancelKeyDeletion}": 5,
		"kms.operations{code=ValidationException,operation=CancelKeyDeletion}": 5,
	})
}

func TestErrorsAreRecordedByTheirCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code string
	}{
		{&kms.Error{Code: kms.DisabledException, Message: "secret"}, "DisabledException"},
		{errors.New("secret"), "KMSInternalException"},
		{fmt.Errorf("of another service: %w", &kms.Error{Code: kms.DisabledException}), "KMSInternalException"},
		{context.Canceled, "Canceled"},
		{fmt.Errorf("secret: %w", context.DeadlineExceeded), "DeadlineExceeded"},
		{kms.ErrClosed, "Closed"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			r := newTelemetry(t)
			svc := kmstest.New(t, r.instrument(func(c *kms.Config) {
				c.Intercept = func(context.Context, kms.Call, func(context.Context) (any, error)) (any, error) { return nil, tt.err }
			}))
			_, err := svc.ListKeys(t.Context(), nil)
			require.Error(t, err)
			r.requireValues(map[string]int64{"kms.operations{code=" + tt.code + ",operation=ListKeys}": 1})
			span := r.ended("KMS/ListKeys")
			require.Equal(t, sdktrace.Status{Code: codes.Error, Description: tt.code}, span.Status())
			require.Equal(t, tt.code, attributesOf(span)["error.type"])
			require.Equal(t, tt.code, attributesOf(span)["rpc.response.status_code"])
			require.Empty(t, span.Events())
		})
	}
}

func TestADryRunIsNoError(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(nil))
	k := createKey(t, svc.Service, nil)
	_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p"), DryRun: true})
	require.ErrorIs(t, err, kms.DryRunOperationException)
	require.Equal(t, codes.Unset, r.ended("KMS/Encrypt").Status().Code)
}

func TestACallThatPanicsIsCounted(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(func(c *kms.Config) {
		c.Intercept = func(context.Context, kms.Call, func(context.Context) (any, error)) (any, error) { panic("secret") }
	}))
	_, err := svc.ListKeys(t.Context(), nil)
	require.ErrorIs(t, err, kms.KMSInternalException)
	r.requireValues(map[string]int64{"kms.operations{code=KMSInternalException,operation=ListKeys}": 1})
	require.Equal(t, codes.Error, r.ended("KMS/ListKeys").Status().Code)
}

func TestCodesThatAnInterceptorMakesUpAreBounded(t *testing.T) {
	r := newTelemetry(t)
	n := 0
	svc := kmstest.New(t, r.instrument(func(c *kms.Config) {
		c.Intercept = func(context.Context, kms.Call, func(context.Context) (any, error)) (any, error) {
			n++
			return nil, &kms.Error{Code: kms.ErrorCode(fmt.Sprint("Code", n))}
		}
	}))
	before := len(r.values())
	for range 150 {
		_, err := svc.ListKeys(t.Context(), nil)
		require.Error(t, err)
	}
	require.LessOrEqual(t, len(r.values()), before+100)
	r.requireValues(map[string]int64{"kms.operations{code=_OTHER,operation=ListKeys}": 52})
}

func TestASpanDescribesTheCall(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(nil))
	k := createKey(t, svc.In("eu-west-1"), nil)
	_, err := svc.In("eu-west-1").Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
	require.NoError(t, err)
	span := r.ended("KMS/Encrypt")
	attributes := attributesOf(span)
	require.Len(t, attributes["aws.request_id"], 36)
	delete(attributes, "aws.request_id")
	require.Equal(t, map[string]string{
		"rpc.system.name": "aws-api", "rpc.method": "KMS/Encrypt", "rpc.response.status_code": "OK",
		"cloud.region": "eu-west-1", "kms.key.arn": k.Arn, "kms.key.spec": "SYMMETRIC_DEFAULT",
	}, attributes)
	require.Equal(t, sdktrace.Status{}, span.Status())
}

// The alarm that AWS advises to build on CloudTrail.
func TestUseOfAKeyThatIsPendingDeletionIsCounted(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(nil))
	k := createKey(t, svc.Service, nil)
	encrypt := func() error {
		_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
		return err
	}
	require.NoError(t, encrypt())
	_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId})
	require.NoError(t, err)
	_, err = svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyId})
	require.NoError(t, err)
	r.requireValues(map[string]int64{"kms.pending_deletion.use_attempts{}": 0})
	require.ErrorIs(t, encrypt(), kms.KMSInvalidStateException)
	svc.Advance(29 * 24 * time.Hour)
	require.ErrorIs(t, encrypt(), kms.KMSInvalidStateException)
	r.requireValues(map[string]int64{"kms.pending_deletion.use_attempts{}": 2})
	svc.Advance(24 * time.Hour)
	require.ErrorIs(t, encrypt(), kms.NotFoundException)
	r.requireValues(map[string]int64{"kms.pending_deletion.use_attempts{}": 2})
}

func TestRefusalsAreCounted(t *testing.T) {
	const deny = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`
	const arn = "arn:aws:iam::111122223333:user/alice"
	r := newTelemetry(t)
	svc := kmstest.New(t, r.instrument(nil))
	for _, alice := range []kms.Principal{kmstest.Principal(t, arn), kmstest.Principal(t, arn), kmstest.Principal(t, arn, deny)} {
		_, err := svc.As(alice).ListKeys(t.Context(), nil)
		require.ErrorIs(t, err, kms.AccessDeniedException)
	}
	r.requireValues(map[string]int64{
		"kms.authorization.refusals{result=implicit_deny}":              2,
		"kms.authorization.refusals{result=explicit_deny}":              1,
		"kms.operations{code=AccessDeniedException,operation=ListKeys}": 3,
	})
}

func TestThereAreMetricsWithoutSpans(t *testing.T) {
	r := newTelemetry(t)
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) {
		require.NoError(t, kmsotel.Instrument(c, kmsotel.Options{MeterProvider: r.MeterProvider, TracerProvider: noop.NewTracerProvider()}))
	}))
	_, err := svc.ListKeys(t.Context(), nil)
	require.NoError(t, err)
	r.requireValues(map[string]int64{"kms.operations{code=OK,operation=ListKeys}": 1})
}
