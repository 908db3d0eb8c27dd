package kms_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/pocketkms/kms"
)

func parametersForImport(t testing.TB, svc *kms.Service, keyID string, algorithm kms.AlgorithmSpec, spec kms.WrappingKeySpec) *kms.GetParametersForImportOutput {
	t.Helper()
	out, err := svc.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{KeyId: keyID, WrappingAlgorithm: algorithm, WrappingKeySpec: spec})
	require.NoError(t, err)
	return out
}

// wrap encrypts key material to a wrapping key, as a caller does with the standard library and Tink.
func wrap(t testing.TB, public []byte, algorithm kms.AlgorithmSpec, material []byte) []byte {
	t.Helper()
	if algorithm == kms.AlgorithmSM2PKE {
		key, err := smx509.ParsePKIXPublicKey(public)
		require.NoError(t, err)
		wrapped, err := sm2.EncryptASN1(rand.Reader, key.(*ecdsa.PublicKey), material)
		require.NoError(t, err)
		return wrapped
	}
	key, err := x509.ParsePKIXPublicKey(public)
	require.NoError(t, err)
	var h hash.Hash = sha256.New()
	if strings.HasSuffix(string(algorithm), "SHA_1") {
		h = sha1.New()
	}
	oaep := func(material []byte) []byte {
		wrapped, err := rsa.EncryptOAEP(h, rand.Reader, key.(*rsa.PublicKey), material, nil)
		require.NoError(t, err)
		return wrapped
	}
	if !strings.HasPrefix(string(algorithm), "RSA_AES_KEY_WRAP") {
		return oaep(material)
	}
	aes := make([]byte, 32)
	rand.Read(aes)
	kwp, err := subtle.NewKWP(aes)
	require.NoError(t, err)
	wrapped, err := kwp.Wrap(material)
	require.NoError(t, err)
	return append(oaep(aes), wrapped...)
}

// importWrapped imports wrapped material that does not expire.
func importWrapped(t testing.TB, svc *kms.Service, keyID string, token, wrapped []byte) *kms.ImportKeyMaterialOutput {
	t.Helper()
	out, err := svc.ImportKeyMaterial(context.Background(), &kms.ImportKeyMaterialInput{KeyId: keyID, ImportToken: token, EncryptedKeyMaterial: wrapped,
		ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire})
	require.NoError(t, err)
	return out
}
