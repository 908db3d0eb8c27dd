package conformance

import (
	"reflect"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

// fixtureWorker is the grantee of the fixture's grant, and may retire it.
const (
	fixtureAlias, fixtureMessage = "alias/fixture", "message"

	fixtureAlice  = "arn:aws:iam::111122223333:user/alice"
	fixtureWorker = "arn:aws:iam::111122223333:role/worker"

	replicaRegion = "eu-west-1"
)

// A fixture has keys of each kind, which are created when a fact first asks for them.
type fixture struct {
	keys  map[string]*kms.KeyMetadata
	blobs map[string][]byte
	given *kms.CreateGrantOutput
	store string

	hasAlias bool

	importToken, wrapped []byte
}

func (s *scene) keyOf(name string, create func() *kms.KeyMetadata) *kms.KeyMetadata {
	if s.keys[name] == nil {
		k := create()
		if s.keys == nil {
			s.keys = map[string]*kms.KeyMetadata{}
		}
		s.keys[name] = k
	}
	return s.keys[name]
}

func (s *scene) blobOf(name string, create func() []byte) []byte {
	if s.blobs[name] == nil {
		b := create()
		if s.blobs == nil {
			s.blobs = map[string][]byte{}
		}
		s.blobs[name] = b
	}
	return s.blobs[name]
}

// symmetric returns a key with the alias fixtureAlias.
func (s *scene) symmetric() *kms.KeyMetadata {
	return s.keyOf("symmetric", func() *kms.KeyMetadata {
		s.hasAlias = true
		k := createKey(s, s.svc, nil)
		createAlias(s, s.svc, fixtureAlias, k.KeyId)
		return k
	})
}

// needsAlias creates fixtureAlias if an input names it.
func (s *scene) needsAlias(input string) {
	if !s.hasAlias && (strings.Contains(input, `"`+fixtureAlias+`"`) || strings.Contains(input, ":"+fixtureAlias+`"`)) {
		s.symmetric()
	}
}

func (s *scene) other() *kms.KeyMetadata {
	return s.keyOf("other", func() *kms.KeyMetadata { return createKey(s, s.svc, nil) })
}

func (s *scene) signing() *kms.KeyMetadata {
	return s.keyOf("signing", func() *kms.KeyMetadata { return createSigningKey(s, s.svc) })
}

func (s *scene) mac() *kms.KeyMetadata {
	return s.keyOf("mac", func() *kms.KeyMetadata { return createMacKey(s, s.svc) })
}

func (s *scene) agreement() *kms.KeyMetadata {
	return s.keyOf("agreement", func() *kms.KeyMetadata { return createAgreementKey(s, s.svc, kms.KeySpecECCNISTP256) })
}

func (s *scene) kem() *kms.KeyMetadata {
	return s.keyOf("kem", func() *kms.KeyMetadata {
		return createKey(s, s.svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecMLKEM768, KeyUsage: kms.KeyUsageEncapsulateDecapsulate})
	})
}

// lone returns a multi-Region key without replicas, and primary one with a replica in replicaRegion.
func (s *scene) lone() *kms.KeyMetadata {
	return s.keyOf("lone", func() *kms.KeyMetadata { return createPrimary(s, s.svc) })
}

func (s *scene) primary() *kms.KeyMetadata {
	return s.keyOf("primary", func() *kms.KeyMetadata {
		k := createPrimary(s, s.svc)
		s.replicate(k.KeyId)
		return k
	})
}

// external returns a key whose material is imported.
func (s *scene) external() *kms.KeyMetadata {
	return s.keyOf("external", func() *kms.KeyMetadata {
		i := newImporter(s, nil)
		in := i.input(symmetricMaterial(7))
		s.importToken, s.wrapped = in.ImportToken, in.EncryptedKeyMaterial
		s.do(in)
		return describe(s, s.svc, i.key.KeyId)
	})
}

func (s *scene) ciphertext() []byte {
	return s.blobOf("ciphertext", func() []byte { return encrypt(s, s.svc, s.symmetric().KeyId, fixtureMessage) })
}

func (s *scene) grant() *kms.CreateGrantOutput {
	if s.given == nil {
		out, err := s.svc.CreateGrant(s.ctx, &kms.CreateGrantInput{
			KeyId: s.symmetric().KeyId, GranteePrincipal: fixtureWorker, RetiringPrincipal: fixtureWorker, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
		})
		require.NoError(s, err)
		s.given = out
	}
	return s.given
}

// device returns the device of the target's custom key stores.
func (s *scene) device() *kmstest.Device {
	if s.target.Device == nil {
		s.needs("a device for custom key stores")
	}
	return s.target.Device
}

// hsm returns the ID of a custom key store, which is disconnected.
func (s *scene) hsm() string {
	s.device()
	if s.store == "" {
		s.store = createStore(s, s.svc, hsmStore("fixture"))
	}
	return s.store
}

// subject returns the key of an operation's example.
func (s *scene) subject(operation string) *kms.KeyMetadata {
	switch operation {
	case "Sign", "Verify", "GetPublicKey":
		return s.signing()
	case "GenerateMac", "VerifyMac":
		return s.mac()
	case "DeriveSharedSecret":
		return s.agreement()
	case "Encapsulate", "Decapsulate":
		return s.kem()
	case "ReplicateKey":
		return s.lone()
	case "UpdatePrimaryRegion":
		return s.primary()
	case "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial":
		return s.external()
	}
	return s.symmetric()
}

// example returns a valid input of an operation on a key, and prepares the scene for it.
func (s *scene) example(operation string) any {
	message := []byte(fixtureMessage)
	id := s.subject(operation).KeyId
	switch operation {
	case "CancelKeyDeletion":
		scheduleDeletion(s, s.svc, id, 7)
	case "CreateAlias":
		return &kms.CreateAliasInput{AliasName: "alias/new", TargetKeyId: id}
	case "CreateGrant":
		return &kms.CreateGrantInput{KeyId: id, GranteePrincipal: fixtureAlice, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}}
	case "RetireGrant":
		return &kms.RetireGrantInput{KeyId: id, GrantId: s.grant().GrantId}
	case "RevokeGrant":
		return &kms.RevokeGrantInput{KeyId: id, GrantId: s.grant().GrantId}
	case "Encrypt":
		return &kms.EncryptInput{KeyId: id, Plaintext: message}
	case "Decrypt":
		return &kms.DecryptInput{KeyId: id, CiphertextBlob: s.ciphertext()}
	case "ReEncrypt":
		return &kms.ReEncryptInput{SourceKeyId: id, CiphertextBlob: s.ciphertext(), DestinationKeyId: s.other().KeyId}
	case "GenerateDataKey":
		return &kms.GenerateDataKeyInput{KeyId: id, KeySpec: kms.DataKeySpecAES256}
	case "GenerateDataKeyWithoutPlaintext":
		return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: kms.DataKeySpecAES256}
	case "GenerateDataKeyPair":
		return &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
	case "GenerateDataKeyPairWithoutPlaintext":
		return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: id, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
	case "Sign":
		return &kms.SignInput{KeyId: id, Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
	case "Verify":
		return &kms.VerifyInput{KeyId: id, Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256, Signature: s.blobOf("signature", func() []byte {
			out, err := s.svc.Sign(s.ctx, &kms.SignInput{KeyId: id, Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
			require.NoError(s, err)
			return out.Signature
		})}
	case "GenerateMac":
		return &kms.GenerateMacInput{KeyId: id, Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256}
	case "VerifyMac":
		return &kms.VerifyMacInput{KeyId: id, Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256, Mac: s.blobOf("tag", func() []byte {
			out, err := s.svc.GenerateMac(s.ctx, &kms.GenerateMacInput{KeyId: id, Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256})
			require.NoError(s, err)
			return out.Mac
		})}
	case "DeriveSharedSecret": // the key's own public key will do
		return &kms.DeriveSharedSecretInput{KeyId: id, PublicKey: publicKey(s, s.svc, id), KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH}
	case "Encapsulate":
		return &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	case "Decapsulate":
		return &kms.DecapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM, SharedSecretCiphertextBlob: s.blobOf("encapsulated", func() []byte {
			out, err := s.svc.Encapsulate(s.ctx, &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
			require.NoError(s, err)
			return out.SharedSecretCiphertextBlob
		})}
	case "ReplicateKey":
		return &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: replicaRegion}
	case "UpdatePrimaryRegion":
		return &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: replicaRegion}
	case "GetParametersForImport":
		return &kms.GetParametersForImportInput{KeyId: id, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048}
	case "ImportKeyMaterial":
		return &kms.ImportKeyMaterialInput{KeyId: id, ImportToken: s.importToken, EncryptedKeyMaterial: s.wrapped,
			ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire}
	case "PutKeyPolicy":
		return &kms.PutKeyPolicyInput{KeyId: id, Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`}
	case "TagResource":
		return &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: "k", TagValue: "v"}}}
	case "UntagResource":
		return &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"k"}}
	}
	// All other operations need only a key.
	for _, op := range kms.Operations() {
		if op.Name() == operation {
			in := op.NewInput()
			reflect.ValueOf(in).Elem().FieldByName("KeyId").SetString(id)
			return in
		}
	}
	panic("there is no operation " + operation)
}
