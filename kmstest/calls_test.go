package kmstest_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

func TestCallsAreRecordedAsTheyWere(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	alice, err := kms.ParsePrincipal("arn:aws:iam::444455556666:root")
	require.NoError(t, err)
	id := createKey(t, svc.Service)
	svc.Advance(time.Hour)
	in := &kms.EncryptInput{KeyId: id, Plaintext: []byte("hello"), EncryptionContext: map[string]string{"a": "b"}}
	out, err := svc.Encrypt(t.Context(), in)
	require.NoError(t, err)
	blob := append([]byte{}, out.CiphertextBlob...)
	_, err = svc.As(alice).In("eu-west-1").TagResource(t.Context(), &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}})
	require.ErrorIs(t, err, kms.NotFoundException)

	// Changes to inputs, outputs and recorded calls do not change the records.
	clear(in.Plaintext)
	in.EncryptionContext["a"] = "c"
	clear(out.CiphertextBlob)
	first := svc.Calls("Encrypt")[0]
	clear(first.Input().(*kms.EncryptInput).Plaintext)
	first.Output().(*kms.EncryptOutput).KeyId = ""
	clear(svc.Calls())

	calls := svc.Calls()
	require.Len(t, calls, 3)
	require.Equal(t, []string{"CreateKey", "Encrypt", "TagResource"}, []string{calls[0].Operation, calls[1].Operation, calls[2].Operation})
	require.Equal(t, &kms.CreateKeyInput{}, calls[0].Input())
	require.Equal(t, svc.Now().Add(-time.Hour), calls[0].Time)
	require.Equal(t, kms.KeyStateEnabled, calls[0].Output().(*kms.CreateKeyOutput).KeyMetadata.KeyState)

	require.Equal(t, &kms.EncryptInput{KeyId: id, Plaintext: []byte("hello"), EncryptionContext: map[string]string{"a": "b"}}, calls[1].Input())
	require.Equal(t, blob, calls[1].Output().(*kms.EncryptOutput).CiphertextBlob)
	require.Equal(t, "arn:aws:kms:us-east-1:111122223333:key/"+id, calls[1].Output().(*kms.EncryptOutput).KeyId)
	require.Equal(t, svc.Now(), calls[1].Time)
	require.NoError(t, calls[1].Err)
	require.False(t, calls[1].Pending)

	require.Equal(t, "v", calls[2].Input().(*kms.TagResourceInput).Tags[0].TagValue)
	require.Equal(t, alice, calls[2].Caller)
	require.Equal(t, "eu-west-1", calls[2].Region)
	require.ErrorIs(t, calls[2].Err, kms.NotFoundException)
	require.Nil(t, calls[2].Output())

	require.Equal(t, []*kms.EncryptInput{calls[1].Input().(*kms.EncryptInput)}, kmstest.Inputs[kms.EncryptInput](svc))
	svc.ResetCalls()
	require.Empty(t, svc.Calls())
	require.Empty(t, kmstest.Inputs[kms.EncryptInput](svc))
}

func TestAssertionsOnCallsFailTheTest(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	svc.RequireCalls(t)
	svc.RequireCalled(t, "Decrypt", 0)
	id := createKey(t, svc.Service)
	blob, err := encrypt(svc.Service, id)
	require.NoError(t, err)
	svc.Inject(kmstest.Fault{Operations: []string{"Decrypt"}, Err: kmstest.ErrConnection, Count: 1})
	require.Error(t, decrypt(svc.Service, id, blob))
	require.ErrorIs(t, decrypt(svc.Service, id, blob[1:]), kms.InvalidCiphertextException)
	svc.RequireCalls(t, "CreateKey", "Encrypt", "Decrypt", "Decrypt")
	svc.RequireCalled(t, "Decrypt", 2)

	want := `
  1. CreateKey {}: succeeded
  2. Encrypt {"keyId":"` + id + `"}: succeeded
  3. Decrypt {"keyId":"` + id + `"}: kmstest: the connection broke (injected)
  4. Decrypt {"keyId":"` + id + `"}: InvalidCiphertextException`
	requireFailure(t, "want the calls CreateKey, Decrypt\ngot "+want, func(t testing.TB) { svc.RequireCalls(t, "CreateKey", "Decrypt") })
	requireFailure(t, "want 1 calls of Decrypt, got 2; all calls: "+want, func(t testing.TB) { svc.RequireCalled(t, "Decrypt", 1) })
	requireFailure(t, `no operation "Decyrpt"`, func(t testing.TB) { kmstest.New(t).Calls("Decyrpt") })
	requireFailure(t, `no operation "decrypt"`, func(t testing.TB) { kmstest.New(t).RequireCalls(t, "decrypt") })
	requireFailure(t, "no operation of the Service takes a time.Time", func(t testing.TB) { kmstest.Inputs[time.Time](kmstest.New(t)) })
	requireFailure(t, "got none", func(t testing.TB) { kmstest.New(t).RequireCalls(t, "Decrypt") })
}

func TestRecordedPlaintextsAreNotPrinted(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t)
	id := createKey(t, svc.Service)
	_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("a secret")})
	require.NoError(t, err)
	call := svc.Calls("Encrypt")[0]
	text, err := json.Marshal(call)
	require.NoError(t, err)
	printed := string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		printed += fmt.Sprintf(verb, call) + fmt.Sprintf(verb, &call) + fmt.Sprintf(verb, svc.Calls())
	}
	var report failing
	report.TB = t
	func() {
		defer func() { recover() }()
		require.Equal(&report, call, kmstest.Call{})
	}()
	printed += report.message
	require.Contains(t, printed, id)
	for _, secret := range []string{"a secret", hex.EncodeToString([]byte("a secret")), "97 32 115", "YSBzZWNyZXQ", "61 20 73", "0x61, 0x20"} {
		require.NotContains(t, printed, secret)
	}
}
