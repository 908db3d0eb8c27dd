package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pocketkms/kms/keystore"
)

const rekeySummary = `Seals a store under another root key, and all its records under a new seal key. Without a new root
key it only does the latter. --new-key-file is created if it does not exist. The old root key opens
older copies of the store and older backups, and nothing else: keep it as long as you keep those.

If it is interrupted, run it again: with the new root key as the root key if the old one is refused.`

// A rekeyReport is the result of kms rekey as JSON.
type rekeyReport struct {
	Store   string `json:"store"`
	RootKey string `json:"rootKey"`        // the name of the file with the root key from now on
	Created bool   `json:"createdKeyFile"` // whether kms rekey has created it
	Records int    `json:"records"`        // how many are sealed under the new seal key
}

// rekey changes the root key of a store and rotates its seal.
func (p *program) rekey(ctx context.Context, args []string) (err error) {
	var s storeFlag
	var next rootSource
	var keepSeal, asJSON bool
	flags := newFlags("kms rekey")
	s.define(flags, "the store in `FILE`, which no service may have open")
	s.defineWait(flags)
	next.define(flags, "new-", "new root")
	flags.BoolVar(&keepSeal, "keep-seal", false, "change only the root key, which takes the same time for every store. Whoever has an older\ncopy of the store and its root key can then read the store as it is now")
	defineJSON(flags, &asJSON)
	if err := p.parseFlags(flags, args, rekeySummary); err != nil {
		return err
	}
	if err := s.check("kms rekey"); err != nil {
		return err
	}
	if err := next.check("kms rekey", keepSeal); err != nil {
		return err
	}
	if s.root.passphraseFile == "-" && next.passphraseFile == "-" {
		return usageError("both passphrases cannot be standard input")
	}
	if err := s.requireExisting(); err != nil {
		return err
	}
	backend, root, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	store, err := keystore.OpenExisting(ctx, backend, root)
	if err != nil {
		return errors.Join(s.root.explain(s.store, err), backend.Close())
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	report := rekeyReport{Store: s.store, RootKey: s.root.file()}
	var unscrubbed error
	if next.isSet() {
		newRoot, err := next.rootKey(p)
		if err != nil {
			return err
		}
		// It stays even if the change fails: some failures leave open which root key is the right one.
		if report.Created, err = createMissingKeyFile(next.keyFile); err != nil {
			return fmt.Errorf("--new-key-file: %w", err)
		}
		err = scrubbed(func() error { return store.ChangeRootKey(ctx, newRoot) })
		if err != nil && !errors.Is(err, keystore.ErrNotScrubbed) {
			return fmt.Errorf("%v: %w", &next, err)
		}
		unscrubbed = err
		report.RootKey = next.file()
	}
	if !keepSeal {
		show, remove := p.progress("records sealed")
		err = scrubbed(func() error {
			return store.RotateSeal(ctx, func(n int) {
				report.Records = n
				show(n)
			})
		})
		remove()
		if err != nil && !errors.Is(err, keystore.ErrNotScrubbed) {
			return fmt.Errorf("%s is sealed under %s, but not all of its records are under the new seal key: run kms rekey again: %w",
				s.store, report.RootKey, err)
		}
		unscrubbed = err // the last header that was replaced is the one that matters
	}
	if unscrubbed != nil {
		return fmt.Errorf("%s is sealed under %s, but the old seal may still be readable on the disk: run kms rekey again: %w",
			s.store, report.RootKey, unscrubbed)
	}
	return p.report(asJSON, report, "%s: sealed under %s. Keep a copy of it in another place", s.store, report.RootKey)
}

// scrubbed calls change, and once more if what it has replaced could not be erased.
func scrubbed(change func() error) error {
	err := change()
	if errors.Is(err, keystore.ErrNotScrubbed) {
		err = change()
	}
	return err
}
