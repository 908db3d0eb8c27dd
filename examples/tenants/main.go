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
	"log"

	"github.com/pocketkms/kms"
)

//go:embed policy.json
var keyPolicy string

const mayCreate = `{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}`

func main() {
	ctx, svc := context.Background(), must(kms.New(kms.Config{}))
	defer svc.Close()
	login := func(session string, id kms.Identity) *kms.Service { // id is what a login finds out
		return svc.As(must(kms.NewPrincipal("arn:aws:sts::111122223333:assumed-role/"+session, id)))
	}
	carol := login("admin/carol", kms.Identity{Policies: []kms.Policy{{Document: mayCreate}}})
	blue := login("tenant/blue", kms.Identity{Tags: map[string]string{"tenant": "blue"}})
	red := login("tenant/red", kms.Identity{Tags: map[string]string{"tenant": "red"}})

	fmt.Printf("The key policy:\n\n%s\n", keyPolicy)
	key := must(carol.CreateKey(ctx, &kms.CreateKeyInput{Policy: keyPolicy})).KeyMetadata.Arn
	ofBlue, ofRed := map[string]string{"tenant": "blue"}, map[string]string{"tenant": "red"}
	record := must(blue.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("a record"), EncryptionContext: ofBlue})).CiphertextBlob
	fmt.Println("tenant/blue has encrypted a record with tenant=blue")
	asBlues := &kms.DecryptInput{KeyId: key, CiphertextBlob: record, EncryptionContext: ofBlue}
	asReds := &kms.DecryptInput{KeyId: key, CiphertextBlob: record, EncryptionContext: ofRed}
	fmt.Println("tenant/blue decrypts it with tenant=blue:", result(blue.Decrypt(ctx, asBlues)))
	fmt.Println("tenant/red decrypts it with tenant=blue:", result(red.Decrypt(ctx, asBlues)))
	fmt.Println("tenant/red decrypts it with tenant=red:", result(red.Decrypt(ctx, asReds)))
	fmt.Println("admin/carol decrypts it with tenant=blue:", result(carol.Decrypt(ctx, asBlues)))
	fmt.Println("tenant/blue disables the key:", result(blue.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})))
	fmt.Println("admin/carol disables the key:", result(carol.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})))
	fmt.Printf("\nWhy is the record closed to red?\n\n%s", must(red.Explain(ctx, asBlues)))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func result(_ any, err error) string {
	if err == nil {
		return "done"
	}
	return errors.Join(err, errors.Unwrap(err)).Error() // the cause is for the program itself
}
