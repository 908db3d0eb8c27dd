package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

// A checkReport is the result of kms check as JSON.
type checkReport struct {
	Store   string   `json:"store"`
	Records int      `json:"records"`
	Faults  []string `json:"faults"`
}

// check checks a store that no service has open, and changes nothing in it.
func (p *program) check(ctx context.Context, args []string) (err error) {
	var s storeFlag
	var backup string
	var asJSON bool
	flags := newFlags("kms check")
	s.define(flags, "check the store in `FILE`, which no service may have open")
	s.defineWait(flags)
	flags.StringVar(&backup, "backup", "", "instead of a store, check that the backup in `FILE` is complete and unchanged; with a\nroot key, check its records, too, which takes memory for all of them")
	defineJSON(flags, &asJSON)
	err = p.parseFlags(flags, args, "Prints each fault of a store or a backup on standard output. Exits with status 0 if there are none.")
	switch {
	case err != nil:
		return err
	case s.store != "" && backup != "":
		return usageError("--store and --backup exclude each other")
	case backup != "":
		if err := s.root.check("kms check", false); err != nil {
			return err
		}
		return p.checkBackup(ctx, backup, &s.root, asJSON)
	}
	if err := s.check("kms check"); err != nil {
		return err
	}
	if err := s.requireExisting(); err != nil {
		return err
	}
	backend, root, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	checked, err := p.checkRecords(ctx, s.store, backend, root, &s.root, asJSON)
	if err != nil {
		return err
	}
	return p.reportCheck(checked, asJSON)
}

// checkRecords checks the records of a backend, and prints each fault unless the report is JSON.
func (p *program) checkRecords(ctx context.Context, name string, backend keystore.Backend, root keystore.RootKey, source *rootSource, asJSON bool) (*checkReport, error) {
	report := &checkReport{Store: name, Faults: []string{}}
	show, remove := p.progress("records checked")
	defer remove()
	count := func(n int) {
		report.Records = n
		show(n)
	}
	for fault := range kms.CheckStore(ctx, kms.Config{Backend: backend, RootKey: root}, count) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(fault, keystore.ErrRootKey) || errors.Is(fault, keystore.ErrPermissions) || errors.Is(fault, os.ErrNotExist) {
			return nil, source.explain(name, fault)
		}
		report.Faults = append(report.Faults, fault.Error())
		if !asJSON {
			remove()
			if _, err := fmt.Fprintln(p.stdout, fault); err != nil {
				return nil, err
			}
		}
	}
	return report, nil
}

// reportCheck prints the result, and returns an error if there are faults.
func (p *program) reportCheck(r *checkReport, asJSON bool) error {
	if len(r.Faults) == 0 {
		return p.report(asJSON, r, "%s: %d records, no faults", r.Store, r.Records)
	}
	if asJSON {
		if err := p.report(true, r, ""); err != nil {
			return err
		}
	}
	return r.failure()
}

func (r *checkReport) failure() error {
	return fmt.Errorf("%s: %d faults in %d records", r.Store, len(r.Faults), r.Records)
}
