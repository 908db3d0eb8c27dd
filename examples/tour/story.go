package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/seed"
)

const (
	auditor = "arn:aws:iam::111122223333:role/auditor"
	clerk   = "arn:aws:iam::111122223333:role/clerk"
)

// keys are those that the shop has from the start. The tour creates one more.
var keys = []seed.Key{
	{ID: "5409a7c1-0000-4000-8000-000000000001", Aliases: []string{"alias/archive"}, Grants: []kms.CreateGrantInput{{
		Name: "audit", GranteePrincipal: auditor, RetiringPrincipal: auditor, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
	}}},
	{ID: "5409a7c1-0000-4000-8000-000000000002", Aliases: []string{"alias/sessions"}, Spec: kms.KeySpecHMAC256, Usage: kms.KeyUsageGenerateVerifyMac},
	{ID: "5409a7c1-0000-4000-8000-000000000003", Aliases: []string{"alias/receipts"}, Spec: kms.KeySpecECCNISTP256, Usage: kms.KeyUsageSignVerify},
	{ID: "5409a7c1-0000-4000-8000-000000000004", Aliases: []string{"alias/bank"}, Spec: kms.KeySpecECCNISTP256, Usage: kms.KeyUsageKeyAgreement},
	{ID: "5409a7c1-0000-4000-8000-000000000005", Aliases: []string{"alias/letters"}, Spec: kms.KeySpecMLKEM768, Usage: kms.KeyUsageEncapsulateDecapsulate},
	{ID: worldwide, Aliases: []string{"alias/worldwide"}},
}

// worldwide is the ID of a multi-Region key.
const worldwide = "mrk-5409a7c1000040008000000000000006"

// memory is what later steps need of earlier ones.
type memory struct {
	key               string // the ID of the key that the tour creates
	vault             string // the ID of the key whose material the shop brings
	token, wrapped    []byte // for its import
	sealed            []byte // the invoice
	tag, signature    []byte
	ours              *ecdsa.PublicKey // for the bank
	bankKnows         []byte           // the secret that it shares with us
	letter, letterKey []byte           // an encapsulated secret, and the secret
	grant, auditGrant string           // IDs
}

var (
	invoice  = []byte("invoice 4711: 3 teapots, 87.00 EUR")
	customer = map[string]string{"customer": "alice"}
)

// story has every operation once. A new operation is one more step, where it fits.
var story = []chapter{{"Opening the shop: a key, and a name for it", []step{
	call((*kms.Service).CreateKey,
		func(*tour) *kms.CreateKeyInput { return &kms.CreateKeyInput{Description: "for tea"} },
		func(t *tour, out *kms.CreateKeyOutput) string {
			t.key = out.KeyMetadata.KeyId
			return fmt.Sprintf("a %s key: %s", out.KeyMetadata.KeySpec, t.key)
		}),
	call((*kms.Service).CreateAlias,
		func(t *tour) *kms.CreateAliasInput {
			return &kms.CreateAliasInput{AliasName: "alias/tea", TargetKeyId: t.key}
		},
		func(*tour, *kms.CreateAliasOutput) string { return "alias/tea is its name" }),
	call((*kms.Service).UpdateAlias,
		func(t *tour) *kms.UpdateAliasInput {
			return &kms.UpdateAliasInput{AliasName: "alias/archive", TargetKeyId: t.key}
		},
		func(*tour, *kms.UpdateAliasOutput) string {
			return "alias/archive, which named another key, names it, too"
		}),
	call((*kms.Service).DeleteAlias,
		func(*tour) *kms.DeleteAliasInput { return &kms.DeleteAliasInput{AliasName: "alias/archive"} },
		func(*tour, *kms.DeleteAliasOutput) string { return "no more: one name is enough" }),
	call((*kms.Service).ListAliases,
		func(*tour) *kms.ListAliasesInput { return &kms.ListAliasesInput{} },
		func(_ *tour, out *kms.ListAliasesOutput) string {
			names := []string{}
			for _, a := range out.Aliases {
				if a.TargetKeyId != "" {
					names = append(names, a.AliasName[len("alias/"):])
				}
			}
			return fmt.Sprintf("%q", names)
		}),
	call((*kms.Service).UpdateKeyDescription,
		func(t *tour) *kms.UpdateKeyDescriptionInput {
			return &kms.UpdateKeyDescriptionInput{KeyId: t.key, Description: "invoices for tea"}
		},
		func(*tour, *kms.UpdateKeyDescriptionOutput) string { return "a better description" }),
	call((*kms.Service).DescribeKey,
		func(*tour) *kms.DescribeKeyInput { return &kms.DescribeKeyInput{KeyId: "alias/tea"} },
		func(t *tour, out *kms.DescribeKeyOutput) string {
			t.require(out.KeyMetadata.KeyId == t.key, "the key of the alias")
			return fmt.Sprintf("alias/tea is %s, %q", out.KeyMetadata.KeyState, out.KeyMetadata.Description)
		}),
	call((*kms.Service).TagResource,
		func(t *tour) *kms.TagResourceInput {
			return &kms.TagResourceInput{KeyId: t.key, Tags: []kms.Tag{{TagKey: "stage", TagValue: "trial"}, {TagKey: "team", TagValue: "sales"}}}
		},
		func(*tour, *kms.TagResourceOutput) string { return "two tags" }),
	call((*kms.Service).UntagResource,
		func(t *tour) *kms.UntagResourceInput {
			return &kms.UntagResourceInput{KeyId: t.key, TagKeys: []string{"stage"}}
		},
		func(*tour, *kms.UntagResourceOutput) string { return "the trial is over" }),
	call((*kms.Service).ListResourceTags,
		func(t *tour) *kms.ListResourceTagsInput { return &kms.ListResourceTagsInput{KeyId: t.key} },
		func(_ *tour, out *kms.ListResourceTagsOutput) string {
			return out.Tags[0].TagKey + " = " + out.Tags[0].TagValue
		}),
	call((*kms.Service).ListKeys,
		func(*tour) *kms.ListKeysInput { return &kms.ListKeysInput{} },
		func(_ *tour, out *kms.ListKeysOutput) string {
			return fmt.Sprintf("%d keys: the shop had %d when it opened", len(out.Keys), len(keys)+1) // with the one that has no material yet
		}),
}}, {"The first customer: secrets", []step{
	call((*kms.Service).Encrypt,
		func(*tour) *kms.EncryptInput {
			return &kms.EncryptInput{KeyId: "alias/tea", Plaintext: invoice, EncryptionContext: customer}
		},
		func(t *tour, out *kms.EncryptOutput) string {
			t.sealed = out.CiphertextBlob
			return fmt.Sprintf("an invoice of %d bytes became %s", len(invoice), sample(out.CiphertextBlob))
		}),
	call((*kms.Service).ReEncrypt,
		func(t *tour) *kms.ReEncryptInput {
			return &kms.ReEncryptInput{CiphertextBlob: t.sealed, SourceEncryptionContext: customer,
				DestinationKeyId: t.key, DestinationEncryptionContext: map[string]string{"customer": "alice", "year": "2026"}}
		},
		func(t *tour, out *kms.ReEncryptOutput) string {
			t.sealed = out.CiphertextBlob
			return "bound to its year, too; the plaintext did not leave the service"
		}),
	call((*kms.Service).Decrypt,
		func(t *tour) *kms.DecryptInput {
			return &kms.DecryptInput{KeyId: t.key, CiphertextBlob: t.sealed, EncryptionContext: map[string]string{"customer": "alice", "year": "2026"}}
		},
		func(t *tour, out *kms.DecryptOutput) string {
			t.require(bytes.Equal(out.Plaintext, invoice), "the invoice")
			return fmt.Sprintf("%q", out.Plaintext)
		}),
	call((*kms.Service).GenerateDataKey,
		func(t *tour) *kms.GenerateDataKeyInput {
			return &kms.GenerateDataKeyInput{KeyId: t.key, KeySpec: kms.DataKeySpecAES256, EncryptionContext: customer}
		},
		func(_ *tour, out *kms.GenerateDataKeyOutput) string {
			return fmt.Sprintf("a key for Alice's files, and its ciphertext to store: %s", sample(out.CiphertextBlob))
		}),
	call((*kms.Service).GenerateDataKeyWithoutPlaintext,
		func(t *tour) *kms.GenerateDataKeyWithoutPlaintextInput {
			return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: t.key, KeySpec: kms.DataKeySpecAES256}
		},
		func(_ *tour, out *kms.GenerateDataKeyWithoutPlaintextOutput) string {
			return "one for later, only as a ciphertext: " + sample(out.CiphertextBlob)
		}),
	call((*kms.Service).GenerateDataKeyPair,
		func(t *tour) *kms.GenerateDataKeyPairInput {
			return &kms.GenerateDataKeyPairInput{KeyId: t.key, KeyPairSpec: kms.DataKeyPairSpecECCNISTEdwards25519}
		},
		func(_ *tour, out *kms.GenerateDataKeyPairOutput) string {
			return fmt.Sprintf("an %s pair: a private key of %d bytes, and its ciphertext", out.KeyPairSpec, len(out.PrivateKeyPlaintext))
		}),
	call((*kms.Service).GenerateDataKeyPairWithoutPlaintext,
		func(t *tour) *kms.GenerateDataKeyPairWithoutPlaintextInput {
			return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: t.key, KeyPairSpec: kms.DataKeyPairSpecMLKEM768}
		},
		func(_ *tour, out *kms.GenerateDataKeyPairWithoutPlaintextOutput) string {
			return fmt.Sprintf("an %s pair: a public key of %d bytes, and a ciphertext", out.KeyPairSpec, len(out.PublicKey))
		}),
	call((*kms.Service).GenerateRandom,
		func(*tour) *kms.GenerateRandomInput {
			return &kms.GenerateRandomInput{NumberOfBytes: new(int32(16))}
		},
		func(_ *tour, out *kms.GenerateRandomOutput) string {
			return "a number for Alice's next order: " + sample(out.Plaintext)
		}),
}}, {"Proofs: who wrote this?", []step{
	call((*kms.Service).GenerateMac,
		func(*tour) *kms.GenerateMacInput {
			return &kms.GenerateMacInput{KeyId: "alias/sessions", Message: []byte("session of alice"), MacAlgorithm: kms.MacAlgorithmHMACSHA256}
		},
		func(t *tour, out *kms.GenerateMacOutput) string {
			t.tag = out.Mac
			return "a tag for Alice's session: " + sample(out.Mac)
		}),
	call((*kms.Service).VerifyMac,
		func(t *tour) *kms.VerifyMacInput {
			return &kms.VerifyMacInput{KeyId: "alias/sessions", Message: []byte("session of alice"), Mac: t.tag, MacAlgorithm: kms.MacAlgorithmHMACSHA256}
		},
		func(t *tour, out *kms.VerifyMacOutput) string {
			t.require(out.MacValid, "a valid tag")
			return "it is ours"
		}),
	call((*kms.Service).Sign,
		func(*tour) *kms.SignInput {
			return &kms.SignInput{KeyId: "alias/receipts", Message: invoice, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
		},
		func(t *tour, out *kms.SignOutput) string {
			t.signature = out.Signature
			return fmt.Sprintf("the invoice, signed with %s: %s", out.SigningAlgorithm, sample(out.Signature))
		}),
	call((*kms.Service).Verify,
		func(t *tour) *kms.VerifyInput {
			return &kms.VerifyInput{KeyId: "alias/receipts", Message: invoice, Signature: t.signature, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
		},
		func(t *tour, out *kms.VerifyOutput) string {
			t.require(out.SignatureValid, "a valid signature")
			return "it is the receipts key's, and the invoice is unchanged"
		}),
}}, {"Partners: secrets shared with others", []step{
	call((*kms.Service).GetPublicKey,
		func(*tour) *kms.GetPublicKeyInput { return &kms.GetPublicKeyInput{KeyId: "alias/bank"} },
		func(t *tour, out *kms.GetPublicKeyOutput) string {
			ours, err := x509.ParsePKIXPublicKey(out.PublicKey)
			t.ours, _ = ours.(*ecdsa.PublicKey)
			t.require(err == nil && t.ours != nil, "a public key of an elliptic curve")
			return "a key for the bank, which sends one of its own"
		}),
	call((*kms.Service).DeriveSharedSecret,
		func(t *tour) *kms.DeriveSharedSecretInput {
			bank, err := ecdh.P256().GenerateKey(rand.Reader)
			t.require(err == nil, "a key")
			ours, err := t.ours.ECDH()
			t.require(err == nil, "a key for ECDH")
			t.bankKnows, err = bank.ECDH(ours)
			t.require(err == nil, "a shared secret")
			public, err := x509.MarshalPKIXPublicKey(bank.PublicKey())
			t.require(err == nil, "a public key")
			return &kms.DeriveSharedSecretInput{KeyId: "alias/bank", KeyAgreementAlgorithm: kms.KeyAgreementAlgorithmECDH, PublicKey: public}
		},
		func(t *tour, out *kms.DeriveSharedSecretOutput) string {
			t.require(bytes.Equal(out.SharedSecret, t.bankKnows), "the secret that the bank computes")
			return "the bank computes the same, with crypto/ecdh: " + sample(out.SharedSecret)
		}),
	call((*kms.Service).Encapsulate,
		func(*tour) *kms.EncapsulateInput {
			return &kms.EncapsulateInput{KeyId: "alias/letters", EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
		},
		func(t *tour, out *kms.EncapsulateOutput) string {
			t.letterKey, t.letter = out.SharedSecret, out.SharedSecretCiphertextBlob
			return "a secret, in a form that should outlast quantum computers: " + sample(out.SharedSecretCiphertextBlob)
		}),
	call((*kms.Service).Decapsulate,
		func(t *tour) *kms.DecapsulateInput {
			return &kms.DecapsulateInput{KeyId: "alias/letters", SharedSecretCiphertextBlob: t.letter, EncapsulationAlgorithm: kms.EncapsulationAlgorithmMLKEM}
		},
		func(t *tour, out *kms.DecapsulateOutput) string {
			t.require(bytes.Equal(out.SharedSecret, t.letterKey), "the encapsulated secret")
			return "and we read it: " + sample(out.SharedSecret)
		}),
}}, {"Staff: who may use a key", []step{
	call((*kms.Service).PutKeyPolicy,
		func(t *tour) *kms.PutKeyPolicyInput {
			return &kms.PutKeyPolicyInput{KeyId: t.key, Policy: `{"Version": "2012-10-17", "Statement": [{"Sid": "the shop", "Effect": "Allow",` +
				` "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}]}`}
		},
		func(*tour, *kms.PutKeyPolicyOutput) string { return "a policy of one statement" }),
	call((*kms.Service).GetKeyPolicy,
		func(t *tour) *kms.GetKeyPolicyInput { return &kms.GetKeyPolicyInput{KeyId: t.key} },
		func(t *tour, out *kms.GetKeyPolicyOutput) string {
			t.require(bytes.Contains([]byte(out.Policy), []byte("the shop")), "the policy")
			return fmt.Sprintf("the policy, %d bytes of JSON", len(out.Policy))
		}),
	call((*kms.Service).ListKeyPolicies,
		func(t *tour) *kms.ListKeyPoliciesInput { return &kms.ListKeyPoliciesInput{KeyId: t.key} },
		func(_ *tour, out *kms.ListKeyPoliciesOutput) string {
			return fmt.Sprintf("%q: a key has only this one", out.PolicyNames)
		}),
	call((*kms.Service).CreateGrant,
		func(t *tour) *kms.CreateGrantInput {
			return &kms.CreateGrantInput{KeyId: t.key, Name: "holidays", GranteePrincipal: clerk, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}}
		},
		func(t *tour, out *kms.CreateGrantOutput) string {
			t.grant = out.GrantId
			return "the clerk may encrypt: grant " + out.GrantId[:16] + "…"
		}),
	call((*kms.Service).ListGrants,
		func(t *tour) *kms.ListGrantsInput { return &kms.ListGrantsInput{KeyId: t.key} },
		func(_ *tour, out *kms.ListGrantsOutput) string {
			return fmt.Sprintf("%q for %v", out.Grants[0].Name, out.Grants[0].Operations)
		}),
	call((*kms.Service).RevokeGrant,
		func(t *tour) *kms.RevokeGrantInput { return &kms.RevokeGrantInput{KeyId: t.key, GrantId: t.grant} },
		func(*tour, *kms.RevokeGrantOutput) string { return "the holidays are over" }),
	call((*kms.Service).ListRetirableGrants,
		func(*tour) *kms.ListRetirableGrantsInput {
			return &kms.ListRetirableGrantsInput{RetiringPrincipal: auditor}
		},
		func(t *tour, out *kms.ListRetirableGrantsOutput) string {
			t.auditGrant = out.Grants[0].GrantId
			return fmt.Sprintf("the auditor may retire %q, which the archive had from the start", out.Grants[0].Name)
		}),
	call((*kms.Service).RetireGrant,
		func(t *tour) *kms.RetireGrantInput {
			return &kms.RetireGrantInput{KeyId: keys[0].ID, GrantId: t.auditGrant}
		},
		func(*tour, *kms.RetireGrantOutput) string { return "the audit is done" }),
}}, {"Moving in: a key from the old shop", []step{
	call((*kms.Service).GetParametersForImport,
		func(t *tour) *kms.GetParametersForImportInput {
			return &kms.GetParametersForImportInput{KeyId: t.vault, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048}
		},
		func(t *tour, out *kms.GetParametersForImportOutput) string {
			public, err := x509.ParsePKIXPublicKey(out.PublicKey)
			t.require(err == nil, "a public key")
			wrappingKey, ok := public.(*rsa.PublicKey)
			t.require(ok, "an RSA key")
			if !ok {
				return ""
			}
			material := make([]byte, 32)
			rand.Read(material)
			t.token = out.ImportToken
			t.wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, wrappingKey, material, nil)
			t.require(err == nil, "a wrapped key")
			return "the old key travels wrapped, with crypto/rsa: " + sample(t.wrapped)
		}),
	call((*kms.Service).ImportKeyMaterial,
		func(t *tour) *kms.ImportKeyMaterialInput {
			return &kms.ImportKeyMaterialInput{KeyId: t.vault, ImportToken: t.token, EncryptedKeyMaterial: t.wrapped, ValidTo: t.now.AddDate(0, 6, 0)}
		},
		func(_ *tour, out *kms.ImportKeyMaterialOutput) string {
			return "it works here for six months, as material " + out.KeyMaterialId[:8]
		}),
	call((*kms.Service).DeleteImportedKeyMaterial,
		func(t *tour) *kms.DeleteImportedKeyMaterialInput {
			return &kms.DeleteImportedKeyMaterialInput{KeyId: t.vault}
		},
		func(*tour, *kms.DeleteImportedKeyMaterialOutput) string {
			return "not needed today: it is erased, and the old shop has a copy"
		}),
}}, {"Abroad: the same key in another Region", []step{
	call((*kms.Service).ReplicateKey,
		func(*tour) *kms.ReplicateKeyInput {
			return &kms.ReplicateKeyInput{KeyId: worldwide, ReplicaRegion: "eu-central-1"}
		},
		func(_ *tour, out *kms.ReplicateKeyOutput) string {
			return fmt.Sprintf("%s in eu-central-1, with the same ID and key material", out.ReplicaKeyMetadata.KeyState)
		}),
	later(7, ""),
	call((*kms.Service).UpdatePrimaryRegion,
		func(*tour) *kms.UpdatePrimaryRegionInput {
			return &kms.UpdatePrimaryRegionInput{KeyId: worldwide, PrimaryRegion: "eu-central-1"}
		},
		func(*tour, *kms.UpdatePrimaryRegionOutput) string {
			return "the shop moves to Frankfurt, and the key is managed there"
		}),
}}, {"A year passes: rotation", []step{
	call((*kms.Service).EnableKeyRotation,
		func(t *tour) *kms.EnableKeyRotationInput {
			return &kms.EnableKeyRotationInput{KeyId: t.key, RotationPeriodInDays: new(int32(90))}
		},
		func(*tour, *kms.EnableKeyRotationOutput) string { return "new key material every 90 days" }),
	later(100, ""),
	call((*kms.Service).GetKeyRotationStatus,
		func(t *tour) *kms.GetKeyRotationStatusInput { return &kms.GetKeyRotationStatusInput{KeyId: t.key} },
		func(_ *tour, out *kms.GetKeyRotationStatusOutput) string {
			return "the next one is due on " + date(out.NextRotationDate)
		}),
	call((*kms.Service).RotateKeyOnDemand,
		func(t *tour) *kms.RotateKeyOnDemandInput { return &kms.RotateKeyOnDemandInput{KeyId: t.key} },
		func(*tour, *kms.RotateKeyOnDemandOutput) string { return "a lost laptop: another one, now" }),
	call((*kms.Service).ListKeyRotations,
		func(t *tour) *kms.ListKeyRotationsInput { return &kms.ListKeyRotationsInput{KeyId: t.key} },
		func(t *tour, out *kms.ListKeyRotationsOutput) string {
			t.require(len(out.Rotations) == 2, "two rotations")
			a, b := out.Rotations[0], out.Rotations[1]
			return fmt.Sprintf("%s on %s, %s on %s", a.RotationType, date(a.RotationDate), b.RotationType, date(b.RotationDate))
		}),
	call((*kms.Service).DisableKeyRotation,
		func(t *tour) *kms.DisableKeyRotationInput { return &kms.DisableKeyRotationInput{KeyId: t.key} },
		func(*tour, *kms.DisableKeyRotationOutput) string {
			return "that will do; old ciphertexts still decrypt"
		}),
	later(200, ""),
}}, {"Closing: the end of a key", []step{
	call((*kms.Service).GetKeyLastUsage,
		func(t *tour) *kms.GetKeyLastUsageInput { return &kms.GetKeyLastUsageInput{KeyId: t.key} },
		func(_ *tour, out *kms.GetKeyLastUsageOutput) string {
			return fmt.Sprintf("%s on %s: nobody needs it", out.KeyLastUsage.Operation, date(out.KeyLastUsage.Timestamp))
		}),
	call((*kms.Service).DisableKey,
		func(t *tour) *kms.DisableKeyInput { return &kms.DisableKeyInput{KeyId: t.key} },
		func(*tour, *kms.DisableKeyOutput) string { return "it works no more" }),
	call((*kms.Service).EnableKey,
		func(t *tour) *kms.EnableKeyInput { return &kms.EnableKeyInput{KeyId: t.key} },
		func(*tour, *kms.EnableKeyOutput) string { return "or does it? Alice asks for her invoices" }),
	call((*kms.Service).ScheduleKeyDeletion,
		func(t *tour) *kms.ScheduleKeyDeletionInput {
			return &kms.ScheduleKeyDeletionInput{KeyId: t.key, PendingWindowInDays: new(int32(7))}
		},
		func(_ *tour, out *kms.ScheduleKeyDeletionOutput) string {
			return fmt.Sprintf("%s until %s, then gone for good", out.KeyState, date(out.DeletionDate))
		}),
	later(6, ", and Alice calls again"),
	call((*kms.Service).CancelKeyDeletion,
		func(t *tour) *kms.CancelKeyDeletionInput { return &kms.CancelKeyDeletionInput{KeyId: t.key} },
		func(*tour, *kms.CancelKeyDeletionOutput) string { return "saved with a day to spare" }),
}}}

// sample describes bytes by their number and the last of them.
func sample(b []byte) string { return fmt.Sprintf("%d bytes, …%x", len(b), b[len(b)-4:]) }

func date(t time.Time) string { return t.Format("2 January 2006") }
