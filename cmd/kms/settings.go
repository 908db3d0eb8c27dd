package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
)

// settings are the flags of kms serve. Absent files are empty.
type settings struct {
	listen          string
	account, region string
	store           string
	passphrase      string // the file that it is in
	seed            string
	audit           string
	credentials     string
	tlsCert, tlsKey string
}

// parse reads the flags, or prints them on help and returns flag.ErrHelp if that is what is asked for.
func parse(args []string, help io.Writer) (*settings, error) {
	var s settings
	flags := flag.NewFlagSet("kms serve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`ADDRESS` and port to listen on; port 0 picks a free one. Beyond loopback it needs\n--credentials and --tls-cert")
	flags.StringVar(&s.store, "store", "", "keep the keys in `FILE`, and make it if there is none; without, they are in memory")
	flags.StringVar(&s.passphrase, "passphrase-file", "", "`FILE` with the passphrase of the store, or - for standard input; mode 0600 or less")
	flags.StringVar(&s.account, "account", "111122223333", "the `ACCOUNT` of callers without credentials, and of seeded keys without another")
	flags.StringVar(&s.region, "region", "us-east-1", "the `REGION` of requests whose signature names none, and of seeded keys without another")
	flags.StringVar(&s.seed, "seed", "", "make the keys of `FILE` (docs/seed.md), or complete those that are there")
	flags.StringVar(&s.audit, "audit", "", "append one JSON event for each call to `FILE`, and fail the calls for which that fails")
	flags.StringVar(&s.credentials, "credentials", "", "take only requests that are signed with an access key of `FILE` (docs/serve.md); mode 0600\nor less. Without, everyone who can connect is trusted")
	flags.StringVar(&s.tlsCert, "tls-cert", "", "serve TLS with the certificates in `FILE` (PEM, leaf first)")
	flags.StringVar(&s.tlsKey, "tls-key", "", "`FILE` with the certificate's private key (PEM); mode 0600 or less")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(help)
			printFlags(flags)
			return nil, err
		}
		return nil, usageError(err.Error() + ": kms serve -h lists the flags")
	}
	if flags.NArg() > 0 {
		return nil, usageError(fmt.Sprintf("kms serve takes flags alone, not %.40q", flags.Arg(0)))
	}
	// --store "$STORE" with STORE unset must not mean a service that forgets its keys.
	var empty error
	flags.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" {
			empty = usageError("--" + f.Name + " is empty")
		}
	})
	switch {
	case empty != nil:
		return nil, empty
	case (s.store == "") != (s.passphrase == ""):
		return nil, usageError("--store and --passphrase-file go together")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return nil, usageError("--tls-cert and --tls-key go together")
	}
	return &s, nil
}

func printFlags(flags *flag.FlagSet) {
	w := flags.Output()
	fmt.Fprint(w, "usage: kms serve [flags]\n\nPrints its URL on standard output when it is ready, and logs on standard error.\n\n")
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  --%s %s\n", f.Name, value)
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(w, "        %s\n", line)
		}
	})
}

// address resolves what to listen on, once: what is checked here is what is then listened on. Anyone may ask a service
// that demands no signature, so it is for this machine alone. Beyond it TLS is demanded too: signatures protect requests,
// but data keys and plaintexts would cross the network in clear.
func (s *settings) address(ctx context.Context) (string, error) {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return "", usageError(fmt.Sprintf("--listen %.260q is not an address and a port", s.listen))
	}
	if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil {
		return "", usageError(fmt.Sprintf("--listen %.260q: %.40q is not a port", s.listen, port))
	}
	var addresses []netip.Addr // none for an empty host, which stands for all of them
	if host != "" {
		if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			return "", fmt.Errorf("--listen: %w", err)
		}
	}
	if !areLoopback(addresses) && (s.credentials == "" || s.tlsCert == "") {
		return "", usageError(fmt.Sprintf("--listen %.260q is open to other machines, which takes --credentials, --tls-cert and --tls-key", s.listen))
	}
	if host != "" {
		host = preferred(addresses).String()
	}
	return net.JoinHostPort(host, port), nil
}

func areLoopback(addresses []netip.Addr) bool {
	for _, a := range addresses {
		if !a.Unmap().IsLoopback() {
			return false
		}
	}
	return len(addresses) > 0
}

// preferred is the first IPv4 address, or else the first, as in package net.
func preferred(addresses []netip.Addr) netip.Addr {
	for _, a := range addresses {
		if a = a.Unmap(); a.Is4() {
			return a
		}
	}
	return addresses[0]
}
