package conformance

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

const (
	// hiddenResource is the reason in the error for a key that is another account's or does not
	// exist.
	hiddenResource = "the resource does not exist in this Region, no resource-based policies allow access, " +
		"or a resource-based policy explicitly denies access"
	succeedsDry = "The request would have succeeded, but the DryRun option is set."
	alice       = "arn:aws:iam::111122223333:user/alice"
)

func factsAboutEncryption() []Fact {
	message := []byte(fixtureMessage)
	decrypt := func(change func(s *scene, in *kms.DecryptInput)) func(*scene) any {
		return func(s *scene) any {
			in := &kms.DecryptInput{CiphertextBlob: slices.Clone(s.ciphertext())}
			change(s, in)
			return in
		}
	}
	encryptWith := func(key string) func(*scene) any {
		return func(s *scene) any { return &kms.EncryptInput{KeyId: s.expand(key), Plaintext: message} }
	}
	facts := []Fact{
		{"Encrypt answers without a key material ID", "observed", encryptWith(fixtureAlias),
			succeeds(has("", "CiphertextBlob KeyId EncryptionAlgorithm"),
				is("KeyId", "{symmetric}"), is("EncryptionAlgorithm", "SYMMETRIC_DEFAULT"))},
		{"Encrypt takes 4,096 bytes", "observed",
			about("{symmetric}", &kms.EncryptInput{Plaintext: make([]byte, 4097)}),
			violates("Value at 'plaintext'", "have length less than or equal to 4096")},
		{"a signing key does not encrypt", "observed", encryptWith("{signing}"),
			refuses(kms.InvalidKeyUsageException, "{signing} key usage is SIGN_VERIFY which is not valid for Encrypt.")},
		{"an HMAC key does not encrypt", "recorded 2026", encryptWith("{mac}"),
			refuses(kms.InvalidKeyUsageException, "{mac} key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.")},
		{"a dry run never succeeds", "observed",
			about("{symmetric}", &kms.EncryptInput{Plaintext: message, DryRun: true}),
			refuses(kms.DryRunOperationException, succeedsDry)},
		{"Decrypt answers with the key material ID", "observed", decrypt(func(*scene, *kms.DecryptInput) {}),
			succeeds(has("", "Plaintext KeyId EncryptionAlgorithm KeyMaterialId"),
				is("KeyId", "{symmetric}"), is("EncryptionAlgorithm", "SYMMETRIC_DEFAULT"))},
		{"a key that is missing, named by nothing but a ciphertext", "observed",
			decrypt(func(s *scene, in *kms.DecryptInput) { s.caller = s.svc.In("eu-west-1") }),
			refuses(kms.AccessDeniedException, "User: arn:aws:iam::111122223333:root is not authorized to perform: kms:Decrypt "+
				"on the resource associated with this ciphertext because "+hiddenResource)},
		{"a key of the caller's account that they may not use, named by nothing but a ciphertext", "recorded 2026",
			decrypt(func(s *scene, in *kms.DecryptInput) { s.as(alice) }),
			denies(alice, "kms:Decrypt", "{symmetric}")},
		{"the same key, named", "observed",
			decrypt(func(s *scene, in *kms.DecryptInput) { s.as(alice); in.KeyId = s.symmetric().KeyId }),
			denies(alice, "kms:Decrypt", "{symmetric}")},
		{"ReEncrypt with a source that they may not use, named by nothing but a ciphertext", "recorded 2026",
			func(s *scene) any {
				s.as(alice)
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), DestinationKeyId: s.other().KeyId}
			},
			denies(alice, "kms:ReEncryptFrom", "{symmetric}")},
		{"a dry run that ignores the ciphertext needs a key", "documented",
			input(&kms.DecryptInput{DryRun: true, DryRunModifiers: []kms.DryRunModifierType{kms.DryRunModifierIgnoreCiphertext}}),
			refusesSomehow(kms.ValidationException)},
		{"a dry run may do without the ciphertext", "documented",
			about("{symmetric}", &kms.DecryptInput{DryRun: true, DryRunModifiers: []kms.DryRunModifierType{kms.DryRunModifierIgnoreCiphertext}}),
			refuses(kms.DryRunOperationException, succeedsDry)},
		{"ReEncrypt answers with both keys, algorithms and materials", "observed",
			func(s *scene) any {
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), DestinationKeyId: s.other().KeyId}
			},
			succeeds(has("", "CiphertextBlob SourceKeyId KeyId SourceEncryptionAlgorithm DestinationEncryptionAlgorithm SourceKeyMaterialId DestinationKeyMaterialId"),
				is("SourceKeyId", "{symmetric}"), is("KeyId", "{other}"))},
		{"ReEncrypt after a rotation names the old and the current material", "observed",
			func(s *scene) any {
				s.ciphertext()
				s.do(&kms.RotateKeyOnDemandInput{KeyId: s.symmetric().KeyId})
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), DestinationKeyId: s.symmetric().KeyId}
			},
			succeeds(func(s *scene, got reply) {
				is("SourceKeyMaterialId", s.symmetric().CurrentKeyMaterialId)(s, got)
				is("DestinationKeyMaterialId", describe(s, s.svc, s.symmetric().KeyId).CurrentKeyMaterialId)(s, got)
			})},
		{"ReEncrypt with another source key", "observed",
			func(s *scene) any {
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), SourceKeyId: s.other().KeyId, DestinationKeyId: s.symmetric().KeyId}
			},
			refuses(kms.IncorrectKeyException, incorrectKey)},
		{"ReEncrypt to an HMAC key", "recorded 2026",
			func(s *scene) any {
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), DestinationKeyId: s.mac().KeyId}
			},
			refuses(kms.InvalidKeyUsageException, "{mac} key usage is GENERATE_VERIFY_MAC which is not valid for ReEncrypt.")},
		{"a number in an encryption context is text", "documented",
			func(s *scene) any {
				return rawCall{"GenerateDataKey", `{"KeyId":"` + s.symmetric().KeyId + `","KeySpec":"AES_256","EncryptionContext":{"a":1}}`}
			},
			succeeds(isRecorded("requestParameters.encryptionContext", `{"a":"1"}`))},
		{"Encrypt with an algorithm that the key does not have", "observed",
			about("{symmetric}", &kms.EncryptInput{Plaintext: message, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256}),
			refuses(kms.InvalidKeyUsageException, "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.")},
	}
	// rsa makes the call with a new RSA key.
	rsa := func(in any) func(*scene) any {
		return func(s *scene) any {
			s.key = createEncryptionKey(s, s.svc, kms.KeySpecRSA2048)
			return about("{key}", in)(s)
		}
	}
	facts = append(facts,
		Fact{"RSA encrypts", "documented", rsa(&kms.EncryptInput{Plaintext: message, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256}),
			succeeds(has("", "CiphertextBlob KeyId EncryptionAlgorithm"), is("KeyId", "{key}"), is("EncryptionAlgorithm", "RSAES_OAEP_SHA_256"))},
		Fact{"RSA decrypts without a key material ID", "documented",
			func(s *scene) any {
				s.key = createEncryptionKey(s, s.svc, kms.KeySpecRSA2048)
				in := &kms.EncryptInput{KeyId: s.key.KeyId, Plaintext: message, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256}
				out, err := s.svc.Encrypt(s.ctx, in)
				require.NoError(s, err)
				return &kms.DecryptInput{KeyId: s.key.KeyId, CiphertextBlob: out.CiphertextBlob, EncryptionAlgorithm: in.EncryptionAlgorithm}
			},
			succeeds(has("", "Plaintext KeyId EncryptionAlgorithm"), is("KeyId", "{key}"), is("EncryptionAlgorithm", "RSAES_OAEP_SHA_256"))},
		Fact{"RSA encrypts 214 bytes", "observed",
			rsa(&kms.EncryptInput{Plaintext: make([]byte, 215), EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA1}),
			refuses(kms.ValidationException, "Algorithm RSAES_OAEP_SHA_1 and key spec RSA_2048 cannot encrypt data larger than 214 bytes.")},
		Fact{"RSA encrypts by no algorithm", "inferred", rsa(&kms.EncryptInput{Plaintext: message}),
			refusesSomehow(kms.InvalidKeyUsageException)},
		Fact{"RSA encrypts with a context", "recorded 2026",
			rsa(&kms.EncryptInput{Plaintext: message, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA1, EncryptionContext: someContext}),
			refusesSomehow(kms.ValidationException)},
		Fact{"RSA decrypts with a context", "recorded 2026",
			rsa(&kms.DecryptInput{CiphertextBlob: make([]byte, 256), EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA1, EncryptionContext: someContext}),
			refusesSomehow(kms.ValidationException)},
		Fact{"RSA decrypts by no algorithm", "recorded 2026", rsa(&kms.DecryptInput{CiphertextBlob: make([]byte, 256)}),
			refuses(kms.InvalidCiphertextException, "")},
		Fact{"RSA decrypts what it did not encrypt", "documented",
			rsa(&kms.DecryptInput{CiphertextBlob: make([]byte, 256), EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256}),
			refuses(kms.InvalidCiphertextException, "")},
		Fact{"a data key under RSA", "recorded 2026", rsa(&kms.GenerateDataKeyInput{KeySpec: kms.DataKeySpecAES256}),
			refusesSomehow(kms.InvalidKeyUsageException)})
	for _, algorithm := range []kms.EncryptionAlgorithmSpec{
		kms.EncryptionAlgorithmRSAESOAEPSHA1, kms.EncryptionAlgorithmRSAESOAEPSHA256, kms.EncryptionAlgorithmSM2PKE,
	} {
		facts = append(facts, Fact{fmt.Sprintf("Decrypt by %s needs a key", algorithm), "recorded 2026",
			decrypt(func(_ *scene, in *kms.DecryptInput) { in.EncryptionAlgorithm = algorithm }),
			refuses(kms.ValidationException, "KeyId must not be null")})
		facts = append(facts, Fact{fmt.Sprintf("ReEncrypt by %s needs a source key", algorithm), "documented",
			func(s *scene) any {
				return &kms.ReEncryptInput{CiphertextBlob: s.ciphertext(), SourceEncryptionAlgorithm: algorithm, DestinationKeyId: s.other().KeyId}
			},
			refusesSomehow(kms.ValidationException)})
	}
	for name, key := range map[string]func(*scene) *kms.KeyMetadata{
		"another symmetric": func(s *scene) *kms.KeyMetadata { return s.other() },
		"a signing":         func(s *scene) *kms.KeyMetadata { return s.signing() },
		"an HMAC":           func(s *scene) *kms.KeyMetadata { return s.mac() },
	} {
		facts = append(facts, Fact{"Decrypt with " + name + " key", "observed",
			decrypt(func(s *scene, in *kms.DecryptInput) { in.KeyId = key(s).KeyId }),
			refuses(kms.IncorrectKeyException, incorrectKey)})
	}
	for name, spoil := range map[string]func(s *scene, in *kms.DecryptInput){
		"a ciphertext whose last bit is flipped":            func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob[len(in.CiphertextBlob)-1] ^= 1 },
		"a ciphertext whose first byte is another":          func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob[0] ^= 0xff },
		"a ciphertext without its first byte":               func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[1:] },
		"a ciphertext without its last byte":                func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[:len(in.CiphertextBlob)-1] },
		"a ciphertext of one byte":                          func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob = in.CiphertextBlob[:1] },
		"words for a ciphertext":                            func(_ *scene, in *kms.DecryptInput) { in.CiphertextBlob = []byte("these are only words") },
		"a ciphertext with a context that it does not have": func(_ *scene, in *kms.DecryptInput) { in.EncryptionContext = someContext },
		"a ciphertext without the context that it has": func(s *scene, in *kms.DecryptInput) {
			in.CiphertextBlob = s.withContext()
		},
		"a ciphertext with half of its context": func(s *scene, in *kms.DecryptInput) {
			in.CiphertextBlob, in.EncryptionContext = s.withContext(), map[string]string{"tenant": "7"}
		},
		"a ciphertext with its context in capitals": func(s *scene, in *kms.DecryptInput) {
			in.CiphertextBlob, in.EncryptionContext = s.withContext(), map[string]string{"purpose": "TEST", "tenant": "7"}
		},
	} {
		for how, named := range map[string]func(s *scene, in *kms.DecryptInput){
			"": func(*scene, *kms.DecryptInput) {}, " and its key": func(s *scene, in *kms.DecryptInput) { in.KeyId = s.symmetric().KeyId },
			" in a dry run": func(_ *scene, in *kms.DecryptInput) { in.DryRun = true },
		} {
			facts = append(facts, Fact{name + how, "observed and recorded 2026",
				decrypt(func(s *scene, in *kms.DecryptInput) { spoil(s, in); named(s, in) }),
				refuses(kms.InvalidCiphertextException, "")})
		}
		facts = append(facts, Fact{"ReEncrypt of " + name, "observed", func(s *scene) any {
			in := decrypt(spoil)(s).(*kms.DecryptInput)
			return &kms.ReEncryptInput{CiphertextBlob: in.CiphertextBlob, SourceEncryptionContext: in.EncryptionContext, DestinationKeyId: s.other().KeyId}
		}, refuses(kms.InvalidCiphertextException, "")})
	}
	return facts
}

// withContext returns a ciphertext of the symmetric key with someContext.
func (s *scene) withContext() []byte {
	in := &kms.EncryptInput{KeyId: s.symmetric().KeyId, Plaintext: []byte("x"), EncryptionContext: someContext}
	out, err := s.svc.Encrypt(s.ctx, in)
	require.NoError(s, err)
	return out.CiphertextBlob
}

func factsAboutDataKeys() []Fact {
	const oneSize = "Please specify either number of bytes or key spec."
	facts := []Fact{
		{"GenerateDataKey answers with the key twice", "documented",
			func(s *scene) any {
				return &kms.GenerateDataKeyInput{KeyId: fixtureAlias, KeySpec: kms.DataKeySpecAES128}
			},
			succeeds(has("", "Plaintext CiphertextBlob KeyId KeyMaterialId"), is("KeyId", "{symmetric}"))},
		{"GenerateDataKeyWithoutPlaintext answers without the plaintext", "documented",
			func(s *scene) any {
				return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: fixtureAlias, NumberOfBytes: new(int32(64))}
			},
			succeeds(has("", "CiphertextBlob KeyId KeyMaterialId"), is("KeyId", "{symmetric}"))},
		{"GenerateDataKeyPair answers with the private key twice", "documented",
			func(s *scene) any {
				return &kms.GenerateDataKeyPairInput{KeyId: fixtureAlias, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
			},
			succeeds(has("", "PublicKey PrivateKeyPlaintext PrivateKeyCiphertextBlob KeyPairSpec KeyId KeyMaterialId"), is("KeyId", "{symmetric}"),
				matches("PrivateKeyPlaintext", "^.{200}$"))}, // 150 bytes: recorded 2026
		{"GenerateDataKeyPairWithoutPlaintext answers without the private key", "documented",
			func(s *scene) any {
				return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: fixtureAlias, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
			},
			succeeds(has("", "PublicKey PrivateKeyCiphertextBlob KeyPairSpec KeyId KeyMaterialId"), is("KeyPairSpec", "ECC_NIST_P256"))},
		{"a data key pair under RSA", "recorded 2026",
			func(s *scene) any {
				key := createEncryptionKey(s, s.svc, kms.KeySpecRSA2048)
				return &kms.GenerateDataKeyPairInput{KeyId: key.KeyId, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256}
			},
			refuses(kms.InvalidKeyUsageException, "You cannot generate a data key pair with an asymmetric CMK")},
		{"a data key without a size", "observed",
			about("{symmetric}", &kms.GenerateDataKeyInput{}), refuses(kms.ValidationException, oneSize)},
		{"a data key of two sizes", "observed",
			about("{symmetric}", &kms.GenerateDataKeyInput{KeySpec: kms.DataKeySpecAES256, NumberOfBytes: new(int32(32))}),
			refuses(kms.ValidationException, oneSize)},
		{"a data key without plaintext and without a size", "observed",
			about("{symmetric}", &kms.GenerateDataKeyWithoutPlaintextInput{}), refuses(kms.ValidationException, oneSize)},
		{"GenerateRandom of no number", "observed", input(&kms.GenerateRandomInput{}),
			refuses(kms.ValidationException, "NumberOfBytes is required.")},
		{"GenerateRandom of 1,025 bytes", "observed",
			input(&kms.GenerateRandomInput{NumberOfBytes: new(int32(1025))}),
			violates("Value '1025' at 'numberOfBytes'", "have value less than or equal to 1024")},
		{"GenerateRandom of no bytes", "observed", input(&kms.GenerateRandomInput{NumberOfBytes: new(int32(0))}),
			violates("Value '0' at 'numberOfBytes'", "have value greater than or equal to 1")},
		{"GenerateRandom of an unknown custom key store", "documented",
			input(&kms.GenerateRandomInput{NumberOfBytes: new(int32(8)), CustomKeyStoreId: "cks-1234567890abcdef0"}),
			refusesSomehow(kms.CustomKeyStoreNotFoundException)},
		{"GenerateRandom answers with the bytes", "documented",
			input(&kms.GenerateRandomInput{NumberOfBytes: new(int32(1024))}),
			succeeds(has("", "Plaintext"))},
	}
	for key, usage := range map[string]string{"{signing}": "SIGN_VERIFY", "{mac}": "GENERATE_VERIFY_MAC"} {
		facts = append(facts,
			Fact{"a data key under " + key, "observed",
				func(s *scene) any {
					return &kms.GenerateDataKeyInput{KeyId: s.expand(key), KeySpec: kms.DataKeySpecAES256}
				},
				refuses(kms.InvalidKeyUsageException, key+" key usage is "+usage+" which is not valid for GenerateDataKey.")},
			Fact{"a data key without plaintext under " + key, "observed",
				func(s *scene) any {
					return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: s.expand(key), KeySpec: kms.DataKeySpecAES256}
				},
				refuses(kms.InvalidKeyUsageException, key+" key usage is "+usage+" which is not valid for GenerateDataKeyWithoutPlaintext.")})
	}
	return facts
}

// A curve of ECDSA, with its algorithm and the length of its digest.
var curves = []struct {
	spec      kms.KeySpec
	algorithm kms.SigningAlgorithmSpec
	digest    int
}{
	{kms.KeySpecECCNISTP256, kms.SigningAlgorithmECDSASHA256, 32},
	{kms.KeySpecECCNISTP384, kms.SigningAlgorithmECDSASHA384, 48},
	{kms.KeySpecECCNISTP521, kms.SigningAlgorithmECDSASHA512, 64},
}

func factsAboutSignatures() []Fact {
	message := []byte(fixtureMessage)
	verify := func(change func(s *scene, in *kms.VerifyInput)) func(*scene) any {
		return func(s *scene) any {
			in := s.example("Verify").(*kms.VerifyInput)
			in.Signature = slices.Clone(in.Signature)
			change(s, in)
			return in
		}
	}
	facts := []Fact{
		{"Sign answers with the key ARN and the algorithm", "documented",
			about("{signing}", &kms.SignInput{Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}),
			succeeds(has("", "Signature KeyId SigningAlgorithm"), is("KeyId", "{signing}"),
				is("SigningAlgorithm", "ECDSA_SHA_256"))},
		{"Verify says that the signature is valid", "documented", verify(func(*scene, *kms.VerifyInput) {}),
			succeeds(has("", "SignatureValid KeyId SigningAlgorithm"), is("SignatureValid", true), is("KeyId", "{signing}"))},
		{"a signature of the message is one of its digest, too", "documented and observed",
			verify(func(_ *scene, in *kms.VerifyInput) {
				digest := sha256.Sum256(message)
				in.Message, in.MessageType = digest[:], kms.MessageTypeDigest
			}),
			succeeds(is("SignatureValid", true))},
		{"a dry run of Verify", "observed", verify(func(_ *scene, in *kms.VerifyInput) { in.DryRun = true }),
			refuses(kms.DryRunOperationException, succeedsDry)},
		{"a symmetric key does not verify", "observed",
			verify(func(s *scene, in *kms.VerifyInput) { in.KeyId = s.symmetric().KeyId }),
			refuses(kms.InvalidKeyUsageException, "{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for Verify.")},
		{"an HMAC key does not sign", "observed",
			about("{mac}", &kms.SignInput{Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}),
			refuses(kms.InvalidKeyUsageException, "{mac} key usage is GENERATE_VERIFY_MAC which is not valid for Sign.")},
		{"GetPublicKey of a signing key", "documented", about("{signing}", &kms.GetPublicKeyInput{}),
			succeeds(has("", "KeyId PublicKey KeySpec CustomerMasterKeySpec KeyUsage SigningAlgorithms"),
				is("KeyId", "{signing}"))},
		{"GetPublicKey of a symmetric key", "documented", about("{symmetric}", &kms.GetPublicKeyInput{}),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"GetPublicKey of an HMAC key", "documented", about("{mac}", &kms.GetPublicKeyInput{}),
			refusesSomehow(kms.UnsupportedOperationException)},
		{"GetPublicKey of a disabled key", "recorded 2026",
			func(s *scene) any {
				disable(s, s.svc, s.signing().KeyId)
				return &kms.GetPublicKeyInput{KeyId: s.signing().KeyId}
			}, succeeds()},
		{"GetPublicKey of a key that is pending deletion", "recorded 2026",
			func(s *scene) any {
				scheduleDeletion(s, s.svc, s.signing().KeyId, 7)
				return &kms.GetPublicKeyInput{KeyId: s.signing().KeyId}
			},
			refuses(kms.KMSInvalidStateException, "{signing} is pending deletion.")},
	}
	for name, spoil := range map[string]func(s *scene, in *kms.VerifyInput){
		"a signature of another message":        func(_ *scene, in *kms.VerifyInput) { in.Message = []byte("another") },
		"a signature whose last bit is flipped": func(_ *scene, in *kms.VerifyInput) { in.Signature[len(in.Signature)-1] ^= 1 },
		"a signature of another key":            func(s *scene, in *kms.VerifyInput) { in.KeyId = createSigningKey(s, s.svc).KeyId },
		"a signature of another length":         func(_ *scene, in *kms.VerifyInput) { in.Signature = in.Signature[:40] },
		"a signature that is no DER":            func(_ *scene, in *kms.VerifyInput) { in.Signature = []byte("signature") },
	} {
		facts = append(facts,
			Fact{name, "observed", verify(spoil), refuses(kms.KMSInvalidSignatureException, "")},
			Fact{name + " in a dry run", "recorded 2026 for ML-DSA",
				verify(func(s *scene, in *kms.VerifyInput) { spoil(s, in); in.DryRun = true }),
				refuses(kms.KMSInvalidSignatureException, "")})
	}
	// by makes the call with a new key of a spec.
	by := func(spec kms.KeySpec, in any) func(*scene) any {
		return func(s *scene) any {
			s.create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageSignVerify})
			return about("{key}", in)(s)
		}
	}
	facts = append(facts,
		Fact{"ML-DSA signs no digests", "recorded 2026",
			by(kms.KeySpecMLDSA44, &kms.SignInput{Message: make([]byte, 64), MessageType: kms.MessageTypeDigest, SigningAlgorithm: kms.SigningAlgorithmMLDSASHAKE256}),
			refuses(kms.ValidationException, "Message type DIGEST is incompatible with key spec ML_DSA_44.")},
		Fact{"an ML-DSA key does not sign by ECDSA", "recorded 2026",
			by(kms.KeySpecMLDSA44, &kms.SignInput{Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}),
			refuses(kms.InvalidKeyUsageException, "Algorithm ECDSA_SHA_256 is incompatible with key spec ML_DSA_44.")},
		Fact{"a wrong signature of ML-DSA in a dry run", "recorded 2026",
			by(kms.KeySpecMLDSA44, &kms.VerifyInput{Message: message, Signature: make([]byte, 2420), SigningAlgorithm: kms.SigningAlgorithmMLDSASHAKE256, DryRun: true}),
			refuses(kms.KMSInvalidSignatureException, "")},
		Fact{"Ed25519 signs no digests", "documented",
			by(kms.KeySpecECCNISTEdwards25519, &kms.SignInput{Message: make([]byte, 64), MessageType: kms.MessageTypeDigest, SigningAlgorithm: kms.SigningAlgorithmEd25519SHA512}),
			refusesSomehow(kms.ValidationException)},
		Fact{"Ed25519ph signs only digests", "documented",
			by(kms.KeySpecECCNISTEdwards25519, &kms.SignInput{Message: make([]byte, 64), SigningAlgorithm: kms.SigningAlgorithmEd25519phSHA512}),
			refusesSomehow(kms.ValidationException)},
		Fact{"Ed25519ph of a digest of another length", "recorded 2026",
			by(kms.KeySpecECCNISTEdwards25519, &kms.SignInput{Message: make([]byte, 32), MessageType: kms.MessageTypeDigest, SigningAlgorithm: kms.SigningAlgorithmEd25519phSHA512}),
			refuses(kms.ValidationException, "Digest is invalid length for algorithm ED25519_PH_SHA_512.")},
		Fact{"RSASSA_PSS_SHA_256 of a digest of another length", "observed",
			by(kms.KeySpecRSA2048, &kms.SignInput{Message: make([]byte, 31), MessageType: kms.MessageTypeDigest, SigningAlgorithm: kms.SigningAlgorithmRSASSAPSSSHA256}),
			refuses(kms.ValidationException, "Digest is invalid length for algorithm RSASSA_PSS_SHA_256.")})
	for _, c := range curves {
		// add adds the facts that Sign and Verify refuse a message of n bytes and a type.
		add := func(source string, messageType kms.MessageType, n int, message string) {
			for _, in := range []any{
				&kms.SignInput{Message: make([]byte, n), MessageType: messageType, SigningAlgorithm: c.algorithm},
				&kms.VerifyInput{Message: make([]byte, n), MessageType: messageType, SigningAlgorithm: c.algorithm, Signature: []byte("x")},
			} {
				text := fmt.Sprintf("%s of %d bytes of %s with %s", operationOf(in).Name(), n, messageType, c.spec)
				facts = append(facts, Fact{text, source, func(s *scene) any {
					s.create(&kms.CreateKeyInput{KeySpec: c.spec, KeyUsage: kms.KeyUsageSignVerify})
					return about("{key}", in)(s)
				}, refuses(kms.ValidationException, message)})
			}
		}
		for _, n := range []int{1, c.digest - 1, c.digest + 1} {
			add("observed", kms.MessageTypeDigest, n, fmt.Sprintf("Digest is invalid length for algorithm %s.", c.algorithm))
		}
		for _, n := range []int{1, 64} {
			add("recorded 2026", kms.MessageTypeExternalMu, n,
				fmt.Sprintf("Message type EXTERNAL_MU is incompatible with key spec %s.", c.spec))
		}
	}
	return facts
}

func factsAboutMacs() []Fact {
	message := []byte(fixtureMessage)
	verify := func(change func(s *scene, in *kms.VerifyMacInput)) func(*scene) any {
		return func(s *scene) any {
			in := s.example("VerifyMac").(*kms.VerifyMacInput)
			in.Mac = slices.Clone(in.Mac)
			change(s, in)
			return in
		}
	}
	facts := []Fact{
		{"GenerateMac answers with the key ARN and the algorithm", "observed",
			about("{mac}", &kms.GenerateMacInput{Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256}),
			succeeds(has("", "Mac MacAlgorithm KeyId"), is("KeyId", "{mac}"), is("MacAlgorithm", "HMAC_SHA_256"))},
		{"VerifyMac says that the MAC is valid", "observed", verify(func(*scene, *kms.VerifyMacInput) {}),
			succeeds(has("", "MacValid MacAlgorithm KeyId"), is("MacValid", true), is("KeyId", "{mac}"))},
		{"a dry run of VerifyMac", "observed",
			verify(func(_ *scene, in *kms.VerifyMacInput) { in.DryRun = true }),
			refuses(kms.DryRunOperationException, succeedsDry)},
		{"a symmetric key makes no MAC", "observed",
			about("{symmetric}", &kms.GenerateMacInput{Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256}),
			refuses(kms.InvalidKeyUsageException, "{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.")},
	}
	for name, spoil := range map[string]func(s *scene, in *kms.VerifyMacInput){
		"a MAC of another message":         func(_ *scene, in *kms.VerifyMacInput) { in.Message = []byte("another") },
		"a MAC whose first bit is flipped": func(_ *scene, in *kms.VerifyMacInput) { in.Mac[0] ^= 0x80 },
		"a MAC of another key":             func(s *scene, in *kms.VerifyMacInput) { in.KeyId = createMacKey(s, s.svc).KeyId },
		"a MAC that is too short":          func(_ *scene, in *kms.VerifyMacInput) { in.Mac = in.Mac[:31] },
		"a MAC that is too long":           func(_ *scene, in *kms.VerifyMacInput) { in.Mac = append(in.Mac, 0) },
	} {
		facts = append(facts,
			Fact{name, "observed and recorded 2026", verify(spoil), refuses(kms.KMSInvalidMacException, "")},
			Fact{name + " in a dry run", "recorded 2026",
				verify(func(s *scene, in *kms.VerifyMacInput) { spoil(s, in); in.DryRun = true }),
				refuses(kms.KMSInvalidMacException, "")})
	}
	sizes := map[kms.KeySpec]int{kms.KeySpecHMAC224: 28, kms.KeySpecHMAC256: 32, kms.KeySpecHMAC384: 48, kms.KeySpecHMAC512: 64}
	for spec, size := range sizes {
		algorithm := kms.MacAlgorithmSpec(strings.Replace(string(spec), "HMAC_", "HMAC_SHA_", 1))
		for other := range sizes {
			asked := kms.MacAlgorithmSpec(strings.Replace(string(other), "HMAC_", "HMAC_SHA_", 1))
			want := refuses(kms.InvalidKeyUsageException, fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", asked, spec))
			if asked == algorithm {
				want = succeeds(matches("Mac", fmt.Sprintf("^.{%d}$", (size+2)/3*4)))
			} else {
				facts = append(facts, Fact{fmt.Sprintf("%s verified by a key %s", asked, spec), "observed", func(s *scene) any {
					k := s.create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageGenerateVerifyMac})
					return &kms.VerifyMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: asked, Mac: make([]byte, sizes[other])}
				}, want})
			}
			facts = append(facts, Fact{fmt.Sprintf("%s by a key %s", asked, spec), "observed", func(s *scene) any {
				k := s.create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageGenerateVerifyMac})
				return &kms.GenerateMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: asked}
			}, want})
		}
	}
	return facts
}

func factsAboutAgreementAndEncapsulation() []Fact {
	const ecdh, mlkem = kms.KeyAgreementAlgorithmECDH, kms.EncapsulationAlgorithmMLKEM
	example := func(operation string) func(*scene) any { return func(s *scene) any { return s.example(operation) } }
	derive := func(change func(s *scene, in *kms.DeriveSharedSecretInput)) func(*scene) any {
		return func(s *scene) any {
			in := s.example("DeriveSharedSecret").(*kms.DeriveSharedSecretInput)
			change(s, in)
			return in
		}
	}
	decapsulate := func(change func(in *kms.DecapsulateInput)) func(*scene) any {
		return func(s *scene) any {
			in := s.example("Decapsulate").(*kms.DecapsulateInput)
			in.SharedSecretCiphertextBlob = slices.Clone(in.SharedSecretCiphertextBlob)
			change(in)
			return in
		}
	}
	facts := []Fact{
		{"DeriveSharedSecret answers with the key's origin", "observed", example("DeriveSharedSecret"),
			succeeds(has("", "SharedSecret KeyId KeyAgreementAlgorithm KeyOrigin"), is("KeyOrigin", "AWS_KMS"), is("KeyAgreementAlgorithm", "ECDH"))},
		{"a signing key derives no secret", "observed",
			derive(func(s *scene, in *kms.DeriveSharedSecretInput) { in.KeyId = s.signing().KeyId }),
			refuses(kms.InvalidKeyUsageException, "{signing} key usage is SIGN_VERIFY which is not valid for DeriveSharedSecret.")},
		{"GetPublicKey of a key for agreement", "documented",
			func(s *scene) any { return &kms.GetPublicKeyInput{KeyId: s.agreement().KeyId} },
			succeeds(has("", "KeyId PublicKey KeySpec CustomerMasterKeySpec KeyUsage KeyAgreementAlgorithms"))},
		{"Encapsulate answers with the secret twice", "documented", example("Encapsulate"),
			succeeds(has("", "SharedSecret SharedSecretCiphertextBlob KeyId EncapsulationAlgorithm"), is("EncapsulationAlgorithm", "ML_KEM"),
				matches("SharedSecret", "^.{44}$"))},
		{"Decapsulate answers with the secret", "documented", example("Decapsulate"),
			succeeds(has("", "SharedSecret KeyId EncapsulationAlgorithm"), matches("SharedSecret", "^.{44}$"))},
		{"GetPublicKey of an ML-KEM key", "documented",
			func(s *scene) any { return &kms.GetPublicKeyInput{KeyId: s.kem().KeyId} },
			succeeds(has("", "KeyId PublicKey KeySpec CustomerMasterKeySpec KeyUsage EncapsulationAlgorithms"))},
		{"an altered ciphertext of ML-KEM", "documented",
			decapsulate(func(in *kms.DecapsulateInput) { in.SharedSecretCiphertextBlob[0] ^= 1 }), succeeds()},
		{"a ciphertext of ML-KEM of another length", "documented",
			decapsulate(func(in *kms.DecapsulateInput) { in.SharedSecretCiphertextBlob = in.SharedSecretCiphertextBlob[1:] }),
			refusesSomehow(kms.InvalidCiphertextException)},
		{"a dry run of Encapsulate", "documented",
			func(s *scene) any {
				return &kms.EncapsulateInput{KeyId: s.kem().KeyId, EncapsulationAlgorithm: mlkem, DryRun: true}
			},
			refuses(kms.DryRunOperationException, succeedsDry)},
	}
	for name, peer := range map[string]func(s *scene) []byte{
		"words": func(*scene) []byte { return []byte("these are only words") },
		"a public key of another curve": func(s *scene) []byte {
			return publicKey(s, s.svc, createAgreementKey(s, s.svc, kms.KeySpecECCNISTP384).KeyId)
		},
	} {
		for _, dryRun := range []bool{false, true} {
			facts = append(facts, Fact{fmt.Sprintf("a secret shared with %s, dry run %v", name, dryRun), "observed; recorded 2026 for dry runs",
				func(s *scene) any {
					return &kms.DeriveSharedSecretInput{KeyId: s.agreement().KeyId, PublicKey: peer(s), KeyAgreementAlgorithm: ecdh, DryRun: dryRun}
				}, refuses(kms.ValidationException, "")})
		}
	}
	return facts
}
