package clientaddr

import (
	"net"
	"net/netip"
	"strings"
)

// CanonicalHost returns the name or address of a Host header: without a port, brackets and a final
// dot, and in lower case.
func CanonicalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if name, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(name, "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// IsLoopback reports whether a canonical host is an address of the loopback interface or a name
// that is reserved for it (RFC 6761, section 6.3).
func IsLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
