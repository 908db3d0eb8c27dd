package crypto

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"runtime"
	"sync/atomic"

	stdmldsa "filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"

	"github.com/pocketkms/kms/internal/secret"
)

// MLDSA44 is ML-DSA-44 (FIPS 204). Its keys are [SigningKey]s of one algorithm, ML_DSA_SHAKE_256:
// pure ML-DSA with an empty context, for messages, and for mu of 64 bytes in place of a message.
// Signatures are randomized and have 2,420 bytes. The material is PKCS#8 with the seed (RFC 9881,
// section 6, the choice "seed"). The private key is erased once it is destroyed or garbage, and no
// call uses it.
func MLDSA44() Family { return mldsaFamily{&mldsa44} }

// MLDSA65 is ML-DSA-65, with signatures of 3,309 bytes.
func MLDSA65() Family { return mldsaFamily{&mldsa65} }

// MLDSA87 is ML-DSA-87, with signatures of 4,627 bytes.
func MLDSA87() Family { return mldsaFamily{&mldsa87} }

type mldsaFamily struct{ *mldsaSet }

func mldsaAlgorithm(set int) []byte {
	return algorithmID(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, set}) // RFC 9881, section 2
}

func (f mldsaFamily) Generate() ([]byte, error) {
	seed := randomBytes(stdmldsa.PrivateKeySize)
	defer secret.Clear(seed)
	return marshalSeed(f.algorithm, seed)
}

func (f mldsaFamily) Import(material []byte) ([]byte, error) {
	private, err := f.read(material)
	if err != nil {
		return nil, err
	}
	defer eraseMLDSA(private)
	seed := private.Bytes()
	defer secret.Clear(seed)
	return marshalSeed(f.algorithm, seed)
}

func (f mldsaFamily) Parse(material []byte) (Key, error) {
	private, err := f.read(material)
	if err != nil {
		return nil, err
	}
	k := &mldsaKey{f.mldsaSet, new(atomic.Pointer[stdmldsa.PrivateKey]), private.PublicKey()}
	k.private.Store(private)
	runtime.AddCleanup(k, func(private *atomic.Pointer[stdmldsa.PrivateKey]) {
		eraseMLDSA(private.Load())
		private.Store(nil)
	}, k.private)
	public, err := marshalSPKI(f.algorithm, k.public.Bytes())
	if err != nil {
		return nil, err
	}
	return newSigningKey(k, public, mldsaSchemes), nil
}

func (f mldsaFamily) read(material []byte) (*stdmldsa.PrivateKey, error) {
	seed, public, err := readSeed(material, f.algorithm, stdmldsa.PrivateKeySize)
	if err != nil {
		return nil, err
	}
	private, err := stdmldsa.NewPrivateKey(f.parameters(), seed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaterial, err)
	}
	if public != nil && !bytes.Equal(public, private.PublicKey().Bytes()) {
		return nil, fmt.Errorf("%w: public key of another private key", ErrMaterial)
	}
	return private, nil
}

// eraseMLDSA erases all of a private key: it consists of arrays.
func eraseMLDSA(private *stdmldsa.PrivateKey) { *private = stdmldsa.PrivateKey{} }

type mldsaKey struct {
	*mldsaSet
	private *atomic.Pointer[stdmldsa.PrivateKey] // nil once the key is erased
	public  *stdmldsa.PublicKey
}

var mldsaSchemes = []scheme[mldsaKey]{{
	algorithm: "ML_DSA_SHAKE_256", messageType: Raw,
	sign: func(k *mldsaKey, message []byte) ([]byte, error) {
		return k.private.Load().Sign(nil, message, nil)
	},
	verify: func(k *mldsaKey, signature, message []byte) bool {
		return stdmldsa.Verify(k.public, message, signature, nil) == nil
	},
}, {
	algorithm: "ML_DSA_SHAKE_256", messageType: ExternalMu, size: mldsaMuBytes,
	sign: func(k *mldsaKey, mu []byte) ([]byte, error) {
		return k.private.Load().Sign(nil, mu, mldsacrypto.MLDSAMu)
	},
	verify: func(k *mldsaKey, signature, mu []byte) bool {
		return k.verifyMu(k.public.Bytes(), mu, signature)
	},
}}
