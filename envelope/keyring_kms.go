package envelope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
)

const providerKMS = "aws-kms"

// KMSKey returns a keyring of one key of a KMS. The identifier is a key ARN, key ID, alias name or
// alias ARN. The keyring decrypts data keys of that key only, including those that another replica
// of a multi-Region key encrypted. The grant tokens are passed with each call.
//
// The KMS resolves an alias in each call: what was encrypted before the alias was moved to another
// key is not decrypted. Without a key ARN, messages with several data keys may cost more calls.
func KMSKey(svc KMS, keyID string, grantTokens ...string) Keyring {
	return &kmsKey{svc: svc, keyID: keyID, grantTokens: slices.Clone(grantTokens)}
}

type kmsKey struct {
	svc         KMS
	keyID       string
	grantTokens []string
}

func (k *kmsKey) keyrings() []keyring { return []keyring{k} }

func (k *kmsKey) can() (encrypt, decrypt bool) { return true, true }

func (k *kmsKey) check() error {
	if k.svc == nil {
		return errNilKMS
	}
	if k.keyID == "" || len(k.keyID) > 2048 || !utf8.ValidString(k.keyID) {
		return errors.New("envelope: KMSKey needs a key ID, key ARN, alias name or alias ARN")
	}
	if strings.HasPrefix(k.keyID, "arn:") {
		a, ok := arn.Parse(k.keyID)
		if !ok || !isKMS(&a) || !isKeyResource(a.Resource) && !arn.IsAlias(a.Resource) {
			return fmt.Errorf("envelope: %q is not the ARN of a key or an alias", k.keyID)
		}
	}
	return nil
}

var (
	errNilKMS   = errors.New("envelope: a keyring has no KMS")
	errNoAnswer = errors.New("envelope: the KMS returned neither an answer nor an error")
)

func (k *kmsKey) generate(ctx context.Context, size int, ec *encryptionContext) ([]byte, encryptedKey, error) {
	n := int32(size)
	out, err := k.svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: k.keyID, NumberOfBytes: &n, EncryptionContext: ec.pairs, GrantTokens: k.grantTokens,
	})
	if err == nil && out == nil {
		err = errNoAnswer
	}
	if err != nil {
		return nil, encryptedKey{}, err
	}
	key, err := newKMSDataKey(out.KeyId, out.CiphertextBlob)
	return out.Plaintext, key, err
}

func (k *kmsKey) encrypt(ctx context.Context, dataKey []byte, ec *encryptionContext) (encryptedKey, error) {
	out, err := k.svc.Encrypt(ctx, &kms.EncryptInput{
		KeyId: k.keyID, Plaintext: dataKey, EncryptionContext: ec.pairs, GrantTokens: k.grantTokens,
	})
	if err == nil && out == nil {
		err = errNoAnswer
	}
	if err != nil {
		return encryptedKey{}, err
	}
	return newKMSDataKey(out.KeyId, out.CiphertextBlob)
}

// newKMSDataKey returns what a message stores of an answer of the KMS.
func newKMSDataKey(keyARN string, ciphertext []byte) (encryptedKey, error) {
	if _, ok := parseKeyARN(keyARN); !ok || len(ciphertext) == 0 || len(ciphertext) > 6144 {
		return encryptedKey{}, errors.New("envelope: the KMS answered without a key ARN or a ciphertext")
	}
	return encryptedKey{provider: providerKMS, info: keyARN, ciphertext: ciphertext}, nil
}

// matches excludes what the identifier cannot mean. What an alias means, only the KMS knows.
func (k *kmsKey) matches(key *encryptedKey) bool {
	if key.provider != providerKMS {
		return false
	}
	named, ok := parseKeyARN(key.info)
	if !ok {
		return false
	}
	if mine, ok := arn.Parse(k.keyID); ok {
		if isKeyResource(mine.Resource) {
			return sameKey(k.keyID, key.info)
		}
		return mine.Partition == named.Partition && mine.Account == named.Account &&
			(mine.Region == named.Region || isMultiRegion(named.Resource))
	}
	return strings.HasPrefix(k.keyID, arn.AliasPrefix) || named.Resource == "key/"+k.keyID
}

// decrypt has the KMS decrypt with this keyring's key. That the message names the same one is then
// checked with the answer: a KMS that ignores KeyId does not decrypt with a key that the message
// chose.
func (k *kmsKey) decrypt(ctx context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error) {
	return decryptWithKMS(ctx, k.svc, k.keyID, k.grantTokens, key, ec, func(answered string) bool {
		if mine, ok := arn.Parse(k.keyID); ok && isKeyResource(mine.Resource) {
			return answered == k.keyID
		}
		return sameKey(answered, key.info)
	})
}

func decryptWithKMS(ctx context.Context, svc KMS, keyID string, grantTokens []string, key *encryptedKey, ec *encryptionContext,
	expected func(keyARN string) bool) ([]byte, error) {
	out, err := svc.Decrypt(ctx, &kms.DecryptInput{
		KeyId: keyID, CiphertextBlob: key.ciphertext, EncryptionContext: ec.pairs, GrantTokens: grantTokens,
	})
	if err == nil && out == nil {
		err = errNoAnswer
	}
	if err != nil {
		return nil, err
	}
	if !expected(out.KeyId) {
		secret.Clear(out.Plaintext)
		return nil, errors.New("envelope: the KMS decrypted with another key")
	}
	return out.Plaintext, nil
}

// A DiscoveryFilter limits the keys that [KMSDiscovery] uses. The zero value allows every key that
// the caller may use.
type DiscoveryFilter struct {
	// Partition and Accounts are what keys must belong to. Set both or neither.
	Partition string
	Accounts  []string

	// Region, if set, uses multi-Region keys there, whichever replica encrypted, and skips other
	// keys of other Regions.
	Region string
}

// KMSDiscovery returns a keyring that decrypts with the keys that messages name. So whoever writes
// a message chooses the key, within the filter and the caller's permissions; prefer [KMSKey]. It
// cannot encrypt. The grant tokens are passed with each call.
func KMSDiscovery(svc KMS, filter DiscoveryFilter, grantTokens ...string) Keyring {
	filter.Accounts = slices.Clone(filter.Accounts)
	return &kmsDiscovery{svc: svc, filter: filter, grantTokens: slices.Clone(grantTokens)}
}

type kmsDiscovery struct {
	svc         KMS
	filter      DiscoveryFilter
	grantTokens []string
}

func (k *kmsDiscovery) keyrings() []keyring { return []keyring{k} }

func (k *kmsDiscovery) can() (encrypt, decrypt bool) { return false, true }

func (k *kmsDiscovery) check() error {
	if k.svc == nil {
		return errNilKMS
	}
	if (k.filter.Partition == "") != (len(k.filter.Accounts) == 0) || slices.Contains(k.filter.Accounts, "") {
		return errors.New("envelope: a DiscoveryFilter must have both Partition and Accounts, or neither")
	}
	return nil
}

var errCannotEncrypt = errors.New("envelope: a discovery keyring cannot encrypt")

func (k *kmsDiscovery) generate(context.Context, int, *encryptionContext) ([]byte, encryptedKey, error) {
	return nil, encryptedKey{}, errCannotEncrypt
}

func (k *kmsDiscovery) encrypt(context.Context, []byte, *encryptionContext) (encryptedKey, error) {
	return encryptedKey{}, errCannotEncrypt
}

func (k *kmsDiscovery) matches(key *encryptedKey) bool {
	named, ok := parseKeyARN(key.info)
	if !ok || key.provider != providerKMS {
		return false
	}
	if k.filter.Partition != "" && (named.Partition != k.filter.Partition || !slices.Contains(k.filter.Accounts, named.Account)) {
		return false
	}
	return k.filter.Region == "" || named.Region == k.filter.Region || isMultiRegion(named.Resource)
}

func (k *kmsDiscovery) decrypt(ctx context.Context, key *encryptedKey, ec *encryptionContext) ([]byte, error) {
	keyID := key.info
	if named, ok := parseKeyARN(keyID); ok && k.filter.Region != "" {
		named.Region = k.filter.Region
		keyID = strings.Join([]string{"arn", named.Partition, named.Service, named.Region, named.Account, named.Resource}, ":")
	}
	return decryptWithKMS(ctx, k.svc, keyID, k.grantTokens, key, ec, func(answered string) bool { return answered == keyID })
}

// parseKeyARN returns the parts of the ARN of a key.
func parseKeyARN(s string) (arn.ARN, bool) {
	a, ok := arn.Parse(s)
	return a, ok && isKMS(&a) && isKeyResource(a.Resource)
}

func isKMS(a *arn.ARN) bool { return a.Service == "kms" && a.Region != "" && a.Account != "" }

func isKeyResource(resource string) bool {
	return strings.HasPrefix(resource, "key/") && len(resource) > len("key/")
}

func isMultiRegion(resource string) bool {
	return strings.HasPrefix(resource, "key/"+arn.MultiRegionPrefix)
}

// sameKey reports whether two key ARNs are of one key, or of replicas of one multi-Region key.
func sameKey(a, b string) bool {
	if a == b {
		return true
	}
	x, ok := parseKeyARN(a)
	y, also := parseKeyARN(b)
	if !ok || !also || !isMultiRegion(x.Resource) {
		return false
	}
	x.Region = y.Region
	return x == y
}

// multiRegionID returns the ID of a multi-Region key that an identifier names, or "".
func multiRegionID(keyID string) string {
	if a, ok := parseKeyARN(keyID); ok {
		keyID = strings.TrimPrefix(a.Resource, "key/")
	}
	if strings.HasPrefix(keyID, arn.MultiRegionPrefix) {
		return keyID
	}
	return ""
}
