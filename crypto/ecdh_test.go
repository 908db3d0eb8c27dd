package crypto

import (
	"bytes"
	stdecdh "crypto/ecdh"
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

var ecdhRows = []struct {
	name, wycheproof string
	family           Family
	curve            stdecdh.Curve
}{
	{"P-256", "ecdh_secp256r1_test.json", ECDHP256(), stdecdh.P256()},
	{"P-384", "ecdh_secp384r1_test.json", ECDHP384(), stdecdh.P384()},
	{"P-521", "ecdh_secp521r1_test.json", ECDHP521(), stdecdh.P521()},
}

func ecdhSubjects() []subject {
	var all []subject
	for i, s := range ecdsaSubjects() {
		s.name, s.family, s.algorithms = "ECDH "+ecdhRows[i].name, ecdhRows[i].family, nil
		all = append(all, s)
	}
	return all
}

func TestECDHWycheproof(t *testing.T) {
	for _, r := range ecdhRows {
		t.Run(r.name, func(t *testing.T) {
			testECDHWycheproof(t, r.wycheproof, r.family.(nistFamily).namedCurve, r.family)
		})
	}
}

func testECDHWycheproof(t *testing.T, name string, curve *namedCurve, family Family) {
	t.Helper()
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			Tests []struct {
				TcID                            int
				Public, Private, Shared, Result string
			}
		}
	}
	readVectors(t, name, &file)
	tests := 0
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			tests++
			scalar := new(big.Int).SetBytes(unhex(t, v.Private)).FillBytes(make([]byte, curve.size))
			material := craftScalar(t, curve, scalar)
			secret, err := parse(t, family, material).(AgreementKey).SharedSecret(unhex(t, v.Public))
			switch {
			case v.Result == "valid":
				require.NoError(t, err, "test %d", v.TcID)
				require.Equal(t, unhex(t, v.Shared), secret, "test %d", v.TcID)
			case v.Result == "acceptable" && err == nil:
				require.Equal(t, unhex(t, v.Shared), secret, "test %d", v.TcID)
			default:
				require.ErrorIs(t, err, ErrPublicKey, "test %d", v.TcID)
				require.Nil(t, secret)
			}
		}
	}
	require.Equal(t, file.NumberOfTests, tests)
	require.NotZero(t, tests)
}

// craftScalar is the material of a private key without its public key.
func craftScalar(t *testing.T, curve *namedCurve, scalar []byte) []byte {
	t.Helper()
	material, err := marshalPKCS8(curve.algorithm, mustMarshal(t, ecPrivateKey{Version: 1, PrivateKey: scalar}))
	require.NoError(t, err)
	return material
}

func TestECDHRefusesPeersOffTheCurve(t *testing.T) {
	for _, r := range ecdhRows {
		f := r.family.(nistFamily)
		key := parse(t, r.family, generate(t, r.family)).(AgreementKey)
		peer := parse(t, r.family, generate(t, r.family)).(AgreementKey).PublicKey()
		_, err := key.SharedSecret(peer)
		require.NoError(t, err)
		point, err := readSPKI(peer, f.algorithm)
		require.NoError(t, err)
		x, y := new(big.Int).SetBytes(point[1:1+f.size]), new(big.Int).SetBytes(point[1+f.size:])
		other := ecdhRows[0].family
		if r.name == "P-256" {
			other = ecdhRows[1].family
		}
		for name, point := range map[string][]byte{
			"infinity":      {0},
			"no point":      {},
			"off the curve": flip(point, 8*len(point)-1),
			"x beyond p":    append(append([]byte{4}, bytes.Repeat([]byte{0xff}, f.size)...), point[1+f.size:]...),
			"zeros":         append([]byte{4}, make([]byte, 2*f.size)...),
			"compressed":    elliptic.MarshalCompressed(f.curve, x, y),
			"hybrid":        append([]byte{6 | byte(y.Bit(0))}, point[1:]...),
			"truncated":     point[:len(point)-1],
			"too long":      append(bytes.Clone(point), 0),
		} {
			spki, err := marshalSPKI(f.algorithm, point)
			require.NoError(t, err)
			_, err = key.SharedSecret(spki)
			require.ErrorIs(t, err, ErrPublicKey, name)
		}
		foreign, err := marshalSPKI(sm2Curve.algorithm, point)
		require.NoError(t, err)
		idECDH, err := marshalSPKI(append(algorithmID(asn1.ObjectIdentifier{1, 3, 132, 1, 12}), f.oid...), point)
		require.NoError(t, err)
		for name, spki := range map[string][]byte{
			"empty":           nil,
			"named otherwise": foreign,
			"id-ecDH":         idECDH,
			"a point":         point,
			"trailing bytes":  append(bytes.Clone(peer), 0),
			"truncated":       peer[:len(peer)-1],
			"of other curve":  parse(t, other, generate(t, other)).(AgreementKey).PublicKey(),
			"a private key":   generate(t, r.family),
			"of no algorithm": append([]byte{0x30, 0}, peer...),
		} {
			_, err := key.SharedSecret(spki)
			require.ErrorIs(t, err, ErrPublicKey, name)
		}
	}
}

func TestECDHAgreesWithOpenSSL(t *testing.T) {
	for _, r := range ecdhRows {
		material, peer := generate(t, r.family), generate(t, r.family)
		secret, err := parse(t, r.family, material).(AgreementKey).SharedSecret(parse(t, r.family, peer).(AgreementKey).PublicKey())
		require.NoError(t, err)
		require.Len(t, secret, r.family.(nistFamily).size)
		theirs := openssl(t, "", "pkeyutl", "-derive", "-keyform", "DER", "-inkey", tempFile(t, peer),
			"-peerform", "DER", "-peerkey", tempFile(t, parse(t, r.family, material).(AgreementKey).PublicKey()))
		require.Equal(t, theirs, secret)
	}
}

func FuzzSharedSecret(f *testing.F) {
	key := parse(f, ECDHP256(), generate(f, ECDHP256())).(AgreementKey)
	f.Add(key.PublicKey())
	f.Add(parse(f, ECDHP384(), generate(f, ECDHP384())).(AgreementKey).PublicKey())
	f.Fuzz(func(t *testing.T, peer []byte) {
		secret, err := key.SharedSecret(peer)
		if err != nil {
			require.ErrorIs(t, err, ErrPublicKey)
			require.Nil(t, secret)
		} else {
			require.Len(t, secret, 32)
		}
	})
}

func BenchmarkECDH(b *testing.B) {
	for _, r := range ecdhRows {
		key := parse(b, r.family, generate(b, r.family))
		peer := parse(b, r.family, generate(b, r.family)).(AgreementKey).PublicKey()
		private := key.(*ecdhKey).p.Load()
		point, err := readSPKI(peer, r.family.(nistFamily).algorithm)
		require.NoError(b, err)
		b.Run(r.name, func(b *testing.B) {
			benchtest.Compare(b, func() {
				public, _ := r.curve.NewPublicKey(point)
				private.ECDH(public)
			}, func() { key.(AgreementKey).SharedSecret(peer) })
		})
	}
}
