// Kms serves a key management service on a port of this machine, for programs in every language
// that has an AWS SDK.
//
//	kms serve [flags]
//	kms check [flags]
//	kms explain [flags]
//	kms who-can [flags]
//	kms policy-diff [flags]
//	kms version
//
// See docs/serve.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

const usage = `Kms serves a key management service on a port of this machine, by the protocol of AWS KMS.

usage:

  kms serve [flags]   serve until SIGINT or SIGTERM; kms serve -h lists the flags
  kms check [flags]   check all records and indexes of a store; kms check -h lists the flags
  kms explain [flags] say whether a call would be allowed, and why; kms explain -h lists the flags
  kms who-can [flags] list who can call an operation on a key; kms who-can -h lists the flags
  kms policy-diff [flags] say who gains and loses what by a new key policy; kms policy-diff -h lists the flags
  kms version         print the versions of kms and of the Go that built it
  kms help            print this text
`

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
	if err == nil {
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
	switch args[0] {
	case "serve":
		return p.serve(ctx, args[1:])
	case "check":
		return p.check(ctx, args[1:])
	case "explain":
		return failure(p.explain(ctx, args[1:]))
	case "who-can":
		return failure(p.whoCan(ctx, args[1:]))
	case "policy-diff":
		return failure(p.policyDiff(ctx, args[1:]))
	case "version", "-version", "--version":
		return p.version()
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(p.stdout, usage)
		return err
	}
	return usageError(fmt.Sprintf("%.40q is not a command: kms help lists them", args[0]))
}

func (p *program) version() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("the program was built without module information")
	}
	_, err := fmt.Fprintln(p.stdout, "kms", cmp.Or(info.Main.Version, "(devel)"), info.GoVersion)
	return err
}
