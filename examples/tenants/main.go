// Tenants is an application with one key, two tenants and an administrator. Each tries what it may
// do and what it may not:
//
//	go run ./examples/tenants
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pocketkms/kms"
)

//go:embed policy.json
var keyPolicy string

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tenants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()
	mayCreate := kms.Policy{Document: `{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}`}
	admin, err1 := session("admin/carol", kms.Identity{Policies: []kms.Policy{mayCreate}})
	blue, err2 := session("tenant/blue", kms.Identity{Tags: map[string]string{"tenant": "blue"}})
	red, err3 := session("tenant/red", kms.Identity{Tags: map[string]string{"tenant": "red"}})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	fmt.Fprintf(w, "The key policy:\n\n%s\n", keyPolicy)
	created, err := svc.As(admin).CreateKey(ctx, &kms.CreateKeyInput{Policy: keyPolicy})
	if err != nil {
		return err
	}
	key, ofBlue, ofRed := created.KeyMetadata.Arn, map[string]string{"tenant": "blue"}, map[string]string{"tenant": "red"}

	sealed, err := svc.As(blue).Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("a record"), EncryptionContext: ofBlue})
	if report(w, blue, "encrypts a record with tenant=blue", err); err != nil {
		return err
	}
	decrypt := func(who kms.Principal, of map[string]string) {
		_, err := svc.As(who).Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: of})
		report(w, who, "decrypts the record with tenant="+of["tenant"], err)
	}
	decrypt(blue, ofBlue)
	decrypt(red, ofBlue)
	decrypt(red, ofRed) // is allowed, but then the record does not open
	decrypt(admin, ofBlue)
	for _, who := range []kms.Principal{blue, admin} {
		_, err = svc.As(who).DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
		report(w, who, "disables the key", err)
	}
	why, err := svc.As(red).Explain(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: ofBlue})
	fmt.Fprintf(w, "\nWhy is the record closed to red?\n\n%s", why)
	return err
}

// session returns a session of a role, as a login would give it to the application.
func session(name string, id kms.Identity) (kms.Principal, error) {
	p, err := kms.ParsePrincipal("arn:aws:sts::111122223333:assumed-role/" + name)
	if err != nil {
		return kms.Principal{}, err
	}
	return p.WithIdentity(id)
}

// report prints what somebody did, and why it was refused.
func report(w io.Writer, who kms.Principal, did string, err error) {
	fmt.Fprintf(w, "%s %s: ", who, did)
	refused, ok := errors.AsType[*kms.Error](err)
	switch {
	case !ok:
		fmt.Fprintln(w, "done")
	case refused.Message == "": // as in AWS; the cause is for the program itself
		fmt.Fprintf(w, "%s\n    %v\n", refused.Code, errors.Unwrap(refused))
	default:
		fmt.Fprintf(w, "%s\n    %s\n", refused.Code, refused.Message)
	}
}
