package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

func TestAnErrorPrintsOperationCodeAndMessage(t *testing.T) {
	for want, e := range map[string]*kms.Error{
		"kms: Encrypt: DisabledException: K is disabled.": {Operation: "Encrypt", Code: kms.DisabledException, Message: "K is disabled."},
		"kms: Verify: KMSInvalidSignatureException":       {Operation: "Verify", Code: kms.KMSInvalidSignatureException},
		"kms: NotFoundException: gone":                    {Code: kms.NotFoundException, Message: "gone"},
	} {
		require.EqualError(t, e, want)
		require.Equal(t, want, fmt.Sprint(e))
		require.Equal(t, string(e.Code), e.ErrorCode())
		require.Equal(t, e.Message, e.ErrorMessage())
		wrapped := fmt.Errorf("wrapped: %w", e)
		require.ErrorIs(t, wrapped, e.Code)
		require.NotErrorIs(t, wrapped, kms.ConflictException)
		require.NotErrorIs(t, wrapped, errors.New(string(e.Code)))
		var found *kms.Error
		require.ErrorAs(t, wrapped, &found)
		require.Same(t, e, found)
		require.NoError(t, errors.Unwrap(e))
	}
}

func TestOneErrorInSeveralOperationsGetsTheNameOfEach(t *testing.T) {
	f := newFixture(t)
	recipient := &kms.RecipientInfo{AttestationDocument: []byte("x")}
	_, first := f.svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{Recipient: recipient})
	_, second := f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, Recipient: recipient})
	var a, b *kms.Error
	require.ErrorAs(t, first, &a)
	require.ErrorAs(t, second, &b)
	require.Equal(t, "GenerateRandom", a.Operation)
	require.Equal(t, "Decrypt", b.Operation)
}

func TestAPanickingClockIsAnInternalError(t *testing.T) {
	var broken atomic.Bool
	var log bytes.Buffer
	canary := "canary-" + rand.Text()
	clock := newClock()
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) {
		c.Audit = s
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Clock = func() time.Time {
			if broken.Load() {
				panic(canary)
			}
			return clock.Now()
		}
	})
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			s.take()
			broken.Store(true)
			before := time.Now()
			out, err := op.Invoke(t.Context(), f.svc, f.example(t, op.Name()))
			after := time.Now()
			broken.Store(false)
			require.Nil(t, out)
			requireError(t, err, kms.KMSInternalException, "The request could not be completed.")
			events := s.take()
			require.Len(t, events, 1)
			require.Equal(t, op.Name(), events[0].EventName)
			require.Equal(t, "KMSInternalException", events[0].ErrorCode)
			require.WithinRange(t, events[0].EventTime, before, after, "the system's time")
		})
	}
	requireDecrypts(t, f.svc, f.ciphertext, fixtureMessage)
	require.NoError(t, f.svc.Close()) // and with it what writes to the log in the background
	require.Contains(t, log.String(), "an operation panicked")
	require.NotContains(t, log.String(), canary)
}

func TestDeadlineExceededIsReturnedUnchanged(t *testing.T) {
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		out, err := op.Invoke(ctx, f.svc, in)
		require.Equal(t, context.DeadlineExceeded, err)
		require.Nil(t, out)
	})
}

// A caller that overwrites an output does not change later outputs.
func TestOutputsAreTheCallersOwn(t *testing.T) {
	repeatable := map[string]bool{"DescribeKey": true, "Decrypt": true, "GenerateMac": true, "GetKeyPolicy": true, "GetKeyRotationStatus": true,
		"GetPublicKey": true, "ListAliases": true, "ListKeyPolicies": true, "ListKeyRotations": true, "ListKeys": true, "ListResourceTags": true,
		"GetKeyLastUsage": true, "Verify": true, "VerifyMac": true}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		if !repeatable[op.Name()] {
			return
		}
		_, err := f.svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}})
		require.NoError(t, err)
		_, err = f.svc.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: f.symmetric.KeyId})
		require.NoError(t, err)
		first, err := op.Invoke(t.Context(), f.svc, in)
		require.NoError(t, err)
		second, err := op.Invoke(t.Context(), f.svc, in)
		require.NoError(t, err)
		require.Equal(t, first, second)
		ruin(reflect.ValueOf(first))
		require.NotEqual(t, first, second)
		third, err := op.Invoke(t.Context(), f.svc, in)
		require.NoError(t, err)
		require.Equal(t, second, third)
	})
}

// ruin overwrites everything that v refers to.
func ruin(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			ruin(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				ruin(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			ruin(v.Index(i))
		}
	case reflect.String:
		v.SetString("ruined")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() ^ 0xff)
	}
}

// A caller can change an input after the call without effect on the service.
func TestInputsAreNotKept(t *testing.T) {
	svc, _ := newService(t)
	tags := []kms.Tag{{TagKey: "k", TagValue: "v"}}
	key := createKey(t, svc, &kms.CreateKeyInput{Tags: tags})
	more := []kms.Tag{{TagKey: "l", TagValue: "w"}}
	_, err := svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key.KeyId, Tags: more})
	require.NoError(t, err)
	tags[0], more[0] = kms.Tag{TagKey: "ruined"}, kms.Tag{TagKey: "ruined"}
	out, err := svc.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: key.KeyId})
	require.NoError(t, err)
	require.Equal(t, []kms.Tag{{TagKey: "k", TagValue: "v"}, {TagKey: "l", TagValue: "w"}}, out.Tags)
}

func TestANilContextIsAnEmptyOne(t *testing.T) {
	svc, _ := newService(t)
	var none context.Context
	_, err := svc.CreateKey(none, nil)
	require.NoError(t, err)
	_, err = svc.DescribeKey(none, nil)
	require.ErrorIs(t, err, kms.ValidationException)
}

// The API has one exception without a message for all causes. Only Go code learns the cause.
func TestTheCauseOfAnInvalidCiphertext(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	withContext, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: someContext})
	require.NoError(t, err)
	causes := []error{kms.ErrNotCiphertext, kms.ErrUnknownKeyMaterial, kms.ErrContextOrAltered}
	for name, tt := range map[string]struct {
		ciphertext []byte
		cause      error
	}{
		"words":                          {[]byte("these are only words"), kms.ErrNotCiphertext},
		"its base64 text":                {[]byte(base64.StdEncoding.EncodeToString(f.ciphertext)), kms.ErrNotCiphertext},
		"its first half":                 {f.ciphertext[:len(f.ciphertext)/2], kms.ErrNotCiphertext},
		"another version":                {flip(f.ciphertext, 0), kms.ErrNotCiphertext},
		"another key material":           {flip(f.ciphertext, 8*30), kms.ErrUnknownKeyMaterial},
		"another nonce":                  {flip(f.ciphertext, 8*60), kms.ErrContextOrAltered},
		"a flipped last bit":             {flip(f.ciphertext, 8*len(f.ciphertext)-1), kms.ErrContextOrAltered},
		"one byte more":                  {append(bytes.Clone(f.ciphertext), 0), kms.ErrContextOrAltered},
		"without its encryption context": {withContext.CiphertextBlob, kms.ErrContextOrAltered},
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"", f.symmetric.KeyId, f.symmetric.Arn} {
				for _, in := range []any{
					&kms.DecryptInput{CiphertextBlob: tt.ciphertext, KeyId: id},
					&kms.DecryptInput{CiphertextBlob: tt.ciphertext, KeyId: id, DryRun: true},
					&kms.ReEncryptInput{CiphertextBlob: tt.ciphertext, SourceKeyId: id, DestinationKeyId: f.other.KeyId},
				} {
					operation := operationNamed(t, strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input"))
					s.take()
					_, err := operation.Invoke(t.Context(), f.svc, in)
					requireError(t, err, kms.InvalidCiphertextException, "")
					require.EqualError(t, err, "kms: "+operation.Name()+": InvalidCiphertextException")
					for _, cause := range causes {
						require.Equal(t, cause == tt.cause, errors.Is(err, cause), "%v", cause)
					}
					event := s.take()[0]
					require.Equal(t, "InvalidCiphertextException", event.ErrorCode)
					require.Empty(t, event.ErrorMessage)
					text, err := awsapi.Marshal(in)
					require.NoError(t, err)
					_, err = post(t.Context(), f.svc, operation.Name(), text)
					var sent *sentError
					require.ErrorAs(t, err, &sent)
					require.Equal(t, `{"__type":"InvalidCiphertextException"}`, string(sent.body))
				}
			}
		})
	}
	_, err = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.other.KeyId})
	require.ErrorIs(t, err, kms.IncorrectKeyException)
	for _, cause := range causes {
		require.NotErrorIs(t, err, cause)
	}
}
