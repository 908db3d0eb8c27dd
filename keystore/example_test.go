package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// After the change the old root key no longer opens the store. RotateSeal also replaces the seal
// keys, in case somebody has a copy of the old store and its root key.
func ExampleStore_ChangeRootKey() {
	ctx := context.Background()
	before, after := keystore.Ephemeral(), keystore.Ephemeral() // in a program: a passphrase, a key file, another KMS
	backend := memory.New()
	store, err := keystore.Open(ctx, backend, before)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	if err := store.ChangeRootKey(ctx, after); err != nil {
		log.Fatal(err)
	}
	if err := store.RotateSeal(ctx, nil); err != nil {
		log.Fatal(err)
	}

	_, err = keystore.Open(ctx, backend, before)
	fmt.Println(errors.Is(err, keystore.ErrRootKey))
	_, err = keystore.Open(ctx, backend, after)
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
