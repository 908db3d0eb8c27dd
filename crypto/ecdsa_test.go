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
			step:       map[string]int{"P-256": 1, "P-384": 17, "P-521": 17}[r.name],
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

// RFC 6979, appendices A.2.5 to A.2.7. Its signatures are deterministic, as those that the standard
// library makes without a random source; ours are not, but verify in the same way.
func TestECDSASignaturesOfRFC6979(t *testing.T) {
	for i, v := range []struct {
		curve        nistCurve
		private      string
		sample, test [2]string // r and s of the messages "sample" and "test"
	}{{
		nistP256, "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
		[2]string{"EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
			"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"},
		[2]string{"F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
			"019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"},
	}, {
		nistP384, "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
		[2]string{"94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
			"99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8"},
		[2]string{"8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB0542A7F0812998DA8F1DD3CA3CF023DB",
			"DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E06A739F040649A667BF3B828246BAA5A5"},
	}, {
		nistP521, "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
		[2]string{"00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA",
			"00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A"},
		[2]string{"013E99020ABF5CEE7525D16B69B229652AB6BDF2AFFCAEF38773B4B7D08725F10CDB93482FDCC54EDCEE91ECA4166B2A7C6265EF0CE2BD7051B7CEF945BABD47EE6D",
			"01FBD0013C674AA79CB39849527916CE301C66EA7CE8B80682786AD60F98F7E78A19CA69EFF5C57400E3B3A0AD66CE0978214D13BAF4E9AC60752F7B155E2DE4DCE3"},
	}} {
		row := ecdsaRows[i]
		material := craftScalar(t, v.curve.namedCurve, unhex(t, v.private))
		key := parse(t, row.family, material)
		raw, digests := newSigner(t, key, row.algorithm, Raw), newSigner(t, key, row.algorithm, Digest)
		for message, values := range map[string][2]string{"sample": v.sample, "test": v.test} {
			signature := mustMarshal(t, struct{ R, S *big.Int }{
				new(big.Int).SetBytes(unhex(t, values[0])), new(big.Int).SetBytes(unhex(t, values[1])),
			})
			h := row.hash.New()
			h.Write([]byte(message))
			digest := h.Sum(nil)
			require.NoError(t, raw.Verify(signature, []byte(message)))
			require.NoError(t, digests.Verify(signature, digest))
			require.ErrorIs(t, raw.Verify(signature, []byte("another")), ErrVerify)

			theirs, err := readEC(t, material).Sign(nil, digest, row.hash)
			require.NoError(t, err)
			require.Equal(t, signature, theirs)
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
