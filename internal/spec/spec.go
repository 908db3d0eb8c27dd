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
	Name          string // of the API: "RSA_2048"
	Kind          Kind
	Usages        []Usage
	GeneratedOnly bool // material of such keys cannot be imported
}

// A Usage is one KeyUsage that keys of a spec can have.
type Usage struct {
	Name       string   // of the API: "SIGN_VERIFY"
	Algorithms []string // of the API, in the order of KeyMetadata

	// Family returns the implementation, on a clock. It is nil if this version makes no such keys:
	// CreateKey refuses them.
	Family func(clock func() time.Time) crypto.Family
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
	{"SYMMETRIC_DEFAULT", Symmetric, []Usage{{EncryptDecrypt, []string{"SYMMETRIC_DEFAULT"}, crypto.XAES256GCM}}, false},
	{"HMAC_224", HMAC, mac("HMAC_SHA_224", crypto.HMACSHA224), false},
	{"HMAC_256", HMAC, mac("HMAC_SHA_256", crypto.HMACSHA256), false},
	{"HMAC_384", HMAC, mac("HMAC_SHA_384", crypto.HMACSHA384), false},
	{"HMAC_512", HMAC, mac("HMAC_SHA_512", crypto.HMACSHA512), false},
	{"ECC_NIST_P256", Asymmetric, ecc("ECDSA_SHA_256", crypto.ECDSAP256), false},
	{"ECC_NIST_P384", Asymmetric, ecc("ECDSA_SHA_384", crypto.ECDSAP384), false},
	{"ECC_NIST_P521", Asymmetric, ecc("ECDSA_SHA_512", crypto.ECDSAP521), false},
	{"ECC_SECG_P256K1", Asymmetric, []Usage{{SignVerify, []string{"ECDSA_SHA_256"}, nil}}, false},
	{"ECC_NIST_EDWARDS25519", Asymmetric, []Usage{{SignVerify, []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}, nil}}, false},
	{"RSA_2048", Asymmetric, rsa, false},
	{"RSA_3072", Asymmetric, rsa, false},
	{"RSA_4096", Asymmetric, rsa, false},
	{"SM2", Asymmetric, []Usage{
		{EncryptDecrypt, []string{"SM2PKE"}, nil},
		{SignVerify, []string{"SM2DSA"}, nil},
		{KeyAgreement, []string{"ECDH"}, nil},
	}, false},
	{"ML_DSA_44", Asymmetric, []Usage{{SignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}, true},
	{"ML_DSA_65", Asymmetric, []Usage{{SignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}, true},
	{"ML_DSA_87", Asymmetric, []Usage{{SignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}, true},
	{"ML_KEM_512", Asymmetric, []Usage{{EncapsulateDecapsulate, []string{"ML_KEM"}, nil}}, false},
	{"ML_KEM_768", Asymmetric, []Usage{{EncapsulateDecapsulate, []string{"ML_KEM"}, nil}}, false},
	{"ML_KEM_1024", Asymmetric, []Usage{{EncapsulateDecapsulate, []string{"ML_KEM"}, nil}}, false},
}

var rsa = []Usage{
	{EncryptDecrypt, []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}, nil},
	{SignVerify, []string{
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	}, nil},
}

func mac(algorithm string, family func() crypto.Family) []Usage {
	return []Usage{{GenerateVerifyMAC, []string{algorithm}, ignoreClock(family)}}
}

func ecc(algorithm string, signatures func() crypto.Family) []Usage {
	return []Usage{
		{SignVerify, []string{algorithm}, ignoreClock(signatures)},
		{KeyAgreement, []string{"ECDH"}, nil},
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
