package otel_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/kmstest"
)

const marker = "SECRET"

// mark sets everything in v that can hold a text, however deep, to one that can be recognized.
func mark(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		mark(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				mark(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString(marker)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(marker))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		mark(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		name, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		mark(name)
		mark(value)
		v.SetMapIndex(name, value)
	}
}

// outputOf returns a marked output of an operation.
func outputOf(t *testing.T, svc *kms.Service, op kms.Operation) any {
	method := reflect.ValueOf(svc).MethodByName(op.Name())
	require.True(t, method.IsValid())
	out := reflect.New(method.Type().Out(0)).Elem()
	mark(out)
	return out.Interface()
}

// Whatever is in the input, the output or the error of a call, in the request or in the name of the
// caller, is in no metric and no span.
func TestNoMetricAndNoSpanHasWhatACallHas(t *testing.T) {
	r := newTelemetry(t)
	var result func(call kms.Call, next func() (any, error)) (any, error)
	svc := kmstest.New(t, r.instrument(func(c *kms.Config) {
		c.Audit = audit.Discard
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			return result(call, func() (any, error) { return next(ctx) })
		}
	}))
	ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{SourceIPAddress: marker, UserAgent: marker, AccessKeyID: marker})
	caller := svc.As(kmstest.Principal(t, "arn:aws:iam::111122223333:user/"+marker))
	results := []func(call kms.Call, next func() (any, error)) (any, error){
		func(call kms.Call, next func() (any, error)) (any, error) { return next() },
		func(call kms.Call, _ func() (any, error)) (any, error) {
			return outputOf(t, svc.Service, call.Operation), nil
		},
		func(kms.Call, func() (any, error)) (any, error) {
			return nil, &kms.Error{Code: kms.NotFoundException, Message: marker}
		},
		func(kms.Call, func() (any, error)) (any, error) { return nil, fmt.Errorf("%s", marker) },
	}
	for _, op := range kms.Operations() {
		for i := range results {
			result = results[i]
			in := op.NewInput()
			mark(reflect.ValueOf(in).Elem())
			_, err := op.Invoke(ctx, caller, in)
			require.Equal(t, i == 1, err == nil, "%s: %v", op.Name(), err)
		}
	}
	require.Len(t, r.spans.Ended(), len(results)*len(kms.Operations()))
	requireUnmarked(t, r)
}

// The same with calls that reach a key, whose ARN spans may have, and the store.
func TestNoMetricAndNoSpanHasASecretOfACallThatSucceeds(t *testing.T) {
	r := newTelemetry(t)
	svc := r.newService(kms.Config{Audit: audit.Discard})
	ctx, pairs := t.Context(), map[string]string{marker: marker}
	k := createKey(t, svc, &kms.CreateKeyInput{Description: marker, Tags: []kms.Tag{{TagKey: marker, TagValue: marker}}})
	_, err := svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/" + marker, TargetKeyId: k.KeyId})
	require.NoError(t, err)
	sealed, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/" + marker, Plaintext: []byte(marker), EncryptionContext: pairs})
	require.NoError(t, err)
	grant, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId: k.KeyId, GranteePrincipal: "arn:aws:iam::111122223333:user/" + marker, Name: marker,
		Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
	})
	require.NoError(t, err)
	alice := kmstest.Principal(t, "arn:aws:iam::111122223333:user/"+marker)
	opened, err := svc.As(alice).Decrypt(ctx, &kms.DecryptInput{
		KeyId: k.Arn, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: pairs, GrantTokens: []string{grant.GrantToken},
	})
	require.NoError(t, err)
	require.Equal(t, marker, string(opened.Plaintext))
	_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/not-" + marker})
	require.ErrorIs(t, err, kms.NotFoundException)
	requireUnmarked(t, r, grant.GrantToken, string(sealed.CiphertextBlob))
	require.Equal(t, k.Arn, attributesOf(r.ended("KMS/Decrypt"))["kms.key.arn"])
	for name := range r.values() {
		require.NotContains(t, name, k.KeyId)
	}
}

func requireUnmarked(t *testing.T, r *telemetry, others ...string) {
	t.Helper()
	all := fmt.Sprint(r.values())
	for _, span := range r.spans.Ended() {
		all += fmt.Sprintln(span.Name(), attributesOf(span), span.Events(), span.Status(), span.Links())
	}
	for _, secret := range append(others, marker) {
		require.False(t, strings.Contains(all, secret), "%s is in:\n%s", secret, all)
	}
}
