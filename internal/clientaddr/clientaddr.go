// Package clientaddr groups network addresses by client, so that what a client may use can be
// bounded, and recognizes the names and addresses of this machine.
package clientaddr

import "net/netip"

// Client returns the client of a remote address with a port: its IPv4 address, or the /64 prefix of
// its IPv6 address, because a single client often has all addresses of that prefix. Other
// addresses, such as those of Unix sockets, are returned unchanged.
func Client(remote string) string {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}
