package kms_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

func TestOperationsAreTheMethodsOfService(t *testing.T) {
	var methods []string
	service := reflect.TypeFor[*kms.Service]()
	for i := range service.NumMethod() {
		m := service.Method(i)
		if m.Type.NumIn() != 3 || m.Type.In(1) != reflect.TypeFor[context.Context]() {
			continue
		}
		if m.Type.NumOut() != 2 || m.Type.In(2).Kind() != reflect.Pointer {
			continue // not an operation of the API
		}
		require.Equal(t, "func(*kms.Service, context.Context, *kms."+m.Name+"Input) (*kms."+m.Name+"Output, error)", m.Type.String())
		methods = append(methods, m.Name)
	}
	var operations []string
	for _, op := range kms.Operations() {
		operations = append(operations, op.Name())
		require.Equal(t, "*kms."+op.Name()+"Input", fmt.Sprintf("%T", op.NewInput()))
	}
	require.NotEmpty(t, methods)
	require.Equal(t, methods, operations, "both in alphabetical order")
}

func TestOperationsAreTheCallersOwnList(t *testing.T) {
	clear(kms.Operations())
	require.NotNil(t, kms.Operations()[0])
}

func TestInvokeRefusesTheInputOfAnotherOperation(t *testing.T) {
	svc, _ := newService(t)
	for _, op := range kms.Operations() {
		out, err := op.Invoke(context.Background(), svc, &struct{}{})
		require.EqualError(t, err, "kms: "+op.Name()+" takes a *kms."+op.Name()+"Input, not a *struct {}")
		require.Nil(t, out)
	}
}

// A fixture is a service with everything that valid calls of all operations need.
type fixture struct {
	svc                            *kms.Service
	clock                          *clock
	symmetric, other, signing, mac *kms.KeyMetadata
	agreement, kem                 *kms.KeyMetadata
	lone, primary                  *kms.KeyMetadata // multi-Region primaries; primary has a replica in replicaRegion
	external                       *kms.KeyMetadata // its material is imported
	ciphertext                     []byte           // under symmetric
	signature                      []byte
	tag                            []byte                 // of mac
	peer                           []byte                 // a public key for agreement
	encapsulated                   []byte                 // to kem
	grant                          *kms.CreateGrantOutput // of symmetric
	importToken, wrapped           []byte                 // of the material of external
	device                         *kmstest.Device        // fixtureCluster and fixtureProxy
	hsm                            string                 // the ID of a custom key store, which is disconnected
}

const fixtureAlias, fixtureMessage, fixtureAlice = "alias/fixture", "message", "arn:aws:iam::111122223333:user/alice"

// fixtureWorker is the grantee of the fixture's grant, and may retire it.
const fixtureWorker = "arn:aws:iam::111122223333:role/worker"

const replicaRegion = "eu-west-1"

// withoutReplicationDelay makes replicas usable at once, unless the test has set a delay.
func withoutReplicationDelay(c *kms.Config) {
	if c.ReplicationDelay == 0 {
		c.ReplicationDelay = -1
	}
}

func newFixture(t testing.TB, settings ...func(*kms.Config)) *fixture {
	t.Helper()
	ctx := context.Background()
	f := &fixture{}
	f.device = newDevice()
	f.svc, f.clock = newService(t, append([]func(*kms.Config){withDevice(f.device), withoutReplicationDelay}, settings...)...)
	f.hsm = createStore(t, f.svc, hsmStore("fixture"))
	f.symmetric, f.other = createKey(t, f.svc, nil), createKey(t, f.svc, nil)
	f.signing, f.mac = createSigningKey(t, f.svc), createMacKey(t, f.svc)
	f.agreement, f.kem = createAgreementKey(t, f.svc, kms.KeySpecECCNISTP256), createKEMKey(t, f.svc, kms.KeySpecMLKEM768)
	createAlias(t, f.svc, fixtureAlias, f.symmetric.KeyId)
	f.ciphertext = encrypt(t, f.svc, f.symmetric.KeyId, fixtureMessage)
	signed, err := f.svc.Sign(ctx, &kms.SignInput{KeyId: f.signing.KeyId, Message: []byte(fixtureMessage), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
	require.NoError(t, err)
	tagged, err := f.svc.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: f.mac.KeyId, Message: []byte(fixtureMessage), MacAlgorithm: kms.MacAlgorithmHMACSHA256})
	require.NoError(t, err)
	f.signature, f.tag = signed.Signature, tagged.Mac
	f.peer = publicKey(t, f.svc, f.agreement.KeyId) // itself will do
	encapsulated, err := f.svc.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: f.kem.KeyId, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
	require.NoError(t, err)
	f.encapsulated = encapsulated.SharedSecretCiphertextBlob
	f.lone, f.primary = createPrimary(t, f.svc), createPrimary(t, f.svc)
	replicate(t, f.svc, f.primary.KeyId, replicaRegion)
	f.grant = createGrant(t, f.svc, &kms.CreateGrantInput{KeyId: f.symmetric.KeyId, GranteePrincipal: fixtureWorker, RetiringPrincipal: fixtureWorker})
	f.external = createKey(t, f.svc, &kms.CreateKeyInput{Origin: kms.OriginExternal})
	parameters := parametersForImport(t, f.svc, f.external.KeyId, kms.AlgorithmSM2PKE, kms.WrappingKeySpecSM2) // the fastest
	f.importToken, f.wrapped = parameters.ImportToken, wrap(t, parameters.PublicKey, kms.AlgorithmSM2PKE, bytes.Repeat([]byte{7}, 32))
	importWrapped(t, f.svc, f.external.KeyId, f.importToken, f.wrapped)
	f.external = describe(t, f.svc, f.external.KeyId)
	return f
}

// subject returns the key of an operation's example.
func (f *fixture) subject(operation string) *kms.KeyMetadata {
	switch operation {
	case "Sign", "Verify", "GetPublicKey":
		return f.signing
	case "GenerateMac", "VerifyMac":
		return f.mac
	case "DeriveSharedSecret":
		return f.agreement
	case "Encapsulate", "Decapsulate":
		return f.kem
	case "ReplicateKey":
		return f.lone
	case "UpdatePrimaryRegion":
		return f.primary
	case "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial":
		return f.external
	}
	return f.symmetric
}

// example returns a valid input of an operation. Its subject must be enabled or, for
// CancelKeyDeletion, pending deletion.
func (f *fixture) example(t testing.TB, operation string) any {
	t.Helper()
	message := []byte(fixtureMessage)
	switch operation {
	case "CreateAlias":
		return &kms.CreateAliasInput{AliasName: "alias/new", TargetKeyId: f.symmetric.KeyId}
	case "UpdateAlias":
		return &kms.UpdateAliasInput{AliasName: fixtureAlias, TargetKeyId: f.other.KeyId}
	case "DeleteAlias":
		return &kms.DeleteAliasInput{AliasName: fixtureAlias}
	case "ListAliases":
		return &kms.ListAliasesInput{KeyId: f.symmetric.KeyId}
	case "CreateGrant":
		return &kms.CreateGrantInput{KeyId: f.symmetric.KeyId, GranteePrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}}
	case "ListRetirableGrants":
		return &kms.ListRetirableGrantsInput{RetiringPrincipal: fixtureWorker}
	case "RetireGrant":
		return &kms.RetireGrantInput{KeyId: f.symmetric.KeyId, GrantId: f.grant.GrantId}
	case "RevokeGrant":
		return &kms.RevokeGrantInput{KeyId: f.symmetric.KeyId, GrantId: f.grant.GrantId}
	case "CreateKey":
		return &kms.CreateKeyInput{}
	case "CreateCustomKeyStore":
		return proxyStore("new")
	case "UpdateCustomKeyStore":
		return &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: f.hsm, NewCustomKeyStoreName: "renamed"}
	case "DeleteCustomKeyStore":
		return &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: f.hsm}
	case "ConnectCustomKeyStore":
		return &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: f.hsm}
	case "DisconnectCustomKeyStore":
		return &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: f.hsm}
	case "DescribeCustomKeyStores":
		return &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: f.hsm}
	case "ListKeys":
		return &kms.ListKeysInput{}
	case "GenerateRandom":
		return &kms.GenerateRandomInput{NumberOfBytes: new(int32(16))}
	case "Encrypt":
		return &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: message}
	case "Decrypt":
		return &kms.DecryptInput{KeyId: f.symmetric.KeyId, CiphertextBlob: f.ciphertext}
	case "ReEncrypt":
		return &kms.ReEncryptInput{SourceKeyId: f.symmetric.KeyId, CiphertextBlob: f.ciphertext, DestinationKeyId: f.other.KeyId}
	case "GenerateDataKey":
		return &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, KeySpec: kms.DataKeySpecAES256}
	case "GenerateDataKeyWithoutPlaintext":
		return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: f.symmetric.KeyId, KeySpec: kms.DataKeySpecAES256}
	case "GenerateDataKeyPair":
		return &kms.GenerateDataKeyPairInput{KeyId: f.symmetric.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
	case "GenerateDataKeyPairWithoutPlaintext":
		return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: f.symmetric.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
	case "Sign":
		return &kms.SignInput{KeyId: f.signing.KeyId, Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
	case "Verify":
		return &kms.VerifyInput{KeyId: f.signing.KeyId, Message: message, Signature: f.signature, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
	case "GenerateMac":
		return &kms.GenerateMacInput{KeyId: f.mac.KeyId, Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256}
	case "VerifyMac":
		return &kms.VerifyMacInput{KeyId: f.mac.KeyId, Message: message, Mac: f.tag, MacAlgorithm: kms.MacAlgorithmHMACSHA256}
	case "DeriveSharedSecret":
		return &kms.DeriveSharedSecretInput{KeyId: f.agreement.KeyId, PublicKey: f.peer, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH}
	case "Encapsulate":
		return &kms.EncapsulateInput{KeyId: f.kem.KeyId, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	case "Decapsulate":
		return &kms.DecapsulateInput{KeyId: f.kem.KeyId, SharedSecretCiphertextBlob: f.encapsulated, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	case "ReplicateKey":
		return &kms.ReplicateKeyInput{KeyId: f.lone.KeyId, ReplicaRegion: replicaRegion}
	case "UpdatePrimaryRegion":
		return &kms.UpdatePrimaryRegionInput{KeyId: f.primary.KeyId, PrimaryRegion: replicaRegion}
	case "GetParametersForImport":
		return &kms.GetParametersForImportInput{KeyId: f.external.KeyId, WrappingAlgorithm: kms.AlgorithmSM2PKE, WrappingKeySpec: kms.WrappingKeySpecSM2}
	case "ImportKeyMaterial":
		return &kms.ImportKeyMaterialInput{KeyId: f.external.KeyId, ImportToken: f.importToken, EncryptedKeyMaterial: f.wrapped,
			ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire}
	case "PutKeyPolicy":
		return &kms.PutKeyPolicyInput{KeyId: f.symmetric.KeyId, Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`}
	case "TagResource":
		return &kms.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}}
	case "UntagResource":
		return &kms.UntagResourceInput{KeyId: f.symmetric.KeyId, TagKeys: []string{"k"}}
	}
	// All other operations need only a key.
	in := operationNamed(t, operation).NewInput()
	reflect.ValueOf(in).Elem().FieldByName("KeyId").SetString(f.subject(operation).KeyId)
	return in
}

// prepare makes the example of an operation valid.
func (f *fixture) prepare(t testing.TB, operation string) {
	t.Helper()
	switch operation {
	case "CancelKeyDeletion":
		scheduleDeletion(t, f.svc, f.symmetric.KeyId, 7)
	case "DisconnectCustomKeyStore":
		connect(t, f.svc, f.hsm)
	}
}

// operationOf returns the operation that takes an input.
func operationOf(t testing.TB, in any) kms.Operation {
	t.Helper()
	return operationNamed(t, strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input"))
}

func operationNamed(t testing.TB, name string) kms.Operation {
	t.Helper()
	for _, op := range kms.Operations() {
		if op.Name() == name {
			return op
		}
	}
	require.FailNow(t, "there is no operation "+name)
	return nil
}

func (f *fixture) invoke(t testing.TB, operation string, in any) (any, error) {
	t.Helper()
	return operationNamed(t, operation).Invoke(context.Background(), f.svc, in)
}

// eachOperation runs test for each operation, with a valid input and a new fixture.
func eachOperation(t *testing.T, test func(t *testing.T, f *fixture, op kms.Operation, in any)) {
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			f := newFixture(t)
			f.prepare(t, op.Name())
			test(t, f, op, f.example(t, op.Name()))
		})
	}
}

func TestEveryOperationSucceedsWithItsExample(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		out, err := op.Invoke(context.Background(), f.svc, in)
		require.NoError(t, err)
		require.Equal(t, "*kms."+op.Name()+"Output", fmt.Sprintf("%T", out))
	})
}

func TestNoOperationChangesItsInput(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		_, err := op.Invoke(context.Background(), f.svc, in)
		require.NoError(t, err)
		if op.Name() == "UpdateAlias" || op.Name() == "DeleteAlias" {
			createAlias(t, f.svc, "alias/fixture-2", f.symmetric.KeyId)
		}
		require.Equal(t, f.example(t, op.Name()), in)
	})
}

func TestEveryOperationTreatsANilInputAsEmpty(t *testing.T) {
	svc, _ := newService(t)
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			empty := op.NewInput()
			missing := reflect.Zero(reflect.TypeOf(empty)).Interface()
			_, err := op.Invoke(context.Background(), svc, missing)
			_, want := op.Invoke(context.Background(), svc, empty)
			require.Equal(t, fmt.Sprint(want), fmt.Sprint(err))
		})
	}
}

func TestEveryOperationReturnsTheErrorOfItsContext(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		out, err := op.Invoke(ctx, f.svc, in)
		require.Equal(t, context.Canceled, err, "untouched")
		require.Nil(t, out)
	})
}

func TestEveryOperationIsRefusedAfterClose(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		require.NoError(t, f.svc.Close())
		out, err := op.Invoke(context.Background(), f.svc.In("eu-west-1"), in)
		require.Equal(t, kms.ErrClosed, err)
		require.Nil(t, out)
		require.NoError(t, f.svc.Close())
	})
}

func TestEveryOperationIsRefusedInAnInvalidRegion(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		for _, region := range []string{"", "us east", "US-EAST-1", "us-east-1/../..", strings.Repeat("a", 33)} {
			_, err := op.Invoke(context.Background(), f.svc.In(region), in)
			require.ErrorIs(t, err, kms.ValidationException, "Region %q", region)
		}
	})
}

func TestEveryOperationIsDeniedExceptToTheAccountsRoot(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		for _, arn := range []string{
			"arn:aws:iam::111122223333:user/alice",
			"arn:aws:iam::111122223333:role/app",
			"arn:aws:sts::111122223333:assumed-role/app/session",
			"arn:aws:sts::111122223333:federated-user/bob",
		} {
			_, err := op.Invoke(context.Background(), f.svc.As(principal(t, arn)), in)
			permission, resource := "kms:"+op.Name(), f.subject(op.Name()).Arn
			switch op.Name() {
			case "ReEncrypt":
				permission = "kms:ReEncryptFrom"
			case "CreateKey", "ListAliases", "ListKeys", "ListRetirableGrants", "GenerateRandom", "ConnectCustomKeyStore", "CreateCustomKeyStore",
				"DeleteCustomKeyStore", "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore":
				resource = "*"
			case "CreateAlias", "UpdateAlias", "DeleteAlias":
				resource = "arn:aws:kms:us-east-1:111122223333:" + reflect.ValueOf(in).Elem().FieldByName("AliasName").String()
			}
			requireError(t, err, kms.AccessDeniedException,
				"User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %[2]s action", arn, permission, resource)
		}
		_, err := op.Invoke(context.Background(), f.svc.As(kms.Principal{}), in)
		require.ErrorIs(t, err, kms.AccessDeniedException)
	})
}

// The API checks the shape of a request, then finds its key, authorizes the caller, checks the
// state of the key, and then everything else.
func TestChecksAreInTheAPIsOrder(t *testing.T) {
	f := newFixture(t)
	alice := f.svc.As(principal(t, "arn:aws:iam::111122223333:user/alice"))
	const missing = "12345678-1234-1234-1234-123456789012"
	disabled := createKey(t, f.svc, nil).KeyId
	disable(t, f.svc, disabled)
	for name, tt := range map[string]struct {
		call func(svc *kms.Service, key string) error
		last kms.ErrorCode
	}{
		"a malformed policy": {func(svc *kms.Service, key string) error {
			_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key, Policy: "{"})
			return err
		}, kms.MalformedPolicyDocumentException},
		"another policy's name": {func(svc *kms.Service, key string) error {
			_, err := svc.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key, PolicyName: "mine", Policy: "{}"})
			return err
		}, kms.UnsupportedOperationException},
		"a reserved tag": {func(svc *kms.Service, key string) error {
			_, err := svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key, Tags: []kms.Tag{{TagKey: "aws:x"}}})
			return err
		}, kms.TagException},
		"a reserved alias": {func(svc *kms.Service, key string) error {
			_, err := svc.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: "alias/aws/x", TargetKeyId: key})
			return err
		}, kms.InvalidAliasNameException},
		"a grant token": {func(svc *kms.Service, key string) error {
			_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: key, GrantTokens: []string{"token"}})
			return err
		}, kms.InvalidGrantTokenException},
		"a recipient": {func(svc *kms.Service, key string) error {
			_, err := svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: key, KeySpec: kms.DataKeySpecAES256, Recipient: &kms.RecipientInfo{}})
			return err
		}, kms.UnsupportedOperationException},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, tt.call(f.svc, missing), kms.NotFoundException)
			require.ErrorIs(t, tt.call(alice, f.symmetric.KeyId), kms.AccessDeniedException)
			require.ErrorIs(t, tt.call(f.svc, f.symmetric.KeyId), tt.last)
		})
	}
	_, err := f.svc.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: disabled, KeySpec: kms.DataKeySpecAES256, Recipient: &kms.RecipientInfo{}})
	require.ErrorIs(t, err, kms.DisabledException)
	for _, in := range []*kms.CreateKeyInput{{Policy: "{"}, {Tags: []kms.Tag{{TagKey: "aws:x"}}}} {
		_, err := alice.CreateKey(t.Context(), in)
		require.ErrorIs(t, err, kms.AccessDeniedException)
	}
}

// keyMembers returns the members of an input that name keys.
func keyMembers(in any) []reflect.Value {
	var members []reflect.Value
	for _, name := range []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"} {
		if f := reflect.ValueOf(in).Elem().FieldByName(name); f.IsValid() {
			members = append(members, f)
		}
	}
	return members
}

// takeAliases are the operations that accept an alias as KeyId, by the API's documentation.
var takeAliases = map[string]bool{
	"Decapsulate": true, "Decrypt": true, "DeriveSharedSecret": true, "DescribeKey": true, "Encapsulate": true, "Encrypt": true, "GenerateDataKey": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
	"GenerateDataKeyWithoutPlaintext": true,
	"GenerateMac":                     true, "GetPublicKey": true, "ReEncrypt": true, "Sign": true, "Verify": true, "VerifyMac": true,
}

func TestEveryOperationAcceptsTheKeyIdentifiersOfTheAPI(t *testing.T) {
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		operation := op.Name()
		for i, member := range keyMembers(in) {
			id := member.String()
			arn := describe(t, f.svc, id).Arn
			name := fmt.Sprintf("alias/by-name-%d", i)
			if operation != "CancelKeyDeletion" {
				createAlias(t, f.svc, name, id)
			}
			aliasARN := strings.Replace(arn, "key/"+id, name, 1)
			for _, alias := range []string{name, aliasARN} {
				member.SetString(alias)
				_, err := op.Invoke(context.Background(), f.svc, in)
				switch {
				case takeAliases[operation]:
					require.NoError(t, err)
				case operation == "CreateAlias" || operation == "UpdateAlias":
					requireError(t, err, kms.ValidationException, "Aliases must refer to keys. Not aliases")
				default:
					requireError(t, err, kms.InvalidArnException, "Key Aliases are not supported for this operation.")
				}
			}
			member.SetString(arn)
			_, err := op.Invoke(context.Background(), f.svc, in)
			require.NoError(t, err)
			member.SetString(id)
		}
	})
}

func TestEveryOperationReturnsTheKeyARNForAnyIdentifier(t *testing.T) {
	bare := map[string]bool{"GetKeyLastUsage": true}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		out, err := op.Invoke(context.Background(), f.svc, in)
		require.NoError(t, err)
		answer := reflect.ValueOf(out).Elem().FieldByName("KeyId")
		if !answer.IsValid() {
			return
		}
		subject := f.subject(op.Name())
		switch {
		case bare[op.Name()]:
			require.Equal(t, subject.KeyId, answer.String())
		case op.Name() == "ReEncrypt":
			require.Equal(t, f.other.Arn, answer.String())
			require.Equal(t, subject.Arn, reflect.ValueOf(out).Elem().FieldByName("SourceKeyId").String())
		default:
			require.Equal(t, subject.Arn, answer.String())
		}
	})
}

func TestEveryOperationRefusesInvalidKeyIdentifiers(t *testing.T) {
	const here = "arn:aws:kms:us-east-1:111122223333:"
	const unknown = "12345678-1234-1234-1234-123456789012"
	const replica = "mrk-12345678123412341234123456789012"
	tests := []struct {
		name, sent string
		code       kms.ErrorCode
		message    string
	}{
		{"an ID of no key", unknown, kms.NotFoundException, "Key '" + here + "key/" + unknown + "' does not exist"},
		{"a multi-Region ID of no key", replica, kms.NotFoundException, "Key '" + here + "key/" + replica + "' does not exist"},
		{"an ARN of no key", here + "key/" + unknown, kms.NotFoundException, "Key '" + here + "key/" + unknown + "' does not exist"},
		{"no ID at all", "my-key", kms.NotFoundException, "Invalid keyId 'my-key'"},
		{"an ID without its dashes", strings.ReplaceAll(unknown, "-", ""), kms.NotFoundException, "Invalid keyId '" + strings.ReplaceAll(unknown, "-", "") + "'"},
		{"an ID in upper case", "ABCDEF78-1234-1234-1234-123456789012", kms.NotFoundException, "Invalid keyId 'ABCDEF78-1234-1234-1234-123456789012'"},
		{"a multi-Region ID that is too short", "mrk-foo", kms.NotFoundException, "Invalid keyId 'mrk-foo'"},
		{"an ID with a slash", unknown + "/..", kms.NotFoundException, "Invalid keyId '" + unknown + "/..'"},
		{"an ARN of another Region", "arn:aws:kms:eu-west-1:111122223333:key/" + unknown, kms.NotFoundException, "Invalid arn eu-west-1"},
		{"an ARN of no key ID", here + "key/my-key", kms.NotFoundException, "Invalid keyId 'my-key'"},
		{"an ARN of another partition", "arn:aws-cn:kms:us-east-1:111122223333:key/" + unknown, kms.InvalidArnException, "Invalid arn arn:aws-cn:kms:us-east-1:111122223333:key/" + unknown},
		{"an ARN of another service", "arn:aws:s3:us-east-1:111122223333:key/" + unknown, kms.InvalidArnException, "Invalid arn arn:aws:s3:us-east-1:111122223333:key/" + unknown},
		{"an ARN without account", "arn:aws:kms:us-east-1::key/" + unknown, kms.InvalidArnException, "Invalid arn arn:aws:kms:us-east-1::key/" + unknown},
		{"an ARN of neither key nor alias", here + "grant/x", kms.InvalidArnException, "Invalid arn " + here + "grant/x"},
		{"half an ARN", "arn:aws:kms", kms.InvalidArnException, "Invalid arn arn:aws:kms"},
	}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		for i, member := range keyMembers(in) {
			valid := member.String()
			for _, test := range tests {
				member.SetString(test.sent)
				_, err := op.Invoke(context.Background(), f.svc, in)
				requireError(t, err, test.code, "%s", test.message)
			}
			member.SetString(strings.Repeat("k", 2049))
			_, err := op.Invoke(context.Background(), f.svc, in)
			require.ErrorIs(t, err, kms.ValidationException)
			require.ErrorContains(t, err, "' at '"+memberPath(in, i)+"' failed to satisfy constraint: Member must have length less than or equal to 2048")
			if takeAliases[op.Name()] {
				for _, alias := range []string{"alias/none", here + "alias/none"} {
					member.SetString(alias)
					_, err := op.Invoke(context.Background(), f.svc, in)
					requireError(t, err, kms.NotFoundException, "Alias %salias/none is not found.", here)
				}
			}
			member.SetString(valid)
		}
	})
}

// memberPath returns the name of an input's i-th key member in messages of the API.
func memberPath(in any, i int) string {
	for _, name := range []string{"keyId", "sourceKeyId", "destinationKeyId", "targetKeyId"} {
		if reflect.ValueOf(in).Elem().FieldByName(strings.ToUpper(name[:1]) + name[1:]).IsValid() {
			if i--; i < 0 {
				return name
			}
		}
	}
	return ""
}

func TestEveryOperationRequiresItsKey(t *testing.T) {
	optional := map[string]bool{"Decrypt.keyId": true, "ReEncrypt.sourceKeyId": true, "ListAliases.keyId": true}
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		for i, member := range keyMembers(in) {
			valid, path := member.String(), memberPath(in, i)
			member.SetString("")
			_, err := op.Invoke(context.Background(), f.svc, in)
			member.SetString(valid)
			switch {
			case optional[op.Name()+"."+path]:
				require.NoError(t, err)
				continue
			case op.Name() == "RetireGrant":
				requireError(t, err, kms.ValidationException, "Grant token OR (grant ID, key ID) must be specified.")
				continue
			}
			requireError(t, err, kms.ValidationException,
				"1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", path)
		}
	})
}

func TestEveryOperationHidesTheKeysOfAnotherAccount(t *testing.T) {
	const unknown = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
	stranger := rootOf(t, "444455556666")
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		members := keyMembers(in)
		for i, member := range members {
			for _, arn := range []string{ownARN(f, member.String()), unknown} {
				for j := range members { // the one at hand and those after it are the other account's
					if j >= i {
						members[j].SetString(arn)
					}
				}
				defer lendSource(t, f.svc.As(stranger), op, in, i)()
				_, err := op.Invoke(context.Background(), f.svc.As(stranger), in)
				switch op.Name() {
				case "CreateAlias":
					requireError(t, err, kms.ValidationException, "This operation cannot be called cross account")
				case "UpdateAlias": // the stranger has no such alias
					requireError(t, err, kms.NotFoundException, "Alias arn:aws:kms:us-east-1:444455556666:%s is not found.", fixtureAlias)
				case "ReEncrypt":
					if i == 0 {
						requireDeniedForeign(t, err, stranger, "kms:ReEncryptFrom")
					} else {
						requireDeniedForeign(t, err, stranger, "kms:ReEncryptTo")
					}
				default:
					requireDeniedForeign(t, err, stranger, "kms:"+op.Name())
				}
			}
		}
	})
}

// ownARN returns the ARN of the fixture's own key with the given ID.
func ownARN(f *fixture, id string) string {
	return strings.TrimSuffix(f.symmetric.Arn, f.symmetric.KeyId) + id[strings.LastIndexByte(id, '/')+1:]
}

func requireDenied(t *testing.T, err error, caller kms.Principal, permission, arn string) {
	t.Helper()
	requireError(t, err, kms.AccessDeniedException,
		"User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %[2]s action", caller, permission, arn)
}

// requireDeniedForeign requires the error for a key of another account, whether it exists or not.
func requireDeniedForeign(t *testing.T, err error, caller kms.Principal, permission string) {
	t.Helper()
	requireError(t, err, kms.AccessDeniedException, "User: %s is not authorized to perform: %s on this resource because %s", caller, permission, hiddenResource)
}

// dryRunOperations are the operations of this service that have a DryRun by the API's
// documentation.
var dryRunOperations = []string{
	"CreateGrant", "Decapsulate", "Decrypt", "DeriveSharedSecret", "Encapsulate", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateDataKeyWithoutPlaintext", "GenerateMac", "ReEncrypt", "RetireGrant", "RevokeGrant", "Sign", "Verify", "VerifyMac",
}

func withDryRun(in any) any {
	reflect.ValueOf(in).Elem().FieldByName("DryRun").SetBool(true)
	return in
}

func TestDryRunIsAMemberOfTheOperationsOfTheAPI(t *testing.T) {
	var have []string
	for _, op := range kms.Operations() {
		if reflect.ValueOf(op.NewInput()).Elem().FieldByName("DryRun").IsValid() {
			have = append(have, op.Name())
		}
	}
	require.Equal(t, dryRunOperations, have)
}

func TestDryRunOfAValidCallChangesNothing(t *testing.T) {
	for _, operation := range dryRunOperations {
		t.Run(operation, func(t *testing.T) {
			f := newFixture(t)
			before := lastUsage(t, f.svc, f.subject(operation).KeyId)
			f.clock.Move(day)
			out, err := f.invoke(t, operation, withDryRun(f.example(t, operation)))
			requireError(t, err, kms.DryRunOperationException, "The request would have succeeded, but the DryRun option is set.")
			require.Nil(t, out)
			require.Equal(t, before, lastUsage(t, f.svc, f.subject(operation).KeyId))
			require.Zero(t, *lastUsage(t, f.svc, f.other.KeyId))
		})
	}
}

func TestDryRunOfARefusedCallReturnsTheSameError(t *testing.T) {
	for _, operation := range dryRunOperations {
		t.Run(operation, func(t *testing.T) {
			f := newFixture(t)
			wrong := f.other.KeyId // for those that need no symmetric key
			if f.subject(operation) == f.symmetric {
				wrong = f.signing.KeyId
			}
			for name, spoil := range map[string]func(in any){
				"its key cannot serve it":  func(in any) { keyMembers(in)[0].SetString(wrong) },
				"its key does not exist":   func(in any) { keyMembers(in)[0].SetString("12345678-1234-1234-1234-123456789012") },
				"its input is out of form": func(in any) { keyMembers(in)[0].SetString(strings.Repeat("k", 2049)) },
			} {
				actual, dry := f.example(t, operation), withDryRun(f.example(t, operation))
				spoil(actual)
				spoil(dry)
				_, want := f.invoke(t, operation, actual)
				require.Error(t, want, name)
				_, err := f.invoke(t, operation, dry)
				require.Equal(t, want.Error(), err.Error(), name)
			}
			if operation == "RetireGrant" || operation == "RevokeGrant" { // they work in every key state
				return
			}
			disable(t, f.svc, f.subject(operation).KeyId)
			_, err := f.invoke(t, operation, withDryRun(f.example(t, operation)))
			requireError(t, err, kms.DisabledException, "%s is disabled.", f.subject(operation).Arn)
		})
	}
}

func TestEveryOperationRefusesAnUnknownGrantToken(t *testing.T) {
	tokens := 0
	eachOperation(t, func(t *testing.T, f *fixture, op kms.Operation, in any) {
		member := reflect.ValueOf(in).Elem().FieldByName("GrantTokens")
		if !member.IsValid() {
			return
		}
		tokens++
		member.Set(reflect.ValueOf([]string{"no-such-token"}))
		_, err := op.Invoke(context.Background(), f.svc, in)
		requireError(t, err, kms.InvalidGrantTokenException, "The grant token is not valid.")
		member.Set(reflect.ValueOf(make([]string, 11)))
		_, err = op.Invoke(context.Background(), f.svc, in)
		require.ErrorIs(t, err, kms.ValidationException)
		require.ErrorContains(t, err, "at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10")
	})
	require.Equal(t, len(dryRunOperations), tokens, "DescribeKey and GetPublicKey take tokens too, RetireGrant and RevokeGrant do not")
}

func TestErrorsAreFoundByCodeAndByType(t *testing.T) {
	svc, _ := newService(t)
	_, err := svc.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: "x"})
	require.ErrorIs(t, err, kms.NotFoundException)
	require.NotErrorIs(t, err, kms.DisabledException)
	var e *kms.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "DescribeKey", e.Operation)
	require.Equal(t, "NotFoundException", e.ErrorCode())
	require.Equal(t, "Invalid keyId 'x'", e.ErrorMessage())
	require.EqualError(t, err, "kms: DescribeKey: NotFoundException: Invalid keyId 'x'")
	require.EqualError(t, kms.NotFoundException, "NotFoundException")
}
