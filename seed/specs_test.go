package seed_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/testenv"
	"github.com/pocketkms/kms/seed"
)

const specsFile = "testdata/specs.yaml"

// specKeys returns the keys of specsFile, one of every spec.
func specKeys(t testing.TB) map[kms.KeySpec]seed.Key {
	t.Helper()
	text, err := os.ReadFile(specsFile)
	require.NoError(t, err)
	keys, err := seed.Parse(bytes.NewReader(text))
	require.NoError(t, err)
	bySpec := map[kms.KeySpec]seed.Key{}
	for _, k := range keys {
		bySpec[k.Spec] = k
	}
	require.ElementsMatch(t, kms.KeySpec("").Values(), slices.Collect(maps.Keys(bySpec)))
	return bySpec
}

// A use makes something with a key, and returns what verifies or opens it with a key of another
// service, which has to be the same key.
type use func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) (again func(t *testing.T, svc *kms.Service))

var message = []byte("made before the restart")

var uses = map[kms.KeyUsageType]use{
	kms.KeyUsageEncryptDecrypt: func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) func(*testing.T, *kms.Service) {
		algorithm := key.EncryptionAlgorithms[0]
		out, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: message, EncryptionAlgorithm: algorithm})
		require.NoError(t, err)
		return func(t *testing.T, svc *kms.Service) {
			opened, err := svc.Decrypt(t.Context(), &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: out.CiphertextBlob, EncryptionAlgorithm: algorithm})
			require.NoError(t, err)
			require.Equal(t, message, opened.Plaintext)
		}
	},
	kms.KeyUsageSignVerify: func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) func(*testing.T, *kms.Service) {
		algorithm := key.SigningAlgorithms[0]
		out, err := svc.Sign(t.Context(), &kms.SignInput{KeyId: key.KeyId, Message: message, SigningAlgorithm: algorithm})
		require.NoError(t, err)
		return func(t *testing.T, svc *kms.Service) {
			_, err := svc.Verify(t.Context(), &kms.VerifyInput{KeyId: key.KeyId, Message: message, Signature: out.Signature, SigningAlgorithm: algorithm})
			require.NoError(t, err)
		}
	},
	kms.KeyUsageGenerateVerifyMac: func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) func(*testing.T, *kms.Service) {
		algorithm := key.MacAlgorithms[0]
		out, err := svc.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: key.KeyId, Message: message, MacAlgorithm: algorithm})
		require.NoError(t, err)
		return func(t *testing.T, svc *kms.Service) {
			_, err := svc.VerifyMac(t.Context(), &kms.VerifyMacInput{KeyId: key.KeyId, Message: message, Mac: out.Mac, MacAlgorithm: algorithm})
			require.NoError(t, err)
		}
	},
	kms.KeyUsageKeyAgreement: func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) func(*testing.T, *kms.Service) {
		peer, err := svc.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: key.KeyId}) // itself will do
		require.NoError(t, err)
		in := &kms.DeriveSharedSecretInput{KeyId: key.KeyId, KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, PublicKey: peer.PublicKey}
		out, err := svc.DeriveSharedSecret(t.Context(), in)
		require.NoError(t, err)
		return func(t *testing.T, svc *kms.Service) {
			again, err := svc.DeriveSharedSecret(t.Context(), in)
			require.NoError(t, err)
			require.Equal(t, out.SharedSecret, again.SharedSecret)
		}
	},
	kms.KeyUsageEncapsulateDecapsulate: func(t *testing.T, svc *kms.Service, key *kms.KeyMetadata) func(*testing.T, *kms.Service) {
		out, err := svc.Encapsulate(t.Context(), &kms.EncapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
		require.NoError(t, err)
		return func(t *testing.T, svc *kms.Service) {
			again, err := svc.Decapsulate(t.Context(), &kms.DecapsulateInput{KeyId: key.KeyId,
				SharedSecretCiphertextBlob: out.SharedSecretCiphertextBlob, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM})
			require.NoError(t, err)
			require.Equal(t, out.SharedSecret, again.SharedSecret)
		}
	},
}

func TestAKeyOfEverySpecAndUsageIsTheSameOnEveryRun(t *testing.T) {
	first, second := newService(t), newService(t)
	for spec, key := range specKeys(t) {
		possible := 0
		for usage, use := range uses {
			key.Aliases, key.Usage = nil, usage
			key.ID = fmt.Sprintf("%s%012d", key.ID[:24], len(usage)*100+slices.Index(kms.KeySpec("").Values(), spec))
			err := seed.Apply(t.Context(), first, key)
			if err != nil {
				require.ErrorContains(t, err, fmt.Sprintf("KeyUsage %s is not compatible with KeySpec %s", usage, spec))
				continue
			}
			possible++
			t.Run(string(spec+"/"+kms.KeySpec(usage)), func(t *testing.T) {
				require.NoError(t, seed.Apply(t.Context(), second, key))
				made := describe(t, first, key.ID)
				require.Equal(t, spec, made.KeySpec)
				require.Equal(t, made.CurrentKeyMaterialId, describe(t, second, key.ID).CurrentKeyMaterialId)
				use(t, first, made)(t, second)
				require.NoError(t, seed.Apply(t.Context(), second, key), "it exists")
			})
		}
		require.NotZero(t, possible, spec)
	}
}

func TestMaterialOfAnotherSpecIsRefused(t *testing.T) {
	svc, keys := newService(t), specKeys(t)
	for spec, key := range keys {
		if spec == kms.KeySpecSymmetricDefault || key.Usage == kms.KeyUsageGenerateVerifyMac {
			continue // any bytes of a possible length
		}
		for other, its := range keys {
			if spec == other {
				continue
			}
			key.Material = its.Material
			err := seed.Apply(t.Context(), svc, key)
			require.ErrorContains(t, err, "the material does not suit KeySpec "+string(spec)+": crypto: invalid key material", other)
		}
	}
}

// rsaKey returns the RSA_2048 key of specsFile.
func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(specsFile)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "spec: RSA_2048")
	require.True(t, ok)
	var b strings.Builder
	for line := range strings.Lines(rest) {
		b.WriteString(strings.TrimLeft(line, " "))
	}
	block, _ := pem.Decode([]byte(b.String()))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return key.(*rsa.PrivateKey)
}

func TestEveryEncodingOfAnRSAKeyIsTheSameKey(t *testing.T) {
	svc := newService(t)
	key := specKeys(t)[kms.KeySpecRSA2048]
	require.NoError(t, seed.Apply(t.Context(), svc, key))

	private := rsaKey(t)
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	p := private.Precomputed
	members := map[string]string{
		"kty": "RSA", "n": number(private.N), "e": "AQAB", "d": number(private.D), "p": number(private.Primes[0]), "q": number(private.Primes[1]),
		"dp": number(p.Dp), "dq": number(p.Dq), "qi": number(p.Qinv),
	}
	jwk, err := json.Marshal(members)
	require.NoError(t, err)
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
	for name, material := range map[string]seed.Material{"JWK": seed.JWK(string(jwk)), "PEM of PKCS#1": seed.PEM(string(pkcs1))} {
		key.Material = material
		require.NoError(t, seed.Apply(t.Context(), svc, key), name)
	}

	for member := range members {
		if member == "kty" {
			continue
		}
		changed := maps.Clone(members)
		changed[member] = number(big.NewInt(3))
		jwk, err := json.Marshal(changed)
		require.NoError(t, err)
		key.Material = seed.JWK(string(jwk))
		require.ErrorContains(t, seed.Apply(t.Context(), svc, key), "invalid key material", member)
	}
}

// A JWK of an Ed25519 key has the public key, too (RFC 8037), and so has one of secp256k1 (RFC
// 8812).
func TestAJWKWithAnotherPublicKeyIsRefused(t *testing.T) {
	key := specKeys(t)[kms.KeySpecECCNISTEdwards25519]
	key.Material = seed.JWK(`{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"` + rfcX + `"}`)
	require.ErrorContains(t, seed.Apply(t.Context(), newService(t), key), "public key of another private key")

	key = specKeys(t)[kms.KeySpecECCSECGP256K1]
	jwk := `{"kty":"EC","crv":"secp256k1","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE",` +
		`"x":"eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g","y":"SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg"}`
	key.Material = seed.JWK(jwk)
	require.NoError(t, seed.Apply(t.Context(), newService(t), key))
	key.Material = seed.JWK(strings.Replace(jwk, "eb5m", "eb5n", 1))
	require.ErrorContains(t, seed.Apply(t.Context(), newService(t), key), "public key of another private key")
}

// What openssl writes without further options, or with those that docs/seed.md names.
func TestKeysOfOpenSSLAreAccepted(t *testing.T) {
	for name, tt := range map[string]struct {
		spec    kms.KeySpec
		usage   kms.KeyUsageType
		options string
	}{
		"RSA":       {kms.KeySpecRSA2048, kms.KeyUsageSignVerify, "-algorithm RSA"},
		"P-256":     {kms.KeySpecECCNISTP256, kms.KeyUsageKeyAgreement, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"},
		"secp256k1": {kms.KeySpecECCSECGP256K1, kms.KeyUsageSignVerify, "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1"},
		"SM2":       {kms.KeySpecSM2, kms.KeyUsageEncryptDecrypt, "-algorithm EC -pkeyopt ec_paramgen_curve:SM2"},
		"Ed25519":   {kms.KeySpecECCNISTEdwards25519, kms.KeyUsageSignVerify, "-algorithm ED25519"},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NeedsTool(t, "openssl")
			text, err := exec.Command("openssl", append([]string{"genpkey"}, strings.Fields(tt.options)...)...).Output()
			require.NoError(t, err)
			key := seed.Key{ID: symmetricID, Spec: tt.spec, Usage: tt.usage, Material: seed.PEM(string(text))}
			require.NoError(t, seed.Apply(t.Context(), newService(t), key))
		})
	}
}

// A PKCS#8 structure in BER that is not DER: of indefinite length, or with a length in more bytes
// than it needs.
func TestPKCS8InBERIsRefused(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(rfcKey(t))
	require.NoError(t, err)
	require.Equal(t, byte(0x81), der[1])
	for name, ber := range map[string][]byte{
		"indefinite": append(append([]byte{0x30, 0x80}, der[3:]...), 0, 0),
		"long":       append([]byte{0x30, 0x82, 0}, der[2:]...),
	} {
		err := seed.Apply(t.Context(), newService(t), seed.Key{
			ID: symmetricID, Spec: kms.KeySpecECCNISTP256, Usage: kms.KeyUsageSignVerify, Material: seed.Bytes(ber),
		})
		require.ErrorContains(t, err, "not a PKCS#8 private key", name)
	}
}

// The table of prefixes in docs/seed.md.
func TestASeedWithItsPrefixIsAKey(t *testing.T) {
	text, err := os.ReadFile("../docs/seed.md")
	require.NoError(t, err)
	keys, rows := specKeys(t), regexp.MustCompile("(ML_[A-Z]+_[0-9]+) \\| `([0-9a-f]+)`").FindAllStringSubmatch(string(text), -1)
	require.Len(t, rows, 6)
	for _, row := range rows {
		key, digits := keys[kms.KeySpec(row[1])], 64
		if strings.HasPrefix(row[1], "ML_KEM") {
			digits = 128
		}
		key.Material = seed.Hex(row[2] + strings.Repeat("5", digits))
		require.NoError(t, seed.Apply(t.Context(), newService(t), key), row[1])
	}
}
