package kms_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"filippo.io/mldsa"
	"github.com/emmansun/gmsm/sm2"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/benchtest"
)

// A benchmarkedKey is a key whose operations are compared with the bare primitives. Its function
// returns what is to be timed.
type benchmarkedKey struct {
	spec  kms.KeySpec
	usage kms.KeyUsageType
	pairs func(b *testing.B, svc *kms.Service, id string) []comparison
}

type comparison struct {
	operation    string
	floor, timed func()
}

// BenchmarkKey compares the operations on keys of every kind with the bare primitives. The service
// has an audit sink that borrows events, as those of production do, and drops them.
func BenchmarkKey(b *testing.B) {
	for _, k := range []benchmarkedKey{
		{kms.KeySpecHMAC256, kms.KeyUsageGenerateVerifyMac, benchMAC},
		{kms.KeySpecECCNISTP256, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmECDSASHA256, bareECDSA)},
		{kms.KeySpecECCNISTEdwards25519, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmEd25519SHA512, bareEd25519)},
		{kms.KeySpecRSA2048, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmRSASSAPSSSHA256, bareRSA(kms.KeySpecRSA2048))},
		{kms.KeySpecRSA4096, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmRSASSAPSSSHA256, bareRSA(kms.KeySpecRSA4096))},
		{kms.KeySpecSM2, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmSM2DSA, bareSM2)},
		{kms.KeySpecMLDSA65, kms.KeyUsageSignVerify, benchSignatures(kms.SigningAlgorithmMLDSASHAKE256, bareMLDSA)},
		{kms.KeySpecRSA2048, kms.KeyUsageEncryptDecrypt, benchRSADecrypt},
		{kms.KeySpecECCNISTP256, kms.KeyUsageKeyAgreement, benchAgreement},
		{kms.KeySpecMLKEM768, kms.KeyUsageEncapsulateDecapsulate, benchKEM},
		{kms.KeySpecSymmetricDefault, kms.KeyUsageEncryptDecrypt, benchDataKeyPairs},
	} {
		svc := must(kms.New(kms.Config{Audit: audit.Discard}))
		b.Cleanup(func() { require.NoError(b, svc.Close()) })
		id := createKey(b, svc, &kms.CreateKeyInput{KeySpec: k.spec, KeyUsage: k.usage}).KeyId
		for _, c := range k.pairs(b, svc, id) {
			b.Run(string(k.spec)+"/"+c.operation, func(b *testing.B) { benchtest.Compare(b, c.floor, c.timed) })
		}
	}
}

func benchMAC(_ *testing.B, svc *kms.Service, id string) []comparison {
	ctx := context.Background()
	generate := &kms.GenerateMacInput{KeyId: id, Message: benchPlaintext, MacAlgorithm: kms.MacAlgorithmHMACSHA256}
	verify := &kms.VerifyMacInput{KeyId: id, Message: benchPlaintext, MacAlgorithm: kms.MacAlgorithmHMACSHA256, Mac: must(svc.GenerateMac(ctx, generate)).Mac}
	key, tag := make([]byte, 32), make([]byte, 32)
	floor := func() {
		h := hmac.New(sha256.New, key)
		h.Write(benchPlaintext)
		hmac.Equal(h.Sum(nil), tag)
	}
	return []comparison{
		{"GenerateMac", floor, func() { must(svc.GenerateMac(ctx, generate)) }},
		{"VerifyMac", floor, func() { must(svc.VerifyMac(ctx, verify)) }},
	}
}

// benchSignatures compares Sign and Verify with bare, which returns functions that sign a message
// and verify a signature of it.
func benchSignatures(algorithm kms.SigningAlgorithmSpec, bare func(b *testing.B, message []byte) (sign, verify func())) func(*testing.B, *kms.Service, string) []comparison {
	return func(b *testing.B, svc *kms.Service, id string) []comparison {
		ctx := context.Background()
		sign := &kms.SignInput{KeyId: id, Message: benchPlaintext, SigningAlgorithm: algorithm}
		signature := must(svc.Sign(ctx, sign)).Signature
		verify := &kms.VerifyInput{KeyId: id, Message: benchPlaintext, SigningAlgorithm: algorithm, Signature: signature}
		floorSign, floorVerify := bare(b, benchPlaintext)
		return []comparison{
			{"Sign", floorSign, func() { must(svc.Sign(ctx, sign)) }},
			{"Verify", floorVerify, func() { must(svc.Verify(ctx, verify)) }},
		}
	}
}

func bareECDSA(_ *testing.B, message []byte) (sign, verify func()) {
	key, digest := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), sha256.Sum256(message)
	signature := must(ecdsa.SignASN1(rand.Reader, key, digest[:]))
	return func() {
			digest := sha256.Sum256(message)
			must(ecdsa.SignASN1(rand.Reader, key, digest[:]))
		}, func() {
			digest := sha256.Sum256(message)
			requireBare(ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature))
		}
}

func bareEd25519(b *testing.B, message []byte) (sign, verify func()) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	signature := ed25519.Sign(private, message)
	return func() { ed25519.Sign(private, message) }, func() { requireBare(ed25519.Verify(public, message, signature)) }
}

func bareRSA(spec kms.KeySpec) func(b *testing.B, message []byte) (sign, verify func()) {
	return func(b *testing.B, message []byte) (sign, verify func()) {
		key, digest := must(x509.ParsePKCS8PrivateKey(fixedRSA(b, spec))).(*rsa.PrivateKey), sha256.Sum256(message)
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		signature := must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], pss))
		return func() {
				digest := sha256.Sum256(message)
				must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], pss))
			}, func() {
				digest := sha256.Sum256(message)
				requireBare(rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], signature, pss) == nil)
			}
	}
}

func bareSM2(_ *testing.B, message []byte) (sign, verify func()) {
	key := must(sm2.GenerateKey(rand.Reader))
	hash := func() []byte { return must(sm2.CalculateSM2Hash(&key.PublicKey, message, nil)) }
	signature := must(sm2.SignASN1(rand.Reader, key, hash(), nil))
	return func() { must(sm2.SignASN1(rand.Reader, key, hash(), nil)) },
		func() { requireBare(sm2.VerifyASN1(&key.PublicKey, hash(), signature)) }
}

func bareMLDSA(_ *testing.B, message []byte) (sign, verify func()) {
	key := must(mldsa.GenerateKey(mldsa.MLDSA65()))
	signature := must(key.Sign(nil, message, nil))
	return func() { must(key.Sign(nil, message, nil)) },
		func() { requireBare(mldsa.Verify(key.PublicKey(), message, signature, nil) == nil) }
}

func benchRSADecrypt(b *testing.B, svc *kms.Service, id string) []comparison {
	ctx := context.Background()
	encrypt := &kms.EncryptInput{KeyId: id, Plaintext: benchPlaintext, EncryptionAlgorithm: kms.EncryptionAlgorithmRSAESOAEPSHA256}
	decrypt := &kms.DecryptInput{KeyId: id, CiphertextBlob: must(svc.Encrypt(ctx, encrypt)).CiphertextBlob, EncryptionAlgorithm: encrypt.EncryptionAlgorithm}
	key := must(x509.ParsePKCS8PrivateKey(fixedRSA(b, kms.KeySpecRSA2048))).(*rsa.PrivateKey)
	ciphertext := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, benchPlaintext, nil))
	return []comparison{
		{"Encrypt", func() { must(rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, benchPlaintext, nil)) }, func() { must(svc.Encrypt(ctx, encrypt)) }},
		{"Decrypt", func() { must(rsa.DecryptOAEP(sha256.New(), nil, key, ciphertext, nil)) }, func() { must(svc.Decrypt(ctx, decrypt)) }},
	}
}

func benchAgreement(_ *testing.B, svc *kms.Service, id string) []comparison {
	key, peer := must(ecdh.P256().GenerateKey(rand.Reader)), must(ecdh.P256().GenerateKey(rand.Reader)).PublicKey()
	in := &kms.DeriveSharedSecretInput{KeyId: id, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, PublicKey: must(x509.MarshalPKIXPublicKey(peer))}
	return []comparison{{"DeriveSharedSecret", func() { must(key.ECDH(peer)) }, func() { must(svc.DeriveSharedSecret(context.Background(), in)) }}}
}

func benchKEM(_ *testing.B, svc *kms.Service, id string) []comparison {
	ctx := context.Background()
	encapsulate := &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
	decapsulate := &kms.DecapsulateInput{KeyId: id, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM,
		SharedSecretCiphertextBlob: must(svc.Encapsulate(ctx, encapsulate)).SharedSecretCiphertextBlob}
	key := must(mlkem.GenerateKey768())
	public := key.EncapsulationKey()
	_, ciphertext := public.Encapsulate()
	return []comparison{
		{"Encapsulate", func() { public.Encapsulate() }, func() { must(svc.Encapsulate(ctx, encapsulate)) }},
		{"Decapsulate", func() { must(key.Decapsulate(ciphertext)) }, func() { must(svc.Decapsulate(ctx, decapsulate)) }},
	}
}

func benchDataKeyPairs(_ *testing.B, svc *kms.Service, id string) []comparison {
	in := &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: kms.DataKeyPairSpecECCNISTP256, EncryptionContext: benchContext}
	gcm := bareGCM()
	return []comparison{{"GenerateDataKeyPair", func() {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		must(x509.MarshalPKIXPublicKey(&key.PublicKey))
		gcm.Seal(nil, make([]byte, 12), must(x509.MarshalPKCS8PrivateKey(key)), benchAssociatedData)
	}, func() { must(svc.GenerateDataKeyPair(context.Background(), in)) }}}
}

func requireBare(valid bool) {
	if !valid {
		panic("the floor does not verify")
	}
}
