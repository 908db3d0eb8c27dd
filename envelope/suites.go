package envelope

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/elliptic"
	"crypto/hkdf"
	_ "crypto/sha256" // links the hashes of the table
	_ "crypto/sha512"
	"fmt"

	"github.com/pocketkms/kms/internal/secret"
)

// A Suite is an algorithm suite: how the data of a message is encrypted, and whether it is signed.
type Suite uint16

// The algorithm suites that this package writes. It reads all eleven of the format.
const (
	// SuiteCommitKey is AES-256-GCM with a key from HKDF-SHA512 and key commitment.
	SuiteCommitKey Suite = 0x0478

	// SuiteCommitKeyECDSA is [SuiteCommitKey] with an ECDSA P-384 signature over the whole message,
	// by a key that is generated for it. Who may only decrypt then cannot write messages that
	// verify: use it if those who decrypt are trusted less than those who encrypt. It costs a few
	// hundred microseconds for each message and the time to hash it, and nobody can verify a stream
	// before its end.
	SuiteCommitKeyECDSA Suite = 0x0578
)

// A CommitmentPolicy decides about messages whose algorithm suite does not commit to the data key:
// who knows two data keys can write such a message that decrypts to something else with each.
//
// This package writes none of them, so it has no FORBID_ENCRYPT_ALLOW_DECRYPT.
type CommitmentPolicy int

const (
	// RequireEncryptRequireDecrypt refuses them. It is the default.
	RequireEncryptRequireDecrypt CommitmentPolicy = iota

	// RequireEncryptAllowDecrypt reads them: for what versions 1 of the AWS Encryption SDK wrote.
	RequireEncryptAllowDecrypt
)

// suites are all algorithm suites of the format.
var suites = []suite{
	{id: 0x0014, name: "ALG_AES_128_GCM_IV12_TAG16_NO_KDF", version: 1, keyBytes: 16},
	{id: 0x0046, name: "ALG_AES_192_GCM_IV12_TAG16_NO_KDF", version: 1, keyBytes: 24},
	{id: 0x0078, name: "ALG_AES_256_GCM_IV12_TAG16_NO_KDF", version: 1, keyBytes: 32},
	{id: 0x0114, name: "ALG_AES_128_GCM_IV12_TAG16_HKDF_SHA256", version: 1, keyBytes: 16, kdf: crypto.SHA256},
	{id: 0x0146, name: "ALG_AES_192_GCM_IV12_TAG16_HKDF_SHA256", version: 1, keyBytes: 24, kdf: crypto.SHA256},
	{id: 0x0178, name: "ALG_AES_256_GCM_IV12_TAG16_HKDF_SHA256", version: 1, keyBytes: 32, kdf: crypto.SHA256},
	{id: 0x0214, name: "ALG_AES_128_GCM_IV12_TAG16_HKDF_SHA256_ECDSA_P256", version: 1, keyBytes: 16, kdf: crypto.SHA256,
		curve: elliptic.P256(), signatureHash: crypto.SHA256},
	{id: 0x0346, name: "ALG_AES_192_GCM_IV12_TAG16_HKDF_SHA384_ECDSA_P384", version: 1, keyBytes: 24, kdf: crypto.SHA384,
		curve: elliptic.P384(), signatureHash: crypto.SHA384},
	{id: 0x0378, name: "ALG_AES_256_GCM_IV12_TAG16_HKDF_SHA384_ECDSA_P384", version: 1, keyBytes: 32, kdf: crypto.SHA384,
		curve: elliptic.P384(), signatureHash: crypto.SHA384},
	{id: SuiteCommitKey, name: "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY", version: 2, keyBytes: 32, kdf: crypto.SHA512},
	{id: SuiteCommitKeyECDSA, name: "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384", version: 2, keyBytes: 32, kdf: crypto.SHA512,
		curve: elliptic.P384(), signatureHash: crypto.SHA384},
}

// A suite is a row of the table. Version 2 of the format commits to the data key.
type suite struct {
	id            Suite
	name          string
	version       byte           // of the message format
	keyBytes      int            // of data key and derived key
	kdf           crypto.Hash    // of HKDF; 0 uses the data key itself
	curve         elliptic.Curve // nil if messages are not signed
	signatureHash crypto.Hash
}

// findSuite returns the suite with an ID, or nil.
func findSuite(id Suite) *suite {
	for i := range suites {
		if suites[i].id == id {
			return &suites[i]
		}
	}
	return nil
}

// String returns the suite's name in the AWS Encryption SDK.
func (s Suite) String() string {
	if row := findSuite(s); row != nil {
		return row.name
	}
	return fmt.Sprintf("Suite(%#04x)", uint16(s))
}

// Commits reports whether only one data key can decrypt a message of the suite.
func (s Suite) Commits() bool {
	row := findSuite(s)
	return row != nil && row.commits()
}

// Signs reports whether messages of the suite are signed.
func (s Suite) Signs() bool {
	row := findSuite(s)
	return row != nil && row.signs()
}

func (s *suite) commits() bool { return s.version == 2 }

func (s *suite) signs() bool { return s.curve != nil }

// messageIDBytes returns the length of message IDs.
func (s *suite) messageIDBytes() int {
	if s.version == 2 {
		return 32
	}
	return 16
}

// derive returns the cipher of a message and, if the suite commits, the commitment to its data key.
func (s *suite) derive(dataKey, messageID []byte) (aead cipher.AEAD, commitment []byte, err error) {
	if len(dataKey) != s.keyBytes {
		return nil, nil, fmt.Errorf("envelope: a data key of %d bytes, not %d", len(dataKey), s.keyBytes)
	}
	derived := dataKey
	id := []byte{byte(s.id >> 8), byte(s.id)}
	switch {
	case s.commits():
		cipherKey, commitKey := hkdfSHA512(dataKey, messageID, append(id, "DERIVEKEY"...), []byte("COMMITKEY"))
		defer secret.Clear(cipherKey[:])
		derived, commitment = cipherKey[:s.keyBytes], commitKey[:commitmentBytes]
	case s.kdf != 0:
		if derived, err = hkdf.Key(s.kdf.New, dataKey, nil, string(append(id, messageID...)), s.keyBytes); err != nil {
			return nil, nil, err
		}
		defer secret.Clear(derived)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, nil, err
	}
	aead, err = cipher.NewGCM(block)
	return aead, commitment, err
}
