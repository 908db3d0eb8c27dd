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
	"log"
	"os"

	"github.com/pocketkms/kms"
)

//go:embed policy.json
var keyPolicy string

const mayCreate = `{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}`

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, w io.Writer) error {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()
	as := map[string]*kms.Service{}
	for name, id := range map[string]kms.Identity{ // as a login would give them to the application
		"admin/carol": {Policies: []kms.Policy{{Document: mayCreate}}},
		"tenant/blue": {Tags: map[string]string{"tenant": "blue"}},
		"tenant/red":  {Tags: map[string]string{"tenant": "red"}},
	} {
		p, err := kms.NewPrincipal("arn:aws:sts::111122223333:assumed-role/"+name, id)
		if err != nil {
			return err
		}
		as[name] = svc.As(p)
	}
	fmt.Fprintf(w, "The key policy:\n\n%s\n", keyPolicy)
	created, err := as["admin/carol"].CreateKey(ctx, &kms.CreateKeyInput{Policy: keyPolicy})
	if err != nil {
		return err
	}
	key, of := created.KeyMetadata.Arn, func(tenant string) map[string]string { return map[string]string{"tenant": tenant} }
	report := func(who, did string, err error) {
		result := "done"
		if err != nil {
			result = errors.Join(err, errors.Unwrap(err)).Error() // the cause is for the program itself
		}
		fmt.Fprintf(w, "%s %s: %s\n", who, did, result)
	}
	sealed, err := as["tenant/blue"].Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("a record"), EncryptionContext: of("blue")})
	if report("tenant/blue", "encrypts a record with tenant=blue", err); err != nil {
		return err
	}
	// Red may decrypt as red, but then the record does not open.
	for _, try := range [][2]string{{"tenant/blue", "blue"}, {"tenant/red", "blue"}, {"tenant/red", "red"}, {"admin/carol", "blue"}} {
		_, err := as[try[0]].Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: of(try[1])})
		report(try[0], "decrypts the record with tenant="+try[1], err)
	}
	for _, who := range []string{"tenant/blue", "admin/carol"} {
		_, err = as[who].DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
		report(who, "disables the key", err)
	}
	why, err := as["tenant/red"].Explain(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: of("blue")})
	fmt.Fprintf(w, "\nWhy is the record closed to red?\n\n%s", why)
	return err
}
