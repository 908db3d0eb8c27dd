package crypto

import (
	"bytes"
	stdmlkem "crypto/mlkem"
	"crypto/rand"
	"encoding/asn1"
	"testing"

	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/mlkem/mlkem1024"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"github.com/cloudflare/circl/kem/mlkem/mlkem768"
	gmmlkem "github.com/emmansun/gmsm/mlkem"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

var mlkemRows = []struct {
	name                         string
	family                       Family
	publicBytes, ciphertextBytes int
	scheme                       kem.Scheme
}{
	{"512", MLKEM512(), 800, 768, mlkem512.Scheme()},
	{"768", MLKEM768(), 1184, 1088, mlkem768.Scheme()},
	{"1024", MLKEM1024(), 1568, 1568, mlkem1024.Scheme()},
}

func mlkemSubjects() []subject {
	var all []subject
	for i, r := range mlkemRows {
		all = append(all, subject{
			name:   "ML-KEM-" + r.name,
			family: r.family,
			step:   9,
			secret: func(_ *testing.T, material []byte) []byte { return material[len(material)-64:] },
			invalid: func(t *testing.T, material []byte) [][]byte {
				return append(invalidSeed(t, r.family, material), generate(t, mlkemRows[(i+1)%3].family), generate(t, MLDSA44()))
			},
		})
	}
	return all
}

// invalidSeed returns what no family accepts whose material is a seed.
func invalidSeed(t *testing.T, family Family, material []byte) [][]byte {
	t.Helper()
	spki := parse(t, family, material).(PrivateKey).PublicKey()
	public := func(material []byte) []byte {
		var info struct {
			Algorithm algorithmIdentifier
			PublicKey asn1.BitString
		}
		_, err := asn1.Unmarshal(parse(t, family, material).(PrivateKey).PublicKey(), &info)
		require.NoError(t, err)
		return info.PublicKey.Bytes
	}
	all := [][]byte{append(bytes.Clone(material), 0), spki, generate(t, Ed25519())}
	retag := func(tag byte) func(i *privateKeyInfo) {
		return func(i *privateKeyInfo) { i.PrivateKey = append([]byte{tag}, i.PrivateKey[1:]...) }
	}
	for _, change := range []func(*privateKeyInfo){
		func(i *privateKeyInfo) { i.Version = 1 },
		func(i *privateKeyInfo) { i.Extra = outerPublic(t, public(material)) },
		func(i *privateKeyInfo) { i.Version, i.Extra = 1, outerPublic(t, public(generate(t, family))) },
		func(i *privateKeyInfo) { i.Extra = null },
		func(i *privateKeyInfo) { i.Algorithm.Parameters = null },
		func(i *privateKeyInfo) { i.PrivateKey = i.PrivateKey[2:] },
		func(i *privateKeyInfo) { i.PrivateKey = append(bytes.Clone(i.PrivateKey), 0) },
		func(i *privateKeyInfo) { i.PrivateKey = append([]byte{0x80, i.PrivateKey[1] - 1}, i.PrivateKey[3:]...) },
		func(i *privateKeyInfo) {
			i.PrivateKey = append([]byte{0x80, i.PrivateKey[1] + 1, 0}, i.PrivateKey[2:]...)
		},
		retag(0x04), retag(0xa0), retag(0x30), retag(0x81),
	} {
		all = append(all, craftInfo(t, material, change))
	}
	return all
}

func TestMLKEMSizes(t *testing.T) {
	for _, r := range mlkemRows {
		material := generate(t, r.family)
		require.Len(t, material, 86)
		key := parse(t, r.family, material).(DecapsulationKey)
		public, err := readSPKI(key.PublicKey(), r.family.(mlkemFamily).algorithm)
		require.NoError(t, err)
		require.Len(t, public, r.publicBytes)
		secret, ciphertext, err := key.Encapsulate()
		require.NoError(t, err)
		require.Len(t, secret, 32)
		require.Len(t, ciphertext, r.ciphertextBytes)
	}
}

func TestMLKEMAgreesWithCIRCL(t *testing.T) {
	for _, r := range mlkemRows {
		material := generate(t, r.family)
		key := parse(t, r.family, material).(DecapsulationKey)
		public, private := r.scheme.DeriveKeyPair(material[len(material)-64:])
		encoded, err := public.MarshalBinary()
		require.NoError(t, err)
		ours, err := readSPKI(key.PublicKey(), r.family.(mlkemFamily).algorithm)
		require.NoError(t, err)
		require.Equal(t, encoded, ours)

		ciphertext, theirs, err := r.scheme.Encapsulate(public)
		require.NoError(t, err)
		secret, err := key.Decapsulate(ciphertext)
		require.NoError(t, err)
		require.Equal(t, theirs, secret)
		secret, ciphertext, err = key.Encapsulate()
		require.NoError(t, err)
		theirs, err = r.scheme.Decapsulate(private, ciphertext)
		require.NoError(t, err)
		require.Equal(t, theirs, secret)
	}
}

// A second implementation for the set that the standard library does not have.
func TestMLKEM512AgreesWithGMSM(t *testing.T) {
	for range 20 {
		material := generate(t, MLKEM512())
		key := parse(t, MLKEM512(), material).(DecapsulationKey)
		private, err := gmmlkem.NewDecapsulationKeyFromSeed512(material[len(material)-64:])
		require.NoError(t, err)
		theirs, ciphertext, err := private.EncapsulationKey().Encapsulate(rand.Reader)
		require.NoError(t, err)
		secret, err := key.Decapsulate(ciphertext)
		require.NoError(t, err)
		require.Equal(t, theirs, secret)

		ciphertext[0] ^= 1 // implicit rejection, too, is the same
		theirs, err = private.Decapsulate(ciphertext)
		require.NoError(t, err)
		secret, err = key.Decapsulate(ciphertext)
		require.NoError(t, err)
		require.Equal(t, theirs, secret)
	}
}

func TestMLKEMWycheproof(t *testing.T) {
	for _, r := range mlkemRows {
		t.Run(r.name, func(t *testing.T) {
			var file struct {
				NumberOfTests int
				TestGroups    []struct {
					Tests []struct {
						TcID                   int
						Seed, Ek, C, K, Result string
					}
				}
			}
			readVectors(t, "mlkem_"+r.name+"_test.json", &file)
			tests, invalid := 0, 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					tests++
					material, err := marshalSeed(r.family.(mlkemFamily).algorithm, unhex(t, v.Seed))
					require.NoError(t, err)
					key, err := r.family.Parse(material)
					if v.Result == "invalid" && err != nil {
						invalid++
						require.ErrorIs(t, err, ErrMaterial, "test %d", v.TcID)
						continue
					}
					require.NoError(t, err, "test %d", v.TcID)
					if v.Ek != "" {
						public, err := readSPKI(key.(PrivateKey).PublicKey(), r.family.(mlkemFamily).algorithm)
						require.NoError(t, err)
						require.Equal(t, unhex(t, v.Ek), public, "test %d", v.TcID)
					}
					secret, err := key.(DecapsulationKey).Decapsulate(unhex(t, v.C))
					if v.Result == "invalid" {
						invalid++
						require.ErrorIs(t, err, ErrDecrypt, "test %d", v.TcID)
						continue
					}
					require.NoError(t, err, "test %d", v.TcID)
					require.Equal(t, unhex(t, v.K), secret, "test %d", v.TcID)
				}
			}
			require.Equal(t, file.NumberOfTests, tests)
			require.NotZero(t, invalid)
			require.Greater(t, tests, invalid)
		})
	}
}

func TestMLKEMKeysAreThoseOfWycheproof(t *testing.T) {
	for _, r := range mlkemRows {
		var file struct {
			NumberOfTests int
			TestGroups    []struct{ Tests []struct{ Seed, Ek string } }
		}
		readVectors(t, "mlkem_"+r.name+"_keygen_seed_test.json", &file)
		require.NotZero(t, file.NumberOfTests)
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				material, err := marshalSeed(r.family.(mlkemFamily).algorithm, unhex(t, v.Seed))
				require.NoError(t, err)
				public, err := readSPKI(parse(t, r.family, material).(PrivateKey).PublicKey(), r.family.(mlkemFamily).algorithm)
				require.NoError(t, err)
				require.Equal(t, unhex(t, v.Ek), public)
			}
		}
	}
}

func FuzzParseMLKEM(f *testing.F) { fuzzParse(f, mlkemSubjects()) }

func BenchmarkMLKEM(b *testing.B) {
	for _, r := range mlkemRows {
		material := generate(b, r.family)
		key := parse(b, r.family, material).(DecapsulationKey)
		_, ciphertext, err := key.Encapsulate()
		require.NoError(b, err)
		var encapsulate, decapsulate func()
		switch seed := material[len(material)-64:]; r.name {
		case "512":
			public, private := mlkem512.NewKeyFromSeed(seed)
			encapsulate = func() { public.EncapsulateTo(make([]byte, 768), make([]byte, 32), nil) }
			decapsulate = func() { private.DecapsulateTo(make([]byte, 32), ciphertext) }
		case "768":
			private, err := stdmlkem.NewDecapsulationKey768(seed)
			require.NoError(b, err)
			public := private.EncapsulationKey()
			encapsulate, decapsulate = func() { public.Encapsulate() }, func() { private.Decapsulate(ciphertext) }
		case "1024":
			private, err := stdmlkem.NewDecapsulationKey1024(seed)
			require.NoError(b, err)
			public := private.EncapsulationKey()
			encapsulate, decapsulate = func() { public.Encapsulate() }, func() { private.Decapsulate(ciphertext) }
		}
		b.Run(r.name+"/Encapsulate", func(b *testing.B) { benchtest.Compare(b, encapsulate, func() { key.Encapsulate() }) })
		b.Run(r.name+"/Decapsulate", func(b *testing.B) { benchtest.Compare(b, decapsulate, func() { key.Decapsulate(ciphertext) }) })
	}
}
