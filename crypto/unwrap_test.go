package crypto

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/pocketkms/kms/internal/secret/secrettest"
)

// wrappingKey returns an RSA-2048 wrapping key.
func wrappingKey(t testing.TB) DecryptionKey {
	t.Helper()
	pair, err := rsaRows[0].pair()
	require.NoError(t, err)
	return parse(t, RSAES2048(), pair[0]).(DecryptionKey)
}

// wrapAES wraps material as RSA_AES_KEY_WRAP_SHA_256 does.
func wrapAES(t testing.TB, k DecryptionKey, aes, material []byte) []byte {
	t.Helper()
	wrapped, err := k.Encrypt("RSAES_OAEP_SHA_256", aes)
	require.NoError(t, err)
	kwp, err := subtle.NewKWP(aes)
	require.NoError(t, err)
	inner, err := kwp.Wrap(material)
	require.NoError(t, err)
	return append(wrapped, inner...)
}

func TestUnwrapWycheproof(t *testing.T) {
	k := wrappingKey(t)
	var file struct {
		TestGroups []struct {
			KeySize int
			Tests   []struct {
				TcID                          int
				Comment, Key, Msg, Ct, Result string
			}
		}
	}
	readVectors(t, "aes_kwp_test.json", &file)
	valid, invalid := 0, 0
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			wrapped, err := k.Encrypt("RSAES_OAEP_SHA_256", unhex(t, v.Key))
			require.NoError(t, err)
			material, err := Unwrap(k, "RSA_AES_KEY_WRAP_SHA_256", append(wrapped, unhex(t, v.Ct)...))
			// KMS takes only AES-256. Tink does not take 8 bytes and less, and no material is so short.
			if g.KeySize == 256 && v.Result == "valid" && len(v.Msg) > 2*8 {
				require.NoError(t, err, "test %d: %s", v.TcID, v.Comment)
				require.Equal(t, unhex(t, v.Msg), material)
				valid++
				continue
			}
			require.ErrorIs(t, err, ErrDecrypt, "test %d: %s", v.TcID, v.Comment)
			require.Nil(t, material)
			invalid++
		}
	}
	require.NotZero(t, valid)
	require.Greater(t, invalid, valid)
}

func TestUnwrapRefusesWhatWasNotWrapped(t *testing.T) {
	k := wrappingKey(t)
	material, aes := generate(t, ECDSAP256()), randomBytes(32)
	wrapped := wrapAES(t, k, aes, material)
	got, err := Unwrap(k, "RSA_AES_KEY_WRAP_SHA_256", wrapped)
	require.NoError(t, err)
	require.True(t, bytes.Equal(material, got))

	modulus := len(wrapped) - len(material) - 8 - (8-len(material)%8)%8
	require.Equal(t, 256, modulus)
	bad := map[string][]byte{
		"nothing":                nil,
		"one byte":               {1},
		"half of the AES key":    wrapped[:modulus/2],
		"only the AES key":       wrapped[:modulus],
		"one block less":         wrapped[:len(wrapped)-8],
		"one byte less":          wrapped[:len(wrapped)-1],
		"one byte more":          append(bytes.Clone(wrapped), 0),
		"one block more":         append(bytes.Clone(wrapped), make([]byte, 8)...),
		"longer than any key":    append(bytes.Clone(wrapped), make([]byte, subtle.MaxWrapSize+8)...),
		"the AES key at the end": append(bytes.Clone(wrapped[modulus:]), wrapped[:modulus]...),
		"AES-128":                wrapAES(t, k, randomBytes(16), material),
	}
	for _, i := range []int{0, 1, modulus - 1, modulus, modulus + 9, len(wrapped) - 1} {
		flipped := bytes.Clone(wrapped)
		flipped[i] ^= 1
		bad[fmt.Sprintf("a flipped bit in byte %d", i)] = flipped
	}
	for name, wrapped := range bad {
		got, err := Unwrap(k, "RSA_AES_KEY_WRAP_SHA_256", wrapped)
		require.ErrorIs(t, err, ErrDecrypt, name)
		require.Nil(t, got, name)
		secrettest.RequireHidden(t, err, aes)
	}
	for algorithm, want := range map[string]error{
		"RSA_AES_KEY_WRAP_SHA_1": ErrDecrypt, "RSAES_OAEP_SHA_256": ErrDecrypt, "RSAES_OAEP_SHA_1": ErrDecrypt,
		"RSAES_PKCS1_V1_5": ErrAlgorithm, "RSA_AES_KEY_WRAP_SHA_512": ErrAlgorithm, "RSA_AES_KEY_WRAP_": ErrAlgorithm, "SM2PKE": ErrAlgorithm, "": ErrAlgorithm,
	} {
		_, err := Unwrap(k, algorithm, wrapped)
		require.ErrorIs(t, err, want, algorithm)
	}
	_, err = Unwrap(wrappingSM2(t), "RSA_AES_KEY_WRAP_SHA_256", wrapped)
	require.ErrorIs(t, err, ErrAlgorithm)
	k.Destroy()
	_, err = Unwrap(k, "RSA_AES_KEY_WRAP_SHA_256", wrapped)
	require.ErrorIs(t, err, ErrDestroyed)
}

func wrappingSM2(t testing.TB) DecryptionKey {
	return parse(t, SM2PKE(), generate(t, SM2PKE())).(DecryptionKey)
}

func TestUnwrapDirectly(t *testing.T) {
	for k, algorithms := range map[DecryptionKey][]string{
		wrappingKey(t): {"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"},
		wrappingSM2(t): {"SM2PKE"},
	} {
		for _, algorithm := range algorithms {
			wrapped, err := k.Encrypt(algorithm, []byte("material"))
			require.NoError(t, err)
			got, err := Unwrap(k, algorithm, wrapped)
			require.NoError(t, err)
			require.Equal(t, "material", string(got))
			for _, bad := range [][]byte{nil, wrapped[1:], wrapped[:len(wrapped)-1], append(bytes.Clone(wrapped), 0)} {
				_, err = Unwrap(k, algorithm, bad)
				require.ErrorIs(t, err, ErrDecrypt)
			}
		}
	}
}

// FuzzUnwrap unwraps and imports what is not wrapped key material, in both parts of the wrapping.
func FuzzUnwrap(f *testing.F) {
	k := wrappingKey(f)
	aes := bytes.Repeat([]byte{1}, 32)
	families := []Family{XAES256GCM(nil), HMACSHA256(), ECDSAP256(), RSASSA2048(), Ed25519(), MLKEM768(), SM2DSA(), ECDSASecp256k1()}
	for i, family := range families {
		material := randomBytes(32)
		if i != 3 {
			material = generate(f, family)
		}
		f.Add(uint8(i), wrapAES(f, k, aes, material), material)
	}
	f.Add(uint8(0), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, family uint8, wrapped, material []byte) {
		if got, err := Unwrap(k, "RSA_AES_KEY_WRAP_SHA_256", wrapped); err != nil {
			require.ErrorIs(t, err, ErrDecrypt)
			require.Nil(t, got)
		}
		for _, algorithm := range []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
			if _, err := Unwrap(k, algorithm, wrapped); err != nil {
				require.ErrorIs(t, err, ErrDecrypt)
			}
		}
		target := families[int(family)%len(families)]
		stored, err := target.Import(material)
		if err != nil {
			require.ErrorIs(t, err, ErrMaterial)
			require.Nil(t, stored)
			return
		}
		parse(t, target, stored)
		again, err := target.Import(stored)
		require.NoError(t, err)
		require.True(t, bytes.Equal(stored, again), "the stored form is canonical")
	})
}
