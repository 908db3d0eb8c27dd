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

// subject is a family as the shared suite sees it. A new family is one more row.
type subject struct {
	name       string
	family     Family
	algorithms []string                                     // of a SigningKey
	slow       bool                                         // to check: one bit of each byte is flipped instead of all
	secret     func(t *testing.T, material []byte) []byte   // what of the material nothing may show
	unfit      func(t *testing.T, material []byte) [][]byte // what Parse must refuse, beyond empty and unrelated bytes
}

func subjects() []subject {
	return slices.Concat(xaesSubjects(), hmacSubjects(), ecdsaSubjects())
}

func forEveryFamily(t *testing.T, test func(t *testing.T, s subject)) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

func (s subject) generate(t testing.TB) []byte {
	t.Helper()
	material, err := s.family.Generate()
	require.NoError(t, err)
	return material
}

func (s subject) parse(t testing.TB, material []byte) Key {
	t.Helper()
	key, err := s.family.Parse(material)
	require.NoError(t, err)
	return key
}

// use is one thing that a key does, seen as the making and checking of a proof for a message.
type use struct {
	name    string
	size    int // of messages in bytes, 0 for any
	prove   func(message []byte) ([]byte, error)
	check   func(proof, message []byte) error
	refusal error
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
			signer, err := k.Signer(a)
			require.NoError(t, err)
			uses = append(uses,
				use{name: a, prove: signer.Sign, check: signer.Verify, refusal: ErrVerify},
				use{name: a + " of a digest", size: signer.DigestSize(), prove: signer.SignDigest, check: signer.VerifyDigest, refusal: ErrVerify})
		}
		require.NotEmpty(t, uses)
		return uses
	}
	require.Failf(t, "unknown ability", "%T", key)
	return nil
}

func (u use) messages() [][]byte {
	if u.size != 0 {
		return [][]byte{bytes.Repeat([]byte{0xa5}, u.size), make([]byte, u.size)}
	}
	return [][]byte{nil, {0}, []byte("message"), bytes.Repeat([]byte{0xa5}, 4096)}
}

func (u use) message() []byte { return bytes.Repeat([]byte{0x3c}, max(u.size, 7)) }

func TestEveryFamilyAcceptsItsOwnMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		require.NotEqual(t, material, s.generate(t), "material is random")

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
				require.NoError(t, theirs[i].check(proof, message), "by a key whose material was not erased since")
			}
		}
	})
}

func TestEveryFamilyRefusesUnfitMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		unfit := [][]byte{nil, {}, {0}, bytes.Repeat([]byte{0x30}, 4096), material[:len(material)-1]}
		for i, m := range append(unfit, s.unfit(t, material)...) {
			key, err := s.family.Parse(m)
			require.ErrorIs(t, err, ErrMaterial, "material %d", i)
			require.Nil(t, key)
		}
	})
}

func TestEveryKeyRefusesWhatItDidNotMake(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		stranger := s.uses(t, s.parse(t, s.generate(t)))
		step := 1
		if s.slow {
			step = 9 // another place in each byte
		}
		for i, u := range s.uses(t, s.parse(t, s.generate(t))) {
			t.Run(u.name, func(t *testing.T) {
				message := u.message()
				proof, err := u.prove(message)
				require.NoError(t, err)
				require.ErrorIs(t, stranger[i].check(proof, message), u.refusal)

				for bit := 0; bit < 8*len(proof); bit += step {
					require.ErrorIs(t, u.check(flip(proof, bit), message), u.refusal, "bit %d of the proof", bit)
				}
				for bit := 0; bit < 8*len(message); bit += step {
					require.ErrorIs(t, u.check(proof, flip(message, bit)), u.refusal, "bit %d of the message", bit)
				}
				for n := range proof {
					require.ErrorIs(t, u.check(proof[:n], message), u.refusal, "the first %d bytes of the proof", n)
				}
				require.ErrorIs(t, u.check(append(bytes.Clone(proof), 0), message), u.refusal)
				require.ErrorIs(t, u.check(append([]byte{0}, proof...), message), u.refusal)
				require.NoError(t, u.check(proof, message), "which was right all along")
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

func TestEveryKeyServesManyAtOnce(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		key := s.parse(t, s.generate(t))
		var wg sync.WaitGroup
		for _, u := range s.uses(t, key) {
			for worker := range 4 {
				wg.Go(func() {
					message := u.message()
					message[0] = byte(worker)
					for range 8 {
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

func TestEveryKeyEndsProperlyWhenDestroyed(t *testing.T) {
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
		for _, u := range s.uses(t, key) { // so that whatever a key makes on first use is there to be shown
			proof, err := u.prove(u.message())
			require.NoError(t, err)
			require.NoError(t, u.check(proof, u.message()))
		}
		secrettest.RequireHidden(t, key, s.secret(t, material))
		secrettest.RequireHidden(t, s.family, s.secret(t, material))
	})
}

func TestErrorsOfParseDoNotShowTheMaterial(t *testing.T) {
	forEveryFamily(t, func(t *testing.T, s subject) {
		material := s.generate(t)
		var all []error
		for _, m := range s.unfit(t, material) {
			_, err := s.family.Parse(m)
			all = append(all, err)
		}
		secrettest.RequireHidden(t, errors.Join(all...), s.secret(t, material))
	})
}

func TestErrorsAreDistinct(t *testing.T) {
	all := []error{ErrMaterial, ErrAlgorithm, ErrTooLong, ErrDigest, ErrDecrypt, ErrVerify, ErrDestroyed}
	for i, a := range all {
		for _, b := range all[i+1:] {
			require.NotErrorIs(t, a, b)
		}
	}
}

// whole is the secret of material that is nothing else.
func whole(_ *testing.T, material []byte) []byte { return material }
