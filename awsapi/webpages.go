package awsapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
)

var (
	errWebPage = &exception{http.StatusForbidden, kms.AccessDeniedException,
		"Web pages may ask only a service that verifies signatures."}
	errHost = &exception{http.StatusForbidden, kms.AccessDeniedException,
		"The Host header names neither the loopback interface nor a host that this service allows. " +
			"Without signatures, other names are refused."}
)

// refuseWebPages returns an error if a web page may have sent the request. A browser sends an
// Origin with every POST, and Sec-Fetch-Site to every trustworthy origin; no other client needs
// either. The Host does not depend on what the browser sends: the name of a page's site, which its
// owner can make resolve to a loopback address, is not a loopback name.
func (h *handler) refuseWebPages(r *http.Request) error {
	if r.Header["Origin"] != nil || r.Header["Sec-Fetch-Site"] != nil {
		return errWebPage
	}
	if host := canonicalHost(r.Host); isLoopback(host) || slices.Contains(h.allowedHosts, host) || isInProcess(r.Context()) {
		return nil
	}
	return errHost
}

// canonicalHost returns the name or address of a Host header: without a port, brackets and a final
// dot, and in lower case.
func canonicalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if name, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(name, "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isLoopback reports whether a canonical host is an address of the loopback interface or a name
// that is reserved for it (RFC 6761, section 6.3).
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// inProcessKey is the context key of requests by a Transport.
type inProcessKey struct{}

func isInProcess(ctx context.Context) bool { return ctx.Value(inProcessKey{}) != nil }
