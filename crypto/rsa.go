package crypto

import (
	"bytes"
	stdcrypto "crypto"
	"crypto/rand"
	stdrsa "crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strconv"

	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/pocketkms/kms/internal/secret"
)

// RSASSA2048 signs with RSA of 2,048 bits (RFC 8017). Its keys are [SigningKey]s for messages and
// digests, with the algorithms RSASSA_PSS_SHA_256, _384 and _512 (MGF1 with the same hash function,
// and a salt as long as its digests) and RSASSA_PKCS1_V1_5_SHA_256, _384 and _512. Signatures are
// as long as the modulus.
//
// The material is PKCS#8 with an RSAPrivateKey of two primes. Import also tests that the primes are
// prime, which takes longer than many signatures; Parse checks that the numbers fit each other.
func RSASSA2048() Family { return rsaFamily{2048, newRSASigningKey} }

// RSASSA3072 is the same with 3,072 bits.
func RSASSA3072() Family { return rsaFamily{3072, newRSASigningKey} }

// RSASSA4096 is the same with 4,096 bits.
func RSASSA4096() Family { return rsaFamily{4096, newRSASigningKey} }

// RSAES2048 encrypts with RSA of 2,048 bits (RFC 8017). Its keys are [DecryptionKey]s with the
// algorithms RSAES_OAEP_SHA_1 and RSAES_OAEP_SHA_256 (MGF1 with the same hash function, and no
// label), for plaintexts of up to 214 and 190 bytes. Ciphertexts are as long as the modulus. The
// material is that of [RSASSA2048].
func RSAES2048() Family { return rsaFamily{2048, newRSADecryptionKey} }

// RSAES3072 is the same with 3,072 bits, for plaintexts of up to 342 and 318 bytes.
func RSAES3072() Family { return rsaFamily{3072, newRSADecryptionKey} }

// RSAES4096 is the same with 4,096 bits, for plaintexts of up to 470 and 446 bytes.
func RSAES4096() Family { return rsaFamily{4096, newRSADecryptionKey} }

// rsaFamily is the material of RSA keys, for every use.
type rsaFamily struct {
	bits   int
	newKey func(private *stdrsa.PrivateKey, public []byte) Key
}

// rsaAlgorithm is rsaEncryption with the parameter NULL (RFC 8017, appendix A.1).
var rsaAlgorithm = append(algorithmID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}), 5, 0)

func (f rsaFamily) Generate() ([]byte, error) {
	private, err := stdrsa.GenerateKey(rand.Reader, f.bits)
	if err != nil {
		return nil, err
	}
	if private, err = canonicalRSA(private); err != nil {
		return nil, err
	}
	return f.store(private)
}

func (f rsaFamily) Import(material []byte) ([]byte, error) {
	private, err := f.read(material)
	if err != nil {
		return nil, err
	}
	for _, prime := range private.Primes {
		if prime.BitLen() != f.bits/2 { // FIPS 186-5, section A.1.1
			return nil, fmt.Errorf("%w: the primes have different lengths", ErrMaterial)
		}
		if !isPrime(prime) {
			return nil, fmt.Errorf("%w: a factor of the modulus is not prime", ErrMaterial)
		}
	}
	if private, err = canonicalRSA(private); err != nil {
		return nil, err
	}
	return f.store(private)
}

// canonicalRSA returns the same key with the larger prime first, and with the least private
// exponent (FIPS 186-5, section A.1.1, step 3). Like the tests of the primes, this is not done in
// constant time; it is done once for each key.
func canonicalRSA(private *stdrsa.PrivateKey) (*stdrsa.PrivateKey, error) {
	p, q := private.Primes[0], private.Primes[1]
	if p.Cmp(q) < 0 {
		p, q = q, p
	}
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lambda := new(big.Int).Mul(p1, q1)
	lambda.Div(lambda, new(big.Int).GCD(nil, nil, p1, q1))
	d := new(big.Int).ModInverse(big.NewInt(int64(private.E)), lambda)
	if d == nil {
		return nil, fmt.Errorf("%w: inconsistent RSAPrivateKey", ErrMaterial)
	}
	canonical := &stdrsa.PrivateKey{PublicKey: private.PublicKey, D: d, Primes: []*big.Int{p, q}}
	if err := canonical.Validate(); err != nil {
		return nil, fmt.Errorf("%w: inconsistent RSAPrivateKey", ErrMaterial)
	}
	canonical.Precompute()
	return canonical, nil
}

// isPrime is the Baillie-PSW test, which no composite number is known to pass, and five rounds of
// Miller-Rabin. A composite number that passes harms only the key that was imported with it.
func isPrime(n *big.Int) bool { return n.ProbablyPrime(5) }

func (f rsaFamily) Parse(material []byte) (Key, error) {
	private, err := f.read(material)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return f.newKey(private, public), nil
}

func (f rsaFamily) read(material []byte) (*stdrsa.PrivateKey, error) {
	octets, public, err := readPKCS8(material, rsaAlgorithm)
	if err != nil {
		return nil, err
	}
	// Read the modulus first, to do no work for a key of another size. Version 0 has two primes.
	key, modulus, version := octets, new(big.Int), -1
	ok := key.ReadASN1(&key, der.SEQUENCE) && key.ReadASN1Integer(&version) && version == 0 && key.ReadASN1Integer(modulus)
	if !ok || public != nil {
		return nil, fmt.Errorf("%w: malformed RSAPrivateKey", ErrMaterial)
	}
	if modulus.BitLen() != f.bits {
		return nil, fmt.Errorf("%w: an RSA key of %d bits instead of %d", ErrMaterial, modulus.BitLen(), f.bits)
	}
	private, err := x509.ParsePKCS1PrivateKey(octets) // validates the key
	if err != nil {
		return nil, fmt.Errorf("%w: inconsistent RSAPrivateKey", ErrMaterial)
	}
	// encoding/asn1 ignores further elements of the structure. There is only one DER encoding.
	if again := x509.MarshalPKCS1PrivateKey(private); !bytes.Equal(again, octets) {
		return nil, fmt.Errorf("%w: malformed RSAPrivateKey", ErrMaterial)
	}
	return private, nil
}

func (f rsaFamily) store(private *stdrsa.PrivateKey) ([]byte, error) {
	octets := x509.MarshalPKCS1PrivateKey(private)
	defer secret.Clear(octets)
	return marshalPKCS8(rsaAlgorithm, octets)
}

func newRSASigningKey(private *stdrsa.PrivateKey, public []byte) Key {
	return newSigningKey(private, public, rsaSchemes)
}

var rsaSchemes = newRSASchemes()

func newRSASchemes() (all []scheme[stdrsa.PrivateKey]) {
	for _, hash := range []stdcrypto.Hash{stdcrypto.SHA256, stdcrypto.SHA384, stdcrypto.SHA512} {
		name := strconv.Itoa(8 * hash.Size())
		pss := &stdrsa.PSSOptions{SaltLength: stdrsa.PSSSaltLengthEqualsHash, Hash: hash}
		for _, digest := range []scheme[stdrsa.PrivateKey]{{
			algorithm: "RSASSA_PSS_SHA_" + name,
			sign: func(private *stdrsa.PrivateKey, digest []byte) ([]byte, error) {
				return stdrsa.SignPSS(rand.Reader, private, hash, digest, pss)
			},
			verify: func(private *stdrsa.PrivateKey, signature, digest []byte) bool {
				return stdrsa.VerifyPSS(&private.PublicKey, hash, digest, signature, pss) == nil
			},
		}, {
			algorithm: "RSASSA_PKCS1_V1_5_SHA_" + name,
			sign: func(private *stdrsa.PrivateKey, digest []byte) ([]byte, error) {
				return stdrsa.SignPKCS1v15(nil, private, hash, digest)
			},
			verify: func(private *stdrsa.PrivateKey, signature, digest []byte) bool {
				return stdrsa.VerifyPKCS1v15(&private.PublicKey, hash, digest, signature) == nil
			},
		}} {
			digest.messageType, digest.size = Digest, hash.Size()
			all = append(all, digest, digest.hashed(func(message []byte) []byte {
				h := hash.New()
				h.Write(message)
				return h.Sum(nil)
			}))
		}
	}
	return all
}

func newRSADecryptionKey(private *stdrsa.PrivateKey, public []byte) Key {
	k := new(rsaDecryptionKey)
	k.public = public
	k.p.Store(private)
	return k
}

type rsaDecryptionKey struct{ privateKey[stdrsa.PrivateKey] }

var _ DecryptionKey = (*rsaDecryptionKey)(nil)

func (k *rsaDecryptionKey) MaxPlaintext(algorithm string) (int, error) {
	private, hash, err := k.use(algorithm)
	if err != nil {
		return 0, err
	}
	return maxOAEP(private, hash), nil
}

// maxOAEP is the bound of RFC 8017, section 7.1.1, step 1b.
func maxOAEP(private *stdrsa.PrivateKey, hash stdcrypto.Hash) int {
	return private.Size() - 2*hash.Size() - 2
}

func (k *rsaDecryptionKey) Encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	private, hash, err := k.use(algorithm)
	if err != nil {
		return nil, err
	}
	if len(plaintext) > maxOAEP(private, hash) {
		return nil, ErrLength
	}
	return stdrsa.EncryptOAEP(hash.New(), rand.Reader, &private.PublicKey, plaintext, nil)
}

func (k *rsaDecryptionKey) Decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	private, hash, err := k.use(algorithm)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) != private.Size() {
		return nil, ErrDecrypt
	}
	plaintext, err := stdrsa.DecryptOAEP(hash.New(), nil, private, ciphertext, nil)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

func (k *rsaDecryptionKey) use(algorithm string) (private *stdrsa.PrivateKey, hash stdcrypto.Hash, err error) {
	switch algorithm {
	case "RSAES_OAEP_SHA_1":
		hash = stdcrypto.SHA1
	case "RSAES_OAEP_SHA_256":
		hash = stdcrypto.SHA256
	default:
		return nil, 0, ErrAlgorithm
	}
	private, err = k.get()
	return private, hash, err
}
