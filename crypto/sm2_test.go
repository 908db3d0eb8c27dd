package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

func sm2Subjects() []subject {
	s := subject{
		secret: ecScalar,
		invalid: func(t *testing.T, material []byte) [][]byte {
			order := sm2.P256().Params().N
			all := invalidOnCurve(t, SM2DSA(), sm2Curve, order, material)
			// The range ends one earlier than that of ECDSA, because signing divides by the private
			// key plus one.
			tooLarge := new(big.Int).Sub(order, big.NewInt(1)).FillBytes(make([]byte, 32))
			return append(all, craftScalar(t, sm2Curve, tooLarge), generate(t, ECDSAP256()))
		},
	}
	dsa, pke, ecdh := s, s, s
	dsa.name, dsa.family, dsa.algorithms = "SM2DSA", SM2DSA(), []string{"SM2DSA"}
	pke.name, pke.family, pke.algorithms, pke.maximum = "SM2PKE", SM2PKE(), []string{"SM2PKE"}, 1024
	ecdh.name, ecdh.family = "SM2 ECDH", SM2ECDH()
	return []subject{dsa, pke, ecdh}
}

func unspaced(t testing.TB, s string) []byte {
	t.Helper()
	return unhex(t, strings.Join(strings.Fields(s), ""))
}

// The key pair of GB/T 32918.5.
func sm2Example(t *testing.T) (material, point []byte) {
	t.Helper()
	return craftScalar(t, sm2Curve, unspaced(t, "3945208F 7B2144B1 3F36E38A C6D39F95 88939369 2860B51A 42FB81EF 4DF7C5B8")),
		unspaced(t, `04 09F9DF31 1E5421A1 50DD7D16 1E4BC5C6 72179FAD 1833FC07 6BB08FF3 56F35020
			CCEA490C E26775A5 2DC6EA71 8CC1AA60 0AED05FB F35E084A 6632F607 2DA9AD13`)
}

// GB/T 32918.5, appendix A.
func TestSM2DSAVector(t *testing.T) {
	material, point := sm2Example(t)
	key := parse(t, SM2DSA(), material).(SigningKey)
	spki, err := marshalSPKI(sm2Curve.algorithm, point)
	require.NoError(t, err)
	require.Equal(t, spki, key.PublicKey())

	signature := mustMarshal(t, struct{ R, S *big.Int }{
		new(big.Int).SetBytes(unspaced(t, "F5A03B06 48D2C463 0EEAC513 E1BB81A1 5944DA38 27D5B741 43AC7EAC EEE720B3")),
		new(big.Int).SetBytes(unspaced(t, "B1B6AA29 DF212FD8 763182BC 0D421CA1 BB9038FD 1F7F42D4 840B69C4 85BBC1AA")),
	})
	require.NoError(t, newSigner(t, key, "SM2DSA", Raw).Verify(signature, []byte("message digest")))
	digest := unspaced(t, "F0B43E94 BA45ACCA ACE692ED 534382EB 17E6AB5A 19CE7B31 F4486FDF C0D28640")
	require.NoError(t, newSigner(t, key, "SM2DSA", Digest).Verify(signature, digest))
}

// GB/T 32918.5, appendix C.
func TestSM2PKEVector(t *testing.T) {
	material, _ := sm2Example(t)
	ciphertext := mustMarshal(t, struct {
		X, Y   *big.Int
		C3, C2 []byte
	}{
		new(big.Int).SetBytes(unspaced(t, "04EBFC71 8E8D1798 62043226 8E77FEB6 415E2EDE 0E073C0F 4F640ECD 2E149A73")),
		new(big.Int).SetBytes(unspaced(t, "E858F9D8 1E5430A5 7B36DAAB 8F950A3C 64E6EE6A 63094D99 283AFF76 7E124DF0")),
		unspaced(t, "59983C18 F809E262 923C53AE C295D303 83B54E39 D609D160 AFCB1908 D0BD8766"),
		unspaced(t, "21886CA9 89CA9C7D 58087307 CA93092D 651EFA"),
	})
	plaintext, err := parse(t, SM2PKE(), material).(DecryptionKey).Decrypt("SM2PKE", ciphertext)
	require.NoError(t, err)
	require.Equal(t, "encryption standard", string(plaintext))
}

func TestSM2DigestsMayHaveAnotherIdentifier(t *testing.T) {
	key := parse(t, SM2DSA(), generate(t, SM2DSA())).(SigningKey)
	raw, digests := newSigner(t, key, "SM2DSA", Raw), newSigner(t, key, "SM2DSA", Digest)
	private := key.(*signingKey[sm2.PrivateKey]).p.Load()
	message := []byte("message")
	for identifier, isDefault := range map[string]bool{"1234567812345678": true, "ALICE123@YAHOO.COM": false} {
		digest, err := sm2.CalculateSM2Hash(&private.PublicKey, message, []byte(identifier))
		require.NoError(t, err)
		signature, err := digests.Sign(digest)
		require.NoError(t, err)
		require.NoError(t, digests.Verify(signature, digest))
		if isDefault {
			require.NoError(t, raw.Verify(signature, message))
			signature, err = raw.Sign(message)
			require.NoError(t, err)
			require.NoError(t, digests.Verify(signature, digest))
		} else {
			require.ErrorIs(t, raw.Verify(signature, message), ErrVerify)
		}
	}
	plain := sm3.Sum(message)
	signature, err := digests.Sign(plain[:])
	require.NoError(t, err)
	require.ErrorIs(t, raw.Verify(signature, message), ErrVerify, "SM3 of only the message is not its digest")
}

func TestSM2KeysHaveOnlyTheAlgorithmOfTheirUse(t *testing.T) {
	material := generate(t, SM2DSA())
	_, err := parse(t, SM2DSA(), material).(SigningKey).Signer("ECDSA_SHA_256", Raw)
	require.ErrorIs(t, err, ErrAlgorithm)
	_, err = parse(t, SM2PKE(), material).(DecryptionKey).Encrypt("RSAES_OAEP_SHA_256", []byte("plaintext"))
	require.ErrorIs(t, err, ErrAlgorithm)
	_, err = parse(t, SM2PKE(), material).(DecryptionKey).Decrypt("SM2DSA", nil)
	require.ErrorIs(t, err, ErrAlgorithm)
}

func TestSM2IsEncodedAsGMSMDoes(t *testing.T) {
	material := generate(t, SM2DSA())
	private, err := smx509.ParsePKCS8PrivateKey(material)
	require.NoError(t, err)
	spki, err := smx509.MarshalPKIXPublicKey(private.(*sm2.PrivateKey).Public())
	require.NoError(t, err)
	require.Equal(t, spki, parse(t, SM2DSA(), material).(SigningKey).PublicKey())
}

// The module fails about once in 256 encryptions of one byte. If this test fails, the module has
// been fixed, and Encrypt no longer has to decrypt.
func TestSM2ModuleSometimesFailsToEncryptOneByte(t *testing.T) {
	private, err := sm2.GenerateKey(rand.Reader)
	require.NoError(t, err)
	failed := false
	for range 8192 { // all succeed with probability 10^-14
		ciphertext, err := sm2.EncryptASN1(rand.Reader, &private.PublicKey, []byte{42})
		require.NoError(t, err)
		if plaintext, err := sm2.Decrypt(private, ciphertext); err != nil || !bytes.Equal(plaintext, []byte{42}) {
			failed = true
			break
		}
	}
	require.True(t, failed)
}

func TestSM2PKEEncryptsOneByteReliably(t *testing.T) {
	key := parse(t, SM2PKE(), generate(t, SM2PKE())).(DecryptionKey)
	for i := range 4096 {
		ciphertext, err := key.Encrypt("SM2PKE", []byte{byte(i)})
		require.NoError(t, err)
		plaintext, err := key.Decrypt("SM2PKE", ciphertext)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i)}, plaintext)
	}
}

func TestSM2PKERefusesPlaintextsThatKMSDoesNotTake(t *testing.T) {
	key := parse(t, SM2PKE(), generate(t, SM2PKE())).(DecryptionKey)
	for _, n := range []int{0, 1025, 6000} {
		_, err := key.Encrypt("SM2PKE", make([]byte, n))
		require.ErrorIs(t, err, ErrLength)
	}
}

func TestSM2PKEDecryptsOnlyDER(t *testing.T) {
	material := generate(t, SM2PKE())
	key := parse(t, SM2PKE(), material).(DecryptionKey)
	ciphertext, err := key.Encrypt("SM2PKE", []byte("plaintext"))
	require.NoError(t, err)
	plain, err := sm2.ASN1Ciphertext2Plain(ciphertext, nil)
	require.NoError(t, err)
	opened, err := sm2.Decrypt(key.(*sm2DecryptionKey).p.Load(), plain)
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(opened))
	_, err = key.Decrypt("SM2PKE", plain)
	require.ErrorIs(t, err, ErrDecrypt)

	type parts struct {
		X, Y   *big.Int
		C3, C2 []byte
	}
	for name, change := range map[string]func(*parts){
		"off the curve":   func(p *parts) { p.Y.Add(p.Y, big.NewInt(1)) },
		"infinity":        func(p *parts) { p.X, p.Y = new(big.Int), new(big.Int) },
		"negative":        func(p *parts) { p.Y.Neg(p.Y) },
		"too large":       func(p *parts) { p.X.Lsh(p.X, 256) },
		"not reduced":     func(p *parts) { p.X.Add(p.X, sm2.P256().Params().P) },
		"without text":    func(p *parts) { p.C2 = nil },
		"a short hash":    func(p *parts) { p.C3 = p.C3[1:] },
		"a long hash":     func(p *parts) { p.C3 = append(p.C3, 0) },
		"another order":   func(p *parts) { p.C2, p.C3 = p.C3, p.C2 },
		"without a hash":  func(p *parts) { p.C3 = nil },
		"other plaintext": func(p *parts) { p.C2[0] ^= 1 },
	} {
		var p parts
		_, err := asn1.Unmarshal(ciphertext, &p)
		require.NoError(t, err)
		change(&p)
		opened, err := key.Decrypt("SM2PKE", mustMarshal(t, p))
		require.ErrorIs(t, err, ErrDecrypt, name)
		require.Nil(t, opened)
	}
}

func TestSM2ECDHIsTheCurvesMultiplication(t *testing.T) {
	material, other := generate(t, SM2ECDH()), generate(t, SM2ECDH())
	secret, err := parse(t, SM2ECDH(), material).(AgreementKey).SharedSecret(parse(t, SM2ECDH(), other).(AgreementKey).PublicKey())
	require.NoError(t, err)
	// The shared point is the public key of the product of the private keys.
	product := new(big.Int).Mul(new(big.Int).SetBytes(ecScalar(t, material)), new(big.Int).SetBytes(ecScalar(t, other)))
	private, err := sm2.NewPrivateKeyFromInt(product.Mod(product, sm2.P256().Params().N))
	require.NoError(t, err)
	require.Equal(t, private.X.FillBytes(make([]byte, 32)), secret)
}

func TestSM2ECDHRefusesPeersOffTheCurve(t *testing.T) {
	key := parse(t, SM2ECDH(), generate(t, SM2ECDH())).(AgreementKey)
	point := ecPoint(t, generate(t, SM2ECDH()))
	for name, bad := range map[string][]byte{
		"infinity":      {0},
		"no point":      {},
		"off the curve": flip(point, 8*len(point)-1),
		"x beyond p":    append(append([]byte{4}, bytes.Repeat([]byte{0xff}, 32)...), point[33:]...),
		"zeros":         append([]byte{4}, make([]byte, 64)...),
		"compressed":    append([]byte{2 | point[64]&1}, point[1:33]...),
		"truncated":     point[:64],
	} {
		spki, err := marshalSPKI(sm2Curve.algorithm, bad)
		require.NoError(t, err)
		_, err = key.SharedSecret(spki)
		require.ErrorIs(t, err, ErrPublicKey, name)
	}
	_, err := key.SharedSecret(parse(t, ECDHP256(), generate(t, ECDHP256())).(AgreementKey).PublicKey())
	require.ErrorIs(t, err, ErrPublicKey)
}

func TestSM2AndOpenSSLUnderstandEachOther(t *testing.T) {
	private := openssl(t, "", "genpkey", "-algorithm", "SM2")
	private = openssl(t, string(private), "pkcs8", "-topk8", "-nocrypt", "-outform", "DER")
	material, err := SM2DSA().Import(private)
	require.NoError(t, err)
	signing, decrypting := parse(t, SM2DSA(), material).(SigningKey), parse(t, SM2PKE(), material).(DecryptionKey)
	public := openssl(t, string(material), "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
	require.Equal(t, public, signing.PublicKey())

	signer := newSigner(t, signing, "SM2DSA", Raw)
	message, privateFile, publicFile := tempFile(t, []byte("message")), tempFile(t, material), tempFile(t, public)
	options := []string{"-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678", "-in", message, "-keyform", "DER"}
	theirs := openssl(t, "", append([]string{"pkeyutl", "-sign", "-inkey", privateFile}, options...)...)
	require.NoError(t, signer.Verify(theirs, []byte("message")))
	ours, err := signer.Sign([]byte("message"))
	require.NoError(t, err)
	openssl(t, "", append([]string{"pkeyutl", "-verify", "-pubin", "-inkey", publicFile, "-sigfile", tempFile(t, ours)}, options...)...)

	theirs = openssl(t, "plaintext", "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", publicFile)
	plaintext, err := decrypting.Decrypt("SM2PKE", theirs)
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(plaintext))
	ours, err = decrypting.Encrypt("SM2PKE", []byte("plaintext"))
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(openssl(t, string(ours), "pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", privateFile)))
}

func FuzzParseSM2(f *testing.F) { fuzzParse(f, sm2Subjects()) }

func FuzzSM2Decrypt(f *testing.F) {
	key := parse(f, SM2PKE(), generate(f, SM2PKE())).(DecryptionKey)
	ciphertext, err := key.Encrypt("SM2PKE", []byte("plaintext"))
	require.NoError(f, err)
	f.Add(ciphertext)
	f.Add(ciphertext[:len(ciphertext)-1])
	f.Fuzz(func(t *testing.T, ciphertext []byte) {
		if _, err := key.Decrypt("SM2PKE", ciphertext); err != nil {
			require.ErrorIs(t, err, ErrDecrypt)
		}
	})
}

func BenchmarkSM2(b *testing.B) {
	material := generate(b, SM2DSA())
	key := parse(b, SM2DSA(), material).(*signingKey[sm2.PrivateKey])
	private, signer, digest := key.p.Load(), newSigner(b, key, "SM2DSA", Digest), randomBytes(32)
	signature, err := signer.Sign(digest)
	require.NoError(b, err)
	decrypting := parse(b, SM2PKE(), material).(DecryptionKey)
	ciphertext, err := decrypting.Encrypt("SM2PKE", digest)
	require.NoError(b, err)
	for name, c := range map[string]struct{ floor, operation func() }{
		"Sign":    {func() { sm2.SignASN1(rand.Reader, private, digest, nil) }, func() { signer.Sign(digest) }},
		"Verify":  {func() { sm2.VerifyASN1(&private.PublicKey, digest, signature) }, func() { signer.Verify(signature, digest) }},
		"Encrypt": {func() { sm2.EncryptASN1(rand.Reader, &private.PublicKey, digest) }, func() { decrypting.Encrypt("SM2PKE", digest) }},
		"Decrypt": {func() { sm2.Decrypt(private, ciphertext) }, func() { decrypting.Decrypt("SM2PKE", ciphertext) }},
	} {
		b.Run(name, func(b *testing.B) { benchtest.Compare(b, c.floor, c.operation) })
	}
}
