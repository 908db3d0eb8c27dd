package kms

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/arn"
)

// An AEAD is a symmetric key as a [tink.AEAD] and a [tink.AEADWithContext], for what takes one:
// Tink's keysets, its envelope encryption, and keystore.External.
//
// Its ciphertexts are those of [Service.Encrypt]. Associated data is in the encryption context, in
// hexadecimal digits, as the value of "associatedData"; if it is empty, there is no encryption
// context. This is the form of Tink's clients for AWS KMS, so that either decrypts what the other
// has encrypted. It also means that associated data is in the audit trail in the clear, that
// policies can demand it, and that it can have some 4,000 bytes.
type AEAD struct {
	svc   *Service
	keyID string
}

var (
	_ tink.AEAD            = (*AEAD)(nil)
	_ tink.AEADWithContext = (*AEAD)(nil)
)

// AEAD returns the key that keyID names as an [AEAD]. keyID is a key ID, key ARN, alias name or
// alias ARN; every call looks it up, so that AEAD cannot fail. What was encrypted before an alias
// moved to another key needs an AEAD of the former key.
func (s *Service) AEAD(keyID string) *AEAD { return &AEAD{s, keyID} }

// EncryptWithContext calls [Service.Encrypt]. plaintext has 1 to 4,096 bytes.
func (a *AEAD) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	out, err := a.svc.Encrypt(ctx, &EncryptInput{KeyId: a.keyID, Plaintext: plaintext, EncryptionContext: asContext(associatedData)})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}

// DecryptWithContext calls [Service.Decrypt], with the key of the AEAD only.
func (a *AEAD) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if a.keyID == "" { // which Decrypt takes to mean any key
		return nil, &Error{Code: ValidationException, Operation: "Decrypt", Message: "The AEAD has no key ID."}
	}
	out, err := a.svc.Decrypt(ctx, &DecryptInput{KeyId: a.keyID, CiphertextBlob: ciphertext, EncryptionContext: asContext(associatedData)})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// Encrypt is EncryptWithContext without a context.
func (a *AEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.EncryptWithContext(context.Background(), plaintext, associatedData)
}

// Decrypt is DecryptWithContext without a context.
func (a *AEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.DecryptWithContext(context.Background(), ciphertext, associatedData)
}

// asContext returns the encryption context that stands for associated data.
func asContext(associatedData []byte) map[string]string {
	if len(associatedData) == 0 {
		return nil
	}
	return map[string]string{"associatedData": hex.EncodeToString(associatedData)}
}

// TinkClient returns a client for the registry of Tink, with which Tink finds the keys of this
// service by their URIs. A URI is "aws-kms://" followed by the ARN of a key or an alias of the
// view's Region; for keys of other Regions, register the clients of other views, too.
//
// The registry belongs to the whole process, keeps a client until ClearKMSClients, and gives it to
// any code that has a URI. Where code can be given an AEAD, [Service.AEAD] is better.
func (s *Service) TinkClient() registry.KMSClient { return tinkClient{s} }

type tinkClient struct{ svc *Service }

const tinkScheme = "aws-kms://"

// Supported reports whether keyURI is one of the view's Region.
func (c tinkClient) Supported(keyURI string) bool {
	name, isKMS := strings.CutPrefix(keyURI, tinkScheme)
	key, isARN := arn.Parse(name)
	return isKMS && isARN && key.Service == "kms" && key.Region == c.svc.region && key.Partition == arn.Partition(c.svc.region)
}

// GetAEAD returns an [*AEAD]. It does not look whether the key exists: its calls do.
func (c tinkClient) GetAEAD(keyURI string) (tink.AEAD, error) {
	if !c.Supported(keyURI) {
		return nil, fmt.Errorf("kms: %.300q is not %q with the ARN of a key in %s", keyURI, tinkScheme, c.svc.region)
	}
	return c.svc.AEAD(strings.TrimPrefix(keyURI, tinkScheme)), nil
}
