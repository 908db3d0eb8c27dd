package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
	"github.com/pocketkms/kms/keystore/memory"
)

const backupSummary = `Writes a backup of a store: of one that no service has open, or, by its --admin-socket, of one that
a service is using. The backup is sealed as the store is, so it takes no root key. It gets its name
when it is complete and has been read again.`

// A backupReport is the result of kms backup as JSON.
type backupReport struct {
	Backup  string `json:"backup"`
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`
}

// backup writes a backup of a store.
func (p *program) backup(ctx context.Context, args []string) error {
	var s storeFlag
	var socket, to string
	var asJSON bool
	flags := newFlags("kms backup")
	flags.StringVar(&s.store, "store", "", "back up the store in `FILE`, which no service may have open")
	s.defineWait(flags)
	flags.StringVar(&socket, "admin-socket", "", "back up the store of the kms serve with this --admin-socket `FILE`")
	flags.StringVar(&to, "to", "", "write the backup to `FILE`, which must not exist, or to standard output if it is -")
	defineJSON(flags, &asJSON)
	err := p.parseFlags(flags, args, backupSummary)
	switch {
	case err != nil:
		return err
	case s.store == "" && socket == "":
		return usageError("kms backup needs --store or --admin-socket")
	case s.store != "" && socket != "":
		return usageError("--store and --admin-socket exclude each other")
	case to == "":
		return usageError("kms backup needs --to")
	case to == "-" && asJSON:
		return usageError("--to - and --json both use standard output")
	}
	write := func(w io.Writer) error { return fetchBackup(ctx, socket, w) }
	if s.store != "" {
		write = func(w io.Writer) error { return s.backup(ctx, w) }
	}
	if to == "-" {
		return write(p.stdout)
	}
	report, err := writeBackup(ctx, to, write)
	if err != nil {
		return err
	}
	return p.report(asJSON, report, "%s: %d records, %d bytes", report.Backup, report.Records, report.Bytes)
}

// backup writes a backup of a store that nobody has open.
func (s *storeFlag) backup(ctx context.Context, w io.Writer) (err error) {
	if err := s.requireExisting(); err != nil {
		return err
	}
	backend, err := s.openBackend(ctx)
	if errors.Is(err, keystore.ErrLocked) {
		return fmt.Errorf("%w, or give kms serve an --admin-socket and kms backup the same", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	return backend.Backup(ctx, w)
}

// writeBackup writes a backup to a temporary file, reads it again, and gives it its name. On any
// failure it leaves no file.
func writeBackup(ctx context.Context, to string, write func(io.Writer) error) (_ *backupReport, err error) {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s: %w", to, fs.ErrExist)
		}
		return nil, fmt.Errorf("--to: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".new*") // of mode 0600
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	report := &backupReport{Backup: to}
	if report.Bytes, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if report.Records, err = keystore.VerifyBackup(ctx, f); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return nil, err
	}
	return report, securefile.SyncDir(filepath.Dir(to))
}

// openBackup opens a backup to read.
func (p *program) openBackup(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(p.stdin), nil
	}
	return os.Open(name)
}

// checkBackup checks a backup, and with a root key its records.
func (p *program) checkBackup(ctx context.Context, name string, source *rootSource, asJSON bool) error {
	if name == "-" && source.passphraseFile == "-" {
		return usageError("the backup and the passphrase cannot both be standard input")
	}
	r, err := p.openBackup(name)
	if err != nil {
		return fmt.Errorf("--backup: %w", err)
	}
	defer r.Close()
	if !source.isSet() {
		n, err := keystore.VerifyBackup(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		report := &checkReport{Store: name, Records: n, Faults: []string{}}
		return p.report(asJSON, report, "%s: %d records, complete and unchanged; with a root key they would be checked, too", name, n)
	}
	root, err := source.rootKey(p)
	if err != nil {
		return err
	}
	backend := memory.New()
	if err := keystore.Restore(ctx, backend, r, nil); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	report, err := p.checkRecords(ctx, name, backend, root, source, asJSON)
	if err = errors.Join(err, backend.Close()); err != nil {
		return err
	}
	return p.reportCheck(report, asJSON)
}

const restoreSummary = `Makes a store of a backup. The backup is read to its end, opened under the root key and checked as
kms check does, in a file beside the store, before that takes the place of the store. If anything
fails, or the program is killed, the store is what it was before.`

// A restoreReport is the result of kms restore as JSON.
type restoreReport struct {
	Store   string   `json:"store"`
	Backup  string   `json:"backup"`
	Records int      `json:"records"`
	Faults  []string `json:"faults"`
}

// restore makes a store of a backup.
func (p *program) restore(ctx context.Context, args []string) error {
	var s storeFlag
	var from string
	var replace, withFaults, asJSON bool
	flags := newFlags("kms restore")
	flags.StringVar(&from, "from", "", "the backup in `FILE`, or - for standard input")
	s.define(flags, "restore to the store in `FILE`")
	flags.BoolVar(&replace, "replace", false, "replace a store that exists, which no service may have open. It is lost")
	flags.BoolVar(&withFaults, "with-faults", false, "restore even if the check finds faults, which are printed")
	defineJSON(flags, &asJSON)
	if err := p.parseFlags(flags, args, restoreSummary); err != nil {
		return err
	}
	if err := s.check("kms restore"); err != nil {
		return err
	}
	switch {
	case from == "":
		return usageError("kms restore needs --from")
	case from == "-" && s.root.passphraseFile == "-":
		return usageError("the backup and the passphrase cannot both be standard input")
	}
	r, err := p.openBackup(from)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer r.Close()
	root, err := s.root.rootKey(p)
	if err != nil {
		return err
	}
	report := &restoreReport{Store: s.store, Backup: from}
	err = bolt.Replace(ctx, s.store, func(temporary string) error {
		if info, err := os.Stat(s.store); err != nil {
			return err
		} else if info.Size() > 0 && !replace {
			return fmt.Errorf("--store: %s: %w: --replace replaces it", s.store, fs.ErrExist)
		}
		checked, err := p.restoreTo(ctx, temporary, from, r, root, &s.root, asJSON)
		if err != nil {
			return err
		}
		report.Records, report.Faults = checked.Records, checked.Faults
		if len(checked.Faults) > 0 && !withFaults {
			return fmt.Errorf("%w: the store is not replaced: --with-faults accepts them", checked.failure())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.report(asJSON, report, "%s: restored %d records, %d faults", s.store, report.Records, len(report.Faults))
}

// restoreTo fills the file temporary with the backup name, and checks it.
func (p *program) restoreTo(ctx context.Context, temporary, name string, r io.Reader, root keystore.RootKey, source *rootSource, asJSON bool) (_ *checkReport, err error) {
	backend, err := bolt.Open(temporary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	show, remove := p.progress("records restored")
	defer remove()
	if err := keystore.Restore(ctx, backend, r, show); err != nil {
		return nil, fmt.Errorf("--from: %s: %w", name, err)
	}
	remove()
	return p.checkRecords(ctx, name, backend, root, source, asJSON)
}
