package crypto

import (
	"bytes"
	stdcrypto "crypto"
	"crypto/rand"
	stdrsa "crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

var rsaRows = []struct {
	bits              int
	signing, decrypts Family
	pair              func() ([2][]byte, error)
}{
	{2048, RSASSA2048(), RSAES2048(), rsaPair(RSASSA2048())},
	{3072, RSASSA3072(), RSAES3072(), rsaPair(RSASSA3072())},
	{4096, RSASSA4096(), RSAES4096(), rsaPair(RSASSA4096())},
}

// rsaPair returns a new key and one of Wycheproof, for all tests: RSA-4096 takes seconds to
// generate.
func rsaPair(family Family) func() ([2][]byte, error) {
	return sync.OnceValues(func() (pair [2][]byte, err error) {
		var file struct {
			TestGroups []struct{ PrivateKeyPkcs8 string }
		}
		f, err := wycheproof.TestVectors.Open(fmt.Sprintf("rsa_oaep_%d_sha256_mgf1sha256_test.json", family.(rsaFamily).bits))
		if err != nil {
			return pair, err
		}
		defer f.Close()
		if err = json.NewDecoder(f).Decode(&file); err != nil {
			return pair, err
		}
		if pair[1], err = hex.DecodeString(file.TestGroups[0].PrivateKeyPkcs8); err != nil {
			return pair, err
		}
		pair[0], err = family.Generate()
		return pair, err
	})
}

var (
	rsaSigningAlgorithms = []string{
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	}
	rsaEncryptionAlgorithms = []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
)

func rsaSubjects() []subject {
	var all []subject
	for _, r := range rsaRows {
		s := subject{
			step: r.bits/32 + 1,
			pair: func(t testing.TB) [2][]byte {
				pair, err := r.pair()
				require.NoError(t, err)
				return pair
			},
			secret:  func(t *testing.T, material []byte) []byte { return readRSA(t, material).D.Bytes() },
			invalid: invalidRSA,
		}
		s.name, s.family, s.algorithms = fmt.Sprint("RSASSA ", r.bits), r.signing, rsaSigningAlgorithms
		all = append(all, s)
		s.name, s.family, s.algorithms = fmt.Sprint("RSAES ", r.bits), r.decrypts, rsaEncryptionAlgorithms
		all = append(all, s)
	}
	return all
}

func readRSA(t testing.TB, material []byte) *stdrsa.PrivateKey {
	t.Helper()
	private, err := x509.ParsePKCS8PrivateKey(material)
	require.NoError(t, err)
	return private.(*stdrsa.PrivateKey)
}

// rsaPrivateKey is RFC 8017's structure, with room for what it should not have.
type rsaPrivateKey struct {
	Version                     int
	N, E, D, P, Q, DP, DQ, QInv *big.Int
	Extra                       asn1.RawValue `asn1:"optional"`
}

// craftRSA returns the material of a key after the change.
func craftRSA(t testing.TB, material []byte, change func(*privateKeyInfo, *rsaPrivateKey)) []byte {
	t.Helper()
	var info privateKeyInfo
	var key rsaPrivateKey
	_, err := asn1.Unmarshal(material, &info)
	require.NoError(t, err)
	_, err = asn1.Unmarshal(info.PrivateKey, &key)
	require.NoError(t, err)
	plain := info.PrivateKey
	change(&info, &key)
	if bytes.Equal(plain, info.PrivateKey) {
		info.PrivateKey = mustMarshal(t, key)
	}
	return mustMarshal(t, info)
}

func add(n *big.Int, d int64) *big.Int { return new(big.Int).Add(n, big.NewInt(d)) }

func invalidRSA(t *testing.T, material []byte) [][]byte {
	all := [][]byte{
		append(bytes.Clone(material), 0),
		append(bytes.Clone(material), material...),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: material}),
		x509.MarshalPKCS1PrivateKey(readRSA(t, material)),
		generate(t, ECDSAP256()),
		multiPrimeRSA(t),
	}
	spki, err := x509.MarshalPKIXPublicKey(&readRSA(t, material).PublicKey)
	require.NoError(t, err)
	all = append(all, spki)
	for _, change := range []func(*privateKeyInfo, *rsaPrivateKey){
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Version = 1 },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, []byte{0}) },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Extra = null },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.PrivateKey = append(bytes.Clone(i.PrivateKey), 0) },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.PrivateKey = []byte{} },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Algorithm.Parameters = asn1.RawValue{} },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Algorithm.Extra = null },
		func(i *privateKeyInfo, _ *rsaPrivateKey) { // id-RSASSA-PSS
			i.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
		},
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.Version = 1 },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.Extra = null },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.N = add(k.N, 2) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.N = new(big.Int).Neg(k.N) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.N = new(big.Int).Rsh(k.N, 1) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.E = add(k.E, 2) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.E = big.NewInt(1) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.E = big.NewInt(0) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.E = new(big.Int).Lsh(big.NewInt(1), 64) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.D = add(k.D, 2) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.D = big.NewInt(0) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.P = add(k.P, 2) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.P, k.Q = k.N, big.NewInt(1) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.P = k.Q },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.P, k.Q = k.Q, k.P }, // but not the CRT values
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.DP = add(k.DP, 1) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.DQ = add(k.DQ, 1) },
		func(_ *privateKeyInfo, k *rsaPrivateKey) { k.QInv = add(k.QInv, 1) },
	} {
		all = append(all, craftRSA(t, material, change))
	}
	for _, r := range rsaRows {
		if r.bits != readRSA(t, material).N.BitLen() {
			pair, err := r.pair()
			require.NoError(t, err)
			all = append(all, pair[0])
		}
	}
	return all
}

// multiPrimeRSA returns a valid RSA key of three primes.
func multiPrimeRSA(t *testing.T) []byte {
	t.Helper()
	var file struct {
		TestGroups []struct{ PrivateKeyPkcs8 string }
	}
	readVectors(t, "rsa_three_primes_oaep_2048_sha1_mgf1sha1_test.json", &file)
	return unhex(t, file.TestGroups[0].PrivateKeyPkcs8)
}

// RSA with these numbers works, so only a test of the primes notices them.
func TestRSAImportRefusesBadPrimes(t *testing.T) {
	// A Carmichael number (6k+1)(12k+1)(18k+1): RSA works with it as if it were prime.
	k, _ := new(big.Int).SetString(carmichael, 16)
	p := big.NewInt(1)
	for _, factor := range []int64{6, 12, 18} {
		p.Mul(p, add(new(big.Int).Mul(k, big.NewInt(factor)), 1))
	}
	require.Equal(t, 1024, p.BitLen())

	for name, primes := range map[string]func() (p, q *big.Int){
		"a Carmichael number": func() (*big.Int, *big.Int) { return p, rsaPrime(t, 1024) },
		"as second prime":     func() (*big.Int, *big.Int) { return rsaPrime(t, 1024), p },
		"primes of very different lengths": func() (*big.Int, *big.Int) {
			return rsaPrime(t, 1984), rsaPrime(t, 64)
		},
	} {
		t.Run(name, func(t *testing.T) {
			material := craftPrimes(t, primes)
			key := parse(t, RSASSA2048(), material)
			signer := newSigner(t, key, "RSASSA_PSS_SHA_256", Raw)
			signature, err := signer.Sign(nil)
			require.NoError(t, err)
			require.NoError(t, signer.Verify(signature, nil))

			stored, err := RSASSA2048().Import(material)
			require.ErrorIs(t, err, ErrMaterial)
			require.Nil(t, stored)
		})
	}
}

const carmichael = "378958b6b77091d05d34bd53c99adb78d6a5bd398cb6df446da4ac2e2d1db788f9eb3fd483fce209a3d5a"

func rsaPrime(t *testing.T, bits int) *big.Int {
	t.Helper()
	prime, err := rand.Prime(rand.Reader, bits)
	require.NoError(t, err)
	return prime
}

// craftPrimes returns the RSA-2048 key of two numbers, whether prime or not.
func craftPrimes(t *testing.T, primes func() (p, q *big.Int)) []byte {
	t.Helper()
	for {
		p, q := primes()
		e, n := big.NewInt(65537), new(big.Int).Mul(p, q)
		d := new(big.Int).ModInverse(e, new(big.Int).Mul(add(p, -1), add(q, -1)))
		if n.BitLen() != 2048 || d == nil {
			continue
		}
		return craftRSA(t, rsaSubjects()[0].generate(t), func(_ *privateKeyInfo, k *rsaPrivateKey) {
			k.N, k.E, k.D, k.P, k.Q = n, e, d, p, q
			k.DP, k.DQ = new(big.Int).Mod(d, add(p, -1)), new(big.Int).Mod(d, add(q, -1))
			k.QInv = new(big.Int).ModInverse(q, p)
		})
	}
}

func TestRSAImportsWhatIsValid(t *testing.T) {
	material := rsaSubjects()[0].generate(t)
	private := readRSA(t, material)
	canonical, err := RSAES2048().Import(material)
	require.NoError(t, err)
	require.Positive(t, readRSA(t, canonical).Primes[0].Cmp(readRSA(t, canonical).Primes[1]))
	for name, change := range map[string]func(*privateKeyInfo, *rsaPrivateKey){
		"attributes": func(i *privateKeyInfo, _ *rsaPrivateKey) { i.Attributes = attributes },
		"the smaller prime first": func(_ *privateKeyInfo, k *rsaPrivateKey) {
			k.P, k.Q, k.DP, k.DQ = k.Q, k.P, k.DQ, k.DP
			k.QInv = new(big.Int).ModInverse(k.Q, k.P)
		},
		"a larger private exponent": func(_ *privateKeyInfo, k *rsaPrivateKey) {
			k.D = new(big.Int).ModInverse(k.E, new(big.Int).Mul(add(k.P, -1), add(k.Q, -1)))
		},
	} {
		stored, err := RSAES2048().Import(craftRSA(t, material, change))
		require.NoError(t, err, name)
		require.True(t, readRSA(t, stored).PublicKey.Equal(&private.PublicKey), name)
		require.True(t, bytes.Equal(canonical, stored), "%s: the same key has the same stored form", name)
		parse(t, RSAES2048(), stored)
	}
}

func TestRSAMessagesAndDigestsAreInterchangeable(t *testing.T) {
	for _, s := range rsaSubjects() {
		key, ok := s.parse(t, s.generate(t)).(SigningKey)
		if !ok {
			continue
		}
		for _, a := range s.algorithms {
			requireInterchangeable(t, key, a, rsaHash(a))
		}
	}
}

func rsaHash(algorithm string) stdcrypto.Hash {
	switch algorithm[len(algorithm)-3:] {
	case "384":
		return stdcrypto.SHA384
	case "512":
		return stdcrypto.SHA512
	}
	return stdcrypto.SHA256
}

func TestRSAKeysHaveOnlyTheAlgorithmsOfTheirUse(t *testing.T) {
	subjects := rsaSubjects()
	signing := subjects[0].parse(t, subjects[0].generate(t)).(SigningKey)
	decrypting := subjects[1].parse(t, subjects[1].generate(t)).(DecryptionKey)
	for _, a := range append(rsaEncryptionAlgorithms, "", "ECDSA_SHA_256", "RSASSA_PSS_SHA_1", "RSASSA_PSS") {
		_, err := signing.Signer(a, Raw)
		require.ErrorIs(t, err, ErrAlgorithm)
	}
	for _, a := range append(rsaSigningAlgorithms, "", "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_512", "RSAES_PKCS1_V1_5") {
		_, err := decrypting.Encrypt(a, nil)
		require.ErrorIs(t, err, ErrAlgorithm)
		_, err = decrypting.Decrypt(a, nil)
		require.ErrorIs(t, err, ErrAlgorithm)
	}
	require.NotImplements(t, (*DecryptionKey)(nil), signing)
	require.NotImplements(t, (*SigningKey)(nil), decrypting)
}

// The longest plaintexts, from the documentation of KMS.
func TestRSAESPlaintextsHaveTheLengthsOfKMS(t *testing.T) {
	for i, longest := range [][2]int{{214, 190}, {342, 318}, {470, 446}} {
		pair, err := rsaRows[i].pair()
		require.NoError(t, err)
		key := parse(t, rsaRows[i].decrypts, pair[0]).(DecryptionKey)
		for j, a := range rsaEncryptionAlgorithms {
			for _, n := range []int{0, 1, longest[j]} {
				plaintext := randomBytes(n)
				ciphertext, err := key.Encrypt(a, plaintext)
				require.NoError(t, err)
				require.Len(t, ciphertext, rsaRows[i].bits/8)
				opened, err := key.Decrypt(a, ciphertext)
				require.NoError(t, err)
				require.True(t, bytes.Equal(plaintext, opened))
				_, err = key.Decrypt(rsaEncryptionAlgorithms[1-j], ciphertext)
				require.ErrorIs(t, err, ErrDecrypt, "by another algorithm")
			}
			maximum, err := key.MaxPlaintext(a)
			require.NoError(t, err)
			require.Equal(t, longest[j], maximum)
			_, err = key.Encrypt(a, make([]byte, longest[j]+1))
			require.ErrorIs(t, err, ErrLength)
		}
	}
}

func TestRSASSAWycheproof(t *testing.T) {
	for name, algorithm := range map[string]string{
		"rsa_pss_2048_sha256_mgf1_32_test.json": "RSASSA_PSS_SHA_256",
		"rsa_pss_2048_sha384_mgf1_48_test.json": "RSASSA_PSS_SHA_384",
		"rsa_pss_3072_sha256_mgf1_32_test.json": "RSASSA_PSS_SHA_256",
		"rsa_pss_4096_sha256_mgf1_32_test.json": "RSASSA_PSS_SHA_256",
		"rsa_pss_4096_sha384_mgf1_48_test.json": "RSASSA_PSS_SHA_384",
		"rsa_pss_4096_sha512_mgf1_64_test.json": "RSASSA_PSS_SHA_512",
		"rsa_signature_2048_sha256_test.json":   "RSASSA_PKCS1_V1_5_SHA_256",
		"rsa_signature_2048_sha384_test.json":   "RSASSA_PKCS1_V1_5_SHA_384",
		"rsa_signature_2048_sha512_test.json":   "RSASSA_PKCS1_V1_5_SHA_512",
		"rsa_signature_3072_sha256_test.json":   "RSASSA_PKCS1_V1_5_SHA_256",
		"rsa_signature_3072_sha384_test.json":   "RSASSA_PKCS1_V1_5_SHA_384",
		"rsa_signature_3072_sha512_test.json":   "RSASSA_PKCS1_V1_5_SHA_512",
		"rsa_signature_4096_sha256_test.json":   "RSASSA_PKCS1_V1_5_SHA_256",
		"rsa_signature_4096_sha384_test.json":   "RSASSA_PKCS1_V1_5_SHA_384",
		"rsa_signature_4096_sha512_test.json":   "RSASSA_PKCS1_V1_5_SHA_512",
	} {
		t.Run(name, func(t *testing.T) { testRSASSAWycheproof(t, name, algorithm, nil) })
	}
}

// KMS neither makes nor accepts salts that are not as long as the digest.
func TestRSASSARefusesPSSSaltsOfOtherLengths(t *testing.T) {
	testRSASSAWycheproof(t, "rsa_pss_2048_sha256_mgf1_0_test.json", "RSASSA_PSS_SHA_256",
		func(comment, _ string) bool { return comment == "s_len changed to 32" })
}

// testRSASSAWycheproof verifies a file's signatures. valid reports whether one must verify; nil
// means those with the result "valid". The "acceptable" ones have a DigestInfo without NULL.
func testRSASSAWycheproof(t *testing.T, name, algorithm string, valid func(comment, result string) bool) {
	t.Helper()
	if valid == nil {
		valid = func(_, result string) bool { return result == "valid" }
	}
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			PublicKeyDer string
			Tests        []struct {
				TcID                      int
				Comment, Msg, Sig, Result string
			}
		}
	}
	readVectors(t, name, &file)
	tests := 0
	for _, g := range file.TestGroups {
		public, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
		require.NoError(t, err)
		k := newRSASigningKey(&stdrsa.PrivateKey{PublicKey: *public.(*stdrsa.PublicKey)}, nil)
		raw, digests := newSigner(t, k, algorithm, Raw), newSigner(t, k, algorithm, Digest)
		for _, v := range g.Tests {
			tests++
			h := rsaHash(algorithm).New()
			h.Write(unhex(t, v.Msg))
			for _, err := range []error{raw.Verify(unhex(t, v.Sig), unhex(t, v.Msg)), digests.Verify(unhex(t, v.Sig), h.Sum(nil))} {
				if valid(v.Comment, v.Result) {
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

func TestRSASSAPKCS1SignaturesAreThoseOfWycheproof(t *testing.T) {
	for i, name := range []string{"rsa_pkcs1_2048_sig_gen_test.json", "rsa_pkcs1_3072_sig_gen_test.json", "rsa_pkcs1_4096_sig_gen_test.json"} {
		var file struct {
			TestGroups []struct {
				PrivateKeyPkcs8, Sha string
				Tests                []struct{ Msg, Sig string }
			}
		}
		readVectors(t, name, &file)
		tests := 0
		for _, g := range file.TestGroups {
			if g.Sha != "SHA-256" && g.Sha != "SHA-384" && g.Sha != "SHA-512" {
				continue
			}
			key := parse(t, rsaRows[i].signing, unhex(t, g.PrivateKeyPkcs8))
			signer := newSigner(t, key, "RSASSA_PKCS1_V1_5_SHA_"+strings.TrimPrefix(g.Sha, "SHA-"), Raw)
			for _, v := range g.Tests {
				tests++
				signature, err := signer.Sign(unhex(t, v.Msg))
				require.NoError(t, err)
				require.Equal(t, unhex(t, v.Sig), signature)
			}
		}
		require.NotZero(t, tests)
	}
}

func TestRSAESWycheproof(t *testing.T) {
	for name, c := range map[string]struct {
		algorithm string
		family    Family
	}{
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     {"RSAES_OAEP_SHA_1", RSAES2048()},
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": {"RSAES_OAEP_SHA_256", RSAES2048()},
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": {"RSAES_OAEP_SHA_256", RSAES3072()},
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": {"RSAES_OAEP_SHA_256", RSAES4096()},
	} {
		t.Run(name, func(t *testing.T) {
			var file struct {
				NumberOfTests int
				TestGroups    []struct {
					PrivateKeyPkcs8 string
					Tests           []struct {
						TcID                   int
						Msg, Ct, Label, Result string
					}
				}
			}
			readVectors(t, name, &file)
			tests := 0
			for _, g := range file.TestGroups {
				key := parse(t, c.family, unhex(t, g.PrivateKeyPkcs8)).(DecryptionKey)
				for _, v := range g.Tests {
					tests++
					plaintext, err := key.Decrypt(c.algorithm, unhex(t, v.Ct))
					if v.Result == "valid" && v.Label == "" {
						require.NoError(t, err, "test %d", v.TcID)
						require.True(t, bytes.Equal(unhex(t, v.Msg), plaintext), "test %d", v.TcID)
					} else {
						require.ErrorIs(t, err, ErrDecrypt, "test %d", v.TcID)
						require.Nil(t, plaintext)
					}
				}
			}
			require.Equal(t, file.NumberOfTests, tests)
			require.NotZero(t, tests)
		})
	}
}

func TestRSAAndOpenSSLUnderstandEachOther(t *testing.T) {
	for i, r := range rsaRows {
		pair, err := r.pair()
		require.NoError(t, err)
		material := pair[0]
		if i == 0 { // a key of OpenSSL
			theirs := openssl(t, "", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
			theirs = openssl(t, string(theirs), "pkcs8", "-topk8", "-nocrypt", "-outform", "DER")
			material, err = r.signing.Import(theirs)
			require.NoError(t, err)
		}
		signing, decrypting := parse(t, r.signing, material).(SigningKey), parse(t, r.decrypts, material).(DecryptionKey)
		public := openssl(t, string(material), "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
		require.Equal(t, public, signing.PublicKey())
		private, spki := tempFile(t, material), tempFile(t, public)

		for _, a := range rsaSigningAlgorithms {
			args := []string{"dgst", opensslHashes[rsaHash(a)], "-keyform", "DER"}
			if strings.Contains(a, "PSS") {
				args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
			}
			signer := newSigner(t, signing, a, Raw)
			require.NoError(t, signer.Verify(openssl(t, "message", append(args, "-sign", private)...), []byte("message")), a)
			ours, err := signer.Sign([]byte("message"))
			require.NoError(t, err)
			verdict := openssl(t, "message", append(args, "-verify", spki, "-signature", tempFile(t, ours))...)
			require.Equal(t, "Verified OK\n", string(verdict))
		}
		for _, a := range rsaEncryptionAlgorithms {
			hash := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(a, "RSAES_OAEP_"), "_", ""))
			args := []string{"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:" + hash, "-pkeyopt", "rsa_mgf1_md:" + hash}
			theirs := openssl(t, "plaintext", append([]string{"pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", spki}, args...)...)
			plaintext, err := decrypting.Decrypt(a, theirs)
			require.NoError(t, err)
			require.Equal(t, "plaintext", string(plaintext))
			ours, err := decrypting.Encrypt(a, []byte("plaintext"))
			require.NoError(t, err)
			opened := openssl(t, string(ours), append([]string{"pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", private}, args...)...)
			require.Equal(t, "plaintext", string(opened))
		}
	}
}

func FuzzParseRSA(f *testing.F) { fuzzParse(f, rsaSubjects()[:2]) }

func BenchmarkRSA(b *testing.B) {
	for _, r := range rsaRows {
		pair, err := r.pair()
		require.NoError(b, err)
		private := readRSA(b, pair[0])
		signer := newSigner(b, parse(b, r.signing, pair[0]), "RSASSA_PSS_SHA_256", Digest)
		key := parse(b, r.decrypts, pair[0]).(DecryptionKey)
		digest := randomBytes(32)
		signature, err := signer.Sign(digest)
		require.NoError(b, err)
		ciphertext, err := key.Encrypt("RSAES_OAEP_SHA_256", digest)
		require.NoError(b, err)
		pss := &stdrsa.PSSOptions{SaltLength: stdrsa.PSSSaltLengthEqualsHash}
		run := func(name string, floor, operation func()) {
			b.Run(fmt.Sprint(r.bits, "/", name), func(b *testing.B) { benchtest.Compare(b, floor, operation) })
		}
		run("Sign", func() { stdrsa.SignPSS(rand.Reader, private, stdcrypto.SHA256, digest, pss) }, func() { signer.Sign(digest) })
		run("Verify", func() { stdrsa.VerifyPSS(&private.PublicKey, stdcrypto.SHA256, digest, signature, pss) }, func() { signer.Verify(signature, digest) })
		run("Encrypt", func() { stdrsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, digest, nil) },
			func() { key.Encrypt("RSAES_OAEP_SHA_256", digest) })
		run("Decrypt", func() { stdrsa.DecryptOAEP(sha256.New(), nil, private, ciphertext, nil) },
			func() { key.Decrypt("RSAES_OAEP_SHA_256", ciphertext) })
	}
}

func BenchmarkRSAImport(b *testing.B) {
	pair, err := rsaRows[2].pair()
	require.NoError(b, err)
	benchtest.Compare(b, func() { rsaRows[2].signing.Parse(pair[0]) }, func() { rsaRows[2].signing.Import(pair[0]) })
}
