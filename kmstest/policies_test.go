package kmstest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

// documentedPolicy returns the policy under a heading of docs/authorization.md.
func documentedPolicy(t *testing.T, heading string) string {
	text, err := os.ReadFile("../docs/authorization.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n### "+heading+"\n")
	require.True(t, ok, heading)
	_, policy, ok := strings.Cut(section, "```json\n")
	require.True(t, ok)
	policy, _, _ = strings.Cut(policy, "```")
	return policy
}

// A policyTest makes calls with a key that has a documented policy.
type policyTest struct {
	*testing.T
	*kmstest.Service
	tenant string // the encryption context
	sealed []byte // by the root, who may do everything for a moment
}

const keyOfTheDocument = "arn:aws:kms:us-east-1:111122223333:key/" + aKey

func newPolicyTest(t *testing.T, heading string) *policyTest {
	t.Parallel()
	p := &policyTest{T: t, Service: kmstest.New(t, kmstest.Seed(seed.Key{ID: aKey})), tenant: "blue"}
	out, err := p.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aKey, Plaintext: []byte("x"), EncryptionContext: p.context()})
	require.NoError(t, err)
	p.sealed = out.CiphertextBlob
	_, err = p.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: aKey, Policy: documentedPolicy(t, heading), BypassPolicyLockoutSafetyCheck: true})
	require.NoError(t, err)
	return p
}

func (p *policyTest) context() map[string]string { return map[string]string{"tenant": p.tenant} }

func (p *policyTest) encrypt(who kms.Principal) error {
	_, err := p.As(who).Encrypt(p.Context(), &kms.EncryptInput{KeyId: keyOfTheDocument, Plaintext: []byte("x"), EncryptionContext: p.context()})
	return err
}

func (p *policyTest) decrypt(who kms.Principal) error {
	_, err := p.As(who).Decrypt(p.Context(), &kms.DecryptInput{KeyId: keyOfTheDocument, CiphertextBlob: p.sealed, EncryptionContext: p.context()})
	return err
}

func (p *policyTest) disable(who kms.Principal) error {
	_, err := p.As(who).DisableKey(p.Context(), &kms.DisableKeyInput{KeyId: keyOfTheDocument})
	return err
}

func TestDocumentedPolicyOfTenants(t *testing.T) {
	p := newPolicyTest(t, "A tenant per encryption context")
	session := kmstest.Principal(t, "arn:aws:sts::111122223333:assumed-role/tenant/blue")
	blue, err := session.WithIdentity(kms.Identity{Tags: map[string]string{"tenant": "blue"}})
	require.NoError(t, err)
	kmstest.RequireAllowed(t, p.encrypt(blue))
	kmstest.RequireAllowed(t, p.decrypt(blue))
	kmstest.RequireDenied(t, p.decrypt(session), kmstest.NoKeyPolicy)
	kmstest.RequireDenied(t, p.decrypt(kmstest.Principal(t, "arn:aws:iam::111122223333:role/admin")), kmstest.NoKeyPolicy)
	p.tenant = "red"
	kmstest.RequireDenied(t, p.decrypt(blue), kmstest.NoKeyPolicy)
}

func TestDocumentedPolicyOfAdministratorsAndUsers(t *testing.T) {
	p := newPolicyTest(t, "Administrators apart from users")
	admin, app := kmstest.Principal(t, "arn:aws:iam::111122223333:role/admin"), kmstest.Principal(t, "arn:aws:iam::111122223333:role/app")
	kmstest.RequireAllowed(t, p.decrypt(app))
	kmstest.RequireDenied(t, p.decrypt(admin), kmstest.NoKeyPolicy)
	kmstest.RequireDenied(t, p.disable(app), kmstest.NoKeyPolicy)
	kmstest.RequireAllowed(t, p.disable(admin))
}

func TestDocumentedPolicyOfAReaderInAnotherAccount(t *testing.T) {
	p := newPolicyTest(t, "A reader in another account")
	const role = "arn:aws:iam::444455556666:role/reader"
	reader := kmstest.Principal(t, role, `{"Statement": {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": "*"}}`)
	kmstest.RequireAllowed(t, p.decrypt(reader))
	kmstest.RequireDenied(t, p.decrypt(kmstest.Principal(t, role)), kmstest.NoIdentityPolicy)
	kmstest.RequireDenied(t, p.encrypt(reader), kmstest.Undisclosed)
}

func TestDocumentedPolicyOfAGrantThatEnds(t *testing.T) {
	p := newPolicyTest(t, "A grant that ends")
	contractor := kmstest.Principal(t, "arn:aws:iam::111122223333:role/contractor")
	kmstest.RequireDenied(t, p.decrypt(contractor), kmstest.NoIdentityPolicy)
	_, err := p.CreateGrant(t.Context(), &kms.CreateGrantInput{
		KeyId: aKey, GranteePrincipal: contractor.ARN(), Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
	})
	require.NoError(t, err)
	kmstest.RequireAllowed(t, p.decrypt(contractor))
	p.Advance(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC).Sub(p.Now()))
	kmstest.RequireDenied(t, p.decrypt(contractor), kmstest.DeniedByKeyPolicy)
}

func TestDocumentedPolicyOfNoPlaintextDataKeys(t *testing.T) {
	p := newPolicyTest(t, "No plaintext data keys")
	app := kmstest.Principal(t, "arn:aws:iam::111122223333:role/app", `{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}`)
	in := &kms.GenerateDataKeyInput{KeyId: aKey, KeySpec: kms.DataKeySpecAES256}
	_, err := p.As(app).GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: aKey, KeySpec: in.KeySpec})
	kmstest.RequireAllowed(t, err)
	for _, caller := range []*kms.Service{p.As(app), p.Service.Service} { // the root, too
		_, err = caller.GenerateDataKey(t.Context(), in)
		kmstest.RequireDenied(t, err, kmstest.DeniedByKeyPolicy)
	}
	_, err = p.As(app).GenerateDataKey(p.ServiceCall("s3").Context(t.Context()), in)
	kmstest.RequireAllowed(t, err)
}
