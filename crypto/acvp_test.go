package crypto

import (
	"compress/gzip"
	"crypto/sha3"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/testenv"
)

// acvpGroup is a group of the tests that NIST's Automated Cryptographic Validation Protocol has for
// FIPS 203 and 204. A member that a test or its result does not have is empty.
type acvpGroup struct {
	TestType, ParameterSet, Pk string
	Tests                      []acvpTest
}

type acvpTest struct {
	TcID               int
	D, Z, Seed, Ek, Pk string
	Message, Signature string
	TestPassed         bool
}

// readACVP returns the tests in a directory of CIRCL's module, and their results by TcID.
func readACVP(t *testing.T, dir string) (groups []acvpGroup, results map[int]acvpTest) {
	t.Helper()
	testenv.NeedsTool(t, "go")
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudflare/circl").Output()
	require.NoError(t, err)
	read := func(name string) (groups []acvpGroup) {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(module)), dir, name+".json.gz"))
		require.NoError(t, err)
		defer f.Close()
		z, err := gzip.NewReader(f)
		require.NoError(t, err)
		var file struct{ TestGroups []acvpGroup }
		require.NoError(t, json.NewDecoder(z).Decode(&file))
		return file.TestGroups
	}
	results = map[int]acvpTest{}
	for _, g := range read("expectedResults") {
		for _, r := range g.Tests {
			results[r.TcID] = r
		}
	}
	return read("prompt"), results
}

func TestMLKEMKeysAreThoseOfACVP(t *testing.T) {
	families := map[string]mlkemFamily{
		"ML-KEM-512": MLKEM512().(mlkemFamily), "ML-KEM-768": MLKEM768().(mlkemFamily), "ML-KEM-1024": MLKEM1024().(mlkemFamily),
	}
	groups, results := readACVP(t, "kem/mlkem/testdata/ML-KEM-keyGen-FIPS203")
	for _, g := range groups {
		f := families[g.ParameterSet]
		for _, v := range g.Tests {
			material, err := marshalSeed(f.algorithm, unhex(t, v.D+v.Z))
			require.NoError(t, err)
			public, err := readSPKI(parse(t, f, material).(PrivateKey).PublicKey(), f.algorithm)
			require.NoError(t, err)
			require.Equal(t, unhex(t, results[v.TcID].Ek), public, "test %d", v.TcID)
		}
	}
	require.Len(t, results, 75)
}

var acvpMLDSA = map[string]mldsaFamily{
	"ML-DSA-44": MLDSA44().(mldsaFamily), "ML-DSA-65": MLDSA65().(mldsaFamily), "ML-DSA-87": MLDSA87().(mldsaFamily),
}

func TestMLDSAKeysAreThoseOfACVP(t *testing.T) {
	groups, results := readACVP(t, "sign/mldsa/testdata/ML-DSA-keyGen-FIPS204")
	for _, g := range groups {
		f := acvpMLDSA[g.ParameterSet]
		for _, v := range g.Tests {
			material, err := marshalSeed(f.algorithm, unhex(t, v.Seed))
			require.NoError(t, err)
			public, err := readSPKI(parse(t, f, material).(PrivateKey).PublicKey(), f.algorithm)
			require.NoError(t, err)
			require.Equal(t, unhex(t, results[v.TcID].Pk), public, "test %d", v.TcID)
		}
	}
	require.Len(t, results, 75)
}

// These messages are those of FIPS 204's internal interface, which go into mu as they are. So they
// are verified as external mu.
func TestMLDSASignaturesOfACVP(t *testing.T) {
	groups, results := readACVP(t, "sign/mldsa/testdata/ML-DSA-sigVer-FIPS204")
	valid := 0
	for _, g := range groups {
		f, public := acvpMLDSA[g.ParameterSet], unhex(t, g.Pk)
		tr := sha3.SumSHAKE256(public, 64)
		for _, v := range g.Tests {
			mu := sha3.SumSHAKE256(append(tr[:64:64], unhex(t, v.Message)...), mldsaMuBytes)
			ok := f.verifyMu(public, mu, unhex(t, v.Signature))
			require.Equal(t, results[v.TcID].TestPassed, ok, "test %d", v.TcID)
			if ok {
				valid++
			}
		}
	}
	require.Len(t, results, 45)
	require.NotZero(t, valid)
	require.Less(t, valid, 45)
}
