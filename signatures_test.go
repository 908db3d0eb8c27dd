package kms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
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

func TestASignatureVerifiesItsMessageAloneHereAndElsewhere(t *testing.T) {
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

// requireOpenSSLVerifies checks a signature as whoever holds nothing but the
// public key would.
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

func TestASigningAlgorithmMustSuitTheKey(t *testing.T) {
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
