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
	"github.com/pocketkms/kms/keystore/bolt"
)

// A server keeps its keys in a file, under a root key from another one, and records each call.
func ExampleNew_server() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// All in one directory is good for an example only: who gets root key and store has all keys.
	store, rootKey, events := filepath.Join(dir, "my.keys"), filepath.Join(dir, "root.key"), filepath.Join(dir, "audit.jsonl")

	for range 2 { // the second start finds the keys of the first
		err := withService(store, rootKey, events, func(svc *kms.Service) error {
			ctx := context.Background()
			if _, err := svc.CreateKey(ctx, nil); err != nil {
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
	// keys: 2
	// events: 4
}

// withService opens the store, makes it and the root key if there is no store yet, and closes all when use is done.
func withService(store, rootKey, events string, use func(*kms.Service) error) (err error) {
	// A root key that is lost is not made anew: it could not open the store, and would stand in the way of the copy.
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

	backend, err := bolt.Open(store)
	if err != nil {
		return err
	}
	svc, err := kms.New(kms.Config{Backend: backend, RootKey: keystore.KeyFile(rootKey), Audit: file})
	if err != nil {
		return errors.Join(err, backend.Close()) // which New closes on success only, with the service
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	return use(svc)
}
