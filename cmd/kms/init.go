package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

const initSummary = `Creates a store and, if --key-file does not exist, a key file with a new root key. Without --store it
creates only the key file, which must not exist then. Keep a copy of the root key in another place:
without it the store is lost.`

// An initReport is the result of kms init as JSON.
type initReport struct {
	Store   string `json:"store,omitempty"`
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	RootKey string `json:"rootKey"`        // the name of its file
	Created bool   `json:"createdKeyFile"` // whether kms init has created it
}

// init creates a store and its root key.
func (p *program) init(ctx context.Context, args []string) (err error) {
	var s storeFlag
	var asJSON bool
	report := initReport{}
	flags := newFlags("kms init")
	s.define(flags, "create the store in `FILE`, which must not exist")
	flags.StringVar(&report.Account, "account", "111122223333", "the `ACCOUNT` of the store")
	flags.StringVar(&report.Region, "region", "us-east-1", "the `REGION` of the store")
	defineJSON(flags, &asJSON)
	if err := p.parseFlags(flags, args, initSummary); err != nil {
		return err
	}
	if s.store == "" && s.root.keyFile != "" && s.root.passphraseFile == "" {
		return p.initKeyFile(s.root.keyFile, asJSON)
	}
	if err := s.check("kms init"); err != nil {
		return err
	}
	if info, err := os.Stat(s.store); err == nil && info.Size() > 0 {
		return fmt.Errorf("--store: %s: %w", s.store, fs.ErrExist)
	}
	root, err := s.root.rootKey(p)
	if err != nil {
		return err
	}
	backend, err := s.openBackend(ctx)
	if err != nil {
		return err
	}
	owned := true // backend has to be closed here
	defer func() {
		if owned {
			err = errors.Join(err, backend.Close()) // which removes the file if nothing is in it
		}
	}()
	if records, err := backend.Scan(ctx, "", "", 1); err != nil {
		return err
	} else if len(records) > 0 { // since Stat
		return fmt.Errorf("--store: %s: %w", s.store, fs.ErrExist)
	}
	report.Store, report.RootKey = s.store, s.root.file()
	if report.Created, err = createMissingKeyFile(s.root.keyFile); err != nil {
		return fmt.Errorf("--key-file: %w", err)
	}
	svc, err := kms.New(kms.Config{
		Account: report.Account, Region: report.Region, Backend: backend, RootKey: root, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		if _, statErr := backend.Get(ctx, "\x00header"); report.Created && errors.Is(statErr, keystore.ErrNotFound) {
			_ = os.Remove(s.root.keyFile) // nothing is sealed under it
		}
		return err
	}
	owned = false
	if err := svc.Close(); err != nil {
		return err
	}
	return p.report(asJSON, report, "%s: created for account %s in %s. Keep a copy of %s in another place",
		report.Store, report.Account, report.Region, report.RootKey)
}

// initKeyFile creates a key file without a store.
func (p *program) initKeyFile(path string, asJSON bool) error {
	if err := keystore.CreateKeyFile(path); err != nil {
		return fmt.Errorf("--key-file: %w", err)
	}
	return p.report(asJSON, initReport{RootKey: path, Created: true}, "%s: a new root key. Keep a copy of it in another place", path)
}

// createMissingKeyFile creates a key file unless it exists or has no name, and reports whether it
// did.
func createMissingKeyFile(path string) (created bool, err error) {
	if path == "" {
		return false, nil
	}
	err = keystore.CreateKeyFile(path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}
