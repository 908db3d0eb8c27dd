package envelope

import "crypto"

// A Suite is an algorithm suite: how the data of a message is encrypted, and whether it is signed.
type Suite uint16

// The algorithm suites that this package writes. It reads all eleven.
const (
	// SuiteCommitKey is AES-256-GCM with a key from HKDF-SHA512 and key commitment.
	SuiteCommitKey Suite = 0x0478

	// SuiteCommitKeyECDSA is [SuiteCommitKey] with an ECDSA P-384 signature over the whole message,
	// whose key is generated for each message. A reader who may only decrypt then cannot write
	// messages: use it if those who decrypt are trusted less than those who encrypt. It takes a few
	// hundred microseconds for each message, and a stream is not verified before its end.
	SuiteCommitKeyECDSA Suite = 0x0578
)

// String returns the suite's name in the AWS Encryption SDK.
func (s Suite) String() string { panic("skeleton") }

// Commits reports whether messages of the suite can be decrypted by one data key only.
func (s Suite) Commits() bool { panic("skeleton") }

// Signs reports whether messages of the suite are signed.
func (s Suite) Signs() bool { panic("skeleton") }

// A CommitmentPolicy decides about messages whose algorithm suite does not commit to the data key:
// one who knows two data keys can write such a message that decrypts to something else under each.
//
// This package writes none of them, so the policy FORBID_ENCRYPT_ALLOW_DECRYPT of the AWS Encryption
// SDK does not exist here.
type CommitmentPolicy int

const (
	// RequireEncryptRequireDecrypt refuses them. It is the default.
	RequireEncryptRequireDecrypt CommitmentPolicy = iota

	// RequireEncryptAllowDecrypt reads them: for data that versions 1 of the AWS Encryption SDK
	// wrote.
	RequireEncryptAllowDecrypt
)

type suite struct {
	id      Suite
	hash    crypto.Hash
	keySize int
}
