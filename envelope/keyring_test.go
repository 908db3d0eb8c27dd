package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

// calls are the names of the operations of a service, in their order.
type calls struct {
	mu    sync.Mutex
	names []string
	last  any // copy of the last input
}

func (c *calls) intercept(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
	c.mu.Lock()
	c.names = append(c.names, call.Operation.Name())
	switch in := call.Input.(type) {
	case *kms.GenerateDataKeyInput:
		c.last = *in
	case *kms.EncryptInput:
		c.last = *in
	case *kms.DecryptInput:
		c.last = *in
	}
	c.mu.Unlock()
	return next(ctx)
}

func (c *calls) take() []string {
	names := c.names
	c.names = nil
	return names
}

// newKMS returns a service with a key that has an alias.
func newKMS(t testing.TB) (*kms.Service, *calls, string) {
	t.Helper()
	c := new(calls)
	svc := kmstest.New(t, kmstest.Configure(func(config *kms.Config) { config.Intercept, config.ReplicationDelay = c.intercept, -1 })).Service
	created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{})
	require.NoError(t, err)
	_, err = svc.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: "alias/app", TargetKeyId: created.KeyMetadata.KeyId})
	require.NoError(t, err)
	c.take()
	return svc, c, created.KeyMetadata.Arn
}

func newKey(t testing.TB, svc *kms.Service, multiRegion bool) string {
	t.Helper()
	created, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: multiRegion})
	require.NoError(t, err)
	return created.KeyMetadata.Arn
}

func seal(t testing.TB, k Keyring, pairs map[string]string) []byte {
	t.Helper()
	message, err := newEncrypter(t, k, EncrypterOptions{}).Seal(t.Context(), []byte("plaintext"), pairs)
	require.NoError(t, err)
	return message
}

// open decrypts what seal has returned.
func open(t testing.TB, k Keyring, message []byte) error {
	t.Helper()
	got, err := newDecrypter(t, k, DecrypterOptions{}).Open(t.Context(), message, nil)
	if err == nil {
		require.Equal(t, "plaintext", string(got))
	}
	return err
}

func TestAKMSKeyIsNamedByAnyOfItsIdentifiers(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	prefix, id, _ := strings.Cut(keyARN, "key/")
	identifiers := []string{keyARN, id, "alias/app", prefix + "alias/app"}
	for _, sealing := range identifiers {
		message := seal(t, KMSKey(svc, sealing), nil)
		require.Equal(t, []string{"GenerateDataKey"}, c.take())
		require.Equal(t, []encryptedKey{{providerKMS, keyARN, splitMessage(t, message).header.keys[0].ciphertext}}, splitMessage(t, message).header.keys)
		for _, opening := range identifiers {
			require.NoError(t, open(t, KMSKey(svc, opening), message), "%s %s", sealing, opening)
			require.Equal(t, []string{"Decrypt"}, c.take())
			require.Equal(t, opening, c.last.(kms.DecryptInput).KeyId)
		}
		require.NoError(t, open(t, KMSDiscovery(svc, DiscoveryFilter{}), message))
		require.Equal(t, keyARN, c.last.(kms.DecryptInput).KeyId)
		c.take()
	}
}

func TestTheKMSIsGivenTheCompleteContext(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	pairs := map[string]string{"tenant": "7", "row": "😀", "required": "r"}
	e := newEncrypter(t, KMSKey(svc, keyARN), EncrypterOptions{Suite: SuiteCommitKeyECDSA, RequiredContextKeys: []string{"required"}})
	message, err := e.Seal(t.Context(), []byte("plaintext"), pairs)
	require.NoError(t, err)
	sent := c.last.(kms.GenerateDataKeyInput)
	require.EqualValues(t, 32, *sent.NumberOfBytes)
	require.Empty(t, sent.KeySpec)
	public := sent.EncryptionContext[publicKeyPair]
	require.Len(t, public, 68)
	require.Equal(t, with(pairs, publicKeyPair, public), sent.EncryptionContext)
	require.Len(t, pairs, 3, "the caller's map is not changed")

	got, err := newDecrypter(t, KMSKey(svc, keyARN), DecrypterOptions{}).Open(t.Context(), message, map[string]string{"required": "r"})
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(got))
	require.Equal(t, sent.EncryptionContext, c.last.(kms.DecryptInput).EncryptionContext)
}

func TestAnotherKeyOfTheKMSDoesNotDecrypt(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	message := seal(t, KMSKey(svc, keyARN), nil)
	other := newKey(t, svc, false)
	_, otherID, _ := strings.Cut(other, "key/")
	c.take()
	for _, k := range []Keyring{KMSKey(svc, other), KMSKey(svc, otherID), testKeyring(), KMSKey(svc, strings.ReplaceAll(keyARN, "us-east-1", "eu-west-1"))} {
		require.ErrorIs(t, open(t, k, message), ErrNoKey)
		require.Empty(t, c.take(), "the identifier excludes it")
	}
	_, err := svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/app", TargetKeyId: other})
	require.NoError(t, err)
	err = open(t, KMSKey(svc, "alias/app"), message)
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorIs(t, err, kms.IncorrectKeyException)
}

func TestErrorsOfTheKMSArePassedThrough(t *testing.T) {
	svc, _, keyARN := newKMS(t)
	message := seal(t, KMSKey(svc, keyARN), nil)
	_, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: keyARN})
	require.NoError(t, err)
	err = open(t, KMSKey(svc, keyARN), message)
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorIs(t, err, kms.DisabledException)
	_, err = newEncrypter(t, KMSKey(svc, keyARN), EncrypterOptions{}).Seal(t.Context(), nil, nil)
	require.ErrorIs(t, err, kms.DisabledException)
	_, err = newEncrypter(t, Multi(testKeyring(), KMSKey(svc, keyARN)), EncrypterOptions{}).Seal(t.Context(), nil, nil)
	require.ErrorIs(t, err, kms.DisabledException, "all keyrings must encrypt")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newDecrypter(t, Multi(KMSKey(svc, keyARN), testKeyring()), DecrypterOptions{}).Open(ctx, message, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// liar is a KMS that answers with another key, length or error.
type liar struct {
	KMS
	keyID  *string
	resize int
}

func (l liar) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
	out, err := l.KMS.GenerateDataKey(ctx, in)
	if err == nil && l.keyID != nil {
		out.KeyId = *l.keyID
	}
	if err == nil {
		out.Plaintext = out.Plaintext[:len(out.Plaintext)+l.resize]
	}
	return out, err
}

func (l liar) Encrypt(ctx context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
	out, err := l.KMS.Encrypt(ctx, in)
	if err == nil && l.keyID != nil {
		out.KeyId = *l.keyID
	}
	return out, err
}

func (l liar) Decrypt(ctx context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
	in.KeyId = ""
	out, err := l.KMS.Decrypt(ctx, in)
	if err == nil && l.keyID != nil {
		out.KeyId = *l.keyID
	}
	if err == nil {
		out.Plaintext = out.Plaintext[:len(out.Plaintext)+l.resize]
	}
	return out, err
}

func TestAnswersOfTheKMSAreChecked(t *testing.T) {
	svc, _, keyARN := newKMS(t)
	message := seal(t, KMSKey(svc, keyARN), nil)
	other := newKey(t, svc, false)
	for _, answered := range []string{"", "alias/app", "arn:aws:kms:us-east-1:111122223333:alias/app", strings.TrimPrefix(keyARN, "arn:")} {
		for _, k := range []Keyring{KMSKey(liar{svc, &answered, 0}, keyARN), Multi(testKeyring(), KMSKey(liar{svc, &answered, 0}, keyARN))} {
			_, err := newEncrypter(t, k, EncrypterOptions{}).Seal(t.Context(), nil, nil)
			require.ErrorContains(t, err, "without a key ARN", answered)
		}
	}
	_, err := newEncrypter(t, KMSKey(liar{svc, nil, -1}, keyARN), EncrypterOptions{}).Seal(t.Context(), nil, nil)
	require.ErrorContains(t, err, "another length")

	for _, k := range []Keyring{KMSKey(liar{svc, &other, 0}, keyARN), KMSKey(liar{svc, &other, 0}, "alias/app"), KMSDiscovery(liar{svc, &other, 0}, DiscoveryFilter{})} {
		require.ErrorContains(t, open(t, k, message), "another key")
	}
	require.ErrorIs(t, open(t, KMSKey(liar{svc, nil, -1}, keyARN), message), ErrNoKey)
	require.NoError(t, open(t, KMSKey(liar{svc, nil, 0}, keyARN), message))
}

func TestAnyOfSeveralKeysDecrypts(t *testing.T) {
	svc, c, first := newKMS(t)
	second := newKey(t, svc, false)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	escrow := RawRSA("escrow", "2026", crypto.SHA512, private)
	all := Multi(KMSKey(svc, first), Multi(KMSKey(svc, second), testKeyring()), RawRSAPublic("escrow", "2026", crypto.SHA512, &private.PublicKey))
	c.take()
	message := seal(t, all, map[string]string{"a": "1"})
	require.Equal(t, []string{"GenerateDataKey", "Encrypt"}, c.take())
	require.Len(t, splitMessage(t, message).header.keys, 4)
	for i, k := range []Keyring{KMSKey(svc, first), KMSKey(svc, second), testKeyring(), escrow, all, KMSDiscovery(svc, DiscoveryFilter{})} {
		require.NoError(t, open(t, k, message), i)
	}
	c.take()

	_, err = svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: first})
	require.NoError(t, err)
	c.take()
	require.NoError(t, open(t, KMSDiscovery(svc, DiscoveryFilter{}), message))
	require.Equal(t, []string{"Decrypt", "Decrypt"}, c.take(), "the first fails")
	require.NoError(t, open(t, Multi(KMSKey(svc, first), testKeyring()), message))

	_, err = svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: second})
	require.NoError(t, err)
	err = open(t, KMSDiscovery(svc, DiscoveryFilter{}), message)
	var both interface{ Unwrap() []error }
	require.ErrorAs(t, err, &both)
	require.Equal(t, 2, strings.Count(err.Error(), "DisabledException"), "the errors of all are returned")
}

func TestMultiRegionKeysAreReadWhereTheirReplicasAre(t *testing.T) {
	svc, _, single := newKMS(t)
	west := svc.In("us-west-2")
	primary := newKey(t, svc, true)
	replicated, err := svc.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: primary, ReplicaRegion: "us-west-2"})
	require.NoError(t, err)
	replica := replicated.ReplicaKeyMetadata.Arn
	_, id, _ := strings.Cut(primary, "key/")

	message := seal(t, KMSKey(svc, primary), nil)
	require.NoError(t, open(t, KMSKey(west, replica), message))
	require.NoError(t, open(t, KMSKey(west, id), message))
	require.NoError(t, open(t, KMSDiscovery(west, DiscoveryFilter{Region: "us-west-2"}), message))
	require.ErrorIs(t, open(t, KMSKey(west, newKey(t, west, true)), message), ErrNoKey)

	other := seal(t, KMSKey(svc, single), nil)
	require.Equal(t, ErrNoKey, open(t, KMSDiscovery(west, DiscoveryFilter{Region: "us-west-2"}), other))
	require.Equal(t, ErrNoKey, open(t, KMSKey(west, strings.Replace(single, "us-east-1", "us-west-2", 1)), other))

	_, err = NewEncrypter(Multi(KMSKey(svc, primary), KMSKey(west, replica)), EncrypterOptions{})
	require.ErrorContains(t, err, "same multi-Region key")
}

func TestTheDiscoveryFilterIsKept(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	message := seal(t, KMSKey(svc, keyARN), nil)
	for _, filter := range []DiscoveryFilter{{}, {Partition: "aws", Accounts: []string{"999999999999", "111122223333"}}, {Region: "us-east-1"}} {
		require.NoError(t, open(t, KMSDiscovery(svc, filter), message), filter)
	}
	c.take()
	for _, filter := range []DiscoveryFilter{{Partition: "aws-cn", Accounts: []string{"111122223333"}}, {Partition: "aws", Accounts: []string{"11112222333"}}, {Region: "eu-west-1"}} {
		require.Equal(t, ErrNoKey, open(t, KMSDiscovery(svc, filter), message), filter)
	}
	require.Empty(t, c.take())
}

func TestGrantTokensArePassed(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	created, err := svc.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: keyARN, GranteePrincipal: "arn:aws:iam::111122223333:user/alice",
		Operations: []kms.GrantOperation{kms.GrantOperationGenerateDataKey, kms.GrantOperationEncrypt, kms.GrantOperationDecrypt}})
	require.NoError(t, err)
	tokens := []string{created.GrantToken}
	second := Multi(testKeyring(), KMSKey(svc, keyARN, tokens...))
	message := seal(t, KMSKey(svc, keyARN, tokens...), nil)
	require.Equal(t, tokens, c.last.(kms.GenerateDataKeyInput).GrantTokens)
	seal(t, second, nil)
	require.Equal(t, tokens, c.last.(kms.EncryptInput).GrantTokens)
	for _, k := range []Keyring{KMSKey(svc, keyARN, tokens...), KMSDiscovery(svc, DiscoveryFilter{}, tokens...)} {
		require.NoError(t, open(t, k, message))
		require.Equal(t, tokens, c.last.(kms.DecryptInput).GrantTokens)
	}
}

func TestRawKeysDecryptOnlyTheirOwn(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	message := seal(t, testKeyring(), map[string]string{"a": "1"})
	for name, k := range map[string]Keyring{"namespace": RawAES("other", "fixed", key), "name": RawAES("test", "fixee", key), "prefix": RawAES("test", "fixe", key)} {
		require.Equal(t, ErrNoKey, open(t, k, message), name)
	}
	err := open(t, RawAES("test", "fixed", make([]byte, 32)), message)
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorIs(t, err, errUnwrap)
	for _, size := range []int{16, 24, 32} {
		k := RawAES("n", "k", make([]byte, size))
		require.NoError(t, open(t, k, seal(t, k, nil)))
	}

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		message := seal(t, RawRSAPublic("n", "k", hash, &private.PublicKey), nil)
		require.NoError(t, open(t, RawRSA("n", "k", hash, private), message))
		require.ErrorIs(t, open(t, RawRSA("n", "k", crypto.SHA256+crypto.SHA512-max(hash, crypto.SHA256), private), message), errIf(hash, ErrNoKey))
	}
}

// errIf returns err if hash is one whose counterpart in the test is another hash.
func errIf(hash crypto.Hash, err error) error {
	if hash == crypto.SHA384 {
		return nil
	}
	return err
}

func TestKeyringsThatCannotWorkAreRefused(t *testing.T) {
	svc, _, keyARN := newKMS(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	good := testKeyring()
	for name, k := range map[string]Keyring{
		"nil":                 nil,
		"nil in Multi":        Multi(good, nil),
		"no KMS":              KMSKey(nil, keyARN),
		"no key":              KMSKey(svc, ""),
		"ARN of something":    KMSKey(svc, "arn:aws:s3:::bucket"),
		"ARN without a key":   KMSKey(svc, "arn:aws:kms:us-east-1:111122223333:key/"),
		"discovery, no KMS":   KMSDiscovery(nil, DiscoveryFilter{}),
		"half a filter":       KMSDiscovery(svc, DiscoveryFilter{Partition: "aws"}),
		"other half":          KMSDiscovery(svc, DiscoveryFilter{Accounts: []string{"111122223333"}}),
		"AES of 31 bytes":     RawAES("n", "k", make([]byte, 31)),
		"reserved namespace":  RawAES("aws-kms-mine", "k", make([]byte, 32)),
		"no namespace":        RawAES("", "k", make([]byte, 32)),
		"no name":             RawAES("n", "", make([]byte, 32)),
		"name of 64 KiB":      RawAES("n", strings.Repeat("x", 1<<16), make([]byte, 32)),
		"no RSA key":          RawRSA("n", "k", crypto.SHA256, nil),
		"no public key":       RawRSAPublic("n", "k", crypto.SHA256, nil),
		"empty public key":    RawRSAPublic("n", "k", crypto.SHA256, new(rsa.PublicKey)),
		"short RSA key":       RawRSA("n", "k", crypto.SHA256, small),
		"MD5":                 RawRSA("n", "k", crypto.MD5, private),
		"RSA in KMS's space":  RawRSA("aws-kms", "k", crypto.SHA256, private),
		"one of them invalid": Multi(good, RawAES("n", "k", nil)),
	} {
		_, err := NewEncrypter(k, EncrypterOptions{})
		require.Error(t, err, name)
		_, err = NewDecrypter(k, DecrypterOptions{})
		require.Error(t, err, name)
	}
	public := RawRSAPublic("n", "k", crypto.SHA256, &private.PublicKey)
	_, err = NewDecrypter(public, DecrypterOptions{})
	require.ErrorContains(t, err, "no keyring can decrypt")
	_, err = NewDecrypter(Multi(public, good), DecrypterOptions{})
	require.NoError(t, err)
	for _, k := range []Keyring{KMSDiscovery(svc, DiscoveryFilter{}), Multi(good, KMSDiscovery(svc, DiscoveryFilter{}))} {
		_, err = NewEncrypter(k, EncrypterOptions{})
		require.ErrorContains(t, err, "cannot encrypt")
	}
	_, err = NewEncrypter(Multi(good, good, good, good, good, good, good, good, good, good, good), EncrypterOptions{})
	require.ErrorIs(t, err, ErrLimit)
	_, err = NewEncrypter(Multi(good, good, good, good, good, good, good, good, good, good, good), EncrypterOptions{MaxEncryptedDataKeys: 11})
	require.NoError(t, err)
}

// An encrypted data key names no key of ours, whatever it holds.
func TestImpossibleDataKeysAreSkipped(t *testing.T) {
	svc, c, keyARN := newKMS(t)
	parts := splitMessage(t, seal(t, KMSKey(svc, keyARN), nil))
	c.take()
	for _, info := range []string{"", "arn:aws:kms:us-east-1:111122223333:alias/app", "alias/app", "arn:aws:s3:us-east-1:111122223333:key/x", "arn:aws:kms::111122223333:key/x", "arn:aws:kms:us-east-1::key/x", "arn:aws:kms:us-east-1:111122223333:key/"} {
		h := *parts.header
		h.keys = []encryptedKey{{providerKMS, info, h.keys[0].ciphertext}}
		require.NoError(t, h.encode(nil))
		for _, k := range []Keyring{KMSKey(svc, keyARN), KMSKey(svc, "alias/app"), KMSDiscovery(svc, DiscoveryFilter{})} {
			require.Equal(t, ErrNoKey, open(t, k, split{&h, parts.frames, nil}.join()), info)
		}
	}
	require.Empty(t, c.take())
	require.NotErrorIs(t, errors.Join(ErrNoKey), ErrAltered)
}

// silentKMS answers nothing, or what a KMS must not.
type silentKMS struct{ answers bool }

func (s silentKMS) GenerateDataKey(context.Context, *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
	if !s.answers {
		return nil, nil
	}
	return &kms.GenerateDataKeyOutput{KeyId: "arn:aws:kms:us-east-1:111122223333:key/x", Plaintext: make([]byte, 32)}, nil
}

func (silentKMS) Encrypt(context.Context, *kms.EncryptInput) (*kms.EncryptOutput, error) {
	return nil, nil
}

func (silentKMS) Decrypt(context.Context, *kms.DecryptInput) (*kms.DecryptOutput, error) {
	return nil, nil
}

func TestAKMSThatAnswersNothingIsAnError(t *testing.T) {
	svc, _, keyARN := newKMS(t)
	silent := KMSKey(silentKMS{}, keyARN)
	for _, k := range []Keyring{silent, Multi(KMSKey(svc, keyARN), silent)} {
		e, err := NewEncrypter(k, EncrypterOptions{})
		require.NoError(t, err)
		_, err = e.Seal(t.Context(), nil, nil)
		require.ErrorIs(t, err, errNoAnswer)
	}
	err := open(t, silent, seal(t, KMSKey(svc, keyARN), nil))
	require.ErrorIs(t, err, ErrNoKey)
	require.ErrorIs(t, err, errNoAnswer)

	e, err := NewEncrypter(KMSKey(silentKMS{answers: true}, keyARN), EncrypterOptions{}) // without a ciphertext
	require.NoError(t, err)
	_, err = e.Seal(t.Context(), nil, nil)
	require.ErrorContains(t, err, "without a key ARN or a ciphertext")
}
