package crypto

import (
	"bytes"
	stdmlkem "crypto/mlkem"
	"encoding/asn1"
	"fmt"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"

	"github.com/pocketkms/kms/internal/secret"
)

// MLKEM512 is ML-KEM-512 (FIPS 203). Its keys are [DecapsulationKey]s with shared secrets of 32
// bytes and ciphertexts of 768. The material is PKCS#8 with the seed d ‖ z (RFC 9935, section 6,
// the choice "seed"), 86 bytes in each of the three families. The implementation is that of CIRCL;
// the standard library has only the two others.
func MLKEM512() Family { return mlkemFamily{mlkemAlgorithm(1), mlkem512.CiphertextSize, newMLKEM512} }

// MLKEM768 is ML-KEM-768, with ciphertexts of 1,088 bytes.
func MLKEM768() Family {
	return mlkemFamily{mlkemAlgorithm(2), stdmlkem.CiphertextSize768, newMLKEM768}
}

// MLKEM1024 is ML-KEM-1024, with ciphertexts of 1,568 bytes.
func MLKEM1024() Family {
	return mlkemFamily{mlkemAlgorithm(3), stdmlkem.CiphertextSize1024, newMLKEM1024}
}

func mlkemAlgorithm(set int) []byte {
	return algorithmID(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, set}) // RFC 9935, section 3
}

type mlkemFamily struct {
	algorithm      []byte
	ciphertextSize int
	newKey         func(seed []byte) (*mlkem, error)
}

// mlkem is the key pair of a seed. decapsulate takes only ciphertexts of the right length.
type mlkem struct {
	public      []byte // the encapsulation key
	encapsulate func() (sharedSecret, ciphertext []byte)
	decapsulate func(ciphertext []byte) (sharedSecret []byte, err error)
}

func newMLKEM512(seed []byte) (*mlkem, error) {
	public, private := mlkem512.NewKeyFromSeed(seed)
	encoded, err := public.MarshalBinary()
	return &mlkem{
		public: encoded,
		encapsulate: func() (sharedSecret, ciphertext []byte) {
			sharedSecret, ciphertext = make([]byte, mlkem512.SharedKeySize), make([]byte, mlkem512.CiphertextSize)
			public.EncapsulateTo(ciphertext, sharedSecret, nil)
			return sharedSecret, ciphertext
		},
		decapsulate: func(ciphertext []byte) ([]byte, error) {
			sharedSecret := make([]byte, mlkem512.SharedKeySize)
			private.DecapsulateTo(sharedSecret, ciphertext)
			return sharedSecret, nil
		},
	}, err
}

func newMLKEM768(seed []byte) (*mlkem, error) {
	private, err := stdmlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, err
	}
	public := private.EncapsulationKey()
	return &mlkem{public.Bytes(), public.Encapsulate, private.Decapsulate}, nil
}

func newMLKEM1024(seed []byte) (*mlkem, error) {
	private, err := stdmlkem.NewDecapsulationKey1024(seed)
	if err != nil {
		return nil, err
	}
	public := private.EncapsulationKey()
	return &mlkem{public.Bytes(), public.Encapsulate, private.Decapsulate}, nil
}

func (f mlkemFamily) Generate() ([]byte, error) {
	seed := randomBytes(stdmlkem.SeedSize)
	defer secret.Clear(seed)
	return marshalSeed(f.algorithm, seed)
}

func (f mlkemFamily) Import(material []byte) ([]byte, error) {
	seed, _, err := f.read(material)
	if err != nil {
		return nil, err
	}
	return marshalSeed(f.algorithm, seed)
}

func (f mlkemFamily) Parse(material []byte) (Key, error) {
	_, m, err := f.read(material)
	if err != nil {
		return nil, err
	}
	k := &mlkemKey{ciphertextSize: f.ciphertextSize}
	if k.public, err = marshalSPKI(f.algorithm, m.public); err != nil {
		return nil, err
	}
	k.p.Store(m)
	return k, nil
}

// read returns the seed, which is a part of the material, and its key.
func (f mlkemFamily) read(material []byte) (seed []byte, m *mlkem, err error) {
	seed, public, err := readSeed(material, f.algorithm, stdmlkem.SeedSize)
	if err != nil {
		return nil, nil, err
	}
	if m, err = f.newKey(seed); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	if public != nil && !bytes.Equal(public, m.public) {
		return nil, nil, fmt.Errorf("%w: public key of another private key", ErrMaterial)
	}
	return seed, m, nil
}

type mlkemKey struct {
	privateKey[mlkem]
	ciphertextSize int
}

var _ DecapsulationKey = (*mlkemKey)(nil)

func (k *mlkemKey) Encapsulate() (sharedSecret, ciphertext []byte, err error) {
	m, err := k.get()
	if err != nil {
		return nil, nil, err
	}
	sharedSecret, ciphertext = m.encapsulate()
	return sharedSecret, ciphertext, nil
}

func (k *mlkemKey) Decapsulate(ciphertext []byte) ([]byte, error) {
	m, err := k.get()
	if err != nil {
		return nil, err
	}
	if len(ciphertext) != k.ciphertextSize {
		return nil, ErrDecrypt
	}
	return m.decapsulate(ciphertext)
}
