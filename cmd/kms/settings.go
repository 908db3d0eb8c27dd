package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	otherDefaults   bool
	storeFlag
	mustExist       bool
	test            bool
	adminSocket     string
	seed            string
	audit           string
	credentials     string
	tlsCert, tlsKey string

	metrics, insecureMetrics string
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

// serveSettings parses the flags of kms serve. If help is requested, it prints them and returns
// flag.ErrHelp.
func (p *program) serveSettings(args []string) (*settings, error) {
	var s settings
	var insecureListen string
	flags := newFlags("kms serve")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`ADDRESS` and port to listen on; port 0 picks a free one. An address that other machines\ncan reach needs --credentials and --tls-cert")
	flags.StringVar(&insecureListen, "insecure-listen", "", "`ADDRESS` and port to listen on instead, which other machines may reach even without\n--credentials and --tls-cert: for a container or a network that you trust")
	flags.Var(&s.allowedHosts, "allow-host", "without --credentials, accept requests to the host `NAME`, besides localhost and loopback\naddresses; may be repeated")
	flags.IntVar(&s.maxConnections, "max-connections", 1024, "keep at most `N` connections open; another one closes the one that has been idle longest")
	s.define(flags, "keep the keys in `FILE`, which is created if it does not exist; without, they are in memory")
	s.defineWait(flags)
	flags.BoolVar(&s.mustExist, "must-exist", false, "fail if the store does not exist, instead of creating it")
	flags.BoolVar(&s.test, "test", false, "serve for tests, with a control API for programs on this machine (docs/testing.md)")
	flags.StringVar(&s.adminSocket, "admin-socket", "", "listen on the Unix socket `FILE`, of mode 0600, for kms backup")
	flags.StringVar(&s.account, "account", "", "the `ACCOUNT` of callers without credentials, and of seeded keys that name none; without,\nthat of the store, or 111122223333")
	flags.StringVar(&s.region, "region", "", "the `REGION` of requests whose signature names none, and of seeded keys that name none;\nwithout, that of the store, or us-east-1")
	flags.BoolVar(&s.otherDefaults, "allow-other-defaults", false, "let --account and --region differ from those that the store was created with")
	flags.StringVar(&s.seed, "seed", "", "create the keys in `FILE` (docs/seed.md), or complete existing ones")
	flags.StringVar(&s.audit, "audit", "", "append one JSON event for each call to `FILE`; a call that cannot be recorded fails")
	flags.StringVar(&s.credentials, "credentials", "", "accept only requests signed with an access key in `FILE` (docs/serve.md); mode 0600 or less.\nWithout, everyone who can connect is trusted")
	flags.StringVar(&s.tlsCert, "tls-cert", "", "serve TLS with the certificates in `FILE` (PEM, leaf first)")
	flags.StringVar(&s.tlsKey, "tls-key", "", "`FILE` with the certificate's private key (PEM); mode 0600 or less")
	flags.StringVar(&s.metrics, "metrics", "", "serve metrics in Prometheus format, and health checks, on `ADDRESS` and port, which other\nmachines must not reach (docs/observability.md)")
	flags.StringVar(&s.insecureMetrics, "insecure-metrics", "", "`ADDRESS` and port to serve metrics on instead, which other machines may reach")
	if err := p.parseFlags(flags, args, "Prints its URL on standard output when it is ready, and logs on standard error."); err != nil {
		return nil, err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case s.test && s.store+s.root.file()+s.adminSocket+s.metrics+s.insecureMetrics != "":
		return nil, usageError("--test keeps its keys in memory: it takes no --store, no root key, no --admin-socket and no --metrics")
	case (s.store == "") != !s.root.isSet():
		return nil, usageError("--store goes together with --key-file or --passphrase-file")
	case s.mustExist && s.store == "":
		return nil, usageError("--must-exist needs --store")
	case s.wait != 0 && s.store == "":
		return nil, usageError("--wait needs --store")
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return nil, usageError("--tls-cert and --tls-key go together")
	case set["listen"] && set["insecure-listen"]:
		return nil, usageError("--listen and --insecure-listen exclude each other")
	case set["allow-host"] && s.credentials != "":
		return nil, usageError("--allow-host has no effect with --credentials: signatures cover the host")
	case s.metrics != "" && s.insecureMetrics != "":
		return nil, usageError("--metrics and --insecure-metrics exclude each other")
	case s.maxConnections < 1 || s.maxConnections > maxMaxConnections:
		return nil, usageError(fmt.Sprintf("--max-connections is a number from 1 to %d", maxMaxConnections))
	}
	if err := s.root.check("kms serve", false); err != nil {
		return nil, err
	}
	if set["insecure-listen"] {
		s.listen, s.insecure = insecureListen, true
	}
	return &s, nil
}

// address returns the address to listen on. Without credentials everyone who can connect is trusted,
// so only this machine may; and without TLS, data keys and plaintexts would cross the network
// unencrypted, because a signature protects only the request.
func (s *settings) address(ctx context.Context) (string, error) {
	address, loopback, err := resolve(ctx, s.listenFlag(), s.listen)
	if err == nil && !loopback && !s.insecure && (s.credentials == "" || s.tlsCert == "") {
		return "", usageError(fmt.Sprintf("--listen %.260q is open to other machines, which takes --credentials, --tls-cert and --tls-key: use --insecure-listen only in a network that you trust", s.listen))
	}
	return address, err
}

// resolve returns the address and port that a flag names, and whether only this machine can reach
// it. A name is resolved only once, so that the addresses that are checked are those that are
// listened on.
func resolve(ctx context.Context, flag, listen string) (address string, loopback bool, err error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", false, usageError(fmt.Sprintf("%s %.260q is not an address and a port", flag, listen))
	}
	if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil {
		return "", false, usageError(fmt.Sprintf("%s %.260q: %.40q is not a port", flag, listen, port))
	}
	if host == "" { // all addresses
		return listen, false, nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", flag, err)
	}
	return net.JoinHostPort(preferIPv4(addresses).String(), port), areLoopback(addresses), nil
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
