package kms_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// Alice may decrypt for tenant 7 only. Why is she refused?
func ExampleService_Explain() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	alice, err := kms.ParsePrincipal("arn:aws:iam::111122223333:user/alice")
	if err != nil {
		log.Fatal(err)
	}
	alice, err = alice.WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: `{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "TenantSeven",
    "Effect": "Allow",
    "Action": "kms:Decrypt",
    "Resource": "*",
    "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "7"}}
  }]
}`}}})
	if err != nil {
		log.Fatal(err)
	}
	e, err := svc.As(alice).Explain(ctx, &kms.DecryptInput{
		KeyId: key.KeyMetadata.KeyId, EncryptionContext: map[string]string{"tenant": "8"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Verdict, e.Reason)
	fmt.Print(strings.ReplaceAll(e.String(), key.KeyMetadata.KeyId, "KEY-ID"))
	// Output:
	// implicitDeny no-identity-allow
	// arn:aws:iam::111122223333:user/alice may not call Decrypt: no identity-based policy of the caller allows it
	//
	// kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/KEY-ID: implicit deny
	//    explicit deny         no statement denies
	//    key policy            it does not name the caller itself
	//    delegation            the key policy leaves it to account 111122223333
	//       key policy statement 0 "Enable IAM User Permissions" at 4:19 (Allow): applies
	// -> identity policies     the policy of the caller does not allow
	//       identity-based policy 0 statement 0 "TenantSeven" at 3:17 (Allow): StringEquals kms:EncryptionContext:tenant: expected "7", seen "8"
	//    permissions boundary  the caller has none
	//    session policies      the caller has none
	//    grants                no grant names the caller
}

// Who can decrypt with a key, and what cannot be known?
func ExampleService_WhoCan() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	grant, err := svc.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId: key.KeyMetadata.KeyId, GranteePrincipal: "arn:aws:iam::111122223333:role/reports", Name: "monthly",
		Operations:  []kms.GrantOperation{kms.GrantOperationDecrypt},
		Constraints: &kms.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "7"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	report, err := svc.WhoCan(ctx, key.KeyMetadata.KeyId, "Decrypt")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.NewReplacer(key.KeyMetadata.KeyId, "KEY-ID", grant.GrantId, "GRANT-ID").Replace(report.String()))
	// Output:
	// kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/KEY-ID
	//
	// Allowed:
	//   account 111122223333: its root, and whom its policies allow
	//       statement 0 "Enable IAM User Permissions" at 4:19 of key policy
	//   arn:aws:iam::111122223333:role/reports
	//       grant "monthly" (GRANT-ID)
	//       if EncryptionContextSubset kms:EncryptionContext:tenant: "7"
	//
	// Not known:
	//   Account 111122223333 can allow its principals by identity-based policies, which are not known.
	//   Identity-based policies, permissions boundaries and session policies of principals can deny what is allowed here.
}

// What would a new key policy change?
func ExampleService_DiffKeyPolicy() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	diff, err := svc.DiffKeyPolicy(ctx, key.KeyMetadata.KeyId, `{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Principal": {"AWS": "111122223333"},
    "NotAction": "kms:ScheduleKeyDeletion",
    "Resource": "*"
  }, {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::444455556666:role/reader"},
    "Action": "kms:Decrypt",
    "Resource": "*",
    "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "7"}}
  }]
}`)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(diff)
	// Output:
	// arn:aws:iam::444455556666:role/reader gains
	//     kms:Decrypt
	//     if StringEquals kms:EncryptionContext:tenant: "7"
	// account 111122223333 loses
	//     kms:ScheduleKeyDeletion
}

// From the calls of a program, the policy that it needs.
func ExamplePolicyFromEvents() {
	var events []*audit.Event
	svc, err := kms.New(kms.Config{
		Authorization: kms.Observe, // the program has no permission yet
		Logger:        slog.New(slog.DiscardHandler),
		Audit: audit.SinkFunc(func(_ context.Context, e *audit.Event) error {
			events = append(events, e)
			return nil
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	app, err := kms.ParsePrincipal("arn:aws:sts::111122223333:assumed-role/app/session-1")
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range []string{"1", "2"} {
		if _, err := svc.As(app).Encrypt(ctx, &kms.EncryptInput{
			KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x"), EncryptionContext: map[string]string{"tenant": "7", "row": row},
		}); err != nil {
			log.Fatal(err)
		}
	}

	policy, err := kms.PolicyFromEvents(key.KeyMetadata.Arn, slices.Values(events), kms.PolicyOptions{EncryptionContext: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy)
	// Output:
	// {
	//   "Version" : "2012-10-17",
	//   "Statement" : [ {
	//     "Sid" : "Used1",
	//     "Effect" : "Allow",
	//     "Principal" : {
	//       "AWS" : [ "arn:aws:iam::111122223333:role/app" ]
	//     },
	//     "Action" : [ "kms:Encrypt" ],
	//     "Resource" : "*",
	//     "Condition" : {
	//       "Null" : {
	//         "kms:EncryptionContext:row" : "false"
	//       },
	//       "StringEquals" : {
	//         "kms:EncryptionContext:tenant" : "7"
	//       }
	//     }
	//   } ]
	// }
}
