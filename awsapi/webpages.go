package awsapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/clientaddr"
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
	if host := clientaddr.CanonicalHost(r.Host); clientaddr.IsLoopback(host) || slices.Contains(h.allowedHosts, host) || isInProcess(r.Context()) {
		return nil
	}
	return errHost
}

// inProcessKey is the context key of requests by a Transport.
type inProcessKey struct{}

func isInProcess(ctx context.Context) bool { return ctx.Value(inProcessKey{}) != nil }
