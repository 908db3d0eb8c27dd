package conformance

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// An importer brings material to one key, with one set of parameters.
type importer struct {
	s         *scene
	svc       *kms.Service
	key       *kms.KeyMetadata
	algorithm kms.AlgorithmSpec
	*kms.GetParametersForImportOutput
}

// newImporter creates a key of OriginExternal and gets parameters for it. Nil means a symmetric key.
func newImporter(s *scene, in *kms.CreateKeyInput) *importer {
	given := kms.CreateKeyInput{}
	if in != nil {
		given = *in
	}
	given.Origin = kms.OriginExternal
	return importerFor(s, s.svc, createKey(s, s.svc, &given))
}

// importerFor gets parameters for a key. AWS has SM2 only in China; elsewhere it is the fastest.
func importerFor(s *scene, svc *kms.Service, key *kms.KeyMetadata) *importer {
	i := &importer{s: s, svc: svc, key: key, algorithm: kms.AlgorithmSM2PKE}
	in := &kms.GetParametersForImportInput{KeyId: key.KeyId, WrappingAlgorithm: i.algorithm, WrappingKeySpec: kms.WrappingKeySpecSM2}
	var err error
	if i.GetParametersForImportOutput, err = svc.GetParametersForImport(s.ctx, in); err != nil {
		i.algorithm = kms.AlgorithmRSAESOAEPSHA256
		in.WrappingAlgorithm, in.WrappingKeySpec = i.algorithm, kms.WrappingKeySpecRSA2048
		i.GetParametersForImportOutput, err = svc.GetParametersForImport(s.ctx, in)
		require.NoError(s, err)
	}
	return i
}

// in returns an importer for the related key in another Region.
func (i *importer) in(region string) *importer {
	there := i.svc.In(region)
	return importerFor(i.s, there, describe(i.s, there, i.key.KeyId))
}

// wrap encrypts key material to the wrapping key.
func (i *importer) wrap(material []byte) []byte {
	if i.algorithm == kms.AlgorithmSM2PKE {
		key, err := smx509.ParsePKIXPublicKey(i.PublicKey)
		require.NoError(i.s, err)
		wrapped, err := sm2.EncryptASN1(rand.Reader, key.(*ecdsa.PublicKey), material)
		require.NoError(i.s, err)
		return wrapped
	}
	key, err := x509.ParsePKIXPublicKey(i.PublicKey)
	require.NoError(i.s, err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key.(*rsa.PublicKey), material, nil)
	require.NoError(i.s, err)
	return wrapped
}

// input returns an import of material that does not expire, unless change says otherwise.
func (i *importer) input(material []byte, change ...func(*kms.ImportKeyMaterialInput)) *kms.ImportKeyMaterialInput {
	in := &kms.ImportKeyMaterialInput{
		KeyId: i.key.KeyId, ImportToken: i.ImportToken, EncryptedKeyMaterial: i.wrap(material),
		ExpirationModel: kms.ExpirationModelKeyMaterialDoesNotExpire,
	}
	for _, c := range change {
		c(in)
	}
	return in
}

// must imports material, and returns its ID.
func (i *importer) must(material []byte, change ...func(*kms.ImportKeyMaterialInput)) (id string) {
	out, err := i.svc.ImportKeyMaterial(i.s.ctx, i.input(material, change...))
	require.NoError(i.s, err)
	require.Equal(i.s, i.key.Arn, out.KeyId)
	return out.KeyMaterialId
}

// delete deletes material; an empty id means the current one.
func (i *importer) delete(id string) {
	_, err := i.svc.DeleteImportedKeyMaterial(i.s.ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: i.key.KeyId, KeyMaterialId: id})
	require.NoError(i.s, err)
}

// importer creates the key {key}, without material, and returns an importer for it. Nil means a
// symmetric key.
func (s *scene) importer(in *kms.CreateKeyInput) *importer {
	i := newImporter(s, in)
	s.key = i.key
	return i
}

// imported is importer for a key that has material.
func (s *scene) imported(in *kms.CreateKeyInput, change ...func(*kms.ImportKeyMaterialInput)) *importer {
	i := s.importer(in)
	i.must(symmetricMaterial(1), change...)
	return i
}
