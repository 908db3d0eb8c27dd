package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/keystore"
)

// A server keeps its keys in a file, sealed under a root key from another file, and records each
// call.
func ExampleOpen_server() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// Keep them apart in a real program: whoever has the root key and the store has all keys.
	store, rootKey, events := filepath.Join(dir, "my.keys"), filepath.Join(dir, "root.key"), filepath.Join(dir, "audit.jsonl")

	for range 2 { // the second start finds the key of the first
		err := withService(store, rootKey, events, func(svc *kms.Service) error {
			ctx := context.Background()
			if _, err := svc.EnsureKey(ctx, "alias/invoices", nil); err != nil {
				return err
			}
			keys, err := svc.ListKeys(ctx, nil)
			if err != nil {
				return err
			}
			fmt.Println("keys:", len(keys.Keys))
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	recorded, err := os.ReadFile(events)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("events:", bytes.Count(recorded, []byte("\n")))
	// Output:
	// keys: 1
	// keys: 1
	// events: 6
}

// withService calls use with a service, which it closes when use returns. It creates the root key
// together with the store.
func withService(store, rootKey, events string, use func(*kms.Service) error) (err error) {
	// If the store exists and the root key is missing, a new root key could not open the store:
	// restore a copy of the old one.
	if _, err := os.Stat(store); errors.Is(err, fs.ErrNotExist) {
		if err := keystore.CreateKeyFile(rootKey); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	file, err := audit.OpenFile(events)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	svc, err := kms.Open(store, keystore.KeyFile(rootKey), kms.Config{Audit: file})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	return use(svc)
}
