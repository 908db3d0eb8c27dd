package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

const maxMaxConnections = 1_000_000

// settings are the flags of kms serve. A flag that is absent and has no default is empty.
type settings struct {
	listen          string
	insecure        bool // listen is the value of --insecure-listen
	allowedHosts    hosts
	maxConnections  int
	account, region string
	store           string
	mustExist       bool
	test            bool
	passphraseFile  string
	seed            string
	audit           string
	credentials     string
	tlsCert, tlsKey string
}

// hosts is the value of a flag that may be repeated: names and addresses without a port.
type hosts []string

func (h *hosts) String() string { return strings.Join(*h, ",") }

var hostName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

func (h *hosts) Set(host string) error {
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostName.MatchString(host) {
		return errors.New("not a host name or an address, without a port")
	}
	*h = append(*h, host)
	return nil
}

// parse parses the flags. If help is requested, it prints them on help and returns flag.ErrHelp.
func parse(args []string, help io.Writer) (*settings, error) {
	var s settings
	var insecureListen string
	flags := flag.NewFlagSet("kms serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`ADDRESS` and port to listen on; port 0 picks a free one. An address that other machines\ncan reach needs --credentials and --tls-cert")
	flags.StringVar(&insecureListen, "insecure-listen", "", "`ADDRESS` and port to listen on instead, which other machines may reach even without\n--credentials and --tls-cert: for a container or a network that you trust")
	flags.Var(&s.allowedHosts, "allow-host", "without --credentials, accept requests to the host `NAME`, besides localhost and loopback\naddresses; may be repeated")
	flags.IntVar(&s.maxConnections, "max-connections", 1024, "keep at most `N` connections open; another one closes the one that has been idle longest")
	flags.StringVar(&s.store, "store", "", "keep the keys in `FILE`, which is created if it does not exist; without, they are in memory")
	flags.BoolVar(&s.mustExist, "must-exist", false, "fail if the store does not exist, instead of creating it")
	flags.BoolVar(&s.test, "test", false, "serve for tests, with a control API for programs on this machine (docs/testing.md)")
	flags.StringVar(&s.passphraseFile, "passphrase-file", "", "`FILE` with the passphrase of the store, or - for standard input; mode 0600 or less")
	flags.StringVar(&s.account, "account", "111122223333", "the `ACCOUNT` of callers without credentials, and of seeded keys that name none")
	flags.StringVar(&s.region, "region", "us-east-1", "the `REGION` of requests whose signature names none, and of seeded keys that name none")
	flags.StringVar(&s.seed, "seed", "", "create the keys in `FILE` (docs/seed.md), or complete existing ones")
	flags.StringVar(&s.audit, "audit", "", "append one JSON event for each call to `FILE`; a call that cannot be recorded fails")
	flags.StringVar(&s.credentials, "credentials", "", "accept only requests signed with an access key in `FILE` (docs/serve.md); mode 0600 or less.\nWithout, everyone who can connect is trusted")
	flags.StringVar(&s.tlsCert, "tls-cert", "", "serve TLS with the certificates in `FILE` (PEM, leaf first)")
	flags.StringVar(&s.tlsKey, "tls-key", "", "`FILE` with the certificate's private key (PEM); mode 0600 or less")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(help)
			printFlags(flags, "kms serve", "Prints its URL on standard output when it is ready, and logs on standard error.")
			return nil, err
		}
		return nil, usageError(err.Error() + ": kms serve -h lists the flags")
	}
	if flags.NArg() > 0 {
		return nil, usageError(fmt.Sprintf("kms serve takes only flags, not %.40q", flags.Arg(0)))
	}
	// --store "$STORE" with STORE unset must not start a service that forgets its keys.
	var empty error
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) {
		set[f.Name] = true
		if f.Value.String() == "" {
			empty = usageError("--" + f.Name + " is empty")
		}
	})
	testable := s.requireTestable()
	switch {
	case empty != nil:
		return nil, empty
	case testable != nil:
		return nil, testable
	case (s.store == "") != (s.passphraseFile == ""):
		return nil, usageError("--store and --passphrase-file go together")
	case s.mustExist && s.store == "":
		return nil, usageError("--must-exist needs --store")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return nil, usageError("--tls-cert and --tls-key go together")
	case set["listen"] && set["insecure-listen"]:
		return nil, usageError("--listen and --insecure-listen exclude each other")
	case set["allow-host"] && s.credentials != "":
		return nil, usageError("--allow-host has no effect with --credentials: signatures cover the host")
	case s.maxConnections < 1 || s.maxConnections > maxMaxConnections:
		return nil, usageError(fmt.Sprintf("--max-connections is a number from 1 to %d", maxMaxConnections))
	}
	if set["insecure-listen"] {
		s.listen, s.insecure = insecureListen, true
	}
	return &s, nil
}

func printFlags(flags *flag.FlagSet, command, summary string) {
	w := flags.Output()
	fmt.Fprintf(w, "usage: %s [flags]\n\n%s\n\n", command, summary)
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  --%s %s\n", f.Name, value)
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(w, "        %s\n", line)
		}
	})
}

// address returns the address to listen on. It resolves a name only once, so that the addresses
// that it checks are those that are listened on. Without credentials everyone who can connect is
// trusted, so only this machine may; and without TLS, data keys and plaintexts would cross the
// network unencrypted, because a signature protects only the request.
func (s *settings) address(ctx context.Context) (string, error) {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return "", usageError(fmt.Sprintf("%s %.260q is not an address and a port", s.listenFlag(), s.listen))
	}
	if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil {
		return "", usageError(fmt.Sprintf("%s %.260q: %.40q is not a port", s.listenFlag(), s.listen, port))
	}
	var addresses []netip.Addr // empty for an empty host, which means all addresses
	if host != "" {
		if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return "", fmt.Errorf("%s: %w", s.listenFlag(), err)
		}
	}
	if !areLoopback(addresses) && !s.insecure && (s.credentials == "" || s.tlsCert == "") {
		return "", usageError(fmt.Sprintf("--listen %.260q is open to other machines, which takes --credentials, --tls-cert and --tls-key", s.listen))
	}
	if host != "" {
		host = preferIPv4(addresses).String()
	}
	return net.JoinHostPort(host, port), nil
}

// listenFlag returns the flag that listen is the value of.
func (s *settings) listenFlag() string {
	if s.insecure {
		return "--insecure-listen"
	}
	return "--listen"
}

// hosts returns the names and addresses that requests without credentials may be sent to, besides
// those of the loopback interface.
func (s *settings) hosts() []string {
	host, _, _ := net.SplitHostPort(s.listen)
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		return s.allowedHosts
	}
	return append([]string{host}, s.allowedHosts...)
}

func areLoopback(addresses []netip.Addr) bool {
	for _, a := range addresses {
		if !a.Unmap().IsLoopback() {
			return false
		}
	}
	return len(addresses) > 0
}

// preferIPv4 returns the first IPv4 address, or else the first address, as package net prefers.
func preferIPv4(addresses []netip.Addr) netip.Addr {
	for _, a := range addresses {
		if a = a.Unmap(); a.Is4() {
			return a
		}
	}
	return addresses[0]
}
