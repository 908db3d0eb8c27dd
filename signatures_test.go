package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/testenv"
)

var signingSpecs = []struct {
	spec      kms.KeySpec
	algorithm kms.SigningAlgorithmSpec
	curve     elliptic.Curve
	hash      func() hash.Hash
	openssl   string
}{
	{kms.KeySpecECCNISTP256, kms.SigningAlgorithmECDSASHA256, elliptic.P256(), sha256.New, "-sha256"},
	{kms.KeySpecECCNISTP384, kms.SigningAlgorithmECDSASHA384, elliptic.P384(), sha512.New384, "-sha384"},
	{kms.KeySpecECCNISTP521, kms.SigningAlgorithmECDSASHA512, elliptic.P521(), sha512.New, "-sha512"},
}

func digestOf(new func() hash.Hash, message []byte) []byte {
	h := new()
	h.Write(message)
	return h.Sum(nil)
}

func TestASignatureVerifiesOnlyItsMessageHereAndInOpenSSL(t *testing.T) {
	testenv.NeedsTool(t, "openssl")
	svc, _ := newService(t)
	for _, spec := range signingSpecs {
		t.Run(string(spec.spec), func(t *testing.T) {
			ctx := t.Context()
			in := &kms.CreateKeyInput{KeySpec: spec.spec, KeyUsage: kms.KeyUsageSignVerify}
			key, other := createKey(t, svc, in), createKey(t, svc, in)
			public, err := svc.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: key.KeyId})
			require.NoError(t, err)
			require.Equal(t, &kms.GetPublicKeyOutput{
				KeyId: key.Arn, PublicKey: public.PublicKey, KeySpec: spec.spec, CustomerMasterKeySpec: kms.CustomerMasterKeySpec(spec.spec),
				KeyUsage: kms.KeyUsageSignVerify, SigningAlgorithms: []kms.SigningAlgorithmSpec{spec.algorithm}}, public)
			parsed, err := x509.ParsePKIXPublicKey(public.PublicKey)
			require.NoError(t, err)
			theirs := parsed.(*ecdsa.PublicKey)
			require.Equal(t, spec.curve, theirs.Curve)

			for _, size := range []int{1, 64, 4096} {
				message := make([]byte, size)
				digest := digestOf(spec.hash, message)
				for signedAs, signed := range map[kms.MessageType][]byte{"": message, kms.MessageTypeRaw: message, kms.MessageTypeDigest: digest} {
					out, err := svc.Sign(ctx, &kms.SignInput{KeyId: key.KeyId, Message: signed, MessageType: signedAs, SigningAlgorithm: spec.algorithm})
					require.NoError(t, err)
					require.Equal(t, &kms.SignOutput{KeyId: key.Arn, Signature: out.Signature, SigningAlgorithm: spec.algorithm}, out)

					require.True(t, ecdsa.VerifyASN1(theirs, digest, out.Signature), "crypto/ecdsa")
					if size == 64 {
						requireOpenSSLVerifies(t, spec.openssl, public.PublicKey, message, out.Signature)
					}

					verify := func(keyID string, kind kms.MessageType, message, signature []byte) (*kms.VerifyOutput, error) {
						return svc.Verify(ctx, &kms.VerifyInput{KeyId: keyID, MessageType: kind, Message: message, Signature: signature, SigningAlgorithm: spec.algorithm})
					}
					for kind, m := range map[kms.MessageType][]byte{"": message, kms.MessageTypeRaw: message, kms.MessageTypeDigest: digest} {
						valid, err := verify(key.KeyId, kind, m, out.Signature)
						require.NoError(t, err)
						require.Equal(t, &kms.VerifyOutput{KeyId: key.Arn, SignatureValid: true, SigningAlgorithm: spec.algorithm}, valid)
					}
					refused := func(keyID string, kind kms.MessageType, message, signature []byte) {
						t.Helper()
						out, err := verify(keyID, kind, message, signature)
						require.Nil(t, out)
						requireError(t, err, kms.KMSInvalidSignatureException, "")
					}
					if size == 64 && signedAs == "" { // a bit of each byte
						for i := range out.Signature {
							refused(key.KeyId, kms.MessageTypeDigest, digest, flip(out.Signature, 8*i+i%8))
						}
					}
					refused(key.KeyId, "", message, out.Signature[:len(out.Signature)-1])
					refused(key.KeyId, "", message, append(out.Signature[:len(out.Signature):len(out.Signature)], 0))
					refused(key.KeyId, "", message, make([]byte, 6144))
					refused(key.KeyId, "", flip(message, 0), out.Signature)
					refused(key.KeyId, kms.MessageTypeDigest, flip(digest, 0), out.Signature)
					refused(key.KeyId, kms.MessageTypeRaw, digest, out.Signature) // a digest of the digest
					refused(other.KeyId, "", message, out.Signature)
				}
			}
		})
	}
}

// requireOpenSSLVerifies requires that OpenSSL verifies a signature with the public key.
func requireOpenSSLVerifies(t *testing.T, hash string, public, message, signature []byte) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	key := write("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	out, err := exec.CommandContext(t.Context(), "openssl", "dgst", hash, "-verify", key,
		"-signature", write("signature", signature), write("message", message)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "Verified OK\n", string(out))
	_, err = exec.CommandContext(t.Context(), "openssl", "dgst", hash, "-verify", key,
		"-signature", filepath.Join(dir, "signature"), key).CombinedOutput()
	require.Error(t, err, "of another message")
}

// signatureCases has every signing algorithm with specs that have it.
var signatureCases = []struct {
	spec      kms.KeySpec
	algorithm kms.SigningAlgorithmSpec
	takes     string // the message types
	inputSize int    // of a digest or mu
	size      int    // of signatures; 0 if it varies
}{
	{kms.KeySpecECCSECGP256K1, kms.SigningAlgorithmECDSASHA256, "RAW DIGEST", 32, 0},
	{kms.KeySpecECCNISTP256, kms.SigningAlgorithmECDSASHA256, "RAW DIGEST", 32, 0},
	{kms.KeySpecECCNISTP384, kms.SigningAlgorithmECDSASHA384, "RAW DIGEST", 48, 0},
	{kms.KeySpecECCNISTP521, kms.SigningAlgorithmECDSASHA512, "RAW DIGEST", 64, 0},
	{kms.KeySpecECCNISTEdwards25519, kms.SigningAlgorithmEd25519SHA512, "RAW", 0, 64},
	{kms.KeySpecECCNISTEdwards25519, kms.SigningAlgorithmEd25519phSHA512, "DIGEST", 64, 64},
	{kms.KeySpecSM2, kms.SigningAlgorithmSM2DSA, "RAW DIGEST", 32, 0},
	{kms.KeySpecMLDSA44, kms.SigningAlgorithmMLDSASHAKE256, "RAW EXTERNAL_MU", 64, 2420},
	{kms.KeySpecMLDSA65, kms.SigningAlgorithmMLDSASHAKE256, "RAW EXTERNAL_MU", 64, 3309},
	{kms.KeySpecMLDSA87, kms.SigningAlgorithmMLDSASHAKE256, "RAW EXTERNAL_MU", 64, 4627},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPKCS1v15SHA256, "RAW DIGEST", 32, 256},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPKCS1v15SHA384, "RAW DIGEST", 48, 256},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPKCS1v15SHA512, "RAW DIGEST", 64, 256},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPSSSHA256, "RAW DIGEST", 32, 256},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPSSSHA384, "RAW DIGEST", 48, 256},
	{kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPSSSHA512, "RAW DIGEST", 64, 256},
}

func TestEverySigningSpecSignsByEachOfItsAlgorithmsAndMessageTypes(t *testing.T) {
	svc, _ := newService(t)
	keys := map[kms.KeySpec]*kms.KeyMetadata{}
	seen := map[kms.SigningAlgorithmSpec]bool{}
	for _, tt := range signatureCases {
		seen[tt.algorithm] = true
		if keys[tt.spec] == nil {
			keys[tt.spec] = createKey(t, svc, &kms.CreateKeyInput{KeySpec: tt.spec, KeyUsage: kms.KeyUsageSignVerify})
		}
		key := keys[tt.spec]
		for _, messageType := range kms.MessageType("").Values() {
			t.Run(string(tt.spec)+" "+string(tt.algorithm)+" "+string(messageType), func(t *testing.T) {
				message := bytes.Repeat([]byte{7}, max(tt.inputSize, 1))
				sign := &kms.SignInput{KeyId: key.KeyId, Message: message, MessageType: messageType, SigningAlgorithm: tt.algorithm}
				verify := &kms.VerifyInput{KeyId: key.KeyId, Message: message, MessageType: messageType, SigningAlgorithm: tt.algorithm, Signature: []byte("x")}
				out, err := svc.Sign(t.Context(), sign)
				if !slices.Contains(strings.Fields(tt.takes), string(messageType)) {
					const text = "Message type %s is incompatible with key spec %s."
					requireError(t, err, kms.ValidationException, text, messageType, tt.spec)
					_, err = svc.Verify(t.Context(), verify)
					requireError(t, err, kms.ValidationException, text, messageType, tt.spec)
					return
				}
				require.NoError(t, err)
				require.Equal(t, &kms.SignOutput{KeyId: key.Arn, Signature: out.Signature, SigningAlgorithm: tt.algorithm}, out)
				if tt.size != 0 {
					require.Len(t, out.Signature, tt.size)
				}
				verify.Signature = out.Signature
				valid, err := svc.Verify(t.Context(), verify)
				require.NoError(t, err)
				require.Equal(t, &kms.VerifyOutput{KeyId: key.Arn, SignatureValid: true, SigningAlgorithm: tt.algorithm}, valid)
				for what, spoil := range map[string]func(in *kms.VerifyInput){
					"another message":    func(in *kms.VerifyInput) { in.Message = flip(message, 0) },
					"an altered one":     func(in *kms.VerifyInput) { in.Signature = flip(out.Signature, 8*len(out.Signature)-1) },
					"a truncated one":    func(in *kms.VerifyInput) { in.Signature = out.Signature[1:] },
					"a dry run of those": func(in *kms.VerifyInput) { in.Signature, in.DryRun = []byte("x"), true },
				} {
					in := *verify
					spoil(&in)
					_, err = svc.Verify(t.Context(), &in)
					requireError(t, err, kms.KMSInvalidSignatureException, "")
					require.Error(t, err, what)
				}
				if messageType != kms.MessageTypeRaw {
					const text = "Digest is invalid length for algorithm %s."
					sign.Message, verify.Message = message[1:], append(message, 0)
					_, err = svc.Sign(t.Context(), sign)
					requireError(t, err, kms.ValidationException, text, tt.algorithm)
					_, err = svc.Verify(t.Context(), verify)
					requireError(t, err, kms.ValidationException, text, tt.algorithm)
				}
			})
		}
	}
	require.Len(t, seen, len(kms.SigningAlgorithmSpec("").Values()))
}

func TestSignaturesVerifyWithTheStandardLibrary(t *testing.T) {
	svc, _ := newService(t)
	message := []byte(fixtureMessage)
	signed := func(spec kms.KeySpec, algorithms ...kms.SigningAlgorithmSpec) (public any, signatures [][]byte) {
		key := createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageSignVerify})
		got, err := svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: key.KeyId})
		require.NoError(t, err)
		require.Equal(t, key.SigningAlgorithms, got.SigningAlgorithms)
		public, err = x509.ParsePKIXPublicKey(got.PublicKey)
		require.NoError(t, err)
		for _, algorithm := range algorithms {
			in := &kms.SignInput{KeyId: key.KeyId, Message: message, SigningAlgorithm: algorithm}
			if algorithm == kms.SigningAlgorithmEd25519phSHA512 {
				in.Message, in.MessageType = digestOf(sha512.New, message), kms.MessageTypeDigest
			}
			out, err := svc.Sign(t.Context(), in)
			require.NoError(t, err)
			signatures = append(signatures, out.Signature)
		}
		return public, signatures
	}
	digest := digestOf(sha256.New, message)
	public, signatures := signed(kms.KeySpecRSA2048, kms.SigningAlgorithmRSASSAPSSSHA256, kms.SigningAlgorithmRSASSAPKCS1v15SHA256)
	theirs := public.(*rsa.PublicKey)
	require.NoError(t, rsa.VerifyPSS(theirs, crypto.SHA256, digest, signatures[0], &rsa.PSSOptions{SaltLength: 32}))
	require.NoError(t, rsa.VerifyPKCS1v15(theirs, crypto.SHA256, digest, signatures[1]))

	public, signatures = signed(kms.KeySpecECCNISTEdwards25519, kms.SigningAlgorithmEd25519SHA512, kms.SigningAlgorithmEd25519phSHA512)
	require.NoError(t, ed25519.VerifyWithOptions(public.(ed25519.PublicKey), message, signatures[0], &ed25519.Options{}))
	// AWS KMS hashes the digest that it is given once more.
	again := digestOf(sha512.New, digestOf(sha512.New, message))
	require.NoError(t, ed25519.VerifyWithOptions(public.(ed25519.PublicKey), again, signatures[1], &ed25519.Options{Hash: crypto.SHA512}))
}

func TestAnExternalMuIsThatOfTheMessage(t *testing.T) {
	svc, _ := newService(t)
	key := createKey(t, svc, &kms.CreateKeyInput{KeySpec: kms.KeySpecMLDSA44, KeyUsage: kms.KeyUsageSignVerify})
	public, err := svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: key.KeyId})
	require.NoError(t, err)
	tr := sha3.SumSHAKE256(public.PublicKey[len(public.PublicKey)-1312:], 64)
	mu := sha3.SumSHAKE256(append(append(tr, 0, 0), fixtureMessage...), 64) // FIPS 204, algorithm 7, line 6, without a context
	raw := &kms.SignInput{KeyId: key.KeyId, Message: []byte(fixtureMessage), SigningAlgorithm: kms.SigningAlgorithmMLDSASHAKE256}
	external := &kms.SignInput{KeyId: key.KeyId, Message: mu, MessageType: kms.MessageTypeExternalMu, SigningAlgorithm: kms.SigningAlgorithmMLDSASHAKE256}
	for _, by := range []*kms.SignInput{raw, external} {
		out, err := svc.Sign(t.Context(), by)
		require.NoError(t, err)
		for _, as := range []*kms.SignInput{raw, external} {
			_, err := svc.Verify(t.Context(), &kms.VerifyInput{KeyId: key.KeyId, Message: as.Message, MessageType: as.MessageType,
				SigningAlgorithm: as.SigningAlgorithm, Signature: out.Signature})
			require.NoError(t, err)
		}
	}
}

func TestASigningAlgorithmMustBeOneOfTheKey(t *testing.T) {
	svc, _ := newService(t)
	for _, spec := range signingSpecs {
		key := createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec.spec, KeyUsage: kms.KeyUsageSignVerify})
		for _, algorithm := range (kms.SigningAlgorithmSpec)("").Values() {
			if algorithm == spec.algorithm {
				continue
			}
			_, err := svc.Sign(t.Context(), &kms.SignInput{KeyId: key.KeyId, Message: []byte("x"), SigningAlgorithm: algorithm})
			requireError(t, err, kms.InvalidKeyUsageException, "Algorithm %s is incompatible with key spec %s.", algorithm, spec.spec)
			_, err = svc.Verify(t.Context(), &kms.VerifyInput{KeyId: key.KeyId, Message: []byte("x"), Signature: []byte("x"), SigningAlgorithm: algorithm})
			requireError(t, err, kms.InvalidKeyUsageException, "Algorithm %s is incompatible with key spec %s.", algorithm, spec.spec)
		}
	}
}

func TestASignatureNeedsASigningKey(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		key         *kms.KeyMetadata
		usage, spec string
	}{{f.symmetric, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"}, {f.mac, "GENERATE_VERIFY_MAC", "HMAC_256"}} {
		_, err := f.svc.Sign(t.Context(), &kms.SignInput{KeyId: tt.key.KeyId, Message: []byte("x"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for Sign.", tt.key.Arn, tt.usage)
		_, err = f.svc.Verify(t.Context(), &kms.VerifyInput{KeyId: tt.key.KeyId, Message: []byte("x"), Signature: []byte("x"), SigningAlgorithm: kms.SigningAlgorithmECDSASHA256})
		requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is %s which is not valid for Verify.", tt.key.Arn, tt.usage)
		_, err = f.svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: tt.key.KeyId})
		requireError(t, err, kms.UnsupportedOperationException, "%s key spec is %s which is not valid for GetPublicKey.", tt.key.Arn, tt.spec)
	}
}

func TestADisabledKeyStillShowsItsPublicKey(t *testing.T) {
	f := newFixture(t)
	before, err := f.svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: f.signing.KeyId})
	require.NoError(t, err)
	disable(t, f.svc, f.signing.KeyId)
	after, err := f.svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: f.signing.KeyId})
	require.NoError(t, err)
	require.Equal(t, before, after)
}
