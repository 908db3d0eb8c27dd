// Package spec is the table of key specs: what each can be used for, with which algorithms, and
// what implements it. Nothing else in the module switches on key specs.
package spec

import (
	"slices"
	"time"

	"github.com/pocketkms/kms/crypto"
)

// A Spec is what the keys of one KeySpec of the API can be.
type Spec struct {
	Name     string // of the API: "RSA_2048"
	Kind     Kind
	Usages   []Usage
	Wrapping Wrapping // of material that is imported
}

// A Usage is one KeyUsage that keys of a spec can have.
type Usage struct {
	Name       string   // of the API: "SIGN_VERIFY"
	Algorithms []string // of the API, in the order of KeyMetadata

	// Family returns the implementation, on a clock.
	Family func(clock func() time.Time) crypto.Family

	// RSABits is the size of the key pairs if they are RSA, whose generation takes long; else 0. All
	// usages of a spec have the same material.
	RSABits int
}

// A Kind is what two keys must have in common for an alias to move between them.
type Kind int8

// The kinds of keys.
const (
	Symmetric Kind = iota
	Asymmetric
	HMAC
)

// The key usages of the API.
const (
	EncryptDecrypt         = "ENCRYPT_DECRYPT"
	SignVerify             = "SIGN_VERIFY"
	GenerateVerifyMAC      = "GENERATE_VERIFY_MAC"
	KeyAgreement           = "KEY_AGREEMENT"
	EncapsulateDecapsulate = "ENCAPSULATE_DECAPSULATE"
)

// specs has one row for each KeySpec of the API.
var specs = []Spec{
	{"SYMMETRIC_DEFAULT", Symmetric, []Usage{{Name: EncryptDecrypt, Algorithms: []string{"SYMMETRIC_DEFAULT"}, Family: crypto.XAES256GCM}}, wrappedByKey},
	{"HMAC_224", HMAC, mac("HMAC_SHA_224", crypto.HMACSHA224), wrappedByKey},
	{"HMAC_256", HMAC, mac("HMAC_SHA_256", crypto.HMACSHA256), wrappedByKey},
	{"HMAC_384", HMAC, mac("HMAC_SHA_384", crypto.HMACSHA384), wrappedByKey},
	{"HMAC_512", HMAC, mac("HMAC_SHA_512", crypto.HMACSHA512), wrappedByKey},
	{"ECC_NIST_P256", Asymmetric, ecc("ECDSA_SHA_256", crypto.ECDSAP256, crypto.ECDHP256), wrappedByAny},
	{"ECC_NIST_P384", Asymmetric, ecc("ECDSA_SHA_384", crypto.ECDSAP384, crypto.ECDHP384), wrappedByAny},
	{"ECC_NIST_P521", Asymmetric, ecc("ECDSA_SHA_512", crypto.ECDSAP521, crypto.ECDHP521), wrappedByAnyBut2048},
	{"ECC_SECG_P256K1", Asymmetric, signature(crypto.ECDSASecp256k1, "ECDSA_SHA_256"), wrappedByAny},
	{"ECC_NIST_EDWARDS25519", Asymmetric, signature(crypto.Ed25519, "ED25519_SHA_512", "ED25519_PH_SHA_512"), wrappedByAnyBut2048},
	{"RSA_2048", Asymmetric, rsa(2048, crypto.RSAES2048, crypto.RSASSA2048), wrappedByAES},
	{"RSA_3072", Asymmetric, rsa(3072, crypto.RSAES3072, crypto.RSASSA3072), wrappedByAES},
	{"RSA_4096", Asymmetric, rsa(4096, crypto.RSAES4096, crypto.RSASSA4096), wrappedByAES},
	{"SM2", Asymmetric, []Usage{
		{Name: EncryptDecrypt, Algorithms: []string{"SM2PKE"}, Family: ignoreClock(crypto.SM2PKE)},
		{Name: SignVerify, Algorithms: []string{"SM2DSA"}, Family: ignoreClock(crypto.SM2DSA)},
		{Name: KeyAgreement, Algorithms: []string{"ECDH"}, Family: ignoreClock(crypto.SM2ECDH)},
	}, wrappedByKey},
	{"ML_DSA_44", Asymmetric, signature(crypto.MLDSA44, "ML_DSA_SHAKE_256"), notImported},
	{"ML_DSA_65", Asymmetric, signature(crypto.MLDSA65, "ML_DSA_SHAKE_256"), notImported},
	{"ML_DSA_87", Asymmetric, signature(crypto.MLDSA87, "ML_DSA_SHAKE_256"), notImported},
	{"ML_KEM_512", Asymmetric, kem(crypto.MLKEM512), wrappedByKey},
	{"ML_KEM_768", Asymmetric, kem(crypto.MLKEM768), wrappedByKey},
	{"ML_KEM_1024", Asymmetric, kem(crypto.MLKEM1024), wrappedByKey},
}

func mac(algorithm string, family func() crypto.Family) []Usage {
	return []Usage{{Name: GenerateVerifyMAC, Algorithms: []string{algorithm}, Family: ignoreClock(family)}}
}

func signature(family func() crypto.Family, algorithms ...string) []Usage {
	return []Usage{{Name: SignVerify, Algorithms: algorithms, Family: ignoreClock(family)}}
}

func kem(family func() crypto.Family) []Usage {
	return []Usage{{Name: EncapsulateDecapsulate, Algorithms: []string{"ML_KEM"}, Family: ignoreClock(family)}}
}

func ecc(algorithm string, signatures, agreement func() crypto.Family) []Usage {
	return []Usage{
		{Name: SignVerify, Algorithms: []string{algorithm}, Family: ignoreClock(signatures)},
		{Name: KeyAgreement, Algorithms: []string{"ECDH"}, Family: ignoreClock(agreement)},
	}
}

func rsa(bits int, encryption, signatures func() crypto.Family) []Usage {
	return []Usage{
		{Name: EncryptDecrypt, Algorithms: []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}, Family: ignoreClock(encryption), RSABits: bits},
		{Name: SignVerify, Algorithms: []string{
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		}, Family: ignoreClock(signatures), RSABits: bits},
	}
}

func ignoreClock(family func() crypto.Family) func(func() time.Time) crypto.Family {
	return func(func() time.Time) crypto.Family { return family() }
}

// Of returns the spec of that name, or nil.
func Of(name string) *Spec {
	for i := range specs {
		if specs[i].Name == name {
			return &specs[i]
		}
	}
	return nil
}

// RSA returns a usage of each size of RSA keys, the smallest first.
func RSA() (usages []*Usage) {
	for i := range specs {
		if u := &specs[i].Usages[0]; u.RSABits != 0 {
			usages = append(usages, u)
		}
	}
	return usages
}

// GrantOperations returns the operations that a grant of a key of the spec and a usage can allow.
func (s *Spec) GrantOperations(u *Usage) []string {
	return slices.Concat(grantOperations, usageOperations[u.Name], kindOperations[s.Kind])
}

var (
	grantOperations = []string{"CreateGrant", "RetireGrant", "DescribeKey"} // of every key

	usageOperations = map[string][]string{
		EncryptDecrypt:         {"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"},
		SignVerify:             {"Sign", "Verify"},
		GenerateVerifyMAC:      {"GenerateMac", "VerifyMac"},
		KeyAgreement:           {"DeriveSharedSecret"},
		EncapsulateDecapsulate: {"Encapsulate", "Decapsulate"},
	}
	kindOperations = map[Kind][]string{
		Symmetric:  {"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"},
		Asymmetric: {"GetPublicKey"},
	}
)

// Usage returns the usage of that name, or nil if keys of the spec cannot have it.
func (s *Spec) Usage(name string) *Usage {
	for i := range s.Usages {
		if s.Usages[i].Name == name {
			return &s.Usages[i]
		}
	}
	return nil
}

// Has reports whether the usage has an algorithm of that name.
func (u *Usage) Has(algorithm string) bool { return slices.Contains(u.Algorithms, algorithm) }
