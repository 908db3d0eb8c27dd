package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/shape"
)

// EncryptInput is a small piece of data to encrypt. Larger data is encrypted by a data key: see GenerateDataKey.
type EncryptInput struct {
	// KeyId is the key to encrypt under: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Plaintext is the data, 1 to 4,096 bytes; an RSA or SM2 key takes less, depending on its size and the algorithm.
	Plaintext []byte `kms:"required,len=1..4096,secret"`

	// EncryptionContext is authenticated with the data but not encrypted: Decrypt must be given the same pairs, in any
	// order. No secrets, it is logged in clear. For symmetric keys alone.
	EncryptionContext map[string]string

	// EncryptionAlgorithm must suit the key; absent means EncryptionAlgorithmSymmetricDefault, so an asymmetric key
	// needs it.
	EncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool
}

// EncryptOutput is the encrypted data.
type EncryptOutput struct {
	// KeyId is the ARN of the key that encrypted.
	KeyId string

	// CiphertextBlob is the ciphertext. One of a symmetric key also tells Decrypt which key it was.
	CiphertextBlob []byte `kms:"secret"`

	// EncryptionAlgorithm is the algorithm used.
	EncryptionAlgorithm EncryptionAlgorithmSpec
}

// DecryptInput is data to decrypt: from Encrypt, ReEncrypt or GenerateDataKey and its kin, or encrypted elsewhere under
// the public key of an asymmetric key.
type DecryptInput struct {
	// CiphertextBlob is the ciphertext, 1 to 6,144 bytes. Only a dry run with DryRunModifierIgnoreCiphertext may lack it.
	CiphertextBlob []byte `kms:"len=1..6144,secret"`

	// KeyId is the key that must have encrypted: key ID, key ARN, alias name or alias ARN. Absent, a symmetric
	// ciphertext's own key is used; give it all the same, so that no other key can be slipped in. Required for an
	// asymmetric key, and without CiphertextBlob.
	KeyId string `kms:"len=1..2048"`

	// EncryptionContext must be what Encrypt was given, pair for pair. For symmetric keys alone.
	EncryptionContext map[string]string

	// EncryptionAlgorithm must be what Encrypt was given; absent means EncryptionAlgorithmSymmetricDefault, so an
	// asymmetric key needs it.
	EncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// Recipient asks for the plaintext to be encrypted to an attested enclave instead of returned in clear.
	Recipient *RecipientInfo

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool

	// DryRunModifiers narrow a dry run's checks; without DryRun they mean nothing.
	DryRunModifiers []DryRunModifierType
}

// DecryptOutput is the decrypted data.
type DecryptOutput struct {
	// KeyId is the ARN of the key that decrypted.
	KeyId string

	// Plaintext is the data; nil if a Recipient was given. The slice is the caller's own: clear it when done.
	Plaintext []byte `kms:"secret"`

	// CiphertextForRecipient is the plaintext encrypted to the Recipient, a CMS EnvelopedData (RFC 5652); else nil.
	CiphertextForRecipient []byte `kms:"secret"`

	// EncryptionAlgorithm is the algorithm used.
	EncryptionAlgorithm EncryptionAlgorithmSpec

	// KeyMaterialId is the key material that decrypted, 64 hexadecimal digits; for symmetric keys, without Recipient.
	KeyMaterialId string
}

// ReEncryptInput is ciphertext to bring under another key, context or algorithm. The plaintext stays in the service.
type ReEncryptInput struct {
	// CiphertextBlob is the ciphertext, 1 to 6,144 bytes. Only a dry run with DryRunModifierIgnoreCiphertext may lack it.
	CiphertextBlob []byte `kms:"len=1..6144,secret"`

	// SourceKeyId is the key that must have encrypted, as DecryptInput.KeyId.
	SourceKeyId string `kms:"len=1..2048"`

	// SourceEncryptionContext must be what the ciphertext was made with. For symmetric source keys alone.
	SourceEncryptionContext map[string]string

	// SourceEncryptionAlgorithm is what the ciphertext was made with; absent means EncryptionAlgorithmSymmetricDefault.
	SourceEncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// DestinationKeyId is the key to encrypt under: key ID, key ARN, alias name or alias ARN. It may be the source key.
	DestinationKeyId string `kms:"required,len=1..2048"`

	// DestinationEncryptionContext belongs to the new ciphertext: the source's is not carried over. For symmetric
	// destination keys alone. No secrets, it is logged in clear.
	DestinationEncryptionContext map[string]string

	// DestinationEncryptionAlgorithm must suit the destination key; absent means EncryptionAlgorithmSymmetricDefault.
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// GrantTokens let grants take effect before the whole service knows them. At most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException instead of acting.
	DryRun bool

	// DryRunModifiers narrow a dry run's checks; without DryRun they mean nothing.
	DryRunModifiers []DryRunModifierType
}

// ReEncryptOutput is the ciphertext under the destination key.
type ReEncryptOutput struct {
	// KeyId is the ARN of the destination key.
	KeyId string

	// SourceKeyId is the ARN of the source key.
	SourceKeyId string

	// CiphertextBlob is the new ciphertext.
	CiphertextBlob []byte `kms:"secret"`

	// SourceEncryptionAlgorithm is the algorithm that decrypted.
	SourceEncryptionAlgorithm EncryptionAlgorithmSpec

	// DestinationEncryptionAlgorithm is the algorithm that encrypted.
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec

	// SourceKeyMaterialId is the key material that decrypted, 64 hexadecimal digits; for symmetric source keys.
	SourceKeyMaterialId string

	// DestinationKeyMaterialId is the key material that encrypted, 64 hexadecimal digits; for symmetric ones.
	DestinationKeyMaterialId string
}

// RecipientInfo is an attested enclave, which alone shall be able to read an answer.
type RecipientInfo struct {
	// AttestationDocument is the signed document of the enclave with its RSA public key, 1 to 262,144 bytes: a
	// COSE_Sign1 in CBOR, as AWS Nitro makes it.
	AttestationDocument []byte `kms:"len=1..262144,secret"`

	// KeyEncryptionAlgorithm is how the answer's key is encrypted to the enclave's.
	KeyEncryptionAlgorithm KeyEncryptionMechanism
}

var opEncrypt = define(operation[EncryptInput, EncryptOutput]{
	description: description{name: "Encrypt", keys: keyOrAlias, crossAccount: true, states: useState,
		usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true},
	admit: func(c *call, in *EncryptInput) error {
		if err := c.key().admitEncryption(in.EncryptionAlgorithm, in.EncryptionContext); err != nil {
			return err
		}
		return c.admitContext(in.DryRun, in.EncryptionContext)
	},
	act: func(c *call, in *EncryptInput) (*EncryptOutput, error) {
		ciphertext, err := c.seal(c.key(), in.Plaintext, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		return &EncryptOutput{
			KeyId:               c.key().arn,
			CiphertextBlob:      ciphertext,
			EncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
		}, nil
	},
})

// Encrypt encrypts up to 4,096 bytes under a key. The ciphertext names its key
// and key material, and keeps decrypting however often the key is rotated.
func (s *Service) Encrypt(ctx context.Context, in *EncryptInput) (*EncryptOutput, error) {
	return opEncrypt.do(ctx, s, in)
}

var opDecrypt = define(operation[DecryptInput, DecryptOutput]{
	description: description{name: "Decrypt", keys: ownIdentify, crossAccount: true, states: useState,
		readOnly: true, tracked: true},
	missing: func(c *call, in *DecryptInput) []error {
		c.source = in.source()
		return c.source.missing("keyId")
	},
	identify: func(c *call, _ *DecryptInput) error { return c.identifySource(c.op.permission) },
	admit: func(c *call, in *DecryptInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		if err := c.admitSource(); err != nil {
			return err
		}
		return c.tryCiphertext(in.DryRun)
	},
	act: func(c *call, in *DecryptInput) (*DecryptOutput, error) {
		plaintext, m, err := c.open(c.key(), in.CiphertextBlob, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		return &DecryptOutput{
			KeyId:               c.key().arn,
			Plaintext:           plaintext,
			EncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
			KeyMaterialId:       m.id,
		}, nil
	},
})

// Decrypt decrypts what Encrypt, ReEncrypt or GenerateDataKey made. Without a
// KeyId the ciphertext's own key is used. A ciphertext of another key than
// KeyId is refused with IncorrectKeyException, and one that was changed, or
// comes with another encryption context, with InvalidCiphertextException.
func (s *Service) Decrypt(ctx context.Context, in *DecryptInput) (*DecryptOutput, error) {
	return opDecrypt.do(ctx, s, in)
}

var opReEncrypt = define(operation[ReEncryptInput, ReEncryptOutput]{
	description: description{name: "ReEncrypt", permission: "kms:ReEncryptFrom", keys: ownIdentify, crossAccount: true,
		states: useState, readOnly: true, tracked: true},
	missing: func(c *call, in *ReEncryptInput) []error {
		c.source = in.source()
		return c.source.missing("sourceKeyId")
	},
	identify: func(c *call, in *ReEncryptInput) error {
		if err := c.identifySource("kms:ReEncryptFrom"); err != nil {
			return err
		}
		return c.identify(in.DestinationKeyId, "kms:ReEncryptTo", true)
	},
	admit: func(c *call, in *ReEncryptInput) error {
		if err := c.admitSource(); err != nil {
			return err
		}
		destination := c.targets[1].key
		if err := destination.admitUsage(KeyUsageEncryptDecrypt, c.op.name); err != nil {
			return err
		}
		if err := destination.admitEncryption(in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext); err != nil {
			return err
		}
		if err := c.tryCiphertext(in.DryRun); err != nil {
			return err
		}
		return c.admitContext(in.DryRun, in.DestinationEncryptionContext)
	},
	act: func(c *call, in *ReEncryptInput) (*ReEncryptOutput, error) {
		source, destination := c.targets[0].key, c.targets[1].key
		plaintext, from, err := c.open(source, in.CiphertextBlob, in.SourceEncryptionContext)
		if err != nil {
			return nil, err
		}
		defer secret.Clear(plaintext)
		ciphertext, err := c.seal(destination, plaintext, in.DestinationEncryptionContext)
		if err != nil {
			return nil, err
		}
		return &ReEncryptOutput{
			KeyId:                          destination.arn,
			SourceKeyId:                    source.arn,
			CiphertextBlob:                 ciphertext,
			SourceEncryptionAlgorithm:      EncryptionAlgorithmSymmetricDefault,
			DestinationEncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
			SourceKeyMaterialId:            from.id,
			DestinationKeyMaterialId:       destination.current().id,
		}, nil
	},
})

// ReEncrypt decrypts a ciphertext and encrypts what was in it under another
// key, or under the same key with another encryption context or its current
// material. The plaintext does not leave the service.
func (s *Service) ReEncrypt(ctx context.Context, in *ReEncryptInput) (*ReEncryptOutput, error) {
	return opReEncrypt.do(ctx, s, in)
}

// errNoRecipients refuses answers that only an attested enclave shall read.
var errNoRecipients = exception(UnsupportedOperationException, "Recipient is not supported: no attestation document can be verified here.")

// A source is the ciphertext that Decrypt and ReEncrypt are given, and what the
// caller says of it.
type source struct {
	ciphertext []byte
	ignored    bool // by a dry run that asks for permission alone
	keyID      string
	algorithm  EncryptionAlgorithmSpec
	context    map[string]string
}

func (in *DecryptInput) source() source {
	return newSource(in.CiphertextBlob, in.KeyId, in.EncryptionAlgorithm, in.EncryptionContext, in.DryRun, in.DryRunModifiers)
}

func (in *ReEncryptInput) source() source {
	return newSource(in.CiphertextBlob, in.SourceKeyId, in.SourceEncryptionAlgorithm, in.SourceEncryptionContext, in.DryRun, in.DryRunModifiers)
}

func newSource(ciphertext []byte, keyID string, algorithm EncryptionAlgorithmSpec, context map[string]string, dryRun bool, modifiers []DryRunModifierType) source {
	src := source{ciphertext: ciphertext, keyID: keyID, algorithm: orDefault(algorithm, EncryptionAlgorithmSymmetricDefault), context: context}
	if dryRun && slices.Contains(modifiers, DryRunModifierIgnoreCiphertext) {
		src.ciphertext, src.ignored = nil, true
	}
	return src
}

// missing tells of members that must be there; keyIDPath is the one that names
// the key.
func (src *source) missing(keyIDPath string) (violations []error) {
	if src.ciphertext == nil && !src.ignored {
		violations = append(violations, shape.Missing("ciphertextBlob"))
	}
	if src.keyID == "" && (src.ignored || src.algorithm != EncryptionAlgorithmSymmetricDefault) {
		violations = append(violations, shape.Missing(keyIDPath))
	}
	return violations
}

// identifySource makes the key of the call's source its next target: the one
// that the caller named, or else the one that the ciphertext names.
func (c *call) identifySource(permission string) error {
	src := &c.source
	if src.algorithm == EncryptionAlgorithmSymmetricDefault {
		c.blob = parseBlob(src.ciphertext)
	}
	if c.blob == nil {
		if src.keyID == "" {
			return exception(InvalidCiphertextException, "")
		}
		return c.identify(src.keyID, permission, true)
	}
	owner := c.blob.account(c.caller.account)
	foreign := owner != c.caller.account
	if src.keyID != "" && !(foreign && src.keyID == c.blob.keyID()) { // here alone, the bare ID of a foreign key means that key
		return c.identify(src.keyID, permission, true)
	}
	k, err := c.sourceKey(owner)
	switch {
	case err != nil && foreign:
		return c.mask(err, deniedCiphertext(c.caller, permission, false, ""))
	case err != nil:
		return err
	case k == nil:
		return deniedCiphertext(c.caller, permission, false, "")
	}
	return c.addTarget(target{key: k, permission: permission, ciphertext: true})
}

// sourceKey returns the key that the call's ciphertext names; nil if there is
// none.
func (c *call) sourceKey(owner string) (*key, error) {
	if k := c.blobKey(); k != nil {
		return c.settle(c.ctx, k, c.now)
	}
	return c.lookup(c.ctx, keyRef{owner, c.region, c.blob.keyID()}, c.now)
}

// blobKey returns the key that the call's ciphertext names, if it is cached. It
// spares the text of the key's ID.
func (c *call) blobKey() *key {
	return c.keys.findHashed(c.blob.cacheHash(), func(k *key) bool {
		return k.ref.region == c.region && len(k.materials) > 0 && c.blob.sameKey(k.current().header)
	})
}

const incorrectKey = "The key ID in the request does not identify a CMK that can perform this operation."

// admitSource refuses a ciphertext that is not for the call's first key to
// decrypt.
func (c *call) admitSource() error {
	k, src := c.key(), &c.source
	if k.record.Usage != KeyUsageEncryptDecrypt {
		return exception(IncorrectKeyException, incorrectKey)
	}
	if err := k.admitEncryption(src.algorithm, src.context); err != nil {
		return err
	}
	switch {
	case src.ignored:
		return nil
	case c.blob == nil:
		return exception(InvalidCiphertextException, "")
	case !c.blob.sameKey(k.current().header):
		return exception(IncorrectKeyException, incorrectKey)
	}
	return nil
}

// tryCiphertext decrypts for a dry run, which ends before that is done.
func (c *call) tryCiphertext(dryRun bool) error {
	switch {
	case !dryRun:
		return nil
	case c.source.ignored:
		return c.admitContext(dryRun, c.source.context)
	}
	plaintext, _, err := c.open(c.key(), c.source.ciphertext, c.source.context)
	secret.Clear(plaintext)
	return err
}

// admitEncryption refuses an algorithm or encryption context that k cannot
// take.
func (k *key) admitEncryption(algorithm EncryptionAlgorithmSpec, context map[string]string) error {
	if algorithm == "" {
		algorithm = EncryptionAlgorithmSymmetricDefault
	}
	if err := k.requireAlgorithm(string(algorithm)); err != nil {
		return err
	}
	if len(context) > 0 && k.spec.kind != symmetricKind {
		return invalid("An encryption context is only for symmetric encryption keys; %s is not one.", k.arn)
	}
	return nil
}

// aead returns a material of a symmetric key at work. Unlike primitive it is not
// generic, which here would take longer than all else that it does.
func (c *call) aead(k *key, m *material) (crypto.AEAD, error) {
	p, err := c.atWork(c.ctx, k, m)
	if err != nil {
		return nil, err
	}
	if aead, ok := p.(crypto.AEAD); ok {
		return aead, nil
	}
	return nil, errNoPrimitive(k)
}

// seal encrypts under k's current material; the result names it.
func (c *call) seal(k *key, plaintext []byte, context map[string]string) ([]byte, error) {
	m := k.current()
	aead, err := c.aead(k, m)
	if err != nil {
		return nil, err
	}
	ciphertext := append(make([]byte, 0, blobMinBytes+len(plaintext)), m.header[:]...)
	ad, err := c.associatedData(ciphertext, context)
	if err != nil {
		return nil, err
	}
	c.sealedBy = m
	return aead.Seal(ciphertext, plaintext, ad)
}

// open decrypts what seal made under any material of k.
func (c *call) open(k *key, ciphertext []byte, context map[string]string) ([]byte, *material, error) {
	m := k.materialOf(c.blob)
	if m == nil { // another process may have rotated the key a moment ago
		if err := c.confirm(c.ctx, k); err != nil {
			return nil, nil, err
		}
		return nil, nil, exception(InvalidCiphertextException, "")
	}
	aead, err := c.aead(k, m)
	if err != nil {
		return nil, nil, err
	}
	ad, err := c.associatedData(ciphertext[:blobHeaderBytes], context)
	if err != nil {
		return nil, nil, err
	}
	plaintext := make([]byte, 0, len(ciphertext)-blobMinBytes)
	plaintext, err = aead.Open(plaintext, ciphertext[blobHeaderBytes:], ad)
	if err != nil {
		if errors.Is(err, crypto.ErrDecrypt) {
			return nil, nil, exception(InvalidCiphertextException, "")
		}
		return nil, nil, err
	}
	c.openedBy = m
	return plaintext, m, nil
}
