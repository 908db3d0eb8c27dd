package kms_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms"
)

// reference returns how the request names a key. In the Region of a replica that is the replica.
func (r *replay) reference(k *replayKey, how, alias string) string {
	keyARN := k.Arn
	if region := r.region(); slices.Contains(k.Replicas, region) {
		keyARN = strings.Replace(keyARN, ":"+k.Region+":", ":"+region+":", 1)
	}
	switch how {
	case "id":
		return k.KeyId
	case "arn":
		return keyARN
	case "alias":
		return alias
	case "alias-arn":
		return strings.Replace(keyARN, "key/"+k.KeyId, alias, 1)
	case "none":
		return ""
	}
	panic("a request cannot name a key by " + how)
}

// input returns the input of the request, with valid values for what the case leaves out.
func (r *replay) input() any {
	q := &r.c.Request
	in := operationByName(q.Operation).NewInput()
	r.supplyKeyless(in)
	if r.key != nil {
		named := r.reference(r.key, q.KeyReference, q.Alias)
		setMember(in, "KeyId", named)
		setMember(in, "SourceKeyId", named)
		setMember(in, "TargetKeyId", r.key.KeyId)
		if strings.HasSuffix(q.Operation, "Alias") && q.Alias != "" {
			setMember(in, "AliasName", q.Alias)
		}
		r.supply(in)
	}
	if r.other != nil {
		second := r.reference(r.other, cmp.Or(q.SecondKeyReference, "arn"), q.SecondAlias)
		setMember(in, "DestinationKeyId", second)
		if q.Operation == "UpdateAlias" {
			setMember(in, "TargetKeyId", second)
		}
	}
	for _, name := range []string{"EncryptionContext", "SourceEncryptionContext"} {
		setMember(in, name, q.EncryptionContext)
	}
	setMember(in, "DestinationEncryptionContext", q.DestinationEncryptionContext)
	for name, raw := range q.Params {
		field := reflect.ValueOf(in).Elem().FieldByName(name)
		if !field.IsValid() {
			panic(fmt.Sprintf("%s has no member %s", q.Operation, name))
		}
		switch value := string(raw); {
		case name == "Policy":
			field.SetString(r.policy(value))
		case field.Type() == reflect.TypeFor[time.Time]() && !strings.HasPrefix(value, `"`):
			seconds := must(json.Number(value).Float64())
			field.Set(reflect.ValueOf(time.UnixMilli(int64(seconds * 1000))))
		default:
			must(0, json.Unmarshal(raw, field.Addr().Interface()))
		}
	}
	if r.c.Expect.Error != string(kms.ValidationException) { // else what is missing is the point
		r.complete(in)
	}
	return in
}

// policy returns the text of a policy parameter.
func (r *replay) policy(value string) string {
	if strings.HasPrefix(value, `"`) {
		var text string
		must(0, json.Unmarshal([]byte(value), &text))
		return text
	}
	if r.c.Request.PadPolicyTo == 0 {
		return value
	}
	var document map[string]any
	must(0, json.Unmarshal([]byte(value), &document))
	statement, ok := document["Statement"].(map[string]any)
	if !ok {
		statement = document["Statement"].([]any)[0].(map[string]any)
	}
	statement["Sid"] = ""
	statement["Sid"] = strings.Repeat("x", r.c.Request.PadPolicyTo-len(must(json.Marshal(document))))
	return string(must(json.Marshal(document)))
}

// param returns a text of the parameters, or "".
func (r *replay) param(name string) (text string) {
	if raw := r.c.Request.Params[name]; raw != nil {
		must(0, json.Unmarshal(raw, &text))
	}
	return text
}

// supplyKeyless sets the members that an operation without a key requires.
func (r *replay) supplyKeyless(in any) {
	account := r.c.Caller.Account
	if account == "" {
		return // a service, which may do none of this
	}
	owner := r.ownerIn(r.region(), account)
	setStore := func(connected bool) {
		setMember(in, "CustomKeyStoreId", r.store(owner, kms.OriginAWSCloudHSM, connected))
	}
	switch in := in.(type) {
	case *kms.CreateCustomKeyStoreInput:
		*in = *hsmStore("new")
	case *kms.ConnectCustomKeyStoreInput, *kms.DeleteCustomKeyStoreInput:
		setStore(false)
	case *kms.DisconnectCustomKeyStoreInput:
		setStore(true)
	case *kms.UpdateCustomKeyStoreInput:
		setStore(false)
		in.NewCustomKeyStoreName = "other"
	case *kms.GenerateRandomInput:
		in.NumberOfBytes = new(int32(32))
	case *kms.ListRetirableGrantsInput:
		in.RetiringPrincipal = r.c.Caller.ARN
	}
}

// supply sets the members that an operation on the key requires.
func (r *replay) supply(in any) {
	ctx, owner, k := context.Background(), r.key.owner, r.key
	encryption := func(param string) (a kms.EncryptionAlgorithmSpec) {
		if a = kms.EncryptionAlgorithmSpec(r.param(param)); a == "" && k.KeyMetadata.KeySpec != kms.KeySpecSymmetricDefault {
			a = first(k.EncryptionAlgorithms)
		}
		return a
	}
	encrypted := func(a kms.EncryptionAlgorithmSpec) []byte {
		out, err := owner.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), EncryptionContext: r.c.Request.EncryptionContext, EncryptionAlgorithm: a})
		if err != nil {
			return []byte("a key that cannot encrypt has no ciphertext")
		}
		return out.CiphertextBlob
	}
	signing := cmp.Or(kms.SigningAlgorithmSpec(r.param("SigningAlgorithm")), first(k.SigningAlgorithms), kms.SigningAlgorithmECDSASHA256)
	mac := cmp.Or(kms.MacAlgorithmSpec(r.param("MacAlgorithm")), first(k.MacAlgorithms), kms.MacAlgorithmHMACSHA256)
	encapsulation := cmp.Or(first(k.EncapsulationAlgorithms), kms.EncapsulationAlgorithmMLKEM)
	message := r.message(signing)
	switch in := in.(type) {
	case *kms.EncryptInput:
		in.Plaintext, in.EncryptionAlgorithm = []byte("x"), encryption("EncryptionAlgorithm")
	case *kms.DecryptInput:
		in.EncryptionAlgorithm = encryption("EncryptionAlgorithm")
		in.CiphertextBlob = encrypted(in.EncryptionAlgorithm)
	case *kms.ReEncryptInput:
		in.SourceEncryptionAlgorithm = encryption("SourceEncryptionAlgorithm")
		in.CiphertextBlob = encrypted(in.SourceEncryptionAlgorithm)
		if r.other != nil && r.other.KeyMetadata.KeySpec != kms.KeySpecSymmetricDefault {
			in.DestinationEncryptionAlgorithm = first(r.other.EncryptionAlgorithms)
		}
	case *kms.GenerateDataKeyInput:
		if r.c.Request.Params["NumberOfBytes"] == nil {
			in.KeySpec = kms.DataKeySpecAES256
		}
	case *kms.GenerateDataKeyWithoutPlaintextInput:
		if r.c.Request.Params["NumberOfBytes"] == nil {
			in.KeySpec = kms.DataKeySpecAES256
		}
	case *kms.GenerateDataKeyPairInput:
		in.KeyPairSpec = kms.DataKeyPairSpecECCNISTP256
	case *kms.GenerateDataKeyPairWithoutPlaintextInput:
		in.KeyPairSpec = kms.DataKeyPairSpecECCNISTP256
	case *kms.SignInput:
		in.Message, in.SigningAlgorithm = message, signing
	case *kms.VerifyInput:
		in.Message, in.SigningAlgorithm, in.Signature = message, signing, []byte("a key that cannot sign has no signature")
		out, err := owner.Sign(ctx, &kms.SignInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: signing, MessageType: kms.MessageType(r.param("MessageType"))})
		if err == nil {
			in.Signature = out.Signature
		}
	case *kms.GenerateMacInput:
		in.Message, in.MacAlgorithm = message, mac
	case *kms.VerifyMacInput:
		in.Message, in.MacAlgorithm, in.Mac = message, mac, []byte("a key that has no MACs")
		if out, err := owner.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: mac}); err == nil {
			in.Mac = out.Mac
		}
	case *kms.DeriveSharedSecretInput:
		in.KeyAgreementAlgorithm, in.PublicKey = kms.KeyAgreementAlgorithmECDH, []byte("a key that cannot agree has no peer")
		if peer, err := owner.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: k.Spec, KeyUsage: kms.KeyUsageKeyAgreement}); err == nil {
			in.PublicKey = must(owner.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: peer.KeyMetadata.KeyId})).PublicKey
		}
	case *kms.EncapsulateInput:
		in.EncapsulationAlgorithm = encapsulation
	case *kms.DecapsulateInput:
		in.EncapsulationAlgorithm, in.SharedSecretCiphertextBlob = encapsulation, []byte("a key that cannot encapsulate has no ciphertext")
		if out, err := owner.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: encapsulation}); err == nil {
			in.SharedSecretCiphertextBlob = out.SharedSecretCiphertextBlob
		}
	case *kms.CreateGrantInput:
		in.Operations = []kms.GrantOperation{kms.GrantOperationDescribeKey}
	case *kms.RevokeGrantInput:
		in.GrantId = first(r.grantIDs())
	case *kms.RetireGrantInput:
		in.GrantId = first(r.grantIDs())
	case *kms.CreateAliasInput:
		in.AliasName = cmp.Or(in.AliasName, "alias/new")
	case *kms.UpdateAliasInput:
		in.AliasName = cmp.Or(in.AliasName, first(k.Aliases))
	case *kms.DeleteAliasInput:
		in.AliasName = cmp.Or(in.AliasName, first(k.Aliases))
	case *kms.TagResourceInput:
		in.Tags = []kms.Tag{{TagKey: "k", TagValue: "v"}}
	case *kms.UntagResourceInput:
		in.TagKeys = []string{"k"}
	case *kms.PutKeyPolicyInput:
		in.Policy = everybodys
	case *kms.GetParametersForImportInput:
		in.WrappingAlgorithm, in.WrappingKeySpec = kms.AlgorithmRSAESOAEPSHA256, kms.WrappingKeySpecRSA2048
	case *kms.ImportKeyMaterialInput:
		in.ImportToken, in.EncryptedKeyMaterial = r.material(owner, k.KeyMetadata)
	case *kms.UpdateKeyDescriptionInput:
		in.Description = "x"
	case *kms.CancelKeyDeletionInput:
		must(owner.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId}))
	case *kms.ReplicateKeyInput:
		in.ReplicaRegion = "eu-west-1"
	case *kms.UpdatePrimaryRegionInput:
		in.PrimaryRegion = first(k.Replicas)
	}
}

// complete sets the members that the others require, and those that name what the case has not made.
func (r *replay) complete(in any) {
	if r.c.Expect.Allowed && r.param("CustomKeyStoreId") != "" {
		setMember(in, "CustomKeyStoreId", r.store(r.ownerIn(r.region(), r.c.Caller.Account), kms.OriginType(cmp.Or(r.param("Origin"), string(kms.OriginAWSCloudHSM))), true))
	}
	switch in := in.(type) {
	case *kms.CreateCustomKeyStoreInput:
		if r.c.Expect.Allowed {
			*in = *hsmStore(in.CustomKeyStoreName)
		}
	case *kms.CreateKeyInput:
		r.placeInStore(r.ownerIn(r.region(), r.c.Caller.Account), in)
		if spec := string(cmp.Or(in.KeySpec, kms.KeySpec(in.CustomerMasterKeySpec))); in.KeyUsage == "" && spec != "" && spec != "SYMMETRIC_DEFAULT" {
			in.KeyUsage = kms.KeyUsageSignVerify
			if strings.HasPrefix(spec, "HMAC_") {
				in.KeyUsage = kms.KeyUsageGenerateVerifyMac
			}
		}
	case *kms.CreateGrantInput:
		if in.GranteePrincipal == "" && in.GranteeServicePrincipal == "" {
			in.GranteePrincipal = "arn:aws:iam::111122223333:role/web"
		}
		if in.GranteeServicePrincipal == "" {
			return
		}
		if in.Constraints == nil {
			in.Constraints = new(kms.GrantConstraints)
		}
		in.Constraints.SourceArn = cmp.Or(in.Constraints.SourceArn, "arn:aws:s3:::documents-of-the-case")
		if in.RetiringPrincipal == "" {
			in.RetiringServicePrincipal = cmp.Or(in.RetiringServicePrincipal, in.GranteeServicePrincipal)
		}
	case *kms.RetireGrantInput:
		if in.GrantToken == "" && in.GrantId == "" {
			in.GrantId = strings.Repeat("0", 64)
		}
	case *kms.ImportKeyMaterialInput:
		if in.ExpirationModel != kms.ExpirationModelKeyMaterialDoesNotExpire && in.ValidTo.IsZero() {
			in.ValidTo = r.clock.Now().Add(30 * day)
		}
	}
}

func (r *replay) grantIDs() (ids []string) {
	for _, g := range r.grants {
		ids = append(ids, g.GrantId)
	}
	return ids
}

// message returns a message of the type that the request says, for a signing algorithm.
func (r *replay) message(a kms.SigningAlgorithmSpec) []byte {
	switch kind := r.param("MessageType"); {
	case kind == "" || kind == string(kms.MessageTypeRaw):
		return []byte("message")
	case kind == string(kms.MessageTypeExternalMu), strings.HasSuffix(string(a), "512"), strings.HasPrefix(string(a), "ED25519"):
		return make([]byte, 64)
	case strings.HasSuffix(string(a), "384"):
		return make([]byte, 48)
	}
	return make([]byte, 32)
}

// material returns key material for a key with origin EXTERNAL, wrapped, and the token for its
// import.
func (r *replay) material(owner *kms.Service, k *kms.KeyMetadata) (token, wrapped []byte) {
	algorithm, material := kms.AlgorithmRSAESOAEPSHA256, make([]byte, 32)
	curves := map[kms.KeySpec]elliptic.Curve{kms.KeySpecECCNISTP256: elliptic.P256(), kms.KeySpecECCNISTP384: elliptic.P384(), kms.KeySpecECCNISTP521: elliptic.P521()}
	switch spec := k.KeySpec; {
	case curves[spec] != nil:
		material = must(x509.MarshalPKCS8PrivateKey(must(ecdsa.GenerateKey(curves[spec], rand.Reader))))
	case spec == kms.KeySpecECCNISTEdwards25519:
		material = must(x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(material)))
	case strings.HasPrefix(string(spec), "RSA_"):
		algorithm, material = kms.AlgorithmRSAAESKeyWrapSHA256, fixedRSA(r.t, spec)
	case spec == kms.KeySpecHMAC224:
		material = make([]byte, 28)
	case spec == kms.KeySpecHMAC384:
		material = make([]byte, 48)
	case spec == kms.KeySpecHMAC512:
		material = make([]byte, 64)
	}
	parameters := parametersForImport(r.t, owner, k.KeyId, algorithm, kms.WrappingKeySpecRSA2048)
	return parameters.ImportToken, wrap(r.t, parameters.PublicKey, algorithm, material)
}

// first returns the first of a list, or "".
func first[T ~string](list []T) (v T) {
	if len(list) > 0 {
		v = list[0]
	}
	return v
}

func operationByName(name string) kms.Operation {
	for _, op := range kms.Operations() {
		if op.Name() == name {
			return op
		}
	}
	panic("there is no operation " + name)
}

// setMember sets a member of an input, if it has one of that name.
func setMember(in any, name string, value any) {
	if field := reflect.ValueOf(in).Elem().FieldByName(name); field.IsValid() && !reflect.ValueOf(value).IsZero() {
		field.Set(reflect.ValueOf(value).Convert(field.Type()))
	}
}
