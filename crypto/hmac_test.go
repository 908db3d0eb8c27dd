package crypto

import (
	"bytes"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/mac/subtle"

	"github.com/pocketkms/kms/internal/benchtest"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/testenv"
)

var hmacRows = []struct {
	name   string
	family Family
	size   int
}{
	{"SHA224", HMACSHA224(), 28},
	{"SHA256", HMACSHA256(), 32},
	{"SHA384", HMACSHA384(), 48},
	{"SHA512", HMACSHA512(), 64},
}

func hmacSubjects() []subject {
	var all []subject
	for _, r := range hmacRows {
		all = append(all, subject{
			name:   "HMAC-" + r.name,
			family: r.family,
			secret: whole,
			invalid: func(*testing.T, []byte) [][]byte {
				return [][]byte{make([]byte, r.size-1), make([]byte, 129), make([]byte, 1<<16)}
			},
		})
	}
	return all
}

func TestHMACMaterialAndTagsHaveTheHashsLength(t *testing.T) {
	for _, r := range hmacRows {
		material, err := r.family.Generate()
		require.NoError(t, err)
		require.Len(t, material, r.size)
		key, err := r.family.Parse(material)
		require.NoError(t, err)
		tag, err := key.(MAC).ComputeMAC(nil)
		require.NoError(t, err)
		require.Len(t, tag, r.size)
	}
}

func TestHMACImportsLongerKeys(t *testing.T) {
	for _, r := range hmacRows {
		for n := r.size; n <= 128; n++ {
			material := randomBytes(n)
			stored, err := r.family.Import(material)
			require.NoError(t, err, "%s with %d bytes", r.name, n)
			require.Equal(t, material, stored)
			parse(t, r.family, stored)
		}
	}
}

func TestHMACWycheproof(t *testing.T) {
	for _, r := range hmacRows {
		t.Run(r.name, func(t *testing.T) {
			var file struct {
				NumberOfTests int
				TestGroups    []struct {
					TagSize int
					Tests   []struct {
						TcID          int
						Key, Msg, Tag string
						Result        string
					}
				}
			}
			readVectors(t, "hmac_"+strings.ToLower(r.name)+"_test.json", &file)
			tests := 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					tests++
					material, message, tag := unhex(t, v.Key), unhex(t, v.Msg), unhex(t, v.Tag)
					key, err := r.family.Parse(material)
					if len(material) < r.size { // not a key in KMS, but a test of the arithmetic
						require.ErrorIs(t, err, ErrMaterial)
						tink, err := subtle.NewHMAC(r.name, material, uint32(r.size))
						if len(material) < 16 {
							require.Error(t, err)
							continue
						}
						require.NoError(t, err)
						k := new(hmacKey)
						k.p.Store(&hmac{mac: tink})
						key = k
					} else {
						require.NoError(t, err)
					}

					computed, err := key.(MAC).ComputeMAC(message)
					require.NoError(t, err)
					require.Equal(t, v.Result == "valid", bytes.Equal(computed[:g.TagSize/8], tag), "test %d", v.TcID)
					err = key.(MAC).VerifyMAC(tag, message)
					if v.Result == "valid" && len(tag) == r.size {
						require.NoError(t, err, "test %d", v.TcID)
					} else { // wrong, or truncated
						require.ErrorIs(t, err, ErrVerify, "test %d", v.TcID)
					}
				}
			}
			require.Equal(t, file.NumberOfTests, tests)
			require.NotZero(t, tests)
		})
	}
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	f, err := wycheproof.TestVectors.Open(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, json.NewDecoder(f).Decode(into))
}

func TestHMACAgreesWithOpenSSL(t *testing.T) {
	for _, r := range hmacRows {
		material := randomBytes(r.size)
		key, err := r.family.Parse(material)
		require.NoError(t, err)
		ours, err := key.(MAC).ComputeMAC([]byte("message"))
		require.NoError(t, err)
		theirs := openssl(t, "message", "dgst", "-"+strings.ToLower(r.name), "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(material), "-binary")
		require.Equal(t, theirs, ours)
	}
}

// openssl runs the command with the input, and returns its output.
func openssl(t *testing.T, input string, args ...string) []byte {
	t.Helper()
	testenv.NeedsTool(t, "openssl")
	command := exec.Command("openssl", args...)
	command.Stdin = strings.NewReader(input)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	require.NoError(t, err, "openssl %s: %s", fmt.Sprint(args), &complaints)
	return output
}

func TestHMACErasesItsKeyAfterTheLastCall(t *testing.T) {
	material := randomBytes(32)
	key, err := HMACSHA256().Parse(material)
	require.NoError(t, err)
	k := key.(*hmacKey)

	inCall, err := k.get() // as a call does
	require.NoError(t, err)
	kept := inCall.key
	k.Destroy()
	runtime.GC()
	require.True(t, kept.Equal(secret.New(material)))
	runtime.KeepAlive(inCall)

	requireSoon(t, func() bool { return kept.Expose() == nil })
}

// requireSoon waits for what happens when the garbage collector finds that nobody uses a key.
func requireSoon(t *testing.T, erased func() bool) {
	t.Helper()
	for range 1000 {
		if erased() {
			return
		}
		runtime.GC()
		runtime.Gosched()
	}
	t.Fatal("the key is not erased")
}

func FuzzParseHMAC(f *testing.F) { fuzzParse(f, hmacSubjects()) }

func BenchmarkMAC(b *testing.B) {
	material, message := randomBytes(32), randomBytes(32)
	key, err := HMACSHA256().Parse(material)
	require.NoError(b, err)
	benchtest.Compare(b, func() {
		h := stdhmac.New(sha256.New, material)
		h.Write(message)
		h.Sum(nil)
	}, func() { key.(MAC).ComputeMAC(message) })
}
