package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

// newFlags returns an empty set of flags of a command.
func newFlags(command string) *flag.FlagSet {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parseFlags parses the command line of any command. If help is requested, it prints the summary
// and the flags and returns flag.ErrHelp. A mistake is a usageError.
func (p *program) parseFlags(flags *flag.FlagSet, args []string, summary string) error {
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(p.stdout)
		printFlags(flags, flags.Name(), summary)
		return err
	case err != nil:
		return usageError(err.Error() + ": " + flags.Name() + " -h lists the flags")
	case flags.NArg() > 0:
		return usageError(fmt.Sprintf("%s takes only flags, not %.40q", flags.Name(), flags.Arg(0)))
	}
	// --store "$STORE" with STORE unset must not start a service that forgets its keys.
	var empty error
	flags.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" && f.DefValue == "" && empty == nil {
			empty = usageError("--" + f.Name + " is empty")
		}
	})
	return empty
}

func printFlags(flags *flag.FlagSet, command, summary string) {
	w := flags.Output()
	fmt.Fprintf(w, "usage: %s [flags]\n\n%s\n\n", command, summary)
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintln(w, strings.TrimRight("  --"+f.Name+" "+value, " "))
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(w, "        %s\n", line)
		}
	})
}

// A rootSource is where a root key comes from. Secrets are never arguments: every user of a machine
// can read those.
type rootSource struct {
	keyFile, passphraseFile string
	prefix                  string // of its flags
}

func (r *rootSource) define(flags *flag.FlagSet, prefix, what string) {
	r.prefix = prefix
	flags.StringVar(&r.keyFile, prefix+"key-file", "", "`FILE` with the "+what+" key; mode 0600 or less")
	flags.StringVar(&r.passphraseFile, prefix+"passphrase-file", "", "`FILE` with a passphrase as the "+what+" key, or - for standard input; mode 0600 or less")
}

func (r *rootSource) isSet() bool { return r.keyFile != "" || r.passphraseFile != "" }

// check returns a usageError if there are two root keys or, if one is needed, none.
func (r *rootSource) check(command string, needed bool) error {
	keyFile, passphraseFile := "--"+r.prefix+"key-file", "--"+r.prefix+"passphrase-file"
	switch {
	case r.keyFile != "" && r.passphraseFile != "":
		return usageError(keyFile + " and " + passphraseFile + " exclude each other")
	case needed && !r.isSet():
		return usageError(command + " needs " + keyFile + " or " + passphraseFile)
	}
	return nil
}

// String returns the flag that was given.
func (r *rootSource) String() string {
	if r.keyFile != "" {
		return "--" + r.prefix + "key-file"
	}
	return "--" + r.prefix + "passphrase-file"
}

// file returns the name of the file.
func (r *rootSource) file() string { return r.keyFile + r.passphraseFile }

// rootKey returns the root key. Whether a key file can be used shows when it is.
func (r *rootSource) rootKey(p *program) (keystore.RootKey, error) {
	if r.keyFile != "" {
		return keystore.KeyFile(r.keyFile), nil
	}
	var passphrase []byte
	var err error
	if r.passphraseFile == "-" {
		passphrase, err = securefile.Read(p.stdin, "standard input", maxPassphraseBytes)
	} else {
		passphrase, err = securefile.ReadPrivate(r.passphraseFile, maxPassphraseBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", r, err)
	}
	defer secret.Clear(passphrase)
	passphrase = bytes.TrimSuffix(passphrase, []byte("\n")) // added by editors and echo
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("%v: %s is empty", r, r.passphraseFile)
	}
	return keystore.Passphrase(passphrase), nil
}

// explain returns an error of a store as the user of the flags understands it. Of a wrong root key,
// the text of the store only adds the kind of root key, if that is another.
func (r *rootSource) explain(store string, err error) error {
	if !errors.Is(err, keystore.ErrRootKey) || store == "" {
		return err
	}
	text := "--" + r.prefix + "passphrase-file: not the passphrase of " + store
	if r.keyFile != "" {
		text = "--" + r.prefix + "key-file: not the root key of " + store
	}
	if _, detail, ok := strings.Cut(err.Error(), keystore.ErrRootKey.Error()+": "); ok {
		text += ": " + detail
	}
	return errors.New(text)
}

// A storeFlag says which store a command is about, and how to open it.
type storeFlag struct {
	store string
	root  rootSource
	wait  time.Duration
}

func (s *storeFlag) define(flags *flag.FlagSet, text string) {
	flags.StringVar(&s.store, "store", "", text)
	s.root.define(flags, "", "root")
}

func (s *storeFlag) defineWait(flags *flag.FlagSet) {
	flags.DurationVar(&s.wait, "wait", 0, "wait up to `DURATION`, such as 30s, for a store that another process has open")
}

// check returns a usageError if something is missing.
func (s *storeFlag) check(command string) error {
	if s.store == "" {
		return usageError(command + " needs --store")
	}
	return s.root.check(command, true)
}

// requireExisting returns an error if there is no store: to open it would create it.
func (s *storeFlag) requireExisting() error {
	if info, err := os.Stat(s.store); err != nil {
		return fmt.Errorf("--store: %w", err)
	} else if info.Size() == 0 {
		return fmt.Errorf("--store: %s is empty", s.store)
	}
	return nil
}

// openBackend opens the file, or creates it.
func (s *storeFlag) openBackend(ctx context.Context) (*bolt.Backend, error) {
	var backend *bolt.Backend
	var err error
	if s.wait > 0 {
		bounded, cancel := context.WithTimeoutCause(ctx, s.wait, keystore.ErrLocked)
		defer cancel()
		backend, err = bolt.OpenContext(bounded, s.store)
	} else {
		backend, err = bolt.Open(s.store)
	}
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return backend, nil
}

// open opens the file, or creates it, and returns it with its root key.
func (s *storeFlag) open(ctx context.Context, p *program) (*bolt.Backend, keystore.RootKey, error) {
	root, err := s.root.rootKey(p)
	if err != nil {
		return nil, nil, err
	}
	backend, err := s.openBackend(ctx)
	if err != nil {
		return nil, nil, err
	}
	return backend, root, nil
}

// defineJSON defines the flag of commands that scripts read.
func defineJSON(flags *flag.FlagSet, asJSON *bool) {
	flags.BoolVar(asJSON, "json", false, "print JSON")
}

// report prints the result of a command: a line of text, or one JSON object.
func (p *program) report(asJSON bool, object any, format string, arguments ...any) error {
	text := fmt.Sprintf(format, arguments...) + "\n"
	if asJSON {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(object); err != nil {
			return err
		}
		text = b.String()
	}
	_, err := io.WriteString(p.stdout, text)
	return err
}

// progress returns a function that shows a growing number, and one that removes it. On anything but
// a terminal they do nothing.
func (p *program) progress(what string) (show func(n int), remove func()) {
	if !p.terminal {
		return func(int) {}, func() {}
	}
	const eraseLine = "\r\x1b[K"
	shown := false
	return func(n int) {
			if n%1000 == 0 {
				fmt.Fprintf(p.stderr, eraseLine+"%d %s", n, what)
				shown = true
			}
		}, func() {
			if shown {
				fmt.Fprint(p.stderr, eraseLine)
				shown = false
			}
		}
}
