package main

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

func TestTheProgramShowsTheFourSteps(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	at := 0
	for _, step := range []string{"1. create", "2. ask", "3. wrap", "4. import", "encrypt", "decrypt", "delete", "refuse", "is pending import.", "refuse", "import", "decrypt"} {
		i := strings.Index(out.String()[at:], step)
		require.GreaterOrEqual(t, i, 0, "%s is missing in:\n%s", step, out.String())
		at += i + len(step)
	}
}

func TestWrappedMaterialIsForItsWrappingKey(t *testing.T) {
	svc := kmstest.New(t)
	key, err := createKey(t.Context(), svc.Service)
	require.NoError(t, err)
	parameters := func() *kms.GetParametersForImportOutput {
		out, err := svc.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{
			KeyId: key.KeyId, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048})
		require.NoError(t, err)
		return out
	}
	material := make([]byte, 32)
	rand.Read(material)
	first, second := parameters(), parameters()
	wrapped, err := wrap(first.PublicKey, material)
	require.NoError(t, err)
	_, err = importMaterial(t.Context(), svc.Service, key.KeyId, second.ImportToken, wrapped)
	require.ErrorIs(t, err, kms.InvalidCiphertextException)
	_, err = importMaterial(t.Context(), svc.Service, key.KeyId, first.ImportToken, wrapped)
	require.NoError(t, err)

	svc.Advance(24 * time.Hour)
	_, err = importMaterial(t.Context(), svc.Service, key.KeyId, first.ImportToken, wrapped)
	require.ErrorIs(t, err, kms.ExpiredImportTokenException)
}

func TestWrapRefusesWhatIsNoRSAKey(t *testing.T) {
	_, err := wrap([]byte("no key"), nil)
	require.Error(t, err)
}
