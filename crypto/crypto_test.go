package crypto

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret/secrettest"
)

// subject is a family as the shared suite sees it. A new family is one more.
type subject struct {
	name       string
	family     Family
	algorithms []string                                     // of a SigningKey or DecryptionKey
	maximum    int                                          // length of a DecryptionKey's plaintexts
	step       int                                          // flip every step-th bit only; odd
	pair       func(t testing.TB) [2][]byte                 // two keys, if generating more takes too long
	secret     func(t *testing.T, material []byte) []byte   // the part of the material to keep hidden
	invalid    func(t *testing.T, material []byte) [][]byte // what Parse must refuse, beyond empty and unrelated bytes
}

func subjects() []subject {
	return slices.Concat(xaesSubjects(), hmacSubjects(), ecdsaSubjects(), ecdhSubjects(), rsaSubjects(), secp256k1Subjects(),
		ed25519Subjects(), mldsaSubjects(), mlkemSubjects(), sm2Subjects())
}

func forEveryFamily(t *testing.T, test func(t *testing.T, s subject)) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

func (s subject) generate(t testing.TB) []byte {
	t.Helper()
	a, _ := s.generateTwo(t)
	return a
}

func (s subject) generateTwo(t testing.TB) (a, b []byte) {
	t.Helper()
	if s.pair != nil {
		two := s.pair(t)
		return bytes.Clone(two[0]), bytes.Clone(two[1])
	}
	a, err := s.family.Generate()
	require.NoError(t, err)
	b, err = s.family.Generate()
	require.NoError(t, err)
	return a, b
}

func (s subject) parse(t testing.TB, material []byte) Key {
	t.Helper()
	return parse(t, s.family, material)
}

func parse(t testing.TB, family Family, material []byte) Key {
	t.Helper()
	key, err := family.Parse(material)
	require.NoError(t, err)
	return key
}

func generate(t testing.TB, family Family) []byte {
	t.Helper()
	material, err := family.Generate()
	require.NoError(t, err)
	return material
}

func newSigner(t testing.TB, key Key, algorithm, messageType string) Signer {
	t.Helper()
	signer, err := key.(SigningKey).Signer(algorithm, messageType)
	require.NoError(t, err)
	return signer
}

// use is one thing that a key does, as making and checking a proof for a message.
type use struct {
	name      string
	size      int // of messages in bytes, 0 for any
	maximum   int // length of messages that have any size
	noMessage bool
	prove     func(message []byte) ([]byte, error)
	check     func(proof, message []byte) error
	refusal   error
}

func (s subject) uses(t testing.TB, key Key) []use {
	t.Helper()
	switch k := key.(type) {
	case AEAD:
		return []use{{
			name:  "encrypt",
			prove: func(message []byte) ([]byte, error) { return k.Encrypt(message, []byte("context")) },
			check: func(proof, message []byte) error {
				plaintext, err := k.Decrypt(proof, []byte("context"))
				if err == nil && !bytes.Equal(plaintext, message) {
					return ErrDecrypt
				}
				return err
			},
			refusal: ErrDecrypt,
		}, {
			name:    "authenticate associated data",
			prove:   func(message []byte) ([]byte, error) { return k.Seal(nil, []byte("plaintext"), message) },
			check:   func(proof, message []byte) error { _, err := k.Open(nil, proof, message); return err },
			refusal: ErrDecrypt,
		}}
	case MAC:
		return []use{{name: "mac", prove: k.ComputeMAC, check: k.VerifyMAC, refusal: ErrVerify}}
	case SigningKey:
		var uses []use
		for _, a := range s.algorithms {
			for _, messageType := range []string{Raw, Digest, ExternalMu} {
				signer, err := k.Signer(a, messageType)
				if err != nil {
					require.ErrorIs(t, err, ErrMessageType)
					continue
				}
				uses = append(uses, use{name: a + " " + messageType, size: signer.InputSize(), prove: signer.Sign, check: signer.Verify, refusal: ErrVerify})
			}
		}
		require.NotEmpty(t, uses)
		return uses
	case DecryptionKey:
		var uses []use
		for _, a := range s.algorithms {
			uses = append(uses, use{
				name: a, maximum: s.maximum,
				prove: func(message []byte) ([]byte, error) { return k.Encrypt(a, message) },
				check: func(proof, message []byte) error {
					plaintext, err := k.Decrypt(a, proof)
					if err == nil && !bytes.Equal(plaintext, message) {
						return ErrDecrypt
					}
					return err
				},
				refusal: ErrDecrypt,
			})
		}
		require.NotEmpty(t, uses)
		return uses
	case AgreementKey:
		// The proof is another public key, and the secret shared with it.
		other := s.parse(t, s.generate(t)).(AgreementKey)
		shared, err := k.SharedSecret(other.PublicKey())
		require.NoError(t, err)
		size := len(shared)
		return []use{{
			name: "ECDH", noMessage: true,
			prove: func([]byte) ([]byte, error) {
				secret, err := k.SharedSecret(other.PublicKey())
				return append(other.PublicKey(), secret...), err
			},
			check: func(proof, _ []byte) error {
				at := max(len(proof)-size, 0)
				secret, err := k.SharedSecret(proof[:at])
				if errors.Is(err, ErrPublicKey) || err == nil && !bytes.Equal(secret, proof[at:]) {
					return ErrVerify
				}
				return err
			},
			refusal: ErrVerify,
		}}
	case DecapsulationKey:
		// The proof is a ciphertext, and its secret.
		return []use{{
			name: "KEM", noMessage: true,
			prove: func([]byte) ([]byte, error) {
				secret, ciphertext, err := k.Encapsulate()
				return append(ciphertext, secret...), err
			},
			check: func(proof, _ []byte) error {
				at := max(len(proof)-32, 0)
				secret, err := k.Decapsulate(proof[:at])
				if err == nil && !bytes.Equal(secret, proof[at:]) {
					return ErrDecrypt
				}
				return err
			},
			refusal: ErrDecrypt,
		}}
	}
	require.Failf(t, "unknown kind of key", "%T", key)
	return nil
}

func (u use) messages() [][]byte {
	switch {
	case u.noMessage:
		return [][]byte{nil}
	case u.size != 0:
		return [][]byte{bytes.Repeat([]byte{0xa5}, u.size), make([]byte, u.size)}
	case u.maximum != 0:
		return [][]byte{{0}, []byte("message"), bytes.Repeat([]byte{0xa5}, u.maximum)}
	}
	return [][]byte{nil, {0}, []byte("message"), bytes.Repeat([]byte{0xa5}, 4096)}
}

func (u use) message() []byte {
	if u.noMessage {
		return []byte{0} // to be changed by tests; no use looks at it
	}
	return bytes.Repeat([]byte{0x3c}, max(u.size, 7))
}

func TestEveryFamilyAcceptsItsOwnMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material, second := s.generateTwo(t)
		require.NotEqual(t, material, second, "material is random")

		kept := bytes.Clone(material)
		one, other := s.parse(t, material), s.parse(t, kept)
		require.Equal(t, kept, material, "Parse does not change the material")
		clear(material)
		ours, theirs := s.uses(t, one), s.uses(t, other)
		for i, u := range ours {
			for _, message := range u.messages() {
				proof, err := u.prove(message)
				require.NoError(t, err)
				require.NoError(t, u.check(proof, message))
				require.NoError(t, theirs[i].check(proof, message), "with material that was not erased")
			}
		}
	})
}

func TestEveryFamilyRefusesInvalidMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		invalid := [][]byte{nil, {}, {0}, bytes.Repeat([]byte{0x30}, 4096), make([]byte, 1<<20), material[:len(material)-1]}
		for i, m := range append(invalid, s.invalid(t, material)...) {
			key, err := s.family.Parse(m)
			require.ErrorIs(t, err, ErrMaterial, "material %d", i)
			require.Nil(t, key)
			stored, err := s.family.Import(m)
			require.ErrorIs(t, err, ErrMaterial, "material %d", i)
			require.Nil(t, stored)
		}
	})
}

func TestEveryFamilyImportsItsOwnMaterialUnchanged(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		kept := bytes.Clone(material)
		stored, err := s.family.Import(material)
		require.NoError(t, err)
		require.Equal(t, kept, stored)
		clear(stored)
		require.Equal(t, kept, material, "the result is the caller's own")
	})
}

func TestEveryPublicKeyIsTheCallersOwnAndOutlivesDestroy(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		key, ok := s.parse(t, s.generate(t)).(PrivateKey)
		if !ok {
			return
		}
		first := key.PublicKey()
		kept := bytes.Clone(first)
		clear(first)
		require.Equal(t, kept, key.PublicKey())
		key.Destroy()
		require.Equal(t, kept, key.PublicKey())
	})
}

func TestEveryKeyRefusesWhatItDidNotMake(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		first, second := s.generateTwo(t)
		stranger := s.uses(t, s.parse(t, first))
		step := max(s.step, 1)
		for i, u := range s.uses(t, s.parse(t, second)) {
			t.Run(u.name, func(t *testing.T) {
				message := u.message()
				proof, err := u.prove(message)
				require.NoError(t, err)
				require.ErrorIs(t, stranger[i].check(proof, message), u.refusal)

				for bit := 0; bit < 8*len(proof); bit += step {
					require.ErrorIs(t, u.check(flip(proof, bit), message), u.refusal, "bit %d of the proof", bit)
				}
				for bit := 0; bit < 8*len(message) && !u.noMessage; bit += step {
					require.ErrorIs(t, u.check(proof, flip(message, bit)), u.refusal, "bit %d of the message", bit)
				}
				for n := range proof {
					require.ErrorIs(t, u.check(proof[:n], message), u.refusal, "the first %d bytes of the proof", n)
				}
				require.ErrorIs(t, u.check(append(bytes.Clone(proof), 0), message), u.refusal)
				require.ErrorIs(t, u.check(append([]byte{0}, proof...), message), u.refusal)
				require.NoError(t, u.check(proof, message), "the proof itself")
			})
		}
	})
}

func flip(b []byte, bit int) []byte {
	b = bytes.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}

func TestEveryKeyLeavesItsInputsAlone(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		for _, u := range s.uses(t, s.parse(t, s.generate(t))) {
			whole := append(u.message(), "beyond"...)
			kept := bytes.Clone(whole)
			message := whole[:len(u.message())]
			proof, err := u.prove(message)
			require.NoError(t, err)
			require.Equal(t, kept, whole)

			all := append(bytes.Clone(proof), "beyond"...)
			require.NoError(t, u.check(all[:len(proof)], message))
			require.Equal(t, kept, whole)
			require.Equal(t, append(bytes.Clone(proof), "beyond"...), all)
			require.Error(t, u.check(flip(all, 7)[:len(proof)], message))
			require.Equal(t, kept, whole)
		}
	})
}

func TestEveryKeyWorksConcurrently(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		key := s.parse(t, s.generate(t))
		var wg sync.WaitGroup
		for _, u := range s.uses(t, key) {
			for worker := range 4 {
				wg.Go(func() {
					message := u.message()
					message[0] = byte(worker)
					for range 8 / min(max(s.step, 1), 8) {
						if proof, err := u.prove(message); err != nil || u.check(proof, message) != nil {
							t.Errorf("%s: %v", u.name, err)
						}
					}
				})
			}
		}
		wg.Wait()
	})
}

func TestDestroyEndsTheUseOfEveryKey(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		key := s.parse(t, s.generate(t))
		uses := s.uses(t, key)
		var proofs [][]byte
		for _, u := range uses {
			proof, err := u.prove(u.message())
			require.NoError(t, err)
			proofs = append(proofs, proof)
		}

		start := make(chan struct{})
		var wg sync.WaitGroup
		for i, u := range uses {
			wg.Go(func() {
				<-start
				var err error
				for err == nil {
					if err = u.check(proofs[i], u.message()); err == nil {
						var proof []byte
						if proof, err = u.prove(u.message()); err == nil {
							err = u.check(proof, u.message())
						}
					}
				}
				if err != ErrDestroyed {
					t.Errorf("%s: a call during Destroy returned %v", u.name, err)
				}
			})
		}
		close(start)
		key.Destroy()
		wg.Wait()

		key.Destroy()
		for i, u := range uses {
			_, err := u.prove(u.message())
			require.ErrorIs(t, err, ErrDestroyed)
			require.ErrorIs(t, u.check(proofs[i], u.message()), ErrDestroyed)
		}
	})
}

func TestNothingThatPrintsOrEncodesAKeyShowsIt(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		key := s.parse(t, material)
		for _, u := range s.uses(t, key) { // so that what a key derives on first use could show
			proof, err := u.prove(u.message())
			require.NoError(t, err)
			require.NoError(t, u.check(proof, u.message()))
		}
		secrettest.RequireHidden(t, key, s.secret(t, material))
		secrettest.RequireHidden(t, s.family, s.secret(t, material))
		if signing, ok := key.(SigningKey); ok {
			secrettest.RequireHidden(t, newSigner(t, signing, s.algorithms[0], Raw), s.secret(t, material))
		}
	})
}

func TestErrorsOfParseDoNotShowTheMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		var all []error
		for _, m := range s.invalid(t, material) {
			_, err := s.family.Parse(m)
			all = append(all, err)
		}
		secrettest.RequireHidden(t, errors.Join(all...), s.secret(t, material))
	})
}

func TestErrorsAreDistinct(t *testing.T) {
	all := []error{ErrMaterial, ErrPublicKey, ErrAlgorithm, ErrMessageType, ErrLength, ErrDecrypt, ErrVerify, ErrDestroyed}
	for i, a := range all {
		for _, b := range all[i+1:] {
			require.NotErrorIs(t, a, b)
		}
	}
}

// whole is the secret part of material that has no other part.
func whole(_ *testing.T, material []byte) []byte { return material }
