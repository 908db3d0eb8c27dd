package crypto

import (
	stdcrypto "crypto"
	stdecdsa "crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

var ecdsaRows = []struct {
	name, algorithm, wycheproof string
	family                      Family
	hash                        stdcrypto.Hash
}{
	{"P-256", "ECDSA_SHA_256", "ecdsa_secp256r1_sha256_test.json", ECDSAP256(), stdcrypto.SHA256},
	{"P-384", "ECDSA_SHA_384", "ecdsa_secp384r1_sha384_test.json", ECDSAP384(), stdcrypto.SHA384},
	{"P-521", "ECDSA_SHA_512", "ecdsa_secp521r1_sha512_test.json", ECDSAP521(), stdcrypto.SHA512},
}

func ecdsaSubjects() []subject {
	var all []subject
	for _, r := range ecdsaRows {
		all = append(all, subject{
			name:       "ECDSA " + r.name,
			family:     r.family,
			algorithms: []string{r.algorithm},
			step:       map[string]int{"P-256": 1, "P-384": 9, "P-521": 9}[r.name],
			secret: func(t *testing.T, material []byte) []byte {
				scalar, err := readEC(t, material).Bytes()
				require.NoError(t, err)
				return scalar
			},
			invalid: invalidEC,
		})
	}
	return all
}

func readEC(t testing.TB, material []byte) *stdecdsa.PrivateKey {
	t.Helper()
	private, err := x509.ParsePKCS8PrivateKey(material)
	require.NoError(t, err)
	return private.(*stdecdsa.PrivateKey)
}

func invalidEC(t *testing.T, material []byte) [][]byte {
	private := readEC(t, material)
	var all [][]byte
	sec1, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	all = append(all, sec1)
	for _, r := range ecdsaRows {
		if r.family.(nistFamily).curve == private.Curve {
			all = append(all, invalidOnCurve(t, r.family, r.family.(nistFamily).namedCurve, private.Params().N, material)...)
		} else {
			all = append(all, generate(t, r.family))
		}
	}
	return all
}

func TestECDSAAcceptsEveryRegularFormOfAKey(t *testing.T) {
	for _, r := range ecdsaRows {
		for name, change := range map[string]func(*privateKeyInfo, *ecPrivateKey){
			"with the curve named once":  func(*privateKeyInfo, *ecPrivateKey) {},
			"without public key":         func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey = asn1.BitString{} },
			"with the curve named twice": func(_ *privateKeyInfo, k *ecPrivateKey) { k.Parameters = curveOID(t, r.family) },
			"with a public key outside": func(i *privateKeyInfo, k *ecPrivateKey) {
				i.Version, i.Extra = 1, outerPublic(t, k.PublicKey.Bytes)
			},
			"with attributes":               func(i *privateKeyInfo, _ *ecPrivateKey) { i.Attributes = attributes },
			"with the smallest private key": func(_ *privateKeyInfo, k *ecPrivateKey) { setScalar(r.family, k, big.NewInt(1)) },
			"with the largest private key": func(_ *privateKeyInfo, k *ecPrivateKey) {
				setScalar(r.family, k, new(big.Int).Sub(r.family.(nistFamily).curve.Params().N, big.NewInt(1)))
			},
		} {
			t.Run(r.name+" "+name, func(t *testing.T) {
				material := craft(t, generate(t, r.family), change)
				private := readEC(t, material)
				public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
				require.NoError(t, err)
				require.Equal(t, public, parse(t, r.family, material).(SigningKey).PublicKey())

				stored, err := r.family.Import(material)
				require.NoError(t, err)
				scalar, err := private.Bytes()
				require.NoError(t, err)
				point, err := private.PublicKey.Bytes()
				require.NoError(t, err)
				plain := mustMarshal(t, privateKeyInfo{
					Algorithm:  algorithmIdentifier{oidECPublicKey, asn1.RawValue{FullBytes: r.family.(nistFamily).oid}, asn1.RawValue{}},
					PrivateKey: mustMarshal(t, ecPrivateKey{1, scalar, curveOID(t, r.family), asn1.BitString{Bytes: point, BitLength: 8 * len(point)}, asn1.RawValue{}}),
				})
				require.Equal(t, plain, stored)
				require.Equal(t, public, parse(t, r.family, stored).(SigningKey).PublicKey())
			})
		}
	}
}

func curveOID(t *testing.T, family Family) (oid asn1.ObjectIdentifier) {
	t.Helper()
	_, err := asn1.Unmarshal(family.(nistFamily).oid, &oid)
	require.NoError(t, err)
	return oid
}

// The lengths of the private keys that KMS returns from GenerateDataKeyPair.
func TestECPrivateKeysAreEncodedAsInKMS(t *testing.T) {
	require.Len(t, generate(t, ECDSAP256()), 150)
	require.Len(t, generate(t, ECDHP256()), 150)
}

func setScalar(family Family, k *ecPrivateKey, scalar *big.Int) {
	k.PrivateKey = scalar.FillBytes(make([]byte, len(k.PrivateKey)))
	k.PublicKey = asn1.BitString{}
}

func TestECDSAHasOneAlgorithm(t *testing.T) {
	all := []string{"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512"}
	for i, r := range ecdsaRows {
		key := parse(t, r.family, generate(t, r.family)).(SigningKey)
		for j, a := range append(all, "", "ecdsa_sha_256", "ECDSA", "RSASSA_PSS_SHA_256", "SYMMETRIC_DEFAULT") {
			signer, err := key.Signer(a, Digest)
			if i == j {
				require.NoError(t, err)
				require.Equal(t, r.hash.Size(), signer.InputSize())
			} else {
				require.ErrorIs(t, err, ErrAlgorithm)
				require.Nil(t, signer)
			}
		}
		for _, messageType := range []string{ExternalMu, "", "raw"} {
			_, err := key.Signer(r.algorithm, messageType)
			require.ErrorIs(t, err, ErrMessageType)
		}
	}
}

func TestECDSAMessagesAndDigestsAreInterchangeable(t *testing.T) {
	for _, r := range ecdsaRows {
		key := parse(t, r.family, generate(t, r.family))
		requireInterchangeable(t, key, r.algorithm, r.hash)
	}
}

// requireInterchangeable fails the test unless a signature of a message is one of its digest.
func requireInterchangeable(t *testing.T, key Key, algorithm string, hash stdcrypto.Hash) {
	t.Helper()
	raw, digests := newSigner(t, key, algorithm, Raw), newSigner(t, key, algorithm, Digest)
	message := []byte("message")
	h := hash.New()
	h.Write(message)
	digest := h.Sum(nil)

	ofMessage, err := raw.Sign(message)
	require.NoError(t, err)
	require.NoError(t, digests.Verify(ofMessage, digest))
	ofDigest, err := digests.Sign(digest)
	require.NoError(t, err)
	require.NoError(t, raw.Verify(ofDigest, message))
	require.ErrorIs(t, raw.Verify(ofDigest, digest), ErrVerify, "a digest as message is hashed again")
}

func TestEverySignerRefusesInputOfAnotherLength(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		key, ok := s.parse(t, s.generate(t)).(SigningKey)
		if !ok {
			return
		}
		for _, a := range s.algorithms {
			for _, messageType := range []string{Digest, ExternalMu} {
				signer, err := key.Signer(a, messageType)
				if err != nil {
					continue
				}
				size := signer.InputSize()
				signature, err := signer.Sign(make([]byte, size))
				require.NoError(t, err)
				for _, n := range []int{0, 1, size - 1, size + 1, 20, 1000} {
					_, err := signer.Sign(make([]byte, n))
					require.ErrorIs(t, err, ErrLength)
					require.ErrorIs(t, signer.Verify(signature, make([]byte, n)), ErrLength)
				}
			}
		}
	})
}

func TestECDSASignaturesAreRandomized(t *testing.T) {
	for _, r := range ecdsaRows {
		key := parse(t, r.family, generate(t, r.family))
		for _, messageType := range []string{Raw, Digest} {
			signer := newSigner(t, key, r.algorithm, messageType)
			one, err := signer.Sign(make([]byte, r.hash.Size()))
			require.NoError(t, err)
			two, err := signer.Sign(make([]byte, r.hash.Size()))
			require.NoError(t, err)
			require.NotEqual(t, one, two)
		}
	}
}

func TestECDSAWycheproof(t *testing.T) {
	for _, r := range ecdsaRows {
		t.Run(r.name, func(t *testing.T) {
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
			readVectors(t, r.wycheproof, &file)
			tests := 0
			for _, g := range file.TestGroups {
				public, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
				require.NoError(t, err)
				k := verifyOnly(t, r.family, public.(*stdecdsa.PublicKey))
				raw, digests := newSigner(t, k, r.algorithm, Raw), newSigner(t, k, r.algorithm, Digest)
				for _, v := range g.Tests {
					tests++
					h := r.hash.New()
					h.Write(unhex(t, v.Msg))
					for _, err := range []error{raw.Verify(unhex(t, v.Sig), unhex(t, v.Msg)), digests.Verify(unhex(t, v.Sig), h.Sum(nil))} {
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
		})
	}
}

// verifyOnly returns a key for verifying only: its private key is another one's.
func verifyOnly(t *testing.T, family Family, public *stdecdsa.PublicKey) Key {
	t.Helper()
	f := family.(nistFamily)
	require.Equal(t, f.curve, elliptic.Curve(public.Curve))
	private, err := stdecdsa.GenerateKey(f.curve, rand.Reader)
	require.NoError(t, err)
	private.PublicKey = *public
	k, err := f.newKey(private, nil)
	require.NoError(t, err)
	return k
}

func TestECDSAAndOpenSSLVerifyEachOther(t *testing.T) {
	for _, r := range ecdsaRows {
		t.Run(r.name, func(t *testing.T) {
			private := openssl(t, "", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+r.name, "-pkeyopt", "ec_param_enc:named_curve", "-outform", "DER")
			private = openssl(t, string(private), "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER")
			stored, err := r.family.Import(private)
			require.NoError(t, err)
			key := parse(t, r.family, stored).(SigningKey)
			signer := newSigner(t, key, r.algorithm, Raw)
			public := openssl(t, string(stored), "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
			require.Equal(t, public, key.PublicKey())

			hash := opensslHashes[r.hash]
			theirs := openssl(t, "message", "dgst", hash, "-keyform", "DER", "-sign", tempFile(t, private))
			require.NoError(t, signer.Verify(theirs, []byte("message")))

			ours, err := signer.Sign([]byte("message"))
			require.NoError(t, err)
			verdict := openssl(t, "message", "dgst", hash, "-keyform", "DER", "-verify", tempFile(t, public), "-signature", tempFile(t, ours))
			require.Equal(t, "Verified OK\n", string(verdict))
		})
	}
}

var opensslHashes = map[stdcrypto.Hash]string{stdcrypto.SHA256: "-sha256", stdcrypto.SHA384: "-sha384", stdcrypto.SHA512: "-sha512"}

func tempFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func FuzzParseECDSA(f *testing.F) { fuzzParse(f, ecdsaSubjects()) }

func BenchmarkECDSA(b *testing.B) {
	for _, r := range ecdsaRows {
		key := parse(b, r.family, generate(b, r.family))
		raw, digests := newSigner(b, key, r.algorithm, Raw), newSigner(b, key, r.algorithm, Digest)
		private := key.(*signingKey[ecdsa]).p.Load().private
		message := randomBytes(32)
		h := r.hash.New()
		h.Write(message)
		digest := h.Sum(nil)
		signature, err := raw.Sign(message)
		require.NoError(b, err)
		sign := func() { stdecdsa.SignASN1(rand.Reader, private, digest) }
		verify := func() { stdecdsa.VerifyASN1(&private.PublicKey, digest, signature) }

		b.Run(r.name+"/Sign", func(b *testing.B) { benchtest.Compare(b, sign, func() { raw.Sign(message) }) })
		b.Run(r.name+"/SignDigest", func(b *testing.B) { benchtest.Compare(b, sign, func() { digests.Sign(digest) }) })
		b.Run(r.name+"/Verify", func(b *testing.B) { benchtest.Compare(b, verify, func() { raw.Verify(signature, message) }) })
		b.Run(r.name+"/VerifyDigest", func(b *testing.B) { benchtest.Compare(b, verify, func() { digests.Verify(signature, digest) }) })
	}
}
