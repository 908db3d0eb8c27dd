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

// EncryptInput is data to encrypt, and the key to encrypt it with.
type EncryptInput struct {
	// KeyId is the key to encrypt with: key ID, key ARN, alias name or alias ARN.
	KeyId string `kms:"required,len=1..2048"`

	// Plaintext is the data, 1 to 4,096 bytes; fewer for an RSA or SM2 key, depending on its size
	// and the algorithm.
	Plaintext []byte `kms:"required,len=1..4096,secret"`

	// EncryptionContext is authenticated but not encrypted: Decrypt must be given the same pairs.
	// Keys and values are UTF-8 and not empty. It must hold no secrets: it is logged in the clear.
	// Only for symmetric keys.
	EncryptionContext map[string]string

	// EncryptionAlgorithm is one of the key's; absent means EncryptionAlgorithmSymmetricDefault. It
	// is required for an asymmetric key.
	EncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool
}

// EncryptOutput is the encrypted data.
type EncryptOutput struct {
	// KeyId is the ARN of the key that encrypted.
	KeyId string

	// CiphertextBlob is the ciphertext. With a symmetric key, it names the key for Decrypt.
	CiphertextBlob []byte `kms:"secret"`

	// EncryptionAlgorithm is the algorithm used.
	EncryptionAlgorithm EncryptionAlgorithmSpec
}

// DecryptInput is a ciphertext of Encrypt, ReEncrypt or one of the GenerateDataKey operations, or
// one that was made elsewhere with the public key of an asymmetric key.
type DecryptInput struct {
	// CiphertextBlob is the ciphertext, 1 to 6,144 bytes. It may be absent only in a dry run with
	// DryRunModifierIgnoreCiphertext.
	CiphertextBlob []byte `kms:"len=1..6144,secret"`

	// KeyId is the key that must have encrypted: key ID, key ARN, alias name or alias ARN. If it is
	// absent, the key that a symmetric ciphertext names is used; pass it all the same, so that
	// nobody can choose another key. It is required for an asymmetric key, and without
	// CiphertextBlob.
	KeyId string `kms:"len=1..2048"`

	// EncryptionContext must have the pairs that Encrypt was given, in any order. Only for
	// symmetric keys.
	EncryptionContext map[string]string

	// EncryptionAlgorithm must be what Encrypt was given; absent means
	// EncryptionAlgorithmSymmetricDefault. It is required for an asymmetric key.
	EncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// Recipient asks for the plaintext encrypted to an attested enclave instead of in the clear.
	Recipient *RecipientInfo

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool

	// DryRunModifiers narrow the checks of a dry run; without DryRun they are ignored.
	DryRunModifiers []DryRunModifierType
}

// DecryptOutput is the decrypted data.
type DecryptOutput struct {
	// KeyId is the ARN of the key that decrypted.
	KeyId string

	// Plaintext is the data; nil if a Recipient was given. The slice belongs to the caller: clear
	// it after use.
	Plaintext []byte `kms:"secret"`

	// CiphertextForRecipient is the plaintext encrypted to the Recipient, a CMS EnvelopedData (RFC
	// 5652); nil without a Recipient.
	CiphertextForRecipient []byte `kms:"secret"`

	// EncryptionAlgorithm is the algorithm used.
	EncryptionAlgorithm EncryptionAlgorithmSpec

	// KeyMaterialId is the ID of the key material that decrypted, 64 hexadecimal digits; only for
	// symmetric keys and without a Recipient.
	KeyMaterialId string
}

// ReEncryptInput is a ciphertext to decrypt and encrypt again under another key, encryption context
// or algorithm.
type ReEncryptInput struct {
	// CiphertextBlob is the ciphertext, 1 to 6,144 bytes. It may be absent only in a dry run with
	// DryRunModifierIgnoreCiphertext.
	CiphertextBlob []byte `kms:"len=1..6144,secret"`

	// SourceKeyId is the key that must have encrypted: see DecryptInput.KeyId.
	SourceKeyId string `kms:"len=1..2048"`

	// SourceEncryptionContext must be that of the ciphertext. Only for symmetric source keys.
	SourceEncryptionContext map[string]string

	// SourceEncryptionAlgorithm must be that of the ciphertext; absent means
	// EncryptionAlgorithmSymmetricDefault.
	SourceEncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// DestinationKeyId is the key to encrypt with: key ID, key ARN, alias name or alias ARN. It may
	// be the source key.
	DestinationKeyId string `kms:"required,len=1..2048"`

	// DestinationEncryptionContext is that of the new ciphertext; that of the source is not carried
	// over. It must hold no secrets: it is logged in the clear. Only for symmetric destination
	// keys.
	DestinationEncryptionContext map[string]string

	// DestinationEncryptionAlgorithm is one of the destination key's; absent means
	// EncryptionAlgorithmSymmetricDefault.
	DestinationEncryptionAlgorithm EncryptionAlgorithmSpec `kms:"default=SYMMETRIC_DEFAULT"`

	// GrantTokens make new grants effective at once; at most 10.
	GrantTokens []string `kms:"len=..10,each=1..8192,secret"`

	// DryRun makes all checks and then fails with DryRunOperationException.
	DryRun bool

	// DryRunModifiers narrow the checks of a dry run; without DryRun they are ignored.
	DryRunModifiers []DryRunModifierType
}

// ReEncryptOutput is the new ciphertext.
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

	// SourceKeyMaterialId is the ID of the key material that decrypted, 64 hexadecimal digits; only
	// for symmetric source keys.
	SourceKeyMaterialId string

	// DestinationKeyMaterialId is the ID of the key material that encrypted, 64 hexadecimal digits;
	// only for symmetric destination keys.
	DestinationKeyMaterialId string
}

// RecipientInfo is an attested enclave to encrypt an answer to, so that only the enclave can read
// it.
type RecipientInfo struct {
	// AttestationDocument is the signed document of the enclave with its RSA public key, 1 to
	// 262,144 bytes: a COSE_Sign1 in CBOR, as AWS Nitro writes it.
	AttestationDocument []byte `kms:"len=1..262144,secret"`

	// KeyEncryptionAlgorithm encrypts the key of the answer to the enclave.
	KeyEncryptionAlgorithm KeyEncryptionMechanism
}

var opEncrypt = define(description{
	name: "Encrypt", keys: keyOrAlias, crossAccount: true, states: useState,
	usage: KeyUsageEncryptDecrypt, readOnly: true, tracked: true,
}, steps[EncryptInput, EncryptOutput]{
	admit: func(c *call, in *EncryptInput) error {
		to := destination{&c.targets[0], in.EncryptionAlgorithm, in.EncryptionContext}
		if err := to.require(); err != nil || !in.DryRun {
			return err
		}
		return c.tryDestination(&to, len(in.Plaintext))
	},
	act: func(c *call, in *EncryptInput) (*EncryptOutput, error) {
		to := destination{&c.targets[0], in.EncryptionAlgorithm, in.EncryptionContext}
		memory := new(encryptMemory)
		encrypted, err := c.encrypt(memory.ciphertext[:0], &to, in.Plaintext)
		if err != nil {
			return nil, err
		}
		out := &memory.out
		out.KeyId, out.CiphertextBlob = c.key().ARN, encrypted
		out.EncryptionAlgorithm = orDefault(in.EncryptionAlgorithm, EncryptionAlgorithmSymmetricDefault)
		return out, nil
	},
})

// Encrypt encrypts up to 4,096 bytes; for more, use [Service.GenerateDataKey]. The ciphertext of a
// symmetric key names its key and key material, so that it can be decrypted after rotations.
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
		if !in.DryRun {
			return nil
		}
		plaintext, err := c.tryCiphertext(&src)
		secret.Clear(plaintext)
		return err
	},
	act: func(c *call, in *DecryptInput) (*DecryptOutput, error) {
		src := in.source()
		memory := new(decryptMemory)
		plaintext, err := c.decrypt(memory.plaintext[:0], &src)
		if err != nil {
			return nil, err
		}
		out := &memory.out
		out.KeyId, out.Plaintext, out.EncryptionAlgorithm = c.key().ARN, plaintext, src.algorithm
		out.KeyMaterialId = c.targets[0].materialID()
		return out, nil
	},
})

// Decrypt decrypts a ciphertext of Encrypt, ReEncrypt or one of the GenerateDataKey operations.
// Without a KeyId it uses the key that the ciphertext names. The error is [IncorrectKeyException]
// if the ciphertext is that of another key than KeyId, and [InvalidCiphertextException] if it was
// altered or the encryption context differs: then errors.Is finds [ErrNotCiphertext],
// [ErrUnknownKeyMaterial] or [ErrContextOrAltered].
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
		if err := requireUsage(c.targets[1].key, KeyUsageEncryptDecrypt, c.op.name); err != nil {
			return err
		}
		to := in.destination(c)
		if err := to.require(); err != nil || !in.DryRun {
			return err
		}
		plaintext, err := c.tryCiphertext(&src)
		secret.Clear(plaintext)
		if err != nil {
			return err
		}
		return c.tryDestination(&to, len(plaintext))
	},
	act: func(c *call, in *ReEncryptInput) (*ReEncryptOutput, error) {
		src, to := in.source(), in.destination(c)
		plaintext, err := c.decrypt(nil, &src)
		if err != nil {
			return nil, err
		}
		defer secret.Clear(plaintext)
		encrypted, err := c.encrypt(nil, &to, plaintext)
		if err != nil {
			return nil, err
		}
		return &ReEncryptOutput{
			KeyId:                          c.targets[1].key.ARN,
			SourceKeyId:                    c.targets[0].key.ARN,
			CiphertextBlob:                 encrypted,
			SourceEncryptionAlgorithm:      src.algorithm,
			DestinationEncryptionAlgorithm: orDefault(to.algorithm, EncryptionAlgorithmSymmetricDefault),
			SourceKeyMaterialId:            c.targets[0].materialID(),
			DestinationKeyMaterialId:       c.targets[1].materialID(),
		}, nil
	},
})

// ReEncrypt decrypts a ciphertext and encrypts the plaintext again with another key, or with the
// same key and another encryption context or its current key material. It does not return the
// plaintext.
func (s *Service) ReEncrypt(ctx context.Context, in *ReEncryptInput) (*ReEncryptOutput, error) {
	return opReEncrypt.do(ctx, s, in)
}

// errNoRecipients refuses answers that only an attested enclave may read.
var errNoRecipients = exception(UnsupportedOperationException, "Recipient is not supported: no attestation document can be verified here.")

// A source is the ciphertext that Decrypt and ReEncrypt are given, and what the caller says about
// it.
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

// A destination is the key to encrypt with, and how.
type destination struct {
	target            *target
	algorithm         EncryptionAlgorithmSpec // empty: EncryptionAlgorithmSymmetricDefault
	encryptionContext map[string]string
}

func (in *ReEncryptInput) destination(c *call) destination {
	return destination{&c.targets[1], in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext}
}

// require refuses an algorithm or an encryption context that the key does not take.
func (d *destination) require() error {
	if err := requireAlgorithm(d.target.key, string(orDefault(d.algorithm, EncryptionAlgorithmSymmetricDefault))); err != nil {
		return err
	}
	return requireNoContext(d.target.key, d.encryptionContext)
}

// header returns the header of a ciphertext of a symmetric key, or nil.
func (src *source) header() *ciphertext.Header {
	if src.ignored || src.algorithm != EncryptionAlgorithmSymmetricDefault {
		return nil
	}
	return ciphertext.Parse(src.ciphertext)
}

// requireMembers returns a violation for each missing member. keyIDPath is the member that names
// the key.
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
// name it, either. member is the member that would.
func (src *source) requireKeyID(member string) error {
	if src.keyID == "" && src.algorithm != EncryptionAlgorithmSymmetricDefault {
		return invalid("%s must not be null", member)
	}
	return nil
}

// identifySource adds the key of a source to the targets of the call: the key that the caller
// named, or else the key that the ciphertext names.
func (c *call) identifySource(src *source, permission string) error {
	caller, header := &c.svc.caller, src.header()
	if header == nil {
		if src.keyID == "" {
			return invalidCiphertext(ErrNotCiphertext)
		}
		return c.identify(src.keyID, permission, true)
	}
	foreign := func() bool { return header.Account(caller.account) != caller.account }
	if src.keyID != "" && !(src.keyID == header.KeyID() && foreign()) { // only here, the bare ID of another account's key means that key
		return c.identify(src.keyID, permission, true)
	}
	k, err := c.svc.core.db.KeyOf(c.ctx, header, caller.account, c.svc.region, c.now)
	switch {
	case err != nil && foreign():
		return c.mask(err, hiddenCiphertext(caller, permission))
	case err != nil:
		return err
	case k == nil:
		return hiddenCiphertext(caller, permission)
	}
	return c.addTarget(k, permission, "", true)
}

const incorrectKey = "The key ID in the request does not identify a CMK that can perform this operation."

// requireSource refuses a ciphertext that k cannot decrypt.
func requireSource(k *keydb.Key, src *source) error {
	if k.Record.Usage != string(KeyUsageEncryptDecrypt) {
		return exception(IncorrectKeyException, incorrectKey)
	}
	symmetric := k.Spec.Kind == spec.Symmetric
	if src.algorithm == EncryptionAlgorithmSymmetricDefault && !symmetric { // nothing distinguishes this from no algorithm
		return invalidCiphertext(ErrNotCiphertext)
	}
	if err := requireAlgorithm(k, string(src.algorithm)); err != nil {
		return err
	}
	if err := requireNoContext(k, src.encryptionContext); err != nil {
		return err
	}
	if src.ignored || !symmetric {
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

// tryCiphertext decrypts in a dry run, which ends before act. The caller erases the plaintext.
func (c *call) tryCiphertext(src *source) (plaintext []byte, err error) {
	if src.ignored {
		return nil, c.tryContext(true, src.encryptionContext)
	}
	return c.decrypt(nil, src)
}

// tryDestination refuses, in a dry run, a plaintext of that length or an encryption context that
// cannot be used. Other calls notice when they use it.
func (c *call) tryDestination(to *destination, length int) error {
	if to.target.key.Spec.Kind != spec.Symmetric {
		p, err := primitive[crypto.DecryptionKey](c, to.target.key)
		if err != nil {
			return err
		}
		maximum, err := p.MaxPlaintext(string(to.algorithm))
		if err == nil && length > maximum {
			err = to.tooLong(maximum)
		}
		return err
	}
	return c.tryContext(true, to.encryptionContext)
}

// tryContext refuses an encryption context that cannot be used, in a dry run. Other calls notice
// when they use it.
func (c *call) tryContext(dryRun bool, encryptionContext map[string]string) error {
	if !dryRun {
		return nil
	}
	_, err := c.associatedData(nil, encryptionContext)
	return err
}

// requireNoContext refuses an encryption context that k does not take.
func requireNoContext(k *keydb.Key, encryptionContext map[string]string) error {
	if len(encryptionContext) > 0 && k.Spec.Kind != spec.Symmetric {
		return invalid("An encryption context is only for symmetric encryption keys; %s is not one.", k.ARN)
	}
	return nil
}

// associatedData returns a ciphertext's header followed by the canonical encryption context. It is
// valid until the call's next use of its scratch.
func (c *call) associatedData(header []byte, encryptionContext map[string]string) ([]byte, error) {
	data, err := c.contexts.Append(append(c.scratch[:0], header...), encryptionContext)
	c.contextAt, c.contextEnd = 0, 0
	if cap(data) > cap(c.scratch) {
		c.scratch = data // a write of a pointer, which is expensive while garbage is collected
	}
	switch {
	case err == nil:
		c.contextAt, c.contextEnd = len(header), len(data)
		return data, nil
	case errors.Is(err, ciphertext.ErrContextTooLong):
		return nil, invalid("The encryption context is longer than %d bytes.", ciphertext.MaxContextBytes)
	}
	return nil, invalid("Invalid EncryptionContext")
}

// encrypt encrypts to a destination whose algorithm and encryption context its key takes. The result
// is in memory, if that is enough for it.
func (c *call) encrypt(memory []byte, to *destination, plaintext []byte) ([]byte, error) {
	if to.target.key.Spec.Kind == spec.Symmetric {
		return c.seal(memory, to.target, plaintext, to.encryptionContext)
	}
	p, err := primitive[crypto.DecryptionKey](c, to.target.key)
	if err != nil {
		return nil, err
	}
	maximum, err := p.MaxPlaintext(string(to.algorithm))
	switch {
	case err != nil:
		return nil, err
	case len(plaintext) > maximum:
		return nil, to.tooLong(maximum)
	}
	encrypted, err := p.Encrypt(string(to.algorithm), plaintext)
	if errors.Is(err, crypto.ErrLength) { // ReEncrypt, of an empty plaintext that was encrypted elsewhere
		return nil, invalid("Algorithm %s and key spec %s cannot encrypt empty data.", to.algorithm, to.target.key.Record.Spec)
	}
	return encrypted, err
}

func (d *destination) tooLong(maximum int) *Error {
	return invalid("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", d.algorithm, d.target.key.Record.Spec, maximum)
}

// decrypt decrypts a source that requireSource admitted, with the call's first key. The result is in
// memory, if that is enough for it.
func (c *call) decrypt(memory []byte, src *source) ([]byte, error) {
	t := &c.targets[0]
	if t.key.Spec.Kind == spec.Symmetric {
		return c.open(memory, t, src.ciphertext, src.encryptionContext)
	}
	p, err := primitive[crypto.DecryptionKey](c, t.key)
	if err != nil {
		return nil, err
	}
	plaintext, err := p.Decrypt(string(src.algorithm), src.ciphertext)
	if errors.Is(err, crypto.ErrDecrypt) {
		return nil, invalidCiphertext(ErrContextOrAltered)
	}
	return plaintext, err
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

// seal encrypts under the current material of t's key. The result names the material, and is in
// memory, if that is enough for it.
func (c *call) seal(memory []byte, t *target, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	m := t.key.Current()
	aead, err := c.aead(t.key, m)
	if err != nil {
		return nil, err
	}
	sealed := append(enough(memory, ciphertext.MinBytes+len(plaintext)), m.Header[:]...)
	ad, err := c.associatedData(m.Header[:], encryptionContext)
	if err != nil {
		return nil, err
	}
	t.material = m
	if sealed, err = aead.Seal(sealed, plaintext, ad); err == nil && t.key.Record.CustomKeyStore != "" {
		return c.sealInStore(t, sealed)
	}
	return sealed, err
}

// open decrypts a ciphertext of seal, with the material of t's key that it names. The result is in
// memory, if that is enough for it.
func (c *call) open(memory []byte, t *target, sealed []byte, encryptionContext map[string]string) ([]byte, error) {
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
	inStore := t.key.Record.CustomKeyStore != ""
	if inStore {
		if sealed, err = c.openInStore(t, sealed, encryptionContext); err != nil {
			return nil, err
		}
	}
	ad, err := c.associatedData(header[:], encryptionContext)
	if err != nil {
		return nil, err
	}
	plaintext := enough(memory, len(sealed)-ciphertext.MinBytes)
	if plaintext, err = aead.Open(plaintext, sealed[ciphertext.HeaderBytes:], ad); err != nil {
		switch {
		case !errors.Is(err, crypto.ErrDecrypt):
			return nil, err
		case inStore:
			return nil, errAlteredByDevice
		}
		return nil, invalidCiphertext(ErrContextOrAltered)
	}
	t.material = m
	return plaintext, nil
}

// These are outputs with memory for a short result, such as that of a data key, in the same
// allocation.
type (
	encryptMemory struct {
		out        EncryptOutput
		ciphertext [ciphertext.MinBytes + shortPlaintext]byte
	}
	decryptMemory struct {
		out       DecryptOutput
		plaintext [shortPlaintext]byte
	}
)

// shortPlaintext is the length of the longest plaintext whose result is in the same allocation as
// the output.
const shortPlaintext = 32

// enough returns empty memory for size bytes: memory itself, or new memory if that has fewer.
func enough(memory []byte, size int) []byte {
	if cap(memory) < size {
		return make([]byte, 0, size)
	}
	return memory[:0:size]
}
