package crypto

import (
	"crypto/sha3"
	"runtime"
	"testing"

	stdmldsa "filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/cloudflare/circl/sign"
	circl44 "github.com/cloudflare/circl/sign/mldsa/mldsa44"
	circl65 "github.com/cloudflare/circl/sign/mldsa/mldsa65"
	circl87 "github.com/cloudflare/circl/sign/mldsa/mldsa87"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

const mldsaAlgorithmName = "ML_DSA_SHAKE_256"

var mldsaRows = []struct {
	name                        string
	family                      Family
	publicBytes, signatureBytes int
	scheme                      sign.Scheme
}{
	{"44", MLDSA44(), 1312, 2420, circl44.Scheme()},
	{"65", MLDSA65(), 1952, 3309, circl65.Scheme()},
	{"87", MLDSA87(), 2592, 4627, circl87.Scheme()},
}

func mldsaSubjects() []subject {
	var all []subject
	for i, r := range mldsaRows {
		all = append(all, subject{
			name:       "ML-DSA-" + r.name,
			family:     r.family,
			algorithms: []string{mldsaAlgorithmName},
			step:       65,
			secret:     func(_ *testing.T, material []byte) []byte { return material[len(material)-32:] },
			invalid: func(t *testing.T, material []byte) [][]byte {
				return append(invalidSeed(t, r.family, material), generate(t, mldsaRows[(i+1)%3].family), generate(t, MLKEM512()))
			},
		})
	}
	return all
}

// mldsaMu computes mu from an encoded public key: FIPS 204, algorithms 2 and 7.
func mldsaMu(public, context, message []byte) []byte {
	tr := sha3.SumSHAKE256(public, 64)
	hash := sha3.NewSHAKE256()
	hash.Write(tr)
	hash.Write([]byte{0, byte(len(context))})
	hash.Write(context)
	hash.Write(message)
	mu := make([]byte, 64)
	hash.Read(mu)
	return mu
}

func TestMLDSASizes(t *testing.T) {
	for _, r := range mldsaRows {
		material := generate(t, r.family)
		require.Len(t, material, 54)
		key := parse(t, r.family, material).(SigningKey)
		public, err := readSPKI(key.PublicKey(), r.family.(mldsaFamily).algorithm)
		require.NoError(t, err)
		require.Len(t, public, r.publicBytes)
		signature, err := newSigner(t, key, mldsaAlgorithmName, Raw).Sign(nil)
		require.NoError(t, err)
		require.Len(t, signature, r.signatureBytes)
		_, err = key.Signer(mldsaAlgorithmName, Digest)
		require.ErrorIs(t, err, ErrMessageType)
		_, err = key.Signer("ML_DSA_44", Raw)
		require.ErrorIs(t, err, ErrAlgorithm)
	}
}

func TestMLDSAIsEncodedAsInRFC9881(t *testing.T) {
	for _, r := range mldsaRows {
		material := generate(t, r.family)
		private, err := mldsax509.ParsePKCS8PrivateKey(material)
		require.NoError(t, err)
		spki, err := mldsax509.MarshalPKIXPublicKey(private.(*stdmldsa.PrivateKey).PublicKey())
		require.NoError(t, err)
		require.Equal(t, spki, parse(t, r.family, material).(SigningKey).PublicKey())
	}
}

func TestMLDSAMessagesAndMuAreInterchangeable(t *testing.T) {
	for _, r := range mldsaRows {
		key := parse(t, r.family, generate(t, r.family)).(SigningKey)
		raw, external := newSigner(t, key, mldsaAlgorithmName, Raw), newSigner(t, key, mldsaAlgorithmName, ExternalMu)
		public, err := readSPKI(key.PublicKey(), r.family.(mldsaFamily).algorithm)
		require.NoError(t, err)
		mu := mldsaMu(public, nil, []byte("message"))
		for range 10 {
			ofMessage, err := raw.Sign([]byte("message"))
			require.NoError(t, err)
			require.NoError(t, external.Verify(ofMessage, mu))
			ofMu, err := external.Sign(mu)
			require.NoError(t, err)
			require.NoError(t, raw.Verify(ofMu, []byte("message")))
			require.NotEqual(t, ofMessage, ofMu, "signatures are randomized")
			require.ErrorIs(t, raw.Verify(ofMu, mu), ErrVerify)
		}
	}
}

// Verification of mu must agree with the file, and so with verification of messages, on every
// signature with any context.
func TestMLDSAWycheproof(t *testing.T) {
	for _, r := range mldsaRows {
		t.Run(r.name, func(t *testing.T) {
			var file struct {
				NumberOfTests int
				TestGroups    []struct {
					PublicKey string
					Tests     []struct {
						TcID                  int
						Msg, Ctx, Sig, Result string
					}
				}
			}
			readVectors(t, "mldsa_"+r.name+"_verify_test.json", &file)
			f := r.family.(mldsaFamily)
			tests, valid := 0, 0
			for _, g := range file.TestGroups {
				encoded := unhex(t, g.PublicKey)
				public, err := stdmldsa.NewPublicKey(f.parameters(), encoded)
				if err != nil {
					for _, v := range g.Tests {
						tests++
						require.Equal(t, "invalid", v.Result)
						require.False(t, f.verifyMu(encoded, mldsaMu(encoded, nil, unhex(t, v.Msg)), unhex(t, v.Sig)))
					}
					continue
				}
				key := newSigningKey(&mldsaKey{f.mldsaSet, nil, public}, nil, mldsaSchemes)
				raw, external := newSigner(t, key, mldsaAlgorithmName, Raw), newSigner(t, key, mldsaAlgorithmName, ExternalMu)
				for _, v := range g.Tests {
					tests++
					context, message, signature := unhex(t, v.Ctx), unhex(t, v.Msg), unhex(t, v.Sig)
					if len(context) > 255 {
						require.Equal(t, "invalid", v.Result)
						continue
					}
					errs := []error{external.Verify(signature, mldsaMu(encoded, context, message))}
					if len(context) == 0 {
						errs = append(errs, raw.Verify(signature, message))
					} else {
						require.ErrorIs(t, raw.Verify(signature, message), ErrVerify, "test %d", v.TcID)
					}
					for _, err := range errs {
						if v.Result == "valid" {
							valid++
							require.NoError(t, err, "test %d", v.TcID)
						} else {
							require.ErrorIs(t, err, ErrVerify, "test %d", v.TcID)
						}
					}
				}
			}
			require.Equal(t, file.NumberOfTests, tests)
			require.NotZero(t, valid)
		})
	}
}

// The vectors are deterministic signatures; ours are randomized, so the module makes these.
func TestMLDSAKeysAreThoseOfWycheproof(t *testing.T) {
	for _, r := range mldsaRows {
		var file struct {
			TestGroups []struct {
				PrivateKeyPkcs8, PublicKey string
				Tests                      []struct{ Msg, Ctx, Sig, Result string }
			}
		}
		readVectors(t, "mldsa_"+r.name+"_sign_seed_test.json", &file)
		tests := 0
		for _, g := range file.TestGroups {
			if g.PrivateKeyPkcs8 == "" {
				continue
			}
			material := unhex(t, g.PrivateKeyPkcs8)
			stored, err := r.family.Import(material)
			require.NoError(t, err)
			require.Equal(t, material, stored)
			key := parse(t, r.family, stored).(*signingKey[mldsaKey])
			require.Equal(t, unhex(t, g.PublicKey), key.p.Load().public.Bytes())
			for _, v := range g.Tests {
				if v.Ctx != "" || v.Result != "valid" {
					continue
				}
				tests++
				signature, err := key.p.Load().private.Load().SignDeterministic(unhex(t, v.Msg), nil)
				require.NoError(t, err)
				require.Equal(t, unhex(t, v.Sig), signature)
				require.NoError(t, newSigner(t, key, mldsaAlgorithmName, Raw).Verify(signature, unhex(t, v.Msg)))
			}
		}
		require.NotZero(t, tests)
	}
}

func TestMLDSAAndCIRCLVerifyEachOther(t *testing.T) {
	for _, r := range mldsaRows {
		material := generate(t, r.family)
		signer := newSigner(t, parse(t, r.family, material), mldsaAlgorithmName, Raw)
		public, private := r.scheme.DeriveKey(material[len(material)-32:])
		require.NoError(t, signer.Verify(r.scheme.Sign(private, []byte("message"), nil), []byte("message")))
		signature, err := signer.Sign([]byte("message"))
		require.NoError(t, err)
		require.True(t, r.scheme.Verify(public, []byte("message"), signature, nil))
	}
}

func TestMLDSAErasesItsKeyAfterTheLastCall(t *testing.T) {
	key := parse(t, MLDSA44(), generate(t, MLDSA44())).(*signingKey[mldsaKey])
	pointer := key.p.Load().private
	private := pointer.Load()
	key.Destroy()
	requireSoon(t, func() bool { return pointer.Load() == nil })
	require.True(t, *private == stdmldsa.PrivateKey{})
	runtime.KeepAlive(key)
}

func FuzzParseMLDSA(f *testing.F) { fuzzParse(f, mldsaSubjects()) }

// FuzzVerifyMu compares the two verifications on forged signatures.
func FuzzVerifyMu(f *testing.F) {
	private, err := stdmldsa.NewPrivateKey(stdmldsa.MLDSA44(), make([]byte, 32))
	require.NoError(f, err)
	public := private.PublicKey()
	signature, err := private.SignDeterministic([]byte("message"), nil)
	require.NoError(f, err)
	f.Add(signature)
	f.Add(signature[1:])
	f.Fuzz(func(t *testing.T, signature []byte) {
		mu := mldsaMu(public.Bytes(), nil, []byte("message"))
		require.Equal(t, stdmldsa.Verify(public, []byte("message"), signature, nil) == nil, mldsa44.verifyMu(public.Bytes(), mu, signature))
	})
}

func BenchmarkMLDSA(b *testing.B) {
	for _, r := range mldsaRows {
		key := parse(b, r.family, generate(b, r.family)).(*signingKey[mldsaKey])
		k := key.p.Load()
		raw, external := newSigner(b, key, mldsaAlgorithmName, Raw), newSigner(b, key, mldsaAlgorithmName, ExternalMu)
		message := randomBytes(32)
		mu := mldsaMu(k.public.Bytes(), nil, message)
		signature, err := raw.Sign(message)
		require.NoError(b, err)
		verify := func() { stdmldsa.Verify(k.public, message, signature, nil) }
		run := func(name string, floor, operation func()) {
			b.Run(r.name+"/"+name, func(b *testing.B) { benchtest.Compare(b, floor, operation) })
		}
		run("Sign", func() { k.private.Load().Sign(nil, message, nil) }, func() { raw.Sign(message) })
		run("SignMu", func() { k.private.Load().Sign(nil, mu, mldsacrypto.MLDSAMu) }, func() { external.Sign(mu) })
		run("Verify", verify, func() { raw.Verify(signature, message) })
		run("VerifyMu", verify, func() { external.Verify(signature, mu) })
	}
}
