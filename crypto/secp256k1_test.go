package crypto

import (
	stdcrypto "crypto"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"runtime"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

func secp256k1Subjects() []subject {
	return []subject{{
		name:       "ECDSA secp256k1",
		family:     ECDSASecp256k1(),
		algorithms: []string{"ECDSA_SHA_256"},
		secret:     ecScalar,
		invalid: func(t *testing.T, material []byte) [][]byte {
			return append(invalidOnCurve(t, ECDSASecp256k1(), secp256k1Curve, secp256k1.Params().N, material), generate(t, ECDSAP256()))
		},
	}}
}

// ecScalar returns the private key in the material.
func ecScalar(t *testing.T, material []byte) (scalar []byte) {
	t.Helper()
	craft(t, material, func(_ *privateKeyInfo, k *ecPrivateKey) { scalar = k.PrivateKey })
	return scalar
}

func TestSecp256k1AcceptsTheWholeRangeOfScalars(t *testing.T) {
	largest := new(big.Int).Sub(secp256k1.Params().N, big.NewInt(1))
	for _, scalar := range []*big.Int{big.NewInt(1), largest} {
		material := craftScalar(t, secp256k1Curve, scalar.FillBytes(make([]byte, 32)))
		stored, err := ECDSASecp256k1().Import(material)
		require.NoError(t, err)
		one, two := parse(t, ECDSASecp256k1(), material).(SigningKey), parse(t, ECDSASecp256k1(), stored).(SigningKey)
		require.Equal(t, one.PublicKey(), two.PublicKey())
	}
}

func TestSecp256k1MessagesAndDigestsAreInterchangeable(t *testing.T) {
	requireInterchangeable(t, parse(t, ECDSASecp256k1(), generate(t, ECDSASecp256k1())), "ECDSA_SHA_256", stdcrypto.SHA256)
}

// RFC 6979 has no vector for this curve. Implementations for it share this one.
func TestSecp256k1SignaturesAreThoseOfRFC6979(t *testing.T) {
	material := craftScalar(t, secp256k1Curve, append(make([]byte, 31), 1))
	signer := newSigner(t, parse(t, ECDSASecp256k1(), material), "ECDSA_SHA_256", Raw)
	signature, err := signer.Sign([]byte("Everything should be made as simple as possible, but not simpler."))
	require.NoError(t, err)
	require.Equal(t, unhex(t, "3044022033a69cd2065432a30f3d1ce4eb0d59b8ab58c74f27c41a7fdb5696ad4e6108c902206f807982866f785d3f6418d24163ddae117b7db4d5fdf0071de069fa54342262"), signature)
}

// KMS does not promise the smaller s, so signatures made elsewhere may have either.
func TestSecp256k1VerifiesBothValuesOfS(t *testing.T) {
	signer := newSigner(t, parse(t, ECDSASecp256k1(), generate(t, ECDSASecp256k1())), "ECDSA_SHA_256", Raw)
	signature, err := signer.Sign([]byte("message"))
	require.NoError(t, err)
	var values struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(signature, &values)
	require.NoError(t, err)
	values.S.Sub(secp256k1.Params().N, values.S)
	require.NoError(t, signer.Verify(mustMarshal(t, values), []byte("message")))
}

func TestSecp256k1Wycheproof(t *testing.T) {
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			PublicKeyDer string
			Tests        []struct {
				TcID             int
				Msg, Sig, Result string
			}
		}
	}
	readVectors(t, "ecdsa_secp256k1_sha256_test.json", &file)
	tests := 0
	for _, g := range file.TestGroups {
		point, err := readSPKI(unhex(t, g.PublicKeyDer), secp256k1Curve.algorithm)
		require.NoError(t, err)
		public, err := secp256k1.ParsePubKey(point)
		require.NoError(t, err)
		k := newSigningKey(&secp256k1Key{public: public}, nil, secp256k1Schemes)
		raw, digests := newSigner(t, k, "ECDSA_SHA_256", Raw), newSigner(t, k, "ECDSA_SHA_256", Digest)
		for _, v := range g.Tests {
			tests++
			digest := sha256.Sum256(unhex(t, v.Msg))
			for _, err := range []error{raw.Verify(unhex(t, v.Sig), unhex(t, v.Msg)), digests.Verify(unhex(t, v.Sig), digest[:])} {
				if v.Result == "valid" {
					require.NoError(t, err, "test %d", v.TcID)
				} else {
					require.ErrorIs(t, err, ErrVerify, "test %d", v.TcID)
				}
			}
		}
	}
	require.Equal(t, file.NumberOfTests, tests)
	require.NotZero(t, tests)
}

func TestSecp256k1AndOpenSSLVerifyEachOther(t *testing.T) {
	private := openssl(t, "", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-pkeyopt", "ec_param_enc:named_curve", "-outform", "DER")
	private = openssl(t, string(private), "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER")
	material, err := ECDSASecp256k1().Import(private)
	require.NoError(t, err)
	key := parse(t, ECDSASecp256k1(), material).(SigningKey)
	signer := newSigner(t, key, "ECDSA_SHA_256", Raw)
	public := openssl(t, string(material), "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
	require.Equal(t, public, key.PublicKey())

	for range 20 { // half of its signatures have the larger s
		theirs := openssl(t, "message", "dgst", "-sha256", "-keyform", "DER", "-sign", tempFile(t, material))
		require.NoError(t, signer.Verify(theirs, []byte("message")))
	}
	ours, err := signer.Sign([]byte("message"))
	require.NoError(t, err)
	verdict := openssl(t, "message", "dgst", "-sha256", "-keyform", "DER", "-verify", tempFile(t, public), "-signature", tempFile(t, ours))
	require.Equal(t, "Verified OK\n", string(verdict))
}

func TestSecp256k1ErasesItsKeyAfterTheLastCall(t *testing.T) {
	key := parse(t, ECDSASecp256k1(), generate(t, ECDSASecp256k1())).(*signingKey[secp256k1Key])
	private := key.p.Load().private
	key.Destroy()
	requireSoon(t, func() bool { return private.Expose() == nil })
	runtime.KeepAlive(key)
}

func FuzzParseSecp256k1(f *testing.F) { fuzzParse(f, secp256k1Subjects()) }

func BenchmarkSecp256k1(b *testing.B) {
	key := parse(b, ECDSASecp256k1(), generate(b, ECDSASecp256k1())).(*signingKey[secp256k1Key])
	k, signer, digest := key.p.Load(), newSigner(b, key, "ECDSA_SHA_256", Digest), randomBytes(32)
	private := secp256k1.PrivKeyFromBytes(k.private.Expose())
	signature, err := signer.Sign(digest)
	require.NoError(b, err)
	b.Run("Sign", func(b *testing.B) {
		benchtest.Compare(b, func() { secp256k1ecdsa.Sign(private, digest).Serialize() }, func() { signer.Sign(digest) })
	})
	b.Run("Verify", func(b *testing.B) {
		benchtest.Compare(b, func() {
			s, _ := secp256k1ecdsa.ParseDERSignature(signature)
			s.Verify(digest, k.public)
		}, func() { signer.Verify(signature, digest) })
	})
}
