package crypto

import (
	"bytes"
	stded25519 "crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/benchtest"
)

func ed25519Subjects() []subject {
	return []subject{{
		name:       "Ed25519",
		family:     Ed25519(),
		algorithms: []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"},
		secret:     func(_ *testing.T, material []byte) []byte { return material[16:] },
		invalid: func(t *testing.T, material []byte) [][]byte {
			all := [][]byte{append(bytes.Clone(material), 0), generate(t, ECDSAP256()), material[16:]}
			spki := parse(t, Ed25519(), material).(SigningKey).PublicKey()
			other := parse(t, Ed25519(), generate(t, Ed25519())).(SigningKey).PublicKey()
			for _, change := range []func(*privateKeyInfo){
				func(i *privateKeyInfo) { i.Version = 1 },
				func(i *privateKeyInfo) { i.Extra = outerPublic(t, spki[12:]) },
				func(i *privateKeyInfo) { i.Version, i.Extra = 1, outerPublic(t, other[12:]) },
				func(i *privateKeyInfo) { i.Extra = null },
				func(i *privateKeyInfo) { i.Algorithm.Parameters = null },
				func(i *privateKeyInfo) { i.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 3, 101, 110} }, // X25519
				func(i *privateKeyInfo) { i.PrivateKey = i.PrivateKey[2:] },
				func(i *privateKeyInfo) { i.PrivateKey = append(bytes.Clone(i.PrivateKey), 0) },
				func(i *privateKeyInfo) { i.PrivateKey = mustMarshal(t, i.PrivateKey[3:]) },
				func(i *privateKeyInfo) { i.PrivateKey = mustMarshal(t, append(bytes.Clone(i.PrivateKey[2:]), 0)) },
				func(i *privateKeyInfo) {
					i.PrivateKey = mustMarshal(t, append(bytes.Clone(i.PrivateKey[2:]), spki[12:]...))
				},
			} {
				all = append(all, craftInfo(t, material, change))
			}
			return append(all, spki)
		},
	}}
}

// craftInfo returns the material after the change.
func craftInfo(t testing.TB, material []byte, change func(*privateKeyInfo)) []byte {
	t.Helper()
	var info privateKeyInfo
	_, err := asn1.Unmarshal(material, &info)
	require.NoError(t, err)
	change(&info)
	return mustMarshal(t, info)
}

func ed25519Material(t *testing.T, seed string) []byte {
	t.Helper()
	material, err := storeEd25519(unhex(t, seed))
	require.NoError(t, err)
	return material
}

// RFC 8032, section 7.1.
func TestEd25519Vectors(t *testing.T) {
	for _, v := range []struct{ seed, public, message, signature string }{{
		"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
		"",
		"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
	}, {
		"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
		"72",
		"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
	}, {
		"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
		"af82",
		"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
	}, { // of the SHA-512 digest of "abc"
		"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
		"ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
		"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
	}} {
		key := parse(t, Ed25519(), ed25519Material(t, v.seed)).(SigningKey)
		spki, err := x509.MarshalPKIXPublicKey(stded25519.PublicKey(unhex(t, v.public)))
		require.NoError(t, err)
		require.Equal(t, spki, key.PublicKey())
		signer := newSigner(t, key, "ED25519_SHA_512", Raw)
		signature, err := signer.Sign(unhex(t, v.message))
		require.NoError(t, err)
		require.Equal(t, unhex(t, v.signature), signature)
		require.NoError(t, signer.Verify(signature, unhex(t, v.message)))
	}
}

// RFC 8032, section 7.3: Ed25519ph of a message that is shorter than the digests of KMS.
func TestEd25519phVector(t *testing.T) {
	material := ed25519Material(t, "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
	k := parse(t, Ed25519(), material).(*signingKey[ed25519Key]).p.Load()
	signature, err := ed25519Schemes[1].sign(k, []byte("abc"))
	require.NoError(t, err)
	require.Equal(t, unhex(t, "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"), signature)
	require.True(t, ed25519Schemes[1].verify(k, signature, []byte("abc")))
	require.False(t, ed25519Schemes[1].verify(k, signature, []byte("abd")))
	require.False(t, ed25519Schemes[0].verify(k, signature, []byte("abc")), "as Ed25519")
}

// As recorded from KMS: the digest is hashed again.
func TestEd25519phSignsTheDigestAsItsMessage(t *testing.T) {
	key := parse(t, Ed25519(), generate(t, Ed25519()))
	digest := sha512.Sum512([]byte("message"))
	signature, err := newSigner(t, key, "ED25519_PH_SHA_512", Digest).Sign(digest[:])
	require.NoError(t, err)
	again := sha512.Sum512(digest[:])
	public := key.(*signingKey[ed25519Key]).p.Load().public
	require.NoError(t, stded25519.VerifyWithOptions(public, again[:], signature, ed25519ph))
	require.Error(t, stded25519.VerifyWithOptions(public, digest[:], signature, ed25519ph))
}

func TestEd25519AlgorithmsTakeOneTypeOfMessageEach(t *testing.T) {
	key := parse(t, Ed25519(), generate(t, Ed25519())).(SigningKey)
	for algorithm, takes := range map[string]string{"ED25519_SHA_512": Raw, "ED25519_PH_SHA_512": Digest} {
		for _, messageType := range []string{Raw, Digest, ExternalMu, ""} {
			_, err := key.Signer(algorithm, messageType)
			if messageType == takes {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrMessageType)
			}
		}
	}
	_, err := key.Signer("ECDSA_SHA_256", Raw)
	require.ErrorIs(t, err, ErrAlgorithm)
}

func TestEd25519ImportsKeysWithAPublicKey(t *testing.T) {
	material := generate(t, Ed25519())
	public := parse(t, Ed25519(), material).(SigningKey).PublicKey()
	stored, err := Ed25519().Import(craftInfo(t, material, func(i *privateKeyInfo) {
		i.Version, i.Attributes, i.Extra = 1, attributes, outerPublic(t, public[12:])
	}))
	require.NoError(t, err)
	require.Equal(t, material, stored)
	require.Len(t, stored, 48)
}

func TestEd25519Wycheproof(t *testing.T) {
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
	readVectors(t, "ed25519_test.json", &file)
	tests := 0
	for _, g := range file.TestGroups {
		public, err := readSPKI(unhex(t, g.PublicKeyDer), ed25519Algorithm)
		require.NoError(t, err)
		signer := newSigner(t, newSigningKey(&ed25519Key{public: public}, nil, ed25519Schemes), "ED25519_SHA_512", Raw)
		for _, v := range g.Tests {
			tests++
			err := signer.Verify(unhex(t, v.Sig), unhex(t, v.Msg))
			if v.Result == "valid" {
				require.NoError(t, err, "test %d", v.TcID)
			} else {
				require.ErrorIs(t, err, ErrVerify, "test %d", v.TcID)
			}
		}
	}
	require.Equal(t, file.NumberOfTests, tests)
	require.NotZero(t, tests)
}

func TestEd25519AndOpenSSLVerifyEachOther(t *testing.T) {
	private := openssl(t, "", "genpkey", "-algorithm", "ED25519", "-outform", "DER")
	material, err := Ed25519().Import(private)
	require.NoError(t, err)
	require.Equal(t, private, material)
	key := parse(t, Ed25519(), material).(SigningKey)
	signer := newSigner(t, key, "ED25519_SHA_512", Raw)
	public := openssl(t, string(material), "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
	require.Equal(t, public, key.PublicKey())

	message := tempFile(t, []byte("message"))
	theirs := openssl(t, "", "pkeyutl", "-sign", "-rawin", "-in", message, "-keyform", "DER", "-inkey", tempFile(t, material))
	require.NoError(t, signer.Verify(theirs, []byte("message")))
	ours, err := signer.Sign([]byte("message"))
	require.NoError(t, err)
	openssl(t, "", "pkeyutl", "-verify", "-rawin", "-in", message, "-pubin", "-keyform", "DER", "-inkey", tempFile(t, public), "-sigfile", tempFile(t, ours))
}

func TestEd25519ErasesItsKeyAfterTheLastCall(t *testing.T) {
	key := parse(t, Ed25519(), generate(t, Ed25519())).(*signingKey[ed25519Key])
	private := key.p.Load().private
	key.Destroy()
	requireSoon(t, func() bool { return private.Expose() == nil })
	runtime.KeepAlive(key)
}

func FuzzParseEd25519(f *testing.F) { fuzzParse(f, ed25519Subjects()) }

func BenchmarkEd25519(b *testing.B) {
	key := parse(b, Ed25519(), generate(b, Ed25519())).(*signingKey[ed25519Key])
	private, public := stded25519.PrivateKey(key.p.Load().private.Expose()), key.p.Load().public
	signer, message := newSigner(b, key, "ED25519_SHA_512", Raw), randomBytes(32)
	signature, err := signer.Sign(message)
	require.NoError(b, err)
	b.Run("Sign", func(b *testing.B) {
		benchtest.Compare(b, func() { stded25519.Sign(private, message) }, func() { signer.Sign(message) })
	})
	b.Run("Verify", func(b *testing.B) {
		benchtest.Compare(b, func() { stded25519.Verify(public, message, signature) }, func() { signer.Verify(signature, message) })
	})
	runtime.KeepAlive(key)
}
