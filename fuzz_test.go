package kms

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
)

func FuzzParseKeyIdentifier(f *testing.F) {
	for _, s := range []string{
		"", "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab", "alias/x", "alias/aws/s3", "alias/", "arn:", "arn:aws:kms",
		"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:us-east-1:111122223333:alias/x",
		"arn:aws:kms:us-east-1:111122223333:key/../alias/x", "arn:aws:kms:us/east:111122223333:key/x", "arn:aws:kms::111122223333:key/x",
		"arn:aws-cn:kms:us-east-1:111122223333:alias/x", "1234ABCD-12AB-34CD-56EF-1234567890AB", "alias/a:b", "alias/a/../b", "\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseKeyIdentifier(s)
		if err != nil {
			require.Contains(t, []ErrorCode{NotFoundException, InvalidArnException}, err.Code)
			require.Zero(t, id)
			return
		}
		require.True(t, (id.keyID == "") != (id.alias == ""), "one or the other")
		require.Equal(t, id.account == "", id.region == "", "both or neither")
		// A valid identifier is formatted as it was parsed, and is safe in the name of a record.
		back := id.keyID + id.alias
		if id.account != "" {
			require.True(t, arn.IsAccount(id.account) && arn.IsRegion(id.region))
			resource := back
			if id.keyID != "" {
				resource = "key/" + resource
			}
			back = "arn:" + arn.Partition(id.region) + ":kms:" + id.region + ":" + id.account + ":" + resource
		}
		require.Equal(t, s, back)
	})
}

func FuzzParsePrincipal(f *testing.F) {
	for _, s := range []string{
		"", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/path/alice", "arn:aws:iam::111122223333:role/app",
		"arn:aws:sts::111122223333:assumed-role/app/session", "arn:aws:sts::111122223333:federated-user/bob", "arn:aws:iam::111122223333:user/*",
		"arn:aws:iam::111122223333:user//", "arn:aws:iam::111122223333:user/a\nb", "arn:::::", "arn:aws:iam::111122223333:rooted",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrincipal(s)
		if err != nil {
			require.Zero(t, p)
			require.Less(t, len(err.Error()), 1000)
			return
		}
		require.Equal(t, s, p.ARN())
		require.True(t, arn.IsAccount(p.Account()))
		require.NotEqual(t, iam.Anonymous, p.kind)
		require.Equal(t, strings.HasSuffix(s, ":root") && strings.Count(s, "/") == 0, p.kind == iam.AccountRoot)
		for _, c := range s {
			require.True(t, c > ' ' && c <= '~' && c != '*', "%q", c)
		}
		require.NotEmpty(t, userIdentity(p).Type)
	})
}

func FuzzReadMarker(f *testing.F) {
	c := &call{op: &description{name: "ListKeys"}}
	const list = "arn:aws:kms:us-east-1:111122223333:key/x"
	marker := c.marker("1234abcd-12ab-34cd-56ef-1234567890ab", list)
	f.Add(marker)
	f.Add(marker[:40] + "\r\n" + marker[40:])
	for _, s := range []string{"", "x", "AAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAA", "====", "\u00ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, marker string) {
		after, err := c.readMarker(marker, list)
		if err != nil {
			require.ErrorIs(t, err, InvalidMarkerException)
			require.Empty(t, after)
			return
		}
		if marker == "" {
			require.Empty(t, after)
			return
		}
		require.Equal(t, marker, c.marker(after, list), "there is one marker for a position")
		_, err = (&call{op: &description{name: "ListAliases"}}).readMarker(marker, list)
		require.ErrorIs(t, err, InvalidMarkerException)
		_, err = c.readMarker(marker, "")
		require.ErrorIs(t, err, InvalidMarkerException)
	})
}

// FuzzValidate calls every operation with random members. A call returns an output or an exception
// that is the caller's fault.
func FuzzValidate(f *testing.F) {
	for i := range operations {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16"))
		f.Add(uint8(i), []byte(strings.Repeat("\x03", 60)))
		f.Add(uint8(i), []byte(strings.Repeat("\x05\x00\x07", 40)))
		f.Add(uint8(i), []byte(strings.Repeat("\xfe\x20", 40)))
		f.Add(uint8(i), []byte("\xd0\xde\xb9\xde\xb9\xde\xb9")) // not UTF-8
	}
	svc, err := New(Config{Logger: slog.New(slog.DiscardHandler), Audit: audit.SinkFunc(func(context.Context, *audit.Event) error { return nil })})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, svc.Close()) })
	words := []string{"", "alias/fuzz", "alias/aws/s3", "arn:aws:kms:us-east-1:111122223333:alias/fuzz", "12345678-1234-1234-1234-123456789012", "x", "default"}
	for _, in := range []*CreateKeyInput{{}, {KeySpec: KeySpecECCNISTP256, KeyUsage: KeyUsageSignVerify}, {KeySpec: KeySpecHMAC256, KeyUsage: KeyUsageGenerateVerifyMac}} {
		out, err := svc.CreateKey(f.Context(), in)
		require.NoError(f, err)
		words = append(words, out.KeyMetadata.KeyId, out.KeyMetadata.Arn)
	}
	f.Fuzz(func(t *testing.T, operation uint8, data []byte) {
		op := operations[int(operation)%len(operations)]
		fill := func() any {
			in := op.NewInput()
			(&filler{data, words}).fill(reflect.ValueOf(in).Elem())
			return in
		}
		in := fill()
		out, err := op.Invoke(t.Context(), svc, in)
		require.Equal(t, fill(), in, "inputs are not changed")
		if err == nil {
			require.NotNil(t, out)
			return
		}
		var e *Error
		require.ErrorAs(t, err, &e)
		require.NotEqual(t, KMSInternalException, e.Code)
		require.Equal(t, op.Name(), e.Operation)
		require.Less(t, len(err.Error()), 1<<20)
		require.True(t, utf8.ValidString(err.Error()))
	})
}

// A filler turns random bytes into members.
type filler struct {
	data  []byte
	words []string
}

func (r *filler) next() int {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return int(b)
}

func (r *filler) take(n int) []byte {
	n = min(n, len(r.data))
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *filler) fill(v reflect.Value) {
	choice := r.next()
	if choice == 0 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		if values, ok := v.Type().MethodByName("Values"); ok && choice < 200 {
			all := values.Func.Call([]reflect.Value{reflect.Zero(v.Type())})[0]
			v.Set(all.Index(choice % all.Len()))
		} else if choice < 200 {
			v.SetString(r.words[choice%len(r.words)])
		} else {
			v.SetString(strings.Repeat(string(r.take(choice-200)), r.next()+1))
		}
	case reflect.Bool:
		v.SetBool(choice%2 == 1)
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(choice) - 10)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.fill(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(append([]byte{}, r.take(choice)...))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), choice%4, choice%4))
		for i := range v.Len() {
			r.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range choice % 4 {
			v.SetMapIndex(reflect.ValueOf(string(r.take(r.next()%8))), reflect.ValueOf(string(r.take(r.next()%8))))
		}
	}
}

// FuzzImportKeyMaterial imports what was not wrapped for the token, or with what is no token.
func FuzzImportKeyMaterial(f *testing.F) {
	svc, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, svc.Close()) })
	created, err := svc.CreateKey(f.Context(), &CreateKeyInput{Origin: OriginExternal})
	require.NoError(f, err)
	id := created.KeyMetadata.KeyId
	parameters, err := svc.GetParametersForImport(f.Context(), &GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: AlgorithmSM2PKE, WrappingKeySpec: WrappingKeySpecSM2})
	require.NoError(f, err)
	token := parameters.ImportToken
	f.Add(true, 0, []byte("wrapped"))
	f.Add(false, 0, token[:20])
	f.Add(false, 40, token[40:])
	f.Add(true, 0, []byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, good bool, at int, data []byte) {
		in := &ImportKeyMaterialInput{KeyId: id, ImportToken: token, EncryptedKeyMaterial: data, ExpirationModel: ExpirationModelKeyMaterialDoesNotExpire}
		want := []ErrorCode{InvalidCiphertextException, ValidationException}
		if !good {
			in.ImportToken = append(bytes.Clone(token[:max(0, min(at, len(token)))]), data...)
			in.EncryptedKeyMaterial = []byte("wrapped")
			want = append(want, InvalidImportTokenException)
		}
		_, err := svc.ImportKeyMaterial(t.Context(), in)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Contains(t, want, e.Code)
		described, err := svc.DescribeKey(t.Context(), &DescribeKeyInput{KeyId: id})
		require.NoError(t, err)
		require.Equal(t, KeyStatePendingImport, described.KeyMetadata.KeyState)
	})
}
