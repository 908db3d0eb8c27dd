package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

const encryptSummary = `Encrypts a file, standard input or all files of a directory, each with a data key of its own, which a
key of the store encrypts. The files have the format of the AWS Encryption SDK. Of a directory, the
encryption context of each file also has its path, as the value of "path", and its name gets the
ending .encrypted. A file gets its name when it is complete; none is replaced without --force.`

const decryptSummary = `Decrypts what kms encrypt or another implementation of the AWS Encryption SDK encrypted under keys of
the store. A file gets its name when all of it has been verified; none is replaced without --force.
Standard output gets each part when that has been verified: only exit status 0 says that it was all.`

// encryptedSuffix is what the command of the AWS Encryption SDK appends, too.
const encryptedSuffix = ".encrypted"

// pathPair is the pair of the encryption context that binds a file of a directory to its place.
const pathPair = "path"

// fileSettings are the flags of kms encrypt and kms decrypt.
type fileSettings struct {
	storeFlag
	key     string
	context pairs
	in, out string
	force   bool
	asJSON  bool
}

func (s *fileSettings) defineAll(flags *flag.FlagSet, verb string) {
	s.define(flags, "use the keys of the store in `FILE`, which no service may have open")
	s.defineWait(flags)
	flags.Var(&s.context, "context", "a `KEY=VALUE` of the encryption context; may be repeated")
	flags.StringVar(&s.in, "in", "", verb+" `FILE`, all files of a directory, or standard input if it is -")
	flags.StringVar(&s.out, "out", "", "write to `FILE`, to a directory, or to standard output if it is -")
	flags.BoolVar(&s.force, "force", false, "replace files that exist")
	defineJSON(flags, &s.asJSON)
}

func (s *fileSettings) check(command string) error {
	if err := s.storeFlag.check(command); err != nil {
		return err
	}
	switch {
	case s.in == "":
		return usageError(command + " needs --in")
	case s.out == "":
		return usageError(command + " needs --out")
	case s.in == "-" && s.root.passphraseFile == "-":
		return usageError("--in and the passphrase cannot both be standard input")
	case s.out == "-" && s.asJSON:
		return usageError("--out - and --json both use standard output")
	}
	return nil
}

// encrypt encrypts files under a key of a store.
func (p *program) encrypt(ctx context.Context, args []string) error {
	var s fileSettings
	var create bool
	flags := newFlags("kms encrypt")
	flags.StringVar(&s.key, "key", "", "the `KEY` that encrypts data keys: a key ID, key ARN, alias name or alias ARN")
	flags.BoolVar(&create, "create-key", false, "if no key has the alias that --key names, create one")
	s.defineAll(flags, "encrypt")
	if err := p.parseFlags(flags, args, encryptSummary); err != nil {
		return err
	}
	if s.key == "" {
		return usageError("kms encrypt needs --key")
	}
	if err := s.check("kms encrypt"); err != nil {
		return err
	}
	return p.convert(ctx, &s, func(svc *kms.Service) (*conversion, error) {
		if create {
			if _, err := svc.EnsureKey(ctx, s.key, nil); err != nil {
				return nil, err
			}
		}
		e, err := envelope.NewEncrypter(envelope.KMSKey(svc, s.key), envelope.EncrypterOptions{})
		if err != nil {
			return nil, err
		}
		return &conversion{
			rename: func(path string) (string, error) { return path + encryptedSuffix, nil },
			bound:  func(path string) string { return path },
			copy: func(ctx context.Context, dst io.Writer, src io.Reader, pairs map[string]string) error {
				w, err := e.NewWriter(ctx, dst, pairs)
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, src); err != nil {
					return err
				}
				return w.Close()
			},
		}, nil
	})
}

// decrypt decrypts files with keys of a store.
func (p *program) decrypt(ctx context.Context, args []string) error {
	var s fileSettings
	flags := newFlags("kms decrypt")
	flags.StringVar(&s.key, "key", "", "accept only messages under this `KEY`; without, under any key of the store")
	s.defineAll(flags, "decrypt")
	if err := p.parseFlags(flags, args, decryptSummary); err != nil {
		return err
	}
	if err := s.check("kms decrypt"); err != nil {
		return err
	}
	return p.convert(ctx, &s, func(svc *kms.Service) (*conversion, error) {
		keyring := envelope.KMSDiscovery(svc, envelope.DiscoveryFilter{})
		if s.key != "" {
			keyring = envelope.KMSKey(svc, s.key)
		}
		// What is written to standard output cannot be taken back if a signature at its end is wrong.
		d, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{UnsignedOnly: s.out == "-"})
		if err != nil {
			return nil, err
		}
		return &conversion{
			rename: withoutSuffix,
			bound:  func(path string) string { return strings.TrimSuffix(path, encryptedSuffix) },
			copy: func(ctx context.Context, dst io.Writer, src io.Reader, pairs map[string]string) error {
				r, err := d.NewReader(ctx, src, pairs)
				if errors.Is(err, envelope.ErrSigned) {
					return fmt.Errorf("%w: write to a file", err)
				}
				if err != nil {
					return err
				}
				_, err = io.Copy(dst, r)
				return err
			},
		}, nil
	})
}

// withoutSuffix returns the path of what an encrypted file of a directory holds.
func withoutSuffix(name string) (string, error) {
	base, ok := strings.CutSuffix(name, encryptedSuffix)
	if !ok || base == "" || strings.HasSuffix(base, "/") {
		return "", fmt.Errorf("its name is not another one followed by %s", encryptedSuffix)
	}
	return base, nil
}

// convert opens the service and converts what the flags name.
func (p *program) convert(ctx context.Context, s *fileSettings, prepare func(*kms.Service) (*conversion, error)) (err error) {
	if err := s.requireExisting(); err != nil {
		return err
	}
	files, err := s.list()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	backend, root, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	svc, err := kms.New(kms.Config{Backend: backend, RootKey: root, MustExist: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return errors.Join(s.root.explain(s.store, err), backend.Close())
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	c, err := prepare(svc)
	if err != nil {
		return err
	}
	return p.convertFiles(ctx, s, c, files)
}
