package kms

// The enumerations of the API are strings with the values of the wire. A type has the API's name. A
// constant is named after the member that holds it (KeyUsageSignVerify,
// SigningAlgorithmECDSASHA256), or after its type if members of several names do. Values returns
// all values of the API in a fixed order, including those that this package does not support yet,
// in a slice that belongs to the caller.

// KeySpec is the kind of key material of a key. It determines which usages and algorithms the key
// can have.
type KeySpec string

const (
	KeySpecSymmetricDefault    KeySpec = "SYMMETRIC_DEFAULT" // 256-bit authenticated encryption
	KeySpecRSA2048             KeySpec = "RSA_2048"
	KeySpecRSA3072             KeySpec = "RSA_3072"
	KeySpecRSA4096             KeySpec = "RSA_4096"
	KeySpecECCNISTP256         KeySpec = "ECC_NIST_P256"
	KeySpecECCNISTP384         KeySpec = "ECC_NIST_P384"
	KeySpecECCNISTP521         KeySpec = "ECC_NIST_P521"
	KeySpecECCNISTEdwards25519 KeySpec = "ECC_NIST_EDWARDS25519"
	KeySpecECCSECGP256K1       KeySpec = "ECC_SECG_P256K1" // secp256k1
	KeySpecSM2                 KeySpec = "SM2"
	KeySpecHMAC224             KeySpec = "HMAC_224"
	KeySpecHMAC256             KeySpec = "HMAC_256"
	KeySpecHMAC384             KeySpec = "HMAC_384"
	KeySpecHMAC512             KeySpec = "HMAC_512"
	KeySpecMLDSA44             KeySpec = "ML_DSA_44"
	KeySpecMLDSA65             KeySpec = "ML_DSA_65"
	KeySpecMLDSA87             KeySpec = "ML_DSA_87"
	KeySpecMLKEM512            KeySpec = "ML_KEM_512"
	KeySpecMLKEM768            KeySpec = "ML_KEM_768"
	KeySpecMLKEM1024           KeySpec = "ML_KEM_1024"
)

// Values returns every KeySpec of the API.
func (KeySpec) Values() []KeySpec {
	return []KeySpec{
		KeySpecSymmetricDefault,
		KeySpecRSA2048, KeySpecRSA3072, KeySpecRSA4096,
		KeySpecECCNISTP256, KeySpecECCNISTP384, KeySpecECCNISTP521, KeySpecECCNISTEdwards25519, KeySpecECCSECGP256K1,
		KeySpecSM2,
		KeySpecHMAC224, KeySpecHMAC256, KeySpecHMAC384, KeySpecHMAC512,
		KeySpecMLDSA44, KeySpecMLDSA65, KeySpecMLDSA87,
		KeySpecMLKEM512, KeySpecMLKEM768, KeySpecMLKEM1024,
	}
}

// CustomerMasterKeySpec is KeySpec under its former name. An input cannot have newer specs as its
// value, but in an output it always has the value of KeySpec.
//
// Deprecated: use KeySpec.
type CustomerMasterKeySpec string

const (
	CustomerMasterKeySpecSymmetricDefault CustomerMasterKeySpec = "SYMMETRIC_DEFAULT"
	CustomerMasterKeySpecRSA2048          CustomerMasterKeySpec = "RSA_2048"
	CustomerMasterKeySpecRSA3072          CustomerMasterKeySpec = "RSA_3072"
	CustomerMasterKeySpecRSA4096          CustomerMasterKeySpec = "RSA_4096"
	CustomerMasterKeySpecECCNISTP256      CustomerMasterKeySpec = "ECC_NIST_P256"
	CustomerMasterKeySpecECCNISTP384      CustomerMasterKeySpec = "ECC_NIST_P384"
	CustomerMasterKeySpecECCNISTP521      CustomerMasterKeySpec = "ECC_NIST_P521"
	CustomerMasterKeySpecECCSECGP256K1    CustomerMasterKeySpec = "ECC_SECG_P256K1"
	CustomerMasterKeySpecSM2              CustomerMasterKeySpec = "SM2"
	CustomerMasterKeySpecHMAC224          CustomerMasterKeySpec = "HMAC_224"
	CustomerMasterKeySpecHMAC256          CustomerMasterKeySpec = "HMAC_256"
	CustomerMasterKeySpecHMAC384          CustomerMasterKeySpec = "HMAC_384"
	CustomerMasterKeySpecHMAC512          CustomerMasterKeySpec = "HMAC_512"
)

// Values returns every CustomerMasterKeySpec that an input may hold.
func (CustomerMasterKeySpec) Values() []CustomerMasterKeySpec {
	return []CustomerMasterKeySpec{
		CustomerMasterKeySpecSymmetricDefault,
		CustomerMasterKeySpecRSA2048, CustomerMasterKeySpecRSA3072, CustomerMasterKeySpecRSA4096,
		CustomerMasterKeySpecECCNISTP256, CustomerMasterKeySpecECCNISTP384, CustomerMasterKeySpecECCNISTP521,
		CustomerMasterKeySpecECCSECGP256K1,
		CustomerMasterKeySpecSM2,
		CustomerMasterKeySpecHMAC224, CustomerMasterKeySpecHMAC256, CustomerMasterKeySpecHMAC384,
		CustomerMasterKeySpecHMAC512,
	}
}

// KeyUsageType determines which cryptographic operations a key can be used for. It is chosen at
// creation and cannot be changed.
type KeyUsageType string

const (
	KeyUsageEncryptDecrypt         KeyUsageType = "ENCRYPT_DECRYPT"
	KeyUsageSignVerify             KeyUsageType = "SIGN_VERIFY"
	KeyUsageGenerateVerifyMac      KeyUsageType = "GENERATE_VERIFY_MAC"
	KeyUsageKeyAgreement           KeyUsageType = "KEY_AGREEMENT"
	KeyUsageEncapsulateDecapsulate KeyUsageType = "ENCAPSULATE_DECAPSULATE"
)

// Values returns every KeyUsageType of the API.
func (KeyUsageType) Values() []KeyUsageType {
	return []KeyUsageType{
		KeyUsageEncryptDecrypt,
		KeyUsageSignVerify,
		KeyUsageGenerateVerifyMac,
		KeyUsageKeyAgreement,
		KeyUsageEncapsulateDecapsulate,
	}
}

// KeyState is the state of a key. Cryptographic operations work only in Enabled and Updating.
type KeyState string

const (
	KeyStateCreating               KeyState = "Creating"               // a replica that is not ready yet
	KeyStateEnabled                KeyState = "Enabled"                // can be used
	KeyStateDisabled               KeyState = "Disabled"               // cannot be used until EnableKey
	KeyStatePendingDeletion        KeyState = "PendingDeletion"        // will be deleted
	KeyStatePendingImport          KeyState = "PendingImport"          // lacks key material that must be imported
	KeyStatePendingReplicaDeletion KeyState = "PendingReplicaDeletion" // a primary whose replicas must be deleted first
	KeyStateUnavailable            KeyState = "Unavailable"            // its custom key store is disconnected
	KeyStateUpdating               KeyState = "Updating"               // the primary Region is being changed
)

// Values returns every KeyState of the API.
func (KeyState) Values() []KeyState {
	return []KeyState{
		KeyStateCreating,
		KeyStateEnabled,
		KeyStateDisabled,
		KeyStatePendingDeletion,
		KeyStatePendingImport,
		KeyStatePendingReplicaDeletion,
		KeyStateUnavailable,
		KeyStateUpdating,
	}
}

// OriginType is where the key material comes from.
type OriginType string

const (
	OriginAWSKMS           OriginType = "AWS_KMS"            // generated by the service
	OriginExternal         OriginType = "EXTERNAL"           // imported by the caller
	OriginAWSCloudHSM      OriginType = "AWS_CLOUDHSM"       // generated in a CloudHSM key store
	OriginExternalKeyStore OriginType = "EXTERNAL_KEY_STORE" // held by an external key manager
)

// Values returns every OriginType of the API.
func (OriginType) Values() []OriginType {
	return []OriginType{OriginAWSKMS, OriginExternal, OriginAWSCloudHSM, OriginExternalKeyStore}
}

// KeyManagerType is who manages a key: its account, or an AWS service on behalf of the account
// (alias/aws/...).
type KeyManagerType string

const (
	KeyManagerAWS      KeyManagerType = "AWS"
	KeyManagerCustomer KeyManagerType = "CUSTOMER"
)

// Values returns every KeyManagerType of the API.
func (KeyManagerType) Values() []KeyManagerType {
	return []KeyManagerType{KeyManagerAWS, KeyManagerCustomer}
}

// ExpirationModelType says whether imported key material expires.
type ExpirationModelType string

const (
	ExpirationModelKeyMaterialExpires       ExpirationModelType = "KEY_MATERIAL_EXPIRES"
	ExpirationModelKeyMaterialDoesNotExpire ExpirationModelType = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// Values returns every ExpirationModelType of the API.
func (ExpirationModelType) Values() []ExpirationModelType {
	return []ExpirationModelType{ExpirationModelKeyMaterialExpires, ExpirationModelKeyMaterialDoesNotExpire}
}

// AlgorithmSpec is an algorithm that wraps key material for its import.
type AlgorithmSpec string

const (
	AlgorithmRSAESPKCS1V15       AlgorithmSpec = "RSAES_PKCS1_V1_5" // refused for all keys
	AlgorithmRSAESOAEPSHA1       AlgorithmSpec = "RSAES_OAEP_SHA_1"
	AlgorithmRSAESOAEPSHA256     AlgorithmSpec = "RSAES_OAEP_SHA_256"
	AlgorithmRSAAESKeyWrapSHA1   AlgorithmSpec = "RSA_AES_KEY_WRAP_SHA_1"   // RSAES_OAEP of an AES key, and AES-KWP with it
	AlgorithmRSAAESKeyWrapSHA256 AlgorithmSpec = "RSA_AES_KEY_WRAP_SHA_256" // the same with SHA-256
	AlgorithmSM2PKE              AlgorithmSpec = "SM2PKE"
)

// Values returns every AlgorithmSpec of the API.
func (AlgorithmSpec) Values() []AlgorithmSpec {
	return []AlgorithmSpec{
		AlgorithmRSAESPKCS1V15,
		AlgorithmRSAESOAEPSHA1,
		AlgorithmRSAESOAEPSHA256,
		AlgorithmRSAAESKeyWrapSHA1,
		AlgorithmRSAAESKeyWrapSHA256,
		AlgorithmSM2PKE,
	}
}

// WrappingKeySpec is the kind of a public key that wraps key material for its import.
type WrappingKeySpec string

const (
	WrappingKeySpecRSA2048 WrappingKeySpec = "RSA_2048"
	WrappingKeySpecRSA3072 WrappingKeySpec = "RSA_3072"
	WrappingKeySpecRSA4096 WrappingKeySpec = "RSA_4096"
	WrappingKeySpecSM2     WrappingKeySpec = "SM2"
)

// Values returns every WrappingKeySpec of the API.
func (WrappingKeySpec) Values() []WrappingKeySpec {
	return []WrappingKeySpec{WrappingKeySpecRSA2048, WrappingKeySpecRSA3072, WrappingKeySpecRSA4096, WrappingKeySpecSM2}
}

// ImportType says whether a key has had the imported key material before.
type ImportType string

const (
	ImportTypeNewKeyMaterial      ImportType = "NEW_KEY_MATERIAL"
	ImportTypeExistingKeyMaterial ImportType = "EXISTING_KEY_MATERIAL"
)

// Values returns every ImportType of the API.
func (ImportType) Values() []ImportType {
	return []ImportType{ImportTypeNewKeyMaterial, ImportTypeExistingKeyMaterial}
}

// EncryptionAlgorithmSpec is an algorithm of Encrypt, Decrypt and ReEncrypt.
type EncryptionAlgorithmSpec string

const (
	EncryptionAlgorithmSymmetricDefault EncryptionAlgorithmSpec = "SYMMETRIC_DEFAULT"
	EncryptionAlgorithmRSAESOAEPSHA1    EncryptionAlgorithmSpec = "RSAES_OAEP_SHA_1"
	EncryptionAlgorithmRSAESOAEPSHA256  EncryptionAlgorithmSpec = "RSAES_OAEP_SHA_256"
	EncryptionAlgorithmSM2PKE           EncryptionAlgorithmSpec = "SM2PKE"
)

// Values returns every EncryptionAlgorithmSpec of the API.
func (EncryptionAlgorithmSpec) Values() []EncryptionAlgorithmSpec {
	return []EncryptionAlgorithmSpec{
		EncryptionAlgorithmSymmetricDefault,
		EncryptionAlgorithmRSAESOAEPSHA1,
		EncryptionAlgorithmRSAESOAEPSHA256,
		EncryptionAlgorithmSM2PKE,
	}
}

// SigningAlgorithmSpec is an algorithm of Sign and Verify: a scheme, and its hash if it has one.
type SigningAlgorithmSpec string

const (
	SigningAlgorithmRSASSAPKCS1v15SHA256 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_256"
	SigningAlgorithmRSASSAPKCS1v15SHA384 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_384"
	SigningAlgorithmRSASSAPKCS1v15SHA512 SigningAlgorithmSpec = "RSASSA_PKCS1_V1_5_SHA_512"
	SigningAlgorithmRSASSAPSSSHA256      SigningAlgorithmSpec = "RSASSA_PSS_SHA_256"
	SigningAlgorithmRSASSAPSSSHA384      SigningAlgorithmSpec = "RSASSA_PSS_SHA_384"
	SigningAlgorithmRSASSAPSSSHA512      SigningAlgorithmSpec = "RSASSA_PSS_SHA_512"
	SigningAlgorithmECDSASHA256          SigningAlgorithmSpec = "ECDSA_SHA_256"
	SigningAlgorithmECDSASHA384          SigningAlgorithmSpec = "ECDSA_SHA_384"
	SigningAlgorithmECDSASHA512          SigningAlgorithmSpec = "ECDSA_SHA_512"
	SigningAlgorithmEd25519SHA512        SigningAlgorithmSpec = "ED25519_SHA_512"    // Ed25519 of RFC 8032
	SigningAlgorithmEd25519phSHA512      SigningAlgorithmSpec = "ED25519_PH_SHA_512" // Ed25519ph of RFC 8032
	SigningAlgorithmSM2DSA               SigningAlgorithmSpec = "SM2DSA"
	SigningAlgorithmMLDSASHAKE256        SigningAlgorithmSpec = "ML_DSA_SHAKE_256"
)

// Values returns every SigningAlgorithmSpec of the API.
func (SigningAlgorithmSpec) Values() []SigningAlgorithmSpec {
	return []SigningAlgorithmSpec{
		SigningAlgorithmRSASSAPKCS1v15SHA256, SigningAlgorithmRSASSAPKCS1v15SHA384, SigningAlgorithmRSASSAPKCS1v15SHA512,
		SigningAlgorithmRSASSAPSSSHA256, SigningAlgorithmRSASSAPSSSHA384, SigningAlgorithmRSASSAPSSSHA512,
		SigningAlgorithmECDSASHA256, SigningAlgorithmECDSASHA384, SigningAlgorithmECDSASHA512,
		SigningAlgorithmEd25519SHA512, SigningAlgorithmEd25519phSHA512,
		SigningAlgorithmSM2DSA,
		SigningAlgorithmMLDSASHAKE256,
	}
}

// MacAlgorithmSpec is an algorithm of GenerateMac and VerifyMac. Each is for the HMAC key spec of
// the same size.
type MacAlgorithmSpec string

const (
	MacAlgorithmHMACSHA224 MacAlgorithmSpec = "HMAC_SHA_224"
	MacAlgorithmHMACSHA256 MacAlgorithmSpec = "HMAC_SHA_256"
	MacAlgorithmHMACSHA384 MacAlgorithmSpec = "HMAC_SHA_384"
	MacAlgorithmHMACSHA512 MacAlgorithmSpec = "HMAC_SHA_512"
)

// Values returns every MacAlgorithmSpec of the API.
func (MacAlgorithmSpec) Values() []MacAlgorithmSpec {
	return []MacAlgorithmSpec{
		MacAlgorithmHMACSHA224, MacAlgorithmHMACSHA256, MacAlgorithmHMACSHA384, MacAlgorithmHMACSHA512,
	}
}

// KeyAgreementAlgorithmSpec is an algorithm of DeriveSharedSecret.
type KeyAgreementAlgorithmSpec string

const (
	KeyAgreementAlgorithmECDH KeyAgreementAlgorithmSpec = "ECDH"
)

// Values returns every KeyAgreementAlgorithmSpec of the API.
func (KeyAgreementAlgorithmSpec) Values() []KeyAgreementAlgorithmSpec {
	return []KeyAgreementAlgorithmSpec{KeyAgreementAlgorithmECDH}
}

// EncapsulationAlgorithmSpec is an algorithm of Encapsulate and Decapsulate.
type EncapsulationAlgorithmSpec string

const (
	EncapsulationAlgorithmMLKEM EncapsulationAlgorithmSpec = "ML_KEM"
)

// Values returns every EncapsulationAlgorithmSpec of the API.
func (EncapsulationAlgorithmSpec) Values() []EncapsulationAlgorithmSpec {
	return []EncapsulationAlgorithmSpec{EncapsulationAlgorithmMLKEM}
}

// MessageType says what the Message of Sign and Verify is.
type MessageType string

const (
	MessageTypeRaw        MessageType = "RAW"         // the message itself
	MessageTypeDigest     MessageType = "DIGEST"      // its hash, by the hash function of the signing algorithm
	MessageTypeExternalMu MessageType = "EXTERNAL_MU" // the 64-byte mu of FIPS 204, for ML-DSA
)

// Values returns every MessageType of the API.
func (MessageType) Values() []MessageType {
	return []MessageType{MessageTypeRaw, MessageTypeDigest, MessageTypeExternalMu}
}

// DataKeySpec is the kind of a symmetric data key.
type DataKeySpec string

const (
	DataKeySpecAES128 DataKeySpec = "AES_128" // 16 bytes
	DataKeySpecAES256 DataKeySpec = "AES_256" // 32 bytes
)

// Values returns every DataKeySpec of the API.
func (DataKeySpec) Values() []DataKeySpec {
	return []DataKeySpec{DataKeySpecAES128, DataKeySpecAES256}
}

// DataKeyPairSpec is the kind of an asymmetric data key pair: a KeySpec of the same name, for any
// use that such keys can have.
type DataKeyPairSpec string

const (
	DataKeyPairSpecRSA2048             DataKeyPairSpec = "RSA_2048"
	DataKeyPairSpecRSA3072             DataKeyPairSpec = "RSA_3072"
	DataKeyPairSpecRSA4096             DataKeyPairSpec = "RSA_4096"
	DataKeyPairSpecECCNISTP256         DataKeyPairSpec = "ECC_NIST_P256"
	DataKeyPairSpecECCNISTP384         DataKeyPairSpec = "ECC_NIST_P384"
	DataKeyPairSpecECCNISTP521         DataKeyPairSpec = "ECC_NIST_P521"
	DataKeyPairSpecECCNISTEdwards25519 DataKeyPairSpec = "ECC_NIST_EDWARDS25519"
	DataKeyPairSpecECCSECGP256K1       DataKeyPairSpec = "ECC_SECG_P256K1" // secp256k1
	DataKeyPairSpecSM2                 DataKeyPairSpec = "SM2"
	DataKeyPairSpecMLKEM512            DataKeyPairSpec = "ML_KEM_512"
	DataKeyPairSpecMLKEM768            DataKeyPairSpec = "ML_KEM_768"
	DataKeyPairSpecMLKEM1024           DataKeyPairSpec = "ML_KEM_1024"
)

// Values returns every DataKeyPairSpec of the API.
func (DataKeyPairSpec) Values() []DataKeyPairSpec {
	return []DataKeyPairSpec{
		DataKeyPairSpecRSA2048, DataKeyPairSpecRSA3072, DataKeyPairSpecRSA4096,
		DataKeyPairSpecECCNISTP256, DataKeyPairSpecECCNISTP384, DataKeyPairSpecECCNISTP521,
		DataKeyPairSpecECCNISTEdwards25519, DataKeyPairSpecECCSECGP256K1,
		DataKeyPairSpecSM2,
		DataKeyPairSpecMLKEM512, DataKeyPairSpecMLKEM768, DataKeyPairSpecMLKEM1024,
	}
}

// MultiRegionKeyType is the role of a key among the related keys in other Regions.
type MultiRegionKeyType string

const (
	MultiRegionKeyTypePrimary MultiRegionKeyType = "PRIMARY"
	MultiRegionKeyTypeReplica MultiRegionKeyType = "REPLICA"
)

// Values returns every MultiRegionKeyType of the API.
func (MultiRegionKeyType) Values() []MultiRegionKeyType {
	return []MultiRegionKeyType{MultiRegionKeyTypePrimary, MultiRegionKeyTypeReplica}
}

// RotationType says what caused a rotation.
type RotationType string

const (
	RotationTypeAutomatic RotationType = "AUTOMATIC"
	RotationTypeOnDemand  RotationType = "ON_DEMAND"
)

// Values returns every RotationType of the API.
func (RotationType) Values() []RotationType {
	return []RotationType{RotationTypeAutomatic, RotationTypeOnDemand}
}

// KeyMaterialState says what a key material of a key is used for.
type KeyMaterialState string

const (
	KeyMaterialStateCurrent         KeyMaterialState = "CURRENT"          // encrypts and decrypts
	KeyMaterialStateNonCurrent      KeyMaterialState = "NON_CURRENT"      // decrypts only
	KeyMaterialStatePendingRotation KeyMaterialState = "PENDING_ROTATION" // imported; current after RotateKeyOnDemand
	// The primary has the material, but a replica lacks it.
	KeyMaterialStatePendingMultiRegionImportAndRotation KeyMaterialState = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
)

// Values returns every KeyMaterialState of the API.
func (KeyMaterialState) Values() []KeyMaterialState {
	return []KeyMaterialState{
		KeyMaterialStateCurrent,
		KeyMaterialStateNonCurrent,
		KeyMaterialStatePendingRotation,
		KeyMaterialStatePendingMultiRegionImportAndRotation,
	}
}

// ImportState says whether imported key material is present.
type ImportState string

const (
	ImportStateImported      ImportState = "IMPORTED"
	ImportStatePendingImport ImportState = "PENDING_IMPORT" // expired or deleted: import it again
)

// Values returns every ImportState of the API.
func (ImportState) Values() []ImportState {
	return []ImportState{ImportStateImported, ImportStatePendingImport}
}

// IncludeKeyMaterial says which key materials ListKeyRotations lists.
type IncludeKeyMaterial string

const (
	IncludeKeyMaterialRotationsOnly  IncludeKeyMaterial = "ROTATIONS_ONLY"   // those that a rotation made current
	IncludeKeyMaterialAllKeyMaterial IncludeKeyMaterial = "ALL_KEY_MATERIAL" // also the first one and pending ones
)

// Values returns every IncludeKeyMaterial of the API.
func (IncludeKeyMaterial) Values() []IncludeKeyMaterial {
	return []IncludeKeyMaterial{IncludeKeyMaterialRotationsOnly, IncludeKeyMaterialAllKeyMaterial}
}

// DryRunModifierType narrows the checks of a dry run.
type DryRunModifierType string

const (
	DryRunModifierIgnoreCiphertext DryRunModifierType = "IGNORE_CIPHERTEXT" // do not decrypt: check authorization and the key
)

// Values returns every DryRunModifierType of the API.
func (DryRunModifierType) Values() []DryRunModifierType {
	return []DryRunModifierType{DryRunModifierIgnoreCiphertext}
}

// KeyEncryptionMechanism is how an answer is encrypted to an attested recipient.
type KeyEncryptionMechanism string

const (
	KeyEncryptionMechanismRSAESOAEPSHA256 KeyEncryptionMechanism = "RSAES_OAEP_SHA_256"
)

// Values returns every KeyEncryptionMechanism of the API.
func (KeyEncryptionMechanism) Values() []KeyEncryptionMechanism {
	return []KeyEncryptionMechanism{KeyEncryptionMechanismRSAESOAEPSHA256}
}

// KeyLastUsageTrackingOperation is a cryptographic operation that GetKeyLastUsage can return.
type KeyLastUsageTrackingOperation string

const (
	KeyLastUsageTrackingOperationEncrypt                             KeyLastUsageTrackingOperation = "Encrypt"
	KeyLastUsageTrackingOperationDecrypt                             KeyLastUsageTrackingOperation = "Decrypt"
	KeyLastUsageTrackingOperationReEncrypt                           KeyLastUsageTrackingOperation = "ReEncrypt"
	KeyLastUsageTrackingOperationGenerateDataKey                     KeyLastUsageTrackingOperation = "GenerateDataKey"
	KeyLastUsageTrackingOperationGenerateDataKeyWithoutPlaintext     KeyLastUsageTrackingOperation = "GenerateDataKeyWithoutPlaintext"
	KeyLastUsageTrackingOperationGenerateDataKeyPair                 KeyLastUsageTrackingOperation = "GenerateDataKeyPair"
	KeyLastUsageTrackingOperationGenerateDataKeyPairWithoutPlaintext KeyLastUsageTrackingOperation = "GenerateDataKeyPairWithoutPlaintext"
	KeyLastUsageTrackingOperationSign                                KeyLastUsageTrackingOperation = "Sign"
	KeyLastUsageTrackingOperationVerify                              KeyLastUsageTrackingOperation = "Verify"
	KeyLastUsageTrackingOperationGenerateMac                         KeyLastUsageTrackingOperation = "GenerateMac"
	KeyLastUsageTrackingOperationVerifyMac                           KeyLastUsageTrackingOperation = "VerifyMac"
	KeyLastUsageTrackingOperationDeriveSharedSecret                  KeyLastUsageTrackingOperation = "DeriveSharedSecret"
	KeyLastUsageTrackingOperationEncapsulate                         KeyLastUsageTrackingOperation = "Encapsulate"
	KeyLastUsageTrackingOperationDecapsulate                         KeyLastUsageTrackingOperation = "Decapsulate"
)

// Values returns every KeyLastUsageTrackingOperation of the API.
func (KeyLastUsageTrackingOperation) Values() []KeyLastUsageTrackingOperation {
	return []KeyLastUsageTrackingOperation{
		KeyLastUsageTrackingOperationEncrypt,
		KeyLastUsageTrackingOperationDecrypt,
		KeyLastUsageTrackingOperationReEncrypt,
		KeyLastUsageTrackingOperationGenerateDataKey,
		KeyLastUsageTrackingOperationGenerateDataKeyWithoutPlaintext,
		KeyLastUsageTrackingOperationGenerateDataKeyPair,
		KeyLastUsageTrackingOperationGenerateDataKeyPairWithoutPlaintext,
		KeyLastUsageTrackingOperationSign,
		KeyLastUsageTrackingOperationVerify,
		KeyLastUsageTrackingOperationGenerateMac,
		KeyLastUsageTrackingOperationVerifyMac,
		KeyLastUsageTrackingOperationDeriveSharedSecret,
		KeyLastUsageTrackingOperationEncapsulate,
		KeyLastUsageTrackingOperationDecapsulate,
	}
}

// GrantOperation is an operation that a grant can allow.
type GrantOperation string

const (
	GrantOperationDecrypt                             GrantOperation = "Decrypt"
	GrantOperationEncrypt                             GrantOperation = "Encrypt"
	GrantOperationGenerateDataKey                     GrantOperation = "GenerateDataKey"
	GrantOperationGenerateDataKeyWithoutPlaintext     GrantOperation = "GenerateDataKeyWithoutPlaintext"
	GrantOperationReEncryptFrom                       GrantOperation = "ReEncryptFrom"
	GrantOperationReEncryptTo                         GrantOperation = "ReEncryptTo"
	GrantOperationSign                                GrantOperation = "Sign"
	GrantOperationVerify                              GrantOperation = "Verify"
	GrantOperationGetPublicKey                        GrantOperation = "GetPublicKey"
	GrantOperationCreateGrant                         GrantOperation = "CreateGrant"
	GrantOperationRetireGrant                         GrantOperation = "RetireGrant"
	GrantOperationDescribeKey                         GrantOperation = "DescribeKey"
	GrantOperationGenerateDataKeyPair                 GrantOperation = "GenerateDataKeyPair"
	GrantOperationGenerateDataKeyPairWithoutPlaintext GrantOperation = "GenerateDataKeyPairWithoutPlaintext"
	GrantOperationGenerateMac                         GrantOperation = "GenerateMac"
	GrantOperationVerifyMac                           GrantOperation = "VerifyMac"
	GrantOperationDeriveSharedSecret                  GrantOperation = "DeriveSharedSecret"
	GrantOperationEncapsulate                         GrantOperation = "Encapsulate"
	GrantOperationDecapsulate                         GrantOperation = "Decapsulate"
)

// Values returns every GrantOperation of the API.
func (GrantOperation) Values() []GrantOperation {
	return []GrantOperation{
		GrantOperationDecrypt,
		GrantOperationEncrypt,
		GrantOperationGenerateDataKey,
		GrantOperationGenerateDataKeyWithoutPlaintext,
		GrantOperationReEncryptFrom,
		GrantOperationReEncryptTo,
		GrantOperationSign,
		GrantOperationVerify,
		GrantOperationGetPublicKey,
		GrantOperationCreateGrant,
		GrantOperationRetireGrant,
		GrantOperationDescribeKey,
		GrantOperationGenerateDataKeyPair,
		GrantOperationGenerateDataKeyPairWithoutPlaintext,
		GrantOperationGenerateMac,
		GrantOperationVerifyMac,
		GrantOperationDeriveSharedSecret,
		GrantOperationEncapsulate,
		GrantOperationDecapsulate,
	}
}
