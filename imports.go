package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/spec"
	"github.com/pocketkms/kms/internal/testhook"
)

// GetParametersForImportInput names a key whose material is to be imported, and how the material
// will be wrapped.
type GetParametersForImportInput struct {
	// KeyId is a key ID or key ARN of the caller's account. Its Origin must be OriginExternal.
	KeyId string `kms:"required,len=1..2048"`

	// WrappingAlgorithm is how the key material will be encrypted. RSA private keys take one of the
	// RSA_AES_KEY_WRAP algorithms, elliptic curve private keys any, and all other material a
	// RSAES_OAEP algorithm or AlgorithmSM2PKE. AlgorithmRSAESPKCS1V15 is not supported.
	WrappingAlgorithm AlgorithmSpec `kms:"required"`

	// WrappingKeySpec is the kind of the public key to return. WrappingKeySpecRSA4096 takes seconds
	// to generate. RSA_2048 does not wrap keys of ECC_NIST_P521 and ECC_NIST_EDWARDS25519 directly.
	WrappingKeySpec WrappingKeySpec `kms:"required"`
}

// GetParametersForImportOutput is what is needed to import key material, for 24 hours.
type GetParametersForImportOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// ImportToken is for the ImportToken of ImportKeyMaterial, with material that is wrapped with
	// PublicKey.
	ImportToken []byte `kms:"secret"`

	// PublicKey is the wrapping key, a DER SubjectPublicKeyInfo.
	PublicKey []byte

	// ParametersValidTo is when the token and the public key expire.
	ParametersValidTo time.Time
}

// ImportKeyMaterialInput is wrapped key material for a key.
type ImportKeyMaterialInput struct {
	// KeyId is a key ID or key ARN of the caller's account. Its Origin must be OriginExternal.
	KeyId string `kms:"required,len=1..2048"`

	// ImportToken is that of the GetParametersForImport which returned the wrapping key. It can be
	// used again while it is valid.
	ImportToken []byte `kms:"required,len=1..6144,secret"`

	// EncryptedKeyMaterial is the wrapped key material: the 32 bytes of a symmetric encryption key;
	// the bytes of an HMAC key, as many as its hash function returns, up to 128; or a DER PKCS#8
	// private key.
	EncryptedKeyMaterial []byte `kms:"required,len=1..6144,secret"`

	// ValidTo is when the key material expires, at most 365 days ahead. It is required if
	// ExpirationModel is ExpirationModelKeyMaterialExpires, and not allowed otherwise.
	ValidTo time.Time

	// ExpirationModel says whether the key material expires; absent means
	// ExpirationModelKeyMaterialExpires. It is deleted then, and can be imported again.
	ExpirationModel ExpirationModelType `kms:"default=KEY_MATERIAL_EXPIRES"`

	// ImportType says whether the key has had this material before; absent means
	// ImportTypeNewKeyMaterial for the first material of a key, and ImportTypeExistingKeyMaterial
	// from then on. This and the members below are only for symmetric encryption keys.
	ImportType ImportType

	// KeyMaterialDescription is any text of up to 256 letters, digits, spaces and :/_.-. If it is
	// absent, the material keeps the one that it has. It must hold no secrets: it is logged in the
	// clear.
	KeyMaterialDescription string `kms:"len=..256,pattern=materialDescription"`

	// KeyMaterialId is the ID that the material must have. It is not allowed with
	// ImportTypeNewKeyMaterial.
	KeyMaterialId string `kms:"len=64..64,pattern=materialID"`
}

// ImportKeyMaterialOutput names the imported material.
type ImportKeyMaterialOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyMaterialId is the ID of the material, 64 hexadecimal digits; absent unless the key is a
	// symmetric encryption key.
	KeyMaterialId string
}

// DeleteImportedKeyMaterialInput names key material to delete.
type DeleteImportedKeyMaterialInput struct {
	// KeyId is a key ID or key ARN of the caller's account. Its Origin must be OriginExternal.
	KeyId string `kms:"required,len=1..2048"`

	// KeyMaterialId is the material to delete; absent means the current one.
	KeyMaterialId string `kms:"len=64..64,pattern=materialID"`
}

// DeleteImportedKeyMaterialOutput names the deleted material.
type DeleteImportedKeyMaterialOutput struct {
	// KeyId is the key ARN.
	KeyId string

	// KeyMaterialId is the ID of the material; absent unless the key is a symmetric encryption key
	// that has had material.
	KeyMaterialId string
}

// maxMaterialLife is how far ahead a ValidTo can be.
const maxMaterialLife = 365 * 24 * time.Hour

var opGetParametersForImport = define(description{
	name: "GetParametersForImport", keys: keyOnly, states: parametersState, readOnly: true,
}, steps[GetParametersForImportInput, GetParametersForImportOutput]{
	admit: func(c *call, in *GetParametersForImportInput) error {
		k := c.key()
		if err := requireImported(k); err != nil {
			return err
		}
		if !k.Spec.WrappedBy(string(in.WrappingAlgorithm), string(in.WrappingKeySpec)) {
			return invalid("Wrapping algorithm %s and wrapping key spec %s cannot be used to import a %s key.",
				in.WrappingAlgorithm, in.WrappingKeySpec, k.Record.Spec)
		}
		return nil
	},
	act: func(c *call, in *GetParametersForImportInput) (*GetParametersForImportOutput, error) {
		t := importToken{algorithm: string(in.WrappingAlgorithm), spec: string(in.WrappingKeySpec)}
		var err error
		if fixed := testhook.KeyFrom(c.ctx); fixed != nil { // only for tests: RSA takes up to seconds
			t.private = bytes.Clone(fixed.Materials[0])
		} else if t.private, err = c.svc.core.db.Generate(t.usage()); err != nil {
			return nil, err
		}
		defer secret.Clear(t.private)
		key, err := t.wrappingKey()
		if err != nil {
			return nil, err
		}
		defer key.Destroy()
		token, err := c.sealImportToken(&t)
		if err != nil {
			return nil, err
		}
		return &GetParametersForImportOutput{
			KeyId:             c.key().ARN,
			ImportToken:       token,
			PublicKey:         key.PublicKey(),
			ParametersValidTo: c.now.UTC().Add(keydb.TokenLife),
		}, nil
	},
})

// GetParametersForImport returns a public key to wrap key material with, and a token to import it.
// It stores nothing: the private key is in the token, sealed. Any number of tokens can be valid at
// the same time.
func (s *Service) GetParametersForImport(ctx context.Context, in *GetParametersForImportInput) (*GetParametersForImportOutput, error) {
	return opGetParametersForImport.do(ctx, s, in)
}

// requireImported refuses keys whose material is not imported.
func requireImported(k *keydb.Key) error {
	if k.Record.Origin != string(OriginExternal) {
		return exception(UnsupportedOperationException, "%s origin is %s which is not valid for this operation.", k.ARN, k.Record.Origin)
	}
	return nil
}

// An importToken is what an ImportToken holds, sealed for one key.
type importToken struct {
	algorithm, spec string // of the wrapping key, in the API's words
	private         []byte // in the stored form of package crypto
}

// usage returns the usage of the wrapping key.
func (t *importToken) usage() *spec.Usage { return spec.Of(t.spec).Usage(spec.EncryptDecrypt) }

// wrappingKey returns the wrapping key. The caller must destroy it.
func (t *importToken) wrappingKey() (crypto.DecryptionKey, error) {
	k, err := t.usage().Family(nil).Parse(t.private)
	if err != nil {
		return nil, err
	}
	return k.(crypto.DecryptionKey), nil
}

// sealImportToken seals t for the call's key.
func (c *call) sealImportToken(t *importToken) ([]byte, error) {
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, len(t.private)+128)) // never moves the secret to a new array
	for _, part := range [][]byte{[]byte(t.algorithm), []byte(t.spec), t.private} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	content, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	defer secret.Clear(content)
	return c.svc.core.db.SealToken(c.ctx, c.key().Ref, content, c.now)
}

// openImportToken opens a token for the call's key. The caller erases its private key.
func (c *call) openImportToken(token []byte) (*importToken, error) {
	content, err := c.svc.core.db.OpenToken(c.ctx, c.key().Ref, token, c.now)
	switch {
	case errors.Is(err, crypto.ErrDecrypt):
		return nil, exception(InvalidImportTokenException, "")
	case errors.Is(err, keydb.ErrTokenExpired):
		return nil, exception(ExpiredImportTokenException, "")
	case err != nil:
		return nil, err
	}
	var algorithm, spec, private cryptobyte.String
	s := cryptobyte.String(content)
	if !s.ReadUint16LengthPrefixed(&algorithm) || !s.ReadUint16LengthPrefixed(&spec) ||
		!s.ReadUint16LengthPrefixed(&private) || !s.Empty() {
		secret.Clear(content)
		return nil, errors.New("kms: a sealed import token is malformed")
	}
	return &importToken{string(algorithm), string(spec), private}, nil
}

var opImportKeyMaterial = define(description{
	name: "ImportKeyMaterial", keys: keyOnly, states: importState,
}, steps[ImportKeyMaterialInput, ImportKeyMaterialOutput]{
	admit: func(c *call, in *ImportKeyMaterialInput) error {
		if err := requireImported(c.key()); err != nil {
			return err
		}
		if err := c.validateExpiry(in); err != nil {
			return err
		}
		return validateImportType(c.key(), in)
	},
	act: func(c *call, in *ImportKeyMaterialInput) (*ImportKeyMaterialOutput, error) {
		k := c.key()
		material, err := c.unwrap(in)
		if err != nil {
			return nil, err
		}
		defer secret.Clear(material)
		id := keydb.MaterialID(k.ID, material)
		if err := requireExpectedMaterial(k, in, id); err != nil {
			return nil, err
		}
		m := keydb.ImportedMaterial{Bytes: material, Description: in.KeyMaterialDescription}
		if !in.ValidTo.IsZero() {
			m.ValidTo = new(in.ValidTo.UTC())
		}
		if _, err := c.svc.core.db.Import(c.ctx, k, m); err != nil {
			return nil, err
		}
		return &ImportKeyMaterialOutput{KeyId: k.ARN, KeyMaterialId: shownMaterialID(k, id)}, nil
	},
})

// ImportKeyMaterial gives a key material that was made elsewhere, and enables it. A key whose
// material was deleted or has expired takes the same material again, and no other. A symmetric
// encryption key also takes new material, which [Service.RotateKeyOnDemand] makes current.
//
// Each of the related multi-Region keys needs the material to be imported in its own Region. New
// material is imported into the primary first.
func (s *Service) ImportKeyMaterial(ctx context.Context, in *ImportKeyMaterialInput) (*ImportKeyMaterialOutput, error) {
	return opImportKeyMaterial.do(ctx, s, in)
}

// validateExpiry refuses a ValidTo that does not fit the ExpirationModel or the time of the call.
func (c *call) validateExpiry(in *ImportKeyMaterialInput) error {
	expires := orDefault(in.ExpirationModel, ExpirationModelKeyMaterialExpires) == ExpirationModelKeyMaterialExpires
	switch {
	case expires && in.ValidTo.IsZero():
		return invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !expires && !in.ValidTo.IsZero():
		return invalid("A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
	case expires && !in.ValidTo.After(c.now):
		return invalid("ValidTo must be in the future")
	case expires && in.ValidTo.After(c.now.Add(maxMaterialLife)):
		return invalid("ValidTo must be within 365 days")
	}
	return nil
}

// expiration describes in the API's terms when imported material expires; nil means never.
func expiration(at *time.Time) (ExpirationModelType, time.Time) {
	if at == nil {
		return ExpirationModelKeyMaterialDoesNotExpire, time.Time{}
	}
	return ExpirationModelKeyMaterialExpires, *at
}

// importType returns the type of an import into k.
func importType(k *keydb.Key, in *ImportKeyMaterialInput) ImportType {
	if len(k.Record.Materials) == 0 {
		return orDefault(in.ImportType, ImportTypeNewKeyMaterial)
	}
	return orDefault(in.ImportType, ImportTypeExistingKeyMaterial)
}

// validateImportType refuses members that do not suit k or each other.
func validateImportType(k *keydb.Key, in *ImportKeyMaterialInput) error {
	if k.Spec.Kind != spec.Symmetric {
		member := ""
		switch {
		case in.ImportType != "":
			member = "importType"
		case in.KeyMaterialDescription != "":
			member = "keyMaterialDescription"
		case in.KeyMaterialId != "":
			member = "keyMaterialId"
		}
		if member != "" {
			return invalid("Input parameter %s can only be used with symmetric keys.", member)
		}
	}
	if in.KeyMaterialId != "" && importType(k, in) == ImportTypeNewKeyMaterial {
		return invalid("A keyMaterialId cannot be set if the ImportType is NEW_KEY_MATERIAL")
	}
	return nil
}

// unwrap returns the material of an input in its stored form. The caller erases it.
func (c *call) unwrap(in *ImportKeyMaterialInput) ([]byte, error) {
	t, err := c.openImportToken(in.ImportToken)
	if err != nil {
		return nil, err
	}
	defer secret.Clear(t.private)
	key, err := t.wrappingKey()
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	unwrapped, err := crypto.Unwrap(key, t.algorithm, in.EncryptedKeyMaterial)
	if errors.Is(err, crypto.ErrDecrypt) {
		return nil, invalidCiphertext(ErrContextOrAltered)
	}
	if err != nil {
		return nil, err
	}
	defer secret.Clear(unwrapped)
	material, err := c.key().Usage.Family(c.svc.core.config.Clock).Import(unwrapped)
	if errors.Is(err, crypto.ErrMaterial) {
		return nil, invalidCiphertext(fmt.Errorf("%w: %w", ErrNotKeyMaterial, err))
	}
	return material, err
}

// requireExpectedMaterial refuses material that k does not take. IDs are hashes of the material:
// comparing them discloses nothing of it.
func requireExpectedMaterial(k *keydb.Key, in *ImportKeyMaterialInput, id string) error {
	record := k.Record
	known, staged := record.Material(id) != nil, record.Staged
	switch {
	case importType(k, in) == ImportTypeExistingKeyMaterial:
		if !known || in.KeyMaterialId != "" && in.KeyMaterialId != id {
			return exception(IncorrectKeyMaterialException, "The key material is not the one that was imported into KMS key %s.", k.ARN)
		}
	case known:
		return exception(IncorrectKeyMaterialException, "The key material was imported into KMS key %s before.", k.ARN)
	case k.IsReplica():
		return exception(UnsupportedOperationException, "%s is a multi-region replica key which is not valid for importing new key material.", k.ARN)
	case staged != nil:
		return exception(KMSInvalidStateException, "New key material (id: %s) cannot be imported into KMS key %s, "+
			"because another key material (id: %s) is pending rotation.", id, k.ARN, staged.ID)
	}
	return nil
}

// shownMaterialID returns the ID of a material if the API shows those of k's materials, or "".
func shownMaterialID(k *keydb.Key, id string) string {
	if k.Spec.Kind != spec.Symmetric {
		return ""
	}
	return id
}

var opDeleteImportedKeyMaterial = define(description{
	name: "DeleteImportedKeyMaterial", keys: keyOnly, states: deleteMaterialState,
}, steps[DeleteImportedKeyMaterialInput, DeleteImportedKeyMaterialOutput]{
	admit: func(c *call, _ *DeleteImportedKeyMaterialInput) error { return requireImported(c.key()) },
	act: func(c *call, in *DeleteImportedKeyMaterialInput) (*DeleteImportedKeyMaterialOutput, error) {
		k := c.key()
		id := in.KeyMaterialId
		if id == "" && len(k.Materials) > 0 {
			id = k.Current().ID
		}
		m := k.Record.Material(id)
		switch {
		case in.KeyMaterialId != "" && (m == nil || shownMaterialID(k, id) == ""):
			return nil, invalid("Key material (id: %s) has never been imported into KMS key %s.", id, k.ARN)
		case m == nil || m.Absent:
			if err := c.requireCurrent(); err != nil {
				return nil, err
			}
		default:
			if _, err := c.svc.core.db.DeleteMaterial(c.ctx, k, id); err != nil {
				return nil, err
			}
		}
		return &DeleteImportedKeyMaterialOutput{KeyId: k.ARN, KeyMaterialId: shownMaterialID(k, id)}, nil
	},
})

// DeleteImportedKeyMaterial deletes key material at once. The key cannot be used until the same
// material is imported again. Material that is pending rotation is forgotten, and the key stays as
// it is.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context, in *DeleteImportedKeyMaterialInput) (*DeleteImportedKeyMaterialOutput, error) {
	return opDeleteImportedKeyMaterial.do(ctx, s, in)
}
