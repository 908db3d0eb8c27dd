package integration_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/internal/benchtest"
)

const (
	accessKeyID     = "AKIAIOSFODNN7EXAMPLE"
	secretAccessKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func newService(t testing.TB) *kms.Service {
	svc, err := kms.New(kms.Config{ReplicationDelay: -1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	return svc
}

func static(id, secret, token string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, nil
	})
}

// verifying is a handler that knows one access key, of the caller of svc.
func verifying(svc *kms.Service) http.Handler {
	credentials, err := awsapi.NewCredentials(svc.Caller(), secretAccessKey)
	if err != nil {
		panic(err)
	}
	return awsapi.Handler(svc, awsapi.Options{Credentials: func(id string) *awsapi.Credentials {
		if id != accessKeyID {
			return nil
		}
		return credentials
	}})
}

// transports are the ways to the Service that a client may take.
var transports = map[string]func(testing.TB, *kms.Service) *awskms.Client{
	"in process": func(_ testing.TB, svc *kms.Service) *awskms.Client { return awsclient.New(svc) },
	"HTTP/1.1 with signatures": func(t testing.TB, svc *kms.Service) *awskms.Client {
		return remote(t, svc, false)
	},
	"HTTP/2 with signatures": func(t testing.TB, svc *kms.Service) *awskms.Client {
		return remote(t, svc, true)
	},
}

// remote returns a client of a server on the loopback interface that verifies signatures.
func remote(t testing.TB, svc *kms.Service, http2 bool, optFns ...func(*awskms.Options)) *awskms.Client {
	server := httptest.NewUnstartedServer(nil)
	server.Config = awsapi.Server(verifying(svc))
	if server.EnableHTTP2 = http2; http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return awskms.New(awskms.Options{
		Region:       svc.Region(),
		BaseEndpoint: aws.String(server.URL),
		HTTPClient:   server.Client(),
		Credentials:  static(accessKeyID, secretAccessKey, ""),
	}, optFns...)
}

// A fixture makes what a call needs to succeed.
type fixture struct {
	t testing.TB
	*kms.Service
}

func (f fixture) key(spec kms.KeySpec, usage kms.KeyUsageType) string {
	out, err := f.CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Tags: []kms.Tag{{TagKey: "a"}}})
	require.NoError(f.t, err)
	return out.KeyMetadata.KeyId
}

func (f fixture) multiRegion() string {
	out, err := f.CreateKey(context.Background(), &kms.CreateKeyInput{MultiRegion: true})
	require.NoError(f.t, err)
	return out.KeyMetadata.KeyId
}

func (f fixture) symmetric() string {
	return f.key(kms.KeySpecSymmetricDefault, kms.KeyUsageEncryptDecrypt)
}

func (f fixture) aliased(name string) string {
	id := f.symmetric()
	_, err := f.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: id})
	require.NoError(f.t, err)
	return id
}

var encryptionContext = map[string]string{"tenant": "4711", "ü\n": "\"\\"}

func (f fixture) ciphertext(id string) []byte {
	out, err := f.Encrypt(context.Background(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("plaintext"), EncryptionContext: encryptionContext})
	require.NoError(f.t, err)
	return out.CiphertextBlob
}

func (f fixture) sign() *kms.SignInput {
	return &kms.SignInput{KeyId: f.key(kms.KeySpecECCNISTP256, kms.KeyUsageSignVerify), Message: []byte("m"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
}

func (f fixture) mac() *kms.GenerateMacInput {
	return &kms.GenerateMacInput{KeyId: f.key(kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac), Message: []byte("m"), MacAlgorithm: kms.MacAlgorithmHMACSHA256}
}

const grantee = "arn:aws:iam::111122223333:user/alice"

// grant is a new key with a grant of it.
func (f fixture) grant() (key string, grant *kms.CreateGrantOutput) {
	key = f.symmetric()
	grant, err := f.CreateGrant(context.Background(), &kms.CreateGrantInput{
		KeyId: key, GranteePrincipal: grantee, RetiringPrincipal: grantee, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
	})
	require.NoError(f.t, err)
	return key, grant
}

// wrapped is key material for a new key.
func (f fixture) wrapped() *kms.ImportKeyMaterialInput {
	created, err := f.CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify, Origin: kms.OriginExternal})
	require.NoError(f.t, err)
	id := created.KeyMetadata.KeyId
	parameters, err := f.Service.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048})
	require.NoError(f.t, err)
	public, err := x509.ParsePKIXPublicKey(parameters.PublicKey)
	require.NoError(f.t, err)
	private, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	require.NoError(f.t, err)
	material, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(f.t, err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), cryptorand.Reader, public.(*rsa.PublicKey), material, nil)
	require.NoError(f.t, err)
	return &kms.ImportKeyMaterialInput{KeyId: id, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrapped, ValidTo: time.Now().Add(time.Hour)}
}

// calls has for each operation an input that makes it succeed.
var calls = map[string]func(fixture) any{
	"CancelKeyDeletion": func(f fixture) any {
		id := f.symmetric()
		_, err := f.ScheduleKeyDeletion(context.Background(), &kms.ScheduleKeyDeletionInput{KeyId: id})
		require.NoError(f.t, err)
		return &kms.CancelKeyDeletionInput{KeyId: id}
	},
	"CreateAlias": func(f fixture) any { return &kms.CreateAliasInput{AliasName: "alias/new", TargetKeyId: f.symmetric()} },
	"CreateGrant": func(f fixture) any {
		return &kms.CreateGrantInput{
			KeyId: f.symmetric(), Name: "n", GranteePrincipal: grantee, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt, kms.GrantOperationEncrypt},
			Constraints: &kms.GrantConstraints{EncryptionContextEquals: map[string]string{"tenant": "4711"}},
		}
	},
	"CreateKey": func(f fixture) any {
		return &kms.CreateKeyInput{Description: "ü \"quoted\"\n", MultiRegion: true, Tags: []kms.Tag{{TagKey: "k", TagValue: ""}}}
	},
	"Decapsulate": func(f fixture) any {
		id := f.key(kms.KeySpecMLKEM768, kms.KeyUsageEncapsulateDecapsulate)
		out, err := f.Encapsulate(context.Background(), &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
		require.NoError(f.t, err)
		return &kms.DecapsulateInput{KeyId: id, SharedSecretCiphertextBlob: out.SharedSecretCiphertextBlob, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	},
	"Decrypt": func(f fixture) any {
		return &kms.DecryptInput{CiphertextBlob: f.ciphertext(f.symmetric()), EncryptionContext: encryptionContext}
	},
	"DeleteAlias": func(f fixture) any {
		f.aliased("alias/old")
		return &kms.DeleteAliasInput{AliasName: "alias/old"}
	},
	"DeleteImportedKeyMaterial": func(f fixture) any {
		in := f.wrapped()
		_, err := f.ImportKeyMaterial(context.Background(), in)
		require.NoError(f.t, err)
		return &kms.DeleteImportedKeyMaterialInput{KeyId: in.KeyId}
	},
	"DeriveSharedSecret": func(f fixture) any {
		id := f.key(kms.KeySpecECCNISTP256, kms.KeyUsageKeyAgreement)
		out, err := f.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: id})
		require.NoError(f.t, err)
		return &kms.DeriveSharedSecretInput{KeyId: id, PublicKey: out.PublicKey, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH}
	},
	"DescribeKey": func(f fixture) any { return &kms.DescribeKeyInput{KeyId: f.symmetric()} },
	"DisableKey":  func(f fixture) any { return &kms.DisableKeyInput{KeyId: f.symmetric()} },
	"DisableKeyRotation": func(f fixture) any {
		return &kms.DisableKeyRotationInput{KeyId: f.symmetric()}
	},
	"EnableKey": func(f fixture) any { return &kms.EnableKeyInput{KeyId: f.symmetric()} },
	"EnableKeyRotation": func(f fixture) any {
		return &kms.EnableKeyRotationInput{KeyId: f.symmetric(), RotationPeriodInDays: aws.Int32(90)}
	},
	"Encapsulate": func(f fixture) any {
		return &kms.EncapsulateInput{KeyId: f.key(kms.KeySpecMLKEM768, kms.KeyUsageEncapsulateDecapsulate), EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	},
	"Encrypt": func(f fixture) any {
		return &kms.EncryptInput{KeyId: f.symmetric(), Plaintext: []byte{0, 0xff}, EncryptionContext: encryptionContext}
	},
	"GenerateDataKey": func(f fixture) any {
		return &kms.GenerateDataKeyInput{KeyId: f.symmetric(), KeySpec: kms.DataKeySpecAES256}
	},
	"GenerateDataKeyPair": func(f fixture) any {
		return &kms.GenerateDataKeyPairInput{KeyId: f.symmetric(), KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
	},
	"GenerateDataKeyPairWithoutPlaintext": func(f fixture) any {
		return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: f.symmetric(), KeyPairSpec: kms.DataKeyPairSpecMLKEM1024}
	},
	"GenerateDataKeyWithoutPlaintext": func(f fixture) any {
		return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: f.symmetric(), NumberOfBytes: aws.Int32(17)}
	},
	"GenerateMac":    func(f fixture) any { return f.mac() },
	"GenerateRandom": func(fixture) any { return &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)} },
	"GetKeyLastUsage": func(f fixture) any {
		id := f.symmetric()
		f.ciphertext(id)
		return &kms.GetKeyLastUsageInput{KeyId: id}
	},
	"GetKeyPolicy": func(f fixture) any { return &kms.GetKeyPolicyInput{KeyId: f.symmetric()} },
	"GetKeyRotationStatus": func(f fixture) any {
		id := f.symmetric()
		_, err := f.EnableKeyRotation(context.Background(), &kms.EnableKeyRotationInput{KeyId: id})
		require.NoError(f.t, err)
		return &kms.GetKeyRotationStatusInput{KeyId: id}
	},
	"GetParametersForImport": func(f fixture) any {
		return &kms.GetParametersForImportInput{KeyId: f.wrapped().KeyId, WrappingAlgorithm: kms.AlgorithmSM2PKE, WrappingKeySpec: kms.WrappingKeySpecSM2}
	},
	"GetPublicKey": func(f fixture) any {
		return &kms.GetPublicKeyInput{KeyId: f.key(kms.KeySpecECCNISTP256, kms.KeyUsageSignVerify)}
	},
	"ImportKeyMaterial": func(f fixture) any { return f.wrapped() },
	"ListAliases": func(f fixture) any {
		f.aliased("alias/a")
		return &kms.ListAliasesInput{Limit: aws.Int32(1)}
	},
	"ListGrants": func(f fixture) any {
		key, _ := f.grant()
		return &kms.ListGrantsInput{KeyId: key}
	},
	"ListKeyPolicies": func(f fixture) any { return &kms.ListKeyPoliciesInput{KeyId: f.symmetric()} },
	"ListKeyRotations": func(f fixture) any {
		id := f.symmetric()
		_, err := f.RotateKeyOnDemand(context.Background(), &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(f.t, err)
		return &kms.ListKeyRotationsInput{KeyId: id, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial}
	},
	"ListKeys": func(f fixture) any {
		f.symmetric()
		f.symmetric()
		return &kms.ListKeysInput{Limit: aws.Int32(1)}
	},
	"ListResourceTags": func(f fixture) any { return &kms.ListResourceTagsInput{KeyId: f.symmetric()} },
	"ListRetirableGrants": func(f fixture) any {
		f.grant()
		return &kms.ListRetirableGrantsInput{RetiringPrincipal: grantee}
	},
	"PutKeyPolicy": func(f fixture) any {
		id := f.symmetric()
		policy, err := f.GetKeyPolicy(context.Background(), &kms.GetKeyPolicyInput{KeyId: id})
		require.NoError(f.t, err)
		return &kms.PutKeyPolicyInput{KeyId: id, Policy: policy.Policy}
	},
	"ReEncrypt": func(f fixture) any {
		return &kms.ReEncryptInput{CiphertextBlob: f.ciphertext(f.symmetric()), SourceEncryptionContext: encryptionContext, DestinationKeyId: f.symmetric()}
	},
	"ReplicateKey": func(f fixture) any {
		return &kms.ReplicateKeyInput{KeyId: f.multiRegion(), ReplicaRegion: "eu-west-1", Description: "d", Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}}
	},
	"RetireGrant": func(f fixture) any {
		_, grant := f.grant()
		return &kms.RetireGrantInput{GrantToken: grant.GrantToken}
	},
	"RevokeGrant": func(f fixture) any {
		key, grant := f.grant()
		return &kms.RevokeGrantInput{KeyId: key, GrantId: grant.GrantId}
	},
	"RotateKeyOnDemand":   func(f fixture) any { return &kms.RotateKeyOnDemandInput{KeyId: f.symmetric()} },
	"ScheduleKeyDeletion": func(f fixture) any { return &kms.ScheduleKeyDeletionInput{KeyId: f.symmetric()} },
	"Sign":                func(f fixture) any { return f.sign() },
	"TagResource": func(f fixture) any {
		return &kms.TagResourceInput{KeyId: f.symmetric(), Tags: []kms.Tag{{TagKey: "b", TagValue: "c"}, {TagKey: "d"}}}
	},
	"UntagResource": func(f fixture) any { return &kms.UntagResourceInput{KeyId: f.symmetric(), TagKeys: []string{"a"}} },
	"UpdateAlias": func(f fixture) any {
		f.aliased("alias/moving")
		return &kms.UpdateAliasInput{AliasName: "alias/moving", TargetKeyId: f.symmetric()}
	},
	"UpdateKeyDescription": func(f fixture) any { return &kms.UpdateKeyDescriptionInput{KeyId: f.symmetric(), Description: "d"} },
	"UpdatePrimaryRegion": func(f fixture) any {
		id := f.multiRegion()
		_, err := f.ReplicateKey(context.Background(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: "eu-west-1"})
		require.NoError(f.t, err)
		return &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: "eu-west-1"}
	},
	"Verify": func(f fixture) any {
		in := f.sign()
		out, err := f.Sign(context.Background(), in)
		require.NoError(f.t, err)
		return &kms.VerifyInput{KeyId: in.KeyId, Message: in.Message, Signature: out.Signature, SigningAlgorithm: in.SigningAlgorithm}
	},
	"VerifyMac": func(f fixture) any {
		in := f.mac()
		out, err := f.GenerateMac(context.Background(), in)
		require.NoError(f.t, err)
		return &kms.VerifyMacInput{KeyId: in.KeyId, Message: in.Message, Mac: out.Mac, MacAlgorithm: in.MacAlgorithm}
	},
}

// Each operation, by each way: the client's output has just the members that a direct call's has, and where two calls
// answer alike, their values.
func TestEveryOperationThroughTheSDK(t *testing.T) {
	for way, connect := range transports {
		t.Run(way, func(t *testing.T) {
			for _, op := range kms.Operations() {
				t.Run(op.Name(), func(t *testing.T) {
					build, ok := calls[op.Name()]
					require.True(t, ok, "calls has no input for it")

					direct := newService(t)
					want, err := op.Invoke(t.Context(), direct, build(fixture{t, direct}))
					require.NoError(t, err)

					svc := newService(t)
					in := build(fixture{t, svc})
					got, err := send(t.Context(), connect(t, svc), op.Name(), in)
					require.NoError(t, err)
					requireSameMembers(t, op.Name(), reflect.ValueOf(want), reflect.ValueOf(got))
				})
			}
		})
	}
}

// send calls the method of the SDK's client on the same input.
func send(ctx context.Context, client *awskms.Client, operation string, in any) (any, error) {
	method := reflect.ValueOf(client).MethodByName(operation)
	input := reflect.New(method.Type().In(1).Elem())
	translate(input.Elem(), reflect.ValueOf(in).Elem())
	out := method.Call([]reflect.Value{reflect.ValueOf(ctx), input})
	err, _ := out[1].Interface().(error)
	return out[0].Interface(), err
}

// translate sets the SDK's value to ours. Our zero values mean that a member is absent, but for the two that the API wants
// and takes empty.
func translate(to, from reflect.Value) {
	switch {
	case from.Kind() == reflect.Pointer && from.IsNil():
	case from.Kind() == reflect.Pointer:
		translate(to, from.Elem())
	case to.Kind() == reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		translate(to.Elem(), from)
	case from.Kind() == reflect.Struct && from.Type() != reflect.TypeFor[time.Time]():
		for i := range from.NumField() {
			name := from.Type().Field(i).Name
			if !from.Field(i).IsZero() || name == "TagValue" {
				translate(to.FieldByName(name), from.Field(i))
			}
		}
	case from.Kind() == reflect.Slice && !from.Type().ConvertibleTo(to.Type()):
		to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			translate(to.Index(i), from.Index(i))
		}
	default:
		to.Set(from.Convert(to.Type()))
	}
}

// requireSameMembers compares what is there, and of scalars that are no identifiers the values.
func requireSameMembers(t *testing.T, path string, ours, sdk reflect.Value) {
	if ours.Kind() == reflect.Pointer {
		ours = ours.Elem()
	}
	if sdk.Kind() == reflect.Pointer {
		sdk = sdk.Elem()
	}
	switch {
	case ours.Type() == reflect.TypeFor[time.Time]():
		require.WithinDuration(t, ours.Interface().(time.Time), sdk.Interface().(time.Time), time.Hour, path)
	case ours.Kind() == reflect.Struct:
		for i := range ours.NumField() {
			field := ours.Type().Field(i)
			there := sdk.FieldByName(field.Name)
			absent := ours.Field(i).IsZero() && !strings.Contains(field.Tag.Get("kms"), "emitzero")
			if absent {
				require.True(t, there.IsZero(), path+"."+field.Name)
				continue
			}
			require.True(t, there.Kind() == reflect.Bool || !there.IsZero(), path+"."+field.Name)
			requireSameMembers(t, path+"."+field.Name, ours.Field(i), there)
		}
	case ours.Kind() == reflect.Slice && ours.Type().Elem().Kind() == reflect.Struct:
		require.Equal(t, ours.Len(), sdk.Len(), path)
		for i := range ours.Len() {
			requireSameMembers(t, fmt.Sprintf("%s[%d]", path, i), ours.Index(i), sdk.Index(i))
		}
	case ours.Kind() == reflect.Slice && ours.Type().Elem().Kind() == reflect.Uint8:
		require.InDelta(t, ours.Len(), sdk.Len(), 4, path) // signatures vary
	case ours.Kind() == reflect.Bool, ours.Kind() == reflect.Int32:
		require.Equal(t, ours.Interface(), sdk.Interface(), path)
	case values(ours.Type()) != nil:
		require.Equal(t, ours.String(), sdk.String(), path)
	}
}

func TestEncryptedByOneWayIsDecryptedByAnother(t *testing.T) {
	svc := newService(t)
	key := fixture{t, svc}.symmetric()
	for from, connect := range transports {
		out, err := connect(t, svc).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("hello"), EncryptionContext: encryptionContext})
		require.NoError(t, err)
		for to, connect := range transports {
			in, err := connect(t, svc).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: encryptionContext})
			require.NoError(t, err, "%s to %s", from, to)
			require.Equal(t, "hello", string(in.Plaintext))
		}
	}
}

func TestPaginatorsOfTheSDK(t *testing.T) {
	svc := newService(t)
	f := fixture{t, svc}
	var keys []string
	for i := range 5 {
		keys = append(keys, f.aliased(fmt.Sprintf("alias/%d", i)))
	}
	key := keys[0]
	for i := range 4 {
		_, err := svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key, Tags: []kms.Tag{{TagKey: fmt.Sprint(i)}}})
		require.NoError(t, err)
		_, err = svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key})
		require.NoError(t, err)
	}
	client := awsclient.New(svc)
	two := aws.Int32(2)

	var got []string
	pages := 0
	for p := awskms.NewListKeysPaginator(client, &awskms.ListKeysInput{Limit: two}); p.HasMorePages(); pages++ {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		for _, k := range page.Keys {
			got = append(got, *k.KeyId)
		}
	}
	require.ElementsMatch(t, keys, got)
	require.Equal(t, 3, pages)

	got = nil
	for p := awskms.NewListAliasesPaginator(client, &awskms.ListAliasesInput{Limit: two}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		for _, a := range page.Aliases {
			if !strings.HasPrefix(*a.AliasName, "alias/aws/") {
				got = append(got, *a.AliasName)
			}
		}
	}
	require.ElementsMatch(t, []string{"alias/0", "alias/1", "alias/2", "alias/3", "alias/4"}, got)

	got = nil
	for p := awskms.NewListResourceTagsPaginator(client, &awskms.ListResourceTagsInput{KeyId: &key, Limit: two}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		for _, tag := range page.Tags {
			got = append(got, *tag.TagKey+"="+*tag.TagValue)
		}
	}
	require.ElementsMatch(t, []string{"0=", "1=", "2=", "3=", "a="}, got)

	n := 0
	for p := awskms.NewListKeyRotationsPaginator(client, &awskms.ListKeyRotationsInput{KeyId: &key, Limit: two}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		n += len(page.Rotations)
	}
	require.Equal(t, 4, n)

	got = nil
	for p := awskms.NewListKeyPoliciesPaginator(client, &awskms.ListKeyPoliciesInput{KeyId: &key, Limit: two}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		got = append(got, page.PolicyNames...)
	}
	require.Equal(t, []string{"default"}, got)
}

// is tells whether err is an exception of type T of the SDK.
func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func TestErrorsHaveTheTypesOfTheSDK(t *testing.T) {
	for way, connect := range transports {
		t.Run(way, func(t *testing.T) {
			svc := newService(t)
			f := fixture{t, svc}
			key, mac, pending, disabled := f.aliased("alias/taken"), f.key(kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac), f.symmetric(), f.symmetric()
			_, err := svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: pending})
			require.NoError(t, err)
			_, err = svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: disabled})
			require.NoError(t, err)
			client := connect(t, svc)
			encrypt := func(id string) error {
				_, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
				return err
			}
			decrypt := func(in *awskms.DecryptInput) error {
				_, err := client.Decrypt(t.Context(), in)
				return err
			}
			arn := "arn:aws:kms:us-east-1:111122223333:key/"
			tags := make([]types.Tag, 51)
			for i := range tags {
				tags[i] = types.Tag{TagKey: aws.String(fmt.Sprint(i)), TagValue: aws.String("")}
			}
			ctx := t.Context()
			only := func(_ any, err error) error { return err }
			for _, tt := range []struct {
				name    string
				err     error
				is      func(error) bool
				code    string
				message string
			}{
				{"no such key", encrypt("00000000-0000-0000-0000-000000000000"), is[*types.NotFoundException], "NotFoundException",
					"Key '" + arn + "00000000-0000-0000-0000-000000000000' does not exist"},
				{"no such alias", encrypt("alias/none"), is[*types.NotFoundException], "NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
				{"a disabled key", encrypt(disabled), is[*types.DisabledException], "DisabledException", arn + disabled + " is disabled."},
				{"a key that will be deleted", encrypt(pending), is[*types.KMSInvalidStateException], "KMSInvalidStateException", arn + pending + " is pending deletion."},
				{"a key of another use", encrypt(mac), is[*types.InvalidKeyUsageException], "InvalidKeyUsageException", arn + mac + " key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt."},
				{"no ciphertext", decrypt(&awskms.DecryptInput{CiphertextBlob: []byte("x")}), is[*types.InvalidCiphertextException], "InvalidCiphertextException", ""},
				{"another context", decrypt(&awskms.DecryptInput{CiphertextBlob: f.ciphertext(key)}), is[*types.InvalidCiphertextException], "InvalidCiphertextException", ""},
				{"another key's ciphertext", decrypt(&awskms.DecryptInput{CiphertextBlob: f.ciphertext(key), EncryptionContext: encryptionContext, KeyId: aws.String(f.symmetric())}),
					is[*types.IncorrectKeyException], "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
				{"an alias that is taken", only(client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/taken"), TargetKeyId: &key})), is[*types.AlreadyExistsException],
					"AlreadyExistsException", "An alias with the name arn:aws:kms:us-east-1:111122223333:alias/taken already exists"},
				{"too many tags", only(client.CreateKey(ctx, &awskms.CreateKeyInput{Tags: tags})), is[*types.TagException], "TagException", "Too many tags"},
				{"no policy", only(client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String("x")})), is[*types.MalformedPolicyDocumentException], "MalformedPolicyDocumentException", "*"},
				{"a broken ARN", encrypt("arn:aws:kms:us-east-1:x:key/x"), is[*types.InvalidArnException], "InvalidArnException", "*"},
				{"a dry run", only(client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), DryRun: aws.Bool(true)})), is[*types.DryRunOperationException],
					"DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
				{"a wrong MAC", only(client.VerifyMac(ctx, &awskms.VerifyMacInput{KeyId: &mac, Message: []byte("m"), Mac: []byte("x"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})),
					is[*types.KMSInvalidMacException], "KMSInvalidMacException", ""},
				{"an unfit input", only(client.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(0)})), is[*smithy.GenericAPIError], "ValidationException",
					"1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
				{"an empty member", encrypt(""), is[*smithy.GenericAPIError], "ValidationException",
					"1 validation error detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"},
			} {
				t.Run(tt.name, func(t *testing.T) {
					require.True(t, tt.is(tt.err), "%v", tt.err)
					var e smithy.APIError
					require.ErrorAs(t, tt.err, &e)
					require.Equal(t, tt.code, e.ErrorCode())
					if tt.message != "*" {
						require.Equal(t, tt.message, e.ErrorMessage())
					}
					var response *awshttp.ResponseError
					require.ErrorAs(t, tt.err, &response)
					require.Equal(t, http.StatusBadRequest, response.HTTPStatusCode())
					require.Len(t, response.ServiceRequestID(), 36)
				})
			}
		})
	}
}

// The API's operations that the Service does not have are refused, never answered with nothing.
func TestMissingOperationsAreUnknown(t *testing.T) {
	client := awsclient.New(newService(t))
	offered := map[string]bool{}
	for _, op := range kms.Operations() {
		offered[op.Name()] = true
	}
	for name, op := range operations(t, reflect.TypeFor[*awskms.Client]()) {
		if offered[name] {
			continue
		}
		in := reflect.New(op.input)
		fill(in.Elem())
		out := reflect.ValueOf(client).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
		err, _ := out[1].Interface().(error)
		var e smithy.APIError
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, "UnknownOperationException", e.ErrorCode(), name)
	}
}

// fill gives every member some value, so that the SDK sends the input at all.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type() != reflect.TypeFor[time.Time]() {
				fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	}
}

func TestWrongCredentialsThroughTheSDK(t *testing.T) {
	svc := newService(t)
	for _, tt := range []struct{ id, secret, token, code, message string }{
		{"AKIAUNKNOWN", secretAccessKey, "", "UnrecognizedClientException", "The security token included in the request is invalid."},
		{accessKeyID, secretAccessKey, "token", "UnrecognizedClientException", "The security token included in the request is invalid."},
		{accessKeyID, "wrong", "", "InvalidSignatureException", "The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
	} {
		client := remote(t, svc, false, func(o *awskms.Options) { o.Credentials = static(tt.id, tt.secret, tt.token) })
		_, err := client.ListKeys(t.Context(), nil)
		var e smithy.APIError
		require.ErrorAs(t, err, &e)
		require.Equal(t, tt.code, e.ErrorCode())
		require.Equal(t, tt.message, e.ErrorMessage())
	}
}

func TestThrottledCallsAreTriedAgain(t *testing.T) {
	svc := newService(t)
	handler := awsapi.Handler(svc, awsapi.Options{InsecureTrustAll: true})
	var refusals atomic.Int32
	throttled := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusals.Add(1) > 2 {
			handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"ThrottlingException","message":"You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}`)
	})
	client := awsclient.New(svc, func(o *awskms.Options) {
		o.HTTPClient = awsapi.NewTransport(throttled)
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	_, err := client.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
	require.NoError(t, err)
	require.EqualValues(t, 3, refusals.Load())
}

func TestCancelledContextEndsACall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := awsclient.New(newService(t), func(o *awskms.Options) {
		o.HTTPClient = awsapi.NewTransport(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}))
	})
	_, err := client.ListKeys(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func payloadHash(body string) string {
	hash := sha256.Sum256([]byte(body))
	return hex.EncodeToString(hash[:])
}

func TestPresignedURLIsGoodForItsTime(t *testing.T) {
	svc := newService(t)
	server := httptest.NewServer(verifying(svc))
	t.Cleanup(server.Close)
	const body = `{"NumberOfBytes":8}`
	post := func(signed time.Time, expires string, sent string) (int, string) {
		r, err := http.NewRequest(http.MethodPost, server.URL+"/", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
		r.URL.RawQuery = url.Values{"X-Amz-Expires": {expires}}.Encode()
		uri, header, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretAccessKey}, r,
			payloadHash(body), "kms", "us-east-1", signed)
		require.NoError(t, err)
		presigned, err := http.NewRequest(http.MethodPost, uri, strings.NewReader(sent))
		require.NoError(t, err)
		presigned.Header = header
		response, err := server.Client().Do(presigned)
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(answer)
	}
	status, answer := post(time.Now(), "60", body)
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = post(time.Now().Add(-time.Hour), "7200", body)
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = post(time.Now().Add(-time.Hour), "60", body)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer, "Signature expired: ")
	status, answer = post(time.Now(), "60", `{"NumberOfBytes":9}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer, "The request signature we calculated does not match")
}

// What the SDK's signer signs is what is verified, whatever headers and parameters a request has.
func TestSignaturesAgreeWithTheSDK(t *testing.T) {
	handler := verifying(newService(t))
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	text := func(alphabet string) string {
		runes := []rune(alphabet)
		out := make([]rune, random.IntN(12))
		for i := range out {
			out[i] = runes[random.IntN(len(runes))]
		}
		return string(out)
	}
	const visible = " \tabcXYZ019-_.~!*'();:@&=+$,/?#[]%\"\\"
	signer := v4.NewSigner()
	for i := range 500 {
		body := `{"NumberOfBytes":8,"x":` + string(must(json.Marshal(text(visible+"äß世界")))) + `}`
		r := httptest.NewRequest(http.MethodPost, "https://kms.us-east-1.amazonaws.com/", strings.NewReader(body))
		r.RequestURI = ""
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
		query := url.Values{}
		for range random.IntN(4) {
			query.Add("q"+text(visible+"äß世界"), text(visible+"äß世界"))
			r.Header.Add(fmt.Sprintf("X-Amz-Meta-%d", random.IntN(2)), text(visible))
		}
		r.URL.RawQuery = query.Encode()
		credentials := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretAccessKey}
		if i%2 == 0 {
			require.NoError(t, signer.SignHTTP(t.Context(), credentials, r, payloadHash(body), "kms", "us-east-1", time.Now()))
		} else {
			uri, header, err := signer.PresignHTTP(t.Context(), credentials, r, payloadHash(body), "kms", "us-east-1", time.Now())
			require.NoError(t, err)
			r.URL = must(url.Parse(uri))
			r.Header = header
			r.Header.Del("Host")
			r.Header.Del("Content-Length")
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, "%d %s %v %s", i, r.URL.RawQuery, r.Header, w.Body)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A canned transport answers every request alike.
type canned []byte

func (c canned) Do(r *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, r.Body)
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Requestid": {"00000000-0000-4000-8000-000000000000"}},
		Body:          io.NopCloser(bytes.NewReader(c)),
		ContentLength: int64(len(c)),
	}, nil
}

// BenchmarkSDKGenerateDataKey compares a call of the SDK in process with what the SDK itself takes.
func BenchmarkSDKGenerateDataKey(b *testing.B) {
	svc := newService(b)
	key := fixture{b, svc}.symmetric()
	out := must(svc.GenerateDataKey(b.Context(), &kms.GenerateDataKeyInput{KeyId: key, KeySpec: kms.DataKeySpecAES256}))
	answer := must(json.Marshal(map[string]any{"CiphertextBlob": out.CiphertextBlob, "Plaintext": out.Plaintext, "KeyId": out.KeyId, "KeyMaterialId": out.KeyMaterialId}))
	in := &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{"tenant": "4711", "purpose": "invoices"}}
	floor := awsclient.New(svc, func(o *awskms.Options) { o.HTTPClient = canned(answer) })
	client := awsclient.New(svc)
	benchtest.Compare(b,
		func() { must(floor.GenerateDataKey(b.Context(), in)) },
		func() { must(client.GenerateDataKey(b.Context(), in)) })
}

// Every operation has its call above, and there is no call of what is not an operation.
func TestCallsAreOfOperations(t *testing.T) {
	var names []string
	for _, op := range kms.Operations() {
		names = append(names, op.Name())
	}
	require.ElementsMatch(t, names, slices.Collect(maps.Keys(calls)))
}
