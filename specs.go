package kms

import (
	"slices"
	"time"

	"github.com/pocketkms/kms/crypto"
)

// A spec is what a key of one KeySpec can be.
type spec struct {
	name KeySpec
	kind keyKind
	uses []keyUse
}

// A keyUse is one usage that keys of a spec can have, with its algorithms and
// what makes it work.
type keyUse struct {
	usage      KeyUsageType
	algorithms []string // by the API's names, in the order of KeyMetadata
	family     family   // nil: this version makes no such keys
}

type family func(clock func() time.Time) crypto.Family

// A keyKind is what must be alike in two keys for an alias to move between them.
type keyKind int8

const (
	symmetricKind keyKind = iota
	asymmetricKind
	hmacKind
)

// specs has one row for each KeySpec of the API. A usage without a family is
// refused by CreateKey; nothing else has to change for it to come.
var specs = []spec{
	{KeySpecSymmetricDefault, symmetricKind, []keyUse{{KeyUsageEncryptDecrypt, []string{"SYMMETRIC_DEFAULT"}, crypto.XAES256GCM}}},
	{KeySpecHMAC224, hmacKind, macs("HMAC_SHA_224", crypto.HMACSHA224)},
	{KeySpecHMAC256, hmacKind, macs("HMAC_SHA_256", crypto.HMACSHA256)},
	{KeySpecHMAC384, hmacKind, macs("HMAC_SHA_384", crypto.HMACSHA384)},
	{KeySpecHMAC512, hmacKind, macs("HMAC_SHA_512", crypto.HMACSHA512)},
	{KeySpecECCNISTP256, asymmetricKind, curve("ECDSA_SHA_256", crypto.ECDSAP256)},
	{KeySpecECCNISTP384, asymmetricKind, curve("ECDSA_SHA_384", crypto.ECDSAP384)},
	{KeySpecECCNISTP521, asymmetricKind, curve("ECDSA_SHA_512", crypto.ECDSAP521)},
	{KeySpecECCSECGP256K1, asymmetricKind, []keyUse{{KeyUsageSignVerify, []string{"ECDSA_SHA_256"}, nil}}},
	{KeySpecECCNISTEdwards25519, asymmetricKind, []keyUse{{KeyUsageSignVerify, []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}, nil}}},
	{KeySpecRSA2048, asymmetricKind, rsa},
	{KeySpecRSA3072, asymmetricKind, rsa},
	{KeySpecRSA4096, asymmetricKind, rsa},
	{KeySpecSM2, asymmetricKind, []keyUse{
		{KeyUsageEncryptDecrypt, []string{"SM2PKE"}, nil},
		{KeyUsageSignVerify, []string{"SM2DSA"}, nil},
		{KeyUsageKeyAgreement, []string{"ECDH"}, nil},
	}},
	{KeySpecMLDSA44, asymmetricKind, []keyUse{{KeyUsageSignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}},
	{KeySpecMLDSA65, asymmetricKind, []keyUse{{KeyUsageSignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}},
	{KeySpecMLDSA87, asymmetricKind, []keyUse{{KeyUsageSignVerify, []string{"ML_DSA_SHAKE_256"}, nil}}},
	{KeySpecMLKEM512, asymmetricKind, []keyUse{{KeyUsageEncapsulateDecapsulate, []string{"ML_KEM"}, nil}}},
	{KeySpecMLKEM768, asymmetricKind, []keyUse{{KeyUsageEncapsulateDecapsulate, []string{"ML_KEM"}, nil}}},
	{KeySpecMLKEM1024, asymmetricKind, []keyUse{{KeyUsageEncapsulateDecapsulate, []string{"ML_KEM"}, nil}}},
}

var rsa = []keyUse{
	{KeyUsageEncryptDecrypt, []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}, nil},
	{KeyUsageSignVerify, []string{
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	}, nil},
}

func macs(algorithm string, family func() crypto.Family) []keyUse {
	return []keyUse{{KeyUsageGenerateVerifyMac, []string{algorithm}, timeless(family)}}
}

func curve(algorithm string, signatures func() crypto.Family) []keyUse {
	return []keyUse{
		{KeyUsageSignVerify, []string{algorithm}, timeless(signatures)},
		{KeyUsageKeyAgreement, []string{"ECDH"}, nil},
	}
}

// timeless is a family that needs no clock.
func timeless(f func() crypto.Family) family {
	return func(func() time.Time) crypto.Family { return f() }
}

func specOf(name KeySpec) *spec {
	for i := range specs {
		if specs[i].name == name {
			return &specs[i]
		}
	}
	return nil
}

// use returns the spec's row for a usage, or nil.
func (s *spec) use(usage KeyUsageType) *keyUse {
	for i := range s.uses {
		if s.uses[i].usage == usage {
			return &s.uses[i]
		}
	}
	return nil
}

// algorithmsOf lists a key's algorithms for a usage in the type of the API; nil
// if the key has another usage.
func algorithmsOf[A ~string](k *key, usage KeyUsageType) []A {
	if k.record.Usage != usage {
		return nil
	}
	var list []A
	for _, name := range k.use.algorithms {
		list = append(list, A(name))
	}
	return list
}

// requireAlgorithm refuses an algorithm that k's spec does not have.
func (k *key) requireAlgorithm(algorithm string) error {
	if !slices.Contains(k.use.algorithms, algorithm) {
		return exception(InvalidKeyUsageException, "Algorithm %s is incompatible with key spec %s.", algorithm, k.record.Spec)
	}
	return nil
}
