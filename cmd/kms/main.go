// Kms serves a key management service on a port of this machine, for programs in every language
// that has an AWS SDK, and takes care of its store.
//
//	kms COMMAND [flags]
//
// kms help lists the commands, and -h the flags of each. See docs/serve.md and docs/operations.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// A command is one row of kms help.
type command struct {
	name, summary string
	run           func(*program, context.Context, []string) error
}

var commands = []command{
	{"init", "create a store and its root key", (*program).init},
	{"serve", "serve until SIGINT or SIGTERM", (*program).serve},
	{"backup", "write a backup of a store, also of one that is in use", (*program).backup},
	{"restore", "make a store of a backup, after it was checked", (*program).restore},
	{"check", "check all records and indexes of a store, or a backup", (*program).check},
	{"rekey", "change the root key of a store, and rotate its seal", (*program).rekey},
	{"encrypt", "encrypt a file or a directory under a key of a store", (*program).encrypt},
	{"decrypt", "decrypt a file or a directory", (*program).decrypt},
	{"explain", "say whether a call would be allowed, and why", (*program).explain},
	{"who-can", "list who can call an operation on a key", (*program).whoCan},
	{"policy-diff", "say who gains and who loses what by a new key policy", (*program).policyDiff},
	{"version", "print the versions of kms and of the Go that built it", (*program).version},
}

func usage() string {
	var b strings.Builder
	b.WriteString("Kms serves a key management service on a port of this machine, by the protocol of AWS KMS, and takes\n" +
		"care of its store.\n\nusage:\n\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  kms %-20s %s\n", c.name+" [flags]", c.summary)
	}
	b.WriteString("  kms help                 print this text\n\n" +
		"kms COMMAND -h lists the flags of a command. The exit status is 0 for success, 1 for a failure, and 2\n" +
		"for a mistake in the command line. Of explain, who-can and policy-diff, 1 is the answer no, and 2 any failure.\n")
	return b.String()
}

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		received := <-signals
		signal.Stop(signals) // a second signal ends the process at once
		cancel(fmt.Errorf("received signal: %v", received))
	}()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal: isTerminal(os.Stderr), hangups: hangups, grace: 10 * time.Second,
	}
	os.Exit(p.run(ctx, os.Args[1:]))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A program is the environment of a command.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       bool             // stderr is one
	hangups        <-chan os.Signal // SIGHUP; may be nil
	grace          time.Duration    // how long requests may go on after the signal to stop
}

// A usageError describes a mistake in the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// run runs a command and returns the exit status: 0, 1 for a failure, or 2 for a mistake in the
// command line. Of the commands that answer questions, 1 is an answer, and 2 any failure.
func (p *program) run(ctx context.Context, args []string) int {
	err := p.command(ctx, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == errRefused {
		return 1
	}
	fmt.Fprintln(p.stderr, "kms:", strings.TrimPrefix(err.Error(), "kms: "))
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[noAnswer](err); ok {
		return 2
	}
	return 1
}

func (p *program) command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("there is no command: kms help lists them")
	}
	name := args[0]
	switch name {
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(p.stdout, usage())
		return err
	case "-version", "--version":
		name = "version"
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(p, ctx, args[1:])
		}
	}
	return usageError(fmt.Sprintf("%.40q is not a command: kms help lists them", name))
}

func (p *program) version(_ context.Context, args []string) error {
	var asJSON bool
	flags := newFlags("kms version")
	defineJSON(flags, &asJSON)
	if err := p.parseFlags(flags, args, "Prints the versions of kms and of the Go that built it."); err != nil {
		return err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("the program was built without module information")
	}
	report := struct {
		Version string `json:"version"`
		Go      string `json:"go"`
	}{cmp.Or(info.Main.Version, "(devel)"), info.GoVersion}
	return p.report(asJSON, report, "kms %s %s", report.Version, report.Go)
}
