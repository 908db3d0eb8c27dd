package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/spec"
)

// EncryptInput is a small piece of data to encrypt. Larger data is encrypted by a data key: see GenerateDataKey.
type EncryptInput struct {
	// KeyId is the key to encrypt under: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Plaintext is the data, 1 to 4,096 bytes; an RSA or SM2 key takes less, depending on its size and the algorithm.
	Plaintext []byte `kms:"required,len=1..4096,secret"`

	// EncryptionContext is authenticated with the data but not encrypted: Decrypt must be given the same pairs, in any
	// order. Keys and values are UTF-8 and not empty. No secrets, it is logged in clear. Only for
	// symmetric keys.
	EncryptionContext map[string]string

	// EncryptionAlgorithm must suit the key; absent means EncryptionAlgorithmSymmetricDefault, so an asymmetric key
	// needs it.
	EncryptionAlgorithm EncryptionAlgorithmSpec

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
	EncryptionAlgorithm EncryptionAlgorithmSpec

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
	SourceEncryptionAlgorithm EncryptionAlgorithmSpec

	// DestinationKeyId is the key to encrypt under: key ID, key ARN, alias name or alias ARN. It may be the source key.
	DestinationKeyId string `kms:"required,len=1..2048"`

	// DestinationEncryptionContext belongs to the new ciphertext: the source's is not carried over. For symmetric
	// destination keys alone. No secrets, it is logged in clear.
	DestinationEncryptionContext map[string]string

	// DestinationEncryptionAlgorithm must suit the destination key; absent means EncryptionAlgorithmSymmetricDefault.
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec

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

var opEncrypt = define(description{
	name: "Encrypt", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[EncryptInput, EncryptOutput]{
	admit: func(c *call, in *EncryptInput) error {
		if err := requireEncryption(c.key(), in.EncryptionAlgorithm, in.EncryptionContext); err != nil {
			return err
		}
		return c.tryContext(in.DryRun, in.EncryptionContext)
	},
	act: func(c *call, in *EncryptInput) (*EncryptOutput, error) {
		sealed, err := c.seal(&c.targets[0], in.Plaintext, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		return &EncryptOutput{
			KeyId:               c.key().ARN,
			CiphertextBlob:      sealed,
			EncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
		}, nil
	},
})

// Encrypt encrypts up to 4,096 bytes under a key. The ciphertext names its key and key material, and
// can be decrypted however often the key is rotated.
func (s *Service) Encrypt(ctx context.Context, in *EncryptInput) (*EncryptOutput, error) {
	return opEncrypt.do(ctx, s, in)
}

var opDecrypt = define(description{
	name: "Decrypt", keys: ownIdentify, crossAccount: true, states: useState, readOnly: true, tracked: true,
}, steps[DecryptInput, DecryptOutput]{
	requireMembers: func(in *DecryptInput) []error {
		src := in.source()
		return src.requireMembers("keyId")
	},
	validate: func(in *DecryptInput) error {
		src := in.source()
		return src.requireKeyID("KeyId")
	},
	identify: func(c *call, in *DecryptInput) error {
		src := in.source()
		return c.identifySource(&src, c.op.permission)
	},
	admit: func(c *call, in *DecryptInput) error {
		if in.Recipient != nil {
			return errNoRecipients
		}
		src := in.source()
		if err := requireSource(c.key(), &src); err != nil {
			return err
		}
		return c.tryCiphertext(in.DryRun, &src)
	},
	act: func(c *call, in *DecryptInput) (*DecryptOutput, error) {
		plaintext, err := c.open(&c.targets[0], in.CiphertextBlob, in.EncryptionContext)
		if err != nil {
			return nil, err
		}
		return &DecryptOutput{
			KeyId:               c.key().ARN,
			Plaintext:           plaintext,
			EncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
			KeyMaterialId:       c.targets[0].material.ID,
		}, nil
	},
})

// Decrypt decrypts what Encrypt, ReEncrypt or GenerateDataKey made. Without a KeyId it uses the
// ciphertext's own key. It refuses a ciphertext of another key than KeyId with IncorrectKeyException,
// and one that was altered, or comes with another encryption context, with
// InvalidCiphertextException, in which errors.Is finds [ErrNotCiphertext], [ErrUnknownKeyMaterial] or
// [ErrContextOrAltered].
func (s *Service) Decrypt(ctx context.Context, in *DecryptInput) (*DecryptOutput, error) {
	return opDecrypt.do(ctx, s, in)
}

var opReEncrypt = define(description{
	name: "ReEncrypt", permission: "kms:ReEncryptFrom", keys: ownIdentify, crossAccount: true,
	states: useState, readOnly: true, tracked: true,
}, steps[ReEncryptInput, ReEncryptOutput]{
	requireMembers: func(in *ReEncryptInput) []error {
		src := in.source()
		return src.requireMembers("sourceKeyId")
	},
	validate: func(in *ReEncryptInput) error {
		src := in.source()
		return src.requireKeyID("SourceKeyId")
	},
	identify: func(c *call, in *ReEncryptInput) error {
		src := in.source()
		if err := c.identifySource(&src, "kms:ReEncryptFrom"); err != nil {
			return err
		}
		return c.identify(in.DestinationKeyId, "kms:ReEncryptTo", true)
	},
	admit: func(c *call, in *ReEncryptInput) error {
		src := in.source()
		if err := requireSource(c.key(), &src); err != nil {
			return err
		}
		destination := c.targets[1].key
		if err := requireUsage(destination, KeyUsageEncryptDecrypt, c.op.name); err != nil {
			return err
		}
		if err := requireEncryption(destination, in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext); err != nil {
			return err
		}
		if err := c.tryCiphertext(in.DryRun, &src); err != nil {
			return err
		}
		return c.tryContext(in.DryRun, in.DestinationEncryptionContext)
	},
	act: func(c *call, in *ReEncryptInput) (*ReEncryptOutput, error) {
		source, destination := &c.targets[0], &c.targets[1]
		plaintext, err := c.open(source, in.CiphertextBlob, in.SourceEncryptionContext)
		if err != nil {
			return nil, err
		}
		defer secret.Clear(plaintext)
		sealed, err := c.seal(destination, plaintext, in.DestinationEncryptionContext)
		if err != nil {
			return nil, err
		}
		return &ReEncryptOutput{
			KeyId:                          destination.key.ARN,
			SourceKeyId:                    source.key.ARN,
			CiphertextBlob:                 sealed,
			SourceEncryptionAlgorithm:      EncryptionAlgorithmSymmetricDefault,
			DestinationEncryptionAlgorithm: EncryptionAlgorithmSymmetricDefault,
			SourceKeyMaterialId:            source.material.ID,
			DestinationKeyMaterialId:       destination.material.ID,
		}, nil
	},
})

// ReEncrypt decrypts a ciphertext and encrypts the plaintext under another key, or under the same key
// with another encryption context or its current material. The plaintext does not leave the service.
func (s *Service) ReEncrypt(ctx context.Context, in *ReEncryptInput) (*ReEncryptOutput, error) {
	return opReEncrypt.do(ctx, s, in)
}

// errNoRecipients refuses answers that only an attested enclave may read.
var errNoRecipients = exception(UnsupportedOperationException, "Recipient is not supported: no attestation document can be verified here.")

// A source is the ciphertext that Decrypt and ReEncrypt are given, and what the caller says about it.
type source struct {
	ciphertext        []byte
	ignored           bool // by a dry run that asks for permission only
	keyID             string
	algorithm         EncryptionAlgorithmSpec
	encryptionContext map[string]string
}

func (in *DecryptInput) source() source {
	return source{
		ciphertext:        in.CiphertextBlob,
		ignored:           in.DryRun && slices.Contains(in.DryRunModifiers, DryRunModifierIgnoreCiphertext),
		keyID:             in.KeyId,
		algorithm:         orDefault(in.EncryptionAlgorithm, EncryptionAlgorithmSymmetricDefault),
		encryptionContext: in.EncryptionContext,
	}
}

func (in *ReEncryptInput) source() source {
	return source{
		ciphertext:        in.CiphertextBlob,
		ignored:           in.DryRun && slices.Contains(in.DryRunModifiers, DryRunModifierIgnoreCiphertext),
		keyID:             in.SourceKeyId,
		algorithm:         orDefault(in.SourceEncryptionAlgorithm, EncryptionAlgorithmSymmetricDefault),
		encryptionContext: in.SourceEncryptionContext,
	}
}

// header returns the header of a ciphertext of a symmetric key, or nil.
func (src *source) header() *ciphertext.Header {
	if src.ignored || src.algorithm != EncryptionAlgorithmSymmetricDefault {
		return nil
	}
	return ciphertext.Parse(src.ciphertext)
}

// requireMembers returns a violation for each missing member. keyIDPath is the member that names the
// key.
func (src *source) requireMembers(keyIDPath string) (violations []error) {
	if src.ciphertext == nil && !src.ignored {
		violations = append(violations, shape.Missing("ciphertextBlob"))
	}
	if src.keyID == "" && src.ignored {
		violations = append(violations, shape.Missing(keyIDPath))
	}
	return violations
}

// requireKeyID refuses an algorithm whose ciphertexts do not name their key if the caller does not
// name it, either. member is the one that would.
func (src *source) requireKeyID(member string) error {
	if src.keyID == "" && src.algorithm != EncryptionAlgorithmSymmetricDefault {
		return invalid("%s must not be null", member)
	}
	return nil
}

// identifySource makes the key of a source the call's next target: the one that the caller named, or
// else the one that the ciphertext names.
func (c *call) identifySource(src *source, permission string) error {
	caller, header := &c.svc.caller, src.header()
	if header == nil {
		if src.keyID == "" {
			return invalidCiphertext(ErrNotCiphertext)
		}
		return c.identify(src.keyID, permission, true)
	}
	owner := header.Account(caller.account)
	foreign := owner != caller.account
	if src.keyID != "" && !(foreign && src.keyID == header.KeyID()) { // only here, the bare ID of another account's key means that key
		return c.identify(src.keyID, permission, true)
	}
	k, err := c.svc.core.db.KeyOf(c.ctx, header, owner, c.svc.region, c.now)
	switch {
	case err != nil && foreign:
		return c.mask(err, deniedCiphertext(*caller, permission))
	case err != nil:
		return err
	case k == nil:
		return deniedCiphertext(*caller, permission)
	}
	return c.addTarget(target{key: k, permission: permission, byCiphertext: true})
}

const incorrectKey = "The key ID in the request does not identify a CMK that can perform this operation."

// requireSource refuses a ciphertext that k cannot decrypt.
func requireSource(k *keydb.Key, src *source) error {
	if k.Record.Usage != string(KeyUsageEncryptDecrypt) {
		return exception(IncorrectKeyException, incorrectKey)
	}
	if err := requireEncryption(k, src.algorithm, src.encryptionContext); err != nil {
		return err
	}
	if src.ignored {
		return nil
	}
	switch header := src.header(); {
	case header == nil:
		return invalidCiphertext(ErrNotCiphertext)
	case !header.SameKey(k.Current().Header):
		return exception(IncorrectKeyException, incorrectKey)
	}
	return nil
}

// tryCiphertext decrypts for a dry run, which ends before act does.
func (c *call) tryCiphertext(dryRun bool, src *source) error {
	switch {
	case !dryRun:
		return nil
	case src.ignored:
		return c.tryContext(dryRun, src.encryptionContext)
	}
	plaintext, err := c.open(&c.targets[0], src.ciphertext, src.encryptionContext)
	secret.Clear(plaintext)
	return err
}

// tryContext refuses, for a dry run, an encryption context that cannot be used. Calls that use it
// find out when they do.
func (c *call) tryContext(dryRun bool, encryptionContext map[string]string) error {
	if !dryRun {
		return nil
	}
	_, err := c.associatedData(nil, encryptionContext)
	return err
}

// requireEncryption refuses an algorithm or an encryption context that is not for k.
func requireEncryption(k *keydb.Key, algorithm EncryptionAlgorithmSpec, encryptionContext map[string]string) error {
	if err := requireAlgorithm(k, string(orDefault(algorithm, EncryptionAlgorithmSymmetricDefault))); err != nil {
		return err
	}
	if len(encryptionContext) > 0 && k.Spec.Kind != spec.Symmetric {
		return invalid("An encryption context is only for symmetric encryption keys; %s is not one.", k.ARN)
	}
	return nil
}

// associatedData returns a ciphertext's header followed by the canonical encryption context. It is
// valid until the call's next use of its scratch.
func (c *call) associatedData(header []byte, encryptionContext map[string]string) ([]byte, error) {
	data, err := ciphertext.AppendContext(append(c.scratch[:0], header...), encryptionContext)
	c.scratch = data
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, ciphertext.ErrContextTooLong):
		return nil, invalid("The encryption context is longer than %d bytes.", ciphertext.MaxContextBytes)
	}
	return nil, invalid("Invalid EncryptionContext")
}

// aead returns the AEAD of a material of a symmetric key.
func (c *call) aead(k *keydb.Key, m *keydb.Material) (crypto.AEAD, error) {
	p, err := c.svc.core.db.Primitive(c.ctx, k, m)
	if err != nil {
		return nil, err
	}
	if aead, ok := p.(crypto.AEAD); ok {
		return aead, nil
	}
	return as[crypto.AEAD](p, k)
}

// seal encrypts under the current material of t's key. The result names the material.
func (c *call) seal(t *target, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	m := t.key.Current()
	aead, err := c.aead(t.key, m)
	if err != nil {
		return nil, err
	}
	sealed := append(make([]byte, 0, ciphertext.MinBytes+len(plaintext)), m.Header[:]...)
	ad, err := c.associatedData(sealed, encryptionContext)
	if err != nil {
		return nil, err
	}
	t.material = m
	return aead.Seal(sealed, plaintext, ad)
}

// open decrypts what seal made under any material of t's key.
func (c *call) open(t *target, sealed []byte, encryptionContext map[string]string) ([]byte, error) {
	header := (*ciphertext.Header)(sealed)
	m := t.key.MaterialOf(header)
	if m == nil { // another process may have rotated the key a moment ago
		if err := c.svc.core.db.RequireCurrent(c.ctx, t.key); err != nil {
			return nil, err
		}
		return nil, invalidCiphertext(ErrUnknownKeyMaterial)
	}
	aead, err := c.aead(t.key, m)
	if err != nil {
		return nil, err
	}
	ad, err := c.associatedData(header[:], encryptionContext)
	if err != nil {
		return nil, err
	}
	plaintext := make([]byte, 0, len(sealed)-ciphertext.MinBytes)
	if plaintext, err = aead.Open(plaintext, sealed[ciphertext.HeaderBytes:], ad); err != nil {
		if errors.Is(err, crypto.ErrDecrypt) {
			return nil, invalidCiphertext(ErrContextOrAltered)
		}
		return nil, err
	}
	t.material = m
	return plaintext, nil
}
