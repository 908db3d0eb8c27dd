package crypto

import (
	"bytes"
	stdcrypto "crypto"
	stdecdsa "crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
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

// The structures as RFC 5208 and RFC 5915 have them, and some room for what they should not have.
type (
	privateKeyInfo struct {
		Version    int
		Algorithm  algorithmIdentifier
		PrivateKey []byte
		Attributes asn1.RawValue `asn1:"optional"`
		Extra      asn1.RawValue `asn1:"optional"`
	}
	algorithmIdentifier struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
		Extra      asn1.RawValue `asn1:"optional"`
	}
	ecPrivateKey struct {
		Version    int
		PrivateKey []byte
		Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
		Extra      asn1.RawValue         `asn1:"optional"`
	}
)

// craft is the material of private after the changes.
func craft(t testing.TB, private *stdecdsa.PrivateKey, change func(*privateKeyInfo, *ecPrivateKey)) []byte {
	t.Helper()
	var info privateKeyInfo
	var key ecPrivateKey
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	_, err = asn1.Unmarshal(der, &info)
	require.NoError(t, err)
	_, err = asn1.Unmarshal(info.PrivateKey, &key)
	require.NoError(t, err)
	plain := info.PrivateKey
	change(&info, &key)
	if bytes.Equal(plain, info.PrivateKey) {
		info.PrivateKey, err = asn1.Marshal(key)
		require.NoError(t, err)
	}
	der, err = asn1.Marshal(info)
	require.NoError(t, err)
	return der
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	require.NoError(t, err)
	return der
}

// outerPublic is the public key of an RFC 5958 OneAsymmetricKey.
func outerPublic(t testing.TB, public []byte) asn1.RawValue {
	t.Helper()
	return asn1.RawValue{FullBytes: mustMarshal(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: append([]byte{0}, public...)})}
}

func explicit(t testing.TB, tag int, content []byte) asn1.RawValue {
	t.Helper()
	return asn1.RawValue{FullBytes: mustMarshal(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content})}
}

var (
	null       = asn1.RawValue{FullBytes: []byte{5, 0}}
	attributes = asn1.RawValue{FullBytes: []byte{0xa0, 0}}
)

func invalidEC(t *testing.T, material []byte) [][]byte {
	private := readEC(t, material)
	curve := private.Curve
	size := (curve.Params().BitSize + 7) / 8
	other, err := stdecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	otherPublic, err := other.PublicKey.Bytes()
	require.NoError(t, err)

	ownPublic, err := private.PublicKey.Bytes()
	require.NoError(t, err)

	all := [][]byte{
		append(bytes.Clone(material), 0),
		append(bytes.Clone(material), material...),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: material}),
	}
	for _, change := range []func(*privateKeyInfo, *ecPrivateKey){
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = 1 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = 2 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = -1 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Extra = outerPublic(t, ownPublic) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, otherPublic) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, nil) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, ownPublic[1:]) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Extra = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.PrivateKey = append(bytes.Clone(i.PrivateKey), 0) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.PrivateKey = []byte{} },
		func(i *privateKeyInfo, _ *ecPrivateKey) {
			i.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 3, 132, 1, 12}
		}, // id-ecDH
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Parameters = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Parameters = asn1.RawValue{} },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Extra = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) { // secp256k1
			i.Algorithm.Parameters = asn1.RawValue{FullBytes: mustMarshal(t, asn1.ObjectIdentifier{1, 3, 132, 0, 10})}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Version = 0 },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Version = 2 },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Extra = null },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Parameters = asn1.ObjectIdentifier{1, 3, 132, 0, 10} },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = append([]byte{0}, k.PrivateKey...) },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = k.PrivateKey[1:] },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = []byte{} },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = make([]byte, size) },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey = curve.Params().N.FillBytes(make([]byte, size))
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = bytes.Repeat([]byte{0xff}, size) },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PublicKey = asn1.BitString{Bytes: otherPublic, BitLength: 8 * len(otherPublic)}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey.Bytes = flip(k.PublicKey.Bytes, 8) },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey.BitLength-- },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey = asn1.BitString{Bytes: []byte{0}, BitLength: 8} },
		func(i *privateKeyInfo, k *ecPrivateKey) { // more than the curve in [0]
			k.PublicKey = asn1.BitString{}
			k.Extra = explicit(t, 0, append(bytes.Clone(i.Algorithm.Parameters.FullBytes), null.FullBytes...))
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { // more than the public key in [1]
			k.Extra = explicit(t, 1, append(mustMarshal(t, k.PublicKey), null.FullBytes...))
			k.PublicKey = asn1.BitString{}
		},
	} {
		all = append(all, craft(t, private, change))
	}

	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for _, key := range []any{edwards, rsaKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		all = append(all, der)
	}
	sec1, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	require.NoError(t, err)
	all = append(all, sec1, spki)
	for _, r := range ecdsaRows {
		if r.family.(nistFamily).curve != curve {
			der, err := r.family.Generate()
			require.NoError(t, err)
			all = append(all, der)
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
				material := craft(t, readEC(t, generate(t, r.family)), change)
				private := readEC(t, material)
				public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
				require.NoError(t, err)
				require.Equal(t, public, parse(t, r.family, material).(SigningKey).PublicKey())

				stored, err := r.family.Import(material)
				require.NoError(t, err)
				full := craft(t, private, func(_ *privateKeyInfo, k *ecPrivateKey) { k.Parameters = curveOID(t, r.family) })
				require.Equal(t, full, stored)
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

// verifyOnly returns a key that cannot sign, as no material makes it.
func verifyOnly(t *testing.T, family Family, public *stdecdsa.PublicKey) Key {
	t.Helper()
	f := family.(nistFamily)
	require.Equal(t, f.curve, elliptic.Curve(public.Curve))
	k, err := f.newKey(&stdecdsa.PrivateKey{PublicKey: *public, D: big.NewInt(1)}, nil)
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
