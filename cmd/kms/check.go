package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// check checks a store that no service has open, and changes nothing in it. It prints each fault on
// standard output, and its progress on standard error if that is a terminal.
func (p *program) check(ctx context.Context, args []string) (err error) {
	var s settings
	flags := flag.NewFlagSet("kms check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.store, "store", "", "check the store in `FILE`, which no service may have open")
	flags.StringVar(&s.passphraseFile, "passphrase-file", "", "`FILE` with the passphrase of the store, or - for standard input; mode 0600 or less")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(p.stdout)
		printFlags(flags, "kms check", "Prints each fault of the store on standard output. Exits with status 0 if there are no faults.")
		return nil
	case err != nil:
		return usageError(err.Error() + ": kms check -h lists the flags")
	case flags.NArg() > 0:
		return usageError(fmt.Sprintf("kms check takes only flags, not %.40q", flags.Arg(0)))
	case s.store == "" || s.passphraseFile == "":
		return usageError("kms check needs --store and --passphrase-file")
	}
	if info, err := os.Stat(s.store); err != nil { // to open it would create it
		return fmt.Errorf("--store: %w", err)
	} else if info.Size() == 0 {
		return fmt.Errorf("--store: %s is empty", s.store)
	}
	backend, root, err := p.openStore(&s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()

	checked, faults := 0, 0
	progress := func(records int) {
		checked = records
		if p.terminal && records%1000 == 0 {
			fmt.Fprintf(p.stderr, "\r%d records checked", records)
		}
	}
	for fault := range kms.CheckStore(ctx, kms.Config{Backend: backend, RootKey: root}, progress) {
		if errors.Is(fault, keystore.ErrRootKey) {
			return wrongPassphrase(s.store, fault)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.terminal {
			fmt.Fprint(p.stderr, "\r")
		}
		faults++
		fmt.Fprintln(p.stdout, fault)
	}
	if p.terminal {
		fmt.Fprint(p.stderr, "\r")
	}
	if faults > 0 {
		return fmt.Errorf("%s: %d faults in %d records", s.store, faults, checked)
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %d records, no faults\n", s.store, checked)
	return err
}
